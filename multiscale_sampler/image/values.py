"""What the values of a stored array are: packed and missing ones, by the attributes that xarray decodes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from .boxes import Block
from .dtypes import value_in
from .xarray_internals import decoded_fill_value, encoded_fill_value

MISSING = ("_FillValue", "missing_value")
# Attributes in which readers of rasters keep missing values, beside those of CF.
RASTER_MISSING = ("nodata", "nodatavals")
# Attributes of CF, which state that values are classes or sets of them.
CLASSES = ("flag_values", "flag_masks")
SCALING = ("scale_factor", "add_offset")
# The attributes by which xarray decodes values.
PACKING_ATTRIBUTES = (*SCALING, *MISSING, "_Unsigned")

# As JSON attributes have the numbers for which it has none.
JSON_NUMBERS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


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
        packing = {key: _plain_value(attributes[key]) for key in PACKING_ATTRIBUTES if key in attributes}
        for key in MISSING:
            if isinstance(packing.get(key), str):
                packing[key] = _missing_number(packing[key], dtype)
        if fill is not None and (packing or fill):
            packing.setdefault("_FillValue", fill)
        if is_unsigned(packing, dtype):
            for key in MISSING:
                if isinstance(packing.get(key), int | np.integer) and packing[key] > np.iinfo(dtype).max:
                    # As xarray keeps it of decoded values.
                    packing[key] = int(packing[key]) - 2 ** (8 * dtype.itemsize)
        return cls(packing, dtype) if packing else None

    @classmethod
    def of_encoding(cls, image: xr.DataArray) -> Packing | None:
        """Return how decoded values in hand are packed where they are stored, as the ``encoding`` of the image says.

        None for floats that are not scaled: of these NaN is missing, which everybody knows.
        """
        stored = image.encoding.get("dtype")
        dtype = image.dtype if stored is None else np.dtype(stored)
        if stored is None or {dtype.kind, image.dtype.kind} - set("iuf") or cls.of(image.attrs, image.dtype):
            return None
        packing = cls.of(image.encoding, dtype)
        return packing if packing is not None and (packing.is_scaled or dtype.kind != "f") else None

    @property
    def encoding(self) -> dict[str, Any]:
        """The entries of the ``encoding`` of decoded values that state it, as xarray has them."""
        return {"dtype": self.dtype, **self.attributes}

    @property
    def is_scaled(self) -> bool:
        """Whether numbers stand for others."""
        return self.wraps or any(key in self.attributes for key in SCALING)

    @property
    def descends(self) -> bool:
        """Whether a larger packed value stands for a smaller one."""
        return float(self.attributes.get("scale_factor", 1)) < 0

    @property
    def wraps(self) -> bool:
        """Whether negative packed values stand for the largest ones."""
        return is_unsigned(self.attributes, self.dtype)

    @cached_property
    def missing(self) -> tuple[Any, ...]:
        """The packed values that stand for missing ones."""
        # Of unsigned values xarray takes `missing_value` for a decoded one, which none equals.
        keys = MISSING[:1] if self.wraps else MISSING
        stated = [np.atleast_1d(self.attributes[key]) for key in keys if key in self.attributes]
        return tuple(dict.fromkeys(value.item() for values in stated for value in values))

    @cached_property
    def left_out(self) -> tuple[Any, ...]:
        """Those of the missing values that the dtype holds; NaN is none, whose absence needs no statement."""
        return _held_by(self.dtype, self.missing)

    @property
    def is_in_order(self) -> bool:
        """Whether packed values are ordered as what they stand for, with one missing value at the most."""
        return not self.descends and not self.wraps and len(self.left_out) < 2

    @cached_property
    def decoded_dtype(self) -> np.dtype[Any]:
        """The dtype of decoded values, as xarray chooses it."""
        return self.decoded(xr.Variable(("x",), np.zeros(1, self.dtype)), "x").values.dtype

    def with_missing(self, *values: Any) -> Packing:
        """Return the packing with these missing values and no others."""
        attributes = {key: value for key, value in self.attributes.items() if key not in MISSING}
        # Of `_Unsigned` values, xarray takes only the first as the unsigned number that it stands for.
        attributes |= {"_FillValue": values[0]} if values else {}
        attributes |= {"missing_value": list(values[1:])} if values[1:] else {}
        return Packing(attributes, self.dtype)

    def in_order(self, block: Block) -> Block:
        """Return packed values as numbers that are ordered as what they stand for; the missing ones are one number."""
        block = np.ascontiguousarray(self._with_one_missing(block), self.dtype.newbyteorder("="))
        if self.wraps:
            block = block.view(f"u{self.dtype.itemsize}")
        return self._inverted(block)

    def out_of_order(self, block: Block) -> Block:
        """Return the packed values of what `in_order` returned."""
        inverted = self._inverted(block)
        return inverted.view(self.dtype.newbyteorder("=")) if self.wraps else inverted

    def _with_one_missing(self, block: Block) -> Block:
        """Return packed values with the first of those that are missing in place of the others."""
        if len(self.left_out) < 2:
            return block
        return np.where(np.isin(block, self.left_out[1:]), self.dtype.type(self.left_out[0]), block)

    def _inverted(self, block: Block) -> Block:
        """Return numbers in the opposite order if packed values descend; twice gives them again."""
        if not self.descends:
            return block
        return -block if self.dtype.kind == "f" else ~block

    def decoded(self, variable: xr.Variable, name: str) -> xr.Variable:
        """Return packed values as what they stand for, lazily, as xarray decodes them."""
        with warnings.catch_warnings():
            # That several values are missing is nothing that the caller could mend.
            warnings.filterwarnings("ignore", "variable .* has multiple fill values", xr.SerializationWarning)
            return self._decoded(variable, name)

    def decoded_block(self, block: Block) -> Block:
        """Return packed values as what they stand for; on any thread."""
        dims = tuple(map(str, range(block.ndim)))
        return self._of_one_missing._decoded(xr.Variable(dims, self._with_one_missing(block)), "block").values

    def _decoded(self, variable: xr.Variable, name: str) -> xr.Variable:
        packed = xr.Variable(variable.dims, variable.data, {**variable.attrs, **self.attributes})
        return xr.conventions.decode_cf_variable(name, packed)

    @cached_property
    def _of_one_missing(self) -> Packing:
        """The packing of what `_with_one_missing` returns: xarray warns of none, and filters of warnings are global."""
        return self.with_missing(*self.left_out[:1])

    def encoded(self, image: xr.DataArray) -> xr.DataArray:
        """Return the packed values that stand for those of an image.

        Raises
        ------
        ValueError
            If a value does not fit, where values are computed for those of a dask array.
        """
        if image.chunks is not None:
            packed: Any = da.map_blocks(self.encoded_block, image.data, dtype=self.dtype)
        else:
            packed = self.encoded_block(image.values)
        return image.copy(data=packed)

    def encoded_block(self, block: Block) -> Block:
        """Return the packed values that stand for those of a block; on any thread.

        Raises
        ------
        ValueError
            If a value does not fit.
        """
        values = np.asarray(block, np.float64)
        scaled = (values - float(self.attributes.get("add_offset", 0))) / float(self.attributes.get("scale_factor", 1))
        absent = np.isnan(values)
        missing = list(self.left_out)
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


def is_unsigned(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> bool:
    """Whether attributes state that negative numbers of a dtype stand for its largest ones."""
    return str(attributes.get("_Unsigned", "false")).lower() == "true" and dtype.kind == "i"


def _plain_value(value: Any) -> Any:
    """Return an attribute as what has one truth value when it is compared: of an array its number, or a list."""
    if not isinstance(value, np.ndarray | list | tuple):
        return value
    values = np.ravel(np.asarray(value)).tolist()
    return values[0] if len(values) == 1 else values


def without_packing(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return attributes without those of packing, for values that are not packed."""
    return {key: value for key, value in attributes.items() if key not in PACKING_ATTRIBUTES}


