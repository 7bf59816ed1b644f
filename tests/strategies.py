"""What the tests draw from: dtypes, shapes, values, chunkings, ladders, and an array that must not be read.

Values come from a seeded generator of numpy, in flavours that find the weak places of arithmetic: the whole
range, the ends of it, and few different values.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.oracles import DTYPES, SPATIAL

MOST_VOXELS = 400
# The last three do not nest, or only in part.
LADDERS = ([2], [3], [5], [2, 4], [3, 9], [2, 4, 8], [2, 3], [2, 5], [2, 3, 6, 9])
RANKS = st.integers(1, 5)
SEEDS = st.integers(0, 2**32 - 1)
FLAVOURS = ("any", "ends", "few")


# A test of many cases takes a part of them, in turns, or with `-m thorough` the whole.
IN_PART_AND_WHOLE = pytest.mark.parametrize(
    "whole", [pytest.param(False, id="part"), pytest.param(True, id="whole", marks=pytest.mark.thorough)]
)


def is_thorough(config):
    """Whether a run selects the tests that take longer."""
    return "thorough" in config.option.markexpr.replace("not thorough", "")


def dtypes(names=DTYPES):
    return st.sampled_from(names).map(np.dtype)


@st.composite
def shapes(draw, ranks=RANKS):
    """Shapes of one to five axes, long ones where there are few; one axis at least has two samples."""
    rank = draw(ranks)
    longest = {1: 40, 2: 15, 3: 7, 4: 5, 5: 4}[rank]
    return tuple(draw(st.lists(st.integers(1, longest), min_size=rank, max_size=rank).filter(lambda n: max(n) > 1)))


def dims_of(shape):
    """Names for the axes of a shape, all of them spatial."""
    return tuple(SPATIAL[: len(shape)])


def random_values(shape, dtype, seed, flavour="any"):
    """An array whose values depend on the seed alone."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if flavour == "few":
        return rng.integers(0, 3, shape).astype(dtype)
    if flavour == "ends":
        return rng.choice(_ends(dtype), shape)
    if dtype.kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def _ends(dtype):
    if dtype.kind == "f":
        info = np.finfo(dtype)
        # The greatest ones leave room for no sum: their mean must not overflow.
        return np.array([0, 1, -1, info.max, info.max, info.tiny, info.smallest_subnormal, -info.eps], dtype)
    info = np.iinfo(dtype)
    return np.array([info.min, info.min + 1, info.max - 1, info.max, info.max // 2, 0, 1], dtype)


@st.composite
def arrays(draw, names=DTYPES, ranks=RANKS, flavours=FLAVOURS):
    shape, dtype = draw(shapes(ranks)), draw(dtypes(names))
    return random_values(shape, dtype, draw(SEEDS), draw(st.sampled_from(flavours)))


def with_missing(array, seed, fraction=0.5, value=math.nan):
    """A copy of an array in which a good part of the voxels is missing, whole windows among them."""
    rng = np.random.default_rng(seed)
    array = array.copy()
    array[rng.random(array.shape) < fraction] = value
    array[tuple(slice(0, (n + 1) // 2) for n in array.shape)] = value
    return array


@st.composite
def chunks(draw, shape):
    """Chunks of any sizes, as dask allows them; fewer along each axis where there are many axes."""
    most = {1: 4, 2: 4, 3: 2}.get(len(shape), 1)
    return tuple(draw(_composition(size, most)) for size in shape)


@st.composite
def _composition(draw, size, most):
    cuts = draw(st.sets(st.integers(1, size - 1), max_size=most)) if size > 1 else set()
    edges = [0, *sorted(cuts), size]
    return tuple(b - a for a, b in itertools.pairwise(edges))


def ladders():
    return st.sampled_from(LADDERS).map(list)


@st.composite
def factors(draw, rank, most=5):
    """A factor per axis, of which at least one is more than 1."""
    drawn = draw(st.lists(st.integers(1, most), min_size=rank, max_size=rank))
    return tuple(drawn) if max(drawn) > 1 else (2, *drawn[1:])


@st.composite
def factors_that_reduce(draw, shape, most=5):
    """A factor per axis, of which at least one reduces an axis of more than one sample."""
    drawn = draw(factors(len(shape), most))
    if any(n > 1 and f > 1 for n, f in zip(shape, drawn, strict=True)):
        return drawn
    return tuple(2 if n > 1 else f for n, f in zip(shape, drawn, strict=True))


class Untouchable:
    """An array that must not be read."""

    def __init__(self, shape, chunks):
        self.shape = shape
        self.chunks = chunks
        self.ndim = len(shape)
        self.dtype = np.dtype("uint16")

    def __getitem__(self, key):
        raise AssertionError(f"{key!r} was read")
