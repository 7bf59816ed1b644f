"""What a build has done, kept in its own target: the journal from which an interrupted build goes on.

A region is done when its mark is stored, and its mark is stored after everything else that it writes. The marks of
one pass are an array of one element per region. In a folder they are bytes of one file, each written by itself: a
million of them are read at once. Elsewhere every mark is a chunk, so that they need no lock and no more of a store
than that it keeps what it was given. A build also *claims* its target, so that no second one writes there at the
same time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync

from .chunks import Chunks
from .nodes import Location

# What marks a region in the journal of its pass.
DONE = 1

_claimed: set[Location] = set()


@dataclass(frozen=True)
class Journal:
    """The regions of one pass that are done."""

    marks: zarr.Array[Any]
    """An element for each region."""
    file: str | None
    """The file that holds them all, byte by byte; None where every element is a chunk of its own."""

    @classmethod
    def of(cls, group: zarr.Group, name: str, count: int) -> Journal:
        """Open the journal of a pass of `count` regions, or begin it."""
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            together = isinstance(group.store_path.store, zarr.storage.LocalStore)
            array = group.create_array(
                name,
                shape=(count,),
                chunks=(count if together else 1,),
                dtype="uint8",
                fill_value=0,
                compressors=None,
                filters=None,
            )
        chunks = Chunks.of(array)
        if chunks is None:
            return cls(array, None)
        file = chunks.path((0,))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        return cls(array, file)

    def done(self) -> npt.NDArray[np.bool_]:
        """Return whether each region is done."""
        done = np.zeros(self.marks.shape, np.bool_)
        if self.file is None:
            done[[int(name) for name in sync(self._names()) if name.isdigit()]] = True
        elif os.path.exists(self.file):
            # It is as long as the last mark wants it.
            marked = np.fromfile(self.file, np.uint8)
            done[: len(marked)] = marked == DONE
        return done

    async def _names(self) -> list[str]:
        """List the marks that are chunks."""
        folder = self.marks.metadata.encode_chunk_key((0,)).rpartition("/")[0]
        place = "/".join(part for part in (self.marks.path, folder) if part)
        return [name async for name in self.marks.store_path.store.list_dir(place)]

    def mark(self, number: int) -> None:
        """Record that a region is done."""
        if self.file is None:
            self.marks[number] = DONE
            return
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(descriptor, bytes([DONE]), number)
        finally:
            os.close(descriptor)


@contextmanager
def claim(place: Location) -> Iterator[None]:
    """Hold a target for this build alone, until it ends or its process does.

    Raises
    ------
    FileExistsError
        If another build holds it.
    """
    kind, parts = place
    shown = "/".join(parts)
    if kind != "file":
        if place in _claimed:
            raise FileExistsError(f"another build is writing {shown!r}; wait until it has ended")
        _claimed.add(place)
        try:
            yield
        finally:
            _claimed.discard(place)
        return
    # Beside the store, not in it: readers list what is there, and a lock is no part of an image.
    name = hashlib.sha256(shown.encode()).hexdigest()[:32]
    lock = filelock.FileLock(Path(tempfile.gettempdir()) / f"multiscale_sampler-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise FileExistsError(f"another build is writing {shown!r}; wait until it has ended") from None
    try:
        yield
    finally:
        lock.release()
