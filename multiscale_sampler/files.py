"""Files that are no zarr: what they hold as arrays read slice by slice, and how they label it.

One reader for each format, behind an extra of its own. `read_file` tells what a file holds, without its values;
`store.reading` makes a lazy image of that.
"""

from __future__ import annotations

import math
import os
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, TypeAlias
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import xarray as xr

from .axes import CHANNEL_NAMES, Axis, coordinate_variable, image_axes
from .extras import required
from .ngff import UNIT_NAMES
from .orientation import orientations_along

Box: TypeAlias = "tuple[slice, ...]"
Coordinates: TypeAlias = "dict[str, xr.Variable]"

# Numbers, truth values and times; of texts, objects and records there are no pyramids.
NUMERIC_KINDS = frozenset("biufcmM")
# Coordinates are held in memory.
LARGEST_COORDINATE = 64 * 2**20


class FileArray:
    """An array in a file, from which any box can be read.

    A copy of it in another process opens the file by itself.
    """

    shards: ClassVar[None] = None
    """A file has none; here for those who ask zarr arrays for theirs."""

    def __init__(
        self, place: Path, key: str, shape: Sequence[int], dtype: npt.DTypeLike, chunks: Sequence[int] | None
    ) -> None:
        dtype = np.dtype(dtype)
        if dtype.kind not in NUMERIC_KINDS or not shape:
            raise ValueError(f"{os.fspath(place)!r} holds {dtype} of shape {tuple(shape)!r}, which is no image")
        self.place = place
        self.key = key
        self.shape = tuple(map(int, shape))
        # Kernels are compiled for this machine's order of bytes.
        self.dtype = dtype.newbyteorder("=")
        # Where the file has no blocks, one plane can be read as well as the next.
        self.chunks = tuple(map(int, chunks or [*[1] * (len(shape) - 2), *shape[-2:]]))
        self._stamp = _stamp(place)
        self._lock = Lock()
        self._opened: Any = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Return what is stored there; lists of positions are taken axis by axis, as dask does."""
        items: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
        items += (slice(None),) * (self.ndim - len(items))
        picked = [_picked(item, size) for item, size in zip(items, self.shape, strict=True)]
        box = tuple(along for along, _ in picked)
        if any(along.start == along.stop for along in box):
            values: npt.NDArray[Any] = np.empty([along.stop - along.start for along in box], self.dtype)
        else:
            values = np.asarray(self._read(box)).astype(self.dtype, copy=False)
        # From the last axis to the first, so that an axis that goes leaves the numbers of the others alone.
        for axis, (_, rest) in reversed(list(enumerate(picked))):
            values = values[(slice(None),) * axis + (rest,)]
        return values

    def _open(self) -> tuple[Any, Callable[[], None] | None]:
        """Return what boxes are read from, and what closes it."""
        raise NotImplementedError

    def _read(self, box: Box) -> Any:
        return self._source()[box]

    def _source(self) -> Any:
        """Return what boxes are read from; opened once and closed with this array."""
        with self._lock:
            if self._opened is None:
                if _stamp(self.place) != self._stamp:
                    raise ValueError(f"{os.fspath(self.place)!r} has changed since it was opened; open it again")
                self._opened, close = self._open()
                if close is not None:
                    weakref.finalize(self, close)
            return self._opened

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what is bound to this process."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_opened")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over another process's array."""
        self.__dict__.update(state, _lock=Lock(), _opened=None)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what tells this array from others: the same in every process, until the file is changed."""
        return type(self).__name__, os.path.realpath(self.place), self._stamp, self.key, self.shape, self.dtype.str


def _stamp(place: Path) -> tuple[int, int]:
    status = place.stat()
    return status.st_mtime_ns, status.st_size


def _picked(item: Any, size: int) -> tuple[slice, Any]:
    """Return the span that an index of one axis covers, and the index within that span."""
    if isinstance(item, slice):
        positions = range(size)[item]
        if not positions:
            return slice(0, 0), slice(None)
        low, high = sorted((positions[0], positions[-1]))
        return slice(low, high + 1), slice(None, None, positions.step)
    if isinstance(item, int | np.integer):
        position = range(size)[int(item)]
        return slice(position, position + 1), 0
    chosen = np.arange(size)[np.asarray(item)]
    if not chosen.size:
        return slice(0, 0), slice(None)
    return slice(int(chosen.min()), int(chosen.max()) + 1), chosen - chosen.min()


@dataclass(frozen=True)
class FileImage:
    """What a file holds, as far as it says."""

    array: FileArray
    """The values."""
    names: tuple[str | None, ...]
    """Names of the axes; None for those that the file does not name."""
    name: str | None = None
    """Name of the image."""
    coordinates: Coordinates = field(default_factory=dict)
    """Coordinates along axes that have a name."""
    attrs: Mapping[Any, Any] = field(default_factory=dict)
    """What else is to be kept."""


def is_file_of_images(place: Path | None) -> bool:
    """Whether there is a local file at a place of a format that is read here."""
    return place is not None and _suffix(place) is not None and place.is_file()


@dataclass(frozen=True)
class Part:
    """Which part of a file is meant."""

    path: str | None = None
    """Which of its arrays; None for the only one."""
    series: int | None = None
    """Which of its images, of TIFF; None for the first."""
    level: int = 0
    """Which of the levels that the image has already, of TIFF."""

    def refuse(self, place: Path, kind: str, *names: str) -> None:
        """Refuse what a kind of file has none of.

        Raises
        ------
        ValueError
            If it was asked for.
        """
        for name in names:
            if value := getattr(self, name):
                raise ValueError(
                    f"{name}={value!r} leads nowhere in {os.fspath(place)!r}: {kind} files hold one image; leave it out"
                )


def read_file(place: Path, part: Part) -> FileImage:
    """Return what a file holds, without reading its values.

    Parameters
    ----------
    place
        The file.
    part
        Which part of it.

    Raises
    ------
    ModuleNotFoundError
        If the reader of the format is not installed; the text says what installs it.
    ValueError
        If the file holds no image, or several and `path` names none.
    """
    return READERS[_suffix(place) or ""](place, part)


def level_count(place: Path, series: int | None) -> int:
    """Return how many levels an image in a file has: of TIFF as many as are stored, of others one."""
    if READERS[_suffix(place) or ""] is not _read_tiff:
        Part(series=series).refuse(place, "such", "series")
        return 1
    with _required("tifffile", "tiff", "TIFF").TiffFile(place) as file:
        if not file.is_geotiff:
            return len(_series_of(file, series, place).levels)
    with _required("rasterio", "geotiff", "GeoTIFF").open(place) as raster:
        return 1 + len(raster.overviews(1))


def _suffix(place: Path) -> str | None:
    """Return the longest ending of a file's name that is known."""
    return max((suffix for suffix in READERS if place.name.lower().endswith(suffix)), key=len, default=None)


