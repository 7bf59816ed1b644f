"""Paths and names inside a pyramid's group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import xarray as xr

from ..image.tree import NODE_PREFIX
from ..metadata import geozarr
from .names import V2_DIMENSIONS

Layout: TypeAlias = Literal["datatree", "flat"]

LAYOUTS: tuple[Layout, ...] = ("datatree", "flat")
# Where OME-NGFF has the labels of an image.
LABELS = "labels"
# A group with this attribute and without OME-NGFF metadata is a build that has not finished.
BUILD_ATTRIBUTE = "multiscale_sampler"
# What a build keeps for itself until it ends.
SCRATCH = "multiscale_sampler_build"
DIGESTS = "digests"
DIGESTS_PATH = f"{DIGESTS}/chunks"


def level_paths(layout: Layout, name: str, count: int) -> tuple[str, ...]:
    """Return the path of every level's array in a new store.

    Raises
    ------
    ValueError
        If the image's name cannot be the name of a zarr node.
    """
    if layout == "flat":
        return tuple(map(str, range(count)))
    if not name or "/" in name or name.startswith(("__", ".")):
        raise ValueError(f"the image's name {name!r} cannot name a zarr array; rename it with image.rename('image')")
    return tuple(f"{NODE_PREFIX}{index}/{name}" for index in range(count))


def written_paths(layout: Layout, paths: Sequence[str], images: Sequence[xr.DataArray]) -> tuple[str, ...]:
    """Return the paths of all arrays that a new store gets: levels, and in "datatree" their coordinates.

    Raises
    ------
    ValueError
        If a coordinate has the image's own name.
    """
    if layout == "flat":
        return tuple(paths)
    name = images[0].name
    if name in images[0].coords:
        raise ValueError(
            f"the image's name {str(name)!r} is that of a coordinate, and both are arrays of one group; rename it with "
            "image.rename('image')"
        )
    beside = (
        f"{path.rpartition('/')[0]}/{name}"
        for path, image in zip(paths, images, strict=True)
        for name in map(str, image.coords)
    )
    return (*paths, *beside)


def foreign_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's attributes without those that describe the pyramid itself."""
    ours = {"ome", "multiscales", "omero", "zarr_conventions", BUILD_ATTRIBUTE, V2_DIMENSIONS}
    return {key: value for key, value in attributes.items() if key not in ours and not key.startswith(geozarr.PREFIXES)}
