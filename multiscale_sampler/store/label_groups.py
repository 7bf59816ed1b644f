"""Labels beside their image: where they are, which there are, and how they get its levels.

OME-NGFF has them in the group ``labels`` of the image's group, whose attributes list them; each is an image itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import StorePath

from ..image.axes import Axis, position_tolerance
from ..image.dataarray import coordinate_variable, has_stated_positions, image_axes, to_image
from ..metadata import NgffVersion, label_list_attributes, listed_labels, with_published
from ..metadata.units import unit_dimension, unit_factor
from .layout import LABELS, check_node_name
from .nodes import open_node
from .staging import Stage
from .stored_pyramid import StoredPyramid, holds_image
from .targets import writable_group


def placed_labels(labels: Any, image: StoredPyramid, name: str | None) -> xr.DataArray:
    """Return labels with the positions of the image that they label.

    Raises
    ------
    ValueError
        If they are not of the image's size, or state other positions.
    """
    given = isinstance(labels, xr.DataArray)
    base = image.levels[0]
    sizes = {axis.name: axis.size for axis in base}
    of_space = {axis.name: axis.size for axis in base if axis.type != "channel"}
    found = (
        dict(labels.sizes)
        if given
        else next((named for named in (sizes, of_space) if tuple(named.values()) == tuple(labels.shape)), {})
    )
    if not found or any(sizes.get(dim) != size for dim, size in found.items()):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)!r} do not fit an image of {sizes!r}; give them its sizes"
        )
    placed = to_image(labels, tuple(found))
    axes = {axis.name: axis for axis in base}
    stated = {axis.name: axis for axis in image_axes(placed) if given and has_stated_positions(labels, axis.name)}
    for dim, axis in stated.items():
        _check_same_positions(axis, axes[dim])
    unplaced = [dim for dim in found if dim not in stated]
    placed = placed.assign_coords({dim: coordinate_variable(axes[dim], {}) for dim in unplaced})
    return placed.rename(name or placed.name)


def _check_same_positions(labels: Axis, image: Axis) -> None:
    """Refuse labels that are somewhere else than their image."""
    if not labels.is_regular or not image.is_regular:
        return
    known = unit_dimension(labels.unit), unit_dimension(image.unit)
    # Where one of them has no unit, its numbers are taken for those of the other.
    factor = unit_factor(labels.unit) / unit_factor(image.unit) if None not in known else 1.0
    lines = (labels.coordinates() * factor, image.coordinates())
    tolerance = position_tolerance(lines[1], image.scale)
    different = None not in known and known[0] != known[1]
    if (
        different
        or np.abs(lines[0] - lines[1]).max() > tolerance
        or (labels.size == 1 and abs(labels.scale * factor - image.scale) > tolerance)
    ):
        raise ValueError(
            f"the labels are at {_place_of(labels)}, the image at {_place_of(image)}; give labels of the same "
            "positions, or a bare array, which gets those of the image"
        )


def _place_of(axis: Axis) -> str:
    unit = "" if axis.unit is None else f" {axis.unit}"
    return f"{axis.name} = {axis.translation!r} + {axis.scale!r} * i{unit}"


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
