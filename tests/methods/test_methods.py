"""Properties of every method: position, constants, brightness, and independence of chunks."""

import itertools

import dask.array as da
import numba
import numpy as np
import pytest

import multiscale_sampler as ms
from multiscale_sampler.methods.reducers import REDUCERS
from tests import oracles, strategies
from tests.data import load
from tests.oracles import FILTERS, TAKES, level_dtype

from .levels import levels_of

compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: too many voxels")

RAMP_SIZES = (256, 257, 250, 101, 9)
CUTS = (64, 50, 37, None)
# Methods whose value has a position in the window, except mode, whose ties go to the smallest.
PLACED = ("mean", "median", "min", "max", "nearest", *FILTERS)
LOBES = {"gaussian": 2.5, "linear": 1, "cubic": 2, "lanczos": 3}


def cut_up(array, cut):
    return ms.to_image(da.from_array(array, chunks=cut or array.shape), strategies.dims_of(array.shape))


def assert_same_bits(levels, others):
    for level, other in zip(levels, others, strict=True):
        assert level.dtype == other.dtype
        assert level.values.tobytes() == other.values.tobytes()


# Position


def expected_on_ramp(method, factor, position):
    """The value of a window of a ramp: its position, except for min and max."""
    return position + {"min": -1, "max": 1}.get(method, 0) * (factor - 1) / 2


