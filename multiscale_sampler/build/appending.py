"""Images that go on along an axis: what is appended, checked against what is stored, at every level.

The new samples lie beyond the sizes that readers know, until all of them are there and the sizes are written.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from .. import store as stores
from ..image.axes import Axis, position_tolerance
from ..image.boxes import Box, replaced, whole_box
from ..image.dataarray import coordinate_variable, image_axes, to_image, unread
from ..metadata import check_exportable, default_channel_labels, with_channels
from ..metadata.display import Display, omero_to_publish
from ..methods.reducers import Method
from ..plan.options import LevelOptions, StorageOptions
from ..store import in_one_commit
from ..tasks.progress import ProgressCallback
from .build import Build, level_images
from .engine import run_passes, take_digests
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
    """Let a stored pyramid go on along an axis: new time points, channels or planes, at every level.

    Levels become those of a pyramid that is built afresh from all of the image, with the levels that are there: where
    the axis is reduced, windows that were partial at the old end are made anew; levels that the image was too small for
    are not added. Readers see the new samples when all
    of them are there. Labels of the image keep their size; append to them too, by their `path`.

    Parameters
    ----------
    image
        What is appended, of the image's size along all other axes, and of its dtype: an array, or a labelled image,
        whose positions must go on where those of the store end.
    store, path
        Place of the group with the ``multiscales`` metadata.
    dim
        The axis to go on along.
    method
        How the levels were made, where the store does not say so.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Go on with an append of the same image that was interrupted. Refused where none was, since the image may have
        been appended before.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError, TypeError
        If the image does not fit the one that is stored, or an interrupted change of the store is to be completed
        before; before anything is written.

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
        refuse_other_change(stored, "append_pyramid")
        start = _start(stored, dim, resume=resume)
        addition = _Addition.of(image, stored, dim, start)
        build = _build_of_append(stored, addition, options_of_levels(stored, method), storage)
        record = record_of_change(build, stored, copy_base=True)
        record = replace(record, fingerprint={**record.fingerprint, "append": [dim, start]})
        target = change.target(record, resume=resume)
        arrays = change.with_room([level.shape for level in build.levels])
        run_passes(build, dict(enumerate(arrays)), target, progress)
        if (digests := stores.Digests.of(stored.group, arrays[0])) is not None:
            take_digests(digests.grown(), cast("tuple[Box, ...]", build.edited), build.workers)
        change.publish_shapes(target, build.images, [level.axes for level in build.levels])
        change.finish(partial(_with_channels, stored=stored, build=build, addition=addition))
    _warn_of_labels(stored, dim)


@dataclass(frozen=True)
class _Addition:
    """What is appended to a stored image."""

    whole: xr.DataArray
    """A stand-in without values for the image as it will be, with its labels."""
    base: Base
    """Where the appended values are read."""
    source: Any
    """The array that they are computed from."""
    axis: int
    """The axis that goes on."""
    start: int
    """Its size before."""

    @classmethod
    def of(cls, image: Any, stored: stores.StoredPyramid, dim: str, start: int) -> _Addition:
        """Hold an image against the one that it is appended to.

        Raises
        ------
        ValueError, TypeError
            If it does not fit.
        """
        before = stored.image.isel({dim: slice(0, start)})
        axes = {axis.name: axis for axis in image_axes(before)}
        given = image if isinstance(image, xr.DataArray) else None
        if given is None:
            array = stores.open_image(image).data if stores.is_zarr(image) else image
            image = to_image(array, tuple(map(str, before.dims)))
        _check_fit(before, axes, image, dim, labelled=given is not None)
        ordered = image.transpose(*before.dims)
        shape = tuple(size + ordered.sizes[dim] * (name == dim) for name, size in before.sizes.items())
        whole = xr.DataArray(
            np.broadcast_to(np.zeros((), before.dtype), shape),
            _coordinates(before, axes[dim], ordered if given is not None else None, ordered.sizes[dim]),
            before.dims,
            before.name,
            before.attrs,
        )
        whole.encoding = before.encoding
        order = tuple(image.dims.index(name) for name in before.dims)
        return cls(whole, base_of(image, order, image.dtype), unread(image), before.dims.index(dim), start)


def _check_fit(
    before: xr.DataArray, axes: Mapping[str, Axis], image: xr.DataArray, dim: str, *, labelled: bool
) -> None:
    if set(image.dims) != set(before.dims):
        raise ValueError(f"the image has the axes {image.dims!r}, the store {before.dims!r}; they must be the same")
    if image.dtype != before.dtype:
        raise TypeError(
            f"the image has dtype {str(image.dtype)!r}, the store {str(before.dtype)!r}; convert it by "
            f"astype({str(before.dtype)!r})"
        )
    for name, size in before.sizes.items():
        if name == dim:
            continue
        if image.sizes[name] != size:
            raise ValueError(f"the image has {image.sizes[name]!r} samples of {name!r}, the store {size!r}")
        if labelled and name in image.coords and name in before.coords:
            _check_positions(str(name), before[name].values, image[name].values, _tolerance(axes[str(name)]))


