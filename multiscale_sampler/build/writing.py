"""Pyramids written into stores: a new one, levels beside a base, labels of an image.

The fourth station of the flow. What is to be built is decided (`builds`), the target is made ready (`store`), the
engine fills it, and metadata are published last.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from .. import store as stores
from ..image.axes import Axis, Boundary
from ..image.dataarray import PerAxis, image_and_axes, unread
from ..image.orientation import OrientationOption
from ..messages import check_choice
from ..metadata import (
    DEFAULT_VERSIONS,
    IMAGE_LABEL,
    VERSIONS,
    WRITTEN_VERSIONS,
    NgffVersion,
    check_exportable,
    ngff_order,
)
from ..metadata.clients import unread_by_clients
from ..metadata.display import Display, stated_display, without_display
from ..metadata.json_values import json_attributes
from ..methods.reducers import REDUCERS, Method, get_reducer
from ..plan.factors import ChunkSizes, ScaleFactors
from ..plan.options import LevelOptions, StorageOptions, specified
from ..store import in_one_commit
from ..tasks.progress import ProgressCallback
from .build import Build, build_of_image, build_of_tree, opened
from .engine import run_passes, take_digests
from .publishing import crs_to_write, published_attributes, with_geozarr

Metadata: TypeAlias = Literal["ome", "geozarr"]

# Where labels have their image.
LABELLED_IMAGE = "../../"
METADATA: tuple[Metadata, ...] = ("ome", "geozarr")


@in_one_commit
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
    dtype: npt.DTypeLike | None = None,
    version: NgffVersion = "0.5",
    layout: stores.Layout = "datatree",
    metadata: Sequence[Metadata] = ("ome",),
    mode: stores.Mode = "w-",
    chunks: ChunkSizes | None = None,
    shards: ChunkSizes | Literal[False] | None = None,
    compressors: Any = "auto",
    digests: bool = False,
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
        tree. The attribute ``omero`` of the coordinate of its channels, or of the image itself, says how they are
        displayed, as `open_pyramid` reads it: ``{"channels": [{"color": "FF0000"}, ...]}``; what it leaves out is
        chosen, the contrast from the coarsest level.
    store
        Where to write: a path, a URL, or a zarr store or group. Of an icechunk repository, the branch "main": a build
        is one commit, so that it appears whole or not at all.
    scale_factors, method, boundary, max_levels, min_size, skipna, nodata, min_valid, weights
        As in `plan_pyramid`, with its defaults: 2, "mean" and "pad".
    dtype
        dtype to convert the image to before it is reduced, as "float32" for viewers that know no float64: the levels
        are those of ``image.astype(dtype)``. Floats are rounded; a value that the dtype cannot hold ends the build,
        which then publishes nothing. Labels keep theirs.
    version
        Version of OME-NGFF: "0.5" (zarr v3), "0.4" (zarr v2) or "0.6" (zarr v3, which few clients read as yet).
    layout
        "datatree": every level in a group of its own (``scale0/image``), with coordinate arrays and consolidated
        metadata, as ``xarray.open_datatree`` reads it. "flat": ``0``, ``1``, ...
    metadata
        Which metadata tell what the arrays are: "ome" (OME-NGFF), and for images of the earth "geozarr", the zarr
        conventions ``multiscales``, ``proj:`` and ``spatial:`` (zarr v3). The image then has its coordinate reference
        system as rioxarray keeps it (``image.rio.write_crs``), or in its attribute ``crs``: a code ("EPSG:4326") or a
        text of WKT. Without "ome", such clients alone will know the store for a pyramid, and `open_pyramid`.
    mode
        "w-" refuses a place where anything is stored, "w" replaces a pyramid of this package that is there;
        other arrays, groups and attributes stay.
    chunks, shards
        As in `plan_pyramid`.
    compressors
        Codecs as ``zarr.create_array`` takes them; "auto": the source's, else zarr's default.
    digests
        Store a digest of every chunk of level 0 too, by which ``update_pyramid(store, changed="auto")`` finds those
        that were edited. Reads them once more when they are written.
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
        or OME-NGFF cannot say the axes; before anything is read or written. ValueError also if a value does not fit
        `dtype`.

    Warns
    -----
    UserWarning
        If some clients do not read the dtype or names of axes, which are named; if axes are written in another order.

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
    check_choice("version", version, WRITTEN_VERSIONS)
    check_choice("layout", layout, stores.LAYOUTS)
    check_choice("mode", mode, stores.MODES)
    metadata = _checked_metadata(metadata, version)
    shaping = specified(
        scale_factors=scale_factors,
        method=method,
        boundary=boundary,
        max_levels=max_levels,
        min_size=min_size,
        skipna=skipna,
        nodata=nodata,
        min_valid=min_valid,
        weights=weights,
    )
    options = LevelOptions(**shaping)
    storage = StorageOptions(chunks=chunks, shards=shards, memory_limit=memory_limit, workers=workers)
    storage = storage.in_zarr_format(VERSIONS[version].zarr_format)
    place = stores.place_of(store)
    if isinstance(image_or_tree, xr.DataTree):
        _refuse_to_shape(shaping)
        build = build_of_tree(image_or_tree, place, storage, dtype=dtype)
    else:
        build = build_of_image(*opened(image_or_tree), place, options, storage, dtype=dtype)
    _warn_of_clients(build)
    how = Export(version, layout, mode, compressors, resume, progress, storage_options, metadata, digests)
    labels = label_trees(image_or_tree) if isinstance(image_or_tree, xr.DataTree) else {}
    builds = {name: label_build(tree, place, storage) for name, tree in labels.items()}
    export(build, store, place, how, labels=builds)


def _refuse_to_shape(options: Mapping[str, Any]) -> None:
    """Refuse options that shape levels, for a tree, which has them."""
    if options:
        raise ValueError(
            f"the levels of a tree are decided, but {sorted(options)!r} would change them; pass the base image instead"
        )


def _warn_of_clients(build: Build) -> None:
    """Say once which clients will not read a pyramid."""
    if found := unread_by_clients(build.levels[0].axes, [level.dtype for level in build.levels]):
        warnings.warn(f"some clients will not open {build.name!r}: {'; '.join(found)}", UserWarning, stacklevel=4)


@dataclass(frozen=True)
class Export:
    """How a pyramid is stored in a group of its own."""

    version: NgffVersion
    """Version of OME-NGFF."""
    layout: stores.Layout
    """Where levels are in the group."""
    mode: stores.Mode
    """Whether a pyramid that is there may be replaced."""
    compressors: Any = "auto"
    """Codecs, as ``zarr.create_array`` takes them; "auto": the source's."""
    resume: bool = False
    """Whether to go on with an interrupted build."""
    progress: bool | ProgressCallback | None = None
    """Who is told of progress."""
    storage_options: Mapping[str, Any] | None = None
    """Options of the file system, with a URL."""
    metadata: tuple[Metadata, ...] = ("ome",)
    """Which metadata are written."""
    digests: bool = False
    """Whether to store digests of the chunks of level 0."""


