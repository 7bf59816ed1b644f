"""The arrangement of a pyramid as a DataTree: a node ``scale0``, ``scale1``, ... for each level, with its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from dask.utils import format_bytes

from ..messages import table
from .dataarray import image_axes
from .encodings import stored_shape

NODE_PREFIX = "scale"
# The attribute of a tree's root that says how its levels were made.
RECIPE_ATTRIBUTE = "multiscale"


def assemble(levels: Sequence[xr.Dataset], recipe: dict[str, Any] | None = None) -> xr.DataTree:
    """Return a tree with one node for each level."""
    nodes = {f"/{NODE_PREFIX}{index}": level for index, level in enumerate(levels)}
    tree = xr.DataTree.from_dict(nodes)
    if recipe is not None:
        tree.attrs[RECIPE_ATTRIBUTE] = recipe
    return tree


def levels_of_tree(tree: xr.DataTree) -> list[xr.DataArray]:
    """Return the images of a tree's levels, the base first.

    Raises
    ------
    ValueError
        If the tree has no node ``scale0``, or a node does not contain exactly one variable.
    """
    levels: list[xr.DataArray] = []
    while (node := f"{NODE_PREFIX}{len(levels)}") in tree.children:
        variables = list(tree[node].data_vars.values())
        if len(variables) != 1:
            raise ValueError(
                f"node {node!r} has {len(variables)!r} variables, but a level is one image; remove the others, "
                "as in tree.map_over_datasets(lambda level: level.drop_vars('labels', errors='ignore'))"
            )
        levels.append(variables[0])
    if not levels:
        raise ValueError(
            f"the tree has the nodes {list(tree.children)!r}, but no 'scale0'; build one with to_multiscale"
        )
    return levels


def describe_levels(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Return the shape, dtype, chunks, spacing, position and units of each level, as values for JSON."""
    described = []
    for index, level in enumerate(levels_of_tree(tree)):
        axes = image_axes(level)
        # A level in memory, or one that xarray reads lazily, is one block.
        blocks = level.shape if level.chunks is None else tuple(map(max, level.chunks))
        chunks = stored_shape(level, "chunks") or blocks
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
        cells = {key: _cell_text(value) for key, value in level.items()} | {"size": format_bytes(level["nbytes"])}
        if len(set(level["units"])) == 1:
            cells["units"] = level["units"][0] or "-"
        rows.append(tuple(cells[column] for column in columns))
    return "\n".join([f"dims {' '.join(levels[0]['dims'])}", *table(rows)])


def _cell_text(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    texts = ["-" if item is None else f"{item:g}" if isinstance(item, float) else str(item) for item in value]
    return " ".join(texts)
