"""Colours of values, as numpy arrays: contrast limits, composites of channels, and colours of label ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..metadata import CHANNEL_COLORS

Color: TypeAlias = tuple[float, float, float]
Values: TypeAlias = npt.NDArray[Any]

# Contrast limits that single hot or dead voxels do not shift.
QUANTILES = (0.005, 0.995)
DEFAULT_COLORS: tuple[Color, ...] = tuple(
    (red / 255, green / 255, blue / 255) for red, green, blue in map(bytes.fromhex, CHANNEL_COLORS)
)
# 2**64 divided by the golden ratio (Fibonacci hashing): consecutive ids get distant hues.
GOLDEN_STEP = np.uint64(0x9E3779B97F4A7C15)
LABEL_SATURATION = 0.8
# Not a colour of the common colour maps, so that missing values do not look like values.
MISSING_COLOR = "#dfe3ee"
PLAIN_WHITE: Color = (1.0, 1.0, 1.0)


def as_numbers(values: Values, left_out: Sequence[Any] = ()) -> npt.NDArray[np.float64]:
    """Return values as float64: NaN for those left out and NaT, magnitudes of complex values, integers of times."""
    missing = np.isin(values, np.asarray(left_out, values.dtype)) if left_out else np.zeros(values.shape, bool)
    if values.dtype.kind in "mM":
        missing, values = missing | np.isnat(values), values.astype(np.int64)
    numbers = (np.abs(values) if values.dtype.kind == "c" else values).astype(np.float64)
    numbers[missing] = np.nan
    return numbers


def contrast_limits(numbers: npt.NDArray[np.float64], quantiles: Sequence[float] = QUANTILES) -> tuple[float, float]:
    """Return the values to draw darkest and brightest, the first less than the second, from those that are finite."""
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(finite, quantiles))
    if not low < high:
        low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, low + max(1.0, abs(low)))


def brightness(numbers: npt.NDArray[np.float64], limits: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return brightness from 0 to 1 for numbers between two limits; NaN is 0."""
    low, high = limits
    # Halved, because the difference of two limits may overflow.
    scaled = (numbers / 2 - low / 2) / (high / 2 - low / 2)
    return np.nan_to_num(np.clip(scaled, 0.0, 1.0))


def composite(
    channels: Sequence[npt.NDArray[np.float64]], limits: Sequence[tuple[float, float]], colors: Sequence[Color]
) -> npt.NDArray[np.uint8]:
    """Return the sum of all channels, each in its colour: uint8 of shape (rows, columns, 3)."""
    light = np.zeros((*channels[0].shape, 3))
    for numbers, limit, color in zip(channels, limits, colors, strict=True):
        light += brightness(numbers, limit)[..., None] * np.asarray(color)
    return as_bytes(light)


def as_bytes(light: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return brightness from 0 to 1 as uint8, clipped and rounded."""
    return (np.clip(light, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def label_colors(ids: Values) -> npt.NDArray[np.uint8]:
    """Return a colour for each id, the same in every image: RGBA, uint8 of shape (..., 4); 0 and NaN are clear."""
    whole = ids if ids.dtype.kind in "iub" else np.nan_to_num(ids)
    hues = (whole.astype(np.uint64) * GOLDEN_STEP) / 2.0**64
    sextant = hues[..., None] * 6 + np.array([0.0, 4.0, 2.0])
    pure = np.clip(np.abs(sextant % 6 - 3) - 1, 0.0, 1.0)
    rgb = 1 - LABEL_SATURATION * (1 - pure)
    return np.concatenate([as_bytes(rgb), np.where(whole == 0, 0, 255).astype(np.uint8)[..., None]], axis=-1)


def channel_colors(omero: Any, count: int) -> tuple[list[Color], list[int] | None]:
    """Return a colour per channel, and the numbers of the channels that ``omero`` marks as active.

    Without usable ``omero`` metadata the colours are `DEFAULT_COLORS`, white for a single channel, and the numbers
    are None.
    """
    channels = _stated_channels(omero, count)
    if channels is None:
        return [PLAIN_WHITE] if count == 1 else [DEFAULT_COLORS[n % len(DEFAULT_COLORS)] for n in range(count)], None
    colors = [
        _parse_color(channel.get("color")) or DEFAULT_COLORS[n % len(DEFAULT_COLORS)]
        for n, channel in enumerate(channels)
    ]
    active = [number for number, channel in enumerate(channels) if channel.get("active", True)]
    return colors, active or None


def _stated_channels(omero: Any, count: int) -> list[Mapping[str, Any]] | None:
    """Return the channels of ``omero``; None unless it describes as many as the image has."""
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list) or len(channels) != count:
        return None
    return channels if all(isinstance(channel, Mapping) for channel in channels) else None


def _parse_color(color: Any) -> Color | None:
    """Return a colour from six hexadecimal digits, with or without "#"; None if it cannot be parsed."""
    digits = str(color).removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits[:6])
    except ValueError:
        return None
    return red / 255, green / 255, blue / 255
