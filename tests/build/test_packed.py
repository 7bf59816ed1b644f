import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms

MISSING = np.zeros((8, 8), bool)
MISSING[:3, :3] = True
VALUES = np.where(MISSING, np.nan, 280.0 + np.arange(64.0).reshape(8, 8) / 4)
STORED = {
    "float fill": ({"dtype": "f4", "_FillValue": -9999.0}, 3),
    "int16 scaled": ({"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768}, 3),
    "negative scale": ({"dtype": "i2", "scale_factor": -0.01, "add_offset": 273.15, "_FillValue": -32768}, 3),
    "fill of v2": ({"dtype": "i2", "_FillValue": -32768}, 2),
    "missing_value": ({"dtype": "i4", "scale_factor": 0.25, "missing_value": -1}, 3),
    "uint8": ({"dtype": "u1", "scale_factor": 0.5, "add_offset": 200.0, "_FillValue": 255}, 3),
}
# Half a packed step, to which a mean of packed values is rounded.
STEPS = {"float fill": 1e-4, "fill of v2": 1.0, "missing_value": 0.25, "uint8": 0.5}


def stored(tmp_path, kind):
    encoding, zarr_format = STORED[kind]
    coords = {"y": np.arange(8) * 10.0, "x": np.arange(8) * 10.0}
    dataset = xr.Dataset({"t2m": (("y", "x"), VALUES)}, coords)
    dataset.to_zarr(tmp_path / "p.zarr", encoding={"t2m": encoding}, zarr_format=zarr_format, consolidated=False)
    return tmp_path / "p.zarr"


def raw(place):
    return {name: array[...] for name, array in zarr.open_group(place, mode="r").arrays() if array.ndim == 2}


def means(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values.reshape(4, 2, 4, 2), (1, 3))


@pytest.mark.parametrize("kind", STORED)
def test_levels_beside_a_packed_base__are_read_alike_by_all(tmp_path, kind):
    place = stored(tmp_path, kind)
    base = ms.open_image(place, "t2m").values
    ms.add_levels(place, base="t2m", scale_factors=[2])
    level = zarr.open_group(place, mode="r")["1"]
    assert level.dtype == zarr.open_group(place, mode="r")["t2m"].dtype
    tree = ms.open_pyramid(place)
    opened = [next(iter(node.data_vars.values())).values for node in tree.children.values()]
    np.testing.assert_array_equal(opened[0], base)
    np.testing.assert_allclose(opened[1], means(base), rtol=0, atol=STEPS.get(kind, 0.01) / 2 + 1e-6)
    np.testing.assert_array_equal(ms.open_image(place, "1").values, opened[1])
    assert np.isnan(opened[1]).sum() == 1
    assert ms.verify_pyramid(place).ok
    before = raw(place)
    ms.update_pyramid(place, {"y": slice(0, 4)})
    ms.rebuild_levels(place, method="mean")
    for name, values in raw(place).items():
        np.testing.assert_array_equal(values, before[name])
    assert ms.verify_pyramid(place).ok


def test_convert__copies_packed_levels_as_they_are(tmp_path):
    place = stored(tmp_path, "int16 scaled")
    ms.add_levels(place, base="t2m", scale_factors=[2])
    ms.convert(place, tmp_path / "copy.zarr", version="0.4")
    for before, after in zip(
        *(ms.open_pyramid(p).children.values() for p in (place, tmp_path / "copy.zarr")), strict=True
    ):
        values = [next(iter(node.data_vars.values())).values for node in (before, after)]
        np.testing.assert_array_equal(values[1], values[0])


def test_append__packs_what_is_appended(tmp_path):
    place = stored(tmp_path, "int16 scaled")
    ms.add_levels(place, base="t2m", scale_factors=[2])
    more = xr.DataArray(VALUES + 1, {"y": 80 + np.arange(8) * 10.0, "x": np.arange(8) * 10.0}, ("y", "x"))
    ms.append_pyramid(more, place, dim="y")
    both = np.concatenate([VALUES, VALUES + 1])
    np.testing.assert_allclose(ms.open_image(place, "t2m").values, both, rtol=0, atol=0.005 + 1e-9)
    level = ms.open_image(place, "1").values
    np.testing.assert_allclose(level, np.concatenate([means(VALUES), means(VALUES + 1)]), rtol=0, atol=0.011)
    assert ms.verify_pyramid(place).ok
    before = raw(place)
    with pytest.raises(ValueError, match="does not fit int16"):
        ms.append_pyramid(more.assign_coords(y=more.y + 80) * 10, place, dim="y")
    np.testing.assert_array_equal(raw(place)["t2m"][:16], before["t2m"])


@pytest.mark.parametrize(
    ("kind", "method"),
    [("int16 scaled", "sum"), ("int16 scaled", "std"), ("negative scale", "min"), ("fill of v2", "count")],
)
def test_methods_that_need_decoded_values__are_refused_before_anything_is_written(tmp_path, kind, method):
    place = stored(tmp_path, kind)
    with pytest.raises(ValueError, match=f"method '{method}' needs the values"):
        ms.add_levels(place, base="t2m", scale_factors=[2], method=method)
    assert "1" not in zarr.open_group(place, mode="r")
    ms.write_pyramid(ms.open_image(place, "t2m"), tmp_path / "own.zarr", scale_factors=[2], method=method)


@pytest.mark.parametrize(
    ("kind", "method"), [("int16 scaled", "max"), ("int16 scaled", "median"), ("uint8", "nearest")]
)
def test_other_methods__of_a_packed_base(tmp_path, kind, method):
    place = stored(tmp_path, kind)
    base = ms.open_image(place, "t2m").values
    ms.add_levels(place, base="t2m", scale_factors=[2], method=method)
    windows = base.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(4, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = {"max": np.nanmax, "median": np.nanmedian, "nearest": lambda w, _: w[..., 0]}[method](windows, -1)
    np.testing.assert_allclose(ms.open_image(place, "1").values, expected, rtol=0, atol=0.005 + 1e-6)


def test_stores_made_before__are_read_as_they_were(tmp_path):
    place = stored(tmp_path, "int16 scaled")
    ms.add_levels(place, base="t2m", scale_factors=[2])
    group = zarr.open_group(place)
    ome = group.attrs["ome"]
    del ome["multiscales"][0]["metadata"]["rules"]
    group.attrs["ome"] = ome
    assert next(iter(ms.open_pyramid(place)["scale0"].data_vars.values())).dtype == np.int16
