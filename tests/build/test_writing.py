"""Building pyramids on disk: values, labels, passes, independence, options, failures."""

import json
import threading
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import (
    add_levels,
    coarsen,
    open_image,
    open_pyramid,
    plan_pyramid,
    to_image,
    to_multiscale,
    validate,
    write_labels,
    write_pyramid,
)
from multiscale_sampler.methods import SumReduction

from ..data import Recording, hashes, make_array, noise, strict_json
from ..oracles import COMPOSING, DTYPES, METHODS, STEPWISE, check_levels, expected_level, positions

LAYOUTS = ["datatree", "flat"]
VERSIONS = ["0.4", "0.5"]
RANKS = {
    "yx": (17, 12),
    "zyx": (9, 8, 7),
    "czyx": (2, 5, 6, 7),
    "tczyx": (2, 2, 3, 6, 5),
    "tyx": (3, 9, 8),
    "cyx": (3, 9, 8),
    ("lat", "lon"): (10, 15),
    ("time", "lat", "lon"): (2, 10, 15),
}
SPACE = {"z", "y", "x", "lat", "lon"}


def format_of(version):
    return 2 if version == "0.4" else 3


def spatial(dims, factor):
    """Return a factor for the spatial dims."""
    return tuple(factor if dim in SPACE else 1 for dim in dims)


def axes_of(place, version):
    attributes = zarr.open_group(place).attrs
    return (attributes if version == "0.4" else attributes["ome"])["multiscales"][0]["axes"]


# --- every rank, layout and version ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dims", RANKS, ids="-".join)
def test_write_pyramid__every_rank(tmp_path, dims, layout, version):
    base = noise(RANKS[dims], "int16")
    scale = {dim: 0.5 + number for number, dim in enumerate(dims) if dim in SPACE}
    translation = {dim: -3.0 * number for number, dim in enumerate(dims) if dim in SPACE}
    image = to_image(base, dims, scale=scale, translation=translation, units="micrometer")
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2, 3], layout=layout, version=version)
    tree = open_pyramid(tmp_path / "p.zarr")
    ladder = [spatial(dims, 2), spatial(dims, 3)]
    check_levels(tree, base, ladder, scale=scale, translation=translation)
    for node in tree.children.values():
        level = node["image"]
        assert level.dims == tuple(dims)
        assert [level[dim].attrs.get("units") for dim in dims] == [
            "micrometer" if dim in SPACE else None for dim in dims
        ]
    kinds = {"t": "time", "time": "time", "c": "channel"}
    assert [(axis["name"], axis["type"]) for axis in axes_of(tmp_path / "p.zarr", version)] == [
        (dim, kinds.get(dim, "space")) for dim in dims
    ]
    assert validate(tmp_path / "p.zarr").findings == ()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__keeps_name_attrs_units_and_channel_names(tmp_path, layout, version):
    image = to_image(
        noise((2, 3, 8, 8)),
        "tcyx",
        scale={"t": 2.0, "y": 0.5, "x": 0.5},
        translation={"t": 10.0, "x": -4.0},
        units={"t": "second", "y": "micrometer", "x": "nanometer"},
        name="nuclei",
        channel_names=["DAPI", "GFP", "RFP"],
    ).assign_attrs(sample="s1", gain=np.float32(0.5), numbers=np.arange(3))
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2], layout=layout, version=version)
    group = zarr.open_group(tmp_path / "p.zarr")
    document = group.attrs if version == "0.4" else group.attrs["ome"]
    entry = document["multiscales"][0]
    assert entry["name"] == "nuclei"
    assert entry["type"] == "mean"
    assert entry["metadata"]["kwargs"]["boundary"] == "pad"
    assert [axis.get("unit") for axis in entry["axes"]] == ["second", None, "micrometer", "nanometer"]
    assert [channel["label"] for channel in document["omero"]["channels"]] == ["DAPI", "GFP", "RFP"]
    for node in open_pyramid(group).children.values():
        level = node["nuclei"]
        assert level.attrs == {"sample": "s1", "gain": 0.5, "numbers": [0, 1, 2]}
        assert level.c.values.tolist() == ["DAPI", "GFP", "RFP"]
        assert level.t.values.tolist() == [10.0, 12.0]
        assert level.t.attrs["units"] == "second"


@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__omero_says_how_to_show_channels(tmp_path, version):
    base = np.zeros((2, 64, 64), "uint16")
    base[0] = np.linspace(100, 300, 64).astype("u2")
    base[1, 8:56, 8:56] = 4000
    write_pyramid(to_image(base, "cyx"), tmp_path / "p.zarr", scale_factors=[2], version=version)
    attributes = zarr.open_group(tmp_path / "p.zarr").attrs
    channels = (attributes if version == "0.4" else attributes["ome"])["omero"]["channels"]
    assert len(channels) == 2
    for channel in channels:
        assert len(channel["color"]) == 6
        int(channel["color"], 16)
        assert channel["window"]["min"] == 0
        assert channel["window"]["max"] == 65535
        assert channel["window"]["start"] < channel["window"]["end"]
    assert 100 <= channels[0]["window"]["start"] < 110
    assert 290 < channels[0]["window"]["end"] <= 300
    assert (channels[1]["window"]["start"], channels[1]["window"]["end"]) == (0, 4000)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__names_dimensions_everywhere(tmp_path, layout):
    write_pyramid(noise((4, 6, 8)), tmp_path / "p.zarr", scale_factors=[2], layout=layout)
    for path, array in zarr.open_group(tmp_path / "p.zarr").members(max_depth=None):
        if isinstance(array, zarr.Array):
            last = path.rsplit("/", 1)[-1]
            assert array.metadata.dimension_names == (("z", "y", "x") if array.ndim == 3 else (last,))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__names_dimensions_as_xarray_does_in_zarr_v2(tmp_path, layout):
    write_pyramid(noise((4, 6, 8)), tmp_path / "p.zarr", scale_factors=[2], layout=layout, version="0.4")
    paths = ["scale0/image", "scale1/image"] if layout == "datatree" else ["0", "1"]
    for path in paths:
        assert json.loads((tmp_path / "p.zarr" / path / ".zattrs").read_text())["_ARRAY_DIMENSIONS"] == ["z", "y", "x"]
        metadata = json.loads((tmp_path / "p.zarr" / path / ".zarray").read_text())
        assert metadata["dimension_separator"] == "/"
        assert metadata["fill_value"] is None


# --- shapes, ladders, boundaries -------------------------------------------------------------------------------

LADDERS = {
    "step": (2, None),
    "doubling": ([2, 4, 8], None),
    "not-nesting": ([2, 3], None),
    "not-nesting-far": ([2, 5, 6], None),
    "threes": ([3, 9], None),
    "by-dim": ([{"y": 2}, {"y": 4, "x": 3}], [(2, 1), (4, 3)]),
    "numpy": (np.array([2, 4]), [(2, 2), (4, 4)]),
    "numpy-list": ([np.int64(2), np.uint8(4)], [(2, 2), (4, 4)]),
    "all-at-once": ([64], None),
}


@pytest.mark.parametrize("ladder", LADDERS.values(), ids=LADDERS)
@pytest.mark.parametrize("shape", [(33, 50), (7, 65), (64, 64)], ids=str)
def test_write_pyramid__every_ladder(tmp_path, shape, ladder):
    wanted, factors = ladder
    base = noise(shape)
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=wanted, chunks=8)
    if factors is None:
        factors = plan_pyramid(base, wanted, chunks=8).levels[1:] if wanted == 2 else [(f, f) for f in wanted]
        factors = [getattr(level, "factors", level) for level in factors]
    check_levels(open_pyramid(tmp_path / "p.zarr"), base, factors)


