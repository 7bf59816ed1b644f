"""Pictures that imageio reads: PNG, JPEG, BMP, GIF and WebP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .arrays import FileArray
from .contents import FileImage, Part, reader_module, stem

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
# Samples of a pixel: grey with alpha, colours, colours with alpha.
MOST_SAMPLES = 4
# imageio's way to Pillow; left to choose, it tries all of its ways on a file that is none.
PICTURES = "pillow"


class PictureArray(FileArray):
    """A picture that imageio reads: decoded as a whole, and held as long as this array."""

    def _open(self) -> tuple[Any, None]:
        return reader_module("imageio.v3", "imageio", "picture").imread(self.place, plugin=PICTURES), None


def read(place: Path, part: Part) -> FileImage:
    """Return what a picture holds."""
    part.refuse(place, "picture", "path", "series", "level")
    imageio = reader_module("imageio.v3", "imageio", "picture")
    try:
        said = imageio.improps(place, plugin=PICTURES)
    except OSError as error:
        raise ValueError(f"{os.fspath(place)!r} is no picture that imageio reads: {error}") from error
    inner = said.shape[1:] if said.is_batch else said.shape
    samples = ("c",) if len(inner) == 3 and inner[-1] <= MOST_SAMPLES else ()
    names = [*([None] * (len(said.shape) - 2 - len(samples))), "y", "x", *samples]
    return FileImage(PictureArray(place, "", said.shape, said.dtype, said.shape), tuple(names), stem(place, ENDINGS))
