"""Interrupted builds and changes in every kind of store: resuming gives the same bytes, and does nothing twice."""

import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import multiscale_sampler as ms
from tests.data import Recording, noise

# As many regions and passes as there can be, of which the later ones read what the first ones carried.
OPTIONS: dict[str, Any] = {"scale_factors": [2, 4, 8], "memory_limit": "6KB", "workers": 2}
STORES = ("path", "zip", "local store", "memory", "obstore", "fsspec", "s3")
numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """Where a pyramid is written."""

    store: Any
    options: dict[str, Any]

    def contents(self):
        """Return the bytes of every key."""
        store = zarr.storage.ZipStore(self.store) if str(self.store).endswith(".zip") else self.store
        group = zarr.open_group(store, mode="r", storage_options=self.options.get("storage_options"))
        return sync(_contents(group.store_path.store, group.store_path.path))

    def write_base(self):
        """Write a base with a blank corner here, and return its values."""
        data = noise((45, 61), "uint16", seed=3)
        data[:20, :28] = 0
        options = self.options.get("storage_options")
        zarr.open_group(self.store, mode="w", storage_options=options)
        array = zarr.create_array(
            self.store,
            name="0",
            shape=data.shape,
            chunks=(8, 8),
            dtype=data.dtype,
            dimension_names=("y", "x"),
            storage_options=options,
        )
        array[...] = data
        return data


async def _contents(store, path):
    below = f"{path}/" if path else ""
    keys = [key async for key in store.list_prefix(below)]
    values = {key.removeprefix(below): await store.get(key, default_buffer_prototype()) for key in keys}
    return {key: value.to_bytes() for key, value in values.items()}


@pytest.fixture
def places(request, tmp_path):
    """Return a function that returns another empty place of a kind of store each time."""

    def place():
        name = f"place{next(numbers)}"
        if request.param == "s3":
            server = request.getfixturevalue("object_server")
            return Place(server.url(name), {"storage_options": server.options})
        if request.param == "obstore":
            obstore = pytest.importorskip("obstore.store", reason="the extra 'test' brings obstore")
            return Place(zarr.storage.ObjectStore(obstore.MemoryStore()), {})
        stores = {
            "path": lambda: str(tmp_path / name),
            "zip": lambda: str(tmp_path / f"{name}.zip"),
            "local store": lambda: zarr.storage.LocalStore(tmp_path / name),
            "memory": zarr.storage.MemoryStore,
            "fsspec": lambda: f"memory://{name}",
        }
        return Place(stores[request.param](), {})

    return place


@pytest.fixture(autouse=True)
def many_regions():
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        yield


class StopError(Exception):
    """What a test stops a build with."""


def stopping_after(count):
    """Return a progress callback that stops a build when it is called so often."""
    calls = itertools.count(1)

    def stop(progress):
        if next(calls) == count:
            raise StopError

    return stop


def interrupted(call, count):
    """Make a call that is stopped, then resume it; return the progress that both calls reported."""
    before, after = [], []
    stop = stopping_after(count)

    def progress(each):
        before.append(each)
        stop(each)

    with pytest.raises(StopError) as caught:
        call(progress=progress)
    assert any("resume=True" in note for note in caught.value.__notes__)
    call(progress=after.append, resume=True)
    assert after[-1].done == after[-1].total
    return before, after


def moments(count):
    """Return when to stop a build of so many regions: at its start, in the middle and at its end."""
    return sorted({1, count // 2, count - 1})


@pytest.mark.parametrize("places", STORES, indirect=True)
def test_write_pyramid__resumes_in_any_store(places):
    data = noise((45, 61), "uint16", seed=3)
    data[:20, :28] = 0
    # Counts the chunks that are read.
    source = Recording(zarr.storage.MemoryStore())
    zarr.create_array(source, name="0", shape=data.shape, chunks=(8, 8), dtype=data.dtype)[...] = data
    image = ms.open_image(source, "0")
    whole, points = places(), []
    ms.write_pyramid(image, whole.store, progress=points.append, **OPTIONS, **whole.options)
    expected = whole.contents()
    assert len(ms.plan_pyramid(image, **OPTIONS).export_passes) > 1
    for count in moments(len(points)):
        place = places()

        source.log["read"].clear()
        write = partial(ms.write_pyramid, image, place.store, **OPTIONS, **place.options)
        before, after = interrupted(write, count)
        assert len(before) == count
        assert len(after) == len(points)
        assert place.contents() == expected
        # Regions that are under way when a build is stopped are completed.
        assert set(source.chunks("read").values()) == {1}


@pytest.mark.parametrize("places", [name for name in STORES if name != "zip"], indirect=True)
def test_add_levels__resumes_in_any_store(places):
    whole, points = places(), []
    whole.write_base()
    ms.add_levels(whole.store, progress=points.append, **OPTIONS, **whole.options)
    for count in moments(len(points)):
        place = places()
        place.write_base()
        interrupted(partial(ms.add_levels, place.store, **OPTIONS, **place.options), count)
        assert place.contents() == whole.contents()


def edited(place, data, how):
    box = (slice(3, 30), slice(5, 41))
    array = zarr.open_array(place.store, path="0", mode="r+", storage_options=place.options.get("storage_options"))
    array[box] = data[box][::-1, ::-1]
    return partial(ms.update_pyramid, place.store, box, **how)


def grown(place, data, how):
    return partial(ms.append_pyramid, data[:17], place.store, "y", **how)


def rebuilt(place, data, how):
    return partial(ms.rebuild_levels, place.store, method="min", **how)


@pytest.mark.parametrize("method", ["mean", "max"])
@pytest.mark.parametrize("change", [edited, grown, rebuilt])
@pytest.mark.parametrize("places", ["memory", "obstore"], indirect=True)
def test_change__resumes_in_any_store(places, change, method):
    def prepared():
        place = places()
        data = place.write_base()
        ms.add_levels(place.store, method=method, **OPTIONS, **place.options)
        how = {"memory_limit": OPTIONS["memory_limit"], "workers": OPTIONS["workers"]}
        return place, change(place, data, {**how, **place.options})

    (whole, call), points = prepared(), []
    call(progress=points.append)
    for count in moments(len(points)):
        place, call = prepared()
        interrupted(call, count)
        assert place.contents() == whole.contents()
