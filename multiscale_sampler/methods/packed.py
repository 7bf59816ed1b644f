"""Reductions of packed values: in the order of what they stand for, or decoded first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, ViewedReduction, WrappedReduction

if TYPE_CHECKING:
    # It loads dask and zarr, which a list of the methods does not need.
    from ..image.values import Packing


@dataclass(frozen=True)
class OrderedReduction(ViewedReduction):
    """A method applied to packed values in the order of the values that they stand for; levels are packed alike.

    In that order they are unsigned, and inverted where a larger one stands for a smaller.
    """

    packing: Packing
    """How the values are packed."""

    @property
    def is_weighted(self) -> bool:
        """Whether the method is."""
        return self.inner.is_weighted

    def weigh(self, block: Block, weights: Block) -> Block:
        """Return the weighted values of a block of the base as a state."""
        weighted: Block = cast("Any", self.inner).weigh(self._seen(block), weights)
        return weighted

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base, or what `weigh` made of it."""
        if self.is_weighted:
            return self.inner.first(block, factors, margins)
        return super().first(block, factors, margins)

    def _seen(self, block: Block) -> Block:
        return self.packing.in_order(block)

    def _original(self, block: Block) -> Block:
        return self.packing.out_of_order(block)


@dataclass(frozen=True)
class DecodedReduction(WrappedReduction):
    """A method applied to what packed values stand for; levels are not packed."""

    packing: Packing
    """How the values are packed, with the missing ones that are left out."""

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """Dtype of the levels of decoded values."""
        return self.inner.output_dtype

    @property
    def makes_base(self) -> bool:
        """Whether level 0 is computed."""
        return self.inner.makes_base

    @property
    def relative_itemsize(self) -> int:
        """Bytes that `relative` allocates for each sample of a level."""
        return self.inner.relative_itemsize

    @property
    def coarser_neighbours(self) -> int:
        """Samples of the next level, outside of those that cover a part, on which its values can depend."""
        return self.inner.coarser_neighbours

    def coarser_samples(self, start: int, stop: int, factor: int, size: int) -> slice:
        """Return the samples of the next level on which the samples of a level depend."""
        return self.inner.coarser_samples(start, stop, factor, size)

    def finished_levels(self, source: int, computed: Sequence[int], count: int) -> tuple[int, ...]:
        """Return the levels whose values are known once states are computed from the state of `source`."""
        return self.inner.finished_levels(source, computed, count)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base, decoded."""
        return self.inner.first(self.packing.decoded_block(block), factors, margins)

    def lift(self, block: Block) -> Block:
        """Return a block of the base, decoded, as a state."""
        return self.inner.lift(self.packing.decoded_block(block))

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a state of decoded values."""
        return self.inner.merge(state, factors, margins)

    def relative(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of the values of a part of a level, which can depend on the next level."""
        return self.inner.relative(state, coarser, factors, offsets)

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return values, which are not packed."""
        return self.inner.finish(state, counts)