def export(
    build: Build,
    store: Any,
    place: stores.Location,
    how: Export,
    *,
    labels: Mapping[str, Build] | None = None,
    labels_of: str | None = None,
) -> None:
    """Write a pyramid into a store of its own, and those of its labels; metadata are published last.

    `labels_of` is the path of the image that the pyramid is labels of, relative to it.
    """
    for level in build.levels:
        check_exportable(level.axes, how.version)
    version, layout = how.version, how.layout
    zarr_format = VERSIONS[version].zarr_format
    encoding = stores.encoding_like(build.source, zarr_format, how.compressors)
    stated = stated_display(build.images[-1], build.levels[-1].axes, how.version)
    crs = crs_to_write(build) if "geozarr" in how.metadata else None
    images = [without_display(image) for image in build.images]
    attrs = json_attributes(images[0].attrs, build.name)
    for coordinate in images[0].coords.values():
        json_attributes(coordinate.attrs, str(coordinate.name))
    paths = stores.level_paths(layout, build.name, len(build.levels))
    written = stores.written_paths(layout, paths, build.images)
    written += (stores.DIGESTS_PATH,) if how.digests else ()
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
            mode=how.mode,
            resume=how.resume,
            zarr_format=zarr_format,
            storage_options=how.storage_options,
        )
        arrays = {level.index: target.create_level(level, encoding, attrs, like=build.source) for level in build.levels}
        if layout == "datatree":
            for level, image in zip(build.levels, images, strict=True):
                target.write_coordinates(level.index, image)
        run_passes(build, arrays, target, how.progress)
        if how.digests:
            take_digests(stores.Digests.create(target.group, arrays[0]), None, build.workers, how.progress)
        for name, label in (labels or {}).items():
            _put_labels(label, target.group, name, how)
        attributes = published_attributes(
            build, target, version, arrays, stated, made_by="write_pyramid", labels_of=labels_of
        )
        if crs is not None:
            attributes = with_geozarr(attributes, build, target, crs, alone="ome" not in how.metadata)
        target.publish(attributes)


