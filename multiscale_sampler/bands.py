"""Whole levels as bands, and back: what the next level tells of a level, for numpy and dask alike.

Owns the application of a `BandReduction` to whole arrays. `pyramid` makes trees of bands of it, and images of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import dask.array as da
import numpy as np
import numpy.typing as npt

from .lazy.coarsening import rechunked
from .methods import BandReduction, Block

# A sample lies between two of the next level, of which one may be in the neighbouring block.
DEPTH = 1


def lift(array: da.Array, reduction: BandReduction) -> da.Array:
    """Return the state of a base."""
    return cast(
        "da.Array",
        da.map_blocks(
            reduction.lift,
            array,
            chunks=((reduction.components,), *array.chunks),
            new_axis=[0],
            dtype=reduction.state_dtype,
            meta=np.empty((0,) * (array.ndim + 1), reduction.state_dtype),
        ),
    )


def band(state: da.Array, coarser: da.Array, factors: Sequence[int], reduction: BandReduction) -> da.Array:
    """Return the state of a band from a level's and the next one's."""
    return _joined(state, coarser, factors, reduction.band)


def add_band(state: da.Array, coarser: da.Array, factors: Sequence[int], reduction: BandReduction) -> da.Array:
    """Return the state of a level from its band's and the next level's: what `band` took off it is put back."""
    return _joined(state, coarser, factors, reduction.add_band)


def _joined(state: da.Array, coarser: da.Array, factors: Sequence[int], rule: Any) -> da.Array:
    """Apply a rule to the blocks of a level's state and those of the next one that they lie under."""
    blocks = [state.chunks[0]]
    for size, along, factor in zip(state.shape[1:], coarser.chunks[1:], factors, strict=True):
        inner = [length * factor for length in along[:-1]]
        blocks.append((*inner, size - sum(inner)))
    aligned = rechunked(state, tuple(blocks))
    depth = {axis: DEPTH if count > 1 else 0 for axis, count in enumerate(coarser.numblocks)}
    return cast(
        "da.Array",
        da.map_blocks(
            _join_blocks,
            aligned,
            da.overlap.overlap(coarser, depth=depth, boundary="none", allow_rechunk=False),
            rule=rule,
            factors=tuple(factors),
            chunks=aligned.chunks,
            dtype=state.dtype,
            meta=np.empty((0,) * state.ndim, state.dtype),
        ),
    )


def _join_blocks(
    state: Block, coarser: Block, *, rule: Any, factors: tuple[int, ...], block_id: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    offsets = [factor * DEPTH if place else 0 for factor, place in zip(factors, block_id[1:], strict=True)]
    return cast("npt.NDArray[Any]", rule(state, coarser, factors, offsets))
