"""TIFF files of which a part is missing: an error with the numbers, before anything is read."""

import uuid

import numpy as np
import pytest

from multiscale_sampler import open_image, open_pyramid, write_pyramid
from multiscale_sampler.cli import main

from ..data import noise
from .test_files import import_tifffile

PLANES = noise((20, 64, 48), "uint16", seed=3)


def write_plain(path, **options):
    """Write pages that nothing joins to a stack but that they are alike."""
    with import_tifffile().TiffWriter(path) as file:
        for plane in PLANES:
            file.write(plane, metadata=None, contiguous=False, **options)


def write_imagej(path, **options):
    import_tifffile().imwrite(path, PLANES, imagej=True, metadata={"axes": "ZYX"}, **options)


def write_stack(path, **options):
    import_tifffile().imwrite(path, PLANES, metadata={"axes": "ZYX"}, **options)


def write_plane(path, **options):
    import_tifffile().imwrite(path, PLANES[0], metadata={"axes": "YX"}, **options)


def write_geotiff(path, **options):
    rasterio = pytest.importorskip("rasterio")
    shape = {"height": 64, "width": 48, "count": 3, "dtype": "uint16", "tiled": True, "blockxsize": 16}
    place = {"crs": "EPSG:32618", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)}
    with rasterio.open(path, "w", driver="GTiff", blockysize=16, **shape, **place, **options) as file:
        file.write(PLANES[:3])


def cut(path, fraction):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])


CUT = {
    "ImageJ": (write_imagej, {}, "a.tif", "1 of 20 planes"),
    "ImageJ, deflate": (write_imagej, {"compression": "zlib"}, "a.tif", "10 of 20 planes"),
    "OME-TIFF": (write_stack, {"ome": True}, "a.ome.tif", "1 of at least 2 pages"),
    "OME-TIFF, tiles": (write_stack, {"ome": True, "tile": (16, 16), "compression": "zlib"}, "a.ome.tif", "pages"),
    "BigTIFF in one piece": (write_stack, {"bigtiff": True}, "a.tiff", r"\d+ of \d+ bytes"),
    "plain pages": (write_plain, {}, "a.tif", "10 of at least 11 pages"),
    "plain pages, lzma": (write_plain, {"compression": "lzma"}, "a.tif", "10 of at least 11 pages"),
    "tiles": (write_plane, {"tile": (16, 16)}, "a.tif", "5 of 12 strips or tiles"),
    "strips": (write_plane, {"rowsperstrip": 4, "compression": "zlib"}, "a.tif", "7 of 16 strips or tiles"),
    "GeoTIFF": (write_geotiff, {}, "a.tif", "5 of 12 strips or tiles"),
    "GeoTIFF, LZW": (write_geotiff, {"compress": "lzw"}, "a.tif", r"\d of 12 strips or tiles"),
}


@pytest.mark.parametrize("name", CUT)
def test_tiff__cut_short_is_an_error_with_the_numbers(tmp_path, name):
    write, options, file_name, numbers = CUT[name]
    path = tmp_path / file_name
    write(path, **options)
    open_image(path, dims=("u", "y", "x") if name.startswith("plain") else None)
    cut(path, 0.5)
    for opened in open_image, open_pyramid:
        with pytest.raises(ValueError, match=rf"'.*{file_name}' contains .*{numbers}.*; replace it by a complete copy"):
            opened(path)


