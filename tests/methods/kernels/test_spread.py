"""Standard deviations compared with numpy's, and weighted means with exact fractions, over several levels."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels import spread
from multiscale_sampler.methods.kernels.windows import Missing

NOTHING = Missing(False, None)
DTYPES = ("uint8", "int16", "uint32", "int64", "uint64", "float32", "float64")


def windows_of(block, factors):
    shape = tuple(-(-n // f) for n, f in zip(block.shape, factors, strict=True))
    for index in np.ndindex(*shape):
        yield index, block[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))]


def expected(block, factors, keep=lambda values: values):
    shape = tuple(-(-n // f) for n, f in zip(block.shape, factors, strict=True))
    out = np.full(shape, np.nan)
    for index, window in windows_of(block, factors):
        values = keep(window.ravel())
        if values.size:
            # Two passes in extended precision.
            wide = values.astype(np.clongdouble if block.dtype.kind == "c" else np.longdouble)
            out[index] = np.sqrt((np.abs(wide - wide.mean()) ** 2).mean())
    return out


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    factors=st.lists(st.integers(1, 3), min_size=6, max_size=6),
    dtype=st.sampled_from((*DTYPES, "complex64", "complex128")),
    offset=st.sampled_from((0, 100)),
    seed=st.integers(0, 99),
)
def test_moments__of_windows_of_windows_are_those_of_the_whole(shape, factors, dtype, offset, seed):
    generator = np.random.default_rng(seed)
    block = (generator.integers(0, 20, shape) + offset).astype(dtype)
    if block.dtype.kind == "c":
        block = block + np.array(1j, dtype) * generator.integers(0, 20, shape).astype(dtype)
    once, again = tuple(factors[: len(shape)]), tuple(factors[3 : 3 + len(shape)])
    state = spread.first(block, once, NOTHING)
    np.testing.assert_allclose(spread.finish(state), expected(block, once), rtol=1e-12, atol=1e-12)
    both = tuple(f * g for f, g in zip(once, again, strict=True))
    merged = spread.merge(state, again)
    np.testing.assert_allclose(spread.finish(merged), expected(block, both), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("end", ["min", "max"])
def test_moments__of_equal_values_have_no_spread(dtype, end):
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    block = np.full((6, 7), getattr(limits, end), dtype)
    state = spread.merge(spread.first(block, (2, 2), NOTHING), (2, 2))
    assert (spread.finish(state) == 0).all()


def test_moments__ignore_missing_values():
    block = np.arange(20, dtype="float64").reshape(4, 5)
    block[0, 0] = block[2:, 2:4] = np.nan
    found = spread.finish(spread.first(block, (2, 2), Missing(True, None)))
    np.testing.assert_allclose(found, expected(block, (2, 2), lambda values: values[~np.isnan(values)]))
    numbers = np.where(np.isnan(block), 7, block).astype("int16")
    found = spread.finish(spread.first(numbers, (2, 2), Missing(False, 7)))
    np.testing.assert_allclose(found, expected(numbers, (2, 2), lambda values: values[values != 7]))
    complexes = block + 1j
    found = spread.finish(spread.first(complexes, (2, 2), Missing(True, None)))
    np.testing.assert_allclose(found, expected(complexes, (2, 2), lambda values: values[~np.isnan(values)]))


def test_moments__keep_small_spreads_of_large_values():
    block = np.array([1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3])
    state = spread.merge(spread.first(block, (2,), NOTHING), (2,))
    np.testing.assert_allclose(spread.finish(state), [np.sqrt(1.25)], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_moments__nan_counts_beside_nodata_unless_it_is_skipped(dtype):
    block = np.array([1, np.nan, 7, 3], dtype)
    assert np.isnan(spread.finish(spread.first(block, (4,), Missing(False, 7)))).all()
    assert spread.finish(spread.first(block, (4,), Missing(True, 7))).tolist() == [1]


def expected_means(weight, value, factors):
    """Weights and weighted means of windows, by exact fractions."""
    shape = tuple(-(-n // f) for n, f in zip(value.shape, factors, strict=True))
    total, mean = np.zeros(shape), np.full(shape, np.nan)
    for (index, weights), (_, values) in zip(windows_of(weight, factors), windows_of(value, factors), strict=True):
        pairs = [(Fraction(w), Fraction(v)) for w, v in zip(weights.ravel(), values.ravel(), strict=True) if w > 0]
        if pairs:
            total[index] = sum(w for w, _ in pairs)
            mean[index] = sum(w * v for w, v in pairs) / sum(w for w, _ in pairs)
    return total, mean


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    factors=st.lists(st.integers(1, 3), min_size=6, max_size=6),
    seed=st.integers(0, 99),
)
def test_combine__windows_of_windows_have_the_mean_of_the_whole(shape, factors, seed):
    generator = np.random.default_rng(seed)
    value = generator.normal(size=shape)
    weight = generator.integers(-1, 5, shape) / 4
    once, again = tuple(factors[: len(shape)]), tuple(factors[3 : 3 + len(shape)])
    state = spread.combine(weight, value, once)
    for found, wanted in zip(state, expected_means(weight, value, once), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    both = tuple(f * g for f, g in zip(once, again, strict=True))
    for found, wanted in zip(spread.combine(*state, again), expected_means(weight, value, both), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_combine__equal_values_are_their_mean():
    value = np.full((5, 7), 0.1)
    weight = np.random.default_rng(0).random((5, 7))
    assert (spread.combine(weight, value, (2, 3))[1] == 0.1).all()
    greatest = np.full((5, 7), np.finfo(float).max)
    assert (spread.combine(weight, greatest, (2, 3))[1] == greatest[0, 0]).all()


def test_combine__samples_of_weight_zero_are_ignored():
    value = np.array([1.0, np.nan, np.inf, 3.0])
    weight = np.array([1.0, 0.0, -1.0, np.nan])
    assert spread.combine(weight, value, (4,))[:, 0].tolist() == [1.0, 1.0]
