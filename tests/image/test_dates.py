import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.build.indexing import box_of
from multiscale_sampler.image.dates import continued_dates, date_line, mean_dates, position_text

CALENDARS = ("noleap", "360_day", "julian", "all_leap")
UNITS = "hours since 1850-01-01"


def dates_in(calendar, count=8, start="2000-02-27", freq="12h"):
    return xr.date_range(start, periods=count, freq=freq, calendar=calendar, use_cftime=True).values


def image_in(calendar, **kwargs):
    dates = dates_in(calendar, **kwargs)
    values = np.random.default_rng(0).random((len(dates), 16, 16)).astype("f4")
    return xr.DataArray(values, {"time": dates}, ("time", "y", "x"), "tas")


def decoded(store, node):
    """The dates of a level, as xarray itself reads the store."""
    return xr.open_dataset(store, engine="zarr", group=node, consolidated=False).time.values


# --- arithmetic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calendar", [*CALENDARS, "standard"])
@pytest.mark.parametrize("factor", [2, 3])
def test_mean_dates__is_that_of_xarray(calendar, factor):
    dates = dates_in(calendar, 6)
    expected = xr.DataArray(dates, {"time": dates}, ("time",)).to_series().index
    whole = [expected[start : start + factor] for start in range(0, 6, factor)]
    means = [window[0] + sum((each - window[0] for each in window), datetime.timedelta()) / factor for window in whole]
    assert mean_dates(dates, (factor,)).tolist() == means


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "D"])
def test_date_line__is_exact_in_every_unit_and_far_from_today(unit):
    dates = np.array(["2200-01-01", "2200-01-02", "2200-01-03"], f"datetime64[{unit}]")
    since = (datetime.date(2200, 1, 1) - datetime.date(1970, 1, 1)).days
    assert date_line(dates) == (86400.0, since * 86400.0)
    assert date_line(dates[::-1]) == (-86400.0, (since + 2) * 86400.0)
    assert date_line(dates[[0, 2, 1]]) is None
    assert date_line(dates[[0, 0]]) is None


def test_date_line__does_not_overflow_where_nanoseconds_do():
    dates = np.array(["9000-01-01", "9000-01-02"], "datetime64[s]")
    days = (datetime.date(9000, 1, 1) - datetime.date(1970, 1, 1)).days
    assert date_line(dates) == (86400.0, days * 86400.0)


@pytest.mark.parametrize(("calendar", "days_a_year"), [("noleap", 365), ("360_day", 360), ("all_leap", 366)])
def test_date_line__counts_seconds_in_the_calendar_itself(calendar, days_a_year):
    dates = dates_in(calendar, 3, "1971-01-01", "D")
    assert date_line(dates) == (86400.0, days_a_year * 86400.0)


@pytest.mark.parametrize("calendar", CALENDARS)
def test_continued_dates__go_on_in_their_calendar(calendar):
    dates = dates_in(calendar, 9)
    assert continued_dates(dates[:4], 5).tolist() == dates.tolist()
    assert continued_dates(dates[:1], 2) is None
    assert continued_dates(dates[[0, 1, 3]], 2) is None


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        (np.array(["2000-01-01"], "M8[ns]"), "2000-01-01"),
        (np.array(["2000-01-01T12:30"], "M8[ns]"), "2000-01-01T12:30"),
        (np.array([36], "m8[h]").astype("m8[ns]"), "1 day, 12:00:00"),
        (dates_in("360_day", 1, "2000-02-30"), "2000-02-30"),
        (np.array([2.5], "f4"), "2.5"),
        (np.array(["red"]), "'red'"),
    ],
)
def test_position_text__is_as_people_write_it(positions, expected):
    assert position_text(positions, 0) == expected


# --- stores ----------------------------------------------------------------------------------------------------


def from_memory(image, _):
    return image


def from_netcdf(image, folder):
    image.to_netcdf(folder / "a.nc", encoding={"time": {"units": UNITS}})
    return ms.open_image(folder / "a.nc")


def from_zarr(image, folder):
    image.to_dataset().to_zarr(folder / "a.zarr", zarr_format=3, consolidated=False)
    return ms.open_image(folder / "a.zarr", "tas")


def from_zarr_v2(image, folder):
    image.to_dataset().to_zarr(folder / "a.zarr", zarr_format=2)
    return ms.open_image(folder / "a.zarr", "tas")


