"""Shapes of chunks and shards: given by the caller, inherited from the source, or by default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import xarray as xr

from ..image.axes import Axis
from ..image.encodings import stored_shape
from .factors import ChunkSizes, per_axis

# Chunk lengths by the number of spatial axes: good sizes for viewers as well as for disks and object stores.
DEFAULT_CHUNKS = {1: 262_144, 2: 512, 3: 64}
# Larger dask blocks were chosen for computing, not for storage.
LARGEST_INHERITED_CHUNK = 8 * 2**20


def chunk_shape(image: xr.DataArray, axes: Sequence[Axis], chunks: ChunkSizes | None) -> dict[str, int]:
    """Return the chunk length by dim: as given, as stored, as the dask blocks, or a default."""
    blocks = _block_shape(image)
    if blocks is not None and math.prod(blocks) * image.dtype.itemsize > LARGEST_INHERITED_CHUNK:
        blocks = None
    inherited = stored_shape(image, "chunks") or blocks or _default_chunks(axes)
    shape = dict(zip((axis.name for axis in axes), inherited, strict=True))
    return shape if chunks is None else shape | per_axis("chunks", chunks, axes)


def _block_shape(image: xr.DataArray) -> tuple[int, ...] | None:
    """Return the shape of the blocks of a dask array, if all blocks but the last ones have the same."""
    if image.chunks is None:
        return None
    for blocks in image.chunks:
        if len(set(blocks[:-1])) > 1 or blocks[-1] > blocks[0]:
            return None
    return tuple(blocks[0] for blocks in image.chunks)


def _default_chunks(axes: Sequence[Axis]) -> tuple[int, ...]:
    spatial = sum(axis.type == "space" and axis.size > 1 for axis in axes)
    length = DEFAULT_CHUNKS[min(max(spatial, 1), 3)]
    return tuple(min(length, axis.size) if axis.type == "space" else 1 for axis in axes)


def shard_shape(
    image: xr.DataArray,
    axes: Sequence[Axis],
    chunk_shape: Mapping[str, int],
    shards: ChunkSizes | Literal[False] | None,
) -> dict[str, int] | None:
    """Return the shard length by dim, None without sharding.

    Raises
    ------
    ValueError
        If shards are not multiples of the chunks.
    """
    if shards is False:
        return None
    if shards is None:
        stored = stored_shape(image, "shards")
        shape = None if stored is None else dict(zip(chunk_shape, stored, strict=True))
        if shape is None or any(shape[dim] % chunk for dim, chunk in chunk_shape.items()):
            return None
        return shape
    shape = dict(chunk_shape) | per_axis("shards", shards, axes)
    if wrong := {dim: shape[dim] for dim, chunk in chunk_shape.items() if shape[dim] % chunk}:
        raise ValueError(f"shards {wrong!r} are not multiples of the chunks {dict(chunk_shape)!r}; give multiples")
    return shape


def source_chunks(image: xr.DataArray) -> tuple[int, ...]:
    """Return the shape of the boxes in which an image can be read without decoding a chunk twice."""
    return stored_shape(image, "shards") or stored_shape(image, "chunks") or _block_shape(image) or (1,) * image.ndim
