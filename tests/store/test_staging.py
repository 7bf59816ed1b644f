"""Stages: what readers see while a pyramid is built and takes its place, wherever that is stopped."""

import itertools
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.build import engine
from multiscale_sampler.store import staging
from tests.data import hashes, noise

OLD, NEW = noise((20, 30), seed=1), noise((24, 28), seed=2)
OPTIONS = {"scale_factors": [2, 4], "chunks": 8}


class StopError(Exception):
    """What a test stops a build with."""


def stop_build(monkeypatch, write):
    """Stop a build before its last region."""
    with monkeypatch.context() as patched:
        patched.setattr(engine, "reduce_region", lambda *args: (_ for _ in ()).throw(StopError))
        with pytest.raises(StopError):
            write()


def seen(place):
    """Return which image our reader and xarray see in a place: None where they see nothing."""
    try:
        ours = next(iter(ms.open_pyramid(place)["scale0"].data_vars.values())).values
    except (FileNotFoundError, ValueError):
        ours = None
    try:
        tree = xr.open_datatree(place, engine="zarr")
        theirs = tree["scale0/image"].values if "scale0" in tree.children else None
    except FileNotFoundError:
        theirs = None
    return ours, theirs


def is_image(found, image):
    return all(values is not None and np.array_equal(values, image) for values in found)


# --- half-built ------------------------------------------------------------------------------------------------

STORES = {
    "folder": lambda path: str(path / "a.zarr"),
    "local store": lambda path: zarr.storage.LocalStore(path / "a.zarr"),
    "memory": lambda path: zarr.storage.MemoryStore(),
    "dict": lambda path: {},
    "fsspec": lambda path: f"memory://half-built/{path}",
    "wrapped": lambda path: zarr.storage.LoggingStore(zarr.storage.MemoryStore(), log_level="ERROR"),
}


@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("store", STORES)
def test_half_built_store__shows_nothing_to_any_reader(tmp_path, monkeypatch, store, version, layout):
    place = STORES[store](tmp_path)
    options = {**OPTIONS, "version": version, "layout": layout}
    stop_build(monkeypatch, lambda: ms.write_pyramid(NEW, place, **options))
    with pytest.raises(
        ValueError, match=r"has not finished; complete it by repeating .* with resume=True \(--resume\)"
    ):
        ms.open_pyramid(place)
    try:
        assert not list(zarr.open_group(place, mode="r").members(max_depth=None))
        assert not xr.open_datatree(place, engine="zarr", consolidated=False).children
    except FileNotFoundError:
        assert store in ("folder", "local store")
    for inside in ("scale0", "0", "scale0/image"):
        with pytest.raises(FileNotFoundError):
            zarr.open(place, path=inside, mode="r")
    ms.write_pyramid(NEW, place, resume=True, **options)
    np.testing.assert_array_equal(ms.open_pyramid(place)["scale0/image"], NEW)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("store", ["folder", "memory"])
def test_half_added_levels__are_seen_by_nobody(tmp_path, monkeypatch, store, zarr_format):
    place = STORES[store](tmp_path)
    zarr.create_array(place, name="0", data=NEW, chunks=(8, 8), zarr_format=zarr_format)
    before = hashes(place) if store == "folder" else None
    stop_build(monkeypatch, lambda: ms.add_levels(place, scale_factors=[2, 4]))
    assert before is None or before.items() <= hashes(place).items()
    group = zarr.open_group(place, mode="r")
    assert "1" not in group
    np.testing.assert_array_equal(group["0"], NEW)
    ms.add_levels(place, scale_factors=[2, 4], resume=True)
    assert sorted(zarr.open_group(place, mode="r")) == ["0", "1", "2"]


