"""Opening what is stored, images and pyramids, as lazy, labelled arrays: `labelling` says what each of them is."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import xarray as xr
import zarr

from ..files import Part, is_file_of_images, level_count, read_file
from ..image.dataarray import PerAxis, coordinate_variable, image_axes, to_image
from ..image.orientation import OrientationOption
from ..image.tree import assemble
from ..metadata import (
    DEFAULT_VERSION,
    Dataset,
    Multiscales,
    finest_first,
    geozarr,
    listed_images,
    listed_labels,
    parse_multiscales,
)
from .arrays import (
    ENCODING_ATTRIBUTES,
    encoding_of,
    image_name,
    labelled_by_names,
    labelled_by_ngff,
    lazy_array,
    level_image,
    own_name,
    pyramid_levels,
    warn_of,
)
from .layout import BUILD_ATTRIBUTE, LABELS, foreign_attributes
from .nodes import arrays_at, dimension_names, is_zarr, local_path, open_node, url_options

# The name of an image, its levels, and their paths.
_Found: TypeAlias = "tuple[str, list[xr.DataArray], list[str]]"


def open_image(
    store: Any,
    path: str | None = None,
    *,
    dims: Sequence[str] | str | None = None,
    scale: PerAxis | None = None,
    translation: PerAxis | None = None,
    units: str | Mapping[str, str] | None = None,
    name: str | None = None,
    channel_names: Sequence[str] | None = None,
    orientation: OrientationOption | None = None,
    series: int | None = None,
    level: int = 0,
    chunks: Any = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Open a stored array as a lazy, labelled image. No chunk of it is read.

    Dimensions, coordinates and units come from the first of these that knows them: the arguments, the OME-NGFF
    metadata of a group above the array, coordinate arrays beside it, its dimension names. An array without any
    of them is labelled as `to_image` labels it. Arrays packed by the CF conventions (``scale_factor``,
    ``_FillValue``) are decoded, lazily.

    Local files may also be TIFF (OME-TIFF, ImageJ, GeoTIFF), NIfTI, HDF5, netCDF, MetaImage, NRRD or pictures, by
    their endings ``.tif``, ``.tiff``, ``.nii``, ``.nii.gz``, ``.h5``, ``.hdf5``, ``.nc``, ``.mha``, ``.mhd``,
    ``.nrrd``, ``.nhdr``, ``.png``, ``.jpg``, ``.jpeg``, ``.bmp``, ``.gif`` and ``.webp``, where their readers are
    installed (the extra ``files``); labels are then those that the file has. All are read box by box, but for pictures
    and for MetaImage and NRRD that are compressed, of which the whole is held in memory once a value is needed.

    Parameters
    ----------
    store
        A path, URL or ``.zip`` file, a zarr store, group or array (zarr v2 or v3), a file of another format, or
        anything that `to_image` takes.
    path
        Path of the array in the store. A group stands for its only array, an OME-NGFF group for its level 0. In
        HDF5 the name of the dataset, in netCDF of the variable.
    dims, scale, translation, units, name, channel_names, orientation
        As in `to_image`; they overrule what is stored.
    series
        Which image of a TIFF file, from 0; default: the first.
    level
        Which of the levels that there are: of an OME-Zarr image, or of a TIFF file with a pyramid.
    chunks
        Dask chunks, as ``xarray.open_zarr`` takes them; "auto" joins stored chunks to about 32 MiB.
    storage_options
        Options of the file system, with a URL.

    Returns
    -------
    xarray.DataArray
        Backed by dask; its ``encoding`` tells the stored chunks and shards.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    ModuleNotFoundError
        If the reader of a file's format is not installed.
    ValueError
        If a group holds several arrays and `path` names none, or an argument does not fit the array.

    Warns
    -----
    UserWarning
        If OME-NGFF metadata label the array and leave something to be assumed, as old or incomplete ones do.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> import multiscale_sampler as ms
    >>> array = zarr.create_array({}, data=np.zeros((8, 8, 8), "uint16"))
    >>> ms.open_image(array, scale={"z": 50, "y": 40, "x": 40}, units="micrometer").dims
    ('z', 'y', 'x')
    """
    overrides = {
        "scale": scale,
        "translation": translation,
        "units": units,
        "channel_names": channel_names,
        "orientation": orientation,
    }
    if not isinstance(store, str | os.PathLike | Mapping) and not is_zarr(store):
        if path is not None or storage_options is not None or series is not None or level:
            raise ValueError(
                f"path={path!r}, series={series!r}, level={level!r} and storage_options go with a store or a file; "
                "this is an array in memory"
            )
        image = to_image(store, dims, name=name, **cast("Any", overrides))
        if image.chunks is None:
            return image.chunk(chunks if chunks != "auto" else _auto_chunks(image))
        return image
    place = local_path(store)
    if place is not None and is_file_of_images(place):
        url_options(store, storage_options)
        part = Part(path, series, level)
        return to_image(_image_of_file(place, part, dims, chunks), name=name, **cast("Any", overrides))
    if series is not None:
        raise ValueError(f"series={series!r} goes with TIFF files; leave it out, or name a path in the store")
    array = _one_array(open_node(store, path, storage_options=storage_options), level)
    image = _labelled(array, dims, chunks)
    image = to_image(image, name=name or _name_of(image, array), **cast("Any", overrides))
    image.encoding = encoding_of(array)
    return image


