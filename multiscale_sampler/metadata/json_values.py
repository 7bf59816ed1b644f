"""Attributes converted to values that JSON can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def json_attributes(attrs: Mapping[Any, Any], owner: str) -> dict[str, Any]:
    """Return attributes as JSON can hold them.

    numpy's scalars and arrays become numbers and lists; NaN and the infinities, for which JSON has no numbers,
    become the texts "NaN", "Infinity" and "-Infinity", as in zarr's own metadata.

    Raises
    ------
    ValueError
        If one of them is neither.
    """
    converted = {}
    for key, value in attrs.items():
        plain = _plain(value)
        try:
            json.dumps(plain)
        except TypeError as error:
            raise ValueError(
                f"the attribute {key!r} of {owner!r} is a {type(value).__name__}, which zarr metadata cannot hold; "
                f"remove or convert it, as in image.attrs[{key!r}] = str(...)"
            ) from error
        converted[str(key)] = plain
    return converted


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
