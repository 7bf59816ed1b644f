"""Figures: values, positions and levels, read back from matplotlib's objects."""

import sys

import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms

from ..data import noise
from .virtual import virtual_pyramid

matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  # after the choice of a backend without a screen

MICROMETERS = {"z": 2.0, "y": 0.5, "x": 0.25}
BASE = noise((6, 40, 60))


@pytest.fixture
def axes():
    """Return axes of about 90 x 110 pixels, of a figure that is closed at the end."""
    figure, ax = pyplot.subplots(figsize=(1.5, 1.2), dpi=100)
    yield ax
    pyplot.close(figure)


def image_of(array, dims="zyx", scale=None, **options):
    return ms.to_image(array, dims, scale=scale or MICROMETERS, units="micrometer", **options)


def drawn(ax, number=-1):
    """Return the values of an image artist and the positions of its rows and columns."""
    artist = ax.images[number]
    values = artist.get_array()
    left, right, bottom, top = artist.get_extent()
    rows, columns = values.shape[:2]
    return (
        values,
        top + (np.arange(rows) + 0.5) * (bottom - top) / rows,
        left + (np.arange(columns) + 0.5) * (right - left) / columns,
    )


def centroid(ax):
    values, rows, columns = drawn(ax)
    values = np.asarray(values, float)
    return (values.sum(1) @ rows) / values.sum(), (values.sum(0) @ columns) / values.sum()


