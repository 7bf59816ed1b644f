"""Unrounded sums of windows, and their division by the number of samples.

Sums are passed unrounded from level to level, as blocks of *components* (leading axis), and rounded only when a level
is finished. The components depend on the dtype:

- integers of up to 32 bits: one integer, in which the sum is exact;
- 64-bit integers: the sums of the upper and of the lower 32 bits, so that no carry is lost;
- float16 and float32: one float64, exact where the values of a window span less than 29 bits;
- float64: Neumaier's compensated sum (Zeitschrift fuer Angewandte Mathematik und Mechanik 54, 1974, p. 39), one for
  ordinary values and one, scaled down, for values near the largest float, whose sum would overflow.

Where values can be missing, the last component counts the valid ones.

Loops first add up rows of samples, which is vectorized because neighbouring columns are contiguous in memory, and then
the columns of each window. That order decides the last bit of sums of floats, so all loops keep to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ...image.boxes import Block
from .compiling import compiled, helper
from .windows import HALF_BITS, LOWER_HALF, WIDE, Int64s, Missing, WindowRows, reduced_shape, window_rows, windows_with

SIGN_BIT = np.uint64(2**63)
HUGE = 2.0**960
SCALE_DOWN = 2.0**-128
SCALE_UP = 2.0**128
# Veltkamp's constant: splits a float64 into two halves whose products are exact.
SPLITTER = 2.0**27 + 1.0
# Bytes of rows that are averaged before those with missing values are averaged again: they fit into a second-level
# cache.
SLAB_BYTES = 2**18
# float32 represents every integer up to this one.
EXACT_IN_FLOAT32 = 2**24


def sum_windows(block: Block, factors: tuple[int, ...], total: Block) -> None:
    """Write the sum of every window to `total`, whose dtype must be wide enough for them."""
    x, sums = block.reshape(-1), total.reshape(-1)
    # Sums of 64-bit integers wrap around, as numpy's; without compilation numpy would warn.
    with np.errstate(over="ignore"):
        for windows in window_rows(block.shape, factors):
            match _samples_of_whole(windows, factors):
                case (2, 2, 2):
                    _add_cubes(x, *windows[:4], sums)
                case (2, 2):
                    _add_squares(x, *windows[:4], sums)
                case _:
                    _add_windows_of_any_shape(x, *windows, _line_buffer(windows, total.dtype), sums)


def sum_valid_windows(block: Block, factors: tuple[int, ...], missing: Missing, total: Block, count: Block) -> None:
    """Write the sum of the valid values of every window to `total`, and their number to `count`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if missing.nodata is None:
            # NaN is rare, and without NaN the faster sum has the same bits.
            sum_windows(block, factors, total)
            _count_all(block.shape, factors, count)
            if not np.isnan(total).any():
                return
        rule = missing.arguments(block.dtype)
        for windows in window_rows(block.shape, factors):
            lines = _line_buffer(windows, total.dtype), _line_buffer(windows, count.dtype)
            _add_valid(block.reshape(-1), *windows, *rule, *lines, total.reshape(-1), count.reshape(-1))


