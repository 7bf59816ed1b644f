"""Interrupted builds and changes in every kind of store: resuming gives the same bytes, and does nothing twice."""

import itertools
import os
import shutil
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import multiscale_sampler as ms
from multiscale_sampler.build import resuming
from multiscale_sampler.store import targets
from tests.counting import recorded_calls
from tests.data import Recording, hashes, noise

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
        if isinstance(self.store, str) and os.path.isdir(self.store):
            # Of an unfinished build too, which nothing opens.
            return hashes(self.store)
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


# --- other data ------------------------------------------------------------------------------------------------

SHAPE = (45, 61)
# Four regions, one after the other.
LITTLE: dict[str, Any] = {"scale_factors": [2, 4], "chunks": 8, "memory_limit": "10KB", "workers": 1}
REFUSED = "has stored other values for .* of level 0 than there would be now"


def values(dtype="uint16"):
    return noise(SHAPE, "uint16", seed=3).astype(dtype)


def changed(data):
    """Return data of which one value, in the region that is done first, is another."""
    other = data.copy()
    other[3, 5] += 1
    return other


def stored(data, store, path="0", **options):
    array = zarr.create_array(
        store, name=path, shape=data.shape, dtype=data.dtype, dimension_names=("y", "x"), overwrite=True, **options
    )
    array[...] = data
    return array


# By the kind of source, what makes it of an array, in a folder; made again, it has the same place.
SOURCES = {
    "numpy": lambda data, folder: data,
    "labelled": lambda data, folder: ms.to_image(data, scale=0.5, units="micrometer"),
    "reversed axes": lambda data, folder: ms.to_image(np.asfortranarray(data)[None], "xyc"[::-1]),
    "mapped": lambda data, folder: mapped(data, folder / "a.npy"),
    "folder": lambda data, folder: ms.open_image(stored(data, folder / "a", chunks=(8, 8))),
    "folder v2": lambda data, folder: stored_v2(data, folder / "a"),
    "shards": lambda data, folder: ms.open_image(stored(data, folder / "a", chunks=(4, 4), shards=(16, 16))),
    "not plain": lambda data, folder: ms.open_image(stored(data, folder / "a", chunks=(8, 8), filters=TURNED)),
    "zip": lambda data, folder: zipped(data, folder / "a.zip"),
    "fsspec": lambda data, folder: ms.open_image(stored(data, f"memory://{folder.name}", chunks=(8, 8)), dims="yx"),
    "dask of numpy": lambda data, folder: dask.array.from_array(data, chunks=(16, 16)),
    "dask of zarr": lambda data, folder: ms.open_image(stored(data, folder / "a", chunks=(8, 8))) + 1,
    "tiff": lambda data, folder: tiff(data, folder / "a.tif"),
}
TURNED = [zarr.codecs.TransposeCodec(order=(1, 0))]


def mapped(data, path):
    np.save(path, data)
    return np.load(path, mmap_mode="r")


def stored_v2(data, path):
    array = zarr.create_array(path, shape=data.shape, chunks=(8, 8), dtype=data.dtype, zarr_format=2, overwrite=True)
    array[...] = data
    return ms.open_image(path, dims="yx")


def zipped(data, path):
    path.unlink(missing_ok=True)
    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_array(store, shape=data.shape, chunks=(8, 8), dtype=data.dtype)[...] = data
    return ms.open_image(path, dims="yx")


def tiff(data, path):
    pytest.importorskip("tifffile", reason="the extra 'files' brings tifffile").imwrite(path, data)
    return ms.open_image(path)


def stopped(call, count, **options):
    with pytest.raises(StopError):
        call(progress=stopping_after(count), **options)


@pytest.mark.parametrize("places", ["path", "memory"], indirect=True)
@pytest.mark.parametrize("kind", SOURCES)
def test_write_pyramid__refuses_to_resume_with_other_data(places, kind, tmp_path):
    data, make = values(), SOURCES[kind]
    place = places()
    write = partial(ms.write_pyramid, store=place.store, **LITTLE)
    stopped(write, 2, image_or_tree=make(data, tmp_path))
    before = place.contents()
    with pytest.raises(ValueError, match=REFUSED):
        write(make(changed(data), tmp_path), resume=True)
    assert {key: value for key, value in place.contents().items() if "stamps" not in key} == {
        key: value for key, value in before.items() if "stamps" not in key
    }
    # Written again, so that times are others.
    write(make(data, tmp_path), resume=True)
    whole = places()
    write(make(data, tmp_path), store=whole.store)
    assert place.contents() == whole.contents()


def counted_regions(monkeypatch):
    """Return a list that gets every region that is compared."""
    return recorded_calls(monkeypatch, resuming._compare_region)


