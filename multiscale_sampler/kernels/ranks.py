"""The median and the mode of every window: the values are put in order and picked from.

Neither composes: the median of medians is not the median of the whole, so the table of reducers applies them
step by step. Medians of an even number of values are the mean of the two in the middle, rounded half to even
for integers; the mode of a tie is the least of the most frequent values. Neither the mode nor an odd median
ever makes a value that is not in the window.

All three methods are one loop, and what `labels` does faster is left to it. The windows of a row are taken a few at
a time and laid out as *lines*: one line for each sample of a window, one column for each window. Windows whose
samples are all the same (most of a segmentation, and of an empty background) are found before, and left out. The
columns are put in order by a sorting network, a fixed sequence of comparisons of two lines, which takes many windows
at once and needs no branches: up to thousands of samples it is faster than sorting window by window. Values that do
not count are replaced by one that comes last in order, and counted.

What a call has no use for is not compiled for it: an argument of `_pick_all` that is None takes the branches with it
that look for that.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from .compiling import compiled, helper
from .labels import mode_of_pairs
from .windows import (
    Block,
    Missing,
    as_unsigned,
    block_windows,
    from_unsigned,
    reduced_shape,
    split,
    window_rows,
)

# Columns of lines, at least as many as fill vectors, and bytes that all lines together should take at most: they stay
# in the nearest caches.
LEAST_COLUMNS, MOST_COLUMNS = 16, 1024
LINES_BYTES = 2**16
# From one of so many windows on that are mixed, all are laid out: whole lines take less time than single samples.
MANY = 4

Pick: TypeAlias = Literal["median", "mode", "mode_nonzero"]


def median(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the median of the valid values of every window."""
    values, missing = as_unsigned(block), missing.unsigned(block.dtype)
    upper = np.empty(reduced_shape(block.shape, factors), values.dtype)
    lower = _pick(values, factors, missing, upper=upper.reshape(-1))
    kernel = _middle_of_floats if block.dtype.kind == "f" else _middle_of_integers
    kernel(lower.reshape(-1), upper.reshape(-1))
    return from_unsigned(lower, block.dtype)


