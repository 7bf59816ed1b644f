import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.kernels import ranks
from multiscale_sampler.kernels.windows import Missing
from tests import oracles, strategies

KERNELS = {"median": ranks.median, "mode": ranks.mode}
DTYPES = (*oracles.INTEGERS, "float32", "float64")
# More values than a sorting network takes on.
MANY = 2 * ranks.LONGEST_NETWORK


def ulps(method):
    return 1 if method == "median" else 0


@pytest.mark.parametrize("method", KERNELS)
@given(data=st.data(), block=strategies.arrays(DTYPES))
def test_ranks__are_those_of_every_window(method, data, block):
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(False, None))
    oracles.assert_level(out, oracles.reduced(block, factors, method), block.dtype, ulps=ulps(method))


@pytest.mark.parametrize("method", KERNELS)
@given(shape=strategies.shapes(), dtype=strategies.dtypes(DTYPES), seed=strategies.SEEDS, data=st.data())
def test_ranks__leave_nodata_out(method, shape, dtype, seed, data):
    block = strategies.with_missing(strategies.random_values(shape, dtype, seed, "few"), seed, value=1)
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(False, 1))
    oracles.assert_level(out, oracles.reduced(block, factors, method, nodata=1), dtype, ulps=ulps(method))


@pytest.mark.parametrize("skip_nan", [True, False])
@pytest.mark.parametrize("method", KERNELS)
@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_ranks__nan_is_skipped_or_counts(method, skip_nan, shape, seed, data):
    block = strategies.with_missing(strategies.random_values(shape, "float32", seed, "few"), seed, fraction=0.3)
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(skip_nan, None))
    oracles.assert_level(out, oracles.reduced(block, factors, method, skipna=skip_nan), "float32", ulps=ulps(method))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64", "float32", "float64"])
@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize("flavour", ["any", "few"])
def test_ranks__of_windows_too_large_for_a_network(method, dtype, flavour):
    block = strategies.random_values((MANY * 2 + 1,), dtype, 11, flavour)
    out = KERNELS[method](block, (MANY,), Missing(False, None))
    oracles.assert_level(out, oracles.reduced(block, (MANY,), method), dtype, ulps=ulps(method))


@pytest.mark.parametrize("method", KERNELS)
def test_ranks__of_large_windows_see_nan_as_of_small_ones(method):
    block = strategies.with_missing(strategies.random_values((2 * MANY,), "float64", 1, "few"), 1, fraction=0.2)
    for rule in (Missing(True, None), Missing(False, None)):
        out = KERNELS[method](block, (MANY,), rule)
        expected = oracles.reduced(block, (MANY,), method, skipna=rule.skip_nan)
        oracles.assert_level(out, expected, "float64", ulps=ulps(method))


@pytest.mark.parametrize(
    ("dtype", "pair", "middle"),
    [
        ("uint8", (254, 255), 254),
        ("uint8", (253, 254), 254),
        ("int8", (-128, 127), 0),
        ("int8", (-3, -2), -2),
        ("int8", (-2, -1), -2),
        ("int64", (-(2**63), 2**63 - 1), 0),
        ("int64", (2**62 + 1, 2**62 + 2), 2**62 + 2),
        ("uint64", (2**60 + 1, 2**60 + 3), 2**60 + 2),
        ("uint64", (2**64 - 2, 2**64 - 1), 2**64 - 2),
        ("uint64", (0, 2**64 - 1), 2**63),
    ],
)
def test_median__of_two_integers_is_their_middle_rounded_to_even(dtype, pair, middle):
    assert ranks.median(np.array(pair, dtype), (2,), Missing(False, None)).tolist() == [middle]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_median__of_two_floats_neither_overflows_nor_vanishes(dtype):
    info = np.finfo(dtype)
    for pair, middle in [
        ((info.max, info.max), info.max),
        ((info.min, info.max), 0),
        ((info.smallest_subnormal, info.smallest_subnormal), info.smallest_subnormal),
        ((info.max, np.nextafter(info.max, info.dtype.type(0))), None),
        ((1, np.inf), np.inf),
        ((-np.inf, -np.inf), -np.inf),
    ]:
        (out,) = ranks.median(np.array(pair, dtype), (2,), Missing(True, None))
        assert out == middle if middle is not None else out in pair


def test_mode__x_2_knows_the_ends_of_the_range():
    """X-2: [[255, 255], [255, 7]] is 255; of [[0, 0], [max, max]] the least wins."""
    block = np.array([[255, 255], [255, 7]], "uint8")
    assert ranks.mode(block, (2, 2), Missing(False, None)).tolist() == [[255]]
    block = np.array([[0, 0], [2**64 - 1, 2**64 - 1]], "uint64")
    assert ranks.mode(block, (2, 2), Missing(False, None)).tolist() == [[0]]


@given(seed=strategies.SEEDS, base=st.sampled_from([0, 2**60, 2**64 - 4]))
def test_mode__picks_from_the_window(seed, base):
    block = np.uint64(base) + np.random.default_rng(seed).integers(0, 4, (5, 7)).astype(np.uint64)
    out = ranks.mode(block, (2, 3), Missing(False, None))
    for index, values in oracles.windows(block, (2, 3)):
        assert out[index] in values
