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
READY = "viewer.layerManager.managedLayers.length > 0 && viewer.isReady()"
CHUNK = re.compile(r"/(\d+)/(\d+)/c(?:/\d+)+ ")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the default store of an image whose left half is dark; labels are in its lower half."""
    values = np.full((SIZE, SIZE), BRIGHT, "uint16")
    values[:, : SIZE // 2] = DARK
    image = ms.to_image(values, scale=0.5, units="micrometer")
    place = tmp_path_factory.mktemp("stores") / "halves.ome.zarr"
    ms.write_pyramid(image, place, chunks=128)
    return place


@pytest.fixture(scope="module")
def labelled(store):
    labels = np.zeros((SIZE, SIZE), "uint32")
    labels[SIZE // 2 :] = LABEL
    ms.write_labels(labels, store, "below")
    return store


@pytest.fixture(scope="module")
def page():
    with open_browser(find_browser()) as page:
        yield page


@pytest.fixture
def picture(request, tmp_path):
    """Return where a picture is to be kept."""
    folder = Path(os.environ.get("MSS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def place(name):
        return folder / f"{request.node.name}-{name}.png"

    return place


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


def test_view__draws_the_default_store(store, page, picture):
    with ms.view(store) as viewer:
        page.open(viewer.url)
        found = drawn(page, picture("drawn"), lambda colors: (colors[:, 1] > 200).all())
        assert (found[:, 1] > 200).all()
        assert (found[:, 0] < 50).all()
        assert page.errors == []
        page.open("about:blank")


def test_command_line__shows_labels_and_finer_levels_from_nearby(labelled, page, picture, tmp_path):
    command = [sys.executable, "-m", "multiscale_sampler", "view", str(labelled), "--no-browser", "--verbose"]
    requests = tmp_path / "requests.txt"
    with (
        requests.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            url = process.stdout.readline().removeprefix("View at ").strip()
            page.hosts.clear()
            page.errors.clear()
            page.open(url)
            found = drawn(page, picture("labels"), lambda colors: np.ptp(colors[1], axis=1).min() > 50)
            # Without labels it is grey, with them it has their colour.
            assert np.ptp(found[0], axis=1).max() < 10
            assert np.ptp(found[1], axis=1).min() > 50
            assert (found[:, 1].max(axis=1) > found[:, 0].max(axis=1) + 50).all()

            before = levels_asked_for(requests)
            assert before
            assert 0 not in before
            page.zoom_in(500, 400, turns=8)
            page.until(lambda: 0 in levels_asked_for(requests))
            assert 0 in levels_asked_for(requests)
            page.wait_for(READY)
            page.screenshot(picture("nearby"))
            assert page.errors == []
            # It works without a network.
            assert page.hosts == {url.split("/")[2]}
        finally:
            page.open("about:blank")
            process.terminate()


def levels_asked_for(requests):
    """Return the levels of the image of which chunks were requested."""
    return {int(level) for image, level in CHUNK.findall(requests.read_text()) if image == "0"}
