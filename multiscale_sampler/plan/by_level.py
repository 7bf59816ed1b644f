"""Options with a value for each level: mappings whose keys are numbers of levels.

A level that is not named has the value of the next finer one that is; those before the first have the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def is_by_level(value: Any) -> bool:
    """Whether an option has a value for each level; mappings by dim or of settings have texts as keys."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(key, int | np.integer) and not isinstance(key, bool) for key in value)


def of_level(value: Any, level: int, default: Any = None) -> Any:
    """Return the value of an option for one level."""
    if not is_by_level(value):
        return value
    return next((value[number] for number in sorted(value, reverse=True) if number <= level), default)


def values_by_level(value: Any) -> tuple[Any, ...]:
    """Return all values of an option."""
    return tuple(value.values()) if is_by_level(value) else (value,)


def with_values(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return an option with a function applied to its value, or to each of them."""
    return {number: function(each) for number, each in value.items()} if is_by_level(value) else function(value)


def check_levels(option: str, value: Any, count: int) -> None:
    """Refuse an option that names levels which do not exist.

    Raises
    ------
    ValueError
        If it does.
    """
    wrong = sorted(number for number in value if not 0 <= number < count) if is_by_level(value) else []
    if wrong:
        raise ValueError(
            f"{option}={value!r} names level {wrong[0]!r}, but the levels are 0 to {count - 1}; name only these"
        )
