"""HDF5 files, read by h5py: one dataset as an image, with its dimension scales, attributes and axis tags."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..image.boxes import Box
from ..image.dataarray import MAX_COORDINATE_BYTES
from ..metadata.units import unit_name
from .arrays import FileArray
from .contents import (
    Coordinates,
    FileImage,
    Format,
    Part,
    import_reader,
    only_array_name,
    require_all,
    spaced_coordinates,
)

# Attributes of the file's own structure, and those that become coordinates.
OF_LAYOUT = frozenset(
    (
        *("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS", "_Netcdf4Dimid"),
        *("_Netcdf4Coordinates", "_NCProperties", "axistags", "axis_units", "element_size_um", "resolution", "offset"),
    )
)
# How netCDF-4 marks a dimension scale that holds no positions.
NAME_ALONE = "This is a netCDF dimension but not a netCDF variable"


class Hdf5Array(FileArray):
    """A dataset of an HDF5 file; its key is the dataset's path in the file."""

    def _read(self, box: Box) -> Any:
        # Opened for every box, because HDF5 locks an open file against writers.
        with import_reader("h5py", "hdf5", "HDF5").File(self.path, "r") as file:
            return file[self.key][box]


def read_hdf5(path: Path, part: Part) -> FileImage:
    """Return a dataset of an HDF5 file.

    Axes are named by the dataset's dimension labels, else by its attribute ``axistags`` (vigra, ilastik), else by its
    dimension scales; without them, two axes are y, x and three are z, y, x. Positions are those of the dimension
    scales, else spacings: of ``axistags``, of ``element_size_um`` (Fiji, ilastik), or of ``resolution`` with ``offset``
    (CREMI), along z, y, x.
    """
    part.refuse(path, "HDF5", "series", "level")
    h5py = import_reader("h5py", "hdf5", "HDF5")
    with h5py.File(path, "r") as file:
        dataset = _dataset_at(h5py, file, part.path)
        _require_sources(path, dataset)
        key = dataset.name.strip("/")
        array = Hdf5Array(path, key, dataset.shape, dataset.dtype, dataset.chunks)
        tags = _axis_tags(dataset)
        scales = [_scale_of(dimension, size) for dimension, size in zip(dataset.dims, dataset.shape, strict=True)]
        names = _axis_names(dataset, tags, scales)
        coordinates = _stated_spacings(dataset, names, tags)
        for name, scale in zip(names, scales, strict=True):
            if name is not None and scale is not None and (variable := _scale_variable(h5py, name, scale)) is not None:
                coordinates[name] = variable
        attrs = _plain_attributes(h5py, dataset.attrs, OF_LAYOUT)
        return FileImage(array, names, key.rpartition("/")[2], coordinates, attrs)


def _axis_names(dataset: Any, tags: Sequence[Mapping[str, Any]], scales: Sequence[Any]) -> tuple[str | None, ...]:
    """Return the names of axes from the first of the conventions that names all of them, each otherwise."""
    of_scales = [None if scale is None else scale.name.rpartition("/")[2] for scale in scales]
    for found in ([dimension.label for dimension in dataset.dims], [tag.get("key") for tag in tags], of_scales):
        names = tuple(name for name in found if isinstance(name, str) and name)
        if len(set(names)) == dataset.ndim == len(found):
            return names
    return _default_names(dataset.ndim)


def _axis_tags(dataset: Any) -> list[dict[str, Any]]:
    """Return what the attribute ``axistags`` states of each axis; empty without it."""
    stated = _json_attribute(dataset.attrs, "axistags").get("axes")
    tags = [tag for tag in stated if isinstance(tag, dict)] if isinstance(stated, list) else []
    return tags if len(tags) == dataset.ndim else []


def _json_attribute(attrs: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an attribute that is a JSON object; an empty one if there is none."""
    text = _plain_value_of(attrs.get(key, ""))
    with suppress(ValueError, TypeError):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}


def _scale_of(dimension: Any, size: int) -> Any:
    """Return the first dimension scale of an axis that has its size; None without one."""
    scales = dimension.values()
    return scales[0] if scales and scales[0].shape == (size,) else None


def _scale_variable(h5py: Any, name: str, scale: Any) -> xr.Variable | None:
    """Return the positions, dates or labels in a dimension scale; None if it has only a name, or is too large."""
    if _plain_value_of(scale.attrs.get("NAME", "")).startswith(NAME_ALONE) or scale.size > MAX_COORDINATE_BYTES // 8:
        return None
    is_text = h5py.check_string_dtype(scale.dtype) is not None
    values = np.asarray(scale.asstr()[:], dtype=str) if is_text else np.asarray(scale[:])
    if values.dtype.kind not in "iufU":
        return None
    variable = xr.Variable((name,), values, _plain_attributes(h5py, scale.attrs, OF_LAYOUT))
    if " since " not in str(variable.attrs.get("units", "")):
        return variable
    return xr.conventions.decode_cf_variable(name, variable).load()


def _stated_spacings(dataset: Any, names: Sequence[str | None], tags: Sequence[Mapping[str, Any]]) -> Coordinates:
    """Return coordinates from the attributes that state a spacing."""
    attrs = dataset.attrs
    spatial = [name for name in names if name in ("z", "y", "x")]
    micrometers = np.ravel(attrs.get("element_size_um", ()))
    resolution, offset = np.ravel(attrs.get("resolution", ())), np.ravel(attrs.get("offset", ()))
    units: dict[str, str | None] = {}
    scales: dict[str, float] = {}
    firsts: dict[str, float] = {}
    for found, targets in ((resolution, scales), (offset, firsts)):
        if found.dtype.kind in "iuf" and len(found) == len(spatial):
            targets.update(zip(spatial, map(float, found), strict=True))
    if micrometers.dtype.kind in "iuf" and len(micrometers) in (2, 3):
        # Along z, y, x, also where the image is only a plane.
        stated = dict(zip(("z", "y", "x")[-len(micrometers) :], map(float, micrometers), strict=True))
        scales, firsts, units = stated, {}, dict.fromkeys("zyx", "micrometer")
    of_axes = _json_attribute(attrs, "axis_units")
    for tag in tags:
        # Zero is a resolution that is not known.
        if tag.get("resolution"):
            scales[tag["key"]] = float(tag["resolution"])
            units[tag["key"]] = unit_name(of_axes[tag["key"]]) if of_axes.get(tag["key"]) else None
    return spaced_coordinates(names, dataset.shape, scales, units, firsts)


def _plain_attributes(h5py: Any, attrs: Any, without: Collection[str]) -> dict[str, Any]:
    """Return attributes of numbers and texts as Python has them; others, as references, are of the file alone."""
    found = {}
    for key in attrs:
        # An attribute of a type that h5py does not know cannot be read.
        if key in without or attrs.get_id(key).dtype.kind not in "iufbSO":
            continue
        value = _plain_value_of(attrs[key])
        if isinstance(value, bool | int | float | str | list) and not isinstance(value, h5py.Empty):
            found[key] = value
    return found


def _plain_value_of(value: Any) -> Any:
    """Return an attribute as a number, a text or a list of them; one of another type as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iufbSUO":
        items = np.ravel(value).tolist()
        plain = [_plain_value_of(item) for item in items]
        return plain[0] if value.size == 1 else plain
    return value


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
