"""`coarsen`, and the reduction of whole numpy or dask arrays to the state and the values of one level.

numpy arrays are reduced immediately, dask arrays stay lazy. Blocks of a dask array are aligned to whole windows first,
so that the bits of a level do not depend on the chunks of the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr

from ..image.axes import Boundary
from ..image.boxes import Block, whole_box
from ..image.dataarray import image_and_axes
from ..methods import Reduction, WeightedReduction
from ..methods.reducers import Method
from ..plan.factors import factors_of_entry
from ..plan.options import LevelOptions, StorageOptions
from ..plan.parts import windows_under
from ..plan.plan import Plan
from ..plan.planning import plan_ladder
from .labelling import label_level

# Blocks of coarser levels get smaller with the factors; input blocks are merged with neighbours up to this many bytes.
SMALLEST_BLOCK = 16 * 2**20


def coarsen(
    image: Any,
    factors: int | Mapping[str, int],
    *,
    method: Method = "mean",
    boundary: Boundary = "pad",
    skipna: bool | None = None,
    nodata: Any = "stated",
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Reduce an image and its coordinates by integer factors.

    Parameters
    ----------
    image
        An image, or an array that `to_image` can label.
    factors
        Voxels per window: an int for all spatial axes with more than one sample, or a mapping by dim.
    method
        Name of a method, a `Reducer`, or a function, as in `plan_pyramid`.
    boundary
        How a partial window at the end of an axis is handled: "pad" reduces the voxels that it has, "trim" drops it,
        "exact" refuses it.
    skipna
        Whether NaN is ignored. Default: in floats, if the method can ignore it.
    nodata
        A value to ignore, by default the one that the image's attributes state, as in `plan_pyramid`; a window without
        other values becomes `nodata`.
    min_valid
        The fraction of the voxels of a window, 0 to 1, that must be valid for a valid result.
    weights
        Weights of the voxels for a weighted mean, as in `plan_pyramid`.

    Returns
    -------
    xarray.DataArray
        Lazy if `image` is, with its name, attributes and units. The dtype is that of the image for most methods;
        sums are as wide as numpy's. Coordinates are at the centres of the windows, for "nearest" at their first voxel.

    Raises
    ------
    ValueError
        If factors, boundary or nodata do not fit the image.
    TypeError
        If the method does not accept the dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.arange(6, dtype="uint8").reshape(2, 3), scale=10)
    >>> ms.coarsen(image, 2).values
    array([[2, 4]], dtype=uint8)
    >>> ms.coarsen(image, 2).x.values
    array([ 5., 25.])
    """
    options = LevelOptions(
        scale_factors=[factors],
        method=method,
        boundary=boundary,
        skipna=skipna,
        nodata=nodata,
        min_valid=min_valid,
        weights=weights,
    )
    image, axes = image_and_axes(image)
    options.check_image(image)
    by_axis = factors_of_entry("factors", factors, axes)
    if all(factor == 1 for factor in by_axis):
        return cast("xr.DataArray", image)
    options.warn_of_averages(image)
    plan = plan_ladder(image, axes, [by_axis], options, StorageOptions(workers=1))
    reduction, level = plan.reduction, plan.levels[1]
    if plan.reducer.bands:
        raise ValueError(f"method {plan.reducer.name!r} needs all levels of a pyramid; use to_multiscale")
    counts = whole_counts(plan, 1)
    if isinstance(image.data, np.ndarray) and weights is None:
        inside, margins = windows_under(whole_box(level.shape), level.factors, plan.halos(1), image.shape)
        data = reduction.at_once(image.data[inside], level.factors, margins, counts)
    else:
        data = finish_state(base_state(image, level.factors, reduction, boundary, weights), counts, reduction)
    return label_level(image, data, plan, 1)


