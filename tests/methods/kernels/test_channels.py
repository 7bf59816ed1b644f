from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels.channels import from_channels, to_channels
from multiscale_sampler.methods.kernels.windows import Missing
from tests import oracles, strategies

NOTHING = Missing(False, None)
REAL = (*oracles.INTEGERS, "bool", "float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")


def ends(dtype):
    """Values at the ends of the range of a dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind == "c":
        limits = np.finfo(dtype)
        return np.array([complex(limits.max, limits.min), complex(limits.tiny, -0.0), complex(np.inf, 1.0)], dtype)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([limits.min, limits.max, limits.min + 1, limits.max - 1, 0, 1], dtype)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", REAL + COMPLEX)
def test_channels__represent_every_value(dtype, order):
    values = ends(dtype).astype(np.dtype(dtype).newbyteorder(order))
    channels = to_channels(values, NOTHING)
    assert channels.flags.c_contiguous
    back = from_channels(channels.astype(np.float64), values.dtype)
    assert back.dtype == dtype
    assert back.tolist() == values.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_to_channels__does_not_copy_what_kernels_take(dtype):
    block = np.zeros((3, 4), dtype)
    assert np.shares_memory(to_channels(block, NOTHING), block)


@pytest.mark.parametrize("dtype", [*oracles.INTEGERS, "bool"])
def test_to_channels__marks_nodata_in_all_channels(dtype):
    block = ends(dtype)
    channels = to_channels(block, Missing(False, block[1].item()))
    assert np.isnan(channels).tolist() == [[i == 1 for i in range(len(block))]] * len(channels)
    back = from_channels(channels.astype(np.float64), block.dtype, block[1].item())
    assert back.tolist() == block.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_to_channels__marks_nan_and_nodata_of_floats(dtype):
    block = np.array([1, -9, np.nan, 4], dtype)
    kept = block.copy()
    channels = to_channels(block, Missing(True, -9))
    assert np.isnan(channels).tolist() == [[False, True, True, False]] * len(channels)
    np.testing.assert_array_equal(block, kept)
    assert from_channels(channels.astype(np.float64), block.dtype, -9).tolist() == [1, -9, -9, 4]


def test_to_channels__marks_complex_numbers_with_a_nan_part_as_missing():
    channels = to_channels(np.array([complex(1, np.nan), complex(2, 3)]), Missing(True, None))
    np.testing.assert_array_equal(channels, [[np.nan, 2], [np.nan, 3]])


def test_to_channels__refuses_nodata_where_nan_is_a_value():
    with pytest.raises(ValueError, match="drop skipna=False"):
        to_channels(np.zeros(3), Missing(False, -1.0))


def test_from_channels__keeps_nan_without_a_fill():
    assert np.isnan(from_channels(np.array([[np.nan]]), np.dtype("float32"))).all()
    assert np.isnan(from_channels(np.array([[np.nan], [1.0]]), np.dtype("complex64"))).all()


def test_from_channels__keeps_an_infinite_imaginary_part_out_of_the_real_part():
    out = from_channels(np.array([[np.inf], [1.0]]), np.dtype("complex128"))
    assert (out[0].real, out[0].imag) == (np.inf, 1.0)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32"])
@given(seed=strategies.SEEDS)
def test_from_channels__rounds_half_to_even_and_stays_within_the_range(dtype, seed):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    halves = rng.integers(2 * limits.min - 9, 2 * limits.max + 9, 50, endpoint=True) / 2
    out = from_channels(halves[np.newaxis], np.dtype(dtype))
    assert out.tolist() == [min(max(round(value), limits.min), limits.max) for value in halves.tolist()]


def test_from_channels__of_bool_is_true_above_one_half():
    out = from_channels(np.array([[-0.2, 0.5, 0.5 + 2**-53, 1.3, np.nan]]), np.dtype(bool), True)
    assert out.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_from_channels__keeps_overshoot_finite_and_infinity_infinite(dtype):
    greatest = float(np.finfo(dtype).max)
    out = from_channels(np.array([[greatest * 1.1, -greatest * 1.1, np.inf, -np.inf]]), np.dtype(dtype))
    assert out.tolist() == [greatest, -greatest, np.inf, -np.inf]


# Parts of 2**32 in steps of 2**-20 leave every product and sum exact.
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@given(
    upper=st.integers(-(2**32), 2**33).map(lambda n: Fraction(n))
    | st.integers(-(2**51), 2**52).map(lambda n: Fraction(n, 2**20)),
    lower=st.integers(-(2**33), 2**34).map(lambda n: Fraction(n, 2)),
)
def test_from_channels__joins_halves_of_64_bits_without_loss(dtype, upper, lower):
    limits = np.iinfo(dtype)
    out = from_channels(np.array([[float(upper)], [float(lower)]]), np.dtype(dtype))
    exact = min(max(round(upper * 2**32 + lower), limits.min), limits.max)
    assert out.tolist() == [exact]


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_from_channels__fills_missing_64_bit_integers(dtype):
    fill = np.iinfo(dtype).max
    assert from_channels(np.full((2, 1), np.nan), np.dtype(dtype), fill).tolist() == [fill]
