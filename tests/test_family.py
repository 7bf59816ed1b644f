"""Code that was written with multiscale-spatial-image or ngff-zarr: their names of methods."""

from enum import Enum

import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.reducers import REDUCERS, get_reducer

from .data import noise

# Of multiscale-spatial-image 2.1.0 and ngff-zarr 0.50.0, with the method of ours that does the same job.
SAME_JOB = {
    "XARRAY_COARSEN": "mean",
    "ITK_BIN_SHRINK": "mean",
    "ITK_GAUSSIAN": "gaussian",
    "ITK_LABEL_GAUSSIAN": "label_gaussian",
    "DASK_IMAGE_GAUSSIAN": "gaussian",
    "DASK_IMAGE_MODE": "mode",
    "DASK_IMAGE_NEAREST": "nearest",
    "ITKWASM_GAUSSIAN": "gaussian",
    "ITKWASM_BIN_SHRINK": "mean",
    "ITKWASM_LABEL_IMAGE": "label_gaussian",
    "DASK_BIN_SHRINK": "mean",
}


def test_methods__have_the_names_and_values_of_the_family():
    assert {member.name: member.value for member in ms.Methods} == {name: name.lower() for name in SAME_JOB}
    assert not set(ms.Methods) & set(REDUCERS)


def test_methods__have_those_of_ngff_zarr():
    theirs = pytest.importorskip("ngff_zarr", reason="the extra 'clients' brings ngff-zarr").Methods
    for member in theirs:
        assert ms.Methods[member.name].value == member.value
        assert get_reducer(member) is get_reducer(ms.Methods[member.name])


@pytest.mark.parametrize("name", SAME_JOB)
def test_methods__stand_for_the_method_that_does_the_same_job(name):
    foreign = Enum("Methods", {name: name.lower()})[name]
    for method in (ms.Methods[name], name.lower(), foreign):
        assert get_reducer(method) is REDUCERS[SAME_JOB[name]]


@pytest.mark.parametrize("name", ["XARRAY_COARSEN", "ITKWASM_GAUSSIAN", "DASK_IMAGE_MODE", "ITK_LABEL_GAUSSIAN"])
def test_methods__are_taken_wherever_a_method_is(name):
    image = ms.to_image(noise((16, 12), "uint8"), scale=0.5)
    tree = ms.to_multiscale(image, [2, 4], method=ms.Methods[name], chunks=8)
    expected = ms.to_multiscale(image, [2, 4], method=SAME_JOB[name], chunks=8)
    xr.testing.assert_identical(tree, expected)
    assert tree["scale0/image"].chunks == ((8, 8), (8, 4))
    level = ms.coarsen(image, 2, method=ms.Methods[name])
    np.testing.assert_array_equal(level.values, expected["scale1/image"].values)
    store = {}
    ms.write_pyramid(image, store, scale_factors=[2, 4], method=ms.Methods[name])
    np.testing.assert_array_equal(ms.open_pyramid(store)["scale1/image"].values, expected["scale1/image"].values)


def test_methods__of_a_dataset_are_of_either_kind():
    dataset = xr.Dataset({"raw": ms.to_image(noise((8, 8))), "labels": ms.to_image(noise((8, 8), "uint32"))})
    tree = ms.to_multiscale(dataset, [2], {"raw": ms.Methods.DASK_BIN_SHRINK, "labels": "dask_image_mode"})
    xr.testing.assert_identical(tree, ms.to_multiscale(dataset, [2], {"raw": "mean", "labels": "mode"}))


def test_methods__mean_takes_weights_by_any_name():
    assert get_reducer(ms.Methods.XARRAY_COARSEN, weighted=True) is get_reducer("mean", weighted=True)
    with pytest.raises(ValueError, match="weights go with the mean"):
        get_reducer(ms.Methods.ITK_GAUSSIAN, weighted=True)


@pytest.mark.parametrize("method", ["itk_median", Enum("Methods", {"ZOOM": "zoom"}).ZOOM, Enum("Methods", {"A": 1}).A])
def test_methods__that_nobody_has_are_refused(method):
    with pytest.raises(ValueError, match=r"unknown method .* 'mean', 'sum'"):
        get_reducer(method)
