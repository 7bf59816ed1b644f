"""Which samples of a block each window covers, for blocks of any rank.

A block is taken as rows. Axes behind the last reduced one form an `inner` run that moves as one; neighbouring
axes that are not reduced are merged; the last reduced axis is the row. Every loop of this package then reads:
for each row of windows, for each input row that they cover (`window_rows`), for each window of the row, for
each sample, for each element of the inner run. Sums of floats visit the samples of a window in C order, which
fixes their rounding whatever the rank. A last, partial window has the samples that there are; loops that want all
windows alike are given the whole ones first and each end by itself (`whole_windows`).

Loops are compiled to vector instructions where they go along a line of memory, so `split` brings the same
sample of many windows side by side first, and what follows is arithmetic of whole lines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .compiling import compiled, helper

Block = npt.NDArray[Any]

# Inner runs of this many elements fill vector registers by themselves.
WIDE = 64


class Windows(NamedTuple):
    """The windows of one block, as arrays and integers that a kernel can take."""

    sizes: npt.NDArray[np.int64]
    """Input samples along each merged axis; the last one is the row."""
    factors: npt.NDArray[np.int64]
    """Samples per window along each merged axis."""
    strides: npt.NDArray[np.int64]
    """Elements from one sample to the next along each merged axis."""
    inner: int
    """Elements of the run that moves as one."""
    starts: npt.NDArray[np.int64]
    """Room for the offsets of the input rows that a window covers, which a kernel fills (`window_rows`)."""


class WholeWindows(NamedTuple):
    """Windows of a block that all have as many samples, as offsets into it and into what it is reduced to."""

    origins: npt.NDArray[np.int64]
    """Where the first sample of each row of windows is."""
    targets: npt.NDArray[np.int64]
    """Where the value of the first window of each row goes."""
    offsets: npt.NDArray[np.int64]
    """How far behind the first sample of a window each of its rows of samples begins."""
    windows: int
    """Windows of a row."""
    factor: int
    """Samples of a window along a row."""
    inner: int
    """Elements of the run that moves as one."""


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


def block_windows(shape: tuple[int, ...], factors: tuple[int, ...]) -> Windows:
    """Return the windows of `factors` samples over a C-contiguous block of `shape`."""
    merged: list[tuple[int, int]] = []
    for size, factor in zip(shape, factors, strict=True):
        if merged and factor == 1 and merged[-1][1] == 1:
            merged[-1] = (merged[-1][0] * size, 1)
        else:
            merged.append((size, factor))
    inner = merged.pop()[0] if len(merged) > 1 and merged[-1][1] == 1 else 1
    sizes = [size for size, _ in merged]
    strides = [inner * math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    return Windows(
        np.array(sizes, np.int64),
        np.array([factor for _, factor in merged], np.int64),
        np.array(strides, np.int64),
        inner,
        np.empty(math.prod(factor for _, factor in merged[:-1]), np.int64),
    )


def whole_windows(shape: tuple[int, ...], factors: tuple[int, ...]) -> Iterator[WholeWindows]:
    """Yield the windows of a C-contiguous block: the whole ones, then those that its ends cut short, end by end."""
    along = max((axis for axis, factor in enumerate(factors) if factor > 1), default=0)
    strides, steps = (
        [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))] for sizes in (shape, reduced_shape(shape, factors))
    )
    # Of each axis the first sample, the number of windows, and their samples.
    ends = []
    for size, factor in zip(shape[: along + 1], factors[: along + 1], strict=True):
        whole, rest = divmod(size, factor)
        ends.append([span for span in ((0, whole, factor), (whole * factor, 1, rest)) if span[1] * span[2]])
    for spans in itertools.product(*ends):
        *outer, (begin, windows, factor) = spans
        yield WholeWindows(
            _sums(
                begin * strides[along],
                [(b + f * np.arange(n)) * s for (b, n, f), s in zip(outer, strides, strict=False)],
            ),
            _sums(
                begin // factors[along] * steps[along],
                [(b // f + np.arange(n)) * s for (b, n, _), f, s in zip(outer, factors, steps, strict=False)],
            ),
            _sums(0, [np.arange(f) * s for (_, _, f), s in zip(outer, strides, strict=False)]),
            windows,
            factor,
            strides[along],
        )


def _sums(start: int, terms: Iterable[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return the sums of one of each of some numbers, in C order."""
    total = np.array([start], np.int64)
    for term in terms:
        total = np.add.outer(total, term).reshape(-1)
    return total


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


