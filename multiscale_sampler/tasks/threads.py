"""Where the tasks of a build run: on threads of this process, or on the workers of the active Dask client.

There is no argument for it: whoever works on a cluster has a client, and dask's own setting
(``dask.config.set(scheduler="threads")``) keeps a build off it. Either way the tasks are the same calls, at most
twice as many as there are workers are known at a time, and none needs data of another. Threads that are left without
a call help with what another one can share (`spread`): at the end of a build, and where there are few regions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias, TypeVar

from .crew import Crew, active_client, usable_scheduler
from .progress import Advance

__all__ = ["Call", "Crew", "active_client", "run", "spread", "usable_scheduler"]

Item = TypeVar("Item")

Task: TypeAlias = "Callable[..., None]"
# What progress there is when a call is done, and its arguments.
Call: TypeAlias = "tuple[int, tuple[Any, ...]]"


class Tasks(Protocol):
    """Calls that have been handed out, and have not been told of as done."""

    def submit(self, calls: Sequence[Call]) -> None:
        """Hand out calls."""

    def finished(self) -> list[int]:
        """Wait until a call is done, and return the progress of all that are; raise what one of them raised."""

    def cancel(self) -> None:
        """Take back what has not begun."""


def run(
    crew: Crew | None,
    task: Task,
    context: Any,
    calls: Iterable[Call],
    workers: int,
    report: Advance,
) -> None:
    """Call ``task(context, *arguments)`` for all `calls`, and report the progress of each when it is done.

    Calls are drawn as they are needed, so that a build of a million regions holds no more than one of ten. Dask
    arrays among the arguments are computed on their way to a cluster. A single worker is this thread.
    """
    if crew is None and workers == 1:
        for progress, arguments in calls:
            task(context, *arguments)
            report(progress)
        return
    undrawn = iter(calls)
    with _handing_out(crew, task, context, workers) as tasks:
        try:
            unfinished = 0
            while True:
                drawn = list(islice(undrawn, 2 * workers - unfinished))
                tasks.submit(drawn)
                unfinished += len(drawn)
                if not unfinished:
                    return
                for progress in tasks.finished():
                    unfinished -= 1
                    report(progress)
        except BaseException:
            # Those that run already end by themselves, and write what a resumed build would write.
            tasks.cancel()
            raise


@contextmanager
def _handing_out(crew: Crew | None, task: Task, context: Any, workers: int) -> Iterator[Tasks]:
    if crew is None:
        threads = _TasksOfThreads(workers, partial(task, context))
        with threads.pool:
            yield threads
        return
    from .cluster import handing_out

    with handing_out(crew, task, context) as tasks:
        yield tasks


def spread(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Do some work with every item, within a call: on its thread, and on those of the build that have nothing to do.

    When this returns, or raises what the work raised, no thread is at it any more.
    """
    tasks: _TasksOfThreads | None = getattr(_here, "tasks", None)
    left = _Left(items)
    helps: list[Future[None]] = []
    try:
        for item in left:
            if tasks is not None:
                helps += tasks.ask_for_help(partial(left.do_all, work))
            work(item)
    finally:
        left.drop()
        begun = [help for help in helps if not help.cancel()]
        wait(begun)
    for help in begun:
        help.result()


class _Left(Iterator[Item]):
    """Items that several threads draw from."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = iter(items)
        self.lock = threading.Lock()

    def __next__(self) -> Item:
        with self.lock:
            return next(self.items)

    def drop(self) -> None:
        """Leave nothing to be drawn."""
        with self.lock:
            self.items = iter(())

    def do_all(self, work: Callable[[Item], None]) -> None:
        """Work until nothing is left, or something fails."""
        try:
            for item in self:
                work(item)
        except BaseException:
            self.drop()
            raise


# What a thread of a build belongs to.
_here = threading.local()


class _TasksOfThreads:
    """Calls on the threads of this process, each of which ends by itself: requests of stores do, and so does work."""

    def __init__(self, workers: int, call: Callable[..., None]) -> None:
        self.workers = workers
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="multiscale_sampler", initializer=self._join)
        self.call = call
        self.progress: dict[Future[None], int] = {}
        self.ended: SimpleQueue[Future[None]] = SimpleQueue()
        self.helping = 0
        self.cancelled = False
        self.lock = threading.Lock()

    def _join(self) -> None:
        _here.tasks = self

    def submit(self, calls: Sequence[Call]) -> None:
        for progress, arguments in calls:
            future = self.pool.submit(self.call, *arguments)
            self.progress[future] = progress
            future.add_done_callback(self.ended.put)

    def finished(self) -> list[int]:
        ended = [self.ended.get()]
        while not self.ended.empty():
            ended.append(self.ended.get())
        for future in ended:
            future.result()
        return [self.progress.pop(future) for future in ended]

    def cancel(self) -> None:
        with self.lock:
            self.cancelled = True
        for future in self.progress:
            future.cancel()

    def ask_for_help(self, help: Callable[[], None]) -> list[Future[None]]:
        """Have threads that have nothing to do help, as many as there are."""
        with self.lock:
            # A pool that is about to be shut down takes nothing more.
            idle = 0 if self.cancelled else max(self.workers - len(self.progress) - self.helping, 0)
            self.helping += idle
            helps = [self.pool.submit(help) for _ in range(idle)]
        for each in helps:
            each.add_done_callback(self._helped)
        return helps

    def _helped(self, help: Future[None]) -> None:
        with self.lock:
            self.helping -= 1
