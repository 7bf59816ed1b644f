"""`write_pyramid`, `add_levels` and `write_labels`: write a new pyramid, levels beside a base, or labels of an image.

Metadata are written last, after all chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy.typing as npt
import xarray as xr
import zarr

from .. import store as stores
from ..image.axes import Axis, Boundary
from ..image.dataarray import PerAxis, image_and_axes
from ..image.grids import attributes_of_level
from ..image.orientation import OrientationOption
from ..image.reversal import descending_axes, reversed_image
from ..image.tree import levels_of_tree
from ..messages import check_choice, one_warning, warn_caller
from ..metadata import (
    DEFAULT_VERSIONS,
    IMAGE_LABEL,
    VERSIONS,
    WRITTEN_VERSIONS,
    NgffVersion,
    check_exportable,
    ngff_order,
)
from ..metadata.clients import descending_text, unread_by_clients
from ..metadata.display import Display, without_display
from ..metadata.geozarr import states_crs
from ..metadata.json_values import json_attributes
from ..methods.reducers import Method
from ..plan.by_level import check_levels
from ..plan.factors import ChunkSizes, ChunkSizesByLevel, ScaleFactors, ShardSizesByLevel
from ..plan.notes import warn_of_distortion
from ..plan.options import STATED, LevelOptions, StorageOptions, specified
from ..store import in_one_commit
from ..tasks.progress import ProgressCallback, announce
from .build import Arrays, Build, build_of_image, build_of_tree, open_with_axes
from .engine import check_data, resumable, run_passes
from .exporting import LABELLED_IMAGE, ExportSettings, Metadata, export, export_labels
from .finished import is_made
from .labels import LabelOptions, build_beside, build_of_labels, check_labels, check_method, label_trees
from .publishing import published_attributes

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
    nodata: Any = "stated",
    min_valid: float | None = None,
    weights: xr.DataArray | None = None,
    dtype: npt.DTypeLike | None = None,
    version: NgffVersion = "0.5",
    layout: stores.Layout = "datatree",
    metadata: Sequence[Metadata] = ("ome",),
    ascending: bool | None = None,
    mode: stores.Mode = "w-",
    chunks: ChunkSizesByLevel | None = None,
    shards: ShardSizesByLevel | None = None,
    compressors: Any = "auto",
    digests: bool = False,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write the pyramid of an image to a store, with OME-NGFF metadata.

    The image is read region by region, in bounded memory. Metadata are written last: readers do not take the store
    of an interrupted build for a pyramid.

    Parameters
    ----------
    image_or_tree
        An image, an array that `to_image` can label, or a tree from `to_multiscale`. The levels of a tree are written
        as they are, also those that were edited or come from another tool; options that determine levels are refused
        with a tree. The attribute ``omero`` of the channel coordinate, or of the image itself, states how channels
        are displayed, in the form in which `open_pyramid` returns it: ``{"channels": [{"color": "FF0000"}, ...]}``.
        Missing entries get defaults; contrast limits are taken from the coarsest level.
    store
        Where to write: a path, a URL, or a zarr store or group. In an icechunk repository, the branch "main": a build
        is one commit, and appears completely or not at all.
    scale_factors, method, boundary, max_levels, min_size, skipna, nodata, min_valid, weights
        As in `plan_pyramid`, with its defaults: "isotropic", "mean" and "pad".
    dtype
        dtype to convert the image to before it is reduced, as "float32" for viewers that do not support float64: the
        levels are those of ``image.astype(dtype)``. Floats are rounded to integers; a value out of the dtype's range
        is an error, and no metadata are written. Labels of a tree keep their dtype.
    version
        Version of OME-NGFF: "0.5" (zarr v3), "0.4" (zarr v2) or "0.6" (zarr v3; few clients read it so far).
    layout
        "datatree": each level in its own group (``scale0/image``), with coordinate arrays and consolidated
        metadata, as ``xarray.open_datatree`` reads it. "flat": ``0``, ``1``, ... A name of the image with other
        characters than letters, digits, ``-``, ``_`` and ``.`` is kept as its title (``name`` in the metadata, and
        ``long_name``), and its arrays get a safe form of it: ``scale0/sample_3`` for "sample #3".
    metadata
        Which metadata to write: "ome" (OME-NGFF), and for georeferenced images "geozarr", the zarr conventions
        ``multiscales``, ``proj:`` and ``spatial:`` (zarr v3). "geozarr" requires a coordinate reference system, as
        rioxarray stores it (``image.rio.write_crs``) or in the attribute ``crs``: a code ("EPSG:4326") or WKT.
        Without "ome", OME-Zarr clients do not recognize the pyramid; `open_pyramid` does.
    ascending
        Whether axes of space and time that descend, whose scales in OME-NGFF would be negative, are stored ascending,
        their values and coordinates reversed together. Several clients refuse negative scales, and version 0.6 does.
        Default: True, but False for an image with a coordinate reference system, whose rows run southwards by custom,
        in the versions that have negative scales. Arrays without positions that join the pyramid later (labels,
        appended data) must be in the stored order.
    mode
        "w-" is an error if anything is stored at `store`; "w" replaces a pyramid that this package wrote there, and
        keeps other arrays, groups and attributes. In a folder, or a zip file, the old pyramid stays until the new one
        is complete. Other stores cannot rename: there "w" is refused unless the image is known to be stored elsewhere.
    chunks, shards
        As in `plan_pyramid`.
    compressors
        Codecs as ``zarr.create_array`` takes them; "auto": the source's, else zarr's default. Or, as for `chunks`, a
        mapping from numbers of levels to these.
    digests
        Also store a digest of every chunk of level 0, so that ``update_pyramid(store, changed="auto")`` can detect
        edited chunks. Reads the stored chunks once more after writing.
    memory_limit, workers
        As in `plan_pyramid`.
    resume
        Resume an interrupted build of the same image with the same options: finished regions are skipped, and the
        result is bit-identical to an uninterrupted build. If none was interrupted, start one, subject to `mode`; if
        the pyramid is finished and the one that this call would make, do nothing.
    progress
        True for a progress bar (or lines) on standard error, or a function that is called with `Progress` values.
    storage_options
        Options of the file system, for a URL.

    Raises
    ------
    FileExistsError
        If `store` contains something that `mode` does not allow to replace, or another build is writing there.
    ValueError, TypeError
        If the build to resume had other options or data, an option does not fit the image, the target contains the
        source, or OME-NGFF does not allow the axes; before anything is read or written. ValueError also if a value is
        out of the range of `dtype`.

    Warns
    -----
    UserWarning
        Once a call, with all causes: if some clients cannot read the dtype, the names of the axes or descending axes;
        if axes are written in another order or direction; if voxels of a level are more anisotropic than those of the
        base.

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
        min_valid=min_valid,
        weights=weights,
    )
    # None is a value of its own here.
    shaping |= {} if isinstance(nodata, str) and nodata == STATED else {"nodata": nodata}
    options = LevelOptions(**shaping)
    storage = StorageOptions(chunks=chunks, shards=shards, memory_limit=memory_limit, workers=workers)
    storage = storage.in_zarr_format(VERSIONS[version].zarr_format)
    place = stores.place_of(store)
    settings = ExportSettings(version, layout, mode, compressors, resume, progress, storage_options, metadata, digests)
    with one_warning():
        if isinstance(image_or_tree, xr.DataTree):
            _refuse_to_shape(shaping)
            image, axes = image_and_axes(levels_of_tree(image_or_tree)[0])
            reverse = _axes_to_reverse(image, axes, ascending, version)
            build = build_of_tree(image_or_tree, place, storage, dtype=dtype, reverse=reverse)
        else:
            image, axes = open_with_axes(image_or_tree)
            reverse = _axes_to_reverse(image, axes, ascending, version)
            build = build_of_image(image, axes, place, options, storage, dtype=dtype, reverse=reverse)
            warn_of_distortion(build.plans[0])
            announce(progress, build.plans[0].why_one_level)
        _warn_of_changes(build, reverse, has_choice=ascending is None)
        build.check_sources()
        labels = label_trees(image_or_tree) if isinstance(image_or_tree, xr.DataTree) else {}
        builds = _builds_of_labels(labels, build, reverse, place, storage)
        export(build, store, place, settings, labels=builds)
        build.warn_if_empty(stacklevel=3)


def _axes_to_reverse(
    image: xr.DataArray, axes: Sequence[Axis], ascending: bool | None, version: NgffVersion
) -> tuple[str, ...]:
    """Return the names of the axes that are stored in the other direction."""
    as_it_is = states_crs(image) and not VERSIONS[version].positive_scales if ascending is None else not ascending
    return () if as_it_is else descending_axes(axes)


def _builds_of_labels(
    labels: Mapping[str, xr.DataTree],
    image: Build,
    reverse: Sequence[str],
    place: stores.Location,
    storage: StorageOptions,
) -> dict[str, Build]:
    """Return the builds of the labels of a tree, in the directions of their image."""
    # Labels without positions are in the order of the tree.
    stored = image.images[0]
    original, _ = reversed_image(stored, image.levels[0].axes, reverse)
    builds = {}
    for name, tree in labels.items():
        builds[name] = build_of_labels(tree, original, place, storage, reverse=reverse)
        builds[name].warn_of_order(stacklevel=3)
        builds[name].check_sources()
    return builds


def _refuse_to_shape(options: Mapping[str, Any]) -> None:
    """Raise if options that determine levels are combined with a tree."""
    if options:
        raise ValueError(
            f"a tree has its levels already, got options that would change them: {sorted(options)!r}; pass the base "
            "image instead"
        )


def _warn_of_changes(build: Build, reverse: Sequence[str] = (), *, has_choice: bool = False) -> None:
    """Warn of axes written in another order or direction, and of clients that cannot open the pyramid.

    Of descending axes only where the caller has not chosen their direction.
    """
    build.warn_of_order(stacklevel=4)
    if reverse and has_choice:
        warn_caller(
            f"{descending_text(reverse)}: {build.name!r} is stored in the other direction, values and coordinates "
            "reversed together; ascending=False (--no-ascending) keeps the order"
        )
    levels = build.levels
    if found := unread_by_clients(levels[0].axes, [level.dtype for level in levels], negative_scales=has_choice):
        warn_caller(f"some clients will not open {build.name!r}: {'; '.join(found)}")


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
    scale_factors: ScaleFactors = "isotropic",
    method: Method = "mean",
    boundary: Boundary = "pad",
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    skipna: bool | None = None,
    nodata: Any = "stated",
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
    chunks: ChunkSizesByLevel | None = None,
    shards: ShardSizesByLevel | None = None,
    compressors: Any = "auto",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Add levels "1", "2", ... beside an existing base array, and OME-NGFF metadata to its group.

    The base is never opened for writing. The levels use its zarr format (v2: OME-NGFF 0.4, v3: 0.5), chunks, shards,
    codecs, fill value, dimension names and attributes.

    Parameters
    ----------
    store, path
        Store, and path in it, of the group that contains the base.
    base
        Name of the base array in the group.
    dims, scale, translation, units, channel_names, orientation
        As in `open_image`: they override the stored metadata.
    scale_factors, method, boundary, max_levels, min_size, skipna, nodata, min_valid, weights
        As in `plan_pyramid`.
    chunks, shards, memory_limit, workers
        As in `plan_pyramid`.
    compressors, resume, progress, storage_options
        As in `write_pyramid`.

    Raises
    ------
    FileNotFoundError
        If the group or the base does not exist.
    FileExistsError
        If the group already contains a level or a pyramid, or another build is writing there.
    ValueError, TypeError
        If an option does not fit the base, or OME-NGFF does not allow its axes; before anything is written.

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
    labels_group = stores.labels_group_above(cast("zarr.Group", group))
    # Of labels, 0 is background, and an id is never missing.
    options = replace(options, packing=None if labels_group is not None else stores.packing_of(array))
    stored_image = stores.image_of_array(
        array,
        dims,
        packed=True,
        by_arguments=any(value is not None for value in (dims, scale, translation, units)),
        scale=scale,
        translation=translation,
        units=units,
        channel_names=channel_names,
        orientation=orientation,
    )
    image, axes = image_and_axes(stored_image)
    _check_base(axes)
    if labels_group is not None:
        check_labels(image.dtype)
        check_method(method)
    with one_warning():
        build = build_of_image(image, axes, stores.place_of(group), options, storage)
        _check_base_stays(build)
        build.check_sources()
        warn_of_distortion(build.plans[0])
        if down := descending_axes(axes):
            warn_caller(f"{descending_text(down)}; write_pyramid (build) stores the image in the other direction")
    announce(progress, build.plans[0].why_one_level)
    check_levels("compressors", compressors, len(build.levels))
    settings = _AddedLevels(base, array, labels_group, compressors, resume, progress)
    _write_levels_beside_base(build, cast("zarr.Group", group), settings)
    build.warn_if_empty(stacklevel=3)


@dataclass(frozen=True)
class _AddedLevels:
    """How `add_levels` stores levels beside a base."""

    base: str
    """Name of the base in its group."""
    array: zarr.Array[Any]
    """The base."""
    labels_group: zarr.Group | None
    """The group ``labels`` that the group is in; None if the base is not labels of an image."""
    compressors: Any
    """Codecs, as ``zarr.create_array`` takes them; "auto": the base's."""
    resume: bool
    """Whether to resume an interrupted build."""
    progress: bool | ProgressCallback | None
    """How progress is reported."""


