"""Kernels side by side, on one thread: ``python -m tests.benchmarks.kernels``; `test_kernels` runs them as tests.

Each way takes a block in memory and returns it reduced. Beside them stands a copy of the block: what memory allows.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import multiscale_sampler as ms
from multiscale_sampler.methods import no_margins
from multiscale_sampler.methods.reducers import get_reducer

from . import machine

Block: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[], Block]
# It calls numpy's minimum and maximum in a deprecated way.
TINYBRAIN_MAY_WARN = "ignore::DeprecationWarning:tinybrain"
DISTRIBUTIONS = ("multiscale-sampler", "numba", "numpy", "scipy", "tensorstore", "tinybrain")


@dataclass(frozen=True)
class KernelCase:
    """A method, its factors and the dtype that it is applied to."""

    method: str
    factors: tuple[int, ...]
    dtype: str

    @property
    def title(self) -> str:
        """The case in words, which also names the test."""
        return f"{self.method} {'x'.join(map(str, self.factors))} {self.dtype}"

    def block(self, side: int) -> Block:
        """Return a block of about side**3 voxels: the noisy test image, or its labels for the mode."""
        # As many windows along every axis as fit; a 2-D block has as many voxels as a 3-D one.
        length = side if len(self.factors) == 3 else math.isqrt(side**3)
        shape = tuple(length // factor * factor for factor in self.factors)
        kind: Any = "labels" if self.method == "mode" else "image"
        block = np.asarray(ms.create_test_image({}, shape=shape, chunks=shape, dtype=self.dtype, kind=kind)[...])
        if kind == "labels":
            return block
        noise = np.random.default_rng(0).standard_normal(shape, np.float32)
        if block.dtype.kind == "f":
            return (block + noise / 16).astype(block.dtype)
        top = np.iinfo(block.dtype).max
        return (block + noise * (top / 16)).clip(0, top).astype(block.dtype)

    def agrees(self, block: Block, found: Block, expected: Block) -> bool:
        """Whether a result is as good as the exact one.

        Means may be rounded in another way, and filtered values once for each axis; medians may be any value from one
        in the middle to the other, and modes any of a tie.
        """
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return False
        match self.method:
            case "mean":
                tolerance = 1e-6 if found.dtype.kind == "f" else 1
                return bool(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max() <= tolerance)
            case "median":
                ordered = _ordered_windows(block, self.factors)
                below, above = (ordered.shape[-1] - 1) // 2, ordered.shape[-1] // 2
                return bool(((ordered[..., below] <= found) & (found <= ordered[..., above])).all())
            case "gaussian":
                return bool(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max() <= 1)
            case "mode":
                return bool(np.array_equal(self._occurrences(block, found), self._occurrences(block, expected)))
        return bool(np.array_equal(found, expected))

    def _occurrences(self, block: Block, reduced: Block) -> Block:
        """Return how often each window has the value that it was reduced to."""
        windows = _windows(block, self.factors)
        inside = tuple(range(1, windows.ndim, 2))
        counts: Block = (windows == np.expand_dims(reduced, inside)).sum(axis=inside)
        return counts


CASES = (
    KernelCase("mean", (2, 2, 2), "uint8"),
    KernelCase("mean", (2, 2, 2), "uint16"),
    KernelCase("mean", (2, 2, 2), "float32"),
    KernelCase("mean", (1, 2, 2), "uint16"),
    KernelCase("mean", (3, 3, 3), "uint16"),
    KernelCase("mean", (2, 2), "uint16"),
    KernelCase("median", (2, 2, 2), "uint16"),
    KernelCase("mode", (2, 2, 2), "uint32"),
    KernelCase("min", (2, 2, 2), "uint16"),
    KernelCase("max", (2, 2, 2), "uint16"),
    KernelCase("nearest", (2, 2, 2), "uint16"),
    KernelCase("gaussian", (2, 2, 2), "uint16"),
)


# --- ways, each a function that prepares the call on a block ----------------------------------------------------


def copy(case: KernelCase, block: Block) -> Run:
    """Copy the block to where memory is already touched."""
    out = np.zeros_like(block)

    def run() -> Block:
        np.copyto(out, block)
        return out

    return run


def ours(case: KernelCase, block: Block) -> Run:
    """Reduce by this package, as `coarsen` does."""
    reduction = get_reducer(case.method).bind(block.dtype, window=math.prod(case.factors))
    counts = tuple(
        np.full(size // factor, factor, np.int64) for size, factor in zip(block.shape, case.factors, strict=True)
    )
    return lambda: reduction.at_once(block, case.factors, no_margins(case.factors), counts)


def numpy(case: KernelCase, block: Block) -> Run:
    """Reduce by numpy: windows as axes of their own. Exact for integers of up to 32 bits."""
    if case.method == "nearest":
        return lambda: block[tuple(slice(None, None, factor) for factor in case.factors)].copy()
    windows = _windows(block, case.factors)
    inside = tuple(range(1, windows.ndim, 2))
    if case.method in ("min", "max"):
        reduce = np.min if case.method == "min" else np.max
        return lambda: reduce(windows, axis=inside)
    if case.method == "mode":
        return lambda: _numpy_mode(block, case.factors)
    if case.method == "gaussian":
        return lambda: _numpy_gaussian(block, case.factors)
    average = np.mean if case.method == "mean" else np.median
    if block.dtype.kind == "f":
        return lambda: average(windows, axis=inside).astype(block.dtype)
    return lambda: np.rint(average(windows, axis=inside)).astype(block.dtype)


def _windows(block: Block, factors: tuple[int, ...]) -> Block:
    """Return a view in which each axis is two: the windows, and the samples inside a window."""
    pairs = [(size // factor, factor) for size, factor in zip(block.shape, factors, strict=True)]
    return block.reshape([n for pair in pairs for n in pair])


def _ordered_windows(block: Block, factors: tuple[int, ...]) -> Block:
    """Return the samples of every window in order, along a last axis."""
    windows = _windows(block, factors)
    inside = range(1, windows.ndim, 2)
    return np.sort(np.moveaxis(windows, inside, range(-len(inside), 0)).reshape(*windows.shape[::2], -1), axis=-1)


def _numpy_mode(block: Block, factors: tuple[int, ...]) -> Block:
    """The first longest run of equal values of a window in order is the least most frequent one."""
    ordered = _ordered_windows(block, factors)
    position = np.arange(ordered.shape[-1])
    begins = np.ones(ordered.shape, bool)
    np.not_equal(ordered[..., 1:], ordered[..., :-1], out=begins[..., 1:])
    longest = np.argmax(position - np.maximum.accumulate(np.where(begins, position, 0), axis=-1), axis=-1)
    mode: Block = np.take_along_axis(ordered, longest[..., None], axis=-1)[..., 0]
    return mode


def _numpy_gaussian(block: Block, factors: tuple[int, ...]) -> Block:
    """Weigh the samples up to four standard deviations from the centre of every window, axis by axis."""
    values = block.astype(np.float64)
    for axis, factor in enumerate(factors):
        centres = np.arange(block.shape[axis] // factor) * factor + (factor - 1) / 2
        distances = np.arange(block.shape[axis]) - centres[:, None]
        sigma = _gaussian_sigma(factor)
        weights = np.exp(-0.5 * (distances / sigma) ** 2) * (np.abs(distances) <= 4 * sigma)
        weights /= weights.sum(axis=1, keepdims=True)
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return np.rint(values).astype(block.dtype)


def _gaussian_sigma(factor: int) -> float:
    """Return the standard deviation that `gaussian` has by its docstring."""
    return math.sqrt((factor**2 - 1) / (8 * math.log(2)))


def scipy(case: KernelCase, block: Block) -> Run:
    """Filter all of the block, and take samples of it: half of one beside the centres of windows of two."""
    if case.method != "gaussian":
        raise NotImplementedError(f"scipy has no {case.method} of blocks")
    from scipy import ndimage

    sigma = [_gaussian_sigma(factor) for factor in case.factors]
    steps = tuple(slice(None, None, factor) for factor in case.factors)

    def run() -> Block:
        filtered: Block = ndimage.gaussian_filter(block, sigma)
        return filtered[steps]

    return run


def tinybrain(case: KernelCase, block: Block) -> Run:
    """Reduce by tinybrain, which wants the axes x, y, z in Fortran's order: the same bytes seen the other way."""
    import tinybrain.downsample as tiny

    functions = {
        "mean": tiny.downsample_with_averaging,
        "mode": tiny.downsample_segmentation,
        "min": tiny.downsample_with_min_pooling,
        "max": tiny.downsample_with_max_pooling,
        "nearest": tiny.downsample_with_striding,
    }
    if case.method not in functions:
        raise NotImplementedError(f"tinybrain has no {case.method}")
    function, factors = functions[case.method], case.factors[::-1]

    def run() -> Block:
        # Contiguous already, but for striding, whose result is a view of the block.
        return np.ascontiguousarray(function(block.T, factors)[0].T)

    return run


