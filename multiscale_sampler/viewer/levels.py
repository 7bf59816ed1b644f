"""What is served of one level: a zarr v3 document and its chunks, as they are stored or made on request.

Neuroglancer reads these types of values and these codecs; all else is decoded and converted here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
import zarr

from ..image.boxes import cell_at, whole_box
from ..store import ByteRange, described_in_v3, is_inside, read_box, read_stored, source_array, stored_size
from ..tasks.crew import usable_scheduler

SHOWN_CODECS = frozenset({"blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zlib", "zstd"})
# Larger chunks take long to arrive and may be larger than a texture of the graphics card.
MOST_CHUNK_BYTES = 64 * 2**20
MADE_CHUNK_BYTES = 2 * 2**20
KEYS = {"name": "default", "configuration": {"separator": "/"}}


@dataclass(frozen=True)
class StoredLevel:
    """A level whose chunks go to the viewer byte for byte."""

    array: zarr.Array[Any]
    """What is stored."""
    description: Mapping[str, Any]
    """What zarr v3 says of it."""

    @property
    def document(self) -> dict[str, Any]:
        """The array's ``zarr.json``."""
        return _array_document(self.description)

    def read(self, index: Sequence[int], byte_range: ByteRange | None) -> bytes | None:
        """Return bytes of the chunk at a place of the grid, None if none is stored."""
        return read_stored(self.array, index, byte_range)

    def size(self, index: Sequence[int]) -> int | None:
        """Return the number of bytes of the chunk at a place of the grid, None if none is stored."""
        return stored_size(self.array, index)


@dataclass(frozen=True)
class MadeLevel:
    """A level whose chunks are decoded, computed and converted on request."""

    data: Any
    """A zarr array, a dask array or one of numpy."""
    dtype: np.dtype[Any]
    """The type of values that the viewer gets."""
    chunks: tuple[int, ...]
    """Voxels per chunk."""

    @property
    def document(self) -> dict[str, Any]:
        """The array's ``zarr.json``."""
        return _array_document(
            {
                "shape": list(self.data.shape),
                "data_type": self.dtype.name,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunks)}},
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "fill_value": 0,
            }
        )

    def read(self, index: Sequence[int], byte_range: ByteRange | None) -> bytes | None:
        """Return bytes of the chunk at a place of the grid; chunks at the end of an axis are filled up with zeros."""
        box = cell_at(index, self.chunks, self.data.shape)
        if isinstance(self.data, zarr.Array):
            values = read_box(self.data, box)
        else:
            values = xr.DataArray(self.data[box]).compute(scheduler=usable_scheduler()).values
        whole = np.zeros(self.chunks, self.dtype.newbyteorder("<"))
        whole[whole_box(values.shape)] = _converted(values, self.dtype)
        content = whole.tobytes()
        return content if byte_range is None else _cut(content, byte_range)

    def size(self, index: Sequence[int]) -> int | None:
        """Return the number of bytes of any chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize


ServedLevel: TypeAlias = "StoredLevel | MadeLevel"


def shown_dtype(dtype: np.dtype[Any], *, labels: bool) -> np.dtype[Any]:
    """Return the type of values by which the viewer gets those of another.

    Raises
    ------
    TypeError
        If they are no numbers.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind in "iu" and dtype != np.int64:
        return np.dtype(dtype.name)
    if dtype.kind == "i":
        return np.dtype(np.uint64 if labels else np.float32)
    if dtype.kind in "fc":
        return np.dtype(np.float32)
    raise TypeError(f"values of dtype {dtype.name!r} are no numbers to look at; convert them with image.astype")


def served_level(level: xr.DataArray, dtype: np.dtype[Any]) -> ServedLevel:
    """Return a level as it is served with values of a type: stored chunks where the viewer can decode them.

    Raises
    ------
    ValueError
        If the level is a link that leads out of its store.
    """
    data = level.data
    array = source_array(data)
    if array is None:
        return MadeLevel(data, dtype, _made_chunks(_blocks(data), dtype, MADE_CHUNK_BYTES))
    if not is_inside(array):
        raise ValueError(
            f"the array {array.path!r} of {array.store_path.store} is a link that leads out of the store, and nothing "
            "outside it is shown; name the store that it leads to"
        )
    description = described_in_v3(array)
    if description is not None and math.prod(array.chunks) * array.dtype.itemsize <= MOST_CHUNK_BYTES:
        described = _as_dtype(description, array.dtype, dtype)
        if described is not None and _is_readable(described):
            return StoredLevel(array, described)
    return MadeLevel(array, dtype, _made_chunks(array.chunks, dtype, MOST_CHUNK_BYTES))


def _as_dtype(description: Mapping[str, Any], stored: np.dtype[Any], shown: np.dtype[Any]) -> dict[str, Any] | None:
    """Return the description of an array with the same bytes taken for values of another type, where they can be."""
    if stored.name == shown.name:
        return dict(description)
    if (stored.name, shown.name) in (("bool", "uint8"), ("int64", "uint64")):
        fill = int(description["fill_value"]) % 256**shown.itemsize
        return {**description, "data_type": shown.name, "fill_value": fill}
    return None


def _is_readable(description: Mapping[str, Any]) -> bool:
    return description["chunk_grid"]["name"] == "regular" and _are_shown(description["codecs"])


def _are_shown(codecs: Sequence[Any]) -> bool:
    for codec in codecs:
        settings = codec.get("configuration") or {}
        if codec["name"] not in SHOWN_CODECS or not _are_shown(settings.get("codecs", ())):
            return False
    return True


def _array_document(description: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "array", **description, "chunk_key_encoding": KEYS, "attributes": {}}


def _blocks(data: Any) -> tuple[int, ...]:
    """Return the shape of an array's largest block, that of all of it where there are none."""
    chunks = getattr(data, "chunks", None)
    return tuple(data.shape) if chunks is None else tuple(max(sizes) for sizes in chunks)


def _made_chunks(blocks: Sequence[int], dtype: np.dtype[Any], limit: int) -> tuple[int, ...]:
    """Return the shape of chunks that blocks are cut into, the longest edge first, up to a number of bytes."""
    chunks = list(blocks)
    while math.prod(chunks) * dtype.itemsize > limit:
        longest = chunks.index(max(chunks))
        chunks[longest] = -(-chunks[longest] // 2)
    return tuple(chunks)


def _converted(values: Any, dtype: np.dtype[Any]) -> Any:
    """Return values as another type; complex ones by their magnitude, integers of other signs by their bits."""
    if values.dtype.kind == "c":
        values = np.abs(values)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)


def _cut(content: bytes, byte_range: ByteRange) -> bytes:
    first, last = byte_range
    if first is None:
        return content[-(last or 0) :] if last else b""
    return content[first : None if last is None else last + 1]
