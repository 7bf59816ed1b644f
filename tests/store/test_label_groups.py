"""Labels beside their image: where they lie, where they are stored, and which the image lists."""

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.store.label_groups import (
    is_finished,
    label_place,
    labels_group_above,
    placed_labels,
    placed_levels,
    register_label,
)

IMAGE = ms.to_image(np.zeros((2, 8, 12), "uint8"), "cyx", scale={"y": 0.5, "x": 2.0}, units="micrometer")
IDS = np.arange(96, dtype="uint16").reshape(8, 12)


def test_bare_labels__are_of_all_axes_or_of_all_but_the_channels():
    for ids, dims in ((IDS, ("y", "x")), (np.stack([IDS, IDS]), ("c", "y", "x"))):
        placed = placed_labels(ids, IMAGE, "cells")
        assert placed.dims == dims
        assert placed.name == "cells"
        np.testing.assert_array_equal(placed.values, ids)
        for dim in ("y", "x"):
            xr.testing.assert_identical(
                placed[dim].drop_vars(placed[dim].coords), IMAGE[dim].drop_vars(IMAGE[dim].coords)
            )


@pytest.mark.parametrize("shape", [(8,), (12, 8), (8, 13), (3, 8, 12), (1, 2, 8, 12)])
def test_bare_labels__of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"labels of shape .* do not fit an image of \{'c': 2, 'y': 8, 'x': 12\}"):
        placed_labels(np.zeros(shape, "uint16"), IMAGE, "cells")


@pytest.mark.parametrize("dims", [("x", "y"), ("x",), ("y",)])
def test_labels_with_named_axes__may_have_some_of_them_in_any_order(dims):
    labels = xr.DataArray(np.zeros([IMAGE.sizes[dim] for dim in dims], "uint16"), dims=dims, name="own")
    placed = placed_labels(labels, IMAGE, None)
    assert placed.dims == dims
    assert placed.name == "own"
    assert all((placed[dim].values == IMAGE[dim].values).all() for dim in dims)


@pytest.mark.parametrize("sizes", [{"y": 8, "z": 12}, {"y": 8, "x": 11}, {}])
def test_labels_with_named_axes__have_names_and_sizes_of_the_image(sizes):
    with pytest.raises(ValueError, match=rf"labels of shape {sizes} do not fit an image of"):
        placed_labels(xr.DataArray(np.zeros(tuple(sizes.values()), "uint16"), dims=tuple(sizes)), IMAGE, "cells")


def test_labels_that_lie_elsewhere__are_refused_and_the_same_positions_are_not():
    shifted = xr.DataArray(IDS, {"y": IMAGE.y.values + 1, "x": IMAGE.x.values}, ("y", "x"))
    with pytest.raises(ValueError, match=r"the labels are at .*, the image at .*; correct them with scale="):
        placed_labels(shifted, IMAGE, "cells")
    same = xr.DataArray(IDS, {"y": IMAGE.y.values, "x": IMAGE.x.values}, ("y", "x"))
    assert placed_labels(same, IMAGE, "cells").y.attrs["units"] == "micrometer"


def test_labels_of_named_channels__keep_the_names_beside_an_image_without():
    labels = xr.DataArray(np.stack([IDS, IDS]), {"c": ["nuclei", "cells"]}, ("c", "y", "x"))
    assert placed_labels(labels, IMAGE, "x").c.values.tolist() == ["nuclei", "cells"]
    named = IMAGE.assign_coords(c=["DAPI", "GFP"])
    with pytest.raises(ValueError, match="the labels are at"):
        placed_labels(labels, named, "x")
    assert placed_labels(labels.drop_vars("c"), named, "x").c.values.tolist() == ["DAPI", "GFP"]


@pytest.mark.parametrize("method", ["mode", "nearest"])
@pytest.mark.parametrize("boundary", ["pad", "trim"])
@pytest.mark.parametrize("uneven", [False, True])
def test_levels_of_labels__lie_where_those_of_the_image_do(method, boundary, uneven):
    size = 11
    positions = np.cumsum(np.arange(1.0, size + 1)) if uneven else 3.0 + 0.25 * np.arange(size)
    image = xr.DataArray(np.zeros(size, "uint16"), {"x": ("x", positions, {"units": "micrometer"})}, ("x",))
    bare = xr.DataArray(np.arange(size, dtype="uint16"), dims=("x",), name="cells")
    trees = [
        ms.to_multiscale(each, [{"x": 2}, {"x": 4}], method, boundary=boundary) for each in (image.rename("i"), bare)
    ]
    expected, levels = ([next(iter(node.data_vars.values())) for node in tree.children.values()] for tree in trees)
    placed = placed_levels(levels, image)
    for level, other, ids in zip(placed, expected, levels, strict=True):
        np.testing.assert_allclose(level.x.values, other.x.values, rtol=1e-12)
        assert level.x.attrs["units"] == "micrometer"
        np.testing.assert_array_equal(level.values, ids.values)


