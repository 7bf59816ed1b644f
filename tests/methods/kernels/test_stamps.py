"""The number that stands for the values of a block."""

import numpy as np
import pytest

from multiscale_sampler.methods.kernels.stamps import stamp_of_values
from tests.data import noise

DTYPES = ("bool", "int8", "uint16", "float16", "float32", "float64", "complex64", "complex128", "datetime64[s]")


@pytest.mark.parametrize("dtype", DTYPES)
def test_stamp_of_values__sees_a_bit_and_an_exchange(dtype):
    block = noise((3, 4, 5), "uint8", seed=1).astype(dtype)
    if dtype == "bool":
        block = noise((3, 4, 5), "uint8", seed=1) % 3 == 0
    stamp = stamp_of_values(block)
    assert stamp == stamp_of_values(block.copy())
    for at in np.ndindex(block.shape):
        other = block.copy()
        bits = other.view("u1").reshape(*block.shape, -1)
        bits[(*at, 0)] ^= 1
        assert stamp_of_values(other) != stamp
    for axis in range(3):
        other = block.copy()
        first, second = (tuple(slice(i, i + 1) if axis == n else slice(None) for n in range(3)) for i in (0, 2))
        other[first], other[second] = block[second], block[first]
        assert stamp_of_values(other) != stamp


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (2, 3, 4, 5), (2, 3, 1, 4, 5), (2, 2, 3, 2, 3, 4)])
def test_stamp_of_values__is_that_of_the_values_whatever_their_memory(shape):
    block = noise(shape, "uint16", seed=2)
    stamp = stamp_of_values(block)
    wide = np.zeros([2 * n for n in shape], block.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in shape)]
    view[...] = block
    assert stamp_of_values(view) == stamp
    assert stamp_of_values(np.asfortranarray(block)) == stamp
    read_only = np.broadcast_to(block, (1, *shape))
    assert stamp_of_values(read_only[0]) == stamp


def test_stamp_of_values__tells_rows_apart():
    # One value alone is not 0, wherever it is.
    places = np.eye(2 * 3 * 4 * 5 * 6, dtype="uint8").reshape(-1, 2, 3, 4, 5, 6)
    assert len({stamp_of_values(block) for block in places}) == len(places)


def test_stamp_of_values__sees_signs_and_what_is_not_a_number():
    assert stamp_of_values(np.array([0.0, 1.0])) != stamp_of_values(np.array([-0.0, 1.0]))
    nan = np.array([np.nan, 1.0])
    assert stamp_of_values(nan) == stamp_of_values(nan.copy())
    # Changes of the highest bit of two values do not cancel each other.
    assert stamp_of_values(np.array([1.0, 2.0])) != stamp_of_values(np.array([-1.0, -2.0]))
