"""Targets: what may be replaced, what stays, and when a pyramid becomes visible."""

import json
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import (
    add_levels,
    open_image,
    open_pyramid,
    to_image,
    update_pyramid,
    validate,
    write_labels,
    write_pyramid,
)
from multiscale_sampler.store import level_paths
from multiscale_sampler.store.layout import path_name

from ..data import Recording, hashes, make_array, noise, strict_json
from ..oracles import check_levels

BASE = noise((12, 20))
OTHER = noise((9, 9), seed=1)
LAYOUTS = ["datatree", "flat"]
VERSIONS = ["0.4", "0.5"]


def format_of(version):
    return 2 if version == "0.4" else 3


# --- paths -----------------------------------------------------------------------------------------------------


def test_level_paths__are_groups_for_xarray_or_plain_numbers():
    assert level_paths("datatree", "em", 2) == ("scale0/em", "scale1/em")
    assert level_paths("flat", "em", 3) == ("0", "1", "2")


SAFE = ["image", "em", "a-b_c.d", "größe", "-rf", "_x", "2023", "X", "x" * 100, "日本" * 30]
TITLES = {
    **{name: name for name in SAFE},
    "sample #3": "sample_3",
    "a/b": "a_b",
    "": "image",
    "__x": "x",
    ".": "image",
    "..": "image",
    ".hidden": "hidden",
    "a\nb": "a_b",
    "a\\b": "a_b",
    "a\0b": "a_b",
    "image ": "image",
    "C:": "C_image",
    "%2e%2e": "2e_2e",
    "?": "image",
    "zarr.json": "zarr.json_image",
    "c": "c_image",
    "C": "C_image",
    "con": "con_image",
    ".zarray": "zarray",
    "\ud800": "image",
    "x" * 101: f"{'x' * 50}-f8e7a9b9",
    "é" * 130: f"{'é' * 50}-00000000",
    "a.": "a",
}


@pytest.mark.parametrize("title", list(TITLES), ids=ascii)
def test_path_name__is_safe_and_the_same_for_the_same_title(title):
    expected = TITLES[title]
    found = path_name(title)
    # Of a title that is cut, all but the digest.
    assert (found == expected) if len(title) <= 100 else found.startswith(expected[:51])
    assert found == path_name(title)
    assert path_name(found) == found
    assert len(found) <= 100


def test_path_name__is_another_one_than_those_beside_it():
    assert path_name("x", ["y", "x"]) == "x_image"
    assert path_name("X", ["x"]) == "X_image"
    assert path_name("", ["image"]) == "image_image"
    assert path_name("x" * 300) != path_name("x" * 301)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("title", ["sample #3", "a/b", "a\nb", "é" * 130, "zarr.json", "x", "50 % off?"], ids=ascii)
def test_write_pyramid__keeps_a_title_that_cannot_be_a_path(tmp_path, title, version):
    image = to_image(BASE, name=title)
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2], version=version)
    (path,) = (tmp_path / "p.zarr/scale0").glob(f"{path_name(title, ['y', 'x'])}/")
    assert path.is_dir()
    opened = open_pyramid(tmp_path / "p.zarr")["scale0"].to_dataset()
    (name,) = opened.data_vars
    # Neither xarray's trees nor a group have room for these.
    assert name == (path.name if title in ("a/b", "x") else title)
    np.testing.assert_array_equal(opened[name], BASE)
    assert opened[name].attrs["long_name"] == title
    assert validate(tmp_path / "p.zarr").ok
    (plain,) = xr.open_datatree(tmp_path / "p.zarr", engine="zarr")["scale1"].data_vars
    assert plain == path.name
    write_pyramid(open_pyramid(tmp_path / "p.zarr"), tmp_path / "again.zarr", version=version)
    assert hashes(tmp_path / "again.zarr").keys() == hashes(tmp_path / "p.zarr").keys()


