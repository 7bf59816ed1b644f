"""Which errors of the command line are one line, and which are a bug with its traceback."""

import importlib.util
import pickle
import tomllib
from email.message import Message
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import faults, main

# A module as one of the package, that fails in every way.
MODULE = """
import json


def refuses(value):
    if value < 1:
        raise ValueError(f"{value!r} is less than 1; give a positive number")


def refuses_in_lines(value):
    raise TypeError(
        f"{value!r} is not a number; "
        "give one"
    )


def refuses_from_another(value):
    try:
        json.loads("{")
    except json.JSONDecodeError as error:
        raise ValueError("the document is not JSON; correct it") from error


def notes_and_passes_on(value):
    try:
        refuses(value)
    except ValueError as error:
        error.add_note("It happened in region 3.")
        raise


def misses_a_file(value):
    return open("/nowhere/at all")


def fails_in_an_expression(value):
    return {}["key"]


def fails_in_a_library(value):
    return json.loads("{")


def fails_in_a_callback(value):
    return sorted([1, 2], key=lambda item: item.size)


def fails_in_its_own_message(value):
    raise ValueError(f"{value.name!r} is wrong; correct it")


def meets_the_impossible(value):
    raise AssertionError("a request is made at least once")


def has_no_body(value):
    raise NotImplementedError
"""
EXPECTED = ["refuses", "refuses_in_lines", "refuses_from_another", "notes_and_passes_on", "misses_a_file"]
BUGS = [
    "fails_in_an_expression",
    "fails_in_a_library",
    "fails_in_a_callback",
    "fails_in_its_own_message",
    "meets_the_impossible",
    "has_no_body",
]


@pytest.fixture
def raised(tmp_path, monkeypatch):
    """Return what a function of the module raises, which counts as one of the package."""
    (tmp_path / "failing.py").write_text(MODULE)
    spec = importlib.util.spec_from_file_location("failing", tmp_path / "failing.py")
    failing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(failing)
    monkeypatch.setattr(faults, "PACKAGE", str(tmp_path))

    def error_of(name):
        with pytest.raises(Exception) as caught:  # noqa: PT011  # of any class
            getattr(failing, name)(0)
        return caught.value

    return error_of


@pytest.mark.parametrize("name", EXPECTED)
def test_expected__is_what_the_package_raises_on_purpose_or_the_system_does(raised, name):
    assert faults.is_expected(raised(name))


@pytest.mark.parametrize("name", BUGS)
def test_expected__is_nothing_else_of_whatever_class(raised, name):
    assert not faults.is_expected(raised(name))


@pytest.mark.parametrize(("name", "expected"), [("refuses", True), ("fails_in_an_expression", False)])
def test_expected__is_the_same_of_an_error_from_another_process(raised, name, expected):
    """Workers of a cluster send errors with their traceback, whose frames are stand-ins."""
    support = pytest.importorskip("tblib.pickling_support", reason="needs the extra 'distributed'")
    error = raised(name)
    support.install(error)
    assert faults.is_expected(pickle.loads(pickle.dumps(error))) is expected


def test_expected__is_no_error_from_outside_of_the_package():
    with pytest.raises(ValueError, match="of somebody else") as caught:
        raise ValueError("of somebody else")
    assert not faults.is_expected(caught.value)


# --- what is printed -------------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path):
    zarr.create_array(tmp_path / "raw.zarr", data=np.ones((8, 8), "uint8"))
    return str(tmp_path / "raw.zarr")


def test_error__that_is_expected_is_one_line(raw, capsys):
    assert main(["plan", raw, "--max-levels", "0"]) == 1
    assert capsys.readouterr().err == (
        "multiscale-sampler: error: --max-levels 0 is less than 1; give a positive integer, or omit it\n"
    )


def test_error__with_traceback_shows_where_it_was_raised(raw, capsys):
    assert main(["plan", raw, "--max-levels", "0", "--traceback"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("raise ValueError(" in line for line in lines)
    assert lines[-1].startswith("multiscale-sampler: error: --max-levels 0 is less than 1")
    assert "bug" not in lines[-1]


@pytest.mark.parametrize("error", [KeyError("size"), ValueError("of numpy"), TypeError("of zarr"), RuntimeError("x")])
def test_error__that_is_not_expected_shows_its_traceback_and_what_to_do(raw, monkeypatch, capsys, error):
    def fail(image):
        raise error

    monkeypatch.setattr(ms, "plan_pyramid", fail)
    monkeypatch.setattr("multiscale_sampler.cli.faults.where_to_report", lambda: "https://example.org/issues")
    assert main(["plan", raw]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2] == f"multiscale-sampler: error: {type(error).__name__}: {error}"
    assert lines[-1] == (
        "multiscale-sampler: tests raised this: the input may be damaged; if it is sound, this is a bug, please report "
        "all of the above to https://example.org/issues"
    )


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("fails_in_an_expression", "this is a bug; please"),
        ("meets_the_impossible", "this is a bug; please"),
        ("fails_in_a_library", "json raised this: the input may be damaged; if it is sound, this is a bug, please"),
    ],
)
def test_advice__names_the_library_that_raised_an_error(raised, name, cause):
    assert faults.advice(raised(name)).startswith(f"{cause} report all of the above to ")


def test_error__of_the_system_is_without_its_number(tmp_path, monkeypatch, raw, capsys):
    def fail(image):
        return open(tmp_path / "missing")

    monkeypatch.setattr(ms, "plan_pyramid", fail)
    assert main(["plan", raw]) == 1
    expected = f"multiscale-sampler: error: No such file or directory: {str(tmp_path / 'missing')!r}\n"
    assert capsys.readouterr().err == expected


def test_error__shows_its_notes_in_the_words_of_the_command_line(raw, monkeypatch, capsys):
    def fail(image):
        error = OSError("the disk is full")
        error.add_note("The build was interrupted; complete it with resume=True.")
        raise error

    monkeypatch.setattr(ms, "plan_pyramid", fail)
    assert main(["plan", raw]) == 1
    expected = "the disk is full. The build was interrupted; complete it with --resume\n"
    assert capsys.readouterr().err == f"multiscale-sampler: error: {expected}"


def test_interruption__is_one_line_with_its_own_exit_code(raw, monkeypatch, capsys):
    def stop(image):
        error = KeyboardInterrupt()
        error.add_note("resume=True completes it.")
        raise error

    monkeypatch.setattr(ms, "plan_pyramid", stop)
    assert main(["plan", raw]) == 130
    assert capsys.readouterr().err == "multiscale-sampler: interrupted. --resume completes it\n"


def test_warning__is_one_line_in_the_words_of_the_command_line(raw, tmp_path, capsys):
    assert main(["build", raw, str(tmp_path / "out"), "--dims", "uv", "--dtype", "int64", "--quiet"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("multiscale-sampler: warning: some clients will not open 'image'")
    assert "--dtype int32" in line
    assert "--dims" in line


# --- where to report -------------------------------------------------------------------------------------------


def test_where_to_report__is_the_tracker_that_the_installed_package_states(monkeypatch):
    stated = Message()
    stated["Project-URL"] = "Source, https://example.org"
    stated["Project-URL"] = "Issues, https://example.org/issues"
    monkeypatch.setattr(metadata, "metadata", lambda name: stated)
    assert faults.where_to_report() == "https://example.org/issues"


def test_where_to_report__has_no_address_where_nothing_is_installed(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    assert faults.where_to_report() == "the developers"


def test_project__states_an_issue_tracker():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["name"] == faults.DISTRIBUTION
    assert project["urls"]["Issues"].startswith("https://")
