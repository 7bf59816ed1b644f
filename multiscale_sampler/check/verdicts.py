"""Verdicts on levels: the rule that made each level, and the positions of its samples, from what a survey counted.

`survey_of` reads a pyramid, and `verdicts_of` judges the counts: the most likely of the rules that reproduce a level,
the level that it was made from, and the positions that follow. If no rule is recognised, positions are found
from pixels (`registration`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..image.boxes import box_at, corner_of
from ..tasks.threads import Call, run
from .checked import CheckedPyramid, WindowShape, lines_of_axes
from .downsampling_rules import SORTED_SAMPLES, Rule, candidates
from .recomputation import Recomputation
from .registration import Crop, Line, largest_distance, located
from .survey import (
    COPIES,
    REGION_VOXELS,
    SCOUTED_WINDOWS,
    Comparison,
    ComparisonPass,
    Misses,
    Survey,
    Tally,
    region_shape,
)

# A rule is recognised if it differs in at most this part of the windows with several values, or fits half the regions.
MISSES = 0.02
CLEAN_REGIONS = 0.5
# All windows are compared with the rules that fit so far, at most MOST_EQUALS, or else with the MOST_RULES closest.
MOST_RULES, MOST_EQUALS = 4, 16
# Regions by which these rules are chosen: more, up to a limit, while few windows distinguish rules.
SCOUTS, MOST_SCOUTS = 6, 48
ENOUGH_TELLING = 2**12
# Number and size of the crops by which positions are found.
CROPS = 6
CROP_SAMPLES = 32
# Voxels of the base in a crop, windows that it should have, and the most voxels that it may have for these.
CROP_VOXELS, CROP_WINDOWS, MOST_CROP_VOXELS = 2**16, 2**9, 2**22
# A stated spacing within this part of the one that follows from the shapes is used.
CLOSE = 0.1
# How far positions may be from those of the recipe, in voxels of the base, and as a part of the axis.
PLACED_BY_RECIPE, REGULAR = 1e-4, 1e-4
# Windows around a crop that are read, too.
CROP_MARGIN = 1
# Memory of a worker that does not depend on the region: windows that are sorted.
WORKING_BYTES = 12 * 8 * SORTED_SAMPLES


@dataclass(frozen=True)
class Match:
    """How well a rule reproduces a level."""

    rule: Rule
    comparison: Comparison
    differing: int
    telling: int
    clean: float
    """Part of the regions in which no value differs from the rule."""

    @property
    def misses(self) -> float:
        """Part of the windows with several values whose value differs from the rule."""
        return min(self.differing / self.telling, 1.0) if self.telling else 0.0

    @property
    def is_recognised(self) -> bool:
        """Whether the rule made the level, apart from later changes."""
        return self.telling > 0 and (self.misses <= MISSES or self.clean >= CLEAN_REGIONS)


@dataclass(frozen=True)
class Verdict:
    """The result for a level."""

    index: int
    factors: WindowShape | None
    matches: tuple[Match, ...]
    """The best first; of several that fit equally well, the most likely first."""
    tally: Tally | None
    """The counts of the comparison with the base."""
    lines: tuple[Line, ...] | None
    """Positions of the samples, in voxels of the base; None if they are not known."""
    tolerance: tuple[float, ...]
    """How far they may differ from the stated positions, in voxels of the base."""
    by: str
    """What the positions were found from: "rule", "pixels" or ""."""
    misses: Misses | None = None
    """The voxels that differ from those that the recipe gives; None if the level was not computed again."""

    @property
    def match(self) -> Match | None:
        """The rule that made the level; None if no known rule did."""
        for match in self.matches:
            if match.is_recognised and match.rule.family != "window":
                return match
        return None

    @property
    def equals(self) -> tuple[Match, ...]:
        """All rules that fit as well as the best one, it included."""
        best = self.match
        if best is None:
            return ()
        same = (m for m in self.matches if m.misses == best.misses and m.rule.is_loose == best.rule.is_loose)
        return tuple(match for match in same if match.rule.family != "window")


# --- reading ---------------------------------------------------------------------------------------------------


def survey_of(
    pyramid: CheckedPyramid,
    levels: Sequence[int],
    *,
    sample: int | None,
    seed: int,
    memory: int,
    workers: int,
    reporting: Callable[[int], Any],
) -> tuple[Survey, dict[str, Any]]:
    """Read a pyramid, and return the counts and how much of it was read.

    Parameters
    ----------
    pyramid
        The pyramid.
    levels
        The levels to check.
    sample
        Number of regions to read in each pass; None for all.
    seed
        Seed of the choice of regions.
    memory
        Bytes of memory to use.
    workers
        Regions at a time.
    reporting
        A function from the number of bytes to read to a context manager, which takes the bytes that are done.
    """
    planned, again = _comparison_passes(pyramid, levels, memory // workers)
    passes = [_without_unused(pyramid, pass_) for pass_ in planned]
    rng = np.random.default_rng(seed)
    counts = [math.prod(pass_.grid(pyramid.shapes[pass_.source])) for pass_ in passes]
    chosen = [_chosen(count, sample, rng) for count in counts]
    passes = [_scouted(pyramid, *pair) for pair in zip(passes, chosen, strict=True)]
    survey = Survey(pyramid.arrays, pyramid.labels, recomputation=again)
    total = sum(
        len(numbers) * pyramid.arrays[s.source].nbytes // count
        for s, numbers, count in zip(passes, chosen, counts, strict=True)
    )
    with reporting(total) as report:
        for pass_, numbers in zip(passes, chosen, strict=True):
            run(None, _visit, (survey, pass_), _visits(survey, pass_, numbers), workers, report)
    if any(len(ids) for ids in survey.missing_ids.values()):
        # Ids that are missing from a region of the base may occur in another.
        run(None, _recognize, (survey, passes[0]), _visits(survey, passes[0], chosen[0]), workers, _quiet)
    return survey, {"regions": sum(map(len, chosen)), "of": sum(counts), "seed": seed if sample else None}


def _visits(survey: Survey, pass_: ComparisonPass, numbers: Iterable[int]) -> Iterator[Call]:
    return ((survey.nbytes(pass_, int(number)), (int(number),)) for number in numbers)


def _visit(context: tuple[Survey, ComparisonPass], number: int) -> None:
    survey, pass_ = context
    survey.visit(pass_, number)


def _recognize(context: tuple[Survey, ComparisonPass], number: int) -> None:
    survey, pass_ = context
    survey.recognize(pass_, number)


def _quiet(_: int) -> None:
    """Report no progress."""


def _chosen(count: int, sample: int | None, rng: np.random.Generator) -> Sequence[int]:
    if sample is None or sample >= count:
        return range(count)
    return sorted(int(number) for number in rng.choice(count, sample, replace=False, shuffle=False))


def _comparison_passes(
    pyramid: CheckedPyramid, levels: Sequence[int], memory: int
) -> tuple[list[ComparisonPass], Recomputation | None]:
    """Return the passes in which every level is compared with the base and with the level that it follows from.

    With them, how levels are computed again in the first of the passes, if a recipe says it.
    """
    again = pyramid.recomputation
    itemsize = COPIES * max(level.dtype.itemsize for level in pyramid.arrays) + (again.itemsize if again else 0)
    most = min(REGION_VOXELS, (memory - WORKING_BYTES) // itemsize)
    factors = {level: pyramid.factors(level) for level in range(1, len(pyramid.shapes))}
    first, alone, windows = _first_pass(pyramid, levels, factors, most)
    region = region_shape(pyramid.shapes[0], windows, pyramid.arrays[0].unit, most)
    if region is None:
        raise ValueError(
            f"memory_limit leaves {memory!r} bytes for each worker, too little for one window; allow more memory"
        )
    passes = [replace(first, region=region), *_further_passes(pyramid, alone, most)]
    if again is not None:
        again = _within_memory(again, [level for level in levels if level in first.relative], region, memory)
    return passes, again


def _first_pass(
    pyramid: CheckedPyramid, levels: Sequence[int], factors: Mapping[int, WindowShape | None], most: int
) -> tuple[ComparisonPass, list[tuple[int, int]], WindowShape]:
    """Return the pass over the base without its region, the levels whose windows are too large for it, and windows."""
    shapes = pyramid.shapes
    together: dict[int, WindowShape] = {0: (1,) * len(shapes[0])}
    windows = together[0]
    alone = []
    comparisons: list[Comparison] = []
    for level in levels:
        along = factors.get(level)
        if along is None:
            continue
        parent = _finer_level(level, factors, shapes)
        wider = tuple(map(math.lcm, windows, along))
        if region_shape(shapes[0], wider, (1,) * len(wider), most) is None:
            alone += [] if parent is None else [(level, parent)]
            continue
        windows = wider
        together[level] = along
        comparisons.append(_comparison(pyramid, level, 0, along))
        if parent:
            together[parent] = pyramid.factors(parent) or together[0]
            comparisons.append(_step(pyramid, level, parent))
    return ComparisonPass(0, windows, together, tuple(comparisons)), alone, windows


def _further_passes(pyramid: CheckedPyramid, alone: Sequence[tuple[int, int]], most: int) -> Iterator[ComparisonPass]:
    """Yield a pass for each level whose windows of the base are too large, over the level that it follows from."""
    for level, parent in alone:
        step = _step(pyramid, level, parent)
        region = region_shape(pyramid.shapes[parent], step.factors, pyramid.arrays[parent].unit, most)
        if region is not None:
            yield ComparisonPass(parent, region, {parent: (1,) * len(region), level: step.factors}, (step,))


def _within_memory(again: Recomputation, levels: list[int], region: Sequence[int], memory: int) -> Recomputation | None:
    """Return the computation of as many of some levels as memory allows; filters need samples around a region."""
    while levels:
        limited = again.limited_to(levels)
        if limited.needed_voxels(region) * limited.itemsize <= memory:
            return limited
        levels = levels[:-1]
    return None


def _without_unused(pyramid: CheckedPyramid, pass_: ComparisonPass) -> ComparisonPass:
    """Return a pass without the levels that no comparison needs."""
    used = {pass_.source, *(c.level for c in pass_.comparisons), *(c.source for c in pass_.comparisons)}
    return replace(pass_, relative={level: f for level, f in pass_.relative.items() if level in used})


def _finer_level(
    level: int, factors: Mapping[int, WindowShape | None], shapes: Sequence[tuple[int, ...]]
) -> int | None:
    """Return the coarsest level before one whose windows divide its own; 0 for the base."""
    along = factors[level]
    for before in range(level - 1, 0, -1):
        finer = factors[before]
        if along is None or finer is None or any(a % b for a, b in zip(along, finer, strict=True)) or along == finer:
            continue
        steps = [a // b for a, b in zip(along, finer, strict=True)]
        sizes = zip(shapes[before], shapes[level], steps, strict=True)
        if all(coarse in (size // step, -(-size // step)) for size, coarse, step in sizes):
            return before
    return 0


def _step(pyramid: CheckedPyramid, level: int, parent: int) -> Comparison:
    along = pyramid.factors(level) or ()
    finer = pyramid.factors(parent) if parent else (1,) * len(along)
    return _comparison(pyramid, level, parent, tuple(a // b for a, b in zip(along, finer or (), strict=True)))


def _comparison(pyramid: CheckedPyramid, level: int, source: int, factors: WindowShape) -> Comparison:
    coarse, fine = pyramid.arrays[level], pyramid.arrays[source]
    sizes = zip(fine.shape, coarse.shape, factors, strict=True)
    partial = any(size < count * factor for size, count, factor in sizes)
    dtypes = [np.dtype(np.uint8) if each.dtype.kind == "b" else each.dtype for each in (fine, coarse)]
    dtypes = [np.dtype(np.int64) if dtype.kind in "mM" else dtype for dtype in dtypes]
    rules = candidates(dtypes[0], dtypes[1], factors, partial=partial, labels=pyramid.labels)
    return Comparison(level, source, factors, rules, pyramid.labels)


def _scouted(pyramid: CheckedPyramid, pass_: ComparisonPass, numbers: Sequence[int]) -> ComparisonPass:
    """Return a pass with the rules that are to be compared with all windows."""
    survey = Survey(pyramid.arrays, pyramid.labels, windows=SCOUTED_WINDOWS)
    # Evenly spaced, both ends included.
    order = [int(i) for i in np.linspace(0, len(numbers) - 1, min(len(numbers), SCOUTS)).round()] if numbers else []
    rest = [int(i) for i in np.linspace(0, len(numbers) - 1, min(len(numbers), MOST_SCOUTS)).round()] if numbers else []
    for count, place in enumerate(dict.fromkeys([*order, *rest])):
        tallies = [survey.tallies.get(comparison) for comparison in pass_.comparisons]
        if count >= len(order) and all(t is not None and t.telling >= ENOUGH_TELLING for t in tallies):
            break
        survey.visit(pass_, numbers[place])
    kept = tuple(_leading(each, survey.tallies.get(each), pyramid.method) for each in pass_.comparisons)
    return replace(pass_, comparisons=kept)


def _leading(comparison: Comparison, tally: Tally | None, stated: str | None) -> Comparison:
    """Return a comparison with the rules that fit so far, and those of the stated method."""
    if tally is None:
        return comparison
    order = sorted(comparison.rules, key=lambda rule: (tally.of(rule), comparison.rules.index(rule)))
    strict = [rule for rule in order if not rule.is_loose]
    equals = sum(tally.of(rule) == 0 for rule in strict)
    first = min(equals, MOST_EQUALS) or MOST_RULES
    strict = [*strict[:first], *(rule for rule in strict[first:] if rule.family == stated)]
    # Loose rules distinguish damage from a tool's own rounding, and show ids that do not occur in their window.
    families = {rule.family for rule in strict} if equals else {rule.family for rule in order}
    families |= {"window"} if comparison.labels or not equals else set()
    loose = [rule for rule in order if rule.is_loose and rule.family in families]
    return replace(comparison, rules=(*strict, *loose))


# --- judging ---------------------------------------------------------------------------------------------------


def verdicts_of(pyramid: CheckedPyramid, levels: Sequence[int], survey: Survey, seed: int) -> list[Verdict]:
    """Return the verdict on each level from the counts of a survey."""
    known: dict[int, Verdict] = {}
    lines: dict[int, tuple[Line, ...] | None] = {0: ((0.0, 1.0),) * len(pyramid.shapes[0])}
    rng = np.random.default_rng(seed)
    for level in levels:
        verdict = _judged(pyramid, level, survey, lines)
        if verdict.lines is None and not pyramid.labels and pyramid.evidence != "nothing":
            verdict = _by_pixels(pyramid, verdict, rng)
        known[level] = verdict
        lines[level] = verdict.lines
    return list(known.values())


def _judged(
    pyramid: CheckedPyramid, level: int, survey: Survey, lines: Mapping[int, tuple[Line, ...] | None]
) -> Verdict:
    tallies = {c: tally for c, tally in survey.tallies.items() if c.level == level}
    matches = [
        Match(rule, c, int(tally.differing[i]), tally.telling, int(tally.clean[i]) / max(tally.regions, 1))
        for c, tally in tallies.items()
        for i, rule in enumerate(c.rules)
        if pyramid.evidence == "rules"
    ]
    # Loose rules come last, as they fit whenever a strict one of the same family does.
    matches.sort(key=lambda m: (not m.is_recognised, m.rule.is_loose, m.misses, *_order_of_match(m, pyramid.method)))
    tally = next((tally for c, tally in tallies.items() if c.source == 0), None)
    dims = len(pyramid.shapes[0])
    misses = survey.misses.get(level)
    verdict = Verdict(level, pyramid.factors(level), tuple(matches), tally, None, (0.0,) * dims, "", misses)
    if pyramid.recomputation is not None:
        return _placed_by_recipe(pyramid, pyramid.recomputation, verdict)
    if verdict.match is None or verdict.match.rule.is_loose:
        return verdict
    tolerance = tuple(0.01 + 1e-6 * size for size in pyramid.shapes[0])
    stated = pyramid.stated(level)
    equals = verdict.equals
    if any(match.rule.is_placed for match in equals):
        # If no value occurs twice, the first of the ties is the first voxel, which is no evidence for a vote.
        equals = tuple(match for match in equals if not match.rule.is_vote or match.rule.family == pyramid.method)
    placed = [found for match in equals if (found := _positions_by_rule(match, lines)) is not None]
    if not placed:
        return verdict
    # Of rules that fit equally well, one that agrees with the metadata is preferred.
    agreeing = [found for found in placed if agrees(found, stated, pyramid.shapes[level], tolerance)]
    return replace(verdict, lines=(agreeing or placed)[0], tolerance=tolerance, by="rule")


def _placed_by_recipe(pyramid: CheckedPyramid, again: Recomputation, verdict: Verdict) -> Verdict:
    """Return a verdict with the positions that the recipe gives the level."""
    lines = lines_of_axes(again.plan.levels[verdict.index].axes, pyramid.axes[0])
    tolerance = tuple(PLACED_BY_RECIPE * (1 + REGULAR * size) for size in pyramid.shapes[0])
    return replace(verdict, lines=lines, tolerance=tolerance, by="rule")


def _order_of_match(match: Match, stated: str | None) -> tuple[bool, int, int]:
    """Return the sort key of rules that fit equally well."""
    comparison = match.comparison
    return match.rule.family != stated, comparison.rules.index(match.rule), comparison.source


def _positions_by_rule(match: Match, lines: Mapping[int, tuple[Line, ...] | None]) -> tuple[Line, ...] | None:
    """Return the positions of a level's samples by a rule, in voxels of the base."""
    finer = lines.get(match.comparison.source)
    if finer is None:
        return None
    offsets = match.rule.origin(match.comparison.factors)
    along = zip(finer, offsets, match.comparison.factors, strict=True)
    return tuple((origin + step * offset, step * factor) for (origin, step), offset, factor in along)


