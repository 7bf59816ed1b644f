"""The target of a build: empty arrays of its levels, their coordinates, and the metadata that publish it.

New arrays are out of sight until all is written (`staging`), and metadata are published last, so that no reader takes a
half-built store for a finished one. Only what this package wrote is ever removed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.storage import StorePath

from ..image.values import stored_packing, without_packing
from ..metadata import with_published
from ..plan.by_level import of_level
from ..plan.plan import Level, Pass
from .archives import Archive
from .codecs import ZarrFormat, takes_any_dtype
from .documents import (
    Attributes,
    change_attributes,
    changed_documents,
    consolidate,
    members_of,
    silenced_string_warnings,
    stored_attributes,
    without_mark,
)
from .encoding import Encoding, fill_value_for, key_encoding
from .journal import Journal
from .layout import BUILD_ATTRIBUTE, LABELS, SCRATCH, Layout, foreign_attributes
from .marks import RECORD_FORMAT
from .names import ARRAY_DOCUMENTS, V2_DIMENSIONS
from .nodes import arrays_at
from .remote import as_target, is_document, is_icechunk
from .staging import REMOVED, HeldDocuments, Stage
from .zarr_internals import (
    Node,
    buffer_of,
    default_buffer_prototype,
    documents_of,
    is_consolidated,
    node_at,
    remade_array,
    sync,
    unwrapped,
)

# How the stamps of regions are stored.
STORED_STAMPS = np.dtype("<u8")
WRITE_ANOTHER = "write the pyramid to a new store with write_pyramid"


@dataclass(frozen=True)
class Record:
    """What an interrupted build leaves for the build that resumes it."""

    fingerprint: Mapping[str, Any]
    """What the build was: image, source, levels, recipe and format, as plain values."""
    passes: tuple[tuple[int, Pass], ...]
    """Its passes, each with the number of its plan: regions depend on memory and workers, which may have changed."""
    filled: tuple[str, ...] | None = None
    """What shows whether the data are those that it read, for each pass over them; None until all levels are filled."""
    unsure: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """By the number of a pass, finished regions to build again: a source that they found incomplete went soon after."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it."""
        passes = [[number, dataclasses.asdict(pass_)] for number, pass_ in self.passes]
        filled = None if self.filled is None else list(self.filled)
        unsure = {"unsure": {key: list(value) for key, value in self.unsure.items()}} if self.unsure else {}
        fingerprint = dict(self.fingerprint)
        return {"format": RECORD_FORMAT, "fingerprint": fingerprint, "passes": passes, "filled": filled, **unsure}

    def resumed(self, stored: Mapping[str, Any]) -> Record:
        """Return the record of the build that is to be gone on with.

        Raises
        ------
        ValueError
            If that was another build than this.
        """
        begun: Any = stored.get("fingerprint", {})
        ours = json.loads(json.dumps(self.fingerprint))
        if changed := sorted(key for key in ours if begun.get(key) != ours[key]):
            raise ValueError(
                f"the interrupted build used different values for {', '.join(changed)}; repeat its options, or start "
                "over in another store or with mode='w'"
            )
        passes = tuple((number, _pass_of(values)) for number, values in stored["passes"])
        if not {number for number, _ in passes} <= {number for number, _ in self.passes}:
            raise ValueError(
                f"the record of the interrupted build names the plans {[number for number, _ in passes]!r}, which this "
                "build does not have; start over in another store or with mode='w'"
            )
        filled = stored.get("filled")
        return Record(self.fingerprint, passes, None if filled is None else tuple(filled), stored.get("unsure", {}))


def check_format(begun: Attributes, place: StorePath, instead: str) -> None:
    """Refuse to continue what a version of this package began that records builds in another format.

    Raises
    ------
    ValueError
        With what can be done `instead` of completing it with that version.
    """
    found = begun.get("format", 1)
    if found != RECORD_FORMAT:
        raise ValueError(
            f"{place} holds an unfinished build or change that another version of multiscale_sampler began "
            f"(its record has format {found!r}, this version continues {RECORD_FORMAT!r}); complete it with that "
            f"version, or {instead}"
        )


