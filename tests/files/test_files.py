"""Image files of other formats: their values and labels, compared with what the formats' own readers return."""

import pickle
import sys
import warnings
from contextlib import nullcontext

import dask
import dask.array as da
import numba
import numpy as np
import pytest
import xarray as xr
import zarr
from packaging.version import Version

from multiscale_sampler import open_image, open_pyramid, plan_pyramid, to_image, write_pyramid
from multiscale_sampler.cli import main
from multiscale_sampler.files.arrays import FileArray
from multiscale_sampler.image.dataarray import image_axes
from multiscale_sampler.metadata import ngff_line

from ..data import noise, real


def spacing(image):
    """Return scale, translation and unit of every evenly spaced axis."""
    return {axis.name: (axis.scale, axis.translation, axis.unit) for axis in image_axes(image) if axis.is_regular}


def import_tifffile():
    """Return tifffile; skip with a zarr too old for the stores of its releases."""
    if Version(zarr.__version__) < Version("3.1.6"):
        pytest.skip("tifffile reads through zarr 3.1.6 and newer: pip install 'multiscale-sampler[tiff]'")
    return pytest.importorskip("tifffile")


def open_lazily(monkeypatch, path, *arguments, **options):
    """Return an opened image; fail if opening or planning it computes or reads anything."""

    def refuse(*arguments, **options):
        raise AssertionError(f"asked to read or compute {arguments!r}")

    with monkeypatch.context() as patch, dask.config.set(scheduler=refuse):
        for kind in FileArray.__subclasses__():
            patch.setattr(kind, "_read", refuse)
        image = open_image(path, *arguments, **options)
        plan_pyramid(image)
    assert isinstance(image.data, da.Array)
    return image


def round_trip(image, tmp_path):
    """Write a pyramid of an image, compare its level 0 with the image, and return level 0."""
    if numba.config.DISABLE_JIT:
        # Whole volumes take minutes where kernels run in the interpreter.
        image = image[..., :9, :11]
    reduced = [dim for dim in image.dims if dim in (*image.dims[-2:], "z")]
    write_pyramid(image, tmp_path / "out.ome.zarr", scale_factors=[dict.fromkeys(reduced, 2)])
    tree = open_pyramid(tmp_path / "out.ome.zarr")
    assert len(tree.children) == 2
    base = next(iter(tree["scale0"].data_vars.values()))
    np.testing.assert_array_equal(base.values, image.transpose(*base.dims).values)
    for name, axis in spacing(image).items():
        assert spacing(base)[name] == axis
    return base


# --- real files ------------------------------------------------------------------------------------------------


def test_tiff__imagej_channels(tmp_path, monkeypatch):
    tifffile = import_tifffile()
    path = real("bbbc022_cyx", "IXMtest_A02_s9.tif")
    image = open_lazily(monkeypatch, path)
    assert (image.dims, image.name, image.chunks[0]) == (("c", "y", "x"), "IXMtest_A02_s9", (3,))
    # The file has no unit, so that its spacing means nothing.
    assert spacing(image) == dict.fromkeys("cyx", (1.0, 0.0, None))
    np.testing.assert_array_equal(image.values, tifffile.imread(path))
    round_trip(image, tmp_path)


def test_tiff__axes_without_names(tmp_path, monkeypatch):
    tifffile = import_tifffile()
    path = real("cell_migration_t", "cancer_cell_migration_crop.tif")
    with pytest.raises(ValueError, match=r"does not say what all its axes are .* name them, as in dims="):
        open_image(path)
    image = open_lazily(monkeypatch, path, dims="tyx", scale={"t": 5.0, "y": 0.5, "x": 0.5}, units={"t": "minute"})
    assert spacing(image)["t"] == (5.0, 0.0, "minute")
    np.testing.assert_array_equal(image.values, tifffile.imread(path))
    round_trip(image, tmp_path)


