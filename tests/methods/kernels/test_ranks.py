import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels import ranks
from multiscale_sampler.methods.kernels.windows import Missing
from tests import oracles, strategies

KERNELS = {"median": ranks.median, "mode": ranks.mode}
# One of each width and kind: every dtype takes seconds to compile, and all are in tests/test_methods_matrix.py.
DTYPES = ("uint8", "int16", "uint32", "int64", "float32", "float64")
# So does every rule for missing values, which 32-bit integers are tested without.
WITH_GAPS = tuple(dtype for dtype in DTYPES if dtype != "uint32")
# Samples of a large window.
MANY = 300


def ulps(method):
    return 1 if method == "median" else 0


@pytest.mark.parametrize("method", KERNELS)
@given(data=st.data(), block=strategies.arrays(DTYPES))
def test_ranks__are_those_of_every_window(method, data, block):
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(False, None))
    oracles.assert_level(out, oracles.reduced(block, factors, method), block.dtype, ulps=ulps(method))


@pytest.mark.parametrize("method", KERNELS)
@given(shape=strategies.shapes(), dtype=strategies.dtypes(WITH_GAPS), seed=strategies.SEEDS, data=st.data())
def test_ranks__ignore_nodata(method, shape, dtype, seed, data):
    block = strategies.with_missing(strategies.random_values(shape, dtype, seed, "few"), seed, value=1)
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(False, 1))
    oracles.assert_level(out, oracles.reduced(block, factors, method, nodata=1, beside=False), dtype, ulps=ulps(method))


@pytest.mark.parametrize("nodata", [None, -1])
@pytest.mark.parametrize("method", [*KERNELS, "mode_nonzero"])
@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_ranks__of_signed_integers_are_in_their_own_order(method, nodata, shape, seed, data):
    block = np.random.default_rng(seed).integers(-2, 3, shape, np.int16)
    factors = data.draw(strategies.factors(block.ndim))
    if method == "mode_nonzero":
        out = ranks.mode_nonzero(block, factors, Missing(False, nodata))
        np.testing.assert_array_equal(out, modes_of_nonzero(block, factors, nodata))
    else:
        out = KERNELS[method](block, factors, Missing(False, nodata))
        expected = oracles.reduced(block, factors, method, nodata=nodata, beside=False)
        oracles.assert_level(out, expected, block.dtype)
    assert out.dtype == block.dtype


@pytest.mark.parametrize("skip_nan", [True, False])
@pytest.mark.parametrize("method", KERNELS)
@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_ranks__nan_is_skipped_or_counts(method, skip_nan, shape, seed, data):
    block = strategies.with_missing(strategies.random_values(shape, "float32", seed, "few"), seed, fraction=0.3)
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(skip_nan, None))
    oracles.assert_level(out, oracles.reduced(block, factors, method, skipna=skip_nan), "float32", ulps=ulps(method))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize("flavour", ["any", "few"])
def test_ranks__of_large_windows(method, dtype, flavour):
    block = strategies.random_values((MANY * 2 + 1,), dtype, 11, flavour)
    out = KERNELS[method](block, (MANY,), Missing(False, None))
    oracles.assert_level(out, oracles.reduced(block, (MANY,), method), dtype, ulps=ulps(method))


@pytest.mark.parametrize("method", KERNELS)
def test_ranks__of_large_windows_see_nan_as_of_small_ones(method):
    block = strategies.with_missing(strategies.random_values((2 * MANY,), "float32", 1, "few"), 1, fraction=0.2)
    for rule in (Missing(True, None), Missing(False, None)):
        out = KERNELS[method](block, (MANY,), rule)
        expected = oracles.reduced(block, (MANY,), method, skipna=rule.skip_nan)
        oracles.assert_level(out, expected, "float32", ulps=ulps(method))


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
    """X-2: [[255, 255], [255, 7]] is 255; [[0, 0], [max, max]] is 0."""
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


def modes_of_nonzero(block, factors, nodata=None):
    """The most frequent values but zero, counted in Python."""
    shape = [oracles.level_size(n, f) for n, f in zip(block.shape, factors, strict=True)]
    out = np.empty(shape, block.dtype)
    for index, values in oracles.windows(block, factors):
        valid = [v for v in values.tolist() if v == v and v != nodata]
        counts = Counter(v for v in valid if v != 0)
        most = max(counts.values(), default=0)
        empty = 0 if valid else (np.nan if nodata is None else nodata)
        out[index] = min((v for v, n in counts.items() if n == most), default=empty)
    return out


