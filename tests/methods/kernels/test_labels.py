import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels.labels import are_pairs, mode_of_pairs
from multiscale_sampler.methods.kernels.windows import reduced_shape, window_rows
from tests import oracles, strategies

DTYPES = ("uint8", "uint16", "uint32", "uint64")
# Rows are long enough for vector instructions and a remainder.
HALVES = st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 70)).map(lambda n: [*n[0], n[1]])


def modes(block, factors, zero=None):
    out = np.empty(reduced_shape(block.shape, factors), block.dtype)
    for windows in window_rows(block.shape, factors, same_size=True):
        assert are_pairs(windows)
        mode_of_pairs(block.reshape(-1), windows, out.reshape(-1), zero)
    return out


@pytest.mark.parametrize("flavour", ["few", "any"])
@given(halves=HALVES, dtype=st.sampled_from(DTYPES), seed=strategies.SEEDS, data=st.data())
def test_mode_of_pairs__is_that_of_every_window(flavour, halves, dtype, seed, data):
    # The last axis is one of pairs, and one or two of the others.
    others = data.draw(st.permutations([2, *data.draw(st.sampled_from([(1, 1), (1, 2)]))]))[: len(halves) - 1]
    factors = (*others, 2) if 2 in others else (*others[:-1], 2, 2)
    block = strategies.random_values([n * f for n, f in zip(halves, factors, strict=True)], dtype, seed, flavour)
    np.testing.assert_array_equal(modes(block, factors), oracles.reduced(block, factors, "mode"))
    without_zero = oracles.reduced(block, factors, "mode_nonzero")
    np.testing.assert_array_equal(modes(block, factors, block.dtype.type(0)), without_zero)


def test_mode_of_pairs__of_ties_is_the_smallest_in_any_order():
    block = np.array([[7, 2**64 - 1, 5, 9], [2**64 - 1, 7, 9, 5]], "uint64")
    assert modes(block, (2, 2)).tolist() == [[7, 5]]


@pytest.mark.parametrize(
    ("shape", "factors", "pairs"),
    [
        ((4, 4), (2, 2), [True]),
        ((4, 3, 4), (2, 2, 2), [True, True]),
        ((3, 4), (2, 2), [True, False]),
        ((4, 4), (4, 2), [True]),
        ((3, 2), (3, 2), [False]),
        ((4, 4), (2, 1), [False]),
        ((4, 4), (3, 3), [False, False, False, False]),
        ((4, 4, 4), (2, 2, 1), [False]),
        ((4,), (2,), [False]),
    ],
)
def test_are_pairs__accepts_only_windows_of_two_or_four_rows_of_two(shape, factors, pairs):
    assert [are_pairs(windows) for windows in window_rows(shape, factors, same_size=True)] == pairs
