"""Conversion of blocks of any dtype to channels of real numbers, which filters average one by one, and back.

Channels lie along a leading axis and represent every value exactly: the upper and lower half of 64-bit integers, the
real and imaginary part of complex numbers, or the value itself. A weighted mean is linear, so it can be computed for
each channel. A missing value is NaN in every channel. Only the conversion back rounds, once, half to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...image.boxes import Block
from .compiling import compiled
from .windows import HALF_BITS, LOWER_HALF, Missing

# Values of half of a 64-bit integer.
HALF_RANGE = 2.0**32


def to_channels(block: Block, missing: Missing) -> Block:
    """Return a block as (channels, *spatial), C-contiguous, with NaN where a value is missing.

    The channels have the narrowest dtype that kernels take and that can represent the values, and NaN if values can
    be missing. A block that has this dtype already is not copied.

    Raises
    ------
    ValueError
        If nodata is to be ignored in floats but NaN is not, as both would be NaN.
    """
    kind, itemsize = block.dtype.kind, block.dtype.itemsize
    if kind in "fc" and missing.nodata is not None and not missing.skip_nan:
        raise ValueError(
            f"filters cannot ignore nodata={missing.nodata!r} while NaN is kept as a value; drop skipna=False"
        )
    if kind == "c":
        channels = np.stack([block.real, block.imag])
    elif kind in "iu" and itemsize == 8:
        channels = np.empty((2, *block.shape), np.float64)
        channels[0] = block >> block.dtype.type(HALF_BITS)
        channels[1] = block & block.dtype.type(LOWER_HALF)
    else:
        channels = np.ascontiguousarray(block, _real_dtype(block.dtype, missing))[np.newaxis]
    return _with_nan(channels, block, missing)


def _real_dtype(dtype: np.dtype[Any], missing: Missing) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize > 4 else np.float32)
    if missing.nodata is None:
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
    return np.dtype(np.float64 if dtype.itemsize > 2 else np.float32)


def _with_nan(channels: Block, block: Block, missing: Missing) -> Block:
    """Return channels that are all NaN where the block has nodata or where a part of a complex number is NaN."""
    absent = None if missing.nodata is None else block == block.dtype.type(missing.nodata)
    if missing.skip_nan and block.dtype.kind == "c":
        absent = np.isnan(block) if absent is None else absent | np.isnan(block)
    if absent is None or not absent.any():
        return channels
    if np.may_share_memory(channels, block):
        channels = channels.copy()
    channels[:, absent] = np.nan
    return channels


def from_channels(channels: Block, dtype: np.dtype[Any], fill: Any = None) -> Block:
    """Return the block of `dtype` that float64 channels represent.

    Parameters
    ----------
    channels
        (channels, *spatial), as `to_channels` returns them for a block of `dtype`, filtered.
    dtype
        Integers are rounded half to even. Integers and floats narrower than float64 are clipped to the range of the
        dtype, because filters with negative lobes overshoot.
    fill
        The value that replaces NaN; None keeps NaN in floats (0 in integers).
    """
    native = dtype.newbyteorder("=")
    if native.kind in "fc":
        parts = [_narrowed(part, native.type(0).real.dtype) for part in channels]
        out = parts[0] if native.kind == "f" else _complex(*parts)
        if fill is not None:
            out[np.isnan(out)] = fill
        return out
    out = np.empty(channels.shape[1:], np.uint8 if native.kind == "b" else native)
    least, greatest = (0, 1) if native.kind == "b" else (np.iinfo(native).min, np.iinfo(native).max)
    ends = np.array([least, greatest, 0 if fill is None else fill], out.dtype)
    if native.itemsize == 8:
        uppers, lowers = channels.reshape(2, -1)
        halves = float(least >> int(HALF_BITS)), float(greatest >> int(HALF_BITS))
        _join_halves(uppers, lowers, *halves, ends.view(np.uint64), out.reshape(-1).view(np.uint64))
    else:
        _round(channels.reshape(-1), float(least), float(greatest), ends[2], out.reshape(-1))
    return out.view(native)


def split_halves(channel: Block) -> Block:
    """Return one channel of values of 64-bit integers as the two that `from_channels` takes."""
    upper = np.floor(channel / HALF_RANGE)
    return np.concatenate([upper, channel - upper * HALF_RANGE])


def joined_halves(channels: Block) -> Block:
    """Return the two channels of 64-bit integers as one channel, rounded to float64."""
    return channels[:1] * HALF_RANGE + channels[1:]


def _narrowed(values: Block, dtype: np.dtype[Any]) -> Block:
    """Return float64 values in a float dtype; finite values are clipped to its range."""
    if dtype == values.dtype:
        return values
    limits = np.finfo(dtype)
    with np.errstate(under="ignore"):
        inside: Block = np.clip(values, float(limits.min), float(limits.max)).astype(dtype)
    infinite = np.isinf(values)
    inside[infinite] = values[infinite]
    return inside


def _complex(real: Block, imaginary: Block) -> Block:
    # Not real + 1j * imaginary: an infinite imaginary part would make the real part NaN.
    return np.stack([real, imaginary], axis=-1).view(np.result_type(real.dtype, np.complex64))[..., 0]


@compiled
def _round(values, least, greatest, fill, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        value = values[i]
        if value == value:
            out[i] = min(max(np.rint(value), least), greatest)
        else:
            out[i] = fill


@compiled
def _join_halves(uppers, lowers, least, greatest, ends, out):  # type: ignore[no-untyped-def]
    """Round upper * 2**32 + lower to 64 bits; `ends` are the smallest and largest value and the replacement of NaN."""
    for i in range(len(out)):
        whole = np.floor(uppers[i])
        if whole != whole:
            out[i] = ends[2]
            continue
        lower = np.rint((uppers[i] - whole) * HALF_RANGE + lowers[i])
        carried = np.floor(lower / HALF_RANGE)
        upper = whole + carried
        if upper < least:
            out[i] = ends[0]
        elif upper > greatest:
            out[i] = ends[1]
        else:
            out[i] = (np.uint64(np.int64(upper)) << HALF_BITS) | np.uint64(lower - carried * HALF_RANGE)
