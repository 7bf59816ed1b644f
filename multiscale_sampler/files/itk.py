"""MetaImage and NRRD files, which ITK reads: pixels, and how they lie in space."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..image.axes import Axis
from ..image.boxes import Box
from ..image.dataarray import coordinate_variable
from ..image.orientation import DIRECTION, ORIGIN, orientations_along
from ..metadata import unit_name
from .arrays import FileArray
from .contents import Coordinates, FileImage, Part, reader_module, stem

ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
ITK_AXES = ("x", "y", "z")
# Where the header of a file ends, of those that have one before their values.
LONGEST_HEADER = 2**16


class ItkArray(FileArray):
    """The pixels of a file that ITK reads, its axes reversed, components of a pixel last."""

    def _open(self) -> tuple[Any, None]:
        # What is compressed as a whole is decompressed once, and held as long as this array.
        sitk = reader_module("SimpleITK", "itk", "MetaImage and NRRD")
        return (sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(self.place))) if self.key else None), None

    def _read(self, box: Box) -> Any:
        whole = self._source()
        if whole is not None:
            return whole[box]
        sitk = reader_module("SimpleITK", "itk", "MetaImage and NRRD")
        reader = sitk.ImageFileReader()
        reader.SetFileName(os.fspath(self.place))
        reader.ReadImageInformation()
        along = box[: reader.GetDimension()][::-1]
        reader.SetExtractIndex([each.start for each in along])
        reader.SetExtractSize([each.stop - each.start for each in along])
        values = sitk.GetArrayFromImage(reader.Execute())
        return values[(slice(None),) * len(along) + box[len(along) :]]


def read(place: Path, part: Part) -> FileImage:
    """Return what a MetaImage or NRRD file holds."""
    part.refuse(place, "MetaImage and NRRD", "path", "series", "level")
    sitk = reader_module("SimpleITK", "itk", "MetaImage and NRRD")
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(place))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"{os.fspath(place)!r} is no MetaImage or NRRD file that ITK reads") from error
    count, components = reader.GetDimension(), reader.GetNumberOfComponents()
    header = _itk_header(place)
    compressed = header.get("compresseddata", "false").lower() == "true" or header.get("encoding", "raw") != "raw"
    shape = (*reader.GetSize()[::-1], *([components] if components > 1 else []))
    dtype = sitk.GetArrayFromImage(sitk.Image([1] * count, reader.GetPixelID(), components)).dtype
    array = ItkArray(place, "whole" if compressed else "", shape, dtype, None)
    names = [*ITK_AXES[:count], *[None] * (count - len(ITK_AXES))][::-1] + ["c"] * (components > 1)
    direction = np.array(reader.GetDirection(), np.float64).reshape(count, count)
    coordinates = _itk_coordinates(reader, header, direction)
    straight = (direction == np.eye(count)).all()
    askew = {} if straight else {DIRECTION: np.flip(direction).tolist(), ORIGIN: list(reader.GetOrigin()[::-1])}
    return FileImage(array, tuple(names), stem(place, ENDINGS), coordinates, askew)


def _itk_coordinates(reader: Any, header: Mapping[str, str], direction: npt.NDArray[np.float64]) -> Coordinates:
    """Return where pixels are along the image's own axes, and which way these lead where the file knows of a body."""
    units = re.findall(r'"([^"]*)"', header.get("space units", ""))
    # "Space" of NRRD, and of MetaImage what its letters say: that directions are those of a body.
    anatomical = bool(header.get("space")) or "?" not in header.get("anatomicalorientation", "?")
    words = orientations_along(direction, "LPS") if anatomical and len(direction) <= len(ITK_AXES) else ()
    coordinates = {}
    for number, name in enumerate(ITK_AXES[: len(direction)]):
        unit = unit_name(units[number]) if number < len(units) else None
        axis = Axis(
            name,
            reader.GetSize()[number],
            float(reader.GetSpacing()[number]),
            float(reader.GetOrigin()[number]),
            unit,
            orientation=words[number] if number < len(words) else None,
        )
        coordinates[name] = coordinate_variable(axis)
    return coordinates


def _itk_header(place: Path) -> dict[str, str]:
    """Return the lines "key: value" or "key = value" at the beginning of a file, keys in lower case."""
    with open(place, "rb") as file:
        lines = file.read(LONGEST_HEADER).split(b"\n")
    said = {}
    for line in lines:
        key, equals, value = line.decode("latin-1").partition(": " if b": " in line else " = ")
        # An empty line ends the header of NRRD, the place of the values that of MetaImage.
        if not line.strip() or key == "ElementDataFile":
            break
        if equals:
            said[key.strip().lower()] = value.strip()
    return said
