"""One compression in zarr v2, zarr v3 and numcodecs: the same settings, and the same bytes."""

import json

import numcodecs
import numpy as np
import pytest
import zarr
from zarr import codecs

import multiscale_sampler as ms
from multiscale_sampler.store.chunks import Access
from multiscale_sampler.store.codecs import BLOSC_SHUFFLES, carried_compressors, codecs_of_v2, decoded_size

from ..data import make_array

AUTOMATIC = numcodecs.Blosc.AUTOSHUFFLE
V2 = {
    **{f"blosc-{shuffle}": numcodecs.Blosc("lz4", 5, shuffle) for shuffle in (AUTOMATIC, 0, 1, 2)},
    "blosc-blocks": numcodecs.Blosc("zstd", 3, 1, 512),
    "zstd": numcodecs.Zstd(3),
    "zstd-checksum": numcodecs.Zstd(3, checksum=True),
    "lz4": numcodecs.LZ4(),
    "zlib": numcodecs.Zlib(1),
    "none": None,
}
V3 = {
    **{
        f"blosc-{name}": codecs.BloscCodec(cname="lz4", shuffle=name) for name in ("noshuffle", "shuffle", "bitshuffle")
    },
    "blosc-automatic": codecs.BloscCodec(cname="zstd"),
    "blosc-of-another-size": codecs.BloscCodec(typesize=8, shuffle="shuffle"),
    "zstd": codecs.ZstdCodec(level=3),
    "zstd-checksum": codecs.ZstdCodec(level=3, checksum=True),
    "none": None,
}
ENCODINGS = [(2, name) for name in V2] + [(3, name) for name in V3]


def ramp(dtype):
    """Return values that shuffles sort well."""
    return (np.arange(24 * 32) % 251).reshape(24, 32).astype(dtype)


def made(place, zarr_format, name, dtype, *, empty=False):
    codec = (V2 if zarr_format == 2 else V3)[name]
    data = np.zeros((24, 32), dtype) if empty else ramp(dtype)
    return make_array(place, data, zarr_format=zarr_format, chunks=(8, 16), compressors=codec)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
@pytest.mark.parametrize(("zarr_format", "name"), ENCODINGS)
def test_access__writes_the_bytes_that_zarr_writes(tmp_path, zarr_format, name, dtype):
    by_zarr = made(tmp_path / "zarr", zarr_format, name, dtype)
    ours = Access.of(made(tmp_path / "ours", zarr_format, name, dtype, empty=True))
    assert ours.chunks is not None
    ours.write((slice(0, 24), slice(0, 32)), ramp(dtype))
    for index in np.ndindex(3, 2):
        key = by_zarr.metadata.encode_chunk_key(index)
        assert (tmp_path / "ours/0" / key).read_bytes() == (tmp_path / "zarr/0" / key).read_bytes(), key


def blosc_settings(array):
    """Return what an array of zarr v3 says of its Blosc codec."""
    return next(c for c in array.metadata.to_dict()["codecs"] if c["name"] == "blosc")["configuration"]


@pytest.mark.parametrize(("dtype", "chosen"), [("uint8", 2), ("uint16", 1), ("float64", 1)])
def test_blosc__the_automatic_shuffle_is_decided_as_numcodecs_and_zarr_do(dtype, chosen):
    source = made({}, 2, f"blosc-{AUTOMATIC}", dtype)
    named = BLOSC_SHUFFLES[chosen]
    # numcodecs: the bytes are those of the shuffle that is named.
    assert numcodecs.Blosc("lz4", 5, AUTOMATIC).encode(ramp(dtype)) == numcodecs.Blosc("lz4", 5, chosen).encode(
        ramp(dtype)
    )
    carried = zarr.create_array({}, shape=(8,), dtype=dtype, compressors=carried_compressors(source, 3), zarr_format=3)
    (described,) = (codec for codec in codecs_of_v2(source) if codec["name"] == "blosc")
    for settings in (blosc_settings(carried), described["configuration"]):
        assert settings["shuffle"] == named
        assert settings["typesize"] == np.dtype(dtype).itemsize


@pytest.mark.parametrize("name", ["blosc-0", "blosc-1", "blosc-2", "blosc-blocks", "zstd"])
def test_carried_compressors__come_back_from_the_other_format(name):
    there = make_array({}, ramp("uint16"), compressors=carried_compressors(made({}, 2, name, "uint16"), 3))
    assert carried_compressors(there, 2) == V2[name]


@pytest.mark.parametrize("name", ["lz4", "zlib"])
def test_carried_compressors__leave_the_choice_where_zarr_v3_has_no_equal(name):
    assert carried_compressors(made({}, 2, name, "uint16"), 3) == "auto"


def test_codecs_of_v2__name_what_makes_the_bytes():
    assert codecs_of_v2(made({}, 2, "zlib", ">u2")) == [
        {"name": "bytes", "configuration": {"endian": "big"}},
        {"name": "zlib", "configuration": {"level": 1}},
    ]
    assert codecs_of_v2(made({}, 2, "lz4", "uint16")) is None


def frame(**options):
    from zstandard import ZstdCompressor

    return ZstdCompressor(**options).compress(bytes(70_000))


@pytest.mark.parametrize(
    ("codec", "encoded", "size"),
    [
        (numcodecs.Zstd(), frame(), 70_000),
        (numcodecs.Zstd(), frame(write_checksum=True), 70_000),
        (numcodecs.Zstd(), numcodecs.Zstd().encode(b"\0" * 300), 300),
        (numcodecs.Zstd(), numcodecs.Zstd().encode(b""), 0),
        (numcodecs.Zstd(), frame(write_content_size=False), None),
        (numcodecs.Zstd(), b"no frame of zstd", None),
        (numcodecs.Zstd(), b"", None),
        (numcodecs.Blosc(), numcodecs.Blosc().encode(bytes(300)), 300),
        (numcodecs.GZip(), numcodecs.GZip().encode(bytes(300)), None),
    ],
    # Not the bytes: gzip's have the time in them.
    ids=["zstd", "checksum", "numcodecs", "empty", "no size", "no frame", "no bytes", "blosc", "gzip"],
)
def test_decoded_size__is_what_the_header_says(codec, encoded, size):
    assert decoded_size(codec, np.frombuffer(encoded, np.uint8)) == size


@pytest.mark.parametrize("codec", [numcodecs.GZip(1), numcodecs.Zlib(1)])
@pytest.mark.parametrize("convert", [True, False])
def test_level_minus_one__which_java_states_for_the_default_is_carried_over(tmp_path, codec, convert):
    values = np.arange(4096, dtype="u2").reshape(64, 64)
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=2)
    group.create_array("0", shape=(64, 64), chunks=(32, 32), dtype="u2", compressors=codec)[...] = values
    document = json.loads((tmp_path / "g.zarr/0/.zarray").read_text())
    document["compressor"]["level"] = -1
    (tmp_path / "g.zarr/0/.zarray").write_text(json.dumps(document))
    if convert:
        ms.add_levels(tmp_path / "g.zarr", scale_factors=[2])
        ms.convert(tmp_path / "g.zarr", tmp_path / "new.zarr", version="0.5")
    else:
        ms.write_pyramid(ms.open_image(tmp_path / "g.zarr", "0"), tmp_path / "new.zarr", scale_factors=[2])
    base = next(iter(ms.open_pyramid(tmp_path / "new.zarr")["scale0"].data_vars.values()))
    np.testing.assert_array_equal(base.values, values)
