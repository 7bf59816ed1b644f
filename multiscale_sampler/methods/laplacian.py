"""The method of Laplacian pyramids, whose levels are bands: differences of a level and the expanded next one.

The states are the levels of a gaussian pyramid. A band is a state minus the next, coarser state, expanded to the grid
of the finer one (Burt and Adelson, "The Laplacian pyramid as a compact image code", IEEE Transactions on
Communications, 1983). The coarsest level is its state. Expanding and adding up the bands restores the base.
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
    """Bands of the levels of a filter, as floats; NaN where a value is missing."""

    @property
    def makes_base(self) -> bool:
        """True: level 0 is a band."""
        return True

    @property
    def relative_itemsize(self) -> int:
        """Bytes of a state and of the next one, expanded to its size."""
        return 2 * self.components * self.state_dtype.itemsize

    @property
    def coarser_neighbours(self) -> int:
        """Two: a sample lies between two of the next level, and either may be outside of those that cover a part."""
        return 2

    def coarser_samples(self, start: int, stop: int, factor: int, size: int) -> slice:
        """Return the samples of the next level between which those from `start` to `stop` are interpolated."""
        lower = (2 * start + 1 - factor) // (2 * factor)
        upper = (2 * stop - 1 - factor) // (2 * factor) + 1
        return slice(min(max(lower, 0), size - 1), min(max(upper, 0), size - 1) + 1)

    def finished_levels(self, source: int, computed: Sequence[int], count: int) -> tuple[int, ...]:
        """Return the levels whose next one is known; the coarsest level needs none."""
        known = sorted({source, *computed})
        return tuple(known if known[-1] == count - 1 else known[:-1])

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """Floats that can hold differences of values of the base: float32 for up to 16 bits."""
        return np.result_type(self.dtype.newbyteorder("="), np.float32)

    def relative(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state minus the expanded next level."""
        with np.errstate(all="ignore"):
            return np.asarray(state - _expanded(coarser, factors, offsets, state.shape[1:]))

    def add_band(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of a level from the states of its band and of the next level; the inverse of `relative`."""
        with np.errstate(all="ignore"):
            return np.asarray(state + _expanded(coarser, factors, offsets, state.shape[1:]))

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the channels as floats, halves of 64-bit integers added up."""
        from .kernels.channels import from_channels, joined_halves

        halves = self.components == 2 and self.dtype.kind != "c"
        return from_channels(joined_halves(state) if halves else state, self.output_dtype)


def _expanded(coarser: Block, factors: Sequence[int], offsets: Sequence[int], shape: Sequence[int]) -> Block:
    from .kernels.bands import expand

    expanded = expand(coarser, factors, offsets, shape)
    # Where no neighbour is valid, the band keeps the value itself. A copy, as `expanded` can be a view of the state.
    return np.where(np.isnan(expanded), 0.0, expanded)
