"""`plan_pyramid`: from an image and options to a plan. No I/O, and no pixel is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from ..image.axes import Axis, Boundary
from ..image.dataarray import image_and_axes
from ..methods import Reduction
from ..methods.reducer import Reducer
from ..methods.reducers import Method
from .chunks import chunk_shape, shard_shape, source_chunks
from .factors import ChunkSizes, ScaleFactors, ladder, per_axis
from .options import LevelOptions, StorageOptions
from .passes import configured_region_size, with_passes
from .plan import Level, Plan


def plan_pyramid(
    image: Any,
    scale_factors: ScaleFactors = 2,
    *,
    method: Method = "mean",
    boundary: Boundary = "pad",
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    chunks: ChunkSizes | None = None,
    shards: ChunkSizes | Literal[False] | None = None,
    skipna: bool | None = None,
    nodata: Any = None,
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
) -> Plan:
    """Decide what a pyramid of `image` will look like. Nothing is read.

    Parameters
    ----------
    image
        An image, or an array that `to_image` can label.
    scale_factors
        An int or ``{dim: int}`` is a **step** that is repeated until the stop rule ends it; an int applies to
        the spatial axes, a mapping to the dims that it names. A list has one entry per extra level, each
        **cumulative from the base** and ascending, as in ``[2, 4, 8]``; its ints apply to the spatial axes of
        more than one sample, and any integers will do (``[2, 3]``). "isotropic" halves, level by level, the
        axes whose spacing is finest until voxels are near cubic, then all spatial axes.
    method
        Name of a reduction, a `Reducer`, or a function ``f(windows, axis=-1)`` as numpy's reductions are.
    boundary
        What becomes of a last, partial window: "pad" reduces the voxels that it has and rounds sizes up,
        "trim" leaves it out, "exact" refuses it. The words are those of ``xarray.DataArray.coarsen``.
    max_levels
        The most levels, the base included.
    min_size
        With a step or "isotropic": an axis is no longer reduced once it has at most so many samples. Default:
        its chunk size.
    chunks
        Chunk shape of every level, clamped at small levels: an int for the spatial axes, a mapping by dim, or
        one per axis. Default: as the image is stored, else 64 per axis in 3-D and 512 in 2-D.
    shards
        Shard shape, multiples of the chunks; the forms of `chunks`. Default: as the image is stored; False for
        none.
    skipna
        Leave NaN out of every window. Default: for floats.
    nodata
        A value to leave out of every window.
    min_valid
        The least fraction of a window's voxels, 0 to 1, that must be valid for a valid result. Of methods that are
        applied step by step, voxels are those of the level before; of filters, and with `weights`, the fraction is one
        of weight.
    weights
        Weights of the voxels, with dims of the image: a mean by area, say, or over a mask. Voxels without a positive
        weight count for nothing; a window of nothing else is NaN or `nodata`, of integers without it 0.
    memory_limit
        Bytes, or a text as "512MiB"; default: half of what this process may use.
    workers
        Regions at a time; default: the cores that this process may use.

    Returns
    -------
    Plan
        Frozen; ``print(plan)`` is a table.

    Raises
    ------
    ValueError
        If the wishes contradict the image or each other.
    TypeError
        If the method does not take the image's dtype, or a factor is not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> plan = ms.plan_pyramid(np.zeros((512, 512), "uint8"), chunks=64)
    >>> [level.shape for level in plan.levels]
    [(512, 512), (256, 256), (128, 128), (64, 64)]
    """
    options = LevelOptions(
        scale_factors=scale_factors,
        method=method,
        boundary=boundary,
        max_levels=max_levels,
        min_size=min_size,
        skipna=skipna,
        nodata=nodata,
        min_valid=min_valid,
        weights=weights,
    )
    storage = StorageOptions(chunks=chunks, shards=shards, memory_limit=memory_limit, workers=workers)
    return ready_to_build(plan_image(*image_and_axes(image), options, storage))


def plan_image(image: xr.DataArray, axes: tuple[Axis, ...], options: LevelOptions, storage: StorageOptions) -> Plan:
    """Decide on the levels of an image whose axes are known; what `ready_to_build` adds, lazy levels do not need."""
    options.check_image(image)
    sizes = chunk_shape(image, axes, storage.chunks)
    if options.min_size is not None:
        sizes |= per_axis("min_size", options.min_size, axes)
    factors = ladder(axes, options.scale_factors, sizes, options.boundary, options.max_levels)
    return plan_ladder(image, axes, factors, options, storage)


def plan_ladder(
    image: xr.DataArray,
    axes: tuple[Axis, ...],
    factors_of_levels: Sequence[tuple[int, ...]],
    options: LevelOptions,
    storage: StorageOptions,
) -> Plan:
    """Decide on levels as `plan_image` does, whose factors, cumulative from the base, are decided already."""
    reducer = options.reducer
    chunk = chunk_shape(image, axes, storage.chunks)
    shard = shard_shape(image, axes, chunk, storage.shards)
    window = max((math.prod(factors) for factors in factors_of_levels), default=1)
    reduction = reducer.bind(
        image.dtype, skipna=options.skipna, nodata=options.nodata, min_valid=options.min_valid, window=window
    )
    levels = _levels(axes, factors_of_levels, reducer, reduction, options.boundary)
    return Plan(
        name=str(image.name),
        dtype=image.dtype,
        reducer=reducer,
        boundary=options.boundary,
        skipna=reduction.binding.skip_nan if image.dtype.kind in "fcmM" else options.skipna,
        nodata=reduction.binding.nodata,
        min_valid=options.min_valid,
        levels=tuple(_stored(level, chunk, shard) for level in levels),
        source_chunks=source_chunks(image),
        workers=storage.worker_count,
        memory_limit=storage.memory,
        region_size=configured_region_size(),
    )


def plan_as_stored(
    plan: Plan, grids: Sequence[tuple[tuple[int, ...], tuple[int, ...] | None]], dtypes: Sequence[np.dtype[Any]]
) -> Plan:
    """Return a plan with the chunks and shards that its levels have in a store.

    Raises
    ------
    ValueError
        If a level has another dtype there.
    """
    for level, dtype in zip(plan.levels, dtypes, strict=True):
        if level.dtype != dtype:
            raise ValueError(
                f"method {plan.reducer.name!r} makes level {level.index!r} of dtype {str(level.dtype)!r}, and "
                f"{str(dtype)!r} is stored; name the method that made it"
            )
    levels = (
        replace(lv, chunks=chunks, shards=shards) for lv, (chunks, shards) in zip(plan.levels, grids, strict=True)
    )
    return replace(plan, levels=tuple(levels))


def ready_to_build(plan: Plan) -> Plan:
    """Return a plan whose levels are decided with the passes that build them.

    Raises
    ------
    ValueError
        If a region of whole chunks does not fit into memory.
    """
    plan = with_passes(plan)
    if plan.peak_memory > plan.memory_limit:
        # A percent more than is needed: the text is rounded, and must be enough when it is passed back.
        enough = math.ceil(1.01 * plan.peak_memory)
        raise ValueError(
            f"memory_limit={format_bytes(plan.memory_limit)} is too little for {plan.workers} workers: a region of "
            f"whole chunks needs {format_bytes(plan.peak_memory // plan.workers)} each; allow "
            f"{format_bytes(enough)}, or use fewer workers or smaller chunks"
        )
    return plan


def _levels(
    axes: tuple[Axis, ...],
    ladder: Sequence[tuple[int, ...]],
    reducer: Reducer,
    reduction: Reduction,
    boundary: Boundary,
) -> list[Level]:
    none = tuple(axis.size for axis in axes)
    levels = [Level(0, axes, (1,) * len(axes), 0, reduction.base_dtype, none, None)]
    for index, factors in enumerate(ladder, 1):
        coarser = tuple(
            axis.coarsen(factor, boundary=boundary, position=reducer.position)
            for axis, factor in zip(axes, factors, strict=True)
        )
        parent = _parent(levels, factors)
        if reducer.bands and parent != index - 1:
            raise ValueError(
                f"levels of method {reducer.name!r} are expanded one into the other, but the factors {factors!r} are "
                f"no multiples of {levels[-1].factors!r}; choose factors that are"
            )
        levels.append(Level(index, coarser, factors, parent, reduction.output_dtype, none, None))
    return levels


def _parent(levels: Sequence[Level], factors: tuple[int, ...]) -> int:
    """Return the coarsest level whose factors divide `factors`; the base divides all."""
    divisors = [lv for lv in levels if all(f % g == 0 for f, g in zip(factors, lv.factors, strict=True))]
    return max(divisors, key=lambda level: (math.prod(level.factors), level.index)).index


def _stored(level: Level, chunks: Mapping[str, int], shards: Mapping[str, int] | None) -> Level:
    """Return a level with its chunk and shard shape, clamped where the level is smaller."""
    clamped = tuple(min(chunks[axis.name], axis.size) for axis in level.axes)
    if shards is None:
        return replace(level, chunks=clamped)
    whole = tuple(
        min(shards[axis.name], -(-axis.size // chunk) * chunk) for axis, chunk in zip(level.axes, clamped, strict=True)
    )
    # A shard must hold whole chunks, also where clamping changed the chunk.
    whole = tuple(-(-shard // chunk) * chunk for shard, chunk in zip(whole, clamped, strict=True))
    return replace(level, chunks=clamped, shards=whole if whole != clamped else None)
