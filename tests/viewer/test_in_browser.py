"""The viewer in a real browser: pixels on the screen, labels over the image, finer levels after zooming in.

Screenshots are saved to the folder that ``MSS_SCREENSHOTS`` names. Without a Chromium (``apt-get install chromium``, or
``MSS_CHROMIUM`` names one) these tests are skipped.
"""

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms
from tests.browser import DEADLINE, find_browser, open_browser

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("neuroglancer") is None, reason="needs the extra 'view'"),
    pytest.mark.skipif(find_browser() is None, reason="needs a browser: apt-get install chromium"),
]

SIZE = 1536
DARK, BRIGHT, LABEL = 100, 1000, 7
# Height in pixels of the viewer's bars at the top.
BARS = 60
WIDTH, HEIGHT = 700, 640
READY = "viewer.layerManager.managedLayers.length > 0 && viewer.isReady()"
CHUNK = re.compile(r"/(\d+)/(\d+)/c(?:/\d+)+ ")


@pytest.fixture
def store(tmp_path):
    """Return the path of a pyramid with default options: its left half is dark, its lower half has labels."""
    values = np.full((SIZE, SIZE), BRIGHT, "uint16")
    values[:, : SIZE // 2] = DARK
    labels = np.zeros((SIZE, SIZE), "uint32")
    labels[SIZE // 2 :] = LABEL
    place = tmp_path / "halves.ome.zarr"
    ms.write_pyramid(ms.to_image(values, scale=0.5, units="micrometer"), place, chunks=128)
    ms.write_labels(labels, place, "below")
    return place


@pytest.fixture
def pictures(tmp_path):
    """Return the folder for screenshots."""
    folder = Path(os.environ.get("MSS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def requests(tmp_path):
    """Return the path of the viewer's log of requests."""
    return tmp_path / "requests.txt"


@pytest.fixture
def url(store, requests):
    """Return the URL at which the command serves the store."""
    command = [sys.executable, "-m", "multiscale_sampler", "view", str(store), "--no-browser", "--verbose"]
    with (
        requests.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        yield process.stdout.readline().removeprefix("View at ").strip()
        process.terminate()


def quarters(pixels):
    """Return the mean colours of the quarters of the image, in the middle of a page: shape (2, 2, 3), rows first."""
    height, width = pixels.shape[:2]
    middle, reach = (BARS + height) // 2, min(width, height - BARS) // 8
    rows = (slice(middle - 2 * reach, middle - reach), slice(middle + reach, middle + 2 * reach))
    columns = (slice(width // 2 - 2 * reach, width // 2 - reach), slice(width // 2 + reach, width // 2 + 2 * reach))
    return np.array([[pixels[row, column].reshape(-1, 3).mean(axis=0) for column in columns] for row in rows])


def drawn_quarters(page, path, is_expected):
    """Return the colours of the quarters as soon as they are as expected, or at the deadline."""
    end = time.monotonic() + DEADLINE
    while True:
        page.wait_for(READY)
        colors = quarters(page.screenshot(path))
        if is_expected(colors) or time.monotonic() > end:
            return colors


def requested_levels(requests):
    """Return the numbers of the image's levels whose chunks were requested."""
    return {int(level) for image, level in CHUNK.findall(requests.read_text()) if image == "0"}


def world_map(dims, dtype, attrs, missing, *, south_first=True):
    """Return a map that is bright in the north and dark in the south, and where its south-east is missing."""
    lat, lon = np.linspace(-78.75, 78.75, 64)[:: 1 if south_first else -1], np.arange(64.0) * 2.5
    values = np.broadcast_to(np.where(lat > 0, 200, 50)[:, None], (64, 64)).astype(dtype)
    values[np.ix_(lat < 0, lon >= 80)] = missing
    return xr.DataArray(values, {"lat": lat, "lon": lon}, ("lat", "lon"), "sea", attrs).transpose(*dims)


MAPS = {
    "NaN": world_map(("lat", "lon"), "f4", {}, np.nan),
    "longitude first": world_map(("lon", "lat"), "i2", {"nodata": -9999}, -9999),
    "north first": world_map(("lat", "lon"), "u1", {"nodatavals": (255,)}, 255, south_first=False),
    "64 bits": world_map(("lat", "lon"), "u8", {"missing_value": 2**64 - 1}, 2**64 - 1),
    "converted": world_map(("lat", "lon"), "f8", {"_FillValue": 1e20}, 1e20),
}


@pytest.mark.parametrize(
    "name", ["longitude first", *(pytest.param(each, marks=pytest.mark.thorough) for each in MAPS if " f" not in each)]
)
def test_view__north_is_up_and_missing_values_are_clear(pictures, name):
    with ms.view(ms.to_multiscale(MAPS[name], [2])) as viewer, open_browser(find_browser(), WIDTH, HEIGHT) as page:
        page.open(viewer.url)
        north, south = drawn_quarters(page, pictures / f"map-{name}.png", lambda colors: colors[0].min() > 200)
        assert north.min() > 250
        assert south[0].max() < 5
        # What is behind the image, and has no other colour than that.
        np.testing.assert_allclose(south[1], (0xDF, 0xE3, 0xEE), atol=1)
        assert page.errors == []


def test_view__draws_image_labels_and_finer_levels(url, requests, pictures):
    with open_browser(find_browser(), WIDTH, HEIGHT) as page:
        page.open(url)
        above, below = drawn_quarters(
            page, pictures / "viewer.png", lambda colors: np.ptp(colors[1], axis=1).min() > 50
        )
        # Left is dark, right is bright. Without labels pixels are grey, with labels they are coloured.
        assert above[0].max() < 50
        assert above[1].min() > 200
        assert np.ptp(above, axis=1).max() < 10
        assert np.ptp(below, axis=1).min() > 50
        assert below[1].max() > below[0].max() + 50

        before = requested_levels(requests)
        assert before
        assert 0 not in before
        page.zoom_in(WIDTH // 2, HEIGHT // 2, turns=8)
        page.until(lambda: 0 in requested_levels(requests))
        assert 0 in requested_levels(requests)
        page.wait_for(READY)
        page.screenshot(pictures / "viewer-nearby.png")
        assert page.errors == []
        # The page loads nothing from other hosts.
        assert page.hosts == {url.split("/")[2]}
