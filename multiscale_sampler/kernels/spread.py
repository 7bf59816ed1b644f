"""Variances of windows, kept so that they can be merged: count, mean and sum of squared distances from it.

The state of a window has the float64 components (leading axis) count, mean and M2, the sum of the squared distances
of its values from their mean; of complex values count, real and imaginary part of the mean, and M2. Values are taken
in one by one (Welford, Technometrics 4, 1962, p. 419), states are merged by the pairwise formula of Chan, Golub and
LeVeque (Updating formulae and a pairwise algorithm for computing sample variances, Stanford STAN-CS-79-773, 1979;
The American Statistician 37, 1983, p. 242). Neither subtracts two great sums, and both give exactly zero for values
that are all the same. Integers of 64 bits are rounded to float64 first.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled, helper
from .windows import (
    Block,
    Missing,
    as_rows,
    block_windows,
    reduced_shape,
    split,
    window_rows,
    windows_with,
)


def first(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the state of every window of a block of values."""
    windows = block_windows(block.shape, factors)
    shape = reduced_shape(block.shape, factors)
    mean = np.empty(shape, np.complex128 if block.dtype.kind == "c" else np.float64)
    count, squares = np.empty((2, *shape))
    rows = [as_rows(component, windows) for component in (count, mean, squares)]
    flags = missing.arguments(block.dtype)
    # What is infinite or overflows is so in silence, as when compiled.
    with np.errstate(all="ignore"):
        _take_in(block.reshape(-1), *windows, *flags, *rows)
    return _stack(count, mean, squares)


def merge(state: Block, factors: tuple[int, ...]) -> Block:
    """Return the state of windows of `factors` windows of a state."""
    count, mean, squares = _components(state)
    windows = block_windows(count.shape, factors)
    shape = reduced_shape(count.shape, factors)
    merged = np.empty(shape), np.empty(shape, mean.dtype), np.empty(shape)
    rows = [as_rows(component, windows) for component in merged]
    with np.errstate(all="ignore"):
        _merge(count.reshape(-1), mean.reshape(-1), squares.reshape(-1), *windows, *rows)
    return _stack(*merged)


def finish(state: Block) -> Block:
    """Return the population's standard deviation (ddof=0) of every window, NaN where no value is valid."""
    with np.errstate(all="ignore"):
        deviation: Block = np.sqrt(state[-1] / state[0])
    return deviation


def _stack(count: Block, mean: Block, squares: Block) -> Block:
    parts = (mean.real, mean.imag) if mean.dtype.kind == "c" else (mean,)
    return np.stack((count, *parts, squares))


def _components(state: Block) -> tuple[Block, Block, Block]:
    """Return (count, mean, squares) of a state, the parts of a complex mean as one."""
    state = np.ascontiguousarray(state)
    if len(state) == 3:
        return state[0], state[1], state[2]
    mean = np.empty(state.shape[1:], np.complex128)
    mean.real, mean.imag = state[1], state[2]
    return state[0], mean, state[3]


@compiled
def _take_in(x, sizes, factors, strides, inner, starts, skip_nan, has_nodata, nodata, count, mean, squares):  # type: ignore[no-untyped-def]
    size, factor = sizes[-1], factors[-1]
    covered = np.int64(0)
    parts = np.empty((factor, count.shape[1]), x.dtype)
    as_mean = mean.dtype.type
    for row in range(count.shape[0]):
        covered = window_rows(row, covered, sizes, factors, strides, starts)
        counts, means, distances = count[row], mean[row], squares[row]
        counts[:] = 0
        means[:] = 0
        distances[:] = 0
        for at in starts[:covered]:
            split(x[at:], size, factor, inner, parts)
            for sample in range(factor):
                values = parts[sample, : windows_with(sample, size, factor) * inner]
                for i in range(len(values)):
                    value = values[i]
                    if ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata)):
                        counts[i] += 1.0
                        before = as_mean(value) - means[i]
                        means[i] += before / counts[i]
                        distances[i] += _product(before, as_mean(value) - means[i])


@compiled
def _merge(count, mean, squares, sizes, factors, strides, inner, starts, counts, means, distances):  # type: ignore[no-untyped-def]
    size, factor = sizes[-1], factors[-1]
    covered = np.int64(0)
    for row in range(counts.shape[0]):
        covered = window_rows(row, covered, sizes, factors, strides, starts)
        counts[row] = 0
        means[row] = 0
        distances[row] = 0
        for at in starts[:covered]:
            for k in range(size * inner):
                i = (k // (factor * inner)) * inner + k % inner
                more = count[at + k]
                if counts[row, i] == 0:
                    counts[row, i], means[row, i], distances[row, i] = more, mean[at + k], squares[at + k]
                elif more > 0:
                    total = counts[row, i] + more
                    apart = mean[at + k] - means[row, i]
                    means[row, i] += apart * (more / total)
                    between = _product(apart, apart) * (counts[row, i] * (more / total))
                    distances[row, i] += squares[at + k] + between
                    counts[row, i] = total


@helper
def _product(a, b):  # type: ignore[no-untyped-def]
    """Return the real part of a times the conjugate of b, which for a == b is the square of the absolute value."""
    return a.real * b.real + a.imag * b.imag
