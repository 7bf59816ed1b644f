"""Weighted means of windows, as exact fractions have them."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels.spread import combine


def expected(weight, value, factors):
    shape = tuple(-(-n // f) for n, f in zip(value.shape, factors, strict=True))
    total, mean = np.zeros(shape), np.full(shape, np.nan)
    for index in np.ndindex(*shape):
        inside = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))
        pairs = [
            (Fraction(w), Fraction(v))
            for w, v in zip(weight[inside].ravel(), value[inside].ravel(), strict=True)
            if w > 0
        ]
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
    state = combine(weight, value, once)
    for found, wanted in zip(state, expected(weight, value, once), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    both = tuple(f * g for f, g in zip(once, again, strict=True))
    for found, wanted in zip(combine(*state, again), expected(weight, value, both), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_combine__equal_values_have_themselves_for_a_mean():
    value = np.full((5, 7), 0.1)
    weight = np.random.default_rng(0).random((5, 7))
    assert (combine(weight, value, (2, 3))[1] == 0.1).all()
    greatest = np.full((5, 7), np.finfo(float).max)
    assert (combine(weight, greatest, (2, 3))[1] == greatest[0, 0]).all()


def test_combine__what_has_no_weight_counts_for_nothing_whatever_it_is():
    value = np.array([1.0, np.nan, np.inf, 3.0])
    weight = np.array([1.0, 0.0, -1.0, np.nan])
    assert combine(weight, value, (4,))[:, 0].tolist() == [1.0, 1.0]
