"""Object stores: pyramids from and to a server that speaks S3, in few requests, also after a killed build."""

import itertools
import math
import os
import pickle
import signal
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import dask
import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler import open_image, open_pyramid, plan_pyramid, validate, write_pyramid
from multiscale_sampler.build import engine
from multiscale_sampler.store import nodes
from tests.data import noise
from tests.interruptions import exit_code_of
from tests.interruptions import server as forks

# The libraries' own: sockets that were kept for a next request.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:Unclosed:ResourceWarning")

SHAPE, CHUNK = (64, 32, 32), 16
# Of metadata: for the group, and for every level (its group, its array, its coordinates).
REQUESTS_OF_GROUP = 24
REQUESTS_OF_LEVEL = 9
# One of them shows that the source has chunks under its keys.
LISTS_OF_GROUP = 7
numbers = itertools.count()


@pytest.fixture
def place(object_server):
    """Return a URL where nothing is."""
    return object_server.url(f"place{next(numbers)}")


def stored(server, url, data, *, chunks=(CHUNK,) * 3, name="0", **options):
    array = zarr.create_array(
        url,
        name=name,
        shape=data.shape,
        chunks=chunks,
        dtype=data.dtype,
        storage_options=server.options,
        dimension_names=("z", "y", "x")[-data.ndim :],
        **options,
    )
    array[...] = data
    return array


@pytest.fixture(scope="module")
def source(object_server):
    """Return the URL of an image, and its values, none of which is the fill value."""
    url, data = object_server.url("source"), np.random.default_rng(0).integers(1, 2**16, SHAPE, "uint16")
    stored(object_server, url, data)
    return url, data


@pytest.fixture(scope="module")
def sharded_source(object_server, source):
    url = object_server.url("sharded")
    stored(object_server, url, source[1], shards=(2 * CHUNK,) * 3)
    return url, source[1]


