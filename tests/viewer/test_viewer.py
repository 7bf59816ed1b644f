"""The viewer's server: documents and chunks are fetched over HTTP, as a browser does, and read back by zarr."""

import contextlib
import dataclasses
import http.client
import importlib.util
import itertools
import json
import math
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from urllib.parse import urlsplit

import dask.array as da
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from multiscale_sampler.viewer.levels import ComputedLevel, StoredLevel, served_level
from tests.data import Recording, noise, real

pytestmark = pytest.mark.skipif(importlib.util.find_spec("neuroglancer") is None, reason="needs the extra 'view'")

SPACING = {"z": 2.0, "y": 0.5, "x": 0.25}


@contextlib.contextmanager
def viewing(*sources, **options):
    with warnings.catch_warnings():
        # Old stores warn about levels and axes that are assumed.
        warnings.simplefilter("ignore", UserWarning)
        viewer = ms.view(*sources, **options)
    with viewer:
        yield viewer


def fetch(viewer, path, **headers):
    request = urllib.request.Request(viewer.url + path, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return answer.status, dict(answer.headers), answer.read()


def status_of(viewer, target, method="GET"):
    """Return status and content for a request target, which is sent without normalization."""
    connection = http.client.HTTPConnection(urlsplit(viewer.url).netloc)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def token(viewer):
    return urlsplit(viewer.url).path.strip("/")


def fetched_store(viewer, image=0):
    """Return all documents and chunks that are served for an image, as a store in memory."""
    store = {}

    def put(key, content):
        store[key] = zarr.core.buffer.cpu.Buffer.from_bytes(content)

    document = fetch(viewer, f"{image}/zarr.json")[2]
    put("zarr.json", document)
    for dataset in json.loads(document)["attributes"]["ome"]["multiscales"][0]["datasets"]:
        path = dataset["path"]
        content = fetch(viewer, f"{image}/{path}/zarr.json")[2]
        put(f"{path}/zarr.json", content)
        level = json.loads(content)
        chunks = level["chunk_grid"]["configuration"]["chunk_shape"]
        for index in itertools.product(*(range(-(-n // c)) for n, c in zip(level["shape"], chunks, strict=True))):
            key = "/".join([path, "c", *map(str, index)])
            with contextlib.suppress(urllib.error.HTTPError):
                put(key, fetch(viewer, f"{image}/{key}")[2])
    return store


def levels_served(viewer, image=0):
    """Return the levels of an image, opened from what is served."""
    tree = ms.open_pyramid(fetched_store(viewer, image))
    return [next(iter(tree[f"scale{number}"].data_vars.values())).load() for number in range(len(tree.children))]


def levels_of(tree):
    names = sorted((name for name in tree.children if name.startswith("scale")), key=lambda name: int(name[5:]))
    return [next(iter(tree[name].data_vars.values())).load() for name in names]


def assert_same(shown, expected):
    assert len(shown) == len(expected)
    for one, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        for dim in other.dims:
            if other[dim].dtype.kind == "f":
                np.testing.assert_allclose(one[dim].values, other[dim].values, rtol=1e-12)


@pytest.fixture(scope="module")
def image():
    return ms.to_image(noise((9, 40, 50)), scale=SPACING, units="micrometer")


@pytest.fixture
def stored(image, tmp_path):
    place = tmp_path / "brain.ome.zarr"
    ms.write_pyramid(image, place, scale_factors=[2, 4], chunks=16)
    return place


# --- served and stored values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layout": "flat"},
        {"version": "0.4"},
        {"version": "0.4", "layout": "flat", "compressors": numcodecs.Blosc("lz4", shuffle=2)},
        {"version": "0.6"},
        {"shards": 32},
        {"compressors": None},
    ],
    ids=str,
)
def test_view__serves_stored_chunks_byte_for_byte(image, options):
    store = {}
    ms.write_pyramid(image, store, scale_factors=[2, 4], chunks=16, **options)
    with viewing(store) as viewer:
        assert all(isinstance(level, StoredLevel) for level in viewer._server.images[0].served)
        assert_same(levels_served(viewer), levels_of(ms.open_pyramid(store)))


def test_view__shows_a_store_of_the_first_version():
    values = noise((1, 2, 4, 16, 24), "uint8")
    store = {}
    group = zarr.open_group(store, mode="w", zarr_format=2)
    for level in range(2):
        group.create_array(str(level), data=values[..., :: level + 1, :: level + 1], chunks=(1, 1, 2, 8, 8))
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}, {"path": "1"}]}]
    with viewing(store) as viewer:
        assert_same(levels_served(viewer), [xr.DataArray(values), xr.DataArray(values[..., ::2, ::2])])
        assert [layer["localPosition"] for layer in viewer.state["layers"]] == [[0], [1]]
        # The centre of a window of two samples is between them.
        assert levels_served(viewer)[1].x.values[0] == 0.5


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">f4", "i1"])
def test_view__serves_zarr_v2_as_zarr_v3(order, dtype):
    values = noise((13, 21)).astype(dtype)
    array = zarr.create_array({}, shape=values.shape, chunks=(5, 8), dtype=dtype, zarr_format=2, order=order,
                              compressors=numcodecs.GZip(1), fill_value=None)  # fmt: skip
    array[...] = values
    with viewing(array) as viewer:
        assert isinstance(viewer._server.images[0].served[0], StoredLevel)
        np.testing.assert_array_equal(levels_served(viewer)[0].values, values)


