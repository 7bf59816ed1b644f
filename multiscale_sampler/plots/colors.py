"""Values to colours: contrast from the values that are drawn, channels over each other, ids by hash.

Arrays in, arrays out; nothing here knows axes or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..metadata import CHANNEL_COLORS

Color: TypeAlias = tuple[float, float, float]
Values: TypeAlias = npt.NDArray[Any]

# Single hot or dead voxels do not decide how the rest is seen.
QUANTILES = (0.005, 0.995)
DEFAULT_COLORS: tuple[Color, ...] = tuple(
    (red / 255, green / 255, blue / 255) for red, green, blue in map(bytes.fromhex, CHANNEL_COLORS)
)
# 2**64 divided by the golden ratio: ids that follow each other get hues that are far apart, and the same id always
# the same one, of 64 bits as well.
GOLDEN_STEP = np.uint64(0x9E3779B97F4A7C15)
LABEL_SATURATION = 0.8


def as_numbers(values: Values, nodata: Any = None) -> npt.NDArray[np.float64]:
    """Return values as floats, missing ones as NaN; of complex values their magnitudes."""
    missing = np.zeros(values.shape, bool) if nodata is None else values == nodata
    if values.dtype.kind in "mM":
        missing, values = missing | np.isnat(values), values.astype(np.int64)
    numbers = (np.abs(values) if values.dtype.kind == "c" else values).astype(np.float64)
    numbers[missing] = np.nan
    return numbers


def contrast(numbers: npt.NDArray[np.float64], quantiles: Sequence[float] = QUANTILES) -> tuple[float, float]:
    """Return what is drawn darkest and what brightest."""
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(finite, quantiles))
    if not low < high:
        low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, low + max(1.0, abs(low)))


def shades(numbers: npt.NDArray[np.float64], limits: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return numbers as brightness, 0 to 1; missing ones are dark."""
    low, high = limits
    # Limits may be as far apart as floats are wide.
    scaled = (numbers / 2 - low / 2) / (high / 2 - low / 2)
    return np.nan_to_num(np.clip(scaled, 0.0, 1.0))


def composite(
    channels: Sequence[npt.NDArray[np.float64]], limits: Sequence[tuple[float, float]], colors: Sequence[Color]
) -> npt.NDArray[np.uint8]:
    """Return the light of all channels together, each in its colour: shape (rows, columns, 3)."""
    light = np.zeros((*channels[0].shape, 3))
    for numbers, limit, color in zip(channels, limits, colors, strict=True):
        light += shades(numbers, limit)[..., None] * np.asarray(color)
    return as_bytes(light)


def as_bytes(light: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return brightness of 0 to 1 as bytes."""
    return (np.clip(light, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def label_colors(ids: Values) -> npt.NDArray[np.uint8]:
    """Return the colour of every id, and of 0 (and of what is missing) nothing: shape (rows, columns, 4)."""
    whole = ids if ids.dtype.kind in "iub" else np.nan_to_num(ids)
    hues = (whole.astype(np.uint64) * GOLDEN_STEP) / 2.0**64
    sextant = hues[..., None] * 6 + np.array([0.0, 4.0, 2.0])
    away = np.clip(np.abs(sextant % 6 - 3) - 1, 0.0, 1.0)
    rgb = 1 - LABEL_SATURATION * (1 - away)
    return np.concatenate([as_bytes(rgb), np.where(whole == 0, 0, 255).astype(np.uint8)[..., None]], axis=-1)


def channel_colors(omero: Any, count: int) -> tuple[list[Color], list[int] | None]:
    """Return the colours of channels and which are shown, as ``omero`` says, else colours that can be told apart."""
    channels = _stated_channels(omero, count)
    if channels is None:
        plain = [(1.0, 1.0, 1.0)] if count == 1 else [DEFAULT_COLORS[n % len(DEFAULT_COLORS)] for n in range(count)]
        return plain, None
    colors = [
        _parsed(channel.get("color")) or DEFAULT_COLORS[n % len(DEFAULT_COLORS)] for n, channel in enumerate(channels)
    ]
    shown = [number for number, channel in enumerate(channels) if channel.get("active", True)]
    return colors, shown or None


def _stated_channels(omero: Any, count: int) -> list[Mapping[str, Any]] | None:
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list) or len(channels) != count:
        return None
    return channels if all(isinstance(channel, Mapping) for channel in channels) else None


def _parsed(color: Any) -> Color | None:
    """Return a colour of six hexadecimal digits, as other writers have it also with a "#"."""
    digits = str(color).removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits[:6])
    except ValueError:
        return None
    return red / 255, green / 255, blue / 255
