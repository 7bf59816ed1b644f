"""The active Dask client and the workers of its cluster; every request to them has a time limit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dask

from .dask_internals import client_of_scheduler
from .machine import DEFAULT_MEMORY_FRACTION

if TYPE_CHECKING:
    from distributed import Client, Worker

# Values of dask's setting ``scheduler`` that stand for the active client.
CLUSTERS = ("dask.distributed", "distributed")
CLUSTER_LOST = "the Dask cluster does not answer any more, or lost a task of the build; check its scheduler and workers"
# Seconds within which a working cluster answers even under load: it waits 30 seconds itself for a lost worker.
ANSWER_SECONDS = 120.0


def active_client() -> Client | None:
    """Return the Dask client that runs computations at present, or None if there is none that is running."""
    client = _chosen_client()
    return client if client is not None and client.status == "running" else None


def usable_scheduler() -> Literal["threads"] | None:
    """Return "threads" if dask would choose a client that is not running, else None, which leaves the choice to dask.

    A client whose address was not valid stays dask's choice as long as its error is kept, as notebooks do, and its
    computations never end.
    """
    try:
        client = _chosen_client()
    except RuntimeError:
        # dask refuses its own setting; it will say so when something is computed.
        return None
    return None if client is None or client.status == "running" else "threads"


def _chosen_client() -> Client | None:
    """Return the client that dask would choose, whether or not it is running."""
    if "distributed" not in sys.modules:
        return None
    chosen = dask.config.get("scheduler", None)
    if callable(chosen) or (isinstance(chosen, str) and chosen not in CLUSTERS):
        return None
    from distributed import Client

    client = client_of_scheduler()
    return client if isinstance(client, Client) else None


@dataclass(frozen=True)
class Crew:
    """The workers that a cluster has when a build begins."""

    client: Client
    """The client that reaches them."""

    @property
    def threads(self) -> int:
        """Number of tasks that the cluster runs at a time."""
        return max(sum(map(int, self.ask(self.client.nthreads).values())), 1)

    def memory(self) -> int | None:
        """Return the bytes that a build may use over all workers, None if no worker has a limit.

        Every task gets as much as a thread of the worker with the least memory per thread.
        """
        shares = [share for share in self.ask(self.client.run, _memory_per_thread).values() if share]
        return int(min(shares) * self.threads) if shares else None

    def ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return the result of a method of the client, which by itself would wait for it without limit.

        Raises
        ------
        ConnectionError
            If the cluster is closed, or does not answer in time.
        """
        try:
            return self.client.sync(method, *arguments, callback_timeout=ANSWER_SECONDS, **options)
        except Exception as error:
            if self.client.status == "running" and not isinstance(error, TimeoutError):
                raise
            raise ConnectionError(CLUSTER_LOST) from error

    def everywhere(self, function: Callable[[], None]) -> None:
        """Call a function in every worker process that answers."""
        # Cleaning up is not a reason for a finished build to fail.
        with suppress(OSError):
            if self.client.status == "running":
                self.ask(self.client.run, function, on_error="ignore")


def _memory_per_thread(dask_worker: Worker) -> float:
    limit = dask_worker.memory_manager.memory_limit or 0
    return float(limit) * DEFAULT_MEMORY_FRACTION / dask_worker.state.nthreads