def test_geotiff__coordinates_are_pixel_centres(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("tifffile")
    path = real("geo_small", "RGB.byte.tif")
    image = open_lazily(monkeypatch, path)
    assert image.dims == ("band", "y", "x")
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(image.values, file.read())
        xs, _ = rasterio.transform.xy(file.transform, [0] * file.width, range(file.width))
        _, ys = rasterio.transform.xy(file.transform, range(file.height), [0] * file.height)
        assert rasterio.crs.CRS.from_wkt(image.attrs["crs"]) == file.crs
    np.testing.assert_allclose(image.x.values, xs, rtol=1e-12)
    np.testing.assert_allclose(image.y.values, ys, rtol=1e-12)
    assert image.attrs["nodata"] == 0.0
    assert image.x.attrs["units"] == "meter"
    round_trip(image, tmp_path)


NIFTI = {
    "example4d": ("tzyx", (2000.0, 2.2, 2.0, 2.0), "second", "millimeter"),
    "mni_icbm152_t1_tal_nlin_sym_09a_converted": ("zyx", (1.0, 1.0, 1.0), None, None),
}


@pytest.mark.parametrize("name", NIFTI)
def test_nifti__volumes(name, tmp_path, monkeypatch):
    nibabel = pytest.importorskip("nibabel")
    path = real("nifti_small", f"{name}.nii.gz")
    dims, scales, time, space = NIFTI[name]
    image = open_lazily(monkeypatch, path)
    file = nibabel.load(path)
    assert (image.dims, image.name) == (tuple(dims), name)
    assert image.dtype == file.get_data_dtype()
    np.testing.assert_array_equal(image.values, np.asanyarray(file.dataobj).T)
    assert [axis.scale for axis in image_axes(image)] == pytest.approx(scales, rel=1e-6)
    assert [axis.unit for axis in image_axes(image)] == [time if dim == "t" else space for dim in dims]
    assert image.attrs["affine"] == file.affine.tolist()
    rotated = pytest.warns(UserWarning, match="lies rotated in space, which OME-NGFF 0.5 cannot state")
    with rotated if "direction" in image.attrs else nullcontext():
        round_trip(image, tmp_path)


@pytest.mark.parametrize(("name", "level"), [("demoSlice", 0), ("mri-stack-multilevel", 1)])
def test_hdf5__one_dataset_of_several(name, level, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    path = real("bdv_mri_pyramid", f"{name}.h5")
    key = f"t00000/s00/{level}/cells"
    with pytest.raises(ValueError, match=rf"arrays: .*'{key}'.*name one with path="):
        open_image(path)
    image = open_lazily(monkeypatch, path, key, scale={"z": 4.0}, units="micrometer")
    with h5py.File(path) as file:
        np.testing.assert_array_equal(image.values, file[key][...])
    assert image.dims == ("z", "y", "x")
    assert spacing(image)["z"] == (4.0, 0.0, "micrometer")
    round_trip(image, tmp_path)


def test_netcdf__sea_temperature(tmp_path, monkeypatch):
    pytest.importorskip("netCDF4")
    path = real("geo_small", "tos_O1_2001-2002.nc")
    image = open_lazily(monkeypatch, path)
    with xr.open_dataset(path) as file:
        expected = file["tos"].load()
    assert (image.dims, image.name, image.dtype) == (expected.dims, "tos", expected.dtype)
    np.testing.assert_array_equal(image.values, expected.values)
    assert np.isnan(image.values).any()
    for dim in expected.dims:
        np.testing.assert_array_equal(image[dim].values, expected[dim].values)
        assert image[dim].attrs.get("units") == expected[dim].attrs.get("units")
    assert image.attrs["units"] == "K"
    # The calendar has 30 days in every month.
    assert ngff_line(image_axes(image)[0]) == (30 * 86400.0, (31 * 360 + 15) * 86400.0, "second")
    np.testing.assert_array_equal(round_trip(image, tmp_path).time.values, expected.time.values)


# --- files of our own ------------------------------------------------------------------------------------------


@pytest.fixture
def ome_tiff(tmp_path):
    tifffile = import_tifffile()
    path = tmp_path / "cells.ome.tif"
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 250.0,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 2.0,
        "TimeIncrement": 1.5,
        "TimeIncrementUnit": "min",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    values = noise((3, 2, 4, 48, 32), seed=4)
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(values, subifds=1, tile=(16, 16), metadata=metadata)
        file.write(values[..., ::2, ::2], subfiletype=1, tile=(16, 16))
    return path, values


def test_ome_tiff__labels_and_full_resolution(ome_tiff, tmp_path, monkeypatch):
    path, values = ome_tiff
    image = open_lazily(monkeypatch, path)
    assert (image.dims, image.name) == (("t", "c", "z", "y", "x"), "cells")
    assert image.c.values.tolist() == ["DAPI", "GFP"]
    assert spacing(image) == {
        "t": (1.5, 0.0, "minute"),
        "z": (2.0, 0.0, "micrometer"),
        "y": (250.0, 0.0, "nanometer"),
        "x": (0.25, 0.0, "micrometer"),
    }
    np.testing.assert_array_equal(image.values, values)
    assert round_trip(image, tmp_path).c.values.tolist() == ["DAPI", "GFP"]


def test_open_image__arguments_override_the_file(ome_tiff):
    path, values = ome_tiff
    image = open_image(
        path, scale={"x": 3.0}, units={"x": "meter"}, name="other", channel_names=["a", "b"], chunks={"z": 1}
    )
    assert spacing(image)["x"] == (3.0, 0.0, "meter")
    assert spacing(image)["y"] == (250.0, 0.0, "nanometer")
    assert (image.name, image.c.values.tolist()) == ("other", ["a", "b"])
    assert image.data.chunksize == (1, 1, 1, 16, 16)
    renamed = open_image(path, dims=("t", "c", "plane", "y", "x"))
    assert spacing(renamed)["plane"] == (1.0, 0.0, None)
    assert spacing(renamed)["x"] == (0.25, 0.0, "micrometer")
    np.testing.assert_array_equal(renamed.values, values)
    with pytest.raises(ValueError, match="do not fit"):
        open_image(path, dims="zyx")
    with pytest.raises(ValueError, match="path='0' does not apply to TIFF files"):
        open_image(path, "0")
    with pytest.raises(ValueError, match="storage_options"):
        open_image(path, storage_options={"anon": True})


def test_open_image__any_index_of_a_file_array(ome_tiff):
    path, values = ome_tiff
    array = open_image(path).data
    stored = max(array.dask.to_dict().values(), key=lambda value: isinstance(value, FileArray))
    for index in np.s_[1, :, ::2], np.s_[:, :, :, ::-3], np.s_[:, :, 1:, [4, 0, 9]], np.s_[2:2], np.s_[-1, 0, 0, -5:]:
        np.testing.assert_array_equal(array[index].compute(), values[index])
        np.testing.assert_array_equal(stored[index], values[index])
    # Beside a list, numpy would move the axes of integers to the front.
    np.testing.assert_array_equal(stored[0, :, 1, [4, 0, 9]], values[0, :, 1][:, [4, 0, 9]])


def test_open_image__pickled_files_and_changed_files(ome_tiff):
    path, values = ome_tiff
    image, again = open_image(path), open_image(path)
    assert image.data.name == again.data.name
    image.isel(t=0).load()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).values, values)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="has changed since it was opened"):
        again.load()
    assert open_image(path).data.name != image.data.name


