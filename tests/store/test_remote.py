"""Stores that fail for a moment, for good, or do not answer: a whole pyramid, or one clear error, never a wrong one."""

import asyncio
import errno
import inspect
import random

import dask
import pytest
import zarr
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import multiscale_sampler as ms
from multiscale_sampler import open_pyramid, write_pyramid
from multiscale_sampler.store.remote import Patience, RetryingStore, TargetStore, is_transient, keeps_values_whole
from tests.data import Recording, is_chunk, make_array, noise

PROTOTYPE = default_buffer_prototype()


@pytest.fixture(autouse=True)
def many_regions():
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        yield


class Unreliable(zarr.storage.WrapperStore):
    """A store of which some requests go wrong: `trouble` is asked of each, and may raise or wait."""

    def __init__(self, store, trouble):
        super().__init__(store)
        self.trouble = trouble

    def _with_store(self, store):
        return type(self)(store, self.trouble)

    async def get(self, key, prototype, byte_range=None):
        await self.trouble("get", key)
        return await super().get(key, prototype, byte_range)

    async def set(self, key, value):
        await self.trouble("set", key)
        await super().set(key, value)
        # It may be stored although its answer is lost.
        await self.trouble("set", key)

    async def exists(self, key):
        await self.trouble("exists", key)
        return await super().exists(key)

    async def delete(self, key):
        await self.trouble("delete", key)
        await super().delete(key)

    async def delete_dir(self, prefix):
        await self.trouble("delete", prefix)
        await super().delete_dir(prefix)

    async def is_empty(self, prefix):
        await self.trouble("list", prefix)
        return await super().is_empty(prefix)

    async def list_dir(self, prefix):
        await self.trouble("list", prefix)
        async for name in super().list_dir(prefix):
            yield name


def one_in(count, seed):
    """Return trouble with one request of so many, at random, and the requests that there were."""
    draw, asked = random.Random(seed), []

    async def trouble(request, key):
        asked.append(request)
        if draw.random() < 1 / count:
            raise draw.choice([ConnectionResetError("gone"), TimeoutError(), OSError("503 slow down"), RuntimeError()])

    return trouble, asked


def contents(store):
    return {key: value.to_bytes() for key, value in store.items()}


OPTIONS = {"scale_factors": [2, 4, 8], "chunks": 8, "memory_limit": "10KB", "workers": 2}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "options", [{}, {"version": "0.4", "layout": "flat"}, {"shards": 16, "memory_limit": "30KB"}], ids=str
)
def test_write_pyramid__every_20th_request_fails(seed, options):
    options = {**OPTIONS, **options}
    data, held, whole, parts = noise((61, 83)), {}, {}, {}
    make_array(held, data, chunks=(8, 8))
    write_pyramid(ms.open_image(held, "0"), whole, **options)
    source, _ = one_in(20, seed)
    target, asked = one_in(20, seed + 100)
    image = ms.open_image(Unreliable(zarr.storage.MemoryStore(held), source), "0")
    write_pyramid(image, Unreliable(zarr.storage.MemoryStore(parts), target), **options)
    assert contents(parts) == contents(whole)
    assert len(asked) > 100


@pytest.mark.parametrize("request_made", ["get", "set"])
def test_write_pyramid__one_clear_error_where_a_store_fails_for_good(request_made):
    async def trouble(request, key):
        if request == request_made and "scale1/image/c/1/1" in key.replace("raw/0", "scale1/image"):
            raise OSError("503 slow down")

    data, held, parts, whole = noise((61, 83)), {}, {}, {}
    make_array(held, data, chunks=(8, 8), path="raw/0")
    image = ms.open_image(Unreliable(zarr.storage.MemoryStore(held), trouble), "raw/0")
    with pytest.raises(OSError, match=r"failed 5 times to (get|put) '.*c/1/1.*503 slow down") as caught:
        write_pyramid(image, Unreliable(zarr.storage.MemoryStore(parts), trouble), **OPTIONS)
    notes = " ".join(caught.value.__notes__)
    assert "region" in notes
    assert "of level 0" in notes
    assert "levels 0" in notes
    assert "resume=True" in notes
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(parts)
    image = ms.open_image(held, "raw/0")
    write_pyramid(image, parts, resume=True, **OPTIONS)
    write_pyramid(image, whole, **OPTIONS)
    assert contents(parts) == contents(whole)


