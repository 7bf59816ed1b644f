"""How a pyramid is arranged as a DataTree, and read back from one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from dask.utils import format_bytes

from ..messages import table
from .dataarray import image_axes

NODE_PREFIX = "scale"


RECIPE_ATTRIBUTE = "multiscale"


def assemble(levels: Sequence[xr.Dataset], recipe: dict[str, Any] | None = None) -> xr.DataTree:
    """Return levels as a tree, one node each."""
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
        If the tree has no nodes ``scale0``, ``scale1``, ..., or a node does not hold exactly one image.
    """
    levels: list[xr.DataArray] = []
    while (node := f"{NODE_PREFIX}{len(levels)}") in tree.children:
        variables = list(tree[node].data_vars.values())
        if len(variables) != 1:
            raise ValueError(
                f"node {node!r} holds {len(variables)!r} variables, and a level is one image; take the others away, "
                "as in tree.map_over_datasets(lambda level: level.drop_vars('labels', errors='ignore'))"
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
        # Of levels in memory, or as xarray reads them, all is one chunk.
        blocks = level.shape if level.chunks is None else tuple(map(max, level.chunks))
        chunks = level.encoding.get("chunks") or blocks
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