def whole_counts(plan: Plan, index: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the number of base samples of every voxel of a level, one array for each axis."""
    return plan.counts(index, whole_box(plan.levels[index].shape))


def aligned_weights(weights: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """Return weights with the dims of the image, in its order, and with size 1 along dims that they lack."""
    bare = weights.drop_vars(weights.coords)
    return bare.expand_dims([dim for dim in image.dims if dim not in weights.dims]).transpose(*image.dims)


def base_state(
    image: xr.DataArray,
    factors: tuple[int, ...],
    reduction: Reduction,
    boundary: Boundary,
    weights: xr.DataArray | None,
) -> Any:
    """Reduce a whole image, with weights if given, to the state of its windows."""
    if weights is None:
        return first_state(image.data, factors, reduction, boundary)
    weight = aligned_weights(weights, image).data
    weigh = cast("WeightedReduction", reduction).weigh
    if isinstance(image.data, np.ndarray):
        return merge_state(weigh(image.data, np.asarray(weight)), factors, reduction, boundary)
    blocks = tuple(sizes if n > 1 else (1,) for sizes, n in zip(image.data.chunks, weight.shape, strict=True))
    weight_blocks = da.broadcast_to(rechunked(da.asarray(weight), blocks), image.shape, chunks=image.data.chunks)
    weighted_blocks = da.map_blocks(
        weigh,
        image.data,
        weight_blocks,
        chunks=((reduction.components,), *image.data.chunks),
        new_axis=[0],
        dtype=reduction.state_dtype,
        meta=np.empty((0,) * (image.ndim + 1), reduction.state_dtype),
    )
    return merge_state(weighted_blocks, factors, reduction, boundary)


def first_state(array: Any, factors: tuple[int, ...], reduction: Reduction, boundary: Boundary) -> Any:
    """Reduce a whole base array to the state of its windows."""
    return _reduce_array(array, factors, reduction, boundary, state=False)


def merge_state(state: Any, factors: tuple[int, ...], reduction: Reduction, boundary: Boundary) -> Any:
    """Reduce a whole state to a coarser one, whose windows are `factors` windows of the given one."""
    return _reduce_array(state, factors, reduction, boundary, state=True)


def _reduce_array(
    array: Any, factors: tuple[int, ...], reduction: Reduction, boundary: Boundary, *, state: bool
) -> Any:
    leading = (1,) if state and reduction.components else ()
    halos = (*(0 for _ in leading), *reduction.halos(factors))
    reaches = tuple(
        Reach.of(n, factor, halo, boundary)
        for n, factor, halo in zip(array.shape, (*leading, *factors), halos, strict=True)
    )
    array = array[whole_box([reach.size for reach in reaches])]
    if isinstance(array, np.ndarray):
        return _reduce_block(array, reaches=reaches, reduction=reduction, state=state)
    return _reduce_dask(array, reaches, reduction, state=state)


def finish_state(state: Any, counts: Sequence[np.ndarray[Any, Any]], reduction: Reduction) -> Any:
    """Return the values of a level from its state."""
    if isinstance(state, np.ndarray):
        return reduction.finish(state, tuple(counts))
    if not reduction.components:
        return state
    chunks = state.chunks[1:]
    letters = tuple(range(1, len(chunks) + 1))
    arguments: list[Any] = [state, (0, *letters)]
    for letter, of_axis, blocks in zip(letters, counts, chunks, strict=True):
        arguments += [da.from_array(of_axis, chunks=(blocks,)), (letter,)]
    return da.blockwise(
        _finish_block,
        letters,
        *arguments,
        reduction=reduction,
        dtype=reduction.output_dtype,
        concatenate=True,
        meta=np.empty((0,) * len(chunks), reduction.output_dtype),
    )


def _finish_block(state: Block, *counts: np.ndarray[Any, Any], reduction: Reduction) -> Block:
    return reduction.finish(state, counts)


@dataclass(frozen=True)
class Reach:
    """The windows along one axis of an array, and the samples around them on which their values depend."""

    factor: int
    """Samples per window."""
    halo: int
    """Samples outside of a window, on either side, on which its value depends."""
    size: int
    """Samples, from the start of the axis, on which the values of the windows depend."""
    tail: int
    """Those of them after the last window."""

    @classmethod
    def of(cls, size: int, factor: int, halo: int, boundary: Boundary) -> Reach:
        """Return the windows of an axis of `size` samples; "trim" drops a partial one at the end."""
        if boundary != "trim":
            return cls(factor, halo, size, 0)
        whole = size // factor * factor
        return cls(factor, halo, min(size, whole + halo), min(size - whole, halo))

    def margins(self, block: int, blocks: int) -> tuple[int, int]:
        """Return the number of samples before and after the windows in block number `block` of `blocks`."""
        return self.halo if block > 0 else 0, self.halo if block < blocks - 1 else self.tail


def _reduce_block(block: Block, *, reaches: tuple[Reach, ...], reduction: Reduction, state: bool) -> Block:
    """Reduce a block that needs no samples of other blocks."""
    return _reduce_within(block, [(0, reach.tail) for reach in reaches], reaches, reduction, state=state)


def _reduce_overlapping(
    block: Block,
    *,
    reaches: tuple[Reach, ...],
    reduction: Reduction,
    state: bool,
    blocks: tuple[int, ...],
    block_id: tuple[int, ...] = (),
) -> Block:
    """Reduce one of many overlapping blocks; dask passes its index as `block_id`."""
    # Indices of the output block: they have a leading component axis if the input is the base and the output a state.
    indices = block_id[-len(reaches) :]
    margins = [reach.margins(index, count) for reach, index, count in zip(reaches, indices, blocks, strict=True)]
    return _reduce_within(block, margins, reaches, reduction, state=state)


def _reduce_within(
    block: Block, margins: list[tuple[int, int]], reaches: tuple[Reach, ...], reduction: Reduction, *, state: bool
) -> Block:
    spatial = slice(1 if state and reduction.components else 0, None)
    reduce = reduction.merge if state else reduction.first
    return reduce(block, tuple(reach.factor for reach in reaches)[spatial], tuple(margins[spatial]))


def _reduce_dask(array: da.Array, reaches: tuple[Reach, ...], reduction: Reduction, *, state: bool) -> da.Array:
    """Reduce a dask array block by block; blocks are aligned to whole windows first."""
    array = rechunked(array, _aligned_chunks(array, reaches))
    chunks = tuple(
        (*(size // reach.factor for size in blocks[:-1]), -(-(blocks[-1] - reach.tail) // reach.factor))
        for blocks, reach in zip(array.chunks, reaches, strict=True)
    )
    grows = not state and bool(reduction.components)
    if grows:
        chunks = ((reduction.components,), *chunks)
    options: dict[str, Any] = {"reaches": reaches, "reduction": reduction, "state": state}
    overlapping = any(reach.halo for reach in reaches)
    if overlapping:
        options["blocks"] = array.numblocks
        # A single block has no neighbours, and can be smaller than the halo, which dask refuses.
        depth = {axis: reach.halo if array.numblocks[axis] > 1 else 0 for axis, reach in enumerate(reaches)}
        array = da.overlap.overlap(array, depth=depth, boundary="none", allow_rechunk=False)
    return cast(
        "da.Array",
        da.map_blocks(
            _reduce_overlapping if overlapping else _reduce_block,
            array,
            **options,
            chunks=chunks,
            new_axis=[0] if grows else None,
            dtype=reduction.state_dtype,
            meta=np.empty((0,) * len(chunks), reduction.state_dtype),
        ),
    )


def rechunked(array: da.Array, chunks: Any) -> da.Array:
    """Return a dask array in other chunks, without shuffling between workers.

    By default dask would import distributed, to find out whether a cluster could shuffle.
    """
    return cast("da.Array", array.rechunk(chunks, method="tasks"))


def _aligned_chunks(array: da.Array, reaches: Sequence[Reach]) -> tuple[tuple[int, ...], ...]:
    """Return chunks of whole windows, close to the chunks of the array, and not smaller than the halo."""
    merged = 1
    aligned: list[tuple[int, ...]] = []
    nbytes = math.prod(max(blocks) for blocks in array.chunks) * array.dtype.itemsize
    for blocks, reach in zip(array.chunks, reaches, strict=True):
        factor = reach.factor
        longer = factor if nbytes * merged * factor <= SMALLEST_BLOCK else 1
        merged *= longer
        if longer > 1 or any(size % factor for size in blocks[:-1]):
            length = max(max(blocks) * longer // factor, 1) * factor
            ((*blocks,),) = da.core.normalize_chunks(length, (reach.size,))
        aligned.append(_without_short_chunks(blocks, reach))
    return tuple(aligned)


def _without_short_chunks(blocks: Sequence[int], reach: Reach) -> tuple[int, ...]:
    """Return chunks, merged so that none is smaller than the halo or has only samples after the last window."""
    joined: list[int] = []
    for size in blocks:
        if joined and joined[-1] < reach.halo:
            joined[-1] += size
        else:
            joined.append(size)
    if len(joined) > 1 and joined[-1] < max(reach.halo, reach.tail + 1):
        joined[-2:] = [sum(joined[-2:])]
    return tuple(joined)
