"""Thumbnails and the HTML of notebooks: shapes, values, and the bytes that are read for them."""

import base64
import io
import re
import sys

import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms

from ..data import noise
from .virtual import virtual_pyramid


def cells(tree):
    """Return the cells of the table in the HTML of a pyramid, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", tree.multiscale._repr_html_())
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]


def picture(tree):
    """Return the picture in the HTML of a pyramid; None without one."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra 'plot'")
    found = re.search(r'src="data:image/png;base64,([^"]+)"', tree.multiscale._repr_html_())
    return np.asarray(image.open(io.BytesIO(base64.b64decode(found[1])))) if found else None


@pytest.mark.parametrize(
    ("shape", "scale", "size", "expected"),
    [
        ((600, 300), {"y": 1.0, "x": 1.0}, 100, (100, 50)),
        ((600, 300), {"y": 1.0, "x": 4.0}, 100, (50, 100)),
        ((30, 20), {"y": 1.0, "x": 1.0}, 256, (30, 20)),
        ((30, 20), {"y": 2.0, "x": 1.0}, 256, (60, 20)),
        ((5, 2000), {"y": 1.0, "x": 1.0}, 50, (1, 50)),
    ],
    ids=str,
)
def test_thumbnail__keeps_the_aspect_ratio(shape, scale, size, expected):
    tree = ms.to_multiscale(ms.to_image(np.zeros(shape, "uint8"), scale=scale), [2, 4], chunks=64)
    small = tree.multiscale.thumbnail(size)
    assert (small.shape, small.dtype) == (expected, np.uint8)


def test_thumbnail__samples_match_their_coordinates():
    values = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    image = ms.to_image(values, ("lat", "lon"), scale={"lat": 0.5, "lon": -1.0})
    small = ms.to_multiscale(image, [2, 4]).multiscale.thumbnail(32)
    # North is up and east is right, however the axes are stored.
    assert small.lat.values[0] > small.lat.values[-1]
    assert small.lon.values[0] < small.lon.values[-1]
    level = ms.coarsen(image, 2).astype(float)
    low, high = np.quantile(level, [0.005, 0.995])
    samples = level.sel(lat=small.lat, lon=small.lon).values
    np.testing.assert_allclose(small.values, np.clip((samples - low) / (high - low), 0, 1) * 255, atol=0.5001)


def test_thumbnail__of_channels_labels_and_true_colors():
    colors = noise((20, 30, 3), "uint8")
    np.testing.assert_array_equal(ms.to_multiscale(ms.to_image(colors, "yxc"), [2]).multiscale.thumbnail(), colors)
    channels = ms.to_multiscale(ms.to_image(noise((2, 20, 30)), "cyx"), [2]).multiscale.thumbnail()
    assert channels.sizes == {"y": 20, "x": 30, "rgb": 3}
    labels = np.zeros((20, 30), "uint32")
    labels[:10] = 9
    colored = ms.to_multiscale(labels, [2], "mode").multiscale.thumbnail()
    assert colored.values[10:].max() == 0
    assert colored.values[:10].max() == 255


def test_thumbnail__reads_few_bytes_of_a_terabyte():
    store, tree = virtual_pyramid()
    store.log["read"].clear()
    assert tree.multiscale.thumbnail(256).shape == (256, 256)
    assert 0 < store.nbytes < 20e6


@pytest.mark.parametrize("size", [0, -1])
def test_thumbnail__refuses_sizes_below_one(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        ms.to_multiscale(noise((8, 8)), 2).multiscale.thumbnail(size)


def test_repr_html__has_the_table_and_a_picture():
    image = ms.to_image(noise((64, 48)), scale=0.5, units="micrometer", name="a<b")
    tree = ms.to_multiscale(image, [2, 4])
    header, *levels = cells(tree)
    assert header == ["level", "shape", "dtype", "chunks", "scale", "translation", "units", "size"]
    assert levels[1] == ["1", "32, 24", "uint16", "32, 24", "1, 1", "0.25, 0.25", "micrometer, micrometer", "1.50 kiB"]
    assert "<b>a&lt;b</b>: 3 levels, y x" in tree.multiscale._repr_html_()
    np.testing.assert_array_equal(picture(tree), tree.multiscale.thumbnail(160))


def test_repr_html__reads_few_chunks_of_a_terabyte():
    store, tree = virtual_pyramid()
    store.log["read"].clear()
    assert picture(tree).shape == (128, 128)
    assert 0 < store.nbytes <= 4 * 2**20


@pytest.mark.parametrize("reason", ["levels are not stored", "one level", "one axis", "Pillow is not installed"])
def test_repr_html__has_no_picture_if_that_would_read_much(reason, refuse_to_compute, monkeypatch):
    tree = ms.to_multiscale(noise((64, 48)), 2)
    if reason == "levels are not stored":
        tree = ms.to_multiscale(virtual_pyramid((512, 512, 512))[1]["scale0/image"], 2)
    elif reason == "one level":
        tree = ms.to_multiscale(virtual_pyramid()[1]["scale0/image"], max_levels=1)
    elif reason == "one axis":
        tree = xr.DataTree.from_dict({"/scale0": ms.to_image(noise((64,)), "x").to_dataset(name="image")})
    else:
        monkeypatch.setitem(sys.modules, "PIL", None)
    assert "<img" not in tree.multiscale._repr_html_()
    assert len(cells(tree)) == 1 + len(tree.multiscale.levels)
