"""What a second worker process brings: ``python -m tests.benchmarks.workers``.

Builds a pyramid of an image with heavy codecs on clusters of one and of two worker processes with one thread each, in
turns, and prints the seconds of each and their ratios.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import dask
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

import multiscale_sampler as ms


def warm_up() -> None:
    """Import and compile all that a build needs."""
    with dask.config.set(scheduler="sync"):
        ms.write_pyramid(np.ones((64, 64, 64), "uint16"), {}, scale_factors=[2, 4], workers=1)


def seconds_of(workers: int, source: Path, target: Path) -> float:
    """Return how long a cluster of so many processes takes for a build, its own start aside."""
    import distributed

    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(warm_up)
        begin = time.perf_counter()
        ms.write_pyramid(
            ms.open_image(source, "image"), target / "image", scale_factors=[2, 4], compressors=ZstdCodec(level=9)
        )
        seconds = time.perf_counter() - begin
    shutil.rmtree(target)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.workers", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="default: 3")
    parser.add_argument("--side", type=int, default=512, help="voxels along each axis; default: 512")
    options = parser.parse_args(arguments)
    ratios = []
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        source = Path(folder, "source")
        noise = np.random.default_rng(0).poisson(200, (options.side,) * 3).astype("uint16")
        array = zarr.create_array(source, name="image", shape=noise.shape, chunks=(64,) * 3, dtype="uint16")
        array[...] = noise
        for _ in range(options.pairs):
            one, two = (seconds_of(workers, source, Path(folder, "target")) for workers in (1, 2))
            ratios.append(two / one)
            print(f"one worker {one:.2f} s, two {two:.2f} s: {two / one:.2f}", flush=True)
    print(f"median of {len(ratios)}: {median(ratios):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
