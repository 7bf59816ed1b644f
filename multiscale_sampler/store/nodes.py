"""Opening stores, paths and URLs, and finding out where an array is stored and what it is computed from.

`source_array` and `refuse_source_in_target` look through dask graphs for the zarr arrays behind an image: the one
to read them without detours, the other so that no target destroys its own source.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname
from zipfile import BadZipFile

import dask.array as da
import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.errors import GroupNotFoundError

from ..extras import required
from ..files.arrays import FileArray
from ..tasks.dask_internals import contents_of, is_plain_view, values_in_graph
from .limits import limited_array
from .names import V2_DIMENSIONS
from .remote import (
    BRANCH,
    is_icechunk,
    is_repository,
    path_of_url,
    protocol_of,
    protocol_of_url,
    retrying,
    store_of_url,
)
from .zarr_internals import ZipReader, identity_of_memory, node_at, nodes_at, reading_documents, unwrapped

Location: TypeAlias = "tuple[str, tuple[str, ...]]"

# "The name of OME-Zarr zip files SHOULD end with `.ozx`" (RFC-9).
ZIP_ENDINGS = (".zip", ".ozx")
# obstore's stores by the protocol of their URLs, and what their settings call the place that holds all objects.
OBJECT_STORES = {"S3Store": ("s3", "bucket"), "GCSStore": ("gs", "bucket"), "AzureStore": ("az", "container_name")}


def open_node(
    store: Any,
    path: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    use_consolidated: Literal[False] | None = None,
) -> zarr.Array[Any] | zarr.Group:
    """Open a stored array or group for reading; with `use_consolidated=False`, without consolidated metadata.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    ValueError
        If a document there cannot be read.
    """
    if isinstance(store, str) and store.rpartition("::")[2].startswith(("http://", "https://")):
        required("aiohttp", f"{store} is read over HTTP, which needs aiohttp", "'multiscale-sampler[http]'")
    opened, place = _as_place(store, path, storage_options)
    if isinstance(store, zarr.Array):
        return store
    if isinstance(store, zarr.Group):
        # Read again: the group in hand does not know what was written since it was opened.
        fresh = opened_group(retrying(store.store_path.store), store.path, use_consolidated=use_consolidated)
        node = node_at(fresh, path) if path else fresh
        if node is None:
            raise FileNotFoundError(f"no zarr array or group at {path!r} in {store.store_path}")
        return node
    try:
        with reading_documents(place):
            return zarr.open(opened, mode="r", path=path, use_consolidated=use_consolidated)
    except (FileNotFoundError, GroupNotFoundError, NotADirectoryError) as error:
        inside = f" at {path!r}" if path else ""
        raise FileNotFoundError(f"no zarr array or group{inside} in {shown(store)}") from error
    except BadZipFile as error:
        raise ValueError(f"{shown(store)} is no zip file, or not all of one: {error}") from error


def place_to_open(
    store: Any, path: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> zarr.storage.StorePath:
    """Return what `open_node` would open as the path in a store that it is; no document is read.

    Raises
    ------
    FileNotFoundError
        If a zip file does not exist.
    ValueError, TypeError
        If the arguments name no place.
    """
    return _as_place(store, path, storage_options)[1]


def _as_place(
    store: Any, path: str | None, storage_options: Mapping[str, Any] | None
) -> tuple[Any, zarr.storage.StorePath]:
    """Return a place in the form that zarr takes, and as the path in a store that it is."""
    options = url_options(store, storage_options)
    if isinstance(store, zarr.Array) and path:
        raise ValueError(f"path={path!r} leads nowhere inside an array; leave it out")
    if isinstance(store, zarr.Array | zarr.Group):
        return store, _store_path(store.store_path, path)
    if not isinstance(store, Store | str | os.PathLike | zarr.storage.StorePath | Mapping) and not is_repository(store):
        raise _not_a_place(store)
    opened = as_store(store, options)
    return opened, _store_path(opened, path)


def opened_group(store: Store, path: str, *, use_consolidated: Literal[False] | None = None) -> zarr.Group:
    """Open a stored group for reading.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If its document cannot be read.
    """
    with reading_documents(zarr.storage.StorePath(store, path)):
        return zarr.open_group(store, path=path, mode="r", use_consolidated=use_consolidated)


def _store_path(place: Any, path: str | None) -> zarr.storage.StorePath:
    """Return a place in a form that zarr takes, as the path in a store that it is."""
    if isinstance(place, zarr.storage.StorePath):
        return place / path if path else place
    if isinstance(place, Path):
        return zarr.storage.StorePath(zarr.storage.LocalStore(place, read_only=True), path or "")
    store = place if isinstance(place, Store) else zarr.storage.MemoryStore(place)
    return zarr.storage.StorePath(store, path or "")


def _not_a_place(store: Any) -> TypeError:
    return TypeError(f"expected a path, a URL, or a zarr store, group or array, got {store!r}")


def local_path(store: Any) -> Path | None:
    """Return the local path that a place is written as, None if it is none."""
    if not isinstance(store, str | os.PathLike):
        return None
    text = os.fspath(store)
    if text.startswith("file://"):
        return Path(url2pathname(urlsplit(text).path))
    return None if "://" in text else Path(text)


def zip_path(store: Any) -> Path | None:
    """Return the local zip file that a place is written as, None if it is none."""
    place = local_path(store)
    return None if place is None or place.suffix.lower() not in ZIP_ENDINGS or place.is_dir() else place


def is_zip_url(store: Any) -> TypeGuard[str]:
    """Whether a place is a zip file elsewhere, by its URL."""
    remote = isinstance(store, str) and local_path(store) is None and "::" not in store
    return remote and urlsplit(store).path.lower().endswith(ZIP_ENDINGS)


def as_store(store: Any, storage_options: Mapping[str, Any] | None = None) -> Any:
    """Return a place in the form that zarr takes; requests of remote stores are made again where they fail."""
    options = url_options(store, storage_options)
    if is_zip_url(store):
        # A chain of fsspec, whose links have options of their own: the part that is asked for is fetched, not the file.
        return store_of_url(f"zip::{store}", None if options is None else {urlsplit(store).scheme: options})
    place, zipped = local_path(store), zip_path(store)
    if place is None and isinstance(store, str):
        return store_of_url(store, options)
    if isinstance(store, zarr.storage.StorePath):
        return zarr.storage.StorePath(retrying(store.store), store.path)
    if is_repository(store):
        return retrying(store.readonly_session(BRANCH).store)
    if place is None:
        return retrying(store) if isinstance(store, Store) else store
    if zipped is None:
        return place
    if not zipped.is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(store)!r}")
    return ZipReader(zipped, mode="r")


def url_options(store: Any, storage_options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the options of a URL's file system; refuse them where there is no URL."""
    if storage_options is None:
        return None
    if not isinstance(store, str) or local_path(store) is not None:
        raise ValueError(f"storage_options go with a URL of a remote store, not with {shown(store)}; leave them out")
    return dict(storage_options)


