"""Classic netCDF files that are shorter than their header states, beyond which the library reads zeros."""

import numpy as np
import pytest
import xarray as xr

from multiscale_sampler import open_image
from multiscale_sampler.files.classic_netcdf import require_variables

FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def dataset(*, records, several):
    values = np.arange(5 * 3 * 7, dtype="i2").reshape(5, 3, 7)
    variables = {"a": (("t", "y", "x"), values, {"long_name": "an odd name"})}
    if several:
        variables |= {"b": (("t", "y"), values[:, :, 0].astype("i1")), "c": (("y",), np.ones(3, "f8"))}
    found = xr.Dataset(variables, attrs={"title": "five steps", "numbers": [1.0, 2.0, 3.0]})
    found.encoding["unlimited_dims"] = {"t"} if records else set()
    return found


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("format_name", FORMATS)
def test_variables__one_byte_less_is_an_error_with_the_numbers(tmp_path, format_name, records, several):
    pytest.importorskip("netCDF4")
    path = tmp_path / "a.nc"
    dataset(records=records, several=several).to_netcdf(path, engine="netcdf4", format=format_name)
    require_variables(path)
    np.testing.assert_array_equal(open_image(path, "a").values.ravel(), np.arange(5 * 3 * 7))
    content = path.read_bytes()
    # Values end at the end of the file, but for the padding to 4 bytes.
    path.write_bytes(content[:-4])
    with pytest.raises(ValueError, match=rf"a.nc' contains {len(content) - 4} of \d+ bytes; replace it by"):
        open_image(path, "a")


def test_variables__a_file_that_ends_in_its_header(tmp_path):
    pytest.importorskip("netCDF4")
    path = tmp_path / "a.nc"
    dataset(records=True, several=True).to_netcdf(path, engine="netcdf4", format=FORMATS[0])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"a.nc' cannot be read as netCDF: the file ends within its header"):
        open_image(path, "a")


def test_variables__files_of_hdf5_are_left_to_the_library(tmp_path):
    pytest.importorskip("netCDF4")
    dataset(records=True, several=True).to_netcdf(tmp_path / "a.nc", engine="netcdf4", format="NETCDF4")
    require_variables(tmp_path / "a.nc")
