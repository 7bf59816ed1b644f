"""All levels: image and plan to a lazy xarray DataTree.

The tree has one node per level, ``/scale0``, ``/scale1``, ..., each with the image under its own name: the
arrangement of multiscale-spatial-image and ngff-zarr, and what `write_pyramid` stores. Building it computes
nothing. The tree remembers how it was made in the attribute ``multiscale`` of its root. Levels of a Laplacian pyramid
are made from pairs of neighbouring levels, by the same rule for numpy and dask arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from ..image.axes import Axis, Boundary
from ..image.boxes import Block
from ..image.dataarray import image_and_axes, image_axes
from ..image.tree import NODE_PREFIX, RECIPE_ATTRIBUTE, assemble, levels_of_tree
from ..methods import BandReduction, Reduction
from ..methods.reducers import Method, get_reducer
from ..plan.factors import ChunkSizes, ScaleFactors
from ..plan.options import LevelOptions, StorageOptions
from ..plan.plan import Plan
from ..plan.planning import plan_image
from .coarsening import base_state, finish_state, label_level, merge_state, rechunked, whole_counts


def to_multiscale(
    image: Any,
    scale_factors: ScaleFactors = 2,
    method: Method | Mapping[str, Method] = "mean",
    chunks: ChunkSizes | None = None,
    *,
    boundary: Boundary = "pad",
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    skipna: bool | None = None,
    nodata: Any = None,
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
) -> xr.DataTree:
    """Build the pyramid of an image as a lazy DataTree.

    Nothing is read or computed until a level is; computing one level computes no coarser one.

    Parameters
    ----------
    image
        An image, an array that `to_image` can label, or a Dataset of images over common axes.
    method
        As in `plan_pyramid`; for a Dataset, one for all variables or a mapping with one for each.
    scale_factors, boundary, max_levels, min_size, skipna, nodata, min_valid, weights
        As in `plan_pyramid`.
    chunks
        Dask chunks of every level: an int for the spatial axes, a mapping by dim, or one per axis. Default: the
        image's own, numpy arrays 64 per axis in 3-D and 512 in 2-D, and near to them at coarser levels.

    Returns
    -------
    xarray.DataTree
        Nodes ``/scale0`` (the image) to the coarsest level, with coordinates, attrs, units and name.

    Raises
    ------
    ValueError, TypeError
        As `plan_pyramid`.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> tree = ms.to_multiscale(np.ones((64, 64), "uint8"), [2, 4])
    >>> tree["scale2/image"].sizes
    Frozen({'y': 16, 'x': 16})
    """
    options = LevelOptions(
        scale_factors=scale_factors,
        boundary=boundary,
        max_levels=max_levels,
        min_size=min_size,
        skipna=skipna,
        nodata=nodata,
        min_valid=min_valid,
        weights=weights,
    )
    storage = StorageOptions(chunks=chunks, workers=1)
    if isinstance(image, xr.Dataset) and len(image.data_vars) > 1:
        return _tree_of_dataset(image, _method_of_each(list(image.data_vars), method), options, storage)
    image, axes = image_and_axes(image)
    method = _method_of_each([image.name], method)[image.name]
    return _tree_of_image(image, axes, replace(options, method=method), storage)


def _tree_of_image(
    image: xr.DataArray, axes: tuple[Axis, ...], options: LevelOptions, storage: StorageOptions
) -> xr.DataTree:
    plan = plan_image(image, axes, options, storage)
    levels = levels_of_plan(image, plan, rechunk=storage.chunks is not None, weights=options.weights)
    recipe = LevelOptions.of_plan(plan).recipe()
    return assemble([level.to_dataset(name=level.name) for level in levels], recipe)


def _tree_of_dataset(
    dataset: xr.Dataset, methods: Mapping[Any, Method], options: LevelOptions, storage: StorageOptions
) -> xr.DataTree:
    """Return the pyramids of all variables in one tree; the one with the most dims decides on the levels."""
    first, *others = sorted(dataset.data_vars, key=lambda name: -dataset[name].ndim)
    trees = {first: _tree_of_image(*image_and_axes(dataset[first]), replace(options, method=methods[first]), storage)}
    recipe = trees[first].attrs[RECIPE_ATTRIBUTE]
    # The levels are decided: what decided on them is not to do so again.
    decided = replace(options, max_levels=None, min_size=None)
    for name in others:
        factors = [{d: f for d, f in by.items() if d in dataset[name].dims} for by in recipe["scale_factors"]]
        shaped = replace(decided, scale_factors=factors, method=methods[name])
        trees[name] = _tree_of_image(*image_and_axes(dataset[name]), shaped, storage)
    levels = []
    for index in range(len(trees[first].children)):
        nodes = [tree[f"{NODE_PREFIX}{index}"].to_dataset() for tree in trees.values()]
        try:
            levels.append(xr.merge(nodes, join="exact", combine_attrs="drop_conflicts", compat="equals"))
        except ValueError as error:
            raise ValueError(
                f"the values of methods {sorted(map(str, methods.values()))!r} sit at different positions in their "
                "windows; build one tree for each"
            ) from error
    return assemble(levels, {**recipe, "method": {str(name): get_reducer(by).name for name, by in methods.items()}})


def _method_of_each(names: Sequence[Any], method: Method | Mapping[str, Method]) -> dict[Any, Method]:
    if not isinstance(method, Mapping):
        return dict.fromkeys(names, method)
    if set(method) != set(names):
        raise ValueError(f"method={dict(method)!r} must name the variables {list(names)!r}, each of them and no other")
    return dict(method)


def levels_of_plan(
    image: xr.DataArray, plan: Plan, *, rechunk: bool, weights: xr.DataArray | None = None
) -> list[xr.DataArray]:
    """Return the lazy levels that a plan describes, the base first; with `rechunk`, in the plan's chunks."""
    chunks = plan.levels[0].chunks
    if image.chunks is None:
        base = image.chunk(dict(zip(plan.dims, chunks, strict=True)))
    else:
        base = image.copy(data=rechunked(image.data, chunks)) if rechunk else image
    reduction = plan.reduction
    states: dict[int, Any] = {}
    levels = [base]
    for level in plan.levels[1:]:
        factors = plan.relative_factors(level.index, level.parent)
        if level.parent == 0:
            states[level.index] = base_state(base, factors, reduction, plan.boundary, weights)
        else:
            states[level.index] = merge_state(states[level.parent], factors, reduction, plan.boundary)
    if reduction.makes_base:
        states = _relative_states(plan, base.data, states)
        levels = []
    for index, state in sorted(states.items()):
        data = finish_state(state, whole_counts(plan, index), reduction)
        data = rechunked(data, plan.levels[index].chunks) if rechunk else data
        levels.append(label_level(image, data, plan, index))
    return levels


