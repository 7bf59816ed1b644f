"""From stores and trees to the images that are shown: their levels as they are served, and what is known of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr

from ..files import is_file_of_images
from ..image.dataarray import image_axes, to_image
from ..image.tree import NODE_PREFIX, assemble, levels_of_tree
from ..metadata import DEFAULT_VERSION, IMAGE_LABEL, OMERO, level_transformations, parse_multiscales
from ..metadata.display import stated_omero
from ..store import LABELS, is_zarr, local_path, open_image, open_node, open_pyramid, source_array
from ..tasks.crew import usable_scheduler
from .levels import ServedLevel, served_level, shown_dtype
from .space import ShownAxis, shown_axes

# Endings of stores that say nothing of the image.
STORE_ENDINGS = (".zip", ".ozx", ".zarr", ".ome")
LEVEL_NAMES = frozenset({"", "image"})


@dataclass(frozen=True)
class ShownImage:
    """An image, or labels of one, as it is served."""

    name: str
    """Name of its layers."""
    is_labels: bool
    """Whether its values are ids and not brightness."""
    levels: tuple[xr.DataArray, ...]
    """The levels, finest first."""
    served: tuple[ServedLevel, ...]
    """What of each the viewer gets."""
    axes: tuple[tuple[ShownAxis, ...], ...]
    """The axes of each level as the viewer has them."""
    attributes: Mapping[str, Any]
    """What OME-NGFF says of the image; empty for one that is not stored."""
    notes: tuple[str, ...] = ()
    """What is shown otherwise than it is."""

    @property
    def document(self) -> dict[str, Any]:
        """The image's ``zarr.json``, in the version of OME-NGFF that all clients read, the viewer too."""
        datasets = []
        for level, axes in enumerate(self.axes):
            scales, translations = [axis.spacing for axis in axes], [axis.origin for axis in axes]
            transforms = level_transformations(str(level), scales, translations, DEFAULT_VERSION)
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        named = [
            {"name": axis.name, "type": axis.kind, **({"unit": axis.unit} if axis.unit else {})}
            for axis in self.axes[0]
        ]
        ome = {"version": DEFAULT_VERSION, "multiscales": [{"name": self.name, "axes": named, "datasets": datasets}]}
        return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}


def shown_images(
    given: Any, path: str | None = None, *, storage_options: Mapping[str, Any] | None = None
) -> list[ShownImage]:
    """Return the images of a store or of a tree, its labels after it."""
    tree = tree_of(given, path, storage_options)
    name = _name_of_place(given, path)
    images = []
    for variable in _variables(tree):
        levels = levels_of_tree(_only(tree, variable))
        images.append(_shown_image(name or str(variable or "image"), levels, is_labels=False))
    if LABELS in tree.children:
        for label, labels in tree[LABELS].children.items():
            images.append(_shown_image(f"{images[0].name} {label}", levels_of_tree(labels), is_labels=True))
    return images


def with_common_units(images: Sequence[ShownImage]) -> list[ShownImage]:
    """Return images of which none has a unit along an axis where another has none, or one of another kind.

    The viewer shows no two such images at once; their numbers are then compared as they are.
    """
    bases: dict[str, set[str]] = {}
    for axis in (axis for image in images for axis in image.axes[0]):
        bases.setdefault(axis.name, set()).add(axis.step[1])
    mixed = {name for name, found in bases.items() if len(found) > 1}
    return [_without_units(image, mixed) for image in images]


def _without_units(image: ShownImage, names: Set[str]) -> ShownImage:
    lost = [f"{axis.name!r} ({axis.unit})" for axis in image.axes[0] if axis.name in names and axis.unit]
    if not lost:
        return image
    axes = tuple(
        tuple(replace(axis, unit=None) if axis.name in names else axis for axis in level) for level in image.axes
    )
    note = f"the images have different units; those of {', '.join(lost)} are left out"
    return replace(image, axes=axes, notes=(*image.notes, note))