def test_tiff__imagej_calibration(tmp_path):
    tifffile = import_tifffile()
    values = noise((4, 3, 8, 8))
    metadata = {"axes": "TZYX", "unit": "um", "spacing": 2.5, "finterval": 0.5}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, resolution=(4, 2), metadata=metadata)
    image = open_image(tmp_path / "a.tif")
    assert spacing(image) == {
        "t": (0.5, 0.0, "second"),
        "z": (2.5, 0.0, "micrometer"),
        "y": (0.5, 0.0, "micrometer"),
        "x": (0.25, 0.0, "micrometer"),
    }
    np.testing.assert_array_equal(image.values, values)


@pytest.mark.parametrize(
    ("unit", "expected"), [("CENTIMETER", (0.5, "centimeter")), ("INCH", (1.0, None)), ("NONE", (1.0, None))]
)
def test_tiff__resolution_tags(unit, expected, tmp_path):
    tifffile = import_tifffile()
    values = noise((16, 24, 3), "uint8")
    tifffile.imwrite(
        tmp_path / "A.TIFF", values, photometric="rgb", compression="zlib", resolution=(2, 2), resolutionunit=unit
    )
    image = open_image(tmp_path / "A.TIFF")
    assert image.dims == ("y", "x", "c")
    assert spacing(image)["x"] == (expected[0], 0.0, expected[1])
    np.testing.assert_array_equal(image.values, values)


