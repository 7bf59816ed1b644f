"""Stores held against the specification: good ones pass, each kind of defect is named with its place."""

import contextlib
import json
import re
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import add_levels, open_image, open_pyramid, to_image, validate, write_pyramid
from multiscale_sampler.check.validation import Report

from ..data import Recording, make_array, noise

VERSIONS = ["0.4", "0.5"]


def make(store, version="0.5", layout="datatree", dims="zyx", *, consolidated=False):
    """Write a good pyramid of two levels; return its group, in which things can be broken."""
    base = noise((2, 8, 12)) if dims[0] == "c" else noise((4, 8, 12))
    image = to_image(base, dims, scale={"y": 0.5}, units="micrometer")
    write_pyramid(image, store, scale_factors=[2], version=version, layout=layout)
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    if not consolidated:
        # In zarr v3 they go when the group's own document is written again.
        group.attrs.put(group.attrs.asdict())
        (store / ".zmetadata").unlink(missing_ok=True)
    return group


def document_of(group, version):
    return group.attrs.asdict() if version == "0.4" else group.attrs.asdict()["ome"]


def put(group, version, document):
    group.attrs.put(document if version == "0.4" else {**group.attrs.asdict(), "ome": document})


def findings(store):
    return [(finding.severity, finding.location, finding.message) for finding in validate(store).findings]


def errors_at(store, location):
    report = validate(store)
    assert not report.ok
    return [f for f in report.findings if f.severity == "error" and location in f.location]


# --- good stores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("dims", ["zyx", "cyx", "tyx"])
def test_validate__finds_nothing_wrong_with_good_stores(tmp_path, version, layout, dims):
    make(tmp_path / "p.zarr", version, layout, dims, consolidated=True)
    for place in (tmp_path / "p.zarr", str(tmp_path / "p.zarr"), zarr.open_group(tmp_path / "p.zarr")):
        report = validate(place)
        assert report.findings == ()
        assert report.ok


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_validate__finds_no_error_in_what_add_levels_made(tmp_path, zarr_format):
    make_array(tmp_path / "a.zarr", noise((16, 16)), zarr_format=zarr_format, chunks=(4, 4))
    add_levels(tmp_path / "a.zarr")
    assert validate(tmp_path / "a.zarr").ok


def test_validate__finds_a_group_by_its_path(tmp_path):
    make(tmp_path / "all.zarr" / "inner")
    zarr.open_group(tmp_path / "all.zarr", mode="a")
    assert validate(tmp_path / "all.zarr", "inner").ok
    assert not validate(tmp_path / "all.zarr").ok


def test_validate__reads_no_chunk_of_an_image():
    store = Recording(zarr.storage.MemoryStore())
    write_pyramid(noise((16, 16)), store, scale_factors=[2])
    store.log["read"].clear()
    validate(store)
    assert not [key for key in store.chunks("read") if "image" in key]


def test_validate__names_the_missing_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.zarr"):
        validate(tmp_path / "nothing.zarr")


# --- defects ---------------------------------------------------------------------------------------------------


def test_validate__an_array_is_no_image(tmp_path):
    make_array(tmp_path / "a.zarr", noise((4, 4)))
    report = validate(tmp_path / "a.zarr", "0")
    assert not report.ok
    assert "an array" in report.findings[0].message


@pytest.mark.parametrize("attributes", [{}, {"multiscales": []}, {"ome": {"version": "0.5"}}, {"plate": {}}], ids=str)
def test_validate__a_group_without_metadata_is_no_image(tmp_path, attributes):
    zarr.open_group(tmp_path / "a.zarr", mode="w", attributes=attributes)
    (finding,) = validate(tmp_path / "a.zarr").findings
    assert finding.severity == "error"
    assert "no multiscales" in finding.message
    assert finding.rule


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("level", [0, 1])
def test_validate__an_array_that_is_not_there(tmp_path, version, level):
    group = make(tmp_path / "p.zarr", version)
    del group[f"scale{level}/image"]
    (finding,) = errors_at(tmp_path / "p.zarr", f"scale{level}/image")
    assert "not exist" in finding.message
    assert "path" in finding.rule


