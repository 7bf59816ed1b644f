import warnings

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main

HEIGHTS = np.full((16, 16), 500, "int16")
HEIGHTS[:5, :5] = -9999
STATEMENTS = {
    "_FillValue": -9999,
    "missing_value": np.int16(-9999),
    "nodata": -9999.0,
    "nodatavals": (-9999,),
}


def image(**attrs):
    return xr.DataArray(HEIGHTS, dims=("y", "x"), name="dem", attrs=attrs)


def level_of(function, source, **options):
    """Return the values of level 1 as they are computed, made by one of the functions that make levels."""
    if function == "coarsen":
        return ms.coarsen(source, 2, **options).values
    if function == "to_multiscale":
        return ms.to_multiscale(source, [2], **options)["scale1/dem"].values
    store = {}
    ms.write_pyramid(source, store, scale_factors=[2], **options)
    if function == "rebuild_levels":
        ms.rebuild_levels(store, method="mean")
    elif function == "update_pyramid":
        ms.update_pyramid(store, {"y": slice(0, 8)})
    assert ms.verify_pyramid(store).ok
    return zarr.open_group(store, mode="r")["scale1/dem"][...]


@pytest.mark.parametrize("attribute", STATEMENTS)
@pytest.mark.parametrize("function", ["coarsen", "to_multiscale", "write_pyramid", "rebuild_levels", "update_pyramid"])
def test_what_an_image_states_as_missing__is_left_out(function, attribute):
    level = level_of(function, image(**{attribute: STATEMENTS[attribute]}))
    expected = np.full((8, 8), 500)
    expected[:2, :2] = -9999
    np.testing.assert_array_equal(level, expected)


@pytest.mark.parametrize("function", ["coarsen", "to_multiscale", "write_pyramid"])
def test_none__turns_it_off(function):
    level = level_of(function, image(nodata=-9999), nodata=None)
    assert -9999 < level[2, 2] < 500


@pytest.mark.parametrize(
    ("attrs", "method", "nodata"),
    [
        ({"nodata": -9999}, "mean", -9999),
        ({"nodata": 70000}, "mean", None),
        ({"nodata": float("nan")}, "mean", None),
        ({"nodata": "none"}, "mean", None),
        ({"nodata": -9999}, "nearest", None),
        ({"nodata": 0}, "mode", None),
        ({"nodata": 255}, "mode", 255),
        ({"nodatavals": (-1, -1)}, "max", -1),
        ({}, "mean", None),
    ],
)
def test_plan__says_which_value_it_leaves_out(attrs, method, nodata):
    plan = ms.plan_pyramid(image(**attrs), [2], method=method)
    assert plan.nodata == nodata
    assert ("nodata" in str(plan)) == (nodata is not None)


def test_several_missing_values__are_refused():
    with pytest.raises(ValueError, match=r"several missing values, \(-1, -9999\)"):
        ms.plan_pyramid(image(_FillValue=-1, nodata=-9999), [2])
    assert ms.plan_pyramid(image(_FillValue=-1, nodata=-9999), [2], nodata=-1).nodata == -1


def test_a_text__is_no_missing_value():
    with pytest.raises(ValueError, match="nodata='-9999' is no value"):
        ms.plan_pyramid(image(), [2], nodata="-9999")


def test_nodata_of_a_geotiff__on_the_command_line(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "height": 16, "width": 16, "count": 1, "dtype": "int16", "nodata": -9999}
    transform = rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)
    with rasterio.open(tmp_path / "dem.tif", "w", crs="EPSG:32633", transform=transform, **profile) as file:
        file.write(HEIGHTS, 1)
    for option, least in ((["--nodata", "stated"], {-9999}), ([], {-9999}), (["--nodata", "none"], set())):
        place = tmp_path / f"p{len(option)}{bool(least)}.zarr"
        assert main(["build", str(tmp_path / "dem.tif"), str(place), "--min-size", "8", "--quiet", *option]) == 0
        level = next(iter(ms.open_pyramid(place)["scale1"].data_vars.values())).values
        assert set(np.unique(level).tolist()) - {500} >= least
        assert (level[2, 2] == 500) == bool(least)


