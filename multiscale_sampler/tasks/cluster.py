"""The tasks of a build on a Dask cluster, at little cost for its scheduler.

What all tasks share is a worker plugin, which workers that join or restart later get as well. (As the result of a task,
it would attract all other tasks to the worker that holds it.) Tasks are submitted as workers become free, and no result
is fetched, as tasks have none.

A build waits for a cluster without workers, which may be in a queue for them; dask's setting ``distributed.scheduler.
no-workers-timeout`` limits that. It does not wait for a cluster that does not answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, cast

from dask.base import is_dask_collection
from distributed import Future, WorkerPlugin, get_worker

from .crew import ANSWER_SECONDS, CLUSTER_LOST, Crew

# How often a task that was lost with its worker is run again.
RETRIES = 3
# Seconds without news of a task after which the cluster is asked whether it still answers.
SILENCE_SECONDS = 30.0


class Work(WorkerPlugin):
    """What all tasks share, on every worker."""

    def __init__(self, task: Callable[..., None], context: Any) -> None:
        self.name = f"multiscale_sampler-{uuid.uuid4()}"
        self.task = task
        self.context = context


def call(name: str, *arguments: Any) -> None:
    """Run a task on a worker, with what the plugin of this name holds."""
    work = cast("Work", get_worker().plugins[name])
    work.task(work.context, *arguments)


@contextmanager
def submitting(crew: Crew, task: Callable[..., None], context: Any) -> Iterator[TasksOfCluster]:
    """Register a task with the workers, and yield an object that submits calls of it."""
    work = Work(task, context)
    _register(crew, work)
    try:
        yield TasksOfCluster(crew, work.name)
    finally:
        # A worker that has just gone away does not need to unregister it.
        with suppress(OSError):
            if crew.client.status == "running":
                crew.ask(crew.client.unregister_worker_plugin, work.name)


def _register(crew: Crew, work: Work) -> None:
    for attempt in range(RETRIES + 1):
        try:
            crew.ask(crew.client.register_plugin, work, work.name)
        except OSError as error:
            # A worker can go away before it answers.
            if attempt == RETRIES or isinstance(error, ConnectionError):
                raise
        else:
            return


class TasksOfCluster:
    """Calls that were submitted to a cluster."""

    def __init__(self, crew: Crew, name: str) -> None:
        self.crew = crew
        self.name = name
        self.progress: dict[Future[None], int] = {}
        self.ended: SimpleQueue[Future[None]] = SimpleQueue()

    def submit(self, calls: Sequence[tuple[int, tuple[Any, ...]]]) -> None:
        """Submit calls."""
        if not calls:
            return
        client = self.crew.client
        try:
            arguments = zip(*(map(self._computed, arguments) for _, arguments in calls), strict=True)
            futures = client.map(call, [self.name] * len(calls), *arguments, pure=False, retries=RETRIES)
        except Exception as error:
            if client.status == "running":
                raise
            raise ConnectionError(CLUSTER_LOST) from error
        for future, (progress, _) in zip(futures, calls, strict=True):
            self.progress[future] = progress
            future.add_done_callback(self.ended.put)

    def _computed(self, argument: Any) -> Any:
        return self.crew.client.compute(argument) if is_dask_collection(argument) else argument

    def finished(self) -> list[int]:
        """Wait until a call is done, and return the progress of all that are done; raise what one of them raised."""
        ended = [self._next()]
        while not self.ended.empty():
            ended.append(self.ended.get())
        for future in ended:
            if future.status == "error":
                future.result(timeout=ANSWER_SECONDS)
            if future.status != "finished":
                raise ConnectionError(CLUSTER_LOST)
        return [self.progress.pop(future) for future in ended]

    def _next(self) -> Future[None]:
        while True:
            try:
                return self.ended.get(timeout=SILENCE_SECONDS)
            except Empty:
                self.crew.ask(self.crew.client.nthreads)

    def cancel(self) -> None:
        """Cancel the calls that have not begun."""
        with suppress(OSError):
            if self.crew.client.status == "running":
                self.crew.ask(self.crew.client.cancel, list(self.progress))
