"""Rules by which tools make a level from a finer one, and the comparison of a rule with values.

A rule gives the value of a voxel from its window. `candidates` lists the rules that could have made a level, the most
likely first; `differing` compares one of them with windows laid out as lines: samples along the first axis, windows
along the second. It is plain numpy, so that levels are checked by other code than the kernels that made them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..image.boxes import Block

Mask: TypeAlias = npt.NDArray[np.bool_]
Family: TypeAlias = Literal["mean", "sum", "nearest", "median", "mode", "mode_nonzero", "min", "max", "window"]

# What fills a partial window; "reduced" uses only the samples that exist.
ENDINGS = ("reduced", "edge", "zeros")
ROUNDINGS = ("half to even", "half up", "down", "up")
SIGNED_ROUNDINGS = ("half away from zero", "towards zero")
TIES = ("the smallest", "the largest", "the first", "the last")
COUNTLESS = "the sample that COUNTLESS chooses"
IGNORING_NAN = "ignoring NaN"
# Votes: their rules never count NaN as a value, even if the tool did.
VOTES: tuple[Family, ...] = ("mode", "mode_nonzero")
# Loose rules, which several values satisfy, for tools with their own rounding or choice.
ANY_ROUNDING, ANY_TIE, ANY_SAMPLE = "up or down", "any of them", "any of its samples"
# In windows of up to so many samples, every offset of "nearest" is tried, else only corners and the middle.
MOST_OFFSETS = 4096
# Units in the last place by which sums in another order or in single precision may differ.
FLOAT_ULPS = 16
# Samples that are sorted at a time, few enough to stay in cache.
SORTED_SAMPLES = 2**18
LOW_BITS = np.uint64(2**32 - 1)

_PHRASES = {
    "mean": "rounded {}",
    "median": "rounded {}",
    "mode": "ties go to {}",
    "mode_nonzero": "ties go to {}",
    "window": "{}",
}
_ENDING_PHRASES = {
    "reduced": "partial windows of their samples",
    "edge": "partial windows filled with the last samples",
    "zeros": "partial windows filled with zeros",
}


@dataclass(frozen=True)
class Rule:
    """How the value of a voxel follows from its window."""

    family: Family
    """The method."""
    how: str = ""
    """How it rounds, or which of several values it chooses; empty if there is nothing to choose."""
    offset: tuple[int, ...] | None = None
    """The sample of the window that "nearest" takes, along each axis."""
    ending: str = ""
    """How partial windows are filled; empty if there are none."""

    @property
    def is_placed(self) -> bool:
        """Whether it takes the sample at a fixed position of the window."""
        return self.offset is not None

    @property
    def is_vote(self) -> bool:
        """Whether it takes the most frequent value, which is not unique if all values differ."""
        return self.family == "mode"

    @property
    def keeps_brightness(self) -> bool:
        """Whether the mean of the level is the mean of its windows, up to rounding."""
        return self.family == "mean"

    @property
    def keeps_constants(self) -> bool:
        """Whether equal samples give their value."""
        return self.family != "sum"

    @property
    def is_loose(self) -> bool:
        """Whether several values satisfy the rule."""
        return self.how in (ANY_ROUNDING, ANY_TIE, ANY_SAMPLE)

    def origin(self, factors: Sequence[int]) -> tuple[float, ...]:
        """Return the position of a value in its window, in samples from the first one."""
        if self.offset is not None:
            return tuple(map(float, self.offset))
        return tuple((factor - 1) / 2 for factor in factors)

    def __str__(self) -> str:
        """Return the rule in words."""
        parts = [self.family.replace("_", " but ")]
        if self.offset is not None:
            parts.append(f"offset {', '.join(map(str, self.offset))}")
        if self.how:
            phrase = "{}" if self.how == IGNORING_NAN else _PHRASES.get(self.family, "{}")
            parts.append(phrase.format(self.how))
        if self.ending:
            parts.append(_ENDING_PHRASES[self.ending])
        return ", ".join(parts)


def candidates(
    dtype: np.dtype[Any], out: np.dtype[Any], factors: Sequence[int], *, partial: bool, labels: bool
) -> tuple[Rule, ...]:
    """Return the rules that could make a level of dtype `out` from one of `dtype`, the most likely first."""
    whole = "iub".find(out.kind) >= 0 and "iub".find(dtype.kind) >= 0
    if dtype.kind == "c" or out.kind == "c":
        numbers, picks = [Rule("mean")], []
    elif whole:
        numbers = list(_whole_numbers(dtype, out, factors, partial=partial))
        picks = list(_picks(factors))
    else:
        numbers = [
            Rule(family, how) for family in ("mean", "median", "min", "max", "sum") for how in ("", IGNORING_NAN)
        ]
        picks = list(_picks(factors))
    extremes: list[Rule] = [Rule("min"), Rule("max")] if whole else []
    nearest = [Rule("nearest", offset=offset) for offset in _offsets(factors)]
    ordered = [*nearest, *picks, *numbers, *extremes] if labels else [*numbers, *nearest, *extremes, *picks]
    loose = [*([Rule("mean", ANY_ROUNDING)] if whole else []), *([Rule("mode", ANY_TIE)] if picks else [])]
    ordered += [*loose, Rule("window", ANY_SAMPLE)]
    if not partial:
        return tuple(ordered)
    filled = [replace(rule, ending=end) for end in ENDINGS for rule in ordered if rule.family != "nearest"]
    return tuple(sorted([*filled, *nearest], key=lambda rule: ordered.index(replace(rule, ending=""))))


def _whole_numbers(
    dtype: np.dtype[Any], out: np.dtype[Any], factors: Sequence[int], *, partial: bool
) -> Iterator[Rule]:
    roundings = (*ROUNDINGS, *(SIGNED_ROUNDINGS if dtype.kind == "i" else ()))
    if out != dtype:
        yield Rule("sum")
    yield from (Rule("mean", how) for how in roundings)
    # With an odd number of samples, the median is one of them.
    even = partial or math.prod(factors) % 2 == 0
    yield from (Rule("median", how) for how in ((*roundings, "to the lower", "to the upper") if even else ("",)))
    if out == dtype:
        yield Rule("sum")


def _picks(factors: Sequence[int]) -> Iterator[Rule]:
    yield from (Rule("mode", tie) for tie in TIES)
    if math.prod(factors) == 4 and max(factors) == 2:
        yield Rule("mode", COUNTLESS)
    yield Rule("mode_nonzero", TIES[0])


def _offsets(factors: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if math.prod(factors) <= MOST_OFFSETS:
        yield from itertools.product(*map(range, factors))
        return
    yield from itertools.product(*(sorted({0, (f - 1) // 2, f // 2, f - 1}) for f in factors))


# --- windows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowLines:
    """Windows of one shape as lines, with the value that a level has for each."""

    samples: Block
    """Samples of each window along the first axis, windows along the second."""
    values: Block
    """The level's value for each window."""
    shape: tuple[int, ...]
    """Samples of a window by axis."""

    def at(self, chosen: Any) -> WindowLines:
        """Return some of the windows."""
        return WindowLines(np.ascontiguousarray(self.samples[:, chosen]), self.values[chosen], self.shape)

    @cached_property
    def uniform(self) -> Mask:
        """Which windows have only one value, and so do not distinguish rules."""
        return cast("Mask", (self.samples == self.samples[0]).all(axis=0))

    def pieces(self) -> Iterator[WindowLines]:
        """Yield the windows a few at a time."""
        step = max(SORTED_SAMPLES // len(self.samples), 1)
        for start in range(0, self.samples.shape[1], step):
            yield self.at(slice(start, start + step))

    @cached_property
    def mean(self) -> tuple[Block, Block]:
        """The mean of integers, as the integer below it and the remainder of the sum."""
        samples, count = self.samples, len(self.samples)
        if samples.dtype.itemsize < 8:
            return cast("tuple[Block, Block]", np.divmod(samples.sum(axis=0, dtype=np.int64), count))
        # Sums of 32-bit halves are exact where sums of 64-bit integers overflow.
        low = (samples & samples.dtype.type(LOW_BITS)).astype(np.int64).sum(axis=0)
        quotient, rest = np.divmod((samples >> samples.dtype.type(32)).astype(np.int64).sum(axis=0), count)
        more, rest = np.divmod((rest << 32) + low, count)
        shift = samples.dtype.type(32)
        return (quotient.astype(samples.dtype) << shift) + more.astype(samples.dtype), rest

    @cached_property
    def counts(self) -> Block:
        """How often each sample's value is in its window."""
        order = np.argsort(self.samples, axis=0, kind="stable")
        ordered = np.take_along_axis(self.samples, order, axis=0)
        runs = np.ones(ordered.shape, np.int32)
        for i in range(1, len(runs)):
            runs[i] += np.where(ordered[i] == ordered[i - 1], runs[i - 1], 0)
        for i in range(len(runs) - 2, -1, -1):
            runs[i] = np.where(ordered[i] == ordered[i + 1], runs[i + 1], runs[i])
        counts = np.empty_like(runs)
        np.put_along_axis(counts, order, runs, axis=0)
        return counts

    @cached_property
    def ordered(self) -> Block:
        """The samples of each window in order."""
        return np.sort(self.samples, axis=0)


def window_lines(
    source: Block, values: Block, first: Sequence[int], size: Sequence[int], factors: Sequence[int]
) -> Iterator[tuple[dict[str, WindowLines], bool]]:
    """Yield the windows under a block of a level by shape: whole windows, then partial ones.

    Parameters
    ----------
    source
        The samples under the block, beginning with the first sample of its first window.
    values
        The block.
    first
        First sample of the block in its level.
    size
        Shape of the source.
    factors
        Samples of a whole window, along each axis.

    Yields
    ------
    tuple
        The windows for each ending (only "reduced" for whole ones), and whether they are partial.
    """
    axes = [list(_segments(*along)) for along in zip(first, values.shape, size, factors, strict=True)]
    for segments in itertools.product(*axes):
        shape = tuple(window for _, _, window in segments)
        part = values[tuple(slice(start, stop) for start, stop, _ in segments)]
        under = tuple(
            slice(start * f, start * f + (stop - start) * window)
            for (start, stop, window), f in zip(segments, factors, strict=True)
        )
        block = source[under]
        found = {"reduced": _as_lines(block, part, shape)}
        partial = shape != tuple(factors)
        if partial:
            margins = [(0, f - window) for f, window in zip(factors, shape, strict=True)]
            for ending, mode in (("edge", "edge"), ("zeros", "constant")):
                padded = np.pad(block, margins, mode=cast("Any", mode))
                found[ending] = _as_lines(padded, part, tuple(factors))
        yield found, partial


def _segments(first: int, length: int, size: int, factor: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, samples per window) of the whole windows along an axis, and of a partial one."""
    whole = min(max(size // factor - first, 0), length)
    if whole:
        yield 0, whole, factor
    if whole < length:
        yield whole, length, size - (first + whole) * factor


def _as_lines(block: Block, values: Block, shape: tuple[int, ...]) -> WindowLines:
    split = [n for size, window in zip(values.shape, shape, strict=True) for n in (size, window)]
    order = [*range(1, 2 * len(shape), 2), *range(0, 2 * len(shape), 2)]
    lines = block.reshape(split).transpose(order).reshape(math.prod(shape), -1)
    return WindowLines(lines, values.reshape(-1), shape)


# --- rules against windows -------------------------------------------------------------------------------------


def differing(rule: Rule, windows: WindowLines) -> Mask:
    """Return which values differ from those that a rule gives for their windows."""
    samples, values = windows.samples, windows.values
    match rule.family:
        case "window":
            return ~cast("Mask", (samples == values).any(axis=0))
        case "nearest":
            offset = [min(o, n - 1) for o, n in zip(cast("Any", rule.offset), windows.shape, strict=True)]
            return _unequal(samples[int(np.ravel_multi_index(offset, windows.shape))], windows)
        case "mode" | "mode_nonzero":
            return _mode_differs(rule, windows)
        case "min" | "max":
            return _unequal(_extreme_values(rule, samples), windows)
        case "sum":
            return _unequal(_sum(rule, windows), windows, len(samples))
        case "median":
            return _unequal(_median(rule, windows), windows)
    if rule.how == ANY_ROUNDING:
        below, rest = windows.mean
        return cast("Mask", (values != below) & ((rest == 0) | (values != below + 1)))
    return _unequal(_mean(rule, windows), windows)


def _unequal(expected: Block, windows: WindowLines, terms: int = 1) -> Mask:
    """Return where values differ; floats, sums of `terms`, may differ by some units in the last place."""
    values = windows.values
    if values.dtype.kind not in "fc" and expected.dtype.kind not in "fc":
        return cast("Mask", expected != values)
    precision = np.finfo(values.dtype if values.dtype.kind in "fc" else expected.dtype).eps
    with np.errstate(all="ignore"):
        size = terms * np.fmax.reduce(np.abs(windows.samples), axis=0)
        near = np.abs(expected - values) <= FLOAT_ULPS * precision * size
    return cast("Mask", ~(near | (expected == values) | ((expected != expected) & (values != values))))


def _sum(rule: Rule, windows: WindowLines) -> Block:
    samples = windows.samples
    if samples.dtype.kind not in "fc":
        return np.asarray(samples.sum(axis=0, dtype=windows.values.dtype))
    samples = samples.astype(np.result_type(samples.dtype, np.float64))
    if rule.how != IGNORING_NAN:
        return np.asarray(samples.sum(axis=0))
    valid = samples == samples
    return np.where(valid.any(axis=0), np.where(valid, samples, 0).sum(axis=0), np.nan)


def _mean(rule: Rule, windows: WindowLines) -> Block:
    samples = windows.samples
    if samples.dtype.kind in "iu" and rule.how in (*ROUNDINGS, *SIGNED_ROUNDINGS):
        return rounded(*windows.mean, len(samples), rule.how)
    samples = samples.astype(np.result_type(samples.dtype, np.float64))
    with np.errstate(all="ignore"):
        if rule.how != IGNORING_NAN:
            return cast("Block", samples.mean(axis=0))
        valid = samples == samples
        return cast("Block", np.where(valid, samples, 0).sum(axis=0) / valid.sum(axis=0))


def rounded(below: Block, rest: Block, count: int, how: str) -> Block:
    """Return means of `count` samples, given as integer and remainder, rounded to integers."""
    twice = 2 * rest
    match how:
        case "half to even":
            more = (twice > count) | ((twice == count) & (below % 2 == 1))
        case "half up":
            more = twice >= count
        case "half away from zero":
            more = (twice > count) | ((twice == count) & (below >= 0))
        case "towards zero":
            more = (below < 0) & (rest > 0)
        case "up":
            more = rest > 0
        case _:
            more = np.zeros(below.shape, np.bool_)
    return cast("Block", below + more)


def _extreme_values(rule: Rule, samples: Block) -> Block:
    least, greatest = (np.fmin, np.fmax) if rule.how == IGNORING_NAN else (np.minimum, np.maximum)
    return cast("Block", (least if rule.family == "min" else greatest).reduce(samples, axis=0))


def _median(rule: Rule, windows: WindowLines) -> Block:
    ordered, count = windows.ordered, len(windows.samples)
    lower, upper = ordered[(count - 1) // 2], ordered[count // 2]
    if ordered.dtype.kind not in "iu":
        # NaN is sorted to the end.
        valid = (ordered == ordered).sum(axis=0)
        if rule.how == IGNORING_NAN:
            at = np.clip(np.stack([(valid - 1) // 2, valid // 2]), 0, count - 1)
            lower, upper = np.take_along_axis(ordered, at, axis=0)
        middle = lower / 2 + upper / 2
        return cast("Block", middle if rule.how == IGNORING_NAN else np.where(valid == count, middle, np.nan))
    if rule.how in ("", "to the lower", "to the upper") or count % 2:
        return cast("Block", upper if rule.how == "to the upper" else lower)
    # The mean of two integers without a sum that could overflow.
    return rounded((lower & upper) + ((lower ^ upper) >> 1), ((lower ^ upper) & 1).astype(np.int64), 2, rule.how)


def _mode_differs(rule: Rule, windows: WindowLines) -> Mask:
    samples, counts = windows.samples, windows.counts
    # A missing value does not count.
    counts = np.where(samples == samples, counts, -1)
    if rule.family == "mode_nonzero":
        counts = np.where(samples == 0, 0, counts)
    best = counts == counts.max(axis=0)
    if rule.how == ANY_TIE:
        return ~cast("Mask", (best & (samples == windows.values)).any(axis=0))
    match rule.how:
        case "the smallest":
            chosen = np.fmin.reduce(np.where(best, samples, samples.max(axis=0)), axis=0)
        case "the largest":
            chosen = np.fmax.reduce(np.where(best, samples, samples.min(axis=0)), axis=0)
        case "the first":
            chosen = np.take_along_axis(samples, best.argmax(axis=0)[None], axis=0)[0]
        case "the last":
            last = len(samples) - 1 - best[::-1].argmax(axis=0)
            chosen = np.take_along_axis(samples, last[None], axis=0)[0]
        case _:
            chosen = _countless(samples) if len(samples) == 4 else samples[-1]
    return _unequal(cast("Block", chosen), windows)


def _countless(samples: Block) -> Block:
    """Return what the COUNTLESS algorithm of tinybrain gives for windows of 2 x 2: the first of two equal samples."""
    a, b, c, d = samples
    return cast("Block", np.where((a == b) | (a == c), a, np.where(b == c, b, d)))
