"""What a build has done, kept in its own target: the journal from which an interrupted build goes on.

A region is done when its mark is stored, and its mark is stored after everything else that it writes. The marks of
one pass are the chunks of an array of one element per region, so that they need no lock, no listing while the
build runs, and no more of a store than that it keeps what it was given. A build also *claims* its target, so that
no second one writes there at the same time.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import zarr
from zarr.core.sync import sync

from .chunks import Access
from .nodes import Location

_claimed: set[Location] = set()


@dataclass(frozen=True)
class Journal:
    """The regions of one pass that are done."""

    marks: Access
    """An array of one element, and one chunk, per region."""

    @classmethod
    def of(cls, group: zarr.Group, name: str, count: int) -> Journal:
        """Open the journal of a pass of `count` regions, or begin it."""
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            array = group.create_array(
                name, shape=(count,), chunks=(1,), dtype="uint8", fill_value=0, compressors=None, filters=None
            )
        return cls(Access.of(array))

    def done(self) -> set[int]:
        """Return the numbers of the regions that are done."""
        array = self.marks.array
        folder = array.metadata.encode_chunk_key((0,)).rpartition("/")[0]
        place = "/".join(part for part in (array.path, folder) if part)

        async def names() -> list[str]:
            return [name async for name in array.store_path.store.list_dir(place)]

        return {int(name) for name in sync(names()) if name.isdigit()}

    def mark(self, number: int) -> None:
        """Record that a region is done."""
        self.marks.write((slice(number, number + 1),), np.ones(1, np.uint8))


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
