"""Decorators that compile the kernels, all with the same options of numba.

Kernels are serial and release the interpreter lock, so that threads or Dask can run them in parallel. They are
compiled for a dtype at the first call with it and cached on disk (``NUMBA_CACHE_DIR`` sets where), or in every process
where no folder can be written, as in containers. Arithmetic follows numpy: a division by zero does not raise.
``NUMBA_DISABLE_JIT=1`` runs the same loops in the interpreter, to debug.

The time of a first call grows with the functions, statements and allocations that numba has to compile. Therefore
functions that only loops call are `helper`s, callers pass buffers as arguments, and numba removes the branches for an
argument that is None before it compiles them. `tests.benchmarks.compiling` measures this.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

# No C code calls a loop, so its C wrapper need not be compiled.
POLICY: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
HELPER_POLICY: dict[str, Any] = POLICY | {"no_cpython_wrapper": True}


def compiled(loop: Function) -> Function:
    """Compile a loop over arrays and scalars, for each dtype at the first call."""
    return _jitted(loop, POLICY)


def helper(function: Function) -> Function:
    """Compile a function that only compiled loops call, without a wrapper for calls from Python."""
    return _jitted(function, HELPER_POLICY)


def _jitted(function: Function, policy: dict[str, Any]) -> Function:
    try:
        return cast("Function", numba.njit(**policy)(function))
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        _warn_without_cache()
        return cast("Function", numba.njit(**policy | {"cache": False})(function))


@functools.cache
def _warn_without_cache() -> None:
    """Warn at the first function, once in a process."""
    warnings.warn(
        "numba can write neither to the folder of this package nor to that of the user, so compiled kernels are not "
        "cached and every process compiles them again; set NUMBA_CACHE_DIR to a folder that can be written",
        UserWarning,
        stacklevel=2,
    )