def shown(store: Any) -> str:
    """Return a place as a message names it."""
    return repr(os.fspath(store)) if isinstance(store, str | os.PathLike) else str(store)


def dimension_names(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """Return the names of an array's axes as zarr v3 or xarray store them, None unless all are named."""
    metadata = array.metadata
    names: Any = metadata.dimension_names if metadata.zarr_format == 3 else array.attrs.get(V2_DIMENSIONS)
    if not names or any(name is None for name in names):
        return None
    return tuple(map(str, names))


def storage_unit(array: zarr.Array[Any] | FileArray) -> tuple[int, ...]:
    """Return the shape of what is stored as one value: a shard, or a chunk."""
    return tuple(array.shards or array.chunks)


def is_zarr(store: Any) -> bool:
    """Whether something is a zarr store, group or array."""
    return isinstance(store, zarr.Array | zarr.Group | Store | zarr.storage.StorePath)


def arrays_at(group: zarr.Group, paths: Sequence[str]) -> list[zarr.Array[Any]]:
    """Return the arrays that a group's metadata name."""
    found = nodes_at(group, paths)
    for path, node in zip(paths, found, strict=True):
        if not isinstance(node, zarr.Array):
            raise ValueError(f"the metadata of {group.store_path} name the array {path!r}, but there is none")
    return [limited_array(node) for node in cast("list[zarr.Array[Any]]", found)]


def only_array(group: zarr.Group) -> zarr.Array[Any]:
    """Return the array that a group stands for: the only one in it that is not a coordinate.

    Raises
    ------
    ValueError
        If there is none, or several.
    """
    with reading_documents(group.store_path):
        arrays, groups = dict(group.arrays()), dict(group.groups())
    beside = f"{group.attrs.get('coordinates', '')}".split()
    images = {
        name: array
        for name, array in arrays.items()
        if array.ndim and dimension_names(array) != (name,) and name not in beside
    }
    if len(images) == 1:
        return next(iter(images.values()))
    found = ", ".join(f"{name!r} {array.shape}" for name, array in sorted(images.items())) or "none"
    below = ", ".join(repr(name) for name, _ in sorted(groups.items())) or "none"
    raise ValueError(
        f"the group {group.store_path!s} does not stand for one array (arrays: {found}; groups: {below}); "
        "name one with path="
    )


def source_array(data: Any) -> zarr.Array[Any] | None:
    """Return the zarr array that a lazy array is a plain view of, or None if it is anything else."""
    if not isinstance(data, da.Array) or not is_plain_view(data):
        return None
    arrays = list(zarr_arrays(data))
    if len(arrays) != 1:
        return None
    array = arrays[0]
    return array if array.shape == data.shape and array.dtype == data.dtype else None


def zarr_arrays(data: Any) -> Iterator[zarr.Array[Any]]:
    """Yield the zarr arrays that an array is computed from, as far as its dask graph tells."""
    return (source for source in stored_sources(data) if isinstance(source, zarr.Array))


def stored_sources(data: Any) -> Iterator[zarr.Array[Any] | FileArray]:
    """Yield the zarr arrays and arrays in files that an array is computed from, as far as its dask graph tells."""
    if not isinstance(data, da.Array):
        yield from _arrays_within(data, set())
        return
    seen: set[int] = set()
    for value in values_in_graph(data):
        yield from _arrays_within(value, seen)


def _arrays_within(value: Any, seen: set[int]) -> Iterator[zarr.Array[Any] | FileArray]:
    if id(value) in seen or isinstance(value, np.ndarray | str | bytes | int | float):
        return
    seen.add(id(value))
    if isinstance(value, zarr.Array | FileArray):
        yield value
        return
    for inner in contents_of(value):
        yield from _arrays_within(inner, seen)


def location(store: Store, path: str) -> Location:
    """Return where a node is, in a form that is equal for the same place however it is written."""
    store = unwrapped(store)
    parts = _parts(path)
    if isinstance(store, zarr.storage.LocalStore):
        return "file", Path(os.path.realpath(os.path.join(store.root, *parts))).parts
    if isinstance(store, zarr.storage.ZipStore):
        return "file", (*Path(os.path.realpath(store.path)).parts, *parts)
    if isinstance(store, zarr.storage.MemoryStore):
        return f"memory {identity_of_memory(store)}", parts
    if isinstance(store, zarr.storage.FsspecStore):
        protocol = protocol_of(store)
        if protocol == "file":
            return "file", (*Path(os.path.realpath(store.path)).parts, *parts)
        return protocol, (*_parts(store.path), *parts)
    if isinstance(store, zarr.storage.ObjectStore):
        protocol, holder = OBJECT_STORES.get(type(store.store).__name__, ("", ""))
        if protocol:
            config = {str(key): value for key, value in dict(store.store.config).items()}
            return protocol, (str(config.get(holder)), *_parts(str(store.store.prefix or "")), *parts)
    if is_icechunk(store) and not store.read_only:
        # What is not committed yet is in a session, which is of this process.
        return f"memory of session {id(cast('Any', store).session)}", parts
    return f"{type(store).__name__} {store}", parts


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def place_of(store: Any) -> Location:
    """Return where a place is, whatever form it is given in."""
    path = local_path(store)
    if path is not None:
        return "file", Path(os.path.realpath(path)).parts
    if isinstance(store, zarr.Array | zarr.Group | zarr.storage.StorePath):
        node = store if isinstance(store, zarr.storage.StorePath) else store.store_path
        return location(node.store, node.path)
    if isinstance(store, Mapping):
        return location(zarr.storage.MemoryStore(cast("Any", store)), "")
    if isinstance(store, Store):
        return location(store, "")
    if is_repository(store):
        return f"memory of repository {id(store)}", ()
    if isinstance(store, str):
        protocol = protocol_of_url(store)
        return protocol, _parts(store if "::" in store else path_of_url(store))
    raise _not_a_place(store)


def is_in_memory(place: Location) -> bool:
    """Whether a place is in the memory of this process, where no other one sees it."""
    return place[0].startswith("memory")


def refuse_source_in_target(sources: Sequence[Any], store: Any) -> None:
    """Refuse a target that holds an array which one of the sources is computed from, or lies in one.

    Raises
    ------
    ValueError
        If writing the target could destroy a source.
    """
    kind, place = place_of(store)
    for array in itertools.chain.from_iterable(map(zarr_arrays, sources)):
        other, source = location(array.store_path.store, array.path)
        if kind == other and (source[: len(place)] == place or place[: len(source)] == source):
            raise ValueError(
                f"the target {shown(store)} holds the source {array.store_path}, or lies in it; writing there could "
                "destroy it: choose another store, or add levels beside the source with add_levels"
            )
