"""The engine "multiscale" of xarray: anybody's OME-Zarr image through ``xarray.open_datatree`` and ``open_dataset``.

A binding of `open_pyramid`, which gives the labels. The values are handed over as they are stored, not as dask
arrays: whether and how they are chunked and cached is what xarray's own options say.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from .image.tree import NODE_PREFIX, levels_of_tree
from .image.xarray_internals import lazily_read
from .store import open_pyramid, source_array, storage_unit


class MultiscaleBackendEntrypoint(BackendEntrypoint):
    """Opens OME-Zarr images of any writer and version, with coordinates and units.

    The options that it takes beside xarray's: ``group``, the path of the image in the store (as "labels/nuclei"), or of
    a node of its tree ("scale1", "labels/nuclei/scale1"), which becomes the root; ``storage_options`` of the file
    system, with a URL, and for one level ``level``, by default 0. It is never guessed
    from the name of a store, which may hold anything: it must be asked for by ``engine="multiscale"``.

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

    description = "Open OME-Zarr image pyramids of any writer, with coordinates and units"
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
            If the pyramid has no such level, or there is no pyramid.
        """
        tree = _opened(filename_or_obj, group, storage_options)
        number = operator.index(level)
        if tree.has_data:
            if number:
                raise ValueError(f"level={level!r} and group={group!r} each name a level; leave one of them out")
            return _as_stored(tree.to_dataset(), drop_variables)
        count = len(levels_of_tree(tree))
        if not 0 <= number < count:
            raise ValueError(f"level={level!r} is none of this pyramid, which has the levels 0 to {count - 1}")
        return _as_stored(tree[f"{NODE_PREFIX}{number}"].to_dataset(), drop_variables)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.DataTree:
        """Open all levels, as nodes ``/scale0``, ``/scale1``, ..., and those of labels below ``/labels``."""
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
        """Open all levels, by the paths of their nodes."""
        tree = _opened(filename_or_obj, group, storage_options)
        return {node.path: _as_stored(node.to_dataset(inherit=False), drop_variables) for node in tree.subtree}


def _opened(store: Any, group: str | None, storage_options: Mapping[str, Any] | None) -> xr.DataTree:
    """Open the pyramid at a group, or the node of that path in the tree of the store's own pyramid."""
    inside = (group or "").strip("/")
    try:
        return open_pyramid(store, inside or None, storage_options=storage_options)
    except (FileNotFoundError, ValueError) as error:
        if not inside:
            raise
        try:
            node = open_pyramid(store, storage_options=storage_options)[inside]
        except (FileNotFoundError, ValueError, KeyError):
            raise error from None
        if not isinstance(node, xr.DataTree):
            raise
    return xr.DataTree.from_dict({each.relative_to(node): each.to_dataset() for each in node.subtree})


def _as_stored(level: xr.Dataset, drop_variables: str | Iterable[str] | None) -> xr.Dataset:
    """Return a level with stored arrays in the place of dask's views of them, and without some variables."""
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    level = level.drop_vars(dropped, errors="ignore")
    stored = {}
    for name, image in level.data_vars.items():
        array = source_array(image.data)
        if array is not None:
            preferred = dict(zip(image.dims, storage_unit(array), strict=True))
            encoding = {**image.encoding, "preferred_chunks": preferred}
            stored[name] = xr.Variable(image.dims, lazily_read(array), image.attrs, encoding)
    return level.assign(stored)
