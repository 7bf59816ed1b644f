"""Builds on a real cluster of processes: the same bits as on threads, whatever the source, also after failures."""

import asyncio
import os
import signal
import threading
import urllib.request
from contextlib import nullcontext
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.base import get_scheduler

from multiscale_sampler import (
    add_levels,
    open_image,
    open_pyramid,
    to_image,
    to_itk,
    to_multiscale,
    view,
    write_pyramid,
)
from multiscale_sampler.build import engine as engine_module
from multiscale_sampler.cli import main
from multiscale_sampler.plan.planning import ready_to_build
from multiscale_sampler.tasks import threads as executors
from multiscale_sampler.tasks.crew import Crew, active_client
from multiscale_sampler.tasks.threads import run, spread

from ..data import hashes, make_array, noise

distributed = pytest.importorskip("distributed", reason="pip install 'multiscale-sampler[distributed]'")

# The cluster's own: it closes its event loop while sockets of workers that went first are still open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    # Older dask warns where a test computes on threads beside a client, which is what it is about.
    pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": "2GiB"}
    with distributed.LocalCluster(**options) as running:
        yield running


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as connected:
        # One may just have been killed.
        connected.wait_for_workers(2, timeout=120)
        yield connected


@pytest.fixture(autouse=True)
def scheduler_of_dask():
    """Leave dask's setting as it was: a client whose cluster goes away does not take its own back."""
    before = dask.config.get("scheduler", None)
    yield
    dask.config.set(scheduler=before)


@pytest.fixture
def base(tmp_path):
    array = zarr.create_array(tmp_path / "base.zarr", shape=(70, 50, 90), chunks=(16, 16, 16), dtype="uint16")
    array[:] = noise(array.shape, "uint16")
    return array


def refuse_threads(*arguments, **options):
    raise AssertionError("the build ran on threads of this process")


def built(image, place, **options):
    """Build with small regions in several passes; return the hashes of all files."""
    write_pyramid(image, place, workers=2, memory_limit="1MiB", **options)
    return hashes(place)


SOURCES = {
    "zarr": lambda array: open_image(array),
    "dask": lambda array: da.from_zarr(array) + np.uint16(0),
    "persisted": lambda array: (da.from_zarr(array) + np.uint16(0)).persist(),
    "tree": lambda array: to_multiscale(open_image(array), 2),
    "channels last": lambda array: xr.DataArray(da.from_zarr(array), dims=("z", "y", "c")),
}


@pytest.mark.parametrize("source", SOURCES)
def test_write_pyramid__the_cluster_writes_the_same_bytes(base, client, tmp_path, monkeypatch, source):
    options = {"chunks": 16, "compressors": None}
    with dask.config.set(scheduler="threads"):
        made = SOURCES[source](base)
        if source == "tree":
            options = {}
        with pytest.warns(UserWarning, match="time and channels") if source == "channels last" else nullcontext():
            expected = built(made, tmp_path / "threads.zarr", **options)
    monkeypatch.setattr("multiscale_sampler.tasks.threads.ThreadPoolExecutor", refuse_threads)
    made = SOURCES[source](base)
    with pytest.warns(UserWarning, match="time and channels") if source == "channels last" else nullcontext():
        assert built(made, tmp_path / "cluster.zarr", **options) == expected


def test_add_levels__runs_on_the_cluster(base, client, tmp_path, monkeypatch):
    for name in ("threads", "cluster"):
        make_array(tmp_path / name, base[:], chunks=(16, 16, 16))
    with dask.config.set(scheduler="threads"):
        add_levels(tmp_path / "threads")
    monkeypatch.setattr("multiscale_sampler.tasks.threads.ThreadPoolExecutor", refuse_threads)
    add_levels(tmp_path / "cluster")
    ours, theirs = (zarr.open_group(tmp_path / name) for name in ("cluster", "threads"))
    for level in theirs:
        np.testing.assert_array_equal(ours[level][:], theirs[level][:])
    assert set(ours) == set(theirs)


def test_write_pyramid__reports_progress_of_the_cluster(base, client, tmp_path):
    seen = []
    write_pyramid(base, tmp_path / "p.zarr", workers=2, memory_limit="1MiB", progress=seen.append)
    assert [point.done for point in seen] == sorted(point.done for point in seen)
    assert len(seen) > 4
    assert seen[-1].done == seen[-1].total


