"""The median and the mode of every window, selected from its sorted values.

Neither composes: the median of medians is not the median of all values. The table of methods therefore has them as
stepwise. The median of an even number of values is the mean of the two in the middle, for integers rounded half to
even. Ties of the mode go to the smallest value. A mode, or a median of an odd number of values, is always one of the
values of the window.

One loop over unsigned integers does all three methods; `as_unsigned` maps other values to them in the same order.
WindowRows that `labels` can do faster go there. The windows of a row become *lines*: one line for each sample of a
window, one column for each window. Columns whose samples are all equal (most of a segmentation, and of an empty
background) need no sorting. The others are collected until there are enough of them to sort together, by a sorting
network: a fixed sequence of comparisons of two lines, which handles many windows at once without branches. Up to
thousands of samples this is faster than sorting window by window. Ignored values are replaced by one that sorts last.

Numba does not compile the branches of `_pick_all` for arguments that are None.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np

from ...image.boxes import Block
from .compiling import compiled, helper
from .labels import are_pairs, mode_of_pairs
from .windows import Missing, as_unsigned, deinterleave, from_unsigned, reduced_shape, window_rows

# Limits of the number of columns (the least fills a vector register), and bytes of all lines that fit into the
# first-level caches.
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
    """Return the most frequent valid value of every window; ties go to the smallest."""
    return _mode(block, factors, missing)


def mode_nonzero(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid nonzero value of every window, and zero where there is none."""
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
    """Return the mode of every window, or the two values in the middle if `upper` is given.

    Parameters
    ----------
    block
        The block.
    values
        The block as unsigned integers. Where the block has floats this is a copy, in which NaN can be replaced.
    factors
        Samples per window along each axis.
    missing
        Which values are ignored.
    zero
        A value that the mode ignores in windows that have others, or None.
    upper
        For the median: takes the upper of the two values in the middle; the lower is returned.
    """
    lower = np.empty(reduced_shape(block.shape, factors), values.dtype)
    cast = values.dtype.type
    # NaN is the largest of the unsigned integers.
    last, is_float = cast(np.iinfo(values.dtype).max), block.dtype.kind == "f"
    ignored = last if is_float and missing.skip_nan else None
    if missing.nodata is not None:
        nodata = missing.unsigned(block.dtype).nodata
        if ignored is not None:
            values[values == last] = nodata
        ignored = nodata
    for windows in window_rows(block.shape, factors, same_size=True):
        if upper is None and not missing and are_pairs(windows):
            mode_of_pairs(values.reshape(-1), windows, lower.reshape(-1), zero)
            continue
        columns = min(MOST_COLUMNS, max(LEAST_COLUMNS, LINES_BYTES // (windows.samples * values.itemsize)))
        # Half of the columns at a time: some windows with their whole inner run, or a part of the run of one window.
        at_once = columns // 2
        together, piece = max(at_once // windows.inner, 1), min(at_once, windows.inner)
        _pick_all(
            values.reshape(-1),
            *windows,
            together,
            piece,
            _sorting_network(windows.samples),
            ignored,
            _least_valid(windows.samples, missing.min_valid),
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
def _sorting_network(samples: int) -> Block:
    """Return the steps (p, r, d) of a sorting network: each orders lines k and k + d, for all k with k & p == r.

    Batcher's merge exchange for any number of samples (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
    """
    top = 1 << max((samples - 1).bit_length() - 1, 0)
    steps = []
    p = top if samples > 1 else 0
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            steps.append((p, r, d))
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return np.array(steps, np.int64).reshape(-1, 3)


def _least_valid(samples: int, share: float) -> int:
    """Return the smallest number of samples, at least 1, that is at least this share of all samples."""
    number = max(1, math.ceil(share * samples) - 1)
    # Compares quotients: in floats 0.55 * 20 is more than 11, but 11 / 20 is 0.55.
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
    steps,
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
                columns = lines[:, used : used + width]
                for k in range(len(offsets)):
                    deinterleave(x[start + offsets[k] :], factor, inner, run, 0, columns, k * factor)
                target = targets[row] + window * inner + begin
                used = _collect_mixed(lines, used, width, target, places, lower, upper, mixed)
                at_end = row + 1 == len(origins) and window + together >= windows and begin + piece >= inner
                # Sort only when the columns are full or no window follows.
                if used <= len(places) // 2 and not (at_end and used > 0):
                    continue
                for i in range(used):
                    valid[i] = length
                if missing is not None:
                    _replace_ignored(lines, used, missing, last, valid)
                for i in range(used):
                    kept[i] = valid[i]
                if zero is not None:
                    _replace_ignored(lines, used, zero, last, kept)
                _sort_lines(lines, steps, used)
                if upper is not None:
                    _select_middle(lines, kept, places[:used], has_nan, last, lower, upper)
                if best is not None:
                    _select_longest_runs(lines, counts, places[:used], lower, best)
                if zero is not None:
                    _settle(places[:used], kept, 1, zero, lower)
                if missing is not None:
                    _settle(places[:used], valid, least, missing, lower)
                    if upper is not None:
                        _settle(places[:used], valid, least, missing, upper)
                used = np.int64(0)


@helper
def _collect_mixed(lines, used, width, target, places, lower, upper, mixed):  # type: ignore[no-untyped-def]
    """Write the value of windows whose samples are all equal, and close the gaps between the columns of the others.

    Return how many columns are in use, with the `used` ones before.
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
def _replace_ignored(lines, number, value, last, kept):  # type: ignore[no-untyped-def]
    """Replace a value by `last`, and subtract its occurrences from the number of values kept in each window."""
    for k in range(len(lines)):
        line = lines[k]
        for i in range(number):
            ignored = line[i] == value
            line[i] = last if ignored else line[i]
            kept[i] -= ignored


@helper
def _settle(places, counts, least, value, out):  # type: ignore[no-untyped-def]
    """Write `value` for windows whose count is less than `least`."""
    for i in range(len(places)):
        if counts[i] < least:
            out[places[i]] = value


@helper
def _sort_lines(lines, steps, number):  # type: ignore[no-untyped-def]
    """Sort each column in ascending order, by the steps of a sorting network."""
    for step in range(len(steps)):
        p, r, d = steps[step]
        for k in range(len(lines) - d):
            if k & p == r:
                _sort_pairs(lines[k], lines[k + d], number)


@helper
def _sort_pairs(a, b, number):  # type: ignore[no-untyped-def]
    """Sort pairs of values."""
    for i in range(number):
        swap = b[i] < a[i]
        a[i], b[i] = (b[i] if swap else a[i]), (a[i] if swap else b[i])


@helper
def _select_middle(lines, kept, places, has_nan, nan, low, high):  # type: ignore[no-untyped-def]
    """Select the two values in the middle, or NaN for both if the values kept contain NaN."""
    for i in range(len(places)):
        # Where no value is kept, `_settle` overwrites the result.
        count = kept[i]
        is_nan = has_nan and lines[count - 1, i] == nan
        low[places[i]] = nan if is_nan else lines[(count - 1) // 2, i]
        high[places[i]] = nan if is_nan else lines[count // 2, i]


@helper
def _select_longest_runs(lines, counts, places, low, best):  # type: ignore[no-untyped-def]
    """Select the value of the first of the longest runs of equal values."""
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
    """Write the mean of two integers, rounded half to even, to `lower`."""
    # In the dtype of the values, because numba turns uint64 and a Python integer into float64.
    one = lower.dtype.type(1)
    for i in range(len(lower)):
        # Not half of the sum, which can overflow: the common bits and half of the others.
        middle = (lower[i] & upper[i]) + ((lower[i] ^ upper[i]) >> one)
        lower[i] = middle + ((lower[i] ^ upper[i]) & one & middle)


@compiled
def _middle_of_floats(lower, upper):  # type: ignore[no-untyped-def]
    half = lower.dtype.type(0.5)
    for i in range(len(lower)):
        low, high = lower[i], upper[i]
        if not (low == high or low != low):
            # Large values are halved first, because their sum can overflow; halving them is exact.
            large = abs(low) > 1 and abs(high) > 1
            lower[i] = low * half + high * half if large else (low + high) * half