# tifffile reports texts that are no number of the dtype.
@pytest.mark.filterwarnings("ignore:.*parsing GDAL_NODATA tag")
@pytest.mark.parametrize(
    ("text", "dtype", "nodata"),
    [
        ("-9999", "int16", -9999),
        ("-9999.0 ", "int16", -9999),
        ("-9999", "float32", -9999),
        ("9223372036854775807", "int64", 9223372036854775807),
        ("70000", "int16", None),
        ("nan", "float32", None),
        ("none", "int16", None),
    ],
)
def test_nodata_of_a_tiff_without_positions__is_the_tag_of_gdal(tmp_path, text, dtype, nodata):
    tifffile = pytest.importorskip("tifffile")
    values = HEIGHTS.astype(dtype)
    tifffile.imwrite(tmp_path / "t.tif", values, metadata=None, extratags=[(42113, "s", 0, text, True)])
    assert ms.plan_pyramid(ms.open_image(tmp_path / "t.tif"), [2]).nodata == nodata


def masked_raster(path, values, valid, **profile):
    """Write bands with a mask that does not follow from their values; the file keeps it inside or beside it."""
    rasterio = pytest.importorskip("rasterio")
    inside = profile.pop("inside", True)
    shape = {"height": values.shape[-2], "width": values.shape[-1], "count": len(values), "dtype": values.dtype}
    placed = {"crs": "EPSG:32633", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(path, "w", driver="GTiff", **shape, **placed, **profile) as file,
    ):
        file.write(values)
        file.write_mask(valid)
    return path


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("dtype", "nodata", "missing"), [("float32", None, np.nan), ("float32", -1, -1), ("int16", -1, -1), ("uint8", 7, 7)]
)
def test_a_mask_of_a_geotiff__is_a_mask(tmp_path, inside, dtype, nodata, missing):
    values, valid = np.full((2, 16, 16), 100, dtype), np.full((16, 16), True)
    # What stands under a mask is a value like any other.
    values[:, :, :7], valid[:, :7] = 3, False
    path = masked_raster(tmp_path / "m.tif", values, valid, nodata=nodata, inside=inside)
    level = ms.coarsen(ms.open_image(path), 2)
    assert level.dtype == dtype
    np.testing.assert_array_equal(level.values[:, 0, :], [[missing] * 3 + [100] * 5] * 2)
    np.testing.assert_array_equal(ms.open_image(path)[0, 3:5, 5:9].values, [[missing, missing, 100, 100]] * 2)


FUNCTIONS = ["coarsen", "to_multiscale", "write_pyramid", "rebuild_levels", "update_pyramid"]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "read"), [("uint8", "float32"), ("int16", "float32"), ("uint32", "float64")])
def test_a_mask_of_integers_without_nodata__makes_them_floats_with_nan(tmp_path, dtype, read, function):
    values, valid = np.full((1, 16, 16), 2**15 - 1 if dtype != "uint8" else 255, dtype), np.full((16, 16), True)
    values[:, :, :7], valid[:, :7] = 0, False
    opened = ms.open_image(masked_raster(tmp_path / "dem.tif", values, valid))
    assert opened.dtype == read
    # Zero that is not masked is a value.
    expected = np.full((8, 8), values[0, 0, -1], read)
    expected[:, :3] = np.nan
    np.testing.assert_array_equal(level_of(function, opened), expected)


def test_a_mask_of_64_bit_integers_without_nodata__is_said_to_be_unused(tmp_path):
    path = masked_raster(tmp_path / "m.tif", np.ones((1, 16, 16), "int64"), np.full((16, 16), False))
    with pytest.warns(UserWarning, match=r"m\.tif': the mask is not used, as no value of int64 stands for missing"):
        opened = ms.open_image(path)
    assert int(opened[0, 0]) == 1