@pytest.mark.parametrize("target", ["memory", "disk"])
def test_write_pyramid__what_only_this_process_holds_is_built_here(base, client, tmp_path, target):
    image = noise((40, 40), "uint8") if target == "disk" else da.from_zarr(base).persist()
    store = {} if target == "memory" else tmp_path / "p.zarr"
    write_pyramid(image, store, chunks=16)
    np.testing.assert_array_equal(open_pyramid(store)["scale0/image"], image)


def test_write_pyramid__takes_threads_and_memory_of_the_cluster(base, client, tmp_path, monkeypatch):
    plans = []

    def noting(plan):
        plans.append(ready_to_build(plan))
        return plans[-1]

    monkeypatch.setattr("multiscale_sampler.build.build.ready_to_build", noting)
    write_pyramid(base, tmp_path / "p.zarr")
    (plan,) = plans
    assert plan.workers == 2
    assert plan.memory_limit == 2 * 2**30


def fail_once(build, flag, *arguments):
    """Build a region, unless the flag stands there: then take it away and kill the process."""
    if os.path.exists(flag):
        os.remove(flag)
        os.kill(os.getpid(), signal.SIGKILL)
    return build(*arguments)


def test_write_pyramid__completes_though_a_worker_is_killed(base, client, tmp_path, monkeypatch):
    with dask.config.set(scheduler="threads"):
        expected = built(base, tmp_path / "threads.zarr")
    flag = tmp_path / "kill"
    flag.touch()
    monkeypatch.setattr(engine_module, "_build_region", partial(fail_once, engine_module._build_region, str(flag)))
    assert built(base, tmp_path / "cluster.zarr") == expected
    assert not flag.exists()


def fail(build, numbers, context, number, region, block=None):
    if number in numbers:
        raise OSError(28, "No space left on device")
    return build(context, number, region, block)


def test_write_pyramid__resumes_on_threads_what_failed_on_the_cluster(base, client, tmp_path, monkeypatch):
    with dask.config.set(scheduler="threads"):
        expected = built(base, tmp_path / "threads.zarr")
    place = tmp_path / "cluster.zarr"
    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "_build_region", partial(fail, engine_module._build_region, {3}))
        patched.setattr("multiscale_sampler.tasks.cluster.RETRIES", 0)
        with pytest.raises(OSError, match="No space left") as caught:
            built(base, place)
    assert any("resume=True" in note for note in caught.value.__notes__)
    with pytest.raises(ValueError, match="build"):
        open_pyramid(place)
    with dask.config.set(scheduler="threads"):
        assert built(base, place, resume=True) == expected


def interrupted(progress):
    raise KeyboardInterrupt


def test_write_pyramid__an_interrupted_build_leaves_no_task_on_the_cluster(base, client, tmp_path):
    place = tmp_path / "p.zarr"
    with dask.config.set(scheduler="threads"):
        expected = built(base, tmp_path / "threads.zarr")
    with pytest.raises(KeyboardInterrupt):
        built(base, place, progress=interrupted)
    # What had begun ends by itself; of the rest the scheduler knows no more.
    assert client.run_on_scheduler(unfinished_tasks) <= 2
    assert built(base, place, resume=True) == expected


def unfinished_tasks(dask_scheduler):
    return sum(task.state in ("queued", "no-worker", "waiting", "processing") for task in dask_scheduler.tasks.values())


def test_write_pyramid__a_cluster_reads_and_writes_an_object_store(base, client, object_server, monkeypatch):
    monkeypatch.setattr("multiscale_sampler.tasks.threads.ThreadPoolExecutor", refuse_threads)
    options = {"storage_options": object_server.options}
    write_pyramid(base, object_server.url("cluster"), scale_factors=[2], chunks=48, layout="flat", **options)
    again = open_image(object_server.url("cluster"), "0", **options)
    write_pyramid(again, object_server.url("again"), scale_factors=[2], **options)
    tree = open_pyramid(object_server.url("again"), **options)
    np.testing.assert_array_equal(tree["scale0"].to_dataset().to_dataarray()[0], base[:])
    expected = to_multiscale(open_image(base), [2])["scale1"].to_dataset().to_dataarray()[0]
    np.testing.assert_array_equal(tree["scale1"].to_dataset().to_dataarray()[0], expected)


