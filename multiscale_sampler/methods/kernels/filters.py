"""Anti-aliasing filters that reduce a block: weighted means centred on every window, and weighted votes of labels.

An output is a weighted mean of the samples of its *support*, which extends `halo` samples beyond the window on either
side. A block is a core of whole windows with margins around it. Where a margin is shorter than the halo, the image
ends, and the weights of the remaining samples are normalized to a sum of one. Weights depend only on the distance and
are added up in the order of the samples, so that values have the same bits for any division into blocks.

Filters are applied axis by axis, starting with the first reduced axis: its loop runs along contiguous memory, reads
the block in its own dtype, and reduces the work for the later axes. Slabs of the block stay in the cache meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...image.boxes import Block, Margins
from .compiling import compiled, helper
from .windows import WIDE, Int64s, Missing, as_unsigned, from_unsigned

FilterKernel: TypeAlias = Literal["gaussian", "linear", "cubic", "lanczos"]
Float64s: TypeAlias = npt.NDArray[np.float64]

# Radii, in windows, of the kernels that are functions of distance / factor.
RADII = {"linear": 1, "cubic": 2, "lanczos": 3}
# Full width at half maximum of a gaussian divided by its standard deviation.
FULL_WIDTH = 2.0 * math.sqrt(2.0 * math.log(2.0))
# Where the valid weights cancel to less than this fraction of the sum of their magnitudes, a mean is mostly noise.
LEAST_SUM = 2.0**-10
# Elements of the result of the first axis that are filtered along the other axes at a time: half a second-level cache.
SLAB = 1 << 16
# The same where samples are missing. Larger, because neighbouring slabs both process their common samples.
SLAB_OF_GAPS = 1 << 19
# Elements that are weighted together, of one or several runs; they stay in a first-level cache.
PIECE_ELEMENTS = 1024
# Bits of the sum of the votes of a support: rounding must not take it to 2**63.
VOTE_BITS = 61
# Multiplicative hashing (Knuth): the upper bits of the product with 2**64 / golden ratio.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
HASH_BITS = np.uint64(20)


def sigma(factor: int) -> float:
    """Return the standard deviation, in samples, of the gaussian for a factor.

    It widens the point spread function of a sample to that of a window: Cardoso et al., "Scale factor point spread
    function matching: beyond aliasing in image resampling", MICCAI 2015.
    """
    return math.sqrt(factor**2 - 1) / FULL_WIDTH


def halo(kernel: FilterKernel, factor: int) -> int:
    """Return the number of samples outside of a window, on either side, on which its value depends."""
    if factor == 1:
        return 0
    within = (factor - 1) / 2
    if kernel == "gaussian":
        return max(0, math.floor(4.0 * sigma(factor) - within))
    # Weights are zero at the radius itself.
    return math.ceil(RADII[kernel] * factor - within) - 1


@lru_cache(maxsize=256)
def kernel_weights(kernel: FilterKernel, factor: int) -> Float64s:
    """Return the weights of the samples of a support; they add up to one."""
    reach = halo(kernel, factor)
    distances = [abs(sample - (factor - 1) / 2) for sample in range(-reach, factor + reach)]
    weights = [_weight(kernel, distance, factor) for distance in distances]
    total = math.fsum(weights)
    scaled = np.array([weight / total for weight in weights])
    scaled.flags.writeable = False
    return scaled


def _weight(kernel: FilterKernel, distance: float, factor: int) -> float:
    if factor == 1:
        return 1.0
    if kernel == "gaussian":
        return math.exp(-0.5 * (distance / sigma(factor)) ** 2)
    x = distance / factor
    if kernel == "linear":
        return max(0.0, 1.0 - x)
    if kernel == "cubic":
        # Keys 1981, a = -1/2.
        return (1.5 * x - 2.5) * x * x + 1.0 if x < 1.0 else ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return _sinc(x) * _sinc(x / 3.0)


def _sinc(x: float) -> float:
    if x == 0.0:
        return 1.0
    # The sine of a rounded multiple of pi is not exactly zero.
    return 0.0 if x.is_integer() else math.sin(math.pi * x) / (math.pi * x)


class Support(NamedTuple):
    """The supports of the windows of a block along one axis."""

    axis: int
    """Index of the axis."""
    factor: int
    """Samples from one window to the next."""
    start: int
    """First sample of the first support; negative where it extends beyond the start of the image."""
    outputs: int
    """Number of windows."""

    def slab(self, lower: int, upper: int, size: int, length: int) -> tuple[slice, Support]:
        """Return the samples of the windows from `lower` to `upper`, and the supports of these within that slice.

        `size` is the number of samples of the axis, `length` that of a support.
        """
        start = self.start + lower * self.factor
        first = max(0, start)
        last = min(size, start + (upper - lower - 1) * self.factor + length)
        return slice(first, last), self._replace(start=start - first, outputs=upper - lower)


def _supports(
    block: Block, factors: Sequence[int], margins: Margins, kernel: FilterKernel
) -> tuple[Block, list[Support]]:
    """Return the block without margins along axes that are not reduced, and the supports along reduced axes."""
    inside, axes = [], []
    for axis, (size, factor, (lower, upper)) in enumerate(zip(block.shape, factors, margins, strict=True)):
        inside.append(slice(lower, size - upper) if factor == 1 else slice(None))
        if factor > 1:
            outputs = -(-(size - lower - upper) // factor)
            axes.append(Support(axis, factor, lower - halo(kernel, factor), outputs))
    return np.ascontiguousarray(block[tuple(inside)]), axes


def filter_windows(
    block: Block,
    factors: Sequence[int],
    margins: Margins,
    kernel: FilterKernel,
    skip_nan: bool,
    *,
    min_valid: float = 0.0,
) -> Block:
    """Reduce a block by a filter.

    Parameters
    ----------
    block
        C-contiguous (channels, *spatial), of any integer dtype of up to 32 bits, float32 or float64.
    factors
        Samples per window along each spatial axis.
    margins
        Samples before and after the core along each spatial axis. The core is whole windows; its last one may be
        partial at the image's end. A margin shorter than `halo` means that the image ends there.
    kernel
        Name of the function that gives the weights.
    skip_nan
        Whether NaN, in all channels, marks missing samples, which are ignored. The result is NaN where no sample is
        valid, or where the valid weights of a kernel with negative lobes cancel to at most 2**-10 of the sum of their
        magnitudes.
    min_valid
        The fraction of a support, by magnitude of weights, that must be valid, else the result is NaN.

    Returns
    -------
        float64 (channels, *reduced core).
    """
    block, axes = _supports(block, (1, *factors), ((0, 0), *margins), kernel)
    if not axes:
        return block.astype(np.float64)
    out = np.empty(_reduced_shape(block.shape, axes), np.float64)
    for part, first, target in _slabs(block, axes[0], kernel, out, SLAB):
        target[...] = _weighted(part, [first, *axes[1:]], kernel)
    if skip_nan:
        for part, first, target in _slabs(block, axes[0], kernel, out, SLAB_OF_GAPS):
            # Supports with a missing sample have given NaN; other values must not change.
            has_gaps = np.isnan(target)
            if has_gaps.any():
                np.copyto(target, _valid_means(part, [first, *axes[1:]], kernel, min_valid), where=has_gaps)
    return out


def _reduced_shape(shape: tuple[int, ...], axes: Sequence[Support]) -> tuple[int, ...]:
    reduced = {support.axis: support.outputs for support in axes}
    return tuple(reduced.get(axis, size) for axis, size in enumerate(shape))


def _slabs(
    block: Block, first: Support, kernel: FilterKernel, out: Block, elements: int
) -> Iterator[tuple[Block, Support, Block]]:
    """Yield slabs of a block, with the supports along the first reduced axis within them, and their parts of `out`.

    Slabs have as many axes as the block; the axes before the first reduced one are merged into the leading one. The
    result of the first filter for a slab has about `elements` elements.
    """
    length = len(kernel_weights(kernel, first.factor))
    axis = first.axis
    outer, size, after = math.prod(block.shape[:axis]), block.shape[axis], block.shape[axis + 1 :]
    samples = block.reshape(outer, size, *after)
    results = out.reshape(outer, first.outputs, *out.shape[axis + 1 :])
    lead = (1,) * (axis - 1)
    rows = max(1, elements // max(1, math.prod(after)))
    together = max(1, rows // max(1, first.outputs))
    for entry in range(0, outer, together):
        for lower in range(0, first.outputs, rows):
            upper = min(lower + rows, first.outputs)
            along, support = first.slab(lower, upper, size, length)
            part = np.ascontiguousarray(samples[entry : entry + together, along])
            target = results[entry : entry + together, lower:upper]
            yield (
                part.reshape(len(part), *lead, *part.shape[1:]),
                support,
                target.reshape(len(part), *lead, *target.shape[1:]),
            )


def _valid_means(samples: Block, axes: list[Support], kernel: FilterKernel, min_valid: float) -> Block:
    """Return the weighted means of the valid samples of all supports, NaN where there are too few."""
    missing = np.isnan(samples)
    number = samples.dtype.type
    sums = _weighted(np.where(missing, number(0), samples), axes, kernel)
    present = np.logical_not(missing).astype(samples.dtype)
    weight = _weighted(present, axes, kernel)
    lobes = any(kernel_weights(kernel, support.factor).min() < 0.0 for support in axes)
    share = _weighted(present, axes, kernel, magnitudes=True) if lobes else weight
    least = _support_extremes(np.where(missing, number(np.inf), samples), axes, kernel, greatest=False)
    greatest = _support_extremes(np.where(missing, number(-np.inf), samples), axes, kernel, greatest=True)
    with np.errstate(all="ignore"):
        means = sums / weight
    np.copyto(means, least, where=least == greatest)
    means[(weight <= LEAST_SUM * share) | (share < min_valid)] = np.nan
    return means


def _weighted(samples: Block, axes: list[Support], kernel: FilterKernel, *, magnitudes: bool = False) -> Block:
    """Return the weighted means of all supports, filtering axis by axis."""
    for support in axes:
        rows, shape = _rows(samples, support)
        out = np.empty((len(rows), support.outputs, rows.shape[2]), np.float64)
        taps = _taps(support, rows.shape[1], rows.shape[2], kernel, magnitudes)
        phases = np.empty((support.factor, taps.stride), rows.dtype)
        # Without compilation, numpy would warn about inf - inf.
        with np.errstate(all="ignore"):
            _filter_axis(rows, support.start, support.factor, *taps, phases, np.empty(PIECE_ELEMENTS), out)
        samples = out.reshape(shape)
    return samples


class Taps(NamedTuple):
    """The samples with weights along an axis: for whole supports, and for each that the end of the image cuts off."""

    edges: Int64s
    """Indices of the outputs whose support extends beyond the image."""
    lower: int
    """First output with a whole support."""
    upper: int
    """One more than the last output with a whole support."""
    together: int
    """Outputs with a whole support that are computed at a time."""
    stride: int
    """Elements of a phase, a copy of every `factor`-th sample; zero where samples are read in place."""
    centre: int
    """Offset of the sample nearest to the centre of a whole support, in samples from its first one."""
    used: Int64s
    """Number of samples with a weight: in a whole support, then in each edge."""
    halves: Float64s
    """Half their weights."""
    offsets: Int64s
    """Offsets of the samples with a weight, in elements from the first of a support or the start of the phases."""


@lru_cache(maxsize=256)
def _taps(support: Support, size: int, inner: int, kernel: FilterKernel, magnitudes: bool) -> Taps:
    """Return the taps along an axis of `size` samples, each a run of `inner` elements."""
    weights = kernel_weights(kernel, support.factor)
    if magnitudes:
        weights = np.abs(weights) / math.fsum(np.abs(weights))
    length, factor, count = len(weights), support.factor, support.outputs
    lower = min(count, (max(0, -support.start) + factor - 1) // factor)
    upper = max(lower, min(count, (size - length - support.start) // factor + 1))
    # Neighbouring outputs of narrow runs are computed together, for which the samples of each tap are made contiguous.
    together = max(1, PIECE_ELEMENTS // max(1, inner)) if inner < WIDE else 1
    stride = (together + length // factor + 1) * inner if inner < WIDE else 0
    edges = np.array([*range(lower), *range(upper, count)], np.int64)
    firsts = support.start + edges * factor
    spans = [(0, length), *((max(0, -first), min(length, size - first)) for first in firsts.tolist())]
    used = np.zeros(len(spans), np.int64)
    halves, offsets = np.zeros((len(spans), length)), np.zeros((len(spans), length), np.int64)
    for row, (begin, end) in enumerate(spans):
        # A sample with weight 0 must not count, even if it is infinite.
        within = begin + np.flatnonzero(weights[begin:end])
        # Adds in the order of the samples; `sum` would not.
        total = 1.0 if end - begin == length else np.add.accumulate(weights[begin:end])[-1]
        used[row] = len(within)
        halves[row, : len(within)] = 0.5 * (weights[within] / total)
        offsets[row, : len(within)] = within * inner
    if stride:
        within = np.flatnonzero(weights)
        offsets[0, : len(within)] = within % factor * stride + within // factor * inner
    centre = halo(kernel, factor) + (factor - 1) // 2
    return Taps(edges, lower, upper, together, stride, centre, used, halves, offsets)


def _support_extremes(samples: Block, axes: Sequence[Support], kernel: FilterKernel, *, greatest: bool) -> Block:
    """Return the smallest or the largest sample of all supports, axis by axis."""
    for support in axes:
        used = np.flatnonzero(kernel_weights(kernel, support.factor))
        rows, shape = _rows(samples, support)
        out = np.empty((len(rows), support.outputs, rows.shape[2]), samples.dtype)
        _extremes_of_supports(rows, support.start, support.factor, used, greatest, out)
        samples = out.reshape(shape)
    return samples


def _rows(samples: Block, support: Support) -> tuple[Block, tuple[int, ...]]:
    """Return samples as (outer, axis, inner), and the shape of the result."""
    before, after = samples.shape[: support.axis], samples.shape[support.axis + 1 :]
    rows = samples.reshape(math.prod(before), samples.shape[support.axis], math.prod(after))
    return rows, (*before, support.outputs, *after)


def label_gaussian(block: Block, factors: Sequence[int], margins: Margins, missing: Missing) -> Block:
    """Return, for every window, the label with the most gaussian-weighted votes in its support.

    Votes are integers, so that their sums are exact and do not depend on the order; ties go to the smallest label.
    Missing labels do not vote; where all labels are missing, so is the result.

    Parameters
    ----------
    block
        C-contiguous integers of any rank.
    factors
        Samples per window along each axis.
    margins
        Samples before and after the core along each axis, as for `filter_windows`.
    missing
        Which label is ignored.
    """
    block, axes = _supports(block, factors, margins, "gaussian")
    if not axes:
        return block.copy()
    labels = as_unsigned(block)
    _, has_nodata, nodata = missing.unsigned(block.dtype).arguments(labels.dtype)
    out = np.empty(_reduced_shape(block.shape, axes), labels.dtype)
    # `_slabs` expects a leading axis that is not reduced.
    lead = [support._replace(axis=support.axis + 1) for support in axes]
    for part, first, target in _slabs(labels[np.newaxis], lead[0], "gaussian", out[np.newaxis], SLAB):
        target[...] = _elect_slab(part, [first, *lead[1:]], has_nodata, nodata)
    return from_unsigned(out, block.dtype)


def _elect_slab(labels: Block, axes: list[Support], has_nodata: bool, nodata: Any) -> Block:
    least = _support_extremes(labels, axes, "gaussian", greatest=False)
    mixed = np.flatnonzero(least != _support_extremes(labels, axes, "gaussian", greatest=True))
    if len(mixed):
        everywhere = [Support(axis, 1, 0, size) for axis, size in enumerate(labels.shape)]
        for support in axes:
            everywhere[support.axis] = support
        votes = [_votes(support.factor, len(axes)) for support in everywhere]
        table = np.zeros((len(votes), max(map(len, votes))), np.int64)
        for row, along in zip(table, votes, strict=True):
            row[: len(along)] = along
        geometry = np.array(
            [
                (size, support.start, support.factor, support.outputs, len(along))
                for size, support, along in zip(labels.shape, everywhere, votes, strict=True)
            ]
        )
        # Hashing overflows; without compilation, numpy would warn.
        with np.errstate(over="ignore"):
            _elect(labels.reshape(-1), geometry, table, mixed, has_nodata, nodata, least.reshape(-1))
    return least


@lru_cache(maxsize=256)
def _votes(factor: int, axes: int) -> Int64s:
    """Return the weights of a gaussian as integers whose products over `axes` axes add up to less than 2**63."""
    if factor == 1:
        return np.ones(1, np.int64)
    scaled = np.rint(kernel_weights("gaussian", factor) * 2.0 ** (VOTE_BITS // axes))
    return np.maximum(scaled, 1.0).astype(np.int64)


@compiled
def _filter_axis(  # type: ignore[no-untyped-def]
    x,
    start,
    factor,
    edges,
    lower,
    upper,
    together,
    stride,
    centre,
    used,
    halves,
    offsets,
    phases,
    references,
    out,
):
    size, inner = x.shape[1], x.shape[2]
    pieces = len(edges) + (upper - lower + together - 1) // together
    for entry in range(len(x)):
        samples = x[entry].reshape(-1)
        results = out[entry].reshape(-1)
        for piece in range(pieces):
            whole = piece >= len(edges)
            k = lower + (piece - len(edges)) * together if whole else edges[piece]
            outputs = min(together, upper - k) if whole else 1
            row = 0 if whole else piece + 1
            first = start + k * factor
            source, origin = samples, first * inner
            reference = min(first + centre, size - 1) * inner
            if whole and stride > 0:
                _copy_phases(samples, first, outputs + halves.shape[1] // factor + 1, factor, inner, phases)
                source, origin = phases.reshape(-1), 0
                reference = (centre % factor) * stride + (centre // factor) * inner
            taps = used[row]
            target = results[k * inner : (k + outputs) * inner]
            _add_weighted(source, origin, halves[row, :taps], offsets[row, :taps], reference, references, target)


@helper
def _copy_phases(samples, begin, count, factor, inner, phases):  # type: ignore[no-untyped-def]
    """Copy every `factor`-th sample side by side, so that each tap of neighbouring outputs is one contiguous run."""
    source = samples[begin * inner :]
    for phase in range(factor):
        row = phases[phase]
        length = min(count, (len(source) // inner - phase + factor - 1) // factor)
        if inner == 1:
            for j in range(length):
                row[j] = source[j * factor + phase]
        else:
            for j in range(length):
                for i in range(inner):
                    row[j * inner + i] = source[(j * factor + phase) * inner + i]


@helper
def _add_weighted(x, origin, halves, offsets, reference, references, out):  # type: ignore[no-untyped-def]
    """Write weighted means of runs of samples to `out`, adding one tap after the other.

    The loop adds weighted differences from a reference sample, which are exactly zero where all samples are equal.
    Weights are halved because the difference of two values can overflow.
    """
    taps = len(halves)
    for begin in range(0, len(out), len(references)):
        row = out[begin : begin + len(references)]
        width = len(row)
        r = references[:width]
        centre = x[reference + begin : reference + begin + width]
        for i in range(width):
            value = np.float64(centre[i])
            r[i] = value if abs(value) < np.inf else 0.0
            row[i] = 0.0
        for tap in range(0, taps - 1, 2):
            w, v = halves[tap], halves[tap + 1]
            first, second = origin + offsets[tap] + begin, origin + offsets[tap + 1] + begin
            a, b = x[first : first + width], x[second : second + width]
            for i in range(width):
                row[i] = (row[i] + (w * a[i] - w * r[i])) + (v * b[i] - v * r[i])
        if taps % 2 == 1:
            w, first = halves[taps - 1], origin + offsets[taps - 1] + begin
            a = x[first : first + width]
            for i in range(width):
                row[i] += w * a[i] - w * r[i]
        for i in range(width):
            row[i] = (r[i] + row[i]) + row[i]


@compiled
def _extremes_of_supports(x, start, factor, used, greatest, out):  # type: ignore[no-untyped-def]
    size, inner = x.shape[1], x.shape[2]
    for entry in range(len(x)):
        for k in range(out.shape[1]):
            started = False
            for tap in used:
                sample = start + k * factor + tap
                if not 0 <= sample < size:
                    continue
                for i in range(inner):
                    value, best = x[entry, sample, i], out[entry, k, i]
                    closer = value > best if greatest else value < best
                    out[entry, k, i] = value if closer or not started else best
                started = True


@compiled
def _elect(x, geometry, votes, mixed, has_nodata, nodata, out):  # type: ignore[no-untyped-def]
    last = len(geometry) - 1
    size, start, factor, count, length = geometry[last]
    rows = 1
    for axis in range(last):
        rows *= geometry[axis, 4]
    starts, weights = np.empty(rows, np.int64), np.empty(rows, np.int64)
    capacity = 2
    while capacity < 2 * rows * length:
        capacity *= 2
    slots, homes = np.zeros(capacity, np.int64), np.empty(rows * length, np.int64)
    # The additional last sum takes the votes of the missing label, which are not used.
    labels, sums = np.empty(rows * length, x.dtype), np.zeros(rows * length + 1, np.int64)
    row, row_count = -1, 0
    for output in mixed:
        if output // count != row:
            row = output // count
            row_count = _locate_rows(row, geometry, votes, starts, weights)
        first = start + (output % count) * factor
        lower, upper = max(0, -first), min(length, size - first)
        used = _count_votes(
            x[first + lower :],
            starts[:row_count],
            weights,
            votes[last, lower:upper],
            has_nodata,
            nodata,
            slots,
            homes,
            labels,
            sums,
        )
        out[output] = _winner(labels[:used], sums) if used > 0 else nodata


@helper
def _count_votes(x, starts, weights, votes, has_nodata, nodata, slots, homes, labels, sums):  # type: ignore[no-untyped-def]
    """Add up the votes of every label of a support in `sums`; return the number of labels."""
    current = x[starts[0]]
    at, used = _slot_of(current, has_nodata and current == nodata, slots, homes, labels, sums, 0)
    # Labels come in runs, so the sum of the current one stays in a register.
    total = 0
    for i in range(len(starts)):
        weight = weights[i]
        row = x[starts[i] : starts[i] + len(votes)]
        for tap in range(len(votes)):
            label = row[tap]
            if label != current:
                sums[at] = total
                current = label
                at, used = _slot_of(current, has_nodata and current == nodata, slots, homes, labels, sums, used)
                total = sums[at]
            total += weight * votes[tap]
    sums[at] = total
    return used


@helper
def _winner(labels, sums):  # type: ignore[no-untyped-def]
    best = 0
    for i in range(1, len(labels)):
        if sums[i] > sums[best] or (sums[i] == sums[best] and labels[i] < labels[best]):
            best = i
    return labels[best]


@helper
def _slot_of(label, is_missing, slots, homes, labels, sums, used):  # type: ignore[no-untyped-def]
    """Return the index of the sum of a label, and the number of labels, including this one."""
    if is_missing:
        sums[len(labels)] = 0
        return len(labels), used
    mask = len(slots) - 1
    slot = np.int64((np.uint64(label) * GOLDEN) >> HASH_BITS) & mask
    while True:
        at = slots[slot]
        # Entries of earlier windows are recognized because `homes` does not point back, so slots need no clearing.
        if at >= used or homes[at] != slot:
            slots[slot], homes[used] = used, slot
            labels[used], sums[used] = label, 0
            return used, used + 1
        if labels[at] == label:
            return at, used
        slot = (slot + 1) & mask


@helper
def _locate_rows(row, geometry, votes, starts, weights):  # type: ignore[no-untyped-def]
    """Write the offsets and the votes of the rows of samples of one row of supports; return their number."""
    row_count = 1
    starts[0], weights[0] = 0, 1
    stride = geometry[len(geometry) - 1, 0]
    for axis in range(len(geometry) - 2, -1, -1):
        size, start, factor, count, length = geometry[axis]
        first = start + (row % count) * factor
        row //= count
        lower, upper = max(0, -first), min(length, size - first)
        # Backwards, so that entries are read before they are overwritten.
        for index in range(row_count - 1, -1, -1):
            base, weight = starts[index], weights[index]
            for tap in range(lower, upper):
                entry = index * (upper - lower) + tap - lower
                starts[entry], weights[entry] = base + (first + tap) * stride, weight * votes[axis, tap]
        row_count *= upper - lower
        stride *= size
    return row_count
