"""A number that stands for the values of a block: another one where any value, or the order of values, is another.

Values are multiplied by keys that follow from their positions, and added up: along a row by keys of 32 bits, and the
sums of the rows by keys of 64 bits. That takes as long as reading the block. Any single change shows; that several
cancel each other is as unlikely as that 32 random bits are all 0.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ...image.boxes import Block
from .compiling import compiled

# Axes that the compiled loop goes over.
LOOP_RANK = 4
# Of SplitMix64: the increment, and the factors by which its output is mixed.
INCREMENT = 0x9E3779B97F4A7C15
FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
SECOND_FACTOR = np.uint64(0x94D049BB133111EB)
# By which an index along an axis enters the key of its row: of the last but one axis, and of each before it.
AXIS_FACTORS = (np.uint64(INCREMENT), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xD6E8FEB86659FD93))
FURTHER_FACTOR = 0xA0761D6478BD642F
FIRST_SHIFT, SECOND_SHIFT, THIRD_SHIFT = np.uint64(30), np.uint64(27), np.uint64(31)
ODD = np.uint64(1)


def stamp_of_values(block: Block) -> int:
    """Return the number that stands for the values of a block, bit by bit: NaN is NaN, and -0.0 is not 0.0."""
    width = min(block.itemsize, 4)
    strides = block.strides
    is_plain = strides[-1:] == (block.itemsize,) and min(strides) >= 0 and not any(n % width for n in strides)
    bits = (block if is_plain else np.ascontiguousarray(block)).view(f"u{width}")
    bits = bits.reshape((1,) * (LOOP_RANK - bits.ndim) + bits.shape)
    keys = _row_keys(bits.shape[-1])
    outer = np.ndindex(bits.shape[:-LOOP_RANK]) if bits.size else ()
    return sum(int(_weighted_sum(*_lines(bits[index]), keys, _start(index))) for index in outer) % 2**64


def _lines(block: Block) -> tuple[Block, tuple[int, ...], tuple[int, ...]]:
    """Return the memory that a block is part of as one line, and the number and distance of rows along its axes.

    Only of a line do compilers know that the elements of a row stand side by side.
    """
    steps = tuple(stride // block.itemsize for stride in block.strides)
    length = sum((n - 1) * step for n, step in zip(block.shape, steps, strict=True)) + 1
    line = np.lib.stride_tricks.as_strided(block, (length,), (block.itemsize,), writeable=False)
    return line, block.shape[:-1], steps[:-1]


def _start(index: tuple[int, ...]) -> np.uint64:
    """Return what the places along axes before those of the loop add to the keys of rows."""
    return np.uint64(sum((at + 1) * FURTHER_FACTOR ** (axis + 1) for axis, at in enumerate(index)) % 2**64)


@lru_cache(maxsize=64)
def _row_keys(count: int) -> npt.NDArray[np.uint32]:
    """Return the keys of the values along a row, none of them 0."""
    with np.errstate(over="ignore"):
        keys = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(INCREMENT)).astype(np.uint64)
        keys = (keys ^ (keys >> FIRST_SHIFT)) * FIRST_FACTOR
        keys = (keys ^ (keys >> SECOND_SHIFT)) * SECOND_FACTOR
    return (keys >> np.uint64(32)).astype(np.uint32) | np.uint32(1)


@compiled
def _weighted_sum(line, counts, steps, keys, start):  # type: ignore[no-untyped-def]
    """Add up the values of the rows along three axes, each times the key of its place."""
    total, width = np.uint64(0), len(keys)
    for i in range(counts[0]):
        for j in range(counts[1]):
            for k in range(counts[2]):
                first = i * steps[0] + j * steps[1] + k * steps[2]
                row = line[first : first + width]
                along = np.uint64(0)
                for at in range(width):
                    along += np.uint64(keys[at]) * np.uint64(row[at])
                place = start + np.uint64(k + 1) * AXIS_FACTORS[0]
                place += np.uint64(j) * AXIS_FACTORS[1] + np.uint64(i) * AXIS_FACTORS[2]
                place = (place ^ (place >> FIRST_SHIFT)) * FIRST_FACTOR
                place = (place ^ (place >> SECOND_SHIFT)) * SECOND_FACTOR
                total += along * ((place ^ (place >> THIRD_SHIFT)) | ODD)
    return total
