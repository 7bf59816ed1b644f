"""The interface of bound methods: three steps from a block of the base to the values of a level.

    first(base block) -> state    merge(state) -> coarser state    finish(state) -> values of a level

The *state* is what is passed from level to level. For methods that select a value it is the level itself; for others
it is what makes a coarser level exact: unrounded sums, counts, moments. Methods whose value depends on samples outside
of the window get them as *margins* around the block.

Values can also depend on the next, coarser level, as Laplacian bands do. Then `relative` comes before `finish`:

    relative(state, coarser state) -> state of the values

and level 0 is computed like the other levels, from the base as a state (`lift`).
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
    """Return margins of zero samples: (0, 0) for each axis."""
    return ((0, 0),) * len(factors)


@dataclass(frozen=True)
class Binding:
    """The dtype and the rule for missing values that a method is bound to."""

    dtype: np.dtype[Any]
    """dtype of the base."""
    skip_nan: bool = False
    """Whether NaN, or NaT, is ignored."""
    nodata: Any = None
    """A value of the base's dtype that is ignored, or None."""
    window: int = 1
    """The most base voxels that a voxel of any level covers; decides how wide sums are."""
    min_valid: float = 0.0
    """The fraction of a window that must be valid for a valid result."""

    @property
    def skips_missing(self) -> bool:
        """Whether values can be missing, and are then ignored."""
        return self.skip_nan or self.nodata is not None

    @property
    def missing(self) -> Missing:
        """The rule for missing values as kernels take it, without `min_valid`."""
        from .kernels.windows import Missing

        return Missing(self.skip_nan, self.nodata)


@dataclass(frozen=True)
class Reduction(ABC):
    """A method bound to a dtype and a rule for missing values."""

    binding: Binding
    """The dtype of the base and the rule for missing values."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the base."""
        return self.binding.dtype

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """Dtype of the levels from 1 on, in native byte order."""
        return self.dtype.newbyteorder("=")

    @property
    @abstractmethod
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the state."""

    @property
    @abstractmethod
    def components(self) -> int:
        """Length of the leading axis of the state; 0 where the state is the level itself, without such an axis."""

    @property
    def working_itemsize(self) -> int:
        """Bytes of a voxel of the base in the dtype in which kernels reduce it."""
        return self.dtype.itemsize

    @property
    def is_weighted(self) -> bool:
        """Whether `weigh` turns blocks of the base and of weights into the state that `first` takes."""
        return False

    @property
    def makes_base(self) -> bool:
        """Whether level 0 is computed, as other levels are, and is not the base itself."""
        return False

    @property
    def base_dtype(self) -> np.dtype[Any]:
        """Dtype of level 0."""
        return self.output_dtype if self.makes_base else self.dtype

    @property
    def relative_itemsize(self) -> int:
        """Bytes that `relative` allocates for each sample of a level."""
        return 0

    @property
    def coarser_neighbours(self) -> int:
        """Samples of the next level, outside of those that cover a part of a level, on which its values can depend."""
        return 0

    def coarser_samples(self, start: int, stop: int, factor: int, size: int) -> slice:
        """Return the samples of the next level on which the samples of a level from `start` to `stop` depend.

        `factor` is the number of samples of the level for each of the next one, which has `size` samples.
        """
        return slice(0, 0)

    def finished_levels(self, source: int, computed: Sequence[int], count: int) -> tuple[int, ...]:
        """Return the levels, of `count`, whose values are known once states are computed from the state of `source`."""
        return tuple(computed)

    def halo(self, factor: int) -> int:
        """Return the number of samples outside of a window, on either side, on which its value depends."""
        return 0

    def halos(self, factors: Sequence[int]) -> tuple[int, ...]:
        """Return the halo along each axis."""
        return tuple(map(self.halo, factors))

    @property
    def depends_on_place(self) -> bool:
        """Whether windows of the same samples can have different values at other places."""
        return False

    @abstractmethod
    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base to the state of its windows.

        `margins` are the numbers of samples before and after the windows along each axis: as many as `halo` returns,
        or fewer where the image ends. None stands for no margins.
        """

    @abstractmethod
    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a state to a coarser one, whose windows are `factors` windows of the given one."""

    @abstractmethod
    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the values of a level; `counts` are the base samples of each window, one array for each axis."""

    def lift(self, block: Block) -> Block:
        """Return a block of the base as a state, with windows of one voxel."""
        return self.first(block, (1,) * block.ndim)

    def relative(self, state: Block, coarser: Block, factors: Sequence[int], offsets: Sequence[int]) -> Block:
        """Return the state of the values of a part of a level, which can depend on the next level.

        Parameters
        ----------
        state
            The state of the part.
        coarser
            The state of the next level, for the samples that `coarser_samples` returns.
        factors
            Samples of the level for each sample of the next one, along each axis.
        offsets
            Samples of the level from the start of `coarser` to the start of `state`, along each axis.
        """
        return state

    def at_once(self, block: Block, factors: tuple[int, ...], margins: Margins, counts: Counts) -> Block:
        """Reduce a block of the base to the values of a level, where the state is not needed."""
        return self.finish(self.first(block, factors, margins), counts)

    @property
    def missing(self) -> Missing:
        """The rule for missing values as kernels take it, without `min_valid`."""
        return self.binding.missing

    def valid_samples(self, block: Block) -> Block:
        """Return a C-contiguous mask of the samples that are not missing, for a block of the base of any dtype."""
        valid = np.ones(block.shape, np.bool_)
        if self.binding.skip_nan:
            # NaN and NaT alike.
            np.equal(block, block, out=valid)
        if self.binding.nodata is not None:
            valid &= block != self.dtype.type(self.binding.nodata)
        return valid

    def too_few(self, valid: Block, counts: Counts) -> Block:
        """Return a mask of the windows with fewer valid samples than `min_valid` requires, or with none."""
        least = np.maximum(np.ceil(self.binding.min_valid * _products(counts) - 1e-9), 1)
        return np.asarray(valid < least.reshape(valid.shape))

    def apart_from_nodata(self, values: Block, valid: Block) -> Block:
        """Return averages of a level, of which none that is valid equals `nodata` by its rounding, or by chance.

        The next value stands for it, as GDAL has it in overviews (its ``AdjustNoDataClose...``): one step off, and not
        missing.
        """
        nodata = self.binding.nodata
        if nodata is None or self.dtype.kind not in "iuf":
            return values
        taken = (values == nodata) & valid
        if taken.any():
            values = values.copy()
            values[taken] = _next_value(nodata, values.dtype)
        return values

    def _for_kernels(self, block: Block) -> Block:
        """Return a block as kernels take it: C-contiguous, in native byte order, of a dtype that numba supports."""
        if self.dtype.kind == "b":
            return np.ascontiguousarray(block).view(np.uint8)
        dtype = np.dtype(np.float32) if self.dtype == np.float16 else self.dtype.newbyteorder("=")
        return np.ascontiguousarray(block, dtype=dtype)


