"""``tree.multiscale``: levels are chosen and edited together, compared with plain xarray level by level."""

import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms

from .data import noise
from .oracles import check_levels

BASE = noise((3, 32, 48))
NAMES = ["DAPI", "GFP", "RFP"]

ROOT = Path(ms.__file__).parents[1]


def make_tree(name="nuc", channel_names=None, **options):
    image = ms.to_image(
        BASE, "cyx", scale={"y": 0.5, "x": 0.25}, units="micrometer", name=name, channel_names=channel_names
    )
    return ms.to_multiscale(image, [2, 4], **options)


def levels_of(tree):
    return [node.to_dataset() for node in tree.children.values()]


def test_accessor__is_registered_by_importing_the_package():
    code = "import multiscale_sampler, xarray; print(type(xarray.DataTree().multiscale).__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "multiscale_sampler.accessor\n"
    assert not hasattr(xr.DataTree, "msi")


# --- edits of all levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [("y", "x", "c"), ("x", "y", "c"), ("c", "x", "y"), (), (..., "c")], ids=str)
def test_transpose__of_every_level(dims, refuse_to_compute):
    tree = make_tree()
    transposed = tree.multiscale.transpose(*dims)
    assert transposed.attrs == tree.attrs
    for level, original in zip(levels_of(transposed), levels_of(tree), strict=True):
        assert level["nuc"].dims == original["nuc"].transpose(*dims).dims
        assert level["nuc"].x.attrs["units"] == "micrometer"


def test_transpose__reorders_values_chunks_and_shards():
    store = {}
    make_tree().multiscale.to_zarr(store, chunks={"c": 1, "y": 8, "x": 4}, shards={"c": 3, "y": 16, "x": 8})
    image = ms.open_pyramid(store).multiscale.transpose("x", "c", "y")["scale0/nuc"]
    np.testing.assert_array_equal(image.values, BASE.transpose(2, 0, 1))
    assert (image.encoding["chunks"], image.encoding["shards"]) == ((4, 1, 8), (8, 3, 16))
    assert ms.open_pyramid(store)["scale0/nuc"].encoding["chunks"] == (1, 8, 4)


def test_transpose__refuses_axes_that_do_not_exist():
    with pytest.raises(ValueError, match="'z'"):
        make_tree().multiscale.transpose("z", "y", "x")


def test_msi_11__reindex_data_arrays_takes_any_name_of_an_image():
    """MSI-11: an image named `nuc` raised KeyError 'image'."""
    tree = make_tree(channel_names=NAMES)
    for level in levels_of(tree.multiscale.reindex_data_arrays({"c": ["RFP", "DAPI"]})):
        assert level.c.values.tolist() == ["RFP", "DAPI"]
        assert level["nuc"].x.attrs["units"] == "micrometer"
    whole = tree.multiscale.reindex_data_arrays({"c": ["RFP", "DAPI"]})["scale0/nuc"]
    np.testing.assert_array_equal(whole.values, BASE[[2, 0]])


def test_msi_11__reindex_data_arrays_takes_indexers_by_keyword():
    """MSI-11: ``c=["GFP"]`` was ignored."""
    tree = make_tree(channel_names=NAMES).multiscale.reindex_data_arrays(c=["GFP"])
    assert [level.sizes["c"] for level in levels_of(tree)] == [1, 1, 1]
    np.testing.assert_array_equal(tree["scale0/nuc"].values, BASE[[1]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fill_value": 7},
        {"fill_value": {"nuc": 9}},
        {"method": "nearest"},
        {"method": "nearest", "tolerance": 0.5},
        {"copy": True},
    ],
    ids=str,
)
def test_reindex_data_arrays__takes_the_options_of_xarray(options):
    tree = make_tree()
    positions = {"y": [0.1, 0.25, 4.0, 100.0], "x": [0.0, 0.375]}
    changed = tree.multiscale.reindex_data_arrays(positions, **options)
    for level, original in zip(levels_of(changed), levels_of(tree), strict=True):
        xr.testing.assert_identical(level, original.reindex(positions, **options))


