"""NIfTI files, read by nibabel: volumes, positions and anatomical orientation."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..image.boxes import Box
from ..image.grids import Grid
from .arrays import FileArray
from .contents import (
    Coordinates,
    FileImage,
    Format,
    Part,
    image_name,
    import_reader,
    placed_coordinates,
    require_all,
    spaced_coordinates,
)
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
    """Return the image in a NIfTI file.

    Its attribute ``affine`` is the file's 4 x 4 matrix, for x, y, z. The attributes of a rotated or sheared grid
    are those of `placed_coordinates`.
    """
    part.refuse(path, "NIfTI", "path", "series", "level")
    nibabel = import_reader("nibabel", "nifti", "NIfTI")
    file = nibabel.load(path)
    if isinstance(file, nibabel.Cifti2Image):
        raise ValueError(
            f"{os.fspath(path)!r} is a CIFTI-2 file, whose values belong to vertices and voxels in a list, not to a "
            "grid; export its volume as NIfTI"
        )
    if not _is_compressed(path):
        require_all(path, path.stat().st_size, _stored_size(file.dataobj), "bytes")
    count = len(file.shape)
    # The dtype of scaled values depends on the header; one voxel shows it.
    dtype = np.asarray(file.dataobj[(slice(0, 1),) * count]).dtype
    array = NiftiArray(path, "", file.shape[::-1], dtype, None)
    names = [*NIFTI_AXES[:count], *[None] * (count - len(NIFTI_AXES))]
    coordinates, attrs = _nifti_coordinates(file, names)
    return FileImage(array, tuple(names[::-1]), image_name(path, NIFTI.endings), coordinates, attrs)


def _nifti_coordinates(file: Any, names: Sequence[str | None]) -> tuple[Coordinates, dict[str, Any]]:
    """Return the positions that a header states, in its space of x to the right, y to the front and z upwards.

    Only spacings are stated if neither transformation of the header has a code: nibabel then makes the affine from
    voxel sizes alone.
    """
    space, time = file.header.get_xyzt_units()
    scales = dict(zip("xyzt", map(float, file.header.get_zooms()), strict=False))
    units = {**dict.fromkeys("xyz", NIFTI_UNITS.get(space)), "t": NIFTI_UNITS.get(time)}
    # The fourth axis may be a spectrum, in hertz, ppm or radians per second.
    if time not in ("unknown", "sec", "msec", "usec"):
        scales.pop("t", None)
    first = {"t": float(file.header["toffset"])}
    coordinates = spaced_coordinates(names, file.shape, scales, units, first)
    spatial = "xyz"[: len(file.shape)]
    affine, count = file.affine, len(spatial)
    # A plane may lie across the axes of space.
    is_square = not affine[count:3, :count].any()
    grid = Grid.of_steps(affine[:count, :count], affine[:count, 3]) if is_square else None
    if grid is None or not (file.header["qform_code"] or file.header["sform_code"]):
        return coordinates, {"affine": affine.tolist()}
    # "+x = Right, +y = Anterior, +z = Superior" (nifti1.h)
    placed, attrs = placed_coordinates(spatial, file.shape[:count], grid, [units[name] for name in spatial], "RAS")
    return {**coordinates, **placed}, {"affine": affine.tolist(), **attrs}


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _stored_size(values: Any) -> int:
    """Return the number of bytes from the beginning of a file, after decompression, to the end of its values."""
    return int(values.offset) + int(math.prod(values.shape) * values.dtype.itemsize)


NIFTI = Format("NIfTI", (".nii", ".nii.gz"), read_nifti)
