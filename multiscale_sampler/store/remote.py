"""Stores behind requests, such as object stores: retries, and many requests at a time.

Requests fail for a moment, stay unanswered, and cost money and time each. `RetryingStore` asks again, and gives up
with one clear error; `TargetStore` asks no more of a store that is being built than it has to. Both wrap any store
of zarr's.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import inspect
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote, unquote

import dask
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.storage import StorePath, WrapperStore

from ..extras import required
from .names import DOCUMENTS
from .zarr_internals import (
    default_buffer_prototype,
    folders_below,
    listed_objects,
    page_of_keys,
    remade_array,
    unwrapped,
)

Answer = TypeVar("Answer")

# By protocol of a URL: the module that reaches it, and our extra that installs it.
FILE_SYSTEMS = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "gcs": ("gcsfs", "gs"),
    "az": ("adlfs", "az"),
    "abfs": ("adlfs", "az"),
    "abfss": ("adlfs", "az"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
}
# One name for the places that several protocols name.
PROTOCOLS = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "local": "file"}
# What hands on what another file system has: caches of its values, and a folder of it.
PASSING_PROTOCOLS = ("simplecache", "filecache", "blockcache", "cached", "dir")
# Of these, a value is there whole or not at all. (Of files elsewhere, a part may be.)
OBJECT_PROTOCOLS = ("s3", "gs", "az", "memory")
# A page of links need not be there, nor name all that can be got.
UNLISTED_PROTOCOLS = ("http", "https")
# Of a file system that lists a folder at a time, so many are listed to find a chunk.
MOST_FOLDERS = 16
# s3fs asks for the size of an object before it gets it, unless told not to get it in parts side by side.
S3_OPTIONS = {"asynchronous": True, "max_concurrency": 1}
# Of botocore, below s3fs: a request is made once.
S3_CONFIG = {"retries": {"total_max_attempts": 1}}
# What may stand in the path of a URL as it is, beside letters, digits, "-", "_", "." and "~" (RFC 3986).
SAFE_IN_PATHS = "/!$&'()*+,;=:@"

# Of an icechunk repository.
BRANCH = "main"

# What may go through many requests of a store is given so many times the time of one.
MANY_REQUESTS = 30
LONGEST_DELAY = 30.0

PERMANENT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FileExistsError,
    FileNotFoundError,
    ImportError,
    IsADirectoryError,
    LookupError,
    MemoryError,
    NotADirectoryError,
    NotImplementedError,
    PermissionError,
    TypeError,
    ValueError,
)
PERMANENT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EINVAL, errno.ENAMETOOLONG)
# Of libraries that need not be there (botocore, obstore), by name.
PERMANENT_NAMES = (
    "AlreadyExistsError",
    "InvalidPathError",
    "NoCredentialsError",
    "NotSupportedError",
    "PartialCredentialsError",
    "PermissionDeniedError",
    "PreconditionError",
    "UnauthenticatedError",
    "UnknownConfigurationKeyError",
)


def is_transient(error: Exception) -> bool:
    """Whether what failed may work another time; so may everything that nobody knows to be final."""
    if isinstance(error, PERMANENT) or type(error).__name__ in PERMANENT_NAMES:
        return False
    return not (isinstance(error, OSError) and error.errno in PERMANENT_ERRNOS)


@dataclass(frozen=True)
class Patience:
    """How often and for how long a store is asked; a part of dask's configuration, in ``multiscale_sampler``."""

    attempts: int
    """How often a request is made before it counts as failed: ``request_attempts``."""
    timeout: float
    """Seconds in which it is to be answered, each time: ``request_timeout``."""
    delay: float
    """Seconds before it is made again, each time twice as many: ``request_delay``."""

    @classmethod
    def configured(cls) -> Patience:
        """Return what dask's configuration says.

        Raises
        ------
        ValueError
            If that cannot be.
        """
        found = {name: dask.config.get(f"multiscale_sampler.request_{name}", default) for name, default in DEFAULTS}
        if found["attempts"] < 1 or found["timeout"] <= 0 or found["delay"] < 0:
            raise ValueError(f"the configuration multiscale_sampler of dask has {found!r}; set positive numbers")
        return cls(**found)

    def pause(self, attempt: int) -> float:
        """Return how long to wait after an attempt, the first being 1; many who wait do not come back together."""
        longest: float = min(self.delay * 2.0 ** (attempt - 1), LONGEST_DELAY)
        return longest * random.uniform(0.5, 1.0)


