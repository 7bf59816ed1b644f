"""What the encoding of an image states for each axis, which counts only along axes that the image still has.

xarray carries ``encoding`` along when axes are dropped, added, renamed or put into another order. The keys of its
``preferred_chunks`` are the axes of the array that was opened, in their order: they say which axis each entry is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import xarray as xr

StoredShape: TypeAlias = Literal["chunks", "shards"]

# Encodings that have one entry for each axis.
STORED_SHAPES: tuple[StoredShape, ...] = ("chunks", "shards")
PREFERRED = "preferred_chunks"
BY_AXIS = (*STORED_SHAPES, PREFERRED)


def stored_shape(image: xr.DataArray, key: StoredShape) -> tuple[int, ...] | None:
    """Return the shape of the chunks or shards in which an image is stored, in the order of its axes.

    None where the encoding states none, or not for each axis of the image.
    """
    shape = image.encoding.get(key)
    dims = _dims_of_shapes(image)
    if not isinstance(shape, tuple) or len(shape) != len(dims) or not all(isinstance(n, int) for n in shape):
        return None
    by_dim = dict(zip(dims, shape, strict=True))
    if by_dim.keys() <= set(image.dims):
        # New axes, as of `xr.concat`, are stored one by one.
        return tuple(by_dim.get(dim, 1) for dim in image.dims)
    return tuple(by_dim[dim] for dim in image.dims) if by_dim.keys() > set(image.dims) else None


def sizes_to_read(image: xr.DataArray) -> dict[Any, Any]:
    """Return by dim the blocks in which to read an image: as it is stored, and "auto" along new axes."""
    preferred = _preferred(image)
    return {dim: size if isinstance(size := preferred.get(dim), int) else "auto" for dim in image.dims}


def encoding_by_axis(image: xr.DataArray) -> dict[Any, Any]:
    """Return what the encoding of an image states for each axis, as far as it still fits, in the order of its axes."""
    shapes = {key: stored_shape(image, key) for key in STORED_SHAPES}
    preferred = {dim: size for dim, size in sizes_to_read(image).items() if size != "auto"}
    stated = {key: shape for key, shape in shapes.items() if shape is not None}
    return {**stated, PREFERRED: preferred} if len(preferred) == image.ndim else stated


def transposed_encoding(image: xr.DataArray, dims: Sequence[Any]) -> dict[Any, Any]:
    """Return the encoding of an image for its axes in another order, without what no longer fits."""
    order = [image.dims.index(dim) for dim in dims]
    fitting = encoding_by_axis(image)
    shapes = {key: tuple(fitting[key][axis] for axis in order) for key in STORED_SHAPES if key in fitting}
    preferred = {PREFERRED: {dim: fitting[PREFERRED][dim] for dim in dims}} if PREFERRED in fitting else {}
    return {**encoding_without_shapes(image.encoding), **shapes, **preferred}


def encoding_of_blocks(image: xr.DataArray) -> dict[Any, Any]:
    """Return the encoding of a dask image, with shapes only if each block is made of whole chunks and shards.

    xarray refuses to write others, as two blocks would write into one chunk.
    """
    for key in STORED_SHAPES:
        shape = stored_shape(image, key) or (1,) * image.ndim
        blocks = image.chunks or ()
        if any(size % n for sizes, n in zip(blocks, shape, strict=True) for size in sizes[:-1]):
            return encoding_without_shapes(image.encoding)
    return transposed_encoding(image, image.dims)


def encoding_without_shapes(encoding: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return an encoding without what it has for each axis."""
    return {key: value for key, value in encoding.items() if key not in BY_AXIS}


def _dims_of_shapes(image: xr.DataArray) -> tuple[Any, ...]:
    """Return the axes that the stored shapes are for, in their order: none where the image has others now."""
    preferred = _preferred(image)
    if tuple(preferred.values()) in [image.encoding.get(key) for key in STORED_SHAPES]:
        return tuple(preferred)
    # Shapes that were set after opening, or sizes to read in no order of axes, as rasterio states them.
    return image.dims if not preferred or set(preferred) == set(image.dims) else ()


def _preferred(image: xr.DataArray) -> Mapping[Any, Any]:
    preferred = image.encoding.get(PREFERRED)
    return preferred if isinstance(preferred, Mapping) else {}
