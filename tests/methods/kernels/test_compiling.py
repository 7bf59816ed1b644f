"""Kernels where numba can write no cache: a container with a read-only package and no home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import zarr

import multiscale_sampler
from multiscale_sampler import open_pyramid
from multiscale_sampler.methods.kernels import compiling

BUILD = """
import sys
import multiscale_sampler
from multiscale_sampler.cli import main

assert multiscale_sampler.__file__.startswith(sys.argv[1]), multiscale_sampler.__file__
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def container(tmp_path):
    """Return the environment of a copy of the package that numba finds no folder for, whoever runs the test.

    A file stands where each folder would be made. Permissions would not stop root.
    """
    package = tmp_path / "site" / "multiscale_sampler"
    shutil.copytree(Path(multiscale_sampler.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "methods" / "kernels" / "__pycache__").touch()
    (tmp_path / "file").touch()
    unwritable = str(tmp_path / "file" / "folder")
    places = dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), unwritable)
    return {**os.environ, **places, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_build__without_a_folder_for_the_cache_warns_once(tmp_path, container):
    values = np.arange(64, dtype="int16").reshape(8, 8)
    zarr.create_array(tmp_path / "raw.zarr", data=values)
    command = [sys.executable, "-c", BUILD, str(tmp_path), "build", "raw.zarr", "out.zarr", "--quiet"]
    command += ["--factors", "2,4", "--method", "max"]
    done = subprocess.run(command, cwd=tmp_path, env=container, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "NUMBA" in line)
    assert line.startswith("multiscale-sampler: warning: numba can write neither to the folder of this package")
    assert "Traceback" not in done.stderr
    expected = values.reshape(4, 2, 4, 2).max((1, 3))
    level = next(iter(open_pyramid(tmp_path / "out.zarr")["scale1"].data_vars.values()))
    np.testing.assert_array_equal(level, expected)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_compiled__other_errors_of_numba_are_not_taken_for_a_missing_cache(monkeypatch):
    def refuse(**policy):
        raise RuntimeError("another one")

    monkeypatch.setattr(compiling.numba, "njit", refuse)
    with pytest.raises(RuntimeError, match="another one"):
        compiling.compiled(lambda values: values)