def test_tiff__a_compression_without_its_codec(tmp_path):
    tifffile = import_tifffile()
    lzw = tifffile.COMPRESSION.LZW
    if lzw in tifffile.TIFF.DECOMPRESSORS:
        pytest.skip("imagecodecs is installed")
    tifffile.imwrite(tmp_path / "a.tif", noise((8, 8)))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(lzw)
    with pytest.raises(ModuleNotFoundError, match=r"compressed by LZW.*pip install 'multiscale-sampler\[tiff\]'"):
        open_image(tmp_path / "a.tif")


def test_geotiff__one_band_and_a_rotated_grid(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("tifffile")
    values = noise((40, 30), "float32")
    straight = rasterio.Affine(0.5, 0, 10, 0, -0.25, 50)
    for name, transform in ("a.tif", straight), ("b.tif", straight @ rasterio.Affine.rotation(30)):
        options = {
            "height": 40,
            "width": 30,
            "count": 1,
            "dtype": "float32",
            "crs": "EPSG:4326",
            "transform": transform,
        }
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", tiled=True, blockxsize=16, blockysize=16, **options
        ) as f:
            f.write(values, 1)
    image, rotated = open_image(tmp_path / "a.tif"), open_image(tmp_path / "b.tif")
    assert spacing(image) == {"y": (-0.25, 49.875, "degree"), "x": (0.5, 10.25, "degree")}
    assert "nodata" not in image.attrs
    transform = straight @ rasterio.Affine.rotation(30)
    assert rotated.attrs["transform"] == pytest.approx(list(transform)[:6])
    # Positions along the axes of the grid, whose steps are the columns of the matrix.
    lengths = np.hypot(transform.b, transform.e), np.hypot(transform.a, transform.d)
    assert [spacing(rotated)[dim][0] for dim in "yx"] == pytest.approx(lengths)
    assert rotated.attrs["origin"][::-1] == pytest.approx(transform @ (0.5, 0.5))
    for each in image, rotated:
        np.testing.assert_array_equal(each[3:17, ::5].values, values[3:17, ::5])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti__scaled_values(suffix, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = noise((6, 5, 4, 3), "int16")
    file = nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0]))
    file.header.set_slope_inter(0.5, 10)
    file.header.set_xyzt_units("micron", "msec")
    nibabel.save(file, tmp_path / f"scan{suffix}")
    image = open_image(tmp_path / f"scan{suffix}")
    expected = np.asanyarray(nibabel.load(tmp_path / f"scan{suffix}").dataobj)
    assert image.dtype == expected.dtype == np.float64
    np.testing.assert_array_equal(image.transpose("x", "y", "z", "t").values, expected)
    assert [spacing(image)[dim][0] for dim in "xyzt"] == [2.0, 3.0, 4.0, 1.0]
    assert (image.x.attrs["units"], image.t.attrs["units"]) == ("micrometer", "millisecond")


