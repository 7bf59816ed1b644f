"""Functions of users as methods; names of levels in dask, and pickles."""

import itertools
import pickle
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

from .levels import LADDER, assert_three_ways, compiled, image_with_gaps, levels_of


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


@compiled
def test_functions__of_numba_give_no_dtype_that_numba_lacks_and_those_of_numpy_do():
    image = ms.to_image(np.arange(30, dtype="float32").reshape(5, 6), "yx")
    with pytest.raises(TypeError, match="cannot take float16"):
        ms.plan_pyramid(image, LADDER, method=ms.Reducer("first", function=first_of, dtype="float16"))
    for array, method in (
        (image, ms.Reducer("greatest", function=np.max, dtype="float16")),
        (image.astype("float16"), np.max),
    ):
        level = ms.coarsen(array, 2, method=method)
        assert level.dtype == np.float16
        np.testing.assert_array_equal(level.values, applied(np.max, image.values, (2, 2)))


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
