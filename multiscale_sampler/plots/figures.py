"""Figures by matplotlib: a plane of a pyramid on its physical extent, and all levels side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from ..extras import required
from ..image.axes import Axis
from ..image.dataarray import image_axes
from ..image.tree import levels_of_tree
from .colors import MISSING_COLOR, QUANTILES
from .layers import Layer, Limits, PlotKind, Scene, display_limits, scene_of
from .planes import edges, has_common_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = 3.2
# Samples along an edge of a panel; a screen shows fewer.
MOST_PIXELS = 2048
# Colour maps by kind of dtype; gray for all others.
DEFAULT_MAPS: dict[str, str] = {"f": "viridis"}


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises
    ------
    ModuleNotFoundError
        If it is not; the message says how to install it.
    """
    required("matplotlib", "pictures need matplotlib", "'multiscale-sampler[plot]'")


def plot(
    tree: xr.DataTree,
    positions: Mapping[str, Any],
    *,
    ax: Axes | None,
    across: Sequence[str] | None,
    level: int | None,
    labels: str | xr.DataTree | None,
    kind: PlotKind | None,
    alpha: float,
    nbytes: int | None,
    **style: Any,
) -> Axes:
    """Draw a plane of a pyramid, as `MultiscaleAccessor.plot` does; `style` takes the keywords of `_draw_layer`."""
    require_matplotlib()
    from matplotlib import pyplot

    scene = scene_of(tree, positions, across=across, kind=kind)
    labels_scene = None if labels is None else _labels_scene(tree, labels, scene)
    if ax is None:
        ax = pyplot.gca()
    number = scene.level_for(scene.shape_in(_pixels_of(ax)), nbytes) if level is None else _checked_level(level, scene)
    layer = scene.read(number)
    _draw_layer(ax, layer, **style)
    if labels_scene is not None:
        labels_level = labels_scene.level_for(layer.plane.shape[-2:], nbytes)
        _draw_layer(ax, labels_scene.read(labels_level), alpha=alpha)
    _format_axes(ax, scene, layer)
    return ax


def _checked_level(level: int, scene: Scene) -> int:
    """Return the number of a level, which may be counted from the coarsest, as -1."""
    count = len(scene.levels)
    if not -count <= level < count:
        raise ValueError(f"level={level!r} does not exist; choose one from 0 to {count - 1}")
    return level % count


def _labels_scene(tree: xr.DataTree, labels: str | xr.DataTree, scene: Scene) -> Scene:
    """Return the plane of labels at the position of an image's plane."""
    if isinstance(labels, str):
        known = list(tree["labels"].children) if "labels" in tree.children else []
        if labels not in known:
            raise ValueError(f"labels={labels!r} does not exist: the tree has the labels {known!r}; or pass a tree")
    labels_tree = cast("xr.DataTree", tree[f"labels/{labels}"]) if isinstance(labels, str) else labels
    base = levels_of_tree(labels_tree)[0]
    cut = scene.cut
    if missing := [name for name in (cut.rows, cut.columns) if name not in base.dims]:
        raise ValueError(
            f"the labels have the axes {base.dims!r}, but the picture has {missing!r} too; choose its axes by across="
        )
    positions = {**cut.positions, **{name: slice(*ends) for name, ends in cut.ranges.items()}}
    shared = {name: position for name, position in positions.items() if name in base.dims}
    return scene_of(labels_tree, shared, across=(cut.rows, cut.columns), kind="labels")


def _pixels_of(ax: Axes) -> tuple[float, float]:
    """Return the size (height, width) of axes in pixels, at least 1."""
    box = ax.get_window_extent()
    return max(float(box.height), 1.0), max(float(box.width), 1.0)


def _draw_layer(
    ax: Axes,
    layer: Layer,
    *,
    cmap: Any = None,
    quantiles: Sequence[float] = QUANTILES,
    limits: Limits = (None, None),
    alpha: float = 1.0,
    colorbar: bool = False,
) -> None:
    """Draw a layer at its coordinates: as an image, or as a mesh if they are unevenly spaced."""
    options: dict[str, Any] = {}
    if layer.coloring == "numbers":
        numbers = layer.numbers()
        low, high = display_limits(numbers, quantiles, limits)
        values: Any = np.ma.masked_invalid(numbers)
        options = {"cmap": _colormap(cmap, layer), "vmin": low, "vmax": high}
    else:
        values = layer.rgb(quantiles, limits)
    if layer.coloring == "labels":
        # In the values, because pcolormesh does not combine alpha= with RGBA values.
        values[..., 3] = np.round(values[..., 3] * alpha)
    rows, columns = layer.axes
    down, along = _borders(ax.yaxis, rows), _borders(ax.xaxis, columns)
    if rows.is_regular and columns.is_regular:
        extent = (along[0], along[-1], down[-1], down[0])
        artist: Any = ax.imshow(values, extent=extent, interpolation="nearest", **options)
    else:
        artist = ax.pcolormesh(along, down, values, **options)
    if colorbar and layer.coloring == "numbers" and ax.figure is not None:
        ax.figure.colorbar(artist, ax=ax, label=_value_label(layer))


