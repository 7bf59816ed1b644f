"""`StoredPyramid`: what reading a pyramid returns to every caller, whatever tool wrote it.

The metadata of a group are parsed and its arrays opened once; what is derived from them is computed when it is first
needed. No chunk of an image is read. What is only needed to change a pyramid is in `changing`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import xarray as xr
import zarr

from ..image.axes import Axis
from ..image.dataarray import label_array
from ..image.tree import assemble
from ..image.values import Packing
from ..metadata import (
    Multiscales,
    finest_first,
    geozarr,
    level_axes,
    listed_images,
    listed_labels,
    namespace_of,
    parse_multiscales,
    removed_levels,
    stated_recipe,
    stated_rules,
)
from ..plan.options import LevelOptions
from .arrays import encoding_of, lazy_array, level_image, packing_of
from .convention import levels_by_convention, multiscales_of_images
from .documents import warn_of_outdated
from .layout import BUILD_ATTRIBUTE, LABELS, Layout, foreign_attributes, path_name
from .nodes import arrays_at
from .zarr_internals import Node, is_consolidated, nodes_at


@dataclass(frozen=True)
class StoredPyramid:
    """A pyramid in a store, written by any tool, as its metadata describe it."""

    group: zarr.Group
    """Its group."""
    multiscales: Multiscales
    """Its metadata, in one form for all versions and conventions; levels in the order of `arrays`."""
    arrays: tuple[zarr.Array[Any], ...]
    """The arrays of its levels, from the largest to the smallest."""
    recipe: Mapping[str, Any] | None
    """How this package made the levels; None if another writer did."""
    begun: Mapping[str, Any] | None
    """The record of a build or change in the group that has not ended; None if there is none."""
    is_reordered: bool = False
    """Whether the metadata list the levels in another order."""
    chunks: Any = "auto"
    """Dask chunks of `images`, as in `open_image`."""
    convention_images: tuple[xr.DataArray, ...] | None = None
    """The levels as images, where only the zarr convention ``multiscales`` describes them."""

    @classmethod
    def of(cls, node: Node, *, chunks: Any = "auto") -> StoredPyramid:
        """Read the pyramid in a group, as OME-NGFF or the zarr convention ``multiscales`` describes it.

        Raises
        ------
        ValueError
            If the group does not hold a pyramid, or its build has not finished.
        """
        group = _checked_group(node)
        levels = levels_by_convention(group, chunks)
        if levels is None:
            return cls.by_ngff(group, chunks=chunks)
        arrays, images = zip(*levels, strict=True)
        paths = [array.path.removeprefix(f"{group.path}/" if group.path else "") for array in arrays]
        stored = cls.as_listed(group, multiscales_of_images(paths, images), arrays)
        return dataclasses.replace(stored, chunks=chunks, convention_images=images)

    @classmethod
    def by_ngff(cls, node: Node, *, chunks: Any = "auto") -> StoredPyramid:
        """Read the pyramid in a group, as OME-NGFF describes it.

        Raises
        ------
        ValueError
            If OME-NGFF does not describe one, or its build has not finished.
        """
        group = _checked_group(node)
        multiscales = _ngff_multiscales(group)
        arrays = arrays_at(group, [dataset.path for dataset in multiscales.datasets])
        return dataclasses.replace(cls.as_listed(group, multiscales, arrays).finest_first(), chunks=chunks)

    @classmethod
    def as_listed(cls, group: zarr.Group, multiscales: Multiscales, arrays: Sequence[zarr.Array[Any]]) -> StoredPyramid:
        """Return a pyramid with its levels in the order of the metadata, which need not be that of their sizes."""
        attributes = group.attrs.asdict()
        begun: Any = attributes.get(BUILD_ATTRIBUTE)
        begun = begun if isinstance(begun, Mapping) else None
        return cls(group, multiscales, tuple(arrays), stated_recipe(attributes), begun)

    def finest_first(self) -> StoredPyramid:
        """Return the pyramid with its levels from the largest to the smallest."""
        order = finest_first([array.shape for array in self.arrays])
        if order == list(range(len(order))):
            return self
        return dataclasses.replace(self._of_levels(order), is_reordered=True)

    def only(self, indices: Sequence[int]) -> StoredPyramid:
        """Return the pyramid as if it had no other levels than the base and these."""
        ladder = (self.recipe or {}).get("scale_factors")
        shorter = {} if ladder is None else {"scale_factors": [ladder[index - 1] for index in indices]}
        recipe = None if self.recipe is None else {**self.recipe, **shorter}
        return dataclasses.replace(self._of_levels((0, *indices)), recipe=recipe)

    def _of_levels(self, indices: Sequence[int]) -> StoredPyramid:
        images = self.convention_images
        return dataclasses.replace(
            self,
            multiscales=dataclasses.replace(
                self.multiscales, datasets=tuple(self.multiscales.datasets[index] for index in indices)
            ),
            arrays=tuple(self.arrays[index] for index in indices),
            convention_images=None if images is None else tuple(images[index] for index in indices),
        )

    @property
    def version(self) -> str:
        """The version of OME-NGFF that the metadata state; "unknown" if they state none."""
        return self.multiscales.version

    @property
    def is_ngff(self) -> bool:
        """Whether OME-NGFF metadata describe it, and not the zarr convention ``multiscales`` alone."""
        return self.convention_images is None

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the group."""
        return self.group.attrs.asdict()

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of every level's array in the group."""
        return tuple(dataset.path for dataset in self.multiscales.datasets)

    @property
    def removed(self) -> Mapping[str, int]:
        """The numbers that removed levels had when the pyramid was written, by their paths."""
        return removed_levels(self.attributes)

    @property
    def lasting_numbers(self) -> tuple[int, ...]:
        """The number that every level had when the pyramid was written, before others were removed."""
        gone, count = set(self.removed.values()), len(self.arrays)
        return tuple(number for number in range(count + len(gone)) if number not in gone)[:count]

    @property
    def levels(self) -> tuple[tuple[Axis, ...], ...]:
        """The axes of every level.

        Raises
        ------
        ValueError
            If the metadata contradict the shapes of the arrays.
        """
        return self._placed[0]

    @property
    def assumed(self) -> tuple[str, ...]:
        """What had to be assumed, as the metadata are incomplete or irregular."""
        reordered = (f"levels in the order of their sizes, {', '.join(self.paths)}",) if self.is_reordered else ()
        return (*self._placed[1], *reordered)

    @cached_property
    def _placed(self) -> tuple[tuple[tuple[Axis, ...], ...], tuple[str, ...]]:
        levels, assumed = level_axes(self.multiscales, [array.shape for array in self.arrays])
        return tuple(levels), tuple(assumed)

    def warn_of_metadata(self, *, stacklevel: int) -> None:
        """Warn of what had to be assumed, and of arrays that consolidated metadata describe as they were before.

        `stacklevel` counts the frames above as `warnings.warn` does.
        """
        warn_of_outdated(self.group, self.paths, stacklevel=stacklevel + 1)
        if self.assumed:
            warnings.warn(
                f"the metadata of {self.group.store_path} (OME-NGFF {self.version}) are incomplete or irregular; "
                f"assumed: {'; '.join(self.assumed)}",
                UserWarning,
                stacklevel=stacklevel + 1,
            )

    @property
    def name(self) -> str:
        """The name of the image: that of its arrays where they share one, else what the metadata or the group state."""
        if not self.is_ngff:
            return str(self.multiscales.name)
        names = {path.rpartition("/")[2] for path in self.paths}
        shared = names.pop() if len(names) == 1 and "/" in self.paths[0] else None
        taken = {name for name, _, _ in self.multiscales.axes or ()}
        title = self.multiscales.name
        if shared and title and "/" not in title and title not in taken and path_name(title, taken) == shared:
            return title
        # Writers put anything there; "/" and the names of coordinates are no names of variables.
        usable = (name for name in (shared, self.multiscales.name, self.group.basename) if name and "/" not in name)
        return next((name for name in usable if name not in taken), "image")

    @property
    def layout(self) -> Layout:
        """How levels lie in the group."""
        return "datatree" if all("/" in path for path in self.paths) else "flat"

    @property
    def is_consolidated(self) -> bool:
        """Whether the group was opened by consolidated metadata."""
        return is_consolidated(self.group)

    @property
    def is_changing(self) -> bool:
        """Whether parts of the levels are being recomputed; where levels are only added, the others are unchanged."""
        fingerprint = (self.begun or {}).get("fingerprint")
        return isinstance(fingerprint, Mapping) and "edited" in fingerprint

    @property
    def is_labels(self) -> bool:
        """Whether the metadata say that it is an image of labels."""
        return "image-label" in namespace_of(self.attributes)

    @cached_property
    def labels(self) -> dict[str, Node | None]:
        """What is stored under the names of the labels that the image lists; None where nothing is."""
        # Labels may have been added since metadata were consolidated.
        place = self.group.store_path / LABELS
        try:
            group = zarr.open_group(place.store, path=place.path, mode="r", use_consolidated=False)
        except FileNotFoundError:
            return {}
        names = listed_labels(group.attrs.asdict())
        return dict(zip(names, nodes_at(group, names), strict=True))

    @cached_property
    def image(self) -> xr.DataArray:
        """Level 0 as a labelled image, with a stand-in for its values as they are stored."""
        return level_image(self.arrays[0], self._stand_in, self.levels[0], self.multiscales, packed=True)

    @cached_property
    def unlabelled(self) -> xr.DataArray:
        """Level 0 as `image` has it, but by the metadata alone: no coordinate array beside it is read."""
        image = label_array(self._stand_in, self.levels[0], name="image")
        image.encoding = encoding_of(self.arrays[0], image.dims)
        return image

    @property
    def _stand_in(self) -> np.ndarray[Any, Any]:
        return np.broadcast_to(np.zeros((), self.arrays[0].dtype), self.arrays[0].shape)

    @cached_property
    def images(self) -> tuple[xr.DataArray, ...]:
        """The levels as lazy, labelled images."""
        if self.convention_images is not None:
            return self.convention_images
        return tuple(map(self.level, range(len(self.arrays))))

    @property
    def is_packed(self) -> bool:
        """Whether values are taken as they are stored: in stores that this package made before it asked for packing."""
        return self.recipe is not None and stated_rules(self.attributes) < 1

    @property
    def packing(self) -> Packing | None:
        """How the base is packed; None where its values are taken as they are stored, as ids of labels are."""
        return None if self.is_packed else self.stated_packing

    @property
    def stated_packing(self) -> Packing | None:
        """How the base is packed by its attributes, also in stores that were made before these were asked."""
        return None if self.is_labels else packing_of(self.arrays[0])

    def level(self, index: int, *, packed: bool | None = None) -> xr.DataArray:
        """Return one level as a lazy image, labelled by OME-NGFF's metadata; `packed`: as it is stored."""
        array, axes = self.arrays[index], self.levels[index]
        values = lazy_array(array, self.chunks, [axis.name for axis in axes])
        packed = self.is_packed if packed is None else packed
        return level_image(array, values, axes, self.multiscales, packed=packed)

    def tree(self, *, packed: bool = False) -> xr.DataTree:
        """Return the levels as a lazy tree, with their coordinate reference system, without labels of the image.

        Values are decoded, or with `packed` as they are stored.
        """
        stated = geozarr.read_crs(self.attributes)
        is_raw = packed and self.convention_images is None
        images = [self.level(index, packed=True) for index in range(len(self.arrays))] if is_raw else self.images
        tree = assemble([_with_crs(image, stated).to_dataset(name=self.name) for image in images])
        tree.attrs = foreign_attributes(self.attributes)
        return tree

    def recipe_options(self) -> LevelOptions:
        """Return the options of the recipe, for values as they are stored.

        Raises
        ------
        ValueError, TypeError
            If the recipe has unknown options or wrong values.
        """
        return replace(LevelOptions.of_recipe(self.recipe or {}), packing=self.packing)

    def level_options(self, dims: Sequence[Hashable]) -> LevelOptions:
        """Return the options that give an image with these dims levels of the same sizes.

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
            return LevelOptions(factors, boundary="pad")
        if all(reduced == size // factor for size, factor, reduced in along):
            return LevelOptions(factors, boundary="trim")
        raise ValueError(
            f"the levels of the image have sizes {sizes!r}, which no integer factors make; pass a tree with levels of "
            "your own"
        )


def holds_image(node: Node | None) -> TypeGuard[zarr.Group]:
    """Whether a node is a group that OME-NGFF metadata describe as an image."""
    return isinstance(node, zarr.Group) and parse_multiscales(node.attrs.asdict()) is not None


def _checked_group(node: Node) -> zarr.Group:
    if isinstance(node, zarr.Array):
        raise ValueError(
            f"{node.store_path} is an array, not a pyramid; name the group that describes its levels, or open it "
            "with open_image"
        )
    return node


def unfinished(group: zarr.Group) -> str:
    """Return what messages say of a pyramid that is not finished."""
    return (
        f"{group.store_path} is a pyramid whose build has not finished; complete it by repeating the call that builds "
        "it with resume=True (--resume)"
    )


def _ngff_multiscales(group: zarr.Group) -> Multiscales:
    """Return the OME-NGFF description of a group.

    Raises
    ------
    ValueError
        If it has none.
    """
    attributes = group.attrs.asdict()
    multiscales = parse_multiscales(attributes)
    if multiscales is not None:
        return multiscales
    if BUILD_ATTRIBUTE in attributes:
        raise ValueError(unfinished(group))
    if (places := listed_images(attributes)) is not None:
        named = f"as path={places[0]!r}" if places else "but it names none"
        raise ValueError(f"{group.store_path} is a group of images, not an image; open one of them, {named}")
    raise ValueError(f"{group.store_path} has no OME-NGFF multiscales metadata; open an array of it with open_image")


def _with_crs(image: xr.DataArray, stated: Any) -> xr.DataArray:
    """Attach a coordinate reference system where the image itself states none."""
    if stated is None or geozarr.states_crs(image):
        return image
    return image.assign_attrs(crs=stated) if isinstance(stated, str) else image.assign_attrs({"proj:projjson": stated})