@pytest.mark.parametrize("filters", [(), (numcodecs.Delta("<u2"),)])
def test_view__decodes_codecs_unknown_to_the_viewer(filters):
    values = noise((13, 21))
    array = zarr.create_array({}, shape=values.shape, chunks=(5, 8), dtype="u2", zarr_format=2, filters=filters or None,
                              compressors=numcodecs.LZ4() if not filters else None)  # fmt: skip
    array[...] = values
    with viewing(array) as viewer:
        assert isinstance(viewer._server.images[0].served[0], ComputedLevel)
        np.testing.assert_array_equal(levels_served(viewer)[0].values, values)


def test_view__missing_chunks_are_not_found():
    array = zarr.create_array({}, shape=(20, 20), chunks=(10, 10), dtype="u2", fill_value=7)
    array[:10, :10] = 1
    with viewing(array) as viewer:
        assert status_of(viewer, f"/{token(viewer)}/0/0/c/1/1")[0] == 404
        np.testing.assert_array_equal(levels_served(viewer)[0].values, array[...])


@pytest.mark.parametrize(
    ("dtype", "shown"),
    [
        ("bool", "uint8"),
        ("float16", "float32"),
        ("float64", "float32"),
        ("int64", "float32"),
        ("complex64", "float32"),
        ("uint64", "uint64"),
        ("int8", "int8"),
    ],
)
@pytest.mark.parametrize("is_stored", [True, False])
def test_view__converts_dtypes_with_a_note(capsys, dtype, shown, is_stored):
    values = noise((30, 17), "uint8").astype(dtype) * np.array(1.5).astype(dtype)
    tree = ms.to_multiscale(values, [2], method="nearest")
    if is_stored:
        store = {}
        ms.write_pyramid(tree, store)
        tree = ms.open_pyramid(store)
    with viewing(tree) as viewer:
        (base, _), expected = levels_served(viewer), np.abs(values) if dtype == "complex64" else values
        assert base.dtype == shown
        np.testing.assert_array_equal(base.values, expected.astype(shown))
        lossless = np.can_cast(dtype, shown)
        assert (f"{dtype} values" in capsys.readouterr().out) == (not lossless) == bool(viewer.notes)


def test_view__refuses_values_that_are_not_numbers():
    with pytest.raises(TypeError, match="are not numbers and cannot be shown"):
        ms.view(xr.DataArray(np.array([["a", "b"]]), dims=("y", "x")))


