"""Options of public functions as two checked values: the shape of the levels, and their storage.

Public functions create these values before they do anything else, and pass them on.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.utils import parse_bytes

from ..image.axes import BOUNDARIES, Boundary
from ..image.dataarray import refuse_unknown_sizes
from ..image.values import Packing, refuse_other_missing, stated_classes, stated_missing, without_packing
from ..messages import check_choice, warn_caller
from ..metadata.display import alpha_channel
from ..metadata.positions import other_positions
from ..methods.masked import MaskChannel, masked_rule
from ..methods.reducer import Reducer
from ..methods.reducers import Method, get_reducer, own_method, warn_of_stand_in
from ..tasks import machine
from .by_level import check_levels, of_level, values_by_level, with_values
from .factors import ChunkSizes, ChunkSizesByLevel, ScaleFactors, ShardSizes, ShardSizesByLevel, as_positive_int
from .plan import Plan

# The value of `nodata` and `packing` that stands for what the image itself states.
STATED: Literal["stated"] = "stated"
# Marks fields that callers of public functions do not pass.
NOT_AN_OPTION = {"is_option": False}


@dataclass(frozen=True, eq=False)
class LevelOptions:
    """Options for the levels of a pyramid; `plan_pyramid` documents them."""

    scale_factors: ScaleFactors = "isotropic"
    method: Method = "mean"
    boundary: Boundary = "pad"
    max_levels: int | None = None
    min_size: ChunkSizes | None = None
    skipna: bool | None = None
    nodata: Any = STATED
    min_valid: float = 0.0
    weights: xr.DataArray | None = None
    packing: Packing | Literal["stated"] | None = field(default=STATED, metadata=NOT_AN_OPTION)
    """How values of the image are packed; by default as its attributes state. None if they are what is stored."""
    mask: Mapping[str, int] | Literal["stated"] | None = field(default=STATED, metadata=NOT_AN_OPTION)
    """The number of the channel that masks the others, by the name of its axis; by default the one called alpha."""

    def __post_init__(self) -> None:
        """Refuse options that are wrong for any image, or contradict each other; name the method as it is here."""
        warn_of_stand_in(self.method)
        object.__setattr__(self, "method", own_method(self.method))
        check_choice("boundary", self.boundary, BOUNDARIES)
        as_positive_int("max_levels", self.max_levels)
        listed = isinstance(self.scale_factors, Sequence | np.ndarray) and not isinstance(self.scale_factors, str)
        if listed and self.min_size is not None:
            raise ValueError(
                f"min_size={self.min_size!r} ends a repeated step, but scale_factors={self.scale_factors!r} lists "
                "every level; omit one of them"
            )
        if self.weights is not None and not isinstance(self.weights, xr.DataArray):
            raise ValueError(
                f"weights must be a DataArray with dims of the image; these are {type(self.weights).__name__!r}"
            )

    @classmethod
    def of_plan(cls, plan: Plan) -> LevelOptions:
        """Return options that give the levels of a plan again; `scale_factors` lists every level."""
        factors = [dict(zip(plan.dims, level.factors, strict=True)) for level in plan.levels[1:]]
        return cls(
            factors,
            plan.reducer,
            plan.boundary,
            skipna=plan.skipna,
            nodata=plan.nodata,
            min_valid=plan.min_valid,
            packing=plan.packing,
            mask=None if plan.mask is None else {plan.dims[plan.mask.axis]: plan.mask.number},
        )

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> LevelOptions:
        """Return the options from a recipe, which `recipe` returned.

        Raises
        ------
        ValueError, TypeError
            If the recipe has unknown options or wrong values.
        """
        return cls(**{"mask": None, **recipe})

    def recipe(self) -> dict[str, Any]:
        """Return the options of a plan as plain values, which JSON preserves, to store beside the levels."""
        return {
            "method": self.reducer.name,
            "boundary": self.boundary,
            "scale_factors": self.scale_factors,
            "skipna": self.skipna,
            "nodata": self.nodata,
            "min_valid": self.min_valid,
            **({"mask": dict(self.mask)} if isinstance(self.mask, Mapping) else {}),
        }

    @property
    def reducer(self) -> Reducer:
        """The method as a `Reducer`.

        Raises
        ------
        ValueError
            If no method has that name, or it does not take weights.
        """
        return get_reducer(self.method, weighted=self.weights is not None)

    def nodata_of(self, attributes: Mapping[Any, Any], dtype: np.dtype[Any]) -> Any:
        """Return the value to leave out of values of a dtype: the one that was given, else what attributes state.

        Raises
        ------
        ValueError
            If they state several, or `nodata` is a text that means nothing.
        """
        if not isinstance(self.nodata, str):
            return self.nodata
        if self.nodata != STATED:
            raise ValueError(f"nodata={self.nodata!r} is no value; give a number, {STATED!r}, or None")
        if not self.reducer.skips_missing:
            return None
        value = stated_missing(attributes, dtype)
        # Of labels, 0 is background.
        return None if self.reducer.labels == "only" and value == 0 else value

    def warn_of_averages(self, image: xr.DataArray) -> None:
        """Warn, once, if the method averages what an image states to be classes, or colours under an alpha channel.

        A method of the user's own is not known to average.
        """
        row = self.reducer
        if row.labels != "no" or row.function is not None:
            return
        found = []
        if stated := stated_classes(image.attrs):
            found.append(
                f"the values are classes by the attribute {stated!r}, and method {row.name!r} makes values that are "
                "none of them; use method='mode'"
            )
        if self.nodata is not None and self.weights is None and alpha_channel(image) and not self._mask_of(image):
            found.append(
                f"the channel 'alpha' is not used as a mask, and method {row.name!r} takes in the colours of "
                "transparent pixels; to leave them out, use method='mean'"
            )
        if found:
            warn_caller(f"{str(image.name)!r}: {'. Also, '.join(found)}")

    def values_of(self, image: xr.DataArray) -> tuple[Packing | None, Any]:
        """Return how the values of an image are packed, and the one of them that is left out.

        Where several are stated as missing, the first stands for all.

        Raises
        ------
        ValueError
            If `nodata` says otherwise than the image what is missing.
        """
        packing = Packing.of(image.attrs, image.dtype) if isinstance(self.packing, str) else self.packing
        row = self.reducer
        if packing is None or image.dtype.kind not in "iuf" or (row.labels == "only" and not packing.is_scaled):
            return None, self.nodata_of(image.attrs, image.dtype)
        if not packing.left_out:
            return packing, self.nodata_of(without_packing(image.attrs), image.dtype)
        if isinstance(self.nodata, str) and self.nodata == STATED:
            refuse_other_missing(image.attrs, packing)
            return packing, packing.left_out[0] if row.skips_missing or row.decodes(packing) else None
        if self.nodata is not None and self.nodata not in packing.left_out:
            raise ValueError(
                f"nodata={self.nodata!r} is another value than {packing.left_out[0]!r}, which the image states as "
                "missing; leave it out, or remove that attribute"
            )
        return packing, None if self.nodata is None else packing.left_out[0]

    def _mask_of(self, image: xr.DataArray) -> Mapping[str, int] | None:
        """Return the channel that masks the others: the one that was given, else alpha, if the method leaves it out."""
        if not isinstance(self.mask, str):
            return self.mask
        row, dtype = self.reducer, image.dtype
        can_mask = row.make is not None and row.marks_missing and not row.bands and self.skipna is not False
        if self.nodata is None or self.weights is not None or not can_mask or dtype.kind not in row.kinds:
            return None
        keeps_dtype = masked_rule(dtype, None) is not None and row.bind(dtype).output_dtype == dtype.newbyteorder("=")
        return alpha_channel(image) if keeps_dtype else None

    def mask_channel(self, image: xr.DataArray, factors_of_levels: Sequence[tuple[int, ...]]) -> MaskChannel | None:
        """Return the channel that masks the others in levels of these factors; None if channels are reduced, too."""
        for dim, number in (self._mask_of(image) or {}).items():
            axis = image.dims.index(dim)
            if all(factors[axis] == 1 for factors in factors_of_levels):
                return MaskChannel(axis, number, image.shape[axis])
        return None

    @property
    def can_pack(self) -> bool:
        """Whether levels of decoded values can be packed as their image is stored: NaN is ignored, nothing else."""
        is_ignored = self.skipna is not False and self.nodata in (None, STATED)
        return is_ignored and isinstance(self.packing, str) and not self.reducer.bands

    def check_image(self, image: xr.DataArray) -> None:
        """Refuse an image without voxels, and weights that do not fit the image.

        Raises
        ------
        ValueError
            If there are no voxels, or weights have other dims, sizes or positions than the image, or are not real.
        """
        if 0 in image.shape or not image.ndim:
            raise ValueError(
                f"an image of shape {image.shape!r} has no voxels; a pyramid needs at least one along each axis"
            )
        if self.weights is not None:
            _check_weights(self.weights, image)


def _check_weights(weights: xr.DataArray, image: xr.DataArray) -> None:
    refuse_unknown_sizes(weights)
    if not set(weights.dims) <= set(image.dims):
        raise ValueError(
            f"weights must be a DataArray with dims of the image, {image.dims!r}; these are {weights.dims!r}"
        )
    if weights.dtype.kind not in "biuf":
        raise ValueError(f"weights have dtype {str(weights.dtype)!r}; give real numbers or a boolean mask")
    for dim in weights.dims:
        if weights.sizes[dim] != image.sizes[dim]:
            raise ValueError(
                f"weights have {weights.sizes[dim]!r} samples along {dim!r}, the image has {image.sizes[dim]!r}; give "
                "weights of the same size"
            )
        if (places := other_positions(weights, image, str(dim))) is not None:
            raise ValueError(
                f"weights and image have different coordinates along {dim!r}: the weights are at {places[0]}, the "
                f"image at {places[1]}; align the weights, as with reindex_like"
            )


@dataclass(frozen=True, eq=False)
class StorageOptions:
    """Options for chunks, shards, memory and workers; `plan_pyramid` documents them."""

    chunks: ChunkSizesByLevel | None = None
    shards: ShardSizesByLevel | None = None
    memory_limit: int | str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse a wrong amount of memory or number of workers."""
        as_positive_int("workers", self.workers)
        if self.memory_limit is not None:
            _memory_in_bytes(self.memory_limit)

    @property
    def specified(self) -> tuple[str, ...]:
        """Names of the options that were given."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def in_zarr_format(self, zarr_format: int) -> StorageOptions:
        """Return the options for a zarr format: in v2, which has no shards, those of the source are ignored.

        Raises
        ------
        ValueError
            If shards are given for zarr v2.
        """
        if zarr_format != 2:
            return self
        if any(shards is not None and shards is not False for shards in values_by_level(self.shards)):
            raise ValueError(f"zarr v2 has no shards, got shards={self.shards!r}; omit them, or write zarr v3")
        return replace(self, shards=False)

    def for_part_of(self, image_dims: Sequence[Hashable], dims: Sequence[Hashable]) -> StorageOptions:
        """Return the options of an image for its labels, which have only some of its dims."""
        missing = set(image_dims) - set(dims)

        def along(sizes: Any) -> Any:
            if isinstance(sizes, Sequence | np.ndarray) and len(sizes) == len(image_dims):
                sizes = dict(zip(image_dims, sizes, strict=True))
            if not isinstance(sizes, Mapping):
                return sizes
            return {dim: size for dim, size in sizes.items() if dim not in missing}

        if not missing:
            return self
        return replace(self, chunks=with_values(self.chunks, along), shards=with_values(self.shards, along))

    def for_level(self, level: int) -> StorageOptions:
        """Return the options of one level."""
        return replace(self, chunks=self.chunks_of(level), shards=self.shards_of(level))

    def chunks_of(self, level: int) -> ChunkSizes | None:
        """Return the chunks of one level."""
        chunks: ChunkSizes | None = of_level(self.chunks, level)
        return chunks

    def shards_of(self, level: int) -> ShardSizes | None:
        """Return the shards of one level."""
        shards: ShardSizes | None = of_level(self.shards, level)
        return shards

    def check_levels(self, count: int) -> None:
        """Refuse options for levels that do not exist.

        Raises
        ------
        ValueError
            If some name them.
        """
        check_levels("chunks", self.chunks, count)
        check_levels("shards", self.shards, count)

    @property
    def worker_count(self) -> int:
        """Regions that are processed at the same time; by default the number of available cores."""
        return as_positive_int("workers", self.workers) or machine.available_cores()

    @property
    def memory(self) -> int:
        """Bytes of memory that a build may use; by default a fraction of the available memory."""
        if self.memory_limit is None:
            return int(machine.available_memory() * machine.DEFAULT_MEMORY_FRACTION)
        return _memory_in_bytes(self.memory_limit)


def _memory_in_bytes(memory_limit: int | str) -> int:
    try:
        limit = int(parse_bytes(memory_limit))
    except (ValueError, TypeError) as error:
        raise ValueError(f"memory_limit={memory_limit!r} is not an amount of memory; write it as '512MiB'") from error
    if limit < 1:
        raise ValueError(f"memory_limit={memory_limit!r} is not positive; give at least one byte, as in '512MiB'")
    return limit


def specified(**options: Any) -> dict[str, Any]:
    """Return the options that were given, which are those that are not None."""
    return {name: value for name, value in options.items() if value is not None}