@pytest.mark.parametrize("command", ["build", "add-levels"])
def test_scheduler__names_the_cluster_that_builds(base, cluster, tmp_path, monkeypatch, command):
    folder = tmp_path / "group"
    make_array(folder, base[:], chunks=(16, 16, 16))
    arguments = [str(folder), str(tmp_path / "out"), "--path", "0"] if command == "build" else [str(folder)]
    monkeypatch.setattr("multiscale_sampler.tasks.threads.ThreadPoolExecutor", refuse_threads)
    assert main([command, *arguments, "--quiet", "--scheduler", cluster.scheduler_address]) == 0
    made = open_pyramid(tmp_path / "out" if command == "build" else folder)
    expected = to_multiscale(open_image(base), 2)
    assert len(made.children) == len(expected.children)
    name = next(iter(made["scale1"].data_vars))
    np.testing.assert_array_equal(made[f"scale1/{name}"], expected["scale1"].to_dataset().to_dataarray()[0])
    assert active_client() is None


def test_scheduler__local_is_a_cluster_of_as_many_processes_as_workers(base, tmp_path, monkeypatch):
    asked = []
    cluster = distributed.LocalCluster

    def noting(**options):
        asked.append(options)
        # On threads, which start at once; that workers are processes is what LocalCluster does unless told otherwise.
        return cluster(**options, processes=False)

    monkeypatch.setattr(distributed, "LocalCluster", noting)
    monkeypatch.setattr("multiscale_sampler.tasks.threads.ThreadPoolExecutor", refuse_threads)
    place = str(base.store_path).removeprefix("file://")
    arguments = [place, str(tmp_path / "out"), "--quiet", "--scheduler", "local", "--workers", "1"]
    assert main(["build", *arguments]) == 0
    assert (asked[0]["n_workers"], asked[0]["threads_per_worker"]) == (1, 1)
    assert "processes" not in asked[0]
    assert len(open_pyramid(tmp_path / "out").children) > 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:9", "127.0.0.1:9"),
        ("nothing://a", "nothing"),
        ("tcp://127.0.0.1", "missing port"),
    ],
)
def test_scheduler__that_is_not_there_is_one_clear_line(base, tmp_path, monkeypatch, capsys, address, said):
    monkeypatch.setattr("multiscale_sampler.cli.building.CONNECT_SECONDS", 1)
    place = str(base.store_path).removeprefix("file://")
    assert main(["build", place, str(tmp_path / "out"), "--quiet", "--scheduler", address]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "multiscale-sampler: error: " in line]
    assert said in line
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()


def test_run__a_cluster_that_goes_away_ends_in_one_clear_error():
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as running, distributed.Client(running) as client:

        def calls():
            yield 1, (0,)
            yield 1, (5,)
            # Drawn when the first one is done, while the second one is not.
            running.close()
            yield 1, (0,)

        with pytest.raises(ConnectionError, match="cluster"):
            run(Crew(client), wait, None, calls(), 1, lambda nbytes: None)


