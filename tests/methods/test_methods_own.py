"""Rules and methods that the user brings: least valid shares, weights, a method per variable, functions."""

import itertools
import pickle
from fractions import Fraction
from functools import partial

import cloudpickle
import dask
import dask.array as da
import numba
import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.methods.reducers import get_reducer
from tests import oracles

compiled = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: functions of numba are not known from others"
)
LADDER = [{"y": 2, "x": 2}, {"y": 4, "x": 4}]
FACTORS = [(1, 1), (2, 2), (4, 4)]


def levels_of(image, *args, **options):
    with dask.config.set(scheduler="sync"):
        return list(dask.compute(*oracles.images_of(ms.to_multiscale(image, *args, **options))))


def written(image, **options):
    store = {}
    ms.write_pyramid(image, store, scale_factors=LADDER, workers=1, **options)
    return [level.compute() for level in oracles.images_of(ms.open_pyramid(store))]


def assert_three_ways(image, method, **options):
    """Return the levels of a tree without the base, after comparing them with coarsened and written ones."""
    lazy = image.chunk({"y": 3, "x": 4})
    levels = levels_of(lazy, LADDER, method, **options)[1:]
    for level, stored in zip(levels, written(lazy, method=method, **options)[1:], strict=True):
        assert level.dtype == stored.dtype
        assert level.values.tobytes() == stored.values.tobytes()
    assert ms.coarsen(image, 2, method=method, **options).values.tobytes() == levels[0].values.tobytes()
    return levels


def image_with_gaps(dtype="float32", seed=0):
    array = np.random.default_rng(seed).integers(0, 50, (11, 14)).astype(dtype)
    missing = np.random.default_rng(seed + 1).random(array.shape) < 0.4
    array[missing] = np.nan if array.dtype.kind == "f" else 0
    return ms.to_image(array, "yx")


# The least valid share


