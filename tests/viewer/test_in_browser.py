"""The viewer in a real browser: pixels on the screen, labels over them, finer levels when one looks closer.

The pictures are kept in the folder that ``MSS_SCREENSHOTS`` names. Without a Chromium (``apt-get install chromium``, or
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

import multiscale_sampler as ms
from tests.browser import DEADLINE, find_browser, open_browser

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("neuroglancer") is None, reason="needs the extra 'view'"),
    pytest.mark.skipif(find_browser() is None, reason="needs a browser: apt-get install chromium"),
]

SIZE = 1536
DARK, BRIGHT, LABEL = 100, 1000, 7
# Above are the viewer's bars.
BARS = 60
WIDTH, HEIGHT = 700, 640
READY = "viewer.layerManager.managedLayers.length > 0 && viewer.isReady()"
CHUNK = re.compile(r"/(\d+)/(\d+)/c(?:/\d+)+ ")


@pytest.fixture
def store(tmp_path):
    """Return the default store of an image whose left half is dark, with labels in its lower half."""
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
    """Return the folder where pictures are kept."""
    folder = Path(os.environ.get("MSS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def requests(tmp_path):
    """Return the file of the requests that the viewer tells."""
    return tmp_path / "requests.txt"


@pytest.fixture
def url(store, requests):
    """Return where the command shows the store."""
    command = [sys.executable, "-m", "multiscale_sampler", "view", str(store), "--no-browser", "--verbose"]
    with (
        requests.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        yield process.stdout.readline().removeprefix("View at ").strip()
        process.terminate()


def quarters(pixels):
    """Return the colours of the quarters of the field, which lies in the middle: [[left, right] above, below]."""
    height, width = pixels.shape[:2]
    middle, reach = (BARS + height) // 2, min(width, height - BARS) // 8
    rows = (slice(middle - 2 * reach, middle - reach), slice(middle + reach, middle + 2 * reach))
    columns = (slice(width // 2 - 2 * reach, width // 2 - reach), slice(width // 2 + reach, width // 2 + 2 * reach))
    return np.array([[pixels[row, column].reshape(-1, 3).mean(axis=0) for column in columns] for row in rows])


def drawn(page, path, looks):
    """Return the colours of the quarters once they look as they should."""
    end = time.monotonic() + DEADLINE
    while True:
        page.wait_for(READY)
        found = quarters(page.screenshot(path))
        if looks(found) or time.monotonic() > end:
            return found


def levels_asked_for(requests):
    """Return the levels of the image of which chunks were requested."""
    return {int(level) for image, level in CHUNK.findall(requests.read_text()) if image == "0"}


def test_view__draws_the_default_store_its_labels_and_finer_levels_from_nearby(url, requests, pictures):
    with open_browser(find_browser(), WIDTH, HEIGHT) as page:
        page.open(url)
        above, below = drawn(page, pictures / "viewer.png", lambda colors: np.ptp(colors[1], axis=1).min() > 50)
        # Left is dark, right is bright; without labels all is grey, with them it has their colour.
        assert above[0].max() < 50
        assert above[1].min() > 200
        assert np.ptp(above, axis=1).max() < 10
        assert np.ptp(below, axis=1).min() > 50
        assert below[1].max() > below[0].max() + 50

        before = levels_asked_for(requests)
        assert before
        assert 0 not in before
        page.zoom_in(WIDTH // 2, HEIGHT // 2, turns=8)
        page.until(lambda: 0 in levels_asked_for(requests))
        assert 0 in levels_asked_for(requests)
        page.wait_for(READY)
        page.screenshot(pictures / "viewer-nearby.png")
        assert page.errors == []
        # It works without a network.
        assert page.hosts == {url.split("/")[2]}
