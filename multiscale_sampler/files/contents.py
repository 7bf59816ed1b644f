"""What a file format and an image in a file are, and what the readers of all formats share."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..extras import required
from ..image.axes import Axis
from ..image.boxes import Block
from ..image.dataarray import coordinate_variable
from ..image.grids import FloatArray, Grid
from ..image.kinds import CHANNEL_NAMES
from ..image.orientation import LETTERS, orientations_along
from ..image.values import Packing
from ..metadata.versions import OMERO
from .arrays import FileArray

Coordinates: TypeAlias = "dict[str, xr.Variable]"

# Labels and colours of the channels of pictures.
RGB = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
GRAY = (("gray", "FFFFFF"),)
# The channel that masks the others, and the one by which they are multiplied already, so that it does not.
ALPHA, PREMULTIPLIED = "alpha", "premultiplied alpha"


@dataclass(frozen=True)
class FileImage:
    """An image in a file: its array, and the labels that the file states."""

    array: FileArray
    """The values, read on demand."""
    names: tuple[str | None, ...]
    """Names of the axes; None for an axis that the file does not name."""
    name: str | None = None
    """Name of the image."""
    coordinates: Coordinates = field(default_factory=dict)
    """Coordinates by name; an axis without a stated position or spacing has none."""
    attrs: Mapping[Any, Any] = field(default_factory=dict)
    """Attributes of the image."""
    packing: Packing | None = None
    """How the file packs the values, if they are decoded already."""


@dataclass(frozen=True)
class Part:
    """Which image of a file to open."""

    path: str | None = None
    """Name of the array in the file (HDF5, netCDF); None for the only one."""
    series: int | None = None
    """Number of the image in a TIFF file; None for the first."""
    level: int = 0
    """Number of the stored level of a TIFF file."""

    def refuse(self, path: Path, format_name: str, *options: str) -> None:
        """Check that options that a format does not have keep their defaults.

        Raises
        ------
        ValueError
            If one of the options is set.
        """
        for option in options:
            if value := getattr(self, option):
                raise ValueError(
                    f"{option}={value!r} does not apply to {format_name} files, such as {os.fspath(path)!r}; "
                    "leave it out"
                )


def one_level(path: Path, series: int | None) -> int:
    """Return 1, the number of levels in files of formats that do not store pyramids.

    Raises
    ------
    ValueError
        If a series other than the first is asked for.
    """
    Part(series=series).refuse(path, "non-TIFF", "series")
    return 1


@dataclass(frozen=True)
class Format:
    """A family of file formats with one reader."""

    name: str
    """Name of the family, as errors have it."""
    endings: tuple[str, ...]
    """Endings of file names, in lower case."""
    read: Callable[[Path, Part], FileImage]
    """Opens an image of a file, as `read_file` does."""
    level_count: Callable[[Path, int | None], int] = one_level
    """Returns the number of levels of one series of a file."""


def ending_of(path: Path, endings: Iterable[str]) -> str | None:
    """Return the longest of some endings that a file's name has, ignoring case; None if it has none of them."""
    return max((ending for ending in endings if path.name.lower().endswith(ending)), key=len, default=None)


def image_name(path: Path, endings: Iterable[str]) -> str:
    """Return a file's name without its ending: the name of the only image in it."""
    return path.name[: -len(ending_of(path, endings) or "") or None] or "image"


def import_reader(module: str, extra: str, format_name: str) -> Any:
    """Return a module that reads a file format.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; the message names the extra that installs it.
    """
    return required(module, f"{format_name} files need {module}", f"'multiscale-sampler[{extra}]'")


