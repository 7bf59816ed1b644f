import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import multiscale_sampler as ms
from multiscale_sampler.image.axes import Axis as AxisOfModule
from multiscale_sampler.image.axes import coarsened_size
from multiscale_sampler.image.dataarray import coordinate_variable, image_axes, label_array
from multiscale_sampler.image.kinds import guess_axis_type
from tests import oracles


def axis_of(image, dim):
    return next(axis for axis in image_axes(image) if axis.name == dim)


# Axis


@given(
    size=st.integers(1, 50),
    scale=st.floats(-10, 10).filter(lambda v: abs(v) > 1e-3),
    translation=st.floats(-1e3, 1e3),
    factor=st.integers(1, 9),
)
def test_coarsen__the_new_sample_sits_in_the_middle_of_its_window(size, scale, translation, factor):
    axis = ms.Axis("x", size, scale, translation)
    coarse = axis.coarsen(factor)
    assert coarse.size == oracles.level_size(size, factor)
    assert coarse.scale == pytest.approx(scale * factor, rel=1e-15)
    assert coarse.translation == pytest.approx(translation + (factor - 1) / 2 * scale, rel=1e-15, abs=1e-12)
    whole = size // factor
    centres = axis.coordinates()[: whole * factor].reshape(whole, factor).mean(axis=1)
    np.testing.assert_allclose(coarse.coordinates()[:whole], centres, rtol=0, atol=1e-11)


@given(size=st.integers(1, 50), factor=st.integers(1, 9))
def test_coarsen__first_takes_the_position_of_the_first_sample(size, factor):
    axis = ms.Axis("x", size, 0.3, 2.0)
    np.testing.assert_allclose(
        axis.coarsen(factor, position="first").coordinates(), axis.coordinates()[::factor], rtol=1e-14
    )


@given(size=st.integers(8, 60), first=st.integers(1, 4), again=st.integers(1, 4))
def test_coarsen__twice_is_once_by_the_product(size, first, again):
    axis = ms.Axis("x", size, 0.5, -3.0, "micrometer")
    assert axis.coarsen(first).coarsen(again) == axis.coarsen(first * again)


def test_coarsen__by_one_changes_nothing():
    axis = ms.Axis("x", 7, 0.1, 3.0, "micrometer")
    assert axis.coarsen(1) == axis


def test_coarsen__keeps_unit_name_and_type():
    coarse = ms.Axis("q", 8, unit="second", type="time").coarsen(2)
    assert (coarse.name, coarse.unit, coarse.type) == ("q", "second", "time")


@pytest.mark.parametrize(("boundary", "size"), [("pad", 4), ("trim", 3)])
def test_coarsen__rounds_the_size_as_the_boundary_says(boundary, size):
    assert ms.Axis("x", 7).coarsen(2, boundary=boundary).size == size
    assert coarsened_size("x", 7, 2, boundary) == size


def test_coarsen__exact_refuses_a_partial_window():
    with pytest.raises(ValueError, match=r"7.*'x'.*2.*pad.*trim"):
        ms.Axis("x", 7).coarsen(2, boundary="exact")
    assert ms.Axis("x", 8).coarsen(2, boundary="exact").size == 4


@pytest.mark.parametrize("boundary", ["trim", "exact"])
def test_coarsen__refuses_a_window_that_nothing_fills(boundary):
    with pytest.raises(ValueError, match="'x'"):
        ms.Axis("x", 3).coarsen(5, boundary=boundary)
    assert ms.Axis("x", 3).coarsen(5).size == 1


def test_coarsen__of_irregular_positions_averages_those_of_the_window():
    axis = ms.Axis("y", 5, values=np.array([0.0, 1.0, 4.0, 9.0, 16.0]))
    assert axis.coarsen(2).coordinates().tolist() == [0.5, 6.5, 16.0]
    assert axis.coarsen(2, boundary="trim").coordinates().tolist() == [0.5, 6.5]
    assert axis.coarsen(2, position="first").coordinates().tolist() == [0.0, 4.0, 16.0]
    assert not axis.coarsen(2).is_regular