def _image_of_file(place: Path, part: Part, dims: Sequence[str] | str | None, chunks: Any) -> xr.DataArray:
    """Label what a file holds by what it says; of axes that `dims` name otherwise, it says nothing."""
    found = read_file(place, part)
    if dims is None and None in found.names:
        raise ValueError(
            f"{os.fspath(place)!r} does not say what all its axes are (shape {found.array.shape!r}, axes "
            f"{found.names!r}); name them, as in dims=('t', 'y', 'x')"
        )
    shown = np.broadcast_to(np.zeros((), found.array.dtype), found.array.shape)
    names = cast("tuple[str, ...]", to_image(shown, dims or cast("Any", found.names)).dims)
    known = {name for name, said in zip(names, found.names, strict=True) if name == said}
    coordinates = {
        key: variable
        for key, variable in found.coordinates.items()
        if known.issuperset(variable.dims) and (key not in names or variable.dims == (key,))
    }
    variable = xr.Variable(names, lazy_array(found.array, chunks, names), found.attrs)
    return xr.DataArray(variable, coordinates, name="image" if found.name in {*names, *coordinates} else found.name)


def _labelled(array: zarr.Array[Any], dims: Sequence[str] | str | None, chunks: Any) -> xr.DataArray:
    """Label an array by what is known of it; other `dims` than the stored ones take nothing but the attributes."""
    stored = labelled_by_ngff(array, chunks)
    if stored is None:
        stored = labelled_by_names(array, chunks)
    if stored is not None and (dims is None or tuple(dims) == stored.dims):
        return stored
    attrs = {key: value for key, value in array.attrs.asdict().items() if key not in ENCODING_ATTRIBUTES}
    # Labels first, of a stand-in without values, because chunks may be given by the names of the dims.
    names = cast("tuple[str, ...]", to_image(np.broadcast_to(np.zeros((), array.dtype), array.shape), dims).dims)
    return to_image(lazy_array(array, chunks, names), names).assign_attrs(attrs)


def _auto_chunks(image: xr.DataArray) -> dict[Any, Any]:
    stored = image.encoding.get("preferred_chunks") or dict.fromkeys(image.dims, "auto")
    return {dim: stored.get(dim, "auto") for dim in image.dims}


