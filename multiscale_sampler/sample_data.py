"""A synthetic test image of any size, written in parallel.

It shows smooth shading, bright balls on a lattice and fine stripes in one corner; as labels, one id per ball. Each
voxel is computed from its index only, so the image does not depend on its chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr

from .image.boxes import Box, pieces, size_of, whole_box
from .messages import check_choice
from .store import storage_unit
from .tasks import machine
from .tasks.progress import ProgressCallback, reporting

Kind: TypeAlias = Literal["image", "labels"]

# In voxels: spacing of the lattice, radius of the balls, width of a stripe.
LATTICE = 32
RADIUS = 11.0
STRIPES = 4


def create_test_image(
    store: Any,
    path: str = "0",
    *,
    shape: Sequence[int] = (512, 512, 512),
    chunks: Sequence[int] = (64, 64, 64),
    dtype: npt.DTypeLike = "uint16",
    kind: Kind = "image",
    progress: bool | ProgressCallback | None = None,
    **create_options: Any,
) -> zarr.Array[Any]:
    """Write a synthetic test image as a zarr array, chunk by chunk in parallel.

    The image shows smooth shading, bright balls on a lattice and fine stripes in one corner.

    Parameters
    ----------
    store, path
        Where to write the array, as in ``zarr.create_array``.
    shape, chunks
        Shape of the image and of its chunks; any number of axes.
    dtype
        Any integer, float or bool dtype. Integers are scaled to the range of the dtype, floats lie within 0 and 1.
    kind
        "image", or "labels": one id per ball, 0 between them.
    progress
        As in `write_pyramid`.
    create_options
        Options of ``zarr.create_array`` (``zarr_format``, ``shards``, ``compressors``, ...).

    Returns
    -------
    zarr.Array
        The written array.

    Raises
    ------
    ValueError
        If `kind` is unknown, the dtype is too small for all labels, or shape and chunks differ in length.

    Examples
    --------
    >>> import multiscale_sampler as ms
    >>> ms.create_test_image({}, shape=(64, 96), chunks=(32, 32), dtype="uint8").shape
    (64, 96)
    """
    check_choice("kind", kind, ("image", "labels"))
    if len(shape) != len(chunks):
        raise ValueError(
            f"shape {tuple(shape)!r} and chunks {tuple(chunks)!r} differ in length; give one chunk per axis"
        )
    cells = math.prod(size // LATTICE + 1 for size in shape)
    if kind == "labels" and np.dtype(dtype).kind in "iu" and cells > np.iinfo(dtype).max:
        raise ValueError(
            f"labels of shape {tuple(shape)!r} have ids up to {cells!r}, too many for dtype {str(np.dtype(dtype))!r}; "
            "use a wider one, such as 'uint32'"
        )
    array = zarr.create_array(
        store, name=path, shape=tuple(shape), chunks=tuple(chunks), dtype=np.dtype(dtype), **create_options
    )

    def write(region: Box) -> None:
        array[region] = _voxels_in(region, tuple(shape), array.dtype, kind)

    regions = list(pieces(whole_box(array.shape), storage_unit(array)))
    with (
        ThreadPoolExecutor(machine.available_cores()) as pool,
        reporting(progress, array.nbytes, "making the image") as report,
    ):
        for region, _ in zip(regions, pool.map(write, regions), strict=True):
            report(size_of(region) * array.dtype.itemsize)
    return array


def _voxels_in(region: Box, shape: tuple[int, ...], dtype: np.dtype[Any], kind: Kind) -> npt.NDArray[Any]:
    """Return the voxels of a region of the test image."""
    grids = np.ogrid[region]
    centers = [(grid + LATTICE // 2) // LATTICE * LATTICE for grid in grids]
    square = sum((grid - center) ** 2 for grid, center in zip(grids, centers, strict=True))
    inside = square < RADIUS**2
    if kind == "labels":
        return np.where(inside, _cell_ids(grids, shape), 0).astype(dtype)
    shade = sum(grid / size for grid, size in zip(grids, shape, strict=True)) / len(shape)
    value = 0.15 + 0.35 * shade + np.where(inside, 0.45 * (1 - square / RADIUS**2), 0.0)
    last = list(zip(grids, shape, strict=True))[-2:]
    corner = np.logical_and.reduce(np.broadcast_arrays(*(grid < size // 4 for grid, size in last)))
    value = np.where(corner & (grids[-1] // STRIPES % 2 == 0), 1.0, value)
    if dtype.kind == "b":
        return value > 0.5
    if dtype.kind == "f":
        return value.astype(dtype)
    limits = np.iinfo(dtype)
    scaled = limits.min + value * (limits.max - limits.min)
    return scaled.clip(limits.min, _largest_float(dtype)).astype(dtype)


def _largest_float(dtype: np.dtype[Any]) -> float:
    """Return the largest float64 that does not overflow an integer dtype."""
    largest = np.iinfo(dtype).max
    rounded = float(largest)
    return float(np.nextafter(rounded, 0.0)) if int(rounded) > largest else rounded


def _cell_ids(grids: Sequence[npt.NDArray[Any]], shape: Sequence[int]) -> npt.NDArray[Any]:
    """Return the id of the cell of the lattice that each voxel is in, from 1."""
    ids = np.zeros((), np.int64)
    for grid, size in zip(grids, shape, strict=True):
        ids = ids * (size // LATTICE + 1) + (grid + LATTICE // 2) // LATTICE
    return ids + 1
