"""The parts of zarr, and of fsspec below it, that are not public: the one module to check when zarr changes.

Three things stand elsewhere: `limits` wraps codecs and their pipeline, `remote` and `changing` override hooks of
zarr's wrapping stores (``_with_store``, ``_get_many``, ``_set_many``, ``_supports_sync_io``), and metadata of arrays
and groups, whose classes have no public name, are read in many places.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias, TypeVar, cast

import numpy as np
import zarr
import zarr.core.sync
from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.codecs._v2 import V2Codec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import StorePath, WrapperStore

from .names import ARRAY_DOCUMENTS, DOCUMENTS, GROUP_DOCUMENTS, leads_nowhere

__all__ = [
    "BROKEN",
    "ArraySpec",
    "Node",
    "V2Codec",
    "ZipReader",
    "buffer_of",
    "bytes_in_memory",
    "chunk_key",
    "default_buffer_prototype",
    "document_fault",
    "documents_of",
    "folders_below",
    "identity_of_memory",
    "inner_array",
    "is_consolidated",
    "listed_objects",
    "node_at",
    "nodes_at",
    "numcodec_of",
    "page_of_keys",
    "pipeline_of",
    "reading_documents",
    "refuse_document",
    "remade_array",
    "resized_metadata",
    "stated_of_array",
    "sync",
    "unconsolidated",
    "unwrapped",
    "values_of",
    "with_attributes",
    "with_pipeline",
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
    """Return what is at some paths of a group, None where nothing is; all are asked for at once.

    Nothing is where a path leads out of the group.

    Raises
    ------
    ValueError
        If a document there cannot be read.
    """

    async def node_at(path: str) -> Any:
        if leads_nowhere(path):
            return None
        try:
            return await group._async_group.getitem(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise
        except KeyError as error:
            if is_consolidated(group) or isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    async def nodes() -> list[Any]:
        return await asyncio.gather(*map(node_at, paths), return_exceptions=True)

    found: list[Node | None] = []
    for path, node in zip(paths, sync(nodes()), strict=True):
        if isinstance(node, BROKEN):
            refuse_document(group.store_path / path, cast("Exception", node))
        if isinstance(node, BaseException):
            raise node
        with reading_documents(group.store_path / path):
            found.append(None if node is None else with_attributes(WRAPPERS[type(node)](node)))
    return found


def with_attributes(node: Result) -> Result:
    """Return an array or a group whose attributes are an object, which zarr does not check."""
    if not isinstance(cast("Any", node).metadata.attributes, dict):
        raise TypeError("its attributes are not an object")
    return node


def node_at(group: zarr.Group, path: str) -> Node | None:
    """Return what is at a path of a group, as `nodes_at` does."""
    return nodes_at(group, [path])[0]


WRAPPERS: dict[type, Any] = {zarr.AsyncArray: zarr.Array, zarr.AsyncGroup: zarr.Group}
# The documents that make a place an array or a group.
NODE_DOCUMENTS = {*ARRAY_DOCUMENTS.values(), *GROUP_DOCUMENTS.values()}
# Enough to say what is wrong; a document may be of any length.
LONGEST_FAULT = 300
# What zarr raises, or what it calls, for documents that are not as it expects them.
BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


@contextmanager
def reading_documents(place: StorePath) -> Iterator[None]:
    """Raise errors of documents at a place, or below it, as one that names the document.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If a document cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        # zarr also finds nothing where a document does not state what it describes; that nothing is there is frequent,
        # and is not asked for again where it takes requests.
        local = zarr.storage.LocalStore | zarr.storage.MemoryStore
        if isinstance(unwrapped(place.store), local) and document_fault(place, error)[0] in NODE_DOCUMENTS:
            refuse_document(place, error)
        raise
    except BROKEN as error:
        refuse_document(place, error)


def refuse_document(place: StorePath, error: Exception) -> NoReturn:
    """Raise an error that names the document that is in the way of opening an array or a group at a place.

    Raises
    ------
    ValueError
        In any case.
    """
    document, fault = document_fault(place, error)
    raise ValueError(
        f"the document {str(place / document)!r} cannot be read: {fault}; correct or restore it"
    ) from error


def document_fault(place: StorePath, error: Exception) -> tuple[str, str]:
    """Return the name of the document because of which nothing can be opened at a place, and what is wrong with it.

    `error` is what zarr raised.
    """
    present = []
    for name in DOCUMENTS:
        stored = sync((place / name).get(default_buffer_prototype()))
        if stored is not None:
            if fault := _fault_of_document(stored.to_bytes()):
                return name, fault
            present.append(name)
    said = f"the key {error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return present[0] if present else "", said.splitlines()[0][:LONGEST_FAULT]