@pytest.mark.parametrize("lazy", [False, True])
def test_view__shows_trees_in_memory(lazy):
    values = noise((70, 90))
    tree = ms.to_multiscale(da.from_array(values, chunks=(32, 40)) if lazy else values, [2])
    with viewing(tree) as viewer:
        assert_same(levels_served(viewer), levels_of(tree))


def test_view__splits_large_blocks_into_chunks():
    level = served_level(xr.DataArray(np.ones((1500, 1300), "u2")), np.dtype("u2"))
    assert math.prod(level.chunks) * 2 <= 2 * 2**20
    values = np.frombuffer(level.read((1, 1), None), "<u2").reshape(level.chunks)
    assert values.sum() == np.prod([min(2 * c, n) - c for c, n in zip(level.chunks, (1500, 1300), strict=True)])


@pytest.mark.parametrize("place", ["tubhiswt5d_v04/tubhiswt4D_sub.zarr", "ome_zarr_small/neuroglancer/simple_0.5"])
def test_view__shows_real_stores(place):
    store = real(place)
    with viewing(store) as viewer, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert_same(levels_served(viewer)[-1:], levels_of(ms.open_pyramid(store))[-1:])


def test_view__reads_through_the_store_of_a_url(image):
    pytest.importorskip("fsspec")
    ms.write_pyramid(image, "memory://viewed.zarr", scale_factors=[2], chunks=16)
    with viewing("memory://viewed.zarr") as viewer:
        assert_same(levels_served(viewer), levels_of(ms.open_pyramid("memory://viewed.zarr")))


def test_view__reads_only_the_coarsest_level_for_contrast(image):
    store = Recording(zarr.storage.MemoryStore())
    ms.write_pyramid(image, store, scale_factors=[2, 4], chunks=8)
    store.log["read"].clear()
    with viewing(store):
        read = [key for key in store.chunks("read") if "/image/" in key]
        assert read
        assert all(key.startswith("scale2/") for key in read)


def test_view__contrast_of_a_lazy_tree_is_that_of_stored_levels():
    store = Recording(zarr.storage.MemoryStore())
    zarr.create_array(store, data=noise((8, 40, 50)), chunks=(8, 8, 8))
    tree = ms.to_multiscale(ms.open_image(store), [2, 4])
    with viewing(tree) as viewer:
        assert viewer.state["layers"][0]["shaderControls"]["normalized"]["range"][1] > 60000
        assert set(store.chunks("read").values()) == {1}


# --- access to other data --------------------------------------------------------------------------------------


def test_view__is_not_reachable_from_other_machines(stored):
    with viewing(stored) as viewer:
        assert viewer._server.server_address[0] == "127.0.0.1"
        assert urlsplit(viewer.url).hostname == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(viewer._server.server_address)


def test_view__serves_no_other_files(stored):
    secret = stored.parent / "secret"
    secret.write_text("nobody is to read this")
    with viewing(stored) as viewer:
        name = token(viewer)
        inside = [f"/{name}/0/zarr.json", f"/{name}/0/0/zarr.json", f"/{name}/0/0/c/0/0/0", f"/v/{name}/index.html"]
        assert [status_of(viewer, target)[0] for target in inside] == [200] * 4
        outside = [
            "/",
            "/zarr.json",
            f"/{secret}",
            f"/{name}",
            f"/{name}/../secret",
            f"/{name}/0/../../secret",
            f"/{name}/0/0/c/../../../../secret",
            f"/{name}/0/0/c/%2e%2e/secret",
            f"/{name}/0/scale0/image/zarr.json",
            f"/{name}/0/0/c/-1/0/0",
            f"/{name}/0/0/c/0/0",
            f"/{name}/0/0/c/0/0/0/0",
            f"/{name}/0/0/c/9/0/0",
            f"/{name}/0/3/zarr.json",
            f"/{name}/1/zarr.json",
            f"/v/{name}/../server.py",
            f"/v/{name}/..%2f..%2fserver.py",
            f"/v/{name}//etc/passwd",
            f"/v/wrong{name[5:]}/index.html",
            f"/wrong{name[5:]}/0/zarr.json",
            "/events/wrong",
        ]
        answers = {target: status_of(viewer, target) for target in outside}
        assert {target: status for target, (status, _) in answers.items() if status != 404} == {}
        assert not any(b"nobody" in content or b"import" in content for _, content in answers.values())
        assert [status_of(viewer, inside[0], method)[0] for method in ("POST", "PUT", "DELETE")] == [501] * 3


