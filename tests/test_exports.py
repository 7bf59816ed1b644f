"""What the package offers: complete, sorted, documented, and every example in it runs."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import multiscale_sampler as ms

MODULES = [ms.__name__, *(found.name for found in pkgutil.walk_packages(ms.__path__, f"{ms.__name__}."))]
PUBLIC = [name for name in ms.__all__ if not name.startswith("__")]
FUNCTIONS = [name for name in PUBLIC if inspect.isfunction(getattr(ms, name))]


def test_all__is_sorted_and_without_repetition():
    assert ms.__all__ == sorted(set(ms.__all__))


def test_all__is_what_the_package_imports():
    """For type checkers all at once, otherwise when a name is first used."""
    body = ast.parse(Path(ms.__file__).read_text(encoding="utf-8")).body
    body += next(node for node in body if isinstance(node, ast.If)).body
    imports = {node.module: [alias.name for alias in node.names] for node in body if getattr(node, "level", 0)}
    assert {name for names in imports.values() for name in names} == set(ms.__all__)
    assert {module: list(names) for module, names in ms._DEFINED_IN.items()} == {
        module: names for module, names in imports.items() if module != "_version"
    }


def test_package__knows_no_other_names():
    assert set(ms.__all__) <= set(dir(ms))
    with pytest.raises(AttributeError, match="module 'multiscale_sampler' has no attribute 'open_picture'"):
        ms.open_picture  # noqa: B018


def test_all__can_be_imported_by_star():
    names = {}
    exec("from multiscale_sampler import *", names)
    assert set(ms.__all__) <= set(names)


@pytest.mark.parametrize("name", PUBLIC)
def test_exports__say_what_they_are(name):
    documentation = inspect.getdoc(getattr(ms, name))
    assert documentation
    assert documentation.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exports__of_functions_show_an_example(name):
    assert doctest.DocTestParser().get_examples(inspect.getdoc(getattr(ms, name)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exports__of_functions_document_every_parameter(name):
    function = getattr(ms, name)
    documentation = inspect.getdoc(function)
    parameters = documentation.split("Parameters\n")[1].split("\n---")[0]
    for parameter in inspect.signature(function).parameters:
        assert parameter in parameters or parameter in documentation


@pytest.mark.parametrize("name", MODULES)
def test_exports__examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_exports__the_version_is_one():
    assert ms.__version__.split(".")[0].isdigit()
