"""Small pictures as arrays, and the HTML that a notebook shows for a pyramid."""

from __future__ import annotations

import base64
import html as markup
import io
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from ..image.pictures import descends
from ..image.tree import describe_levels, levels_of_tree
from ..messages import counted
from ..plan.factors import as_positive_int
from .colors import QUANTILES, as_bytes, brightness
from .layers import READ_BUDGET, Layer, display_limits, scene_of

# Bytes to read for a representation that nobody asked for, and that a notebook may show often.
NOTEBOOK_BUDGET = 4 * 2**20
NOTEBOOK_SIZE = 160


def thumbnail(tree: xr.DataTree, size: int = 256) -> xr.DataArray:
    """Return a small picture of the plane through the middle of an image.

    Parameters
    ----------
    tree
        A pyramid, of an image or of labels.
    size
        Largest number of pixels along an edge.

    Returns
    -------
    xarray.DataArray
        uint8, brightness of axes (rows, columns) or colours of axes (rows, columns, "rgb"), with the coordinates of
        the samples shown.

    Raises
    ------
    ValueError
        If the size is not positive, or every level would read gigabytes.
    """
    as_positive_int("size", size)
    scene = scene_of(tree, {})
    shape = scene.shape_in((size, size))
    return _sampled(scene.read(scene.level_for(shape, READ_BUDGET)), shape)


def _sampled(layer: Layer, shape: tuple[float, float]) -> xr.DataArray:
    """Return a picture of a shape in pixels, or smaller if there are fewer samples, of the samples at pixel centres."""
    rows, columns = layer.axes
    # More pixels than samples along the finer axis would show nothing more.
    shrink = min(1.0, max(axis.size / pixels for axis, pixels in zip(layer.axes, shape, strict=True)))
    height, width = (max(round(pixels * shrink), 1) for pixels in shape)
    down = ((np.arange(height) + 0.5) * rows.size / height).astype(int)
    along = ((np.arange(width) + 0.5) * columns.size / width).astype(int)
    if layer.is_upward != descends(rows):
        down = down[::-1]
    if descends(columns):
        along = along[::-1]
    picture = _brightness_or_colors(layer)[np.ix_(down, along)]
    sampled = layer.plane.isel({rows.name: down, columns.name: along}).coords
    dims = (rows.name, columns.name, *(("rgb",) if picture.ndim > 2 else ()))
    coords = {name: sampled[name].variable for name in dims if name in sampled}
    return xr.DataArray(picture, coords, dims, name=layer.plane.name)


def _brightness_or_colors(layer: Layer) -> Any:
    """Return a layer as uint8: brightness of shape (rows, columns), or RGB of shape (rows, columns, 3)."""
    if layer.coloring == "numbers":
        numbers = layer.numbers()
        return as_bytes(brightness(numbers, display_limits(numbers, QUANTILES, (None, None))))
    colors = layer.rgb()
    return colors[..., :3] * (colors[..., 3:] > 0) if layer.coloring == "labels" else colors


def html(tree: xr.DataTree) -> str:
    """Return the HTML of a pyramid: a table of its levels, and a picture if that reads at most `NOTEBOOK_BUDGET`."""
    described = describe_levels(tree)
    columns = ("level", "shape", "dtype", "chunks", "scale", "translation", "units", "size")
    head = "".join(f"<th>{column}</th>" for column in columns)
    rows = []
    for level in described:
        cells = {**level, "size": format_bytes(level["nbytes"])}
        rows.append("".join(f"<td>{markup.escape(_html_cell(cells[column]))}</td>" for column in columns))
    name = markup.escape(str(levels_of_tree(tree)[0].name))
    dims = markup.escape(" ".join(described[0]["dims"]))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<div style="display: flex; gap: 1em; align-items: flex-start">{_inline_picture(tree)}'
        f"<div><b>{name}</b>: {counted(len(described), 'level')}, {dims}{table}</div></div>"
    )


def _html_cell(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join("-" if item is None else f"{item:g}" if isinstance(item, float) else str(item) for item in value)


def _inline_picture(tree: xr.DataTree) -> str:
    """Return an HTML image; empty for one axis, without Pillow, or if it would read more than `NOTEBOOK_BUDGET`."""
    if len(levels_of_tree(tree)[0].dims) < 2:
        return ""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return ""
    scene = scene_of(tree, {})
    level = min(range(len(scene.levels)), key=scene.nbytes)
    if scene.nbytes(level) > NOTEBOOK_BUDGET:
        return ""
    shape = scene.shape_in((NOTEBOOK_SIZE, NOTEBOOK_SIZE))
    picture = _sampled(scene.read(scene.level_for(shape, NOTEBOOK_BUDGET)), shape)
    file = io.BytesIO()
    Image.fromarray(picture.values).save(file, "png")
    encoded = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="the middle of the image" src="data:image/png;base64,{encoded}">'
