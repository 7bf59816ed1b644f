"""Which plane of which level a picture shows: the axes across it, where it cuts the others, how fine it must be.

Works on coordinates. The plane is chosen once, in positions, and then cut out of any level: its samples are those
nearest to the positions, and where they are drawn follows from the level's own axes.
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

# More than this is not read for a picture unless a level is asked for by its number.
MOST_BYTES = 2**30
# Without names or colours of their own, no more channels than this are told apart.
MOST_CHANNELS = 6
UPWARD_NAMES = frozenset({"lat", "latitude"})
UPWARD_STANDARD_NAMES = frozenset({"latitude", "grid_latitude", "projection_y_coordinate"})


@dataclass(frozen=True)
class Cut:
    """A plane through an image, in positions."""

    rows: str
    """The axis down the picture."""
    columns: str
    """The axis along it."""
    ranges: Mapping[str, tuple[Any, Any]]
    """From where to where, of axes across the plane of which only a part is wanted."""
    positions: Mapping[str, Any]
    """Where the plane cuts the other axes."""
    channel: str | None
    """The axis of the channels that are drawn over each other."""
    channels: tuple[int, ...]
    """Which of them."""


def cut_of(
    image: xr.DataArray,
    positions: Mapping[str, Any],
    across: Sequence[str] | None = None,
    *,
    channels: Sequence[int] | None = None,
) -> Cut:
    """Return the plane of an image at some positions, those of the other axes at the middle.

    Parameters
    ----------
    image
        Level 0.
    positions
        By axis: a coordinate; of an axis across the plane a slice of coordinates; of channels also a list of them.
    across
        The axes down and along the picture; default: the last two spatial axes that no position is given for.
    channels
        Which channels to draw where `positions` name none; default: the first of them.

    Raises
    ------
    ValueError
        If an axis is not there, a position is outside, or fewer than two axes are left.
    """
    axes = {axis.name: axis for axis in image_axes(image)}
    if unknown := [name for name in (*positions, *(across or ())) if name not in axes]:
        raise ValueError(f"no axes {unknown!r}: the image has {list(axes)!r}; name only those")
    rows, columns = _across(axes, positions, across)
    ranges = {name: _range(axes[name], positions[name]) for name in (rows, columns) if name in positions}
    others = [axis for axis in axes.values() if axis.name not in (rows, columns)]
    channel = next((axis for axis in others if axis.type == "channel"), None)
    chosen: tuple[int, ...] = ()
    if channel is not None:
        default = range(min(channel.size, MOST_CHANNELS)) if channels is None else channels
        chosen = _channels(channel, positions[channel.name]) if channel.name in positions else tuple(default)
    places = {axis.name: _place(axis, positions.get(axis.name)) for axis in others if axis is not channel}
    return Cut(rows, columns, ranges, places, None if channel is None else channel.name, chosen)


def _across(axes: Mapping[str, Axis], positions: Mapping[str, Any], across: Sequence[str] | None) -> tuple[str, str]:
    if across is not None:
        if len(set(across)) != 2 or isinstance(across, str):
            raise ValueError(f"across={across!r} are no two axes; name the one down and the one along the picture")
        return across[0], across[1]
    free = [name for name in axes if not _is_scalar(positions.get(name, slice(None)))]
    spatial = [name for name in free if axes[name].type == "space"]
    # A slice in time, or through a single line of voxels, is a picture too.
    candidates = spatial if len(spatial) > 1 else [name for name in free if axes[name].type != "channel"]
    if len(candidates) < 2:
        raise ValueError(
            f"a picture has two axes, and of {list(axes)!r} only {candidates!r} are left; give positions on fewer, or "
            "name two by across="
        )
    return candidates[-2], candidates[-1]


def _is_scalar(position: Any) -> bool:
    return not isinstance(position, slice | list | tuple | np.ndarray)


def _range(axis: Axis, position: Any) -> tuple[Any, Any]:
    if not isinstance(position, slice) or position.step is not None:
        raise ValueError(
            f"{axis.name}={position!r}: {axis.name!r} is across the picture, of which a part is a slice of positions, "
            f"as {axis.name}=slice(10.0, 20.0)"
        )
    return position.start, position.stop


def _channels(axis: Axis, wanted: Any) -> tuple[int, ...]:
    listed = [wanted] if _is_scalar(wanted) else list(wanted) if not isinstance(wanted, slice) else None
    if not listed:
        raise ValueError(f"{axis.name}={wanted!r} is no channel and no list of channels")
    return tuple(nearest(axis, _checked(axis, position)) for position in listed)


def _place(axis: Axis, position: Any) -> Any:
    """Return where the plane cuts an axis: at a position, or at the sample in the middle."""
    if position is None:
        return axis.coordinates()[(axis.size - 1) // 2]
    if not _is_scalar(position):
        raise ValueError(f"{axis.name}={position!r} is no single position, and {axis.name!r} is not across the picture")
    return _checked(axis, position)


def _checked(axis: Axis, position: Any) -> Any:
    """Return a position on an axis in the form of its coordinates; refuse what is beside it."""
    coordinates = axis.coordinates()
    if coordinates.dtype.kind == "M":
        position = np.datetime64(position)
    if coordinates.dtype.kind in "iufmM":
        low, high = edges(axis)[[0, -1]]
        if not min(low, high) <= position <= max(low, high):
            raise ValueError(f"{axis.name}={position!r} is outside the image, {low} to {high}{_unit(axis)}")
    elif position not in coordinates.tolist():
        raise ValueError(f"{axis.name}={position!r} is none of {coordinates.tolist()!r}; name one of those")
    return position


def _unit(axis: Axis) -> str:
    return f" {axis.unit}" if axis.unit else ""


def nearest(axis: Axis, position: Any) -> int:
    """Return which sample of an axis is nearest to a position; of labels, which one it is."""
    coordinates = axis.coordinates()
    if coordinates.dtype.kind in "US" or isinstance(position, str):
        return int(coordinates.tolist().index(position))
    return int(np.argmin(np.abs(coordinates - position)))


def edges(axis: Axis) -> npt.NDArray[Any]:
    """Return where the voxels of an axis begin and end, one more than there are voxels."""
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
    """Return the plane of a level, lazily, with its rows and columns last and its channels, if any, first."""
    picked: dict[Hashable, Any] = {}
    for axis in image_axes(level):
        if axis.name in cut.positions:
            picked[axis.name] = nearest(axis, cut.positions[axis.name])
        elif axis.name == cut.channel:
            picked[axis.name] = list(cut.channels)
        elif axis.name in cut.ranges:
            picked[axis.name] = _within(axis, *cut.ranges[axis.name])
    channel = () if cut.channel is None else (cut.channel,)
    return level.isel(picked).transpose(*channel, cut.rows, cut.columns)


def _within(axis: Axis, start: Any, stop: Any) -> slice:
    """Return the samples of which a voxel is, in part at least, between two positions."""
    borders = edges(axis)
    low, high = np.minimum(borders[:-1], borders[1:]), np.maximum(borders[:-1], borders[1:])
    inside = np.ones(axis.size, bool)
    if start is not None:
        inside &= high > start
    if stop is not None:
        inside &= low < stop
    found = np.flatnonzero(inside)
    if not found.size:
        ends = f"{borders.min()} to {borders.max()}"
        raise ValueError(f"{axis.name}=slice({start!r}, {stop!r}) holds nothing of the image, {ends}{_unit(axis)}")
    return slice(int(found[0]), int(found[-1]) + 1)


def plane_nbytes(level: xr.DataArray, base: xr.DataArray, cut: Cut) -> int:
    """Return the bytes, decoded, of the chunks that a plane is read from.

    Of a level that is computed, those are chunks of the base.
    """
    stored = level.chunks is None or bool(level.encoding.get("chunks"))
    source = level if stored else base
    blocks = (1,) * source.ndim if source.chunks is None else tuple(map(max, source.chunks))
    chunks = source.encoding.get("chunks") or blocks
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


def level_for(
    levels: Sequence[xr.DataArray], cut: Cut, pixels: Mapping[str, float], nbytes: int, *, blur: float = math.inf
) -> int:
    """Return which level shows a plane: the coarsest with a sample for each pixel, where that is read from `nbytes`.

    Where it is not, the next coarser one that is, or that is read from least; as long as it has a sample for
    every `blur` pixels.

    Raises
    ------
    ValueError
        If much would have to be read whichever level it was.
    """
    shapes = [plane_of(level, cut).sizes for level in levels]

    def is_fine(number: int, blur: float) -> bool:
        # An axis that is coarser than that in level 0 already is fine where it is not coarser still.
        return all(shapes[number][dim] >= min(count / blur, shapes[0][dim]) for dim, count in pixels.items())

    finest = max(number for number in range(len(levels)) if is_fine(number, 1.0))
    costs = {number: plane_nbytes(levels[number], levels[0], cut) for number in range(finest, len(levels))}
    sharp = {number: cost for number, cost in costs.items() if is_fine(number, blur)}
    for allowed in (sharp, costs):
        chosen = next((n for n, cost in allowed.items() if cost <= nbytes), min(allowed, key=lambda n: allowed[n]))
        if costs[chosen] <= MOST_BYTES:
            return chosen
    raise ValueError(
        f"a picture would read {format_bytes(costs[chosen])}; write a pyramid with coarser levels, draw a part (as "
        f"{cut.columns}=slice(...)), or ask for one level by its number, as level={chosen}"
    )


def has_common_scale(rows: Axis, columns: Axis) -> bool:
    """Whether a length is as long down the picture as along it."""
    regular = rows.is_regular and columns.is_regular
    return regular and rows.type == columns.type == "space" and _length_unit(rows) == _length_unit(columns)


def _length_unit(axis: Axis) -> str | None:
    """Return the unit of an axis; degrees are degrees, to the north or to the east."""
    return "degree" if axis.unit is not None and axis.unit.startswith("degree") else axis.unit


def points_up(coordinate: xr.DataArray | None, axis: Axis) -> bool:
    """Whether an axis has its larger positions above: latitudes, heights, and rows that are stored from the top."""
    attrs: Mapping[Any, Any] = {} if coordinate is None else coordinate.attrs
    if axis.name.lower() in UPWARD_NAMES or attrs.get("standard_name") in UPWARD_STANDARD_NAMES:
        return True
    if axis.unit is not None and axis.unit.startswith("degree") and axis.unit.endswith(("N", "north")):
        return True
    positive = attrs.get("positive")
    borders = edges(axis)
    return positive == "up" if positive in ("up", "down") else bool(borders[-1] < borders[0])


def fitted(extents: Sequence[float], box: Sequence[float]) -> tuple[float, float]:
    """Return the pixels of a field of some height and width that fills a box and keeps its shape."""
    scale = min(length / extent for length, extent in zip(box, extents, strict=True))
    return extents[0] * scale, extents[1] * scale


def extent_of(axis: Axis) -> float:
    """Return how long an axis is; one without numbers, how many samples it has."""
    borders = edges(axis)
    length = float(abs(borders[-1] - borders[0])) if borders.dtype.kind in "iuf" else math.nan
    return length if length > 0 else float(axis.size)
