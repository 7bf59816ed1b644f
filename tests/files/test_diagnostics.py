"""Files that are damaged, incomplete or of another format: one error that names the file, whatever the library says."""

import concurrent.futures
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from multiscale_sampler import open_image, write_pyramid
from multiscale_sampler.cli import main
from multiscale_sampler.files import FORMATS, diagnostics
from multiscale_sampler.files.diagnostics import opening, reading

from ..data import noise
from .test_files import import_tifffile

VALUES = noise((20, 48, 64), "uint16", seed=7)


def write_tiff(path, **options):
    import_tifffile().imwrite(path, VALUES, metadata={"axes": "ZYX"}, **{"compression": "zlib", **options})


def write_geotiff(path, **options):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("tifffile")
    place = {"crs": "EPSG:32618", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)}
    shape = {"height": 48, "width": 64, "count": 1, "dtype": "uint8", "tiled": True, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **options) as file:
        file.write(noise((1, 48, 64), "uint8"))


def write_nifti(path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(VALUES, np.eye(4)), path)


def write_itk(path, *, compressed=True):
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(path), useCompression=compressed)


def write_bzip2(path):
    pytest.importorskip("SimpleITK")
    import bz2

    header = "NRRD0004\ntype: uint16\ndimension: 3\nsizes: 64 48 20\nencoding: bzip2\nendian: little\n\n"
    path.write_bytes(header.encode() + bz2.compress(VALUES.astype("<u2").tobytes()))


def write_hdf5(path, **options):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=VALUES, chunks=(4, 16, 32), **options)


def write_netcdf(path):
    pytest.importorskip("netCDF4")
    encoding = {"a": {"zlib": True, "chunksizes": (4, 16, 32)}}
    xr.DataArray(VALUES, dims=("z", "y", "x"), name="a").to_netcdf(path, engine="netcdf4", encoding=encoding)


def write_picture(path):
    pytest.importorskip("imageio.v3").imwrite(path, noise((48, 64), "uint8"))


def damage(path, fraction=0.6):
    content = bytearray(path.read_bytes())
    start = int(len(content) * fraction)
    content[start : start + 48] = bytes(byte ^ 0x5A for byte in content[start : start + 48])
    path.write_bytes(content)


DAMAGED = {
    "TIFF, deflate": (
        "a.ome.tif",
        lambda path: write_tiff(path, tile=(16, 16)),
        r"at \[\d+:\d+, \d+:\d+, \d+:\d+\]: .*",
    ),
    "TIFF, lzma": ("a.ome.tif", lambda path: write_tiff(path, compression="lzma"), r"at \[\d+:\d+, 0:48, 0:64\]: .*"),
    "GeoTIFF, deflate": ("a.tif", lambda path: write_geotiff(path, compress="deflate"), r"at \[\d+:\d+, \d+:\d+\]: .*"),
    "GeoTIFF, LZW": ("a.tif", lambda path: write_geotiff(path, compress="lzw"), r"at \[\d+:\d+, \d+:\d+\]: .*"),
    "GeoTIFF, JPEG": ("a.tif", lambda path: write_geotiff(path, compress="jpeg"), r"at \[.*JPEGLib.*"),
    "NIfTI, gzip": ("a.nii.gz", write_nifti, "after .* bytes of values: .*"),
    "MHA, zlib": ("a.mha", write_itk, "after .* bytes of values: .*"),
    "MHD, zlib": ("a.mhd", write_itk, "after .* bytes of values: .*"),
    "NRRD, gzip": ("a.nrrd", write_itk, "after .* bytes of values: .*"),
    "NHDR, gzip": ("a.nhdr", write_itk, "after .* bytes of values: .*"),
    "NRRD, bzip2": ("b.nrrd", write_bzip2, "after .* bytes of values: .*"),
    "HDF5, gzip": ("a.h5", lambda path: write_hdf5(path, compression="gzip"), r"at \[\d+:\d+, \d+:\d+, \d+:\d+\]: .*"),
    "HDF5, lzf": ("a.hdf5", lambda path: write_hdf5(path, compression="lzf", fletcher32=True), r"at \[\d+:\d+, .*"),
    "netCDF": ("a.nc", write_netcdf, r"at \[\d+:\d+, \d+:\d+, \d+:\d+\]: .*"),
    "PNG": ("a.png", write_picture, ": .*"),
}


def file_of_values(path):
    """Return the file that has the values: MHD and NHDR files have them in another one."""
    beside = [other for other in path.parent.iterdir() if other.stem.startswith("a") and "raw" in other.name]
    return beside[0] if beside else path


