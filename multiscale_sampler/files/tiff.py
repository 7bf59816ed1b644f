"""TIFF files (OME-TIFF, ImageJ, plain TIFF), read by tifffile: images, stored levels and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import xarray as xr

from ..image.boxes import Block, Box, shape_of
from ..image.dataarray import coordinate_variable, image_axes
from ..metadata.units import in_ngff_unit, is_no_unit, unit_name
from ..metadata.versions import OMERO
from .arrays import FileArray
from .contents import (
    ALPHA,
    PREMULTIPLIED,
    Coordinates,
    FileImage,
    Format,
    Part,
    channel_coordinate,
    check_level,
    image_name,
    import_reader,
    masked_dtype,
    masked_values,
    palette_attributes,
    rgb_coordinate,
    spaced_coordinates,
    warn_of_unused_mask,
)
from .geotiff import geotiff_level_count, read_geotiff
from .tiff_index import require_pages, require_series
from .world_files import world_positions

# tifffile's letters for axes; samples of a pixel ("S") are channels. Axes of other letters stay unnamed.
TIFF_AXES = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
# Where ImageJ states what range of a single channel it shows.
IMAGEJ_RANGE = ("min", "max")
# The tag in which GDAL states a missing value, as text.
GDAL_NODATA = 42113
# Photometric interpretations of red, green and blue, or gray.
PICTURES = ("RGB", "YCBCR", "MINISBLACK")
# The tag ExtraSamples: alpha by which colours are multiplied, or not.
EXTRA_SAMPLES = {1: PREMULTIPLIED, 2: ALPHA}
# Values of the tag ResolutionUnit. Inches (2) are ignored: they are a print size, most often a program's default.
TIFF_UNITS = {3: "centimeter", 4: "millimeter", 5: "micrometer"}


class TiffArray(FileArray):
    """A level of a series of a TIFF file; its key is "series/level"."""

    def _open(self) -> tuple[Any, Callable[[], None]]:
        import zarr

        series, level = map(int, self.key.split("/"))
        file = import_reader("tifffile", "tiff", "TIFF").TiffFile(self.path)
        return zarr.open_array(file.series[series].aszarr(level=level), mode="r"), file.close


class MaskedTiffArray(FileArray):
    """A picture in a TIFF file under a mask, which is a series of its own."""

    def __init__(self, values: TiffArray, mask: TiffArray, rows: int, nodata: Any, dtype: np.dtype[Any]) -> None:
        super().__init__(values.path, values.key, values.shape, dtype, values.chunks)
        self._values_array, self._mask, self._rows, self._nodata = values, mask, rows, nodata

    def _read(self, box: Box) -> Block:
        plane = box[self._rows : self._rows + 2]
        valid = self._mask[plane].reshape([*shape_of(plane), *[1] * (self.ndim - self._rows - 2)])
        return masked_values(self._values_array[box], valid, self._nodata, self.dtype)


def read_tiff(path: Path, part: Part) -> FileImage:
    """Return a level of an image in a TIFF file; GeoTIFF files are read by rasterio."""
    part.refuse(path, "TIFF", "path")
    tifffile = import_reader("tifffile", "tiff", "TIFF")
    name = image_name(path, TIFF.endings)
    with tifffile.TiffFile(path) as file:
        if file.is_geotiff:
            part.refuse(path, "GeoTIFF", "series")
            require_pages(path, file)
            is_multiplied = _extra_sample(file.pages.first) == PREMULTIPLIED
            return read_geotiff(path, part.level, name, PREMULTIPLIED if is_multiplied else ALPHA)
        base = _series_at(file, part.series, path)
        check_level(part.level, len(base.levels), path)
        series = base.levels[part.level]
        require_series(path, file, part.series or 0, series)
        page = series.keyframe
        _check_compression(tifffile, page, path)
        names = _tiff_names(series.axes)
        # tifffile's chunks are the tiles or strips of one page, and one position along the axes before those of a page.
        inner = (*page.chunks,) if len(page.chunks) <= len(series.shape) else series.shape
        chunks = (*[1] * (len(series.shape) - len(inner)), *inner)
        attrs = _tiff_attributes(file, base.levels[0].keyframe, names)
        array = _under_mask(
            TiffArray(path, f"{part.series or 0}/{part.level}", series.shape, series.dtype, chunks),
            file,
            series,
            attrs.get("nodata"),
        )
        coordinates = _tiff_coordinates(file, base.levels[0].keyframe, part.series or 0, names, base.levels[0].shape)
        if "S" in series.axes and page.photometric.name in PICTURES and "c" not in coordinates:
            coordinates |= rgb_coordinate(names, series.shape, array.dtype, _extra_sample(page))
        on_map, rotation = world_positions(path, names, base.levels[0].shape) if not part.series else ({}, {})
        placed = _coordinates_of_level({**coordinates, **on_map}, names, series.shape)
        return FileImage(array, names, name, placed, {**attrs, **rotation})


def _under_mask(array: TiffArray, file: Any, series: Any, nodata: Any) -> FileArray:
    """Return a picture of one page as its mask in the file lets it be seen."""
    page = series.keyframe
    plane = (page.imagelength, page.imagewidth)
    masks = [number for number, each in enumerate(file.series) if each.keyframe.is_mask and each.shape == plane]
    if page.is_mask or len(masks) != 1 or len(series) != 1:
        return array
    dtype = masked_dtype(array.dtype, nodata)
    if dtype is None:
        warn_of_unused_mask(array.dtype)
        return array
    mask = TiffArray(
        array.path, f"{masks[0]}/0", plane, file.series[masks[0]].dtype, file.series[masks[0]].keyframe.chunks
    )
    return MaskedTiffArray(array, mask, series.axes.index("Y"), nodata, dtype)


def tiff_level_count(path: Path, series: int | None) -> int:
    """Return the number of levels of an image in a TIFF file."""
    with import_reader("tifffile", "tiff", "TIFF").TiffFile(path) as file:
        if not file.is_geotiff:
            return len(_series_at(file, series, path).levels)
    return geotiff_level_count(path)


def _series_at(file: Any, series: int | None, path: Path) -> Any:
    """Return an image of a TIFF file: tifffile's series, whose pages have one shape or one entry in OME-XML."""
    number, count = series or 0, len(file.series)
    if not 0 <= number < count:
        raise ValueError(f"series={series!r} does not exist in {os.fspath(path)!r}; choose one from 0 to {count - 1}")
    return file.series[number]