def halved_shape(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of a block whose last two or three axes are halved, with those before in the first of them.

    None where other axes are reduced, or windows are partial.
    """
    kept = factors.index(2) if 2 in factors else 0
    sizes = shape[kept:]
    if len(sizes) not in (2, 3) or factors != (1,) * kept + (2,) * len(sizes) or any(n % 2 for n in sizes):
        return None
    return math.prod(shape[: kept + 1]), *sizes[1:]


def as_rows(block: Block, windows: Windows) -> Block:
    """Return a result block as a view of shape (rows of windows, windows of a row x inner run)."""
    columns = -(-int(windows.sizes[-1]) // int(windows.factors[-1])) * windows.inner
    return block.reshape(-1, columns)


@helper
def window_rows(row, covered, sizes, factors, strides, starts):  # type: ignore[no-untyped-def]
    """Fill `starts` with the offsets of the input rows under one row of windows, in C order; return how many.

    Rows of windows are taken in order, and `covered` is what this returned for the one before: most have the same
    offsets, moved by a window. For the first one it is zero, but no literal one: that would have a type of its own,
    for which all that it is given to is compiled once more.
    """
    last = len(sizes) - 2
    if last >= 0:
        position = row % ((sizes[last] + factors[last] - 1) // factors[last])
        if covered > 0 and position > 0 and (position + 1) * factors[last] <= sizes[last]:
            for k in range(covered):
                starts[k] += factors[last] * strides[last]
            return covered
    remaining, count = row, 1
    starts[0] = 0
    for axis in range(last, -1, -1):
        along = (sizes[axis] + factors[axis] - 1) // factors[axis]
        outer = remaining // along
        lower = (remaining - outer * along) * factors[axis]
        remaining = outer
        held = min(factors[axis], sizes[axis] - lower)
        # Backwards, so that the offsets found so far are read before they are overwritten.
        for sample in range(held - 1, -1, -1):
            for found in range(count):
                starts[sample * count + found] = starts[found] + (lower + sample) * strides[axis]
        count *= held
    return count


@helper
def split(samples, size, factor, inner, lines):  # type: ignore[no-untyped-def]
    """Bring the first, second, ... samples of the windows of a row side by side, each in a line of its own.

    The windows are those of the next `size` samples, as many as fill the lines with their inner runs; where the last
    window has no sample, a line is left as it is.
    """
    whole = size // factor
    # Numbers that are known to the compiler become shuffles of vectors.
    if inner == 1 and factor == 2:
        a, b = lines[0], lines[1]
        for i in range(whole):
            a[i], b[i] = samples[2 * i], samples[2 * i + 1]
    else:
        for sample in range(factor):
            line = lines[sample]
            if inner == 1 and factor == 3:
                for i in range(whole):
                    line[i] = samples[3 * i + sample]
            else:
                for window in range(whole):
                    source = samples[(window * factor + sample) * inner :]
                    for i in range(inner):
                        line[window * inner + i] = source[i]
    for sample in range(size - whole * factor):
        for i in range(inner):
            lines[sample, whole * inner + i] = samples[(whole * factor + sample) * inner + i]


@helper
def windows_with(sample, size, factor):  # type: ignore[no-untyped-def]
    """Return how many windows of a row of `size` samples have a sample of this number: all, or all but the last."""
    return (size - sample + factor - 1) // factor
