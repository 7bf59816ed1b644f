"""netCDF files, read by xarray: one variable as an image, decoded by the CF conventions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..image.dataarray import MAX_COORDINATE_BYTES
from .arrays import FileArray
from .classic_netcdf import require_variables
from .contents import Coordinates, FileImage, Format, Part, import_reader, only_array_name


class NetcdfArray(FileArray):
    """A variable of a netCDF file, decoded by the CF conventions; its key is the variable's name."""

    def _open(self) -> tuple[Any, None]:
        # xarray closes the file with its last variable. Closing it here would wait for xarray's lock, for ever where
        # Python collects this array in the middle of a read of this thread.
        return _open_dataset(self.path)[self.key].variable, None


def _open_dataset(path: Path) -> xr.Dataset:
    import_reader("netCDF4", "netcdf", "netCDF")
    return xr.open_dataset(path, engine="netcdf4", cache=False, decode_coords="all", decode_timedelta=False)


def read_netcdf(path: Path, part: Part) -> FileImage:
    """Return a variable of a netCDF file with its coordinates."""
    part.refuse(path, "netCDF", "series", "level")
    require_variables(path)
    with _open_dataset(path) as dataset:
        shapes = {str(name): variable.shape for name, variable in dataset.data_vars.items()}
        key = only_array_name(os.fspath(path), shapes) if part.path is None else part.path.strip("/")
        if key not in dataset.variables:
            raise FileNotFoundError(
                f"no variable {part.path!r} in {os.fspath(path)!r}; choose one of {sorted(shapes)!r} as path="
            )
        image = dataset[key]
        sizes = image.variable.encoding.get("preferred_chunks", {})
        chunks = [sizes[dim] for dim in image.dims] if sizes else None
        array = NetcdfArray(path, key, image.shape, image.dtype, chunks)
        coordinates: Coordinates = {}
        for name, coordinate in image.coords.items():
            if coordinate.nbytes <= MAX_COORDINATE_BYTES and name != key:
                coordinates[str(name)] = xr.Variable(coordinate.dims, np.asarray(coordinate.values), coordinate.attrs)
        return FileImage(array, tuple(map(str, image.dims)), key, coordinates, image.attrs)


NETCDF = Format("netCDF", (".nc",), read_netcdf)
