"""To and from the objects of other libraries: ngff-zarr's ``Multiscales``, images of ITK and of ITK-Wasm.

Labels are translated, values are handed over as they are. The other libraries are imported where they are used; to
take an object over, none is needed but the one that made it.
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
from .image.axes import Axis, guess_axis_type
from .image.dataarray import image_axes, label_array, to_image, transposed_image, unread
from .image.orientation import DIRECTION, ORIGIN, orientations_along
from .image.tree import NODE_PREFIX, RECIPE_ATTRIBUTE, assemble, levels_of_tree
from .messages import check_choice
from .metadata import LATEST_VERSION, OMERO, TYPE_ORDER, axis_entry, check_exportable, ngff_line, ngff_order
from .metadata.display import stated_display
from .tasks.crew import usable_scheduler

ItkLibrary: TypeAlias = "Literal['itk', 'itkwasm']"
Matrix: TypeAlias = "npt.NDArray[np.float64]"

# Attribute of a coordinate: which way it leads through a body, in the words of RFC 4 of OME-NGFF.
ORIENTATION = "orientation"
SPATIAL_DIMS = ("z", "y", "x")
ITK_DTYPES = frozenset(("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"))


def _required(module: str, distribution: str, caller: str) -> Any:
    return required(module, f"{caller} needs {distribution}", distribution)


# --- ngff-zarr -------------------------------------------------------------------------------------------------


def to_ngff_multiscales(tree: xr.DataTree) -> Any:
    """Return a pyramid as ngff-zarr's ``Multiscales``, lazily.

    The axes come in the order of OME-NGFF: time, channel, space.

    Parameters
    ----------
    tree
        A pyramid, from `to_multiscale` or `open_pyramid`. Labels of the image are pyramids of their own, as
        ``tree["labels/nuclei"]``.

    Returns
    -------
    ngff_zarr.NgffMultiscales
        The same values, spacing, positions, units, types of axes, names of channels and name.

    Raises
    ------
    ModuleNotFoundError
        If ngff-zarr is not installed.
    ValueError
        If OME-NGFF cannot say the axes.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> tree = ms.to_multiscale(ms.to_image(np.ones((64, 64), "uint8"), scale=0.5), [2, 4])
    >>> multiscales = ms.to_ngff_multiscales(tree)  # doctest: +SKIP
    >>> multiscales.images[2].scale  # doctest: +SKIP
    {'y': 2.0, 'x': 2.0}
    """
    ngff_zarr = _required("ngff_zarr", "ngff-zarr", "to_ngff_multiscales")
    levels = [transposed_image(level, ngff_order(image_axes(level))) for level in levels_of_tree(tree)]
    axes = [image_axes(level) for level in levels]
    for each in axes:
        check_exportable(each)
    entries, orientations = [axis_entry(axis) for axis in axes[0]], _orientations(levels[0])
    images = [
        _ngff_image(ngff_zarr, level, each, entries, orientations) for level, each in zip(levels, axes, strict=True)
    ]
    said = _required("ngff_zarr.v04.zarr_metadata", "ngff-zarr", "to_ngff_multiscales")
    # The latest version warns of nothing that an image states.
    omero = stated_display(levels[0], axes[0], LATEST_VERSION).omero
    # From these, ngff-zarr makes the metadata of any version.
    metadata = said.Metadata(
        axes=[said.Axis(**{**entry, "orientation": orientations.get(entry["name"])}) for entry in entries],
        datasets=[_ngff_dataset(said, number, image) for number, image in enumerate(images)],
        coordinateTransformations=None,
        name=images[0].name,
        type=tree.attrs.get(RECIPE_ATTRIBUTE, {}).get("method"),
        omero=_ngff_omero(said, omero),
    )
    multiscales = ngff_zarr.Multiscales(images=images, metadata=metadata)
    multiscales.root_attributes = {key: value for key, value in tree.attrs.items() if key != RECIPE_ATTRIBUTE}
    return multiscales


def _ngff_dataset(said: Any, number: int, image: Any) -> Any:
    """Return what ngff-zarr's metadata say of a level."""
    scale, translation = list(image.scale.values()), list(image.translation.values())
    return said.Dataset(f"{NODE_PREFIX}{number}/{image.name}", [said.Scale(scale), said.Translation(translation)])


def _ngff_omero(said: Any, omero: Mapping[str, Any] | None) -> Any:
    """Return how to display channels as ngff-zarr has it, None unless all of it is said."""
    channels = (omero or {}).get("channels", ())
    if not channels or any("color" not in channel or "window" not in channel for channel in channels):
        return None
    keys = ("min", "max", "start", "end")
    windows = [said.OmeroWindow(**{key: channel["window"].get(key) for key in keys}) for channel in channels]
    shown = zip(channels, windows, strict=True)
    return said.Omero([said.OmeroChannel(each["color"], window, each.get("label")) for each, window in shown])


