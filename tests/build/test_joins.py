import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main

SEGMENTED = np.arange(4 * 64 * 64, dtype="uint32").reshape(4, 64, 64) % 7


def stored(place):
    image = ms.to_image(
        np.zeros((4, 64, 64), "uint32"),
        scale={"z": 2, "y": 0.5, "x": 0.5},
        translation={"z": 100, "y": 7, "x": 9},
        units="micrometer",
    )
    ms.write_pyramid(image, place, scale_factors=[{"y": 2, "x": 2}])
    return image


def positions(tree, dims="zyx"):
    level = next(iter(tree["scale1"].data_vars.values()))
    return {
        dim: (float(level[dim][0]), float(level[dim].attrs["spacing"]), level[dim].attrs.get("units")) for dim in dims
    }


def unplaced(tmp_path, kind):
    if kind == "tiff":
        tifffile.imwrite(tmp_path / "s.tif", SEGMENTED, photometric="minisblack", metadata={"axes": "ZYX"})
        return ms.open_image(tmp_path / "s.tif")
    if kind == "zarr":
        return ms.open_image(zarr.create_array(str(tmp_path / "s.zarr"), data=SEGMENTED))
    if kind == "to_image":
        return ms.to_image(SEGMENTED)
    if kind == "other dtype":
        return ms.to_image(SEGMENTED.astype("uint8"))
    return SEGMENTED if kind == "array" else xr.DataArray(SEGMENTED, dims=("z", "y", "x"))


@pytest.mark.parametrize("kind", ["tiff", "zarr", "to_image", "other dtype", "array", "xarray"])
def test_labels_without_stated_positions__lie_where_their_image_is(tmp_path, kind):
    stored(tmp_path / "im.zarr")
    ms.write_labels(unplaced(tmp_path, kind), tmp_path / "im.zarr", "cells")
    tree = ms.open_pyramid(tmp_path / "im.zarr")
    assert positions(tree["labels/cells"]) == positions(tree)
    np.testing.assert_array_equal(tree["labels/cells/scale0/cells"].values, SEGMENTED)


def test_labels_of_a_file__lie_where_their_image_is_on_the_command_line_too(tmp_path):
    stored(tmp_path / "im.zarr")
    unplaced(tmp_path, "tiff")
    assert main(["write-labels", str(tmp_path / "s.tif"), str(tmp_path / "im.zarr"), "cells", "--quiet"]) == 0
    tree = ms.open_pyramid(tmp_path / "im.zarr")
    assert positions(tree["labels/cells"]) == positions(tree)


@pytest.mark.parametrize(
    ("scale", "translation", "units"),
    [
        ({"z": 2, "y": 0.25, "x": 0.25}, {"z": 100, "y": 7, "x": 9}, "micrometer"),
        ({"z": 2, "y": 0.5, "x": 0.5}, {"z": 100, "y": 7, "x": 8}, "micrometer"),
        ({"z": 2, "y": 0.5, "x": 0.5}, {"z": 100, "y": 7, "x": 9}, "nanometer"),
        ({"z": 2, "y": 0.5, "x": 0.5}, {"z": 100, "y": 7, "x": 9}, "second"),
    ],
)
def test_labels_with_other_positions__are_refused_and_both_are_named(tmp_path, scale, translation, units):
    stored(tmp_path / "im.zarr")
    labels = ms.to_image(SEGMENTED, scale=scale, translation=translation, units=units)
    with pytest.raises(ValueError, match=r"the labels are at . = .*, the image at . = "):
        ms.write_labels(labels, tmp_path / "im.zarr", "cells")
    assert "labels" not in zarr.open_group(tmp_path / "im.zarr", mode="r")


def test_labels_in_another_unit_of_the_same_positions__are_taken(tmp_path):
    stored(tmp_path / "im.zarr")
    labels = ms.to_image(
        SEGMENTED,
        scale={"z": 2000, "y": 500, "x": 500},
        translation={"z": 1e5, "y": 7000, "x": 9000},
        units="nm",
    )
    ms.write_labels(labels, tmp_path / "im.zarr", "cells")


def test_appended_data_without_stated_positions__go_on_where_the_image_ends(tmp_path):
    stored(tmp_path / "im.zarr")
    ms.append_pyramid(unplaced(tmp_path, "tiff"), tmp_path / "im.zarr", "z")
    base = next(iter(ms.open_pyramid(tmp_path / "im.zarr")["scale0"].data_vars.values()))
    np.testing.assert_array_equal(base.z.values, 100 + 2.0 * np.arange(8))
    np.testing.assert_array_equal(base.values[4:], SEGMENTED)
    elsewhere = ms.to_image(SEGMENTED, translation={"z": 3})
    with pytest.raises(ValueError, match="the image is at z="):
        ms.append_pyramid(elsewhere, tmp_path / "im.zarr", "z")


