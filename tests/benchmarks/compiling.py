"""How long kernels take to compile: ``python -m tests.benchmarks.compiling``, as a user meets it at the first call.

Every method is applied to a tiny block of every dtype in a process of its own that finds no kernel on disk. What
counts is its CPU time beyond that of a second call, with numba and the package imported, and numba itself started by
the smallest of loops, before.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import dask
import numpy as np

import multiscale_sampler as ms

from . import machine

METHODS = ("mean", "sum", "min", "std", "median", "mode", "gaussian", "label_gaussian", "laplacian")
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int16", "float32", "float64")
# Odd, so that there are partial windows.
SHAPE = (5, 7, 9)


def seconds_to_compile(method: str, dtype: str, cache: str) -> float:
    """Return the CPU seconds that the first call takes beyond the second; for a process that has not loaded numba."""
    # Read when numba is imported, which the package does with its first kernel.
    os.environ["NUMBA_CACHE_DIR"] = cache
    import numba

    from multiscale_sampler.kernels import bands, channels, extrema, filters, ranks, spread, sums, weights  # noqa: F401

    numba.njit(lambda values: values[0])(np.zeros(1))
    # Values that differ: constant windows do not take every path.
    image = ms.to_image((np.arange(math.prod(SHAPE)) % 5).astype(dtype).reshape(SHAPE))
    times = []
    with dask.config.set(scheduler="synchronous"):
        for _ in range(2):
            begin = time.process_time()
            ms.coarsen(image, 2, method=method).to_numpy()
            times.append(time.process_time() - begin)
    return times[0] - times[1]


def measured(method: str, dtype: str, rounds: int) -> float:
    """Return the median of some rounds, each in a fresh process with an empty cache."""
    times = []
    for _ in range(rounds):
        with (
            tempfile.TemporaryDirectory() as cache,
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
        ):
            times.append(process.submit(seconds_to_compile, method, dtype, cache).result())
    return median(times)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table of CPU seconds, methods by dtypes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compiling", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="default: " + " ".join(METHODS))
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, help="default: " + " ".join(DTYPES))
    parser.add_argument("--rounds", type=int, default=1, help="default: 1")
    options = parser.parse_args(arguments)
    print("| CPU seconds to compile | " + " | ".join(options.dtypes) + " |")
    print("|---|" + "---:|" * len(options.dtypes))
    for method in options.methods:
        cells = []
        for dtype in options.dtypes:
            try:
                cells.append(f"{measured(method, dtype, options.rounds):.1f}")
            except TypeError:
                cells.append("none")
        print(f"| {method} | {' | '.join(cells)} |", flush=True)
    print(f"\nMedians over all rounds ({options.rounds}); on {machine.describe(('multiscale-sampler', 'numba'), 1)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