def _write_levels_beside_base(build: Build, group: zarr.Group, added: _AddedLevels) -> None:
    """Write all levels of a build except its base to the group of the base; metadata last."""
    array, image, place = added.array, build.images[0], stores.place_of(group)
    is_labels = added.labels_group is not None
    zarr_format = array.metadata.zarr_format
    version = DEFAULT_VERSIONS[zarr_format]
    encoding = replace(stores.encoding_like(array, zarr_format, added.compressors), fill_value=array.fill_value)
    # The group's own metadata on how channels are displayed are kept.
    stated = Display(None, image.attrs.get(IMAGE_LABEL) if is_labels else None)
    attrs = {**json_attributes(without_display(image).attrs, added.base), **stores.packing_attributes(array)}
    stores.rehearse(build.levels[1:], encoding, attrs, array)
    record = build.record(version, "flat", encoding, copy_base=False)

    def create(target: stores.Target) -> dict[int, zarr.Array[Any]]:
        base, levels = build.levels[0].axes, build.levels[1:]
        of_levels = [attributes_of_level(attrs, base, level.axes) for level in levels]
        return {
            level.index: target.create_level(level, encoding, own, like=array)
            for level, own in zip(levels, of_levels, strict=True)
        }

    def attributes_of(target: stores.Target, arrays: Arrays) -> Mapping[str, Any]:
        labels_of = LABELLED_IMAGE if is_labels else None
        return published_attributes(build, target, version, arrays, stated, made_by="add_levels", labels_of=labels_of)

    with stores.claim(place):
        if added.resume and (stored := stores.finished_group(group)) is not None:
            paths = stores.paths_beside(added.base, len(build.levels))
            name = stores.name_of(stored)
            made = stores.target_in_memory(paths, "flat", zarr_format, written=paths[1:], name=name)
            if is_made(build, stored, made, record, create, attributes_of, base=array):
                return
        target = stores.open_target(group, added.base, len(build.levels), version, record=record, resume=added.resume)
        if target.is_complete:
            check_data(build, target.level_arrays(), target)
        else:
            with resumable():
                arrays = create(target)
            run_passes(build, arrays, target, added.progress)
            with resumable():
                target.publish(attributes_of(target, {0: array, **arrays}))
    if added.labels_group is not None:
        stores.register_label(added.labels_group, group.basename or place[1][-1], version)


