"""The parts of xarray that are not public: the one module to check when xarray changes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from xarray.backends.common import BackendArray
from xarray.backends.zarr import FillValueCoder, ZarrArrayWrapper
from xarray.core.indexing import LazilyIndexedArray

# Attributes under which xarray's lazy arrays hold the array that they read.
WRAPPED_ARRAY = ("array", "_array")


def holds_values_in_memory(variable: xr.Variable) -> bool:
    """Whether a variable's values are an array, and not read when they are asked for."""
    return bool(variable._in_memory)


def decoded_fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a missing value from the form in which xarray writes it into the attributes of a zarr array."""
    return FillValueCoder.decode(cast("Any", value), dtype)


def encoded_fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a missing value in the form in which xarray writes it into the attributes of an array of zarr v3."""
    return FillValueCoder.encode(value, dtype)


def reads_a_file(value: Any) -> bool:
    """Whether a value is how one of xarray's own engines reads an array from a file, not from a zarr store."""
    is_own = type(value).__module__.partition(".")[0] in ("xarray", "rioxarray")
    return is_own and isinstance(value, BackendArray) and not isinstance(value, ZarrArrayWrapper)


def lazily_read(array: Any) -> LazilyIndexedArray:
    """Return a zarr array as xarray's own engine hands it over: read where it is indexed, with no dask array."""
    return LazilyIndexedArray(ZarrArrayWrapper(array))
