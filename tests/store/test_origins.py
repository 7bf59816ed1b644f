"""No spelling of a place and no disguise of a source lets ``mode="w"`` destroy what it reads."""

import os

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.store import place_of

BASE = np.arange(1, 64 * 64 + 1, dtype="uint16").reshape(64, 64)
OPTIONS = {"scale_factors": [2], "chunks": 16}


def fsspec_store(url):
    return zarr.storage.FsspecStore.from_url(url)


def obstore_store(path):
    obstore = pytest.importorskip("obstore.store", reason="the extra 'test' brings obstore")
    return zarr.storage.ObjectStore(obstore.LocalStore(prefix=path))


# Other names of the folder /.../a.zarr, as text or as a store.
SPELLINGS = {
    "text": str,
    "path": lambda path: path,
    "relative": lambda path: os.path.relpath(path),
    "dots": lambda path: f"{path}/../{path.name}",
    "slashes": lambda path: f"/{path}//",
    "link": lambda path: path.with_name("link.zarr"),
    "root of the process": lambda path: f"/proc/self/root{path}",
    "file": lambda path: f"file://{path}",
    "FILE": lambda path: f"FILE://{path}",
    "localhost": lambda path: f"file://localhost{path}",
    "local": lambda path: f"local://{path}",
    "simplecache": lambda path: f"simplecache::file://{path}",
    "filecache": lambda path: f"filecache::local://{path}",
    "blockcache": lambda path: f"blockcache::file://{path}",
    "dir": lambda path: f"dir::file://{path}",
    "two caches": lambda path: f"simplecache::filecache::file://{path}",
    "LocalStore": zarr.storage.LocalStore,
    "LocalStore above": lambda path: zarr.storage.StorePath(zarr.storage.LocalStore(path.parent), path.name),
    "group": lambda path: zarr.open_group(path),
    "FsspecStore": lambda path: fsspec_store(f"file://{path}"),
    "FsspecStore behind a cache": lambda path: fsspec_store(f"simplecache::file://{path}"),
    "obstore": obstore_store,
    "LoggingStore": lambda path: zarr.storage.LoggingStore(zarr.storage.LocalStore(path), log_level="ERROR"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the place of a pyramid, to which a link leads too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.zarr").symlink_to(tmp_path / "a.zarr")
    ms.write_pyramid(BASE, tmp_path / "a.zarr", **OPTIONS)
    return tmp_path / "a.zarr"


def base_of(place, path="scale0/image"):
    return zarr.open_array(place, path=path, mode="r")[...]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_place__is_one_however_it_is_spelled(place, spelling):
    if spelling == "root of the process" and not os.path.exists("/proc/self/root"):
        pytest.skip("needs /proc")
    target = SPELLINGS[spelling](place)
    assert place_of(target) == place_of(place)
    assert place_of(place) != place_of(place.with_name("b.zarr"))
    with pytest.raises(ValueError, match="holds the source"):
        ms.write_pyramid(ms.open_image(place), target, mode="w", scale_factors=[2, 4])
    np.testing.assert_array_equal(base_of(place), BASE)


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if name != "LoggingStore"])
def test_write_pyramid__replaces_by_any_spelling_what_a_disguised_source_reads(place, spelling):
    ms.write_pyramid(closure(zarr.open_array(place / "scale0/image")), SPELLINGS[spelling](place), mode="w", **OPTIONS)
    np.testing.assert_array_equal(base_of(place), BASE)
    assert ms.validate(place).ok


def test_write_pyramid__a_read_through_a_spelled_source_is_refused(place):
    for spelling in ("local", "simplecache", "obstore", "FsspecStore behind a cache"):
        opened = SPELLINGS[spelling](place)
        with pytest.raises(ValueError, match="holds the source"):
            ms.write_pyramid(ms.open_image(opened, "scale0/image"), place, mode="w", **OPTIONS)
    np.testing.assert_array_equal(base_of(place), BASE)


# --- disguises -------------------------------------------------------------------------------------------------


class Lazy:
    """An array-like of some program, which reads where it is indexed."""

    def __init__(self, array):
        self.inner = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index):
        return self.inner[index]


def closure(array):
    def block(block_info=None):
        return array[tuple(slice(*along) for along in block_info[None]["array-location"])]

    return da.map_blocks(block, dtype=array.dtype, chunks=((16,) * 4, (16,) * 4))


def delayed(array):
    read = dask.delayed(lambda: array[...])
    return da.from_delayed(read(), array.shape, array.dtype)


def by_path(array):
    store, path = array.store_path.store, array.path
    read = dask.delayed(lambda where: zarr.open_array(store, path=where, mode="r")[...])
    return da.from_delayed(read(path), array.shape, array.dtype)


