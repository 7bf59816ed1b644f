"""Laplacian pyramids: bands add up to the base, for any chunks, boundary and missing values."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import multiscale_sampler as ms
from multiscale_sampler.methods.reducers import REDUCERS
from tests import oracles, strategies
from tests.oracles import level_dtype

NUMBERS = (*oracles.DTYPES, *oracles.COMPLEX)


def image_of(array, blocks=None):
    return ms.to_image(array if blocks is None else da.from_array(array, blocks), strategies.dims_of(array.shape))


def values_of(tree):
    return [level.values for level in oracles.images_of(tree)]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("boundary", ["pad", "trim"])
def test_bands__of_the_base_and_of_every_level_equal_the_oracle(dtype, boundary):
    array = (
        strategies.random_values((13, 17), dtype, 1) if np.dtype(dtype).kind != "c" else complex_values((13, 17), dtype)
    )
    if np.dtype(dtype).kind == "f":
        array = strategies.with_missing(np.where(np.isfinite(array), array, 0).astype(dtype), 1, 0.1)
    found = values_of(ms.to_multiscale(image_of(array, 5), [2, 4], "laplacian", boundary=boundary))
    expected = oracles.band_pyramid(array, [(1, 1), (2, 2), (4, 4)], boundary=boundary)
    for level, exact in zip(found, expected, strict=True):
        oracles.assert_filtered(level, exact, level_dtype(dtype, "laplacian"))


def complex_values(shape, dtype):
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


LADDERS = ([2], [2, 4], [3, 6], [2, 6, 12], [{"a": 2}, {"a": 2, "b": 3}])


@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 20)),
    ladder=st.sampled_from(LADDERS),
    dtype=st.sampled_from(["bool", "uint8", "int16", "uint32", "int64", "float32", "float64", "complex64"]),
    boundary=st.sampled_from(["pad", "trim"]),
    block=st.integers(1, 9),
    data=st.data(),
)
@pytest.mark.filterwarnings("ignore:scale_factors")
def test_bands__sum_back_to_the_base(shape, ladder, dtype, boundary, block, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    array = (rng.normal(size=shape) * 100).astype(dtype)
    if np.dtype(dtype).kind in "fc" and data.draw(st.booleans()):
        array[rng.random(shape) < 0.4] = np.nan
    tree = ms.to_multiscale(image_of(array, block), ladder, "laplacian", boundary=boundary)
    back = ms.reconstruct(tree)
    assert back.dtype == level_dtype(dtype, "laplacian")
    xr.testing.assert_equal(back.coords.to_dataset(), tree["scale0/image"].coords.to_dataset())
    if array.dtype.kind in "biu":
        np.testing.assert_array_equal(back.values.round().astype(dtype), array)
    else:
        np.testing.assert_allclose(back.values, array, rtol=1e-5, atol=1e-3, equal_nan=True)


def test_bands__of_the_largest_32_bit_integers_are_restored_exactly():
    ends = np.iinfo(np.uint32)
    array = np.random.default_rng(0).choice(np.array([ends.min, 1, ends.max - 1, ends.max], np.uint32), (40, 30))
    back = ms.reconstruct(ms.to_multiscale(image_of(array, 7), [2, 4, 8], "laplacian"))
    np.testing.assert_array_equal(back.values.round().astype(np.uint32), array)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_bands__of_a_constant_are_zero_and_the_coarsest_level_is_it(dtype):
    kind = np.dtype(dtype).kind
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max) if kind in "iu" else (0, 1):
        *bands, coarsest = values_of(ms.to_multiscale(image_of(np.full((13, 9), value, dtype), 5), [2, 4], "laplacian"))
        assert not any(band.any() for band in bands)
        assert (coarsest == coarsest.dtype.type(value)).all()


def test_bands__of_a_ramp_are_zero_inside_and_the_coarsest_level_is_it():
    axis = ms.to_image(np.zeros((250, 4)), "ab", scale=0.5).a
    ramp = axis.expand_dims(b=4).transpose("a", "b").astype(float).reset_coords(drop=True)
    ramp = ramp.assign_coords(a=axis, b=np.arange(4.0))
    tree = ms.to_multiscale(ramp.rename("image"), [{"a": 2}, {"a": 4}], "laplacian", chunks={"a": 50, "b": 4})
    *bands, coarsest = oracles.images_of(tree)
    for band in bands:
        np.testing.assert_allclose(band.values[20:-20], 0, atol=1e-9)
    np.testing.assert_allclose(coarsest.values[5:-5, 0], coarsest.a.values[5:-5], atol=1e-9)


def test_bands__that_are_missing_stay_so_and_their_neighbours_come_back():
    array = np.random.default_rng(0).integers(1, 200, (21, 19)).astype(np.uint8)
    array[3:15, 4:16] = 0
    tree = ms.to_multiscale(image_of(array, 6), [2, 4, 8], "laplacian", nodata=0)
    back = ms.reconstruct(tree).values
    np.testing.assert_array_equal(np.isnan(back), array == 0)
    np.testing.assert_array_equal(back[array > 0].round(), array[array > 0])


@pytest.mark.parametrize("boundary", ["pad", "trim"])
@pytest.mark.parametrize(("memory", "passes"), [("48KiB", 4), ("256KiB", 2), ("1GiB", 1)])
def test_bands__that_are_written_have_the_bits_of_the_tree_in_one_pass_or_many(boundary, memory, passes, tmp_path):
    array = np.random.default_rng(0).integers(0, 999, (161, 133)).astype(np.uint16)
    image = image_of(array, 10).rename(a="y", b="x")
    options = {"method": "laplacian", "boundary": boundary}
    expected = values_of(ms.to_multiscale(image, [2, 4, 8, 16], **options))
    storing = {"chunks": 8, "memory_limit": memory, "workers": 2}
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        assert len(ms.plan_pyramid(image, [2, 4, 8, 16], **options, **storing).export_passes) == passes
        ms.write_pyramid(image, tmp_path / "a", scale_factors=[2, 4, 8, 16], **options, **storing)
    ms.write_pyramid(ms.to_multiscale(image, [2, 4, 8, 16], **options), tmp_path / "b", chunks=8)
    for store in ("a", "b"):
        opened = ms.open_pyramid(tmp_path / store)
        for found, level in zip(values_of(opened), expected, strict=True):
            assert found.tobytes() == level.tobytes()
        np.testing.assert_array_equal(ms.reconstruct(opened).values.round(), array)
    assert ms.validate(tmp_path / "a").ok


def test_bands__of_all_levels_are_written_while_the_base_is_read():
    plan = ms.plan_pyramid(image_of(np.zeros((512, 512), np.uint16), 64), [2, 4], method="laplacian", chunks=64)
    assert [pass_.written for pass_ in plan.export_passes] == [(0, 1, 2)]


def test_reconstruct__takes_bands_that_were_changed():
    array = np.random.default_rng(0).normal(size=(32, 32))
    tree = ms.to_multiscale(image_of(array), [2, 4], "laplacian")
    finest = tree["scale0/image"]
    tree["scale0"] = (0 * finest).to_dataset(name="image")
    smooth = ms.reconstruct(tree)
    np.testing.assert_allclose(smooth + finest, array, atol=1e-12)


def test_reconstruct__refuses_trees_without_bands():
    with pytest.raises(TypeError, match=r"'uint8' are not bands.*laplacian"):
        ms.reconstruct(ms.to_multiscale(np.zeros((8, 8), np.uint8), [2]))
    tree = ms.to_multiscale(image_of(np.zeros((9, 9))), [2, 4], "laplacian")
    tree["scale1"] = tree["scale1"].to_dataset().isel(a=slice(0, 3))
    with pytest.raises(ValueError, match="pass all levels of one pyramid"):
        ms.reconstruct(tree)


def test_laplacian__is_refused_without_a_whole_pyramid(tmp_path):
    image = ms.to_image(np.zeros((12, 12), np.uint8))
    with pytest.raises(ValueError, match="to_multiscale"):
        ms.coarsen(image, 2, method="laplacian")
    with pytest.raises(ValueError, match=r"\(3, 3\) are not multiples of \(2, 2\)"):
        ms.plan_pyramid(image, [2, 3], method="laplacian")
    ms.create_test_image(tmp_path / "s", shape=(20, 20), chunks=(8, 8))
    with pytest.raises(ValueError, match="write_pyramid"):
        ms.add_levels(tmp_path / "s", method="laplacian")
    assert REDUCERS["laplacian"].cascade == "stepwise"
