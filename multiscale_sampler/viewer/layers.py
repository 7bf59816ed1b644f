"""Neuroglancer's state for some images: a layer per channel, contrast, colours, position and zoom."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..image.axes import Axis
from ..image.dataarray import image_axes
from ..image.pictures import descends, in_picture_order, points_up
from ..metadata import CHANNEL_COLORS, omero_metadata
from ..metadata.geozarr import states_crs
from ..metadata.units import in_ngff_unit
from ..plots.colors import MISSING_COLOR
from .images import ServedImage, contrast_sample
from .levels import viewer_dtype
from .space import ViewerAxis

# Values from which contrast is chosen.
SAMPLE_SIZE = 2**24
# With more channels there is one layer, in which a slider chooses the channel.
MOST_CHANNEL_LAYERS = 64
# Channels that are visible at first, each in its colour.
MOST_VISIBLE = len(CHANNEL_COLORS)
# Pixels along an edge of one of four panels in a window of usual size, and of a single panel.
QUARTER_PIXELS, WHOLE_PIXELS = 320, 640
SHADER = """#uicontrol invlerp normalized
#uicontrol vec3 color color
void main() {{{clear_if_missing}
  emitRGB(color * normalized());
}}
"""
CLEAR_IF = """
  if ({condition}) {{
    emitTransparent();
    return;
  }}"""
BLACK, WHITE = "#000000", "#ffffff"
# Half a turn about x, as a quaternion: positions increase upwards.
HALF_TURN = [1, 0, 0, 0]


def viewer_state(images: Sequence[ServedImage], urls: Sequence[str]) -> dict[str, Any]:
    """Return Neuroglancer's state, as its JSON, for images that are served at some URLs."""
    dimensions = _dimensions(images)
    first = images[0]
    displayed = [axis.name for _, axis in _displayed(first)]
    samples = [None if image.is_labels else contrast_sample(image.levels, SAMPLE_SIZE) for image in images]
    layers = list(itertools.chain.from_iterable(map(_layers, images, urls, samples)))
    image_layers = [layer for layer in layers if layer["type"] == "image"]
    if len(image_layers) > 1:
        _blend(image_layers)
    state: dict[str, Any] = {
        "title": ", ".join(image.name for image in images),
        "dimensions": {name: list(step) for name, step in dimensions.items()},
        "displayDimensions": displayed,
        "position": _position(first, samples[0], list(dimensions)),
        **_zoom(first, displayed),
        "crossSectionBackgroundColor": _background(images, image_layers),
        "layers": _with_unique_names(layers),
        "layout": "4panel" if _depth(first) > 1 else "xy",
    }
    if _is_turned(first):
        state["crossSectionOrientation"] = HALF_TURN
    return state


def _displayed(image: ServedImage) -> list[tuple[Axis, ViewerAxis]]:
    """Return the spatial axes of level 0 that are shown: across, down or up, into depth."""
    base = image.levels[0]
    shown = {axis.name: (axis, own) for axis, own in zip(image_axes(base), image.axes[0], strict=True)}
    ordered = in_picture_order(base, [axis for axis, own in shown.values() if own.kind == "space"])
    return [shown[axis.name] for axis in ordered][:3]


def _is_turned(image: ServedImage) -> bool:
    """Whether the viewer must be turned upside down for rows to run as they do in a picture of the image."""
    base = image.levels[0]
    for axis, own in _displayed(image)[1:2]:
        runs_up = points_up(base, axis, on_map=states_crs(base))
        return runs_up != (own.is_numbered and descends(axis))
    return False


def _background(images: Sequence[ServedImage], layers: Sequence[Any]) -> str:
    """Return the colour behind the images: one that values do not have, where missing ones let it shine through.

    Channels that are added to each other need black.
    """
    can_miss = any(image.left_out or image.levels[0].dtype.kind in "fc" for image in images if not image.is_labels)
    return MISSING_COLOR if can_miss and len(layers) == 1 else BLACK


def _dimensions(images: Sequence[ServedImage]) -> dict[str, tuple[float, str]]:
    """Return step and unit of all axes except channels by name: x, y, z first, axes of later images only last."""
    dimensions: dict[str, tuple[float, str]] = {}
    for image in images:
        spatial = [axis for axis in image.axes[0] if axis.kind == "space"]
        times = [axis for axis in image.axes[0] if axis.kind == "time"]
        for axis in (*reversed(spatial), *times):
            dimensions.setdefault(axis.name, axis.step)
    return dimensions


def _depth(image: ServedImage) -> int:
    """Return the number of planes along the axis into depth, 1 without such an axis."""
    shown = _displayed(image)
    return shown[2][1].size if len(shown) > 2 else 1


