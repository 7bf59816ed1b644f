"""`plan_pyramid`, and plans from an image and options. No voxel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from ..image.axes import Axis, Boundary
from ..image.dataarray import image_and_axes
from ..image.xarray_internals import holds_values_in_memory
from ..methods import Reduction
from ..methods.masked import MaskedReduction
from ..methods.packed import DecodedReduction
from ..methods.reducer import Reducer
from ..methods.reducers import Method
from .chunks import chunk_shape, shard_shape, source_chunks
from .factors import ChunkSizes, ChunkSizesByLevel, ScaleFactors, ShardSizesByLevel, ladder, per_axis
from .notes import missing_share, unstated_spacings, warn_of_distortion, warn_of_missing, why_levels_end
from .options import LevelOptions, StorageOptions
from .passes import configured_region_size, with_passes
from .plan import Level, Plan


def plan_pyramid(
    image: Any,
    scale_factors: ScaleFactors = "isotropic",
    *,
    method: Method = "mean",
    boundary: Boundary = "pad",
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    chunks: ChunkSizesByLevel | None = None,
    shards: ShardSizesByLevel | None = None,
    skipna: bool | None = None,
    nodata: Any = "stated",
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
) -> Plan:
    """Return the plan of a pyramid of `image`: its levels, chunks, passes and memory. No voxel is read.

    Of an image in memory with `nodata`, the plan has the share of one chunk that is missing. On the command line, it
    has that also of an image on this machine, from which one chunk is read.

    Parameters
    ----------
    image
        An image, or an array that `to_image` can label.
    scale_factors
        "isotropic" halves the spatial axes with the finest spacing until voxels are nearly cubic, then all of them; it
        compares those whose units measure the same, an unknown spacing counts as equal. A vertical axis that measures
        something else than the horizontal ones (pressure, or metres beside degrees) is kept unless it is named. An int
        or ``{dim: int}`` is a **step**, which is repeated until `min_size` or `max_levels`; an int applies to the same
        axes, a mapping to the dims that it names; an int above 16 is refused. A list has one entry per extra level,
        each **cumulative from the base** and ascending, as in ``[2, 4, 8]`` or ``[2, 3]``; its ints apply to the axes
        with more than one sample.
    method
        Name of a method, a `Reducer`, or a function ``f(windows, axis=-1)`` that reduces an axis as numpy's do.
    boundary
        How a partial window at the end of an axis is handled, as in ``xarray.DataArray.coarsen``: "pad" reduces the
        voxels that it has and rounds sizes up, "trim" drops it, "exact" refuses it.
    max_levels
        The most levels, including the base.
    min_size
        With "isotropic" or a step: stop reducing an axis once it has this many samples or fewer. Default: the axes are
        reduced together until none has more than 256 samples, or the longest edge of a chunk along them if that is
        less.
    chunks
        Chunk shape of every level, clamped to the size of small levels: an int for the spatial axes, a mapping by dim,
        or one per axis. A mapping with numbers of levels as keys, as in ``{0: 64, 2: 32}``, has one of these for each
        level that it names; others are like the next finer level that is named. Default: as the image is stored, else
        64 along each axis in 3-D and 512 in 2-D.
    shards
        Shard shape, in multiples of the chunks, given as `chunks` are, also by level. Default: as the image is stored;
        False for no shards.
    skipna
        Whether NaN is ignored. Default: in floats, if the method can ignore it.
    nodata
        A value to ignore; a window without other values becomes `nodata`. Default: "stated", the one that the image's
        attributes state (``_FillValue``, ``missing_value``, ``nodata``, ``nodatavals``); then a channel called "alpha"
        also masks the other channels where it is 0. None for no value and no mask.
    min_valid
        The fraction of the voxels of a window, 0 to 1, that must be valid for a valid result. Stepwise methods count
        voxels of the level they are computed from; for filters, and with `weights`, it is a fraction of the weight.
    weights
        Weights of the voxels for a weighted mean, with dims of the image: areas of cells, or a mask. Voxels whose
        weight is not positive are ignored; a window without others is NaN or `nodata`, or 0 for integers without it.
    memory_limit
        Bytes, or a text such as "512MiB". Default: half of the memory that this process may use.
    workers
        Regions that are processed at the same time. Default: the number of cores that this process may use.

    Returns
    -------
    Plan
        Frozen; ``print(plan)`` shows a table.

    Raises
    ------
    ValueError
        If the options do not fit the image, or contradict each other.
    TypeError
        If the method does not accept the dtype of the image, or a factor is not an integer.

    Warns
    -----
    UserWarning
        If voxels of a level are more anisotropic than those of the base by more than the square root of 2, or more
        than half of a chunk is missing.

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
    image, axes = image_and_axes(image)
    options.warn_of_averages(image)
    plan = ready_to_build(plan_image(image, axes, options, storage))
    warn_of_distortion(plan)
    if holds_values_in_memory(image.variable):
        plan = plan.with_missing(missing_share(image, plan.nodata))
        warn_of_missing(plan.missing)
    return plan


