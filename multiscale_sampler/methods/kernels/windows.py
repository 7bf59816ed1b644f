"""Which samples of a block each window covers, for blocks of any rank.

A block is taken as rows. Axes behind the last reduced one form an `inner` run that moves as one, and the last reduced
axis is the row. Rows of windows come in groups that cover as many rows of samples: the whole ones first, then those
that an end of the block cuts short (`windows_of`). Every loop of this package then reads: for each row of windows, for
each row of samples that they cover, for each window of the row, for each of its samples there, for each element of the
inner run. Sums of floats visit the samples of a window in C order, which fixes their rounding whatever the rank. The
last window of a row may be partial, but for loops that want all windows alike.

Loops are compiled to vector instructions where they go along a line of memory, so `split` brings the same
sample of many windows side by side first, and what follows is arithmetic of whole lines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...image.boxes import Block
from .compiling import compiled, helper

Int64s: TypeAlias = npt.NDArray[np.int64]

# Rows of windows that are told of at a time.
ROWS = 2**14
# Inner runs of this many elements fill vector registers by themselves.
WIDE = 64
# Where a 64-bit integer is cut into an upper and a lower half.
HALF_BITS = np.uint64(32)
LOWER_HALF = np.uint64(2**32 - 1)


class Windows(NamedTuple):
    """Rows of windows that cover as many samples, as offsets into a block and into what it is reduced to."""

    origins: Int64s
    """Where the first sample of each row of windows is."""
    targets: Int64s
    """Where the value of the first window of each row goes."""
    offsets: Int64s
    """How far behind the first sample of a window each of its rows of samples begins."""
    size: int
    """Samples along a row, of which the last window may have fewer than others."""
    factor: int
    """Samples of a window along a row."""
    inner: int
    """Elements of the run that moves as one."""

    @property
    def samples(self) -> int:
        """Samples of a window, but of a partial one at the end of a row."""
        return len(self.offsets) * self.factor

    @property
    def width(self) -> int:
        """Values that a row of windows is reduced to."""
        return -(-self.size // self.factor) * self.inner

    def rows(self, first: int, last: int) -> Windows:
        """Return some of the rows of windows."""
        return self._replace(origins=self.origins[first:last], targets=self.targets[first:last])


class Missing(NamedTuple):
    """Which values of a block are left out, and what stands for a window that has no others."""

    skip_nan: bool
    """Whether NaN is left out."""
    nodata: Any
    """The value that is left out, of the block's dtype, or None."""
    min_valid: float = 0.0
    """The least fraction of a window's samples that must be valid, or it counts as having no valid one."""

    def __bool__(self) -> bool:
        """Whether anything can be missing at all."""
        return self.skip_nan or self.nodata is not None

    def unsigned(self, dtype: np.dtype[Any]) -> Missing:
        """Return the same of a block of this dtype that `as_unsigned` made another of."""
        if self.nodata is None:
            return self
        return self._replace(nodata=as_unsigned(np.array([self.nodata], dtype))[0])

    def arguments(self, dtype: np.dtype[Any]) -> tuple[bool, bool, Any]:
        """Return (skip_nan, has_nodata, nodata), by which a kernel tells valid values from others."""
        return self.skip_nan, self.nodata is not None, dtype.type(0 if self.nodata is None else self.nodata)

    def fill(self, dtype: np.dtype[Any]) -> Any:
        """Return what a window without a valid value becomes: the nodata value, else NaN."""
        if self.nodata is not None:
            return dtype.type(self.nodata)
        return dtype.type(np.nan if self.skip_nan else 0)


def windows_of(shape: tuple[int, ...], factors: tuple[int, ...], *, alike: bool = False) -> Iterable[Windows]:
    """Return the windows of a C-contiguous block: the whole ones, then those that its ends cut short, end by end.

    The last window of a row is one of these only if all windows are to be alike.
    """
    along = _last_reduced(factors)
    # Of very many short rows, some at a time: what tells where they are is to be small beside them.
    few = math.prod(reduced_shape(shape[:along], factors[:along])) + math.prod(factors[:along]) <= ROWS
    return _few_windows(shape, factors, alike) if few else _all_windows(shape, factors, alike)


@lru_cache(maxsize=64)
def _few_windows(shape: tuple[int, ...], factors: tuple[int, ...], alike: bool) -> tuple[Windows, ...]:
    return tuple(_all_windows(shape, factors, alike))