# --- positions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scale", [MICROMETERS, {"z": 2.0, "y": -0.5, "x": 0.25}, {"z": 1.0, "y": 3.0, "x": -7.0}], ids=str
)
@pytest.mark.parametrize("method", ["mean", "nearest"])
def test_plot__levels_are_aligned(axes, scale, method):
    """The centroid of a bright blob is the same at every level, to a hundredth of a voxel of level 0."""
    z, y, x = np.ogrid[:8, :72, :90]
    blob = 60000 * np.exp(-((z - 3.2) ** 2 + (y - 33.3) ** 2 + (x - 41.7) ** 2) / 72)
    image = image_of(blob.astype("uint16"), scale=scale, translation={"y": 100.0, "x": -20.0})
    tree = ms.to_multiscale(image, [2, 3, 4], method=method)
    expected = 100 + 33.3 * scale["y"], -20 + 41.7 * scale["x"]
    for level in range(4):
        tree.multiscale.plot(ax=axes, level=level)
        for position, wanted, spacing in zip(centroid(axes), expected, (scale["y"], scale["x"]), strict=True):
            assert abs(position - wanted) < 0.01 * abs(spacing)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_plot__axes_have_physical_extents_and_units(axes, level):
    tree = ms.to_multiscale(image_of(BASE, translation={"x": 10.0}), [2, 7])
    assert tree.multiscale.plot(ax=axes, level=level) is axes
    assert axes.get_xlabel() == "x [micrometer]"
    assert axes.get_ylabel() == "y [micrometer]"
    # The edges of level 0, also for levels whose last windows are partial.
    assert axes.get_xlim() == (10 - 0.125, 10 + 60 * 0.25 - 0.125)
    assert axes.get_ylim() == (40 * 0.5 - 0.25, -0.25)
    assert axes.get_aspect() == 1.0
    factor = (1, 2, 7)[level]
    right = 10 - 0.125 + -(-60 // factor) * factor * 0.25
    assert axes.images[0].get_extent() == pytest.approx(
        (10 - 0.125, right, -(-40 // factor) * factor * 0.5 - 0.25, -0.25)
    )


def value_at(ax, y, x):
    values, rows, columns = drawn(ax)
    return values[np.argmin(abs(rows - y)), np.argmin(abs(columns - x))]


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize(
    ("name", "attrs", "up"),
    [
        ("lat", {}, True),
        ("y", {"standard_name": "projection_y_coordinate"}, True),
        ("row", {"units": "degrees_north"}, True),
        ("height", {"positive": "up"}, True),
        ("depth", {"positive": "down"}, False),
        ("y", {}, None),
    ],
)
def test_plot__north_is_up_and_rows_go_down(axes, name, attrs, up, ascending):
    step = 1.0 if ascending else -1.0
    image = ms.to_image(BASE[0], (name, "lon"), scale={name: step, "lon": -2.0})
    image.coords[name].attrs.update(attrs)
    ms.to_multiscale(image, 2).multiscale.plot(ax=axes, level=0)
    low, high = axes.get_ylim()
    # Without such metadata the first row is at the top, as in every image.
    assert bool(high > low) is (not ascending if up is None else up)
    assert axes.get_xlim() == (-59 * 2.0 - 1.0, 1.0)
    for row, column in ((0, 0), (7, 31), (39, 59)):
        assert value_at(axes, row * step, column * -2.0) == BASE[0, row, column]


@pytest.mark.parametrize(
    ("positions", "level", "expected"),
    [
        ({}, 0, BASE[2]),
        ({"z": 6.9}, 0, BASE[3]),
        ({"z": 10.99}, 0, BASE[5]),
        ({"z": 8}, 1, None),
        ({"x": 2.5}, 0, BASE[:, :, 10]),
        ({"y": 0}, 0, BASE[:, 0]),
    ],
    ids=str,
)
def test_plot__cuts_by_coordinate(axes, positions, level, expected):
    tree = ms.to_multiscale(image_of(BASE), [2])
    tree.multiscale.plot(ax=axes, level=level, **positions)
    if expected is None:
        expected = tree["scale1/image"].values[2]
    np.testing.assert_array_equal(drawn(axes)[0], expected)


def test_plot__a_part_is_read_finer(axes):
    tree = ms.to_multiscale(image_of(noise((1, 600, 800)), scale={"z": 1.0, "y": 1.0, "x": 1.0}), [2, 4, 8])
    tree.multiscale.plot(ax=axes)
    assert axes.images[-1].get_array().shape == (150, 200)
    tree.multiscale.plot(ax=axes, x=slice(100, 179), y=slice(200.6, 260))
    values, rows, columns = drawn(axes)
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (201, 260, 100, 179)
    np.testing.assert_array_equal(values, tree["scale0/image"].values[0, 201:261, 100:180])
    assert axes.get_xlim() == (99.5, 179.5)


def test_plot__across_axes_of_any_names(axes):
    image = ms.to_image(BASE, ("depth level", "ax", "level"), scale=[1.0, 2.0, 4.0])
    tree = ms.to_multiscale(image, [2])
    tree.multiscale.plot({"level": 8.0}, ax=axes, level=0)
    np.testing.assert_array_equal(drawn(axes)[0], BASE[:, :, 2])
    tree.multiscale.plot(ax=axes, level=0, across=("level", "depth level"))
    np.testing.assert_array_equal(drawn(axes)[0], BASE[:, 19].T)
    assert axes.get_ylabel() == "level"


def test_plot__dates_and_irregular_positions(axes):
    dates = np.datetime64("2001-01-01T00", "ns") + np.arange(6) * np.timedelta64(1, "D")
    image = ms.to_image(BASE.astype(float), "tyx").assign_coords(t=dates, y=np.arange(40) ** 2)
    tree = ms.to_multiscale(image, [{"x": 2}])
    tree.multiscale.plot(ax=axes, level=0, t="2001-01-03")
    (mesh,) = axes.collections
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).ravel(), BASE[2].ravel())
    assert mesh.get_coordinates()[3, 0, 1] == (2**2 + 3**2) / 2
    assert "t = 2001-01-03" in axes.get_title()
    axes.clear()
    tree.multiscale.plot(ax=axes, level=0, across=("t", "x"), y=16)
    np.testing.assert_array_equal(np.asarray(axes.collections[0].get_array()).ravel(), BASE[:, 4].ravel())


# --- choice of level -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inches", [(1, 1), (2, 5), (5, 2), (9, 8)])
def test_plot__takes_the_coarsest_level_with_a_sample_for_each_pixel(inches):
    tree = ms.to_multiscale(np.zeros((1600, 900), "uint8"), [2, 4, 8, 16, 32])
    figure, ax = pyplot.subplots(figsize=inches, dpi=100)
    tree.multiscale.plot(ax=ax)
    box = ax.get_window_extent()
    pixels = min(box.height / 1600, box.width / 900) * 1600
    pyplot.close(figure)
    sizes = [1600 // factor for factor in (1, 2, 4, 8, 16, 32)]
    assert ax.images[0].get_array().shape[0] == min(size for size in sizes if size >= min(pixels, 1600))


def test_plot__reads_few_bytes_of_a_terabyte(axes):
    store, tree = virtual_pyramid()
    assert tree["scale0/image"].nbytes > 1e12
    store.log["read"].clear()
    figure, large = pyplot.subplots()
    tree.multiscale.plot(ax=large)
    pyplot.close(figure)
    assert large.images[0].get_array().shape == (256, 256)
    assert 0 < store.nbytes < 20e6
    store.log["read"].clear()
    # A part at full resolution reads only the chunks that contain it.
    tree.multiscale.plot(ax=axes, z=1000, x=slice(2000, 2030), y=slice(3000, 3030))
    assert axes.images[0].get_array().shape[0] in (60, 61)
    assert 0 < store.nbytes < 20e6
    store.log["read"].clear()
    level = tree.multiscale.fit(nbytes="16 MiB")
    assert level.load().shape == (128, 128, 128)
    assert store.nbytes == level.nbytes


def test_plot__nbytes_limits_what_is_read(axes):
    _, tree = virtual_pyramid((1024, 1024, 1024))
    for allowed, expected in (("64MiB", 128), ("2 MiB", 128), (10**6, 64), (1, 64)):
        tree.multiscale.plot(ax=axes, nbytes=allowed)
        assert axes.images[-1].get_array().shape == (expected, expected)


def test_plot__refuses_to_read_gigabytes(axes, refuse_to_compute):
    _, tree = virtual_pyramid()
    alone = ms.to_multiscale(tree["scale0/image"], 2, max_levels=1)
    with pytest.raises(ValueError, match=r"would read 8\.00 GiB.*x=slice.*level=0"):
        alone.multiscale.plot(ax=axes)
    # No level is stored, so that each is computed from level 0.
    with pytest.raises(ValueError, match="would read 8"):
        ms.to_multiscale(tree["scale0/image"], [2, 4]).multiscale.plot(ax=axes)


# --- colours ---------------------------------------------------------------------------------------------------


def test_plot__contrast_limits_are_quantiles_of_the_plane(axes):
    values = np.arange(60, dtype="uint16").reshape(1, 6, 10)
    tree = ms.to_multiscale(image_of(values), [2])
    tree.multiscale.plot(ax=axes, level=0, quantiles=(0.25, 0.75))
    assert axes.images[-1].get_clim() == (0.25 * 59, 0.75 * 59)
    tree.multiscale.plot(ax=axes, level=0, vmin=-3, cmap="magma")
    assert axes.images[-1].get_clim() == pytest.approx((-3, 0.995 * 59))
    assert axes.images[-1].get_cmap().name == "magma"


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "complex64", "datetime64[ns]"])
def test_plot__any_dtype_and_constant_values(axes, dtype):
    for values in (BASE[0].astype("int64") % 2, np.ones((8, 8), "int64")):
        ms.to_multiscale(values.astype(dtype), 2, "nearest").multiscale.plot(ax=axes)
        low, high = axes.images[-1].get_clim()
        assert low < high


