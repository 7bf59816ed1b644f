"""Every call that writes, ended at every step of its work on files: readers see old, new or nothing, and it completes.

One small store each. `-m thorough` ends each call at every step, the default run at every third of the calls that have
few, and at as many of the others.
"""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from tests.data import hashes, make_array, noise
from tests.interruptions import server as forkserver
from tests.kills import Scenario, Server, list_steps

OPTIONS = {"chunks": 4, "workers": 1, "memory_limit": "4KB"}
PYRAMID = {"scale_factors": [2], **OPTIONS}
SHAPE = (7, 5)
# At how many steps of a call the default run ends it.
STEPS_OF_DEFAULT = 8


# --- what readers see ------------------------------------------------------------------------------------------


def of_tree(tree):
    """Return the values of all variables of a tree, by path and dims."""
    return {
        f"{node.path.strip('/')}/{name} {variable.dims}": values_of(variable)
        for node in tree.subtree
        for name, variable in node.to_dataset(inherit=False).variables.items()
    }


def values_of(array):
    """Return the values of an array; those that cannot be read are an array all the same, and not nothing."""
    try:
        return np.asarray(array[...])
    except Exception as error:
        return f"unreadable: {error}"


def zarr_store(place):
    return zarr.storage.ZipStore(place, read_only=True) if Path(place).is_file() else str(place)


def by_us(place):
    return of_tree(ms.open_pyramid(place))


def by_xarray(place):
    with xr.open_datatree(zarr_store(place), engine="zarr") as tree:
        return of_tree(tree)


def level_by_xarray(place):
    """Return what xarray makes of the groups of levels, each opened for itself."""
    found = {}
    for path in ("scale0", "scale1", "scale2"):
        try:
            with xr.open_zarr(zarr_store(place), group=path) as level:
                found |= {f"{path}/{name}": values_of(variable) for name, variable in level.variables.items()}
        except (OSError, ValueError, KeyError):
            continue
    return found


def image_by_zarr(group):
    attributes = group.attrs.asdict()
    (entry,) = attributes.get("ome", attributes)["multiscales"]
    values = {one["path"]: values_of(group[one["path"]]) for one in entry["datasets"]}
    # What else the entry states is how we made the levels.
    stated = {key: entry[key] for key in ("axes", "datasets", "coordinateSystems") if key in entry}
    return {**values, "multiscales": json.dumps(stated, sort_keys=True)}


def by_zarr(place):
    """Return what OME-NGFF metadata and zarr alone say."""
    root = zarr.open_group(zarr_store(place), mode="r")
    attributes = root["labels"].attrs.asdict() if "labels" in root else {}
    found = {}
    for path in ("", *(f"labels/{name}/" for name in attributes.get("ome", attributes).get("labels", []))):
        with suppress(KeyError):
            found |= {f"{path}{key}": value for key, value in image_by_zarr(root[path] if path else root).items()}
    return found


def by_ome_zarr(place):
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    nodes = reader.Reader(io.parse_url(str(place)))()
    return {
        f"{Path(node.zarr.path).relative_to(place)}/{number}": values_of(values)
        for node in nodes
        for number, values in enumerate(node.data)
    }


def by_ngff_zarr(place):
    module = pytest.importorskip("ngff_zarr")
    images = module.from_ngff_zarr(str(place)).images
    return {f"{number} {image.dims}": values_of(image.data) for number, image in enumerate(images)}


def by_validate(place):
    return {"ok": "yes"} if ms.validate(place).ok else {}


def old_rows(place):
    """Return what was there before an append."""
    return {"level 0": zarr.open_array(place, path="scale0/image", mode="r")[: len(BASE)]}


READERS = {
    "open_pyramid": by_us,
    "open_datatree": by_xarray,
    "open_zarr": level_by_xarray,
    "zarr": by_zarr,
    "validate": by_validate,
}
CLIENTS = {"ome-zarr": by_ome_zarr, "ngff-zarr": by_ngff_zarr}
NOTHING = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True)
class Seen:
    """What there is in a folder."""

    files: dict[str, str]
    """A hash of each file."""
    sights: dict[str, Any]
    """What each reader sees at each place that may be a store."""