def _pass_of(stored: Mapping[str, Any]) -> Pass:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return Pass(**values)


@dataclass(frozen=True)
class Target:
    """A pyramid in the making: the group, and the path of every level's array in it."""

    group: zarr.Group
    """The group that will carry the metadata."""
    paths: tuple[str, ...]
    """Path of every level's array, the base first."""
    written: tuple[str, ...]
    """Paths of all arrays that are being written."""
    layout: Layout
    """How levels lie in the group."""
    record: Record
    """What the build is and in which passes it goes."""
    name: str | None = None
    """Name that the image has in the group, if it has one."""
    was_consolidated: bool = False
    """Whether the group had consolidated metadata, which now are stale."""
    archive: Archive | None = None
    """The zip file that the pyramid goes into once it is built."""
    resumed: bool = False
    """Whether the build was begun before."""
    instead: str = WRITE_ANOTHER
    """What can be done instead of resuming it with the data that it read."""
    stage: Stage | None = None
    """Where the group is until it is published, in a folder; None where arrays are written in their place."""
    replaced: tuple[str, ...] = ()
    """Paths of the arrays that are replaced when the pyramid is published from a stage."""
    is_complete: bool = False
    """Whether the build to resume was complete, so that there is nothing left to do."""
    created: set[str] = field(default_factory=set)
    """Paths in the store of the arrays that this call has created; of a resumed build, what was in them is gone."""

    @property
    def place(self) -> StorePath:
        """Where the pyramid is once it is published."""
        return self.group.store_path if self.stage is None else self.stage.place

    @property
    def holds_documents(self) -> bool:
        """Whether the documents of levels are not stored before the pyramid is published."""
        return isinstance(self.group.store_path.store, HeldDocuments)

    @property
    def stored_group(self) -> zarr.Group:
        """The group, as one that stores what is written into it at once."""
        store = self.group.store_path.store
        return group_by_store(store.store, self.group) if isinstance(store, HeldDocuments) else self.group

    def level_arrays(self) -> dict[int, zarr.Array[Any]]:
        """Return the arrays of the levels of a complete pyramid."""
        return dict(enumerate(arrays_at(self.group, self.paths)))

    def labels_group(self) -> zarr.Group:
        """Return the group that lists the labels of the image, those that are there already included."""
        existing = None if self.stage is None or LABELS in self.group else self.stage.root()
        if existing is not None and isinstance(listed := existing.get(LABELS), zarr.Group):
            return self.group.create_group(LABELS, attributes=listed.attrs.asdict())
        return self.group.require_group(LABELS)

    def create_level(
        self,
        level: Level,
        encoding: Encoding,
        attrs: Mapping[str, Any],
        *,
        like: zarr.Array[Any] | None = None,
    ) -> zarr.Array[Any]:
        """Create the empty array of a level.

        The keys of its chunks are nested ("/"), as OME-NGFF asks of zarr v2. A dtype other than the source's
        (a sum's, say) drops the codecs that were made for the source's.
        """
        path = self.paths[level.index]
        names = tuple(axis.name for axis in level.axes)
        attrs = dict(attrs) if level.keeps_packing else without_packing(attrs)
        attrs = stored_packing(attrs, level.dtype, encoding.zarr_format)
        if encoding.zarr_format == 2:
            attrs = {**attrs, V2_DIMENSIONS: list(names)}
        same = like is None or like.dtype == level.dtype
        fill = encoding.fill_value if same else None
        if encoding.zarr_format == 2 and attrs.get("_FillValue") is not None:
            # In zarr v2, xarray takes the fill value for what is missing, not this attribute.
            fill = attrs["_FillValue"]
        if isinstance(begun := self.group.get(path), zarr.Array):
            # In zarr v2 attributes are a file of their own, which an interrupted build may have left out.
            return begun if begun.attrs.asdict() == attrs else begun.update_attributes(attrs)
        for group in _parents(path):
            self.group.require_group(group)
        created = self.group.create_array(
            path,
            shape=level.shape,
            dtype=level.dtype.newbyteorder("="),
            chunks=level.chunks,
            shards=level.shards,
            compressors=of_level(encoding.compressors, level.index, "auto"),
            filters=encoding.filters if same else "auto",
            serializer=encoding.serializer if same and encoding.zarr_format == 3 else "auto",
            fill_value=fill_value_for(fill, level.dtype, encoding.zarr_format),
            attributes=attrs,
            chunk_key_encoding=key_encoding(encoding.zarr_format),
            dimension_names=names if encoding.zarr_format == 3 else None,
        )
        if not self.holds_documents:
            self.created.add(created.path)
        return _stored_array(created)

    def create_scratch(
        self, index: int, dtype: np.dtype[Any], shape: Sequence[int], chunks: Sequence[int]
    ) -> zarr.Array[Any]:
        """Create the array that carries the state of a level from one pass to the next."""
        path = f"{SCRATCH}/carry{index}"
        if isinstance(begun := self.group.get(path), zarr.Array):
            return _stored_array(begun)
        self.group.require_group(SCRATCH)
        created = self.group.create_array(
            path,
            shape=tuple(shape),
            chunks=tuple(chunks),
            dtype=dtype,
            compressors=None,
            filters=None,
        )
        self.created.add(created.path)
        return _stored_array(created)

    def journal(self, number: int, count: int) -> Journal:
        """Open the journal of a pass of `count` regions."""
        if not Journal.is_one_file(self.group):
            return Journal.of(self.group, f"{SCRATCH}/pass{number}", count)
        if count == 1:
            # It is in flight until its pass ends.
            return Journal(count, None, None, False)
        return Journal.of(self.group.require_group(SCRATCH), f"pass{number}", count)

    def record_unsure(self, number: int, regions: Sequence[int]) -> None:
        """Record finished regions of a pass that have to be built again, because their source has gone."""

        def with_regions(stored: Attributes) -> Attributes:
            build: Any = stored[BUILD_ATTRIBUTE]
            known = build.get("unsure", {})
            both = sorted({*known.get(str(number), ()), *regions})
            return {**stored, BUILD_ATTRIBUTE: {**build, "unsure": {**known, str(number): both}}}

        if regions:
            change_attributes(self.group, with_regions)

    def stamps(self, number: int) -> npt.NDArray[np.uint64] | None:
        """Return the stamps of the regions of a pass that were kept when it began; None if there are none."""
        kept = sync(self._place_of_stamps(number).get(prototype=default_buffer_prototype()))
        return None if kept is None else np.frombuffer(kept.to_bytes(), STORED_STAMPS).astype(np.uint64)

    def keep_stamps(self, number: int, stamps: npt.NDArray[np.uint64]) -> None:
        """Keep the stamps of the regions of a pass, in one step."""
        # icechunk takes nothing that is no part of an array, and keeps nothing of a build that is stopped.
        if not is_icechunk(unwrapped(self.group.store_path.store)):
            sync(self._place_of_stamps(number).set(buffer_of(stamps.astype(STORED_STAMPS).tobytes())))

    def _place_of_stamps(self, number: int) -> StorePath:
        return self.group.store_path / f"{SCRATCH}/stamps{number}"

    def drop_scratch(self, filled: Sequence[str]) -> None:
        """Record that all levels are filled, and from what (`Record.filled`); delete what only passes needed.

        Without the record, a build that is stopped here would go on by what is left of its journal and carried
        states, in whatever order they are being deleted.
        """
        if not self.resumed and sync((self.group.store_path / SCRATCH).is_empty()):
            return

        def with_filled(stored: Attributes) -> Attributes:
            build: Any = stored[BUILD_ATTRIBUTE]
            return {**stored, BUILD_ATTRIBUTE: {**build, "filled": list(filled)}}

        change_attributes(self.group, with_filled)
        discard_scratch(self.group)

    def write_coordinates(self, index: int, made: dict[str, Buffer]) -> None:
        """Write the coordinate arrays of a level, from `coordinates_in_memory`, beside its array."""
        path = self.paths[index].rpartition("/")[0]
        beside = {key: value for key, value in made.items() if "/" in key}
        # Values first, so that no reader meets an array without them; but icechunk takes none of an unknown array.
        documents_first = is_icechunk(unwrapped(self.group.store_path.store))
        for part in (documents_first, not documents_first):
            sync(_put(self.group.store_path / path, {k: v for k, v in beside.items() if is_document(k) is part}))
        with silenced_string_warnings():
            attributes = zarr.open_group(made, mode="r").attrs.asdict()
        if attributes:
            self.group.require_group(path).attrs.update(attributes)

    def publish(self, attributes: Mapping[str, Any]) -> None:
        """Make the pyramid visible: metadata last. What else stands in the group's attributes stays.

        Metadata are consolidated while the group is still marked as a build, so that a single write publishes all.
        """
        if self.stage is not None:
            self._publish_from(self.stage, attributes)
            return
        if isinstance(held := self.group.store_path.store, HeldDocuments):
            held.release()
        if self.layout == "datatree" or self.was_consolidated:
            consolidate(self.group)

        def published(stored: Attributes) -> Attributes:
            return with_published(without_mark(stored), attributes)

        if self.archive is None:
            change_attributes(self.group, published)
            return
        documents = changed_documents(self.group, published)
        ome: Any = attributes.get("ome", {})
        self.archive.pack({name: each.to_bytes() for name, each in documents.items()}, ome.get("version"))

    def _publish_from(self, stage: Stage, attributes: Mapping[str, Any]) -> None:
        """Exchange what is replaced for what is on a stage."""
        existing = stage.root()
        parts = [*stage.parts(self.replaced), *stage.listed_in_both(LABELS)]
        kept: Attributes = {} if existing is None else without_mark(existing.attrs.asdict())
        kept = foreign_attributes(kept) if self.replaced else kept
        if self.layout == "datatree" or self.was_consolidated:
            others = {} if existing is None else _documents_beside(writable_group(existing), parts)
            group = _with_documents(self.group, others) if others else self.group
            consolidate(group)
        else:
            group = self.group
        documents = changed_documents(group, lambda _: with_published(kept, attributes))
        if self.resumed:
            stage.sweep()
        if parts:
            _withdraw_labels(stage.place)
        stage.swap(documents, parts, stored_attributes(self.group)[BUILD_ATTRIBUTE])


