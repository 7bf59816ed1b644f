"""The images of stores and trees as the viewer gets them: levels, axes and display attributes."""

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
from ..image.tree import NODE_PREFIX, RECIPE_ATTRIBUTE, assemble, levels_of_tree
from ..metadata import DEFAULT_VERSION, IMAGE_LABEL, OMERO, level_transformations
from ..metadata.display import stated_omero
from ..store import (
    LABELS,
    holds_image,
    is_zarr,
    local_path,
    missing_values_of,
    open_image,
    open_node,
    open_pyramid,
    source_array,
)
from ..tasks.crew import usable_scheduler
from .levels import ServedLevel, served_level, viewer_dtype
from .space import ViewerAxis, viewer_axes

# Endings of stores, which do not belong to an image's name.
STORE_ENDINGS = (".zip", ".ozx", ".zarr", ".ome")
# Last parts of paths that do not name an image; numbers of levels do not either.
LEVEL_NAMES = frozenset({"", "image"})


@dataclass(frozen=True)
class ServedImage:
    """An image, or labels, as the viewer gets it."""

    name: str
    """Name of its layers."""
    is_labels: bool
    """Whether its values are ids of labels."""
    levels: tuple[xr.DataArray, ...]
    """The levels, finest first."""
    served: tuple[ServedLevel, ...]
    """The chunks of each level."""
    axes: tuple[tuple[ViewerAxis, ...], ...]
    """The axes of each level."""
    attributes: Mapping[str, Any]
    """The ``omero`` and ``image-label`` metadata that the image has."""
    left_out: tuple[Any, ...] = ()
    """The values that stand for missing ones."""
    notes: tuple[str, ...] = ()
    """How what the viewer shows differs from the image, a sentence each."""

    @property
    def document(self) -> dict[str, Any]:
        """The image's ``zarr.json``, in the version of OME-NGFF that `write_pyramid` writes by default."""
        datasets = []
        for level, axes in enumerate(self.axes):
            scales, translations = [axis.spacing for axis in axes], [axis.origin for axis in axes]
            transforms = level_transformations(str(level), scales, translations, DEFAULT_VERSION)
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        described_axes = [
            {"name": axis.name, "type": axis.kind, **({"unit": axis.unit} if axis.unit else {})}
            for axis in self.axes[0]
        ]
        multiscale = {"name": self.name, "axes": described_axes, "datasets": datasets}
        ome = {"version": DEFAULT_VERSION, "multiscales": [multiscale]}
        return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}


def served_images(
    source: Any, path: str | None = None, *, storage_options: Mapping[str, Any] | None = None
) -> list[ServedImage]:
    """Return the images of a store, a tree or an array, followed by their labels."""
    tree = tree_of(source, path, storage_options)
    name = _name_from_path(source, path)
    images = []
    for variable in _variables(tree):
        levels = levels_of_tree(_with_one_variable(tree, variable))
        recipe = tree.attrs.get(RECIPE_ATTRIBUTE)
        images.append(_served_image(name or str(variable or "image"), levels, recipe, is_labels=False))
    if LABELS in tree.children:
        for label, labels in tree[LABELS].children.items():
            images.append(_served_image(f"{images[0].name} {label}", levels_of_tree(labels), None, is_labels=True))
    return images


def with_common_units(images: Sequence[ServedImage]) -> list[ServedImage]:
    """Return the images without the units of axes along which they cannot be converted into each other.

    Neuroglancer cannot show a length and a number without a unit along one axis; without units their numbers are
    compared as they are.
    """
    bases: dict[str, set[str]] = {}
    for axis in (axis for image in images for axis in image.axes[0]):
        bases.setdefault(axis.name, set()).add(axis.step[1])
    mixed = {name for name, units in bases.items() if len(units) > 1}
    return [_without_units(image, mixed) for image in images]


