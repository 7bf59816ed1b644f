"""Groups of netCDF-4 files, compared with xarray."""

import numpy as np
import pytest
import xarray as xr

from multiscale_sampler import open_image, open_pyramid, to_multiscale
from multiscale_sampler.cli import main

from ..data import noise

netcdf4 = pytest.importorskip("netCDF4")


@pytest.fixture
def swath(tmp_path):
    """Return a file like those of TROPOMI: a product in a group, whose time is in the root, and details deeper."""
    path = tmp_path / "swath.nc"
    days = np.arange("2020-01-01", "2020-01-03", dtype="datetime64[D]").astype("datetime64[ns]")
    xr.Dataset(coords={"time": days}).to_netcdf(path)
    y, x = np.linspace(50, 53, 16), np.linspace(4, 7, 12)
    dims = ("time", "scanline", "pixel")
    no2 = xr.DataArray(noise((2, 16, 12), "float32"), dims=dims, attrs={"units": "mol m-2"})
    no2[0, :2, :2] = np.nan
    product = xr.Dataset({"no2": no2, "qa": (dims, noise((2, 16, 12), "uint8"))}, {"scanline": y, "pixel": x})
    packed = {"no2": {"dtype": "int32", "scale_factor": 0.5, "_FillValue": -1}}
    product.to_netcdf(path, mode="a", group="PRODUCT", encoding=packed)
    xr.Dataset({"height": (("row", "column"), noise((8, 8), "int16"))}).to_netcdf(path, mode="a", group="PRODUCT/INPUT")
    return path


@pytest.mark.parametrize("name", ["PRODUCT/no2", "/PRODUCT/no2", "PRODUCT/qa", "PRODUCT/INPUT/height"])
def test_netcdf__a_variable_of_a_group(swath, name):
    image = open_image(swath, name)
    group, _, variable = name.strip("/").rpartition("/")
    with xr.open_dataset(swath, group=group) as file:
        expected = file[variable].load()
    assert (image.dims, image.name, image.dtype) == (expected.dims, variable, expected.dtype)
    np.testing.assert_array_equal(image.values, expected.values)
    for dim in expected.coords:
        np.testing.assert_array_equal(image[dim].values, expected[dim].values)
    assert image.attrs == expected.attrs


def test_netcdf__coordinates_of_groups_above(swath):
    with xr.open_dataset(swath) as root:
        np.testing.assert_array_equal(open_image(swath, "PRODUCT/no2").time.values, root.time.values)


def test_netcdf__levels_of_a_variable_of_a_group(swath, tmp_path):
    command = ["build", str(swath), str(tmp_path / "a.zarr"), "--path", "PRODUCT/no2", "--quiet", "--min-size", "4"]
    assert main([*command, "--factors", "scanline=2,pixel=2"]) == 0
    with xr.open_dataset(swath, group="PRODUCT") as file:
        expected = file["no2"].load()
    stored = open_pyramid(tmp_path / "a.zarr")
    for number, factor in enumerate((1, 2, 4)):
        level = stored[f"scale{number}/no2"]
        for row, column in ((0, 0), (1, 2), (3, 1)):
            window = {
                "scanline": slice(row * factor, (row + 1) * factor),
                "pixel": slice(column * factor, (column + 1) * factor),
            }
            region = expected[1].isel(window)
            # The variable is packed in steps of a half, and so is its level.
            assert float(level[1, row, column]) == pytest.approx(float(region.mean()), abs=0.25)
            assert float(level.scanline[row]) == pytest.approx(float(region.scanline.mean()))
            assert float(level.pixel[column]) == pytest.approx(float(region.pixel.mean()))
    lazy = to_multiscale(open_image(swath, "PRODUCT/no2"), [{"scanline": 2, "pixel": 2}])["scale1/no2"]
    np.testing.assert_allclose(lazy, expected.coarsen(scanline=2, pixel=2).mean(), rtol=1e-6)


def test_netcdf__several_variables_are_listed_with_their_groups(swath):
    names = r"'PRODUCT/no2' \(2, 16, 12\), 'PRODUCT/qa' \(2, 16, 12\), 'PRODUCT/INPUT/height' \(8, 8\)"
    with pytest.raises(ValueError, match=names):
        open_image(swath)
    for missing in ("no2", "PRODUCT/none", "NONE/no2", "PRODUCT"):
        with pytest.raises(FileNotFoundError, match=rf"no variable '{missing}' in .*'PRODUCT/no2', 'PRODUCT/qa'"):
            open_image(swath, missing)


def test_netcdf__the_only_variable_is_found_in_its_group(tmp_path):
    values = noise((8, 8))
    xr.Dataset({"a": (("y", "x"), values)}).to_netcdf(tmp_path / "a.nc", group="deep/er")
    image = open_image(tmp_path / "a.nc")
    assert image.name == "a"
    np.testing.assert_array_equal(image.values, values)