@pytest.mark.parametrize(
    ("largest", "least", "smallest"), [(255, "uint8", 0), (1023, "uint16", 0), (2**20, "uint32", 0), (300, "int16", -1)]
)
def test_float_labels__get_the_least_dtype_that_holds_them(largest, least, smallest):
    store = {}
    ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2])
    ids = np.linspace(smallest, largest, 4096).round().reshape(64, 64)
    with pytest.raises(TypeError, match=f"dtype='{least}', the smallest that holds them"):
        ms.write_labels(ids, store, "cells")
    with pytest.raises(TypeError, match="dtype='auto'"):
        ms.write_labels(xr.DataArray(ids, dims=("y", "x")).chunk(16), store, "cells")
    for name, dtype in (("asked", least), ("auto", "auto")):
        ms.write_labels(xr.DataArray(ids, dims=("y", "x")).chunk(16), store, name, dtype=dtype)
        level = ms.open_pyramid(store)[f"labels/{name}/scale0/{name}"]
        assert level.dtype == least
        np.testing.assert_array_equal(level.values, ids)


def test_float_labels__that_do_not_fit_the_dtype_are_refused():
    store = {}
    ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2])
    with pytest.raises(ValueError, match=r"256.0 .* does not fit dtype='uint8'"):
        ms.write_labels(np.full((64, 64), 256.0), store, "cells", dtype="uint8")
    with pytest.raises(ValueError, match=r"0.5 .* does not fit dtype='uint8'"):
        ms.write_labels(np.full((64, 64), 0.5), store, "halves", dtype="uint8")
    assert list(ms.open_pyramid(store).children) == ["scale0", "scale1"]


@pytest.mark.parametrize("as_tree", [False, True])
def test_bool_labels__are_labels(as_tree):
    store = {}
    ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2])
    mask = np.arange(64 * 64).reshape(64, 64) % 3 == 0
    ms.write_labels(ms.to_multiscale(mask, [2], "mode") if as_tree else mask, store, "mask")
    level = ms.open_pyramid(store)["labels/mask/scale0/mask"]
    assert level.dtype == "uint8"
    np.testing.assert_array_equal(level.values, mask)


@pytest.mark.parametrize("dtype", ["uint32", "uint8"])
def test_trees_of_labels__lie_where_their_image_is(tmp_path, dtype):
    image = stored(tmp_path / "im.zarr")
    levels = ms.to_multiscale(SEGMENTED.astype(dtype), [{"y": 2, "x": 2}], "mode")
    ms.write_labels(levels, tmp_path / "im.zarr", "cells")
    tree = ms.open_pyramid(tmp_path / "im.zarr")
    assert positions(tree["labels/cells"]) == positions(tree)
    # The levels are recomputed from the base by their recipe, which they keep.
    recipe = zarr.open_group(tmp_path / "im.zarr/labels/cells", mode="r").attrs["ome"]["multiscales"][0]["type"]
    assert recipe == "mode"
    elsewhere = ms.to_multiscale(ms.to_image(SEGMENTED, scale={"x": 0.25}), [{"y": 2, "x": 2}], "mode")
    with pytest.raises(ValueError, match=r"the labels are at x = 0.0 \+ 0.25 \* i, the image at x = 9.0 \+ 0.5 \* i"):
        ms.write_labels(elsewhere, tmp_path / "im.zarr", "others")
    together = ms.to_multiscale(image, [{"y": 2, "x": 2}])
    together["labels/cells"] = levels
    ms.write_pyramid(together, tmp_path / "together.zarr")
    tree = ms.open_pyramid(tmp_path / "together.zarr")
    assert positions(tree["labels/cells"]) == positions(tree)


