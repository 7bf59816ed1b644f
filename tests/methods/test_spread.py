"""Means weighted by arrays: areas, masks, valid voxels."""

from fractions import Fraction

import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from tests import oracles

from .levels import FACTORS, LADDER, assert_three_ways, image_with_gaps, levels_of


def weighted_mean(values, weights, least=0.0):
    """The mean by weights of one window, as a fraction, or NaN."""
    pairs = [(Fraction(v), Fraction(w)) for v, w in zip(values, weights, strict=True) if v == v and w > 0]
    total = sum(w for _, w in pairs)
    share = Fraction(least) * sum(Fraction(w) for w in weights if w > 0)
    return sum(v * w for v, w in pairs) / total if total and total >= share else float("nan")


def weighted_levels(array, weights, least=0.0):
    """Means by weights of every level, of the base at once."""
    for factors in FACTORS[1:]:
        shape = [oracles.level_size(n, f) for n, f in zip(array.shape, factors, strict=True)]
        out = np.empty(shape, object)
        for (index, values), (_, along) in zip(
            oracles.windows(array, factors), oracles.windows(weights, factors), strict=True
        ):
            out[index] = weighted_mean(values.tolist(), along.tolist(), least)
        yield out


def assert_weighted(image, weights, **options):
    full = np.broadcast_to(weights.values if weights.ndim == 2 else weights.values[:, None], image.shape)
    levels = assert_three_ways(image, "mean", weights=weights, **options)
    for level, exact in zip(levels, weighted_levels(image.values, full, options.get("min_valid", 0)), strict=True):
        oracles.assert_level(level.values, exact, image.dtype, ulps=4, slack=np.full(exact.shape, Fraction(1, 10**12)))


def earth(dtype="float64"):
    array = np.random.default_rng(3).normal(280, 20, (11, 14)).astype(dtype)
    latitude = np.linspace(-80, 70, 11)
    return ms.to_image(xr.DataArray(array, dims=("y", "x"), coords={"y": latitude}))


def test_weights__by_latitude_are_areas():
    image = earth()
    assert_weighted(image, np.cos(np.deg2rad(image.y)))


def test_weights__of_a_mask_ignore_other_voxels():
    image = earth()
    mask = xr.DataArray(np.random.default_rng(4).random(image.shape) < 0.4, dims=("y", "x"))
    mask[:4, :4] = False
    assert_weighted(image, mask)
    assert np.isnan(levels_of(image, LADDER, weights=mask)[2].values[0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights__ignore_nan(dtype):
    image = image_with_gaps(dtype)
    assert_weighted(image, xr.DataArray(np.random.default_rng(5).random(image.shape), dims=("y", "x")))


@pytest.mark.parametrize("least", [0.3, 0.5, 1.0])
def test_weights__of_valid_voxels_are_compared_with_min_valid(least):
    # Weights that are whole numbers of 1/8: their sums are exact in any order.
    image, eighths = image_with_gaps(), np.random.default_rng(5).integers(0, 9, (11, 14)) / 8
    assert_weighted(image, xr.DataArray(eighths, dims=("y", "x")), min_valid=least)
    assert_weighted(image, xr.DataArray(eighths[:, 0], dims="y"), min_valid=least)


def test_weights__spread_nan_without_skipna():
    image = image_with_gaps()
    weights = xr.ones_like(image)
    level = assert_three_ways(image, "mean", weights=weights, skipna=False)[0]
    np.testing.assert_array_equal(level.isnull(), ms.coarsen(image, 2, skipna=False).isnull())


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int32", ">u2", "float32", ">f4"])
def test_weights__that_are_equal_make_the_mean(dtype):
    array = np.random.default_rng(6).integers(0, 100, (11, 14)).astype(dtype)
    image = ms.to_image(array, "yx")
    for level, plain in zip(
        assert_three_ways(image, "mean", weights=xr.DataArray(np.full(14, 0.5), dims="x")),
        levels_of(image, LADDER)[1:],
        strict=True,
    ):
        assert level.dtype == plain.dtype
        np.testing.assert_array_equal(level.values, plain.values)


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param(xr.DataArray(np.ones(3), dims="time"), id="another-dim"),
        pytest.param(xr.DataArray(np.ones(5), dims="y"), id="another-size"),
        pytest.param(xr.DataArray(np.ones(11), dims="y", coords={"y": np.arange(11.0)}), id="elsewhere"),
        pytest.param(np.ones(11), id="unlabelled"),
        pytest.param(xr.DataArray(np.full(11, "a"), dims="y"), id="text"),
        pytest.param(xr.DataArray(np.full(11, 1j), dims="y"), id="complex"),
    ],
)
def test_weights__that_do_not_fit_are_refused_by_the_plan(weights):
    image, store = earth(), {}
    calls = [
        lambda: ms.coarsen(image, 2, weights=weights),
        lambda: ms.plan_pyramid(image, LADDER, weights=weights),
        lambda: ms.to_multiscale(image.chunk(), LADDER, weights=weights),
        lambda: ms.write_pyramid(image, store, scale_factors=LADDER, weights=weights),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError), match="weights"):
            call()
    assert not store


@pytest.mark.parametrize("method", ["median", "gaussian", "sum", np.mean])
def test_weights__are_for_the_mean_only(method):
    with pytest.raises(ValueError, match="weights need method='mean'"):
        ms.plan_pyramid(earth(), LADDER, method=method, weights=np.cos(np.deg2rad(earth().y)))


def windows_by_two(values, weights):
    """The exact means by weights of windows of 2 x 2."""
    pairs = zip(oracles.windows(values, (2, 2)), oracles.windows(weights, (2, 2)), strict=True)
    return [weighted_mean(window.tolist(), along.tolist()) for (_, window), (_, along) in pairs]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "uint64", "float32", "float64"])
def test_weights__of_every_dtype(dtype):
    values = np.random.default_rng(2).integers(0, 100, (11, 14)).astype(dtype)
    if np.dtype(dtype).kind in "if":
        values = values - np.array(50, dtype)
    if np.dtype(dtype).itemsize == 8 and dtype != "float64":
        values = values * np.array(2**45, dtype)
    weights = xr.DataArray(np.random.default_rng(3).integers(1, 4, (11, 14)).astype(float), dims=("y", "x"))
    level = ms.coarsen(ms.to_image(values), 2, weights=weights)
    exact = windows_by_two(values, weights.values)
    allowed = 0.5 if np.dtype(dtype).kind in "iu" else 0
    allowed += float(np.abs(values).max()) * (1e-6 if dtype == "float32" else 1e-15)
    assert level.dtype == dtype
    assert all(abs(Fraction(x.item()) - y) <= allowed for x, y in zip(level.values.ravel(), exact, strict=True))
