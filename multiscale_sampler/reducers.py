"""The table of methods: what each reduction means, for which dtypes, and how its levels follow from each other.

A `Reducer` is one row of the table. Bound to a dtype and a rule for missing values it becomes a `Reduction`,
which the lazy tree and the engine apply alike, block by block:

    first(base block) -> state    merge(state) -> coarser state    finish(state) -> values of a level

The *state* is what travels from level to level. For methods whose value composes (minimum, nearest, ...) or is
defined step by step (median, mode) it is the level itself. For sums and means it is the unrounded sum, so that
every level is as exact as if it had been taken from the base at once. The loops are in `kernels`, which is
imported only when a block is reduced.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from .axes import SamplePosition

if TYPE_CHECKING:
    from .kernels.windows import Missing

Block: TypeAlias = npt.NDArray[Any]
Counts: TypeAlias = "tuple[npt.NDArray[np.int64], ...]"
Cascade: TypeAlias = Literal["exact", "stepwise"]

NUMERIC_KINDS = "biuf"


@dataclass(frozen=True)
class Reduction(ABC):
    """A method bound to a dtype and a rule for missing values: the steps from base block to level values."""

    dtype: np.dtype[Any]
    """dtype of the base."""
    skip_nan: bool
    """Whether NaN is left out."""
    nodata: Any
    """A value of the base's dtype that is left out, or None."""
    window: int
    """The most base voxels that a voxel of any level covers; sizes the sums."""

    @property
    @abstractmethod
    def output_dtype(self) -> np.dtype[Any]:
        """Dtype of every level but the base."""

    @property
    @abstractmethod
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the state."""

    @property
    @abstractmethod
    def components(self) -> int:
        """Blocks of the state, stacked along a leading axis; 0 where the state is the level itself."""

    @abstractmethod
    def first(self, block: Block, factors: tuple[int, ...]) -> Block:
        """Reduce a block of the base to the state of its windows."""

    @abstractmethod
    def merge(self, state: Block, factors: tuple[int, ...]) -> Block:
        """Reduce a state to that of windows of `factors` of its windows."""

    @abstractmethod
    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the level's values; `counts` are the base samples of each window, axis by axis."""

    @property
    def missing(self) -> Missing:
        """The rule for missing values as the kernels take it."""
        from .kernels.windows import Missing

        return Missing(self.skip_nan, self.nodata)

    def _working(self, block: Block) -> Block:
        """Return a block as the kernels take it: native, C-contiguous, of a dtype that numba knows."""
        if self.dtype.kind == "b":
            return np.ascontiguousarray(block).view(np.uint8)
        dtype = np.dtype(np.float32) if self.dtype == np.float16 else self.dtype.newbyteorder("=")
        return np.ascontiguousarray(block, dtype=dtype)


ValueKernel: TypeAlias = "Callable[[Block, tuple[int, ...], Missing], Block]"