def test_hdf5__the_only_dataset_with_labels(tmp_path):
    h5py = pytest.importorskip("h5py")
    values = noise((2, 6, 8, 10)).astype(">u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("group/raw", data=values, chunks=(1, 2, 4, 4))
        dataset.attrs["element_size_um"] = [2.0, 0.5, 0.25]
    with pytest.raises(ValueError, match="does not say what all its axes are"):
        open_image(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for dimension, label in zip(file["group/raw"].dims, "czyx", strict=True):
            dimension.label = label
    image = open_image(tmp_path / "a.h5", chunks=None)
    assert (image.dims, image.name, image.data.chunksize) == (tuple("czyx"), "raw", (1, 2, 4, 4))
    # In native byte order, which numba's kernels need.
    assert image.dtype == image[0, 0, 0].values.dtype == np.uint16
    assert [spacing(image)[dim] for dim in "zyx"] == [(size, 0.0, "micrometer") for size in (2.0, 0.5, 0.25)]
    np.testing.assert_array_equal(image.values, values)
    with pytest.raises(FileNotFoundError, match="no dataset at 'group'"):
        open_image(tmp_path / "a.h5", "group")


def test_netcdf__packed_values_dates_and_two_variables(tmp_path):
    pytest.importorskip("netCDF4")
    days = np.arange("2001-01-01", "2001-01-05", dtype="datetime64[D]").astype("datetime64[ns]")
    values = noise((4, 6), "float64")
    values[1, 2] = np.nan
    image = xr.DataArray(values, {"time": days, "x": ("x", np.arange(6) * 0.5, {"units": "m"})}, ("time", "x"))
    packed = {"a": {"dtype": "int16", "scale_factor": 0.125, "_FillValue": -32768}}
    image.to_dataset(name="a").to_netcdf(tmp_path / "one.nc", encoding=packed)
    image.to_dataset(name="a").assign(b=image[:2].rename(time="t")).to_netcdf(tmp_path / "two.nc")
    opened = open_image(tmp_path / "one.nc")
    np.testing.assert_array_equal(opened.values, values)
    np.testing.assert_array_equal(opened.time.values, days)
    assert spacing(opened)["x"] == (0.5, 0.0, "m")
    with pytest.raises(ValueError, match=r"'a' \(4, 6\), 'b' \(2, 6\)"):
        open_image(tmp_path / "two.nc")
    np.testing.assert_array_equal(open_image(tmp_path / "two.nc", "b").values, values[:2])
    with pytest.raises(FileNotFoundError, match="no variable 'c'"):
        open_image(tmp_path / "two.nc", "c")


def test_command_line__plans_and_builds_a_file(ome_tiff, tmp_path):
    path, values = ome_tiff
    assert main(["plan", str(path)]) == 0
    assert main(["build", str(path), str(tmp_path / "out.ome.zarr"), "--quiet"]) == 0
    level = open_pyramid(tmp_path / "out.ome.zarr")["scale0/cells"]
    np.testing.assert_array_equal(level.values, values)
    assert main(["build", str(path), str(path), "--overwrite", "--quiet"]) == 1
    np.testing.assert_array_equal(open_image(path).values, values)


MISSING = {
    "a.tif": ("tifffile", "tiff"),
    "a.ome.tiff": ("tifffile", "tiff"),
    "a.nii.gz": ("nibabel", "nifti"),
    "a.hdf5": ("h5py", "hdf5"),
    "a.nc": ("netCDF4", "netcdf"),
}


@pytest.mark.parametrize("name", MISSING)
def test_open_image__missing_readers_are_named(name, tmp_path, monkeypatch):
    module, extra = MISSING[name]
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).touch()
    with pytest.raises(ModuleNotFoundError) as caught:
        open_image(tmp_path / name)
    assert str(caught.value).endswith(f"pip install 'multiscale-sampler[{extra}]'")


@pytest.mark.parametrize("name", MISSING)
def test_open_image__refuses_damaged_files(name, tmp_path):
    pytest.importorskip(MISSING[name][0])
    (tmp_path / name).write_bytes(b"damaged" * 99)
    with pytest.raises((ValueError, OSError)):
        open_image(tmp_path / name)
    assert main(["plan", str(tmp_path / name)]) == 1


def test_open_image__a_geotiff_needs_rasterio(monkeypatch):
    pytest.importorskip("tifffile")
    path = real("geo_small", "RGB.byte.tif")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        open_image(path)
    assert str(caught.value).endswith("pip install 'multiscale-sampler[geotiff]'")


def test_open_image__a_folder_with_a_file_ending_is_a_store(tmp_path):
    write_pyramid(noise((8, 8)), tmp_path / "store.nc", scale_factors=[2])
    assert open_image(tmp_path / "store.nc").shape == (8, 8)
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "none.tif")


# --- levels and series of a file --------------------------------------------------------------------------------


