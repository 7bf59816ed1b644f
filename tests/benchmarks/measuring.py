"""Measures one contender in a process of its own: ``python -m tests.benchmarks.measuring ORDER``.

The process warms up on a tiny image, which imports and compiles all that the contender needs; then it times the call
itself, and asks the system for the most memory it has held from its start. Afterwards the coarsest level is held
against the reference. What it found goes into a file, as libraries may print what they like.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cases import Case
from .contenders import CONTENDERS, Contender, Job, Mode
from .machine import keep_to_cores, peak_memory

ROOT = Path(__file__).parents[2]
# Far above what the slowest contender takes in the greatest case.
TIMEOUT_SECONDS = 3600


@dataclass(frozen=True)
class Measurement:
    """What one run of one contender took, or why there is none."""

    seconds: float = 0.0
    peak_bytes: int = 0
    at_rest_bytes: int = 0
    """Peak before the call that was timed: interpreter, libraries, compilation."""
    difference: str = ""
    """How the coarsest level differs from the reference, in words."""
    failure: str = ""
    """In one line; empty if it ran."""


def write_source(case: Case, folder: Path) -> str:
    """Write what a case needs into a folder, in another process; return why it could not, or ""."""
    return str(_ask({"case": dataclasses.asdict(case), "folder": str(folder)}, folder / "answer.json").get("failure"))


def measure(contender: Contender, case: Case, folder: Path, cores: int) -> Measurement:
    """Run a contender once in a new process, on the source in a folder, and remove what it wrote."""
    order = {
        "contender": contender.name,
        "mode": contender.mode,
        "case": dataclasses.asdict(case),
        "folder": str(folder),
        "cores": cores,
    }
    group, target = folder / "store/image", folder / "target"
    before = snapshot(group)
    try:
        return Measurement(**_ask(order, folder / "answer.json"))
    finally:
        restore(group, before)
        # Before most of it reaches the disk, so that what this one wrote does not slow down the next.
        shutil.rmtree(target, ignore_errors=True)


def snapshot(group: Path) -> dict[str, bytes | None]:
    """Return what is in the group of a base: the bytes of its files, the names of its folders."""
    return {path.name: path.read_bytes() if path.is_file() else None for path in group.iterdir()}


def restore(group: Path, before: dict[str, bytes | None]) -> None:
    """Let the group of a base be as it was."""
    for path in group.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in before.items():
        if content is not None:
            (group / name).write_bytes(content)


def _ask(order: dict[str, Any], answer: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.measuring", json.dumps(order), str(answer)]
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return {"failure": f"took more than {TIMEOUT_SECONDS} s"}
    if not answer.exists():
        return {"failure": f"ended with status {done.returncode}: {_last_line(done.stderr)}"}
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


# --- in the process that is measured ---------------------------------------------------------------------------


def main(order: dict[str, Any], answer: Path) -> None:
    """Do what an order says, and write what came of it."""
    case, folder = Case.of(order["case"]), Path(order["folder"])
    try:
        if "contender" in order:
            keep_to_cores(order["cores"])
            found = dataclasses.asdict(_run(_contender(order["contender"], order["mode"]), case, folder))
        else:
            from . import sources

            sources.write_source(case, folder)
            # What is yet to be written to the disk is not to slow down the first contenders.
            os.sync()
            found = {"failure": ""}
    except ModuleNotFoundError as error:
        found = {"failure": f"no module {error.name!r}: pip install 'multiscale-sampler[bench]'"}
    except Exception as error:
        found = {"failure": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    answer.write_text(json.dumps(found))


def _contender(name: str, mode: Mode) -> Contender:
    return next(contender for contender in CONTENDERS if (contender.name, contender.mode) == (name, mode))


def _run(contender: Contender, case: Case, folder: Path) -> Measurement:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        tiny = shutil.copytree(folder / "tiny", Path(scratch, "tiny"))
        contender.build(Job(case.tiny(), tiny / "image", Path(scratch, "target")))
    job = Job(case, folder / "store/image", folder / "target")
    gc.collect()
    at_rest = peak_memory()
    begin = time.perf_counter()
    coarsest = contender.build(job)
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    return Measurement(seconds, peak, at_rest, _difference(coarsest, folder / "reference.npy", case))


def _difference(coarsest: Path, reference: Path, case: Case) -> str:
    """Say how a level differs from the reference: its values, or for labels how many of them."""
    import numpy as np
    import zarr

    expected = np.load(reference)
    found = np.asarray(zarr.open_array(coarsest, mode="r")[...])
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(f"wrote {found.shape} {found.dtype} where {expected.shape} {expected.dtype} was asked for")
    if case.method == "mode":
        share = float(np.mean(found != expected))
        return "none" if share == 0 else f"{share:.1%} of voxels"
    most = int(np.abs(found.astype(np.int64) - expected.astype(np.int64)).max())
    return "none" if most == 0 else f"up to {most}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:160] if lines else ""


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