@pytest.mark.parametrize("least", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("method", ["mean", "min", "max", "sum", "median", "std", "mode"])
def test_min_valid__of_windows_equals_the_oracle(method, least):
    for dtype, rule in [("float32", {}), ("int16", {"nodata": 0})]:
        image = image_with_gaps(dtype)
        levels = assert_three_ways(image, method, min_valid=least, **rule)
        expected = oracles.pyramid_of(image.values, FACTORS, method, min_valid=least, **rule)
        for level, exact in zip(levels, expected, strict=True):
            out = oracles.level_dtype(dtype, method)
            oracles.assert_level(level.values, exact, out, ulps=8, slack=np.full(exact.shape, Fraction(1, 10**9)))


# In floats each of these fractions of its window is more than the whole number that it stands for.
INEXACT = [(0.28, 5, 7), (0.56, 5, 14), (0.07, 10, 7)]


COUNTED = [(method, False) for method in oracles.MARKS if method not in (*oracles.FILTERS, "laplacian")]


@pytest.mark.parametrize(("least", "edge", "enough"), INEXACT)
@pytest.mark.parametrize(("method", "weighted"), [*COUNTED, ("mean", True)])
def test_min_valid__counts_valid_voxels_exactly(method, weighted, least, edge, enough):
    assert least * edge**2 > enough
    array = np.full((2, edge**2), np.nan, "float32")
    array[0, :enough] = 1
    array[1, : enough - 1] = 1
    array = array.reshape(2 * edge, edge)
    options = {"method": method, "min_valid": least}
    if weighted:
        options["weights"] = xr.DataArray(np.full(array.shape, 0.1), dims=("y", "x"))
    for source in (array, da.from_array(array, chunks=3)):
        level = ms.coarsen(ms.to_image(source, "yx"), edge, **options)
        assert level.isnull().values.tolist() == [[False], [True]]
    store = {}
    ms.write_pyramid(ms.to_image(array, "yx"), store, scale_factors=[edge], **options)
    assert ms.open_pyramid(store)["scale1/image"].isnull().values.tolist() == [[False], [True]]


@pytest.mark.parametrize("least", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("method", oracles.FILTERS)
def test_min_valid__of_filters_is_a_share_of_weight(method, least):
    for dtype, rule in [("float32", {}), ("int16", {"nodata": 0})]:
        image = image_with_gaps(dtype)
        levels = assert_three_ways(image, method, min_valid=least, **rule)
        expected = oracles.filter_pyramid(image.values, FACTORS, method, min_valid=least, **rule)
        for level, exact in zip(levels, expected, strict=True):
            oracles.assert_filtered(level.values, exact, dtype, rule.get("nodata"))


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_min_valid__refuses_what_is_not_a_fraction(least):
    with pytest.raises(ValueError, match="min_valid="):
        ms.plan_pyramid(image_with_gaps(), LADDER, min_valid=least)


# Weights


def weighted_mean(values, weights, least=0.0):
    """The mean by weights of one window, as a fraction, or NaN."""
    pairs = [(Fraction(v), Fraction(w)) for v, w in zip(values, weights, strict=True) if v == v and w > 0]
    total = sum(w for _, w in pairs)
    share = Fraction(least) * sum(Fraction(w) for w in weights if w > 0)
    return sum(v * w for v, w in pairs) / total if total and total >= share else float("nan")


def weighted_levels(array, weights, least=0.0):
    """Means by weights of every level, of the base at once."""
    for factors in FACTORS[1:]:
        shape = [oracles.level_size(n, f) for n, f in zip(array.shape, factors, strict=True)]
        out = np.empty(shape, object)
        for (index, values), (_, along) in zip(
            oracles.windows(array, factors), oracles.windows(weights, factors), strict=True
        ):
            out[index] = weighted_mean(values.tolist(), along.tolist(), least)
        yield out


def assert_weighted(image, weights, **options):
    full = np.broadcast_to(weights.values if weights.ndim == 2 else weights.values[:, None], image.shape)
    levels = assert_three_ways(image, "mean", weights=weights, **options)
    for level, exact in zip(levels, weighted_levels(image.values, full, options.get("min_valid", 0)), strict=True):
        oracles.assert_level(level.values, exact, image.dtype, ulps=4, slack=np.full(exact.shape, Fraction(1, 10**12)))


def earth(dtype="float64"):
    array = np.random.default_rng(3).normal(280, 20, (11, 14)).astype(dtype)
    latitude = np.linspace(-80, 70, 11)
    return ms.to_image(xr.DataArray(array, dims=("y", "x"), coords={"y": latitude}))


def test_weights__by_latitude_are_areas():
    image = earth()
    assert_weighted(image, np.cos(np.deg2rad(image.y)))


def test_weights__of_a_mask_ignore_other_voxels():
    image = earth()
    mask = xr.DataArray(np.random.default_rng(4).random(image.shape) < 0.4, dims=("y", "x"))
    mask[:4, :4] = False
    assert_weighted(image, mask)
    assert np.isnan(levels_of(image, LADDER, weights=mask)[2].values[0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights__ignore_nan(dtype):
    image = image_with_gaps(dtype)
    assert_weighted(image, xr.DataArray(np.random.default_rng(5).random(image.shape), dims=("y", "x")))


@pytest.mark.parametrize("least", [0.3, 0.5, 1.0])
def test_weights__of_valid_voxels_are_compared_with_min_valid(least):
    # Weights that are whole numbers of 1/8: their sums are exact in any order.
    image, eighths = image_with_gaps(), np.random.default_rng(5).integers(0, 9, (11, 14)) / 8
    assert_weighted(image, xr.DataArray(eighths, dims=("y", "x")), min_valid=least)
    assert_weighted(image, xr.DataArray(eighths[:, 0], dims="y"), min_valid=least)


def test_weights__spread_nan_without_skipna():
    image = image_with_gaps()
    weights = xr.ones_like(image)
    level = assert_three_ways(image, "mean", weights=weights, skipna=False)[0]
    np.testing.assert_array_equal(level.isnull(), ms.coarsen(image, 2, skipna=False).isnull())


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int32", ">u2", "float32", ">f4"])
def test_weights__that_are_equal_make_the_mean(dtype):
    array = np.random.default_rng(6).integers(0, 2 if dtype == "bool" else 100, (11, 14)).astype(dtype)
    image = ms.to_image(array, "yx")
    for level, plain in zip(
        assert_three_ways(image, "mean", weights=xr.DataArray(np.full(14, 0.5), dims="x")),
        levels_of(image, LADDER)[1:],
        strict=True,
    ):
        assert level.dtype == plain.dtype
        np.testing.assert_array_equal(level.values, plain.values)


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param(xr.DataArray(np.ones(3), dims="time"), id="another-dim"),
        pytest.param(xr.DataArray(np.ones(5), dims="y"), id="another-size"),
        pytest.param(xr.DataArray(np.ones(11), dims="y", coords={"y": np.arange(11.0)}), id="elsewhere"),
        pytest.param(np.ones(11), id="unlabelled"),
        pytest.param(xr.DataArray(np.full(11, "a"), dims="y"), id="text"),
        pytest.param(xr.DataArray(np.full(11, 1j), dims="y"), id="complex"),
    ],
)
def test_weights__that_do_not_fit_are_refused_by_the_plan(weights):
    image, store = earth(), {}
    calls = [
        lambda: ms.coarsen(image, 2, weights=weights),
        lambda: ms.plan_pyramid(image, LADDER, weights=weights),
        lambda: ms.to_multiscale(image.chunk(), LADDER, weights=weights),
        lambda: ms.write_pyramid(image, store, scale_factors=LADDER, weights=weights),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError), match="weights"):
            call()
    assert not store


@pytest.mark.parametrize("method", ["median", "gaussian", "sum", np.mean])
def test_weights__are_for_the_mean_only(method):
    with pytest.raises(ValueError, match="weights need method='mean'"):
        ms.plan_pyramid(earth(), LADDER, method=method, weights=np.cos(np.deg2rad(earth().y)))


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
        alone = levels_of(dataset[name], [2, 4], method)
        for index, level in enumerate(alone):
            xr.testing.assert_identical(tree[f"scale{index}/{name}"].compute(), level)


def test_dataset__refuses_methods_at_different_positions():
    with pytest.raises(ValueError, match="different positions"):
        ms.to_multiscale(two_variables(), [2, 4], {"image": "mean", "labels": "nearest"})


@pytest.mark.parametrize("methods", [{"image": "mean"}, {"image": "mean", "labels": "mode", "other": "mean"}])
def test_dataset__refuses_methods_of_other_variables(methods):
    with pytest.raises(ValueError, match="must name the variables"):
        ms.to_multiscale(two_variables(), [2, 4], methods)


# Functions


@numba.njit
def second_greatest(window):
    ordered = np.sort(window)
    return ordered[max(len(ordered) - 2, 0)]


def plain_second_greatest(windows, axis=-1):
    assert axis == -1
    ordered = np.sort(windows, axis=axis)
    return ordered[..., max(ordered.shape[-1] - 2, 0)]


def midrange(windows, axis=-1):
    return (windows.min(axis=axis) / 2 + windows.max(axis=axis) / 2).astype(np.float64)


FUNCTIONS = {
    "ptp": np.ptp,
    "percentile": partial(np.percentile, q=60),
    "lambda": lambda windows, axis: windows.max(axis=axis),
    "numba": second_greatest,
    "plain": plain_second_greatest,
    "midrange": midrange,
    "reducer": ms.Reducer("spread", function=np.ptp),
}


def applied(function, array, factors):
    """A function of every window, given as the rows of an array; floats rounded half to even for integers."""
    shape = [oracles.level_size(n, f) for n, f in zip(array.shape, factors, strict=True)]
    out = np.empty(shape, array.dtype.newbyteorder("="))
    for index, values in oracles.windows(array, factors):
        value = function(values[np.newaxis], axis=-1)[0]
        out[index] = round(float(value)) if out.dtype.kind in "iu" else value
    return out


# numba compiles functions for every dtype.
APPLIED = [
    *itertools.product([n for n in FUNCTIONS if n != "numba"], ["uint8", "int32", "float32", "float64", ">u2", ">f4"]),
    *(pytest.param("numba", dtype, marks=compiled) for dtype in ("float64", ">u2")),
]


@pytest.mark.parametrize(("name", "dtype"), APPLIED)
def test_functions__reduce_every_window_partial_ones_too(name, dtype):
    """Step by step, in the base's dtype."""
    method = FUNCTIONS[name]
    plain = {"numba": plain_second_greatest, "reducer": np.ptp}.get(name, method)
    array = np.random.default_rng(8).integers(0, 200, (11, 14)).astype(dtype)
    levels = assert_three_ways(ms.to_image(array, "yx"), method)
    first = applied(plain, array, (2, 2))
    for level, expected in zip(levels, (first, applied(plain, first, (2, 2))), strict=True):
        assert level.dtype == expected.dtype
        np.testing.assert_allclose(level.values, expected, rtol=1e-6)


@numba.njit
def first_of(window):
    return window[0]


@compiled
@pytest.mark.parametrize("dtype", ["bool", "complex64", "datetime64[s]"])
def test_functions__of_numba_get_any_dtype_that_numba_knows(dtype):
    image = ms.to_image(np.arange(30).reshape(5, 6).astype(dtype), "yx")
    levels = levels_of(image, LADDER, first_of)
    for level, factor in zip(levels, (1, 2, 4), strict=True):
        assert level.dtype == image.dtype
        np.testing.assert_array_equal(level.values, image.values[::factor, ::factor])


@compiled
def test_functions__of_numba_are_refused_by_the_plan_for_other_dtypes():
    """What numba cannot take must be known before anything is written."""
    with pytest.raises(TypeError, match="cannot take float16"):
        ms.plan_pyramid(ms.to_image(np.ones((5, 6), "float16"), "yx"), LADDER, method=first_of)


def test_functions__a_reducer_says_its_dtype():
    mean = ms.Reducer("exact mean", function=np.mean, dtype="float64")
    array = np.random.default_rng(9).integers(0, 256, (11, 14)).astype(np.uint8)
    levels = assert_three_ways(ms.to_image(array, "yx"), mean)
    for level in levels:
        assert level.dtype == np.float64
    for index, values in oracles.windows(array, (2, 2)):
        assert levels[0].values[index] == values.mean()
    for index, values in oracles.windows(levels[0].values, (2, 2)):
        assert levels[1].values[index] == pytest.approx(values.mean(), rel=1e-14)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda windows, axis: windows, "must reduce the given axis"),
        (lambda windows, axis: windows.mean(), "must reduce the given axis"),
        (lambda windows, axis: windows.mean(axis=axis, keepdims=True), "must reduce the given axis"),
        (lambda windows, axis: windows.max(axis=axis) + 1e6, "cannot represent"),
        (lambda windows, axis: windows.max(axis=axis) * np.nan, "cannot represent"),
        (lambda windows, axis: -1.0 - windows.max(axis=axis), "cannot represent"),
        (lambda windows, axis: np.sum(windows, axis=axis) + 300, "cannot represent"),
        (lambda windows, axis: -1 - windows.max(axis=axis).astype(np.int64), "cannot represent"),
        (lambda windows, axis: windows.max(axis=axis) * 1j, "cannot represent"),
        (lambda windows, axis: windows.max(axis=axis).astype(str), "cannot represent"),
    ],
)
def test_functions__of_wrong_shape_or_value_are_refused(function, message):
    image = ms.to_image(np.ones((5, 6), np.uint8), "yx")
    with pytest.raises(ValueError, match=message):
        ms.coarsen(image, 2, method=function)
    with pytest.raises(ValueError, match=message):
        levels_of(image, LADDER, function)


