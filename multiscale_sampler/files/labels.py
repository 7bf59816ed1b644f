"""Coordinates of a file's axes, from what formats say of spacings, units and channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from ..image.axes import CHANNEL_NAMES, Axis, coordinate_variable

Coordinates: TypeAlias = "dict[str, xr.Variable]"


def spaced(
    names: Sequence[str | None], shape: Sequence[int], scales: Mapping[str, float], units: Mapping[str, str | None]
) -> Coordinates:
    """Return the coordinates of the axes that have a spacing; one that is no distance counts as none."""
    coordinates = {}
    for name, size in zip(names, shape, strict=True):
        scale = scales.get(name or "", 0.0)
        if name is not None and math.isfinite(scale) and scale > 0:
            coordinates[name] = coordinate_variable(Axis(name, size, scale, unit=units.get(name)))
    return coordinates


def channel_coordinate(names: Sequence[str | None], shape: Sequence[int], labels: Sequence[Any]) -> Coordinates:
    """Return the labels of channels as a coordinate, where there is one for each and no two are the same."""
    for name, size in zip(names, shape, strict=True):
        if name in CHANNEL_NAMES and len(labels) == size == len(set(labels)) and all(labels):
            return {name: xr.Variable((name,), np.asarray(labels, dtype=str))}
    return {}
