"""`box_of`: the box of an image that a user's region selects, by index or by coordinate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from ..image.boxes import Box
from ..image.dataarray import image_axes
from ..image.dates import are_dates, dates_inside, position_text

Selector: TypeAlias = "Mapping[str, Any] | Sequence[Any]"


def box_of(region: Selector, image: xr.DataArray, *, by: Literal["index", "coordinate"]) -> Box:
    """Return the box of an image that a region selects; dims that it does not name are selected completely.

    Raises
    ------
    ValueError, TypeError
        If it has unknown dims, is empty or is out of bounds.
    """
    if not isinstance(region, Mapping):
        if isinstance(region, str) or not isinstance(region, Sequence):
            raise TypeError(
                f"region={region!r} is not a mapping or a sequence; pass slices by dim, as in {{'y': slice(0, 64)}}"
            )
        if len(region) != image.ndim:
            raise ValueError(
                f"region={region!r} has {len(region)} entries for the axes {image.dims!r}; pass one each, or a mapping"
            )
        region = dict(zip(map(str, image.dims), region, strict=True))
    if unknown := [dim for dim in region if dim not in image.dims]:
        raise ValueError(f"region={dict(region)!r} has the unknown dims {unknown!r}; choose from {image.dims!r}")
    along = (region.get(str(dim), slice(None)) for dim in image.dims)
    select = _slice_by_index if by == "index" else _slice_by_coordinate
    return tuple(select(wanted, image, str(dim)) for wanted, dim in zip(along, image.dims, strict=True))


def _slice_by_index(wanted: Any, image: xr.DataArray, dim: str) -> slice:
    original, size = wanted, image.sizes[dim]
    if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool):
        wanted = slice(int(wanted), int(wanted) + 1 or None)
    is_contiguous = isinstance(wanted, slice) and wanted.step in (None, 1)
    if not is_contiguous or any(
        end is not None and not isinstance(end, int | np.integer) for end in (wanted.start, wanted.stop)
    ):
        raise TypeError(
            f"{dim}={wanted!r} is not an integer or a slice of integers without a step; pass one, or positions with "
            "by='coordinate'"
        )
    start, stop, _ = wanted.indices(size)
    inside = all(end is None or -size <= end <= size for end in (wanted.start, wanted.stop))
    if start >= stop or not inside:
        raise ValueError(
            f"{dim}={original!r} is empty or not within the {size!r} samples along {dim!r}; choose from 0 to {size}"
        )
    return slice(start, stop)


def _slice_by_coordinate(wanted: Any, image: xr.DataArray, dim: str) -> slice:
    axis = image_axes(image)[image.dims.index(dim)]
    positions = axis.coordinates()
    first, last = (wanted.start, wanted.stop) if isinstance(wanted, slice) else (wanted, wanted)
    dates, numbers = are_dates(positions), positions.dtype.kind not in "USO"
    if (isinstance(wanted, slice) and wanted.step is not None) or any(
        end is not None and not dates and isinstance(end, str) is numbers for end in (first, last)
    ):
        kind = "dates" if dates else "numbers" if numbers else "labels"
        raise TypeError(f"{dim}={wanted!r} is not a position; pass {kind}, or a slice of two without a step")
    if dates:
        inside = dates_inside(wanted, positions, dim)
    elif not numbers:
        inside = np.ones(positions.shape, np.bool_) if first is None is last else np.isin(positions, [first, last])
    else:
        half = abs(axis.scale) / 2 if axis.is_regular else 0.0
        inside = np.ones(positions.shape, np.bool_)
        # Users slice a descending axis from its larger position to its smaller one, as in xarray.
        descends = first is not None and last is not None and first > last
        low, high = (last, first) if descends else (first, last)
        inside &= True if low is None else positions + half >= low
        inside &= True if high is None else positions - half <= high
    selected = np.flatnonzero(inside)
    if not len(selected):
        raise ValueError(
            f"{dim}={wanted!r} selects no samples; choose positions within "
            f"{position_text(positions, 0)} to {position_text(positions, -1)}"
        )
    return slice(int(selected[0]), int(selected[-1]) + 1)
