"""`open_image` and `open_pyramid`: stored images and pyramids, in any format, as lazy labelled arrays."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr

from ..files import Part, is_file_of_images, level_count, read_file
from ..image.dataarray import PerAxis, is_ngff_image, to_image
from ..image.encodings import sizes_to_read
from ..image.orientation import OrientationOption
from ..image.tree import assemble
from ..image.values import Packing, missing_values, without_packing
from ..metadata import parse_multiscales, stated_method
from .arrays import ENCODING_ATTRIBUTES, ancestors, encoding_of, labelled_by_names, lazy_array, own_name, packing_of
from .documents import warn_of_outdated
from .layout import BUILD_ATTRIBUTE, LABELS
from .nodes import dimension_names, is_zarr, local_path, only_array, open_node, url_options
from .origins import source_array
from .stored_pyramid import StoredPyramid, holds_image, unfinished
from .zarr_internals import BROKEN, nodes_at

REMEDY = (
    "to open an array without these metadata, name it with path=, and its axes with dims=, and place it with scale=, "
    "translation= and units="
)


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
    of them is labelled as `to_image` labels it. Metadata that cannot be read are an error, and only a warning where
    `path`, `dims`, `scale`, `translation` or `units` are given. Arrays packed by the CF conventions (``scale_factor``,
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
        HDF5 the name of the dataset, in netCDF of the variable, each with its group: "PRODUCT/no2".
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
        If OME-NGFF metadata label the array and leave something to be assumed, as old or incomplete ones do; if they
        cannot be read and the arguments are used instead.

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
            return image.chunk(chunks if chunks != "auto" else sizes_to_read(image))
        return image
    place = local_path(store)
    if place is not None and is_file_of_images(place):
        url_options(store, storage_options)
        part = Part(path, series, level)
        return to_image(_image_of_file(place, part, dims, chunks), name=name, **cast("Any", overrides))
    if series is not None:
        raise ValueError(f"series={series!r} goes with TIFF files; leave it out, or name a path in the store")
    by_arguments = any(value is not None for value in (path, dims, scale, translation, units))
    array = _one_array(open_node(store, path, storage_options=storage_options), level, by_arguments=by_arguments)
    return image_of_array(array, dims, chunks=chunks, name=name, by_arguments=by_arguments, **cast("Any", overrides))


def names_axes(store: Any, path: str | None = None) -> bool:
    """Whether a stored array, or a file, says what its axes are, so that `open_image` guesses none of their names."""
    place = local_path(store)
    if place is not None and is_file_of_images(place):
        return True
    array = _one_array(open_node(store, path))
    return _pyramid_above(array) is not None or dimension_names(array) is not None


def image_to_join(source: Any, dims: Sequence[Hashable]) -> Any:
    """Return an array that joins an image of these dims: labelled by what is stated of it, or bare."""
    if isinstance(source, xr.Dataset) or is_ngff_image(source):
        return to_image(source)
    if not isinstance(source, str | os.PathLike) and not is_zarr(source):
        return source
    if names_axes(source):
        return open_image(source)
    array = _one_array(open_node(source))
    return image_of_array(array, tuple(map(str, dims)) if len(dims) == array.ndim else None).data


def image_of_array(
    array: zarr.Array[Any],
    dims: Sequence[str] | str | None = None,
    *,
    chunks: Any = "auto",
    packed: bool = False,
    name: str | None = None,
    by_arguments: bool = False,
    **overrides: Any,
) -> xr.DataArray:
    """Return a stored array as `open_image` does; `packed`: with its values as they are stored.

    `by_arguments`: metadata that cannot be read are a warning, as the caller states what the array is.
    """
    labelled = _labelled(array, dims, chunks, packed=packed, by_arguments=by_arguments)
    image = to_image(labelled, name=name or _name_of(labelled, array), **overrides)
    image.encoding = labelled.encoding
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
    packing = found.packing
    if packing is None and (packing := Packing.of(variable.attrs, variable.dtype)) is not None:
        variable = xr.Variable(names, packing.decoded(variable, "image").data, without_packing(variable.attrs))
    name = "image" if found.name in {*names, *coordinates} else found.name
    image = xr.DataArray(variable, coordinates, name=name)
    image.encoding = {} if packing is None else packing.encoding
    return image


def _labelled(
    array: zarr.Array[Any], dims: Sequence[str] | str | None, chunks: Any, *, packed: bool, by_arguments: bool
) -> xr.DataArray:
    """Label an array by what is known of it; other `dims` than the stored ones take nothing but the attributes."""
    stored = None
    try:
        described = _pyramid_above(array)
        is_broken = False
    except BROKEN as error:
        if not by_arguments:
            raise ValueError(f"{error}; {REMEDY}") from error
        described, is_broken = None, True
        # The caller of open_image.
        warnings.warn(
            f"the metadata of {array.store_path} are not used, as they cannot be read ({error})",
            UserWarning,
            stacklevel=4,
        )
    if described is not None:
        pyramid, index = described
        pyramid.warn_of_metadata(stacklevel=4)
        pyramid = dataclasses.replace(pyramid, chunks=chunks)
        stored = pyramid.level(index, packed=packed or None).rename(pyramid.name)
    else:
        # Coordinates are found in the same documents.
        with suppress(*(BROKEN if is_broken else ())):
            stored = labelled_by_names(array, chunks, packed=packed)
    if stored is not None and (dims is None or tuple(dims) == stored.dims):
        return stored
    attrs = {key: value for key, value in array.attrs.asdict().items() if key not in ENCODING_ATTRIBUTES}
    # Labels first, of a stand-in without values, because chunks may be given by the names of the dims.
    names = cast("tuple[str, ...]", to_image(np.broadcast_to(np.zeros((), array.dtype), array.shape), dims).dims)
    image = to_image(lazy_array(array, chunks, names), names)
    packing = None if packed else packing_of(array)
    if packing is not None:
        image = image.copy(data=packing.decoded(image.variable, "image").data)
    image = image.assign_attrs(attrs)
    image.encoding = encoding_of(array, image.dims, packing)
    return image


def _pyramid_above(array: zarr.Array[Any]) -> tuple[StoredPyramid, int] | None:
    """Return the pyramid of which OME-NGFF metadata of a group above an array name it as a level, and its number."""
    for group, relative in ancestors(array):
        multiscales = parse_multiscales(group.attrs.asdict())
        if multiscales is None or relative not in (paths := [dataset.path for dataset in multiscales.datasets]):
            continue
        # A level that the metadata name and that is gone is no reason not to open another.
        levels = zip(multiscales.datasets, nodes_at(group, paths), strict=True)
        there = [(dataset, node) for dataset, node in levels if isinstance(node, zarr.Array)]
        described = dataclasses.replace(multiscales, datasets=tuple(dataset for dataset, _ in there))
        stored = StoredPyramid.as_listed(group, described, [node for _, node in there]).finest_first()
        # What the metadata state is found to be wrong where positions are made of it.
        return (stored, stored.paths.index(relative)) if stored.levels else None
    return None


def missing_values_of(level: xr.DataArray, recipe: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    """Return the values of a level that stand for missing ones: by its attributes, and by the recipe of its pyramid.

    The recipe of a level that is stored is found beside it.
    """
    array = source_array(level.data)
    if recipe is None and array is not None:
        with suppress(*BROKEN):
            described = _pyramid_above(array)
            recipe = None if described is None else described[0].recipe
    return missing_values(level.attrs, level.dtype, (recipe or {}).get("nodata"))


def _one_array(node: zarr.Array[Any] | zarr.Group, level: int = 0, *, by_arguments: bool = False) -> zarr.Array[Any]:
    """Return the array that a node stands for, of a pyramid a level."""
    try:
        arrays = StoredPyramid.by_ngff(node).arrays if holds_image(node) else None
    except BROKEN as error:
        if isinstance(node, zarr.Group) and by_arguments and not level:
            return only_array(node)
        raise ValueError(f"{error}; {REMEDY}") from error
    if arrays is not None:
        if not 0 <= level < len(arrays):
            raise ValueError(f"level={level!r} is none of {node.store_path}, which has {len(arrays)}, numbered from 0")
        return arrays[level]
    if level:
        raise ValueError(f"level={level!r} goes with a pyramid, and {node.store_path} is none; leave it out")
    if isinstance(node, zarr.Array):
        return node
    if BUILD_ATTRIBUTE in node.attrs:
        raise ValueError(unfinished(node))
    array = only_array(node)
    # The caller of open_image.
    warn_of_outdated(node, [array.basename], stacklevel=3)
    return array


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
    """Open an OME-Zarr image, from any tool, as a lazy DataTree with coordinates.

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
    stored = StoredPyramid.of(open_node(store, path, storage_options=storage_options), chunks=chunks)
    stored.warn_of_metadata(stacklevel=2)
    tree = stored.tree()
    if stored.is_changing:
        warnings.warn(
            f"a change of {stored.group.store_path} is in progress or was interrupted, so its levels may not match its "
            "base yet; complete it by repeating the call that changed it, such as update_pyramid, with resume=True",
            UserWarning,
            stacklevel=2,
        )
    for label, node in _labels_of(stored, stacklevel=3).items():
        tree[f"{LABELS}/{label}"] = open_pyramid(node, chunks=chunks)
    return tree


def _labels_of(stored: StoredPyramid, *, stacklevel: int) -> dict[str, zarr.Group]:
    """Return the groups of the labels of an image; warn of those that are listed and not there."""
    found = {}
    for label, node in stored.labels.items():
        if holds_image(node):
            found[label] = node
            continue
        warnings.warn(
            f"{stored.group.store_path / LABELS} lists {label!r}, but there is no OME-Zarr image of that name; "
            "these labels are left out",
            UserWarning,
            stacklevel=stacklevel,
        )
    return found


def open_labels(store: Any, path: str | None = None, level: int = 0) -> dict[str, tuple[xr.DataArray, str | None]]:
    """Open a level of the labels of a stored image, each with the method that its metadata name; none of an array."""
    place = local_path(store)
    if place is not None and is_file_of_images(place):
        return {}
    node = open_node(store, path)
    if not holds_image(node):
        return {}
    groups = _labels_of(StoredPyramid.by_ngff(node), stacklevel=3)
    return {
        name: (image_of_array(_one_array(group, level)), stated_method(group.attrs.asdict()))
        for name, group in groups.items()
    }


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
    return holds_image(open_node(store, path))
