"""Builds that are killed, or whose store stops taking what it is given: no half pyramid is shown, and all go on."""

import errno
import itertools
import random
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler.build import engine
from tests.data import hashes
from tests.interruptions import BUILDS, PHASES, Moment, build_in_child

# Little memory, so that there are many regions and several passes, of which the later ones read carried states.
WORKERS = 2
OPTIONS = {"scale_factors": [2, 4, 8], "chunks": 8, "memory_limit": "10KB", "workers": WORKERS}
# Kinds of builds, and at how many moments each is killed; in all 25.
BUILD_KINDS = {
    "v3": ("write_pyramid", {}, 8),
    "v2": ("write_pyramid", {"version": "0.4"}, 5),
    "flat": ("write_pyramid", {"layout": "flat"}, 2),
    "beside": ("add_levels", {}, 4),
    "replacing": ("write_pyramid", {"mode": "w"}, 3),
    "replacing-v2": ("write_pyramid", {"mode": "w", "version": "0.4"}, 3),
}
SHAPE = (45, 61)


def prepared(folder, call, options):
    """Return the source and the target of a build, as far as they are there before it."""
    ms.create_test_image(folder / "raw", "0", shape=SHAPE, chunks=(8, 8))
    if call == "add_levels":
        ms.create_test_image(folder / "target", "0", shape=SHAPE, chunks=(8, 8))
        zarr.open_group(folder / "target", attributes={"mine": 1})
        with warnings.catch_warnings():
            # zarr v3 has no final specification of consolidated metadata.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(str(folder / "target"))
    if options.get("mode") == "w":
        version = options.get("version", "0.5")
        ms.write_pyramid(np.ones((20, 30), "u1"), folder / "target", chunks=8, version=version)
    return str(folder / "raw"), str(folder / "target")


def files(place):
    """Return a hash of every file, without those that zarr's own writing left when it was killed."""
    return {name: value for name, value in hashes(place).items() if not name.endswith(".partial")}


@pytest.fixture(scope="module", params=BUILD_KINDS)
def undisturbed(request, tmp_path_factory):
    """Return a build, what it leaves, its file operations and the number of its regions."""
    call, own, count = BUILD_KINDS[request.param]
    options = {**OPTIONS, **own}
    folder = tmp_path_factory.mktemp("undisturbed")
    source, target = prepared(folder, call, options)
    outcome = build_in_child(call, source, target, options, str(folder / "log"))
    assert not outcome.killed
    assert outcome.operations.keys() >= {"creation", "levels", "carry", "journal", "removal", "publishing"}
    return call, options, files(target), outcome, drawn(outcome.operations, count)


def drawn(operations, count):
    """Return moments of all phases in turn, the last ones first, the same in every run."""
    draw = random.Random(0)
    phases = itertools.cycle(phase for phase in reversed(PHASES) if operations[phase])
    return [
        Moment(phase, draw.randrange(operations[phase]), torn=draw.random() < 0.5)
        for phase, _ in zip(phases, range(count), strict=False)
    ]


def assert_unfinished(target):
    """Hold that no reader takes a place for a pyramid of several levels."""
    try:
        tree = ms.open_pyramid(target)
    except (FileNotFoundError, ValueError):
        pass
    else:
        assert len(tree.children) == 1, "a build that was killed is shown as finished"
    reader = pytest.importorskip("ome_zarr.reader", reason="the extra 'clients' brings ome-zarr")
    io = pytest.importorskip("ome_zarr.io", reason="the extra 'clients' brings ome-zarr")
    location = io.parse_url(target) if Path(target).exists() else None
    assert location is None or not [node for node in reader.Reader(location)() if len(node.data) > 1]


def is_there(expected, target):
    """Whether a place holds some files as they are expected, whatever else is there."""
    return expected.items() <= hashes(target).items()


def resumed(call, source, target, options, monkeypatch):
    """Go on with a build, and return how many regions it worked on."""
    begun = []
    reduce_region = engine.reduce_region

    def counted(*args):
        begun.append(args)
        reduce_region(*args)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "reduce_region", counted)
        BUILDS[call](source, target, {**options, "resume": True})
    return len(begun)


