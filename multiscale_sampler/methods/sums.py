"""Sums and means. Their state is the unrounded sum, so that every level is as exact as if computed from the base.

The components of the state depend on the dtype, see `kernels.sums`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, Reduction


@dataclass(frozen=True)
class SumReduction(Reduction):
    """The sum or the mean of the window."""

    average: bool
    """Whether the method is the mean."""

    def __post_init__(self) -> None:
        """Refuse windows that are so large that their sum could overflow the state."""
        most = {"halves": 2**32, "integers": 2**63 >> (8 * self.dtype.itemsize)}.get(self.accumulator)
        if self.average and most is not None and self.binding.window > most:
            raise ValueError(
                f"a window of {self.binding.window!r} voxels is larger than {most!r}, the most for an exact mean of "
                f"dtype {str(self.dtype)!r}; use smaller factors or fewer levels"
            )

    @cached_property
    def output_dtype(self) -> np.dtype[Any]:
        """The dtype of the base for the mean, the dtype of `numpy.sum` for the sum."""
        native = self.dtype.newbyteorder("=")
        return native if self.average else cast("np.dtype[Any]", np.zeros(0, native).sum().dtype)

    @property
    def counts_valid(self) -> bool:
        """Whether the state counts valid samples."""
        return self.binding.skips_missing

    @cached_property
    def accumulator(self) -> Literal["integers", "halves", "floats", "compensated"]:
        """How sums are represented, see `kernels.sums`."""
        if self.dtype.kind == "f":
            return "compensated" if self.dtype.itemsize == 8 else "floats"
        return "halves" if self.average and self.dtype.itemsize == 8 else "integers"

    @cached_property
    def state_dtype(self) -> np.dtype[Any]:
        """The narrowest dtype in which the sum of no window overflows."""
        if self.accumulator in ("floats", "compensated"):
            return np.dtype(np.float64)
        if self.accumulator == "halves":
            return np.dtype(np.uint64)
        narrow = self.dtype.itemsize < 4 and self.binding.window << (8 * self.dtype.itemsize) < 2**31
        return np.dtype(np.int32 if narrow else np.int64)

    @cached_property
    def components(self) -> int:
        """Parts of the sum, and one for the count where samples can be missing."""
        return {"integers": 1, "floats": 1, "halves": 2, "compensated": 4}[self.accumulator] + self.counts_valid

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Add up the windows of a block of the base."""
        from .kernels import sums
        from .kernels.windows import reduced_shape

        block = self._for_kernels(block)
        missing = self.missing
        if self.accumulator == "integers" and block.dtype == np.uint64:
            # Sums wrap around to the same bits as signed and as unsigned integers.
            block = block.view(np.int64)
            missing = missing._replace(
                nodata=None if missing.nodata is None else np.uint64(missing.nodata).view(np.int64)
            )
        state = np.empty((self.components, *reduced_shape(block.shape, factors)), self.state_dtype)
        if self.accumulator == "halves":
            sums.sum_halves(block, factors, missing, state[:2], state[-1])
        elif self.accumulator == "compensated":
            sums.sum_compensated(block, factors, missing, state[:4], state[-1])
        elif self.counts_valid:
            sums.sum_valid_windows(block, factors, missing, state[0], state[-1])
        else:
            sums.sum_windows(block, factors, state[0])
        return state

    def at_once(self, block: Block, factors: tuple[int, ...], margins: Margins, counts: Counts) -> Block:
        """Reduce a block of the base to the values of a level, most means without an array of sums.

        Sums would take more memory than the block.
        """
        from .kernels import sums

        narrow = self.state_dtype.itemsize == 4 and not self.counts_valid
        floats = self.accumulator == "floats" and self.counts_valid and not self.binding.min_valid
        if not self.average or not (narrow or floats):
            return super().at_once(block, factors, margins, counts)
        block = self._for_kernels(block)
        out: Block = np.empty(tuple(map(len, counts)), np.float64 if self.dtype == np.float16 else block.dtype)
        if narrow:
            sums.mean_narrow_windows(block, factors, out)
        else:
            sums.mean_valid_windows(block, factors, self.missing, self.missing.fill(out.dtype), out)
            if self.binding.nodata is not None and (out == self.binding.nodata).any():
                valid = sums.count_valid(block, factors, self.missing, np.int64)
                out = self.apart_from_nodata(out.astype(self.output_dtype, copy=False), valid > 0)
        return out.view(np.bool_) if self.dtype.kind == "b" else out.astype(self.output_dtype, copy=False)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Add up windows of sums."""
        from .kernels import sums
        from .kernels.windows import reduced_shape

        state = np.ascontiguousarray(state)
        merged = np.empty((len(state), *reduced_shape(state.shape[1:], factors)), state.dtype)
        uncompensated = slice(0, None)
        if self.accumulator == "compensated":
            sums.merge_compensated(state[:4], factors, merged[:4])
            uncompensated = slice(4, None)
        if len(state[uncompensated]):
            sums.sum_windows(state[uncompensated], (1, *factors), merged[uncompensated])
        return merged

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the mean or the sum in the level's dtype, rounded half to even if that is an integer."""
        state = np.ascontiguousarray(state)
        fill = self.missing.fill(self.dtype) if self.counts_valid else 0
        if self.counts_valid and self.binding.min_valid:
            # The kernels of division fill windows whose count is 0.
            few = self.too_few(state[-1], counts)
            state = state.copy()
            state[-1][few] = 0
        values = self._mean(state, counts, fill) if self.average else self._sum(state, fill)
        if self.average and self.counts_valid:
            values = self.apart_from_nodata(values, state[-1] != 0)
        if self.dtype.kind == "b" and self.average:
            return values.view(np.bool_)
        return values.astype(self.output_dtype, copy=False)

    def _mean(self, state: Block, counts: Counts, fill: Any) -> Block:
        from .kernels import sums

        dtype: np.dtype[Any] = self.output_dtype
        if dtype.kind == "b":
            dtype = np.dtype(np.uint8)
        elif dtype == np.float16:
            # numpy rounds to float16 afterwards, because numba does not support it.
            dtype = np.dtype(np.float64)
        out: Block = np.empty(state.shape[1:], dtype)
        fill = dtype.type(fill)
        if self.accumulator in ("integers", "floats") and not self.counts_valid:
            sums.divide_whole(state[0], counts, out)
            return out
        count = state[-1] if self.counts_valid else sums.count_rows(counts).astype(state.dtype)
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
        if self.counts_valid:
            total = np.where(state[-1] == 0, self.output_dtype.type(fill), total)
        return total