def test_stores_before__whose_paths_have_blanks_are_read_and_changed(tmp_path):
    write_pyramid(to_image(BASE, name="two_words"), tmp_path / "p.zarr", scale_factors=[2])
    for document in ("zarr.json",):
        text = (tmp_path / "p.zarr" / document).read_text()
        (tmp_path / "p.zarr" / document).write_text(text.replace("two_words", "two words"))
    for level in ("scale0", "scale1"):
        (tmp_path / "p.zarr" / level / "two_words").rename(tmp_path / "p.zarr" / level / "two words")
    assert list(open_pyramid(tmp_path / "p.zarr")["scale0"].data_vars) == ["two words"]
    zarr.open_array(tmp_path / "p.zarr/scale0/two words")[:4] = 7
    update_pyramid(tmp_path / "p.zarr", {"y": slice(0, 4)})
    np.testing.assert_array_equal(open_pyramid(tmp_path / "p.zarr")["scale1/two words"][:2], 7)
    write_pyramid(BASE, tmp_path / "p.zarr", scale_factors=[2], mode="w")
    assert not (tmp_path / "p.zarr/scale0/two words").exists()


ODD_NAMES = [
    "m/s",
    "..",
    ".",
    "a\nb",
    "a\0b",
    "",
    "x" * 101,
    "é" * 130,
    "zarr.json",
    ".zattrs",
    "__a",
    "#1",
    "a?",
    "%2e",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_write_pyramid__refuses_coordinates_and_labels_that_cannot_be_paths(tmp_path, name):
    image = to_image(BASE)
    with pytest.raises(ValueError, match=r"the coordinate .*(rename|drop)"):
        write_pyramid(image.assign_coords({name: ("y", np.arange(12.0))}), tmp_path / "p.zarr", scale_factors=[2])
    with pytest.raises(ValueError, match=r"the dimension .*rename"):
        write_pyramid(xr.DataArray(BASE, dims=(name, "x"), name="image"), tmp_path / "p.zarr", scale_factors=[2])
    assert not (tmp_path / "p.zarr").exists()
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2])
    before = hashes(tmp_path)
    with pytest.raises(ValueError, match=r"the labels .*choose another name"):
        write_labels(np.ones(BASE.shape, "uint8"), tmp_path / "p.zarr", name)
    assert hashes(tmp_path) == before


# --- forms of a store ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__takes_every_form_of_a_store(tmp_path, layout, version):
    memory, as_dict = zarr.storage.MemoryStore(), {}
    inner = zarr.storage.StorePath(zarr.storage.LocalStore(tmp_path / "e.zarr"), "deep/er")
    for store, place in [
        (str(tmp_path / "a.zarr"), tmp_path / "a.zarr"),
        (tmp_path / "b.zarr", tmp_path / "b.zarr"),
        (tmp_path / "new" / "folders" / "c.zarr", tmp_path / "new" / "folders" / "c.zarr"),
        (zarr.storage.LocalStore(tmp_path / "d.zarr"), tmp_path / "d.zarr"),
        (inner, tmp_path / "e.zarr" / "deep" / "er"),
        (memory, memory),
        (as_dict, as_dict),
    ]:
        write_pyramid(BASE, store, scale_factors=[2, 3], layout=layout, version=version)
        check_levels(open_pyramid(place), BASE, [(2, 2), (3, 3)])
        assert validate(place).findings == ()


def test_write_pyramid__takes_a_file_url(tmp_path):
    write_pyramid(BASE, f"file://{tmp_path}/a.zarr", scale_factors=[2])
    check_levels(open_pyramid(tmp_path / "a.zarr"), BASE, [(2, 2)])
    check_levels(open_pyramid(f"file://{tmp_path}/a.zarr"), BASE, [(2, 2)])


def test_write_pyramid__refuses_options_for_a_local_url(tmp_path):
    with pytest.raises(ValueError, match="storage_options go with a URL of a remote store"):
        write_pyramid(BASE, f"file://{tmp_path}/a.zarr", storage_options={"auto_mkdir": True})
    assert not (tmp_path / "a.zarr").exists()


def test_write_pyramid__takes_a_url_of_memory(tmp_path):
    # fsspec's memory belongs to the process.
    url = f"memory://{tmp_path.name}.zarr"
    write_pyramid(BASE, url, scale_factors=[2])
    check_levels(open_pyramid(url), BASE, [(2, 2)])
    with pytest.raises(FileExistsError):
        write_pyramid(BASE, url)