def test_view__answers_in_the_words_of_http():
    with viewing(noise((20, 30))) as viewer:
        connection = http.client.HTTPConnection(urlsplit(viewer.url).netloc)

        def answered(method, target, **headers):
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()

        with contextlib.closing(connection):
            name = token(viewer)
            status, headers, content = answered("GET", f"/{name}/", Host="tunnel:8000")
            assert (status, content) == (302, b"")
            assert headers["Location"] == f"/v/{name}/#!http://tunnel:8000/{name}/state.json"
            assert headers["Content-Length"] == "0"
            page = answered("GET", f"/v/{name}/")
            assert page[2] == answered("GET", f"/v/{name}/index.html")[2]
            assert page[1]["Content-Type"] == "text/html; charset=utf-8"
            assert int(page[1]["Content-Length"]) == len(page[2]) > 0
            status, headers, content = answered("HEAD", f"/v/{name}/?query")
            assert (status, content) == (200, b"")
            assert headers["Content-Length"] == page[1]["Content-Length"]
            status, headers, content = answered("GET", "/favicon.ico")
            assert (status, content) == (204, b"")
            assert "Content-Type" not in headers
            assert headers["Cache-Control"] == "no-cache"
            status, headers, content = answered("GET", "/other")
            assert (status, content) == (404, b"")
            assert headers["Content-Type"] == "text/plain; charset=utf-8"


def test_view__chunks_outside_the_image_are_not_found():
    with viewing(noise((20, 30))) as viewer:
        targets = [f"/{token(viewer)}/0/0/c/{index}" for index in ("0/0", "0/1", "1/0", "0", "0/0/0")]
        assert [status_of(viewer, target)[0] for target in targets] == [200, 404, 404, 404, 404]


@pytest.mark.parametrize("compressors", ["auto", None])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_view__follows_no_link_out_of_a_store(tmp_path, compressors, dtype):
    secret = tmp_path / "secret"
    secret.write_bytes(b"nobody is to read this".ljust(16 * 16 * np.dtype(dtype).itemsize))
    ms.write_pyramid(np.ones((32, 32), dtype), tmp_path / "a.zarr", scale_factors=[2], chunks=16, method="nearest",
                     compressors=compressors)  # fmt: skip
    chunk = tmp_path / "a.zarr" / "scale0" / "image" / "c" / "1" / "1"
    chunk.unlink()
    chunk.symlink_to(secret)
    with viewing(tmp_path / "a.zarr") as viewer:
        status, content = status_of(viewer, f"/{token(viewer)}/0/0/c/1/1")
        assert (status, b"nobody" in content) == (403, False)
        assert status_of(viewer, f"/{token(viewer)}/0/0/c/0/1")[0] == 200
        assert status_of(viewer, f"/{token(viewer)}/0/0/c/1/1", "HEAD")[0] in ((403,) if dtype == "uint8" else (200,))


def test_view__refuses_a_level_that_is_a_link_out_of_the_store(stored):
    level = stored / "scale1" / "image"
    level.rename(stored.parent / "elsewhere")
    level.symlink_to(stored.parent / "elsewhere")
    with pytest.raises(ValueError, match="is a link to a place outside the store"):
        ms.view(stored)


def test_view__follows_a_link_to_a_whole_store(stored):
    link = stored.parent / "link.zarr"
    link.symlink_to(stored)
    with viewing(link) as viewer:
        assert_same(levels_served(viewer), levels_of(ms.open_pyramid(stored)))


