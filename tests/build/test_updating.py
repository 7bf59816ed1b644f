"""Pyramids that stay true: after any edits, updates and appends a store is one built afresh from the final base."""

import itertools
import json
import shutil
import warnings
from collections import Counter

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import multiscale_sampler as ms
from multiscale_sampler import cli
from multiscale_sampler import store as stores
from multiscale_sampler.build import engine
from multiscale_sampler.build.indexing import box_of
from multiscale_sampler.store import changing
from tests.data import Killed, Recording, Stopping, hashes

LADDERS = ([2, 4], [2, 3], [{"y": 3, "x": 2}], [2, 4, 8])


def arrays_of(place):
    """Everything that is stored in a group, by path: values, with the types and sizes."""
    group = zarr.open_group(place, mode="r", use_consolidated=False)
    with warnings.catch_warnings():
        # Of what zarr's own writing left when it was killed.
        warnings.filterwarnings("ignore", message=".*partial is not recognized")
        members = group.members(max_depth=None)
    return {path: node[...] for path, node in members if isinstance(node, zarr.Array)}


def assert_same(place, other):
    found, expected = arrays_of(place), arrays_of(other)
    assert found.keys() == expected.keys()
    for path, values in expected.items():
        assert found[path].dtype == values.dtype
        np.testing.assert_array_equal(found[path], values, err_msg=path)


def level_0(place, layout):
    return zarr.open_array(place / ("scale0/image" if layout == "datatree" else "0"), mode="r+")


@st.composite
def boxes(draw, shape):
    ends = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))) for n in shape]
    return tuple(slice(start, stop + 1) for start, stop in ends)


