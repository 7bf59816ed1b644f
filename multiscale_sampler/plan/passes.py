"""Levels grouped into passes over a source, and the regions in which each pass reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import dask
from dask.utils import parse_bytes

from .plan import Pass, Plan

# Memory that a region needs at most: enough that few passes do, and little enough that regions keep all workers busy.
REGION_BUDGET = 128 * 2**20
# Where less is not worth a task.
DEFAULT_REGION_SIZE = 4 * 2**20


def configured_region_size() -> int:
    """Return the bytes of memory up to which regions are made larger, of Dask's configuration.

    Raises
    ------
    ValueError
        If that is not a positive amount of memory.
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
    """Return a plan whose levels are decided with the passes that build them."""
    return replace(
        plan, passes=tuple(_passes(plan, copy_base=False)), export_passes=tuple(_passes(plan, copy_base=True))
    )


def update_passes(plan: Plan, *, with_base: bool) -> tuple[Pass, ...]:
    """Return the passes that bring stored levels up to date with a base of which a part has changed.

    Where the values of a level are all that the next ones need of it, these read it as it is stored: far less
    than what the base has under their windows.
    """
    if plan.reduction.components:
        return plan.export_passes if with_base else plan.passes
    return tuple(_passes(plan, copy_base=with_base, deep=False))


def region_pass(plan: Plan, region: Sequence[int], *, copy_base: bool) -> Pass | None:
    """Return the pass that makes all levels of a single region of the base; None if that is too large for one."""
    made = tuple(range(0 if copy_base else 1, len(plan.levels)))
    nbytes = _region_nbytes(plan, 0, made, tuple(region))
    if nbytes > _region_budget(plan):
        return None
    return Pass(0, made, _written(plan, 0, made), plan.levels[0].shape, (), nbytes)


def cell_shape(plan: Plan, pass_: Pass, near: Sequence[int]) -> tuple[int, ...] | None:
    """Return a part of the regions of a pass over the base that is whole in some levels made of it.

    Whole, too, in the base's chunks, so that these are decoded once, and in the windows of levels that follow from
    these; the least part that is worth the detour. None if regions do not consist of such parts.
    """
    following = [level.factors for level in plan.levels if level.index in pass_.levels and level.parent in near]
    least = tuple(math.lcm(n, *factors) for n, *factors in zip(_region(plan, 0, near), *following, strict=True))
    for cell in (_grown(plan, 0, near, least), least):
        sizes = zip(cell, plan.source_chunks, pass_.region, plan.levels[0].shape, strict=True)
        if all((n % chunk == 0 or n >= size) and (at % n == 0 or at == size) for n, chunk, at, size in sizes):
            return cell
    return None


def _passes(plan: Plan, *, copy_base: bool, deep: bool = True) -> Iterator[Pass]:
    """Group levels into passes, each as deep as its region stays near the target size, or only as deep as one level."""
    todo = list(range(0 if copy_base else 1, len(plan.levels)))
    while todo:
        first = todo[0]
        source = plan.levels[first].parent
        chosen = [first]
        for index in todo[1:]:
            if plan.levels[index].parent not in ((source, *chosen) if deep else (source,)):
                continue
            region = _region(plan, source, [*chosen, index])
            # A level of the base joins as long as there is memory, so that the base is decoded once.
            from_base = plan.levels[index].parent == source == 0
            budget = plan.memory_limit // plan.workers if from_base else _region_budget(plan)
            if _region_nbytes(plan, source, [*chosen, index], region) > budget:
                break
            chosen.append(index)
        todo = [index for index in todo if index not in chosen]
        region = _grown(plan, source, chosen, _region(plan, source, chosen))
        carried = tuple(i for i in chosen if i and any(plan.levels[later].parent == i for later in todo))
        nbytes = _region_nbytes(plan, source, chosen, region)
        yield Pass(source, tuple(chosen), _written(plan, source, chosen), region, carried, nbytes)


def _written(plan: Plan, source: int, made: Sequence[int]) -> tuple[int, ...]:
    """Return which levels a pass writes that makes some from a source."""
    return plan.reduction.finished_levels(source, made, len(plan.levels))


def _region_budget(plan: Plan) -> int:
    """Return the memory that a region should need at most."""
    return min(max(REGION_BUDGET, plan.region_size), plan.memory_limit // plan.workers)


def _region(plan: Plan, source: int, levels: Sequence[int]) -> tuple[int, ...]:
    """Return the least region that is whole in the source and in every level it produces."""
    shape = plan.levels[source].shape
    written = [1] * len(shape)
    for index in {*levels, *_written(plan, source, levels)}:
        level = plan.levels[index]
        grid = level.shards or level.chunks
        relative = plan.relative_factors(index, source)
        for axis, (unit, factor, size) in enumerate(zip(grid, relative, level.shape, strict=True)):
            # A single chunk needs the whole axis, whatever its clamped size.
            span = shape[axis] if unit >= size else unit * factor
            written[axis] = min(math.lcm(written[axis], span), shape[axis])
    read = plan.source_chunks if source == 0 else _source_grid(plan, source)
    both = tuple(min(math.lcm(w, r), n) for w, r, n in zip(written, read, shape, strict=True))
    if _region_nbytes(plan, source, levels, both) <= _region_budget(plan):
        return both
    return tuple(written)


def _source_grid(plan: Plan, source: int) -> tuple[int, ...]:
    level = plan.levels[source]
    return level.shards or level.chunks


def _grown(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> tuple[int, ...]:
    """Return a multiple of the region, large enough that it is worth a task."""
    shape = plan.levels[source].shape
    grown = list(region)
    for axis in reversed(range(len(shape))):
        while grown[axis] < shape[axis]:
            larger = [*grown[:axis], min(2 * grown[axis], shape[axis]), *grown[axis + 1 :]]
            if _region_nbytes(plan, source, levels, tuple(larger)) > min(plan.region_size, _region_budget(plan)):
                break
            grown = larger
    return tuple(grown)


def _region_nbytes(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> int:
    """Return the memory of one region at its peak: its block (as read and as reduced), states and levels."""
    reduction = plan.reduction
    state = max(reduction.components, 1) * reduction.state_dtype.itemsize
    spans = _spans(plan, source, levels, region)
    itemsize = plan.dtype.itemsize + reduction.working_itemsize if source == 0 else 2 * state
    total = math.prod(spans[source]) * itemsize
    for index in levels:
        total += math.prod(spans[index]) * (plan.levels[index].dtype.itemsize + state) if index else 0
    return total + math.prod(spans[source]) * reduction.relative_itemsize


def _spans(plan: Plan, source: int, levels: Sequence[int], region: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """Return the shape of what a region must know of its source and of every level, halos included."""
    spans = {source: region}
    for index in levels:
        relative = plan.relative_factors(index, source)
        beyond = plan.reduction.coarser_neighbours if index != source else 0
        spans[index] = tuple(-(-n // f) + beyond for n, f in zip(region, relative, strict=True))
    for index in reversed(levels):
        parent = plan.levels[index].parent
        if index and parent in spans:
            factors, sizes = plan.relative_factors(index, parent), plan.levels[parent].shape
            reach = zip(spans[index], factors, plan.halos(index), sizes, strict=True)
            needed = [min(n * factor + 2 * halo, size) for n, factor, halo, size in reach]
            spans[parent] = tuple(map(max, spans[parent], needed))
    return spans