def look(readers, place):
    stores = [path for path in sorted(place.iterdir()) if path.name not in ("raw", "source")]
    sights = {f"{path.name} by {name}": sight(read, path) for path in stores for name, read in readers.items()}
    return Seen(hashes(place), sights)


def sight(read, place):
    try:
        return parts(read(place))
    except NOTHING:
        return {}


def parts(values):
    """Return the values of an image, and of each of its labels; what is not ours may always be seen."""
    found = {}
    for name, value in values.items():
        first, second, *_ = f"{name.strip('/')}/".split("/")
        if not first.startswith("mine"):
            found.setdefault(f"labels/{second}" if first == "labels" else "image", {})[name] = value
    return found


def judge(seen, old, new, *, by_chunks=False, stays=(), kept=()):
    """Return what is wrong: readers that see what was never meant to be there, or nothing of a part that stays.

    With `by_chunks`, each value may be old or new; files under `kept` must be somewhere.
    """
    wrong = []
    there = {*seen.files.values()}
    wrong += [
        f"{name} is lost" for name, content in old.files.items() if name.startswith(kept) and content not in there
    ]
    for reader, found in seen.sights.items():
        before, after = old.sights.get(reader, {}), new.sights.get(reader, {})
        for part in found:
            states = [state[part] for state in (before, after) if part in state]
            is_right = any(is_same(found[part], state) for state in states)
            if not is_right and not (by_chunks and is_mixture(found[part], states)):
                wrong.append(f"{reader}: {part} is neither old nor new: {shown(found[part])}")
        staying = before.keys() & after.keys() & {*stays}
        wrong += [f"{reader}: {part} is not seen" for part in sorted(staying - found.keys())]
        if reader.endswith("by validate") and found and not seen.sights[reader.replace("validate", "open_pyramid")]:
            wrong.append(f"{reader}: valid, but cannot be opened")
    return wrong


def is_same(values, others):
    return values.keys() == others.keys() and all(is_equal(values[name], others[name]) for name in values)


def is_equal(value, other):
    value, other = np.asarray(value), np.asarray(other)
    return value.dtype == other.dtype and value.shape == other.shape and value.tobytes() == other.tobytes()


def is_mixture(values, states):
    """Whether each value is that of some state."""
    return all(
        state.keys() == values.keys() and all(np.shape(state[name]) == np.shape(values[name]) for name in values)
        for state in states
    ) and all(np.any([np.asarray(values[name] == state[name]) for state in states], axis=0).all() for name in values)


def shown(values):
    return {name: value if isinstance(value, str) else np.shape(value) for name, value in values.items()}


# --- calls -----------------------------------------------------------------------------------------------------

BASE = noise(SHAPE, "uint16", seed=1)
OTHER = noise(SHAPE, "uint16", seed=2)
LABELS = noise(SHAPE, "uint8", seed=3) % 5
PLACED = ms.to_image(BASE, "yx", scale=2.0, units="micrometer")
# So large that with so little memory there are several regions, and a second pass that reads what the first one kept.
LARGE = noise((12, 10), "uint16", seed=4)
LITTLE_MEMORY = 400
IN_PASSES = {"image": LARGE, "scale_factors": [2, 4, 8], "memory_limit": LITTLE_MEMORY}
EDITED = {"y": slice(0, 5), "x": slice(1, 3)}


def write(place, *, image=PLACED, target="target", **options):
    ms.write_pyramid(image, place / target, **{**PYRAMID, **options})


def write_old(place, *, target="target", **options):
    """Write what a call finds: another pyramid, beside something that is not ours."""
    write(place, image=OTHER, target=target, **options)
    if (place / target).is_dir():
        zarr_format = 2 if options.get("version") == "0.4" else 3
        make_array(place / target, OTHER, path="mine", dims=("y", "x"), zarr_format=zarr_format)


def with_labels(place, *, target="target", **options):
    write(place, target=target, **options)
    ms.write_labels(LABELS, place / target, "cells", chunks=4, workers=1)


