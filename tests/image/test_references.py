"""What rioxarray finds of each level: where its pixels lie, in which system; and no names of missing variables."""

import functools

import numpy as np
import pytest
import xarray as xr
import zarr
from affine import Affine

import multiscale_sampler as ms
from multiscale_sampler.cli import main

rasterio = pytest.importorskip("rasterio")
rioxarray = pytest.importorskip("rioxarray")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*rotated:UserWarning"),
    pytest.mark.filterwarnings("ignore:voxels of level:UserWarning"),
]

VALUES = np.random.default_rng(0).random((24, 36)).astype("f4")


def chain(*transforms):
    """Return the product of affine transformations, for which their package has changed the operator."""
    matrix = functools.reduce(np.matmul, [np.array(each).reshape(3, 3) for each in transforms])
    return Affine(*matrix[:2].ravel())


UPRIGHT = Affine(30, 0, 500000, 0, -30, 4200000)
DEGREES = Affine(0.25, 0, -10.125, 0, -0.25, 60.125)
ROTATED = chain(Affine.translation(500000, 4200000), Affine.rotation(30), Affine.scale(30, -20))
FACTORS = {"y": 2, "x": 3}


def raster(transform, crs="EPSG:32633", names=("y", "x"), mapping="spatial_ref"):
    """Return an image that rioxarray has placed; coordinates only where the grid stands upright."""
    image = xr.DataArray(VALUES, dims=("y", "x"), name="v")
    if not transform.b:
        columns, rows = np.arange(36) + 0.5, np.arange(24) + 0.5
        image = image.assign_coords(x=transform.c + transform.a * columns, y=transform.f + transform.e * rows)
    image = image.rename(y=names[0], x=names[1])
    image = image.rio.set_spatial_dims(x_dim=names[1], y_dim=names[0])
    return image.rio.write_crs(crs, mapping).rio.write_transform(transform, mapping)


def transform_of_level(transform, factors, *, first=False):
    """Return the affine of a level whose values lie at the centres of windows, or at their first samples."""
    offsets = [(0.5 - factor / 2) if first else 0.0 for factor in factors]
    return chain(transform, Affine.translation(*offsets), Affine.scale(*factors))


def check(level, transform, crs="EPSG:32633"):
    assert level.rio.crs == rasterio.crs.CRS.from_user_input(crs)
    np.testing.assert_allclose(level.rio.transform()[:6], transform[:6], rtol=1e-9, atol=1e-9)


def by_command_line(source, tmp_path):
    """Return a pyramid that the command line has built from an array that xarray has stored."""
    place, out = str(tmp_path / "source.zarr"), str(tmp_path / "out.zarr")
    source.to_dataset().to_zarr(place, consolidated=False)
    rows, columns = source.dims
    options = ["--factors", f"{rows}=2,{columns}=3", "--max-levels", "2", "--min-size", "1", "--quiet"]
    assert main(["build", f"{place}/v", out, *options]) == 0
    return ms.open_pyramid(out)


def written(source, factors, **options):
    store = {}
    ms.write_pyramid(source, store, **({} if factors is None else {"scale_factors": [factors]}), **options)
    return store


def read_by_xarray(store):
    return {
        name: xr.open_dataset(store, engine="zarr", group=name, consolidated=False, decode_coords="all")
        for name in ("scale0", "scale1")
    }


