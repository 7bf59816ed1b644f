"""What a build finds out before it begins, it finds out once: the axes of its image, and its plan."""

from functools import partial

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.image import dataarray
from multiscale_sampler.plan import planning

from ..counting import recorded_calls
from ..data import make_array

BASE = np.arange(64 * 48, dtype="uint16").reshape(64, 48)
LADDER = [2, 4]


def stored_array():
    return make_array({}, BASE, chunks=(16, 16), dims=("y", "x"))


def pyramid(**options):
    store = {}
    ms.write_pyramid(stored_array(), store, scale_factors=LADDER, **options)
    return store


def tree(**options):
    return ms.to_multiscale(ms.open_image(stored_array()), LADDER, **options)


def channels():
    return ms.to_image(np.zeros((3, 32, 32), "uint8"), "cyx")


def edited_tree():
    """A tree whose levels are no longer those of its base."""
    nodes = {name: node.to_dataset() + np.uint16(1) for name, node in tree().children.items()}
    return xr.DataTree.from_dict(nodes)


def group_of_base():
    store = zarr.storage.MemoryStore()
    make_array(store, BASE, path="0", chunks=(16, 16), dims=("y", "x"))
    return zarr.open_group(store)


def image():
    return ms.open_image(stored_array())


# Each prepares what a call needs, and returns the call.
CALLS = {
    "open_image": lambda: partial(ms.open_image, stored_array()),
    "plan_pyramid": lambda: partial(ms.plan_pyramid, image(), LADDER),
    "to_multiscale": lambda: partial(ms.to_multiscale, image(), LADDER),
    "coarsen": lambda: partial(ms.coarsen, image(), 2),
    "write an image": lambda: partial(ms.write_pyramid, image(), {}, scale_factors=LADDER),
    "write an array": lambda: partial(ms.write_pyramid, stored_array(), {}, scale_factors=LADDER),
    "write another dtype": lambda: partial(ms.write_pyramid, image(), {}, scale_factors=LADDER, dtype="float32"),
    "write channels": lambda: partial(ms.write_pyramid, channels(), {}, scale_factors=LADDER),
    "write a tree": lambda: partial(ms.write_pyramid, tree(), {}),
    "write a tree in another dtype": lambda: partial(ms.write_pyramid, tree(), {}, dtype="float32"),
    "write an edited tree": lambda: partial(ms.write_pyramid, edited_tree(), {}),
    "add_levels": lambda: partial(ms.add_levels, group_of_base(), scale_factors=LADDER),
    "write_labels": lambda: partial(ms.write_labels, BASE, pyramid(), "cells"),
    "write_labels of a tree": lambda: partial(ms.write_labels, tree(method="mode"), pyramid(), "cells"),
    "update_pyramid": lambda: partial(ms.update_pyramid, pyramid(), {"y": slice(0, 8)}),
    "append_pyramid": lambda: partial(ms.append_pyramid, BASE[:10], pyramid(), "y"),
    "rebuild_levels": lambda: partial(ms.rebuild_levels, pyramid(), method="max"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls__find_the_axes_of_an_image_once(name, monkeypatch):
    call = CALLS[name]()
    calls = recorded_calls(monkeypatch, dataarray.image_axes)
    call()
    images = [image for (image,), _ in calls]
    assert images
    assert len({id(image) for image in images}) == len(images)


# Another dtype makes levels of another dtype than those that a tree is compared with; edited levels are planned each.
PLANS = {"open_image": 0, "write a tree in another dtype": 2, "write an edited tree": 3}


@pytest.mark.parametrize("name", CALLS)
def test_calls__plan_once(name, monkeypatch):
    call = CALLS[name]()
    calls = recorded_calls(monkeypatch, planning.plan_ladder)
    call()
    assert len(calls) == PLANS.get(name, 1)


# Lazy levels have no passes.
PASSES = {"open_image": 0, "to_multiscale": 0, "coarsen": 0, "write an edited tree": 3}


@pytest.mark.parametrize("name", CALLS)
def test_calls__find_the_passes_once(name, monkeypatch):
    call = CALLS[name]()
    calls = recorded_calls(monkeypatch, planning.ready_to_build)
    call()
    assert len(calls) == PASSES.get(name, 1)


def test_calls__of_the_package_are_recorded(monkeypatch):
    calls = recorded_calls(monkeypatch, planning.plan_ladder)
    ms.plan_pyramid(BASE, LADDER)
    ms.coarsen(BASE, 2)
    assert [len(args) for args, _ in calls] == [5, 5]
