"""Building pyramids on disk, in passes over the data, every region of a pass a task.

Tasks need no locks and no data of each other. `build` decides what is to be built, `region` builds one region,
`tasks.threads` runs tasks, and `writing` makes stores of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .. import store as stores
from ..image.boxes import Block, Box, corner_of, grid_shape, size_of
from ..tasks.progress import Advance, ProgressCallback, reporting
from ..tasks.threads import Call, run
from .build import Arrays, Build
from .passes import BoundPass
from .region import reduce_region


@dataclass(frozen=True)
class _Context:
    """What every task of one pass is given."""

    bound: BoundPass
    journal: stores.Journal


def run_passes(build: Build, arrays: Arrays, target: stores.Target, progress: bool | ProgressCallback | None) -> None:
    """Fill the levels, pass by pass, leaving out the regions that an interrupted build has done."""
    passes = build.bound_passes(target.record, arrays)
    carried: dict[int, stores.Access] = {}
    try:
        with reporting(progress, sum(bound.nbytes for bound in passes), "building") as report:
            for number, planned in enumerate(passes):
                carried = {**carried, **_scratch(planned, target)}
                bound = replace(planned, carried=carried)
                journal = target.journal(number, bound.region_count)
                done = _done(bound, journal) if target.resumed else np.zeros(bound.region_count, np.bool_)
                calls = _calls(bound, done, report, deferred=build.crew is not None)
                context = _Context(bound.sent() if build.crew else bound, journal)
                run(build.crew, _build_region, context, calls, max(min(build.workers, bound.cell_count), 1), report)
    except BaseException as error:
        error.add_note("The build stopped here and left a store that resume=True (--resume) completes.")
        raise
    finally:
        if build.crew is None:
            stores.release_buffers()
        else:
            build.crew.everywhere(stores.release_buffers)
    target.drop_scratch()


def take_digests(
    digests: stores.Digests,
    boxes: Iterable[Box] | None,
    workers: int,
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Take the digests of the chunks that boxes of a base touch, or of all of them."""
    blocks = [(size_of(block), (block,)) for block in digests.blocks(boxes)]
    total = sum(count for count, _ in blocks)
    with reporting(progress, total, "taking digests") as report:
        run(None, stores.Digests.take, digests, blocks, workers, report)


def edited_boxes(digests: stores.Digests, workers: int) -> list[Box]:
    """Return the boxes of a base that were edited since its digests were taken."""
    found: list[Box] = []

    def look(_: None, block: Box) -> None:
        found.extend(digests.edited(block))

    run(None, look, None, ((0, (block,)) for block in digests.blocks()), workers, lambda nbytes: None)
    return sorted(found, key=corner_of)


def _calls(bound: BoundPass, done: npt.NDArray[np.bool_], report: Advance, *, deferred: bool) -> Iterator[Call]:
    """Yield the task of every region that is not done, with values that a cluster computes if they are deferred."""
    for number, region in enumerate(bound.regions()):
        nbytes = bound.region_nbytes(region)
        if done[number]:
            report(nbytes)
        elif deferred:
            yield nbytes, (number, region, bound.deferred(region))
        else:
            yield nbytes, (number, region)


def _done(bound: BoundPass, journal: stores.Journal) -> npt.NDArray[np.bool_]:
    """Return which regions an interrupted build has done, by their marks or by the last chunks that they write."""
    done = journal.done()
    # The chunks of a change were stored before it.
    if not journal.chunks_tell or bound.selection is not None:
        return done
    stored: dict[int, npt.NDArray[np.bool_]] = {}
    for number, region in enumerate(bound.regions()):
        outputs = () if done[number] else tuple(bound.outputs(region))
        if outputs:
            last = outputs[-1]
            if id(last.access) not in stored:
                stored[id(last.access)] = last.access.stored()
            done[number] = last.access.holds(stored[id(last.access)], last.box)
    return done


def _where(bound: BoundPass, number: int, region: Box) -> str:
    """Return what a message says of the region that failed."""
    made = ", ".join(map(str, bound.pass_.written))
    along = ", ".join(f"{dim} {at.start}:{at.stop}" for dim, at in zip(bound.plan.dims, region, strict=True))
    return f"It failed in region {number} ({along} of level {bound.pass_.source}), of which levels {made} are made."


def _build_region(context: _Context, number: int, region: Box, block: Block | None = None) -> None:
    """Build a region, and mark it as done when all of it is stored."""
    bound = context.bound if block is None else context.bound.with_values(block)
    try:
        all_stored = reduce_region(bound, region)
        context.journal.mark(number, chunks_tell=all_stored)
    except Exception as error:
        error.add_note(_where(bound, number, region))
        raise


def _scratch(bound: BoundPass, target: stores.Target) -> dict[int, stores.Access]:
    """Create the arrays for the states that later passes need, where the state is not the level itself."""
    reduction, created = bound.plan.reduction, {}
    for index in bound.pass_.carried if reduction.components else ():
        relative = bound.plan.relative_factors(index, bound.pass_.source)
        shape = bound.plan.levels[index].shape
        chunks = tuple(map(min, grid_shape(bound.pass_.region, relative), shape))
        layers = reduction.components
        array = target.create_scratch(index, reduction.state_dtype, (layers, *shape), (layers, *chunks))
        # Regions of a change are parts of chunks, the rest of which is read from the store.
        created[index] = stores.Access.of(array, in_use=bound.selection is not None)
    return created
