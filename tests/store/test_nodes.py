"""Places and nodes: opening what is stored, and telling what an array is computed from."""

import os

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import add_levels, open_image
from multiscale_sampler.store import dimension_names, open_node, place_of, source_array
from multiscale_sampler.store.nodes import location
from multiscale_sampler.store.origins import refuse_source_in_target, zarr_arrays

from ..data import Recording, make_array, noise


@pytest.fixture
def stored(tmp_path):
    """A group with one array, on disk."""
    return make_array(tmp_path / "a.zarr", noise((8, 12)), path="field/0", chunks=(4, 4), dims=("y", "x"))


def place(array):
    return location(array.store_path.store, array.path)


# --- open_node -------------------------------------------------------------------------------------------------


def test_open_node__opens_every_form_of_a_place(tmp_path, stored):
    root = tmp_path / "a.zarr"
    group = zarr.open_group(root)
    for store, path in [
        (root, "field/0"),
        (str(root), "field/0"),
        (root / "field" / "0", None),
        (f"file://{root}", "field/0"),
        (group, "field/0"),
        (group["field"], "0"),
        (stored, None),
        (zarr.storage.LocalStore(root), "field/0"),
        (zarr.storage.StorePath(zarr.storage.LocalStore(root), "field"), "0"),
    ]:
        node = open_node(store, path)
        assert isinstance(node, zarr.Array)
        np.testing.assert_array_equal(node[...], stored[...])


def test_open_node__opens_groups_and_dicts():
    store = {}
    make_array(store, noise((4, 4)), path="a/b")
    assert isinstance(open_node(store), zarr.Group)
    assert isinstance(open_node(store, "a"), zarr.Group)
    assert open_node(store, "a/b").shape == (4, 4)


@pytest.mark.parametrize("path", [None, "field/nope", "nope"])
def test_open_node__names_the_missing_place(tmp_path, stored, path):
    store = tmp_path / "a.zarr" if path else tmp_path / "nothing.zarr"
    with pytest.raises(FileNotFoundError, match=path or "nothing.zarr"):
        open_node(store, path)


def test_open_node__names_the_missing_member_of_a_group(stored, tmp_path):
    with pytest.raises(FileNotFoundError, match="nope"):
        open_node(zarr.open_group(tmp_path / "a.zarr"), "field/nope")


def test_open_node__names_the_missing_zip(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.zip"):
        open_node(tmp_path / "nothing.zip")


def test_open_node__refuses_a_path_inside_an_array(stored):
    with pytest.raises(ValueError, match="leads nowhere inside an array"):
        open_node(stored, "x")


@pytest.mark.parametrize("store", [3, None, 2.5, [1, 2]])
def test_open_node__refuses_what_is_no_place(store):
    for function in (open_node, place_of):
        with pytest.raises(TypeError, match="expected a path, a URL, or a zarr store"):
            function(store)


def test_open_node__refuses_storage_options_without_a_url(tmp_path, stored):
    options = {"anon": True}
    for store in (tmp_path / "a.zarr", zarr.open_group(tmp_path / "a.zarr"), stored):
        with pytest.raises(ValueError, match="storage_options go with a URL"):
            open_node(store, storage_options=options)


# --- dimension_names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_dimension_names__are_those_of_either_format(zarr_format):
    array = make_array({}, noise((4, 4)), zarr_format=zarr_format, dims=("lat", "lon"))
    assert dimension_names(array) == ("lat", "lon")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_dimension_names__are_none_where_there_are_none(zarr_format):
    assert dimension_names(make_array({}, noise((4, 4)), zarr_format=zarr_format)) is None


def test_dimension_names__are_none_unless_all_axes_are_named():
    assert dimension_names(make_array({}, noise((4, 4)), dims=("y", None))) is None


# --- source_array ----------------------------------------------------------------------------------------------


def test_source_array__finds_the_array_behind_an_opened_image(stored):
    found = source_array(open_image(stored).data)
    assert (found.store_path, found.metadata) == (stored.store_path, stored.metadata)


def test_source_array__finds_the_array_behind_from_zarr(stored):
    assert source_array(da.from_zarr(stored)) == stored


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: a + 1, id="arithmetic"),
        pytest.param(lambda a: a[:, :4], id="slice"),
        pytest.param(lambda a: a[::-1], id="flip"),
        pytest.param(lambda a: a.T, id="transposed"),
        pytest.param(lambda a: a.astype("f4"), id="astype"),
        pytest.param(lambda a: a.astype("i2").astype("u2"), id="astype-and-back"),
        pytest.param(lambda a: da.where(a > 3, a, 0), id="where"),
        pytest.param(lambda a: a.map_blocks(np.flip), id="map_blocks"),
        pytest.param(lambda a: da.concatenate([a[:4], a[4:]]), id="concatenate"),
    ],
)
def test_source_array__is_none_for_all_that_is_no_plain_view(change):
    array = make_array({}, noise((8, 8)), chunks=(4, 4))
    assert source_array(change(da.from_zarr(array))) is None


def test_source_array__is_none_for_numpy_and_numpy_behind_dask():
    assert source_array(np.zeros((4, 4))) is None
    assert source_array(da.from_array(np.zeros((4, 4)))) is None


def test_source_array__is_none_where_values_are_decoded(stored):
    packed = make_array({}, noise((4, 4)), dims=("y", "x"), attributes={"scale_factor": 0.5})
    assert source_array(open_image(packed).data) is None


