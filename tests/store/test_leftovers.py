"""Files that a killed writer left half written: removed by whoever completes its work, and in nobody's way."""

import warnings

import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler import cli
from multiscale_sampler.build import engine
from tests.data import Killed, Stopping, hashes

NUMBER = "0123456789abcdef0123456789abcdef"
VALUES = np.random.default_rng(0).integers(0, 99, (32, 32)).astype("uint8")
OPTIONS = {"scale_factors": [2, 4], "chunks": 8}


@pytest.fixture(autouse=True)
def _strict():
    """As zarr warns of whatever it does not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def written(place, version):
    with warnings.catch_warnings():
        # zarr v3 has no final specification of consolidated metadata.
        warnings.simplefilter("ignore")
        ms.write_pyramid(VALUES, place, **OPTIONS, version=version)
        ms.write_labels(VALUES, place, "cells")
    return place


def leave(place, *, foreign=True):
    """Leave half-written files as zarr and this package name them, and such that look alike; return both."""
    document = ".zattrs" if (place / ".zgroup").exists() else "zarr"
    array = place / "scale1/image"
    chunks = sorted({file.parent for file in array.rglob("*") if file.name == "0"})
    ours = [folder / f"{document}.{NUMBER}.partial" for folder in (place, place / "scale1", array, place / "scale2/y")]
    ours += [chunks[0] / f"0.{NUMBER}.partial", chunks[-1] / "1.partial"]
    theirs = [place / "notes.partial", place / "scale1" / f"image.{NUMBER}.partial", place / "tables/0.partial"]
    for file in ours + theirs * foreign:
        file.parent.mkdir(exist_ok=True)
        file.write_text("torn")
    return ours, theirs * foreign


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_leftovers__are_in_nobodys_way(tmp_path, version):
    place = written(tmp_path / "a", version)
    leave(place, foreign=False)
    other = "0.5" if version == "0.4" else "0.6"
    assert ms.validate(place).ok
    assert ms.verify_pyramid(place).ok
    ms.convert(place, tmp_path / "b", version=other)
    ms.write_pyramid(ms.open_pyramid(place), tmp_path / "c", version=version)
    ms.write_pyramid(ms.open_pyramid(place), tmp_path / "d.zip", version=version)
    ms.write_labels(VALUES, place, "more")
    ms.update_pyramid(place, {"y": slice(0, 9)})
    for copy in ("b", "c", "d.zip"):
        np.testing.assert_array_equal(ms.open_pyramid(tmp_path / copy)["scale0/image"], VALUES)
    assert not [file for copy in ("b", "c") for file in (tmp_path / copy).rglob("*.partial")]
    ms.write_pyramid(VALUES, place, **OPTIONS, version=version, mode="w")
    assert not [file for file in place.rglob("*.partial") if "labels" not in file.parts]


def update(place, **options):
    ms.update_pyramid(place, {"y": slice(0, 9)}, **options)


def append(place, **options):
    ms.append_pyramid(VALUES[:8], place, "y", **options)


def rebuild(place, **options):
    ms.rebuild_levels(place, method="max", **options)


@pytest.mark.filterwarnings("ignore:the labels 'cells' keep their size")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("change", [update, append, rebuild])
def test_leftovers__of_a_stopped_change_are_removed_by_who_completes_it(tmp_path, monkeypatch, version, change):
    place, whole = written(tmp_path / "a", version), written(tmp_path / "b", version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(whole)
        with monkeypatch.context() as patched:
            patched.setattr(engine, "reduce_region", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                change(place)
        ours, theirs = leave(place)
        change(place, resume=True)
    assert not any(file.exists() for file in ours)
    for file in theirs:
        assert file.read_text() == "torn"
        file.unlink()
    assert hashes(place) == hashes(whole)


def convert(place):
    ms.convert(place, version="0.6")


def remove(place):
    ms.remove_levels(place, [2])


def convert_by_command(place):
    assert cli.main(["convert", str(place), "--ngff", "0.6"]) == 0


@pytest.mark.parametrize(("begin", "again"), [(convert, convert), (convert, convert_by_command), (remove, remove)])
def test_leftovers__of_changes_without_voxels_are_removed_too(tmp_path, begin, again):
    place, whole = written(tmp_path / "a", "0.5"), written(tmp_path / "b", "0.5")
    begin(whole)
    with pytest.raises(Killed):
        begin(Stopping(zarr.storage.LocalStore(place), 1))
    ours, theirs = leave(place)
    again(place)
    assert not any(file.exists() for file in ours)
    for file in theirs:
        file.unlink()
    assert hashes(place) == hashes(whole)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_leftovers__of_a_stopped_build_are_removed_by_who_resumes_it(tmp_path, monkeypatch, version):
    place = tmp_path / "a"
    calls = []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 2:
            raise Killed
        return whole(*args)

    whole, values = engine.reduce_region, np.arange(45 * 61, dtype="uint16").reshape(45, 61)
    options = {"scale_factors": [2, 4, 8], "chunks": 8, "version": version, "memory_limit": "10KB", "workers": 1}
    with monkeypatch.context() as patched:
        patched.setattr(engine, "reduce_region", stopped)
        with pytest.raises(Killed):
            ms.write_pyramid(values, place, **options)
    chunk = next(file for file in place.rglob("*") if file.name == "0" and file.is_file())
    for name in (f"{chunk}.{NUMBER}.partial", f"{chunk.parent}/zarr.{NUMBER}.partial"):
        with open(name, "w") as file:
            file.write("torn")
    ms.write_pyramid(values, place, **options, resume=True)
    ms.write_pyramid(values, tmp_path / "b", **options)
    assert hashes(place) == hashes(tmp_path / "b")