# --- byte ranges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [noise((20, 30)), "stored"], ids=["computed", "stored"])
def test_view__serves_byte_ranges(source):
    if isinstance(source, str):
        source = zarr.create_array({}, data=noise((20, 30)), chunks=(20, 30), shards=(20, 30))
    with viewing(source) as viewer:
        _, headers, whole = fetch(viewer, "0/0/c/0/0")
        assert int(headers["Content-Length"]) == len(whole)
        for byte_range, part, first in [
            ("bytes=0-0", whole[:1], 0),
            ("bytes=5-104", whole[5:105], 5),
            ("bytes=100-", whole[100:], 100),
            ("bytes=-16", whole[-16:], len(whole) - 16),
            (f"bytes=10-{2 * len(whole)}", whole[10:], 10),
        ]:
            status, headers, content = fetch(viewer, "0/0/c/0/0", Range=byte_range)
            assert (status, content) == (206, part)
            assert headers["Content-Range"].rpartition("/")[0] == f"bytes {first}-{first + len(part) - 1}"
        with pytest.raises(urllib.error.HTTPError, match="416"):
            fetch(viewer, "0/0/c/0/0", Range=f"bytes={len(whole) + 5}-{len(whole) + 9}")
        assert fetch(viewer, "0/0/c/0/0", Range="bytes=5-2")[::2] == (200, whole)
        request = urllib.request.Request(f"{viewer.url}0/0/c/0/0", method="HEAD")
        with urllib.request.urlopen(request) as answer:
            # Chromium uses the first of several, so that there must be one.
            assert answer.headers.get_all("Content-Length") == [str(len(whole))]


# --- state of the viewer ---------------------------------------------------------------------------------------


def test_view__has_a_layer_for_each_channel():
    values = np.zeros((2, 3, 8, 20, 30), "uint16")
    values[:, 1, 4:6] = 1000
    values[:, 2] = 7
    image = ms.to_image(values, "tczyx", scale={**SPACING, "t": 10.0}, units={"x": "micrometer", "t": "second"},
                        channel_names=["DAPI", "GFP", "RFP"])  # fmt: skip
    with viewing(ms.to_multiscale(image, [2])) as viewer:
        state = viewer.state
    layers = state["layers"]
    assert [(layer["type"], layer["name"]) for layer in layers] == [
        ("image", "image DAPI"),
        ("image", "image GFP"),
        ("image", "image RFP"),
    ]
    assert [(layer["localDimensions"], layer["localPosition"]) for layer in layers] == [
        ({"c'": [1, ""]}, [channel]) for channel in range(3)
    ]
    assert len({layer["shaderControls"]["color"] for layer in layers}) == 3
    assert {layer["blend"] for layer in layers} == {"additive"}
    assert layers[1]["shaderControls"]["normalized"]["range"] == [0, 1000]
    assert state["dimensions"] == {"x": [2.5e-07, "m"], "y": [0.5, ""], "z": [2.0, ""], "t": [10.0, "s"]}
    assert state["displayDimensions"] == ["x", "y", "z"]
    # The middle of x and y, the brightest plane of level 1 (at 2 * 2 + 0.5 of level 0), the first time.
    assert state["position"] == [14.5, 9.5, 4.5, 0.0]
    assert state["layout"] == "4panel"


def test_view__uses_stored_colours_and_contrast():
    store = {}
    ms.write_pyramid(ms.to_image(noise((2, 20, 30)), "cyx", channel_names=["a", "b"]), store, scale_factors=[2])
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    attributes = group.attrs.asdict()["ome"]
    window = {"min": 0, "max": 65535, "start": 100, "end": 200}
    useless = {"min": 0, "max": 65535, "start": 0, "end": 65535}
    attributes["omero"] = {
        "channels": [
            {"label": "DAPI", "color": "0A0B0C", "window": window, "active": False},
            {"label": "GFP", "color": "#00FF00", "window": useless},
        ]
    }
    group.attrs["ome"] = attributes
    with viewing(store) as viewer:
        first, second = viewer.state["layers"]
    assert (first["name"], first["visible"], first["shaderControls"]["color"]) == ("image DAPI", False, "#0a0b0c")
    assert first["shaderControls"]["normalized"]["range"] == [100, 200]
    assert (second["visible"], second["shaderControls"]["color"]) == (True, "#00ff00")
    assert second["shaderControls"]["normalized"]["range"] != [0, 65535]


