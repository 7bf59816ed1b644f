"""Pyramids in one zip file, in the layout of OME-NGFF RFC 9, packed from the folder that a build fills.

Entries of a zip file cannot be replaced, so a build goes into a folder beside it, where it can be interrupted and
gone on with. Its metadata are published by the packed file, which takes its place in one step.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from .layout import LABELS, foreign_attributes
from .local_files import patiently
from .marks import own_paths
from .names import DOCUMENTS, PARTIAL_ENDING
from .nodes import is_zip_url, open_node, zip_path

# What the folder has after the name of the file, and what it has when it is no longer needed.
FOLDER_ENDING = ".multiscale_sampler_build"
REMOVED_ENDING = ".multiscale_sampler_removed"
# The same pyramid makes the same bits whenever it is packed; earlier dates zip files do not know.
ENTRY_DATE = (1980, 1, 1, 0, 0, 0)
COPY_BYTES = 1 << 22

# Records of a zip file, by the names of its specification: their form, and what they begin with.
END_RECORD = struct.Struct("<4s4H2LH")
ZIP64_END_RECORD = struct.Struct("<4sQ2H2L4Q")
ZIP64_LOCATOR = struct.Struct("<4sLQL")
# Version 4.5 of the zip specification is the first with ZIP64.
ZIP64_VERSION = 45


@dataclass(frozen=True)
class Archive:
    """A zip file that is to hold a pyramid, and the folder beside it that the pyramid is built in."""

    file: Path
    replaces: bool
    """Whether a pyramid of this package that is there may be replaced."""

    @property
    def folder(self) -> Path:
        """The folder that the file is made in, on its own file system."""
        return self.file.with_name(self.file.name + FOLDER_ENDING)

    @property
    def store(self) -> Path:
        """The store that a build fills."""
        return self.folder / "pyramid.zarr"

    @property
    def removed_folder(self) -> Path:
        """What the folder is renamed to before it is deleted."""
        return self.file.with_name(self.file.name + REMOVED_ENDING)

    def make_ready(self, zarr_format: int, *, resume: bool) -> None:
        """Refuse what may not be replaced, and remove what an earlier build left, unless it is gone on with.

        Raises
        ------
        FileExistsError
            If the file is there already and may not be replaced, or an unfinished build of it.
        ValueError
            If RFC-9 cannot hold that zarr format.
        """
        # "The ZIP file MUST contain the OME-Zarr's root-level `zarr.json`", which zarr v2 has not.
        if self.file.suffix.lower() == ".ozx" and zarr_format == 2:
            raise ValueError(
                f"{str(self.file)!r} is to hold zarr v2, but .ozx files hold a zarr.json; choose version='0.5' or "
                "'0.6', or a file that ends in .zip"
            )
        self.remove_leftovers()
        self._refuse_existing()
        if self.folder.exists() and not resume:
            if not self.replaces:
                raise FileExistsError(
                    f"{str(self.folder)!r} is an unfinished build of {self.file.name!r}; continue it with "
                    "resume=True (--resume), or start over with mode='w'"
                )
            self._remove_folder()

    def remove_leftovers(self) -> None:
        """Remove what is left of a build that was stopped after its file had taken its place."""
        if self.removed_folder.exists():
            patiently(shutil.rmtree, self.removed_folder)
        if self.folder.exists() and self.file.exists() and self._file_is_newer() and not _foreign_to_us(self.file):
            self._remove_folder()

    def _file_is_newer(self) -> bool:
        """Whether the file was written after the documents of the build in the folder, which must not replace it."""
        documents = [path for path in map(self.store.joinpath, DOCUMENTS) if path.exists()]
        return all(path.stat().st_mtime_ns <= self.file.stat().st_mtime_ns for path in documents)

    def _remove_folder(self) -> None:
        """Delete the folder, renamed first: what a stopped deletion leaves must not be taken for a build."""
        patiently(os.rename, self.folder, self.removed_folder)
        patiently(shutil.rmtree, self.removed_folder)

    def _refuse_existing(self) -> None:
        if not self.file.exists():
            return
        if not self.replaces:
            raise FileExistsError(
                f"{str(self.file)!r} exists; choose another place, or replace the pyramid in it with mode='w'"
            )
        if foreign := _foreign_to_us(self.file):
            raise FileExistsError(
                f"{str(self.file)!r} holds {foreign[0]!r}, which multiscale_sampler did not write and which would go "
                "with the file; choose another place"
            )

    def pack(self, documents: Mapping[str, bytes], version: str | None) -> None:
        """Write the file from the store, with `documents` in place of those there, and remove the folder."""
        packed = self.folder / "packed.zip"
        names = sorted({*_files(self.store), *documents}, key=_rank)
        with zipfile.ZipFile(packed, "w") as archive:
            for name in names:
                _add(archive, name, documents.get(name) or self.store / name)
            archive.comment = _comment(version) if version is not None else b""
        _end_as_zip64(packed, len(archive.comment))
        # Somebody else may have put a file there while the pyramid was built.
        self._refuse_existing()
        patiently(os.replace, packed, self.file)
        self._remove_folder()


def archive_of(store: Any, *, replaces: bool) -> Archive | None:
    """Return the zip file that a pyramid is to be written into, None if the place is none.

    Raises
    ------
    ValueError
        If the place is a zip file that is open, or not on this machine.
    """
    if isinstance(store, zarr.storage.ZipStore):
        raise ValueError(f"{store} is open, and a zip file is written in one step; pass its path {str(store.path)!r}")
    if is_zip_url(store):
        raise ValueError(f"{store!r} is a zip file elsewhere; write it to a local path, and send it there")
    file = zip_path(store)
    return None if file is None else Archive(file, replaces)


def _foreign_to_us(file: Path) -> list[str]:
    """Return what a zip file holds beside a pyramid of this package and its labels."""
    try:
        root = open_node(file)
    except (FileNotFoundError, ValueError):
        return [file.name]
    if not isinstance(root, zarr.Group):
        return [file.name]
    images = {"": root, **{f"{name}/": node for name, node in root.members(max_depth=2) if _is_labels(name, node)}}
    ours = {inside + path for inside, node in images.items() for path in own_paths(node.attrs.asdict())}
    arrays = [name for name, node in root.members(max_depth=None) if isinstance(node, zarr.Array)]
    with zipfile.ZipFile(file) as archive:
        others = [name for name in archive.namelist() if name.rpartition("/")[2] not in DOCUMENTS]
    return [
        *(name for name in arrays if name not in ours),
        *(name for name in others if not any(name.startswith(f"{path}/") for path in ours)),
        *foreign_attributes(root.attrs.asdict()),
    ]


def _is_labels(name: str, node: Any) -> bool:
    return isinstance(node, zarr.Group) and name.count("/") == 1 and name.startswith(f"{LABELS}/")


def _files(store: Path) -> list[str]:
    """Return the paths of the files of a store, relative to it; not what a killed writer left half written."""
    return [
        (Path(folder) / name).relative_to(store).as_posix()
        for folder, _, names in os.walk(store)
        for name in names
        if not name.endswith(PARTIAL_ENDING)
    ]


def _rank(name: str) -> tuple[bool, int, str]:
    """Return what entries are sorted by.

    "The root-level `zarr.json` file SHOULD be the first ZIP file entry and the first entry in the central directory
    header; other `zarr.json` files SHOULD follow immediately afterwards, in breadth-first order." (RFC-9)
    """
    is_document = name.rpartition("/")[2] in DOCUMENTS
    return (not is_document, name.count("/") if is_document else 0, name)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    entry = zipfile.ZipInfo(name, ENTRY_DATE)
    # "ZIP-level compression SHOULD be disabled in favor of Zarr-level compression codecs." (RFC-9)
    entry.compress_type = zipfile.ZIP_STORED
    entry.external_attr = 0o644 << 16
    # "The ZIP64 format extension SHOULD be used, irrespective of the ZIP file size." (RFC-9)
    with archive.open(entry, "w", force_zip64=True) as target:
        if isinstance(content, bytes):
            target.write(content)
            return
        with content.open("rb") as source:
            shutil.copyfileobj(source, target, COPY_BYTES)


def _comment(version: str) -> bytes:
    """Return the comment of the file.

    "The ZIP archive comment SHOULD contain an UTF-8-encoded JSON string with an `ome` attribute that holds a `version`
    key with the OME-Zarr version as string value" (RFC-9); `jsonFirst` is its "flag to indicate if the `zarr.json`
    files are ordered breadth-first" (ome/ngff#364).
    """
    ome = {"version": version, "zipFile": {"centralDirectory": {"jsonFirst": True}}}
    return json.dumps({"ome": ome}).encode()


def _end_as_zip64(file: Path, comment_length: int) -> None:
    """Give a zip file the end of a ZIP64 file, which `zipfile` leaves out where sizes do not need it."""
    with file.open("r+b") as stream:
        position = stream.seek(-END_RECORD.size - comment_length, os.SEEK_END)
        end = stream.read()
        *_, count, size, offset, _ = END_RECORD.unpack_from(end)
        if count == 0xFFFF or 0xFFFFFFFF in (size, offset):
            return
        rest = ZIP64_END_RECORD.size - 12
        stream.seek(position)
        stream.write(
            ZIP64_END_RECORD.pack(b"PK\x06\x06", rest, ZIP64_VERSION, ZIP64_VERSION, 0, 0, count, count, size, offset)
        )
        stream.write(ZIP64_LOCATOR.pack(b"PK\x06\x07", 0, position, 1))
        stream.write(end)
