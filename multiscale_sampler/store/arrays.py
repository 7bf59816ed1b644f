"""One stored array as a labelled image: dimension names, coordinate arrays beside it, encoding.

No chunk of an image is read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.array.core import normalize_chunks
from zarr.abc.store import Store

from ..files.arrays import FileArray
from ..image.axes import Axis, are_regular, position_tolerance
from ..image.dataarray import MAX_COORDINATE_BYTES, label_array
from ..image.encodings import PREFERRED
from ..image.references import GRID_MAPPING, with_transform_of_axes
from ..image.values import PACKING_ATTRIBUTES, Packing
from ..metadata import IMAGE_LABEL, OMERO, SYSTEMS, Multiscales, unit_name
from .codecs import ZarrFormat
from .limits import limited_array
from .names import V2_DIMENSIONS
from .nodes import check_sizes, dimension_names, storage_unit
from .presence import watched
from .remote import retried_array
from .zarr_internals import nodes_at, values_of

# Attributes that say how the array is stored, not what it is.
ENCODING_ATTRIBUTES = frozenset({V2_DIMENSIONS, "coordinates", *PACKING_ATTRIBUTES})
# What one read brings in: large enough that calls cost little, small enough to be one of several in memory.
BLOCK_LIMIT = "32MiB"
# How far above an array its OME-NGFF group may be ("labels/nuclei/0" is three down).
MOST_ANCESTORS = 3


def ancestors(array: zarr.Array[Any]) -> Iterator[tuple[zarr.Group, str]]:
    """Yield the groups above an array with its path relative to each, also those above a local store's root."""
    store, zarr_format = array.store_path.store, array.metadata.zarr_format
    parts = array.path.split("/") if array.path else []
    for depth in range(len(parts) - 1, max(len(parts) - 1 - MOST_ANCESTORS, -1), -1):
        yield from _group_at(store, "/".join(parts[:depth]), "/".join(parts[depth:]), zarr_format)
    if isinstance(store, zarr.storage.LocalStore):
        root = Path(store.root).absolute()
        above = list(root.parents)[: max(MOST_ANCESTORS - len(parts), 0)]
        for parent in above:
            relative = "/".join([*root.relative_to(parent).parts, *parts])
            yield from _group_at(zarr.storage.LocalStore(parent, read_only=True), "", relative, zarr_format)


def _group_at(store: Store, path: str, relative: str, zarr_format: ZarrFormat) -> Iterator[tuple[zarr.Group, str]]:
    try:
        yield zarr.open_group(store, path=path, mode="r", zarr_format=zarr_format), relative
    except (FileNotFoundError, NotADirectoryError):
        return


def level_image(
    array: zarr.Array[Any], values: Any, axes: Sequence[Axis], multiscales: Multiscales, *, packed: bool
) -> xr.DataArray:
    """Label the values of one level, or what stands for them, by what is known of its array; `packed`: as stored.

    Positions come from the transformations, labels and dates from coordinate arrays beside it.
    """
    names = tuple(axis.name for axis in axes)
    attrs = {key: value for key, value in array.attrs.asdict().items() if key not in ENCODING_ATTRIBUTES}
    image = label_array(values, axes, name="image", attrs=attrs)
    # Of labels, 0 is background, and an id is never missing.
    packing = None if packed or multiscales.image_label is not None else packing_of(array)
    if packing is not None:
        image = image.copy(data=packing.decoded(image.variable, "image").data)
    by_name = {axis.name: axis for axis in axes}
    kept = {
        key: _with_what_is_known(variable, image.coords[key].attrs) if key in names else variable
        for key, variable in _stored_coordinates(array, names).items()
        if key not in names or _agrees(variable, by_name[key])
    }
    channel = next((axis for axis in axes if axis.type == "channel"), None)
    labels = multiscales.channel_names
    # Where channels have positions, as wavelengths, these say more than labels made from them.
    unplaced = channel is not None and (channel.scale, channel.translation) == (1.0, 0.0)
    if channel is not None and unplaced and channel.name not in kept and labels and len(labels) == channel.size:
        kept[channel.name] = xr.Variable((channel.name,), np.asarray(labels))
    # Levels that were added beside a base share its grid mapping.
    image = with_transform_of_axes(image.assign_coords(kept), axes)
    image = _with_display(image, multiscales, None if channel is None else channel.name)
    image.encoding = encoding_of(array, image.dims, packing)
    return image


