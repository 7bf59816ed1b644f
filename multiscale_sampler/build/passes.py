"""Passes with the arrays that they read and write."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import dask.array as da
import zarr

from ..image.boxes import Block, Box, grid_shape, is_empty, pieces, size_of, whole_box
from ..plan.changes import Selection
from ..plan.parts import known_parts, part_of_level
from ..plan.passes import cell_shape
from ..plan.plan import Pass, Plan
from ..store.chunks import Access
from ..store.presence import Presence
from .blanks import Blanks
from .sources import Base, Weights


@dataclass(frozen=True)
class Output:
    """A part of a level, or of its state for later passes, that a region writes when all its levels are reduced."""

    level: int
    """The level."""
    part: Box
    """The part of the level."""
    access: Access
    """The array that takes it."""
    box: Box
    """Where it goes in the array."""
    is_state: bool
    """Whether it is the state."""


@dataclass(frozen=True)
class BoundPass:
    """A pass with the arrays that it reads and writes."""

    plan: Plan
    """The plan."""
    pass_: Pass
    """The pass."""
    base: Base
    """Where level 0 is read."""
    levels: Mapping[int, Access]
    """Where levels are written, and read if they are the source."""
    copies: Access | None
    """The array whose stored chunks are those that level 0 gets, if there is one."""
    blanks: Blanks
    """What windows of which nothing is stored are reduced to."""
    weights: Weights | None
    """Where the weights of voxels are read."""
    selection: Selection | None
    """The regions that a change of the base affects; None: all."""
    carried: Mapping[int, Access] = field(default_factory=dict)
    """The states that earlier passes left, and those that this one leaves."""
    first: int = 0
    """Number in the pyramid of the level that is level 0 of the plan."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        pass_: Pass,
        base: Base,
        arrays: Mapping[int, zarr.Array[Any]],
        weights: Weights | None = None,
        selection: Selection | None = None,
    ) -> BoundPass:
        """Return a pass over a base that fills the arrays of its levels, or changes what is in them."""
        levels = {index: Access.of(array, in_use=selection is not None) for index, array in arrays.items()}
        has_values = 0 in pass_.levels and not plan.reduction.makes_base
        copies = base.chunks_for(levels[0]) if pass_.source == 0 and has_values else None
        # Windows of fill are known beforehand, unless their values depend on weights, on neighbours or on their place.
        is_known = (
            pass_.source == 0
            and weights is None
            and not plan.reduction.makes_base
            and not plan.reduction.depends_on_place
        )
        blanks = Blanks.of(plan, pass_, base.fill if is_known else None, levels)
        return cls(plan, pass_, base, levels, copies, blanks, weights, selection)

    # --- where it runs ---------------------------------------------------------------------------------------------

    def sent(self) -> BoundPass:
        """Return the pass as workers of a cluster get it: values that are computed come with each task (`deferred`)."""
        return self.with_values(None)

    def deferred(self, region: Box) -> da.Array | None:
        """Return the values of the base that a region needs as a dask array; None where its task reads them."""
        return None if self.pass_.source else self.base.deferred(known_parts(self.plan, self.pass_, region)[0])

    def with_values(self, block: Block | None) -> BoundPass:
        """Return the pass for one task that gets these values, or for all tasks (None)."""
        return replace(self, base=self.base.with_values(block))

    # --- what it reads ---------------------------------------------------------------------------------------------

    @property
    def presences(self) -> tuple[Presence, ...]:
        """The stored arrays that are read."""
        if self.pass_.source:
            return (self.source.presence,)
        return self.base.presences if self.weights is None else self.base.presences + self.weights.base.presences

    def missed(self) -> tuple[object, ...]:
        """Return what differs after chunks were found missing, and wherever that is not known."""
        if self.pass_.source:
            return (self.source.presence.missed,)
        return self.base.missed() if self.weights is None else self.base.missed() + self.weights.base.missed()

    @property
    def written_paths(self) -> set[str]:
        """Paths in the store of the arrays that are written."""
        levels = [self.levels[index] for index in self.pass_.written if index in self.levels]
        carried = [self.carried[index] for index in self.pass_.carried if index in self.carried]
        return {access.array.path for access in (*levels, *carried)}

    @property
    def source(self) -> Access:
        """The level, or the state of one, that is read by a pass over a level that is not the base."""
        index = self.pass_.source
        return self.carried[index] if index in self.carried else self.levels[index]

    # --- regions ---------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source."""
        return self.plan.levels[self.pass_.source].shape

    @property
    def nbytes(self) -> int:
        """Bytes of the source, uncompressed: what progress is counted in."""
        samples = math.prod(self.shape) if self.selection is None else self.selection.samples
        return samples * self.plan.dtype.itemsize

    @property
    def region_count(self) -> int:
        """Number of regions."""
        if self.selection is not None:
            return self.selection.count
        return math.prod(grid_shape(self.shape, self.pass_.region))

    def region_nbytes(self, region: Box) -> int:
        """Bytes of a region's source, uncompressed."""
        return size_of(region) * self.plan.dtype.itemsize

    def regions(self) -> Iterator[Box]:
        """Yield the regions of the source, one at a time."""
        if self.selection is not None:
            return self.selection.regions()
        return pieces(whole_box(self.shape), self.pass_.region)

    def described(self, region: Box) -> str:
        """Return how messages name a region."""
        along = ", ".join(f"{dim} {at.start}:{at.stop}" for dim, at in zip(self.plan.dims, region, strict=True))
        return f"{along} of level {self.first + self.pass_.source}"

    def leaves_nothing(self, box: Box) -> bool:
        """Whether a box of the base, without reading it, is known to leave nothing to be stored in any level."""
        # Levels still have values where a change made the base blank.
        return self.selection is None and self.blanks.leave_nothing and self.base.is_blank(box)

    # --- levels ----------------------------------------------------------------------------------------------------

    @cached_property
    def direct(self) -> tuple[int, ...]:
        """Levels that are reduced from the base."""
        return tuple(index for index in self.pass_.levels if index and self.plan.levels[index].parent == 0)

    @property
    def writes_base(self) -> bool:
        """Whether the values of the base are written as they are read."""
        return 0 in self.pass_.levels and self.copies is None and not self.plan.reduction.makes_base

    @cached_property
    def near(self) -> tuple[int, ...]:
        """Levels that are made and written cell by cell, of a plain base; none where a region is one cell."""
        plan, pass_ = self.plan, self.pass_
        plain = self.base.is_tiled and pass_.source == 0
        whole = self.selection is not None or any(index in pass_.carried for index in self.direct)
        reaches = plan.reduction.makes_base or any(any(plan.halos(index)) for index in pass_.levels if index)
        local = all(self.levels[index].chunks is not None for index in self.direct)
        fits = plain and local and not (whole or reaches)
        return self.direct if fits and cell_shape(plan, pass_, self.direct) else ()

    @cached_property
    def cell(self) -> tuple[int, ...] | None:
        """Shape of the parts in which a region's levels stay in cache; None where it is one part."""
        return cell_shape(self.plan, self.pass_, self.near) if self.near else None

    @property
    def cell_count(self) -> int:
        """Number of parts that may be built side by side."""
        return self.region_count if self.cell is None else math.prod(grid_shape(self.shape, self.cell))

    def cells(self, region: Box) -> Iterator[Box]:
        """Return a region in its cells, whole chunks of the base and of the levels `near`."""
        return iter((region,)) if self.cell is None else pieces(region, self.cell)

    def written(self, region: Box) -> dict[int, Box]:
        """Return the part of each level that a region writes."""
        if self.selection is not None:
            return self.selection.written(region)
        parts = {index: part_of_level(self.plan, index, self.pass_.source, region) for index in self.pass_.written}
        return {index: part for index, part in parts.items() if not is_empty(part)}

    def outputs(self, region: Box) -> Iterator[Output]:
        """Yield what a region writes when all its levels are reduced, in the order of writing.

        All but the values of level 0 and the levels `near`, which are written while the base is read.
        """
        for index, part in self.written(region).items():
            if index not in self.near and (index or self.plan.reduction.makes_base):
                yield Output(index, part, self.levels[index], part, is_state=False)
        for index in self.pass_.carried:
            part = part_of_level(self.plan, index, self.pass_.source, region)
            if index in self.carried and not is_empty(part):
                box = (slice(0, self.plan.reduction.components), *part)
                yield Output(index, part, self.carried[index], box, is_state=True)
