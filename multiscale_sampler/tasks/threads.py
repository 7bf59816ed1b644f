"""Tasks of a build, run on threads of this process or on the workers of the active Dask client.

The active client decides, as in dask itself; ``dask.config.set(scheduler="threads")`` keeps a build on threads. In both
cases the tasks are the same calls, none needs data of another, and at most twice as many as there are workers are
submitted at a time. Threads without a call of their own help with a call that can be shared (`spread`): at the end of a
build, and where there are fewer regions than threads.
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
# The progress to report when a call is done, and its arguments.
Call: TypeAlias = "tuple[int, tuple[Any, ...]]"


class Tasks(Protocol):
    """Calls that were submitted and whose progress has not been reported yet."""

    def submit(self, calls: Sequence[Call]) -> None:
        """Submit calls."""

    def finished(self) -> list[int]:
        """Wait until a call is done, and return the progress of all that are done; raise what one of them raised."""

    def cancel(self) -> None:
        """Cancel the calls that have not begun."""


def run(
    crew: Crew | None,
    task: Task,
    context: Any,
    calls: Iterable[Call],
    workers: int,
    report: Advance,
) -> None:
    """Call ``task(context, *arguments)`` for all `calls`, and report the progress of each when it is done.

    Calls are drawn as they are needed, so that memory does not grow with their number. Dask arrays among the arguments
    are computed on the cluster before the call. A single worker runs on the calling thread.
    """
    if crew is None and workers == 1:
        for progress, arguments in calls:
            task(context, *arguments)
            report(progress)
        return
    undrawn = iter(calls)
    with _submitting(crew, task, context, workers) as tasks:
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
            # Calls that are running finish, and write what a resumed build would write.
            tasks.cancel()
            raise


@contextmanager
def _submitting(crew: Crew | None, task: Task, context: Any, workers: int) -> Iterator[Tasks]:
    if crew is None:
        threads = _TasksOfThreads(workers, partial(task, context))
        with threads.pool:
            yield threads
        return
    from .cluster import submitting

    with submitting(crew, task, context) as tasks:
        yield tasks


def spread(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Call `work` for every item, on the thread of the present call and on idle threads of the build.

    When this returns, or raises what `work` raised, no thread is working on the items any more.
    """
    tasks: _TasksOfThreads | None = getattr(_of_thread, "tasks", None)
    shared = _SharedItems(items)
    helps: list[Future[None]] = []
    try:
        for item in shared:
            if tasks is not None:
                helps += tasks.ask_for_help(partial(shared.work_on_all, work))
            work(item)
    finally:
        shared.drop()
        begun = [help for help in helps if not help.cancel()]
        wait(begun)
    for help in begun:
        help.result()


class _SharedItems(Iterator[Item]):
    """Items that several threads draw from."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = iter(items)
        self.lock = threading.Lock()

    def __next__(self) -> Item:
        with self.lock:
            return next(self.items)

    def drop(self) -> None:
        """Discard the items that are not drawn yet."""
        with self.lock:
            self.items = iter(())

    def work_on_all(self, work: Callable[[Item], None]) -> None:
        """Call `work` for the items that are not drawn yet, until one fails."""
        try:
            for item in self:
                work(item)
        except BaseException:
            self.drop()
            raise


# The tasks that the present thread belongs to.
_of_thread = threading.local()


class _TasksOfThreads:
    """Calls on threads of this process."""

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
        _of_thread.tasks = self

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
        """Call a function on every idle thread."""
        with self.lock:
            # A pool that is being shut down accepts no calls.
            idle = 0 if self.cancelled else max(self.workers - len(self.progress) - self.helping, 0)
            self.helping += idle
            helps = [self.pool.submit(help) for _ in range(idle)]
        for each in helps:
            each.add_done_callback(self._helped)
        return helps

    def _helped(self, help: Future[None]) -> None:
        with self.lock:
            self.helping -= 1
