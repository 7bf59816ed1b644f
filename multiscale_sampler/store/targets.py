"""The target of a build: empty arrays of its levels, their coordinates, and the metadata that publish it.

New arrays are out of sight until all is written (`staging`), and metadata are published last, so that no reader takes a
half-built store for a finished one. Only what this package wrote is ever removed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.storage import StorePath

from ..metadata import NgffVersion, parse_multiscales, paths_written_by_us, stated_recipe, with_published
from ..plan.plan import Level, Pass
from .archives import Archive, archive_of
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
from .leftovers import remove_leftovers
from .marks import RECORD_FORMAT, mark_in, replaced_paths
from .names import ARRAY_DOCUMENTS, PARTIAL_ENDING, V2_DIMENSIONS
from .nodes import arrays_at, as_store, is_unfinished, is_zarr, open_node, place_of, shown, url_options
from .origins import refuse_source_in_target, refuse_unknown_source
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

Mode: TypeAlias = Literal["w-", "w"]

MODES: tuple[Mode, ...] = ("w-", "w")
# How the stamps of regions are stored.
STORED_STAMPS = np.dtype("<u8")
START_OVER = "start over in another store, or with mode='w' instead of resume=True (--overwrite instead of --resume)"
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
        return _group_in(store.store, self.group) if isinstance(store, HeldDocuments) else self.group

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
        if encoding.zarr_format == 2:
            attrs = {**attrs, V2_DIMENSIONS: list(names)}
        same = like is None or like.dtype == level.dtype
        fill = encoding.fill_value if same else None
        if isinstance(begun := self.group.get(path), zarr.Array):
            # In zarr v2 attributes are a file of their own, which an interrupted build may have left out.
            return begun if begun.attrs.asdict() == attrs else begun.update_attributes(dict(attrs))
        for group in _parents(path):
            self.group.require_group(group)
        created = self.group.create_array(
            path,
            shape=level.shape,
            dtype=level.dtype.newbyteorder("="),
            chunks=level.chunks,
            shards=level.shards,
            compressors=encoding.compressors,
            filters=encoding.filters if same else "auto",
            serializer=encoding.serializer if same and encoding.zarr_format == 3 else "auto",
            fill_value=fill_value_for(fill, level.dtype, encoding.zarr_format),
            attributes=dict(attrs),
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
                raise ValueError(
                    f"the coordinate {str(name)!r} of {str(image.name)!r} cannot be stored in zarr: "
                    f"{type(error).__name__}: {error}; convert it, or leave it out with image.drop_vars({str(name)!r})"
                ) from error
        raise


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


def create_target(
    store: Any,
    sources: Sequence[Any],
    paths: tuple[str, ...],
    written: tuple[str, ...],
    *,
    record: Record,
    layout: Layout,
    mode: Mode,
    resume: bool,
    zarr_format: ZarrFormat,
    labels: Sequence[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Target:
    """Create or open the group of a new pyramid.

    With "w-", a place where anything is stored is refused. With "w", a pyramid of this package that is there is
    replaced, array by array; everything else in the group stays, and is refused where it is in the way. With
    `resume`, a build that was begun there is gone on with. In a folder, the pyramid that is there stays until the new
    one is published; a zip file is built in a folder beside it. `labels` name those that are written with the pyramid.

    Raises
    ------
    FileExistsError
        If something is stored there that may not be replaced.
    ValueError
        If the target holds an array that one of `sources` is computed from, or lies in one.
    """
    refuse_source_in_target(sources, store)
    new = _NewPyramid(tuple(sources), paths, written, layout, record, mode, resume, zarr_format, tuple(labels))
    archive = archive_of(store, replaces=mode == "w")
    if archive is not None:
        url_options(store, storage_options)
        archive.make_ready(zarr_format, resume=resume)
        return replace(_create_in_place(_target_place(archive.store, None), new), archive=archive)
    place = _target_place(store, storage_options)
    if (stage := Stage.of(place)) is not None:
        return _create_on_stage(stage, new)
    return _out_of_sight(_create_in_place(place, new), None)


@dataclass(frozen=True)
class _NewPyramid:
    """What is to be created, and how."""

    sources: tuple[Any, ...]
    """The arrays that it is computed from."""
    paths: tuple[str, ...]
    """Path of every level's array, the base first."""
    written: tuple[str, ...]
    """Paths of all arrays."""
    layout: Layout
    """How levels lie in the group."""
    record: Record
    """What the build is and in which passes it goes."""
    mode: Mode
    """Whether what this package wrote may be replaced."""
    resume: bool
    """Whether a build that was begun is gone on with."""
    zarr_format: ZarrFormat
    """The zarr format."""
    labels: tuple[str, ...]
    """Names of the labels that are written with it."""

    def target(self, group: zarr.Group, record: Record | None = None, **more: Any) -> Target:
        """Return the target in a group; with a record, that of the build that is gone on with."""
        return Target(
            group,
            self.paths,
            self.written,
            self.layout,
            record or self.record,
            resumed=record is not None,
            instead=START_OVER,
            **more,
        )

    def replaceable_in(self, existing: Node) -> tuple[zarr.Group, tuple[str, ...]]:
        """Return the group that is there already, and the paths of the arrays in it that will be replaced.

        Raises
        ------
        FileExistsError
            If it may not be used, or something is in the way.
        """
        group = _usable_group(existing, self.mode, self.zarr_format, resume=self.resume)
        ours = _replaceable(group)
        _refuse_occupied(group, self.paths, ours)
        for name in self.labels:
            _refuse_foreign_labels(group, f"{LABELS}/{name}")
        # Those in what is replaced go with it.
        remove_leftovers(group, ())
        return group, ours


