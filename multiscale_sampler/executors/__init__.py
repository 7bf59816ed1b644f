"""Where the tasks of a build run: on threads of this process, or on the workers of the active Dask client.

There is no argument for it: whoever works on a cluster has a client, and dask's own setting
(``dask.config.set(scheduler="threads")``) keeps a build off it. Either way the tasks are the same calls, at most
twice as many as there are workers are known at a time, and none needs data of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias

from ..progress import Advance
from .crew import Crew, active_client

__all__ = ["Call", "Crew", "active_client", "run"]

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
        with ThreadPoolExecutor(workers, thread_name_prefix="multiscale_sampler") as pool:
            yield _TasksOfThreads(pool, partial(task, context))
        return
    from .cluster import handing_out

    with handing_out(crew, task, context) as tasks:
        yield tasks


class _TasksOfThreads:
    """Calls on the threads of this process, each of which ends by itself: requests of stores do, and so does work."""

    def __init__(self, pool: ThreadPoolExecutor, call: Callable[..., None]) -> None:
        self.pool = pool
        self.call = call
        self.progress: dict[Future[None], int] = {}
        self.ended: SimpleQueue[Future[None]] = SimpleQueue()

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
        for future in self.progress:
            future.cancel()
