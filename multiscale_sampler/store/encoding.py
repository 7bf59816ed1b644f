"""How the values of levels are stored: codecs, fill value and attributes, carried over from the source."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import zarr
from zarr import codecs

ZarrFormat: TypeAlias = Literal[2, 3]


@dataclass(frozen=True)
class Encoding:
    """How the values of the levels are stored."""

    zarr_format: ZarrFormat
    """Version of the zarr format."""
    compressors: Any
    """Codecs as zarr-python takes them, or "auto"."""
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
    carried = _carried_compressors(source, zarr_format) if _is_auto(compressors) else compressors
    if zarr_format == 2:
        # null: xarray takes a fill value of zarr v2 for missing data and turns integers into floats.
        filters = source.filters or None if source.metadata.zarr_format == 2 else None
        return Encoding(2, carried, filters=filters)
    fill = source.fill_value
    if source.metadata.zarr_format == 2:
        return Encoding(3, carried, fill_value=fill)
    return Encoding(3, carried, source.filters or (), source.serializer, fill)


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _carried_compressors(source: zarr.Array[Any], zarr_format: ZarrFormat) -> Any:
    """Return the source's compressors for a zarr format, "auto" where the format has no equal."""
    used = source.compressors
    if source.metadata.zarr_format == zarr_format:
        return used or None
    translated = [_translated(codec, zarr_format) for codec in used]
    if None in translated:
        return "auto"
    return (tuple(translated) if zarr_format == 3 else translated[0]) if translated else None


def _translated(codec: Any, zarr_format: ZarrFormat) -> Any:
    """Return the same compression in the other zarr format, or None if it has no such codec."""
    if zarr_format == 3:
        config = codec.get_config()
        match config["id"]:
            case "zstd":
                return codecs.ZstdCodec(level=config["level"])
            case "gzip":
                return codecs.GzipCodec(level=config["level"])
            case "blosc":
                shuffles = {-1: "bitshuffle", 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
                return codecs.BloscCodec(
                    cname=config["cname"],
                    clevel=config["clevel"],
                    shuffle=cast("Any", shuffles[config["shuffle"]]),
                )
        return None
    import numcodecs

    document = codec.to_dict()
    settings = document.get("configuration", {})
    match document["name"]:
        case "zstd":
            return numcodecs.Zstd(level=settings["level"])
        case "gzip":
            return numcodecs.GZip(level=settings["level"])
        case "blosc":
            numbers = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
            return numcodecs.Blosc(settings["cname"], settings["clevel"], numbers[settings["shuffle"]])
    return None


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


def key_encoding(zarr_format: ZarrFormat) -> Any:
    """Return how chunks are keyed: nested folders in both formats."""
    return {"name": "v2" if zarr_format == 2 else "default", "separator": "/"}


def fill_value_for(fill: Any, dtype: np.dtype[Any], zarr_format: ZarrFormat) -> Any:
    """Return the fill value of an array: a given one, else zero in zarr v3 and null in zarr v2."""
    if fill is not None or zarr_format == 2:
        return fill
    return np.zeros((), dtype)[()]
