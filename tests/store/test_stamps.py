"""What shows that stored values have been replaced, in every kind of store."""

import itertools
import os

import dask.array
import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler.store import stamps as module
from multiscale_sampler.store.stamps import ANY_TIME, stamps_of_array, stamps_of_file, stamps_of_graph
from tests.data import noise

# The libraries' own: sockets that were kept for a next request.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:Unclosed:ResourceWarning")

numbers = itertools.count()
FIRST, LAST = (slice(0, 8), slice(0, 8)), (slice(8, 20), slice(8, 12))


@pytest.fixture(params=["folder", "v2", "shards", "file://", "memory", "memory://", "obstore", "s3"])
def array(request, tmp_path):
    options = {"shape": (20, 12), "chunks": (4, 4), "dtype": "uint16"}
    name = f"stamps{next(numbers)}"
    match request.param:
        case "s3":
            server = request.getfixturevalue("object_server")
            made = zarr.create_array(server.url(name), name="a/0", storage_options=server.options, **options)
        case "obstore":
            obstore = pytest.importorskip("obstore.store", reason="the extra 'test' brings obstore")
            made = zarr.create_array(zarr.storage.ObjectStore(obstore.MemoryStore()), name="0", **options)
        case "memory":
            made = zarr.create_array(zarr.storage.MemoryStore(), **options)
        case "memory://":
            made = zarr.create_array(f"memory://{name}", name="0", **options)
        case "file://":
            store = zarr.storage.FsspecStore.from_url(f"file://{tmp_path}", storage_options={"auto_mkdir": True})
            made = zarr.create_array(store, name="0", **options)
        case "shards":
            made = zarr.create_array(tmp_path / "a", shards=(8, 8), **options)
        case _:
            zarr_format = 2 if request.param == "v2" else 3
            made = zarr.create_array(tmp_path / "a", zarr_format=zarr_format, **options)
    made[...] = noise((20, 12), "uint16", seed=1)
    return made


def test_stamps_of_array__change_where_values_are_replaced(array):
    before = stamps_of_array(array)
    assert before.are_proof
    array[9, 9] += 1
    after = stamps_of_array(array)
    assert after.of_box(FIRST) == before.of_box(FIRST)
    assert after.of_box(LAST) != before.of_box(LAST)
    assert 0 < before.newest <= after.newest


def test_stamps_of_array__change_where_a_chunk_is_lost(array):
    before = stamps_of_array(array).of_box(LAST)
    array[8:] = 0
    assert stamps_of_array(array).of_box(LAST) != before


def test_stamps_of_array__are_of_the_file_in_a_zip_file(tmp_path):
    with zarr.storage.ZipStore(tmp_path / "a.zip", mode="w") as store:
        zarr.create_array(store, shape=(4, 4), chunks=(2, 2), dtype="u1")[...] = 1
    array = ms.open_image(tmp_path / "a.zip", dims="yx").data
    before = stamps_of_graph(array)
    os.utime(tmp_path / "a.zip", (1, 1))
    after = stamps_of_graph(array)
    assert after.of_box(FIRST) != before.of_box(FIRST)
    assert after.newest == 1


def test_stamps_of_array__are_unknown_where_nobody_may_list(monkeypatch, tmp_path):
    array = zarr.create_array("memory://unlisted", shape=(4, 4), dtype="u1", overwrite=True)

    async def refusing(self, path):
        raise PermissionError("no")

    monkeypatch.setattr(module.RetryingStore, "told_of_objects", refusing)
    assert stamps_of_array(array) is None


def test_stamps_of_array__are_unknown_of_very_many_chunks(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MOST_CHUNKS", 5)
    assert stamps_of_array(zarr.create_array(tmp_path / "a", shape=(5,), chunks=(1,), dtype="u1")) is not None
    assert stamps_of_array(zarr.create_array(tmp_path / "b", shape=(6,), chunks=(1,), dtype="u1")) is None


def test_stamps_of_graph__are_those_of_its_arrays_and_files(tmp_path):
    array = zarr.create_array(tmp_path / "a", shape=(4, 4), chunks=(2, 2), dtype="u1")
    array[...] = 1
    graph = dask.array.from_array(np.ones((4, 4), "u1"), chunks=2) + ms.open_image(array, dims="yx").data
    before = stamps_of_graph(graph)
    assert not before.are_proof
    array[0, 0] = 3
    assert stamps_of_graph(graph).of_box(FIRST) != before.of_box(FIRST)


def test_stamps_of_graph__of_values_in_memory_are_by_its_name():
    one, other = (stamps_of_graph(dask.array.from_array(np.full((4, 4), n), chunks=2) + 1) for n in (1, 2))
    assert one.of_box(FIRST) != other.of_box(FIRST)
    assert not one.are_proof


def test_stamps_of_graph__of_one_file_are_proof(tmp_path):
    pytest.importorskip("tifffile", reason="the extra 'files' brings tifffile").imwrite(
        tmp_path / "a.tif", np.ones((8, 8), "u1")
    )
    image = ms.open_image(tmp_path / "a.tif")
    assert stamps_of_graph(image.data).are_proof
    assert not stamps_of_graph((image + 1).data).are_proof
    assert stamps_of_graph(image.data).newest == os.stat(tmp_path / "a.tif").st_mtime


def test_stamps_of_file__are_none_without_one(tmp_path):
    assert stamps_of_file(tmp_path / "a") is None
    assert ANY_TIME > 1e300
