"""`append_pyramid`: append an image to a stored pyramid along one axis.

New samples are stored outside the shapes in the metadata, which are enlarged when all samples are written.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr

from .. import store as stores
from ..image.axes import Axis
from ..image.boxes import Box, replaced, whole_box
from ..image.dataarray import coordinate_variable, image_axes, to_image, unread, without_counted_positions
from ..image.dates import are_calendar_dates, are_dates, continued_dates, dates_kind, position_text
from ..image.values import Packing
from ..metadata import check_exportable, default_channel_labels, with_channels
from ..metadata.display import Display, omero_to_publish
from ..metadata.positions import are_same_positions, turned_like
from ..methods.reducers import Method
from ..plan.options import LevelOptions, StorageOptions
from ..store import in_one_commit
from ..tasks.progress import ProgressCallback
from .build import Build, level_images
from .engine import resumable, run_passes, take_digests
from .resuming import first_difference
from .sources import AppendedBase, Base, StoredBase, base_of
from .updating import build_of_change, options_of_levels, record_of_change, refuse_other_change


@in_one_commit
def append_pyramid(
    image: Any,
    store: Any,
    dim: str,
    path: str | None = None,
    *,
    method: Method | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Append data to a pyramid along one axis, at every level: new time points, channels or planes.

    The levels end up bit-identical to those of a fresh build from the whole image with the same number of levels; if
    the axis is reduced, partial windows at its old end are recomputed. Readers get the new samples when all of them
    are written. Labels of the image keep their size; append to them separately, with their `path`.

    Parameters
    ----------
    image
        The data to append, with the dtype of the stored image and its size along all other axes: an array, or a
        labelled image whose positions continue the stored ones.
    store, path
        Store, and path in it, of the group with the ``multiscales`` metadata.
    dim
        Name of the axis to append along.
    method
        How the levels were computed, if the metadata do not state it.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Resume an interrupted append of the same image. If none was interrupted and the store ends with the samples of
        the image, they are appended already, and nothing is done; else an error, as nothing was begun.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError, TypeError
        If the image does not fit the stored one, or another change of the pyramid was interrupted; before anything
        is written.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store = {}
    >>> ms.write_pyramid(np.zeros((5, 64), "uint8"), store, scale_factors=[2])
    >>> ms.append_pyramid(np.ones((3, 64), "uint8"), store, "y")
    >>> ms.open_pyramid(store)["scale1/image"].shape
    (4, 32)
    """
    storage = StorageOptions(memory_limit=memory_limit, workers=workers)
    with stores.PyramidChange.claimed(store, path, storage_options=storage_options) as change:
        stored = change.pyramid
        image = stores.image_to_join(image, stored.image.dims)
        refuse_other_change(stored, "append_pyramid")
        options = options_of_levels(stored, method)
        if resume and stored.begun is None and _is_appended(image, stored, dim, options, storage):
            return
        start = _size_before(stored, dim, resume=resume)
        addition = _Addition.of(image, stored, dim, start)
        build = _build_of_append(stored, addition, options, storage)
        build.check_sources()
        record = record_of_change(build, stored, copy_base=True)
        record = replace(record, fingerprint={**record.fingerprint, "append": [dim, start]})
        target = change.target(record, resume=resume)
        with resumable():
            arrays = change.with_room([level.shape for level in build.levels])
        run_passes(build, dict(enumerate(arrays)), target, progress)
        with resumable():
            if (digests := stores.Digests.of(stored.group, arrays[0])) is not None:
                take_digests(digests.grown(), cast("tuple[Box, ...]", build.edited), build.workers)
            change.publish_shapes(target, build.images, [level.axes for level in build.levels])
            change.finish(partial(_with_channels, stored=stored, build=build, addition=addition))
    _warn_of_labels(stored, dim)


@dataclass(frozen=True)
class _Addition:
    """An image to append to a stored one."""

    whole: xr.DataArray
    """The image after the append, with its coordinates but a placeholder for its values."""
    base: Base
    """Reads the appended values, in the stored order of axes."""
    source: Any
    """The array of the appended image, in its own order of axes."""
    axis: int
    """Number of the axis to append along."""
    start: int
    """Size of the axis before the append."""

    @classmethod
    def of(cls, image: Any, stored: stores.StoredPyramid, dim: str, start: int) -> _Addition:
        """Return an image as appended to a stored one.

        Raises
        ------
        ValueError, TypeError
            If it does not fit the stored image.
        """
        before = stored.image.isel({dim: slice(0, start)})
        axes = {axis.name: axis for axis in image_axes(before)}
        is_labelled = isinstance(image, xr.DataArray)
        names = tuple(map(str, before.dims))
        image = turned_like(without_counted_positions(image), before) if is_labelled else to_image(image, names)
        packing = stored.packing
        # An image in memory can carry values that are packed alike, with the attributes that say so.
        if packing is not None and Packing.of(image.attrs, image.dtype) != packing:
            image = packing.encoded(image)
        _check_fit(before, image, dim, labelled=is_labelled)
        ordered = image.transpose(*before.dims)
        shape = tuple(size + ordered.sizes[dim] * (name == dim) for name, size in before.sizes.items())
        whole = xr.DataArray(
            np.broadcast_to(np.zeros((), before.dtype), shape),
            _coordinates(before, axes[dim], ordered if is_labelled else None, ordered.sizes[dim]),
            before.dims,
            before.name,
            before.attrs,
        )
        whole.encoding = before.encoding
        order = tuple(image.dims.index(name) for name in before.dims)
        return cls(whole, base_of(image, order, image.dtype), unread(image), before.dims.index(dim), start)


