import json

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.image.tree import levels_of_tree
from tests import oracles, strategies
from tests.oracles import INTEGERS, METHODS, assert_level, images_of


def sizes_of(tree, dim):
    return [level.sizes[dim] for level in images_of(tree)]


def assert_means(tree, array, ladder):
    """Assert that every level is the exact mean of the windows of the base."""
    levels = images_of(tree)
    assert len(levels) == len(ladder) + 1
    for level, factor in zip(levels[1:], ladder, strict=True):
        exact = oracles.reduced(array, (factor,) * array.ndim, "mean")
        assert_level(level, exact, array.dtype, ulps=1)


# The tree


def test_tree__has_a_node_per_level():
    tree = ms.to_multiscale(ms.to_image(np.zeros((64, 64)), name="nuc"), [2, 4])
    assert list(tree.children) == ["scale0", "scale1", "scale2"]
    for node in tree.children.values():
        assert list(node.data_vars) == ["nuc"]
    assert isinstance(tree, xr.DataTree)


def test_tree__base_is_the_image():
    image = ms.to_image(np.arange(64.0).reshape(8, 8), scale=0.5, units="micrometer")
    image.attrs["instrument"] = "scope"
    base = ms.to_multiscale(image, [2])["scale0/image"]
    assert base.compute().identical(image)


def test_tree__levels_keep_attrs_units_and_names():
    image = ms.to_image(np.zeros((2, 8, 8)), "cyx", units="micrometer", name="nuc", channel_names=["DAPI", "GFP"])
    image.attrs["instrument"] = "scope"
    for level in images_of(ms.to_multiscale(image, [2, 4])):
        assert level.name == "nuc"
        assert level.attrs == {"instrument": "scope"}
        assert level.x.attrs["units"] == "micrometer"
        assert level.c.values.tolist() == ["DAPI", "GFP"]


def test_tree__chunks_are_those_of_the_image_or_as_asked():
    image = da.zeros((256, 256), chunks=(100, 64))
    assert ms.to_multiscale(image, [2])["scale0/image"].data.chunksize == (100, 64)
    for level in images_of(ms.to_multiscale(image, [2, 4, 8], "mean", 50)):
        assert level.data.chunksize == tuple(min(50, n) for n in level.shape)
    tree = ms.to_multiscale(image, [2], chunks={"y": 10, "x": 20})
    assert tree["scale1/image"].data.chunksize == (10, 20)


def test_tree__says_how_it_was_made_in_plain_values():
    tree = ms.to_multiscale(np.zeros((64, 64), "uint8"), [np.int64(2), 3], "mode", boundary="trim", nodata=np.uint8(7))
    recipe = json.loads(json.dumps(tree.attrs["multiscale"]))
    assert recipe == {
        "method": "mode",
        "boundary": "trim",
        "scale_factors": [{"y": 2, "x": 2}, {"y": 3, "x": 3}],
        "skipna": None,
        "nodata": 7,
        "min_valid": 0.0,
    }


def test_tree__its_recipe_makes_it_again():
    array = strategies.random_values((20, 30), "int16", 3)
    tree = ms.to_multiscale(array, [2, 3, 6], "median", boundary="trim", nodata=0)
    recipe = tree.attrs["multiscale"]
    again = ms.to_multiscale(array, recipe.pop("scale_factors"), recipe.pop("method"), **recipe)
    for first, second in zip(images_of(tree), images_of(again), strict=True):
        assert first.identical(second)


def test_levels_of_tree__gives_the_images_back():
    tree = ms.to_multiscale(np.zeros((64, 64)), [2, 4])
    assert [level.sizes["x"] for level in levels_of_tree(tree)] == [64, 32, 16]
    with pytest.raises(ValueError, match="scale0"):
        levels_of_tree(xr.DataTree.from_dict({"/other": xr.Dataset()}))
    both = xr.Dataset({"a": ("x", [1]), "b": ("x", [2])})
    with pytest.raises(ValueError, match=r"'scale0'.*2"):
        levels_of_tree(xr.DataTree.from_dict({"/scale0": both}))


def test_tree__takes_the_row_of_a_method():
    reducer = ms.plan_pyramid(np.zeros((4, 4)), [2], method="max").reducer
    array = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(ms.to_multiscale(array, [2], reducer)["scale1/image"], [[5, 7], [13, 15]])


def test_tree__of_one_voxel_has_one_level():
    assert sizes_of(ms.to_multiscale(np.zeros((1, 1))), "x") == [1]


# Rows of the cases