def write_tree(place, **options):
    """Write an image with its labels in one call."""
    tree = ms.to_multiscale(PLACED, scale_factors=[2], chunks=4)
    labels = ms.to_multiscale(ms.to_image(LABELS, "yx", scale=2.0, units="micrometer"), [2], method="mode", chunks=4)
    tree["labels/cells"] = labels
    ms.write_pyramid(tree, place / "target", chunks=4, workers=1, memory_limit="4KB", **options)


def write_base(place, zarr_format=3):
    root = zarr.open_group(place / "target", mode="w", zarr_format=zarr_format, attributes={"mine": 1})
    make_array(place / "target", BASE, dims=("y", "x"), chunks=(4, 4), zarr_format=zarr_format)
    zarr.consolidate_metadata(root.store)


def add(place, **options):
    ms.add_levels(place / "target", scale_factors=[2], workers=1, memory_limit="4KB", **options)


def label(place, *, values=LABELS, **options):
    ms.write_labels(values, place / "target", "cells", **OPTIONS, **options)


def edited(place, **options):
    """Write a pyramid whose level 0 is edited."""
    write(place, **options)
    path = "0" if options.get("layout") == "flat" else "scale0/image"
    box = tuple(EDITED.values())
    zarr.open_array(place / "target", path=path, mode="r+")[box] = OTHER[box]


def edited_in_passes(place):
    write(place, **IN_PASSES)
    zarr.open_array(place / "target", path="scale0/image", mode="r+")[...] = LARGE[::-1]


def update(place, *, edited=EDITED, **options):
    ms.update_pyramid(place / "target", edited, workers=1, **options)


def append(place, **options):
    ms.append_pyramid(OTHER[:5], place / "target", "y", workers=1, **options)


def resume_append(place):
    """Complete an append as its errors say: by `resume`, unless none has begun, or all is there."""
    try:
        append(place, resume=True)
    except ValueError:
        if ms.open_pyramid(place / "target")["scale0"].sizes["y"] == len(BASE):
            append(place)


def rebuild(place, **options):
    ms.rebuild_levels(place / "target", method="max", workers=1, **options)


def remove(place):
    ms.remove_levels(place / "target", [1])


def convert(place, *, target="target", **options):
    ms.convert(place / "source", place / target, **options)


def convert_in_place(place):
    ms.convert(place / "target", version="0.6")


def build(place, *, option=None):
    command = ["build", place / "raw", place / "target", "--scale", 2, "--unit", "micrometer", "--factors", 2]
    code = main(
        [
            str(each)
            for each in (*command, "--chunks", 4, "--workers", 1, "--memory-limit", "4KB", *filter(None, [option]))
        ]
    )
    assert code == 0


def raw(place):
    make_array(place / "raw", BASE, dims=("y", "x"), chunks=(4, 4))


def writing(call=write, **options):
    """A new pyramid; a call again resumes, or starts over."""
    made = partial(call, **options)
    return {"call": made, "again": (partial(made, resume=True), partial(made, mode="w"))}


def replacing(**options):
    return {"prepare": partial(write_old, **options), **writing(mode="w", **options), "kept": ("target/mine",)}


def changing(prepare, call, *more, **settings):
    """A change of what is there; a call again resumes it, or is one of those named."""
    calls = {"call": call, "again": (partial(call, resume=True), *more)}
    return {"prepare": prepare, **calls, "stays": ("image", "labels/cells"), **settings}


def relabelling(*, kept, **options):
    relabel = partial(label, values=LABELS[::-1], mode="w")
    # The image is not valid for as long as a label that it lists is exchanged.
    readers = {name: read for name, read in READERS.items() if name != "validate"}
    settings = {"stays": ("image",), "kept": kept, "readers": readers}
    return changing(partial(with_labels, **options), relabel, relabel, **settings)


def updating(**options):
    return changing(partial(edited, **options), update, update, by_chunks=True, kept=("target/scale0", "target/0"))


def appending(**options):
    # What readers see beside an append is another question (row S-7 of the cases: sizes change one by one).
    readers = {"old rows": old_rows}
    prepare = partial(write, **options)
    return {
        "prepare": prepare,
        "call": append,
        "again": (resume_append,),
        "stays": ("image", "labels/cells"),
        "readers": readers,
    }


