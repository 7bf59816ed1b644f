"""Expansion of a coarse level to the grid of the next finer one, for the bands of a Laplacian pyramid.

A finer sample lies between the centres of two windows, and is interpolated linearly between their values, axis by
axis; beyond the outermost centre it takes the value there. Results have the same bits for any division into blocks.
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
        float64 (channels, *coarse). NaN, a missing sample, is ignored; where both neighbours are NaN, so is the result.
    factors
        Finer samples per coarse one, along each spatial axis.
    offsets
        Finer samples from the start of the block to the start of the result, along each spatial axis.
    shape
        Finer samples of the result, along each spatial axis.

    Returns
    -------
        float64 (channels, *shape).
    """
    for axis, (factor, offset, size) in enumerate(zip(factors, offsets, shape, strict=True), 1):
        before, after = block.shape[:axis], block.shape[axis + 1 :]
        if factor == 1:
            block = block[(slice(None),) * axis + (slice(offset, offset + size),)]
            continue
        rows = np.ascontiguousarray(block).reshape(math.prod(before), block.shape[axis], math.prod(after))
        out = np.empty((len(rows), size, rows.shape[2]), np.float64)
        # Without compilation, numpy would warn about inf - inf.
        with np.errstate(all="ignore"):
            _interpolate(rows, factor, offset, out)
        block = out.reshape(*before, size, *after)
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
            # At a centre, and outside of the outermost ones, both neighbours are the same sample.
            upper = min(max(lower + (share > 0), 0), last)
            lower = min(max(lower, 0), last)
            for j in range(out.shape[2]):
                a, b = x[entry, lower, j], x[entry, upper, j]
                if a != a or a == b:
                    out[entry, i, j] = b
                elif b != b:
                    out[entry, i, j] = a
                else:
                    # In halves, because the difference of two values can overflow.
                    half = share * (0.5 * b - 0.5 * a)
                    out[entry, i, j] = (a + half) + half
