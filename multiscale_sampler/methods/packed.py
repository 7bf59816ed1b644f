"""Reductions of packed values: in the order of what they stand for, or decoded first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..image.boxes import Block, Margins
from .reduction import Counts, Reduction

if TYPE_CHECKING:
    # It imports dask, which a list of the methods does not need.
    from ..image.values import Packing


@dataclass(frozen=True)
class OrderedReduction(Reduction):
    """A method applied to packed values in the order of the values that they stand for; levels are packed alike."""

    packing: Packing
    """How the values are packed."""
    ordered: Reduction
    """The reduction of the values in that order: unsigned, and inverted where a larger one stands for a smaller."""

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the state of the values in order, or of the level where that is the state."""
        return self.ordered.state_dtype if self.components else self.output_dtype

    @property
    def components(self) -> int:
        """The components of the state of the values in order."""
        return self.ordered.components

    @property
    def working_itemsize(self) -> int:
        """Bytes of a voxel in the kernels, and of its copy in order."""
        return self.ordered.working_itemsize + self.dtype.itemsize

    def halo(self, factor: int) -> int:
        """Return the halo of the method."""
        return self.ordered.halo(factor)

    def weigh(self, block: Block, weights: Block) -> Block:
        """Return the weighted values of a block of the base as a state."""
        weighted: Block = cast("Any", self.ordered).weigh(self.packing.in_order(block), weights)
        return weighted

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base, or what `weigh` made of it."""
        if not self.ordered.is_weighted:
            block = self.packing.in_order(block)
        return self._as_state(self.ordered.first(block, factors, margins))

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a state."""
        state = state if self.components else self.packing.in_order(state)
        return self._as_state(self.ordered.merge(state, factors, margins))

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return packed values."""
        if not self.components:
            return state
        return self.packing.out_of_order(self.ordered.finish(state, counts))

    def _as_state(self, state: Block) -> Block:
        return state if self.components else self.packing.out_of_order(state)


@dataclass(frozen=True)
class DecodedReduction(Reduction):
    """A method applied to what packed values stand for; levels are not packed."""

    packing: Packing
    """How the values are packed, with the missing ones that are left out."""
    decoded: Reduction
    """The reduction of the decoded values."""

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """Dtype of the levels of decoded values."""
        return self.decoded.output_dtype

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the state of decoded values."""
        return self.decoded.state_dtype

    @property
    def components(self) -> int:
        """The components of the state of decoded values."""
        return self.decoded.components

    @property
    def working_itemsize(self) -> int:
        """Bytes of a voxel in the kernels, and decoded."""
        return self.decoded.working_itemsize + self.decoded.dtype.itemsize

    @property
    def makes_base(self) -> bool:
        """Whether level 0 is computed."""
        return self.decoded.makes_base

    @property
    def relative_itemsize(self) -> int:
        """Bytes that `relative` allocates for each sample of a level."""
        return self.decoded.relative_itemsize

    @property
    def coarser_neighbours(self) -> int:
        """Samples of the next level, outside of those that cover a part, on which its values can depend."""
        return self.decoded.coarser_neighbours

    def coarser_samples(self, start: int, stop: int, factor: int, size: int) -> slice:
        """Return the samples of the next level on which the samples of a level depend."""
        return self.decoded.coarser_samples(start, stop, factor, size)

    def finished_levels(self, source: int, computed: Sequence[int], count: int) -> tuple[int, ...]:
        """Return the levels whose values are known once states are computed from the state of `source`."""
        return self.decoded.finished_levels(source, computed, count)

    def halo(self, factor: int) -> int:
        """Return the halo of the method."""
        return self.decoded.halo(factor)

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base, decoded."""
        return self.decoded.first(self.packing.decoded_block(block), factors, margins)

    def lift(self, block: Block) -> Block:
        """Return a block of the base, decoded, as a state."""
        return self.decoded.lift(self.packing.decoded_block(block))

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a state of decoded values."""
        return self.decoded.merge(state, factors, margins)

    def relative(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of the values of a part of a level, which can depend on the next level."""
        return self.decoded.relative(state, coarser, factors, offsets)

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return values, which are not packed."""
        return self.decoded.finish(state, counts)
