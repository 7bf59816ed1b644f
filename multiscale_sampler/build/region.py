"""`reduce_region`: read one region of a pass, reduce it through the levels of the pass, and write its part of each.

Regions consist of whole chunks of the arrays that they write, so that no chunk has two writers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import numpy as np

from ..image.boxes import Block, Box, Margins, corner_of, is_empty, overlap, shape_of, within
from ..methods import WeightedReduction
from ..plan.parts import known_parts, part_of_level, windows_under
from ..plan.plan import Plan
from ..store.chunks import buffer
from ..tasks.threads import spread
from .passes import BoundPass, Output
from .sources import filled


def reduce_region(bound: BoundPass, region: Box) -> bool:
    """Read what a region needs, reduce it through the levels of the pass, and write its part of each.

    Returns whether the last of its outputs, which is written after everything else, is known to be stored.
    """
    plan, pass_ = bound.plan, bound.pass_
    known = known_parts(plan, pass_, region)
    if pass_.source == 0 and bound.leaves_nothing(known[0]):
        return False
    states = _states_of_base(bound, region, known) if pass_.source == 0 else _states_of_level(bound, known)
    for index in pass_.levels:
        parent = plan.levels[index].parent
        if parent in states and index not in states and not is_empty(known[index]):
            states[index] = plan.reduction.merge(*_windows(plan, index, known[index], states[parent], known[parent]))
    last_is_stored = False
    for output in bound.outputs(region):
        last_is_stored = output.access.write(output.box, _values_of(output, plan, states, known))
    return last_is_stored


def _states_of_level(bound: BoundPass, known: Mapping[int, Box]) -> dict[int, Block]:
    """Read the state of the level that is the pass's source."""
    source = bound.pass_.source
    layers = (slice(0, bound.plan.reduction.components),) if source in bound.carried else ()
    return {source: bound.source.read((*layers, *known[source]))}


def _states_of_base(bound: BoundPass, region: Box, known: Mapping[int, Box]) -> dict[int, Block]:
    """Return the states of the levels computed from the base; levels that are `near` are written, and not returned."""
    if not bound.near:
        return _reduced_base(bound, region, known)
    reduction, levels = bound.plan.reduction, bound.plan.levels
    layers = (reduction.components,) if reduction.components else ()
    # Allocated by this thread, also for cells that other threads compute.
    states = {
        index: _state_buffer(index, layers, known[index], reduction.state_dtype)
        for index in bound.pass_.levels
        if levels[index].parent in bound.near and not is_empty(known[index])
    }
    spread(partial(_build_cell, bound, known, states), bound.cells(region))
    return states


def _build_cell(bound: BoundPass, known: Mapping[int, Box], states: Mapping[int, Block], cell: Box) -> None:
    """Write the levels that are `near` for one cell, and copy its part of the next levels' states to `states`."""
    plan = bound.plan
    parts = {index: part_of_level(plan, index, 0, cell) for index in (0, *bound.near, *states)}
    of_cell = _reduced_base(bound, cell, parts)
    for index, state in of_cell.items():
        bound.levels[index].write(parts[index], plan.reduction.finish(state, plan.counts(index, parts[index])))
    for index, whole in states.items():
        if not is_empty(parts[index]):
            parent = plan.levels[index].parent
            state = plan.reduction.merge(*_windows(plan, index, parts[index], of_cell[parent], parts[parent]))
            whole[within(parts[index], known[index])] = state