@pytest.mark.filterwarnings("ignore:voxels of level .* are more anisotropic:UserWarning")
# Several builds each.
@settings(max_examples=settings.default.max_examples // 2)
@given(data=st.data())
def test_changes__in_any_order_leave_what_a_fresh_build_makes(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("changes")
    method = data.draw(st.sampled_from(("mean", "max", "mode", "nearest", "gaussian", "median", "sum")), "method")
    boundary = data.draw(st.sampled_from(("pad", "trim")), "boundary")
    shape = data.draw(st.tuples(st.integers(9, 23), st.integers(9, 23)), "shape")
    layout = data.draw(st.sampled_from(("datatree", "flat")), "layout")
    shards = data.draw(st.sampled_from((None, 8)), "shards")
    options = {
        "scale_factors": data.draw(st.sampled_from(LADDERS), "ladder"),
        "method": method,
        "boundary": boundary,
        "chunks": 4,
        "shards": shards,
        "layout": layout,
    }
    limit = data.draw(st.sampled_from(("1GiB", "24KiB")), "limit")
    rng = np.random.default_rng(data.draw(st.integers(0, 9), "seed"))
    values = rng.integers(0, 9, shape).astype("uint16")
    ms.write_pyramid(ms.to_image(values, scale=0.5), place / "p", **options)
    for _ in range(data.draw(st.integers(1, 3), "steps")):
        if data.draw(st.booleans(), "append"):
            axis = data.draw(st.integers(0, 1), "axis")
            size = tuple(data.draw(st.integers(1, 9)) if i == axis else n for i, n in enumerate(values.shape))
            more = rng.integers(0, 9, size).astype("uint16")
            ms.append_pyramid(more, place / "p", "yx"[axis], memory_limit=limit)
            values = np.concatenate([values, more], axis)
        else:
            box = data.draw(boxes(values.shape), "box")
            values[box] = rng.integers(0, 9) if data.draw(st.booleans()) else rng.integers(0, 9, values[box].shape)
            level_0(place / "p", layout)[box] = values[box]
            ms.update_pyramid(place / "p", box, memory_limit=limit)
    ms.write_pyramid(ms.to_image(values, scale=0.5), place / "fresh", **options)
    assert_same(place / "p", place / "fresh")
    assert zarr.open_group(place / "p").attrs.asdict() == zarr.open_group(place / "fresh").attrs.asdict()
    assert ms.validate(place / "p").ok


@pytest.fixture
def place(tmp_path):
    """Where a pyramid of 60 x 50 random values with digests is, in chunks of 8."""
    values = np.random.default_rng(0).integers(0, 99, (60, 50)).astype("uint16")
    ms.write_pyramid(values, tmp_path / "p", scale_factors=[2, 4, 8], chunks=8, digests=True)
    return tmp_path / "p"


def assert_true_to_base(place, **options):
    base = level_0(place, "datatree")[:]
    ms.write_pyramid(base, place.parent / "fresh", scale_factors=[2, 4, 8], chunks=8, **options)
    for index in range(4):
        path = f"scale{index}/image"
        np.testing.assert_array_equal(arrays_of(place)[path], arrays_of(place.parent / "fresh")[path])


def test_changed__finds_every_chunk_that_was_edited(place):
    base = level_0(place, "datatree")
    base[3, 4] += 1
    base[30:33, 7:9] += 1
    base[59, 49] = 0
    ms.update_pyramid(place, changed="auto")
    assert_true_to_base(place)


def test_changed__without_an_edit_writes_nothing(place):
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    ms.update_pyramid(place, changed="auto")
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("seed", range(3))
def test_changed__finds_scattered_edits_of_many_boxes_in_passes_of_carried_states(place, seed):
    base = level_0(place, "datatree")
    rng = np.random.default_rng(seed)
    for y, x in zip(rng.integers(0, 60, 6), rng.integers(0, 50, 6), strict=True):
        base[y, x] += 1
    ms.update_pyramid(place, changed="auto", memory_limit="16KiB", workers=1)
    assert_true_to_base(place)


def test_changed__sees_chunks_that_were_removed(place):
    (place / "scale0/image/c/0/0").unlink()
    ms.update_pyramid(place, changed="auto")
    assert_true_to_base(place)


def test_changed__follows_updates_by_region_and_appends(place):
    base = level_0(place, "datatree")
    base[3, 4] += 1
    ms.update_pyramid(place, {"y": 3, "x": 4})
    ms.append_pyramid(np.ones((5, 50), "uint16"), place, "y")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    ms.update_pyramid(place, changed="auto")
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == before


def test_changed__without_digests_is_refused(tmp_path):
    ms.write_pyramid(np.ones((9, 9), "uint8"), tmp_path / "p", scale_factors=[2])
    with pytest.raises(ValueError, match="has no digests, so that edits cannot be detected; name the region"):
        ms.update_pyramid(tmp_path / "p", changed="auto")


# --- what is touched -------------------------------------------------------------------------------------------


def chunks_under(part, factor, chunk=8):
    """The chunks of a level that a part of the base touches."""
    return set(
        itertools.product(*(range(a.start // factor // chunk, (a.stop - 1) // factor // chunk + 1) for a in part))
    )


def test_update__touches_only_the_chunks_that_it_must():
    memory = zarr.storage.MemoryStore()
    values = np.random.default_rng(0).integers(1, 99, (128, 64, 64)).astype("uint16")
    ms.write_pyramid(values, memory, scale_factors=[2, 4, 8], chunks=8)
    box = (slice(40, 49), slice(8, 16), slice(17, 20))
    zarr.open_array(memory, path="scale0/image")[box] = 7
    store = Recording(memory)
    ms.update_pyramid(store, box)
    keys = {index: f"scale{index}/image/c/" for index in range(4)}
    found = {
        kind: {
            index: Counter(
                tuple(map(int, key.removeprefix(start).split("/"))) for key in store.log[kind] if key.startswith(start)
            )
            for index, start in keys.items()
        }
        for kind in ("read", "written")
    }
    whole_windows = tuple(slice(a.start // 8 * 8, -(-a.stop // 8) * 8) for a in box)
    assert found["read"][0].keys() == chunks_under(whole_windows, 1)
    assert set(found["read"][0].values()) == {1}
    assert not found["written"][0]
    for index in (1, 2, 3):
        assert found["written"][index].keys() == chunks_under(box, 2**index)
        assert set(found["written"][index].values()) == {1}
        assert found["read"][index].keys() <= found["written"][index].keys()


def test_update__of_a_small_region_writes_its_chunks_and_the_mark_of_the_group_twice():
    memory = zarr.storage.MemoryStore()
    values = np.random.default_rng(0).integers(1, 99, (64, 64, 64)).astype("uint16")
    ms.write_pyramid(values, memory, scale_factors=[2, 4, 8], chunks=8)
    before = json.loads(memory._store_dict["zarr.json"].to_bytes())
    store = Recording(memory)
    ms.update_pyramid(store, (slice(40, 48), slice(8, 16), slice(16, 24)))
    chunks = {key for key in store.log["written"] if "/c/" in key}
    assert len(chunks) == 3
    assert Counter(store.log["written"]) == Counter([*chunks, "zarr.json", "zarr.json"])
    assert json.loads(memory._store_dict["zarr.json"].to_bytes()) == before


def test_update__of_a_method_that_carries_no_state_reads_the_levels_that_are_stored():
    memory = zarr.storage.MemoryStore()
    ms.write_pyramid(
        np.random.default_rng(0).integers(1, 9, (64, 64)),
        memory,
        scale_factors=8,
        max_levels=3,
        chunks=4,
        min_size=1,
        method="max",
    )
    store = Recording(memory)
    ms.update_pyramid(store, {"y": 9, "x": 9})
    assert sum(key.startswith("scale0/image/c") for key in store.log["read"]) == 4
    assert sum(key.startswith("scale1/image/c") for key in store.log["written"]) == 1


DATES = np.array("2020-01-01", "M8[ns]") + np.arange(6) * np.timedelta64(1, "h")


def of_dates(start, stop):
    values = np.random.default_rng(0).integers(0, 99, (6, 12, 12)).astype("uint16")
    axes = {"t": DATES, "y": np.arange(12.0), "x": np.arange(12.0)}
    return xr.DataArray(values, axes, ("t", "y", "x"), "image").isel(t=slice(start, stop))


# --- regions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def image():
    axes = {"c": ["red", "green"], "y": 10.0 - 0.5 * np.arange(20), "x": [0.0, 1.0, 4.0, 9.0]}
    return xr.DataArray(np.zeros((2, 20, 4), "u1"), axes, ("c", "y", "x"), "image")


@pytest.mark.parametrize(
    ("region", "by", "expected"),
    [
        ({}, "index", ((0, 2), (0, 20), (0, 4))),
        ({"y": slice(3, None), "x": -1}, "index", ((0, 2), (3, 20), (3, 4))),
        ((1, slice(2, 4), slice(None)), "index", ((1, 2), (2, 4), (0, 4))),
        ({"c": "green", "y": slice(8.0, 7.0)}, "coordinate", ((1, 2), (4, 7), (0, 4))),
        ({"y": slice(7.0, 8.0), "x": slice(1.0, 5.0)}, "coordinate", ((0, 2), (4, 7), (1, 3))),
        ({"y": slice(8.2, None)}, "coordinate", ((0, 2), (0, 5), (0, 4))),
    ],
)
def test_box_of__regions_by_samples_and_by_positions(image, region, by, expected):
    assert box_of(region, image, by=by) == tuple(slice(*ends) for ends in expected)


@pytest.mark.parametrize(
    "wanted", [slice(DATES[2], DATES[3]), slice("2020-01-01T01:30", "2020-01-01T03"), slice(DATES[3], DATES[2])]
)
def test_box_of__regions_by_dates(wanted):
    assert box_of({"t": wanted}, of_dates(0, 6), by="coordinate")[0] == slice(2, 4)


@pytest.mark.parametrize(
    ("region", "by", "error", "message"),
    [
        ({"z": 1}, "index", ValueError, "unknown dims \\['z'\\]; choose from"),
        ({"y": slice(5, 25)}, "index", ValueError, "not within the 20 samples along 'y'; choose from 0 to 20"),
        ({"y": slice(5, 5)}, "index", ValueError, "not within the 20 samples"),
        ({"y": slice(0, 10, 2)}, "index", TypeError, "is not an integer or a slice of integers"),
        ({"y": 2.5}, "index", TypeError, "positions with by='coordinate'"),
        ({"y": True}, "index", TypeError, "is not an integer or a slice of integers"),
        ((slice(0, 2),), "index", ValueError, "1 entries for the axes"),
        ({"y": slice(-30, 5)}, "index", ValueError, "not within the 20 samples"),
        ({"y": -30}, "index", ValueError, "y=-30 is empty or not within"),
        (5, "index", TypeError, "region=5 is not a mapping or a sequence"),
        ("y=3", "index", TypeError, "region='y=3' is not a mapping or a sequence"),
        ({"y": slice(9.0, 8.0, 0.5)}, "coordinate", TypeError, "is not a position; pass numbers, or a slice of two"),
        ({"y": "a"}, "coordinate", TypeError, "y='a' is not a position; pass numbers"),
        ({"c": 1}, "coordinate", TypeError, "c=1 is not a position; pass labels"),
        ({"y": slice(20.0, 30.0)}, "coordinate", ValueError, "selects no samples"),
        ({"c": "blue"}, "coordinate", ValueError, "selects no samples"),
    ],
)
def test_box_of__refuses_what_is_not_there(image, region, by, error, message):
    with pytest.raises(error, match=message):
        box_of(region, image, by=by)


def test_update__by_coordinates(tmp_path):
    values = np.zeros((40, 40), "uint16")
    ms.write_pyramid(ms.to_image(values, scale=0.5, translation=100.0), tmp_path / "p", scale_factors=[2], chunks=8)
    level_0(tmp_path / "p", "datatree")[10:20, 30:34] = 8
    region = {"y": slice(105.0, 109.5), "x": slice(115.0, 116.5)}
    ms.update_pyramid(tmp_path / "p", region, by="coordinate")
    assert (arrays_of(tmp_path / "p")["scale1/image"][5:10, 15:17] == 8).all()


# --- what a store does not say ---------------------------------------------------------------------------------


def foreign(place):
    """Write a pyramid of another writer, who does not say how it was made."""
    values = np.arange(40 * 40, dtype="uint16").reshape(40, 40)
    ms.write_pyramid(values, place, scale_factors=[2, 4], layout="flat", chunks=8)
    group = zarr.open_group(place)
    (entry,) = group.attrs["ome"]["multiscales"]
    kept = {key: entry[key] for key in ("axes", "datasets", "name")}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [kept]}
    return values


def test_update__of_another_writers_pyramid_takes_its_method(tmp_path):
    values = foreign(tmp_path / "p")
    level_0(tmp_path / "p", "flat")[:9, :9] = values[:9, :9] = 5
    with pytest.raises(ValueError, match=r"made by another writer.*name the method"):
        ms.update_pyramid(tmp_path / "p", {"y": slice(0, 9), "x": slice(0, 9)})
    ms.update_pyramid(tmp_path / "p", {"y": slice(0, 9), "x": slice(0, 9)}, method="mean")
    ms.write_pyramid(values, tmp_path / "fresh", scale_factors=[2, 4], layout="flat", chunks=8)
    assert_same(tmp_path / "p", tmp_path / "fresh")


def test_update__with_a_method_of_the_users_own(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (20, 20))
    options = {"scale_factors": [2, 4], "method": np.ptp, "chunks": 8}
    ms.write_pyramid(values, tmp_path / "p", **options)
    with pytest.raises(ValueError, match="made by method 'ptp'"):
        ms.update_pyramid(tmp_path / "p", {"y": 3})
    level_0(tmp_path / "p", "datatree")[3] = values[3] = 1000
    ms.update_pyramid(tmp_path / "p", {"y": 3}, method=np.ptp)
    ms.write_pyramid(values, tmp_path / "fresh", **options)
    assert_same(tmp_path / "p", tmp_path / "fresh")


def test_update__of_a_weighted_mean_takes_its_weights(tmp_path):
    values = np.random.default_rng(0).random((20, 20))
    weights = xr.DataArray(np.arange(1.0, 21.0), dims="y")
    options = {"scale_factors": [2, 4], "weights": weights, "chunks": 8}
    ms.write_pyramid(values, tmp_path / "p", **options)
    with pytest.raises(ValueError, match="weighted mean"):
        ms.update_pyramid(tmp_path / "p", {"y": 3})
    level_0(tmp_path / "p", "datatree")[3] = values[3] = 1000.0
    with pytest.raises(ValueError, match="are weighted means; pass the weights"):
        ms.update_pyramid(tmp_path / "p", {"y": 3}, method="mean")
    ms.update_pyramid(tmp_path / "p", {"y": 3}, method="mean", weights=weights)
    ms.write_pyramid(values, tmp_path / "fresh", **options)
    assert_same(tmp_path / "p", tmp_path / "fresh")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "max"}, "were made by method 'mean', not by 'max'"),
        ({"weights": xr.DataArray(np.ones(20), dims="y")}, "were computed without weights"),
    ],
)
def test_update__by_another_method_than_that_of_the_other_parts_is_refused(tmp_path, options, message):
    ms.write_pyramid(np.ones((20, 20), "uint16"), tmp_path / "p", scale_factors=[2])
    before = hashes(tmp_path / "p")
    with pytest.raises(ValueError, match=message):
        ms.update_pyramid(tmp_path / "p", {"y": 3}, **options)
    assert hashes(tmp_path / "p") == before


def test_update__of_bands_is_refused(tmp_path):
    ms.write_pyramid(np.zeros((20, 20), "float32"), tmp_path / "p", scale_factors=[2], method="laplacian")
    with pytest.raises(ValueError, match="level 0 of method 'laplacian' is a band"):
        ms.update_pyramid(tmp_path / "p", {"y": 3})


def test_update__of_levels_that_are_no_windows_is_refused(tmp_path):
    foreign(tmp_path / "p")
    zarr.open_array(tmp_path / "p/1", mode="r+").resize((19, 20))
    with pytest.raises(ValueError, match="which no integer factors make"):
        ms.update_pyramid(tmp_path / "p", {"y": 3}, method="mean")


def test_update__without_a_region_is_refused(tmp_path):
    ms.write_pyramid(np.zeros((20, 20), "u1"), tmp_path / "p", scale_factors=[2])
    for options in ({}, {"resume": True}):
        with pytest.raises(ValueError, match="region is missing; name the region that was edited"):
            ms.update_pyramid(tmp_path / "p", **options)


@pytest.mark.parametrize("change", ["update", "rebuild", "append"])
def test_changes__keep_what_others_write_into_the_attributes_meanwhile(change):
    store = {}
    image = ms.to_image(np.zeros((2, 16, 16), "uint8"), "cyx", channel_names=["DAPI", "GFP"])
    ms.write_pyramid(image, store, scale_factors=[2])
    zarr.open_group(store, use_consolidated=False).attrs["note"] = "of before"

    def note(progress):
        zarr.open_group(store, use_consolidated=False).attrs["note"] = "of another writer"

    match change:
        case "update":
            ms.update_pyramid(store, {"y": slice(0, 4)}, progress=note)
        case "rebuild":
            ms.rebuild_levels(store, method="max", progress=note)
        case "append":
            ms.append_pyramid(image.isel(c=[0]).assign_coords(c=["RFP"]), store, "c", progress=note)
    attributes = zarr.open_group(store, mode="r").attrs.asdict()
    assert attributes["note"] == "of another writer"
    assert "multiscale_sampler" not in attributes
    assert len(attributes["ome"]["omero"]["channels"]) == (3 if change == "append" else 2)
    assert attributes["ome"]["multiscales"][0]["type"] == ("max" if change == "rebuild" else "mean")


# --- appending -------------------------------------------------------------------------------------------------


def test_append__of_time_points_names_of_channels_and_display_follow(tmp_path):
    axes = ("t", "c", "y", "x")
    values = np.random.default_rng(0).integers(0, 99, (3, 2, 20, 20)).astype("uint16")
    image = ms.to_image(values, axes, scale={"t": 2.0, "y": 0.5, "x": 0.5}, channel_names=["DAPI", "GFP"])
    options = {"scale_factors": [2], "chunks": {"y": 8, "x": 8}}
    ms.write_pyramid(image.isel(t=slice(0, 2)), tmp_path / "p", **options)
    ms.append_pyramid(image.isel(t=slice(2, 3)), tmp_path / "p", "t")
    ms.append_pyramid(image.isel(c=slice(0, 1)).assign_coords(c=["RFP"]), tmp_path / "p", "c")
    whole = xr.concat([image, image.isel(c=slice(0, 1)).assign_coords(c=["RFP"])], "c")
    ms.write_pyramid(whole, tmp_path / "fresh", **options)
    assert_same(tmp_path / "p", tmp_path / "fresh")
    xr.testing.assert_equal(
        xr.open_datatree(tmp_path / "p", engine="zarr"), xr.open_datatree(tmp_path / "fresh", engine="zarr")
    )
    channels = zarr.open_group(tmp_path / "p").attrs["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["DAPI", "GFP", "RFP"]
    assert ms.validate(tmp_path / "p").ok


@pytest.mark.parametrize("labelled", [True, False])
def test_append__along_dates_goes_on_in_their_step(tmp_path, labelled):
    options = {"scale_factors": [2], "chunks": {"t": 1, "y": 8, "x": 8}}
    ms.write_pyramid(of_dates(0, 4), tmp_path / "p", **options)
    more = of_dates(4, 6)
    ms.append_pyramid(more if labelled else more.values, tmp_path / "p", "t")
    ms.write_pyramid(of_dates(0, 6), tmp_path / "fresh", **options)
    assert_same(tmp_path / "p", tmp_path / "fresh")
    assert zarr.open_group(tmp_path / "p").attrs.asdict() == zarr.open_group(tmp_path / "fresh").attrs.asdict()
    xr.testing.assert_identical(ms.open_pyramid(tmp_path / "p"), ms.open_pyramid(tmp_path / "fresh"))


def test_append__to_a_single_date_is_refused():
    store = {}
    ms.write_pyramid(of_dates(0, 1), store, scale_factors=[2])
    with pytest.raises(ValueError, match="has one date along 't'"):
        ms.append_pyramid(of_dates(1, 3), store, "t")


def test_append__resumed_when_it_is_done_does_nothing(tmp_path):
    values = np.arange(9 * 12, dtype="uint16").reshape(9, 12)
    ms.write_pyramid(values, tmp_path / "p", scale_factors=[2])
    refused = r"it is complete, or has not begun\. The store has %d samples along 'y'"
    with pytest.raises(ValueError, match=refused % 9):
        ms.append_pyramid(values[::-1], tmp_path / "p", "y", resume=True)
    ms.append_pyramid(values[::-1], tmp_path / "p", "y")
    before = hashes(tmp_path / "p")
    ms.append_pyramid(values[::-1], tmp_path / "p", "y", resume=True)
    other = values[::-1].copy()
    other[8, 11] += 1000
    with pytest.raises(ValueError, match=refused % 18):
        ms.append_pyramid(other, tmp_path / "p", "y", resume=True)
    assert hashes(tmp_path / "p") == before


@pytest.mark.filterwarnings("ignore:voxels of level .* are more anisotropic:UserWarning")
def test_append__resumed_when_it_is_done_with_other_dates_is_refused(tmp_path):
    ms.write_pyramid(of_dates(0, 2), tmp_path / "p", scale_factors=[{"x": 2}])
    ms.append_pyramid(of_dates(2, 4), tmp_path / "p", "t")
    ms.append_pyramid(of_dates(2, 4), tmp_path / "p", "t", resume=True)
    with pytest.raises(ValueError, match="it is complete, or has not begun"):
        ms.append_pyramid(of_dates(4, 6), tmp_path / "p", "t", resume=True)


def test_append__reads_parts_of_the_shape_of_a_chunk_that_lie_across_chunks(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (22, 24)).astype("uint16")
    options = {"scale_factors": [2, 4, 8], "method": "max", "chunks": 8}
    ms.write_pyramid(values[:14], tmp_path / "p", **options)
    # Level 2 has chunks of 4 x 6, and the windows of level 3 that are made anew its samples 2 to 6.
    ms.append_pyramid(values[14:], tmp_path / "p", "y")
    ms.write_pyramid(values, tmp_path / "fresh", **options)
    assert_same(tmp_path / "p", tmp_path / "fresh")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda image: image.astype("uint8"), TypeError, "has dtype 'uint8', the store 'uint16'"),
        (lambda image: image.isel(x=slice(0, 5)), ValueError, "has 5 samples along 'x', the store 12"),
        (lambda image: image.rename(y="z"), ValueError, "the image has the axes"),
        (lambda image: image.assign_coords(y=image.y + 1), ValueError, "is at y=.*the store require"),
        (lambda image: image.assign_coords(x=image.x + 1), ValueError, "is at x="),
    ],
)
def test_append__of_what_does_not_fit_is_refused_and_leaves_the_store(tmp_path, change, error, message):
    image = ms.to_image(np.zeros((12, 12), "uint16"))
    ms.write_pyramid(image, tmp_path / "p", scale_factors=[2])
    before = hashes(tmp_path / "p")
    with pytest.raises(error, match=message):
        ms.append_pyramid(change(image), tmp_path / "p", "y")
    assert hashes(tmp_path / "p") == before