def test_levels_of_labels__keep_what_they_state():
    own = ms.to_image(IDS, "yx", scale={"y": 0.5, "x": 2.0}, translation={"y": 7.0}, name="cells")
    levels = [node["cells"] for node in ms.to_multiscale(own, [2], "mode").children.values()]
    for level, unchanged in zip(placed_levels(levels, IMAGE), levels, strict=True):
        xr.testing.assert_identical(level.y.variable, unchanged.y.variable)


def test_levels_of_labels__of_another_size_are_left_alone():
    levels = [xr.DataArray(np.zeros((8, 5), "uint16"), dims=("y", "x"), name="cells")]
    (placed,) = placed_levels(levels, IMAGE)
    assert placed.y.values.tolist() == IMAGE.y.values.tolist()
    assert "x" not in placed.coords


@pytest.fixture
def image(tmp_path):
    ms.write_pyramid(IMAGE, tmp_path / "image.zarr", scale_factors=[{"y": 2, "x": 2}])
    return tmp_path / "image.zarr"


def test_label_place__is_in_the_group_of_the_image(image):
    group = zarr.open_group(image)
    assert label_place(group, "cells").path == "labels/cells"
    for name in ("", "a/b", ".."):
        with pytest.raises(ValueError, match="choose another name, as 'nuclei_2'"):
            label_place(group, name)


def test_is_finished__of_a_whole_pyramid_alone(image):
    group = zarr.open_group(image)
    place = label_place(group, "cells")
    assert not is_finished(place)
    group.create_group("labels/cells")
    assert not is_finished(place)
    ms.write_labels(IDS, image, "nuclei")
    assert is_finished(label_place(group, "nuclei"))

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ms.write_labels(IDS // 2, image, "nuclei", mode="w", progress=stop)
    # What is there is whole, but what is to replace it is not.
    assert ms.verify_pyramid(image / "labels" / "nuclei").ok
    assert not is_finished(label_place(group, "nuclei"))


@pytest.mark.parametrize("by", ["path in the store", "folder"])
def test_labels_group_above__is_that_which_lists_them(image, by):
    ms.write_labels(IDS, image, "cells")
    place = {"store": image, "path": "labels/cells"} if by != "folder" else {"store": image / "labels" / "cells"}
    above = labels_group_above(zarr.open_group(**place, mode="r"))
    assert above.attrs["ome"]["labels"] == ["cells"]
    deeper = zarr.storage.MemoryStore()
    zarr.create_group(deeper, path="images/a/labels", attributes={"ome": {"labels": ["ids"]}})
    zarr.create_group(deeper, path="images/a/labels/ids")
    found = labels_group_above(zarr.open_group(deeper, path="images/a/labels/ids"))
    assert found.path == "images/a/labels"
    # It can be written to, whatever the mode of the group.
    register_label(above, "nuclei", "0.5")
    assert zarr.open_group(image / "labels").attrs["ome"]["labels"] == ["cells", "nuclei"]


def test_labels_group_above__is_none_of_an_image_by_itself(image, tmp_path):
    assert labels_group_above(zarr.open_group(image)) is None
    memory = zarr.storage.MemoryStore()
    for path in ("", "cells", "other/cells", "labels/deep/cells"):
        assert labels_group_above(zarr.create_group(memory, path=path)) is None
    # Folders that are called so, and are no more.
    assert labels_group_above(zarr.create_group(tmp_path / "labels" / "cells")) is None
    zarr.create_array(memory, name="labels", shape=1, dtype="u1", overwrite=True)
    assert labels_group_above(zarr.open_group(memory, path="cells")) is None


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_register_label__lists_labels_once_and_keeps_what_else_is_there(version):
    group = zarr.create_group({}, zarr_format=2 if version == "0.4" else 3, attributes={"mine": 1})
    for name in ("b", "a", "b"):
        register_label(group, name, version)
    attributes = group.attrs.asdict()
    assert attributes.pop("mine") == 1
    assert (attributes if version == "0.4" else attributes["ome"])["labels"] == ["b", "a"]
