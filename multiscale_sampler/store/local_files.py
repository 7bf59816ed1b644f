"""Local files of stores: where they are, and steps on them that are tried again while other programs have them open.

Windows does not replace, rename or delete a file while a viewer, an indexer or a virus scanner has it open, which is
mostly for a moment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import zarr
from zarr.storage import StorePath

# Seconds before each further attempt.
WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


def folder_of(place: StorePath) -> str | None:
    """Return the local folder that a place in a store is; None if the store is none of folders."""
    store = place.store
    return os.path.join(str(store.root), place.path) if isinstance(store, zarr.storage.LocalStore) else None


def patiently(step: Callable[..., Any], *arguments: Any) -> None:
    """Call a step of the file system, and call it again while somebody has the file open.

    Raises
    ------
    PermissionError
        If it is still refused after about two seconds.
    """
    for wait in WAITS:
        try:
            step(*arguments)
        except PermissionError:
            time.sleep(wait)
        else:
            return
    step(*arguments)
