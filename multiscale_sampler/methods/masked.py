"""Reductions of images of which one channel masks the others, as alpha does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, Reduction, WrappedReduction, no_margins


@dataclass(frozen=True)
class MaskChannel:
    """The channel that masks the others: where it is 0, they are missing."""

    axis: int
    """The axis of the channels."""
    number: int
    """Which of them it is."""
    count: int
    """How many there are."""


def masked_rule(dtype: np.dtype[Any], nodata: Any) -> tuple[np.dtype[Any], Any] | None:
    """Return a dtype that holds all values of another and one for missing ones, and that value; NaN of floats.

    None where there is no such dtype.
    """
    if nodata is not None or dtype.kind == "f":
        return dtype, nodata
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        return None
    wider = np.dtype(f"i{2 * dtype.itemsize}")
    return wider, int(np.iinfo(wider).min)


@dataclass(frozen=True)
class MaskedReduction(WrappedReduction):
    """A method that ignores values under a mask, which is a channel of the image, and reduces the mask as it is.

    Values are reduced in a dtype that has one for missing ones. Where all values of a window are masked, the result is
    that of missing values, or 0 for integers without nodata.
    """

    mask: MaskChannel
    """The channel that masks the others."""
    of_mask: Reduction | None = None
    """The reduction of the mask, if it is another one, which is 0 only where all of a window is masked."""

    @property
    def depends_on_place(self) -> bool:
        """True: the mask is not masked itself."""
        return True

    def halos(self, factors: Sequence[int]) -> tuple[int, ...]:
        """Return the halo of the method, and all channels along their axis."""
        halos = list(self.inner.halos(factors))
        halos[self.mask.axis] = self.mask.count - 1
        return tuple(halos)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base, with all of its channels."""
        margins = margins or no_margins(factors)
        state = self.inner.first(self._own_channels(self._masked(block), margins), factors, self._inside(margins))
        if self.components:
            return state
        level = self._as_level(state)
        at = self.mask.number - margins[self.mask.axis][0]
        if self.of_mask is not None and 0 <= at < level.shape[self.mask.axis]:
            mask = self.of_mask.first(self._channel(block, self.mask.number), factors, self._inside(margins))
            self._channel(level, at)[...] = mask
        return level

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a state, or a level, whose mask is a channel of it."""
        if not self.components:
            return self.first(state, factors, margins)
        margins = margins or no_margins(factors)
        return self.inner.merge(self._own_channels(state, margins, 1), factors, self._inside(margins))

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return values in the dtype of the image."""
        return self._as_level(self.inner.finish(state, counts)) if self.components else state

    def _masked(self, block: Block) -> Block:
        """Return a block with missing values where its mask is 0."""
        channels = np.moveaxis(block.astype(self.inner.dtype), self.mask.axis, 0)
        nodata = self.inner.binding.nodata
        hidden = channels[self.mask.number] == 0
        for number, channel in enumerate(channels):
            if number != self.mask.number:
                channel[hidden] = np.nan if nodata is None else nodata
        return np.moveaxis(channels, 0, self.mask.axis)

    def _own_channels(self, block: Block, margins: Margins, leading: int = 0) -> Block:
        """Return a block without its margins along the axis of the channels."""
        axis = self.mask.axis + leading
        before, after = margins[self.mask.axis]
        own = slice(before, block.shape[axis] - after)
        return block[(slice(None),) * axis + (own,)]

    def _channel(self, block: Block, number: int) -> Block:
        """Return a view of one channel, with its axis."""
        return block[(slice(None),) * self.mask.axis + (slice(number, number + 1),)]

    def _inside(self, margins: Margins) -> Margins:
        """Return margins without those along the axis of the channels."""
        return (*margins[: self.mask.axis], (0, 0), *margins[self.mask.axis + 1 :])

    def _as_level(self, values: Block) -> Block:
        """Return values in the dtype of the image: 0 where they are missing, if it has no value for that."""
        nodata = self.inner.binding.nodata
        if self.inner.dtype == self.dtype:
            return values.astype(self.output_dtype, copy=False)
        # Filters can leave the range of the image.
        limits = np.iinfo(self.dtype)
        return np.where(values == nodata, 0, values).clip(limits.min, limits.max).astype(self.output_dtype)
