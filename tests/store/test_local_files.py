"""Local files as Windows has them: no POSIX functions, and files that are open stay where they are."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from multiscale_sampler.store import local_files
from multiscale_sampler.store.local_files import patiently

# Makes of this system one that has no POSIX functions, where files that are open are not replaced, renamed or deleted.
WINDOWS = """
import builtins, ctypes, io, os, struct, types, weakref

# They look at the system that they are on while they are imported.
import dask.array, filelock, numba, xarray, zarr

# As on Windows; threads of the standard library ask it.
os.process_cpu_count = os.cpu_count
for name in ("sysconf", "pwrite", "pread", "pwritev", "preadv", "sched_getaffinity", "fork",
             "posix_fallocate", "sync"):
    if hasattr(os, name):
        delattr(os, name)

MEMORY = 3 << 30

def status_of_memory(buffer):
    assert struct.unpack_from("<I", buffer.raw)[0] == len(buffer.raw) == 64
    struct.pack_into("<Q", buffer, 8, MEMORY)

ctypes.windll = types.SimpleNamespace(kernel32=types.SimpleNamespace(GlobalMemoryStatusEx=status_of_memory))

opened = weakref.WeakSet()
opens = io.open

def open_and_remember(file, *arguments, **options):
    handle = opens(file, *arguments, **options)
    if not isinstance(file, int):
        opened.add(handle)
    return handle

builtins.open = io.open = open_and_remember

def is_open(path):
    place = os.path.realpath(path)
    names = [os.path.realpath(handle.name) for handle in list(opened) if not handle.closed]
    return any(name == place or name.startswith(place + os.sep) for name in names)

def refusing(step):
    def step_unless_open(*paths, **options):
        if any(is_open(path) for path in paths):
            raise PermissionError(13, "The process cannot access the file because it is being used", str(paths[0]))
        return step(*paths, **options)

    return step_unless_open

for name in "replace", "rename", "unlink", "remove":
    setattr(os, name, refusing(getattr(os, name)))
"""
WORK = """
import numpy as np
import zarr
import multiscale_sampler as ms
from multiscale_sampler.tasks.machine import available_memory

with open("held", "w") as held:
    try:
        os.replace("held", "other")
    except PermissionError:
        pass
    else:
        raise SystemExit("the stand-in for Windows replaces files that are open")

assert available_memory() <= MEMORY
values = np.random.default_rng(0).integers(0, 999, (12, 64, 64)).astype("uint16")
image = ms.to_image(values, "tyx", units={"y": "micrometer"})
options = {"scale_factors": [{"y": 2, "x": 2}, {"y": 4, "x": 4}], "chunks": {"t": 4, "y": 16, "x": 16}}
print(ms.plan_pyramid(image, options["scale_factors"]))
for place in "folder.zarr", "file.zip", "file.ozx":
    ms.write_pyramid(image[:8], place, **options)
    ms.write_pyramid(image[:8], place, mode="w", **options)
base = zarr.open_array("folder.zarr/scale0/image", mode="r+")
base[2:3, 10:30, 10:30] = 0
ms.update_pyramid("folder.zarr", {"t": slice(2, 3), "y": slice(10, 30), "x": slice(10, 30)})
ms.append_pyramid(image[8:], "folder.zarr", "t")
ms.write_labels((image > 500).astype("uint8"), "folder.zarr", "cells")
zarr.create_array("group.zarr", name="0", data=values, chunks=(4, 32, 32), dimension_names=["t", "y", "x"])
ms.add_levels("group.zarr", scale_factors=options["scale_factors"])
expected = values.copy()
expected[2:3, 10:30, 10:30] = 0
tree = ms.open_pyramid("folder.zarr")
np.testing.assert_array_equal(tree["scale0/image"], expected)
mean = np.rint(expected.reshape(12, 32, 2, 32, 2).mean((2, 4))).astype("uint16")
np.testing.assert_array_equal(tree["scale1/image"], mean)
np.testing.assert_array_equal(ms.open_pyramid("file.zip")["scale0/image"], values[:8])
ms.rebuild_levels("folder.zarr", method="mean")
ms.remove_levels("folder.zarr", [2])
assert list(ms.open_pyramid("folder.zarr").children) == ["scale0", "scale1", "labels"]
"""


def test_pyramids__are_planned_written_and_changed_without_posix(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(WINDOWS + WORK)
    environment = {**os.environ, "PYTHONPATH": str(Path(local_files.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_patiently__a_file_that_is_open_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files.time, "sleep", lambda seconds: reader_is_done.set())
    reader_is_done = threading.Event()
    (tmp_path / "new").write_text("new")

    def replace(source, target):
        if not reader_is_done.is_set():
            raise PermissionError(13, "in use", str(target))
        os.replace(source, target)

    patiently(replace, tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"


def test_patiently__a_file_that_stays_open_is_an_error(monkeypatch):
    waits = []
    monkeypatch.setattr(local_files.time, "sleep", waits.append)

    def replace():
        raise PermissionError(13, "in use")

    with pytest.raises(PermissionError, match="in use"):
        patiently(replace)
    assert waits == list(local_files.WAITS)
    assert sum(waits) < 2
