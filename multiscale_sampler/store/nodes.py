"""Opening stores, paths and URLs, and finding out where an array is stored: all spellings of a place are one place."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname
from zipfile import BadZipFile

import zarr
from zarr.abc.store import Store
from zarr.errors import GroupNotFoundError

from ..extras import required
from ..files.arrays import FileArray
from .layout import SCRATCH
from .limits import limited_array
from .names import DOCUMENTS, V2_DIMENSIONS
from .remote import (
    BRANCH,
    PASSING_PROTOCOLS,
    is_icechunk,
    is_repository,
    path_of_url,
    place_in_file_system,
    protocol_of_url,
    retrying,
    store_of_url,
)
from .zarr_internals import (
    ZipReader,
    identity_of_memory,
    node_at,
    nodes_at,
    reading_documents,
    unwrapped,
    with_attributes,
)

# The positions of more samples along an axis would not fit into memory.
LONGEST_AXIS = 1 << 32
# More than any memory has, in bytes.
LARGEST_CHUNK = 1 << 40

Location: TypeAlias = "tuple[str, tuple[str, ...]]"

# Protocols of URLs of this machine's files.
LOCAL_PROTOCOLS = ("file", "local")
# Kinds of places that have one name each; the same object can be got by http, or through a proxy.
KNOWN_KINDS = ("file", "s3", "gs", "az")
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
            return with_attributes(zarr.open(opened, mode="r", path=path, use_consolidated=use_consolidated))
    except (FileNotFoundError, GroupNotFoundError, NotADirectoryError) as error:
        if is_unfinished(store):
            raise ValueError(
                f"{shown(store)} is a pyramid whose build has not finished; complete it by repeating the "
                "call that builds it with resume=True (--resume)"
            ) from error
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
        group = zarr.open_group(store, path=path, mode="r", use_consolidated=use_consolidated)
        return with_attributes(group)


def _store_path(place: Any, path: str | None) -> zarr.storage.StorePath:
    """Return a place in a form that zarr takes, as the path in a store that it is."""
    if isinstance(place, zarr.storage.StorePath):
        return place / path if path else place
    if isinstance(place, Path):
        return zarr.storage.StorePath(zarr.storage.LocalStore(place, read_only=True), path or "")
    store = place if isinstance(place, Store) else zarr.storage.MemoryStore(place)
    return zarr.storage.StorePath(store, path or "")


def is_unfinished(store: Any) -> bool:
    """Whether a place is a folder in which a build has begun, and nothing else is to be opened as yet."""
    kind, parts = place_of(store)
    folder = Path(*parts) if kind == "file" else None
    return (
        folder is not None and (folder / SCRATCH).is_dir() and not any((folder / name).exists() for name in DOCUMENTS)
    )


def _not_a_place(store: Any) -> TypeError:
    return TypeError(f"expected a path, a URL, or a zarr store, group or array, got {store!r}")


def local_path(store: Any) -> Path | None:
    """Return the local path that a place is written as, None if it is none."""
    if not isinstance(store, str | os.PathLike):
        return None
    text = os.fsdecode(store)
    protocol, is_url, path = text.partition("://")
    if not is_url:
        return Path(text)
    if protocol.lower() not in LOCAL_PROTOCOLS:
        return None
    return Path(url2pathname(path.removeprefix("localhost") if path.startswith("localhost/") else path))


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
    if isinstance(store, str | os.PathLike):
        return repr(os.fspath(store))
    return "a dict" if isinstance(store, Mapping) else str(store)


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
    arrays = cast("list[zarr.Array[Any]]", found)
    for array in arrays:
        check_sizes(array)
    return [limited_array(array) for array in arrays]


def check_sizes(array: zarr.Array[Any] | FileArray) -> None:
    """Refuse an array whose document states sizes that no image has.

    Raises
    ------
    ValueError
        If a chunk or the array has no sample along an axis, an axis has more than 2**32, or a chunk more than 1 TiB.
    """
    if isinstance(array, FileArray):
        return
    if 0 in array.shape or max(array.shape, default=0) > LONGEST_AXIS:
        raise ValueError(
            f"the array {array.store_path} states the shape {array.shape!r}; an image has from 1 to {LONGEST_AXIS} "
            "samples along an axis, correct its document"
        )
    try:
        unit = storage_unit(array)
    except NotImplementedError as error:
        # zarr 3.2 and newer know grids of chunks that differ in size.
        raise ValueError(
            f"the array {array.store_path} has chunks of different sizes, which are not read; store it with "
            "chunks of one size"
        ) from error
    if 0 in array.chunks or 0 in unit or math.prod(unit) * array.dtype.itemsize > LARGEST_CHUNK:
        raise ValueError(
            f"the array {array.store_path} states chunks of the shape {array.chunks!r}, stored as {unit!r}; correct "
            "its document"
        )


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


def location(store: Store, path: str) -> Location:
    """Return where a node is, in a form that is equal for the same place however it is written."""
    store = unwrapped(store)
    parts = _parts(path)
    if isinstance(store, zarr.storage.LocalStore):
        return _in_folder(store.root, *parts)
    if isinstance(store, zarr.storage.ZipStore):
        return "file", (*Path(os.path.realpath(store.path)).parts, *parts)
    if isinstance(store, zarr.storage.MemoryStore):
        return f"memory {identity_of_memory(store)}", parts
    if isinstance(store, zarr.storage.FsspecStore):
        protocol, root = place_in_file_system(store.fs, store.path)
        return _in_folder(root, *parts) if protocol == "file" else (protocol, (*_parts(root), *parts))
    if isinstance(store, zarr.storage.ObjectStore):
        return _in_object_store(store.store, parts)
    if is_icechunk(store) and not store.read_only:
        # What is not committed yet is in a session, which is of this process.
        return f"memory of session {id(cast('Any', store).session)}", parts
    return f"{type(store).__name__} {store}", parts


def _in_folder(root: Any, *parts: str) -> Location:
    return "file", Path(os.path.realpath(os.path.join(root, *parts))).parts


def _in_object_store(store: Any, parts: tuple[str, ...]) -> Location:
    """Return where a path is in one of obstore's stores."""
    name = type(store).__name__
    if name == "LocalStore":
        return _in_folder(store.prefix or os.sep, *parts)
    if name == "MemoryStore":
        return f"memory of object store {id(store)}", parts
    protocol, holder = OBJECT_STORES.get(name, (name, ""))
    config = {str(key): value for key, value in dict(getattr(store, "config", {})).items()}
    return protocol, (str(config.get(holder)), *_parts(str(getattr(store, "prefix", None) or "")), *parts)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def place_of(store: Any) -> Location:
    """Return where a place is, whatever form it is given in."""
    path = local_path(store)
    if path is not None:
        return _in_folder(path)
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
        return _place_of_url(store)
    raise _not_a_place(store)


def _place_of_url(url: str) -> Location:
    """Return where a URL leads; that of a cache, or of a part of a file system, to where it gets its values."""
    first, is_chain, rest = url.partition("::")
    protocol = protocol_of_url(url)
    if not is_chain:
        return protocol, _parts(path_of_url(url))
    if protocol in PASSING_PROTOCOLS:
        kind, parts = place_of(rest)
        return kind, (*parts, *_parts(first.partition("://")[2]))
    return protocol, _parts(url)


def is_known(place: Location) -> bool:
    """Whether a place is one of those of which there is no other name."""
    return place[0] in KNOWN_KINDS or is_in_memory(place)


def is_in_memory(place: Location) -> bool:
    """Whether a place is in the memory of this process, where no other one sees it."""
    return place[0].startswith("memory")