def test_coarsen__of_integer_positions_gives_their_mean():
    axis = ms.Axis("y", 4, values=np.array([0, 1, 4, 9]))
    assert axis.coarsen(2).coordinates().tolist() == [0.5, 6.5]


@pytest.mark.parametrize("dtype", ["datetime64[s]", "datetime64[ns]", "timedelta64[us]"])
def test_coarsen__of_dates_is_exact_to_their_unit(dtype):
    ticks = np.sort(np.random.default_rng(0).integers(0, 3 * 10**17, 64))
    axis = ms.Axis("t", 64, values=ticks.astype(dtype))
    for factor in (2, 3, 8):
        values = axis.coarsen(factor).coordinates()
        assert values.dtype == dtype
        for value, (_, window) in zip(values.astype(np.int64).tolist(), oracles.windows(ticks, (factor,)), strict=True):
            assert value == oracles.half_to_even(sum(window.tolist()), len(window))


def test_coarsen__of_dates_counts_in_units_of_several():
    ticks = np.datetime64("2000-01-01T00:00:00", "25s") + np.arange(4)
    coarse = ms.Axis("t", 4, values=ticks).coarsen(3).coordinates()
    assert coarse[0] == np.datetime64("2000-01-01T00:00:25")


def test_coarsen__of_labels_refuses_to_average():
    axis = ms.Axis("c", 3, values=np.array(["DAPI", "GFP", "RFP"]))
    with pytest.raises(ValueError, match=r"'c'.*'DAPI'.*nearest"):
        axis.coarsen(2)
    assert axis.coarsen(2, position="first").coordinates().tolist() == ["DAPI", "RFP"]
    assert axis.coarsen(1) is axis


def test_coordinates__follow_from_the_index_not_from_repeated_addition():
    axis = ms.Axis("x", 100_001, 0.1, 0.3)
    assert axis.coordinates()[100_000] == 0.3 + 0.1 * 100_000
    assert axis.coordinates()[3] == 0.3 + 0.1 * 3


def test_axis__is_a_value():
    assert ms.Axis("x", 4, 0.5) == ms.Axis("x", 4, 0.5)
    assert hash(ms.Axis("x", 4, 0.5)) == hash(ms.Axis("x", 4, 0.5))
    different = [
        ms.Axis("y", 4, 0.5),
        ms.Axis("x", 5, 0.5),
        ms.Axis("x", 4, 0.25),
        ms.Axis("x", 4, 0.5, 1.0),
        ms.Axis("x", 4, 0.5, unit="meter"),
        ms.Axis("x", 4, 0.5, type="time"),
        ms.Axis("x", 4, 0.5, values=np.arange(4)),
    ]
    assert len({ms.Axis("x", 4, 0.5), *different}) == 8
    assert ms.Axis("x", 4) != "x"
    with pytest.raises(AttributeError):
        ms.Axis("x", 4).size = 5
    assert ms.Axis is AxisOfModule


def test_axis__with_labels_compares_them():
    first = ms.Axis("c", 2, values=np.array(["a", "b"]))
    assert first == ms.Axis("c", 2, values=np.array(["a", "b"]))
    assert first != ms.Axis("c", 2, values=np.array(["a", "c"]))
    assert hash(first) == hash(ms.Axis("c", 2, values=np.array(["a", "b"])))


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf])
def test_axis__refuses_a_scale_that_spaces_nothing(scale):
    with pytest.raises(ValueError, match=rf"'x'.*{scale!r}"):
        ms.Axis("x", 4, scale)


def test_axis__refuses_impossible_sizes_and_positions():
    with pytest.raises(ValueError, match=r"'x'.*0"):
        ms.Axis("x", 0)
    with pytest.raises(ValueError, match=r"'x'.*nan"):
        ms.Axis("x", 4, 1.0, np.nan)
    with pytest.raises(ValueError, match=r"'x'.*4.*\(3,\)"):
        ms.Axis("x", 4, values=np.arange(3))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("t", "time"), ("time", "time"), ("c", "channel"), ("band", "channel"), ("x", "space"), ("lat", "space")],
)
def test_guess_axis_type__follows_the_custom_of_names(name, kind):
    assert guess_axis_type(name) == kind
    assert ms.Axis(name, 1).type == kind


