"""netCDF files: one of their variables, decoded by the CF conventions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .arrays import FileArray
from .contents import Coordinates, FileImage, Part, only_one, reader_module

ENDINGS = (".nc",)
# Coordinates are held in memory.
LARGEST_COORDINATE = 64 * 2**20


class NetcdfArray(FileArray):
    """A variable of a netCDF file, decoded by the CF conventions."""

    def _open(self) -> tuple[Any, Callable[[], None]]:
        dataset = _netcdf(self.place)
        return dataset[self.key].variable, dataset.close


def _netcdf(place: Path, *, decode_times: bool = True) -> xr.Dataset:
    reader_module("netCDF4", "netcdf", "netCDF")
    return xr.open_dataset(
        place, engine="netcdf4", cache=False, decode_coords="all", decode_times=decode_times, decode_timedelta=False
    )


def read(place: Path, part: Part) -> FileImage:
    """Return what a variable of a netCDF file holds."""
    part.refuse(place, "netCDF", "series", "level")
    path = part.path
    with _netcdf(place) as dataset, _netcdf(place, decode_times=False) as undecoded:
        shapes = {str(name): variable.shape for name, variable in dataset.data_vars.items()}
        key = only_one(os.fspath(place), shapes) if path is None else path.strip("/")
        if key not in dataset.variables:
            raise FileNotFoundError(f"no variable {path!r} in {os.fspath(place)!r}")
        image = dataset[key]
        sizes = image.variable.encoding.get("preferred_chunks", {})
        chunks = [sizes[dim] for dim in image.dims] if sizes else None
        array = NetcdfArray(place, key, image.shape, image.dtype, chunks)
        coordinates: Coordinates = {}
        for name, coordinate in image.coords.items():
            if coordinate.nbytes <= LARGEST_COORDINATE and name != key:
                # Dates of a calendar that numpy has none of: the numbers are still the positions.
                plain = undecoded[name].variable if coordinate.dtype.kind == "O" else coordinate.variable
                coordinates[str(name)] = xr.Variable(plain.dims, np.asarray(plain.values), plain.attrs)
        return FileImage(array, tuple(map(str, image.dims)), key, coordinates, image.attrs)
