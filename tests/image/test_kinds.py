import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.image.dataarray import image_axes
from multiscale_sampler.image.kinds import axis_type_of

HOURS = pd.date_range("2024-07-01", periods=8, freq="h")
CALENDAR = np.array([cftime.DatetimeNoLeap(2000, 1, day) for day in range(1, 9)])


def field(name, coordinate, attrs=None):
    values = np.arange(8 * 8 * 8, dtype="f4").reshape(8, 8, 8)
    coords = {name: (name, coordinate, attrs or {}), "latitude": np.arange(8.0), "longitude": np.arange(8.0)}
    return xr.DataArray(values, coords, (name, "latitude", "longitude"), "t2m")


@pytest.mark.parametrize(
    ("name", "coordinate", "attrs", "kind"),
    [
        ("valid_time", HOURS, {}, "time"),
        ("whenever", HOURS, {}, "time"),
        ("z", pd.to_timedelta(range(8), unit="h"), {}, "time"),
        ("moment", CALENDAR, {}, "time"),
        ("step", np.arange(8), {}, "time"),
        ("x", list("abcdefgh"), {}, "channel"),
        ("mask", np.arange(8) > 3, {}, "channel"),
        ("number", np.arange(8), {}, "channel"),
        ("tau", np.arange(8), {"axis": "T"}, "time"),
        ("tau", np.arange(8), {"units": "days since 2000-01-01"}, "time"),
        ("tau", np.arange(8), {"standard_name": "forecast_period"}, "time"),
        ("time", np.arange(8.0), {"axis": "Z"}, "space"),
        ("level", np.arange(8.0), {"positive": "down"}, "space"),
        ("depth", np.arange(8.0), {}, "space"),
        ("step", np.arange(8.0), {"axis_type": "space"}, "space"),
    ],
)
def test_kind__is_what_the_coordinate_is_then_what_it_states_then_its_name(name, coordinate, attrs, kind):
    image = field(name, coordinate, attrs)
    assert image_axes(image)[0].type == kind
    sizes = [level["t2m"].sizes[name] for level in ms.to_multiscale(image, [2]).children.values()]
    assert sizes == ([8, 4] if kind == "space" else [8, 8])


@pytest.mark.parametrize("name", ["valid_time", "date", "datetime", "init_time", "step"])
def test_dates_under_any_name__are_kept_and_stored_as_time(name):
    store = {}
    ms.write_pyramid(field(name, HOURS), store, scale_factors=[2])
    axes = zarr.open_group(store, mode="r").attrs["ome"]["multiscales"][0]["axes"]
    assert axes[0] == {"name": name, "type": "time", "unit": "second"}
    level = ms.open_pyramid(store)["scale1/t2m"]
    assert level.shape == (8, 4, 4)
    expected = field(name, HOURS).values.reshape(8, 4, 2, 4, 2).mean((2, 4))
    np.testing.assert_array_equal(level.values, expected)
    np.testing.assert_array_equal(level[name].values, HOURS.values)


def test_kind__is_written_only_where_nothing_else_says_it():
    image = ms.to_image(field("valid_time", HOURS))
    assert "axis_type" not in image.valid_time.attrs
    assert axis_type_of("valid_time", HOURS.values, {}) == "time"


def test_the_warning_of_other_names__suggests_the_usual_name_of_each():
    with pytest.warns(UserWarning, match=r"rename\(\{'valid_time': 't', 'latitude': 'y', 'longitude': 'x'\}\)"):
        ms.write_pyramid(field("valid_time", HOURS), {}, scale_factors=[2])


@pytest.mark.parametrize(
    ("name", "units", "expected"),
    [
        ("lead", "hours", "time"),
        ("q", "days", "time"),
        ("q", "Seconds", "time"),
        ("q", "milliseconds", "time"),
        ("q", "months", "time"),
        ("q", "degrees", "space"),
        ("q", "m", "space"),
        ("x", "seconds", "space"),
    ],
)
def test_axis_type_of__a_unit_of_time_makes_numbers_time(name, units, expected):
    assert axis_type_of(name, np.arange(3.0), {"units": units}) == expected
