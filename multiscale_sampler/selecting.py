"""Regions as their users name them, by samples or by positions, to parts of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from .axes import image_axes
from .parts import Region

Selector: TypeAlias = "Mapping[str, Any] | Sequence[Any]"


def box_of(region: Selector, image: xr.DataArray, *, by: Literal["index", "coordinate"]) -> Region:
    """Return the samples of an image that a region names.

    Raises
    ------
    ValueError, TypeError
        If it names other dims, or samples that there are not.
    """
    if not isinstance(region, Mapping):
        if len(region) != image.ndim:
            raise ValueError(f"region={region!r} has {len(region)} entries for the axes {image.dims!r}; name the dims")
        region = dict(zip(map(str, image.dims), region, strict=True))
    if unknown := [dim for dim in region if dim not in image.dims]:
        raise ValueError(f"region={dict(region)!r} names {unknown!r}, but the dims are {image.dims!r}")
    along = (region.get(str(dim), slice(None)) for dim in image.dims)
    choose = _by_index if by == "index" else _by_coordinate
    return tuple(choose(wanted, image, str(dim)) for wanted, dim in zip(along, image.dims, strict=True))


def _by_index(wanted: Any, image: xr.DataArray, dim: str) -> slice:
    size = image.sizes[dim]
    if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool):
        wanted = slice(int(wanted), int(wanted) + 1 or None)
    whole = isinstance(wanted, slice) and wanted.step in (None, 1)
    if not whole or any(
        end is not None and not isinstance(end, int | np.integer) for end in (wanted.start, wanted.stop)
    ):
        raise TypeError(f"{dim}={wanted!r} counts no samples; give a slice of integers, or positions by='coordinate'")
    start, stop, _ = wanted.indices(size)
    if start >= stop or (wanted.stop is not None and wanted.stop > size):
        raise ValueError(f"{dim}={wanted!r} is not within the {size!r} samples of {dim!r}")
    return slice(start, stop)


def _by_coordinate(wanted: Any, image: xr.DataArray, dim: str) -> slice:
    axis = image_axes(image)[image.dims.index(dim)]
    positions = axis.coordinates()
    first, last = (wanted.start, wanted.stop) if isinstance(wanted, slice) else (wanted, wanted)
    if positions.dtype.kind in "US":
        inside = np.ones(positions.shape, np.bool_) if first is None is last else np.isin(positions, [first, last])
    else:
        half = abs(axis.scale) / 2 if axis.is_regular else positions.dtype.type(0) * 0
        inside = np.ones(positions.shape, np.bool_)
        # A descending axis is sliced from its greater position to its lesser one.
        descends = first is not None and last is not None and first > last
        low, high = (last, first) if descends else (first, last)
        inside &= True if low is None else positions + half >= np.asarray(low, positions.dtype)
        inside &= True if high is None else positions - half <= np.asarray(high, positions.dtype)
    found = np.flatnonzero(inside)
    if not len(found):
        raise ValueError(f"{dim}={wanted!r} is not within {positions[0]!r} to {positions[-1]!r}, where {dim!r} lies")
    return slice(int(found[0]), int(found[-1]) + 1)