def test_unfinished_replacement__leaves_the_old_pyramid_to_all(tmp_path, monkeypatch):
    place = tmp_path / "a.zarr"
    ms.write_pyramid(OLD, place, **OPTIONS)
    before = hashes(place)
    stop_build(monkeypatch, lambda: ms.write_pyramid(NEW, place, mode="w", **OPTIONS))
    assert before.items() <= hashes(place).items()
    assert is_image(seen(place), OLD)
    assert ms.validate(place).ok
    assert sorted(zarr.open_group(place, use_consolidated=False)) == [
        "multiscale_sampler_build",
        *("scale0", "scale1", "scale2"),
    ]
    assert list(zarr.open_group(place, use_consolidated=False)["multiscale_sampler_build"]) == []
    ms.write_pyramid(NEW, place, resume=True, **OPTIONS)
    assert is_image(seen(place), NEW)
    ms.write_pyramid(NEW, tmp_path / "fresh", **OPTIONS)
    assert hashes(place) == hashes(tmp_path / "fresh")


# --- the exchange ----------------------------------------------------------------------------------------------


def stopping_steps(monkeypatch, last):
    """Make the calls of the exchange that change folders fail after `last` of them; return how many there were."""
    count = itertools.count()

    def stopping(function):
        def step(*args, **kwargs):
            if next(count) >= last:
                raise StopError
            return function(*args, **kwargs)

        return step

    for module, names in ((os, ("rename", "replace", "unlink", "rmdir")), (shutil, ("rmtree",))):
        steps = {name: stopping(getattr(module, name)) for name in names}
        monkeypatch.setattr(staging, module.__name__, SimpleNamespace(**{**vars(module), **steps}))
    return lambda: next(count)


AGAIN = [{"resume": True}, {"mode": "w"}, {"mode": "w", "resume": True}]
QUICK = [("0.5", True, AGAIN[0]), ("0.4", True, AGAIN[1])]
THOROUGH = [each for each in itertools.product(["0.4", "0.5"], [False, True], AGAIN) if each not in QUICK]


@pytest.mark.parametrize(
    ("version", "others", "again"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.thorough) for each in THOROUGH)]
)
def test_exchange__stopped_at_any_step_is_old_new_or_nothing_and_ends(tmp_path, monkeypatch, version, others, again):
    options = {**OPTIONS, "version": version}
    ms.write_pyramid(OLD, tmp_path / "old", **options)
    ms.write_pyramid(NEW, tmp_path / "new", **options)
    if others:
        group = zarr.open_group(tmp_path / "old")
        group.attrs["mine"] = {"a": 1}
        named = {"dimension_names": ["n"]} if version == "0.5" else {"attributes": {"_ARRAY_DIMENSIONS": ["n"]}}
        group.create_array("table", data=np.arange(5.0), **named)
        ms.write_labels(OLD % 3, tmp_path / "old", "cells")
    ms.write_pyramid(NEW, shutil.copytree(tmp_path / "old", tmp_path / "whole"), mode="w", **options)
    whole = hashes(tmp_path / "whole")
    kinds = set()
    for last in itertools.count():
        place = tmp_path / f"stopped{last}"
        shutil.copytree(tmp_path / "old", place)
        with monkeypatch.context() as patched:
            steps = stopping_steps(patched, last)
            try:
                ms.write_pyramid(NEW, place, mode="w", **options)
            except StopError:
                pass
            else:
                assert steps() <= last
                break
        found = seen(place)
        kinds.add("old" if is_image(found, OLD) else "new" if is_image(found, NEW) else str(found))
        if hashes(place) != whole:
            if others:
                np.testing.assert_array_equal(zarr.open_array(place / "table"), np.arange(5.0))
            try:
                ms.write_pyramid(NEW, place, **again, **options)
            except FileExistsError as error:
                assert "nothing to resume" in str(error)  # noqa: PT017
                assert is_image(seen(place), NEW)
                continue
        assert hashes(place) == whole, f"stopped before step {last}"
    assert kinds == {"old", "new", "(None, None)"}
    assert last > 8