def _zoom(image: ServedImage, displayed: Sequence[str]) -> dict[str, float]:
    """Return the zoom at which an image fills a panel, in finest steps of the displayed axes per pixel."""
    axes = [axis for axis in image.axes[0] if axis.name in displayed]
    finest = min(axis.step[0] for axis in axes)
    extent = max(axis.size * axis.step[0] for axis in axes) / finest
    pixels = QUARTER_PIXELS if _depth(image) > 1 else WHOLE_PIXELS
    return {"crossSectionScale": extent / pixels, "projectionScale": 1.5 * extent}


def _position(image: ServedImage, values: xr.DataArray | None, names: Sequence[str]) -> list[float]:
    """Return the first position of the view by axis: the middle of the brightest plane, at the first time.

    `values` are the `contrast_sample` of the image, None for labels, whose middle plane is shown.
    """
    middle = {axis.name: axis.position((axis.size - 1) / 2) for axis in image.axes[0]}
    middle |= {axis.name: axis.position(0) for axis in image.axes[0] if axis.kind == "time"}
    if values is not None and _depth(image) > 1:
        axis, base = _displayed(image)[2]
        along = values.dims.index(axis.name)
        shown = np.where(_are_values(values.values, image.left_out), values.values, 0)
        plane = _brightest(np.moveaxis(shown, along, 0))
        own = image_axes(values)[along]
        if own.is_regular and axis.is_regular:
            middle[base.name] = in_ngff_unit(own.coordinates()[plane], own.unit)[0] / base.spacing
    return [middle.get(name, 0.0) for name in names]


