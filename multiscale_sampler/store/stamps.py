"""Stamps: what shows, without reading them, that stored values have been replaced.

A file has its size and the time of its last change; an object its ETag, or what else a listing of its store tells.
Where that is the same as before, so are the values. Where it is not, they need not have changed: copying a file gives
it another time.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dask.array as da
import numpy as np
import zarr
from zarr.abc.store import Store

from ..files.arrays import FileArray
from ..image.boxes import Box, coarsened, grid_shape, indices_of, whole_box
from ..tasks.dask_internals import is_plain_view
from .names import ARRAY_DOCUMENTS
from .nodes import storage_unit
from .origins import stored_sources
from .remote import OBJECT_PROTOCOLS, RetryingStore, protocol_of
from .zarr_internals import bytes_in_memory, chunk_key, sync, unwrapped

# Of arrays in more chunks or shards nothing is known: listing them takes two thousand requests, or seconds of a disk.
MOST_CHUNKS = 2**21
STAMP_BYTES = 8
# An odd factor, by which times that differ little give numbers that differ much.
SPREAD = 0x9E3779B97F4A7C15
# What listings of stores call the identity of an object's content, and the time of its last change.
ETAGS = ("ETag", "e_tag", "etag", "md5Hash", "content_md5")
TIMES_OF_OBJECTS = ("LastModified", "last_modified", "updated", "created")
# Of stores that do not tell when something was written.
ANY_TIME = float("inf")


@dataclass(frozen=True)
class Stamp:
    """What is known of one stored value."""

    number: int
    """Another one as soon as the value is replaced; never 0."""
    written: float
    """When it was written, in seconds since the epoch."""


@dataclass(frozen=True)
class Stamps:
    """What shows that values of an array have been replaced."""

    of_box: Callable[[Box], int]
    """Returns a number for a box, another one as soon as any value in it is replaced; never 0."""
    newest: float
    """When the newest value was written, in seconds since the epoch; infinity if it is not known."""
    are_proof: bool = True
    """Whether equal numbers mean equal values; else only different numbers mean something."""


def stamps_of_array(array: zarr.Array[Any]) -> Stamps | None:
    """Return the stamps of the chunks or shards of an array; None if its store does not tell any."""
    unit = storage_unit(array)
    grid = grid_shape(array.shape, unit)
    stamp_of_key = _stamps_by_key(array) if math.prod(grid) <= MOST_CHUNKS else None
    if stamp_of_key is None:
        return None
    numbers, newest = np.zeros(grid, np.uint64), 0.0
    for index in indices_of(whole_box(grid)):
        if (stamp := stamp_of_key(chunk_key(array, index))) is not None:
            numbers[index] = stamp.number
            newest = max(newest, stamp.written)
    return Stamps(lambda box: _number_of(numbers[coarsened(box, unit)].tobytes()), newest)


def time_of_array(array: zarr.Array[Any]) -> float:
    """Return when the document of an array was written, in seconds since the epoch; 0 if it is not known."""
    document = ARRAY_DOCUMENTS[array.metadata.zarr_format]
    stamp_of_key = _stamps_by_key(array, document)
    stamp = stamp_of_key(document) if stamp_of_key is not None else None
    return 0.0 if stamp is None or stamp.written == ANY_TIME else stamp.written


def stamps_of_file(path: str | os.PathLike[str]) -> Stamps | None:
    """Return the stamps of values in one file, the same for all boxes; None if there is no such file."""
    stamp = _stamp_of_file(path)
    return None if stamp is None else Stamps(lambda box: stamp.number, stamp.written)


def stamps_of_graph(data: da.Array) -> Stamps:
    """Return the stamps of what a dask array is computed from, the same for all boxes.

    They are those of the stored arrays and files in its graph; without any, the name that dask gave it. Only of an
    array that is a file's, with nothing done to its values, are they proof.
    """
    sources = list(stored_sources(data))
    if not sources:
        return _of_all_boxes([Stamp(_number_of(str(data.name).encode()), 0.0)], are_proof=False)
    stamps = [_stamp_of_source(source) for source in sources]
    is_one_file = len(sources) == 1 and isinstance(sources[0], FileArray) and is_plain_view(data)
    known = [stamp for stamp in stamps if stamp is not None]
    return _of_all_boxes(known, are_proof=is_one_file and len(known) == 1)


def stamps_of_all(parts: Sequence[Stamps | None]) -> Stamps | None:
    """Return the stamps of values that are read side by side; None if those of any part are not known."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Stamps(
        lambda box: _number_of(repr([part.of_box(box) for part in known]).encode()),
        max(part.newest for part in known),
        all(part.are_proof for part in known),
    )