@pytest.mark.parametrize("boundary", ["pad", "trim"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(17, 23), (5, 8, 11)], ids=str)
def test_write_pyramid__every_method_and_boundary(tmp_path, shape, method, boundary):
    base = noise(shape, "uint8") // 40 + 100 if method in STEPWISE else noise(shape, "uint8")
    write_pyramid(
        base, tmp_path / "p.zarr", scale_factors=[2, 3], method=method, boundary=boundary, chunks=4, min_size=None
    )
    ladder = [(2,) * len(shape), (3,) * len(shape)]
    check_levels(open_pyramid(tmp_path / "p.zarr"), base, ladder, method, boundary=boundary)


@pytest.mark.parametrize("method", STEPWISE)
def test_write_pyramid__stepwise_methods_go_on_from_the_level_before(tmp_path, method):
    base = noise((32, 32), "uint8") // 64
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2, 4, 6], method=method, chunks=4)
    tree = open_pyramid(tmp_path / "p.zarr")
    half = expected_level(base, (2, 2), method)
    np.testing.assert_array_equal(tree["scale1/image"].values, half)
    np.testing.assert_array_equal(tree["scale2/image"].values, expected_level(half, (2, 2), method))
    np.testing.assert_array_equal(tree["scale3/image"].values, expected_level(half, (3, 3), method))


@pytest.mark.parametrize("method", COMPOSING)
@pytest.mark.parametrize("dtype", DTYPES)
def test_write_pyramid__every_dtype(tmp_path, dtype, method):
    base = noise((13, 10), dtype)
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2, 4], method=method, chunks=4)
    tree = open_pyramid(tmp_path / "p.zarr")
    for level, factor in (("scale1", 2), ("scale2", 4)):
        expected = expected_level(base, (factor, factor), method)
        values = tree[level]["image"]
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values.values, expected)


@pytest.mark.parametrize("value", [0, 1, 2**60 + 1, 2**64 - 1])
def test_write_pyramid__keeps_a_constant_of_64_bits(tmp_path, value):
    base = np.full((11, 11, 11), value, "uint64")
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2, 3, 4], chunks=4)
    for node in open_pyramid(tmp_path / "p.zarr").children.values():
        assert (node["image"].values == np.uint64(value)).all()


def stored(array):
    """Return a zarr array whose chunks of missing values are not stored."""
    fill = np.nan if array.dtype.kind == "f" else 0
    return make_array({}, array, chunks=(2, 3), fill_value=fill, config={"write_empty_chunks": False})


@pytest.mark.parametrize(
    "source", [np.asarray, lambda a: da.from_array(a, chunks=5), stored], ids=["numpy", "dask", "zarr"]
)
def test_write_pyramid__leaves_missing_values_out(tmp_path, source):
    base = noise((9, 12), "float32")
    base[:4, :6] = np.nan
    base[7, 7] = np.nan
    write_pyramid(source(base), tmp_path / "a.zarr", scale_factors=[2, 4], chunks=4)
    tree = open_pyramid(tmp_path / "a.zarr")
    for level, factor in (("scale1", 2), ("scale2", 4)):
        expected = expected_level(base, (factor, factor))
        np.testing.assert_array_equal(tree[level]["image"].values, expected)
    integers = noise((9, 12), "uint8") // 100
    write_pyramid(source(integers), tmp_path / "b.zarr", scale_factors=[2, 4], nodata=np.uint8(0), chunks=4)
    tree = open_pyramid(tmp_path / "b.zarr")
    for level, factor in (("scale1", 2), ("scale2", 4)):
        expected = expected_level(integers, (factor, factor), nodata=0)
        np.testing.assert_array_equal(tree[level]["image"].values, expected)


def test_write_pyramid__skipna_false_keeps_nan(tmp_path):
    base = noise((4, 4), "float64")
    base[0, 0] = np.nan
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2], skipna=False)
    level = open_pyramid(tmp_path / "p.zarr")["scale1/image"].values
    assert np.isnan(level[0, 0])
    assert np.isfinite(level).sum() == 3


def test_write_pyramid__exact_writes_where_it_fits(tmp_path):
    base = noise((8, 24))
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2, 4], boundary="exact")
    check_levels(open_pyramid(tmp_path / "p.zarr"), base, [(2, 2), (4, 4)])


def test_write_pyramid__reduces_time_and_channels_only_where_a_mapping_names_them(tmp_path):
    base = noise((4, 2, 6, 6))
    image = to_image(base, "tcyx")
    write_pyramid(image, tmp_path / "a.zarr", scale_factors=[2])
    check_levels(open_pyramid(tmp_path / "a.zarr"), base, [(1, 1, 2, 2)])
    write_pyramid(image, tmp_path / "b.zarr", scale_factors=[{"t": 2, "y": 2, "x": 3}])
    check_levels(open_pyramid(tmp_path / "b.zarr"), base, [(2, 1, 2, 3)])


@pytest.mark.parametrize("method", METHODS)
def test_write_pyramid__a_descending_axis_stays_descending_if_asked_to(tmp_path, method):
    base = noise((9, 8), "uint8")
    image = to_image(base, ("lat", "lon"), scale={"lat": -0.5}, translation={"lat": 50.0})
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2], method=method, ascending=False)
    scale, translation = {"lat": -0.5}, {"lat": 50.0}
    tree = open_pyramid(tmp_path / "p.zarr")
    check_levels(tree, base, [(2, 2)], method, scale=scale, translation=translation)
    assert validate(tmp_path / "p.zarr").ok


def tight(base, **options):
    """Return the least memory (within a factor) in which a pyramid can be built, and that it takes carried passes."""
    for limit in (int(400 * 1.3**number) for number in range(40)):
        try:
            plan = plan_pyramid(base, **options, memory_limit=limit)
        except ValueError:
            continue
        assert any(pass_.carried for pass_ in plan.export_passes)
        return {**options, "memory_limit": limit}
    raise AssertionError("no memory was enough")


# --- passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "uint64", "float32", "float64"])
def test_write_pyramid__carries_unrounded_levels_between_passes(dtype, method):
    base = noise((24, 19), dtype)
    if method in STEPWISE:
        base = base // base.dtype.type(60)
    options = tight(base, scale_factors=[2, 4, 8, 16], method=method, chunks=2, workers=1)
    store = {}
    write_pyramid(base, store, **options)
    expected = base
    for number, node in enumerate(open_pyramid(store).children.values()):
        if number and method in STEPWISE:
            expected = expected_level(expected, (2, 2), method)
        elif number:
            expected = expected_level(base, (2**number,) * 2, method)
        np.testing.assert_array_equal(node["image"].values, expected)
    assert not [key for key in store if "carry" in key]


@pytest.mark.parametrize("boundary", ["pad", "trim"])
def test_write_pyramid__carries_ladders_that_do_not_nest(boundary):
    base = noise((60, 41))
    options = tight(base, scale_factors=[2, 3, 4, 12, 20], chunks=3, workers=1, boundary=boundary)
    store = {}
    write_pyramid(base, store, **options)
    ladder = [(f, f) for f in options["scale_factors"]]
    check_levels(open_pyramid(store), base, ladder, boundary=boundary)


def test_write_pyramid__carries_missing_values(tmp_path):
    base = noise((64, 64), "float32")
    base[:24, :40] = np.nan
    base[np.random.default_rng(1).random(base.shape) < 0.3] = np.nan
    options = tight(base, scale_factors=[2, 4, 8, 16], chunks=2, workers=1)
    write_pyramid(base, tmp_path / "p.zarr", **options)
    for factor, node in zip((2, 4, 8, 16), list(open_pyramid(tmp_path / "p.zarr").children.values())[1:], strict=True):
        expected = expected_level(base, (factor, factor))
        np.testing.assert_allclose(node["image"].values, expected, rtol=1e-6)