def _stem(place: Path) -> str:
    return place.name[: -len(_suffix(place) or "")] or "image"


def _required(module: str, extra: str, kind: str) -> Any:
    return required(module, f"{kind} files need {module}", f"'multiscale-sampler[{extra}]'")


def _spaced(
    names: Sequence[str | None], shape: Sequence[int], scales: Mapping[str, float], units: Mapping[str, str | None]
) -> Coordinates:
    """Return the coordinates of the axes that have a spacing; one that is no distance counts as none."""
    coordinates = {}
    for name, size in zip(names, shape, strict=True):
        scale = scales.get(name or "", 0.0)
        if name is not None and math.isfinite(scale) and scale > 0:
            coordinates[name] = coordinate_variable(Axis(name, size, scale, unit=units.get(name)))
    return coordinates


def _channel_coordinate(names: Sequence[str | None], shape: Sequence[int], labels: Sequence[Any]) -> Coordinates:
    """Return the labels of channels as a coordinate, where there is one for each and no two are the same."""
    for name, size in zip(names, shape, strict=True):
        if name in CHANNEL_NAMES and len(labels) == size == len(set(labels)) and all(labels):
            return {name: xr.Variable((name,), np.asarray(labels, dtype=str))}
    return {}


# --- TIFF ------------------------------------------------------------------------------------------------------

