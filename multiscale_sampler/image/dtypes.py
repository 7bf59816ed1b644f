"""Conversion of values to another dtype that must be able to hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .boxes import Block


def target_dtype(dtype: npt.DTypeLike, source: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that is asked for, if numbers of another can become it at all.

    Raises
    ------
    TypeError
        If it is not a dtype of numbers.
    ValueError
        If complex numbers would become real ones.
    """
    try:
        wanted = np.dtype(dtype).newbyteorder("=")
    except TypeError as error:
        raise TypeError(f"dtype={dtype!r} is not a numpy dtype; write it as 'float32'") from error
    if wanted != source and not {wanted.kind, source.kind} <= set("biufc"):
        raise TypeError(f"dtype={str(wanted)!r} does not fit values of {source}: only numbers are converted")
    if source.kind == "c" and wanted.kind != "c":
        raise ValueError(
            f"dtype={str(wanted)!r} has no place for the imaginary part of {source}; take image.real, or abs(image)"
        )
    return wanted


def cast_block(block: Block, dtype: np.dtype[Any], start: Sequence[int], dims: Sequence[str]) -> Block:
    """Return a block in another dtype. Floats are rounded to floats, integers hold what they are given exactly.

    Parameters
    ----------
    block
        Values.
    dtype
        Their new dtype.
    start, dims
        Where the block begins in its array, and the names of the axes, for the message.

    Raises
    ------
    ValueError
        If a value does not fit: which, and where it is.
    """
    if block.dtype == dtype or not block.size:
        return block
    wrong = None
    with np.errstate(all="ignore"):
        cast = block.astype(dtype)
        if dtype.kind in "biu":
            wrong = _not_in(block, dtype)
        elif dtype.itemsize < block.dtype.itemsize or dtype == np.float16:
            wrong = np.isinf(cast) & np.isfinite(block)
    if wrong is not None and wrong.any():
        index = np.unravel_index(int(np.argmax(wrong)), block.shape)
        place = ", ".join(f"{dim}={first + int(at)}" for dim, first, at in zip(dims, start, index, strict=True))
        raise ValueError(
            f"the value {block[index].item()!r} at {place} (counted from 0) does not fit dtype={str(dtype)!r}, which "
            f"holds {_range_text(dtype)}; choose another dtype, or scale, round or clip the image first"
        )
    return cast


def fit_in(block: Block, dtype: np.dtype[Any]) -> bool:
    """Whether an integer dtype holds all of some real numbers as they are."""
    wrong = _not_in(block, dtype) if block.size else None
    return wrong is None or not wrong.any()


def value_in(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a value as a Python scalar that a dtype holds, floats up to their rounding; None if it holds none."""
    try:
        with np.errstate(all="ignore"):
            held = np.asarray(value).astype(dtype) if np.isscalar(value) else None
    except (OverflowError, ValueError):
        return None
    if held is None:
        return None
    rounded = dtype.kind == "f" and np.isfinite(held)
    return held.item() if rounded or held.item() == value else None


def _not_in(block: Block, dtype: np.dtype[Any]) -> Block | None:
    """Return which values an integer dtype does not hold; None if the extremes show that it holds all."""
    low, high = _limits(dtype)
    if block.dtype.kind in "biu":
        # In Python's integers, which have room for both dtypes.
        if int(block.min()) >= low and int(block.max()) <= high:
            return None
        least, greatest = _limits(block.dtype)
        beyond: Block = (block < max(low, least)) | (block > min(high, greatest))
        return beyond
    # The next number above the greatest is a power of two, which every float dtype with that range has.
    inside = np.isfinite(block) & (block >= low) & (block < float(high + 1)) & (np.trunc(block) == block)
    outside: Block = ~inside
    return outside


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _range_text(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "biu":
        low, high = _limits(dtype)
        return f"whole numbers from {low} to {high}"
    return f"numbers up to {np.finfo(dtype).max:g}"
