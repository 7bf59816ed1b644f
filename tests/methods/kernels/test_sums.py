import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels import sums
from multiscale_sampler.methods.kernels.windows import Missing, reduced_shape
from tests import oracles, strategies

NOTHING = Missing(False, None)
NARROW = ("int8", "int16", "int32", "uint8", "uint16", "uint32")


def counts_of(shape, factors):
    """Samples of every window, axis by axis."""
    return tuple(
        np.array([min(f, n - i * f) for i in range(-(-n // f))], np.int64) for n, f in zip(shape, factors, strict=True)
    )


def state_dtype(dtype):
    """The dtype of the state that `SumReduction` chooses for small windows; others would have to be compiled."""
    dtype = np.dtype(dtype)
    return np.dtype("float64" if dtype.kind == "f" else "int32" if dtype.itemsize < 4 else "int64")


def sum_of(block, factors, dtype):
    total = np.empty(reduced_shape(block.shape, factors), dtype)
    sums.sum_windows(block, factors, total)
    return total


@given(data=st.data(), block=strategies.arrays(NARROW))
def test_sum_windows__adds_integers_exactly(data, block):
    factors = data.draw(strategies.factors(block.ndim))
    total = sum_of(block, factors, state_dtype(block.dtype))
    for index, values in oracles.windows(block, factors):
        assert total[index] == sum(values.tolist())


@given(size=st.integers(1, 20), seed=strategies.SEEDS, inner=st.integers(1, 3))
def test_sum_windows__pairs_in_a_row_are_added_as_any_others(size, seed, inner):
    """A factor of 2 on a contiguous axis has a separate loop."""
    block = strategies.random_values((3, size, inner), "int16", seed)
    for factors in [(1, 2, 1), (3, 2, 1), (2, 3, 1)]:
        total = sum_of(block, factors, np.int32)
        for index, values in oracles.windows(block, factors):
            assert total[index] == sum(values.tolist())
    flat = np.ascontiguousarray(block[..., 0])
    for index, values in oracles.windows(flat, (2, 2)):
        assert sum_of(flat, (2, 2), np.int32)[index] == sum(values.tolist())


def test_sum_windows__wraps_around_as_numpy_does():
    block = np.array([2**63 - 1, 1, -1, -(2**63)])
    assert sum_of(block, (2,), np.int64).tolist() == [-(2**63), 2**63 - 1]


@given(data=st.data(), block=strategies.arrays((*NARROW, "float32")))
def test_sum_valid_windows__adds_and_counts_what_is_not_missing(data, block):
    factors = data.draw(strategies.factors(block.ndim))
    nodata = block.reshape(-1)[0].item()
    dtype = state_dtype(block.dtype)
    total, count = np.empty((2, *reduced_shape(block.shape, factors)), dtype)
    sums.sum_valid_windows(block, factors, Missing(True, nodata), total, count)
    for index, values in oracles.windows(block, factors):
        valid = [v for v in values.tolist() if v != nodata]
        assert count[index] == len(valid)
        assert total[index] == pytest.approx(math.fsum(valid), rel=1e-14, abs=1e-9 if dtype.kind == "f" else 0)


def test_sum_valid_windows__skips_nan_with_skip_nan():
    block = np.array([np.nan, 1, 2, np.nan], np.float32)
    total, count = np.empty((2, 2))
    sums.sum_valid_windows(block, (2,), Missing(True, None), total, count)
    assert (total.tolist(), count.tolist()) == ([1, 2], [1, 1])
    sums.sum_valid_windows(block, (2,), Missing(False, 1), total, count)
    assert np.isnan(total).all()
    assert count.tolist() == [1, 2]


@pytest.mark.parametrize("nodata", [None, "first"])
@given(data=st.data(), block=strategies.arrays(("int64", "uint64")))
def test_sum_halves__and_their_division_are_exact(nodata, data, block):
    factors = data.draw(strategies.factors(block.ndim))
    nodata = block.reshape(-1)[0].item() if nodata else None
    shape = reduced_shape(block.shape, factors)
    total, count = np.empty((2, *shape), np.uint64), np.empty(shape, np.uint64)
    sums.sum_halves(block, factors, Missing(False, nodata), total, count)
    if nodata is None:
        count = sums.count_rows(counts_of(block.shape, factors)).astype(np.uint64).reshape(shape)
    out = np.empty(shape, block.dtype)
    sums.divide_halves(total, count, block.dtype.type(nodata or 0), out)
    expected = oracles.reduced(block, factors, "mean", nodata=nodata, beside=False)
    oracles.assert_level(out, expected, block.dtype)


@given(data=st.data(), block=strategies.arrays(("int64", "uint64"), st.integers(1, 2)))
def test_sum_halves__can_be_added_up_again(data, block):
    first = data.draw(strategies.factors(block.ndim, most=3))
    again = data.draw(strategies.factors(block.ndim, most=3))
    shape = reduced_shape(block.shape, first)
    total = np.empty((2, *shape), np.uint64)
    sums.sum_halves(block, first, NOTHING, total, total[1])
    merged = np.empty((2, *reduced_shape(shape, again)), np.uint64)
    sums.sum_windows(total, (1, *again), merged)
    both = tuple(f * g for f, g in zip(first, again, strict=True))
    at_once = np.empty((2, *reduced_shape(block.shape, both)), np.uint64)
    sums.sum_halves(block, both, NOTHING, at_once, at_once[1])
    np.testing.assert_array_equal(merged, at_once)


@pytest.mark.parametrize("dtype", NARROW)
@given(data=st.data())
def test_divide__rounds_integers_half_to_even(dtype, data):
    info = np.iinfo(dtype)
    counts = data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=8))
    totals = [data.draw(st.integers(n * info.min, n * info.max)) for n in counts]
    out = np.empty(len(counts), dtype)
    sums.divide(np.array(totals, np.int64), np.array(counts, np.int64), out.dtype.type(0), out)
    assert out.tolist() == [oracles.half_to_even(t, n) for t, n in zip(totals, counts, strict=True)]


def test_divide__fills_where_nothing_was_counted():
    out = np.empty(2, np.int16)
    sums.divide(np.array([0, 9]), np.array([0, 2]), np.int16(-7), out)
    assert out.tolist() == [-7, 4]
    out = np.empty(2, np.float32)
    sums.divide(np.array([0.0, 9.0]), np.array([0.0, 2.0]), np.float32(np.nan), out)
    np.testing.assert_array_equal(out, [np.nan, 4.5])
    out = np.empty(1, np.uint64)
    sums.divide_halves(np.zeros((2, 1), np.uint64), np.zeros(1, np.uint64), np.uint64(2**64 - 1), out)
    assert out.tolist() == [2**64 - 1]
    sums.divide_compensated(np.zeros((4, 1)), np.zeros(1), -1.5, signed := np.empty(1))
    assert signed.tolist() == [-1.5]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "float32"])