@pytest.mark.parametrize("version", VERSIONS)
def test_validate__an_array_that_only_consolidated_metadata_know(tmp_path, version):
    group = make(tmp_path / "p.zarr", version, consolidated=True)
    del group["scale1/image"]
    assert errors_at(tmp_path / "p.zarr", "scale1/image")


def without(key):
    return lambda entry: entry.pop(key)


def _axes(change):
    return lambda entry: change(entry["axes"])


def _transforms(change, level=1):
    return lambda entry: change(entry["datasets"][level]["coordinateTransformations"])


METADATA = {
    "no-axes": (without("axes"), "axes"),
    "no-datasets": (without("datasets"), "multiscales"),
    "no-path": (lambda entry: entry["datasets"][1].pop("path"), "multiscales"),
    "no-transformations": (lambda entry: entry["datasets"][1].pop("coordinateTransformations"), ""),
    "empty-transformations": (_transforms(lambda t: t.clear()), ""),
    "no-scale": (_transforms(lambda t: t.pop(0)), ""),
    "two-scales": (_transforms(lambda t: t.insert(0, t[0])), ""),
    "translation-before-scale": (_transforms(lambda t: t.reverse()), ""),
    "short-scale": (_transforms(lambda t: t[0].update(scale=[1.0, 1.0])), ""),
    "short-both": (_transforms(lambda t: (t[0].update(scale=[1.0]), t[1].update(translation=[1.0]))), ""),
    "zero-scale": (_transforms(lambda t: t[0].update(scale=[0.0, 1.0, 1.0])), ""),
    "text-scale": (_transforms(lambda t: t[0].update(scale=["a", "b", "c"])), ""),
    "null-scale": (_transforms(lambda t: t[0].update(scale=[None, 1.0, 1.0])), ""),
    "affine": (_transforms(lambda t: t[0].update(type="affine")), ""),
    "transformation-is-text": (_transforms(lambda t: t.insert(0, "scale")), ""),
    "no-axis-name": (_axes(lambda axes: axes[0].pop("name")), ""),
    "same-names": (_axes(lambda axes: axes[0].update(name="x")), ""),
    "too-few-axes": (_axes(lambda axes: axes.pop(0)), ""),
    "too-many-axes": (_axes(lambda axes: axes.insert(0, {"name": "t", "type": "time"})), ""),
    "axes-are-text": (lambda entry: entry.update(axes="zyx"), ""),
    "axis-is-a-number": (lambda entry: entry.update(axes=[1, 2, 3]), ""),
    "order-of-types": (_axes(lambda axes: axes[2].update(type="time")), "axes"),
    "two-times": (_axes(lambda axes: (axes[0].update(type="time"), axes[1].update(type="time"))), "axes"),
    "levels-reversed": (lambda entry: entry["datasets"].reverse(), ""),
    "one-space-axis": (
        _axes(lambda axes: (axes[0].update(type="time"), axes[1].update(type="channel"))),
        "axes",
    ),
}


@pytest.mark.parametrize(("change", "location"), METADATA.values(), ids=METADATA)
@pytest.mark.parametrize("version", VERSIONS)
def test_validate__broken_metadata_are_errors(tmp_path, version, change, location):
    group = make(tmp_path / "p.zarr", version)
    document = document_of(group, version)
    change(document["multiscales"][0])
    put(group, version, document)
    found = errors_at(tmp_path / "p.zarr", location)
    assert found
    assert all(finding.message for finding in found)


def test_validate__what_breaks_a_rule_is_told_once(tmp_path):
    group = make(tmp_path / "p.zarr")
    document = document_of(group, "0.5")
    document["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["type"] = "affine"
    put(group, "0.5", document)
    (finding,) = validate(tmp_path / "p.zarr").findings
    assert finding.location == "multiscales[0].datasets[1].coordinateTransformations[0]"


def test_validate__metadata_without_rules_that_cannot_be_read(tmp_path):
    entry = {"version": "0.3", "axes": ["y", "x"], "datasets": [{}]}
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2, attributes={"multiscales": [entry]})
    unknown, unreadable = validate(tmp_path / "a.zarr").findings
    assert (unknown.severity, unknown.location) == ("warning", "version")
    assert (unreadable.severity, unreadable.location) == ("error", "multiscales")
    assert "no path" in unreadable.found


