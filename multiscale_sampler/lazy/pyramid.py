"""`to_multiscale`, which returns all levels as a lazy xarray DataTree, and `reconstruct`, its inverse for bands.

The tree has one node per level, ``/scale0``, ``/scale1``, ..., each with the image under its own name, as in
multiscale-spatial-image and ngff-zarr. The attribute ``multiscale`` of the root has the options of the levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from ..image.axes import Boundary
from ..image.boxes import Block
from ..image.dataarray import image_and_axes, image_axes
from ..image.encodings import encoding_of_blocks, encoding_without_shapes
from ..image.tree import NODE_PREFIX, RECIPE_ATTRIBUTE, assemble, levels_of_tree
from ..methods import BandReduction, Reduction
from ..methods.reducers import Method, get_reducer
from ..plan.factors import ChunkSizes, ChunkSizesByLevel, ScaleFactors
from ..plan.notes import warn_of_distortion
from ..plan.options import LevelOptions, StorageOptions
from ..plan.plan import Plan
from ..plan.planning import plan_image
from .coarsening import base_state, finish_state, merge_state, rechunked, whole_counts
from .labelling import label_base, label_level


def to_multiscale(
    image: Any,
    scale_factors: ScaleFactors = "isotropic",
    method: Method | Mapping[str, Method] = "mean",
    chunks: ChunkSizesByLevel | None = None,
    *,
    boundary: Boundary = "pad",
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    skipna: bool | None = None,
    nodata: Any = "stated",
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
) -> xr.DataTree:
    """Return the pyramid of an image as a lazy DataTree.

    No data are read or computed before a level is; computing a level does not compute coarser ones.

    Parameters
    ----------
    image
        An image, an array that `to_image` can label, or a Dataset of images over common axes.
    method
        As in `plan_pyramid`; for a Dataset, one method for all variables, or a mapping with one for each.
    scale_factors, boundary, max_levels, min_size, skipna, nodata, min_valid, weights
        As in `plan_pyramid`.
    chunks
        Dask chunks of every level: an int for the spatial axes, a mapping by dim, or one per axis; or a mapping from
        numbers of levels to these, as in `plan_pyramid`. Default: those of the image, for numpy arrays 64 along each
        axis in 3-D and 512 in 2-D, and similar ones for coarser levels.

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
    options = replace(options, method=method)
    options.warn_of_averages(image)
    plan = plan_image(image, axes, options, storage)
    warn_of_distortion(plan)
    return _tree_of_plan(image, plan, options, storage)


def _tree_of_plan(image: xr.DataArray, plan: Plan, options: LevelOptions, storage: StorageOptions) -> xr.DataTree:
    levels = levels_of_plan(image, plan, rechunk=storage.chunks is not None, weights=options.weights)
    recipe = LevelOptions.of_plan(plan).recipe()
    return assemble([level.to_dataset(name=level.name) for level in levels], recipe)


def _tree_of_dataset(
    dataset: xr.Dataset, methods: Mapping[Any, Method], options: LevelOptions, storage: StorageOptions
) -> xr.DataTree:
    """Return the pyramids of all variables in one tree, with the factors of the variable with the most dims."""
    first, *others = sorted(dataset.data_vars, key=lambda name: -dataset[name].ndim)
    shaped = replace(options, method=methods[first])
    image, axes = image_and_axes(dataset[first])
    plan = plan_image(image, axes, shaped, storage)
    warn_of_distortion(plan)
    trees = {first: _tree_of_plan(image, plan, shaped, storage)}
    recipe = trees[first].attrs[RECIPE_ATTRIBUTE]
    # `scale_factors` lists the levels of the first variable, so the rules that chose them must not apply again.
    listed = replace(options, max_levels=None, min_size=None)
    for name in others:
        factors = [{d: f for d, f in by.items() if d in dataset[name].dims} for by in recipe["scale_factors"]]
        shaped = replace(listed, scale_factors=factors, method=methods[name])
        image, axes = image_and_axes(dataset[name])
        trees[name] = _tree_of_plan(image, plan_image(image, axes, shaped, storage), shaped, storage)
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
        raise ValueError(
            f"method={dict(method)!r} must name the variables {list(names)!r}; give one method for each of them"
        )
    return dict(method)


