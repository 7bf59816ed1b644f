"""The least and the greatest value of every window.

Without a rule for missing values NaN wins, as in numpy; with one, missing values are left out and a window
without a valid one becomes the fill value, which the next level leaves out again. A least share of valid
samples (`Missing.min_valid`) would not compose from level to level: it is applied when a level is finished, by
the numbers that `sums.count_valid` returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import compiled, helper
from .windows import (
    WIDE,
    Block,
    Missing,
    as_rows,
    block_windows,
    reduced_shape,
    split,
    window_rows,
    windows_with,
)


def minimum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the least valid value of every window."""
    return _extreme(block, factors, missing, greatest=False)


def maximum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the greatest valid value of every window."""
    return _extreme(block, factors, missing, greatest=True)


def _extreme(block: Block, factors: tuple[int, ...], missing: Missing, *, greatest: bool) -> Block:
    windows = block_windows(block.shape, factors)
    out = np.empty(reduced_shape(block.shape, factors), block.dtype)
    flags = missing.arguments(block.dtype)
    start = missing.fill(block.dtype) if missing else _farthest(block.dtype, greatest)
    rows = as_rows(out, windows)
    if windows.inner == 1 and windows.factors[-1] == 2 and not missing:
        _extremes_of_pairs(block.reshape(-1), *windows, greatest, start, rows)
    else:
        _extremes(block.reshape(-1), *windows, greatest, *flags, start, rows)
    return out


def _farthest(dtype: np.dtype[Any], greatest: bool) -> Any:
    """Return the value that every other one replaces."""
    if dtype.kind == "f":
        return dtype.type(-np.inf if greatest else np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.min if greatest else limits.max)


@compiled
def _extremes_of_pairs(x, sizes, factors, strides, inner, starts, greatest, start, out):  # type: ignore[no-untyped-def]
    """Compare the values of windows two samples long, with nothing to leave out."""
    covered = np.int64(0)
    for row in range(out.shape[0]):
        covered = window_rows(row, covered, sizes, factors, strides, starts)
        best = out[row]
        for i in range(len(best)):
            best[i] = start
        if greatest:
            _greatest_of_pairs(x, starts[:covered], sizes[-1], best)
        else:
            _least_of_pairs(x, starts[:covered], sizes[-1], best)


@compiled
def _extremes(x, sizes, factors, strides, inner, starts, greatest, skip_nan, has_nodata, nodata, start, out):  # type: ignore[no-untyped-def]
    size, factor = sizes[-1], factors[-1]
    rule = (greatest, skip_nan, has_nodata, nodata)
    covered = np.int64(0)
    # The order of comparisons is free: they go down the rows first, whose elements lie side by side.
    folds = inner < WIDE and len(starts) > 1
    line = np.empty(size * inner if folds else 0, x.dtype)
    parts = np.empty((factor, out.shape[1] if inner < WIDE else 0), x.dtype)
    for row in range(out.shape[0]):
        covered = window_rows(row, covered, sizes, factors, strides, starts)
        best = out[row]
        best[:] = start
        if folds:
            line[:] = start
            for at in starts[:covered]:
                _keep(x[at : at + len(line)], line, rule)
            _keep_along(line, size, factor, inner, parts, best, rule)
        else:
            for at in starts[:covered]:
                _keep_along(x[at : at + size * inner], size, factor, inner, parts, best, rule)


@helper
def _least_of_pairs(x, rows, size, best):  # type: ignore[no-untyped-def]
    """Keep the least of windows two samples long."""
    whole = size // 2
    # Bytes are many to a vector, and two rows at once save loads and stores. Wider samples come faster from memory in
    # one stream than in two.
    paired = len(rows) - len(rows) % 2 if x.itemsize == 1 else 0
    for k in range(0, paired, 2):
        a, b = x[rows[k] :], x[rows[k + 1] :]
        for i in range(whole):
            best[i] = _lesser(b[2 * i + 1], _lesser(b[2 * i], _lesser(a[2 * i + 1], _lesser(a[2 * i], best[i]))))
    for k in range(paired, len(rows)):
        a = x[rows[k] :]
        for i in range(whole):
            best[i] = _lesser(a[2 * i + 1], _lesser(a[2 * i], best[i]))
    if size > 2 * whole:
        for at in rows:
            best[whole] = _lesser(x[at + size - 1], best[whole])


@helper
def _greatest_of_pairs(x, rows, size, best):  # type: ignore[no-untyped-def]
    """Keep the greatest of windows two samples long, as `_least_of_pairs` does."""
    whole = size // 2
    paired = len(rows) - len(rows) % 2 if x.itemsize == 1 else 0
    for k in range(0, paired, 2):
        a, b = x[rows[k] :], x[rows[k + 1] :]
        for i in range(whole):
            best[i] = _greater(b[2 * i + 1], _greater(b[2 * i], _greater(a[2 * i + 1], _greater(a[2 * i], best[i]))))
    for k in range(paired, len(rows)):
        a = x[rows[k] :]
        for i in range(whole):
            best[i] = _greater(a[2 * i + 1], _greater(a[2 * i], best[i]))
    if size > 2 * whole:
        for at in rows:
            best[whole] = _greater(x[at + size - 1], best[whole])


@helper
def _lesser(value, kept):  # type: ignore[no-untyped-def]
    """Return the lesser of two values, NaN before all others."""
    return value if (value < kept) | (value != value) else kept


@helper
def _greater(value, kept):  # type: ignore[no-untyped-def]
    """Return the greater of two values, NaN before all others."""
    return value if (value > kept) | (value != value) else kept


@helper
def _keep_along(samples, size, factor, inner, parts, best, rule):  # type: ignore[no-untyped-def]
    """Keep the best value of every window of one row, of any shape and by any rule."""
    if inner < WIDE:
        split(samples, size, factor, inner, parts)
    for sample in range(factor):
        count = windows_with(sample, size, factor)
        if inner < WIDE:
            _keep(parts[sample], best[: count * inner], rule)
        else:
            for window in range(count):
                at = (window * factor + sample) * inner
                _keep(samples[at : at + inner], best[window * inner : (window + 1) * inner], rule)


@helper
def _keep(values, best, rule):  # type: ignore[no-untyped-def]
    greatest, skip_nan, has_nodata, nodata = rule
    if skip_nan or has_nodata:
        # A window without a valid value so far holds the fill value, which is never valid itself.
        for i in range(len(best)):
            value, kept = values[i], best[i]
            valid = ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
            closer = (value > kept) if greatest else (value < kept)
            empty = (kept == nodata) if has_nodata else (kept != kept)
            best[i] = value if valid & (closer | empty | (value != value)) else kept
    elif greatest:
        for i in range(len(best)):
            best[i] = _greater(values[i], best[i])
    else:
        for i in range(len(best)):
            best[i] = _lesser(values[i], best[i])
