"""The standard deviation and the weighted mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, Reduction


@dataclass(frozen=True)
class DeviationReduction(Reduction):
    """The standard deviation of the window (``ddof=0``, as numpy's)."""

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """As numpy's: the dtype of floats or of the parts of complex numbers; float64 for others."""
        if self.dtype.kind in "fc":
            return np.zeros(0, self.dtype).real.dtype.newbyteorder("=")
        return np.dtype(np.float64)

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """float64."""
        return np.dtype(np.float64)

    @property
    def components(self) -> int:
        """The number of valid samples, their mean (real and imaginary part) and the sum of squared deviations."""
        return 4 if self.dtype.kind == "c" else 3

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Return count, mean and squared deviations of each window."""
        from .kernels import spread

        return spread.first(self._for_kernels(block), factors, self.missing)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Combine the counts, means and squared deviations of windows."""
        from .kernels import spread

        return spread.merge(np.ascontiguousarray(state), factors)

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the standard deviations; NaN where too few samples were valid."""
        from .kernels import spread

        deviations = spread.finish(np.ascontiguousarray(state)).astype(self.output_dtype)
        if self.binding.skips_missing and self.binding.min_valid:
            deviations[self.too_few(state[0], counts)] = np.nan
        return deviations


@dataclass(frozen=True)
class WeightedReduction(Reduction):
    """The weighted mean of the voxels; takes blocks of the base as `weigh` returns them."""

    @property
    def is_weighted(self) -> bool:
        """True: `first` takes what `weigh` returns."""
        return True

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """float64."""
        return np.dtype(np.float64)

    @property
    def components(self) -> int:
        """Values per window: 2 (weight and mean of valid voxels), or 3 with `min_valid` (weight of all)."""
        return 3 if self._compares_weights else 2

    @property
    def _compares_weights(self) -> bool:
        """Whether the weight of the valid voxels is compared with the weight of all."""
        return self.binding.skips_missing and self.binding.min_valid > 0

    @property
    def working_itemsize(self) -> int:
        """Bytes of a voxel as `weigh` returns it."""
        return 8 * self.components

    def weigh(self, block: Block, weights: Block) -> Block:
        """Return (components, *block): weights, 0 for missing voxels; values; weights of all voxels if compared."""
        values = block.astype(np.float64)
        out = np.empty((self.components, *block.shape))
        out[0], out[1] = weights, values
        if self._compares_weights:
            out[2] = np.where(weights > 0, weights, 0.0)
        if self.binding.skips_missing:
            out[0][~self.valid_samples(block)] = 0.0
        return out

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Return weight and mean of each window of weighted voxels."""
        return self.merge(block, factors, margins)

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Combine the weights and means of windows."""
        from .kernels import spread, sums

        state = np.ascontiguousarray(state)
        combined = spread.combine(state[0], state[1], factors)
        if not self._compares_weights:
            return combined
        total = np.empty((1, *combined.shape[1:]))
        sums.sum_windows(state[2:], (1, *factors), total)
        return np.concatenate([combined, total])

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the means rounded to the level's dtype; nodata or NaN where the weight is zero or too small."""
        from .kernels.channels import from_channels, split_halves

        fill = None if self.dtype.kind == "f" and self.binding.nodata is None else self.missing.fill(self.dtype)
        enough = state[0] > 0
        if self._compares_weights:
            # The two sums may have added the same weights in another order.
            enough &= state[0] >= self.binding.min_valid * state[2] * (1 - 1e-9)
        channels = np.where(enough, state[1], np.nan)[np.newaxis]
        if self.dtype.kind in "iu" and self.dtype.itemsize == 8:
            channels = split_halves(channels)
        means = from_channels(channels, self.dtype, fill)
        return self.apart_from_nodata(means, enough)
