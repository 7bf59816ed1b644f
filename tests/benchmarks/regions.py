"""What driving a build costs for each region, up to a million of them: ``python -m tests.benchmarks.regions``.

The real engine adds a level to a base in a store that counts requests, answers every chunk from one, and keeps no
values. A region is as small as regions get: two chunks of the base, of which one chunk is made, are two GETs and a PUT.
"idle" leaves out the work of a region, so that the driver alone is timed; "cluster" is idle on worker processes of
dask.distributed, with as many threads as are to be kept busy at a time. Prints, a region, microseconds by the clock and
of this process's processor (with "cluster" the scheduler's too), and requests; and the driver's memory on the way,
which the standard error tells twenty times.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal
from unittest import mock

import dask
import numpy as np
import zarr
from zarr.storage import MemoryStore, WrapperStore

import multiscale_sampler as ms
from multiscale_sampler.build import engine

from .soak import reading

Kind = Literal["idle", "store", "cluster"]
CHUNK = 8
# Of one level, by halves along the last axis: as much as becomes one chunk of it.
REGION = (CHUNK, 2 * CHUNK)


class CountingStore(WrapperStore[MemoryStore]):
    """A store that counts requests and has the same values in every chunk of its base."""

    def __init__(self, store: MemoryStore, counts: Counter[str] | None = None) -> None:
        super().__init__(store)
        self.counts = Counter() if counts is None else counts

    def _with_store(self, store: MemoryStore) -> CountingStore:
        return type(self)(store, self.counts)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return a document, or the chunk that stands for all."""
        self.counts["get"] += 1
        return await super().get("0/c/0/0" if key.startswith("0/c/") else key, prototype, byte_range)

    async def set(self, key: str, value: Any) -> None:
        """Keep a document or the first chunk, and nothing else."""
        self.counts["put"] += 1
        if "/c/" not in key or key == "0/c/0/0":
            await super().set(key, value)

    async def exists(self, key: str) -> bool:
        """Return whether there is a document."""
        self.counts["look"] += 1
        return await super().exists(key)

    async def delete(self, key: str) -> None:
        """Delete a document."""
        self.counts["delete"] += 1
        await super().delete(key)


def base_of(regions: int) -> CountingStore:
    """Return a store with a base of so many regions or a few more."""
    store = CountingStore(MemoryStore({}))
    side = math.isqrt(regions - 1) + 1
    shape = (side * REGION[0], -(-regions // side) * REGION[1])
    array = zarr.create_array(store, name="0", shape=shape, chunks=(CHUNK, CHUNK), dtype="uint8", compressors=None)
    array[:CHUNK, :CHUNK] = np.arange(1, CHUNK * CHUNK + 1, dtype="uint8").reshape(CHUNK, CHUNK)
    store.counts.clear()
    return store


def nothing(step: Any, number: int, region: Any, block: Any = None) -> None:
    """Stand for the work of a region."""


def drive(kind: Kind, regions: int, workers: int) -> tuple[float, float, Counter[str], list[int]]:
    """Return a build's seconds by the clock and of the processor, its requests, and memory twenty times on the way."""
    store, held, told = base_of(regions), [], 0
    every = max(regions // 20, 1)

    def look(progress: object) -> None:
        nonlocal told
        told += 1
        if told % every == 0:
            held.append(reading().memory)
            seconds = time.perf_counter() - begin
            print(f"{kind}: {told} regions, {seconds:.0f} s, {held[-1] / 1e6:.1f} MB", file=sys.stderr, flush=True)

    idle = nullcontext() if kind == "store" else mock.patch.object(engine, "_build_region", nothing)
    near = nullcontext()
    if kind == "cluster":
        # Its store is of this process, where it would be built otherwise.
        near = mock.patch("multiscale_sampler.store.is_in_memory", return_value=False)
    with dask.config.set({"multiscale_sampler.region_size": 1}), idle, near:
        begin, worked = time.perf_counter(), time.process_time()
        ms.add_levels(store, scale_factors=[{"x": 2}], workers=workers, progress=look)
        return time.perf_counter() - begin, time.process_time() - worked, store.counts, held


def report(kind: Kind, regions: int, workers: int = 2) -> str:
    """Drive a build and return a line of a table."""
    gc.collect()
    seconds, worked, counts, held = drive(kind, regions, workers)
    clock, processor = seconds / regions * 1e6, worked / regions * 1e6
    requests = sum(counts.values()) / regions
    first, last = held[len(held) // 4] / 1e6, held[-1] / 1e6
    return f"| {kind} | {regions} | {clock:.0f} | {processor:.0f} | {requests:.2f} | {first:.1f} | {last:.1f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.regions", description=__doc__)
    parser.add_argument("--idle", type=int, default=1_000_000, help="regions without their work; default: 1000000")
    parser.add_argument("--store", type=int, default=20_000, help="regions with it; default: 20000")
    parser.add_argument("--cluster", type=int, default=5_000, help="regions on a cluster; default: 5000")
    parser.add_argument("--workers", type=int, default=2, help="processes of the cluster; default: 2")
    parser.add_argument("--threads", type=int, default=1, help="threads of each of them; default: 1")
    options = parser.parse_args(arguments)
    print("| build | regions | microseconds | of the processor | requests | MB after a quarter | MB at the end |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind, regions in (("idle", options.idle), ("store", options.store)):
        if regions:
            print(report(kind, regions), flush=True)
    if options.cluster:
        import distributed

        with (
            distributed.LocalCluster(
                n_workers=options.workers, threads_per_worker=options.threads, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
        ):
            print(report("cluster", options.cluster, options.workers * options.threads), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
