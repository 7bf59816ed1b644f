"""Planning, whose time is not to grow with the voxels."""

import dask.array as da
import pytest

import multiscale_sampler as ms

from .conftest import Bench


@pytest.mark.parametrize("memory_limit", [None, "512MiB"])
def test_plan_pyramid(bench: Bench, memory_limit: str | None) -> None:
    size, levels = (512, 3) if bench.tiny else (32768, 8)
    # A base of 64 TiB at full size; its chunks are as few as they may be, for dask to name them in a moment.
    image = ms.to_image(da.zeros((size,) * 3, chunks=(64, 64, size), dtype="uint16"))
    plan = bench.benchmark(
        ms.plan_pyramid, image, 2, max_levels=levels, chunks=64, memory_limit=memory_limit, workers=2
    )
    assert [level.shape for level in plan.levels] == [(size >> level,) * 3 for level in range(levels)]
    assert memory_limit is None or plan.peak_memory <= 512 * 2**20
