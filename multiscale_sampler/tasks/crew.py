"""The workers that a build finds in a cluster, and what they are asked for, never without a limit of time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dask
from dask.base import get_scheduler

from .machine import DEFAULT_MEMORY_FRACTION

if TYPE_CHECKING:
    from distributed import Client, Worker

# What a client makes of dask's setting, and what stands for it there.
CLUSTERS = ("dask.distributed", "distributed")
CLUSTER_LOST = "the Dask cluster has gone away, or dropped a task of the build; see to its scheduler"
# In which a cluster that is well answers, however much it has to do: it gives workers that are gone 30 of them.
ANSWER_SECONDS = 120.0


def active_client() -> Client | None:
    """Return the Dask client that computations go to at present, None without one that runs."""
    client = _chosen_client()
    return client if client is not None and client.status == "running" else None


def usable_scheduler() -> Literal["threads"] | None:
    """Return the scheduler to name to dask: threads where its choice is a client that does not run, else none.

    A client that was given no proper address stays dask's choice while its error is kept, as notebooks do, and what it
    is asked to compute never ends.
    """
    try:
        client = _chosen_client()
    except RuntimeError:
        # What dask refuses, it refuses once there is something to compute.
        return None
    return None if client is None or client.status == "running" else "threads"


def _chosen_client() -> Client | None:
    """Return the client that dask would choose, whether it runs or not."""
    if "distributed" not in sys.modules:
        return None
    chosen = dask.config.get("scheduler", None)
    if callable(chosen) or (isinstance(chosen, str) and chosen not in CLUSTERS):
        return None
    from distributed import Client

    client = getattr(get_scheduler(), "__self__", None)
    return client if isinstance(client, Client) else None


@dataclass(frozen=True)
class Crew:
    """The workers of a cluster, as many as there are when a build begins."""

    client: Client
    """The client that reaches them."""

    @property
    def threads(self) -> int:
        """Number of tasks that the cluster runs at a time."""
        return max(sum(map(int, self.ask(self.client.nthreads).values())), 1)

    def memory(self) -> int | None:
        """Return the bytes that a build may use over all workers, None if no worker has a limit.

        Every task gets the share of the tightest worker's threads.
        """
        shares = [share for share in self.ask(self.client.run, _memory_per_thread).values() if share]
        return int(min(shares) * self.threads) if shares else None

    def ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return what a method of the client returns, which by itself would wait for ever for its answer.

        Raises
        ------
        ConnectionError
            If the cluster has gone away, or does not answer.
        """
        try:
            return self.client.sync(method, *arguments, callback_timeout=ANSWER_SECONDS, **options)
        except Exception as error:
            if self.client.status == "running" and not isinstance(error, TimeoutError):
                raise
            raise ConnectionError(CLUSTER_LOST) from error

    def everywhere(self, function: Callable[[], None]) -> None:
        """Call a function in every process of the cluster that answers."""
        # What it does there is no reason for a build to fail that has come to its end.
        with suppress(OSError):
            if self.client.status == "running":
                self.ask(self.client.run, function, on_error="ignore")


def _memory_per_thread(dask_worker: Worker) -> float:
    limit = dask_worker.memory_manager.memory_limit or 0
    return float(limit) * DEFAULT_MEMORY_FRACTION / dask_worker.state.nthreads
