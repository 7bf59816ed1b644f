"""Chunks of local arrays read and written directly, without zarr's event loop.

zarr-python reads and writes through an asynchronous pipeline, which serves remote stores well and costs more than
the decompression of a chunk on a local disk. `Chunks` does the same for the plain case, chunks of a regular grid
with one of the common codecs in a folder: it decodes into a buffer of the caller's, encodes from one, and copies
encoded chunks as they are. Whatever is not plain (`Chunks.of` returns None) goes through zarr.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from typing import Any, cast

import numcodecs
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.abc import Codec
from zstandard import ZstdCompressor

from ..image.boxes import (
    Block,
    Box,
    Index,
    cell_at,
    coarsened,
    corner_of,
    grid_shape,
    indices_of,
    overlap,
    pieces,
    pieces_by_index,
    shape_of,
    whole_box,
    within,
)
from .codecs import plain_compressors
from .limits import DAMAGE, decode_into, limited_array, most_encoded, said_of
from .local_files import folder_of, patiently
from .names import PARTIAL_ENDING
from .nodes import storage_unit
from .presence import Presence
from .remote import retried_array, unread_array
from .zarr_internals import chunk_key, sync

_buffers: dict[tuple[int, str], npt.NDArray[np.uint8]] = {}
_compressors: dict[tuple[int, int, bool], ZstdCompressor] = {}


def buffer(purpose: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Block:
    """Return an array of this thread's that is used again for the same purpose: new memory costs page faults."""
    wanted = math.prod(shape) * dtype.itemsize
    key = threading.get_ident(), purpose
    held = _buffers.get(key)
    if held is None or held.nbytes < wanted:
        held = _buffers[key] = np.empty(wanted, np.uint8)
    return held[:wanted].view(dtype).reshape(tuple(shape))


def _zstd_compressor(level: int, checksum: bool) -> ZstdCompressor:
    """Return a compressor of this thread's: numcodecs makes one for every chunk, which costs a third of the speed."""
    key = threading.get_ident(), level, checksum
    found = _compressors.get(key)
    if found is None:
        found = _compressors[key] = ZstdCompressor(level, write_checksum=checksum)
    return found


def release_buffers() -> None:
    """Give back the buffers of all threads when a build ends; one that is at work keeps what it uses."""
    _buffers.clear()
    _compressors.clear()


