"""What a method is stands in its row of the table: no other package compares or lists names of methods."""

import ast
from pathlib import Path

import pytest

import multiscale_sampler
from multiscale_sampler.methods.reducers import ALIASES, REDUCERS, WEIGHTED_MEAN

PACKAGE = Path(multiscale_sampler.__file__).parent
NAMES = {*REDUCERS, *ALIASES, WEIGHTED_MEAN.name}
# Names that are also words of other things: ends of a range, columns, ways to interpolate.
WORDS = {"min", "max", "sum", "any", "all", "count", "linear", "cubic", "nearest"}
# The rules of any program, by which levels are judged independently of the table, and the words of OME-NGFF.
INDEPENDENT = ("check/downsampling_rules.py", "metadata/specification.py")
FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] != "methods" and path.relative_to(PACKAGE).as_posix() not in INDEPENDENT
]


def texts_in(node):
    """The literal texts that an expression is, or lists."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    elements = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
    return [element.value for element in elements if isinstance(element, ast.Constant)]


def names_asked_for(source):
    """Yield (line, texts) wherever a module compares with names of methods, or lists some."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            texts = [text for side in (node.left, *node.comparators) for text in texts_in(side)]
            found = set(texts) & NAMES
        elif isinstance(node, ast.match_case):
            texts = [each.value for each in ast.walk(node.pattern) if isinstance(each, ast.Constant)]
            found = set(texts) & NAMES
        elif isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            texts = texts_in(node)
            found = set(texts) & (NAMES - WORDS)
        else:
            continue
        if found:
            yield node.lineno if hasattr(node, "lineno") else node.pattern.lineno, texts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_names__of_methods_are_asked_for_in_the_table_alone(path):
    assert list(names_asked_for(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        'x == "mean"',
        '"mode" != x',
        'x in ("mean", "other")',
        'x not in {"nearest": 1}',
        'X = ["gaussian"]',
        'X = {"median": 1, **y}',
        'match x:\n    case "mode" | "other":\n        pass',
        'x == "weighted mean"',
        'x == "dask_image_mode"',
    ],
)
def test_names__the_guard_sees_every_way_to_ask(source):
    assert len(list(names_asked_for(source))) >= 1


@pytest.mark.parametrize("source", ['def f(method="mean"): "By mean."', 'X = ("min", "max", "start")', "x == mean"])
def test_names__the_guard_lets_defaults_and_other_words_pass(source):
    assert list(names_asked_for(source)) == []
