"""GeoTIFF files, which GDAL reads: their bands, their overviews, and where on the earth they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..image.axes import Axis
from ..image.boxes import Box
from ..image.dataarray import coordinate_variable
from ..metadata import unit_name
from .arrays import FileArray
from .contents import Coordinates, FileImage, channel_coordinate, check_level, reader_module


class GeoTiffArray(FileArray):
    """The bands of a GeoTIFF file; without an axis of bands where there is one of them."""

    def _read(self, box: Box) -> Any:
        rasterio = reader_module("rasterio", "geotiff", "GeoTIFF")
        *bands, rows, columns = box
        window = rasterio.windows.Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
        # Opened for every box: a data set of GDAL is one thread's.
        with _raster(self.place, int(self.key)) as file:
            return file.read([band + 1 for band in range(*bands[0].indices(file.count))] if bands else 1, window=window)


def _raster(place: Path, level: int) -> Any:
    """Open a level of a GeoTIFF file: its overviews are the levels from 1 on."""
    rasterio = reader_module("rasterio", "geotiff", "GeoTIFF")
    return rasterio.open(place, **({"overview_level": level - 1} if level else {}))


def read(place: Path, level: int, name: str) -> FileImage:
    """Return what a level of a GeoTIFF file holds."""
    rasterio = reader_module("rasterio", "geotiff", "GeoTIFF")
    with rasterio.open(place) as base:
        check_level(level, 1 + len(base.overviews(1)), place)
    with _raster(place, level) as file:
        several = file.count > 1
        names = ("band", "y", "x") if several else ("y", "x")
        shape = (file.count, file.height, file.width)[not several :]
        together = file.count if file.profile.get("interleave") == "pixel" else 1
        chunks = (together, *file.block_shapes[0])[not several :]
        array = GeoTiffArray(place, str(level), shape, file.dtypes[0], chunks)
        coordinates = {**_geo_coordinates(file), **channel_coordinate(names, shape, file.descriptions)}
        return FileImage(array, names, name, coordinates, _geo_attributes(file))


def _geo_coordinates(file: Any) -> Coordinates:
    """Return where the centres of pixels are; none for an image that lies askew, whose rows have no one y."""
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
    if file.transform.b or file.transform.d:
        attrs["transform"] = list(file.transform)[:6]
    # Values are as stored; by these they become quantities.
    if set(file.scales) != {1.0} or set(file.offsets) != {0.0}:
        attrs["scales"], attrs["offsets"] = list(file.scales), list(file.offsets)
    return attrs


def level_count(place: Path) -> int:
    """Return how many levels a GeoTIFF file has: the image, and its overviews."""
    with reader_module("rasterio", "geotiff", "GeoTIFF").open(place) as raster:
        return 1 + len(raster.overviews(1))
