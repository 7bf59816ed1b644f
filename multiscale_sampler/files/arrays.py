"""Arrays in files of formats other than zarr, which dask reads box by box."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..image.boxes import Block, Box, cell_at, coarsened, indices_of, is_empty, overlap, shape_of
from ..tasks.machine import available_memory
from .diagnostics import reading

# Booleans, numbers, dates and durations; strings, objects and records cannot be reduced.
NUMERIC_KINDS = frozenset("biufcmM")


class FileArray:
    """An array in a file, indexed as dask indexes its sources.

    The file is opened at the first read. A pickled copy opens it again in its own process.

    Parameters
    ----------
    path
        The file.
    key
        Which array of the file, in the words of the format.
    shape
        Shape of the array.
    dtype
        Type of the values as they are read; the byte order becomes that of this machine.
    chunks
        Shape of the blocks in which the file stores the array; None for files without blocks.

    Raises
    ------
    ValueError
        If the values are neither numbers nor times, or the array has no axes.
    """

    shards: ClassVar[None] = None
    """Always None, as for a zarr array without shards."""

    def __init__(
        self, path: Path, key: str, shape: Sequence[int], dtype: npt.DTypeLike, chunks: Sequence[int] | None
    ) -> None:
        dtype = np.dtype(dtype)
        if dtype.kind not in NUMERIC_KINDS or not shape:
            raise ValueError(
                f"{os.fspath(path)!r} contains {dtype} values of shape {tuple(shape)!r}, which are not an image; "
                "choose an array of numbers with at least one axis"
            )
        self.path = path
        self.key = key
        self.shape = tuple(map(int, shape))
        # numba compiles kernels for the native byte order only.
        self.dtype = dtype.newbyteorder("=")
        # Without blocks in the file, planes along the last two axes are as cheap to read as any other part.
        self.chunks = tuple(map(int, chunks or [*[1] * (len(shape) - 2), *shape[-2:]]))
        self.reported: Collection[str] = ()
        """What the library reported when the file was opened."""
        self._stamp = _modification_stamp(path)
        self._lock = Lock()
        self._opened: Any = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def require_memory(self) -> None:
        """Check that the values fit into memory, for files that can only be decoded as a whole.

        Raises
        ------
        ValueError
            If they do not.
        """
        available = available_memory()
        if self.nbytes > available:
            raise ValueError(
                f"{os.fspath(self.path)!r} can only be decoded as a whole, which takes {self.nbytes} bytes, but this "
                f"process may use {available} bytes of memory; convert it to a format that is stored in parts, such "
                "as TIFF"
            )

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Return values by integers, slices and lists of positions, each axis independently of the others."""
        items: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
        items += (slice(None),) * (self.ndim - len(items))
        split = [_split_index(item, size) for item, size in zip(items, self.shape, strict=True)]
        box = tuple(span for span, _ in split)
        if is_empty(box):
            values: npt.NDArray[Any] = np.empty(shape_of(box), self.dtype)
        else:
            values = self._values(box)
        # From the last axis to the first, because an integer removes its axis and shifts those after it.
        for axis, (_, within) in reversed(list(enumerate(split))):
            values = values[(slice(None),) * axis + (within,)]
        return values

    def _values(self, box: Box) -> Block:
        """Return the values in a box that is not empty; an error names the first block that cannot be read."""
        try:
            return self._read_box(box)
        except (OSError, ValueError):
            blocks = [cell_at(index, self.chunks, self.shape) for index in indices_of(coarsened(box, self.chunks))]
            for block in blocks if len(blocks) > 1 else ():
                self._read_box(overlap(block, box))
            raise

    def _read_box(self, box: Box) -> Block:
        along = ", ".join(f"{span.start}:{span.stop}" for span in box)
        with reading(self.path, f" at [{along}]", self.reported):
            return np.asarray(self._read(box)).astype(self.dtype, copy=False)

    def _open(self) -> tuple[Any, Callable[[], None] | None]:
        """Return an object that `_read` indexes, and a function that closes it, None if nothing has to be closed."""
        raise NotImplementedError

    def _read(self, box: Box) -> Any:
        """Return the values in a box that is not empty."""
        return self._source()[box]

    def _source(self) -> Any:
        """Return the opened object of `_open`, which is closed when this array is deleted.

        Raises
        ------
        ValueError
            If the file has changed since this array was created.
        """
        with self._lock:
            if self._opened is None:
                if _modification_stamp(self.path) != self._stamp:
                    raise ValueError(f"{os.fspath(self.path)!r} has changed since it was opened; open it again")
                with reading(self.path, "", self.reported):
                    self._opened, close = self._open()
                if close is not None:
                    weakref.finalize(self, close)
            return self._opened

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the lock and the opened file, which cannot be pickled."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_opened")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state; the file is opened again at the next read."""
        self.__dict__.update(state, _lock=Lock(), _opened=None)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return a token that is the same in every process until the file changes."""
        return type(self).__name__, os.path.realpath(self.path), self._stamp, self.key, self.shape, self.dtype.str


def _modification_stamp(path: Path) -> tuple[int, int]:
    """Return the time of a file's last change, in nanoseconds, and its size in bytes."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _split_index(item: Any, size: int) -> tuple[slice, Any]:
    """Return the smallest span of an axis that contains an index along it, and the index relative to that span."""
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
