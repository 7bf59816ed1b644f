"""A plane of a pyramid that is read and ready to be coloured: numbers, channels, true colours or labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..image.axes import Axis
from ..image.dataarray import image_axes
from ..image.tree import RECIPE_ATTRIBUTE, levels_of_tree
from ..messages import check_choice
from ..metadata.display import stated_omero
from ..methods.reducers import REDUCERS
from ..tasks.crew import usable_scheduler
from .colors import QUANTILES, Color, as_numbers, channel_colors, composite, contrast, label_colors
from .planes import Cut, cut_of, extent_of, fitted, has_common_scale, level_for, plane_nbytes, plane_of, points_up

Kind: TypeAlias = Literal["image", "labels"]
Coloring: TypeAlias = Literal["numbers", "channels", "true colors", "labels"]
Quantiles: TypeAlias = Sequence[float]
Limits: TypeAlias = tuple[float | None, float | None]

# Decoded chunks that are read for a picture: what a slow disk brings in less than a second.
READ_BUDGET = 16 * 2**20
# Pixels for each sample, at most, in a picture that keeps to that budget.
MOST_BLUR = 2.0
TRUE_COLORS = (3, 4)


@dataclass(frozen=True)
class Scene:
    """What a picture is to show, decided before anything is read."""

    levels: tuple[xr.DataArray, ...]
    """All levels, of which one will be read."""
    cut: Cut
    """The plane."""
    kind: Coloring
    """What its values are."""
    colors: tuple[Color, ...]
    """Of each channel."""
    nodata: Any
    """The value that stands for a missing one, or None."""

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The axes down and along the picture, at level 0."""
        rows, columns = image_axes(plane_of(self.levels[0], self.cut))[-2:]
        return rows, columns

    def shape_in(self, box: Sequence[float]) -> tuple[float, float]:
        """Return the pixels (height, width) that the plane takes up in a box."""
        rows, columns = self.axes
        if not has_common_scale(rows, columns):
            return box[0], box[1]
        return fitted((extent_of(rows), extent_of(columns)), box)

    def level_for(self, shape: Sequence[float], nbytes: int | None) -> int:
        """Return the level that has a sample for each pixel of a shape, or the next that is read within `nbytes`.

        None: within the usual budget, unless the picture became a blur.
        """
        pixels = {self.cut.rows: shape[0], self.cut.columns: shape[1]}
        if nbytes is None:
            return level_for(self.levels, self.cut, pixels, READ_BUDGET, blur=MOST_BLUR)
        return level_for(self.levels, self.cut, pixels, nbytes)

    def nbytes(self, level: int) -> int:
        """Return the bytes that the plane of a level is read from."""
        return plane_nbytes(self.levels[level], self.levels[0], self.cut)

    def read(self, level: int) -> Layer:
        """Read the plane of a level."""
        plane = plane_of(self.levels[level], self.cut).load(scheduler=usable_scheduler())
        if self.cut.channel is not None and self.kind in ("labels", "numbers"):
            plane = plane.isel({self.cut.channel: 0})
        return Layer(level, plane, self.kind, self.colors, self.nodata)


@dataclass(frozen=True)
class Layer:
    """A plane of one level, in memory."""

    level: int
    """Number of the level."""
    plane: xr.DataArray
    """Its values: (rows, columns), or (channels, rows, columns)."""
    kind: Coloring
    """What its values are."""
    colors: tuple[Color, ...]
    """Of each channel."""
    nodata: Any
    """The value that stands for a missing one, or None."""

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The axes down and along the picture, as far as it is drawn."""
        rows, columns = image_axes(self.plane)[-2:]
        return rows, columns

    @property
    def is_upward(self) -> bool:
        """Whether the larger positions of the rows are above."""
        rows = self.axes[0]
        return points_up(self.plane.coords.get(rows.name), rows)

    def numbers(self) -> npt.NDArray[np.float64]:
        """Return the values as floats, missing ones as NaN."""
        return as_numbers(self.plane.values, self.nodata)

    def colored(self, quantiles: Quantiles = QUANTILES, given: Limits = (None, None)) -> npt.NDArray[np.uint8]:
        """Return the colours of all that has some: (rows, columns, 3 or 4)."""
        if self.kind == "labels":
            return label_colors(self.plane.values)
        if self.kind == "true colors":
            return np.moveaxis(self.plane.values, 0, -1)
        channels = list(self.numbers())
        return composite(channels, [shown_limits(numbers, quantiles, given) for numbers in channels], self.colors)


def shown_limits(numbers: npt.NDArray[np.float64], quantiles: Quantiles, given: Limits) -> tuple[float, float]:
    """Return which values are drawn darkest and brightest: those that are given, else quantiles."""
    low, high = contrast(numbers, quantiles)
    return low if given[0] is None else given[0], high if given[1] is None else given[1]


def scene_of(
    tree: xr.DataTree,
    positions: Mapping[str, Any],
    *,
    across: Sequence[str] | None = None,
    kind: Kind | None = None,
) -> Scene:
    """Return what a picture of a plane of a pyramid is to show; nothing is read."""
    levels = tuple(levels_of_tree(tree))
    base = levels[0]
    attributes = {**base.attrs, **tree.attrs}
    channel = next((axis for axis in image_axes(base) if axis.type == "channel"), None)
    colors, shown = channel_colors(stated_omero(base), 1 if channel is None else channel.size)
    free = channel is not None and channel.name not in positions and channel.name not in (across or ())
    true_colors = free and shown is None and _is_rgb(base, cast("Axis", channel))
    cut = cut_of(base, positions, across, channels=(0, 1, 2) if true_colors else shown)
    if kind == "labels" or (kind is None and is_labels(tree, base)):
        coloring: Coloring = "labels"
    elif true_colors:
        coloring = "true colors"
    else:
        coloring = "channels" if len(cut.channels) > 1 else "numbers"
    _check_kind(kind, base)
    recipe = attributes.get(RECIPE_ATTRIBUTE, {})
    nodata = attributes.get("nodata", recipe.get("nodata") if isinstance(recipe, Mapping) else None)
    return Scene(levels, cut, coloring, tuple(colors[number] for number in cut.channels), nodata)


def _is_rgb(image: xr.DataArray, channel: Axis) -> bool:
    """Whether channels are red, green and blue: a guess, where the last axis is one of three or four nameless bytes."""
    nameless = channel.is_regular and image.dims[-1] == channel.name
    return nameless and channel.size in TRUE_COLORS and image.dtype == np.uint8


def _check_kind(kind: Kind | None, base: xr.DataArray) -> None:
    if kind is not None:
        check_choice("kind", kind, get_args(Kind))
    if kind == "labels" and base.dtype.kind not in "iub":
        raise TypeError(f"labels are integers, these are of dtype {str(base.dtype)!r}; leave kind='labels' out")


def is_labels(tree: xr.DataTree, base: xr.DataArray) -> bool:
    """Whether a pyramid is one of labels: it stands among those of an image, or was made as such."""
    among = tree.parent is not None and tree.parent.name == "labels"
    made = tree.attrs.get(RECIPE_ATTRIBUTE, {})
    method = made.get("method") if isinstance(made, Mapping) else None
    by_labels_method = isinstance(method, str) and method in REDUCERS and REDUCERS[method].labels == "only"
    return base.dtype.kind in "iub" and (among or by_labels_method)
