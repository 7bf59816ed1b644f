"""Building pyramids on disk, in passes over the data: what is to be built (`builds`) to tasks (`executors`).

A pass of the plan is a sweep over its source, and every region of it a task of its own (`regions`): tasks need no
locks and no data of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import xarray as xr
import zarr

from . import ngff
from . import store as stores
from .axes import Axis, Boundary, PerAxis, image_axes
from .builds import Arrays, Build, build_of_image, build_of_tree
from .executors import on_every_worker, run
from .ladder import ChunkSizes, ScaleFactors
from .progress import Advance, ProgressCallback, reporting
from .reducers import Method
from .regions import Block, Region, Sweep, reduce_region, unread

# What is looked at to choose the contrast of a channel, per spatial axis of the coarsest level.
WINDOW_SAMPLE = 512


def write_pyramid(
    image_or_tree: Any,
    store: Any,
    *,
    scale_factors: ScaleFactors | None = None,
    method: Method | None = None,
    boundary: Boundary | None = None,
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    skipna: bool | None = None,
    nodata: Any = None,
    min_valid: float | None = None,
    weights: xr.DataArray | None = None,
    version: ngff.NgffVersion = "0.5",
    layout: stores.Layout = "datatree",
    mode: stores.Mode = "w-",
    chunks: ChunkSizes | None = None,
    shards: ChunkSizes | Literal[False] | None = None,
    compressors: Any = "auto",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write the pyramid of an image into a store of its own, with OME-NGFF metadata.

    The data are read in passes, region by region, in bounded memory. Metadata are published last: a build that
    was interrupted leaves a store that no reader takes for a pyramid.

    Parameters
    ----------
    image_or_tree
        An image, an array that `to_image` can label, or a tree of `to_multiscale`. Levels of a tree that were
        changed, or come from elsewhere, are written as they are; options that shape levels do not go with a
        tree.
    store
        Where to write: a path, a URL, or a zarr store or group.
    scale_factors, method, boundary, max_levels, min_size, skipna, nodata, min_valid, weights
        As in `plan_pyramid`, with its defaults: 2, "mean" and "pad".
    version
        Version of OME-NGFF: "0.5" (zarr v3), "0.4" (zarr v2) or "0.6" (zarr v3, which few clients read as yet).
    layout
        "datatree": every level in a group of its own (``scale0/image``), with coordinate arrays and consolidated
        metadata, as ``xarray.open_datatree`` reads it. "flat": ``0``, ``1``, ...
    mode
        "w-" refuses a place where anything is stored, "w" replaces a pyramid of this package that is there;
        other arrays, groups and attributes stay.
    chunks, shards
        As in `plan_pyramid`.
    compressors
        Codecs as ``zarr.create_array`` takes them; "auto": the source's, else zarr's default.
    memory_limit, workers
        As in `plan_pyramid`.
    resume
        Go on with an interrupted build of the same image with the same options: what is done is not done again,
        and the bits are those of an undisturbed build. Without an interrupted build there, begin one, as `mode`
        lets.
    progress
        True for a bar or lines on standard error, or a function that takes `Progress` values.
    storage_options
        Options of the file system, with a URL.

    Raises
    ------
    FileExistsError
        If something is stored there that `mode` does not let be replaced, or another build is writing there.
    ValueError, TypeError
        If the build to be resumed was another one, an option does not fit the image, the target holds the source,
        or OME-NGFF cannot say the axes; before anything is read or written.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.ones((64, 64), "uint8"), scale=0.5, units="micrometer")
    >>> store = {}
    >>> ms.write_pyramid(image, store, scale_factors=[2, 4])
    >>> ms.open_pyramid(store)["scale2/image"].x.values[:3]
    array([0.75, 2.75, 4.75])
    """
    _check_choice("version", version, tuple(ngff.ZARR_FORMATS))
    _check_choice("layout", layout, stores.LAYOUTS)
    _check_choice("mode", mode, stores.MODES)
    shaping = {
        "scale_factors": scale_factors,
        "method": method,
        "boundary": boundary,
        "max_levels": max_levels,
        "min_size": min_size,
        "skipna": skipna,
        "nodata": nodata,
        "min_valid": min_valid,
        "weights": weights,
    }
    storing = {"chunks": chunks, "shards": shards, "memory_limit": memory_limit, "workers": workers}
    place = stores.place_of(store)
    if isinstance(image_or_tree, xr.DataTree):
        build = build_of_tree(image_or_tree, place, _given(shaping), storing)
    else:
        build = build_of_image(image_or_tree, place, _given(shaping), storing)
    for level in build.levels:
        ngff.check_exportable(level.axes, version)
    zarr_format = ngff.ZARR_FORMATS[version]
    encoding = stores.encoding_like(build.source, zarr_format, compressors)
    attrs = stores.json_attributes(build.images[0].attrs, build.name)
    for coordinate in build.images[0].coords.values():
        stores.json_attributes(coordinate.attrs, str(coordinate.name))
    paths = stores.level_paths(layout, build.name, len(build.levels))
    written = stores.written_paths(layout, paths, build.images)
    stores.rehearse(build.levels, encoding, attrs, build.source)
    sources = [*build.data, *(unread(coordinate) for image in build.images for coordinate in image.coords.values())]
    with stores.claim(place):
        target = stores.create_target(
            store,
            sources,
            paths,
            written,
            record=build.record(version, layout, encoding, copy_base=True),
            layout=layout,
            mode=mode,
            resume=resume,
            zarr_format=zarr_format,
            storage_options=storage_options,
        )
        arrays = {level.index: target.create_level(level, encoding, attrs, like=build.source) for level in build.levels}
        if layout == "datatree":
            for level, image in zip(build.levels, build.images, strict=True):
                target.write_coordinates(level.index, image)
        run_sweeps(build, arrays, target, progress)
        target.publish(_metadata(build, target, version, arrays, made_by="write_pyramid"))


