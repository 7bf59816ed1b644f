"""Encodings that xarray carries along count only along axes that the image still has."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.image.encodings import sizes_to_read, stored_shape, transposed_encoding

VALUES = np.random.default_rng(0).random((10, 64, 96))
CHUNKS = (1, 32, 96)


@pytest.fixture(autouse=True)
def no_window():
    with mpl.rc_context({"backend": "agg"}):
        yield


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encodings")
    coords = {"time": np.arange(10.0), "y": np.arange(64.0), "x": np.arange(96.0)}
    image = xr.DataArray(VALUES, coords, ("time", "y", "x"), "v")
    dataset = image.to_dataset()
    for zarr_format in (2, 3):
        place, encoding = folder / f"v{zarr_format}.zarr", {"v": {"chunks": CHUNKS}}
        dataset.to_zarr(place, encoding=encoding, zarr_format=zarr_format, consolidated=False)
    dataset.to_netcdf(folder / "v.nc", encoding={"v": {"chunksizes": CHUNKS}})
    ms.write_pyramid(image, folder / "ours.zarr", scale_factors=[{"y": 2, "x": 2}], chunks=CHUNKS, shards=(5, 32, 96))
    return folder


OPENERS = {
    "zarr lazy": lambda folder: xr.open_dataset(folder / "v3.zarr", engine="zarr", consolidated=False).v,
    "zarr v2 dask": lambda folder: xr.open_zarr(folder / "v2.zarr", consolidated=False).v,
    "netcdf lazy": lambda folder: xr.open_dataset(folder / "v.nc").v,
    "netcdf dask": lambda folder: xr.open_dataset(folder / "v.nc", chunks={}).v,
    "open_image": lambda folder: ms.open_image(folder / "v3.zarr", path="v"),
    "open_image of netcdf": lambda folder: ms.open_image(folder / "v.nc"),
    "open_pyramid": lambda folder: ms.open_pyramid(folder / "ours.zarr")["scale0"].v,
    "engine": lambda folder: xr.open_dataset(folder / "ours.zarr", engine="multiscale", level=0).v,
}
CHANGES = {
    "isel": (lambda v: v.isel(time=0), VALUES[0]),
    "squeeze": (lambda v: v.isel(time=[2]).squeeze("time"), VALUES[2]),
    "rename": (lambda v: v.rename(y="lat", x="lon"), VALUES),
    "swapped names": (lambda v: v.rename(y="x", x="y"), VALUES),
    "swap_dims": (lambda v: v.assign_coords(row=("y", np.arange(64.0))).swap_dims(y="row"), VALUES),
    "expand_dims": (lambda v: v.expand_dims("c"), VALUES[None]),
    "expand_dims, last": (lambda v: v.expand_dims("c", axis=-1), VALUES[..., None]),
    "concat": (lambda v: xr.concat([v, v + 1], "c"), np.stack([VALUES, VALUES + 1])),
    "transpose": (lambda v: v.transpose("x", "y", "time"), VALUES.T),
    "isel and transpose": (lambda v: v.isel(time=0).transpose("x", "y"), VALUES[0].T),
    "crop": (lambda v: v.isel(y=slice(3, 50), x=slice(1, 7)), VALUES[:, 3:50, 1:7]),
}


def factors_of(image):
    return {dim: 2 for dim in image.dims if dim in ("y", "x", "lat", "lon", "row")}


def mean_of_windows(values, factors):
    """Return the mean of every window, partial ones included, along each axis in turn."""
    sums, counts = values, np.ones(values.shape)
    for axis, factor in enumerate(factors):
        starts = np.arange(0, values.shape[axis], factor)
        sums, counts = np.add.reduceat(sums, starts, axis), np.add.reduceat(counts, starts, axis)
    return sums / counts


def check_levels(levels, image, values, rtol=1e-12):
    by_axis = [factors_of(image).get(dim, 1) for dim in image.dims]
    expected = (values, mean_of_windows(values, by_axis))
    for level, wanted in zip(levels, expected, strict=True):
        np.testing.assert_allclose(level.transpose(*image.dims).values, wanted, rtol=rtol)


def levels_of(tree):
    return [next(iter(tree[f"scale{index}"].data_vars.values())) for index in range(2)]


# One opener for each change is a cross-section for the default run.
CROSS = [
    pytest.param(
        opener, change, marks=() if (i - j) % len(OPENERS) == 0 else pytest.mark.thorough, id=f"{opener}, {change}"
    )
    for i, opener in enumerate(OPENERS)
    for j, change in enumerate(CHANGES)
]


@pytest.mark.filterwarnings("ignore:the axes .* are written as")
@pytest.mark.parametrize(("opener", "change"), CROSS)
def test_opened_arrays_with_other_axes__are_reduced_and_written(places, tmp_path, opener, change):
    changed, values = CHANGES[change]
    image = changed(OPENERS[opener](places))
    factors = [factors_of(image)]
    tree = ms.to_multiscale(image, factors)
    check_levels(levels_of(tree), image, values)
    lazily = tmp_path / "lazily.zarr"
    tree.to_zarr(lazily, consolidated=False, zarr_format=2 if "v2" in opener else 3)
    check_levels(levels_of(xr.open_datatree(lazily, engine="zarr", consolidated=False)), image, values)
    for source, options in ((image, {"scale_factors": factors}), (tree, {})):
        store = {}
        ms.write_pyramid(source, store, **options)
        check_levels(levels_of(ms.open_pyramid(store)), image, values)
        check_levels(levels_of(xr.open_datatree(store, engine="zarr", consolidated=False)), image, values)


@pytest.mark.parametrize(
    ("change", "chunks"),
    [
        (lambda v: v.isel(time=0), {"y": 32, "x": 96}),
        (lambda v: v.transpose("x", "time", "y"), {"x": 96, "time": 1, "y": 32}),
        (lambda v: v.expand_dims("c"), {"c": 1, "time": 1, "y": 32, "x": 96}),
    ],
)
@pytest.mark.filterwarnings("ignore:the axes .* are written as")
@pytest.mark.parametrize("opener", ["zarr v2 dask", "open_image"])
def test_chunks__stay_along_the_axes_that_they_were_of(places, opener, change, chunks):
    image = change(OPENERS[opener](places))
    store = {}
    ms.write_pyramid(image, store, scale_factors=[{"y": 2, "x": 2}])
    level = ms.open_pyramid(store)["scale0"].v
    assert dict(zip(level.dims, level.encoding["chunks"], strict=True)) == chunks


def test_shards__stay_along_the_axes_that_they_were_of(places):
    image = ms.open_pyramid(places / "ours.zarr")["scale0"].v.transpose("y", "time", "x")
    assert stored_shape(image, "shards") == (32, 5, 96)
    assert stored_shape(image, "chunks") == (32, 1, 96)
    assert stored_shape(image.isel(time=0), "shards") == (32, 96)
    assert stored_shape(image.expand_dims("c"), "shards") == (1, 32, 5, 96)
    assert stored_shape(image.isel(time=0).expand_dims("c"), "shards") is None


@pytest.mark.parametrize(
    ("encoding", "chunks", "read"),
    [
        ({}, None, ("auto", "auto")),
        ({"chunks": (4, 8)}, (4, 8), ("auto", "auto")),
        ({"chunks": (4, 8, 9)}, None, ("auto", "auto")),
        ({"chunks": None, "shards": None}, None, ("auto", "auto")),
        ({"chunks": "auto"}, None, ("auto", "auto")),
        ({"chunks": (4, 8), "preferred_chunks": {"y": 4, "x": 8}}, (4, 8), (4, 8)),
        ({"chunks": (8, 4), "preferred_chunks": {"x": 8, "y": 4}}, (4, 8), (4, 8)),
        ({"chunks": (1, 4, 8), "preferred_chunks": {"c": 1, "y": 4, "x": 8}}, (4, 8), (4, 8)),
        ({"chunks": (4, 8), "preferred_chunks": {"lat": 4, "lon": 8}}, None, ("auto", "auto")),
        # Chunks set after opening, and the sizes of a GeoTIFF, which are in no order of axes.
        ({"chunks": (2, 16), "preferred_chunks": {"y": 4, "x": 8}}, (2, 16), (4, 8)),
        ({"chunks": (2, 16), "preferred_chunks": {"x": 8, "y": 4}}, (2, 16), (4, 8)),
        ({"preferred_chunks": {"y": (3, 5), "x": 8}}, None, ("auto", 8)),
        ({"preferred_chunks": "auto"}, None, ("auto", "auto")),
    ],
)
def test_stored_shapes(encoding, chunks, read):
    image = xr.DataArray(np.zeros((16, 16)), dims=("y", "x"))
    image.encoding = encoding
    assert stored_shape(image, "chunks") == chunks
    assert tuple(sizes_to_read(image).values()) == read
    turned = image.transpose("x", "y")
    turned.encoding = transposed_encoding(image, ("x", "y"))
    assert stored_shape(turned, "chunks") == (None if chunks is None else chunks[::-1])


TREES = {
    "isel": lambda tree: tree.isel(time=0),
    "sel": lambda tree: tree.sel(time=2.2, method="nearest"),
    "arithmetic": lambda tree: tree * 2,
    "arithmetic after isel": lambda tree: tree.isel(time=1) + 1,
    "mean": lambda tree: tree.mean("time"),
    "squeeze": lambda tree: tree.isel(time=[0]).map_over_datasets(
        lambda level: level.squeeze("time") if level.dims else level
    ),
    "float32": lambda tree: tree.map_over_datasets(lambda level: level.astype("f4")),
}


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("isel", "sel", "mean") else pytest.param(kind, marks=pytest.mark.thorough) for kind in TREES],
)
@pytest.mark.parametrize(
    "made", ["open_pyramid", "to_multiscale of zarr", pytest.param("to_multiscale", marks=pytest.mark.thorough)]
)
def test_trees_after_operations__plot_show_and_write(places, made, kind):
    if made == "open_pyramid":
        tree = ms.open_pyramid(places / "ours.zarr")
    else:
        image = OPENERS["zarr lazy"](places) if "zarr" in made else OPENERS["zarr lazy"](places).load()
        tree = ms.to_multiscale(image, [{"y": 2, "x": 2}])
    tree = TREES[kind](tree)
    expected = [level.values for level in levels_of(tree)]
    assert tree.multiscale.plot() is not None
    assert len(str(tree.multiscale.levels).splitlines()) == 4
    assert tree.multiscale.thumbnail(32).shape
    assert tree.multiscale._repr_html_()
    store = {}
    ms.write_pyramid(tree, store)
    for level, wanted in zip(levels_of(ms.open_pyramid(store)), expected, strict=True):
        np.testing.assert_array_equal(level.values, wanted)


def test_explicit_chunks_of_a_tree__win_over_stored_ones(places, tmp_path):
    image = OPENERS["zarr v2 dask"](places)
    tree = ms.to_multiscale(image, [{"y": 2, "x": 2}], chunks={"time": 1, "y": 48, "x": 48})
    tree.to_zarr(tmp_path / "tree.zarr", consolidated=False, zarr_format=2)
    read = xr.open_datatree(tmp_path / "tree.zarr", engine="zarr", consolidated=False)
    assert read["scale0"].v.encoding["chunks"] == (1, 48, 48)
    check_levels(levels_of(read), image, VALUES)


@pytest.mark.filterwarnings("ignore:the axes .* are written as")
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_rasterio(tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    values = VALUES.astype("f4")
    raster = xr.DataArray(values, {"y": np.arange(64.0), "x": np.arange(96.0)}, ("band", "y", "x"))
    raster.rio.to_raster(tmp_path / "v.tif", tiled=True, blockxsize=32, blockysize=16)
    for chunks in (None, {"band": 1, "y": 32, "x": 32}):
        opened = rioxarray.open_rasterio(tmp_path / "v.tif", chunks=chunks)
        image = opened.isel(band=3).transpose("x", "y")
        check_levels(levels_of(ms.to_multiscale(image, [{"y": 2, "x": 2}])), image, values[3].T, 1e-6)
        store = {}
        ms.write_pyramid(image, store, scale_factors=[{"y": 2, "x": 2}])
        np.testing.assert_array_equal(levels_of(ms.open_pyramid(store))[0].transpose("x", "y"), values[3].T)
        opened.close()
