"""The journal of a build in its own target, from which an interrupted build is resumed.

In a folder, the marks of one pass are bytes of one file, each written by itself when all else that a region writes is
stored: a million of them are read at once. Elsewhere a mark would be a request for each region, so that there the
last chunks that a region writes stand for it: where they are stored, the region is done. Only a region that left one
of them out, being all fill, gets a mark, an object of its own; and so does every region where a store cannot say
that what is there is there whole. A build also *claims* its target, so that no second one writes there at the
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

import filelock
import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import StorePath

from .chunks import Chunks
from .nodes import Location
from .remote import is_icechunk, keeps_values_whole
from .zarr_internals import buffer_of, sync, unwrapped

# What marks a region in the journal of its pass.
DONE = 1

_claimed: set[Location] = set()


@dataclass(frozen=True)
class Journal:
    """The regions of one pass that are done."""

    count: int
    """How many there are."""
    place: StorePath | None
    """Where marks are, unless one file holds them; None where there can be none."""
    file: str | None
    """The file that holds them all, byte by byte; None where every mark is an object of its own."""
    chunks_tell: bool
    """Whether the last chunks of a region tell that it is done, so that it needs no mark."""

    @staticmethod
    def is_one_file(group: zarr.Group) -> bool:
        """Whether the journal of a build in a group is a file."""
        return isinstance(group.store_path.store, zarr.storage.LocalStore)

    @classmethod
    def of(cls, group: zarr.Group, name: str, count: int) -> Journal:
        """Open the journal of a pass of `count` regions, or begin it."""
        if not cls.is_one_file(group):
            store = unwrapped(group.store_path.store)
            # icechunk takes nothing that is no part of an array, and keeps what is committed. A single region is in
            # flight until its pass ends.
            place = None if is_icechunk(store) or count == 1 else group.store_path / name
            return cls(count, place, None, keeps_values_whole(store))
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            array = group.create_array(
                name,
                shape=(count,),
                chunks=(count,),
                dtype="uint8",
                fill_value=0,
                compressors=None,
                filters=None,
            )
        chunks = Chunks.of(array)
        assert chunks is not None, "a plain array in a folder"
        file = chunks.path((0,))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        # Marks are written into a file that exists; one with marks is left as it is.
        open(file, "ab").close()
        return cls(array.shape[0], array.store_path, file, False)

    def done(self) -> npt.NDArray[np.bool_]:
        """Return whether each region is marked as done."""
        done = np.zeros(self.count, np.bool_)
        if self.file is None:
            marked = sync(_names(self.place)) if self.place else []
            done[[int(name) for name in marked if name.isdigit()]] = True
        elif os.path.exists(self.file):
            # It is as long as the last mark wants it.
            values = np.fromfile(self.file, np.uint8)
            done[: len(values)] = values == DONE
        return done

    def mark(self, number: int, *, chunks_tell: bool = False) -> None:
        """Record that a region is done; its last chunks may tell that already."""
        if self.file is None:
            if self.place and not (chunks_tell and self.chunks_tell):
                sync((self.place / str(number)).set(buffer_of(bytes([DONE]))))
            return
        with open(self.file, "r+b", buffering=0) as file:
            file.seek(number)
            file.write(bytes([DONE]))


async def _names(place: StorePath) -> list[str]:
    return [name async for name in place.store.list_dir(place.path)]


@contextmanager
def claim(place: Location) -> Iterator[None]:
    """Hold a target for this build alone, until it ends or its process does.

    Raises
    ------
    FileExistsError
        If another build holds it.
    ValueError
        If nothing is kept there.
    """
    kind, parts = place
    shown = "/".join(parts)
    if kind == "reference":
        raise ValueError(
            "a file system of references keeps what is written in memory alone, and loses it; write the pyramid to "
            "another place with write_pyramid (build)"
        )
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