def mode(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid value of every window, of equally frequent ones the least."""
    return _mode(block, factors, missing)


def mode_nonzero(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid value but zero of every window, and zero where there is no other."""
    return _mode(block, factors, missing, zero=as_unsigned(np.zeros(1, block.dtype))[0])


def _mode(block: Block, factors: tuple[int, ...], missing: Missing, *, zero: Any = None) -> Block:
    values = as_unsigned(block)
    modes = None if missing else mode_of_pairs(values, factors, zero)
    if modes is None:
        modes = _pick(values, factors, missing.unsigned(block.dtype), zero=zero)
    return from_unsigned(modes, block.dtype)


def _pick(
    block: Block, factors: tuple[int, ...], missing: Missing, *, zero: Any = None, upper: Block | None = None
) -> Block:
    """Return the most frequent values; where `upper` is to be filled, the lower and there the upper of the middle.

    Integers are unsigned. Where there is a `zero`, it is left out, and stands for windows that have nothing else.
    """
    factors = tuple(min(factor, size) for factor, size in zip(factors, block.shape, strict=True))
    windows = block_windows(block.shape, factors)
    dtype = block.dtype
    lower = np.empty(reduced_shape(block.shape, factors), dtype)
    last = dtype.type(np.nan if dtype.kind == "f" else np.iinfo(dtype).max)
    skip_zero, zero = zero is not None, dtype.type(0) if zero is None else zero
    rule = (*missing.arguments(dtype), skip_zero, zero, missing.min_valid, missing.fill(dtype))
    samples = len(windows.starts) * int(windows.factors[-1])
    columns = min(MOST_COLUMNS, max(LEAST_COLUMNS, LINES_BYTES // (samples * dtype.itemsize)))
    _pick_all(
        block.reshape(-1),
        *windows,
        rule if missing or skip_zero else None,
        last,
        np.empty((samples, columns), dtype),
        np.empty((5, columns), np.int32),
        np.empty(columns, np.uint8),
        np.empty(columns, np.int64),
        lower.reshape(-1),
        upper,
        np.empty(columns, dtype) if upper is None else None,
    )
    return lower


@compiled
def _pick_all(  # type: ignore[no-untyped-def]
    x,
    sizes,
    factors,
    strides,
    inner,
    starts,
    rule,
    last,
    lines,
    counts,
    mixed,
    places,
    lower,
    upper,
    best,
):
    size, factor = sizes[-1], factors[-1]
    covered, columns = np.int64(0), len(mixed)
    windows = (size + factor - 1) // factor
    # Some windows with all their inner run, or a part of the run of one.
    together, piece = max(columns // inner, 1), min(inner, columns)
    done, used = np.int64(0), np.int64(0)
    for row in range(len(lower) // (windows * inner)):
        covered = window_rows(row, covered, sizes, factors, strides, starts)
        rows = starts[:covered]
        for window in range(0, windows, together):
            for offset in range(0, inner, piece):
                run = min(piece, inner - offset)
                width = min(together, windows - window) * run
                shift = window * factor * inner + offset
                shape = (size - window * factor, factor, inner, run)
                _find_mixed(x, rows, shift, shape, mixed[:width], lower[done : done + width])
                number = 0
                for i in range(width):
                    # Not the byte itself: in the interpreter its sum would be one too, and wrap around.
                    number += mixed[i] != 0
                wanted = width if MANY * number >= width else number
                if used + wanted > columns:
                    _pick_columns(lines, counts, places[:used], rule, last, lower, upper, best)
                    used = np.int64(0)
                if wanted == width:
                    _fill_lines(x, rows, shift, shape, last, lines, counts, used, width)
                    for i in range(width):
                        places[used + i] = done + i
                elif number > 0:
                    _gather(x, rows, shift, shape, last, mixed[:width], done, lines, counts, places, used)
                if upper is not None:
                    for i in range(done, done + width):
                        upper[i] = lower[i]
                used += wanted
                done += width
    _pick_columns(lines, counts, places[:used], rule, last, lower, upper, best)


@helper
def _find_mixed(x, rows, shift, shape, mixed, low):  # type: ignore[no-untyped-def]
    """Take the first sample of every window, and mark the windows in which not all are the same."""
    size, factor, inner, run = shape
    whole = min(size // factor, len(mixed) // run)
    for k in range(len(rows)):
        samples = x[rows[k] + shift :]
        if inner == 1 and factor == 2:
            if k == 0:
                for i in range(whole):
                    low[i] = samples[2 * i]
                    mixed[i] = samples[2 * i] != samples[2 * i + 1]
            else:
                for i in range(whole):
                    mixed[i] |= (samples[2 * i] != low[i]) | (samples[2 * i + 1] != low[i])
            continue
        for window in range(whole):
            at, to = window * factor * inner, window * run
            if k == 0:
                for i in range(run):
                    low[to + i] = samples[at + i]
                    mixed[to + i] = samples[at + i] != samples[at + i]
            for sample in range(factor):
                for i in range(run):
                    mixed[to + i] |= samples[at + sample * inner + i] != low[to + i]
    # A partial window has fewer samples than there are lines.
    for i in range(whole * run, len(mixed)):
        mixed[i] = 1


@helper
def _gather(x, rows, shift, shape, last, mixed, done, lines, counts, places, used):  # type: ignore[no-untyped-def]
    """Lay out the samples of the windows that are mixed, as `_fill_lines` does for all."""
    size, factor, inner, run = shape
    for i in range(len(mixed)):
        if mixed[i] == 0:
            continue
        window = i // run
        at = shift + window * factor * inner + i - window * run
        present = min(factor, size - window * factor)
        for k in range(len(rows)):
            for sample in range(factor):
                lines[k * factor + sample, used] = x[rows[k] + at + sample * inner] if sample < present else last
        for k in range(len(rows) * factor, len(lines)):
            lines[k, used] = last
        counts[0, used] = len(rows) * present
        places[used] = done + i
        used += 1


@helper
def _fill_lines(x, rows, shift, shape, last, lines, counts, left, width):  # type: ignore[no-untyped-def]
    """Lay out the samples of some windows, and count them; where a window has none, `last` stands for it."""
    size, factor, inner, run = shape
    right, whole = left + width, left + min(size // factor * run, width)
    for i in range(left, whole):
        counts[0, i] = len(rows) * factor
    for i in range(whole, right):
        counts[0, i] = len(rows) * (size % factor)
    for k in range(len(lines)):
        for i in range(whole if k < len(rows) * factor else left, right):
            lines[k, i] = last
    for k in range(len(rows)):
        split(x[rows[k] + shift :], size, factor, inner, run, lines, k * factor, left, width)


@helper
def _pick_columns(lines, counts, places, rule, last, lower, upper, best):  # type: ignore[no-untyped-def]
    """Pick the values of the windows laid out, and put them in their places."""
    if len(places) == 0:
        return
    kept = counts[0]
    if rule is not None:
        _leave_out(lines, counts, len(places), rule, last)
        kept = counts[2]
    _order_lines(lines, len(places))
    if upper is not None:
        _pick_middle(lines, kept, places, lower, upper)
    if best is not None:
        _pick_longest_runs(lines, counts, kept, places, lower, best)
    if rule is not None:
        _settle(counts, places, rule, lower, upper)


@helper
def _leave_out(lines, counts, number, rule, last):  # type: ignore[no-untyped-def]
    """Replace the values that do not count by one that is last in order; count the valid ones, and those kept."""
    skip_nan, has_nodata, nodata, skip_zero, zero, _, _ = rule
    samples, valid, kept = counts[0], counts[1], counts[2]
    # What stands for samples that are not there is taken for valid, or not, as if it were one.
    good = ((last == last) | (not skip_nan)) & ((last != nodata) | (not has_nodata))
    absent = good & ((last != zero) | (not skip_zero))
    for i in range(number):
        valid[i] = (samples[i] - len(lines)) * good
        kept[i] = (samples[i] - len(lines)) * absent
    for k in range(len(lines)):
        line = lines[k]
        for i in range(number):
            value = line[i]
            good = ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
            keep = good & ((value != zero) | (not skip_zero))
            line[i] = value if keep else last
            valid[i] += good
            kept[i] += keep


@helper
def _order_lines(lines, number):  # type: ignore[no-untyped-def]
    """Put each column in ascending order, NaN last.

    Batcher's merge exchange for any number of lines (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
    """
    top = 0
    while max(2 * top, 1) < len(lines):
        top = max(2 * top, 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            for k in range(len(lines) - d):
                if k & p == r:
                    _exchange(lines[k], lines[k + d], number)
            d, q, r = q - p, q >> 1, p
        p >>= 1


@helper
def _exchange(a, b, number):  # type: ignore[no-untyped-def]
    """Put pairs of values in order."""
    for i in range(number):
        swap = (b[i] < a[i]) | (a[i] != a[i])
        a[i], b[i] = (b[i] if swap else a[i]), (a[i] if swap else b[i])


@helper
def _pick_middle(lines, kept, columns, low, high):  # type: ignore[no-untyped-def]
    """Pick the two values in the middle, or NaN twice if there is one among the values kept."""
    for i in range(len(columns)):
        count = max(kept[i], 1)
        greatest = lines[count - 1, i]
        nan = greatest != greatest
        low[columns[i]] = greatest if nan else lines[(count - 1) // 2, i]
        high[columns[i]] = greatest if nan else lines[count // 2, i]


@helper
def _pick_longest_runs(lines, counts, kept, columns, low, best):  # type: ignore[no-untyped-def]
    """Pick the first of the longest runs of equal values; NaN equals NaN."""
    number = len(columns)
    most, runs = counts[3], counts[4]
    for i in range(number):
        best[i] = lines[0, i]
        most[i] = 1
        runs[i] = 1
    for k in range(1, len(lines)):
        before, values = lines[k - 1], lines[k]
        at = np.int32(k)
        for i in range(number):
            same = (values[i] == before[i]) | ((values[i] != values[i]) & (before[i] != before[i]))
            run = np.int32(runs[i] + 1) if same else np.int32(1)
            longer = (run > most[i]) & (at < kept[i])
            best[i] = values[i] if longer else best[i]
            most[i] = run if longer else most[i]
            runs[i] = run
    for i in range(number):
        low[columns[i]] = best[i]


@helper
def _settle(counts, places, rule, low, high):  # type: ignore[no-untyped-def]
    """Fill in the windows of which nothing is left, or too little is valid."""
    _, _, _, _, zero, min_valid, fill = rule
    samples, valid, kept = counts[0], counts[1], counts[2]
    for i in range(len(places)):
        few = valid[i] == 0 or valid[i] / samples[i] < min_valid
        if few or kept[i] == 0:
            value = fill if few else zero
            low[places[i]] = value
            if high is not None:
                high[places[i]] = value


@compiled
def _middle_of_integers(lower, upper):  # type: ignore[no-untyped-def]
    """Put the mean of two integers, rounded half to even, in the place of the lower."""
    # Of the values' own type: 64-bit unsigned integers and Python's would make floats of each other.
    one = lower.dtype.type(1)
    for i in range(len(lower)):
        # The sum of the two could overflow; their common bits and half of the others cannot.
        middle = (lower[i] & upper[i]) + ((lower[i] ^ upper[i]) >> one)
        lower[i] = middle + ((lower[i] ^ upper[i]) & one & middle)


@compiled
def _middle_of_floats(lower, upper):  # type: ignore[no-untyped-def]
    half = lower.dtype.type(0.5)
    for i in range(len(lower)):
        low, high = lower[i], upper[i]
        if not (low == high or low != low):
            # Halves first where the sum of two great values could overflow: halves of these lose nothing.
            great = abs(low) > 1 and abs(high) > 1
            lower[i] = low * half + high * half if great else (low + high) * half