@dataclass(frozen=True)
class ValueReduction(Reduction):
    """A reduction whose state is the level itself."""

    kernel: ValueKernel
    """From a block, factors and the missing-value rule to the block of windows."""

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The base's dtype: these methods pick values or the middle between two."""
        return self.dtype.newbyteorder("=")

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """The state is the level itself."""
        return self.output_dtype

    @property
    def components(self) -> int:
        """The state is the level itself."""
        return 0

    def first(self, block: Block, factors: tuple[int, ...]) -> Block:
        """Reduce a block of the base."""
        reduced = self.kernel(self._working(block), factors, self.missing)
        return reduced.astype(self.output_dtype, copy=False)

    def merge(self, state: Block, factors: tuple[int, ...]) -> Block:
        """Reduce a block of a level, by the rule of the base."""
        return self.first(state, factors)

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the state, which is the level."""
        return state


@dataclass(frozen=True)
class SumReduction(Reduction):
    """A sum or a mean: the state is the unrounded sum, see `kernels.sums` for its components."""

    average: bool
    """Whether the sum is divided by the number of valid samples."""

    def __post_init__(self) -> None:
        """Refuse windows whose sum no state could hold."""
        most = {"halves": 2**32, "integers": 2**63 >> (8 * self.dtype.itemsize)}.get(self.accumulator)
        if self.average and most is not None and self.window > most:
            raise ValueError(
                f"a window of {self.window!r} voxels is more than the {most!r} whose sum is exact for dtype "
                f"{str(self.dtype)!r}; use smaller factors or fewer levels"
            )

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """For a mean the base's dtype, for a sum the one that numpy's sum has."""
        native = self.dtype.newbyteorder("=")
        return native if self.average else cast("np.dtype[Any]", np.zeros(0, native).sum().dtype)

    @property
    def counted(self) -> bool:
        """Whether the state counts the valid samples."""
        return self.skip_nan or self.nodata is not None

    @property
    def accumulator(self) -> Literal["integers", "halves", "floats", "compensated"]:
        """How the sum is kept, see `kernels.sums`."""
        if self.dtype.kind == "f":
            return "compensated" if self.dtype.itemsize == 8 else "floats"
        return "halves" if self.average and self.dtype.itemsize == 8 else "integers"

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the sums, the narrowest in which no window overflows."""
        if self.accumulator in ("floats", "compensated"):
            return np.dtype(np.float64)
        if self.accumulator == "halves":
            return np.dtype(np.uint64)
        narrow = self.dtype.itemsize < 4 and self.window << (8 * self.dtype.itemsize) < 2**31
        return np.dtype(np.int32 if narrow else np.int64)

    @property
    def components(self) -> int:
        """Parts of the sum, and the count of valid samples where some can be missing."""
        return {"integers": 1, "floats": 1, "halves": 2, "compensated": 4}[self.accumulator] + self.counted

    def first(self, block: Block, factors: tuple[int, ...]) -> Block:
        """Add up the windows of a block of the base."""
        from .kernels import sums
        from .kernels.windows import reduced_shape

        block = self._working(block)
        missing = self.missing
        if self.accumulator == "integers" and block.dtype == np.uint64:
            # Sums wrap around to the same bits, signed or not.
            block = block.view(np.int64)
            missing = missing._replace(nodata=None if self.nodata is None else np.uint64(self.nodata).view(np.int64))
        state = np.empty((self.components, *reduced_shape(block.shape, factors)), self.state_dtype)
        if self.accumulator == "halves":
            sums.sum_halves(block, factors, missing, state[:2], state[-1])
        elif self.accumulator == "compensated":
            sums.sum_compensated(block, factors, missing, state[:4], state[-1])
        elif self.counted:
            sums.sum_valid_windows(block, factors, missing, state[0], state[-1])
        else:
            sums.sum_windows(block, factors, state[0])
        return state

    def merge(self, state: Block, factors: tuple[int, ...]) -> Block:
        """Add up windows of sums."""
        from .kernels import sums
        from .kernels.windows import reduced_shape

        state = np.ascontiguousarray(state)
        merged = np.empty((len(state), *reduced_shape(state.shape[1:], factors)), state.dtype)
        plain = slice(0, None)
        if self.accumulator == "compensated":
            sums.merge_compensated(state[:4], factors, merged[:4])
            plain = slice(4, None)
        if len(state[plain]):
            sums.sum_windows(state[plain], (1, *factors), merged[plain])
        return merged

    def finish(self, state: Block, counts: Counts) -> Block:
        """Divide by the number of samples, or return the plain sum, in the level's dtype."""
        state = np.ascontiguousarray(state)
        fill = self.missing.fill(self.dtype) if self.counted else 0
        values = self._mean(state, counts, fill) if self.average else self._sum(state, fill)
        if self.dtype.kind == "b" and self.average:
            return values.view(np.bool_)
        return values.astype(self.output_dtype, copy=False)

    def _mean(self, state: Block, counts: Counts, fill: Any) -> Block:
        from .kernels import sums

        dtype: np.dtype[Any] = self.output_dtype
        if dtype.kind == "b":
            dtype = np.dtype(np.uint8)
        elif dtype == np.float16:
            # Rounded to float16 once, by numpy: numba has no such type.
            dtype = np.dtype(np.float64)
        out: Block = np.empty(state.shape[1:], dtype)
        fill = dtype.type(fill)
        if self.accumulator in ("integers", "floats") and not self.counted:
            sums.divide_whole(state[0], counts, out)
            return out
        count = state[-1] if self.counted else sums.count_rows(counts).astype(state.dtype)
        if self.accumulator == "halves":
            sums.divide_halves(state[:2], count, fill, out)
        elif self.accumulator == "compensated":
            sums.divide_compensated(state[:4], count, fill, out)
        else:
            sums.divide(state[0], count, fill, out)
        return out

    def _sum(self, state: Block, fill: Any) -> Block:
        from .kernels import sums

        total: Block
        if self.accumulator == "compensated":
            total = sums.compensated_total(state[:4])
        elif self.output_dtype == np.uint64:
            total = state[0].astype(np.int64, copy=False).view(np.uint64)
        else:
            with np.errstate(over="ignore"):
                total = state[0].astype(self.output_dtype)
        if self.counted:
            total = np.where(state[-1] == 0, self.output_dtype.type(fill), total)
        return total


def _minimum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    from .kernels import extrema

    return extrema.minimum(block, factors, missing)


