"""Coordinates along axes that are not reduced stay as they are; longitudes are averaged on the circle."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import multiscale_sampler as ms

KEPT = {
    "float32": np.float32(0.1) * np.arange(8, dtype="f4"),
    "int64 epochs": np.arange(8) * 10**9 + 1577836800 * 10**9 + 7,
    "uint8": np.arange(8, dtype="u1"),
    "uneven": np.array([0, 1, 3, 7, 15, 31, 63, 127], "i4"),
    "one value": np.zeros(8),
}


def image(coordinate, attrs=None):
    values = np.ones((8, 16, 16), "f4")
    coords = {
        "z": ("z", coordinate, attrs or {}),
        "y": np.arange(16.0),
        "x": np.float32(0.1) * np.arange(16, dtype="f4"),
    }
    return xr.DataArray(values, coords, ("z", "y", "x"), "v")


def stored(source):
    store = {}
    ms.write_pyramid(source, store, scale_factors=[{"y": 2, "x": 2}])
    return ms.open_pyramid(store)


def coarsened(source):
    level = ms.coarsen(source, {"y": 2, "x": 2})
    return {"scale0": source.to_dataset(), "scale1": level.to_dataset()}


MAKERS = {
    "coarsen": coarsened,
    "to_multiscale": lambda source: ms.to_multiscale(source, [{"y": 2, "x": 2}]),
    "write_pyramid": stored,
}


@pytest.mark.filterwarnings("ignore:voxels of level 1 are more anisotropic")
@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("maker", MAKERS)
def test_coordinates_of_axes_that_are_not_reduced__stay_as_they_are(maker, kind):
    if maker == "write_pyramid" and kind in ("uneven", "one value"):
        pytest.skip("OME-NGFF has no such axis of space")
    source = image(KEPT[kind], {"note": "mine"})
    levels = MAKERS[maker](source)
    for name in ("scale0", "scale1"):
        z = levels[name].v.z
        assert z.dtype == source.z.dtype
        np.testing.assert_array_equal(z.values, source.z.values)
        assert z.attrs["note"] == "mine"
    np.testing.assert_array_equal(levels["scale0"].v.x.values, source.x.values)
    assert (source - levels["scale0"].v).sizes == source.sizes


def test_lazy_indexes__stay_lazy():
    index = xr.indexes.RangeIndex.arange(0.0, 8.0, 1.0, dim="z")
    source = image(np.arange(8.0)).drop_vars("z").assign_coords(xr.Coordinates.from_xindex(index))
    level = ms.coarsen(source, {"y": 2, "x": 2})
    assert isinstance(level.xindexes["z"], xr.indexes.RangeIndex)


def test_dates__stay_what_they_are():
    dates = pd.date_range("2000-01-01", periods=8, freq="h").values.astype("M8[s]")
    source = image(dates).rename(z="time")
    for maker in MAKERS.values():
        np.testing.assert_array_equal(maker(source)["scale1"].v.time.values, dates)


def circle_mean(degrees):
    """Return the mean of angles that are near to each other, by their unit vectors."""
    radians = np.deg2rad(degrees)
    return np.rad2deg(np.arctan2(np.sin(radians).mean(-1), np.cos(radians).mean(-1)))


@given(st.floats(-180, 360), st.floats(0.01, 5), st.sampled_from([2, 3, 4]))
def test_longitudes__are_averaged_on_the_circle(start, step, factor):
    degrees = (start + step * np.arange(24)) % 360
    values = xr.DataArray(np.zeros((2, 24)), {"lon": ("x", degrees, {"units": "degrees_east"})}, ("y", "x"))
    along = xr.DataArray(np.zeros((2, 24)), {"lon": degrees}, ("y", "lon"))
    for level in (ms.coarsen(values, {"x": factor}).lon, ms.coarsen(along, {"lon": factor}).lon):
        turned = (level.values - circle_mean(degrees.reshape(-1, factor)) + 180) % 360 - 180
        np.testing.assert_allclose(turned, 0, atol=1e-7)


def test_longitudes_in_two_dimensions__across_the_date_line():
    degrees = np.array([[179.5, -179.5], [179.0, -180.0]])
    source = xr.DataArray(np.zeros((2, 2)), {"longitude": (("y", "x"), degrees)}, ("y", "x"))
    assert ms.coarsen(source, 2).longitude.values % 360 == pytest.approx(179.75)
