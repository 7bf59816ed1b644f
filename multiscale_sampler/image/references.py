"""What an image states by names of variables and in numbers of its grid: CF's grid mappings and bounds, GeoTransform.

Names of variables that an image does not have are left out. A grid mapping is a coordinate without dims; its attribute
``GeoTransform``, by which rioxarray and GDAL place the image, is restated for every level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from .axes import Axis
from .dataarray import has_stated_positions
from .grids import FloatArray, level_steps
from .pictures import in_picture_order

GRID_MAPPING = "grid_mapping"
GEO_TRANSFORM = "GeoTransform"
# CF attributes that consist of names of variables, each after the word that it stands for ("area: cell_area") or alone.
NAMES_OF_VARIABLES = (GRID_MAPPING, "bounds", "climatology", "ancillary_variables", "cell_measures", "formula_terms")
# Attributes of a grid mapping, by CF and as GDAL and rioxarray write them.
OF_GRID_MAPPINGS = ("grid_mapping_name", "crs_wkt", "spatial_ref", GEO_TRANSFORM)
# Part of a pixel by which a GeoTransform and coordinates that state the same may differ: half a one, as some
# coordinates are of the corner of the first pixel.
SAME_PIXEL = 0.6
# The longest step of a selection that is told from coordinates in another unit than the GeoTransform.
LONGEST_STEP = 64


def grid_mapping_of(image: xr.DataArray) -> str | None:
    """Return what names the grid mapping of an image, as its attribute or ``encoding`` has it, or else its only one."""
    for stated in (image.attrs.get(GRID_MAPPING), image.encoding.get(GRID_MAPPING)):
        if isinstance(stated, str) and _names_in(stated) & set(image.coords):
            return stated
    found = [
        str(name)
        for name, coordinate in image.coords.items()
        if not coordinate.ndim and any(key in coordinate.attrs for key in OF_GRID_MAPPINGS)
    ]
    return found[0] if len(found) == 1 else None


def attributes_to_store(image: xr.DataArray, *, with_coordinates: bool) -> dict[Any, Any]:
    """Return the attributes of an image where it is stored, with its coordinates beside it or without them."""
    if not with_coordinates:
        return {key: value for key, value in image.attrs.items() if key not in NAMES_OF_VARIABLES}
    mapping = grid_mapping_of(image)
    return image.attrs if mapping is None else {**image.attrs, GRID_MAPPING: mapping}


def _names_in(stated: str) -> set[str]:
    """Return the names of variables in a CF attribute, which may have a word with a colon before each of them."""
    return {word for word in stated.split() if not word.endswith(":")}


def with_own_names(image: xr.DataArray) -> xr.DataArray:
    """Return an image without names of variables that it does not have, and with that of its grid mapping.

    The name is in ``encoding`` if it is not among the attributes, as xarray has it when it decodes a file.
    """
    bare = image.copy(deep=False)
    for carrier in (bare, *bare.coords.values()):
        carrier.attrs = _known_names(carrier.attrs, image)
        carrier.encoding = _known_names(carrier.encoding, image)
    mapping = grid_mapping_of(image)
    if mapping is not None and GRID_MAPPING not in bare.attrs:
        bare.encoding = {**bare.encoding, GRID_MAPPING: mapping}
    return bare


def _known_names(stated: Mapping[Any, Any], image: xr.DataArray) -> dict[Any, Any]:
    lost = {
        key
        for key in NAMES_OF_VARIABLES
        if isinstance(stated.get(key), str) and not _names_in(stated[key]) <= set(image.coords)
    }
    return {key: value for key, value in stated.items() if key not in lost}


def with_own_transform(
    level: xr.DataArray, image: xr.DataArray, base: Sequence[Axis], axes: Sequence[Axis]
) -> xr.DataArray:
    """Return a level of an image, or the image itself, whose grid mappings state where its pixels lie.

    `base` are the axes of the image, `axes` those of the level.
    """
    placed = {
        name: each for name, each in level.coords.variables.items() if not each.ndim and GEO_TRANSFORM in each.attrs
    }
    order = in_picture_order(image, [axis for axis in base if axis.type == "space"])[:2]
    if not placed or len(order) < 2:
        return level
    by_name = {axis.name: axis for axis in axes}
    pairs = [(axis, by_name[axis.name]) for axis in order]
    are_placed = all(has_stated_positions(image, axis.name, axis) and axis.is_regular for axis in order)
    changed = {}
    for name, variable in placed.items():
        stated = variable.attrs[GEO_TRANSFORM]
        others = {key: value for key, value in variable.attrs.items() if key != GEO_TRANSFORM}
        restated = _transform_of_level(stated, pairs, are_placed=are_placed)
        own = others if restated is None else {**others, GEO_TRANSFORM: restated}
        changed[name] = xr.Variable(variable.dims, variable.data, own, variable.encoding)
    return level.assign_coords(changed)


def with_transform_of_axes(image: xr.DataArray, axes: Sequence[Axis]) -> xr.DataArray:
    """Return an image whose grid mappings state where its own pixels lie, and not those of a selection or a level."""
    return with_own_transform(image, image, axes, axes)


def _transform_of_level(stated: Any, pairs: Sequence[tuple[Axis, Axis]], *, are_placed: bool) -> Any:
    """Return a GeoTransform for a level from that of its base, None if it cannot be read.

    `pairs` are the axes of the base and the level, the one that runs across first.
    """
    matrix = _matrix_of_text(stated)
    if matrix is None:
        return None
    if are_placed and _is_of_another_part(matrix, [fine for fine, _ in pairs]):
        # Of a selection, whose coordinates are its own.
        return _text_of_matrix(_matrix_of_axes([coarse for _, coarse in pairs]))
    if all(fine == coarse for fine, coarse in pairs):
        return stated
    return _text_of_matrix(matrix @ level_steps(pairs, corner=0.5))


def _matrix_of_text(stated: Any) -> FloatArray | None:
    try:
        words = stated.split() if isinstance(stated, str) else stated
        # "x of the corner, width of a pixel, row rotation, y of the corner, column rotation, height of a pixel"
        x, a, b, y, d, e = (float(word) for word in words)
    except (TypeError, ValueError):
        return None
    return np.array([[a, b, x], [d, e, y], [0, 0, 1]])


def _text_of_matrix(matrix: FloatArray) -> str:
    (a, b, x), (d, e, y), _ = matrix.tolist()
    return " ".join(map(repr, (x, a, b, y, d, e)))


def _matrix_of_axes(axes: Sequence[Axis]) -> FloatArray:
    matrix = np.eye(3)
    for number, axis in enumerate(axes):
        matrix[number, number], matrix[number, 2] = axis.scale, axis.translation - axis.scale / 2
    return matrix


def _is_of_another_part(matrix: FloatArray, axes: Sequence[Axis]) -> bool:
    """Whether coordinates are those of a crop, a flip or every n-th sample of the grid that a matrix states."""
    if matrix[0, 1] or matrix[1, 0] or not matrix[0, 0] or not matrix[1, 1]:
        return False
    own = _matrix_of_axes(axes)
    steps = own.diagonal()[:2] / matrix.diagonal()[:2]
    if np.abs(steps - np.round(steps)).max() > 1e-3 or not 1 <= np.abs(np.round(steps)).max() <= LONGEST_STEP:
        return False
    return bool((np.abs(own - matrix)[:2] > SAME_PIXEL * np.abs(matrix.diagonal()[:2, None])).any())