def _check_fit(before: xr.DataArray, image: xr.DataArray, dim: str, *, labelled: bool) -> None:
    if set(image.dims) != set(before.dims):
        raise ValueError(
            f"the image has the axes {image.dims!r}, the store {before.dims!r}; rename or expand the image's dims"
        )
    if image.dtype != before.dtype:
        raise TypeError(
            f"the image has dtype {str(image.dtype)!r}, the store {str(before.dtype)!r}; convert it with "
            f"astype({str(before.dtype)!r})"
        )
    for name, size in before.sizes.items():
        if name == dim:
            continue
        if image.sizes[name] != size:
            raise ValueError(
                f"the image has {image.sizes[name]!r} samples along {name!r}, the store {size!r}; crop or pad the image"
            )
        if labelled and name in image.coords and name in before.coords:
            _check_appended_positions(image[name].variable, before[name].variable)


def _check_appended_positions(found: xr.Variable, expected: xr.Variable) -> None:
    if not are_same_positions(found, expected):
        raise ValueError(
            f"the image is at {found.dims[0]}={_ends(found)}, but the positions in the store require "
            f"{_ends(expected)}; correct them with scale=, translation= and units=, as in image.assign_coords(...), or "
            "pass an array without positions, which gets the required ones"
        )


def _ends(positions: xr.Variable) -> str:
    first, last = (position_text(positions.values, index) for index in (0, -1))
    unit = positions.attrs.get("units")
    return f"{first} to {last}" if unit is None else f"{first} to {last} {unit}"


def _coordinates(before: xr.DataArray, axis: Axis, image: xr.DataArray | None, count: int) -> dict[Any, Any]:
    """Return the coordinates of an image after `count` samples are appended along an axis.

    Those of the samples are taken from `image` if it has them, else continued.
    """
    dim = axis.name
    coordinates = dict(before.coords.variables)
    for name, variable in before.coords.variables.items():
        if dim not in variable.dims:
            continue
        labelled = image if image is not None and name in image.coords else None
        if name == dim:
            coordinates[name] = _axis_coordinate(before[dim], axis, None if labelled is None else labelled[dim], count)
        elif labelled is not None:
            coordinates[name] = xr.concat([before[name], labelled[name]], dim).variable
        else:
            raise ValueError(
                f"the store has a coordinate {name!r} along {dim!r}, the image not; add it with image.assign_coords"
            )
    return coordinates


def _axis_coordinate(before: xr.DataArray, axis: Axis, after: xr.DataArray | None, count: int) -> xr.Variable:
    """Return the coordinate of an axis after `count` samples are appended, at the positions `after` or continued."""
    dim, attrs = axis.name, before.attrs
    if axis.is_regular:
        longer = replace(axis, size=axis.size + count)
        if after is not None:
            expected = coordinate_variable(longer, attrs)[axis.size :]
            _check_appended_positions(after.variable, expected)
        return coordinate_variable(longer, attrs)
    dates = are_dates(before.values)
    if dates and axis.size == 1:
        raise ValueError(
            f"the store has one date along {dim!r}, and its metadata do not state the interval to the next; write "
            "the pyramid again with write_pyramid"
        )
    if after is not None:
        if dates:
            _check_appended_dates(before, after)
        return xr.Variable((dim,), np.concatenate([before.values, after.values]), attrs)
    if dates and (continued := continued_dates(before.values, count)) is not None:
        return xr.Variable((dim,), continued, attrs)
    if axis.type != "channel":
        raise ValueError(
            f"the positions along {dim!r} in the store are not evenly spaced, and the image has none; add them with "
            "image.assign_coords"
        )
    numbered = default_channel_labels(axis.size + count)[axis.size :]
    return xr.Variable((dim,), np.concatenate([before.values.astype(str), np.asarray(numbered)]), attrs)


def _check_appended_dates(before: xr.DataArray, after: xr.DataArray) -> None:
    """Raise unless positions to append are dates of the calendar of those in the store."""
    dim, found, expected = before.dims[0], dates_kind(after.values), dates_kind(before.values)
    if found == expected:
        return
    convert = f"image.assign_coords({dim}=pandas.to_datetime(image[{str(dim)!r}]))"
    calendars = [are_calendar_dates(each.values) for each in (before, after)]
    if any(calendars):
        calendar = repr(before.values[0].calendar) if calendars[0] else "'standard'"
        convert = f"image.convert_calendar({calendar}, use_cftime={calendars[0]})"
    raise ValueError(
        f"the positions along {dim!r} in the store are {expected}, those of the image are {found} "
        f"({position_text(after.values, 0)}, ...); convert them, as with {convert}, or pass an array without "
        "positions, which continues those of the store"
    )


