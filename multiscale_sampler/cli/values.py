"""Parsers of option values: from the text on the command line to the value of a keyword argument.

Each refuses at once what it cannot read, and says what it expects.
"""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..methods.reducers import get_reducer, plain_name

Parsed = TypeVar("Parsed")

# A date with a time of day contains the colon that also separates the ends of a range.
REGION_END = r"\d{4}-\d\d-\d\d[T ]\d\d(?::\d\d){0,2}(?:\.\d+)?|[^:]*"

# With a letter or a slash, by which it is no number: "2/" is what a level of the path "2" is written as.
LEVEL_PATH = r"(?=.*[^\W\d]|.*/)\w[\w./-]*"


def integer(text: str) -> int:
    """Parse a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number; write one, as 4") from None


def decimal(text: str) -> float:
    """Parse a finite number."""
    value = number(text)
    if not math.isfinite(value):
        raise ArgumentTypeError(f"{text!r} is not a finite number; write one, as 0.5")
    return float(value)


def number(text: str) -> float | int:
    """Parse any number, also nan and inf; without a decimal point it is an integer."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ArgumentTypeError(f"{text!r} is not a number; write one, as -9999 or 0.5")


def nodata(text: str) -> float | int | str | None:
    """Parse a missing value: a number, "none", or "stated" for the one that the source states."""
    word = text.lower()
    if word in ("none", "stated"):
        return None if word == "none" else word
    return number(text)


def by_axis(parse: Callable[[str], Parsed], example: str) -> Callable[[str], Parsed | list[Parsed] | dict[str, Parsed]]:
    """Return a parser of one value ("2"), one per axis in order ("2,4"; "2," for one axis), or by name ("z=1,y=2").

    `example` is a value as it could be written.
    """
    expected = f"write {example}, or values by axis, as y={example},x={example}"

    def parse_all(text: str) -> Parsed | list[Parsed] | dict[str, Parsed]:
        parts = text.removesuffix(",").split(",")
        if "=" in text:
            return {name: parse(value) for name, value in _named(text, expected)}
        if not all(part.strip() for part in parts):
            raise ArgumentTypeError(f"{text!r} has an empty part; {expected}")
        values = [parse(part) for part in parts]
        return values if "," in text else values[0]

    return parse_all


def factors(text: str) -> Any:
    """Parse the factors of one level or more, or "isotropic"."""
    return text if text == "isotropic" else by_axis(integer, "2")(text)


def chunks(text: str) -> Any:
    """Parse the shape of chunks, for all levels ("64", "z=16,y=64,x=64") or by level ("0=64,2=16x32x32")."""
    return _by_level(text, by_axis(integer, "64"))


def shards(text: str) -> Any:
    """Parse the shape of shards, or "none", for all levels or by level."""
    return _by_level(text, lambda shape: False if shape == "none" else by_axis(integer, "512")(shape))


def _by_level(text: str, parse: Callable[[str], Any]) -> Any:
    """Parse one value, or values by numbers of levels; in these, the axes of a shape are separated by an "x"."""
    if not re.match(r"\s*\d+\s*=", text):
        return parse(text)
    named = _named(text, "write shapes by level, as 0=64,2=16x32x32")
    return {integer(level): parse(shape.replace("x", ",")) for level, shape in named}


def axes(text: str) -> tuple[str, ...]:
    """Parse names of axes: separated by commas, or one letter each."""
    return tuple(names(text)) if "," in text else tuple(text)


def units(text: str) -> str | dict[str, str]:
    """Parse one unit, or units by axis."""
    parsed = by_axis(str.strip, "micrometer")(text)
    if isinstance(parsed, list):
        raise ArgumentTypeError(f"{text!r} are several units; write one, or say of which axes: t=second,x=micrometer")
    return parsed


def orientation(text: str) -> str | dict[str, str]:
    """Parse an anatomical orientation: a code, or words by axis."""
    if "=" not in text:
        return text
    return dict(_named(text, "write a code, as RAS, or words by axis, as z=superior-to-inferior"))


def method(text: str) -> str:
    """Return the name of a method, from its own name or one of the spatial-image family, in any spelling."""
    try:
        get_reducer(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return plain_name(text)


def names(text: str) -> list[str]:
    """Parse names, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ArgumentTypeError(f"{text!r} has an empty name; separate names by single commas, as a,b")
    return parts


def levels(text: str) -> list[int]:
    """Parse numbers of levels, separated by commas."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ArgumentTypeError(f"{text!r} are not numbers of levels; write one or more, as 1 or 1,2")
    return [int(part) for part in parts]


def levels_or_paths(text: str) -> list[int | str]:
    """Parse numbers or paths of levels, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() or re.fullmatch(LEVEL_PATH, part) for part in parts):
        # Which says what is wrong.
        levels(text)
    return [int(part) if part.isdecimal() else part for part in parts]


def scheduler(text: str) -> str:
    """Parse the address of a scheduler, or "local"."""
    if text != "local" and "://" not in text:
        raise ArgumentTypeError(f"{text!r} is not an address; write one, as tcp://host:8786, or local")
    return text


def region(text: str) -> dict[str, Any]:
    """Parse z=0:64,y=10 to slices and single samples; the ends are numbers, or text such as dates."""
    found: dict[str, Any] = {}
    for name, ends in _named(text, "write a range by axis, as z=0:64,y=10:20"):
        match = re.fullmatch(f"({REGION_END})(?::({REGION_END}))?", ends)
        if match is None:
            raise ArgumentTypeError(f"{ends!r} has more than two ends; write {name}=0:64")
        start, stop = match.groups()
        found[name] = _end(start) if stop is None else slice(_end(start), _end(stop))
    return found


def _named(text: str, expected: str) -> Iterable[tuple[str, str]]:
    """Yield the parts of "z=1,y=2", each axis once."""
    seen = set()
    for part in text.split(","):
        name, _, value = (each.strip() for each in part.partition("="))
        if not name or not value:
            raise ArgumentTypeError(f"{text!r} has no axis or no value in {part!r}; {expected}")
        if name in seen:
            raise ArgumentTypeError(f"{text!r} names the axis {name!r} twice; {expected}")
        seen.add(name)
        yield name, value


def _end(text: str) -> Any:
    """Return an end of a range: a number, other text as it stands, None for an open end."""
    try:
        return number(text)
    except ArgumentTypeError:
        return text or None