@pytest.mark.parametrize("axes", ["YX", "YXS", "SYX"])
@pytest.mark.parametrize(("dtype", "nodata", "read"), [("uint8", None, "float32"), ("uint16", 9, "uint16")])
def test_a_mask_of_a_tiff_without_positions__is_a_mask(tmp_path, axes, dtype, nodata, read):
    tifffile = pytest.importorskip("tifffile")
    samples = {"YX": (), "YXS": (-1,), "SYX": (0,)}[axes]
    values, valid = np.full((16, 24), 100, dtype), np.full((16, 24), True)
    values[:, :7], valid[:, :7] = 3, False
    stated = {} if nodata is None else {"extratags": [(42113, "s", 0, str(nodata), True)]}
    with tifffile.TiffWriter(tmp_path / "m.tif") as file:
        layout = {"photometric": "rgb", "planarconfig": "separate" if axes == "SYX" else "contig"} if samples else {}
        stacked = np.stack([values] * 3, samples[0]) if samples else values
        file.write(stacked, metadata=None, **layout, **stated)
        file.write(valid, photometric=4, subfiletype=4, metadata=None)
    opened = ms.open_image(tmp_path / "m.tif")
    assert opened.dtype == read
    plane = opened.isel(c=1) if samples else opened
    missing = np.nan if nodata is None else nodata
    np.testing.assert_array_equal(plane[3:5, 5:9].values, [[missing, missing, 100, 100]] * 2)
    np.testing.assert_array_equal(ms.coarsen(opened, {"y": 2, "x": 2}).min(), missing if nodata else 100)


LAND = np.random.default_rng(0).choice(np.array([11, 41, 81], "uint8"), (16, 16))
COLORS = {0: (0, 0, 0), 11: (0, 0, 255), 41: (0, 128, 0), 81: (255, 200, 0)}


def classes(source, path):
    """Return an image of classes: as an array in memory, or from a file that states them in its own way."""
    if source == "flag_values":
        return xr.DataArray(LAND, dims=("y", "x"), name="land", attrs={"flag_values": np.array([11, 41, 81], "uint8")})
    if source == "decoded":
        return xr.DataArray(LAND.astype("f4"), dims=("y", "x"), name="land", attrs={"flag_values": [11, 41, 81]})
    if source == "flag_masks":
        return xr.DataArray(LAND, dims=("y", "x"), name="land", attrs={"flag_masks": [1, 2, 4]})
    if source == "netCDF":
        pytest.importorskip("netCDF4")
        classes("flag_values", path).to_netcdf(path / "land.nc")
        return ms.open_image(path / "land.nc")
    if source == "TIFF":
        tifffile = pytest.importorskip("tifffile")
        table = np.zeros((3, 256), "uint16")
        for value, color in COLORS.items():
            table[:, value] = np.multiply(color, 257)
        tifffile.imwrite(path / "land.tif", LAND, photometric="palette", colormap=table, metadata=None)
        return ms.open_image(path / "land.tif")
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "height": 16, "width": 16, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path / "land.tif", "w", transform=rasterio.Affine(30, 0, 5e5, 0, -30, 4e6), **profile) as file:
        file.write(LAND, 1)
        file.write_colormap(1, COLORS)
    return ms.open_image(path / "land.tif")


SOURCES = ["flag_values", "decoded", "flag_masks", "netCDF", "TIFF", "GeoTIFF"]


