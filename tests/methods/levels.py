"""Levels of one image as they are computed lazily, coarsened and written."""

import dask
import numba
import numpy as np
import pytest

import multiscale_sampler as ms
from tests import oracles

compiled = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: functions of numba are not known from others"
)
LADDER = [{"y": 2, "x": 2}, {"y": 4, "x": 4}]
FACTORS = [(1, 1), (2, 2), (4, 4)]


def levels_of(image, *args, **options):
    with dask.config.set(scheduler="sync"):
        return list(dask.compute(*oracles.images_of(ms.to_multiscale(image, *args, **options))))


def written(image, **options):
    store = {}
    ms.write_pyramid(image, store, scale_factors=LADDER, workers=1, **options)
    return [level.compute() for level in oracles.images_of(ms.open_pyramid(store))]


def assert_three_ways(image, method, **options):
    """Return the levels of a tree without the base, after comparing them with coarsened and written ones."""
    lazy = image.chunk({"y": 3, "x": 4})
    levels = levels_of(lazy, LADDER, method, **options)[1:]
    for level, stored in zip(levels, written(lazy, method=method, **options)[1:], strict=True):
        assert level.dtype == stored.dtype
        assert level.values.tobytes() == stored.values.tobytes()
    assert ms.coarsen(image, 2, method=method, **options).values.tobytes() == levels[0].values.tobytes()
    return levels


def image_with_gaps(dtype="float32", seed=0):
    array = np.random.default_rng(seed).integers(0, 50, (11, 14)).astype(dtype)
    missing = np.random.default_rng(seed + 1).random(array.shape) < 0.4
    array[missing] = np.nan if array.dtype.kind == "f" else 0
    return ms.to_image(array, "yx")
