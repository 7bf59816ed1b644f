"""Once, and the same: every chunk of a base is decoded once, every chunk or shard is written once, by one writer; and
the bits are those of one worker, whatever the workers, and wherever a build was interrupted."""

import itertools
import math
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from multiscale_sampler import add_levels, open_image, open_pyramid, plan_pyramid, write_pyramid
from multiscale_sampler.store.chunks import Chunks

from .data import Recording, hashes, make_array

# A list of a small image may end early, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:scale_factors:UserWarning")

# Several builds each.
fewer = settings(max_examples=settings.default.max_examples // 3)

LADDERS = ([2], [3], [2, 4], [2, 3], [2, 4, 8], [3, 4, 6], [{"x": 2}, {"y": 3, "x": 4}])


@dataclass(frozen=True)
class Case:
    """A base as it is stored, and how its pyramid is to be built."""

    base: np.ndarray
    stored: dict
    options: dict
    levels: tuple
    regions: int

    def image_in(self, store, **options):
        return make_array(store, self.base, dims=("z", "y", "x")[-self.base.ndim :], **self.stored, **options)


@st.composite
def cases(draw, sharded=True):
    """Bases of two or three axes, with chunks, shards, ladders, workers and memory of all kinds."""
    rank = draw(st.integers(2, 3))
    longest = 40 if rank == 2 else 14
    shape = tuple(draw(st.integers(3, longest)) for _ in range(rank))
    stored, levels = draw(grids(shape, sharded)), draw(grids(shape, sharded))
    options = {"scale_factors": draw(st.sampled_from(LADDERS)), "workers": draw(st.sampled_from((1, 2, 5)))}
    if draw(st.booleans()):
        options |= levels if levels.get("shards") else {**levels, "shards": False}
    # No voxel is zero, the fill value: what is all fill is not stored.
    base = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 255, shape, "uint16")
    image = open_image(make_array({}, base, dims=("z", "y", "x")[-rank:], **stored))
    if draw(st.booleans()):
        options["memory_limit"] = tight(image, options)
    planned = plan_pyramid(image, **options)
    passes = planned.export_passes
    sizes = [planned.levels[pass_.source].shape for pass_ in passes]
    regions = [math.prod(map(ceil, size, pass_.region)) for size, pass_ in zip(sizes, passes, strict=True)]
    return Case(base, stored, options, planned.levels, sum(regions))


