"""Grids in space: the axes of an image whose positions a file states as an affine transformation, and back.

Samples along axis ``j`` of a grid follow each other in the direction ``direction[:, j]``, at the distance
``spacing[j]``. Where every axis runs along an axis of space, coordinates say all of it. Of any other grid, rotated or
sheared, the coordinates are positions along its own axes, and two attributes place these: a sample whose coordinates
are ``position`` lies at ``origin + direction @ (position - origin)``. Levels and crops keep both attributes; those that
state the grid by the numbers of its samples are restated for each level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .axes import Axis
from .orientation import DIRECTION, ORIGIN

FloatArray: TypeAlias = "npt.NDArray[np.float64]"

SPATIAL_DIMS = ("z", "y", "x")
# Attributes with the matrix of a grid, from the numbers of its samples: the 4 x 4 one of NIfTI, which counts from the
# centre of the first sample, and GDAL's six coefficients, which count from the outer corner of the first pixel.
AFFINE, TRANSFORM = "affine", "transform"
# Other attributes of images in which readers of rasters keep numbers of the grid; coordinates say the same.
NUMBERS_OF_GRIDS = ("GeoTransform", "res", "spatial:transform", "spatial:shape", "spatial:bbox")
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

    @classmethod
    def of_transform(cls, transform: Sequence[float]) -> Grid | None:
        """Return the grid of pixels from the six coefficients of rasterio and GeoZarr; None if they span no plane.

        "[a, b, c, d, e, f]" count from the outer corner of the first pixel: x = a * column + b * row + c.
        """
        a, b, c, d, e, f = map(float, transform)
        return cls.of_steps([[a, b], [d, e]], [c + (a + b) / 2, f + (d + e) / 2])

    @property
    def transform(self) -> list[float]:
        """The six coefficients of a grid of pixels, as `of_transform` takes them."""
        corner = self.first - self.steps.sum(axis=1) / 2
        # Without zeros of negative sign.
        coefficients: list[float] = (np.column_stack([self.steps, corner]) + 0.0).ravel().tolist()
        return coefficients

    @property
    def steps(self) -> FloatArray:
        """Steps between samples along each axis, in the columns."""
        return self.direction * self.spacing

    def is_aligned(self, sizes: Sequence[int]) -> bool:
        """Whether every axis runs along the axis of space of the same number, in either direction."""
        across = np.abs(self.steps) * (np.asarray(sizes) - 1)
        np.fill_diagonal(across, 0.0)
        return bool((across.sum(axis=1) <= ALIGNED_WITHIN * self.spacing).all() and self.direction.diagonal().all())

    def along_axes(
        self, sizes: Sequence[int], origin: FloatArray
    ) -> tuple[FloatArray, FloatArray, dict[str, list[Any]]]:
        """Return spacings and first positions of the axes, x first, and the attributes that place rotated ones.

        They are rotated about `origin`.
        """
        if self.is_aligned(sizes):
            return np.sign(self.direction.diagonal()) * self.spacing, self.first, {}
        first = origin + np.linalg.solve(self.direction, self.first - origin)
        attrs = {DIRECTION: np.flip(self.direction).tolist(), ORIGIN: np.flip(origin).tolist()}
        return self.spacing, first, attrs


def lies_along_space(attrs: Mapping[Any, Any]) -> bool:
    """Whether the coordinates of an image with these attributes are positions in space."""
    return DIRECTION not in attrs


def is_rotated_otherwise(attrs: Mapping[Any, Any], others: Mapping[Any, Any]) -> bool:
    """Whether attributes state that axes are rotated, and others state another rotation or none."""
    if lies_along_space(attrs):
        return False
    direction = np.asarray(attrs[DIRECTION], np.float64)
    other = np.asarray(others.get(DIRECTION, np.eye(len(direction))), np.float64)
    return direction.shape != other.shape or not np.allclose(direction, other, rtol=0, atol=ALIGNED_WITHIN)


def attributes_of_level(attrs: Mapping[Any, Any], base: Sequence[Axis], level: Sequence[Axis]) -> dict[Any, Any]:
    """Return the attributes of an image as they are for a level of it, from the axes of both.

    The matrix of a grid becomes that of the level's samples; other numbers of the grid are left out.
    """
    is_base = all(fine == coarse for fine, coarse in zip(base, level, strict=True))
    changed = {key: value for key, value in attrs.items() if is_base or key not in NUMBERS_OF_GRIDS}
    for key, names, corner in ((AFFINE, "xyz", 0.0), (TRANSFORM, "xy", 0.5)):
        matrix = _square_matrix(attrs.get(key), len(names))
        if matrix is None:
            continue
        by_name = {fine.name: (fine, coarse) for fine, coarse in zip(base, level, strict=True)}
        restated = matrix @ level_steps([by_name.get(name) for name in names], corner)
        changed[key] = restated.tolist() if key == AFFINE else restated[:2].ravel().tolist()
    return changed


def level_steps(axes: Sequence[tuple[Axis, Axis] | None], corner: float) -> FloatArray:
    """Return the matrix from the numbers of a level's samples to those of its base, from the axes of both.

    Numbers count from the centre of the first sample (`corner` 0) or from its outer corner (0.5).
    """
    steps = np.eye(len(axes) + 1)
    for number, pair in enumerate(axes):
        if pair is not None:
            fine, coarse = pair
            ratio = coarse.scale / fine.scale
            offset = (coarse.translation - fine.translation) / fine.scale
            steps[number, number], steps[number, -1] = ratio, offset + corner * (1 - ratio)
    return steps


def _square_matrix(stated: Any, count: int) -> FloatArray | None:
    """Return a stated matrix of so many axes, with its last row; None if it is something else."""
    try:
        matrix = np.asarray(stated, np.float64)
    except (TypeError, ValueError):
        return None
    if matrix.shape == (count * (count + 1),):
        return np.vstack([matrix.reshape(count, count + 1), np.eye(count + 1)[-1]])
    return matrix if matrix.shape == (count + 1, count + 1) else None


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
