"""The arithmetic of large images, from the plans themselves: ``python -m tests.benchmarks.arithmetic``.

Prints the table of ``docs/scaling.md``; ``--write`` puts it there, and ``--rate`` measures the seconds of a core that
a byte of the base takes through a remote store.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import MemoryStore, WrapperStore

import multiscale_sampler as ms

PAGE = Path(__file__).parents[2] / "docs/scaling.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
# Images of uint16, of 1 TB, 100 TB and 1 PB.
IMAGES = {
    "1 TB": (10_000, 10_000, 5_000),
    "100 TB": (50_000, 50_000, 20_000),
    "1 PB": (100_000, 100_000, 50_000),
}
CHUNK = 64
SHARDS = {"chunks of 64^3": None, "the same in shards of 256^3": 256}
# Bytes of the base that a core builds in a second, and seconds that a region takes a scheduler of Dask: measured by
# this module (--rate) and by tests.benchmarks.regions, on the machine that the page names.
RATE = 40e6
SCHEDULER_SECONDS = 0.0015


@dataclass(frozen=True)
class Load:
    """What a build asks of everyone."""

    levels: int
    regions: int
    gets: int
    puts: int
    read: int
    written: int
    memory: int
    """Of a worker."""
    largest_region: int
    """Bytes of the base in a region of the first pass."""


def load_of(shape: tuple[int, ...], shards: int | None) -> Load:
    """Return what exporting an image takes, by its plan."""
    array = zarr.create_array(
        {}, shape=shape, chunks=(CHUNK,) * 3, shards=shards and (shards,) * 3, dtype="uint16", fill_value=0
    )
    plan = ms.plan_pyramid(ms.open_image(array), workers=1, memory_limit="8GiB")
    state = plan.reduction.components * plan.reduction.state_dtype.itemsize
    regions = gets = puts = read = carried = 0
    for pass_ in plan.export_passes:
        source = plan.levels[pass_.source]
        count = _count(source.shape, pass_.region)
        regions += count
        # Later passes read the states that earlier ones carried, of which each region wrote one chunk.
        gets += _units(source) if pass_.source == 0 else carried
        read += source.nbytes if pass_.source == 0 else math.prod(source.shape) * state
        carried = count
        puts += sum(_units(plan.levels[index]) for index in pass_.written) + count * len(pass_.carried)
    first = plan.export_passes[0]
    written = sum(level.nbytes for level in plan.levels)
    return Load(len(plan.levels), regions, gets, puts, read, written, plan.peak_memory, math.prod(first.region) * 2)


def _units(level: object) -> int:
    return _count(level.shape, level.shards or level.chunks)


def _count(shape: Sequence[int], unit: Sequence[int]) -> int:
    return math.prod(-(-n // u) for n, u in zip(shape, unit, strict=True))


def table() -> str:
    """Return the table of the page."""
    columns = [f"{name}, {layout}" for name in IMAGES for layout in SHARDS]
    loads = [load_of(shape, shards) for shape in IMAGES.values() for shards in SHARDS.values()]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for title, cells in _rows(loads):
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rows(loads: Sequence[Load]) -> Iterator[tuple[str, list[str]]]:
    yield "levels", [str(load.levels) for load in loads]
    yield "regions (tasks)", [f"{load.regions:,}" for load in loads]
    yield "GET requests", [f"{load.gets:,}" for load in loads]
    yield "PUT requests", [f"{load.puts:,}" for load in loads]
    yield "read, uncompressed", [_bytes(load.read) for load in loads]
    yield "written, uncompressed", [_bytes(load.written) for load in loads]
    yield "memory of a worker", [_bytes(load.memory) for load in loads]
    yield f"core hours at {_bytes(RATE)}/s", [f"{load.read / RATE / 3600:,.0f}" for load in loads]
    yield "hours on 1000 cores", [f"{load.read / RATE / 3600 / 1000:.2f}" for load in loads]
    seconds = [load.largest_region / RATE for load in loads]
    yield "seconds of a region", [f"{each:.2f}" for each in seconds]
    yield (
        f"cores that one scheduler feeds, at {SCHEDULER_SECONDS * 1e3:g} ms a region",
        [f"{each / SCHEDULER_SECONDS:,.0f}" for each in seconds],
    )


def _bytes(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def measured_rate(side: int = 256) -> float:
    """Return the bytes of a base that a second of a core builds, through a store that is reached by requests."""
    noise = np.random.default_rng(0).poisson(200, (side,) * 3).astype("uint16")
    for data in (noise[:CHUNK, :CHUNK, :CHUNK], noise):
        source = WrapperStore(MemoryStore({}))
        array = zarr.create_array(source, shape=data.shape, chunks=(CHUNK,) * 3, dtype="uint16")
        array[...] = data
        begin = time.process_time()
        ms.write_pyramid(array, WrapperStore(MemoryStore({})), scale_factors=[2, 4], workers=1)
        seconds = time.process_time() - begin
    return noise.nbytes / seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.arithmetic", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    parser.add_argument("--rate", action="store_true", help="measure the rate of a core instead")
    options = parser.parse_args(arguments)
    if options.rate:
        print(f"{measured_rate() / 1e6:.0f} MB/s")
        return 0
    made = table()
    print(made, end="")
    if options.write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(before + BEGIN + made + END + rest.split(END)[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
