"""Codecs converted between zarr v2 (numcodecs), zarr v3, and the JSON of zarr v3."""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias, cast

import numcodecs
import zarr
from numcodecs.abc import Codec
from zarr import codecs
from zstandard import ZstdError, frame_content_size

from ..image.boxes import Block

ZarrFormat: TypeAlias = Literal[2, 3]

# By the numbers that Blosc itself has for them.
BLOSC_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
BLOSC_AUTOMATIC = -1
ZLIB_DEFAULT = 6

# Compressors of bytes, whatever these are.
GENERAL_COMPRESSORS = (numcodecs.Zstd, numcodecs.Blosc, numcodecs.GZip, numcodecs.Zlib, numcodecs.LZ4, numcodecs.BZ2)


def is_auto(value: Any) -> bool:
    """Whether an option leaves the choice of codecs to us."""
    return isinstance(value, str) and value == "auto"


def carried_compressors(source: zarr.Array[Any], zarr_format: ZarrFormat) -> Any:
    """Return the source's compressors for a zarr format, "auto" where the format has no equal."""
    used = source.compressors
    if source.metadata.zarr_format == zarr_format:
        return used or None
    if zarr_format == 3:
        translated = [codec_in_v3(codec) for codec in used]
        return "auto" if None in translated else tuple(translated) or None
    carried = [_codec_to_store_in_v2(codec) for codec in used]
    return "auto" if None in carried else carried[0] if carried else None


def codec_in_v3(codec: Codec, itemsize: int | None = None) -> Any:
    """Return the codec of zarr v3 that compresses as one of zarr v2 does, None if there is none.

    What Blosc chooses by the size of a sample is decided for `itemsize`, or, without one, by the array that gets the
    codec.
    """
    settings = codec.get_config()
    match settings["id"]:
        case "zstd":
            return codecs.ZstdCodec(level=settings["level"])
        case "gzip":
            return codecs.GzipCodec(level=_zlib_level(settings["level"]))
        case "blosc":
            return codecs.BloscCodec(
                typesize=itemsize,
                cname=settings["cname"],
                clevel=settings["clevel"],
                shuffle=cast("Any", _blosc_shuffle(settings["shuffle"], itemsize)),
                blocksize=settings["blocksize"],
            )
    return None


def _zlib_level(level: int) -> int:
    """Return a level of zlib as a number that zarr v3 has.

    "Z_DEFAULT_COMPRESSION requests a default compromise between speed and compression (currently equivalent to level
    6)" (zlib). It is -1, which writers in Java state.
    """
    return ZLIB_DEFAULT if level < 0 else level


def _blosc_shuffle(number: int, itemsize: int | None) -> str | None:
    """Return the name of a shuffle of Blosc; None leaves the automatic one to zarr, which decides as numcodecs does."""
    if number != BLOSC_AUTOMATIC:
        return BLOSC_SHUFFLES[number]
    if itemsize is None:
        return None
    # "bit-shuffle will be used for buffers with itemsize 1, and byte-shuffle will be used otherwise" (numcodecs)
    return "bitshuffle" if itemsize == 1 else "shuffle"


def codec_in_numcodecs(codec: Any) -> Codec | None:
    """Return the codec of numcodecs that makes the same bytes as one of zarr v3, None if there is none."""
    match codec:
        case codecs.ZstdCodec():
            return numcodecs.Zstd(level=codec.level, checksum=codec.checksum)
        case codecs.GzipCodec():
            return numcodecs.GZip(level=codec.level)
        case codecs.BloscCodec():
            shuffle = BLOSC_SHUFFLES.index(_choice_name(codec.shuffle))
            return numcodecs.Blosc(_choice_name(codec.cname), codec.clevel, shuffle, codec.blocksize, codec.typesize)
    return None


def _codec_to_store_in_v2(codec: Any) -> Codec | None:
    found = codec_in_numcodecs(codec)
    # A checksum would be a setting that older readers of zarr v2 do not know.
    return numcodecs.Zstd(level=found.level) if isinstance(found, numcodecs.Zstd) else found


def _choice_name(choice: Any) -> str:
    """Return a codec's choice as text: zarr has made its enumerations literal strings."""
    return str(getattr(choice, "value", choice))


def plain_compressors(array: zarr.Array[Any]) -> list[Codec] | None:
    """Return the codecs that make a chunk's bytes from its C-ordered values, None where there is more to it."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        plain = metadata.order == "C" and not metadata.filters
        return ([metadata.compressor] if metadata.compressor else []) if plain else None
    serializer, *rest = metadata.codecs
    if not isinstance(serializer, codecs.BytesCodec) or (array.dtype.itemsize > 1 and not _is_native(serializer)):
        return None
    found = [codec_in_numcodecs(codec) for codec in rest]
    return None if None in found else found


def takes_any_dtype(array: zarr.Array[Any]) -> bool:
    """Whether the codecs of an array are known to encode values of any dtype."""
    compressors = plain_compressors(array)
    return compressors is not None and all(isinstance(each, GENERAL_COMPRESSORS) for each in compressors)


def _is_native(serializer: codecs.BytesCodec) -> bool:
    return _choice_name(serializer.endian) == sys.byteorder


def decoded_size(codec: Codec, encoded: Block) -> int | None:
    """Return how many bytes a chunk decodes to, by its header; None if that does not tell."""
    if isinstance(codec, numcodecs.Blosc):
        # The second of the four-byte words of a Blosc header (c-blosc, README_CHUNK_FORMAT).
        return int.from_bytes(encoded[4:8].tobytes(), "little")
    if isinstance(codec, numcodecs.LZ4):
        # The first four bytes, of which numcodecs makes a header; LZ4 itself has none.
        return int.from_bytes(encoded[:4].tobytes(), "little")
    if isinstance(codec, numcodecs.Zstd):
        try:
            size = frame_content_size(memoryview(cast("Any", encoded)))
        except ZstdError:
            # Decoding it says what is wrong.
            return None
        return size if size >= 0 else None
    return None


def codecs_of_v2(array: zarr.Array[Any]) -> list[dict[str, Any]] | None:
    """Return the codecs of an array of zarr v2 as zarr v3 writes them (``zlib``, which it has not, by its own name)."""
    metadata: Any = array.metadata
    if metadata.filters:
        return None
    found: list[dict[str, Any]] = []
    if metadata.order == "F" and array.ndim > 1:
        found.append({"name": "transpose", "configuration": {"order": list(range(array.ndim))[::-1]}})
    found.append({"name": "bytes", "configuration": {"endian": "big" if array.dtype.byteorder == ">" else "little"}})
    if metadata.compressor is None:
        return found
    settings = metadata.compressor.get_config()
    if settings["id"] == "zlib":
        return [*found, {"name": "zlib", "configuration": {"level": _zlib_level(settings["level"])}}]
    compressor = codec_in_v3(metadata.compressor, array.dtype.itemsize)
    return None if compressor is None else [*found, compressor.to_dict()]