def test_append__warns_of_labels_that_stay_behind(tmp_path):
    ms.write_pyramid(np.zeros((12, 12), "uint16"), tmp_path / "p", scale_factors=[2])
    ms.write_labels(np.ones((12, 12), "uint16"), tmp_path / "p", "cells")
    more = np.ones((4, 12), "uint16")
    with pytest.warns(UserWarning, match="labels 'cells' keep their size along 'y'.*path='labels/cells'"):
        ms.append_pyramid(more, tmp_path / "p", "y")
    ms.append_pyramid(more, tmp_path / "p", "y", "labels/cells")
    assert ms.open_pyramid(tmp_path / "p")["labels/cells/scale1/cells"].shape == (8, 6)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("apart", [False, True], ids=["by path", "as a store of its own"])
def test_changes__of_labels_show_through_the_consolidated_metadata_of_their_image(tmp_path, apart, version):
    ms.write_pyramid(np.zeros((12, 12), "uint16"), tmp_path / "p", scale_factors=[2, 4], version=version)
    ms.write_labels(np.ones((12, 12), "uint16"), tmp_path / "p", "cells")
    place = (tmp_path / "p/labels/cells", None) if apart else (tmp_path / "p", "labels/cells")
    ms.append_pyramid(np.full((4, 12), 2, "uint16"), place[0], "y", place[1])
    ms.remove_levels(place[0], [1], place[1])
    labels = xr.open_datatree(tmp_path / "p", engine="zarr", consolidated=True)["labels/cells"]
    assert labels["scale0/cells"].shape == (16, 12)
    assert labels["scale0"].y[-1] == 15
    assert list(labels.children) == ["scale0", "scale2"]


