"""What the pixels of a pyramid say of each level: the rule that made it, and where its samples sit.

`survey` reads a pyramid (`comparison`) and `verdict_of` puts in words what was counted: of the rules that make
every value the likeliest, from which level, and with it the positions; where no rule is recognised, positions
come from the pixels themselves (`placement`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..image.axes import Axis
from ..image.boxes import box_at, corner_of
from ..methods.reducer import Evidence
from ..store import Access, StoredPyramid
from ..tasks.threads import Call, run
from .downsampling_rules import PIECE, Rule, candidates
from .registration import Crop, Line, apart, located
from .survey import COPIES, REGION_VOXELS, SCOUTED_WINDOWS, Comparison, ComparisonPass, Survey, Tally, region_shape

# A rule is recognised if it misses no more than this part of the windows that tell, or makes all of half the regions.
MISSES = 0.02
CLEAN_REGIONS = 0.5
# Held against all windows are the rules that nothing speaks against, up to so many, or else the closest ones.
MOST_RULES, MOST_EQUALS = 4, 16
# Regions by which they are chosen: more, up to a limit, while there are few windows that tell.
SCOUTS, MOST_SCOUTS = 6, 48
ENOUGH_TELLING = 2**12
# Crops by which positions are found.
CROPS = 6
CROP_SAMPLES = 32
# Voxels of the base that a crop needs not exceed, windows that it should have, and voxels that it must not exceed.
CROP_VOXELS, CROP_WINDOWS, MOST_CROP_VOXELS = 2**16, 2**9, 2**22
# How close a stated distance of samples must be to the one that shapes tell.
CLOSE = 0.1
# Windows about a crop.
CROP_MARGIN = 1
# Bytes of a worker that do not depend on the region: windows that are put in order.
WORKING_BYTES = 12 * 8 * PIECE

Factors: TypeAlias = "tuple[int, ...]"
Pairs: TypeAlias = "Sequence[tuple[int, ...]]"


@dataclass(frozen=True)
class CheckedPyramid:
    """A stored pyramid, with what its values are compared by."""

    stored: StoredPyramid
    """The pyramid."""
    arrays: tuple[Access, ...]
    """Its levels, to be read."""
    labels: bool
    """Whether values are ids."""
    method: str | None = None
    """The method that the metadata name, which is believed where it fits as well as others."""
    evidence: Evidence = "rules"
    """What tells how a level was made and where it sits: rules, or where none stands for the method, at most pixels."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of every level's array."""
        return self.stored.paths

    @property
    def axes(self) -> tuple[tuple[Axis, ...], ...]:
        """The axes of every level, as the metadata state them."""
        return self.stored.levels

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of every level."""
        return [access.array.shape for access in self.arrays]

    def stated(self, level: int, base: int = 0) -> tuple[Line, ...]:
        """Return where the metadata place a level, in voxels of the base."""
        pairs = zip(self.axes[level], self.axes[base], strict=True)
        return tuple(((a.translation - b.translation) / b.scale, a.scale / b.scale) for a, b in pairs)

    def factors(self, level: int) -> Factors | None:
        """Return the voxels of the base in a window of a level; None where no integers fit the shapes."""
        shapes = self.shapes
        ratios = [abs(step) for _, step in self.stated(level)]
        found = [_factor(*along) for along in zip(shapes[0], shapes[level], ratios, strict=True)]
        return None if None in found else tuple(factor for factor in found if factor)


def _factor(size: int, coarse: int, ratio: float) -> int | None:
    """Return the factor between two sizes, rounded up or down, that is next to what the metadata say."""
    least = size // (coarse + 1) + 1
    most = -(-size // (coarse - 1)) - 1 if coarse > 1 else max(size, round(ratio))
    if least > most:
        return None
    stated = round(ratio)
    return stated if least <= stated <= most else min(max(round(size / coarse), least), most)


@dataclass(frozen=True)
class Match:
    """How well a rule makes a level."""

    rule: Rule
    comparison: Comparison
    differing: int
    telling: int
    clean: float
    """Part of the regions in which every value is the rule's."""

    @property
    def misses(self) -> float:
        """Part of the windows that tell for which the rule does not make the value."""
        return min(self.differing / self.telling, 1.0) if self.telling else 0.0

    @property
    def is_recognised(self) -> bool:
        """Whether the rule made the level, but for what may have happened to it since."""
        return self.telling > 0 and (self.misses <= MISSES or self.clean >= CLEAN_REGIONS)


