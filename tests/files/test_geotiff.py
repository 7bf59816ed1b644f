"""Where GeoTIFF files say that their pixels lie, at every level, compared with rasterio."""

import numpy as np
import pytest
import zarr

from multiscale_sampler import open_image, open_pyramid, to_image, to_multiscale, write_pyramid
from multiscale_sampler.cli import main
from multiscale_sampler.image.dataarray import has_stated_positions

from ..data import noise, place_on_map

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("tifffile")
# Of affine 3, in rasterio.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

UPRIGHT = rasterio.Affine(10, 0, 500_000, 0, -10, 4_200_000)
GRIDS = {
    "rotated": UPRIGHT @ rasterio.Affine.rotation(30),
    "sheared": rasterio.Affine(10, 2, 500_000, 1, -10, 4_200_000),
    "transposed": rasterio.Affine(0, 10, 500_000, -20, 0, 4_200_000),
}


def write_raster(path, values, **options):
    profile = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1], **options}
    with rasterio.open(path, "w", **{"dtype": values.dtype.name, "crs": "EPSG:32633", **profile}) as file:
        file.write(values, 1)
    return path


@pytest.mark.parametrize("grid", GRIDS)
def test_geozarr__a_rotated_grid_of_another_writer_is_read(tmp_path, grid):
    path = write_raster(tmp_path / "a.tif", noise((32, 48), "float32"), transform=GRIDS[grid])
    write_pyramid(open_image(path), tmp_path / "a.zarr", scale_factors=[2, 4], metadata=("geozarr",))
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+", use_consolidated=False)
    for level in ("scale0", "scale1", "scale2"):
        # As where nothing but spatial:transform states positions.
        del group[f"{level}/y"], group[f"{level}/x"]
        group[f"{level}/a"].attrs.put({})
    group.attrs.put(group.attrs.asdict())
    tree = open_pyramid(tmp_path / "a.zarr")
    for number, factor in enumerate((1, 2, 4)):
        expected = GRIDS[grid] @ (5.5 * factor, 3.5 * factor)
        assert tuple(place_on_map(tree[f"scale{number}/a"], 3, 5)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_geotiff__levels_of_a_rotated_grid_lie_where_rasterio_says(tmp_path, grid, dtype):
    values = noise((32, 48), "uint8").astype(dtype)
    path = write_raster(tmp_path / "a.tif", values, transform=GRIDS[grid])
    write_pyramid(open_image(path), tmp_path / "a.zarr", scale_factors=[2, 4], metadata=("ome", "geozarr"))
    attributes = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs.asdict()
    with rasterio.open(path) as file:
        assert attributes["spatial:bbox"] == pytest.approx(list(file.bounds))
    tree = open_pyramid(tmp_path / "a.zarr")
    for number, factor in enumerate((1, 2, 4)):
        image = tree[f"scale{number}/a"]
        stated = rasterio.Affine(*attributes["multiscales"]["layout"][number]["spatial:transform"])
        own = rasterio.Affine(*zarr.open_group(tmp_path / "a.zarr")[f"scale{number}"].attrs["spatial:transform"])
        for y, x in ((0, 0), (3, 5), (7, 11)):
            window = values[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            assert float(image[y, x]) == pytest.approx(window.mean(), abs=0 if dtype == "float32" else 0.5)
            expected = GRIDS[grid] @ ((x + 0.5) * factor, (y + 0.5) * factor)
            for transform in stated, own, rasterio.Affine(*image.attrs["transform"]):
                assert transform @ (x + 0.5, y + 0.5) == pytest.approx(expected, rel=1e-12)
            assert tuple(place_on_map(image, y, x)) == pytest.approx(expected, rel=1e-12)


def test_geotiff__a_rotated_grid_is_said_where_the_metadata_are_of_upright_ones(tmp_path, capsys):
    path = write_raster(tmp_path / "a.tif", noise((32, 48), "uint8"), transform=GRIDS["rotated"])
    with pytest.warns(UserWarning, match="'a' lies rotated in space"):
        write_pyramid(open_image(path), tmp_path / "a.zarr", scale_factors=[2])
    assert main(["build", str(path), str(tmp_path / "b.zarr"), "--quiet"]) == 0
    assert "'a' lies rotated in space" in (said := capsys.readouterr().err)
    assert "write --ngff 0.6" in said
    assert main(["build", str(path), str(tmp_path / "c.zarr"), "--quiet", "--metadata", "ome,geozarr"]) == 0
    assert capsys.readouterr().err == ""


def test_geotiff__overviews_of_a_rotated_grid_are_on_it(tmp_path):
    path = write_raster(tmp_path / "a.tif", noise((64, 64), "uint8"), transform=GRIDS["rotated"])
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
    tree = open_pyramid(path)
    for number, node in enumerate(tree.children.values()):
        with rasterio.open(path, **({"overview_level": number - 1} if number else {})) as file:
            assert tuple(place_on_map(node["a"], 3, 5)) == pytest.approx(file.transform @ (5.5, 3.5), rel=1e-12)
            assert node["a"].attrs["transform"] == pytest.approx(list(file.transform)[:6])
    # All levels have one origin.
    assert len({str(node["a"].attrs["origin"]) for node in tree.children.values()}) == 1


def points_on(transform, height, width, bend=0.0):
    """Return ground control points of the corners and the middle of a raster; the middle one is off by some pixels."""
    corners = [(0, 0), (0, width), (height, 0), (height, width), (height / 2, width / 2 + bend)]
    found = []
    for number, (row, column) in enumerate(corners):
        x, y = transform @ (column, row)
        stored = (row, column - bend) if number == 4 else (row, column)
        found.append(rasterio.control.GroundControlPoint(*stored, x, y, 0))
    return found


@pytest.mark.parametrize("grid", ["upright", "rotated"])
def test_geotiff__control_points_on_a_grid_place_it(tmp_path, grid):
    transform = {"upright": UPRIGHT, **GRIDS}[grid]
    path = write_raster(tmp_path / "a.tif", noise((64, 48), "uint8"), gcps=points_on(transform, 64, 48))
    level = to_multiscale(open_image(path), [2])["scale1/a"]
    assert tuple(place_on_map(level, 2, 7)) == pytest.approx(transform @ (15, 5), rel=1e-9)
    assert rasterio.crs.CRS.from_wkt(level.attrs["crs"]) == rasterio.crs.CRS.from_epsg(32633)
    assert level.x.attrs["units"] == "meter"


def test_geotiff__control_points_that_no_grid_fits_are_said(tmp_path):
    points = points_on(UPRIGHT, 64, 48, bend=5.0)
    path = write_raster(tmp_path / "a.tif", noise((64, 48), "uint8"), gcps=points)
    with pytest.warns(UserWarning, match=r"a\.tif.*the 5 ground control points are not used"):
        image = open_image(path)
    assert not any(has_stated_positions(image, dim) for dim in "yx")


def test_geotiff__without_a_transformation_is_not_placed(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write_raster(tmp_path / "a.tif", noise((64, 48), "uint8"))
    with pytest.warns(UserWarning, match="no geotransform"):
        image = open_image(path)
    assert "crs" in image.attrs
    assert not any(has_stated_positions(image, dim) for dim in "yx")
    with pytest.raises(ValueError, match=r"nobody said so along \['y', 'x'\] of 'a'"):
        write_pyramid(image, tmp_path / "a.zarr", scale_factors=[2], metadata=("geozarr",))


def test_geozarr__an_image_without_positions_is_refused(tmp_path):
    image = to_image(noise((32, 32), "uint8")).assign_attrs(crs="EPSG:32633")
    with pytest.raises(ValueError, match=r"nobody said so along \['y', 'x'\] of 'image'; give scale and translation"):
        write_pyramid(image, tmp_path / "a.zarr", scale_factors=[2], metadata=("ome", "geozarr"))
    assert not (tmp_path / "a.zarr").exists()


def test_geotiff__complex_integers_are_complex_numbers(tmp_path):
    values = (noise((8, 8), "int16") + 1j * noise((8, 8), "int16", seed=1)).astype("complex64")
    path = write_raster(tmp_path / "a.tif", values, dtype="complex_int16", transform=UPRIGHT)
    image = open_image(path)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(image.values, file.read(1))
    assert image.dtype == np.complex64