def test_append__to_labels_is_done_when_its_mark_is_gone(tmp_path, monkeypatch):
    written, put = [], zarr.storage.LocalStore.set

    async def recording(store, key, value):
        written.append(str(store.root / key))
        await put(store, key, value)

    ms.write_pyramid(np.zeros((12, 12), "uint16"), tmp_path / "p", scale_factors=[2])
    ms.write_labels(np.ones((12, 12), "uint16"), tmp_path / "p", "cells")
    monkeypatch.setattr(zarr.storage.LocalStore, "set", recording)
    ms.append_pyramid(np.ones((4, 12), "uint16"), tmp_path / "p", "y", "labels/cells")
    # Resumed after that, it would be another append.
    assert written[-1] == str(tmp_path / "p/labels/cells/zarr.json")
    gathered = zarr.open_group(tmp_path / "p", use_consolidated=True)["labels/cells"]
    assert gathered.attrs.asdict() == zarr.open_group(tmp_path / "p/labels/cells").attrs.asdict()


# --- levels that are made anew or removed ----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_rebuild__of_all_levels_is_a_fresh_build_by_the_other_method(tmp_path, layout):
    values = np.random.default_rng(0).integers(0, 99, (41, 30)).astype("uint16")
    options = {"scale_factors": [2, 4], "chunks": 8, "layout": layout}
    ms.write_pyramid(values, tmp_path / "p", **options)
    ms.rebuild_levels(tmp_path / "p", method="max", memory_limit="24KiB")
    ms.write_pyramid(values, tmp_path / "fresh", method="max", **options)
    assert_same(tmp_path / "p", tmp_path / "fresh")
    assert ms.validate(tmp_path / "p").ok
    (entry,) = zarr.open_group(tmp_path / "p").attrs["ome"]["multiscales"]
    assert (entry["type"], entry["metadata"]["kwargs"]["method"]) == ("max", "max")
    level_0(tmp_path / "p", layout)[0, 0] = 1000
    ms.update_pyramid(tmp_path / "p", {"y": 0, "x": 0})
    assert ms.open_pyramid(tmp_path / "p")["scale2/image"][0, 0] == 1000


