"""What a file holds and which part of it is meant, and what the readers of all formats say alike."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from ..extras import required
from ..image.axes import CHANNEL_NAMES, Axis
from ..image.dataarray import coordinate_variable
from .arrays import FileArray


@dataclass(frozen=True)
class FileImage:
    """What a file holds, as far as it says."""

    array: FileArray
    """The values."""
    names: tuple[str | None, ...]
    """Names of the axes; None for those that the file does not name."""
    name: str | None = None
    """Name of the image."""
    coordinates: Coordinates = field(default_factory=dict)
    """Coordinates along axes that have a name."""
    attrs: Mapping[Any, Any] = field(default_factory=dict)
    """What else is to be kept."""


@dataclass(frozen=True)
class Part:
    """Which part of a file is meant."""

    path: str | None = None
    """Which of its arrays; None for the only one."""
    series: int | None = None
    """Which of its images, of TIFF; None for the first."""
    level: int = 0
    """Which of the levels that the image has already, of TIFF."""

    def refuse(self, place: Path, kind: str, *names: str) -> None:
        """Refuse what a kind of file has none of.

        Raises
        ------
        ValueError
            If it was asked for.
        """
        for name in names:
            if value := getattr(self, name):
                raise ValueError(
                    f"{name}={value!r} leads nowhere in {os.fspath(place)!r}: {kind} files hold one image; leave it out"
                )


def ending_of(place: Path, endings: Iterable[str]) -> str | None:
    """Return the longest of some endings that a file's name has; None where it has none."""
    return max((ending for ending in endings if place.name.lower().endswith(ending)), key=len, default=None)


def stem(place: Path, endings: Iterable[str]) -> str:
    """Return the name of a file without its ending, of those that its format has."""
    return place.name[: -len(ending_of(place, endings) or "") or None] or "image"


def reader_module(module: str, extra: str, kind: str) -> Any:
    """Return the module that reads a kind of file; where it is missing, the error says what installs it."""
    return required(module, f"{kind} files need {module}", f"'multiscale-sampler[{extra}]'")


def only_one(place: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of the only array of a file that may hold several."""
    if len(shapes) == 1:
        return next(iter(shapes))
    listed = ", ".join(f"{name!r} {shape}" for name, shape in shapes.items()) or "none"
    raise ValueError(f"{place!r} does not stand for one array (arrays: {listed}); name one with path=")


def check_level(level: int, count: int, place: Path) -> None:
    """Refuse a level that an image does not have.

    Raises
    ------
    ValueError
        If there is none of that number.
    """
    if not 0 <= level < count:
        raise ValueError(f"level={level!r} is none of {os.fspath(place)!r}, which has {count}, numbered from 0")


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
