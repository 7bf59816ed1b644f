"""Boxes: tuples of slices, one for each axis, and their arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy.typing as npt

# Values of a box.
Block: TypeAlias = npt.NDArray[Any]
# One slice for each axis, with a start and a stop.
Box: TypeAlias = "tuple[slice, ...]"
# Samples before and after a box, along each axis.
Margins: TypeAlias = "tuple[tuple[int, int], ...]"


def whole_part(shape: Sequence[int]) -> Box:
    """Return the part that is all of a level of this shape."""
    return tuple(slice(0, size) for size in shape)


def pieces(region: Box, shape: Sequence[int]) -> Iterator[Box]:
    """Yield a region in pieces of a shape, from its start on and shorter at its end, in C order and one at a time."""
    starts = (range(along.start, along.stop, n) for along, n in zip(region, shape, strict=True))
    for corner in itertools.product(*starts):
        ends = zip(corner, shape, region, strict=True)
        yield tuple(slice(start, min(start + n, along.stop)) for start, n, along in ends)


def hull(a: Box, b: Box) -> Box:
    """Return the least region that holds two."""
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def overlap(a: Box, b: Box) -> Box:
    """Return what two parts have in common; empty where they have nothing."""
    return tuple(slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def is_empty(part: Box) -> bool:
    """Whether a part has no samples."""
    return any(along.stop <= along.start for along in part)


def within(part: Box, whole: Box) -> tuple[Any, ...]:
    """Return the index of a part in a block of the whole, whether or not components lead the axes of the image."""
    return (..., *(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, whole, strict=True)))
