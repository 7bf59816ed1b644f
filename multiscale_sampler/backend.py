"""The engine "multiscale" of xarray, which opens OME-Zarr images by `open_pyramid`.

Values are passed to xarray as stored arrays, not as dask arrays: xarray's own options decide whether and how they are
chunked and cached.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from .image.tree import NODE_PREFIX, levels_of_tree
from .image.xarray_internals import lazily_read
from .store import open_pyramid, source_array


class MultiscaleBackendEntrypoint(BackendEntrypoint):
    """Open OME-Zarr images from any tool, in any version of OME-NGFF, with coordinates and units.

    xarray never chooses this engine from the name of a store; request it by ``engine="multiscale"``. Its options are
    ``group``, the path of an image in the store (as in "labels/nuclei") or of a node of the image's tree ("scale1",
    "labels/nuclei/scale1"), which becomes the root; ``storage_options``, those of the file system of a URL; and in
    ``xarray.open_dataset`` ``level``, the number of the level, by default 0.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.ones((64, 64), "uint8"), scale=0.5, units="micrometer")
    >>> ms.write_pyramid(image, "p.zarr", scale_factors=[2, 4])
    >>> xr.open_dataset("p.zarr", engine="multiscale", level=2).x.values[:3]
    array([0.75, 2.75, 4.75])
    """

    description = "Open OME-Zarr image pyramids from any tool, with coordinates and units"
    supports_groups = True

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        level: int = 0,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open one level.

        Raises
        ------
        ValueError
            If the level does not exist, the store does not contain a pyramid, or both `group` and `level` select a
            level.
        """
        tree = _open_tree(filename_or_obj, group, storage_options)
        number = operator.index(level)
        if tree.has_data:
            if number:
                raise ValueError(f"level={level!r} and group={group!r} both select a level; give only one of them")
            return _as_stored(tree.to_dataset(), drop_variables)
        count = len(levels_of_tree(tree))
        if not 0 <= number < count:
            raise ValueError(f"level={level!r} does not exist; choose one from 0 to {count - 1}")
        return _as_stored(tree[f"{NODE_PREFIX}{number}"].to_dataset(), drop_variables)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.DataTree:
        """Open all levels, as the nodes ``/scale0``, ``/scale1``, ..., and the labels below ``/labels``."""
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, group=group, storage_options=storage_options
        )
        return xr.DataTree.from_dict(groups)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> dict[str, xr.Dataset]:
        """Open all levels, as a dict by the path of their nodes."""
        tree = _open_tree(filename_or_obj, group, storage_options)
        return {node.path: _as_stored(node.to_dataset(inherit=False), drop_variables) for node in tree.subtree}


def _open_tree(store: Any, group: str | None, storage_options: Mapping[str, Any] | None) -> xr.DataTree:
    """Open the pyramid at a path in a store, or the node at that path in the tree of the store's own pyramid."""
    path = (group or "").strip("/")
    try:
        return open_pyramid(store, path or None, storage_options=storage_options)
    except (FileNotFoundError, ValueError) as error:
        if not path:
            raise
        try:
            node = open_pyramid(store, storage_options=storage_options)[path]
        except (FileNotFoundError, ValueError, KeyError):
            raise error from None
        if not isinstance(node, xr.DataTree):
            raise
    return xr.DataTree.from_dict({each.relative_to(node): each.to_dataset() for each in node.subtree})


def _as_stored(level: xr.Dataset, drop_variables: str | Iterable[str] | None) -> xr.Dataset:
    """Return a level without some variables, with xarray's lazy arrays instead of dask arrays of stored values."""
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    level = level.drop_vars(dropped, errors="ignore")
    stored = {}
    for name, image in level.data_vars.items():
        array = source_array(image.data)
        if array is not None:
            stored[name] = xr.Variable(image.dims, lazily_read(array), image.attrs, image.encoding)
    return level.assign(stored)
