"""What a change of the base touches: parts of all levels, and in every pass the regions that make these anew.

A change is given as boxes of the base. A pass makes whole windows, so what it reads is more than what it writes:
each box is widened, in samples of the pass's source, to the windows that it touches of the coarsest level.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..image.boxes import Box, hull, is_empty, overlap
from .parts import known_parts, part_of_level
from .passes import region_pass, update_passes
from .plan import Pass, Plan


@dataclass(frozen=True)
class Selection:
    """The regions of a pass that a change touches, and what of each level they write."""

    plan: Plan
    """The plan."""
    pass_: Pass
    """The pass."""
    extents: tuple[Box, ...]
    """What is to be made, in samples of the pass's source: whole windows."""
    touched: tuple[Mapping[int, Box], ...]
    """For every extent, the part of each level that is to be written; none where only states are to be carried."""

    @cached_property
    def _cells(self) -> dict[tuple[int, ...], list[int]]:
        """The extents in each cell of the grid of regions that has any."""
        cells: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, extent in enumerate(self.extents):
            for cell in self._grid(extent):
                cells[cell].append(number)
        return dict(sorted(cells.items()))

    def _grid(self, extent: Box) -> Iterator[tuple[int, ...]]:
        spans = zip(extent, self.pass_.region, strict=True)
        return itertools.product(*(range(along.start // n, -(-along.stop // n)) for along, n in spans))

    def _numbers(self, cell: tuple[int, ...]) -> Sequence[int]:
        # A single extent may be most of a large image: its cells need no list.
        return (0,) if len(self.extents) == 1 else self._cells[cell]

    @property
    def count(self) -> int:
        """Number of regions."""
        if len(self.extents) != 1:
            return len(self._cells)
        spans = zip(self.extents[0], self.pass_.region, strict=True)
        return math.prod(-(-along.stop // n) - along.start // n for along, n in spans)

    @property
    def samples(self) -> int:
        """Number of samples of the source in all regions."""
        regions = self.extents if len(self.extents) == 1 else self.regions()
        return sum(math.prod(along.stop - along.start for along in region) for region in regions)

    def regions(self) -> Iterator[Box]:
        """Yield the regions, each in a cell of its own, one at a time."""
        for cell in self._grid(self.extents[0]) if len(self.extents) == 1 else self._cells:
            yield _around([self._inside(cell, number) for number in self._numbers(cell)])

    def _inside(self, cell: tuple[int, ...], number: int) -> Box:
        bounds = tuple(slice(i * n, (i + 1) * n) for i, n in zip(cell, self.pass_.region, strict=True))
        return overlap(self.extents[number], bounds)

    def written(self, region: Box) -> dict[int, Box]:
        """Return the part of each level that one of the regions writes."""
        cell = tuple(along.start // n for along, n in zip(region, self.pass_.region, strict=True))
        written: dict[int, Box] = {}
        for index in self.pass_.written:
            for number in self._numbers(cell):
                if index not in self.touched[number]:
                    continue
                made = part_of_level(self.plan, index, self.pass_.source, self._inside(cell, number))
                part = overlap(self.touched[number][index], made)
                if not is_empty(part):
                    written[index] = hull(written[index], part) if index in written else part
        return written


def passes_of_change(plan: Plan, boxes: Sequence[Box], *, with_base: bool) -> tuple[Pass, ...]:
    """Return the passes that bring stored levels up to date with a base that has changed in some boxes.

    Where levels are made of states, and not of the values that are stored, all that they depend on of the base is read
    anyhow: under one box as a single region, if it is no larger than one, so that no pass leaves anything to the next.
    """
    if plan.reduction.components and len(boxes) == 1:
        touched = _in_whole_windows(boxes[0], [level.factors for level in plan.levels], plan.levels[0].shape)
        pass_ = region_pass(plan, [along.stop - along.start for along in touched], copy_base=with_base)
        if pass_ is not None:
            return (pass_,)
    return update_passes(plan, with_base=with_base)


def selections(plan: Plan, passes: Sequence[Pass], boxes: Sequence[Box]) -> tuple[Selection, ...]:
    """Return, for each pass, what a change of the base in some boxes touches."""
    touched = [touched_parts(plan, box) for box in boxes]
    # Parts of levels of which later passes read the states.
    needed: dict[int, list[Box]] = defaultdict(list)
    found = []
    for pass_ in reversed(passes):
        wanted = [*touched, *({index: part} for index in pass_.carried for part in needed[index])]
        extents = [(_extent(plan, pass_, parts), parts) for parts in wanted]
        made = [(extent, parts if 0 in parts else {}) for extent, parts in extents if extent is not None]
        if len(boxes) == 1 and made:
            # One box again: whatever it is needed for, it is around what the box touches.
            made = [(_around([extent for extent, _ in made]), touched[0])]
        selection = Selection(plan, pass_, tuple(e for e, _ in made), tuple(parts for _, parts in made))
        if plan.reduction.components and pass_.source:
            regions = selection.extents if len(made) == 1 else selection.regions()
            needed[pass_.source] += [known_parts(plan, pass_, region)[pass_.source] for region in regions]
        found.append(selection)
    return tuple(reversed(found))


def touched_parts(plan: Plan, box: Box) -> dict[int, Box]:
    """Return the part of each level of which values depend on a box of the base."""
    touched = {0: box}
    for level in plan.levels[1:]:
        factors = plan.relative_factors(level.index, level.parent)
        along = zip(touched[level.parent], factors, plan.halos(level.index), level.shape, strict=True)
        touched[level.index] = tuple(
            slice(min(max((part.start - halo) // f, 0), size), min(-(-(part.stop + halo) // f), size))
            for part, f, halo, size in along
        )
    return touched


def _extent(plan: Plan, pass_: Pass, parts: Mapping[int, Box]) -> Box | None:
    """Return the samples of a pass's source under parts of its levels, in whole windows of all of them.

    None if there is nothing to make.
    """
    sizes = plan.levels[pass_.source].shape
    relative = {index: plan.relative_factors(index, pass_.source) for index in pass_.levels}
    wanted = [
        tuple(slice(a.start * f, min(a.stop * f, n)) for a, f, n in zip(parts[index], by, sizes, strict=True))
        for index, by in relative.items()
        if index in parts and not is_empty(parts[index])
    ]
    if not wanted:
        return None
    return _in_whole_windows(_around(wanted), relative.values(), sizes)


def _in_whole_windows(part: Box, windows: Collection[Sequence[int]], sizes: Sequence[int]) -> Box:
    """Return the least part of whole windows, of several sizes, that holds a part."""
    units = [math.lcm(*along) for along in zip(*windows, strict=True)]
    return tuple(
        slice(along.start // unit * unit, min(-(-along.stop // unit) * unit, size))
        for along, unit, size in zip(part, units, sizes, strict=True)
    )


def _around(parts: Sequence[Box]) -> Box:
    """Return the least region that holds all parts."""
    whole = parts[0]
    for part in parts[1:]:
        whole = hull(whole, part)
    return whole
