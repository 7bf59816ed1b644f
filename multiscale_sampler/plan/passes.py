"""The passes that compute the levels of a plan, and the shape of their regions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import dask
from dask.utils import parse_bytes

from .plan import Pass, Plan

# Most memory of a region: large enough for few passes, and small enough that there is a region for every worker.
REGION_BUDGET = 128 * 2**20
# Smaller regions are not worth the overhead of a task.
DEFAULT_REGION_SIZE = 4 * 2**20


def configured_region_size() -> int:
    """Return the bytes of memory up to which regions are enlarged, from Dask's configuration.

    Raises
    ------
    ValueError
        If the configured value is not a positive amount of memory.
    """
    configured = dask.config.get("multiscale_sampler.region_size", DEFAULT_REGION_SIZE)
    try:
        size = int(parse_bytes(str(configured)))
    except ValueError:
        size = 0
    if size < 1:
        raise ValueError(
            f"Dask's configuration has multiscale_sampler.region_size={configured!r}, which is not a positive amount "
            "of memory; set it as in '16MiB'"
        )
    return size


def with_passes(plan: Plan) -> Plan:
    """Return a plan, which has levels but no passes, with its passes."""
    return replace(
        plan,
        passes=tuple(_group_levels(plan, copy_base=False)),
        export_passes=tuple(_group_levels(plan, copy_base=True)),
    )


def update_passes(plan: Plan, *, with_base: bool) -> tuple[Pass, ...]:
    """Return the passes that update stored levels after a part of the base has changed.

    If the state of a level is the level itself, coarser levels are computed from the stored level, which is much
    smaller than the base.
    """
    if plan.reduction.components:
        return plan.export_passes if with_base else plan.passes
    return tuple(_group_levels(plan, copy_base=with_base, deep=False))


def region_pass(plan: Plan, region: Sequence[int], *, copy_base: bool) -> Pass | None:
    """Return the pass that computes all levels under one region of the base, or None if that needs too much memory."""
    computed = tuple(range(0 if copy_base else 1, len(plan.levels)))
    nbytes = _region_nbytes(plan, 0, computed, tuple(region))
    if nbytes > _region_budget(plan):
        return None
    return Pass(0, computed, _written_levels(plan, 0, computed), plan.levels[0].shape, (), nbytes)


def cell_shape(plan: Plan, pass_: Pass, near: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape of a cell: a part of a region of a pass over the base, with whole chunks of the levels `near`.

    A cell also has whole chunks of the base, so that these are decoded once, and whole windows of the levels that are
    computed from `near`. It is enlarged to a size that is worth a task, if regions consist of such cells. None if
    regions do not consist of cells.
    """
    following = [level.factors for level in plan.levels if level.index in pass_.levels and level.parent in near]
    smallest = tuple(
        math.lcm(n, *factors) for n, *factors in zip(_smallest_region(plan, 0, near), *following, strict=True)
    )
    for cell in (_enlarged(plan, 0, near, smallest), smallest):
        sizes = zip(cell, plan.source_chunks, pass_.region, plan.levels[0].shape, strict=True)
        if all((n % chunk == 0 or n >= size) and (span % n == 0 or span == size) for n, chunk, span, size in sizes):
            return cell
    return None


def _group_levels(plan: Plan, *, copy_base: bool, deep: bool = True) -> Iterator[Pass]:
    """Group levels into passes, with as many levels in each as memory allows.

    Only if `deep`, a pass also computes levels from levels that it has computed itself.
    """
    todo = list(range(0 if copy_base else 1, len(plan.levels)))
    while todo:
        first = todo[0]
        source = plan.levels[first].parent
        chosen = [first]
        for index in todo[1:]:
            if plan.levels[index].parent not in ((source, *chosen) if deep else (source,)):
                continue
            region = _smallest_region(plan, source, [*chosen, index])
            # Levels that are computed from the base may use all memory, so that the base is decoded only once.
            from_base = plan.levels[index].parent == source == 0
            budget = plan.memory_limit // plan.workers if from_base else _region_budget(plan)
            if _region_nbytes(plan, source, [*chosen, index], region) > budget:
                break
            chosen.append(index)
        todo = [index for index in todo if index not in chosen]
        region = _enlarged(plan, source, chosen, _smallest_region(plan, source, chosen))
        carried = tuple(i for i in chosen if i and any(plan.levels[later].parent == i for later in todo))
        nbytes = _region_nbytes(plan, source, chosen, region)
        yield Pass(source, tuple(chosen), _written_levels(plan, source, chosen), region, carried, nbytes)


