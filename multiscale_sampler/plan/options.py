"""What a caller asks for: how levels are shaped, and how they are stored and built.

A public function makes these values where it begins, which checks them, and passes them on whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.utils import parse_bytes

from ..image.axes import BOUNDARIES, Boundary
from ..messages import check_choice
from ..methods.reducer import Reducer
from ..methods.reducers import Method, get_reducer
from ..tasks import machine
from .factors import ChunkSizes, ScaleFactors, positive
from .plan import Plan


@dataclass(frozen=True, eq=False)
class LevelOptions:
    """Options that shape the levels of a pyramid; `plan_pyramid` documents them."""

    scale_factors: ScaleFactors = 2
    method: Method = "mean"
    boundary: Boundary = "pad"
    max_levels: int | None = None
    min_size: ChunkSizes | None = None
    skipna: bool | None = None
    nodata: Any = None
    min_valid: float = 0.0
    weights: xr.DataArray | None = None

    def __post_init__(self) -> None:
        """Refuse options that are wrong, or contradict each other, whatever the image."""
        check_choice("boundary", self.boundary, BOUNDARIES)
        positive("max_levels", self.max_levels)
        listed = isinstance(self.scale_factors, Sequence | np.ndarray) and not isinstance(self.scale_factors, str)
        if listed and self.min_size is not None:
            raise ValueError(
                f"min_size={self.min_size!r} ends a repeated step, but scale_factors={self.scale_factors!r} names "
                "every level; leave one of them out"
            )
        if self.weights is not None and not isinstance(self.weights, xr.DataArray):
            raise ValueError(
                f"weights must be a DataArray with dims of the image; these are {type(self.weights).__name__!r}"
            )

    @classmethod
    def of_plan(cls, plan: Plan) -> LevelOptions:
        """Return the options that make the levels of a plan again, with the factors of every level."""
        factors = [dict(zip(plan.dims, level.factors, strict=True)) for level in plan.levels[1:]]
        return cls(
            factors,
            plan.reducer,
            plan.boundary,
            skipna=plan.skipna,
            nodata=plan.nodata,
            min_valid=plan.min_valid,
        )

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> LevelOptions:
        """Return the options that a recipe states, as `recipe` makes it.

        Raises
        ------
        ValueError, TypeError
            If it states others, or wrong ones.
        """
        return cls(**recipe)

    def recipe(self) -> dict[str, Any]:
        """Return how levels were made, for options of a plan: plain values that survive a round trip through JSON."""
        return {
            "method": self.reducer.name,
            "boundary": self.boundary,
            "scale_factors": self.scale_factors,
            "skipna": self.skipna,
            "nodata": self.nodata,
            "min_valid": self.min_valid,
        }

    @property
    def reducer(self) -> Reducer:
        """The method as a row of the table, or one of the caller's own.

        Raises
        ------
        ValueError
            If no method has that name, or it takes no weights.
        """
        return get_reducer(self.method, weighted=self.weights is not None)

    def check_image(self, image: xr.DataArray) -> None:
        """Refuse an image without voxels, and weights that do not fit the image.

        Raises
        ------
        ValueError
            If there are no voxels, or weights have other dims, sizes or positions, or are not numbers.
        """
        if 0 in image.shape or not image.ndim:
            raise ValueError(
                f"an image of shape {image.shape!r} has no voxels; a pyramid needs at least one along each axis"
            )
        if self.weights is not None:
            _check_weights(self.weights, image)


def _check_weights(weights: xr.DataArray, image: xr.DataArray) -> None:
    if not set(weights.dims) <= set(image.dims):
        raise ValueError(
            f"weights must be a DataArray with dims of the image, {image.dims!r}; these are {weights.dims!r}"
        )
    if weights.dtype.kind not in "biuf":
        raise ValueError(f"weights have dtype {str(weights.dtype)!r}; give real numbers, or a mask")
    for dim in weights.dims:
        if weights.sizes[dim] != image.sizes[dim]:
            raise ValueError(f"weights have {weights.sizes[dim]!r} samples of {dim!r}, the image {image.sizes[dim]!r}")
        if dim in weights.coords and not np.allclose(weights[dim], image[dim], rtol=1e-9):
            raise ValueError(f"weights lie elsewhere along {dim!r} than the image; take them over with reindex_like")


@dataclass(frozen=True, eq=False)
class StorageOptions:
    """Options of storage, and of what a build may use; `plan_pyramid` documents them."""

    chunks: ChunkSizes | None = None
    shards: ChunkSizes | Literal[False] | None = None
    memory_limit: int | str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not an amount of memory, or not a number of workers."""
        positive("workers", self.workers)
        if self.memory_limit is not None:
            _memory_in_bytes(self.memory_limit)

    @property
    def specified(self) -> tuple[str, ...]:
        """The names of the options that are not left to their defaults."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def in_zarr_format(self, zarr_format: int) -> StorageOptions:
        """Return the options for a format: zarr v2 has no shards, and ignores those of the source.

        Raises
        ------
        ValueError
            If shards are asked for in zarr v2.
        """
        if zarr_format != 2:
            return self
        if self.shards is not None and self.shards is not False:
            raise ValueError(f"zarr v2 has no shards, found shards={self.shards!r}; leave them out, or write zarr v3")
        return replace(self, shards=False)

    @property
    def worker_count(self) -> int:
        """Regions at a time, by default as many as there are cores."""
        return positive("workers", self.workers) or machine.available_cores()

    @property
    def memory(self) -> int:
        """Bytes that a build may use, by default a part of what there is."""
        if self.memory_limit is None:
            return int(machine.available_memory() * machine.DEFAULT_MEMORY_FRACTION)
        return _memory_in_bytes(self.memory_limit)


def _memory_in_bytes(memory_limit: int | str) -> int:
    try:
        limit = int(parse_bytes(memory_limit))
    except (ValueError, TypeError) as error:
        raise ValueError(f"memory_limit={memory_limit!r} is no amount of memory; write it as '512MiB'") from error
    if limit < 1:
        raise ValueError(f"memory_limit={memory_limit!r} leaves no memory; give a positive amount")
    return limit


def specified(**options: Any) -> dict[str, Any]:
    """Return the options that are not left to their defaults, which None stands for."""
    return {name: value for name, value in options.items() if value is not None}