def tree_of(given: Any, path: str | None, storage_options: Mapping[str, Any] | None) -> xr.DataTree:
    """Return what is to be shown as a tree of levels; an array alone is one of a single level."""
    if isinstance(given, xr.DataTree):
        return given if path is None else cast("xr.DataTree", given[path])
    if not isinstance(given, str | os.PathLike | Mapping) and not is_zarr(given):
        return _single(to_image(given))
    if is_file_of_images(local_path(given)):
        return _single(open_image(given, path))
    node = open_node(given, path, storage_options=storage_options)
    if isinstance(node, zarr.Array) or (parse_multiscales(node.attrs.asdict()) is None and list(node.arrays())):
        return _single(open_image(given, path, storage_options=storage_options))
    return open_pyramid(given, path, storage_options=storage_options)


def _single(image: xr.DataArray) -> xr.DataTree:
    return assemble([image.to_dataset(name=image.name or "image")])


def _variables(tree: xr.DataTree) -> Sequence[Any]:
    base = tree.children.get(f"{NODE_PREFIX}0")
    # Of a tree without levels `levels_of_tree` says what is wrong.
    return [None] if base is None else list(base.data_vars)


def _only(tree: xr.DataTree, variable: Any) -> xr.DataTree:
    """Return the levels of a tree with one of their images."""
    if variable is None:
        return tree
    numbered: Iterator[str] = (f"{NODE_PREFIX}{number}" for number in range(len(tree.children)))
    return assemble([tree[node].to_dataset()[[variable]] for node in numbered if node in tree.children])


def _name_of_place(given: Any, path: str | None) -> str | None:
    """Return the name that a place gives an image, None if it gives none."""
    text = path or (os.fspath(given) if isinstance(given, str | os.PathLike) else "")
    name = PurePosixPath(str(text).replace(os.sep, "/")).name
    while (stem := PurePosixPath(name)).suffix in STORE_ENDINGS and stem.suffix:
        name = stem.stem
    return name if name not in LEVEL_NAMES and not name.isdigit() else None


def _shown_image(name: str, levels: Sequence[xr.DataArray], *, is_labels: bool) -> ShownImage:
    # What xarray reads lazily it would read whole where it is not in chunks.
    levels = [level.chunk("auto") if level.chunks is None else level for level in levels]
    told = {OMERO: stated_omero(levels[0]), IMAGE_LABEL: levels[0].attrs.get(IMAGE_LABEL)}
    attributes = {key: value for key, value in told.items() if value is not None}
    is_labels = (is_labels or IMAGE_LABEL in attributes) and levels[0].dtype.kind in "biu"
    dtype = shown_dtype(levels[0].dtype, labels=is_labels)
    served = tuple(served_level(level, dtype) for level in levels)
    axes, notes = shown_axes([image_axes(level) for level in levels])
    if not is_labels and not np.can_cast(levels[0].dtype, dtype):
        what = "their magnitudes" if levels[0].dtype.kind == "c" else "they"
        notes.append(f"the viewer has no {levels[0].dtype.name} values; {what} are shown as {dtype.name}")
    return ShownImage(name, is_labels, tuple(levels), served, axes, attributes, tuple(notes))


def sample(levels: Sequence[xr.DataArray], limit: int) -> xr.DataArray:
    """Return the values that contrast is taken from: the coarsest level, or the middle of what is larger.

    Levels that would have to be computed from finer ones are passed over where a finer one is stored.
    """
    stored = [level for level in levels if source_array(level.data) is not None]
    chosen = (stored or levels)[-1]
    kinds = {axis.name: axis.type for axis in image_axes(chosen)}
    while chosen.size > limit:
        dim = max((dim for dim in chosen.dims if kinds[str(dim)] != "channel"), key=lambda dim: chosen.sizes[dim])
        size = chosen.sizes[dim]
        if size == 1:
            break
        chosen = chosen.isel({dim: slice(size // 4, size // 4 + -(-size // 2))})
    loaded = chosen.load(scheduler=usable_scheduler())
    match loaded.dtype.kind:
        case "b":
            return loaded.astype(np.uint8)
        case "c":
            return loaded.copy(data=np.abs(loaded.values))
    return loaded
