"""Standard deviations and weighted means of windows, as states that can be merged.

The state of a standard deviation has the float64 components (leading axis) count, mean and M2, the sum of squared
deviations from the mean; for complex values count, real and imaginary part of the mean, and M2. Values are added one by
one (Welford, Technometrics 4, 1962, p. 419), states are merged by the pairwise formula of Chan, Golub and LeVeque
(Updating formulae and a pairwise algorithm for computing sample variances, Stanford STAN-CS-79-773, 1979; The American
Statistician 37, 1983, p. 242). Neither subtracts large sums, and both give exactly zero for equal values. 64-bit
integers are rounded to float64 first.

The state of a weighted mean is (weight, mean). One more sample is added as in West (Communications of the ACM 22, 1979,
p. 532): the mean moves by a fraction of the difference, so that the mean of equal values is exact.
"""

from __future__ import annotations

import numpy as np

from ...image.boxes import Block
from .compiling import compiled, helper
from .windows import Missing, deinterleave, reduced_shape, window_rows, windows_with


def first(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the state (count, mean, M2) of every window of a block of values."""
    shape = reduced_shape(block.shape, factors)
    mean = np.empty(shape, np.complex128 if block.dtype.kind == "c" else np.float64)
    count, squares = np.empty((2, *shape))
    state = [component.reshape(-1) for component in (count, mean, squares)]
    flags = missing.arguments(block.dtype)
    # Compiled code does not warn about infinities and overflow; without compilation numpy would.
    with np.errstate(all="ignore"):
        for windows in window_rows(block.shape, factors):
            parts = np.empty((windows.factor, windows.width), block.dtype)
            _add_values(block.reshape(-1), *windows, *flags, parts, *state)
    return _state_of(count, mean, squares)


def merge(state: Block, factors: tuple[int, ...]) -> Block:
    """Merge states: return the state of coarser windows, of `factors` windows each."""
    count, mean, squares = _components(state)
    shape = reduced_shape(count.shape, factors)
    merged = np.empty(shape), np.empty(shape, mean.dtype), np.empty(shape)
    parts = [component.reshape(-1) for component in merged]
    with np.errstate(all="ignore"):
        for windows in window_rows(count.shape, factors):
            _merge(count.reshape(-1), mean.reshape(-1), squares.reshape(-1), *windows, *parts)
    return _state_of(*merged)


def finish(state: Block) -> Block:
    """Return the standard deviation (``ddof=0``) of every window, NaN where no value is valid."""
    with np.errstate(all="ignore"):
        deviation: Block = np.sqrt(state[-1] / state[0])
    return deviation


def _state_of(count: Block, mean: Block, squares: Block) -> Block:
    parts = (mean.real, mean.imag) if mean.dtype.kind == "c" else (mean,)
    return np.stack((count, *parts, squares))


def _components(state: Block) -> tuple[Block, Block, Block]:
    """Return (count, mean, M2) of a state, with a complex mean as one array."""
    state = np.ascontiguousarray(state)
    if len(state) == 3:
        return state[0], state[1], state[2]
    mean = np.empty(state.shape[1:], np.complex128)
    mean.real, mean.imag = state[1], state[2]
    return state[0], mean, state[3]


@compiled
def _add_values(  # type: ignore[no-untyped-def]
    x, origins, targets, offsets, size, factor, inner, skip_nan, has_nodata, nodata, parts, count, mean, squares
):
    as_mean = mean.dtype.type
    width = parts.shape[1]
    for row in range(len(origins)):
        target = targets[row]
        end = target + width
        counts, means, distances = count[target:end], mean[target:end], squares[target:end]
        counts[:] = 0
        means[:] = 0
        distances[:] = 0
        for offset in offsets:
            deinterleave(x[origins[row] + offset :], factor, inner, inner, size % factor, parts, 0)
            for sample in range(factor):
                values = parts[sample, : windows_with(sample, size, factor) * inner]
                for i in range(len(values)):
                    value = values[i]
                    if ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata)):
                        counts[i] += 1.0
                        deviation = as_mean(value) - means[i]
                        means[i] += deviation / counts[i]
                        distances[i] += _real_product(deviation, as_mean(value) - means[i])


@compiled
def _merge(  # type: ignore[no-untyped-def]
    count, mean, squares, origins, targets, offsets, size, factor, inner, counts, means, distances
):
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        target = targets[row]
        for i in range(target, target + width):
            counts[i], means[i], distances[i] = 0, 0, 0
        for offset in offsets:
            for k in range(size * inner):
                at, i = origins[row] + offset + k, target + (k // (factor * inner)) * inner + k % inner
                added = count[at]
                if counts[i] == 0:
                    counts[i], means[i], distances[i] = added, mean[at], squares[at]
                elif added > 0:
                    total = counts[i] + added
                    difference = mean[at] - means[i]
                    means[i] += difference * (added / total)
                    between = _real_product(difference, difference) * (counts[i] * (added / total))
                    distances[i] += squares[at] + between
                    counts[i] = total


@helper
def _real_product(a, b):  # type: ignore[no-untyped-def]
    """Return the real part of ``a * conj(b)``, which for a == b is the squared absolute value."""
    return a.real * b.real + a.imag * b.imag


def combine(weights: Block, means: Block, factors: tuple[int, ...]) -> Block:
    """Return the weight and the weighted mean of every window, float64 (2, *windows).

    Samples of weight 0 are ignored, even if their mean is NaN.
    """
    out = np.empty((2, *reduced_shape(means.shape, factors)))
    # Without compilation, numpy would warn about inf - inf.
    with np.errstate(all="ignore"):
        for windows in window_rows(means.shape, factors):
            _combine(weights.reshape(-1), means.reshape(-1), *windows, out[0].reshape(-1), out[1].reshape(-1))
    return out


@compiled
def _combine(weights, means, origins, targets, offsets, size, factor, inner, total, mean):  # type: ignore[no-untyped-def]
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        totals, weighted = total[targets[row] : targets[row] + width], mean[targets[row] : targets[row] + width]
        totals[:] = 0.0
        weighted[:] = np.nan
        for offset in offsets:
            for sample in range(size):
                at = origins[row] + offset + sample * inner
                window = (sample // factor) * inner
                for i in range(inner):
                    weight, value, k = weights[at + i], means[at + i], window + i
                    if weight > 0.0:
                        if totals[k] > 0.0 and value != weighted[k]:
                            weighted[k] += (value - weighted[k]) * (weight / (totals[k] + weight))
                        elif totals[k] == 0.0:
                            weighted[k] = value
                        totals[k] += weight
