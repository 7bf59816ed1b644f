"""Where new arrays are until a pyramid is whole, so that no reader sees a part of it, and what it replaces stays.

In a folder, a build fills a stage: a group inside the folder of the pyramid, on its file system. What it replaces is
readable until everything is there. Then parts are renamed, in an order that can be repeated: what is replaced goes
aside, the root's documents first; what is new takes its place, the root's documents last. Whoever is stopped in
between leaves nothing that can be opened, and a list by which the next call ends the exchange. Elsewhere, chunks go
where they stay, and the documents that make arrays and groups of them are held back.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.storage import StorePath, WrapperStore

from .layout import DIGESTS, LABELS, SCRATCH
from .local_files import patiently
from .names import DOCUMENTS, PARTIAL_ENDING, ZARR_JSON, leads_nowhere
from .nodes import location
from .remote import is_document
from .zarr_internals import sync

# In the folder of a pyramid: what a stage is renamed to before it is deleted.
REMOVED = "multiscale_sampler_removed"
# In the scratch folder: the stage, the parts that it replaces, the documents that the root gets, and the list of steps.
NEW, OLD, ROOT, SWAP = "new", "old", "root", "swap.json"
# The root's documents in the order in which they appear; in zarr v2 the one that makes a group comes last.
DOCUMENT_ORDER = (".zmetadata", ".zattrs", ".zgroup", ZARR_JSON)
# What may be replaced: documents, arrays of the two layouts or the groups that they are in, labels.
OWN_PART = re.compile(rf"(\d+|scale\d+(/[^/\\\0]+)?|{DIGESTS}(/chunks)?|{LABELS}/[^/\\\0]+|zarr\.json|\.z\w+)")
# A group that says that it holds nothing, by zarr format: those that list the pyramid's group do not look into a stage.
EMPTY_GROUP: dict[int, dict[str, Any]] = {
    2: {
        ".zgroup": {"zarr_format": 2},
        ".zmetadata": {"metadata": {".zgroup": {"zarr_format": 2}}, "zarr_consolidated_format": 1},
    },
    3: {
        ZARR_JSON: {
            "attributes": {},
            "zarr_format": 3,
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {}},
            "node_type": "group",
        }
    },
}


@dataclass(frozen=True)
class Stage:
    """The stage of a pyramid in a folder."""

    place: StorePath
    """The pyramid's group."""
    folder: Path
    """Its folder."""

    @classmethod
    def of(cls, place: StorePath) -> Stage | None:
        """Return the stage of a pyramid, None where its group is not a folder."""
        # What another class of store does with a folder is not known.
        if type(place.store) is not zarr.storage.LocalStore:
            return None
        return cls(place, Path(*location(place.store, place.path)[1]))

    @property
    def scratch(self) -> Path:
        """The folder of everything that a build keeps for itself."""
        return self.folder / SCRATCH

    @property
    def is_swapping(self) -> bool:
        """Whether a complete pyramid is there, whose exchange has begun and not ended."""
        return self._list.exists()

    @property
    def _list(self) -> Path:
        """The list of an exchange; that of one of which only the remains have to be deleted is among them."""
        removed = self.folder / REMOVED / SWAP
        return removed if removed.exists() else self.scratch / SWAP

    @property
    def is_alone(self) -> bool:
        """Whether the folder holds nothing but what a build keeps for itself, or is not there."""
        return not self.folder.exists() or {path.name for path in self.folder.iterdir()} <= {SCRATCH, REMOVED}

    def root(self) -> zarr.Group | None:
        """Return the group as it is there, None if there is none."""
        if self.is_alone:
            return None
        with suppress(FileNotFoundError):
            return zarr.open_group(self.place.store, path=self.place.path, mode="r")
        return None

    def begun(self) -> zarr.Group | None:
        """Return the group that an unfinished build fills, None if there is none."""
        if not (self.scratch / NEW).exists():
            return None
        with suppress(FileNotFoundError):
            return zarr.open_group(self._store, mode="r", use_consolidated=False)
        return None

    def open_new(self, zarr_format: int, attributes: Mapping[str, Any]) -> zarr.Group:
        """Return an empty group for a build to fill; what earlier ones left is deleted."""
        self.discard()
        self.scratch.mkdir(parents=True)
        for name, content in EMPTY_GROUP[zarr_format].items():
            (self.scratch / name).write_text(json.dumps(content))
        options: Any = {"zarr_format": zarr_format, "attributes": dict(attributes)}
        return zarr.open_group(self._store, mode="w-", **options)

    @property
    def _store(self) -> zarr.storage.LocalStore:
        # A store of its own: zarr makes groups of all folders between an array and the root of its store.
        return zarr.storage.LocalStore(self.scratch / NEW)

    def discard(self) -> None:
        """Delete what a build keeps for itself, renamed first: what a stopped deletion leaves is no build."""
        self._delete_removed()
        if self.scratch.exists():
            patiently(os.rename, self.scratch, self.folder / REMOVED)
            self._delete_removed()

    def _delete_removed(self) -> None:
        removed = self.folder / REMOVED
        if not removed.exists():
            return
        # The list of an exchange last, by which one that was stopped here is known to have ended.
        for path in sorted(removed.iterdir(), key=lambda path: path.name == SWAP):
            if path.is_dir():
                patiently(shutil.rmtree, path)
            else:
                patiently(os.unlink, path)
        os.rmdir(removed)

    def give_up(self) -> None:
        """Delete what a build keeps for itself, and the folder if nothing else is in it."""
        self.discard()
        with suppress(OSError):
            self.folder.rmdir()

    def swap(self, documents: Mapping[str, Buffer], replaced: Sequence[str], record: Mapping[str, Any]) -> None:
        """Exchange `replaced`, paths in the group, for what is on the stage; `documents` become those of the group.

        Where something is replaced, the group's own documents go first, so that no reader takes parts for the whole.
        """
        root = self.scratch / ROOT
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, content in documents.items():
            (root / name).write_bytes(content.to_bytes())
        old = [*reversed(DOCUMENT_ORDER), *replaced] if replaced else []
        listed = {"replaced": [path for path in old if (self.folder / path).exists()], "record": record}
        partial = self.scratch / f"{SWAP}{PARTIAL_ENDING}"
        partial.write_text(json.dumps(listed))
        patiently(os.replace, partial, self.scratch / SWAP)
        self.finish()

    def finish(self) -> Mapping[str, Any]:
        """End an exchange that was listed, from wherever it was stopped; return the record of the build."""
        path = self._list
        listed: dict[str, Any] = json.loads(path.read_text())
        replaced, record = listed["replaced"], listed["record"]
        if foreign := [path for path in replaced if not OWN_PART.fullmatch(path) or leads_nowhere(path)]:
            raise ValueError(
                f"{str(path)!r} lists {foreign[0]!r} among the parts to replace, which this package did not write; "
                "remove that file, or choose another store"
            )
        if path.parent == self.scratch:
            self._exchange(replaced)
        self.discard()
        return cast("Mapping[str, Any]", record)

    def remove(self, paths: Sequence[str]) -> None:
        """Delete arrays of the pyramid, moved aside first, so that no reader meets a part of one."""
        self._move_aside(self.parts(paths))
        self.discard()

    def _exchange(self, replaced: Sequence[str]) -> None:
        self._move_aside(replaced)
        _move_into(self.scratch / NEW, self.folder, {*DOCUMENT_ORDER, SCRATCH})
        for name in DOCUMENT_ORDER:
            if (self.scratch / ROOT / name).exists():
                patiently(os.replace, self.scratch / ROOT / name, self.folder / name)

    def _move_aside(self, paths: Sequence[str]) -> None:
        for path in paths:
            source, target = self.folder / path, self.scratch / OLD / path
            # Once it is aside, its place may be that of its successor.
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                patiently(os.rename, source, target)

    def parts(self, paths: Sequence[str]) -> list[str]:
        """Return what is to be moved aside with arrays: the groups that hold nothing else, and other arrays."""
        return list(dict.fromkeys(self._part(path, set(paths)) for path in paths))

    def _part(self, path: str, paths: set[str]) -> str:
        parent = path.rpartition("/")[0]
        if not parent or not (self.folder / parent).is_dir():
            return path
        names = {each.name for each in (self.folder / parent).iterdir() if not each.name.endswith(PARTIAL_ENDING)}
        return parent if {f"{parent}/{name}" for name in names - {*DOCUMENTS}} <= paths else path

    def listed_in_both(self, path: str) -> list[str]:
        """Return the paths of what is in a group both on the stage and in the pyramid."""
        new, old = self.scratch / NEW / path, self.folder / path
        return (
            [f"{path}/{each.name}" for each in new.iterdir() if each.is_dir() and (old / each.name).exists()]
            if new.is_dir()
            else []
        )

    def sweep(self) -> None:
        """Delete what writers left on the stage that were stopped: files that are not whole, and removed folders."""
        for folder, folders, names in os.walk(self.scratch / NEW):
            if REMOVED in folders:
                folders.remove(REMOVED)
                shutil.rmtree(os.path.join(folder, REMOVED))
            for name in names:
                if name.endswith(PARTIAL_ENDING):
                    os.unlink(os.path.join(folder, name))