@pytest.mark.parametrize("version", VERSIONS)
def test_validate__metadata_of_a_version_in_the_other_zarr_format(tmp_path, version):
    other = "0.4" if version == "0.5" else "0.5"
    group = make(tmp_path / "p.zarr", version)
    document = document_of(group, version)
    entry = document["multiscales"][0]
    if version == "0.4":
        entry.pop("version")
        group.attrs.put({"ome": {"version": "0.5", "multiscales": [entry]}})
    else:
        group.attrs.put({"multiscales": [{**entry, "version": "0.4"}]})
    report = validate(tmp_path / "p.zarr")
    assert not report.ok
    assert any(other in f.message and "zarr format" in f.message for f in report.findings if f.severity == "error")


def test_validate__says_where_it_cannot_judge(tmp_path):
    group = make(tmp_path / "p.zarr")
    document = document_of(group, "0.5")
    document["version"] = "0.9"
    put(group, "0.5", document)
    (finding,) = validate(tmp_path / "p.zarr").findings
    assert (finding.severity, finding.location) == ("warning", "version")
    assert "0.9" in finding.message


def _replaced(group, path, data, **options):
    names = group[path].metadata.dimension_names
    del group[path]
    make_array(group.store_path, data, path=path, dims=options.pop("dims", names), **options)


def test_validate__levels_of_another_dtype_are_a_warning(tmp_path):
    group = make(tmp_path / "p.zarr")
    _replaced(group, "scale1/image", noise((2, 4, 6), "float32"))
    report = validate(tmp_path / "p.zarr")
    assert report.ok
    (finding,) = report.findings
    assert finding.location == "scale1/image"
    assert "float32" in finding.message
    assert "uint16" in finding.message
    assert finding.rule


def test_validate__levels_with_another_number_of_axes_are_errors(tmp_path):
    group = make(tmp_path / "p.zarr")
    _replaced(group, "scale1/image", noise((4, 6)), dims=("y", "x"))
    assert errors_at(tmp_path / "p.zarr", "scale1/image")


@pytest.mark.parametrize("dims", [None, ("x", "y", "z"), ("z", "y", None)], ids=str)
def test_validate__dimension_names_that_are_not_the_axes(tmp_path, dims):
    group = make(tmp_path / "p.zarr", layout="flat")
    _replaced(group, "1", noise((2, 4, 6)), dims=dims)
    (finding,) = validate(tmp_path / "p.zarr").findings
    assert finding.location == "1"
    assert "dimension_names" in finding.message
    assert "MUST" in finding.rule


def test_validate__chunk_keys_with_dots(tmp_path):
    group = make(tmp_path / "p.zarr", "0.4", layout="flat")
    del group["1"]
    make_array(
        group.store_path,
        noise((2, 4, 6)),
        path="1",
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "."},
    )
    (finding,) = validate(tmp_path / "p.zarr").findings
    assert finding.location == "1"
    assert "'.'" in finding.message
    assert finding.rule


def test_validate__a_level_larger_than_the_one_before(tmp_path):
    group = make(tmp_path / "p.zarr", layout="flat")
    _replaced(group, "1", noise((8, 16, 24)))
    found = errors_at(tmp_path / "p.zarr", "1")
    assert any("larger" in finding.message for finding in found)


def test_validate__a_level_larger_along_one_axis_only(tmp_path):
    group = make(tmp_path / "p.zarr", layout="flat")
    _replaced(group, "1", noise((2, 4, 13)))
    (finding,) = errors_at(tmp_path / "p.zarr", "1")
    assert "larger" in finding.message


@pytest.mark.parametrize("boundary", ["pad", "trim"])
def test_validate__partial_windows_cover_the_field(tmp_path, boundary):
    write_pyramid(to_image(noise((9, 11)), "yx"), tmp_path / "p.zarr", scale_factors=[2], boundary=boundary)
    assert validate(tmp_path / "p.zarr").findings == ()


