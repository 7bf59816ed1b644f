"""Sums of windows that lose nothing, and their division by the number of samples.

A sum travels unrounded from level to level as a block of *components* (leading axis), added up window by
window, and is rounded only when a level is written. Which components depends on the dtype:

- integers of up to 32 bits: one integer that holds the sum exactly;
- 64-bit integers: the sums of the upper and of the lower 32 bits, so that no carry is ever lost;
- float16 and float32: one float64, exact where the values of a window span less than 29 bits;
- float64: Neumaier's compensated sum (Zeitschrift fuer Angewandte Mathematik und Mechanik 54, 1974, p. 39),
  once for ordinary values and once, scaled down, for those near the greatest, whose sum would overflow.

Where values can be missing, the last component counts the valid ones.

Rows of windows are added up down their columns first, whose samples lie side by side in memory as vectors want them,
and then across, of which little is left to do. In floats that order decides the last bit, so that every loop has it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ...image.boxes import Block
from .compiling import compiled, helper
from .windows import HALF_BITS, LOWER_HALF, WIDE, Int64s, Missing, Windows, reduced_shape, windows_of, windows_with

SIGN_BIT = np.uint64(2**63)
HUGE = 2.0**960
SCALE_DOWN = 2.0**-128
SCALE_UP = 2.0**128
# Veltkamp's constant: splits a float64 into two halves whose products are exact.
SPLITTER = 2.0**27 + 1.0
# Bytes of rows that are averaged before those of them with gaps are once more: they stay in a second-level cache.
SLAB_BYTES = 2**18
# Every integer up to here is a float32.
EXACT_IN_FLOAT32 = 2**24


def sum_windows(block: Block, factors: tuple[int, ...], total: Block) -> None:
    """Add up every window of `block` into `total`, whose dtype holds the sums."""
    x, sums = block.reshape(-1), total.reshape(-1)
    # Sums of 64-bit integers wrap around as numpy's do; only the interpreter would warn of it.
    with np.errstate(over="ignore"):
        for windows in windows_of(block.shape, factors):
            match _samples_of_whole(windows, factors):
                case (2, 2, 2):
                    _add_cubes(x, *windows[:4], sums)
                case (2, 2):
                    _add_squares(x, *windows[:4], sums)
                case _:
                    _add(x, *windows, _line(windows, total.dtype), sums)


def sum_valid_windows(block: Block, factors: tuple[int, ...], missing: Missing, total: Block, count: Block) -> None:
    """Add up the valid values of every window into `total` and their number into `count`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if missing.nodata is None:
            # NaN is rare, and a sum without one is the same however it was found.
            sum_windows(block, factors, total)
            _count_all(block.shape, factors, count)
            if not np.isnan(total).any():
                return
        rule = missing.arguments(block.dtype)
        for windows in windows_of(block.shape, factors):
            lines = _line(windows, total.dtype), _line(windows, count.dtype)
            _add_valid(block.reshape(-1), *windows, *rule, *lines, total.reshape(-1), count.reshape(-1))


