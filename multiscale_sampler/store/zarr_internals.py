"""The parts of zarr that are not public: the one module to check when zarr changes.

Two things stand elsewhere: `remote` and `changing` override hooks of zarr's wrapping stores (``_with_store``,
``_get_many``, ``_set_many``, ``_supports_sync_io``), and metadata of arrays and groups, whose classes have no public
name, are read in many places.
"""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import zarr
import zarr.core.sync
from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import StorePath, WrapperStore

__all__ = [
    "Node",
    "ZipReader",
    "buffer_of",
    "chunk_key",
    "default_buffer_prototype",
    "documents_of",
    "identity_of_memory",
    "is_consolidated",
    "nodes_at",
    "remade_array",
    "resized_metadata",
    "sync",
    "unconsolidated",
    "unwrapped",
    "values_of",
]

Result = TypeVar("Result")
Node: TypeAlias = "zarr.Array[Any] | zarr.Group"


def sync(request: Coroutine[Any, Any, Result]) -> Result:
    """Return what an awaited request to a store returns, in zarr's event loop."""
    return zarr.core.sync.sync(request)


def buffer_of(content: bytes) -> Buffer:
    """Return bytes in the form that stores take."""
    return default_buffer_prototype().buffer.from_bytes(content)


def nodes_at(group: zarr.Group, paths: Sequence[str]) -> list[Node | None]:
    """Return what is at some paths of a group, None where nothing is; all are asked for at once."""

    async def node_at(path: str) -> Any:
        try:
            return await group._async_group.getitem(path)
        except KeyError:
            return None

    async def nodes() -> list[Any]:
        return await asyncio.gather(*map(node_at, paths))

    wrappers = {zarr.AsyncArray: zarr.Array, zarr.AsyncGroup: zarr.Group}
    return [None if node is None else wrappers[type(node)](node) for node in sync(nodes())]


def values_of(arrays: Iterable[zarr.Array[Any]]) -> list[np.ndarray[Any, Any]]:
    """Return all values of some small arrays, which are read at once."""

    async def values() -> list[Any]:
        return await asyncio.gather(*(array._async_array.getitem(...) for array in arrays))

    return [np.asarray(block) for block in sync(values())]


def remade_array(array: zarr.Array[Any], metadata: Any, place: StorePath) -> zarr.Array[Any]:
    """Return an array, configured as it is, with other metadata or in another place."""
    inner: Any = array._async_array
    # Later releases than zarr 3.1.3 have the configuration under a public name.
    config = inner.config if hasattr(inner, "config") else inner._config
    return zarr.Array(type(inner)(metadata=metadata, store_path=place, config=config))


def resized_metadata(array: zarr.Array[Any], shape: Sequence[int]) -> Any:
    """Return the metadata that an array of another shape would have."""
    return array.metadata.update_shape(tuple(map(int, shape)))


def documents_of(metadata: Any) -> dict[str, Buffer]:
    """Return the documents that the metadata of an array or a group are stored as, by name."""
    return cast("dict[str, Buffer]", metadata.to_buffer_dict(default_buffer_prototype()))


def chunk_key(array: zarr.Array[Any], index: Sequence[int]) -> str:
    """Return the key of the chunk, or shard, at a place of the grid, from the array's own on."""
    return str(array.metadata.encode_chunk_key(tuple(index)))


def is_consolidated(group: zarr.Group) -> bool:
    """Whether a group was opened by consolidated metadata."""
    return group.metadata.consolidated_metadata is not None


def unconsolidated(group: zarr.Group) -> zarr.Group:
    """Return a group whose members are opened by their own documents, not by consolidated metadata."""
    metadata = dataclasses.replace(group.metadata, consolidated_metadata=None)
    return zarr.Group(zarr.AsyncGroup(metadata=metadata, store_path=group.store_path))


def unwrapped(store: Store) -> Store:
    """Return what is within all wrappings of a store."""
    while isinstance(store, WrapperStore):
        store = store._store
    return store


def identity_of_memory(store: zarr.storage.MemoryStore) -> int:
    """Return a number that is the same for all stores that hold the same mapping."""
    return id(store._store_dict)


class ZipReader(zarr.storage.ZipStore):
    """A zip file that is closed with the last image that is read from it, not when garbage is collected."""

    def _sync_open(self) -> None:
        super()._sync_open()
        weakref.finalize(self, self._zf.close)
