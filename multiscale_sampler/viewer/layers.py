"""What the viewer shows and how: its state, with one layer per channel, contrast, colours, position and zoom."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..image.dataarray import image_axes
from ..metadata import CHANNEL_COLORS, omero_metadata
from .images import ShownImage, sample
from .space import ShownAxis

SAMPLE_SIZE = 2**24
# Beyond as many, a slider in one layer chooses the channel.
MOST_CHANNELS = 64
MOST_VISIBLE = len(CHANNEL_COLORS)
# What fits into one of four panels of a window of usual size, and into one alone.
QUARTER_PIXELS, WHOLE_PIXELS = 320, 640
SHADER = """#uicontrol invlerp normalized
#uicontrol vec3 color color
void main() {
  emitRGB(color * normalized());
}
"""
WHITE = "#ffffff"
# Half a turn about x: descending rows are drawn downwards, as they are stored.
TURNED = [1, 0, 0, 0]


def viewer_state(images: Sequence[ShownImage], places: Sequence[str]) -> dict[str, Any]:
    """Return the state of the viewer, as its own JSON, for images that are served at some URLs."""
    dimensions = _dimensions(images)
    first = images[0]
    across = [axis.name for axis in reversed(first.axes[0]) if axis.kind == "space"][:3]
    samples = [None if image.is_labels else sample(image.levels, SAMPLE_SIZE) for image in images]
    layers = list(itertools.chain.from_iterable(map(_layers, images, places, samples)))
    shown = [layer for layer in layers if layer["type"] == "image"]
    if len(shown) > 1:
        _tell_apart(shown)
    state: dict[str, Any] = {
        "title": ", ".join(image.name for image in images),
        "dimensions": {name: list(step) for name, step in dimensions.items()},
        "displayDimensions": across,
        "position": _position(first, samples[0], list(dimensions)),
        **_zoom(first, across),
        "crossSectionBackgroundColor": "#000000",
        "layers": _named_apart(layers),
        "layout": "4panel" if _depth(first) > 1 else "xy",
    }
    rows = [axis for axis in first.axes[0] if axis.kind == "space"][-2:-1]
    if rows and rows[0].descends:
        state["crossSectionOrientation"] = TURNED
    return state


def _dimensions(images: Sequence[ShownImage]) -> dict[str, tuple[float, str]]:
    """Return name and step of all axes but channels: x, y, z first, those that only later images have last."""
    dimensions: dict[str, tuple[float, str]] = {}
    for image in images:
        spatial = [axis for axis in image.axes[0] if axis.kind == "space"]
        times = [axis for axis in image.axes[0] if axis.kind == "time"]
        for axis in (*reversed(spatial), *times):
            dimensions.setdefault(axis.name, axis.step)
    return dimensions


def _depth(image: ShownImage) -> int:
    sizes = [axis.size for axis in image.axes[0] if axis.kind == "space"]
    return sizes[-3] if len(sizes) > 2 else 1


def _zoom(image: ShownImage, across: Sequence[str]) -> dict[str, float]:
    """Return the scales at which the field of an image fills a panel, in its smallest steps."""
    shown = {axis.name: axis for axis in image.axes[0] if axis.name in across}
    finest = min(axis.step[0] for axis in shown.values())
    extent = max(axis.size * axis.step[0] for axis in shown.values()) / finest
    pixels = QUARTER_PIXELS if _depth(image) > 1 else WHOLE_PIXELS
    return {"crossSectionScale": extent / pixels, "projectionScale": 1.5 * extent}


def _position(image: ShownImage, values: xr.DataArray | None, names: Sequence[str]) -> list[float]:
    """Return where the view begins: the middle of the field, there on the brightest plane, at the first moment."""
    middle = {axis.name: axis.position((axis.size - 1) / 2) for axis in image.axes[0]}
    middle |= {axis.name: axis.position(0) for axis in image.axes[0] if axis.kind == "time"}
    if values is not None and _depth(image) > 1:
        axes = image_axes(values)
        depth = [number for number, axis in enumerate(axes) if axis.type == "space"][-3]
        plane = _brightest(np.moveaxis(values.values, depth, 0))
        base, at = image.axes[0][depth], axes[depth]
        if at.is_regular and not image_axes(image.levels[0])[depth].values is not None:
            middle[base.name] = at.coordinates()[plane] / base.spacing
    return [middle.get(name, 0.0) for name in names]


def _brightest(planes: npt.NDArray[Any]) -> int:
    totals = np.nansum(planes.reshape(len(planes), -1), axis=1, dtype=np.float64)
    return int(totals.argmax())


def _layers(image: ShownImage, place: str, values: xr.DataArray | None) -> Iterator[dict[str, Any]]:
    """Yield the layers of an image: one of its labels, or one for each channel."""
    channels = [axis for axis in image.axes[0] if axis.kind == "channel"]
    source = _source(image, place)
    counts = [axis.size for axis in channels]
    local = {f"{axis.name}'": [1, ""] for axis in channels}
    if image.is_labels or values is None:
        yield {**_local(local, [0] * len(channels)), **_label_layer(image, source)}
        return
    if math.prod(counts) > MOST_CHANNELS:
        yield {**_local(local, [0] * len(channels)), **_image_layer(image.name, source, values, {})}
        return
    stored = _stored_channels(image.attributes, math.prod(counts))
    names = [_channel_labels(image, axis) for axis in channels]
    for number, index in enumerate(itertools.product(*map(range, counts))):
        chosen = values.isel({_dim(image, axis): i for axis, i in zip(channels, index, strict=True)})
        label = " ".join(labels[i] for labels, i in zip(names, index, strict=True))
        name = f"{image.name} {stored[number].get('label') or label}" if math.prod(counts) > 1 else image.name
        layer = _image_layer(name, source, chosen, stored[number])
        layer["visible"] = bool(stored[number].get("active", number < MOST_VISIBLE))
        yield {**_local(local, index), **layer}


def _local(dimensions: Mapping[str, Any], position: Sequence[int]) -> dict[str, Any]:
    return {"localDimensions": dict(dimensions), "localPosition": list(position)} if dimensions else {}


def _dim(image: ShownImage, axis: ShownAxis) -> Any:
    return image.levels[0].dims[image.axes[0].index(axis)]


def _channel_labels(image: ShownImage, axis: ShownAxis) -> list[str]:
    dim = _dim(image, axis)
    level = image.levels[0]
    labels = level[dim].values if dim in level.coords else np.arange(axis.size)
    return [f"{label:g}" if labels.dtype.kind in "iuf" else str(label) for label in labels]


def _source(image: ShownImage, place: str) -> dict[str, Any]:
    """Return the data source; descending axes are turned round, for distances are positive in it."""
    source: dict[str, Any] = {"url": f"{place}/|zarr3:"}
    axes = image.axes[0]
    if any(axis.descends for axis in axes):
        names = [f"{axis.name}'" if axis.kind == "channel" else axis.name for axis in axes]
        turns = np.diag([-1.0 if axis.descends else 1.0 for axis in axes])
        source["transform"] = {
            "outputDimensions": {name: list(axis.step) for name, axis in zip(names, axes, strict=True)},
            "matrix": np.column_stack([turns, np.zeros(len(axes))]).tolist(),
        }
    return source


def _label_layer(image: ShownImage, source: Mapping[str, Any]) -> dict[str, Any]:
    described = image.attributes.get("image-label") or {}
    colors = {
        str(entry["label-value"]): "#{:02x}{:02x}{:02x}".format(*(int(part) for part in entry["rgba"][:3]))
        for entry in described.get("colors") or ()
        if "rgba" in entry
    }
    layer = {"type": "segmentation", "name": image.name, "source": dict(source)}
    return {**layer, **({"segmentColors": colors} if colors else {})}


def _image_layer(
    name: str, source: Mapping[str, Any], values: xr.DataArray, stored: Mapping[str, Any]
) -> dict[str, Any]:
    (computed,) = omero_metadata([name], [values.values])["channels"]
    color = str(stored.get("color") or computed["color"]).lstrip("#")[:6]
    window = _usable_window(stored.get("window"), values.dtype) or computed["window"]
    finite = values.values[np.isfinite(values.values)]
    start, end = float(window["start"]), float(window["end"])
    least, most = min([start, *_extreme(finite, np.min)]), max([end, *_extreme(finite, np.max)])
    # Of integers the viewer takes whole numbers only.
    whole = values.dtype.kind in "iu" and values.dtype != np.int64
    ends, reach = ([math.floor(a), math.ceil(b)] if whole else [a, b] for a, b in ((start, end), (least, most)))
    controls = {"normalized": {"range": ends, "window": reach}, "color": f"#{color.lower()}"}
    layer = {"type": "image", "name": name, "source": dict(source), "opacity": 1}
    return {**layer, "shader": SHADER, "shaderControls": controls}


def _extreme(values: npt.NDArray[Any], which: Any) -> list[float]:
    return [float(which(values))] if values.size else []


def _stored_channels(attributes: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """Return what ``omero`` says of each channel, nothing where it does not fit."""
    described = attributes.get("omero")
    channels = described.get("channels") if isinstance(described, Mapping) else None
    fits = isinstance(channels, Sequence) and len(channels) == count
    usable = fits and all(isinstance(channel, Mapping) for channel in channels or ())
    return list(channels or ()) if usable else [{}] * count


def _usable_window(window: Any, dtype: np.dtype[Any]) -> Mapping[str, Any] | None:
    """Return a stored window, unless it is none or all that the dtype holds, as writers put it who do not know."""
    try:
        start, end = float(window["start"]), float(window["end"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (np.isfinite([start, end]).all() and start < end):
        return None
    if dtype.kind in "iu" and dtype.itemsize > 1:
        limits = np.iinfo(dtype)
        if start <= max(limits.min, 0) and end >= limits.max:
            return None
    return {"start": start, "end": end}


def _tell_apart(layers: Sequence[dict[str, Any]]) -> None:
    """Let several layers add up; those in white get a colour each."""
    for number, layer in enumerate(layers):
        layer["blend"] = "additive"
        if layer["shaderControls"]["color"] == WHITE:
            layer["shaderControls"]["color"] = f"#{CHANNEL_COLORS[number % len(CHANNEL_COLORS)].lower()}"


def _named_apart(layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return layers with names of which none is there twice."""
    seen: dict[str, int] = {}
    named = []
    for layer in layers:
        count = seen[layer["name"]] = seen.get(layer["name"], 0) + 1
        name = layer["name"] if count == 1 else f"{layer['name']} {count}"
        named.append({**layer, "name": name})
    return named
