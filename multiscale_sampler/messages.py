"""Texts that several packages need: errors for unknown choices, warnings, tables, shapes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

PACKAGE_NAME = __name__.partition(".")[0]
# Causes that are collected for one warning; None where each is a warning of its own.
_causes: ContextVar[list[str] | None] = ContextVar("causes", default=None)


def check_choice(option: str, value: Any, choices: Collection[str]) -> None:
    """Refuse a value that is not one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {option} {value!r}; choose one of {', '.join(map(repr, choices))}")


@contextmanager
def one_warning() -> Iterator[None]:
    """Join what `warn_caller` is told within a block to one warning, at its end or at `warn_at_once`.

    A block within another one belongs to it. Nothing is warned of what fails.
    """
    if _causes.get() is not None:
        yield
        return
    token = _causes.set([])
    try:
        yield
        warn_at_once()
    finally:
        _causes.reset(token)


def warn_at_once() -> None:
    """Warn of what has been collected, before a call goes on to what takes long."""
    causes = _causes.get()
    if causes:
        text = ". Also, ".join(dict.fromkeys(causes))
        causes.clear()
        _warn(text)


def warn_caller(text: str) -> None:
    """Warn the user at the line that called this package, in one warning with the other causes of the same call."""
    causes = _causes.get()
    if causes is None:
        _warn(text)
    else:
        causes.append(text)


def _warn(text: str) -> None:
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


def counted(count: int, what: str) -> str:
    """Return a number of things in words: "1 level", "2 levels"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def shape_text(numbers: Sequence[int]) -> str:
    """Return a shape as text, such as '64x64'."""
    return "x".join(map(str, numbers))
