"""Labels beside their image: where they are, which there are, and how they get its levels.

OME-NGFF has them in the group ``labels`` of the image's group, whose attributes list them; each is an image itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from zarr.storage import StorePath

from ..image.axes import Axis, SamplePosition
from ..image.dataarray import (
    coordinate_variable,
    has_stated_positions,
    image_axes,
    refuse_unknown_sizes,
    to_image,
    with_coordinates_of,
)
from ..image.grids import is_rotated_otherwise
from ..image.orientation import DIRECTION
from ..metadata import NgffVersion, label_list_attributes, listed_labels, with_published
from ..metadata.display import without_display
from ..metadata.positions import other_positions, turned_like
from .layout import LABELS, check_node_name
from .nodes import open_node
from .staging import Stage
from .stored_pyramid import holds_image
from .targets import writable_group


def placed_labels(labels: Any, image: xr.DataArray, name: str | None) -> xr.DataArray:
    """Return labels, an array or an image, with the positions of the image that they label.

    Raises
    ------
    ValueError
        If they are not of the image's size, or state other positions.
    """
    refuse_unknown_sizes(labels)
    if isinstance(labels, xr.DataArray):
        labels = turned_like(labels, image)
    dims = _dims_of_labels(labels, image)
    placed = to_image(labels, dims)
    # Names of channels, say, beside those of an image that has none.
    named = [dim for dim in dims if placed.coords[dim].dtype.kind in "OSTU" and not has_stated_positions(image, dim)]
    if isinstance(labels, xr.DataArray) and is_rotated_otherwise(labels.attrs, image.attrs):
        raise ValueError(
            f"the axes of the labels have the direction {labels.attrs[DIRECTION]!r} in space, those of the image "
            f"{image.attrs.get(DIRECTION)!r}; resample the labels to the grid of the image"
        )
    for dim in dims if isinstance(labels, xr.DataArray) else ():
        if dim not in named and (places := other_positions(labels, image, dim)) is not None:
            raise ValueError(
                f"the labels are at {places[0]}, the image at {places[1]}; correct them with scale=, translation= and "
                "units=, or pass an array without positions, which gets those of the image"
            )
    joined = [dim for dim in dims if dim not in named]
    return with_coordinates_of(placed, without_display(image), joined).rename(name or placed.name)


def placed_levels(levels: Sequence[xr.DataArray], image: xr.DataArray) -> list[xr.DataArray]:
    """Return the levels of labels at the positions of their image, along axes whose positions nobody stated.

    Those of a level are then in voxels of the base.
    """
    base, placed = levels[0], list(levels)
    axes_of_levels = list(map(image_axes, levels[1:]))
    for axis in image_axes(without_display(image)):
        dim = axis.name
        if base.sizes.get(dim) != axis.size or has_stated_positions(base, dim):
            continue
        placed[0] = with_coordinates_of(placed[0], without_display(image), [dim])
        for index, own in enumerate(axes_of_levels, 1):
            at = next(each for each in own if each.name == dim)
            moved = coordinate_variable(_in_voxels_of(axis, at), image.coords[dim].attrs)
            placed[index] = placed[index].assign_coords({dim: moved})
    return placed


def _in_voxels_of(base: Axis, level: Axis) -> Axis:
    """Return the axis of a level whose positions are counted in voxels of the base."""
    if base.is_regular:
        scale, translation = base.scale * level.scale, base.translation + base.scale * level.translation
        return replace(base, size=level.size, scale=scale, translation=translation)
    position: SamplePosition = "center" if level.translation else "first"
    factor = round(level.scale)
    return base.coarsen(factor, boundary="pad" if level.size * factor >= base.size else "trim", position=position)


def _dims_of_labels(labels: Any, image: xr.DataArray) -> tuple[str, ...]:
    """Return the dims of labels, those of a bare array by its shape.

    Raises
    ------
    ValueError
        If no dims of the image have these sizes.
    """
    sizes = {str(dim): size for dim, size in image.sizes.items()}
    of_space = {axis.name: axis.size for axis in image_axes(image) if axis.type != "channel"}
    if isinstance(labels, xr.DataArray):
        found = {str(dim): size for dim, size in labels.sizes.items()}
    else:
        found = next((named for named in (sizes, of_space) if tuple(named.values()) == tuple(labels.shape)), {})
    if not found or any(sizes.get(dim) != size for dim, size in found.items()):
        shape = found if isinstance(labels, xr.DataArray) else tuple(labels.shape)
        raise ValueError(
            f"labels of shape {shape!r} do not fit an image of {sizes!r}; give them its sizes, and name their axes as "
            "it does, with dims="
        )
    return tuple(found)


def label_place(image: zarr.Group, name: str) -> StorePath:
    """Return where labels of a name belong.

    Raises
    ------
    ValueError
        If no group can have that name.
    """
    check_node_name(name, "the labels", "choose another name, as 'nuclei_2'")
    return image.store_path / LABELS / name


def is_finished(place: StorePath) -> bool:
    """Whether a whole pyramid is there, and none that is to replace it."""
    stage = Stage.of(place)
    if stage is not None and (stage.is_alone or stage.is_swapping or stage.begun() is not None):
        return False
    try:
        node = open_node(place)
    except FileNotFoundError:
        return False
    return holds_image(node)


def labels_group_above(group: zarr.Group) -> zarr.Group | None:
    """Return the group that lists labels of which this is one, None if it is an image by itself."""
    store, parts = group.store_path.store, group.path.split("/") if group.path else []
    if len(parts) > 1:
        if parts[-2] != LABELS:
            return None
        above = StorePath(store, "/".join(parts[:-1]))
    elif not parts and isinstance(store, zarr.storage.LocalStore) and Path(store.root).absolute().parent.name == LABELS:
        above = StorePath(zarr.storage.LocalStore(Path(store.root).absolute().parent), "")
    else:
        return None
    try:
        found = open_node(above)
    except FileNotFoundError:
        # A folder of that name, and no more.
        return None
    return writable_group(found) if isinstance(found, zarr.Group) else None


def register_label(labels: zarr.Group, name: str, version: NgffVersion) -> None:
    """List labels in the group that they are in, once."""
    attributes = labels.attrs.asdict()
    listed = listed_labels(attributes)
    if name not in listed:
        labels.attrs.put(with_published(attributes, label_list_attributes([*listed, name], version=version)))