# Of 12 samples, 5 windows of 2 leave out a whole one.
@pytest.mark.parametrize("size", [(2, 4, 3), (2, 1, 6), (2, 4, 5), (2, 4, 8)], ids=str)
def test_validate__levels_that_do_not_cover_the_field(tmp_path, size):
    group = make(tmp_path / "p.zarr", layout="flat")
    _replaced(group, "1", noise(size))
    report = validate(tmp_path / "p.zarr")
    assert [finding.location for finding in report.findings] == ["1"]
    assert "do not cover" in report.findings[0].message


@pytest.mark.parametrize("shift", [0.01, 1.0, -0.25])
def test_validate__coordinates_that_are_not_the_transformations(tmp_path, shift):
    group = make(tmp_path / "p.zarr")
    group["scale1/y"][...] = group["scale1/y"][...] + shift
    (finding,) = errors_at(tmp_path / "p.zarr", "scale1/y")
    assert f"{abs(shift):g}" in finding.message


def test_validate__coordinates_of_another_length(tmp_path):
    group = make(tmp_path / "p.zarr")
    del group["scale1/y"]
    make_array(group.store_path, np.arange(3.0), path="scale1/y", dims=("y",))
    assert errors_at(tmp_path / "p.zarr", "scale1/y")


def test_validate__durations_in_a_unit_of_their_own(tmp_path):
    times = np.arange(3) * np.timedelta64(2, "h")
    image = xr.DataArray(np.zeros((3, 8, 8), "uint8"), {"t": times.astype("timedelta64[ns]")}, ("t", "y", "x"), "image")
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[{"y": 2, "x": 2}])
    assert zarr.open_array(tmp_path / "p.zarr" / "scale1" / "t").attrs["units"] == "hours"
    assert validate(tmp_path / "p.zarr").ok
    zarr.open_array(tmp_path / "p.zarr" / "scale1" / "t")[...] = [0, 2, 5]
    (finding,) = errors_at(tmp_path / "p.zarr", "scale1/t")
    assert finding.found == "coordinates up to 3600 away"


def test_validate__coordinates_that_are_integers(tmp_path):
    group = make(tmp_path / "p.zarr")
    del group["scale1/y"]
    make_array(group.store_path, np.array([0, 1, 2, 4]), path="scale1/y", dims=("y",))
    (finding,) = errors_at(tmp_path / "p.zarr", "scale1/y")
    assert finding.found == "coordinates up to 0.75 away"


@pytest.mark.parametrize(
    ("dims", "values", "attributes"),
    [
        ("cyx", np.array([405.0, 488.0]), {}),
        ("tyx", np.array([100, 103, 104, 110]), {"units": "hours since 2000-01-01"}),
    ],
    ids=["wavelengths", "dates"],
)
def test_validate__coordinates_that_transformations_do_not_state(tmp_path, dims, values, attributes):
    group = make(tmp_path / "p.zarr", dims=dims)
    for level in (0, 1):
        path = f"scale{level}/{dims[0]}"
        if path in group:
            del group[path]
        make_array(group.store_path, values, path=path, dims=(dims[0],), attributes=attributes)
    assert validate(tmp_path / "p.zarr").findings == ()


def test_validate__coordinates_that_follow_no_line(tmp_path):
    group = make(tmp_path / "p.zarr")
    group["scale1/y"][...] = np.array([0.0, 1.0, 4.0, 9.0])
    assert errors_at(tmp_path / "p.zarr", "scale1/y")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "omero",
    [{"channels": [{"color": "FF00"}]}, {"channels": [{"color": "FFFFFF", "window": {"min": 0}}]}, {"channels": 3}],
    ids=str,
)
def test_validate__broken_omero_is_an_error(tmp_path, version, omero):
    group = make(tmp_path / "p.zarr", version)
    document = document_of(group, version)
    document["omero"] = omero
    put(group, version, document)
    assert errors_at(tmp_path / "p.zarr", "omero")


def test_validate__finds_everything_at_once(tmp_path):
    group = make(tmp_path / "p.zarr")
    _replaced(group, "scale1/image", noise((2, 4, 6), "float32"), dims=("a", "b", "c"))
    group["scale0/y"][...] = group["scale0/y"][...] + 3
    locations = [location for _, location, _ in findings(tmp_path / "p.zarr")]
    assert sorted(locations) == ["scale0/y", "scale1/image", "scale1/image"]