@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_divide_whole__knows_the_samples_of_partial_windows(dtype, shape, seed, data):
    factors = data.draw(strategies.factors(len(shape)))
    block = strategies.random_values(shape, dtype, seed)
    total = sum_of(block, factors, state_dtype(dtype))
    out = np.empty(total.shape, dtype)
    sums.divide_whole(total, counts_of(shape, factors), out)
    oracles.assert_level(out, oracles.reduced(block, factors, "mean"), dtype, ulps=1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8])
def test_divide_whole__rounds_every_rest_half_to_even(count):
    """Powers of two are divided by shifting, the last window of a row as any other count."""
    total = np.arange(-40, 41)
    out = np.empty((1, 81), np.int8)
    sums.divide_whole(total.reshape(1, 81), (np.array([1]), np.full(81, count)), out)
    assert out[0].tolist() == [oracles.half_to_even(t, count) for t in total.tolist()]


def test_count_rows__multiplies_the_samples_of_all_axes():
    rows = sums.count_rows((np.array([2, 1]), np.array([3, 3, 2])))
    assert rows.tolist() == [6, 6, 4, 3, 3, 2]
    assert sums.count_rows(()).tolist() == [1]


@given(data=st.data(), block=strategies.arrays(("float64",)))
def test_sum_compensated__is_correctly_rounded(data, block):
    factors = data.draw(strategies.factors(block.ndim))
    shape = reduced_shape(block.shape, factors)
    total, count = np.empty((4, *shape)), np.empty(shape)
    sums.sum_compensated(block, factors, Missing(True, None), total, count)
    np.testing.assert_array_equal(count, sums.count_rows(counts_of(block.shape, factors)).reshape(shape))
    slack = oracles.magnitudes(block, factors) * Fraction(1, 2**100)
    mean = np.empty(shape)
    sums.divide_compensated(total, count, np.nan, mean)
    oracles.assert_level(mean, oracles.reduced(block, factors, "mean"), "float64", ulps=1, slack=slack)
    plain = oracles.reduced(block, factors, "sum")
    oracles.assert_level(sums.compensated_total(total), plain, "float64", ulps=1, slack=slack)


