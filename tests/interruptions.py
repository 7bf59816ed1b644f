"""A build in a process of its own that kills itself, by SIGKILL, at a chosen moment of its work on files.

A moment is a file operation below the target, counted within its phase of the build: every opening for writing,
folder, renaming and removal that the interpreter makes. The process dies right before it, or, "torn", with a part of
the file written. Processes are forked from a server that has loaded all that a build loads, so that a moment costs
little.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import multiscale_sampler as ms
from multiscale_sampler.build import engine

SCRATCH = "multiscale_sampler_build"
# Where a pyramid is until it takes its place; where a zip file is built, and what it is before it takes its place.
STAGE = f"{SCRATCH}{os.sep}new{os.sep}"
STORE_OF_ZIP, PACKED = "pyramid.zarr", "packed.zip"
PHASES = ("creation", "level 0", "levels", "carry", "journal", "removal", "publishing", "making room")
LONGEST_SECONDS = 120
FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}

# What is loaded with the first block (numba, the compiled loop) is loaded here, and starts no thread, which would not
# outlive a fork.
ms.coarsen(ms.to_image(np.ones((9, 9), "uint16")), 2)

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["pytest", __name__])


@dataclass(frozen=True)
class Moment:
    """When a build is killed."""

    phase: str
    number: int
    torn: bool = False

    def __str__(self):
        return f"{self.phase}-{self.number}{'-torn' * self.torn}"


@dataclass(frozen=True)
class Outcome:
    """What became of a build in a process of its own."""

    killed: bool
    operations: Counter[str]
    """How many file operations there were in each phase."""
    begun: int
    """How many regions were begun."""


class Watch:
    """An audit hook of the interpreter that counts file operations below a folder, and kills at a moment."""

    def __init__(self, folder, log, moment):
        self.folder = f"{folder}{os.sep}"
        self.log = log
        self.moment = moment
        self.counts = Counter()
        self.removing = False
        self.lock = threading.RLock()

    def __call__(self, event, args):
        if event not in FILE_EVENTS or (event == "open" and not _writes(args)):
            return
        # The removal of a folder names its files by where it stands.
        removal = event in ("os.remove", "os.rmdir") and args[-1] >= 0
        path = "" if removal else os.fsdecode(args[1] if event in ("os.rename", "os.link") else args[0])
        if removal or path.startswith(self.folder):
            with self.lock:
                # An opening that keeps what a file has cannot leave it torn.
                self._count(path, removal, tears=event == "open" and _truncates(args))

    def _count(self, path, removal, *, tears):
        phase = self._phase(path.removeprefix(self.folder), removal)
        moment = self.moment
        if moment and (phase, self.counts[phase]) == (moment.phase, moment.number):
            # An opening in a folder that is not there leaves nothing.
            if moment.torn and tears and os.path.isdir(os.path.dirname(path)):
                self.moment = None
                Path(path).write_bytes(b"torn")
            os.kill(os.getpid(), signal.SIGKILL)
        self.counts[phase] += 1
        os.write(self.log, f"{phase}\n".encode())

    def _phase(self, path, removal):
        begun = self.counts["journal"] > 0
        self.removing |= removal and begun
        path = path.removeprefix(f"{STORE_OF_ZIP}{os.sep}").removeprefix(STAGE)
        top, *rest = Path(path).parts or ("",)
        if top == PACKED:
            return "packing"
        if removal:
            return "removal" if begun else "making room"
        if top == SCRATCH and rest[:1] in ([], ["zarr.json"], [".zgroup"], [".zmetadata"], ["new"]):
            return "creation"
        if top == SCRATCH and rest[0] in ("root", "old", "swap.json", "swap.json.partial"):
            return "publishing"
        if top == SCRATCH:
            return "carry" if rest and rest[0].startswith("carry") else "journal"
        if self.removing:
            return "publishing"
        # Of the arrays in a group, those of the levels are named "image", or have a group for their own.
        array = top if rest[:1] != ["image"] else f"{top}/image"
        if array in ("0", "scale0/image") and _is_chunk(path):
            return "level 0"
        return "levels" if (top.isdigit() or rest[:1] == ["image"]) and _is_chunk(path) else "creation"


def _writes(args):
    _, mode, flags = args
    return any(letter in "wxa+" for letter in mode or "") or bool(flags & (os.O_WRONLY | os.O_RDWR))


def _truncates(args):
    _, mode, flags = args
    return "w" in (mode or "") or bool(flags & os.O_TRUNC)


def _is_chunk(path):
    return Path(path).name.isdigit()


def _child(call, source, target, options, log, moment):
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    reduce_region = engine.reduce_region

    def counted(*args):
        os.write(log, b"region\n")
        reduce_region(*args)

    engine.reduce_region = counted
    watch = Watch(f"{target}.{SCRATCH}" if target.endswith(".ozx") else target, log, moment)
    sys.addaudithook(watch)
    BUILDS[call](source, target, options)


def _write(source, target, options):
    image = ms.open_image(source, "0", scale=2.0, units="micrometer")
    ms.write_pyramid(image, target, **options)


def _add(source, target, options):
    ms.add_levels(target, **options)


BUILDS = {"write_pyramid": _write, "add_levels": _add}


def exit_code_of(process):
    """Run a process, and return how it ended; one that does not is killed, and told of."""
    process.start()
    process.join(LONGEST_SECONDS)
    ended = process.exitcode is not None
    process.kill()
    process.join()
    code = process.exitcode
    process.close()
    assert ended, f"the process did not end in {LONGEST_SECONDS} s"
    return code


def build_in_child(call, source, target, options, log, moment=None):
    """Build in a process of its own, which is killed at a moment if there is one."""
    process = server.Process(target=_child, args=(call, source, target, options, log, moment))
    code = exit_code_of(process)
    lines = Counter(Path(log).read_text().splitlines())
    Path(log).unlink()
    begun = lines.pop("region", 0)
    assert code in (0, -signal.SIGKILL), "the build failed, see its standard error"
    return Outcome(code != 0, lines, begun)
