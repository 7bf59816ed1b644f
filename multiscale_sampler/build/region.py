"""One region of one pass: read once, reduced through the levels of the pass in memory, each level's part written.

A region is whole chunks of all that it reads and writes, so that regions are independent and no chunk has two
writers. Where the base is a plain array of local chunks, each chunk is reduced while it is still in cache, and
level 0 takes over its bytes as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import dask.array as da
import numpy as np
import zarr

from ..image.boxes import Block, Box, grid_shape, is_empty, overlap, pieces, shape_of, size_of, whole_box, within
from ..methods import WeightedReduction
from ..plan.changes import Selection
from ..plan.parts import known_parts, part_of_level, windows_under
from ..plan.passes import cell_shape
from ..plan.plan import Pass, Plan
from ..store import Access, buffer
from ..tasks.threads import spread
from .sources import ArrayBase, Base, BlockBase, CastBase, filled


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
    """The base, if its stored chunks are those that level 0 gets."""
    blanks: Mapping[int, Block]
    """For levels of a zarr base, the state of a window of its fill value."""
    weights: ArrayBase | None
    """Where the weights of voxels are read, with a size of 1 along axes that they do not have."""
    keeps_blank: bool
    """Whether what is not stored of the base need not be stored of any level."""
    selection: Selection | None
    """What a change of the base leaves to do; None: everything."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        pass_: Pass,
        base: Base,
        arrays: Mapping[int, zarr.Array[Any]],
        weights: ArrayBase | None = None,
        selection: Selection | None = None,
    ) -> BoundPass:
        """Return a pass over a base that fills the arrays of its levels, or changes what is in them."""
        levels = {index: Access.of(array, in_use=selection is not None) for index, array in arrays.items()}
        stored = base if isinstance(base, Access) and pass_.source == 0 else None
        values = 0 in pass_.levels and not plan.reduction.makes_base
        copies = stored if stored and values and levels[0].copies_from(stored) else None
        # What becomes of a window of fill is known beforehand, unless it is a matter of weights or of neighbours.
        known = stored is not None and weights is None and not plan.reduction.makes_base
        blanks = _blank_states(plan, cast("Access", stored)) if known else {}
        # What became blank by a change has left something behind in the levels.
        keeps_blank = known and selection is None and _keeps_blank(plan, pass_, cast("Access", stored), levels)
        return cls(plan, pass_, base, levels, copies, blanks, weights, keeps_blank, selection)

    def sent(self) -> BoundPass:
        """Return the pass as workers elsewhere get it: what is computed goes with every task (`values_of`)."""
        return self.given(None) if self._computes else self

    def values_of(self, region: Box) -> da.Array | None:
        """Return the values of the base that a region needs, where they are computed; None where they are read."""
        if not self._computes or self.pass_.source != 0:
            return None
        return cast("ArrayBase", self._source).lazy(known_parts(self.plan, self.pass_, region)[0])

    @property
    def _source(self) -> Base:
        return self.base.base if isinstance(self.base, CastBase) else self.base

    @property
    def _computes(self) -> bool:
        return isinstance(self._source, ArrayBase) and self._source.is_lazy

    def given(self, block: Block | None) -> BoundPass:
        """Return the pass as it builds one region from these values, None where they go with every task."""
        values = BlockBase(block)
        return replace(self, base=replace(self.base, base=values) if isinstance(self.base, CastBase) else values)

    @property
    def nbytes(self) -> int:
        """Bytes of the source, uncompressed: what progress is counted in."""
        selected = self.selection
        samples = math.prod(self.plan.levels[self.pass_.source].shape) if selected is None else selected.samples
        return samples * self.plan.dtype.itemsize

    @property
    def region_count(self) -> int:
        """Number of regions."""
        if self.selection is not None:
            return self.selection.count
        return math.prod(grid_shape(self.plan.levels[self.pass_.source].shape, self.pass_.region))

    def region_nbytes(self, region: Box) -> int:
        """Bytes of a region's source, uncompressed."""
        return size_of(region) * self.plan.dtype.itemsize

    def regions(self) -> Iterator[Box]:
        """Yield the regions of the source, one at a time."""
        if self.selection is not None:
            return self.selection.regions()
        return pieces(whole_box(self.plan.levels[self.pass_.source].shape), self.pass_.region)

    @cached_property
    def near(self) -> tuple[int, ...]:
        """Levels that are made and written cell by cell, of a plain base; none where a region is one cell."""
        plan, pass_ = self.plan, self.pass_
        direct = tuple(index for index in pass_.levels if index and plan.levels[index].parent == 0)
        plain = isinstance(self.base, Access) and self.base.chunks is not None and pass_.source == 0
        whole = self.selection is not None or any(index in pass_.carried for index in direct)
        reaches = plan.reduction.makes_base or any(any(plan.halos(index)) for index in pass_.levels if index)
        local = all(self.levels[index].chunks is not None for index in direct)
        return direct if plain and local and not (whole or reaches) and cell_shape(plan, pass_, direct) else ()

    @cached_property
    def cell(self) -> tuple[int, ...] | None:
        """Shape of the parts in which a region's levels stay in cache; None where it is one part."""
        return cell_shape(self.plan, self.pass_, self.near) if self.near else None

    @property
    def cell_count(self) -> int:
        """Number of parts that may be built side by side."""
        if self.cell is None:
            return self.region_count
        return math.prod(grid_shape(self.plan.levels[0].shape, self.cell))

    def cells(self, region: Box) -> Iterator[Box]:
        """Return a region in its cells, whole chunks of the base and of the levels `near`."""
        return iter((region,)) if self.cell is None else pieces(region, self.cell)

    def written(self, region: Box) -> dict[int, Box]:
        """Return the part of each level that a region writes."""
        if self.selection is not None:
            return self.selection.written(region)
        parts = {index: part_of_level(self.plan, index, self.pass_.source, region) for index in self.pass_.written}
        return {index: part for index, part in parts.items() if not is_empty(part)}


