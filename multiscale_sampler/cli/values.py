"""Texts of the command line, to values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

from ..messages import check_choice
from ..methods.reducers import REDUCERS, SAME_JOB

T = TypeVar("T")


def by_dim(number: Callable[[str], T]) -> Callable[[str], T | list[T] | dict[str, T]]:
    """Return a parser of "2", "2,4" and "z=1,y=2" into a value, a list or a mapping."""

    def parse(text: str) -> T | list[T] | dict[str, T]:
        parts = [part for part in text.split(",") if part]
        if not parts:
            raise argparse.ArgumentTypeError("is empty; write a number, as 2, or numbers by axis, as z=1,y=2,x=2")
        try:
            if all("=" in part for part in parts):
                return {dim.strip(): number(value) for dim, _, value in (part.partition("=") for part in parts)}
            values = [number(part) for part in parts]
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no number and no list of numbers by axis; write 2, or z=1,y=2,x=2"
            ) from None
        return values[0] if len(values) == 1 and "," not in text else values

    return parse


def factors(text: str) -> Any:
    """Parse the factors of levels, or "isotropic"."""
    return text if text == "isotropic" else by_dim(int)(text)


def shards(text: str) -> Any:
    """Parse the shape of shards, or "none"."""
    return False if text == "none" else by_dim(int)(text)


def dims(text: str) -> tuple[str, ...]:
    """Parse names of axes, of one letter each or with commas."""
    return tuple(text.split(",")) if "," in text else tuple(text)


def units(text: str) -> str | dict[str, str]:
    """Parse one unit, or units by axis."""
    parsed: Any = by_dim(str)(text)
    if isinstance(parsed, list):
        raise argparse.ArgumentTypeError(f"{text!r} names several units; write t=second,x=micrometer, or one unit")
    return parsed  # type: ignore[no-any-return]  # a text or a mapping of texts, by the parser above


def orientation(text: str) -> str | dict[str, str]:
    """Parse an anatomical orientation: a code, or words by axis."""
    parsed: Any = by_dim(str)(text)
    return text if isinstance(parsed, list) else parsed


def method(text: str) -> str:
    """Return a method of the table, by its own name or by one that the spatial-image family has, however written."""
    plain = text.lower().replace("-", "_")
    if plain not in SAME_JOB:
        try:
            check_choice("method", plain, REDUCERS)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return plain


def names(text: str) -> list[str]:
    """Parse a list of names."""
    return text.split(",")


def levels(text: str) -> list[int]:
    """Parse a list of levels, by number."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} names no levels; write numbers, as 1,2") from None


def number(text: str) -> float | int:
    """Parse a number, whole where it can be."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def region(text: str) -> dict[str, Any]:
    """Parse z=0:64,y=10 to slices and single samples; numbers with a point are positions."""
    region: dict[str, Any] = {}
    for part in text.split(","):
        dim, _, ends = part.partition("=")
        if not dim or not ends:
            raise argparse.ArgumentTypeError(f"{text!r} is no region; write z=0:64,y=10:20")
        values = [_end(end) for end in ends.split(":")]
        if len(values) > 2:
            raise argparse.ArgumentTypeError(f"{ends!r} has more than two ends; write {dim}=0:64")
        region[dim] = values[0] if len(values) == 1 else slice(*values)
    return region


def _end(text: str) -> Any:
    if not text:
        return None
    try:
        return number(text)
    except ValueError:
        return text