def test_view__shows_labels_as_ids_over_their_image(stored, image):
    cells = (image > 40000).astype("uint32") * 7
    ms.write_labels(cells, stored, "cells", method="mode")
    with viewing(stored) as viewer:
        shown, labels = viewer.state["layers"]
        assert (shown["type"], shown["name"]) == ("image", "brain")
        assert (labels["type"], labels["name"]) == ("segmentation", "brain cells")
        assert set(labels["segmentColors"]) == {"7"}
        np.testing.assert_array_equal(levels_served(viewer, 1)[0].values, cells.values)
    with viewing(stored, path="labels/cells") as viewer:
        assert [layer["type"] for layer in viewer.state["layers"]] == ["segmentation"]


def test_view__keeps_the_bits_of_signed_ids():
    ids = np.array([[0, -1], [2**40, 5]], "int64")
    labelled = ms.to_multiscale(np.ones((2, 2), "uint8"), [2])
    labelled["labels/ids"] = ms.to_multiscale(ids, [2], method="nearest")
    with viewing(labelled) as viewer:
        np.testing.assert_array_equal(levels_served(viewer, 1)[0].values, ids.view("uint64"))


def test_view__shows_several_images(stored, image):
    other = ms.to_multiscale(image.rename("brain"), [2])
    with viewing(stored, other) as viewer:
        layers = viewer.state["layers"]
        assert [layer["name"] for layer in layers] == ["brain", "brain 2"]
        assert len({layer["shaderControls"]["color"] for layer in layers}) == 2
        assert layers[0]["source"]["url"] != layers[1]["source"]["url"]
        assert_same(levels_served(viewer, 1), levels_of(other))


def test_view__ignores_units_of_different_kinds(stored):
    with viewing(stored, ms.to_multiscale(noise((9, 40, 50)), [2])) as viewer:
        assert viewer.state["dimensions"] == {"x": [0.25, ""], "y": [0.5, ""], "z": [2.0, ""]}
        assert any("different units" in note for note in viewer.notes)


