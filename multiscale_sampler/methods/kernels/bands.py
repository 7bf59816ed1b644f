"""Coarse samples expanded to a finer grid, to take off a level what the next one tells of it, and to put it back.

A finer sample lies between the centres of two windows, or beyond the last of them, where the last one stands. Values
are interpolated linearly, axis by axis, so that what is expanded has the same bits whatever the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...image.boxes import Block
from .compiling import compiled


def expand(block: Block, factors: Sequence[int], offsets: Sequence[int], shape: Sequence[int]) -> Block:
    """Interpolate coarse samples at the centres of finer ones.

    Parameters
    ----------
    block
        float64 (channels, *coarse). NaN, a missing sample, is left out; where there is no other, the result is NaN.
    factors
        Finer samples per coarse one, along each spatial axis.
    offsets
        Finer samples from the beginning of the block to the first that is asked for, along each spatial axis.
    shape
        How many finer samples are asked for.

    Returns
    -------
        float64 (channels, *shape).
    """
    for axis, (factor, offset, size) in enumerate(zip(factors, offsets, shape, strict=True), 1):
        before, behind = block.shape[:axis], block.shape[axis + 1 :]
        if factor == 1:
            block = block[(slice(None),) * axis + (slice(offset, offset + size),)]
            continue
        rows = np.ascontiguousarray(block).reshape(math.prod(before), block.shape[axis], math.prod(behind))
        out = np.empty((len(rows), size, rows.shape[2]), np.float64)
        # Infinities may cancel; only the interpreter would warn of it.
        with np.errstate(all="ignore"):
            _interpolate(rows, factor, offset, out)
        block = out.reshape(*before, size, *behind)
    return block


@compiled
def _interpolate(x, factor, offset, out):  # type: ignore[no-untyped-def]
    last = x.shape[1] - 1
    for entry in range(len(x)):
        for i in range(out.shape[1]):
            # Twice the distance to the first centre, in finer samples.
            distance = 2 * (i + offset) + 1 - factor
            lower = distance // (2 * factor)
            share = (distance - lower * 2 * factor) / (2 * factor)
            # At a centre, and beyond the first or the last one, there is one sample.
            upper = min(max(lower + (share > 0), 0), last)
            lower = min(max(lower, 0), last)
            for j in range(out.shape[2]):
                a, b = x[entry, lower, j], x[entry, upper, j]
                if a != a or a == b:
                    out[entry, i, j] = b
                elif b != b:
                    out[entry, i, j] = a
                else:
                    # In halves: the difference of two values can be twice the greatest one.
                    half = share * (0.5 * b - 0.5 * a)
                    out[entry, i, j] = (a + half) + half