def test_write_pyramid__takes_an_empty_folder(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    write_pyramid(BASE, tmp_path / "a.zarr", scale_factors=[2])
    check_levels(open_pyramid(tmp_path / "a.zarr"), BASE, [(2, 2)])


def test_write_pyramid__refuses_storage_options_without_a_url(tmp_path):
    with pytest.raises(ValueError, match="storage_options go with a URL"):
        write_pyramid(BASE, tmp_path / "a.zarr", storage_options={"anon": True})
    assert not (tmp_path / "a.zarr").exists()


# --- mode="w-" -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pyramid", "array", "group", "attributes", "folder", "file"])
def test_write_pyramid__refuses_a_place_where_anything_is(tmp_path, kind):
    place = tmp_path / "a.zarr"
    match kind:
        case "pyramid":
            write_pyramid(OTHER, place, scale_factors=[3])
        case "array":
            make_array(place, OTHER, path=None)
        case "group":
            zarr.open_group(place, mode="w").create_group("inner")
        case "attributes":
            zarr.open_group(place, mode="w").attrs["note"] = "mine"
        case "folder":
            place.mkdir()
            (place / "letter.txt").write_text("mine")
        case "file":
            place.write_text("mine")
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match="choose another"):
        write_pyramid(BASE, place)
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("store", [zarr.storage.MemoryStore, dict])
def test_write_pyramid__refuses_a_store_in_memory_that_is_taken(store):
    store = store()
    write_pyramid(OTHER, store, scale_factors=[3])
    with pytest.raises(FileExistsError):
        write_pyramid(BASE, store)
    check_levels(open_pyramid(store), OTHER, [(3, 3)])


# --- mode="w" --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("new", LAYOUTS)
@pytest.mark.parametrize("old", LAYOUTS)
def test_write_pyramid__replaces_our_own_pyramid(tmp_path, old, new, version):
    place = tmp_path / "a.zarr"
    write_pyramid(OTHER, place, scale_factors=[2, 4, 8], layout=old, version=version)
    write_pyramid(BASE, place, scale_factors=[3], layout=new, version=version, mode="w")
    check_levels(open_pyramid(place), BASE, [(3, 3)])
    assert validate(place).findings == ()
    fresh = tmp_path / "b.zarr"
    write_pyramid(BASE, fresh, scale_factors=[3], layout=new, version=version)
    assert hashes(place).keys() == hashes(fresh).keys()


def test_write_pyramid__replaces_a_pyramid_with_coordinates_of_other_names(tmp_path):
    place = tmp_path / "a.zarr"
    old = to_image(noise((2, 8, 8)), "tyx", scale={"t": 2.0}, name="old").assign_coords(
        area=(("y", "x"), np.ones((8, 8))), exposure=("t", [1.0, 2.0]), run=3
    )
    write_pyramid(old, place, scale_factors=[2])
    write_pyramid(BASE, place, scale_factors=[2], mode="w")
    check_levels(open_pyramid(place), BASE, [(2, 2)])
    assert sorted(zarr.open_group(place)["scale0"].keys()) == ["image", "x", "y"]


@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__replaces_through_a_group(tmp_path, version):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=format_of(version))
    inner = root.create_group("inner", attributes={"note": "mine"})
    make_array(root.store_path, OTHER, path="other", zarr_format=format_of(version))
    write_pyramid(BASE, inner, mode="w", scale_factors=[2], version=version)
    check_levels(open_pyramid(tmp_path / "a.zarr" / "inner"), BASE, [(2, 2)])
    assert zarr.open_group(tmp_path / "a.zarr" / "inner").attrs["note"] == "mine"
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr" / "other")[...], OTHER)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__leaves_what_is_foreign(tmp_path, layout, version):
    place = tmp_path / "a.zarr"
    write_pyramid(OTHER, place, scale_factors=[2, 4], layout=layout, version=version)
    group = zarr.open_group(place, mode="r+", use_consolidated=False)
    group.attrs["note"] = {"mine": [1, 2]}
    make_array(group.store_path, OTHER, path="mine", zarr_format=format_of(version), chunks=(4, 4))
    make_array(group.store_path, OTHER, path="labels/cells/0", zarr_format=format_of(version), chunks=(4, 4))
    foreign = {key: value for key, value in hashes(place).items() if key.startswith(("mine", "labels"))}
    write_pyramid(BASE, place, scale_factors=[3], layout=layout, version=version, mode="w")
    check_levels(open_pyramid(place), BASE, [(3, 3)])
    after = hashes(place)
    assert {key: after.get(key) for key in foreign} == foreign
    assert zarr.open_group(place).attrs["note"] == {"mine": [1, 2]}
    assert open_pyramid(place).attrs == {"note": {"mine": [1, 2]}}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("data", "dims"),
    [
        pytest.param(np.arange(9.0), ("x",), id="along-x"),
        pytest.param(np.arange(5.0), None, id="unnamed"),
        pytest.param(np.float64(3.0), None, id="scalar"),
        pytest.param(np.ones((9, 9)), ("y", "x"), id="image"),
    ],
)
def test_write_pyramid__never_deletes_an_array_that_it_did_not_write(tmp_path, data, dims, version):
    place = tmp_path / "a.zarr"
    write_pyramid(OTHER, place, scale_factors=[2], version=version)
    make_array(place, np.asarray(data), path="scale0/mine", zarr_format=format_of(version), dims=dims)
    try:
        write_pyramid(BASE, place, scale_factors=[2], version=version, mode="w")
    except FileExistsError:
        # Refusing is as good, where the old pyramid stays.
        check_levels(open_pyramid(place), OTHER, [(2, 2)])
    else:
        check_levels(open_pyramid(place), BASE, [(2, 2)])
    np.testing.assert_array_equal(zarr.open_array(place / "scale0" / "mine")[...], data)


