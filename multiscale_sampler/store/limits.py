"""Decoders with a limit: a chunk that would decode to more than its array has room for is refused before it does.

Compressed bytes may expand a million times. The size is taken from the header where the format has one (Blosc, LZ4,
most of Zstandard), and else decoding ends at the limit (gzip, zlib, bz2, LZMA, other Zstandard). `decode_into` and
`decoded_within` do this for codecs of numcodecs; `limited_array` for all that zarr decodes: chunks, chunks of shards,
and filters of zarr v2. Codecs that others register, and array-to-bytes codecs such as zfpy and pcodec, have no limit.
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numcodecs
import numpy as np
import zarr
from numcodecs.abc import Codec
from zarr.abc.buffer import Buffer
from zarr.abc.codec import BytesBytesCodec, CodecPipeline
from zarr.abc.codec import Codec as AnyCodec
from zarr.abc.store import RangeByteRequest
from zarr.codecs import ShardingCodec
from zstandard import ZstdDecompressor, ZstdError

from ..image.boxes import Block
from .codecs import codec_in_numcodecs, decoded_size
from .zarr_internals import ArraySpec, V2Codec, buffer_of, numcodec_of, pipeline_of, remade_array, with_pipeline

# What decoders raise for bytes that are not what they wrote; errors of the system are of reading.
DAMAGE: tuple[type[Exception], ...] = (ValueError, RuntimeError, EOFError, TypeError, ArithmeticError, LookupError)
DAMAGE += (zlib.error, gzip.BadGzipFile, lzma.LZMAError, ZstdError)
# Values that filters encode may be wider than those that they decode to, and codecs add headers.
FILTER_FACTOR = 8
OVERHEAD = 1 << 16
# Of values whose size the dtype does not state, as texts.
UNSIZED_LIMIT = 1 << 28
# Memory of an LZMA decoder: four times that of the strongest preset.
LZMA_MEMORY = 1 << 28
# No file has more bytes, and a sum of two such numbers is one, too.
LARGEST_OFFSET = 1 << 62
# Codecs whose header states the size, and the one that is refused.
SIZED = ("blosc", "zstd", "lz4", "pickle")
BLOSC_HEADER = 16
# Of zlib: a stream with a header of gzip.
GZIP_WINDOW = 31


def most_encoded(nbytes: int) -> int:
    """Return how many bytes a chunk may have as it is stored, from those of its values."""
    return 2 * nbytes + OVERHEAD


def decode_into(codec: Codec | None, encoded: Block, out: Block) -> None:
    """Decode a chunk into a buffer of bytes, which it must fill.

    Raises
    ------
    ValueError, or what the codec raises
        If the chunk is damaged, or does not have this size.
    """
    plain = encoded if codec is None else None
    size = encoded.nbytes if codec is None else decoded_size(codec, encoded)
    if codec is not None and size is None:
        plain = np.frombuffer(decoded_within(codec, encoded, out.nbytes), np.uint8)
        size = plain.nbytes
    # A codec leaves the rest of a larger buffer as it was, which would be taken for an image.
    if size != out.nbytes:
        raise ValueError(f"it holds {size} bytes, but a chunk has {out.nbytes}")
    if plain is not None:
        out[:] = plain
    else:
        _check_frame(cast("Codec", codec), encoded)
        cast("Codec", codec).decode(encoded, out=out)


def decoded_within(codec: Codec, encoded: Block, limit: int) -> Any:
    """Return a decoded chunk of at most `limit` bytes.

    Raises
    ------
    ValueError, or what the codec raises
        If the chunk is damaged, or would be larger.
    """
    if codec.codec_id == "pickle":
        raise ValueError("its values are pickled, and unpickling could run any program; it is not read")
    size = decoded_size(codec, encoded)
    if size is not None and size > limit:
        raise ValueError(f"it holds {size} bytes, but a chunk has {limit} at most")
    if isinstance(codec, numcodecs.Zstd) and size is None:
        with ZstdDecompressor().stream_reader(encoded.tobytes(), read_across_frames=True) as reader:
            return _at_most(reader.read(limit + 1), limit)
    if make := _stream_of(codec):
        return _inflated(make, encoded, limit)
    _check_frame(codec, encoded)
    return codec.decode(encoded)


def _check_frame(codec: Codec, encoded: Block) -> None:
    """Refuse a frame of Blosc that ends before it says, which Blosc itself reads beyond its end."""
    if isinstance(codec, numcodecs.Blosc):
        stated = int.from_bytes(encoded[12:BLOSC_HEADER].tobytes(), "little")
        if encoded.nbytes < BLOSC_HEADER or not BLOSC_HEADER <= stated <= encoded.nbytes:
            raise ValueError(f"it has {encoded.nbytes} bytes, but its header states {stated}")


def _stream_of(codec: Codec) -> Callable[[], Any] | None:
    """Return what makes a decoder that ends at a limit, None for a codec without one."""
    match codec.codec_id:
        case "gzip":
            return lambda: zlib.decompressobj(GZIP_WINDOW)
        case "zlib":
            return zlib.decompressobj
        case "bz2":
            return bz2.BZ2Decompressor
        case "lzma" if codec.format == lzma.FORMAT_RAW:
            return lambda: lzma.LZMADecompressor(codec.format, filters=codec.filters)
        case "lzma":
            return lambda: lzma.LZMADecompressor(codec.format, LZMA_MEMORY)
    return None


def _inflated(make: Callable[[], Any], encoded: Block, limit: int) -> bytes:
    """Return what streams, one after another, decode to."""
    parts: list[bytes] = []
    size, rest = 0, encoded.tobytes()
    # Some writers fill up gzip files with zeros.
    while not parts or rest.strip(b"\0"):
        stream = make()
        try:
            part = stream.decompress(rest, limit + 1 - size)
        except OSError as error:
            # Of bz2, which has no error of its own.
            raise ValueError(f"it is not a stream of bz2 ({error})") from error
        parts.append(_at_most(part, limit - size))
        size += len(parts[-1])
        if not stream.eof:
            raise ValueError("it ends too early")
        rest = stream.unused_data
    return b"".join(parts)


def _at_most(decoded: bytes, limit: int) -> bytes:
    """Return what was decoded up to one byte more than the limit."""
    if len(decoded) > limit:
        raise ValueError("it holds more bytes than a chunk has")
    return decoded


# --- what zarr decodes -----------------------------------------------------------------------------------------


def limited_array(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array that zarr reads with limits, and whose errors name the chunk that is damaged."""
    if isinstance(pipeline_of(array), LimitedPipeline):
        return array
    return with_pipeline(remade_array(array, array.metadata, array.store_path), LimitedPipeline.of)


