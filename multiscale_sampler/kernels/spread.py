"""The spread of the values of every window, from moments that combine from level to level without loss.

The moments are components (leading axis) of float64: the number of valid values, their mean, and the sum of their
squared distances from it. Of complex values the mean has two components, and distances are those in the plane. Values
are added one at a time (Welford, Technometrics 4, 1962, p. 419), windows of windows as pairs (Chan, Golub and
LeVeque, The American Statistician 37, 1983, p. 242); neither squares a sum, and the spread of equal values is 0.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .windows import Block, Missing, as_rows, block_windows, most_rows, reduced_shape, window_rows


def first(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    """Return the moments of the valid values of every window."""
    if block.dtype.kind != "c":
        return _moments(block, factors, missing)
    absent = np.isnan(block) if missing.skip_nan else np.zeros(block.shape, np.bool_)
    if missing.nodata is not None:
        absent |= block == missing.nodata
    parts = [np.where(absent, np.nan, part.astype(np.float64)) for part in (block.real, block.imag)]
    real, imaginary = (_moments(part, factors, Missing(bool(missing), None)) for part in parts)
    return np.stack([real[0], real[1], imaginary[1], real[2] + imaginary[2]])


def merge(state: Block, factors: tuple[int, ...]) -> Block:
    """Return the moments of windows of windows."""
    windows = block_windows(state.shape[1:], factors)
    out = np.empty((len(state), *reduced_shape(state.shape[1:], factors)))
    rows = out.reshape(len(state), *as_rows(out[0], windows).shape)
    # Infinities may cancel; only the interpreter would warn of it.
    with np.errstate(all="ignore"):
        _merge(state.reshape(len(state), -1), *windows, rows)
    return out


def finish(state: Block) -> Block:
    """Return the standard deviations (of the population), NaN where no value was valid."""
    with np.errstate(all="ignore"):
        deviations: Block = np.sqrt(state[-1] / state[0])
    return deviations


def _moments(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    windows = block_windows(block.shape, factors)
    out = np.empty((3, *reduced_shape(block.shape, factors)))
    rows = [as_rows(component, windows) for component in out]
    with np.errstate(all="ignore"):
        _add(block.reshape(-1), *windows, *missing.arguments(block.dtype), *rows)
    return out


@compiled
def _add(x, sizes, factors, strides, inner, skip_nan, has_nodata, nodata, count, mean, squares):  # type: ignore[no-untyped-def]
    size, factor = sizes[-1], factors[-1]
    starts = np.empty(most_rows(factors), np.int64)
    for row in range(count.shape[0]):
        counts, means, sums = count[row], mean[row], squares[row]
        counts[:] = 0.0
        means[:] = 0.0
        sums[:] = 0.0
        for start in starts[: window_rows(row, sizes, factors, strides, starts)]:
            for sample in range(size):
                at = start + sample * inner
                window = (sample // factor) * inner
                for i in range(inner):
                    value = x[at + i]
                    if (skip_nan and value != value) or (has_nodata and value == nodata):
                        continue
                    k = window + i
                    counts[k] += 1.0
                    distance = value - means[k] if counts[k] > 1.0 else 0.0
                    means[k] = means[k] + distance / counts[k] if counts[k] > 1.0 else value
                    # NaN that is not left out, and infinity, have no spread that is a number.
                    sums[k] += distance * (value - means[k])


@compiled
def _merge(state, sizes, factors, strides, inner, out):  # type: ignore[no-untyped-def]
    size, factor, last = sizes[-1], factors[-1], len(state) - 1
    starts = np.empty(most_rows(factors), np.int64)
    for row in range(out.shape[1]):
        out[:, row] = 0.0
        for start in starts[: window_rows(row, sizes, factors, strides, starts)]:
            for sample in range(size):
                for i in range(inner):
                    at = start + sample * inner + i
                    k = (sample // factor) * inner + i
                    added, held = state[0, at], out[0, row, k]
                    if added == 0.0:
                        continue
                    total = held + added
                    apart = 0.0
                    for part in range(1, last):
                        distance = state[part, at] - out[part, row, k] if held > 0.0 else 0.0
                        apart += distance * distance
                        out[part, row, k] = (
                            out[part, row, k] + distance * (added / total) if held > 0.0 else state[part, at]
                        )
                    out[last, row, k] += state[last, at] + apart * (held * added / total)
                    out[0, row, k] = total
