"""Whether a stored array is still the one that was opened, and whether its chunks lie under its keys.

A chunk that is not stored reads as fill, and so does every chunk of an array that has been unmounted, renamed or
deleted since it was opened. So whoever finds chunks missing looks at the array's document again before their values
are used: once for all chunks that were found missing until then, not once for each.

A build looks once more at the end of each pass. Where it finds the source gone, it records the regions that found
chunks missing as unsure, or all that it built where the source is another one, and builds them again when it is
resumed. Where looking costs nothing, as in a folder, it also looks before a region counts as finished, in case the
process does not live to the end of the pass. Where it is a request, it does so at most once a second, so that only a
process that is killed within a second after the end of its source can leave a region that was read from nothing.

What cannot be seen: chunks that are deleted one by one from an array that keeps its document and the chunk that is
looked at as a sample, and an array that is replaced by another one with the same document.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.storage import StorePath, WrapperStore

from ..image.boxes import grid_shape
from .limits import limited_array
from .local_files import folder_of
from .names import ARRAY_DOCUMENTS, DOCUMENTS
from .remote import is_remote, lists_at_once, some_keys, without_memory
from .zarr_internals import chunk_key, default_buffer_prototype, inner_array, remade_array, stated_of_array, sync

# Of an array's document, what does not change how its chunks are read.
DESCRIPTIVE = ("attributes", "dimension_names", "consolidated_metadata")
# Files of operating systems, which nobody took for chunks.
FOREIGN_NAMES = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|\.nfs.*")
# Keys of one listing, about what object stores return for one request; with less than half of them it is complete.
LISTED_KEYS = 1000
# Seconds between looks that are requests, while one more at the end is certain to follow.
LOOK_INTERVAL = 1.0
# Arrays that are asked for chunks at the same time.
ASKED_AT_ONCE = 64
NAMED_KEYS = 3
RESTORE = "bring it back, and repeat the call (a build: with resume=True)"


@dataclass(frozen=True)
class Inventory:
    """What lies in the place of an array, as far as one page of a listing shows."""

    sample: str | None
    """The key of a stored chunk, counted from the array's own on; None if none was found."""
    others: tuple[str, ...]
    """Keys of files that are neither chunks of the array nor documents."""
    is_empty: bool
    """Whether a listing shows that no chunk is stored; not every store lists what it holds."""

    def fault(self, array: zarr.Array[Any]) -> str:
        """Return what is stored instead of chunks of an array; empty where that may be right."""
        if self.sample is not None or not self.others:
            return ""
        shown = ", ".join(map(repr, self.others[:NAMED_KEYS])) + ", ..." * (len(self.others) > NAMED_KEYS)
        first = chunk_key(array, (0,) * array.ndim)
        return f"no chunk under the keys that its metadata state, as {first!r}, but other files: {shown}"


