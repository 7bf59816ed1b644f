"""The table of versions: the only place that knows a version by its name."""

import ast
from pathlib import Path

import pytest

import multiscale_sampler
from multiscale_sampler.metadata import DEFAULT_VERSIONS, VERSIONS, WRITTEN_VERSIONS
from multiscale_sampler.metadata.specification import IMAGES, document_findings
from multiscale_sampler.metadata.versions import known_version

PACKAGE = Path(multiscale_sampler.__file__).parent
TABLE = PACKAGE / "metadata" / "versions.py"
MODULES = sorted(set(PACKAGE.rglob("*.py")) - {TABLE})


def named_versions(source):
    """Return the line and text of every version in a module, but for defaults of public functions.

    What is passed by its position may be any text, such as a number on the command line.
    """
    tree, allowed = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            allowed |= {id(default) for default in (*node.args.defaults, *node.args.kw_defaults)}
        elif isinstance(node, ast.Call):
            allowed |= {id(argument) for argument in node.args}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in VERSIONS and id(node) not in allowed
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_versions__no_other_module_names_one(path):
    assert named_versions(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('if version == "0.4": pass', ["0.4"]),
        ('old = version in ("0.1", "0.2")', ["0.1", "0.2"]),
        ('FORMATS = {"0.5": 3}', ["0.5"]),
        ('match version:\n    case "0.6rc0": pass', ["0.6rc0"]),
        ('version = "0.4" if zarr_format == 2 else None', ["0.4"]),
        ('def _f(version="0.5"): pass', ["0.5"]),
        ('f(version="0.5")', ["0.5"]),
        ('f(["0.4"])', ["0.4"]),
        ('by_axis(decimal, "0.5")', []),
        ('def f(a, version="0.5", *, other="0.4"): pass', []),
        ('"""Of 0.4 and 0.5."""\nscale = 0.5\ntext = "0.4 is zarr v2"', []),
    ],
)
def test_versions__the_guard_sees_every_form(source, found):
    assert [version for _, version in named_versions(source)] == found


def test_versions__are_known_by_what_metadata_state():
    assert {name: known_version(name).name for name in VERSIONS} == {name: name for name in VERSIONS}
    assert [known_version(stated) for stated in (None, 0.5, ["0.5"], "0.50", "")] == [None] * 5


def test_versions__those_that_are_written_have_a_row_and_rules():
    assert all(VERSIONS[name].rules in IMAGES for name in WRITTEN_VERSIONS)
    assert {VERSIONS[name].zarr_format: name for name in DEFAULT_VERSIONS.values()} == DEFAULT_VERSIONS


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_document_findings__of_versions_without_rules_are_that_and_axes_that_are_no_names(version):
    entry = {"version": version, "datasets": [{"path": "0"}]}
    (finding,) = document_findings({"multiscales": [{**entry, "axes": ["y", "x"]}]}, strict=True)
    assert (finding.severity, finding.location, finding.found) == ("warning", "version", repr(version))
    assert finding.expected == "one of 0.4, 0.5, 0.6, 0.6rc0, whose rules are known here"
    _, finding = document_findings({"multiscales": [{**entry, "axes": [{"name": "y"}]}]})
    assert (finding.severity, finding.location) == ("error", "multiscales[0].axes")
    assert finding.expected == f"a list of names, in {version}"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, "the version, as 0.5"),
        ("0.4", "0.5 or 0.6 under 'ome' (known are 0.4, 0.5, 0.6, 0.6rc0)"),
        (["0.5"], "0.5 or 0.6 under 'ome' (known are 0.4, 0.5, 0.6, 0.6rc0)"),
        ("0.6.1", "0.5 or 0.6 under 'ome' (known are 0.4, 0.5, 0.6, 0.6rc0)"),
    ],
    ids=str,
)
def test_document_findings__a_namespace_without_a_version_that_has_one(stated, expected):
    entry = {
        "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}],
    }
    ome = {"multiscales": [entry]} | ({} if stated is None else {"version": stated})
    errors = [finding for finding in document_findings({"ome": ome}) if finding.severity == "error"]
    assert (errors[0].location, errors[0].expected) == ("version", expected)
    # The rules are those of 0.5, which the entry meets, but for what looks like 0.6.
    assert ("0.6" in str(stated)) == any("coordinateSystems" in finding.location for finding in errors[1:])


def test_document_findings__metadata_without_a_namespace_are_checked_as_0_4():
    (finding, *_) = document_findings({"multiscales": [{"version": "0.5"}]})
    assert (finding.location, finding.found) == ("version", "'0.5'")
    assert finding.expected == "0.4, where the metadata are not under 'ome'"


@pytest.mark.parametrize(("version", "severity"), [("0.99", "warning"), ("0.60", "warning"), ("1.0", "error")])
def test_document_findings__later_versions_cannot_be_judged(version, severity):
    finding, *others = document_findings({"ome": {"version": version, "multiscales": [{}]}})
    assert (finding.severity, finding.location, finding.found) == (severity, "version", repr(version))
    assert bool(others) == (severity == "error")