@in_one_commit
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
    orientation: OrientationOption | None = None,
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
    dims, scale, translation, units, channel_names, orientation
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
    options = LevelOptions(
        scale_factors=scale_factors,
        method=method,
        boundary=boundary,
        max_levels=max_levels,
        min_size=min_size,
        skipna=skipna,
        nodata=nodata,
        min_valid=min_valid,
        weights=weights,
    )
    storage = StorageOptions(chunks=chunks, shards=shards, memory_limit=memory_limit, workers=workers)
    group = stores.open_node(store, path, storage_options=storage_options)
    array = stores.base_array(group, base)
    storage = storage.in_zarr_format(array.metadata.zarr_format)
    stored_image = stores.open_image(
        array,
        dims=dims,
        scale=scale,
        translation=translation,
        units=units,
        channel_names=channel_names,
        orientation=orientation,
    )
    image, axes = image_and_axes(stored_image)
    _check_base(axes)
    place = stores.place_of(group)
    above = stores.labels_group_above(cast("zarr.Group", group))
    if above is not None:
        check_labels(image.dtype, method)
    build = build_of_image(image, axes, place, options, storage)
    _check_base_stays(build)
    zarr_format = array.metadata.zarr_format
    version = DEFAULT_VERSIONS[zarr_format]
    encoding = replace(stores.encoding_like(array, zarr_format, compressors), fill_value=array.fill_value)
    # How channels are displayed stays as the group has it.
    stated = Display(None, image.attrs.get(IMAGE_LABEL) if above is not None else None)
    attrs = json_attributes(without_display(image).attrs, base)
    stores.rehearse(build.levels[1:], encoding, attrs, array)
    record = build.record(version, "flat", encoding, copy_base=False)
    with stores.claim(place):
        target = stores.open_target(
            cast("zarr.Group", group), base, len(build.levels), version, record=record, resume=resume
        )
        arrays = {level.index: target.create_level(level, encoding, attrs, like=array) for level in build.levels[1:]}
        run_passes(build, arrays, target, progress)
        labels_of = LABELLED_IMAGE if above is not None else None
        target.publish(
            published_attributes(
                build, target, version, {0: array, **arrays}, stated, made_by="add_levels", labels_of=labels_of
            )
        )
    if above is not None:
        stores.register_label(above, target.group.basename or place[1][-1], version)


def _check_base(axes: Sequence[Axis]) -> None:
    """Refuse a base beside which OME-NGFF cannot have levels."""
    check_exportable(axes)
    if ngff_order(axes) != tuple(range(len(axes))):
        raise ValueError(
            f"the base has the axes {tuple(axis.name for axis in axes)!r}, but OME-NGFF wants time and channels before "
            "space, and the base is not touched; write a new store with write_pyramid, which reorders them"
        )


def _check_base_stays(build: Build) -> None:
    """Refuse a method by which the base would not stay level 0."""
    if build.plans[0].reducer.bands:
        raise ValueError(
            f"method {build.plans[0].reducer.name!r} makes a band of level 0 too, and the base is not touched; write a "
            "new store with write_pyramid"
        )