class Presence:
    """An array as it was opened, to be looked at again when chunks are missing."""

    def __init__(self, array: zarr.Array[Any], *, is_resizing: bool = False) -> None:
        self.array = array
        """The array."""
        self.is_resizing = is_resizing
        """Whether its size along an axis is about to change, by a change of the pyramid that it belongs to."""
        self.missed: object = None
        """Another object each time that a chunk is found missing."""
        self.sample: str | None = None
        """The key of a chunk that was stored."""
        self.is_held = False
        """Whether its document is not stored before the build of its pyramid ends, so that it cannot be looked at."""
        self.is_empty = False
        """Whether a listing showed that no chunk is stored."""
        self.is_replaced = False
        """Whether another document was found in its place."""
        self.interval = 0.0
        """Seconds for which a look answers; 0 for those who asked before it only."""
        place = array.store_path
        self._place = StorePath(without_memory(place.store), place.path)
        self._seen: tuple[int, ...] | None = None
        self._looked_at = -1.0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> Presence:
        """Return the presence of an array: that which it is read with, if it is a `WatchedArray`."""
        return array.presence if isinstance(array, WatchedArray) else cls(array)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs."""
        return {key: value for key, value in vars(self).items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what another process had; its clock is another one."""
        vars(self).update(state, _lock=threading.Lock(), _looked_at=-1.0)

    def miss(self) -> None:
        """Record that a chunk was found missing."""
        # Atomic, and never equal to what another thread has kept.
        self.missed = object()

    def noted(self) -> zarr.Array[Any]:
        """Return the array, reading of which records missing chunks."""
        place = self.array.store_path
        noting = StorePath(_NotingStore(place.store, self), place.path)
        return limited_array(remade_array(self.array, self.array.metadata, noting))

    def confirm(self) -> None:
        """Look whether the array is still there and the same; it may have been appended to.

        A look that began after this call answers it, so that threads which find chunks missing share one.

        Raises
        ------
        OSError
            If it is gone or another one.
        """
        asked = time.monotonic()
        with self._lock:
            if self._looked_at > asked - self.interval:
                return
            began = time.monotonic()
            self._look()
            self._looked_at = began

    @contextmanager
    def confirmed_at_end(self, *, tells_missing: bool) -> Iterator[None]:
        """Look again at the end, and so, where a look is a request, not for every region in between.

        Chunks are looked for as well, if any was found missing, or if that is not known (not `tells_missing`).

        Raises
        ------
        OSError
            If the array is gone or another one.
        """
        self.interval = LOOK_INTERVAL if is_remote(self._place.store) else 0.0
        try:
            yield
        finally:
            self.interval = 0.0
        if not tells_missing:
            self.miss()
        self.confirm()
        if self.missed is not None and is_remote(self._place.store):
            self._confirm_sample()

    def loss(self) -> Literal["", "gone", "replaced"]:
        """Return whether the array or its sample has gone, or its document is another one, as far as it answers."""
        self.is_replaced = False
        try:
            self.confirm()
            self._confirm_sample()
        except OSError:
            return "replaced" if self.is_replaced else "gone"
        return ""

    def _look(self) -> None:
        seen = self._file_signature()
        if not self.is_held and (seen is None or seen != self._seen):
            is_same = self._compare(sync(self._read()))
            self._seen = seen if is_same else None
        if not is_remote(self._place.store):
            self._confirm_sample()

    def _confirm_sample(self) -> None:
        if self.sample is None:
            return
        folder = folder_of(self.array.store_path)
        if folder is not None:
            # Without zarr's event loop, which takes longer than the look.
            is_there = os.path.exists(os.path.join(folder, self.sample))
        elif lists_at_once(self._place.store):
            is_there = self.sample in sync(self._listed())
        else:
            is_there = sync(self._exists(self.sample))
        if not is_there:
            raise FileNotFoundError(
                f"chunks of {self.array.store_path} have gone since it was opened, {self.sample!r} among them, and "
                f"cannot be taken for fill; {RESTORE}"
            )

    def _file_signature(self) -> tuple[int, ...] | None:
        """Return what changes with the document's file; None if it is not a local file, or gone."""
        folder = folder_of(self.array.store_path)
        if folder is None:
            return None
        try:
            stat = os.stat(os.path.join(folder, self._document))
        except FileNotFoundError:
            return None
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns

    @property
    def _document(self) -> str:
        return ARRAY_DOCUMENTS[self.array.metadata.zarr_format]

    async def _read(self) -> Buffer | None:
        return await (self._place / self._document).get(default_buffer_prototype())

    async def _exists(self, key: str) -> bool:
        folder = folder_of(self.array.store_path)
        return await (self._place / key).exists() if folder is None else os.path.exists(os.path.join(folder, key))

    def _compare(self, stored: Buffer | None) -> bool:
        """Raise if a document is not the one that the array was opened by; return whether it has the same size too."""
        place = self.array.store_path
        if stored is None:
            raise FileNotFoundError(
                f"{place} has gone since it was opened: its {self._document} is not there, so that chunks which are "
                f"missing cannot be taken for fill; {RESTORE}"
            )
        ours, found = _described(self.array.metadata), self._parsed(stored)
        theirs = found
        if theirs is not None:
            theirs = _resized(theirs, ours["shape"], shrunk=self.is_resizing)
        if theirs != ours:
            self.is_replaced = True
            wrong = sorted(key for key in ours if theirs is None or theirs.get(key) != ours[key])
            raise OSError(
                f"{place} is not the array that was opened: its {self._document} has another "
                f"{', '.join(wrong)} now; {RESTORE}"
            )
        return found == ours

    def _parsed(self, stored: Buffer) -> dict[str, Any] | None:
        try:
            document = {"attributes": {}, **json.loads(stored.to_bytes())}
            return _described(type(self.array.metadata).from_dict(document))
        except (ValueError, TypeError, KeyError):
            return None

    # --- chunks under its keys ----------------------------------------------------------------------------------

    def take_sample(self) -> None:
        """Look for a stored chunk, which is looked for again when others are missing; not where that is a request."""
        if self.sample is None and not is_remote(self._place.store):
            sync(self.inventory())

    async def inventory(self) -> Inventory:
        """Return what lies in the place of the array, by up to three probes, or one page of a listing.

        Stores that list all keys by one request are asked for that first.
        """
        if self.sample is not None or not self.array.size:
            return Inventory(self.sample, (), is_empty=False)
        at_once = lists_at_once(self._place.store)
        keys = await self._listed() if at_once else []
        self.sample = self._chunk_among(keys)
        if self.sample is None and not 0 < len(keys) < LISTED_KEYS // 2:
            self.sample = await self._probed()
        if self.sample is None and not at_once:
            keys = await self._listed()
            self.sample = self._chunk_among(keys)
        others = () if self.sample else tuple(key for key in keys if not self._is_expected(key))
        self.is_empty = bool(keys) and not others and self.sample is None
        return Inventory(self.sample, others, self.is_empty)

    async def _listed(self) -> list[str]:
        return await some_keys(self._place.store, self.array.path, LISTED_KEYS)

    async def _probed(self) -> str | None:
        """Return a key under which a chunk is stored: the first, the middle or the last one of the grid."""
        grid = self._grid
        places = (0,) * len(grid), tuple(n // 2 for n in grid), tuple(n - 1 for n in grid)
        for key in dict.fromkeys(chunk_key(self.array, index) for index in places):
            if await self._exists(key):
                return key
        return None

    def _chunk_among(self, keys: Sequence[str]) -> str | None:
        indices = ((key, _index_of(self.array, key)) for key in keys)
        return next((key for key, index in indices if index is not None and self._is_inside(index)), None)

    def _is_expected(self, key: str) -> bool:
        """Whether a key is that of a chunk, even beyond the shape, of a document, or of a file found everywhere."""
        name = key.rpartition("/")[2]
        known = name in DOCUMENTS or FOREIGN_NAMES.fullmatch(name) is not None
        return known or _index_of(self.array, key) is not None

    def _is_inside(self, index: Sequence[int]) -> bool:
        return all(i < n for i, n in zip(index, self._grid, strict=True))

    @property
    def _grid(self) -> tuple[int, ...]:
        """Numbers of chunks, or shards, along the axes."""
        return grid_shape(self.array.shape, self.array.shards or self.array.chunks)


def check_chunks(presences: Iterable[Presence]) -> None:
    """Check that arrays store chunks under their keys, before they are read; keys are probed, or one page listed.

    Raises
    ------
    ValueError
        If an array stores no chunk under its keys, but other files are there.
    """
    asked = list(presences)
    for presence, inventory in zip(asked, inventories(asked), strict=True):
        if fault := inventory.fault(presence.array):
            raise ValueError(
                f"{presence.array.store_path} stores {fault}; correct the key encoding or the separator in its "
                "metadata, or rename or upload the chunks again"
            )


def warn_if_empty(presences: Sequence[Presence], *, stacklevel: int) -> None:
    """Warn if arrays whose chunks have been checked store nothing at all, so that they read as fill."""
    if presences and all(presence.is_empty for presence in presences):
        array = presences[0].array
        warnings.warn(
            f"{array.store_path} stores no chunk, so that every value is the fill value {array.fill_value!s}; if it "
            "should hold other values, upload its chunks again",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def inventories(presences: Iterable[Presence]) -> list[Inventory]:
    """Return what lies in the place of each array, many asked for at the same time."""

    async def gathered() -> list[Inventory]:
        free = asyncio.Semaphore(ASKED_AT_ONCE)

        async def one(presence: Presence) -> Inventory:
            async with free:
                return await presence.inventory()

        return await asyncio.gather(*map(one, presences))

    return sync(gathered())


class WatchedArray(zarr.Array[Any]):
    """A stored array that is read lazily; chunks that are missing then are fill only if it is still there."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        super().__init__(inner_array(array))
        self.presence = Presence(array)
        self._noted = self.presence.noted()
        self._is_checked = False

    def __getitem__(self, selection: Any) -> Any:
        """Return the values of a selection.

        Raises
        ------
        OSError
            If chunks are missing, and the array is gone or another one.
        ValueError
            If chunks are missing, and none lies under the keys of the array, but other files do.
        """
        before = self.presence.missed
        values = self._noted[selection]
        if self.presence.missed is not before:
            self._check_missing()
        return values

    def _check_missing(self) -> None:
        if not self._is_checked:
            check_chunks([self.presence])
            self._is_checked = True
        self.presence.confirm()


def watched(array: zarr.Array[Any]) -> WatchedArray:
    """Return an array whose missing chunks are fill only if it is still there."""
    return array if isinstance(array, WatchedArray) else WatchedArray(array)


class _NotingStore(WrapperStore[Store]):
    """A store that records which values are missing."""

    def __init__(self, store: Store, presence: Presence) -> None:
        super().__init__(store)
        self.presence = presence

    def _with_store(self, store: Store) -> _NotingStore:
        return type(self)(store, self.presence)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a value or a part of it."""
        value = await self._store.get(key, prototype, byte_range)
        if value is None:
            self.presence.miss()
        return value

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """Return a value or a part of it, where later releases than zarr 3.1 do not wait for the event loop."""
        store: Any = self._store
        value: Buffer | None = store.get_sync(key, **options)
        if value is None:
            self.presence.miss()
        return value

    async def get_ranges(
        self, key: str, byte_ranges: Sequence[ByteRequest | None], **options: Any
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Yield parts of a value with their numbers; one of a missing value is recorded as such."""
        store: Any = self._store
        try:
            async for group in store.get_ranges(key, byte_ranges, **options):
                yield group
        except BaseException:
            self.presence.miss()
            raise


def _described(metadata: Any) -> dict[str, Any]:
    """Return what metadata state of the values and chunks of an array."""
    return {key: value for key, value in stated_of_array(metadata).items() if key not in DESCRIPTIVE}


def _resized(document: dict[str, Any], shape: Sequence[int], *, shrunk: bool) -> dict[str, Any]:
    """Return a document with another shape, if it differs along one axis only, along which it may only be longer."""
    stored = document["shape"]
    if len(stored) != len(shape):
        return document
    changed = [(new, old) for new, old in zip(stored, shape, strict=True) if new != old]
    if len(changed) > 1 or (changed and changed[0][0] < changed[0][1] and not shrunk):
        return document
    return {**document, "shape": list(shape)}


def _index_of(array: zarr.Array[Any], key: str) -> tuple[int, ...] | None:
    """Return the place in the grid of the chunk that a key is of; None if it is not one of a chunk."""
    numbers = tuple(map(int, re.findall(r"\d+", key)))
    index = numbers[len(numbers) - array.ndim :] if array.ndim else ()
    return index if len(index) == array.ndim and chunk_key(array, index) == key else None