# Axes from coordinates and back


@given(
    size=st.integers(3, 200),
    scale=st.sampled_from([1.0, 0.1, 0.325, 1e-9, 50.0, -0.25, -1.0]),
    translation=st.sampled_from([0.0, 0.5, -12.5, 7.3, 1e4]),
)
def test_image_axes__find_the_line_of_the_coordinates(size, scale, translation):
    coordinates = translation + scale * np.arange(size)
    image = xr.DataArray(np.zeros(size), dims="x", coords={"x": coordinates})
    axis = axis_of(image, "x")
    assert axis.is_regular
    rounding = np.spacing(np.abs(coordinates).max())
    assert axis.translation == translation
    assert abs(axis.scale - scale) * (size - 1) <= 2 * rounding
    np.testing.assert_allclose(axis.coordinates(), coordinates, rtol=0, atol=2 * rounding)


@given(size=st.integers(2, 300), scale=st.sampled_from([0.1, 0.325, 1 / 3, 1e-9, 7.0, -0.7]))
def test_image_axes__come_back_from_their_coordinates_to_the_bit(size, scale):
    axis = ms.Axis("x", size, scale, 0.0, "micrometer")
    image = label_array(np.zeros(size), [axis], name="image")
    assert image_axes(image) == (axis,)


def test_image_axes__take_coordinates_of_float32_and_integers():
    image = xr.DataArray(
        np.zeros((40, 50)),
        dims=("y", "x"),
        coords={"y": (10 + 0.1 * np.arange(40)).astype("float32"), "x": np.arange(100, 0, -2)},
    )
    y, x = image_axes(image)
    assert y.is_regular
    assert y.scale == pytest.approx(0.1, rel=1e-6)
    assert (x.scale, x.translation) == (-2.0, 100.0)


@pytest.mark.parametrize(
    "positions",
    [
        np.arange(6) ** 2,
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.001],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, np.nan, 3.0, 4.0, 5.0],
        list("abcdef"),
        np.datetime64("2020-01-01", "ns") + np.arange(6) * np.timedelta64(1, "D"),
    ],
)
def test_image_axes__keep_positions_that_follow_no_line(positions):
    image = xr.DataArray(np.zeros(6), dims="y", coords={"y": positions})
    axis = axis_of(image, "y")
    assert not axis.is_regular
    np.testing.assert_array_equal(axis.coordinates(), image.y.values)


def test_image_axes__without_coordinates_count():
    axis = axis_of(xr.DataArray(np.zeros(5), dims="x"), "x")
    assert (axis.scale, axis.translation, axis.unit) == (1.0, 0.0, None)


def test_image_axes__read_unit_type_and_the_spacing_of_one_sample():
    coordinate = xr.Variable("z", [7.0], {"units": "micrometer", "spacing": 2.5, "axis_type": "time"})
    axis = axis_of(xr.DataArray(np.zeros(1), dims="z", coords={"z": coordinate}), "z")
    assert axis == ms.Axis("z", 1, 2.5, 7.0, "micrometer", "time")


def test_coordinate_variable__keeps_attributes_and_adds_its_own():
    variable = coordinate_variable(ms.Axis("q", 3, 0.5, unit="second", type="time"), {"long_name": "when"})
    assert variable.attrs == {"long_name": "when", "units": "second", "spacing": 0.5}
    assert coordinate_variable(ms.Axis("x", 3)).attrs == {"spacing": 1.0}


# to_image


@pytest.mark.parametrize(("shape", "dims"), [((3, 4), ("y", "x")), ((2, 3, 4), ("z", "y", "x"))])
def test_to_image__names_the_axes_of_plain_images(shape, dims):
    image = ms.to_image(np.zeros(shape))
    assert image.dims == dims
    assert image.name == "image"


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (1, 1, 1, 1, 1)])
def test_to_image__asks_for_dims_where_axes_could_mean_anything(shape):
    with pytest.raises(ValueError, match=rf"{len(shape)}.*dims="):
        ms.to_image(np.zeros(shape))