def again(prepare, call, **settings):
    """A change that is completed by the same call."""
    return {"prepare": prepare, "call": call, "again": (call,), "stays": ("image", "labels/cells"), **settings}


def nothing(place):
    pass


V2, FLAT, SHARDS = {"version": "0.4"}, {"layout": "flat"}, {"shards": 8}
THREE = {"scale_factors": [2, 4]}
SOURCE = {"target": "source"}
SCENARIOS = {
    "write": {"prepare": nothing, **writing()},
    "write 0.4": {"prepare": nothing, **writing(**V2)},
    "write flat": {"prepare": nothing, **writing(**FLAT)},
    "write flat 0.4": {"prepare": nothing, **writing(**FLAT, **V2)},
    "write digests": {"prepare": nothing, **writing(**FLAT, digests=True)},
    "write shards": {"prepare": nothing, **writing(**FLAT, **SHARDS)},
    "write in passes": {"prepare": nothing, **writing(**FLAT, **IN_PASSES)},
    "write labels too": {"prepare": nothing, **writing(write_tree, **FLAT)},
    "write .zip": {"prepare": nothing, **writing(target="a.zip", **FLAT, **V2)},
    "write .ozx": {"prepare": nothing, **writing(target="a.ozx")},
    "replace": replacing(),
    "replace 0.4": replacing(**V2),
    "replace flat": replacing(**FLAT),
    "replace flat 0.4": replacing(**FLAT, **V2),
    "replace .zip": replacing(target="a.zip", **FLAT, **V2),
    "replace .ozx": replacing(target="a.ozx"),
    "add_levels": changing(write_base, add, kept=("target/0",)),
    "add_levels v2": changing(partial(write_base, zarr_format=2), add, kept=("target/0",)),
    "write_labels": changing(write, label, partial(label, mode="w"), kept=("target/scale",)),
    "write_labels flat 0.4": changing(partial(write, **FLAT, **V2), label, kept=("target/0", "target/1")),
    "replace labels": relabelling(kept=("target/scale",)),
    "replace labels flat 0.4": relabelling(**FLAT, **V2, kept=("target/0", "target/1")),
    "update": updating(),
    "update flat 0.4": updating(**FLAT, **V2),
    "update digests": updating(digests=True),
    "update shards": updating(**SHARDS),
    "update in passes": changing(
        edited_in_passes,
        partial(update, edited={}, memory_limit=LITTLE_MEMORY),
        by_chunks=True,
        kept=("target/scale0",),
    ),
    "append": appending(),
    "append 0.4": appending(**V2),
    "append shards": appending(**SHARDS),
    "rebuild": changing(write, rebuild, by_chunks=True, kept=("target/scale0",)),
    "rebuild flat 0.4": changing(partial(write, **FLAT, **V2), rebuild, by_chunks=True, kept=("target/0",)),
    "remove": again(partial(write, **THREE), remove, kept=("target/scale0", "target/scale2")),
    "remove 0.4": again(partial(write, **THREE, **V2), remove, kept=("target/scale0", "target/scale2")),
    "remove flat 0.4": again(partial(write, **THREE, **FLAT, **V2), remove, kept=("target/0", "target/2")),
    "convert": changing(partial(write, **SOURCE), partial(convert, version="0.6"), kept=("source",)),
    "convert flat": changing(partial(with_labels, **SOURCE, **FLAT), partial(convert, version="0.4"), kept=("source",)),
    "convert flat 0.4": changing(
        partial(with_labels, **SOURCE, **FLAT, **V2), partial(convert, version="0.5"), kept=("source",)
    ),
    "convert to .ozx": changing(
        partial(with_labels, **SOURCE, **FLAT), partial(convert, target="a.ozx", version="0.6"), kept=("source",)
    ),
    "convert in place": again(with_labels, convert_in_place, kept=("target/scale", "target/labels/cells/s")),
    "command line": {
        "prepare": raw,
        "call": build,
        "again": (partial(build, option="--resume"), partial(build, option="--overwrite")),
        "kept": ("raw",),
    },
}


