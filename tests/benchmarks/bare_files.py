"""The limit: how fast levels can be built beside a base when nothing but files, zstd and plain loops are there.

No zarr, no xarray, no dask and nothing of the package. A chunk of a level is built, depth first, of the 2**n chunks
under it, each reduced while it is in the cache; every thread has one buffer per level, which it uses again and again.
Levels are reduced from the rounded one before, which is less work than to carry sums as the package does.
It takes what the cases have: whole chunks throughout, factor 2, zstd, numbers in the machine's order of bytes.
"""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numcodecs import zstd

Block = npt.NDArray[Any]
Index = tuple[int, ...]
# What zarr and TensorStore call level 0: zstd's own default.
ZSTD_LEVEL = 0
# Enough subtrees for the threads to end at about the same time.
SUBTREES_PER_THREAD = 4


@numba.njit(nogil=True, cache=True)
def mean_2x2x2(x, out, at):  # type: ignore[no-untyped-def]
    """Reduce an unsigned block by 2 along three axes into `out` from `at` on, rounding half to even."""
    for i in range(x.shape[0] // 2):
        for j in range(x.shape[1] // 2):
            a, b, c, d = x[2 * i, 2 * j], x[2 * i, 2 * j + 1], x[2 * i + 1, 2 * j], x[2 * i + 1, 2 * j + 1]
            row = out[at[0] + i, at[1] + j, at[2] : at[2] + len(a) // 2]
            for k in range(len(row)):
                n = 2 * k
                total = np.int32(a[n]) + a[n + 1] + b[n] + b[n + 1] + c[n] + c[n + 1] + d[n] + d[n + 1]
                row[k] = (total + 3 + ((total >> 3) & 1)) >> 3


@numba.njit(nogil=True, cache=True)
def mean_2x2(x, out, at):  # type: ignore[no-untyped-def]
    """Reduce an unsigned block by 2 along two axes into `out` from `at` on, rounding half to even."""
    for j in range(x.shape[0] // 2):
        a, b = x[2 * j], x[2 * j + 1]
        row = out[at[0] + j, at[1] : at[1] + len(a) // 2]
        for k in range(len(row)):
            n = 2 * k
            total = np.int32(a[n]) + a[n + 1] + b[n] + b[n + 1]
            row[k] = (total + 1 + ((total >> 2) & 1)) >> 2


@numba.njit(nogil=True, cache=True)
def mode_2x2x2(x, out, at):  # type: ignore[no-untyped-def]
    """Take the most frequent of eight values, of equally frequent ones the least, into `out` from `at` on."""
    values = np.empty(8, x.dtype)
    for i in range(x.shape[0] // 2):
        for j in range(x.shape[1] // 2):
            a, b, c, d = x[2 * i, 2 * j], x[2 * i, 2 * j + 1], x[2 * i + 1, 2 * j], x[2 * i + 1, 2 * j + 1]
            row = out[at[0] + i, at[1] + j, at[2] : at[2] + len(a) // 2]
            for k in range(len(row)):
                n = 2 * k
                values[0], values[1], values[2], values[3] = a[n], a[n + 1], b[n], b[n + 1]
                values[4], values[5], values[6], values[7] = c[n], c[n + 1], d[n], d[n + 1]
                different = values[0] ^ values[1]
                for other in range(2, 8):
                    different |= values[0] ^ values[other]
                row[k] = values[0] if different == 0 else _most_frequent(values)


@numba.njit(nogil=True, cache=True)
def _most_frequent(values):  # type: ignore[no-untyped-def]
    best, most = values[0], 0
    for value in values:
        count = 0
        for other in values:
            count += other == value
        if count > most or (count == most and value < best):
            best, most = value, count
    return best


LOOPS: dict[tuple[str, int], Callable[[Block, Block, Index], None]] = {
    ("mean", 3): mean_2x2x2,
    ("mean", 2): mean_2x2,
    ("mode", 3): mode_2x2x2,
}


class _Tree:
    """The chunks of all levels as a tree: below a chunk of a level are the 2**n ones that it is reduced from."""

    def __init__(self, folder: Path, chunks: tuple[int, ...], dtype: str, method: str, top: int) -> None:
        self.folder, self.chunks, self.dtype, self.top = folder, chunks, np.dtype(dtype), top
        self.reduce = LOOPS[method, len(chunks)]
        self.corners = list(itertools.product((0, 1), repeat=len(chunks)))
        self.buffers = threading.local()

    def build(self, level: int, index: Index) -> Block:
        """Write a chunk and all below it; return its values, which stay valid until this thread's next one."""
        out = self._buffer(level)
        if level == 0:
            self._read(index, out)
            return out
        for corner in self.corners:
            child = self.build(level - 1, tuple(2 * i + c for i, c in zip(index, corner, strict=True)))
            self.reduce(child, out, _half(corner, self.chunks))
        write_chunk(self.folder, level, index, out)
        return out

    def _buffer(self, level: int) -> Block:
        if not hasattr(self.buffers, "levels"):
            self.buffers.levels = [np.empty(self.chunks, self.dtype) for _ in range(self.top + 1)]
            # Noise can make an encoded chunk a little larger than the chunk.
            self.buffers.encoded = bytearray(2 * self.buffers.levels[0].nbytes)
        levels: list[Block] = self.buffers.levels
        return levels[level]

    def _read(self, index: Index, out: Block) -> None:
        try:
            with open(chunk_path(self.folder, 0, index), "rb", buffering=0) as file:
                size = file.readinto(self.buffers.encoded)
        except FileNotFoundError:
            # zarr does not store chunks of zeros.
            out[...] = 0
        else:
            zstd.decompress(memoryview(self.buffers.encoded)[:size], out)


def build(
    folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, method: str, levels: int, threads: int
) -> None:
    """Write levels "1", "2", ... into the folder of a base "0"."""
    top = _level_of_subtrees(shape, chunks, levels, threads)
    tree = _Tree(folder, chunks, dtype, method, top)
    # What is above the subtrees is small and put together in memory.
    above = np.empty([size >> (top + 1) for size in shape], dtype)
    for level in range(1, levels + 1):
        write_metadata(folder, level, [size >> level for size in shape], chunks, dtype)

    def build_subtree(index: Index) -> None:
        values = tree.build(top, index)
        tree.reduce(values, above, _half(index, chunks))

    subtrees = itertools.product(*(range((size >> top) // chunk) for size, chunk in zip(shape, chunks, strict=True)))
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(build_subtree, subtrees):
            pass
    for level in range(top + 1, levels + 1):
        for index in itertools.product(
            *(range(size // chunk) for size, chunk in zip(above.shape, chunks, strict=True))
        ):
            region = tuple(slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(index, chunks, strict=True))
            write_chunk(folder, level, index, above[region])
        coarser = np.empty([size // 2 for size in above.shape], dtype)
        tree.reduce(above, coarser, (0,) * len(shape))
        above = coarser


def _level_of_subtrees(shape: tuple[int, ...], chunks: tuple[int, ...], levels: int, threads: int) -> int:
    """Return the coarsest level but the last that has enough chunks to keep all threads busy."""
    counts = [math.prod((n >> level) // c for n, c in zip(shape, chunks, strict=True)) for level in range(levels)]
    return max(level for level, count in enumerate(counts) if level == 0 or count >= SUBTREES_PER_THREAD * threads)


def _half(index: Index, chunks: tuple[int, ...]) -> Index:
    """Return where a chunk's reduced values begin in the level above it."""
    return tuple(i * chunk // 2 for i, chunk in zip(index, chunks, strict=True))


def chunk_path(folder: Path, level: int, index: Index) -> Path:
    """Return the file of a chunk, as zarr v3 names it."""
    return folder.joinpath(str(level), "c", *map(str, index))


def write_chunk(folder: Path, level: int, index: Index, values: Block) -> None:
    """Encode a chunk into its file."""
    path = chunk_path(folder, level, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstd.compress(np.ascontiguousarray(values), ZSTD_LEVEL))


def write_metadata(folder: Path, level: int, shape: list[int], chunks: tuple[int, ...], dtype: str) -> None:
    """Write what makes the files of a level an array of zarr v3."""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
        ],
        "attributes": {},
    }
    path = folder / str(level) / "zarr.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
