"""The one place for numba policy: how every kernel of the package is compiled.

Kernels release the interpreter lock and are serial, so that a pool of threads or Dask owns the parallelism;
they are compiled for a dtype when first called with it and cached on disk (``NUMBA_CACHE_DIR`` moves the
cache); arithmetic follows numpy (no exception on a division by zero). ``NUMBA_DISABLE_JIT=1`` runs the same
loops in the interpreter, to step through them.

Most of what a first call takes is numba's own work on every function, statement and array that it allocates. So
functions that only loops call are `helper`s, buffers come from the caller as arguments, and an argument that is None
takes the branches that look for it along, before they are compiled. `tests.benchmarks.compiling` has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., object])

# Loops are never handed to C as functions, for which numba would otherwise compile a wrapper of each.
POLICY: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
HELPER_POLICY: dict[str, Any] = POLICY | {"no_cpython_wrapper": True}


def compiled(loop: Loop) -> Loop:
    """Compile a loop over plain arrays and scalars, lazily for each dtype."""
    return cast("Loop", numba.njit(**POLICY)(loop))


def helper(function: Loop) -> Loop:
    """Compile a function that only compiled loops call, without what Python would need to call it."""
    return cast("Loop", numba.njit(**HELPER_POLICY)(function))