def _create_on_stage(stage: Stage, new: _NewPyramid) -> Target:
    """Create a group beside what is in a folder, or go on with one that was begun."""
    if stage.is_swapping and (new.resume or new.mode == "w"):
        ended = stage.finish()
        if new.resume:
            group = writable_group(cast("zarr.Group", open_node(stage.place)))
            return new.target(group, new.record.resumed(ended), is_complete=True)
    started = stage.begun()
    begun = None if started is None else _begun(started)
    if new.resume and begun is not None:
        check_format(begun, stage.place, START_OVER)
        found, root = new.record.resumed(begun), stage.root()
        replaced = () if root is None else replaced_paths(root, begun.get("replaced", ()))
        return new.target(writable_group(cast("zarr.Group", started)), found, stage=stage, replaced=replaced)
    if new.mode == "w-" and (begun is not None or stage.is_swapping):
        _refuse_interrupted(stage.place)
    existing = _existing_node(stage.place, resume=new.resume)
    ours: tuple[str, ...] = ()
    if existing is not None:
        _refuse_record_of_old(existing, resume=new.resume)
        _, ours = new.replaceable_in(existing)
    mark = {BUILD_ATTRIBUTE: in_progress(new.written, new.record, replaced=list(ours))}
    return new.target(stage.open_new(new.zarr_format, mark), stage=stage, replaced=ours)


def _create_in_place(place: StorePath, new: _NewPyramid) -> Target:
    """Create a group, or open one for another pyramid, and mark it as a build in progress."""
    existing = _existing_node(place, resume=new.resume)
    if new.resume and existing is not None and (begun := _begun(existing)) is not None:
        check_format(begun, existing.store_path, START_OVER)
        found = new.record.resumed(begun)
        group = writable_group(cast("zarr.Group", existing))
        _withdraw(group, replaced_paths(group, begun.get("replaced", ())), in_progress(new.written, found))
        return new.target(group, found)
    if existing is None:
        # With "w-", zarr would refuse what it has left of its own first write.
        how: Literal["a", "w-"] = "a" if new.resume else "w-"
        group = zarr.open_group(as_store(place), mode=how, zarr_format=new.zarr_format)
        ours: tuple[str, ...] = ()
    else:
        group, ours = new.replaceable_in(existing)
    if ours and not is_icechunk(unwrapped(place.store)):
        refuse_unknown_source(new.sources, place)
    _withdraw(group, ours, in_progress(new.written, new.record))
    return new.target(group)


def _refuse_record_of_old(existing: Node, *, resume: bool) -> None:
    """Refuse to resume a build that an earlier version began in its place."""
    begun = _begun(existing)
    if resume and begun is not None:
        check_format(begun, existing.store_path, START_OVER)


def _refuse_interrupted(place: StorePath) -> NoReturn:
    raise FileExistsError(
        f"{place} contains an interrupted build; continue it with resume=True (--resume), or start over with mode='w'"
    )