def test_validate__an_array_that_zarr_cannot_open(tmp_path):
    make(tmp_path / "p.zarr", layout="flat")
    document = tmp_path / "p.zarr" / "1" / "zarr.json"
    document.write_text(document.read_text().replace('"bytes"', '"of_tomorrow"'))
    (finding,) = errors_at(tmp_path / "p.zarr", "1")
    assert "cannot be opened" in finding.found
    assert "of_tomorrow" in finding.found


def test_validate__a_document_that_is_no_json(tmp_path):
    make(tmp_path / "p.zarr")
    (tmp_path / "p.zarr" / "zarr.json").write_text("{")
    (finding,) = validate(tmp_path / "p.zarr").findings
    assert finding.severity == "error"
    assert "not JSON" in finding.found


def test_validate__levels_of_another_dtype_are_an_error_in_0_6(tmp_path):
    group = make(tmp_path / "p.zarr", "0.6")
    assert validate(tmp_path / "p.zarr").findings == ()
    _replaced(group, "scale1/image", noise((2, 4, 6), "float32"))
    assert errors_at(tmp_path / "p.zarr", "scale1/image")


# --- labels ----------------------------------------------------------------------------------------------------


def make_labels(store, version="0.5", dtype="uint16", scale_factors=(2,), **listing):
    """Write a good image with labels "nuclei"; return the group of the labels."""
    make(store, version, layout="flat")
    write_pyramid(
        to_image(noise((4, 8, 12), dtype), "zyx", scale={"y": 0.5}, units="micrometer"),
        store / "labels" / "nuclei",
        scale_factors=list(scale_factors),
        method="nearest",
        version=version,
        layout="flat",
    )
    labels = zarr.open_group(store / "labels", mode="a", zarr_format=2 if version == "0.4" else 3)
    paths = listing.get("paths", ["nuclei"])
    labels.attrs.put({"labels": paths} if version == "0.4" else {"ome": {"version": version, "labels": paths}})
    nuclei = labels["nuclei"]
    colors = {"colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}], "source": {"image": "../../"}}
    document = nuclei.attrs.asdict()
    if version == "0.4":
        nuclei.attrs.put({**document, "image-label": {"version": "0.4", **colors}})
    else:
        nuclei.attrs.put({"ome": {**document["ome"], "image-label": colors}})
    return labels


@pytest.mark.parametrize("version", [*VERSIONS, "0.6"])
def test_validate__good_labels_are_good(tmp_path, version):
    make_labels(tmp_path / "p.zarr", version)
    assert validate(tmp_path / "p.zarr").findings == ()
    assert validate(tmp_path / "p.zarr", "labels/nuclei").findings == ()


def test_validate__labels_that_are_not_there(tmp_path):
    make_labels(tmp_path / "p.zarr", paths=["nuclei", "cells"])
    (finding,) = errors_at(tmp_path / "p.zarr", "labels/cells")
    assert "not exist" in finding.message


def test_validate__labels_that_are_no_integers(tmp_path):
    make_labels(tmp_path / "p.zarr", dtype="float32")
    found = errors_at(tmp_path / "p.zarr", "labels/nuclei")
    assert [finding.location for finding in found] == ["labels/nuclei: 0", "labels/nuclei: 1"]
    assert all("float32" in finding.found and "integer" in finding.rule for finding in found)


def test_validate__a_defect_of_labels_is_told_at_their_place(tmp_path):
    labels = make_labels(tmp_path / "p.zarr")
    del labels["nuclei/1"]
    (finding,) = errors_at(tmp_path / "p.zarr", "labels/nuclei: 1")
    assert "not exist" in finding.message
    assert validate(tmp_path / "p.zarr", metadata_only=True).ok


def test_validate__labels_of_fewer_levels_are_a_warning(tmp_path):
    make_labels(tmp_path / "p.zarr", scale_factors=())
    (finding,) = validate(tmp_path / "p.zarr").findings
    assert (finding.severity, finding.location, finding.found) == ("warning", "labels/nuclei", "1 levels")


def test_validate__a_list_of_labels_without_a_version(tmp_path):
    labels = make_labels(tmp_path / "p.zarr")
    labels.attrs.put({"ome": {"labels": ["nuclei"]}})
    (finding,) = validate(tmp_path / "p.zarr").findings
    assert (finding.severity, finding.location) == ("warning", "labels.version")


def test_validate__an_empty_list_of_labels_needs_no_version(tmp_path):
    group = make(tmp_path / "p.zarr")
    group.create_group("labels", attributes={"ome": {"labels": []}})
    assert validate(tmp_path / "p.zarr").findings == ()


def test_validate__what_is_recommended_of_labels_is_an_error_where_that_is_asked(tmp_path):
    labels = make_labels(tmp_path / "p.zarr")
    document = labels["nuclei"].attrs.asdict()["ome"]
    document["multiscales"][0].pop("name")
    labels["nuclei"].attrs.put({"ome": document})
    assert validate(tmp_path / "p.zarr").ok
    (finding,) = validate(tmp_path / "p.zarr", strict=True).findings
    assert (finding.severity, finding.location) == ("error", "labels/nuclei: multiscales[0]")


def test_validate__labels_without_their_own_metadata(tmp_path):
    labels = make_labels(tmp_path / "p.zarr", dtype="float32")
    document = labels["nuclei"].attrs.asdict()["ome"]
    document.pop("image-label")
    labels["nuclei"].attrs.put({"ome": document})
    report = validate(tmp_path / "p.zarr")
    assert [f.location for f in report.findings if f.severity == "warning"] == ["labels/nuclei"]
    assert sorted(f.location for f in report.findings if f.severity == "error") == [
        "labels/nuclei/0",
        "labels/nuclei/1",
    ]


# --- options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*VERSIONS, "0.6"])
@pytest.mark.parametrize("key", ["name", "type", "metadata"])
def test_validate__what_is_only_recommended_is_an_error_where_that_is_asked(tmp_path, version, key):
    group = make(tmp_path / "p.zarr", version)
    assert validate(tmp_path / "p.zarr", strict=True).ok
    document = document_of(group, version)
    document["multiscales"][0].pop(key)
    put(group, version, document)
    report = validate(tmp_path / "p.zarr")
    assert report.ok
    assert [finding.severity for finding in report.findings] == ["warning"]
    assert key in report.findings[0].found
    assert not validate(tmp_path / "p.zarr", strict=True).ok


# --- the report ------------------------------------------------------------------------------------------------


def test_report__prints_a_verdict(tmp_path):
    group = make(tmp_path / "p.zarr")
    assert repr(validate(group)).endswith("p.zarr: valid")
    _replaced(group, "scale1/image", noise((2, 4, 6), "float32"))
    text = str(validate(group))
    assert "valid, with warnings" in text
    assert "warning  scale1/image: dtype float32" in text
    del group["scale1/image"]
    text = str(validate(group))
    assert "not valid" in text
    assert "error    scale1/image" in text


def test_report__is_plain_values(tmp_path):
    group = make(tmp_path / "p.zarr")
    del group["scale1/image"]
    values = json.loads(json.dumps(validate(group).to_dict()))
    assert values["ok"] is False
    assert values["store"].endswith("p.zarr")
    assert values["findings"][0].keys() == {"severity", "location", "found", "expected", "rule"}


# --- documents that are broken or lie ----------------------------------------------------------------------------

BROKEN_DOCUMENTS = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "html": lambda content: b"<html>",
    "latin-1": lambda content: "µ".encode("latin-1"),
    "a list": lambda content: b"[]",
    "null": lambda content: b"null",
    "deep lists": lambda content: b"[" * 100_000,
    "deep objects": lambda content: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "no data_type": lambda content: content.replace(b'"data_type"', b'"data_typ"').replace(b'"dtype"', b'"dtyp"'),
}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("name", list(BROKEN_DOCUMENTS))
def test_validate__reports_a_document_that_cannot_be_read(tmp_path, name, version):
    make(tmp_path / "p.zarr", version, layout="flat")
    documents = [".zgroup", ".zattrs", "0/.zarray"] if version == "0.4" else ["zarr.json", "0/zarr.json"]
    for document in documents:
        place = tmp_path / "p.zarr" / document
        content = place.read_bytes()
        place.write_bytes(BROKEN_DOCUMENTS[name](content))
        # No attributes are none.
        if place.read_bytes() != content and (name, document) != ("null", ".zattrs"):
            report = validate(tmp_path / "p.zarr")
            assert not report.ok
            assert any(document in finding.found for finding in report.findings)
            for read in (open_pyramid, open_image):
                with pytest.raises(ValueError, match=re.escape(document)) as caught:
                    read(tmp_path / "p.zarr")
                assert type(caught.value) is ValueError
                assert "\n" not in str(caught.value)
        place.write_bytes(content)


