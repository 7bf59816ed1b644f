"""Where a pyramid may be written, and its target there: a new one, or that of a build that is gone on with.

Only what this package wrote is ever replaced, and what stands in the way is an error before anything is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, cast

import zarr
from zarr.storage import StorePath

from ..metadata import NgffVersion, parse_multiscales, paths_written_by_us, stated_recipe
from .archives import archive_of
from .codecs import ZarrFormat
from .documents import (
    members_of,
)
from .layout import BUILD_ATTRIBUTE, LABELS, SCRATCH, Layout, foreign_attributes
from .leftovers import remove_leftovers
from .marks import mark_in, replaced_paths
from .names import PARTIAL_ENDING
from .nodes import as_store, is_unfinished, is_zarr, open_node, place_of, shown, url_options
from .origins import refuse_source_in_target, refuse_unknown_source
from .remote import as_target, is_icechunk
from .staging import HeldDocuments, Stage
from .targets import (
    WRITE_ANOTHER,
    Record,
    Target,
    check_format,
    group_by_store,
    in_progress,
    remove_arrays,
    writable_group,
)
from .zarr_internals import (
    Node,
    is_consolidated,
    node_at,
    sync,
    unwrapped,
)

Mode: TypeAlias = Literal["w-", "w"]
MODES: tuple[Mode, ...] = ("w-", "w")
START_OVER = "start over in another store, or with mode='w' instead of resume=True (--overwrite instead of --resume)"


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


def name_of(group: zarr.Group) -> str | None:
    """Return the name that an image has in its group: as the metadata state it, or that of the group."""
    multiscales = parse_multiscales(group.attrs.asdict())
    return (multiscales.name if multiscales else None) or group.basename or None


def paths_beside(base: str, count: int) -> tuple[str, ...]:
    """Return the paths of levels that stand beside their base, which is the first of them."""
    first = int(base) + 1 if base.isdigit() else 1
    return (base, *map(str, range(first, first + count - 1)))


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
    return replace(target, group=group_by_store(store, target.group))


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