@dataclass(frozen=True)
class Chunks:
    """The chunks of one array in a local folder."""

    folder: str
    """Where the array is."""
    array: zarr.Array[Any]
    """The array."""
    codec: Codec | None
    """The compressor, None without."""
    fill: Any
    """Value of chunks that are not stored, of the array's dtype; None if every chunk is."""
    shape: tuple[int, ...]
    """Shape of a chunk."""
    in_use: bool
    """Whether others may read the array while it is written: then a chunk is replaced whole, in one step."""

    @classmethod
    def of(cls, array: zarr.Array[Any], *, in_use: bool = False) -> Chunks | None:
        """Return direct access to an array's chunks, or None if it is not plain and local."""
        folder = folder_of(array.store_path)
        if folder is None or not array.dtype.isnative or array.dtype.kind not in "biuf":
            return None
        compressors = plain_compressors(array)
        if compressors is None or len(compressors) > 1:
            return None
        fill = None if array.fill_value is None else array.dtype.type(array.fill_value)
        return cls(folder, array, compressors[0] if compressors else None, fill, array.chunks, in_use)

    def path(self, index: Index) -> str:
        """Return the file of a chunk."""
        return f"{self.folder}/{chunk_key(self.array, index)}"

    def grid(self, box: Box) -> Iterator[Index]:
        """Yield the chunks that a box touches."""
        return indices_of(coarsened(box, self.shape))

    def span(self, index: Index) -> Box:
        """Return the box of the array that a chunk holds."""
        return cell_at(index, self.shape, self.array.shape)

    def is_stored(self, index: Index) -> bool:
        """Whether a chunk is stored; one that is not is all fill."""
        return os.path.exists(self.path(index))

    def read(self, index: Index, out: Block) -> bool:
        """Decode a chunk into `out`, of a chunk's shape; return False, and leave `out`, if it is not stored."""
        encoded = self._stored(index)
        if encoded is None:
            return False
        self._decode(encoded, out.reshape(-1).view(np.uint8), index)
        return True

    def _stored(self, index: Index) -> Block | None:
        """Return the bytes of a chunk as they are stored, in memory of this thread's next chunk; None without any."""
        try:
            # Unbuffered: a buffer of Python's own takes longer to make than a chunk to read.
            with open(self.path(index), "rb", buffering=0) as file:
                stored = os.fstat(file.fileno()).st_size
                if stored > most_encoded(math.prod(self.shape) * self.array.dtype.itemsize):
                    raise ValueError(f"the chunk {self.path(index)!r} is damaged: it has {stored} bytes")
                encoded = buffer("encoded", (stored,), np.dtype(np.uint8))
                size = 0
                while read := file.readinto(memoryview(cast("Any", encoded[size:]))):
                    size += read
                return encoded[:size]
        except FileNotFoundError:
            return None

    def _decode(self, encoded: Block, out: Block, index: Index) -> None:
        try:
            decode_into(self.codec, encoded, out)
        except DAMAGE as error:
            raise ValueError(f"the chunk {self.path(index)!r} is damaged: {said_of(error)}") from error

    def write(self, index: Index, block: Block) -> None:
        """Encode a chunk, or remove one that is all fill; a block at the array's edge is filled up to a whole chunk."""
        if self.fill is not None and _is_constant(block, self.fill):
            with suppress(FileNotFoundError):
                patiently(os.unlink, self.path(index))
            return
        if block.shape != self.shape:
            whole = buffer("whole", self.shape, self.array.dtype)
            whole[...] = 0 if self.fill is None else self.fill
            whole[whole_box(block.shape)] = block
            block = whole
        block = np.ascontiguousarray(block, dtype=self.array.dtype)
        self._store(index, self._encode(block.reshape(-1)))

    def _encode(self, values: Block) -> Any:
        if self.codec is not None and not isinstance(self.codec, numcodecs.Zstd):
            # As values, not bytes: Blosc sorts bytes by their place in a sample.
            return self.codec.encode(values)
        plain = values.view(np.uint8)
        if self.codec is None:
            return plain
        return _zstd_compressor(self.codec.level, self.codec.checksum).compress(memoryview(cast("Any", plain)))

    def copy(self, index: Index, target: Chunks, *, decoded: bool) -> bool:
        """Copy a chunk as it is stored into another array of the same grid and codecs, with `decoded` only a sound one.

        Returns whether it is stored.

        Raises
        ------
        ValueError
            If it was to be decoded, and is damaged.
        """
        encoded = self._stored(index)
        if encoded is None:
            return False
        if decoded:
            self._decode(encoded, buffer("chunk", self.shape, self.array.dtype).reshape(-1).view(np.uint8), index)
        target._store(index, encoded)
        return True

    def _store(self, index: Index, encoded: Any) -> None:
        path = self.path(index)
        written = f"{path}{PARTIAL_ENDING}" if self.in_use else path
        try:
            with _new_file(written) as file:
                rest = memoryview(encoded)
                while rest:
                    rest = rest[file.write(rest) :]
            if self.in_use:
                patiently(os.replace, written, path)
        except OSError as error:
            # A write that fails names no file by itself, as opening one does.
            raise OSError(error.errno, error.strerror, path) from error


def _new_file(path: str) -> FileIO:
    """Open a file for writing, unbuffered, in a folder that there mostly is: asking for it takes as long as opening."""
    try:
        return open(path, "wb", buffering=0)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "wb", buffering=0)


