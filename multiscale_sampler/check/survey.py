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
import zarr

from ..image.boxes import (
    Block,
    Box,
    cell_at,
    coarsened,
    corner_of,
    grid_shape,
    pieces_by_index,
    refined,
    size_of,
    within,
)
from ..store import Access, chunk_key, is_stored, storage_unit
from .downsampling_rules import Rule, WindowLines, differing, rounded, window_lines

REGION_VOXELS = 2**22
# Copies of a region's samples in memory at a time: as read, as converted, and as windows.
COPIES = 3
# Windows of a region that are looked at to choose the rules to check.
SCOUTED_WINDOWS = 2**13
# The most ids that are looked for in the whole base.
MOST_IDS = 2**20
# The most items of a list that a text names.
LISTED = 5


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

    def __post_init__(self) -> None:
        """Begin with zeros for every rule."""
        if not len(self.differing):
            self.differing = np.zeros(len(self.rules), np.int64)
            self.clean = np.zeros(len(self.rules), np.int64)

    def add(self, other: Tally) -> None:
        """Add the counts of another region."""
        for name in ("windows", "telling", "regions", "values", "means", "surplus", "surplus_squared"):
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
class Survey:
    """The arrays of a pyramid, and what comparing them has found so far."""

    levels: Sequence[Access]
    """The levels."""
    labels: bool
    """Whether values are ids."""
    windows: int | None = None
    """The most windows of a region to look at; None for all."""
    tallies: dict[Comparison, Tally] = field(default_factory=dict)
    """The counts of each comparison."""
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
        array = self.levels[pass_.source].array
        return size_of(pass_.at(number, array.shape)) * int(array.dtype.itemsize)

    def visit(self, pass_: ComparisonPass, number: int) -> None:
        """Compare the levels in a region."""
        region = pass_.at(number, self.levels[pass_.source].array.shape)
        shapes = {index: self.levels[index].array.shape for index in pass_.relative}
        places = {index: pass_.part(index, region, shapes[index]) for index in pass_.relative}
        blocks = {index: self._read(index, place) for index, place in places.items()}
        if any(block is None for block in blocks.values()):
            with self.lock:
                self.unread += 1
        base = blocks[pass_.source]
        for comparison in pass_.comparisons:
            source, values = blocks[comparison.source], blocks[comparison.level]
            if source is None or values is None or not values.size:
                continue
            tally = self._compare(comparison, source, values, places[comparison.level])
            # If every value occurs in its window, no id is missing from the base.
            picked = any(not tally.of(rule) for rule in comparison.rules if rule.is_placed or rule.family == "window")
            if self.labels and comparison.source == 0 and base is not None and self.windows is None and not picked:
                self._add_missing_ids(comparison.level, values, base)

    def _read(self, index: int, place: Box) -> Block | None:
        """Return a box of a level; None if a chunk of it cannot be read, which is recorded as damage."""
        access = self.levels[index]
        try:
            block = np.array(access.read(place))
        except Exception:
            broken = list(self._broken(index, place))
            if not broken:
                raise
            with self.lock:
                self.damage.update(broken)
            return None
        if block.dtype.kind in "mM":
            return block.view(np.int64)
        return block.view(np.uint8) if block.dtype.kind == "b" else block.astype(block.dtype.newbyteorder("="))

    def _broken(self, index: int, place: Box) -> Iterator[Damage]:
        for key, part in stored_parts(self.levels[index].array, place):
            try:
                self.levels[index].array[part]
            except Exception as error:
                # Codecs raise errors of any class.
                yield Damage(index, key, f"{type(error).__name__}: {error}")

    def _compare(self, comparison: Comparison, source: Block, values: Block, place: Box) -> Tally:
        first = corner_of(place)
        size = self.levels[comparison.source].array.shape
        # NaN and infinity are compared like other values.
        with np.errstate(all="ignore"):
            tally = tally_of(comparison, source, values, first, size, self.windows)
        if tally.differing.any() and self.windows is None:
            self._add_missing_chunks(comparison, source, values, place)
        with self.lock:
            if comparison in self.tallies:
                self.tallies[comparison].add(tally)
            else:
                self.tallies[comparison] = replace(tally, differing=tally.differing.copy(), clean=tally.clean.copy())
        return tally

    def _add_missing_chunks(self, comparison: Comparison, source: Block, values: Block, place: Box) -> None:
        """Record chunks that are not stored although a window of the finer level cannot give the fill value."""
        access = self.levels[comparison.level]
        size = self.levels[comparison.source].array.shape
        for key, part in stored_parts(access.array, place):
            inside = values[within(part, place)]
            if not (inside == access.fill).all() or is_stored(access.array, key):
                continue
            under = within(refined(part, comparison.factors), refined(place, comparison.factors))
            first = corner_of(part)
            for found, _ in window_lines(source[under], inside, first, size, comparison.factors):
                samples = found["reduced"].samples
                # By no rule is a value below all samples of its window, or above all of them.
                if ((samples > access.fill).all(axis=0) | (samples < access.fill).all(axis=0)).any():
                    with self.lock:
                        self.damage.add(Damage(comparison.level, key, ""))

    def _add_missing_ids(self, level: int, values: Block, base: Block) -> None:
        missing = np.setdiff1d(values, base)
        if len(missing):
            with self.lock:
                known = self.missing_ids.get(level, missing[:0])
                self.missing_ids[level] = np.union1d(known, missing)[:MOST_IDS]

    def recognize(self, pass_: ComparisonPass, number: int) -> None:
        """Remove the ids that occur in a region of the base from those that are missing."""
        access = self.levels[0]
        region = pass_.at(number, access.array.shape)
        block = self._read(0, region)
        if block is not None:
            known = np.unique(block)
            with self.lock:
                for index, ids in self.missing_ids.items():
                    self.missing_ids[index] = np.setdiff1d(ids, known)


def stored_parts(array: zarr.Array[Any], place: Box) -> Iterator[tuple[str, Box]]:
    """Yield the key of each chunk or shard that a box touches, and the part of the box in it."""
    for index, part in pieces_by_index(place, storage_unit(array)):
        yield chunk_key(array, index), part


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
    tally.surplus += float(differences.sum())
    tally.surplus_squared += float((differences**2).sum())