MAKERS = {
    "to_multiscale": lambda image, factors, _: ms.to_multiscale(image, [factors]),
    "write_pyramid": lambda image, factors, _: ms.open_pyramid(written(image, factors)),
    "of a tree": lambda image, factors, _: ms.open_pyramid(written(ms.to_multiscale(image, [factors]), None)),
    "0.4": lambda image, factors, _: ms.open_pyramid(written(image, factors, version="0.4")),
    "xarray": lambda image, factors, _: read_by_xarray(written(image, factors)),
    "build": lambda image, factors, tmp_path: by_command_line(image, tmp_path),
}
GRIDS = {
    "upright": (UPRIGHT, "EPSG:32633", ("y", "x"), "spatial_ref"),
    "degrees": (DEGREES, "EPSG:4326", ("latitude", "longitude"), "crs"),
    "rotated": (ROTATED, "EPSG:32633", ("y", "x"), "transverse_mercator"),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("maker", MAKERS)
def test_every_level__has_the_transform_and_system_of_its_pixels(tmp_path, maker, grid):
    transform, crs, names, mapping = GRIDS[grid]
    image = raster(transform, crs, names, mapping)
    levels = MAKERS[maker](image, dict(zip(names, (2, 3), strict=True)), tmp_path)
    for index, factors in enumerate([(1, 1), (3, 2)]):
        (level,) = levels[f"scale{index}"].data_vars.values()
        check(level.rio.set_spatial_dims(names[1], names[0]), transform_of_level(transform, factors), crs)
        stated = Affine.from_gdal(*map(float, level.coords[mapping].attrs["GeoTransform"].split()))
        np.testing.assert_allclose(stated[:6], transform_of_level(transform, factors)[:6], rtol=1e-12)


@pytest.mark.parametrize("transform", [UPRIGHT, ROTATED])
def test_nearest__lies_at_the_first_sample(transform):
    level = ms.coarsen(raster(transform), FACTORS, method="nearest")
    check(level, transform_of_level(transform, (3, 2), first=True))


def test_the_base_and_axes_that_are_not_reduced__keep_the_text():
    image = raster(UPRIGHT).expand_dims(band=4)
    image.spatial_ref.attrs["GeoTransform"] = "500000 30 0 4200000 0 -30"
    tree = ms.to_multiscale(image, [{"band": 2}])
    for name in ("scale0", "scale1"):
        assert tree[name].v.spatial_ref.attrs["GeoTransform"] == "500000 30 0 4200000 0 -30"
    assert image.spatial_ref.attrs["GeoTransform"] == "500000 30 0 4200000 0 -30"


SELECTIONS = {
    "crop": (lambda v: v.isel(y=slice(4, 20), x=slice(6, None)), Affine.translation(6, 4)),
    "flip": (lambda v: v.isel(y=slice(None, None, -1)), chain(Affine.translation(0, 24), Affine.scale(1, -1))),
    "stride": (lambda v: v.isel(y=slice(None, None, 2)), chain(Affine.translation(0, -0.5), Affine.scale(1, 2))),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selections__are_placed_by_their_coordinates(selection):
    select, moved = SELECTIONS[selection]
    image = select(raster(UPRIGHT))
    # As it was written before the selection.
    assert image.spatial_ref.attrs["GeoTransform"] == raster(UPRIGHT).spatial_ref.attrs["GeoTransform"]
    for levels in (ms.to_multiscale(image, [FACTORS]), ms.open_pyramid(written(image, FACTORS))):
        check(levels["scale0"].v, chain(UPRIGHT, moved))
        check(levels["scale1"].v, chain(UPRIGHT, moved, Affine.scale(3, 2)))


def test_maps_that_are_stored_ascending__are_placed_there():
    flipped = chain(UPRIGHT, Affine.translation(0, 24), Affine.scale(1, -1))
    levels = ms.open_pyramid(written(raster(UPRIGHT), FACTORS, ascending=True))
    check(levels["scale0"].v, flipped)
    check(levels["scale1"].v, chain(flipped, Affine.scale(3, 2)))


@pytest.mark.filterwarnings("ignore:'y' descends:UserWarning")
def test_levels_beside_a_base__are_read_at_their_own_place(tmp_path):
    raster(UPRIGHT, mapping="utm").to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)
    ms.add_levels(tmp_path / "a.zarr", base="v", scale_factors=[2])
    levels = ms.open_pyramid(tmp_path / "a.zarr")
    for name, factors in (("scale0", (1, 1)), ("scale1", (2, 2))):
        (level,) = levels[name].data_vars.values()
        check(level, transform_of_level(UPRIGHT, factors))


def test_levels_of_stores_made_before__are_read_at_their_own_place(tmp_path):
    ms.write_pyramid(raster(UPRIGHT), tmp_path / "a.zarr", scale_factors=[2])
    mapping = zarr.open_array(tmp_path / "a.zarr" / "scale1" / "spatial_ref")
    mapping.attrs["GeoTransform"] = "500000 30 0 4200000 0 -30"
    check(ms.open_pyramid(tmp_path / "a.zarr")["scale1"].v, transform_of_level(UPRIGHT, (2, 2)))


def test_coordinates_in_another_unit__do_not_replace_the_transform():
    image = raster(UPRIGHT)
    image = image.assign_coords(x=image.x / 1000, y=image.y / 1000)
    level = ms.coarsen(image, FACTORS)
    stated = [float(number) for number in level.spatial_ref.attrs["GeoTransform"].split()]
    np.testing.assert_allclose(stated, [500000, 90, 0, 4200000, 0, -60])


def test_a_transform_that_cannot_be_read__is_left_out():
    image = raster(UPRIGHT)
    image.spatial_ref.attrs["GeoTransform"] = "unknown"
    assert "GeoTransform" not in ms.coarsen(image, FACTORS).spatial_ref.attrs


def test_numbers_of_the_grid_among_attributes__go():
    image = raster(UPRIGHT).assign_attrs({"res": (30.0, 30.0), "GeoTransform": "0 1 0 0 0 1", "note": "mine"})
    tree = ms.to_multiscale(image, [FACTORS])
    assert tree["scale0"].v.attrs["res"] == (30.0, 30.0)
    assert tree["scale1"].v.attrs == {"note": "mine"}


@pytest.mark.parametrize("where", ["attrs", "encoding"])
def test_grid_mapping__stays_where_it_was_stated(where):
    image = raster(UPRIGHT, mapping="utm")
    image.encoding.pop("grid_mapping", None)
    image.attrs.pop("grid_mapping", None)
    getattr(image, where)["grid_mapping"] = "utm"
    tree = ms.to_multiscale(image, [FACTORS])
    for name in ("scale0", "scale1"):
        assert getattr(tree[name].v, where)["grid_mapping"] == "utm"
    assert zarr.open_group(written(tree, None))["scale1/v"].attrs["grid_mapping"] == "utm"


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_grid_mappings_of_files__go_into_the_store(tmp_path, suffix):
    dataset = raster(UPRIGHT, mapping="polar").to_dataset()
    place = tmp_path / f"source{suffix}"
    dataset.to_netcdf(place) if suffix == ".nc" else dataset.to_zarr(place, consolidated=False)
    source = ms.open_image(place, path="v")
    assert main(["build", str(place), str(tmp_path / "out.zarr"), "--path", "v", "--factors", "2,", "--quiet"]) == 0
    for levels in (ms.to_multiscale(source, [2]), ms.open_pyramid(tmp_path / "out.zarr")):
        (level,) = levels["scale1"].data_vars.values()
        assert level.rio.grid_mapping == "polar"
        check(level, transform_of_level(UPRIGHT, (2, 2)))


NAMES = {
    "bounds": ("x", "x_bnds"),
    "climatology": ("x", "climatology_bounds"),
    "ancillary_variables": (None, "v_error v_quality"),
    "cell_measures": (None, "area: cell_area"),
    "formula_terms": ("x", "a: hyam b: hybm"),
    "grid_mapping": (None, "missing"),
}


@pytest.mark.parametrize("key", NAMES)
def test_names_of_variables_that_are_not_there__go(key):
    owner, stated = NAMES[key]
    image = xr.DataArray(VALUES, {"x": np.arange(36.0)}, ("y", "x"), "v", {"note": "mine"})
    (image if owner is None else image[owner]).attrs[key] = stated
    tree = ms.to_multiscale(image, [FACTORS])
    for levels in (tree, ms.open_pyramid(written(image, FACTORS)), ms.open_pyramid(written(tree, None))):
        for name in ("scale0", "scale1"):
            level = levels[name].v
            assert key not in {**level.attrs, **level.x.attrs}
            assert level.attrs["note"] == "mine"
    assert (image if owner is None else image[owner]).attrs[key] == stated


def test_names_of_coordinates_that_are_there__stay():
    image = xr.DataArray(VALUES, {"area": (("y", "x"), VALUES)}, ("y", "x"), "v", {"cell_measures": "area: area"})
    store = written(image, FACTORS)
    assert ms.open_pyramid(store)["scale1"].v.attrs["cell_measures"] == "area: area"
    flat = {}
    ms.write_pyramid(image, flat, scale_factors=[FACTORS], layout="flat")
    assert "cell_measures" not in zarr.open_group(flat)["1"].attrs
