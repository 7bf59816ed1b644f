"""Positions of a level's samples, found from pixels alone: a line of positions along each axis.

A level is modelled as the finer image averaged over a box around each position, times a gain, plus an offset. `located`
finds the positions by least squares (Gauss-Newton over crops of both images), so that a level that is shifted or
stretched against its metadata is recognised, whichever filter made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Line: TypeAlias = tuple[float, float]

# Widths of the box in windows, as for a block mean or a filter across neighbours; and in samples, as for linear
# interpolation or a single sample.
BOX_WIDTHS = (1.0, 2.0)
BOX_SAMPLES = (2.0, 1.0)
STEPS = 8
# Iterations end when positions change by less than this, in samples of the finer image.
SMALL_STEP = 2e-3
# Axes with fewer samples show a shift, but not a stretch.
LEAST_FOR_STRETCH = 24
# If a box explains this part of the variance, no other box is tried.
ALL_EXPLAINED = 0.999
# Uncertainty of positions in standard errors.
STANDARD_ERRORS = 3
# Part of the variance that must be explained before positions are believed.
LEAST_EXPLAINED = 0.8
# Half the distance between the two boxes whose difference gives the slope.
SLOPE_STEP = 0.5
# The least number of values for each unknown.
LEAST_VALUES = 25
# Number of columns for gain and offset, which come before the unknowns of axes.
BRIGHTNESS = 2


@dataclass(frozen=True)
class Crop:
    """A part of a level and the samples of the finer image around it."""

    values: Floats
    """The level's values."""
    first: tuple[int, ...]
    """Index of the first value in the level."""
    source: Floats
    """Samples of the finer image."""
    start: tuple[int, ...]
    """Index of the first sample in the finer image."""


@dataclass(frozen=True)
class Placement:
    """Positions of a level's samples, in samples of the finer image."""

    lines: tuple[Line, ...]
    """Position of sample 0 and the distance to the next, along each axis."""
    uncertainty: tuple[float, ...]
    """Uncertainty of the positions at the ends of each axis."""
    explained: float
    """Part of the level's variance that the positions explain."""

    @property
    def is_certain(self) -> bool:
        """Whether the images are similar enough for positions to be meaningful."""
        return self.explained >= LEAST_EXPLAINED


def located(crops: Sequence[Crop], nominal: Sequence[Line], sizes: Sequence[int]) -> Placement | None:
    """Return the positions of a level found from its pixels; None if the pixels do not determine them.

    Parameters
    ----------
    crops
        Parts of the level, with the samples around them.
    nominal
        Positions to begin with; an axis with a step of 1 is not reduced, and keeps its positions.
    sizes
        Samples of the level along each axis.
    """
    # Centred around zero, since products of large values would lose small differences.
    middle = float(np.mean([crop.source.mean() for crop in crops])) if crops else 0.0
    crops = [replace(crop, values=crop.values - middle, source=crop.source - middle) for crop in crops]
    widest = max(step for _, step in nominal)
    found: list[tuple[float, Placement]] = []
    for width in dict.fromkeys((*BOX_WIDTHS, *(samples / widest for samples in BOX_SAMPLES))):
        # The next box starts from the best positions so far.
        start = min(found, key=itemgetter(0))[1].lines if found else nominal
        fitted = _fitted(crops, nominal, start, sizes, width)
        if fitted is not None and fitted[1].explained > ALL_EXPLAINED:
            return fitted[1]
        found += [] if fitted is None else [fitted]
    return _doubted([placement for _, placement in sorted(found, key=itemgetter(0))], sizes) if found else None


def _doubted(placements: Sequence[Placement], sizes: Sequence[int]) -> Placement:
    """Return the best placement, with an uncertainty that covers the other ones that explain the level.

    A box of the wrong width can take an alias of fine stripes for a shift.
    """
    best, *others = placements
    doubts = [
        max([error, *(largest_distance(line, other.lines[axis], size) for other in others if other.is_certain)])
        for axis, (error, line, size) in enumerate(zip(best.uncertainty, best.lines, sizes, strict=True))
    ]
    return replace(best, uncertainty=tuple(doubts))


def largest_distance(line: Line, other: Line, size: int) -> float:
    """Return the largest distance between two lines of positions; it occurs at one of their ends."""
    start = abs(line[0] - other[0])
    return max(start, abs(line[0] - other[0] + (line[1] - other[1]) * (size - 1)))