def test_build__killed_at_any_moment_goes_on_to_the_same_bits(tmp_path, undisturbed, monkeypatch):
    call, options, whole, outcome, moments = undisturbed
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        source, target = prepared(folder, call, options)
        before = hashes(target) if options.get("mode") == "w" else None
        killed = build_in_child(call, source, target, options, str(folder / "log"), moment)
        if not killed.killed:
            # Workers that make a folder at once try more often than one: this build did less than the undisturbed.
            assert moment.number >= killed.operations[moment.phase]
            assert files(target) == whole
            continue
        if not is_there(before or {None: None}, target) and not is_there(whole, target):
            assert_unfinished(target)
        again = resumed(call, source, target, options, monkeypatch)
        assert files(target) == whole, f"killed at {moment}"
        assert killed.begun + again <= outcome.begun + WORKERS, f"killed at {moment}, did too much again"


def test_build__killed_again_and_again_does_little_twice(tmp_path, undisturbed, monkeypatch):
    call, options, whole, outcome, _ = undisturbed
    source, target = prepared(tmp_path, call, options)
    options = {**options, "resume": True}
    middle = outcome.operations["creation"] // 2
    moments = [Moment("creation", middle), Moment("levels", 7, torn=True), Moment("levels", 3), Moment("journal", 3)]
    begun = 0
    for moment in moments:
        killed = build_in_child(call, source, target, options, str(tmp_path / "log"), moment)
        assert killed.killed
        if options.get("mode") != "w":
            assert_unfinished(target)
        begun += killed.begun
    begun += resumed(call, source, target, options, monkeypatch)
    assert files(target) == whole
    assert begun <= outcome.begun + WORKERS * len(moments)


# --- stores that take no more ----------------------------------------------------------------------------------


class Quota(zarr.storage.WrapperStore):
    """A store that has room for so many bytes, and no more from then on."""

    def __init__(self, store, room):
        super().__init__(store)
        # Shared by the copies that zarr makes of a store: the bytes left, and those written.
        self.room = room

    def _with_store(self, store):
        return type(self)(store, self.room)

    def with_read_only(self, read_only=False):
        return self._with_store(self._store.with_read_only(read_only))

    def _take(self, value):
        self.room["written"] += len(value)
        if self.room["written"] > self.room["bytes"]:
            raise OSError(errno.ENOSPC, "No space left on device")

    async def set(self, key, value):
        self._take(value)
        await super().set(key, value)

    async def set_if_not_exists(self, key, value):
        self._take(value)
        await super().set_if_not_exists(key, value)


def contents(store):
    return {key: value.to_bytes() for key, value in store.items()}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_write_pyramid__a_store_without_room_is_an_error_and_goes_on_with_more(version):
    image = np.random.default_rng(0).integers(0, 2**16, SHAPE, "uint16")
    options = {**OPTIONS, "version": version}
    whole, enough = {}, {"written": 0, "bytes": 10**9}
    ms.write_pyramid(image, Quota(zarr.storage.MemoryStore(whole), enough), **options)
    for fraction in (0.02, 0.1, 0.5, 0.8, 0.95, 0.999):
        parts = {}
        little = {"written": 0, "bytes": int(fraction * enough["written"])}
        with pytest.raises(OSError, match="No space left") as stopped:
            ms.write_pyramid(image, Quota(zarr.storage.MemoryStore(parts), little), **options)
        assert stopped.value.errno == errno.ENOSPC
        with pytest.raises((ValueError, FileNotFoundError)):
            ms.open_pyramid(parts)
        ms.write_pyramid(image, parts, resume=True, **options)
        assert contents(parts) == contents(whole)


@pytest.fixture
def small_disk(tmp_path):
    """Return a file system of its own of half a MiB, and a function that makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if shutil.which("mount") is None or mount("size=512k").returncode:
        pytest.skip("this process may not mount a file system")
    yield place, lambda: mount("remount", "size=64m").check_returncode()
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("size", [300, 400])
def test_write_pyramid__a_full_disk_is_an_error_and_the_build_goes_on_with_more_room(tmp_path, small_disk, size):
    disk, enlarge = small_disk
    # Of 300 samples level 0 finds room, and the coarser levels do not; of 400, not even that.
    image = np.random.default_rng(0).integers(0, 2**16, (size, size), "uint16")
    options = {"scale_factors": [2, 4, 8], "chunks": 32, "workers": 2, "memory_limit": "300KB", "compressors": None}
    with pytest.raises(OSError, match="No space left") as stopped:
        ms.write_pyramid(image, disk / "a.zarr", **options)
    assert stopped.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(stopped.value.filename)
    assert any("resume=True" in note for note in stopped.value.__notes__)
    assert_unfinished(str(disk / "a.zarr"))
    enlarge()
    ms.write_pyramid(image, disk / "a.zarr", resume=True, **options)
    ms.write_pyramid(image, tmp_path / "whole", **options)
    assert hashes(disk / "a.zarr") == hashes(tmp_path / "whole")