def test_plot__missing_values_stand_out(axes):
    values = BASE[0].astype("float32")
    values[:20] = np.nan
    ms.to_multiscale(ms.to_image(values), [2]).multiscale.plot(ax=axes, level=0)
    shown = axes.images[-1].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.isnan(values))
    colors = axes.images[-1].to_rgba(shown)
    assert tuple(colors[0, 0]) not in {tuple(color) for color in colors[20:].reshape(-1, 4)}
    ms.to_multiscale(ms.to_image(BASE[0]), [2], nodata=int(BASE[0, 3, 4])).multiscale.plot(ax=axes, level=0)
    assert np.ma.getmaskarray(axes.images[-1].get_array())[3, 4]


@pytest.mark.parametrize("stated", ["_FillValue", "missing_value", "nodata", "nodatavals"])
def test_plot__stated_missing_values_stand_out(axes, stated):
    values = BASE[0].astype("int16")
    values[:20] = -9999
    image = ms.to_image(values).assign_attrs({stated: [-9999] if stated == "nodatavals" else -9999})
    ms.to_multiscale(image, [2]).multiscale.plot(ax=axes, level=0)
    np.testing.assert_array_equal(np.ma.getmaskarray(axes.images[-1].get_array()), values == -9999)


@pytest.mark.parametrize("dims", [("lat", "lon"), ("lon", "lat")])
def test_plot__north_is_up_and_longitude_runs_across(axes, dims):
    sea = xr.DataArray(np.zeros((8, 12)), {"lat": np.arange(8.0), "lon": np.arange(12.0)}, ("lat", "lon"))
    ms.to_multiscale(sea.transpose(*dims), [2]).multiscale.plot(ax=axes, level=0)
    assert axes.get_xlabel().startswith("lon")
    assert axes.get_ylim() == (-0.5, 7.5)


