"""Conversion to and from objects of other libraries: ngff-zarr's ``Multiscales``, images of ITK and ITK-Wasm.

Only metadata are converted; values are passed on unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from .extras import required
from .image.axes import Axis
from .image.dataarray import image_axes, label_ngff_image, to_image, transposed_image, unread
from .image.grids import SPATIAL_DIMS, FloatArray, Grid, grid_in_space, spatial_order
from .image.kinds import guess_axis_type
from .image.orientation import DIRECTION, ORIGIN, orientations_along
from .image.tree import NODE_PREFIX, RECIPE_ATTRIBUTE, assemble, levels_of_tree
from .messages import check_choice
from .metadata import LATEST_VERSION, OMERO, axis_entry, check_exportable, ngff_line, ngff_order
from .metadata.display import stated_display
from .tasks.crew import usable_scheduler

ItkLibrary: TypeAlias = "Literal['itk', 'itkwasm']"

# Attribute of a coordinate: the anatomical direction in which it increases, a term of RFC 4 of OME-NGFF.
ORIENTATION = "orientation"
ITK_DTYPES = frozenset(("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"))


def _module_for(caller: str, module: str, distribution: str) -> Any:
    return required(module, f"{caller} needs {distribution}", distribution)


# --- ngff-zarr -------------------------------------------------------------------------------------------------


def to_ngff_multiscales(tree: xr.DataTree) -> Any:
    """Convert a pyramid to ngff-zarr's ``Multiscales``, lazily.

    The axes are transposed to the order of OME-NGFF: time, channel, space.

    Parameters
    ----------
    tree
        A pyramid, from `to_multiscale` or `open_pyramid`. Labels are not included; pass them as pyramids of their own,
        as in ``tree["labels/nuclei"]``.

    Returns
    -------
    ngff_zarr.NgffMultiscales
        With the same values, spacing, positions, units, types of axes, channel names and name.

    Raises
    ------
    ModuleNotFoundError
        If ngff-zarr is not installed.
    ValueError
        If OME-NGFF cannot express the axes.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> tree = ms.to_multiscale(ms.to_image(np.ones((64, 64), "uint8"), scale=0.5), [2, 4])
    >>> multiscales = ms.to_ngff_multiscales(tree)  # doctest: +SKIP
    >>> multiscales.images[2].scale  # doctest: +SKIP
    {'y': 2.0, 'x': 2.0}
    """
    ngff_zarr = _module_for("to_ngff_multiscales", "ngff_zarr", "ngff-zarr")
    levels = [transposed_image(level, ngff_order(image_axes(level))) for level in levels_of_tree(tree)]
    axes = [image_axes(level) for level in levels]
    for each in axes:
        check_exportable(each)
    entries, orientations = [axis_entry(axis) for axis in axes[0]], _orientations(levels[0])
    images = [
        _ngff_image(ngff_zarr, level, each, entries, orientations) for level, each in zip(levels, axes, strict=True)
    ]
    # ngff-zarr converts these to the version that it writes.
    classes = _module_for("to_ngff_multiscales", "ngff_zarr.v04.zarr_metadata", "ngff-zarr")
    # The latest version can express all that an image states, so that nothing is left out with a warning.
    omero = stated_display(levels[0], axes[0], LATEST_VERSION).omero
    metadata = classes.Metadata(
        axes=[classes.Axis(**{**entry, "orientation": orientations.get(entry["name"])}) for entry in entries],
        datasets=[_ngff_dataset(classes, number, image) for number, image in enumerate(images)],
        coordinateTransformations=None,
        name=images[0].name,
        type=tree.attrs.get(RECIPE_ATTRIBUTE, {}).get("method"),
        omero=_ngff_omero(classes, omero),
    )
    multiscales = ngff_zarr.Multiscales(images=images, metadata=metadata)
    multiscales.root_attributes = {key: value for key, value in tree.attrs.items() if key != RECIPE_ATTRIBUTE}
    return multiscales


def _ngff_dataset(classes: Any, number: int, image: Any) -> Any:
    """Return the metadata of a level as an object of ngff-zarr."""
    scale, translation = list(image.scale.values()), list(image.translation.values())
    return classes.Dataset(
        f"{NODE_PREFIX}{number}/{image.name}", [classes.Scale(scale), classes.Translation(translation)]
    )


def _ngff_omero(classes: Any, omero: Mapping[str, Any] | None) -> Any:
    """Return display settings of channels as an object of ngff-zarr; None unless all have a color and a window."""
    channels = (omero or {}).get("channels", ())
    if not channels or any("color" not in channel or "window" not in channel for channel in channels):
        return None
    keys = ("min", "max", "start", "end")
    windows = [classes.OmeroWindow(**{key: channel["window"].get(key) for key in keys}) for channel in channels]
    return classes.Omero(
        [
            classes.OmeroChannel(channel["color"], window, channel.get("label"))
            for channel, window in zip(channels, windows, strict=True)
        ]
    )


def _ngff_image(
    ngff_zarr: Any,
    level: xr.DataArray,
    axes: Sequence[Axis],
    entries: Sequence[Mapping[str, str]],
    orientations: Mapping[str, Any],
) -> Any:
    """Return a level as an image of ngff-zarr."""
    dims = [axis.name for axis in axes]
    lines = [ngff_line(axis) for axis in axes]
    unusual_types = {
        entry["name"]: entry["type"] for entry in entries if entry["type"] != guess_axis_type(entry["name"])
    }
    channels = next((axis.values for axis in axes if axis.type == "channel" and axis.values is not None), None)
    return ngff_zarr.NgffImage(
        data=da.asarray(unread(level)),
        dims=tuple(dims),
        scale={dim: scale for dim, (scale, _, _) in zip(dims, lines, strict=True)},
        translation={dim: translation for dim, (_, translation, _) in zip(dims, lines, strict=True)},
        name=str(level.name),
        axes_units={entry["name"]: entry["unit"] for entry in entries if "unit" in entry} or None,
        axes_types=unusual_types or None,
        axes_orientations=dict(orientations) or None,
        channel_names=None if channels is None else [str(name) for name in channels],
    )


def _orientations(level: xr.DataArray) -> dict[str, Any]:
    """Return the anatomical orientations of an image's axes as objects of ngff-zarr, by dimension."""
    words = {str(dim): level.coords[dim].attrs.get(ORIENTATION) for dim in level.dims if dim in level.coords}
    if not any(words.values()):
        return {}
    rfc4 = _module_for("to_ngff_multiscales", "ngff_zarr.rfc4", "ngff-zarr")
    terms = rfc4.AnatomicalOrientationValues
    return {dim: rfc4.AnatomicalOrientation(value=terms(word)) for dim, word in words.items() if word}