def _ngff_image(
    ngff_zarr: Any,
    level: xr.DataArray,
    axes: Sequence[Axis],
    entries: Sequence[Mapping[str, str]],
    orientations: Mapping[str, Any],
) -> Any:
    """Return a level as ngff-zarr's image, with the numbers that its metadata say."""
    dims = [axis.name for axis in axes]
    lines = [ngff_line(axis) for axis in axes]
    uncustomary = {entry["name"]: entry["type"] for entry in entries if entry["type"] != guess_axis_type(entry["name"])}
    labels = next((axis.values for axis in axes if axis.type == "channel" and axis.values is not None), None)
    return ngff_zarr.NgffImage(
        data=da.asarray(unread(level)),
        dims=tuple(dims),
        scale={dim: scale for dim, (scale, _, _) in zip(dims, lines, strict=True)},
        translation={dim: translation for dim, (_, translation, _) in zip(dims, lines, strict=True)},
        name=str(level.name),
        axes_units={entry["name"]: entry["unit"] for entry in entries if "unit" in entry} or None,
        axes_types=uncustomary or None,
        axes_orientations=dict(orientations) or None,
        channel_names=None if labels is None else [str(label) for label in labels],
    )


def _orientations(level: xr.DataArray) -> dict[str, Any]:
    """Return the orientations of axes that an image's coordinates tell."""
    words = {str(dim): level.coords[dim].attrs.get(ORIENTATION) for dim in level.dims if dim in level.coords}
    if not any(words.values()):
        return {}
    known = _required("ngff_zarr.rfc4", "ngff-zarr", "to_ngff_multiscales")
    values = known.AnatomicalOrientationValues
    return {dim: known.AnatomicalOrientation(value=values(word)) for dim, word in words.items() if word}


def from_ngff_multiscales(multiscales: Any) -> xr.DataTree:
    """Return ngff-zarr's ``Multiscales`` as a pyramid, lazily.

    Parameters
    ----------
    multiscales
        From ``ngff_zarr.to_multiscales`` or ``ngff_zarr.from_ngff_zarr``.

    Returns
    -------
    xarray.DataTree
        The same values; coordinates from scale, translation, units and names of channels; how these are displayed as
        `open_pyramid` has it; the same name.

    Examples
    --------
    >>> import multiscale_sampler as ms
    >>> multiscales = ngff_zarr.from_ngff_zarr("p.ome.zarr")  # doctest: +SKIP
    >>> ms.from_ngff_multiscales(multiscales)["scale1/image"]  # doctest: +SKIP
    """
    first = multiscales.images[0]
    names = (multiscales.metadata.name, first.name)
    name = next((name for name in names if name and "/" not in name and name not in first.dims), "image")
    labels = first.channel_names or _omero_labels(multiscales.metadata)
    # Not every image says all of its axes; the metadata do.
    said = {axis.name: axis for axis in getattr(multiscales.metadata, "axes", None) or ()}
    levels = [_level_of(image, said, name, labels) for image in multiscales.images]
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


def _level_of(image: Any, said: Mapping[str, Any], name: str, labels: Sequence[str] | None) -> xr.DataArray:
    units = {dim: axis.unit for dim, axis in said.items()} | dict(image.axes_units or {})
    types = {dim: axis.type for dim, axis in said.items()} | dict(image.axes_types or {})
    orientations = {dim: axis.orientation for dim, axis in said.items()} | dict(image.axes_orientations or {})
    axes = []
    for dim, size in zip(image.dims, image.data.shape, strict=True):
        stated = str(types.get(dim))
        kind = stated if stated in TYPE_ORDER else guess_axis_type(dim)
        named = kind == "channel" and labels is not None and len(labels) == size
        values = np.asarray(labels, dtype=str) if named else None
        scale, translation = float(image.scale.get(dim, 1.0)), float(image.translation.get(dim, 0.0))
        axes.append(Axis(dim, size, scale, translation, units.get(dim), kind, values))
    level = label_array(da.asarray(image.data), axes, name=name)
    for dim in image.dims:
        if (orientation := orientations.get(dim)) is not None:
            # Of stores that it has read, ngff-zarr keeps what is written.
            value = orientation["value"] if isinstance(orientation, Mapping) else orientation.value
            level.coords[dim].attrs[ORIENTATION] = str(value)
    return level


