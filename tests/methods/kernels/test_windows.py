import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels import windows
from multiscale_sampler.methods.kernels.windows import Missing, as_unsigned, from_unsigned, reduced_shape, window_rows
from tests import oracles, strategies


@st.composite
def blocks(draw):
    shape = draw(strategies.shapes())
    return shape, draw(strategies.factors(len(shape), most=4))


def samples_of_windows(shape, factors, *, same_size):
    """Offsets of the samples under each value of the result, found by walking the windows as kernels do."""
    found = {}
    for group in window_rows(shape, factors, same_size=same_size):
        assert len(group.origins) == len(group.targets) <= windows.BATCH_ROWS
        assert not same_size or group.size % group.factor == 0
        count = -(-group.size // group.factor)
        assert group.width == count * group.inner
        for origin, target in zip(group.origins, group.targets, strict=True):
            for window, element in itertools.product(range(count), range(group.inner)):
                begin = window * group.factor
                covered = range(begin, min(begin + group.factor, group.size))
                samples = [
                    origin + offset + sample * group.inner + element for offset in group.offsets for sample in covered
                ]
                assert len(samples) == group.samples or len(covered) < group.factor
                value = target + window * group.inner + element
                assert value not in found
                found[value] = samples
    return found


@pytest.mark.parametrize("rows", [2, windows.BATCH_ROWS])
@pytest.mark.parametrize("same_size", [False, True])
@given(block=blocks())
def test_window_rows__cover_every_sample_once_in_order(block, same_size, rows):
    shape, factors = block
    offsets = np.arange(np.prod(shape)).reshape(shape)
    expected = {at: samples.tolist() for at, (_, samples) in enumerate(oracles.windows(offsets, factors))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "BATCH_ROWS", rows)
        assert samples_of_windows(shape, factors, same_size=same_size) == expected


@pytest.mark.parametrize(
    ("shape", "factors", "groups", "same_size"),
    [
        ((8, 10), (2, 2), [(4, 2, 10, 2, 1)], [(4, 2, 10, 2, 1)]),
        ((8, 9, 3), (2, 2, 1), [(4, 2, 9, 2, 3)], [(4, 2, 8, 2, 3), (4, 2, 1, 1, 3)]),
        ((4, 5, 8, 10), (1, 1, 2, 2), [(80, 2, 10, 2, 1)], [(80, 2, 10, 2, 1)]),
        ((4, 5, 6, 7), (2, 1, 1, 1), [(1, 1, 4, 2, 210)], [(1, 1, 4, 2, 210)]),
        ((7,), (3,), [(1, 1, 7, 3, 1)], [(1, 1, 6, 3, 1), (1, 1, 1, 1, 1)]),
        ((3, 5), (1, 1), [(1, 1, 3, 1, 5)], [(1, 1, 3, 1, 5)]),
        ((5, 3, 2), (2, 3, 2), [(2, 6, 2, 2, 1), (1, 3, 2, 2, 1)], [(2, 6, 2, 2, 1), (1, 3, 2, 2, 1)]),
    ],
)
def test_window_rows__come_whole_first_with_later_axes_as_one_run(shape, factors, groups, same_size):
    for expected, choice in ((groups, False), (same_size, True)):
        found = [
            (len(group.origins), len(group.offsets), group.size, group.factor, group.inner)
            for group in window_rows(shape, factors, same_size=choice)
        ]
        assert found == expected


def test_window_rows__describe_very_many_rows_in_batches():
    groups = list(window_rows((2 * windows.BATCH_ROWS + 6, 3), (2, 3)))
    assert [len(group.origins) for group in groups] == [windows.BATCH_ROWS, 3]
    assert groups[1].origins.tolist() == [6 * (windows.BATCH_ROWS + k) for k in range(3)]
    assert groups[1].targets.tolist() == [windows.BATCH_ROWS, windows.BATCH_ROWS + 1, windows.BATCH_ROWS + 2]
    assert groups[0].rows(4, 6).origins.tolist() == [24, 30]
    assert groups[0].rows(4, 6).targets.tolist() == [4, 5]


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


def test_as_unsigned__returns_unsigned_integers_as_they_are():
    values = np.ones(3, np.uint8)
    assert as_unsigned(values) is values
    assert from_unsigned(values, values.dtype) is values
    assert Missing(False, 1).unsigned(values.dtype) == Missing(False, 1)