def test_to_image__takes_dims_as_letters_or_names():
    assert ms.to_image(np.zeros((1, 2, 3, 4, 5)), "tczyx").dims == ("t", "c", "z", "y", "x")
    assert ms.to_image(np.zeros((2, 3)), ["lat", "lon"]).dims == ("lat", "lon")


@pytest.mark.parametrize("dims", ["zyx", "yy", ("y", ""), "y"])
def test_to_image__refuses_dims_that_do_not_fit(dims):
    with pytest.raises(ValueError, match=r"dims=.*\(3, 4\)"):
        ms.to_image(np.zeros((3, 4)), dims)


def test_to_image__scale_is_for_spatial_axes_or_by_dim_or_one_per_axis():
    array = np.zeros((2, 3, 4, 5))
    image = ms.to_image(array, "tcyx", scale=0.5)
    assert [axis.scale for axis in image_axes(image)] == [1, 1, 0.5, 0.5]
    image = ms.to_image(array, "tcyx", scale={"t": 60, "x": 0.25})
    assert [axis.scale for axis in image_axes(image)] == [60, 1, 1, 0.25]
    for per_axis in ((30, 1, 2, 3), np.array([30, 1, 2, 3])):
        image = ms.to_image(array, "tcyx", scale=per_axis, translation=(1, 0, -4, 5))
        assert [axis.scale for axis in image_axes(image)] == [30, 1, 2, 3]
        assert [axis.translation for axis in image_axes(image)] == [1, 0, -4, 5]


def test_to_image__translation_is_the_centre_of_the_first_voxel():
    image = ms.to_image(np.zeros((3, 4)), scale=0.5, translation={"x": 10})
    assert image.x.values.tolist() == [10, 10.5, 11, 11.5]
    assert image.y.values.tolist() == [0, 0.5, 1]


def test_to_image__units_are_for_spatial_axes_or_by_dim():
    image = ms.to_image(np.zeros((2, 3, 4)), "tyx", units="micrometer")
    assert [axis.unit for axis in image_axes(image)] == [None, "micrometer", "micrometer"]
    image = ms.to_image(np.zeros((2, 3, 4)), "tyx", units={"t": "second"})
    assert [axis.unit for axis in image_axes(image)] == ["second", None, None]
    assert image.t.attrs["units"] == "second"


@pytest.mark.parametrize("option", ["scale", "translation", "units"])
def test_to_image__refuses_options_for_axes_that_are_not_there(option):
    with pytest.raises(ValueError, match=rf"{option}.*'q'.*\('y', 'x'\)"):
        ms.to_image(np.zeros((3, 4)), **{option: {"q": 1}})
    with pytest.raises(ValueError, match=rf"{option}.*3.*2"):
        ms.to_image(np.zeros((3, 4)), **{option: [1, 2, 3]})


def test_to_image__channel_names_become_labels():
    image = ms.to_image(np.zeros((2, 3, 4)), "cyx", channel_names=["DAPI", "GFP"])
    assert image.c.values.tolist() == ["DAPI", "GFP"]
    with pytest.raises(ValueError, match=r"channel_names.*\('y', 'x'\)"):
        ms.to_image(np.zeros((3, 4)), channel_names=["DAPI"])
    with pytest.raises(ValueError, match=r"3 names for the 2 channels"):
        ms.to_image(np.zeros((2, 3, 4)), "cyx", channel_names=["DAPI", "GFP", "RFP"])


def test_to_image__keeps_what_a_dataarray_has():
    attrs = {"instrument": "scope"}
    image = xr.DataArray(
        np.zeros((2, 3), "uint8"),
        dims=("c", "lat"),
        coords={"c": ["a", "b"], "lat": ("lat", [3.0, 2.0, 1.0], {"units": "degree"}), "exposure": ("c", [1, 2])},
        name="nuc",
        attrs=attrs,
    )
    again = ms.to_image(image)
    assert again.name == "nuc"
    assert again.attrs == attrs
    assert again.c.values.tolist() == ["a", "b"]
    assert again.exposure.values.tolist() == [1, 2]
    assert again.lat.values.tolist() == [3, 2, 1]
    assert again.lat.attrs["units"] == "degree"
    assert again.data is image.data


