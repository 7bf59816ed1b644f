"""Images with some of their axes reversed, values and coordinates together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import xarray as xr

from .axes import Axis
from .dataarray import image_axes
from .dates import are_dates, date_line
from .grids import attributes_of_level


def descending_axes(axes: Sequence[Axis]) -> tuple[str, ...]:
    """Return the names of the axes of space and time whose evenly spaced positions descend."""
    return tuple(axis.name for axis in axes if axis.type != "channel" and _has_negative_scale(axis))


def _has_negative_scale(axis: Axis) -> bool:
    if axis.values is None:
        return axis.scale < 0
    line = date_line(axis.values) if are_dates(axis.values) else None
    return line is not None and line[0] < 0


def reversed_image(
    image: xr.DataArray, axes: Sequence[Axis], dims: Collection[str]
) -> tuple[xr.DataArray, tuple[Axis, ...]]:
    """Return an image with some axes reversed, lazily, and its axes; attributes of its grid follow."""
    along = [dim for dim in image.dims if dim in dims]
    if not along:
        return image, tuple(axes)
    turned = image.isel(dict.fromkeys(along, slice(None, None, -1)))
    for dim in along:
        if dim in turned.coords and "spacing" in turned.coords[dim].attrs:
            attrs = turned.coords[dim].attrs
            turned.coords[dim].attrs = {**attrs, "spacing": -attrs["spacing"]}
    turned.encoding = dict(image.encoding)
    turned_axes = image_axes(turned)
    turned.attrs = attributes_of_level(image.attrs, axes, turned_axes)
    return turned, turned_axes
