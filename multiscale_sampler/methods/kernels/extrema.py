"""The least and the greatest value of every window.

Without a rule for missing values NaN wins, as in numpy; with one, missing values are left out and a window
without a valid one becomes the fill value, which the next level leaves out again. A least share of valid
samples (`Missing.min_valid`) would not compose from level to level: it is applied when a level is finished, by
the numbers that `sums.count_valid` returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...image.boxes import Block
from .compiling import compiled, helper
from .windows import WIDE, Missing, reduced_shape, split, windows_of, windows_with


def minimum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the least valid value of every window."""
    return _extreme(block, factors, missing, greatest=False)


def maximum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the greatest valid value of every window."""
    return _extreme(block, factors, missing, greatest=True)


def _extreme(block: Block, factors: tuple[int, ...], missing: Missing, *, greatest: bool) -> Block:
    out = np.empty(reduced_shape(block.shape, factors), block.dtype)
    start = missing.fill(block.dtype) if missing else _farthest(block.dtype, greatest)
    x, best, rule = block.reshape(-1), out.reshape(-1), missing.arguments(block.dtype)
    for windows in windows_of(block.shape, factors):
        if windows.factor == 2 and windows.inner == 1 and not missing:
            _extremes_of_pairs(x, *windows[:4], greatest, start, best)
            continue
        # Long inner runs are lines by themselves; others are folded down the rows, whose elements lie side by side.
        width = windows.width if windows.inner < WIDE else 0
        line = np.empty(windows.size * windows.inner if width and len(windows.offsets) > 1 else 0, block.dtype)
        parts = np.empty((windows.factor, width), block.dtype)
        _extremes(x, *windows, greatest, *rule, start, line, parts, best)
    if block.dtype.kind == "f":
        # Of two zeros either may have been kept, as the loops differ in order: they become the positive one.
        with np.errstate(invalid="ignore"):
            out += 0
    return out


def _farthest(dtype: np.dtype[Any], greatest: bool) -> Any:
    """Return the value that every other one replaces."""
    if dtype.kind == "f":
        return dtype.type(-np.inf if greatest else np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.min if greatest else limits.max)


@compiled
def _extremes_of_pairs(x, origins, targets, offsets, size, greatest, start, out):  # type: ignore[no-untyped-def]
    """Compare the values of windows two samples long, with nothing to leave out."""
    for row in range(len(origins)):
        best = out[targets[row] : targets[row] + (size + 1) // 2]
        for i in range(len(best)):
            best[i] = start
        if greatest:
            _greatest_of_pairs(x, origins[row], offsets, size, best)
        else:
            _least_of_pairs(x, origins[row], offsets, size, best)


@compiled
def _extremes(  # type: ignore[no-untyped-def]
    x,
    origins,
    targets,
    offsets,
    size,
    factor,
    inner,
    greatest,
    skip_nan,
    has_nodata,
    nodata,
    start,
    line,
    parts,
    out,
):
    rule = (greatest, skip_nan, has_nodata, nodata)
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        best = out[targets[row] : targets[row] + width]
        best[:] = start
        if len(line) > 0:
            line[:] = start
            for offset in offsets:
                at = origins[row] + offset
                _keep(x[at : at + len(line)], line, rule)
            _keep_along(line, size, factor, inner, parts, best, rule)
        else:
            for offset in offsets:
                _keep_along(x[origins[row] + offset :], size, factor, inner, parts, best, rule)


@helper
def _least_of_pairs(x, origin, offsets, size, best):  # type: ignore[no-untyped-def]
    """Keep the least of windows two samples long."""
    whole = size // 2
    # Bytes are many to a vector, and two rows at once save loads and stores. Wider samples come faster from memory in
    # one stream than in two.
    paired = len(offsets) - len(offsets) % 2 if x.itemsize == 1 else 0
    for k in range(0, paired, 2):
        a, b = x[origin + offsets[k] :], x[origin + offsets[k + 1] :]
        for i in range(whole):
            best[i] = _lesser(b[2 * i + 1], _lesser(b[2 * i], _lesser(a[2 * i + 1], _lesser(a[2 * i], best[i]))))
    for k in range(paired, len(offsets)):
        a = x[origin + offsets[k] :]
        for i in range(whole):
            best[i] = _lesser(a[2 * i + 1], _lesser(a[2 * i], best[i]))
    if size > 2 * whole:
        for offset in offsets:
            best[whole] = _lesser(x[origin + offset + size - 1], best[whole])


@helper
def _greatest_of_pairs(x, origin, offsets, size, best):  # type: ignore[no-untyped-def]
    """Keep the greatest of windows two samples long, as `_least_of_pairs` does."""
    whole = size // 2
    paired = len(offsets) - len(offsets) % 2 if x.itemsize == 1 else 0
    for k in range(0, paired, 2):
        a, b = x[origin + offsets[k] :], x[origin + offsets[k + 1] :]
        for i in range(whole):
            best[i] = _greater(b[2 * i + 1], _greater(b[2 * i], _greater(a[2 * i + 1], _greater(a[2 * i], best[i]))))
    for k in range(paired, len(offsets)):
        a = x[origin + offsets[k] :]
        for i in range(whole):
            best[i] = _greater(a[2 * i + 1], _greater(a[2 * i], best[i]))
    if size > 2 * whole:
        for offset in offsets:
            best[whole] = _greater(x[origin + offset + size - 1], best[whole])


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
        split(samples, factor, inner, inner, size % factor, parts, 0)
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