@pytest.mark.parametrize("source", [from_memory, from_netcdf, from_zarr, from_zarr_v2])
@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_write__dates_of_calendars_are_those_that_xarray_reads(tmp_path, source, calendar):
    image = image_in(calendar)
    version = "0.4" if source is from_zarr_v2 else "0.5"
    store = tmp_path / "p.zarr"
    factors = [{"y": 2, "x": 2}, {"time": 2, "y": 4, "x": 4}]
    ms.write_pyramid(source(image, tmp_path), store, scale_factors=factors, version=version)
    for node in ("scale0", "scale1"):
        np.testing.assert_array_equal(decoded(store, node), image.time.values)
    pairs = [image.time.values[index : index + 2] for index in range(0, 8, 2)]
    means = [pair[0] + (pair[-1] - pair[0]) / 2 for pair in pairs]
    assert decoded(store, "scale2").tolist() == means
    assert ms.open_pyramid(store)["scale2/tas"].time.values.tolist() == means
    assert ms.validate(store, strict=True).ok
    assert ms.verify_pyramid(store).ok


def test_add_levels__beside_a_base_in_a_calendar(tmp_path):
    image = image_in("noleap")
    image.to_dataset(name="0").to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    ms.add_levels(tmp_path / "a.zarr", scale_factors=[{"y": 2, "x": 2}])
    opened = ms.open_pyramid(tmp_path / "a.zarr")
    assert opened["scale1/image"].time.values.tolist() == image.time.values.tolist()


@pytest.mark.parametrize("has_dates", [True, False])
def test_append__dates_of_a_calendar_go_on(has_dates):
    image, store = image_in("noleap"), {}
    ms.write_pyramid(image[:4], store, scale_factors=[{"time": 2}])
    ms.append_pyramid(image[4:] if has_dates else image[4:].values, store, "time")
    opened = ms.open_pyramid(store)
    assert opened["scale0/tas"].time.values.tolist() == image.time.values.tolist()
    whole = {}
    ms.write_pyramid(image, whole, scale_factors=[{"time": 2}])
    xr.testing.assert_identical(opened["scale1"].ds.load(), ms.open_pyramid(whole)["scale1"].ds.load())


@pytest.mark.parametrize(
    ("stored", "positions", "message"),
    [
        ("noleap", pd.date_range("2000-01-08", periods=8), r"convert_calendar\('noleap', use_cftime=True\)"),
        ("noleap", dates_in("360_day"), r"the calendar '360_day'.*convert_calendar\('noleap'"),
        ("noleap", list("abcdefgh"), r"not dates \('a', ...\)"),
        (None, dates_in("noleap"), r"convert_calendar\('standard', use_cftime=False\)"),
        (None, [f"2000-01-{day}" for day in range(10, 18)], r"time=pandas.to_datetime\(image\['time'\]\)"),
        (None, np.arange(8.0), r"not dates \(0.0, ...\).*pandas.to_datetime"),
        (None, np.arange(8).astype("m8[D]").astype("m8[ns]"), "those of the image are durations"),
    ],
)
def test_append__refuses_positions_of_another_kind(stored, positions, message):
    image, store = image_in("noleap"), {}
    dates = pd.date_range("2000-01-01", periods=8) if stored is None else image.time.values
    ms.write_pyramid(image.assign_coords(time=dates), store, scale_factors=[{"y": 2, "x": 2}])
    with pytest.raises(ValueError, match=message):
        ms.append_pyramid(image.assign_coords(time=positions), store, "time")
    assert ms.open_pyramid(store)["scale0/tas"].sizes["time"] == 8


# --- regions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calendar", ["noleap", None])
@pytest.mark.parametrize(
    "wanted", ["2000-02-28", slice("2000-02-27T12", "2000-03-01"), slice(None, "2000-02-27"), slice("2000-03", None)]
)
def test_box_of__selects_the_dates_that_xarray_selects(calendar, wanted):
    image = image_in("noleap")
    if calendar is None:
        image = image.assign_coords(time=pd.date_range("2000-02-27", periods=8, freq="12h"))
    selected = image.isel(time=box_of({"time": wanted}, image, by="coordinate")[0])
    xr.testing.assert_identical(selected, image.sel(time=wanted))


@pytest.mark.parametrize("calendar", ["noleap", None])
@pytest.mark.parametrize("wanted", ["2010", slice("2010", "2011"), "x"])
def test_box_of__names_dates_as_people_write_them(calendar, wanted):
    image = image_in("noleap")
    if calendar is None:
        image = image.assign_coords(time=pd.date_range("2000-02-27", periods=8, freq="12h"))
    with pytest.raises(ValueError, match=r"2000-02-27 to 2000-03-0[12]"):
        box_of({"time": wanted}, image, by="coordinate")
