"""World files beside TIFF files and pictures, compared with rasterio."""

import warnings

import pytest

from multiscale_sampler import open_image, open_pyramid, write_pyramid
from multiscale_sampler.image.dataarray import has_stated_positions

from ..data import noise, place_on_map

# Steps along a row, steps along a column, centre of the first pixel: of an upright and of a rotated grid.
UPRIGHT, ROTATED = (10, 0, 0, -10, 105, 195), (8.66, -5, -5, -8.66, 105, 195)
# Of affine 3, in rasterio.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def write_picture(path, values, world, ending):
    """Write a picture, and a world file beside it."""
    if path.suffix.lower() in (".tif", ".tiff"):
        pytest.importorskip("tifffile").imwrite(path, values)
    else:
        pytest.importorskip("imageio.v3").imwrite(path, values)
    path.with_suffix(ending).write_text("\n".join(map(str, world)) + "\n")
    return path


@pytest.mark.parametrize("world", [UPRIGHT, ROTATED], ids=["upright", "rotated"])
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        *(("a.tif", ".tfw"), ("a.tif", ".tifw"), ("a.tif", ".wld"), ("A.TIFF", ".TFW"), ("a.b.tif", ".tfw")),
        *(("a.png", ".pgw"), ("a.jpg", ".jgw"), ("a.jpeg", ".jpegw"), ("a.bmp", ".bpw"), ("a.png", ".wld")),
    ],
)
def test_world_file__places_the_levels_of_a_file(tmp_path, name, ending, world):
    rasterio = pytest.importorskip("rasterio")
    values = noise((32, 48), "uint8")
    path = write_picture(tmp_path / name, values, world, ending)
    image = open_image(path).astype("float32")
    # The version whose metadata can state a rotation needs scales above 0, as the rotated grid has them.
    version = "0.6" if world == ROTATED else "0.5"
    options = {"version": version, "ascending": False if version == "0.5" else None}
    write_pyramid(image, tmp_path / "out.zarr", scale_factors=[2, 4], **options)
    with rasterio.open(path) as file:
        transform, stored = file.transform, file.read(1)
    for number, node in enumerate(open_pyramid(tmp_path / "out.zarr").children.values()):
        (level,), factor = node.data_vars.values(), 2**number
        for y, x in ((0, 0), (3, 5), (7, 11)):
            window = stored[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            assert float(level[y, x]) == pytest.approx(window.mean())
            expected = transform @ ((x + 0.5) * factor, (y + 0.5) * factor)
            assert tuple(place_on_map(level, y, x)) == pytest.approx(expected)


@pytest.mark.parametrize("identity", [True, False])
def test_world_file__of_a_geotiff_without_positions(tmp_path, identity):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("tifffile")
    options = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    # GDAL takes the identity that is written for the position of the file.
    placed = {"transform": rasterio.Affine.identity()} if identity else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "a.tif", "w", **options, **placed) as file:
            file.write(noise((1, 8, 8), "uint8"))
    (tmp_path / "a.tfw").write_text("\n".join(map(str, UPRIGHT)))
    image = open_image(tmp_path / "a.tif")
    assert (float(image.x[1]), float(image.y[1]), image.x.attrs["units"]) == (115.0, 185.0, "meter")


@pytest.mark.parametrize("text", ["", "1\n2\n3", "a\nb\nc\nd\ne\nf", "0\n0\n0\n0\n1\n2", "nan\n0\n0\n1\n0\n0"])
def test_world_file__that_states_no_grid_is_said(tmp_path, text):
    path = write_picture(tmp_path / "a.tif", noise((8, 8), "uint8"), (), ".tfw")
    (tmp_path / "a.tfw").write_text(text)
    with pytest.warns(UserWarning, match=r"the world file '.*a\.tfw' is not used"):
        image = open_image(path)
    assert not any(has_stated_positions(image, dim) for dim in "yx")


def test_world_file__of_another_file_is_not_taken(tmp_path):
    path = write_picture(tmp_path / "a.tif", noise((8, 8), "uint8"), UPRIGHT, ".tfw")
    other = write_picture(tmp_path / "b.tif", noise((8, 8), "uint8"), UPRIGHT, ".txt")
    assert float(open_image(path).x[0]) == 105.0
    assert not has_stated_positions(open_image(other), "x")
