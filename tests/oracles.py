"""What a pyramid must hold, said a second time: plain loops over Python's own integers and fractions.

Nothing here is shared with the package. Values are exact (int, Fraction, or a float that is NaN or infinite)
and kept in arrays of objects; `assert_level` holds the floats of a level against them.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np

SPATIAL = "abdef"  # names of axes that stand for nothing else in the field's custom
SELECTING = ("min", "max", "mode", "nearest")
COMPOSING = ("mean", "sum", "min", "max", "nearest")
STEPWISE = ("median", "mode")
METHODS = ("mean", "sum", "min", "max", "median", "mode", "nearest")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
DTYPES = ("bool", *INTEGERS, *FLOATS)


def level_size(size, factor, boundary="pad"):
    """Windows along an axis: rounded up where a partial one counts, else down."""
    whole, rest = divmod(size, factor)
    return whole + (1 if rest and boundary == "pad" else 0)


def output_dtype(dtype, method):
    """The dtype that a level has: the base's, or that of numpy's sum."""
    native = np.dtype(dtype).newbyteorder("=")
    return np.sum(np.zeros(1, native)).dtype if method == "sum" else native


def windows(array, factors, boundary="pad"):
    """Yield (index of the window, its values in C order)."""
    shape = [level_size(n, f, boundary) for n, f in zip(array.shape, factors, strict=True)]
    for index in itertools.product(*map(range, shape)):
        yield index, array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))].ravel()


def reduced(array, factors, method, *, boundary="pad", skipna=None, nodata=None):
    """Reduce an array at once; the result is an array of exact objects."""
    shape = [level_size(n, f, boundary) for n, f in zip(array.shape, factors, strict=True)]
    out = np.empty(shape, object)
    for index, values in windows(array, factors, boundary):
        out[index] = window_value(values, method, skipna=skipna, nodata=nodata)
    return out


def exact(value):
    """A scalar of numpy as an int, a Fraction, or a float that neither can be."""
    value = value.item()
    if isinstance(value, float):
        return Fraction(value) if math.isfinite(value) else value
    return int(value)


def window_value(values, method, *, skipna=None, nodata=None):
    """What a voxel is, from the values of its window."""
    dtype = values.dtype
    if method == "nearest":
        return exact(values[0])
    skips = dtype.kind == "f" and skipna is not False
    kept = [exact(v) for v in values if not (skips and v != v) and not (nodata is not None and v == nodata)]
    if not kept:
        return math.nan if nodata is None else exact(dtype.type(nodata))
    if method != "mode" and any(isinstance(v, float) and math.isnan(v) for v in kept):
        return math.nan
    return REDUCTIONS[method](kept, dtype)


def _sum(kept, dtype):
    total = _plain_sum(kept)
    if dtype.kind == "f":
        return total
    bits = 8 * output_dtype(dtype, "sum").itemsize
    signed = output_dtype(dtype, "sum").kind == "i"
    total %= 2**bits
    return total - 2**bits if signed and total >= 2 ** (bits - 1) else total


def _plain_sum(kept):
    infinite = [v for v in kept if isinstance(v, float)]
    return sum(infinite) if infinite else sum(kept)


def _mean(kept, dtype):
    total = _plain_sum(kept)
    if isinstance(total, float):
        return total
    return Fraction(total) / len(kept) if dtype.kind == "f" else half_to_even(total, len(kept))


def half_to_even(total, count):
    """The quotient of two integers, rounded as `round` rounds fractions: half to even."""
    return round(Fraction(total, count))


def _median(kept, dtype):
    ordered = sorted(kept)
    lower, upper = ordered[(len(kept) - 1) // 2], ordered[len(kept) // 2]
    return _mean([lower, upper], dtype) if lower != upper else lower


def _mode(kept, dtype):
    # NaN equals nothing, so it is counted by hand; it is greater than all else.
    counts = Counter("nan" if v != v else v for v in kept)
    most = max(counts.values())
    tied = [v for v, n in counts.items() if n == most and v != "nan"]
    return min(tied) if tied else math.nan


REDUCTIONS = {
    "mean": _mean,
    "sum": _sum,
    "min": lambda kept, dtype: min(kept),
    "max": lambda kept, dtype: max(kept),
    "median": _median,
    "mode": _mode,
}


def magnitudes(array, factors, boundary="pad"):
    """Sum of the absolute values of every window, as fractions; NaN and infinities count as nothing."""
    shape = [level_size(n, f, boundary) for n, f in zip(array.shape, factors, strict=True)]
    out = np.empty(shape, object)
    for index, values in windows(array, factors, boundary):
        out[index] = sum((abs(Fraction(v.item())) for v in values if np.isfinite(v)), Fraction(0))
    return out


def as_dtype(values, dtype):
    """Exact objects as an array of numpy, each rounded by Python."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return np.array([_as_float(v, dtype) for v in values.ravel()], dtype).reshape(values.shape)
    return np.array(values.tolist(), dtype).reshape(values.shape)


def _as_float(value, dtype):
    with np.errstate(over="ignore"):
        try:
            return dtype.type(float(value))
        except OverflowError:
            return dtype.type(math.inf if value > 0 else -math.inf)


def assert_level(actual, expected, dtype, *, ulps=0, slack=None):
    """Hold a level against exact values: integers to the bit, floats to `ulps` units in the last place.

    `slack`, an array of fractions, is allowed beside them.
    """
    actual = np.asarray(actual)
    assert actual.dtype == np.dtype(dtype)
    assert actual.shape == expected.shape
    rounded = as_dtype(expected, dtype)
    if actual.dtype.kind != "f" or (ulps == 0 and slack is None):
        np.testing.assert_array_equal(actual, rounded)
        return
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(actual[~finite], rounded[~finite])
    for index in zip(*np.nonzero(finite), strict=True):
        assert np.isfinite(actual[index]), f"{actual[index]!r} at {index}, expected {float(expected[index])!r}"
        error = abs(Fraction(actual[index].item()) - expected[index])
        allowed = ulps * unit_in_last_place(rounded[index]) + (slack[index] if slack is not None else 0)
        assert error <= allowed, f"{actual[index]!r} at {index}, expected {float(expected[index])!r}"


def unit_in_last_place(value):
    """The distance of a finite float from its neighbour towards zero."""
    if value == 0:
        return Fraction(np.finfo(value.dtype).smallest_subnormal.item())
    return abs(Fraction(value.item()) - Fraction(np.nextafter(value, value.dtype.type(0)).item()))


def list_of_levels(shape, ladder, boundary="pad"):
    """The factors of every level that a list of ints makes, until a level would repeat or vanish."""
    levels = [(1,) * len(shape)]
    for factor in ladder:
        factors = tuple(factor if n > 1 else 1 for n in shape)
        sizes = [level_size(n, f, boundary) for n, f in zip(shape, factors, strict=True)]
        before = [level_size(n, f, boundary) for n, f in zip(shape, levels[-1], strict=True)]
        if 0 in sizes or sizes == before:
            break
        levels.append(factors)
    return levels


def parent_of(levels, index):
    """The coarsest level before this one whose factors divide its own."""
    for parent in range(index - 1, -1, -1):
        if all(f % g == 0 for f, g in zip(levels[index], levels[parent], strict=True)):
            return parent
    raise AssertionError("the base divides every level")


def images_of(tree):
    """The images of a tree, the base first."""
    return [next(iter(tree[f"scale{k}"].data_vars.values())) for k in range(len(tree.children))]
