"""What the values of a stored array are: packed and missing ones, by the attributes that xarray decodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from .boxes import Block
from .dtypes import value_in
from .xarray_internals import decoded_fill_value

MISSING = ("_FillValue", "missing_value")
# Attributes in which readers of rasters keep missing values, beside those of CF.
RASTER_MISSING = ("nodata", "nodatavals")
# Attributes of CF, which state that values are classes or sets of them.
CLASSES = ("flag_values", "flag_masks")
SCALING = ("scale_factor", "add_offset")
# The attributes by which xarray decodes values.
PACKING_ATTRIBUTES = (*SCALING, *MISSING, "_Unsigned")


@dataclass(frozen=True)
class Packing:
    """How the values of an array are packed, and which of them are missing."""

    attributes: Mapping[str, Any]
    """Those of `PACKING_ATTRIBUTES` that apply, missing values as numbers."""
    dtype: np.dtype[Any]
    """The dtype of the packed values."""

    @classmethod
    def of(cls, attributes: Mapping[str, Any], dtype: np.dtype[Any], fill: Any = None) -> Packing | None:
        """Return how the values of an array are packed, None where they are what is stored.

        Parameters
        ----------
        attributes
            The attributes of the array.
        dtype
            Its dtype.
        fill
            The fill value of an array of zarr v2 that xarray wrote, which keeps the missing value there. Zero is none
            if nothing else of packing is stated: it is what every array has that nobody thought about.
        """
        packing = {key: attributes[key] for key in PACKING_ATTRIBUTES if key in attributes}
        for key in MISSING:
            if isinstance(packing.get(key), str):
                packing[key] = decoded_fill_value(packing[key], dtype)
        if fill is not None and (packing or fill):
            packing.setdefault("_FillValue", fill)
        return cls(packing, dtype) if packing else None

    @property
    def is_scaled(self) -> bool:
        """Whether numbers stand for others."""
        unsigned = str(self.attributes.get("_Unsigned", "false")).lower() == "true" and self.dtype.kind == "i"
        return unsigned or any(key in self.attributes for key in SCALING)

    @property
    def descends(self) -> bool:
        """Whether a larger packed value stands for a smaller one."""
        return float(self.attributes.get("scale_factor", 1)) < 0

    @property
    def wraps(self) -> bool:
        """Whether negative packed values stand for the largest ones."""
        return "_Unsigned" in self.attributes and self.is_scaled

    @cached_property
    def missing(self) -> tuple[Any, ...]:
        """The packed values that stand for missing ones."""
        stated = [np.atleast_1d(self.attributes[key]) for key in MISSING if key in self.attributes]
        return tuple(dict.fromkeys(value.item() for values in stated for value in values))

    def decoded(self, variable: xr.Variable, name: str) -> xr.Variable:
        """Return packed values as what they stand for, lazily, as xarray decodes them."""
        packed = xr.Variable(variable.dims, variable.data, {**variable.attrs, **self.attributes})
        return xr.conventions.decode_cf_variable(name, packed)

    def encoded(self, image: xr.DataArray) -> xr.DataArray:
        """Return the packed values that stand for those of an image.

        Raises
        ------
        ValueError
            If a value does not fit, where values are computed for those of a dask array.
        """
        if isinstance(image.data, da.Array):
            packed: Any = da.map_blocks(self._encode, image.data, dtype=self.dtype)
        else:
            packed = self._encode(image.values)
        return image.copy(data=packed)

    def _encode(self, block: Block) -> Block:
        values = np.asarray(block, np.float64)
        scaled = (values - float(self.attributes.get("add_offset", 0))) / float(self.attributes.get("scale_factor", 1))
        absent = np.isnan(values)
        missing = [value for value in self.missing if value == value]
        if self.dtype.kind != "f":
            scaled = np.rint(scaled)
            limits = np.iinfo(np.dtype(f"u{self.dtype.itemsize}") if self.wraps else self.dtype)
            # The next number above the greatest is one that every float has.
            fits = absent | ((scaled >= limits.min) & (scaled < float(limits.max) + 1))
            self._refuse(values, ~fits, f"does not fit {self.dtype} with {dict(self.attributes)!r}")
            self._refuse(values, absent if not missing else np.zeros(()), "is missing, and no missing value is stated")
        self._refuse(values, ~absent & np.isin(scaled, missing), f"would be stored as the missing value {missing!r}")
        filled = np.where(absent, missing[0] if missing else np.nan, scaled)
        if self.dtype.kind == "f":
            return filled.astype(self.dtype)
        return filled.astype(np.int64).astype(self.dtype) if self.dtype.kind == "i" else filled.astype(self.dtype)

    @staticmethod
    def _refuse(values: Block, where: Block, why: str) -> None:
        if where.any():
            raise ValueError(f"the value {values[where][0].item()!r} {why}; convert the values, or change the packing")


def stated_missing(attributes: Mapping[Any, Any], dtype: np.dtype[Any]) -> Any:
    """Return the value that attributes of an image in hand state as missing, None without one that its dtype holds.

    NaN is none: that it is missing needs no statement.

    Raises
    ------
    ValueError
        If they state several values.
    """
    if dtype.kind not in "iuf":
        return None
    stated = [np.atleast_1d(np.asarray(attributes[key])) for key in (*MISSING, *RASTER_MISSING) if key in attributes]
    numbers = [value.item() for values in stated for value in values.ravel() if value.dtype.kind in "iuf"]
    held = [value for value in (value_in(number, dtype) for number in numbers) if value is not None]
    missing = tuple(dict.fromkeys(value for value in held if value == value))
    if len(missing) > 1:
        raise ValueError(
            f"the image states several missing values, {missing!r}, and one can be left out; replace the others, as "
            "in image.where(image != value), and give nodata="
        )
    return missing[0] if missing else None


def stated_classes(attributes: Mapping[Any, Any]) -> str | None:
    """Return the attribute that states that values are classes, None without one."""
    return next((key for key in CLASSES if key in attributes), None)