# --- zarr_arrays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: a, id="itself"),
        pytest.param(lambda a: (a + 1).mean(axis=0), id="arithmetic"),
        pytest.param(lambda a: a.rechunk((2, 2))[1:, ::2].T, id="rechunked"),
        pytest.param(lambda a: da.concatenate([da.zeros((2, 12), dtype="u2"), a]), id="concatenate"),
        pytest.param(lambda a: a.map_overlap(lambda b: b, depth=1), id="map_overlap"),
        pytest.param(lambda a: da.map_blocks(np.add, da.ones((8, 12), chunks=(4, 4)), a), id="map_blocks"),
        pytest.param(lambda a: (a * 2).persist(scheduler="sync") + a, id="persisted-and-lazy"),
    ],
)
def test_zarr_arrays__are_found_through_dask_graphs(stored, change):
    assert [place(array) for array in zarr_arrays(change(da.from_zarr(stored)))] == [place(stored)]


def test_zarr_arrays__are_found_in_the_arguments_of_tasks(stored):
    blocks = da.ones((8, 12), chunks=(4, 4)).map_blocks(lambda b, array: b, array=stored)
    assert [place(array) for array in zarr_arrays(blocks)] == [place(stored)]


def test_zarr_arrays__are_found_through_delayed(stored):
    import dask

    lazy = da.from_delayed(dask.delayed(np.asarray)(dask.delayed(stored)), (8, 12), "u2")
    assert place(stored) in [place(array) for array in zarr_arrays(lazy)]


@pytest.mark.parametrize("chunks", [{}, {"y": 4}])
def test_zarr_arrays__are_found_behind_xarray(tmp_path, chunks):
    dataset = xr.Dataset({"image": (("y", "x"), noise((8, 12)))})
    dataset.to_zarr(tmp_path / "x.zarr", consolidated=False, encoding={"image": {"chunks": (2, 6)}})
    opened = xr.open_zarr(tmp_path / "x.zarr", chunks=chunks, consolidated=False)["image"]
    stored = zarr.open_array(tmp_path / "x.zarr" / "image")
    assert [place(array) for array in zarr_arrays((opened * 2).data)] == [place(stored)]


# --- location and refuse_source_in_target ----------------------------------------------------------------------


def test_location__is_the_same_for_every_spelling_of_a_place(tmp_path, stored, monkeypatch):
    root = tmp_path / "a.zarr"
    (tmp_path / "link.zarr").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    spellings = [
        zarr.open_array(root / "field" / "0"),
        zarr.open_group(root)["field/0"],
        zarr.open_array("a.zarr", path="field/0"),
        zarr.open_array(f"{root}/../a.zarr/field/0"),
        zarr.open_array(f"file://{root}/field/0"),
        zarr.open_array(f"file://{root}", path="field/0"),
        zarr.open_array(tmp_path / "link.zarr" / "field" / "0"),
        zarr.open_array(Recording(zarr.storage.LocalStore(root)), path="field/0"),
        zarr.open_array(zarr.storage.LoggingStore(zarr.storage.LocalStore(root)), path="field/0"),
    ]
    assert {place(array) for array in spellings} == {place(stored)}


def test_location__sees_through_a_link_inside_a_store(tmp_path, stored):
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "link").symlink_to(tmp_path / "a.zarr" / "field")
    linked = zarr.open_array(zarr.storage.LocalStore(tmp_path / "b.zarr"), path="link/0")
    np.testing.assert_array_equal(linked[...], stored[...])
    assert place(linked) == place(stored)


def test_location__tells_places_apart(tmp_path, stored):
    other = make_array(tmp_path / "b.zarr", noise((8, 12)), path="field/0")
    inner = make_array(tmp_path / "a.zarr", noise((8, 12)), path="field/1")
    in_memory = [make_array({}, noise((8, 12))) for _ in range(2)]
    arrays = [stored, other, inner, *in_memory]
    assert len({place(array) for array in arrays}) == len(arrays)


def test_location__is_the_same_for_one_dict_in_two_stores():
    store = {}
    make_array(store, noise((4, 4)))
    first, second = (zarr.open_array(zarr.storage.MemoryStore(store), path="0") for _ in range(2))
    assert place(first) == place(second)


def test_refuse_source_in_target__refuses_the_source_and_all_above_it(tmp_path, stored):
    root = zarr.open_group(tmp_path / "a.zarr")
    for group in (root, root["field"]):
        with pytest.raises(ValueError, match=r"holds the source .* choose another store"):
            refuse_source_in_target([da.from_zarr(stored) * 2], group)


def test_refuse_source_in_target__lets_a_place_beside_the_source_pass(tmp_path, stored):
    beside = zarr.create_group(tmp_path / "a.zarr", path="fiel")
    refuse_source_in_target([da.from_zarr(stored)], beside)
    other = zarr.create_group(tmp_path / "a.zarrx")
    refuse_source_in_target([da.from_zarr(stored)], other)


def test_refuse_source_in_target__sees_an_absolute_and_a_relative_path(tmp_path, stored, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="holds the source"):
        refuse_source_in_target([da.from_zarr(stored)], zarr.open_group(os.path.join(".", "a.zarr")))


def test_references__are_opened_and_not_written_to(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.ones((64, 64), "u1"), chunks=(32, 32))
    files = [path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()]
    refs = {path.relative_to(tmp_path / "a.zarr").as_posix(): [str(path)] for path in files}
    options = {"fo": {"version": 1, "refs": refs}, "remote_protocol": "file"}
    assert open_image("reference://", "0", dims="yx", storage_options=options).shape == (64, 64)
    with pytest.raises(ValueError, match="memory alone, and loses it; write the pyramid to another place"):
        add_levels("reference://", dims="yx", storage_options=options)
    with pytest.raises(ValueError, match=r"storage options None: .*'fo'; pass those"):
        add_levels("reference://", dims="yx")
