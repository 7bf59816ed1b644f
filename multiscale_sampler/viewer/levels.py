"""One level as a zarr v3 array for the viewer: stored chunks if Neuroglancer can decode them, else converted ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
import zarr

from ..image.boxes import cell_at, whole_box
from ..store.origins import source_array
from ..store.raw_chunks import ByteRange, described_in_v3, is_inside, read_box, read_stored, stored_size
from ..tasks.crew import usable_scheduler

# Codecs of zarr v3 that Neuroglancer decodes.
VIEWER_CODECS = frozenset({"blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zlib", "zstd"})
# Larger chunks arrive slowly, and may not fit into a texture of the graphics card.
MOST_CHUNK_BYTES = 64 * 2**20
# Chunks of levels in memory or computed by dask.
COMPUTED_CHUNK_BYTES = 2 * 2**20
CHUNK_KEY_ENCODING = {"name": "default", "configuration": {"separator": "/"}}


@dataclass(frozen=True)
class StoredLevel:
    """A level whose stored chunks are served without change."""

    array: zarr.Array[Any]
    """The stored array."""
    description: Mapping[str, Any]
    """Its shape, dtype, chunk grid, codecs and fill value, as zarr v3 metadata."""

    @property
    def document(self) -> dict[str, Any]:
        """The array's ``zarr.json``."""
        return _array_document(self.description)

    def read(self, index: Sequence[int], byte_range: ByteRange | None) -> bytes | None:
        """Return bytes of the chunk at an index of the grid; None if it is not stored."""
        return read_stored(self.array, index, byte_range)

    def size(self, index: Sequence[int]) -> int | None:
        """Return the bytes that the chunk at an index of the grid has; None if it is not stored."""
        return stored_size(self.array, index)


@dataclass(frozen=True)
class ComputedLevel:
    """A level whose chunks are decoded, computed and converted on request."""

    data: Any
    """A zarr, dask or numpy array."""
    dtype: np.dtype[Any]
    """Type of the served values."""
    chunks: tuple[int, ...]
    """Shape of a served chunk."""

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
        """Return bytes of the chunk at an index of the grid; beyond the end of an axis its values are 0."""
        box = cell_at(index, self.chunks, self.data.shape)
        if isinstance(self.data, zarr.Array):
            values = read_box(self.data, box)
        else:
            values = xr.DataArray(self.data[box]).compute(scheduler=usable_scheduler()).values
        whole = np.zeros(self.chunks, self.dtype.newbyteorder("<"))
        whole[whole_box(values.shape)] = _to_dtype(values, self.dtype)
        content = whole.tobytes()
        return content if byte_range is None else _bytes_in_range(content, byte_range)

    def size(self, index: Sequence[int]) -> int | None:
        """Return the bytes that each chunk has."""
        return math.prod(self.chunks) * self.dtype.itemsize


ServedLevel: TypeAlias = "StoredLevel | ComputedLevel"


def viewer_dtype(dtype: np.dtype[Any], *, labels: bool) -> np.dtype[Any]:
    """Return the dtype that Neuroglancer can show and to which values of a dtype are converted.

    Raises
    ------
    TypeError
        If the values are not numbers.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind in "iu" and dtype != np.int64:
        return np.dtype(dtype.name)
    if dtype.kind == "i":
        return np.dtype(np.uint64 if labels else np.float32)
    if dtype.kind in "fc":
        return np.dtype(np.float32)
    raise TypeError(
        f"values of dtype {dtype.name!r} are not numbers and cannot be shown; convert them with image.astype"
    )


def served_level(level: xr.DataArray, dtype: np.dtype[Any]) -> ServedLevel:
    """Return a level to serve as values of a dtype: its stored chunks if the viewer can decode them.

    Raises
    ------
    ValueError
        If the array is a link to a place outside its store.
    """
    data = level.data
    array = source_array(data)
    if array is None:
        return ComputedLevel(data, dtype, _split_chunks(_largest_block(data), dtype, COMPUTED_CHUNK_BYTES))
    if not is_inside(array):
        raise ValueError(
            f"the array {array.path!r} of {array.store_path.store} is a link to a place outside the store, which is "
            "not served; pass the store that it leads to"
        )
    description = described_in_v3(array)
    if description is not None and math.prod(array.chunks) * array.dtype.itemsize <= MOST_CHUNK_BYTES:
        reinterpreted = _with_dtype(description, array.dtype, dtype)
        if reinterpreted is not None and _is_readable(reinterpreted):
            return StoredLevel(array, reinterpreted)
    return ComputedLevel(array, dtype, _split_chunks(array.chunks, dtype, MOST_CHUNK_BYTES))


def _with_dtype(description: Mapping[str, Any], stored: np.dtype[Any], served: np.dtype[Any]) -> dict[str, Any] | None:
    """Return metadata by which the stored bytes are read as another dtype; None if they mean other values then."""
    if stored.name == served.name:
        return dict(description)
    if (stored.name, served.name) in (("bool", "uint8"), ("int64", "uint64")):
        fill = int(description["fill_value"]) % 256**served.itemsize
        return {**description, "data_type": served.name, "fill_value": fill}
    return None


def _is_readable(description: Mapping[str, Any]) -> bool:
    return description["chunk_grid"]["name"] == "regular" and _are_viewer_codecs(description["codecs"])


def _are_viewer_codecs(codecs: Sequence[Any]) -> bool:
    for codec in codecs:
        settings = codec.get("configuration") or {}
        if codec["name"] not in VIEWER_CODECS or not _are_viewer_codecs(settings.get("codecs", ())):
            return False
    return True


def _array_document(description: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        **description,
        "chunk_key_encoding": CHUNK_KEY_ENCODING,
        "attributes": {},
    }


def _largest_block(data: Any) -> tuple[int, ...]:
    """Return the shape of a dask array's largest block; that of a numpy array."""
    chunks = getattr(data, "chunks", None)
    return tuple(data.shape) if chunks is None else tuple(max(sizes) for sizes in chunks)


def _split_chunks(block: Sequence[int], dtype: np.dtype[Any], limit: int) -> tuple[int, ...]:
    """Return the shape of a block after halving its longest edge until it has at most `limit` bytes."""
    chunks = list(block)
    while math.prod(chunks) * dtype.itemsize > limit:
        longest = chunks.index(max(chunks))
        chunks[longest] = -(-chunks[longest] // 2)
    return tuple(chunks)


def _to_dtype(values: Any, dtype: np.dtype[Any]) -> Any:
    """Return values as another dtype: magnitudes of complex values, the bits of signed ids."""
    if values.dtype.kind == "c":
        values = np.abs(values)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)


def _bytes_in_range(content: bytes, byte_range: ByteRange) -> bytes:
    first, last = byte_range
    if first is None:
        return content[-(last or 0) :] if last else b""
    return content[first : None if last is None else last + 1]
