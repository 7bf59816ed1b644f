"""Verdicts on metadata: those of the official test suites, and never milder than the official schemas.

The suites are found through the environment variable MSS_NGFF_CORPUS, by default in ``../shared/ngff-corpus``
beside the repository.
"""

import copy
import itertools
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import open_pyramid, to_image, validate, write_pyramid
from multiscale_sampler.metadata.specification import DISPLAY, document_findings

from ..data import noise
from ..strategies import IN_PART_AND_WHOLE

CORPUS = Path(os.environ.get("MSS_NGFF_CORPUS", Path(__file__).parents[3] / "shared" / "ngff-corpus"))
SCHEMAS = {version: f"ngff-spec-{version}/schemas" for version in ("0.4", "0.5", "0.6rc0")}
KINDS = ("image", "strict_image", "label", "strict_label")


def corpus(*parts):
    """Return a path in the official suites; skip the test where they are missing."""
    path = CORPUS.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {path}: set MSS_NGFF_CORPUS to the folder of the official schemas and suites")
    return path


@pytest.mark.parametrize("color", ["FF00FF", "ff00f0", "012345", "6789aB"])
def test_colors__are_six_hexadecimal_digits(color):
    assert list(DISPLAY("omero", display_of(color))) == []


@pytest.mark.parametrize("color", ["FF00F", "FF00FF0", "FF00FF00", "", "FF00FG", "#FF00F", "#FF00FF", 0xFF00FF, None])
def test_colors__of_other_lengths_or_digits_are_found(color):
    (finding,) = DISPLAY("omero", display_of(color))
    assert "6 hexadecimal digits" in finding.message


def display_of(color):
    return {"channels": [{"color": color, "window": {"min": 0, "max": 255, "start": 0, "end": 255}}]}


def suite_cases(version, kind):
    """Yield name, document and verdict of the cases of a suite in one file."""
    document = json.loads(corpus(f"ngff-spec-{version}", "tests", f"{kind}_suite.json").read_text())
    for number, case in enumerate(document["tests"]):
        yield f"{number} {case['formerly']}", case["data"], case["valid"]


def file_cases():
    """Yield name, document, verdict and schema of the cases that are files of their own."""
    for path in sorted(corpus("ngff-spec-0.6rc0", "tests", "attributes").rglob("*.json")):
        document = json.loads(path.read_text())
        conformance = document.get("_conformance", {})
        kind = Path(conformance.get("schema", {}).get("id", "none")).stem
        if kind in KINDS:
            yield str(path.relative_to(CORPUS)), document, conformance.get("valid", True), kind


def verdict(document, version, *, strict=False):
    store = zarr.storage.MemoryStore()
    zarr.create_group(store, zarr_format=2 if version == "0.4" else 3, attributes=document)
    report = validate(store, metadata_only=True, strict=strict)
    for finding in report.findings:
        assert finding.location
        assert finding.found
        assert finding.expected
    return report


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_validate__agrees_with_the_official_suites(version, kind):
    cases = list(suite_cases(version, kind))
    for name, document, valid in cases:
        report = verdict(document, version, strict=kind.startswith("strict"))
        assert report.ok == valid, f"{name}: {report}"
    print(f"{version} {kind}: agrees with {len(cases)} verdicts")
    assert cases


def test_validate__agrees_with_the_official_files_of_0_6():
    counts = dict.fromkeys(KINDS, 0)
    for name, document, valid, kind in file_cases():
        report = verdict(document, "0.6", strict=kind.startswith("strict"))
        assert report.ok == valid, f"{name}: {report}"
        counts[kind] += 1
    print(f"0.6: agrees with {counts}")
    assert all(counts.values())


def test_validate__judges_0_6_as_its_release_candidate():
    for name, document, valid, kind in file_cases():
        if document["ome"]["version"] == "0.6rc0":
            document["ome"]["version"] = "0.6"
            assert verdict(document, "0.6", strict=kind.startswith("strict")).ok == valid, name


# --- what neither suites nor schemas ask for ---------------------------------------------------------------------


def axis(name, kind="space", **rest):
    return {"name": name, "type": kind, **rest}


def of_0_6(systems, datasets):
    """Return attributes with levels at the origin: `systems` by name, and path, input and output of each level."""
    levels = [
        {
            "path": path,
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 1.0], "input": {"path": source}, "output": {"name": output}}
            ],
        }
        for path, source, output in datasets
    ]
    coordinate_systems = [{"name": name, "axes": axes} for name, axes in systems.items()]
    entry = {"name": "em", "type": "mean", "metadata": {}, "coordinateSystems": coordinate_systems, "datasets": levels}
    return {"ome": {"version": "0.6", "multiscales": [entry]}}


