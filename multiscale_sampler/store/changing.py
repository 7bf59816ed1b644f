"""Stored pyramids that are being changed: the claim, the mark of a change in progress, and new sizes.

A pyramid stays readable while it changes. Chunks are replaced one by one; samples that are appended lie beyond the
sizes that readers know, until the sizes themselves are written, last.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import xarray as xr
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.errors import ContainsArrayError
from zarr.storage import StorePath, WrapperStore

from ..image.axes import Axis
from ..metadata import attributes_without_levels, with_mixed_recipe, with_removed_levels
from ..metadata.geozarr import resized_attributes
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
from .layout import BUILD_ATTRIBUTE
from .leftovers import remove_leftovers
from .marks import RECORD_FORMAT, mark_in, own_paths, removed_paths
from .names import GROUP_DOCUMENTS, ZARR_JSON
from .nodes import open_node, place_of
from .remote import is_icechunk
from .staging import Stage
from .stored_pyramid import StoredPyramid
from .targets import (
    WRITE_ANOTHER,
    Record,
    Target,
    check_format,
    coordinates_in_memory,
    discard_scratch,
    in_progress,
    remove_arrays,
    writable_group,
)
from .zarr_internals import documents_of, is_consolidated, node_at, remade_array, resized_metadata, sync, unwrapped

AGAIN = "repeat the call without resume=True (--resume), which computes everything again"


@dataclass(frozen=True)
class PyramidChange:
    """A pyramid that is about to change, held for this change alone."""

    pyramid: StoredPyramid
    """The pyramid, its group opened for writing."""

    @classmethod
    @contextmanager
    def claimed(
        cls, store: Any, path: str | None = None, *, storage_options: Mapping[str, Any] | None = None
    ) -> Iterator[PyramidChange]:
        """Open the pyramid at a place, and hold it for this change alone.

        Raises
        ------
        FileNotFoundError
            If nothing is stored there.
        FileExistsError
            If another build or change is writing there.
        ValueError
            If no pyramid is there, its build or one that adds to it or replaces it has not finished, or another version
            began a change of it.
        """
        node = open_node(store, path, storage_options=storage_options, use_consolidated=False)
        with claim(place_of(node)):
            if isinstance(node, zarr.Group):
                _refuse_unfinished_build(node)
            change = cls(StoredPyramid.of(writable_group(node) if isinstance(node, zarr.Group) else node))
            change.remove_leftovers()
            yield change._without_rest_of_removal()

    def remove_leftovers(self) -> None:
        """Delete what a change that was stopped left half written."""
        group, begun = self.pyramid.group, self.pyramid.begun
        ours = dict.fromkeys((*self.pyramid.paths, *own_paths(group.attrs.asdict())))
        remove_leftovers(group, () if begun is None else tuple(ours))

    def _without_rest_of_removal(self) -> PyramidChange:
        """Return the change after a removal of levels that was interrupted, which is completed.

        Raises
        ------
        ValueError
            If another version of this package began a change.
        """
        group = self.pyramid.group
        begun = mark_in(group.attrs.asdict(), group.store_path)
        if begun is None:
            return self
        if "removing" not in begun:
            check_format(begun, group.store_path, WRITE_ANOTHER)
            return self
        self._finish_removal(removed_paths(group, begun["removing"], self.pyramid.arrays), begun.get("levels", ()))
        return PyramidChange(dataclasses.replace(self.pyramid, group=writable_group(group), begun=None))

    def mark(self, begun: Attributes) -> None:
        """Let the group state, beside all else that it states, that a change of it has begun."""
        change_attributes(self.pyramid.group, lambda stored: {**stored, BUILD_ATTRIBUTE: dict(begun)})

    def convert(self, version: str, documents: Mapping[str, Attributes]) -> None:
        """Replace the attributes of the group and of groups inside, by their paths; those of the group itself last.

        Readers take the group for what it was until then, and the same call completes a conversion that was stopped.
        """
        self.mark({"format": RECORD_FORMAT, "converting": version})
        for inside in sorted(documents.keys() - {""}, key=len, reverse=True):
            group = cast("zarr.Group", self.pyramid.group[inside])
            if self.pyramid.begun is not None:
                remove_leftovers(group, ())
            change_attributes(group, partial(_replaced, documents[inside]))
        self._consolidate()
        self.finish(partial(_replaced, documents[""]))

    def target(self, record: Record, *, resume: bool) -> Target:
        """Mark the pyramid as one that is being changed; with `resume`, continue a change that was begun.

        Raises
        ------
        ValueError
            If the change to be gone on with was another one.
        """
        resumed = resume and self.pyramid.begun is not None
        if resume and self.pyramid.begun is not None:
            record = record.resumed(self.pyramid.begun)
        else:
            discard_scratch(self.pyramid.group)
            self.mark(in_progress((), record))
        # What is appended is in no other place; everything else is computed again from the base.
        instead = WRITE_ANOTHER if "append" in record.fingerprint else AGAIN
        return Target(
            self.pyramid.group, self.pyramid.paths, (), self.pyramid.layout, record, resumed=resumed, instead=instead
        )

    def with_room(self, shapes: Sequence[Sequence[int]]) -> tuple[zarr.Array[Any], ...]:
        """Return array objects with new shapes to write into; readers see these shapes after `publish_shapes`."""
        grown = grown_arrays(self.pyramid.arrays, shapes)
        if is_icechunk(unwrapped(self.pyramid.group.store_path.store)):
            # It takes no chunk beyond the shape that it knows; nor does anybody see that before all is committed.
            for array in grown:
                sync((array.store_path / ZARR_JSON).set(documents_of(array.metadata)[ZARR_JSON]))
        return grown

    def publish_shapes(
        self, target: Target, images: Sequence[xr.DataArray], levels: Sequence[tuple[Axis, ...]]
    ) -> None:
        """Let readers know of the shapes of `images`, the labels of all levels, with their coordinates and axes."""
        is_consolidated = self._is_consolidated()
        # A kill may have left a level without the coordinates that it had.
        has_coordinates = self.pyramid.layout == "datatree" and (
            self.pyramid.recipe is not None or self._has_coordinates(images[0])
        )
        for index, (array, image) in enumerate(zip(self.pyramid.arrays, images, strict=True)):
            array.resize(image.shape)
            if has_coordinates:
                parent = self.pyramid.paths[index].rpartition("/")[0]
                remove_arrays(self.pyramid.group, [f"{parent}/{name}" for name in image.coords])
                target.write_coordinates(index, coordinates_in_memory(image, self.pyramid.group.metadata.zarr_format))
        placed = {path.rpartition("/")[0] or path: axes for path, axes in zip(self.pyramid.paths, levels, strict=True)}
        for path, axes in placed.items() if self.pyramid.layout == "datatree" else ():
            self._place_on_map(path, {path: axes})
        self._place_on_map("", placed)
        if is_consolidated:
            consolidate(self.pyramid.group)

    def _place_on_map(self, path: str, levels: Mapping[str, Sequence[Axis]]) -> None:
        """Let a group that says where levels lie on a map say it of their new sizes."""
        holder = cast("zarr.Group", self.pyramid.group[path]) if path else self.pyramid.group
        image = self.pyramid.arrays[0].attrs.asdict()
        # Another writer's positions need not be in the units of its map.
        if self.pyramid.recipe is not None and resized_attributes(stored_attributes(holder), levels, image):
            change_attributes(holder, lambda stored: {**stored, **resized_attributes(stored, levels, image)})

    def _has_coordinates(self, image: xr.DataArray) -> bool:
        parents = {path.rpartition("/")[0] for path in self.pyramid.paths}
        places = (f"{parent}/{name}" for parent in parents for name in image.coords)
        return any(isinstance(node_at(self.pyramid.group, place), zarr.Array) for place in places)

    def remove(self, indices: Sequence[int], *, mixed: bool = False) -> None:
        """Take levels out of the metadata, and then delete their arrays with the coordinates beside them.

        The metadata say what is being deleted until it is, and from then on which levels were removed. With `mixed`,
        the others follow no one rule any more.
        """
        removed = [self.pyramid.paths[index] for index in indices]
        written = own_paths(stored_attributes(self.pyramid.group))
        parents = {path.rpartition("/")[0] for path in removed} - {""}
        beside = [path for path in written if path.rpartition("/")[0] in parents]
        kept = [array for index, array in enumerate(self.pyramid.arrays) if index not in indices]
        removing = removed_paths(self.pyramid.group, list(dict.fromkeys([*removed, *beside])), kept)
        levels = dict(zip(self.pyramid.paths, self.pyramid.levels, strict=True))
        numbers = [self.pyramid.lasting_numbers[index] for index in indices]
        mark = {BUILD_ATTRIBUTE: {"removing": list(removing), "levels": numbers}}

        def without_levels(stored: Attributes) -> Attributes:
            left = attributes_without_levels(stored, levels, removed)
            return {**(with_mixed_recipe(left) if mixed else left), **mark}

        change_attributes(self.pyramid.group, without_levels)
        self._finish_removal(removing, numbers)

    def _finish_removal(self, paths: Sequence[str], numbers: Sequence[int]) -> None:
        """Delete arrays, of which the first are levels of these numbers, and state that these were removed."""
        if self._is_consolidated():
            # Who reads these would take what has been deleted for fill. In zarr v2, where they are a document of
            # their own, they must not lack a level that the group's attributes still list.
            change_attributes(self.pyramid.group, dict, without=paths)
        stage = Stage.of(self.pyramid.group.store_path)
        if stage is None:
            remove_arrays(self.pyramid.group, paths)
        else:
            stage.remove(paths)
        self._consolidate()
        self.finish(partial(with_removed_levels, removed=dict(zip(paths, numbers, strict=False))))

    def _consolidate(self) -> None:
        """Consolidate metadata again, if they are consolidated."""
        if self._is_consolidated():
            consolidate(self.pyramid.group)

    def _is_consolidated(self) -> bool:
        stored = zarr.open_group(self.pyramid.group.store_path.store, path=self.pyramid.group.path, mode="r")
        return is_consolidated(stored)

    def _consolidate_above(self, documents: Mapping[str, Buffer] | None = None) -> None:
        """Consolidate metadata again in groups above that have them consolidated, as images have those of their labels.

        With `documents` as those of the pyramid's group, which it is about to get.
        """
        for place, path in _places_above(self.pyramid.group):
            with suppress(FileNotFoundError, ContainsArrayError):
                above = zarr.open_group(place, mode="r+")
                if is_consolidated(above):
                    ahead = {f"{path}/{name}": document for name, document in (documents or {}).items()}
                    consolidate(zarr.open_group(StorePath(_StoreAhead(place.store, ahead), place.path), mode="r+"))

    def finish(self, change: Change | None = None) -> None:
        """Take the mark away, and change the group's attributes; None: all documents are as before the change."""
        group = self.pyramid.group
        documents = changed_documents(group, lambda stored: without_mark(change(stored) if change else stored))
        if change is not None:
            # Before the mark goes, so that nothing is left to be done once it is gone.
            self._consolidate_above(documents)
        put_documents(group, documents)