def test_labels_of_a_dated_series__have_its_dates(tmp_path):
    dates = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "datetime64[ns]")
    series = ms.to_image(np.zeros((3, 64, 64), "uint8"), "tyx", scale=0.5).assign_coords(t=dates)
    ms.write_pyramid(series, tmp_path / "im.zarr", scale_factors=[{"y": 2, "x": 2}])
    ids = np.ones((3, 64, 64), "uint16")
    ms.write_labels(ids, tmp_path / "im.zarr", "bare")
    ms.write_labels(ms.to_image(ids, "tyx").assign_coords(t=dates), tmp_path / "im.zarr", "dated")
    tree = ms.open_pyramid(tmp_path / "im.zarr")
    for name in ("bare", "dated"):
        np.testing.assert_array_equal(tree[f"labels/{name}/scale1"].t.values, dates)
    with pytest.raises(ValueError, match=r"the labels are at t = 2020-01-02.* the image at t = 2020-01-01"):
        ms.write_labels(
            ms.to_image(ids, "tyx").assign_coords(t=dates + np.timedelta64(1, "D")), tmp_path / "im.zarr", "l"
        )


@pytest.mark.parametrize("kind", ["array", "path", "group"])
def test_stored_labels__are_joined_by_what_is_stated_of_them(tmp_path, kind):
    stored(tmp_path / "im.zarr")

    def source(name, **stated):
        ms.write_pyramid(ms.to_image(SEGMENTED, **stated), tmp_path / name, scale_factors=[], layout="flat")
        group = zarr.open_group(tmp_path / name, mode="r")
        return {"array": group["0"], "path": str(tmp_path / name), "group": group}[kind]

    ms.write_labels(source("plain.zarr"), tmp_path / "im.zarr", "cells")
    tree = ms.open_pyramid(tmp_path / "im.zarr")
    assert positions(tree["labels/cells"]) == positions(tree)
    other = source("other.zarr", scale=0.25, units="micrometer")
    with pytest.raises(ValueError, match="the labels are at z = "):
        ms.write_labels(other, tmp_path / "im.zarr", "others")
    with pytest.raises(ValueError, match="the image is at "):
        ms.append_pyramid(other, tmp_path / "im.zarr", "z")


def test_labels_nearly_at_the_positions_of_the_image__are_taken_with_those_of_the_image(tmp_path):
    stored(tmp_path / "im.zarr")
    where = {"scale": {"z": 2, "y": 0.5, "x": 0.5000001}, "translation": {"z": 100, "y": 7, "x": 9}}
    ms.write_labels(ms.to_image(SEGMENTED, **where), tmp_path / "im.zarr", "cells")
    tree = ms.open_pyramid(tmp_path / "im.zarr")
    assert positions(tree["labels/cells"]) == positions(tree)


def test_appended_data_in_another_unit__are_compared_in_one(tmp_path):
    stored(tmp_path / "im.zarr")
    scale, at = {"z": 2, "y": 0.5, "x": 0.5}, {"z": 108, "y": 7, "x": 9}
    wrong = ms.to_image(SEGMENTED, scale=scale, translation=at, units="nanometer")
    with pytest.raises(ValueError, match=r"y=7.0 to 38.5 nanometer, but the positions in the store require"):
        ms.append_pyramid(wrong, tmp_path / "im.zarr", "z")
    thousandfold = [{dim: value * 1000 for dim, value in each.items()} for each in (scale, at)]
    right = ms.to_image(SEGMENTED, scale=thousandfold[0], translation=thousandfold[1], units="nanometer")
    ms.append_pyramid(right, tmp_path / "im.zarr", "z")
    base = ms.open_pyramid(tmp_path / "im.zarr")["scale0"]
    np.testing.assert_array_equal(base.z.values, 100 + 2.0 * np.arange(8))


def test_one_appended_plane__needs_no_spacing(tmp_path):
    stored(tmp_path / "im.zarr")
    plane = ms.to_image(SEGMENTED[:1], translation={"z": 108})
    ms.append_pyramid(plane, tmp_path / "im.zarr", "z")
    assert ms.open_pyramid(tmp_path / "im.zarr")["scale0"].sizes["z"] == 5


@pytest.mark.parametrize("stated", [{}, {"scale": 500.0, "units": "nm"}, {"scale": 0.5}])
def test_weights__are_joined_by_their_stated_positions(stated):
    image = ms.to_image(np.arange(16.0).reshape(4, 4), scale=0.5, units="um")
    weights = np.zeros((4, 4))
    weights[::2, ::2] = 1
    level = ms.to_multiscale(image, [2], weights=ms.to_image(weights, **stated))["scale1/image"]
    np.testing.assert_array_equal(level.values, [[0, 2], [8, 10]])


@pytest.mark.parametrize("stated", [{"scale": 0.25}, {"scale": 0.5, "units": "nm"}, {"translation": 3}])
def test_weights_at_other_positions__are_refused_and_both_are_named(stated):
    image = ms.to_image(np.arange(16.0).reshape(4, 4), scale=0.5, units="um")
    with pytest.raises(ValueError, match=r"the weights are at y = .*, the image at y = 0.0 \+ 0.5 \* i um"):
        ms.to_multiscale(image, [2], weights=ms.to_image(np.ones((4, 4)), **stated))


