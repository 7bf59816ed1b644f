"""The mode of whole windows of 2 x 2 x 2 or 2 x 2 integers, where most windows are all of one value.

So are most of a segmentation, and of an empty background. Row by row, a first loop, of vector instructions, takes the
first sample of every window and marks the windows that are mixed, and a second one looks at these alone. All other
windows are a matter of `ranks`, whose sorting networks can be a third faster in noise, where all are mixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import compiled, helper
from .windows import Block, halved_shape, reduced_shape


def mode_of_pairs(block: Block, factors: tuple[int, ...], zero: Any = None) -> Block | None:
    """Return the most frequent value of every window, of equals the least; None for other windows.

    Parameters
    ----------
    block
        C-contiguous unsigned integers.
    factors
        Samples per window along each axis.
    zero
        A value that is left out of windows that have others; None for none.
    """
    halved = halved_shape(block.shape, factors)
    if halved is None or block.dtype.kind != "u":
        return None
    # Windows of 2 x 2 are looked at as if their two rows were in both of two planes: the most frequent stay so.
    step = len(halved) - 2
    x = block.reshape(halved if step else (1, *halved))
    out: Block = np.empty(reduced_shape(block.shape, factors), block.dtype)
    low = out.reshape(-1, x.shape[1] // 2, x.shape[2] // 2)
    mixed = np.empty(low.shape[2], np.uint8)
    seen, counts = np.empty(8, block.dtype), np.empty(8, np.int64)
    _pick(x, step, zero is not None, block.dtype.type(0 if zero is None else zero), mixed, seen, counts, low)
    return out


@compiled
def _pick(x, step, skip_zero, zero, mixed, seen, counts, low):  # type: ignore[no-untyped-def]
    """Put the most frequent value of every window in its place; its second plane is `step` behind the first."""
    for i in range(low.shape[0]):
        for j in range(low.shape[1]):
            upper, lower = x[i + i * step], x[i + i * step + step]
            a, b, c, d = upper[2 * j], upper[2 * j + 1], lower[2 * j], lower[2 * j + 1]
            out = low[i, j]
            for k in range(len(out)):
                first = a[2 * k]
                left = (first ^ b[2 * k]) | (first ^ c[2 * k]) | (first ^ d[2 * k])
                right = (
                    (first ^ a[2 * k + 1]) | (first ^ b[2 * k + 1]) | (first ^ c[2 * k + 1]) | (first ^ d[2 * k + 1])
                )
                out[k] = first
                mixed[k] = (left | right) != 0
            for k in range(len(out)):
                if mixed[k] != 0:
                    n = 2 * k
                    values = (a[n], a[n + 1], b[n], b[n + 1], c[n], c[n + 1], d[n], d[n + 1])
                    out[k] = _most_frequent(values, skip_zero, zero, seen, counts)


@helper
def _most_frequent(values, skip_zero, zero, seen, counts):  # type: ignore[no-untyped-def]
    """Return the most frequent of eight values: mostly the first or the last, which more than half of them are."""
    first, last = values[0], values[7]
    as_first, as_last = 0, 0
    for value in values:
        as_first += 1 if value == first else 0
        as_last += 1 if value == last else 0
    if as_first > 4 and not (skip_zero and first == zero):
        return first
    if as_last > 4 and not (skip_zero and last == zero):
        return last
    distinct = 0
    for value in values:
        distinct = _count(value, seen, counts, distinct)
    best, most = zero, 0
    for n in range(distinct):
        if skip_zero and seen[n] == zero:
            continue
        if counts[n] > most or (counts[n] == most and seen[n] < best):
            best, most = seen[n], counts[n]
    return best


@helper
def _count(value, seen, counts, distinct):  # type: ignore[no-untyped-def]
    """Count a value among those seen so far; return how many there are."""
    for n in range(distinct):
        if seen[n] == value:
            counts[n] += 1
            return distinct
    seen[distinct], counts[distinct] = value, 1
    return distinct + 1