LIES = {
    "shape": [[10**18, 8, 12], [0, 8, 12], [-1, 8, 12], ["a", 8, 12], [4.5, 8, 12], [], None, {}],
    "chunk_shape": [[0, 0, 0], [4, 0, 4], [10**18, 1, 1], [-1, 1, 1], "x", None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in LIES.items() for value in values], ids=str)
@pytest.mark.filterwarnings("ignore:.*stored chunk:UserWarning")
def test_sizes__that_no_image_has_are_a_finding_and_one_error(tmp_path, key, value):
    make(tmp_path / "p.zarr", layout="flat")
    place = tmp_path / "p.zarr/0/zarr.json"
    document = json.loads(place.read_text())
    (document if key == "shape" else document["chunk_grid"]["configuration"])[key] = value
    place.write_text(json.dumps(document))
    if key == "chunk_shape" and 0 in np.atleast_1d(value) and zarr.open_array(place.parent, mode="r").chunks[1] == 1:
        pytest.xfail("zarr reads a chunk size of 0 as 1 since 3.2, and warns")
    assert not validate(tmp_path / "p.zarr").ok
    for read in (open_pyramid, open_image):
        with pytest.raises(ValueError, match="zarr/0"):
            read(tmp_path / "p.zarr")


@pytest.mark.parametrize("key", ["datasets", "axes"])
def test_a_hundred_thousand_entries__are_refused_without_reading_each(tmp_path, key, monkeypatch):
    make(tmp_path / "p.zarr", layout="flat")
    place = tmp_path / "p.zarr/zarr.json"
    document = json.loads(place.read_text())
    entry = document["attributes"]["ome"]["multiscales"][0]
    entry[key] = [entry[key][0]] * 100_000
    place.write_text(json.dumps(document))
    monkeypatch.setattr("multiscale_sampler.check.validation.node_at", lambda group, path: None)
    assert not validate(tmp_path / "p.zarr").ok
    with pytest.raises(ValueError, match=r"datasets|unique"):
        open_pyramid(tmp_path / "p.zarr")


