"""Scale: what planning and driving a build cost does not grow with the image."""

import math
import sys
import tracemalloc

import dask
import numpy as np
import pytest
import zarr

from multiscale_sampler import open_image, plan_pyramid, write_pyramid
from multiscale_sampler.build import engine
from multiscale_sampler.store import Journal

PETABYTE = (100_000, 100_000, 50_000)


def calls_of(function):
    """Return how many calls of Python functions a function makes, itself included."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def planned(shape):
    """Plan a pyramid of an image that is stored in chunks of 64 voxels, and print it."""
    array = zarr.create_array({}, shape=shape, chunks=(64, 64, 64), dtype="uint16")

    def make():
        made = plan_pyramid(open_image(array), workers=8, memory_limit="16GiB")
        return made, str(made)

    return make


def test_plan_pyramid__a_petabyte_takes_as_little_as_a_gigabyte(refuse_to_compute):
    for shape in (PETABYTE, (1000, 1000, 500)):
        # What is imported and cached at the first time is no work.
        planned(shape)()
    tracemalloc.start()
    try:
        made, text = planned(PETABYTE)()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert math.prod(PETABYTE) * 2 == made.levels[0].nbytes == 10**15
    assert (len(made.levels), len(made.export_passes)) == (12, 9)
    assert "1910401758" in text
    assert peak < 20e6
    # Levels cost calls, 12 of them as many times as 5: regions and chunks do not.
    assert calls_of(planned(PETABYTE)) < 10 * calls_of(planned((1000, 1000, 500)))


def driven(side, workers):
    """Return the peak of memory of a build of `side` x `side` regions in which nothing is reduced."""
    base = np.broadcast_to(np.uint16(1), (16 * side, 16 * side))
    points = []
    tracemalloc.start()
    try:
        write_pyramid(base, {}, scale_factors=[2], chunks=8, workers=workers, progress=lambda p: points.append(None))
        return len(points), tracemalloc.get_traced_memory()[1] - sys.getsizeof(points)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("workers", [1, 3])
def test_write_pyramid__driving_many_regions_holds_no_more_than_driving_few(monkeypatch, workers):
    monkeypatch.setattr(engine, "reduce_region", lambda *args: None)
    monkeypatch.setattr(Journal, "mark", lambda journal, number, **known: None)
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        driven(10, workers)
        few, memory = driven(30, workers)
        many, more_memory = driven(120, workers)
    assert (few, many) == (900, 14_400)
    # A region that was kept would be some hundred bytes of slices and numbers: millions of bytes in all. What shows
    # whether its data have changed is a number of 8 bytes, of which there are a few copies at a time.
    assert more_memory - memory < 5 * 8 * (many - few)
