"""Data of the tests: real images, noise, and stores that record what is read and written.

Real images are found through the environment variable MSS_DATA, by default in ``../shared/data`` beside the
repository.
"""

import hashlib
import importlib.util
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr

DATA = Path(os.environ.get("MSS_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real(*parts):
    """Return the path of real data; skip the test where it is missing."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {path}: set MSS_DATA to the folder of real images")
    return path


def load(name):
    """Return what the loader of a real data set returns: its arrays and how they are labelled."""
    path = real("load_share.py")
    real(name)
    spec = importlib.util.spec_from_file_location("load_share", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DATA = str(DATA)
    return getattr(module, name)()


def noise(shape, dtype="uint16", seed=0):
    """Return values from the whole range of a dtype; floats are small multiples of 1/8, whose sums are exact."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind == "f":
        return (rng.integers(-400, 400, shape) / 8).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def is_chunk(key):
    """Whether a key of a store holds values, not metadata."""
    return key.rsplit("/", 1)[-1] not in ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class Recording(zarr.storage.WrapperStore):
    """A store that records which keys were read and written, and can refuse to write some."""

    def __init__(self, store, log=None):
        super().__init__(store)
        # Shared by the copies that zarr makes of a store.
        self.log = {"read": [], "written": [], "refused": None} if log is None else log

    def _with_store(self, store):
        return type(self)(store, self.log)

    def with_read_only(self, read_only=False):
        return self._with_store(self._store.with_read_only(read_only))

    def _write(self, key):
        if self.log["refused"] is not None and self.log["refused"] in key:
            raise OSError(f"no space left for {key}")
        self.log["written"].append(key)

    async def get(self, key, prototype, byte_range=None):
        self.log["read"].append(key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(self, prototype, key_ranges):
        key_ranges = list(key_ranges)
        self.log["read"] += [key for key, _ in key_ranges]
        return await super().get_partial_values(prototype, key_ranges)

    async def set(self, key, value):
        self._write(key)
        await super().set(key, value)

    async def set_if_not_exists(self, key, value):
        self._write(key)
        await super().set_if_not_exists(key, value)

    def chunks(self, kind):
        """Return how often each chunk was read or written."""
        return Counter(key for key in self.log[kind] if is_chunk(key))


class Killed(BaseException):
    """What stops a call as a kill would: nobody handles it."""


class Stopping(zarr.storage.WrapperStore):
    """A store that stops its caller right before a change of what it holds, the first being number 0."""

    def __init__(self, store, step, log=None):
        super().__init__(store)
        self.step = step
        # Shared by the copies that zarr makes of a store.
        self.log = {"step": 0} if log is None else log

    def _with_store(self, store):
        return type(self)(store, self.step, self.log)

    def with_read_only(self, read_only=False):
        return self._with_store(self._store.with_read_only(read_only))

    def _take(self):
        if self.log["step"] == self.step:
            raise Killed
        self.log["step"] += 1

    async def set(self, key, value):
        self._take()
        await super().set(key, value)

    async def set_if_not_exists(self, key, value):
        self._take()
        await super().set_if_not_exists(key, value)

    async def delete(self, key):
        self._take()
        await super().delete(key)

    async def delete_dir(self, prefix):
        self._take()
        await super().delete_dir(prefix)


def hashes(folder):
    """Return a hash of every file below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def strict_json(path):
    """Return a JSON document, read as browsers read it: without NaN and infinities."""

    def refuse(constant):
        raise ValueError(f"{path} holds {constant}, which is no JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def make_array(place, data, *, path="0", zarr_format=3, chunks=None, dims=None, attributes=None, **options):
    """Store an array as other programs do: with dimension names where `dims` are given, else without."""
    attributes = dict(attributes or {})
    if zarr_format == 2 and dims is not None:
        attributes["_ARRAY_DIMENSIONS"] = list(dims)
    array = zarr.create_array(
        place,
        name=path,
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks or data.shape,
        zarr_format=zarr_format,
        dimension_names=dims if zarr_format == 3 else None,
        attributes=attributes,
        **options,
    )
    array[...] = data
    return array


def place_on_map(image, y, x):
    """Return easting and northing of a pixel's centre, from the coordinates and attributes of a level."""
    position = np.array([float(image.x[x]), float(image.y[y])])
    if "direction" not in image.attrs:
        return position
    origin, direction = np.flip(image.attrs["origin"]), np.flip(image.attrs["direction"])
    return origin + direction @ (position - origin)