def plan_image(image: xr.DataArray, axes: tuple[Axis, ...], options: LevelOptions, storage: StorageOptions) -> Plan:
    """Return a plan of the levels of an image with these axes, without passes, which lazy levels do not need."""
    options.check_image(image)
    chunks = chunk_shape(image, axes, storage.chunks_of(0))
    min_sizes = {} if options.min_size is None else per_axis("min_size", options.min_size, axes)
    factors = ladder(axes, options.scale_factors, chunks, min_sizes, options.boundary, options.max_levels)
    plan = plan_ladder(image, axes, factors, options, storage)
    ending = why_levels_end(plan, options.scale_factors, chunks, min_sizes)
    return replace(plan, unstated=unstated_spacings(image, axes), ending=ending)


def plan_ladder(
    image: xr.DataArray,
    axes: tuple[Axis, ...],
    factors_of_levels: Sequence[tuple[int, ...]],
    options: LevelOptions,
    storage: StorageOptions,
) -> Plan:
    """Return a plan as `plan_image` does, for given factors of every extra level, cumulative from the base."""
    reducer = options.reducer
    storage.check_levels(1 + len(factors_of_levels))
    window = max((math.prod(factors) for factors in factors_of_levels), default=1)
    packing, nodata = options.values_of(image)
    reduction = reducer.bind(
        image.dtype,
        skipna=options.skipna,
        nodata=nodata,
        min_valid=options.min_valid,
        window=window,
        packing=packing,
        mask=options.mask_channel(image, factors_of_levels),
    )
    levels = _levels(axes, factors_of_levels, reducer, reduction, options.boundary)
    return Plan(
        name=str(image.name),
        dtype=image.dtype,
        reducer=reducer,
        packing=packing,
        mask=reduction.mask if isinstance(reduction, MaskedReduction) else None,
        boundary=options.boundary,
        skipna=reduction.binding.skip_nan if image.dtype.kind in "fcmM" else options.skipna,
        nodata=reduction.binding.nodata,
        min_valid=options.min_valid,
        levels=tuple(_with_chunks(level, image, storage) for level in levels),
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
        If a level is stored with another dtype.
    """
    for level, dtype in zip(plan.levels, dtypes, strict=True):
        if level.dtype != dtype:
            raise ValueError(
                f"method {plan.reducer.name!r} gives level {level.index!r} dtype {str(level.dtype)!r}, but it is "
                f"stored with {str(dtype)!r}; pass the method that it was computed with"
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
        # One percent more, because the amount is rounded in the message and must suffice if it is passed as it is.
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
    packed = not isinstance(reduction, DecodedReduction)
    # `_with_chunks` replaces the chunks.
    chunks = tuple(axis.size for axis in axes)
    base_packed = packed or not reduction.makes_base
    levels = [Level(0, axes, (1,) * len(axes), 0, reduction.base_dtype, chunks, None, base_packed)]
    for index, factors in enumerate(ladder, 1):
        coarser = tuple(
            axis.coarsen(factor, boundary=boundary, position=reducer.position)
            for axis, factor in zip(axes, factors, strict=True)
        )
        parent = _parent_level(levels, factors)
        if reducer.bands and parent != index - 1:
            raise ValueError(
                f"method {reducer.name!r} expands each level to the one before, but the factors {factors!r} are not "
                f"multiples of {levels[-1].factors!r}; give factors that are multiples"
            )
        levels.append(Level(index, coarser, factors, parent, reduction.output_dtype, chunks, None, packed))
    return levels


def _parent_level(levels: Sequence[Level], factors: tuple[int, ...]) -> int:
    """Return the index of the coarsest level whose factors divide `factors`; those of the base divide all."""
    divisors = [lv for lv in levels if all(f % g == 0 for f, g in zip(factors, lv.factors, strict=True))]
    return max(divisors, key=lambda level: (math.prod(level.factors), level.index)).index


def _with_chunks(level: Level, image: xr.DataArray, storage: StorageOptions) -> Level:
    """Return a level with its chunk shape, clamped to its size, and shards clamped to whole chunks."""
    chunks = chunk_shape(image, level.axes, storage.chunks_of(level.index))
    shards = shard_shape(image, level.axes, chunks, storage.shards_of(level.index))
    clamped = tuple(min(chunks[axis.name], axis.size) for axis in level.axes)
    if shards is None:
        return replace(level, chunks=clamped)
    whole = tuple(
        min(shards[axis.name], -(-axis.size // chunk) * chunk) for axis, chunk in zip(level.axes, clamped, strict=True)
    )
    # Clamping can change the chunks, and shards must be multiples of them.
    whole = tuple(-(-shard // chunk) * chunk for shard, chunk in zip(whole, clamped, strict=True))
    return replace(level, chunks=clamped, shards=whole if whole != clamped else None)
