"""Files that a stopped writer has left half written: zarr and this package rename a file when it is whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import zarr

from .local_files import folder_of
from .names import PARTIAL_ENDING

# Of a document or a chunk; zarr puts a random number before the ending.
LEFTOVER = re.compile(
    rf"(zarr|\.z(array|group|attrs|metadata)|\d+(\.\d+)*)(\.[0-9a-f]{{32}})?{re.escape(PARTIAL_ENDING)}"
)


def remove_leftovers(group: zarr.Group, paths: Sequence[str]) -> None:
    """Delete half-written files of a group itself, and of everything at some paths in it, where nobody else writes.

    Only folders have any.
    """
    folder = folder_of(group.store_path)
    for file in () if folder is None else _leftovers(Path(folder), paths):
        file.unlink(missing_ok=True)


def _leftovers(root: Path, paths: Sequence[str]) -> Iterator[Path]:
    above = {parent for path in paths for parent in Path(path).parents}
    for folder in {root, *(root / parent for parent in above)}:
        yield from (file for file in folder.glob(f"*{PARTIAL_ENDING}") if LEFTOVER.fullmatch(file.name))
    for path in paths:
        for folder_name, _, names in os.walk(root / path):
            yield from (Path(folder_name, name) for name in names if LEFTOVER.fullmatch(name))
