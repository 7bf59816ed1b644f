"""`Base` and its classes: the values of level 0, from numpy, dask and zarr arrays, appended to or cast as needed."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..image.boxes import Block, Box, corner_of, replaced, shape_of
from ..image.dataarray import unread
from ..image.dtypes import cast_block
from ..image.values import Packing
from ..store.chunks import Access
from ..store.origins import source_array, zarr_arrays
from ..store.presence import Presence, WatchedArray, watched
from ..store.stamps import ANY_TIME, Stamps, stamps_of_array, stamps_of_file, stamps_of_graph
from ..tasks.crew import active_client
from ..tasks.dask_internals import get_sync


class Base(ABC):
    """The values of level 0.

    Subclasses read boxes. The other methods have defaults, which are correct for any base.
    """

    @abstractmethod
    def read(self, box: Box) -> Block:
        """Return the values of a box."""

    def tiles(self, box: Box, unit: Sequence[int] | None) -> Iterator[tuple[Box, Block | None]]:
        """Yield a box in tiles of whole units of samples, or as one tile where unit is None.

        Values are None for a tile that is all fill. The memory of a tile may be used for the next one.
        """
        yield box, self.read(box)

    @property
    def fill(self) -> Any:
        """Value of tiles that are None; None if no tile is."""
        return None

    @property
    def is_tiled(self) -> bool:
        """Whether tiles are small enough to stay in cache."""
        return False

    def is_blank(self, box: Box) -> bool:
        """Whether a box is known to be all fill without reading it."""
        return False

    def chunks_for(self, level: Access) -> Access | None:
        """Return the array whose stored chunks can be copied to a level as they are; None without one."""
        return None

    def stamps(self) -> Stamps | None:
        """Return what shows that values have changed; None where nothing but reading them does."""
        return None

    def deferred(self, box: Box) -> da.Array | None:
        """Return the values of a box as a dask array for a cluster to compute; None where tasks read them."""
        return None

    def with_values(self, block: Block | None) -> Base:
        """Return the base of a task that gets the values of `deferred`, or of all tasks (None)."""
        return self

    @property
    def presences(self) -> tuple[Presence, ...]:
        """The stored arrays that are read, which could go while they are."""
        return ()

    def missed(self) -> tuple[object, ...]:
        """Return what differs after chunks were found missing, and wherever that is not known."""
        return tuple(presence.missed for presence in self.presences)


@dataclass(frozen=True)
class StoredBase(Base):
    """A base that is a zarr array."""

    access: Access
    """The array."""

    @classmethod
    def of(cls, array: zarr.Array[Any], *, is_resizing: bool = False) -> StoredBase:
        """Return an array as a base; `is_resizing` is set where it is about to get another size."""
        return cls(Access.of(array, is_resizing=is_resizing))

    def read(self, box: Box) -> Block:
        """Return the values of a box; their memory belongs to this thread's next read."""
        return self.access.read(box)

    def tiles(self, box: Box, unit: Sequence[int] | None) -> Iterator[tuple[Box, Block | None]]:
        """Yield a box in tiles of whole chunks, or as one tile."""
        if unit is not None:
            yield from self.access.tiles(box, unit)
            return
        block = self.access.read(box)
        yield box, None if self.access.is_fill(block) else block

    @property
    def fill(self) -> Any:
        """Value of chunks that are not stored."""
        return self.access.fill

    @property
    def is_tiled(self) -> bool:
        """Whether chunks are read one by one."""
        return self.access.chunks is not None

    def is_blank(self, box: Box) -> bool:
        """Whether it is known that no chunk of a box is stored."""
        return self.access.is_blank(box)

    def chunks_for(self, level: Access) -> Access | None:
        """Return the array if its grid, codecs and fill value are those of a level."""
        return self.access if level.copies_from(self.access) else None

    def stamps(self) -> Stamps | None:
        """Return the stamps of the stored chunks."""
        return stamps_of_array(self.access.array)

    @property
    def presences(self) -> tuple[Presence, ...]:
        """The array."""
        return (self.access.presence,)


