"""The laws of the design, each as a property over dtypes, ranks, odd sizes, chunks and boundaries."""

import warnings
from fractions import Fraction
from typing import ClassVar

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st

import multiscale_sampler as ms
from multiscale_sampler.lazy import coarsening
from tests import oracles, strategies
from tests.oracles import COMPOSING, DTYPES, FLOATS, INTEGERS, METHODS, SELECTING, STEPWISE, assert_level

# A ramp, and how finely it is cut.
RAMP_SIZES = (256, 257, 250, 101, 9)
RAMP_CHUNKS = (64, 50, 37, None)
BOUNDARIES = ("pad", "trim")


def image_of(array, **labels):
    return ms.to_image(array, strategies.dims_of(array.shape), **labels)


def levels_of(image, *args, **options):
    """The levels of a pyramid, computed; a list that ends early may say so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scale_factors", UserWarning)
        tree = ms.to_multiscale(image, *args, **options)
    return list(dask.compute(*oracles.images_of(tree), scheduler="sync"))


def tolerance(array, factors, method, boundary="pad"):
    """What a float may be off by: nothing where values are selected, else a rounding of the output."""
    if method in SELECTING or array.dtype.kind != "f":
        return {}
    slack = None
    if array.dtype.itemsize == 8:
        slack = oracles.magnitudes(array, factors, boundary) * Fraction(1, 2**100)
    return {"ulps": 1, "slack": slack}


def assert_cascade(array, ladder, method, boundary="pad", **rule):
    """Hold every level against the method applied to the base at once."""
    levels = levels_of(image_of(array), ladder, method, boundary=boundary, **rule)
    expected = oracles.list_of_levels(array.shape, ladder, boundary)
    assert len(levels) == len(expected)
    for level, factors in zip(levels[1:], expected[1:], strict=True):
        exact = oracles.reduced(array, factors, method, boundary=boundary, **rule)
        dtype = oracles.level_dtype(array.dtype, method)
        assert_level(level, exact, dtype, **tolerance(array, factors, method, boundary))


def assert_steps(array, ladder, method, boundary="pad", **rule):
    """Hold every level against the method applied to the level that it is reduced from."""
    levels = levels_of(image_of(array), ladder, method, boundary=boundary, **rule)
    expected = oracles.list_of_levels(array.shape, ladder, boundary)
    assert len(levels) == len(expected)
    for index in range(1, len(levels)):
        parent = oracles.parent_of(expected, index)
        source = levels[parent].values
        relative = tuple(f // g for f, g in zip(expected[index], expected[parent], strict=True))
        exact = oracles.reduced(source, relative, method, boundary=boundary, **rule)
        dtype = oracles.level_dtype(array.dtype, method)
        assert_level(levels[index], exact, dtype, **tolerance(source, relative, method, boundary))


# 1. Exact cascade


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", COMPOSING)
@given(array=strategies.arrays(), ladder=strategies.ladders())
def test_cascade__every_level_is_that_of_the_base_at_once(method, boundary, array, ladder):
    assert_cascade(array, ladder, method, boundary)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", STEPWISE)
@given(array=strategies.arrays(), ladder=strategies.ladders())
def test_cascade__of_rank_methods_goes_step_by_step(method, boundary, array, ladder):
    assert_steps(array, ladder, method, boundary)


@pytest.mark.parametrize("dtype", ["uint64", "int64"])
@pytest.mark.parametrize("method", ["mean", "sum"])
@given(seed=strategies.SEEDS, flavour=st.sampled_from(strategies.FLAVOURS), ladder=strategies.ladders())
def test_cascade__of_64_bit_integers_is_exact_over_the_whole_range(method, dtype, seed, flavour, ladder):
    assert_cascade(strategies.random_values((5, 14), dtype, seed, flavour), ladder, method)


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data(), ladder=strategies.ladders())
def test_cascade__of_means_holds_for_any_finite_floats(dtype, data, ladder):
    info = np.finfo(dtype)
    # A float64 holds the sum of float32 values exactly while they span less than 29 bits, and no further.
    fixed = st.integers(-(2**24), 2**24).map(lambda number: number / 2.0**14)
    finite = fixed if dtype == "float32" else st.floats(float(info.min), float(info.max), width=info.bits)
    array = np.array(data.draw(st.lists(finite, min_size=8, max_size=20)), dtype)
    assert_cascade(array, ladder, "mean")


@pytest.mark.parametrize(
    ("dtype", "values", "mean"),
    [
        ("float64", [2.0**60, 1.0, -(2.0**60), 1.0], 0.5),
        ("float64", [2.0**1000, 1.0, -(2.0**1000), 1.0], 0.5),
        # Near the greatest value sums are kept apart, scaled down; what their sum loses must survive as well.
        ("float64", [2.0**1023, 2.0**961, -(2.0**1023), 0.0], 2.0**959),
        # One summand on each side of the border between ordinary and scaled sums.
        ("float64", [2.0**960, -(2.0**960 - 2.0**907), 0.0], float(Fraction(2.0**907) / 3)),
    ],
)
def test_cascade__of_means_survives_cancellation(dtype, values, mean):
    image = image_of(np.array(values, dtype))
    at_once = ms.coarsen(image, len(values)).item()
    assert at_once == mean
    if len(values) == 4:
        assert levels_of(image, [2, 4])[2].item() == at_once


@given(seed=strategies.SEEDS, boundary=st.sampled_from(BOUNDARIES), method=st.sampled_from(COMPOSING))
def test_cascade__takes_a_ladder_per_axis(seed, boundary, method):
    array = strategies.random_values((7, 6, 10), "int16", seed)
    ladder = [{"b": 2}, {"b": 2, "a": 3}, {"a": 3, "b": 6, "d": 5}]
    levels = levels_of(image_of(array), ladder, method, boundary=boundary)
    for level, factors in zip(levels, [(1, 1, 1), (1, 2, 1), (3, 2, 1), (3, 6, 5)], strict=True):
        if factors != (1, 1, 1):
            exact = oracles.reduced(array, factors, method, boundary=boundary)
            assert_level(level, exact, oracles.level_dtype("int16", method))


@pytest.mark.parametrize("dtype", [">u2", ">i8", ">f4", ">f8"])
@pytest.mark.parametrize("method", METHODS)
def test_cascade__takes_bytes_in_any_order(method, dtype):
    array = strategies.random_values((6, 9), np.dtype(dtype).newbyteorder("="), 3).astype(dtype)
    (assert_steps if method in STEPWISE else assert_cascade)(array, [2], method)


@pytest.mark.parametrize("method", METHODS)
def test_cascade__takes_arrays_of_any_layout_in_memory(method):
    array = strategies.random_values((12, 14), "int32", 5)
    view = array.T[::-2, 1:]
    (assert_steps if method in STEPWISE else assert_cascade)(view, [2, 4], method)


# 2. Registration


@pytest.mark.parametrize("cut", RAMP_CHUNKS)
@pytest.mark.parametrize("size", RAMP_SIZES)
@pytest.mark.parametrize("method", ["mean", "median", "nearest", "min", "max"])
def test_registration__a_ramp_comes_back_as_the_ramp(method, size, cut):
    ramp = np.broadcast_to(np.arange(size, dtype=np.float64), (3, size))
    image = ms.to_image(da.from_array(np.array(ramp), chunks=(2, cut or size)), ("y", "x"))
    for level, factor in zip(levels_of(image, [{"x": 2}, {"x": 4}, {"x": 6}], method), (1, 2, 4, 6), strict=True):
        # The last window may be partial: its value is that of the voxels that it has.
        inside = slice(0, size // factor)
        at = level.x.values[inside]
        value = level.values[:, inside]
        start = np.arange(size // factor) * factor
        if method == "min":
            at = start.astype(float)
        elif method == "max":
            at = start + factor - 1.0
        if method == "nearest":
            np.testing.assert_array_equal(value, np.broadcast_to(at, value.shape))
        else:
            np.testing.assert_allclose(value, np.broadcast_to(at, value.shape), rtol=0, atol=1e-9)
        assert level.sizes["x"] == oracles.level_size(size, factor)


@given(
    scale=st.sampled_from([1.0, 0.5, 0.1, 0.325, -2.0, 1 / 3, 3e-9]),
    translation=st.sampled_from([0.0, 7.3, -1e4, 1e-3]),
    size=st.integers(2, 60),
    factor=st.integers(2, 7),
    boundary=st.sampled_from(BOUNDARIES),
    method=st.sampled_from(METHODS),
)
def test_registration__coordinates_follow_the_formula(scale, translation, size, factor, boundary, method):
    assume(boundary == "pad" or size >= factor)
    # Rounding of the base's own coordinates is all that may be lost.
    rounding = 8 * np.spacing(abs(translation) + abs(scale) * size)
    image = ms.to_image(np.zeros(size, "uint8"), "x", scale=scale, translation=translation)
    level = ms.coarsen(image, factor, method=method, boundary=boundary)
    offset = 0.0 if method == "nearest" else (factor - 1) / 2
    index = np.arange(oracles.level_size(size, factor, boundary))
    expected = translation + scale * (offset + factor * index)
    np.testing.assert_allclose(level.x.values, expected, rtol=0, atol=rounding * factor)


@pytest.mark.parametrize("scale", [0.1, 0.325, 1 / 3, 50.0, -0.25])
def test_registration__scales_of_all_levels_are_those_of_the_base_times_the_factor(scale):
    plan = ms.plan_pyramid(ms.to_image(np.zeros((300, 300), "uint8"), scale=scale, translation=0.0), [2, 3, 12])
    for level in plan.levels:
        for axis, factor in zip(level.axes, level.factors, strict=True):
            assert axis.scale == scale * factor
            assert axis.translation == 0.0 + scale * (factor - 1) / 2


def test_registration__on_a_descending_axis_a_ramp_comes_back_as_the_ramp():
    position = 90.0 - 0.25 * np.arange(720)
    image = xr.DataArray(position, dims="lat", coords={"lat": position})
    for method in ("mean", "median", "nearest"):
        for level in levels_of(image, [2, 4, 5], method):
            np.testing.assert_allclose(level.values, level.lat.values, rtol=0, atol=1e-9)
            assert (np.diff(level.lat.values) < 0).all()


def test_registration__levels_do_not_drift():
    """Coordinates of the last level come from the base, not from level upon level."""
    image = ms.to_image(np.zeros((1, 2**15), "uint8"), scale=0.1)
    coarsest = levels_of(image, [2**k for k in range(1, 15)])[-1]
    np.testing.assert_array_equal(coarsest.x.values, 0.1 * (2**14 - 1) / 2 + 0.1 * 2**14 * np.arange(2))


@pytest.mark.parametrize("method", ["mean", "max", "mode"])
def test_registration__msi_12_irregular_coordinates_are_reduced_as_the_voxels_are(method):
    """MSI-12: y = i**2 stays what it is."""
    image = xr.DataArray(np.zeros((7, 4)), dims=("y", "x"), coords={"y": np.arange(7) ** 2})
    level = ms.coarsen(image, 2, method=method)
    np.testing.assert_array_equal(level.y.values, [0.5, 6.5, 20.5, 36.0])
    np.testing.assert_array_equal(level.x.values, [0.5, 2.5])


def test_registration__nearest_keeps_the_irregular_coordinate_of_its_voxel():
    image = xr.DataArray(np.arange(7.0), dims="y", coords={"y": np.arange(7) ** 2})
    level = ms.coarsen(image, 3, method="nearest")
    np.testing.assert_array_equal(level.y.values, [0, 9, 36])
    np.testing.assert_array_equal(level.values, [0, 3, 6])


def test_registration__dates_are_averaged():
    days = np.datetime64("2020-01-01", "ns") + np.arange(5) * np.timedelta64(1, "D")
    image = xr.DataArray(np.arange(5.0), dims="t", coords={"t": days})
    level = ms.coarsen(image, {"t": 2})
    expected = np.array(["2020-01-01T12", "2020-01-03T12", "2020-01-05T00"], "M8[ns]")
    np.testing.assert_array_equal(level.t.values, expected)
    np.testing.assert_array_equal(ms.coarsen(image, {"t": 2}, method="nearest").t.values, days[::2])


def test_registration__labels_of_channels_are_not_averaged():
    image = ms.to_image(np.zeros((3, 4, 4), "uint8"), "cyx", channel_names=["DAPI", "GFP", "RFP"])
    with pytest.raises(ValueError, match=r"'DAPI'.*nearest"):
        ms.coarsen(image, {"c": 2})
    level = ms.coarsen(image, {"c": 2, "x": 2}, method="nearest")
    assert level.c.values.tolist() == ["DAPI", "RFP"]
    assert levels_of(image, [2])[1].c.values.tolist() == ["DAPI", "GFP", "RFP"]


def test_registration__an_axis_of_one_sample_keeps_its_spacing():
    image = ms.to_image(np.zeros((1, 64, 64), "uint8"), scale=(5.0, 0.5, 0.5), translation=(20.0, 0.0, 0.0))
    for level in levels_of(ms.to_image(image), [2, 4]):
        again = ms.plan_pyramid(level, []).levels[0].axes[0]
        assert (again.scale, again.translation) == (5.0, 20.0)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_registration__coordinates_beside_the_dimensions_are_reduced_alike(boundary):
    latitude = np.arange(25.0).reshape(5, 5)
    coords = {"lat": (("y", "x"), latitude), "stage": 7.5, "row": ("y", list("abcde"))}
    image = xr.DataArray(np.zeros((5, 5)), dims=("y", "x"), coords=coords)
    numeric = image.drop_vars("row")
    reduced = ms.coarsen(numeric, 2, boundary=boundary)
    expected = oracles.reduced(latitude, (2, 2), "mean", boundary=boundary).astype(float)
    np.testing.assert_array_equal(reduced.lat.values, expected)
    assert reduced.stage.item() == 7.5
    assert ms.coarsen(image, 2, boundary=boundary).row.values.tolist() == list("ace")[: reduced.sizes["y"]]
    first = ms.coarsen(image, 2, method="nearest", boundary=boundary)
    n = first.sizes["y"]
    assert first.row.values.tolist() == list("ace")[:n]
    np.testing.assert_array_equal(first.lat.values, latitude[::2, ::2][:n, :n])


# 3. Constants


def extreme_values(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind == "f":
        info = np.finfo(dtype)
        values = [info.min, info.max, info.tiny, info.smallest_subnormal, -info.smallest_subnormal, np.inf, -np.inf]
        return [dtype.type(value) for value in values]
    info = np.iinfo(dtype)
    return [dtype.type(value) for value in (info.min, info.max, info.max - 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_constants__stay_for_every_dtype_at_the_ends_of_its_range(method, dtype):
    values = np.array(extreme_values(dtype), dtype)[:, None, None]
    array = np.broadcast_to(values, (len(values), 7, 11))
    ladder = [{"b": factor, "d": factor} for factor in (2, 3, 5)]
    for level, factor in zip(levels_of(image_of(array), ladder, method), (1, 2, 3, 5), strict=True):
        if method == "sum" and factor > 1:
            exact = oracles.reduced(array, (1, factor, factor), "sum")
            assert_level(level, exact, oracles.level_dtype(dtype, "sum"), ulps=1)
        else:
            assert level.dtype == np.dtype(dtype)
            assert (level.values == values).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_constants__sums_have_the_dtype_of_numpy(dtype):
    level = ms.coarsen(np.ones((4, 4), dtype), 2, method="sum")
    assert level.dtype == np.ones((4, 4), dtype).sum().dtype
    assert (level.values == 4).all()


@pytest.mark.parametrize("method", ["mode", "nearest"])
@given(seed=strategies.SEEDS, base=st.sampled_from([0, 2**60, 2**64 - 8]), ladder=strategies.ladders())
def test_labels__no_id_is_invented(method, seed, base, ladder):
    ids = np.uint64(base) + np.random.default_rng(seed).integers(0, 8, (7, 12)).astype(np.uint64)
    levels = levels_of(image_of(ids), ladder, method)
    for level, factors in zip(levels, oracles.list_of_levels(ids.shape, ladder), strict=True):
        assert level.dtype == np.uint64
        for index, values in oracles.windows(ids, factors):
            assert level.values[index] in values


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_labels__of_equally_frequent_ids_the_least_wins(dtype):
    top = True if dtype == "bool" else np.iinfo(dtype).max
    array = np.array([top, 0, 0, top, top, top, 0, top], dtype)
    assert ms.coarsen(image_of(array), 4, method="mode").values.tolist() == [0, top]


# 4. Independence


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), array=strategies.arrays(ranks=st.integers(1, 4)), ladder=strategies.ladders())
def test_independence__the_same_bits_for_any_chunks(method, data, array, ladder):
    boundary = data.draw(st.sampled_from(BOUNDARIES))
    lazy = da.from_array(array, chunks=data.draw(strategies.chunks(array.shape)))
    asked = data.draw(st.integers(1, 8))
    one = levels_of(image_of(array), ladder, method, boundary=boundary)
    with pytest.MonkeyPatch.context() as patch:
        # Small blocks are joined before they are reduced; images as small as these would only know joined ones.
        patch.setattr(coarsening, "SMALLEST_BLOCK", data.draw(st.sampled_from([0, 64, 2**24])))
        cut = levels_of(image_of(lazy), ladder, method, boundary=boundary)
        rechunked = levels_of(image_of(lazy), ladder, method, asked, boundary=boundary)
    for a, b, c in zip(one, cut, rechunked, strict=True):
        assert a.values.tobytes() == b.values.tobytes() == c.values.tobytes()
        assert a.identical(b)
        assert a.identical(c)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), array=strategies.arrays(ranks=st.integers(1, 4)))
def test_independence__coarsen_gives_the_same_bits_lazy_and_eager(method, data, array):
    drawn = data.draw(strategies.factors_that_reduce(array.shape))
    factors = dict(zip(strategies.dims_of(array.shape), drawn, strict=True))
    lazy = da.from_array(array, chunks=data.draw(strategies.chunks(array.shape)))
    eager = ms.coarsen(image_of(array), factors, method=method)
    later = ms.coarsen(image_of(lazy), factors, method=method)
    assert isinstance(eager.data, np.ndarray)
    assert isinstance(later.data, da.Array)
    assert later.data.dtype == eager.dtype
    assert later.data.shape == eager.shape
    assert later.values.tobytes() == eager.values.tobytes()


@pytest.mark.parametrize("method", ["mean", "median"])
def test_independence__missing_values_do_not_depend_on_chunks(method):
    array = strategies.with_missing(strategies.random_values((17, 23), "float64", 2), 3)
    results = {
        levels_of(image_of(da.from_array(array, chunks=cut)), [2, 4, 8], method)[-1].values.tobytes()
        for cut in (1, 2, 5, 8, 16, 23)
    }
    assert len(results) == 1


# 5. Boundaries


@pytest.mark.parametrize("method", METHODS)
@given(size=st.integers(2, 70), other=st.integers(2, 5), factor=st.integers(2, 6), seed=strategies.SEEDS)
def test_boundary__sizes_round_up_down_or_not_at_all(method, size, other, factor, seed):
    array = strategies.random_values((size, other * factor), "int16", seed)
    image = image_of(da.from_array(array, chunks=4) if seed % 2 else array)
    for boundary in ("pad", "trim", "exact"):
        if boundary == "pad" or size % factor == 0 or (boundary == "trim" and size > factor):
            level = ms.coarsen(image, factor, method=method, boundary=boundary)
            exact = oracles.reduced(array, (factor, factor), method, boundary=boundary)
            assert_level(level, exact, oracles.level_dtype("int16", method))
        else:
            remedy = "pad" if boundary == "exact" else ""
            with pytest.raises(ValueError, match=rf"{size}.*{factor}.*{remedy}"):
                ms.coarsen(image, factor, method=method, boundary=boundary)


def test_boundary__trim_refuses_an_axis_of_less_than_a_window():
    with pytest.raises(ValueError, match=r"3.*5"):
        ms.coarsen(image_of(np.arange(3)), 5, boundary="trim")


def test_boundary__exact_refuses_a_ladder_that_a_later_level_breaks():
    with pytest.raises(ValueError, match="'y'"):
        ms.to_multiscale(np.zeros((12, 12)), [2, 4, 8], boundary="exact")
    assert len(levels_of(np.zeros((16, 24)), [2, 4, 8], boundary="exact")) == 4


def test_boundary__is_one_of_three_words():
    with pytest.raises(ValueError, match=r"'wrap'.*'pad', 'trim', 'exact'"):
        ms.coarsen(np.zeros((4, 4)), 2, boundary="wrap")


# 6. Missing values

SKIPPING = ("mean", "sum", "min", "max")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("method", SKIPPING)
@given(
    shape=strategies.shapes(st.integers(1, 3)),
    seed=strategies.SEEDS,
    ladder=strategies.ladders(),
    skipna=st.sampled_from([None, True]),
)
def test_missing__nan_is_skipped(method, dtype, shape, seed, ladder, skipna):
    array = strategies.with_missing(strategies.random_values(shape, dtype, seed), seed)
    assert_cascade(array, ladder, method, skipna=skipna)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("method", SKIPPING)
@given(shape=strategies.shapes(st.integers(1, 3)), seed=strategies.SEEDS, ladder=strategies.ladders())
def test_missing__nan_spreads_where_it_is_not_skipped(method, dtype, shape, seed, ladder):
    array = strategies.with_missing(strategies.random_values(shape, dtype, seed), seed, fraction=0.1)
    assert_cascade(array, ladder, method, skipna=False)


@pytest.mark.parametrize("method", SKIPPING)
@given(
    shape=strategies.shapes(st.integers(1, 3)),
    dtype=strategies.dtypes(),
    seed=strategies.SEEDS,
    ladder=strategies.ladders(),
    end=st.sampled_from(["least", "greatest", "zero"]),
)
def test_missing__nodata_is_skipped_for_every_dtype(method, shape, dtype, seed, ladder, end):
    nodata = some_value(dtype, end)
    array = strategies.with_missing(strategies.random_values(shape, dtype, seed), seed, value=nodata)
    assert_cascade(array, ladder, method, nodata=nodata)


@pytest.mark.parametrize("method", SKIPPING)
@given(shape=strategies.shapes(st.integers(1, 3)), seed=strategies.SEEDS, ladder=strategies.ladders())
def test_missing__nan_and_nodata_together(method, shape, seed, ladder):
    array = strategies.with_missing(strategies.random_values(shape, "float32", seed), seed, fraction=0.3)
    array = np.where(np.random.default_rng(seed).random(shape) < 0.3, np.float32(-9999), array)
    assert_cascade(array, ladder, method, nodata=-9999)
    assert_cascade(array, ladder, method, nodata=-9999, skipna=False)


@pytest.mark.parametrize("method", STEPWISE)
@given(
    shape=strategies.shapes(st.integers(1, 3)),
    # Of 32-bit integers the matrix knows that nothing is special.
    dtype=strategies.dtypes([dtype for dtype in DTYPES if "int32" not in dtype]),
    seed=strategies.SEEDS,
    ladder=strategies.ladders(),
    flavour=st.sampled_from(["any", "few"]),
)
def test_missing__rank_methods_skip_nan_and_nodata(method, shape, dtype, seed, ladder, flavour):
    nodata = some_value(dtype, "greatest")
    array = strategies.with_missing(strategies.random_values(shape, dtype, seed, flavour), seed, 0.3, nodata)
    assert_steps(array, ladder, method, nodata=nodata)
    if dtype.kind == "f":
        array = strategies.with_missing(array, seed + 1, fraction=0.2)
        assert_steps(array, ladder, method)
        assert_steps(array, ladder, method, nodata=nodata)
        assert_steps(array, ladder, method, skipna=False)


def some_value(dtype, end):
    if end == "zero" or (dtype.kind == "b" and end == "least"):
        return dtype.type(0).item()
    if dtype.kind == "b":
        return True
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return dtype.type(info.min if end == "least" else info.max).item()


@pytest.mark.parametrize("source", [np.asarray, da.from_array], ids=["numpy", "dask"])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "nearest"])
def test_missing__a_window_without_any_value_is_missing_itself(method, source):
    array = np.full((4, 4), np.nan)
    array[2:, 2:] = 5
    level = ms.coarsen(source(array), 2, method=method)
    value = 20 if method == "sum" else 5
    np.testing.assert_array_equal(level.values, [[np.nan, np.nan], [np.nan, value]])
    whole = source(np.full((4, 4), 255, "uint8"))
    assert (ms.coarsen(whole, 2, method=method, nodata=255).values == 255).all()
    assert (ms.coarsen(source(np.full((4, 4), -1.5)), 2, method=method, nodata=-1.5).values == -1.5).all()


def test_missing__nearest_takes_voxels_as_they_are():
    array = np.array([[np.nan, 1.0], [2.0, 3.0]])
    assert np.isnan(ms.coarsen(array, 2, method="nearest").item())
    with pytest.raises(ValueError, match=r"'nearest'.*7"):
        ms.coarsen(array, 2, method="nearest", nodata=7)


# 7. Lazy


@pytest.mark.usefixtures("refuse_to_compute")
@pytest.mark.parametrize("method", METHODS)
def test_lazy__nothing_is_read_before_a_level_is(method):
    image = ms.to_image(strategies.Untouchable((1000, 1000, 500), (100, 100, 100)), scale=0.5, units="micrometer")
    assert len(ms.plan_pyramid(image, method=method).levels) > 2
    tree = ms.to_multiscale(image, [2, 4], method)
    assert [level.shape for level in oracles.images_of(tree)] == [(1000, 1000, 500), (500, 500, 250), (250, 250, 125)]
    assert ms.to_multiscale(image, [2, 3], method, 64)["scale2"].sizes["z"] == 334
    assert ms.coarsen(image, 5, method=method, nodata=None if method == "nearest" else 0).shape == (200, 200, 100)
    str(tree)
    repr(tree)


@pytest.mark.usefixtures("refuse_to_compute")
def test_lazy__the_guards_of_these_tests_work():
    with pytest.raises(AssertionError, match="compute"):
        da.zeros((4, 4)).compute()


def test_lazy__a_level_computes_no_coarser_one(computations):
    tree = ms.to_multiscale(da.ones((64, 64), chunks=16), [2, 4, 8])
    assert computations == []
    assert (tree["scale1/image"].values == 1).all()
    assert len(computations) == 1


def test_lazy__numpy_is_taken_lazily_too(computations):
    tree = ms.to_multiscale(np.ones((64, 64)), [2, 4])
    assert computations == []
    assert all(isinstance(level.data, da.Array) for level in oracles.images_of(tree))


class Counted(strategies.Untouchable):
    """An array that notes what is read of it; dask may copy the array, but not the note."""

    reads: ClassVar[list[str]] = []

    def __getitem__(self, key):
        shape = tuple(along.stop - along.start for along in key)
        # dask learns the type of an array from a slice without voxels.
        if 0 not in shape:
            self.reads.append(str(key))
        return np.ones(shape, self.dtype)


def test_lazy__every_base_chunk_is_read_once_for_all_levels():
    Counted.reads.clear()
    tree = ms.to_multiscale(ms.to_image(Counted((32, 32, 32), (8, 8, 8))), [2, 4, 8])
    assert Counted.reads == []
    da.compute(*[level.data for level in oracles.images_of(tree)[1:]], scheduler="sync")
    assert len(Counted.reads) == len(set(Counted.reads)) == 64
