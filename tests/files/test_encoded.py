"""Compressed streams: decoded in bounded memory, to the size that a header states."""

import bz2
import gzip
import tracemalloc
import zlib

import pytest

from multiscale_sampler.files.encoded import require_decoded

PLAIN = bytes(range(256)) * 4000
ENCODERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "zlib": zlib.compress}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_decoded__streams_of_the_stated_size_pass(tmp_path, encoding):
    path = tmp_path / "a"
    path.write_bytes(b"header" + ENCODERS[encoding](PLAIN))
    require_decoded(path, path, 6, encoding, len(PLAIN))
    require_decoded(path, path, 6, encoding, 1000)
    with pytest.raises(ValueError, match="contains 1024000 of 1024001 bytes of values"):
        require_decoded(path, path, 6, encoding, len(PLAIN) + 1)


@pytest.mark.parametrize("change", ["cut", "checksum"])
@pytest.mark.parametrize("encoding", ENCODERS)
def test_decoded__streams_that_end_early_or_have_another_checksum_are_refused(tmp_path, encoding, change):
    path = tmp_path / "a"
    encoded = bytearray(ENCODERS[encoding](PLAIN))
    if change == "checksum":
        # The length follows it in gzip.
        encoded[-5 if encoding != "zlib" else -1] ^= 1
    path.write_bytes(encoded[:-3] if change == "cut" else encoded)
    with pytest.raises(ValueError, match=r"damaged or incomplete after \d+ of 1024000 bytes of values: \w.*; replace"):
        require_decoded(path, path, 0, encoding, len(PLAIN))


@pytest.mark.parametrize("encoding", ENCODERS)
def test_decoded__memory_does_not_grow_with_a_stream_of_more_than_is_stated(tmp_path, encoding):
    path = tmp_path / "a"
    path.write_bytes(ENCODERS[encoding](bytes(50_000_000)))
    tracemalloc.start()
    require_decoded(path, path, 0, encoding, 100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000
