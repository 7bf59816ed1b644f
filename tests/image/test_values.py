import dask.array as da
import numpy as np
import pytest
import xarray as xr

from multiscale_sampler.image.values import Packing

PACKINGS = [
    ("i2", {"scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768}),
    ("i2", {"scale_factor": -0.5, "missing_value": 7}),
    ("u1", {"scale_factor": 2.0, "_FillValue": 255, "missing_value": 255}),
    ("i1", {"_Unsigned": "true", "scale_factor": 0.5, "_FillValue": -1}),
    ("f4", {"_FillValue": -9999.0}),
    ("i4", {"add_offset": 1000.0, "_FillValue": -1}),
]


@pytest.mark.parametrize(("dtype", "attributes"), PACKINGS)
def test_packing__decodes_as_xarray_and_encodes_back(dtype, attributes):
    packed = np.arange(-3, 21).astype(dtype).reshape(4, 6)
    packed[0, 0] = attributes.get("_FillValue", attributes.get("missing_value"))
    packing = Packing.of({**attributes, "units": "K"}, packed.dtype)
    decoded = packing.decoded(xr.Variable(("y", "x"), packed), "v")
    expected = xr.decode_cf(xr.Dataset({"v": (("y", "x"), packed, attributes)})).v
    np.testing.assert_array_equal(decoded.values, expected.values)
    assert np.isnan(decoded.values[0, 0])
    image = xr.DataArray(decoded)
    encoded = packing.encoded(image)
    assert encoded.dtype == packed.dtype
    missing = np.isin(packed, packing.missing)
    np.testing.assert_array_equal(encoded.values[~missing], packed[~missing])
    assert np.isin(encoded.values[missing], packing.missing).all()
    lazy = packing.encoded(image.copy(data=da.from_array(image.values, chunks=2)))
    np.testing.assert_array_equal(lazy.values, encoded.values)


@pytest.mark.parametrize(
    ("value", "attributes", "why"),
    [
        (400.0, {"scale_factor": 0.01}, "400.0 does not fit int16"),
        (np.nan, {"scale_factor": 0.01}, "no missing value is stated"),
        (-1.0, {"scale_factor": 0.5, "_FillValue": -2}, r"would be stored as the missing value \[-2\]"),
    ],
)
def test_packing__refuses_what_it_cannot_hold(value, attributes, why):
    packing = Packing.of(attributes, np.dtype("i2"))
    with pytest.raises(ValueError, match=why):
        packing.encoded(xr.DataArray(np.array([0.0, value])))


def test_packing__of_arrays_that_state_none():
    assert Packing.of({"units": "K"}, np.dtype("i2")) is None
    assert Packing.of({}, np.dtype("i2"), 0) is None
    assert Packing.of({}, np.dtype("i2"), -1).missing == (-1,)
    assert Packing.of({"scale_factor": 2.0}, np.dtype("i2"), 0).missing == (0,)