@pytest.mark.parametrize(("dtype", "end"), [("int64", 2.0**63), ("uint64", 2.0**64), ("int64", -(2.0**64))])
def test_functions__at_the_end_of_64_bits_are_refused_not_wrapped(dtype, end):
    with pytest.raises(ValueError, match="cannot represent"):
        ms.coarsen(np.ones((4, 4), dtype), 2, method=lambda windows, axis: np.full(windows.shape[:-1], end))


def test_functions__that_overflow_a_narrow_float_are_refused_or_infinite():
    level = ms.coarsen(np.ones((4, 4), np.float32), 2, method=lambda windows, axis: np.full(windows.shape[:-1], np.inf))
    assert np.isposinf(level.values).all()


def test_functions__take_no_rule_for_missing_values():
    for rule in ({"nodata": 1}, {"min_valid": 0.5}):
        with pytest.raises(ValueError, match="'ptp'"):
            ms.plan_pyramid(np.ones((4, 4), np.uint8), LADDER, method=np.ptp, **rule)


def test_functions__that_need_arguments_or_cannot_be_called_are_refused():
    with pytest.raises(TypeError, match="is not callable"):
        ms.Reducer("nothing", function=3)
    with pytest.raises(ValueError, match="needs a function="):
        ms.Reducer("nothing")
    for method in ([np.mean], 3, None):
        with pytest.raises((ValueError, TypeError), match="method"):
            ms.plan_pyramid(np.ones((4, 4)), LADDER, method=method)