def _relative_states(plan: Plan, base: Any, states: Mapping[int, Any]) -> dict[int, Any]:
    """Return the states of the values of all levels, level 0 included, from those of the levels."""
    known = {0: lift(base, plan.reduction), **states}
    return {
        index: relative(state, known[index + 1], plan.relative_factors(index + 1, index), plan.reduction)
        if index + 1 in known
        else state
        for index, state in known.items()
    }


def reconstruct(tree: xr.DataTree) -> xr.DataArray:
    """Add up the bands of a Laplacian pyramid, each expanded to the grid of the one before: its base again.

    Parameters
    ----------
    tree
        What `to_multiscale` makes by ``method="laplacian"``, or `open_pyramid` of such a store. Bands may have been
        changed, as to sharpen or to smooth the image.

    Returns
    -------
    xarray.DataArray
        Lazy; floats. Integers of up to 32 bits come back exactly when they are rounded, floats up to a few roundings
        of their sum.

    Raises
    ------
    ValueError
        If the levels do not follow from each other by integer factors.
    TypeError
        If they are no floats.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = np.arange(64, dtype="uint8").reshape(8, 8)
    >>> tree = ms.to_multiscale(image, [2, 4], method="laplacian")
    >>> bool((ms.reconstruct(tree).round() == image).all())
    True
    """
    levels = levels_of_tree(tree)
    if levels[0].dtype.kind not in "fc":
        raise TypeError(f"levels of dtype {str(levels[0].dtype)!r} are no bands; make them by method='laplacian'")
    reduction = cast("BandReduction", get_reducer("laplacian").bind(levels[0].dtype))
    states = [lift(level.chunk().data, reduction) for level in levels]
    whole = states.pop()
    for index in reversed(range(len(states))):
        factors = _factors_between(levels[index], levels[index + 1])
        whole = add_band(states[index], whole, factors, reduction)
    counts = [np.ones(size, np.int64) for size in levels[0].shape]
    return levels[0].copy(data=finish_state(whole, counts, reduction))