@dataclass(frozen=True)
class LimitedCodec(BytesBytesCodec):
    """A codec of zarr v3 from bytes to bytes, whose decoder has a limit."""

    codec: Any
    """The codec."""
    plain: Codec
    """The same in numcodecs."""
    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        encoded = np.asarray(chunk_bytes.as_numpy_array()).reshape(-1).view(np.uint8)
        limit = _nbytes(chunk_spec.shape, chunk_spec.dtype) + OVERHEAD
        decoded = await asyncio.to_thread(decoded_within, self.plain, encoded, limit)
        return buffer_of(decoded if isinstance(decoded, bytes) else np.asarray(decoded).tobytes())

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        return cast("Buffer | None", await self.codec._encode_single(chunk_bytes, chunk_spec))

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> LimitedCodec:
        """Return the codec as it is for an array."""
        return replace(self, codec=self.codec.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Return the size of a chunk once it is encoded, where that is known."""
        return int(self.codec.compute_encoded_size(input_byte_length, chunk_spec))


class LimitedNumcodec(Codec):  # type: ignore[misc]  # numcodecs has no types
    """A compressor or filter of zarr v2, whose decoder has a limit."""

    def __init__(self, codec: Any, limit: int) -> None:
        self.codec, self.limit = codec, limit
        self.codec_id = codec.codec_id

    def encode(self, buf: Any) -> Any:
        """Return values in their encoded form."""
        return self.codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Return encoded values."""
        encoded = np.asarray(buf).reshape(-1)
        if encoded.dtype == object or not _has_limit(self.codec):
            return self.codec.decode(buf, out)
        return decoded_within(self.codec, np.ascontiguousarray(encoded).view(np.uint8), self.limit)


class LimitedSharding(ShardingCodec):
    """Shards whose index is checked before chunks are read by it."""

    # Bytes of an encoded chunk, at most.
    most_encoded = LARGEST_OFFSET

    @classmethod
    def of(cls, codec: ShardingCodec, metadata: Any) -> LimitedSharding:
        """Return shards with limited codecs."""
        limited = cls(
            chunk_shape=codec.chunk_shape,
            codecs=[_limited(each, metadata) for each in codec.codecs],
            index_codecs=codec.index_codecs,
            index_location=codec.index_location,
        )
        nbytes = _nbytes(codec.chunk_shape, metadata.data_type)
        object.__setattr__(limited, "most_encoded", most_encoded(nbytes))
        return limited

    async def _decode_shard_index(self, index_bytes: Buffer, chunks_per_shard: tuple[int, ...]) -> Any:
        index = await super()._decode_shard_index(index_bytes, chunks_per_shard)
        parts = index.offsets_and_lengths.reshape(-1, 2)
        stored = parts[~(parts == np.iinfo(np.uint64).max).all(axis=1)]
        if (stored[:, 0] > LARGEST_OFFSET).any() or (stored[:, 1] > self.most_encoded).any():
            raise ValueError("the index of the shard states places or sizes that no chunk has")
        return index

    async def _decode_partial_single(self, byte_getter: Any, *details: Any, **options: Any) -> Any:
        # Later releases than zarr 3.1 do not take an empty range for a chunk that is not stored.
        is_checked = hasattr(ShardingCodec, "_load_partial_shard_maybe")
        getter = byte_getter if is_checked else _RangeGetter(byte_getter)
        return await super()._decode_partial_single(getter, *details, **options)


@dataclass(frozen=True)
class _RangeGetter:
    """A shard of which no part is empty."""

    inner: Any
    """The shard as zarr reads it."""

    async def get(self, prototype: Any, byte_range: Any = None) -> Any:
        """Return a part of the shard."""
        found = await self.inner.get(prototype=prototype, byte_range=byte_range)
        if isinstance(byte_range, RangeByteRequest) and found is not None and not len(found):
            raise ValueError("the index of the shard points beyond its end")
        return found


@dataclass(frozen=True, eq=False)
class LimitedPipeline(CodecPipeline):
    """The codecs of an array, with limits."""

    inner: Any
    """What zarr would use."""
    metadata: Any
    """The metadata of the array."""
    shown: str
    """The array, as errors name it."""

    @classmethod
    def of(cls, array: Any) -> LimitedPipeline:
        """Return the limited codecs of an array of zarr's asynchronous kind."""
        return cls(array.codec_pipeline, array.metadata, str(array.store_path))

    def __eq__(self, other: object) -> bool:
        """Limits make no other array: pipelines are equal where those within are."""
        return bool(self.inner == (other.inner if isinstance(other, LimitedPipeline) else other))

    def __hash__(self) -> int:
        """Hash by what equality compares."""
        return hash(self.inner)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make it again elsewhere: limited codecs cannot be sent."""
        return type(self), (self.inner, self.metadata, self.shown)

    @cached_property
    def limited(self) -> Any:
        """The limited codecs; those of another pipeline than zarr's own stay as they are."""
        if not isinstance(self.inner, Iterable):
            return self.inner
        return cast("Any", type(self.inner)).from_codecs([_limited(codec, self.metadata) for codec in self.inner])

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> Any:
        """Read chunks into a buffer.

        Raises
        ------
        ValueError
            If a chunk is damaged.
        """
        batch = list(batch_info)
        try:
            return await self.limited.read(batch, out, drop_axes)
        except DAMAGE:
            for each in batch:
                await self._read_one(each, out, drop_axes)
            raise

    async def _read_one(self, each: Any, out: Any, drop_axes: tuple[int, ...]) -> None:
        """Read one chunk of several of which one is damaged, and name it if it is this one."""
        try:
            await self.limited.read([each], out, drop_axes)
        except DAMAGE as error:
            key = getattr(each[0], "path", "")
            raise ValueError(f"the chunk {key!r} of the array {self.shown} is damaged: {said_of(error)}") from error

    async def write(self, batch_info: Iterable[Any], value: Any, drop_axes: tuple[int, ...] = ()) -> Any:
        """Write chunks from a buffer."""
        return await self.limited.write(batch_info, value, drop_axes)

    async def decode(self, chunk_bytes_and_specs: Iterable[Any]) -> Any:
        """Return decoded chunks."""
        return await self.limited.decode(chunk_bytes_and_specs)

    async def encode(self, chunk_arrays_and_specs: Iterable[Any]) -> Any:
        """Return encoded chunks."""
        return await self.limited.encode(chunk_arrays_and_specs)

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Any:
        """Return the codecs as they are for an array."""
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    @classmethod
    def from_codecs(cls, codecs: Iterable[AnyCodec]) -> Any:
        """Refuse to be made from codecs alone: limits are those of an array."""
        raise NotImplementedError

    @property
    def supports_partial_decode(self) -> bool:
        """Whether parts of chunks are read."""
        return bool(self.inner.supports_partial_decode)

    @property
    def supports_partial_encode(self) -> bool:
        """Whether parts of chunks are written."""
        return bool(self.inner.supports_partial_encode)

    def validate(self, **about: Any) -> None:
        """Refuse an array that the codecs cannot store."""
        self.inner.validate(**about)

    def compute_encoded_size(self, byte_length: int, array_spec: ArraySpec) -> int:
        """Return the size of a chunk once it is encoded, where that is known."""
        return int(self.inner.compute_encoded_size(byte_length, array_spec))


def said_of(error: Exception) -> str:
    """Return in one line what a decoder says of a chunk."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _limited(codec: Any, metadata: Any) -> Any:
    """Return a codec with a limit, the codec itself where it can have none."""
    if isinstance(codec, V2Codec):
        nbytes = _nbytes(metadata.chunks, metadata.dtype)
        limit = nbytes * (FILTER_FACTOR if codec.filters else 1) + OVERHEAD
        compressor = codec.compressor and LimitedNumcodec(codec.compressor, limit)
        filters = codec.filters and tuple(LimitedNumcodec(each, limit) for each in codec.filters)
        return V2Codec(filters=cast("Any", filters), compressor=cast("Any", compressor))
    if type(codec) is ShardingCodec:
        return LimitedSharding.of(codec, metadata)
    plain = codec_in_numcodecs(codec) or numcodec_of(codec)
    if isinstance(codec, BytesBytesCodec) and isinstance(plain, Codec) and _has_limit(plain):
        return LimitedCodec(codec, plain)
    return codec


def _has_limit(codec: Codec) -> bool:
    return _stream_of(codec) is not None or codec.codec_id in SIZED


def _nbytes(shape: Sequence[int], dtype: Any) -> int:
    """Return the bytes of the values of a chunk, for texts of any length more than there should be."""
    native = dtype.to_native_dtype()
    if native.kind in "OT" or native.itemsize == 0:
        return UNSIZED_LIMIT
    return math.prod(shape) * int(native.itemsize)
