"""The lazy tree: making it, which reads nothing, and computing its coarsest level."""

import numpy as np
import pytest

import multiscale_sampler as ms

from .conftest import Bench
from .kernels import KernelCase, numpy


def test_to_multiscale__is_made(bench: Bench, refuse_to_compute: None) -> None:
    case = bench.case("3d")
    image = ms.open_image(bench.group(case), "0")
    tree = bench.benchmark(ms.to_multiscale, image, case.scale_factors, case.method)
    assert list(tree) == [f"scale{level}" for level in range(case.levels + 1)]


@pytest.mark.parametrize("method", ["mean", "max", "nearest"])
def test_to_multiscale__is_computed(bench: Bench, method: str) -> None:
    case = bench.case("3d")
    image = ms.open_image(bench.group(case), "0")
    level = ms.to_multiscale(image, case.scale_factors, method)[f"scale{case.levels}/{image.name}"]
    found = bench.benchmark.pedantic(level.compute, rounds=3, warmup_rounds=1)
    factors = (case.scale_factors[-1],) * len(case.shape)
    np.testing.assert_array_equal(found.values, numpy(KernelCase(method, factors, case.dtype), image.values)())
