import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.kernels.labels import mode_of_pairs
from tests import oracles, strategies

DTYPES = ("uint8", "uint16", "uint32", "uint64")
# Rows are long enough to fill vectors, and to leave a rest.
HALVES = st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 70)).map(lambda n: [*n[0], n[1]])


@pytest.mark.parametrize("flavour", ["few", "any"])
@given(halves=HALVES, dtype=st.sampled_from(DTYPES), seed=strategies.SEEDS, data=st.data())
def test_mode_of_pairs__is_that_of_every_window(flavour, halves, dtype, seed, data):
    reduced = data.draw(st.integers(2, min(3, len(halves))))
    factors = (1,) * (len(halves) - reduced) + (2,) * reduced
    block = strategies.random_values([n * f for n, f in zip(halves, factors, strict=True)], dtype, seed, flavour)
    np.testing.assert_array_equal(mode_of_pairs(block, factors), oracles.reduced(block, factors, "mode"))
    without_zero = oracles.reduced(block, factors, "mode_nonzero")
    np.testing.assert_array_equal(mode_of_pairs(block, factors, block.dtype.type(0)), without_zero)


def test_mode_of_pairs__of_equally_frequent_values_is_the_least_whatever_their_order():
    block = np.array([[7, 2**64 - 1, 5, 9], [2**64 - 1, 7, 9, 5]], "uint64")
    assert mode_of_pairs(block, (2, 2)).tolist() == [[7, 5]]


@pytest.mark.parametrize(
    ("shape", "factors", "dtype"),
    [
        ((3, 4), (2, 2), "uint8"),
        ((4, 4), (2, 1), "uint8"),
        ((4, 4), (3, 3), "uint8"),
        ((4, 4, 4), (2, 2, 1), "uint8"),
        ((4,), (2,), "uint8"),
        ((4, 4), (2, 2), "float32"),
    ],
)
def test_mode_of_pairs__leaves_other_windows_and_values_alone(shape, factors, dtype):
    assert mode_of_pairs(np.zeros(shape, dtype), factors) is None
