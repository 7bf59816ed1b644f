"""Whether the planes, strips and tiles that a TIFF file states are in it, from its index alone."""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from .contents import require_all

# tifffile's names of the kinds of series whose number of planes is stated.
STATED_KINDS = ("ome", "imagej", "shaped")


def require_series(path: Path, file: Any, number: int, series: Any) -> None:
    """Check that all planes of a level of a series are in its files.

    Parameters
    ----------
    path
        The file that was opened.
    file
        tifffile's object of it.
    number
        Number of the series.
    series
        The series, or one of its levels.

    Raises
    ------
    ValueError
        If planes are missing, or strips or tiles lie beyond the end of their file.

    Warns
    -----
    UserWarning
        If strips or tiles are stated not to be stored, as in sparse files.
    """
    planes = series.size // math.prod(series.keyframe.shape)
    # Pages in one piece need not be in the list of pages, as those of an ImageJ file of more than 4 GiB.
    is_one_piece = series.dataoffset is not None
    pages = [] if is_one_piece else [page for page in _pages_of(series) if page is not None]
    found = planes if is_one_piece else len(pages)
    _require_planes(path, file, number, found, max(planes, _stated_planes(file, number)))
    if series.kind not in STATED_KINDS:
        _require_list_of_pages(path, file)
    if is_one_piece:
        end = series.dataoffset + series.nbytes
        require_all(path, series.keyframe.parent.filehandle.size, end, "bytes")
    _require_segments(path, file, pages)


def require_pages(path: Path, file: Any) -> None:
    """Check that the strips and tiles of all pages of a file are in it.

    Raises
    ------
    ValueError
        If strips or tiles lie beyond the end of the file, or the list of pages does.

    Warns
    -----
    UserWarning
        If strips or tiles are stated not to be stored, as in sparse files.
    """
    _require_list_of_pages(path, file)
    _require_segments(path, file, file.pages)


def _pages_of(series: Any) -> list[Any]:
    """Return the pages of a series that are in its files, and None for those that tifffile fills with zeros."""
    pages = []
    try:
        for page in series:
            pages.append(page)
    except IndexError:
        # The list of pages ends before the series does.
        return pages
    return pages


def _require_planes(path: Path, file: Any, number: int, found: int, stated: int) -> None:
    missing = sorted(name for name in _files_of_set(file, number) if not path.with_name(name).exists())
    if found < stated and missing:
        require_all(path, found, stated, f"planes, because {missing!r} of its set of files are missing")
    require_all(path, found, stated, "planes")


def _stated_planes(file: Any, number: int) -> int:
    """Return the number of planes that the description of a series states; 0 without one.

    tifffile ignores a description that does not fit the pages that it finds.
    """
    page = file.pages.first
    if file.is_ome:
        return _stated_by_ome(_ome_pixels(file, number))
    if file.is_imagej:
        sizes = {key: int((file.imagej_metadata or {}).get(key, 1)) for key in ("channels", "slices", "frames")}
        # Bio-Formats counts the samples of a pixel as channels.
        channels = 1 if sizes["channels"] == page.samplesperpixel else sizes["channels"]
        return channels * sizes["slices"] * sizes["frames"]
    return 0


def _ome_pixels(file: Any, number: int) -> Any:
    """Return the element of OME-XML that describes a series; None without one."""
    pixels = ElementTree.fromstring(file.ome_metadata).findall("{*}Image/{*}Pixels") if file.is_ome else []
    return pixels[number] if number < len(pixels) else None


def _stated_by_ome(pixels: Any) -> int:
    if pixels is None:
        return 0
    # The samples of a channel are in one plane.
    channels = len(pixels.findall("{*}Channel")) or int(pixels.get("SizeC", 1))
    return channels * int(pixels.get("SizeZ", 1)) * int(pixels.get("SizeT", 1))


def _files_of_set(file: Any, number: int) -> set[str]:
    pixels = _ome_pixels(file, number)
    found = () if pixels is None else pixels.findall("{*}TiffData/{*}UUID")
    return {name for uuid in found if (name := os.path.basename(uuid.get("FileName", "")))}


def _require_list_of_pages(path: Path, file: Any) -> None:
    """Check that the list of pages ends within the file: each page has the offset of the next, the last one 0."""
    count, tiff, handle = len(file.pages), file.tiff, file.filehandle
    handle.seek(file.pages.get(count - 1).offset)
    (tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
    handle.seek(tags * tiff.tagsize, os.SEEK_CUR)
    following = handle.read(tiff.offsetsize)
    if any(following) or len(following) < tiff.offsetsize:
        raise ValueError(
            f"{os.fspath(path)!r} contains {count} of at least {count + 1} pages: the offset of the next page leads "
            f"to none; replace it by a complete copy"
        )


def _require_segments(path: Path, file: Any, pages: Iterable[Any]) -> None:
    """Check that the strips or tiles of pages are within their files."""
    stated = inside = stored = 0
    for page in pages:
        offsets, counts = np.asarray(page.dataoffsets, np.uint64), np.asarray(page.databytecounts, np.uint64)
        size = min(len(offsets), len(counts))
        ends = offsets[:size] + counts[:size]
        # Philips leaves out the last row of tiles.
        stated += size if file.is_philips else max(size, math.prod(page.keyframe.chunked))
        inside += int((ends <= page.parent.filehandle.size).sum())
        stored += int(((offsets[:size] > 0) & (counts[:size] > 0)).sum())
    require_all(path, inside, stated, "strips or tiles")
    if stored < stated:
        warnings.warn(
            f"{os.fspath(path)!r} stores {stored} of {stated} strips or tiles; the others are read as missing or 0",
            UserWarning,
            stacklevel=2,
        )
