"""Builds again and again in one process, and looks for what stays behind: ``python -m tests.benchmarks.soak``.

Shapes, methods, dtypes, options and stores are drawn at random, the same in every run; some builds are interrupted
and resumed. Prints memory by quarters of the run, file descriptors and threads.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import zarr

import multiscale_sampler as ms

METHODS = ("mean", "max", "nearest", "median", "mode", "gaussian")
DTYPES = ("uint8", "uint16", "float32")
STORES = ("folder", "memory", "remote")
LARGEST_SIDE = {2: 900, 3: 110}


class StopError(Exception):
    """What a build is interrupted with."""


@dataclass(frozen=True)
class Reading:
    """What a process holds after a build."""

    memory: int
    """Bytes that are in memory."""
    descriptors: int
    """Open files and sockets."""
    threads: int
    """Threads that run."""


def reading() -> Reading:
    """Return what this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return Reading(memory, len(os.listdir("/proc/self/fd")), threading.active_count())


def soak(builds: int, methods: Sequence[str] = METHODS, dtypes: Sequence[str] = DTYPES) -> Iterator[Reading]:
    """Build so many times, and yield what is held after each."""
    random = np.random.default_rng(0)
    kinds = itertools.cycle(itertools.product(methods, dtypes))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for number in range(builds):
            method, dtype = next(kinds)
            _build(random, method, dtype, STORES[int(random.integers(len(STORES)))], Path(folder, str(number)))
            shutil.rmtree(Path(folder, str(number)), ignore_errors=True)
            yield reading()


def _build(random: np.random.Generator, method: str, dtype: str, kind: str, place: Path) -> None:
    rank = int(random.integers(2, 4))
    shape = tuple(int(n) for n in random.integers(20, LARGEST_SIDE[rank], rank))
    data = random.integers(0, 200, shape).astype(dtype)
    raw = zarr.create_array({}, shape=shape, chunks=(int(random.choice([16, 32, 64])),) * rank, dtype=dtype)
    raw[...] = data
    store = {"folder": place, "memory": {}, "remote": zarr.storage.WrapperStore(zarr.storage.MemoryStore({}))}[kind]
    options = {"method": method, "workers": int(random.integers(1, 4)), "max_levels": 4}
    if random.random() < 0.3:
        _interrupted(raw, store, options)
        options["resume"] = True
    ms.write_pyramid(raw, store, **options)
    tree = ms.open_pyramid(store)
    np.testing.assert_array_equal(tree["scale0"].to_dataset().to_dataarray()[0], data)
    coarsest = tree[f"scale{len(tree.children) - 1}"].to_dataset().to_dataarray()
    if not np.isfinite(np.asarray(coarsest.values, "float64")).all():
        raise AssertionError(f"a {method} of {dtype} has values that are none")


def _interrupted(raw: zarr.Array, store: object, options: dict[str, object]) -> None:
    def stop(progress: object) -> None:
        raise StopError

    with contextlib.suppress(StopError):
        ms.write_pyramid(raw, store, progress=stop, **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--builds", type=int, default=200, help="default: 200")
    readings = []
    for number, found in enumerate(soak(parser.parse_args(arguments).builds), 1):
        readings.append(found)
        print(f"{number}: {found}", file=sys.stderr, flush=True)
    quarter = len(readings) // 4
    parts = [readings[i * quarter : (i + 1) * quarter] for i in range(4)]
    for number, part in enumerate(parts, 1):
        print(
            f"quarter {number}: {mean(r.memory for r in part) / 1e6:.1f} MB, "
            f"at most {max(r.descriptors for r in part)} descriptors and {max(r.threads for r in part)} threads"
        )
    ratio = mean(r.memory for r in parts[3]) / mean(r.memory for r in parts[1])
    print(f"last quarter to the second: {ratio:.3f}; descriptors {readings[0].descriptors} after the first build")
    return 0


if __name__ == "__main__":
    sys.exit(main())