def _refuse_foreign_labels(group: zarr.Group, path: str) -> None:
    """Refuse labels of an image that is replaced where something stands that is not ours."""
    node = group.get(path)
    if node is None:
        return
    arrays = node.members(max_depth=None) if isinstance(node, zarr.Group) else [("", node)]
    ours = _replaceable(node) if isinstance(node, zarr.Group) else ()
    if taken := [name for name, member in arrays if isinstance(member, zarr.Array) and name not in ours]:
        raise FileExistsError(
            f"{node.store_path} holds {taken[0]!r}, which multiscale_sampler did not write, where labels would go; "
            "choose another store, or remove it"
        )


def in_progress(written: Sequence[str], record: Record, **more: Any) -> dict[str, Any]:
    """Return what a group says while a build is writing `written` into it."""
    return {"written": list(written), **record.to_dict(), **more}


def discard_scratch(group: zarr.Group) -> None:
    """Delete what a build or change kept for itself."""
    if (stage := Stage.of(group.store_path)) is not None:
        stage.discard()
    else:
        _remove(group, [SCRATCH])


def _begun(node: Node) -> Mapping[str, Any] | None:
    """Return what a group says of a build in it that has not ended, None if there is none."""
    if not isinstance(node, zarr.Group):
        return None
    stored = mark_in(node.attrs.asdict(), node.store_path)
    return stored if stored is not None and "passes" in stored else None


def _usable_group(node: Node, mode: Mode, zarr_format: ZarrFormat, *, resume: bool) -> zarr.Group:
    """Return the group that is there already, if `mode` lets it be used."""
    if isinstance(node, zarr.Array):
        raise FileExistsError(f"{node.store_path} is an array; a pyramid needs a group, choose another store")
    # A blank group is what a build leaves that was stopped before it could say what it is.
    if resume and mode == "w-" and (len(node.attrs) or len(node)):
        raise FileExistsError(
            f"{node.store_path} exists but is neither an interrupted build nor what this build would make: there is "
            "nothing to resume; choose another store, or pass mode='w', which replaces what multiscale_sampler wrote"
        )
    if mode == "w-" and _begun(node) is not None:
        _refuse_interrupted(node.store_path)
    if mode == "w-" and not resume:
        raise FileExistsError(
            f"{node.store_path} exists; choose another store, or pass mode='w', which replaces what "
            "multiscale_sampler wrote there"
        )
    if node.metadata.zarr_format != zarr_format:
        raise FileExistsError(
            f"{node.store_path} has zarr format {node.metadata.zarr_format!r}, the pyramid needs {zarr_format!r}; "
            "choose another store or version"
        )
    return writable_group(node)


def _target_place(store: Any, storage_options: Mapping[str, Any] | None) -> StorePath:
    """Return a place in which a build asks of a remote store no more than it has to; a folder, however it is written.

    Raises
    ------
    ValueError
        If the place is an array.
    """
    options = url_options(store, storage_options)
    if isinstance(store, zarr.Array):
        raise FileExistsError(f"{store.store_path} is an array; a pyramid needs a group, choose another store")
    kind, parts = place_of(store)
    if kind == "file" and not is_zarr(store):
        return StorePath(zarr.storage.LocalStore(Path(*parts)))
    found = store.store_path if isinstance(store, zarr.Group) else as_store(store, options)
    found = StorePath(zarr.storage.MemoryStore(cast("Any", found))) if isinstance(found, dict) else found
    place = found if isinstance(found, StorePath) else StorePath(found)
    if kind == "file" and isinstance(unwrapped(place.store), zarr.storage.FsspecStore | zarr.storage.ObjectStore):
        return StorePath(zarr.storage.LocalStore(Path(*parts)))
    return StorePath(as_target(place.store), place.path)


def _existing_node(place: StorePath, *, resume: bool) -> Node | None:
    """Return what is stored at a place; None if nothing is, or with `resume` only what zarr left of a first write."""
    stage = Stage.of(place)
    if stage is not None and stage.folder.is_file():
        raise FileExistsError(f"{shown(stage.folder)} exists but is not a zarr store; choose another place")
    if stage is not None and stage.is_alone:
        return None
    try:
        return open_node(place)
    except FileNotFoundError:
        names = [] if stage is None else [path.name for path in stage.folder.iterdir()]
        if any(not (resume and (name == ".zattrs" or name.endswith(PARTIAL_ENDING))) for name in names):
            raise FileExistsError(f"{place} exists but is not a zarr store; choose another place") from None
        return None


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


