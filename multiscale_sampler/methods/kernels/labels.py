"""The mode of whole windows of two or four rows of two integers, most of which have one value or two.

So are most of a segmentation, and of an empty background. Row by row, a first loop, of vector instructions, counts the
first sample of every window and one of the others, which decides it if there are no more. A second one looks at the
windows that have three values or more. All other windows are a matter of `ranks`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...image.boxes import Block
from .compiling import compiled, helper
from .windows import Windows


def are_pairs(windows: Windows) -> bool:
    """Whether windows are two or four rows of two samples: 2 x 2 x 2, 2 x 2 or 4 x 2, whichever axes these are on."""
    return len(windows.offsets) in (2, 4) and windows.factor == 2 and windows.inner == 1


def mode_of_pairs(x: Block, windows: Windows, out: Block, zero: Any = None) -> None:
    """Put the most frequent value of every window in its place, of equals the least.

    Parameters
    ----------
    x
        Unsigned integers, one-dimensional.
    windows
        Windows of pairs, all of them whole.
    out
        What they are reduced to, one-dimensional.
    zero
        A value that is left out of windows that have others; None for none.
    """
    # Two rows are looked at as if they were there twice: the most frequent values stay so.
    offsets = np.resize(windows.offsets, 4)
    more = np.empty(windows.width, np.bool_)
    seen, counts = np.empty(8, x.dtype), np.empty(8, np.int64)
    value = x.dtype.type(0 if zero is None else zero)
    _pick_of_pairs(x, windows.origins, windows.targets, offsets, zero is not None, value, more, seen, counts, out)


@compiled
def _pick_of_pairs(x, origins, targets, offsets, skip_zero, zero, more, seen, counts, low):  # type: ignore[no-untyped-def]
    # In the dtype of the labels, as numba's own choice is wider: a vector holds as many as it can.
    of = low.dtype.type
    none, one, eight = of(0), of(1), of(8)
    for row in range(len(origins)):
        at = origins[row]
        a, b, c, d = x[at + offsets[0] :], x[at + offsets[1] :], x[at + offsets[2] :], x[at + offsets[3] :]
        out = low[targets[row] : targets[row] + len(more)]
        any_more = none
        for k in range(len(out)):
            first = a[2 * k]
            # What tells the others from it: zero for those that are equal.
            p, q, r = of(a[2 * k + 1] ^ first), of(b[2 * k] ^ first), of(b[2 * k + 1] ^ first)
            s, t = of(c[2 * k] ^ first), of(c[2 * k + 1] ^ first)
            u, v = of(d[2 * k] ^ first), of(d[2 * k + 1] ^ first)
            most = max(max(max(p, q), max(r, s)), max(max(t, u), v))
            other = of(first ^ most)
            firsts = of(one + _occurrences(none, p, q, r, s, t, u, v, of))
            others = _occurrences(most, p, q, r, s, t, u, v, of)
            takes_first = (firsts > others) | ((firsts == others) & (first < other))
            if skip_zero:
                takes_first = (other == zero) | (takes_first & (first != zero))
            out[k] = first if takes_first else other
            more[k] = of(firsts + others) < eight
            any_more = of(any_more | of(more[k]))
        if any_more == none:
            continue
        for k in range(len(out)):
            if more[k]:
                n = 2 * k
                values = (a[n], a[n + 1], b[n], b[n + 1], c[n], c[n + 1], d[n], d[n + 1])
                out[k] = _most_frequent(values, skip_zero, zero, seen, counts)


@helper
def _occurrences(value, p, q, r, s, t, u, v, of):  # type: ignore[no-untyped-def]
    """Return how many of seven are equal to a value."""
    three, four = of(of(p == value) + of(of(q == value) + of(r == value))), of(of(s == value) + of(t == value))
    return of(three + of(four + of(of(u == value) + of(v == value))))


@helper
def _most_frequent(values, skip_zero, zero, seen, counts):  # type: ignore[no-untyped-def]
    """Return the most frequent of eight values: often the first or the last, which more than half of them are."""
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
        distinct = _note(value, seen, counts, distinct)
    best, most = zero, 0
    for n in range(distinct):
        if skip_zero and seen[n] == zero:
            continue
        if counts[n] > most or (counts[n] == most and seen[n] < best):
            best, most = seen[n], counts[n]
    return best


@helper
def _note(value, seen, counts, distinct):  # type: ignore[no-untyped-def]
    """Count a value among those seen so far; return how many there are."""
    for n in range(distinct):
        if seen[n] == value:
            counts[n] += 1
            return distinct
    seen[distinct], counts[distinct] = value, 1
    return distinct + 1
