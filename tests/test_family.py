"""What users of multiscale-spatial-image and ngff-zarr bring along: names of methods, calls, images of any kind."""

from enum import Enum

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from multiscale_sampler.methods.reducers import REDUCERS, get_reducer

from .data import make_array, noise
from .oracles import check_levels

# Of multiscale-spatial-image 2.1.0, ngff-zarr 0.50.0 and ome-zarr-py 0.18, with the method of ours that does the job.
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
    "LOCAL_MEAN": "mean",
    "RESIZE": "linear",
    "ZOOM": "cubic",
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
    with pytest.raises(ValueError, match="weights need method='mean'"):
        get_reducer(ms.Methods.ITK_GAUSSIAN, weighted=True)


@pytest.mark.parametrize(
    "method", ["itk_median", Enum("Methods", {"SPLINE": "spline"}).SPLINE, Enum("Methods", {"A": 1}).A]
)
def test_methods__that_nobody_has_are_refused(method):
    with pytest.raises(ValueError, match=r"unknown method .* 'mean', 'sum'"):
        get_reducer(method)


@pytest.mark.parametrize("factors", [[2, 2, 2], [2, 2], [4, 2]], ids=str)
def test_msi_5__factors_that_do_not_ascend_are_refused_under_their_names_too(factors):
    """MSI-5: ``[2, 2, 2]`` made one level three times."""
    with pytest.raises(ValueError, match="ascend"):
        ms.to_multiscale(noise((64, 64)), factors, method=ms.Methods.XARRAY_COARSEN)


@pytest.mark.parametrize("dims", ["cyx", "tyx", "yxc"])
def test_msi_6__their_default_method_takes_channels_and_times(dims):
    """MSI-6: XARRAY_COARSEN raised "Provided chunks have 2 dims; expected 3 dims"."""
    base = noise((4, 8, 6))
    tree = ms.to_multiscale(ms.to_image(base, dims), [2], method=ms.Methods.XARRAY_COARSEN)
    check_levels(tree, base, [tuple(2 if dim in "yx" else 1 for dim in dims)])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint64", "float32"])
@pytest.mark.parametrize("name", ["DASK_IMAGE_MODE", "DASK_IMAGE_NEAREST", "ITKWASM_BIN_SHRINK"])
def test_msi_13__their_methods_take_every_dtype(name, dtype):
    """MSI-13: u8, i8 and bool raised errors of templates."""
    base = noise((6, 8), dtype)
    check_levels(ms.to_multiscale(base, [2], method=ms.Methods[name]), base, [(2, 2)], SAME_JOB[name])


@pytest.mark.parametrize("form", ["array v2", "array v3", "group"])
def test_nz_8__the_command_line_takes_plain_arrays_and_groups(tmp_path, form):
    """NZ-8: a plain array, or a group without metadata, ended in a traceback."""
    base = noise((12, 10))
    if form == "group":
        zarr.open_group(tmp_path / "raw.zarr", mode="w")
        make_array(tmp_path / "raw.zarr", base, path="raw")
    else:
        make_array(tmp_path / "raw.zarr", base, path=None, zarr_format=int(form[-1]))
    out = str(tmp_path / "out.zarr")
    assert main(["build", str(tmp_path / "raw.zarr"), out, "--factors", "2,4", "--quiet"]) == 0
    check_levels(ms.open_pyramid(out), base, [(2, 2), (4, 4)])


@pytest.mark.parametrize("spelling", ["DASK_IMAGE_GAUSSIAN", "dask-image-gaussian", "Dask Image Gaussian", " GAUSSIAN"])
def test_methods__are_taken_in_any_spelling(tmp_path, spelling):
    image = noise((16, 12), "uint8")
    expected = ms.to_multiscale(image, [2], "gaussian")
    xr.testing.assert_identical(ms.to_multiscale(image, [2], spelling), expected)
    np.testing.assert_array_equal(ms.coarsen(image, 2, method=spelling), expected["scale1/image"])
    store = {}
    ms.write_pyramid(image, store, scale_factors=[2], method=spelling)
    assert zarr.open_group(store).attrs["ome"]["multiscales"][0]["type"] == "gaussian"
    assert ms.plan_pyramid(image, scale_factors=[2], method=spelling).to_dict()["method"] == "gaussian"


