"""Small pictures as arrays, and the representation of a pyramid in a notebook."""

from __future__ import annotations

import base64
import html as markup
import io
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from ..image.axes import Axis
from ..image.tree import describe_levels, levels_of_tree
from ..plan.factors import positive
from .colors import QUANTILES, as_bytes, shades
from .layers import READ_BUDGET, Layer, scene_of, shown_limits
from .planes import edges

# A notebook shows its cells again and again, so that less is read for them than for a picture that was asked for.
NOTEBOOK_BUDGET = 4 * 2**20
NOTEBOOK_SIZE = 160


def thumbnail(tree: xr.DataTree, size: int = 256) -> xr.DataArray:
    """Return a small picture of the middle of a pyramid.

    Parameters
    ----------
    tree
        A pyramid, of an image or of labels.
    size
        Pixels along the longer edge, at most.

    Returns
    -------
    xarray.DataArray
        uint8: (rows, columns), of colours also "rgb"; with the coordinates of the samples that are shown.
    """
    positive("size", size)
    scene = scene_of(tree, {})
    shape = scene.shape_in((size, size))
    return _sampled(scene.read(scene.level_for(shape, READ_BUDGET)), shape)


def _sampled(layer: Layer, shape: tuple[float, float]) -> xr.DataArray:
    """Return a small picture of a shape, or as large as there are samples, from those at the centres of its pixels."""
    rows, columns = layer.axes
    # Nothing is gained by more pixels, along the axis that has the finer samples.
    shrink = min(1.0, max(axis.size / pixels for axis, pixels in zip(layer.axes, shape, strict=True)))
    height, width = (max(round(pixels * shrink), 1) for pixels in shape)
    down = ((np.arange(height) + 0.5) * rows.size / height).astype(int)
    along = ((np.arange(width) + 0.5) * columns.size / width).astype(int)
    if layer.is_upward == _ascends(rows):
        down = down[::-1]
    if not _ascends(columns):
        along = along[::-1]
    shown = _picture(layer)[np.ix_(down, along)]
    places = layer.plane.isel({rows.name: down, columns.name: along}).coords
    dims = (rows.name, columns.name, *(("rgb",) if shown.ndim > 2 else ()))
    coords = {name: places[name].variable for name in dims if name in places}
    return xr.DataArray(shown, coords, dims, name=layer.plane.name)


def _ascends(axis: Axis) -> bool:
    borders = edges(axis)
    return bool(borders[-1] > borders[0])


def _picture(layer: Layer) -> Any:
    """Return the values of a layer as bytes: brightness of numbers, else colours, on black."""
    if layer.kind == "numbers":
        numbers = layer.numbers()
        return as_bytes(shades(numbers, shown_limits(numbers, QUANTILES, (None, None))))
    colored = layer.colored()
    return colored[..., :3] * (colored[..., 3:] > 0) if layer.kind == "labels" else colored


def html(tree: xr.DataTree) -> str:
    """Return what a notebook shows of a pyramid: the table of its levels, and a picture where that reads little."""
    described = describe_levels(tree)
    columns = ("level", "shape", "dtype", "chunks", "scale", "translation", "units", "size")
    head = "".join(f"<th>{column}</th>" for column in columns)
    rows = []
    for level in described:
        shown = {**level, "size": format_bytes(level["nbytes"])}
        rows.append("".join(f"<td>{markup.escape(_cell(shown[column]))}</td>" for column in columns))
    name = markup.escape(str(levels_of_tree(tree)[0].name))
    dims = markup.escape(" ".join(described[0]["dims"]))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<div style="display: flex; gap: 1em; align-items: flex-start">{_inline(tree)}'
        f"<div><b>{name}</b>: {len(described)} levels, {dims}{table}</div></div>"
    )


def _cell(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join("-" if item is None else f"{item:g}" if isinstance(item, float) else str(item) for item in value)


def _inline(tree: xr.DataTree) -> str:
    """Return a picture as an element of HTML; nothing where it would read much, or there is none."""
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