def _coordinates_of_level(coordinates: Coordinates, names: Sequence[str | None], shape: Sequence[int]) -> Coordinates:
    """Return the coordinates of a level of some shape from those of the base: the centres of its windows."""
    reduced = {}
    for name, size in zip(names, shape, strict=True):
        if name not in coordinates or coordinates[name].size == size:
            continue
        (axis,) = image_axes(xr.DataArray(np.empty(coordinates[name].size), {name: coordinates[name]}, [name]))
        # An integer factor if the size fits one, rounded up or down; else a fractional one over the same extent.
        factor: float = round(axis.size / size)
        if not axis.size // factor <= size <= -(-axis.size // factor):
            factor = axis.size / size
        offset = axis.scale * (factor - 1) / 2
        coarse = replace(axis, size=size, scale=axis.scale * factor, translation=axis.translation + offset)
        reduced[name] = coordinate_variable(coarse, coordinates[name].attrs)
    return {**coordinates, **reduced}


def _check_compression(tifffile: Any, page: Any, path: Path) -> None:
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise ModuleNotFoundError(
            f"{os.fspath(path)!r} is compressed by {page.compression.name}, which needs imagecodecs; install it with: "
            "pip install 'multiscale-sampler[tiff]'"
        )


def _tiff_names(axes: str) -> tuple[str | None, ...]:
    names = [TIFF_AXES.get(letter) for letter in axes]
    # In RGB images of several channels both "C" and "S" would be named "c".
    return tuple(None if name is not None and names.count(name) > 1 else name for name in names)


def _tiff_coordinates(
    file: Any, page: Any, series: int, names: Sequence[str | None], shape: Sequence[int]
) -> Coordinates:
    if file.is_ome:
        return _ome_coordinates(file.ome_metadata, series, names, shape)
    sizes = {axis: _pixel_size(page.tags.get(f"{axis.upper()}Resolution")) for axis in ("x", "y")}
    if file.is_imagej:
        return _imagej_coordinates(file.imagej_metadata, sizes, names, shape)
    tag = page.tags.get("ResolutionUnit")
    unit = TIFF_UNITS.get(int(tag.value)) if tag is not None else None
    # Writers put one pixel per unit into these mandatory tags when they do not know the resolution.
    if unit is None or set(sizes.values()) == {1.0}:
        return {}
    return spaced_coordinates(names, shape, sizes, dict.fromkeys(sizes, unit))


