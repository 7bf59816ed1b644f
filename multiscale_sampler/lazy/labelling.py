"""Levels as labelled images: their coordinates follow from those of the base.

A coordinate along axes that are not reduced stays what it is. One that is an index is computed by its `Axis`. For any
other, the method decides where a value sits: at the first sample of its window, whose coordinate it gets, or at the
centre. Then the level has what the kind of the coordinate allows:

- numbers (floats, integers with units) the mean, longitudes on the circle;
- dates and durations the mean, rounded to their unit;
- classes the value that is most frequent in the window: bools, texts, integers without units, and all that CF's
  ``flag_values`` or ``flag_masks`` say is one. A mean of classes is none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from ..image.axes import Axis, is_longitude
from ..image.boxes import Block
from ..image.dataarray import coordinate_variable, with_coordinates_of
from ..image.dates import are_dates, mean_dates, spread_over_windows
from ..image.grids import attributes_of_level
from ..image.references import GRID_MAPPING, with_own_names, with_own_transform, with_transform_of_axes
from ..image.values import stated_classes, without_packing
from ..methods.reducers import get_reducer
from ..plan.plan import Plan

CoordinateKind: TypeAlias = Literal["numbers", "longitudes", "dates", "classes"]

# Any of these attributes says that integers are measured or counted, and not names of classes.
QUANTITIES = ("units", "standard_name", "axis")


def label_level(image: xr.DataArray, data: Any, plan: Plan, index: int) -> xr.DataArray:
    """Return the values of a level as a DataArray with its coordinates, and with name and attrs of the image.

    Along axes that are not reduced, coordinates are those of the image: their bits, dtype, attributes and index.
    """
    level = plan.levels[index]
    coords: dict[Any, xr.Variable] = {}
    kept = [a.name for a, f in zip(level.axes, level.factors, strict=True) if f == 1 and a.name in image.coords]
    for axis in level.axes:
        if axis.name not in kept:
            attrs = image.coords[axis.name].attrs if axis.name in image.coords else {}
            coords[axis.name] = coordinate_variable(axis, attrs)
    for name, coordinate in image.coords.items():
        if name not in image.dims:
            coords[name] = _coarsened_coordinate(coordinate, plan, level.factors)
    stated = attributes_of_level(image.attrs, plan.levels[0].axes, level.axes)
    attrs = stated if level.keeps_packing else without_packing(stated)
    labelled = xr.DataArray(data, coords=coords, dims=plan.dims, name=image.name, attrs=attrs)
    labelled.encoding = {key: image.encoding[key] for key in (GRID_MAPPING,) if key in image.encoding}
    labelled = with_coordinates_of(labelled, image, kept)
    return with_own_names(with_own_transform(labelled, image, plan.levels[0].axes, level.axes))


def label_base(image: xr.DataArray, axes: Sequence[Axis]) -> xr.DataArray:
    """Return an image as the base of a pyramid: with names of its own variables, and the numbers of its own grid."""
    return with_own_names(with_transform_of_axes(image, axes))


def _coarsened_coordinate(coordinate: xr.DataArray, plan: Plan, factors: tuple[int, ...]) -> xr.Variable:
    """Return a coordinate that is not an index, reduced as the positions along its dims are."""
    by_dim = {dim: factor for dim, factor in zip(plan.dims, factors, strict=True) if dim in coordinate.dims}
    if all(factor == 1 for factor in by_dim.values()):
        return coordinate.variable
    sizes = {dim: coordinate.sizes[dim] // factor * factor for dim, factor in by_dim.items()}
    # As in `coarsened_size`: the last, partial window counts unless it is trimmed.
    whole = coordinate.variable.isel({dim: slice(n) for dim, n in sizes.items()} if plan.boundary == "trim" else {})
    if plan.reducer.position == "first":
        return whole.isel({dim: slice(None, None, factor) for dim, factor in by_dim.items()})
    values = np.asarray(whole.values)
    reduced = _reduced(values, tuple(by_dim[str(dim)] for dim in whole.dims), _kind_of(coordinate, values))
    return xr.Variable(whole.dims, reduced, coordinate.attrs)


def _kind_of(coordinate: xr.DataArray, values: Block) -> CoordinateKind:
    """Return what the values of a coordinate are.

    Raises
    ------
    ValueError
        If they are none of these, and cannot be reduced.
    """
    attrs, name, kind = coordinate.attrs, str(coordinate.name), values.dtype.kind
    if are_dates(values):
        return "dates"
    texts = kind in "UST" or (kind == "O" and all(isinstance(each, str) for each in values.flat))
    if texts or kind == "b" or (kind in "iuf" and stated_classes(attrs)):
        return "classes"
    if kind in "iuf" and is_longitude(name, attrs.get("units")):
        return "longitudes"
    if kind in "iu" and not any(attrs.get(key) for key in QUANTITIES):
        return "classes"
    if kind in "iuf":
        return "numbers"
    raise ValueError(
        f"the coordinate {name!r} ({coordinate.dtype}) along {coordinate.dims!r} cannot be averaged; use "
        f"method='nearest', or leave it out with image.drop_vars({name!r})"
    )


def _reduced(values: Block, factors: tuple[int, ...], kind: CoordinateKind) -> Block:
    if kind == "dates":
        return mean_dates(values, factors)
    if kind == "classes":
        return _modes(values, factors)
    degrees = values.astype(np.float64)
    return _means_on_circle(degrees, factors) if kind == "longitudes" else _by_method("mean", degrees, factors)


def _modes(values: Block, factors: tuple[int, ...]) -> Block:
    if values.dtype.kind in "biuf":
        return _by_method("mode", values, factors)
    names, numbers = np.unique(values, return_inverse=True)
    return names[_by_method("mode", numbers.reshape(values.shape), factors)]


def _means_on_circle(degrees: Block, factors: tuple[int, ...]) -> Block:
    """Return the mean angle of every window, as near to that of its first sample as it can be written."""
    firsts = degrees[tuple(slice(None, None, factor) for factor in factors)]
    turned = (degrees - spread_over_windows(firsts, factors, degrees.shape) + 180.0) % 360.0 - 180.0
    return firsts + _by_method("mean", turned, factors)


def _by_method(method: str, values: Block, factors: tuple[int, ...]) -> Block:
    reduction = get_reducer(method).bind(values.dtype)
    return reduction.finish(reduction.first(values, factors, tuple((0, 0) for _ in factors)), ())
