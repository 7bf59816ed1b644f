"""Methods of packed values against numpy on the values that xarray decodes: the table of law 12."""

import warnings

import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.methods.reducers import REDUCERS

PACKINGS = {
    "negative scale": ("int16", {"scale_factor": -0.5, "add_offset": 10.0, "_FillValue": -32768}),
    "offset": ("int16", {"scale_factor": 0.25, "add_offset": -3.0, "_FillValue": -32768}),
    "unsigned": ("int8", {"_Unsigned": "true", "scale_factor": 0.5, "_FillValue": -1}),
    "unsigned alone": ("int8", {"_Unsigned": "true"}),
    "unsigned with a missing value that xarray does not decode": ("int8", {"_Unsigned": "true", "missing_value": -1}),
    "unsigned and negative": ("int16", {"_Unsigned": "true", "scale_factor": -2.0, "_FillValue": -1}),
    "two missing values": ("int16", {"_FillValue": -32768, "missing_value": -32767, "scale_factor": 2.0}),
    "two missing values in a list": ("uint8", {"missing_value": np.array([254, 255], "uint8")}),
    "fill of floats": ("float32", {"_FillValue": -9999.0}),
    "negative scale of floats": ("float32", {"_FillValue": -9999.0, "scale_factor": -2.0}),
    "fill alone": ("uint8", {"_FillValue": 255}),
    "big-endian": (">i2", {"scale_factor": -0.5, "_FillValue": -9999}),
}
METHODS = {
    "mean": np.nanmean,
    "sum": np.nansum,
    "min": np.nanmin,
    "max": np.nanmax,
    "std": np.nanstd,
    "median": np.nanmedian,
    "nearest": lambda windows, axis: windows[..., 0],
    "count": lambda windows, axis: (~np.isnan(windows)).sum(axis),
}


def packed_image(kind):
    dtype, attrs = PACKINGS[kind]
    dtype = np.dtype(dtype)
    low, high = (-100, 100) if dtype.kind == "f" or dtype.itemsize > 1 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.random.default_rng(5).integers(low, high, (12, 12)).astype(dtype)
    missing = np.ravel([attrs[key] for key in ("_FillValue", "missing_value") if key in attrs])
    for row, value in enumerate(missing):
        values[row, :3] = values[5 + row, 6:] = value
    if missing.size:
        values[4:8, 4:8] = missing[-1]
    coords = {"y": np.arange(12.0) * 2, "x": np.arange(12.0)}
    return xr.DataArray(values, coords, ("y", "x"), "image", attrs)


def decoded(level):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xr.SerializationWarning)
        return xr.conventions.decode_cf_variable("image", level.variable).values.astype(float)


def expected_level(image, method, factor):
    values = decoded(image)
    size = 12 // factor
    windows = values.reshape(size, factor, size, factor).transpose(0, 2, 1, 3).reshape(size, size, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        level = METHODS[method](windows, axis=-1)
    return np.where(np.isnan(windows).all(-1), np.nan, level) if method == "sum" else level


def tolerance(kind, method, expected):
    step = abs(PACKINGS[kind][1].get("scale_factor", 1.0))
    rounded = step / 2 if method in ("mean", "median") and np.dtype(PACKINGS[kind][0]).kind != "f" else 0
    return rounded + 1e-6 * max(np.nanmax(np.abs(expected)), 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", PACKINGS)
def test_levels__are_those_of_decoded_values(kind, method):
    image = packed_image(kind)
    for factor in (2,) if method == "median" else (2, 4):
        expected = expected_level(image, method, factor)
        found = [ms.coarsen(image, factor, method=method)]
        found.append(ms.to_multiscale(image, [2, 4], method)[f"scale{factor // 2}/image"])
        for level in found:
            np.testing.assert_allclose(decoded(level), expected, rtol=0, atol=tolerance(kind, method, expected))
            is_packed = REDUCERS[method].packed != "decoded"
            assert ("_FillValue" in level.attrs) == (is_packed and "_FillValue" in image.attrs)
            assert level.dtype == image.dtype.newbyteorder("=") or not is_packed


@pytest.mark.parametrize("kind", ["unsigned", "negative scale", "two missing values"])
def test_weighted_means__are_those_of_decoded_values(kind):
    image = packed_image(kind)
    weights = xr.DataArray(np.random.default_rng(1).random((12, 12)), dims=("y", "x"))
    values = decoded(image)
    parts = [np.where(np.isnan(values), 0, part).reshape(6, 2, 6, 2) for part in (values * weights.values, weights)]
    with np.errstate(invalid="ignore"):
        expected = parts[0].sum((1, 3)) / parts[1].sum((1, 3))
    found = (ms.coarsen(image, 2, weights=weights), ms.coarsen(image.chunk({"y": 4}), 2, weights=weights))
    for level in found:
        np.testing.assert_allclose(decoded(level), expected, rtol=0, atol=tolerance(kind, "mean", expected))


def test_a_function__gets_decoded_values():
    image = packed_image("negative scale")
    values = decoded(image).reshape(6, 2, 6, 2).transpose(0, 2, 1, 3).reshape(6, 6, 4)
    level = ms.coarsen(image, 2, method=np.ptp)
    assert level.dtype == np.float64
    np.testing.assert_array_equal(level, np.ptp(values, -1))
    assert not {"_FillValue", "scale_factor"} & set(level.attrs)


@pytest.mark.parametrize("kind", ["unsigned and negative", "fill alone"])
def test_nodata_none__leaves_nothing_out(kind):
    image = packed_image(kind)
    attrs = {key: value for key, value in image.attrs.items() if key not in ("_FillValue", "missing_value")}
    bare = image.copy()
    bare.attrs = attrs
    for method in ("mean", "std", "max"):
        level = ms.coarsen(image, 2, method=method, nodata=None)
        np.testing.assert_array_equal(level, ms.coarsen(bare, 2, method=method))


def test_another_nodata__than_the_stated_one_is_refused():
    with pytest.raises(ValueError, match="nodata=0 is another value than -32768, which the image states as missing"):
        ms.coarsen(packed_image("offset"), 2, nodata=0)


def test_bands__of_packed_values_add_up_to_decoded_ones():
    image = packed_image("unsigned alone")
    tree = ms.to_multiscale(image, [2, 4], "laplacian")
    assert tree["scale0/image"].attrs == {}
    np.testing.assert_allclose(ms.reconstruct(tree), decoded(image), atol=1e-4)
