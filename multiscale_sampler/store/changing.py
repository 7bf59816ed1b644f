"""Stored pyramids that are about to change: what there is, the mark of a change in progress, and new sizes.

A pyramid stays readable while it changes. Chunks are replaced one by one; samples that are appended lie beyond the
sizes that readers know, until the sizes themselves are written, last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import xarray as xr
import zarr

from .. import ngff
from ..axes import Axis
from .nodes import Node
from .reading import BUILD_ATTRIBUTE, level_image, pyramid_levels, read_multiscales
from .targets import (
    Layout,
    Record,
    Target,
    consolidate,
    discard_scratch,
    in_progress,
    put_attributes,
    remove_arrays,
    stored_attributes,
    writable_group,
)


@dataclass(frozen=True)
class StoredPyramid:
    """A pyramid of any writer in a store, opened to be changed."""

    group: zarr.Group
    """Its group, opened for writing."""
    multiscales: ngff.Multiscales
    """Its metadata, levels from the largest to the smallest."""
    arrays: tuple[zarr.Array[Any], ...]
    """The arrays of its levels."""
    levels: tuple[tuple[Axis, ...], ...]
    """The axes of its levels."""
    image: xr.DataArray
    """Its level 0, labelled."""
    recipe: Mapping[str, Any] | None
    """How this package made the levels; None if another writer did."""
    begun: Mapping[str, Any] | None
    """The record of a change that has not ended; None if there is none."""

    @classmethod
    def of(cls, node: Node) -> StoredPyramid:
        """Open the pyramid in a group.

        Raises
        ------
        ValueError
            If there is no pyramid, or a build of it that has not finished.
        """
        if isinstance(node, zarr.Array):
            raise ValueError(f"{node.store_path} is an array, not a pyramid; name the group that has its metadata")
        group = writable_group(node)
        multiscales, arrays, levels, _ = pyramid_levels(group, read_multiscales(group))
        attributes = group.attrs.asdict()
        begun: Any = attributes.get(BUILD_ATTRIBUTE)
        image = level_image(arrays[0], levels[0], multiscales, "auto")
        recipe = ngff.recipe_written(attributes)
        return cls(group, multiscales, tuple(arrays), tuple(levels), image, recipe, begun)

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of every level's array."""
        return tuple(dataset.path for dataset in self.multiscales.datasets)

    def only(self, indices: Sequence[int]) -> StoredPyramid:
        """Return the pyramid as if it had no other levels than the base and these."""
        chosen = (0, *indices)
        ladder = (self.recipe or {}).get("scale_factors")
        shorter = {} if ladder is None else {"scale_factors": [ladder[index - 1] for index in indices]}
        datasets = tuple(self.multiscales.datasets[index] for index in chosen)
        return dataclasses.replace(
            self,
            multiscales=dataclasses.replace(self.multiscales, datasets=datasets),
            arrays=tuple(self.arrays[index] for index in chosen),
            levels=tuple(self.levels[index] for index in chosen),
            recipe=None if self.recipe is None else {**self.recipe, **shorter},
        )

    @property
    def layout(self) -> Layout:
        """How levels lie in the group."""
        return "datatree" if all("/" in path for path in self.paths) else "flat"

    def target(self, record: Record, *, resume: bool) -> Target:
        """Mark the pyramid as one that is being changed; with `resume`, go on with a change that was begun.

        Raises
        ------
        ValueError
            If the change to be gone on with was another one.
        """
        resumed = resume and self.begun is not None
        if resume and self.begun is not None:
            record = record.resumed(self.begun)
        else:
            discard_scratch(self.group)
            mark = {BUILD_ATTRIBUTE: in_progress((), record)}
            put_attributes(self.group, {**stored_attributes(self.group), **mark})
        return Target(self.group, self.paths, (), self.layout, record, resumed=resumed)

    def grown(self, shapes: Sequence[Sequence[int]]) -> tuple[zarr.Array[Any], ...]:
        """Return the arrays with new shapes that no reader knows of as yet."""
        return tuple(
            zarr.Array(
                dataclasses.replace(
                    array.async_array, metadata=cast("Any", array.metadata.update_shape(tuple(map(int, shape))))
                )
            )
            for array, shape in zip(self.arrays, shapes, strict=True)
        )

    def publish_shapes(self, target: Target, images: Sequence[xr.DataArray]) -> None:
        """Let readers know of the shapes of `images`, the labels of all levels, with their coordinates."""
        is_consolidated = self._is_consolidated()
        # A kill may have left a level without the coordinates that it had.
        has_coordinates = self.layout == "datatree" and (self.recipe is not None or self._has_coordinates(images[0]))
        for index, (array, image) in enumerate(zip(self.arrays, images, strict=True)):
            array.resize(image.shape)
            if has_coordinates:
                parent = self.paths[index].rpartition("/")[0]
                remove_arrays(self.group, [f"{parent}/{name}" for name in image.coords])
                target.write_coordinates(index, image)
        if is_consolidated:
            consolidate(self.group)

    def _has_coordinates(self, image: xr.DataArray) -> bool:
        parents = {path.rpartition("/")[0] for path in self.paths}
        places = (f"{parent}/{name}" for parent in parents for name in image.coords)
        return any(isinstance(self.group.get(place), zarr.Array) for place in places)

    def remove(self, indices: Sequence[int]) -> None:
        """Take levels out of the metadata, and then delete their arrays with the coordinates beside them."""
        removed = [self.paths[index] for index in indices]
        attributes = stored_attributes(self.group)
        written = ngff.written_by_us(attributes)
        put_attributes(
            self.group, ngff.without_levels(attributes, dict(zip(self.paths, self.levels, strict=True)), removed)
        )
        parents = {path.rpartition("/")[0] for path in removed} - {""}
        beside = [path for path in written if path.rpartition("/")[0] in parents]
        remove_arrays(self.group, [*removed, *beside])
        if self._is_consolidated():
            consolidate(self.group)

    def _is_consolidated(self) -> bool:
        stored = zarr.open_group(self.group.store_path.store, path=self.group.path, mode="r")
        return stored.metadata.consolidated_metadata is not None

    def finish(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Take the mark away, and replace some of the group's attributes."""
        stored = {**stored_attributes(self.group), **(attributes or {})}
        put_attributes(self.group, {key: value for key, value in stored.items() if key != BUILD_ATTRIBUTE})
