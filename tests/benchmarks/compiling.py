"""How long kernels take to compile: ``python -m tests.benchmarks.compiling``, as a user meets it at the first call.

Every method is applied to a tiny block of every dtype in a process of its own that finds no kernel on disk. What
counts is its CPU time beyond that of a second call, with numba and the package imported, and numba itself started by
the smallest of loops, before. A call may need several kernels, or one for several dtypes; the slowest of them, with its
helpers, is told apart.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median
from typing import Any, cast

import dask
import numpy as np
import xarray as xr

import multiscale_sampler as ms

from . import machine

METHODS = ("mean", "sum", "min", "std", "median", "mode", "gaussian", "label_gaussian", "laplacian")
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int16", "float32", "float64")
# Odd, so that there are partial windows.
SHAPE = (5, 7, 9)


@contextmanager
def timed_kernels() -> Iterator[list[tuple[str, float]]]:
    """Gather (kernel, CPU seconds) of all that is compiled; those of the helpers that it calls are among them."""
    from numba.core import event

    seconds: list[tuple[str, float]] = []
    begins: list[float] = []

    class Kernels(event.Listener):  # type: ignore[misc]  # numba has no types
        def on_start(self, event: Any) -> None:
            begins.append(time.process_time())

        def on_end(self, event: Any) -> None:
            begin = begins.pop()
            if not begins:
                seconds.append((event.data["dispatcher"].py_func.__name__, time.process_time() - begin))

    with event.install_listener("numba:compile", Kernels()):
        yield seconds


def seconds_to_compile(method: str, dtype: str, cache: str) -> tuple[float, float]:
    """Return the CPU seconds that the first call takes beyond the second, and those of its slowest kernel.

    It is for a process that has not loaded numba.
    """
    # Read when numba is imported, which the package does with its first kernel.
    os.environ["NUMBA_CACHE_DIR"] = cache
    import numba

    from multiscale_sampler.methods.kernels import windows  # noqa: F401

    numba.njit(lambda values: values[0])(np.zeros(1))
    # Values that differ: constant windows do not take every path.
    image = ms.to_image((np.arange(math.prod(SHAPE)) % 5).astype(dtype).reshape(SHAPE))
    times = []
    with dask.config.set(scheduler="synchronous"), timed_kernels() as kernels:
        for _ in range(2):
            begin = time.process_time()
            _reduced(image, method).to_numpy()
            times.append(time.process_time() - begin)
    return times[0] - times[1], max((seconds for _, seconds in kernels), default=0.0)


def _reduced(image: xr.DataArray, method: Any) -> xr.DataArray:
    """Return the level below an image; bands are those of a whole pyramid."""
    if method == "laplacian":
        return cast("xr.DataArray", ms.to_multiscale(image, [2], method)[f"scale1/{image.name}"])
    return ms.coarsen(image, 2, method=method)


def measured(method: str, dtype: str, rounds: int) -> tuple[float, float]:
    """Return the medians of some rounds, each in a fresh process with an empty cache."""
    times = []
    for _ in range(rounds):
        with (
            tempfile.TemporaryDirectory() as cache,
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
        ):
            times.append(process.submit(seconds_to_compile, method, dtype, cache).result())
    total, slowest = map(median, zip(*times, strict=True))
    return total, slowest


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table of CPU seconds, methods by dtypes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compiling", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="default: " + " ".join(METHODS))
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, help="default: " + " ".join(DTYPES))
    parser.add_argument("--rounds", type=int, default=1, help="default: 1")
    options = parser.parse_args(arguments)
    print("| CPU seconds to compile all (the slowest kernel) | " + " | ".join(options.dtypes) + " |")
    print("|---|" + "---:|" * len(options.dtypes))
    for method in options.methods:
        cells = []
        for dtype in options.dtypes:
            try:
                total, slowest = measured(method, dtype, options.rounds)
                cells.append(f"{total:.1f} ({slowest:.1f})")
            except TypeError:
                cells.append("none")
        print(f"| {method} | {' | '.join(cells)} |", flush=True)
    print(f"\nMedians over all rounds ({options.rounds}); on {machine.describe(('multiscale-sampler', 'numba'), 1)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