@pytest.mark.parametrize("name", DAMAGED)
def test_damage__is_one_line_with_the_file_and_the_part(tmp_path, name, capsys):
    file_name, write, text = DAMAGED[name]
    path = tmp_path / file_name
    write(path)
    np.testing.assert_array_equal(open_image(path).shape[-2:], (48, 64) if "nii" not in file_name else (48, 20))
    damage(file_of_values(path))
    image = open_image(path)
    with pytest.raises(
        (ValueError, OSError), match=rf"(?s)'.*{file_name}' is damaged or incomplete {text}".replace(" :", ":")
    ):
        image.load()
    assert main(["build", str(path), str(tmp_path / "out.zarr"), "--quiet"]) == 1
    # A map is written as it is, with a warning of its descending axis.
    *said, line = capsys.readouterr().err.splitlines()
    assert [f"{file_name}' is damaged" in text for text in said] == [False] * len(said)
    assert f"{file_name}' is damaged or incomplete" in line


CONTENTS = {"empty": b"", "text": b"a table of numbers\n1 2 3\n" * 40, "page": b"<html><body>404</body></html>"}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("ending", sorted({*FORMATS} - {".ome.tif", ".ome.tiff", ".tiff", ".jpeg", ".hdf5", ".webp"}))
def test_other_content__is_one_line_that_names_the_format(tmp_path, ending, content, capsys):
    path = tmp_path / f"a{ending}"
    path.write_bytes(CONTENTS[content])
    with pytest.raises((ValueError, OSError), match=rf"'.*a{ending}' cannot be read as .*; check that it is complete"):
        open_image(path)
    for command in ["info", str(path)], ["build", str(path), str(tmp_path / "out.zarr")]:
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"a{ending}' cannot be read as {FORMATS[ending].name}: " in line
    assert not (tmp_path / "out.zarr").exists()


CUT = {
    "NIfTI": ("a.nii", write_nifti, r"contains \d+ of \d+ bytes"),
    "NIfTI, gzip": ("a.nii.gz", write_nifti, r"after \d+ of \d+ bytes of values"),
    "MHA": ("a.mha", lambda path: write_itk(path, compressed=False), r"contains \d+ of 122880 bytes of values"),
    "MHA, zlib": ("a.mha", write_itk, r"contains \d+ of \d+ bytes of values"),
    "MHD": ("a.mhd", lambda path: write_itk(path, compressed=False), "contains 61440 of 122880 bytes of values"),
    "NRRD": ("a.nrrd", lambda path: write_itk(path, compressed=False), r"contains \d+ of 122880 bytes of values"),
    "NRRD, gzip": ("a.nrrd", write_itk, r"after \d+ of 122880 bytes of values"),
    "NHDR": ("a.nhdr", lambda path: write_itk(path, compressed=False), "contains 61440 of 122880 bytes of values"),
    "HDF5": ("a.h5", write_hdf5, r"truncated file: eof = \d+"),
    "netCDF": ("a.nc", write_netcdf, "HDF error"),
    "PNG": ("a.png", write_picture, r"contains \d+ of \d+ bytes"),
    "JPEG": ("a.jpg", write_picture, "image file is truncated"),
    "BMP": ("a.bmp", write_picture, "image file is truncated"),
}


