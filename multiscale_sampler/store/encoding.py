"""How levels are stored: codecs, fill value and attributes, taken over from the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from ..plan.by_level import is_by_level, with_values
from .codecs import ZarrFormat, carried_compressors, is_auto


@dataclass(frozen=True)
class Encoding:
    """How the values of the levels are stored."""

    zarr_format: ZarrFormat
    """Version of the zarr format."""
    compressors: Any
    """Codecs as zarr-python takes them, or "auto"; or a mapping from numbers of levels to these."""
    filters: Any = "auto"
    """Codecs before compression, or "auto"."""
    serializer: Any = "auto"
    """Codec from array to bytes (zarr v3), or "auto"."""
    fill_value: Any = None
    """Value of chunks that are not stored; None: zero in zarr v3, null in zarr v2."""


def encoding_like(source: zarr.Array[Any] | None, zarr_format: ZarrFormat, compressors: Any) -> Encoding:
    """Return the encoding of new levels: that of the source where it can be carried over."""
    if source is None:
        return Encoding(zarr_format, compressors)
    by_default = carried_compressors(source, zarr_format)
    carried = with_values(compressors, lambda each: by_default if is_auto(each) else each)
    if is_by_level(carried):
        carried = {0: by_default, **carried}
    if zarr_format == 2:
        # null: xarray takes a fill value of zarr v2 for missing data and turns integers into floats.
        filters = source.filters or None if source.metadata.zarr_format == 2 else None
        return Encoding(2, carried, filters=filters)
    fill = source.fill_value
    if source.metadata.zarr_format == 2:
        return Encoding(3, carried, fill_value=fill)
    return Encoding(3, carried, source.filters or (), source.serializer, fill)


def key_encoding(zarr_format: ZarrFormat) -> Any:
    """Return how chunks are keyed: nested folders in both formats."""
    return {"name": "v2" if zarr_format == 2 else "default", "separator": "/"}


def fill_value_for(fill: Any, dtype: np.dtype[Any], zarr_format: ZarrFormat) -> Any:
    """Return the fill value of an array: a given one, else zero in zarr v3 and null in zarr v2."""
    if fill is not None or zarr_format == 2:
        return fill
    return np.zeros((), dtype)[()]