def from_ngff_multiscales(multiscales: Any) -> xr.DataTree:
    """Convert ngff-zarr's ``Multiscales`` to a pyramid, lazily.

    Parameters
    ----------
    multiscales
        From ``ngff_zarr.to_multiscales`` or ``ngff_zarr.from_ngff_zarr``.

    Returns
    -------
    xarray.DataTree
        The pyramid, with the same values and name, coordinates from scale, translation, units and channel names, and
        display settings where `open_pyramid` puts them.

    Examples
    --------
    >>> import multiscale_sampler as ms
    >>> multiscales = ngff_zarr.from_ngff_zarr("p.ome.zarr")  # doctest: +SKIP
    >>> ms.from_ngff_multiscales(multiscales)["scale1/image"]  # doctest: +SKIP
    """
    first = multiscales.images[0]
    names = (multiscales.metadata.name, first.name)
    name = next((name for name in names if name and "/" not in name and name not in first.dims), "image")
    channel_names = first.channel_names or _omero_labels(multiscales.metadata)
    # An image may have types, units and orientations of only some of its axes; the metadata have the others.
    axes = {axis.name: axis for axis in getattr(multiscales.metadata, "axes", None) or ()}
    levels = [_level_of(image, axes, name, channel_names) for image in multiscales.images]
    if getattr(multiscales.metadata, "omero", None) is not None:
        for level in levels:
            channel = next((axis.name for axis in image_axes(level) if axis.type == "channel"), None)
            carrier = level if channel is None else level.coords[channel]
            carrier.attrs[OMERO] = dataclasses.asdict(multiscales.metadata.omero)
    tree = assemble([level.to_dataset() for level in levels])
    tree.attrs = dict(getattr(multiscales, "root_attributes", None) or {})
    return tree


def _omero_labels(metadata: Any) -> list[str] | None:
    omero = getattr(metadata, "omero", None)
    labels = [channel.label for channel in omero.channels] if omero else []
    return labels if labels and all(labels) else None


