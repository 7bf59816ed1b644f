"""Options as values: which ones are refused, the recipe in a store, and the functions that take them."""

import inspect
import json
from dataclasses import MISSING, fields

import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.plan.options import LevelOptions, StorageOptions, specified


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"boundary": "wrap"}, ValueError, "unknown boundary 'wrap'"),
        ({"max_levels": 0}, ValueError, "max_levels=0"),
        ({"max_levels": 1.5}, TypeError, r"max_levels=1\.5"),
        ({"scale_factors": [2], "min_size": 8}, ValueError, r"min_size=8 .* scale_factors=\[2\]"),
        ({"weights": np.ones(4)}, ValueError, "weights must be a DataArray .* 'ndarray'"),
    ],
)
def test_level_options__refuse_what_no_image_fits(options, error, message):
    with pytest.raises(error, match=message):
        LevelOptions(**options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": 0}, ValueError, "workers=0"),
        ({"workers": True}, TypeError, "workers=True"),
        ({"memory_limit": "much"}, ValueError, "memory_limit='much'"),
        ({"memory_limit": 0}, ValueError, "memory_limit=0"),
    ],
)
def test_storage_options__refuse_what_no_image_fits(options, error, message):
    with pytest.raises(error, match=message):
        StorageOptions(**options)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (xr.DataArray(np.ones(4), dims="z"), r"dims of the image, \('y', 'x'\); these are \('z',\)"),
        (xr.DataArray(np.ones(5), dims="x"), "5 samples along 'x', the image has 4"),
        (xr.DataArray(np.ones(4), {"x": [9, 10, 11, 12]}, dims="x"), "different coordinates along 'x'"),
        (xr.DataArray(["a"] * 4, dims="x"), "dtype '<U1'"),
    ],
)
def test_level_options__refuse_weights_that_do_not_fit_an_image(weights, message):
    image = ms.to_image(np.ones((4, 4)))
    with pytest.raises(ValueError, match=message):
        LevelOptions(weights=weights).check_image(image)
    LevelOptions(weights=xr.ones_like(image)).check_image(image)


def test_level_options__have_the_recipe_that_stores_keep():
    plan = ms.plan_pyramid(np.zeros((8, 6), "uint8"), [{"y": 2}, 4], method="min", nodata=255, min_valid=0.5)
    assert json.dumps(LevelOptions.of_plan(plan).recipe()) == (
        '{"method": "min", "boundary": "pad", "scale_factors": [{"y": 2, "x": 1}, {"y": 4, "x": 4}], "skipna": null, '
        '"nodata": 255, "min_valid": 0.5}'
    )


@pytest.mark.parametrize("method", ["mean", "nearest", "laplacian"])
def test_level_options__come_back_from_the_recipe(method):
    image = np.zeros((40, 60), "float32")
    plan = ms.plan_pyramid(image, boundary="trim", method=method, skipna=False, chunks=8)
    recipe = json.loads(json.dumps(LevelOptions.of_plan(plan).recipe()))
    options = LevelOptions.of_recipe(recipe)
    again = ms.plan_pyramid(image, chunks=8, **{name: getattr(options, name) for name in OPTIONS})
    assert again == plan
    assert LevelOptions.of_plan(again).recipe() == recipe


def test_level_options__refuse_a_recipe_with_other_options():
    with pytest.raises(TypeError, match="sharpness"):
        LevelOptions.of_recipe({"method": "mean", "sharpness": 3})


def test_options__tell_which_the_caller_specified():
    assert StorageOptions(shards=False, workers=2).specified == ("shards", "workers")
    assert StorageOptions().specified == ()
    assert specified(method="max", skipna=False, nodata=None, min_valid=0.0) == {
        "method": "max",
        "skipna": False,
        "min_valid": 0.0,
    }


def test_storage_options__are_resolved():
    options = StorageOptions(memory_limit="2 kiB", workers=np.int64(3))
    assert (options.memory, options.worker_count) == (2048, 3)
    assert StorageOptions().memory > 2**20
    assert StorageOptions().worker_count >= 1


# How values are packed is not for the caller to say.
OPTIONS = {each.name: each.default for each in fields(LevelOptions) if each.metadata.get("is_option", True)}


def parameters_of(function):
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("function", [ms.plan_pyramid, ms.add_levels, ms.to_multiscale])
def test_options__are_parameters_with_the_same_defaults(function):
    taken = parameters_of(function)
    assert {name: taken.get(name, MISSING) for name in OPTIONS} == OPTIONS


def test_options__are_all_parameters_of_write_pyramid():
    taken = parameters_of(ms.write_pyramid)
    names = [*OPTIONS, *(field.name for field in fields(StorageOptions))]
    assert {name: taken.get(name, MISSING) for name in names} == {**dict.fromkeys(names), "nodata": "stated"}