def _of_all_boxes(stamps: Sequence[Stamp], *, are_proof: bool) -> Stamps:
    number = _number_of(repr([stamp.number for stamp in stamps]).encode())
    return Stamps(lambda box: number, max((stamp.written for stamp in stamps), default=ANY_TIME), are_proof)


def _stamp_of_source(source: zarr.Array[Any] | FileArray) -> Stamp | None:
    """Return the stamp of all values of a stored array."""
    if isinstance(source, FileArray):
        return _stamp_of_file(source.path)
    stamps = stamps_of_array(source)
    return None if stamps is None else Stamp(stamps.of_box(whole_box(source.shape)), stamps.newest)


def _stamps_by_key(array: zarr.Array[Any], only: str = "") -> Callable[[str], Stamp | None] | None:
    """Return a function of a key below an array, or of the `only` one; None if the store does not tell any stamps."""
    store, path = unwrapped(array.store_path.store), array.path
    if isinstance(store, zarr.storage.ZipStore):
        stamp = _stamp_of_file(store.path)
        return lambda key: stamp
    if isinstance(store, zarr.storage.MemoryStore):
        return lambda key: _stamp_of_bytes(bytes_in_memory(store, f"{path}/{key}" if path else key))
    if (folder := _folder_of(store)) is not None:
        below = os.path.join(folder, path)
        return lambda key: _stamp_of_file(f"{below}/{key}")
    is_fsspec = isinstance(store, zarr.storage.FsspecStore) and protocol_of(store) in OBJECT_PROTOCOLS
    if not is_fsspec and not isinstance(store, zarr.storage.ObjectStore):
        return None
    try:
        found = sync(RetryingStore(store).told_of_objects(path, only))
    except Exception:
        # Of whatever library it is. Who may read need not be allowed to list.
        return None
    return lambda key: _stamp_of_object(found.get(key))


def _folder_of(store: Store) -> str | None:
    """Return the folder that a store keeps its values in, None if it is none of this machine."""
    if isinstance(store, zarr.storage.LocalStore):
        return str(store.root)
    if isinstance(store, zarr.storage.FsspecStore) and protocol_of(store) == "file":
        return store.path
    return None


def _stamp_of_file(path: str | os.PathLike[str]) -> Stamp | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    # Not by a cryptographic hash, which would take longer than asking for the file.
    return Stamp((status.st_mtime_ns * SPREAD + status.st_size) % 2**64 or 1, status.st_mtime)


def _stamp_of_bytes(content: bytes | None) -> Stamp | None:
    return None if content is None else Stamp(_number_of(content), ANY_TIME)


def _stamp_of_object(told: Mapping[str, Any] | None) -> Stamp | None:
    """Return the stamp of an object by what a listing told of it, in the words of any library."""
    if told is None:
        return None
    times = [told[name] for name in TIMES_OF_OBJECTS if told.get(name) is not None]
    etags = [told[name] for name in ETAGS if told.get(name) is not None]
    written = _seconds(times[0]) if times else ANY_TIME
    return Stamp(_number_of(repr((told.get("size"), etags or times)).encode()), written)


def _seconds(time: Any) -> float:
    """Return a time, as one of several libraries tells it, in seconds since the epoch."""
    if isinstance(time, datetime):
        return time.timestamp()
    return float(time) if isinstance(time, int | float) else ANY_TIME


def _number_of(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=STAMP_BYTES).digest(), "little") or 1