@pytest.mark.parametrize("nodata", [None, 1])
@pytest.mark.parametrize("dtype", ["int8", "uint32", "uint64", "float32"])
@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_mode_nonzero__is_the_most_frequent_value_but_zero(dtype, nodata, shape, seed, data):
    block = strategies.random_values(shape, dtype, seed, "few")
    if dtype == "float32":
        block = strategies.with_missing(block, seed, fraction=0.2)
    factors = data.draw(strategies.factors(block.ndim))
    out = ranks.mode_nonzero(block, factors, Missing(dtype == "float32", nodata))
    np.testing.assert_array_equal(out, modes_of_nonzero(block, factors, nodata))
    assert out.dtype == dtype


def test_mode_nonzero__keeps_a_thin_line_that_the_mode_loses():
    block = np.array([[0, 5, 0, 0], [0, 5, 0, 0]], "uint8")
    assert ranks.mode(block, (2, 4), Missing(False, None)).tolist() == [[0]]
    assert ranks.mode_nonzero(block, (2, 2), Missing(False, None)).tolist() == [[5, 0]]


@pytest.mark.parametrize("kernel", [ranks.median, ranks.mode, ranks.mode_nonzero])
@pytest.mark.parametrize(
    ("valid", "fraction", "kept"), [(2, 0.5, True), (1, 0.5, False), (1, 0.25, True), (0, 0.0, False)]
)
def test_ranks__fill_windows_with_too_few_valid_values(kernel, valid, fraction, kept):
    values = np.array([7] * valid + [9] * (4 - valid), "uint8")
    assert kernel(values, (4,), Missing(False, 9, fraction)).tolist() == [7 if kept else 9]
    with_nan = np.where(values == 9, np.nan, values)
    np.testing.assert_array_equal(kernel(with_nan, (4,), Missing(True, None, fraction)), [7 if kept else np.nan])


@pytest.mark.parametrize(("fraction", "samples", "enough"), [(0.28, 25, 7), (0.07, 100, 7), (0.56, 25, 14)])
def test_ranks__the_least_number_is_that_of_the_samples_there_are(fraction, samples, enough):
    """7 of 25 samples are 28 %, though 0.28 * 25 is more than 7 in floats."""
    assert fraction * samples > enough
    block = np.array([3] * enough + [0] * (samples - enough) + [3] * (enough - 1) + [0] * (samples - enough + 1))
    assert ranks.median(block, (samples,), Missing(False, 0, fraction)).tolist() == [3, 0]
    assert ranks.mode(block, (samples,), Missing(False, 0, fraction)).tolist() == [3, 0]


def test_ranks__the_least_number_of_a_partial_window_is_that_of_its_samples():
    block = np.array([3] * 11 + [0] * 9 + [3, 0])
    assert ranks.median(block, (20,), Missing(False, 0, 0.55)).tolist() == [3, 0]
    assert ranks.mode(block, (20,), Missing(False, 0, 0.5)).tolist() == [3, 3]


def test_ranks__zeros_are_valid_to_the_mode_of_what_is_not_zero():
    block = np.array([0, 0, 4, 9], "uint8")
    assert ranks.mode_nonzero(block, (4,), Missing(False, 9, 0.75)).tolist() == [4]


@pytest.mark.parametrize("shape", [(5, 3000), (3, 2, 1500), (2, 3, 700, 3), (4, 1100)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_ranks__of_rows_longer_than_the_columns(kernel, shape):
    """Long rows, short ones and inner runs are laid out in pieces."""
    block = strategies.random_values(shape, "uint16", 5, "few")
    for factors in [(2,) * len(shape), (2, *(1,) * (len(shape) - 1)), (1, 2, *(1,) * (len(shape) - 2))]:
        out = KERNELS[kernel](block, factors, Missing(False, None))
        oracles.assert_level(out, oracles.reduced(block, factors, kernel), "uint16")


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 7, 8, 12])
def test_sorting_network__sorts_every_sequence(samples, monkeypatch):
    """A network that sorts all sequences of zeros and ones sorts everything (Knuth, 5.3.4, theorem Z)."""
    lines = np.array(list(itertools.product((0, 1), repeat=samples)), np.uint8).T
    ordered = lines.copy()
    # As helpers, they can only be called by compiled loops.
    order, exchange = (getattr(each, "py_func", each) for each in (ranks._sort_lines, ranks._sort_pairs))
    monkeypatch.setattr(ranks, "_sort_pairs", exchange)
    order(ordered, ranks._sorting_network(samples), lines.shape[1])
    np.testing.assert_array_equal(ordered, np.sort(lines, axis=0))