@pytest.mark.parametrize("where", ["source", "target", "metadata"])
def test_write_pyramid__one_clear_error_where_a_store_does_not_answer(where):
    async def trouble(request, key):
        if "hangs" in key if where == "metadata" else is_chunk(key) and key.endswith("c/2/2"):
            await asyncio.Event().wait()

    async def none(request, key):
        pass

    held, parts = {}, {}
    make_array(held, noise((61, 83)), chunks=(8, 8), path="hangs" if where == "metadata" else "0")
    settings = {"request_timeout": 0.05, "request_attempts": 2}
    with dask.config.set({f"multiscale_sampler.{key}": value for key, value in settings.items()}):
        source = Unreliable(zarr.storage.MemoryStore(held), none if where == "target" else trouble)
        target = Unreliable(zarr.storage.MemoryStore(parts), trouble if where == "target" else none)
        with pytest.raises(TimeoutError, match=r"failed 2 times to .* no answer in 0.05 s"):
            write_pyramid(ms.open_image(source, "hangs" if where == "metadata" else "0"), target, **OPTIONS)
    assert where == "metadata" or "multiscale_sampler" in str(parts["zarr.json"].to_bytes())


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError("503"), True),
        (RuntimeError("of a library"), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (OSError(errno.ENOSPC, "No space left"), False),
        (ValueError(), False),
        (type("NoCredentialsError", (Exception,), {})(), False),
    ],
)
def test_is_transient__is_what_may_work_another_time(error, transient):
    calls = []

    async def trouble(request, key):
        calls.append(request)
        if len(calls) == 1:
            raise error

    assert is_transient(error) is transient
    store = RetryingStore(Unreliable(zarr.storage.MemoryStore({}), trouble))
    if transient:
        assert sync(store.get("a", PROTOTYPE)) is None
    else:
        with pytest.raises(type(error)):
            sync(store.get("a", PROTOTYPE))
    assert len(calls) == 1 + transient


# --- every request of a store ----------------------------------------------------------------------------------

BYTES = PROTOTYPE.buffer.from_bytes(b"01234567")
RANGE = RangeByteRequest(2, 5)


class Scripted(zarr.storage.WrapperStore):
    """A store whose requests fail by what a script says, one after the other, and which remembers them."""

    def __init__(self, script=()):
        super().__init__(zarr.storage.MemoryStore())
        self.script, self.asked = list(script), []

    async def _answer(self, request, arguments, answer):
        self.asked.append((request, *arguments))
        if self.script:
            error = self.script.pop(0)
            if error is asyncio.Event:
                await error().wait()
            raise error
        return answer

    async def _names(self, request, arguments):
        for number, name in enumerate(("a", "b")):
            # A list may break off in its middle.
            yield await self._answer(request, arguments, name) if number else name

    async def get(self, key, prototype, byte_range=None):
        value = BYTES if byte_range is None else BYTES[byte_range.start : byte_range.end]
        return await self._answer("get", (key, prototype, byte_range), value)

    async def get_partial_values(self, prototype, key_ranges):
        return await self._answer("get_partial_values", (prototype, list(key_ranges)), [BYTES])

    async def exists(self, key):
        return await self._answer("exists", (key,), True)

    async def getsize(self, key):
        return await self._answer("getsize", (key,), 8)

    async def getsize_prefix(self, prefix):
        return await self._answer("getsize_prefix", (prefix,), 16)

    async def is_empty(self, prefix):
        return await self._answer("is_empty", (prefix,), False)

    async def set(self, key, value):
        return await self._answer("set", (key, value), None)

    async def set_if_not_exists(self, key, value):
        return await self._answer("set_if_not_exists", (key, value), None)

    async def delete(self, key):
        return await self._answer("delete", (key,), None)

    async def delete_dir(self, prefix):
        return await self._answer("delete_dir", (prefix,), None)

    async def clear(self):
        return await self._answer("clear", (), None)

    def list(self):
        return self._names("list", ())

    def list_prefix(self, prefix):
        return self._names("list_prefix", (prefix,))

    def list_dir(self, prefix):
        return self._names("list_dir", (prefix,))


