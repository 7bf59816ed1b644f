"""Optional dependencies: imported where they are used, and if missing refused with the command that installs them."""

from __future__ import annotations

import importlib
from typing import Any


def required(module: str, need: str, install: str) -> Any:
    """Import a module of an optional dependency.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed, with what needs it and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{need}; install it with: pip install {install}") from error
