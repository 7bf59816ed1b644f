"""`Blanks`: the values of windows without stored chunks, computed once per pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image.boxes import Block, Box, refined, shape_of
from ..plan.plan import Pass, Plan
from ..store.chunks import Access


@dataclass(frozen=True)
class Blanks:
    """The result of reducing windows that contain only the base's fill value."""

    states: Mapping[int, Block]
    """The state of a whole window, by level, for levels that are reduced from the base; empty if unknown."""
    leave_nothing: bool
    """Whether such windows, whole or partial, give only fill values, so that no chunk is stored."""

    @classmethod
    def of(cls, plan: Plan, pass_: Pass, fill: Any, levels: Mapping[int, Access]) -> Blanks:
        """Return the blanks of a pass over the base; `fill` is None if they cannot be known beforehand."""
        if fill is None:
            return cls({}, leave_nothing=False)
        direct = [level for level in plan.levels[1:] if level.parent == 0]
        states = {level.index: plan.reduction.first(np.full(level.factors, fill), level.factors) for level in direct}
        return cls(states, _leave_nothing(plan, pass_, fill, levels))

    def state(self, index: int, tile: Box, part: Box, factors: Sequence[int]) -> Block | None:
        """Return the state, the same for all windows, of a part of a level under a blank tile; None if unknown."""
        return self.states.get(index) if _is_whole(tile, part, factors) else None


def _leave_nothing(plan: Plan, pass_: Pass, fill: Any, levels: Mapping[int, Access]) -> bool:
    one = (1,) * len(plan.dims)
    windows = {plan.levels[index].factors for index in pass_.levels if index} | {one}
    return all(
        _leaves_nothing(plan, pass_, levels, window, plan.reduction.first(np.full(window, fill), window))
        for window in windows
    ) and (0 not in pass_.levels or _is_fill_of(levels[0], fill))


def _leaves_nothing(
    plan: Plan, pass_: Pass, levels: Mapping[int, Access], window: tuple[int, ...], state: Block
) -> bool:
    value = plan.reduction.finish(state, tuple(np.array([length]) for length in window))
    carries = bool(pass_.carried) and plan.reduction.components > 0
    # The states that are carried are stored with a fill of 0.
    if carries and state.any():
        return False
    return all(_is_fill_of(levels[index], value.reshape(-1)[0]) for index in pass_.levels if index)


def _is_fill_of(level: Access, value: Any) -> bool:
    if level.array.fill_value is None:
        return False
    fill = level.array.dtype.type(level.array.fill_value)
    return bool(fill.tobytes() == np.asarray(value, level.array.dtype).tobytes())


def _is_whole(tile: Box, part: Box, factors: Sequence[int]) -> bool:
    """Whether a tile contains all samples of the windows of `part`."""
    return all(n >= size for n, size in zip(shape_of(tile), shape_of(refined(part, factors)), strict=True))