# By method: its arguments, what is asked of the wrapped store, the words of an error for it, and the answer.
REQUESTS = {
    "get": (("k", PROTOTYPE, RANGE), ("get", "k", PROTOTYPE, RANGE), "get 'k'", BYTES[2:5]),
    "get_partial_values": (
        (PROTOTYPE, [("k", RANGE), ("l", None)]),
        ("get_partial_values", PROTOTYPE, [("k", RANGE), ("l", None)]),
        "get 'k'",
        [BYTES],
    ),
    "exists": (("k",), ("exists", "k"), "look for 'k'", True),
    "getsize": (("k",), ("getsize", "k"), "look for 'k'", 8),
    "getsize_prefix": (("p",), ("getsize_prefix", "p"), "list 'p'", 16),
    "is_empty": (("p",), ("is_empty", "p"), "list 'p'", False),
    "set": (("k", BYTES), ("set", "k", BYTES), "put 'k'", None),
    "set_if_not_exists": (("k", BYTES), ("set_if_not_exists", "k", BYTES), "put 'k'", None),
    "delete": (("k",), ("delete", "k"), "delete 'k'", None),
    "delete_dir": (("p",), ("delete_dir", "p"), "delete 'p'", None),
    "clear": ((), ("clear",), "delete ''", None),
    "list": ((), ("list",), "list ''", ["a", "b"]),
    "list_prefix": (("p",), ("list_prefix", "p"), "list 'p'", ["a", "b"]),
    "list_dir": (("p",), ("list_dir", "p"), "list 'p'", ["a", "b"]),
    "_get_many": (([("k", PROTOTYPE, RANGE)],), ("get", "k", PROTOTYPE, RANGE), "get 'k'", [("k", BYTES[2:5])]),
    "_set_many": (([("k", BYTES)],), ("set", "k", BYTES), "put 'k'", None),
}
if hasattr(Store, "get_ranges"):
    REQUESTS["get_ranges"] = (("k", [RANGE]), ("get", "k", PROTOTYPE, RANGE), "get 'k'", [((0, BYTES[2:5]),)])
# What makes no request, or is made of others in the table: it is zarr's own, and not forwarded.
NO_REQUESTS = {"open", "_open", "_ensure_open", "_get_bytes", "_get_json"}


def test_retrying_store__the_table_has_every_request_of_a_store():
    def is_request(function):
        return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)

    methods = {name for name, function in inspect.getmembers(Store) if is_request(function)}
    assert methods | {"list", "list_prefix", "list_dir"} == set(REQUESTS) | {
        name for name in NO_REQUESTS if hasattr(Store, name)
    }
    assert set(REQUESTS) <= set(vars(RetryingStore))
    assert not RetryingStore._supports_sync_io


def request(store, name):
    """Return the answer to a request, of a list or a stream all that it yields."""
    options = {"prototype": PROTOTYPE} if name == "get_ranges" else {}

    async def answered():
        found = getattr(store, name)(*REQUESTS[name][0], **options)
        return [each async for each in found] if hasattr(found, "__aiter__") else await found

    return sync(answered())


def plain(answer):
    """Return an answer with bytes in place of buffers."""
    if isinstance(answer, list | tuple):
        return [plain(each) for each in answer]
    return answer.to_bytes() if isinstance(answer, type(BYTES)) else answer


def scripted(*errors, timeout=60.0):
    inner = Scripted(errors)
    return RetryingStore(inner, Patience(attempts=3, timeout=timeout, delay=0)), inner


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_retrying_store__repeats_what_fails_for_the_moment(name, failures):
    _, asked, _, answer = REQUESTS[name]
    store, inner = scripted(*[ConnectionResetError("gone"), OSError("503")][:failures])
    assert plain(request(store, name)) == plain(answer)
    assert inner.asked == [asked] * (failures + 1)


