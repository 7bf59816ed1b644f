"""The smallest and the largest value of every window.

Without a rule for missing values, the result is NaN where a window contains NaN, as in numpy. With one, missing values
are ignored; a window without a valid value becomes the fill value, which the next level ignores in turn.
`Missing.min_valid` is not used: it would not compose from level to level, so the caller applies it to a finished level,
with the counts of `sums.count_valid`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...image.boxes import Block
from .compiling import compiled, helper
from .windows import WIDE, Missing, deinterleave, reduced_shape, window_rows, windows_with


def minimum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the smallest valid value of every window."""
    return _extreme_of_windows(block, factors, missing, greatest=False)


def maximum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the largest valid value of every window."""
    return _extreme_of_windows(block, factors, missing, greatest=True)


def _extreme_of_windows(block: Block, factors: tuple[int, ...], missing: Missing, *, greatest: bool) -> Block:
    out = np.empty(reduced_shape(block.shape, factors), block.dtype)
    start = missing.fill(block.dtype) if missing else _farthest(block.dtype, greatest)
    x, best, rule = block.reshape(-1), out.reshape(-1), missing.arguments(block.dtype)
    for windows in window_rows(block.shape, factors):
        if windows.factor == 2 and windows.inner == 1 and not missing:
            _extremes_of_pairs(x, *windows[:4], greatest, start, best)
            continue
        # Long inner runs are vectorized as they are. For others, rows are combined first, then windows along the row.
        width = windows.width if windows.inner < WIDE else 0
        line = np.empty(windows.size * windows.inner if width and len(windows.offsets) > 1 else 0, block.dtype)
        parts = np.empty((windows.factor, width), block.dtype)
        _extremes(x, *windows, greatest, *rule, start, line, parts, best)
    if block.dtype.kind == "f":
        # Whether 0.0 or -0.0 is kept depends on the order of the samples, which differs between loops: make it 0.0.
        with np.errstate(invalid="ignore"):
            out += 0
    return out


def _farthest(dtype: np.dtype[Any], greatest: bool) -> Any:
    """Return the value that any other one replaces."""
    if dtype.kind == "f":
        return dtype.type(-np.inf if greatest else np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.min if greatest else limits.max)


@compiled
def _extremes_of_pairs(x, origins, targets, offsets, size, greatest, start, out):  # type: ignore[no-untyped-def]
    """Reduce windows that are two samples long, without missing values."""
    for row in range(len(origins)):
        best = out[targets[row] : targets[row] + (size + 1) // 2]
        for i in range(len(best)):
            best[i] = start
        if greatest:
            _largest_of_pairs(x, origins[row], offsets, size, best)
        else:
            _smallest_of_pairs(x, origins[row], offsets, size, best)


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
                _keep_best(x[at : at + len(line)], line, rule)
            _keep_best_along(line, size, factor, inner, parts, best, rule)
        else:
            for offset in offsets:
                _keep_best_along(x[origins[row] + offset :], size, factor, inner, parts, best, rule)


@helper
def _smallest_of_pairs(x, origin, offsets, size, best):  # type: ignore[no-untyped-def]
    """Keep the smallest value of windows that are two samples long."""
    whole = size // 2
    # Two rows at once save loads and stores; this pays for bytes only, as wider samples are read faster in one stream.
    paired = len(offsets) - len(offsets) % 2 if x.itemsize == 1 else 0
    for k in range(0, paired, 2):
        a, b = x[origin + offsets[k] :], x[origin + offsets[k + 1] :]
        for i in range(whole):
            best[i] = _smaller(b[2 * i + 1], _smaller(b[2 * i], _smaller(a[2 * i + 1], _smaller(a[2 * i], best[i]))))
    for k in range(paired, len(offsets)):
        a = x[origin + offsets[k] :]
        for i in range(whole):
            best[i] = _smaller(a[2 * i + 1], _smaller(a[2 * i], best[i]))
    if size > 2 * whole:
        for offset in offsets:
            best[whole] = _smaller(x[origin + offset + size - 1], best[whole])


@helper
def _largest_of_pairs(x, origin, offsets, size, best):  # type: ignore[no-untyped-def]
    """Keep the largest value of windows that are two samples long, as `_smallest_of_pairs` keeps the smallest."""
    whole = size // 2
    paired = len(offsets) - len(offsets) % 2 if x.itemsize == 1 else 0
    for k in range(0, paired, 2):
        a, b = x[origin + offsets[k] :], x[origin + offsets[k + 1] :]
        for i in range(whole):
            best[i] = _larger(b[2 * i + 1], _larger(b[2 * i], _larger(a[2 * i + 1], _larger(a[2 * i], best[i]))))
    for k in range(paired, len(offsets)):
        a = x[origin + offsets[k] :]
        for i in range(whole):
            best[i] = _larger(a[2 * i + 1], _larger(a[2 * i], best[i]))
    if size > 2 * whole:
        for offset in offsets:
            best[whole] = _larger(x[origin + offset + size - 1], best[whole])


@helper
def _smaller(value, kept):  # type: ignore[no-untyped-def]
    """Return the smaller of two values, or NaN if `value` is NaN."""
    return value if (value < kept) | (value != value) else kept


@helper
def _larger(value, kept):  # type: ignore[no-untyped-def]
    """Return the larger of two values, or NaN if `value` is NaN."""
    return value if (value > kept) | (value != value) else kept


@helper
def _keep_best_along(samples, size, factor, inner, parts, best, rule):  # type: ignore[no-untyped-def]
    """Keep the best value of every window of one row of samples."""
    if inner < WIDE:
        deinterleave(samples, factor, inner, inner, size % factor, parts, 0)
    for sample in range(factor):
        count = windows_with(sample, size, factor)
        if inner < WIDE:
            _keep_best(parts[sample], best[: count * inner], rule)
        else:
            for window in range(count):
                at = (window * factor + sample) * inner
                _keep_best(samples[at : at + inner], best[window * inner : (window + 1) * inner], rule)


@helper
def _keep_best(values, best, rule):  # type: ignore[no-untyped-def]
    greatest, skip_nan, has_nodata, nodata = rule
    if skip_nan or has_nodata:
        # A window without a valid value so far has the fill value, which is never valid.
        for i in range(len(best)):
            value, kept = values[i], best[i]
            valid = ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
            closer = (value > kept) if greatest else (value < kept)
            empty = (kept == nodata) if has_nodata else (kept != kept)
            best[i] = value if valid & (closer | empty | (value != value)) else kept
    elif greatest:
        for i in range(len(best)):
            best[i] = _larger(values[i], best[i])
    else:
        for i in range(len(best)):
            best[i] = _smaller(values[i], best[i])
