"""A call in a process of its own that ends, by `os._exit`, at a chosen step of its work on files.

A step is whatever changes a file system: a file made or emptied, a folder made, a renaming, a link, a removal, and each
write to a file, which is two steps: right before it, and torn, when half of it is done. An audit hook of the
interpreter sees all of them but writes; these go through the lowest calls that Python has, which are replaced.
"""

import builtins
import errno
import io
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import zarr

from tests.data import hashes
from tests.interruptions import server

ENDED = 86
"""How a process ends at a step."""
LONGEST_SECONDS = 60
"""No call of the tests takes a tenth of that."""
NAMES = str | bytes | os.PathLike
NAMING_EVENTS = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate"}


class Steps:
    """The steps of this process below a folder, listed in a file; at the number `last`, if there is one, it ends."""

    def __init__(self, folder: Path, log: str | Path, last: int | None = None):
        self.folder = f"{folder}{os.sep}"
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.last = last
        self.count = 0
        self.lock = threading.RLock()
        self.write_plainly = os.write

    def watch(self):
        """Watch this process from now on, for good."""
        watch_writes(self)
        sys.addaudithook(self._on_event)

    def _on_event(self, event, args):
        if (event == "open" and _makes_or_empties(*args)) or (event in NAMING_EVENTS and not _is_idle(event, args)):
            self.step(event, args[0])

    def step(self, what, name, torn=lambda: None):
        """Count a step below the folder; at the last one, do what is `torn` of it, and end the process."""
        path = os.fsdecode(name) if isinstance(name, NAMES) else str(name)
        # A removal of a folder names what is in it relative to that.
        if os.path.isabs(path) and not path.startswith(self.folder):
            return
        with self.lock:
            if self.count == self.last:
                # Other threads wait here until the process is gone.
                torn()
                os._exit(ENDED)
            self.count += 1
            self.write_plainly(self.log, f"{what} {path.removeprefix(self.folder)}\n".encode())

    def write(self, store, values, name):
        """Write values by `store` in two steps."""
        view = memoryview(values).cast("B")
        self.step("write", name)
        if len(view) > 1:
            self.step("half a write", name, lambda: store(view[: len(view) // 2]))
        return store(view)


def _makes_or_empties(path, _, flags):
    """Whether an opening changes a file, before anything is written to it."""
    if not isinstance(path, NAMES) or not flags & (os.O_WRONLY | os.O_RDWR):
        return False
    return bool(flags & os.O_TRUNC) if os.path.exists(path) else bool(flags & os.O_CREAT) and _has_folder(path)


def _is_idle(event, args):
    """Whether nothing is going to change: a folder cannot be made, or what is to be removed is not there."""
    if event == "os.mkdir":
        return os.path.lexists(args[0]) or not _has_folder(args[0])
    return event == "os.remove" and args[-1] == -1 and not os.path.lexists(args[0])


def _has_folder(path):
    return os.path.isdir(os.path.dirname(os.fsdecode(path)) or os.curdir)


def watch_writes(steps: Steps):
    """Let all writes to files pass through `steps.write`."""
    plain_open, plain_descriptor, plain_write, plain_pwrite = builtins.open, os.open, os.write, os.pwrite
    names = {}

    class WatchedFile(io.FileIO):
        def write(self, values):
            return steps.write(super().write, values, names.get(self.name, self.name))

    def open_file(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if not set(mode) & set("wxa+"):
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = WatchedFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def open_descriptor(path, flags, mode=0o777, *, dir_fd=None):
        descriptor = plain_descriptor(path, flags, mode, dir_fd=dir_fd)
        names[descriptor] = path
        return descriptor

    def write(descriptor, values):
        return steps.write(partial(plain_write, descriptor), values, names.get(descriptor, os.devnull))

    def pwrite(descriptor, values, offset):
        return steps.write(lambda part: plain_pwrite(descriptor, part, offset), values, names.get(descriptor))

    def refuse(*_):
        # `shutil` copies by reads and writes then.
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))

    # All names of one function.
    builtins.open = io.open = sys.modules["_io"].open = open_file
    os.open, os.write, os.pwrite, os.sendfile = open_descriptor, write, pwrite, refuse


def list_steps(call: Callable[[Path], object], folder: Path, log: Path):
    """Make a call in this process, and list its steps in a file."""
    Steps(folder, log).watch()
    call(folder)


def forked(call: Callable[[], object]) -> int:
    """Run a call in a copy of this process; return 0, 1 where it raised, else how it ended."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    # One that hangs is ended by the system.
    signal.alarm(LONGEST_SECONDS)
    code = 1
    try:
        call()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


@dataclass(frozen=True)
class Scenario:
    """A call that writes, what is there before it, and what readers see."""

    prepare: Callable[[Path], object]
    """Make what is in a folder before the call."""
    call: Callable[[Path], object]
    """Make the call, in that folder."""
    again: tuple[Callable[[Path], object], ...]
    """The calls that complete one that ended, of which kills take one each in turn."""
    look: Callable[[Path], Any]
    """Return what readers see in the folder."""
    judge: Callable[[Any, Any, Any], list[str]]
    """Return what is wrong with what readers see after a kill, what they saw before the call, and after it."""


@dataclass(frozen=True)
class Walk:
    """What a walk has found."""

    faults: list[str]
    """What was wrong, with the step."""
    walked: int
    """At how many steps a call was ended."""
    steps: int
    """How many there are, the end of the call included."""


class Server:
    """A process that walks one scenario after another, all that they load being loaded."""

    def __init__(self):
        self.connection, other = multiprocessing.Pipe()
        self.process = server.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def walk(self, scenario: Scenario, folder: Path, *, most: int | None = None, first: int = 0) -> Walk:
        """End a call at each step, or at no more than every third, at regular intervals, and about `most` in all."""
        self.connection.send((scenario, folder, most, first))
        try:
            found = self.connection.recv()
        except EOFError:
            raise AssertionError("the walk did not end, see its standard error") from None
        if isinstance(found, str):
            raise AssertionError(found)
        return found

    def close(self):
        """End the process."""
        self.connection.close()
        self.process.join()


def _serve(connection):
    zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
    dask.config.set(scheduler="synchronous")
    warnings.simplefilter("ignore")
    with suppress(EOFError):
        while True:
            scenario, folder, most, first = connection.recv()
            try:
                connection.send(Walker(scenario, folder).walk(most, first))
            except Exception:
                connection.send(traceback.format_exc())


class Walker:
    """What a walk has in its folder."""

    def __init__(self, scenario, folder):
        self.scenario = scenario
        self.folder = folder
        self.place = self._make("place")
        tempfile.tempdir = str(self._make("tmp"))

    def _make(self, name):
        (self.folder / name).mkdir()
        return self.folder / name

    def walk(self, most=None, first=0):
        scenario, place = self.scenario, self.place
        scenario.prepare(place)
        old = scenario.look(place)
        shutil.copytree(place, self.folder / "before")
        scenario.call(place)
        new, files = scenario.look(place), hashes(place)
        assert self._call(None) == 0
        assert hashes(place) == files, "the call leaves other bits when it is made again from the start"
        steps = [*(self.folder / "log").read_text().splitlines(), "the end"]
        stride = 1 if most is None else max(3, math.ceil(len(steps) / most))
        walked = range(first % stride, len(steps), stride)
        faults = []
        for number in walked:
            code = self._call(number)
            assert code == (ENDED if number < len(steps) - 1 else 0), f"the process ended with {code} at step {number}"
            wrong = self._wrong(number, old, new, files)
            faults += [f"step {number} ({steps[number]}): {line}" for line in wrong]
        return Walk(faults, len(walked), len(steps))

    def _call(self, last):
        """Make the call, where nothing else has been, in a copy of this process that ends at a step."""
        shutil.rmtree(self.place)
        shutil.copytree(self.folder / "before", self.place)
        # Threads do not outlive a fork.
        zarr.core.sync.cleanup_resources()
        assert threading.active_count() == 1
        return forked(partial(self._call_watched, last))

    def _call_watched(self, last):
        log = self.folder / "log" if last is None else os.devnull
        Steps(self.folder, log, last).watch()
        self.scenario.call(self.place)

    def _wrong(self, number, old, new, files):
        """Return what is wrong after the end at a step, and after one more call."""
        signal.alarm(LONGEST_SECONDS)
        for path in self.place.rglob("*.partial"):
            # As if the next call came later: what is new may be a file that somebody is writing.
            os.utime(path, (0, 0))
        wrong = self.scenario.judge(self.scenario.look(self.place), old, new)
        try:
            self.scenario.again[number % len(self.scenario.again)](self.place)
        except Exception as error:
            return [*wrong, f"called again: {type(error).__name__}: {error}"]
        finally:
            signal.alarm(0)
        found = hashes(self.place)
        different = sorted(name for name in found | files if found.get(name) != files.get(name))
        return [*wrong, f"called again, these differ: {different}"] if different else wrong