def _replaceable(group: zarr.Group) -> tuple[str, ...]:
    """Return the paths of the arrays in a group that an earlier build of this package wrote.

    Raises
    ------
    FileExistsError
        If the group is a pyramid of another writer, or one whose base was there before its levels.
    ValueError
        If this package cannot have written what the metadata state.
    """
    attributes = group.attrs.asdict()
    mark = mark_in(attributes, group.store_path) or {}
    multiscales = parse_multiscales(attributes)
    if multiscales is None:
        return replaced_paths(group, tuple(mark.get("written", ())) or paths_written_by_us(attributes))
    written = paths_written_by_us(attributes)
    if not {dataset.path for dataset in multiscales.datasets} <= set(written):
        raise FileExistsError(
            f"{group.store_path} holds a pyramid that multiscale_sampler did not write, or not all of it; "
            "choose another store"
        )
    return replaced_paths(group, written)


def _refuse_occupied(group: zarr.Group, paths: Sequence[str], ours: Sequence[str]) -> None:
    """Refuse levels where something stands that is not ours."""
    owned = {*ours, *(path.rpartition("/")[0] for path in ours)}
    for path in paths:
        parent = path.rpartition("/")[0]
        if parent and isinstance(holder := node_at(group, parent), zarr.Group):
            taken = [f"{parent}/{name}" for name in members_of(holder, 0) if f"{parent}/{name}" not in ours]
        else:
            taken = [place for place in (path, parent) if place and _is_taken(group, place) and place not in owned]
        if taken:
            raise FileExistsError(
                f"{group.store_path} holds {taken[0]!r}, which multiscale_sampler did not write, where a level would "
                "go; choose another store, or remove it"
            )


def _is_taken(group: zarr.Group, path: str) -> bool:
    """Whether anything is stored below a path, be it chunks without the metadata of their array."""
    return not sync((group.store_path / path).is_empty())


def _withdraw(group: zarr.Group, ours: Sequence[str], build: Mapping[str, Any]) -> None:
    """Mark a group as a build, and remove the pyramid of this package that it held, and nothing else.

    The mark comes first, and says what is being removed, so that a build that is stopped here can be gone on with.
    """
    if ours:
        foreign = foreign_attributes(group.attrs.asdict())
        owned = list(dict.fromkeys([*ours, *build["written"]]))
        group.attrs.put({**foreign, BUILD_ATTRIBUTE: {**build, "written": owned, "replaced": list(ours)}})
        if group.metadata.zarr_format == 2:
            # In zarr v3, consolidated metadata are part of the group's own document, which has just been rewritten.
            sync((group.store_path / ".zmetadata").delete())
        remove_arrays(group, [*ours, SCRATCH])
    group.attrs[BUILD_ATTRIBUTE] = dict(build)


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


def base_array(group: zarr.Array[Any] | zarr.Group, base: str) -> zarr.Array[Any]:
    """Return the base of a pyramid in a group, opened for reading.

    Raises
    ------
    FileNotFoundError
        If the group has no such array.
    """
    if isinstance(group, zarr.Array):
        raise ValueError(
            f"{group.store_path} is an array, and levels go beside it; name the group above it as the store and the "
            f"array as base={group.basename!r}, or write a new store with write_pyramid"
        )
    array = node_at(group, base)
    if not isinstance(array, zarr.Array):
        found = ", ".join(repr(name) for name in sorted(group)) or "nothing"
        raise FileNotFoundError(f"{group.store_path} has no array {base!r} (found {found}); name one with base=")
    return array


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


def name_of(group: zarr.Group) -> str | None:
    """Return the name that an image has in its group: as the metadata state it, or that of the group."""
    multiscales = parse_multiscales(group.attrs.asdict())
    return (multiscales.name if multiscales else None) or group.basename or None


def paths_beside(base: str, count: int) -> tuple[str, ...]:
    """Return the paths of levels that stand beside their base, which is the first of them."""
    first = int(base) + 1 if base.isdigit() else 1
    return (base, *map(str, range(first, first + count - 1)))


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