def _check_base(axes: Sequence[Axis]) -> None:
    """Raise if OME-NGFF does not allow the axes of a base, or their order."""
    check_exportable(axes)
    if ngff_order(axes) != tuple(range(len(axes))):
        raise ValueError(
            f"the base has the axes {tuple(axis.name for axis in axes)!r}, but OME-NGFF requires time and channels "
            "before space, and add_levels does not change the base; write a new store with write_pyramid, which "
            "reorders them"
        )


def _check_base_stays(build: Build) -> None:
    """Raise if level 0 of the method differs from the base."""
    if build.plans[0].reducer.bands:
        raise ValueError(
            f"with method {build.plans[0].reducer.name!r}, level 0 is a band too, but add_levels does not change the "
            "base; write a new store with write_pyramid"
        )


@in_one_commit
def write_labels(
    labels: Any,
    store: Any,
    name: str,
    path: str | None = None,
    *,
    method: Method = "mode",
    dtype: npt.DTypeLike | Literal["auto"] | None = None,
    chunks: ChunkSizesByLevel | None = None,
    shards: ShardSizesByLevel | None = None,
    compressors: Any = "auto",
    mode: stores.Mode = "w-",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a pyramid of labels to ``labels/<name>`` in the OME-Zarr image that they label, and register it there.

    Labels get as many levels as the image, with the same factors, version and layout. Their metadata name the image,
    and colours for the labels in the middle of the coarsest level. The image's list of labels is written last.

    Parameters
    ----------
    labels
        Integers or bools with the image's shape, with or without its channel axis: an array, a labelled or stored
        image, a file, or a tree from `to_multiscale` with as many levels as the image. Along axes whose positions it
        does not state, it gets those of the image.
    store, path
        Store, and path in it, of the image's group.
    name
        Name of the labels.
    method
        A method that creates no new ids: "mode", "mode_nonzero", "nearest", "label_gaussian", "min", "max", or a
        `Reducer` or function.
    dtype
        Integer dtype to convert the labels to, as "uint32"; "auto": the smallest that holds all of them, for which
        they are read once. Values that are not whole or out of its range are an error. Default: that of the labels,
        "uint8" for bools.
    chunks, shards, memory_limit, workers
        As in `plan_pyramid`.
    compressors, mode, resume, progress, storage_options
        As in `write_pyramid`.

    Raises
    ------
    FileNotFoundError
        If the image does not exist.
    FileExistsError
        If there are labels of that name, and `mode` does not allow to replace them.
    TypeError
        If the labels are neither integers nor bools, and no `dtype` is given, or it is not an integer dtype.
    ValueError
        If the labels do not fit the image or state other positions, or the method would create new ids; before
        anything is written. Also if `dtype` does not hold a value.

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
            f"{group.store_path} is OME-NGFF {image.version!r}, which can be read but not written; convert it to one "
            f"of {', '.join(map(repr, WRITTEN_VERSIONS))} first"
        )
    version = image.version
    place = stores.place_of(group)
    storage = storage.in_zarr_format(VERSIONS[version].zarr_format)
    options = LabelOptions(name, method, dtype)
    build = build_beside(stores.image_to_join(labels, image.image.dims), image, place, storage, options)
    with one_warning():
        _warn_of_changes(build)
        build.check_sources()
    settings = ExportSettings(version, image.layout, mode, compressors, resume, progress)
    root = stores.writable_group(image.group)
    export_labels(build, root, name, settings)
    listing = root.require_group(stores.LABELS)
    if resume or mode == "w":
        # Others may be writing labels of other names, so that a first call removes nothing.
        for each in (root, listing):
            stores.remove_leftovers(each, ())
    stores.register_label(listing, name, version)
    if image.is_consolidated:
        stores.consolidate(root)
    build.warn_if_empty(stacklevel=3)


def _checked_metadata(metadata: Sequence[Metadata], version: NgffVersion) -> tuple[Metadata, ...]:
    names: tuple[Any, ...] = (metadata,) if isinstance(metadata, str) else tuple(metadata)
    for name in names:
        check_choice("metadata", name, METADATA)
    if not names:
        raise ValueError(f"metadata={metadata!r} is empty; choose from {', '.join(map(repr, METADATA))}")
    if "geozarr" in names and VERSIONS[version].zarr_format == 2:
        # Both have an attribute of the name "multiscales".
        raise ValueError(f"'geozarr' requires zarr v3, but OME-NGFF {version!r} is zarr v2; write version '0.5'")
    return names
