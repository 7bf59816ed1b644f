"""PNG, JPEG, BMP, GIF and WebP pictures, read by imageio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .arrays import FileArray
from .contents import FileImage, Format, Part, image_name, import_reader

# Samples per pixel: 2 for grey with alpha, 3 for RGB, 4 for RGBA.
MOST_SAMPLES = 4
# imageio's reader by Pillow; without a choice imageio tries all its readers on a damaged file.
IMAGEIO_PLUGIN = "pillow"


class PictureArray(FileArray):
    """A picture, decoded as a whole at the first read and kept in memory."""

    def _open(self) -> tuple[Any, None]:
        return import_reader("imageio.v3", "imageio", "picture").imread(self.path, plugin=IMAGEIO_PLUGIN), None


def read_picture(path: Path, part: Part) -> FileImage:
    """Return a picture, of axes y, x and, with several samples per pixel, c; frames of an animation are unnamed."""
    part.refuse(path, "picture", "path", "series", "level")
    imageio = import_reader("imageio.v3", "imageio", "picture")
    try:
        properties = imageio.improps(path, plugin=IMAGEIO_PLUGIN)
    except OSError as error:
        raise ValueError(
            f"{os.fspath(path)!r} is not a picture that imageio can read: {error}; check it, or rename it if it is of "
            "another format"
        ) from error
    shape = properties.shape
    frame = shape[1:] if properties.is_batch else shape
    samples = ("c",) if len(frame) == 3 and frame[-1] <= MOST_SAMPLES else ()
    names = [*([None] * (len(shape) - 2 - len(samples))), "y", "x", *samples]
    array = PictureArray(path, "", shape, properties.dtype, shape)
    return FileImage(array, tuple(names), image_name(path, PICTURE.endings))


PICTURE = Format((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"), read_picture)
