"""Whether an array that joins an image lies where the image does: labels, weights, appended data.

Positions that nobody stated are those of the image. Stated ones are compared in one unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..image.axes import line_through, position_tolerance
from ..image.dataarray import has_stated_positions, image_axes
from ..image.dates import dates_kind, position_text
from ..image.reversal import reversed_image
from .units import unit_dimension, unit_factor

# Part of the spacing by which positions may differ: files round pixel sizes, which adds up along an axis.
JOINED_WITHIN = 0.01


def unit_ratio(unit: Any, other: Any) -> float | None:
    """Return how many of another unit a unit is; None if they measure different things.

    Where one of them is not known, its numbers are taken for those of the other.
    """
    texts = [None if each is None else str(each) for each in (unit, other)]
    dimensions = {unit_dimension(text) for text in texts}
    if None in dimensions:
        return 1.0
    return unit_factor(texts[0]) / unit_factor(texts[1]) if len(dimensions) == 1 else None


def other_positions(joining: xr.DataArray, image: xr.DataArray, dim: str) -> tuple[str, str] | None:
    """Return the positions of an array and those of the image that it joins, in words, if it states other ones.

    None if its positions along the dim are the image's, or nobody stated them.
    """
    if not has_stated_positions(joining, dim):
        return None
    one, other = joining.coords[dim].variable, image.coords[dim].variable
    return None if are_same_positions(one, other) else (positions_text(one), positions_text(other))


def turned_like(joining: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """Return an array that joins an image with those axes reversed whose positions are the image's in reverse."""
    turned = [
        str(dim)
        for dim in joining.dims
        if dim in image.coords
        and 1 < joining.sizes[dim] == image.sizes.get(dim)
        and has_stated_positions(joining, str(dim))
        and not are_same_positions(joining.coords[dim].variable, image.coords[dim].variable)
        and are_same_positions(joining.coords[dim].variable[::-1], image.coords[dim].variable)
    ]
    return reversed_image(joining, image_axes(joining), turned)[0] if turned else joining


def are_same_positions(one: xr.Variable, other: xr.Variable) -> bool:
    """Whether coordinates of the same size are the same positions."""
    if not {one.dtype.kind, other.dtype.kind} <= set("iuf"):
        # Dates of different calendars cannot be compared.
        same_kind = one.dtype.kind == other.dtype.kind and dates_kind(one.values) == dates_kind(other.values)
        return same_kind and np.array_equal(np.asarray(one.values), np.asarray(other.values))
    ratio = unit_ratio(one.attrs.get("units"), other.attrs.get("units"))
    if ratio is None:
        return False
    expected = other.values.astype(np.float64)
    step = _sample_distance(other) or 1.0
    # Numbers of float32 are as exact as they can be, however far from 0 the image is.
    exact = position_tolerance(one.values, 0.0) * ratio, position_tolerance(other.values, 0.0)
    within = max(JOINED_WITHIN * step, *exact)
    spacings = [spacing for spacing in (_sample_distance(one), _sample_distance(other)) if spacing is not None]
    if one.size == 1 and len(spacings) > 1 and abs(spacings[0] * ratio - spacings[1]) > within:
        return False
    return bool(np.abs(one.values.astype(np.float64) * ratio - expected).max() <= within)


def _sample_distance(coordinate: xr.Variable) -> float | None:
    """Return the smallest distance between samples; that of one sample only if it is stated, and not the default."""
    if coordinate.size > 1:
        return float(np.abs(np.diff(coordinate.values.astype(np.float64))).min())
    stated = abs(float(coordinate.attrs.get("spacing", 1.0)))
    return None if stated == 1.0 else stated


def positions_text(coordinate: xr.Variable) -> str:
    """Return where the samples of a coordinate are, in words."""
    dim, values = coordinate.dims[0], np.asarray(coordinate.values)
    unit = coordinate.attrs.get("units")
    line = line_through(values)
    if line is None:
        first, last = (position_text(values, end) for end in (0, -1))
        text = f"{dim} = {first}" if len(values) == 1 else f"{dim} = {first} to {last}"
    else:
        text = f"{dim} = {line[1]!r} + {line[0]!r} * i"
    return text if unit is None else f"{text} {unit}"
