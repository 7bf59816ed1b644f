"""Reductions for dtypes that kernels do not take: complex numbers by parts, dates and durations as integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, Reduction, ViewedReduction


@dataclass(frozen=True)
class ComplexReduction(Reduction):
    """The sum or mean of complex numbers, computed for the real and the imaginary parts.

    A number is missing if its real or its imaginary part is NaN.
    """

    parts: Reduction
    """The reduction of either part; it ignores NaN if numbers can be missing."""

    def __post_init__(self) -> None:
        """Refuse rules for missing values that the parts cannot represent: both would be NaN."""
        binding = self.binding
        if binding.nodata is not None and not binding.skip_nan:
            raise ValueError(
                f"for complex numbers, nodata={binding.nodata!r} cannot be ignored while NaN is kept as a value; "
                "drop skipna=False"
            )

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The complex dtype of the parts' dtype."""
        return np.result_type(self.parts.output_dtype, np.complex64)

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the state of the parts."""
        return self.parts.state_dtype

    @property
    def components(self) -> int:
        """The components of both parts."""
        return 2 * self.parts.components

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base."""
        real, imaginary = block.real, block.imag
        if self.binding.skips_missing:
            valid = self.valid_samples(block)
            real, imaginary = (np.where(valid, part, part.dtype.type(np.nan)) for part in (real, imaginary))
        return np.concatenate([self.parts.first(part, factors, margins) for part in (real, imaginary)])

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce the states of the parts."""
        return np.concatenate([self.parts.merge(half, factors, margins) for half in np.split(state, 2)])

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return complex values from the states of the parts."""
        halves = np.split(state, 2)
        real, imaginary = (self.parts.finish(half, counts) for half in halves)
        values = np.empty(real.shape, self.output_dtype)
        values.real, values.imag = real, imaginary
        if self.binding.nodata is not None:
            # Not wherever a value is NaN, which sums of infinities are, too.
            values[self.too_few(halves[0][-1], counts)] = self.binding.nodata
        return values


class TimeReduction(ViewedReduction):
    """A method applied to dates or durations as 64-bit integers (ticks of their unit)."""

    @property
    def working_itemsize(self) -> int:
        """Bytes of a voxel in the kernels, which need no copy."""
        return self.inner.working_itemsize

    def _seen(self, block: Block) -> Block:
        return np.ascontiguousarray(block, self.output_dtype).view(np.int64)

    def _original(self, block: Block) -> Block:
        return block.view(self.output_dtype)
