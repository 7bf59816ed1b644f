"""The least and the greatest value of every window.

Without a rule for missing values NaN wins, as in numpy; with one, missing values are left out and a window
without a valid one becomes the fill value, which the next level leaves out again.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .windows import Block, Missing, as_rows, block_windows, most_rows, reduced_shape, window_rows


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
    _extremes(block.reshape(-1), *windows, greatest, *flags, missing.fill(block.dtype), as_rows(out, windows))
    return out


@compiled
def _extremes(x, sizes, factors, strides, inner, greatest, skip_nan, has_nodata, nodata, fill, out):  # type: ignore[no-untyped-def]
    size, factor = sizes[-1], factors[-1]
    starts = np.empty(most_rows(factors), np.int64)
    found = np.empty(out.shape[1], np.bool_)
    for row in range(out.shape[0]):
        best = out[row]
        best[:] = fill
        found[:] = False
        for start in starts[: window_rows(row, sizes, factors, strides, starts)]:
            for sample in range(size):
                at = start + sample * inner
                window = (sample // factor) * inner
                for i in range(inner):
                    value = x[at + i]
                    if (skip_nan and value != value) or (has_nodata and value == nodata):
                        continue
                    k = window + i
                    closer = value > best[k] if greatest else value < best[k]
                    if closer or value != value or not found[k]:
                        best[k] = value
                        found[k] = True
