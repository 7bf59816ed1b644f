"""Pyramids that stay true: after any edits, updates and appends a store is one built afresh from the final base."""

import random
import shutil
import warnings

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import multiscale_sampler as ms
from tests.interruptions import BUILDS, EDITED, Moment, build_in_child

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
    with pytest.raises(ValueError, match="has no digests to tell what changed; name the region"):
        ms.update_pyramid(tmp_path / "p", changed="auto")


# --- interruptions ---------------------------------------------------------------------------------------------

KILLED = {"memory_limit": "16KB", "workers": 2}
SIZES = {"before": (61, 83), "more": (19, 83)}


def prepared(folder, call, options):
    """Write a pyramid, and edit its base or have something to append; return what is to be there afterwards."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 999, SIZES["before"]).astype("uint16")
    pyramid = {"scale_factors": [2, 4, 8], "chunks": 8, **options}
    ms.write_pyramid(values, folder / "target", **pyramid)
    old = arrays_of(folder / "target")
    if call == "update_pyramid":
        box = tuple(EDITED.values())
        values[box] = rng.integers(0, 999, values[box].shape)
        zarr.open_array(folder / "target/scale0/image", mode="r+")[box] = values[box]
    else:
        more = rng.integers(0, 999, SIZES["more"]).astype("uint16")
        zarr.save_array(folder / "raw/0", more)
        values = np.concatenate([values, more])
    ms.write_pyramid(values, folder / "fresh", **pyramid)
    return old, arrays_of(folder / "fresh")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("call", ["update_pyramid", "append_pyramid"])
def test_change__killed_at_any_moment_goes_on_and_shows_old_values_or_new_ones(tmp_path, call, version):
    options = {"version": version}
    old, new = prepared(tmp_path / "pristine", call, options)
    shutil.copytree(tmp_path / "pristine", tmp_path / "whole")
    whole = build_in_child(call, tmp_path / "whole/raw", str(tmp_path / "whole/target"), KILLED, str(tmp_path / "log"))
    assert not whole.killed
    assert_same(tmp_path / "whole/target", tmp_path / "whole/fresh")
    operations = sorted((phase, number) for phase, count in whole.operations.items() for number in range(count))
    for number, moment in enumerate(random.Random(0).sample(operations, 7)):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "pristine", folder)
        target, torn = folder / "target", number % 2 == 0
        killed = build_in_child(
            call, folder / "raw", str(target), KILLED, str(folder / "log"), Moment(*moment, torn=torn)
        )
        assert killed.killed
        assert_readable(target, old, new)
        BUILDS[call](folder / "raw", target, {**KILLED, "resume": True})
        assert_same(target, folder / "fresh")
        assert killed.begun <= whole.begun


def assert_readable(target, old, new):
    """Hold that a pyramid is one whose voxels are old or new ones, and says that it is being changed."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tree = ms.open_pyramid(target)
    changing = [str(warning.message) for warning in told]
    states = []
    for index in range(4):
        found = tree[f"scale{index}/image"].values
        path = f"scale{index}/image"
        states.append(found.shape == new[path].shape and (found == new[path]).all())
        if found.shape == old[path].shape:
            part = tuple(map(slice, found.shape))
            assert ((found == old[path]) | (found == new[path][part]) | (index == 0)).all()
        else:
            np.testing.assert_array_equal(found, new[path])
    if not all(states) and any(state for state in states[1:]):
        assert any("is in progress or was interrupted" in text for text in changing)