@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__never_deletes_the_base_that_add_levels_was_given(tmp_path, version):
    place = tmp_path / "a.zarr"
    base = make_array(place, BASE, zarr_format=format_of(version), chunks=(4, 4))
    add_levels(place)
    before = hashes(place / "0")
    with pytest.raises(FileExistsError):
        write_pyramid(OTHER, place, scale_factors=[2], version=version, layout="flat", mode="w")
    assert hashes(place / "0") == before
    np.testing.assert_array_equal(base[...], BASE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__refuses_before_it_removes_the_old_pyramid(tmp_path, layout, version):
    place = tmp_path / "a.zarr"
    write_pyramid(OTHER, place, scale_factors=[2], layout=layout, version=version)
    blocking = "2" if layout == "flat" else "scale2/mine"
    make_array(place, BASE, path=blocking, zarr_format=format_of(version))
    before = hashes(place)
    with pytest.raises(FileExistsError, match="did not write"):
        write_pyramid(BASE, place, scale_factors=[2, 4], layout=layout, version=version, mode="w")
    assert hashes(place) == before


@pytest.mark.parametrize("metadata", [True, False], ids=["pyramid", "array"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__refuses_what_is_foreign_and_in_the_way(tmp_path, layout, metadata):
    place = tmp_path / "a.zarr"
    group = zarr.open_group(place, mode="w")
    path = "0" if layout == "flat" else "scale0/image"
    make_array(group.store_path, OTHER, path=path)
    if metadata:
        axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
        datasets = [{"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    before = hashes(place)
    with pytest.raises(FileExistsError, match="did not write"):
        write_pyramid(BASE, place, scale_factors=[2], layout=layout, mode="w")
    assert hashes(place) == before


def test_write_pyramid__refuses_a_foreign_pyramid_elsewhere_in_the_group(tmp_path):
    ngff_zarr = {"version": "0.5", "multiscales": [{"axes": [], "datasets": [{"path": "s0"}], "name": "theirs"}]}
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", attributes={"ome": ngff_zarr})
    make_array(group.store_path, OTHER, path="s0")
    with pytest.raises(FileExistsError, match="multiscale_sampler did not write"):
        write_pyramid(BASE, tmp_path / "a.zarr", scale_factors=[2], mode="w")
    assert zarr.open_group(tmp_path / "a.zarr").attrs["ome"] == ngff_zarr


def test_write_pyramid__refuses_to_replace_an_array(tmp_path):
    make_array(tmp_path / "a.zarr", OTHER, path=None)
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match="is an array"):
        write_pyramid(BASE, tmp_path / "a.zarr", mode="w")
    assert hashes(tmp_path) == before


@pytest.mark.parametrize(("old", "new"), [("0.4", "0.5"), ("0.5", "0.4")])
def test_write_pyramid__refuses_a_group_of_the_other_zarr_format(tmp_path, old, new):
    write_pyramid(OTHER, tmp_path / "a.zarr", scale_factors=[2], version=old)
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match="zarr format"):
        write_pyramid(BASE, tmp_path / "a.zarr", version=new, mode="w")
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_write_pyramid__refuses_to_replace_what_is_no_zarr(tmp_path, kind):
    if kind == "folder":
        (tmp_path / "a.zarr").mkdir()
        (tmp_path / "a.zarr" / "letter.txt").write_text("mine")
    else:
        (tmp_path / "a.zarr").write_text("mine")
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match="not a zarr store"):
        write_pyramid(BASE, tmp_path / "a.zarr", mode="w")
    assert hashes(tmp_path) == before


# --- a target that holds the source ----------------------------------------------------------------------------

SPELLINGS = {
    "path": lambda place: place,
    "text": str,
    "relative": lambda place: f"{place}/../{place.name}",
    "link": lambda place: place.parent / "link.zarr",
    "url": lambda place: f"file://{place}",
    "store": zarr.storage.LocalStore,
    "wrapped": lambda place: Recording(zarr.storage.LocalStore(place)),
    "group": lambda place: zarr.open_group(place),
}


PAIRS = [(one, "path") for one in SPELLINGS] + [("path", one) for one in SPELLINGS if one != "path"]


@pytest.mark.parametrize(("source", "target"), [*PAIRS, ("link", "url"), ("url", "wrapped"), ("group", "link")])
def test_write_pyramid__refuses_a_target_that_holds_the_source(tmp_path, source, target):
    place = tmp_path / "a.zarr"
    write_pyramid(BASE, place, scale_factors=[2])
    (tmp_path / "link.zarr").symlink_to(place)
    before = hashes(tmp_path)
    image = open_image(SPELLINGS[source](place), "scale0/image")
    for changed in (image, (image + 1) * 2, image[1:, ::2].astype("f4")):
        with pytest.raises(ValueError, match=r"holds the source .* choose\s+another store"):
            write_pyramid(changed, SPELLINGS[target](place), mode="w")
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("store", [zarr.storage.MemoryStore, dict])
def test_write_pyramid__refuses_a_target_in_memory_that_holds_the_source(store):
    store = store()
    write_pyramid(BASE, store, scale_factors=[2])
    with pytest.raises(ValueError, match="holds the source"):
        write_pyramid(open_pyramid(store)["scale1/image"] + 1, store, mode="w")
    check_levels(open_pyramid(store), BASE, [(2, 2)])


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(lambda p: open_pyramid(p)["scale0/image"], id="open_pyramid"),
        pytest.param(lambda p: xr.open_datatree(p, engine="zarr", chunks={})["scale0/image"], id="datatree"),
        pytest.param(lambda p: xr.open_datatree(p, engine="zarr", chunks=None)["scale0/image"], id="unchunked"),
        pytest.param(lambda p: da.from_zarr(str(p / "scale0" / "image")), id="from_zarr"),
        pytest.param(lambda p: zarr.open_array(p / "scale0" / "image"), id="zarr"),
        pytest.param(lambda p: da.from_zarr(str(p / "scale0" / "image")).map_blocks(np.sqrt), id="map_blocks"),
    ],
)
def test_write_pyramid__refuses_its_source_however_it_was_opened(tmp_path, opened):
    place = tmp_path / "a.zarr"
    write_pyramid(BASE, place, scale_factors=[2])
    before = hashes(place)
    with pytest.raises(ValueError, match="holds the source"):
        write_pyramid(opened(place), place, mode="w")
    assert hashes(place) == before