def stored_packing(attributes: Mapping[str, Any], dtype: np.dtype[Any], zarr_format: int) -> dict[str, Any]:
    """Return the attributes of a zarr array with missing values in the form in which xarray stores them.

    In zarr v3, xarray encodes the ``_FillValue`` of floats as text. That NaN is missing needs no statement in zarr v2,
    nor as ``missing_value``, where JSON has no number for it.
    """
    stored = dict(attributes)
    for key in MISSING:
        if dtype.kind not in "iuf" or isinstance(stored.get(key), list | tuple | None):
            continue
        value = _missing_number(stored[key], dtype)
        if zarr_format == 3 and key == "_FillValue":
            stored[key] = encoded_fill_value(value, dtype)
        elif value != value:
            del stored[key]
        else:
            stored[key] = value
    return stored


def _missing_number(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a missing value as a number, from an attribute as xarray or JSON has it."""
    if not isinstance(value, str):
        return value.item() if isinstance(value, np.generic) else value
    return JSON_NUMBERS[value] if value in JSON_NUMBERS else decoded_fill_value(value, dtype)


def missing_values(attributes: Mapping[Any, Any], dtype: np.dtype[Any], nodata: Any = None) -> tuple[Any, ...]:
    """Return all values of a dtype that attributes of an image in hand state as missing, and `nodata`; NaN is none."""
    if dtype.kind not in "iuf":
        return ()
    stated = [np.ravel(np.asarray(attributes[key])) for key in (*MISSING, *RASTER_MISSING) if key in attributes]
    numbers = [value.item() for values in stated for value in values if value.dtype.kind in "iuf"]
    numbers += [] if nodata is None or isinstance(nodata, str) else [nodata]
    return _held_by(dtype, numbers)


def _held_by(dtype: np.dtype[Any], numbers: Sequence[Any]) -> tuple[Any, ...]:
    """Return those of some numbers that a dtype holds, each once; NaN is none."""
    held = (value_in(number, dtype) for number in numbers)
    return tuple(dict.fromkeys(value for value in held if value is not None and value == value))


def stated_missing(attributes: Mapping[Any, Any], dtype: np.dtype[Any]) -> Any:
    """Return the value that attributes of an image in hand state as missing, None without one that its dtype holds.

    NaN is none: that it is missing needs no statement.

    Raises
    ------
    ValueError
        If they state several values.
    """
    missing = missing_values(attributes, dtype)
    if len(missing) > 1:
        raise ValueError(_several_missing(missing))
    return missing[0] if missing else None


def refuse_other_missing(attributes: Mapping[Any, Any], packing: Packing) -> None:
    """Refuse attributes that state a missing value beside those that xarray decodes.

    Raises
    ------
    ValueError
        If they do.
    """
    raster = {key: attributes[key] for key in RASTER_MISSING if key in attributes}
    value = stated_missing(raster, packing.dtype)
    if value is not None and value not in packing.left_out:
        raise ValueError(_several_missing((*packing.left_out, value)))


def _several_missing(values: tuple[Any, ...]) -> str:
    return (
        f"the image states several missing values, {values!r}, and one can be left out; replace the others, as "
        "in image.where(image != value), and give nodata="
    )


def stated_classes(attributes: Mapping[Any, Any]) -> str | None:
    """Return the attribute that states that values are classes, None without one."""
    return next((key for key in CLASSES if key in attributes), None)