def _next_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return the next number that a dtype has above a number, the one below if there is none."""
    if dtype.kind == "f":
        return np.nextafter(dtype.type(value), dtype.type(np.inf))
    return value + 1 if value < np.iinfo(dtype).max else value - 1


class LevelReduction(Reduction):
    """A method whose state is the level itself, and which reduces a level as it reduces the base."""

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the level."""
        return self.output_dtype

    @property
    def components(self) -> int:
        """0: the state is the level."""
        return 0

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of a level as one of the base."""
        return self.first(state, factors, margins)

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the state unchanged, as it is the level."""
        return state


@dataclass(frozen=True)
class WrappedReduction(Reduction):
    """A method that works on other values than those of the base, by the reduction of these."""

    inner: Reduction
    """The reduction of the other values."""

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """Dtype of the state of the other values, or of the level where that is the state."""
        return self.inner.state_dtype if self.components else self.output_dtype

    @property
    def components(self) -> int:
        """The components of the state of the other values."""
        return self.inner.components

    @property
    def working_itemsize(self) -> int:
        """Bytes of a voxel in the kernels, and of its copy as another value."""
        return self.inner.working_itemsize + self.inner.dtype.itemsize

    def halo(self, factor: int) -> int:
        """Return the halo of the method."""
        return self.inner.halo(factor)


class ViewedReduction(WrappedReduction):
    """A method applied to values that stand for those of the base one for one, which its levels are turned back to."""

    @abstractmethod
    def _seen(self, block: Block) -> Block:
        """Return what stands for values of the base or of a level."""

    @abstractmethod
    def _original(self, block: Block) -> Block:
        """Return the values of what `_seen` returned."""

    def first(self, block: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a block of the base."""
        return self._as_state(self.inner.first(self._seen(block), factors, margins))

    def merge(self, state: Block, factors: tuple[int, ...], margins: Margins | None = None) -> Block:
        """Reduce a state."""
        return self._as_state(self.inner.merge(state if self.components else self._seen(state), factors, margins))

    def finish(self, state: Block, counts: Counts) -> Block:
        """Return the values of a level."""
        return self._original(self.inner.finish(state, counts)) if self.components else state

    def _as_state(self, state: Block) -> Block:
        return state if self.components else self._original(state)


def _products(counts: Counts) -> Block:
    """Return the number of samples of every window, flat in C order."""
    products: Block = np.ones(1, np.int64)
    for of_axis in counts:
        products = np.multiply.outer(products, of_axis).reshape(-1)
    return products
