"""Image files in formats other than zarr: lazily readable arrays, with the axes and coordinates that the files state.

Each family of formats has a module, which needs an optional package; the ending of a file's name chooses the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .contents import FileImage, Format, Part, ending_of
from .diagnostics import opening
from .hdf5 import HDF5
from .itk import ITK
from .netcdf import NETCDF
from .nifti import NIFTI
from .raster_images import PICTURE
from .tiff import TIFF

__all__ = ["FileImage", "Part", "is_file_of_images", "level_count", "read_file"]

FORMATS: Mapping[str, Format] = {
    ending: file_format for file_format in (TIFF, NIFTI, HDF5, NETCDF, ITK, PICTURE) for ending in file_format.endings
}


def is_file_of_images(path: Path | None) -> bool:
    """Whether a path is that of an existing file whose ending is one of `FORMATS`."""
    return path is not None and ending_of(path, FORMATS) is not None and path.is_file()


def read_file(path: Path, part: Part) -> FileImage:
    """Return an image in a file, without reading its values.

    Parameters
    ----------
    path
        The file, for which `is_file_of_images` is true.
    part
        Which array, series and level of the file to open.

    Raises
    ------
    FileNotFoundError
        If the file does not contain the array that `part` names.
    ModuleNotFoundError
        If the package that reads the format is not installed; the message says how to install it.
    OSError, ValueError
        If the file is damaged, incomplete or of another format, contains several arrays and `part` does not name one,
        or `part` does not fit the format.

    Warns
    -----
    UserWarning
        If the library that opens the file reports something else about it.
    """
    file_format = _format_of(path)
    with opening(path, file_format.name) as reports:
        image = file_format.read(path, part)
    image.array.reported = frozenset(reports)
    return image


def level_count(path: Path, series: int | None) -> int:
    """Return the number of levels of an image in a file: those stored in a TIFF file, 1 for all other formats.

    Raises
    ------
    OSError, ValueError
        If the file is damaged, incomplete or of another format, or does not have that series.
    """
    file_format = _format_of(path)
    # Its levels are opened one by one after this, which warns.
    with opening(path, file_format.name, warn=False):
        return file_format.level_count(path, series)


def _format_of(path: Path) -> Format:
    return FORMATS[ending_of(path, FORMATS) or ""]