def assert_few(requests, planned, *, base, levels, copies_base=True, shape=SHAPE, carried=0):
    """Hold requests against the number of chunks or shards: each is got or put once, and little is asked beside."""
    values = [r for r in requests if "/c/" in r.key]
    metadata = Counter(r.method for r in requests if "/c/" not in r.key and not r.is_list)
    assert not any(r.is_list for r in values)
    gets = Counter((r.key, r.method) for r in values if r.method != "PUT")
    assert max(gets.values()) == 1
    written = [r.key for r in values if r.method == "PUT"]
    count = math.prod(-(-n // c) for n, c in zip(shape, base, strict=True))
    output = sum(math.prod(-(-n // c) for n, c in zip(lv.shape, lv.shards or lv.chunks, strict=True)) for lv in levels)
    coordinates = 3 * len(levels) if copies_base else 0
    assert {method for _, method in gets} == {"GET"}
    assert sum(gets.values()) == count + carried
    assert len(written) == len(set(written)) == output + coordinates + carried
    bound = REQUESTS_OF_GROUP + REQUESTS_OF_LEVEL * len(planned.levels)
    assert sum(metadata.values()) <= bound
    assert sum(r.is_list for r in requests) <= LISTS_OF_GROUP + len(planned.levels)
    return sum(metadata.values())


@pytest.mark.parametrize("kind", ["chunks", "shards", "from shards"])
def test_write_pyramid__asks_an_object_store_for_every_chunk_once(object_server, request, place, kind):
    url, data = request.getfixturevalue("sharded_source" if kind == "from shards" else "source")
    options = {"scale_factors": [2, 4], "workers": 2, "shards": 32 if kind == "shards" else None}
    image = open_image(url, "0", storage_options=object_server.options)
    planned = plan_pyramid(image, **options)
    object_server.requests()
    write_pyramid(image, place, storage_options=object_server.options, **options)
    unit = (2 * CHUNK if kind == "from shards" else CHUNK,) * 3
    assert_few(object_server.requests(), planned, base=unit, levels=planned.levels)
    tree = open_pyramid(place, storage_options=object_server.options)
    expected = ms.to_multiscale(ms.to_image(data), [2, 4])
    for number in range(3):
        np.testing.assert_array_equal(tree[f"scale{number}/image"], expected[f"scale{number}/image"])
    assert validate(place, storage_options=object_server.options).ok


@pytest.mark.parametrize("shards", [None, 256])
def test_write_pyramid__of_512_voxels_a_side_asks_for_no_more_than_its_chunks(object_server, place, shards):
    ramp = np.arange(512) // 8
    data = np.add.outer(np.add.outer(ramp, ramp), ramp + 1).astype("uint8")
    path = f"place{next(numbers)}"
    options = {"chunks": (64, 64, 64), "shards": shards and (shards,) * 3, "dtype": "uint8"}
    array = zarr.create_array(obstore_at(object_server, path), name="0", shape=data.shape, **options)
    array[...] = data
    image = open_image(object_server.url(path), "0", dims="zyx", storage_options=object_server.options)
    planned = plan_pyramid(image, workers=2)
    object_server.requests()
    write_pyramid(image, place, workers=2, storage_options=object_server.options)
    # What a pass leaves for the next one is a value for each of its regions, put and got once.
    sides = {pass_: planned.levels[pass_.source].shape[0] for pass_ in planned.export_passes}
    carried = sum(len(pass_.carried) * math.prod(side // n for n in pass_.region) for pass_, side in sides.items())
    assert carried <= 8
    asked = {"base": array.shards or array.chunks, "shape": data.shape, "carried": carried}
    assert_few(object_server.requests(), planned, levels=planned.levels, **asked)
    tree = open_pyramid(place, storage_options=object_server.options)
    np.testing.assert_array_equal(tree["scale2/image"], ms.to_multiscale(ms.to_image(data))["scale2/image"])


def test_add_levels__stays_beside_its_base_in_an_object_store(object_server, source, place):
    array = stored(object_server, place, source[1])
    zarr.open_group(place, storage_options=object_server.options).attrs["mine"] = 1
    planned = plan_pyramid(array, scale_factors=[2, 4], workers=2)
    object_server.requests()
    ms.add_levels(place, scale_factors=[2, 4], workers=2, storage_options=object_server.options)
    requests = object_server.requests()
    assert_few(requests, planned, base=(CHUNK,) * 3, levels=planned.levels[1:], copies_base=False)
    assert not any(r.method != "GET" and r.key.split("/")[1] == "0" for r in requests)
    tree = open_pyramid(place, storage_options=object_server.options)
    assert tree.attrs["mine"] == 1
    np.testing.assert_array_equal(tree["scale1/image"], ms.coarsen(ms.to_image(source[1]), 2))
    assert validate(place, storage_options=object_server.options).ok


def test_write_pyramid__what_is_all_fill_is_neither_put_nor_deleted(object_server, place):
    data = np.zeros((32, 16, 16), "uint8")
    data[:9] = 7
    stored(object_server, f"{place}/raw", data, chunks=(8, 8, 8))
    image = open_image(f"{place}/raw", "0", storage_options=object_server.options)
    object_server.requests()
    write_pyramid(image, f"{place}/out", scale_factors=[2], layout="flat", storage_options=object_server.options)
    keys = Counter((r.method, r.key.split("/", 2)[2]) for r in object_server.requests() if "/c/" in r.key)
    assert set(keys.values()) == {1}
    assert {key for method, key in keys if method == "PUT" and key.startswith("0/")} == {
        f"0/c/{z}/{y}/{x}" for z in (0, 1) for y in range(2) for x in range(2)
    }
    assert {method for method, _ in keys} == {"GET", "PUT"}
    tree = open_pyramid(f"{place}/out", storage_options=object_server.options)
    np.testing.assert_array_equal(tree["scale1/image"], ms.coarsen(ms.to_image(data), 2))


# --- interrupted builds ----------------------------------------------------------------------------------------

# Several passes, of which the later ones read what the first one carried.
OPTIONS = {"scale_factors": [2, 4], "chunks": 4, "memory_limit": "1500", "workers": 2}


def build_until(source, target, options, count):
    """Build, and kill this process when so many regions are done."""
    dask.config.set({"multiscale_sampler.region_size": 1})
    told = itertools.count(1)

    def kill(progress):
        if next(told) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    image = open_image(source, "0", storage_options=options)
    write_pyramid(image, target, progress=kill, storage_options=options, **OPTIONS)


def keys_below(server, url):
    """Return all keys below a place with their values."""
    store = zarr.storage.FsspecStore.from_url(url, storage_options=server.options)
    group = store.fs.__class__(**{**server.options, "skip_instance_cache": True})
    return {key.removeprefix(store.path): group.cat_file(key) for key in group.find(store.path)}


@pytest.mark.parametrize("count", [9])
def test_write_pyramid__goes_on_in_an_object_store_after_a_kill(object_server, place, monkeypatch, count):
    data = noise((20, 28), "uint8")
    # Regions of which nothing is stored are done as well.
    data[:8, :12] = 0
    stored(object_server, f"{place}/raw", data, chunks=(4, 4))
    process = forks.Process(target=build_until, args=(f"{place}/raw", f"{place}/out", object_server.options, count))
    assert exit_code_of(process) == -signal.SIGKILL
    with pytest.raises((ValueError, FileNotFoundError)):
        open_pyramid(f"{place}/out", storage_options=object_server.options)
    image = open_image(f"{place}/raw", "0", storage_options=object_server.options)
    reduced = []
    reduce_region = engine.reduce_region
    monkeypatch.setattr(engine, "reduce_region", lambda *args: reduced.append(1) or reduce_region(*args))
    points = []
    write_pyramid(
        image,
        f"{place}/out",
        resume=True,
        progress=points.append,
        storage_options=object_server.options,
        **OPTIONS,
    )
    # Those that were begun and not told of yet are at most twice the workers.
    assert len(points) - count - 4 <= len(reduced) <= len(points) - count
    write_pyramid(image, f"{place}/whole", storage_options=object_server.options, **OPTIONS)
    whole = keys_below(object_server, f"{place}/whole")
    assert keys_below(object_server, f"{place}/out") == whole


# --- requests that fail --------------------------------------------------------------------------------------------


class Overloaded(BaseHTTPRequestHandler):
    """A server that refuses every request for the moment, as S3 does, and remembers them."""

    asked: ClassVar[list[str]] = []

    def answer(self):
        self.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        content = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        self.send_response(503)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if self.command != "HEAD" else b"")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture
def overloaded():
    """Return the ``storage_options`` that lead to an overloaded server, and the list of the requests that it gets."""
    Overloaded.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Overloaded)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield (
        {"endpoint_url": f"http://127.0.0.1:{server.server_port}", "key": "nobody", "secret": "none"},
        Overloaded.asked,
    )
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("of_botocore", [None, 2])
def test_url__requests_to_s3_are_repeated_in_one_place(overloaded, attempts, of_botocore):
    options, asked = overloaded
    if of_botocore:
        # What the caller says counts.
        options["config_kwargs"] = {"retries": {"total_max_attempts": of_botocore}}
    with (
        dask.config.set({"multiscale_sampler.request_attempts": attempts}),
        pytest.raises(OSError, match=f"S3FileSystem.*failed {attempts} times to get .*reduce your request rate"),
    ):
        open_image("s3://bucket/a", "0", storage_options=options)
    # Of several documents that are asked for at once, the first that fails ends the others.
    assert max(Counter(asked).values()) == attempts * (of_botocore or 1)


def test_url__a_store_at_s3_is_the_same_on_a_worker(object_server):
    store = nodes.as_store(object_server.url("a"), object_server.options)
    there = pickle.loads(pickle.dumps(store))
    assert there == store
    assert there._store.fs is store._store.fs
    assert there._store.fs.retries == 1


# --- stores of other libraries, and packages that are missing --------------------------------------------------


def obstore_at(server, path):
    obstore = pytest.importorskip("obstore.store", reason="the extra 'test' brings obstore")
    return zarr.storage.ObjectStore(
        obstore.S3Store(
            "bucket",
            prefix=path,
            endpoint=server.endpoint,
            access_key_id="nobody",
            secret_access_key="nothing",
            region="us-east-1",
            client_options={"allow_http": True},
        )
    )


def test_write_pyramid__obstore_is_a_store_as_any(object_server, source):
    path = f"place{next(numbers)}"
    store = obstore_at(object_server, path)
    write_pyramid(open_image(obstore_at(object_server, "source"), "0"), store, scale_factors=[2])
    tree = open_pyramid(object_server.url(path), storage_options=object_server.options)
    np.testing.assert_array_equal(tree["scale1/image"], ms.coarsen(ms.to_image(source[1]), 2))
    assert validate(store).ok
    with pytest.raises(ValueError, match="holds the source"):
        write_pyramid(open_image(store, "scale0/image"), object_server.url(path), mode="w")


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://bucket/a", "s3fs", "s3"),
        ("gs://bucket/a", "gcsfs", "gs"),
        ("az://container/a", "adlfs", "az"),
        ("https://host/a", "aiohttp", "http"),
        ("s3://bucket/a", "fsspec", "s3"),
    ],
)
@pytest.mark.parametrize("call", ["open_image", "open_pyramid", "write_pyramid", "add_levels"])
def test_url__without_its_package_is_refused_by_what_installs_it(monkeypatch, call, url, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    arguments = (np.ones((8, 8)), url) if call == "write_pyramid" else (url,)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'multiscale-sampler\[{extra}\]'$"):
        getattr(ms, call)(*arguments)


def test_url__of_no_protocol_is_refused():
    with pytest.raises(ValueError, match="protocol that is not known"):
        open_image("nothing://bucket/a")


def test_place_of__is_the_same_for_all_names_of_a_place(object_server):
    named = nodes.place_of("s3://bucket/a/b/")
    assert named == ("s3", ("bucket", "a", "b"))
    assert nodes.place_of("s3a://bucket/a/b") == named
    assert nodes.place_of(obstore_at(object_server, "a/b")) == named
    there = zarr.storage.FsspecStore.from_url("s3://bucket/a", storage_options=object_server.options)
    assert nodes.place_of(zarr.storage.StorePath(there, "b")) == named
    assert nodes.place_of("memory://a")[0] == "memory"
