"""Whether the data of a build that is resumed are those that it read when it was interrupted.

What shows that data have changed (stamps) is kept when a pass begins, and compared for the regions that are done.
Where it differs, or is no proof, regions are computed again from the data that there are now, and compared with what is
stored. So a source may have been moved or copied, and a mixture of two images is never made.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .. import store as stores
from ..image.boxes import Block, Box, Index, pieces_by_index, within
from ..plan.parts import known_parts
from ..store.chunks import Access, buffer
from ..store.stamps import Stamps, stamps_of_all
from ..tasks.threads import Call, run
from .build import Build
from .passes import BoundPass
from .region import reduce_region

# What is kept of data of which nothing but reading tells whether they have changed.
UNKNOWN = ""

RegionStamps: TypeAlias = "npt.NDArray[np.uint64]"


class DataCheck:
    """The data of one build, which are to be those that it read before it was interrupted."""

    def __init__(self, build: Build, target: stores.Target) -> None:
        self.build = build
        self.target = target
        self.have_changed = False
        # By the base, which several passes may read.
        self._stamps: dict[int, Stamps | None] = {}

    def before_pass(self, number: int, bound: BoundPass, done: npt.NDArray[np.bool_]) -> str:
        """Refuse to go on with a pass whose regions that are done have other data now; keep what they are.

        Returns what shows whether the data are the same once the pass has ended.

        Raises
        ------
        ValueError
            If the data of a region that is done have changed.
        """
        # A single region is in flight until its pass ends.
        if bound.pass_.source or (bound.region_count == 1 and not done.any()):
            return UNKNOWN
        stamps = self._of(bound)
        now = None if stamps is None else stamps_of_regions(bound, stamps, self._threads)
        kept = self.target.stamps(number) if self.target.resumed else None
        if done.any():
            changed = done if kept is None or now is None else done & (kept != now)
            self._compare(bound, done, changed, stamps)
        if now is not None and bound.region_count > 1 and not np.array_equal(now, kept if kept is not None else ()):
            self.target.keep_stamps(number, now)
        return UNKNOWN if now is None else _digest_of(now)

    def of_filled_levels(self, passes: Sequence[BoundPass]) -> None:
        """Refuse to publish levels that are filled from other data than there are now.

        Raises
        ------
        ValueError
            If the data have changed.
        """
        stated = (*(self.target.record.filled or ()), *repeat(UNKNOWN, len(passes)))
        for bound, filled in zip(passes, stated, strict=False):
            if bound.pass_.source:
                continue
            done, stamps = np.ones(bound.region_count, np.bool_), self._of(bound)
            is_same = stamps is not None and filled == _digest_of(stamps_of_regions(bound, stamps, self._threads))
            self._compare(bound, done, done & (not is_same), stamps)

    @property
    def _threads(self) -> int:
        # This process has no part in the work of a cluster.
        return 1 if self.build.crew else self.build.workers

    def _of(self, bound: BoundPass) -> Stamps | None:
        """Return the stamps of what a pass reads."""
        if id(bound.base) not in self._stamps:
            self._stamps[id(bound.base)] = stamps_of_source(bound)
        return self._stamps[id(bound.base)]

    def _compare(
        self, bound: BoundPass, done: npt.NDArray[np.bool_], changed: npt.NDArray[np.bool_], stamps: Stamps | None
    ) -> None:
        chosen = changed
        if stamps is None or not stamps.are_proof:
            chosen = changed | sample_of(done, self.target.record)
        if (region := first_difference(self.build, bound, chosen)) is not None:
            self.have_changed = True
            raise ValueError(
                f"the unfinished build or change of {self.target.place} has stored other values for "
                f"{region} than there would be now: the image, its weights or the function that reduces it are not "
                f"those that it began with; continue it with these, or {self.target.instead}"
            )


def stamps_of_source(bound: BoundPass) -> Stamps | None:
    """Return the stamps of what a pass over the base reads, its weights included."""
    weights = [] if bound.weights is None else [bound.weights.stamps()]
    return stamps_of_all([bound.base.stamps(), *weights])


def sample_of(done: npt.NDArray[np.bool_], record: stores.Record) -> npt.NDArray[np.bool_]:
    """Return the first and the last of some regions, and another one, which a record draws."""
    numbers, sample = np.flatnonzero(done), np.zeros_like(done)
    sample[[numbers[0], numbers[-1], random.Random(repr(record.fingerprint)).choice(numbers)]] = True
    return sample


def stamps_of_regions(bound: BoundPass, stamps: Stamps, threads: int) -> RegionStamps:
    """Return the stamp of what every region of a pass over the base reads."""
    numbers = np.zeros(bound.region_count, np.uint64)

    def take(_: None, number: int, region: Box) -> None:
        numbers[number] = stamps.of_box(known_parts(bound.plan, bound.pass_, region)[0])

    run(None, take, None, ((0, each) for each in enumerate(bound.regions())), threads, lambda nbytes: None)
    return numbers


def _digest_of(stamps: RegionStamps) -> str:
    return hashlib.blake2b(stamps.tobytes(), digest_size=8).hexdigest()


# --- what is stored against what would be ----------------------------------------------------------------------


def first_difference(build: Build, bound: BoundPass, chosen: npt.NDArray[np.bool_]) -> str | None:
    """Compute regions of a pass over the base, and compare what they would write with what is stored.

    Returns how messages name a region that differs, None if none does.
    """
    compared = replace(
        bound,
        levels={index: _ComparedAccess.of_access(access) for index, access in bound.levels.items()},
        carried={index: _ComparedAccess.of_access(access) for index, access in bound.carried.items()},
        # What leaves nothing may have left something before.
        blanks=replace(bound.blanks, leave_nothing=False),
    )
    regions = (region for number, region in enumerate(bound.regions()) if chosen[number])
    if build.crew is None:
        calls: Iterator[Call] = ((0, (region,)) for region in regions)
    else:
        calls = ((0, (region, bound.deferred(region))) for region in regions)
    context = compared.sent() if build.crew else compared
    try:
        run(build.crew, _compare_region, context, calls, build.workers, lambda nbytes: None)
    except _OtherValuesError as difference:
        return str(difference)
    return None


class _OtherValuesError(Exception):
    """What is stored is not what would be written; the text names the region."""


def _compare_region(context: BoundPass, region: Box, block: Block | None = None) -> None:
    bound = context if block is None else context.with_values(block)
    try:
        reduce_region(bound, region)
    except _OtherValuesError:
        raise _OtherValuesError(bound.described(region)) from None


@dataclass(frozen=True)
class _ComparedAccess(Access):
    """Access to an array that compares what is to be written with what is there."""

    @classmethod
    def of_access(cls, access: Access) -> _ComparedAccess:
        """Return the access to the same array."""
        return cls(access.array, access.chunks, access.presence, access.in_use)

    def write(self, box: Box, block: Block) -> bool:
        """Compare a box, and write nothing.

        Raises
        ------
        _OtherValuesError
            If any value differs; one that is missing is equal to another.
        """
        for index, inside in pieces_by_index(box, self.unit):
            values = block[within(inside, box)].astype(self.array.dtype, copy=False)
            if not np.array_equal(self._held(index, inside), values, equal_nan=self.array.dtype.kind in "fcmM"):
                raise _OtherValuesError
        return False

    def _held(self, index: Index, inside: Box) -> Block:
        """Return what is stored of a part of a chunk, in memory that no region uses for what it has read."""
        if self.chunks is None:
            return np.asarray(self.array[inside])
        held = buffer("compared", self.chunks.shape, self.array.dtype)
        if not self.chunks.read(index, held):
            held[...] = self.fill
        part: Block = held[within(inside, self.chunks.span(index))]
        return part

    def copy(self, source: Access, box: Box, *, decoded: bool) -> None:
        """Compare a box with the same one of another array."""
        self.write(box, source.read(box))
