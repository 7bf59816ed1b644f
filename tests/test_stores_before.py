"""What commit 0e6d5be made: its finished stores open, are valid, and change to the bits that it would make of them.

Its unfinished builds and its pickles end in one line that says so. `fixtures/README.md` describes the files.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms

from .fixtures.make_stores import (
    INTERRUPTED,
    STORES,
    bits,
    days,
    edit_days,
    image_of_interrupted,
    image_of_tree,
    unpack,
)

FOLDER = Path(__file__).parent / "fixtures"


def unpacked(name, tmp_path):
    unpack(FOLDER / f"{name}.zip", tmp_path / name)
    return tmp_path / name


def check_sound(place, images):
    """Check the metadata of a store's images and the voxels of their levels."""
    for image in images:
        report = ms.validate(place, image or None)
        assert report.ok, report
    report = ms.verify_pyramid(place)
    assert report.ok, report
    assert len(report.levels) == sum(len(paths) - 1 for paths in images.values())


def check_bits(found, name, change):
    """Compare all levels and their coordinates with what 0e6d5be made."""
    with np.load(FOLDER / f"{name}.npz") as made:
        expected = {key.removeprefix(f"{change}/"): made[key] for key in made if key.startswith(f"{change}/")}
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        # Dates may be opened in another unit.
        np.testing.assert_array_equal(found[key], values, strict=values.dtype.kind != "M", err_msg=key)


@pytest.mark.parametrize("name", STORES)
def test_finished_store__opens_and_is_sound(tmp_path, name):
    images = STORES[name].images
    place = unpacked(name, tmp_path)
    check_sound(place, images)
    for image, paths in images.items():
        tree = ms.open_pyramid(place, image or None)
        assert [node for node in tree.children if node.startswith("scale")] == [f"scale{n}" for n in range(len(paths))]
        for number, path in enumerate(paths):
            (level,) = tree[f"scale{number}"].data_vars.values()
            np.testing.assert_array_equal(level.values, zarr.open_array(place, path=path, mode="r")[...], strict=True)


def test_finished_store__opens_as_it_was_written(tmp_path):
    level_0 = ms.open_pyramid(unpacked("days", tmp_path))["scale0/field"]
    image = days(3, 0)
    np.testing.assert_array_equal(level_0.values, image.values, strict=True)
    assert set(level_0.coords) == set(image.coords)
    for name, coordinate in image.coords.items():
        np.testing.assert_array_equal(level_0[name].values, coordinate.values)


@pytest.mark.parametrize("change", ["update", "append"])
@pytest.mark.parametrize("name", STORES)
def test_finished_store__is_changed_to_the_same_bits(tmp_path, name, change):
    store = STORES[name]
    place = unpacked(name, tmp_path)
    before = bits(place, store.images)
    getattr(store, change)(place)
    found = bits(place, store.images)
    for paths in store.images.values():
        for path in paths:
            assert not np.array_equal(found[path], before[path], equal_nan=True), f"{path} is as it was"
    check_bits(found, name, change)
    check_sound(place, store.images)


def test_finished_store__finds_out_itself_what_was_edited(tmp_path):
    place = unpacked("days", tmp_path)
    edit_days(place)
    ms.update_pyramid(place, changed="auto")
    check_bits(bits(place, STORES["days"].images), "days", "update")


def files(place):
    return {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_unfinished_build__is_refused_in_one_line(tmp_path):
    place = unpacked("interrupted", tmp_path)
    before = files(place)
    with pytest.raises(ValueError, match=r"another version of multiscale_sampler began .*mode='w'") as refused:
        ms.write_pyramid(image_of_interrupted(), place, resume=True, **INTERRUPTED)
    assert str(place) in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="has not finished"):
        ms.open_pyramid(place)
    assert files(place) == before


def test_unfinished_build__is_replaced_by_one_that_starts_over(tmp_path):
    place = unpacked("interrupted", tmp_path)
    ms.write_pyramid(image_of_interrupted(), place, mode="w", **INTERRUPTED)
    ms.write_pyramid(image_of_interrupted(), tmp_path / "fresh", **INTERRUPTED)
    assert files(place) == files(tmp_path / "fresh")


def test_pickled_plan__is_refused_in_one_line():
    with pytest.raises(ValueError, match="this Plan was pickled by an earlier version") as refused:
        pickle.loads((FOLDER / "plan.pickle").read_bytes())
    assert "\n" not in str(refused.value)


def computed(file):
    """Return a pickled tree with its values, or the error that it ends in."""
    try:
        return pickle.loads(file.read_bytes()).load()
    except Exception as error:
        return error


def test_pickled_tree__has_its_values_or_is_refused_in_one_line():
    # Its functions are found by the modules that they were in, which a later version may not have.
    found = computed(FOLDER / "tree.pickle")
    if isinstance(found, Exception):
        assert str(found)
        assert "\n" not in str(found)
        return
    expected = ms.to_multiscale(image_of_tree(), [2, 4])
    assert list(found.children) == list(expected.children)
    for node, level in expected.children.items():
        xr.testing.assert_equal(found[node].to_dataset(), level.to_dataset())
