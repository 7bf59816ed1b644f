"""Where the tasks of a build run: on threads of this process, or on the workers of the active Dask client.

There is no argument for it: whoever works on a cluster has a client, and dask's own setting
(``dask.config.set(scheduler="threads")``) keeps a build off it. Either way the tasks are the same calls, at most
twice as many as there are workers are known at a time, and none needs data of another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import dask
from dask.base import get_scheduler, is_dask_collection

from .progress import Advance
from .resources import DEFAULT_MEMORY_FRACTION

if TYPE_CHECKING:
    from distributed import Client, Worker

# A task that was lost with its worker is done again so often before the build gives up.
RETRIES = 3
# What a client makes of dask's setting, and what stands for it there.
CLUSTERS = ("dask.distributed", "distributed")
CLUSTER_LOST = "the Dask cluster has gone away, or dropped a task of the build; see to its scheduler"

Task: TypeAlias = "Callable[..., int]"


def active_client() -> Client | None:
    """Return the Dask client that computations go to at present, None without one."""
    if "distributed" not in sys.modules:
        return None
    chosen = dask.config.get("scheduler", None)
    if callable(chosen) or (isinstance(chosen, str) and chosen not in CLUSTERS):
        return None
    from distributed import Client

    client = getattr(get_scheduler(), "__self__", None)
    return client if isinstance(client, Client) and client.status != "closed" else None


@dataclass(frozen=True)
class Crew:
    """The workers of a cluster, as many as there are when a build begins."""

    client: Client
    """The client that reaches them."""

    @property
    def threads(self) -> int:
        """Number of tasks that the cluster runs at a time."""
        return max(sum(map(int, self.client.nthreads().values())), 1)

    def memory(self) -> int | None:
        """Return the bytes that a build may use over all workers, None if no worker has a limit.

        Every task gets the share of the tightest worker's threads.
        """
        shares = [share for share in self.client.run(_memory_per_thread).values() if share]
        return int(min(shares) * self.threads) if shares else None


def _memory_per_thread(dask_worker: Worker) -> float:
    limit = dask_worker.memory_manager.memory_limit or 0
    return float(limit) * DEFAULT_MEMORY_FRACTION / dask_worker.state.nthreads


def run(
    crew: Crew | None,
    task: Task,
    context: Any,
    calls: Iterable[tuple[Any, ...]],
    workers: int,
    report: Advance,
) -> None:
    """Call ``task(context, *arguments)`` for all `calls`, and report what every call returns.

    Calls are drawn as they are needed, so that a build of a million regions holds no more than one of ten. Dask
    arrays among the arguments are computed on their way. A single worker is this thread.
    """
    if crew is None and workers == 1:
        for arguments in calls:
            report(task(context, *arguments))
        return
    with _submitting(crew, task, context, workers) as submit:
        pending: set[Future[int]] = set()
        try:
            for arguments in calls:
                pending.add(submit(*arguments))
                if len(pending) >= 2 * workers:
                    pending = _collect(pending, report)
            while pending:
                pending = _collect(pending, report)
        except BaseException:
            # Those that run already end by themselves, and write what a resumed build would write.
            for future in pending:
                future.cancel()
            raise


@contextmanager
def _submitting(crew: Crew | None, task: Task, context: Any, workers: int) -> Iterator[Callable[..., Future[int]]]:
    """Yield a function that hands the arguments of a call to a worker."""
    if crew is None:
        with ThreadPoolExecutor(workers, thread_name_prefix="multiscale_sampler") as threads:
            yield partial(threads.submit, task, context)
        return
    client = crew.client
    # A task of its own, which the cluster can do again: scattered data would be lost with the worker that holds it.
    shared = client.submit(_as_given, context, pure=False)
    with client.get_executor(pure=False, retries=RETRIES) as cluster:

        def submit(*arguments: Any) -> Future[int]:
            try:
                computed = [client.compute(each) if is_dask_collection(each) else each for each in arguments]
                return cast("Future[int]", cluster.submit(task, shared, *computed))
            except Exception as error:
                if client.status == "running":
                    raise
                raise ConnectionError(CLUSTER_LOST) from error

        yield submit


def _as_given(context: Any) -> Any:
    return context


def _collect(pending: set[Future[int]], report: Advance) -> set[Future[int]]:
    done, rest = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        try:
            nbytes = future.result()
        except CancelledError as error:
            raise ConnectionError(CLUSTER_LOST) from error
        report(nbytes)
    return rest


def on_every_worker(crew: Crew | None, function: Callable[[], None]) -> None:
    """Call a function in this process, or in every process of the cluster that answers."""
    if crew is None:
        function()
    elif crew.client.status == "running":
        crew.client.run(function, on_error="ignore")