def test_reversed_weights_on_a_fine_grid__are_refused():
    image = ms.to_image(np.zeros((4, 4)), scale=1e-9, units="m")
    with pytest.raises(ValueError, match="different coordinates"):
        ms.plan_pyramid(image, weights=xr.ones_like(image)[::-1])


def test_weights_of_dated_samples__are_compared_by_date():
    dates = np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]")
    image = ms.to_image(np.zeros((2, 4, 4)), "tyx").assign_coords(t=dates)
    weights = xr.DataArray([1.0, 2.0], {"t": dates}, ["t"])
    ms.plan_pyramid(image, weights=weights)
    with pytest.raises(ValueError, match="different coordinates along 't'"):
        ms.plan_pyramid(image, weights=weights.assign_coords(t=dates[::-1]))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("change", ["scale", "translation", "nothing"])
def test_checks__report_labels_that_do_not_cover_their_image(tmp_path, version, change):
    place = tmp_path / "im.zarr"
    image = ms.to_image(SEGMENTED, scale=0.5, translation=20, units="micrometer")
    ms.write_pyramid(image, place, scale_factors=[2], version=version, layout="flat")
    ms.write_labels(SEGMENTED, place, "cells")
    group = zarr.open_group(place / "labels/cells")
    attributes = group.attrs.asdict()
    for dataset in attributes.get("ome", attributes)["multiscales"][0]["datasets"]:
        for each in dataset["coordinateTransformations"]:
            if each["type"] == change == "scale":
                each["scale"] = [value * 2 for value in each["scale"]]
            elif each["type"] == change == "translation":
                each["translation"] = [value - 20 for value in each["translation"]]
    group.attrs.put(attributes)
    for report in (ms.validate(place), ms.verify_pyramid(place)):
        found = [finding for finding in report.findings if "do not cover their image" in finding.found]
        assert [finding.location for finding in found] == ([] if change == "nothing" else ["labels/cells"])
        assert all("of the image" in finding.expected and "micrometer" in finding.found for finding in found)


def test_append__on_the_command_line_looks_at_what_is_stated_as_in_python(tmp_path, capsys):
    stored(tmp_path / "im.zarr")
    append = ["append", str(tmp_path / "s.tif"), str(tmp_path / "im.zarr"), "--dim", "z", "--quiet"]
    unplaced(tmp_path, "tiff")
    assert main(append) == 0
    assert main([*append, "--scale", "z=2,y=0.5,x=0.25"]) == 1
    error = capsys.readouterr().err
    assert "the image is at y=0.0 to 31.5, but the positions in the store require 7.0 to 38.5 micrometer" in error
    assert "--scale, --translation and --unit" in error
    assert main([*append, "--scale", "2,0.5,0.5", "--translation", "116,7,9", "--unit", "um"]) == 0
    zarr.create_array(str(tmp_path / "bare.zarr"), data=SEGMENTED)
    assert main(["append", str(tmp_path / "bare.zarr"), *append[2:]]) == 0
    base = ms.open_pyramid(tmp_path / "im.zarr")["scale0"]
    np.testing.assert_array_equal(base.z.values, 100 + 2.0 * np.arange(16))


def test_write_labels__on_the_command_line_takes_positions_and_a_dtype(tmp_path, capsys):
    stored(tmp_path / "im.zarr")
    tifffile.imwrite(
        tmp_path / "f.tif", SEGMENTED.astype("float32"), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    command = ["write-labels", str(tmp_path / "f.tif"), str(tmp_path / "im.zarr"), "cells", "--quiet"]
    assert main(command) == 1
    assert "--dtype auto" in capsys.readouterr().err
    assert main([*command, "--dtype", "auto", "--scale", "0.25"]) == 1
    assert "the labels are at z = 0.0 + 0.25 * i, the image at z = 100.0 + 2.0 * i" in capsys.readouterr().err
    where = ["--scale", "2,0.5,0.5", "--translation", "100,7,9", "--unit", "micron"]
    assert main([*command, "--dtype", "auto", *where]) == 0
    tree = ms.open_pyramid(tmp_path / "im.zarr")
    assert positions(tree["labels/cells"]) == positions(tree)
    assert tree["labels/cells/scale0/cells"].dtype == "uint8"
    np.testing.assert_array_equal(tree["labels/cells/scale0/cells"].values, SEGMENTED)