def _written_levels(plan: Plan, source: int, computed: Sequence[int]) -> tuple[int, ...]:
    """Return the levels that a pass writes, from those that it computes."""
    return plan.reduction.finished_levels(source, computed, len(plan.levels))


def _region_budget(plan: Plan) -> int:
    """Return the most memory that a region should need, in bytes."""
    return min(max(REGION_BUDGET, plan.region_size), plan.memory_limit // plan.workers)


def _smallest_region(plan: Plan, source: int, levels: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest region with whole chunks of the written levels, and of the source if memory allows."""
    shape = plan.levels[source].shape
    written = [1] * len(shape)
    for index in {*levels, *_written_levels(plan, source, levels)}:
        level = plan.levels[index]
        grid = level.shards or level.chunks
        relative = plan.relative_factors(index, source)
        for axis, (unit, factor, size) in enumerate(zip(grid, relative, level.shape, strict=True)):
            # A single chunk covers the whole axis, also where its length was clamped.
            span = shape[axis] if unit >= size else unit * factor
            written[axis] = min(math.lcm(written[axis], span), shape[axis])
    if plan.mask is not None:
        # Every channel is read with its mask, and the mask once.
        written[plan.mask.axis] = shape[plan.mask.axis]
    read = plan.source_chunks if source == 0 else _source_grid(plan, source)
    both = tuple(min(math.lcm(w, r), n) for w, r, n in zip(written, read, shape, strict=True))
    if _region_nbytes(plan, source, levels, both) <= _region_budget(plan):
        return both
    return tuple(written)


def _source_grid(plan: Plan, source: int) -> tuple[int, ...]:
    level = plan.levels[source]
    return level.shards or level.chunks


def _enlarged(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> tuple[int, ...]:
    """Return the region, doubled along axes until it is worth a task."""
    shape = plan.levels[source].shape
    enlarged = list(region)
    for axis in reversed(range(len(shape))):
        while enlarged[axis] < shape[axis]:
            larger = [*enlarged[:axis], min(2 * enlarged[axis], shape[axis]), *enlarged[axis + 1 :]]
            if _region_nbytes(plan, source, levels, tuple(larger)) > min(plan.region_size, _region_budget(plan)):
                break
            enlarged = larger
    return tuple(enlarged)


def _region_nbytes(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> int:
    """Return the peak memory of one region in bytes: its block, as read and as kernels take it, states and levels."""
    reduction = plan.reduction
    state = max(reduction.components, 1) * reduction.state_dtype.itemsize
    shapes = _needed_shapes(plan, source, levels, region)
    itemsize = plan.dtype.itemsize + reduction.working_itemsize if source == 0 else 2 * state
    total = math.prod(shapes[source]) * itemsize
    for index in levels:
        total += math.prod(shapes[index]) * (plan.levels[index].dtype.itemsize + state) if index else 0
    return total + math.prod(shapes[source]) * reduction.relative_itemsize


def _needed_shapes(
    plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]
) -> dict[int, tuple[int, ...]]:
    """Return the shape of the parts of the source and of every level that a region needs, including halos."""
    shapes = {source: region}
    for index in levels:
        relative = plan.relative_factors(index, source)
        neighbours = plan.reduction.coarser_neighbours if index != source else 0
        shapes[index] = tuple(-(-n // f) + neighbours for n, f in zip(region, relative, strict=True))
    for index in reversed(levels):
        parent = plan.levels[index].parent
        if index and parent in shapes:
            factors, sizes = plan.relative_factors(index, parent), plan.levels[parent].shape
            reach = zip(shapes[index], factors, plan.halos(index), sizes, strict=True)
            needed = [min(n * factor + 2 * halo, size) for n, factor, halo, size in reach]
            shapes[parent] = tuple(map(max, shapes[parent], needed))
    return shapes
