"""Paths and names inside a pyramid's group."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import xarray as xr

from ..image.tree import NODE_PREFIX
from ..metadata import geozarr
from .names import DOCUMENTS, V2_DIMENSIONS

Layout: TypeAlias = Literal["datatree", "flat"]

LAYOUTS: tuple[Layout, ...] = ("datatree", "flat")
# Where OME-NGFF has the labels of an image.
LABELS = "labels"
# A group with this attribute and without OME-NGFF metadata is a build that has not finished.
BUILD_ATTRIBUTE = "multiscale_sampler"
# What a build keeps for itself until it ends.
SCRATCH = "multiscale_sampler_build"
# Names that an image must not have in a store: those of zarr, and those of devices in Windows.
RESERVED = (*DOCUMENTS, "c", "con", "prn", "aux", "nul")
# Of a name, in characters and in bytes: most file systems end at 255 bytes, and temporary names are longer.
LONGEST_NAME, LONGEST_BYTES = 100, 200
DIGESTS = "digests"
DIGESTS_PATH = f"{DIGESTS}/chunks"


def path_name(title: str, taken: Iterable[Any] = ()) -> str:
    """Return the name of the arrays of an image in a store: its title where that is safe, else a safe form of it.

    A safe name has letters, digits, ``-``, ``_`` and ``.`` alone, at most 100 characters, and is neither hidden, nor
    one that zarr or a file system reserves, nor, in whatever case, one that is `taken`. In the safe form all other
    characters become ``_``, and what is cut off is replaced by eight digits of the title's SHA-256.
    """
    used = {*RESERVED, *(str(name).casefold() for name in taken)}
    if _is_safe(title) and title.casefold() not in used:
        return title
    name = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", title)).strip("._-") or "image"
    if not _is_short(name):
        digest = hashlib.sha256(title.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name.encode()[: LONGEST_BYTES // 2].decode(errors='ignore')[: LONGEST_NAME // 2]}-{digest}"
    while name.casefold() in used:
        name += "_image"
    return name


def _is_safe(name: str) -> bool:
    hidden = name.startswith((".", "__")) or name.endswith(".")
    return re.fullmatch(r"[\w.-]+", name) is not None and not hidden and _is_short(name)


def _is_short(name: str) -> bool:
    return len(name) <= LONGEST_NAME and len(name.encode("utf-8", "surrogatepass")) <= LONGEST_BYTES


def check_node_name(name: Any, what: str, remedy: str) -> None:
    """Refuse a name of coordinates or labels that cannot be a part of a path, or of a URL, everywhere.

    Raises
    ------
    ValueError
        With what to do.
    """
    odd = not isinstance(name, str) or not name.isprintable() or not set(name).isdisjoint("/\\#?%")
    if odd or name != name.strip() or name in DOCUMENTS or name.startswith((".", "__")) or not name:
        raise ValueError(
            f"{what} {name!r} cannot be the name of an array or group in a store: it may not be empty, begin with '.' "
            f"or '__', or contain '/', '\\', '#', '?', '%' or control characters; {remedy}"
        )
    if not _is_short(name):
        raise ValueError(
            f"{what} {name[:20]!r}... has {len(name)} characters, too many for the name of an array or group in a "
            f"store ({LONGEST_NAME}, and {LONGEST_BYTES} bytes); {remedy}"
        )


def level_paths(layout: Layout, title: str, count: int, taken: Iterable[Any] = ()) -> tuple[str, ...]:
    """Return the path of every level's array in a new store, for an image with this title.

    Arrays of the names that are `taken` lie beside those of the levels.
    """
    if layout == "flat":
        return tuple(map(str, range(count)))
    name = path_name(title, taken)
    return tuple(f"{NODE_PREFIX}{index}/{name}" for index in range(count))


def written_paths(layout: Layout, paths: Sequence[str], images: Sequence[xr.DataArray]) -> tuple[str, ...]:
    """Return the paths of all arrays that a new store gets: levels, and in "datatree" their coordinates.

    Raises
    ------
    ValueError
        If the name of a coordinate or a dimension cannot be a path.
    """
    if layout == "flat":
        return tuple(paths)
    for name in {**dict.fromkeys(images[0].dims), **dict.fromkeys(images[0].coords)}:
        if name in images[0].dims:
            check_node_name(name, "the dimension", "rename it with image.rename")
        else:
            check_node_name(name, "the coordinate", "rename it with image.rename, or drop it with image.drop_vars")
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
