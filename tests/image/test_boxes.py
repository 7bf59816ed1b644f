"""Boxes against masks: numpy arrays that are true at the samples of a box."""

import functools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.image import boxes

SIZES = st.integers(1, 9)
FACTORS = st.integers(1, 5)
SHAPES = st.lists(SIZES, min_size=1, max_size=3).map(tuple)


@st.composite
def boxes_in(draw, shape):
    """Draw a box of an array that is not empty."""
    ends = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    return tuple(slice(*pair) for pair in ends)


def per_axis(shape, values=FACTORS):
    """Draw a number for each axis."""
    return st.tuples(*[values] * len(shape))


def mask(box, shape):
    """Return an array that is true at the samples of a box, and must lie in the array."""
    found = np.zeros(shape, bool)
    found[box] = True
    assert found.sum() == math.prod(along.stop - along.start for along in box)
    return found


def around(found):
    """Return the smallest box that contains all true samples of an array."""
    return tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(found))


def windows(found, factors):
    """Return which windows of some samples contain a true one."""
    for axis, factor in enumerate(factors):
        found = np.logical_or.reduceat(found, range(0, found.shape[axis], factor), axis)
    return found


def samples(found, factors, shape):
    """Return which samples of an array lie under the windows that are true."""
    for axis, factor in enumerate(factors):
        found = found.repeat(factor, axis)
    return found[tuple(slice(0, n) for n in shape)]


@given(SHAPES)
def test_whole_box__has_all_samples(shape):
    box = boxes.whole_box(shape)
    assert mask(box, shape).all()
    assert boxes.shape_of(box) == shape


@given(st.data(), SHAPES)
def test_box__is_told_by_its_corner_and_shape_and_by_its_ends(data, shape):
    box = data.draw(boxes_in(shape))
    assert boxes.box_at(boxes.corner_of(box), boxes.shape_of(box)) == box
    assert boxes.box_of_ends(boxes.ends_of(box)) == box
    at = np.argwhere(mask(box, shape))
    assert boxes.corner_of(box) == tuple(at[0])
    assert boxes.ends_of(box) == np.transpose([at[0], at[-1] + 1]).tolist()
    assert boxes.shape_of(box) == np.empty(shape)[box].shape
    assert boxes.size_of(box) == mask(box, shape).sum()


@given(st.data(), SHAPES)
def test_replaced__has_the_box_along_all_axes_but_one(data, shape):
    box, other = data.draw(boxes_in(shape)), data.draw(boxes_in(shape))
    axis = data.draw(st.integers(0, len(shape) - 1))
    in_box = [np.isin(np.arange(n), np.r_[along]) for n, along in zip(shape, box, strict=True)]
    in_box[axis] = np.isin(np.arange(shape[axis]), np.r_[other[axis]])
    expected = functools.reduce(np.multiply.outer, in_box)
    np.testing.assert_array_equal(mask(boxes.replaced(box, axis, other[axis]), shape), expected)


@given(st.data(), SHAPES)
def test_overlap__has_what_both_have(data, shape):
    a, b = data.draw(boxes_in(shape)), data.draw(boxes_in(shape))
    common = boxes.overlap(a, b)
    both = mask(a, shape) & mask(b, shape)
    assert boxes.is_empty(common) == (not both.any())
    if both.any():
        np.testing.assert_array_equal(mask(common, shape), both)


@given(st.data(), SHAPES, st.integers(1, 4))
def test_hull__is_the_smallest_around_all(data, shape, count):
    some = [data.draw(boxes_in(shape)) for _ in range(count)]
    assert boxes.hull(*some) == around(np.any([mask(box, shape) for box in some], axis=0))


@given(st.data(), SHAPES, st.booleans())
def test_within__finds_a_part_in_a_block(data, shape, has_components):
    whole = data.draw(boxes_in(shape))
    inner = data.draw(boxes_in(boxes.shape_of(whole)))
    array = np.arange(math.prod(shape)).reshape(shape)
    block, expected = array[whole], array[whole][inner]
    part = around(np.isin(array, expected))
    if has_components:
        block, expected = np.stack([block, -block]), np.stack([expected, -expected])
    np.testing.assert_array_equal(block[boxes.within(part, whole)], expected)


