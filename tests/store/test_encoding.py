"""How levels are stored: codecs, fill value and attributes, carried over from the source."""

import numcodecs
import numpy as np
import pytest
import zarr
from zarr import codecs

from multiscale_sampler import add_levels, open_image, open_pyramid, write_pyramid
from multiscale_sampler.store import encoding_like

from ..data import make_array, noise, strict_json
from ..oracles import check_levels, expected_level

BASE = noise((16, 16))
V3_CODECS = {
    "zstd": codecs.ZstdCodec(level=7),
    "gzip": codecs.GzipCodec(level=3),
    "blosc": codecs.BloscCodec(cname="lz4", clevel=4, shuffle="bitshuffle"),
    "none": None,
}
V2_CODECS = {
    "zstd": numcodecs.Zstd(level=7),
    "gzip": numcodecs.GZip(level=3),
    "blosc": numcodecs.Blosc("lz4", 4, numcodecs.Blosc.BITSHUFFLE),
    "none": None,
}


def stored_as(tmp_path, source, version, **options):
    """Write the pyramid of a stored array; return its levels' arrays."""
    write_pyramid(open_image(source), tmp_path / "p.zarr", scale_factors=[2, 4], version=version, **options)
    np.testing.assert_array_equal(open_pyramid(tmp_path / "p.zarr")["scale0/image"].values, source[...])
    group = zarr.open_group(tmp_path / "p.zarr")
    return [array for _, node in sorted(group.groups()) for name, array in node.arrays() if array.ndim == 2]


def described(array):
    """Return a zarr v2 or v3 array's compression as one comparable value."""
    if array.metadata.zarr_format == 2:
        return [codec.get_config() for codec in array.compressors]
    return [codec.to_dict() for codec in array.compressors]


@pytest.mark.parametrize("name", V3_CODECS)
def test_encoding_like__carries_codecs_of_zarr_v3(tmp_path, name):
    source = make_array({}, BASE, chunks=(8, 8), compressors=V3_CODECS[name])
    for level in stored_as(tmp_path, source, "0.5"):
        assert described(level) == described(source)


@pytest.mark.parametrize("name", V2_CODECS)
def test_encoding_like__carries_codecs_of_zarr_v2(tmp_path, name):
    source = make_array({}, BASE, zarr_format=2, chunks=(8, 8), compressors=V2_CODECS[name])
    for level in stored_as(tmp_path, source, "0.4"):
        assert described(level) == described(source)