def scenario(name, readers):
    settings = {"readers": readers, **SCENARIOS[name]}
    judging = {key: settings.pop(key) for key in ("by_chunks", "stays", "kept") if key in settings}
    return Scenario(look=partial(look, settings.pop("readers")), judge=partial(judge, **judging), **settings)


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_kills__at_some_steps(tmp_path, server, name):
    walk = server.walk(scenario(name, READERS), tmp_path, most=STEPS_OF_DEFAULT, first=list(SCENARIOS).index(name))
    assert walk.walked
    assert walk.faults == []


@pytest.mark.thorough
@pytest.mark.parametrize("name", SCENARIOS)
def test_kills__at_every_step(tmp_path, server, name):
    walk = server.walk(scenario(name, READERS | CLIENTS), tmp_path)
    assert walk.walked == walk.steps
    assert walk.faults == []


# --- the walk itself -------------------------------------------------------------------------------------------


def work_on_files(place):
    """Change files in every way that the package, zarr and the standard library do."""
    folder = place / "a" / "b"
    folder.mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    (folder / "text").write_text("text")
    with open(folder / "plain", "wb", buffering=0) as file:
        file.write(b"unbuffered")
    with open(folder / "plain", "r+b") as file:
        file.write(b"again")
    descriptor = os.open(folder / "marks", os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, b"12", 3)
    os.write(descriptor, b"1")
    os.close(descriptor)
    shutil.copyfile(folder / "text", folder / "copy")
    os.replace(folder / "plain", folder / "renamed")
    os.link(folder / "renamed", folder / "linked")
    os.truncate(folder / "linked", 1)
    (folder / "copy").unlink()
    (folder / "copy").unlink(missing_ok=True)
    shutil.rmtree(place / "a")


STEPS_ON_FILES = """
os.mkdir a, os.mkdir a/b,
open a/b/text, write a/b/text, half a write a/b/text,
open a/b/plain, write a/b/plain, half a write a/b/plain, write a/b/plain, half a write a/b/plain,
open a/b/marks, write a/b/marks, half a write a/b/marks, write a/b/marks,
open a/b/copy, write a/b/copy, half a write a/b/copy,
os.rename a/b/plain, os.link a/b/renamed, os.truncate a/b/linked, os.remove a/b/copy,
os.remove linked, os.remove marks, os.remove renamed, os.remove text, os.rmdir b, os.rmdir a
"""


def test_steps__are_all_that_changes_files(tmp_path):
    process = forkserver.Process(target=list_steps, args=(work_on_files, tmp_path, tmp_path / "log"))
    process.start()
    process.join()
    assert process.exitcode == 0
    steps = (tmp_path / "log").read_text().splitlines()
    expected = [step.strip() for step in STEPS_ON_FILES.split(",")]
    # A folder lists its files in any order.
    assert steps[:21] == expected[:21]
    assert sorted(steps[21:]) == sorted(expected[21:])


def write_old_file(place):
    (place / "file").write_text("the old")


def replace_badly(place):
    (place / "file").unlink(missing_ok=True)
    (place / "file").write_text("the new")


def file_in(place):
    return (place / "file").read_text() if (place / "file").exists() else None


def judge_file(seen, old, new):
    return [] if seen in (old, new) else [f"{seen!r}"]


def test_walk__finds_what_is_lost_or_torn(tmp_path, server):
    bad = Scenario(write_old_file, replace_badly, (replace_badly,), file_in, judge_file)
    walk = server.walk(bad, tmp_path)
    assert walk.steps == 5
    assert walk.faults == [
        "step 1 (open place/file): None",
        "step 2 (write place/file): ''",
        "step 3 (half a write place/file): 'the'",
    ]


def test_walk__finds_what_is_not_completed(tmp_path, server):
    bad = Scenario(write_old_file, replace_badly, (file_in,), file_in, judge_file)
    walk = server.walk(bad, tmp_path, most=2, first=3)
    assert walk.walked == 2
    assert walk.faults == [
        "step 0 (os.remove place/file): called again, these differ: ['file']",
        "step 3 (half a write place/file): 'the'",
        "step 3 (half a write place/file): called again, these differ: ['file']",
    ]
