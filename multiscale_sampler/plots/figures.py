"""Drawing by matplotlib: a plane of a pyramid on its physical extent, and all levels side by side."""

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
from .colors import QUANTILES
from .layers import Kind, Layer, Limits, Scene, scene_of, shown_limits
from .planes import edges, has_common_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = 3.2
# Nothing is to be seen of more pixels than this along an edge of a panel.
MOST_PIXELS = 2048
# No shade of the common colour maps, so that what is missing is not taken for a value.
MISSING_COLOR = "#dfe3ee"
DEFAULT_MAPS: dict[str, str] = {"f": "viridis"}


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib, with what installs it.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
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
    kind: Kind | None,
    alpha: float,
    nbytes: int | None,
    **style: Any,
) -> Axes:
    """Draw a plane of a pyramid, as `MultiscaleAccessor.plot` says; `style` is that of `_draw`."""
    require_matplotlib()
    from matplotlib import pyplot

    scene = scene_of(tree, positions, across=across, kind=kind)
    over = None if labels is None else _labels_scene(tree, labels, scene)
    if ax is None:
        ax = pyplot.gca()
    number = scene.level_for(scene.shape_in(_pixels(ax)), nbytes) if level is None else _checked_level(level, scene)
    layer = scene.read(number)
    _draw(ax, layer, **style)
    if over is not None:
        _draw(ax, over.read(over.level_for(layer.plane.shape[-2:], nbytes)), alpha=alpha)
    _furnish(ax, scene, layer)
    return ax


def _checked_level(level: int, scene: Scene) -> int:
    count = len(scene.levels)
    if not -count <= level < count:
        raise ValueError(f"level={level!r}: the pyramid has levels 0 to {count - 1}")
    return level % count


def _labels_scene(tree: xr.DataTree, labels: str | xr.DataTree, scene: Scene) -> Scene:
    """Return the plane of labels that lies in that of an image."""
    if isinstance(labels, str):
        known = list(tree["labels"].children) if "labels" in tree.children else []
        if labels not in known:
            raise ValueError(f"labels={labels!r}: the tree has the labels {known!r}; name one of those, or pass a tree")
    found = cast("xr.DataTree", tree[f"labels/{labels}"]) if isinstance(labels, str) else labels
    base = levels_of_tree(found)[0]
    cut = scene.cut
    if missing := [name for name in (cut.rows, cut.columns) if name not in base.dims]:
        raise ValueError(f"the labels have the axes {base.dims!r}, without {missing!r}, and do not lie in the picture")
    places = {**cut.positions, **{name: slice(*ends) for name, ends in cut.ranges.items()}}
    shared = {name: place for name, place in places.items() if name in base.dims}
    return scene_of(found, shared, across=(cut.rows, cut.columns), kind="labels")


def _pixels(ax: Axes) -> tuple[float, float]:
    """Return how many pixels (height, width) axes have."""
    box = ax.get_window_extent()
    return max(float(box.height), 1.0), max(float(box.width), 1.0)


def _draw(
    ax: Axes,
    layer: Layer,
    *,
    cmap: Any = None,
    quantiles: Sequence[float] = QUANTILES,
    limits: Limits = (None, None),
    alpha: float = 1.0,
    colorbar: bool = False,
) -> None:
    """Draw a layer where its coordinates say it is."""
    options: dict[str, Any] = {}
    if layer.kind == "numbers":
        numbers = layer.numbers()
        low, high = shown_limits(numbers, quantiles, limits)
        shown: Any = np.ma.masked_invalid(numbers)
        options = {"cmap": _colormap(cmap, layer), "vmin": low, "vmax": high}
    else:
        shown = layer.colored(quantiles, limits)
    if layer.kind == "labels":
        # In the colours themselves, as meshes do not mix them with an opacity of their own.
        shown[..., 3] = np.round(shown[..., 3] * alpha)
    rows, columns = layer.axes
    down, along = _borders(ax.yaxis, rows), _borders(ax.xaxis, columns)
    if rows.is_regular and columns.is_regular:
        extent = (along[0], along[-1], down[-1], down[0])
        artist: Any = ax.imshow(shown, extent=extent, interpolation="nearest", **options)
    else:
        artist = ax.pcolormesh(along, down, shown, **options)
    if colorbar and layer.kind == "numbers" and ax.figure is not None:
        ax.figure.colorbar(artist, ax=ax, label=_quantity(layer))