@pytest.mark.parametrize("name", CUT)
def test_cut_short__is_an_error_with_the_numbers(tmp_path, name):
    file_name, write, text = CUT[name]
    path = tmp_path / file_name
    write(path)
    values = file_of_values(path)
    values.write_bytes(values.read_bytes()[: values.stat().st_size // 2])
    with pytest.raises((ValueError, OSError), match=rf"'.*{file_name}' .*{text}"):
        write_pyramid(open_image(path), tmp_path / "out.zarr")


def test_missing_sources__of_hdf5_are_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    layout = h5py.VirtualLayout((2, 8, 8), "uint16")
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["a"] = VALUES[number, :8, :8]
        layout[number] = h5py.VirtualSource(f"{number}.h5", "a", (8, 8))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    np.testing.assert_array_equal(open_image(tmp_path / "all.h5"), VALUES[:2, :8, :8])
    (tmp_path / "1.h5").unlink()
    with pytest.raises(ValueError, match=r"all.h5' contains 1 of 2 source files, \['1.h5'\] are missing"):
        open_image(tmp_path / "all.h5")


def test_missing_sources__of_hdf5_in_plain_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    values = VALUES[0, :8, :8]
    (tmp_path / "raw.bin").write_bytes(values.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (8, 8), "uint16", external=[("raw.bin", 0, values.nbytes)], efile_prefix=str(tmp_path))
    (tmp_path / "raw.bin").write_bytes(values.tobytes()[:50])
    with pytest.raises(ValueError, match=r"a.h5' contains 50 of 128 bytes of values in its file 'raw.bin'"):
        open_image(tmp_path / "a.h5")


# --- what libraries log and warn of ----------------------------------------------------------------------------


def log_state():
    loggers = [logging.getLogger(name) for name in diagnostics.LOGGERS]
    return [(logger.level, list(logger.filters), list(logger.handlers), logger.propagate) for logger in loggers]


def test_reports__of_odd_tags_are_one_warning_at_the_call_of_the_user(tmp_path, caplog):
    tifffile = import_tifffile()
    write_tiff(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        tag = file.pages[0].tags["Software"]
        with open(tmp_path / "a.tif", "r+b") as raw:
            raw.seek(tag.offset + 8)
            raw.write((2**31).to_bytes(4, "little"))
    state, filters = log_state(), list(warnings.filters)
    with pytest.warns(UserWarning, match=r"^'.*a.tif': .*TiffTag 305 .*invalid value offset") as caught:
        image = open_image(tmp_path / "a.tif")
    (warning,) = caught
    assert warning.filename == __file__
    assert not caplog.records
    assert (log_state(), list(warnings.filters)) == (state, filters)
    # Reading opens the file again, and does not repeat it.
    np.testing.assert_array_equal(image, VALUES)


@pytest.mark.parametrize("name", diagnostics.LOGGERS)
def test_reports__are_heard_from_the_logger_of_each_library(tmp_path, name):
    logger, path = logging.getLogger(name), tmp_path / "a.tif"

    def open_with_reports():
        with opening(path, "TIFF"):
            logger.warning("an odd %s", "tag")
            logger.error("another")
            logger.info("nothing to report")

    def read_with_reports():
        with reading(path, " at [0:1]"):
            logger.warning("OME series is missing 2 frames. Missing data are zeroed.")

    with pytest.warns(UserWarning, match=r"^'.*a.tif': an odd tag \(and 1 more reports\)$"):
        open_with_reports()
    with pytest.raises(ValueError, match=r"a.tif' is damaged or incomplete at \[0:1\]: .*are zeroed; replace"):
        read_with_reports()


def test_reports__of_other_threads_and_other_callers_stay_in_the_log(tmp_path, caplog):
    logger = logging.getLogger("tifffile")
    with concurrent.futures.ThreadPoolExecutor(1) as threads, reading(tmp_path / "a.tif", ""):
        threads.submit(logger.warning, "of another thread").result()
    logger.warning("of another caller")
    assert [record.getMessage() for record in caplog.records] == ["of another thread", "of another caller"]


def test_reports__in_threads_that_zarr_reads_with_belong_to_the_read(tmp_path, monkeypatch):
    tifffile = import_tifffile()
    write_tiff(tmp_path / "a.tif", compression=None)
    image = open_image(tmp_path / "a.tif", chunks={"z": 1})

    def read(self, *arguments):
        logging.getLogger("tifffile").warning("<tifffile.read_bytes> failed to read 6144 bytes, got 9")
        return bytes(arguments[2])

    monkeypatch.setattr(tifffile.tifffile.FileCache, "read", read)
    with pytest.raises(ValueError, match=r"a.tif' is damaged or incomplete at \[\d+:\d+, 0:48, 0:64\]: .*got 9; repl"):
        image.load()


def test_reports__without_a_read_leave_the_loggers_as_they_were(tmp_path):
    state = log_state()
    write_tiff(tmp_path / "a.ome.tif")
    image = open_image(tmp_path / "a.ome.tif", chunks={"z": 1})
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        planes = list(threads.map(lambda z: image[z].values, range(20)))
        images = list(threads.map(open_image, [tmp_path / "a.ome.tif"] * 8))
    np.testing.assert_array_equal(np.stack(planes), VALUES)
    assert all(each.shape == VALUES.shape for each in images)
    assert log_state() == state


@pytest.mark.parametrize(
    ("category", "expected", "text"),
    [(RuntimeWarning, UserWarning, r"^'.*a.png': a report$"), (DeprecationWarning, DeprecationWarning, "^a report$")],
)
def test_warnings__of_a_library_name_the_file_but_for_those_to_developers(tmp_path, category, expected, text):
    def open_with_warning():
        with opening(tmp_path / "a.png", "a picture"):
            warnings.warn("a report", category, stacklevel=1)

    with pytest.warns(expected, match=text) as caught:
        open_with_warning()
    assert len(caught) == 1


def read_with_error(error):
    with reading(Path("a.tif"), ""):
        raise error


@pytest.mark.parametrize(
    "error", [KeyError("a"), RuntimeError("x\n  y"), EOFError(), MemoryError("9 TiB"), AttributeError("z")]
)
def test_errors__of_any_class_become_a_value_error_with_the_cause(error):
    with pytest.raises(ValueError, match=r"^'a.tif' is damaged or incomplete: .*\w.*; replace it by") as caught:
        read_with_error(error)
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("pip install"), UserWarning("x"), ValueError("'a.tif' has no axis")]
)
def test_errors__that_are_complete_are_not_changed(error):
    with pytest.raises(type(error)) as caught:
        read_with_error(error)
    assert caught.value is error


def test_missing_file__is_said(tmp_path, capsys):
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE")
    for name in "none.tif", "none.nii.gz", "folder.tif", "a.czi":
        with pytest.raises(FileNotFoundError, match=name):
            open_image(tmp_path / name)
        assert main(["build", str(tmp_path / name), str(tmp_path / "out.zarr")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert name in line
