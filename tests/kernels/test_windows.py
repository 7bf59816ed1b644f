import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.kernels.windows import (
    Missing,
    as_rows,
    as_unsigned,
    block_windows,
    from_unsigned,
    reduced_shape,
    whole_windows,
    window_rows,
)
from tests import oracles, strategies


@st.composite
def blocks(draw):
    shape = draw(strategies.shapes())
    return shape, draw(strategies.factors(len(shape), most=4))


# Compiled, it is called from compiled loops alone.
rows_of_windows = getattr(window_rows, "py_func", window_rows)


def samples_of_windows(shape, factors):
    """Offsets of the samples under each element of the result, found by walking the rows as kernels do."""
    windows = block_windows(shape, factors)
    sizes, steps, strides, inner, starts = windows
    out = np.empty(reduced_shape(shape, factors), object)
    rows = as_rows(out, windows)
    covered = 0
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            rows[row, column] = []
        covered = rows_of_windows(row, covered, sizes, steps, strides, starts)
        for start in starts[:covered].tolist():
            for sample in range(sizes[-1]):
                for i in range(inner):
                    rows[row, (sample // int(steps[-1])) * inner + i].append(int(start + sample * inner + i))
    return out


@given(blocks())
def test_windows__every_sample_is_in_the_window_that_covers_it(block):
    shape, factors = block
    offsets = np.arange(np.prod(shape)).reshape(shape)
    found = samples_of_windows(shape, factors)
    for index, expected in oracles.windows(offsets, factors):
        assert found[index] == expected.tolist()


@given(blocks(), st.data())
def test_window_rows__may_begin_with_any_row(block, data):
    windows = block_windows(*block)
    rows = as_rows(np.empty(reduced_shape(*block)), windows)
    first, covered = data.draw(st.integers(0, len(rows) - 1)), 0
    for row in range(first + 1):
        covered = rows_of_windows(row, covered, *windows[:3], windows.starts)
    expected = windows.starts[:covered].tolist()
    windows.starts[:] = -1
    assert rows_of_windows(first, 0, *windows[:3], windows.starts) == covered
    assert windows.starts[:covered].tolist() == expected


@given(blocks())
def test_window_rows__never_exceed_the_room_for_them(block):
    shape, factors = block
    windows = block_windows(shape, factors)
    starts = np.full(len(windows.starts) + 1, -1)
    counts = [0]
    for row in range(as_rows(np.empty(reduced_shape(shape, factors)), windows).shape[0]):
        counts.append(rows_of_windows(row, counts[-1], windows.sizes, windows.factors, windows.strides, starts))
    del counts[0]
    assert max(counts) <= len(windows.starts)
    assert starts[-1] == -1
    assert sum(counts) * int(windows.sizes[-1]) * windows.inner == np.prod(shape)


@pytest.mark.parametrize(
    ("shape", "factors", "sizes", "merged", "inner"),
    [
        ((8, 9), (2, 2), [8, 9], [2, 2], 1),
        ((8, 9, 3), (2, 2, 1), [8, 9], [2, 2], 3),
        ((4, 5, 8, 9), (1, 1, 2, 2), [20, 8, 9], [1, 2, 2], 1),
        ((4, 5, 6, 7), (2, 1, 1, 1), [4], [2], 210),
        ((7,), (3,), [7], [3], 1),
        ((2, 3, 4, 5, 6), (2, 1, 1, 2, 1), [2, 12, 5], [2, 1, 2], 6),
    ],
)
def test_block_windows__merges_what_moves_as_one(shape, factors, sizes, merged, inner):
    windows = block_windows(shape, factors)
    assert windows.sizes.tolist() == sizes
    assert windows.factors.tolist() == merged
    assert windows.inner == inner


@given(blocks())
def test_reduced_shape__counts_partial_windows(block):
    shape, factors = block
    assert reduced_shape(shape, factors) == tuple(map(oracles.level_size, shape, factors))


def test_missing__is_false_where_nothing_can_be_missing():
    assert not Missing(False, None)
    assert Missing(True, None)
    assert Missing(False, 0)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_missing__fills_with_nodata_first(dtype):
    fill = Missing(True, 7).fill(np.dtype(dtype))
    assert fill == 7
    assert fill.dtype == dtype


def test_missing__fills_with_nan_where_nan_is_skipped():
    assert np.isnan(Missing(True, None).fill(np.dtype("float32")))


def test_missing__arguments_are_scalars_of_the_dtype():
    skip_nan, has_nodata, nodata = Missing(False, 2**64 - 1).arguments(np.dtype("uint64"))
    assert (skip_nan, has_nodata) == (False, True)
    assert nodata == 2**64 - 1
    assert nodata.dtype == np.uint64
    assert Missing(True, None).arguments(np.dtype("int8"))[:2] == (True, False)


def test_windows__of_rank_five_lie_where_numpy_says():
    shape, factors = (3, 4, 2, 5, 3), (2, 1, 2, 3, 2)
    found = samples_of_windows(shape, factors)
    assert sorted(itertools.chain(*found.ravel())) == list(range(360))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_as_unsigned__keeps_the_order_and_can_be_undone(dtype):
    limits = np.iinfo(dtype)
    values = np.array([limits.min, limits.min + 1, -1, 0, 1, limits.max], dtype)
    unsigned = as_unsigned(values)
    assert unsigned.dtype == f"u{values.itemsize}"
    assert (np.diff(unsigned.astype(object)) > 0).all()
    assert (unsigned[0], unsigned[-1]) == (0, np.iinfo(unsigned.dtype).max)
    assert Missing(False, -1, 0.5).unsigned(values.dtype) == Missing(False, unsigned[2], 0.5)
    back = from_unsigned(unsigned, values.dtype)
    assert (back == [limits.min, limits.min + 1, -1, 0, 1, limits.max]).all()
    assert back.dtype == values.dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_as_unsigned__of_floats_has_one_zero_and_nan_above_all(dtype):
    info = np.finfo(dtype)
    numbers = [-np.inf, info.min, -1, -info.tiny, -info.smallest_subnormal, 0]
    values = np.array([*numbers, info.smallest_subnormal, info.tiny, 1, info.max, np.inf, np.nan], dtype)
    unsigned = as_unsigned(values)
    assert unsigned.dtype == f"u{values.itemsize}"
    assert (np.diff(unsigned.astype(object)) > 0).all()
    assert unsigned[-1] == np.iinfo(unsigned.dtype).max
    back = from_unsigned(unsigned.copy(), values.dtype)
    assert back.tobytes() == values.tobytes()
    assert as_unsigned(np.array([-0.0], dtype)) == unsigned[len(numbers) - 1]
    of_other_nan = as_unsigned(-np.array([np.nan], dtype))
    assert of_other_nan == unsigned[-1]
    assert from_unsigned(of_other_nan, values.dtype).tobytes() == values[-1:].tobytes()
    assert Missing(True, -1, 0.5).unsigned(values.dtype) == Missing(True, unsigned[2], 0.5)


def test_as_unsigned__leaves_unsigned_integers_alone():
    values = np.ones(3, np.uint8)
    assert as_unsigned(values) is values
    assert from_unsigned(values, values.dtype) is values
    assert Missing(False, 1).unsigned(values.dtype) == Missing(False, 1)


@given(blocks())
def test_whole_windows__are_those_of_the_block_each_once(block):
    shape, factors = block
    offsets = np.arange(np.prod(shape)).reshape(shape)
    expected = {at: samples.tolist() for at, (_, samples) in enumerate(oracles.windows(offsets, factors))}
    found = {}
    for windows in whole_windows(shape, factors):
        for origin, target in zip(windows.origins, windows.targets, strict=True):
            for window, element in itertools.product(range(windows.windows), range(windows.inner)):
                first = origin + window * windows.factor * windows.inner + element
                samples = [
                    first + offset + sample * windows.inner
                    for offset in windows.offsets
                    for sample in range(windows.factor)
                ]
                value = target + window * windows.inner + element
                assert value not in found
                found[value] = samples
    assert found == expected
