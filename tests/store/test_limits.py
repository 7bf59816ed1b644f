"""Chunks that decode to more than they should, or to nothing: refused in bounded memory, by name."""

import pickle
import tracemalloc
from functools import partial

import dask.array as da
import numcodecs
import numpy as np
import pytest
import zarr
import zstandard
from zarr import codecs
from zarr.codecs import numcodecs as by_numcodecs

from multiscale_sampler import open_image, open_pyramid, verify_pyramid, write_pyramid
from multiscale_sampler.cli import main
from multiscale_sampler.store.chunks import Access
from multiscale_sampler.store.limits import decoded_within, limited_array

SHAPE, CHUNK = (32, 32), (16, 16)
DATA = np.arange(1024, dtype="uint8").reshape(SHAPE)
BOMB_BYTES, MOST_BYTES = 1 << 25, 12 << 20
BOMB = np.zeros(BOMB_BYTES, "uint8")

COMPRESSORS = {
    "zstd": numcodecs.Zstd(),
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "blosc": numcodecs.Blosc("zstd"),
    "blosc lz4": numcodecs.Blosc("lz4"),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(),
    # A decoder of LZMA has a dictionary of 8 MiB by default.
    "lzma": numcodecs.LZMA(preset=1),
}
V3 = {
    "zstd": codecs.ZstdCodec,
    "gzip": codecs.GzipCodec,
    "blosc": codecs.BloscCodec,
    "zlib": by_numcodecs.Zlib,
    "bz2": by_numcodecs.BZ2,
    "lzma": partial(by_numcodecs.LZMA, preset=1),
    "lz4": by_numcodecs.LZ4,
}
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")


def zstd_without_size(data):
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return stream.compress(data) + stream.flush()


def v2(place, name, **options):
    array = zarr.create_array(
        place, shape=SHAPE, chunks=CHUNK, dtype="uint8", zarr_format=2, compressors=COMPRESSORS[name], **options
    )
    array[...] = DATA
    return array


def v3(place, name, **options):
    array = zarr.create_array(place, shape=SHAPE, chunks=CHUNK, dtype="uint8", compressors=V3[name](), **options)
    array[...] = DATA
    return array


def replaced(array, key, content):
    """Put bytes in the place of a chunk, wherever the array is."""
    store = array.store_path.store
    if isinstance(store, zarr.storage.MemoryStore):
        store._store_dict[key] = type(store._store_dict[key]).from_bytes(content)
    else:
        (store.root / key).write_bytes(content)


def refused(read, match):
    """Check that reading is refused, and takes little memory."""
    # What the first call imports is not of the chunk.
    with pytest.raises(ValueError, match=match):
        read()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match) as caught:
            read()
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("is_local", [True, False], ids=["folder", "memory"])
@pytest.mark.parametrize("name", list(COMPRESSORS))
def test_bombs__of_zarr_v2(tmp_path, name, is_local):
    array = v2(tmp_path if is_local else zarr.storage.MemoryStore(), name)
    np.testing.assert_array_equal(Access.of(array).read((slice(0, 32), slice(0, 32))), DATA)
    replaced(array, "1.0", bytes(COMPRESSORS[name].encode(BOMB)))
    refused(
        lambda: Access.of(array).read((slice(0, 32), slice(0, 32))), r"1\.0' is damaged|1\.0' of the array .*is damaged"
    )
    refused(lambda: open_image(array).compute(scheduler="sync"), r"1\.0' of the array .*is damaged: it holds")


@pytest.mark.parametrize("is_local", [True, False], ids=["folder", "memory"])
@pytest.mark.parametrize("name", list(V3))
def test_bombs__of_zarr_v3(tmp_path, name, is_local):
    array = v3(tmp_path if is_local else zarr.storage.MemoryStore(), name)
    np.testing.assert_array_equal(Access.of(array).read((slice(0, 32), slice(0, 32))), DATA)
    replaced(array, "c/1/0", bytes(COMPRESSORS[name].encode(BOMB)))
    refused(lambda: Access.of(array).read((slice(0, 32), slice(0, 32))), r"c/1/0' .*is damaged: it h")


@pytest.mark.parametrize("is_local", [True, False], ids=["folder", "memory"])
def test_bombs__of_zstandard_that_does_not_state_its_size(tmp_path, is_local):
    array = v3(tmp_path if is_local else zarr.storage.MemoryStore(), "zstd")
    replaced(array, "c/1/0", zstd_without_size(DATA[16:, :16].tobytes()))
    np.testing.assert_array_equal(Access.of(array).read((slice(0, 32), slice(0, 32))), DATA)
    replaced(array, "c/1/0", zstd_without_size(bytes(BOMB_BYTES)))
    refused(lambda: Access.of(array).read((slice(0, 32), slice(0, 32))), "c/1/0' .*is damaged: it holds")


def test_bombs__behind_filters(tmp_path):
    array = v2(tmp_path, "zlib", filters=[numcodecs.Delta("u1"), numcodecs.Zlib()])
    np.testing.assert_array_equal(limited_array(array)[...], DATA)
    replaced(array, "1.0", COMPRESSORS["zlib"].encode(COMPRESSORS["zlib"].encode(BOMB)))
    refused(lambda: limited_array(array)[...], r"1\.0' .*is damaged: it holds")


