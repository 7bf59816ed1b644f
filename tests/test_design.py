"""The map of the package, `docs/design.md`: every module is on it once, and every path on it exists."""

import re
from pathlib import Path

import multiscale_sampler
from tests.test_layering import ORDER

ROOT = Path(__file__).parents[1]
PACKAGE = Path(multiscale_sampler.__file__).parent
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PACKAGES = PAGE.split("## Packages and modules")[1].split("\n## ")[0]
RECIPES = PAGE.split("## Recipes")[1]
# A row of a table, or the heading of a package, begins with a path below the package.
ENTRIES = re.findall(r"^(?:### |\| )`([\w/]+(?:/|\.py))`", PACKAGES, re.MULTILINE)


def modules():
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if path.name != "__init__.py")


def packages():
    folders = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")}
    return sorted(f"{folder.as_posix()}/" for folder in folders if folder != Path())


def test_design__names_every_package_and_module_once():
    assert sorted(ENTRIES) == sorted([*modules(), *packages()])


def test_design__lists_packages_in_their_order():
    outermost = [entry.rstrip("/").removesuffix(".py") for entry in ENTRIES if entry.count("/") <= entry.endswith("/")]
    assert [name for name in outermost if name in ORDER] == list(ORDER)


def test_design__says_something_of_each():
    for row in PACKAGES.splitlines():
        if row.startswith("| `"):
            assert len(row.split("|")[2].split()) >= 3, row


def test_design__names_only_paths_that_exist():
    named = re.findall(
        r"`((?:multiscale_sampler|tests|docs|examples|notebooks)/[\w./]*|\w+\.(?:md|toml|cff|py))`", RECIPES
    )
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_design__has_the_recipes():
    assert re.findall(r"^### (.*)$", RECIPES, re.MULTILINE) == [
        "Add a method",
        "Add a file format",
        "Add a command-line option",
        "Add an OME-NGFF version",
        "Change how chunks are chosen",
        "Mend a foreign translation",
    ]
