"""HDF5 files: one of their datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..image.boxes import Box
from .arrays import FileArray
from .contents import FileImage, Part, only_one, reader_module, spaced

ENDINGS = (".h5", ".hdf5")


class Hdf5Array(FileArray):
    """A dataset of an HDF5 file."""

    def _read(self, box: Box) -> Any:
        # Opened for every box: an open file is locked for those who would write it.
        with reader_module("h5py", "hdf5", "HDF5").File(self.place, "r") as file:
            return file[self.key][box]


def read(place: Path, part: Part) -> FileImage:
    """Return what a dataset of an HDF5 file holds."""
    part.refuse(place, "HDF5", "series", "level")
    h5py = reader_module("h5py", "hdf5", "HDF5")
    with h5py.File(place, "r") as file:
        dataset = _dataset(h5py, file, part.path)
        key = dataset.name.strip("/")
        array = Hdf5Array(place, key, dataset.shape, dataset.dtype, dataset.chunks)
        labels = tuple(dimension.label or None for dimension in dataset.dims)
        named = all(labels) and len(set(labels)) == len(labels)
        names = labels if named else _default_names(len(labels))
        # As Fiji and ilastik write it; z, y, x whatever the other axes.
        sizes = [float(size) for size in np.ravel(dataset.attrs.get("element_size_um", ()))]
        scales = dict(zip("zyx", sizes, strict=True)) if len(sizes) == 3 else {}
        units = dict.fromkeys("zyx", "micrometer")
        return FileImage(array, names, key.rpartition("/")[2], spaced(names, dataset.shape, scales, units))


def _default_names(count: int) -> tuple[str | None, ...]:
    """Return the names of an unlabelled array's axes, for which the custom of `to_image` is good enough."""
    return {2: ("y", "x"), 3: ("z", "y", "x")}.get(count, (None,) * count)


def _dataset(h5py: Any, file: Any, path: str | None) -> Any:
    """Return the dataset that is named, or the only one."""
    found: dict[str, Any] = {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim > 0 and not node.is_scale:
            found[name] = node

    if path is not None:
        node = file.get(path)
        if not isinstance(node, h5py.Dataset):
            raise FileNotFoundError(f"no dataset at {path!r} in {file.filename!r}")
        return node
    file.visititems(keep)
    return found[only_one(file.filename, {name: node.shape for name, node in found.items()})]