def _tolerance(axis: Axis) -> float:
    return position_tolerance(axis.coordinates(), axis.scale) if axis.is_regular else 0.0


def _check_positions(dim: str, expected: npt.NDArray[Any], found: npt.NDArray[Any], tolerance: float) -> None:
    numbers = expected.dtype.kind in "iuf" and found.dtype.kind in "iuf"
    equal = np.abs(expected - found).max() <= tolerance if numbers else np.array_equal(expected, found)
    if not equal:
        raise ValueError(
            f"the image lies at {dim}={_ends(found)}, the store wants {_ends(expected)}; correct it "
            "with image.assign_coords, or pass the bare array, which takes the positions of the store"
        )


def _ends(positions: npt.NDArray[Any]) -> str:
    ends = positions[[0, -1]]
    first, last = ends.astype(str) if ends.dtype.kind == "M" else ends.tolist()
    return f"{first!r} to {last!r}"


def _coordinates(before: xr.DataArray, axis: Axis, image: xr.DataArray | None, count: int) -> dict[Any, Any]:
    """Return the coordinates of an image with `count` samples appended along an axis, whose labels `image` may tell."""
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
            raise ValueError(f"the store has the coordinate {name!r} along {dim!r}; give the image one of that name")
    return coordinates


def _axis_coordinate(before: xr.DataArray, axis: Axis, after: xr.DataArray | None, count: int) -> xr.Variable:
    """Return the coordinate of an axis that goes on with `count` samples, at `after` or as those before them do."""
    dim, attrs = axis.name, before.attrs
    if axis.is_regular:
        longer = replace(axis, size=axis.size + count)
        if after is not None:
            expected = longer.coordinates()[axis.size :]
            _check_positions(dim, expected, after.values, position_tolerance(expected, axis.scale))
        return coordinate_variable(longer, attrs)
    dates = before.dtype.kind in "mM"
    if dates and axis.size == 1:
        raise ValueError(
            f"the store has one date along {dim!r}, and its metadata say nothing of the distance to the next; write "
            "the pyramid anew with write_pyramid"
        )
    if after is not None:
        return xr.Variable((dim,), np.concatenate([before.values, after.values]), attrs)
    if dates:
        step = np.diff(before.values[-2:])
        return xr.Variable((dim,), before.values[0] + step * np.arange(axis.size + count), attrs)
    if axis.type != "channel":
        raise ValueError(f"the store has positions along {dim!r} that are no grid; give the image those that follow")
    numbered = default_channel_labels(axis.size + count)[axis.size :]
    return xr.Variable((dim,), np.concatenate([before.values.astype(str), np.asarray(numbered)]), attrs)


def _start(stored: stores.StoredPyramid, dim: str, *, resume: bool) -> int:
    """Return the size of an axis before what is appended to it."""
    if dim not in stored.image.dims:
        raise ValueError(f"there is no axis {dim!r} to append along, the dims are {stored.image.dims!r}")
    begun: Any = (stored.begun or {}).get("fingerprint", {}).get("append")
    size = int(stored.image.sizes[dim])
    if begun is None and resume:
        raise ValueError(
            f"no append to {stored.group.store_path} was interrupted: it is done, or has not begun. There are {size!r} "
            f"samples of {dim!r}; if those to append are not among them, leave out resume"
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
    base = AppendedBase(StoredBase.of(level_0), addition.base, addition.axis, addition.start)
    after = slice(addition.start, whole.shape[addition.axis])
    box = replaced(whole_box(whole.shape), addition.axis, after)
    build = build_of_change(stored, whole, base, (box,), options, storage)
    check_exportable(build.levels[0].axes)
    if len(build.levels) != len(shapes):
        raise ValueError(f"the store has {len(shapes)!r} levels, its metadata make {len(build.levels)!r}")
    return replace(build, data=(addition.source,), images=level_images(whole, build.plans[0]))


def _with_channels(
    attributes: Mapping[str, Any], stored: stores.StoredPyramid, build: Build, addition: _Addition
) -> Mapping[str, Any]:
    """Return the attributes of a group with how to display channels, where such were appended."""
    axis = build.levels[0].axes[addition.axis]
    if axis.type != "channel":
        return attributes
    coarsest = cast("zarr.Array[Any]", stored.group[stored.paths[-1]])
    display = omero_to_publish(build.images[-1], build.levels[-1].axes, coarsest, Display(None, None))
    return with_channels(attributes, display or {}, addition.start)


def _warn_of_labels(stored: stores.StoredPyramid, dim: str) -> None:
    if listed := list(stored.labels):
        warnings.warn(
            f"the labels {', '.join(map(repr, listed))} keep their size along {dim!r}; append to each of them too, "
            f"with path='{stores.LABELS}/{listed[0]}'",
            UserWarning,
            stacklevel=4,
        )