def _fitted(
    crops: Sequence[Crop], nominal: Sequence[Line], start: Sequence[Line], sizes: Sequence[int], width: float
) -> tuple[float, Placement] | None:
    """Return the squared error and the positions for a box width in windows."""
    lines = list(start)
    unknowns = _unknowns(nominal, sizes)
    for _ in range(STEPS):
        # The last column is the level itself, so that one matrix of products is enough.
        products, count = np.zeros((len(unknowns) + BRIGHTNESS + 1,) * 2), 0
        for crop in crops:
            columns = _columns(crop, lines, sizes, unknowns, width)
            products, count = products + columns.T @ columns, count + len(columns)
        matrix, target = products[:-1, :-1], products[:-1, -1]
        variance = products[-1, -1] - products[1, -1] ** 2 / max(count, 1)
        if count < LEAST_VALUES * len(matrix) or variance <= 0:
            return None
        solution, *_ = np.linalg.lstsq(matrix, target, rcond=1e-12)
        gain = solution[0]
        if gain == 0:
            return None
        moves = [float(move) / gain for move in solution[BRIGHTNESS:]]
        for (axis, stretch), move in zip(unknowns, moves, strict=True):
            lines[axis] = _changed_line(lines[axis], nominal[axis], sizes[axis], move, stretch=stretch)
        if max(map(abs, moves), default=0.0) < SMALL_STEP:
            break
    error = max(float(products[-1, -1] - solution @ target), 0.0)
    spread = np.linalg.pinv(matrix) * error / max(count - len(matrix), 1)
    uncertainty = np.zeros(len(nominal))
    for i, (axis, _) in enumerate(unknowns, BRIGHTNESS):
        # A stretch is measured by the shift at the ends of an axis.
        uncertainty[axis] += STANDARD_ERRORS * float(np.sqrt(max(spread[i, i], 0.0))) / abs(gain)
    return error, Placement(tuple(lines), tuple(map(float, uncertainty)), 1 - error / float(variance))


def _unknowns(nominal: Sequence[Line], sizes: Sequence[int]) -> list[tuple[int, bool]]:
    """Return the unknowns (axis, is a stretch): a shift for each reduced axis, and a stretch if it is long enough."""
    reduced = [axis for axis, (_, step) in enumerate(nominal) if step != 1 and sizes[axis] > 1]
    stretched = [axis for axis in reduced if sizes[axis] >= LEAST_FOR_STRETCH]
    return [*((axis, False) for axis in reduced), *((axis, True) for axis in stretched)]


def _changed_line(line: Line, nominal: Line, size: int, move: float, *, stretch: bool) -> Line:
    """Return a line shifted, or stretched about its middle, by at most one window."""
    origin, step = line
    move = float(np.clip(move, -nominal[1], nominal[1]))
    if not stretch:
        return origin + move, step
    half = (size - 1) / 2
    return origin - move, step + move / half


def _columns(
    crop: Crop, lines: Sequence[Line], sizes: Sequence[int], unknowns: Sequence[tuple[int, bool]], width: float
) -> Floats:
    """Return the columns of the least-squares problem: gain, offset, each unknown, and the values of the crop."""
    boxes = [_boxes(crop, axis, lines[axis], width) for axis in range(crop.source.ndim)]
    inside = np.ix_(*(valid for _, _, valid in boxes))
    seen = _through([box for box, _, _ in boxes], crop.source)[inside]
    columns = [seen, np.ones_like(seen)]
    for axis, stretch in unknowns:
        slopes = [slope if other == axis else box for other, (box, slope, _) in enumerate(boxes)]
        column = _through(slopes, crop.source)[inside]
        if stretch:
            half = (sizes[axis] - 1) / 2
            index = np.arange(crop.first[axis], crop.first[axis] + crop.values.shape[axis])[boxes[axis][2]]
            shape = [-1 if other == axis else 1 for other in range(seen.ndim)]
            column = column * ((index - half) / half).reshape(shape)
        columns.append(column)
    return np.stack([column.reshape(-1) for column in (*columns, crop.values[inside])], axis=1)


def _boxes(crop: Crop, axis: int, line: Line, width: float) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Return the weights of samples in each box along an axis, their slope, and the values whose box is inside."""
    origin, step = line
    length = crop.source.shape[axis]
    positions = origin + step * np.arange(crop.first[axis], crop.first[axis] + crop.values.shape[axis])
    positions -= crop.start[axis]
    if step == 1:
        identity = _box_overlap(positions, 1.0, length)
        return identity, np.zeros_like(identity), np.arange(len(positions))
    wide = step * width
    reach = wide / 2 + SLOPE_STEP
    inside = np.flatnonzero((positions - reach >= -0.5) & (positions + reach <= length - 0.5))
    slope = _box_overlap(positions + SLOPE_STEP, wide, length) - _box_overlap(positions - SLOPE_STEP, wide, length)
    return _box_overlap(positions, wide, length), slope / (2 * SLOPE_STEP), inside


def _box_overlap(positions: Floats, width: float, length: int) -> Floats:
    """Return the part of each box that overlaps each sample, which reaches half a step to either side."""
    edges = np.arange(length) - 0.5
    left = np.maximum(edges[None], (positions - width / 2)[:, None])
    right = np.minimum(edges[None] + 1, (positions + width / 2)[:, None])
    return cast("Floats", np.clip(right - left, 0, None) / width)


def _through(weights: Sequence[Floats], source: Floats) -> Floats:
    """Return an image averaged over boxes along every axis."""
    for axis, box in enumerate(weights):
        source = np.moveaxis(np.tensordot(box, source, axes=(1, axis)), 0, axis)
    return source
