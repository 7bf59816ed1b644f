"""A few builds in one process leave nothing behind; `python -m tests.benchmarks.soak` runs 200."""

from pathlib import Path

import pytest

from .soak import soak


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_soak__leaves_no_file_and_no_thread():
    first, *_, last = soak(6, methods=("mean", "max"), dtypes=("uint16",))
    assert last.descriptors <= first.descriptors
    assert last.threads <= first.threads