def _maximum(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    from .kernels import extrema

    return extrema.maximum(block, factors, missing)


def _median(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    from .kernels import ranks

    return ranks.median(block, factors, missing)


def _mode(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    from .kernels import ranks

    return ranks.mode(block, factors, missing)


def _first_sample(block: Block, factors: tuple[int, ...], missing: Missing) -> Block:
    return block[tuple(slice(None, None, factor) for factor in factors)].copy()


@dataclass(frozen=True)
class Reducer:
    """One method of reduction: a row of the table.

    Attributes
    ----------
    name
        The name that ``method=`` takes.
    summary
        What a voxel of a level is, in one sentence.
    cascade
        "exact": every level equals the method applied to the base voxels of its window (sums and means of floats up
        to the rounding of a sum in float64, for float64 itself of a compensated one). "stepwise": each level
        is the method applied to the coarsest level before it whose factors divide its own, else to the base.
    position
        Where in its window the value sits: at the "center" or at the "first" sample.
    skips_missing
        Whether NaN and ``nodata`` can be left out; if not, they are taken as any other value.
    kernel
        What reduces one block; None for sums and means, whose state is not the level.
    average
        For sums: whether the sum is divided by the number of valid voxels.
    kinds
        numpy's letters of the kinds of dtype that the method takes.
    """

    name: str
    summary: str
    cascade: Cascade = "exact"
    position: SamplePosition = "center"
    skips_missing: bool = True
    kernel: ValueKernel | None = None
    average: bool = False
    kinds: str = NUMERIC_KINDS

    def bind(
        self, dtype: npt.DTypeLike, *, skipna: bool | None = None, nodata: Any = None, window: int = 1
    ) -> Reduction:
        """Return the reduction for a dtype and a rule for missing values.

        Parameters
        ----------
        dtype
            dtype of the base.
        skipna
            Leave NaN out; default: for floats.
        nodata
            A value to leave out as well, or None.
        window
            The most base voxels that a voxel of any level covers.

        Raises
        ------
        TypeError
            If the method does not take the dtype.
        ValueError
            If `nodata` is no value of the dtype, or the method cannot leave it out.
        """
        dtype = np.dtype(dtype)
        if dtype.kind not in self.kinds or dtype.itemsize > 8:
            raise TypeError(
                f"method {self.name!r} does not take dtype {str(dtype)!r}; convert the image first, "
                "as in image.astype('float32')"
            )
        skip_nan = dtype.kind == "f" and (skipna is None or skipna) and self.skips_missing
        if nodata is not None and not self.skips_missing:
            raise ValueError(f"method {self.name!r} takes voxels as they are; nodata={nodata!r} cannot be left out")
        if nodata is not None and dtype.kind == "f" and np.isnan(nodata):
            skip_nan, nodata = True, None
        if nodata is not None:
            nodata = _as_value_of(dtype, nodata)
        if self.kernel is None:
            return SumReduction(dtype, skip_nan, nodata, window, average=self.average)
        return ValueReduction(dtype, skip_nan, nodata, window, kernel=self.kernel)


def _as_value_of(dtype: np.dtype[Any], nodata: Any) -> Any:
    """Return `nodata` as a Python scalar, if the dtype can hold it (floats up to their rounding)."""
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(nodata).astype(dtype) if np.isscalar(nodata) else None
    except (OverflowError, ValueError):
        value = None
    rounded = dtype.kind == "f" and value is not None and np.isfinite(value)
    if value is None or (value.item() != nodata and not rounded):
        raise ValueError(f"nodata={nodata!r} is no value of dtype {str(dtype)!r}; no voxel could equal it")
    return value.item()


REDUCERS: dict[str, Reducer] = {
    reducer.name: reducer
    for reducer in (
        Reducer("mean", "mean of the window; integers rounded once, half to even", average=True),
        Reducer("sum", "sum of the window, in the dtype of numpy's sum"),
        Reducer("min", "least value of the window", kernel=_minimum),
        Reducer("max", "greatest value of the window", kernel=_maximum),
        Reducer("median", "median of the window; integers rounded half to even", "stepwise", kernel=_median),
        Reducer("mode", "most frequent value of the window; of a tie the least", "stepwise", kernel=_mode),
        Reducer(
            "nearest",
            "first voxel of the window, at its own position",
            position="first",
            skips_missing=False,
            kernel=_first_sample,
        ),
    )
}


def get_reducer(method: str | Reducer) -> Reducer:
    """Return the row of the table that `method` names.

    Raises
    ------
    ValueError
        If no method has that name.
    """
    if isinstance(method, Reducer):
        return method
    if method not in REDUCERS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(map(repr, REDUCERS))}")
    return REDUCERS[method]
