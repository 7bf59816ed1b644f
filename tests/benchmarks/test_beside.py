"""Levels beside a base that is there, by every contender of `peers`."""

import pytest

from .conftest import Bench, others_may_warn
from .contenders import Contender, contenders

THREE_DIMENSIONS_ONLY = ("pyramid_sampler",)


@pytest.mark.parametrize("name", ["3d", "2d", "labels"])
@pytest.mark.parametrize("contender", others_may_warn(contenders("beside")))
def test_beside(bench: Bench, contender: Contender, name: str) -> None:
    if name == "2d" and contender.name in THREE_DIMENSIONS_ONLY:
        pytest.skip(f"{contender.name} takes three dimensions only")
    bench.build(contender, name)
