"""Axes to a labelled DataArray and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from .axes import Axis, AxisType, guess_axis_type, line_through
from .orientation import OrientationOption, orientations_of


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
    said = {
        "unit": coordinate.attrs.get("units"),
        "type": coordinate.attrs.get("axis_type"),
        "orientation": orientation if isinstance(orientation, str) else None,
    }
    if size == 1 and positions.dtype.kind in "iuf":
        spacing = float(coordinate.attrs.get("spacing", 1.0))
        return Axis(dim, size, spacing, float(positions[0]), **said)
    line = line_through(positions)
    if line is None:
        return Axis(dim, size, values=positions, **said)
    return Axis(dim, size, *line, **said)


def coordinate_variable(axis: Axis, attrs: Mapping[Any, Any] | None = None) -> xr.Variable:
    """Return the coordinate of an axis as an xarray variable; `attrs` are kept beside units and spacing."""
    attributes = dict(attrs or {})
    if axis.unit is not None:
        attributes["units"] = axis.unit
    if axis.type != guess_axis_type(axis.name):
        attributes["axis_type"] = axis.type
    if axis.orientation is not None:
        attributes["orientation"] = axis.orientation
    if axis.is_regular:
        attributes["spacing"] = axis.scale
    return xr.Variable((axis.name,), axis.coordinates(), attributes)


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
        a DataArray (SpatialImage included), or a Dataset of one variable. Coordinates, attrs, name and units
        that it has are kept; dimensions without a coordinate get one.
    dims
        Names of the axes, as a sequence or as one string of single letters ("zyx"). **A guess stands in for
        them** where an unlabelled array has two axes (``y, x``) or three (``z, y, x``); any other unlabelled
        array must name its dims.
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
        Which way the coordinates of spatial axes grow through a body: three letters that name where x, y and z lead
        ("RAS": to the right, to the front, upwards; "LPS"), or words by dim, as ``{"z": "superior-to-inferior"}``,
        those of RFC 4 of OME-NGFF. They become the attribute ``orientation`` of the coordinates.

    Returns
    -------
    xarray.DataArray
        The image, its data untouched.

    Raises
    ------
    ValueError
        If dims are needed and missing, do not fit the array, or if an option names an axis that is not there.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.zeros((4, 6)), scale={"y": 0.5, "x": 0.25}, units="micrometer")
    >>> image.x.values
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.25])
    """
    image = _labelled(array, dims)
    axes = image_axes(image)
    names, types = [axis.name for axis in axes], [axis.type for axis in axes]
    spatial = [dim for dim, kind in zip(names, types, strict=True) if kind == "space"]
    scales = _by_dim("scale", scale, names, spatial)
    translations = _by_dim("translation", translation, names, spatial)
    unit_names = _by_dim("units", units, names, spatial)
    oriented = {} if orientation is None else orientations_of(orientation, spatial)
    labels = {} if channel_names is None else _channel_labels(image, types, channel_names)
    coords = {}
    for axis in axes:
        dim = axis.name
        changed = dataclasses.replace(
            axis,
            scale=float(scales.get(dim, axis.scale)),
            translation=float(translations.get(dim, axis.translation)),
            unit=unit_names.get(dim, axis.unit),
            values=labels.get(dim, None if _is_moved(axis, scales, translations) else axis.values),
            orientation=oriented.get(dim, axis.orientation),
        )
        if changed != axis or dim in oriented or dim not in image.coords:
            attrs = image.coords[dim].attrs if dim in image.coords else {}
            coords[dim] = coordinate_variable(changed, attrs)
    image = image.assign_coords(coords)
    return image.rename(name or image.name or "image")


def _is_moved(axis: Axis, scales: Mapping[str, float], translations: Mapping[str, float]) -> bool:
    """Whether an axis gets new positions; labels, as of channels, have none and stay."""
    labels = axis.values is not None and axis.values.dtype.kind not in "iufmM"
    return not labels and (axis.name in scales or axis.name in translations)


def _labelled(array: Any, dims: Sequence[str] | str | None) -> xr.DataArray:
    if isinstance(array, xr.Dataset):
        if len(array.data_vars) != 1:
            raise ValueError(
                f"a Dataset of {len(array.data_vars)!r} variables ({', '.join(map(str, array.data_vars))}) is not "
                "one image; pass one of them, as in dataset['name']"
            )
        array = next(iter(array.data_vars.values()))
    if isinstance(array, xr.DataArray):
        if dims is not None and tuple(dims) != array.dims:
            raise ValueError(
                f"dims={tuple(dims)!r} do not fit the DataArray, which is labelled {array.dims!r} already; "
                "leave dims out, or rename its dimensions with array.rename(...)"
            )
        return array
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        array = np.asarray(array)
    elif not isinstance(array, np.ndarray) and not hasattr(array, "dask"):
        import dask.array as da

        array = da.from_array(array, chunks=getattr(array, "chunks", None) or "auto")
    # By way of a Variable: a DataArray would take over the name of a dask array.
    return xr.DataArray(xr.Variable(_checked_dims(array.shape, dims), array))


def _checked_dims(shape: tuple[int, ...], dims: Sequence[str] | str | None) -> tuple[str, ...]:
    if dims is None:
        if len(shape) not in DEFAULT_DIMS:
            raise ValueError(
                f"an unlabelled array of {len(shape)!r} axes (shape {shape!r}) could mean anything; "
                "name its axes, as in dims=('c', 'y', 'x')"
            )
        return DEFAULT_DIMS[len(shape)]
    named = tuple(dims)
    if len(named) != len(shape) or len(set(named)) != len(named) or not all(named):
        raise ValueError(f"dims={named!r} do not fit an array of shape {shape!r}; give {len(shape)!r} different names")
    return named


def _by_dim(
    option: str, value: T | Sequence[T] | Mapping[str, T] | None, dims: Sequence[str], spatial: Sequence[str]
) -> dict[str, T]:
    """Return an option's values by dimension, from any of the forms that it may be given in."""
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


def _channel_labels(
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
    raise ValueError(f"channel_names were given, but none of the dims {image.dims!r} is a channel axis; name one 'c'")


PerAxis: TypeAlias = "float | Sequence[float] | Mapping[str, float]"


DEFAULT_DIMS = {2: ("y", "x"), 3: ("z", "y", "x")}


T = TypeVar("T")


def unread(image: xr.DataArray) -> Any:
    """Return an image's array, without loading one that xarray reads lazily."""
    if image.chunks is not None or image.variable._in_memory:
        return image.data
    # In the chunks that are stored, so that a region reads those that it covers and no more.
    return image.chunk(image.encoding.get("preferred_chunks") or {}).data