def faults(attributes):
    return [(f.severity, f.location, f.found) for f in document_findings(attributes)]


YX = [axis("y"), axis("x")]


def test_document_findings__levels_lead_to_one_system():
    systems = {"a": YX, "b": YX}
    assert faults(of_0_6(systems, [("0", "0", "a"), ("1", "1", "a")])) == []
    (finding,) = faults(of_0_6(systems, [("0", "0", "a"), ("1", "1", "b")]))
    assert finding == ("error", "multiscales[0].datasets", "outputs ['a', 'b']")
    (finding,) = faults(of_0_6({"a": YX}, [("0", "0", "b")]))
    place = "multiscales[0].datasets[0].coordinateTransformations[0]"
    assert finding == ("error", f"{place}.output.name", "'b'")


def test_document_findings__levels_lead_from_their_own_paths():
    (finding,) = faults(of_0_6({"a": YX}, [("0", "0", "a"), ("1", "0", "a")]))
    assert finding == ("warning", "multiscales[0].datasets[1].coordinateTransformations[0].input.path", "'0'")


def test_document_findings__systems_have_names_that_differ():
    attributes = of_0_6({"a": YX, "b": YX}, [("0", "0", "a")])
    attributes["ome"]["multiscales"][0]["coordinateSystems"][1]["name"] = "a"
    (finding,) = faults(attributes)
    assert finding == ("error", "multiscales[0].coordinateSystems", "the names ['a', 'a']")


def test_document_findings__only_axes_of_the_levels_have_an_order():
    disordered = [axis("y"), axis("x"), axis("t", "time")]
    assert faults(of_0_6({"a": YX, "b": disordered}, [("0", "0", "a")])) == []
    ((severity, location, found), *_) = faults(of_0_6({"a": YX, "b": disordered}, [("0", "0", "b")]))
    assert (severity, location) == ("error", "multiscales[0].coordinateSystems[1].axes")
    assert found == "axes of the types space, space, time"


@pytest.mark.parametrize(
    ("rest", "unit"),
    [
        ({}, None),
        ({"unit": "micrometer"}, None),
        ({"unit": "um"}, "'um'"),
        ({"unit": "second"}, "'second'"),
        ({"unit": ""}, "''"),
    ],
    ids=str,
)
def test_document_findings__units_of_space_are_those_of_udunits(rest, unit):
    findings = faults(of_0_6({"a": [axis("y", **rest), axis("x")]}, [("0", "0", "a")]))
    expected = [("warning", "multiscales[0].coordinateSystems[0].axes[0].unit", unit)]
    assert findings == ([] if unit is None else expected)


def test_document_findings__units_of_channels_are_free():
    assert faults(of_0_6({"a": [axis("c", "channel", unit="um"), *YX]}, [("0", "0", "a")])) == []


# --- the official schemas --------------------------------------------------------------------------------------


def official(folder):
    """Return the official validators of a folder of schemas, by the name of the schema."""
    jsonschema = pytest.importorskip("jsonschema", reason="the extra 'test' brings jsonschema")
    referencing = pytest.importorskip("referencing", reason="jsonschema brings referencing")
    found = {path.stem: json.loads(path.read_text()) for path in corpus(folder).glob("*.schema")}
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT202012))
        for schema in found.values()
    )
    return {name: jsonschema.Draft202012Validator(found[name], registry=registry) for name in KINDS}


def test_validate__agrees_with_the_official_skeleton_stores():
    """Where a skeleton's verdict contradicts the official schema, as where 0.6 was redrawn since, the schema counts."""
    schemas, outdated, count = official(SCHEMAS["0.6rc0"]), [], 0
    for strictness, right, kind in itertools.product(("spec", "strict"), ("valid", "invalid"), ("image", "label")):
        folder = corpus("ngff-spec-0.6rc0", "tests", "zarr", strictness, right)
        strict = strictness == "strict"
        for place in sorted(folder.glob(f"{kind}/*.zarr")):
            report = validate(place, metadata_only=True, strict=strict)
            expected = _schema_verdict(schemas["strict_" * strict + kind], place / "zarr.json")
            if expected != (right == "valid"):
                outdated.append(place.name)
            assert report.ok == expected, f"{place}: {report}"
            count += 1
    print(f"0.6 skeletons: agrees with {count} verdicts, {len(outdated)} of them the schema's: {outdated}")
    assert count