def _is_appended(
    image: Any, stored: stores.StoredPyramid, dim: str, options: LevelOptions, storage: StorageOptions
) -> bool:
    """Whether a pyramid ends with the samples of an image, at every level, as after it was appended."""
    start = stored.image.sizes.get(dim, 0) - _count_of(image, stored, dim)
    if start < 1:
        return False
    try:
        addition = _Addition.of(image, stored, dim, start)
    except ValueError:
        # It does not fit there, as it does not where it goes on at the end.
        return False
    if not _are_at_same_positions(addition.whole[dim], stored.image[dim]):
        return False
    build = _build_of_append(stored, addition, options, storage)
    record, arrays = record_of_change(build, stored, copy_base=True), dict(enumerate(stored.arrays))
    passes = [bound for bound in build.bound_passes(record, arrays) if not bound.pass_.source]
    try:
        everywhere = [first_difference(build, bound, np.ones(bound.region_count, np.bool_)) for bound in passes]
    finally:
        stores.release_buffers()
    return everywhere == [None] * len(passes)


def _count_of(image: Any, stored: stores.StoredPyramid, dim: str) -> int:
    """Return the number of samples that an image has along a dim."""
    if isinstance(image, xr.DataArray):
        return int(image.sizes.get(dim, 0))
    shape = image.shape
    at = stored.image.dims.index(dim) if dim in stored.image.dims else len(shape)
    return int(shape[at]) if at < len(shape) else 0


def _are_at_same_positions(one: xr.DataArray, other: xr.DataArray) -> bool:
    if {one.dtype.kind, other.dtype.kind} <= set("iuf"):
        return bool(np.allclose(one, other, rtol=1e-9, atol=0))
    return np.array_equal(one.values.astype(str), other.values.astype(str))


def _size_before(stored: stores.StoredPyramid, dim: str, *, resume: bool) -> int:
    """Return the size of an axis before an append that begins, or that is resumed."""
    if dim not in stored.image.dims:
        raise ValueError(f"the image has no axis {dim!r} to append along; choose from {stored.image.dims!r}")
    begun: Any = (stored.begun or {}).get("fingerprint", {}).get("append")
    size = int(stored.image.sizes[dim])
    if begun is None and resume:
        raise ValueError(
            f"no append to {stored.group.store_path} was interrupted: it is complete, or has not begun. The store has "
            f"{size!r} samples along {dim!r}; if they do not include the new ones, append without resume"
        )
    if begun is None:
        return size
    if not resume:
        raise ValueError(
            f"an append to {stored.group.store_path} was interrupted; complete it first, with the same image and "
            "resume=True (--resume)"
        )
    return int(begun[1]) if begun[0] == dim else size


def _build_of_append(
    stored: stores.StoredPyramid, addition: _Addition, options: LevelOptions, storage: StorageOptions
) -> Build:
    stores.refuse_source_in_target([addition.source], stored.group)
    whole = addition.whole
    shapes = [array.shape for array in stored.arrays]
    (level_0,) = stores.grown_arrays(stored.arrays[:1], [whole.shape])
    base = AppendedBase(StoredBase.of(level_0, is_resizing=True), addition.base, addition.axis, addition.start)
    after = slice(addition.start, whole.shape[addition.axis])
    box = replaced(whole_box(whole.shape), addition.axis, after)
    build = build_of_change(stored, whole, base, (box,), options, storage)
    check_exportable(build.levels[0].axes)
    if len(build.levels) != len(shapes):
        raise ValueError(
            f"the store has {len(shapes)!r} levels, but its metadata describe {len(build.levels)!r}; run validate on it"
        )
    return replace(build, data=(addition.source,), images=level_images(whole, build.plans[0]))


def _with_channels(
    attributes: Mapping[str, Any], stored: stores.StoredPyramid, build: Build, addition: _Addition
) -> Mapping[str, Any]:
    """Return the attributes of a group, with display settings for the channels that were appended, if any."""
    axis = build.levels[0].axes[addition.axis]
    if axis.type != "channel":
        return attributes
    coarsest = cast("zarr.Array[Any]", stored.group[stored.paths[-1]])
    nothing, nodata = Display(None, None), build.recipe.get("nodata")
    display = omero_to_publish(build.images[-1], build.levels[-1].axes, coarsest, nothing, nodata)
    return with_channels(attributes, display or {}, addition.start)


def _warn_of_labels(stored: stores.StoredPyramid, dim: str) -> None:
    if listed := list(stored.labels):
        warnings.warn(
            f"the labels {', '.join(map(repr, listed))} keep their size along {dim!r}; append to each of them too, "
            f"with path='{stores.LABELS}/{listed[0]}'",
            UserWarning,
            stacklevel=4,
        )
