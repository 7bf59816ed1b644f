"""The least share of valid voxels, and missing complex numbers."""

from fractions import Fraction

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from tests import oracles

from .levels import FACTORS, LADDER, assert_three_ways, image_with_gaps


@pytest.mark.parametrize("least", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("method", ["mean", "min", "max", "sum", "median", "std", "mode"])
def test_min_valid__of_windows_equals_the_oracle(method, least):
    for dtype, rule in [("float32", {}), ("int16", {"nodata": 0})]:
        image = image_with_gaps(dtype)
        levels = assert_three_ways(image, method, min_valid=least, **rule)
        expected = oracles.pyramid_of(image.values, FACTORS, method, min_valid=least, **rule)
        for level, exact in zip(levels, expected, strict=True):
            out = oracles.level_dtype(dtype, method)
            oracles.assert_level(level.values, exact, out, ulps=8, slack=np.full(exact.shape, Fraction(1, 10**9)))


# In floats each of these fractions of its window is more than the whole number that it stands for.
INEXACT = [(0.28, 5, 7), (0.56, 5, 14), (0.07, 10, 7)]


COUNTED = [(method, False) for method in oracles.MARKS if method not in (*oracles.FILTERS, "laplacian")]


@pytest.mark.parametrize(("least", "edge", "enough"), INEXACT)
@pytest.mark.parametrize(("method", "weighted"), [*COUNTED, ("mean", True)])
def test_min_valid__counts_valid_voxels_exactly(method, weighted, least, edge, enough):
    assert least * edge**2 > enough
    array = np.full((2, edge**2), np.nan, "float32")
    array[0, :enough] = 1
    array[1, : enough - 1] = 1
    array = array.reshape(2 * edge, edge)
    options = {"method": method, "min_valid": least}
    if weighted:
        options["weights"] = xr.DataArray(np.full(array.shape, 0.1), dims=("y", "x"))
    for source in (array, da.from_array(array, chunks=3)):
        level = ms.coarsen(ms.to_image(source, "yx"), edge, **options)
        assert level.isnull().values.tolist() == [[False], [True]]
    store = {}
    ms.write_pyramid(ms.to_image(array, "yx"), store, scale_factors=[edge], **options)
    assert ms.open_pyramid(store)["scale1/image"].isnull().values.tolist() == [[False], [True]]


@pytest.mark.parametrize("least", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("method", oracles.FILTERS)
def test_min_valid__of_filters_is_a_share_of_weight(method, least):
    for dtype, rule in [("float32", {}), ("int16", {"nodata": 0})]:
        image = image_with_gaps(dtype)
        levels = assert_three_ways(image, method, min_valid=least, **rule)
        expected = oracles.filter_pyramid(image.values, FACTORS, method, min_valid=least, **rule)
        for level, exact in zip(levels, expected, strict=True):
            oracles.assert_filtered(level.values, exact, dtype, rule.get("nodata"))


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_min_valid__refuses_what_is_not_a_fraction(least):
    with pytest.raises(ValueError, match="min_valid="):
        ms.plan_pyramid(image_with_gaps(), LADDER, min_valid=least)


def test_complex__nodata_and_infinities_are_distinguished():
    image = ms.to_image(np.array([[7, np.inf, 7, 7], [3, -np.inf, 7, 7]], "complex64"))
    found = ms.coarsen(image, 2, method="mean", nodata=7).values
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 7


def test_complex__nan_cannot_be_a_value_beside_nodata():
    with pytest.raises(ValueError, match=r"nodata=.*drop skipna=False"):
        ms.plan_pyramid(ms.to_image(np.ones((4, 4), "complex64")), [2], nodata=7, skipna=False)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "float32", "float64"])
@pytest.mark.parametrize("method", ["mean", "median", "gaussian", "weighted"])
def test_nodata__is_no_average_of_valid_values(method, dtype):
    values = np.full((4, 8), -99, dtype)
    values[:, 0], values[:, 1] = -100, -98
    image = ms.to_image(values)
    options = {"nodata": -99, **({"method": method} if method != "weighted" else {})}
    if method == "weighted":
        options["weights"] = xr.DataArray(np.ones(values.shape), dims=("y", "x"))
    levels = [ms.coarsen(image, 2, **options), ms.coarsen(image.chunk({"x": 4}), 2, **options)]
    levels.append(ms.to_multiscale(image, [2, 4], **options)["scale1/image"])
    following = -98 if np.dtype(dtype).kind == "i" else np.nextafter(np.dtype(dtype).type(-99), np.inf, dtype=dtype)
    for level in levels:
        assert level.dtype == dtype
        assert (level[:, 0] == following).all()
        assert (level[:, 3] == -99).all()


def test_nodata__that_is_the_greatest_value_gives_way_downwards():
    image = np.array([[254, 255], [254, 254]], "uint8")
    weights = xr.DataArray(np.ones((2, 2)), dims=("y", "x"))
    assert int(ms.coarsen(image, 2, nodata=255, weights=weights)[0, 0]) == 254
    assert int(ms.coarsen(np.full((2, 2), -1, "int8"), 2, nodata=0)[0, 0]) == -1
    mixed = np.array([[127, 126], [-128, -125]], "int8")
    assert int(ms.coarsen(mixed, 2, nodata=0)[0, 0]) == 1
