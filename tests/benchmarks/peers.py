"""Compares this package with the projects it stands beside: ``python -m tests.benchmarks.peers`` (extra ``bench``).

Each contender builds the same pyramid from the same store, every time in a new process of its own; they take turns,
round by round. Prints a Markdown table for each case and mode, with wall time, peak memory, ratios and the machine.
The real labels are found through the environment variable MSS_DATA.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import machine
from .cases import CASES, SIZES, Case
from .contenders import DISTRIBUTIONS, MODES, NAMES, Contender, Mode, contenders
from .measuring import Measurement, measure, write_source
from .reporting import Comparison, as_markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and print it."""
    options = _parse(arguments)
    cores = min(options.cores, machine.cores())
    comparisons = []
    for name in options.case:
        case = CASES[options.size][name]
        with tempfile.TemporaryDirectory(prefix="peers-", dir=options.folder) as folder:
            _tell(f"writing {case.title}")
            failure = write_source(case, Path(folder))
            if failure:
                _tell(f"left out the case {name!r}: {failure}")
                continue
            for mode in options.mode:
                chosen = contenders(mode, options.contenders)
                comparisons.append(compare(case, mode, chosen, Path(folder), options.rounds, cores))
    description = machine.describe(DISTRIBUTIONS, cores)
    print(_as_json(comparisons, description) if options.json else as_markdown(comparisons, description, options.rounds))
    return 0 if comparisons else 1


def compare(case: Case, mode: Mode, chosen: Sequence[Contender], folder: Path, rounds: int, cores: int) -> Comparison:
    """Let contenders take turns on a source that is there; one that fails has only one."""
    runs: dict[Contender, list[Measurement]] = {contender: [] for contender in chosen}
    for turn in range(rounds):
        # Another one begins each round, so that no one always follows the same.
        first = turn % max(len(chosen), 1)
        for contender in [*chosen[first:], *chosen[:first]]:
            if any(run.failure for run in runs[contender]):
                continue
            run = measure(contender, case, folder, cores)
            runs[contender].append(run)
            _tell(f"{case.name} {mode} {turn + 1}/{rounds} {contender.name}: {run.failure or f'{run.seconds:.2f} s'}")
    return Comparison(case, mode, runs)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    names = list(CASES["full"])
    parser.add_argument("--case", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES), help="default: both")
    parser.add_argument("--contenders", nargs="+", choices=NAMES, help="default: all but ours-512MiB")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--size", choices=SIZES, default="full", help="default: full")
    parser.add_argument("--cores", type=int, default=2, help="cores that each contender may use; default: 2")
    parser.add_argument("--folder", help="where to work; default: the system's temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.cores < 1:
        parser.error("--rounds and --cores are at least 1")
    return options


def _as_json(comparisons: Sequence[Comparison], description: str) -> str:
    found = [
        {"case": comparison.case.name, "title": comparison.title, "mode": comparison.mode, "rows": comparison.rows()}
        for comparison in comparisons
    ]
    return json.dumps({"machine": description, "comparisons": found}, indent=2)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
