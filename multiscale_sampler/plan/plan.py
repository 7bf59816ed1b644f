"""What will be built, decided before anything is read: levels, chunks, passes over the data, memory.

The second station of the flow. `plan_pyramid` turns an image's labels and the caller's wishes into a `Plan`, a
frozen value made of numbers; the lazy tree and the engine carry it out and decide nothing themselves. The
module does no I/O and sees no pixel.

Levels follow from each other: each is reduced from its *parent*, the coarsest level before it whose factors
divide its own, else from the base. Levels are grouped into *passes*. A pass reads its source (the base, or the
state that an earlier pass left) region by region; a region is aligned to whole chunks of everything that it
reads and writes, so that regions are independent and no chunk has two writers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.utils import format_bytes, parse_bytes

from ..image.axes import BOUNDARIES, Axis, Boundary, image_axes, to_image
from ..methods import Reduction
from ..methods.reducers import Method, Reducer, get_reducer
from ..tasks import machine
from .factors import ChunkSizes, ScaleFactors, ladder, per_axis, positive

# What tiles well on a screen and reads well from disks and object stores, by the number of spatial axes.
DEFAULT_CHUNKS = {1: 262_144, 2: 512, 3: 64}
# Blocks of a dask array above this size are units of computing, not of storage.
LARGEST_INHERITED_CHUNK = 8 * 2**20
# Memory of a region: large enough that few passes do, small enough that regions keep all workers busy.
REGION_BUDGET = 128 * 2**20
SMALLEST_REGION = 4 * 2**20


@dataclass(frozen=True)
class Level:
    """One level of a pyramid."""

    index: int
    """0 for the base."""
    axes: tuple[Axis, ...]
    """Where its samples sit."""
    factors: tuple[int, ...]
    """Base voxels per voxel along each axis."""
    parent: int
    """The level that it is reduced from; for the base, itself."""
    dtype: np.dtype[Any]
    """dtype of its values."""
    chunks: tuple[int, ...]
    """Shape of a chunk."""
    shards: tuple[int, ...] | None
    """Shape of a shard, None without sharding."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def nbytes(self) -> int:
        """Bytes of its values, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return math.prod(-(-n // chunk) for n, chunk in zip(self.shape, self.chunks, strict=True))


@dataclass(frozen=True)
class Pass:
    """One sweep over a source, region by region, that produces some levels."""

    source: int
    """Level whose values (the base) or state (any other) are read."""
    levels: tuple[int, ...]
    """Levels that are made, each after its parent."""
    written: tuple[int, ...]
    """Levels that are written: those that are made, but of bands those of which the next one is known."""
    region: tuple[int, ...]
    """Shape of a region in samples of the source."""
    carried: tuple[int, ...]
    """Those of `levels` whose state a later pass reads."""
    region_nbytes: int
    """Memory that one region needs at its peak."""


@dataclass(frozen=True, repr=False)
class Plan:
    """A pyramid that is to be built: levels, chunks, passes, memory. ``print(plan)`` shows a table.

    Made by `plan_pyramid`; nothing in it refers to data.
    """

    name: str
    """Name of the image."""
    dtype: np.dtype[Any]
    """dtype of the base."""
    reducer: Reducer
    """The method."""
    boundary: Boundary
    """What becomes of partial windows."""
    skipna: bool | None
    """Whether NaN is left out; None: for floats."""
    nodata: Any
    """A value that is left out, or None."""
    min_valid: float
    """The least fraction of a window that must be valid for a valid result."""
    levels: tuple[Level, ...]
    """All levels, the base first."""
    source_chunks: tuple[int, ...]
    """Grid in which the source can be read without decoding anything twice."""
    workers: int
    """Regions at a time."""
    memory_limit: int
    """Bytes that the build may use."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(axis.name for axis in self.levels[0].axes)

    @cached_property
    def reduction(self) -> Reduction:
        """The method bound to the image's dtype and missing-value rule."""
        window = max(math.prod(level.factors) for level in self.levels)
        return self.reducer.bind(
            self.dtype, skipna=self.skipna, nodata=self.nodata, min_valid=self.min_valid, window=window
        )

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """The sweeps that build levels 1 and up, in order."""
        return tuple(_passes(self, copy_base=False))

    @cached_property
    def export_passes(self) -> tuple[Pass, ...]:
        """The sweeps that write every level into a new store, the base included."""
        return tuple(_passes(self, copy_base=True))

    def update_passes(self, *, with_base: bool) -> tuple[Pass, ...]:
        """Return the sweeps that bring stored levels up to date with a base of which a part has changed.

        Where the values of a level are all that the next ones need of it, these read it as it is stored: far less
        than what the base has under their windows.
        """
        if self.reduction.components or self.reduction.bands:
            return self.export_passes if with_base else self.passes
        return tuple(_passes(self, copy_base=with_base, deep=False))

    def region_pass(self, region: Sequence[int], *, copy_base: bool) -> Pass | None:
        """Return the sweep that makes all levels of a single region of the base; None if that is too large for one."""
        made = tuple(range(0 if copy_base else 1, len(self.levels)))
        nbytes = _region_nbytes(self, 0, made, tuple(region))
        if nbytes > _region_budget(self):
            return None
        return Pass(0, made, _written(self, 0, made), self.levels[0].shape, (), nbytes)

    @property
    def peak_memory(self) -> int:
        """Projected bytes at the peak of an export: the largest region, once per worker."""
        return self.workers * max((step.region_nbytes for step in self.export_passes), default=0)

    def relative_factors(self, index: int, source: int) -> tuple[int, ...]:
        """Return how many voxels of level `source` a voxel of level `index` covers, axis by axis."""
        return _quotients(self.levels[index].factors, self.levels[source].factors)

    def cell(self, step: Pass, near: Sequence[int]) -> tuple[int, ...] | None:
        """Return a part of the regions of a pass over the base that is whole in some levels made of it.

        Whole, too, in the base's chunks, so that these are decoded once, and in the windows of levels that follow from
        these; the least part that is worth the detour. None if regions do not consist of such parts.
        """
        following = [level.factors for level in self.levels if level.index in step.levels and level.parent in near]
        least = tuple(math.lcm(n, *factors) for n, *factors in zip(_region(self, 0, near), *following, strict=True))
        for cell in (_grown(self, 0, near, least), least):
            sizes = zip(cell, self.source_chunks, step.region, self.levels[0].shape, strict=True)
            if all((n % chunk == 0 or n >= size) and (at % n == 0 or at == size) for n, chunk, at, size in sizes):
                return cell
        return None

    def halos(self, index: int) -> tuple[int, ...]:
        """Return how many samples of its parent beyond a window a voxel of a level depends on, axis by axis."""
        return tuple(map(self.reduction.halo, self.relative_factors(index, self.levels[index].parent)))

    def counts(self, index: int, region: tuple[slice, ...]) -> tuple[np.ndarray[Any, Any], ...]:
        """Return the base samples under each voxel of a region of a level, axis by axis, as int64 arrays."""
        counts = []
        for axis, factor, along in zip(self.levels[0].axes, self.levels[index].factors, region, strict=True):
            start = np.arange(along.start, along.stop, dtype=np.int64) * factor
            counts.append(np.minimum(factor, axis.size - start))
        return tuple(counts)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        levels = [
            {
                "level": level.index,
                "factors": list(level.factors),
                "shape": list(level.shape),
                "parent": level.parent,
                "dtype": str(level.dtype),
                "scale": [axis.scale if axis.is_regular else None for axis in level.axes],
                "translation": [axis.translation if axis.is_regular else None for axis in level.axes],
                "chunks": list(level.chunks),
                "shards": None if level.shards is None else list(level.shards),
                "nbytes": level.nbytes,
            }
            for level in self.levels
        ]
        return {
            "name": self.name,
            "dims": list(self.dims),
            "method": self.reducer.name,
            "boundary": self.boundary,
            "levels": levels,
            "workers": self.workers,
            "peak_memory": self.peak_memory,
            "memory_limit": self.memory_limit,
        }

    def __repr__(self) -> str:
        """Return the plan as a table."""
        return "\n".join([self._title(), "", *self._table(), "", *self._footer()])

    def _title(self) -> str:
        rule = f", nodata {self.nodata!r}" if self.nodata is not None else ""
        return (
            f"Pyramid of {self.name!r}: {len(self.levels)} levels, {' '.join(self.dims)}, {self.dtype}, "
            f"method {self.reducer.name!r}, boundary {self.boundary!r}{rule}"
        )

    def _table(self) -> Iterator[str]:
        sharded = any(level.shards for level in self.levels)
        header = [
            "level",
            "factors",
            "shape",
            "spacing",
            "chunks",
            *(["shards"] if sharded else []),
            "count",
            "size",
        ]
        rows = [header]
        for level in self.levels:
            shards = [_by(level.shards) if level.shards else "-"] if sharded else []
            spacing = " ".join(f"{axis.scale:g}" if axis.is_regular else "irregular" for axis in level.axes)
            rows.append(
                [
                    str(level.index),
                    _by(level.factors),
                    _by(level.shape),
                    spacing,
                    _by(level.chunks),
                    *shards,
                    str(level.chunk_count),
                    format_bytes(level.nbytes),
                ]
            )
        yield from table(rows)

    def _footer(self) -> Iterator[str]:
        units = sorted({axis.unit for axis in self.levels[0].axes if axis.unit})
        if units:
            yield f"spacing in {', '.join(units)}"
        for number, step in enumerate(self.export_passes, 1):
            source = "the base" if step.source == 0 else f"level {step.source}"
            made = ", ".join(map(str, step.written))
            yield f"pass {number}: levels {made} from {source}, regions of {_by(step.region)}"
        yield (
            f"peak memory {format_bytes(self.peak_memory)} with {self.workers} workers "
            f"(limit {format_bytes(self.memory_limit)})"
        )