def mean_valid_windows(block: Block, factors: tuple[int, ...], missing: Missing, fill: Any, out: Block) -> None:
    """Write the mean of the valid values of every window of floats to `out`; `fill` where there are none."""
    x, means, flags = block.reshape(-1), out.reshape(-1), missing.arguments(block.dtype)
    for windows in window_rows(block.shape, factors):
        sums, counts = np.empty((2, windows.width))
        line, number = _line_buffer(windows, sums.dtype), _line_buffer(windows, counts.dtype)
        cubes = _samples_of_whole(windows, factors) == (2, 2, 2)
        # Rows with NaN are averaged again while they are in the cache, by a kernel that most images do not need.
        together = max(1, SLAB_BYTES // (windows.samples * windows.width * block.itemsize))
        gaps = np.ones(together, np.bool_)
        expect_gaps = missing.nodata is not None
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for first in range(0, len(windows.origins), together):
                rows = windows.rows(first, first + together)
                gappy = together
                if expect_gaps:
                    gaps[:] = True
                elif cubes:
                    gappy = _average_cubes_of_floats(x, *rows[:4], gaps, means)
                else:
                    gappy = _average_floats(x, *rows, line, sums, gaps, means)
                if gappy:
                    _average_valid(x, *rows, *flags, fill, line, number, sums, counts, gaps, means)
                # Where most rows had gaps, skip the attempt without missing values for the next rows.
                expect_gaps = missing.nodata is not None or (not expect_gaps and 2 * gappy > together)


def mean_narrow_windows(block: Block, factors: tuple[int, ...], out: Block) -> None:
    """Write the means of windows of integers of up to 16 bits, whose sums fit into 32 bits, to `out`."""
    x, means = block.reshape(-1), out.reshape(-1)
    for windows in window_rows(block.shape, factors):
        match _samples_of_whole(windows, factors):
            case (2, 2, 2):
                _average_cubes(x, *windows[:4], means)
            case (2, 2):
                _average_squares(x, *windows[:4], means)
            case (3, 3, 3):
                _average_threes(x, *windows[:4], _line_buffer(windows, np.int32), means)
            case _:
                sums = np.empty(windows.width, np.int32)
                _average_narrow(x, *windows, _line_buffer(windows, sums.dtype), sums, means)


def count_valid(block: Block, factors: tuple[int, ...], missing: Missing, dtype: npt.DTypeLike) -> Block:
    """Return the number of valid samples of every window."""
    count: Block = np.empty(reduced_shape(block.shape, factors), dtype)
    rule = missing.arguments(block.dtype)
    for windows in window_rows(block.shape, factors):
        _count_valid_samples(block.reshape(-1), *windows, *rule, _line_buffer(windows, dtype), count.reshape(-1))
    return count


def sum_halves(block: Block, factors: tuple[int, ...], missing: Missing, total: Block, count: Block) -> None:
    """Write the sums of 64-bit integers to the components (upper halves, lower halves) of `total`, and `count`.

    2**63 is added to signed integers, which makes them unsigned; `divide_halves` subtracts it. `count` is written
    only where values can be missing.
    """
    shift = SIGN_BIT if block.dtype.kind == "i" else np.uint64(0)
    nodata = None if missing.nodata is None else np.array(missing.nodata, block.dtype).view(np.uint64)[()]
    _, has_nodata, excluded = Missing(False, nodata).arguments(np.dtype(np.uint64))
    x, sums = block.reshape(-1).view(np.uint64), [part.reshape(-1) for part in (total[0], total[1], count)]
    for windows in window_rows(block.shape, factors):
        _add_halves(x, *windows, shift, has_nodata, excluded, *sums)


def sum_compensated(block: Block, factors: tuple[int, ...], missing: Missing, total: Block, count: Block) -> None:
    """Write the sums of float64 to the components (sum, error, scaled sum, scaled error) of `total`, and `count`."""
    sums, rule = [part.reshape(-1) for part in (*total, count)], missing.arguments(block.dtype)
    for windows in window_rows(block.shape, factors):
        _add_compensated(block.reshape(-1), *windows, *rule, *sums)


def merge_compensated(state: Block, factors: tuple[int, ...], total: Block) -> None:
    """Write the sums of windows of compensated sums to `total`; both have the same four components."""
    parts, sums = ([part.reshape(-1) for part in of] for of in (state, total))
    for windows in window_rows(state.shape[1:], factors):
        for at in (0, 2):
            _merge_pairs(parts[at], parts[at + 1], *windows, sums[at], sums[at + 1])


def divide(total: Block, count: Block, fill: Any, out: Block) -> None:
    """Divide sums by `count`: integers exactly, rounded half to even, floats in float64; `fill` where it is 0."""
    if out.dtype.kind == "f":
        kernel = _divide_floats
    else:
        kernel = _divide_narrow_integers if total.dtype.itemsize == 4 else _divide_integers
    kernel(total.reshape(-1), count.reshape(-1), fill, out.reshape(-1))


def divide_whole(total: Block, count: tuple[Int64s, ...], out: Block) -> None:
    """Divide sums of windows without missing values by their numbers of samples, one array for each axis."""
    kernel = _divide_whole_floats if out.dtype.kind == "f" else _divide_whole_integers
    rows, last = count_rows(count[:-1]), count[-1][[0, -1]]
    width = total.shape[-1]
    if all((along == along[0]).all() for along in count):
        # One long row is faster than many short ones.
        rows, width = rows[:1], total.size
    kernel(total.reshape(-1, width), rows.astype(total.dtype), last.astype(total.dtype), out.reshape(-1, width))


def count_rows(counts: tuple[Int64s, ...]) -> Int64s:
    """Return the number of samples of every window of these axes, flat in C order."""
    rows = np.ones(1, np.int64)
    for along in counts:
        rows = np.multiply.outer(rows, along).reshape(-1)
    return rows


def divide_halves(total: Block, count: Block, fill: Any, out: Block) -> None:
    """Divide sums of halves of 64-bit integers, rounded half to even; `fill` where the count is 0."""
    shift = SIGN_BIT if out.dtype.kind == "i" else np.uint64(0)
    bits = np.array(fill, out.dtype).view(np.uint64)[()]
    _divide_halves(
        total[0].reshape(-1),
        total[1].reshape(-1),
        count.reshape(-1),
        bits,
        shift,
        out.reshape(-1).view(np.uint64),
    )


def divide_compensated(total: Block, count: Block, fill: Any, out: Block) -> None:
    """Divide compensated sums, correctly rounded except for extremely rare ties; `fill` where the count is 0."""
    parts = total.reshape(4, -1)
    _divide_compensated(parts[0], parts[1], parts[2], parts[3], count.reshape(-1), fill, out.reshape(-1))


def compensated_total(total: Block) -> Block:
    """Return compensated sums rounded to float64."""
    with np.errstate(invalid="ignore", over="ignore"):
        parts = [np.where(np.isfinite(total[i] + total[i + 1]), total[i] + total[i + 1], total[i]) for i in (0, 2)]
        rounded: Block = parts[0] + parts[1] * SCALE_UP
    return rounded


def _samples_of_whole(windows: WindowRows, factors: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the samples of whole windows along the reduced axes, to select a loop for their shape.

    None where windows are partial along any axis but the row, or where the inner run is longer than one.
    """
    whole = windows.samples == math.prod(factors) and windows.inner == 1
    return tuple(factor for factor in factors if factor > 1) if whole else None


def _line_buffer(windows: WindowRows, dtype: npt.DTypeLike) -> Block:
    """Return a buffer for the sums of columns: of a row of windows, or of one inner run where runs are long."""
    return np.empty(windows.size * windows.inner if windows.inner < WIDE else windows.inner, dtype)


def _count_all(shape: tuple[int, ...], factors: tuple[int, ...], count: Block) -> None:
    """Write the number of samples of every window to `count`."""
    count[...] = math.prod(factors)
    for axis, (size, factor) in enumerate(zip(shape, factors, strict=True)):
        if size % factor:
            last = np.moveaxis(count, axis, 0)[-1:]
            last[...] = last // factor * (size % factor)


@compiled
def _add_windows_of_any_shape(x, origins, targets, offsets, size, factor, inner, line, total):  # type: ignore[no-untyped-def]
    """Add up the windows of each row: first the rows of samples to one line, then the columns of each window."""
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        sums = total[targets[row] : targets[row] + width]
        for part in range(size * inner // len(line)):
            _add_down(x, origins[row] + part * len(line), offsets, line)
            _add_across(line, part, size, factor, inner, sums)


@helper
def _add_down(x, origin, offsets, line):  # type: ignore[no-untyped-def]
    """Add up rows of samples to a line, in order."""
    # Casts to the dtype of the sums, because numba would use a wider one. The sum starts with 0, as -0.0 + 0 is 0.
    cast, zero = line.dtype.type, line.dtype.type(0)
    # Several rows at once save loads and stores. With unsigned indices no check for negative ones is compiled.
    count = 2 - len(offsets) % 2
    a, b = np.uint64(origin + offsets[0]), np.uint64(origin + offsets[count - 1])
    if count == 1:
        for i in range(len(line)):
            line[i] = cast(zero + cast(x[a + np.uint64(i)]))
    else:
        for i in range(len(line)):
            line[i] = cast(cast(zero + cast(x[a + np.uint64(i)])) + cast(x[b + np.uint64(i)]))
    while count < len(offsets):
        a, b = np.uint64(origin + offsets[count]), np.uint64(origin + offsets[count + 1])
        if count + 4 <= len(offsets):
            c, d = np.uint64(origin + offsets[count + 2]), np.uint64(origin + offsets[count + 3])
            for i in range(len(line)):
                two = cast(cast(line[i] + cast(x[a + np.uint64(i)])) + cast(x[b + np.uint64(i)]))
                line[i] = cast(cast(two + cast(x[c + np.uint64(i)])) + cast(x[d + np.uint64(i)]))
            count += 4
        else:
            for i in range(len(line)):
                line[i] = cast(cast(line[i] + cast(x[a + np.uint64(i)])) + cast(x[b + np.uint64(i)]))
            count += 2


@helper
def _add_across(line, part, size, factor, inner, sums):  # type: ignore[no-untyped-def]
    """Add up the columns of every window, in order; `line` has all columns of the row or those of one sample."""
    cast = sums.dtype.type
    whole = size // factor
    if len(line) < size * inner:
        added = sums[part // factor * inner :]
        for i in range(inner):
            added[i] = line[i] if part % factor == 0 else cast(added[i] + line[i])
        return
    # With constant factors the compiler uses vector shuffles.
    if inner == 1 and factor == 2:
        for i in range(whole):
            sums[i] = cast(line[2 * i] + line[2 * i + 1])
    elif inner == 1 and factor == 3:
        for i in range(whole):
            sums[i] = cast(cast(line[3 * i] + line[3 * i + 1]) + line[3 * i + 2])
    else:
        whole = 0
    for window in range(whole, len(sums) // inner):
        for i in range(inner):
            total = cast(0)
            for sample in range(window * factor, min((window + 1) * factor, size)):
                total = cast(total + line[sample * inner + i])
            sums[window * inner + i] = total


@compiled
def _add_cubes(x, origins, targets, offsets, size, total):  # type: ignore[no-untyped-def]
    """Add up windows of 2 x 2 x 2, by far the most frequent ones, in the order of `_add_windows_of_any_shape`."""
    cast, u64, two, one = total.dtype.type, np.uint64, np.uint64(2), np.uint64(1)
    zero = cast(0)
    for row in range(len(origins)):
        a, b = u64(origins[row] + offsets[0]), u64(origins[row] + offsets[1])
        c, d = u64(origins[row] + offsets[2]), u64(origins[row] + offsets[3])
        target = u64(targets[row])
        for k in range(size // 2):
            i = u64(k) * two
            j = i + one
            first = zero + cast(x[a + i]) + cast(x[b + i]) + cast(x[c + i]) + cast(x[d + i])
            second = zero + cast(x[a + j]) + cast(x[b + j]) + cast(x[c + j]) + cast(x[d + j])
            total[target + u64(k)] = first + second
        if size % 2 > 0:
            total[target + u64(size // 2)] = _last_sum(x, origins[row] + size - 1, offsets, zero)


@compiled
def _add_squares(x, origins, targets, offsets, size, total):  # type: ignore[no-untyped-def]
    """Add up windows of 2 x 2, in the order of `_add_windows_of_any_shape`."""
    cast, u64, two, one = total.dtype.type, np.uint64, np.uint64(2), np.uint64(1)
    zero = cast(0)
    for row in range(len(origins)):
        a, b = u64(origins[row] + offsets[0]), u64(origins[row] + offsets[1])
        target = u64(targets[row])
        for k in range(size // 2):
            i = u64(k) * two
            j = i + one
            first, second = zero + cast(x[a + i]) + cast(x[b + i]), zero + cast(x[a + j]) + cast(x[b + j])
            total[target + u64(k)] = first + second
        if size % 2 > 0:
            total[target + u64(size // 2)] = _last_sum(x, origins[row] + size - 1, offsets, zero)


@helper
def _last_sum(x, origin, offsets, zero):  # type: ignore[no-untyped-def]
    """Return the sum of the last window of a row, where it has one sample in each row of samples."""
    total = zero
    for offset in offsets:
        total += x[np.uint64(origin + offset)]
    return total


@compiled
def _add_valid(  # type: ignore[no-untyped-def]
    x, origins, targets, offsets, size, factor, inner, skip_nan, has_nodata, nodata, line, number, total, count
):
    """Add up and count the valid values of rows of windows with nodata, or with NaN in their sums."""
    rule = (skip_nan, has_nodata, nodata)
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        target = targets[row]
        sums, counts = total[target : target + width], count[target : target + width]
        gaps = 0
        for i in range(len(sums)):
            gaps += sums[i] != sums[i]
        if has_nodata or gaps > 0:
            _add_valid_row(x, origins[row], offsets, size, factor, inner, (line, number), sums, counts, rule)


@compiled
def _average_floats(x, origins, targets, offsets, size, factor, inner, line, sums, gaps, out):  # type: ignore[no-untyped-def]
    """Average rows of windows of floats; mark rows with NaN in `gaps`, and return their number."""
    gappy, rows = 0, len(offsets)
    whole, rest = size // factor * inner, size % factor
    for row in range(len(origins)):
        means = out[targets[row] : targets[row] + len(sums)]
        for part in range(size * inner // len(line)):
            _add_down(x, origins[row] + part * len(line), offsets, line)
            _add_across(line, part, size, factor, inner, sums)
        # Counts them all, because a loop that can end early is not vectorized.
        missing = 0
        for i in range(whole):
            means[i] = sums[i] / (rows * factor)
            missing += sums[i] != sums[i]
        for i in range(whole, len(means)):
            means[i] = sums[i] / (rows * rest)
            missing += sums[i] != sums[i]
        gaps[row] = missing > 0
        gappy += missing > 0
    return gappy


@compiled
def _average_cubes_of_floats(x, origins, targets, offsets, size, gaps, out):  # type: ignore[no-untyped-def]
    """Average rows of windows of 2 x 2 x 2, as `_average_floats` does."""
    gappy, zero = 0, np.float64(0.0)
    u64, two, one = np.uint64, np.uint64(2), np.uint64(1)
    for row in range(len(origins)):
        a, b = u64(origins[row] + offsets[0]), u64(origins[row] + offsets[1])
        c, d = u64(origins[row] + offsets[2]), u64(origins[row] + offsets[3])
        target = u64(targets[row])
        missing = 0
        for k in range(size // 2):
            i = u64(k) * two
            j = i + one
            first = zero + x[a + i] + x[b + i] + x[c + i] + x[d + i]
            second = zero + x[a + j] + x[b + j] + x[c + j] + x[d + j]
            mean = (first + second) * 0.125
            out[target + u64(k)] = mean
            missing += mean != mean
        if size % 2 > 0:
            mean = _last_sum(x, origins[row] + size - 1, offsets, zero) * 0.25
            out[target + u64(size // 2)] = mean
            missing += mean != mean
        gaps[row] = missing > 0
        gappy += missing > 0
    return gappy


@compiled
def _average_valid(  # type: ignore[no-untyped-def]
    x,
    origins,
    targets,
    offsets,
    size,
    factor,
    inner,
    skip_nan,
    has_nodata,
    nodata,
    fill,
    line,
    number,
    sums,
    counts,
    gaps,
    out,
):
    """Average the valid values of the rows of windows that are marked in `gaps`."""
    rule = (skip_nan, has_nodata, nodata)
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        if gaps[row]:
            _add_valid_row(x, origins[row], offsets, size, factor, inner, (line, number), sums, counts, rule)
            means = out[targets[row] : targets[row] + width]
            for i in range(len(means)):
                # Divides first, because a branch around the division would prevent vectorization.
                mean = sums[i] / counts[i]
                means[i] = mean if counts[i] > 0 else fill


@compiled
def _average_narrow(x, origins, targets, offsets, size, factor, inner, line, sums, out):  # type: ignore[no-untyped-def]
    whole, rest, rows = size // factor * inner, size % factor, len(offsets)
    for row in range(len(origins)):
        means = out[targets[row] : targets[row] + len(sums)]
        for part in range(size * inner // len(line)):
            _add_down(x, origins[row] + part * len(line), offsets, line)
            _add_across(line, part, size, factor, inner, sums)
        _divide_narrow_row(sums[:whole], np.int32(rows * factor), means)
        if rest > 0:
            _divide_narrow_row(sums[whole:], np.int32(rows * rest), means[whole:])


@compiled
def _average_cubes(x, origins, targets, offsets, size, out):  # type: ignore[no-untyped-def]
    """Average windows of 2 x 2 x 2, by far the most frequent ones, without a line buffer."""
    # Casts every step, because numba adds 32-bit integers as 64-bit ones, of which a vector has half as many.
    cast, zero, three, odd = np.int32, np.int32(0), np.int32(3), np.int32(1)
    u64, two, one = np.uint64, np.uint64(2), np.uint64(1)
    for row in range(len(origins)):
        a, b = u64(origins[row] + offsets[0]), u64(origins[row] + offsets[1])
        c, d = u64(origins[row] + offsets[2]), u64(origins[row] + offsets[3])
        target = u64(targets[row])
        for k in range(size // 2):
            i = u64(k) * two
            j = i + one
            first = cast(cast(cast(x[a + i]) + cast(x[b + i])) + cast(cast(x[c + i]) + cast(x[d + i])))
            second = cast(cast(cast(x[a + j]) + cast(x[b + j])) + cast(cast(x[c + j]) + cast(x[d + j])))
            total = cast(first + second)
            out[target + u64(k)] = cast(cast(total + three) + cast(cast(total >> three) & odd)) >> three
        if size % 2 > 0:
            out[target + u64(size // 2)] = _half_to_even(_last_sum(x, origins[row] + size - 1, offsets, zero), 4)


@compiled
def _average_squares(x, origins, targets, offsets, size, out):  # type: ignore[no-untyped-def]
    """Average windows of 2 x 2, as `_average_cubes` does."""
    cast, zero, odd = np.int32, np.int32(0), np.int32(1)
    u64, two, one = np.uint64, np.uint64(2), np.uint64(1)
    for row in range(len(origins)):
        a, b = u64(origins[row] + offsets[0]), u64(origins[row] + offsets[1])
        target = u64(targets[row])
        for k in range(size // 2):
            i = u64(k) * two
            j = i + one
            total = cast(cast(cast(x[a + i]) + cast(x[b + i])) + cast(cast(x[a + j]) + cast(x[b + j])))
            out[target + u64(k)] = cast(cast(total + odd) + cast(cast(total >> cast(2)) & odd)) >> cast(2)
        if size % 2 > 0:
            out[target + u64(size // 2)] = _half_to_even(_last_sum(x, origins[row] + size - 1, offsets, zero), 2)


@compiled
def _average_threes(x, origins, targets, offsets, size, line, out):  # type: ignore[no-untyped-def]
    """Average windows of 3 x 3 x 3, with a line of the sums of columns."""
    cast, u64 = np.int32, np.uint64
    whole, rest = size // 3, size % 3
    # Exact for means of up to 16 bits, see `_divide_narrow_row`.
    inverse = np.float32(1 / 27)
    for row in range(len(origins)):
        origin, target = origins[row], u64(targets[row])
        a, b, c = u64(origin + offsets[0]), u64(origin + offsets[1]), u64(origin + offsets[2])
        d, e, f = u64(origin + offsets[3]), u64(origin + offsets[4]), u64(origin + offsets[5])
        g, h, j = u64(origin + offsets[6]), u64(origin + offsets[7]), u64(origin + offsets[8])
        for k in range(len(line)):
            i = u64(k)
            upper = cast(cast(cast(x[a + i]) + cast(x[b + i])) + cast(x[c + i]))
            middle = cast(cast(cast(x[d + i]) + cast(x[e + i])) + cast(x[f + i]))
            lower = cast(cast(cast(x[g + i]) + cast(x[h + i])) + cast(x[j + i]))
            line[k] = cast(cast(upper + middle) + lower)
        for k in range(whole):
            total = cast(cast(line[3 * k] + line[3 * k + 1]) + line[3 * k + 2])
            out[target + u64(k)] = cast(np.rint(np.float32(total) * inverse))
        if rest > 0:
            total = line[3 * whole] + line[size - 1] * (rest - 1)
            out[target + u64(whole)] = _half_to_even(total, 9 * rest)


@helper
def _add_valid_row(x, origin, offsets, size, factor, inner, lines, sums, counts, rule):  # type: ignore[no-untyped-def]
    """Add up and count the valid values of the windows of one row, in the order of `_add_windows_of_any_shape`."""
    line, number = lines
    for part in range(size * inner // len(line)):
        _add_valid_down(x, origin + part * len(line), offsets, line, number, rule)
        _add_across(line, part, size, factor, inner, sums)
        _add_across(number, part, size, factor, inner, counts)


@helper
def _add_valid_down(x, origin, offsets, line, number, rule):  # type: ignore[no-untyped-def]
    """Add up and count the valid values of rows of samples, to lines."""
    skip_nan, has_nodata, nodata = rule
    line[:] = 0
    number[:] = 0
    for offset in offsets:
        a = np.uint64(origin + offset)
        for i in range(len(line)):
            value = x[a + np.uint64(i)]
            valid = ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
            # A sum that started with 0 is never -0.0, so adding 0 does not change its bits.
            line[i] += value if valid else 0
            number[i] += valid


@compiled
def _count_valid_samples(x, origins, targets, offsets, size, factor, inner, skip_nan, has_nodata, nodata, line, count):  # type: ignore[no-untyped-def]
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        counts = count[targets[row] : targets[row] + width]
        for part in range(size * inner // len(line)):
            line[:] = 0
            for offset in offsets:
                a = np.uint64(origins[row] + offset + part * len(line))
                for i in range(len(line)):
                    value = x[a + np.uint64(i)]
                    line[i] += ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
            _add_across(line, part, size, factor, inner, counts)


@compiled
def _add_halves(  # type: ignore[no-untyped-def]
    x, origins, targets, offsets, size, factor, inner, shift, has_nodata, nodata, upper, lower, count
):
    one = np.uint64(1)
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        uppers, lowers, counts = upper[targets[row] :], lower[targets[row] :], count[targets[row] :]
        for i in range(width):
            uppers[i], lowers[i] = 0, 0
            if has_nodata:
                counts[i] = 0
        for offset in offsets:
            for sample in range(size):
                at = origins[row] + offset + sample * inner
                window = (sample // factor) * inner
                for i in range(inner):
                    if not (has_nodata and x[at + i] == nodata):
                        value = x[at + i] ^ shift
                        uppers[window + i] += value >> HALF_BITS
                        lowers[window + i] += value & LOWER_HALF
                        if has_nodata:
                            counts[window + i] += one


@compiled
def _add_compensated(  # type: ignore[no-untyped-def]
    x,
    origins,
    targets,
    offsets,
    size,
    factor,
    inner,
    skip_nan,
    has_nodata,
    nodata,
    total,
    error,
    scaled,
    scaled_error,
    count,
):
    counting = skip_nan or has_nodata
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        target = targets[row]
        for k in range(target, target + width):
            total[k], error[k], scaled[k], scaled_error[k] = 0.0, 0.0, 0.0, 0.0
            if counting:
                count[k] = 0.0
        for offset in offsets:
            for sample in range(size):
                at = origins[row] + offset + sample * inner
                window = target + (sample // factor) * inner
                for i in range(inner):
                    value = x[at + i]
                    if (skip_nan and value != value) or (has_nodata and value == nodata):
                        continue
                    k = window + i
                    if counting:
                        count[k] += 1.0
                    # Not "value >= HUGE", because NaN and infinity belong to the scaled sum.
                    if abs(value) < HUGE:
                        added, lost = _two_sum(total[k], value)
                        total[k] = added
                        error[k] += lost
                    else:
                        added, lost = _two_sum(scaled[k], value * SCALE_DOWN)
                        scaled[k] = added
                        scaled_error[k] += lost


@compiled
def _merge_pairs(x, x_error, origins, targets, offsets, size, factor, inner, total, error):  # type: ignore[no-untyped-def]
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        sums, errors = total[targets[row] :], error[targets[row] :]
        for i in range(width):
            sums[i], errors[i] = 0.0, 0.0
        for offset in offsets:
            for sample in range(size):
                at = origins[row] + offset + sample * inner
                window = (sample // factor) * inner
                for i in range(inner):
                    added, lost = _two_sum(sums[window + i], x[at + i])
                    sums[window + i] = added
                    errors[window + i] += lost + x_error[at + i]


@helper
def _two_sum(a, b):  # type: ignore[no-untyped-def]
    """Return a + b rounded, and the rounding error (Knuth's TwoSum)."""
    total = a + b
    rounded_b = total - a
    return total, (a - (total - rounded_b)) + (b - rounded_b)


@helper
def _half_to_even(total, count):  # type: ignore[no-untyped-def]
    quotient = total // count
    rest = total - quotient * count
    below = count - rest
    if rest > below or (rest == below and quotient % 2 != 0):
        quotient += 1
    return quotient


@compiled
def _divide_integers(total, count, fill, out):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        out[i] = _half_to_even(total[i], count[i]) if count[i] > 0 else fill


@compiled
def _divide_narrow_integers(total, count, fill, out):  # type: ignore[no-untyped-def]
    """Divide 32-bit sums in float64, whose rounding error is less than the distance of a quotient from any half."""
    for i in range(len(total)):
        quotient = np.int32(np.rint(total[i] / max(count[i], 1)))
        out[i] = quotient if count[i] > 0 else fill


@compiled
def _divide_floats(total, count, fill, out):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        out[i] = total[i] / count[i] if count[i] > 0 else fill


@compiled
def _divide_whole_integers(total, row_count, column_count, out):  # type: ignore[no-untyped-def]
    # All windows of a row but the last have the same count, so that their division is vectorized.
    last = total.shape[1] - 1
    for row in range(total.shape[0]):
        sums, values = total[row], out[row]
        count = row_count[row] * column_count[0]
        if sums.itemsize == 4:
            _divide_narrow_row(sums[:last], count, values)
        elif count & (count - 1) == 0:
            _shift_half_to_even(sums[:last], count, values)
        else:
            for column in range(last):
                values[column] = _half_to_even(sums[column], count)
        values[last] = _half_to_even(sums[last], row_count[row] * column_count[1])


@helper
def _divide_narrow_row(sums, count, values):  # type: ignore[no-untyped-def]
    """Divide 32-bit sums as floats; `rint` rounds half to even."""
    # The inverse of a power of two is exact. For an odd n it is not, but quotients by n are at least 1 / (2 n) away
    # from any half, and two roundings in float32 change quotients below 2**22 / n by less.
    bits = 8 * values.itemsize
    power_of_two = count & (count - 1) == 0
    if int(count) << (bits if power_of_two else bits + 2) <= EXACT_IN_FLOAT32 and (power_of_two or count % 2 == 1):
        inverse = np.float32(1 / count)
        for i in range(len(sums)):
            values[i] = np.int32(np.rint(np.float32(sums[i]) * inverse))
    else:
        # The rounding error of float64 is less than the distance of a quotient from any half.
        for i in range(len(sums)):
            values[i] = np.int32(np.rint(sums[i] / count))


@helper
def _shift_half_to_even(sums, count, values):  # type: ignore[no-untyped-def]
    """Divide by a power of two, rounded half to even."""
    bits = 0
    while (1 << bits) < count:
        bits += 1
    below_half = max((count >> 1) - 1, 0)
    parity = min(count - 1, 1)
    for i in range(len(sums)):
        values[i] = (sums[i] + below_half + ((sums[i] >> bits) & parity)) >> bits


@compiled
def _divide_whole_floats(total, row_count, column_count, out):  # type: ignore[no-untyped-def]
    last = total.shape[1] - 1
    for row in range(total.shape[0]):
        sums, values = total[row], out[row]
        count = row_count[row] * column_count[0]
        for column in range(last):
            values[column] = sums[column] / count
        values[last] = sums[last] / (row_count[row] * column_count[1])


@compiled
def _divide_halves(upper, lower, count, fill, shift, out):  # type: ignore[no-untyped-def]
    # Long division with two 32-bit digits; counts are at most 2**32, so no step exceeds 64 bits.
    one = np.uint64(1)
    for i in range(len(upper)):
        n = count[i]
        if n == 0:
            out[i] = fill
            continue
        head = upper[i] + (lower[i] >> HALF_BITS)
        first = head // n
        tail = ((head - first * n) << HALF_BITS) | (lower[i] & LOWER_HALF)
        second = tail // n
        rest = tail - second * n
        below = n - rest
        quotient = (first << HALF_BITS) | second
        if rest > below or (rest == below and (quotient & one) == one):
            quotient += one
        out[i] = quotient ^ shift


@helper
def _compensated_quotient(total, error, count):  # type: ignore[no-untyped-def]
    """Return (total + error) / count, computed in about twice the precision of float64 and rounded once."""
    rounded = total + error
    if not np.isfinite(rounded):
        return total
    rest = error - (rounded - total)
    quotient = rounded / count
    # Dekker's product gives the rounding error of quotient * count, and with it the remainder.
    product = quotient * count
    a = quotient * SPLITTER
    a_upper = a - (a - quotient)
    a_lower = quotient - a_upper
    b = count * SPLITTER
    b_upper = b - (b - count)
    b_lower = count - b_upper
    lost = ((a_upper * b_upper - product) + a_upper * b_lower + a_lower * b_upper) + a_lower * b_lower
    return quotient + (((rounded - product) - lost) + rest) / count


@compiled
def _divide_compensated(total, error, scaled, scaled_error, count, fill, out):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        n = count[i]
        if n == 0.0:
            out[i] = fill
        elif scaled[i] == 0.0 and scaled_error[i] == 0.0:
            out[i] = _compensated_quotient(total[i], error[i], n)
        else:
            # Scaled down and added before the division, because the two sums may nearly cancel.
            both, lost = _two_sum(scaled[i], total[i] * SCALE_DOWN)
            rest = lost + scaled_error[i] + error[i] * SCALE_DOWN
            out[i] = _compensated_quotient(both, rest, n) * SCALE_UP
