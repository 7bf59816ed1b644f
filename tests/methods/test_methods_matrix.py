"""Every method for every dtype, rank, odd shape, boundary and chunking: equal to the oracle, or refused by the plan.

The matrix is generated. A run looks at every legal method x dtype, over which ranks, boundaries and chunkings take
turns, and at a part of the illegal ones; with ``-m thorough`` at all of it.
"""

import itertools
import warnings
from fractions import Fraction
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
import pytest

import multiscale_sampler as ms
from multiscale_sampler.methods.reducers import REDUCERS
from tests import oracles, strategies
from tests.oracles import FILTERS, TAKES, level_dtype

# No method takes these, but that none is lost on the way where values are only picked or counted.
STRANGE = ("S4", "U4", "O", "V8", "longdouble", "clongdouble")
BOUNDARIES = ("pad", "trim", "exact")
CHUNKINGS = ("numpy", "threes", "uneven")
ODD = {1: (23,), 2: (9, 13), 3: (5, 7, 5), 4: (3, 5, 2, 5), 5: (2, 5, 1, 3, 5)}
WHOLE = {1: (24,), 2: (12, 24), 3: (4, 8, 4), 4: (3, 4, 2, 8), 5: (2, 4, 1, 3, 8)}
LADDERS = {
    1: [(2,), (4,), (6,)],
    2: [(2, 2), (4, 4), (6, 6)],
    3: [(2, 2, 2), (4, 4, 4)],
    4: [(3, 2, 1, 2), (3, 4, 2, 4)],
    5: [(2, 2, 1, 3, 2), (2, 4, 1, 3, 4)],
}
PICKING = ("median", "mode", "mode_nonzero", "label_gaussian", "any", "all")
RANKS = 2
# Of the illegal cases of a method, a run looks at one of so many, which take turns over dtypes and ranks.
ILLEGAL_TURNS = 7


class Case(NamedTuple):
    method: str
    dtype: str
    rank: int
    boundary: str
    chunking: str
    odd: bool

    @property
    def legal(self):
        whole = self.boundary != "exact" or not self.odd
        return np.dtype(self.dtype).kind in TAKES[self.method] and self.dtype not in STRANGE and whole

    @property
    def shape(self):
        return (ODD if self.odd else WHOLE)[self.rank]


def cases():
    for method, dtype, rank, boundary, chunking in itertools.product(
        REDUCERS, (*oracles.ALL_DTYPES, *STRANGE), LADDERS, BOUNDARIES, CHUNKINGS
    ):
        yield Case(method, dtype, rank, boundary, chunking, odd=True)
        if boundary == "exact":
            yield Case(method, dtype, rank, boundary, chunking, odd=False)


LEGAL = [case for case in cases() if case.legal]
ILLEGAL = [case for case in cases() if not case.legal]
PAIRS = list(dict.fromkeys((case.method, case.dtype) for case in LEGAL))


