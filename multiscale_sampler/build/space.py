"""Whether the file system of a target has room for what a build writes."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import zarr
from dask.utils import format_bytes

from .. import store as stores
from ..image.boxes import Box, cell_at, grid_shape
from ..plan.plan import Plan
from .build import Build
from .sources import Base

# Chunks of level 0 that are encoded to find out how well it is compressed.
SAMPLED_CHUNKS = 32
# Standard errors by which a sample may be mistaken, so that no build is refused that has room.
SAFE_STANDARD_ERRORS = 3.0
# A document of metadata is not smaller.
DOCUMENT_BYTES = 200


def refuse_without_space(build: Build, place: stores.Location, rehearsed: Sequence[zarr.Array[Any]]) -> None:
    """Refuse a build for which the file system of its target has no room.

    A build that has room for all levels uncompressed, which is what a plan states, is not looked at any closer. Else
    chunks of level 0 are encoded; a build is refused if that level alone, as the sample has it at the least, does not
    fit. A pyramid that is replaced stays until the new one is complete, so that the space it takes does not count.

    Parameters
    ----------
    build
        The build.
    place
        Its target.
    rehearsed
        The arrays of its levels, in memory.

    Raises
    ------
    OSError
        ENOSPC, if there is too little space.
    """
    if place[0] != "file":
        return
    target = Path(*place[1])
    folder = next(each for each in (target, *target.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    # A zip file is packed from a folder beside it.
    copies = 2 if stores.zip_path(target) is not None else 1
    most = sum(plan.most_storage for plan in build.plans) * copies
    if most <= free:
        return
    least = DOCUMENT_BYTES * len(build.levels)
    for plan, base, array in zip(build.plans, build.bases, rehearsed, strict=False):
        least += 0 if plan.reduction.makes_base else _least_bytes(plan, base, array)
    if least * copies > free:
        raise OSError(
            errno.ENOSPC,
            f"{build.name!r} needs at least {format_bytes(least * copies)} of space (at most {format_bytes(most)}), "
            f"and the file system of {str(folder)!r} has {format_bytes(free)} left; free space, or write to another "
            "place",
        )


def _least_bytes(plan: Plan, base: Base, like: zarr.Array[Any]) -> int:
    """Return how many bytes level 0 takes at the least, by a sample of its chunks."""
    level = plan.levels[0]
    grid = grid_shape(level.shape, level.chunks)
    count = math.prod(grid)
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLED_CHUNKS)).astype(np.int64))
    boxes = [cell_at(tuple(map(int, np.unravel_index(n, grid))), level.chunks, level.shape) for n in chosen]
    sizes = [_encoded_size(like, base, box) for box in boxes]
    if len(sizes) == count:
        return sum(sizes)
    return max(int(count * (mean(sizes) - SAFE_STANDARD_ERRORS * stdev(sizes) / math.sqrt(len(sizes)))), 0)


def _encoded_size(like: zarr.Array[Any], base: Base, box: Box) -> int:
    """Return the size of a chunk as an array stores it, without what a shard adds to it."""
    values = np.asarray(base.read(box))
    created = zarr.create_array(
        {},
        shape=values.shape,
        dtype=like.dtype,
        chunks=values.shape,
        compressors=like.compressors,
        filters=like.filters,
        fill_value=like.fill_value,
        zarr_format=like.metadata.zarr_format,
    )
    empty = created.nbytes_stored()
    created[...] = values
    return created.nbytes_stored() - empty