def agrees(found: Sequence[Line], stated: Sequence[Line], sizes: Sequence[int], tolerance: Sequence[float]) -> bool:
    """Whether positions found agree with those stated, along every axis."""
    pairs = zip(found, stated, sizes, strict=True)
    return all(largest_distance(*along) <= most for along, most in zip(pairs, tolerance, strict=True))


def _by_pixels(pyramid: CheckedPyramid, verdict: Verdict, rng: np.random.Generator) -> Verdict:
    """Return a verdict with positions found from pixels by least squares."""
    level = verdict.index
    shapes = pyramid.shapes
    steps = [size / coarse for size, coarse in zip(shapes[0], shapes[level], strict=True)]
    if verdict.factors is not None:
        steps = [float(factor) for factor in verdict.factors]
    # The stretch of a short axis cannot be found from pixels: the stated one is used.
    pairs = zip((abs(claimed) for _, claimed in pyramid.stated(level)), steps, strict=True)
    steps = [claimed if step != 1 and math.isclose(claimed, step, rel_tol=CLOSE) else step for claimed, step in pairs]
    fits = math.prod(steps) * CROP_WINDOWS <= MOST_CROP_VOXELS
    if not fits or pyramid.arrays[level].dtype.kind not in "iuf":
        return verdict
    nominal = [((step - 1) / 2, step) for step in steps]
    best = located(list(_crops(pyramid, level, nominal, rng)), nominal, shapes[level])
    if best is None or not best.is_certain:
        return verdict
    tolerance = tuple(max(0.1, 0.05 * step) + error for step, error in zip(steps, best.uncertainty, strict=True))
    return replace(verdict, lines=best.lines, tolerance=tolerance, by="pixels")