DISGUISES = {
    "closure": closure,
    "closure in arithmetic": lambda array: (closure(array) + 1)[::-1].rechunk(8),
    "array-like": lambda array: da.from_array(Lazy(array), chunks=16),
    "delayed": delayed,
    "path": by_path,
    "concatenated": lambda array: da.concatenate([da.ones((32, 64), dtype="u2"), closure(array)[32:]]),
    "in a DataArray": lambda array: xr.DataArray(closure(array), dims=("y", "x")).rolling(y=3).mean().fillna(0),
    "opened by a trusted function": lambda array: da.from_delayed(
        dask.delayed(np.load)("anything.npy"), (64, 64), "uint16"
    ),
}
KNOWN = {
    "zarr": lambda array: array,
    "from_zarr": lambda array: da.from_zarr(array) + 1,
    "argument": lambda array: da.ones((64, 64), chunks=16).map_blocks(lambda block, other: block, other=array),
    "delayed array": lambda array: da.from_delayed(dask.delayed(np.asarray)(dask.delayed(array)), (64, 64), "uint16"),
    "coordinate": lambda array: ms.to_image(BASE).assign_coords(mask=(("y", "x"), da.from_zarr(array))),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_write_pyramid__in_a_store_that_cannot_rename_refuses_what_is_not_known(disguise):
    store = {}
    ms.write_pyramid(BASE, store, **OPTIONS)
    before = dict(store)
    image = DISGUISES[disguise](zarr.open_array(store, path="scale0/image", mode="r"))
    with pytest.raises(ValueError, match=r"may read it, so that the source could be lost: write to another place"):
        ms.write_pyramid(image, store, mode="w", **OPTIONS)
    assert store == before
    # Nothing is lost where nothing is replaced.
    if disguise != "opened by a trusted function":
        ms.write_pyramid(image, {}, mode="w", **OPTIONS)


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("store", ["folder", "dict"])
def test_write_pyramid__refuses_a_source_that_is_known_to_be_in_its_target(place, known, store):
    target = place if store == "folder" else {}
    if store == "dict":
        ms.write_pyramid(BASE, target, **OPTIONS)
    image = KNOWN[known](zarr.open_array(target, path="scale0/image", mode="r"))
    with pytest.raises(ValueError, match="holds the source"):
        ms.write_pyramid(image, target, mode="w", **OPTIONS)
    np.testing.assert_array_equal(base_of(target), BASE)


def xarray_dataset(path):
    xr.Dataset({"v": (("y", "x"), BASE)}).to_zarr(path, consolidated=False)
    return xr.open_zarr(path, consolidated=False)["v"]


def netcdf(path):
    pytest.importorskip("netCDF4", reason="the extra 'files' brings netCDF4")
    xr.Dataset({"v": (("y", "x"), BASE)}).to_netcdf(path / "a.nc")
    return xr.open_dataset(path / "a.nc", chunks={})["v"]


def mapped(path):
    np.save(path / "a.npy", BASE)
    return np.load(path / "a.npy", mmap_mode="r")


ELSEWHERE = {
    "numpy": lambda path: BASE,
    "mapped file": mapped,
    "dask of numpy": lambda path: (da.from_array(BASE, chunks=16) * 2).rechunk(8) + da.ones((64, 64), dtype="u2"),
    "random": lambda path: da.random.default_rng(0).integers(0, 9, (64, 64), chunks=16),
    "reduced": lambda path: da.from_array(BASE[None], chunks=16).mean(axis=0).round().astype("u2"),
    "overlap": lambda path: xr.DataArray(da.from_array(BASE, chunks=16), dims=("y", "x")).rolling(y=3).mean().fillna(0),
    "zarr in a folder": lambda path: da.from_zarr(zarr.create_array(path / "raw", data=BASE, chunks=(16, 16)))[::-1],
    "zarr in memory": lambda path: ms.open_image(zarr.create_array({}, data=BASE, chunks=(16, 16))),
    "xarray": lambda path: xarray_dataset(path / "x.zarr") * 2,
    "netCDF": netcdf,
    "tree": lambda path: ms.to_multiscale(ms.to_image(da.from_array(BASE, chunks=16)), [2]),
}


@pytest.mark.filterwarnings("ignore:some clients will not open")
@pytest.mark.parametrize("source", ELSEWHERE)
def test_write_pyramid__in_a_store_that_cannot_rename_replaces_what_is_proven_to_lie_elsewhere(tmp_path, source):
    store = {}
    ms.write_pyramid(BASE % 7, store, **OPTIONS)
    image = ELSEWHERE[source](tmp_path)
    options = {"chunks": 16} if source == "tree" else OPTIONS
    ms.write_pyramid(image, store, mode="w", **options)
    expected = image["scale0/image"] if source == "tree" else image
    np.testing.assert_array_equal(next(iter(ms.open_pyramid(store)["scale0"].data_vars.values())), np.asarray(expected))


@pytest.mark.parametrize("disguise", [name for name in DISGUISES if name != "opened by a trusted function"])
def test_write_pyramid__in_a_folder_a_disguised_source_is_read_before_it_is_replaced(place, disguise):
    image = DISGUISES[disguise](zarr.open_array(place, path="scale0/image", mode="r"))
    expected = np.asarray(image)
    ms.write_pyramid(image, place, mode="w", **OPTIONS)
    np.testing.assert_array_equal(next(iter(ms.open_pyramid(place)["scale0"].data_vars.values())), expected)


def test_write_labels__replaces_labels_by_what_is_computed_from_them(place):
    ms.write_labels(BASE % 9, place, "cells", chunks=16)
    array = zarr.open_array(place, path="labels/cells/scale0/cells", mode="r")
    with pytest.raises(ValueError, match="holds the source"):
        ms.write_labels(da.from_zarr(array) * 2, place, "cells", mode="w")
    ms.write_labels(closure(array) * 2, place, "cells", mode="w")
    np.testing.assert_array_equal(base_of(place, "labels/cells/scale0/cells"), BASE % 9 * 2)


def test_write_pyramid__weights_are_a_source_too(place):
    array = zarr.open_array(place, path="scale0/image", mode="r")
    weights = ms.to_image(da.from_zarr(array).astype("float32"))
    with pytest.raises(ValueError, match="holds the source"):
        ms.write_pyramid(ms.to_image(BASE), place, mode="w", weights=weights, **OPTIONS)
    np.testing.assert_array_equal(base_of(place), BASE)
