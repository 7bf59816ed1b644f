"""The median and the mode of every window: the values are put in order and picked from.

Neither composes: the median of medians is not the median of the whole, so the table of reducers applies them
step by step. Medians of an even number of values are the mean of the two in the middle, rounded half to even
for integers; the mode of a tie is the least of the most frequent values. Neither the mode nor an odd median
ever makes a value that is not in the window.

All three methods are one loop. The windows of a row are taken a few at a time and laid out as *lines*: one line
for each sample of a window, one column for each window. Windows whose samples are all the same (most of a
segmentation, and of an empty background) are found before, and left out. The columns are put in order by a
sorting network, a fixed sequence of comparisons of two lines, which takes many windows at once and needs no
branches. Values that do not count are replaced by one that comes last in order, and counted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .compiling import compiled
from .windows import (
    Block,
    Missing,
    block_windows,
    most_rows,
    next_rows,
    reduced_shape,
    rows_to_come,
    split,
)

# Windows of more samples than this are sorted one by one: networks grow faster than what sorting takes.
LONGEST_NETWORK = 128
# Columns of lines, and bytes that all lines together should take at most: they stay in the nearest caches.
MOST_COLUMNS = 1024
LINES_BYTES = 2**16
# From one of so many windows on that are mixed, all are laid out: whole lines take less time than single samples.
MANY = 4

Pick: TypeAlias = Literal["median", "mode", "mode_nonzero"]


def median(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the median of the valid values of every window."""
    lower, upper = _pick(block, factors, missing, "median")
    kernel = _middle_of_floats if block.dtype.kind == "f" else _middle_of_integers
    kernel(lower.reshape(-1), upper.reshape(-1))
    return lower


