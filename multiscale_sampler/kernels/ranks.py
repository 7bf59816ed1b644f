"""The median and the mode of every window: the values are gathered, put in order and picked from.

Neither composes: the median of medians is not the median of the whole, so the table of reducers applies them
step by step. Medians of an even number of values are the mean of the two in the middle, rounded half to even
for integers; the mode of a tie is the least of the most frequent values. Neither the mode nor an odd median
ever makes a value that is not in the window.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .windows import Block, Missing, as_rows, block_windows, most_rows, reduced_shape, window_rows

# Up to here an insertion sort beats the library's.
SHORT = 48


def median(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the median of the valid values of every window."""
    return _pick(block, factors, missing, _medians_of_floats if block.dtype.kind == "f" else _medians)


def mode(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the most frequent valid value of every window, of equally frequent ones the least."""
    return _pick(block, factors, missing, _modes)


def _pick(block: Block, factors: tuple[int, ...], missing: Missing, kernel) -> Block:  # type: ignore[no-untyped-def]
    windows = block_windows(block.shape, factors)
    out = np.empty(reduced_shape(block.shape, factors), block.dtype)
    flags = missing.arguments(block.dtype)
    kernel(block.reshape(-1), *windows, *flags, missing.fill(block.dtype), as_rows(out, windows))
    return out


@compiled
def _gather(  # type: ignore[no-untyped-def]
    x, starts, size, factor, inner, column, skip_nan, has_nodata, nodata, values
):
    """Copy the valid values of one window into `values`; return how many there are."""
    lower = (column // inner) * factor
    upper = min(lower + factor, size)
    count = 0
    for start in starts:
        for sample in range(lower, upper):
            value = x[start + sample * inner + column % inner]
            if not ((skip_nan and value != value) or (has_nodata and value == nodata)):
                values[count] = value
                count += 1
    return count


@compiled
def _sort(values):  # type: ignore[no-untyped-def]
    """Put values in ascending order, NaN last."""
    if len(values) > SHORT:
        values.sort()
        return
    for i in range(1, len(values)):
        value = values[i]
        j = i - 1
        while j >= 0 and (values[j] > value or (values[j] != values[j] and value == value)):
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value


@compiled
def _medians(x, sizes, factors, strides, inner, skip_nan, has_nodata, nodata, fill, out):  # type: ignore[no-untyped-def]
    # Of the values' own type: 64-bit unsigned integers and Python's would make floats of each other.
    one = x.dtype.type(1)
    starts = np.empty(most_rows(factors), np.int64)
    values = np.empty(len(starts) * factors[-1], x.dtype)
    for row in range(out.shape[0]):
        rows = starts[: window_rows(row, sizes, factors, strides, starts)]
        for column in range(out.shape[1]):
            count = _gather(x, rows, sizes[-1], factors[-1], inner, column, skip_nan, has_nodata, nodata, values)
            if count == 0:
                out[row, column] = fill
                continue
            _sort(values[:count])
            lower, upper = values[(count - 1) // 2], values[count // 2]
            # The sum of the two could overflow; their common bits and half of the others cannot.
            middle = (lower & upper) + ((lower ^ upper) >> one)
            odd = (lower ^ upper) & one & middle
            out[row, column] = middle + odd


@compiled
def _medians_of_floats(  # type: ignore[no-untyped-def]
    x, sizes, factors, strides, inner, skip_nan, has_nodata, nodata, fill, out
):
    half = x.dtype.type(0.5)
    starts = np.empty(most_rows(factors), np.int64)
    values = np.empty(len(starts) * factors[-1], x.dtype)
    for row in range(out.shape[0]):
        rows = starts[: window_rows(row, sizes, factors, strides, starts)]
        for column in range(out.shape[1]):
            count = _gather(x, rows, sizes[-1], factors[-1], inner, column, skip_nan, has_nodata, nodata, values)
            if count == 0:
                out[row, column] = fill
                continue
            _sort(values[:count])
            lower, upper = values[(count - 1) // 2], values[count // 2]
            if values[count - 1] != values[count - 1]:
                out[row, column] = values[count - 1]
            elif lower == upper:
                out[row, column] = lower
            elif abs(lower) > 1 and abs(upper) > 1:
                # Halves first: the sum of two great values overflows, and halves of these lose nothing.
                out[row, column] = lower * half + upper * half
            else:
                out[row, column] = (lower + upper) * half


@compiled
def _modes(x, sizes, factors, strides, inner, skip_nan, has_nodata, nodata, fill, out):  # type: ignore[no-untyped-def]
    starts = np.empty(most_rows(factors), np.int64)
    values = np.empty(len(starts) * factors[-1], x.dtype)
    for row in range(out.shape[0]):
        rows = starts[: window_rows(row, sizes, factors, strides, starts)]
        for column in range(out.shape[1]):
            count = _gather(x, rows, sizes[-1], factors[-1], inner, column, skip_nan, has_nodata, nodata, values)
            out[row, column] = _most_frequent(values[:count]) if count > 0 else fill


@compiled
def _most_frequent(values):  # type: ignore[no-untyped-def]
    first = values[0]
    uniform = True
    for value in values:
        if value != first:
            uniform = False
            break
    if uniform:
        return first
    _sort(values)
    best, most, run = values[0], 1, 1
    for i in range(1, len(values)):
        same = values[i] == values[i - 1] or (values[i] != values[i] and values[i - 1] != values[i - 1])
        run = run + 1 if same else 1
        if run > most:
            best, most = values[i], run
    return best
