import numpy as np
import pytest
import xarray as xr

from multiscale_sampler.image.dataarray import image_axes
from multiscale_sampler.image.pictures import descends, in_picture_order, points_up

UP, DOWN = np.array([1.0, 2.0, 4.0]), np.array([4.0, 2.0, 1.0])


def image_of(dims, attrs=None, positions=UP):
    coords = {dim: (dim, positions, (attrs or {}).get(dim, {})) for dim in dims}
    return xr.DataArray(np.zeros((3,) * len(dims)), coords, dims)


@pytest.mark.parametrize(
    ("dims", "attrs", "expected"),
    [
        (("y", "x"), {}, "x y"),
        (("x", "y"), {}, "x y"),
        (("z", "y", "x"), {}, "x y z"),
        (("x", "y", "z"), {}, "x y z"),
        (("lat", "lon"), {}, "lon lat"),
        (("lon", "lat"), {}, "lon lat"),
        (("longitude", "depth", "latitude"), {}, "longitude latitude depth"),
        (("depth", "latitude"), {}, "latitude depth"),
        (("a", "b"), {"a": {"units": "degrees_east"}, "b": {"units": "degrees_north"}}, "a b"),
        (("i", "j"), {"i": {"axis": "X"}, "j": {"axis": "Y"}}, "i j"),
        (("e", "n"), {"e": {"standard_name": "projection_x_coordinate"}, "n": {"axis": "Y"}}, "e n"),
        # Of these it is not known, or said twice.
        (("a", "b"), {}, "b a"),
        (("x", "b"), {}, "b x"),
        (("lat", "y"), {}, "y lat"),
    ],
)
def test_in_picture_order__what_coordinates_say_comes_before_the_order_of_dims(dims, attrs, expected):
    image = image_of(dims, attrs)
    assert " ".join(axis.name for axis in in_picture_order(image, image_axes(image))) == expected


@pytest.mark.parametrize(
    ("dim", "attrs", "positions", "on_map", "expected"),
    [
        ("lat", {}, UP, False, True),
        ("lat", {}, DOWN, False, True),
        ("n", {"units": "degrees_north"}, UP, False, True),
        ("n", {"standard_name": "grid_latitude"}, UP, False, True),
        ("y", {}, UP, False, False),
        ("y", {}, DOWN, False, True),
        ("y", {}, UP, True, True),
        ("depth", {"positive": "down"}, DOWN, True, False),
        ("height", {"positive": "up"}, UP, False, True),
        ("z", {}, UP, True, False),
    ],
)
def test_points_up__as_on_a_map(dim, attrs, positions, on_map, expected):
    image = image_of((dim, "x"), {dim: attrs}, positions)
    assert points_up(image, image_axes(image)[0], on_map=on_map) is expected


def test_descends__by_positions_even_or_not():
    assert [descends(image_axes(image_of("y", {}, each))[0]) for each in (UP, DOWN, 2 * DOWN - 3)] == [
        False,
        True,
        True,
    ]
    assert not descends(image_axes(xr.DataArray(np.zeros(3), {"y": list("cba")}, ("y",)))[0])