def mode(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid value of every window, of equally frequent ones the least."""
    return _pick(block, factors, missing, "mode")[0]


def mode_nonzero(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid value but zero of every window, and zero where there is no other."""
    return _pick(block, factors, missing, "mode_nonzero")[0]


def _pick(block: Block, factors: tuple[int, ...], missing: Missing, pick: Pick) -> tuple[Block, Block]:
    """Return the lower and the upper of the two values in the middle, or the most frequent value twice."""
    factors = tuple(min(factor, size) for factor, size in zip(factors, block.shape, strict=True))
    windows = block_windows(block.shape, factors)
    dtype = block.dtype
    lower = np.empty(reduced_shape(block.shape, factors), dtype)
    upper = np.empty_like(lower) if pick == "median" else lower
    last = dtype.type(np.nan) if dtype.kind == "f" else np.iinfo(dtype).max
    samples = int(most_rows(windows.factors) * windows.factors[-1])
    columns = min(MOST_COLUMNS, max(1, LINES_BYTES // (samples * dtype.itemsize)))
    _pick_all(
        block.reshape(-1),
        *windows,
        (*missing.arguments(dtype), pick == "mode_nonzero", dtype.type(last)),
        missing.min_valid,
        missing.fill(dtype),
        pick == "median",
        _network(samples),
        columns,
        lower.reshape(-1),
        upper.reshape(-1),
    )
    return lower, upper


@lru_cache(maxsize=64)
def _network(samples: int) -> npt.NDArray[np.int64]:
    """Return the pairs of lines to put in order one after the other, none if there would be too many.

    Batcher's merge exchange for any number of lines (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
    """
    pairs = []
    top = 1 << max(samples - 1, 0).bit_length() >> 1
    p = top if samples <= LONGEST_NETWORK else 0
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            pairs += [(i, i + d) for i in range(samples - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return np.array(pairs, np.int64).reshape(-1, 2)


@compiled
def _pick_all(x, sizes, factors, strides, inner, rule, min_valid, fill, middle, network, columns, lower, upper):  # type: ignore[no-untyped-def]
    size, factor = sizes[-1], factors[-1]
    starts, along, covered = rows_to_come(sizes, factors)
    lines = np.empty((len(starts) * factor, columns), x.dtype)
    counts = np.empty((3, columns), np.int32)
    mixed, places = np.empty(columns, np.uint8), np.empty(columns, np.int64)
    windows = (size + factor - 1) // factor
    # Some windows with all their inner run, or a part of the run of one.
    together, piece = max(columns // inner, 1), min(inner, columns)
    done, used = np.int64(0), np.int64(0)
    for row in range(len(lower) // (windows * inner)):
        covered = next_rows(row, along, covered, sizes, factors, strides, starts)
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
                    _pick_columns(lines, counts, places[:used], rule, min_valid, fill, middle, network, lower, upper)
                    used = np.int64(0)
                if wanted == width:
                    _fill_lines(x, rows, shift, shape, rule, lines, counts, used, width)
                    for i in range(width):
                        places[used + i] = done + i
                elif number > 0:
                    _gather(x, rows, shift, shape, rule, mixed[:width], done, lines, counts, places, used)
                if middle:
                    for i in range(done, done + width):
                        upper[i] = lower[i]
                used += wanted
                done += width
    _pick_columns(lines, counts, places[:used], rule, min_valid, fill, middle, network, lower, upper)


@compiled
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


@compiled
def _gather(x, rows, shift, shape, rule, mixed, done, lines, counts, places, used):  # type: ignore[no-untyped-def]
    """Lay out the samples of the windows that are mixed, as `_fill_lines` does for all."""
    skip_nan, has_nodata, nodata, skip_zero, last = rule
    size, factor, inner, run = shape
    for i in range(len(mixed)):
        if mixed[i] == 0:
            continue
        window = i // run
        at = shift + window * factor * inner + i - window * run
        present = min(factor, size - window * factor)
        valid, kept = 0, 0
        for k in range(len(rows)):
            for sample in range(factor):
                value = last
                if sample < present:
                    value = x[rows[k] + at + sample * inner]
                    good = ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
                    keep = good & ((value != 0) | (not skip_zero))
                    valid += good
                    kept += keep
                    value = value if keep else last
                lines[k * factor + sample, used] = value
        for k in range(len(rows) * factor, len(lines)):
            lines[k, used] = last
        counts[0, used], counts[1, used], counts[2, used] = len(rows) * present, valid, kept
        places[used] = done + i
        used += 1


@compiled
def _fill_lines(x, rows, shift, shape, rule, lines, counts, left, width):  # type: ignore[no-untyped-def]
    """Lay out the samples of some windows, and count those there are, the valid ones and those that are kept."""
    skip_nan, has_nodata, _, skip_zero, last = rule
    size, factor, inner, run = shape
    right, whole = left + width, left + min(size // factor * run, width)
    counts[:, left:whole] = len(rows) * factor
    counts[:, whole:right] = len(rows) * (size % factor)
    for k in range(len(rows)):
        if whole < right:
            lines[k * factor : (k + 1) * factor, whole:right] = last
        split(x[rows[k] + shift :], size, factor, inner, run, lines, k * factor, left, width)
    if len(rows) * factor < len(lines):
        lines[len(rows) * factor :, left:right] = last
    if skip_nan or has_nodata or skip_zero:
        for k in range(len(rows) * factor):
            end = whole if k % factor >= size % factor else right
            _leave_out(lines[k, left:end], rule, counts[1, left:end], counts[2, left:end])


@compiled
def _leave_out(line, rule, valid, kept):  # type: ignore[no-untyped-def]
    """Replace the values of a line that do not count by one that is last in order."""
    skip_nan, has_nodata, nodata, skip_zero, last = rule
    for i in range(len(line)):
        value = line[i]
        good = ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
        keep = good & ((value != 0) | (not skip_zero))
        line[i] = value if keep else last
        valid[i] -= not good
        kept[i] -= not keep


@compiled
def _pick_columns(lines, counts, places, rule, min_valid, fill, middle, network, lower, upper):  # type: ignore[no-untyped-def]
    """Pick the values of the windows laid out, and put them in their places."""
    skip_nan, has_nodata, _, skip_zero, _ = rule
    if len(places) == 0:
        return
    _sort_columns(lines, len(places), network)
    kept = counts[2]
    if middle:
        _pick_middle(lines, kept, places, lower, upper)
    else:
        _pick_longest_runs(lines, kept, places, lower)
    if skip_nan or has_nodata or skip_zero:
        _settle(counts, places, min_valid, fill, lower, upper)


@compiled
def _sort_columns(lines, number, network):  # type: ignore[no-untyped-def]
    """Put each column in ascending order, NaN last."""
    for k in range(len(network)):
        a, b = lines[network[k, 0], :number], lines[network[k, 1], :number]
        for i in range(number):
            swap = (b[i] < a[i]) | (a[i] != a[i])
            a[i], b[i] = (b[i] if swap else a[i]), (a[i] if swap else b[i])
    if len(network) == 0:
        column = np.empty(len(lines), lines.dtype)
        for i in range(number):
            for k in range(len(lines)):
                column[k] = lines[k, i]
            _sort(column)
            for k in range(len(lines)):
                lines[k, i] = column[k]


@compiled
def _sort(values):  # type: ignore[no-untyped-def]
    """Put values in ascending order, NaN last, by insertion over shrinking gaps (Shell).

    The sort of the library would take as long to compile as all the rest.
    """
    gap = len(values)
    while gap > 1:
        gap = max(gap * 4 // 9, 1)
        for i in range(gap, len(values)):
            value = values[i]
            j = i - gap
            while j >= 0 and (values[j] > value or (values[j] != values[j] and value == value)):
                values[j + gap] = values[j]
                j -= gap
            values[j + gap] = value


@compiled
def _pick_middle(lines, kept, columns, low, high):  # type: ignore[no-untyped-def]
    """Pick the two values in the middle, or NaN twice if there is one among the values kept."""
    for i in range(len(columns)):
        count = max(kept[i], 1)
        greatest = lines[count - 1, i]
        nan = greatest != greatest
        low[columns[i]] = greatest if nan else lines[(count - 1) // 2, i]
        high[columns[i]] = greatest if nan else lines[count // 2, i]


@compiled
def _pick_longest_runs(lines, kept, columns, low):  # type: ignore[no-untyped-def]
    """Pick the first of the longest runs of equal values; NaN equals NaN."""
    number = len(columns)
    best = np.empty(number, lines.dtype)
    most = np.empty(number, np.int32)
    runs = np.empty(number, np.int32)
    for i in range(number):
        best[i] = lines[0, i]
        most[i] = 1
        runs[i] = 1
    for k in range(1, len(lines)):
        before, values = lines[k - 1, :number], lines[k, :number]
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


@compiled
def _settle(counts, places, min_valid, fill, low, high):  # type: ignore[no-untyped-def]
    """Fill in the windows of which nothing is left, or too little is valid."""
    zero = low.dtype.type(0)
    samples, valid, kept = counts[0], counts[1], counts[2]
    for i in range(len(places)):
        if valid[i] == 0 or valid[i] / samples[i] < min_valid:
            low[places[i]] = fill
            high[places[i]] = fill
        elif kept[i] == 0:
            low[places[i]] = zero
            high[places[i]] = zero


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
