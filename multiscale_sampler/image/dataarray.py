"""Images: DataArrays with coordinates made from axes (`to_image`), and the axes read back from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt
import xarray as xr

from .axes import Axis, line_through
from .encodings import sizes_to_read, transposed_encoding
from .kinds import AxisType, axis_type_of, guess_axis_type
from .orientation import OrientationOption, orientations_of
from .xarray_internals import holds_values_in_memory

# A number for the spatial axes, one for each axis, or by dim.
PerAxis: TypeAlias = "float | Sequence[float] | Mapping[str, float]"
# Coordinates are loaded into memory; a larger array is not taken for one.
MAX_COORDINATE_BYTES = 64 * 2**20
DEFAULT_DIMS = {2: ("y", "x"), 3: ("z", "y", "x")}
# What an image of ngff-zarr has.
NGFF_AXES = ("units", "types", "orientations")
NGFF_IMAGE = ("axes_units", "scale", "translation", "dims", "data")
OptionValue = TypeVar("OptionValue")


def image_axes(image: xr.DataArray) -> tuple[Axis, ...]:
    """Return the axes of a labelled array, read from its dimension coordinates.

    A dimension without a coordinate has scale 1 and translation 0. The unit is the coordinate's attribute
    ``units``, the orientation its attribute ``orientation``; the spacing of a single sample is its attribute
    ``spacing`` (else 1).
    """
    return tuple(_axis_of(image, str(dim), size) for dim, size in image.sizes.items())


def _axis_of(image: xr.DataArray, dim: str, size: int) -> Axis:
    if dim not in image.coords:
        return Axis(dim, size)
    coordinate = image.coords.variables[dim]
    positions = np.asarray(coordinate.values)
    orientation = coordinate.attrs.get("orientation")
    stated = {
        "unit": coordinate.attrs.get("units"),
        "type": coordinate.attrs.get("axis_type") or axis_type_of(dim, positions, coordinate.attrs),
        "orientation": orientation if isinstance(orientation, str) else None,
    }
    if size == 1 and positions.dtype.kind in "iuf":
        spacing = float(coordinate.attrs.get("spacing", 1.0))
        return Axis(dim, size, spacing, float(positions[0]), **stated)
    line = line_through(positions)
    if line is None:
        return Axis(dim, size, values=positions, **stated)
    return Axis(dim, size, *line, **stated)


def coordinate_variable(axis: Axis, attrs: Mapping[Any, Any] | None = None) -> xr.Variable:
    """Return the coordinate variable of an axis, with `attrs` and those for its unit, kind, orientation and spacing."""
    attributes = dict(attrs or {})
    if axis.unit is not None:
        attributes["units"] = axis.unit
    if axis.orientation is not None:
        attributes["orientation"] = axis.orientation
    if axis.is_regular:
        attributes["spacing"] = axis.scale
    positions = axis.coordinates()
    if axis.type != axis_type_of(axis.name, positions, {**attributes, "axis_type": None}):
        attributes["axis_type"] = axis.type
    return xr.Variable((axis.name,), positions, attributes)


def label_array(array: Any, axes: Sequence[Axis], *, name: str, attrs: Mapping[Any, Any] | None = None) -> xr.DataArray:
    """Return `array` as an image whose dimension coordinates are those of `axes`."""
    coords = {axis.name: coordinate_variable(axis) for axis in axes}
    variable = xr.Variable([axis.name for axis in axes], array, attrs)
    return xr.DataArray(variable, coords=coords, name=name)


def to_image(
    array: Any,
    dims: Sequence[str] | str | None = None,
    *,
    scale: PerAxis | None = None,
    translation: PerAxis | None = None,
    units: str | Mapping[str, str] | None = None,
    name: str | None = None,
    channel_names: Sequence[str] | None = None,
    orientation: OrientationOption | None = None,
) -> xr.DataArray:
    """Label an array: dimensions, coordinates at the voxel centres, units, name.

    Parameters
    ----------
    array
        A numpy or dask array, anything with ``shape``, ``dtype`` and slicing (taken lazily, nothing is read),
        a DataArray (SpatialImage included), a Dataset of one variable, an ``NgffImage`` of ngff-zarr, or a path or URL,
        which `open_image` opens. Coordinates, attrs, name and units are kept; dimensions without a coordinate get one.
    dims
        Names of the axes, as a sequence or as one string of single letters ("zyx"). **Guessed** for unlabelled
        arrays of two axes (``y, x``) or three (``z, y, x``); required for any other unlabelled array.
    scale
        Distance between samples, default 1: a number for the spatial axes, a mapping by dim, or one per axis.
    translation
        Position of the first sample, default 0; the forms of `scale`.
    units
        Unit of the spatial axes, or a mapping by dim.
    name
        Name of the image; default: the array's own, else "image".
    channel_names
        Labels along the channel axis.
    orientation
        Anatomical directions in which the coordinates of spatial axes grow: three letters for x, y and z ("RAS": to
        the right, anterior, superior; "LPS"), or a mapping from dims to the terms of OME-NGFF RFC 4, as in
        ``{"z": "superior-to-inferior"}``. They become the attribute ``orientation`` of the coordinates.

    Returns
    -------
    xarray.DataArray
        The image, with the same data.

    Raises
    ------
    ValueError
        If dims are required and missing, or do not fit the array, or if an option names a dim that does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.zeros((4, 6)), scale={"y": 0.5, "x": 0.25}, units="micrometer")
    >>> image.x.values
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.25])
    """
    image = _with_dims(array, dims)
    axes = image_axes(image)
    names, types = [axis.name for axis in axes], [axis.type for axis in axes]
    spatial = [dim for dim, kind in zip(names, types, strict=True) if kind == "space"]
    scales = _by_dim("scale", scale, names, spatial)
    translations = _by_dim("translation", translation, names, spatial)
    unit_names = _by_dim("units", units, names, spatial)
    oriented = {} if orientation is None else orientations_of(orientation, spatial)
    labels = {} if channel_names is None else _labels_of_channels(image, types, channel_names)
    coords = {}
    for axis in axes:
        dim = axis.name
        changed = dataclasses.replace(
            axis,
            scale=float(scales.get(dim, axis.scale)),
            translation=float(translations.get(dim, axis.translation)),
            unit=unit_names.get(dim, axis.unit),
            values=labels.get(dim, None if _has_new_positions(axis, scales, translations) else axis.values),
            orientation=oriented.get(dim, axis.orientation),
        )
        if changed != axis or dim in oriented or dim not in image.coords:
            attrs = image.coords[dim].attrs if dim in image.coords else {}
            coords[dim] = coordinate_variable(changed, attrs)
    image = image.assign_coords(coords)
    return image.rename(name or image.name or "image")


def image_and_axes(array: Any) -> tuple[xr.DataArray, tuple[Axis, ...]]:
    """Return an array as `to_image` labels it, and its axes.

    A public function that takes an image begins with it: axes are read from coordinates, which costs as much as
    planning does, and whoever needs them later is passed them.
    """
    image = _with_dims(array, None)
    axes = image_axes(image)
    missing = {axis.name: coordinate_variable(axis) for axis in axes if axis.name not in image.coords}
    return image.assign_coords(missing).rename(image.name or "image"), axes


def _has_new_positions(axis: Axis, scales: Mapping[str, float], translations: Mapping[str, float]) -> bool:
    """Whether options change the positions of an axis; labels such as channel names are not positions."""
    labels = axis.values is not None and axis.values.dtype.kind not in "iufmM"
    return not labels and (axis.name in scales or axis.name in translations)


def is_ngff_image(image: Any) -> bool:
    """Whether something is an ``NgffImage`` of ngff-zarr."""
    return not isinstance(image, xr.DataArray) and all(hasattr(image, name) for name in NGFF_IMAGE)


def label_ngff_image(
    image: Any,
    *,
    units: Mapping[str, Any],
    types: Mapping[str, Any],
    orientations: Mapping[str, Any],
    name: str | None = None,
    channel_names: Sequence[str] | None = None,
) -> xr.DataArray:
    """Return an image of ngff-zarr as a labelled array; what the caller knows of its axes is given by dim."""
    axes = []
    for dim, size in zip(image.dims, image.data.shape, strict=True):
        stated = str(types.get(dim))
        kind = stated if stated in get_args(AxisType) else guess_axis_type(dim)
        named = kind == "channel" and channel_names is not None and len(channel_names) == size
        values = np.asarray(channel_names, dtype=str) if named else None
        scale, translation = float(image.scale.get(dim, 1.0)), float(image.translation.get(dim, 0.0))
        orientation = orientations.get(dim)
        if orientation is not None:
            # For stores that it has read, ngff-zarr keeps the JSON object.
            orientation = str(orientation["value"] if isinstance(orientation, Mapping) else orientation.value)
        axes.append(Axis(dim, size, scale, translation, units.get(dim), cast("AxisType", kind), values, orientation))
    return label_array(image.data, axes, name=name or image.name or "image")


def _opened(path: str | os.PathLike[str]) -> xr.DataArray:
    """Return the image at a path or URL; the package of stores, which stands above, is loaded when one comes."""
    package = __name__.partition(".")[0]
    return cast("xr.DataArray", import_module(package).open_image(path))


def _as_array(array: Any) -> Any:
    """Return what is passed as an image in a form that has a shape: opened, or labelled by what it states.

    Raises
    ------
    TypeError
        If it is a mapping, of which it is not known what is the image.
    """
    if isinstance(array, str | os.PathLike):
        return _opened(array)
    if is_ngff_image(array):
        units, types, orientations = (getattr(array, f"axes_{each}", None) or {} for each in NGFF_AXES)
        names = getattr(array, "channel_names", None)
        return label_ngff_image(array, units=units, types=types, orientations=orientations, channel_names=names)
    if isinstance(array, Mapping) and not isinstance(array, xr.Dataset):
        raise TypeError(
            f"a mapping with the keys {list(array)[:5]!r} is not an image; label an array of it with to_image, as in "
            "to_image(array, dims='zyx', scale=0.5), or open a store with open_image"
        )
    return array


def refuse_unknown_sizes(array: Any) -> None:
    """Refuse an array of dask whose sizes are not known before it is computed.

    Raises
    ------
    ValueError
        If there is one.
    """
    shape = tuple(getattr(array, "shape", ()))
    if any(size != size for size in shape):
        raise ValueError(
            f"an array of shape {shape!r} has a size that is not known before it is computed, as after a selection by "
            "a mask; compute it with array.compute_chunk_sizes(), of a DataArray with image.data.compute_chunk_sizes()"
        )


def _with_dims(array: Any, dims: Sequence[str] | str | None) -> xr.DataArray:
    array = _as_array(array)
    if isinstance(array, xr.Dataset):
        if len(array.data_vars) != 1:
            raise ValueError(
                f"a Dataset of {len(array.data_vars)!r} variables ({', '.join(map(str, array.data_vars))}) is not "
                "one image; pass one of them, as in dataset['name']"
            )
        array = next(iter(array.data_vars.values()))
    refuse_unknown_sizes(array)
    if isinstance(array, xr.DataArray):
        if dims is not None and tuple(dims) != array.dims:
            raise ValueError(
                f"dims={tuple(dims)!r} do not fit the DataArray, which already has the dims {array.dims!r}; "
                "leave dims out, or rename its dimensions with array.rename(...)"
            )
        return array
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        array = np.asarray(array)
    elif not isinstance(array, np.ndarray) and not hasattr(array, "dask"):
        import dask.array as da

        array = da.from_array(array, chunks=getattr(array, "chunks", None) or "auto")
    # From a Variable, since a DataArray would take its name from the dask array.
    return xr.DataArray(xr.Variable(_checked_dims(array.shape, dims), array))


def _checked_dims(shape: tuple[int, ...], dims: Sequence[str] | str | None) -> tuple[str, ...]:
    if dims is None:
        if len(shape) not in DEFAULT_DIMS:
            raise ValueError(
                f"an unlabelled array of shape {shape!r} needs names for its {len(shape)!r} axes; "
                "pass them, as in dims=('c', 'y', 'x')"
            )
        return DEFAULT_DIMS[len(shape)]
    named = tuple(dims)
    if len(named) != len(shape) or len(set(named)) != len(named) or not all(named):
        raise ValueError(f"dims={named!r} do not fit an array of shape {shape!r}; give {len(shape)!r} different names")
    return named


def _by_dim(
    option: str,
    value: OptionValue | Sequence[OptionValue] | Mapping[str, OptionValue] | None,
    dims: Sequence[str],
    spatial: Sequence[str],
) -> dict[str, OptionValue]:
    """Return an option's values by dimension, from any of the forms that it accepts."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        if unknown := [dim for dim in value if dim not in dims]:
            raise ValueError(f"{option} names {unknown!r}, but the dims are {tuple(dims)!r}; name only those")
        return dict(value)
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        if len(value) != len(dims):
            raise ValueError(
                f"{option}={value!r} has {len(value)!r} entries for the {len(dims)!r} dims {tuple(dims)!r}; "
                "give one per dim, a mapping by dim, or a single value for the spatial ones"
            )
        return dict(zip(dims, value, strict=True))
    return dict.fromkeys(spatial, value)


