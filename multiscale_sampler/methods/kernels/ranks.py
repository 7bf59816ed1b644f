"""The median and the mode of every window: the values are put in order and picked from.

Neither composes: the median of medians is not the median of the whole, so the table of reducers applies them
step by step. Medians of an even number of values are the mean of the two in the middle, rounded half to even
for integers; the mode of a tie is the least of the most frequent values. Neither the mode nor an odd median
ever makes a value that is not in the window.

All three methods are one loop over unsigned integers, which `as_unsigned` makes of other values in the same order;
what `labels` does faster is left to it. The windows of a row are laid out as *lines*: one line for each sample of a
window, one column for each window. Columns whose samples are all the same (most of a segmentation, and of an empty
background) are done; the others move together, until there are as many as are worth the steps that follow. They are
put in order by a sorting network, a fixed sequence of comparisons of two lines, which takes many windows at once and
needs no branches: up to thousands of samples it is faster than sorting window by window. Values that do not count are
replaced by one that comes last in order, and counted.

What a call has no use for is not compiled for it: an argument of `_pick_all` that is None takes the branches with it
that look for that.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np

from ...image.boxes import Block
from .compiling import compiled, helper
from .labels import are_pairs, mode_of_pairs
from .windows import Missing, as_unsigned, from_unsigned, reduced_shape, split, windows_of

# Columns of lines, at least as many as fill vectors, and bytes that all lines together should take at most: they stay
# in the nearest caches.
LEAST_COLUMNS, MOST_COLUMNS = 16, 1024
LINES_BYTES = 2**16

Pick: TypeAlias = Literal["median", "mode", "mode_nonzero"]


def median(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the median of the valid values of every window."""
    values = as_unsigned(block)
    upper = np.empty(reduced_shape(block.shape, factors), values.dtype)
    lower = _pick(block, values, factors, missing, upper=upper.reshape(-1))
    if block.dtype.kind == "f":
        middle = from_unsigned(lower, block.dtype)
        _middle_of_floats(middle.reshape(-1), from_unsigned(upper, block.dtype).reshape(-1))
        return middle
    _middle_of_integers(lower.reshape(-1), upper.reshape(-1))
    return from_unsigned(lower, block.dtype)


