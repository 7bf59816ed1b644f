"""Levels compared with those that they were made from, region by region, in bounded memory.

A `ComparisonPass` covers its source (the base, or a level where the windows of another are too large) by regions of
whole windows; in each, every level's part is held against the rules that it could have been made by, and what was found
is added to a `Tally`. Regions are the calls of `tasks.threads.run`; a region holds no more than `REGION_VOXELS` samples
of the source, or less where memory is short.
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
from .downsampling_rules import Rule, Windows, differing, rounded, windows_of

REGION_VOXELS = 2**22
# Copies of a region's samples that there are at a time: as read, as kept, and as windows side by side.
COPIES = 3
# Windows of a region by which the rules worth a closer look are chosen.
SCOUTED_WINDOWS = 2**13
# Ids that are looked for in all of the base; more than these are too wrong to be told apart.
MOST_IDS = 2**20
# What is shown of a long list.
SHOWN = 5


@dataclass(frozen=True)
class Comparison:
    """A level and one that it could have been made from."""

    level: int
    """The level."""
    source: int
    """The finer one."""
    factors: tuple[int, ...]
    """Samples of the finer one in a window, by axis."""
    rules: tuple[Rule, ...]
    """What the level is held against."""
    labels: bool
    """Whether values are ids, of which there is no mean."""


@dataclass
class Tally:
    """What was counted of a comparison."""

    rules: tuple[Rule, ...]
    windows: int = 0
    telling: int = 0
    """Windows with more than one value, which tell rules from one another."""
    regions: int = 0
    """Regions with such windows."""
    differing: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """For each rule, the values that it does not make."""
    clean: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """For each rule, the regions with telling windows in which it makes every value."""
    values: float = 0.0
    """Sum of the level's values."""
    means: float = 0.0
    """Sum of the means of their windows."""
    surplus: float = 0.0
    """Sum of what values are above the means of their windows, these rounded without bias."""
    surplus_squared: float = 0.0

    def __post_init__(self) -> None:
        """Begin with no rule refuted."""
        if not len(self.differing):
            self.differing = np.zeros(len(self.rules), np.int64)
            self.clean = np.zeros(len(self.rules), np.int64)

    def add(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        for name in ("windows", "telling", "regions", "values", "means", "surplus", "surplus_squared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.differing += other.differing
        self.clean += other.clean

    def of(self, rule: Rule) -> int:
        """Return how many values a rule does not make."""
        return int(self.differing[self.rules.index(rule)])


@dataclass(frozen=True)
class Damage:
    """A chunk, or shard, that cannot be read, or that is not there where its values should not be fill."""

    level: int
    """The level."""
    key: str
    """Where the chunk is stored, from the level's array on."""
    reason: str
    """What reading it says; empty where it is not there."""


@dataclass(frozen=True)
class ComparisonPass:
    """Comparisons that are made region by region of one source."""

    source: int
    """The level whose regions these are."""
    region: tuple[int, ...]
    """Samples of a region, by axis."""
    relative: Mapping[int, tuple[int, ...]]
    """For each level that is read, how many samples of the source it has one for."""
    comparisons: tuple[Comparison, ...]
    """What is compared."""

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the number of regions along each axis."""
        return grid_shape(shape, self.region)

    def at(self, number: int, shape: Sequence[int]) -> Box:
        """Return a region of the source by its number."""
        return cell_at([int(i) for i in np.unravel_index(number, self.grid(shape))], self.region, shape)

    def part(self, level: int, region: Box, shape: Sequence[int]) -> Box:
        """Return the part of a level that a region of the source stands for."""
        return coarsened(region, self.relative[level], shape)


def region_shape(
    shape: Sequence[int], windows: Sequence[int], chunks: Sequence[int], most: int
) -> tuple[int, ...] | None:
    """Return a region of whole windows and, if they are not too large, whole chunks; None if a window is too large."""
    unit = [min(window, size) for window, size in zip(windows, shape, strict=True)]
    if math.prod(unit) > most:
        return None
    whole = [
        window * max(-(-min(chunk, size) // window), 1)
        for window, chunk, size in zip(windows, chunks, shape, strict=True)
    ]
    region = whole if _voxels(whole, shape) <= most else list(windows)
    # Twice as long along the shortest axis in turn, until it is as large as it may be.
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
    """Passes over the arrays of a pyramid, and what they have found."""

    levels: Sequence[Access]
    """The levels."""
    labels: bool
    """Whether values are ids."""
    windows: int | None = None
    """Windows of a region that are looked at, None for all."""
    tallies: dict[Comparison, Tally] = field(default_factory=dict)
    """What was found, by comparison."""
    damage: set[Damage] = field(default_factory=set)
    """Chunks that are broken or missing."""
    unread: int = 0
    """Regions that could not be read in full."""
    strangers: dict[int, npt.NDArray[Any]] = field(default_factory=dict)
    """Ids of each level that were not in the same region of the base."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while something is added."""

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
            # Where every value is one of its window, none is strange.
            picked = any(not tally.of(rule) for rule in comparison.rules if rule.is_placed or rule.family == "window")
            if self.labels and comparison.source == 0 and base is not None and self.windows is None and not picked:
                self._note_strangers(comparison.level, values, base)

    def _read(self, index: int, place: Box) -> Block | None:
        """Return a part of a level, None if some of it cannot be read: then the chunks are noted that cannot."""
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
                # Codecs raise what they like.
                yield Damage(index, key, f"{type(error).__name__}: {error}")

    def _compare(self, comparison: Comparison, source: Block, values: Block, place: Box) -> Tally:
        first = corner_of(place)
        size = self.levels[comparison.source].array.shape
        # NaN and infinity are values as others here.
        with np.errstate(all="ignore"):
            tally = tally_of(comparison, source, values, first, size, self.windows)
        if tally.differing.any() and self.windows is None:
            self._note_holes(comparison, source, values, place)
        with self.lock:
            if comparison in self.tallies:
                self.tallies[comparison].add(tally)
            else:
                self.tallies[comparison] = replace(tally, differing=tally.differing.copy(), clean=tally.clean.copy())
        return tally

    def _note_holes(self, comparison: Comparison, source: Block, values: Block, place: Box) -> None:
        """Note chunks that are not stored, where a window of the finer level has no sample that could be fill."""
        access = self.levels[comparison.level]
        size = self.levels[comparison.source].array.shape
        for key, part in stored_parts(access.array, place):
            inside = values[within(part, place)]
            if not (inside == access.fill).all() or is_stored(access.array, key):
                continue
            under = within(refined(part, comparison.factors), refined(place, comparison.factors))
            first = corner_of(part)
            for found, _ in windows_of(source[under], inside, first, size, comparison.factors):
                samples = found["reduced"].samples
                # Whatever the rule, a value is not below all samples of its window, nor above them.
                if ((samples > access.fill).all(axis=0) | (samples < access.fill).all(axis=0)).any():
                    with self.lock:
                        self.damage.add(Damage(comparison.level, key, ""))

    def _note_strangers(self, level: int, values: Block, base: Block) -> None:
        strange = np.setdiff1d(values, base)
        if len(strange):
            with self.lock:
                known = self.strangers.get(level, strange[:0])
                self.strangers[level] = np.union1d(known, strange)[:MOST_IDS]

    def recognize(self, pass_: ComparisonPass, number: int) -> None:
        """Strike from the ids of levels those that a region of the base has."""
        access = self.levels[0]
        region = pass_.at(number, access.array.shape)
        block = self._read(0, region)
        if block is not None:
            known = np.unique(block)
            with self.lock:
                for index, ids in self.strangers.items():
                    self.strangers[index] = np.setdiff1d(ids, known)


def stored_parts(array: zarr.Array[Any], place: Box) -> Iterator[tuple[str, Box]]:
    """Yield the key of each chunk, or shard, that a place touches, and what the place has of it."""
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
    """Return what a block of a level has to say of the rules that it could have been made by.

    Parameters
    ----------
    comparison
        The levels and the rules.
    source
        The samples under the block.
    values
        The block.
    first
        Its place in the level.
    size
        Samples of the finer level in all, along each axis.
    limit
        The most windows of each shape that are looked at, evenly taken from those that tell; None for all.
    """
    tally = Tally(comparison.rules)
    for found, partial in windows_of(source, values, first, size, comparison.factors):
        for ending, windows in found.items():
            # Samples that agree may not do so with zeros beside them.
            every = ending == "zeros" or not all(rule.keeps_constants for rule in comparison.rules)
            rules = [
                (i, replace(rule, ending=""))
                for i, rule in enumerate(comparison.rules)
                if not partial or rule.ending == ending or (not rule.ending and ending == "reduced")
            ]
            counts = ending == "reduced"
            before = tally.telling
            for piece in windows.pieces():
                _count(tally, piece, rules, counts=counts, every=every, weighs=not comparison.labels, limit=limit)
                if limit is not None and (tally.telling - before >= limit or not counts):
                    break
    if tally.telling:
        tally.regions = 1
        tally.clean += tally.differing == 0
    return tally


def _count(
    tally: Tally,
    piece: Windows,
    rules: Sequence[tuple[int, Rule]],
    *,
    counts: bool,
    every: bool,
    weighs: bool,
    limit: int | None,
) -> None:
    """Add windows of one shape to a tally; all of them go into how many there are if `counts`."""
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
    # Whatever the rule, of a window with one value it makes that.
    alike = Windows(piece.samples[:1, ~telling], piece.values[~telling], (1,) * len(piece.shape))
    wrong = int(differing(Rule("nearest", offset=(0,) * len(piece.shape)), alike).sum())
    made: dict[Rule, int] = {}
    for index, rule in rules:
        if rule not in made:
            made[rule] = wrong + (int(differing(rule, mixed).sum()) if len(chosen) else 0)
        tally.differing[index] += made[rule]
    if weighs and counts and limit is None:
        _weigh(tally, piece, uniform, mixed if not every else piece.at(~uniform))


def _weigh(tally: Tally, piece: Windows, uniform: npt.NDArray[np.bool_], mixed: Windows) -> None:
    """Add up how bright the level is, and how bright means of the windows without bias would be."""
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
