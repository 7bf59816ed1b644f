"""What HDF5 files state of their axes and values: dimension scales, attributes, and the tags of vigra and ilastik."""

import json

import numpy as np
import pytest
import xarray as xr

from multiscale_sampler import open_image, open_pyramid, to_multiscale, write_pyramid
from multiscale_sampler.cli import main
from multiscale_sampler.image.dataarray import image_axes

from ..data import noise

h5py = pytest.importorskip("h5py")

VALUES = noise((4, 16, 12), "int16")


def write_dataset(path, values=VALUES, *, scales=(), **attrs):
    """Write a dataset with attributes; `scales` are the name, the positions and the units of each axis."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", data=values, chunks=True)
        dataset.attrs.update(attrs)
        for number, (name, positions, unit) in enumerate(scales):
            scale = file.create_dataset(name, data=positions)
            scale.make_scale(name)
            if unit is not None:
                scale.attrs["units"] = unit
            dataset.dims[number].attach_scale(scale)
    return path


def axistags(keys, resolutions=None):
    """Return axes as vigra and ilastik state them."""
    flags = {"c": 1, "t": 8}
    axes = [
        {"key": key, "typeFlags": flags.get(key, 2), "resolution": (resolutions or {}).get(key, 0), "description": ""}
        for key in keys
    ]
    return json.dumps({"axes": axes})


def spacing(image):
    return {axis.name: (axis.scale, axis.translation, axis.unit) for axis in image_axes(image)}


def test_hdf5__dimension_scales_are_coordinates_at_every_level(tmp_path):
    scales = [
        ("depth", np.array([0.0, 5, 20, 60]), "m"),
        ("lat", 60 - 0.5 * np.arange(16.0), np.bytes_("degrees_north")),
        ("lon", np.float32(0.25) * np.arange(12, dtype="f4"), "degrees_east"),
    ]
    path = write_dataset(tmp_path / "a.h5", scales=scales, units="K", long_name="temperature")
    image = open_image(path)
    assert image.dims == ("depth", "lat", "lon")
    assert (image.attrs["units"], image.attrs["long_name"]) == ("K", "temperature")
    assert image.lon.dtype == np.float32
    with h5py.File(path) as file:
        for number, dim in enumerate(image.dims):
            np.testing.assert_array_equal(image[dim].values, file["raw"].dims[number][0][:])
    tree = to_multiscale(image.astype("float64"), [{"lat": 2, "lon": 2}, {"lat": 4, "lon": 4}])
    for number, factor in enumerate((1, 2, 4)):
        level = tree[f"scale{number}/raw"]
        for row, column in ((0, 0), (2, 1), (3, 2)):
            window = np.s_[row * factor : (row + 1) * factor], np.s_[column * factor : (column + 1) * factor]
            assert float(level[1, row, column]) == pytest.approx(VALUES[1][window].mean())
            assert float(level.lat[row]) == pytest.approx(scales[1][1][window[0]].mean())
            assert float(level.lon[column]) == pytest.approx(scales[2][1][window[1]].mean())
    assert level.lat.attrs["units"] == "degrees_north"


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
@pytest.mark.parametrize("key", ["_FillValue", "missing_value"])
def test_hdf5__a_stated_missing_value_is_left_out(tmp_path, dtype, key):
    values = np.full((8, 8), 4, dtype)
    values[:, ::2] = missing = np.array(200 if dtype == "uint8" else -99, dtype)
    path = write_dataset(tmp_path / "a.h5", values, **{key: missing})
    level = to_multiscale(open_image(path), [2])["scale1/raw"]
    np.testing.assert_array_equal(level.values, np.full((4, 4), 4.0))
    options = ("--quiet", "--factors", "y=2,x=2", "--min-size", "4")
    assert main(["build", str(path), str(tmp_path / "a.zarr"), *options]) == 0
    stored = open_pyramid(tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored["scale1/raw"].values, np.full((4, 4), 4.0))
    with xr.open_datatree(tmp_path / "a.zarr", engine="zarr") as tree:
        np.testing.assert_array_equal(tree["scale1/raw"].values, np.full((4, 4), 4.0))


def test_hdf5__packed_values_are_decoded(tmp_path):
    missing = VALUES[0, 0, 0]
    path = write_dataset(tmp_path / "a.h5", scale_factor=0.5, add_offset=10.0, _FillValue=missing)
    image = open_image(path)
    expected = np.where(missing == VALUES, np.nan, VALUES * 0.5 + 10.0)
    np.testing.assert_array_equal(image.values, expected.astype(image.dtype))
    level = to_multiscale(image, [2])["scale1/raw"]
    assert float(level[0, 0, 0]) == pytest.approx(np.nanmean(expected[:2, :2, :2]))


def test_hdf5__files_of_netcdf_4_are_read_as_xarray_reads_them(tmp_path):
    pytest.importorskip("netCDF4")
    days = np.arange("2001-01-01", "2001-01-05", dtype="datetime64[D]").astype("datetime64[ns]")
    coords = {"time": days, "y": ("y", np.arange(16.0), {"units": "m"})}
    expected = xr.DataArray(VALUES.astype("float32"), coords, ("time", "y", "x"), "tas", {"units": "K"})
    expected.to_netcdf(tmp_path / "a.h5", engine="netcdf4", encoding={"tas": {"_FillValue": -1.0}})
    image = open_image(tmp_path / "a.h5")
    assert image.dims == expected.dims
    np.testing.assert_array_equal(image.values, expected.values)
    np.testing.assert_array_equal(image.time.values, days)
    assert image.y.attrs["units"] == "m"
    # A dimension of netCDF without a variable has no positions.
    assert spacing(image)["x"] == (1.0, 0.0, None)


@pytest.mark.parametrize(("keys", "shape"), [("yxc", (16, 12, 3)), ("tzyxc", (2, 3, 8, 6, 1)), ("xyz", (4, 6, 8))])
def test_hdf5__axistags_name_the_axes(tmp_path, keys, shape):
    values = noise(shape, "uint8")
    path = write_dataset(tmp_path / "a.h5", values, axistags=axistags(keys, {"x": 0.5, "z": 2.0}))
    image = open_image(path)
    assert image.dims == tuple(keys)
    np.testing.assert_array_equal(image.values, values)
    assert spacing(image)["x"] == (0.5, 0.0, None)
    assert spacing(image)["y"] == (1.0, 0.0, None)


def test_hdf5__axistags_with_units(tmp_path):
    tags = axistags("zyx", {"z": 2.0, "y": 0.5, "x": 0.25})
    path = write_dataset(tmp_path / "a.h5", axistags=tags, axis_units=json.dumps({"z": "um", "y": "um", "x": "µm"}))
    write_pyramid(open_image(path), tmp_path / "a.zarr", scale_factors=[2])
    level = open_pyramid(tmp_path / "a.zarr")["scale1/raw"]
    assert spacing(level) == {
        "z": (4.0, 1.0, "micrometer"),
        "y": (1.0, 0.25, "micrometer"),
        "x": (0.5, 0.125, "micrometer"),
    }


@pytest.mark.parametrize("tags", ["no JSON", "[]", json.dumps({"axes": [{"key": "x"}]}), axistags("xxy")])
def test_hdf5__axistags_that_do_not_fit_are_ignored(tmp_path, tags):
    assert open_image(write_dataset(tmp_path / "a.h5", axistags=tags)).dims == ("z", "y", "x")


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        ((4, 8, 8), [2.0, 0.5, 0.25], {"z": 2.0, "y": 0.5, "x": 0.25}),
        ((8, 8), [2.0, 0.5, 0.25], {"y": 0.5, "x": 0.25}),
        ((8, 8), [0.5, 0.25], {"y": 0.5, "x": 0.25}),
    ],
)
def test_hdf5__element_size_is_in_micrometers(tmp_path, shape, sizes, expected):
    image = open_image(write_dataset(tmp_path / "a.h5", noise(shape), element_size_um=sizes))
    assert spacing(image) == {dim: (size, 0.0, "micrometer") for dim, size in expected.items()}


def test_hdf5__resolution_and_offset(tmp_path):
    image = open_image(write_dataset(tmp_path / "a.h5", resolution=[40.0, 4.0, 4.0], offset=[80, 100, 120]))
    assert spacing(image) == {"z": (40.0, 80.0, None), "y": (4.0, 100.0, None), "x": (4.0, 120.0, None)}


def test_hdf5__channel_names_in_a_scale_are_labels(tmp_path):
    names = np.array(["DAPI", "GFP", "RFP", "CY5"], dtype=h5py.string_dtype())
    scales = [("c", names, None), ("y", np.arange(16) * 0.5, "um"), ("x", np.arange(12) * 0.5, "um")]
    image = open_image(write_dataset(tmp_path / "a.h5", scales=scales))
    assert image.c.values.tolist() == ["DAPI", "GFP", "RFP", "CY5"]
    write_pyramid(image, tmp_path / "a.zarr", scale_factors=[2])
    assert open_pyramid(tmp_path / "a.zarr")["scale1/raw"].c.values.tolist() == ["DAPI", "GFP", "RFP", "CY5"]


def test_hdf5__attributes_of_other_types_are_left_out(tmp_path):
    path = write_dataset(tmp_path / "a.h5", note="kept", levels=[1, 2, 3], pair=["a", "b"])
    with h5py.File(path, "a") as file:
        file["raw"].attrs["reference"] = file["raw"].ref
        file["raw"].attrs["empty"] = h5py.Empty("f4")
        file["raw"].attrs["record"] = np.zeros(1, [("a", "i4")])
    assert open_image(path).attrs == {"note": "kept", "levels": [1, 2, 3], "pair": ["a", "b"]}
