import warnings

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from tests.data import make_array


def image_of(shape, dims, **options):
    return ms.to_image(np.broadcast_to(np.uint8(0), shape), dims, **options)


# What was assumed


@pytest.mark.parametrize(
    ("image", "unstated"),
    [
        (np.zeros((300, 300), "uint8"), ("y", "x")),
        (xr.DataArray(np.zeros((4, 300, 300)), dims=("time", "y", "x")), ("y", "x")),
        (image_of((300, 300), "yx", units="micrometer"), ()),
        (image_of((300, 300), "yx", scale=0.5), ()),
        # One that is named with others that are not: what was said stays.
        (image_of((300, 300), "yx", scale={"y": 0.5}), ()),
        (image_of((8, 300, 300), "zyx", units={"y": "micrometer", "x": "micrometer"}), ("z",)),
        (image_of((1, 300, 300), "zyx"), ("y", "x")),
        (xr.DataArray(np.zeros((300, 3)), coords={"y": np.arange(300.0)}, dims=("y", "x")), ()),
    ],
)
def test_plan__says_which_spacings_it_assumed(image, unstated):
    plan = ms.plan_pyramid(image)
    assert plan.unstated == unstated
    assert (f"spacing unknown, assumed equal: {', '.join(unstated)}" in str(plan)) == bool(unstated)


def test_plan__says_which_axes_it_reduces_and_keeps():
    latitudes = {"lat": np.linspace(-90, 90, 361), "lon": np.arange(720) * 0.5}
    field = xr.DataArray(da.zeros((24, 5, 361, 720)), latitudes, ("valid_time", "level", "lat", "lon"))
    for dim, unit in (("lat", "degrees_north"), ("lon", "degrees_east")):
        field[dim].attrs["units"] = unit
    plan = ms.plan_pyramid(field, chunks=256)
    assert plan.reduced == ("lat", "lon")
    assert "reduced: lat, lon; kept: valid_time, level" in str(plan)
    assert plan.to_dict()["reduced"] == ["lat", "lon"]


# One level


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.zeros((200, 100)), {}, ("(y 200, x 100) have reached 200,", "a smaller min_size")),
        (np.zeros((200, 100)), {"scale_factors": 2, "chunks": 512}, ("(y 200, x 100) have reached 200,",)),
        (np.zeros((200, 100)), {"min_size": 256}, ("have reached min_size={'y': 256, 'x': 256}", "a smaller min_size")),
        (image_of((900, 3), "tc"), {}, ("no axis of space", "scale_factors={'t': 2}")),
        (image_of((9, 1, 1), "tyx"), {}, ("no axis of space", "scale_factors={'t': 2}")),
        (np.zeros((3, 3)), {"scale_factors": 4, "boundary": "trim", "chunks": 1}, ("'trim'", "boundary='pad'")),
    ],
)
def test_plan__of_one_level_says_why_and_what_makes_more(image, options, words):
    plan = ms.plan_pyramid(image, **options)
    assert len(plan.levels) == 1
    assert plan.why_one_level == f"one level: {plan.ending}"
    for word in words:
        assert word in plan.ending
    assert plan.why_one_level in str(plan)


@pytest.mark.parametrize("options", [{"max_levels": 1}, {"scale_factors": []}])
def test_plan__of_one_level_that_was_asked_for_gives_no_reason(options):
    assert ms.plan_pyramid(np.zeros((600, 600)), **options).ending == ""
    plan = ms.plan_pyramid(np.zeros((600, 600)))
    assert plan.why_one_level == ""
    assert "the axes that are reduced (y 150, x 150) have reached 256, the longest edge of a chunk" in plan.ending


def test_builds__of_one_level_say_why_where_they_report(tmp_path, capsys):
    small = np.zeros((20, 30), "uint8")
    ms.write_pyramid(small, tmp_path / "a.zarr", progress=True)
    assert "one level: the axes that are reduced (y 20, x 30) have reached 30" in capsys.readouterr().err
    make_array(tmp_path / "b.zarr", small, dims=("y", "x"))
    assert main(["add-levels", str(tmp_path / "b.zarr")]) == 0
    assert "one level: " in capsys.readouterr().err
    ms.write_pyramid(small, tmp_path / "c.zarr")
    ms.write_pyramid(np.zeros((600, 600), "uint8"), tmp_path / "d.zarr", progress=True)
    assert "one level" not in capsys.readouterr().err


# Distorted voxels


def distorting(call):
    """Return the warnings of a call, with the file that they blame."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(str(one.message), one.filename) for one in caught if "anisotropic" in str(one.message)]


def test_calls__warn_once_of_voxels_that_are_distorted(tmp_path):
    image = image_of((64, 64, 64), "zyx", scale=(2.0, 1.0, 1.0), units="micrometer")
    steps = [{"z": 2}, {"z": 4, "y": 2, "x": 2}]
    make_array(tmp_path / "base.zarr", np.zeros((64, 64, 64), "uint8"), dims=("z", "y", "x"))
    both = xr.Dataset({"a": image, "b": image + 1})
    where = {"scale": {"z": 2, "y": 1, "x": 1}, "units": "micrometer"}
    calls = [
        lambda: ms.plan_pyramid(image, steps),
        lambda: ms.to_multiscale(image, steps),
        lambda: ms.to_multiscale(both, steps),
        lambda: ms.write_pyramid(image, tmp_path / "p.zarr", scale_factors=steps),
        lambda: ms.add_levels(tmp_path / "base.zarr", scale_factors=steps, **where),
    ]
    text = (
        "voxels of level 2 are more anisotropic than those of the base: 4:1, not 2:1; scale_factors='isotropic' "
        "without min_size keeps them in shape"
    )
    for call in calls:
        assert distorting(call) == [(text, __file__)]


@pytest.mark.parametrize(
    ("image", "options"),
    [
        # Nobody stated a spacing.
        (image_of((64, 64), "yx"), {"scale_factors": {"x": 2}}),
        # They measure something else.
        (image_of((64, 64), "yx", units={"y": "micrometer", "x": "degree"}), {"scale_factors": {"x": 2}}),
        # Nearer to cubes than before.
        (image_of((64, 64), "yx", scale=(4, 1), units="micrometer"), {"scale_factors": [{"x": 2}, {"x": 4}]}),
        # Once an axis has one sample, there is no spacing along it.
        (image_of((2, 512, 512), "zyx", units="micrometer"), {"scale_factors": 2, "chunks": 64}),
        # 1.41 and less is rounding.
        (image_of((64, 64), "yx", scale=(1.4143, 1), units="micrometer"), {"scale_factors": [{"y": 2, "x": 3}]}),
    ],
)
def test_calls__do_not_warn_of_other_voxels(image, options):
    assert distorting(lambda: ms.plan_pyramid(image, **options)) == []


def test_calls__warn_where_min_size_holds_an_axis_back():
    image = image_of((64, 1024, 1024), "zyx", units="micrometer")
    assert distorting(lambda: ms.plan_pyramid(image)) == []
    ((text, _),) = distorting(lambda: ms.plan_pyramid(image, min_size=64))
    assert "level 4 are more anisotropic than those of the base: 16:1, not 1:1" in text