def _replaced(attributes: Attributes, _: Attributes) -> Attributes:
    return attributes


def _refuse_unfinished_build(group: zarr.Group) -> None:
    """Raise if a build that was interrupted has made levels for a group, which a change would make worthless."""
    stage = Stage.of(group.store_path)
    if stage is not None and stage.begun() is not None:
        raise ValueError(
            f"levels of {group.store_path} are being built, or their build was interrupted; complete it first, by "
            f"repeating the call of add_levels or write_pyramid with resume=True (--resume), or delete "
            f"{str(stage.scratch)!r} to give it up"
        )


def grown_arrays(arrays: Sequence[zarr.Array[Any]], shapes: Sequence[Sequence[int]]) -> tuple[zarr.Array[Any], ...]:
    """Return arrays with new shapes that no reader knows of as yet."""
    return tuple(
        remade_array(array, resized_metadata(array, shape), array.store_path)
        for array, shape in zip(arrays, shapes, strict=True)
    )


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
        document = GROUP_DOCUMENTS[group.metadata.zarr_format]
        root = store.root.absolute()
        for folder in itertools.takewhile(lambda folder: (folder / document).is_file(), root.parents):
            yield StorePath(zarr.storage.LocalStore(folder), ""), (root / group.path).relative_to(folder).as_posix()
