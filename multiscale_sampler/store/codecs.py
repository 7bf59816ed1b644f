"""Codecs between zarr v2, zarr v3 and numcodecs."""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias, cast

import numcodecs
import zarr
from numcodecs.abc import Codec
from zarr import codecs

from ..image.boxes import Block


def carried_compressors(source: zarr.Array[Any], zarr_format: ZarrFormat) -> Any:
    """Return the source's compressors for a zarr format, "auto" where the format has no equal."""
    used = source.compressors
    if source.metadata.zarr_format == zarr_format:
        return used or None
    translated = [_translated(codec, zarr_format) for codec in used]
    if None in translated:
        return "auto"
    return (tuple(translated) if zarr_format == 3 else translated[0]) if translated else None


def _translated(codec: Any, zarr_format: ZarrFormat) -> Any:
    """Return the same compression in the other zarr format, or None if it has no such codec."""
    if zarr_format == 3:
        config = codec.get_config()
        match config["id"]:
            case "zstd":
                return codecs.ZstdCodec(level=config["level"])
            case "gzip":
                return codecs.GzipCodec(level=config["level"])
            case "blosc":
                shuffles = {-1: "bitshuffle", 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
                return codecs.BloscCodec(
                    cname=config["cname"],
                    clevel=config["clevel"],
                    shuffle=cast("Any", shuffles[config["shuffle"]]),
                )
        return None
    import numcodecs

    document = codec.to_dict()
    settings = document.get("configuration", {})
    match document["name"]:
        case "zstd":
            return numcodecs.Zstd(level=settings["level"])
        case "gzip":
            return numcodecs.GZip(level=settings["level"])
        case "blosc":
            numbers = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
            return numcodecs.Blosc(settings["cname"], settings["clevel"], numbers[settings["shuffle"]])
    return None


def is_auto(value: Any) -> bool:
    """Whether an option leaves the choice of codecs to us."""
    return isinstance(value, str) and value == "auto"


ZarrFormat: TypeAlias = Literal[2, 3]


def plain_compressors(array: zarr.Array[Any]) -> list[Codec] | None:
    """Return the codecs that make a chunk's bytes from its C-ordered values, None where there is more to it."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        plain = metadata.order == "C" and not metadata.filters
        return ([metadata.compressor] if metadata.compressor else []) if plain else None
    serializer, *rest = metadata.codecs
    if not isinstance(serializer, codecs.BytesCodec) or (array.dtype.itemsize > 1 and not _is_native(serializer)):
        return None
    found = [_numcodec(codec) for codec in rest]
    return None if None in found else found


def _numcodec(codec: Any) -> Codec | None:
    """Return numcodecs' codec of the same format, which decodes into a given buffer; None if there is none."""
    match codec:
        case codecs.ZstdCodec():
            return numcodecs.Zstd(level=codec.level, checksum=codec.checksum)
        case codecs.GzipCodec():
            return numcodecs.GZip(level=codec.level)
        case codecs.BloscCodec():
            shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[_text(codec.shuffle)]
            return numcodecs.Blosc(_text(codec.cname), codec.clevel, shuffle, codec.blocksize)
    return None


def decoded_size(codec: Codec, encoded: Block) -> int | None:
    """Return how many bytes a chunk decodes to, by its header; None if that does not tell."""
    if isinstance(codec, numcodecs.Blosc):
        # The second of the four-byte words of a Blosc header (c-blosc, README_CHUNK_FORMAT).
        return int.from_bytes(encoded[4:8].tobytes(), "little")
    if isinstance(codec, numcodecs.Zstd) and encoded.nbytes > 4 and encoded[:4].tobytes() == ZSTD_MAGIC:
        # Frame_Header_Descriptor of RFC 8878, section 3.1.1.1.1.
        descriptor = int(encoded[4])
        single_segment = descriptor >> 5 & 1
        length = (single_segment, 2, 4, 8)[descriptor >> 6]
        start = 6 - single_segment + (0, 1, 2, 4)[descriptor & 3]
        if length:
            size = int.from_bytes(encoded[start : start + length].tobytes(), "little")
            return size + 256 if length == 2 else size
    return None


ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def _is_native(serializer: codecs.BytesCodec) -> bool:
    return _text(serializer.endian) == sys.byteorder


def _text(choice: Any) -> str:
    """Return a codec's choice as text: zarr has made its enumerations literal strings."""
    return str(getattr(choice, "value", choice))


def codecs_of_v2(array: zarr.Array[Any]) -> list[dict[str, Any]] | None:
    """Return the codecs of an array of zarr v2 by their names in v3 (``zlib`` has none there and keeps its own)."""
    metadata: Any = array.metadata
    if metadata.filters:
        return None
    codecs: list[dict[str, Any]] = []
    if metadata.order == "F" and array.ndim > 1:
        codecs.append({"name": "transpose", "configuration": {"order": list(range(array.ndim))[::-1]}})
    codecs.append({"name": "bytes", "configuration": {"endian": _endianness(metadata)}})
    if metadata.compressor is None:
        return codecs
    settings = metadata.compressor.get_config()
    match settings["id"]:
        case "gzip" | "zlib" | "zstd":
            codecs.append({"name": settings["id"], "configuration": {"level": settings["level"]}})
        case "blosc":
            size = array.dtype.itemsize
            shuffle = settings["shuffle"] if settings["shuffle"] >= 0 else 2 if size == 1 else 1
            configuration = {key: settings[key] for key in ("cname", "clevel", "blocksize")}
            by_name = {"shuffle": BLOSC_SHUFFLES[shuffle], "typesize": size}
            codecs.append({"name": "blosc", "configuration": {**configuration, **by_name}})
        case _:
            return None
    return codecs


def _endianness(metadata: Any) -> str:
    return "big" if metadata.dtype.to_native_dtype().byteorder == ">" else "little"


BLOSC_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
