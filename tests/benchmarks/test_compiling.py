"""The seconds of every kernel, and the table of them; ``python -m tests.benchmarks.compiling`` measures all methods."""

import numba
import numpy as np
import pytest

from . import compiling


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_timed_kernels__takes_helpers_for_parts_of_their_kernel():
    helper = numba.njit(lambda values: values[0] + 1)

    @numba.njit
    def kernel(values):
        return helper(values)

    with compiling.timed_kernels() as seconds:
        kernel(np.zeros(1))
        kernel(np.zeros(1, np.int8))
        kernel(np.zeros(1))
    kernel(np.zeros(1, np.int16))
    assert [name for name, _ in seconds] == ["kernel", "kernel"]
    assert all(took > 0 for _, took in seconds)


def test_compiling__prints_a_table(capsys):
    """A method without a kernel takes a moment to compile."""
    assert compiling.main(["--methods", "nearest", "--dtypes", "uint8"]) == 0
    heading, _, row, *_ = capsys.readouterr().out.splitlines()
    assert heading.endswith("| uint8 |")
    assert row.startswith("| nearest | ")
    assert row.endswith(" (0.0) |")
