"""Labels beside the image that they label: where they are, which there are, and how they get its levels.

OME-NGFF has them in the group ``labels`` of the image's group, whose attributes list them; each is an image itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from zarr.storage import StorePath

from ..image.axes import Axis
from ..image.dataarray import coordinate_variable, to_image
from ..metadata import NgffVersion, label_list_attributes, listed_labels, parse_multiscales, with_published
from .arrays import pyramid_levels
from .layout import LABELS, Layout
from .nodes import Node, open_node
from .reading import read_multiscales
from .targets import writable_group


@dataclass(frozen=True)
class DescribedImage:
    """A stored image as its metadata describe it: what labels of it must fit."""

    version: str
    """Version of OME-NGFF."""
    layout: Layout
    """Where its levels are."""
    levels: tuple[tuple[Axis, ...], ...]
    """The axes of every level."""
    was_consolidated: bool
    """Whether its metadata are gathered at its group."""

    def placed(self, labels: Any, name: str | None) -> xr.DataArray:
        """Return labels with the positions of the image, if they have none themselves.

        Raises
        ------
        ValueError
            If they are not of the image's size.
        """
        given = isinstance(labels, xr.DataArray)
        sizes = {axis.name: axis.size for axis in self.levels[0]}
        of_space = {axis.name: axis.size for axis in self.levels[0] if axis.type != "channel"}
        found = (
            dict(labels.sizes)
            if given
            else next((named for named in (sizes, of_space) if tuple(named.values()) == tuple(labels.shape)), {})
        )
        if not found or any(sizes.get(dim) != size for dim, size in found.items()):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)!r} do not fit an image of {sizes!r}; give them its sizes"
            )
        image = to_image(labels, tuple(found))
        axes = {axis.name: axis for axis in self.levels[0]}
        unplaced = [dim for dim in found if not given or dim not in labels.coords]
        image = image.assign_coords({dim: coordinate_variable(axes[dim], {}) for dim in unplaced})
        return image.rename(name or image.name)

    def shaping(self, dims: Sequence[Hashable]) -> dict[str, Any]:
        """Return the factors and the boundary by which labels with these dims get the levels of the image.

        Raises
        ------
        ValueError
            If there are no such integers.
        """
        base = self.levels[0]
        factors = [
            {a.name: max(round(b.scale / a.scale), 1) for a, b in zip(base, axes, strict=True) if a.name in dims}
            for axes in self.levels[1:]
        ]
        sizes = [{axis.name: axis.size for axis in axes} for axes in self.levels]
        along = [
            (sizes[0][dim], factor, sizes[index][dim])
            for index, by_dim in enumerate(factors, 1)
            for dim, factor in by_dim.items()
        ]
        if all(reduced == -(-size // factor) for size, factor, reduced in along):
            return {"scale_factors": factors, "boundary": "pad"}
        if all(reduced == size // factor for size, factor, reduced in along):
            return {"scale_factors": factors, "boundary": "trim"}
        raise ValueError(
            f"the levels of the image have sizes {sizes!r}, which no integer factors make; pass a tree with levels of "
            "your own"
        )


def described_image(node: Node) -> DescribedImage:
    """Return what the metadata of an image's group say.

    Raises
    ------
    ValueError
        If it is no OME-Zarr image.
    """
    if isinstance(node, zarr.Array):
        raise ValueError(f"{node.store_path} is an array, and labels go beside an OME-Zarr image; name its group")
    multiscales, _, levels, _ = pyramid_levels(node, read_multiscales(node))
    nested = all("/" in dataset.path for dataset in multiscales.datasets)
    consolidated = node.metadata.consolidated_metadata is not None
    return DescribedImage(multiscales.version, "datatree" if nested else "flat", tuple(levels), consolidated)


def label_place(image: zarr.Group, name: str) -> StorePath:
    """Return where labels of a name belong.

    Raises
    ------
    ValueError
        If no group can have that name.
    """
    if not name or "/" in name or name.startswith(("__", ".")):
        raise ValueError(f"labels cannot be named {name!r}; choose a name without '/' that does not begin with '.'")
    return image.store_path / LABELS / name


def is_finished(place: StorePath) -> bool:
    """Whether a whole pyramid is there."""
    try:
        node = open_node(place)
    except FileNotFoundError:
        return False
    return isinstance(node, zarr.Group) and parse_multiscales(node.attrs.asdict()) is not None


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
