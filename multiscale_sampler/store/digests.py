"""Digests of the stored chunks of a base, by which later edits are found.

They are written on request, beside the levels, in an array with one entry for each chunk, or shard. A digest is taken
of the stored bytes, so comparing a base with its digests decodes nothing; a chunk that was encoded again counts as
edited, even if its values are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr

from ..image.boxes import (
    Box,
    Index,
    box_of_ends,
    coarsened,
    corner_of,
    grid_shape,
    hull,
    indices_of,
    pieces,
    pieces_by_index,
    refined,
    shape_of,
    whole_box,
)
from .layout import DIGESTS, DIGESTS_PATH
from .names import V2_DIMENSIONS
from .nodes import dimension_names, storage_unit
from .presence import Presence
from .zarr_internals import chunk_key, default_buffer_prototype, node_at, sync

# Bytes of a digest (BLAKE2b): one in 2**64 edits of a chunk would be missed.
DIGEST_BYTES = 8
# Digests of one task, at most: each is a chunk to read.
BLOCK = 256


@dataclass(frozen=True)
class Digests:
    """The digests of a base."""

    array: zarr.Array[Any]
    """An element for each chunk; 0 for those that are not stored."""
    base: zarr.Array[Any]
    """The base."""

    @cached_property
    def presence(self) -> Presence:
        """Whether the base is still the one that was opened; it may be about to get another size."""
        return Presence(self.base, is_resizing=True)

    @classmethod
    def create(cls, group: zarr.Group, base: zarr.Array[Any]) -> Digests:
        """Create the array of a base's digests in the group of its pyramid, or open that of an interrupted build."""
        if (begun := cls.of(group, base)) is not None:
            return begun
        group.require_group(DIGESTS)
        names = dimension_names(base) or tuple(f"dim_{axis}" for axis in range(base.ndim))
        v2 = group.metadata.zarr_format == 2
        array = group.create_array(
            DIGESTS_PATH,
            shape=_grid(base),
            chunks=(max(int(BLOCK ** (1 / base.ndim)), 1),) * base.ndim,
            dtype="uint64",
            fill_value=0,
            dimension_names=None if v2 else names,
            attributes={V2_DIMENSIONS: list(names)} if v2 else {},
        )
        return cls(array, base)

    @classmethod
    def of(cls, group: zarr.Group, base: zarr.Array[Any]) -> Digests | None:
        """Open the digests in the group of a pyramid; None if it has none."""
        array = node_at(group, DIGESTS_PATH)
        return cls(array, base) if isinstance(array, zarr.Array) else None

    def grown(self) -> Digests:
        """Return the digests with the size that the base has now."""
        if self.array.shape != _grid(self.base):
            self.array.resize(_grid(self.base))
        return self

    def blocks(self, boxes: Iterable[Box] | None = None) -> Iterator[Box]:
        """Yield the blocks of digests that are taken at once: of all chunks, or of those that boxes of the base touch.

        Each lies in a chunk of digests of its own, so that blocks can be taken side by side.
        """
        if boxes is None:
            yield from pieces(whole_box(self.array.shape), self.array.chunks)
            return
        found: dict[Index, Box] = {}
        for box in boxes:
            for index, block in pieces_by_index(coarsened(box, storage_unit(self.base)), self.array.chunks):
                found[index] = hull(found.get(index, block), block)
        yield from found.values()

    def take(self, block: Box) -> None:
        """Store the digests of a block's chunks as they are now."""
        self.array[block] = self._now(block)

    def edited(self, block: Box) -> Iterator[Box]:
        """Yield the boxes of the base, in a block, whose chunks are not those that digests were taken of."""
        differs = self._now(block) != np.asarray(self.array[block])
        *corner, low = corner_of(block)
        for *row, (start, stop) in _runs(differs):
            above = [(at + i, at + i + 1) for at, i in zip(corner, row, strict=True)]
            chunks = box_of_ends([*above, (low + start, low + stop)])
            yield refined(chunks, storage_unit(self.base), self.base.shape)

    def _now(self, block: Box) -> np.ndarray[Any, np.dtype[np.uint64]]:
        found = np.fromiter(map(self._digest, indices_of(block)), np.uint64)
        if not found.all():
            self.presence.confirm()
        return found.reshape(shape_of(block))

    def _digest(self, index: Index) -> int:
        place = self.base.store_path / chunk_key(self.base, index)
        stored = sync(place.get(prototype=default_buffer_prototype()))
        if stored is None:
            return 0
        return int.from_bytes(hashlib.blake2b(stored.to_bytes(), digest_size=DIGEST_BYTES).digest(), "little")


def _grid(array: zarr.Array[Any]) -> tuple[int, ...]:
    return grid_shape(array.shape, storage_unit(array))


def _runs(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterable[tuple[Any, ...]]:
    """Yield the runs of true elements along the last axis: the index of each run's row, and its ends."""
    for row in np.ndindex(mask.shape[:-1]):
        ends = np.flatnonzero(np.diff(mask[row].astype(np.int8), prepend=0, append=0))
        for start, stop in ends.reshape(-1, 2):
            yield (*row, (int(start), int(stop)))
