"""Texts that several packages need: errors for unknown choices, warnings, tables, shapes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

PACKAGE_NAME = __name__.partition(".")[0]


def check_choice(option: str, value: Any, choices: Collection[str]) -> None:
    """Refuse a value that is not one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {option} {value!r}; choose one of {', '.join(map(repr, choices))}")


def warn_caller(text: str) -> None:
    """Warn the user at the line that called this package."""
    level, frame = 1, inspect.currentframe()
    # The frames of this package, and of the context managers that it runs in.
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (PACKAGE_NAME, "contextlib"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells as lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def shape_text(numbers: Sequence[int]) -> str:
    """Return a shape as text, such as '64x64'."""
    return "x".join(map(str, numbers))