def _are_values(values: npt.NDArray[Any], left_out: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """Return which of some values are finite and do not stand for missing ones."""
    known: npt.NDArray[np.bool_] = np.isfinite(values) & ~np.isin(values, np.asarray(left_out, values.dtype))
    return known


def _brightest(planes: npt.NDArray[Any]) -> int:
    """Return the index along axis 0 with the largest sum."""
    totals = planes.reshape(len(planes), -1).sum(axis=1, dtype=np.float64)
    return int(totals.argmax())


def _layers(image: ServedImage, url: str, values: xr.DataArray | None) -> Iterator[dict[str, Any]]:
    """Yield the layers of an image: one for labels or many channels, else one per channel."""
    channels = [axis for axis in image.axes[0] if axis.kind == "channel"]
    source = _source(image, url)
    counts = [axis.size for axis in channels]
    local = {f"{axis.name}'": [1, ""] for axis in channels}
    if image.is_labels or values is None:
        yield {**_local(local, [0] * len(channels)), **_label_layer(image, source)}
        return
    if math.prod(counts) > MOST_CHANNEL_LAYERS:
        yield {**_local(local, [0] * len(channels)), **_image_layer(image, source, values, {})}
        return
    stored = _stored_channels(image.attributes, math.prod(counts))
    labels_by_axis = [_label_texts(image, axis) for axis in channels]
    for number, index in enumerate(itertools.product(*map(range, counts))):
        channel = values.isel({_dim(image, axis): i for axis, i in zip(channels, index, strict=True)})
        label = " ".join(labels[i] for labels, i in zip(labels_by_axis, index, strict=True))
        name = f"{image.name} {stored[number].get('label') or label}" if math.prod(counts) > 1 else image.name
        layer = {**_image_layer(image, source, channel, stored[number]), "name": name}
        layer["visible"] = bool(stored[number].get("active", number < MOST_VISIBLE))
        yield {**_local(local, index), **layer}


def _local(dimensions: Mapping[str, Any], position: Sequence[int]) -> dict[str, Any]:
    """Return the part of a layer that fixes the channel it shows."""
    return {"localDimensions": dict(dimensions), "localPosition": list(position)} if dimensions else {}


def _dim(image: ServedImage, axis: ViewerAxis) -> Any:
    """Return the image's name of an axis of the viewer."""
    return image.levels[0].dims[image.axes[0].index(axis)]


def _label_texts(image: ServedImage, axis: ViewerAxis) -> list[str]:
    """Return the labels of channels along an axis, or their numbers."""
    dim = _dim(image, axis)
    level = image.levels[0]
    labels = level[dim].values if dim in level.coords else np.arange(axis.size)
    return [f"{label:g}" if labels.dtype.kind in "iuf" else str(label) for label in labels]


def _source(image: ServedImage, url: str) -> dict[str, Any]:
    """Return the data source of an image's layers, with a transform that negates descending axes."""
    source: dict[str, Any] = {"url": f"{url}/|zarr3:"}
    axes = image.axes[0]
    if any(axis.descends for axis in axes):
        names = [f"{axis.name}'" if axis.kind == "channel" else axis.name for axis in axes]
        signs = np.diag([-1.0 if axis.descends else 1.0 for axis in axes])
        source["transform"] = {
            "outputDimensions": {name: list(axis.step) for name, axis in zip(names, axes, strict=True)},
            "matrix": np.column_stack([signs, np.zeros(len(axes))]).tolist(),
        }
    return source


def _label_layer(image: ServedImage, source: Mapping[str, Any]) -> dict[str, Any]:
    label_metadata = image.attributes.get("image-label") or {}
    colors = {
        str(entry["label-value"]): "#{:02x}{:02x}{:02x}".format(*(int(part) for part in entry["rgba"][:3]))
        for entry in label_metadata.get("colors") or ()
        if "rgba" in entry
    }
    layer = {"type": "segmentation", "name": image.name, "source": dict(source)}
    return {**layer, **({"segmentColors": colors} if colors else {})}


def _image_layer(
    image: ServedImage, source: Mapping[str, Any], channel: xr.DataArray, stored: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a layer of one channel, in the colour and contrast that are stored, else chosen from its values."""
    values = channel.values[_are_values(channel.values, image.left_out)]
    (computed,) = omero_metadata([image.name], [values])["channels"]
    color = str(stored.get("color") or computed["color"]).lstrip("#")[:6]
    window = _usable_window(stored.get("window"), values.dtype) or computed["window"]
    start, end = float(window["start"]), float(window["end"])
    lowest, highest = (min(start, float(values.min())), max(end, float(values.max()))) if values.size else (start, end)
    # For integers Neuroglancer accepts whole numbers only; int64 is served as float32.
    whole = values.dtype.kind in "iu" and values.dtype != np.int64
    limits, slider = ([math.floor(a), math.ceil(b)] if whole else [a, b] for a, b in ((start, end), (lowest, highest)))
    controls = {"normalized": {"range": limits, "window": slider}, "color": f"#{color.lower()}"}
    layer = {"type": "image", "name": image.name, "source": dict(source), "opacity": 1}
    shader = _shader(viewer_dtype(values.dtype, labels=False), image.left_out)
    return {**layer, "shader": shader, "shaderControls": controls}


def _shader(dtype: np.dtype[Any], left_out: Sequence[Any]) -> str:
    """Return the shader of a layer whose values are served in a dtype: NaN and what is left out are transparent."""
    conditions = ["isnan(toRaw(getDataValue()))"] if dtype.kind == "f" else []
    for value in np.asarray(left_out).astype(dtype):
        bits = int(value.view(f"u{dtype.itemsize}"))
        if dtype.itemsize == 8:
            conditions.append(f"getDataValue().value == uvec2({bits % 2**32}u, {bits // 2**32}u)")
        elif dtype.kind == "f":
            conditions.append(f"toRaw(getDataValue()) == uintBitsToFloat({bits}u)")
        else:
            conditions.append(f"int(toRaw(getDataValue())) == {int(value.astype(np.int32))}")
    clear = CLEAR_IF.format(condition=" || ".join(conditions)) if conditions else ""
    return SHADER.format(clear_if_missing=clear)


def _stored_channels(attributes: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """Return the ``omero`` metadata of each channel; empty ones unless they describe that number of channels."""
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    fits = isinstance(channels, Sequence) and len(channels) == count
    usable = fits and all(isinstance(channel, Mapping) for channel in channels or ())
    return list(channels or ()) if usable else [{}] * count


def _usable_window(window: Any, dtype: np.dtype[Any]) -> Mapping[str, Any] | None:
    """Return the ends of a stored contrast window; None if it is invalid, or all of a dtype of more than 8 bits."""
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


def _blend(layers: Sequence[dict[str, Any]]) -> None:
    """Make layers additive in place, and give those in white a colour each."""
    for number, layer in enumerate(layers):
        layer["blend"] = "additive"
        if layer["shaderControls"]["color"] == WHITE:
            layer["shaderControls"]["color"] = f"#{CHANNEL_COLORS[number % len(CHANNEL_COLORS)].lower()}"


def _with_unique_names(layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return layers with a number after each name that occurred before."""
    seen: dict[str, int] = {}
    named = []
    for layer in layers:
        count = seen[layer["name"]] = seen.get(layer["name"], 0) + 1
        name = layer["name"] if count == 1 else f"{layer['name']} {count}"
        named.append({**layer, "name": name})
    return named