def test_reindex_data_arrays__takes_options_by_position_as_msi_does():
    tree = make_tree()
    changed = tree.multiscale.reindex_data_arrays({"y": [0.1]}, "nearest", 1.0, False, 5)
    for level, original in zip(levels_of(changed), levels_of(tree), strict=True):
        expected = original.reindex({"y": [0.1]}, method="nearest", tolerance=1.0, fill_value=5)
        xr.testing.assert_identical(level, expected)


@pytest.mark.parametrize(
    ("args", "kwargs"), [(({"c": NAMES},), {}), ((), {"c": NAMES}), (({},), {"c": NAMES})], ids=str
)
def test_msi_11__assign_coords_takes_coordinates_by_keyword(args, kwargs, refuse_to_compute):
    """MSI-11: ``assign_coords({}, c=[...])`` raised TypeError."""
    tree = make_tree()
    changed = tree.multiscale.assign_coords(*args, **kwargs)
    for level, original in zip(levels_of(changed), levels_of(tree), strict=True):
        assert level.c.values.tolist() == NAMES
        xr.testing.assert_identical(level, original.assign_coords(c=NAMES))


def test_assign_coords__calls_a_function_with_every_level():
    tree = make_tree().multiscale.assign_coords(x=lambda level: level.x * 1000)
    for level, original in zip(levels_of(tree), levels_of(make_tree()), strict=True):
        np.testing.assert_array_equal(level.x.values, original.x.values * 1000)


def test_edits__of_trees_of_several_variables():
    dataset = xr.Dataset({"raw": ms.to_image(BASE[0]), "labels": ms.to_image(BASE[1].astype("uint32"))})
    tree = ms.to_multiscale(dataset, [2]).multiscale.transpose("x", "y")
    assert [level[name].dims for level in levels_of(tree) for name in ("raw", "labels")] == [("x", "y")] * 4
    changed = tree.multiscale.reindex_data_arrays(x=[1.0], method="nearest")
    assert set(changed["scale1"].data_vars) == {"raw", "labels"}


def test_edits__of_labels_are_along_their_own_axes():
    store = {}
    make_tree(channel_names=NAMES).multiscale.to_zarr(store)
    labels = ms.to_image(BASE[0].astype("uint32"), scale={"y": 0.5, "x": 0.25}, units="micrometer")
    ms.write_labels(labels, store, "nuclei")
    tree = ms.open_pyramid(store)
    transposed = tree.multiscale.transpose("x", "y", "c")["labels/nuclei/scale1/nuclei"]
    np.testing.assert_array_equal(transposed.values, tree["labels/nuclei/scale1/nuclei"].values.T)
    green = tree.multiscale.reindex_data_arrays(c=["GFP"], y=[1.0], method=None)
    assert green["scale0/nuc"].sizes == {"c": 1, "y": 1, "x": 48}
    assert green["labels/nuclei/scale0/nuclei"].sizes == {"y": 1, "x": 48}
    shifted = tree.multiscale.assign_coords(c=["a", "b", "c"], x=lambda level: level.x + 1)
    assert "c" not in shifted["labels/nuclei/scale0"].coords
    assert shifted["labels/nuclei/scale2"].x.values[0] == tree["scale2"].x.values[0] + 1
    assert len(tree.multiscale.levels) == 3
    assert tree["labels/nuclei"].multiscale.at(x=1.0).sizes == {"y": 8, "x": 12}


