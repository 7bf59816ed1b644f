"""Stored chunks as bytes, for readers that decode them themselves, such as a viewer in a browser.

An array of any zarr format is described in terms of zarr v3, whose codecs say all that zarr v2 can say; its chunks are
asked for by their place in the grid, never by a name, and only those that lie in the array's own store are handed out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest

from ..image.boxes import Box, coarsened, indices_of
from .codecs import codecs_of_v2
from .names import ZARR_JSON
from .nodes import location, storage_unit
from .presence import Presence, watched
from .zarr_internals import chunk_key, default_buffer_prototype, documents_of, sync

# First and last byte, as HTTP counts them: without a last one to the end, without a first one that many at the end.
ByteRange: TypeAlias = "tuple[int | None, int | None]"


def described_in_v3(array: zarr.Array[Any]) -> dict[str, Any] | None:
    """Return what zarr v3 says of an array's values and chunks, None where it has no words for it."""
    if array.metadata.zarr_format == 3:
        document = json.loads(documents_of(array.metadata)[ZARR_JSON].to_bytes())
        kept = ("shape", "data_type", "chunk_grid", "codecs", "fill_value")
        return {key: document[key] for key in kept} if not document.get("storage_transformers") else None
    codecs = codecs_of_v2(array)
    if codecs is None or array.dtype.kind not in "biufc":
        return None
    return {
        "shape": list(array.shape),
        "data_type": array.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.chunks)}},
        "codecs": codecs,
        "fill_value": _json_number(array.fill_value, array.dtype),
    }


def _json_number(fill: Any, dtype: np.dtype[Any]) -> Any:
    """Return a fill value as zarr v3 writes it; zarr v2 may leave it open."""
    value = np.zeros((), dtype)[()] if fill is None else np.asarray(fill, dtype)[()]
    if dtype.kind in "biu":
        return bool(value) if dtype.kind == "b" else int(value)
    if dtype.kind == "c":
        return [_json_number(part, value.real.dtype) for part in (value.real, value.imag)]
    if np.isfinite(value):
        return float(value)
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def is_inside(array: zarr.Array[Any], key: str = "") -> bool:
    """Whether a part of an array lies in the array's store, where links lead out of it elsewhere."""
    store = array.store_path.store
    kind, root = location(store, "")
    other, place = location(store, (array.store_path / key).path)
    return kind == other and place[: len(root)] == root


def read_stored(array: zarr.Array[Any], index: Sequence[int], byte_range: ByteRange | None = None) -> bytes | None:
    """Return bytes of the stored chunk (or shard) at a place of the grid, None if there is none.

    Raises
    ------
    PermissionError
        If it lies outside the store.
    OSError
        If there is none, and the array is gone or another one.
    """
    place = array.store_path / _key(array, index)
    request = None if byte_range is None else _request(byte_range)
    found = sync(place.get(default_buffer_prototype(), request))
    if found is None:
        Presence.of(array).confirm()
        return None
    return found.to_bytes()


def is_stored(array: zarr.Array[Any], key: str) -> bool:
    """Whether there is a chunk, or shard, of a key, counted from the array's own on."""
    return bool(sync((array.store_path / key).exists()))


def stored_size(array: zarr.Array[Any], index: Sequence[int]) -> int | None:
    """Return the bytes that the stored chunk (or shard) at a place of the grid has, None if there is none.

    Raises
    ------
    OSError
        If there is none, and the array is gone or another one.
    """
    place = array.store_path / _key(array, index)
    try:
        return sync(place.store.getsize(place.path))
    except FileNotFoundError:
        Presence.of(array).confirm()
        return None


def read_box(array: zarr.Array[Any], box: Box) -> Any:
    """Return the values of a box.

    Raises
    ------
    PermissionError
        If a chunk of it lies outside the store.
    """
    for index in indices_of(coarsened(box, storage_unit(array))):
        _key(array, index)
    return watched(array)[box]


def _key(array: zarr.Array[Any], index: Sequence[int]) -> str:
    key = chunk_key(array, index)
    if not is_inside(array, key):
        raise PermissionError(f"the chunk {key!r} of {array.store_path} lies outside its store")
    return key


def _request(byte_range: ByteRange) -> ByteRequest:
    first, last = byte_range
    if first is None:
        return SuffixByteRequest(last or 0)
    return OffsetByteRequest(first) if last is None else RangeByteRequest(first, last + 1)
