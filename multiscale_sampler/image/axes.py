"""Where every sample of an image sits: the grid of one axis as a value with an algebra.

The first station of the flow. Every coordinate array of xarray and every ``scale`` and ``translation`` of
OME-NGFF in this package is derived from an `Axis`; no other module adds half a voxel to anything. The module
also owns labelling, the way from an array to an image (`to_image`), because labelling is where an axis begins.

Conventions: a coordinate is the centre of its voxel; sample ``i`` of a regular axis sits at
``translation + scale * i``, computed from the index and never by repeated addition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from .orientation import OrientationOption, orientations_of

AxisType: TypeAlias = Literal["space", "time", "channel"]
Boundary: TypeAlias = Literal["pad", "trim", "exact"]
SamplePosition: TypeAlias = Literal["center", "first"]
PerAxis: TypeAlias = "float | Sequence[float] | Mapping[str, float]"

BOUNDARIES: tuple[Boundary, ...] = ("pad", "trim", "exact")
DEFAULT_DIMS = {2: ("y", "x"), 3: ("z", "y", "x")}
TIME_NAMES = frozenset({"t", "time"})
CHANNEL_NAMES = frozenset({"c", "channel", "band"})

# Coordinates come rounded to a few digits from files; a grid within a millionth of a voxel of a line is one.
REGULARITY_TOLERANCE = 1e-6

T = TypeVar("T")


def guess_axis_type(name: str) -> AxisType:
    """Return the kind of axis that a name stands for in the field's custom.

    This is a guess: ``t`` and ``time`` are time, ``c``, ``channel`` and ``band`` are channels (in upper case
    too), everything else is space. The attribute ``axis_type`` of a coordinate overrules it.
    """
    if name.lower() in TIME_NAMES:
        return "time"
    return "channel" if name.lower() in CHANNEL_NAMES else "space"


def coarsened_size(name: str, size: int, factor: int, boundary: Boundary) -> int:
    """Return the number of windows of `factor` samples on an axis of `size` samples.

    Raises
    ------
    ValueError
        If `boundary` is "exact" and a window would be partial, or if "trim" would leave nothing.
    """
    if boundary == "pad":
        return -(-size // factor)
    if boundary == "exact" and size % factor:
        raise ValueError(
            f"boundary='exact': the size {size!r} of {name!r} is not a multiple of the factor {factor!r}; "
            "use boundary='pad' (reduce the partial window) or 'trim' (leave it out)"
        )
    if size < factor:
        raise ValueError(
            f"boundary={boundary!r}: {name!r} has {size!r} samples, fewer than one window of {factor!r}; "
            "use a smaller factor or boundary='pad'"
        )
    return size // factor


@dataclass(frozen=True, eq=False)
class Axis:
    """The sample positions along one axis.

    A regular axis is a line: sample ``i`` sits at ``translation + scale * i``. An axis whose positions follow
    no line (irregular coordinates, dates, channel names) keeps them in `values`.

    Examples
    --------
    >>> from multiscale_sampler import Axis
    >>> z = Axis("z", 9, scale=50.0, unit="micrometer")
    >>> z.coarsen(2)
    Axis(name='z', size=5, scale=100.0, translation=25.0, unit='micrometer', type='space', values=None, \
orientation=None)
    >>> z.coarsen(2).coordinates()
    array([ 25., 125., 225., 325., 425.])
    """

    name: str
    """Name of the dimension."""
    size: int
    """Number of samples."""
    scale: float = 1.0
    """Distance from a sample to the next, in `unit`; negative on a descending axis."""
    translation: float = 0.0
    """Position of sample 0 (its centre), in `unit`."""
    unit: str | None = None
    """Unit of `scale` and `translation`, in the field's spelling ("micrometer", "second")."""
    type: AxisType | None = None
    """Kind of axis; None means the custom of the name, see `guess_axis_type`."""
    values: npt.NDArray[Any] | None = None
    """Positions or labels, one per sample, where they do not follow a line; otherwise None."""
    orientation: str | None = None
    """Which way coordinates grow through a body, in the words of RFC 4 of OME-NGFF; None where nobody says."""

    def __post_init__(self) -> None:
        """Fill in the kind of axis and check the numbers."""
        if self.type is None:
            object.__setattr__(self, "type", guess_axis_type(self.name))
        if self.size < 1:
            raise ValueError(f"axis {self.name!r} has size {self.size!r}; an axis needs at least one sample")
        if not np.isfinite([self.scale, self.translation]).all() or self.scale == 0:
            raise ValueError(
                f"axis {self.name!r} has scale {self.scale!r} and translation {self.translation!r}; "
                "both must be finite and the scale not zero"
            )
        if self.values is not None and self.values.shape != (self.size,):
            raise ValueError(
                f"axis {self.name!r} of size {self.size!r} has positions of shape {self.values.shape!r}; "
                "give one position per sample"
            )

    def _key(self) -> tuple[Hashable, ...]:
        values = None if self.values is None else (self.values.dtype.str, *self.values.tolist())
        return (self.name, self.size, self.scale, self.translation, self.unit, self.type, values)

    def __eq__(self, other: object) -> bool:
        """Two axes are equal when every sample sits at the same place, in the same unit."""
        return isinstance(other, Axis) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash by the same key that equality compares."""
        return hash(self._key())

    @property
    def is_regular(self) -> bool:
        """Whether the positions follow a line, as OME-NGFF's ``scale`` and ``translation`` can say it."""
        return self.values is None

    def coordinates(self) -> npt.NDArray[Any]:
        """Return the position of every sample: shape ``(size,)``, float64 unless `values` has another dtype."""
        if self.values is not None:
            return self.values
        return self.translation + self.scale * np.arange(self.size, dtype=np.float64)

    def coarsen(self, factor: int, *, boundary: Boundary = "pad", position: SamplePosition = "center") -> Axis:
        """Return the axis whose samples each stand for a window of `factor` samples of this one.

        Parameters
        ----------
        factor
            Samples per window, at least 1.
        boundary
            What becomes of a last, partial window: "pad" keeps it (at the centre that a whole window would
            have, so that the axis stays regular), "trim" leaves it out, "exact" refuses it.
        position
            Where in its window the new sample sits: "center", ``translation + (factor - 1) / 2 * scale``, or
            "first", at the window's first sample.

        Raises
        ------
        ValueError
            If the boundary rule cannot be met, or if labels such as channel names would have to be averaged.
        """
        size = coarsened_size(self.name, self.size, factor, boundary)
        if factor == 1:
            return self
        if self.values is not None:
            return dataclasses.replace(self, size=size, values=self._window_values(factor, size, position))
        offset = (factor - 1) / 2 if position == "center" else 0.0
        return dataclasses.replace(
            self, size=size, scale=self.scale * factor, translation=self.translation + self.scale * offset
        )

    def _window_values(self, factor: int, size: int, position: SamplePosition) -> npt.NDArray[Any]:
        values = cast("npt.NDArray[Any]", self.values)[: size * factor]
        if position == "first":
            return values[::factor]
        if values.dtype.kind in "iuf":
            return _window_means(values.astype(np.float64), factor)
        if values.dtype.kind in "mM":
            return _window_mean_dates(values, factor)
        raise ValueError(
            f"the labels of {self.name!r} ({', '.join(map(repr, values[:3].tolist()))}, ...) cannot be averaged "
            f"over windows of {factor!r}; use method='nearest', which keeps the first, or drop the coordinate"
        )