JUNK = [None, True, -1, 0, 10**400, float("nan"), float("-inf"), "", "x", [], {}, [[]], [None], {"type": "scale"}, -2.5]


def mutated(document, rng):
    """Change one thing in a document: drop a key, replace a value, or nest it."""
    places = [(document, key) for key in document]
    for holder, key in places:
        inner = holder[key]
        keys = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        places += [(inner, each) for each in keys]
    holder, key = places[rng.integers(len(places))]
    what = rng.integers(4)
    if what == 0 and isinstance(holder, dict):
        del holder[key]
    elif what == 1:
        holder[key] = [holder[key]]
    else:
        holder[key] = JUNK[rng.integers(len(JUNK))]


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
@pytest.mark.filterwarnings("ignore:.*stored chunk:UserWarning")
def test_validate__of_any_mutation_is_a_report(tmp_path, version):
    make(tmp_path / "p.zarr", version, layout="flat")
    names = [".zattrs", "1/.zarray"] if version == "0.4" else ["zarr.json", "1/zarr.json"]
    rng = np.random.default_rng(19)
    for number in range(70):
        place = tmp_path / "p.zarr" / names[number % 2]
        content = place.read_text()
        document = json.loads(content)
        mutated(document, rng)
        place.write_text(json.dumps(document))
        assert isinstance(validate(tmp_path / "p.zarr"), Report)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in (open_pyramid, open_image):
                # Most mutations concern what reading does not need.
                with contextlib.suppress(ValueError):
                    read(tmp_path / "p.zarr")
        place.write_text(content)