def shards(place):
    array = zarr.create_array(
        place, shape=SHAPE, shards=SHAPE, chunks=CHUNK, dtype="uint8", compressors=codecs.GzipCodec()
    )
    array[...] = DATA
    return array


def with_index(content, entry):
    """Return a shard of four chunks with another first entry of its index, and a sound checksum."""
    import google_crc32c

    index = np.frombuffer(content[-68:-4], "<u8").copy()
    index[:2] = entry
    return content[:-68] + index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little")


def test_bombs__in_a_shard(tmp_path):
    array = shards(tmp_path)
    content = (tmp_path / "c/0/0").read_bytes()
    bomb = numcodecs.GZip().encode(BOMB)
    replaced(array, "c/0/0", bomb + with_index(content, (0, len(bomb)))[-68:])
    # Its size alone gives it away; a smaller one does only once it is decoded.
    refused(lambda: limited_array(array)[:8, :8], "c/0/0' .*is damaged")
    small = numcodecs.GZip().encode(BOMB[: 1 << 23])
    replaced(array, "c/0/0", small + with_index(content, (0, len(small)))[-68:])
    refused(lambda: limited_array(array)[:8, :8], "c/0/0' .*is damaged: it holds")


@pytest.mark.parametrize(
    "entry", [(0, 1 << 60), (1 << 63, 20), (1 << 30, 20), (5, (1 << 64) - 1), (10_000, 60)], ids=str
)
@pytest.mark.parametrize("box", [np.s_[:8, :8], np.s_[:, :]], ids=["a part", "all"])
def test_shards__with_an_index_that_lies(tmp_path, entry, box):
    array = shards(tmp_path)
    replaced(array, "c/0/0", with_index((tmp_path / "c/0/0").read_bytes(), entry))
    refused(lambda: limited_array(array)[box], "c/0/0' of the array .*is damaged")


DAMAGED = {"empty": b"", "one byte": b"\0", "text": b"<html>" * 9, "zeros": bytes(300), "ones": b"\xff" * 300}


@pytest.mark.parametrize("is_local", [True, False], ids=["folder", "memory"])
@pytest.mark.parametrize("name", list(COMPRESSORS))
def test_damaged_chunks__are_one_error_that_names_them(tmp_path, name, is_local):
    array = v2(tmp_path if is_local else zarr.storage.MemoryStore(), name)
    whole = bytes(COMPRESSORS[name].encode(np.ascontiguousarray(DATA[16:, :16])))
    for content in (*DAMAGED.values(), whole[:-3], whole[: len(whole) // 2]):
        replaced(array, "1.0", content)
        refused(lambda: Access.of(array).read((slice(0, 32), slice(0, 32))), r"1\.0' .*is damaged: ")


@pytest.mark.parametrize("name", ["zlib", "lzma", "lz4", "bz2", "zstd"])
def test_command_line__names_a_damaged_chunk_in_one_line(tmp_path, capsys, name):
    v2(tmp_path / "in.zarr", name)
    (tmp_path / "in.zarr" / "1.0").write_bytes(b"")
    assert main(["build", str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), "--quiet"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert "1.0' is damaged" in line


def test_verify__of_a_bomb_is_a_finding(tmp_path):
    write_pyramid(np.tile(DATA, (2, 2)), tmp_path / "p.zarr", scale_factors=[2], chunks=16)
    (tmp_path / "p.zarr/scale0/image/c/1/0").write_bytes(zstd_without_size(bytes(BOMB_BYTES)))
    tracemalloc.start()
    report = verify_pyramid(tmp_path / "p.zarr")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not report.ok
    assert "c/1/0" in repr(report)
    assert most < BOMB_BYTES


def test_pickled_chunks__are_not_read():
    encoded = np.frombuffer(pickle.dumps(DATA), np.uint8)
    with pytest.raises(ValueError, match="pickle"):
        decoded_within(numcodecs.Pickle(), encoded, 1 << 20)


def test_limited_array__goes_to_other_processes(tmp_path):
    array = pickle.loads(pickle.dumps(limited_array(shards(tmp_path))))
    np.testing.assert_array_equal(array[...], DATA)
    replaced(array, "c/0/0", with_index((tmp_path / "c/0/0").read_bytes(), (0, 1 << 60)))
    refused(lambda: array[:8, :8], "c/0/0' .*is damaged")


def test_limited_array__is_named_by_dask_as_before(tmp_path):
    array = shards(tmp_path)
    names = {da.from_array(limited_array(array)).name for _ in range(2)}
    assert len(names) == 1


def test_texts__beside_an_image_are_read(tmp_path):
    write_pyramid(np.zeros((2, 32, 32), "uint8"), tmp_path / "p.zarr", scale_factors=[{"y": 2, "x": 2}])
    image = open_pyramid(tmp_path / "p.zarr")["scale0/image"]
    assert image.sizes["z"] == 2