@given(st.data(), SHAPES)
def test_coarsened__has_the_windows_that_are_touched(data, shape):
    box, factors = data.draw(boxes_in(shape)), data.draw(per_axis(shape))
    touched = windows(mask(box, shape), factors)
    assert boxes.coarsened(box, factors) == around(touched)
    # Where "trim" leaves a last window out.
    fewer = tuple(data.draw(st.integers(n - 1, n)) for n in touched.shape)
    kept = touched[tuple(slice(0, n) for n in fewer)]
    found = boxes.coarsened(box, factors, fewer)
    assert boxes.is_empty(found) == (not kept.any())
    if kept.any():
        np.testing.assert_array_equal(mask(found, fewer), kept)


@given(st.data(), SHAPES)
def test_refined__has_the_samples_under_windows(data, shape):
    factors = data.draw(per_axis(shape))
    grid = boxes.grid_shape(shape, factors)
    assert grid == windows(np.ones(shape, bool), factors).shape
    box = data.draw(boxes_in(grid))
    expected = samples(mask(box, grid), factors, shape)
    np.testing.assert_array_equal(mask(boxes.refined(box, factors, shape), shape), expected)
    larger = tuple(n * f for n, f in zip(grid, factors, strict=True))
    assert boxes.refined(box, factors) == around(samples(mask(box, grid), factors, larger))


@given(st.data(), SHAPES)
def test_aligned__is_the_smallest_around_a_box_of_whole_windows(data, shape):
    box, factors = data.draw(boxes_in(shape)), data.draw(per_axis(shape))
    expected = samples(windows(mask(box, shape), factors), factors, shape)
    np.testing.assert_array_equal(mask(boxes.aligned(box, factors, shape), shape), expected)


@given(st.data(), SHAPES)
def test_widened__has_the_samples_that_are_near(data, shape):
    box, margins = data.draw(boxes_in(shape)), data.draw(per_axis(shape, st.integers(0, 4)))
    near = np.zeros([n + 2 * m for n, m in zip(shape, margins, strict=True)], bool)
    for shift in np.ndindex(*(2 * m + 1 for m in margins)):
        near[tuple(slice(s, s + n) for s, n in zip(shift, shape, strict=True))] |= mask(box, shape)
    expected = near[tuple(slice(m, m + n) for m, n in zip(margins, shape, strict=True))]
    np.testing.assert_array_equal(mask(boxes.widened(box, margins, shape), shape), expected)


@given(st.data(), SHAPES)
def test_clipped__has_what_an_array_has(data, shape):
    box, smaller = data.draw(boxes_in(shape)), data.draw(per_axis(shape, SIZES))
    expected = mask(box, shape)[tuple(slice(0, n) for n in smaller)]
    found = boxes.clipped(box, smaller)
    assert boxes.is_empty(found) == (not expected.any())
    if expected.any():
        assert found == around(expected)


@given(st.data(), SHAPES)
def test_cell_at__has_the_samples_of_one_cell(data, shape):
    unit = data.draw(per_axis(shape))
    for index in boxes.indices_of(boxes.whole_box(boxes.grid_shape(shape, unit))):
        cell = mask(boxes.cell_at(index, unit, shape), shape)
        own = [np.arange(n) // u == i for n, u, i in zip(shape, unit, index, strict=True)]
        np.testing.assert_array_equal(cell, functools.reduce(np.multiply.outer, own))


@given(st.data(), SHAPES)
def test_indices_of__lists_the_samples_in_c_order(data, shape):
    box = data.draw(boxes_in(shape))
    assert list(boxes.indices_of(box)) == [tuple(at) for at in np.argwhere(mask(box, shape))]


@given(st.data(), SHAPES)
def test_pieces__cover_a_box_once_and_lie_in_one_cell_each(data, shape):
    box, unit = data.draw(boxes_in(shape)), data.draw(per_axis(shape))
    seen = np.zeros(shape, int)
    found = list(boxes.pieces_by_index(box, unit))
    for index, piece in found:
        seen += mask(piece, shape)
        assert all(a.start // u == (a.stop - 1) // u == i for a, u, i in zip(piece, unit, index, strict=True))
    np.testing.assert_array_equal(seen, mask(box, shape))
    assert [index for index, _ in found] == sorted({index for index, _ in found})
    assert list(boxes.pieces(box, unit)) == [piece for _, piece in found]


def test_pieces__come_one_at_a_time():
    first = next(boxes.pieces(boxes.whole_box((10**5,) * 4), (1,) * 4))
    assert first == (slice(0, 1),) * 4