# Names of dask and pickling


def names_of(image, **options):
    tree = ms.to_multiscale(image, LADDER, **options)
    return [tree[f"scale{index}"]["image"].data.name for index in (1, 2)]


def weights_like(image, seed):
    return xr.DataArray(np.random.default_rng(seed).random(image.shape), dims=image.dims)


def test_names__of_equal_calls_are_equal():
    image = image_with_gaps()
    for options in (
        {"method": "mean"},
        {"method": "gaussian", "min_valid": 0.5},
        {"method": partial(np.percentile, q=50)},
        {"method": np.ptp},
        {"method": second_greatest},
        {"weights": weights_like(image, 1)},
    ):
        assert names_of(image, **options) == names_of(image, **options)


def test_names__of_different_calls_differ():
    image = image_with_gaps()
    named = [
        names_of(image, **options)
        for options in (
            {},
            {"skipna": False},
            {"nodata": 3},
            {"nodata": 4},
            {"min_valid": 0.5},
            {"min_valid": 0.75},
            {"boundary": "trim"},
            {"weights": weights_like(image, 1)},
            {"weights": weights_like(image, 2)},
            {"method": "gaussian"},
            {"method": "linear"},
            {"method": partial(np.percentile, q=50)},
            {"method": partial(np.percentile, q=51)},
            {"method": np.ptp},
            {"method": lambda windows, axis: windows.max(axis=axis)},
            {"method": lambda windows, axis: windows.min(axis=axis)},
            {"method": ms.Reducer("a", function=np.ptp, dtype="float64")},
            {"method": second_greatest},
        )
    ]
    for level in zip(*named, strict=True):
        same = [pair for pair in itertools.combinations(range(len(level)), 2) if level[pair[0]] == level[pair[1]]]
        assert not same


