"""The one place for numba policy: how every kernel of the package is compiled.

Kernels release the interpreter lock and are serial, so that a pool of threads or Dask owns the parallelism;
they are compiled for a dtype when first called with it and cached on disk (``NUMBA_CACHE_DIR`` moves the
cache); arithmetic follows numpy (no exception on a division by zero). ``NUMBA_DISABLE_JIT=1`` runs the same
loops in the interpreter, to step through them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(loop: Kernel) -> Kernel:
    """Compile a loop over plain arrays and scalars, lazily for each dtype."""
    return cast("Kernel", numba.njit(nogil=True, cache=True, error_model="numpy")(loop))