def test_write_pyramid__refuses_a_tree_whose_coarser_level_comes_from_the_target(tmp_path):
    place = tmp_path / "a.zarr"
    write_pyramid(BASE, place, scale_factors=[2])
    tree = open_pyramid(place)
    tree["scale0"] = tree["scale0"].load()
    with pytest.raises(ValueError, match="holds the source"):
        write_pyramid(tree, place, mode="w")
    check_levels(open_pyramid(place), BASE, [(2, 2)])


def test_write_pyramid__refuses_a_coordinate_that_comes_from_the_target(tmp_path):
    place = tmp_path / "a.zarr"
    area = np.arange(240.0).reshape(12, 20)
    image = to_image(BASE).assign_coords(area=(("y", "x"), area))
    write_pyramid(image, place, scale_factors=[2])
    lazy = xr.open_datatree(place, engine="zarr", chunks={})["scale0/image"]
    again = to_image(BASE).assign_coords(area=lazy.area)
    with pytest.raises(ValueError, match="holds the source"):
        write_pyramid(again, place, scale_factors=[2], mode="w")
    np.testing.assert_array_equal(open_pyramid(place)["scale0"].area.values, area)


@pytest.mark.parametrize("mode", ["w-", "w"])
@pytest.mark.parametrize("inside", ["", "/c", "/deeper/still"])
def test_write_pyramid__refuses_a_target_inside_its_source(tmp_path, inside, mode):
    array = make_array(tmp_path / "a.zarr", BASE, chunks=(4, 4))
    before = hashes(tmp_path)
    with pytest.raises((ValueError, FileExistsError)):
        write_pyramid(open_image(array), f"{tmp_path}/a.zarr/0{inside}", mode=mode)
    assert hashes(tmp_path) == before


