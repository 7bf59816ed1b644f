"""An array in a file that is no zarr: read box by box, the same in every process."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..image.boxes import Box

# Numbers, truth values and times; of texts, objects and records there are no pyramids.
NUMERIC_KINDS = frozenset("biufcmM")


class FileArray:
    """An array in a file, from which any box can be read.

    A copy of it in another process opens the file by itself.
    """

    shards: ClassVar[None] = None
    """A file has none; here for those who ask zarr arrays for theirs."""

    def __init__(
        self, place: Path, key: str, shape: Sequence[int], dtype: npt.DTypeLike, chunks: Sequence[int] | None
    ) -> None:
        dtype = np.dtype(dtype)
        if dtype.kind not in NUMERIC_KINDS or not shape:
            raise ValueError(f"{os.fspath(place)!r} holds {dtype} of shape {tuple(shape)!r}, which is no image")
        self.place = place
        self.key = key
        self.shape = tuple(map(int, shape))
        # Kernels are compiled for this machine's order of bytes.
        self.dtype = dtype.newbyteorder("=")
        # Where the file has no blocks, one plane can be read as well as the next.
        self.chunks = tuple(map(int, chunks or [*[1] * (len(shape) - 2), *shape[-2:]]))
        self._stamp = _stamp(place)
        self._lock = Lock()
        self._opened: Any = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Return what is stored there; lists of positions are taken axis by axis, as dask does."""
        items: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
        items += (slice(None),) * (self.ndim - len(items))
        picked = [_picked(item, size) for item, size in zip(items, self.shape, strict=True)]
        box = tuple(along for along, _ in picked)
        if any(along.start == along.stop for along in box):
            values: npt.NDArray[Any] = np.empty([along.stop - along.start for along in box], self.dtype)
        else:
            values = np.asarray(self._read(box)).astype(self.dtype, copy=False)
        # From the last axis to the first, so that an axis that goes leaves the numbers of the others alone.
        for axis, (_, rest) in reversed(list(enumerate(picked))):
            values = values[(slice(None),) * axis + (rest,)]
        return values

    def _open(self) -> tuple[Any, Callable[[], None] | None]:
        """Return what boxes are read from, and what closes it."""
        raise NotImplementedError

    def _read(self, box: Box) -> Any:
        return self._source()[box]

    def _source(self) -> Any:
        """Return what boxes are read from; opened once and closed with this array."""
        with self._lock:
            if self._opened is None:
                if _stamp(self.place) != self._stamp:
                    raise ValueError(f"{os.fspath(self.place)!r} has changed since it was opened; open it again")
                self._opened, close = self._open()
                if close is not None:
                    weakref.finalize(self, close)
            return self._opened

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what is bound to this process."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_opened")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over another process's array."""
        self.__dict__.update(state, _lock=Lock(), _opened=None)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what tells this array from others: the same in every process, until the file is changed."""
        return type(self).__name__, os.path.realpath(self.place), self._stamp, self.key, self.shape, self.dtype.str


def _stamp(place: Path) -> tuple[int, int]:
    status = place.stat()
    return status.st_mtime_ns, status.st_size


def _picked(item: Any, size: int) -> tuple[slice, Any]:
    """Return the span that an index of one axis covers, and the index within that span."""
    if isinstance(item, slice):
        positions = range(size)[item]
        if not positions:
            return slice(0, 0), slice(None)
        low, high = sorted((positions[0], positions[-1]))
        return slice(low, high + 1), slice(None, None, positions.step)
    if isinstance(item, int | np.integer):
        position = range(size)[int(item)]
        return slice(position, position + 1), 0
    chosen = np.arange(size)[np.asarray(item)]
    if not chosen.size:
        return slice(0, 0), slice(None)
    return slice(int(chosen.min()), int(chosen.max()) + 1), chosen - chosen.min()
