"""What reading a pyramid returns: the same description for every version, order and convention."""

import numpy as np
import pytest
import zarr

from multiscale_sampler import rebuild_levels, to_image, write_labels, write_pyramid
from multiscale_sampler.store import StoredPyramid

from ..data import make_array, noise

VALUES = noise((6, 8, 10))
MULTISCALES = {
    "axes": [{"name": dim, "type": "space", "unit": "micrometer"} for dim in "zyx"],
    "datasets": [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for path, scale in (("small", [8.0, 1.0, 0.5]), ("large", [4.0, 0.5, 0.25]))
    ],
}


@pytest.fixture
def foreign():
    """Return the group of another writer's pyramid, which lists the small level first."""
    group = zarr.open_group({}, mode="w")
    for path, values in (("large", VALUES), ("small", VALUES[::2, ::2, ::2])):
        make_array(group.store_path, values, path=path, chunks=(2, 4, 4), dims=("z", "y", "x"))
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [MULTISCALES]}})
    return group


@pytest.fixture
def ours():
    """Return the group of a pyramid of ours with labels."""
    store = {}
    image = to_image(VALUES, scale=0.5, units="micrometer", name="cells")
    write_pyramid(image, store, scale_factors=[2, 4], method="max")
    write_labels(np.ones(VALUES.shape, "uint8"), store, "nuclei")
    return zarr.open_group(store, mode="r")


@pytest.fixture
def by_convention():
    """Return the group of levels that only the zarr convention describes."""
    store = {}
    place = {"scale": 10.0, "translation": 500_000.0}
    image = to_image(VALUES[0], name="band", **place).assign_attrs(crs="EPSG:32632")
    write_pyramid(image, store, scale_factors=[2], metadata=("geozarr",))
    return zarr.open_group(store, mode="r+", use_consolidated=False)


def test_stored_pyramid__levels_of_another_writer_are_in_the_order_of_their_sizes(foreign):
    stored = StoredPyramid.of(foreign)
    assert stored.paths == ("large", "small")
    assert [array.shape for array in stored.arrays] == [(6, 8, 10), (3, 4, 5)]
    assert [[axis.scale for axis in axes] for axes in stored.levels] == [[4.0, 0.5, 0.25], [8.0, 1.0, 0.5]]
    assert stored.assumed == ("levels in the order of their sizes, large, small",)
    assert (stored.version, stored.layout, stored.recipe, stored.begun) == ("0.5", "flat", None, None)
    assert stored.is_ngff
    assert not stored.is_labels
    assert not stored.is_consolidated
    with pytest.warns(UserWarning, match="assumed: levels in the order of their sizes") as caught:
        stored.warn_of_metadata(stacklevel=1)
    assert caught[0].filename == __file__


def test_stored_pyramid__as_listed_keeps_the_order_of_the_metadata(foreign):
    stored = StoredPyramid.by_ngff(foreign)
    listed = StoredPyramid.as_listed(foreign, stored._of_levels((1, 0)).multiscales, stored.arrays[::-1])
    assert listed.paths == ("small", "large")
    assert listed.assumed == ()
    assert listed.finest_first().paths == ("large", "small")


def test_stored_pyramid__of_ours_knows_recipe_labels_and_layout(ours):
    stored = StoredPyramid.of(ours)
    assert stored.name == "cells"
    assert stored.layout == "datatree"
    assert stored.is_consolidated
    assert stored.recipe["method"] == "max"
    assert stored.recipe["scale_factors"] == [{"z": 2, "y": 2, "x": 2}, {"z": 4, "y": 4, "x": 4}]
    assert list(stored.labels) == ["nuclei"]
    labels = StoredPyramid.of(stored.labels["nuclei"])
    assert labels.is_labels
    assert labels.labels == {}
    options = stored.level_options(("z", "y", "x"))
    assert options.scale_factors == [{"z": 2, "y": 2, "x": 2}, {"z": 4, "y": 4, "x": 4}]
    assert options.boundary == "pad"
    assert stored.level_options(("y",)).scale_factors == [{"y": 2}, {"y": 4}]


def test_stored_pyramid__images_are_lazy_and_labelled(ours):
    stored = StoredPyramid.of(ours, chunks={"x": 5})
    assert [image.dims for image in stored.images] == [("z", "y", "x")] * 3
    assert stored.images[0].chunks[2] == (5, 5)
    np.testing.assert_array_equal(stored.images[0], VALUES)
    np.testing.assert_array_equal(stored.image.x, stored.images[0].x)
    tree = stored.tree()
    assert list(tree.children) == ["scale0", "scale1", "scale2"]
    np.testing.assert_array_equal(tree["scale1/cells"], stored.images[1])


def test_stored_pyramid__only_some_levels(ours):
    stored = StoredPyramid.of(ours)
    shorter = stored.only([2])
    assert shorter.paths == (stored.paths[0], stored.paths[2])
    assert shorter.arrays == (stored.arrays[0], stored.arrays[2])
    assert shorter.levels == (stored.levels[0], stored.levels[2])
    assert shorter.recipe["scale_factors"] == stored.recipe["scale_factors"][1:]


def test_stored_pyramid__by_the_convention_alone(by_convention):
    stored = StoredPyramid.of(by_convention)
    assert not stored.is_ngff
    assert stored.name == "band"
    assert stored.paths == ("scale0/band", "scale1/band")
    assert [array.path for array in stored.arrays] == list(stored.paths)
    assert [axis.scale for axis in stored.levels[1]] == [20.0, 20.0]
    assert stored.recipe["method"] == "mean"
    assert stored.tree()["scale0/band"].attrs["crs"] == "EPSG:32632"
    with pytest.raises(ValueError, match="no OME-NGFF multiscales metadata"):
        StoredPyramid.by_ngff(by_convention)


def test_rebuild_levels__of_a_foreign_convention_says_what_is_missing(by_convention):
    by_convention.attrs["multiscales"] = {"layout": by_convention.attrs["multiscales"]["layout"]}
    with pytest.raises(ValueError, match="no OME-NGFF multiscales metadata, which would state"):
        rebuild_levels(by_convention, method="max")


def test_stored_pyramid__refuses_an_array(ours):
    with pytest.raises(ValueError, match="is an array, not a pyramid"):
        StoredPyramid.of(ours["scale0/cells"])