def _crops(pyramid: CheckedPyramid, level: int, nominal: Sequence[Line], rng: np.random.Generator) -> Iterator[Crop]:
    """Yield crops of a level with the base around them: at its first and its last corner, and at random."""
    shape, size = pyramid.shapes[level], pyramid.shapes[0]
    steps = [step for _, step in nominal]
    reduced = [axis for axis, step in enumerate(steps) if step != 1]
    lengths = [CROP_SAMPLES if axis in reduced else 1 for axis in range(len(shape))]
    most = max(CROP_VOXELS, CROP_WINDOWS * math.prod(steps))
    while math.prod((n + 2 * CROP_MARGIN) * s for n, s in zip(lengths, steps, strict=True) if s != 1) > most:
        lengths = [max(n * 7 // 8, 1) for n in lengths]
    lengths = [min(n, total) for n, total in zip(lengths, shape, strict=True)]
    room = [total - n for total, n in zip(shape, lengths, strict=True)]
    drawn = (tuple(int(rng.integers(r + 1)) for r in room) for _ in range(CROPS - 2))
    # In a small level, several of these are equal.
    for first in dict.fromkeys([(0,) * len(room), tuple(room), *drawn]):
        part = box_at(first, lengths)
        around = tuple(
            slice(
                max(math.floor(s.start * step) - math.ceil(CROP_MARGIN * step), 0) if step != 1 else s.start,
                min(math.ceil(s.stop * step) + math.ceil(CROP_MARGIN * step), total) if step != 1 else s.stop,
            )
            for s, step, total in zip(part, steps, size, strict=True)
        )
        try:
            values, source = (_as_floats(pyramid.arrays[i].read(r)) for i, r in ((level, part), (0, around)))
        except Exception:
            # A damaged chunk, which the survey has recorded.
            continue
        if np.isfinite(values).all() and np.isfinite(source).all():
            yield Crop(values, first, source, corner_of(around))


def _as_floats(block: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.array(block, np.float64)
