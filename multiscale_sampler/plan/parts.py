"""Parts of levels: what a region needs of its source and of every level, and what it makes of them.

Plain arithmetic of the grids that a plan lays over each other. A part is a slice along each axis, in samples of its
level.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from ..lazy.coarsening import samples_under, windows_under
from .plan import Pass, Plan

Region: TypeAlias = "tuple[slice, ...]"


def part_of_level(plan: Plan, index: int, source: int, region: Region) -> Region:
    """Return the part of a level that a region of the source produces; empty where "trim" leaves nothing."""
    relative = plan.relative_factors(index, source)
    sizes = plan.levels[index].shape
    return tuple(
        slice(along.start // factor, min(-(-along.stop // factor), size))
        for along, factor, size in zip(region, relative, sizes, strict=True)
    )


def known_parts(plan: Plan, step: Pass, region: Region) -> dict[int, Region]:
    """Return what a region must know of its source and of each level, to make its part of all levels.

    More than the parts themselves where values depend on samples beyond their windows.
    """
    known = {index: part_of_level(plan, index, step.source, region) for index in step.levels}
    known[step.source] = region
    if plan.reduction.bands:
        known |= {
            index: _with_neighbours(plan, index, known[index - 1], known[index]) for index in step.levels if index
        }
    for index in reversed(step.levels):
        parent = plan.levels[index].parent
        if index and not is_empty(known[index]):
            factors, sizes = plan.relative_factors(index, parent), plan.levels[parent].shape
            reached, _ = windows_under(known[index], factors, plan.halos(index), sizes)
            known[parent] = hull(known[parent], reached)
    return known


def _with_neighbours(plan: Plan, index: int, finer: Region, part: Region) -> Region:
    """Return the part of a level with the samples that a part of the level before it is expanded from."""
    factors, sizes = plan.relative_factors(index, index - 1), plan.levels[index].shape
    pairs = zip(finer, factors, sizes, strict=True)
    under = tuple(samples_under(along.start, along.stop, factor, size) for along, factor, size in pairs)
    return under if is_empty(part) else hull(part, under)


def whole_part(shape: Sequence[int]) -> Region:
    """Return the part that is all of a level of this shape."""
    return tuple(slice(0, size) for size in shape)


def pieces(region: Region, shape: Sequence[int]) -> Iterator[Region]:
    """Yield a region in pieces of a shape, from its start on and shorter at its end, in C order and one at a time."""
    starts = (range(along.start, along.stop, n) for along, n in zip(region, shape, strict=True))
    for corner in itertools.product(*starts):
        ends = zip(corner, shape, region, strict=True)
        yield tuple(slice(start, min(start + n, along.stop)) for start, n, along in ends)


def hull(a: Region, b: Region) -> Region:
    """Return the least region that holds two."""
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def overlap(a: Region, b: Region) -> Region:
    """Return what two parts have in common; empty where they have nothing."""
    return tuple(slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def is_empty(part: Region) -> bool:
    """Whether a part has no samples."""
    return any(along.stop <= along.start for along in part)


def within(part: Region, whole: Region) -> tuple[Any, ...]:
    """Return the index of a part in a block of the whole, whether or not components lead the axes of the image."""
    return (..., *(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, whole, strict=True)))