def test_write_pyramid__writes_beside_its_source(tmp_path):
    array = make_array(tmp_path / "a.zarr", BASE, path="raw", chunks=(4, 4))
    before = hashes(tmp_path / "a.zarr" / "raw")
    write_pyramid(open_image(array), tmp_path / "a.zarr" / "pyramid", scale_factors=[2])
    check_levels(open_pyramid(tmp_path / "a.zarr", "pyramid"), BASE, [(2, 2)])
    assert hashes(tmp_path / "a.zarr" / "raw") == before


# --- publishing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__publishes_last(tmp_path, layout, version):
    store = Recording(zarr.storage.LocalStore(tmp_path / "a.zarr"))
    write_pyramid(BASE, store, scale_factors=[2], layout=layout, version=version)
    written = store.log["written"]
    root = "zarr.json" if version == "0.5" else ".zattrs"
    last_chunk = max(number for number, key in enumerate(written) if key.rsplit("/", 1)[-1].isdigit())
    assert root in written[last_chunk:]
    for key in written[written.index(root, last_chunk) :]:
        assert key in ("zarr.json", ".zattrs", ".zgroup", ".zmetadata")


def _names_a_pyramid(place, version):
    path = place / (".zattrs" if version == "0.4" else "zarr.json")
    if not path.exists():
        return False
    document = json.loads(path.read_text())
    document = document if version == "0.4" else document["attributes"]
    return "multiscales" in document or "multiscales" in document.get("ome", {})


