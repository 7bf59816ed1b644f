"""Geospatial metadata in the zarr conventions ``proj:`` and ``spatial:``, as dicts.

They go with the convention of `multiscales_convention`: https://github.com/zarr-conventions/proj says in which
coordinate reference system positions are, https://github.com/zarr-conventions/spatial where the pixels of each level
lie in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..extras import required
from ..image.axes import Axis
from ..image.dataarray import has_stated_positions
from ..image.grids import Grid, grid_in_space
from ..image.orientation import ORIGIN

PROJ_CONVENTION = {
    "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "name": "proj",
    "description": "Coordinate reference system information for geospatial data",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/proj/refs/tags/v0.1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/proj/blob/v0.1/README.md",
}
SPATIAL_CONVENTION = {
    "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "name": "spatial",
    "description": "Spatial coordinate information",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v0.1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/spatial/blob/v0.1/README.md",
}
PROJ_KEYS = ("proj:code", "proj:wkt2", "proj:projjson")
PREFIXES = ("proj:", "spatial:")

CODE = re.compile(r"[^:\s\[\]]+:[^:\s\[\]]+")
# The authority of the whole comes last: AUTHORITY["EPSG","32618"]] in the first form of WKT, ID["EPSG",32618]] in WKT2.
AUTHORITY = re.compile(r'(?:AUTHORITY|ID)\["([^"]+)",\s*"?([^",\]]+)"?\]\s*\]$')
# How texts of the first form of WKT begin; those of the second say "CRS".
FIRST_WKT = ("PROJCS[", "GEOGCS[", "GEOCCS[", "COMPD_CS[", "LOCAL_CS[", "VERT_CS[")


def stated_crs(image: xr.DataArray) -> dict[str, Any]:
    """Return the coordinate reference system of an image as ``proj:`` properties, empty if it has none.

    It is looked for in the attributes ``proj:...`` and ``crs``, and as rioxarray keeps it: in the attributes of a
    coordinate (``spatial_ref``).

    Raises
    ------
    ModuleNotFoundError
        If it is a text of WKT 1 without the code of an authority, and rasterio is not there to say it in WKT 2.
    """
    if found := {key: image.attrs[key] for key in PROJ_KEYS if image.attrs.get(key)}:
        return found
    stated = _crs_text(image)
    return {} if stated is None else _proj(str(stated).strip())


def states_crs(image: xr.DataArray) -> bool:
    """Whether an image has a coordinate reference system."""
    return any(image.attrs.get(key) for key in PROJ_KEYS) or _crs_text(image) is not None


def _crs_text(image: xr.DataArray) -> Any:
    stated = image.attrs.get("crs")
    for coordinate in image.coords.values():
        stated = stated or coordinate.attrs.get("crs_wkt") or coordinate.attrs.get("spatial_ref")
    return stated


def _proj(text: str) -> dict[str, Any]:
    if CODE.fullmatch(text):
        return {"proj:code": text}
    authority = AUTHORITY.search(text)
    # "At least one of proj:code, proj:wkt2, or proj:projjson MUST be provided."
    code = {} if authority is None else {"proj:code": f"{authority[1]}:{authority[2]}"}
    if not text.startswith(FIRST_WKT):
        return {**code, "proj:wkt2": text}
    if code:
        return code
    crs = required("rasterio.crs", "a CRS in WKT 1 needs rasterio", "'multiscale-sampler[geotiff]'")
    return {"proj:wkt2": crs.CRS.from_wkt(text).to_wkt(version="WKT2_2019")}


def read_crs(attributes: Mapping[str, Any]) -> str | dict[str, Any] | None:
    """Return the coordinate reference system that the attributes of a group or an array state."""
    return next((attributes[key] for key in PROJ_KEYS if attributes.get(key)), None)


def map_axes(axes: Sequence[Axis]) -> tuple[Axis, Axis]:
    """Return the axes of a map: the last two of space.

    Raises
    ------
    ValueError
        If their positions follow no line, which is all that an affine transformation can say.
    """
    spatial = [axis for axis in axes if axis.type == "space"][-2:]
    if len(spatial) < 2 or not all(axis.is_regular for axis in spatial):
        raise ValueError(
            f"'geozarr' wants two evenly spaced spatial axes, found {[axis.name for axis in axes]!r}; resample the "
            "image, or leave it out of metadata"
        )
    return spatial[0], spatial[1]


def check_on_map(image: xr.DataArray, axes: Sequence[Axis]) -> None:
    """Check that an image says where on a map its pixels lie.

    Raises
    ------
    ValueError
        If its positions follow no line, or nobody stated them.
    """
    grid_in_space(map_axes(axes), image.attrs)
    unplaced = [axis.name for axis in map_axes(axes) if not has_stated_positions(image, axis.name)]
    if unplaced:
        raise ValueError(
            f"'geozarr' states where pixels lie on a map, and nobody said so along {unplaced!r} of "
            f"{str(image.name)!r}; give scale and translation, or leave it out of metadata"
        )


def attributes_of_levels(
    levels: Sequence[Sequence[Axis]], crs: Mapping[str, Any], stated: Mapping[Any, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the attributes of the group of a pyramid, and for each level what is its own.

    "It is highly recommended to specify spatial:transform and spatial:shape explicitly at each layout level."
    `stated` are the attributes of the image, which say how its axes are rotated.
    """
    rows, columns = map_axes(levels[0])
    own = [_spatial_attributes(*map_axes(axes), stated) for axes in levels]
    a, b, c, d, e, f = own[0]["spatial:transform"]
    corners = [(x, y) for x in (0, columns.size) for y in (0, rows.size)]
    eastings, northings = [c + a * x + b * y for x, y in corners], [f + d * x + e * y for x, y in corners]
    shared = {
        **crs,
        "spatial:dimensions": [rows.name, columns.name],
        # "spatial:bbox: [xmin, ymin, xmax, ymax]"
        "spatial:bbox": [min(eastings), min(northings), max(eastings), max(northings)],
        # "Pixel-registered grids have cells lying between the grid-lines."
        "spatial:registration": "pixel",
    }
    return shared, own