def _without_units(image: ServedImage, names: Set[str]) -> ServedImage:
    removed = [f"{axis.name!r} ({axis.unit})" for axis in image.axes[0] if axis.name in names and axis.unit]
    if not removed:
        return image
    axes = tuple(
        tuple(replace(axis, unit=None) if axis.name in names else axis for axis in level) for level in image.axes
    )
    note = f"the images have different units; those of {', '.join(removed)} are ignored"
    return replace(image, axes=axes, notes=(*image.notes, note))


def tree_of(source: Any, path: str | None, storage_options: Mapping[str, Any] | None) -> xr.DataTree:
    """Return a store, tree, file or array as a tree of levels; an array or file becomes a tree of one level."""
    if isinstance(source, xr.DataTree):
        return source if path is None else cast("xr.DataTree", source[path])
    if not isinstance(source, str | os.PathLike | Mapping) and not is_zarr(source):
        return _tree_of_one_level(to_image(source))
    if is_file_of_images(local_path(source)):
        return _tree_of_one_level(open_image(source, path))
    node = open_node(source, path, storage_options=storage_options)
    if isinstance(node, zarr.Array) or (not holds_image(node) and list(node.arrays())):
        return _tree_of_one_level(open_image(source, path, storage_options=storage_options))
    return open_pyramid(source, path, storage_options=storage_options)


def _tree_of_one_level(image: xr.DataArray) -> xr.DataTree:
    return assemble([image.to_dataset(name=image.name or "image")])


def _variables(tree: xr.DataTree) -> Sequence[Any]:
    """Return the names of the images in each level."""
    base = tree.children.get(f"{NODE_PREFIX}0")
    # For a tree without levels, `levels_of_tree` raises the error.
    return [None] if base is None else list(base.data_vars)


def _with_one_variable(tree: xr.DataTree, variable: Any) -> xr.DataTree:
    """Return the levels of a tree with only one of their images."""
    if variable is None:
        return tree
    numbered: Iterator[str] = (f"{NODE_PREFIX}{number}" for number in range(len(tree.children)))
    return assemble([tree[node].to_dataset()[[variable]] for node in numbered if node in tree.children])


def _name_from_path(source: Any, path: str | None) -> str | None:
    """Return the last part of an image's path, without endings; None if that does not name an image."""
    text = path or (os.fspath(source) if isinstance(source, str | os.PathLike) else "")
    name = PurePosixPath(str(text).replace(os.sep, "/")).name
    while (stem := PurePosixPath(name)).suffix in STORE_ENDINGS and stem.suffix:
        name = stem.stem
    return name if name not in LEVEL_NAMES and not name.isdigit() else None


def _served_image(
    name: str, levels: Sequence[xr.DataArray], recipe: Mapping[str, Any] | None, *, is_labels: bool
) -> ServedImage:
    # xarray's lazy arrays without chunks would be read as a whole for each chunk served.
    levels = [level.chunk("auto") if level.chunks is None else level for level in levels]
    display = {OMERO: stated_omero(levels[0]), IMAGE_LABEL: levels[0].attrs.get(IMAGE_LABEL)}
    attributes = {key: value for key, value in display.items() if value is not None}
    is_labels = (is_labels or IMAGE_LABEL in attributes) and levels[0].dtype.kind in "biu"
    dtype = viewer_dtype(levels[0].dtype, labels=is_labels)
    served = tuple(served_level(level, dtype) for level in levels)
    axes, notes = viewer_axes([image_axes(level) for level in levels])
    if not is_labels and not np.can_cast(levels[0].dtype, dtype):
        what = "their magnitudes" if levels[0].dtype.kind == "c" else "they"
        notes.append(f"the viewer cannot show {levels[0].dtype.name} values; {what} are converted to {dtype.name}")
    left_out = () if is_labels else missing_values_of(levels[0], recipe)
    return ServedImage(name, is_labels, tuple(levels), served, axes, attributes, left_out, tuple(notes))


def contrast_sample(levels: Sequence[xr.DataArray], limit: int) -> xr.DataArray:
    """Return the values from which to choose contrast, loaded: the coarsest level, or its middle if it is larger.

    If any levels are stored, it is the coarsest of those, because others are computed from finer ones. `limit` is the
    number of values above which the level is cropped.
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