# Letters that tifffile has for axes; samples of a pixel are channels. Others stand for anything.
TIFF_AXES = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
# Names of ResolutionUnit. Of an inch none: that is how large to print, and most often nobody's choice.
TIFF_UNITS = {3: "centimeter", 4: "millimeter", 5: "micrometer"}


class TiffArray(FileArray):
    """A level of a series of a TIFF file, its key "series/level"."""

    def _open(self) -> tuple[Any, Callable[[], None]]:
        import zarr

        series, level = map(int, self.key.split("/"))
        file = _required("tifffile", "tiff", "TIFF").TiffFile(self.place)
        return zarr.open_array(file.series[series].aszarr(level=level), mode="r"), file.close


def _series_of(file: Any, series: int | None, place: Path) -> Any:
    """Return an image of a TIFF file, of which further ones are pages of another shape or, in OME-TIFF, named."""
    number, count = series or 0, len(file.series)
    if not 0 <= number < count:
        raise ValueError(f"series={series!r} is none of {os.fspath(place)!r}, which has {count}, numbered from 0")
    return file.series[number]


def _read_tiff(place: Path, part: Part) -> FileImage:
    part.refuse(place, "TIFF", "path")
    tifffile = _required("tifffile", "tiff", "TIFF")
    with tifffile.TiffFile(place) as file:
        if file.is_geotiff:
            part.refuse(place, "GeoTIFF", "series")
            return _read_geotiff(place, part.level)
        base = _series_of(file, part.series, place)
        _check_level(part.level, len(base.levels), place)
        series = base.levels[part.level]
        page = series.keyframe
        _refuse_unknown_compression(tifffile, page, place)
        names = _tiff_names(series.axes)
        # Blocks of one page; the axes before those of the page are read one position at a time.
        inner = (*page.chunks,) if len(page.chunks) <= len(series.shape) else series.shape
        chunks = (*[1] * (len(series.shape) - len(inner)), *inner)
        array = TiffArray(place, f"{part.series or 0}/{part.level}", series.shape, series.dtype, chunks)
        coordinates = _tiff_coordinates(file, base.levels[0].keyframe, part.series or 0, names, base.levels[0].shape)
        coordinates = _of_level(coordinates, names, series.shape)
    return FileImage(array, names, _stem(place), coordinates)


def _check_level(level: int, count: int, place: Path) -> None:
    if not 0 <= level < count:
        raise ValueError(f"level={level!r} is none of {os.fspath(place)!r}, which has {count}, numbered from 0")


def _of_level(coordinates: Coordinates, names: Sequence[str | None], shape: Sequence[int]) -> Coordinates:
    """Return the coordinates of a level of another size than the base: of windows over the same field."""
    reduced = {}
    for name, size in zip(names, shape, strict=True):
        if name not in coordinates or coordinates[name].size == size:
            continue
        (axis,) = image_axes(xr.DataArray(np.empty(coordinates[name].size), {name: coordinates[name]}, [name]))
        # Whole windows where there can be some; writers round sizes up or down.
        factor: float = round(axis.size / size)
        if not axis.size // factor <= size <= -(-axis.size // factor):
            factor = axis.size / size
        offset = axis.scale * (factor - 1) / 2
        placed = replace(axis, size=size, scale=axis.scale * factor, translation=axis.translation + offset)
        reduced[name] = coordinate_variable(placed, coordinates[name].attrs)
    return {**coordinates, **reduced}


def _refuse_unknown_compression(tifffile: Any, page: Any, place: Path) -> None:
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise ModuleNotFoundError(
            f"{os.fspath(place)!r} is compressed by {page.compression.name}, which needs imagecodecs; install it with: "
            "pip install 'multiscale-sampler[tiff]'"
        )


def _tiff_names(axes: str) -> tuple[str | None, ...]:
    names = [TIFF_AXES.get(letter) for letter in axes]
    # Channels of several samples each.
    return tuple(None if name is not None and names.count(name) > 1 else name for name in names)


