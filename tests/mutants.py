"""Mutation testing: small changes of the package, one at a time, against the tests of the package that was changed.

``nox -s mutants -- --count 30 --seed 7 --package plan``. The changes are those of cosmic-ray; which of them are made is
drawn by the seed: a place first, then one of the changes that are possible there. The tests of each package run once
under coverage, which says which of them reach a place; against a mutant there, these run, the quickest first. A mutant
is killed if a test fails within the time limit; one that only makes the tests slow, or hang, has survived.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PACKAGE = "multiscale_sampler"
# Kernels run as plain Python, since compiling a changed one takes longer than its tests.
INTERPRETED = f"{PACKAGE}/methods/kernels"
Position = tuple[int, int]
# Tests by module and line.
Reach = dict[tuple[Path, int], list[str]]


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: Path
    """The module, relative to the repository."""
    operator: str
    """Name of cosmic-ray's operator."""
    occurrence: int
    """Which of the places in the module where the operator applies."""
    line: int
    """Where that is."""


def main() -> int:
    """Draw mutants, test them, and print those that survived; the exit code is 1 if too many did."""
    options = parsed_options()
    mutants = drawn(options.package, options.count, options.seed)
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.workers) as pool:
        for number in range(options.workers):
            free.put(working_copy(Path(folder, str(number))))
        packages = sorted({mutant.module.parent for mutant in mutants})
        reach = dict(zip(packages, pool.map(lambda package: tests_by_line(package, free), packages), strict=True))
        tests = [tests_of(mutant, reach[mutant.module.parent]) for mutant in mutants]
        outcomes = list(pool.map(lambda pair: tested(*pair, free, options.seconds), zip(mutants, tests, strict=True)))
    return reported(mutants, outcomes, options.least)


def parsed_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="how many mutants (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--package", default="", help="only those of one package, as 'plan' or 'methods/kernels'")
    parser.add_argument("--seconds", type=float, default=60, help="time for the tests of one mutant (default: 60)")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument("--least", type=float, default=0.9, help="share that is to be killed (default: 0.9)")
    return parser.parse_args()


def drawn(package: str, count: int, seed: int) -> list[Mutant]:
    """Return mutants of all modules of a package, each at a place of its own."""
    places: dict[tuple[Path, Position], list[Mutant]] = defaultdict(list)
    for path in sorted(ROOT.joinpath(PACKAGE, package).rglob("*.py")):
        for position, mutant in mutants_of(path.relative_to(ROOT)):
            places[mutant.module, position].append(mutant)
    generator = random.Random(seed)
    chosen = generator.sample(sorted(places), min(count, len(places)))
    return [generator.choice(places[place]) for place in chosen]


def mutants_of(module: Path) -> Iterator[tuple[Position, Mutant]]:
    """Yield every change of a module that can make a difference when it runs."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    tree = get_ast_from_path(ROOT / module)
    without_effect = lines_of_annotations(ast.parse((ROOT / module).read_text(encoding="utf-8")))
    for name in operator_names():
        operator: Any = get_operator(name)
        if operator.arguments():
            continue
        positions = (found for node in ast_nodes(tree) for found in operator().mutation_positions(node))
        for occurrence, (start, _) in enumerate(positions):
            if not any(first <= start < last for first, last in without_effect):
                yield start, Mutant(module, name, occurrence, start[0])


def lines_of_annotations(tree: ast.Module) -> list[tuple[Position, Position]]:
    """Return the places of annotations, which nothing evaluates."""
    nodes: list[Any] = []
    for node in ast.walk(tree):
        nodes += [getattr(node, field, None) for field in ("annotation", "returns")]
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("TypeAlias"):
            nodes.append(node.value)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes.append(node)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if isinstance(n, ast.AST)]


def working_copy(folder: Path) -> Path:
    """Return a copy of what git knows of the repository, as it is in the working tree."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in listed.splitlines():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    return folder


def test_files(package: Path) -> list[str]:
    """Return the test files of a package's modules, or of the modules at the root."""
    folder = Path("tests", *package.parts[1:])
    if package.parts[1:]:
        return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("test_*.py"))
    modules = (ROOT / package).glob("*.py")
    return sorted(f"tests/test_{path.stem}.py" for path in modules if (ROOT / f"tests/test_{path.stem}.py").exists())