def test_view__negates_descending_axes():
    coords = {"lat": np.linspace(80.0, -80.0, 17), "lon": np.linspace(0.0, 350.0, 36)}
    sea = xr.DataArray(noise((17, 36), "float32"), dims=("lat", "lon"), coords=coords)
    with viewing(ms.to_multiscale(sea, [2])) as viewer:
        (layer,) = viewer.state["layers"]
        assert layer["source"]["transform"]["outputDimensions"] == {"lat": [10.0, ""], "lon": [10.0, ""]}
        assert layer["source"]["transform"]["matrix"] == [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        assert viewer.state["crossSectionOrientation"] == [1, 0, 0, 0]
        assert viewer.state["position"] == [17.5, 0.0]
        base = levels_served(viewer)[0]
        np.testing.assert_array_equal(base.values, sea.values)
        np.testing.assert_allclose(base.lat, -sea.lat)


LATITUDES, LONGITUDES = np.linspace(-80.0, 80.0, 17), np.linspace(0.0, 350.0, 36)


@pytest.mark.parametrize("lat", [LATITUDES, LATITUDES[::-1], LATITUDES**3, (LATITUDES**3)[::-1]])
@pytest.mark.parametrize("dims", [("lat", "lon"), ("lon", "lat")])
def test_view__north_is_up_and_longitude_runs_across(lat, dims):
    sea = xr.DataArray(noise((17, 36), "float32"), {"lat": lat, "lon": LONGITUDES}, ("lat", "lon")).transpose(*dims)
    with viewing(ms.to_multiscale(sea, [2])) as viewer:
        assert viewer.state["displayDimensions"] == ["lon", "lat"]
        # Uneven latitudes are shown as sample numbers, which run southwards where latitudes descend.
        is_turned = lat[0] < lat[-1] or (lat == LATITUDES[::-1]).all()
        assert ("crossSectionOrientation" in viewer.state) == is_turned


def test_view__y_of_a_map_points_up():
    scene = ms.to_image(noise((16, 16)), scale=10.0, units="meter")
    with viewing(scene.assign_attrs(crs="EPSG:32618")) as viewer, viewing(scene) as plain:
        assert "crossSectionOrientation" in viewer.state
        assert "crossSectionOrientation" not in plain.state


def test_view__says_which_units_it_has_not(capsys):
    sea = xr.DataArray(noise((17, 36)), {"lat": LATITUDES, "lon": LONGITUDES}, ("lat", "lon"))
    sea.lat.attrs["units"], sea.lon.attrs["units"] = "degrees_north", "1"
    with viewing(sea) as viewer:
        assert viewer.notes == (
            "image: the viewer has no unit 'degrees_north'; positions along 'lat' are its numbers, without a unit",
        )
        assert viewer.state["dimensions"] == {"lon": [10.0, ""], "lat": [10.0, ""]}


@pytest.mark.parametrize(
    ("unit", "step"),
    [("um", [1e-6, "m"]), ("weeks", [604800.0, "s"]), ("US survey foot", [1200 / 3937, "m"]), ("light_year", None)],
)
def test_view__takes_units_from_the_table_of_units(unit, step):
    image = ms.to_image(noise((8, 8)), units=unit)
    with viewing(image) as viewer:
        found = viewer.state["dimensions"]["x"]
        assert found == [pytest.approx(step[0] if step else 9.4607304725808e15), step[1] if step else "m"]


@pytest.mark.parametrize(
    ("dtype", "value", "condition"),
    [
        ("float32", np.nan, "isnan(toRaw(getDataValue()))) {"),
        ("float32", -9999.0, "isnan(toRaw(getDataValue())) || toRaw(getDataValue()) == uintBitsToFloat(3323739136u)"),
        ("float64", -9999.0, "toRaw(getDataValue()) == uintBitsToFloat(3323739136u)"),
        ("int64", -9999, "toRaw(getDataValue()) == uintBitsToFloat(3323739136u)"),
        ("int16", -9999, "if (int(toRaw(getDataValue())) == -9999)"),
        ("uint8", 255, "if (int(toRaw(getDataValue())) == 255)"),
        ("uint32", 2**32 - 1, "if (int(toRaw(getDataValue())) == -1)"),
        ("uint64", 2**64 - 2, "if (getDataValue().value == uvec2(4294967294u, 4294967295u))"),
    ],
)
def test_view__missing_values_are_clear(dtype, value, condition):
    values = np.full((8, 8), value, dtype)
    values[4:] = 100
    with viewing(ms.to_multiscale(ms.to_image(values).assign_attrs(nodata=value), [2])) as viewer:
        (layer,) = viewer.state["layers"]
        assert condition in layer["shader"]


@pytest.mark.parametrize("stated", ["nodata", "_FillValue", "missing_value", "nodatavals", "recipe", "stored recipe"])
def test_view__missing_values_set_no_contrast(stated):
    values = np.arange(100, 164).reshape(8, 8).astype("int16")
    values[:4] = -9999
    attrs = {} if "recipe" in stated else {stated: (-9999,) if stated == "nodatavals" else -9999}
    image = ms.to_image(values).assign_attrs(attrs)
    pyramid = {} if stated == "stored recipe" else ms.to_multiscale(image, [2], nodata="stated" if attrs else -9999)
    if stated == "stored recipe":
        ms.write_pyramid(image, pyramid, scale_factors=[2], nodata=-9999)
    with viewing(pyramid) as viewer:
        (layer,) = viewer.state["layers"]
        assert "== -9999" in layer["shader"]
        low, high = layer["shaderControls"]["normalized"]["range"]
        assert 132 <= low < high <= 164
        assert viewer.state["crossSectionBackgroundColor"] != "#000000"


def test_view__values_that_none_can_be_missing_of_have_no_branch(stored):
    with viewing(stored) as viewer:
        (layer,) = viewer.state["layers"]
        assert "emitTransparent" not in layer["shader"]
        assert viewer.state["crossSectionBackgroundColor"] == "#000000"


def test_view__renames_axes_and_shows_uneven_ones_by_sample_number(capsys):
    image = xr.DataArray(noise((2, 3, 4, 5, 6)), dims=("time stamp", "θ", "z", "y", "x"),
                         coords={"z": [0.0, 1.0, 5.0, 6.0]})  # fmt: skip
    with viewing(ms.to_multiscale(image, [2])) as viewer:
        out = capsys.readouterr().out
        assert "axis 'time stamp' is shown as 'time_stamp'" in out
        assert "positions along 'z' are not evenly spaced; sample numbers are shown instead" in out
        assert list(viewer.state["dimensions"]) == ["x", "y", "z", "d_", "time_stamp"]
        assert viewer.state["displayDimensions"] == ["x", "y", "z"]
        assert levels_served(viewer)[1].shape == (1, 2, 2, 3, 3)


def test_view__shows_many_channels_in_one_layer():
    with viewing(ms.to_image(np.ones((100, 4, 4), "uint8"), "cyx")) as viewer:
        assert [layer["localPosition"] for layer in viewer.state["layers"]] == [[0]]


# --- page and command line -------------------------------------------------------------------------------------


def test_view__redirects_to_the_page(stored):
    with viewing(stored) as viewer:
        status, _ = status_of(viewer, urlsplit(viewer.url).path)
        assert status == 302
        state = json.loads(fetch(viewer, "state.json", Host="tunnel:8000")[2])
        assert state["layers"][0]["source"]["url"].startswith("http://tunnel:8000/")
        assert viewer.state["layers"][0]["source"]["url"].startswith(viewer.url)


def test_view__is_a_frame_in_a_notebook(stored, capsys):
    with viewing(stored) as viewer:
        assert f'<iframe src="{viewer.url}"' in viewer._repr_html_()
        assert repr(viewer) == f"<Viewer at {viewer.url}>"
        assert capsys.readouterr().out == f"View at {viewer.url}\n"
        assert dataclasses.is_dataclass(viewer._server.images[0])


def test_view__is_a_method_of_trees(stored):
    with ms.open_pyramid(stored).multiscale.view() as viewer:
        assert viewer.state["layers"][0]["name"] == "image"


def test_view__refuses_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="nothing to show"):
        ms.view()
    with pytest.raises(FileNotFoundError, match="no zarr"):
        ms.view(tmp_path / "missing.zarr")
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with pytest.raises(ValueError, match="no OME-NGFF"):
        ms.view(tmp_path / "empty.zarr")
    with pytest.raises(ValueError, match="port=70000 is not a port"):
        ms.view(np.ones((4, 4)), port=70000)
    with viewing(np.ones((4, 4), "uint8")) as viewer, pytest.raises(OSError, match="in use"):
        ms.view(np.ones((4, 4), "uint8"), port=urlsplit(viewer.url).port)


def test_view__without_neuroglancer_names_the_extra(stored, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'multiscale-sampler\[view\]'"):
        ms.view(stored)


def test_command_line__serves_until_it_is_interrupted(stored):
    # Processes started from a shell's background job inherit that SIGINT is ignored.
    restore_sigint = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    call = f"from multiscale_sampler.cli import main; sys.exit(main(['view', {str(stored)!r}, '--no-browser']))"
    process = subprocess.Popen(
        [sys.executable, "-c", restore_sigint + call], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            url = process.stdout.readline().removeprefix("View at ").strip()
            with urllib.request.urlopen(f"{url}0/zarr.json") as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_command_line__reports_errors_in_one_line(tmp_path, capsys):
    assert main(["view", str(tmp_path / "none.zarr"), "--no-browser"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
