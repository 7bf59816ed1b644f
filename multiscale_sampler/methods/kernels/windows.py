"""Which samples of a block each window covers, for blocks of any rank.

A row is the block along the last reduced axis. The axes after that one form contiguous runs of `inner` elements, which
are reduced element by element. `window_rows` groups the rows of windows that cover equally many rows of samples: whole
ones first, then partial ones at the ends of the block. Loops go over rows of windows, then over the rows of samples of
each, the windows of the row, the samples of a window in it, and the elements of the run. They visit the samples of a
window in C order, which fixes the rounding of sums of floats for any rank. The last window of a row may be partial,
unless a loop asks for windows of the same size.

Compilers vectorize loops over contiguous memory. `deinterleave` therefore copies the same sample of many windows side
by side, and loops work on whole lines.
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

# Rows of windows described per batch.
BATCH_ROWS = 2**14
# From this many elements on, loops over an inner run are vectorized well enough.
WIDE = 64
# Bits and mask of the lower half of a 64-bit integer.
HALF_BITS = np.uint64(32)
LOWER_HALF = np.uint64(2**32 - 1)


class WindowRows(NamedTuple):
    """Rows of windows that cover equally many samples, as offsets into the flat block and the flat result."""

    origins: Int64s
    """Offset of the first sample of each row of windows in the block."""
    targets: Int64s
    """Offset of the value of the first window of each row in the result."""
    offsets: Int64s
    """Offsets of the rows of samples of a window from its first sample."""
    size: int
    """Samples along a row; the last window may have fewer than the others."""
    factor: int
    """Samples of a whole window along a row."""
    inner: int
    """Elements of the contiguous run after the last reduced axis."""

    @property
    def samples(self) -> int:
        """Samples of a window that is not partial along the row."""
        return len(self.offsets) * self.factor

    @property
    def width(self) -> int:
        """Values of the result for one row of windows."""
        return -(-self.size // self.factor) * self.inner

    def rows(self, first: int, last: int) -> WindowRows:
        """Return the rows of windows from `first` up to `last`."""
        return self._replace(origins=self.origins[first:last], targets=self.targets[first:last])


class Missing(NamedTuple):
    """Which values of a block are missing and ignored, and the value of windows without valid ones."""

    skip_nan: bool
    """Whether NaN is ignored."""
    nodata: Any
    """The value that is ignored, of the block's dtype, or None."""
    min_valid: float = 0.0
    """The fraction of the samples of a window that must be valid; a window with fewer counts as one without any."""

    def __bool__(self) -> bool:
        """Whether values can be missing."""
        return self.skip_nan or self.nodata is not None

    def unsigned(self, dtype: np.dtype[Any]) -> Missing:
        """Return the rule for a block of this dtype after `as_unsigned`."""
        if self.nodata is None:
            return self
        return self._replace(nodata=as_unsigned(np.array([self.nodata], dtype))[0])

    def arguments(self, dtype: np.dtype[Any]) -> tuple[bool, bool, Any]:
        """Return (skip_nan, has_nodata, nodata), as kernels take the rule."""
        return self.skip_nan, self.nodata is not None, dtype.type(0 if self.nodata is None else self.nodata)

    def fill(self, dtype: np.dtype[Any]) -> Any:
        """Return the value of a window without valid samples: nodata, else NaN."""
        if self.nodata is not None:
            return dtype.type(self.nodata)
        return dtype.type(np.nan if self.skip_nan else 0)


def window_rows(shape: tuple[int, ...], factors: tuple[int, ...], *, same_size: bool = False) -> Iterable[WindowRows]:
    """Return the rows of windows of a C-contiguous block: whole windows, then the partial ones at each end.

    A partial window at the end of a row is part of its row, unless `same_size` asks for groups of equal windows.
    """
    along = _last_reduced(factors)
    # Offsets of very many rows would take memory comparable to the block itself: describe these in batches.
    is_small = math.prod(reduced_shape(shape[:along], factors[:along])) + math.prod(factors[:along]) <= BATCH_ROWS
    return _cached_rows(shape, factors, same_size) if is_small else _iter_rows(shape, factors, same_size)