def interior(method, factor, size):
    """The windows whose support is within the image; 16 times as much where levels lie upon levels."""
    edge = int(np.ceil(2 * LOBES.get(method, 0))) if method in FILTERS else 0
    return slice(edge, max(size // factor - edge, edge))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", RAMP_SIZES)
@pytest.mark.parametrize("method", PLACED)
def test_ramp__comes_back_as_the_ramp_in_the_interior(method, size, cut):
    image = cut_up(np.arange(size, dtype=np.float64), cut)
    for ladder in ([2, 4], [3]):
        for level, factor in zip(levels_of(image, ladder, method)[1:], ladder, strict=True):
            inside = interior(method, factor, size)
            expected = expected_on_ramp(method, factor, level.a.values[inside])
            np.testing.assert_allclose(level.values[inside], expected, rtol=0, atol=1e-9)
            assert size < 100 or len(expected) > 4


@pytest.mark.parametrize("method", PLACED)
def test_ramp__of_a_plane_comes_back_as_the_plane(method):
    plane = 3.0 * np.arange(37)[:, None] - 0.5 * np.arange(50)
    for level, factor in zip(levels_of(cut_up(plane, 16), [2, 4], method)[1:], (2, 4), strict=True):
        rows, columns = (interior(method, factor, n) for n in plane.shape)
        a, b = level.a.values[rows], level.b.values[columns]
        slant = {"min": -1, "max": 1}.get(method, 0) * (3.0 + 0.5) * (factor - 1) / 2
        np.testing.assert_allclose(level.values[rows, columns], 3.0 * a[:, None] - 0.5 * b + slant, rtol=0, atol=1e-9)


def test_ramp__has_the_same_spread_everywhere():
    for level, factor in zip(levels_of(cut_up(np.arange(96.0), 37), [2, 4], "std")[1:], (2, 4), strict=True):
        np.testing.assert_allclose(level.values, np.sqrt((factor**2 - 1) / 12), rtol=1e-12)


# Constants


def ends_of(dtype):
    """The smallest and the largest value of a dtype, and one between."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind in "mM":
        return np.array([-(2**63) + 1, 2**63 - 1, 0], np.int64).view(dtype)
    if dtype.kind == "c":
        greatest = np.finfo(dtype).max
        return [complex(greatest, -greatest), complex(-greatest, greatest), 0.1 + 1j / 3]
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return [-info.max, info.max, info.smallest_subnormal, dtype.type(0.1)]
    info = np.iinfo(dtype)
    return [info.min, info.max, 1]


def constant_level(value, dtype, method, count):
    """The exact value of a level of a constant."""
    out = level_dtype(dtype, method)
    if method == "sum":
        with np.errstate(over="ignore", invalid="ignore"):
            return np.sum(np.full(count, value, dtype), dtype=out)
    if method == "std":
        return out.type(0)
    if method in ("any", "all"):
        return np.bool_(value != 0)
    return out.type(count) if method == "count" else np.array(value, out)[()]


@pytest.mark.parametrize("method", [method for method in REDUCERS if method != "laplacian"])
def test_constant__of_any_dtype_stays_at_its_least_and_greatest_value(method):
    for dtype in map(np.dtype, oracles.ALL_DTYPES):
        if dtype.kind not in TAKES[method]:
            continue
        values = ends_of(dtype)
        array = np.stack([np.full((13, 9), value, dtype) for value in values])
        ladder = [{"b": factor, "d": factor} for factor in (2, 4)]
        for level, factor in zip(levels_of(cut_up(array, (1, 5, 5)), ladder, method)[1:], (2, 4), strict=True):
            sizes = [np.minimum(factor, n - np.arange(0, n, factor)) for n in array.shape[1:]]
            counts = np.multiply.outer(*sizes)
            assert level.dtype == level_dtype(dtype, method)
            for value, constants in zip(values, level.values, strict=True):
                for count in np.unique(counts):
                    expected = constant_level(value, dtype, method, count)
                    found = constants[counts == count]
                    # Sums of the largest floats depend on the order in which numpy adds.
                    close = method == "sum" and dtype.kind in "fc"
                    same = np.isclose(found, expected, rtol=1e-3) if close else found == expected
                    assert same.all(), f"{dtype}: {found[~same][0]!r} of {value!r} x {count}, expected {expected!r}"


# Brightness


@pytest.mark.parametrize("method", ["mean", *FILTERS])
def test_brightness__of_photon_counts_is_kept(method):
    """Rounding a step at a time, or up at every tie, would drift away."""
    photons = np.random.default_rng(0).poisson(5, (256, 256)).astype(np.uint16)
    if numba.config.DISABLE_JIT:
        photons = photons[:64, :64]
    for level in levels_of(cut_up(photons, 64), [2, 4, 8], method):
        assert level.values.mean() == pytest.approx(photons.mean(), rel=0.01)


# Independence


@strategies.IN_PART_AND_WHOLE
@pytest.mark.parametrize("method", REDUCERS)
def test_chunks__make_no_difference_to_the_bits(method, whole):
    for dtype in ("uint16", "uint64", "float32", "float64", "complex64", "datetime64[s]"):
        if np.dtype(dtype).kind not in TAKES[method]:
            continue
        array = labels_or_noise(method, dtype, (101, 9), seed=1)
        rules = [{}, {"skipna": False}] if np.dtype(dtype).kind in "fcmM" else [{}]
        if method != "nearest" and np.dtype(dtype).kind not in "mM":
            rules.append({"nodata": array[0, 0].item()})
        for turn, rule in enumerate(rules):
            reference = levels_of(ms.to_image(array, "ab"), [2, 4], method, chunks={"a": 101, "b": 9}, **rule)
            # Otherwise cuts take turns over rules for missing values.
            for cut in CUTS if not rule or whole else CUTS[turn : turn + 1]:
                assert_same_bits(levels_of(cut_up(array, cut), [2, 4], method, **rule), reference)


def labels_or_noise(method, dtype, shape, seed):
    """Few different values, some of floats missing."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind in "mM":
        return strategies.with_missing(rng.integers(0, 9, shape).astype(dtype), seed, 0.1, np.array("NaT", dtype))
    if method in ("mode", "mode_nonzero", "label_gaussian"):
        array = rng.integers(0, 4, shape).astype(dtype)
    elif dtype.kind == "c":
        array = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    else:
        array = strategies.random_values(shape, dtype, seed)
    return strategies.with_missing(array, seed, 0.1) if dtype.kind in "fc" else array


# Labels

LABELLING = [name for name, row in REDUCERS.items() if row.labels != "no"]


def real_labels():
    pinky, _ = load("pinky_seg512")
    corner = tuple(slice(100, 164) for _ in range(3))
    fib19, _ = load("fib19_labels_u64")
    yield pinky["mip1"][corner]
    yield fib19["fib19-64x64x64-sample1"]


@compiled
@pytest.mark.parametrize("method", LABELLING)
def test_labels__of_real_neurons_are_never_invented(method):
    for labels in real_labels():
        # Ids at the end of the range, mapped from the real ones.
        high = np.uint64(2**64 - 1) - labels.astype(np.uint64)
        for ids in (labels, high):
            levels = levels_of(cut_up(ids, 40), [2, 4], method)
            for finer, level in itertools.pairwise(levels):
                assert level.dtype == ids.dtype
                assert np.isin(level.values, finer.values).all()
                assert level.size < finer.size


@pytest.mark.parametrize("method", LABELLING)
def test_labels__at_the_end_of_64_bits_survive(method):
    ids = np.random.default_rng(2).choice(np.array([2**64 - 1, 2**64 - 2, 2**63, 2**53 + 1, 0], np.uint64), (12, 12, 6))
    levels = levels_of(cut_up(ids, 5), [2, 4], method)
    for level in levels:
        assert level.dtype == np.uint64
        assert np.isin(level.values, ids).all()
    assert len(np.unique(levels[1].values)) > 1


def test_labels__a_thin_process_stays_by_mode_nonzero_and_is_lost_by_mode():
    labels = np.zeros((16, 16, 16), np.uint32)
    labels[5, 3, :] = 7
    for kept, lost in zip(
        levels_of(cut_up(labels, 6), [2, 4, 8], "mode_nonzero")[1:],
        levels_of(cut_up(labels, 6), [2, 4, 8], "mode")[1:],
        strict=True,
    ):
        assert (kept.values == 7).sum() == kept.sizes["d"]
        assert not lost.values.any()
