"""The factors of every level, from any form of ``scale_factors``, and the number of levels.

A ladder is a list with the factors of each extra level, by axis, cumulative from the base.
"""

from __future__ import annotations

import itertools
import math
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from ..image.axes import Axis, Boundary, coarsened_size
from ..metadata.units import UnitDimension, unit_dimension, unit_factor

LevelFactors: TypeAlias = "int | Mapping[str, int]"
ScaleFactors: TypeAlias = "LevelFactors | Sequence[LevelFactors] | Literal['isotropic']"
ChunkSizes: TypeAlias = "int | Sequence[int] | Mapping[str, int]"
ChunkSizesByLevel: TypeAlias = "ChunkSizes | Mapping[int, ChunkSizes]"
ShardSizes: TypeAlias = "ChunkSizes | Literal[False]"
ShardSizesByLevel: TypeAlias = "ShardSizes | Mapping[int, ShardSizes]"

# An int above it is the size at which a ladder ends, as ngff-zarr takes it, more likely than a step.
LARGEST_STEP = 16
# An axis whose spacing is coarser than the finest one by at least this ratio waits until the others have caught up.
ISOTROPY_RATIO = math.sqrt(2)
# The coarsest level fits on a screen, however large the chunks are.
LARGEST_MIN_SIZE = 256


def ladder(
    axes: Sequence[Axis],
    scale_factors: ScaleFactors,
    chunks: Mapping[str, int],
    min_sizes: Mapping[str, int],
    boundary: Boundary,
    max_levels: int | None,
) -> list[tuple[int, ...]]:
    """Return the factors of every extra level, by axis, cumulative from the base.

    `chunks` are the lengths of chunks; the axes in `min_sizes` are no longer reduced at the size that it has for them.
    """
    if isinstance(scale_factors, Sequence | np.ndarray) and not isinstance(scale_factors, str):
        steps = iter(_listed(axes, scale_factors, boundary))
    else:
        step = step_of(axes, scale_factors)
        spacings = [spacing_of(axis) for axis in axes] if isinstance(scale_factors, str) else None
        default = default_min_size(axes, step, chunks)
        ends = [min_sizes.get(axis.name, default) for axis in axes]
        stops = [min_sizes.get(axis.name, 1) for axis in axes]
        steps = _repeated(axes, step, spacings, ends, stops, boundary)
    return list(itertools.islice(steps, None if max_levels is None else max_levels - 1))


def step_of(axes: Sequence[Axis], scale_factors: LevelFactors | Literal["isotropic"]) -> tuple[int, ...]:
    """Return the factors by which a repeated step, or "isotropic", can reduce a level; 1 for axes that are kept."""
    if isinstance(scale_factors, str):
        if scale_factors != "isotropic":
            raise ValueError(
                f"scale_factors={scale_factors!r} is not supported; give an int, a list such as [2, 4], or 'isotropic'"
            )
        return factors_of_entry("scale_factors", 2, axes)
    step = factors_of_entry("scale_factors", scale_factors, axes)
    if not isinstance(scale_factors, Mapping) and scale_factors > LARGEST_STEP:
        raise ValueError(
            f"scale_factors={scale_factors!r} is a step of {scale_factors!r} from level to level, which leaves one "
            f"level of 1/{scale_factors!r}; to reduce down to that size, pass min_size={scale_factors!r}, or name one "
            f"level, as in scale_factors=[{scale_factors!r}]"
        )
    if all(factor == 1 for factor in step) and not _has_nothing_to_reduce(scale_factors, axes):
        raise ValueError(f"scale_factors={scale_factors!r} reduces no axis; give a factor of 2 or more")
    return step


def default_min_size(axes: Sequence[Axis], step: Sequence[int], chunks: Mapping[str, int]) -> int:
    """Return the size that all axes a step reduces have at the coarsest level at most, unless the caller says."""
    edges = (min(chunks[axis.name], axis.size) for axis, factor in zip(axes, step, strict=True) if factor > 1)
    return min(LARGEST_MIN_SIZE, max(edges, default=1))


def factors_of_entry(option: str, entry: LevelFactors, axes: Sequence[Axis]) -> tuple[int, ...]:
    """Return one entry of `scale_factors` as one factor per axis."""
    factors = per_axis(option, entry, axes)
    if not isinstance(entry, Mapping):
        reduced = {axis.name for axis in reduced_axes(axes)}
        factors = {a.name: factors.get(a.name, 1) if a.size > 1 and a.name in reduced else 1 for a in axes}
    return tuple(factors.get(axis.name, 1) for axis in axes)


