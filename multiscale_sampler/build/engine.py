"""`run_passes`: fill the levels of a pyramid, pass by pass, with one task per region.

Tasks need no locks and no data from each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from .. import store as stores
from ..image.boxes import Block, Box, corner_of, grid_shape, size_of
from ..tasks.progress import Advance, ProgressCallback, reporting
from ..tasks.threads import Call, run
from .build import Arrays, Build
from .passes import BoundPass
from .region import reduce_region
from .resuming import DataCheck

RESUME = "The build was interrupted; complete it with resume=True (--resume)."


@dataclass(frozen=True)
class _PassContext:
    """The arguments that all tasks of a pass share."""

    bound: BoundPass
    """The pass."""
    journal: stores.Journal
    """Records which regions are finished."""
    unsure: set[int] = field(default_factory=set)
    """Regions that found chunks missing, on threads of this process: right only if the source is still there."""


def run_passes(build: Build, arrays: Arrays, target: stores.Target, progress: bool | ProgressCallback | None) -> None:
    """Fill the levels of a build, pass by pass, without the regions that an interrupted build has finished."""
    passes = build.bound_passes(target.record, arrays)
    data, filled = DataCheck(build, target), []
    if target.record.filled is not None:
        data.of_filled_levels(passes)
        target.drop_scratch(target.record.filled)
        return
    carried: dict[int, stores.Access] = {}
    try:
        with reporting(progress, sum(bound.nbytes for bound in passes), "building") as report:
            for number, planned in enumerate(passes):
                carried = {**carried, **_create_scratch(planned, target)}
                bound = replace(planned, carried=carried)
                filled.append(_run_pass(build, bound, number, target, data, report))
    except BaseException as error:
        if not data.have_changed:
            _add_hint(error)
        raise
    finally:
        if build.crew is None:
            stores.release_buffers()
        else:
            build.crew.everywhere(stores.release_buffers)
    target.drop_scratch(filled)


def _run_pass(
    build: Build, bound: BoundPass, number: int, target: stores.Target, data: DataCheck, report: Advance
) -> str:
    """Build the regions of a pass that are not finished, from a source that is there to the end.

    Returns what shows whether the data are those that it read.
    """
    if bound.pass_.source:
        bound.source.presence.take_sample()
        bound.source.presence.is_held = target.holds_documents and bound.pass_.source not in bound.carried
    journal = target.journal(number, bound.region_count)
    done = np.zeros(bound.region_count, np.bool_)
    # An array that had to be created again has nothing of what finished regions wrote there.
    if target.resumed and target.created.isdisjoint(bound.written_paths):
        done = _finished_regions(bound, journal)
        done[[region for region in target.record.unsure.get(str(number), ()) if region < len(done)]] = False
    filled = data.before_pass(number, bound, done)
    calls = _region_calls(bound, done, report, deferred=build.crew is not None)
    context = _PassContext(bound.sent() if build.crew else bound, journal)
    try:
        with ExitStack() as confirmed:
            for presence in bound.presences:
                confirmed.enter_context(presence.confirmed_at_end(tells_missing=build.crew is None))
            run(build.crew, _build_region, context, calls, max(min(build.workers, bound.cell_count), 1), report)
    except BaseException:
        # The target may have gone together with the source, whose error is the one to see.
        with suppress(Exception):
            losses = {presence.loss() for presence in bound.presences}
            if "replaced" in losses or (build.crew and "gone" in losses):
                target.record_unsure(number, np.flatnonzero(~done).tolist())
            elif "gone" in losses:
                target.record_unsure(number, sorted(context.unsure))
        raise
    return filled


@contextmanager
def resumable() -> Iterator[None]:
    """Add to whatever error ends a build or a change that has begun in its store how it is completed."""
    try:
        yield
    except BaseException as error:
        _add_hint(error)
        raise


def _add_hint(error: BaseException) -> None:
    if RESUME not in getattr(error, "__notes__", ()):
        error.add_note(RESUME)


def check_data(build: Build, arrays: Arrays, target: stores.Target) -> None:
    """Refuse to take levels that an interrupted build has completed for those of other data.

    Raises
    ------
    ValueError
        If the data have changed.
    """
    DataCheck(build, target).of_filled_levels(build.bound_passes(target.record, arrays))


def take_digests(
    digests: stores.Digests,
    boxes: Iterable[Box] | None,
    workers: int,
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Store the digests of the chunks that overlap boxes of a base, or of all chunks if `boxes` is None."""
    blocks = [(size_of(block), (block,)) for block in digests.blocks(boxes)]
    total = sum(count for count, _ in blocks)
    with reporting(progress, total, "taking digests") as report:
        run(None, stores.Digests.take, digests, blocks, workers, report)


def edited_boxes(digests: stores.Digests, workers: int) -> list[Box]:
    """Return the boxes of a base whose chunks differ from their digests."""
    edited: list[Box] = []

    def compare(_: None, block: Box) -> None:
        edited.extend(digests.edited(block))

    run(None, compare, None, ((0, (block,)) for block in digests.blocks()), workers, lambda nbytes: None)
    return sorted(edited, key=corner_of)


def _region_calls(bound: BoundPass, done: npt.NDArray[np.bool_], report: Advance, *, deferred: bool) -> Iterator[Call]:
    """Yield the task of every unfinished region; with `deferred`, the cluster computes the values of a dask base."""
    for number, region in enumerate(bound.regions()):
        nbytes = bound.region_nbytes(region)
        if done[number]:
            report(nbytes)
        elif deferred:
            yield nbytes, (number, region, bound.deferred(region))
        else:
            yield nbytes, (number, region)


def _finished_regions(bound: BoundPass, journal: stores.Journal) -> npt.NDArray[np.bool_]:
    """Return which regions an interrupted build has finished, by its journal or by the last chunks that they write."""
    done = journal.done()
    # In a change, chunks exist before their region is recomputed.
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


def _failure_note(bound: BoundPass, number: int, region: Box) -> str:
    """Return the note that names the region of an error."""
    levels = ", ".join(str(bound.first + index) for index in bound.pass_.written)
    return f"Failed in region {number} ({bound.described(region)}) while computing levels {levels}."


def _build_region(context: _PassContext, number: int, region: Box, block: Block | None = None) -> None:
    """Build a region, and record it as finished when all its chunks are stored."""
    bound = context.bound if block is None else context.bound.with_values(block)
    before = bound.missed()
    try:
        all_stored = reduce_region(bound, region)
        if bound.missed() != before:
            context.unsure.add(number)
        context.journal.mark(number, chunks_tell=all_stored)
    except Exception as error:
        error.add_note(_failure_note(bound, number, region))
        raise


def _create_scratch(bound: BoundPass, target: stores.Target) -> dict[int, stores.Access]:
    """Create arrays for the states that later passes read, unless the level itself is the state."""
    reduction, created = bound.plan.reduction, {}
    for index in bound.pass_.carried if reduction.components else ():
        relative = bound.plan.relative_factors(index, bound.pass_.source)
        shape = bound.plan.levels[index].shape
        chunks = tuple(map(min, grid_shape(bound.pass_.region, relative), shape))
        layers = reduction.components
        array = target.create_scratch(index, reduction.state_dtype, (layers, *shape), (layers, *chunks))
        # A region of a change may cover a chunk in part; the rest of the chunk is read from the store.
        created[index] = stores.Access.of(array, in_use=bound.selection is not None)
    return created