@pytest.mark.parametrize(("name", "own"), [("resize", "linear"), ("ZOOM", "cubic"), (ms.Methods.RESIZE, "linear")])
def test_methods__whose_results_differ_elsewhere_are_named_once(tmp_path, capsys, name, own):
    image = noise((16, 12), "uint8")
    expected = ms.to_multiscale(image, [2], own)["scale1/image"].values

    def written(image, **options):
        store = {}
        ms.write_pyramid(image, store, scale_factors=[2], **options)
        return ms.open_pyramid(store)

    calls = (
        lambda: ms.to_multiscale(image, [2], name)["scale1/image"],
        lambda: ms.coarsen(image, 2, method=name),
        lambda: written(image, method=name)["scale1/image"],
        lambda: ms.plan_pyramid(image, scale_factors=[2], method=name),
    )
    for call in calls:
        with pytest.warns(UserWarning, match=f"of ome-zarr-py has other results here: '{own}' is taken") as caught:
            found = call()
        assert len(caught) == 1
        assert isinstance(found, ms.Plan) or (np.asarray(found) == expected).all()
    zarr.create_array(str(tmp_path / "raw"), data=image)
    assert main(["build", str(tmp_path / "raw"), str(tmp_path / "out"), "--method", str(name), "--factors", "2,"]) == 0
    assert capsys.readouterr().err.count("has other results here") == 1
    np.testing.assert_array_equal(ms.open_pyramid(tmp_path / "out")["scale1/image"], expected)


def test_images_of_ngff_zarr__are_taken_as_they_lie():
    ngff_zarr = pytest.importorskip("ngff_zarr", reason="the extra 'clients' brings ngff-zarr")
    values, where = noise((16, 12)), {"scale": {"y": 0.5, "x": 0.25}, "translation": {"y": 7.0, "x": 3.0}}
    theirs = ngff_zarr.to_ngff_image(values, ["y", "x"], **where, name="cells", axes_units={"y": "micrometer"})
    ours = ms.to_image(values, **where, name="cells", units={"y": "micrometer"})
    expected = ms.to_multiscale(ours, [2])
    xr.testing.assert_equal(ms.to_multiscale(theirs, [2]), expected)
    assert ms.to_multiscale(theirs, [2])["scale1"].y.attrs == expected["scale1"].y.attrs
    assert ms.plan_pyramid(theirs, scale_factors=[2]).levels == ms.plan_pyramid(ours, scale_factors=[2]).levels
    store = {}
    ms.write_pyramid(theirs, store, scale_factors=[2])
    xr.testing.assert_equal(ms.open_pyramid(store), expected)
    with pytest.raises(ValueError, match="the labels are at y = 0"):
        ms.write_labels(ngff_zarr.to_ngff_image(values > 9, ["y", "x"], scale={"y": 2.0, "x": 2.0}), store, "cells")


@pytest.mark.parametrize("kind", ["text", "path"])
def test_paths__are_opened_as_images(tmp_path, kind):
    image = ms.to_image(noise((16, 12)), scale=0.5, units="micrometer")
    ms.write_pyramid(image, tmp_path / "in", scale_factors=[])
    path = str(tmp_path / "in") if kind == "text" else tmp_path / "in"
    expected = ms.to_multiscale(image, [2])
    xr.testing.assert_equal(ms.to_multiscale(path, [2]), expected)
    assert (
        ms.plan_pyramid(path, scale_factors=[2]).levels[1].axes
        == ms.plan_pyramid(image, scale_factors=[2]).levels[1].axes
    )
    ms.write_pyramid(path, tmp_path / "out", scale_factors=[2])
    xr.testing.assert_equal(ms.open_pyramid(tmp_path / "out"), expected)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ms.to_multiscale(tmp_path / "nowhere")


@pytest.mark.parametrize("call", [ms.to_multiscale, ms.plan_pyramid, lambda image: ms.write_pyramid(image, {})])
def test_mappings__are_refused_with_the_way(call):
    with pytest.raises(TypeError, match=r"keys \['raw'\] is not an image; label an array of it with to_image"):
        call({"raw": noise((16, 12))})