def test_skip_non_dimension_nodes__returns_the_root_unchanged():
    seen = []

    @ms.skip_non_dimension_nodes
    def transpose(level, *dims, **options):
        """Record the sizes of a level."""
        seen.append((dict(level.sizes), options))
        return level.transpose(*dims)

    assert transpose.__doc__ == "Record the sizes of a level."
    empty = xr.Dataset(attrs={"a": 1})
    assert transpose(empty, "y") is empty
    transposed = make_tree().map_over_datasets(transpose, "y", "x", "c", kwargs={"option": 1})
    assert transposed["scale1/nuc"].dims == ("y", "x", "c")
    assert seen == [({"c": 3, "y": 32 // f, "x": 48 // f}, {"option": 1}) for f in (1, 2, 4)]


# --- storing ---------------------------------------------------------------------------------------------------


def test_to_zarr__is_write_pyramid(tmp_path):
    tree = make_tree(channel_names=NAMES)
    tree.multiscale.to_zarr(tmp_path / "p.zarr", version="0.4", layout="flat", compressors=None)
    group = zarr.open_group(tmp_path / "p.zarr")
    assert group.metadata.zarr_format == 2
    assert group["1"].compressors == ()
    check_levels(ms.open_pyramid(tmp_path / "p.zarr"), BASE, [(1, 2, 2), (1, 4, 4)], scale={"y": 0.5, "x": 0.25})
    with pytest.raises(FileExistsError):
        tree.multiscale.to_zarr(tmp_path / "p.zarr", version="0.4", layout="flat")
    tree.multiscale.to_zarr(tmp_path / "p.zarr", mode="w", version="0.4", layout="flat")
    assert ms.validate(tmp_path / "p.zarr").ok


@pytest.mark.filterwarnings("ignore:the axes .* are written as:UserWarning")
def test_to_zarr__of_an_edited_tree(tmp_path):
    tree = make_tree(channel_names=NAMES).multiscale.transpose("y", "x", "c")
    tree = tree.multiscale.reindex_data_arrays(c=["GFP"]).multiscale.assign_coords(c=["green"])
    tree.multiscale.to_zarr(tmp_path / "p.zarr")
    again = ms.open_pyramid(tmp_path / "p.zarr")
    check_levels(again, BASE[[1]], [(1, 2, 2), (1, 4, 4)], scale={"y": 0.5, "x": 0.25})
    assert [level.c.values.tolist() for level in levels_of(again)] == [["green"]] * 3


# --- listing and choosing levels -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["lazy", "in memory", "opened by xarray", "opened"])
def test_levels__prints_as_a_table(tmp_path, form, refuse_to_compute):
    tree = make_tree(chunks={"c": 1, "y": 16, "x": 16})
    if form == "in memory":
        with dask.config.set(scheduler="synchronous"):
            tree.load()
    elif form != "lazy":
        tree.multiscale.to_zarr(tmp_path / "p.zarr")
        options = {"engine": "zarr"} if form == "opened by xarray" else {"engine": "zarr", "chunks": {}}
        tree = xr.open_datatree(tmp_path / "p.zarr", **options)
    levels = tree.multiscale.levels
    assert [level["shape"] for level in levels] == [[3, 32, 48], [3, 16, 24], [3, 8, 12]]
    assert [level["scale"][1:] for level in levels] == [[0.5, 0.25], [1.0, 0.5], [2.0, 1.0]]
    assert [level["nbytes"] for level in levels] == [3 * 32 * 48 * 2, 3 * 16 * 24 * 2, 3 * 8 * 12 * 2]
    assert levels[0]["chunks"] == ([3, 32, 48] if form == "in memory" else [1, 16, 16])
    printed = repr(levels).splitlines()
    assert printed[0] == "dims c y x"
    assert printed[1].split() == ["level", "shape", "dtype", "chunks", "scale", "translation", "units", "size"]
    assert printed[3].split()[:4] == ["1", "3", "16", "24"]


@pytest.mark.parametrize(
    ("spacings", "level"),
    [
        ({"x": 0.25}, 0),
        ({"x": 0.49}, 0),
        ({"x": 0.5}, 1),
        ({"x": 0.5 - 1e-9}, 1),
        ({"x": 0.99}, 1),
        ({"x": 1.0}, 2),
        ({"x": 50}, 2),
        ({"y": 0.5}, 0),
        ({"y": 1.0}, 1),
        ({"x": 1.0, "y": 1.0}, 1),
        ({"x": 0.1}, 0),
        ({"spacing": 0.5}, 0),
        ({"spacing": 1.0}, 1),
        ({"spacing": 2.0}, 2),
        ({"c": 1.0}, 2),
    ],
    ids=str,
)
def test_at__is_the_coarsest_level_within_a_spacing(spacings, level, refuse_to_compute):
    tree = make_tree()
    xr.testing.assert_identical(tree.multiscale.at(**spacings).variable, tree[f"scale{level}/nuc"].variable)


def test_at__requires_no_finer_spacing_than_that_of_level_0():
    image = ms.to_image(np.zeros((8, 64, 64), "u1"), scale={"z": 50.0, "y": 4.0, "x": -4.0})
    tree = ms.to_multiscale(image, [{"y": 2, "x": 2}, {"y": 4, "x": 4}, {"z": 2, "y": 8, "x": 8}])
    assert tree.multiscale.at(spacing=16).shape == (8, 16, 16)
    assert tree.multiscale.at(spacing=40).shape == (8, 16, 16)
    assert tree.multiscale.at(spacing=100).shape == (4, 8, 8)
    assert tree.multiscale.at(x=16).shape == (8, 16, 16)


@pytest.mark.parametrize(
    ("spacings", "message"),
    [
        ({}, "give exactly one of them"),
        ({"spacing": 1.0, "x": 1.0}, "give exactly one of them"),
        ({"z": 1.0}, "z=1.0.*'c', 'y', 'x'"),
        ({"x": 0}, "x=0 is not a distance"),
        ({"x": float("nan")}, "x=nan is not a distance"),
        ({"spacing": -1.0}, "=-1.0 is not a distance"),
        ({"c": 1.0}, "not evenly spaced"),
    ],
    ids=str,
)
def test_at__refuses_spacings_that_select_no_level(spacings, message):
    with pytest.raises(ValueError, match=message):
        make_tree(channel_names=NAMES).multiscale.at(**spacings)


@pytest.mark.parametrize(
    ("limit", "level"),
    [
        ({"nbytes": 9216}, 0),
        ({"nbytes": 9215}, 1),
        ({"nbytes": "9.216kB"}, 0),
        ({"nbytes": "1 kiB"}, 2),
        ({"nbytes": 576}, 2),
        ({"pixels": 4608}, 0),
        ({"pixels": 4607}, 1),
        ({"pixels": 288}, 2),
    ],
    ids=str,
)
def test_fit__is_the_finest_level_within_a_limit(limit, level, refuse_to_compute):
    tree = make_tree()
    xr.testing.assert_identical(tree.multiscale.fit(**limit).variable, tree[f"scale{level}/nuc"].variable)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({}, "give exactly one of them"),
        ({"nbytes": 1, "pixels": 1}, "give exactly one of them"),
        ({"nbytes": "much"}, "'much' is not an amount"),
        ({"nbytes": 575}, "nbytes=575: the coarsest has 288 pixels in 576 B"),
        ({"nbytes": "1 B"}, "'1 B': the coarsest"),
        ({"pixels": 287}, "pixels=287: the coarsest"),
    ],
    ids=str,
)
def test_fit__refuses_limits_that_no_level_is_within(limit, message):
    with pytest.raises(ValueError, match=message):
        make_tree().multiscale.fit(**limit)


@pytest.mark.parametrize("ask", [lambda tree: tree.levels, lambda tree: tree.at(x=1), lambda tree: tree.fit(pixels=9)])
def test_levels__of_a_tree_without_levels_are_refused(ask):
    with pytest.raises(ValueError, match="no 'scale0'"):
        ask(xr.DataTree().multiscale)
