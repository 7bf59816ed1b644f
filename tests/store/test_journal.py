"""Interrupted builds: what the journal knows, who may write, and that what is resumed is what was begun."""

import itertools

import numpy as np
import pytest
import zarr

from multiscale_sampler import (
    add_levels,
    append_pyramid,
    create_test_image,
    open_image,
    open_pyramid,
    rebuild_levels,
    remove_levels,
    update_pyramid,
    write_pyramid,
)
from multiscale_sampler.build import engine
from multiscale_sampler.plan.plan import Pass
from multiscale_sampler.store import Journal, Record, claim, place_of
from multiscale_sampler.store.marks import RECORD_FORMAT
from tests.data import hashes


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("local", [True, False])
def test_journal__knows_what_was_marked(tmp_path, zarr_format, local):
    store = zarr.storage.LocalStore(tmp_path / "a") if local else zarr.storage.MemoryStore()
    group = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    journal = Journal.of(group, "pass0", 2000)
    assert not journal.done().any()
    for number in (0, 7, 1999):
        journal.mark(number)
    assert np.flatnonzero(Journal.of(group, "pass0", 2000).done()).tolist() == [0, 7, 1999]


@pytest.mark.parametrize(
    "make", [lambda path: path / "a", lambda path: zarr.storage.MemoryStore()], ids=["local", "memory"]
)
def test_claim__holds_a_place_for_one_build(tmp_path, make):
    place = place_of(make(tmp_path))
    with claim(place), pytest.raises(FileExistsError, match="another build is writing"), claim(place):
        pass
    with claim(place):
        pass


class StopError(Exception):
    """What a test stops a build with."""


def stop_after(monkeypatch, count):
    """Make every region after `count` of them fail; return a function that lets them go on."""
    calls = itertools.count()
    reduce_region = engine.reduce_region

    def failing(*args):
        if next(calls) >= count:
            raise StopError
        reduce_region(*args)

    monkeypatch.setattr(engine, "reduce_region", failing)
    return lambda: monkeypatch.setattr(engine, "reduce_region", reduce_region)