def write_ome_pyramid(path, base, levels):
    """Write an OME-TIFF of two images, the first with levels in its SubIFDs."""
    tifffile = import_tifffile()
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "Channel": {"Name": ["DAPI", "GFP"]}}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(base, subifds=len(levels), metadata=metadata, tile=(16, 16))
        for level in levels:
            file.write(level, subfiletype=1, tile=(16, 16))
        file.write(base[0, :7, :9], metadata={"axes": "YX", "PhysicalSizeX": 3.0, "PhysicalSizeY": 3.0})


def test_tiff__levels_and_series_are_chosen(tmp_path):
    base = noise((2, 50, 37), "uint16")
    levels = [base[:, ::2, ::2][:, :25, :18], base[:, ::5, ::4][:, :10, :9]]
    write_ome_pyramid(tmp_path / "a.ome.tif", base, levels)
    tree = open_pyramid(tmp_path / "a.ome.tif")
    assert list(tree.children) == ["scale0", "scale1", "scale2"]
    expected = [((0.25, 0.0), (0.5, 0.0)), ((0.5, 0.125), (1.0, 0.25)), ((1.25, 0.5), (2.0, 0.75))]
    for number, (values, grids) in enumerate(zip([base, *levels], expected, strict=True)):
        image = tree[f"scale{number}/a"]
        assert image.chunks is not None
        np.testing.assert_array_equal(image, values)
        assert [spacing(image)[dim][:2] for dim in "yx"] == [pytest.approx(grid) for grid in grids]
        assert image.c.values.tolist() == ["DAPI", "GFP"]
        np.testing.assert_array_equal(open_image(tmp_path / "a.ome.tif", level=number), values)
    second = open_image(tmp_path / "a.ome.tif", series=1)
    np.testing.assert_array_equal(second, base[0, :7, :9])
    assert spacing(second)["x"] == (3.0, 0.0, "micrometer")
    # Stored levels are written unchanged, not recomputed.
    write_pyramid(tree, tmp_path / "a.zarr")
    for number, values in enumerate([base, *levels]):
        np.testing.assert_array_equal(open_pyramid(tmp_path / "a.zarr")[f"scale{number}/a"], values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 3}, "level=3 does not exist in .*; choose one from 0 to 2"),
        ({"series": 2}, "series=2 does not exist in .*; choose one from 0 to 1"),
    ],
)
def test_tiff__missing_levels_and_series(tmp_path, options, message):
    base = noise((2, 50, 37), "uint16")
    write_ome_pyramid(tmp_path / "a.ome.tif", base, [base[:, ::2, ::2], base[:, ::4, ::4]])
    with pytest.raises(ValueError, match=message):
        open_image(tmp_path / "a.ome.tif", **options)


