"""The parts of dask that are not public: the one module to check when dask changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import dask.array as da
from dask.base import get_scheduler
from dask.blockwise import Blockwise
from dask.local import get_sync

from ..image.xarray_internals import WRAPPED_ARRAY

# `get_sync` computes in the calling thread; the name "synchronous" would make dask load distributed.
__all__ = ["client_of_scheduler", "contents_of", "get_sync", "is_plain_view", "values_in_graph"]

# Attributes in which dask's tasks keep what they were given.
TASK_CONTENTS = ("args", "kwargs", "value")
# How dask names what `from_array` and `from_zarr` make.
PLAIN_NAMES = ("array-", "from-zarr-")


def values_in_graph(data: da.Array) -> Iterator[Any]:
    """Yield what the graph of an array holds, layer by layer: tasks, and the values that they are given."""
    for layer in data.dask.layers.values():
        if isinstance(layer, Blockwise):
            yield from itertools.chain((value for value, _ in layer.indices), layer.io_deps.values(), (layer.task,))
        else:
            yield from dict(layer).values()


def contents_of(value: Any) -> Iterator[Any]:
    """Yield what a value of a graph holds: the items of a collection, the arguments of a task, a wrapped array."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    else:
        for attribute in (*TASK_CONTENTS, *WRAPPED_ARRAY):
            inner = getattr(value, attribute, None)
            if inner is not None and not callable(inner):
                yield inner


def is_plain_view(data: da.Array) -> bool:
    """Whether an array is one that `from_array` made of another, with nothing done to its values."""
    layers = list(data.dask.layers.values())
    made = len(layers) == 2 and any(isinstance(layer, Blockwise) for layer in layers)
    return made and data.name.startswith(PLAIN_NAMES)


def client_of_scheduler() -> Any:
    """Return the object whose method dask would compute with, None where that is a function.

    Raises
    ------
    RuntimeError
        If dask refuses to choose.
    """
    return getattr(get_scheduler(), "__self__", None)
