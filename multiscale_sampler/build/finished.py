"""Whether a finished pyramid is the one that a build would make, so that resuming the build has nothing to do.

Everything but the values of levels is made in memory, and is to be what is stored. Of the values, what may have changed
since the build began is computed again and compared, and of everything else a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import zarr

from .. import store as stores
from ..metadata import are_published
from ..store.stamps import time_of_array
from .build import Arrays, Build
from .resuming import first_difference, sample_of, stamps_of_source

# Seconds by which the clocks of two machines may differ.
CLOCK_TOLERANCE = 600


def is_made(
    build: Build,
    stored: zarr.Group,
    made: stores.Target,
    record: stores.Record,
    create: Callable[[stores.Target], Any],
    attributes: Callable[[stores.Target, Arrays], Mapping[str, Any]],
    *,
    base: zarr.Array[Any] | None = None,
) -> bool:
    """Return whether a group holds the pyramid that a build would make there.

    Parameters
    ----------
    build
        The build.
    stored
        The group.
    made
        An empty target in memory.
    record
        The record of the build.
    create
        Creates in a target what the build creates before it fills the levels.
    attributes
        Returns the attributes that the build would publish, by its target and the arrays of the levels, and writes
        what else it publishes into the target.
    base
        The base, if the build does not write it.
    """
    create(made)
    first = 0 if base is None else 1
    found = [stored.get(path) for path in made.paths[first:]]
    if [getattr(node, "shape", None) for node in found] != [level.shape for level in build.levels[first:]]:
        return False
    levels = cast("list[zarr.Array[Any]]", found if base is None else [base, *found])
    arrays = dict(enumerate(levels))
    published = attributes(made, arrays)
    if not are_published(stored.attrs.asdict(), published) or not stores.holds_all_of(stored, made.group):
        return False
    try:
        return _are_values_same(build, record, arrays, time_of_array(levels[first]))
    finally:
        stores.release_buffers()


def _are_values_same(build: Build, record: stores.Record, arrays: Arrays, begun: float) -> bool:
    """Return whether levels that a build began to fill at a time have the values that it would give them now."""
    for bound in build.bound_passes(record, arrays):
        if bound.pass_.source:
            continue
        stamps, chosen = stamps_of_source(bound), np.ones(bound.region_count, np.bool_)
        if stamps is None or stamps.newest < begun - CLOCK_TOLERANCE:
            chosen = sample_of(chosen, record)
        if first_difference(build, bound, chosen) is not None:
            return False
    return True