@dataclass(frozen=True)
class Access:
    """Reading and writing boxes of an array, chunk by chunk where that is possible, else through zarr."""

    array: zarr.Array[Any]
    """The array."""
    chunks: Chunks | None
    """Direct access, where the array is plain and local."""
    presence: Presence
    """Whether the array is still the one that was opened, which is asked when chunks are missing."""
    in_use: bool = False
    """Whether the array has values already, of which a part is written, while others read them."""

    @classmethod
    def of(cls, array: zarr.Array[Any], *, in_use: bool = False, is_resizing: bool = False) -> Access:
        """Return access to an array by the best way there is; of one `in_use` others may read while it is written.

        `is_resizing` is set where its size is changed, and the document does not state the new size yet.
        """
        presence = Presence(array, is_resizing=True) if in_use or is_resizing else Presence.of(array)
        return cls(limited_array(retried_array(array)), Chunks.of(array, in_use=in_use), presence, in_use)

    def read(self, box: Box) -> Block:
        """Return the values of a box; their memory belongs to this thread's next read.

        Raises
        ------
        OSError
            If chunks are missing, and the array is gone or another one.
        """
        before = self.presence.missed
        block = np.asarray(self._noted[box]) if self.chunks is None else self._read(box)[0]
        self._confirm(before)
        return block

    def _confirm(self, before: object) -> None:
        """Raise if chunks were found missing since `before`, and the array is gone or another one."""
        if self.presence.missed is not before:
            self.presence.confirm()

    @cached_property
    def _noted(self) -> zarr.Array[Any]:
        return self.presence.noted()

    def _read(self, box: Box) -> tuple[Block, bool]:
        """Return the values of a box, and whether any chunk of it is stored."""
        block = buffer("block", shape_of(box), self.array.dtype)
        stored = [self._read_part(index, box, block) for index in cast("Chunks", self.chunks).grid(box)]
        return block, any(stored)

    def _read_part(self, index: Index, box: Box, block: Block) -> bool:
        """Read what a box has of a chunk into its place; return whether the chunk is stored."""
        chunks = cast("Chunks", self.chunks)
        span = chunks.span(index)
        is_one_chunk = block.shape == chunks.shape and corner_of(box) == corner_of(span)
        if is_one_chunk and chunks.read(index, block):
            return True
        inside = overlap(span, box)
        part = block[within(inside, box)]
        chunk = buffer("chunk", chunks.shape, self.array.dtype)
        if chunks.read(index, chunk):
            part[...] = chunk[within(inside, span)]
            return True
        part[...] = 0 if chunks.fill is None else chunks.fill
        self.presence.miss()
        return False

    @property
    def fill(self) -> Any:
        """Value of what is not stored, of the array's dtype."""
        return self.array.dtype.type(0 if self.array.fill_value is None else self.array.fill_value)

    def is_fill(self, block: Block) -> bool:
        """Whether a block holds nothing but the fill value."""
        return _is_constant(block, self.fill)

    def is_blank(self, box: Box) -> bool:
        """Whether it is known, without reading, that nothing is stored in a box."""
        if self.chunks is None or any(map(self.chunks.is_stored, self.chunks.grid(box))):
            return False
        self.presence.miss()
        self.presence.confirm()
        return True

    def tiles(self, box: Box, unit: Sequence[int]) -> Iterator[tuple[Box, Block | None]]:
        """Yield a box in tiles of whole units of samples that stay in cache; a tile's memory is used for the next.

        Tiles are whole chunks where the units, windows as a rule, fit them, else as many chunks as they need. A tile
        that is all fill is None.
        """
        whole = [math.lcm(n, length) for n, length in zip(self.array.chunks, unit, strict=True)]
        if self.chunks is None or any(start % n for start, n in zip(corner_of(box), whole, strict=True)):
            block = self.read(box)
            yield box, None if self.is_fill(block) else block
            return
        before = self.presence.missed
        for tile in pieces(box, whole):
            block, is_stored = self._read(tile)
            yield tile, block if is_stored else None
        self._confirm(before)

    def write(self, box: Box, block: Block) -> bool:
        """Write a box; of chunks that it does not cover, the rest stays as it is.

        Returns whether it is known that all of its chunks are stored, and were not before.
        """
        if self.chunks is None and self.in_use:
            self.array[box] = block
            return False
        if self.chunks is None:
            filled = [self.is_fill(block[within(piece, box)]) for piece in pieces(box, self.unit)]
            if not all(filled):
                self._written[box] = block
            return not any(filled)
        for index, inside in pieces_by_index(box, self.chunks.shape):
            span = self.chunks.span(index)
            part = block[within(inside, box)]
            self.chunks.write(index, part if inside == span else self._patched(index, span, inside, part))
        return False

    def _patched(self, index: Index, span: Box, inside: Box, part: Block) -> Block:
        """Return what a chunk holds, with a part of it changed."""
        held = buffer("patched", shape_of(span), self.array.dtype)
        self._read_part(index, span, held)
        held[within(inside, span)] = part
        return held

    @cached_property
    def _written(self) -> zarr.Array[Any]:
        return unread_array(self.array)

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of what is stored as one value: a shard, or a chunk."""
        return storage_unit(self.array)

    def stored(self) -> npt.NDArray[np.bool_]:
        """Return of every chunk or shard whether it is stored, by listing them."""
        there = np.zeros(grid_shape(self.array.shape, self.unit), np.bool_)
        first = chunk_key(self.array, (0,) * there.ndim)
        # "c/0/0/0" in zarr v3, "0/0/0" in zarr v2.
        lead = first[: len(first) - 2 * there.ndim + 1]
        for key in sync(self._keys()):
            index = key.removeprefix(lead).split("/")
            if key.startswith(lead) and len(index) == there.ndim and all(map(str.isdigit, index)):
                there[tuple(map(int, index))] = True
        return there

    async def _keys(self) -> list[str]:
        place = self.array.store_path
        below = f"{place.path}/" if place.path else ""
        return [key.removeprefix(below) async for key in place.store.list_prefix(below)]

    def holds(self, stored: npt.NDArray[np.bool_], box: Box) -> bool:
        """Whether all chunks or shards of a box are among those that are stored."""
        return bool(stored[coarsened(box, self.unit)].all())

    def copies_from(self, source: Access) -> bool:
        """Whether the chunks of `source` are, byte for byte, those that this array would get."""
        ours, theirs = self.chunks, source.chunks
        if ours is None or theirs is None or self.array.dtype != source.array.dtype:
            return False
        codecs_equal = ours.codec == theirs.codec
        return codecs_equal and ours.shape == theirs.shape and _same_bits(ours.fill, theirs.fill)

    def copy(self, source: Access, box: Box, *, decoded: bool) -> None:
        """Copy the chunks of a box as they are stored; with `decoded`, each is decoded first, so that it is sound."""
        ours, theirs = cast("Chunks", self.chunks), cast("Chunks", source.chunks)
        before = source.presence.missed
        for index in ours.grid(box):
            if not theirs.copy(index, ours, decoded=decoded):
                source.presence.miss()
        source._confirm(before)


def _same_bits(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(a.tobytes() == b.tobytes())


def _is_constant(block: Block, value: Any) -> bool:
    """Whether every voxel is `value`, bit for bit: -0.0 is not 0.0, and NaN is NaN."""
    if block.dtype.kind == "c":
        return _is_constant(block.real, value.real) and _is_constant(block.imag, value.imag)
    bits = np.dtype(f"u{block.dtype.itemsize}")
    expected = np.asarray(value, block.dtype).view(bits)[()]
    if block[(0,) * block.ndim].view(bits) != expected or block[(-1,) * block.ndim].view(bits) != expected:
        return False
    return bool((block.view(bits) == expected).all())