def _one_array(node: zarr.Array[Any] | zarr.Group, level: int = 0) -> zarr.Array[Any]:
    """Return the array that a node stands for, of a pyramid a level."""
    multiscales = parse_multiscales(node.attrs.asdict()) if isinstance(node, zarr.Group) else None
    if multiscales is not None:
        levels = arrays_at(cast("zarr.Group", node), [dataset.path for dataset in multiscales.datasets])
        order = finest_first([array.shape for array in levels])
        if not 0 <= level < len(order):
            raise ValueError(f"level={level!r} is none of {node.store_path}, which has {len(order)}, numbered from 0")
        return levels[order[level]]
    if level:
        raise ValueError(f"level={level!r} goes with a pyramid, and {node.store_path} is none; leave it out")
    if isinstance(node, zarr.Array):
        return node
    arrays = dict(node.arrays())
    beside = f"{node.attrs.get('coordinates', '')}".split()
    images = {
        name: array
        for name, array in arrays.items()
        if array.ndim and dimension_names(array) != (name,) and name not in beside
    }
    if len(images) == 1:
        return next(iter(images.values()))
    found = ", ".join(f"{name!r} {array.shape}" for name, array in sorted(images.items())) or "none"
    below = ", ".join(repr(name) for name, _ in sorted(node.groups())) or "none"
    raise ValueError(
        f"the group {node.store_path!s} does not stand for one array (arrays: {found}; groups: {below}); "
        "name one with path="
    )


def _name_of(image: xr.DataArray, array: zarr.Array[Any]) -> str | None:
    if image.name is not None and image.name != "image":
        return str(image.name)
    return own_name(array)


