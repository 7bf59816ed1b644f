"""One plane of a pyramid: what it shows, decided without reading, and its values, read from one level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..image.axes import Axis
from ..image.dataarray import image_axes
from ..image.pictures import points_up
from ..image.tree import RECIPE_ATTRIBUTE, levels_of_tree
from ..messages import check_choice
from ..metadata.display import stated_omero
from ..metadata.geozarr import states_crs
from ..methods.reducers import REDUCERS
from ..store import missing_values_of
from ..tasks.crew import usable_scheduler
from .colors import QUANTILES, Color, as_numbers, channel_colors, composite, contrast_limits, label_colors
from .planes import Cut, choose_level, cut_of, extent_of, fit_into, has_common_scale, plane_nbytes, plane_of

PlotKind: TypeAlias = Literal["image", "labels"]
Coloring: TypeAlias = Literal["numbers", "channels", "true colors", "labels"]
Quantiles: TypeAlias = Sequence[float]
Limits: TypeAlias = tuple[float | None, float | None]

# Bytes of decoded chunks to read for a picture: less than a second from a slow disk.
READ_BUDGET = 16 * 2**20
# Pixels per sample along an axis, at most, in a picture that is made coarser to keep that budget.
MOST_BLUR = 2.0
# Channels of RGB and RGBA.
RGB_SIZES = (3, 4)


@dataclass(frozen=True)
class Scene:
    """A plane of a pyramid and how to colour it, before anything is read."""

    levels: tuple[xr.DataArray, ...]
    """All levels, finest first."""
    cut: Cut
    """The plane, in coordinates."""
    coloring: Coloring
    """How values become colours."""
    colors: tuple[Color, ...]
    """Colour of each channel of the plane."""
    left_out: tuple[Any, ...]
    """The values that stand for missing ones."""

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis of the picture, at level 0."""
        rows, columns = image_axes(plane_of(self.levels[0], self.cut))[-2:]
        return rows, columns

    def shape_in(self, box: Sequence[float]) -> tuple[float, float]:
        """Return the size (height, width) in pixels at which the plane fits into a box of pixels."""
        rows, columns = self.axes
        if not has_common_scale(rows, columns):
            return box[0], box[1]
        return fit_into((extent_of(rows), extent_of(columns)), box)

    def level_for(self, shape: Sequence[float], nbytes: int | None) -> int:
        """Return the number of the coarsest level with a sample for each pixel of a shape (height, width).

        A coarser one if that level would read more than `nbytes`. With None, more than `READ_BUDGET`, as long as a
        sample does not cover more than `MOST_BLUR` pixels.
        """
        pixels = {self.cut.rows: shape[0], self.cut.columns: shape[1]}
        if nbytes is None:
            return choose_level(self.levels, self.cut, pixels, READ_BUDGET, blur=MOST_BLUR)
        return choose_level(self.levels, self.cut, pixels, nbytes)

    def nbytes(self, level: int) -> int:
        """Return the bytes of the decoded chunks that contain the plane of a level."""
        return plane_nbytes(self.levels[level], self.levels[0], self.cut)

    def read(self, level: int) -> Layer:
        """Read the plane of a level."""
        plane = plane_of(self.levels[level], self.cut).load(scheduler=usable_scheduler())
        if self.cut.channel is not None and self.coloring in ("labels", "numbers"):
            plane = plane.isel({self.cut.channel: 0})
        return Layer(level, plane, self.coloring, self.colors, self.left_out)