def _withdraw_labels(place: StorePath) -> None:
    """Take labels that are about to be replaced out of the consolidated metadata of their image.

    Who reads these would take what has been moved aside for fill. `write_labels` consolidates them again.
    """
    parts = place.path.split("/")
    if len(parts) > 1 and parts[-2] == LABELS:
        image = zarr.open_group(place.store, path="/".join(parts[:-2]), mode="r+")
        if is_consolidated(image):
            change_attributes(image, dict, without=["/".join(parts[-2:])])


def _stored_array(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array that stores its chunks itself, where its documents are held back."""
    store = array.store_path.store
    if not isinstance(store, HeldDocuments):
        return array
    return remade_array(array, array.metadata, StorePath(store.store, array.path))


def _documents_beside(group: zarr.Group, parts: Sequence[str]) -> dict[str, Buffer]:
    """Return the documents of all arrays and groups in a group, by key, without those of some parts of it."""
    left_out = tuple(f"{path}/" for path in parts)
    with silenced_string_warnings():
        return {
            f"{path}/{name}": document
            for path, node in _members_beside(group)
            if not f"{path}/".startswith(left_out)
            for name, document in documents_of(node.metadata).items()
        }


def _members_beside(group: zarr.Group) -> Iterator[tuple[str, Node]]:
    """Yield the arrays and groups in a group, by path, without looking into what a build keeps for itself."""
    for name, node in members_of(group, 0).items():
        if name not in (SCRATCH, REMOVED):
            yield name, node
            inside = members_of(node) if isinstance(node, zarr.Group) else {}
            yield from ((f"{name}/{path}", each) for path, each in inside.items())


def _with_documents(group: zarr.Group, others: Mapping[str, Buffer]) -> zarr.Group:
    """Return a group in memory with the documents of a group, and others."""
    own = documents_of(group.metadata)
    made = {**others, **_documents_beside(group, ()), **own}
    return zarr.open_group(made, mode="r+", zarr_format=group.metadata.zarr_format)


def coordinates_in_memory(image: xr.DataArray, zarr_format: int) -> dict[str, Buffer]:
    """Return the arrays of an image's coordinates as xarray writes and finds them, by key.

    In memory: xarray looks at all that is in a store, and writes most documents twice.

    Raises
    ------
    ValueError
        If zarr cannot hold one of them.
    """
    try:
        return _in_memory(xr.Dataset(coords=image.coords), zarr_format)
    except Exception:
        for name, coordinate in image.coords.items():
            try:
                _in_memory(xr.Dataset(coords={name: coordinate.variable}), zarr_format)
            except Exception as error:
                why, convert = _why_not_stored(image, name)
                raise ValueError(
                    f"the coordinate {str(name)!r} of {str(image.name)!r} cannot be stored in zarr: {why} "
                    f"({type(error).__name__}: {error}); {convert}, or leave it out with "
                    f"image.drop_vars({str(name)!r})"
                ) from error
        raise


def _why_not_stored(image: xr.DataArray, name: Hashable) -> tuple[str, str]:
    """Return why a coordinate cannot be stored, and what it can be converted to."""
    index = image.indexes.get(name)
    if index is not None and index.nlevels > 1:
        return f"it is a MultiIndex of {list(index.names)!r}", f"split it with image.reset_index({str(name)!r})"
    first = next(iter(np.ravel(image.coords[name].values)), None)
    return f"its values are as {first!r}", "convert it to numbers, texts or dates"


def _in_memory(coords: xr.Dataset, zarr_format: int) -> dict[str, Buffer]:
    made: dict[str, Buffer] = {}
    options: Any = {"consolidated": False, "zarr_format": zarr_format}
    with silenced_string_warnings():
        coords.drop_encoding().to_zarr(zarr.storage.MemoryStore(made), **options)
    return made


async def _put(place: StorePath, values: Mapping[str, Buffer]) -> None:
    await asyncio.gather(*((place / key).set(value) for key, value in values.items()))


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        yield "/".join(parts[:depth])


def in_progress(written: Sequence[str], record: Record, **more: Any) -> dict[str, Any]:
    """Return what a group says while a build is writing `written` into it."""
    return {"written": list(written), **record.to_dict(), **more}


def discard_scratch(group: zarr.Group) -> None:
    """Delete what a build or change kept for itself."""
    if (stage := Stage.of(group.store_path)) is not None:
        stage.discard()
    else:
        _remove(group, [SCRATCH])


def writable_group(node: zarr.Group, *, building: bool = False) -> zarr.Group:
    """Return a group opened for writing (by a build, for new arrays alone), read afresh from its own metadata.

    Raises
    ------
    ValueError
        If it is in a zip file.
    """
    store = node.store_path.store
    if isinstance(store, zarr.storage.ZipStore):
        raise ValueError(
            f"{node.store_path} is in a zip file, whose entries cannot be replaced; write a new one with "
            "write_pyramid, or unpack it first"
        )
    store = as_target(store) if building else store
    if store.read_only:
        store = store.with_read_only(False)
    # The format that it has been found to have is the only one whose documents are to be asked for.
    zarr_format = node.metadata.zarr_format
    return zarr.open_group(store, path=node.path, mode="r+", zarr_format=zarr_format, use_consolidated=False)


def remove_arrays(group: zarr.Group, paths: Sequence[str]) -> None:
    """Delete what is below some paths, and the groups that held nothing else."""
    _remove(group, paths)
    for parent in {path.rpartition("/")[0] for path in paths} - {""}:
        if isinstance(holder := node_at(group, parent), zarr.Group) and not members_of(holder, 0):
            del group[parent]


def _remove(group: zarr.Group, paths: Sequence[str]) -> None:
    """Delete what is below some paths, whether or not nodes are left there.

    Chunks of a node whose removal was interrupted would show through. In a folder, files go one by one, the document
    first: an array that has lost chunks has other values.
    """
    is_folder = isinstance(unwrapped(group.store_path.store), zarr.storage.LocalStore)
    for path in paths:
        for name in ARRAY_DOCUMENTS.values() if is_folder else ():
            sync((group.store_path / path / name).delete())
        sync((group.store_path / path).delete_dir())


def rehearse(
    levels: Sequence[Level], encoding: Encoding, attrs: Mapping[str, Any], source: zarr.Array[Any] | None
) -> list[zarr.Array[Any]]:
    """Return the arrays of all levels in memory, so that what zarr refuses is refused before a store is touched.

    Raises
    ------
    ValueError
        If the codecs cannot encode the values of a level.
    """
    target = target_in_memory(tuple(map(str, range(len(levels) + 1))), "flat", encoding.zarr_format)
    arrays = [target.create_level(level, encoding, attrs, like=source) for level in levels]
    odd = [array for array in arrays if not takes_any_dtype(array)]
    for array in {array.dtype: array for array in reversed(odd)}.values():
        value = np.ones((), array.dtype)[()]
        corner = tuple(slice(0, 1) for _ in array.shape)
        try:
            array[corner] = np.zeros((), array.dtype)[()] if value == array.fill_value else value
        except Exception as error:
            raise ValueError(
                f"the codecs cannot store values of dtype {str(array.dtype)!r}: {type(error).__name__}: {error}; "
                "choose other compressors, or another dtype"
            ) from error
    return arrays


def target_in_memory(
    paths: tuple[str, ...],
    layout: Layout,
    zarr_format: ZarrFormat,
    *,
    written: tuple[str, ...] = (),
    name: str | None = None,
) -> Target:
    """Return a target that nobody sees, to make what a pyramid would have."""
    group = zarr.open_group({}, mode="w", zarr_format=zarr_format)
    return Target(group, paths, written, layout, Record({}, ()), name)


def holds_all_of(group: zarr.Group, made: zarr.Group) -> bool:
    """Whether a group holds every array and group below another one, with the same documents and chunks."""
    keys = [key for key in sync(_keys_below(made.store_path)) if "/" in key]
    return all(_content(group, key) == _content(made, key) for key in keys)


async def _keys_below(place: StorePath) -> list[str]:
    return [key async for key in place.store.list_prefix("")]


def _content(group: zarr.Group, key: str) -> Any:
    stored = sync((group.store_path / key).get(prototype=default_buffer_prototype()))
    if stored is None or not is_document(key):
        return None if stored is None else stored.to_bytes()
    document: Mapping[str, Any] = json.loads(stored.to_bytes())
    return {name: value for name, value in document.items() if name != "consolidated_metadata"}


def group_by_store(store: Store, group: zarr.Group) -> zarr.Group:
    """Return a group by another store that wraps its own, or is wrapped by it."""
    zarr_format = group.metadata.zarr_format
    return zarr.open_group(store, path=group.path, mode="r+", zarr_format=zarr_format, use_consolidated=False)