@given(data=st.data(), block=strategies.arrays(("float64",), st.integers(1, 3)))
def test_merge_compensated__equals_the_sum_at_once(data, block):
    first = data.draw(strategies.factors(block.ndim, most=3))
    again = data.draw(strategies.factors(block.ndim, most=3))
    shape = reduced_shape(block.shape, first)
    total = np.empty((4, *shape))
    sums.sum_compensated(block, first, NOTHING, total, total[0])
    merged = np.empty((4, *reduced_shape(shape, again)))
    sums.merge_compensated(total, again, merged)
    both = tuple(f * g for f, g in zip(first, again, strict=True))
    slack = oracles.magnitudes(block, both) * Fraction(1, 2**100)
    plain = oracles.reduced(block, both, "sum")
    oracles.assert_level(sums.compensated_total(merged), plain, "float64", ulps=1, slack=slack)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.inf, 1.0], np.inf),
        ([-np.inf, 1e308], -np.inf),
        ([np.inf, -np.inf], np.nan),
        ([np.nan, 1.0], np.nan),
        ([np.finfo(float).max] * 2, np.finfo(float).max),
        ([np.finfo(float).min] * 3, np.finfo(float).min),
        ([5e-324] * 3, 5e-324),
        ([1e16, 1.0, -1e16, 0.0], 0.25),
        ([0.1] * 10, 0.1),
    ],
)
def test_divide_compensated__is_right_where_floats_are_difficult(values, expected):
    block = np.array(values)
    total, count = np.empty((4, 1)), np.full(1, float(len(values)))
    sums.sum_compensated(block, (len(values),), NOTHING, total, count)
    out = np.empty(1)
    sums.divide_compensated(total, count, 0.0, out)
    np.testing.assert_array_equal(out, [expected])


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_count_valid__counts_what_is_not_missing(dtype, shape, seed, data):
    block = strategies.random_values(shape, "uint8", seed, "few").astype(dtype)
    if block.dtype.kind != "u":
        block = strategies.with_missing(block, seed, fraction=0.2)
    factors = data.draw(strategies.factors(block.ndim))
    out = sums.count_valid(block, factors, Missing(True, 1), np.uint16)
    assert out.dtype == np.uint16
    for index, values in oracles.windows(block, factors):
        assert out[index] == sum(v == v and v != 1 for v in values.tolist())


@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_sum_valid_windows__has_the_same_bits_with_nan_in_other_windows(shape, seed, data):
    block = strategies.random_values((*shape, 9), "float32", seed)
    factors = (*data.draw(strategies.factors(len(shape))), 2)
    whole, gaps = (np.empty((2, *reduced_shape(block.shape, factors))) for _ in range(2))
    sums.sum_valid_windows(block, factors, Missing(True, None), *whole)
    block[..., -1] = np.nan
    sums.sum_valid_windows(block, factors, Missing(True, None), *gaps)
    np.testing.assert_array_equal(gaps[..., :-1], whole[..., :-1])
    assert (gaps[:, ..., -1] == 0).all()


@pytest.mark.parametrize("slab", [1, 100, sums.SLAB_BYTES])
@given(shape=strategies.shapes(), seed=strategies.SEEDS, gaps=st.sampled_from((0.001, 0.03, 0.3)), data=st.data())
def test_mean_valid_windows__has_the_same_bits_for_any_slabs(slab, shape, seed, gaps, data):
    factors = data.draw(strategies.factors(len(shape)))
    block = strategies.random_values(shape, "float32", seed)
    block[np.random.default_rng(seed).random(shape) < gaps] = np.nan
    total, count = np.empty((2, *reduced_shape(shape, factors)))
    sums.sum_valid_windows(block, factors, Missing(True, None), total, count)
    out = np.empty(count.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "SLAB_BYTES", slab)
        sums.mean_valid_windows(block, factors, Missing(True, None), -7.0, out)
    np.testing.assert_array_equal(out, np.divide(total, count, out=np.full_like(total, -7), where=count > 0))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@given(seed=strategies.SEEDS, flavour=st.sampled_from(strategies.FLAVOURS), data=st.data())
