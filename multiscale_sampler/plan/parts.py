"""Parts of levels, as boxes in samples of their level: what a region needs as input, and what it computes."""

from __future__ import annotations

from collections.abc import Sequence

from ..image.boxes import Box, Margins, coarsened, hull, is_empty, refined, widened
from .plan import Pass, Plan


def part_of_level(plan: Plan, index: int, source: int, region: Box) -> Box:
    """Return the part of a level that is computed from a region of the source; with "trim" it can be empty."""
    return coarsened(region, plan.relative_factors(index, source), plan.levels[index].shape)


def known_parts(plan: Plan, pass_: Pass, region: Box) -> dict[int, Box]:
    """Return the parts of the source and of each level that are needed to compute the parts of all levels.

    They are larger than the computed parts where values depend on samples outside of their windows.
    """
    known = {index: part_of_level(plan, index, pass_.source, region) for index in pass_.levels}
    known[pass_.source] = region
    if plan.reduction.coarser_neighbours:
        known |= {
            index: _with_neighbours(plan, index, known[index - 1], known[index]) for index in pass_.levels if index
        }
    for index in reversed(pass_.levels):
        parent = plan.levels[index].parent
        if index and not is_empty(known[index]):
            factors, sizes = plan.relative_factors(index, parent), plan.levels[parent].shape
            needed, _ = windows_under(known[index], factors, plan.halos(index), sizes)
            known[parent] = hull(known[parent], needed)
    return known


def _with_neighbours(plan: Plan, index: int, finer: Box, part: Box) -> Box:
    """Return a part of a level, enlarged to the samples on which the values of a part of the finer level depend."""
    factors, sizes = plan.relative_factors(index, index - 1), plan.levels[index].shape
    pairs = zip(finer, factors, sizes, strict=True)
    under = tuple(plan.reduction.coarser_samples(x.start, x.stop, factor, size) for x, factor, size in pairs)
    return under if is_empty(part) else hull(part, under)


def windows_under(part: Box, factors: Sequence[int], halos: Sequence[int], shape: Sequence[int]) -> tuple[Box, Margins]:
    """Return the box of samples on which the values of a part depend, and its margins around the windows."""
    windows = refined(part, factors, shape)
    needed = widened(windows, halos, shape)
    return needed, tuple((w.start - n.start, n.stop - w.stop) for w, n in zip(windows, needed, strict=True))