@lru_cache(maxsize=1024)
def _quotients(factors: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    # Kept: every chunk that is read asks for some.
    return tuple(factor // other for factor, other in zip(factors, others, strict=True))


def _by(numbers: Sequence[int]) -> str:
    return "x".join(map(str, numbers))


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells as lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


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
    image = to_image(image)
    check_choices(image, boundary)
    if weights is not None:
        check_weights(weights, image)
    positive("max_levels", max_levels)
    axes = image_axes(image)
    sizes = _min_sizes(axes, _chunk_shape(image, axes, chunks), min_size, scale_factors)
    return plan_ladder(
        image,
        axes,
        ladder(axes, scale_factors, sizes, boundary, max_levels),
        method=method,
        boundary=boundary,
        chunks=chunks,
        shards=shards,
        skipna=skipna,
        nodata=nodata,
        min_valid=min_valid,
        weighted=weights is not None,
        memory_limit=memory_limit,
        workers=workers,
    )


def plan_ladder(
    image: xr.DataArray,
    axes: tuple[Axis, ...],
    factors_of_levels: Sequence[tuple[int, ...]],
    *,
    method: Method,
    boundary: Boundary,
    chunks: ChunkSizes | None = None,
    shards: ChunkSizes | Literal[False] | None = None,
    skipna: bool | None = None,
    nodata: Any = None,
    min_valid: float = 0.0,
    weighted: bool = False,
    memory_limit: int | str | None = None,
    workers: int | None = None,
) -> Plan:
    """Decide everything about levels whose factors, cumulative from the base, are decided already."""
    reducer = get_reducer(method, weighted=weighted)
    chunk_shape = _chunk_shape(image, axes, chunks)
    shard_shape = _shard_shape(image, axes, chunk_shape, shards)
    window = max((math.prod(factors) for factors in factors_of_levels), default=1)
    reduction = reducer.bind(image.dtype, skipna=skipna, nodata=nodata, min_valid=min_valid, window=window)
    levels = _levels(axes, factors_of_levels, reducer, reduction, boundary)
    plan = Plan(
        name=str(image.name),
        dtype=image.dtype,
        reducer=reducer,
        boundary=boundary,
        skipna=reduction.binding.skip_nan if image.dtype.kind in "fcmM" else skipna,
        nodata=reduction.binding.nodata,
        min_valid=min_valid,
        levels=tuple(_stored(level, chunk_shape, shard_shape) for level in levels),
        source_chunks=_source_chunks(image),
        workers=positive("workers", workers) or machine.available_cores(),
        memory_limit=memory_in_bytes(memory_limit),
    )
    _check_memory(plan)
    return plan


def plan_as_stored(
    plan: Plan, grids: Sequence[tuple[tuple[int, ...], tuple[int, ...] | None]], dtypes: Sequence[np.dtype[Any]]
) -> Plan:
    """Return a plan with the chunks and shards that its levels have in a store.

    Raises
    ------
    ValueError
        If a level has another dtype there, or a region of such chunks does not fit into memory.
    """
    for level, dtype in zip(plan.levels, dtypes, strict=True):
        if level.dtype != dtype:
            raise ValueError(
                f"method {plan.reducer.name!r} makes level {level.index!r} of dtype {str(level.dtype)!r}, and "
                f"{str(dtype)!r} is stored; name the method that made it"
            )
    if [(level.chunks, level.shards) for level in plan.levels] == list(grids):
        return plan
    levels = (
        replace(lv, chunks=chunks, shards=shards) for lv, (chunks, shards) in zip(plan.levels, grids, strict=True)
    )
    stored = replace(plan, levels=tuple(levels))
    _check_memory(stored)
    return stored


def check_choices(image: xr.DataArray, boundary: str) -> None:
    """Refuse a boundary rule that there is not, and an image without voxels."""
    if boundary not in BOUNDARIES:
        raise ValueError(f"unknown boundary {boundary!r}; choose one of {', '.join(map(repr, BOUNDARIES))}")
    if 0 in image.shape or not image.ndim:
        raise ValueError(
            f"an image of shape {image.shape!r} has no voxels; a pyramid needs at least one along each axis"
        )


def check_weights(weights: Any, image: xr.DataArray) -> None:
    """Refuse weights of another dim or size than the image's, or that lie elsewhere, or are no numbers."""
    if not isinstance(weights, xr.DataArray) or not set(weights.dims) <= set(image.dims):
        raise ValueError(
            f"weights must be a DataArray with dims of the image, {image.dims!r}; these are "
            f"{getattr(weights, 'dims', type(weights).__name__)!r}"
        )
    if weights.dtype.kind not in "biuf":
        raise ValueError(f"weights have dtype {str(weights.dtype)!r}; give real numbers, or a mask")
    for dim in weights.dims:
        if weights.sizes[dim] != image.sizes[dim]:
            raise ValueError(f"weights have {weights.sizes[dim]!r} samples of {dim!r}, the image {image.sizes[dim]!r}")
        if dim in weights.coords and not np.allclose(weights[dim], image[dim], rtol=1e-9):
            raise ValueError(f"weights lie elsewhere along {dim!r} than the image; take them over with reindex_like")


def memory_in_bytes(memory_limit: int | str | None) -> int:
    """Return the memory that may be used, by default a part of what there is."""
    if memory_limit is None:
        return int(machine.available_memory() * machine.DEFAULT_MEMORY_FRACTION)
    try:
        limit = int(parse_bytes(memory_limit))
    except (ValueError, TypeError) as error:
        raise ValueError(f"memory_limit={memory_limit!r} is no amount of memory; write it as '512MiB'") from error
    if limit < 1:
        raise ValueError(f"memory_limit={memory_limit!r} leaves no memory; give a positive amount")
    return limit


def _chunk_shape(image: xr.DataArray, axes: Sequence[Axis], chunks: ChunkSizes | None) -> dict[str, int]:
    blocks = _block_shape(image)
    if blocks is not None and math.prod(blocks) * image.dtype.itemsize > LARGEST_INHERITED_CHUNK:
        blocks = None
    inherited = _stored_shape(image, "chunks") or blocks or _default_chunks(axes)
    shape = dict(zip((axis.name for axis in axes), inherited, strict=True))
    return shape if chunks is None else shape | per_axis("chunks", chunks, axes)


def _stored_shape(image: xr.DataArray, key: str) -> tuple[int, ...] | None:
    """Return the chunk or shard shape in which an image was stored, where its encoding tells."""
    shape = image.encoding.get(key)
    if not isinstance(shape, tuple) or len(shape) != image.ndim or not all(isinstance(n, int) for n in shape):
        return None
    return shape


def _block_shape(image: xr.DataArray) -> tuple[int, ...] | None:
    """Return the shape of a dask array's blocks, where they are alike."""
    if image.chunks is None:
        return None
    for blocks in image.chunks:
        if len(set(blocks[:-1])) > 1 or blocks[-1] > blocks[0]:
            return None
    return tuple(blocks[0] for blocks in image.chunks)


def _default_chunks(axes: Sequence[Axis]) -> tuple[int, ...]:
    spatial = sum(axis.type == "space" and axis.size > 1 for axis in axes)
    length = DEFAULT_CHUNKS[min(max(spatial, 1), 3)]
    return tuple(min(length, axis.size) if axis.type == "space" else 1 for axis in axes)


def _shard_shape(
    image: xr.DataArray,
    axes: Sequence[Axis],
    chunk_shape: Mapping[str, int],
    shards: ChunkSizes | Literal[False] | None,
) -> dict[str, int] | None:
    if shards is False:
        return None
    if shards is None:
        stored = _stored_shape(image, "shards")
        shape = None if stored is None else dict(zip(chunk_shape, stored, strict=True))
        if shape is None or any(shape[dim] % chunk for dim, chunk in chunk_shape.items()):
            return None
        return shape
    shape = dict(chunk_shape) | per_axis("shards", shards, axes)
    if wrong := {dim: shape[dim] for dim, chunk in chunk_shape.items() if shape[dim] % chunk}:
        raise ValueError(f"shards {wrong!r} are no multiples of the chunks {dict(chunk_shape)!r}; make them so")
    return shape


def _source_chunks(image: xr.DataArray) -> tuple[int, ...]:
    return _stored_shape(image, "shards") or _stored_shape(image, "chunks") or _block_shape(image) or (1,) * image.ndim


def _min_sizes(
    axes: Sequence[Axis],
    chunk_shape: Mapping[str, int],
    min_size: ChunkSizes | None,
    scale_factors: ScaleFactors,
) -> dict[str, int]:
    if min_size is None:
        return dict(chunk_shape)
    if isinstance(scale_factors, Sequence | np.ndarray) and not isinstance(scale_factors, str):
        raise ValueError(
            f"min_size={min_size!r} ends a repeated step, but scale_factors={scale_factors!r} names every level; "
            "leave one of them out"
        )
    return dict(chunk_shape) | per_axis("min_size", min_size, axes)


def _levels(
    axes: tuple[Axis, ...],
    ladder: Sequence[tuple[int, ...]],
    reducer: Reducer,
    reduction: Reduction,
    boundary: Boundary,
) -> list[Level]:
    none = tuple(axis.size for axis in axes)
    dtype = reduction.output_dtype if reduction.bands else reduction.dtype
    levels = [Level(0, axes, (1,) * len(axes), 0, dtype, none, None)]
    for index, factors in enumerate(ladder, 1):
        coarser = tuple(
            axis.coarsen(factor, boundary=boundary, position=reducer.position)
            for axis, factor in zip(axes, factors, strict=True)
        )
        parent = _parent(levels, factors)
        if reduction.bands and parent != index - 1:
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


def _passes(plan: Plan, *, copy_base: bool, deep: bool = True) -> Iterator[Pass]:
    """Group levels into passes, each as deep as its region stays near the target size, or of one step each."""
    todo = list(range(0 if copy_base else 1, len(plan.levels)))
    while todo:
        first = todo[0]
        source = plan.levels[first].parent
        chosen = [first]
        for index in todo[1:]:
            if plan.levels[index].parent not in ((source, *chosen) if deep else (source,)):
                continue
            region = _region(plan, source, [*chosen, index])
            # A level of the base joins as long as there is memory, so that the base is decoded once.
            from_base = plan.levels[index].parent == source == 0
            budget = plan.memory_limit // plan.workers if from_base else _region_budget(plan)
            if _region_nbytes(plan, source, [*chosen, index], region) > budget:
                break
            chosen.append(index)
        todo = [index for index in todo if index not in chosen]
        region = _grown(plan, source, chosen, _region(plan, source, chosen))
        carried = tuple(i for i in chosen if i and any(plan.levels[later].parent == i for later in todo))
        nbytes = _region_nbytes(plan, source, chosen, region)
        yield Pass(source, tuple(chosen), _written(plan, source, chosen), region, carried, nbytes)


def _written(plan: Plan, source: int, made: Sequence[int]) -> tuple[int, ...]:
    """Return which levels a pass writes that makes some from a source."""
    if not plan.reduction.bands:
        return tuple(made)
    # A band wants the next level, which the last one made has in a later pass, if there is one.
    known = sorted({source, *made})
    return tuple(known if known[-1] == len(plan.levels) - 1 else known[:-1])


def _region_budget(plan: Plan) -> int:
    return min(REGION_BUDGET, plan.memory_limit // plan.workers)


def _region(plan: Plan, source: int, levels: Sequence[int]) -> tuple[int, ...]:
    """Return the least region that is whole in the source and in every level it produces."""
    shape = plan.levels[source].shape
    written = [1] * len(shape)
    for index in {*levels, *_written(plan, source, levels)}:
        level = plan.levels[index]
        grid = level.shards or level.chunks
        relative = plan.relative_factors(index, source)
        for axis, (unit, factor, size) in enumerate(zip(grid, relative, level.shape, strict=True)):
            # A single chunk needs the whole axis, whatever its clamped size.
            span = shape[axis] if unit >= size else unit * factor
            written[axis] = min(math.lcm(written[axis], span), shape[axis])
    read = plan.source_chunks if source == 0 else _source_grid(plan, source)
    both = tuple(min(math.lcm(w, r), n) for w, r, n in zip(written, read, shape, strict=True))
    if _region_nbytes(plan, source, levels, both) <= _region_budget(plan):
        return both
    return tuple(written)


def _source_grid(plan: Plan, source: int) -> tuple[int, ...]:
    level = plan.levels[source]
    return level.shards or level.chunks


def _grown(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> tuple[int, ...]:
    """Return a multiple of the region, large enough that it is worth a task."""
    shape = plan.levels[source].shape
    grown = list(region)
    for axis in reversed(range(len(shape))):
        while grown[axis] < shape[axis]:
            larger = [*grown[:axis], min(2 * grown[axis], shape[axis]), *grown[axis + 1 :]]
            if _region_nbytes(plan, source, levels, tuple(larger)) > min(SMALLEST_REGION, _region_budget(plan)):
                break
            grown = larger
    return tuple(grown)


def _region_nbytes(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> int:
    """Return the memory of one region at its peak: its block (as read and as reduced), states and levels."""
    reduction = plan.reduction
    state = max(reduction.components, 1) * reduction.state_dtype.itemsize
    spans = _spans(plan, source, levels, region)
    itemsize = plan.dtype.itemsize + reduction.working_itemsize if source == 0 else 2 * state
    total = math.prod(spans[source]) * itemsize
    for index in levels:
        total += math.prod(spans[index]) * (plan.levels[index].dtype.itemsize + state) if index else 0
    # A band is made of its state, and of as much that the next level tells of it.
    return total + (2 * state * math.prod(spans[source]) if reduction.bands else 0)


def _spans(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """Return the shape of what a region must know of its source and of every level, halos included."""
    spans = {source: region}
    for index in levels:
        relative = plan.relative_factors(index, source)
        # A sample of a band lies between two of the next level, which may be beyond the region.
        beyond = 2 if plan.reduction.bands and index != source else 0
        spans[index] = tuple(-(-n // f) + beyond for n, f in zip(region, relative, strict=True))
    for index in reversed(levels):
        parent = plan.levels[index].parent
        if index and parent in spans:
            factors, sizes = plan.relative_factors(index, parent), plan.levels[parent].shape
            reach = zip(spans[index], factors, plan.halos(index), sizes, strict=True)
            needed = [min(n * factor + 2 * halo, size) for n, factor, halo, size in reach]
            spans[parent] = tuple(map(max, spans[parent], needed))
    return spans


def _check_memory(plan: Plan) -> None:
    if plan.peak_memory > plan.memory_limit:
        raise ValueError(
            f"memory_limit={format_bytes(plan.memory_limit)} is too little for {plan.workers} workers: a region of "
            f"whole chunks needs {format_bytes(plan.peak_memory // plan.workers)} each; allow "
            f"{format_bytes(plan.peak_memory)}, or use fewer workers or smaller chunks"
        )