@pytest.mark.parametrize("name", REQUESTS)
def test_retrying_store__gives_up_after_its_attempts(name):
    _, asked, words, _ = REQUESTS[name]
    store, inner = scripted(OSError("a"), OSError("b"), OSError("c"), OSError("d"))
    with pytest.raises(OSError, match=f"failed 3 times to {words}, the last time by OSError: c"):
        request(store, name)
    assert inner.asked == [asked] * 3


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("error", [PermissionError("no"), OSError(errno.ENOSPC, "full"), ValueError("wrong")], ids=repr)
def test_retrying_store__does_not_repeat_what_is_final(name, error):
    _, asked, _, _ = REQUESTS[name]
    store, inner = scripted(error)
    with pytest.raises(type(error)) as caught:
        request(store, name)
    assert caught.value is error
    assert inner.asked == [asked]


@pytest.mark.parametrize("name", REQUESTS)
def test_retrying_store__ends_what_is_not_answered(name):
    _, asked, words, answer = REQUESTS[name]
    # What goes through many requests is given as many times the time of one.
    store, inner = scripted(asyncio.Event, timeout=0.002)
    assert plain(request(store, name)) == plain(answer)
    assert inner.asked == [asked] * 2
    store, inner = scripted(*[asyncio.Event] * 3, timeout=0.002)
    with pytest.raises(TimeoutError, match=f"failed 3 times to {words}, the last time by no answer in 0.0"):
        request(store, name)
    assert inner.asked == [asked] * 3


def test_retrying_store__a_missing_value_of_several_parts_is_what_zarr_takes_for_one():
    if not hasattr(Store, "get_ranges"):
        pytest.skip("of later releases of zarr")
    store, _ = scripted(FileNotFoundError("k"))
    with pytest.raises(BaseExceptionGroup) as caught:
        request(store, "get_ranges")
    assert caught.group_contains(FileNotFoundError)


def test_retrying_store__keeps_its_patience_when_it_is_opened_otherwise():
    store = RetryingStore(zarr.storage.MemoryStore(), Patience(attempts=3, timeout=60.0, delay=0))
    assert store.with_read_only(True).patience == store.patience
    assert store.with_read_only(True).read_only


def test_patience__waits_longer_each_time_but_not_for_ever():
    patience = Patience(attempts=9, timeout=1, delay=0.5)
    pauses = [patience.pause(attempt) for attempt in range(1, 30)]
    assert all(0.25 * 2**number <= pause <= 0.5 * 2**number for number, pause in enumerate(pauses[:6]))
    assert max(pauses) <= 30


@pytest.mark.parametrize("wrong", [{"request_attempts": 0}, {"request_timeout": 0}, {"request_delay": -1}])
def test_patience__refuses_what_cannot_be(wrong):
    with (
        dask.config.set({f"multiscale_sampler.{key}": value for key, value in wrong.items()}),
        pytest.raises(ValueError, match="set positive numbers"),
    ):
        Patience.configured()


def buffer(data):
    return PROTOTYPE.buffer.from_bytes(data)


def test_target_store__asks_for_documents_once_and_not_for_what_it_wrote():
    inner = Recording(zarr.storage.MemoryStore({}))
    store = TargetStore(inner)
    for _ in range(2):
        assert sync(store.get("a/zarr.json", PROTOTYPE)) is None
        assert not sync(store.exists("a/zarr.json"))
    sync(store.set("b/zarr.json", buffer(b"1")))
    sync(store.set_if_not_exists("b/zarr.json", buffer(b"2")))
    assert sync(store.with_read_only(True).get("b/zarr.json", PROTOTYPE)).to_bytes() == b"1"
    assert inner.log["read"] == ["a/zarr.json"]
    assert inner.log["written"] == ["b/zarr.json"]
    sync(store.delete_dir("b"))
    assert sync(store.get("b/zarr.json", PROTOTYPE)) is None
    sync(store.set("c/0", buffer(b"1")))
    sync(store.delete("c/0"))
    assert sync(store.get("c/0", PROTOTYPE)).to_bytes() == b"1"


@pytest.mark.parametrize(
    ("make", "whole"),
    [
        (lambda path: zarr.storage.MemoryStore(), True),
        (lambda path: RetryingStore(Recording(zarr.storage.MemoryStore())), True),
        (lambda path: Recording(zarr.storage.LocalStore(path)), False),
    ],
)
def test_keeps_values_whole__where_a_value_appears_at_once(tmp_path, make, whole):
    assert keeps_values_whole(make(tmp_path)) is whole