# --- sources ---------------------------------------------------------------------------------------------------


def sources(folder, base):
    """Yield the same image in every form, with dims z, y, x."""
    dims = ("z", "y", "x")
    image = xr.DataArray(base, dims=dims, name="image")
    v2 = make_array(folder / "v2.zarr", base, zarr_format=2, chunks=(3, 4, 5), dims=dims)
    v3 = make_array(folder / "v3.zarr", base, chunks=(3, 4, 5), dims=dims)
    sharded = make_array(folder / "sharded.zarr", base, chunks=(2, 2, 5), shards=(4, 8, 10), dims=dims)
    image.to_dataset().to_zarr(folder / "x.zarr", consolidated=False, encoding={"image": {"chunks": (3, 4, 5)}})
    yield "numpy", base
    yield "list", base.tolist()
    yield "dask", da.from_array(base, chunks=(4, 3, 11))
    yield "ragged", da.from_array(base, chunks=((1, 6, 2), (8,), (3, 3, 5)))
    yield "zarr", v3
    yield "from_zarr", da.from_zarr(v3)
    yield "open_image-v2", open_image(v2)
    yield "open_image-v3", open_image(v3)
    yield "open_image-sharded", open_image(sharded)
    yield "data-array", image
    yield "dataset", image.to_dataset()
    yield "chunked-data-array", image.chunk({"z": 2})
    yield "open_zarr", xr.open_zarr(folder / "x.zarr", consolidated=False)["image"]
    yield "unchunked", xr.open_zarr(folder / "x.zarr", consolidated=False, chunks=None)["image"]
    yield "lazy-slice", xr.open_zarr(folder / "x.zarr", consolidated=False, chunks=None)["image"][:, ::-1][:, ::-1]
    yield "fortran", np.asfortranarray(base)
    yield "transposed", da.from_array(np.ascontiguousarray(base.T), chunks=4).T


def test_write_pyramid__every_source_gives_the_same_values(tmp_path):
    base = noise((9, 8, 11), "int32")
    seen = []
    for name, source in sources(tmp_path, base):
        expected = base.astype("int64") if name == "list" else base
        write_pyramid(source, tmp_path / "out" / f"{name}.zarr", scale_factors=[2, 3], memory_limit="1MiB", workers=2)
        check_levels(open_pyramid(tmp_path / "out" / f"{name}.zarr"), expected, [(2, 2, 2), (3, 3, 3)])
        seen.append(name)
    assert len(seen) == 17


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_write_pyramid__a_zarr_array_keeps_what_it_says_of_itself(tmp_path, zarr_format):
    array = make_array(
        tmp_path / "a.zarr",
        noise((3, 8, 8)),
        zarr_format=zarr_format,
        chunks=(1, 4, 4),
        dims=("c", "y", "x"),
        attributes={"sample": "s1"},
    )
    write_pyramid(array, tmp_path / "p.zarr", scale_factors=[2])
    level = open_pyramid(tmp_path / "p.zarr")["scale1/image"]
    assert level.dims == ("c", "y", "x")
    assert level.shape == (3, 4, 4)
    assert level.attrs == {"sample": "s1"}


@pytest.mark.parametrize("form", ["numpy", "dask", "zarr", "unchunked"])
@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__channels_last_are_written_first(tmp_path, form, version):
    base = noise((9, 10, 3), "uint8")
    image = xr.DataArray(base, dims=("y", "x", "c"), coords={"c": ["r", "g", "b"]}, name="rgb")
    match form:
        case "dask":
            image = image.chunk({"y": 4, "x": 3})
        case "zarr":
            array = make_array(tmp_path / "a.zarr", base, chunks=(4, 5, 3), dims=("y", "x", "c"))
            image = open_image(array, name="rgb", channel_names=["r", "g", "b"])
        case "unchunked":
            image.to_dataset().to_zarr(tmp_path / "x.zarr", zarr_format=2, consolidated=False)
            image = xr.open_zarr(tmp_path / "x.zarr", chunks=None, consolidated=False)["rgb"]
    with pytest.warns(UserWarning, match=r"\('y', 'x', 'c'\) are written as \('c', 'y', 'x'\)") as warned:
        write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2, 3], version=version)
    assert [each.filename for each in warned] == [__file__]
    tree = open_pyramid(tmp_path / "p.zarr")
    moved = np.moveaxis(base, -1, 0)
    for level, factor in (("scale0", 1), ("scale1", 2), ("scale2", 3)):
        assert tree[level]["rgb"].dims == ("c", "y", "x")
        assert tree[level]["rgb"].c.values.tolist() == ["r", "g", "b"]
        np.testing.assert_array_equal(tree[level]["rgb"].values, expected_level(moved, (1, factor, factor)))
    if form == "zarr":
        assert zarr.open_array(tmp_path / "p.zarr" / "scale0" / "rgb").chunks == (3, 4, 5)
    assert validate(tmp_path / "p.zarr").findings == ()


@pytest.mark.parametrize("edited", [False, True])
def test_write_pyramid__warns_once_of_the_order_of_a_tree(edited):
    image = to_image(noise((9, 10, 3), "uint8"), "yxc").chunk()
    tree = to_multiscale(image, [{"y": 2, "x": 2}])
    if edited:
        tree = tree.map_over_datasets(lambda level: level.map(np.invert))
    store = {}
    with pytest.warns(UserWarning, match=r"\('y', 'x', 'c'\) are written as \('c', 'y', 'x'\)") as warned:
        write_pyramid(tree, store)
    assert [each.filename for each in warned] == [__file__]
    expected = [tree[f"scale{index}/image"].transpose("c", "y", "x") for index in range(2)]
    for index, level in enumerate(expected):
        np.testing.assert_array_equal(open_pyramid(store)[f"scale{index}/image"], level)


def test_write_pyramid__refuses_too_little_memory_for_a_tree():
    """Which is not that the tree is another than its recipe makes."""
    tree = to_multiscale(to_image(noise((64, 64), "uint8")), [2, 4])
    with pytest.raises(ValueError, match="too little"):
        write_pyramid(tree, {}, memory_limit=10)


@pytest.mark.parametrize("source", ["zarr", "dask", "unchunked"])
@pytest.mark.parametrize("limit", [None, "40kB"])
def test_write_pyramid__reads_each_chunk_of_the_base_once(tmp_path, source, limit):
    base = noise((64, 64))
    store = Recording(zarr.storage.LocalStore(tmp_path / "x.zarr"))
    make_array(store, base, path="image", chunks=(8, 8), dims=("y", "x"))
    match source:
        case "zarr":
            image = open_image(store, "image")
        case "dask":
            image = open_image(store, "image", chunks={})
        case "unchunked":
            image = xr.open_zarr(store, chunks=None, consolidated=False)["image"]
    store.log["read"].clear()
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2, 4], memory_limit=limit, workers=2)
    assert len(store.chunks("read")) == 64
    assert max(store.chunks("read").values()) == 1
    check_levels(open_pyramid(tmp_path / "p.zarr"), base, [(2, 2), (4, 4)])


@pytest.mark.parametrize("shards", [None, 16])
def test_write_pyramid__writes_each_chunk_or_shard_once(tmp_path, shards):
    store = Recording(zarr.storage.LocalStore(tmp_path / "p.zarr"))
    base = noise((100, 70))
    write_pyramid(base, store, scale_factors=2, chunks=8, shards=shards, workers=3, memory_limit="120kB")
    written = store.chunks("written")
    assert len(written) > 40
    carried = {key for key in written if "carry" in key}
    assert {written[key] for key in written.keys() - carried} == {1}
    check_levels(open_pyramid(tmp_path / "p.zarr"), base, [(2, 2), (4, 4), (8, 8), (16, 16)])


