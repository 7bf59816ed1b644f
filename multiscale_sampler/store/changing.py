"""Stored pyramids that are about to change: what there is, the mark of a change in progress, and new sizes.

A pyramid stays readable while it changes. Chunks are replaced one by one; samples that are appended lie beyond the
sizes that readers know, until the sizes themselves are written, last.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.common import ZARR_JSON, ZGROUP_JSON
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError
from zarr.storage import StorePath, WrapperStore

from ..image.axes import Axis
from ..image.dataarray import image_axes, label_array
from ..metadata import Multiscales, attributes_without_levels, paths_written_by_us, stated_recipe, with_recipe
from ..metadata.geozarr import resized_attributes
from .arrays import encoding_of, level_image, pyramid_levels
from .documents import (
    Attributes,
    Change,
    change_attributes,
    changed_documents,
    consolidate,
    put_documents,
    stored_attributes,
    without_mark,
)
from .journal import claim
from .layout import BUILD_ATTRIBUTE, Layout
from .nodes import Node, open_node, place_of
from .reading import described_levels
from .remote import is_icechunk, remade_array, unwrapped
from .targets import (
    WRITE_ANOTHER,
    Record,
    Target,
    check_format,
    discard_scratch,
    in_progress,
    remove_arrays,
    writable_group,
)


@dataclass(frozen=True)
class StoredPyramid:
    """A pyramid of any writer in a store, opened to be changed."""

    group: zarr.Group
    """Its group, opened for writing."""
    multiscales: Multiscales
    """Its metadata, levels from the largest to the smallest."""
    arrays: tuple[zarr.Array[Any], ...]
    """The arrays of its levels."""
    levels: tuple[tuple[Axis, ...], ...]
    """The axes of its levels."""
    recipe: Mapping[str, Any] | None
    """How this package made the levels; None if another writer did."""
    begun: Mapping[str, Any] | None
    """The record of a change that has not ended; None if there is none."""
    removed: tuple[int, ...] = ()
    """The levels whose removal had been interrupted, and has been completed."""

    @classmethod
    @contextmanager
    def claimed(
        cls, store: Any, path: str | None = None, *, storage_options: Mapping[str, Any] | None = None
    ) -> Iterator[StoredPyramid]:
        """Open the pyramid at a place, and hold it for this change alone.

        Raises
        ------
        FileNotFoundError
            If nothing is stored there.
        FileExistsError
            If another build or change is writing there.
        ValueError
            If no pyramid is there, its build has not finished, or another version began a change of it.
        """
        node = open_node(store, path, storage_options=storage_options, use_consolidated=False)
        with claim(place_of(node)):
            yield cls.of(node)

    @classmethod
    def of(cls, node: Node) -> StoredPyramid:
        """Open the pyramid in a group.

        Raises
        ------
        ValueError
            If no pyramid is there, its build has not finished, or another version began a change of it.
        """
        if isinstance(node, zarr.Array):
            raise ValueError(f"{node.store_path} is an array, not a pyramid; name the group that has its metadata")
        group = writable_group(node)
        multiscales, arrays, levels, _ = pyramid_levels(group, described_levels(group))
        attributes = group.attrs.asdict()
        begun: Any = attributes.get(BUILD_ATTRIBUTE)
        recipe = stated_recipe(attributes)
        stored = cls(group, multiscales, tuple(arrays), tuple(levels), recipe, begun)
        if begun is None:
            return stored
        if "removing" not in begun:
            check_format(begun, group.store_path, WRITE_ANOTHER)
            return stored
        stored._finish_removal(begun["removing"])
        return dataclasses.replace(stored, begun=None, removed=tuple(begun["levels"]))

    @cached_property
    def image(self) -> xr.DataArray:
        """The labels of its level 0, with a stand-in for values."""
        return level_image(self.arrays[0], self._stand_in, self.levels[0], self.multiscales)

    @cached_property
    def unlabelled(self) -> xr.DataArray:
        """Level 0 as `image` has it, but by the metadata alone: no coordinate array beside it is read."""
        image = label_array(self._stand_in, self.levels[0], name="image")
        image.encoding = encoding_of(self.arrays[0])
        return image

    @property
    def _stand_in(self) -> np.ndarray[Any, Any]:
        return np.broadcast_to(np.zeros((), self.arrays[0].dtype), self.arrays[0].shape)

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
            change_attributes(self.group, lambda stored: {**stored, **mark})
        return Target(self.group, self.paths, (), self.layout, record, resumed=resumed)

    def grown(self, shapes: Sequence[Sequence[int]]) -> tuple[zarr.Array[Any], ...]:
        """Return the arrays with new shapes that no reader knows of as yet."""
        return tuple(
            remade_array(array, array.metadata.update_shape(tuple(map(int, shape))), array.store_path)
            for array, shape in zip(self.arrays, shapes, strict=True)
        )

    def with_room(self, shapes: Sequence[Sequence[int]]) -> tuple[zarr.Array[Any], ...]:
        """Return the arrays with new shapes, ready to be written there."""
        grown = self.grown(shapes)
        if is_icechunk(unwrapped(self.group.store_path.store)):
            # It takes no chunk beyond the shape that it knows; nor does anybody see that before all is committed.
            for array in grown:
                documents = array.metadata.to_buffer_dict(default_buffer_prototype())
                sync((array.store_path / ZARR_JSON).set(documents[ZARR_JSON]))
        return grown

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
        placed = {
            path.rpartition("/")[0] or path: image_axes(image) for path, image in zip(self.paths, images, strict=True)
        }
        for path, axes in placed.items() if self.layout == "datatree" else ():
            self._place_on_map(path, {path: axes})
        self._place_on_map("", placed)
        if is_consolidated:
            consolidate(self.group)

    def _place_on_map(self, path: str, levels: Mapping[str, Sequence[Axis]]) -> None:
        """Let a group that says where levels lie on a map say it of their new sizes."""
        holder = cast("zarr.Group", self.group[path]) if path else self.group
        # Another writer's positions need not be in the units of its map.
        if self.recipe is not None and resized_attributes(stored_attributes(holder), levels):
            change_attributes(holder, lambda stored: {**stored, **resized_attributes(stored, levels)})

    def _has_coordinates(self, image: xr.DataArray) -> bool:
        parents = {path.rpartition("/")[0] for path in self.paths}
        places = (f"{parent}/{name}" for parent in parents for name in image.coords)
        return any(isinstance(self.group.get(place), zarr.Array) for place in places)

    def remove(self, indices: Sequence[int], *, mixed: bool = False) -> None:
        """Take levels out of the metadata, and then delete their arrays with the coordinates beside them.

        The metadata say what is being deleted until it is. With `mixed`, the others follow no one rule any more.
        """
        removed = [self.paths[index] for index in indices]
        written = paths_written_by_us(stored_attributes(self.group))
        parents = {path.rpartition("/")[0] for path in removed} - {""}
        beside = [path for path in written if path.rpartition("/")[0] in parents]
        removing = list(dict.fromkeys([*removed, *beside]))
        levels = dict(zip(self.paths, self.levels, strict=True))
        mark = {BUILD_ATTRIBUTE: {"removing": removing, "levels": list(indices)}}

        def without_levels(stored: Attributes) -> Attributes:
            left = attributes_without_levels(stored, levels, removed)
            return {**(with_recipe(left, {}, whole=False) if mixed else left), **mark}

        change_attributes(self.group, without_levels)
        self._finish_removal(removing)

    def _finish_removal(self, paths: Sequence[str]) -> None:
        remove_arrays(self.group, paths)
        if self._is_consolidated():
            consolidate(self.group)
        self.finish(dict)

    def _is_consolidated(self) -> bool:
        stored = zarr.open_group(self.group.store_path.store, path=self.group.path, mode="r")
        return stored.metadata.consolidated_metadata is not None

    def _consolidate_above(self, documents: Mapping[str, Buffer] | None = None) -> None:
        """Gather metadata anew where groups above have them gathered too, as images have those of their labels.

        With `documents` as those of the pyramid's group, which it is about to get.
        """
        for place, path in _places_above(self.group):
            with suppress(FileNotFoundError, ContainsArrayError):
                above = zarr.open_group(place, mode="r+")
                if above.metadata.consolidated_metadata is not None:
                    ahead = {f"{path}/{name}": document for name, document in (documents or {}).items()}
                    consolidate(zarr.open_group(StorePath(_StoreAhead(place.store, ahead), place.path), mode="r+"))

    def finish(self, change: Change | None = None) -> None:
        """Take the mark away, and change the group's attributes; None: all documents are as before the change."""
        documents = changed_documents(self.group, lambda stored: without_mark(change(stored) if change else stored))
        if change is not None:
            # Before the mark goes, so that nothing is left to be done once it is gone.
            self._consolidate_above(documents)
        put_documents(self.group, documents)


class _StoreAhead(WrapperStore[Store]):
    """A store that is read as if some documents had been written."""

    def __init__(self, store: Store, documents: Mapping[str, Buffer]) -> None:
        super().__init__(store)
        self.documents = documents

    def _with_store(self, store: Store) -> _StoreAhead:
        return type(self)(store, self.documents)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a value."""
        return self.documents[key] if key in self.documents else await self._store.get(key, prototype, byte_range)


def _places_above(group: zarr.Group) -> Iterator[tuple[StorePath, str]]:
    """Yield where groups that hold a group may be, the nearest first, with its path in their store.

    Of a folder, they are looked for above the store too, as far as groups go.
    """
    store, parts = group.store_path.store, group.path.split("/") if group.path else []
    for depth in reversed(range(len(parts))):
        yield StorePath(store, "/".join(parts[:depth])), group.path
    if isinstance(store, zarr.storage.LocalStore):
        document = ZARR_JSON if group.metadata.zarr_format == 3 else ZGROUP_JSON
        root = store.root.absolute()
        for folder in itertools.takewhile(lambda folder: (folder / document).is_file(), root.parents):
            yield StorePath(zarr.storage.LocalStore(folder), ""), (root / group.path).relative_to(folder).as_posix()
