"""Display metadata: ``omero`` for channels, ``image-label`` for labels."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .versions import NAMESPACE, OMERO, VERSIONS, NgffVersion, namespace_of, with_namespace

# Contrast from here to there of the values, so that single hot voxels do not darken the rest.
WINDOW_QUANTILES = (0.001, 0.999)
CHANNEL_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
# Colours are a help for viewers that have none of their own, not a table of all ids.
MOST_COLORS = 1024
LARGEST_SHOWN_ID = 2**53
GOLDEN_RATIO = 0.618033988749895


def omero_metadata(labels: Sequence[str], samples: Sequence[npt.NDArray[Any]]) -> dict[str, Any]:
    """Return how to display channels: label, colour, contrast from a sample of each channel's values.

    "window": "min" and "max" are the range of the values (of the dtype, for integers), "start" and "end" what
    is shown. Colours are six hexadecimal digits without "#", on which some clients stumble.
    """
    channels = []
    for number, (label, sample) in enumerate(zip(labels, samples, strict=True)):
        color = "FFFFFF" if len(labels) == 1 else CHANNEL_COLORS[number % len(CHANNEL_COLORS)]
        channels.append({"label": label, "color": color, "active": True, "window": _window(sample)})
    return {"channels": channels}


def with_channels(attributes: Mapping[str, Any], display: Mapping[str, Any], start: int) -> dict[str, Any]:
    """Return the attributes of an image that says how to display channels with those of `display` from `start` on."""
    known = namespace_of(attributes).get("omero")
    if not isinstance(known, Mapping) or not isinstance(known.get("channels"), list):
        return dict(attributes)
    added = [*known["channels"][:start], *display.get("channels", ())[start:]]
    return with_namespace(attributes, {"omero": {**known, "channels": added}})


def with_omero(attributes: Mapping[str, Any], omero: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the attributes of an image that states how to display channels; None: that states nothing of it."""
    if omero is not None:
        return with_namespace(attributes, {OMERO: omero})
    inner = {key: value for key, value in namespace_of(attributes).items() if key != OMERO}
    return {**attributes, NAMESPACE: inner} if NAMESPACE in attributes else inner


def complete_omero(
    stated: Mapping[str, Any], computed: Mapping[str, Any], keys: Sequence[Any]
) -> dict[str, Any] | None:
    """Return how to display channels as it is stated, with what must not be missing as it is computed.

    Parameters
    ----------
    stated
        An ``omero`` object; of its channels any part may be missing.
    computed
        What `omero_metadata` returns for the channels.
    keys
        What tells each channel: its label, or its number among those that are stated.

    Returns
    -------
    dict or None
        None where the stated channels are others than these.
    """
    entries = stated.get("channels")
    if entries is None:
        return {**stated, **computed}
    labels = [entry.get("label") for entry in entries]
    if len(set(labels)) == len(labels) and all(key in labels for key in keys):
        chosen = [entries[labels.index(key)] for key in keys]
    elif all(isinstance(key, int) and 0 <= key < len(entries) for key in keys):
        chosen = [entries[key] for key in keys]
    elif len(entries) == len(keys):
        chosen = list(entries)
    else:
        return None
    channels = []
    for entry, default, key in zip(chosen, computed["channels"], keys, strict=True):
        named = {"label": key} if isinstance(key, str) else {}
        window = {**default["window"], **(entry.get("window") or {})}
        color = entry.get("color", default["color"])
        # As other programs write it.
        plain = {"color": color.removeprefix("#")} if isinstance(color, str) else {}
        channels.append({**entry, **plain, **named, "window": window})
    return {**stated, "channels": channels}


def _window(sample: npt.NDArray[Any]) -> dict[str, float]:
    values = sample[np.isfinite(sample)].astype(np.float64)
    if not values.size:
        values = np.zeros(1)
    least, greatest = float(values.min()), float(values.max())
    start, end = (float(value) for value in np.quantile(values, WINDOW_QUANTILES))
    if sample.dtype.kind in "iu":
        least, greatest = float(np.iinfo(sample.dtype).min), float(np.iinfo(sample.dtype).max)
    if not end > start:
        # A window must be open, also where the next number is as far away as the spacing of floats is wide.
        end = start + 1.0
        if end == start:
            start = float(np.nextafter(start, -np.inf))
    return {"min": min(least, start), "max": max(greatest, end), "start": start, "end": end}


def image_label_metadata(ids: Sequence[int], *, version: NgffVersion, source: str | None) -> dict[str, Any]:
    """Return the ``image-label`` metadata: a colour for each of some ids, always the same for an id, and the image.

    Zero is background; ids that a double cannot hold are left out, as many readers take numbers for doubles.
    """
    shown = [number for number in ids if 0 < number < LARGEST_SHOWN_ID][:MOST_COLORS]
    colors = [{"label-value": number, "rgba": _label_color(number)} for number in shown]
    stated = {"version": version} if VERSIONS[version].label_version else {}
    whose = {} if source is None else {"source": {"image": source}}
    return {**stated, **({"colors": colors} if colors else {}), **whose}


def _label_color(number: int) -> list[int]:
    """Return the colour of an id: hues a golden ratio apart, so that neighbouring ids differ."""
    hue = number * GOLDEN_RATIO % 1.0
    return [*(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 1.0)), 255]


def default_channel_labels(count: int) -> tuple[str, ...]:
    """Return what channels without names are called in viewers."""
    return tuple(f"channel {number}" for number in range(count))