def _schema_verdict(schema, path):
    try:
        return schema.is_valid(json.loads(path.read_text())["attributes"])
    except json.JSONDecodeError:
        return False


REPLACEMENTS = (None, "text", "", 3, -1, 0, 2.5, True, [], [1], {}, {"a": 1}, [1, 2, 3, 4, 5, 6])


def places(value, path=()):
    """Yield the path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutants(document, count, rng):
    """Yield documents with one value removed, replaced or repeated."""
    paths = [path for path in places(document) if path and path[0] != "_conformance"]
    for _ in range(count):
        mutant = copy.deepcopy(document)
        *parents, last = rng.choice(paths)
        holder = mutant
        for key in parents:
            holder = holder[key]
        how = rng.randrange(4)
        if how == 0:
            del holder[last]
        elif how == 1 and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(holder[last]))
        else:
            holder[last] = copy.deepcopy(rng.choice(REPLACEMENTS))
        yield f"{how} at {(*parents, last)}", mutant


@IN_PART_AND_WHOLE
@pytest.mark.parametrize("version", SCHEMAS)
def test_document_findings__are_never_milder_than_the_official_schemas(version, whole):
    schemas, rng = official(SCHEMAS[version]), random.Random(0)
    if version == "0.6rc0":
        cases = [(document, kind) for _, document, valid, kind in file_cases() if valid]
    else:
        cases = [(document, kind) for kind in KINDS for _, document, valid in suite_cases(version, kind) if valid]
    refused = total = 0
    for document, kind in cases:
        for what, mutant in mutants(document, 600 if whole else 60, rng):
            total += 1
            if schemas[kind].is_valid(mutant) or _lacks_a_type(mutant, version):
                continue
            refused += 1
            ok = all(f.severity != "error" for f in document_findings(mutant, strict=kind.startswith("strict")))
            assert not ok, f"{kind}: {what}: {json.dumps(mutant)}"
    print(f"{version}: {refused} of {total} mutants are invalid, and all of these are found")
    assert refused > total / 4


def _lacks_a_type(document, version):
    """Whether an axis has no type, which the schemas until 0.5 count among the spatial ones, and the text does not."""
    entries = document.get("ome", document).get("multiscales") if isinstance(document.get("ome", {}), dict) else None
    entry = entries[0] if isinstance(entries, list) and entries else None
    axes = entry.get("axes") if isinstance(entry, dict) else None
    return version != "0.6rc0" and isinstance(axes, list) and any(isinstance(a, dict) and "type" not in a for a in axes)


@pytest.mark.parametrize("folder", ["ngff-zarr-0.50-wheel/0.6/schemas", "ngff-spec-0.6rc0/schemas"])
@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("dims", ["yx", "zyx", "tczyx"])
def test_write_pyramid__of_0_6_is_what_the_official_schemas_accept(tmp_path, folder, layout, dims):
    image = to_image(noise((2, 3, 4, 12, 10)[-len(dims) :]), dims, scale={"y": 0.5}, translation={"x": 3.0})
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2, 3], version="0.6", layout=layout)
    document = json.loads((tmp_path / "p.zarr" / "zarr.json").read_text())["attributes"]
    if "rc0" in folder:
        document["ome"]["version"] = "0.6rc0"
    schemas = official(folder)
    schemas["image"].validate(document)
    schemas["strict_image"].validate(document)


@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_write_pyramid__of_0_6_holds_what_0_5_holds(tmp_path, layout):
    image = to_image(noise((2, 12, 10)), "cyx", scale={"y": 0.5}, translation={"x": -3.0}, units="micrometer")
    for version in ("0.5", "0.6"):
        write_pyramid(image, tmp_path / version, scale_factors=[2, 3], version=version, layout=layout)
        report = validate(tmp_path / version, strict=True)
        assert report.findings == ()
    tree, other = open_pyramid(tmp_path / "0.6"), open_pyramid(tmp_path / "0.5")
    xr.testing.assert_identical(tree, other)
    if layout == "datatree":
        levels = xr.open_datatree(tmp_path / "0.6", engine="zarr")
        np.testing.assert_array_equal(levels["scale1/image"], tree["scale1/image"])


def test_write_pyramid__of_0_6_refuses_descending_axes_before_anything_is_written(tmp_path):
    image = to_image(noise((8, 8)), "yx", scale={"y": -1.0})
    with pytest.raises(ValueError, match="descends"):
        write_pyramid(image, tmp_path / "p.zarr", version="0.6", ascending=False)
    assert not (tmp_path / "p.zarr").exists()