def _window_means(values: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    starts = np.arange(0, len(values), factor)
    counts = np.minimum(factor, len(values) - starts)
    return np.add.reduceat(values, starts) / counts


def _window_mean_dates(values: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Return the mean date of every window, rounded to the unit, in integers: dates exceed those of float64."""
    counts = values.view(np.int64).tolist()
    windows = [counts[start : start + factor] for start in range(0, len(counts), factor)]
    means = np.array([round(Fraction(sum(window), len(window))) for window in windows], np.int64).view(values.dtype)
    missing = np.logical_or.reduceat(np.isnat(values), np.arange(0, len(values), factor))
    means[missing] = np.array("NaT", values.dtype)
    return means


def position_tolerance(positions: npt.NDArray[Any], step: float) -> float:
    """Return how far positions may be from a line of that spacing and still be on it, given their own precision."""
    precision = float(np.finfo(positions.dtype).eps) if positions.dtype.kind == "f" else 0.0
    return REGULARITY_TOLERANCE * abs(step) + 2 * precision * float(np.abs(positions.astype(np.float64)).max())


def _line_through(positions: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return (scale, translation) of the line that reproduces `positions`, or None if there is none.

    Of the spacings that the numbers suggest, the one that comes closest to every position wins: a grid that
    was made as ``origin + i * 0.1`` comes back with the scale 0.1 and to the bit.
    """
    if positions.dtype.kind not in "iuf" or len(positions) < 2 or not np.isfinite(positions).all():
        return None
    points = positions.astype(np.float64)
    mean_step = float((points[-1] - points[0]) / (len(points) - 1))
    steps = [mean_step, float(points[1] - points[0]), *(float(f"{mean_step:.{n}g}") for n in (6, 9, 12, 15))]
    index = np.arange(len(points), dtype=np.float64)
    best, least = mean_step, np.inf
    for step in steps:
        error = float(np.abs(points[0] + step * index - points).max())
        if error < least:
            best, least = step, error
        if least == 0:
            break
    if mean_step == 0 or least > position_tolerance(positions, mean_step):
        return None
    return best, float(points[0])


def are_regular(positions: npt.NDArray[Any]) -> bool:
    """Whether numbers are the positions of a regular axis."""
    return len(positions) == 1 or _line_through(positions) is not None


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
    line = _line_through(positions)
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