def _tiff_coordinates(
    file: Any, page: Any, series: int, names: Sequence[str | None], shape: Sequence[int]
) -> Coordinates:
    if file.is_ome:
        return _ome_coordinates(file.ome_metadata, series, names, shape)
    across = {axis: _pixel_size(page.tags.get(f"{axis.upper()}Resolution")) for axis in ("x", "y")}
    if file.is_imagej:
        return _imagej_coordinates(file.imagej_metadata, across, names, shape)
    unit = page.tags.get("ResolutionUnit")
    unit_name = TIFF_UNITS.get(int(unit.value)) if unit is not None else None
    # One pixel per unit is what writers put there that know of no resolution.
    if unit_name is None or set(across.values()) == {1.0}:
        return {}
    return _spaced(names, shape, across, dict.fromkeys(across, unit_name))


def _pixel_size(resolution: Any) -> float:
    """Return the size of a pixel, from a tag of pixels per unit; 0 where it says nothing."""
    if resolution is None:
        return 0.0
    pixels, units = resolution.value
    return float(units / pixels) if pixels else 0.0


def _ome_coordinates(text: str, series: int, names: Sequence[str | None], shape: Sequence[int]) -> Coordinates:
    described = ElementTree.fromstring(text).findall("{*}Image/{*}Pixels")
    if series >= len(described):
        return {}
    pixels = described[series]
    scales, units = {}, {}
    for name, key, default in (
        *((axis, f"PhysicalSize{axis.upper()}", "µm") for axis in "zyx"),
        ("t", "TimeIncrement", "s"),
    ):
        unit = pixels.get(f"{key}Unit", default)
        # Then the size says nothing of the world.
        if unit not in ("pixel", "reference frame"):
            scales[name], units[name] = float(pixels.get(key, 0)), UNIT_NAMES.get(unit, unit)
    labels = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    return {**_spaced(names, shape, scales, units), **_channel_coordinate(names, shape, labels)}


def _imagej_coordinates(
    metadata: Mapping[str, Any], across: Mapping[str, float], names: Sequence[str | None], shape: Sequence[int]
) -> Coordinates:
    """Return the coordinates of an ImageJ file; without a unit, ImageJ has not been told the size of a pixel."""
    scales: dict[str, float] = {}
    units: dict[str, str | None] = {}
    unit = str(metadata.get("unit", "pixel")).replace("\\u00B5", "µ")
    if unit not in ("pixel", "pixels"):
        scales.update(across, z=float(metadata.get("spacing", 0)))
        units.update(dict.fromkeys("zyx", UNIT_NAMES.get(unit, unit)))
    scales["t"], units["t"] = float(metadata.get("finterval", 0)), "second"
    return _spaced(names, shape, scales, units)


# --- GeoTIFF ---------------------------------------------------------------------------------------------------


class GeoTiffArray(FileArray):
    """The bands of a GeoTIFF file; without an axis of bands where there is one of them."""

    def _read(self, box: Box) -> Any:
        rasterio = _required("rasterio", "geotiff", "GeoTIFF")
        *bands, rows, columns = box
        window = rasterio.windows.Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
        # Opened for every box: a data set of GDAL is one thread's.
        with _raster(self.place, int(self.key)) as file:
            return file.read([band + 1 for band in range(*bands[0].indices(file.count))] if bands else 1, window=window)


def _raster(place: Path, level: int) -> Any:
    """Open a level of a GeoTIFF file: its overviews are the levels from 1 on."""
    rasterio = _required("rasterio", "geotiff", "GeoTIFF")
    return rasterio.open(place, **({"overview_level": level - 1} if level else {}))


def _read_geotiff(place: Path, level: int) -> FileImage:
    rasterio = _required("rasterio", "geotiff", "GeoTIFF")
    with rasterio.open(place) as base:
        _check_level(level, 1 + len(base.overviews(1)), place)
    with _raster(place, level) as file:
        several = file.count > 1
        names = ("band", "y", "x") if several else ("y", "x")
        shape = (file.count, file.height, file.width)[not several :]
        together = file.count if file.profile.get("interleave") == "pixel" else 1
        chunks = (together, *file.block_shapes[0])[not several :]
        array = GeoTiffArray(place, str(level), shape, file.dtypes[0], chunks)
        coordinates = {**_geo_coordinates(file), **_channel_coordinate(names, shape, file.descriptions)}
        return FileImage(array, names, _stem(place), coordinates, _geo_attributes(file))


