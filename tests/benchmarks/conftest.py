"""Benchmarks run as plain tests by default (``--benchmark-disable``), on tiny images; with real sizes if enabled."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from pytest_benchmark.fixture import BenchmarkFixture

from . import sources
from .cases import CASES, Case
from .contenders import OURS, Contender, Job
from .kernels import KernelCase, numpy
from .measuring import restore, snapshot

# Voxels along each side of the corner of the coarsest level that is computed again.
CORNER = 4


class Bench:
    """Runs a benchmark on cases as large as this run of pytest wants them."""

    def __init__(self, benchmark: BenchmarkFixture, folder: Path) -> None:
        self.benchmark, self.folder = benchmark, folder

    @property
    def tiny(self) -> bool:
        """Whether benchmarks are run as plain tests."""
        return bool(self.benchmark.disabled)

    def case(self, name: str) -> Case:
        """Return a case; a tiny one has made-up labels and few levels."""
        case = CASES["full"][name]
        return dataclasses.replace(case, levels=2).tiny() if self.tiny else case

    def group(self, case: Case) -> Path:
        """Write the base of a case and return the group that holds it as "0"."""
        try:
            sources.write_base(case, self.folder / "store")
        except FileNotFoundError as error:
            pytest.skip(str(error))
        return self.folder / "store/image"

    def build(self, contender: Contender, name: str) -> None:
        """Let a contender build the pyramid of a case, from the same beginning each time, and check what it wrote."""
        case = self.case(name)
        job = Job(case, self.group(case), self.folder / "target")
        before = snapshot(job.group)

        def begin() -> None:
            restore(job.group, before)
            shutil.rmtree(job.target, ignore_errors=True)

        try:
            coarsest = self.benchmark.pedantic(contender.build, args=(job,), setup=begin, rounds=3, warmup_rounds=1)
        except ModuleNotFoundError as error:
            pytest.skip(f"no module {error.name!r}: pip install 'multiscale-sampler[bench]'")
        found = zarr.open_array(coarsest, mode="r")
        assert found.shape == tuple(size >> case.levels for size in case.shape)
        assert found.dtype == case.dtype
        if case.method not in contender.lacks:
            # Others round on every level, and some do not round but cut off.
            tolerance = 0 if contender.name.startswith("ours") else case.levels
            corner = np.asarray(found[(slice(0, CORNER),) * found.ndim]).astype(np.int64)
            assert np.abs(corner - expected_corner(case, job.base)).max() <= tolerance


def expected_corner(case: Case, base: str) -> npt.NDArray[np.int64]:
    """Return the corner of the coarsest level, computed by numpy."""
    array = zarr.open_array(base, mode="r")
    values = np.asarray(array[tuple(slice(0, CORNER << case.levels) for _ in case.shape)])
    steps = [2**case.levels] if case.method == "mean" else [2] * case.levels
    for step in steps:
        values = numpy(KernelCase(case.method, (step,) * values.ndim, case.dtype), values)()
    return values.astype(np.int64)


def others_may_warn(contenders: list[Contender]) -> list[Any]:
    """Return contenders as parameters of tests: what other projects warn of is not ours to mend."""
    return [
        pytest.param(
            contender,
            id=contender.name,
            marks=[] if contender.distribution == OURS else [pytest.mark.filterwarnings("ignore")],
        )
        for contender in contenders
    ]


@pytest.fixture
def bench(benchmark: BenchmarkFixture, tmp_path: Path) -> Bench:
    """Return what runs a benchmark, in a folder of its own."""
    return Bench(benchmark, tmp_path)
