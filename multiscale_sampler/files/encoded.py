"""Compressed streams in files: whether they decode to as many bytes as the header states, in bounded memory.

Readers of single regions stop before the checksum at the end of a stream, and some ignore an error of the decompressor.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .contents import require_all

# Bytes that are decoded at a time.
DECODED_BLOCK = 2**16


class _ZlibStream:
    """The bytes that a zlib stream decodes to, read in order."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # 15 for the longest window, 32 to accept the header of zlib or gzip.
        self._decoder = zlib.decompressobj(15 + 32)

    def read(self, size: int = DECODED_BLOCK) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises
        ------
        EOFError
            If the file ends before the stream.
        """
        while not self._decoder.eof:
            encoded = self._decoder.unconsumed_tail or self._file.read(DECODED_BLOCK)
            if not encoded:
                raise EOFError("the file ends before its compressed data")
            if decoded := self._decoder.decompress(encoded, size):
                return decoded
        return b""


DECODERS: Mapping[str, Callable[[BinaryIO], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "zlib": _ZlibStream,
}


def require_decoded(path: Path, data: Path, offset: int, encoding: str, size: int) -> None:
    """Decode a compressed stream, and check its length and its checksum. Memory does not grow with either.

    Parameters
    ----------
    path
        The file that states the size, for errors.
    data
        The file with the stream.
    offset
        Where the stream begins in it.
    encoding
        One of `DECODERS`.
    size
        How many bytes it must decode to; what follows them is not decoded.

    Raises
    ------
    ValueError
        If the stream is shorter or damaged.
    """
    found = 0
    with open(data, "rb") as file:
        file.seek(offset)
        stream = DECODERS[encoding](file)
        try:
            # One more read than needed, because the checksum is compared at the end of the stream.
            while found <= size and (block := stream.read(DECODED_BLOCK)):
                found += len(block)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{str(path)!r} is damaged or incomplete after {found} of {size} bytes of values: {error}; replace it "
                "by an intact copy"
            ) from error
    require_all(path, found, size, "bytes of values")