def mean_valid_windows(block: Block, factors: tuple[int, ...], missing: Missing, fill: Any, out: Block) -> None:
    """Fill `out` with the means of the valid values of every window of floats, and `fill` where there are none."""
    x, means, flags = block.reshape(-1), out.reshape(-1), missing.arguments(block.dtype)
    for windows in windows_of(block.shape, factors):
        sums, counts = np.empty((2, windows.width))
        line, number = _line(windows, sums.dtype), _line(windows, counts.dtype)
        cubes = _samples_of_whole(windows, factors) == (2, 2, 2)
        # Rows with NaN are averaged once more while they are in cache, by a kernel that most images never need.
        together = max(1, SLAB_BYTES // (windows.samples * windows.width * block.itemsize))
        gaps = np.ones(together, np.bool_)
        likely = missing.nodata is not None
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for first in range(0, len(windows.origins), together):
                rows = windows.rows(first, first + together)
                found = together
                if likely:
                    gaps[:] = True
                elif cubes:
                    found = _average_cubes_of_floats(x, *rows[:4], gaps, means)
                else:
                    found = _average_floats(x, *rows, line, sums, gaps, means)
                if found:
                    _average_valid(x, *rows, *flags, fill, line, number, sums, counts, gaps, means)
                # After rows most of which have gaps, the next are not averaged without them in mind.
                likely = missing.nodata is not None or (not likely and 2 * found > together)


def mean_narrow_windows(block: Block, factors: tuple[int, ...], out: Block) -> None:
    """Fill `out` with the means of windows of integers of up to 16 bits whose sums fit 32."""
    x, means = block.reshape(-1), out.reshape(-1)
    for windows in windows_of(block.shape, factors):
        match _samples_of_whole(windows, factors):
            case (2, 2, 2):
                _average_cubes(x, *windows[:4], means)
            case (2, 2):
                _average_squares(x, *windows[:4], means)
            case (3, 3, 3):
                _average_threes(x, *windows[:4], _line(windows, np.int32), means)
            case _:
                sums = np.empty(windows.width, np.int32)
                _average_narrow(x, *windows, _line(windows, sums.dtype), sums, means)


def count_valid(block: Block, factors: tuple[int, ...], missing: Missing, dtype: npt.DTypeLike) -> Block:
    """Return the number of valid samples of every window, in a dtype that can hold it."""
    count: Block = np.empty(reduced_shape(block.shape, factors), dtype)
    rule = missing.arguments(block.dtype)
    for windows in windows_of(block.shape, factors):
        _count(block.reshape(-1), *windows, *rule, _line(windows, dtype), count.reshape(-1))
    return count


def sum_halves(block: Block, factors: tuple[int, ...], missing: Missing, total: Block, count: Block) -> None:
    """Add up 64-bit integers into the components (upper halves, lower halves) of `total`, and count.

    Signed integers are shifted to unsigned ones by 2**63 first, which `divide_halves` undoes. Without missing
    values, `count` is left as it is.
    """
    shift = SIGN_BIT if block.dtype.kind == "i" else np.uint64(0)
    nodata = None if missing.nodata is None else np.array(missing.nodata, block.dtype).view(np.uint64)[()]
    _, has_nodata, excluded = Missing(False, nodata).arguments(np.dtype(np.uint64))
    x, sums = block.reshape(-1).view(np.uint64), [part.reshape(-1) for part in (total[0], total[1], count)]
    for windows in windows_of(block.shape, factors):
        _add_halves(x, *windows, shift, has_nodata, excluded, *sums)


def sum_compensated(block: Block, factors: tuple[int, ...], missing: Missing, total: Block, count: Block) -> None:
    """Add up float64 into the components (sum, error, scaled sum, scaled error) of `total`, and count."""
    sums, rule = [part.reshape(-1) for part in (*total, count)], missing.arguments(block.dtype)
    for windows in windows_of(block.shape, factors):
        _add_compensated(block.reshape(-1), *windows, *rule, *sums)


def merge_compensated(state: Block, factors: tuple[int, ...], total: Block) -> None:
    """Add up windows of compensated sums: `state` and `total` have the same four components."""
    parts, sums = ([part.reshape(-1) for part in of] for of in (state, total))
    for windows in windows_of(state.shape[1:], factors):
        for at in (0, 2):
            _merge_pairs(parts[at], parts[at + 1], *windows, sums[at], sums[at + 1])


def divide(total: Block, count: Block, fill: Any, out: Block) -> None:
    """Divide exact integer sums by `count`, rounding half to even, or float64 sums as floats."""
    if out.dtype.kind == "f":
        kernel = _divide_floats
    else:
        kernel = _divide_narrow_integers if total.dtype.itemsize == 4 else _divide_integers
    kernel(total.reshape(-1), count.reshape(-1), fill, out.reshape(-1))


def divide_whole(total: Block, count: tuple[Int64s, ...], out: Block) -> None:
    """Divide sums of windows without missing values by their number of samples, given axis by axis."""
    kernel = _divide_whole_floats if out.dtype.kind == "f" else _divide_whole_integers
    rows, last = count_rows(count[:-1]), count[-1][[0, -1]]
    width = total.shape[-1]
    if all((along == along[0]).all() for along in count):
        # One long row takes less time than many short ones.
        rows, width = rows[:1], total.size
    kernel(total.reshape(-1, width), rows.astype(total.dtype), last.astype(total.dtype), out.reshape(-1, width))


def count_rows(counts: tuple[Int64s, ...]) -> Int64s:
    """Return the samples per window for every combination of the given axes, in C order."""
    rows = np.ones(1, np.int64)
    for along in counts:
        rows = np.multiply.outer(rows, along).reshape(-1)
    return rows


def divide_halves(total: Block, count: Block, fill: Any, out: Block) -> None:
    """Divide sums of 64-bit integers, kept in halves, rounding half to even."""
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
    """Divide compensated sums, correctly rounded but for the rarest ties."""
    parts = total.reshape(4, -1)
    _divide_compensated(parts[0], parts[1], parts[2], parts[3], count.reshape(-1), fill, out.reshape(-1))


def compensated_total(total: Block) -> Block:
    """Return compensated sums rounded to float64."""
    with np.errstate(invalid="ignore", over="ignore"):
        parts = [np.where(np.isfinite(total[i] + total[i + 1]), total[i] + total[i + 1], total[i]) for i in (0, 2)]
        rounded: Block = parts[0] + parts[1] * SCALE_UP
    return rounded


def _samples_of_whole(windows: Windows, factors: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return how many samples windows have along the axes that are reduced.

    None for those that an end cuts short, but for the last of a row, and for those of inner runs.
    """
    whole = windows.samples == math.prod(factors) and windows.inner == 1
    return tuple(factor for factor in factors if factor > 1) if whole else None


def _line(windows: Windows, dtype: npt.DTypeLike) -> Block:
    """Return room for the sums of columns: of a row of windows, or of one inner run where these are long."""
    return np.empty(windows.size * windows.inner if windows.inner < WIDE else windows.inner, dtype)


def _count_all(shape: tuple[int, ...], factors: tuple[int, ...], count: Block) -> None:
    """Fill in the number of samples of every window."""
    count[...] = math.prod(factors)
    for axis, (size, factor) in enumerate(zip(shape, factors, strict=True)):
        if size % factor:
            last = np.moveaxis(count, axis, 0)[-1:]
            last[...] = last // factor * (size % factor)


@compiled
def _add(x, origins, targets, offsets, size, factor, inner, line, total):  # type: ignore[no-untyped-def]
    """Add up windows row by row: down the columns, along lines of memory, and then across what is left of them."""
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        sums = total[targets[row] : targets[row] + width]
        for part in range(size * inner // len(line)):
            _add_down(x, origins[row] + part * len(line), offsets, line)
            _add_across(line, part, size, factor, inner, sums)


@helper
def _add_down(x, origin, offsets, line):  # type: ignore[no-untyped-def]
    """Add up columns in the order of their samples."""
    # In the dtype of the sums, as numba's own choice is wider. Zero first, for -0.0.
    of, zero = line.dtype.type, line.dtype.type(0)
    # Some rows at once, which saves loads and stores; unsigned, as negative numbers would count from the end.
    count = 2 - len(offsets) % 2
    a, b = np.uint64(origin + offsets[0]), np.uint64(origin + offsets[count - 1])
    if count == 1:
        for i in range(len(line)):
            line[i] = of(zero + of(x[a + np.uint64(i)]))
    else:
        for i in range(len(line)):
            line[i] = of(of(zero + of(x[a + np.uint64(i)])) + of(x[b + np.uint64(i)]))
    while count < len(offsets):
        a, b = np.uint64(origin + offsets[count]), np.uint64(origin + offsets[count + 1])
        if count + 4 <= len(offsets):
            c, d = np.uint64(origin + offsets[count + 2]), np.uint64(origin + offsets[count + 3])
            for i in range(len(line)):
                two = of(of(line[i] + of(x[a + np.uint64(i)])) + of(x[b + np.uint64(i)]))
                line[i] = of(of(two + of(x[c + np.uint64(i)])) + of(x[d + np.uint64(i)]))
            count += 4
        else:
            for i in range(len(line)):
                line[i] = of(of(line[i] + of(x[a + np.uint64(i)])) + of(x[b + np.uint64(i)]))
            count += 2


@helper
def _add_across(line, part, size, factor, inner, sums):  # type: ignore[no-untyped-def]
    """Add up the columns of every window in their order: all of a row, or those of one sample of a window."""
    of = sums.dtype.type
    whole = size // factor
    if len(line) < size * inner:
        added = sums[part // factor * inner :]
        for i in range(inner):
            added[i] = line[i] if part % factor == 0 else of(added[i] + line[i])
        return
    # Numbers that are known to the compiler become shuffles of vectors.
    if inner == 1 and factor == 2:
        for i in range(whole):
            sums[i] = of(line[2 * i] + line[2 * i + 1])
    elif inner == 1 and factor == 3:
        for i in range(whole):
            sums[i] = of(of(line[3 * i] + line[3 * i + 1]) + line[3 * i + 2])
    else:
        whole = 0
    for window in range(whole, len(sums) // inner):
        for i in range(inner):
            total = of(0)
            for sample in range(window * factor, min((window + 1) * factor, size)):
                total = of(total + line[sample * inner + i])
            sums[window * inner + i] = total


@compiled
def _add_cubes(x, origins, targets, offsets, size, total):  # type: ignore[no-untyped-def]
    """Add up windows of 2 x 2 x 2, by far the most there are, as `_add` does."""
    of, at, two, one = total.dtype.type, np.uint64, np.uint64(2), np.uint64(1)
    zero = of(0)
    for row in range(len(origins)):
        a, b = at(origins[row] + offsets[0]), at(origins[row] + offsets[1])
        c, d = at(origins[row] + offsets[2]), at(origins[row] + offsets[3])
        target = at(targets[row])
        for k in range(size // 2):
            i = at(k) * two
            j = i + one
            left = zero + of(x[a + i]) + of(x[b + i]) + of(x[c + i]) + of(x[d + i])
            right = zero + of(x[a + j]) + of(x[b + j]) + of(x[c + j]) + of(x[d + j])
            total[target + at(k)] = left + right
        if size % 2 > 0:
            total[target + at(size // 2)] = _last_sum(x, origins[row] + size - 1, offsets, zero)


@compiled
def _add_squares(x, origins, targets, offsets, size, total):  # type: ignore[no-untyped-def]
    """Add up windows of 2 x 2 likewise."""
    of, at, two, one = total.dtype.type, np.uint64, np.uint64(2), np.uint64(1)
    zero = of(0)
    for row in range(len(origins)):
        a, b = at(origins[row] + offsets[0]), at(origins[row] + offsets[1])
        target = at(targets[row])
        for k in range(size // 2):
            i = at(k) * two
            j = i + one
            left, right = zero + of(x[a + i]) + of(x[b + i]), zero + of(x[a + j]) + of(x[b + j])
            total[target + at(k)] = left + right
        if size % 2 > 0:
            total[target + at(size // 2)] = _last_sum(x, origins[row] + size - 1, offsets, zero)


@helper
def _last_sum(x, origin, offsets, zero):  # type: ignore[no-untyped-def]
    """Return the sum of a window at the end of a row that has one sample of each row of samples under it."""
    total = zero
    for offset in offsets:
        total += x[np.uint64(origin + offset)]
    return total


@compiled
def _add_valid(  # type: ignore[no-untyped-def]
    x, origins, targets, offsets, size, factor, inner, skip_nan, has_nodata, nodata, line, number, total, count
):
    """Add up and count the valid values of the rows of windows that have gaps, or can have some."""
    rule = (skip_nan, has_nodata, nodata)
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        at = targets[row]
        sums, counts = total[at : at + width], count[at : at + width]
        gaps = 0
        for i in range(len(sums)):
            gaps += sums[i] != sums[i]
        if has_nodata or gaps > 0:
            _add_valid_row(x, origins[row], offsets, size, factor, inner, (line, number), sums, counts, rule)


@compiled
def _average_floats(x, origins, targets, offsets, size, factor, inner, line, sums, gaps, out):  # type: ignore[no-untyped-def]
    """Average some rows of windows of floats; mark those that have NaN, and return how many there are."""
    found, rows = 0, len(offsets)
    whole, rest = size // factor * inner, size % factor
    for row in range(len(origins)):
        means = out[targets[row] : targets[row] + len(sums)]
        for part in range(size * inner // len(line)):
            _add_down(x, origins[row] + part * len(line), offsets, line)
            _add_across(line, part, size, factor, inner, sums)
        # Counted, not looked for: a loop that can end early is not vectorized.
        missing = 0
        for i in range(whole):
            means[i] = sums[i] / (rows * factor)
            missing += sums[i] != sums[i]
        for i in range(whole, len(means)):
            means[i] = sums[i] / (rows * rest)
            missing += sums[i] != sums[i]
        gaps[row] = missing > 0
        found += missing > 0
    return found


@compiled
def _average_cubes_of_floats(x, origins, targets, offsets, size, gaps, out):  # type: ignore[no-untyped-def]
    """Average some rows of windows of 2 x 2 x 2 likewise."""
    found, zero = 0, np.float64(0.0)
    at, two, one = np.uint64, np.uint64(2), np.uint64(1)
    for row in range(len(origins)):
        a, b = at(origins[row] + offsets[0]), at(origins[row] + offsets[1])
        c, d = at(origins[row] + offsets[2]), at(origins[row] + offsets[3])
        target = at(targets[row])
        missing = 0
        for k in range(size // 2):
            i = at(k) * two
            j = i + one
            left = zero + x[a + i] + x[b + i] + x[c + i] + x[d + i]
            right = zero + x[a + j] + x[b + j] + x[c + j] + x[d + j]
            mean = (left + right) * 0.125
            out[target + at(k)] = mean
            missing += mean != mean
        if size % 2 > 0:
            mean = _last_sum(x, origins[row] + size - 1, offsets, zero) * 0.25
            out[target + at(size // 2)] = mean
            missing += mean != mean
        gaps[row] = missing > 0
        found += missing > 0
    return found


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
    """Average the valid values of those of some rows of windows that have gaps."""
    rule = (skip_nan, has_nodata, nodata)
    width = windows_with(0, size, factor) * inner
    for row in range(len(origins)):
        if gaps[row]:
            _add_valid_row(x, origins[row], offsets, size, factor, inner, (line, number), sums, counts, rule)
            means = out[targets[row] : targets[row] + width]
            for i in range(len(means)):
                # Divided first: a branch around the division would keep it from being vectorized.
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
    """Average windows of 2 x 2 x 2, by far the most there are, without a detour over memory."""
    # Every step is cast: numba adds 32-bit integers as 64-bit ones, of which a vector holds half as many.
    of, zero, three, odd = np.int32, np.int32(0), np.int32(3), np.int32(1)
    at, two, one = np.uint64, np.uint64(2), np.uint64(1)
    for row in range(len(origins)):
        a, b = at(origins[row] + offsets[0]), at(origins[row] + offsets[1])
        c, d = at(origins[row] + offsets[2]), at(origins[row] + offsets[3])
        target = at(targets[row])
        for k in range(size // 2):
            i = at(k) * two
            j = i + one
            left = of(of(of(x[a + i]) + of(x[b + i])) + of(of(x[c + i]) + of(x[d + i])))
            right = of(of(of(x[a + j]) + of(x[b + j])) + of(of(x[c + j]) + of(x[d + j])))
            total = of(left + right)
            out[target + at(k)] = of(of(total + three) + of(of(total >> three) & odd)) >> three
        if size % 2 > 0:
            out[target + at(size // 2)] = _half_to_even(_last_sum(x, origins[row] + size - 1, offsets, zero), 4)


@compiled
def _average_squares(x, origins, targets, offsets, size, out):  # type: ignore[no-untyped-def]
    """Average windows of 2 x 2 likewise."""
    of, zero, odd = np.int32, np.int32(0), np.int32(1)
    at, two, one = np.uint64, np.uint64(2), np.uint64(1)
    for row in range(len(origins)):
        a, b = at(origins[row] + offsets[0]), at(origins[row] + offsets[1])
        target = at(targets[row])
        for k in range(size // 2):
            i = at(k) * two
            j = i + one
            total = of(of(of(x[a + i]) + of(x[b + i])) + of(of(x[a + j]) + of(x[b + j])))
            out[target + at(k)] = of(of(total + odd) + of(of(total >> of(2)) & odd)) >> of(2)
        if size % 2 > 0:
            out[target + at(size // 2)] = _half_to_even(_last_sum(x, origins[row] + size - 1, offsets, zero), 2)


@compiled
def _average_threes(x, origins, targets, offsets, size, line, out):  # type: ignore[no-untyped-def]
    """Average windows of 3 x 3 x 3 likewise, but for a line of the sums of columns."""
    of, at = np.int32, np.uint64
    whole, rest = size // 3, size % 3
    # Of 16 bits at most, whose mean is exact by way of it: see `_divide_narrow_row`.
    inverse = np.float32(1 / 27)
    for row in range(len(origins)):
        origin, target = origins[row], at(targets[row])
        a, b, c = at(origin + offsets[0]), at(origin + offsets[1]), at(origin + offsets[2])
        d, e, f = at(origin + offsets[3]), at(origin + offsets[4]), at(origin + offsets[5])
        g, h, j = at(origin + offsets[6]), at(origin + offsets[7]), at(origin + offsets[8])
        for k in range(len(line)):
            i = at(k)
            upper = of(of(of(x[a + i]) + of(x[b + i])) + of(x[c + i]))
            middle = of(of(of(x[d + i]) + of(x[e + i])) + of(x[f + i]))
            lower = of(of(of(x[g + i]) + of(x[h + i])) + of(x[j + i]))
            line[k] = of(of(upper + middle) + lower)
        for k in range(whole):
            total = of(of(line[3 * k] + line[3 * k + 1]) + line[3 * k + 2])
            out[target + at(k)] = of(np.rint(np.float32(total) * inverse))
        if rest > 0:
            total = line[3 * whole] + line[size - 1] * (rest - 1)
            out[target + at(whole)] = _half_to_even(total, 9 * rest)


@helper
def _add_valid_row(x, origin, offsets, size, factor, inner, lines, sums, counts, rule):  # type: ignore[no-untyped-def]
    """Add up and count the valid values of the windows of one row, in the order of `_add`."""
    line, number = lines
    for part in range(size * inner // len(line)):
        _add_valid_down(x, origin + part * len(line), offsets, line, number, rule)
        _add_across(line, part, size, factor, inner, sums)
        _add_across(number, part, size, factor, inner, counts)


@helper
def _add_valid_down(x, origin, offsets, line, number, rule):  # type: ignore[no-untyped-def]
    """Add up and count the valid values of columns."""
    skip_nan, has_nodata, nodata = rule
    line[:] = 0
    number[:] = 0
    for offset in offsets:
        a = np.uint64(origin + offset)
        for i in range(len(line)):
            value = x[a + np.uint64(i)]
            valid = ((value == value) | (not skip_nan)) & ((value != nodata) | (not has_nodata))
            # A sum that began with zero is never -0.0, so that adding a zero leaves its bits alone.
            line[i] += value if valid else 0
            number[i] += valid


@compiled
def _count(x, origins, targets, offsets, size, factor, inner, skip_nan, has_nodata, nodata, line, count):  # type: ignore[no-untyped-def]
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
                    # Not "value >= HUGE": NaN and infinity must go the way whose sum they dominate.
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
    """Return a + b rounded, and what the rounding lost (Knuth)."""
    total = a + b
    taken = total - a
    return total, (a - (total - taken)) + (b - taken)


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
    """Divide sums of 32 bits, whose quotients are further from every half than a float64 errs."""
    for i in range(len(total)):
        quotient = np.int32(np.rint(total[i] / max(count[i], 1)))
        out[i] = quotient if count[i] > 0 else fill


@compiled
def _divide_floats(total, count, fill, out):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        out[i] = total[i] / count[i] if count[i] > 0 else fill


@compiled
def _divide_whole_integers(total, row_count, column_count, out):  # type: ignore[no-untyped-def]
    # All windows of a row but the last are alike, which lets their division be compiled as one loop of vectors.
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
    """Divide sums of 32 bits as floats, which `rint` rounds half to even."""
    # The inverse of a power of two is exact. That of an odd number n is not, but no quotient by it is a half: all are
    # further from one, by 1 / (2 n), than two roundings in single precision move those of less than 2**22 / n.
    bits = 8 * values.itemsize
    power_of_two = count & (count - 1) == 0
    if int(count) << (bits if power_of_two else bits + 2) <= EXACT_IN_FLOAT32 and (power_of_two or count % 2 == 1):
        inverse = np.float32(1 / count)
        for i in range(len(sums)):
            values[i] = np.int32(np.rint(np.float32(sums[i]) * inverse))
    else:
        # The quotient is further from every half than a float64 errs.
        for i in range(len(sums)):
            values[i] = np.int32(np.rint(sums[i] / count))


@helper
def _shift_half_to_even(sums, count, values):  # type: ignore[no-untyped-def]
    """Divide by a power of two."""
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
    # Long division in two digits of 32 bits: the count is at most 2**32, so that no step exceeds 64 bits.
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
    """Return (total + error) / count in about twice the precision of a float64, rounded once."""
    rounded = total + error
    if not np.isfinite(rounded):
        return total
    rest = error - (rounded - total)
    quotient = rounded / count
    # Dekker's product: quotient * count as an unevaluated sum, to find what the division left.
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
            # Both in the scale of the greater before they are divided: they may all but cancel.
            both, lost = _two_sum(scaled[i], total[i] * SCALE_DOWN)
            rest = lost + scaled_error[i] + error[i] * SCALE_DOWN
            out[i] = _compensated_quotient(both, rest, n) * SCALE_UP
