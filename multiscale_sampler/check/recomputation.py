"""Levels computed again from level 0 by the recipe in the metadata, region by region, to compare them bit by bit.

Only pyramids of this package have such a recipe. The states of all levels are reduced from the base in one region, as
in a build, so that values are equal to the last bit; floats that depend on the order of a sum may differ by the units
in the last place that the row of the method states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..image.boxes import Block, Box, is_empty, size_of, within
from ..image.dataarray import image_axes
from ..messages import shape_text
from ..methods.reducers import REDUCERS
from ..plan.options import StorageOptions
from ..plan.parts import known_parts, part_of_level, windows_under
from ..plan.plan import Pass, Plan
from ..plan.planning import plan_image
from ..store import StoredPyramid


@dataclass(frozen=True)
class Recomputation:
    """How the levels of a pyramid are computed again."""

    plan: Plan
    """The plan of the recipe; its level 0 is the stored one."""
    levels: tuple[int, ...] = ()
    """The levels to compute, each after its parent."""
    in_small_steps: bool = False
    """Whether windows are reduced by one prime factor after the other, as if there had been a level for each."""

    @classmethod
    def of_store(cls, stored: StoredPyramid) -> Recomputation | None:
        """Return how the recipe in the metadata computes the levels; None if there is none, or none that is complete.

        A recipe is incomplete where a function of the user, weights, or several methods made the levels.
        """
        recipe = stored.recipe or {}
        if recipe.get("method") not in REDUCERS or REDUCERS[recipe["method"]].bands:
            return None
        image = stored.unlabelled
        try:
            plan = plan_image(image, image_axes(image), stored.recipe_options(), StorageOptions(workers=1))
        except (ValueError, TypeError):
            # Another version's options, or metadata that were changed by hand.
            return None
        return cls(plan)

    def limited_to(self, levels: Sequence[int]) -> Recomputation:
        """Return the computation of some levels and of those that they are reduced from."""
        needed: set[int] = set()
        for level in levels:
            while level and level not in needed:
                needed.add(level)
                level = self.plan.levels[level].parent
        return replace(self, levels=tuple(sorted(needed)))

    @property
    def windows(self) -> tuple[int, ...]:
        """Voxels of level 0 along each axis that are whole windows of all levels to compute."""
        factors = [self.plan.levels[level].factors for level in (0, *self.levels)]
        return tuple(math.lcm(*along) for along in zip(*factors, strict=True))

    @property
    def itemsize(self) -> int:
        """Bytes of memory for each voxel of level 0 in a region."""
        reduction = self.plan.reduction
        return reduction.working_itemsize + max(reduction.components, 1) * reduction.state_dtype.itemsize

    @property
    def tolerance(self) -> int:
        """Units in the last place by which floats may differ."""
        return self.plan.reducer.float_ulps

    def known(self, region: Box) -> dict[int, Box]:
        """Return the parts of level 0 and of each level that the levels over a region are computed from."""
        shape = tuple(along.stop - along.start for along in region)
        return known_parts(self.plan, Pass(0, self.levels, self.levels, shape, (), 0), region)

    def part(self, level: int, region: Box) -> Box:
        """Return the part of a level that lies over a region of level 0."""
        return part_of_level(self.plan, level, 0, region)

    def needed_voxels(self, region: Sequence[int]) -> int:
        """Return the most voxels of level 0 that a region of some shape is computed from."""
        shape = self.plan.levels[0].shape
        # A region in the middle has neighbours on all sides.
        corner = [min((size // 2) // n * n, max(size - n, 0)) for size, n in zip(shape, region, strict=True)]
        box = tuple(slice(start, min(start + n, size)) for start, n, size in zip(corner, region, shape, strict=True))
        return size_of(self.known(box)[0])

    def values(self, region: Box, known: Mapping[int, Box], base: Block) -> dict[int, Block]:
        """Return the values of each level over a region from the block of level 0 that `known` names."""
        plan, reduction = self.plan, self.plan.reduction
        states: dict[int, Block] = {0: base}
        values: dict[int, Block] = {}
        for index in self.levels:
            part = self.part(index, region)
            if is_empty(part):
                continue
            parent = plan.levels[index].parent
            factors, size = plan.relative_factors(index, parent), plan.levels[parent].shape
            inside, margins = windows_under(known[index], factors, plan.halos(index), size)
            state, is_base = states[parent][within(inside, known[parent])], parent == 0
            for step in _prime_steps(factors) if self.in_small_steps else [factors]:
                state, is_base = (reduction.first if is_base else reduction.merge)(state, step, margins), False
            states[index] = state
            values[index] = reduction.finish(states[index][within(part, known[index])], plan.counts(index, part))
        return values

    @cached_property
    def other_orders(self) -> tuple[Recomputation, ...]:
        """The same levels with sums of floats added up in other orders, as where levels were removed or rebuilt.

        Each level from level 0 directly, as if it had been the only one; and in small steps, as if there had been more.
        None where the order makes no difference.
        """
        reduction = self.plan.reduction
        if self.plan.reducer.cascade != "exact" or not reduction.components or not self.tolerance:
            return ()
        alone = replace(self.plan, levels=tuple(replace(level, parent=0) for level in self.plan.levels))
        return replace(self, plan=alone), replace(self, in_small_steps=True)

    def fits(self, stored: StoredPyramid) -> bool:
        """Whether the stored levels have the number, shapes and dtypes that the recipe gives."""
        planned = [(level.shape, level.dtype) for level in self.plan.levels]
        found = [(array.shape, array.dtype.newbyteorder("=")) for array in stored.arrays]
        return planned[1:] == found[1:]

    @property
    def shapes_in_words(self) -> tuple[str, ...]:
        """The shape and dtype of every level."""
        return tuple(f"{shape_text(level.shape)} of {level.dtype}" for level in self.plan.levels)

    @property
    def title(self) -> str:
        """The recipe in words."""
        plan = self.plan
        options = {
            "skipna": plan.skipna if plan.skipna is False else None,
            "nodata": plan.nodata,
            "min_valid": plan.min_valid or None,
            "boundary": plan.boundary if plan.boundary != "pad" else None,
        }
        return ", ".join(
            [plan.reducer.name, *(f"{key} {value}" for key, value in options.items() if value is not None)]
        )


def _prime_steps(factors: Sequence[int]) -> list[tuple[int, ...]]:
    """Return factors as steps of one prime factor along each axis, the smallest first."""
    steps = []
    while any(factor > 1 for factor in factors):
        step = tuple(next((p for p in range(2, factor + 1) if factor % p == 0), 1) for factor in factors)
        factors = [factor // prime for factor, prime in zip(factors, step, strict=True)]
        steps.append(step)
    return steps


def differing_values(found: Block, expected: Block, ulps: int) -> npt.NDArray[np.bool_]:
    """Return which values differ: floats by more than some units in the last place; NaN equals NaN."""
    if found.dtype.kind in "mM":
        return np.asarray(found.view(np.int64) != expected.view(np.int64))
    unequal = np.asarray(found != expected)
    if found.dtype.kind not in "fc" or not unequal.any():
        return unequal
    unequal &= ~((found != found) & (expected != expected))
    at = np.nonzero(unequal)
    unequal[at] = _distance(found[at], expected[at].astype(found.dtype)) > ulps
    return unequal


def _distance(a: Block, b: Block) -> npt.NDArray[np.uint64]:
    """Return how many floats lie between those of two arrays; of complex numbers the larger of both parts."""
    if a.dtype.kind == "c":
        return np.maximum(_distance(a.real, b.real), _distance(a.imag, b.imag))
    x, y = _ranked(a), _ranked(b)
    return np.where(x > y, x - y, y - x)


def _ranked(values: Block) -> npt.NDArray[np.uint64]:
    """Return the number of each float in the order of all floats of its dtype."""
    values = np.ascontiguousarray(values)
    sign = np.uint64(1 << (8 * values.dtype.itemsize - 1))
    bits = values.view(f"u{values.dtype.itemsize}").astype(np.uint64)
    return np.where(bits & sign, sign - (bits & ~sign), sign + bits)