@dataclass(frozen=True)
class ArrayBase(Base):
    """A base that is sliced: a numpy array, or a zarr array in another order of axes."""

    data: Any
    """The array."""
    order: tuple[int, ...]
    """The order in which its axes are written."""

    def read(self, box: Box) -> Block:
        """Return the values of a box, in the order of writing."""
        return np.asarray(self._sliced(box)).transpose(self.order)

    def stamps(self) -> Stamps | None:
        """Return the stamps of stored chunks, or of the file that memory is mapped to; else those of the values."""
        if isinstance(self.data, zarr.Array):
            found = stamps_of_array(self.data)
            return None if found is None else replace(found, of_box=lambda box: found.of_box(self._in_own_order(box)))
        if not isinstance(self.data, np.ndarray):
            return None
        file = mapped_file(self.data)
        return Stamps(self._stamp_of_values, ANY_TIME) if file is None else stamps_of_file(file)

    def _stamp_of_values(self, box: Box) -> int:
        # numba, which compiles it, takes a while to import.
        from ..methods.kernels.stamps import stamp_of_values

        return stamp_of_values(self._sliced(box)) or 1

    def _in_own_order(self, box: Box) -> Box:
        own = dict(zip(self.order, box, strict=True))
        return tuple(own[axis] for axis in range(len(box)))

    def _sliced(self, box: Box) -> Any:
        return self.data[self._in_own_order(box)]

    @cached_property
    def _arrays(self) -> tuple[zarr.Array[Any], ...]:
        return tuple(zarr_arrays(self.data))

    @cached_property
    def presences(self) -> tuple[Presence, ...]:
        """The zarr arrays that the array is, or is computed from."""
        return tuple(map(Presence.of, self._arrays))

    def missed(self) -> tuple[object, ...]:
        """Return what differs after chunks were found missing; arrays that others opened do not tell."""
        told = (isinstance(array, WatchedArray) for array in self._arrays)
        return tuple(each.missed if tells else object() for each, tells in zip(self.presences, told, strict=True))


@dataclass(frozen=True)
class DaskBase(ArrayBase):
    """A base that is computed: a dask array."""

    def read(self, box: Box) -> Block:
        """Compute the values of a box, in the order of writing."""
        # In the worker's own thread: regions run side by side already. What a cluster holds, only it computes.
        block = self._sliced(box).compute(scheduler=None if active_client() else get_sync)
        return np.asarray(block).transpose(self.order)

    def stamps(self) -> Stamps | None:
        """Return the stamps of what the array is computed from."""
        return stamps_of_graph(self.data)

    def deferred(self, box: Box) -> da.Array:
        """Return the values of a box, in the order of writing."""
        return cast("da.Array", self._sliced(box).transpose(self.order))

    def with_values(self, block: Block | None) -> Base:
        """Return the base of a task that gets these values."""
        return SentBase(block)


@dataclass(frozen=True)
class SentBase(Base):
    """A base whose values the cluster sends with each task."""

    block: Block | None
    """The values of the task's box; None outside of a task."""

    def read(self, box: Box) -> Block:
        """Return the box that was sent."""
        return np.asarray(self.block)

    def with_values(self, block: Block | None) -> Base:
        """Return the base of another task."""
        return SentBase(block)


@dataclass(frozen=True)
class AppendedBase(Base):
    """A stored base to which another is appended along an axis."""

    stored: Base
    """The stored base."""
    appended: Base
    """The base that is appended."""
    axis: int
    """The axis."""
    start: int
    """Size of the stored base along the axis."""

    def read(self, box: Box) -> Block:
        """Return the values of a box, which may be part of both bases."""
        before, after = self._split(box[self.axis])
        blocks = []
        if before.stop > before.start:
            blocks.append(self.stored.read(replaced(box, self.axis, before)))
        if after.stop > after.start:
            # The next read may reuse the memory of the first block.
            blocks = [block.copy() for block in blocks]
            blocks.append(self.appended.read(replaced(box, self.axis, after)))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, self.axis)

    def stamps(self) -> Stamps | None:
        """Return the stamps of what is appended; what is stored already is changed by the build itself."""
        found = self.appended.stamps()
        return None if found is None else replace(found, of_box=lambda box: self._stamp_of_appended(found, box))

    def _stamp_of_appended(self, appended: Stamps, box: Box) -> int:
        _, after = self._split(box[self.axis])
        return appended.of_box(replaced(box, self.axis, after)) if after.stop > after.start else 1

    @property
    def presences(self) -> tuple[Presence, ...]:
        """The stored arrays of both."""
        return self.stored.presences + self.appended.presences

    def missed(self) -> tuple[object, ...]:
        """Return what differs after chunks of either were found missing."""
        return self.stored.missed() + self.appended.missed()

    def _split(self, along: slice) -> tuple[slice, slice]:
        after = slice(max(along.start - self.start, 0), along.stop - self.start)
        return slice(along.start, min(along.stop, self.start)), after