@pytest.mark.parametrize("mode", ["w-", "w"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_write_pyramid__a_failure_leaves_no_pyramid_to_any_reader(tmp_path, layout, version, level, mode):
    place = tmp_path / "a.zarr"
    if mode == "w":
        write_pyramid(OTHER, place, scale_factors=[2], layout=layout, version=version)
    store = Recording(zarr.storage.LocalStore(place))
    path = f"{level}" if layout == "flat" else f"scale{level}/image"
    store.log["refused"] = f"{path}/c/0/0" if version == "0.5" else f"{path}/0/0"
    with pytest.raises(OSError, match="no space left"):
        write_pyramid(BASE, store, scale_factors=[2, 4], chunks=4, layout=layout, version=version, mode=mode)
    assert not _names_a_pyramid(place, version)
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(place)
    assert not validate(place).ok
    assert not (place / ".zmetadata").exists()
    if version == "0.5":
        assert (
            "consolidated_metadata" not in strict_json(place / "zarr.json")
            or not strict_json(place / "zarr.json")["consolidated_metadata"]
        )
    with pytest.raises(FileExistsError):
        write_pyramid(BASE, place)
    write_pyramid(BASE, place, scale_factors=[2, 4], chunks=4, layout=layout, version=version, mode="w")
    check_levels(open_pyramid(place), BASE, [(2, 2), (4, 4)])
    fresh = tmp_path / "fresh.zarr"
    write_pyramid(BASE, fresh, scale_factors=[2, 4], chunks=4, layout=layout, version=version)
    assert hashes(place).keys() == hashes(fresh).keys()


def test_write_pyramid__leaves_nothing_of_its_own_work_behind(tmp_path):
    write_pyramid(BASE, tmp_path / "a.zarr", scale_factors=[2, 4, 8], chunks=2)
    root = strict_json(tmp_path / "a.zarr" / "zarr.json")
    assert set(root["attributes"]) == {"ome", "zarr_conventions", "multiscales"}
    assert sorted(path.name for path in (tmp_path / "a.zarr").iterdir()) == [
        "scale0",
        "scale1",
        "scale2",
        "scale3",
        "zarr.json",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_write_pyramid__consolidates_the_metadata_of_the_default_layout(tmp_path, version):
    write_pyramid(BASE, tmp_path / "a.zarr", scale_factors=[2], version=version)
    group = zarr.open_consolidated(tmp_path / "a.zarr")
    below = {"scale0", "scale0/image", "scale0/y", "scale0/x", "scale1", "scale1/image", "scale1/y", "scale1/x"}
    assert set(group.metadata.consolidated_metadata.flattened_metadata) == below


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_write_pyramid__writes_json_that_browsers_read(tmp_path, layout, version):
    image = to_image(noise((2, 8, 8), "float32"), "cyx", channel_names=["a", "b"])
    image[0, 0, 0] = np.nan
    image[1] = np.nan
    write_pyramid(image, tmp_path / "a.zarr", scale_factors=[2], layout=layout, version=version, nodata=float("nan"))
    names = {"zarr.json", ".zattrs", ".zarray", ".zgroup", ".zmetadata"}
    documents = [path for path in (tmp_path / "a.zarr").rglob("*") if path.name in names]
    assert documents
    for path in documents:
        strict_json(path)


# --- what is left of others --------------------------------------------------------------------------------------


def test_write_pyramid__old_chunks_do_not_show_through(tmp_path):
    place = tmp_path / "a.zarr"
    write_pyramid(np.full((16, 16), 7, "uint8"), place, scale_factors=[2], layout="flat")
    # As a removal leaves it that was interrupted between the metadata and the chunks of an array.
    (place / "1" / "zarr.json").unlink()
    write_pyramid(np.zeros((16, 16), "uint8"), place, scale_factors=[2], layout="flat", mode="w")
    assert zarr.open_array(place / "1")[...].max() == 0


def test_add_levels__refuses_a_place_where_chunks_are_left(tmp_path):
    make_array(tmp_path / "a.zarr", np.zeros((16, 16), "uint8"), chunks=(8, 8))
    (tmp_path / "a.zarr" / "1" / "c" / "0").mkdir(parents=True)
    (tmp_path / "a.zarr" / "1" / "c" / "0" / "0").write_bytes(b"old")
    with pytest.raises(FileExistsError, match="'1'"):
        add_levels(tmp_path / "a.zarr", scale_factors=[2])


def test_add_levels__names_levels_after_the_number_of_the_base(tmp_path):
    make_array(tmp_path / "a.zarr", BASE, path="2", chunks=(4, 4))
    add_levels(tmp_path / "a.zarr", base="2", scale_factors=[2])
    assert sorted(zarr.open_group(tmp_path / "a.zarr")) == ["2", "3"]
    check_levels(open_pyramid(tmp_path / "a.zarr"), BASE, [(2, 2)])


def test_add_levels__refuses_a_base_that_the_metadata_do_not_name(tmp_path):
    make_array(tmp_path / "a.zarr", BASE, path="0", chunks=(4, 4))
    make_array(tmp_path / "a.zarr", OTHER, path="other", chunks=(4, 4))
    add_levels(tmp_path / "a.zarr", max_levels=1)
    before = hashes(tmp_path / "a.zarr")
    with pytest.raises(FileExistsError, match="'other' would take its place"):
        add_levels(tmp_path / "a.zarr", base="other", scale_factors=[2])
    assert hashes(tmp_path / "a.zarr") == before


def test_write_pyramid__a_disk_without_room_is_an_error(tmp_path):
    script = (
        "import resource, sys, numpy as np, multiscale_sampler as ms\n"
        "image = ms.to_image(np.arange(256 * 256, dtype='uint16').reshape(256, 256))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "ms.write_pyramid(image, sys.argv[1], scale_factors=[2], chunks=256, compressors=None)\n"
    )
    command = [sys.executable, "-B", "-c", script, str(tmp_path / "a.zarr")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert "resume=True" in done.stderr
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(tmp_path / "a.zarr")
