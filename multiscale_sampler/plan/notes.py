"""What a plan says beside its numbers: what was assumed, why levels end, distorted voxels, how much is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..image.axes import Axis
from ..image.dataarray import has_stated_positions, image_axes
from ..messages import warn_caller
from ..metadata.units import UnitDimension, unit_dimension
from .chunks import chunk_shape
from .factors import ISOTROPY_RATIO, LARGEST_MIN_SIZE, ScaleFactors, default_min_size, spacing_of, step_of
from .plan import Level, MissingShare, Plan

# Spacings are floats, products of others.
RATIO_TOLERANCE = 1e-6


def unstated_spacings(image: xr.DataArray, axes: Sequence[Axis]) -> tuple[str, ...]:
    """Return the axes of space whose spacing nobody stated, nor that of others that measure the same."""
    stated = {axis.name for axis in axes if has_stated_positions(image, axis.name, axis)}
    groups = {unit_dimension(axis.unit) for axis in axes if axis.type == "space" and axis.name in stated}
    unknown = (axis for axis in axes if axis.type == "space" and axis.size > 1 and axis.name not in stated)
    return tuple(axis.name for axis in unknown if unit_dimension(axis.unit) not in groups)


def why_levels_end(
    plan: Plan, scale_factors: ScaleFactors, chunks: Mapping[str, int], min_sizes: Mapping[str, int]
) -> str:
    """Return why there are no further levels, and what makes more; "" if the caller asked for no more."""
    if isinstance(scale_factors, Sequence | np.ndarray) and not isinstance(scale_factors, str):
        return ""
    axes = plan.levels[0].axes
    step = step_of(axes, scale_factors)
    reduced = [index for index, factor in enumerate(step) if factor > 1 and axes[index].size > 1]
    if not reduced:
        longest = max(axes, key=lambda axis: axis.size)
        return (
            "no axis of space that is reduced by default has more than one sample; to reduce another one, name it, as "
            f"in scale_factors={{{longest.name!r}: 2}}"
        )
    last = {axes[index].name: plan.levels[-1].shape[index] for index in reduced}
    sizes = ", ".join(f"{name} {size}" for name, size in last.items())
    default = default_min_size(axes, step, chunks)
    if all(size <= min_sizes.get(name, default) for name, size in last.items()):
        end = (
            f"min_size={dict(min_sizes)!r}"
            if min_sizes
            else f"{default}, the longest edge of a chunk along them or {LARGEST_MIN_SIZE} if that is less"
        )
        return f"the axes that are reduced ({sizes}) have reached {end}; for more levels give a smaller min_size"
    if plan.boundary == "trim" and all(plan.levels[-1].shape[index] < step[index] for index in reduced):
        return f"boundary='trim' drops partial windows, and none ({sizes}) is whole; boundary='pad' keeps them"
    return ""


def missing_share(image: xr.DataArray, nodata: Any) -> MissingShare | None:
    """Return how much of the chunk in the middle of an image is missing; None without `nodata`. Reads that chunk."""
    if nodata is None:
        return None
    box = {str(dim): along for dim, along in zip(image.dims, _middle_chunk(image), strict=True)}
    values = image.isel(box).values
    return MissingShare(nodata, float(np.mean((values == nodata) | (values != values))), box)


def _middle_chunk(image: xr.DataArray) -> Iterator[slice]:
    """Yield the range of the middle chunk along each axis: as it is stored, else as a level would have it."""
    chunks = chunk_shape(image, image_axes(image), None).values()
    for size, chunk in zip(image.shape, chunks, strict=True):
        start = size // 2 // chunk * chunk
        yield slice(start, min(start + chunk, size))


def warn_of_missing(missing: MissingShare | None) -> None:
    """Warn the caller if more than half of a chunk is missing."""
    if missing is not None and missing.is_large:
        warn_caller(f"{missing}; if {missing.nodata!r} is a value like any other, pass nodata=None")


def warn_of_distortion(plan: Plan) -> None:
    """Warn the caller, once, of the level whose voxels are the most anisotropic, if its base's are not.

    Axes are compared that measure the same, have a spacing that somebody stated, and more than one sample.
    """
    first = _ratios(plan, plan.levels[0])
    worst, index, ratio = max(
        (
            (ratio / first[group], level.index, ratio)
            for level in plan.levels
            for group, ratio in _ratios(plan, level).items()
        ),
        default=(1.0, 0, 1.0),
    )
    if worst > ISOTROPY_RATIO * (1 + RATIO_TOLERANCE):
        warn_caller(
            f"voxels of level {index!r} are more anisotropic than those of the base: {ratio:.3g}:1, not "
            f"{ratio / worst:.3g}:1; scale_factors='isotropic' without min_size keeps them in shape"
        )


def _ratios(plan: Plan, level: Level) -> dict[UnitDimension | None, float]:
    """Return the ratio of the coarsest to the finest spacing among the axes of space that measure the same."""
    groups: dict[UnitDimension | None, list[float]] = {}
    for base, axis, factor in zip(plan.levels[0].axes, level.axes, level.factors, strict=True):
        if axis.type == "space" and axis.size > 1 and axis.name not in plan.unstated:
            # From the base, because the median of uneven positions changes from level to level.
            groups.setdefault(unit_dimension(axis.unit), []).append(spacing_of(base) * factor)
    return {group: max(spacings) / min(spacings) for group, spacings in groups.items()}
