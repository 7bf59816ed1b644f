"""The user's own methods: a reduction as numpy writes them, or a numba function of one window."""

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
    """A function of the window, applied step by step: the state is the level itself."""

    function: WindowFunction
    """``function(windows, axis=-1)``, or a numba function of the values of one window."""
    result: np.dtype[Any] | None
    """dtype of the levels; None: the base's."""

    def __post_init__(self) -> None:
        """Refuse what numba would only refuse once blocks are reduced."""
        if is_jitted(self.function) and np.float16 in (self.dtype, self.result):
            raise TypeError(
                f"numba's functions, as {self.function!r}, take no float16; convert the image first, as in "
                "image.astype('float32'), or pass a function of (windows, axis)"
            )

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """What the method says, else the base's."""
        return self.dtype.newbyteorder("=") if self.result is None else self.result

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Call the function for the windows of a block."""
        block = block.astype(block.dtype.newbyteorder("="), copy=False)
        shape = tuple(-(-n // f) for n, f in zip(block.shape, factors, strict=True))
        out = np.empty(shape, self.output_dtype)
        for place, windows in windows_of_equal_size(block, factors):
            values = _over_rows(self.function)(windows) if is_jitted(self.function) else self._called(windows)
            out[place] = _rounded(values, self.output_dtype)
        return out

    def _called(self, windows: Block) -> Block:
        values = np.asarray(self.function(windows, axis=-1))
        if values.shape != windows.shape[:-1]:
            raise ValueError(
                f"{self.function!r} made an array of shape {values.shape!r} of windows {windows.shape!r}; it must "
                "reduce the axis that it is given, as numpy.mean(windows, axis) does"
            )
        return values


def is_jitted(function: Any) -> bool:
    """Whether a function was compiled by numba."""
    return hasattr(function, "py_func")


def windows_of_equal_size(block: Block, factors: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], Block]]:
    """Yield the windows of a block as (*windows, samples), and their place: the whole ones, and partial ones apart."""
    along = [
        [(slice(0, n // f), slice(0, n // f * f), f), (slice(n // f, None), slice(n // f * f, n), n % f)]
        for n, f in zip(block.shape, factors, strict=True)
    ]
    for parts in itertools.product(*along):
        place, inside, lengths = zip(*parts, strict=True)
        samples = block[inside]
        if 0 in lengths or not samples.size:
            continue
        split = [n for size, length in zip(samples.shape, lengths, strict=True) for n in (size // length, length)]
        axes = (*range(0, len(split), 2), *range(1, len(split), 2))
        yield place, samples.reshape(split).transpose(axes).reshape(*split[::2], -1)


@lru_cache(maxsize=32)
def _over_rows(function: WindowFunction) -> Callable[[Block], Block]:
    """Return a compiled loop over windows that calls a compiled function for each."""
    import numba

    # Not cached on disk: the function is the user's, and may change under its name.
    @numba.njit(nogil=True, error_model="numpy")
    def loop(rows: npt.NDArray[Any]) -> list[Any]:
        return [function(row) for row in rows]

    def over(windows: Block) -> Block:
        rows = np.ascontiguousarray(windows).reshape(-1, windows.shape[-1])
        return np.array(loop(rows)).reshape(windows.shape[:-1])

    return over


def _rounded(values: Block, dtype: np.dtype[Any]) -> Block:
    """Return values in a dtype: integers and booleans rounded half to even, and refused where they do not fit."""
    if values.dtype == dtype or (dtype.kind not in "biu" and np.can_cast(values.dtype, dtype, "same_kind")):
        return values.astype(dtype, copy=False)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    if dtype.kind not in "biu" or whole.dtype.kind not in "biuf" or not fit_in(whole, dtype):
        raise ValueError(
            f"a method made a value that dtype {str(dtype)!r} does not hold; give its Reducer another dtype"
        )
    return whole.astype(dtype)