def _geo_coordinates(file: Any) -> Coordinates:
    """Return where the centres of pixels are; none for an image that lies askew, whose rows have no one y."""
    transform = file.transform
    if transform.b or transform.d or not transform.a or not transform.e:
        return {}
    unit = _geo_unit(file.crs)
    axes = (
        Axis("y", file.height, transform.e, transform.f + transform.e / 2, unit),
        Axis("x", file.width, transform.a, transform.c + transform.a / 2, unit),
    )
    return {axis.name: coordinate_variable(axis) for axis in axes}


def _geo_unit(crs: Any) -> str | None:
    if crs is None:
        return None
    if crs.is_geographic:
        return "degree"
    unit = str(crs.linear_units)
    return None if unit == "unknown" else UNIT_NAMES.get(unit, unit)


def _geo_attributes(file: Any) -> dict[str, Any]:
    attrs: dict[str, Any] = {} if file.crs is None else {"crs": file.crs.to_wkt()}
    if file.nodata is not None:
        attrs["nodata"] = file.nodata
    if file.transform.b or file.transform.d:
        attrs["transform"] = list(file.transform)[:6]
    # Values are as stored; by these they become quantities.
    if set(file.scales) != {1.0} or set(file.offsets) != {0.0}:
        attrs["scales"], attrs["offsets"] = list(file.scales), list(file.offsets)
    return attrs


# --- NIfTI -----------------------------------------------------------------------------------------------------

NIFTI_AXES = ("x", "y", "z", "t", "c")
NIFTI_UNITS = {
    "meter": "meter",
    "mm": "millimeter",
    "micron": "micrometer",
    "sec": "second",
    "msec": "millisecond",
    "usec": "microsecond",
}


class NiftiArray(FileArray):
    """The volumes of a NIfTI file, its axes reversed: files have x first and fastest."""

    def _open(self) -> tuple[Any, None]:
        # The proxy opens the file for every read, and keeps it open where it can jump within gzip.
        return _required("nibabel", "nifti", "NIfTI").load(self.place).dataobj, None

    def _read(self, box: Box) -> Any:
        return np.asarray(self._source()[box[::-1]]).T


def _read_nifti(place: Path, part: Part) -> FileImage:
    part.refuse(place, "NIfTI", "path", "series", "level")
    nibabel = _required("nibabel", "nifti", "NIfTI")
    try:
        file = nibabel.load(place)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(f"{os.fspath(place)!r} is no NIfTI file: {error}") from error
    count = len(file.shape)
    # One voxel tells what dtype the scaling of the header makes.
    dtype = np.asarray(file.dataobj[(slice(0, 1),) * count]).dtype
    array = NiftiArray(place, "", file.shape[::-1], dtype, None)
    names = [*NIFTI_AXES[:count], *[None] * (count - len(NIFTI_AXES))]
    space, time = file.header.get_xyzt_units()
    scales = dict(zip("xyzt", map(float, file.header.get_zooms()), strict=False))
    units = {**dict.fromkeys("xyz", NIFTI_UNITS.get(space)), "t": NIFTI_UNITS.get(time)}
    # A time axis in hertz, ppm or radians is none of time.
    if time not in ("unknown", "sec", "msec", "usec"):
        scales.pop("t", None)
    coordinates = _spaced(names, file.shape, scales, units)
    for name, word in _nifti_orientations(file).items():
        if name in coordinates:
            coordinates[name].attrs["orientation"] = word
    return FileImage(array, tuple(names[::-1]), _stem(place), coordinates, {"affine": file.affine.tolist()})


def _nifti_orientations(file: Any) -> dict[str, str]:
    """Return which way the axes of voxels lead through the body, where the file says so.

    Without a code for either of its transformations, nobody does: the affine is made from the size of voxels alone.
    """
    if not (file.header["qform_code"] or file.header["sform_code"]):
        return {}
    # "+x = Right, +y = Anterior, +z = Superior" (nifti1.h)
    words = orientations_along(file.affine[:3, :3], "RAS")
    return {name: word for name, word in zip("xyz", words, strict=True) if word is not None}