def test_rebuild__of_one_level_leaves_the_others(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (41, 30)).astype("uint16")
    options = {"scale_factors": [2, 4], "chunks": 8}
    ms.write_pyramid(values, tmp_path / "p", **options)
    before = hashes(tmp_path / "p/scale1")
    ms.rebuild_levels(tmp_path / "p", [2], method="max")
    ms.write_pyramid(values, tmp_path / "fresh", method="max", **options)
    assert hashes(tmp_path / "p/scale1") == before
    assert hashes(tmp_path / "p/scale2") == hashes(tmp_path / "fresh/scale2")
    for method in (None, "mean", "max"):
        with pytest.raises(ValueError, match="computed with different methods or parameters"):
            ms.update_pyramid(tmp_path / "p", {"y": 0}, method=method)
        with pytest.raises(ValueError, match="computed with different methods or parameters"):
            ms.append_pyramid(values, tmp_path / "p", "y", method=method)
    assert ms.verify_pyramid(tmp_path / "p").ok
    ms.rebuild_levels(tmp_path / "p", method="max")
    ms.update_pyramid(tmp_path / "p", {"y": 0})


def test_rebuild__of_one_level_by_the_same_rule_is_a_repair(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (41, 30)).astype("uint16")
    ms.write_pyramid(values, tmp_path / "p", scale_factors=[2, 4], chunks=8)
    before = hashes(tmp_path / "p")
    zarr.open_array(tmp_path / "p/scale2/image", mode="r+")[:] = 0
    ms.rebuild_levels(tmp_path / "p", [2], method="mean")
    assert hashes(tmp_path / "p") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nearest"}, "places level 1 at y=0.0, but the metadata state 0.5"),
        ({"method": "sum"}, "gives level 1 dtype 'uint64', but it is stored with 'uint16'"),
        (
            {"method": "max", "levels": [0]},
            r"levels=\[0\] contains no number, or one that cannot be changed; choose",
        ),
        ({"method": "max", "levels": [3]}, "choose from 1 to 2"),
        ({"method": "max", "levels": [True]}, "choose from 1 to 2"),
        ({"method": "max", "levels": 1}, r"levels=1 is not a list of level numbers; pass integers, as in levels=\[1\]"),
    ],
)
def test_rebuild__of_what_would_not_fit_is_refused_and_leaves_the_store(tmp_path, options, message):
    ms.write_pyramid(np.ones((20, 20), "uint16"), tmp_path / "p", scale_factors=[2, 4])
    before = hashes(tmp_path / "p")
    with pytest.raises((ValueError, TypeError), match=message):
        ms.rebuild_levels(tmp_path / "p", **options)
    assert hashes(tmp_path / "p") == before


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_remove__takes_levels_out_of_metadata_and_store(tmp_path, layout, version):
    values = np.random.default_rng(0).integers(0, 99, (41, 30)).astype("uint16")
    ms.write_pyramid(values, tmp_path / "p", scale_factors=[2, 4, 8], chunks=8, layout=layout, version=version)
    zarr.create_array(tmp_path / "p/mine", shape=(3,), dtype="u1", zarr_format=2 if version == "0.4" else 3)
    before = ms.open_pyramid(tmp_path / "p").load()
    ms.remove_levels(tmp_path / "p", [1, 3])
    after = ms.open_pyramid(tmp_path / "p")
    xr.testing.assert_identical(after["scale0"].to_dataset(), before["scale0"].to_dataset())
    xr.testing.assert_identical(after["scale1"].to_dataset(), before["scale2"].to_dataset())
    assert list(after.children) == ["scale0", "scale1"]
    names = {path.name for path in (tmp_path / "p").iterdir() if path.is_dir()}
    assert names == ({"scale0", "scale2", "mine"} if layout == "datatree" else {"0", "2", "mine"})
    assert ms.validate(tmp_path / "p").ok
    level_0(tmp_path / "p", layout)[0, 0] = 1000
    ms.update_pyramid(tmp_path / "p", {"y": 0, "x": 0})
    assert ms.open_pyramid(tmp_path / "p")["scale1/image"][0, 0] > before["scale2/image"][0, 0]