def _factors_between(finer: xr.DataArray, coarser: xr.DataArray) -> list[int]:
    """Return how many samples of a level lie in a window of the next, axis by axis, from where they sit."""
    factors = []
    for a, b in zip(image_axes(finer), image_axes(coarser), strict=True):
        factor = round(b.scale / a.scale) if a.is_regular and b.is_regular else round(a.size / b.size)
        if factor < 1 or b.size not in (a.size // factor, -(-a.size // factor)):
            raise ValueError(
                f"{b.size!r} samples of {a.name!r} with a spacing of {b.scale!r} are no windows of {a.size!r} with a "
                f"spacing of {a.scale!r}; these levels do not follow from each other"
            )
        factors.append(factor)
    return factors


# A sample lies between two of the next level, of which one may be in the neighbouring block.
DEPTH = 1


def lift(array: da.Array, reduction: Reduction) -> da.Array:
    """Return a base as a state."""
    return cast(
        "da.Array",
        da.map_blocks(
            reduction.lift,
            array,
            chunks=((reduction.components,), *array.chunks),
            new_axis=[0],
            dtype=reduction.state_dtype,
            meta=np.empty((0,) * (array.ndim + 1), reduction.state_dtype),
        ),
    )


def relative(state: da.Array, coarser: da.Array, factors: Sequence[int], reduction: Reduction) -> da.Array:
    """Return the state of a level's values from its own and the next one's."""
    return _joined(state, coarser, factors, reduction.relative)


def add_band(state: da.Array, coarser: da.Array, factors: Sequence[int], reduction: BandReduction) -> da.Array:
    """Return the state of a level from its band's and the next level's: what `relative` took off it is put back."""
    return _joined(state, coarser, factors, reduction.add_band)


def _joined(state: da.Array, coarser: da.Array, factors: Sequence[int], rule: Any) -> da.Array:
    """Apply a rule to the blocks of a level's state and those of the next one that they lie under."""
    blocks = [state.chunks[0]]
    for size, along, factor in zip(state.shape[1:], coarser.chunks[1:], factors, strict=True):
        inner = [length * factor for length in along[:-1]]
        blocks.append((*inner, size - sum(inner)))
    aligned = rechunked(state, tuple(blocks))
    depth = {axis: DEPTH if count > 1 else 0 for axis, count in enumerate(coarser.numblocks)}
    return cast(
        "da.Array",
        da.map_blocks(
            _join_blocks,
            aligned,
            da.overlap.overlap(coarser, depth=depth, boundary="none", allow_rechunk=False),
            rule=rule,
            factors=tuple(factors),
            chunks=aligned.chunks,
            dtype=state.dtype,
            meta=np.empty((0,) * state.ndim, state.dtype),
        ),
    )


def _join_blocks(
    state: Block, coarser: Block, *, rule: Any, factors: tuple[int, ...], block_id: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    offsets = [factor * DEPTH if place else 0 for factor, place in zip(factors, block_id[1:], strict=True)]
    return cast("npt.NDArray[Any]", rule(state, coarser, factors, offsets))