def legal_cases(method, dtype, whole):
    """Cases of a method and a dtype: all, or one for each of some ranks."""
    of_pair = [case for case in LEGAL if (case.method, case.dtype) == (method, dtype)]
    if whole:
        return of_pair
    turn = PAIRS.index((method, dtype))
    ranks = [rank for rank in LADDERS if (rank + turn) % len(LADDERS) < RANKS]
    wanted = {(rank, BOUNDARIES[(turn + rank) % 3], CHUNKINGS[(turn // 3 + rank) % 3]) for rank in ranks}
    return [case for case in of_pair if (case.rank, case.boundary, case.chunking) in wanted]


def values_of(shape, dtype, method, seed):
    """Values of the whole range, or few different ones for methods that choose; some of floats and times missing."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        parts = [values_of(shape, dtype.type(0).real.dtype, method, seed + part) for part in (0, 1)]
        array = np.empty(shape, dtype)
        array.real, array.imag = parts
        return array
    if dtype.kind in "mM":
        ticks = rng.integers(-(10**6), 10**6, shape) // (10**5 if method in PICKING else 1)
        return strategies.with_missing(ticks.astype(dtype), seed, 0.1, np.array("NaT", dtype))
    array = strategies.random_values(shape, dtype.newbyteorder("="), seed)
    if method in PICKING and dtype.kind != "b":
        array = rng.choice(np.append(array.ravel()[:3], [array.dtype.type(0)]), shape)
    return strategies.with_missing(array, seed, 0.1).astype(dtype) if dtype.kind == "f" else array.astype(dtype)


def image_of(array, chunking="numpy"):
    blocks = {"numpy": None, "threes": 3, "uneven": tuple(uneven(n) for n in array.shape)}[chunking]
    return ms.to_image(array if blocks is None else da.from_array(array, blocks), strategies.dims_of(array.shape))


def uneven(size):
    sizes = []
    while sum(sizes) < size:
        sizes.append(min((2, 3, 1)[len(sizes) % 3], size - sum(sizes)))
    return tuple(sizes)


def factors_of(rank, method):
    """Return the factors of a ladder; of bands, that of two levels that nest."""
    return LADDERS[rank][:2] if method == "laplacian" else LADDERS[rank]


def ladder_of(rank, method):
    return [dict(zip(strategies.SPATIAL, factors, strict=False)) for factors in factors_of(rank, method)]


def levels_of(tree):
    with dask.config.set(scheduler="sync"):
        return [level.values for level in dask.compute(*oracles.images_of(tree))]


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    assert np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes()


def assert_pyramid(array, levels, method, boundary="pad", **rule):
    """Compare the levels of a pyramid, except for the base, with the oracle."""
    factors = [(1,) * array.ndim, *factors_of(array.ndim, method)]
    dtype = level_dtype(array.dtype, method)
    assert len(levels) == len(factors) - 1
    if method in FILTERS:
        expected = oracles.filter_pyramid(array, factors, method, boundary=boundary, **rule)
        for level, exact in zip(levels, expected, strict=True):
            oracles.assert_filtered(level, exact, dtype, rule.get("nodata"))
        return
    if method == "laplacian":
        for level, exact in zip(
            levels, oracles.band_pyramid(array, factors, boundary=boundary, **rule)[1:], strict=True
        ):
            oracles.assert_filtered(level, exact, dtype)
        return
    expected = oracles.pyramid_of(array, factors, method, boundary=boundary, **rule)
    for level, exact, by in zip(levels, expected, factors[1:], strict=True):
        assert level.dtype == dtype
        if dtype.kind in "mM":
            oracles.assert_level(level.view(np.int64), exact, np.int64)
        elif dtype.kind == "c":
            for part, values, of in zip((level.real, level.imag), exact, (array.real, array.imag), strict=True):
                oracles.assert_level(part, values, part.dtype, **tolerance(of, by, method, boundary))
        else:
            oracles.assert_level(level, exact, dtype, **tolerance(array, by, method, boundary))


def tolerance(array, factors, method, boundary):
    """The tolerance of floats: one rounding, and the error of a sum in float64."""
    if method not in ("mean", "sum", "std") or (array.dtype.kind not in "fc" and method != "std"):
        return {"ulps": 1} if method == "median" else {}
    bits = 45 if method == "std" else 100 if array.dtype == np.float64 else 50
    size = oracles.magnitudes(np.abs(array) if array.dtype.kind == "c" else array, factors, boundary)
    return {"ulps": 4 if method == "std" else 1, "slack": size * Fraction(1, 2**bits)}


def test_matrix__is_this_large(capsys):
    pairs = {(case.method, case.dtype) for case in cases()}
    with capsys.disabled():
        in_part = sum(len(legal_cases(*pair, whole=False)) for pair in PAIRS)
        print(
            f"\nmatrix: {len(LEGAL)} legal cases of {len(PAIRS)} methods x dtypes ({in_part} without -m thorough), "
            f"{len(ILLEGAL)} illegal of {len(pairs) - len(PAIRS)} and of odd shapes under 'exact'"
        )
    assert set(REDUCERS) == set(TAKES)
    assert (len(PAIRS), len(LEGAL), len(ILLEGAL)) == (284, 12780, 13140)


@strategies.IN_PART_AND_WHOLE
@pytest.mark.parametrize(("method", "dtype"), PAIRS)
def test_matrix__legal_cases_equal_the_oracle(method, dtype, whole):
    for case in legal_cases(method, dtype, whole):
        array = values_of(case.shape, dtype, method, seed=case.rank)
        image = image_of(array, case.chunking)
        try:
            tree = ms.to_multiscale(image, ladder_of(case.rank, method), method, boundary=case.boundary)
            assert_pyramid(array, levels_of(tree)[1:], method, case.boundary)
        except Exception as error:
            error.add_note(str(case))
            raise


@strategies.IN_PART_AND_WHOLE
@pytest.mark.parametrize("method", REDUCERS)
def test_matrix__illegal_cases_are_refused_by_the_plan(method, whole, refuse_to_compute):
    store = {}
    of_method = [case for case in ILLEGAL if case.method == method]
    for case in of_method[:: 1 if whole else ILLEGAL_TURNS]:
        strange = case.dtype in STRANGE or np.dtype(case.dtype).kind not in TAKES[method]
        image = image_of(np.zeros(case.shape, case.dtype), case.chunking)
        ladder, options = ladder_of(case.rank, method), {"method": method, "boundary": case.boundary}
        message = rf"'{method}' does not accept" if strange else "exact"
        message += "|exact" if case.odd and case.boundary == "exact" else ""
        with pytest.raises((TypeError, ValueError), match=message):
            ms.plan_pyramid(image, ladder, **options)
        with pytest.raises((TypeError, ValueError), match=message):
            ms.to_multiscale(image, ladder, **options)
        if case.chunking == "numpy":
            with pytest.raises((TypeError, ValueError), match=message):
                ms.write_pyramid(image, store, scale_factors=ladder, **options)
            with pytest.raises((TypeError, ValueError), match=message):
                ms.coarsen(image, 2, **options)
    assert not store


# Names of the base's dtype in which a rule for missing values is tried: (dtype, nodata).
RULES = [
    ("uint8", {"nodata": 0}),
    ("int64", {"nodata": -(2**63)}),
    ("uint64", {"nodata": 2**64 - 1}),
    ("bool", {"nodata": False}),
    ("float32", {"skipna": False}),
    ("float64", {"nodata": 0.0}),
    ("float16", {"nodata": 0.0, "min_valid": 0.75}),
    ("complex64", {"nodata": 0.0}),
    ("complex128", {"skipna": False}),
    ("complex64", {"min_valid": 0.75}),
    ("datetime64[s]", {"skipna": False}),
    ("datetime64[s]", {"nodata": np.datetime64(0, "s")}),
    ("timedelta64[ms]", {"nodata": np.timedelta64(0, "ms")}),
    ("datetime64[s]", {"min_valid": 0.75}),
    ("uint16", {"nodata": 0, "min_valid": 0.5}),
    ("float32", {"min_valid": 1.0}),
    (">f4", {"nodata": 0, "min_valid": 0.25}),
]


def takes_rule(method, dtype, rule):
    """Whether a method takes a rule for missing values of a dtype."""
    kind = np.dtype(dtype).kind
    takes_nodata = "nodata" not in rule or (method != "nearest" and kind not in "mM")
    takes_share = "min_valid" not in rule or method in oracles.MARKS
    return kind in TAKES[method] and takes_nodata and takes_share


def array_with_gaps(dtype, rule):
    array = values_of(ODD[2], dtype, "mode", seed=3)
    array[np.random.default_rng(4).random(array.shape) < 0.3] = rule.get("nodata", array[-1, -1])
    return array


RULED = [(method, dtype, rule) for method in REDUCERS for dtype, rule in RULES]


@pytest.mark.parametrize(("method", "dtype", "rule"), [case for case in RULED if takes_rule(*case)], ids=str)
def test_matrix__rules_for_missing_values_equal_the_oracle(method, dtype, rule):
    array = array_with_gaps(dtype, rule)
    levels = levels_of(ms.to_multiscale(image_of(array, "uneven"), ladder_of(2, method), method, **rule))
    assert_pyramid(array, levels[1:], method, **rule)


@pytest.mark.parametrize(("method", "dtype", "rule"), [case for case in RULED if not takes_rule(*case)], ids=str)
def test_matrix__rules_for_missing_values_are_refused_where_a_method_has_none(method, dtype, rule):
    image = image_of(array_with_gaps(dtype, rule), "uneven")
    with pytest.raises((TypeError, ValueError), match=f"'{method}'"):
        ms.plan_pyramid(image, ladder_of(2, method), method=method, **rule)


# One of so many of these pairs is written, the others with `-m thorough`.
WRITTEN_TURNS = 3
WRITTEN = [
    pytest.param(*pair, marks=pytest.mark.thorough if turn % WRITTEN_TURNS else ()) for turn, pair in enumerate(PAIRS)
]


# Zarr has no settled name for times and complex numbers of other programs.
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize(("method", "dtype"), WRITTEN)
def test_matrix__what_is_written_and_what_is_coarsened_has_the_bits_of_the_tree(method, dtype):
    array = values_of((21, 13), dtype, method, seed=5)
    image, store = image_of(array, "uneven"), {}
    expected = levels_of(ms.to_multiscale(image, [2, 4], method))
    ms.write_pyramid(image, store, scale_factors=[2, 4], method=method, chunks=5, workers=1)
    written = [level.values for level in oracles.images_of(ms.open_pyramid(store))]
    for actual, level in zip(written, expected, strict=True):
        assert_same_bits(actual.astype(level.dtype), level)
    if method != "laplacian":
        assert_same_bits(ms.coarsen(image_of(array), 2, method=method).values, expected[1])


LAYOUTS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
}


@strategies.IN_PART_AND_WHOLE
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", REDUCERS)
def test_layouts__of_memory_make_no_difference(method, layout, whole):
    """In part: two layouts of each method, for every kind of dtype."""
    turn = list(LAYOUTS).index(layout) + list(REDUCERS).index(method)
    for number, dtype in enumerate(("uint8", "int32", "uint64", "float32", "complex64", "datetime64[s]")):
        passed_over = not whole and (number + turn) % 2
        if passed_over or np.dtype(dtype).kind not in TAKES[method]:
            continue
        array = values_of((9, 11), dtype, method, seed=6)
        other = LAYOUTS[layout](array)
        np.testing.assert_array_equal(other, array)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "scale_factors", UserWarning)
            expected = levels_of(ms.to_multiscale(image_of(array), [2, 4], method))
            found = levels_of(ms.to_multiscale(image_of(other), [2, 4], method))
        for actual, level in zip(found[1:], expected[1:], strict=True):
            assert_same_bits(actual, level)
        if method != "laplacian":
            assert_same_bits(ms.coarsen(image_of(other), 2, method=method).values, expected[1])
