"""World files: where the pixels of a picture or a TIFF file lie on a map, as six numbers in a file beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..image.grids import Grid
from ..messages import warn_caller
from .contents import Coordinates, placed_coordinates

WORLD_FILE = ".wld"


def world_positions(
    path: Path, names: Sequence[str | None], shape: Sequence[int], unit: str | None = None
) -> tuple[Coordinates, dict[str, Any]]:
    """Return the positions that a world file beside a file states; nothing without one.

    Parameters
    ----------
    path
        The file of the image.
    names, shape
        Of its axes, of which the world file places y and x.
    unit
        Unit of its map, which a world file does not state.

    Returns
    -------
    tuple
        The coordinates, and the attributes of an image whose grid is rotated, as from `placed_coordinates`.

    Warns
    -----
    UserWarning
        If the world file is not used, as it does not contain six numbers of a grid.
    """
    place = _world_file_of(path)
    if place is None or not {"x", "y"} <= set(names):
        return {}, {}
    try:
        # "a, d, b, e, c, f": the steps along a row, those along a column, and the centre of the first pixel.
        a, d, b, e, c, f = (float(number) for number in place.read_text(encoding="ascii").split()[:6])
        grid = Grid.of_steps([[a, b], [d, e]], [c, f])
    except ValueError:
        grid = None
    if grid is None:
        warn_caller(
            f"the world file {os.fspath(place)!r} is not used, as it does not contain six numbers of a grid; correct "
            "it or remove it"
        )
        return {}, {}
    width, height = (shape[names.index(name)] for name in ("x", "y"))
    return placed_coordinates("xy", (width, height), grid, (unit, unit))


def _world_file_of(path: Path) -> Path | None:
    """Return the world file of a file: of .tif one that ends in .tfw, .tifw or .wld, or in capitals."""
    ending = path.suffix.lower()
    endings = (f"{ending[:2]}{ending[-1]}w", f"{ending}w", WORLD_FILE)
    # As GDAL looks for them; a folder may have too many files to list.
    places = [path.with_suffix(cased) for each in endings for cased in (each, each.upper())]
    return next((place for place in places if place.is_file()), None)