@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_remove__that_was_interrupted_is_completed_by_the_same_call_and_by_others(tmp_path, monkeypatch, layout):
    values = np.random.default_rng(0).integers(0, 99, (41, 30)).astype("uint16")
    ms.write_pyramid(values, tmp_path / "p", scale_factors=[2, 4, 8], chunks=8, layout=layout)

    def fails(*arguments):
        raise OSError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(changing.Stage, "remove", fails)
        with pytest.raises(OSError, match="no more"):
            ms.remove_levels(tmp_path / "p", [1])
    assert len(ms.open_pyramid(tmp_path / "p").children) == 3
    shutil.copytree(tmp_path / "p", tmp_path / "q")
    ms.remove_levels(tmp_path / "p", [1])
    ms.update_pyramid(tmp_path / "q", {"y": 3})
    ms.write_pyramid(values, tmp_path / "fresh", scale_factors=[2, 4, 8], chunks=8, layout=layout)
    ms.remove_levels(tmp_path / "fresh", [1])
    for place in ("p", "q"):
        assert hashes(tmp_path / place) == hashes(tmp_path / "fresh")


def sizes_of(place, inside=None):
    return [int(array.shape[0]) for array in stored_pyramid(place, inside).arrays]


def stored_pyramid(place, inside=None):
    return stores.StoredPyramid.of(stores.open_node(place, inside))