def _colormap(cmap: Any, layer: Layer) -> Any:
    import matplotlib

    if cmap is None:
        cmap = DEFAULT_MAPS.get(layer.plane.dtype.kind, "gray")
    if isinstance(cmap, str):
        return matplotlib.colormaps[cmap].with_extremes(bad=MISSING_COLOR)
    return cmap


def _borders(matplotlib_axis: Any, axis: Axis) -> Any:
    """Return the edges of voxels as numbers, into which a matplotlib axis converts dates."""
    borders = edges(axis)
    if borders.dtype.kind in "mM":
        matplotlib_axis.update_units(borders)
        return matplotlib_axis.convert_units(borders)
    return borders


def _format_axes(ax: Axes, scene: Scene, layer: Layer) -> None:
    """Set limits, aspect, labels, title and legend; the limits are those of level 0, for levels to be comparable."""
    rows, columns = scene.axes
    down, along = _borders(ax.yaxis, rows), _borders(ax.xaxis, columns)
    low, high = sorted((down[0], down[-1]))
    ax.set_ylim((low, high) if layer.is_upward else (high, low))
    ax.set_xlim(*sorted((along[0], along[-1])))
    ax.set_aspect("equal" if has_common_scale(rows, columns) else "auto")
    ax.set_facecolor(MISSING_COLOR if layer.coloring == "numbers" else "black")
    ax.set_xlabel(_axis_label(columns))
    ax.set_ylabel(_axis_label(rows))
    ax.set_title(_title(scene, layer), fontsize="small")
    for ticks, axis in ((ax.set_xticks, columns), (ax.set_yticks, rows)):
        if axis.coordinates().dtype.kind in "US":
            ticks(range(axis.size), labels=list(map(str, axis.coordinates())))
    if layer.coloring == "channels":
        _add_channel_legend(ax, layer)


def _title(scene: Scene, layer: Layer) -> str:
    """Return the image's name, the level, and the positions at which the plane cuts the other axes."""
    axes = {axis.name: axis for axis in image_axes(scene.levels[layer.level])}
    parts = [str(layer.plane.name), f"level {layer.level}"]
    for name in scene.levels[0].dims:
        coordinate = layer.plane.coords.get(name)
        if name not in (scene.cut.rows, scene.cut.columns) and coordinate is not None and coordinate.ndim == 0:
            value = coordinate.item() if coordinate.dtype.kind in "iuf" else coordinate.values
            text = f"{value:g}" if isinstance(value, int | float) else str(value)
            unit = axes[str(name)].unit
            parts.append(f"{name} = {text} {unit}" if unit else f"{name} = {text}")
    return ", ".join(parts)


def _add_channel_legend(ax: Axes, layer: Layer) -> None:
    from matplotlib.patches import Patch

    names = [str(name) for name in layer.plane.coords[layer.plane.dims[0]].values]
    patches = [Patch(color=color, label=name) for name, color in zip(names, layer.colors, strict=True)]
    ax.legend(handles=patches, fontsize="x-small", facecolor="black", labelcolor="white", framealpha=0.6)


def _value_label(layer: Layer) -> str:
    name = layer.plane.attrs.get("long_name", layer.plane.name)
    unit = layer.plane.attrs.get("units")
    return f"{name} [{unit}]" if unit else str(name)


def _axis_label(axis: Axis) -> str:
    return f"{axis.name} [{axis.unit}]" if axis.unit else axis.name


def save_levels_figure(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Save a figure of one plane of every level, all on the same physical extent.

    The plane spans the last two spatial axes, at the middle of the others. The outline of bright regions of level 0 is
    drawn over every level, so that a shift between levels is visible.

    Parameters
    ----------
    tree
        A pyramid, from `to_multiscale` or `open_pyramid`.
    path
        The file to write; its ending chooses the format.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    ValueError
        If the plane of level 0 has more than 2048 samples along an axis.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    scene = scene_of(tree, {})
    rows, columns = scene.axes
    if max(rows.size, columns.size) > MOST_PIXELS:
        raise ValueError(
            f"a plane of {(rows.size, columns.size)!r} samples is too large to draw; pass a tree of the coarser levels"
        )
    layers = [scene.read(number) for number in range(len(scene.levels))]
    figure = Figure(figsize=(PANEL_INCHES * len(layers), PANEL_INCHES + 0.6), layout="constrained")
    panels = figure.subplots(1, len(layers), sharex=True, sharey=True, squeeze=False)[0]
    numbers = layers[0].numbers()
    low, high = display_limits(numbers, QUANTILES, (None, None))
    bright = np.nan_to_num(numbers).reshape(-1, rows.size, columns.size).max(axis=0) > (low + high) / 2
    for panel, layer in zip(panels, layers, strict=True):
        _draw_layer(panel, layer, limits=(low, high))
        _format_axes(panel, scene, layer)
        panel.contour(
            columns.coordinates(), rows.coordinates(), bright, levels=[0.5], colors="tab:orange", linewidths=0.6
        )
        panel.set_title(f"level {layer.level}: {' x '.join(map(str, layer.plane.shape))}", fontsize=9)
    figure.savefig(path, dpi=110)