def test_plot__channels_in_their_colors(axes):
    values = np.zeros((2, 8, 8), "uint8")
    values[0, :4], values[1, :, :4] = 100, 10
    tree = ms.to_multiscale(ms.to_image(values, "cyx", channel_names=["DAPI", "GFP"]), [2])
    shown = {"channels": [{"color": "FF8000"}, {"color": "#0000FF", "active": True}]}
    tree["scale0/image"].c.attrs["omero"] = shown
    tree.multiscale.plot(ax=axes, level=0)
    light = drawn(axes)[0]
    assert [light[at].tolist() for at in ((0, 0), (0, 7), (7, 0), (7, 7))] == [
        [255, 128, 255],
        [255, 128, 0],
        [0, 0, 255],
        [0, 0, 0],
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["DAPI", "GFP"]
    tree.multiscale.plot(ax=axes, level=0, c="GFP")
    np.testing.assert_array_equal(drawn(axes)[0], values[1])
    shown["channels"][0]["active"] = False
    tree.multiscale.plot(ax=axes, level=0)
    np.testing.assert_array_equal(drawn(axes)[0], values[1])
    tree.multiscale.plot(ax=axes, level=0, c=["GFP", "DAPI"])
    assert drawn(axes)[0].shape == (8, 8, 3)


def test_plot__colors_are_those_of_the_store(axes):
    store = {}
    ms.write_pyramid(ms.to_image(noise((2, 16, 16)), "cyx", channel_names=["a", "b"]), store)
    tree = ms.open_pyramid(store)
    tree.multiscale.plot(ax=axes)
    assert [patch.get_facecolor()[:3] for patch in axes.get_legend().get_patches()] == [(0, 1, 0), (1, 0, 1)]


def test_plot__true_colors_are_not_changed(axes):
    values = noise((30, 20, 3), "uint8")
    tree = ms.to_multiscale(ms.to_image(values, "yxc"), [2])
    tree.multiscale.plot(ax=axes, level=0)
    np.testing.assert_array_equal(drawn(axes)[0], values)


def labelled(dtype="uint32"):
    """Return a pyramid with the labels "cells", nonzero where the image is bright, and the values of the labels."""
    labels = np.zeros((1, 32, 32), dtype)
    labels[0, 4:12, 8:20], labels[0, 20:30, 2:6] = np.iinfo(dtype).max, 7
    store = {}
    ms.write_pyramid(image_of((labels > 0) * np.uint16(500)), store, scale_factors=[2, 4])
    ms.write_labels(labels, store, "cells")
    return ms.open_pyramid(store), labels[0]


@pytest.mark.parametrize("dtype", ["uint8", "uint64"])
def test_plot__labels_over_the_image(axes, dtype):
    tree, labels = labelled(dtype)
    tree.multiscale.plot(ax=axes, labels="cells", alpha=0.3)
    colors = np.array(drawn(axes)[0])
    np.testing.assert_array_equal(colors[..., 3], np.where(labels > 0, round(0.3 * 255), 0))
    colors[labels > 0, 3] = 255
    assert len({tuple(color) for color in colors[labels > 0]}) == 2
    np.testing.assert_array_equal(drawn(axes, 0)[1:], drawn(axes, 1)[1:])
    # An id has the same colour at every level, also in a tree that consists of labels only.
    alone = tree["labels/cells"]
    for level in (0, 1, 2):
        alone.multiscale.plot(ax=axes, level=level)
        coarse = alone[f"scale{level}/cells"].values[0]
        np.testing.assert_array_equal(drawn(axes)[0][coarse == 7], np.tile(colors[25, 3], ((coarse == 7).sum(), 1)))
    tree.multiscale.plot(ax=axes, labels=alone, x=slice(2, 6))
    assert drawn(axes)[0].shape == (*drawn(axes, -2)[0].shape[:2], 4)


def test_plot__labels_over_a_mesh(axes):
    labels = np.zeros((8, 8), "uint32")
    labels[2:5] = 3
    rows = {"y": np.arange(8.0) ** 2}
    tree, over = (
        ms.to_multiscale(ms.to_image(values).assign_coords(rows), [2], method)
        for values, method in ((labels * 1.5, "mean"), (labels, "mode"))
    )
    tree.multiscale.plot(ax=axes, level=0, labels=over, alpha=0.2)
    shown = np.asarray(axes.collections[-1].get_array()).reshape(8, 8, 4)
    np.testing.assert_array_equal(shown[..., 3], np.where(labels > 0, 51, 0))


def test_plot__labels_by_method_or_kind(axes):
    values = noise((16, 16), "uint8")
    ms.to_multiscale(values, [2], "mode").multiscale.plot(ax=axes)
    assert drawn(axes)[0].shape == (16, 16, 4)
    ms.to_multiscale(values, [2]).multiscale.plot(ax=axes, kind="labels")
    assert drawn(axes)[0].shape == (16, 16, 4)
    ms.to_multiscale(values, [2], "mode").multiscale.plot(ax=axes, kind="image")
    assert drawn(axes)[0].shape == (16, 16)


def test_plot__colorbar(axes):
    image = ms.to_image(BASE[0].astype("float32")).assign_attrs(long_name="sea temperature", units="K")
    ms.to_multiscale(image, 2).multiscale.plot(ax=axes, colorbar=True)
    assert axes.figure.axes[-1].get_ylabel() == "sea temperature [K]"
    assert axes.images[-1].get_cmap().name == "viridis"


def test_plot__draws_into_the_current_axes(axes):
    pyplot.sca(axes)
    assert ms.to_multiscale(BASE[0], 2).multiscale.plot() is axes


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"q": 1}, ValueError, r"does not have the axes \['q'\]; choose from \['c', 'z', 'y', 'x'\]"),
        ({"z": 12.5}, ValueError, r"z=12.5 is outside the image; choose a position from -1.0 to 11.0 micrometer"),
        ({"c": "RFP"}, ValueError, r"c='RFP' does not exist; choose one of \['DAPI', 'GFP'\]"),
        ({"c": []}, ValueError, r"c=\[\] is not a channel or a list of channels; choose from \['DAPI', 'GFP'\]"),
        ({"z": slice(1, 2)}, ValueError, "is not a single position"),
        ({"x": slice(90, 95)}, ValueError, r"x=slice\(90, 95\) is outside the image"),
        ({"x": slice(0, 9, 2)}, ValueError, "a slice of positions"),
        ({"z": 1, "y": 1}, ValueError, "needs two axes"),
        ({"across": "yx"}, ValueError, "across='yx' is not a pair of axes"),
        ({"across": ("y", "q")}, ValueError, "'q'"),
        ({"level": 2}, ValueError, "level=2 does not exist; choose one from 0 to 1"),
        ({"labels": "cells"}, ValueError, r"labels='cells' does not exist: the tree has the labels \[\]"),
        ({"kind": "picture"}, ValueError, "choose one of 'image', 'labels'"),
        ({"kind": "labels"}, TypeError, "needs integers, but the values have dtype 'float32'"),
        ({"nbytes": "much"}, ValueError, "'much' is not an amount"),
    ],
    ids=str,
)
def test_plot__refuses_wrong_arguments(axes, options, error, message, refuse_to_compute):
    values = np.zeros((2, 6, 40, 60), "float32")
    tree = ms.to_multiscale(image_of(values, "czyx", channel_names=["DAPI", "GFP"]), [2])
    with pytest.raises(error, match=message):
        tree.multiscale.plot(ax=axes, **options)
    assert not axes.images


def test_plot__without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'multiscale-sampler\[plot\]'"):
        ms.to_multiscale(BASE[0], 2).multiscale.plot()


def test_plot__of_a_tree_that_xarray_opened(axes, tmp_path):
    ms.write_pyramid(image_of(BASE), tmp_path / "p.zarr", scale_factors=[2])
    tree = xr.open_datatree(tmp_path / "p.zarr", engine="zarr", consolidated=False)
    tree.multiscale.plot(ax=axes, level=0, z=4)
    np.testing.assert_array_equal(drawn(axes)[0], BASE[2])