def _move_into(folder: Path, target: Path, left_out: set[str]) -> None:
    """Move what is in a folder into another; folders that are there stay, and get what is in those of their name."""
    if not folder.exists():
        return
    # Documents of groups last.
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_file(), path.name)):
        if path.name in left_out:
            continue
        if path.is_dir() and (target / path.name).is_dir():
            _move_into(path, target / path.name, set())
        else:
            patiently(os.replace, path, target / path.name)


class HeldDocuments(WrapperStore[Store]):
    """A store that takes the documents of arrays and groups below a group, but does not store them before `release`.

    Those of the group itself, and of what a build keeps for itself, are stored at once. Of arrays and groups in `owned`
    (paths in the group), no other document is known than those that are held back.
    """

    # Or zarr would ask the wrapped store, in later releases than 3.1, by methods that do not wait.
    _supports_sync_io = False

    def __init__(self, store: Store, group: str, owned: frozenset[str], held: dict[str, Buffer] | None = None) -> None:
        super().__init__(store)
        self.group = group
        self.owned = owned
        self.held = {} if held is None else held

    def _with_store(self, store: Store) -> HeldDocuments:
        return type(self)(store, self.group, self.owned, self.held)

    def with_read_only(self, read_only: bool = False) -> HeldDocuments:
        """Return the store to be only read, or written too."""
        return self._with_store(self._store.with_read_only(read_only))

    def __str__(self) -> str:
        """Return what messages call the store: the name of what it wraps."""
        return str(self._store)

    @property
    def store(self) -> Store:
        """The store that takes everything else."""
        return self._store

    def release(self) -> None:
        """Store the documents, those of arrays before those of the groups that they are in."""
        for depth in sorted({key.count("/") for key in self.held}, reverse=True):
            sync(self._put([key for key in self.held if key.count("/") == depth]))

    async def _put(self, keys: Sequence[str]) -> None:
        await asyncio.gather(*(self._store.set(key, self.held[key]) for key in keys))

    def _folders(self, key: str) -> list[str]:
        return key.removeprefix(f"{self.group}/" if self.group else "").split("/")[:-1]

    def _holds(self, key: str) -> bool:
        return is_document(key) and bool(folders := self._folders(key)) and SCRATCH not in folders

    def _is_only_held(self, key: str) -> bool:
        """Whether a document is one of those of which what was stored earlier does not count."""
        folders = self._folders(key) if is_document(key) else []
        return any("/".join(folders[:depth]) in self.owned for depth in range(1, len(folders) + 1))

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a value or a part of it."""
        if key in self.held or self._is_only_held(key):
            return self.held.get(key)
        return await self._store.get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        return key in self.held or (not self._is_only_held(key) and await self._store.exists(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value, or hold it back."""
        if self._holds(key):
            self.held[key] = value
        else:
            await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value, or hold it back, where there is none."""
        if not await self.exists(key):
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """Delete a value."""
        if self.held.pop(key, None) is None:
            await self._store.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete what is below a prefix."""
        for key in self._below(prefix):
            del self.held[key]
        await self._store.delete_dir(prefix)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names right below a prefix."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        found = {name async for name in self._store.list_dir(prefix)}
        for name in sorted(found | {key.removeprefix(start).split("/")[0] for key in self._below(prefix)}):
            yield name

    def _below(self, prefix: str) -> list[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        return [key for key in self.held if key.startswith(start)]