def _level_of(
    image: Any, metadata_axes: Mapping[str, Any], name: str, channel_names: Sequence[str] | None
) -> xr.DataArray:
    """Return an image of ngff-zarr as a labelled array; what it states of its axes overrides the metadata's axes."""
    units = {dim: axis.unit for dim, axis in metadata_axes.items()} | dict(image.axes_units or {})
    types = {dim: axis.type for dim, axis in metadata_axes.items()} | dict(image.axes_types or {})
    orientations = {dim: axis.orientation for dim, axis in metadata_axes.items()} | dict(image.axes_orientations or {})
    level = label_ngff_image(
        image, units=units, types=types, orientations=orientations, name=name, channel_names=channel_names
    )
    return level.copy(data=da.asarray(level.data))


# --- ITK -------------------------------------------------------------------------------------------------------


def from_itk(
    image: Any,
    *,
    units: str | Mapping[str, str] | None = None,
    name: str | None = None,
    anatomical: bool = False,
) -> xr.DataArray:
    """Convert an image of ITK or ITK-Wasm to a labelled array with axes ``z, y, x``.

    Its spacing and origin become coordinates along the axes of the image. If its direction is not the identity, the
    attributes ``direction`` (rows and columns in the order of the dimensions, as from ``itk.xarray_from_image``) and
    ``origin`` state how these axes are rotated in space. Levels and crops keep both attributes, and `to_itk` uses them
    to place the pixels.

    Parameters
    ----------
    image
        An ``itk.Image`` or ``itkwasm.Image`` of 2 or 3 dimensions. Its values are not copied.
    units
        Unit of the spatial axes, or a mapping by dimension; images of ITK do not state one.
    name
        Name of the result. Default: the name of the image, else "image".
    anatomical
        Whether the image shows a body in ITK's coordinates (LPS). Each axis then gets its anatomical orientation (as
        in `to_image`), except one that lies halfway between two directions.

    Returns
    -------
    xarray.DataArray
        The image; several components per pixel are along ``c``, the last axis.

    Raises
    ------
    TypeError
        If the argument is not such an image.
    ValueError
        If the image does not have 2 or 3 dimensions.

    Examples
    --------
    >>> import multiscale_sampler as ms
    >>> image = ms.from_itk(itk.imread("head.nrrd"), units="millimeter")  # doctest: +SKIP
    >>> ms.write_pyramid(image, "head.ome.zarr")  # doctest: +SKIP
    """
    values, grid, own_name = _from_wasm(image) if hasattr(image, "imageType") else _from_native(image)
    dimension = len(grid.spacing)
    if dimension not in (2, 3):
        raise ValueError(f"the image has {dimension!r} dimensions, but from_itk takes 2 or 3; convert parts of it")
    spatial = SPATIAL_DIMS[-dimension:]
    # "ITK uses LPS": x to the left, y to the back, z upwards.
    orientations = orientations_along(grid.direction, "LPS") if anatomical else ()
    origin = grid.first[::-1].tolist()
    labelled = to_image(
        values,
        spatial if values.ndim == dimension else (*spatial, "c"),
        scale=dict(zip(spatial, grid.spacing[::-1].tolist(), strict=True)),
        translation=dict(zip(spatial, origin, strict=True)),
        units=units,
        name=name or own_name or None,
        orientation={dim: word for dim, word in zip(spatial[::-1], orientations, strict=False) if word is not None},
    )
    if (grid.direction == np.eye(dimension)).all():
        return labelled
    return labelled.assign_attrs({DIRECTION: np.flip(grid.direction).tolist(), ORIGIN: origin})


def _from_native(image: Any) -> tuple[npt.NDArray[Any], Grid, str]:
    """Return the values, the grid and the name of an ``itk.Image``."""
    if not hasattr(image, "GetBufferedRegion") or not hasattr(image, "GetDirection"):
        raise TypeError(
            f"expected an itk.Image or itkwasm.Image, got an object of type {type(image).__name__!r}; use to_image for "
            "arrays"
        )
    itk = _module_for("from_itk", "itk", "itk")
    direction = np.array(itk.array_from_matrix(image.GetDirection()), np.float64)
    start = image.GetBufferedRegion().GetIndex()
    grid = _grid_of(image.GetSpacing(), image.GetOrigin(), direction, start)
    return np.asarray(itk.array_view_from_image(image)), grid, image.GetObjectName()


def _from_wasm(image: Any) -> tuple[npt.NDArray[Any], Grid, str]:
    """Return the values, the grid and the name of an ``itkwasm.Image``."""
    dimension = len(image.spacing)
    direction = np.asarray(image.direction, np.float64).reshape(dimension, dimension)
    region = getattr(image, "bufferedRegion", None)
    start = region.index if region is not None else [0] * dimension
    return np.asarray(image.data), _grid_of(image.spacing, image.origin, direction, start), image.name


