"""One block in memory, reduced by this package and by others."""

import pytest

from . import kernels
from .conftest import Bench


@pytest.mark.filterwarnings(kernels.TINYBRAIN_MAY_WARN)
@pytest.mark.parametrize("way", kernels.WAYS)
@pytest.mark.parametrize("case", kernels.CASES, ids=lambda case: case.title)
def test_kernels(bench: Bench, case: kernels.KernelCase, way: str) -> None:
    bench.benchmark.group = case.title
    block = case.block(24 if bench.tiny else 256)
    try:
        run = kernels.WAYS[way](case, block)
    except NotImplementedError as error:
        pytest.skip(str(error))
    except ModuleNotFoundError as error:
        pytest.skip(f"no module {error.name!r}: pip install 'multiscale-sampler[bench]'")
    found = bench.benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    if way == "copy":
        assert (found == block).all()
        return
    expected = kernels.numpy(case, block)()
    if way == "scipy":
        # Its samples lie elsewhere.
        assert found.shape == expected.shape
        assert found.mean() == pytest.approx(expected.mean(), rel=0.01)
    else:
        assert case.agrees(block, found, expected)