@dataclass(frozen=True)
class Layer:
    """The plane of one level, in memory."""

    level: int
    """Number of the level."""
    plane: xr.DataArray
    """Its values, of shape (rows, columns) or (channels, rows, columns)."""
    coloring: Coloring
    """How values become colours."""
    colors: tuple[Color, ...]
    """Colour of each channel."""
    left_out: tuple[Any, ...]
    """The values that stand for missing ones."""

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis of the plane, at its level."""
        rows, columns = image_axes(self.plane)[-2:]
        return rows, columns

    @property
    def is_upward(self) -> bool:
        """Whether positions along the vertical axis increase upwards in the picture."""
        return points_up(self.plane, self.axes[0], on_map=states_crs(self.plane))

    def numbers(self) -> npt.NDArray[np.float64]:
        """Return the values as float64, NaN where they are missing."""
        return as_numbers(self.plane.values, self.left_out)

    def rgb(self, quantiles: Quantiles = QUANTILES, limits: Limits = (None, None)) -> npt.NDArray[np.uint8]:
        """Return the colours of labels, true colours or channels: RGB or RGBA, of shape (rows, columns, 3 or 4)."""
        if self.coloring == "labels":
            return label_colors(self.plane.values)
        if self.coloring == "true colors":
            return np.moveaxis(self.plane.values, 0, -1)
        channels = list(self.numbers())
        return composite(channels, [display_limits(numbers, quantiles, limits) for numbers in channels], self.colors)


def display_limits(numbers: npt.NDArray[np.float64], quantiles: Quantiles, limits: Limits) -> tuple[float, float]:
    """Return the values to draw darkest and brightest: `limits` where they are not None, else those of quantiles."""
    low, high = contrast_limits(numbers, quantiles)
    return low if limits[0] is None else limits[0], high if limits[1] is None else limits[1]


def scene_of(
    tree: xr.DataTree,
    positions: Mapping[str, Any],
    *,
    across: Sequence[str] | None = None,
    kind: PlotKind | None = None,
) -> Scene:
    """Return a plane of a pyramid and how to colour it; nothing is read.

    `positions` and `across` are those of `cut_of`, `kind` that of `MultiscaleAccessor.plot`.

    Raises
    ------
    TypeError
        If the kind is "labels" and the values are not integers.
    ValueError
        If the tree is not a pyramid, the kind is unknown, or there is no such plane.
    """
    levels = tuple(levels_of_tree(tree))
    base = levels[0]
    channel = next((axis for axis in image_axes(base) if axis.type == "channel"), None)
    colors, active = channel_colors(stated_omero(base), 1 if channel is None else channel.size)
    all_channels = channel is not None and channel.name not in positions and channel.name not in (across or ())
    true_colors = all_channels and active is None and _is_rgb(base, cast("Axis", channel))
    cut = cut_of(base, positions, across, channels=(0, 1, 2) if true_colors else active)
    if kind == "labels" or (kind is None and is_labels(tree, base)):
        coloring: Coloring = "labels"
    elif true_colors:
        coloring = "true colors"
    else:
        coloring = "channels" if len(cut.channels) > 1 else "numbers"
    _check_kind(kind, base)
    left_out = missing_values_of(base, tree.attrs.get(RECIPE_ATTRIBUTE))
    return Scene(levels, cut, coloring, tuple(colors[number] for number in cut.channels), left_out)


def _is_rgb(image: xr.DataArray, channel: Axis) -> bool:
    """Whether channels are probably red, green and blue: three or four without names, uint8, along the last axis."""
    unnamed = channel.is_regular and image.dims[-1] == channel.name
    return unnamed and channel.size in RGB_SIZES and image.dtype == np.uint8


def _check_kind(kind: PlotKind | None, base: xr.DataArray) -> None:
    if kind is not None:
        check_choice("kind", kind, get_args(PlotKind))
    if kind == "labels" and base.dtype.kind not in "iub":
        raise TypeError(
            f"kind='labels' needs integers, but the values have dtype {str(base.dtype)!r}; convert them, or omit kind"
        )


def is_labels(tree: xr.DataTree, base: xr.DataArray) -> bool:
    """Whether a pyramid consists of labels: it is in the ``labels`` of an image, or its method is only for labels."""
    in_labels = tree.parent is not None and tree.parent.name == "labels"
    recipe = tree.attrs.get(RECIPE_ATTRIBUTE, {})
    method = recipe.get("method") if isinstance(recipe, Mapping) else None
    by_labels_method = isinstance(method, str) and method in REDUCERS and REDUCERS[method].labels == "only"
    return base.dtype.kind in "iub" and (in_labels or by_labels_method)