def written_in_folder(folder, version="0.5", layout="datatree"):
    values = 100 + np.eye(64, dtype="u1")
    ms.write_pyramid(values, folder / "p", scale_factors=[2, 4, 8], version=version, layout=layout)
    return folder / "p", None


def written_in_memory(folder):
    store = zarr.storage.MemoryStore()
    ms.write_pyramid(np.eye(64), store, scale_factors=[2, 4, 8])
    return store, None


def written_as_labels(folder):
    ms.write_pyramid(np.eye(64), folder / "p", scale_factors=[2, 4, 8])
    ms.write_labels(np.eye(64, dtype="u4"), folder / "p", "cells")
    return folder / "p", "labels/cells"


def written_by_others(folder):
    """With paths that are no numbers, and without metadata of ours."""
    place, _ = written_in_folder(folder, "0.4", "flat")
    names = {"1": "half", "2": "quarter", "3": "eighth"}
    for old, new in names.items():
        (place / old).rename(place / new)
    group = zarr.open_group(place, mode="r+")
    (entry,) = group.attrs["multiscales"]
    datasets = [{**dataset, "path": names.get(dataset["path"], "0")} for dataset in entry["datasets"]]
    group.attrs["multiscales"] = [{key: entry[key] for key in ("version", "axes")} | {"datasets": datasets}]
    return place, None


def written_for_maps(folder):
    image = ms.to_image(np.eye(64), scale={"y": -10.0, "x": 10.0}).assign_attrs(crs="EPSG:32618")
    ms.write_pyramid(image, folder / "p", scale_factors=[2, 4, 8], metadata=("geozarr",))
    return folder / "p", None


@pytest.mark.parametrize(
    "write",
    [
        written_in_folder,
        lambda folder: written_in_folder(folder, "0.4"),
        lambda folder: written_in_folder(folder, "0.6", "flat"),
        written_in_memory,
        written_as_labels,
        written_by_others,
        written_for_maps,
    ],
    ids=["v3", "v2", "flat", "memory", "labels", "foreign", "geozarr"],
)
def test_remove__again_removes_no_other_level(tmp_path, write):
    place, inside = write(tmp_path)
    paths = stored_pyramid(place, inside).paths
    for levels, left in (([1], [64, 16, 8]), ([paths[1]], [64, 16, 8]), ([3], [64, 16]), ([1, np.int64(3)], [64, 16])):
        for _ in range(2):
            ms.remove_levels(place, levels, inside)
            assert sizes_of(place, inside) == left
    # Which is level 2 as it was written, and level 1 as it is counted now.
    ms.remove_levels(place, [2], inside)
    assert sizes_of(place, inside) == [64]


@pytest.mark.parametrize(("version", "layout"), [("0.5", "datatree"), ("0.4", "datatree"), ("0.6", "flat")])
def test_remove__stopped_at_any_step_is_completed_by_the_same_call(tmp_path, version, layout):
    place, _ = written_in_folder(tmp_path, version, layout)
    shutil.copytree(place, tmp_path / "before")
    ms.remove_levels(place, [1])
    after = hashes(place)
    for step in itertools.count():
        shutil.rmtree(place)
        shutil.copytree(tmp_path / "before", place)
        try:
            ms.remove_levels(Stopping(zarr.storage.LocalStore(place), step), [1])
        except Killed:
            pass
        else:
            break
        assert sizes_of(place) in ([64, 32, 16, 8], [64, 16, 8])
        for node in ms.open_pyramid(place).children.values():
            assert node["image"].values.any()
        ms.remove_levels(place, [1])
        assert hashes(place) == after, step
    assert step >= 3
    ms.remove_levels(place, [1])
    assert hashes(place) == after


@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_remove__by_a_number_that_means_two_levels_is_refused_with_the_paths(tmp_path, layout, capsys):
    place, _ = written_in_folder(tmp_path, layout=layout)
    ms.remove_levels(place, [1])
    before = hashes(place)
    path, counted = ("scale2/image", "scale3/image") if layout == "datatree" else ("2", "3")
    expected = f"is '{path}' by the number that it was written with, but '{counted}' as levels are counted"
    with pytest.raises(ValueError, match=expected):
        ms.remove_levels(place, [1, 2])
    assert cli.main(["rebuild", str(place), "--remove", "--levels", "2"]) == 1
    named = "scale2/image" if layout == "datatree" else "2/"
    assert f"name its path, as in --levels {named}" in capsys.readouterr().err
    for levels in ([True], [0], ["scale0/image"], ["no"], [7], [[1]], []):
        with pytest.raises(ValueError, match="contains no number, or one that cannot be changed"):
            ms.remove_levels(place, levels)
    with pytest.raises(TypeError, match="is not a list of level numbers"):
        ms.remove_levels(place, "scale2/image")
    assert hashes(place) == before
    assert cli.main(["rebuild", str(place), "--remove", "--levels", named]) == 0
    assert sizes_of(place) == [64, 8]


def test_remove__is_numbered_afresh_by_a_pyramid_that_is_written_there(tmp_path):
    place, _ = written_in_folder(tmp_path)
    ms.remove_levels(place, [1])
    ms.rebuild_levels(place, ["scale2/image"], method="max")
    ms.remove_levels(place, [1])
    assert sizes_of(place) == [64, 16, 8]
    ms.write_pyramid(np.eye(64), place, scale_factors=[2, 4], mode="w")
    ms.remove_levels(place, [1])
    assert sizes_of(place) == [64, 16]