def add_levels(
    store: Any,
    path: str | None = None,
    *,
    base: str = "0",
    dims: Sequence[str] | str | None = None,
    scale: PerAxis | None = None,
    translation: PerAxis | None = None,
    units: str | Mapping[str, str] | None = None,
    channel_names: Sequence[str] | None = None,
    scale_factors: ScaleFactors = 2,
    method: Method = "mean",
    boundary: Boundary = "pad",
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    skipna: bool | None = None,
    nodata: Any = None,
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
    chunks: ChunkSizes | None = None,
    shards: ChunkSizes | Literal[False] | None = None,
    compressors: Any = "auto",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Add levels "1", "2", ... beside an existing base array, and OME-NGFF metadata to its group.

    The base is never opened for writing. The levels take over its format (zarr v2: OME-NGFF 0.4, v3: 0.5),
    chunks, shards, codecs, fill value, dimension names and attributes.

    Parameters
    ----------
    store, path
        Place of the group that holds the base.
    base
        Name of the base array in the group.
    dims, scale, translation, units, channel_names
        As in `open_image`: they overrule what is stored.
    scale_factors, method, boundary, max_levels, min_size, skipna, nodata, min_valid, weights
        As in `plan_pyramid`.
    chunks, shards, memory_limit, workers
        As in `plan_pyramid`.
    compressors, resume, progress, storage_options
        As in `write_pyramid`.

    Raises
    ------
    FileNotFoundError
        If there is no such group or base.
    FileExistsError
        If a level, or a pyramid, is there already, or another build is writing there.
    ValueError, TypeError
        If an option does not fit the base, or OME-NGFF cannot say its axes; before anything is written.

    Examples
    --------
    >>> import zarr
    >>> import multiscale_sampler as ms
    >>> store = zarr.storage.MemoryStore()
    >>> base = ms.create_test_image(store, "0", shape=(40, 40, 40), chunks=(16, 16, 16))
    >>> ms.add_levels(store)
    >>> sorted(zarr.open_group(store))
    ['0', '1', '2']
    """
    group = stores.open_node(store, path, storage_options=storage_options)
    array = stores.base_array(group, base)
    image = stores.open_image(
        array, dims=dims, scale=scale, translation=translation, units=units, channel_names=channel_names
    )
    axes = image_axes(image)
    ngff.check_exportable(axes)
    if ngff.ngff_order(axes) != tuple(range(len(axes))):
        raise ValueError(
            f"the base has the axes {image.dims!r}, but OME-NGFF wants time and channels before space, and the base is "
            "not touched; write a new store with write_pyramid, which reorders them"
        )
    shaping = {
        "scale_factors": scale_factors,
        "method": method,
        "boundary": boundary,
        "max_levels": max_levels,
        "min_size": min_size,
        "skipna": skipna,
        "nodata": nodata,
        "min_valid": min_valid,
        "weights": weights,
    }
    storing = {"chunks": chunks, "shards": shards, "memory_limit": memory_limit, "workers": workers}
    place = stores.place_of(group)
    build = build_of_image(image, place, shaping, storing)
    if build.plans[0].reduction.bands:
        raise ValueError(
            f"method {build.plans[0].reducer.name!r} makes a band of level 0 too, and the base is not touched; write a "
            "new store with write_pyramid"
        )
    zarr_format = array.metadata.zarr_format
    version: ngff.NgffVersion = "0.4" if zarr_format == 2 else "0.5"
    encoding = replace(stores.encoding_like(array, zarr_format, compressors), fill_value=array.fill_value)
    attrs = stores.json_attributes(image.attrs, base)
    stores.rehearse(build.levels[1:], encoding, attrs, array)
    record = build.record(version, "flat", encoding, copy_base=False)
    with stores.claim(place):
        target = stores.open_target(
            cast("zarr.Group", group), base, len(build.levels), version, record=record, resume=resume
        )
        arrays = {level.index: target.create_level(level, encoding, attrs, like=array) for level in build.levels[1:]}
        run_sweeps(build, arrays, target, progress)
        target.publish(_metadata(build, target, version, {0: array, **arrays}, made_by="add_levels"))


def _check_choice(option: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"unknown {option} {value!r}; choose one of {', '.join(map(repr, choices))}")


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


# --- passes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pass:
    """What every task of one pass is given."""

    sweep: Sweep
    carried: Mapping[int, stores.Access]
    """The states that earlier passes left, and those that this one leaves."""
    journal: stores.Journal


def run_sweeps(build: Build, arrays: Arrays, target: stores.Target, progress: bool | ProgressCallback | None) -> None:
    """Fill the levels, pass by pass, leaving out the regions that an interrupted build has done."""
    sweeps = build.sweeps(target.record, arrays)
    carried: dict[int, stores.Access] = {}
    try:
        with reporting(progress, sum(sweep.nbytes for sweep in sweeps), "building") as report:
            for number, sweep in enumerate(sweeps):
                carried |= {index: stores.Access.of(array) for index, array in _scratch_arrays(sweep, target)}
                journal = target.journal(number, sweep.region_count)
                calls = _calls(sweep, journal.done(), report, apart=build.crew is not None)
                context = _Pass(sweep.sent() if build.crew else sweep, carried, journal)
                run(build.crew, _build_region, context, calls, build.workers, report)
    except BaseException as error:
        error.add_note("The build stopped here and left a store that resume=True (--resume) completes.")
        raise
    finally:
        on_every_worker(build.crew, stores.release_buffers)
    target.drop_scratch()


def _calls(sweep: Sweep, done: Set[int], report: Advance, *, apart: bool) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of every region's task that is to be done, with `apart` the values of dask arrays too."""
    for number, region in enumerate(sweep.regions()):
        if number in done:
            report(sweep.region_nbytes(region))
        elif apart:
            yield number, region, sweep.values_of(region)
        else:
            yield number, region


def _build_region(step: _Pass, number: int, region: Region, block: Block | None = None) -> int:
    """Build a region, mark it as done when all of it is stored, and return the bytes of its source."""
    sweep = step.sweep if block is None else step.sweep.given(block)
    reduce_region(sweep, step.carried, region)
    step.journal.mark(number)
    return sweep.region_nbytes(region)


def _scratch_arrays(sweep: Sweep, target: stores.Target) -> Iterator[tuple[int, zarr.Array[Any]]]:
    """Create the arrays for the states that later passes need, where the state is not the level itself."""
    reduction = sweep.plan.reduction
    for index in sweep.step.carried if reduction.components else ():
        relative = sweep.plan.relative_factors(index, sweep.step.source)
        shape = sweep.plan.levels[index].shape
        chunks = [min(-(-n // f), size) for n, f, size in zip(sweep.step.region, relative, shape, strict=True)]
        layers = reduction.components
        yield index, target.create_scratch(index, reduction.state_dtype, (layers, *shape), (layers, *chunks))


# --- metadata --------------------------------------------------------------------------------------------------


def _metadata(
    build: Build, target: stores.Target, version: ngff.NgffVersion, arrays: Arrays, *, made_by: str
) -> dict[str, Any]:
    """Return the attributes that publish the pyramid."""
    levels = [level.axes for level in build.levels]
    method = str(build.recipe["method"])
    attributes = ngff.image_attributes(
        levels,
        target.paths,
        version=version,
        name=target.name or build.name,
        method=method,
        made_by=made_by,
        recipe=build.recipe,
        written=target.written,
        omero=_omero(build.images[-1], arrays[len(levels) - 1]),
    )
    if target.layout == "datatree" and version != "0.4":
        # In zarr v2 the convention's attribute would take the place of OME-NGFF's own of the same name.
        parents = [level.parent for level in build.levels]
        groups = [path.rpartition("/")[0] for path in target.paths]
        attributes |= ngff.convention_attributes(levels, parents, groups, method=method)
    return attributes


def _omero(image: xr.DataArray, coarsest: zarr.Array[Any]) -> dict[str, Any] | None:
    """Return how to display the channels, their contrast from the middle of the coarsest level; None without any."""
    axes = image_axes(image)
    channel = next((position for position, axis in enumerate(axes) if axis.type == "channel"), None)
    if channel is None:
        return None
    labels: Sequence[str] = [str(label) for label in axes[channel].coordinates().tolist()]
    if axes[channel].is_regular:
        labels = ngff.numbered_labels(axes[channel].size)
    middle = tuple(_middle(axis) for axis in axes)
    sample = np.asarray(coarsest[middle])
    return ngff.omero(labels, [np.take(sample, number, axis=channel) for number in range(len(labels))])


def _middle(axis: Axis) -> slice:
    if axis.type == "channel":
        return slice(None)
    length = WINDOW_SAMPLE if axis.type == "space" else 1
    start = max((axis.size - length) // 2, 0)
    return slice(start, min(start + length, axis.size))
