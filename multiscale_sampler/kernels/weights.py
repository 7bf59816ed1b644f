"""Means of windows by weights of the samples, as pairs of (weight, mean) that combine from level to level.

The update of a weighted mean by one more sample is West's (Communications of the ACM 22, 1979, p. 532): the mean moves
by a part of the distance, so that equal values have exactly themselves for a mean.
"""

from __future__ import annotations

import numpy as np

from ..methods.kernels.compiling import compiled
from ..methods.kernels.windows import Block, reduced_shape, windows_of, windows_with


def combine(weights: Block, means: Block, factors: tuple[int, ...]) -> Block:
    """Return the (weight, mean) of every window of samples of some weights and means, float64 (2, *windows).

    A sample of weight 0 counts for nothing, whatever its mean.
    """
    out = np.empty((2, *reduced_shape(means.shape, factors)))
    # Infinities may cancel; only the interpreter would warn of it.
    with np.errstate(all="ignore"):
        for windows in windows_of(means.shape, factors):
            _combine(weights.reshape(-1), means.reshape(-1), *windows, out[0].reshape(-1), out[1].reshape(-1))
    return out


@compiled
def _combine(weights, means, origins, targets, offsets, size, factor, inner, total, mean):  # type: ignore[no-untyped-def]
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        totals, found = total[targets[row] : targets[row] + width], mean[targets[row] : targets[row] + width]
        totals[:] = 0.0
        found[:] = np.nan
        for offset in offsets:
            for sample in range(size):
                at = origins[row] + offset + sample * inner
                window = (sample // factor) * inner
                for i in range(inner):
                    weight, value, k = weights[at + i], means[at + i], window + i
                    if weight > 0.0:
                        if totals[k] > 0.0 and value != found[k]:
                            # Of the two, the step from the heavier is the smaller and loses less.
                            found[k] += (value - found[k]) * (weight / (totals[k] + weight))
                        elif totals[k] == 0.0:
                            found[k] = value
                        totals[k] += weight
