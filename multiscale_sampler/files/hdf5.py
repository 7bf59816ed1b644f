"""HDF5 files, read by h5py: one dataset as an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..image.boxes import Box
from .arrays import FileArray
from .contents import FileImage, Format, Part, import_reader, only_array_name, require_all, spaced_coordinates


class Hdf5Array(FileArray):
    """A dataset of an HDF5 file; its key is the dataset's path in the file."""

    def _read(self, box: Box) -> Any:
        # Opened for every box, because HDF5 locks an open file against writers.
        with import_reader("h5py", "hdf5", "HDF5").File(self.path, "r") as file:
            return file[self.key][box]


def read_hdf5(path: Path, part: Part) -> FileImage:
    """Return a dataset of an HDF5 file.

    Axes are named by the dataset's dimension labels; without them, two axes are y, x and three are z, y, x.
    The attribute ``element_size_um``, which Fiji and ilastik write, is the spacing along z, y, x in micrometers.
    """
    part.refuse(path, "HDF5", "series", "level")
    h5py = import_reader("h5py", "hdf5", "HDF5")
    with h5py.File(path, "r") as file:
        dataset = _dataset_at(h5py, file, part.path)
        _require_sources(path, dataset)
        key = dataset.name.strip("/")
        array = Hdf5Array(path, key, dataset.shape, dataset.dtype, dataset.chunks)
        labels = tuple(dimension.label or None for dimension in dataset.dims)
        are_names = all(labels) and len(set(labels)) == len(labels)
        names = labels if are_names else _default_names(len(labels))
        sizes = [float(size) for size in np.ravel(dataset.attrs.get("element_size_um", ()))]
        scales = dict(zip("zyx", sizes, strict=True)) if len(sizes) == 3 else {}
        coordinates = spaced_coordinates(names, dataset.shape, scales, dict.fromkeys("zyx", "micrometer"))
        return FileImage(array, names, key.rpartition("/")[2], coordinates)


def _default_names(count: int) -> tuple[str | None, ...]:
    """Return the axis names of a dataset without dimension labels, as `to_image` has them for two and three axes."""
    return {2: ("y", "x"), 3: ("z", "y", "x")}.get(count, (None,) * count)


def _dataset_at(h5py: Any, file: Any, path: str | None) -> Any:
    """Return the dataset at a path in an open file, or the only one if the path is None."""
    datasets: dict[str, Any] = {}

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim > 0 and not node.is_scale:
            datasets[name] = node

    if path is not None:
        node = file.get(path)
        if not isinstance(node, h5py.Dataset):
            raise FileNotFoundError(f"no dataset at {path!r} in {file.filename!r}; give the path of one as path=")
        return node
    file.visititems(collect)
    return datasets[only_array_name(file.filename, {name: node.shape for name, node in datasets.items()})]


def _require_sources(path: Path, dataset: Any) -> None:
    """Check that the other files in which the values of a dataset are stored are there.

    HDF5 reads the fill value or zeros where they are not.
    """
    if dataset.is_virtual:
        # "." is the file itself. A pattern with a number stands for any number of files.
        names = {source.file_name for source in dataset.virtual_sources()} - {"."}
        places = [path.parent / name for name in sorted(names) if "%" not in name]
        missing = [place.name for place in places if not place.is_file()]
        require_all(path, len(places) - len(missing), len(places), f"source files, {missing!r} are missing")
    for name, offset, size in dataset.external or ():
        place = path.parent / name
        available = place.stat().st_size - offset if place.is_file() else 0
        # The last file may grow without a limit.
        stated = min(size, dataset.nbytes)
        require_all(path, max(available, 0), stated, f"bytes of values in its file {place.name!r}")


HDF5 = Format("HDF5", (".h5", ".hdf5"), read_hdf5)