@dataclass(frozen=True)
class Verdict:
    """What was found of a level."""

    index: int
    factors: Factors | None
    matches: tuple[Match, ...]
    """The best first; of several that make every value the likeliest first."""
    tally: Tally | None
    """Of the comparison with the base."""
    lines: tuple[Line, ...] | None
    """Where the samples sit, in voxels of the base; None where nothing tells."""
    tolerance: tuple[float, ...]
    """How far from the stated positions they may be, in voxels of the base."""
    by: str
    """What tells the positions: "rule", "pixels" or nothing."""

    @property
    def match(self) -> Match | None:
        """The rule that made the level, None if it is none of those known."""
        for match in self.matches:
            if match.is_recognised and match.rule.family != "window":
                return match
        return None

    @property
    def equals(self) -> tuple[Match, ...]:
        """All rules that fit as well as the best one."""
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
    """Read a pyramid, and return what was found, and how much of it was read.

    Parameters
    ----------
    pyramid
        The pyramid.
    levels
        The levels to judge.
    sample
        Regions of each pass that are read, None for all.
    seed
        What the choice of regions depends on.
    memory
        Bytes that may be used.
    workers
        Regions at a time.
    reporting
        What takes the number of bytes to read, and gives a context that takes those that are done.
    """
    passes = [_without_unused(pyramid, pass_) for pass_ in _passes(pyramid, levels, memory // workers)]
    rng = np.random.default_rng(seed)
    counts = [math.prod(pass_.grid(pyramid.shapes[pass_.source])) for pass_ in passes]
    chosen = [_chosen(count, sample, rng) for count in counts]
    passes = [_scouted(pyramid, *pair) for pair in zip(passes, chosen, strict=True)]
    survey = Survey(pyramid.arrays, pyramid.labels)
    total = sum(
        len(numbers) * pyramid.arrays[s.source].array.nbytes // count
        for s, numbers, count in zip(passes, chosen, counts, strict=True)
    )
    with reporting(total) as report:
        for pass_, numbers in zip(passes, chosen, strict=True):
            run(None, _visit, (survey, pass_), _calls(survey, pass_, numbers), workers, report)
    if any(len(ids) for ids in survey.strangers.values()):
        # What is not in the same region may be elsewhere.
        run(None, _recognize, (survey, passes[0]), _calls(survey, passes[0], chosen[0]), workers, _quiet)
    return survey, {"regions": sum(map(len, chosen)), "of": sum(counts), "seed": seed if sample else None}


def _calls(survey: Survey, pass_: ComparisonPass, numbers: Iterable[int]) -> Iterator[Call]:
    return ((survey.nbytes(pass_, int(number)), (int(number),)) for number in numbers)


def _visit(context: tuple[Survey, ComparisonPass], number: int) -> None:
    survey, pass_ = context
    survey.visit(pass_, number)


def _recognize(context: tuple[Survey, ComparisonPass], number: int) -> None:
    survey, pass_ = context
    survey.recognize(pass_, number)


def _quiet(_: int) -> None:
    """Tell nobody."""


def _chosen(count: int, sample: int | None, rng: np.random.Generator) -> Sequence[int]:
    if sample is None or sample >= count:
        return range(count)
    return sorted(int(number) for number in rng.choice(count, sample, replace=False, shuffle=False))


def _passes(pyramid: CheckedPyramid, levels: Sequence[int], memory: int) -> Iterator[ComparisonPass]:
    """Yield the passes by which every level is compared with the base and with the level that it follows from."""
    shapes = pyramid.shapes
    itemsize = max(access.array.dtype.itemsize for access in pyramid.arrays)
    most = min(REGION_VOXELS, (memory - WORKING_BYTES) // (COPIES * itemsize))
    factors = {level: pyramid.factors(level) for level in range(1, len(shapes))}
    together: dict[int, Factors] = {0: (1,) * len(shapes[0])}
    windows = together[0]
    alone = []
    comparisons: list[Comparison] = []
    for level in levels:
        along = factors.get(level)
        if along is None:
            continue
        parent = _parent(level, factors, shapes)
        wider = tuple(map(math.lcm, windows, along))
        if region_shape(shapes[0], wider, (1,) * len(wider), most) is None:
            alone.append((level, parent))
            continue
        windows = wider
        together[level] = along
        comparisons.append(_comparison(pyramid, level, 0, along))
        if parent:
            together[parent] = pyramid.factors(parent) or together[0]
            comparisons.append(_step(pyramid, level, parent))
    region = region_shape(shapes[0], windows, pyramid.arrays[0].unit, most)
    if region is None:
        raise ValueError(f"memory_limit leaves {memory!r} bytes for a worker, too little for one window; raise it")
    yield ComparisonPass(0, region, together, tuple(comparisons))
    for level, parent in alone:
        if parent is None:
            continue
        step = _step(pyramid, level, parent)
        region = region_shape(shapes[parent], step.factors, pyramid.arrays[parent].unit, most)
        if region is not None:
            yield ComparisonPass(parent, region, {parent: (1,) * len(region), level: step.factors}, (step,))


def _without_unused(pyramid: CheckedPyramid, pass_: ComparisonPass) -> ComparisonPass:
    """Return a pass without the levels that nothing is compared with."""
    used = {pass_.source, *(c.level for c in pass_.comparisons), *(c.source for c in pass_.comparisons)}
    return replace(pass_, relative={level: f for level, f in pass_.relative.items() if level in used})


def _parent(level: int, factors: Mapping[int, Factors | None], shapes: Pairs) -> int | None:
    """Return the coarsest level before one whose windows are parts of its own, 0 for the base."""
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


def _comparison(pyramid: CheckedPyramid, level: int, source: int, factors: Factors) -> Comparison:
    coarse, fine = pyramid.arrays[level].array, pyramid.arrays[source].array
    sizes = zip(fine.shape, coarse.shape, factors, strict=True)
    partial = any(size < count * factor for size, count, factor in sizes)
    dtypes = [np.dtype(np.uint8) if a.dtype.kind == "b" else a.dtype.newbyteorder("=") for a in (fine, coarse)]
    dtypes = [np.dtype(np.int64) if dtype.kind in "mM" else dtype for dtype in dtypes]
    rules = candidates(dtypes[0], dtypes[1], factors, partial=partial, labels=pyramid.labels)
    return Comparison(level, source, factors, rules, pyramid.labels)


def _scouted(pyramid: CheckedPyramid, pass_: ComparisonPass, numbers: Sequence[int]) -> ComparisonPass:
    """Return a pass with the rules that are worth holding against every window."""
    survey = Survey(pyramid.arrays, pyramid.labels, windows=SCOUTED_WINDOWS)
    # Spread out, the ends included.
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
    """Return a comparison with the rules that nothing speaks against, and those of the method that is stated."""
    if tally is None:
        return comparison
    order = sorted(comparison.rules, key=lambda rule: (tally.of(rule), comparison.rules.index(rule)))
    strict = [rule for rule in order if not rule.is_loose]
    equals = sum(tally.of(rule) == 0 for rule in strict)
    first = min(equals, MOST_EQUALS) or MOST_RULES
    strict = [*strict[:first], *(rule for rule in strict[first:] if rule.family == stated)]
    # Loose rules tell what is damage from what is a rounding of the writer's own, and which ids are strange.
    families = {rule.family for rule in strict} if equals else {rule.family for rule in order}
    families |= {"window"} if comparison.labels or not equals else set()
    loose = [rule for rule in order if rule.is_loose and rule.family in families]
    return replace(comparison, rules=(*strict, *loose))


# --- judging ---------------------------------------------------------------------------------------------------


def verdicts_of(pyramid: CheckedPyramid, levels: Sequence[int], survey: Survey, seed: int) -> list[Verdict]:
    """Return what a survey has found of each level."""
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
    # Loose rules fit whenever one of theirs does.
    matches.sort(key=lambda m: (not m.is_recognised, m.rule.is_loose, m.misses, *_rank(m, pyramid.method)))
    tally = next((tally for c, tally in tallies.items() if c.source == 0), None)
    dims = len(pyramid.shapes[0])
    verdict = Verdict(level, pyramid.factors(level), tuple(matches), tally, None, (0.0,) * dims, "")
    if verdict.match is None or verdict.match.rule.is_loose:
        return verdict
    tolerance = tuple(0.01 + 1e-6 * size for size in pyramid.shapes[0])
    stated = pyramid.stated(level)
    equals = verdict.equals
    if any(match.rule.is_placed for match in equals):
        # Where no value occurs twice, the first of equals is the first voxel, and nothing is said for a vote.
        equals = tuple(match for match in equals if not match.rule.is_vote or match.rule.family == pyramid.method)
    placed = [found for match in equals if (found := _placed(match, lines)) is not None]
    if not placed:
        return verdict
    # Of rules that fit alike, the one that agrees with the metadata is given the benefit of the doubt.
    agreeing = [found for found in placed if agrees(found, stated, pyramid.shapes[level], tolerance)]
    return replace(verdict, lines=(agreeing or placed)[0], tolerance=tolerance, by="rule")


def _rank(match: Match, stated: str | None) -> tuple[bool, int, int]:
    """Return the order of rules that fit alike."""
    comparison = match.comparison
    return match.rule.family != stated, comparison.rules.index(match.rule), comparison.source


def _placed(match: Match, lines: Mapping[int, tuple[Line, ...] | None]) -> tuple[Line, ...] | None:
    """Return where a rule puts the samples of a level, in voxels of the base."""
    finer = lines.get(match.comparison.source)
    if finer is None:
        return None
    offsets = match.rule.origin(match.comparison.factors)
    along = zip(finer, offsets, match.comparison.factors, strict=True)
    return tuple((origin + step * offset, step * factor) for (origin, step), offset, factor in along)


def agrees(found: Sequence[Line], stated: Sequence[Line], sizes: Sequence[int], tolerance: Sequence[float]) -> bool:
    """Whether samples are where they are said to be, along every axis."""
    pairs = zip(found, stated, sizes, strict=True)
    return all(apart(*along) <= most for along, most in zip(pairs, tolerance, strict=True))


def _by_pixels(pyramid: CheckedPyramid, verdict: Verdict, rng: np.random.Generator) -> Verdict:
    """Return a verdict with positions that least squares find."""
    level = verdict.index
    shapes = pyramid.shapes
    steps = [size / coarse for size, coarse in zip(shapes[0], shapes[level], strict=True)]
    if verdict.factors is not None:
        steps = [float(factor) for factor in verdict.factors]
    # The stretch of a short axis is not found from pixels, and believed.
    pairs = zip((abs(claimed) for _, claimed in pyramid.stated(level)), steps, strict=True)
    steps = [claimed if step != 1 and math.isclose(claimed, step, rel_tol=CLOSE) else step for claimed, step in pairs]
    fits = math.prod(steps) * CROP_WINDOWS <= MOST_CROP_VOXELS
    if not fits or pyramid.arrays[level].array.dtype.kind not in "iuf":
        return verdict
    nominal = [((step - 1) / 2, step) for step in steps]
    best = located(list(_crops(pyramid, level, nominal, rng)), nominal, shapes[level])
    if best is None or not best.is_certain:
        return verdict
    tolerance = tuple(max(0.1, 0.05 * step) + error for step, error in zip(steps, best.uncertainty, strict=True))
    return replace(verdict, lines=best.lines, tolerance=tolerance, by="pixels")


def _crops(pyramid: CheckedPyramid, level: int, nominal: Sequence[Line], rng: np.random.Generator) -> Iterator[Crop]:
    """Yield parts of a level with the base around them, the first and the last part of it among them."""
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
    # Where there is little room, they are the same.
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
            # A broken chunk, which the survey has noted.
            continue
        if np.isfinite(values).all() and np.isfinite(source).all():
            yield Crop(values, first, source, corner_of(around))


def _as_floats(block: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.array(block, np.float64)