def caught(function, *arguments, **options):
    """Return the texts of the warnings of a call, and whether each is of this file."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function(*arguments, **options)
    return [str(each.message) for each in found if "classes" in str(each.message)], {each.filename for each in found}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("function", ["coarsen", "to_multiscale", "plan_pyramid", "write_pyramid"])
def test_classes__are_averaged_with_one_warning_that_names_mode(tmp_path, source, function):
    opened = classes(source, tmp_path)
    where = [{}] if function == "write_pyramid" else []
    factors = {"factors": 2} if function == "coarsen" else {"scale_factors": [2]}
    texts, files = caught(getattr(ms, function), opened, *where, **factors)
    assert len(texts) == 1
    assert texts[0].startswith("'land': the values are classes")
    assert "use method='mode'" in texts[0]
    assert files == {__file__}
    for method in ("mode", "nearest", lambda windows, axis: windows.max(axis)):
        where = [{}] if function == "write_pyramid" else []
        assert caught(getattr(ms, function), opened, *where, **factors, method=method)[0] == []


def test_classes__are_warned_of_beside_a_base_and_when_rebuilt_but_not_by_later_changes():
    root = zarr.open_group({}, mode="w")
    base = root.create_array("0", data=LAND, dimension_names=("y", "x"), chunks=(8, 8))
    base.attrs["flag_values"] = [11, 41, 81]
    assert len(caught(ms.add_levels, root, scale_factors=[2])[0]) == 1
    assert len(caught(ms.rebuild_levels, root, method="mean")[0]) == 1
    assert caught(ms.update_pyramid, root, {"y": slice(0, 8)})[0] == []
    assert caught(ms.verify_pyramid, root)[0] == []
    assert caught(ms.rebuild_levels, root, method="mode")[0] == []


@pytest.mark.parametrize("source", ["TIFF", "GeoTIFF"])
def test_a_palette__is_carried_through_a_pyramid(tmp_path, source):
    store = {}
    ms.write_pyramid(classes(source, tmp_path), store, scale_factors=[2], method="mode")
    for level in ("scale0", "scale1"):
        attrs = ms.open_pyramid(store)[f"{level}/land"].attrs
        shown = attrs["flag_colors"].split()
        assert list(attrs["flag_values"]) == list(range(82))
        assert len(shown) == 82
        assert [shown[value] for value in (0, 11, 41, 81)] == ["#000000", "#0000FF", "#008000", "#FFC800"]


def test_classes__are_warned_of_in_the_words_of_the_command_line(tmp_path, capsys):
    classes("TIFF", tmp_path)
    assert main(["build", str(tmp_path / "land.tif"), str(tmp_path / "p.zarr"), "--min-size", "8", "--quiet"]) == 0
    assert "use --method mode" in capsys.readouterr().err


def transparent(dtype="uint8", channels=4):
    """Return colours of which about half is transparent, in windows of 2 and 4 also all and none of it."""
    generator = np.random.default_rng(6)
    values = generator.integers(0, 200, (channels, 21, 26)).astype(dtype)
    alpha = np.where(generator.random((21, 26)) < 0.5, 0, generator.integers(1, 200, (21, 26)))
    alpha[:8, :12], alpha[8:16, :12] = 0, 150
    values[-1] = alpha
    labels = ["red", "green", "blue", "alpha"][-channels:]
    return xr.DataArray(values, {"c": labels}, ("c", "y", "x"), name="p")


def masked_level(values, factor):
    """Return a level of colours whose last channel masks the others, window by window."""
    shape = (len(values), -(-values.shape[1] // factor), -(-values.shape[2] // factor))
    level = np.zeros(shape, values.dtype)
    for channel, row, column in np.ndindex(shape):
        window = values[:, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        valid = window[-1] > 0 if channel < len(values) - 1 else np.ones(window[-1].shape, bool)
        if valid.any():
            level[channel, row, column] = window[channel][valid].mean()
        else:
            level[channel, row, column] = np.nan
    return level


MASKED_FACTORS = [{"y": 2, "x": 2}, {"y": 4, "x": 4}]


def rounded_level(values, factor):
    exact = masked_level(values.astype("f8"), factor)
    return (
        np.nan_to_num(np.rint(exact)).astype(values.dtype) if values.dtype.kind in "iu" else exact.astype(values.dtype)
    )


def levels_of_store(store):
    group = zarr.open_group(store, mode="r")
    return [group[f"scale{index}/p"][...] for index in (1, 2)]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32"])
@pytest.mark.parametrize("chunks", [(1, 8, 8), (4, 8, 8), (3, 21, 8), None])
def test_alpha__masks_the_colours_in_every_function(dtype, chunks):
    picture = transparent(dtype)
    lazy = picture if chunks is None else picture.chunk(dict(zip("cyx", chunks, strict=True)))
    expected = [rounded_level(picture.values, factor) for factor in (2, 4)]
    tree, store = ms.to_multiscale(lazy, MASKED_FACTORS), {}
    np.testing.assert_allclose(ms.coarsen(lazy, MASKED_FACTORS[0]), expected[0], rtol=1e-6)
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        ms.write_pyramid(lazy, store, scale_factors=MASKED_FACTORS)
        written = levels_of_store(store)
        for level, index in zip(expected, (1, 2), strict=True):
            np.testing.assert_allclose(tree[f"scale{index}/p"], level, rtol=1e-6)
            np.testing.assert_allclose(written[index - 1], level, rtol=1e-6)
        assert ms.verify_pyramid(store).ok
        # An edit of the mask alone changes the colours of the levels.
        base = zarr.open_group(store)["scale0/p"]
        base[3, 4:9, 5:20] = 0
        ms.update_pyramid(store, {"c": 3, "y": slice(4, 9), "x": slice(5, 20)})
        expected = [rounded_level(base[...], factor) for factor in (2, 4)]
        for level, found in zip(expected, levels_of_store(store), strict=True):
            np.testing.assert_allclose(found, level, rtol=1e-6)
        ms.rebuild_levels(store, method="mean")
    for level, found in zip(expected, levels_of_store(store), strict=True):
        np.testing.assert_allclose(found, level, rtol=1e-6)
    report = ms.verify_pyramid(store)
    assert report.ok
    # What does not follow the mask is found.
    zarr.open_group(store)["scale1/p"][0, 0, 0] = 77
    assert not ms.verify_pyramid(store).ok


def test_alpha__of_a_tree_of_an_appended_series_and_beside_a_base():
    picture, store = transparent(), {}
    ms.write_pyramid(ms.to_multiscale(picture.chunk(), MASKED_FACTORS), store)
    series = xr.concat([picture, picture[:, ::-1]], "t").transpose("t", "c", "y", "x").rename("p")
    grown = {}
    ms.write_pyramid(series[:1], grown, scale_factors=MASKED_FACTORS)
    ms.append_pyramid(series[1:], grown, "t")
    for index, factor in ((1, 2), (2, 4)):
        expected = rounded_level(picture.values, factor)
        np.testing.assert_array_equal(ms.open_pyramid(store)[f"scale{index}/p"], expected)
        appended = ms.open_pyramid(grown)[f"scale{index}/p"].values
        np.testing.assert_array_equal(appended[0], expected)
        np.testing.assert_array_equal(appended[1], rounded_level(picture.values[:, ::-1], factor))
    assert ms.verify_pyramid(grown).ok
    foreign = zarr.storage.MemoryStore()
    root = zarr.create_group(foreign)
    root.create_array("0", data=picture.values, chunks=(1, 8, 8), dimension_names=("c", "y", "x"))
    ms.add_levels(foreign, scale_factors=MASKED_FACTORS, dims="cyx", channel_names=picture.c.values.tolist())
    np.testing.assert_array_equal(root["1"][...], rounded_level(picture.values, 2))


@pytest.mark.parametrize("method", ["min", "max", "median", "mode", "gaussian", "lanczos"])
def test_alpha__masks_for_every_method_that_ignores_missing_values(method):
    picture, missing = transparent(), -30000
    # Darkest and brightest samples, beyond which filters reach.
    picture = picture.where((picture < 60) | (picture > 150), 0 if method == "gaussian" else 255)
    widened = picture.astype("int16").where(picture[3] > 0, missing)
    widened[3] = picture[3]
    store = {}
    ms.write_pyramid(picture.chunk({"c": 1, "y": 8, "x": 8}), store, scale_factors=MASKED_FACTORS, method=method)
    found = levels_of_store(store)
    # The colours are those of an image that has a number for what is missing; where all is, 0.
    expected = ms.coarsen(widened, MASKED_FACTORS[0], method=method, nodata=missing).values
    expected = np.where(expected == missing, 0, expected).clip(0, 255)
    if method == "min":
        # Else what is valid of a window would be masked with the rest of it.
        expected[3] = ms.coarsen(picture[3], 2, method="max")
    np.testing.assert_array_equal(found[0], expected)
    assert ms.verify_pyramid(store).ok
    if method in ("min", "max"):
        exact = ms.coarsen(widened, MASKED_FACTORS[1], method=method, nodata=missing).values[:3]
        np.testing.assert_array_equal(found[1][:3], np.where(exact == missing, 0, exact))


@pytest.mark.parametrize(
    "options", [{"nodata": None}, {"method": "nearest"}, {"method": lambda windows, axis: windows[..., 0]}]
)
def test_alpha__masks_nothing_where_it_is_turned_off_or_need_not(options):
    picture = transparent()
    method = options.get("method", "mean")
    plain = ms.coarsen(picture.drop_vars("c"), MASKED_FACTORS[0], method=method)
    np.testing.assert_array_equal(ms.coarsen(picture, MASKED_FACTORS[0], **options), plain)


def test_alpha__is_said_to_be_unused_where_a_method_or_dtype_has_no_missing_values():
    for picture, method in ((transparent(), "sum"), (transparent("int64"), "mean")):
        with pytest.warns(UserWarning, match="the channel 'alpha' is not used as a mask"):
            level = ms.coarsen(picture, MASKED_FACTORS[0], method=method)
        np.testing.assert_array_equal(level, ms.coarsen(picture.drop_vars("c"), MASKED_FACTORS[0], method=method))
    picture = transparent()
    weighted = ms.coarsen(picture, MASKED_FACTORS[0], weights=(picture[3] > 0).drop_vars("c"))
    np.testing.assert_array_equal(weighted[:3], rounded_level(picture.values, 2)[:3])


def test_alpha__of_levels_that_were_made_without_it_stays_without_it():
    picture, store = transparent(), {}
    plain = [ms.coarsen(picture.drop_vars("c"), factors).values for factors in MASKED_FACTORS]
    ms.write_pyramid(picture, store, scale_factors=MASKED_FACTORS, nodata=None)
    np.testing.assert_array_equal(levels_of_store(store)[0], plain[0])
    ms.update_pyramid(store, {"y": slice(0, 8)})
    for found, expected in zip(levels_of_store(store), plain, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert ms.verify_pyramid(store).ok


def test_alpha__is_shown_by_the_plan():
    assert "masked by c 3" in str(ms.plan_pyramid(transparent(), MASKED_FACTORS))
    assert "masked" not in str(ms.plan_pyramid(transparent(), MASKED_FACTORS, nodata=None))


def half_missing(missing):
    """Return heights whose middle chunk of 8 x 8 lacks some of 16 groups of voxels; all others lack all."""
    values = np.full((16, 16), -9999, "int16")
    values[8:, 8:] = 500
    values[8:, 8:][np.arange(64).reshape(8, 8) < 4 * missing] = -9999
    return values


def stored_heights(place, missing):
    array = zarr.create_array(place, data=half_missing(missing), chunks=(8, 8))
    array.attrs["nodata"] = -9999
    return array


@pytest.mark.parametrize(("missing", "share"), [(6, "37.5%"), (8, "50.0%"), (9, "56.2%")])
def test_a_plan__has_the_share_of_one_chunk_that_is_missing(capsys, tmp_path, missing, share):
    stored_heights(tmp_path / "dem.zarr", missing)
    sentence = f"nodata -9999: {share} of the voxels of one chunk (y 8:16, x 8:16) are missing"
    for command, *options in (["plan"], ["explain", "--method", "mean"]):
        assert main([command, str(tmp_path / "dem.zarr"), *options, "--dims", "y,x"]) == 0
        shown = capsys.readouterr()
        assert sentence in shown.out
        assert ("pass --nodata none" in shown.err) == (missing > 8)
    arguments = ["--dims", "y,x", "--quiet", "--factors", "2"]
    assert main(["build", str(tmp_path / "dem.zarr"), str(tmp_path / "p.zarr"), *arguments]) == 0
    assert (sentence in capsys.readouterr().err) == (missing > 8)


def test_a_plan__of_an_image_in_memory_has_the_share_too_and_others_only_on_the_command_line(tmp_path):
    heights = xr.DataArray(half_missing(9), dims=("y", "x"), name="dem", attrs={"nodata": -9999})
    with pytest.warns(UserWarning, match=r"89\.1% of the voxels of one chunk .* are missing; .* pass nodata=None"):
        plan = ms.plan_pyramid(heights, [2])
    # One chunk of an image without chunks is the whole of it.
    assert plan.missing.share == plan.to_dict()["missing"] == (192 + 36) / 256
    stored = ms.open_image(stored_heights(tmp_path / "dem.zarr", 9), dims="yx")
    assert ms.plan_pyramid(stored, [2]).missing is None
    assert ms.plan_pyramid(heights, [2], nodata=None).missing is None


@pytest.mark.parametrize("nodata", ["stated", "none"])
def test_a_plan__reads_one_chunk_and_none_without_nodata_or_over_a_network(tmp_path, capsys, nodata):
    stored_heights(tmp_path / "dem.zarr", 9)
    # All other chunks cannot be decoded.
    for chunk in (tmp_path / "dem.zarr" / "c").rglob("*"):
        if chunk.is_file() and (chunk.parent.name, chunk.name) != ("1", "1"):
            chunk.write_bytes(b"damaged")
    assert main(["plan", str(tmp_path / "dem.zarr"), "--dims", "y,x", "--nodata", nodata]) == 0
    assert ("of the voxels" in capsys.readouterr().out) == (nodata == "stated")
    (tmp_path / "dem.zarr" / "c" / "1" / "1").write_bytes(b"damaged")
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe({f"/network/{name}": content for name, content in files.items()})
    assert main(["plan", "memory://network/dem.zarr", "--dims", "y,x", "--nodata", nodata]) == 0
    assert "of the voxels" not in capsys.readouterr().out