def _agrees(stored: xr.Variable, axis: Axis) -> bool:
    """Whether a stored coordinate is not other evenly spaced positions than the transformations state."""
    if stored.dtype.kind not in "iuf" or not are_regular(stored.values):
        return True
    units = stored.attrs.get("units")
    if None not in (units, axis.unit) and unit_name(str(units)) != unit_name(axis.unit):
        return False
    positions = axis.coordinates()
    if stored.dtype.kind == "f" and stored.dtype.itemsize < positions.dtype.itemsize:
        positions = positions.astype(stored.dtype)
    tolerance = position_tolerance(positions, axis.scale)
    return bool(np.abs(stored.values.astype(np.float64) - positions.astype(np.float64)).max() <= tolerance)


def _with_what_is_known(stored: xr.Variable, known: Mapping[Any, Any]) -> xr.Variable:
    """Return a stored coordinate of numbers with what else the metadata say of its axis."""
    if stored.dtype.kind not in "iuf":
        return stored
    return xr.Variable(stored.dims, stored.data, {**known, **stored.attrs})


def _with_display(image: xr.DataArray, multiscales: Multiscales, channel: str | None) -> xr.DataArray:
    """Attach how to display an image: to its channels, or to itself where it has none or is one of labels.

    With it go the coordinate systems that it is placed in besides its own.
    """
    if multiscales.systems is not None:
        image = image.assign_attrs({SYSTEMS: copy.deepcopy(dict(multiscales.systems))})
    if multiscales.image_label is not None:
        # Its version is one of the store.
        said = {key: value for key, value in multiscales.image_label.items() if key != "version"}
        return image.assign_attrs({IMAGE_LABEL: copy.deepcopy(said)})
    if multiscales.omero is not None:
        shown = {OMERO: copy.deepcopy(dict(multiscales.omero))}
        if channel is None:
            return image.assign_attrs(shown)
        image.coords[channel].attrs.update(shown)
    return image


def labelled_by_names(array: zarr.Array[Any], chunks: Any, *, packed: bool = False) -> xr.DataArray | None:
    """Label an array as xarray does: by its dimension names and the coordinates beside it; `packed`: as stored."""
    names = dimension_names(array)
    if names is None or len(set(names)) != len(names):
        return None
    attrs = {key: value for key, value in array.attrs.asdict().items() if key not in ENCODING_ATTRIBUTES}
    variable = xr.Variable(names, lazy_array(array, chunks, names), attrs)
    packing = None if packed else packing_of(array)
    decoded = variable if packing is None else packing.decoded(variable, array.basename)
    image = xr.DataArray(decoded, coords=_stored_coordinates(array, names), name=own_name(array))
    image.encoding = encoding_of(array, image.dims, packing)
    return image


def own_name(array: zarr.Array[Any]) -> str | None:
    """Return the name that an array's path gives an image; a number, as of a level, is none."""
    return None if not array.basename or array.basename.isdigit() else array.basename


def packing_of(array: zarr.Array[Any]) -> Packing | None:
    """Return how the values of an array are packed, None where they are what is stored."""
    attributes = array.attrs.asdict()
    by_xarray = array.metadata.zarr_format == 2 and V2_DIMENSIONS in attributes
    return Packing.of(attributes, array.dtype, array.fill_value if by_xarray else None)


def packing_attributes(array: zarr.Array[Any]) -> dict[str, Any]:
    """Return the attributes of packing as an array has them, for others that are packed alike."""
    attributes = array.attrs.asdict()
    return {key: attributes[key] for key in PACKING_ATTRIBUTES if key in attributes}


