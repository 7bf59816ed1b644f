"""Decorators that compile the kernels, all with the same options of numba.

Kernels are serial and release the interpreter lock, so that threads or Dask can run them in parallel. They are
compiled for a dtype at the first call with it and cached on disk (``NUMBA_CACHE_DIR`` sets where). Arithmetic follows
numpy: a division by zero does not raise. ``NUMBA_DISABLE_JIT=1`` runs the same loops in the interpreter, to debug.

The time of a first call grows with the functions, statements and allocations that numba has to compile. Therefore
functions that only loops call are `helper`s, callers pass buffers as arguments, and numba removes the branches for an
argument that is None before it compiles them. `tests.benchmarks.compiling` measures this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

# No C code calls a loop, so its C wrapper need not be compiled.
POLICY: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
HELPER_POLICY: dict[str, Any] = POLICY | {"no_cpython_wrapper": True}


def compiled(loop: Function) -> Function:
    """Compile a loop over arrays and scalars, for each dtype at the first call."""
    return cast("Function", numba.njit(**POLICY)(loop))


def helper(function: Function) -> Function:
    """Compile a function that only compiled loops call, without a wrapper for calls from Python."""
    return cast("Function", numba.njit(**HELPER_POLICY)(function))
