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


def test_float_labels__are_refused_without_advice_that_merges_ids():
    store = {}
    ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2])
    with pytest.raises(TypeError, match="a dtype that holds the largest id"):
        ms.write_labels(np.arange(4096.0).reshape(64, 64), store, "cells")
