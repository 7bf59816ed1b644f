"""MetaImage and NRRD files, read by SimpleITK: pixels, spacing, origin and orientation."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..image.axes import Axis
from ..image.boxes import Box, corner_of, shape_of
from ..image.dataarray import coordinate_variable
from ..image.orientation import DIRECTION, ORIGIN, orientations_along
from ..metadata.units import unit_name
from .arrays import FileArray
from .contents import Coordinates, FileImage, Format, Part, image_name, import_reader
from .itk_data import stored_values, text_header

ITK_AXES = ("x", "y", "z")


class ItkArray(FileArray):
    """The pixels of a file that ITK reads: ITK's axes in reverse order, then the components of a pixel.

    Its key is "whole" if the file is compressed: it is then decompressed at the first read and kept in memory. Else "".
    """

    def _open(self) -> tuple[Any, None]:
        if not self.key:
            return None, None
        self.require_memory()
        # ITK returns zeros where the decompression of a MetaImage file fails, and ignores checksums.
        stored = stored_values(self.path)
        if stored is not None:
            stored.require_decoded_bytes(self.nbytes)
        sitk = import_reader("SimpleITK", "itk", "MetaImage and NRRD")
        return sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(self.path))), None

    def _read(self, box: Box) -> Any:
        whole = self._source()
        if whole is not None:
            return whole[box]
        sitk = import_reader("SimpleITK", "itk", "MetaImage and NRRD")
        reader = sitk.ImageFileReader()
        reader.SetFileName(os.fspath(self.path))
        reader.ReadImageInformation()
        spans = box[: reader.GetDimension()][::-1]
        reader.SetExtractIndex(corner_of(spans))
        reader.SetExtractSize(shape_of(spans))
        values = sitk.GetArrayFromImage(reader.Execute())
        return values[(slice(None),) * len(spans) + box[len(spans) :]]


def read_itk(path: Path, part: Part) -> FileImage:
    """Return the image in a MetaImage or NRRD file.

    Its attributes ``direction`` and ``origin``, in the order of its axes, state how a rotated or flipped grid lies in
    space.
    """
    part.refuse(path, "MetaImage and NRRD", "path", "series", "level")
    sitk = import_reader("SimpleITK", "itk", "MetaImage and NRRD")
    stored = stored_values(path)
    if stored is not None:
        stored.require_file()
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    reader.ReadImageInformation()
    count, components = reader.GetDimension(), reader.GetNumberOfComponents()
    header, _ = text_header(path)
    compressed = header.get("compresseddata", "false").lower() == "true" or header.get("encoding", "raw") != "raw"
    shape = (*reader.GetSize()[::-1], *([components] if components > 1 else []))
    dtype = sitk.GetArrayFromImage(sitk.Image([1] * count, reader.GetPixelID(), components)).dtype
    array = ItkArray(path, "whole" if compressed else "", shape, dtype, None)
    if stored is not None:
        stored.require_bytes(array.nbytes)
    names = [*ITK_AXES[:count], *[None] * (count - len(ITK_AXES))][::-1] + ["c"] * (components > 1)
    direction = np.array(reader.GetDirection(), np.float64).reshape(count, count)
    coordinates = _itk_coordinates(reader, header, direction)
    if (direction == np.eye(count)).all():
        attrs = {}
    else:
        attrs = {DIRECTION: np.flip(direction).tolist(), ORIGIN: list(reader.GetOrigin()[::-1])}
    return FileImage(array, tuple(names), image_name(path, ITK.endings), coordinates, attrs)


def _itk_coordinates(reader: Any, header: Mapping[str, str], direction: npt.NDArray[np.float64]) -> Coordinates:
    """Return coordinates along the image's own axes, with anatomical orientations if the header states that space."""
    units = re.findall(r'"([^"]*)"', header.get("space units", ""))
    # NRRD names an anatomical space in "space"; MetaImage writes "???" where the orientation is unknown.
    anatomical = bool(header.get("space")) or "?" not in header.get("anatomicalorientation", "?")
    orientations = orientations_along(direction, "LPS") if anatomical and len(direction) <= len(ITK_AXES) else ()
    coordinates = {}
    for number, name in enumerate(ITK_AXES[: len(direction)]):
        unit = unit_name(units[number]) if number < len(units) else None
        axis = Axis(
            name,
            reader.GetSize()[number],
            float(reader.GetSpacing()[number]),
            float(reader.GetOrigin()[number]),
            unit,
            orientation=orientations[number] if number < len(orientations) else None,
        )
        coordinates[name] = coordinate_variable(axis)
    return coordinates


ITK = Format("MetaImage or NRRD", (".mha", ".mhd", ".nrrd", ".nhdr"), read_itk)
