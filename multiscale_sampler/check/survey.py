"""Levels compared with the levels that they were made from, region by region, in bounded memory.

A `ComparisonPass` covers its source (the base, or another level if windows of the base would be too large) by regions
of whole windows. In each region, every level is compared with the rules that could have made it, and the counts are
added to a `Tally`. A region has at most `REGION_VOXELS` samples of the source, or fewer if memory is short.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..image.boxes import (
    Block,
    Box,
    cell_at,
    coarsened,
    corner_of,
    grid_shape,
    hull,
    is_empty,
    overlap,
    refined,
    size_of,
    widened,
    within,
)
from .checked import CheckedLevel, equals_fill
from .downsampling_rules import Mask, Rule, WindowLines, differing, rounded, window_lines
from .recomputation import Recomputation, differing_values

REGION_VOXELS = 2**22
# Copies of a region's samples in memory at a time: as read, as converted, and as windows.
COPIES = 3
# Windows of a region that are looked at to choose the rules to check.
SCOUTED_WINDOWS = 2**13
# The most ids that are looked for in the whole base.
MOST_IDS = 2**20
# The most items of a list that a text names.
LISTED = 5
# Windows beyond its own on whose samples the value of a filter depends: three for the widest (Lanczos).
FILTER_REACH = 3


@dataclass(frozen=True)
class Comparison:
    """A level and a finer one that it could have been made from."""

    level: int
    """The level."""
    source: int
    """The finer one."""
    factors: tuple[int, ...]
    """Samples of the finer one in a window, along each axis."""
    rules: tuple[Rule, ...]
    """The rules that the level is compared with."""
    labels: bool
    """Whether values are ids, which have no mean."""


COUNTS = ("windows", "telling", "regions", "finite", "outside")
SUMS = ("values", "means", "surplus", "surplus_squared", "finite_values", "lows", "highs")


@dataclass
class Tally:
    """The counts of a comparison."""

    rules: tuple[Rule, ...]
    windows: int = 0
    telling: int = 0
    """Windows with more than one value; only these distinguish rules."""
    regions: int = 0
    """Regions with such windows."""
    differing: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """For each rule, the number of values that differ from it."""
    clean: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """For each rule, the number of regions with such windows in which no value differs."""
    values: float = 0.0
    """Sum of the level's values."""
    means: float = 0.0
    """Sum of the means of their windows."""
    surplus: float = 0.0
    """Sum of the differences between values and the means of their windows, these rounded without bias."""
    surplus_squared: float = 0.0
    finite: int = 0
    """Windows of which the value and all samples are finite."""
    finite_values: float = 0.0
    """Sum of the level's values for these."""
    lows: float = 0.0
    """Sum of the smallest samples of these."""
    highs: float = 0.0
    """Sum of the largest samples of these."""
    outside: int = 0
    """Those of these whose value is not between the samples, up to rounding."""

    def __post_init__(self) -> None:
        """Begin with zeros for every rule."""
        if not len(self.differing):
            self.differing = np.zeros(len(self.rules), np.int64)
            self.clean = np.zeros(len(self.rules), np.int64)

    def add(self, other: Tally) -> None:
        """Add the counts of another region."""
        for name in (*COUNTS, *SUMS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.differing += other.differing
        self.clean += other.clean

    def of(self, rule: Rule) -> int:
        """Return how many values differ from a rule."""
        return int(self.differing[self.rules.index(rule)])


@dataclass(frozen=True)
class Damage:
    """A chunk or shard that cannot be read, or that is missing although its values should not be fill."""

    level: int
    """The level."""
    key: str
    """Key of the chunk below the level's array."""
    reason: str
    """The error of reading it; empty if it is missing."""


@dataclass(frozen=True)
class ComparisonPass:
    """One reading of a source, region by region, with the comparisons that are made in each region."""

    source: int
    """The level that is covered by regions."""
    region: tuple[int, ...]
    """Shape of a region."""
    relative: Mapping[int, tuple[int, ...]]
    """For each level that is read, the samples of the source per sample of the level, along each axis."""
    comparisons: tuple[Comparison, ...]
    """The comparisons."""

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the number of regions along each axis."""
        return grid_shape(shape, self.region)

    def at(self, number: int, shape: Sequence[int]) -> Box:
        """Return a region of the source by its number."""
        return cell_at([int(i) for i in np.unravel_index(number, self.grid(shape))], self.region, shape)

    def part(self, level: int, region: Box, shape: Sequence[int]) -> Box:
        """Return the box of a level that lies over a region of the source."""
        return coarsened(region, self.relative[level], shape)


def region_shape(
    shape: Sequence[int], windows: Sequence[int], chunks: Sequence[int], most: int
) -> tuple[int, ...] | None:
    """Return the shape of a region of whole windows, and whole chunks if these fit; None if a window is too large."""
    unit = [min(window, size) for window, size in zip(windows, shape, strict=True)]
    if math.prod(unit) > most:
        return None
    whole = [
        window * max(-(-min(chunk, size) // window), 1)
        for window, chunk, size in zip(windows, chunks, shape, strict=True)
    ]
    region = whole if _voxels(whole, shape) <= most else list(windows)
    # Doubled along the shortest axis in turn, up to the limit.
    open_axes = [axis for axis, size in enumerate(shape) if region[axis] < size]
    while open_axes:
        axis = min(open_axes, key=lambda axis: region[axis])
        longer = [2 * n if other == axis else n for other, n in enumerate(region)]
        if _voxels(longer, shape) > most:
            open_axes.remove(axis)
        else:
            region = longer
            open_axes = [axis for axis in open_axes if region[axis] < shape[axis]]
    return tuple(region)


def _voxels(region: Sequence[int], shape: Sequence[int]) -> int:
    return math.prod(min(n, size) for n, size in zip(region, shape, strict=True))


# --- one region ------------------------------------------------------------------------------------------------


@dataclass
class Misses:
    """The voxels of a level that differ from those that the recipe gives."""

    count: int = 0
    box: Box | None = None
    """The box that they lie in, in samples of the level."""
    first: tuple[tuple[int, ...], Any, Any] | None = None
    """The position of one of them, its value, and the value that it should have."""

    def add(self, place: Box, wrong: Mask, found: Block, expected: Block) -> None:
        """Add those of one part of the level."""
        at = np.argwhere(wrong)
        low, high = at.min(axis=0), at.max(axis=0) + 1
        box = tuple(slice(p.start + int(i), p.start + int(j)) for p, i, j in zip(place, low, high, strict=True))
        self.count += len(at)
        self.box = box if self.box is None else hull(self.box, box)
        position = tuple(p.start + int(i) for p, i in zip(place, at[0], strict=True))
        if self.first is None or position < self.first[0]:
            self.first = position, found[tuple(at[0])], expected[tuple(at[0])]


@dataclass
class Survey:
    """The levels of a pyramid, and what comparing them has found so far."""

    levels: Sequence[CheckedLevel]
    """The levels."""
    labels: bool
    """Whether values are ids."""
    windows: int | None = None
    """The most windows of a region to look at; None for all."""
    recomputation: Recomputation | None = None
    """How levels are computed again; None if that is not known, or not wanted."""
    tallies: dict[Comparison, Tally] = field(default_factory=dict)
    """The counts of each comparison."""
    misses: dict[int, Misses] = field(default_factory=dict)
    """For each level that was computed again, the voxels that differ."""
    damage: set[Damage] = field(default_factory=set)
    """Chunks that are damaged or missing."""
    unread: int = 0
    """Number of regions of which a chunk could not be read."""
    missing_ids: dict[int, npt.NDArray[Any]] = field(default_factory=dict)
    """For each level, ids that were not in the same region of the base."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while results are added."""

    def nbytes(self, pass_: ComparisonPass, number: int) -> int:
        """Return the bytes of a region."""
        level = self.levels[pass_.source]
        return size_of(pass_.at(number, level.shape)) * level.dtype.itemsize

    def visit(self, pass_: ComparisonPass, number: int) -> None:
        """Compare the levels in a region."""
        region = pass_.at(number, self.levels[pass_.source].shape)
        shapes = {index: self.levels[index].shape for index in pass_.relative}
        places = {index: pass_.part(index, region, shapes[index]) for index in pass_.relative}
        again = self.recomputation if pass_.source == 0 else None
        known = again.known(region) if again is not None else {}
        # Filters need samples around the region, too.
        around = hull(region, known[0]) if known else region
        whole = self._read(pass_.source, around)
        values = {index: self._read(index, place) for index, place in places.items() if index != pass_.source}
        values[pass_.source] = None if whole is None else whole[within(region, around)]
        if any(block is None for block in values.values()):
            with self.lock:
                self.unread += 1
        if again is not None and whole is not None:
            found = {index: block for index, block in values.items() if block is not None}
            self._recompute(again, region, known, whole[within(known[0], around)], found)
        blocks = {index: None if block is None else _as_numbers(block) for index, block in values.items()}
        for comparison in pass_.comparisons:
            self._visit_comparison(comparison, blocks, places)

    def _visit_comparison(
        self, comparison: Comparison, blocks: Mapping[int, Block | None], places: Mapping[int, Box]
    ) -> None:
        source, values = blocks[comparison.source], blocks[comparison.level]
        if source is None or values is None or not values.size:
            return
        tally = self._compare(comparison, source, values, places)
        # If every value occurs in its window, no id is missing from the base.
        picked = any(not tally.of(rule) for rule in comparison.rules if rule.is_placed or rule.family == "window")
        if self.labels and comparison.source == 0 and self.windows is None and not picked:
            self._add_missing_ids(comparison.level, values, source)

    def _read(self, index: int, place: Box) -> Block | None:
        """Return a box of a level; None if a chunk of it cannot be read, which is recorded as damage."""
        try:
            return self.levels[index].read(place)
        except Exception:
            broken = list(self._broken(index, place))
            if not broken:
                raise
            with self.lock:
                self.damage.update(broken)
            return None

    def _broken(self, index: int, place: Box) -> Iterator[Damage]:
        for key, part in self.levels[index].parts(place):
            try:
                self.levels[index].array[part]
            except Exception as error:
                # Codecs raise errors of any class.
                yield Damage(index, key, f"{type(error).__name__}: {error}")

    def _compare(self, comparison: Comparison, source: Block, values: Block, places: Mapping[int, Box]) -> Tally:
        place = places[comparison.level]
        size = self.levels[comparison.source].shape
        # NaN and infinity are compared like other values.
        with np.errstate(all="ignore"):
            tally = tally_of(comparison, source, values, corner_of(place), size, self.windows)
        by_rules = self.recomputation is None or comparison.level not in self.recomputation.levels
        if tally.differing.any() and self.windows is None and by_rules:
            self._add_missing_chunks(comparison, source, values, place)
            lost = self._missing_sources(comparison, source, values, place)
            if lost.any():
                # What is lost in the finer level is not the fault of the coarser one.
                source, values = _blanked(comparison.factors, source, values, lost, self.levels[comparison.source].fill)
                with np.errstate(all="ignore"):
                    tally = tally_of(comparison, source, values, corner_of(place), size)
        with self.lock:
            if comparison in self.tallies:
                self.tallies[comparison].add(tally)
            else:
                self.tallies[comparison] = replace(tally, differing=tally.differing.copy(), clean=tally.clean.copy())
        return tally

    def _add_missing_chunks(self, comparison: Comparison, source: Block, values: Block, place: Box) -> None:
        """Record chunks that are not stored although a window of the finer level cannot give the fill value."""
        level = self.levels[comparison.level]
        size = self.levels[comparison.source].shape
        for key, part in level.parts(place):
            inside = values[within(part, place)]
            if not level.is_fill(inside) or not level.is_missing(key):
                continue
            under = within(refined(part, comparison.factors), refined(place, comparison.factors))
            first = corner_of(part)
            for found, _ in window_lines(source[under], inside, first, size, comparison.factors):
                samples = found["reduced"].samples
                # By no rule is a value below all samples of its window, or above all of them.
                if ((samples > level.fill).all(axis=0) | (samples < level.fill).all(axis=0)).any():
                    self._add_damage(Damage(comparison.level, key, ""))

    def _missing_sources(self, comparison: Comparison, source: Block, values: Block, place: Box) -> Mask:
        """Record chunks of the finer level that are not stored although the coarser one has values over them.

        A filter gives such values at the edge of what is stored, but not far from it, nor in all of a chunk. Returns
        the windows that these chunks touch.
        """
        finer, coarser = self.levels[comparison.source], self.levels[comparison.level]
        filled = _filled_windows(source, comparison.factors, finer.fill, values.shape)
        present = ~equals_fill(values, coarser.fill) & filled
        lost = np.zeros_like(filled)
        if not present.any():
            return lost
        far = present & _eroded(filled, FILTER_REACH, [along.start == 0 for along in place])
        for key, part in finer.parts(refined(place, comparison.factors, finer.shape)):
            over = within(overlap(coarsened(part, comparison.factors), place), place)
            whole = present[over].size and present[over].all()
            if (far[over].any() or whole) and finer.is_missing(key):
                self._add_damage(Damage(comparison.source, key, ""))
                lost[over] = True
        return lost

    def _add_damage(self, damage: Damage) -> None:
        with self.lock:
            self.damage.add(damage)

    def _recompute(
        self, again: Recomputation, region: Box, known: Mapping[int, Box], base: Block, found: Mapping[int, Block]
    ) -> None:
        """Compare the levels in a region with those that the recipe gives, and record what differs."""
        with np.errstate(all="ignore"):
            expected = again.values(region, known, base)
            levels = [index for index in found if index in expected]
            wrong = {index: differing_values(found[index], expected[index], again.tolerance) for index in levels}
            for other in again.other_orders if _any(wrong) else ():
                reordered = other.values(region, known, base)
                for index, mask in wrong.items():
                    if mask.any():
                        mask &= differing_values(found[index], reordered[index], other.tolerance)
        places = {index: again.part(index, region) for index in levels}
        if _any(wrong):
            self._explain_by_missing_base(again, known[0], base, places, wrong)
        for index, mask in wrong.items():
            if mask.any():
                self._explain_by_missing_chunks(index, places[index], found[index], mask)
            with self.lock:
                misses = self.misses.setdefault(index, Misses())
                if mask.any():
                    misses.add(places[index], mask, found[index], expected[index])

    def _explain_by_missing_base(
        self, again: Recomputation, around: Box, base: Block, places: Mapping[int, Box], wrong: Mapping[int, Mask]
    ) -> None:
        """Record chunks of level 0 that are not stored although all levels have other values; clear these values.

        If any level agrees that there is nothing, it is the others that are wrong.
        """
        for key, part in self.levels[0].parts(around):
            if not self.levels[0].is_fill(base[within(part, around)]):
                continue
            over = {}
            for index, mask in wrong.items():
                reach = [halo and FILTER_REACH for halo in again.plan.halos(index)]
                box = widened(coarsened(part, again.plan.levels[index].factors), reach, self.levels[index].shape)
                touched = overlap(box, places[index])
                if not is_empty(touched):
                    over[index] = mask[within(touched, places[index])]
            if over and all(mask.any() for mask in over.values()) and self.levels[0].is_missing(key):
                self._add_damage(Damage(0, key, ""))
                for mask in over.values():
                    mask[...] = False

    def _explain_by_missing_chunks(self, index: int, place: Box, found: Block, wrong: Mask) -> None:
        """Record chunks of a level that are not stored although its values should not be fill; clear these values."""
        level = self.levels[index]
        for key, part in level.parts(place):
            inside = within(part, place)
            if wrong[inside].any() and level.is_fill(found[inside]) and level.is_missing(key):
                self._add_damage(Damage(index, key, ""))
                wrong[inside] = False

    def _add_missing_ids(self, level: int, values: Block, base: Block) -> None:
        missing = np.setdiff1d(values, base)
        if len(missing):
            with self.lock:
                known = self.missing_ids.get(level, missing[:0])
                self.missing_ids[level] = np.union1d(known, missing)[:MOST_IDS]

    def recognize(self, pass_: ComparisonPass, number: int) -> None:
        """Remove the ids that occur in a region of the base from those that are missing."""
        region = pass_.at(number, self.levels[0].shape)
        block = self._read(0, region)
        if block is not None:
            known = np.unique(block)
            with self.lock:
                for index, ids in self.missing_ids.items():
                    self.missing_ids[index] = np.setdiff1d(ids, known)


def _any(masks: Mapping[int, Mask]) -> bool:
    return any(mask.any() for mask in masks.values())


def _as_numbers(block: Block) -> Block:
    """Return a block as rules take it: dates and durations as integers, booleans as 0 and 1."""
    if block.dtype.kind in "mM":
        return block.view(np.int64)
    return block.view(np.uint8) if block.dtype.kind == "b" else block


def _filled_windows(source: Block, factors: Sequence[int], fill: Any, shape: Sequence[int]) -> Mask:
    """Return which windows of a block hold nothing but fill; the last ones can be partial."""
    margins = [(0, n * f - size) for n, f, size in zip(shape, factors, source.shape, strict=True)]
    cut = source[tuple(slice(0, n * f) for n, f in zip(shape, factors, strict=True))]
    padded = np.pad(equals_fill(cut, fill), [(0, max(after, 0)) for _, after in margins], constant_values=True)
    split = [k for n, f in zip(shape, factors, strict=True) for k in (n, f)]
    return np.asarray(padded.reshape(split).all(axis=tuple(range(1, 2 * len(shape), 2))))


def _blanked(factors: Sequence[int], source: Block, values: Block, lost: Mask, fill: Any) -> tuple[Block, Block]:
    """Return blocks of two levels with some windows, and the values over them, replaced by fill."""
    under = lost
    for axis, factor in enumerate(factors):
        under = under.repeat(factor, axis)
    under = under[tuple(slice(0, n) for n in source.shape)]
    source, values = source.copy(), values.copy()
    source[tuple(slice(0, n) for n in under.shape)][under] = fill
    values[lost] = fill
    return source, values


def _eroded(mask: Mask, reach: int, from_edge: Sequence[bool]) -> Mask:
    """Return where a mask is set up to `reach` samples on either side, along axes with more than one sample.

    Nothing is known outside of the block, but before the first sample of a level, where there are none.
    """
    for axis, starts in enumerate(from_edge):
        if mask.shape[axis] == 1:
            continue
        margins = [(reach, reach) if other == axis else (0, 0) for other in range(mask.ndim)]
        padded = np.pad(mask, margins, constant_values=False)
        if starts:
            padded[(slice(None),) * axis + (slice(0, reach),)] = True
        length = mask.shape[axis]
        mask = np.logical_and.reduce([padded.take(range(k, k + length), axis) for k in range(2 * reach + 1)])
    return mask


def tally_of(
    comparison: Comparison,
    source: Block,
    values: Block,
    first: Sequence[int],
    size: Sequence[int],
    limit: int | None = None,
) -> Tally:
    """Compare a block of a level with the rules that it could have been made by, and return the counts.

    Parameters
    ----------
    comparison
        The levels and the rules.
    source
        The samples under the block.
    values
        The block.
    first
        First sample of the block in the level.
    size
        Shape of the finer level.
    limit
        The most windows of each shape to look at, evenly spaced among those with more than one value; None for all.
    """
    tally = Tally(comparison.rules)
    for found, partial in window_lines(source, values, first, size, comparison.factors):
        for ending, windows in found.items():
            # Samples that are all equal are not equal to zeros padded beside them.
            every = ending == "zeros" or not all(rule.keeps_constants for rule in comparison.rules)
            rules = [
                (i, replace(rule, ending=""))
                for i, rule in enumerate(comparison.rules)
                if not partial or rule.ending == ending or (not rule.ending and ending == "reduced")
            ]
            counts = ending == "reduced"
            before = tally.telling
            for piece in windows.pieces():
                _add_windows(tally, piece, rules, counts=counts, every=every, weighs=not comparison.labels, limit=limit)
                if limit is not None and (tally.telling - before >= limit or not counts):
                    break
    if tally.telling:
        tally.regions = 1
        tally.clean += tally.differing == 0
    return tally


def _add_windows(
    tally: Tally,
    piece: WindowLines,
    rules: Sequence[tuple[int, Rule]],
    *,
    counts: bool,
    every: bool,
    weighs: bool,
    limit: int | None,
) -> None:
    """Add windows of one shape to a tally; their number is added only if `counts`."""
    uniform = piece.uniform
    telling = ~uniform
    if counts:
        tally.windows += len(uniform)
        tally.telling += int(telling.sum())
    if every:
        telling = np.ones_like(uniform)
    chosen = np.flatnonzero(telling)
    if limit is not None and len(chosen) > limit:
        chosen = chosen[:: -(-len(chosen) // limit)]
    mixed = piece.at(chosen)
    # By every rule, a window with one value gives that value.
    alike = WindowLines(piece.samples[:1, ~telling], piece.values[~telling], (1,) * len(piece.shape))
    wrong = int(differing(Rule("nearest", offset=(0,) * len(piece.shape)), alike).sum())
    wrong_by_rule: dict[Rule, int] = {}
    for index, rule in rules:
        if rule not in wrong_by_rule:
            wrong_by_rule[rule] = wrong + (int(differing(rule, mixed).sum()) if len(chosen) else 0)
        tally.differing[index] += wrong_by_rule[rule]
    if weighs and counts and limit is None:
        _add_brightness(tally, piece, uniform, mixed if not every else piece.at(~uniform))


def _add_brightness(tally: Tally, piece: WindowLines, uniform: npt.NDArray[np.bool_], mixed: WindowLines) -> None:
    """Add the values of windows, and their means rounded without bias, to a tally."""
    if piece.samples.dtype.kind == "c" or piece.values.dtype.kind == "c":
        return
    plain = piece.samples[0, uniform].astype(np.float64)
    surplus = [piece.values[uniform] - plain]
    means = [plain]
    if mixed.samples.size:
        if piece.samples.dtype.kind in "iu":
            below, rest = mixed.mean
            means.append(below + rest / len(mixed.samples))
            unbiased = rounded(below, rest, len(mixed.samples), "half to even")
            surplus.append(mixed.values.astype(np.float64) - unbiased.astype(np.float64))
        else:
            means.append(mixed.samples.mean(axis=0, dtype=np.float64))
            surplus.append(mixed.values - means[-1])
    differences = np.concatenate(surplus)
    differences = differences[np.isfinite(differences)]
    tally.values += float(np.nansum(piece.values, dtype=np.float64))
    tally.means += float(sum(np.nansum(part) for part in means))
    lows, highs = piece.samples.min(axis=0), piece.samples.max(axis=0)
    finite = np.isfinite(piece.values) & np.isfinite(lows) & np.isfinite(highs)
    tally.finite += int(finite.sum())
    tally.finite_values += float(piece.values[finite].sum(dtype=np.float64))
    lows, highs, values = (each[finite].astype(np.float64) for each in (lows, highs, piece.values))
    rounding = 1.0 if piece.values.dtype.kind in "iu" else 0.0
    tally.outside += int(((values < lows - rounding) | (values > highs + rounding)).sum())
    tally.lows += float(lows.sum())
    tally.highs += float(highs.sum())
    tally.surplus += float(differences.sum())
    tally.surplus_squared += float((differences**2).sum())