def reduced_axes(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Return the axes that are reduced unless others are named: those of space that measure what most of them do.

    A vertical axis that measures something else than two horizontal ones, such as pressure or numbers of levels beside
    degrees, is kept; one without a unit beside lengths is one of whose spacing nothing was said.
    """
    spatial = [axis for axis in axes if axis.type == "space"]
    measured = [unit_dimension(axis.unit) for axis in spatial]
    horizontal = max(measured, key=measured.count, default=None)
    if measured.count(horizontal) < 2:
        return tuple(spatial)
    return tuple(axis for axis, what in zip(spatial, measured, strict=True) if not _measures_other(what, horizontal))


def _measures_other(one: UnitDimension | None, other: UnitDimension | None) -> bool:
    return one != other and {one, other} != {None, "length"}


def _has_nothing_to_reduce(entry: LevelFactors, axes: Sequence[Axis]) -> bool:
    """Whether `entry` is an int above 1, but no spatial axis has more than one sample."""
    return not isinstance(entry, Mapping) and entry > 1 and all(a.size == 1 for a in axes if a.type == "space")


def _repeated(
    axes: Sequence[Axis],
    step: Sequence[int],
    spacings: Sequence[float] | None,
    ends: Sequence[int],
    stops: Sequence[int],
    boundary: Boundary,
) -> Iterator[tuple[int, ...]]:
    """Yield the factors of a repeated step, until all axes that it can still reduce have at most their size in `ends`.

    With `spacings`, axes with a coarse one wait. An axis that has at most its size in `stops` is kept from there on.
    """
    factors = (1,) * len(axes)
    while True:
        sizes = [coarsened_size(a.name, a.size, f, boundary) for a, f in zip(axes, factors, strict=True)]
        # "trim" drops partial windows, so that an axis shorter than one would vanish.
        reducible = [
            f > 1 and n > stop and (boundary != "trim" or n >= f) for f, n, stop in zip(step, sizes, stops, strict=True)
        ]
        if not any(can and n > end for can, n, end in zip(reducible, sizes, ends, strict=True)):
            return
        chosen = reducible if spacings is None else _finest(axes, factors, spacings, reducible)
        factors = tuple(f * (s if now else 1) for f, s, now in zip(factors, step, chosen, strict=True))
        yield factors


def _finest(
    axes: Sequence[Axis], factors: Sequence[int], spacings: Sequence[float], reducible: Sequence[bool]
) -> list[bool]:
    """Return which of the reducible axes have about the finest spacing among those that measure the same."""
    current = list(map(operator.mul, spacings, factors))
    groups = [unit_dimension(axis.unit) for axis in axes]
    finest: dict[UnitDimension | None, float] = {}
    for group, spacing, can in zip(groups, current, reducible, strict=True):
        if can:
            finest[group] = min(spacing, finest.get(group, math.inf))
    return [
        # The finest one itself also where the product is beyond all floats.
        can and (spacing == finest[group] or spacing < ISOTROPY_RATIO * finest[group])
        for group, spacing, can in zip(groups, current, reducible, strict=True)
    ]


def spacing_of(axis: Axis) -> float:
    """Return the distance between samples, in meters or what else the unit is a multiple of; the median if uneven.

    Positions without a distance, such as texts or one value throughout, count as those of a counted axis: 1.
    """
    factor = unit_factor(axis.unit)
    if axis.is_regular:
        spacing = abs(axis.scale) * factor
    elif axis.size > 1 and axis.values is not None and axis.values.dtype.kind in "iuf":
        spacing = float(np.median(np.abs(np.diff(axis.values.astype(np.float64))))) * factor
    else:
        spacing = factor
    return spacing if math.isfinite(spacing) and spacing > 0 else factor


def _listed(axes: Sequence[Axis], entries: Sequence[LevelFactors], boundary: Boundary) -> list[tuple[int, ...]]:
    """Return the ladder of a list; stop early, with a warning, at a level without voxels or like the one before."""
    ladder = [factors_of_entry(f"scale_factors[{i}]", entry, axes) for i, entry in enumerate(entries)]
    previous = (1,) * len(axes)
    shape = tuple(axis.size for axis in axes)
    for number, factors in enumerate(ladder):
        same = factors == previous and not _has_nothing_to_reduce(entries[number], axes)
        if same or any(map(operator.lt, factors, previous)):
            raise ValueError(
                f"scale_factors={list(entries)!r} do not ascend at entry {number} ({entries[number]!r}); entries are "
                "cumulative from the base: give larger factors in each, as in [2, 4, 8]"
            )
        vanishes = boundary == "trim" and any(a.size < f for a, f in zip(axes, factors, strict=True))
        sizes = [
            -(-axis.size // f) if vanishes else coarsened_size(axis.name, axis.size, f, boundary)
            for axis, f in zip(axes, factors, strict=True)
        ]
        if vanishes or tuple(sizes) == shape:
            reason = "have no voxel" if vanishes else f"repeat the shape {shape!r}"
            warnings.warn(
                f"scale_factors[{number}]={entries[number]!r} would {reason}: the pyramid ends before it",
                UserWarning,
                stacklevel=2,
            )
            return ladder[:number]
        previous, shape = factors, tuple(sizes)
    return ladder


def as_positive_int(option: str, value: Any) -> int | None:
    """Return an option as a positive int, or None if it is None."""
    if value is None:
        return None
    number = as_int(option, value)
    if number < 1:
        raise ValueError(f"{option}={value!r} is less than 1; give a positive integer, or omit it")
    return number


def as_int(option: str, value: Any) -> int:
    """Return an option that is an integer of any type, including numpy's, as an int."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{option}={value!r} is a bool; give an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{option}={value!r} is not an integer; give an int such as 2") from None


def per_axis(option: str, value: ChunkSizes, axes: Sequence[Axis]) -> dict[str, int]:
    """Return sizes by dim, from an int for the spatial axes, a mapping by dim, or a sequence with one per axis."""
    names = [axis.name for axis in axes]
    if isinstance(value, Mapping):
        sizes: dict[str, Any] = dict(value)
        if unknown := [dim for dim in sizes if dim not in names]:
            raise ValueError(f"{option} names {unknown!r}, but the dims are {tuple(names)!r}; name only these")
    elif isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        if len(value) != len(axes):
            raise ValueError(f"{option}={value!r} has {len(value)!r} entries; give one for each of {tuple(names)!r}")
        sizes = dict(zip(names, value, strict=True))
    else:
        sizes = {axis.name: value for axis in axes if axis.type == "space"}
    checked = {dim: as_int(f"{option} of {dim!r}", size) for dim, size in sizes.items()}
    if wrong := {dim: size for dim, size in checked.items() if size < 1}:
        raise ValueError(f"{option} {wrong!r} must be at least 1; give positive integers")
    return checked