def test_run__a_cluster_that_does_not_answer_ends_in_one_clear_error(client, monkeypatch):
    async def unanswered():
        await asyncio.Event().wait()

    def calls():
        # From now on: before, the cluster has been told of the work.
        monkeypatch.setattr("multiscale_sampler.tasks.crew.ANSWER_SECONDS", 0.1)
        yield 1, (2,)

    monkeypatch.setattr("multiscale_sampler.tasks.cluster.SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(client, "nthreads", unanswered)
    with pytest.raises(ConnectionError, match="cluster"):
        run(Crew(client), wait, None, calls(), 1, lambda nbytes: None)


def wait(context, seconds):
    threading.Event().wait(seconds)


def test_run__holds_no_more_than_twice_the_workers():
    drawn, finished = [], []

    def calls():
        for number in range(50):
            drawn.append(number)
            assert len(drawn) - len(finished) <= 2 * 2
            yield number, (number,)

    run(None, lambda context, number: number, None, calls(), 2, finished.append)
    assert sorted(finished) == list(range(50))


def test_spread__threads_without_a_call_help_with_that_of_another():
    together, threads = threading.Barrier(3, timeout=60), []

    def work(item):
        threads.append(threading.get_ident())
        together.wait()

    run(None, lambda context: spread(work, range(6)), None, [(0, ())], 3, lambda nbytes: None)
    assert len(threads) == 6
    assert len(set(threads)) == 3


def test_spread__threads_with_a_call_of_their_own_do_not_help():
    begun, done = threading.Barrier(2, timeout=60), []

    def call(context, name):
        begun.wait()
        spread(lambda item: done.append((name, item, threading.get_ident())), range(20))
        begun.wait()

    run(None, call, None, [(0, ("a",)), (0, ("b",))], 2, lambda nbytes: None)
    assert sorted((name, item) for name, item, _ in done) == [(name, item) for name in "ab" for item in range(20)]
    assert len({(name, thread) for name, _, thread in done}) == 2


@pytest.mark.parametrize("helper", [True, False])
def test_spread__a_failure_is_raised_when_no_thread_is_at_it_any_more(helper):
    """Whether it happens on the thread of the call or on one that helps."""
    all_are_there, owner, ended, at_the_end = threading.Barrier(3, timeout=60), [], [], []

    def work(item):
        if item < 3:
            all_are_there.wait()
            if (threading.get_ident() in owner) != helper:
                raise ValueError(f"item {item}")
        ended.append(item)

    def call(context):
        owner.append(threading.get_ident())
        try:
            spread(work, range(30))
        finally:
            at_the_end.append(len(ended))

    with pytest.raises(ValueError, match="item"):
        run(None, call, None, [(0, ())], 3, lambda nbytes: None)
    assert at_the_end == [len(ended)]


def test_spread__of_what_is_interrupted_no_thread_helps(monkeypatch):
    interrupted, threads = threading.Event(), set()

    class Tasks(executors._TasksOfThreads):
        def cancel(self):
            super().cancel()
            interrupted.set()

    def call(context, long):
        if long:
            assert interrupted.wait(60)
            spread(lambda item: threads.add(threading.get_ident()), range(50))

    def interrupt(nbytes):
        raise KeyboardInterrupt

    monkeypatch.setattr(executors, "_TasksOfThreads", Tasks)
    with pytest.raises(KeyboardInterrupt):
        run(None, call, None, [(0, (True,)), (0, (False,))], 2, interrupt)
    assert len(threads) == 1


def test_spread__without_a_build_is_a_plain_loop():
    done = []
    spread(lambda item: done.append((item, threading.get_ident())), range(5))
    assert done == [(item, threading.get_ident()) for item in range(5)]


def test_active_client__is_none_without_a_client_and_where_dask_is_told_so(client):
    assert active_client() is client
    with dask.config.set(scheduler="threads"):
        assert active_client() is None


def test_active_client__is_none_once_it_is_closed(cluster):
    with distributed.Client(cluster) as client:
        client.close()
        assert active_client() is None


@pytest.fixture
def half_made(monkeypatch):
    """Leave dask a client that never connected, as in a notebook, which keeps the last error; refuse to ask it."""
    with pytest.raises(ValueError, match="missing port") as kept:
        distributed.Client("tcp://127.0.0.1")
    client = distributed.default_client()
    assert client.status == "connecting"
    assert get_scheduler().__self__ is client
    monkeypatch.setattr(distributed.Client, "get", refuse_client)
    monkeypatch.setattr(distributed.Client, "sync", refuse_client)
    yield client
    monkeypatch.undo()
    client.close()
    del kept


def refuse_client(client, *arguments, **options):
    raise AssertionError(f"a client that is {client.status} was asked to compute")


def test_active_client__is_none_where_it_never_connected(half_made):
    assert active_client() is None


def test_write_pyramid__computes_here_beside_a_client_that_never_connected(half_made, tmp_path):
    values = noise((40, 48), "uint8")
    write_pyramid(da.from_array(values, chunks=16) + np.uint8(0), tmp_path / "p.zarr", chunks=16, max_levels=2)
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "p.zarr")["scale0/image"], values)


LAZILY = {
    "to_itk": ("itkwasm", lambda image: to_itk(image, library="itkwasm").data),
    "thumbnail": ("PIL", lambda image: to_multiscale(image, [2]).multiscale.thumbnail(20)),
    "view": ("neuroglancer", lambda image: shown(to_multiscale(image, [2]))),
}


def shown(tree):
    """Return the values of the first chunk of every level, as a viewer gets them."""
    with view(tree) as viewer:
        chunks = []
        for level in ("0", "1"):
            with urllib.request.urlopen(f"{viewer.url}0/{level}/c/0/0") as answer:
                chunks.append(np.frombuffer(answer.read(), np.uint8))
    return np.concatenate(chunks)


@pytest.mark.parametrize("name", LAZILY)
def test_lazy_images__are_computed_here_beside_a_client_that_never_connected(half_made, name):
    needed, use = LAZILY[name]
    pytest.importorskip(needed, reason="the extra 'test' brings it")
    values = noise((40, 48), "uint8")
    lazy = da.from_array(values, chunks=48) + np.uint8(0)
    np.testing.assert_array_equal(use(to_image(lazy)), use(to_image(values)))