def finished_group(store: Any, storage_options: Mapping[str, Any] | None = None) -> zarr.Group | None:
    """Return the group at a place if it holds a finished pyramid, opened for reading; None if it does not."""
    if (archive := archive_of(store, replaces=True)) is not None:
        archive.remove_leftovers()
    if is_unfinished(store):
        return None
    try:
        node = open_node(store, storage_options=storage_options, use_consolidated=False)
    except (FileNotFoundError, ValueError):
        # Whoever is to write there says what stands in the way.
        return None
    if not isinstance(node, zarr.Group) or stated_recipe(node.attrs.asdict()) is None or _begun(node) is not None:
        return None
    if (stage := Stage.of(node.store_path)) is not None:
        if stage.is_swapping or stage.begun() is not None:
            return None
        # What a deletion left that was stopped.
        stage.discard()
    return node


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


def open_target(
    node: zarr.Group, base: str, count: int, version: NgffVersion, *, record: Record, resume: bool
) -> Target:
    """Return the target of `count` - 1 levels that are being added to the group of an existing base.

    With `resume`, levels that were begun there are gone on with.

    Raises
    ------
    FileExistsError
        If a level is there already, or a pyramid is described.
    """
    group = writable_group(node, building=True)
    paths = paths_beside(base, count)
    new = Target(group, paths, paths[1:], "flat", record, name_of(group), is_consolidated(node))
    stage = Stage.of(group.store_path)
    if stage is not None and stage.is_swapping:
        ended = stage.finish()
        if resume:
            return replace(new, record=record.resumed(ended), is_complete=True)
    started = group if stage is None else stage.begun()
    # Earlier versions added levels in their place.
    begun = _begun(group) or (None if started is None else _begun(started))
    if begun is not None:
        check_format(begun, group.store_path, WRITE_ANOTHER)
    if resume and begun is not None and started is not None:
        found, consolidated = record.resumed(begun), bool(begun.get("consolidated"))
        new = replace(new, group=writable_group(started), record=found, was_consolidated=consolidated, resumed=True)
        return _out_of_sight(new, stage)
    if begun is not None or BUILD_ATTRIBUTE in group.attrs:
        raise FileExistsError(
            f"{group.store_path} contains levels of an unfinished build; continue it with resume=True (--resume)"
        )
    _refuse_levels(group, paths, version)
    mark = in_progress(paths[1:], record, consolidated=new.was_consolidated, replaced=[])
    if stage is not None:
        return replace(new, group=stage.open_new(group.metadata.zarr_format, {BUILD_ATTRIBUTE: mark}), stage=stage)
    group.attrs[BUILD_ATTRIBUTE] = mark
    return _out_of_sight(new, None)


def _out_of_sight(target: Target, stage: Stage | None) -> Target:
    """Return a target whose arrays no reader sees before they are published."""
    if stage is not None:
        return replace(target, stage=stage)
    # icechunk takes no chunk of an array that it does not know, and shows nothing of it before all is committed.
    place = target.group.store_path
    if is_icechunk(unwrapped(place.store)):
        return target
    owned = frozenset(path.rpartition("/")[0] or path for path in target.written)
    store = HeldDocuments(place.store, place.path, owned)
    return replace(target, group=_group_in(store, target.group))


def _group_in(store: Store, group: zarr.Group) -> zarr.Group:
    """Return a group by another store that wraps its own, or is wrapped by it."""
    zarr_format = group.metadata.zarr_format
    return zarr.open_group(store, path=group.path, mode="r+", zarr_format=zarr_format, use_consolidated=False)


def _refuse_levels(group: zarr.Group, paths: Sequence[str], version: NgffVersion) -> None:
    """Refuse levels beside the base that is the first of `paths`, where a pyramid or anything else stands already."""
    multiscales = parse_multiscales(group.attrs.asdict())
    if multiscales is not None and len(multiscales.datasets) > 1:
        raise FileExistsError(
            f"{group.store_path} describes a pyramid already; recompute its levels with "
            "rebuild_levels, or remove the levels other than its base and the metadata first"
        )
    if multiscales is not None and multiscales.datasets[0].path != paths[0]:
        raise FileExistsError(
            f"{group.store_path} describes {multiscales.datasets[0].path!r}, and levels of {paths[0]!r} would take "
            "its place; name that as the base, or write a new store with write_pyramid"
        )
    if multiscales is not None and multiscales.version != version:
        raise FileExistsError(
            f"{group.store_path} has metadata of OME-NGFF {multiscales.version}, the levels would get {version}; "
            "write a new store with write_pyramid"
        )
    if taken := [path for path in paths[1:] if _is_taken(group, path)]:
        raise FileExistsError(
            f"{group.store_path} holds {taken[0]!r} already; remove it, or write a new store with write_pyramid"
        )