def test_remove__of_a_level_that_others_were_made_from_leaves_no_rule_to_update_by(tmp_path):
    ms.write_pyramid(np.eye(40), tmp_path / "p", scale_factors=[2, 4, 6], chunks=8, method="median")
    ms.remove_levels(tmp_path / "p", [2])
    ms.update_pyramid(tmp_path / "p", {"y": 0})
    ms.remove_levels(tmp_path / "p", [1])
    with pytest.raises(ValueError, match="computed with different methods or parameters"):
        ms.update_pyramid(tmp_path / "p", {"y": 0})
    ms.rebuild_levels(tmp_path / "p", method="median")
    ms.update_pyramid(tmp_path / "p", {"y": 0})


def test_changes__of_a_store_that_only_the_geospatial_conventions_describe(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (44, 40)).astype("uint16")
    options = {"scale_factors": [2, 4], "metadata": ("geozarr",), "chunks": 8}

    def on_map(values):
        return ms.to_image(values, scale={"y": -10.0, "x": 10.0}, translation=500.0).assign_attrs(crs="EPSG:32618")

    ms.write_pyramid(on_map(values[:40]), tmp_path / "p", **options)
    level_0(tmp_path / "p", "datatree")[2] = values[2] = 1000
    ms.update_pyramid(tmp_path / "p", {"y": 2})
    ms.append_pyramid(values[40:], tmp_path / "p", "y")
    ms.write_pyramid(on_map(values), tmp_path / "fresh", **options)
    assert_same(tmp_path / "p", tmp_path / "fresh")
    assert zarr.open_group(tmp_path / "p").attrs.asdict() == zarr.open_group(tmp_path / "fresh").attrs.asdict()
    ms.rebuild_levels(tmp_path / "p", method="max")
    ms.remove_levels(tmp_path / "p", [1])
    ms.update_pyramid(tmp_path / "p", {"y": 2})
    found = ms.open_pyramid(tmp_path / "p")
    assert list(found.children) == ["scale0", "scale1"]
    np.testing.assert_array_equal(found["scale1/image"], values.reshape(11, 4, 10, 4).max((1, 3)))


def test_change__that_was_interrupted_is_completed_before_another(tmp_path, monkeypatch):
    ms.write_pyramid(np.zeros((20, 20), "uint16"), tmp_path / "p", scale_factors=[2])

    def fails(*arguments):
        raise OSError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "reduce_region", fails)
        with pytest.raises(OSError, match="no more"):
            ms.update_pyramid(tmp_path / "p", {"y": slice(0, 4)})
    for other in (
        lambda: ms.append_pyramid(np.zeros((4, 20), "uint16"), tmp_path / "p", "y"),
        lambda: ms.rebuild_levels(tmp_path / "p", method="max"),
        lambda: ms.remove_levels(tmp_path / "p", [1]),
    ):
        with pytest.raises(ValueError, match="by update_pyramid was interrupted; complete it first"):
            other()
    ms.update_pyramid(tmp_path / "p", resume=True)
    ms.remove_levels(tmp_path / "p", [1])


def test_change__of_a_pyramid_whose_levels_are_being_added_is_refused(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 99, (20, 20)).astype("uint16")
    ms.write_pyramid(values, tmp_path / "p", scale_factors=[], layout="flat")

    def fails(*arguments):
        raise OSError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "reduce_region", fails)
        with pytest.raises(OSError, match="no more"):
            ms.add_levels(tmp_path / "p", scale_factors=[2])
    for other in (
        lambda: ms.update_pyramid(tmp_path / "p", {"y": 3}),
        lambda: ms.append_pyramid(np.zeros((4, 20), "uint16"), tmp_path / "p", "y"),
        lambda: ms.rebuild_levels(tmp_path / "p", method="max"),
    ):
        with pytest.raises(ValueError, match="by repeating the call of add_levels or write_pyramid with resume=True"):
            other()
    ms.add_levels(tmp_path / "p", scale_factors=[2], resume=True)
    assert len(ms.open_pyramid(tmp_path / "p").children) == 2


def test_changes__of_an_icechunk_repository_are_a_commit_each(tmp_path):
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    values = np.random.default_rng(0).integers(0, 99, (21, 20)).astype("uint16")
    options = {"scale_factors": [2, 4], "chunks": 8}
    ms.write_pyramid(values, repository, **options, digests=True)
    session = repository.writable_session("main")
    values[3:9] = zarr.open_array(session.store, path="scale0/image")[3:9] = 7
    session.commit("an edit")
    ms.update_pyramid(repository, {"y": slice(3, 9)})
    ms.append_pyramid(values[:9], repository, "y")
    ms.update_pyramid(repository, changed="auto")
    ms.rebuild_levels(repository, method="max")
    ms.remove_levels(repository, [2])
    ms.write_pyramid(
        np.concatenate([values, values[:9]]), tmp_path / "fresh", scale_factors=[2], chunks=8, method="max"
    )
    found = arrays_of(repository.readonly_session("main").store)
    assert {path: values for path, values in found.items() if path != "digests/chunks"}.keys() == arrays_of(
        tmp_path / "fresh"
    ).keys()
    for path, expected in arrays_of(tmp_path / "fresh").items():
        np.testing.assert_array_equal(found[path], expected)
    said = [change.message.removeprefix("multiscale_sampler.") for change in repository.ancestry(branch="main")]
    assert said[:-1] == [
        "remove_levels",
        "rebuild_levels",
        "append_pyramid",
        "update_pyramid",
        "an edit",
        "write_pyramid",
    ]
