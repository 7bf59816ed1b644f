import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main

HEIGHTS = np.full((16, 16), 500, "int16")
HEIGHTS[:5, :5] = -9999
STATEMENTS = {
    "_FillValue": -9999,
    "missing_value": np.int16(-9999),
    "nodata": -9999.0,
    "nodatavals": (-9999,),
}


def image(**attrs):
    return xr.DataArray(HEIGHTS, dims=("y", "x"), name="dem", attrs=attrs)


def level_of(function, source, **options):
    """Return the values of level 1 as they are computed, made by one of the functions that make levels."""
    if function == "coarsen":
        return ms.coarsen(source, 2, **options).values
    if function == "to_multiscale":
        return ms.to_multiscale(source, [2], **options)["scale1/dem"].values
    store = {}
    ms.write_pyramid(source, store, scale_factors=[2], **options)
    if function == "rebuild_levels":
        ms.rebuild_levels(store, method="mean")
    elif function == "update_pyramid":
        ms.update_pyramid(store, {"y": slice(0, 8)})
    assert ms.verify_pyramid(store).ok
    return zarr.open_group(store, mode="r")["scale1/dem"][...]


@pytest.mark.parametrize("attribute", STATEMENTS)
@pytest.mark.parametrize("function", ["coarsen", "to_multiscale", "write_pyramid", "rebuild_levels", "update_pyramid"])
def test_what_an_image_states_as_missing__is_left_out(function, attribute):
    level = level_of(function, image(**{attribute: STATEMENTS[attribute]}))
    expected = np.full((8, 8), 500)
    expected[:2, :2] = -9999
    np.testing.assert_array_equal(level, expected)


@pytest.mark.parametrize("function", ["coarsen", "to_multiscale", "write_pyramid"])
def test_none__turns_it_off(function):
    level = level_of(function, image(nodata=-9999), nodata=None)
    assert -9999 < level[2, 2] < 500


@pytest.mark.parametrize(
    ("attrs", "method", "nodata"),
    [
        ({"nodata": -9999}, "mean", -9999),
        ({"nodata": 70000}, "mean", None),
        ({"nodata": float("nan")}, "mean", None),
        ({"nodata": "none"}, "mean", None),
        ({"nodata": -9999}, "nearest", None),
        ({"nodata": 0}, "mode", None),
        ({"nodata": 255}, "mode", 255),
        ({"nodatavals": (-1, -1)}, "max", -1),
        ({}, "mean", None),
    ],
)
def test_plan__says_which_value_it_leaves_out(attrs, method, nodata):
    plan = ms.plan_pyramid(image(**attrs), [2], method=method)
    assert plan.nodata == nodata
    assert ("nodata" in str(plan)) == (nodata is not None)


def test_several_missing_values__are_refused():
    with pytest.raises(ValueError, match=r"several missing values, \(-1, -9999\)"):
        ms.plan_pyramid(image(_FillValue=-1, nodata=-9999), [2])
    assert ms.plan_pyramid(image(_FillValue=-1, nodata=-9999), [2], nodata=-1).nodata == -1


def test_a_text__is_no_missing_value():
    with pytest.raises(ValueError, match="nodata='-9999' is no value"):
        ms.plan_pyramid(image(), [2], nodata="-9999")


def test_nodata_of_a_geotiff__on_the_command_line(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "height": 16, "width": 16, "count": 1, "dtype": "int16", "nodata": -9999}
    transform = rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)
    with rasterio.open(tmp_path / "dem.tif", "w", crs="EPSG:32633", transform=transform, **profile) as file:
        file.write(HEIGHTS, 1)
    for option, least in ((["--nodata", "stated"], {-9999}), ([], {-9999}), (["--nodata", "none"], set())):
        place = tmp_path / f"p{len(option)}{bool(least)}.zarr"
        assert main(["build", str(tmp_path / "dem.tif"), str(place), "--min-size", "8", "--quiet", *option]) == 0
        level = next(iter(ms.open_pyramid(place)["scale1"].data_vars.values())).values
        assert set(np.unique(level).tolist()) - {500} >= least
        assert (level[2, 2] == 500) == bool(least)
