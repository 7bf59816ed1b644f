"""Files that are no zarr: what they hold as arrays read slice by slice, and how they label it.

One reader for each family of formats, in a module and behind an extra of its own; which one, a file's ending tells.
`read_file` tells what a file holds, without its values; `store.reading` makes a lazy image of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from . import hdf5, itk, netcdf, nifti, raster_images, tiff
from .arrays import FileArray
from .contents import FileImage, Part, ending_of

__all__ = ["FileArray", "FileImage", "Part", "is_file_of_images", "level_count", "read_file"]

READERS: Mapping[str, Callable[[Path, Part], FileImage]] = {
    ending: family.read for family in (tiff, nifti, hdf5, netcdf, itk, raster_images) for ending in family.ENDINGS
}


def is_file_of_images(place: Path | None) -> bool:
    """Whether there is a local file at a place of a format that is read here."""
    return place is not None and ending_of(place, READERS) is not None and place.is_file()


def read_file(place: Path, part: Part) -> FileImage:
    """Return what a file holds, without reading its values.

    Parameters
    ----------
    place
        The file.
    part
        Which part of it.

    Raises
    ------
    ModuleNotFoundError
        If the reader of the format is not installed; the text says what installs it.
    ValueError
        If the file holds no image, or several and `path` names none.
    """
    return READERS[ending_of(place, READERS) or ""](place, part)


def level_count(place: Path, series: int | None) -> int:
    """Return how many levels an image in a file has: of TIFF as many as are stored, of others one."""
    if ending_of(place, READERS) in tiff.ENDINGS:
        return tiff.level_count(place, series)
    Part(series=series).refuse(place, "such", "series")
    return 1
