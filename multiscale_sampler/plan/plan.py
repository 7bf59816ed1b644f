"""`Plan`: the levels of a pyramid with their chunks, the passes that compute them, and the memory these need.

Each level is reduced from its *parent*, the coarsest finer level whose factors divide its own, or the base. Levels are
grouped into *passes*. A pass reads its source (the base, or the state that an earlier pass has stored) region by
region. Regions are aligned to whole chunks of what is written, so that they are independent and no chunk has two
writers; to whole chunks of the source as well where memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from dask.utils import format_bytes

from ..image.axes import Axis, Boundary
from ..image.boxes import Box
from ..image.values import Packing
from ..messages import counted, shape_text, table
from ..methods import Reduction
from ..methods.masked import MaskChannel, MaskedReduction
from ..methods.packed import DecodedReduction, OrderedReduction
from ..methods.reducer import Reducer
from .pickling import OfOneVersion


@dataclass(frozen=True)
class Level:
    """One level of a pyramid."""

    index: int
    """0 for the base."""
    axes: tuple[Axis, ...]
    """The positions of its samples."""
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
    keeps_packing: bool = True
    """Whether the image's attributes of packing hold for its values; not if the method decodes them."""

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
    """One reading of a source, region by region, that produces some levels."""

    source: int
    """Level that is read: the values of the base, or the state of any other level."""
    levels: tuple[int, ...]
    """Levels that are computed, each after its parent."""
    written: tuple[int, ...]
    """Levels that are written: those that are computed; for Laplacian bands, those whose next level is known."""
    region: tuple[int, ...]
    """Shape of a region in samples of the source."""
    carried: tuple[int, ...]
    """Those of `levels` whose state a later pass reads."""
    region_nbytes: int
    """Peak memory of one region, in bytes."""


@dataclass(frozen=True)
class MissingShare:
    """How much of a chunk of the base is missing."""

    nodata: Any
    """The value that is left out."""
    share: float
    """The share of its voxels that are missing, 0 to 1."""
    box: Mapping[str, slice]
    """The chunk, by dim."""

    @property
    def is_large(self) -> bool:
        """Whether more than half is missing, which is rare where the value is one that really means so."""
        return self.share > 0.5

    def __str__(self) -> str:
        """Return the share as a sentence."""
        at = ", ".join(f"{dim} {along.start}:{along.stop}" for dim, along in self.box.items())
        return f"nodata {self.nodata!r}: {self.share:.1%} of the voxels of one chunk ({at}) are missing"