@pytest.mark.parametrize("name", V2_CODECS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_encoding_like__translates_codecs_between_formats(tmp_path, name, zarr_format):
    own, other = (V2_CODECS, V3_CODECS) if zarr_format == 2 else (V3_CODECS, V2_CODECS)
    source = make_array({}, BASE, zarr_format=zarr_format, chunks=(8, 8), compressors=own[name])
    expected = make_array({}, BASE, zarr_format=5 - zarr_format, chunks=(8, 8), compressors=other[name])
    levels = stored_as(tmp_path, source, "0.5" if zarr_format == 2 else "0.4")
    keys = ("id", "name", "cname", "clevel", "level", "shuffle")
    for level in levels:
        assert len(level.compressors) == len(expected.compressors)
        for ours, theirs in zip(described(level), described(expected), strict=True):
            ours, theirs = ({**codec, **codec.get("configuration", {})} for codec in (ours, theirs))
            assert {key: ours.get(key) for key in keys} == {key: theirs.get(key) for key in keys}


def test_encoding_like__takes_the_default_for_a_codec_without_an_equal(tmp_path):
    source = make_array({}, BASE, zarr_format=2, chunks=(8, 8), compressors=numcodecs.BZ2())
    default = make_array({}, BASE, chunks=(8, 8))
    for level in stored_as(tmp_path, source, "0.5"):
        assert described(level) == described(default)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_encoding_like__takes_given_codecs(tmp_path, version):
    source = make_array({}, BASE, chunks=(8, 8))
    given = (V2_CODECS if version == "0.4" else V3_CODECS)["blosc"]
    expected = make_array({}, BASE, zarr_format=2 if version == "0.4" else 3, compressors=given)
    for level in stored_as(tmp_path, source, version, compressors=given):
        assert [c | {"typesize": 0} for c in described(level)] == [c | {"typesize": 0} for c in described(expected)]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_encoding_like__takes_none_as_no_compression(tmp_path, version):
    source = make_array({}, BASE, chunks=(8, 8))
    for level in stored_as(tmp_path, source, version, compressors=None):
        assert described(level) == []


def test_encoding_like__carries_filters_and_byte_order_of_zarr_v2(tmp_path):
    source = make_array({}, BASE, zarr_format=2, chunks=(8, 8), filters=[numcodecs.Delta(dtype="u2")])
    for level in stored_as(tmp_path, source, "0.4"):
        assert [codec.get_config()["id"] for codec in level.filters] == ["delta"]


def test_encoding_like__carries_filters_and_serializer_of_zarr_v3(tmp_path):
    source = make_array(
        {}, BASE, chunks=(8, 4), filters=codecs.TransposeCodec(order=(1, 0)), serializer=codecs.BytesCodec(endian="big")
    )
    for level in stored_as(tmp_path, source, "0.5"):
        assert level.filters == source.filters
        assert level.serializer == source.serializer


def test_encoding_like__carries_shards(tmp_path):
    source = make_array({}, BASE, chunks=(4, 4), shards=(8, 8), compressors=V3_CODECS["gzip"])
    levels = stored_as(tmp_path, source, "0.5")
    assert [level.shards for level in levels] == [(8, 8), (8, 8), None]
    for level in levels:
        assert described(level) == described(source)


@pytest.mark.parametrize("fill", [0, 7, 65535])
def test_encoding_like__carries_the_fill_value_of_zarr_v3(tmp_path, fill):
    source = make_array({}, BASE, chunks=(8, 8), fill_value=fill)
    assert [level.fill_value for level in stored_as(tmp_path, source, "0.5")] == [fill] * 3


def test_encoding_like__carries_a_fill_value_of_nan(tmp_path):
    source = make_array({}, noise((8, 8), "float32"), chunks=(8, 8), fill_value=np.nan)
    write_pyramid(open_image(source), tmp_path / "p.zarr", scale_factors=[2])
    for level in (0, 1):
        array = zarr.open_array(tmp_path / "p.zarr" / f"scale{level}" / "image")
        assert np.isnan(array.fill_value)
        assert strict_json(tmp_path / "p.zarr" / f"scale{level}" / "image" / "zarr.json")["fill_value"] == "NaN"


@pytest.mark.parametrize("source_format", [2, 3])
def test_encoding_like__writes_null_as_fill_value_of_zarr_v2(tmp_path, source_format):
    source = make_array({}, BASE, zarr_format=source_format, chunks=(8, 8), fill_value=7)
    for level in stored_as(tmp_path, source, "0.4"):
        assert level.fill_value is None


def test_encoding_like__a_wider_dtype_drops_the_codecs_of_the_source(tmp_path):
    source = make_array({}, BASE, zarr_format=2, chunks=(8, 8), filters=[numcodecs.Delta(dtype="u2")])
    write_pyramid(open_image(source), tmp_path / "p.zarr", scale_factors=[2], method="sum", version="0.4")
    level = zarr.open_array(tmp_path / "p.zarr" / "scale1" / "image")
    assert level.dtype == np.uint64
    assert not level.filters
    total = BASE.reshape(8, 2, 8, 2).astype("u8").sum(axis=(1, 3))
    np.testing.assert_array_equal(level[...], total)


def test_encoding_like__is_plain_without_a_source():
    encoding = encoding_like(None, 3, "auto")
    assert (encoding.zarr_format, encoding.compressors, encoding.fill_value) == (3, "auto", None)


@pytest.mark.parametrize("dtype", [">u2", ">f4"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_write_pyramid__keeps_values_of_foreign_byte_order(tmp_path, dtype, version):
    base = noise((8, 8), dtype[1:]).astype(dtype)
    source = make_array({}, base, zarr_format=2, chunks=(8, 8))
    write_pyramid(open_image(source), tmp_path / "p.zarr", scale_factors=[2], version=version)
    level = open_pyramid(tmp_path / "p.zarr")["scale0/image"]
    np.testing.assert_array_equal(level.values, base)


# --- chunks on a local disk ------------------------------------------------------------------------------------

LOCAL = {
    **{f"v2-{name}": {"zarr_format": 2, "compressors": codec} for name, codec in V2_CODECS.items()},
    **{f"v3-{name}": {"compressors": codec} for name, codec in V3_CODECS.items()},
    "v2-bz2": {"zarr_format": 2, "compressors": numcodecs.BZ2()},
    "v2-lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "v2-zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
    "v2-delta": {"zarr_format": 2, "filters": [numcodecs.Delta(dtype="u2")]},
    "v2-fortran": {"zarr_format": 2, "order": "F"},
    "v2-dots": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "."}},
    "v3-dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "v3-v2-keys": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v3-big-endian": {"serializer": codecs.BytesCodec(endian="big")},
    "v3-big-endian-raw": {"serializer": codecs.BytesCodec(endian="big"), "compressors": None},
    "v3-transposed": {"filters": codecs.TransposeCodec(order=(1, 0))},
    "v3-checksum": {"compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()]},
    "v3-two": {"compressors": [codecs.GzipCodec(), codecs.ZstdCodec()]},
    "v3-blosc-noshuffle": {"compressors": codecs.BloscCodec(cname="zlib", shuffle="noshuffle")},
    "v3-shards": {"chunks": (4, 3), "shards": (8, 6)},
}


@pytest.mark.parametrize("options", LOCAL.values(), ids=LOCAL)
@pytest.mark.parametrize(("version", "chunks"), [("0.4", None), ("0.5", None), ("0.5", 8)])
def test_write_pyramid__reads_local_chunks_of_every_encoding(tmp_path, options, version, chunks):
    base = noise((21, 17))
    source = make_array(tmp_path / "a.zarr", base, **{"chunks": (8, 6), **options})
    write_pyramid(
        open_image(source), tmp_path / "p.zarr", scale_factors=[2, 3], version=version, chunks=chunks, shards=False
    )
    check_levels(open_pyramid(tmp_path / "p.zarr"), base, [(2, 2), (3, 3)])


@pytest.mark.parametrize("options", LOCAL.values(), ids=LOCAL)
def test_add_levels__reads_local_chunks_of_every_encoding(tmp_path, options):
    base = noise((21, 17))
    make_array(tmp_path / "a.zarr", base, **{"chunks": (8, 6), **options})
    add_levels(tmp_path / "a.zarr", scale_factors=[2, 3])
    check_levels(open_pyramid(tmp_path / "a.zarr"), base, [(2, 2), (3, 3)])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", ">u2", ">i4", "uint64", "float16", ">f4", ">f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_write_pyramid__reads_local_chunks_of_every_dtype(tmp_path, dtype, zarr_format, version):
    base = noise((21, 17), np.dtype(dtype).newbyteorder("=")).astype(dtype)
    if zarr_format == 3:
        base = base.astype(base.dtype.newbyteorder("="))
    source = make_array(tmp_path / "a.zarr", base, zarr_format=zarr_format, chunks=(8, 6))
    write_pyramid(open_image(source), tmp_path / "p.zarr", scale_factors=[2], version=version)
    tree = open_pyramid(tmp_path / "p.zarr")
    np.testing.assert_array_equal(tree["scale0/image"].values, base)
    native = base.astype(base.dtype.newbyteorder("="))
    np.testing.assert_array_equal(tree["scale1/image"].values, expected_level(native, (2, 2)))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("dtype", "fill"), [("uint16", 0), ("uint16", 7), ("float32", np.nan), ("float32", -0.0)])
def test_write_pyramid__chunks_that_are_not_stored_have_the_fill_value(tmp_path, zarr_format, version, dtype, fill):
    source = zarr.create_array(
        tmp_path / "a.zarr",
        name="0",
        shape=(20, 20),
        chunks=(4, 4),
        dtype=dtype,
        fill_value=fill,
        zarr_format=zarr_format,
    )
    source[4:11, 2:9] = noise((7, 7), dtype)
    base = source[...]
    write_pyramid(open_image(source), tmp_path / "p.zarr", scale_factors=[2, 4], version=version)
    tree = open_pyramid(tmp_path / "p.zarr")
    np.testing.assert_array_equal(tree["scale0/image"].values, base)
    np.testing.assert_array_equal(np.signbit(tree["scale0/image"].values), np.signbit(base))
    for level, factor in (("scale1", 2), ("scale2", 4)):
        expected = expected_level(base, (factor, factor))
        np.testing.assert_array_equal(tree[level]["image"].values, expected)


def test_write_pyramid__keeps_the_sign_of_zero(tmp_path):
    base = np.zeros((16, 16), "float32")
    base[:8] = -0.0
    source = make_array(tmp_path / "a.zarr", base, chunks=(8, 8))
    for name, image in (("a", open_image(source)), ("b", base), ("c", open_image(source).chunk(16))):
        write_pyramid(image, tmp_path / "out" / f"{name}.zarr", scale_factors=[2], chunks=8)
        stored = open_pyramid(tmp_path / "out" / f"{name}.zarr")["scale0/image"].values
        np.testing.assert_array_equal(np.signbit(stored), np.signbit(base))


@pytest.mark.parametrize("damage", ["short", "garbage", "empty"])
@pytest.mark.parametrize("compressed", [True, False], ids=["zstd", "raw"])
@pytest.mark.parametrize("chunks", [None, 16], ids=["same-grid", "other-grid"])
def test_write_pyramid__a_damaged_chunk_is_an_error_and_not_an_image(tmp_path, damage, compressed, chunks):
    base = noise((32, 32))
    codec = codecs.ZstdCodec() if compressed else None
    source = make_array(tmp_path / "a.zarr", base, chunks=(8, 8), compressors=codec)
    half = base[8:12, 8:16].tobytes()
    contents = {
        "short": numcodecs.Zstd().encode(half) if compressed else half,
        "garbage": b"no frame of zstd" * (1 if compressed else 3),
        "empty": b"",
    }[damage]
    (tmp_path / "a.zarr" / "0" / "c" / "1" / "1").write_bytes(contents)
    with pytest.raises(Exception, match=r".+"):
        write_pyramid(open_image(source), tmp_path / "p.zarr", scale_factors=[2], chunks=chunks)
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(tmp_path / "p.zarr")
