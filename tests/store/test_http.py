"""Stores read over HTTP, from a server on this machine that counts what it is asked for."""

import functools
import http.server
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import open_image, open_pyramid, to_image, validate, write_pyramid
from multiscale_sampler.cli import main
from tests.data import is_chunk, noise
from tests.oracles import check_levels

BASE = noise((40, 50))
STORES = {
    "consolidated": {"layout": "datatree"},
    "flat": {"layout": "flat"},
    "v2": {"layout": "datatree", "version": "0.4"},
    "flat-v2": {"layout": "flat", "version": "0.4"},
}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, whole or a range of their bytes, and notes every request."""

    asked: list[str]

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.asked.append(self.path.lstrip("/"))
        file = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None or not file.is_file():
            super().do_GET()
            return
        data = file.read_bytes()
        first, last = (int(number) for number in wanted.groups())
        part = data[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return the URL of a folder with a store of each kind, and the list of what was asked for."""
    pytest.importorskip("aiohttp", reason="the extra 'http' brings aiohttp")
    folder = tmp_path_factory.mktemp("served")
    image = to_image(BASE, scale=0.5, units="micrometer", name="em")
    for name, options in STORES.items():
        write_pyramid(image, folder / name, scale_factors=[2, 4], chunks=16, **options)
    write_pyramid(image, folder / "a.ozx", scale_factors=[2, 4], chunks=16)
    (folder / "plain").mkdir()
    asked = []
    handler = type("Noting", (Handler,), {"asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked, folder
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", STORES)
def test_open_pyramid__over_http_asks_for_documents_and_lists_nothing(served, name):
    url, asked, folder = served
    asked.clear()
    tree = open_pyramid(f"{url}/{name}")
    assert not [path for path in asked if path.endswith("/") or (folder / path).is_dir()]
    # Coordinates are read, values are not.
    levels = [path for path in asked if is_chunk(path) and not re.search(r"/[yx]/", path)]
    assert levels == []
    assert len(asked) <= 60
    asked.clear()
    np.testing.assert_array_equal(tree["scale0/em"].values, BASE)
    assert len(asked) == len(set(asked)) == 12
    check_levels(tree, BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})


def test_open_pyramid__over_http_one_document_tells_of_all_where_metadata_are_consolidated(served):
    """Opened by a client that trusts them, as xarray does."""
    url, asked, _ = served
    asked.clear()
    with xr.open_datatree(f"{url}/consolidated", engine="zarr", chunks={}) as tree:
        documents = [path for path in asked if not is_chunk(path) and path.startswith("consolidated/scale")]
        assert documents == []
        check_levels(tree, BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})


def test_open_datatree__over_http(served):
    url, _, _ = served
    with xr.open_datatree(f"{url}/flat", engine="multiscale") as tree:
        check_levels(tree, BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})


def test_open_pyramid__a_zip_file_over_http_is_read_in_parts(served):
    url, asked, _ = served
    for opened in (f"{url}/a.ozx", f"zip::{url}/a.ozx"):
        asked.clear()
        check_levels(open_pyramid(opened), BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})
        assert set(asked) == {"a.ozx"}
    np.testing.assert_array_equal(open_image(f"{url}/a.ozx", "scale0/em").values, BASE)
    assert validate(f"{url}/a.ozx").ok
    with pytest.raises(ValueError, match="write it to a local path"):
        write_pyramid(BASE, f"{url}/b.ozx")


def test_write_pyramid__reads_its_base_over_http(served, tmp_path):
    url, _, _ = served
    write_pyramid(open_image(f"{url}/flat"), tmp_path / "p.zarr", scale_factors=[2])
    check_levels(open_pyramid(tmp_path / "p.zarr"), BASE, [(2, 2)], scale={"y": 0.5, "x": 0.5})


@pytest.mark.parametrize("missing", ["nothing", "plain", "nothing.ozx"])
def test_open_pyramid__over_http_what_is_not_there_is_told_in_one_line(served, missing, capsys):
    url, _, _ = served
    with pytest.raises(FileNotFoundError, match=missing):
        open_pyramid(f"{url}/{missing}")
    assert main(["info", f"{url}/{missing}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_open_pyramid__over_http_names_the_package_that_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    expected = "read over HTTP, which needs aiohttp; install it with: pip install 'multiscale-sampler[http]'"
    with pytest.raises(ModuleNotFoundError, match=re.escape(expected)):
        open_pyramid("http://127.0.0.1:9/a.zarr")
    assert main(["info", "http://127.0.0.1:9/a.zarr"]) == 1
    assert expected in capsys.readouterr().err


ODD_KEYS = ["sample #3", "50% off", "what?", "%2e", "two words", "größe", "a&b=c;d", "100%25"]


@pytest.mark.parametrize("name", ODD_KEYS)
def test_keys__are_quoted_in_requests(served, name):
    url, _, folder = served
    write_pyramid(BASE, folder / "odd" / name, scale_factors=[2], chunks=16, layout="flat", mode="w")
    check_levels(open_pyramid(f"{url}/odd", name), BASE, [(2, 2)])
    assert validate(f"{url}/odd", name).findings == ()
    np.testing.assert_array_equal(open_image(f"{url}/odd", f"{name}/0"), BASE)
    # A store and an array of zarr's own.
    store = zarr.storage.FsspecStore.from_url(f"{url}/odd", read_only=True)
    np.testing.assert_array_equal(open_image(store, f"{name}/0"), BASE)
    write_pyramid(open_image(store, f"{name}/0"), folder / "copy" / name, scale_factors=[2], mode="w")
    check_levels(open_pyramid(folder / "copy" / name), BASE, [(2, 2)])


def test_keys__of_an_image_that_other_programs_named(served):
    url, _, folder = served
    write_pyramid(to_image(BASE, name="em"), folder / "old", scale_factors=[2], chunks=16)
    document = folder / "old/zarr.json"
    document.write_text(document.read_text().replace('/em"', '/sample #3"'))
    for level in ("scale0", "scale1"):
        (folder / "old" / level / "em").rename(folder / "old" / level / "sample #3")
    (base,) = open_pyramid(f"{url}/old")["scale0"].data_vars.values()
    np.testing.assert_array_equal(base, BASE)
