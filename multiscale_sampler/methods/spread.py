"""Moments of the window: the standard deviation, and the mean by weights of the voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image.boxes import Block, Margins
from .picks import valid_samples
from .reduction import Counts, Reduction


@dataclass(frozen=True)
class DeviationReduction(Reduction):
    """The standard deviation over the window (of the population, as numpy's)."""

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """As numpy's: that of floats, and of the parts of complex numbers, else float64."""
        if self.dtype.kind in "fc":
            return np.zeros(0, self.dtype).real.dtype.newbyteorder("=")
        return np.dtype(np.float64)

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Moments in double precision."""
        return np.dtype(np.float64)

    @property
    def components(self) -> int:
        """The number of valid samples, their mean (of two parts, if complex) and their squared deviations from it."""
        return 4 if self.dtype.kind == "c" else 3

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Take the moments of a block of the base."""
        from .kernels import spread

        return spread.first(self._working(block), factors, self.missing)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Combine moments."""
        from .kernels import spread

        return spread.merge(np.ascontiguousarray(state), factors)

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the deviations, NaN where too few samples were valid."""
        from .kernels import spread

        deviations = spread.finish(np.ascontiguousarray(state)).astype(self.output_dtype)
        if self.binding.counted and self.binding.min_valid:
            deviations[self.too_few(state[0], counts)] = np.nan
        return deviations


@dataclass(frozen=True)
class WeightedReduction(Reduction):
    """A mean by weights of the voxels: blocks of the base come as (weights, values), see `weigh`."""

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Weights and means in double precision."""
        return np.dtype(np.float64)

    @property
    def components(self) -> int:
        """The weight of the valid voxels, and their mean; where a least fraction must be valid, the weight of all."""
        return 3 if self._shares else 2

    @property
    def _shares(self) -> bool:
        return self.binding.counted and self.binding.min_valid > 0

    @property
    def working_itemsize(self) -> int:
        """A weight and a value, and the weight again where it may be taken away from the other."""
        return 8 * self.components

    def weigh(self, block: Block, weights: Block) -> Block:
        """Return a block of the base with the weights of its voxels, which are 0 where they are missing."""
        values = block.astype(np.float64)
        out = np.empty((self.components, *block.shape))
        out[0], out[1] = weights, values
        if self._shares:
            out[2] = np.where(weights > 0, weights, 0.0)
        if self.binding.counted:
            out[0][~valid_samples(block, self)] = 0.0
        return out

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Combine voxels, given with their weights."""
        return self.merge(block, factors, margins)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Combine windows."""
        from .kernels import spread, sums

        state = np.ascontiguousarray(state)
        combined = spread.combine(state[0], state[1], factors)
        if not self._shares:
            return combined
        total = np.empty((1, *combined.shape[1:]))
        sums.sum_windows(state[2:], (1, *factors), total)
        return np.concatenate([combined, total])

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the means, rounded to the level's dtype; what has no weight is missing."""
        from .kernels.channels import from_channels

        fill = None if self.dtype.kind == "f" and self.binding.nodata is None else self.missing.fill(self.dtype)
        enough = state[0] > 0
        if self._shares:
            # Sums of the same weights may differ by their order.
            enough &= state[0] >= self.binding.min_valid * state[2] * (1 - 1e-9)
        return from_channels(np.where(enough, state[1], np.nan)[np.newaxis], self.dtype, fill)