def test_exchange__moves_nothing_that_a_list_of_another_writer_names(tmp_path):
    ms.write_pyramid(OLD, tmp_path / "a.zarr", **OPTIONS)
    zarr.open_group(tmp_path / "a.zarr").create_array("mine", data=np.ones(3))
    (tmp_path / "a.zarr/multiscale_sampler_build").mkdir()
    listed = '{"replaced": ["mine"], "record": {}}'
    (tmp_path / "a.zarr/multiscale_sampler_build/swap.json").write_text(listed)
    before = hashes(tmp_path)
    for path in ("mine", "../b", "scale0/../mine", "/etc", "labels/.."):
        (tmp_path / "a.zarr/multiscale_sampler_build/swap.json").write_text(listed.replace("mine", path))
        with pytest.raises(ValueError, match="which this package did not write"):
            ms.write_pyramid(NEW, tmp_path / "a.zarr", mode="w", **OPTIONS)
    (tmp_path / "a.zarr/multiscale_sampler_build/swap.json").write_text(listed)
    assert hashes(tmp_path) == before


# --- what stays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_replacement__keeps_what_is_beside_the_pyramid(tmp_path, version, layout):
    place, options = tmp_path / "a.zarr", {**OPTIONS, "version": version, "layout": layout}
    ms.write_pyramid(OLD, place, **options)
    group = zarr.open_group(place)
    group.attrs["mine"] = 1
    group.create_array("table", data=np.arange(5.0))
    (place / "notes.txt").write_text("mine")
    ms.write_labels(OLD % 3, place, "cells")
    ms.write_pyramid(NEW, place, mode="w", **options)
    assert zarr.open_group(place).attrs["mine"] == 1
    np.testing.assert_array_equal(zarr.open_group(place)["table"], np.arange(5.0))
    assert (place / "notes.txt").read_text() == "mine"
    tree = ms.open_pyramid(place)
    np.testing.assert_array_equal(tree["scale0/image"], NEW)
    np.testing.assert_array_equal(tree["labels/cells/scale0/cells"], OLD % 3)
    assert not (place / "multiscale_sampler_build").exists()


def test_replacement__of_a_tree_with_labels_replaces_those_and_keeps_others(tmp_path):
    for name, image in (("a", OLD), ("b", OLD + 1)):
        ms.write_pyramid(image, tmp_path / name, **OPTIONS)
        ms.write_labels(image % 3, tmp_path / name, "cells")
    ms.write_labels(OLD % 5, tmp_path / "a", "nuclei")
    ms.write_pyramid(ms.open_pyramid(tmp_path / "b"), tmp_path / "a", mode="w")
    tree = ms.open_pyramid(tmp_path / "a")
    assert sorted(tree["labels"].children) == ["cells", "nuclei"]
    np.testing.assert_array_equal(tree["labels/cells/scale0/cells"], (OLD + 1) % 3)
    np.testing.assert_array_equal(tree["labels/nuclei/scale0/nuclei"], OLD % 5)
    assert ms.validate(tmp_path / "a").ok


def test_replacement__through_a_link_replaces_what_it_leads_to(tmp_path):
    ms.write_pyramid(OLD, tmp_path / "real", **OPTIONS)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ms.write_pyramid(NEW, tmp_path / "link", mode="w", **OPTIONS)
    assert (tmp_path / "link").is_symlink()
    assert is_image(seen(tmp_path / "real"), NEW)


def test_write_labels__that_fails_leaves_the_old_ones(tmp_path, monkeypatch):
    ms.write_pyramid(OLD, tmp_path / "a", **OPTIONS)
    ms.write_labels(OLD % 3, tmp_path / "a", "cells")
    stop_build(monkeypatch, lambda: ms.write_labels(OLD % 5, tmp_path / "a", "cells", mode="w"))
    tree = ms.open_pyramid(tmp_path / "a")
    np.testing.assert_array_equal(tree["labels/cells/scale0/cells"], OLD % 3)
    ms.write_labels(OLD % 5, tmp_path / "a", "cells", mode="w", resume=True)
    np.testing.assert_array_equal(ms.open_pyramid(tmp_path / "a")["labels/cells/scale0/cells"], OLD % 5)
