"""NIfTI files, read by nibabel: volumes, voxel sizes and anatomical orientation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..image.boxes import Box
from ..image.orientation import orientations_along
from .arrays import FileArray
from .contents import FileImage, Format, Part, image_name, import_reader, require_all, spaced_coordinates
from .encoded import require_decoded

NIFTI_AXES = ("x", "y", "z", "t", "c")
NIFTI_UNITS = {
    "meter": "meter",
    "mm": "millimeter",
    "micron": "micrometer",
    "sec": "second",
    "msec": "millisecond",
    "usec": "microsecond",
}


class NiftiArray(FileArray):
    """The scaled values of a NIfTI file, its axes in reverse order, because x comes first in the file."""

    def _open(self) -> tuple[Any, None]:
        # nibabel's proxy opens the file as needed and closes it by itself.
        values = import_reader("nibabel", "nifti", "NIfTI").load(self.path).dataobj
        if _is_compressed(self.path):
            # Readers of regions stop before the checksum, which is at the end.
            require_decoded(self.path, self.path, 0, "gzip", _stored_size(values))
        return values, None

    def _read(self, box: Box) -> Any:
        return np.asarray(self._source()[box[::-1]]).T


def read_nifti(path: Path, part: Part) -> FileImage:
    """Return the image in a NIfTI file; its attribute ``affine`` is the file's 4 x 4 matrix, for x, y, z."""
    part.refuse(path, "NIfTI", "path", "series", "level")
    nibabel = import_reader("nibabel", "nifti", "NIfTI")
    file = nibabel.load(path)
    if not _is_compressed(path):
        require_all(path, path.stat().st_size, _stored_size(file.dataobj), "bytes")
    count = len(file.shape)
    # The dtype of scaled values depends on the header; one voxel shows it.
    dtype = np.asarray(file.dataobj[(slice(0, 1),) * count]).dtype
    array = NiftiArray(path, "", file.shape[::-1], dtype, None)
    names = [*NIFTI_AXES[:count], *[None] * (count - len(NIFTI_AXES))]
    space, time = file.header.get_xyzt_units()
    scales = dict(zip("xyzt", map(float, file.header.get_zooms()), strict=False))
    units = {**dict.fromkeys("xyz", NIFTI_UNITS.get(space)), "t": NIFTI_UNITS.get(time)}
    # The fourth axis may be a spectrum, in hertz, ppm or radians per second.
    if time not in ("unknown", "sec", "msec", "usec"):
        scales.pop("t", None)
    coordinates = spaced_coordinates(names, file.shape, scales, units)
    for name, orientation in _nifti_orientations(file).items():
        if name in coordinates:
            coordinates[name].attrs["orientation"] = orientation
    attrs = {"affine": file.affine.tolist()}
    return FileImage(array, tuple(names[::-1]), image_name(path, NIFTI.endings), coordinates, attrs)


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _stored_size(values: Any) -> int:
    """Return the number of bytes from the beginning of a file, after decompression, to the end of its values."""
    return int(values.offset) + int(math.prod(values.shape) * values.dtype.itemsize)


def _nifti_orientations(file: Any) -> dict[str, str]:
    """Return the anatomical orientations of x, y and z, for axes that run along the body.

    Empty if neither transformation of the header has a code: nibabel then makes the affine from voxel sizes alone.
    """
    if not (file.header["qform_code"] or file.header["sform_code"]):
        return {}
    # "+x = Right, +y = Anterior, +z = Superior" (nifti1.h)
    orientations = orientations_along(file.affine[:3, :3], "RAS")
    return {name: word for name, word in zip("xyz", orientations, strict=True) if word is not None}


NIFTI = Format("NIfTI", (".nii", ".nii.gz"), read_nifti)