@pytest.mark.parametrize(
    ("row", "shape", "chunk", "sizes"),
    [
        ("PS-1", (20, 20, 20), 8, [20, 10, 5]),
        ("PS-2", (48, 48, 48), 8, [48, 24, 12, 6]),
        ("PS-3", (32, 16, 16), 8, [16, 8]),
        ("PS-4", (9, 9, 9), 2, [9, 5, 3, 2]),
        ("PS-7", (16, 16), 8, [16, 8]),
    ],
)
def test_cases__ps_1_to_7_shapes_that_chunks_do_not_divide(row, shape, chunk, sizes):
    tree = ms.to_multiscale(np.full(shape, 7, "uint8"), chunks=chunk)
    assert sizes_of(tree, "x")[: len(sizes)] == sizes
    for level in images_of(tree):
        assert (level.values == 7).all(), row


def test_cases__ps_3_axes_of_like_spacing_are_reduced_together():
    tree = ms.to_multiscale(np.zeros((32, 16, 16), "uint8"), chunks=8)
    assert [level.shape for level in images_of(tree)] == [(32, 16, 16), (16, 8, 8), (8, 4, 4)]


def test_cases__ps_2_ten_levels_end_where_they_must():
    """PS-2: 48^3, chunks of 8, ten levels asked for."""
    assert len(images_of(ms.to_multiscale(np.zeros((48, 48, 48), "uint8"), chunks=8, max_levels=10))) == 4


@pytest.mark.parametrize("method", [m for m in METHODS if m != "sum"])
def test_cases__ps_6_t2_a_constant_beyond_float64(method):
    """PS-6, T2: no float64 equals 2**60 + 1."""
    for dtype in ("uint64", "int64"):
        array = np.full((20, 20), 2**60 + 1, dtype)
        for level in images_of(ms.to_multiscale(array, [2, 3, 4], method)):
            assert (level.values == 2**60 + 1).all()


def test_cases__ps_9_the_shape_is_that_of_the_array():
    """PS-9: nobody can claim another one."""
    tree = ms.to_multiscale(np.arange(16**3, dtype="uint16").reshape(16, 16, 16), [2])
    assert tree["scale1/image"].shape == (8, 8, 8)
    assert tree["scale1/image"].values[-1, -1, -1] == round(np.arange(16**3).reshape(16, 16, 16)[-2:, -2:, -2:].mean())


def test_cases__msi_3_cumulative_factors():
    """MSI-3: 256 by [2, 4, 8, 16]."""
    assert sizes_of(ms.to_multiscale(np.zeros((256, 256)), [2, 4, 8, 16]), "x") == [256, 128, 64, 32, 16]


def test_cases__msi_4_partial_mappings():
    """MSI-4: a dim left out is not reduced."""
    tree = ms.to_multiscale(np.zeros((64, 64)), [{"x": 2}, {"x": 2, "y": 2}])
    assert [level.shape for level in images_of(tree)] == [(64, 64), (64, 32), (32, 32)]


def test_cases__msi_5_relative_lists_are_refused():
    """MSI-5: [2, 2, 2]."""
    with pytest.raises(ValueError, match=r"\[2, 2, 2\].*\[2, 4, 8\]"):
        ms.to_multiscale(np.zeros((64, 64)), [2, 2, 2])