def open_pyramid(
    store: Any,
    path: str | None = None,
    *,
    series: int | None = None,
    chunks: Any = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Open an OME-Zarr image of any writer as a lazy DataTree with coordinates.

    Also a pyramid that only the zarr convention ``multiscales`` describes, as GeoZarr has it: each level is then the
    only array of its group that is no coordinate. The coordinate reference system of either is the attribute ``crs``
    of the images, or a coordinate as rioxarray keeps it.

    Parameters
    ----------
    store, path
        Place of the group with the ``multiscales`` metadata, or of a local file as `open_image` takes it: the levels
        that a TIFF file has (OME-TIFF, GeoTIFF with overviews), of others the image as the only one.
    series
        Which image of a TIFF file, from 0; default: the first.
    chunks
        Dask chunks, as in `open_image`.
    storage_options
        Options of the file system, with a URL.

    Returns
    -------
    xarray.DataTree
        Nodes ``/scale0``, ``/scale1``, ... as `to_multiscale` makes them; each level's coordinates come from
        its own transformations. Labels of the image have such nodes in ``/labels/<name>``. How to display channels
        (``omero``: colours, contrast windows, what else is there) is the attribute ``omero`` of their coordinate, of an
        image without channels its own; what is known of labels is the attribute ``image-label`` of their images.
        Further coordinate systems of 0.6 are the attribute ``coordinateSystems`` of the images. `write_pyramid` writes
        all of them as it finds them there.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    ValueError
        If the group is no OME-Zarr image, or a build that has not finished.

    Warns
    -----
    UserWarning
        If an old or incomplete store left something to be assumed.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store = {}
    >>> ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2, 4])
    >>> list(ms.open_pyramid(store).children)
    ['scale0', 'scale1', 'scale2']
    """
    place = local_path(store)
    if place is not None and is_file_of_images(place):
        url_options(store, storage_options)
        parts = [Part(path, series, level) for level in range(level_count(place, series))]
        levels = [to_image(_image_of_file(place, part, None, chunks)) for part in parts]
        return assemble([level.to_dataset() for level in levels])
    if series is not None:
        raise ValueError(f"series={series!r} goes with TIFF files; leave it out, or name a path in the store")
    group = open_node(store, path, storage_options=storage_options)
    if not isinstance(group, zarr.Group):
        raise ValueError(f"{group.store_path} is an array, not a pyramid; open it with open_image")
    name, images, _ = _by_convention(group, chunks) or _by_ngff(group, chunks)
    images = [_with_crs(image, group) for image in images]
    if _is_changing(group):
        warnings.warn(
            f"a change of {group.store_path} is in progress or was interrupted, and its levels may not be those of its "
            "base as yet; go on with it by the same call with resume=True",
            UserWarning,
            stacklevel=2,
        )
    tree = assemble([image.to_dataset(name=name) for image in images])
    tree.attrs = foreign_attributes(group.attrs.asdict())
    for label, labels in _label_groups(group):
        tree[f"{LABELS}/{label}"] = open_pyramid(labels, chunks=chunks)
    return tree


def is_pyramid(store: Any, path: str | None = None) -> bool:
    """Whether there is an OME-Zarr image, and no file or array.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    """
    place = local_path(store)
    if place is not None and is_file_of_images(place):
        return False
    node = open_node(store, path)
    return isinstance(node, zarr.Group) and parse_multiscales(node.attrs.asdict()) is not None


def _is_changing(group: zarr.Group) -> bool:
    """Whether parts of the levels are being made anew; where levels are only added, the others are as they were."""
    begun: Any = group.attrs.get(BUILD_ATTRIBUTE)
    return begun is not None and "edited" in begun.get("fingerprint", {})


def _by_ngff(group: zarr.Group, chunks: Any) -> _Found:
    """Return the name of an image and its levels with their paths, as OME-NGFF describes them."""
    multiscales, arrays, levels, assumed = pyramid_levels(group, read_multiscales(group))
    # The caller of open_pyramid.
    warn_of(assumed, group, multiscales.version, stacklevel=3)
    images = [
        level_image(array, lazy_array(array, chunks, [axis.name for axis in axes]), axes, multiscales)
        for array, axes in zip(arrays, levels, strict=True)
    ]
    return image_name(group, multiscales), images, [dataset.path for dataset in multiscales.datasets]


def described_levels(group: zarr.Group) -> Multiscales:
    """Return the description of the levels in a group: that of OME-NGFF, or what only the convention says, in its form.

    Raises
    ------
    ValueError
        If it has neither.
    """
    found = _by_convention(group, "auto")
    if found is None:
        return read_multiscales(group)
    name, images, paths = found
    levels = [image_axes(image) for image in images]
    axes = tuple((axis.name, axis.type, axis.unit) for axis in levels[0])
    # Labels and dates come from the coordinate arrays.
    lines = [[(axis.scale, axis.translation) if axis.is_regular else (1.0, 0.0) for axis in level] for level in levels]
    datasets = tuple(
        Dataset(path, *map(tuple, zip(*line, strict=True))) for path, line in zip(paths, lines, strict=True)
    )
    return Multiscales(DEFAULT_VERSION, name, axes, datasets, {}, None)


def _by_convention(group: zarr.Group, chunks: Any) -> _Found | None:
    """Return the levels that only the convention ``multiscales`` of zarr describes; None if there is more or less."""
    attributes = group.attrs.asdict()
    convention: Any = attributes.get("multiscales")
    if "ome" in attributes or not isinstance(convention, Mapping) or not convention.get("layout"):
        return None
    entries = {str(entry["asset"]): entry for entry in convention["layout"]}
    arrays = {asset: _array_of_asset(group, asset) for asset in entries}
    levels: dict[str, xr.DataArray] = {}
    for asset, entry in entries.items():
        image = labelled_by_names(arrays[asset], chunks)
        if image is None:
            raise ValueError(
                f"{arrays[asset].store_path} has no names of dimensions; open it with open_image and dims="
            )
        placed = {**attributes, **arrays[asset].attrs.asdict(), **entry}
        image = _placed_by_convention(image, placed, levels.get(str(entry.get("derived_from"))))
        image.encoding = encoding_of(arrays[asset])
        levels[asset] = image
    images = list(levels.values())
    names = {own_name(array) for array in arrays.values()}
    shared = names.pop() if len(names) == 1 else None
    name = shared if shared and shared not in images[0].coords else "image"
    order = finest_first([image.shape for image in images])
    paths = [array.path.removeprefix(f"{group.path}/" if group.path else "") for array in arrays.values()]
    return name, [images[index].rename(name) for index in order], [paths[index] for index in order]


def _array_of_asset(group: zarr.Group, asset: str) -> zarr.Array[Any]:
    """Return the array of a level, of which its group may hold only one beside coordinates."""
    node = group.get(asset)
    if node is None:
        raise ValueError(f"the metadata of {group.store_path} name {asset!r}, but there is none")
    return _one_array(node)


def _placed_by_convention(image: xr.DataArray, said: Mapping[str, Any], finer: xr.DataArray | None) -> xr.DataArray:
    """Return a level with positions along the axes that have no coordinates of their own.

    "spatial:transform should be treated as the authoritative geospatial transformation"; other axes follow from those
    of the level that this one is derived from.
    """
    axes = {axis.name: axis for axis in image_axes(image)}
    dims, transform = said.get("spatial:dimensions"), said.get("spatial:transform")
    if dims and transform and len(dims) == 2 and set(dims) <= axes.keys():
        on_map = geozarr.axes_of_transform(transform, axes[dims[0]], axes[dims[1]])
        axes |= {axis.name: axis for axis in on_map or ()}
    relative = said.get("transform")
    if finer is not None and isinstance(relative, Mapping) and finer.dims == image.dims:
        scales, offsets = (
            relative.get(key, [default] * image.ndim) for key, default in (("scale", 1), ("translation", 0))
        )
        for source, scale, offset in zip(image_axes(finer), scales, offsets, strict=True):
            if source.is_regular and source.name not in (dims or ()):
                axes[source.name] = dataclasses.replace(
                    axes[source.name],
                    scale=source.scale * scale,
                    translation=source.translation + source.scale * offset,
                    unit=source.unit,
                )
    missing = {name: axis for name, axis in axes.items() if name not in image.coords}
    return image.assign_coords({name: coordinate_variable(axis) for name, axis in missing.items()})


def _with_crs(image: xr.DataArray, group: zarr.Group) -> xr.DataArray:
    """Attach the coordinate reference system that the group states, where the image itself states none."""
    stated = geozarr.read_crs(group.attrs.asdict())
    if stated is None or geozarr.states_crs(image):
        return image
    return image.assign_attrs(crs=stated) if isinstance(stated, str) else image.assign_attrs({"proj:projjson": stated})


def _label_groups(image: zarr.Group) -> Iterator[tuple[str, zarr.Group]]:
    """Yield the groups of the labels that an image lists."""
    # Labels may have been added since metadata were consolidated.
    place = "/".join(part for part in (image.path, LABELS) if part)
    try:
        labels = zarr.open_group(image.store_path.store, path=place, mode="r", use_consolidated=False)
    except FileNotFoundError:
        return
    for name in listed_labels(labels.attrs.asdict()):
        node = labels.get(name)
        if isinstance(node, zarr.Group) and parse_multiscales(node.attrs.asdict()) is not None:
            yield name, node
        else:
            warnings.warn(
                f"{labels.store_path} lists {name!r}, of which there is no OME-Zarr image; these labels are left out",
                UserWarning,
                stacklevel=3,
            )


def read_multiscales(group: zarr.Group) -> Multiscales:
    """Return the OME-NGFF description of a group.

    Raises
    ------
    ValueError
        If it has none.
    """
    attributes = group.attrs.asdict()
    multiscales = parse_multiscales(attributes)
    if multiscales is not None:
        return multiscales
    if BUILD_ATTRIBUTE in attributes:
        raise ValueError(f"{group.store_path} is a pyramid whose build has not finished; build it again")
    if (places := listed_images(attributes)) is not None:
        named = f"as path={places[0]!r}" if places else "but it names none"
        raise ValueError(f"{group.store_path} is no image but a group of images; open one of them, {named}")
    raise ValueError(f"{group.store_path} has no OME-NGFF multiscales metadata; open an array of it with open_image")
