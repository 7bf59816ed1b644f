"""Marks of unfinished builds in stores from anybody: no path and no type in them is believed unchecked."""

import json

import numpy as np
import pytest
import zarr

from multiscale_sampler import (
    append_pyramid,
    open_pyramid,
    rebuild_levels,
    remove_levels,
    update_pyramid,
    write_labels,
    write_pyramid,
)
from multiscale_sampler.cli import main

from ..data import hashes, noise

BASE = noise((32, 48))
MARK = "multiscale_sampler"
# Paths that must not be removed, whoever states them; `OTHER` is a store beside.
OTHER = "../other.zarr"
FOREIGN = ["", ".", "..", OTHER, "/etc", "tables", "labels", "scale0", "scale0/.", "scale0/../tables", "0/../tables"]
ODD = [[1], "x", 7, None, True, [], {"written": "tables"}, {"written": [7]}, {"passes": [[7, {"x": 1}]]}]
ODD += [{"passes": {}}, {"removing": "0"}, {"fingerprint": []}, {"fingerprint": {"edited": [[[5, 0], [0, 1]]]}}]
ODD += [{"fingerprint": {"append": "y"}}, {"format": "2"}, {"removing": ["scale1/image"], "levels": "1"}]


def update(place):
    update_pyramid(place, {"y": slice(0, 4)}, resume=True)


def replace(place):
    write_pyramid(BASE, place, mode="w", scale_factors=[2], version=version_of(place))


def resume(place):
    write_pyramid(BASE, place, resume=True, scale_factors=[2], version=version_of(place))


CHANGES = {
    "update": update,
    "rebuild": lambda place: rebuild_levels(place, method="max"),
    "append": lambda place: append_pyramid(BASE, place, dim="y"),
    "remove": lambda place: remove_levels(place, [1]),
    "replace": replace,
    "resume": resume,
}


def version_of(place):
    return "0.4" if zarr.open_group(place, mode="r").metadata.zarr_format == 2 else "0.5"


def made(folder, version="0.5", layout="datatree"):
    """Return a pyramid with labels and foreign tables, and another store beside it."""
    zarr.create_array(folder / "other.zarr", data=BASE)
    place = folder / "p.zarr"
    write_pyramid(BASE, place, scale_factors=[2, 4], version=version, layout=layout)
    zarr.open_group(place, mode="r+").create_array("tables", data=np.arange(5))
    write_labels(np.ones(BASE.shape, "uint8"), place, "cells")
    return place


@pytest.fixture(scope="module", params=[("0.5", "datatree"), ("0.4", "flat")], ids=" ".join)
def standing(request, tmp_path_factory):
    """Return a pyramid that no test may change but for its mark, and its own attributes."""
    place = made(tmp_path_factory.mktemp("marks"), *request.param)
    return place, zarr.open_group(place, mode="r", use_consolidated=False).attrs.asdict()


def marked(place, mark, attributes):
    """Put a mark beside a group's attributes."""
    zarr.open_group(place, mode="r+", use_consolidated=False).attrs.put({**attributes, MARK: mark})


def refused(place, change, match):
    """Check that a change is refused, and that all is there after it."""
    before = hashes(place.parent)
    with pytest.raises((ValueError, FileExistsError), match=match):
        CHANGES[change](place)
    assert hashes(place.parent) == before


@pytest.mark.parametrize("change", ["update", "rebuild", "append", "remove"])
def test_removal__of_what_a_mark_states_is_of_our_own_levels_alone(standing, change):
    place, attributes = standing
    for path in FOREIGN:
        if path == "scale0" and not (place / path).exists():
            continue
        marked(place, {"removing": [path], "levels": [1]}, attributes)
        refused(place, change, "nothing was removed")
    open_pyramid(place)


def test_removal__is_not_of_levels_that_are_listed(standing):
    place, attributes = standing
    for path in ("0", "2") if (place / "0").exists() else ("scale0/image", "scale2/image", "scale2/y"):
        marked(place, {"removing": [path], "levels": [1]}, attributes)
        refused(place, "update", "nothing was removed")


def test_replacing__removes_no_path_that_a_mark_states_and_that_is_not_ours(standing):
    place, _ = standing
    for path in FOREIGN:
        marked(place, {"written": ["1", path]}, {})
        refused(place, "replace", "nothing was removed")


def test_resuming__removes_no_path_that_a_mark_states_and_that_is_not_ours(tmp_path, monkeypatch):
    place = made(tmp_path)
    monkeypatch.setattr("multiscale_sampler.build.exporting.run_passes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace(place)
    monkeypatch.undo()
    new = place / "multiscale_sampler_build/new"
    attributes = zarr.open_group(new, mode="r", use_consolidated=False).attrs.asdict()
    begun = attributes.pop(MARK)
    for path in FOREIGN:
        marked(new, {**begun, "replaced": [*begun["replaced"], path]}, attributes)
        refused(place, "resume", "nothing was removed")
    marked(new, begun, attributes)
    resume(place)
    assert np.array_equal(open_pyramid(place)["scale0/image"], BASE)


def interrupt(*_):
    raise KeyboardInterrupt


def test_replacing__believes_the_metadata_of_a_pyramid_no_more_than_a_mark(tmp_path):
    place = made(tmp_path)
    document = json.loads((place / "zarr.json").read_text())
    document["attributes"]["ome"]["multiscales"][0]["metadata"]["written"].append("tables")
    (place / "zarr.json").write_text(json.dumps(document))
    refused(place, "replace", "'tables' as an array that this package wrote")


@pytest.mark.parametrize("change", list(CHANGES))
def test_changes__of_a_mark_of_any_type_are_one_error(standing, change):
    place, attributes = standing
    for mark in ODD:
        marked(place, mark, {} if change in ("replace", "resume") else attributes)
        refused(place, change, MARK)


@pytest.mark.filterwarnings("ignore:a change of")
def test_reading__does_not_need_the_mark(standing):
    place, attributes = standing
    for mark in ODD:
        marked(place, mark, attributes)
        assert np.array_equal(open_pyramid(place)["scale0"].to_dataset().to_dataarray()[0], BASE)


def test_removal__that_was_interrupted_is_completed_for_levels_of_other_writers(tmp_path):
    place = tmp_path / "p.zarr"
    group = zarr.open_group(place, mode="w")
    for number, step in enumerate((1, 2, 4)):
        group.create_array(f"s{number}", data=BASE[::step, ::step], dimension_names=["y", "x"])
    scales = [[{"type": "scale", "scale": [2.0**number] * 2}] for number in range(3)]
    datasets = [{"path": f"s{number}", "coordinateTransformations": scale} for number, scale in enumerate(scales)]
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets[:2]}]}
    group.attrs[MARK] = {"removing": ["s2"], "levels": [2]}
    (place / "s2" / "zarr.json").unlink()
    remove_levels(place, [2])
    assert sorted(zarr.open_group(place)) == ["s0", "s1"]
    assert not (place / "s2").exists()


def test_command_line__says_in_one_line_what_is_wrong_with_a_mark(tmp_path, capsys):
    place = made(tmp_path)
    attributes = zarr.open_group(place, mode="r", use_consolidated=False).attrs.asdict()
    marked(place, {"removing": [OTHER], "levels": [1]}, attributes)
    assert main(["rebuild", str(place), "--remove", "--levels", "1"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "nothing was removed" in lines[0]
