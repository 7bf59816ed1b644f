"""All levels: image and plan to a lazy xarray DataTree.

The tree has one node per level, ``/scale0``, ``/scale1``, ..., each with the image under its own name: the
arrangement of multiscale-spatial-image and ngff-zarr, and what `write_pyramid` stores. Building it computes
nothing. The tree remembers how it was made in the attribute ``multiscale`` of its root.
"""

from __future__ import annotations

from typing import Any

import xarray as xr
from dask.utils import format_bytes

from .axes import Boundary, image_axes, to_image
from .coarsening import finish_state, first_state, label_level, merge_state, whole_counts
from .ladder import ChunkSizes, ScaleFactors
from .plan import Plan, plan_pyramid, table
from .reducers import Reducer

NODE_PREFIX = "scale"
RECIPE_ATTRIBUTE = "multiscale"


def to_multiscale(
    image: Any,
    scale_factors: ScaleFactors = 2,
    method: str | Reducer = "mean",
    chunks: ChunkSizes | None = None,
    *,
    boundary: Boundary = "pad",
    max_levels: int | None = None,
    min_size: ChunkSizes | None = None,
    skipna: bool | None = None,
    nodata: Any = None,
) -> xr.DataTree:
    """Build the pyramid of an image as a lazy DataTree.

    Nothing is read or computed until a level is; computing one level computes no coarser one.

    Parameters
    ----------
    image
        An image, or an array that `to_image` can label.
    scale_factors, method, boundary, max_levels, min_size, skipna, nodata
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
    image = to_image(image)
    plan = plan_pyramid(
        image,
        scale_factors,
        method=method,
        boundary=boundary,
        max_levels=max_levels,
        min_size=min_size,
        chunks=chunks,
        skipna=skipna,
        nodata=nodata,
        workers=1,
    )
    return tree_of_plan(image, plan, rechunk=chunks is not None)


def tree_of_plan(image: xr.DataArray, plan: Plan, *, rechunk: bool) -> xr.DataTree:
    """Return the lazy tree that a plan describes; with `rechunk`, in the plan's chunks."""
    chunks = dict(zip(plan.dims, plan.levels[0].chunks, strict=True))
    base = image.chunk(chunks) if image.chunks is None or rechunk else image
    reduction = plan.reduction
    states: dict[int, Any] = {}
    levels = [base]
    for level in plan.levels[1:]:
        factors = plan.relative_factors(level.index, level.parent)
        if level.parent == 0:
            states[level.index] = first_state(base.data, factors, reduction, plan.boundary)
        else:
            states[level.index] = merge_state(states[level.parent], factors, reduction, plan.boundary)
        data = finish_state(states[level.index], whole_counts(plan, level.index), reduction)
        data = data.rechunk(level.chunks) if rechunk else data
        levels.append(label_level(image, data, plan, level.index))
    return assemble(levels, recipe_of(plan))


def assemble(levels: list[xr.DataArray], recipe: dict[str, Any] | None = None) -> xr.DataTree:
    """Return levels as a tree: one node each, the image under its own name."""
    nodes = {f"/{NODE_PREFIX}{index}": level.to_dataset(name=level.name) for index, level in enumerate(levels)}
    tree = xr.DataTree.from_dict(nodes)
    if recipe is not None:
        tree.attrs[RECIPE_ATTRIBUTE] = recipe
    return tree


def recipe_of(plan: Plan) -> dict[str, Any]:
    """Return how a pyramid was made, as plain values that survive a round trip through JSON."""
    factors = [dict(zip(plan.dims, level.factors, strict=True)) for level in plan.levels[1:]]
    return {
        "method": plan.reducer.name,
        "boundary": plan.boundary,
        "scale_factors": factors,
        "skipna": plan.skipna,
        "nodata": plan.nodata,
    }


def levels_of_tree(tree: xr.DataTree) -> list[xr.DataArray]:
    """Return the images of a tree's levels, the base first.

    Raises
    ------
    ValueError
        If the tree has no nodes ``scale0``, ``scale1``, ..., or a node does not hold exactly one image.
    """
    levels: list[xr.DataArray] = []
    while (node := f"{NODE_PREFIX}{len(levels)}") in tree.children:
        variables = list(tree[node].data_vars.values())
        if len(variables) != 1:
            raise ValueError(
                f"node {node!r} holds {len(variables)!r} variables; a level is one image, drop the others first"
            )
        levels.append(variables[0])
    if not levels:
        raise ValueError(
            f"the tree has the nodes {list(tree.children)!r}, but no 'scale0'; build one with to_multiscale"
        )
    return levels


def describe_levels(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Return what each level of a tree is, as plain values: shape, dtype, chunks, spacing, position, unit."""
    described = []
    for index, level in enumerate(levels_of_tree(tree)):
        axes = image_axes(level)
        chunks = level.encoding.get("chunks") or level.data.chunksize
        described.append(
            {
                "level": index,
                "dims": [axis.name for axis in axes],
                "shape": list(level.shape),
                "dtype": str(level.dtype),
                "chunks": list(chunks),
                "scale": [axis.scale if axis.is_regular else None for axis in axes],
                "translation": [axis.translation if axis.is_regular else None for axis in axes],
                "units": [axis.unit for axis in axes],
                "nbytes": level.nbytes,
            }
        )
    return described


def format_levels(levels: list[dict[str, Any]]) -> str:
    """Return the description of levels as a table."""
    columns = ("level", "shape", "dtype", "chunks", "scale", "translation", "units", "size")
    rows: list[tuple[str, ...]] = [columns]
    for level in levels:
        shown = {key: _cell(value) for key, value in level.items()} | {"size": format_bytes(level["nbytes"])}
        if len(set(level["units"])) == 1:
            shown["units"] = level["units"][0] or "-"
        rows.append(tuple(shown[column] for column in columns))
    return "\n".join([f"dims {' '.join(levels[0]['dims'])}", *table(rows)])


def _cell(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    texts = ["-" if item is None else f"{item:g}" if isinstance(item, float) else str(item) for item in value]
    return " ".join(texts)