@pytest.mark.parametrize("dims", ["cyx", "tyx", "tczyx"])
def test_cases__msi_6_channels_and_time_by_default(dims):
    """MSI-6: the default method with channels or time."""
    array = np.ones((*(2, 3, 4)[: len(dims) - 2], 600, 600), "uint8")
    tree = ms.to_multiscale(ms.to_image(array, dims))
    kept = ["tc".find(dim) >= 0 for dim in dims]
    halved = tuple(n if keep else n // 2 for n, keep in zip(array.shape, kept, strict=True))
    assert images_of(tree)[1].shape == halved
    assert (images_of(tree)[-1].values == 1).all()


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_cases__msi_13_dtypes(dtype):
    """MSI-13: u8, i8, bool by the default method."""
    tree = ms.to_multiscale(np.ones((8, 8), dtype), [2])
    assert tree["scale1/image"].dtype == dtype
    assert (tree["scale1/image"].values == 1).all()


@pytest.mark.parametrize("factors", [np.int64(2), [np.int64(2)], [{"y": np.int32(2), "x": np.uint8(2)}], np.array([2])])
def test_cases__msi_14_integers_of_numpy(factors):
    """MSI-14: np.int64(2)."""
    assert sizes_of(ms.to_multiscale(np.zeros((64, 64)), factors, chunks=32), "x") == [64, 32]


def test_cases__msi_15_any_dims():
    """MSI-15: latitudes and longitudes."""
    image = xr.DataArray(np.zeros((8, 8)), dims=("lat", "lon"), coords={"lat": 90 - np.arange(8.0)})
    tree = ms.to_multiscale(image, [2])
    assert images_of(tree)[1].dims == ("lat", "lon")
    assert images_of(tree)[1].lat.values.tolist() == [89.5, 87.5, 85.5, 83.5]


@pytest.mark.parametrize(("size", "ladder"), [(60, [2, 3]), (100, [2, 5]), (90, [3, 9]), (60, [2, 3, 5])])
def test_cases__nz_3_oz_3_oz_4_ladders_that_do_not_nest(size, ladder):
    """NZ-3, OZ-3, OZ-4: sizes, positions and values are those of the factor."""
    array = strategies.random_values((size, size), "uint16", size)
    tree = ms.to_multiscale(array, ladder)
    assert sizes_of(tree, "x") == [size, *[size // f for f in ladder]]
    assert_means(tree, array, ladder)
    for level, factor in zip(images_of(tree)[1:], ladder, strict=True):
        assert np.diff(level.x.values).tolist() == [factor] * (size // factor - 1)


def test_cases__oz_4_factors_by_dim_that_do_not_nest():
    """OZ-4: [{2}, {3}], exact means of 3 x 3."""
    array = strategies.random_values((60, 60), "uint16", 4)
    tree = ms.to_multiscale(array, [{"y": 2, "x": 2}, {"y": 3, "x": 3}])
    assert_means(tree, array, [2, 3])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_cases__nz_5_brightness_stays(dtype, method):
    """NZ-5: constants 1, 3, 10, 255, -3, 65535 and 65533."""
    for value in (1, 3, 10, 255, -3, 65535, 65533):
        limits = np.iinfo(dtype)
        if limits.min <= value <= limits.max and method != "sum":
            for level in images_of(ms.to_multiscale(np.full((9, 8), value, dtype), [2, 4], method)):
                assert (level.values == value).all()


@pytest.mark.parametrize("method", ["mode", "nearest", "min", "max"])
def test_cases__nz_6_oz_10_ids_stay_in_their_block(method):
    """NZ-6, OZ-10: ids 2**60 .. 2**60 + 1000."""
    ids = np.uint64(2**60) + np.random.default_rng(6).integers(0, 1001, (64, 64)).astype(np.uint64)
    for level, factor in zip(images_of(ms.to_multiscale(ids, [2, 4], method)), (1, 2, 4), strict=True):
        values = level.values
        for index, block in oracles.windows(ids, (factor, factor)):
            assert values[index] in block


@pytest.mark.parametrize("shape", [(3, 3), (5, 300), (1, 64), (64, 1)])
@pytest.mark.filterwarnings("ignore:scale_factors:UserWarning")
def test_cases__nz_10_tiny_arrays(shape):
    """NZ-10: no level is empty, none repeats, axes of one sample stay."""
    array = strategies.random_values(shape, "uint8", 1)
    shapes = [level.shape for level in images_of(ms.to_multiscale(array, [2, 4, 8]))]
    expected = oracles.list_of_levels(shape, [2, 4, 8])
    assert shapes == [tuple(map(oracles.level_size, shape, factors)) for factors in expected]
    assert len(set(shapes)) == len(shapes)
    assert 0 not in np.ravel(shapes)


def test_cases__nz_10_says_that_it_stops():
    with pytest.warns(UserWarning, match="pyramid ends"):
        ms.to_multiscale(np.zeros((3, 3)), [2, 4, 8])


@pytest.mark.parametrize("method", METHODS)
def test_cases__nz_11_oz_7_oz_8_chunks_leave_no_seams(method):
    """NZ-11, OZ-7, OZ-8: noise, in chunks of 64, 50, 37 and in one."""
    noise = strategies.random_values((100, 333), "uint16", 8)
    results = [
        [level.values for level in images_of(ms.to_multiscale(da.from_array(noise, chunks=cut), [2, 4], method))]
        for cut in (64, 50, 37, -1)
    ]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_cases__nz_13_time_is_reduced_where_it_is_named():
    """NZ-13: {t: 2, y: 2, x: 2}."""
    image = ms.to_image(np.arange(8, dtype="uint8").repeat(16).reshape(8, 4, 4), "tyx")
    level = ms.to_multiscale(image, [{"t": 2, "y": 2, "x": 2}])["scale1/image"]
    assert level.shape == (4, 2, 2)
    assert level.values[:, 0, 0].tolist() == [0, 2, 4, 6]
    assert level.t.values.tolist() == [0.5, 2.5, 4.5, 6.5]


@pytest.mark.parametrize("size", [255, 256, 250, 333])
def test_cases__nz_4_oz_5_oz_6_oz_7_values_are_where_they_claim_to_be(size):
    """NZ-4, OZ-5, OZ-6, OZ-7: a ramp; the scale is the factor, odd or not."""
    ramp = ms.to_image(da.from_array(np.arange(size, dtype="float64"), chunks=64), "x")
    for method in ("mean", "median", "nearest"):
        for level, factor in zip(images_of(ms.to_multiscale(ramp, [2, 4], method)), (1, 2, 4), strict=True):
            inside = level.isel(x=slice(0, size // factor))
            np.testing.assert_array_equal(inside.values, inside.x.values)
            assert set(np.diff(level.x.values)) == {factor}


def test_cases__oz_14_factors_by_dim_are_honoured():
    """OZ-14: one level with z halved, nothing else."""
    tree = ms.to_multiscale(np.zeros((8, 16, 16), "uint32"), [{"z": 2}], "mode")
    assert [level.shape for level in images_of(tree)] == [(8, 16, 16), (4, 16, 16)]


@pytest.mark.parametrize("shape", [(20, 20), (5, 250)])
def test_cases__oz_15_small_images_stay_as_they_are(shape):
    """OZ-15: no levels down to one voxel."""
    assert len(images_of(ms.to_multiscale(np.zeros(shape)))) == 1


def test_cases__oz_20_chunks_of_a_numpy_array_are_sane():
    """OZ-20: (64, 512, 512)."""
    tree = ms.to_multiscale(np.zeros((64, 512, 512), "uint8"))
    assert [level.data.chunksize for level in images_of(tree)[:2]] == [(64, 64, 64), (32, 64, 64)]


def test_cases__x_6_dtype_and_translations_of_four_levels():
    """X-6: uint8 stays; 0.5, 1.5, 3.5."""
    levels = images_of(ms.to_multiscale(np.zeros((64, 64), "uint8"), [2, 4, 8]))
    assert [float(level.x[0]) for level in levels] == [0.0, 0.5, 1.5, 3.5]
    assert {level.dtype for level in levels} == {np.dtype("uint8")}


def test_cases__t1_oz_9_three_levels_do_not_drift():
    """T1: Poisson(5), uint16, 256 x 256; every level is the rounded mean of the base, so its mean stays."""
    noise = np.random.default_rng(0).poisson(5, (256, 256)).astype("uint16")
    for level, factor in zip(images_of(ms.to_multiscale(noise, [2, 4, 8])), (1, 2, 4, 8), strict=True):
        assert level.values.mean() == pytest.approx(noise.mean(), rel=0.01)
        blocks = noise.reshape(256 // factor, factor, 256 // factor, factor).swapaxes(1, 2).astype(int)
        np.testing.assert_array_equal(level.values, np.rint(blocks.sum(axis=(2, 3)) / factor**2))


# A method for each variable


def two_variables():
    rng = np.random.default_rng(7)
    return xr.Dataset(
        {
            "image": (("y", "x"), rng.integers(0, 999, (11, 14)).astype("uint16")),
            "labels": (("y", "x"), rng.integers(0, 3, (11, 14)).astype("uint64")),
        }
    )


def test_dataset__has_a_method_for_each_variable():
    dataset = two_variables()
    tree = ms.to_multiscale(dataset, [2, 4], {"image": "mean", "labels": "mode"})
    for name, method in [("image", "mean"), ("labels", "mode")]:
        alone = images_of(ms.to_multiscale(dataset[name], [2, 4], method))
        for index, level in enumerate(alone):
            xr.testing.assert_identical(tree[f"scale{index}/{name}"].compute(), level.compute())


def test_dataset__refuses_methods_at_different_positions():
    with pytest.raises(ValueError, match="different positions"):
        ms.to_multiscale(two_variables(), [2, 4], {"image": "mean", "labels": "nearest"})


@pytest.mark.parametrize("methods", [{"image": "mean"}, {"image": "mean", "labels": "mode", "other": "mean"}])
def test_dataset__refuses_methods_of_other_variables(methods):
    with pytest.raises(ValueError, match="must name the variables"):
        ms.to_multiscale(two_variables(), [2, 4], methods)
