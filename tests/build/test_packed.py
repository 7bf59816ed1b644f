import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main

# Of xarray's own reading.
pytestmark = pytest.mark.filterwarnings("ignore:variable .* has multiple fill values")

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
    "two missing values": ({"dtype": "i2", "scale_factor": 0.25, "_FillValue": -1, "missing_value": -1}, 3),
}
# Half a packed step, to which a mean of packed values is rounded.
STEPS = {"float fill": 1e-4, "fill of v2": 1.0, "missing_value": 0.25, "uint8": 0.5, "two missing values": 0.25}


def stored(tmp_path, kind):
    encoding, zarr_format = STORED[kind]
    coords = {"y": np.arange(8) * 10.0, "x": np.arange(8) * 10.0}
    dataset = xr.Dataset({"t2m": (("y", "x"), VALUES)}, coords)
    dataset.to_zarr(tmp_path / "p.zarr", encoding={"t2m": encoding}, zarr_format=zarr_format, consolidated=False)
    if "missing_value" in encoding and "_FillValue" in encoding:
        # xarray writes one value alone; others do not.
        array = zarr.open_group(tmp_path / "p.zarr")["t2m"]
        array.attrs["missing_value"] = -2
        array[7, 5:] = -2
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
    np.testing.assert_array_equal(
        xr.open_zarr(tmp_path / "copy.zarr", consolidated=False, drop_variables="1")["t2m"], ms.open_image(place, "t2m")
    )
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


def windows_of(values):
    return values.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(4, 4, 4)


def expected_level(values, method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reduced = {"sum": np.nansum, "count": lambda w, _: (~np.isnan(w)).sum(-1)}.get(method) or getattr(
            np, f"nan{method}"
        )
        level = reduced(windows_of(values.astype(float)), -1)
    return np.where(np.isnan(windows_of(values)).all(-1), np.nan, level) if method == "sum" else level


DECODED = [
    ("int16 scaled", "sum"),
    ("int16 scaled", "std"),
    ("negative scale", "sum"),
    ("fill of v2", "count"),
    ("float fill", "std"),
    ("two missing values", "std"),
]


@pytest.mark.filterwarnings("ignore:some clients will not open")
@pytest.mark.parametrize(("kind", "method"), DECODED)
def test_levels_of_methods_that_need_decoded_values__are_not_packed(tmp_path, kind, method):
    place = stored(tmp_path, kind)
    base = ms.open_image(place, "t2m").values
    expected = expected_level(base, method)
    ms.add_levels(place, base="t2m", scale_factors=[2], method=method)
    level = zarr.open_group(place, mode="r")["1"]
    assert not {"scale_factor", "add_offset", "_FillValue", "missing_value"} & set(level.attrs)
    np.testing.assert_allclose(level[...], expected, rtol=1e-6)
    ms.update_pyramid(place, {"y": slice(0, 4)})
    np.testing.assert_allclose(zarr.open_group(place, mode="r")["1"][...], expected, rtol=1e-6)
    other = stored(tmp_path / "other", kind)
    for options in ({}, {"mask_and_scale": False}):
        source = xr.open_zarr(other, consolidated=False, **options)["t2m"]
        if options:
            # xarray leaves the fill value of zarr v2 out.
            source = source.assign_attrs(_FillValue=STORED[kind][0]["_FillValue"]) if STORED[kind][1] == 2 else source
        out = {}
        ms.write_pyramid(source, out, scale_factors=[2], method=method)
        for number, values in enumerate((base, expected)):
            found = xr.open_zarr(out, group=f"scale{number}", consolidated=False)["t2m"].values
            np.testing.assert_allclose(found, values, rtol=1e-6)
            np.testing.assert_allclose(ms.open_pyramid(out)[f"scale{number}/t2m"], values, rtol=1e-6)
        report = ms.verify_pyramid(out)
        assert (report.ok, report.verdict) == (True, "agree")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("chunks", [{}, None])
@pytest.mark.parametrize("kind", [kind for kind in STORED if kind != "float fill"])
def test_an_opened_image__stays_packed(tmp_path, kind, chunks, version):
    place = stored(tmp_path, kind)
    dtype = zarr.open_group(place, mode="r")["t2m"].dtype
    opened = xr.open_zarr(place, consolidated=False, chunks=chunks)["t2m"]
    ms.write_pyramid(opened, tmp_path / "a", scale_factors=[2], version=version)
    ms.write_pyramid(ms.open_image(place, "t2m"), tmp_path / "b", scale_factors=[2], version=version)
    ms.write_pyramid(ms.to_multiscale(opened, [2]), tmp_path / "c", version=version)
    ms.write_pyramid(ms.open_pyramid(tmp_path / "a"), tmp_path / "d", version=version)
    base = opened.values
    for name in "abcd":
        for number, values in enumerate((base, means(base))):
            assert zarr.open_group(tmp_path / name, mode="r")[f"scale{number}/t2m"].dtype == dtype
            found = xr.open_zarr(tmp_path / name, group=f"scale{number}", consolidated=False)["t2m"].values
            atol = STEPS.get(kind, 0.01) / 2 + 1e-6 if number else 0
            np.testing.assert_allclose(found, values, rtol=0, atol=atol)
        assert ms.verify_pyramid(tmp_path / name).ok


def test_after_arithmetic__floats_are_written(tmp_path):
    image = ms.open_image(stored(tmp_path, "int16 scaled"), "t2m") + 1
    out = {}
    ms.write_pyramid(image, out, scale_factors=[2])
    assert zarr.open_group(out)["scale1/t2m"].dtype == image.dtype
    np.testing.assert_allclose(ms.open_pyramid(out)["scale0/t2m"], VALUES + 1, atol=0.006)
    image.encoding = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -1}
    out = {}
    ms.write_pyramid(image, out, scale_factors=[2])
    assert zarr.open_group(out)["scale1/t2m"].dtype == np.int16
    np.testing.assert_allclose(ms.open_pyramid(out)["scale0/t2m"], VALUES + 1, atol=0.26)
    image.encoding = {"dtype": "uint8", "scale_factor": 0.5, "_FillValue": 255}
    out = {}
    with pytest.raises(ValueError, match="does not fit uint8"):
        ms.write_pyramid(image, out, scale_factors=[2])
    with pytest.raises(ValueError, match="has not finished"):
        ms.open_pyramid(out)