def mode(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid value of every window, of equally frequent ones the least."""
    return _mode(block, factors, missing)


def mode_nonzero(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid value but zero of every window, and zero where there is no other."""
    return _mode(block, factors, missing, zero=as_unsigned(np.zeros(1, block.dtype))[0])


def _mode(block: Block, factors: tuple[int, ...], missing: Missing, *, zero: Any = None) -> Block:
    return from_unsigned(_pick(block, as_unsigned(block), factors, missing, zero=zero), block.dtype)


def _pick(
    block: Block,
    values: Block,
    factors: tuple[int, ...],
    missing: Missing,
    *,
    zero: Any = None,
    upper: Block | None = None,
) -> Block:
    """Return the most frequent values; where `upper` is to be filled, the lower and there the upper of the middle.

    Values are those of the block, as unsigned ones; those of floats are a copy, of which NaN may be replaced. Where
    there is a `zero`, it is left out, and stands for windows that have nothing else.
    """
    lower = np.empty(reduced_shape(block.shape, factors), values.dtype)
    of = values.dtype.type
    # As NaN is in order.
    last, is_float = of(np.iinfo(values.dtype).max), block.dtype.kind == "f"
    left_out = last if is_float and missing.skip_nan else None
    if missing.nodata is not None:
        nodata = missing.unsigned(block.dtype).nodata
        if left_out is not None:
            values[values == last] = nodata
        left_out = nodata
    for windows in windows_of(block.shape, factors, alike=True):
        if upper is None and not missing and are_pairs(windows):
            mode_of_pairs(values.reshape(-1), windows, lower.reshape(-1), zero)
            continue
        columns = min(MOST_COLUMNS, max(LEAST_COLUMNS, LINES_BYTES // (windows.samples * values.itemsize)))
        # Some windows with all their inner run, or a part of the run of one: half of the columns at a time.
        half = columns // 2
        together, piece = max(half // windows.inner, 1), min(half, windows.inner)
        _pick_all(
            values.reshape(-1),
            *windows,
            together,
            piece,
            _network(windows.samples),
            left_out,
            _least_number(windows.samples, missing.min_valid),
            zero,
            is_float,
            last,
            np.empty((windows.samples, columns), values.dtype),
            np.empty((4, columns), np.int32),
            np.empty(columns, values.dtype),
            np.empty(columns, np.int64),
            lower.reshape(-1),
            upper,
            np.empty(columns, values.dtype) if upper is None else None,
        )
    return lower


@cache
def _network(samples: int) -> Block:
    """Return the passes (p, r, d) of a network: in each, of all k with k & p == r, k and k + d are put in order.

    Batcher's merge exchange for any number of samples (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
    """
    top = 1 << max((samples - 1).bit_length() - 1, 0)
    passes = []
    p = top if samples > 1 else 0
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            passes.append((p, r, d))
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return np.array(passes, np.int64).reshape(-1, 3)


def _least_number(samples: int, share: float) -> int:
    """Return how many of some samples are at least one, and at least a share of them."""
    number = max(1, math.ceil(share * samples) - 1)
    # By the quotient: 0.55 * 20 is more than 11, and 11 / 20 is 0.55.
    while number / samples < share:
        number += 1
    return number


@compiled
def _pick_all(  # type: ignore[no-untyped-def]
    x,
    origins,
    targets,
    offsets,
    size,
    factor,
    inner,
    together,
    piece,
    passes,
    missing,
    least,
    zero,
    has_nan,
    last,
    lines,
    counts,
    mixed,
    places,
    lower,
    upper,
    best,
):
    used, windows, length = np.int64(0), size // factor, len(lines)
    valid, kept = counts[0], counts[1]
    for row in range(len(origins)):
        for window in range(0, windows, together):
            for begin in range(0, inner, piece):
                run = min(piece, inner - begin)
                width = min(together, windows - window) * run
                start = origins[row] + window * factor * inner + begin
                of_windows = lines[:, used : used + width]
                for k in range(len(offsets)):
                    split(x[start + offsets[k] :], factor, inner, run, 0, of_windows, k * factor)
                target = targets[row] + window * inner + begin
                used = _leave_mixed(lines, used, width, target, places, lower, upper, mixed)
                at_end = row + 1 == len(origins) and window + together >= windows and begin + piece >= inner
                # As long as there is room for more, and more to come.
                if used <= len(places) // 2 and not (at_end and used > 0):
                    continue
                for i in range(used):
                    valid[i] = length
                if missing is not None:
                    _leave_out(lines, used, missing, last, valid)
                for i in range(used):
                    kept[i] = valid[i]
                if zero is not None:
                    _leave_out(lines, used, zero, last, kept)
                _order_lines(lines, passes, used)
                if upper is not None:
                    _pick_middle(lines, kept, places[:used], has_nan, last, lower, upper)
                if best is not None:
                    _pick_longest_runs(lines, counts, places[:used], lower, best)
                if zero is not None:
                    _settle(places[:used], kept, 1, zero, lower)
                if missing is not None:
                    _settle(places[:used], valid, least, missing, lower)
                    if upper is not None:
                        _settle(places[:used], valid, least, missing, upper)
                used = np.int64(0)


@helper
def _leave_mixed(lines, used, width, target, places, lower, upper, mixed):  # type: ignore[no-untyped-def]
    """Give windows their value whose samples are all the same, and move the columns of the others together.

    Return how many columns are in use, with those before.
    """
    first = lines[0, used : used + width]
    for i in range(width):
        mixed[i] = 0
    for k in range(1, len(lines)):
        line = lines[k, used:]
        for i in range(width):
            mixed[i] |= line[i] ^ first[i]
    low, number = lower[target : target + width], 0
    for i in range(width):
        low[i] = first[i]
        number += mixed[i] != 0
    if upper is not None:
        high = upper[target : target + width]
        for i in range(width):
            high[i] = first[i]
    if number == width:
        for i in range(width):
            places[used + i] = target + i
    elif number > 0:
        kept = used
        for i in range(width):
            if mixed[i] != 0:
                for k in range(len(lines)):
                    lines[k, kept] = lines[k, used + i]
                places[kept] = target + i
                kept += 1
    return used + number


@helper
def _leave_out(lines, number, value, last, kept):  # type: ignore[no-untyped-def]
    """Replace a value by one that is last in order, and count down what is kept of every window."""
    for k in range(len(lines)):
        line = lines[k]
        for i in range(number):
            gone = line[i] == value
            line[i] = last if gone else line[i]
            kept[i] -= gone


@helper
def _settle(places, counts, least, value, out):  # type: ignore[no-untyped-def]
    """Give windows of which less than a number is left a value."""
    for i in range(len(places)):
        if counts[i] < least:
            out[places[i]] = value


@helper
def _order_lines(lines, passes, number):  # type: ignore[no-untyped-def]
    """Put each column in ascending order, by the passes of a sorting network."""
    for each in range(len(passes)):
        p, r, d = passes[each]
        for k in range(len(lines) - d):
            if k & p == r:
                _exchange(lines[k], lines[k + d], number)


@helper
def _exchange(a, b, number):  # type: ignore[no-untyped-def]
    """Put pairs of values in order."""
    for i in range(number):
        swap = b[i] < a[i]
        a[i], b[i] = (b[i] if swap else a[i]), (a[i] if swap else b[i])


@helper
def _pick_middle(lines, kept, places, has_nan, nan, low, high):  # type: ignore[no-untyped-def]
    """Pick the two values in the middle, or NaN twice if there is one among the values kept."""
    for i in range(len(places)):
        # Where there is none, any line will do: `_settle` has the value.
        count = kept[i]
        poisoned = has_nan and lines[count - 1, i] == nan
        low[places[i]] = nan if poisoned else lines[(count - 1) // 2, i]
        high[places[i]] = nan if poisoned else lines[count // 2, i]


@helper
def _pick_longest_runs(lines, counts, places, low, best):  # type: ignore[no-untyped-def]
    """Pick the first of the longest runs of equal values."""
    number = len(places)
    kept, most, runs = counts[1], counts[2], counts[3]
    for i in range(number):
        best[i] = lines[0, i]
        most[i] = 1
        runs[i] = 1
    for k in range(1, len(lines)):
        before, values = lines[k - 1], lines[k]
        at = np.int32(k)
        for i in range(number):
            run = np.int32(runs[i] + 1) if values[i] == before[i] else np.int32(1)
            longer = (run > most[i]) & (at < kept[i])
            best[i] = values[i] if longer else best[i]
            most[i] = run if longer else most[i]
            runs[i] = run
    for i in range(number):
        low[places[i]] = best[i]


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