# --- ITK -------------------------------------------------------------------------------------------------------


def from_itk(
    image: Any,
    *,
    units: str | Mapping[str, str] | None = None,
    name: str | None = None,
    anatomical: bool = False,
) -> xr.DataArray:
    """Label an image of ITK or ITK-Wasm: its axes reversed (``z, y, x``), spacing and origin as coordinates.

    Where its direction is not the identity, the coordinates run along the image's own axes from its origin, and the
    attributes ``direction`` (rows and columns in the order of the dims, as ``itk.xarray_from_image`` has it) and
    ``origin`` say how they lie in space. Levels and crops keep both, and `to_itk` puts them in the right place.

    Parameters
    ----------
    image
        An ``itk.Image`` or ``itkwasm.Image`` of 2 or 3 dimensions. Its values are not copied.
    units
        Unit of the spatial axes, or a mapping by dim; ITK itself knows none.
    name
        Name of the image; default: its own, else "image".
    anatomical
        Whether it shows a body, in the directions that ITK means: then the axes get their anatomical orientation
        (as `to_image`), those that lie between two directions none.

    Returns
    -------
    xarray.DataArray
        The image; components of its pixels, if there are several, along ``c``, the last axis.

    Raises
    ------
    TypeError
        If it is no such image.
    ValueError
        If it has another number of dimensions.

    Examples
    --------
    >>> import multiscale_sampler as ms
    >>> image = ms.from_itk(itk.imread("head.nrrd"), units="millimeter")  # doctest: +SKIP
    >>> ms.write_pyramid(image, "head.ome.zarr")  # doctest: +SKIP
    """
    values, spacing, first, direction, own_name = (
        _from_wasm(image) if hasattr(image, "imageType") else _from_native(image)
    )
    dimension = len(spacing)
    if dimension not in (2, 3):
        raise ValueError(f"the image has {dimension!r} dimensions; pass its parts of 2 or 3, one by one")
    spatial = SPATIAL_DIMS[-dimension:]
    # "ITK uses LPS": x to the left, y to the back, z upwards.
    words = orientations_along(direction, "LPS") if anatomical else ()
    labelled = to_image(
        values,
        spatial if values.ndim == dimension else (*spatial, "c"),
        scale=dict(zip(spatial, spacing[::-1].tolist(), strict=True)),
        translation=dict(zip(spatial, first[::-1].tolist(), strict=True)),
        units=units,
        name=name or own_name or None,
        orientation={dim: word for dim, word in zip(spatial[::-1], words, strict=False) if word is not None},
    )
    if (direction == np.eye(dimension)).all():
        return labelled
    return labelled.assign_attrs({DIRECTION: np.flip(direction).tolist(), ORIGIN: first[::-1].tolist()})


def _from_native(image: Any) -> tuple[npt.NDArray[Any], Matrix, Matrix, Matrix, str]:
    if not hasattr(image, "GetBufferedRegion") or not hasattr(image, "GetDirection"):
        raise TypeError(f"{type(image).__name__!r} is no itk.Image or itkwasm.Image; label arrays with to_image")
    itk = _required("itk", "itk", "from_itk")
    direction = np.array(itk.array_from_matrix(image.GetDirection()), np.float64)
    start = image.GetBufferedRegion().GetIndex()
    spacing, first = _spacing_and_first(image.GetSpacing(), image.GetOrigin(), direction, start)
    return np.asarray(itk.array_view_from_image(image)), spacing, first, direction, image.GetObjectName()


def _from_wasm(image: Any) -> tuple[npt.NDArray[Any], Matrix, Matrix, Matrix, str]:
    dimension = len(image.spacing)
    direction = np.asarray(image.direction, np.float64).reshape(dimension, dimension)
    region = getattr(image, "bufferedRegion", None)
    start = region.index if region is not None else [0] * dimension
    spacing, first = _spacing_and_first(image.spacing, image.origin, direction, start)
    return np.asarray(image.data), spacing, first, direction, image.name


def _spacing_and_first(spacing: Any, origin: Any, direction: Matrix, start: Any) -> tuple[Matrix, Matrix]:
    """Return the spacing, and where the first pixel is that there is: the one at the origin has index 0."""
    steps = np.array([float(step) for step in spacing])
    offset = direction @ (steps * [int(index) for index in start])
    return steps, np.array([float(position) for position in origin]) + offset