def tests_by_line(package: Path, free: SimpleQueue[Path]) -> Reach:
    """Run the tests of a package once, and return those that reach each line of its modules, the quickest first."""
    from coverage import CoverageData

    folder = free.get()
    data, times = folder / ".coverage", folder / "times.xml"
    environment = environment_of(folder, package) | {"COVERAGE_FILE": str(data), "COVERAGE_CORE": "ctrace"}
    options = [
        f"--cov={PACKAGE}",
        "--cov-context=test",
        "--cov-report=",
        f"--junitxml={times}",
        "-o",
        "junit_family=xunit1",
    ]
    try:
        subprocess.run(
            pytest_command(*options, *test_files(package)),
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = seconds_of_tests(times)
        coverage = CoverageData(str(data))
        coverage.read()
        reach: Reach = {}
        for file in coverage.measured_files():
            for line, contexts in coverage.contexts_by_lineno(file).items():
                names = {context.rpartition("|")[0] for context in contexts} - {""}
                reach[Path(file).relative_to(folder), line] = sorted(
                    names, key=lambda name: (seconds.get(name, 0.0), name)
                )
        return reach
    finally:
        free.put(folder)


def seconds_of_tests(report: Path) -> dict[str, float]:
    """Return how long each test took, by its node id."""
    cases = ElementTree.parse(report).iter("testcase")
    return {f"{case.get('file')}::{case.get('name')}": float(case.get("time", 0)) for case in cases}


def tests_of(mutant: Mutant, reach: Reach) -> list[str]:
    """Return the tests to run against a mutant: those that reach its line, else all of its package."""
    tree = ast.parse((ROOT / mutant.module).read_text(encoding="utf-8"))
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and first_line(node) <= mutant.line <= (node.end_lineno or 0)
    ]
    innermost = min(around, key=lambda node: (node.end_lineno or 0) - first_line(node))
    last = innermost.body[0].lineno - 1 if getattr(innermost, "body", None) else innermost.end_lineno or mutant.line
    lines = range(first_line(innermost), max(last, mutant.line) + 1)
    found = dict.fromkeys(test for line in lines for test in reach.get((mutant.module, line), ()))
    return list(found) or test_files(mutant.module.parent)


def first_line(node: ast.stmt) -> int:
    """Return where a statement begins, with its decorators."""
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def tested(mutant: Mutant, tests: Sequence[str], free: SimpleQueue[Path], seconds: float) -> str:
    """Return "killed", "survived", or "too slow" for one that no test had refused when its time was up."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    folder = free.get()
    try:
        with use_mutation(folder / mutant.module, get_operator(mutant.operator)(), mutant.occurrence):
            outcome = outcome_of_tests(folder, mutant.module.parent, tests, seconds)
    finally:
        free.put(folder)
    print(f"{outcome:8}  {mutant.module}:{mutant.line}  {mutant.operator}", flush=True)
    return outcome


def outcome_of_tests(folder: Path, package: Path, tests: Sequence[str], seconds: float) -> str:
    """Run tests of a package in a copy of the repository."""
    (folder / "tests.txt").write_text("\n".join(tests))
    done = subprocess.Popen(
        pytest_command("-x", "@tests.txt"),
        cwd=folder,
        env=environment_of(folder, package),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        return "survived" if done.wait(seconds) == 0 else "killed"
    except subprocess.TimeoutExpired:
        return "too slow"
    finally:
        # Servers and clusters that tests have started as well.
        subprocess.run(["kill", "-9", "--", f"-{done.pid}"], stderr=subprocess.DEVNULL, check=False)
        done.wait()


def pytest_command(*arguments: str) -> list[str]:
    """Return the command that runs tests in one process."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]


def environment_of(folder: Path, package: Path) -> dict[str, str]:
    """Return the environment in which tests see a copy of the repository."""
    interpreted = {"NUMBA_DISABLE_JIT": "1"} if package.as_posix() == INTERPRETED else {}
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **interpreted}


def reported(mutants: Sequence[Mutant], outcomes: Sequence[str], least: float) -> int:
    """Print how many mutants of each package were killed."""
    packages = [mutant.module.parent.name for mutant in mutants]
    for package, total in sorted(Counter(packages).items()):
        pairs = zip(packages, outcomes, strict=True)
        killed = sum(outcome == "killed" for name, outcome in pairs if name == package)
        print(f"{package:20} {killed} of {total}")
    killed = outcomes.count("killed")
    print(f"{killed} of {len(outcomes)} killed ({killed / max(len(outcomes), 1):.0%})")
    return 0 if killed >= least * len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