def _colormap(cmap: Any, layer: Layer) -> Any:
    import matplotlib

    if cmap is None:
        cmap = DEFAULT_MAPS.get(layer.plane.dtype.kind, "gray")
    if isinstance(cmap, str):
        return matplotlib.colormaps[cmap].with_extremes(bad=MISSING_COLOR)
    return cmap


def _borders(units: Any, axis: Axis) -> Any:
    """Return the borders of voxels in the numbers of matplotlib's axis, which has its own for dates."""
    borders = edges(axis)
    if borders.dtype.kind in "mM":
        units.update_units(borders)
        return units.convert_units(borders)
    return borders


def _furnish(ax: Axes, scene: Scene, layer: Layer) -> None:
    """Give the axes the extent of level 0, so that all levels lie on each other, and say what is drawn."""
    rows, columns = scene.axes
    down, along = _borders(ax.yaxis, rows), _borders(ax.xaxis, columns)
    low, high = sorted((down[0], down[-1]))
    ax.set_ylim((low, high) if layer.is_upward else (high, low))
    ax.set_xlim(*sorted((along[0], along[-1])))
    ax.set_aspect("equal" if has_common_scale(rows, columns) else "auto")
    ax.set_facecolor(MISSING_COLOR if layer.kind == "numbers" else "black")
    ax.set_xlabel(_label(columns))
    ax.set_ylabel(_label(rows))
    ax.set_title(_title(scene, layer), fontsize="small")
    for ticks, axis in ((ax.set_xticks, columns), (ax.set_yticks, rows)):
        if axis.coordinates().dtype.kind in "US":
            ticks(range(axis.size), labels=list(map(str, axis.coordinates())))
    if layer.kind == "channels":
        _name_channels(ax, layer)


def _title(scene: Scene, layer: Layer) -> str:
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


def _name_channels(ax: Axes, layer: Layer) -> None:
    from matplotlib.patches import Patch

    names = [str(name) for name in layer.plane.coords[layer.plane.dims[0]].values]
    patches = [Patch(color=color, label=name) for name, color in zip(names, layer.colors, strict=True)]
    ax.legend(handles=patches, fontsize="x-small", facecolor="black", labelcolor="white", framealpha=0.6)


def _quantity(layer: Layer) -> str:
    name = layer.plane.attrs.get("long_name", layer.plane.name)
    unit = layer.plane.attrs.get("units")
    return f"{name} [{unit}]" if unit else str(name)


def _label(axis: Axis) -> str:
    return f"{axis.name} [{axis.unit}]" if axis.unit else axis.name


def save_levels_figure(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Write a picture of one plane of every level, all on the same physical extent.

    The plane lies across the last two spatial axes, at the middle of the others; the outline of bright things at
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

    scene = scene_of(tree, {})
    rows, columns = scene.axes
    if max(rows.size, columns.size) > MOST_PIXELS:
        raise ValueError(
            f"a plane of {(rows.size, columns.size)!r} is too large to draw; pass a tree of its coarser levels"
        )
    layers = [scene.read(number) for number in range(len(scene.levels))]
    figure = Figure(figsize=(PANEL_INCHES * len(layers), PANEL_INCHES + 0.6), layout="constrained")
    panels = figure.subplots(1, len(layers), sharex=True, sharey=True, squeeze=False)[0]
    numbers = layers[0].numbers()
    low, high = shown_limits(numbers, QUANTILES, (None, None))
    bright = np.nan_to_num(numbers).reshape(-1, rows.size, columns.size).max(axis=0) > (low + high) / 2
    for panel, layer in zip(panels, layers, strict=True):
        _draw(panel, layer, limits=(low, high))
        _furnish(panel, scene, layer)
        panel.contour(
            columns.coordinates(), rows.coordinates(), bright, levels=[0.5], colors="tab:orange", linewidths=0.6
        )
        panel.set_title(f"level {layer.level}: {' x '.join(map(str, layer.plane.shape))}", fontsize=9)
    figure.savefig(path, dpi=110)