def _grid_of(spacing: Any, origin: Any, direction: FloatArray, start: Any) -> Grid:
    """Return the grid of the pixels from index `start`; ITK's origin is the position of index 0."""
    steps = np.array([float(step) for step in spacing])
    offset = direction @ (steps * [int(index) for index in start])
    return Grid(steps, np.array([float(position) for position in origin]) + offset, direction)


def to_itk(image: Any, *, library: ItkLibrary = "itk") -> Any:
    """Convert an image, such as a level of a pyramid, to an image of ITK or ITK-Wasm.

    The values are computed and loaded into memory.

    Parameters
    ----------
    image
        An image, or an array for `to_image`, with 2 or 3 spatial axes and at most one channel axis. Axes named ``x``,
        ``y`` and ``z`` become ITK's first, second and third axis; axes with other names are reversed.
    library
        "itk" for an ``itk.Image``, "itkwasm" for an ``itkwasm.Image``.

    Returns
    -------
    itk.Image or itkwasm.Image
        With the same values, name, spacing and positions.

    Raises
    ------
    ModuleNotFoundError
        If the library is not installed.
    ValueError
        If the image has other axes, or a spatial axis is not evenly spaced.
    TypeError
        If the library does not support the dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.ones((4, 6), "uint8"), scale={"y": 2.0, "x": 0.5})
    >>> ms.to_itk(image).GetSpacing()  # doctest: +SKIP
    itkVectorD2 ([0.5, 2])
    """
    check_choice("library", library, ("itk", "itkwasm"))
    module = _module_for("to_itk", library, library)
    image = to_image(image)
    spatial, channels = _itk_order(image_axes(image))
    grid = grid_in_space(spatial, image.attrs)
    if str(image.dtype.newbyteorder("=")) not in ITK_DTYPES:
        raise TypeError(f"ITK does not support dtype {str(image.dtype)!r}; convert it, as in image.astype('uint8')")
    ordered = image.transpose(*(axis.name for axis in (*spatial, *channels)))
    computed = ordered.compute(scheduler=usable_scheduler())
    values = np.ascontiguousarray(computed.values, dtype=image.dtype.newbyteorder("="))
    if library == "itk":
        return _native(module, values, grid, str(image.name), vector=bool(channels))
    components = values.shape[-1] if channels else 1
    return module.Image(
        imageType=module.ImageType(
            dimension=len(spatial),
            componentType=str(values.dtype),
            pixelType="VariableLengthVector" if channels else "Scalar",
            components=components,
        ),
        name=str(image.name),
        origin=grid.first.tolist(),
        spacing=grid.spacing.tolist(),
        direction=grid.direction,
        size=list(values.shape[: len(spatial)][::-1]),
        data=values,
    )


def _native(itk: Any, values: npt.NDArray[Any], grid: Grid, name: str, *, vector: bool) -> Any:
    """Return an ``itk.Image``; with `vector`, the last axis of the values is the components of a pixel."""
    try:
        image = itk.image_from_array(values, is_vector=vector)
    except TypeError as error:
        raise TypeError(
            f"this build of itk does not support dtype {str(values.dtype)!r}{' with channels' if vector else ''}; "
            "convert it, as in image.astype('float32')"
        ) from error
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.first.tolist())
    image.SetDirection(grid.direction)
    image.SetObjectName(name)
    return image


def _itk_order(axes: Sequence[Axis]) -> tuple[list[Axis], list[Axis]]:
    """Return the spatial axes, last axis of ITK first, and the channel axis, if there is one."""
    spatial = spatial_order(axes)
    channels = [axis for axis in axes if axis.type == "channel"]
    if len(spatial) not in (2, 3) or len(channels) > 1 or len(spatial) + len(channels) < len(axes):
        raise ValueError(
            f"an ITK image needs 2 or 3 spatial axes and at most one channel axis; this image has the axes "
            f"{[axis.name for axis in axes]!r}; select one position along the others, as in image.isel(t=0)"
        )
    for axis in spatial:
        if not axis.is_regular:
            raise ValueError(
                f"the coordinates of {axis.name!r} are not evenly spaced, as an image of ITK requires; interpolate the "
                f"image to even ones, as in image.interp({axis.name}=...)"
            )
    return spatial, channels