def reduce_region(bound: BoundPass, carried: Mapping[int, Access], region: Box) -> bool:
    """Build what a region contributes to every level of a pass.

    Returns whether it is known that all of the `last_part` is stored, which is written when all else is.
    """
    plan, pass_ = bound.plan, bound.pass_
    known = known_parts(plan, pass_, region)
    if bound.keeps_blank and cast("Access", bound.base).is_blank(known[0]):
        return False
    if pass_.source == 0:
        states = _states_of_base(bound, region, known)
    else:
        states = {pass_.source: _source_state(bound, carried, known[pass_.source])}
    for index in pass_.levels:
        parent = plan.levels[index].parent
        if parent in states and index not in states and not is_empty(known[index]):
            states[index] = plan.reduction.merge(*_windows(plan, index, known[index], states[parent], known[parent]))
    last_is_stored = False
    for index, part in bound.written(region).items():
        if index in states:
            state = _state_of_values(plan, index, part, states, known)
            last_is_stored = bound.levels[index].write(part, plan.reduction.finish(state, plan.counts(index, part)))
    for index in pass_.carried:
        part = part_of_level(plan, index, pass_.source, region)
        if index in carried and not is_empty(part):
            state = states[index][within(part, known[index])]
            last_is_stored = carried[index].write((slice(0, plan.reduction.components), *part), state)
    return last_is_stored


def last_part(bound: BoundPass, carried: Mapping[int, Access], region: Box) -> tuple[Access, Box] | None:
    """Return where `reduce_region` writes last for a region; None where it writes nothing but level 0."""
    plan, pass_ = bound.plan, bound.pass_
    for index in reversed(pass_.carried):
        part = part_of_level(plan, index, pass_.source, region)
        if index in carried and not is_empty(part):
            return carried[index], (slice(0, plan.reduction.components), *part)
    for index in reversed(pass_.written):
        part = part_of_level(plan, index, pass_.source, region)
        if (index or plan.reduction.makes_base) and not is_empty(part):
            return bound.levels[index], part
    return None