@dataclass(frozen=True, repr=False)
class Plan(OfOneVersion):
    """The levels, chunks, passes and memory of a pyramid to be built. ``print(plan)`` shows a table.

    `plan_pyramid` returns it. It has no reference to data. A pickle can only be loaded by the version that wrote it.
    """

    name: str
    """Name of the image."""
    dtype: np.dtype[Any]
    """dtype of the base."""
    reducer: Reducer
    """The method."""
    packing: Packing | None
    """How the values of the base are packed; None if they are what is stored."""
    mask: MaskChannel | None
    """The channel that masks the others; None without one."""
    boundary: Boundary
    """How partial windows are handled."""
    skipna: bool | None
    """Whether NaN is ignored; None if the dtype has no NaN and the caller did not say."""
    nodata: Any
    """A value that is ignored, or None."""
    min_valid: float
    """The fraction of a window that must be valid for a valid result."""
    levels: tuple[Level, ...]
    """All levels, the base first."""
    source_chunks: tuple[int, ...]
    """Shape of the boxes in which the source can be read without decoding a chunk twice."""
    workers: int
    """Regions that are processed at the same time."""
    memory_limit: int
    """Bytes of memory that the build may use."""
    region_size: int
    """Bytes of memory up to which regions are enlarged, so that there are fewer."""
    unstated: tuple[str, ...] = ()
    """Axes of space whose spacing nobody stated; it counts as equal."""
    ending: str = field(default="", compare=False)
    """Why there are no further levels, and what makes more; empty if the caller asked for no more."""
    missing: MissingShare | None = field(default=None, compare=False)
    """How much of one chunk is missing; None without `nodata`, or where no chunk was read."""
    passes: tuple[Pass, ...] = ()
    """The passes that build levels from 1 on, in order."""
    export_passes: tuple[Pass, ...] = ()
    """The passes that write all levels, including the base, to a new store."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(axis.name for axis in self.levels[0].axes)

    @property
    def reduced(self) -> tuple[str, ...]:
        """Names of the axes that are reduced at any level."""
        return tuple(dim for dim, factor in zip(self.dims, self.levels[-1].factors, strict=True) if factor > 1)

    @property
    def why_one_level(self) -> str:
        """Why there is only one level, and what makes more; empty if there are more, or the caller asked for one."""
        return f"one level: {self.ending}" if self.ending and len(self.levels) == 1 else ""

    @cached_property
    def reduction(self) -> Reduction:
        """The method bound to the dtype of the image and the rule for missing values."""
        window = max(math.prod(level.factors) for level in self.levels)
        return self.reducer.bind(
            self.dtype,
            skipna=self.skipna,
            nodata=self.nodata,
            min_valid=self.min_valid,
            window=window,
            packing=self.packing,
            mask=self.mask,
        )

    @property
    def takes_other_values(self) -> bool:
        """Whether levels are not computed from the values as they are stored, but from what these stand for."""
        return isinstance(self.reduction, DecodedReduction | OrderedReduction | MaskedReduction)

    @property
    def peak_memory(self) -> int:
        """Expected peak memory of an export in bytes: the largest region times the number of workers."""
        return self.workers * max((pass_.region_nbytes for pass_ in self.export_passes), default=0)

    @property
    def most_storage(self) -> int:
        """Bytes that an export needs in its target at the most: levels and states of levels, uncompressed."""
        states = sum(
            self.reduction.components * math.prod(self.levels[index].shape) * self.reduction.state_dtype.itemsize
            for pass_ in self.export_passes
            for index in (pass_.carried if self.reduction.components else ())
        )
        return states + sum(level.nbytes for level in self.levels)

    def with_missing(self, missing: MissingShare | None) -> Plan:
        """Return the plan with how much of one chunk is missing."""
        return replace(self, missing=missing)

    def relative_factors(self, index: int, source: int) -> tuple[int, ...]:
        """Return how many voxels of level `source` one voxel of level `index` covers along each axis."""
        return _quotients(self.levels[index].factors, self.levels[source].factors)

    def halos(self, index: int) -> tuple[int, ...]:
        """Return how many samples of its parent outside of the window, on either side, a voxel depends on, by axis."""
        return self.reduction.halos(self.relative_factors(index, self.levels[index].parent))

    def counts(self, index: int, part: Box) -> tuple[np.ndarray[Any, Any], ...]:
        """Return the number of base samples of each voxel of a part of a level, one int64 array for each axis."""
        counts = []
        for axis, factor, extent in zip(self.levels[0].axes, self.levels[index].factors, part, strict=True):
            start = np.arange(extent.start, extent.stop, dtype=np.int64) * factor
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
            "nodata": self.nodata,
            "missing": None if self.missing is None else self.missing.share,
            "levels": levels,
            "reduced": list(self.reduced),
            "ending": self.ending,
            "workers": self.workers,
            "peak_memory": self.peak_memory,
            "memory_limit": self.memory_limit,
            "storage": self.most_storage,
        }

    def __repr__(self) -> str:
        """Return the plan as a table."""
        return "\n".join([self._title(), "", *self._table(), "", *self._footer()])

    def _title(self) -> str:
        rule = f", nodata {self.nodata!r}" if self.nodata is not None else ""
        rule += f", masked by {self.dims[self.mask.axis]} {self.mask.number}" if self.mask is not None else ""
        return (
            f"Pyramid of {self.name!r}: {counted(len(self.levels), 'level')}, {' '.join(self.dims)}, {self.dtype}, "
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
            shards = [shape_text(level.shards) if level.shards else "-"] if sharded else []
            spacing = " ".join(f"{axis.scale:g}" if axis.is_regular else "irregular" for axis in level.axes)
            rows.append(
                [
                    str(level.index),
                    shape_text(level.factors),
                    shape_text(level.shape),
                    spacing,
                    shape_text(level.chunks),
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
        if len(self.unstated) > 1 or (self.unstated and units):
            yield f"spacing unknown, assumed equal: {', '.join(self.unstated)}"
        if self.reduced:
            kept = [dim for dim in self.dims if dim not in self.reduced]
            yield f"reduced: {', '.join(self.reduced)}" + (f"; kept: {', '.join(kept)}" if kept else "")
        if self.missing is not None:
            yield str(self.missing)
        if self.why_one_level:
            yield self.why_one_level
        for number, pass_ in enumerate(self.export_passes, 1):
            source = "the base" if pass_.source == 0 else f"level {pass_.source}"
            written = ", ".join(map(str, pass_.written))
            yield f"pass {number}: levels {written} from {source}, regions of {shape_text(pass_.region)}"
        yield (
            f"peak memory {format_bytes(self.peak_memory)} with {self.workers} workers "
            f"(limit {format_bytes(self.memory_limit)})"
        )
        yield f"storage at most {format_bytes(self.most_storage)}, before compression"


@lru_cache(maxsize=1024)
def _quotients(factors: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    # Cached because they are needed for every chunk that is read.
    return tuple(factor // other for factor, other in zip(factors, others, strict=True))