def to_itk(image: Any, *, library: ItkLibrary = "itk") -> Any:
    """Return an image, such as a level of a pyramid, as one of ITK or ITK-Wasm; its values are computed.

    Parameters
    ----------
    image
        An image, or an array that `to_image` can label, with 2 or 3 spatial axes and at most one of channels. ``z``,
        ``y`` and ``x`` are ITK's third, second and first axis; axes of other names in the reverse of their order.
    library
        "itk" for an ``itk.Image``, "itkwasm" for an ``itkwasm.Image``.

    Raises
    ------
    ModuleNotFoundError
        If the library is not installed.
    ValueError
        If the axes are none of an image of ITK, which is evenly spaced.
    TypeError
        If the library has no images of that dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.ones((4, 6), "uint8"), scale={"y": 2.0, "x": 0.5})
    >>> ms.to_itk(image).GetSpacing()  # doctest: +SKIP
    itkVectorD2 ([0.5, 2])
    """
    check_choice("library", library, ("itk", "itkwasm"))
    module = _required(library, library, "to_itk")
    image = to_image(image)
    spatial, channels = _itk_order(image_axes(image))
    spacing, first, direction = _itk_grid(spatial, image.attrs)
    if str(image.dtype.newbyteorder("=")) not in ITK_DTYPES:
        raise TypeError(f"ITK has no images of dtype {str(image.dtype)!r}; convert it, as in image.astype('uint8')")
    ordered = image.transpose(*(axis.name for axis in (*spatial, *channels)))
    computed = ordered.compute(scheduler=usable_scheduler())
    values = np.ascontiguousarray(computed.values, dtype=image.dtype.newbyteorder("="))
    if library == "itk":
        return _native(module, values, spacing, first, direction, str(image.name), vector=bool(channels))
    components = values.shape[-1] if channels else 1
    return module.Image(
        imageType=module.ImageType(
            dimension=len(spatial),
            componentType=str(values.dtype),
            pixelType="VariableLengthVector" if channels else "Scalar",
            components=components,
        ),
        name=str(image.name),
        origin=first.tolist(),
        spacing=spacing.tolist(),
        direction=direction,
        size=list(values.shape[: len(spatial)][::-1]),
        data=values,
    )


def _native(
    itk: Any, values: npt.NDArray[Any], spacing: Matrix, first: Matrix, direction: Matrix, name: str, *, vector: bool
) -> Any:
    try:
        made = itk.image_from_array(values, is_vector=vector)
    except TypeError as error:
        raise TypeError(
            f"this build of itk has no images of dtype {str(values.dtype)!r}{' with channels' if vector else ''}; "
            "convert it, as in image.astype('float32')"
        ) from error
    made.SetSpacing(spacing.tolist())
    made.SetOrigin(first.tolist())
    made.SetDirection(direction)
    made.SetObjectName(name)
    return made


def _itk_order(axes: Sequence[Axis]) -> tuple[list[Axis], list[Axis]]:
    """Return the spatial axes, ITK's last one first, and the axis of channels, if there is one."""
    spatial = [axis for axis in axes if axis.type == "space"]
    channels = [axis for axis in axes if axis.type == "channel"]
    if len(spatial) not in (2, 3) or len(channels) > 1 or len(spatial) + len(channels) < len(axes):
        raise ValueError(
            f"an image of ITK has 2 or 3 spatial axes and at most one of channels, this one has "
            f"{[axis.name for axis in axes]!r}; select along the others, as in image.isel(t=0)"
        )
    for axis in spatial:
        if not axis.is_regular:
            raise ValueError(f"ITK knows spacing and origin only, but the coordinates of {axis.name!r} are not even")
    if all(axis.name in SPATIAL_DIMS for axis in spatial):
        spatial.sort(key=lambda axis: SPATIAL_DIMS.index(axis.name))
    return spatial, channels


def _itk_grid(spatial: Sequence[Axis], attrs: Mapping[Any, Any]) -> tuple[Matrix, Matrix, Matrix]:
    """Return spacing, origin and direction in ITK's order of axes; an axis that descends becomes a direction."""
    count = len(spatial)
    spacing = np.array([axis.scale for axis in reversed(spatial)])
    first = np.array([axis.translation for axis in reversed(spatial)])
    direction = np.flip(np.array(attrs.get(DIRECTION, np.eye(count)), np.float64))
    fixed = np.flip(np.array(attrs.get(ORIGIN, first[::-1]), np.float64)) if DIRECTION in attrs else first
    if direction.shape != (count, count) or fixed.shape != (count,):
        raise ValueError(
            f"the attributes {DIRECTION!r} and {ORIGIN!r} of the image are not those of {count!r} spatial axes; keep a "
            "slice as an axis of one sample, image.isel(z=[0]), or take them away"
        )
    return np.abs(spacing), fixed + direction @ (first - fixed), direction * np.sign(spacing)
