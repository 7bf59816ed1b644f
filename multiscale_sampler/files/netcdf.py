"""netCDF files, read by xarray: one variable as an image, decoded by the CF conventions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..image.dataarray import MAX_COORDINATE_BYTES
from ..image.references import attributes_to_store
from ..image.values import Packing
from .arrays import FileArray
from .classic_netcdf import require_variables
from .contents import Coordinates, FileImage, Format, Part, import_reader, only_array_name


class NetcdfArray(FileArray):
    """A variable of a netCDF file, decoded by the CF conventions; its key is the variable's path in the file."""

    def _open(self) -> tuple[Any, None]:
        group, _, name = self.key.rpartition("/")
        # xarray closes the file with its last variable. Closing it here would wait for xarray's lock, for ever where
        # Python collects this array in the middle of a read of this thread.
        return _open_group(self.path, group)[name].variable, None


def _open_group(path: Path, group: str) -> xr.Dataset:
    """Return the variables of a group, of the root if it is empty, without those of groups in it."""
    import_reader("netCDF4", "netcdf", "netCDF")
    return xr.open_dataset(
        path, engine="netcdf4", cache=False, decode_coords="all", decode_timedelta=False, group=group or None
    )


def read_netcdf(path: Path, part: Part) -> FileImage:
    """Return a variable of a netCDF file with its coordinates; in netCDF-4, of any group."""
    part.refuse(path, "netCDF", "series", "level")
    require_variables(path)
    key = _only_variable(path) if part.path is None else part.path.strip("/")
    group, _, name = key.rpartition("/")
    if group and group not in _groups(path):
        raise FileNotFoundError(_without_variable(path, part))
    with _open_group(path, group) as dataset:
        if name not in dataset.variables:
            raise FileNotFoundError(_without_variable(path, part))
        image = dataset[name]
        sizes = image.variable.encoding.get("preferred_chunks", {})
        chunks = [sizes[dim] for dim in image.dims] if sizes else None
        array = NetcdfArray(path, key, image.shape, image.dtype, chunks)
        coordinates = {**_inherited_coordinates(path, group, image), **_loaded(image.coords, but=name)}
        attrs = attributes_to_store(image, with_coordinates=True)
        names = tuple(map(str, image.dims))
        return FileImage(array, names, name, coordinates, attrs, Packing.of_encoding(image))


def _groups(path: Path) -> list[str]:
    """Return the paths of all groups of a file, the root's is empty."""
    with import_reader("netCDF4", "netcdf", "netCDF").Dataset(path) as file:
        found, waiting = [], [("", file)]
        while waiting:
            place, group = waiting.pop(0)
            found.append(place)
            waiting += [(f"{place}/{name}".strip("/"), inner) for name, inner in group.groups.items()]
        return found


def _variable_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all variables that are not coordinates, by their path."""
    shapes: dict[str, tuple[int, ...]] = {}
    for group in _groups(path):
        with _open_group(path, group) as dataset:
            for name, variable in dataset.data_vars.items():
                shapes[f"{group}/{name}".strip("/")] = variable.shape
    return shapes


def _only_variable(path: Path) -> str:
    return only_array_name(os.fspath(path), _variable_shapes(path))


def _without_variable(path: Path, part: Part) -> str:
    choices = sorted(_variable_shapes(path))
    return f"no variable {part.path!r} in {os.fspath(path)!r}; choose one of {choices!r} as path="


def _inherited_coordinates(path: Path, group: str, image: xr.DataArray) -> Coordinates:
    """Return the coordinates of dims that groups above have: "a variable ... in an ancestor group" (CF 2.7)."""
    found: Coordinates = {}
    while group:
        group = group.rpartition("/")[0]
        with _open_group(path, group) as dataset:
            near = {dim: dataset[dim] for dim in image.dims if dim in dataset.coords and dim not in image.coords}
            sized = {dim: each for dim, each in near.items() if each.shape == (image.sizes[dim],)}
            found = {**_loaded(sized), **found}
    return found


def _loaded(coordinates: Mapping[Any, xr.DataArray], but: str = "") -> Coordinates:
    """Return coordinates in memory, without those that are too large for it."""
    return {
        str(name): xr.Variable(each.dims, np.asarray(each.values), each.attrs)
        for name, each in coordinates.items()
        if each.nbytes <= MAX_COORDINATE_BYTES and name != but
    }


NETCDF = Format("netCDF", (".nc",), read_netcdf)