# Little memory, so that there are many regions and several passes.
OPTIONS = {"scale_factors": [2, 4, 8], "chunks": 8, "memory_limit": "300KB", "workers": 2}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Return a stored image, which builds only read."""
    place = tmp_path_factory.mktemp("image") / "raw"
    create_test_image(place, "0", shape=(50, 45, 41), chunks=(8, 8, 8))
    return open_image(place, "0", scale=2.0, units="micrometer")


@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_write_pyramid__resumes_to_the_same_bits(tmp_path, image, monkeypatch, layout, version, count):
    options = {**OPTIONS, "layout": layout, "version": version}
    write_pyramid(image, tmp_path / "whole", **options)
    go_on = stop_after(monkeypatch, count)
    with pytest.raises(StopError) as stopped:
        write_pyramid(image, tmp_path / "parts", **options)
    assert any("resume=True" in note for note in stopped.value.__notes__)
    go_on()
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(tmp_path / "parts")
    # Other memory and workers give other regions; what was begun goes on in its own.
    write_pyramid(image, tmp_path / "parts", resume=True, **{**options, "memory_limit": "1GB", "workers": 1})
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def test_write_pyramid__does_nothing_twice_when_it_resumes(tmp_path, image, monkeypatch):
    go_on = stop_after(monkeypatch, 3)
    with pytest.raises(StopError):
        write_pyramid(image, tmp_path / "parts", **OPTIONS)
    go_on()
    done = (
        Journal.of(
            zarr.open_group(tmp_path / "parts/multiscale_sampler_build/new/multiscale_sampler_build"), "pass0", 0
        )
        .done()
        .sum()
    )
    told = []
    write_pyramid(image, tmp_path / "parts", resume=True, progress=told.append, **OPTIONS)
    assert done > 1
    assert told[done - 1].done > 0
    assert told[-1].done == told[-1].total


# What another version may have recorded: nothing of it may be looked at.
OTHERS = [
    {"format": 2, "passes": [["?"]]},
    {"format": 1, "passes": 0},
    {"format": 99, "passes": [[0, {"what": 1}]], "fingerprint": 0},
]
REFUSED = r"another version of multiscale_sampler began \(its record has format (1|2|99), this version continues 3\); "


@pytest.mark.parametrize("record", OTHERS)
def test_write_pyramid__refuses_to_resume_what_is_recorded_in_another_format(tmp_path, image, record):
    group = zarr.open_group(tmp_path / "parts", mode="w")
    group.attrs["multiscale_sampler"] = {"written": ["scale0/image"], **record}
    before = hashes(tmp_path / "parts")
    with pytest.raises(ValueError, match=REFUSED + ".*start over .*mode='w'"):
        write_pyramid(image, tmp_path / "parts", resume=True, **OPTIONS)
    assert hashes(tmp_path / "parts") == before
    write_pyramid(image, tmp_path / "parts", mode="w", **OPTIONS)
    assert len(open_pyramid(tmp_path / "parts").children) == 4


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("record", OTHERS)
def test_add_levels__refuses_what_is_recorded_in_another_format(tmp_path, record, resume):
    create_test_image(tmp_path / "parts", "0", shape=(90, 70), chunks=(16, 16))
    zarr.open_group(tmp_path / "parts").attrs["multiscale_sampler"] = record
    before = hashes(tmp_path / "parts")
    with pytest.raises(ValueError, match=REFUSED + ".*new store"):
        add_levels(tmp_path / "parts", resume=resume, **OPTIONS)
    assert hashes(tmp_path / "parts") == before


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("record", OTHERS)
def test_changes__refuse_what_is_recorded_in_another_format(tmp_path, record, resume):
    write_pyramid(np.ones((20, 20), "u1"), tmp_path / "one", scale_factors=[2])
    zarr.open_group(tmp_path / "one").attrs["multiscale_sampler"] = record
    before = hashes(tmp_path / "one")
    for change in (
        lambda place: update_pyramid(place, {"y": 3}, resume=resume),
        lambda place: append_pyramid(np.ones((2, 20), "u1"), place, "y", resume=resume),
        lambda place: rebuild_levels(place, method="max", resume=resume),
        lambda place: remove_levels(place, [1]),
    ):
        with pytest.raises(ValueError, match=REFUSED + ".*new store"):
            change(tmp_path / "one")
    assert hashes(tmp_path / "one") == before


def test_record__has_the_keys_of_its_format():
    # Where this fails, RECORD_FORMAT is to be raised with it.
    step = Pass(source=0, levels=(0,), written=(0,), region=(8,), carried=(), region_nbytes=1)
    assert RECORD_FORMAT == 3
    assert Record({"image": "a"}, ((0, step),)).to_dict() == {
        "format": 3,
        "filled": None,
        "fingerprint": {"image": "a"},
        "passes": [
            [
                0,
                {"source": 0, "levels": (0,), "written": (0,), "region": (8,), "carried": (), "region_nbytes": 1},
            ]
        ],
    }


def test_write_pyramid__resume_begins_where_nothing_was_begun(tmp_path, image):
    write_pyramid(image, tmp_path / "new", resume=True, **OPTIONS)
    assert len(open_pyramid(tmp_path / "new").children) == 4


@pytest.mark.parametrize("left", ["group", ".zattrs", "zarr.0.partial"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_write_pyramid__resume_begins_where_a_build_had_hardly_begun(tmp_path, image, left, version):
    # What zarr has written of a group before the build could say in it what it is.
    place = tmp_path / "new"
    if left == "group":
        zarr.open_group(place, mode="w", zarr_format=2 if version == "0.4" else 3)
    else:
        place.mkdir()
        (place / left).write_text("{}")
    with pytest.raises(FileExistsError, match="exists"):
        write_pyramid(image, place, version=version, **OPTIONS)
    write_pyramid(image, place, resume=True, version=version, **OPTIONS)
    assert len(open_pyramid(place).children) == 4


@pytest.mark.parametrize("left", ["attributes", "array", "file", "other-format"])
def test_write_pyramid__resume_begins_nowhere_else(tmp_path, image, left):
    place = tmp_path / "new"
    group = zarr.open_group(place, mode="w", zarr_format=2 if left == "other-format" else 3)
    match left:
        case "attributes":
            group.attrs["mine"] = 1
        case "array":
            create_test_image(place, "0", shape=(8, 8), chunks=(8, 8))
        case "file":
            (place / "zarr.json").unlink()
            (place / "letter.txt").write_text("mine")
    before = hashes(place)
    with pytest.raises(FileExistsError):
        write_pyramid(image, place, resume=True, **OPTIONS)
    assert hashes(place) == before


def test_write_pyramid__refuses_to_resume_another_build(tmp_path, image, monkeypatch):
    go_on = stop_after(monkeypatch, 3)
    with pytest.raises(StopError):
        write_pyramid(image, tmp_path / "parts", **OPTIONS)
    go_on()
    with pytest.raises(ValueError, match="used different values for axes, chunks, dtype, scale_factors, shards"):
        write_pyramid(image, tmp_path / "parts", resume=True, **{**OPTIONS, "scale_factors": [2, 4]})
    with pytest.raises(ValueError, match="used different values for compressors, fill_value, filters, serializer"):
        write_pyramid(image + np.uint16(0), tmp_path / "parts", resume=True, **OPTIONS)
    with pytest.raises(FileExistsError, match="contains an interrupted build"):
        write_pyramid(image, tmp_path / "parts", **OPTIONS)
    write_pyramid(image, tmp_path / "parts", mode="w", **OPTIONS)
    assert len(open_pyramid(tmp_path / "parts").children) == 4


def test_write_pyramid__refuses_to_resume_another_one_that_has_ended(tmp_path, image):
    write_pyramid(image, tmp_path / "whole", **OPTIONS)
    before = hashes(tmp_path / "whole")
    with pytest.raises(FileExistsError, match="nothing to resume"):
        write_pyramid(image + np.uint16(1), tmp_path / "whole", resume=True, **OPTIONS)
    assert hashes(tmp_path / "whole") == before


def test_write_pyramid__resume_replaces_what_has_ended_where_that_is_asked(tmp_path, image):
    write_pyramid(np.ones((20, 20), "u1"), tmp_path / "one", scale_factors=[2])
    write_pyramid(image, tmp_path / "one", resume=True, mode="w", **OPTIONS)
    assert len(open_pyramid(tmp_path / "one").children) == 4


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_add_levels__resumes_and_refuses_without(tmp_path, monkeypatch, zarr_format):
    options = {**OPTIONS, "memory_limit": "20KB"}
    for name in ("whole", "parts"):
        create_test_image(tmp_path / name, "0", shape=(90, 70), chunks=(16, 16), zarr_format=zarr_format)
    add_levels(tmp_path / "whole", **options)
    go_on = stop_after(monkeypatch, 2)
    with pytest.raises(StopError):
        add_levels(tmp_path / "parts", **options)
    go_on()
    with pytest.raises(FileExistsError, match="resume=True"):
        add_levels(tmp_path / "parts", **options)
    add_levels(tmp_path / "parts", resume=True, **options)
    ours = {name: value for name, value in hashes(tmp_path / "parts").items() if name.startswith(("1", "2", "3"))}
    assert ours == {name: hashes(tmp_path / "whole")[name] for name in ours}
    assert sorted(zarr.open_group(tmp_path / "parts")) == ["0", "1", "2", "3"]


def test_write_pyramid__refuses_a_second_builder(tmp_path, image):
    def build_again(progress):
        with pytest.raises(FileExistsError, match="another build is writing"):
            write_pyramid(image, tmp_path / "one", mode="w", **OPTIONS)
        told.append(progress)

    told = []
    write_pyramid(image, tmp_path / "one", progress=build_again, **OPTIONS)
    assert told