def _all_windows(shape: tuple[int, ...], factors: tuple[int, ...], alike: bool) -> Iterator[Windows]:
    along = _last_reduced(factors)
    strides, steps = (
        [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))] for sizes in (shape, reduced_shape(shape, factors))
    )
    # Of each axis the first sample, the windows, and the samples of each.
    spans = [_spans(size, factor) for size, factor in zip(shape, factors, strict=True)]
    row_spans = spans[along] if alike else [(0, -(-shape[along] // factors[along]), factors[along])]
    for *outer, (begin, windows, factor) in itertools.product(*spans[:along], row_spans):
        size = min(windows * factor, shape[along])
        first, target = begin * strides[along], begin // factors[along] * steps[along]
        offsets = np.zeros(1, np.int64)
        for (at, _, samples), by, stride, step in zip(outer, factors, strides, steps, strict=False):
            first, target = first + at * stride, target + at // by * step
            offsets = np.add.outer(offsets, np.arange(samples) * stride).reshape(-1)
        counts = [number for _, number, _ in outer]
        for row in range(0, math.prod(counts), ROWS):
            rows = np.arange(row, min(row + ROWS, math.prod(counts)))
            origins, targets = np.full_like(rows, first), np.full_like(rows, target)
            for axis, index in enumerate(np.unravel_index(rows, counts) if counts else ()):
                origins += index * (factors[axis] * strides[axis])
                targets += index * steps[axis]
            yield Windows(origins, targets, offsets, size, factor, strides[along])


def _spans(size: int, factor: int) -> list[tuple[int, int, int]]:
    """Return of an axis (first sample, windows, samples of each) of the whole windows and of the partial one."""
    whole, rest = divmod(size, factor)
    return [span for span in ((0, whole, factor), (whole * factor, 1, rest)) if span[1] * span[2]]


def _last_reduced(factors: tuple[int, ...]) -> int:
    return max((axis for axis, factor in enumerate(factors) if factor > 1), default=0)


def reduced_shape(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of windows along each axis, a partial one included."""
    return tuple(-(-size // factor) for size, factor in zip(shape, factors, strict=True))


def as_unsigned(values: Block) -> Block:
    """Return numbers as unsigned integers of the same width that are in the same order.

    One compiled loop serves all of them then. Zero has one sign, and NaN is the greatest of all values. Unsigned
    integers are returned as they are, others copied.
    """
    if values.dtype.kind == "u":
        return values
    bits = values.view(f"u{values.itemsize}")
    sign = _sign_bit(bits.dtype)
    if values.dtype.kind == "i":
        flipped: Block = bits ^ sign
        return flipped
    ordered = np.empty_like(bits)
    infinity = np.array(np.inf, values.dtype).view(bits.dtype)[()]
    _order_bits(bits.reshape(-1), sign, infinity, ~bits.dtype.type(0), ordered.reshape(-1))
    return ordered


def from_unsigned(values: Block, dtype: np.dtype[Any]) -> Block:
    """Return what `as_unsigned` made of values of this dtype as those, in the same memory."""
    if dtype.kind == "u":
        return values
    sign = _sign_bit(values.dtype)
    if dtype.kind == "i":
        np.bitwise_xor(values, sign, out=values)
    else:
        nan = np.array(np.nan, dtype).view(values.dtype)[()]
        _restore_bits(values.reshape(-1), sign, ~values.dtype.type(0), nan)
    return values.view(dtype)


def _sign_bit(dtype: np.dtype[Any]) -> Any:
    return dtype.type(1 << (8 * dtype.itemsize - 1))


@compiled
def _order_bits(bits, sign, infinity, last, ordered):  # type: ignore[no-untyped-def]
    """Bring the bits of floats in the order of the floats."""
    for i in range(len(bits)):
        magnitude = bits[i] & (last ^ sign)
        positive = (bits[i] == magnitude) | (magnitude == 0)
        number = magnitude | sign if positive else bits[i] ^ last
        ordered[i] = last if magnitude > infinity else number


@compiled
def _restore_bits(values, sign, last, nan):  # type: ignore[no-untyped-def]
    """Make the bits of floats of what `_order_bits` made of them."""
    for i in range(len(values)):
        value = values[i]
        bits = value ^ sign if value >= sign else value ^ last
        values[i] = nan if value == last else bits


@helper
def split(samples, factor, inner, run, rest, lines, at):  # type: ignore[no-untyped-def]
    """Bring the first, second, ... samples of the windows of a row side by side, each in a line of its own from `at`.

    The windows are as many as fill the lines with a run of each, which is all of its inner run or the beginning of it.
    Of the last one there may be only a `rest` of samples, if that is not zero; other lines are left as they are there.
    """
    width = lines.shape[1] - (run if rest > 0 else 0)
    # Numbers that are known to the compiler become shuffles of vectors.
    if inner == 1 and factor == 2:
        a, b = lines[at], lines[at + 1]
        for i in range(width):
            a[i], b[i] = samples[2 * i], samples[2 * i + 1]
    else:
        for sample in range(factor):
            line, source = lines[at + sample], samples[sample * inner :]
            if inner == 1 and factor == 3:
                for i in range(width):
                    line[i] = source[3 * i]
            else:
                for window in range(width // run):
                    for i in range(run):
                        line[window * run + i] = source[window * factor * inner + i]
    for sample in range(rest):
        for i in range(run):
            lines[at + sample, width + i] = samples[width // run * factor * inner + sample * inner + i]


@helper
def windows_with(sample, size, factor):  # type: ignore[no-untyped-def]
    """Return how many windows of a row of `size` samples have a sample of this number: all, or all but the last."""
    return (size - sample + factor - 1) // factor
