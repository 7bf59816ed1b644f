"""The method whose levels are bands: what a level has and the next, coarser one does not tell.

Levels of a gaussian pyramid follow from each other as states; a band is the difference of a state and the next one,
expanded to its grid (Burt and Adelson, "The Laplacian pyramid as a compact image code", IEEE Transactions on
Communications, 1983). The coarsest level is its state. Expanded and added up, the bands are the base again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image.boxes import Block
from .filters import FilterReduction
from .reduction import Counts


@dataclass(frozen=True)
class BandReduction(FilterReduction):
    """Bands of the levels that a filter makes, as floats; what is missing is NaN."""

    @property
    def bands(self) -> bool:
        """They are."""
        return True

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """Floats that hold differences of the base's values: of 8 and 16 bits in single precision."""
        return np.result_type(self.dtype.newbyteorder("="), np.float32)

    def lift(self, block: Block) -> Block:
        """Return the state of the base itself."""
        from .kernels.channels import to_channels

        return to_channels(block, self.missing).astype(np.float64)

    def band(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of a band.

        Parameters
        ----------
        state
            The part of a level's state.
        coarser
            The samples of the next level's state that it lies between.
        factors
            Samples per sample of the next level, along each axis.
        offsets
            Samples from the beginning of `coarser` to that of `state`, along each axis.
        """
        with np.errstate(all="ignore"):
            return np.asarray(state - _expanded(coarser, factors, offsets, state.shape[1:]))

    def add_band(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of a level from its band's and the next level's, with the arguments of `band`."""
        with np.errstate(all="ignore"):
            return np.asarray(state + _expanded(coarser, factors, offsets, state.shape[1:]))

    def finish(self, state: Block, counts: Counts) -> Block:
        """Join the channels to floats."""
        from .kernels.channels import from_channels, joined_halves

        halves = self.components == 2 and self.dtype.kind != "c"
        return from_channels(joined_halves(state) if halves else state, self.output_dtype)


def _expanded(coarser: Block, factors: Sequence[int], offsets: Sequence[int], shape: Sequence[int]) -> Block:
    from .kernels.bands import expand

    expanded = expand(coarser, factors, offsets, shape)
    # What no neighbour tells of is left in the band; an expansion by nothing is the block itself.
    return np.where(np.isnan(expanded), 0.0, expanded)
