"""GeoTIFF files, read by rasterio (GDAL): bands, overviews, positions and the coordinate reference system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..image.boxes import Box
from ..image.grids import TRANSFORM, Grid
from ..messages import warn_caller
from ..metadata.units import unit_name
from .arrays import FileArray
from .contents import (
    ALPHA,
    Coordinates,
    FileImage,
    channel_coordinate,
    check_level,
    import_reader,
    masked_dtype,
    masked_values,
    palette_attributes,
    placed_coordinates,
    rgb_coordinate,
    warn_of_unused_mask,
)
from .world_files import world_positions

# What GDAL calls the bands of a picture.
PICTURE_BANDS = ("red", "green", "blue", "alpha")
# Pixels by which ground control points may be off a grid, as in GDAL, and how many say where a grid lies.
POINTS_WITHIN, LEAST_POINTS = 0.25, 3
# What GDAL reads values of a dtype as that numpy does not have.
READ_AS = {"complex_int16": "complex64"}


class GeoTiffArray(FileArray):
    """A level of a GeoTIFF file, of axes (band, y, x), or (y, x) if it has one band; its key is the level's number."""

    def _read(self, box: Box) -> Any:
        rasterio = import_reader("rasterio", "geotiff", "GeoTIFF")
        *bands, rows, columns = box
        window = rasterio.windows.Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
        # Opened for every box, because threads must not share a GDAL dataset.
        with _open_level(self.path, int(self.key)) as file:
            read = [band + 1 for band in range(*bands[0].indices(file.count))] if bands else 1
            values = file.read(read, window=window)
            if not _has_mask(file) or masked_dtype(values.dtype, file.nodata) is None:
                return values
            return masked_values(values, file.read_masks(read, window=window), file.nodata, self.dtype)


def _has_mask(file: Any) -> bool:
    """Whether a file has a mask of its own, beside what its nodata or its alpha band say."""
    others = {"all_valid", "nodata", "alpha"}
    return any(others.isdisjoint(flag.name for flag in flags) for flags in file.mask_flag_enums)


def _open_level(path: Path, level: int) -> Any:
    """Return a rasterio dataset of a level: 0 is the image, n its overview n - 1."""
    rasterio = import_reader("rasterio", "geotiff", "GeoTIFF")
    return rasterio.open(path, **({"overview_level": level - 1} if level else {}))


def read_geotiff(path: Path, level: int, name: str, alpha: str) -> FileImage:
    """Return a level of a GeoTIFF file, as an image of that name; `alpha` is what a band of transparency is called."""
    rasterio = import_reader("rasterio", "geotiff", "GeoTIFF")
    with rasterio.open(path) as base:
        check_level(level, 1 + len(base.overviews(1)), path)
        placed = _grid_of_file(base)
        if placed is None and base.gcps[0]:
            _warn_of_unused_points(len(base.gcps[0]))
    with _open_level(path, level) as file:
        several = file.count > 1
        names = ("band", "y", "x") if several else ("y", "x")
        shape = (file.count, file.height, file.width)[not several :]
        bands_per_block = file.count if file.profile.get("interleave") == "pixel" else 1
        chunks = (bands_per_block, *file.block_shapes[0])[not several :]
        stored = READ_AS.get(file.dtypes[0], file.dtypes[0])
        dtype = masked_dtype(stored, file.nodata) if _has_mask(file) else stored
        if dtype is None:
            warn_of_unused_mask(stored)
        array = GeoTiffArray(path, str(level), shape, dtype or stored, chunks)
        positions, placement = _geo_positions(file, placed)
        if placed is None and not level:
            positions, placement = world_positions(path, names, shape, _geo_unit(file.crs))
        attrs = {**_geo_attributes(file), **placement}
        return FileImage(array, names, name, {**positions, **_channels(file, names, array, alpha)}, attrs)


def _channels(file: Any, names: Sequence[str], array: FileArray, alpha: str) -> Coordinates:
    """Return the names of bands, or the colours of a picture; `alpha` is what a band of transparency is called."""
    colors = [interpretation.name for interpretation in file.colorinterp]
    if not any(file.descriptions) and colors in (list(PICTURE_BANDS[:3]), list(PICTURE_BANDS)):
        return rgb_coordinate(names, array.shape, array.dtype, alpha)
    described = [alpha if color == ALPHA else text for color, text in zip(colors, file.descriptions, strict=True)]
    named = channel_coordinate(names, array.shape, described)
    if named or ALPHA not in colors:
        return named
    return channel_coordinate(names, array.shape, [alpha if color == ALPHA else color for color in colors])


def _geo_positions(file: Any, base: Grid | None) -> tuple[Coordinates, dict[str, Any]]:
    """Return the positions of pixel centres along y and x, and the attributes of a rotated grid.

    `base` is where the file's own pixels lie, of which this is a level.
    """
    grid = _grid_of_file(file)
    if grid is None or base is None:
        return {}, {}
    units = (_geo_unit(file.crs or file.gcps[1]),) * 2
    placed, attrs = placed_coordinates("xy", (file.width, file.height), grid, units, origin=base.first)
    return placed, {**attrs, **({TRANSFORM: grid.transform} if attrs else {})}


def _grid_of_file(file: Any) -> Grid | None:
    """Return where pixels lie: by the affine transformation of a file, else by its ground control points.

    Control points are a few places where pixels lie. They are used where an affine transformation agrees with all.
    """
    transform = file.transform
    if transform.is_identity:
        points, _ = file.gcps
        if len(points) < LEAST_POINTS:
            return None
        transform = import_reader("rasterio", "geotiff", "GeoTIFF").transform.from_gcps(points)
    grid = Grid.of_transform(list(transform)[:6])
    if grid is None or not file.transform.is_identity:
        return grid
    stated = np.array([(point.x, point.y) for point in points])
    fitted = np.array([(point.col, point.row) for point in points]) @ grid.steps.T + (transform.c, transform.f)
    distances = np.linalg.solve(grid.steps, (stated - fitted).T)
    return grid if np.abs(distances).max() <= POINTS_WITHIN else None


def _warn_of_unused_points(count: int) -> None:
    warn_caller(
        f"the {count} ground control points are not used, as they do not lie on an evenly spaced grid; resample the "
        "file with gdalwarp"
    )


def _geo_unit(crs: Any) -> str | None:
    if crs is None:
        return None
    if crs.is_geographic:
        return "degree"
    unit = str(crs.linear_units)
    return None if unit == "unknown" else unit_name(unit)


def _geo_attributes(file: Any) -> dict[str, Any]:
    crs = file.crs or file.gcps[1]
    attrs: dict[str, Any] = {} if crs is None else {"crs": crs.to_wkt()}
    if file.nodata is not None:
        attrs["nodata"] = file.nodata
    if file.count == 1 and file.colorinterp[0].name == "palette":
        attrs |= palette_attributes([color for _, color in sorted(file.colormap(1).items())])
    # rasterio returns packed values; physical ones are value * scale + offset.
    if set(file.scales) != {1.0} or set(file.offsets) != {0.0}:
        attrs["scales"], attrs["offsets"] = list(file.scales), list(file.offsets)
    return attrs


def geotiff_level_count(path: Path) -> int:
    """Return the number of levels of a GeoTIFF file: the image and its overviews."""
    with import_reader("rasterio", "geotiff", "GeoTIFF").open(path) as raster:
        return 1 + len(raster.overviews(1))
