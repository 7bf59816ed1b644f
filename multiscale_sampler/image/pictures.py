"""How an image lies in a picture: which axis runs across, and whether the other one points up or down."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import xarray as xr

from .axes import LONGITUDE_NAMES, Axis, is_longitude

# Axes in the order in which they take the places of a picture: across, then up or down, then into depth.
ACROSS, UPRIGHT, DEPTH = range(3)
NAMES: Mapping[str, int] = {
    **dict.fromkeys(("x", "easting", *LONGITUDE_NAMES), ACROSS),
    **dict.fromkeys(("y", "northing"), UPRIGHT),
    **dict.fromkeys(("z", "depth", "height", "altitude", "level", "lev", "plev"), DEPTH),
}
# https://cfconventions.org/Data/cf-standard-names/current/build/cf-standard-name-table.html
STANDARD_PLACES: Mapping[str, int] = {
    **dict.fromkeys(("longitude", "grid_longitude", "projection_x_coordinate"), ACROSS),
    **dict.fromkeys(("latitude", "grid_latitude", "projection_y_coordinate"), UPRIGHT),
    **dict.fromkeys(("altitude", "depth", "height", "air_pressure", "model_level_number"), DEPTH),
}
# "axis ... may have one of the values X, Y, Z or T" (CF 4).
AXIS_PLACES = {"X": ACROSS, "Y": UPRIGHT, "Z": DEPTH}
LATITUDE_NAMES = frozenset({"lat", "latitude", "nav_lat", "xlat"})
NORTHERN_STANDARD_NAMES = frozenset({"latitude", "grid_latitude", "projection_y_coordinate"})


def _attributes(image: xr.DataArray, axis: Axis) -> Mapping[Hashable, Any]:
    return image.coords[axis.name].attrs if axis.name in image.coords else {}


def _place(axis: Axis, attrs: Mapping[Hashable, Any]) -> int | None:
    """Return where in a picture an axis belongs, by its CF attributes, unit or name; None if nothing says so."""
    stated = AXIS_PLACES.get(str(attrs.get("axis")).upper(), STANDARD_PLACES.get(str(attrs.get("standard_name"))))
    if stated is not None:
        return stated
    if _is_latitude(axis):
        return UPRIGHT
    if is_longitude(axis.name, axis.unit):
        return ACROSS
    return NAMES.get(axis.name.lower())


def _is_latitude(axis: Axis) -> bool:
    # "the recommended unit of latitude is degrees_north. Also acceptable are degree_north, degree_N, ..." (CF 4.1)
    # A unit of metadata that somebody changed need not be text.
    unit = axis.unit if isinstance(axis.unit, str) else ""
    northern = unit.startswith("degree") and unit.endswith(("N", "north"))
    return northern or axis.name.lower() in LATITUDE_NAMES


def in_picture_order(image: xr.DataArray, axes: Sequence[Axis]) -> list[Axis]:
    """Return axes of an image in the order of their places in a picture: across, up or down, into depth.

    Where it is not known of all of them, or of two that they belong to the same place, the last one runs across.
    """
    places = {axis.name: _place(axis, _attributes(image, axis)) for axis in axes}
    backwards = list(reversed(axes))
    if None in places.values() or len(set(places.values())) < len(places):
        return backwards
    return sorted(backwards, key=lambda axis: places[axis.name] or 0)


def descends(axis: Axis) -> bool:
    """Whether positions become smaller from sample to sample."""
    if axis.values is None:
        return axis.scale < 0
    return axis.values.dtype.kind not in "USO" and bool(axis.values[-1] < axis.values[0])


def points_up(image: xr.DataArray, axis: Axis, *, on_map: bool) -> bool:
    """Whether positions along the vertical axis of a picture increase upwards.

    They do along latitudes and CF's ``positive: up``, on a map (an image with a coordinate reference system) along its
    y axis, and along other axes that descend.
    """
    attrs = _attributes(image, axis)
    if _is_latitude(axis) or attrs.get("standard_name") in NORTHERN_STANDARD_NAMES:
        return True
    if on_map and _place(axis, attrs) == UPRIGHT:
        return True
    positive = attrs.get("positive")
    return positive == "up" if positive in ("up", "down") else descends(axis)