def test_write_pyramid__never_loads_an_image_that_is_read_lazily(tmp_path):
    base = noise((64, 64))
    store = Recording(zarr.storage.LocalStore(tmp_path / "x.zarr"))
    make_array(store, base, path="image", chunks=(8, 8), dims=("y", "x"))
    image = xr.open_zarr(store, chunks=None, consolidated=False)["image"]
    (tmp_path / "p.zarr").write_text("in the way")
    store.log["read"].clear()
    with pytest.raises(FileExistsError):
        write_pyramid(image, tmp_path / "p.zarr")
    assert not store.chunks("read")


# --- trees -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__a_tree_of_to_multiscale_is_written_as_the_image_is(tmp_path, layout, method):
    base = noise((20, 30), "uint8")
    image = to_image(base, scale=0.5, units="micrometer", name="em").chunk({"y": 8, "x": 8})
    tree = to_multiscale(image, [2, 6], method=method)
    write_pyramid(tree, tmp_path / "a.zarr", layout=layout)
    write_pyramid(image, tmp_path / "b.zarr", scale_factors=[2, 6], method=method, layout=layout)
    assert hashes(tmp_path / "a.zarr") == hashes(tmp_path / "b.zarr")


def test_write_pyramid__a_changed_level_is_written_as_it_is(tmp_path):
    base = noise((20, 30), "uint8")
    tree = to_multiscale(to_image(base, scale=2.0).chunk({"y": 8, "x": 8}), [2, 6])
    changed = tree["scale1/image"] // 2 + 7
    tree["scale1"] = changed.to_dataset(name="image")
    write_pyramid(tree, tmp_path / "p.zarr")
    again = open_pyramid(tmp_path / "p.zarr")
    np.testing.assert_array_equal(again["scale0/image"].values, base)
    np.testing.assert_array_equal(again["scale1/image"].values, expected_level(base, (2, 2)) // 2 + 7)
    np.testing.assert_array_equal(again["scale2/image"].values, expected_level(base, (6, 6)))
    np.testing.assert_array_equal(again["scale2/image"].x.values, positions(5, 6, scale=2.0))
    kwargs = zarr.open_group(tmp_path / "p.zarr").attrs["ome"]["multiscales"][0]
    assert kwargs["type"] != "mean"
    assert validate(tmp_path / "p.zarr").findings == ()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_write_pyramid__a_computed_level_is_written_as_it_is(tmp_path, level):
    base = noise((20, 30), "uint8")
    tree = to_multiscale(to_image(base).chunk({"y": 8, "x": 8}), [2, 4])
    values = np.full(tree[f"scale{level}/image"].shape, 9, "uint8")
    tree[f"scale{level}/image"] = tree[f"scale{level}/image"].copy(data=values)
    write_pyramid(tree, tmp_path / "p.zarr")
    again = open_pyramid(tmp_path / "p.zarr")
    for number, factor in enumerate((1, 2, 4)):
        expected = values if number == level else expected_level(base, (factor, factor))
        np.testing.assert_array_equal(again[f"scale{number}/image"].values, expected)


def test_write_pyramid__a_tree_whose_base_was_changed_keeps_its_levels(tmp_path):
    base = noise((8, 8), "uint8")
    tree = to_multiscale(to_image(base).chunk(4), [2])
    tree["scale0"] = (tree["scale0/image"] * 0).to_dataset(name="image")
    write_pyramid(tree, tmp_path / "p.zarr")
    again = open_pyramid(tmp_path / "p.zarr")
    assert not again["scale0/image"].values.any()
    np.testing.assert_array_equal(again["scale1/image"].values, expected_level(base, (2, 2)))


def test_write_pyramid__a_tree_of_others_is_written_as_it_is(tmp_path):
    msi = {
        "scale0": xr.Dataset({"image": (("y", "x"), noise((8, 8)))}, coords={"y": np.arange(8.0), "x": np.arange(8.0)}),
        "scale1": xr.Dataset(
            {"image": (("y", "x"), noise((4, 4), seed=1))},
            coords={"y": 0.5 + 2 * np.arange(4.0), "x": 0.5 + 2 * np.arange(4.0)},
        ),
    }
    write_pyramid(xr.DataTree.from_dict(msi), tmp_path / "p.zarr")
    again = open_pyramid(tmp_path / "p.zarr")
    for node in msi:
        xr.testing.assert_equal(again[node]["image"].load(), msi[node]["image"])


def test_write_pyramid__an_opened_pyramid_is_written_as_it_is(tmp_path):
    base = noise((16, 24))
    write_pyramid(base, tmp_path / "a.zarr", scale_factors=[2, 4], chunks=4, shards=8)
    write_pyramid(open_pyramid(tmp_path / "a.zarr"), tmp_path / "b.zarr", version="0.4", layout="flat", shards=False)
    check_levels(open_pyramid(tmp_path / "b.zarr"), base, [(2, 2), (4, 4)])


@pytest.mark.parametrize(
    "option",
    [
        {"scale_factors": [2]},
        {"method": "max"},
        {"boundary": "trim"},
        {"max_levels": 2},
        {"min_size": 4},
        {"skipna": False},
        {"nodata": 0},
    ],
    ids=str,
)
def test_write_pyramid__refuses_to_reshape_a_tree(tmp_path, option):
    tree = to_multiscale(noise((8, 8)), [2])
    with pytest.raises(ValueError, match=f"{next(iter(option))}.*pass the base image"):
        write_pyramid(tree, tmp_path / "p.zarr", **option)
    assert not (tmp_path / "p.zarr").exists()


@pytest.mark.parametrize("kind", ["empty", "two-images", "other-names"])
def test_write_pyramid__refuses_a_tree_without_levels(tmp_path, kind):
    tree = to_multiscale(noise((8, 8)), [2])
    match kind:
        case "empty":
            tree = xr.DataTree()
        case "two-images":
            tree["scale0/other"] = tree["scale0/image"] * 2
        case "other-names":
            tree = xr.DataTree.from_dict({"/a": tree["scale0"].to_dataset()})
    with pytest.raises(ValueError, match="scale0"):
        write_pyramid(tree, tmp_path / "p.zarr")
    assert not (tmp_path / "p.zarr").exists()


# --- independence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_write_pyramid__the_same_bytes_whatever_the_workers_and_blocks(tmp_path, dtype):
    # Values whose sums are not exact in floating point: any other order of adding would show.
    base = np.random.default_rng(0).random((61, 47)) * 1000
    base = base.astype(dtype)
    options = {"scale_factors": [2, 3, 4, 8], "chunks": 8}
    reference = None
    inputs = [
        (base, {"workers": 1}),
        (base, {"workers": 2}),
        (base, {"workers": 5}),
        (base, {"workers": 1, "memory_limit": "50kB"}),
        (da.from_array(base, chunks=(7, 47)), {"workers": 2}),
        (da.from_array(base, chunks=(61, 5)), {"workers": 3}),
        (da.from_array(base, chunks=((60, 1), (1, 46))), {"workers": 2}),
        (to_multiscale(to_image(base).chunk({"y": 9, "x": 10}), [2, 3, 4, 8]), None),
    ]
    for number, (source, own) in enumerate(inputs):
        place = tmp_path / f"{number}.zarr"
        if own is None:
            write_pyramid(source, place, chunks=8)
        else:
            write_pyramid(source, place, **options, **own)
        files = hashes(place)
        reference = reference or files
        assert files == reference


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_write_pyramid__the_same_values_as_the_lazy_tree(tmp_path, dtype):
    base = (np.random.default_rng(0).random((31, 47)) * 1000).astype(dtype)
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2, 3, 4, 8], chunks=4, shards=8)
    again = open_pyramid(tmp_path / "p.zarr")
    tree = to_multiscale(da.from_array(base, chunks=(5, 9)), [2, 3, 4, 8])
    for node in tree.children:
        np.testing.assert_array_equal(again[node]["image"].values, tree[node]["image"].values)
    np.testing.assert_array_equal(again["scale2/image"].values, coarsen(base, 3).values)


