"""TIFF files, of any kind that tifffile knows (OME, ImageJ, plain): images, their levels, their labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import xarray as xr

from ..image.dataarray import coordinate_variable, image_axes
from ..metadata import unit_name
from . import geotiff
from .arrays import FileArray
from .contents import Coordinates, FileImage, Part, channel_coordinate, check_level, reader_module, spaced, stem

ENDINGS = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
# Letters that tifffile has for axes; samples of a pixel are channels. Others stand for anything.
TIFF_AXES = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
# Names of ResolutionUnit. Of an inch none: that is how large to print, and most often nobody's choice.
TIFF_UNITS = {3: "centimeter", 4: "millimeter", 5: "micrometer"}


class TiffArray(FileArray):
    """A level of a series of a TIFF file, its key "series/level"."""

    def _open(self) -> tuple[Any, Callable[[], None]]:
        import zarr

        series, level = map(int, self.key.split("/"))
        file = reader_module("tifffile", "tiff", "TIFF").TiffFile(self.place)
        return zarr.open_array(file.series[series].aszarr(level=level), mode="r"), file.close


def read(place: Path, part: Part) -> FileImage:
    """Return what a TIFF file holds; of one that is placed on the earth, what GDAL reads."""
    part.refuse(place, "TIFF", "path")
    tifffile = reader_module("tifffile", "tiff", "TIFF")
    with tifffile.TiffFile(place) as file:
        if file.is_geotiff:
            part.refuse(place, "GeoTIFF", "series")
            return geotiff.read(place, part.level, stem(place, ENDINGS))
        base = _series_of(file, part.series, place)
        check_level(part.level, len(base.levels), place)
        series = base.levels[part.level]
        page = series.keyframe
        _refuse_unknown_compression(tifffile, page, place)
        names = _tiff_names(series.axes)
        # Blocks of one page; the axes before those of the page are read one position at a time.
        inner = (*page.chunks,) if len(page.chunks) <= len(series.shape) else series.shape
        chunks = (*[1] * (len(series.shape) - len(inner)), *inner)
        array = TiffArray(place, f"{part.series or 0}/{part.level}", series.shape, series.dtype, chunks)
        coordinates = _tiff_coordinates(file, base.levels[0].keyframe, part.series or 0, names, base.levels[0].shape)
        coordinates = _of_level(coordinates, names, series.shape)
    return FileImage(array, names, stem(place, ENDINGS), coordinates)


def level_count(place: Path, series: int | None) -> int:
    """Return how many levels an image of a TIFF file has."""
    with reader_module("tifffile", "tiff", "TIFF").TiffFile(place) as file:
        if not file.is_geotiff:
            return len(_series_of(file, series, place).levels)
    return geotiff.level_count(place)


def _series_of(file: Any, series: int | None, place: Path) -> Any:
    """Return an image of a TIFF file, of which further ones are pages of another shape or, in OME-TIFF, named."""
    number, count = series or 0, len(file.series)
    if not 0 <= number < count:
        raise ValueError(f"series={series!r} is none of {os.fspath(place)!r}, which has {count}, numbered from 0")
    return file.series[number]


def _of_level(coordinates: Coordinates, names: Sequence[str | None], shape: Sequence[int]) -> Coordinates:
    """Return the coordinates of a level of another size than the base: of windows over the same field."""
    reduced = {}
    for name, size in zip(names, shape, strict=True):
        if name not in coordinates or coordinates[name].size == size:
            continue
        (axis,) = image_axes(xr.DataArray(np.empty(coordinates[name].size), {name: coordinates[name]}, [name]))
        # Whole windows where there can be some; writers round sizes up or down.
        factor: float = round(axis.size / size)
        if not axis.size // factor <= size <= -(-axis.size // factor):
            factor = axis.size / size
        offset = axis.scale * (factor - 1) / 2
        placed = replace(axis, size=size, scale=axis.scale * factor, translation=axis.translation + offset)
        reduced[name] = coordinate_variable(placed, coordinates[name].attrs)
    return {**coordinates, **reduced}


def _refuse_unknown_compression(tifffile: Any, page: Any, place: Path) -> None:
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise ModuleNotFoundError(
            f"{os.fspath(place)!r} is compressed by {page.compression.name}, which needs imagecodecs; install it with: "
            "pip install 'multiscale-sampler[tiff]'"
        )


def _tiff_names(axes: str) -> tuple[str | None, ...]:
    names = [TIFF_AXES.get(letter) for letter in axes]
    # Channels of several samples each.
    return tuple(None if name is not None and names.count(name) > 1 else name for name in names)


def _tiff_coordinates(
    file: Any, page: Any, series: int, names: Sequence[str | None], shape: Sequence[int]
) -> Coordinates:
    if file.is_ome:
        return _ome_coordinates(file.ome_metadata, series, names, shape)
    across = {axis: _pixel_size(page.tags.get(f"{axis.upper()}Resolution")) for axis in ("x", "y")}
    if file.is_imagej:
        return _imagej_coordinates(file.imagej_metadata, across, names, shape)
    unit = page.tags.get("ResolutionUnit")
    unit_name = TIFF_UNITS.get(int(unit.value)) if unit is not None else None
    # One pixel per unit is what writers put there that know of no resolution.
    if unit_name is None or set(across.values()) == {1.0}:
        return {}
    return spaced(names, shape, across, dict.fromkeys(across, unit_name))


def _pixel_size(resolution: Any) -> float:
    """Return the size of a pixel, from a tag of pixels per unit; 0 where it says nothing."""
    if resolution is None:
        return 0.0
    pixels, units = resolution.value
    return float(units / pixels) if pixels else 0.0


def _ome_coordinates(text: str, series: int, names: Sequence[str | None], shape: Sequence[int]) -> Coordinates:
    described = ElementTree.fromstring(text).findall("{*}Image/{*}Pixels")
    if series >= len(described):
        return {}
    pixels = described[series]
    scales, units = {}, {}
    for name, key, default in (
        *((axis, f"PhysicalSize{axis.upper()}", "µm") for axis in "zyx"),
        ("t", "TimeIncrement", "s"),
    ):
        unit = pixels.get(f"{key}Unit", default)
        # Then the size says nothing of the world.
        if unit not in ("pixel", "reference frame"):
            scales[name], units[name] = float(pixels.get(key, 0)), unit_name(unit)
    labels = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    return {**spaced(names, shape, scales, units), **channel_coordinate(names, shape, labels)}


def _imagej_coordinates(
    metadata: Mapping[str, Any], across: Mapping[str, float], names: Sequence[str | None], shape: Sequence[int]
) -> Coordinates:
    """Return the coordinates of an ImageJ file; without a unit, ImageJ has not been told the size of a pixel."""
    scales: dict[str, float] = {}
    units: dict[str, str | None] = {}
    unit = str(metadata.get("unit", "pixel")).replace("\\u00B5", "µ")
    if unit not in ("pixel", "pixels"):
        scales.update(across, z=float(metadata.get("spacing", 0)))
        units.update(dict.fromkeys("zyx", unit_name(unit)))
    scales["t"], units["t"] = float(metadata.get("finterval", 0)), "second"
    return spaced(names, shape, scales, units)
