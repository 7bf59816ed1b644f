"""What every bound method is: three steps from a block of the base to the values of a level.

    first(base block) -> state    merge(state) -> coarser state    finish(state) -> values of a level

The *state* is what travels from level to level. For methods that pick a value it is the level itself; for others it
is what a coarser level needs to be exact: unrounded sums, counts, moments. Methods whose value depends on more than
the window get *margins* around the block.

Values may depend on the next, coarser level as well, as those of bands do. Then `relative` comes before `finish`:

    relative(state, coarser state) -> state of the values

and level 0 is made like other levels, of the base as a state (`lift`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..image.boxes import Block, Margins

if TYPE_CHECKING:
    from .kernels.windows import Missing

Counts: TypeAlias = "tuple[npt.NDArray[np.int64], ...]"


def no_margins(factors: Sequence[int]) -> Margins:
    """Return margins of nothing, one pair for each axis."""
    return ((0, 0),) * len(factors)


@dataclass(frozen=True)
class Binding:
    """What a method is bound to."""

    dtype: np.dtype[Any]
    """dtype of the base."""
    skip_nan: bool = False
    """Whether NaN, or NaT, is left out."""
    nodata: Any = None
    """A value of the base's dtype that is left out, or None."""
    window: int = 1
    """The most base voxels that a voxel of any level covers; sizes the sums."""
    min_valid: float = 0.0
    """The least fraction of a window that must be valid for a valid result."""

    @property
    def counted(self) -> bool:
        """Whether values can be missing."""
        return self.skip_nan or self.nodata is not None

    @property
    def missing(self) -> Missing:
        """The rule for missing values as the kernels take it, without a least fraction."""
        from .kernels.windows import Missing

        return Missing(self.skip_nan, self.nodata)


@dataclass(frozen=True)
class Reduction(ABC):
    """A method bound to a dtype and a rule for missing values: the steps from base block to level values."""

    binding: Binding
    """The dtype and the rule."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The base's dtype."""
        return self.binding.dtype

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """What every level but the base has; unless a method says otherwise, the base's."""
        return self.dtype.newbyteorder("=")

    @property
    @abstractmethod
    def state_dtype(self) -> np.dtype[Any]:
        """What the state has."""

    @property
    @abstractmethod
    def components(self) -> int:
        """Blocks of the state, stacked along a leading axis; 0 where the state is the level itself."""

    @property
    def working_itemsize(self) -> int:
        """Bytes for each voxel of the base, in the form in which a block is reduced."""
        return self.dtype.itemsize

    @property
    def makes_base(self) -> bool:
        """Whether level 0 is made as other levels are, and is not the base itself."""
        return False

    @property
    def base_dtype(self) -> np.dtype[Any]:
        """What level 0 has."""
        return self.output_dtype if self.makes_base else self.dtype

    @property
    def relative_itemsize(self) -> int:
        """Bytes for each sample of a source that `relative` needs beside the states."""
        return 0

    @property
    def coarser_neighbours(self) -> int:
        """Most samples of the next level, beside those over a part of a level, that its values depend on."""
        return 0

    def coarser_samples(self, start: int, stop: int, factor: int, size: int) -> slice:
        """Return which of the `size` samples of the next level the values of samples from `start` to `stop` depend on.

        `factor` is the number of samples of a level for each of the next one.
        """
        return slice(0, 0)

    def written(self, source: int, made: Sequence[int], count: int) -> tuple[int, ...]:
        """Return which of `count` levels have values where the state of one is known, and those of some made of it."""
        return tuple(made)

    def halo(self, factor: int) -> int:
        """Return how many samples beyond a window its value depends on, on either side of an axis."""
        return 0

    @abstractmethod
    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base to the state of its windows.

        `margins` are the samples before and after the windows along each axis: as many as `halo` says, or fewer
        where the image ends; None for none.
        """

    @abstractmethod
    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a state to that of windows of `factors` of its windows."""

    @abstractmethod
    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the level's values; `counts` are the base samples of each window, axis by axis."""

    def lift(self, block: Block) -> Block:
        """Return a block of the base as a state, of windows of one voxel."""
        return self.first(block, (1,) * block.ndim)

    def relative(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of the values of a part of a level.

        Parameters
        ----------
        state
            The state of the part.
        coarser
            The state of the next level, of the samples that the values depend on.
        factors
            Samples for each sample of the next level, along each axis.
        offsets
            Samples from the beginning of `coarser` to that of `state`, along each axis.
        """
        return state

    def at_once(self, block: Block, factors: tuple[int, ...], margins: Margins, counts: Counts) -> Block:
        """Reduce a block to a level from which no other follows."""
        return self.finish(self.first(block, factors, margins), counts)

    @property
    def missing(self) -> Missing:
        """The rule for missing values as the kernels take it."""
        return self.binding.missing

    def too_few(self, valid: Block, counts: Counts) -> Block:
        """Return where fewer samples of a window are valid than the binding asks for, at least one."""
        least = np.maximum(np.ceil(self.binding.min_valid * _products(counts) - 1e-9), 1)
        return np.asarray(valid < least.reshape(valid.shape))

    def _working(self, block: Block) -> Block:
        """Return a block as the kernels take it: native, C-contiguous, of a dtype that numba knows."""
        if self.dtype.kind == "b":
            return np.ascontiguousarray(block).view(np.uint8)
        dtype = np.dtype(np.float32) if self.dtype == np.float16 else self.dtype.newbyteorder("=")
        return np.ascontiguousarray(block, dtype=dtype)


class LevelReduction(Reduction):
    """A method whose state is the level itself, by the same rule from level to level."""

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """That of the level."""
        return self.output_dtype

    @property
    def components(self) -> int:
        """None beside the level."""
        return 0

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of a level, by the rule of the base."""
        return self.first(state, factors, margins)

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the state, which is the level."""
        return state


def _products(counts: Counts) -> Block:
    """Return the samples of every window, in C order."""
    products: Block = np.ones(1, np.int64)
    for along in counts:
        products = np.multiply.outer(products, along).reshape(-1)
    return products
