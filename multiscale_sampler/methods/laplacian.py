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
    def makes_base(self) -> bool:
        """Level 0 is a band."""
        return True

    @property
    def relative_itemsize(self) -> int:
        """A band is made of its state, and of as much that the next level tells of it."""
        return 2 * self.components * self.state_dtype.itemsize

    @property
    def coarser_neighbours(self) -> int:
        """A sample lies between two of the next level, either of which may be beyond those over a part."""
        return 2

    def coarser_samples(self, start: int, stop: int, factor: int, size: int) -> slice:
        """Return the samples of the next level that those from `start` to `stop` are expanded from."""
        lower = (2 * start + 1 - factor) // (2 * factor)
        upper = (2 * stop - 1 - factor) // (2 * factor) + 1
        return slice(min(max(lower, 0), size - 1), min(max(upper, 0), size - 1) + 1)

    def written(self, source: int, made: Sequence[int], count: int) -> tuple[int, ...]:
        """Return the levels of which the next one is known; the last level has none."""
        known = sorted({source, *made})
        return tuple(known if known[-1] == count - 1 else known[:-1])

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """Floats that hold differences of the base's values: of 8 and 16 bits in single precision."""
        return np.result_type(self.dtype.newbyteorder("="), np.float32)

    def relative(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of a band: what the next level, expanded, does not have."""
        with np.errstate(all="ignore"):
            return np.asarray(state - _expanded(coarser, factors, offsets, state.shape[1:]))

    def add_band(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of a level from its band's and the next level's, with the arguments of `relative`."""
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
