"""Methods that weigh samples beyond the window: filters against aliasing, and votes of labels.

The state of a filter is the level before it is rounded, as channels of floats with NaN for what is missing, so that
levels lose nothing to the rounding of those before them.
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
    """A weighted mean about the centre of the window, applied step by step."""

    kernel: FilterKernel
    """The weights."""

    def __post_init__(self) -> None:
        """Refuse rules for missing values that floats cannot tell apart."""
        binding = self.binding
        if binding.nodata is not None and self.dtype.kind in "fc" and not binding.skip_nan:
            raise ValueError(
                f"filters cannot leave out nodata={binding.nodata!r} and take NaN as a value; drop skipna=False"
            )

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Channels in double precision."""
        return np.dtype(np.float64)

    @property
    def components(self) -> int:
        """Two for 64-bit integers (their halves) and complex numbers, else one."""
        return 2 if self.dtype.kind == "c" or (self.dtype.kind in "iu" and self.dtype.itemsize == 8) else 1

    @property
    def working_itemsize(self) -> int:
        """Channels, in double precision at most."""
        return 8 * self.components

    def halo(self, factor: int) -> int:
        """Return how far the kernel reaches beyond the window."""
        from .kernels import filters

        return filters.halo(self.kernel, factor)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Filter a block of the base."""
        from .kernels.channels import to_channels

        return self.merge(to_channels(block, self.missing), factors, margins)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Filter a level that has not been rounded."""
        from .kernels import filters

        counted, min_valid = self.binding.counted, self.binding.min_valid
        return filters.filter_windows(
            np.ascontiguousarray(state),
            factors,
            margins or no_margins(factors),
            self.kernel,
            counted,
            min_valid=min_valid,
        )

    def finish(self, state: Block, counts: Counts) -> Block:
        """Round to the level's dtype."""
        from .kernels.channels import from_channels

        return from_channels(state, self.dtype, self.binding.nodata)


@dataclass(frozen=True)
class VoteReduction(LevelReduction):
    """The label with the most gaussian-weighted votes, step by step: the state is the level itself."""

    def halo(self, factor: int) -> int:
        """Return how far votes come from beyond the window."""
        from .kernels import filters

        return filters.halo("gaussian", factor)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Let the labels of a block vote."""
        from .kernels import filters

        elected = filters.label_gaussian(self._working(block), factors, margins or no_margins(factors), self.missing)
        return elected.view(self.output_dtype)
