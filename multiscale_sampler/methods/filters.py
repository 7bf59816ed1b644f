"""Methods that also weigh samples outside of the window: anti-aliasing filters, and votes of labels.

The state of a filter is the level before it is rounded: channels of floats, NaN where a value is missing. Rounding
errors therefore do not accumulate from level to level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, LevelReduction, Reduction, no_margins

if TYPE_CHECKING:
    from .kernels.filters import FilterKernel


@dataclass(frozen=True)
class FilterReduction(Reduction):
    """A weighted mean centred on the window, applied step by step."""

    kernel: FilterKernel
    """Name of the function that gives the weights."""

    def __post_init__(self) -> None:
        """Refuse rules for missing values that floats cannot represent: both would be NaN."""
        binding = self.binding
        if binding.nodata is not None and self.dtype.kind in "fc" and not binding.skip_nan:
            raise ValueError(
                f"filters cannot ignore nodata={binding.nodata!r} but keep NaN as a value; drop skipna=False"
            )

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """float64, for the channels."""
        return np.dtype(np.float64)

    @property
    def components(self) -> int:
        """Two for 64-bit integers (upper and lower half) and complex numbers (real and imaginary part), else one."""
        return 2 if self.dtype.kind == "c" or (self.dtype.kind in "iu" and self.dtype.itemsize == 8) else 1

    @property
    def working_itemsize(self) -> int:
        """Bytes of the channels of a voxel, in float64 at most."""
        return 8 * self.components

    def halo(self, factor: int) -> int:
        """Return how many samples beyond the window have a weight, on either side."""
        from .kernels import filters

        return filters.halo(self.kernel, factor)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Filter a block of the base."""
        from .kernels.channels import to_channels

        return self.merge(to_channels(block, self.missing), factors, margins)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Filter the unrounded values of a level."""
        from .kernels import filters

        return filters.filter_windows(
            np.ascontiguousarray(state),
            factors,
            margins or no_margins(factors),
            self.kernel,
            self.binding.skips_missing,
            min_valid=self.binding.min_valid,
        )

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the values rounded to the level's dtype."""
        from .kernels.channels import from_channels

        # Before values take the place of the state.
        valid = np.isfinite(state[0])
        return self.apart_from_nodata(from_channels(state, self.dtype, self.binding.nodata), valid)


@dataclass(frozen=True)
class VoteReduction(LevelReduction):
    """The label with the most gaussian-weighted votes, applied step by step."""

    def halo(self, factor: int) -> int:
        """Return how many samples beyond the window vote, on either side."""
        from .kernels import filters

        return filters.halo("gaussian", factor)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Return the elected label of each window."""
        from .kernels import filters

        labels = self._for_kernels(block)
        elected = filters.label_gaussian(labels, factors, margins or no_margins(factors), self.missing)
        return elected.view(self.output_dtype)