# --- HDF5 ------------------------------------------------------------------------------------------------------


class Hdf5Array(FileArray):
    """A dataset of an HDF5 file."""

    def _read(self, box: Box) -> Any:
        # Opened for every box: an open file is locked for those who would write it.
        with _required("h5py", "hdf5", "HDF5").File(self.place, "r") as file:
            return file[self.key][box]


def _read_hdf5(place: Path, part: Part) -> FileImage:
    part.refuse(place, "HDF5", "series", "level")
    h5py = _required("h5py", "hdf5", "HDF5")
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
        return FileImage(array, names, key.rpartition("/")[2], _spaced(names, dataset.shape, scales, units))


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
    return found[_only_one(file.filename, {name: node.shape for name, node in found.items()})]


def _only_one(place: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if len(shapes) == 1:
        return next(iter(shapes))
    listed = ", ".join(f"{name!r} {shape}" for name, shape in shapes.items()) or "none"
    raise ValueError(f"{place!r} does not stand for one array (arrays: {listed}); name one with path=")


# --- netCDF ----------------------------------------------------------------------------------------------------


class NetcdfArray(FileArray):
    """A variable of a netCDF file, decoded by the CF conventions."""

    def _open(self) -> tuple[Any, Callable[[], None]]:
        dataset = _netcdf(self.place)
        return dataset[self.key].variable, dataset.close


def _netcdf(place: Path, *, decode_times: bool = True) -> xr.Dataset:
    _required("netCDF4", "netcdf", "netCDF")
    return xr.open_dataset(
        place, engine="netcdf4", cache=False, decode_coords="all", decode_times=decode_times, decode_timedelta=False
    )


def _read_netcdf(place: Path, part: Part) -> FileImage:
    part.refuse(place, "netCDF", "series", "level")
    path = part.path
    with _netcdf(place) as dataset, _netcdf(place, decode_times=False) as undecoded:
        shapes = {str(name): variable.shape for name, variable in dataset.data_vars.items()}
        key = _only_one(os.fspath(place), shapes) if path is None else path.strip("/")
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


# --- ITK: MetaImage and NRRD -----------------------------------------------------------------------------------

ITK_AXES = ("x", "y", "z")
# Where the header of a file ends, of those that have one before their values.
LONGEST_HEADER = 2**16
# Attributes of an image that lies askew, as `interop` has them.
DIRECTION, ORIGIN = "direction", "origin"


class ItkArray(FileArray):
    """The pixels of a file that ITK reads, its axes reversed, components of a pixel last."""

    def _open(self) -> tuple[Any, None]:
        # What is compressed as a whole is decompressed once, and held as long as this array.
        sitk = _required("SimpleITK", "itk", "MetaImage and NRRD")
        return (sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(self.place))) if self.key else None), None

    def _read(self, box: Box) -> Any:
        whole = self._source()
        if whole is not None:
            return whole[box]
        sitk = _required("SimpleITK", "itk", "MetaImage and NRRD")
        reader = sitk.ImageFileReader()
        reader.SetFileName(os.fspath(self.place))
        reader.ReadImageInformation()
        along = box[: reader.GetDimension()][::-1]
        reader.SetExtractIndex([each.start for each in along])
        reader.SetExtractSize([each.stop - each.start for each in along])
        values = sitk.GetArrayFromImage(reader.Execute())
        return values[(slice(None),) * len(along) + box[len(along) :]]


