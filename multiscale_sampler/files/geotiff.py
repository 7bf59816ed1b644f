"""GeoTIFF files, read by rasterio (GDAL): bands, overviews and the coordinate reference system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..image.axes import Axis
from ..image.boxes import Box
from ..image.dataarray import coordinate_variable
from ..metadata.units import unit_name
from .arrays import FileArray
from .contents import (
    Coordinates,
    FileImage,
    channel_coordinate,
    check_level,
    import_reader,
    masked_dtype,
    masked_values,
    palette_attributes,
    rgb_coordinate,
    warn_of_unused_mask,
)

# What GDAL calls the bands of a picture.
PICTURE_BANDS = ("red", "green", "blue", "alpha")


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
            if not _has_mask(file) or masked_dtype(file.dtypes[0], file.nodata) is None:
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


def read_geotiff(path: Path, level: int, name: str) -> FileImage:
    """Return a level of a GeoTIFF file, as an image of that name."""
    rasterio = import_reader("rasterio", "geotiff", "GeoTIFF")
    with rasterio.open(path) as base:
        check_level(level, 1 + len(base.overviews(1)), path)
    with _open_level(path, level) as file:
        several = file.count > 1
        names = ("band", "y", "x") if several else ("y", "x")
        shape = (file.count, file.height, file.width)[not several :]
        bands_per_block = file.count if file.profile.get("interleave") == "pixel" else 1
        chunks = (bands_per_block, *file.block_shapes[0])[not several :]
        dtype = masked_dtype(file.dtypes[0], file.nodata) if _has_mask(file) else file.dtypes[0]
        if dtype is None:
            warn_of_unused_mask(file.dtypes[0])
        array = GeoTiffArray(path, str(level), shape, dtype or file.dtypes[0], chunks)
        described = channel_coordinate(names, shape, file.descriptions)
        colors = [interpretation.name for interpretation in file.colorinterp]
        is_picture = not described and colors in (list(PICTURE_BANDS[:3]), list(PICTURE_BANDS))
        if not described and "alpha" in colors:
            described = channel_coordinate(names, shape, colors)
        channels = rgb_coordinate(names, shape, array.dtype) if is_picture else described
        coordinates = {**_geo_coordinates(file), **channels}
        return FileImage(array, names, name, coordinates, _geo_attributes(file))


def _geo_coordinates(file: Any) -> Coordinates:
    """Return the positions of pixel centres along y and x; empty for a rotated grid, where they depend on both axes."""
    transform = file.transform
    if transform.b or transform.d or not transform.a or not transform.e:
        return {}
    unit = _geo_unit(file.crs)
    axes = (
        Axis("y", file.height, transform.e, transform.f + transform.e / 2, unit),
        Axis("x", file.width, transform.a, transform.c + transform.a / 2, unit),
    )
    return {axis.name: coordinate_variable(axis) for axis in axes}


def _geo_unit(crs: Any) -> str | None:
    if crs is None:
        return None
    if crs.is_geographic:
        return "degree"
    unit = str(crs.linear_units)
    return None if unit == "unknown" else unit_name(unit)


def _geo_attributes(file: Any) -> dict[str, Any]:
    attrs: dict[str, Any] = {} if file.crs is None else {"crs": file.crs.to_wkt()}
    if file.nodata is not None:
        attrs["nodata"] = file.nodata
    if file.count == 1 and file.colorinterp[0].name == "palette":
        attrs |= palette_attributes([color for _, color in sorted(file.colormap(1).items())])
    if file.transform.b or file.transform.d:
        attrs["transform"] = list(file.transform)[:6]
    # rasterio returns packed values; physical ones are value * scale + offset.
    if set(file.scales) != {1.0} or set(file.offsets) != {0.0}:
        attrs["scales"], attrs["offsets"] = list(file.scales), list(file.offsets)
    return attrs


def geotiff_level_count(path: Path) -> int:
    """Return the number of levels of a GeoTIFF file: the image and its overviews."""
    with import_reader("rasterio", "geotiff", "GeoTIFF").open(path) as raster:
        return 1 + len(raster.overviews(1))
