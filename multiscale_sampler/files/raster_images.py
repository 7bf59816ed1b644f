"""PNG, JPEG, BMP, GIF and WebP pictures, read by imageio."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from .arrays import FileArray
from .contents import RGB, FileImage, Format, Part, image_name, import_reader, require_all, rgb_coordinate
from .world_files import world_positions

# Samples per pixel: 2 for grey with alpha, 3 for RGB, 4 for RGBA.
MOST_SAMPLES = 4
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What a part of a PNG file begins with: its length and its name.
PNG_PART = struct.Struct(">I4s")
PNG_END = b"IEND"
# imageio's reader by Pillow; without a choice imageio tries all its readers on a damaged file.
IMAGEIO_PLUGIN = "pillow"


class PictureArray(FileArray):
    """A picture, decoded as a whole at the first read and kept in memory."""

    def _open(self) -> tuple[Any, None]:
        self.require_memory()
        imageio = import_reader("imageio.v3", "imageio", "picture")
        return imageio.imread(self.path, plugin=IMAGEIO_PLUGIN, mode=self.key or None), None


def read_picture(path: Path, part: Part) -> FileImage:
    """Return a picture, of axes y, x and, with several samples per pixel, c; frames of an animation are unnamed."""
    part.refuse(path, "picture", "path", "series", "level")
    imageio = import_reader("imageio.v3", "imageio", "picture")
    _require_png(path)
    properties = imageio.improps(path, plugin=IMAGEIO_PLUGIN)
    # imageio's metadata would decode the picture.
    with import_reader("PIL.Image", "imageio", "picture").open(path) as picture:
        transparent = picture.info.get("transparency")
    # A colour that is transparent; of a palette, the transparency of each.
    is_color = len(properties.shape) - properties.is_batch == 3 and properties.shape[-1] == len(RGB)
    keyed = transparent is not None and is_color
    shape = (*properties.shape[:-1], MOST_SAMPLES) if keyed else properties.shape
    frame = shape[1:] if properties.is_batch else shape
    samples = ("c",) if len(frame) == 3 and frame[-1] <= MOST_SAMPLES else ()
    names = [*([None] * (len(shape) - 2 - len(samples))), "y", "x", *samples]
    array = PictureArray(path, "RGBA" if keyed else "", shape, properties.dtype, shape)
    coordinates = rgb_coordinate(names, shape, array.dtype)
    on_map, rotation = world_positions(path, names, shape)
    attrs = {"nodata": transparent} if isinstance(transparent, int) and not samples else {}
    name = image_name(path, PICTURE.endings)
    return FileImage(array, tuple(names), name, {**coordinates, **on_map}, {**attrs, **rotation})


def _require_png(path: Path) -> None:
    """Check that all parts of a PNG file are there; each states its length, and the last one is empty."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return
        end, name = len(PNG_SIGNATURE), b""
        while name != PNG_END and end < size:
            file.seek(end)
            length, name = PNG_PART.unpack(file.read(PNG_PART.size).ljust(PNG_PART.size))
            # Its checksum follows.
            end += PNG_PART.size + length + 4
    require_all(path, size, end if name == PNG_END else max(end, size + 1), "bytes")


PICTURE = Format("a picture", (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"), read_picture)
