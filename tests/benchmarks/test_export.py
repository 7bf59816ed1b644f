"""A new store with a copy of the base, by every contender of `peers`."""

import pytest

from .conftest import Bench, others_may_warn
from .contenders import CONTENDERS, Contender

EXPORTS = [contender for contender in CONTENDERS if contender.mode == "export"]


@pytest.mark.parametrize("name", ["3d", "2d", "labels"])
@pytest.mark.parametrize("contender", others_may_warn(EXPORTS))
def test_export(bench: Bench, contender: Contender, name: str) -> None:
    bench.build(contender, name)