def _fault_of_document(content: bytes) -> str | None:
    """Return what is wrong with a document by itself, None if it is an object in JSON."""
    try:
        value = json.loads(content.decode())
    except RecursionError:
        return "it is nested too deeply"
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 ({error})"
    except ValueError as error:
        return f"it is not JSON ({error})"
    return None if isinstance(value, dict) else f"it is not an object, but {repr(value)[:40]}"


def values_of(arrays: Iterable[zarr.Array[Any]]) -> list[np.ndarray[Any, Any]]:
    """Return all values of some small arrays, which are read at once."""

    async def values() -> list[Any]:
        return await asyncio.gather(*(array._async_array.getitem(...) for array in arrays))

    return [np.asarray(block) for block in sync(values())]


def inner_array(array: zarr.Array[Any]) -> Any:
    """Return the asynchronous array within an array."""
    return array._async_array


def remade_array(array: zarr.Array[Any], metadata: Any, place: StorePath) -> zarr.Array[Any]:
    """Return an array, configured as it is, with other metadata or in another place."""
    inner = inner_array(array)
    # Later releases than zarr 3.1.3 have the configuration under a public name.
    config = inner.config if hasattr(inner, "config") else inner._config
    return zarr.Array(type(inner)(metadata=metadata, store_path=place, config=config))


def pipeline_of(array: zarr.Array[Any]) -> Any:
    """Return what decodes and encodes the chunks of an array."""
    return array._async_array.codec_pipeline


def numcodec_of(codec: Any) -> Any:
    """Return the codec of numcodecs that a codec of zarr v3 calls, None if there is none."""
    return getattr(codec, "_codec", None)


def with_pipeline(array: zarr.Array[Any], make: Callable[[Any], Any]) -> zarr.Array[Any]:
    """Return an array, which nobody else has, with the codec pipeline that is made for its asynchronous array."""
    object.__setattr__(array._async_array, "codec_pipeline", make(array._async_array))
    return array


def resized_metadata(array: zarr.Array[Any], shape: Sequence[int]) -> Any:
    """Return the metadata that an array of another shape would have."""
    return array.metadata.update_shape(tuple(map(int, shape)))


def documents_of(metadata: Any) -> dict[str, Buffer]:
    """Return the documents that the metadata of an array or a group are stored as, by name."""
    return cast("dict[str, Buffer]", metadata.to_buffer_dict(default_buffer_prototype()))


def stated_of_array(metadata: Any) -> dict[str, Any]:
    """Return what the document of an array states, as JSON, in which a fill value of NaN equals itself."""
    document = documents_of(metadata)[ARRAY_DOCUMENTS[metadata.zarr_format]]
    return cast("dict[str, Any]", json.loads(document.to_bytes()))


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


async def page_of_keys(file_system: Any, path: str, limit: int) -> list[str]:
    """Return the first keys below a path of s3fs, by one request."""
    # A page has twice as many.
    return [found["name"] for found in await file_system._lsdir(path, max_items=limit // 2, delimiter="")]


async def folders_below(file_system: Any, path: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Yield the folders below a path of fsspec with the names of their files; each is a request."""
    async for folder, _, names in file_system._walk(path):
        yield folder, list(names)


def unwrapped(store: Store) -> Store:
    """Return what is within all wrappings of a store."""
    while isinstance(store, WrapperStore):
        store = store._store
    return store


def identity_of_memory(store: zarr.storage.MemoryStore) -> int:
    """Return a number that is the same for all stores that hold the same mapping."""
    return id(store._store_dict)


def bytes_in_memory(store: zarr.storage.MemoryStore, key: str) -> bytes | None:
    """Return a value of a store in memory, None if there is none; a request takes a hundred times as long."""
    value = store._store_dict.get(key)
    return None if value is None else value.to_bytes()


async def listed_objects(store: Any, path: str, only: str = "") -> dict[str, Any]:
    """Return what a listing of an object store tells of every object below a path, by the key below that path.

    With `only`, of the objects whose key below the path begins with it.
    """
    if isinstance(store, zarr.storage.FsspecStore):
        place = "/".join(filter(None, (store.path.strip("/"), path)))
        found = await store.fs._find("/".join(filter(None, (place, only))), detail=True, withdirs=False)
        # Paths of some file systems begin with "/", whatever was asked for.
        return {key.lstrip("/").removeprefix(f"{place}/"): told for key, told in found.items()}
    below = f"{path}/" if path else ""
    listed = await store.store.list(prefix=f"{below}{only}" or None).collect_async()
    return {told["path"].removeprefix(below): told for told in listed}


class ZipReader(zarr.storage.ZipStore):
    """A zip file that is closed with the last image that is read from it, not when garbage is collected."""

    def _sync_open(self) -> None:
        super()._sync_open()
        weakref.finalize(self, self._zf.close)
