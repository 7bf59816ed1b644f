"""Grids in space: the axes of an image whose positions a file states as an affine transformation, and back.

Samples along axis ``j`` of a grid follow each other in the direction ``direction[:, j]``, at the distance
``spacing[j]``. Where every axis runs along an axis of space, coordinates say all of it. Of any other grid, rotated or
sheared, the coordinates are positions along its own axes, and two attributes place these: a sample whose coordinates
are ``position`` lies at ``origin + direction @ (position - origin)``. Levels and crops keep both attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from .axes import Axis
from .dataarray import coordinate_variable
from .orientation import DIRECTION, LETTERS, ORIGIN, orientations_along

FloatArray: TypeAlias = "npt.NDArray[np.float64]"

SPATIAL_DIMS = ("z", "y", "x")
# Part of a voxel by which the end of an axis may be off the axis of space that it runs along: files keep rotations in
# 32 bits, also one of 0.
ALIGNED_WITHIN = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """The positions of samples in space; the first axis of the grid and of space is x."""

    spacing: FloatArray
    """Positive distances between samples along each axis."""
    first: FloatArray
    """Position of the first sample."""
    direction: FloatArray
    """Direction of each axis, in the columns."""

    @classmethod
    def of_steps(cls, steps: npt.ArrayLike, first: npt.ArrayLike) -> Grid | None:
        """Return a grid from the steps between samples, in columns; None if they do not span space."""
        columns, position = np.asarray(steps, np.float64), np.asarray(first, np.float64)
        spacing = np.linalg.norm(columns, axis=0)
        if not np.isfinite(columns).all() or not np.isfinite(position).all() or not spacing.all():
            return None
        direction = columns / spacing
        return cls(spacing, position, direction) if abs(np.linalg.det(direction)) > ALIGNED_WITHIN else None

    @property
    def steps(self) -> FloatArray:
        """Steps between samples along each axis, in the columns."""
        return self.direction * self.spacing

    def is_aligned(self, sizes: Sequence[int]) -> bool:
        """Whether every axis runs along the axis of space of the same number, in either direction."""
        across = np.abs(self.steps) * (np.asarray(sizes) - 1)
        np.fill_diagonal(across, 0.0)
        return bool((across.sum(axis=1) <= ALIGNED_WITHIN * self.spacing).all() and self.direction.diagonal().all())


def placed_coordinates(
    names: Sequence[str], sizes: Sequence[int], grid: Grid, units: Sequence[str | None], letters: str = ""
) -> tuple[dict[str, xr.Variable], dict[str, Any]]:
    """Return the coordinates of a grid's axes, and the attributes of an image whose axes are rotated in space.

    Parameters
    ----------
    names, sizes, units
        Of the axes, x first.
    grid
        Where the samples lie.
    letters
        The anatomical directions of space: "RAS" (NIfTI) or "LPS" (ITK); "" where they are not known.
    """
    if grid.is_aligned(sizes):
        scales = np.sign(grid.direction.diagonal()) * grid.spacing
        words: Sequence[str | None] = [LETTERS[letter] for letter in letters]
        attrs: dict[str, Any] = {}
    else:
        scales = grid.spacing
        words = orientations_along(grid.direction, letters) if letters else ()
        attrs = {DIRECTION: np.flip(grid.direction).tolist(), ORIGIN: np.flip(grid.first).tolist()}
    coordinates = {}
    for number, (name, size, unit) in enumerate(zip(names, sizes, units, strict=True)):
        word = words[number] if number < len(words) else None
        axis = Axis(name, size, float(scales[number]), float(grid.first[number]), unit, orientation=word)
        coordinates[name] = coordinate_variable(axis)
    return coordinates, attrs


def spatial_order(axes: Sequence[Axis]) -> list[Axis]:
    """Return the spatial axes in the order of the attributes: z, y, x; those of other names as they stand."""
    spatial = [axis for axis in axes if axis.type == "space"]
    if all(axis.name in SPATIAL_DIMS for axis in spatial):
        spatial.sort(key=lambda axis: SPATIAL_DIMS.index(axis.name))
    return spatial


def grid_in_space(spatial: Sequence[Axis], attrs: Mapping[Any, Any]) -> Grid:
    """Return the grid of evenly spaced axes, in `spatial_order`, and the attributes of their image.

    A descending axis reverses its direction.

    Raises
    ------
    ValueError
        If the attributes are those of another number of axes.
    """
    count = len(spatial)
    scale = np.array([axis.scale for axis in reversed(spatial)])
    first = np.array([axis.translation for axis in reversed(spatial)])
    direction = np.flip(np.array(attrs.get(DIRECTION, np.eye(count)), np.float64))
    # The point about which the axes are rotated.
    origin = np.flip(np.array(attrs.get(ORIGIN, first[::-1]), np.float64)) if DIRECTION in attrs else first
    if direction.shape != (count, count) or origin.shape != (count,):
        raise ValueError(
            f"the attributes {DIRECTION!r} and {ORIGIN!r} of the image are not for {count!r} spatial axes; keep a "
            "slice as an axis of one sample, as in image.isel(z=[0]), or remove them"
        )
    return Grid(np.abs(scale), origin + direction @ (first - origin), direction * np.sign(scale))
