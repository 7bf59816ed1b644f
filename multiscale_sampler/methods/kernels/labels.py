"""A fast mode for whole windows of two or four rows of two integers, most of which have only one or two values.

This is usual in segmentations and empty backgrounds. For each row of windows, a first, vectorized loop counts the first
sample of a window and one value that differs from it, which is enough for windows of up to two values. A second loop
counts all values of the other windows. `ranks` handles windows of other shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...image.boxes import Block
from .compiling import compiled, helper
from .windows import WindowRows


def are_pairs(windows: WindowRows) -> bool:
    """Whether windows are two or four rows of two samples: 2 x 2 x 2, 2 x 2 or 4 x 2, on any axes."""
    return len(windows.offsets) in (2, 4) and windows.factor == 2 and windows.inner == 1


def mode_of_pairs(x: Block, windows: WindowRows, out: Block, zero: Any = None) -> None:
    """Write the most frequent value of every window to `out`; ties go to the smallest.

    Parameters
    ----------
    x
        Unsigned integers, one-dimensional.
    windows
        Whole windows for which `are_pairs` is true.
    out
        The reduced values, one-dimensional.
    zero
        A value that is ignored in windows with other values, or None.
    """
    # Two rows are counted twice, which does not change the most frequent value.
    offsets = np.resize(windows.offsets, 4)
    undecided = np.empty(windows.width, np.bool_)
    seen, counts = np.empty(8, x.dtype), np.empty(8, np.int64)
    value = x.dtype.type(0 if zero is None else zero)
    _mode_of_pairs(x, windows.origins, windows.targets, offsets, zero is not None, value, undecided, seen, counts, out)


@compiled
def _mode_of_pairs(x, origins, targets, offsets, skip_zero, zero, undecided, seen, counts, reduced):  # type: ignore[no-untyped-def]
    # Casts to the dtype of the labels, because numba would use wider integers, of which a vector has fewer.
    cast = reduced.dtype.type
    none, one, eight = cast(0), cast(1), cast(8)
    for row in range(len(origins)):
        origin = origins[row]
        a, b, c, d = (
            x[origin + offsets[0] :],
            x[origin + offsets[1] :],
            x[origin + offsets[2] :],
            x[origin + offsets[3] :],
        )
        out = reduced[targets[row] : targets[row] + len(undecided)]
        any_undecided = none
        for k in range(len(out)):
            first = a[2 * k]
            # Differences from the first sample: zero where values are equal.
            p, q, r = cast(a[2 * k + 1] ^ first), cast(b[2 * k] ^ first), cast(b[2 * k + 1] ^ first)
            s, t = cast(c[2 * k] ^ first), cast(c[2 * k + 1] ^ first)
            u, v = cast(d[2 * k] ^ first), cast(d[2 * k + 1] ^ first)
            most = max(max(max(p, q), max(r, s)), max(max(t, u), v))
            other = cast(first ^ most)
            firsts = cast(one + _occurrences(none, p, q, r, s, t, u, v, cast))
            others = _occurrences(most, p, q, r, s, t, u, v, cast)
            takes_first = (firsts > others) | ((firsts == others) & (first < other))
            if skip_zero:
                takes_first = (other == zero) | (takes_first & (first != zero))
            out[k] = first if takes_first else other
            undecided[k] = cast(firsts + others) < eight
            any_undecided = cast(any_undecided | cast(undecided[k]))
        if any_undecided == none:
            continue
        for k in range(len(out)):
            if undecided[k]:
                n = 2 * k
                values = (a[n], a[n + 1], b[n], b[n + 1], c[n], c[n + 1], d[n], d[n + 1])
                out[k] = _most_frequent(values, skip_zero, zero, seen, counts)


@helper
def _occurrences(value, p, q, r, s, t, u, v, cast):  # type: ignore[no-untyped-def]
    """Return how many of seven values are equal to `value`."""
    three, four = (
        cast(cast(p == value) + cast(cast(q == value) + cast(r == value))),
        cast(cast(s == value) + cast(t == value)),
    )
    return cast(three + cast(four + cast(cast(u == value) + cast(v == value))))


@helper
def _most_frequent(values, skip_zero, zero, seen, counts):  # type: ignore[no-untyped-def]
    """Return the most frequent of eight values; returns early if it is the first or the last with a majority."""
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
        distinct = _count_value(value, seen, counts, distinct)
    best, most = zero, 0
    for n in range(distinct):
        if skip_zero and seen[n] == zero:
            continue
        if counts[n] > most or (counts[n] == most and seen[n] < best):
            best, most = seen[n], counts[n]
    return best


@helper
def _count_value(value, seen, counts, distinct):  # type: ignore[no-untyped-def]
    """Count a value among the distinct ones seen so far; return how many distinct values there are."""
    for n in range(distinct):
        if seen[n] == value:
            counts[n] += 1
            return distinct
    seen[distinct], counts[distinct] = value, 1
    return distinct + 1