# --- chunks and shards -----------------------------------------------------------------------------------------


def test_write_pyramid__zarr_v2_has_no_shards(tmp_path):
    image = open_image(make_array(tmp_path / "a.zarr", noise((32, 32)), chunks=(4, 4), shards=(8, 8)))
    write_pyramid(image, tmp_path / "b.zarr", scale_factors=[2], version="0.4", layout="flat")
    level = zarr.open_array(tmp_path / "b.zarr", path="1", mode="r")
    assert (level.metadata.zarr_format, level.chunks) == (2, (4, 4))
    make_array(tmp_path / "d.zarr", noise((32, 32)), zarr_format=2)
    for call in (
        lambda: write_pyramid(image, tmp_path / "c.zarr", version="0.4", shards=8),
        lambda: write_labels(noise((32, 32)), tmp_path / "b.zarr", "cells", shards=8),
        lambda: add_levels(tmp_path / "d.zarr", shards=8),
    ):
        with pytest.raises(ValueError, match="zarr v2 has no shards, got shards=8; omit them"):
            call()
    assert not (tmp_path / "c.zarr").exists()


def test_write_pyramid__chunks_and_shards_as_asked(tmp_path):
    write_pyramid(noise((40, 40)), tmp_path / "p.zarr", scale_factors=[2, 8], chunks={"y": 4, "x": 8}, shards=16)
    arrays = [zarr.open_array(tmp_path / "p.zarr" / f"scale{n}" / "image") for n in range(3)]
    assert [array.chunks for array in arrays] == [(4, 8), (4, 8), (4, 5)]
    assert [array.shards for array in arrays] == [(16, 16), (16, 16), (8, 5)]


@pytest.mark.parametrize("shape", [(1, 64), (3, 3), (5, 300), (1, 1)], ids=str)
def test_write_pyramid__images_smaller_than_a_chunk(tmp_path, shape):
    base = noise(shape)
    write_pyramid(base, tmp_path / "p.zarr", min_size=2, chunks=64)
    ladder = [level.factors for level in plan_pyramid(base, min_size=2, chunks=64).levels[1:]]
    check_levels(open_pyramid(tmp_path / "p.zarr"), base, ladder)


# --- xarray ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_write_pyramid__opens_in_plain_xarray_with_coordinates(tmp_path, version, dtype):
    base = noise((3, 9, 8), dtype)
    base[:, 0] = 0
    scale, translation = {"y": 0.1, "x": 0.3}, {"y": 5.0, "x": -2.0}
    image = to_image(
        base, "cyx", scale=scale, translation=translation, units="micrometer", channel_names=["a", "b", "c"]
    )
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2, 3], version=version)
    tree = xr.open_datatree(tmp_path / "p.zarr", engine="zarr")
    check_levels(tree, base, [(1, 2, 2), (1, 3, 3)], scale=scale, translation=translation)
    attributes = tree.attrs if version == "0.4" else tree.attrs["ome"]
    for number, dataset in enumerate(attributes["multiscales"][0]["datasets"]):
        level = tree[dataset["path"]]
        assert level.dtype == dtype
        assert level.c.values.tolist() == ["a", "b", "c"]
        steps, origins = (dataset["coordinateTransformations"][n][key] for n, key in ((0, "scale"), (1, "translation")))
        for dim, step, origin in zip(level.dims[1:], steps[1:], origins[1:], strict=True):
            along = origin + step * np.arange(level.sizes[dim])
            np.testing.assert_array_equal(level[dim].values, along)
            assert level[dim].attrs["units"] == "micrometer"
        assert number < 3


@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__keeps_coordinates_beside_the_axes(tmp_path, version):
    base = noise((2, 8, 6), "float64")
    image = xr.DataArray(
        base,
        dims=("time", "y", "x"),
        coords={
            "time": np.array(["2001-01-01", "2001-01-02"], "M8[ns]"),
            "y": 10.0 * np.arange(8),
            "x": 10.0 * np.arange(6),
            "lat": (("y", "x"), np.arange(48.0).reshape(8, 6)),
            "run": 7,
        },
        name="t2m",
        attrs={"units": "K"},
    )
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2], version=version)
    for tree in (xr.open_datatree(tmp_path / "p.zarr", engine="zarr"), open_pyramid(tmp_path / "p.zarr")):
        xr.testing.assert_equal(tree["scale0/t2m"].load(), image)
        level = tree["scale1/t2m"]
        assert level.attrs["units"] == "K"
        np.testing.assert_array_equal(level.lat.values, np.arange(48.0).reshape(4, 2, 3, 2).mean(axis=(1, 3)))
        np.testing.assert_array_equal(level.time.values, image.time.values)
        assert level.run.item() == 7


@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__keeps_numbers_along_channels(tmp_path, layout):
    image = to_image(noise((3, 4, 4)), "cyx").assign_coords(c=[400.0, 500.0, 600.0])
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2], layout=layout)
    assert open_pyramid(tmp_path / "p.zarr")["scale1/image"].c.values.tolist() == [400.0, 500.0, 600.0]


def test_write_pyramid__a_flat_store_has_no_more_than_its_levels(tmp_path):
    write_pyramid(noise((8, 8)), tmp_path / "p.zarr", scale_factors=[2], layout="flat")
    assert sorted(path.name for path in (tmp_path / "p.zarr").iterdir()) == ["0", "1", "zarr.json"]
    assert set(strict_json(tmp_path / "p.zarr" / "zarr.json")["attributes"]) == {"ome"}


# --- refused before anything is written ------------------------------------------------------------------------

BAD_OPTIONS = [
    ({"version": "0.3"}, ValueError, "version '0.3'"),
    ({"version": "0.99"}, ValueError, "version '0.99'"),
    ({"version": 0.5}, ValueError, "version 0.5"),
    ({"layout": "tree"}, ValueError, "layout 'tree'"),
    ({"mode": "a"}, ValueError, "mode 'a'"),
    ({"method": "average"}, ValueError, "method 'average'"),
    ({"boundary": "wrap"}, ValueError, "boundary 'wrap'"),
    ({"boundary": "exact", "scale_factors": [5]}, ValueError, "not a multiple"),
    ({"scale_factors": 1}, ValueError, "reduces no axis"),
    ({"scale_factors": 0}, ValueError, "at least 1"),
    ({"scale_factors": [4, 2]}, ValueError, "do not ascend"),
    ({"scale_factors": [2, 2]}, ValueError, "do not ascend"),
    ({"scale_factors": [{"q": 2}]}, ValueError, "q"),
    ({"scale_factors": 2.5}, TypeError, "not an integer"),
    ({"scale_factors": True}, TypeError, "is a bool"),
    ({"scale_factors": "near"}, ValueError, "near"),
    ({"max_levels": 0}, ValueError, "max_levels=0"),
    ({"min_size": 0}, ValueError, "min_size"),
    ({"min_size": 4, "scale_factors": [2]}, ValueError, "min_size=4"),
    ({"chunks": 0}, ValueError, "chunks"),
    ({"chunks": {"q": 4}}, ValueError, "q"),
    ({"chunks": (4, 4, 4)}, ValueError, "entries"),
    ({"chunks": 4, "shards": 6}, ValueError, "not multiples"),
    ({"shards": {"q": 4}}, ValueError, "q"),
    ({"memory_limit": "lots"}, ValueError, "lots"),
    ({"memory_limit": 0}, ValueError, "memory_limit=0"),
    ({"memory_limit": 10}, ValueError, "too little"),
    ({"workers": 0}, ValueError, "workers=0"),
    ({"workers": 1.5}, TypeError, "1.5"),
    ({"nodata": "x"}, ValueError, "'x'"),
    ({"nodata": -1}, ValueError, "-1"),
    ({"method": "nearest", "nodata": 1}, ValueError, "nodata=1"),
    ({"version": "0.4", "shards": 8}, ValueError, "shard"),
    ({"compressors": "lzw"}, (ValueError, TypeError), "."),
]


