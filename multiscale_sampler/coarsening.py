"""One level: a labelled array reduced by integer factors, numpy or dask alike.

Owns the application of a `Reduction` to whole arrays (`first_state`, `merge_state`, `finish_state`) and the
labels of the result. An array follows its kind: numpy is reduced at once, dask stays lazy. Blocks of a dask
array are first aligned to whole windows, so that the bits of a level do not depend on how the input is chunked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr

from .axes import Boundary, coordinate_variable, image_axes, to_image
from .ladder import factors_of_entry
from .plan import Plan, check_choices, plan_ladder
from .reducers import Block, Reducer, Reduction, get_reducer

# Blocks of coarser levels shrink with their factors; below this size neighbours are joined first.
SMALLEST_BLOCK = 16 * 2**20


def coarsen(
    image: Any,
    factors: int | Mapping[str, int],
    *,
    method: str | Reducer = "mean",
    boundary: Boundary = "pad",
    skipna: bool | None = None,
    nodata: Any = None,
) -> xr.DataArray:
    """Reduce an image by integer factors, its coordinates with it.

    Parameters
    ----------
    image
        An image, or an array that `to_image` can label.
    factors
        Voxels per window: an int for the spatial axes of more than one sample, or a mapping by dim.
    method
        Name of a reduction, see `Reducer`.
    boundary
        What becomes of a last, partial window: "pad" reduces the voxels that it has, "trim" leaves it out,
        "exact" refuses it.
    skipna
        Leave NaN out. Default: for floats.
    nodata
        A value to leave out; a window without any other becomes it.

    Returns
    -------
    xarray.DataArray
        Lazy where `image` is, else computed; attrs, name and units kept; dtype kept, but that sums widen as
        numpy's do. Coordinates sit at the windows' centres (for "nearest" at their first voxel).

    Raises
    ------
    ValueError
        If factors, boundary or nodata do not fit the image.
    TypeError
        If the method does not take the dtype.

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
    image = to_image(image)
    check_choices(image, boundary)
    by_axis = factors_of_entry("factors", factors, image_axes(image))
    if all(factor == 1 for factor in by_axis):
        return cast("xr.DataArray", image)
    plan = plan_ladder(image, [by_axis], method=method, boundary=boundary, skipna=skipna, nodata=nodata, workers=1)
    reduction, level = plan.reduction, plan.levels[1]
    state = first_state(image.data, level.factors, reduction, boundary)
    data = finish_state(state, whole_counts(plan, 1), reduction)
    return label_level(image, data, plan, 1)