def _stored_coordinates(array: zarr.Array[Any], names: Sequence[str]) -> dict[Any, Any]:
    """Return the coordinates that xarray finds beside an array, decoded and in memory."""
    group = next((group for group, relative in ancestors(array) if "/" not in relative), None)
    if group is None:
        return {}
    sizes = dict(zip(names, array.shape, strict=True))
    stated = f"{array.attrs.get('coordinates', '')} {group.attrs.get('coordinates', '')}"
    listed = f"{stated} {array.attrs.get(GRID_MAPPING, '')}".replace(":", " ").split()
    keys = [key for key in dict.fromkeys((*names, *listed)) if key != array.basename]
    beside = {
        key: node
        for key, node in zip(keys, nodes_at(group, keys), strict=True)
        if isinstance(node, zarr.Array) and _is_coordinate(key, node, sizes)
    }
    variables = {
        key: _small_variable(node, values)
        for (key, node), values in zip(beside.items(), values_of(map(limited_array, beside.values())), strict=True)
    }
    try:
        return dict(xr.conventions.decode_cf_variables(variables, {})[0])
    except (ValueError, ImportError, OverflowError):
        # A calendar that numpy has no dates for: the numbers are still the positions.
        return dict(xr.conventions.decode_cf_variables(variables, {}, decode_times=False)[0])


def _is_coordinate(key: str, array: zarr.Array[Any], sizes: Mapping[str, int]) -> bool:
    """Whether an array can be a coordinate of an image of these sizes: along some of its axes, and fit to be read."""
    names = dimension_names(array) or ((key,) if array.ndim == 1 else ())
    if len(names) != array.ndim or array.nbytes > MAX_COORDINATE_BYTES:
        return False
    return all(sizes.get(name) == size for name, size in zip(names, array.shape, strict=True))


def _small_variable(array: zarr.Array[Any], values: np.ndarray[Any, Any]) -> xr.Variable:
    if values.dtype.kind == "T":
        values = np.asarray(values.tolist(), dtype=str)
    attrs = {key: value for key, value in array.attrs.asdict().items() if key not in ENCODING_ATTRIBUTES}
    packing = packing_of(array)
    stated = {} if packing is None else packing.attributes
    return xr.Variable(dimension_names(array) or (array.basename,)[: array.ndim], values, {**attrs, **stated})


def lazy_array(array: zarr.Array[Any] | FileArray, chunks: Any, names: Sequence[str]) -> da.Array:
    """Return an array as a dask array; `chunks` as ``xarray.open_zarr`` takes them, by the `names` of its axes."""
    check_sizes(array)
    unit = storage_unit(array)
    if isinstance(chunks, str) and chunks == "auto":
        chunks = normalize_chunks("auto", array.shape, limit=BLOCK_LIMIT, dtype=array.dtype, previous_chunks=unit)
    elif isinstance(chunks, Mapping) or chunks is None:
        given = dict(chunks or {})
        if unknown := [dim for dim in given if dim not in names]:
            raise ValueError(f"chunks name {unknown!r}, but the dims are {tuple(names)!r}; name only those")
        chunks = tuple(given.get(name, size) for name, size in zip(names, unit, strict=True))
    # Or dask would read an empty part, to see what parts are.
    meta = np.empty((0,) * len(array.shape), array.dtype)
    read = watched(limited_array(retried_array(array))) if isinstance(array, zarr.Array) else array
    return cast("da.Array", da.from_array(read, chunks=chunks, meta=meta))


def encoding_of(array: zarr.Array[Any], dims: Sequence[Any], packing: Packing | None = None) -> dict[str, Any]:
    """Return the ``encoding`` of an array's image: how it is stored along its dims, and how its values are packed."""
    stored: dict[str, Any] = {"chunks": array.chunks, PREFERRED: dict(zip(dims, storage_unit(array), strict=True))}
    stored |= {"shards": array.shards} if array.shards else {}
    return stored if packing is None else {**stored, **packing.encoding}
