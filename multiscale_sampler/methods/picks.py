"""Methods that select a value of the window, test whether values are zero, or count valid ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, LevelReduction, Reduction

if TYPE_CHECKING:
    from .kernels.ranks import Pick
    from .kernels.windows import Missing

WindowKernel: TypeAlias = "Callable[[Block, tuple[int, ...], Missing], Block]"


@dataclass(frozen=True)
class PickReduction(LevelReduction):
    """The median or a mode: not exact from level to level, so applied step by step."""

    pick: Pick
    """Name of the function in `kernels.ranks`."""

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base."""
        from .kernels import ranks

        kernel: WindowKernel = getattr(ranks, self.pick)
        missing = self.missing._replace(min_valid=self.binding.min_valid)
        picked = kernel(self._for_kernels(block), factors, missing).astype(self.output_dtype, copy=False)
        averages = self.pick == "median" and self.binding.nodata is not None
        return self._apart_from_nodata(picked, block, factors) if averages else picked

    def _apart_from_nodata(self, medians: Block, block: Block, factors: tuple[int, ...]) -> Block:
        """Return medians of which no mean of the two in the middle equals `nodata`."""
        from .kernels import sums

        if not (medians == self.binding.nodata).any():
            return medians
        everything = self.missing._replace(skip_nan=False, nodata=None)
        samples = sums.count_valid(np.zeros(block.shape, np.uint8), factors, everything, np.int64)
        valid = sums.count_valid(self._for_kernels(block), factors, self.missing, np.int64)
        return self.apart_from_nodata(medians, valid >= np.maximum(self.binding.min_valid * samples - 1e-9, 1))


@dataclass(frozen=True)
class ExtremeReduction(Reduction):
    """The minimum or maximum of the window; the state also counts valid samples where `min_valid` is set."""

    greatest: bool
    """Whether the method is the maximum."""

    @property
    def counts_valid(self) -> bool:
        """Whether the state counts valid samples."""
        return self.binding.skips_missing and self.binding.min_valid > 0

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """The level's dtype, or one that can hold its values as well as counts."""
        if not self.counts_valid:
            return self.output_dtype
        return np.dtype({"f": np.float64, "u": np.uint64}.get(self.dtype.kind, np.int64))

    @property
    def components(self) -> int:
        """None beside the level, or two: values and counts."""
        return 2 if self.counts_valid else 0

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base."""
        from .kernels import sums

        block = self._for_kernels(block)
        values = self._extremes(block, factors)
        if not self.counts_valid:
            return values.astype(self.output_dtype, copy=False)
        return np.stack(
            [values.astype(self.state_dtype), sums.count_valid(block, factors, self.missing, self.state_dtype)]
        )

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce values, and add up counts."""
        from .kernels import sums

        if not self.counts_valid:
            return self.first(state, factors, margins)
        values = self._extremes(np.ascontiguousarray(state[0]), factors)
        merged = np.empty((2, *values.shape), state.dtype)
        merged[0] = values
        sums.sum_windows(np.ascontiguousarray(state[1]), factors, merged[1])
        return merged

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the values; nodata or NaN where too few samples were valid."""
        if not self.counts_valid:
            return state
        values: Block = state[0].astype(self.output_dtype)
        values[self.too_few(state[1], counts)] = self.missing.fill(self.output_dtype)
        return values

    def _extremes(self, block: Block, factors: tuple[int, ...]) -> Block:
        from .kernels import extrema

        kernel: WindowKernel = extrema.maximum if self.greatest else extrema.minimum
        return kernel(block, factors, self.missing)


@dataclass(frozen=True)
class SampleReduction(LevelReduction):
    """The first voxel of the window, for any dtype."""

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Return the first sample of each window."""
        return block[tuple(slice(None, None, factor) for factor in factors)].astype(self.output_dtype)


@dataclass(frozen=True)
class TruthReduction(LevelReduction):
    """Whether any, or all, of the valid values are not zero; without a valid value as numpy: any False, all True."""

    every: bool
    """Whether the method is `all`, else it is `any`."""

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """A bool, for all dtypes."""
        return np.dtype(np.bool_)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Return the truth value of each window of a block of the base."""
        truth = block != 0
        if self.binding.skips_missing:
            truth[~self.valid_samples(block)] = self.every
        return self.merge(truth, factors, margins)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Return the truth value of each window of truth values."""
        from .kernels import extrema
        from .kernels.windows import Missing

        kernel: WindowKernel = extrema.minimum if self.every else extrema.maximum
        truth = kernel(np.ascontiguousarray(state).view(np.uint8), factors, Missing(False, None))
        return truth.view(np.dtype(np.bool_))


@dataclass(frozen=True)
class CountReduction(LevelReduction):
    """The number of valid voxels of the base."""

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """int64, as numpy's counts."""
        return np.dtype(np.int64)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Count the valid voxels of each window."""
        return self.merge(self.valid_samples(block).view(np.uint8), factors, margins)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Add up counts."""
        from .kernels import sums
        from .kernels.windows import reduced_shape

        total = np.empty(reduced_shape(state.shape, factors), np.int64)
        sums.sum_windows(np.ascontiguousarray(state), factors, total)
        return total