def tensorstore(case: KernelCase, block: Block) -> Run:
    """Reduce by TensorStore's downsampled view of an array in memory."""
    import tensorstore as ts

    context = ts.Context({"data_copy_concurrency": {"limit": 1}})
    method: Any = "stride" if case.method == "nearest" else case.method
    if method == "gaussian":
        raise NotImplementedError("TensorStore has no gaussian")
    view = ts.downsample(ts.array(block, context=context), case.factors, method)

    def run() -> Block:
        reduced: Block = view.read().result()
        return reduced

    return run


WAYS: dict[str, Callable[[KernelCase, Block], Run]] = {
    "copy": copy,
    "ours": ours,
    "numpy": numpy,
    "scipy": scipy,
    "tinybrain": tinybrain,
    "tensorstore": tensorstore,
}


# --- as a program ----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Time every way of every case in turns and print a Markdown table of GB/s of input."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kernels", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--side", type=int, default=256, help="voxels along each side of the block; default: 256")
    options = parser.parse_args(arguments)
    print("| GB/s of input, one thread | " + " | ".join([*WAYS, "speed of ours to that of the fastest other"]) + " |")
    print("|---|" + "---:|" * (len(WAYS) + 1))
    for case in CASES:
        print(_line(case, options.side, options.rounds), flush=True)
    print(
        f"\nMedians over all rounds ({options.rounds}), in turns, on a block of {options.side}^3 voxels; on "
        f"{machine.describe(DISTRIBUTIONS, 1)}."
    )
    return 0


def _line(case: KernelCase, side: int, rounds: int) -> str:
    block = case.block(side)
    runs: dict[str, Run] = {}
    cells = dict.fromkeys(WAYS, "")
    for name, way in WAYS.items():
        try:
            runs[name] = way(case, block)
        except NotImplementedError:
            cells[name] = "none"
        except ModuleNotFoundError:
            cells[name] = "not installed"
    times = _times(runs, rounds)
    speeds = {name: block.nbytes / median(taken) / 1e9 for name, taken in times.items()}
    cells |= {name: f"{speed:.2f}" for name, speed in speeds.items()}
    best = max(speeds, key=lambda name: speeds[name] if name not in ("copy", "ours") else 0.0)
    ratio = median(other / own for own, other in zip(times["ours"], times[best], strict=True))
    return f"| {case.title} | {' | '.join(cells.values())} | {ratio:.2f} x {best} |"


def _times(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    for run in runs.values():
        run()  # compiles, and touches memory first
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    sys.exit(main())