@pytest.mark.parametrize(("options", "error", "match"), BAD_OPTIONS, ids=[str(entry[0]) for entry in BAD_OPTIONS])
def test_write_pyramid__refuses_bad_options_before_anything_is_written(tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        write_pyramid(noise((16, 16)), tmp_path / "p.zarr", **options)
    assert not (tmp_path / "p.zarr").exists()


@pytest.mark.parametrize(("options", "error", "match"), BAD_OPTIONS, ids=[str(entry[0]) for entry in BAD_OPTIONS])
def test_write_pyramid__bad_options_do_not_cost_the_old_pyramid(tmp_path, options, error, match):
    version = options.get("version") if options.get("version") == "0.4" else "0.5"
    write_pyramid(noise((8, 8)), tmp_path / "p.zarr", scale_factors=[2], version=version)
    before = hashes(tmp_path)
    with pytest.raises(error, match=match):
        write_pyramid(noise((16, 16)), tmp_path / "p.zarr", **{"mode": "w", **options})
    assert hashes(tmp_path) == before


def shaped(dims, shape=None):
    return to_image(np.zeros(shape or (4,) * len(dims)), dims)


BAD_IMAGES = {
    "one-axis": (shaped("x"), ValueError, "2 or 3 spatial axes"),
    "four-spatial-axes": (shaped("wzyx"), ValueError, "2 or 3 spatial axes"),
    "one-spatial-axis": (shaped("tcx"), ValueError, "2 or 3 spatial axes"),
    "two-times": (shaped(("t", "time", "y", "x")), ValueError, "at most one time"),
    "two-channels": (shaped(("c", "band", "y", "x")), ValueError, "at most one time and one channel"),
    "six-axes": (shaped(("t", "c", "w", "z", "y", "x")), ValueError, "OME-NGFF"),
    "empty": (np.zeros((0, 4)), ValueError, "no voxels|size 0"),
    "unlabelled": (np.zeros((2, 2, 2, 2)), ValueError, "dims="),
    "text": (np.full((4, 4), "a"), TypeError, "dtype"),
    "dates": (np.zeros((4, 4), "M8[s]"), TypeError, "dtype"),
    "records": (np.zeros((4, 4), [("a", "u1")]), TypeError, "dtype"),
    "objects": (np.full((4, 4), None), TypeError, "dtype"),
    "irregular": (shaped("yx").assign_coords(y=[0.0, 1.0, 4.0, 9.0]), ValueError, "not evenly spaced.*drop_vars"),
    "irregular-dates": (
        shaped("tyx").assign_coords(t=np.array(["2001-01-01", "2001-02-01", "2001-03-01", "2001-04-01"], "M8[ns]")),
        ValueError,
        "not evenly spaced.*'t'",
    ),
    "labels-in-space": (shaped("yx").assign_coords(y=list("abcd")), ValueError, "'y'"),
    "json": (shaped("yx").assign_attrs(bad={1, 2}), ValueError, "'bad'.*remove or convert"),
    "json-of-a-coordinate": (
        shaped("yx").assign_coords(x=("x", np.arange(4.0), {"bad": object()})),
        ValueError,
        "'bad'",
    ),
}


@pytest.mark.parametrize(("image", "error", "match"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_write_pyramid__refuses_images_before_anything_is_written(tmp_path, image, error, match):
    with pytest.raises(error, match=match):
        write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2])
    assert not (tmp_path / "p.zarr").exists()


def test_write_pyramid__refuses_coordinates_before_the_first_chunk(tmp_path):
    # xarray cannot store such a coordinate; to find out after hours of work is too late.
    image = shaped("yx").assign_coords(owner=("x", np.array([{1}, {2}, {3}, {4}], dtype=object)))
    store = Recording(zarr.storage.LocalStore(tmp_path / "p.zarr"))
    with pytest.raises((ValueError, TypeError)):
        write_pyramid(image, store, scale_factors=[{"y": 2}])
    assert not store.chunks("written")


def test_write_pyramid__reads_nothing_of_an_image_that_it_refuses():
    touched = []

    def load(block):
        touched.append(block.shape)
        return block

    lazy = da.ones((64, 64), chunks=8).map_blocks(load, meta=np.empty((0, 0)))
    for options in ({"version": "0.99"}, {"memory_limit": 10}, {"mode": "a"}, {"scale_factors": [4, 2]}):
        with pytest.raises(ValueError, match=r".+"):
            write_pyramid(lazy, {}, **options)
    assert touched == []


# --- failures --------------------------------------------------------------------------------------------------


class BrokenError(RuntimeError):
    """What a failing kernel raises here."""


@pytest.mark.parametrize("workers", [1, 3])
def test_write_pyramid__a_failing_source_stops_the_build(tmp_path, workers):
    def load(block, block_info=None):
        if block_info[0]["chunk-location"] == (2, 1):
            raise BrokenError("this block cannot be read")
        return block

    lazy = da.ones((64, 64), chunks=16).map_blocks(load, meta=np.empty((0, 0)))
    with pytest.raises(BrokenError, match="cannot be read"):
        write_pyramid(lazy, tmp_path / "p.zarr", scale_factors=[2], workers=workers)
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(tmp_path / "p.zarr")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__a_failing_kernel_leaves_no_pyramid_to_other_readers(tmp_path, layout, monkeypatch):
    calls = []
    finish = SumReduction.finish

    def failing(*args):
        calls.append(args)
        if len(calls) == 3:
            raise BrokenError("out of luck")
        return finish(*args)

    monkeypatch.setattr(SumReduction, "finish", failing)
    with pytest.raises(BrokenError):
        write_pyramid(
            noise((128, 128)),
            tmp_path / "p.zarr",
            scale_factors=[2],
            chunks=16,
            memory_limit="40kB",
            workers=1,
            layout=layout,
        )
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(tmp_path / "p.zarr")
    reader = pytest.importorskip("ome_zarr.reader", reason="the extra 'clients' brings ome-zarr")
    io = pytest.importorskip("ome_zarr.io", reason="the extra 'clients' brings ome-zarr")
    location = io.parse_url(str(tmp_path / "p.zarr"))
    assert location is None or not list(reader.Reader(location)())


def test_write_pyramid__no_thread_outlives_a_failure(tmp_path):
    def fail(block):
        raise BrokenError("no")

    lazy = da.ones((64, 64), chunks=16).map_blocks(fail, meta=np.empty((0, 0)))
    with pytest.raises(BrokenError):
        write_pyramid(lazy, tmp_path / "p.zarr", scale_factors=[2], workers=4)
    assert [t.name for t in threading.enumerate() if t.name.startswith("multiscale_sampler")] == []


# --- progress --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_write_pyramid__tells_its_progress(tmp_path, workers):
    base = noise((128, 128))
    seen = []
    options = {"scale_factors": [2, 4, 8], "chunks": 4, "workers": workers, "memory_limit": workers * 10_000}
    write_pyramid(base, tmp_path / "p.zarr", **options, progress=seen.append)
    done = [point.done for point in seen]
    assert len(done) > 2
    assert done == sorted(done)
    assert done[-1] == seen[-1].total >= base.nbytes
    assert seen[-1].fraction == 1.0


# --- add_levels ------------------------------------------------------------------------------------------------

SHAPES = {
    "cube20": ((20, 20, 20), (8, 8, 8), [(2, 2, 2), (4, 4, 4)]),
    "cube48": ((48, 48, 48), (8, 8, 8), [(2, 2, 2), (4, 4, 4), (8, 8, 8)]),
    "slab": ((32, 16, 16), (8, 8, 8), [(2, 2, 2), (4, 4, 4)]),
    "odd": ((9, 9, 9), (2, 2, 2), [(2, 2, 2), (4, 4, 4), (8, 8, 8)]),
    "image": ((50, 70), (16, 16), [(2, 2), (4, 4), (8, 8)]),
}


@pytest.mark.parametrize(("shape", "chunks", "ladder"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_add_levels__to_a_store_as_pyramid_sampler_makes_them(tmp_path, zarr_format, shape, chunks, ladder):
    base = noise(shape, "uint8" if len(shape) == 2 else "uint16")
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    field = root.create_group("field1", attributes={"note": "mine"})
    make_array(field.store_path, base, zarr_format=zarr_format, chunks=chunks)
    before = hashes(tmp_path / "a.zarr" / "field1" / "0")
    add_levels(tmp_path / "a.zarr", "field1", scale=0.5, units="micrometer")
    assert hashes(tmp_path / "a.zarr" / "field1" / "0") == before
    tree = open_pyramid(tmp_path / "a.zarr" / "field1")
    dims = "zyx"[-len(shape) :]
    check_levels(tree, base, ladder, scale=dict.fromkeys(dims, 0.5))
    assert tree.attrs == {"note": "mine"}
    group = zarr.open_group(tmp_path / "a.zarr" / "field1")
    assert sorted(group.keys()) == [str(number) for number in range(len(ladder) + 1)]
    for number in range(len(ladder) + 1):
        level = group[str(number)]
        assert level.metadata.zarr_format == zarr_format
        assert level.chunks == tuple(min(n, chunk) for n, chunk in zip(level.shape, chunks, strict=True))
    document = group.attrs if zarr_format == 2 else group.attrs["ome"]
    assert [axis["name"] for axis in document["multiscales"][0]["axes"]] == list(dims)
    assert document["multiscales"][0]["name"] == "field1"
    errors = [finding for finding in validate(group).findings if finding.severity == "error"]
    assert errors == []


@pytest.mark.parametrize("form", ["path", "group", "store", "dict", "url"])
def test_add_levels__takes_every_form_of_a_store(tmp_path, form):
    base = noise((12, 12))
    place = {} if form == "dict" else tmp_path / "a.zarr"
    make_array(place, base, path="f/0", chunks=(4, 4), dims=("y", "x"))
    store = {
        "path": lambda: place,
        "group": lambda: zarr.open_group(place, mode="r"),
        "store": lambda: zarr.storage.LocalStore(place, read_only=True),
        "dict": lambda: place,
        "url": lambda: f"file://{place}",
    }[form]()
    add_levels(store, "f", scale_factors=[2, 3])
    check_levels(open_pyramid(place, "f"), base, [(2, 2), (3, 3)])


def test_add_levels__carries_codecs_fill_dims_attrs_and_shards(tmp_path):
    base = noise((24, 20), "float32")
    array = make_array(
        tmp_path / "a.zarr",
        base,
        chunks=(3, 5),
        shards=(6, 10),
        dims=("lat", "lon"),
        compressors=zarr.codecs.GzipCodec(level=2),
        fill_value=np.nan,
        attributes={"units": "K", "sample": [1, 2]},
    )
    before = hashes(tmp_path / "a.zarr" / "0")
    add_levels(tmp_path / "a.zarr", scale_factors=[2, 4])
    assert hashes(tmp_path / "a.zarr" / "0") == before
    for path, shards in (("1", (6, 10)), ("2", (6, 5))):
        level = zarr.open_array(tmp_path / "a.zarr" / path)
        assert level.chunks == (3, 5)
        assert level.shards == shards
        assert level.compressors == array.compressors
        assert np.isnan(level.fill_value)
        assert level.metadata.dimension_names == ("lat", "lon")
        assert level.attrs.asdict() == {"units": "K", "sample": [1, 2]}
    check_levels(open_pyramid(tmp_path / "a.zarr"), base, [(2, 2), (4, 4)])


def test_add_levels__never_opens_the_base_for_writing(tmp_path):
    store = Recording(zarr.storage.LocalStore(tmp_path / "a.zarr"))
    make_array(store, noise((16, 16)), chunks=(4, 4))
    zarr.open_group(tmp_path / "a.zarr", mode="a")
    store.log["written"].clear()
    store.log["read"].clear()
    add_levels(store, scale_factors=[2, 4])
    assert [key for key in store.log["written"] if key.startswith("0/")] == []
    reads = {key: count for key, count in store.chunks("read").items() if key.startswith("0/")}
    assert len(reads) == 16
    assert set(reads.values()) == {1}


def test_add_levels__works_where_the_base_cannot_be_written(tmp_path):
    base = noise((16, 16))
    make_array(tmp_path / "a.zarr", base, chunks=(4, 4))
    zarr.open_group(tmp_path / "a.zarr", mode="a")
    for path in (tmp_path / "a.zarr" / "0").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        add_levels(tmp_path / "a.zarr", scale_factors=[2])
    finally:
        for path in (tmp_path / "a.zarr" / "0").rglob("*"):
            path.chmod(0o755)
    check_levels(open_pyramid(tmp_path / "a.zarr"), base, [(2, 2)])


def single_level(store, version, base, *, dims="cyx", scale=(1.0, 0.5, 0.25), omero=True):
    """Make an OME-Zarr image of one level, as a microscope's software writes it."""
    group = zarr.open_group(store, mode="w", zarr_format=format_of(version))
    names = tuple(dims) if version == "0.5" else None
    make_array(group.store_path, base, zarr_format=format_of(version), chunks=(1, 4, 4)[-base.ndim :], dims=names)
    kinds = {"c": {"type": "channel"}}
    axes = [{"name": dim, **kinds.get(dim, {"type": "space", "unit": "micrometer"})} for dim in dims]
    transforms = [
        {"type": "scale", "scale": list(scale)},
        {"type": "translation", "translation": [0.0, 3.0, 4.0][-base.ndim :]},
    ]
    entry = {"name": "theirs", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}
    channels = [
        {"label": "DAPI", "color": "0000FF", "active": True, "window": {"min": 0, "max": 99, "start": 5, "end": 50}},
        {"label": "GFP", "color": "00FF00", "active": False, "window": {"min": 0, "max": 99, "start": 6, "end": 60}},
    ]
    display = {"omero": {"id": 7, "channels": channels, "rdefs": {"model": "color"}}} if omero else {}
    if version == "0.4":
        group.attrs.update({"multiscales": [{"version": "0.4", **entry}], **display, "note": "mine"})
    else:
        group.attrs.update(
            {"ome": {"version": "0.5", "multiscales": [entry], **display, "_creator": "x"}, "note": "mine"}
        )
    return display.get("omero")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dims", ["cyx", "zyx"])
def test_add_levels__extends_the_metadata_of_a_single_level(tmp_path, version, dims):
    base = noise((2, 12, 10))
    scale = (1.0, 0.5, 0.25)
    omero = single_level(tmp_path / "a.zarr", version, base, dims=dims)
    factors = (1 if dims == "cyx" else 2, 2, 2)
    add_levels(tmp_path / "a.zarr", scale_factors=[2])
    attributes = zarr.open_group(tmp_path / "a.zarr").attrs.asdict()
    document = attributes if version == "0.4" else attributes["ome"]
    assert document["omero"] == omero
    assert attributes["note"] == "mine"
    assert version == "0.4" or document["_creator"] == "x"
    entry = document["multiscales"][0]
    assert entry["name"] == "theirs"
    assert [dataset["path"] for dataset in entry["datasets"]] == ["0", "1"]
    assert entry["axes"][1:] == [{"name": dim, "type": "space", "unit": "micrometer"} for dim in "yx"]
    check_levels(
        open_pyramid(tmp_path / "a.zarr"),
        base,
        [factors],
        scale=dict(zip(dims, scale, strict=True)),
        translation={"y": 3.0, "x": 4.0},
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_add_levels__keeps_consolidated_metadata_up_to_date(tmp_path, zarr_format):
    make_array(tmp_path / "a.zarr", noise((8, 8)), zarr_format=zarr_format, chunks=(4, 4))
    zarr.open_group(tmp_path / "a.zarr", mode="a", zarr_format=zarr_format)
    with warnings.catch_warnings():
        # zarr v3 has no final specification of consolidated metadata.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(str(tmp_path / "a.zarr"))
    add_levels(tmp_path / "a.zarr", scale_factors=[2])
    consolidated = zarr.open_consolidated(tmp_path / "a.zarr").metadata.consolidated_metadata
    assert set(consolidated.metadata) == {"0", "1"}
    assert len(open_pyramid(tmp_path / "a.zarr").children) == 2


def test_add_levels__takes_another_base(tmp_path):
    base = noise((8, 8))
    make_array(tmp_path / "a.zarr", base, path="raw", chunks=(4, 4))
    make_array(tmp_path / "a.zarr", noise((3, 3)), path="other")
    add_levels(tmp_path / "a.zarr", base="raw", scale_factors=[2, 4])
    datasets = zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["multiscales"][0]["datasets"]
    assert [dataset["path"] for dataset in datasets] == ["raw", "1", "2"]
    check_levels(open_pyramid(tmp_path / "a.zarr"), base, [(2, 2), (4, 4)])


@pytest.mark.parametrize("method", ["sum", "max", "mode", "nearest"])
def test_add_levels__every_method(tmp_path, method):
    base = noise((9, 10), "uint8")
    make_array(tmp_path / "a.zarr", base, chunks=(4, 4), fill_value=3)
    if method == "sum":
        add_levels(tmp_path / "a.zarr", scale_factors=[2], method=method)
        level = open_pyramid(tmp_path / "a.zarr")["scale1"]
        np.testing.assert_array_equal(next(iter(level.data_vars.values())).values, expected_level(base, (2, 2), "sum"))
    else:
        add_levels(tmp_path / "a.zarr", scale_factors=[2], method=method)
        check_levels(open_pyramid(tmp_path / "a.zarr"), base, [(2, 2)], method)


REFUSED = {
    "levels-exist": (lambda p: make_array(p, noise((4, 4)), path="1"), FileExistsError, "'1' already", {}),
    "pyramid-exists": (lambda p: add_levels(p, scale_factors=[2]), FileExistsError, "already", {}),
    "missing-base": (lambda p: None, FileNotFoundError, r"no array 'raw' \(found '0'\).*base=", {"base": "raw"}),
    "missing-group": (lambda p: None, FileNotFoundError, "nope", {"path": "nope"}),
    "array": (lambda p: None, ValueError, "is an array, and levels go beside it.*base='0'", {"path": "0"}),
    "bad-dims": (lambda p: None, ValueError, "dims", {"dims": "zyx"}),
    "version": (lambda p: None, ValueError, "do not ascend", {"scale_factors": [4, 2]}),
    "method": (lambda p: None, ValueError, "average", {"method": "average"}),
    "memory": (lambda p: None, ValueError, "too little", {"memory_limit": 10}),
    "storage": (lambda p: None, ValueError, "storage_options", {"storage_options": {"anon": True}}),
}


@pytest.mark.parametrize(("prepare", "error", "match", "options"), REFUSED.values(), ids=REFUSED)
def test_add_levels__refuses_before_anything_is_written(tmp_path, prepare, error, match, options):
    make_array(tmp_path / "a.zarr", noise((8, 8)), chunks=(4, 4))
    zarr.open_group(tmp_path / "a.zarr", mode="a")
    prepare(tmp_path / "a.zarr")
    before = hashes(tmp_path)
    with pytest.raises(error, match=match):
        add_levels(tmp_path / "a.zarr", **options)
    assert hashes(tmp_path) == before


def test_add_levels__refuses_an_array_opened_as_such(tmp_path):
    array = make_array(tmp_path / "a.zarr", noise((8, 8)), chunks=(4, 4))
    with pytest.raises(ValueError, match="levels go beside it"):
        add_levels(array)


def test_add_levels__refuses_channels_last(tmp_path):
    make_array(tmp_path / "a.zarr", noise((8, 8, 3)), chunks=(4, 4, 3), dims=("y", "x", "c"))
    before = hashes(tmp_path)
    with pytest.raises(ValueError, match=r"write_pyramid, which reorders"):
        add_levels(tmp_path / "a.zarr")
    assert hashes(tmp_path) == before


def test_add_levels__refuses_metadata_of_another_version(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    make_array(group.store_path, noise((8, 8)), chunks=(4, 4))
    transforms = [{"type": "scale", "scale": [1.0, 1.0]}]
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    entry = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}
    group.attrs["multiscales"] = [entry]
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match=r"0\.4.*0\.5"):
        add_levels(tmp_path / "a.zarr")
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_add_levels__a_failure_leaves_the_base_and_no_pyramid(tmp_path, zarr_format):
    store = Recording(zarr.storage.LocalStore(tmp_path / "a.zarr"))
    base = noise((16, 16))
    make_array(store, base, zarr_format=zarr_format, chunks=(4, 4))
    before = hashes(tmp_path / "a.zarr" / "0")
    store.log["refused"] = "2/c/0/0" if zarr_format == 3 else "2/0/0"
    with pytest.raises(OSError, match="no space left"):
        add_levels(store, scale_factors=[2, 4])
    assert hashes(tmp_path / "a.zarr" / "0") == before
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr", "0").values, base)


@pytest.mark.parametrize("version", VERSIONS)
def test_add_levels__a_failure_leaves_the_metadata_of_a_single_level(tmp_path, version):
    base = noise((2, 12, 10))
    single_level(tmp_path / "a.zarr", version, base)
    store = Recording(zarr.storage.LocalStore(tmp_path / "a.zarr"))
    store.log["refused"] = "1/c/0/0/0" if version == "0.5" else "1/0/0/0"
    with pytest.raises(OSError, match="no space left"):
        add_levels(store, scale_factors=[2])
    tree = open_pyramid(tmp_path / "a.zarr")
    assert list(tree.children) == ["scale0"]
    np.testing.assert_array_equal(tree["scale0/theirs"].values, base)


def test_add_levels__keeps_the_rest_of_an_entry_and_other_entries(tmp_path):
    single_level(tmp_path / "a.zarr", "0.5", noise((2, 12, 10)))
    group = zarr.open_group(tmp_path / "a.zarr")
    document = group.attrs["ome"]
    document["multiscales"].append({**document["multiscales"][0], "name": "second"})
    group.attrs["ome"] = document
    add_levels(tmp_path / "a.zarr", scale_factors=[2])
    names = [entry["name"] for entry in zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["multiscales"]]
    assert names == ["theirs", "second"]


def test_write_pyramid__computes_nothing_with_the_callers_scheduler(tmp_path):
    def refuse(graph, keys, **options):
        raise AssertionError("a build is no business of the caller's scheduler")

    lazy = da.from_array(noise((32, 32)), chunks=8)
    with dask.config.set(scheduler=refuse):
        write_pyramid(lazy, tmp_path / "p.zarr", scale_factors=[2])
    check_levels(open_pyramid(tmp_path / "p.zarr"), lazy.compute(), [(2, 2)])