def test_mean_narrow_windows__rounds_half_to_even(dtype, seed, flavour, data):
    """Windows of 2 x 2 x 2, 3 x 3 x 3 and 2 x 2 have separate loops, with partial windows at the end of a row."""
    windows = data.draw(st.lists(st.integers(1, 3), min_size=4, max_size=4))
    for by in [(1, 2, 2, 2), (1, 1, 2, 2), (1, 3, 3, 3), (3, 1, 3, 3), (1, 2, 2, 3), (2, 1, 2, 2), (3, 3, 3, 1)]:
        cut = [data.draw(st.integers(0, factor - 1)) for factor in by]
        shape = [n * f - less for n, f, less in zip(windows, by, cut, strict=True)]
        block = strategies.random_values(shape, dtype, seed, flavour)
        out = np.empty(windows, dtype)
        sums.mean_narrow_windows(block, by, out)
        oracles.assert_level(out, oracles.reduced(block, by, "mean"), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(seed=strategies.SEEDS, gaps=st.sampled_from((0.0, 0.02, 0.3)), slab=st.sampled_from((300, 2**18)))
def test_mean_valid_windows__of_cubes_has_the_bits_of_any_others(dtype, seed, gaps, slab):
    block = strategies.random_values((2, 5, 6, 9), "float32", seed)
    block[np.random.default_rng(seed).random(block.shape) < gaps] = np.nan
    out, general = np.empty((2, 2, 3, 3, 5), dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "SLAB_BYTES", slab)
        sums.mean_valid_windows(block, (1, 2, 2, 2), Missing(True, None), np.nan, out)
        patch.setattr(sums, "_samples_of_whole", lambda *_: None)
        sums.mean_valid_windows(block, (1, 2, 2, 2), Missing(True, None), np.nan, general)
    assert out.tobytes() == general.tobytes()


def test_sum_valid_windows__of_infinities_is_nan_with_nothing_missing():
    block = np.array([np.inf, -np.inf, 1, np.nan], np.float32)
    total, count = np.empty((2, 2))
    sums.sum_valid_windows(block, (2,), Missing(True, None), total, count)
    np.testing.assert_array_equal(total, [np.nan, 1])
    assert count.tolist() == [2, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8, 27, 2**15 - 1, 2**15])
@pytest.mark.parametrize("state", ["int32", "int64"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_divide__of_narrow_and_of_wide_sums_rounds_alike(dtype, state, count):
    limits = np.iinfo(dtype)
    values = np.linspace(limits.min, limits.max, 97).astype(np.int64)
    around = np.concatenate([values * count + count // 2 + step for step in (-1, 0, 1)])
    total = np.clip(around, limits.min * count, limits.max * count).astype(state)
    expected = [oracles.half_to_even(t, count) for t in total.tolist()]
    out = np.empty((1, len(total)), dtype)
    sums.divide_whole(total.reshape(1, -1), (np.array([1]), np.full(len(total), count)), out)
    assert out[0].tolist() == expected
    sums.divide(total, np.full(len(total), count, state), out.dtype.type(0), out)
    assert out[0].tolist() == expected


@pytest.mark.parametrize("count", [3, 27, 63, 65, 2**15 - 1])
@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_divide__of_odd_numbers_goes_to_the_nearer_side_of_every_half(dtype, count):
    """No quotient by an odd number is a half; up to 63 they are found in single precision."""
    limits = np.iinfo(dtype)
    below = np.arange(limits.min, limits.max, dtype=np.int64)
    total = np.concatenate([below * count + count // 2, below * count + count // 2 + 1]).astype(np.int32)
    out = np.empty(total.shape, dtype)
    sums.divide(total, np.full(total.shape, count, np.int32), out.dtype.type(0), out)
    np.testing.assert_array_equal(out, np.concatenate([below, below + 1]))
    sums.divide_whole(total.reshape(1, -1), (np.array([1]), np.full(total.size, count)), out.reshape(1, -1))
    np.testing.assert_array_equal(out, np.concatenate([below, below + 1]))
