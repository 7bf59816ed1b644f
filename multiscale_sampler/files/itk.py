"""MetaImage and NRRD files, read by SimpleITK: pixels, spacing, origin and orientation."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..image.boxes import Box, corner_of, shape_of
from ..image.grids import Grid
from ..metadata.units import unit_name
from .arrays import FileArray
from .contents import (
    Coordinates,
    FileImage,
    Format,
    Part,
    image_name,
    import_reader,
    placed_coordinates,
)
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

    The attributes of a grid that is rotated are those of `placed_coordinates`.
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
    coordinates, attrs = _itk_coordinates(reader, header)
    return FileImage(array, tuple(names), image_name(path, ITK.endings), coordinates, attrs)


def _itk_coordinates(reader: Any, header: Mapping[str, str]) -> tuple[Coordinates, dict[str, Any]]:
    """Return the positions that a header states, with anatomical orientations if it says that space is a body's.

    ITK's space is one of x to the left, y to the back and z upwards; it converts positions that NRRD states otherwise.
    """
    count = min(reader.GetDimension(), len(ITK_AXES))
    direction = np.array(reader.GetDirection(), np.float64).reshape([reader.GetDimension()] * 2)[:count, :count]
    spacing, origin = (np.array(each(), np.float64)[:count] for each in (reader.GetSpacing, reader.GetOrigin))
    stated = re.findall(r'"([^"]*)"', header.get("space units", ""))
    units = [unit_name(unit) for unit in stated[:count]] + [None] * (count - len(stated))
    # NRRD names an anatomical space in "space"; MetaImage writes "???" where the orientation is unknown.
    anatomical = bool(header.get("space")) or "?" not in header.get("anatomicalorientation", "?")
    letters = "LPS"[:count] if anatomical and reader.GetDimension() <= len(ITK_AXES) else ""
    return placed_coordinates(
        ITK_AXES[:count], reader.GetSize()[:count], Grid(spacing, origin, direction), units, letters
    )


ITK = Format("MetaImage or NRRD", (".mha", ".mhd", ".nrrd", ".nhdr"), read_itk)
