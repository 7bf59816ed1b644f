"""Where the values of level 0 are read: arrays, zarr arrays, blocks that were sent, appended and converted images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.local import get_sync

from ..image.boxes import Block, Box, corner_of, replaced, shape_of
from ..image.dataarray import unread
from ..store import Access, source_array
from ..tasks.crew import active_client
from .dtypes import cast_block


class Base(Protocol):
    """Where the values of level 0 come from."""

    def read(self, region: Box) -> Block:
        """Return a region."""

    def tiles(self, region: Box, unit: Sequence[int]) -> Iterator[tuple[Box, Block | None]]:
        """Yield a region in parts of whole units of samples; None stands for one that is all fill of a zarr array."""


@dataclass(frozen=True)
class ArrayBase:
    """A base that is sliced: a numpy or dask array, or a zarr array in another order of axes."""

    data: Any
    """The array."""
    order: tuple[int, ...]
    """The order in which its axes are written."""

    def read(self, region: Box) -> Block:
        """Return a region, in the order of writing."""
        block = self._sliced(region)
        if self.is_lazy:
            # In the worker's own thread: regions run side by side already. What a cluster holds, only it computes.
            block = block.compute(scheduler=None if active_client() else get_sync)
        return np.asarray(block).transpose(self.order)

    @property
    def is_lazy(self) -> bool:
        """Whether the array is dask's."""
        return isinstance(self.data, da.Array)

    def lazy(self, region: Box) -> da.Array:
        """Return a region of a dask array, in the order of writing."""
        return cast("da.Array", self._sliced(region).transpose(self.order))

    def _sliced(self, region: Box) -> Any:
        stored = [slice(None)] * len(self.order)
        for along, axis in zip(region, self.order, strict=True):
            stored[axis] = along
        return self.data[tuple(stored)]

    def tiles(self, region: Box, unit: Sequence[int]) -> Iterator[tuple[Box, Block]]:
        """Yield the region whole."""
        yield region, self.read(region)


@dataclass(frozen=True)
class BlockBase:
    """A base of which a worker has been sent the one region that it is to build."""

    block: Block | None
    """Its values; None where they go with every task."""

    def read(self, region: Box) -> Block:
        """Return the region that was sent."""
        return np.asarray(self.block)

    def tiles(self, region: Box, unit: Sequence[int]) -> Iterator[tuple[Box, Block]]:
        """Yield the region whole."""
        yield region, self.read(region)


@dataclass(frozen=True)
class AppendedBase:
    """A base that is stored up to somewhere along an axis, and goes on with another."""

    stored: Access
    """What is stored."""
    appended: Base
    """What comes after it."""
    axis: int
    """Along which axis."""
    start: int
    """Where it comes."""

    def read(self, region: Box) -> Block:
        """Return a region, of the one, the other or both."""
        before, after = self._split(region)
        blocks = []
        if before.stop > before.start:
            blocks.append(self.stored.read(replaced(region, self.axis, before)))
        if after.stop > after.start:
            # Both may be held in the one memory that this thread reads into.
            blocks = [block.copy() for block in blocks]
            blocks.append(self.appended.read(replaced(region, self.axis, after)))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, self.axis)

    def _split(self, region: Box) -> tuple[slice, slice]:
        along = region[self.axis]
        after = slice(max(along.start - self.start, 0), along.stop - self.start)
        return slice(along.start, min(along.stop, self.start)), after

    def tiles(self, region: Box, unit: Sequence[int]) -> Iterator[tuple[Box, Block]]:
        """Yield the region whole."""
        yield region, self.read(region)


@dataclass(frozen=True)
class CastBase:
    """A base whose values are stored in another dtype, which must hold them."""

    base: Base
    """Where they are read."""
    dtype: np.dtype[Any]
    """The dtype that they get."""
    dims: tuple[str, ...]
    """Names of the axes, in the order of writing."""

    def read(self, region: Box) -> Block:
        """Return a region."""
        return self._cast(region, self.base.read(region))

    def tiles(self, region: Box, unit: Sequence[int]) -> Iterator[tuple[Box, Block]]:
        """Yield the region in the parts in which it is read."""
        for tile, block in self.base.tiles(region, unit):
            yield tile, self._cast(tile, filled(cast("Access", self.base), tile) if block is None else block)

    def _cast(self, region: Box, block: Block) -> Block:
        return cast_block(block, self.dtype, corner_of(region), self.dims)


def base_of(image: xr.DataArray, order: tuple[int, ...], dtype: np.dtype[Any]) -> Base:
    """Return where an image's values are read, in the given order of its axes and a dtype."""
    data = unread(image)
    source = source_array(data)
    base: Base = ArrayBase(data if source is None else source, order)
    if source is not None and order == tuple(range(image.ndim)):
        base = Access.of(source)
    return base if dtype == image.dtype else CastBase(base, dtype, tuple(str(image.dims[axis]) for axis in order))


def filled(base: Access, tile: Box) -> Block:
    """Return a tile of a base's fill value."""
    return np.full(shape_of(tile), base.fill)