def ceil(a, b):
    return -(-a // b)


@st.composite
def grids(draw, shape, sharded):
    """Chunks of a few samples, in shards of a few chunks or none."""
    chunks = tuple(draw(st.integers(2, min(7, size))) if size > 2 else size for size in shape)
    if not sharded or not draw(st.booleans()):
        return {"chunks": chunks}
    return {"chunks": chunks, "shards": tuple(chunk * draw(st.integers(1, 3)) for chunk in chunks)}


def tight(image, options):
    """Return the least memory (within a factor) that lets the base be read once."""
    for limit in (int(1000 * 1.5**number) for number in range(40)):
        try:
            planned = plan_pyramid(image, **options, memory_limit=limit)
        except ValueError:
            continue
        if all(reads_once(planned, passes) for passes in (planned.passes, planned.export_passes)):
            return limit
    raise AssertionError("no memory was enough")


def reads_once(planned, passes):
    """Whether a plan reads the base in one pass, in regions of whole chunks."""
    of_base = [pass_ for pass_ in passes if pass_.source == 0]
    sizes = zip(planned.levels[0].shape, planned.source_chunks, strict=True)
    return len(of_base) == 1 and all(
        along % chunk == 0 or along == size for along, (size, chunk) in zip(of_base[0].region, sizes, strict=True)
    )


@pytest.fixture(autouse=True)
def many_regions():
    """Let regions be as small as chunks allow: those of images that a test can hold would be one."""
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        yield


class Counting(Recording):
    """A store that also records which part of a key was read: an inner chunk of a shard, or its index."""

    async def get(self, key, prototype, byte_range=None):
        self.log["parts"].append((key, str(byte_range)))
        return await super().get(key, prototype, byte_range)


def counting(store):
    return Counting(store, {"read": [], "parts": [], "written": [], "refused": None})


def keys_of(levels, paths):
    """Return the key of every chunk or shard of some levels."""
    for level, path in zip(levels, paths, strict=True):
        unit = level.shards or level.chunks
        for index in itertools.product(*(range(ceil(n, u)) for n, u in zip(level.shape, unit, strict=True))):
            yield "/".join([path, "c", *map(str, index)])


def assert_once(written, keys):
    """Hold that the chunks and shards of all levels were written, each once; and carried states and marks too."""
    assert written.keys() >= set(keys)
    assert set(written.values()) == {1}


# --- through zarr ----------------------------------------------------------------------------------------------


@given(case=cases())
def test_write_pyramid__reads_each_chunk_once_and_writes_each_chunk_or_shard_once(case):
    source, target = counting(zarr.storage.MemoryStore()), counting(zarr.storage.MemoryStore())
    image = open_image(case.image_in(source))
    source.log["parts"].clear()
    source.log["read"].clear()
    write_pyramid(image, target, layout="flat", **case.options)
    unit = case.stored.get("shards") or case.stored["chunks"]
    assert len(source.chunks("read")) == math.prod(map(ceil, case.base.shape, unit))
    assert max(Counter(source.log["parts"]).values()) == 1
    assert_once(target.chunks("written"), keys_of(case.levels, map(str, range(len(case.levels)))))


@given(case=cases())
def test_add_levels__reads_each_chunk_once_and_writes_each_chunk_or_shard_once(case):
    store = counting(zarr.storage.MemoryStore())
    case.image_in(store)
    for log in store.log.values():
        if log is not None:
            log.clear()
    add_levels(store, **case.options)
    parts = Counter((key, part) for key, part in store.log["parts"] if key.startswith("0/c/"))
    unit = case.stored.get("shards") or case.stored["chunks"]
    assert len({key for key, _ in parts}) == math.prod(map(ceil, case.base.shape, unit))
    assert max(parts.values()) == 1
    assert_once(store.chunks("written"), keys_of(case.levels[1:], map(str, range(1, len(case.levels)))))


# --- local chunks, which do not go through zarr ----------------------------------------------------------------


@pytest.fixture
def touched(monkeypatch):
    """Count, by path, the chunks that are decoded, and those that are written, as they were copied or encoded."""
    decoded, written = Counter(), Counter()
    read, store = Chunks.read, Chunks._store

    def counted_read(self, index, out):
        decoded[self.path(index)] += 1
        return read(self, index, out)

    def counted_store(self, index, encoded):
        written[self.path(index)] += 1
        store(self, index, encoded)

    monkeypatch.setattr(Chunks, "read", counted_read)
    monkeypatch.setattr(Chunks, "_store", counted_store)
    return decoded, written


def below(folder, counts):
    """Return the counts of the files below a folder, by relative path."""
    return Counter({str(Path(path).relative_to(folder)): n for path, n in counts.items() if path.startswith(folder)})


# Where a build in a folder writes, before all takes its place.
STAGE = "multiscale_sampler_build/new"


@given(case=cases(sharded=False))
def test_write_pyramid__local_chunks_are_decoded_once_and_written_once(touched, case):
    decoded, written = touched
    with tempfile.TemporaryDirectory() as folder:
        image = open_image(case.image_in(f"{folder}/source"))
        decoded.clear()
        written.clear()
        write_pyramid(image, f"{folder}/target", layout="flat", **case.options)
        reads = below(f"{folder}/source", decoded)
        assert len(reads) == math.prod(map(ceil, case.base.shape, case.stored["chunks"]))
        assert max(reads.values()) == 1
        assert_once(below(f"{folder}/target/{STAGE}", written), keys_of(case.levels, map(str, range(len(case.levels)))))


@given(case=cases(sharded=False))
def test_add_levels__local_chunks_are_decoded_once_and_written_once(touched, case):
    decoded, written = touched
    with tempfile.TemporaryDirectory() as folder:
        case.image_in(f"{folder}/a")
        zarr.open_group(f"{folder}/a")
        decoded.clear()
        written.clear()
        add_levels(f"{folder}/a", **case.options)
        reads = below(f"{folder}/a/0", decoded)
        assert len(reads) == math.prod(map(ceil, case.base.shape, case.stored["chunks"]))
        assert max(reads.values()) == 1
        assert_once(
            below(f"{folder}/a/{STAGE}", written), keys_of(case.levels[1:], map(str, range(1, len(case.levels))))
        )


# --- the same bits ---------------------------------------------------------------------------------------------


class StopError(Exception):
    """What a progress callback stops a build with."""


def stop_after(count):
    """Return a progress callback that fails when it is told of the region after `count`."""
    told = itertools.count()

    def stop(progress):
        if next(told) >= count:
            raise StopError

    return stop


@fewer
@given(case=cases(), data=st.data())
def test_write_pyramid__the_same_bits_whatever_the_workers_fresh_and_resumed(case, data):
    with tempfile.TemporaryDirectory() as folder:
        image = open_image(case.image_in(f"{folder}/source"))
        options = {**case.options, "layout": data.draw(st.sampled_from(("flat", "datatree")))}
        write_pyramid(image, f"{folder}/1", **{**options, "workers": 1, "memory_limit": None})
        bits = hashes(f"{folder}/1")
        for workers in (2, 5):
            write_pyramid(image, f"{folder}/{workers}", **{**options, "workers": workers, "memory_limit": None})
            assert hashes(f"{folder}/{workers}") == bits
        stop = data.draw(st.integers(0, case.regions - 1))
        with pytest.raises(StopError):
            write_pyramid(image, f"{folder}/parts", **options, progress=stop_after(stop))
        with pytest.raises(ValueError, match="has not finished"):
            open_pyramid(f"{folder}/parts")
        again = {**options, "workers": data.draw(st.sampled_from((1, 2, 5))), "memory_limit": None}
        write_pyramid(image, f"{folder}/parts", resume=True, **again)
        assert hashes(f"{folder}/parts") == bits


@fewer
@given(case=cases(), refused=st.integers(0, 10**6))
def test_write_pyramid__the_same_bits_after_a_store_failed(case, refused):
    keys = sorted(keys_of(case.levels, map(str, range(len(case.levels)))))
    whole, parts = {}, {}
    image = open_image(case.image_in({}))
    write_pyramid(image, whole, layout="flat", **case.options)
    store = counting(zarr.storage.MemoryStore(parts))
    store.log["refused"] = keys[refused % len(keys)]
    with pytest.raises(OSError, match="no space left"):
        write_pyramid(image, store, layout="flat", **case.options)
    write_pyramid(image, parts, layout="flat", resume=True, **case.options)
    assert {key: value.to_bytes() for key, value in parts.items()} == {
        key: value.to_bytes() for key, value in whole.items()
    }