def levels_of_plan(
    image: xr.DataArray, plan: Plan, *, rechunk: bool, weights: xr.DataArray | None = None
) -> list[xr.DataArray]:
    """Return the lazy levels of a plan, the base first; with `rechunk`, in the chunks of the plan."""
    chunks = plan.levels[0].chunks
    if image.chunks is None:
        base = image.chunk(dict(zip(plan.dims, chunks, strict=True)))
    else:
        base = image.copy(data=rechunked(image.data, chunks) if rechunk else image.data)
    base.encoding = encoding_without_shapes(image.encoding) if rechunk else encoding_of_blocks(base)
    base = label_base(base, plan.levels[0].axes)
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
    """Return the states of the values of all levels, including level 0, relative to the next level."""
    known = {0: lift(base, plan.reduction), **states}
    return {
        index: relative(state, known[index + 1], plan.relative_factors(index + 1, index), plan.reduction)
        if index + 1 in known
        else state
        for index, state in known.items()
    }


def reconstruct(tree: xr.DataTree) -> xr.DataArray:
    """Return the base of a Laplacian pyramid: the sum of its bands, expanded level by level.

    Parameters
    ----------
    tree
        A tree from `to_multiscale` with ``method="laplacian"``, or from `open_pyramid` of such a store. Bands may be
        changed, for example to sharpen or to smooth the image.

    Returns
    -------
    xarray.DataArray
        Lazy floats. Rounding gives integers of up to 32 bits exactly; floats differ by a few rounding errors.

    Raises
    ------
    ValueError
        If the sizes and spacings of the levels are not related by integer factors.
    TypeError
        If the levels are not floats.

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
        raise TypeError(f"levels of dtype {str(levels[0].dtype)!r} are not bands; create them with method='laplacian'")
    reduction = cast("BandReduction", get_reducer("laplacian").bind(levels[0].dtype))
    states = [lift(level.chunk().data, reduction) for level in levels]
    state = states.pop()
    for index in reversed(range(len(states))):
        factors = _factors_between(levels[index], levels[index + 1])
        state = add_band(states[index], state, factors, reduction)
    counts = [np.ones(size, np.int64) for size in levels[0].shape]
    return levels[0].copy(data=finish_state(state, counts, reduction))


def _factors_between(finer: xr.DataArray, coarser: xr.DataArray) -> list[int]:
    """Return the factor between two levels for each axis, from their spacings or sizes."""
    factors = []
    for a, b in zip(image_axes(finer), image_axes(coarser), strict=True):
        factor = round(b.scale / a.scale) if a.is_regular and b.is_regular else round(a.size / b.size)
        if factor < 1 or b.size not in (a.size // factor, -(-a.size // factor)):
            raise ValueError(
                f"a level with {b.size!r} samples along {a.name!r} and spacing {b.scale!r} cannot be the next one "
                f"after {a.size!r} samples with spacing {a.scale!r}; pass all levels of one pyramid, in order"
            )
        factors.append(factor)
    return factors


# A sample lies between two of the next level, one of which can be in the neighbouring block.
DEPTH = 1


def lift(array: da.Array, reduction: Reduction) -> da.Array:
    """Return the base as a state, with windows of one voxel."""
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
    """Return the state of the values of a level from its own state and that of the next level."""
    return _map_with_coarser(state, coarser, factors, reduction.relative)


def add_band(state: da.Array, coarser: da.Array, factors: Sequence[int], reduction: BandReduction) -> da.Array:
    """Return the state of a level from the states of its band and of the next level; the inverse of `relative`."""
    return _map_with_coarser(state, coarser, factors, reduction.add_band)


def _map_with_coarser(state: da.Array, coarser: da.Array, factors: Sequence[int], rule: Any) -> da.Array:
    """Apply a rule to each block of the state of a level and the block of the next level that covers it."""
    blocks = [state.chunks[0]]
    for size, sizes, factor in zip(state.shape[1:], coarser.chunks[1:], factors, strict=True):
        inner = [length * factor for length in sizes[:-1]]
        blocks.append((*inner, size - sum(inner)))
    aligned = rechunked(state, tuple(blocks))
    depth = {axis: DEPTH if count > 1 else 0 for axis, count in enumerate(coarser.numblocks)}
    return cast(
        "da.Array",
        da.map_blocks(
            _apply_with_coarser,
            aligned,
            da.overlap.overlap(coarser, depth=depth, boundary="none", allow_rechunk=False),
            rule=rule,
            factors=tuple(factors),
            chunks=aligned.chunks,
            dtype=state.dtype,
            meta=np.empty((0,) * state.ndim, state.dtype),
        ),
    )


def _apply_with_coarser(
    state: Block, coarser: Block, *, rule: Any, factors: tuple[int, ...], block_id: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    offsets = [factor * DEPTH if index else 0 for factor, index in zip(factors, block_id[1:], strict=True)]
    return cast("npt.NDArray[Any]", rule(state, coarser, factors, offsets))