def _reduced_base(bound: BoundPass, region: Box, known: Mapping[int, Box]) -> dict[int, Block]:
    """Write level 0 if the pass does, and return the states of the levels that are reduced from it."""
    plan = bound.plan
    if bound.copies is not None:
        # Where no level is reduced from them, nothing else would decode the chunks.
        bound.levels[0].copy(bound.copies, region, decoded=not bound.direct)
    states: dict[int, Block] = {}
    part = bound.written(region).get(0) if bound.writes_base else None
    for tile, block in _tiles_of_base(bound, region, known[0], writes=part is not None):
        if part is not None and not is_empty(inside := overlap(part, tile)):
            bound.levels[0].write(inside, _values_of_tile(bound, tile, block)[within(inside, tile)])
        if plan.reduction.makes_base:
            states[0] = plan.reduction.lift(_values_of_tile(bound, tile, block))
        for index in bound.direct:
            _reduce_tile(bound, index, known, tile, block, states)
    return states


def _tiles_of_base(bound: BoundPass, region: Box, known: Box, *, writes: bool) -> Iterator[tuple[Box, Block | None]]:
    """Yield the values of a region in tiles of whole windows, and of whole chunks of level 0 if it is written.

    If values depend on samples outside of their windows, all of `known` is one tile.
    """
    plan = bound.plan
    if plan.reduction.makes_base or any(halo for index in bound.direct for halo in plan.halos(index)):
        yield from bound.base.tiles(known, None)
    elif bound.direct or writes:
        units = [plan.levels[index].factors for index in bound.direct] + ([bound.levels[0].unit] if writes else [])
        yield from bound.base.tiles(region, [math.lcm(*along) for along in zip(*units, strict=True)])


def _reduce_tile(
    bound: BoundPass, index: int, known: Mapping[int, Box], tile: Box, block: Block | None, states: dict[int, Block]
) -> None:
    """Reduce one tile of the base, and copy the result to its place in the state of a level."""
    plan = bound.plan
    part = known[index] if tile == known[0] else part_of_level(plan, index, 0, tile)
    if is_empty(part):
        return
    blank = bound.blanks.state(index, tile, part, plan.levels[index].factors) if block is None else None
    if blank is not None:
        state = blank
    else:
        values = _values_of_tile(bound, tile, block)
        if bound.weights is not None:
            values = cast("WeightedReduction", plan.reduction).weigh(values, bound.weights.read(tile))
        state = plan.reduction.first(*_windows(plan, index, part, values, tile))
        if part == known[index]:
            states[index] = state
            return
    if index not in states:
        states[index] = _state_buffer(index, state.shape[: state.ndim - len(part)], known[index], state.dtype)
    states[index][within(part, known[index])] = state


def _state_buffer(index: int, layers: tuple[int, ...], whole: Box, dtype: np.dtype[Any]) -> Block:
    """Return an uninitialized array for the state of a part of a level, in memory that this thread reuses."""
    return buffer(f"state {index}", (*layers, *shape_of(whole)), dtype)


def _values_of_tile(bound: BoundPass, tile: Box, block: Block | None) -> Block:
    return filled(bound.base, tile) if block is None else block


def _windows(plan: Plan, index: int, part: Box, block: Block, block_box: Box) -> tuple[Block, tuple[int, ...], Margins]:
    """Return the arguments that reduce a block to a part of a level; `block_box` is the block's box in the parent.

    The block is cut to the samples that the windows of the part depend on.
    """
    parent = plan.levels[index].parent
    factors = plan.relative_factors(index, parent)
    inside, margins = windows_under(part, factors, plan.halos(index), plan.levels[parent].shape)
    return block[within(inside, block_box)], factors, margins


def _values_of(output: Output, plan: Plan, states: Mapping[int, Block], known: Mapping[int, Box]) -> Block:
    """Return the values of an output: a state, or the values of its level."""
    index, part = output.level, output.part
    state: Block = states[index][within(part, known[index])]
    if output.is_state:
        return state
    coarser = index + 1
    if coarser in states:
        factors = plan.relative_factors(coarser, index)
        corners = zip(corner_of(part), corner_of(known[coarser]), factors, strict=True)
        offsets = [start - coarse * factor for start, coarse, factor in corners]
        state = plan.reduction.relative(state, states[coarser], factors, offsets)
    return plan.reduction.finish(state, plan.counts(index, part))