def _edge(axis: Axis) -> float:
    """Return where the first pixel begins: half a step before its centre."""
    return axis.translation - axis.scale / 2


def _spatial_attributes(rows: Axis, columns: Axis, stated: Mapping[Any, Any]) -> dict[str, Any]:
    # "(0, 0) is at the top-left corner of the top-left pixel"; "[a, b, c, d, e, f]"
    transform = grid_in_space((rows, columns), stated).transform
    return {"spatial:shape": [rows.size, columns.size], "spatial:transform": transform}


def convention_with_geozarr(
    convention: Mapping[str, Any],
    levels: Sequence[Sequence[Axis]],
    crs: Mapping[str, Any],
    stated: Mapping[Any, Any],
) -> dict[str, Any]:
    """Return the attributes of the ``multiscales`` convention with those of ``proj:`` and ``spatial:``.

    Their translations tell where a level's first pixel begins: "For standard geospatial overviews where all resolution
    levels share the same coordinate origin, the multiscales translation should be [0.0, 0.0]".
    """
    shared, own = attributes_of_levels(levels, crs, stated)
    names = [axis.name for axis in levels[0]]
    along = [names.index(name) for name in shared["spatial:dimensions"]]
    places = {entry["asset"]: number for number, entry in enumerate(convention["multiscales"]["layout"])}
    layout = []
    for entry, placed, axes in zip(convention["multiscales"]["layout"], own, levels, strict=True):
        transform = entry.get("transform")
        if transform is not None:
            finer = levels[places[entry["derived_from"]]]
            offsets = list(transform["translation"])
            for axis in along:
                offsets[axis] = round((_edge(axes[axis]) - _edge(finer[axis])) / finer[axis].scale, 9)
            entry = {**entry, "transform": {**transform, "translation": offsets}}
        layout.append({**entry, **placed})
    return {
        "zarr_conventions": [*convention["zarr_conventions"], PROJ_CONVENTION, SPATIAL_CONVENTION],
        "multiscales": {**convention["multiscales"], "layout": layout},
        **shared,
    }


def attributes_of_group(level: Sequence[Axis], crs: Mapping[str, Any], stated: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the attributes of the group that holds a level.

    "When defined at the group level, it applies to all arrays that are direct children of that group. It does not
    apply to groups or arrays deeper in the hierarchy": so each has its own.
    """
    shared, (own,) = attributes_of_levels([level], crs, stated)
    return {"zarr_conventions": [PROJ_CONVENTION, SPATIAL_CONVENTION], **shared, **own}


def resized_attributes(
    attributes: Mapping[str, Any], levels: Mapping[str, Sequence[Axis]], stated: Mapping[Any, Any]
) -> dict[str, Any]:
    """Return what changes of the attributes of a group when its levels get other sizes and keep their first pixel.

    `levels` are the axes of all levels by the name of their asset, the base first; of the group of a level, of that.
    `stated` are the attributes of the image.
    """
    if "spatial:bbox" not in attributes:
        return {}
    shared, own = attributes_of_levels(list(levels.values()), {}, stated)
    changed = {"spatial:bbox": shared["spatial:bbox"]}
    if "spatial:shape" in attributes:
        changed["spatial:shape"] = own[0]["spatial:shape"]
    convention: Any = attributes.get("multiscales")
    if isinstance(convention, Mapping):
        shapes = dict(zip(levels, (placed["spatial:shape"] for placed in own), strict=True))
        layout = [
            {**entry, "spatial:shape": shapes[entry["asset"]]} if "spatial:shape" in entry else entry
            for entry in convention["layout"]
        ]
        changed["multiscales"] = {**convention, "layout": layout}
    return changed


def axes_of_transform(
    transform: Sequence[float], rows: Axis, columns: Axis, finer: xr.DataArray | None
) -> tuple[tuple[Axis, ...], dict[str, Any]]:
    """Return the axes of a map at the places that a level's ``spatial:transform`` states, and how they are rotated.

    Nothing of a transformation that states no grid. `finer` is the level that this one is derived from, whose rotation
    is about the same point.
    """
    grid = Grid.of_transform(transform)
    if grid is None:
        return (), {}
    about = np.flip(finer.attrs[ORIGIN]) if finer is not None and ORIGIN in finer.attrs else grid.first
    scales, first, rotation = grid.along_axes((columns.size, rows.size), about)
    return tuple(
        Axis(axis.name, axis.size, float(scales[number]), float(first[number]), axis.unit, axis.type)
        for axis, number in ((rows, 1), (columns, 0))
    ), rotation