def _state_of_values(plan: Plan, index: int, part: Box, states: Mapping[int, Block], known: Mapping[int, Box]) -> Block:
    """Return the state of the values of a level's part, from its own and the next level's if that is known."""
    state: Block = states[index][within(part, known[index])]
    coarser = index + 1
    if coarser not in states:
        return state
    factors = plan.relative_factors(coarser, index)
    pairs = zip(part, known[coarser], factors, strict=True)
    offsets = [along.start - held.start * factor for along, held, factor in pairs]
    return plan.reduction.relative(state, states[coarser], factors, offsets)


def _windows(
    plan: Plan, index: int, part: Box, block: Block, held: Box
) -> tuple[Block, tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Return the arguments that reduce a block, the part `held` of its parent, to a part of a level.

    The block is cut to what the windows of the part depend on.
    """
    parent = plan.levels[index].parent
    factors = plan.relative_factors(index, parent)
    inside, margins = windows_under(part, factors, plan.halos(index), plan.levels[parent].shape)
    return block[within(inside, held)], factors, margins


def _source_state(bound: BoundPass, carried: Mapping[int, Access], part: Box) -> Block:
    source = bound.pass_.source
    if source in carried:
        return carried[source].read((slice(0, bound.plan.reduction.components), *part))
    return bound.levels[source].read(part)


def _states_of_base(bound: BoundPass, region: Box, known: Mapping[int, Box]) -> dict[int, Block]:
    """Return the states of levels that follow from the base: of those that are `near`, written here, the next ones."""
    if not bound.near:
        return _base_states(bound, region, known)
    reduction, levels = bound.plan.reduction, bound.plan.levels
    layers = (reduction.components,) if reduction.components else ()
    # In this thread's memory, whichever helps with the cells.
    states = {
        index: _room(index, layers, known[index], reduction.state_dtype)
        for index in bound.pass_.levels
        if levels[index].parent in bound.near and not is_empty(known[index])
    }
    spread(partial(_build_cell, bound, known, states), bound.cells(region))
    return states


def _build_cell(bound: BoundPass, known: Mapping[int, Box], states: Mapping[int, Block], cell: Box) -> None:
    """Write the levels that are `near` of one cell, and put its states of the next ones in their places."""
    plan = bound.plan
    parts = {index: part_of_level(plan, index, 0, cell) for index in (0, *bound.near, *states)}
    of_cell = _base_states(bound, cell, parts)
    for index, state in of_cell.items():
        bound.levels[index].write(parts[index], plan.reduction.finish(state, plan.counts(index, parts[index])))
    for index, whole in states.items():
        if not is_empty(parts[index]):
            parent = plan.levels[index].parent
            state = plan.reduction.merge(*_windows(plan, index, parts[index], of_cell[parent], parts[parent]))
            whole[within(parts[index], known[index])] = state


def _room(index: int, layers: tuple[int, ...], whole: Box, dtype: np.dtype[Any]) -> Block:
    """Return room for the state of a part of a level, in memory of this thread that is used again."""
    return buffer(f"state {index}", (*layers, *shape_of(whole)), dtype)


def _base_states(bound: BoundPass, region: Box, known: Mapping[int, Box]) -> dict[int, Block]:
    """Write level 0 where it is to be written, and return the states of the levels that follow from it."""
    plan = bound.plan
    direct = [index for index in bound.pass_.levels if index and plan.levels[index].parent == 0]
    writes = 0 in bound.pass_.levels and bound.copies is None and not plan.reduction.makes_base
    if bound.copies is not None:
        bound.levels[0].copy(bound.copies, region)
    states: dict[int, Block] = {}
    part = bound.written(region).get(0) if writes else None
    for tile, block in _tiles_of_base(bound, region, known[0], direct, writes=part is not None):
        if part is not None and not is_empty(inside := overlap(part, tile)):
            bound.levels[0].write(inside, _values(bound, tile, block)[within(inside, tile)])
        if plan.reduction.makes_base:
            states[0] = plan.reduction.lift(_values(bound, tile, block))
        for index in direct:
            _reduce_tile(bound, index, known, tile, block, states)
    return states


def _tiles_of_base(
    bound: BoundPass, region: Box, known: Box, direct: Sequence[int], *, writes: bool
) -> Iterator[tuple[Box, Block | None]]:
    """Yield what is known of the base in tiles: whole windows, and whole chunks of level 0 where it is written.

    As one tile where values depend on samples beyond their windows.
    """
    plan = bound.plan
    if plan.reduction.makes_base or any(halo for index in direct for halo in plan.halos(index)):
        block = bound.base.read(known)
        # Where it is not known what becomes of fill, it is as good as any other values.
        is_fill = bool(bound.blanks) and cast("Access", bound.base).is_fill(block)
        yield known, None if is_fill else block
    elif direct or writes:
        wholes = [plan.levels[index].factors for index in direct] + ([bound.levels[0].unit] if writes else [])
        yield from bound.base.tiles(region, [math.lcm(*along) for along in zip(*wholes, strict=True)])


def _reduce_tile(
    bound: BoundPass, index: int, known: Mapping[int, Box], tile: Box, block: Block | None, states: dict[int, Block]
) -> None:
    """Reduce one tile of what is known of the base into its place in the state of a level."""
    plan = bound.plan
    part = known[index] if tile == known[0] else part_of_level(plan, index, 0, tile)
    if is_empty(part):
        return
    if block is None and index in bound.blanks and _is_whole(tile, part, plan.levels[index].factors):
        state = bound.blanks[index]
    else:
        block = _values(bound, tile, block)
        block = block if bound.weights is None else _weighed(bound, block, tile)
        state = plan.reduction.first(*_windows(plan, index, part, block, tile))
    if part == known[index] and block is not None:
        states[index] = state
        return
    if index not in states:
        states[index] = _room(index, state.shape[: state.ndim - len(part)], known[index], state.dtype)
    states[index][within(part, known[index])] = state


def _weighed(bound: BoundPass, block: Block, tile: Box) -> Block:
    weights = cast("ArrayBase", bound.weights)
    # Along axes that weights do not have there is one for all.
    along = tuple(at if n > 1 else slice(0, 1) for at, n in zip(tile, weights.data.shape, strict=True))
    return cast("WeightedReduction", bound.plan.reduction).weigh(block, weights.read(along))


def _values(bound: BoundPass, tile: Box, block: Block | None) -> Block:
    """Return the values of a tile, of which None stands for fill."""
    return filled(cast("Access", bound.base), tile) if block is None else block


def _blank_states(plan: Plan, base: Access) -> dict[int, Block]:
    """Return the state of a whole window of fill for each level that is reduced from the base."""
    direct = [level for level in plan.levels[1:] if level.parent == 0]
    return {lv.index: plan.reduction.first(np.full(lv.factors, base.fill), lv.factors) for lv in direct}


def _keeps_blank(plan: Plan, pass_: Pass, base: Access, levels: Mapping[int, Access]) -> bool:
    """Whether windows of nothing but fill, whole or partial, leave nothing to be stored."""
    one = (1,) * len(plan.dims)
    windows = {plan.levels[index].factors for index in pass_.levels if index} | {one}
    return all(
        _is_kept(plan, pass_, levels, window, plan.reduction.first(np.full(window, base.fill), window))
        for window in windows
    ) and (0 not in pass_.levels or _same_fill(levels[0], base.fill))


def _is_kept(plan: Plan, pass_: Pass, levels: Mapping[int, Access], window: tuple[int, ...], state: Block) -> bool:
    value = plan.reduction.finish(state, tuple(np.array([length]) for length in window))
    carries = bool(pass_.carried) and plan.reduction.components > 0
    # The states that are carried are stored with a fill of 0.
    kept = not (carries and state.any())
    return kept and all(_same_fill(levels[index], value.reshape(-1)[0]) for index in pass_.levels if index)


def _same_fill(level: Access, value: Any) -> bool:
    if level.array.fill_value is None:
        return False
    fill = level.array.dtype.type(level.array.fill_value)
    return bool(fill.tobytes() == np.asarray(value, level.array.dtype).tobytes())


def _is_whole(tile: Box, part: Box, factors: Sequence[int]) -> bool:
    """Whether a tile has all samples of the windows of `part`, or more."""
    pairs = zip(tile, part, factors, strict=True)
    return all(along.stop - along.start >= (windows.stop - windows.start) * f for along, windows, f in pairs)
