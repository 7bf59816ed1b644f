"""Builds are refused where their target has no room, and only there."""

import errno
import os
import shutil
import subprocess
from collections import namedtuple

import dask
import dask.array as da
import numcodecs
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from tests.data import hashes, noise

Usage = namedtuple("Usage", "total used free")
NOISE = noise((128, 128), "uint16", seed=3)
OPTIONS = {"scale_factors": [2, 4], "chunks": 16}


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets how many bytes are free on all file systems."""

    def set_free(count):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - count, count))

    return set_free


@pytest.mark.parametrize("image", [NOISE, da.from_array(NOISE, chunks=16), ms.to_image(NOISE)], ids=["np", "da", "xr"])
@pytest.mark.parametrize("name", ["a.zarr", "a.ozx"])
def test_write_pyramid__without_room_is_refused_and_keeps_the_old(tmp_path, free, image, name):
    ms.write_pyramid(NOISE // 2, tmp_path / name, **OPTIONS)
    before = hashes(tmp_path)
    free(20_000)
    with pytest.raises(OSError, match=r"needs at least .* \(at most .*\), and the file system of .* left") as refused:
        ms.write_pyramid(image, tmp_path / name, mode="w", **OPTIONS)
    assert refused.value.errno == errno.ENOSPC
    assert hashes(tmp_path) == before
    with pytest.raises(OSError, match="needs at least"):
        ms.write_pyramid(image, tmp_path / "new.zarr", **OPTIONS)
    assert not (tmp_path / "new.zarr").exists()
    free(10**9)
    ms.write_pyramid(image, tmp_path / name, mode="w", **OPTIONS)


def test_write_pyramid__a_zip_file_needs_room_twice(tmp_path, free):
    free(50_000)
    ms.write_pyramid(NOISE, tmp_path / "a.zarr", **OPTIONS)
    with pytest.raises(OSError, match="needs at least"):
        ms.write_pyramid(NOISE, tmp_path / "a.zip", **OPTIONS)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((512, 512), "uint16"), id="blank"),
        pytest.param(np.repeat(np.arange(512, dtype="uint16")[:, None], 512, 1), id="compressible"),
        pytest.param(np.pad(NOISE[:32, :32], (240, 240)), id="mostly blank"),
        pytest.param(da.zeros((512, 512), chunks=64, dtype="uint16"), id="blank dask"),
        pytest.param(zarr.create_array({}, data=np.eye(512, dtype="uint16"), chunks=(64, 64)), id="zarr"),
    ],
)
def test_write_pyramid__what_compression_makes_small_is_not_refused(tmp_path, free, image):
    free(100_000)
    assert np.prod(image.shape) * 2 > 100_000
    ms.write_pyramid(image, tmp_path / "a.zarr", scale_factors=[2, 4], chunks=64)
    assert sum(path.stat().st_size for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()) < 100_000


def test_write_pyramid__asks_nothing_of_stores_that_are_no_folder(free):
    free(0)
    ms.write_pyramid(NOISE, {}, **OPTIONS)


def test_write_pyramid__a_disk_that_fills_up_keeps_the_old_and_is_resumed(tmp_path, monkeypatch):
    from multiscale_sampler.store import chunks

    ms.write_pyramid(NOISE // 2, tmp_path / "a.zarr", **OPTIONS)
    before, opened, new_file = hashes(tmp_path), [], chunks._new_file

    def full(path):
        opened.append(path)
        if len(opened) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return new_file(path)

    with monkeypatch.context() as patched:
        patched.setattr(chunks, "_new_file", full)
        with pytest.raises(OSError, match="No space left") as stopped:
            ms.write_pyramid(NOISE, tmp_path / "a.zarr", mode="w", **OPTIONS)
    assert any("resume=True (--resume)" in note for note in stopped.value.__notes__)
    assert before.items() <= hashes(tmp_path).items()
    ms.write_pyramid(NOISE, tmp_path / "a.zarr", mode="w", resume=True, **OPTIONS)
    np.testing.assert_array_equal(ms.open_pyramid(tmp_path / "a.zarr")["scale0/image"], NOISE)


# --- a disk that is really full --------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """Return the folder of a file system of 4 MiB in memory, which root can mount, or who may call sudo without asking.

    Elsewhere these tests are skipped: a limit of the size of files, say, does not tell a full disk from a large file.
    """
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=1777", "tmpfs", str(place)]
    prefix = next((each for each in ([], ["sudo", "-n"]) if _succeeds([*each, *mount])), None)
    if prefix is None:
        pytest.skip("this user cannot mount a file system")
    yield place
    subprocess.run([*prefix, "umount", "--lazy", str(place)], check=True)


def _succeeds(command):
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def fill(disk):
    """Write a file until nothing more fits."""
    with open(disk / "ballast", "ab", buffering=0) as file:
        while shutil.disk_usage(disk).free:
            file.write(bytes(4096))


def make_room(disk):
    os.remove(disk / "ballast")


def change(name, disk, **options):
    """Make one of the calls that write, of a store on a disk; all of them make levels of `NOISE`."""
    store, options = disk / "a.zarr", {"workers": 1, **options}
    if name in ("write_pyramid", "replace", "zip"):
        store = disk / "a.ozx" if name == "zip" else store
        ms.write_pyramid(NOISE, store, **OPTIONS, **({"mode": "w"} if name == "replace" else {}), **options)
    elif name == "add_levels":
        ms.add_levels(disk / "raw.zarr", scale_factors=[2, 4], **options)
    elif name == "update_pyramid":
        ms.update_pyramid(store, {"y": slice(0, 64)}, **options)
    elif name == "rebuild_levels":
        ms.rebuild_levels(store, method="max", **options)
    elif name == "append_pyramid":
        ms.append_pyramid(NOISE, store, "y", **options)
    elif name == "write_labels":
        ms.write_labels(NOISE, store, "cells", chunks=16, **options)
    else:
        ms.convert(store, disk / "b.zarr", version="0.4", **options)


def prepare(name, disk):
    """Store what a call changes."""
    if name == "add_levels":
        root = zarr.create_group(disk / "raw.zarr")
        root.create_array("0", data=NOISE, chunks=(16, 16), dimension_names=("y", "x"))
    elif name not in ("write_pyramid", "zip"):
        ms.write_pyramid(NOISE // 2 if name == "replace" else NOISE, disk / "a.zarr", **OPTIONS)
    if name == "update_pyramid":
        zarr.open_array(disk / "a.zarr", path="scale0/image", mode="r+")[:64] = 7


CHANGES = ["write_pyramid", "replace", "zip", "add_levels", "update_pyramid", "rebuild_levels", "append_pyramid"]
# Names of calls, and after how many steps the disk is full.
FULL = [
    *((name, 1) for name in CHANGES),
    ("write_pyramid", 0),
    ("append_pyramid", 0),
    *(
        pytest.param(name, steps, marks=pytest.mark.thorough)
        for name in (*CHANGES, "write_labels", "convert")
        for steps in (0, 3)
    ),
]


@pytest.mark.filterwarnings("ignore:a change of .* is in progress or was interrupted")
@pytest.mark.parametrize(("name", "steps"), FULL)
def test_a_full_disk__is_named_loses_nothing_and_is_resumed_when_there_is_room(disk, tmp_path, name, steps):
    prepare(name, disk)
    before = hashes(disk)

    def run_full(progress):
        seen.append(progress)
        if len(seen) == steps:
            fill(disk)

    seen = []
    if not steps:
        fill(disk)
    with (
        pytest.raises(OSError, match=f"{disk}") as stopped,
        dask.config.set({"multiscale_sampler.region_size": 1}),
    ):
        change(name, disk, progress=run_full)
    assert stopped.value.errno == errno.ENOSPC
    if steps:
        assert any("resume=True (--resume)" in note for note in stopped.value.__notes__)
    # What was stored before is there, but for the documents of a pyramid that is being changed, and its levels.
    kept = {path: digest for path, digest in before.items() if name in ("replace", "add_levels", "convert")}
    kept |= {path: digest for path, digest in before.items() if "scale0/image/c/" in path}
    assert kept.items() <= hashes(disk).items()
    if name == "append_pyramid":
        np.testing.assert_array_equal(ms.open_pyramid(disk / "a.zarr")["scale0/image"], NOISE)
    elif name == "replace":
        np.testing.assert_array_equal(ms.open_pyramid(disk / "a.zarr")["scale0/image"], NOISE // 2)
    # Where an append has not begun, there is nothing to resume.
    again = {"resume": steps > 0} if name == "append_pyramid" else {"resume": True}
    with pytest.raises(OSError, match=f"{disk}"):
        change(name, disk, **again)
    make_room(disk)
    change(name, disk, **again)
    # What comes of it is what comes of a call that never failed.
    other = tmp_path / "other"
    other.mkdir()
    prepare(name, other)
    change(name, other)
    if name == "zip":
        tree, expected = (ms.open_pyramid(place / "a.ozx") for place in (disk, other))
        for node in expected.children:
            np.testing.assert_array_equal(tree[f"{node}/image"], expected[f"{node}/image"])
    else:
        assert hashes(disk) == hashes(other)


def test_plan__states_the_storage_at_most():
    plan = ms.plan_pyramid(ms.to_image(np.zeros((64, 64), "uint16")), [2, 4])
    assert plan.most_storage == plan.to_dict()["storage"] == 2 * (64**2 + 32**2 + 16**2)
    assert "storage at most 10.50 kiB, before compression" in str(plan)


# --- rehearsed before anything is made -------------------------------------------------------------------------

MIXED = np.array([1, "a", None, 2.5] * 32, dtype=object)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mixed", MIXED),
        ("objects", np.array([object()] * 128, dtype=object)),
        ("sets", np.array([{1, 2}] * 128, dtype=object)),
    ],
)
def test_write_pyramid__a_coordinate_that_zarr_cannot_hold_is_named_before_anything_is_made(
    tmp_path, version, name, values
):
    image = ms.to_image(NOISE).assign_coords({name: ("y", values), "fine": ("x", np.arange(128))})
    ms.write_pyramid(NOISE, tmp_path / "old", version=version, **OPTIONS)
    before = hashes(tmp_path)
    # Along y nothing is computed, which would find it out too.
    options = {"version": version, "scale_factors": [{"x": 2}]}
    for place, mode in (("new", "w-"), ("old", "w")):
        with pytest.raises(ValueError, match=f"the coordinate '{name}' of 'image' cannot be stored in zarr"):
            ms.write_pyramid(image, tmp_path / place, mode=mode, **options)
    assert hashes(tmp_path) == before
    assert not (tmp_path / "new").exists()
    ms.write_pyramid(image.drop_vars(name), tmp_path / "new", **options)


HALVED = [{"y": 2, "x": 2}]
CHANNELS = xr.DataArray(np.ones((3, 16, 16), "f4"), dims=("c", "y", "x"), name="v")
REFUSED = {
    "categorical": ("c", pd.CategoricalIndex(list("abc"))),
    "mixed": ("c", np.array([1, "b", 2.5], object)),
    "interval": ("c", pd.IntervalIndex.from_breaks(range(4))),
    "a dict": ("o", ((), {"a": 1})),
    "lists beside an axis": ("o", ("c", np.array([[1], [2, 3], None, 4], object)[:3])),
    "sets": ("o", ("c", np.array([{1}, {2}, {3}], object))),
    "texts and numbers": ("o", (("y", "x"), np.array([1, "b"] * 128, object).reshape(16, 16))),
}


def refused(name):
    coordinate, values = REFUSED[name]
    return coordinate, CHANNELS.assign_coords({coordinate: values})


WAYS = {
    "image": lambda image, place: ms.write_pyramid(image, place, scale_factors=HALVED, method="nearest"),
    "tree": lambda image, place: ms.write_pyramid(ms.to_multiscale(image, HALVED, method="nearest"), place),
    "0.4": lambda image, place: ms.write_pyramid(image, place, scale_factors=HALVED, method="nearest", version="0.4"),
    "accessor": lambda image, place: ms.to_multiscale(image, HALVED, method="nearest").multiscale.to_zarr(place),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("way", WAYS)
def test_coordinates_that_zarr_cannot_hold__are_found_before_anything_is_made(tmp_path, way, name):
    coordinate, image = refused(name)
    for place in (tmp_path / "store", tmp_path / "store.zip"):
        with pytest.raises(ValueError, match=f"the coordinate {coordinate!r} of 'v' cannot be stored in zarr"):
            WAYS[way](image, place)
        assert list(tmp_path.iterdir()) == []
    repaired = image.drop_vars(coordinate)
    WAYS[way](repaired, tmp_path / "store")
    np.testing.assert_array_equal(ms.open_pyramid(tmp_path / "store")["scale1"].v, np.ones((3, 8, 8)))


def test_an_existing_pyramid__survives_a_coordinate_that_cannot_be_stored(tmp_path):
    ms.write_pyramid(CHANNELS * 7, tmp_path / "store", scale_factors=HALVED)
    _, image = refused("sets")
    with pytest.raises(ValueError, match="the coordinate 'o' of 'v' cannot be stored in zarr"):
        ms.write_pyramid(image, tmp_path / "store", scale_factors=HALVED, mode="w", method="nearest")
    assert (ms.open_pyramid(tmp_path / "store")["scale0"].v == 7).all()


def test_a_store_in_memory__stays_empty():
    _, image = refused("categorical")
    store = zarr.storage.MemoryStore()
    with pytest.raises(ValueError, match="the coordinate 'c' of 'v' cannot be stored in zarr"):
        ms.write_pyramid(image, store, scale_factors=HALVED, method="nearest")
    assert store._store_dict == {}


# xarray's own, of a part of a MultiIndex that is replaced.
@pytest.mark.filterwarnings("ignore:Deleting a single level:FutureWarning")
@pytest.mark.parametrize(
    ("coordinate", "message"),
    [
        (
            pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=("p", "q")),
            r"MultiIndex of \['p', 'q'\].*reset_index",
        ),
        (pd.IntervalIndex.from_breaks(range(5)), "values are as Interval.*convert it to numbers, texts or dates"),
        (pd.CategoricalIndex(list("abca")), "values are as 'a'.*convert it to numbers, texts or dates"),
        (pd.period_range("2000", periods=4, freq="M"), "neither numbers nor dates, as Period.*assign_coords"),
    ],
)
def test_write_pyramid__indexes_that_zarr_cannot_hold_are_named_with_what_to_do(coordinate, message):
    image, store = ms.to_image(np.ones((4, 8, 8), "uint8"), "cyx").drop_vars("c"), {}
    is_multiple = isinstance(coordinate, pd.MultiIndex)
    coords = xr.Coordinates.from_pandas_multiindex(coordinate, "c") if is_multiple else {"c": coordinate}
    with pytest.raises(ValueError, match=f"coordinates? (of )?'c'.*{message}"):
        ms.write_pyramid(image.assign_coords(coords), store, scale_factors=[{"x": 2}])
    assert store == {}


class Integers(numcodecs.abc.Codec):
    """A codec that refuses floats where it gets them."""

    codec_id = "integers-of-a-test"

    def encode(self, buf):
        if np.asarray(buf).dtype.kind == "f":
            raise TypeError("no floats")
        return bytes(np.asarray(buf))

    def decode(self, buf, out=None):
        return buf


def test_write_pyramid__values_that_the_codecs_refuse_are_an_error_before_anything_is_made(tmp_path):
    numcodecs.register_codec(Integers)
    options = {**OPTIONS, "version": "0.4", "compressors": Integers()}
    ms.write_pyramid(NOISE, tmp_path / "old", **{**options, "compressors": "auto"})
    before = hashes(tmp_path)
    for place in ("old", "new"):
        with pytest.raises(ValueError, match="the codecs cannot store values of dtype 'float32': TypeError: no floats"):
            ms.write_pyramid(noise((64, 64), "float32"), tmp_path / place, mode="w", **options)
    assert hashes(tmp_path) == before
    ms.write_pyramid(NOISE, tmp_path / "new", **options)


@pytest.mark.parametrize("step", ["coordinates", "publishing", "labels"])
def test_write_pyramid__names_resume_wherever_it_failed(tmp_path, monkeypatch, step):
    from multiscale_sampler.store import targets

    image = ms.to_image(NOISE)
    name = {"coordinates": "write_coordinates", "publishing": "publish", "labels": "labels_group"}[step]

    def fail(*args):
        raise OSError("the store is gone")

    tree = ms.to_multiscale(image, [2])
    if step == "labels":
        ms.write_pyramid(image, tmp_path / "a", **OPTIONS)
        ms.write_labels(NOISE, tmp_path / "a", "cells")
        tree = ms.open_pyramid(tmp_path / "a")
    with monkeypatch.context() as patched:
        patched.setattr(targets.Target, name, fail)
        with pytest.raises(OSError, match="the store is gone") as failed:
            ms.write_pyramid(tree, tmp_path / "b")
    assert failed.value.__notes__ == ["The build was interrupted; complete it with resume=True (--resume)."]
    ms.write_pyramid(tree, tmp_path / "b", resume=True)
    assert ms.validate(tmp_path / "b").ok