def only_array_name(path: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of the only array in a file, from the shapes of all arrays by name.

    Raises
    ------
    ValueError
        If the file contains none or several.
    """
    if len(shapes) == 1:
        return next(iter(shapes))
    listed = ", ".join(f"{name!r} {shape}" for name, shape in shapes.items()) or "none"
    raise ValueError(f"{path!r} does not contain exactly one array (arrays: {listed}); name one with path=")


def check_level(level: int, count: int, path: Path) -> None:
    """Check that an image with `count` levels has a level.

    Raises
    ------
    ValueError
        If it does not.
    """
    if not 0 <= level < count:
        raise ValueError(f"level={level!r} does not exist in {os.fspath(path)!r}; choose one from 0 to {count - 1}")


def require_all(path: Path, found: int, stated: int, what: str) -> None:
    """Check that a file contains as many parts as it states.

    Raises
    ------
    ValueError
        If it contains fewer.
    """
    if found < stated:
        raise ValueError(f"{os.fspath(path)!r} contains {found} of {stated} {what}; replace it by a complete copy")


def masked_dtype(dtype: npt.DTypeLike, nodata: Any) -> np.dtype[Any] | None:
    """Return the dtype in which values under a mask are read: floats, which have NaN, unless the file states `nodata`.

    None for 64-bit integers without nodata, which floats do not hold exactly.
    """
    dtype = np.dtype(dtype)
    if nodata is not None or dtype.kind in "fc":
        return dtype
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        return None
    return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)


def masked_values(values: Block, valid: Block, nodata: Any, dtype: np.dtype[Any]) -> Block:
    """Return values as `masked_dtype` has them: where `valid` is 0, they are missing."""
    return np.where(valid, values.astype(dtype, copy=False), dtype.type(np.nan if nodata is None else nodata))


def warn_of_unused_mask(dtype: npt.DTypeLike) -> None:
    """Warn, while a file is opened, that its mask is not used, as no value of its dtype stands for missing ones."""
    warnings.warn(
        f"the mask is not used, as no value of {np.dtype(dtype)} stands for missing ones: state a nodata value in the "
        "file, or give the mask as weights in Python",
        stacklevel=2,
    )


def spaced_coordinates(
    names: Sequence[str | None],
    shape: Sequence[int],
    scales: Mapping[str, float],
    units: Mapping[str, str | None],
    firsts: Mapping[str, float] | None = None,
) -> Coordinates:
    """Return coordinates for the axes with a spacing; one that is not positive and finite is ignored.

    They begin at the positions in `firsts`, else at 0.
    """
    coordinates = {}
    for name, size in zip(names, shape, strict=True):
        scale = scales.get(name or "", 0.0)
        if name is not None and math.isfinite(scale) and scale > 0:
            first = (firsts or {}).get(name, 0.0)
            first = first if math.isfinite(first) else 0.0
            coordinates[name] = coordinate_variable(Axis(name, size, scale, first, units.get(name)))
    return coordinates


def placed_coordinates(
    names: Sequence[str],
    sizes: Sequence[int],
    grid: Grid,
    units: Sequence[str | None],
    letters: str = "",
    origin: FloatArray | None = None,
) -> tuple[Coordinates, dict[str, Any]]:
    """Return the coordinates of a grid's axes, and the attributes of an image whose axes are rotated in space.

    Parameters
    ----------
    names, sizes, units
        Of the axes, x first.
    grid
        Where the samples lie.
    letters
        The anatomical directions of space: "RAS" (NIfTI) or "LPS" (ITK); "" where they are not known.
    origin
        The point about which axes are rotated, of a stored level the base's; default: the first sample.
    """
    scales, first, attrs = grid.along_axes(sizes, grid.first if origin is None else origin)
    words: Sequence[str | None] = [LETTERS[letter] for letter in letters]
    if attrs and letters:
        words = orientations_along(grid.direction, letters)
    coordinates = {}
    for number, (name, size, unit) in enumerate(zip(names, sizes, units, strict=True)):
        word = words[number] if number < len(words) else None
        axis = Axis(name, size, float(scales[number]), float(first[number]), unit, orientation=word)
        coordinates[name] = coordinate_variable(axis)
    return coordinates, attrs


def channel_coordinate(
    names: Sequence[str | None], shape: Sequence[int], labels: Sequence[Any], colors: Sequence[str | None] = ()
) -> Coordinates:
    """Return labels of channels as a coordinate, with the colours that the file states in its attribute ``omero``.

    Empty without a channel axis, or if the file says nothing of its channels. Labels that are not unique are in
    ``omero`` alone, and the coordinate counts.
    """
    for name, size in zip(names, shape, strict=True):
        if name not in CHANNEL_NAMES:
            continue
        named = len(labels) == size and all(labels)
        unique = named and len(set(labels)) == size
        colored = len(colors) == size and any(colors)
        if not unique and not named and not colored:
            return {}
        entries = [{} for _ in range(size)] if not named else [{"label": str(label)} for label in labels]
        shown = [
            {**entry, **({"color": color} if color else {})}
            for entry, color in zip(entries, colors or [None] * size, strict=True)
        ]
        values = np.asarray(labels, dtype=str) if unique else np.arange(size)
        return {name: xr.Variable((name,), values, {} if unique and not colored else {OMERO: {"channels": shown}})}
    return {}


def palette_attributes(colors: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the attributes that state a palette: each value that has a colour is a class.

    Parameters
    ----------
    colors
        Red, green and blue, 0 to 255, of the values from 0 on. Tables have an entry for every value of the dtype, those
        after the last class are black.
    """
    last = max((value for value, color in enumerate(colors) if any(color[:3])), default=len(colors) - 1)
    shown = ["#{:02X}{:02X}{:02X}".format(*color[:3]) for color in colors[: last + 1]]
    return {"flag_values": list(range(len(shown))), "flag_colors": " ".join(shown)}


def rgb_coordinate(
    names: Sequence[str | None], shape: Sequence[int], dtype: np.dtype[Any], alpha: str = ALPHA
) -> Coordinates:
    """Return red, green, blue, or gray, and alpha as channels of a picture, shown over the whole range of its dtype.

    `alpha` is what the sample after the colours is called.
    """
    for name, size in zip(names, shape, strict=True):
        if name not in CHANNEL_NAMES or size not in (2, 3, 4):
            continue
        colors = ((*GRAY, (alpha, "FFFFFF")) if size == 2 else (*RGB, (alpha, "FFFFFF")))[:size]
        greatest = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
        window = {"min": 0.0, "max": greatest, "start": 0.0, "end": greatest}
        channels = [
            {"label": label, "color": color, "active": label != alpha, "window": dict(window)}
            for label, color in colors
        ]
        labels = np.asarray([label for label, _ in colors])
        return {name: xr.Variable((name,), labels, {OMERO: {"channels": channels}})}
    return {}