def _labels_of_channels(
    image: xr.DataArray, types: Sequence[AxisType | None], channel_names: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    for dim, kind in zip(image.dims, types, strict=True):
        if kind == "channel":
            if len(channel_names) != image.sizes[dim]:
                raise ValueError(
                    f"channel_names={list(channel_names)!r} are {len(channel_names)!r} names for the "
                    f"{image.sizes[dim]!r} channels of {dim!r}; give one per channel"
                )
            return {str(dim): np.asarray(channel_names, dtype=str)}
    raise ValueError(f"channel_names needs a channel axis, and none of the dims {image.dims!r} is one; name it 'c'")


def with_coordinates_of(image: xr.DataArray, other: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """Return an image with some coordinates of another one as they are, lazy indexes included."""
    if not names:
        return image
    others = [name for name in other.coords if name not in names]
    return image.assign_coords(other.coords.to_dataset().drop_vars(others).coords)


def has_stated_positions(image: xr.DataArray, dim: str, axis: Axis | None = None) -> bool:
    """Whether somebody said where the samples along a dim are, and they are not just counted as `to_image` does.

    `axis` is that of the dim, if it has been read already.
    """
    if dim not in image.coords:
        return False
    axis = axis or _axis_of(image, dim, image.sizes[dim])
    counted = axis.is_regular and (axis.scale, axis.translation, axis.unit) == (1.0, 0.0, None)
    # The attribute tells coordinates that were made for an image from those that came with it.
    return not (counted and "spacing" in image.coords[dim].attrs)


def without_counted_positions(image: xr.DataArray) -> xr.DataArray:
    """Return an image without coordinates of dims whose positions nobody stated."""
    return image.drop_vars(
        [dim for dim in image.dims if dim in image.coords and not has_stated_positions(image, str(dim))]
    )


def transposed_image(image: xr.DataArray, order: Sequence[int]) -> xr.DataArray:
    """Return an image with its axes in another order, given by their numbers, as are its stored chunks and shards."""
    dims = [image.dims[axis] for axis in order]
    transposed = image.transpose(*dims)
    transposed.encoding = transposed_encoding(image, dims)
    return transposed


def unread(image: xr.DataArray) -> Any:
    """Return the array of an image; one that xarray reads lazily becomes a dask array and is not loaded."""
    if image.chunks is not None or holds_values_in_memory(image.variable):
        return image.data
    # In stored chunks, so that a region reads only those that it covers. dask cannot size blocks of Python objects.
    return image.chunk({} if image.dtype.hasobject else sizes_to_read(image)).data