@lru_cache(maxsize=64)
def _cached_rows(shape: tuple[int, ...], factors: tuple[int, ...], same_size: bool) -> tuple[WindowRows, ...]:
    return tuple(_iter_rows(shape, factors, same_size))


def _iter_rows(shape: tuple[int, ...], factors: tuple[int, ...], same_size: bool) -> Iterator[WindowRows]:
    along = _last_reduced(factors)
    strides, steps = (
        [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))] for sizes in (shape, reduced_shape(shape, factors))
    )
    spans = [_whole_and_partial(size, factor) for size, factor in zip(shape, factors, strict=True)]
    row_spans = spans[along] if same_size else [(0, -(-shape[along] // factors[along]), factors[along])]
    for *outer, (begin, windows, factor) in itertools.product(*spans[:along], row_spans):
        size = min(windows * factor, shape[along])
        first, target = begin * strides[along], begin // factors[along] * steps[along]
        offsets = np.zeros(1, np.int64)
        for (at, _, samples), by, stride, step in zip(outer, factors, strides, steps, strict=False):
            first, target = first + at * stride, target + at // by * step
            offsets = np.add.outer(offsets, np.arange(samples) * stride).reshape(-1)
        counts = [number for _, number, _ in outer]
        for row in range(0, math.prod(counts), BATCH_ROWS):
            rows = np.arange(row, min(row + BATCH_ROWS, math.prod(counts)))
            origins, targets = np.full_like(rows, first), np.full_like(rows, target)
            for axis, index in enumerate(np.unravel_index(rows, counts) if counts else ()):
                origins += index * (factors[axis] * strides[axis])
                targets += index * steps[axis]
            yield WindowRows(origins, targets, offsets, size, factor, strides[along])


def _whole_and_partial(size: int, factor: int) -> list[tuple[int, int, int]]:
    """Return (first sample, windows, samples of each) of the whole windows of an axis and of the partial one."""
    whole, rest = divmod(size, factor)
    return [span for span in ((0, whole, factor), (whole * factor, 1, rest)) if span[1] * span[2]]


def _last_reduced(factors: tuple[int, ...]) -> int:
    return max((axis for axis, factor in enumerate(factors) if factor > 1), default=0)


def reduced_shape(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of windows along each axis, partial ones included."""
    return tuple(-(-size // factor) for size, factor in zip(shape, factors, strict=True))


def as_unsigned(values: Block) -> Block:
    """Return numbers as unsigned integers of the same width and in the same order.

    This needs only one compiled loop per width. -0.0 becomes 0.0, and NaN the largest value. Unsigned integers are
    returned as they are, others copied.
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
    """Return the values of this dtype that `as_unsigned` mapped to `values`, in the same memory."""
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
    """Map the bits of floats to unsigned integers in the order of the floats."""
    for i in range(len(bits)):
        magnitude = bits[i] & (last ^ sign)
        positive = (bits[i] == magnitude) | (magnitude == 0)
        number = magnitude | sign if positive else bits[i] ^ last
        ordered[i] = last if magnitude > infinity else number


@compiled
def _restore_bits(values, sign, last, nan):  # type: ignore[no-untyped-def]
    """Restore the bits of floats from the results of `_order_bits`."""
    for i in range(len(values)):
        value = values[i]
        bits = value ^ sign if value >= sign else value ^ last
        values[i] = nan if value == last else bits


@helper
def deinterleave(samples, factor, inner, run, rest, lines, at):  # type: ignore[no-untyped-def]
    """Copy the first, second, ... samples of the windows of a row to one line each, from line `at` on.

    A line takes `run` elements of each window, which are its inner run or the beginning of that; its length gives the
    number of windows. With a `rest` that is not zero the last window has only that many samples, and the other lines
    are not written there.
    """
    width = lines.shape[1] - (run if rest > 0 else 0)
    # With constant factors the compiler uses vector shuffles.
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
    """Return how many windows of a row of `size` samples have a sample with this index: all, or all but the last."""
    return (size - sample + factor - 1) // factor
