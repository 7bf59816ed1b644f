"""The target of a build: empty arrays of its levels, their coordinates, and the metadata that publish it.

The group of a target is marked while it is built, and its metadata are published last, so that no reader takes a
half-built store for a finished one. Only what this package wrote is ever removed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.storage import StorePath

from ..metadata import NgffVersion, parse_multiscales, paths_written_by_us, with_published
from ..plan.plan import Level, Pass
from .archives import Archive, archive_of
from .codecs import ZarrFormat
from .documents import (
    Attributes,
    change_attributes,
    changed_documents,
    consolidate,
    silenced_string_warnings,
    without_mark,
)
from .encoding import Encoding, fill_value_for, key_encoding
from .journal import Journal
from .layout import BUILD_ATTRIBUTE, SCRATCH, Layout, foreign_attributes
from .marks import RECORD_FORMAT, mark_in, replaced_paths
from .names import PARTIAL_ENDING, V2_DIMENSIONS
from .nodes import as_store, local_path, open_node, refuse_source_in_target, shown, url_options
from .remote import as_target, is_document, is_icechunk, is_remote
from .zarr_internals import (
    Node,
    buffer_of,
    default_buffer_prototype,
    is_consolidated,
    node_at,
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

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it."""
        passes = [[number, dataclasses.asdict(pass_)] for number, pass_ in self.passes]
        filled = None if self.filled is None else list(self.filled)
        return {"format": RECORD_FORMAT, "fingerprint": dict(self.fingerprint), "passes": passes, "filled": filled}

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
        return Record(self.fingerprint, passes, None if filled is None else tuple(filled))


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
        return self.group.create_array(
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

    def create_scratch(
        self, index: int, dtype: np.dtype[Any], shape: Sequence[int], chunks: Sequence[int]
    ) -> zarr.Array[Any]:
        """Create the array that carries the state of a level from one pass to the next."""
        path = f"{SCRATCH}/carry{index}"
        if isinstance(begun := self.group.get(path), zarr.Array):
            return begun
        self.group.require_group(SCRATCH)
        return self.group.create_array(
            path,
            shape=tuple(shape),
            chunks=tuple(chunks),
            dtype=dtype,
            compressors=None,
            filters=None,
        )

    def journal(self, number: int, count: int) -> Journal:
        """Open the journal of a pass of `count` regions."""
        if not Journal.is_one_file(self.group):
            return Journal.of(self.group, f"{SCRATCH}/pass{number}", count)
        if count == 1:
            # It is in flight until its pass ends.
            return Journal(count, None, None, False)
        return Journal.of(self.group.require_group(SCRATCH), f"pass{number}", count)

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
        _remove(self.group, [SCRATCH])

    def write_coordinates(self, index: int, image: xr.DataArray) -> None:
        """Write the coordinate arrays of a level beside its array, as xarray writes and finds them."""
        path = self.paths[index].rpartition("/")[0]
        coords = xr.Dataset(coords=image.coords).drop_encoding()
        # In memory first: xarray looks at all that is there, and writes most documents twice.
        made: dict[str, Buffer] = {}
        with silenced_string_warnings():
            coords.to_zarr(
                zarr.storage.MemoryStore(made), consolidated=False, zarr_format=self.group.metadata.zarr_format
            )
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
    storage_options: Mapping[str, Any] | None = None,
) -> Target:
    """Create or open the group of a new pyramid and mark it as a build in progress.

    With "w-", a place where anything is stored is refused. With "w", a pyramid of this package that is there is
    removed, array by array; everything else in the group stays, and is refused where it is in the way. With
    `resume`, a build that was begun there is gone on with. A zip file is built in a folder beside it.

    Raises
    ------
    FileExistsError
        If something is stored there that may not be replaced.
    ValueError
        If the target holds an array that one of `sources` is computed from, or lies in one.
    """
    refuse_source_in_target(sources, store)
    archive = archive_of(store, replaces=mode == "w")
    if archive is not None:
        url_options(store, storage_options)
        archive.make_ready(zarr_format, resume=resume)
        store = archive.store
    place = store if archive is not None else _target_place(store, storage_options)
    existing = _existing_node(place, resume=resume)
    if resume and existing is not None and (begun := _begun(existing)) is not None:
        check_format(begun, existing.store_path, START_OVER)
        found = record.resumed(begun)
        group = writable_group(cast("zarr.Group", existing))
        _withdraw(group, replaced_paths(group, begun.get("replaced", ())), in_progress(written, found))
        return Target(group, paths, written, layout, found, archive=archive, resumed=True, instead=START_OVER)
    if existing is None:
        # With "w-", zarr would refuse what it has left of its own first write.
        how: Literal["a", "w-"] = "a" if resume else "w-"
        group = zarr.open_group(as_store(place), mode=how, zarr_format=zarr_format)
        ours: tuple[str, ...] = ()
    else:
        group = _usable_group(existing, mode, zarr_format, resume=resume)
        ours = _replaceable(group)
        _refuse_occupied(group, paths, ours)
    _withdraw(group, ours, in_progress(written, record))
    return Target(group, paths, written, layout, record, archive=archive)