def test_names__of_reductions_that_differ_in_an_argument_give_different_data():
    image = image_with_gaps().fillna(0).chunk({"y": 4})
    trees = [ms.to_multiscale(image, LADDER, partial(np.percentile, q=q)) for q in (5, 95)]
    low, high = dask.compute(*(tree["scale1/image"] for tree in trees))
    assert (low.values < high.values).any()


@pytest.mark.parametrize(
    "method", [*oracles.TAKES, *(name for name in FUNCTIONS if name != "numba"), pytest.param("numba", marks=compiled)]
)
def test_pickling__of_a_reduction_keeps_it(method):
    reduction = get_reducer(FUNCTIONS.get(method, method)).bind("uint16", window=4)
    block = np.random.default_rng(1).integers(0, 9, (4, 6)).astype(np.uint16)
    copy = pickle.loads(cloudpickle.dumps(reduction))
    margins = ((0, 0), (0, 0))
    np.testing.assert_array_equal(copy.first(block, (2, 2), margins), reduction.first(block, (2, 2), margins))
    assert copy.binding == reduction.binding


def test_pickling__of_a_tree_keeps_its_levels():
    image = ms.to_image(da.ones((9, 9), chunks=4), "yx")
    for method in ("gaussian", "mean", FUNCTIONS["lambda"], np.ptp if numba.config.DISABLE_JIT else second_greatest):
        level = ms.to_multiscale(image, LADDER, method)["scale2/image"]
        copy = pickle.loads(cloudpickle.dumps(level))
        np.testing.assert_array_equal(copy.compute(scheduler="sync").values, level.compute(scheduler="sync").values)


def test_complex__nodata_and_infinities_are_distinguished():
    image = ms.to_image(np.array([[7, np.inf, 7, 7], [3, -np.inf, 7, 7]], "complex64"))
    found = ms.coarsen(image, 2, method="mean", nodata=7).values
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 7


def test_complex__nan_cannot_be_a_value_beside_nodata():
    with pytest.raises(ValueError, match=r"nodata=.*drop skipna=False"):
        ms.plan_pyramid(ms.to_image(np.ones((4, 4), "complex64")), [2], nodata=7, skipna=False)
