"""The parts of levels that a change of the base affects, and the regions of each pass that recompute them.

A change is given as boxes of the base. A pass computes whole windows, so it reads more than the boxes: each box is
enlarged, in samples of the source of the pass, to the windows of the coarsest level that it touches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..image.boxes import (
    Box,
    Index,
    aligned,
    cell_at,
    coarsened,
    hull,
    indices_of,
    is_empty,
    overlap,
    refined,
    shape_of,
    size_of,
    widened,
)
from .parts import known_parts, part_of_level
from .passes import region_pass, update_passes
from .plan import Pass, Plan


@dataclass(frozen=True)
class Selection:
    """The regions of a pass that a change affects, and the parts of each level that they write."""

    plan: Plan
    """The plan."""
    pass_: Pass
    """The pass."""
    extents: tuple[Box, ...]
    """Boxes of whole windows to recompute, in samples of the source of the pass."""
    touched: tuple[Mapping[int, Box], ...]
    """For every extent, the part of each level to write; empty if only states of later passes need the extent."""

    @cached_property
    def _cells(self) -> dict[Index, list[int]]:
        """Numbers of the extents in each cell of the grid of regions, for cells that have any."""
        cells: dict[Index, list[int]] = defaultdict(list)
        for number, extent in enumerate(self.extents):
            for cell in self._touched(extent):
                cells[cell].append(number)
        return dict(sorted(cells.items()))

    def _touched(self, extent: Box) -> Iterator[Index]:
        return indices_of(coarsened(extent, self.pass_.region))

    def _numbers(self, cell: Index) -> Sequence[int]:
        # A single extent can cover most of a large image, for which a dict of all cells would be large.
        return (0,) if len(self.extents) == 1 else self._cells[cell]

    @property
    def count(self) -> int:
        """Number of regions."""
        if len(self.extents) != 1:
            return len(self._cells)
        return size_of(coarsened(self.extents[0], self.pass_.region))

    @property
    def samples(self) -> int:
        """Number of samples of the source in all regions."""
        regions = self.extents if len(self.extents) == 1 else self.regions()
        return sum(map(size_of, regions))

    def regions(self) -> Iterator[Box]:
        """Yield the regions, one for each cell."""
        for cell in self._touched(self.extents[0]) if len(self.extents) == 1 else self._cells:
            yield hull(*(self._inside(cell, number) for number in self._numbers(cell)))

    def _inside(self, cell: Index, number: int) -> Box:
        shape = self.plan.levels[self.pass_.source].shape
        return overlap(self.extents[number], cell_at(cell, self.pass_.region, shape))

    def written(self, region: Box) -> dict[int, Box]:
        """Return the part of each level that a region writes."""
        (cell,) = self._touched(region)
        written: dict[int, Box] = {}
        for index in self.pass_.written:
            for number in self._numbers(cell):
                if index not in self.touched[number]:
                    continue
                computed = part_of_level(self.plan, index, self.pass_.source, self._inside(cell, number))
                part = overlap(self.touched[number][index], computed)
                if not is_empty(part):
                    written[index] = hull(written[index], part) if index in written else part
        return written


def passes_of_change(plan: Plan, boxes: Sequence[Box], *, with_base: bool) -> tuple[Pass, ...]:
    """Return the passes that update stored levels after the base has changed in some boxes.

    If levels are computed from states, which are not stored, everything under the boxes has to be read from the base. A
    single box is then read as one region, if memory allows, so that no pass has to store states for the next one.
    """
    if plan.reduction.components and len(boxes) == 1:
        touched = _in_whole_windows(boxes[0], [level.factors for level in plan.levels], plan.levels[0].shape)
        pass_ = region_pass(plan, shape_of(touched), copy_base=with_base)
        if pass_ is not None:
            return (pass_,)
    return update_passes(plan, with_base=with_base)


def selections(plan: Plan, passes: Sequence[Pass], boxes: Sequence[Box]) -> tuple[Selection, ...]:
    """Return, for each pass, the regions that a change of the base in some boxes affects."""
    touched = [touched_parts(plan, box) for box in boxes]
    # Parts of levels whose states later passes read.
    needed: dict[int, list[Box]] = defaultdict(list)
    selected = []
    for pass_ in reversed(passes):
        wanted = [*touched, *({index: part} for index in pass_.carried for part in needed[index])]
        extents = [(_windows_of_parts(plan, pass_, parts), parts) for parts in wanted]
        chosen = [(extent, parts if 0 in parts else {}) for extent, parts in extents if extent is not None]
        if len(boxes) == 1 and chosen:
            # All extents are around the parts that the single box touches: one extent for all of them.
            chosen = [(hull(*(extent for extent, _ in chosen)), touched[0])]
        selection = Selection(plan, pass_, tuple(e for e, _ in chosen), tuple(parts for _, parts in chosen))
        if plan.reduction.components and pass_.source:
            regions = selection.extents if len(chosen) == 1 else selection.regions()
            needed[pass_.source] += [known_parts(plan, pass_, region)[pass_.source] for region in regions]
        selected.append(selection)
    return tuple(reversed(selected))


def touched_parts(plan: Plan, box: Box) -> dict[int, Box]:
    """Return the part of each level whose values depend on a box of the base."""
    touched = {0: box}
    for level in plan.levels[1:]:
        reached = widened(touched[level.parent], plan.halos(level.index), plan.levels[level.parent].shape)
        touched[level.index] = coarsened(reached, plan.relative_factors(level.index, level.parent), level.shape)
    return touched


def _windows_of_parts(plan: Plan, pass_: Pass, parts: Mapping[int, Box]) -> Box | None:
    """Return the box of the source of a pass under parts of its levels, in whole windows of all levels.

    None if all parts are empty.
    """
    shape = plan.levels[pass_.source].shape
    relative = {index: plan.relative_factors(index, pass_.source) for index in pass_.levels}
    wanted = [
        refined(parts[index], factors, shape)
        for index, factors in relative.items()
        if index in parts and not is_empty(parts[index])
    ]
    if not wanted:
        return None
    return _in_whole_windows(hull(*wanted), relative.values(), shape)


def _in_whole_windows(box: Box, windows: Collection[Sequence[int]], shape: Sequence[int]) -> Box:
    """Return the smallest box of whole windows, of several sizes, that contains a box."""
    return aligned(box, [math.lcm(*sizes) for sizes in zip(*windows, strict=True)], shape)
