"""Stores that fail for a moment, for good, or do not answer: a whole pyramid, or one clear error, never a wrong one."""

import asyncio
import errno
import random

import dask
import pytest
import zarr
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