def whole_counts(plan: Plan, index: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the base samples under every voxel of a level, axis by axis."""
    return plan.counts(index, tuple(slice(0, size) for size in plan.levels[index].shape))


def first_state(array: Any, factors: tuple[int, ...], reduction: Reduction, boundary: Boundary) -> Any:
    """Reduce a whole base array to the state of its windows."""
    array = _trimmed(array, factors, boundary)
    if isinstance(array, np.ndarray):
        return reduction.first(array, factors)
    return _reduced_blocks(array, factors, reduction, state=False)


def merge_state(state: Any, factors: tuple[int, ...], reduction: Reduction, boundary: Boundary) -> Any:
    """Reduce a whole state to that of windows of `factors` of its windows."""
    leading = (1,) if reduction.components else ()
    state = _trimmed(state, (*leading, *factors), boundary)
    if isinstance(state, np.ndarray):
        return reduction.merge(state, factors)
    return _reduced_blocks(state, factors, reduction, state=True)


def finish_state(state: Any, counts: Sequence[np.ndarray[Any, Any]], reduction: Reduction) -> Any:
    """Return the values of a level from its whole state."""
    if isinstance(state, np.ndarray):
        return reduction.finish(state, tuple(counts))
    if not reduction.components:
        return state
    chunks = state.chunks[1:]
    letters = tuple(range(1, len(chunks) + 1))
    arguments: list[Any] = [state, (0, *letters)]
    for letter, along, blocks in zip(letters, counts, chunks, strict=True):
        arguments += [da.from_array(along, chunks=(blocks,)), (letter,)]
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


def _reduce_block(block: Block, *, factors: tuple[int, ...], reduction: Reduction, state: bool) -> Block:
    return reduction.merge(block, factors) if state else reduction.first(block, factors)


def _trimmed(array: Any, factors: Sequence[int], boundary: Boundary) -> Any:
    if boundary != "trim":
        return array
    return array[tuple(slice(0, n // f * f) for n, f in zip(array.shape, factors, strict=True))]


def _reduced_blocks(array: da.Array, factors: tuple[int, ...], reduction: Reduction, *, state: bool) -> da.Array:
    """Reduce a dask array block by block, after aligning its blocks to whole windows."""
    leading = bool(state and reduction.components)
    all_factors = (1, *factors) if leading else factors
    array = array.rechunk(_aligned_chunks(array, all_factors))
    chunks = tuple(
        tuple(-(-size // factor) for size in blocks) for blocks, factor in zip(array.chunks, all_factors, strict=True)
    )
    grows = not state and bool(reduction.components)
    if grows:
        chunks = ((reduction.components,), *chunks)
    return cast(
        "da.Array",
        da.map_blocks(
            _reduce_block,
            array,
            factors=factors,
            reduction=reduction,
            state=state,
            chunks=chunks,
            new_axis=[0] if grows else None,
            dtype=reduction.state_dtype,
            meta=np.empty((0,) * len(chunks), reduction.state_dtype),
        ),
    )


def _aligned_chunks(array: da.Array, factors: Sequence[int]) -> tuple[tuple[int, ...] | int, ...]:
    """Return chunks of whole windows, as near to the array's own as that allows."""
    joined = 1
    aligned: list[tuple[int, ...] | int] = []
    nbytes = math.prod(max(blocks) for blocks in array.chunks) * array.dtype.itemsize
    for blocks, factor in zip(array.chunks, factors, strict=True):
        longer = factor if nbytes * joined * factor <= SMALLEST_BLOCK else 1
        joined *= longer
        if longer == 1 and all(size % factor == 0 for size in blocks[:-1]):
            aligned.append(blocks)
        else:
            aligned.append(max(max(blocks) * longer // factor, 1) * factor)
    return tuple(aligned)


def label_level(image: xr.DataArray, data: Any, plan: Plan, index: int) -> xr.DataArray:
    """Label the values of a level as the base image is labelled: name, attrs, coordinates, units."""
    level = plan.levels[index]
    coords: dict[Any, xr.Variable] = {}
    for axis in level.axes:
        attrs = image.coords[axis.name].attrs if axis.name in image.coords else {}
        coords[axis.name] = coordinate_variable(axis, attrs)
    for name, coordinate in image.coords.items():
        if name not in image.dims:
            coords[name] = _coarsened_coordinate(coordinate, plan, level.factors)
    return xr.DataArray(data, coords=coords, dims=plan.dims, name=image.name, attrs=image.attrs)


def _coarsened_coordinate(coordinate: xr.DataArray, plan: Plan, factors: tuple[int, ...]) -> xr.Variable:
    """Return a coordinate that is not a dimension's, reduced as the positions of the dimensions are."""
    by_dim = {dim: factor for dim, factor in zip(plan.dims, factors, strict=True) if dim in coordinate.dims}
    windows = {dim: factor for dim, factor in by_dim.items() if factor > 1}
    if not windows:
        return coordinate.variable
    if plan.reducer.position == "first":
        sizes = {axis.name: axis.size for axis in plan.levels[0].axes}
        whole = {
            dim: slice(0, sizes[dim] // f * f if plan.boundary == "trim" else None, f) for dim, f in windows.items()
        }
        return coordinate.variable.isel(whole)
    if coordinate.dtype.kind not in "iuf":
        raise ValueError(
            f"the coordinate {coordinate.name!r} ({coordinate.dtype}) cannot be averaged over {sorted(windows)!r}; "
            f"use method='nearest', or leave it out with image.drop_vars({coordinate.name!r})"
        )
    return xr.Variable(coordinate.dims, _window_means(coordinate, by_dim, plan.boundary), coordinate.attrs)


def _window_means(coordinate: xr.DataArray, factors: Mapping[Any, int], boundary: Boundary) -> Block:
    along = tuple(factors[dim] for dim in coordinate.dims)
    mean = get_reducer("mean").bind(np.float64)
    state = first_state(np.asarray(coordinate.values, np.float64), along, mean, boundary)
    return mean.finish(state, ())
