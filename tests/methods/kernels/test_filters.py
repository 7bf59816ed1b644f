import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from multiscale_sampler.methods.kernels import filters
from multiscale_sampler.methods.kernels.windows import Missing, reduced_shape
from tests import oracles, strategies

KERNELS = ("gaussian", "linear", "cubic", "lanczos")
POSITIVE = ("gaussian", "linear")
NOTHING = Missing(False, None)
GREATEST = np.finfo(np.float64).max
SMALL = st.integers(1, 3)


def shape_function(kernel, distance, factor):
    """The kernels by their textbook formulas, in extended precision."""
    d = np.abs(np.asarray(distance, np.longdouble))
    x = d / factor
    if kernel == "gaussian":
        variance = np.longdouble(factor**2 - 1) / (8 * np.log(np.longdouble(2)))
        return np.where(d <= 4 * np.sqrt(variance), np.exp(-(d**2) / (2 * variance)), 0)
    if kernel == "linear":
        return np.maximum(0, 1 - x)
    if kernel == "cubic":
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return np.where(x < 1, near, np.where(x < 2, far, 0))
    crossing = (x == np.rint(x)) & (x > 0)
    return np.where((x < 3) & ~crossing, np.sinc(x) * np.sinc(x / 3), 0)


def unscaled(kernel, size, factor):
    """Weights of the samples of an axis in each of its windows, not divided by their sum."""
    if factor == 1:
        return np.eye(size, dtype=np.longdouble)
    centres = np.arange(-(-size // factor)) * factor + (factor - 1) / 2
    return shape_function(kernel, np.arange(size) - centres[:, None], factor)


def applied(matrices, image):
    """The product of a matrix with every axis of an image."""
    out = np.asarray(image, np.longdouble)
    for axis, matrix in enumerate(matrices):
        out = np.moveaxis(np.tensordot(matrix, out, (1, axis)), 0, axis)
    return out


def expected(image, factors, kernel):
    matrices = [unscaled(kernel, size, factor) for size, factor in zip(image.shape, factors, strict=True)]
    return applied([m / m.sum(axis=1, keepdims=True) for m in matrices], image)


def whole(image, factors, kernel, counted=False, **options):
    """An image filtered as one block of one channel."""
    margins = [(0, 0)] * image.ndim
    return filters.filter_windows(image[np.newaxis], factors, margins, kernel, counted, **options)[0]


def cut(draw, shape, factors, kernel):
    """Blocks of whole windows with their margins: (of the image, of the level, margins)."""
    along = []
    for size, factor in zip(shape, factors, strict=True):
        windows = -(-size // factor)
        cuts = draw(st.sets(st.integers(1, windows - 1), max_size=3)) if windows > 1 else set()
        reach = filters.halo(kernel, factor)
        parts = []
        for lower, upper in itertools.pairwise([0, *sorted(cuts), windows]):
            first, last = lower * factor, min(size, upper * factor)
            begin, end = max(0, first - reach), min(size, last + reach)
            parts.append((slice(begin, end), slice(lower, upper), (first - begin, end - last)))
        along.append(parts)
    for parts in itertools.product(*along):
        yield tuple(zip(*parts, strict=True))


def assert_same(out, reference):
    """Equal to the sign of zero, NaN to NaN."""
    np.testing.assert_array_equal(out, reference)
    valid = ~np.isnan(reference)
    np.testing.assert_array_equal(np.signbit(out[valid]), np.signbit(reference[valid]))


@st.composite
def images(draw, names=("float64",), most=4):
    shape = draw(strategies.shapes(SMALL))
    factors = draw(strategies.factors(len(shape), most))
    return strategies.random_values(shape, draw(strategies.dtypes(names)), draw(strategies.SEEDS)), factors


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8, 16])
def test_halo__reaches_the_last_sample_that_has_weight(kernel, factor):
    size = 41 * factor
    used = np.flatnonzero(unscaled(kernel, size, factor)[20])
    assert filters.halo(kernel, factor) == 20 * factor - used[0] == used[-1] - (21 * factor - 1)


def test_sigma__is_that_of_scale_factor_point_spread_function_matching():
    assert filters.sigma(2) == pytest.approx(0.7355, abs=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [2, 3, 7])
def test_kernel_weights__are_symmetric_and_add_up_to_one(kernel, factor):
    weights = filters.kernel_weights(kernel, factor)
    assert weights.tolist() == weights[::-1].tolist()
    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("kernel", KERNELS)
@given(drawn=images(("int32", "uint16", "float32", "float64")))
def test_filter_windows__is_the_weighted_mean_of_every_window(kernel, drawn):
    image, factors = drawn
    reference = expected(image, factors, kernel)
    scale = np.abs(image.astype(np.float64)).max(initial=1.0)
    np.testing.assert_allclose(whole(image, factors, kernel) / scale, (reference / scale).astype(float), atol=1e-13)


@pytest.mark.parametrize(("shape", "factors"), [((9, 70), (2, 1)), ((8, 3, 65), (3, 2, 1)), ((4, 1100), (2, 2))])
@pytest.mark.parametrize("kernel", KERNELS)
def test_filter_windows__weighs_long_runs_as_short_ones(kernel, shape, factors):
    image = strategies.random_values(shape, "float64", 1)
    np.testing.assert_allclose(
        whole(image, factors, kernel), expected(image, factors, kernel).astype(float), atol=1e-10
    )


def test_filter_windows__filters_each_channel_separately():
    image = strategies.random_values((3, 7, 8), "float64", 2)
    out = filters.filter_windows(image, (2, 3), [(0, 0)] * 2, "cubic", False)
    for channel, filtered in zip(image, out, strict=True):
        assert_same(filtered, whole(channel, (2, 3), "cubic"))


def test_filter_windows__is_the_decimated_gaussian_of_scipy():
    image = strategies.random_values((90,), "float64", 3)
    reference = ndimage.gaussian_filter1d(image, filters.sigma(3), radius=filters.halo("gaussian", 3) + 1)
    np.testing.assert_allclose(whole(image, (3,), "gaussian")[2:-2], reference[1::3][2:-2], rtol=1e-12)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@given(data=st.data())
def test_filter_windows__gives_the_same_bits_for_any_blocks(kernel, counted, data):
    image, factors = data.draw(images(("float64", "uint16")))
    if counted and image.dtype.kind == "f":
        image = strategies.with_missing(image, data.draw(strategies.SEEDS), 0.2)
    reference = whole(image, factors, kernel, counted, min_valid=0.1)
    for region, target, margins in cut(data.draw, image.shape, factors, kernel):
        block = np.ascontiguousarray(image[region])[np.newaxis]
        out = filters.filter_windows(block, factors, margins, kernel, counted, min_valid=0.1)
        assert_same(out[0], reference[target])


@pytest.mark.parametrize("kernel", KERNELS)
def test_filter_windows__gives_the_same_bits_in_one_slab_and_in_many(kernel, monkeypatch):
    image = strategies.with_missing(strategies.random_values((2, 3, 11, 5, 6), "float64", 4), 4, 0.1)
    for factors in [(2, 2, 2, 2, 2), (1, 1, 3, 2, 1), (1, 1, 1, 1, 2), (1, 3, 1, 2, 1)]:
        reference = whole(image, factors, kernel, True)
        for slab in (1, 40, 200):
            monkeypatch.setattr(filters, "SLAB", slab)
            monkeypatch.setattr(filters, "SLAB_OF_GAPS", slab)
            assert_same(whole(image, factors, kernel, True), reference)


@pytest.mark.parametrize("value", [GREATEST, -GREATEST, 5e-324, 0.1, -0.0, 1 / 3])
@pytest.mark.parametrize("kernel", KERNELS)
@given(shape=strategies.shapes(SMALL), data=st.data())
def test_filter_windows__of_a_constant_are_the_constant(kernel, value, shape, data):
    factors = data.draw(strategies.factors(len(shape), 6))
    assert (whole(np.full(shape, value), factors, kernel) == value).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_filter_windows__of_a_constant_are_the_constant_at_every_edge(kernel):
    """Normalized weights of a kernel with negative lobes must not make the largest value overflow."""
    for factor in (2, 3, 4, 5, 8):
        for size in range(1, 4 * factor + 2):
            assert (whole(np.full(size, GREATEST), (factor,), kernel) == GREATEST).all()


@pytest.mark.parametrize("kernel", POSITIVE)
def test_filter_windows__never_overflow_where_the_mean_does_not(kernel):
    image = np.tile([GREATEST, -GREATEST, -GREATEST, GREATEST, -GREATEST], 6)
    out = whole(image, (2,), kernel)
    np.testing.assert_allclose(out / GREATEST, expected(image / GREATEST, (2,), kernel).astype(float), atol=1e-15)


@pytest.mark.parametrize("factor", [2, 3, 4, 7])
@pytest.mark.parametrize("kernel", KERNELS)
def test_filter_windows__of_a_ramp_are_the_ramp_in_the_interior(kernel, factor):
    slopes = np.array([3.0, -0.25])
    shape = (12 * factor, 9 * factor)
    image = sum(
        slope * np.arange(size).reshape(form)
        for slope, size, form in zip(slopes, shape, [(-1, 1), (1, -1)], strict=True)
    )
    centres = [np.arange(size // factor) * factor + (factor - 1) / 2 for size in shape]
    ramp = slopes[0] * centres[0][:, None] + slopes[1] * centres[1]
    inside = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(whole(image, (factor, factor), kernel)[inside], ramp[inside], atol=1e-9)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=strategies.SEEDS, size=st.integers(1, 30), factor=st.integers(2, 4))
def test_filter_windows__let_infinities_win_as_in_a_weighted_sum(kernel, counted, seed, size, factor):
    rng = np.random.default_rng(seed)
    image = rng.choice([0.5, 1.0, np.inf, -np.inf], size, p=[0.45, 0.45, 0.05, 0.05])
    out = whole(image, (factor,), kernel, counted)
    for value, weights in zip(out, unscaled(kernel, size, factor), strict=True):
        used = weights != 0
        with np.errstate(invalid="ignore"):
            plain = float(np.sum(weights[used] * image[used]))
        if counted and len(set(image[used].tolist())) == 1:
            assert value == image[used][0]
        elif math.isnan(plain):
            assert math.isnan(value)
        elif math.isinf(plain):
            assert value == plain
        else:
            assert math.isfinite(value)


@pytest.mark.parametrize("kernel", KERNELS)
def test_filter_windows__spread_nan_over_its_supports_unless_it_is_missing(kernel):
    image = np.ones((12, 13))
    image[5, 6] = np.nan
    touched = (unscaled(kernel, 12, 2)[:, 5, None] != 0) & (unscaled(kernel, 13, 3)[:, 6] != 0)
    np.testing.assert_array_equal(np.isnan(whole(image, (2, 3), kernel)), touched)
    assert (whole(image, (2, 3), kernel, counted=True) == 1).all()


@pytest.mark.parametrize("kernel", KERNELS)
@given(drawn=images(("float64", "float32")), seed=strategies.SEEDS, fraction=st.sampled_from([0.02, 0.3, 0.9]))
def test_filter_windows__ignore_missing_samples(kernel, drawn, seed, fraction):
    image, factors = drawn
    image = strategies.with_missing(image, seed, fraction)
    out = whole(image, factors, kernel, counted=True)
    missing = np.isnan(image)
    matrices = [unscaled(kernel, size, factor) for size, factor in zip(image.shape, factors, strict=True)]
    magnitudes = [np.abs(m) for m in matrices]
    total, share = applied(matrices, ~missing), applied(magnitudes, ~missing)
    # Sums of the weights of the support add up to one each on their own.
    scale = applied(matrices, np.ones(image.shape)) / applied(magnitudes, np.ones(image.shape))
    steady = total / scale - 2.0**-10 * share
    for index in np.ndindex(out.shape):
        if total[index] == 0 or steady[index] < -1e-9:
            assert np.isnan(out[index])
        elif steady[index] > 1e-9:
            sums = applied(matrices, np.where(missing, 0, image))
            np.testing.assert_allclose(out[index], float(sums[index] / total[index]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@given(drawn=images(), seed=strategies.SEEDS)
def test_filter_windows__without_missing_samples_keep_their_bits(kernel, drawn, seed):
    image, factors = drawn
    image[np.random.default_rng(seed).random(image.shape) < 0.02] = np.nan
    plain = whole(image, factors, kernel)
    untouched = ~np.isnan(plain)
    assert_same(whole(image, factors, kernel, counted=True)[untouched], plain[untouched])


@pytest.mark.parametrize("value", [GREATEST, 0.1, -1e-310])
@pytest.mark.parametrize("kernel", KERNELS)
@given(shape=strategies.shapes(SMALL), seed=strategies.SEEDS, data=st.data())
def test_filter_windows__of_a_constant_with_gaps_are_the_constant_or_missing(kernel, value, shape, seed, data):
    factors = data.draw(strategies.factors(len(shape), 4))
    out = whole(strategies.with_missing(np.full(shape, value), seed), factors, kernel, counted=True)
    assert ((out == value) | np.isnan(out)).all()


@pytest.mark.parametrize("kernel", POSITIVE)
def test_filter_windows__of_a_single_valid_sample_are_that_sample(kernel):
    """Positive weights never cancel, however small their share."""
    image = np.full((32, 32, 32), np.nan)
    image[3, 4, 5] = 7.0
    assert whole(image, (16, 16, 16), kernel, counted=True)[0, 0, 0] == 7


@pytest.mark.parametrize("kernel", ["cubic", "lanczos"])
def test_filter_windows__whose_weights_are_all_negative_are_missing(kernel):
    image = np.full(40, np.nan)
    negative = np.flatnonzero(unscaled(kernel, 40, 2)[10] < 0)
    image[negative] = 1.0
    assert np.isnan(whole(image, (2,), kernel, counted=True)[10])


@pytest.mark.parametrize("kernel", ["cubic", "lanczos"])
def test_filter_windows__whose_weights_nearly_cancel_are_missing(kernel):
    """Otherwise the small remaining weight would amplify the differences of the samples."""
    weights = unscaled(kernel, 640, 64)[5]
    valid = weights < 0
    for sample in np.argsort(-weights):
        if weights[sample] > 0 and weights[valid].sum() + weights[sample] <= 1e-4:
            valid[sample] = True
    valid[np.argmin(np.where((weights > 0) & ~valid, weights, np.inf))] = True
    assert 0 < weights[valid].sum() < 2.0**-11 * np.abs(weights[valid]).sum()
    image = np.where(valid, np.arange(640.0), np.nan)
    assert np.isnan(whole(image, (64,), kernel, counted=True)[5])


@pytest.mark.parametrize("kernel", KERNELS)
def test_filter_windows__require_a_share_of_valid_weight(kernel):
    image = np.arange(40.0)
    image[21:] = np.nan
    weights = np.abs(unscaled(kernel, 40, 2))
    share = (weights[:, :21].sum(axis=1) / weights.sum(axis=1)).astype(float)
    out = whole(image, (2,), kernel, counted=True, min_valid=0.6)
    assert np.isnan(out[share < 0.6]).all()
    assert not np.isnan(out[share > 0.6]).any()


def test_filter_windows__keep_axes_of_factor_one():
    image = strategies.random_values((4, 5), "uint16", 5)
    out = filters.filter_windows(image[np.newaxis], (1, 1), [(1, 0), (2, 1)], "lanczos", False)
    assert out.dtype == np.float64
    assert out[0].tolist() == image[1:, 2:4].tolist()


def voted(image, factors, nodata=None):
    """The votes in every window, one dict each."""
    matrices = [unscaled("gaussian", size, factor) for size, factor in zip(image.shape, factors, strict=True)]
    matrices = [m / m.sum(axis=1, keepdims=True) for m in matrices]
    votes = {label: applied(matrices, image == label) for label in np.unique(image).tolist() if label != nodata}
    for index in np.ndindex(reduced_shape(image.shape, factors)):
        yield index, {label: float(vote[index]) for label, vote in votes.items() if vote[index] > 0}


def whole_labels(image, factors, nodata=None):
    return filters.label_gaussian(image, factors, [(0, 0)] * image.ndim, Missing(False, nodata))


@given(drawn=images(oracles.INTEGERS, most=3), seed=strategies.SEEDS, count=st.sampled_from([2, 3, 40]), data=st.data())
def test_label_gaussian__has_the_most_votes(drawn, seed, count, data):
    image, factors = drawn
    palette = np.unique(np.concatenate([image.ravel()[:count], [np.iinfo(image.dtype).min, np.iinfo(image.dtype).max]]))
    image = np.random.default_rng(seed).choice(palette, image.shape)
    nodata = data.draw(st.sampled_from([None, palette[0].item(), palette[-1].item()]))
    out = whole_labels(image, factors, nodata)
    assert out.dtype == image.dtype
    for index, votes in voted(image, factors, nodata):
        if votes:
            assert votes[out[index].item()] >= max(votes.values()) * (1 - 1e-3)
        else:
            assert out[index] == nodata


@given(drawn=images(("uint64", "int8")), seed=strategies.SEEDS, nodata=st.sampled_from([None, 1]), data=st.data())
def test_label_gaussian__gives_the_same_labels_for_any_blocks(drawn, seed, nodata, data):
    image, factors = drawn
    image = strategies.random_values(image.shape, image.dtype, seed, "few")
    reference = whole_labels(image, factors, nodata)
    for region, target, margins in cut(data.draw, image.shape, factors, "gaussian"):
        block = np.ascontiguousarray(image[region])
        out = filters.label_gaussian(block, factors, margins, Missing(False, nodata))
        assert out.tolist() == reference[target].tolist()


@pytest.mark.parametrize("dtype", oracles.INTEGERS)
def test_label_gaussian__of_ties_is_the_smallest(dtype):
    """Mirrored supports: the labels of the two sides have the same votes in another order."""
    least, greatest = np.iinfo(dtype).min, np.iinfo(dtype).max
    for left, right in [(least, greatest), (greatest, least), (3, 2)]:
        image = np.empty((6, 6, 6), dtype)
        image[:, :, :3], image[:, :, 3:] = left, right
        assert (whole_labels(image, (6, 6, 6)) == min(left, right)).all()


def test_label_gaussian__of_neighbouring_large_ids_are_exact():
    image = np.full((8, 8), 2**64 - 1, np.uint64)
    image[4:] = 2**64 - 2
    assert whole_labels(image, (2, 2)).tolist() == [[2**64 - 1] * 4] * 2 + [[2**64 - 2] * 4] * 2


def test_label_gaussian__takes_more_labels_than_fit_a_byte():
    image = np.random.default_rng(6).permutation(20**2).reshape(20, 20).astype(np.int64)
    for index, votes in voted(image, (5, 5)):
        best = max(votes.values())
        # All different: the centre's own sample has the most votes.
        assert votes[whole_labels(image, (5, 5))[index].item()] == pytest.approx(best)


def test_label_gaussian__without_a_factor_is_the_core():
    image = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert filters.label_gaussian(image, (1, 1), [(0, 1), (1, 0)], NOTHING).tolist() == image[:2, 1:].tolist()