DEFAULTS: tuple[tuple[str, Any], ...] = (("attempts", 5), ("timeout", 120.0), ("delay", 0.5))


def _first_of(errors: BaseExceptionGroup[Any]) -> BaseException:
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


class RetryingStore(WrapperStore[Store]):
    """A store that is asked again where it fails for the moment or does not answer."""

    # Or zarr would call the wrapped store, in later releases than 3.1, by methods that do not wait.
    _supports_sync_io = False

    def __init__(self, store: Store, patience: Patience | None = None) -> None:
        super().__init__(store)
        self.patience = patience or Patience.configured()

    def _with_store(self, store: Store) -> RetryingStore:
        return type(self)(store, self.patience)

    def with_read_only(self, read_only: bool = False) -> RetryingStore:
        """Return the store to be only read, or written too; zarr's own wrappers do it from 3.1.6 on."""
        return self._with_store(self._store.with_read_only(read_only))

    def __str__(self) -> str:
        """Return what messages call the store: the name of what it wraps."""
        return str(self._store)

    async def _ask(self, request: str, key: str, call: Callable[[], Awaitable[Answer]], *, times: int = 1) -> Answer:
        """Return what a call returns, the first time that it does.

        Raises
        ------
        OSError, TimeoutError
            If it never did.
        """
        timeout = self.patience.timeout * times
        for attempt in range(1, self.patience.attempts + 1):
            try:
                async with asyncio.timeout(timeout):
                    return await call()
            except Exception as error:
                if not is_transient(error):
                    raise
                if attempt == self.patience.attempts:
                    said = f"{type(error).__name__}: {error}" if str(error) else f"no answer in {timeout:g} s"
                    kind = TimeoutError if isinstance(error, TimeoutError) else OSError
                    raise kind(
                        f"{self} failed {attempt} times to {request} {key!r}, the last time by {said}; see to the store"
                    ) from error
            await asyncio.sleep(self.patience.pause(attempt))
        raise AssertionError("a request is made at least once")

    async def _listed(self, key: str, names: Callable[[], AsyncIterator[str]]) -> list[str]:
        async def collect() -> list[str]:
            return [name async for name in names()]

        return await self._ask("list", key, collect, times=MANY_REQUESTS)

    async def is_empty(self, prefix: str) -> bool:
        """Return whether nothing is stored below a prefix."""
        return await self._ask("list", prefix, lambda: self._store.is_empty(prefix))

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a value or a part of it."""
        return await self._ask("get", key, lambda: self._store.get(key, prototype, byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of values."""
        ranges = list(key_ranges)
        first = ranges[0][0] if ranges else ""
        return await self._ask("get", first, lambda: self._store.get_partial_values(prototype, ranges))

    async def get_ranges(
        self, key: str, byte_ranges: Sequence[ByteRequest | None], **options: Any
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Yield parts of a value with their numbers, those that lie close together got by one request.

        Later releases than zarr 3.1 read parts of shards by it, of the wrapped store unless told otherwise.
        """
        ranges: Any = Store
        chosen = {name: value for name, value in options.items() if value is not None}
        try:
            async for group in ranges.get_ranges(self, key, byte_ranges, **chosen):
                yield group
        except BaseExceptionGroup as errors:
            # zarr takes a group of those for a value that is not there.
            _, others = errors.split((FileNotFoundError, asyncio.CancelledError))
            if others is None:
                raise
            raise _first_of(others) from None

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        return await self._ask("look for", key, lambda: self._store.exists(key))

    async def getsize(self, key: str) -> int:
        """Return the number of bytes of a value."""
        return await self._ask("look for", key, lambda: self._store.getsize(key))

    async def getsize_prefix(self, prefix: str) -> int:
        """Return the number of bytes of all values below a prefix."""
        return await self._ask("list", prefix, lambda: self._store.getsize_prefix(prefix), times=MANY_REQUESTS)

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value."""
        await self._ask("put", key, lambda: self._store.set(key, value))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value where there is none."""
        await self._ask("put", key, lambda: self._store.set_if_not_exists(key, value))

    async def delete(self, key: str) -> None:
        """Delete a value."""
        await self._ask("delete", key, lambda: self._store.delete(key))

    async def delete_dir(self, prefix: str) -> None:
        """Delete what is below a prefix."""
        await self._ask("delete", prefix, lambda: self._store.delete_dir(prefix), times=MANY_REQUESTS)

    async def clear(self) -> None:
        """Delete everything."""
        await self._ask("delete", "", self._store.clear, times=MANY_REQUESTS)

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        # Those of the wrapped store would pass by here.
        for request in requests:
            yield request[0], await self.get(*request)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        await asyncio.gather(*(self.set(key, value) for key, value in values))

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        for name in await self._listed("", self._store.list):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a prefix."""
        for name in await self._listed(prefix, lambda: self._store.list_prefix(prefix)):
            yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names right below a prefix."""
        for name in await self._listed(prefix, lambda: self._store.list_dir(prefix)):
            yield name

    async def told_of_objects(self, path: str, only: str = "") -> dict[str, Any]:
        """Return what an object store tells of every object below a path, or of one, by the key below that path."""
        return await self._ask("list", path, lambda: listed_objects(self._store, path, only), times=MANY_REQUESTS)


class TargetStore(RetryingStore):
    """A store in which a build writes, and nobody else: what is known of it is not asked for.

    Documents of metadata are remembered, and so is that there are none. Values of arrays are new: those that zarr
    would delete, because they are all fill, have never been there.
    """

    def __init__(
        self, store: Store, patience: Patience | None = None, documents: dict[str, Buffer | None] | None = None
    ) -> None:
        super().__init__(store, patience)
        self._documents = {} if documents is None else documents

    def _with_store(self, store: Store) -> TargetStore:
        return type(self)(store, self.patience, self._documents)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a value or a part of it."""
        if byte_range is not None or not is_document(key):
            return await super().get(key, prototype, byte_range)
        if key not in self._documents:
            self._documents[key] = await super().get(key, prototype)
        return self._documents[key]

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        if not is_document(key):
            return await super().exists(key)
        return await self.get(key, default_buffer_prototype()) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value."""
        self._documents.pop(key, None)
        await super().set(key, value)
        if is_document(key):
            self._documents[key] = value

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value where there is none."""
        if not await self.exists(key):
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """Delete a document of metadata; of values, see the class."""
        if is_document(key):
            await super().delete(key)
            self._documents[key] = None

    async def delete_dir(self, prefix: str) -> None:
        """Delete what is below a prefix."""
        await super().delete_dir(prefix)
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        self._documents.update({key: None for key in self._documents if key.startswith(below)})

    async def clear(self) -> None:
        """Delete everything."""
        await super().clear()
        self._documents.clear()


class QuotingStore(WrapperStore[Store]):
    """A store over HTTP, where keys are parts of URLs: what else would be a fragment or a query is quoted.

    Unquoted, a key with ``#``, ``?`` or ``%`` asks for something else, which mostly is not there, and what is not there
    counts as fill.
    """

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a value or a part of it."""
        return await self._store.get(_quoted(key), prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of values."""
        return await self._store.get_partial_values(prototype, [(_quoted(key), part) for key, part in key_ranges])

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        return await self._store.exists(_quoted(key))

    async def getsize(self, key: str) -> int:
        """Return the number of bytes of a value."""
        return await self._store.getsize(_quoted(key))

    async def is_empty(self, prefix: str) -> bool:
        """Return whether nothing is stored below a prefix."""
        return await self._store.is_empty(_quoted(prefix))

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a prefix."""
        async for key in self._store.list_prefix(_quoted(prefix)):
            yield unquote(key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names right below a prefix."""
        async for name in self._store.list_dir(_quoted(prefix)):
            yield unquote(name)


def _quoted(key: str) -> str:
    return quote(key, safe=SAFE_IN_PATHS)


def quoting(store: Store) -> Store:
    """Return a store that quotes keys if it is one over HTTP, any other as it is."""
    over_http = isinstance(store, zarr.storage.FsspecStore) and store.path.startswith(("http://", "https://"))
    return QuotingStore(store) if over_http else store


class UnreadStore(WrapperStore[Store]):
    """A store of which nothing is known: zarr reads a shard before it writes it, even if all of it is new."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return nothing."""
        return None


def is_document(key: str) -> bool:
    """Whether a key is that of metadata."""
    return key.rpartition("/")[2] in DOCUMENTS


def is_remote(store: Store) -> bool:
    """Whether a store is reached by requests: it is no folder, no zip file, no memory."""
    return not isinstance(store, zarr.storage.LocalStore | zarr.storage.MemoryStore | zarr.storage.ZipStore)


def without_memory(store: Store) -> Store:
    """Return a store that is asked again for documents that a build remembers."""
    return RetryingStore(store._store, store.patience) if isinstance(store, TargetStore) else retrying(store)


async def some_keys(store: Store, path: str, limit: int) -> list[str]:
    """Return up to about so many of the keys below a path, relative to it; none if the store does not list them.

    Object stores are asked for one page.
    """
    if isinstance(store, RetryingStore):
        return await store._ask("list", path, lambda: some_keys(store._store, path, limit))
    try:
        found = await _first_keys(unwrapped(store), path, limit)
    except (FileNotFoundError, NotImplementedError, PermissionError):
        return []
    return found


async def _first_keys(store: Store, path: str, limit: int) -> list[str]:
    keys: list[str] = []
    if not isinstance(store, zarr.storage.FsspecStore):
        below = f"{path}/" if path else ""
        async for key in store.list_prefix(below):
            keys.append(key.removeprefix(below))
            if len(keys) >= limit:
                break
        return keys
    root = "/".join(part for part in (store.path, path) if part)
    if protocol_of(store) in UNLISTED_PROTOCOLS:
        return keys
    if lists_at_once(store):
        return [name.removeprefix(f"{root}/") for name in await page_of_keys(store.fs, root, limit)]
    folders = 0
    async for folder, names in folders_below(store.fs, root):
        inside = folder.removeprefix(root).strip("/")
        keys += [f"{inside}/{name}" if inside else name for name in names]
        folders += 1
        if len(keys) >= limit or folders >= MOST_FOLDERS:
            break
    return keys


def lists_at_once(store: Store) -> bool:
    """Whether one request to a store lists keys at any depth."""
    store = unwrapped(store)
    if isinstance(store, zarr.storage.FsspecStore):
        return protocol_of(store) == "s3"
    return isinstance(store, zarr.storage.ObjectStore)


def retrying(store: Store) -> Store:
    """Return a store that is asked again where requests can fail, any other as it is."""
    return RetryingStore(quoting(store)) if is_remote(store) and not isinstance(store, RetryingStore) else store


def as_target(store: Store) -> Store:
    """Return a store as a build writes into it."""
    if isinstance(store, TargetStore) or not is_remote(store):
        return store
    if isinstance(store, RetryingStore):
        return TargetStore(store._store, store.patience)
    return TargetStore(quoting(store))


def retried_array(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array whose store is asked again where requests can fail."""
    return _array_through(array, retrying(array.store_path.store))


def unread_array(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array for writing whole shards, which are not read before if that is a request."""
    store = array.store_path.store
    return _array_through(array, UnreadStore(store)) if array.shards and is_remote(store) else array


def _array_through(array: zarr.Array[Any], store: Store) -> zarr.Array[Any]:
    place = array.store_path
    if store is place.store:
        return array
    return remade_array(array, array.metadata, StorePath(store, place.path))


def keeps_values_whole(store: Store) -> bool:
    """Whether a value is in a store whole or not at all, whenever its writer is stopped."""
    store = unwrapped(store)
    if isinstance(store, zarr.storage.FsspecStore):
        return protocol_of(store) in OBJECT_PROTOCOLS
    return isinstance(store, zarr.storage.MemoryStore | zarr.storage.ObjectStore) or is_icechunk(store)


def is_icechunk(store: Any) -> bool:
    """Whether something is of icechunk, which need not be installed."""
    return type(store).__module__.partition(".")[0] == "icechunk"


def is_repository(store: Any) -> bool:
    """Whether something is a repository of icechunk's."""
    return is_icechunk(store) and type(store).__name__ == "Repository"


@contextmanager
def transaction(store: Any, said: str) -> Iterator[Any]:
    """Yield where to write: of an icechunk repository a session, which ends in one commit of all, or in none."""
    if not is_repository(store):
        yield store
        return
    session = store.writable_session(BRANCH)
    yield session.store
    if session.has_uncommitted_changes:
        session.commit(said)


def protocol_of(store: zarr.storage.FsspecStore) -> str:
    """Return the protocol of a file system, by one name of several."""
    return place_in_file_system(store.fs, store.path)[0]


def place_in_file_system(fs: Any, path: str) -> tuple[str, str]:
    """Return the protocol and the path by which a file system gets its values, behind caches and other wrappings."""
    while True:
        name = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        if (wrapped := getattr(fs, "sync_fs", None)) is not None:
            fs = wrapped
        elif name in PASSING_PROTOCOLS:
            path = f"{fs.path}/{path}" if name == "dir" else path
            fs = fs.fs
        else:
            return PROTOCOLS.get(name, name), path


def protocol_of_url(url: str) -> str:
    """Return the protocol of a URL, by one name of several.

    Raises
    ------
    ModuleNotFoundError
        If a package that reaches it is missing: what installs it.
    ValueError
        If nothing reaches it.
    """
    # "simplecache::s3://..." is a file system before another.
    protocol = url.partition("::" if "::" in url else "://")[0]
    module, extra = FILE_SYSTEMS.get(protocol, ("fsspec", "s3"))
    install = f"'multiscale-sampler[{extra}]'"
    fsspec = required("fsspec", f"places as {url!r} need fsspec", install)
    required(module, f"{protocol}:// needs {module}", install)
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        known = ", ".join(f"{name}://" for name in FILE_SYSTEMS)
        raise ValueError(f"{url!r} has a protocol that is not known ({error}); use one of {known}") from error
    return PROTOCOLS.get(protocol, protocol)


def path_of_url(url: str) -> str:
    """Return the path that a URL names in its file system, whose protocol `protocol_of_url` knows."""
    core = required("fsspec.core", f"places as {url!r} need fsspec", "fsspec")
    return str(core.strip_protocol(url))


def store_of_url(url: str, options: dict[str, Any] | None) -> Store:
    """Return the store at a URL; requests to it are repeated here, and below as seldom as libraries allow."""
    if protocol_of_url(url) != "s3":
        try:
            return retrying(zarr.storage.FsspecStore.from_url(url, storage_options=options))
        except TypeError as error:
            raise ValueError(
                f"{url!r} cannot be opened with the storage options {options!r}: {error}; pass those that its file "
                "system requires"
            ) from error
    chosen = {**S3_OPTIONS, **(options or {})}
    chosen["config_kwargs"] = {**S3_CONFIG, **(chosen.get("config_kwargs") or {})}
    return RetryingStore(zarr.storage.FsspecStore(s3_file_system(chosen), path=path_of_url(url)))


def s3_file_system(options: Mapping[str, Any]) -> Any:
    """Return a file system of s3fs that makes every request once."""
    return _s3_class()(**options)


@functools.cache
def _s3_class() -> Any:
    base: Any = required("s3fs", "s3:// needs s3fs", "'multiscale-sampler[s3]'").S3FileSystem

    class S3FileSystem(base):  # type: ignore[misc]  # s3fs has no types
        """S3 without the retries of s3fs, which has no option for them."""

        retries = 1

        def __reduce__(self) -> tuple[Any, ...]:
            """Return how to make it again elsewhere, where a class that is made in a function is not found."""
            return s3_file_system, (self.storage_options,)

    return S3FileSystem


def in_one_commit(function: Callable[P, None]) -> Callable[P, None]:
    """Decorate a function so that its writes to an icechunk repository are one commit, or none if it fails."""

    @functools.wraps(function)
    def committing(*args: P.args, **kwargs: P.kwargs) -> None:
        call = inspect.signature(function).bind(*args, **kwargs)
        store = call.arguments["store"]
        with naming_place(store), transaction(store, f"multiscale_sampler.{function.__name__}") as within:
            call.arguments["store"] = within
            function(*call.args, **call.kwargs)

    return committing


@contextmanager
def naming_place(store: Any) -> Iterator[None]:
    """Name a store in errors of the operating system that name no file, as those of writing to a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno and error.strerror == os.strerror(error.errno):
            error.filename = os.fspath(store) if isinstance(store, str | os.PathLike) else str(store)
        raise


P = ParamSpec("P")
