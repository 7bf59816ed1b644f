"""Choosing a plane of an image by coordinates, and the level from which to draw it.

A plane is a `Cut`, in the coordinates of level 0. In each level it consists of the samples nearest to them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.utils import format_bytes

from ..image.axes import Axis
from ..image.dataarray import image_axes
from ..image.dates import are_calendar_dates, dates_inside
from ..image.encodings import stored_shape
from ..image.pictures import in_picture_order

# A picture that would read more is refused unless the caller chooses the level.
MOST_BYTES = 2**30
# Channels drawn by default: as many as there are default colours.
MOST_DEFAULT_CHANNELS = 6


@dataclass(frozen=True)
class Cut:
    """A plane through an image, in coordinates."""

    rows: str
    """Name of the vertical axis of the picture."""
    columns: str
    """Name of the horizontal axis of the picture."""
    ranges: Mapping[str, tuple[Any, Any]]
    """First and last coordinate (or None) along those of these two axes that are drawn in part."""
    positions: Mapping[str, Any]
    """Coordinate of the plane along each other axis, the channel axis aside."""
    channel: str | None
    """Name of the channel axis; None if there is none, or it is an axis of the picture."""
    channels: tuple[int, ...]
    """Numbers of the channels to draw."""


def cut_of(
    image: xr.DataArray,
    positions: Mapping[str, Any],
    across: Sequence[str] | None = None,
    *,
    channels: Sequence[int] | None = None,
) -> Cut:
    """Return the plane of an image at some positions, and in the middle of the axes without one.

    Parameters
    ----------
    image
        Level 0.
    positions
        Coordinate by axis; for an axis of the picture a slice of coordinates, for channels also a list of them.
    across
        The vertical and the horizontal axis of the picture. Default: of the spatial axes without a position y and x, or
        latitude and longitude, else the last two.
    channels
        Numbers of the channels to draw if `positions` does not name any. Default: the first `MOST_DEFAULT_CHANNELS`.

    Raises
    ------
    ValueError
        If an axis does not exist, a position is outside the image, or fewer than two axes have no position.
    """
    axes = {axis.name: axis for axis in image_axes(image)}
    if unknown := [name for name in (*positions, *(across or ())) if name not in axes]:
        raise ValueError(f"the image does not have the axes {unknown!r}; choose from {list(axes)!r}")
    rows, columns = _picture_axes(image, axes, positions, across)
    ranges = {name: _range_along(axes[name], positions[name]) for name in (rows, columns) if name in positions}
    others = [axis for axis in axes.values() if axis.name not in (rows, columns)]
    channel = next((axis for axis in others if axis.type == "channel"), None)
    chosen: tuple[int, ...] = ()
    if channel is not None:
        default = range(min(channel.size, MOST_DEFAULT_CHANNELS)) if channels is None else channels
        wanted = positions.get(channel.name)
        chosen = _channel_numbers(channel, wanted) if channel.name in positions else tuple(default)
    cuts = {axis.name: _position_along(axis, positions.get(axis.name)) for axis in others if axis is not channel}
    return Cut(rows, columns, ranges, cuts, None if channel is None else channel.name, chosen)


def _picture_axes(
    image: xr.DataArray, axes: Mapping[str, Axis], positions: Mapping[str, Any], across: Sequence[str] | None
) -> tuple[str, str]:
    """Return the names of the vertical and the horizontal axis of the picture."""
    if across is not None:
        if len(set(across)) != 2 or isinstance(across, str):
            raise ValueError(
                f"across={across!r} is not a pair of axes; name the vertical and the horizontal one, as in "
                "across=('y', 'x')"
            )
        return across[0], across[1]
    free = [name for name in axes if not _is_scalar(positions.get(name, slice(None)))]
    spatial = [name for name in free if axes[name].type == "space"]
    # With one spatial axis, the second one is time or any other axis that is not channels.
    candidates = spatial if len(spatial) > 1 else [name for name in free if axes[name].type != "channel"]
    if len(candidates) < 2:
        raise ValueError(
            f"a picture needs two axes, but of {list(axes)!r} only {candidates!r} remain; give fewer positions, or "
            "name two axes by across="
        )
    columns, rows, *_ = in_picture_order(image, [axes[name] for name in candidates])
    return rows.name, columns.name


def _is_scalar(position: Any) -> bool:
    return not isinstance(position, slice | list | tuple | np.ndarray)


def _range_along(axis: Axis, position: Any) -> tuple[Any, Any]:
    """Return the first and the last coordinate of the part of an axis to draw."""
    if not isinstance(position, slice) or position.step is not None:
        raise ValueError(
            f"{axis.name}={position!r}: {axis.name!r} is an axis of the picture; draw a part of it by a slice of "
            f"positions without a step, as in {axis.name}=slice(10.0, 20.0)"
        )
    return position.start, position.stop


def _channel_numbers(axis: Axis, wanted: Any) -> tuple[int, ...]:
    """Return the numbers of channels from one of their coordinates or a list of them."""
    listed = [wanted] if _is_scalar(wanted) else list(wanted) if not isinstance(wanted, slice) else None
    if not listed:
        raise ValueError(
            f"{axis.name}={wanted!r} is not a channel or a list of channels; choose from "
            f"{axis.coordinates().tolist()!r}"
        )
    return tuple(nearest_sample(axis, _checked_position(axis, position)) for position in listed)


def _position_along(axis: Axis, position: Any) -> Any:
    """Return the coordinate at which the plane cuts an axis: the given one, or that of the middle sample."""
    if position is None:
        return axis.coordinates()[(axis.size - 1) // 2]
    if not _is_scalar(position):
        raise ValueError(
            f"{axis.name}={position!r} is not a single position; give one, or make {axis.name!r} an axis of the "
            "picture by across="
        )
    return _checked_position(axis, position)


def _checked_position(axis: Axis, position: Any) -> Any:
    """Return a position along an axis, dates as ``numpy.datetime64`` or those of their calendar.

    Raises
    ------
    ValueError
        If it is outside the axis, or not one of its names.
    """
    coordinates = axis.coordinates()
    if coordinates.dtype.kind == "M":
        position = np.datetime64(position)
    if are_calendar_dates(coordinates):
        return coordinates[np.flatnonzero(dates_inside(position, coordinates, axis.name))[0]]
    if coordinates.dtype.kind in "iufmM":
        low, high = edges(axis)[[0, -1]]
        if not min(low, high) <= position <= max(low, high):
            raise ValueError(
                f"{axis.name}={position!r} is outside the image; choose a position from {low} to "
                f"{high}{_unit_suffix(axis)}"
            )
    elif position not in coordinates.tolist():
        raise ValueError(f"{axis.name}={position!r} does not exist; choose one of {coordinates.tolist()!r}")
    return position


def _unit_suffix(axis: Axis) -> str:
    return f" {axis.unit}" if axis.unit else ""


def nearest_sample(axis: Axis, position: Any) -> int:
    """Return the number of the sample of an axis that is nearest to a position, or has that name."""
    coordinates = axis.coordinates()
    if coordinates.dtype.kind in "US" or isinstance(position, str):
        return int(coordinates.tolist().index(position))
    return int(np.argmin(np.abs(coordinates - position)))


def edges(axis: Axis) -> npt.NDArray[Any]:
    """Return the edges of the voxels along an axis, ``axis.size + 1`` of them, halfway between samples.

    They are dates for an axis of dates. An axis of names has its voxels around 0, 1, 2, ...
    """
    positions = axis.coordinates()
    if axis.is_regular:
        return axis.translation + axis.scale * (np.arange(axis.size + 1) - 0.5)
    if positions.dtype.kind not in "iufmM":
        return np.arange(axis.size + 1) - 0.5
    if axis.size == 1:
        return positions.repeat(2)
    half = np.diff(positions) / 2
    inner = positions[:-1] + half
    return np.concatenate([[positions[0] - half[0]], inner, [positions[-1] + half[-1]]])


def plane_of(level: xr.DataArray, cut: Cut) -> xr.DataArray:
    """Return the plane of a level, lazily: (rows, columns), or (channels, rows, columns) with a channel axis."""
    picked: dict[Hashable, Any] = {}
    for axis in image_axes(level):
        if axis.name in cut.positions:
            picked[axis.name] = nearest_sample(axis, cut.positions[axis.name])
        elif axis.name == cut.channel:
            picked[axis.name] = list(cut.channels)
        elif axis.name in cut.ranges:
            picked[axis.name] = _samples_between(axis, *cut.ranges[axis.name])
    channel = () if cut.channel is None else (cut.channel,)
    return level.isel(picked).transpose(*channel, cut.rows, cut.columns)


def _samples_between(axis: Axis, start: Any, stop: Any) -> slice:
    """Return the samples whose voxels overlap the range between two positions; None is the end of the axis."""
    borders = edges(axis)
    low, high = np.minimum(borders[:-1], borders[1:]), np.maximum(borders[:-1], borders[1:])
    inside = np.ones(axis.size, bool)
    if start is not None:
        inside &= high > start
    if stop is not None:
        inside &= low < stop
    samples = np.flatnonzero(inside)
    if not samples.size:
        raise ValueError(
            f"{axis.name}=slice({start!r}, {stop!r}) is outside the image; choose positions from {borders.min()} to "
            f"{borders.max()}{_unit_suffix(axis)}"
        )
    return slice(int(samples[0]), int(samples[-1]) + 1)


def plane_nbytes(level: xr.DataArray, base: xr.DataArray, cut: Cut) -> int:
    """Return the bytes of the decoded chunks that contain a plane of a level.

    For a level that is not stored these are chunks of the base, from which it is computed.
    """
    stored = level.chunks is None or bool(level.encoding.get("chunks"))
    source = level if stored else base
    blocks = (1,) * source.ndim if source.chunks is None else tuple(map(max, source.chunks))
    chunks = stored_shape(source, "chunks") or blocks
    plane = plane_of(level, cut)
    total = source.dtype.itemsize
    for dim, size, chunk in zip(source.dims, source.shape, chunks, strict=True):
        if dim == cut.channel:
            spanned = chunk * len({number // chunk for number in cut.channels})
        else:
            samples = plane.sizes.get(dim, 1) * (1 if stored else -(-size // level.sizes[dim]))
            spanned = -(-samples // chunk) * chunk
        total *= min(spanned, size)
    return total


def choose_level(
    levels: Sequence[xr.DataArray], cut: Cut, pixels: Mapping[str, float], nbytes: int, *, blur: float = math.inf
) -> int:
    """Return the number of the level from which to draw a plane at a size in pixels.

    It is the coarsest with a sample for each pixel if that reads at most `nbytes`, else the next coarser one that does,
    or the one that reads least.

    Parameters
    ----------
    levels
        All levels, finest first.
    cut
        The plane.
    pixels
        Pixels along each axis of the picture.
    nbytes
        Bytes of decoded chunks to read.
    blur
        Prefer levels whose samples cover at most this many pixels along an axis, even if they read more.

    Raises
    ------
    ValueError
        If that level would read more than `MOST_BYTES`.
    """
    shapes = [plane_of(level, cut).sizes for level in levels]

    def is_fine(number: int, blur: float) -> bool:
        # An axis that is too coarse in level 0 already only needs to keep that resolution.
        return all(shapes[number][dim] >= min(count / blur, shapes[0][dim]) for dim, count in pixels.items())

    finest = max(number for number in range(len(levels)) if is_fine(number, 1.0))
    costs = {number: plane_nbytes(levels[number], levels[0], cut) for number in range(finest, len(levels))}
    sharp = {number: cost for number, cost in costs.items() if is_fine(number, blur)}
    for allowed in (sharp, costs):
        chosen = next((n for n, cost in allowed.items() if cost <= nbytes), min(allowed, key=lambda n: allowed[n]))
        if costs[chosen] <= MOST_BYTES:
            return chosen
    raise ValueError(
        f"a picture would read {format_bytes(costs[chosen])}; write a pyramid with coarser levels, draw a part, as in "
        f"{cut.columns}=slice(...), or choose the level yourself, as in level={chosen}"
    )


def has_common_scale(rows: Axis, columns: Axis) -> bool:
    """Whether two axes are spatial, evenly spaced and in the same unit, so that a picture must keep their ratio."""
    regular = rows.is_regular and columns.is_regular
    return regular and rows.type == columns.type == "space" and _length_unit(rows) == _length_unit(columns)


def _length_unit(axis: Axis) -> str | None:
    """Return the unit of an axis, "degree" for degrees of any direction (CF's degrees_north and degrees_east)."""
    return "degree" if axis.unit is not None and axis.unit.startswith("degree") else axis.unit


def fit_into(extents: Sequence[float], box: Sequence[float]) -> tuple[float, float]:
    """Return the largest (height, width) within a box that has the aspect ratio of two extents."""
    scale = min(length / extent for length, extent in zip(box, extents, strict=True))
    return extents[0] * scale, extents[1] * scale


def extent_of(axis: Axis) -> float:
    """Return the length of an axis in its unit; the number of samples for an axis without numeric coordinates."""
    borders = edges(axis)
    length = float(abs(borders[-1] - borders[0])) if borders.dtype.kind in "iuf" else math.nan
    return length if length > 0 else float(axis.size)