def _tiff_attributes(file: Any, page: Any, names: Sequence[str | None]) -> dict[str, Any]:
    """Return what a file states of its values: GDAL's missing value, a palette of classes, the range to show."""
    attrs: dict[str, Any] = {}
    tag = page.tags.get(GDAL_NODATA)
    missing = None if tag is None else _stated_number(str(tag.value).strip("\0 "))
    if missing is not None:
        attrs["nodata"] = missing
    if file.is_imagej and "c" not in names and (channels := _imagej_channels(file.imagej_metadata, 1)):
        attrs[OMERO] = {"channels": channels}
    # The colours of ImageJ are those of brightness.
    if page.photometric.name == "PALETTE" and page.colormap is not None and not file.is_imagej:
        # Of 16 bits each, as TIFF has them.
        attrs |= palette_attributes((np.asarray(page.colormap).T >> 8).tolist())
    return attrs


def _extra_sample(page: Any) -> str:
    """Return what the sample after the colours of a page is."""
    stated = [int(each) for each in page.extrasamples or ()]
    return EXTRA_SAMPLES.get(stated[0], "extra") if stated else "extra"


def _stated_number(text: str) -> int | float | None:
    """Return the number that a text is, None where it is none; 64-bit integers are exact."""
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return None


def _pixel_size(resolution: Any) -> float:
    """Return the size of a pixel from a tag that states pixels per unit; 0.0 without a tag or a resolution."""
    if resolution is None:
        return 0.0
    pixels, units = resolution.value
    return float(units / pixels) if pixels else 0.0


def _ome_coordinates(text: str, series: int, names: Sequence[str | None], shape: Sequence[int]) -> Coordinates:
    images = ElementTree.fromstring(text).findall("{*}Image/{*}Pixels")
    if series >= len(images):
        return {}
    pixels = images[series]
    scales, units = {}, {}
    for name, key, default in (
        *((axis, f"PhysicalSize{axis.upper()}", "µm") for axis in "zyx"),
        ("t", "TimeIncrement", "s"),
    ):
        unit = pixels.get(f"{key}Unit", default)
        # OME's "pixel" and "reference frame" have no physical length.
        if not is_no_unit(unit):
            scales[name], units[name] = in_ngff_unit(float(pixels.get(key, 0)), unit)
    channels = pixels.findall("{*}Channel")
    labels, colors = [each.get("Name") for each in channels], [_ome_color(each.get("Color")) for each in channels]
    return {**spaced_coordinates(names, shape, scales, units), **channel_coordinate(names, shape, labels, colors)}


def _ome_color(stated: str | None) -> str | None:
    """Return a colour of OME-XML, red, green, blue and alpha in one signed integer, as hexadecimal digits."""
    if stated is None or not stated.lstrip("-").isdigit():
        return None
    return f"{int(stated) & 0xFFFFFFFF:08X}"[:6]


def _imagej_coordinates(
    metadata: Mapping[str, Any], sizes: Mapping[str, float], names: Sequence[str | None], shape: Sequence[int]
) -> Coordinates:
    """Return the coordinates of an ImageJ file from its pixel sizes, which mean nothing without a unit."""
    scales: dict[str, float] = {}
    units: dict[str, str | None] = {}
    unit = str(metadata.get("unit", "pixel"))
    if not is_no_unit(unit):
        scales.update(sizes, z=float(metadata.get("spacing", 0)))
        units.update(dict.fromkeys("zyx", unit_name(unit)))
    scales["t"], units["t"] = float(metadata.get("finterval", 0)), "second"
    coordinates = spaced_coordinates(names, shape, scales, units)
    for name, size in zip(names, shape, strict=True):
        if name == "c" and (channels := _imagej_channels(metadata, size)):
            coordinates[name] = xr.Variable((name,), np.arange(size), {OMERO: {"channels": channels}})
    return coordinates


def _imagej_channels(metadata: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return how an ImageJ file shows its channels: colours of lookup tables and ranges; empty if it states neither."""
    tables = [np.asarray(table) for table in metadata.get("LUTs", ())]
    colors = ["{:02X}{:02X}{:02X}".format(*table[:, -1].tolist()) for table in tables]
    ends = [metadata[key] for key in IMAGEJ_RANGE if key in metadata]
    of_all = ends if count == 1 and len(ends) == len(IMAGEJ_RANGE) else ()
    limits = np.ravel(metadata.get("Ranges", of_all)).astype(float).reshape(-1, 2).tolist()
    entries: list[dict[str, Any]] = [{} for _ in range(count)]
    if len(colors) == count:
        entries = [{"color": color} for color in colors]
    if len(limits) == count and all(start < end for start, end in limits):
        entries = [
            {**entry, "window": {"start": start, "end": end}}
            for entry, (start, end) in zip(entries, limits, strict=True)
        ]
    return entries if any(entries) else []


TIFF = Format("TIFF", (".tif", ".tiff", ".ome.tif", ".ome.tiff"), read_tiff, tiff_level_count)
