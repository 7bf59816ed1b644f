"""Methods that a user supplies as a function: a reduction like numpy's, or a numba function of one window."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..image.boxes import Block, Margins
from ..image.dtypes import fit_in
from .reduction import LevelReduction

WindowFunction: TypeAlias = "Callable[..., Any]"


@dataclass(frozen=True)
class FunctionReduction(LevelReduction):
    """A user's function of the window, applied step by step."""

    function: WindowFunction
    """``function(windows, axis=-1)``, or a numba function that takes the values of one window (1-D)."""
    result: np.dtype[Any] | None
    """dtype of the levels; None stands for the dtype of the base."""

    def __post_init__(self) -> None:
        """Refuse float16 for numba functions: numba itself would fail only when the first block is reduced."""
        if is_jitted(self.function) and np.float16 in (self.dtype, self.result):
            raise TypeError(
                f"the numba function {self.function!r} cannot take float16; convert the image first, as in "
                "image.astype('float32'), or pass a function of (windows, axis)"
            )

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The dtype that the user gave, else the dtype of the base."""
        return self.dtype.newbyteorder("=") if self.result is None else self.result

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Return the function's value for each window of a block."""
        block = block.astype(block.dtype.newbyteorder("="), copy=False)
        shape = tuple(-(-n // f) for n, f in zip(block.shape, factors, strict=True))
        out = np.empty(shape, self.output_dtype)
        for target, windows in windows_of_equal_size(block, factors):
            values = _compiled_loop(self.function)(windows) if is_jitted(self.function) else self._call(windows)
            out[target] = _rounded(values, self.output_dtype)
        return out

    def _call(self, windows: Block) -> Block:
        values = np.asarray(self.function(windows, axis=-1))
        if values.shape != windows.shape[:-1]:
            raise ValueError(
                f"{self.function!r} returned an array of shape {values.shape!r} for windows of shape "
                f"{windows.shape!r}; it must reduce the given axis, as numpy.mean(windows, axis) does"
            )
        return values


def is_jitted(function: Any) -> bool:
    """Whether a function was compiled by numba."""
    return hasattr(function, "py_func")


def windows_of_equal_size(block: Block, factors: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], Block]]:
    """Yield the windows of a block, grouped by size: the box of their results, and the block as (*windows, samples).

    Whole windows make one group; partial ones at the ends of the block make others.
    """
    along = [
        [(slice(0, n // f), slice(0, n // f * f), f), (slice(n // f, None), slice(n // f * f, n), n % f)]
        for n, f in zip(block.shape, factors, strict=True)
    ]
    for parts in itertools.product(*along):
        target, inside, lengths = zip(*parts, strict=True)
        samples = block[inside]
        if 0 in lengths or not samples.size:
            continue
        split = [n for size, length in zip(samples.shape, lengths, strict=True) for n in (size // length, length)]
        axes = (*range(0, len(split), 2), *range(1, len(split), 2))
        yield target, samples.reshape(split).transpose(axes).reshape(*split[::2], -1)


@lru_cache(maxsize=32)
def _compiled_loop(function: WindowFunction) -> Callable[[Block], Block]:
    """Return a compiled loop that calls a compiled function for each window of (*windows, samples)."""
    import numba

    # Not cached on disk: the user's function may change while it keeps its name.
    @numba.njit(nogil=True, error_model="numpy")
    def loop(rows: npt.NDArray[Any]) -> list[Any]:
        return [function(row) for row in rows]

    def reduce_last_axis(windows: Block) -> Block:
        rows = np.ascontiguousarray(windows).reshape(-1, windows.shape[-1])
        return np.array(loop(rows)).reshape(windows.shape[:-1])

    return reduce_last_axis


def _rounded(values: Block, dtype: np.dtype[Any]) -> Block:
    """Return values in a dtype: integers and booleans rounded half to even, and refused where they do not fit."""
    if values.dtype == dtype or (dtype.kind not in "biu" and np.can_cast(values.dtype, dtype, "same_kind")):
        return values.astype(dtype, copy=False)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    if dtype.kind not in "biu" or whole.dtype.kind not in "biuf" or not fit_in(whole, dtype):
        raise ValueError(
            f"a method returned values that dtype {str(dtype)!r} cannot represent; give its Reducer another dtype"
        )
    return whole.astype(dtype)