def _read_itk(place: Path, part: Part) -> FileImage:
    part.refuse(place, "MetaImage and NRRD", "path", "series", "level")
    sitk = _required("SimpleITK", "itk", "MetaImage and NRRD")
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(place))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"{os.fspath(place)!r} is no MetaImage or NRRD file that ITK reads") from error
    count, components = reader.GetDimension(), reader.GetNumberOfComponents()
    header = _itk_header(place)
    compressed = header.get("compresseddata", "false").lower() == "true" or header.get("encoding", "raw") != "raw"
    shape = (*reader.GetSize()[::-1], *([components] if components > 1 else []))
    dtype = sitk.GetArrayFromImage(sitk.Image([1] * count, reader.GetPixelID(), components)).dtype
    array = ItkArray(place, "whole" if compressed else "", shape, dtype, None)
    names = [*ITK_AXES[:count], *[None] * (count - len(ITK_AXES))][::-1] + ["c"] * (components > 1)
    direction = np.array(reader.GetDirection(), np.float64).reshape(count, count)
    coordinates = _itk_coordinates(reader, header, direction)
    straight = (direction == np.eye(count)).all()
    askew = {} if straight else {DIRECTION: np.flip(direction).tolist(), ORIGIN: list(reader.GetOrigin()[::-1])}
    return FileImage(array, tuple(names), _stem(place), coordinates, askew)


def _itk_coordinates(reader: Any, header: Mapping[str, str], direction: npt.NDArray[np.float64]) -> Coordinates:
    """Return where pixels are along the image's own axes, and which way these lead where the file knows of a body."""
    units = re.findall(r'"([^"]*)"', header.get("space units", ""))
    # "Space" of NRRD, and of MetaImage what its letters say: that directions are those of a body.
    anatomical = bool(header.get("space")) or "?" not in header.get("anatomicalorientation", "?")
    words = orientations_along(direction, "LPS") if anatomical and len(direction) <= len(ITK_AXES) else ()
    coordinates = {}
    for number, name in enumerate(ITK_AXES[: len(direction)]):
        unit = UNIT_NAMES.get(units[number], units[number]) if number < len(units) else None
        axis = Axis(
            name,
            reader.GetSize()[number],
            float(reader.GetSpacing()[number]),
            float(reader.GetOrigin()[number]),
            unit,
            orientation=words[number] if number < len(words) else None,
        )
        coordinates[name] = coordinate_variable(axis)
    return coordinates


def _itk_header(place: Path) -> dict[str, str]:
    """Return the lines "key: value" or "key = value" at the beginning of a file, keys in lower case."""
    with open(place, "rb") as file:
        lines = file.read(LONGEST_HEADER).split(b"\n")
    said = {}
    for line in lines:
        key, equals, value = line.decode("latin-1").partition(": " if b": " in line else " = ")
        # An empty line ends the header of NRRD, the place of the values that of MetaImage.
        if not line.strip() or key == "ElementDataFile":
            break
        if equals:
            said[key.strip().lower()] = value.strip()
    return said


# --- pictures --------------------------------------------------------------------------------------------------

# Samples of a pixel: grey with alpha, colours, colours with alpha.
MOST_SAMPLES = 4
# imageio's way to Pillow; left to choose, it tries all of its ways on a file that is none.
PICTURES = "pillow"


class PictureArray(FileArray):
    """A picture that imageio reads: decoded as a whole, and held as long as this array."""

    def _open(self) -> tuple[Any, None]:
        return _required("imageio.v3", "imageio", "picture").imread(self.place, plugin=PICTURES), None


def _read_picture(place: Path, part: Part) -> FileImage:
    part.refuse(place, "picture", "path", "series", "level")
    imageio = _required("imageio.v3", "imageio", "picture")
    try:
        said = imageio.improps(place, plugin=PICTURES)
    except OSError as error:
        raise ValueError(f"{os.fspath(place)!r} is no picture that imageio reads: {error}") from error
    inner = said.shape[1:] if said.is_batch else said.shape
    samples = ("c",) if len(inner) == 3 and inner[-1] <= MOST_SAMPLES else ()
    names = [*([None] * (len(said.shape) - 2 - len(samples))), "y", "x", *samples]
    return FileImage(PictureArray(place, "", said.shape, said.dtype, said.shape), tuple(names), _stem(place))


READERS: Mapping[str, Callable[[Path, Part], FileImage]] = {
    **dict.fromkeys((".tif", ".tiff", ".ome.tif", ".ome.tiff"), _read_tiff),
    **dict.fromkeys((".nii", ".nii.gz"), _read_nifti),
    **dict.fromkeys((".h5", ".hdf5"), _read_hdf5),
    ".nc": _read_netcdf,
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr"), _read_itk),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"), _read_picture),
}