def test_tiff__cut_short_is_one_line_for_each_command(tmp_path, capsys):
    write_imagej(tmp_path / "a.tif")
    cut(tmp_path / "a.tif", 0.5)
    for name, *target in ["build", str(tmp_path / "out.zarr")], ["plan"], ["info"], ["explain"], ["view"]:
        assert main([name, str(tmp_path / "a.tif"), *target]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "a.tif' contains 1 of 20 planes" in line
    assert not (tmp_path / "out.zarr").exists()


def test_tiff__tiles_beyond_the_end_of_the_file(tmp_path):
    tifffile = import_tifffile()
    write_plane(tmp_path / "a.tif", tile=(16, 16))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        tag = file.pages[0].tags["TileOffsets"]
        tag.overwrite((*tag.value[:-1], 2**31))
    with pytest.raises(ValueError, match="contains 11 of 12 strips or tiles"):
        open_image(tmp_path / "a.tif")


def test_tiff__a_hyperstack_shorter_than_it_states(tmp_path):
    """ImageJ writes one page and as many planes after it as its text states."""
    tifffile = import_tifffile()
    text = "ImageJ=1.54f\nimages=20\nslices=20\n"
    tifffile.imwrite(tmp_path / "a.tif", PLANES[0], description=text, metadata=None)
    with open(tmp_path / "a.tif", "ab") as file:
        file.write(PLANES[1:7].tobytes())
    with pytest.raises(ValueError, match="contains 1 of 20 planes"):
        open_image(tmp_path / "a.tif")


def test_tiff__a_list_of_pages_that_leads_to_itself(tmp_path):
    tifffile = import_tifffile()
    write_plain(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, place = file.pages[0].offset, file.pages.next_page_offset
    with open(tmp_path / "a.tif", "r+b") as file:
        file.seek(place)
        file.write(int(first).to_bytes(4, "little"))
    with pytest.raises(ValueError, match=r"a.tif' contains \d+ of at least \d+ pages"):
        open_image(tmp_path / "a.tif", dims=("u", "y", "x"))


def test_tiff__sparse_files_are_read_with_a_warning(tmp_path):
    tifffile = import_tifffile()
    write_plane(tmp_path / "a.tif", tile=(16, 16))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        for name in "TileOffsets", "TileByteCounts":
            tag = file.pages[0].tags[name]
            tag.overwrite((0, 0, *tag.value[2:]))
    with pytest.warns(UserWarning, match=r"a.tif' stores 10 of 12 strips or tiles; the others are read as"):
        image = open_image(tmp_path / "a.tif")
    expected = PLANES[0].copy()
    expected[:16, :32] = 0
    np.testing.assert_array_equal(image, expected)


def write_set(folder, count):
    """Write an OME-TIFF set, one channel in each file, all of which have the same OME-XML."""
    tifffile = import_tifffile()
    ids = [uuid.UUID(int=number + 1) for number in range(count)]
    planes = "".join(
        f'<TiffData FirstC="{number}" IFD="0" PlaneCount="1"><UUID FileName="s{number}.ome.tif">urn:uuid:{each}</UUID>'
        "</TiffData>"
        for number, each in enumerate(ids)
    )
    channels = "".join(f'<Channel ID="Channel:0:{number}" SamplesPerPixel="1"/>' for number in range(count))
    for number, each in enumerate(ids):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{each}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="32" SizeY="32" SizeZ="1" SizeC="{count}" SizeT="1">{channels}{planes}</Pixels></Image></OME>'
        )
        values = np.full((32, 32), 100 * (number + 1), "uint16")
        tifffile.imwrite(folder / f"s{number}.ome.tif", values, description=xml, metadata=None)


def test_ome_tiff__a_missing_file_of_a_set_is_named(tmp_path, capsys):
    write_set(tmp_path, 3)
    assert open_image(tmp_path / "s0.ome.tif").mean(("y", "x")).values.tolist() == [100, 200, 300]
    (tmp_path / "s1.ome.tif").unlink()
    message = r"s0.ome.tif' contains 2 of 3 planes, because \['s1.ome.tif'\] of its set of files are missing"
    with pytest.raises(ValueError, match=message):
        open_image(tmp_path / "s0.ome.tif")
    assert main(["build", str(tmp_path / "s0.ome.tif"), str(tmp_path / "out.zarr")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "contains 2 of 3 planes" in line


def test_ome_tiff__a_file_of_a_set_that_is_cut_short(tmp_path):
    write_set(tmp_path, 3)
    cut(tmp_path / "s2.ome.tif", 0.6)
    with pytest.raises(ValueError, match=r"s0.ome.tif' contains 2 of 3 strips or tiles"):
        open_image(tmp_path / "s0.ome.tif")


@pytest.mark.parametrize("name", CUT)
def test_tiff__whole_files_are_read_without_a_report(tmp_path, name):
    write, options, file_name, _ = CUT[name]
    write(tmp_path / file_name, **options)
    image = open_image(tmp_path / file_name, dims=("u", "y", "x") if name.startswith("plain") else None)
    expected = PLANES[0] if image.ndim == 2 else PLANES[: len(image)]
    np.testing.assert_array_equal(image, expected)


def test_tiff__a_level_that_is_cut_short_does_not_bar_another(tmp_path):
    tifffile = import_tifffile()
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(PLANES, subifds=1, tile=(16, 16), metadata={"axes": "ZYX"})
        file.write(PLANES[:, ::2, ::2], subfiletype=1, tile=(16, 16))
    with tifffile.TiffFile(tmp_path / "a.ome.tif", mode="r+b") as file:
        tag = file.series[0].levels[1][0].aspage().tags["TileOffsets"]
        tag.overwrite((*tag.value[:-1], 2**31))
    np.testing.assert_array_equal(open_image(tmp_path / "a.ome.tif"), PLANES)
    with pytest.raises(ValueError, match=r"contains 79 of 80 strips or tiles"):
        open_image(tmp_path / "a.ome.tif", level=1)
    with pytest.raises(ValueError, match=r"contains 79 of 80 strips or tiles"):
        write_pyramid(open_pyramid(tmp_path / "a.ome.tif"), tmp_path / "out.zarr")