def test_to_image__labels_a_dataarray_where_it_has_none():
    image = ms.to_image(xr.DataArray(np.zeros((3, 4)), dims=("y", "x")), scale=2.0)
    assert image.name == "image"
    assert image.x.values.tolist() == [0, 2, 4, 6]


def test_to_image__changes_no_argument():
    image = xr.DataArray(np.zeros((3, 4)), dims=("y", "x"), name="raw")
    ms.to_image(image, scale=2.0, units="meter", name="new")
    assert image.name == "raw"
    assert not image.coords


def test_to_image__refuses_other_dims_for_a_dataarray():
    image = xr.DataArray(np.zeros((3, 4)), dims=("y", "x"))
    assert ms.to_image(image, "yx").dims == ("y", "x")
    with pytest.raises(ValueError, match=r"\('x', 'y'\).*\('y', 'x'\).*rename"):
        ms.to_image(image, "xy")


def test_to_image__takes_a_dataset_of_one_variable():
    image = xr.DataArray(np.zeros((3, 4)), dims=("y", "x"), name="raw")
    assert ms.to_image(image.to_dataset()).name == "raw"
    both = xr.Dataset({"a": image, "b": image})
    with pytest.raises(ValueError, match=r"2.*a, b"):
        ms.to_image(both)


def test_to_image__again_changes_nothing():
    image = ms.to_image(np.zeros((1, 3, 4)), scale=(5, 0.1, 0.1), units="micrometer", name="raw")
    assert ms.to_image(image).identical(image)


def test_to_image__x_spacing_of_one_sample_survives():
    """A single slice does not forget how thick it is."""
    image = ms.to_image(np.zeros((1, 3, 4)), scale=(5, 0.1, 0.1), translation=(20, 0, 0))
    assert axis_of(ms.to_image(image), "z") == ms.Axis("z", 1, 5.0, 20.0)


def test_to_image__takes_dask_as_it_is():
    array = da.zeros((30, 40), chunks=10)
    image = ms.to_image(array)
    assert image.data is array
    assert image.name == "image"


@pytest.mark.parametrize("chunks", [None, (10, 10), "absent"])
def test_to_image__takes_anything_that_can_be_sliced(chunks):
    """h5py's datasets without chunks have `chunks` None."""

    class Sliceable:
        shape, dtype, ndim = (30, 40), np.dtype("uint8"), 2

        def __getitem__(self, key):
            return np.ones(self.shape, self.dtype)[key]

    if chunks != "absent":
        Sliceable.chunks = chunks
    image = ms.to_image(Sliceable())
    assert isinstance(image.data, da.Array)
    assert image.values.sum() == 1200


def test_to_image__takes_lists():
    assert ms.to_image([[1, 2], [3, 4]]).values.tolist() == [[1, 2], [3, 4]]


def test_to_image__nz_9_uses_coordinates_and_names():
    """NZ-9: y = 7 + 0.5 i, x = 2 i, a name, latitudes and longitudes."""
    image = xr.DataArray(
        np.zeros((4, 4)),
        dims=("lat", "lon"),
        coords={"lat": 7 + 0.5 * np.arange(4), "lon": 2 * np.arange(4)},
        name="foo",
    )
    lat, lon = image_axes(ms.to_image(image))
    assert (lat.name, lat.scale, lat.translation) == ("lat", 0.5, 7)
    assert (lon.name, lon.scale, lon.translation) == ("lon", 2, 0)
    assert ms.to_image(image).name == "foo"


def test_to_image__scale_of_an_axis_of_labels_does_not_drop_them():
    image = ms.to_image(np.zeros((2, 3, 4)), "cyx", channel_names=["a", "b"])
    assert ms.to_image(image, scale=0.5).c.values.tolist() == ["a", "b"]
    assert ms.to_image(image, scale=(1.0, 0.5, 0.5)).c.values.tolist() == ["a", "b"]


@pytest.mark.parametrize(("name", "kind"), [("T", "time"), ("C", "channel"), ("Time", "time"), ("Z", "space")])
def test_guess_axis_type__does_not_care_for_case(name, kind):
    assert ms.Axis(name, 2).type == kind
