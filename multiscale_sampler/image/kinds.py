"""Kinds of axes: time, channel or space, as the coordinate's values, its CF attributes, or its name say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

AxisType: TypeAlias = "Literal['space', 'time', 'channel']"

TIME_NAMES = frozenset(
    (
        *("t", "time", "times", "timestamp", "valid_time", "date", "dates", "datetime", "datetimes", "day", "month"),
        *("year", "hour", "minute", "second", "week", "season", "dayofyear", "doy", "init_time", "initial_time"),
        *("reference_time", "forecast_reference_time", "forecast_time", "forecast_period", "analysis_time", "reftime"),
        *("step", "steps", "time_step", "timestep", "lead", "lead_time", "leadtime", "frame", "frames"),
    )
)
CHANNEL_NAMES = frozenset(
    (
        *("c", "ch", "channel", "channels", "band", "bands", "wavelength", "wavelengths", "spectral", "rgb", "rgba"),
        *("member", "members", "number", "ensemble", "ensemble_member", "realization", "realisation", "expver"),
        *("model", "scenario", "variable", "variables", "feature", "features", "polarization", "polarisation", "pol"),
    )
)
SPACE_NAMES = frozenset(("x", "y", "z"))
# https://cfconventions.org/Data/cf-standard-names/current/build/cf-standard-name-table.html
STANDARD_NAMES: Mapping[str, AxisType] = {
    **dict.fromkeys(("time", "forecast_reference_time", "forecast_period"), "time"),
    **dict.fromkeys(
        ("realization", "radiation_wavelength", "radiation_frequency", "sensor_band_identifier"), "channel"
    ),
    **dict.fromkeys(("latitude", "longitude", "grid_latitude", "grid_longitude"), "space"),
    **dict.fromkeys(("projection_x_coordinate", "projection_y_coordinate"), "space"),
    **dict.fromkeys(("altitude", "depth", "height", "air_pressure", "model_level_number"), "space"),
}
# Units by which an axis of numbers is time; shorter ones are those of other things too.
TIME_UNIT_WORDS = frozenset(
    f"{prefix}{unit}{plural}"
    for plural in ("", "s")
    for prefix, unit in (
        *((prefix, "second") for prefix in ("", "milli", "micro", "nano")),
        *(("", unit) for unit in ("minute", "hour", "day", "week", "month", "year")),
    )
)
# "axis ... may have one of the values X, Y, Z or T" (CF 4).
CF_AXES: Mapping[str, AxisType] = {"T": "time", "X": "space", "Y": "space", "Z": "space"}


def guess_axis_type(name: str) -> AxisType:
    """Return the kind of axis that a name usually stands for, in upper or lower case; of other names it is space.

    What is known of a coordinate comes first: see `axis_type_of`.
    """
    if name.lower() in TIME_NAMES:
        return "time"
    return "channel" if name.lower() in CHANNEL_NAMES else "space"


def axis_type_of(name: str, positions: np.ndarray[Any, Any], attrs: Mapping[Any, Any]) -> AxisType:
    """Return the kind of an axis with a coordinate: from its values, then its CF attributes, then its name."""
    by_values = _type_of_values(positions)
    if by_values is not None:
        return by_values
    return _type_by_conventions(name, attrs) or guess_axis_type(name)


def _type_of_values(positions: np.ndarray[Any, Any]) -> AxisType | None:
    """Return time for dates and durations, channel for texts and truth values, None for numbers."""
    kind = positions.dtype.kind
    if kind in "mM":
        return "time"
    if kind == "O":
        first = next(iter(positions.flat), None)
        if isinstance(first, int | float | np.number) and not isinstance(first, bool):
            return None
        return "time" if hasattr(first, "year") else "channel"
    return None if kind in "iufc" else "channel"


def _type_by_conventions(name: str, attrs: Mapping[Any, Any]) -> AxisType | None:
    stated = CF_AXES.get(str(attrs.get("axis")).upper()) or STANDARD_NAMES.get(str(attrs.get("standard_name")))
    if stated is not None:
        return stated
    # "The units attribute takes a string value formatted ... seconds since 1992-10-8 15:15:42.5" (CF 4.4)
    if "calendar" in attrs or " since " in str(attrs.get("units", "")):
        return "time"
    if str(attrs.get("units", "")).lower() in TIME_UNIT_WORDS and name.lower() not in SPACE_NAMES:
        return "time"
    # "The direction of positive ... up or down" (CF 4.3): of vertical coordinates.
    if str(attrs.get("positive")).lower() in ("up", "down"):
        return "space"
    return None