@pytest.mark.parametrize("options", [{"nodata": 281.0}, {"skipna": False}, {"dtype": "float32"}], ids=str)
def test_options_that_packed_levels_cannot_keep__write_floats(tmp_path, options):
    out = {}
    ms.write_pyramid(ms.open_image(stored(tmp_path, "int16 scaled"), "t2m"), out, scale_factors=[2], **options)
    found = ms.open_pyramid(out)
    assert zarr.open_group(out)["scale1/t2m"].dtype.kind == "f"
    np.testing.assert_allclose(found["scale0/t2m"], VALUES, atol=0.006)


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


def made_before(place):
    """Take the rules from the metadata of a pyramid, as it had been made before there were any."""
    group = zarr.open_group(place)
    ome = group.attrs["ome"]
    del ome["multiscales"][0]["metadata"]["rules"]
    group.attrs["ome"] = ome


def test_rebuild__moves_a_store_made_before_to_the_rules_of_today(tmp_path):
    place = stored(tmp_path, "int16 scaled")
    base = ms.open_image(place, "t2m").values
    ms.add_levels(place, base="t2m", scale_factors=[2, 4])
    made_before(place)
    ms.rebuild_levels(place, [1], method="median")
    assert next(iter(ms.open_pyramid(place)["scale0"].data_vars.values())).dtype == np.int16
    ms.rebuild_levels(place, method="mean")
    tree = ms.open_pyramid(place)
    for node, values in zip(tree.children.values(), (base, means(base)), strict=False):
        np.testing.assert_allclose(next(iter(node.data_vars.values())), values, rtol=0, atol=0.0051)
    assert ms.verify_pyramid(place).verdict == "agree"


def test_rebuild__leaves_out_what_the_recipe_left_out(tmp_path):
    values = np.full((8, 8), 860, "int16")
    values[:3, :3] = -32768
    ms.write_pyramid(values, tmp_path / "p", scale_factors=[2], nodata=-32768)
    for _ in range(2):
        level = zarr.open_group(tmp_path / "p")["scale1/image"][...]
        assert sorted(np.unique(level)) == [-32768, 860]
        ms.rebuild_levels(tmp_path / "p", method="median")
        made_before(tmp_path / "p")
    ms.rebuild_levels(tmp_path / "p", method="mean", nodata=None)
    assert zarr.open_group(tmp_path / "p")["scale1/image"][0, 1] == -15954


def test_rebuild__of_part_of_a_foreign_pyramid_keeps_its_reading(tmp_path):
    place = stored(tmp_path, "int16 scaled")
    base = ms.open_image(place, "t2m").values
    ms.add_levels(place, base="t2m", scale_factors=[2, 4])
    group = zarr.open_group(place)
    ome = group.attrs["ome"]
    del ome["multiscales"][0]["metadata"]
    group.attrs["ome"] = ome
    ms.rebuild_levels(place, [1], method="mean")
    np.testing.assert_array_equal(next(iter(ms.open_pyramid(place)["scale0"].data_vars.values())), base)


@pytest.mark.parametrize("name", ["v.nc", "v.h5"])
def test_a_packed_file__stays_packed(tmp_path, name):
    packing = {"dtype": "i2", "scale_factor": 0.25, "add_offset": 270.0, "_FillValue": -999}
    if name == "v.nc":
        pytest.importorskip("netCDF4")
        xr.Dataset({"t2m": (("y", "x"), VALUES)}).to_netcdf(tmp_path / name, encoding={"t2m": packing})
    else:
        h5py = pytest.importorskip("h5py")
        raw_values = np.where(np.isnan(VALUES), -999, (VALUES - 270) * 4).astype("i2")
        with h5py.File(tmp_path / name, "w") as file:
            file["t2m"] = raw_values
            file["t2m"].attrs.update({key: value for key, value in packing.items() if key != "dtype"})
    assert main(["build", str(tmp_path / name), str(tmp_path / "p"), "--dims", "yx", "--factors", "2,", "--quiet"]) == 0
    tree = ms.open_pyramid(tmp_path / "p")
    for number, values in enumerate((VALUES, means(VALUES))):
        assert zarr.open_group(tmp_path / "p")[f"scale{number}/t2m"].dtype == np.int16
        np.testing.assert_allclose(tree[f"scale{number}/t2m"], values, rtol=0, atol=number * 0.126)