@dataclass(frozen=True)
class CastBase(Base):
    """A base whose values are converted to another dtype; values out of its range are an error."""

    base: Base
    """The base before the conversion."""
    dtype: np.dtype[Any]
    """The dtype to convert to."""
    dims: tuple[str, ...]
    """Names of the axes, in the order of writing."""

    def read(self, box: Box) -> Block:
        """Return the values of a box."""
        return self._cast(box, self.base.read(box))

    def tiles(self, box: Box, unit: Sequence[int] | None) -> Iterator[tuple[Box, Block]]:
        """Yield a box in the tiles in which it is read."""
        for tile, block in self.base.tiles(box, unit):
            yield tile, self._cast(tile, filled(self.base, tile) if block is None else block)

    def stamps(self) -> Stamps | None:
        """Return the stamps of the base before the conversion."""
        return self.base.stamps()

    def deferred(self, box: Box) -> da.Array | None:
        """Return the values of a box before they are cast."""
        return self.base.deferred(box)

    def with_values(self, block: Block | None) -> Base:
        """Return the base of a task, which casts its values."""
        return replace(self, base=self.base.with_values(block))

    @property
    def presences(self) -> tuple[Presence, ...]:
        """The stored arrays that are read."""
        return self.base.presences

    def missed(self) -> tuple[object, ...]:
        """Return what differs after chunks were found missing."""
        return self.base.missed()

    def _cast(self, box: Box, block: Block) -> Block:
        return cast_block(block, self.dtype, corner_of(box), self.dims)


@dataclass(frozen=True)
class PackedBase(CastBase):
    """A base whose values are packed as they are read; values that do not fit are an error."""

    packing: Packing
    """How they are packed."""

    def _cast(self, box: Box, block: Block) -> Block:
        return self.packing.encoded_block(block)


@dataclass(frozen=True)
class Weights:
    """The weights of the voxels of level 0."""

    data: Any
    """The array, in the order of writing, with size 1 along axes that the weights do not have."""

    def read(self, box: Box) -> Block:
        """Return the weights of a box of level 0."""
        return self.base.read(self._own_box(box))

    def stamps(self) -> Stamps | None:
        """Return the stamps of the weights, by boxes of level 0."""
        found = self.base.stamps()
        return None if found is None else replace(found, of_box=lambda box: found.of_box(self._own_box(box)))

    @cached_property
    def base(self) -> Base:
        """The array as it is read."""
        return _sliced_base(self.data, tuple(range(self.data.ndim)))

    def _own_box(self, box: Box) -> Box:
        return tuple(along if n > 1 else slice(0, 1) for along, n in zip(box, self.data.shape, strict=True))


def mapped_file(array: np.ndarray[Any, Any]) -> str | None:
    """Return the file that an array's memory is mapped to, None if it is in memory alone."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.filename is not None:
            return os.fspath(array.filename)
        array = cast("Any", array.base)
    return None


def base_of(image: xr.DataArray, order: tuple[int, ...], dtype: np.dtype[Any]) -> Base:
    """Return the base of an image, with its axes in another order and its values in another dtype."""
    data = unread(image)
    source = source_array(data)
    base = _sliced_base(data if source is None else source, order)
    if source is not None and order == tuple(range(image.ndim)):
        base = StoredBase.of(source)
    return base if dtype == image.dtype else CastBase(base, dtype, tuple(str(image.dims[axis]) for axis in order))


def _sliced_base(data: Any, order: tuple[int, ...]) -> Base:
    if isinstance(data, da.Array):
        return DaskBase(data, order)
    return ArrayBase(watched(data) if isinstance(data, zarr.Array) else data, order)


def filled(base: Base, tile: Box) -> Block:
    """Return a tile that is all fill."""
    return np.full(shape_of(tile), base.fill)
