"""Finished pyramids: resuming what made them does nothing, and resuming anything else is refused."""

import os
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler.build import resuming
from multiscale_sampler.cli import main
from tests.counting import recorded_calls
from tests.data import noise

# The libraries' own: sockets that were kept for a next request.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:Unclosed:ResourceWarning")

OPTIONS = {"scale_factors": [2, 4], "chunks": 16}
REFUSED = pytest.raises(FileExistsError, match=r"exists|describes a pyramid already")


def values(dtype="uint16"):
    return noise((45, 61), "uint16", seed=3).astype(dtype)


def changed(data):
    other = data.copy()
    other[44, 60] += 1000
    return other


def times(place):
    """Return when each file of a store was written."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}


KINDS = {
    "0.5": {},
    "0.4": {"version": "0.4"},
    "flat": {"layout": "flat"},
    "digests": {"digests": True},
    "zip": {},
    "ozx": {},
    "geozarr": {"metadata": ("ome", "geozarr")},
    "geozarr alone": {"metadata": ("geozarr",)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_write_pyramid__of_a_finished_pyramid_is_done_at_once(tmp_path, kind):
    place = tmp_path / (f"a.{kind}" if kind in ("zip", "ozx") else "a")
    options = {**OPTIONS, **KINDS[kind]}

    def write(data, **more):
        image = ms.to_image(data, scale=2.0).assign_attrs(crs="EPSG:32632")
        ms.write_pyramid(image, place, resume=True, **{**options, **more})

    write(values())
    before = times(place)
    write(values())
    write(values(), mode="w")
    for other in ({"method": "max"}, {"chunks": 8}, {"scale_factors": [2]}, {"compressors": None}):
        with REFUSED:
            write(values(), **other)
    with REFUSED:
        write(changed(values()))
    assert times(place) == before
    write(changed(values()), mode="w")
    assert times(place) != before


@pytest.mark.parametrize("store", ["memory", "obstore", "s3"])
def test_write_pyramid__of_a_finished_pyramid_is_done_at_once_in_any_store(store, request):
    how = {}
    if store == "s3":
        server = request.getfixturevalue("object_server")
        place, how = server.url("finished"), {"storage_options": server.options}
    elif store == "obstore":
        obstore = pytest.importorskip("obstore.store", reason="the extra 'test' brings obstore")
        place = zarr.storage.ObjectStore(obstore.MemoryStore())
    else:
        place = {}
    write = partial(ms.write_pyramid, store=place, resume=True, **OPTIONS, **how)
    write(values("float32"))
    if store == "s3":
        server.requests()
    write(values("float32"))
    if store == "s3":
        assert {request.method for request in server.requests()} <= {"GET", "HEAD"}
    with REFUSED:
        write(changed(values("float32")))


@pytest.mark.parametrize("method", ["mode", "median", "gaussian", "laplacian", "std"])
def test_write_pyramid__of_a_finished_pyramid_is_done_at_once_by_any_method(tmp_path, method):
    write = partial(ms.write_pyramid, store=tmp_path / "a", method=method, resume=True, **OPTIONS)
    write(values("float32"))
    before = times(tmp_path / "a")
    write(values("float32"))
    assert times(tmp_path / "a") == before
    with REFUSED:
        write(changed(values("float32")))


def test_write_pyramid__of_a_finished_pyramid_knows_functions_weights_and_coordinates(tmp_path):
    def reduced(how):
        def method(windows, axis=None):
            return how(windows, axis=axis)

        return method

    write = partial(ms.write_pyramid, values(), tmp_path / "f", resume=True, **OPTIONS)
    write(method=reduced(np.max))
    write(method=reduced(np.max))
    with REFUSED:
        write(method=reduced(np.min))
    image = ms.to_image(values("float32"))
    write = partial(ms.write_pyramid, image, tmp_path / "w", resume=True, **OPTIONS)
    write(weights=image)
    write(weights=image)
    with REFUSED:
        write(weights=image + 1000)
    channels = ms.to_image(np.stack([values()] * 2), "cyx").assign_coords(c=["red", "green"])
    write = partial(ms.write_pyramid, store=tmp_path / "c", resume=True, **OPTIONS)
    write(channels)
    write(channels)
    with REFUSED:
        write(channels.assign_coords(c=["red", "blue"]))


def test_write_pyramid__of_a_finished_pyramid_reads_what_was_written_since_it_was_made(tmp_path, monkeypatch):
    array = zarr.create_array(tmp_path / "raw", data=values(), chunks=(8, 8), dimension_names=("y", "x"))
    write = partial(ms.write_pyramid, ms.open_image(array), tmp_path / "a", scale_factors=[2], resume=True, workers=1)
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        check_what_is_read(write, array, monkeypatch)


def check_what_is_read(write, array, monkeypatch):
    write()
    compared = recorded_calls(monkeypatch, resuming._compare_region)
    write()
    assert (every := len(compared)) > 3
    for path in Path(array.store_path.store.root).rglob("*"):
        os.utime(path, (1, 1))
    write()
    # The first, the last and another one.
    assert len(compared) - every <= 3
    array[40:, 40:] = 7
    with REFUSED:
        write()


def test_add_levels__of_a_finished_pyramid_is_done_at_once(tmp_path):
    place = tmp_path / "a"
    array = zarr.create_array(place, name="0", data=values(), chunks=(16, 16), dimension_names=("y", "x"))
    add = partial(ms.add_levels, place, scale_factors=[2, 4], scale=0.5, units="micrometer", resume=True)
    add()
    before = times(place)
    add()
    for other in ({"method": "max"}, {"scale": 2.0}, {"scale_factors": [2]}):
        with REFUSED:
            add(**other)
    assert times(place) == before
    array[44, 60] = 60000
    with REFUSED:
        add()


def test_write_labels__of_finished_labels_is_done_at_once(tmp_path):
    place = tmp_path / "a"
    ms.write_pyramid(values(), place, layout="flat", **OPTIONS)
    write = partial(ms.write_labels, store=place, name="cells", chunks=16, resume=True)
    write(values("uint32"))
    before = times(place)
    write(values("uint32"))
    with REFUSED:
        write(changed(values("uint32")))
    assert times(place) == before


def test_write_pyramid__of_a_finished_tree_with_labels_is_done_at_once(tmp_path):
    ms.write_pyramid(values(), tmp_path / "a", **OPTIONS)
    ms.write_labels(values("uint32"), tmp_path / "a", "cells", chunks=16)
    write = partial(ms.write_pyramid, ms.open_pyramid(tmp_path / "a"), resume=True)
    for place in (tmp_path / "b", tmp_path / "b.zip"):
        write(store=place)
        before = times(place)
        write(store=place)
        assert times(place) == before


def test_command_line__of_a_finished_pyramid_is_done_at_once(tmp_path, capsys):
    zarr.create_array(tmp_path / "raw", data=values(), chunks=(16, 16), dimension_names=("y", "x"))
    build = ["build", str(tmp_path / "raw"), str(tmp_path / "a"), "--resume", "--quiet"]
    assert main(build) == 0
    before = times(tmp_path / "a")
    assert main(build) == 0
    assert times(tmp_path / "a") == before
    assert main([*build, "--method", "max"]) == 1
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["build", "info", "verify", "append", "update", "rebuild", "write-labels", "explain"]
)
def test_command_line__of_an_unfinished_pyramid_names_resume(tmp_path, capsys, command):
    place, raw = str(tmp_path / "a"), str(tmp_path / "raw")
    zarr.create_array(raw, data=values(), chunks=(16, 16), dimension_names=("y", "x"))

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ms.write_pyramid(ms.open_image(raw), place, progress=stop)
    more = {
        "build": [raw, place],
        "append": [raw, place, "--dim", "y"],
        "update": [place, "--region", "y=0:4"],
        "rebuild": [place, "--method", "max"],
        "write-labels": [raw, place, "cells"],
    }
    assert main([command, *more.get(command, [place])]) == 1
    assert "--resume" in capsys.readouterr().err
