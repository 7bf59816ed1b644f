"""A structured image to try things on: known, of any size, and made in parallel.

Every voxel follows from its own index, so that the image does not depend on how it is chunked or written:
smooth shading, bright balls on a lattice and fine stripes in one corner, or, as labels, one id per cell of the
lattice. Slices of its levels show at a glance whether a method blurs, shifts or invents.
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

# Spacing of the lattice and radius of its balls, in voxels.
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
    """Write a structured image into a store, chunk by chunk in parallel.

    Parameters
    ----------
    store, path
        Where to write the array, as ``zarr.create_array`` takes them.
    shape, chunks
        Shape of the image and of its chunks; any number of axes.
    dtype
        Any integer, float or bool dtype. Values span the dtype's range, floats 0 to 1.
    kind
        "image", or "labels": an id for each cell of a lattice, 0 between them.
    progress
        As in `write_pyramid`.
    create_options
        Passed on to ``zarr.create_array`` (``zarr_format``, ``shards``, ``compressors``, ...).

    Returns
    -------
    zarr.Array
        The array that was written.

    Raises
    ------
    ValueError
        If `kind` is unknown, the dtype cannot hold all labels, or shape and chunks do not fit each other.

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
            f"an image of shape {tuple(shape)!r} has {cells!r} labels, more than dtype {str(np.dtype(dtype))!r} holds; "
            "use a wider one, as 'uint32'"
        )
    array = zarr.create_array(
        store, name=path, shape=tuple(shape), chunks=tuple(chunks), dtype=np.dtype(dtype), **create_options
    )

    def write(region: Box) -> None:
        array[region] = _block(region, tuple(shape), array.dtype, kind)

    regions = list(pieces(whole_box(array.shape), storage_unit(array)))
    with (
        ThreadPoolExecutor(machine.available_cores()) as pool,
        reporting(progress, array.nbytes, "making the image") as report,
    ):
        for region, _ in zip(regions, pool.map(write, regions), strict=True):
            report(size_of(region) * array.dtype.itemsize)
    return array


def _block(region: Box, shape: tuple[int, ...], dtype: np.dtype[Any], kind: Kind) -> npt.NDArray[Any]:
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
    # Through half of the range and twice, which float64 holds for 64 bits too.
    return (
        (limits.min + (value * (limits.max / 2.0 - limits.min / 2.0)) * 2.0).clip(limits.min, _top(dtype)).astype(dtype)
    )


def _top(dtype: np.dtype[Any]) -> float:
    """Return the greatest float64 that the integer dtype can hold."""
    top = np.iinfo(dtype).max
    return float(np.nextafter(float(top), 0.0)) if int(float(top)) > top else float(top)


def _cell_ids(grids: Sequence[npt.NDArray[Any]], shape: Sequence[int]) -> npt.NDArray[Any]:
    ids = np.zeros((), np.int64)
    for grid, size in zip(grids, shape, strict=True):
        ids = ids * (size // LATTICE + 1) + (grid + LATTICE // 2) // LATTICE
    return ids + 1