def test_geotiff__overviews_are_levels(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("tifffile")
    values = noise((1, 64, 64), "uint8")
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)
    shape = {"height": 64, "width": 64, "count": 1, "dtype": "uint8", "tiled": True, "blockxsize": 16, "blockysize": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        with rasterio.open(
            tmp_path / "a.tif", "w", driver="GTiff", crs="EPSG:32618", transform=transform, **shape
        ) as file:
            file.write(values)
            file.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
        tree = open_pyramid(tmp_path / "a.tif")
        assert [node["a"].shape for node in tree.children.values()] == [(64, 64), (32, 32), (16, 16)]
        assert spacing(tree["scale2/a"])["x"] == (40.0, 500_020.0, "meter")
        with rasterio.open(tmp_path / "a.tif", overview_level=1) as file:
            np.testing.assert_array_equal(tree["scale2/a"], file.read(1))


def test_open_image__level_of_a_pyramid(tmp_path):
    write_pyramid(to_image(noise((16, 16))), tmp_path / "a", scale_factors=[2, 4], method="nearest")
    np.testing.assert_array_equal(open_image(tmp_path / "a", level=2), noise((16, 16))[::4, ::4])
    with pytest.raises(ValueError, match="level=3 is none of"):
        open_image(tmp_path / "a", level=3)
    with pytest.raises(ValueError, match="goes with a pyramid"):
        open_image(tmp_path / "a", "scale0/image", level=1)
    with pytest.raises(ValueError, match="series=1 goes with TIFF"):
        open_image(tmp_path / "a", series=1)
    with pytest.raises(ValueError, match="this is an array in memory"):
        open_image(noise((8, 8)), level=1)


# --- MetaImage, NRRD and pictures ------------------------------------------------------------------------------

DIRECTION = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd"])
@pytest.mark.parametrize("components", [1, 3])
def test_itk__values_and_labels(tmp_path, monkeypatch, ending, compressed, components):
    sitk = pytest.importorskip("SimpleITK")
    values = noise((5, 6, 7) + (components,) * (components > 1), "int16")
    written = sitk.GetImageFromArray(values, isVector=components > 1)
    written.SetSpacing((0.5, 0.25, 2.0))
    written.SetOrigin((10.0, 20.0, 30.0))
    written.SetDirection(np.ravel(DIRECTION))
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(written, str(path), useCompression=compressed)
    image = open_lazily(monkeypatch, path)
    assert image.dims == ("z", "y", "x") + ("c",) * (components > 1)
    assert image.dtype == "int16"
    np.testing.assert_array_equal(image.values, values)
    np.testing.assert_array_equal(image[1:3, 2:5, 3].values, values[1:3, 2:5, 3])
    assert [spacing(image)[dim][:2] for dim in "zyx"] == [(2.0, 30.0), (0.25, 20.0), (0.5, 10.0)]
    assert image.attrs["direction"] == np.flip(DIRECTION).tolist()
    assert image.attrs["origin"] == [30.0, 20.0, 10.0]
    words = {"x": "anterior-to-posterior", "y": "left-to-right", "z": "superior-to-inferior"}
    assert {dim: image[dim].attrs.get("orientation") for dim in words} == words


def test_itk__units_without_orientation(tmp_path):
    pytest.importorskip("SimpleITK")
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace dimension: 3\nsizes: 2 3 4\nspace directions: (2,0,0) (0,3,0) "
        '(0,0,4)\nspace units: "um" "um" "um"\nencoding: raw\nspace origin: (0,0,0)\n\n'
    )
    values = noise((4, 3, 2), "uint8")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + values.tobytes())
    image = open_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image, values)
    assert spacing(image) == {
        "z": (4.0, 0.0, "micrometer"),
        "y": (3.0, 0.0, "micrometer"),
        "x": (2.0, 0.0, "micrometer"),
    }
    assert not any("orientation" in image[dim].attrs for dim in "zyx")
    (tmp_path / "b.mha").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"b\.mha' cannot be read as MetaImage or NRRD: .*; check that it is complete"):
        open_image(tmp_path / "b.mha")


@pytest.mark.parametrize(
    ("ending", "shape", "dims"),
    [("png", (9, 12), "yx"), ("png", (9, 12, 3), "yxc"), ("bmp", (9, 12, 3), "yxc"), ("gif", (4, 9, 12, 3), "tyxc")],
)
def test_pictures__values_and_axes(tmp_path, ending, shape, dims):
    imageio = pytest.importorskip("imageio.v3")
    path = tmp_path / f"a.{ending}"
    imageio.imwrite(path, noise(shape, "uint8"))
    image = open_image(path, dims=dims if "t" in dims else None)
    assert image.dims == tuple(dims)
    np.testing.assert_array_equal(image, imageio.imread(path, plugin="pillow"))
    path.write_bytes(b"damaged")
    with pytest.raises(OSError, match=rf"a\.{ending}' cannot be read as a picture: .*; check that it is complete"):
        open_image(path)


@pytest.mark.parametrize(("ending", "module", "extra"), [("mha", "SimpleITK", "itk"), ("png", "imageio.v3", "imageio")])
def test_open_image__missing_readers_of_more_formats_are_named(tmp_path, monkeypatch, ending, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"a.{ending}"
    path.touch()
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'multiscale-sampler\[{extra}\]'"):
        open_image(path)


@pytest.mark.parametrize("options", [{"series": 1}, {"level": 1}, {"path": "a"}])
def test_open_image__options_that_do_not_fit_the_format(tmp_path, options):
    pytest.importorskip("imageio.v3").imwrite(tmp_path / "a.png", noise((9, 12), "uint8"))
    with pytest.raises(ValueError, match="does not apply to picture files"):
        open_image(tmp_path / "a.png", **options)
