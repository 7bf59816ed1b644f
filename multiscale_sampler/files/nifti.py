"""NIfTI files: volumes, the size of their voxels, and which way they lie in the body."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..image.boxes import Box
from ..image.orientation import orientations_along
from .arrays import FileArray
from .contents import FileImage, Part, reader_module, spaced, stem

ENDINGS = (".nii", ".nii.gz")
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
    """The volumes of a NIfTI file, its axes reversed: files have x first and fastest."""

    def _open(self) -> tuple[Any, None]:
        # The proxy opens the file for every read, and keeps it open where it can jump within gzip.
        return reader_module("nibabel", "nifti", "NIfTI").load(self.place).dataobj, None

    def _read(self, box: Box) -> Any:
        return np.asarray(self._source()[box[::-1]]).T


def read(place: Path, part: Part) -> FileImage:
    """Return what a NIfTI file holds."""
    part.refuse(place, "NIfTI", "path", "series", "level")
    nibabel = reader_module("nibabel", "nifti", "NIfTI")
    try:
        file = nibabel.load(place)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(f"{os.fspath(place)!r} is no NIfTI file: {error}") from error
    count = len(file.shape)
    # One voxel tells what dtype the scaling of the header makes.
    dtype = np.asarray(file.dataobj[(slice(0, 1),) * count]).dtype
    array = NiftiArray(place, "", file.shape[::-1], dtype, None)
    names = [*NIFTI_AXES[:count], *[None] * (count - len(NIFTI_AXES))]
    space, time = file.header.get_xyzt_units()
    scales = dict(zip("xyzt", map(float, file.header.get_zooms()), strict=False))
    units = {**dict.fromkeys("xyz", NIFTI_UNITS.get(space)), "t": NIFTI_UNITS.get(time)}
    # A time axis in hertz, ppm or radians is none of time.
    if time not in ("unknown", "sec", "msec", "usec"):
        scales.pop("t", None)
    coordinates = spaced(names, file.shape, scales, units)
    for name, word in _nifti_orientations(file).items():
        if name in coordinates:
            coordinates[name].attrs["orientation"] = word
    return FileImage(array, tuple(names[::-1]), stem(place, ENDINGS), coordinates, {"affine": file.affine.tolist()})


def _nifti_orientations(file: Any) -> dict[str, str]:
    """Return which way the axes of voxels lead through the body, where the file says so.

    Without a code for either of its transformations, nobody does: the affine is made from the size of voxels alone.
    """
    if not (file.header["qform_code"] or file.header["sform_code"]):
        return {}
    # "+x = Right, +y = Anterior, +z = Superior" (nifti1.h)
    words = orientations_along(file.affine[:3, :3], "RAS")
    return {name: word for name, word in zip("xyz", words, strict=True) if word is not None}