@pytest.mark.parametrize("how", ["moved", "copied", "copied with its times", "behind a link"])
def test_write_pyramid__resumes_with_a_source_that_is_elsewhere(tmp_path, monkeypatch, how):
    place, other = tmp_path / "raw", tmp_path / "other"
    stored(values(), place, chunks=(8, 8))
    write = partial(ms.write_pyramid, store=tmp_path / "out", **LITTLE)
    stopped(write, 2, image_or_tree=ms.open_image(place))
    match how:
        case "moved":
            place.rename(other)
        case "copied":
            shutil.copytree(place, other, copy_function=shutil.copyfile)
        case "copied with its times":
            shutil.copytree(place, other)
        case "behind a link":
            other.symlink_to(place)
    compared = counted_regions(monkeypatch)
    write(ms.open_image(other), resume=True)
    # Only where times are others is anything read again.
    assert bool(compared) is (how == "copied")
    write(ms.open_image(other), store=tmp_path / "whole")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_write_pyramid__resumes_with_a_chunk_repaired_that_was_not_read(tmp_path):
    array = stored(values(), tmp_path / "raw", chunks=(8, 8))
    write = partial(ms.write_pyramid, store=tmp_path / "out", **LITTLE)
    stopped(write, 2, image_or_tree=ms.open_image(tmp_path / "raw"))
    array[40:, 56:] = 7
    stopped(write, 4, image_or_tree=ms.open_image(tmp_path / "raw"), resume=True)
    write(ms.open_image(tmp_path / "raw"), resume=True)
    write(ms.open_image(tmp_path / "raw"), store=tmp_path / "whole")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_write_pyramid__refuses_to_resume_with_other_data_once_all_levels_are_filled(tmp_path, monkeypatch):
    write = partial(ms.write_pyramid, store=tmp_path / "out", **LITTLE)
    with monkeypatch.context() as patched:
        patched.setattr(targets.Target, "publish", raising)
        with pytest.raises(StopError):
            write(values())
    with pytest.raises(ValueError, match=REFUSED):
        write(changed(values()), resume=True)
    compared = counted_regions(monkeypatch)
    write(values(), resume=True)
    assert not compared
    write(values(), store=tmp_path / "whole")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def raising(*args, **options):
    raise StopError


def least(windows, axis=None):
    return np.min(windows, axis=axis)


def test_write_pyramid__refuses_to_resume_with_another_function_of_the_same_name(tmp_path):
    def reduced(how):
        def method(windows, axis=None):
            return how(windows, axis=axis)

        return method

    write = partial(ms.write_pyramid, values(), tmp_path / "out", **LITTLE)
    stopped(write, 2, method=reduced(np.max))
    with pytest.raises(ValueError, match="different values for method"):
        write(method=reduced(np.min), resume=True)
    with pytest.raises(ValueError, match="different values for method"):
        write(method=reduced(least), resume=True)
    write(method=reduced(np.max), resume=True)
    assert ms.open_pyramid(tmp_path / "out")["scale1/image"][0, 0] == values()[:2, :2].max()


@pytest.mark.parametrize("lazy", [False, True])
def test_write_pyramid__refuses_to_resume_with_other_weights(tmp_path, lazy):
    image = ms.to_image(values("float32"))

    def weights(data):
        made = ms.to_image(data.astype("float32"))
        return made.chunk(16) if lazy else made

    write = partial(ms.write_pyramid, image, store=tmp_path / "out", **LITTLE)
    stopped(write, 2, weights=weights(values()))
    with pytest.raises(ValueError, match=REFUSED):
        write(weights=weights(values()[::-1]), resume=True)
    write(weights=weights(values()), resume=True)
    write(weights=weights(values()), store=tmp_path / "whole")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_add_levels__refuses_to_resume_beside_a_base_that_was_edited(tmp_path):
    array = stored(values(), tmp_path / "out", chunks=(8, 8))
    add = partial(ms.add_levels, tmp_path / "out", **LITTLE)
    stopped(add, 2)
    before = int(array[3, 5])
    array[3, 5] = before ^ 0x8000
    with pytest.raises(ValueError, match=f"{REFUSED}.*new store"):
        add(resume=True)
    array[3, 5] = before
    add(resume=True)
    assert ms.verify_pyramid(tmp_path / "out").ok


@pytest.mark.parametrize("kind", ["numpy", "folder", "dask of zarr"])
def test_append_pyramid__refuses_to_resume_with_other_data(tmp_path, kind):
    make, data = SOURCES[kind], values()[:32]
    for name in ("whole", "out"):
        ms.write_pyramid(np.ones(SHAPE, "uint16"), tmp_path / name, scale_factors=[2, 4], chunks=8)
    append = partial(ms.append_pyramid, store=tmp_path / "out", dim="y", memory_limit="10KB", workers=1)
    stopped(append, 2, image=make(data, tmp_path).data)
    with pytest.raises(ValueError, match=REFUSED):
        append(make(changed(data), tmp_path).data, resume=True)
    append(make(data, tmp_path).data, resume=True)
    append(make(data, tmp_path).data, store=tmp_path / "whole")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_write_labels__refuses_to_resume_with_other_labels(tmp_path):
    ms.write_pyramid(values(), tmp_path / "out", scale_factors=[2, 4], chunks=8)
    write = partial(ms.write_labels, store=tmp_path / "out", name="cells", chunks=8, memory_limit="10KB", workers=1)
    stopped(write, 2, labels=values("uint32"))
    with pytest.raises(ValueError, match=REFUSED):
        write(changed(values("uint32")), resume=True)
    write(values("uint32"), resume=True)
    assert (ms.open_pyramid(tmp_path / "out")["labels/cells/scale0/cells"] == values("uint32")).all()


def test_update_pyramid__refuses_to_resume_after_another_edit(tmp_path):
    ms.write_pyramid(values(), tmp_path / "out", scale_factors=[2, 4], chunks=8, layout="flat")
    base = zarr.open_array(tmp_path / "out", path="0", mode="r+")
    base[:40, :40] = 5
    update = partial(
        ms.update_pyramid, tmp_path / "out", {"y": slice(40), "x": slice(40)}, memory_limit="6KB", workers=1
    )
    stopped(update, 2)
    base[3, 5] = 60000
    with pytest.raises(ValueError, match=f"{REFUSED}.*without resume=True"):
        update(resume=True)
    update()
    assert ms.verify_pyramid(tmp_path / "out").ok
