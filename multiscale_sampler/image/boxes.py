"""Boxes: tuples of slices, one for each axis, and their arithmetic.

Every slice of a box has a start and a stop, which are not negative, and no step. A box is empty if a stop is not larger
than its start.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy.typing as npt

# The values in a box.
Block: TypeAlias = npt.NDArray[Any]
# One slice for each axis.
Box: TypeAlias = "tuple[slice, ...]"
# The position of a cell in a grid, along each axis.
Index: TypeAlias = "tuple[int, ...]"
# Samples before and after a box, along each axis.
Margins: TypeAlias = "tuple[tuple[int, int], ...]"


def whole_box(shape: Sequence[int]) -> Box:
    """Return the box of all samples of an array."""
    return tuple(slice(0, size) for size in shape)


def box_at(corner: Sequence[int], shape: Sequence[int]) -> Box:
    """Return the box of a shape that begins at a corner."""
    return tuple(slice(start, start + n) for start, n in zip(corner, shape, strict=True))


def box_of_ends(ends: Iterable[Iterable[int]]) -> Box:
    """Return the box with these pairs of start and stop, one for each axis."""
    return tuple(slice(start, stop) for start, stop in ends)


def ends_of(box: Box) -> list[list[int]]:
    """Return start and stop along each axis as lists, for JSON."""
    return [[along.start, along.stop] for along in box]


def corner_of(box: Box) -> tuple[int, ...]:
    """Return the first sample of a box."""
    return tuple(along.start for along in box)


def shape_of(box: Box) -> tuple[int, ...]:
    """Return the number of samples along each axis."""
    return tuple(along.stop - along.start for along in box)


def size_of(box: Box) -> int:
    """Return the number of samples of a box that is not empty."""
    return math.prod(shape_of(box))


def is_empty(box: Box) -> bool:
    """Whether a box has no samples."""
    return any(along.stop <= along.start for along in box)


def replaced(box: Box, axis: int, along: slice) -> Box:
    """Return a box with another slice along one axis."""
    return (*box[:axis], along, *box[axis + 1 :])


# --- two boxes -------------------------------------------------------------------------------------------------


def hull(*boxes: Box) -> Box:
    """Return the smallest box that contains all samples of some boxes, none of which is empty."""
    return tuple(
        slice(min(along.start for along in axis), max(along.stop for along in axis))
        for axis in zip(*boxes, strict=True)
    )


def overlap(a: Box, b: Box) -> Box:
    """Return the box of the samples in both boxes; it is empty if there are none."""
    return tuple(slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def within(part: Box, whole: Box) -> tuple[Any, ...]:
    """Return the index of a box in the block of a larger one; further leading axes of the block are kept whole."""
    return (..., *(slice(x.start - y.start, x.stop - y.start) for x, y in zip(part, whole, strict=True)))


# --- coarser and finer samples ---------------------------------------------------------------------------------


def coarsened(box: Box, factors: Sequence[int], shape: Sequence[int] | None = None) -> Box:
    """Return the box of windows of `factors` samples that a box touches, clipped to `shape` windows."""
    windows = tuple(slice(along.start // f, -(-along.stop // f)) for along, f in zip(box, factors, strict=True))
    return windows if shape is None else clipped(windows, shape)


def refined(box: Box, factors: Sequence[int], shape: Sequence[int] | None = None) -> Box:
    """Return the box of the samples under a box of windows, clipped to `shape` samples."""
    samples = tuple(slice(along.start * f, along.stop * f) for along, f in zip(box, factors, strict=True))
    return samples if shape is None else clipped(samples, shape)


def aligned(box: Box, factors: Sequence[int], shape: Sequence[int]) -> Box:
    """Return a box enlarged to whole windows of `factors` samples, clipped to the array."""
    return refined(coarsened(box, factors), factors, shape)


def widened(box: Box, margins: Sequence[int], shape: Sequence[int]) -> Box:
    """Return a box enlarged by some samples on either side, clipped to the array."""
    wider = (slice(max(along.start - n, 0), along.stop + n) for along, n in zip(box, margins, strict=True))
    return clipped(tuple(wider), shape)


def clipped(box: Box, shape: Sequence[int]) -> Box:
    """Return the part of a box that lies in an array."""
    return tuple(slice(min(along.start, n), min(along.stop, n)) for along, n in zip(box, shape, strict=True))


# --- grids -----------------------------------------------------------------------------------------------------


def grid_shape(shape: Sequence[int], unit: Sequence[int]) -> tuple[int, ...]:
    """Return the number of cells of `unit` samples that an array has along each axis; the last may be smaller."""
    return tuple(-(-size // n) for size, n in zip(shape, unit, strict=True))


def cell_at(index: Sequence[int], unit: Sequence[int], shape: Sequence[int]) -> Box:
    """Return the box of a cell of a grid, clipped to the array."""
    return tuple(slice(i * n, min((i + 1) * n, size)) for i, n, size in zip(index, unit, shape, strict=True))


def indices_of(box: Box) -> Iterator[Index]:
    """Yield the index of every sample of a box in C order; of every cell, if the box counts cells (`coarsened`)."""
    return itertools.product(*(range(along.start, along.stop) for along in box))


def pieces(box: Box, unit: Sequence[int]) -> Iterator[Box]:
    """Yield a box cut along the lines of a grid of `unit` samples, in C order and one at a time."""
    return (piece for _, piece in pieces_by_index(box, unit))


def pieces_by_index(box: Box, unit: Sequence[int]) -> Iterator[tuple[Index, Box]]:
    """Yield each of the `pieces` of a box with the index of the cell that it lies in."""
    for index in indices_of(coarsened(box, unit)):
        ends = zip(index, unit, box, strict=True)
        yield index, tuple(slice(max(i * n, along.start), min((i + 1) * n, along.stop)) for i, n, along in ends)
