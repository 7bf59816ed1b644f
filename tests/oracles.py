"""Expected levels, computed with Python's integers and fractions, window by window.

Nothing is shared with the package. Values are exact (int, Fraction, or a float that is NaN or infinite) and kept in
arrays of objects; `expected_level` rounds them to the dtype of the level, `assert_level` compares within a tolerance.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np

SPATIAL = "abdef"  # axis names that mean no time, no channel and no known direction
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
DTYPES = ("bool", *INTEGERS, *FLOATS)
COMPLEX = ("complex64", "complex128")
ALL_DTYPES = (*DTYPES, *COMPLEX, "datetime64[s]", "timedelta64[ms]", ">u2", ">f4")

# Every method, and the kinds of dtype that it takes.
FILTERS = ("gaussian", "linear", "cubic", "lanczos")
TAKES = {
    "mean": "biufc",
    "sum": "biufc",
    "min": "biufmM",
    "max": "biufmM",
    "std": "biufc",
    "median": "biufmM",
    "mode": "biufmM",
    "mode_nonzero": "biuf",
    "nearest": "biufcmM",
    "any": "biufc",
    "all": "biufc",
    "count": "biufcmM",
    "label_gaussian": "biu",
    **dict.fromkeys((*FILTERS, "laplacian"), "biufc"),
}
# Methods that can mark a voxel as missing, and those whose levels are made from the level before.
MARKS = ("mean", "sum", "min", "max", "std", "median", "mode", "mode_nonzero", "laplacian", *FILTERS)
STEPS = ("median", "mode", "mode_nonzero", "label_gaussian", "laplacian", *FILTERS)
# The methods of the laws: they take every real dtype, and look at their window alone.
METHODS = ("mean", "sum", "min", "max", "median", "mode", "nearest")
STEPWISE = tuple(method for method in METHODS if method in STEPS)
COMPOSING = tuple(method for method in METHODS if method not in STEPS)
# Their values are values of the window, so floats are compared to the bit.
SELECTING = ("min", "max", "mode", "nearest")
NOT_A_TIME = -(2**63)


def level_size(size, factor, boundary="pad"):
    """Windows along an axis: rounded up where a partial one counts, else down."""
    whole, rest = divmod(size, factor)
    return whole + (1 if rest and boundary == "pad" else 0)


def level_dtype(dtype, method):
    """Return the dtype of a level: that of numpy's function of the name, else the base's in native byte order."""
    native = np.dtype(dtype).newbyteorder("=")
    if method in ("any", "all"):
        return np.dtype(bool)
    if method == "count":
        return np.dtype(np.int64)
    if method in ("sum", "std"):
        return getattr(np, method)(np.zeros(1, native)).dtype
    if method == "laplacian":
        return (np.zeros(1, native) * np.ones(1, np.float32)).dtype
    return native


def windows(array, factors, boundary="pad"):
    """Yield (index of the window, its values in C order)."""
    shape = [level_size(n, f, boundary) for n, f in zip(array.shape, factors, strict=True)]
    for index in itertools.product(*map(range, shape)):
        yield index, array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))].ravel()


def is_missing(array, skipna=None, nodata=None):
    """Which voxels are left out: NaN and NaT unless told otherwise, and nodata."""
    missing = np.zeros(array.shape, bool)
    if array.dtype.kind in "fcmM" and skipna is not False:
        missing |= array != array
    if nodata is not None:
        missing |= array == np.array(nodata, array.dtype)
    return missing


def reduced(array, factors, method, *, boundary="pad", skipna=None, nodata=None, min_valid=0.0, beside=True):
    """Reduce an array at once by a method that looks at its window alone.

    `beside`: an average that would round to `nodata` is the next value, as methods have it, and kernels do not.

    Returns an array of exact objects; for complex numbers one array for each part.
    """
    missing = is_missing(array, skipna, nodata)
    shape = [level_size(n, f, boundary) for n, f in zip(array.shape, factors, strict=True)]
    values = _parts(array)
    out = [np.empty(shape, object) for _ in values]
    rule = (method, array.dtype, nodata, min_valid, beside)
    for index, gone in windows(missing, factors, boundary):
        inside = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))
        for level, value in zip(out, _window(values[(slice(None), *inside)], gone, rule), strict=False):
            level[index] = value
    if array.dtype.kind == "c" and method in ("mean", "sum", "nearest"):
        return out
    return out[0]


def expected_level(array, factors, method="mean", **rule):
    """Return a level in its own dtype: what `reduced` returns for real numbers, each rounded once."""
    return as_dtype(reduced(array, factors, method, **rule), level_dtype(array.dtype, method))


def _parts(array):
    """The real and the imaginary part, the ticks, or the values, along a leading axis."""
    native = array.astype(array.dtype.newbyteorder("="))
    if native.dtype.kind == "c":
        return np.stack([native.real, native.imag])
    return (native.view(np.int64) if native.dtype.kind in "mM" else native)[np.newaxis]


def _window(parts, gone, rule):
    """The values of a voxel, one for each part."""
    method, dtype, nodata, min_valid, beside = rule
    parts = parts.reshape(len(parts), -1)
    kept = [[exact(v) for v in part[~gone]] for part in parts]
    if method == "nearest":
        return [exact(part[0]) for part in parts]
    if method == "count":
        return [int((~gone).sum())]
    if method in ("any", "all"):
        return [getattr(np, method)((parts[:, ~gone] != 0).any(axis=0))]
    if not kept[0] or len(kept[0]) < stated_fraction(min_valid) * gone.size:
        return [_nothing(method, dtype, part, nodata) for part in range(len(parts))]
    if dtype.kind in "mM":
        return [NOT_A_TIME if NOT_A_TIME in kept[0] else REDUCTIONS[method](kept[0], np.dtype("int64"))]
    number = parts.dtype
    if method == "std":
        return [_norm([_window_value(part, method, number) for part in kept])]
    values = [_window_value(part, method, number) for part in kept]
    if method in ("mean", "median") and nodata is not None and dtype.kind in "iuf" and beside:
        return [_beside(value, nodata, number) for value in values]
    return values


def _beside(value, nodata, dtype):
    """An average, or the value after `nodata` where it would be stored as that."""
    if as_dtype(np.array([value], object), dtype)[0] != np.array(nodata, dtype):
        return value
    if dtype.kind == "f":
        return exact(np.nextafter(np.array(nodata, dtype)[()], dtype.type(np.inf)))
    return nodata + 1 if nodata < np.iinfo(dtype).max else nodata - 1


def stated_fraction(number):
    """Return the fraction that a float stands for: 0.28 is 7/25, which as a float is a little more."""
    return Fraction(number).limit_denominator(10**6)


def _nothing(method, dtype, part, nodata):
    """What a voxel is for which too few samples are valid."""
    if method == "std":
        return math.nan
    if dtype.kind in "mM":
        return NOT_A_TIME if nodata is None else int(np.array(nodata, dtype).view(np.int64))
    if nodata is None:
        return math.nan
    return exact(_parts(np.array([nodata], dtype))[part][0])


def _norm(parts):
    """The deviation of complex numbers from those of their parts."""
    if len(parts) == 1 or any(isinstance(v, float) for v in parts):
        return parts[0] if len(parts) == 1 else math.nan
    square = sum(v * v for v in parts)
    return Fraction(math.isqrt(square.numerator * square.denominator << 400), square.denominator << 200)


def _window_value(kept, method, dtype):
    if method not in ("mode", "mode_nonzero") and any(isinstance(v, float) and math.isnan(v) for v in kept):
        return math.nan
    return REDUCTIONS[method](kept, dtype)


def exact(value):
    """A scalar of numpy as an int, a Fraction, or a float that neither can be."""
    value = value.item()
    if isinstance(value, float):
        return Fraction(value) if math.isfinite(value) else value
    return int(value)


def _sum(kept, dtype):
    total = _plain_sum(kept)
    if dtype.kind == "f":
        return total
    bits = 8 * level_dtype(dtype, "sum").itemsize
    signed = level_dtype(dtype, "sum").kind == "i"
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


def _deviation(kept):
    """The standard deviation of a window, to 200 bits behind the point."""
    if any(isinstance(v, float) for v in kept):
        return math.nan
    mean = Fraction(sum(kept)) / len(kept)
    variance = sum((v - mean) ** 2 for v in kept) / len(kept)
    return Fraction(math.isqrt(variance.numerator * variance.denominator << 400), variance.denominator << 200)


REDUCTIONS = {
    "mean": _mean,
    "sum": _sum,
    "min": lambda kept, dtype: min(kept),
    "max": lambda kept, dtype: max(kept),
    "median": _median,
    "mode": _mode,
    "mode_nonzero": lambda kept, dtype: _mode([v for v in kept if v != 0] or [0], dtype),
    "std": lambda kept, dtype: _deviation(kept),
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
    return [next(iter(node.data_vars.values())) for node in tree.children.values()]


def positions(size, factor, *, scale=1.0, translation=0.0, first=False):
    """Return where the samples of a level are: at the centres of their windows, or at their first samples."""
    offset = 0.0 if first else (factor - 1) / 2 * scale
    return translation + offset + scale * factor * np.arange(size)


def check_levels(tree, base, ladder, method="mean", *, boundary="pad", scale=(), translation=()):
    """Compare every level of a tree with the base reduced at once: values, dtypes and coordinates."""
    spacing, origin = dict(scale), dict(translation)
    for level, factors in zip(images_of(tree), [(1,) * base.ndim, *ladder], strict=True):
        expected = expected_level(base, factors, method, boundary=boundary) if max(factors) > 1 else base
        np.testing.assert_array_equal(level.values, expected)
        assert level.dtype == expected.dtype
        for dim, size, factor in zip(level.dims, level.shape, factors, strict=True):
            if level[dim].dtype.kind not in "iuf":
                assert factor == 1, f"names along {dim!r} cannot be averaged"
                continue
            along = positions(
                size,
                factor,
                scale=spacing.get(dim, 1.0),
                translation=origin.get(dim, 0.0),
                first=method == "nearest",
            )
            np.testing.assert_allclose(level[dim].values, along, rtol=1e-12, atol=1e-12)


def pyramid_of(array, levels, method, *, boundary="pad", **rule):
    """Every level of a method that looks at its window alone, the base left out.

    Levels of composing methods are those of the base at once; of others, those of the level before, rounded.
    """
    native = array.astype(array.dtype.newbyteorder("="))
    typed, made = [native], []
    for index in range(1, len(levels)):
        parent = parent_of(levels, index) if method in STEPS else 0
        factors = tuple(f // g for f, g in zip(levels[index], levels[parent], strict=True))
        if method == "label_gaussian":
            level = elected(typed[parent], factors, boundary, rule.get("nodata"))
        else:
            level = reduced(typed[parent], factors, method, boundary=boundary, **rule)
        made.append(level)
        if method in STEPS:
            ticks = native.dtype.kind in "mM"
            typed.append(as_dtype(level, np.int64).view(native.dtype) if ticks else as_dtype(level, native.dtype))
    return made


# Filters: a matrix of weights for each axis, in extended precision


def weights_of(kernel, size, factor, boundary="pad"):
    """Weights of the samples of an axis (columns) in each of its windows (rows), not divided by their sum."""
    outputs = level_size(size, factor, boundary)
    if factor == 1:
        return np.eye(size, dtype=np.longdouble)
    centres = np.arange(outputs) * factor + np.longdouble(factor - 1) / 2
    distance = np.abs(np.arange(size) - centres[:, None])
    x = distance / factor
    if kernel == "gaussian":
        variance = np.longdouble(factor**2 - 1) / (8 * np.log(np.longdouble(2)))
        near = distance <= np.maximum(4 * np.sqrt(variance), (factor - 1) / 2)
        return np.where(near, np.exp(-(distance**2) / (2 * variance)), 0)
    if kernel == "linear":
        return np.maximum(1 - x, 0)
    if kernel == "cubic":
        outer = np.where(x < 2, -(x**3) / 2 + 5 * x**2 / 2 - 4 * x + 2, 0)
        return np.where(x < 1, 3 * x**3 / 2 - 5 * x**2 / 2 + 1, outer)
    lobes = np.sinc(x) * np.sinc(x / 3)
    return np.where((x < 3) & ((x == 0) | (x != np.rint(x))), lobes, 0)


def _apply(matrices, array):
    for axis, matrix in enumerate(matrices):
        array = np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
    return array


def filtered(parts, scale, sure, factors, kernel, boundary="pad", min_valid=0.0, *, spreads=False):
    """Filter parts of numbers in which NaN is missing, or spreads to all that has a weight of it.

    Returns their values, a bound of the magnitudes that went into them, and where rounding cannot decide whether
    there is a value at all.
    """
    matrices = [weights_of(kernel, n, f, boundary) for n, f in zip(sure.shape, factors, strict=True)]
    signed = [m / m.sum(axis=1, keepdims=True) for m in matrices]
    absolute = [np.abs(m) / np.abs(m).sum(axis=1, keepdims=True) for m in matrices]
    if spreads:
        gone = [_apply([np.abs(m) for m in signed], np.isnan(part).astype(np.longdouble)) > 0 for part in parts]
        plain = [np.where(np.isnan(part), 0, part) for part in parts]
        values = [np.where(g, np.nan, _apply(signed, part)) for g, part in zip(gone, plain, strict=True)]
        return values, _apply([np.abs(m) for m in signed], np.nan_to_num(scale)), np.ones(values[0].shape, bool)
    valid = ~np.isnan(parts[0])
    present = valid.astype(np.longdouble)
    weight, share = _apply(signed, present), _apply(absolute, present)
    # Weights of all samples add up to one, but for rounding.
    share = np.where(np.abs(share - 1) < 1e-12, 1, share)
    unclear = _apply([np.abs(m) for m in signed], np.where(sure, 0, np.longdouble(1))) > 0
    least = np.longdouble(2) ** -10 * share
    void = (weight <= least) | (share < min_valid)
    close = (np.abs(weight - least) < 1e-9) & (share > 0) & ~valid.all()
    close |= (np.abs(share - min_valid) < 1e-9) & (min_valid > 0) & (share < 1 - 1e-9)
    with np.errstate(all="ignore"):
        values = [np.where(void, np.nan, _apply(signed, np.where(valid, part, 0)) / weight) for part in parts]
        reach = _apply([np.abs(m) for m in signed], np.where(valid, scale, 0)) / np.where(void, 1, weight)
    return values, reach, ~(unclear | close)


def filter_pyramid(array, levels, kernel, *, boundary="pad", skipna=None, nodata=None, min_valid=0.0):
    """Every level of a filter but the base, as (values of the parts, magnitudes, where they are sure)."""
    parts = [part.astype(np.longdouble) for part in _parts(array)]
    missing = is_missing(array, skipna, nodata)
    parts = [np.where(missing, np.nan, part) for part in parts]
    spreads = skipna is False and nodata is None
    scale = sum(np.abs(np.where(missing, 0, part)) for part in parts)
    made = [(parts, scale, np.ones(array.shape, bool))]
    for index in range(1, len(levels)):
        parent = parent_of(levels, index)
        factors = tuple(f // g for f, g in zip(levels[index], levels[parent], strict=True))
        made.append(filtered(*made[parent], factors, kernel, boundary, min_valid, spreads=spreads))
    return made[1:]


def band_pyramid(array, levels, *, boundary="pad", **rule):
    """Every band, that of the base included, in the form of `filter_pyramid`."""
    base = filter_pyramid(array, [(1,) * array.ndim] * 2, "gaussian", **rule)
    made = base + filter_pyramid(array, levels, "gaussian", boundary=boundary, **rule)
    bands = []
    for index, (parts, scale, sure) in enumerate(made[:-1]):
        factors = tuple(f // g for f, g in zip(levels[index + 1], levels[index], strict=True))
        coarser, size, certain = made[index + 1]
        told = [np.nan_to_num(expanded(part, factors, sure.shape), nan=0.0) for part in coarser]
        # Where a sample may be missing, or not, neither is what is made of it sure.
        unsure = expanded(np.where(certain, 0.0, 1.0), factors, sure.shape) > 0
        size = np.nan_to_num(expanded(np.nan_to_num(size), factors, sure.shape))
        bands.append(([p - t for p, t in zip(parts, told, strict=True)], scale + size, sure & ~unsure))
    return [*bands, made[-1]]


def expanded(values, factors, shape):
    """Interpolate linearly between the centres of windows, axis by axis; NaN is left out."""
    for axis, (factor, size) in enumerate(zip(factors, shape, strict=True)):
        place = (np.arange(size) + 0.5) / factor - 0.5
        place = np.clip(place, 0, values.shape[axis] - 1)
        lower = np.floor(place).astype(int)
        upper = np.ceil(place).astype(int)
        share = (place - lower).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        a, b = np.take(values, lower, axis), np.take(values, upper, axis)
        between = np.where(np.isnan(b), a, (1 - share) * a + share * b)
        values = np.where(np.isnan(a), b, between)
    return values


def assert_filtered(actual, expected, dtype, nodata=None):
    """Hold a level of a filter against values in extended precision, rounded where these leave no doubt."""
    actual = np.asarray(actual)
    dtype = np.dtype(dtype).newbyteorder("=")
    parts, scale, sure = expected
    assert actual.dtype == dtype
    assert actual.shape == sure.shape
    fill = None if nodata is None else _parts(np.array([nodata], dtype))[:, 0]
    real = np.zeros(0, dtype).real.dtype
    tolerance = {"f2": 1e-3, "f4": 1e-6, "f8": 1e-12}.get(real.str[1:], 1e-14)
    for number, (found, part) in enumerate(zip(_parts(actual), parts, strict=True)):
        gone = sure & np.isnan(part)
        if not gone.any():
            pass
        elif fill is None:
            assert np.isnan(found[gone].astype(float)).all()
        else:
            assert (found[gone] == fill[number]).all()
        there = sure & ~np.isnan(part)
        value, held = part[there], found[there].astype(np.longdouble)
        allowed = tolerance * scale[there]
        if real.kind != "f":
            least, most = (0, 1) if real.kind == "b" else (np.iinfo(real).min, np.iinfo(real).max)
            value = np.clip(value, np.longdouble(least), np.longdouble(most))
            allowed = np.longdouble(0.5) + np.maximum(allowed, 1e-9)
            if fill is not None:
                # A value that would round to the missing one is the next.
                allowed = allowed + (np.abs(value - np.longdouble(fill[number])) <= allowed)
        wrong = ~(np.abs(held - value) <= allowed)
        assert not wrong.any(), f"{held[wrong][0]!r}, expected {value[wrong][0]!r}; {wrong.sum()} of {wrong.size}"


def elected(labels, factors, boundary="pad", nodata=None):
    """The label with the most votes of every window, weighted by a gaussian in integers of 60 bits and more."""
    along = [_whole_weights(n, f, boundary) for n, f in zip(labels.shape, factors, strict=True)]
    out = np.empty([len(matrix) for matrix in along], object)
    for index in np.ndindex(*out.shape):
        votes = Counter()
        rows = [matrix[i] for matrix, i in zip(along, index, strict=True)]
        for place in itertools.product(*rows):
            label = int(labels[place])
            if label != nodata:
                votes[label] += math.prod(row[i] for row, i in zip(rows, place, strict=True))
        most = max(votes.values(), default=0)
        out[index] = min((label for label, n in votes.items() if n == most), default=nodata)
    return out


def _whole_weights(size, factor, boundary):
    """For every window of an axis, the integer weights of the samples that have any."""
    weights = weights_of("gaussian", size, factor, boundary)
    return [{i: int(w * 2.0**60) for i, w in enumerate(row) if w > 0} for row in weights]
