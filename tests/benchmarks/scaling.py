"""Shows that time grows with the image and memory does not: ``python -m tests.benchmarks.scaling``.

Exports an image of 1 GiB and one of 4 GiB, in as much memory as the plan takes and within 512 MiB, in turns, each time
in a new process. Prints a Markdown table: seconds, seconds for each GiB in ratio to the smaller image, peak memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from . import machine
from .cases import SIZES, Case, Size
from .contenders import Contender, contenders
from .measuring import Measurement, measure, write_source
from .reporting import MEGABYTE

# Images four times as long as one another.
LENGTHS: dict[Size, tuple[int, ...]] = {"small": (64, 256), "full": (2048, 8192)}
SIDES: dict[Size, int] = {"small": 64, "full": 512}
CHUNKS: dict[Size, int] = {"small": 16, "full": 64}
DISTRIBUTIONS = ("multiscale-sampler", "numba", "numpy", "zarr")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--size", choices=SIZES, default="full", help="default: full")
    parser.add_argument("--cores", type=int, default=2, help="default: 2")
    parser.add_argument("--folder", help="where to work; default: the system's temporary folder")
    options = parser.parse_args(arguments)
    cores = min(options.cores, machine.cores())
    cases = [_case(length, options.size) for length in LENGTHS[options.size]]
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=options.folder) as folder:
        runs = _run(cases, Path(folder), options.rounds, cores)
    print(_table(cases, runs))
    print(f"\nMedians over all rounds ({options.rounds}) on {machine.describe(DISTRIBUTIONS, cores)}.")
    return 0


def _case(length: int, size: Size) -> Case:
    side = SIDES[size]
    return Case(f"{length}", "image", (length, side, side), (CHUNKS[size],) * 3, "uint16", "mean", 3)


def _run(
    cases: Sequence[Case], folder: Path, rounds: int, cores: int
) -> dict[tuple[Contender, Case], list[Measurement]]:
    for case in cases:
        failure = write_source(case, folder / case.name)
        if failure:
            raise RuntimeError(f"could not write {case.title}: {failure}")
    chosen = contenders("export", ["ours", "ours-512MiB"])
    runs: dict[tuple[Contender, Case], list[Measurement]] = {(who, case): [] for who in chosen for case in cases}
    for turn in range(rounds):
        for who, case in runs:
            run = measure(who, case, folder / case.name, cores)
            if run.failure:
                raise RuntimeError(f"{who.title} of {case.title}: {run.failure}")
            runs[who, case].append(run)
            print(f"{turn + 1}/{rounds} {who.name} {case.name}: {run.seconds:.2f} s", file=sys.stderr, flush=True)
    return runs


def _table(cases: Sequence[Case], runs: dict[tuple[Contender, Case], list[Measurement]]) -> str:
    lines = [
        "| image | memory limit | seconds | seconds per byte, to the first | peak MB (before the call) | difference |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (who, case), measured in runs.items():
        # Round by round, so that what disturbs the machine for a while disturbs both.
        ratio = median(
            (run.seconds / case.nbytes) / (first.seconds / cases[0].nbytes)
            for run, first in zip(measured, runs[who, cases[0]], strict=True)
        )
        cells = [
            f"{' x '.join(map(str, case.shape))} {case.dtype}",
            "512 MiB" if who.name == "ours-512MiB" else "the plan's",
            f"{median(run.seconds for run in measured):.2f}",
            f"{ratio:.2f} x",
            f"{median(run.peak_bytes for run in measured) / MEGABYTE:.0f} "
            f"({median(run.at_rest_bytes for run in measured) / MEGABYTE:.0f})",
            measured[0].difference,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