def in_progress(written: Sequence[str], record: Record, **more: Any) -> dict[str, Any]:
    """Return what a group says while a build is writing `written` into it."""
    return {"written": list(written), **record.to_dict(), **more}


def discard_scratch(group: zarr.Group) -> None:
    """Delete what an earlier build or change kept for itself."""
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
        raise FileExistsError(f"{node.store_path} exists but is not an interrupted build; there is nothing to resume")
    if mode == "w-" and _begun(node) is not None:
        raise FileExistsError(
            f"{node.store_path} contains an interrupted build; continue it with resume=True, or start over with "
            "mode='w'"
        )
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


def _target_place(store: Any, storage_options: Mapping[str, Any] | None) -> Any:
    """Return a place in which a build asks of a remote store no more than it has to."""
    options = url_options(store, storage_options)
    if isinstance(store, str) and local_path(store) is None:
        return as_target(as_store(store, options))
    if isinstance(store, Store):
        return as_target(store)
    if isinstance(store, zarr.Group) and is_remote(store.store_path.store):
        store = store.store_path
    if isinstance(store, StorePath):
        return StorePath(as_target(store.store), store.path)
    return store


def _existing_node(store: Any, *, resume: bool) -> Node | None:
    """Return what is stored at a place; None if nothing is, or with `resume` only what zarr left of a first write."""
    place = local_path(store)
    if place is not None and place.is_file():
        raise FileExistsError(f"{shown(store)} exists but is not a zarr store; choose another place")
    try:
        return open_node(store)
    except FileNotFoundError:
        names = [path.name for path in place.iterdir()] if place is not None and place.exists() else []
        if any(not (resume and (name == ".zattrs" or name.endswith(PARTIAL_ENDING))) for name in names):
            raise FileExistsError(f"{shown(store)} exists but is not a zarr store; choose another place") from None
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
    for path in paths:
        parent = path.rpartition("/")[0]
        if parent and isinstance(holder := node_at(group, parent), zarr.Group):
            taken = [f"{parent}/{name}" for name in holder if f"{parent}/{name}" not in ours]
        else:
            taken = [place for place in (path, parent) if place and _is_taken(group, place) and place not in ours]
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
        if isinstance(holder := node_at(group, parent), zarr.Group) and not len(holder):
            del group[parent]


def _remove(group: zarr.Group, paths: Sequence[str]) -> None:
    """Delete what is below some paths, whether or not nodes are left there.

    Chunks of a node whose removal was interrupted would show through.
    """
    for path in paths:
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
) -> None:
    """Create the arrays of all levels in memory, so that what zarr refuses is refused before a store is touched."""
    group = zarr.open_group({}, mode="w", zarr_format=encoding.zarr_format)
    target = Target(group, tuple(map(str, range(len(levels) + 1))), (), "flat", Record({}, ()))
    for level in levels:
        target.create_level(level, encoding, attrs, like=source)


def open_target(
    node: zarr.Group, base: str, count: int, version: NgffVersion, *, record: Record, resume: bool
) -> Target:
    """Mark the group of an existing base as one to which `count` - 1 levels are being added.

    With `resume`, levels that were begun there are gone on with.

    Raises
    ------
    FileExistsError
        If a level is there already, or a pyramid is described.
    """
    group = writable_group(node, building=True)
    attributes = group.attrs.asdict()
    first = int(base) + 1 if base.isdigit() else 1
    paths = (base, *map(str, range(first, first + count - 1)))
    multiscales = parse_multiscales(attributes)
    name = (multiscales.name if multiscales else None) or group.basename or None
    consolidated = is_consolidated(node)
    begun = _begun(node)
    if begun is not None:
        check_format(begun, group.store_path, WRITE_ANOTHER)
    if resume and begun is not None:
        found = record.resumed(begun)
        return Target(group, paths, paths[1:], "flat", found, name, bool(begun.get("consolidated")), resumed=True)
    if BUILD_ATTRIBUTE in attributes:
        raise FileExistsError(
            f"{group.store_path} contains levels of an unfinished build; continue it with resume=True (--resume)"
        )
    if multiscales is not None and len(multiscales.datasets) > 1:
        raise FileExistsError(
            f"{group.store_path} describes a pyramid already; recompute its levels with "
            "rebuild_levels, or remove the levels other than its base and the metadata first"
        )
    if multiscales is not None and multiscales.datasets[0].path != base:
        raise FileExistsError(
            f"{group.store_path} describes {multiscales.datasets[0].path!r}, and levels of {base!r} would take "
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
    group.attrs[BUILD_ATTRIBUTE] = in_progress(paths[1:], record, consolidated=consolidated)
    return Target(group, paths, paths[1:], "flat", record, name, consolidated)
