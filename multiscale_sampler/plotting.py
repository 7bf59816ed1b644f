"""Pictures of pyramids: the levels side by side, each where its coordinates say it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .axes import Axis, image_axes
from .extras import required
from .pyramid import levels_of_tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = 3.2
# Nothing is to be seen of more pixels than this along an edge of a panel.
MOST_PIXELS = 2048
CONTRAST_QUANTILES = (0.005, 0.995)


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib, with what installs it.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    required("matplotlib", "pictures need matplotlib", "'multiscale-sampler[plot]'")


def save_levels_figure(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Write a picture of one slice of every level, all on the same physical extent.

    The slice lies across the last two spatial axes, at the middle of the others; the outline of bright things at
    level 0 is drawn over every level, so that a shift between levels would be seen.

    Parameters
    ----------
    tree
        A pyramid, from `to_multiscale` or `open_pyramid`.
    path
        The picture's file; its ending chooses the format.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    ValueError
        If level 0 is too large to be drawn.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    slices = [_middle_slice(level) for level in levels_of_tree(tree)]
    if max(slices[0].shape) > MOST_PIXELS:
        raise ValueError(f"a slice of {slices[0].shape!r} is too large to draw; pass a tree of its coarser levels")
    figure = Figure(figsize=(PANEL_INCHES * len(slices), PANEL_INCHES + 0.6), layout="constrained")
    panels = figure.subplots(1, len(slices), sharex=True, sharey=True, squeeze=False)[0]
    low, high = np.quantile(slices[0].values, CONTRAST_QUANTILES)
    outline = (slices[0].astype(float) > (float(low) + float(high)) / 2).astype(float)
    for number, (panel, image) in enumerate(zip(panels, slices, strict=True)):
        _draw(panel, image, outline, low, high)
        panel.set_title(f"level {number}: {' x '.join(map(str, image.shape))}", fontsize=9)
    figure.savefig(path, dpi=110)


def _middle_slice(level: xr.DataArray) -> xr.DataArray:
    """Return a plane of a level across its last two spatial axes, the others at the middle of the field."""
    axes = image_axes(level)
    across = [axis.name for axis in axes if axis.type == "space"][-2:]
    others = {axis.name: (axis.size - 1) // 2 for axis in axes if axis.name not in across}
    return level.isel(others).transpose(*across).load()


def _draw(panel: Axes, image: xr.DataArray, outline: xr.DataArray, low: Any, high: Any) -> None:
    rows, columns = image_axes(image)
    left, right = _edges(columns)
    top, bottom = _edges(rows)
    panel.imshow(
        image.values, extent=(left, right, bottom, top), cmap="gray", vmin=low, vmax=high, interpolation="nearest"
    )
    y, x = (axis.coordinates() for axis in image_axes(outline))
    panel.contour(x, y, outline.values, levels=[0.5], colors="tab:orange", linewidths=0.6)
    panel.set_xlabel(_label(columns))
    panel.set_ylabel(_label(rows))


def _edges(axis: Axis) -> tuple[float, float]:
    """Return where the first voxel of an axis begins and the last one ends."""
    positions = axis.coordinates()
    return float(positions[0] - axis.scale / 2), float(positions[-1] + axis.scale / 2)


def _label(axis: Axis) -> str:
    return f"{axis.name} [{axis.unit}]" if axis.unit else axis.name
