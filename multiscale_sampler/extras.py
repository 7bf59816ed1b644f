"""Packages that are needed only by some functions: imported where they are used, and refused by what installs them."""

from __future__ import annotations

import importlib
from typing import Any


def required(module: str, need: str, install: str) -> Any:
    """Import a module.

    Raises
    ------
    ModuleNotFoundError
        If it is not there: what needs it, and what installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{need}; install it with: pip install {install}") from error
