"""Pyramids that only the zarr convention ``multiscales`` describes, as in GeoZarr."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
import zarr

from ..image.dataarray import coordinate_variable, image_axes
from ..metadata import DEFAULT_VERSION, Dataset, Multiscales, finest_first, geozarr
from .arrays import labelled_by_names, own_name
from .nodes import only_array
from .zarr_internals import node_at


def levels_by_convention(group: zarr.Group, chunks: Any) -> list[tuple[zarr.Array[Any], xr.DataArray]] | None:
    """Return the array and the lazy image of every level, finest first; None if OME-NGFF, or nothing, describes them.

    Raises
    ------
    ValueError
        If an array that the metadata name is missing, or has no names of dimensions.
    """
    attributes = group.attrs.asdict()
    convention: Any = attributes.get("multiscales")
    if "ome" in attributes or not isinstance(convention, Mapping) or not convention.get("layout"):
        return None
    entries = {str(entry["asset"]): entry for entry in convention["layout"]}
    arrays = {asset: _array_of_asset(group, asset) for asset in entries}
    images: dict[str, xr.DataArray] = {}
    for asset, entry in entries.items():
        named = labelled_by_names(arrays[asset], chunks)
        if named is None:
            raise ValueError(
                f"{arrays[asset].store_path} has no names of dimensions; open it with open_image and dims="
            )
        placed = {**attributes, **arrays[asset].attrs.asdict(), **entry}
        image = _placed_by_convention(named, placed, images.get(str(entry.get("derived_from"))))
        image.encoding = named.encoding
        images[asset] = image
    names = {own_name(array) for array in arrays.values()}
    shared = names.pop() if len(names) == 1 else None
    base = next(iter(images.values()))
    name = shared if shared and shared not in base.coords else "image"
    levels = [(arrays[asset], image.rename(name)) for asset, image in images.items()]
    return [levels[index] for index in finest_first([image.shape for _, image in levels])]


def multiscales_of_images(paths: Sequence[str], images: Sequence[xr.DataArray]) -> Multiscales:
    """Return in the form of OME-NGFF's metadata where the samples of levels are."""
    levels = [image_axes(image) for image in images]
    axes = tuple((axis.name, axis.type, axis.unit) for axis in levels[0])
    # Labels and dates come from the coordinate arrays.
    lines = [[(axis.scale, axis.translation) if axis.is_regular else (1.0, 0.0) for axis in level] for level in levels]
    datasets = tuple(
        Dataset(path, *map(tuple, zip(*line, strict=True))) for path, line in zip(paths, lines, strict=True)
    )
    return Multiscales(DEFAULT_VERSION, str(images[0].name), axes, datasets, {}, None)


def _array_of_asset(group: zarr.Group, asset: str) -> zarr.Array[Any]:
    """Return the array of a level, of which its group may hold only one beside coordinates."""
    node = node_at(group, asset)
    if node is None:
        raise ValueError(f"the metadata of {group.store_path} name {asset!r}, but there is none")
    return only_array(node) if isinstance(node, zarr.Group) else node


def _placed_by_convention(image: xr.DataArray, said: Mapping[str, Any], finer: xr.DataArray | None) -> xr.DataArray:
    """Return a level with positions along the axes that have no coordinates of their own.

    "spatial:transform should be treated as the authoritative geospatial transformation"; other axes follow from those
    of the level that this one is derived from.
    """
    axes = {axis.name: axis for axis in image_axes(image)}
    dims, transform = said.get("spatial:dimensions"), said.get("spatial:transform")
    if dims and transform and len(dims) == 2 and set(dims) <= axes.keys():
        on_map, rotation = geozarr.axes_of_transform(transform, axes[dims[0]], axes[dims[1]], finer)
        axes |= {axis.name: axis for axis in on_map}
        image = image.assign_attrs({**rotation, **image.attrs})
    relative = said.get("transform")
    if finer is not None and isinstance(relative, Mapping) and finer.dims == image.dims:
        scales, offsets = (
            relative.get(key, [default] * image.ndim) for key, default in (("scale", 1), ("translation", 0))
        )
        for source, scale, offset in zip(image_axes(finer), scales, offsets, strict=True):
            if source.is_regular and source.name not in (dims or ()):
                axes[source.name] = dataclasses.replace(
                    axes[source.name],
                    scale=source.scale * scale,
                    translation=source.translation + source.scale * offset,
                    unit=source.unit,
                )
    missing = {name: axis for name, axis in axes.items() if name not in image.coords}
    return image.assign_coords({name: coordinate_variable(axis) for name, axis in missing.items()})
