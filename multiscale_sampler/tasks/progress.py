"""Progress of builds: a bar on a terminal, lines in a log, or `Progress` values for a callback.

A build reports the bytes of source data that are done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from dask.utils import format_bytes, format_time

# Lines in a log: one for each tenth of the work.
LOG_STEP = 0.1


@dataclass(frozen=True)
class Progress:
    """How much of a build is done at some moment."""

    done: int
    """Bytes of source data that are finished."""
    total: int
    """Bytes of source data in all."""
    elapsed: float
    """Seconds since the build began."""

    @property
    def fraction(self) -> float:
        """Part of the build that is done, 0 to 1."""
        return self.done / self.total if self.total else 1.0


ProgressCallback: TypeAlias = Callable[[Progress], None]
Advance: TypeAlias = Callable[[int], None]


@contextmanager
def reporting(progress: bool | ProgressCallback | None, total: int, title: str) -> Iterator[Advance]:
    """Yield a function that takes the bytes of each finished region, and reports them.

    `progress` is a callback, True for a bar (on a terminal) or lines (elsewhere) on standard error, or None.
    """
    if callable(progress):
        with _counting(progress, total) as report:
            yield report
    elif not progress:
        yield lambda nbytes: None
    elif sys.stderr.isatty():
        with _bar(total, title) as report:
            yield report
    else:
        with _counting(_line_printer(title), total) as report:
            yield report


def announce(progress: bool | ProgressCallback | None, text: str) -> None:
    """Print a line on standard error where progress is reported there."""
    if progress and text and not callable(progress):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _counting(callback: ProgressCallback, total: int) -> Iterator[Advance]:
    started = time.perf_counter()
    done = 0

    def report(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        callback(Progress(done, total, time.perf_counter() - started))

    yield report


def _line_printer(title: str) -> ProgressCallback:
    last = -1

    def print_tenths(progress: Progress) -> None:
        nonlocal last
        tenth = int(progress.fraction / LOG_STEP)
        if tenth > last:
            last = tenth
            print(
                f"{title}: {progress.fraction:.0%} of {format_bytes(progress.total)} "
                f"after {format_time(progress.elapsed)}",
                file=sys.stderr,
                flush=True,
            )

    return print_tenths


@contextmanager
def _bar(total: int, title: str) -> Iterator[Advance]:
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(title, total=total)
        yield lambda nbytes: display.update(task, advance=nbytes)