@in_one_commit
def write_labels(
    labels: Any,
    store: Any,
    name: str,
    path: str | None = None,
    *,
    method: Method = "mode",
    chunks: ChunkSizes | None = None,
    shards: ChunkSizes | Literal[False] | None = None,
    compressors: Any = "auto",
    mode: stores.Mode = "w-",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write the pyramid of labels beside the OME-Zarr image that they label, and register them there.

    Labels get as many levels as the image, by the same factors, in the version and layout of the image, under
    ``labels/<name>``. They say which image they label, and colours of the labels that the middle of the coarsest
    level shows; the list of labels is the last that is written.

    Parameters
    ----------
    labels
        Integers of the image's size along the image's dims, channels left out or not: an array (which takes the
        image's positions), a labelled image, or a tree of `to_multiscale` with as many levels as the image.
    store, path
        Place of the image.
    name
        Name of the labels.
    method
        A method that makes no id: "mode", "mode_nonzero", "nearest", "label_gaussian", "min", "max", or your own.
    chunks, shards, memory_limit, workers
        As in `plan_pyramid`.
    compressors, mode, resume, progress, storage_options
        As in `write_pyramid`.

    Raises
    ------
    FileNotFoundError
        If there is no image.
    FileExistsError
        If there are labels of that name that `mode` does not let be replaced.
    TypeError
        If labels are no integers.
    ValueError
        If labels do not fit the image, or the method would make ids; before anything is written.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store = {}
    >>> ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2])
    >>> ms.write_labels(np.ones((64, 64), "uint16"), store, "cells")
    >>> ms.open_pyramid(store)["labels/cells/scale1/cells"].shape
    (32, 32)
    """
    check_choice("mode", mode, stores.MODES)
    storage = StorageOptions(chunks=chunks, shards=shards, memory_limit=memory_limit, workers=workers)
    group = stores.open_node(store, path, storage_options=storage_options)
    image = stores.StoredPyramid.by_ngff(group)
    if image.version not in WRITTEN_VERSIONS:
        raise ValueError(
            f"{group.store_path} is OME-NGFF {image.version}, which is not written; convert it to one of "
            f"{', '.join(map(repr, WRITTEN_VERSIONS))} first"
        )
    version = image.version
    place = stores.place_of(group)
    storage = storage.in_zarr_format(VERSIONS[version].zarr_format)
    build = label_build(labels, place, storage, image=image, name=name, method=method)
    _warn_of_clients(build)
    how = Export(version, image.layout, mode, compressors, resume, progress)
    root = stores.writable_group(image.group)
    _put_labels(build, root, name, how)
    if image.is_consolidated:
        stores.consolidate(root)


def label_build(
    labels: Any,
    place: stores.Location,
    storage: StorageOptions,
    *,
    image: stores.StoredPyramid | None = None,
    name: str | None = None,
    method: Method = "mode",
) -> Build:
    """Make labels ready for writing, those of an image with its levels."""
    if isinstance(labels, xr.DataTree):
        build = build_of_tree(labels, place, storage)
        check_labels(build.levels[0].dtype)
        if image is not None and len(build.levels) != len(image.levels):
            # "the same number of scale levels as the original unlabeled image" (0.4, labels metadata)
            raise ValueError(
                f"the labels have {len(build.levels)!r} levels, the image {len(image.levels)!r}; OME-NGFF wants as many"
            )
        return build if name is None else replace(build, name=name)
    stored = cast("stores.StoredPyramid", image)
    placed = stores.placed_labels(labels, stored, name)
    check_labels(placed.dtype, method)
    options = replace(stored.level_options(placed.dims), method=method)
    return build_of_image(*image_and_axes(placed), place, options, storage)


def check_labels(dtype: np.dtype[Any], method: Method | None = None) -> None:
    """Refuse values that are not labels, and a method that would create ids which do not exist in the input.

    Raises
    ------
    TypeError, ValueError
        As they say.
    """
    # "all label images MUST be integer" (0.4, labels metadata)
    if dtype.kind not in "iu":
        raise TypeError(f"labels have dtype {str(dtype)!r}, OME-NGFF wants integers; convert them by astype('uint8')")
    reducer = None if method is None else get_reducer(method)
    if reducer is not None and reducer.function is None and reducer.labels == "no":
        fitting = ", ".join(repr(name) for name, row in REDUCERS.items() if row.labels != "no")
        raise ValueError(
            f"method {reducer.name!r} would create label ids that do not exist in the input; choose one of {fitting}"
        )


def label_trees(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    """Return the trees of labels that stand beside the levels of an image, by name."""
    return (
        {str(name): node for name, node in tree[stores.LABELS].children.items()}
        if stores.LABELS in tree.children
        else {}
    )


def _put_labels(build: Build, image: zarr.Group, name: str, how: Export) -> None:
    """Write labels below the group of their image, and list them."""
    within = stores.label_place(image, name)
    if not (how.resume and stores.is_finished(within)):
        export(build, within, stores.place_of(within), replace(how, metadata=("ome",)), labels_of=LABELLED_IMAGE)
    stores.register_label(image.require_group(stores.LABELS), name, how.version)


def _checked_metadata(metadata: Sequence[Metadata], version: NgffVersion) -> tuple[Metadata, ...]:
    named: tuple[Any, ...] = (metadata,) if isinstance(metadata, str) else tuple(metadata)
    for name in named:
        check_choice("metadata", name, METADATA)
    if not named:
        raise ValueError(f"metadata={metadata!r} names none; choose from {', '.join(map(repr, METADATA))}")
    if "geozarr" in named and VERSIONS[version].zarr_format == 2:
        # Both have an attribute of the name "multiscales".
        raise ValueError(f"'geozarr' is of zarr v3, and OME-NGFF {version!r} of v2; write version '0.5'")
    return named
