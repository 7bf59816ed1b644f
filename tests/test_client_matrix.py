"""Other people's readers, held against our stores of every layout, version and rank, and docs/clients.md to them."""

import warnings
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version as release_of
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from .clients import readers, stores
from .data import hashes

DOCUMENT = Path(__file__).parents[1] / "docs" / "clients.md"
CLIENTS = (*readers.IN_PYTHON, *readers.IN_NODE)


@dataclass(frozen=True)
class Row:
    """A line of the table: what a client sees of some stores."""

    client: str
    release: str
    versions: str
    layout: str
    images: str
    sees: str

    def fits_release(self):
        if self.release == "any":
            return True
        return release_of(self.client) in SpecifierSet(self.release, prereleases=True)

    def fits(self, stored):
        named = {self.versions: stored.version, self.layout: stored.layout, self.images: stored.image}
        return all(cell == "all" or one in cell.split(", ") for cell, one in named.items())

    def holds(self, seen):
        return self.sees.strip("`") in seen if self.sees.startswith("`") else self.sees == seen


# Of the table, what is no longer true, or not told, since a release: client, its releases, versions of OME-NGFF, why.
UNSETTLED = (
    (
        "ome-zarr",
        ">=0.21",
        ("0.6",),
        "the lines of 0.6 end before 0.21, whose reader takes its axes for t, c, z, y, x as before",
    ),
    (
        "ome-zarr-models",
        ">=1.8",
        ("0.5",),
        "the line of labels in the default layout ends before 1.8, which refuses them as before: 'scale0/nuclei'",
    ),
    (
        "ome-zarr-models",
        ">=1.8",
        ("0.6",),
        "the lines of 0.6 end before 1.8, which reads it, with axes elsewhere, but labels of the flat layout only",
    ),
    (
        "napari-ome-zarr",
        ">=0.11",
        stores.WRITTEN_VERSIONS,
        "its lines are of releases before 0.11, which gives napari no affine, and a layer for each channel",
    ),
)


@pytest.fixture
def unsettled(request, client, version):
    """Expect a part of the table to be untrue."""
    for name, releases, versions, reason in UNSETTLED:
        if name == client[0] and version in versions and release_of(name) in SpecifierSet(releases, prereleases=True):
            request.applymarker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))


def table():
    """Return the lines of the table in docs/clients.md."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["client", "release", "OME-NGFF", "layout", "images", "sees"]
    return [Row(*row) for row in cells[1:]]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """Return every store by version, and a hash of every file."""
    folder = tmp_path_factory.mktemp("clients")
    by_version = defaultdict(list)
    for stored in stores.write_all(folder):
        by_version[stored.version].append(stored)
    return folder, by_version, {version: hashes(folder / version) for version in by_version}


@pytest.fixture(scope="module")
def node(matrix):
    """Return the readers of JavaScript: all stores are read by one process."""
    _, by_version, _ = matrix
    return readers.read_in_node([stored.place for each in by_version.values() for stored in each])


@pytest.fixture(params=CLIENTS)
def client(request):
    if request.param in readers.IN_NODE:
        return request.param, request.getfixturevalue("node")[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return request.param, readers.IN_PYTHON[request.param]()


def seen_of(read, stored):
    """Return what a client sees of a store, or the words in which it refuses."""
    try:
        with warnings.catch_warnings():
            # What others warn of is no concern of ours.
            warnings.simplefilter("ignore")
            return stores.outcome(read(stored.place), stored)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.usefixtures("unsettled")
@pytest.mark.parametrize("version", stores.WRITTEN_VERSIONS)
def test_clients__see_what_the_table_says_and_change_nothing(matrix, client, version):
    folder, by_version, before = matrix
    name, read = client
    rows = [row for row in table() if row.client == name and row.fits_release()]
    used, wrong = set(), []
    for stored in by_version[version]:
        row = next((row for row in rows if row.fits(stored)), None)
        assert row is not None, f"docs/clients.md does not tell what {name} sees of OME-NGFF {version}"
        used.add(row)
        if not row.holds(seen := seen_of(read, stored)):
            wrong.append((row, stored.layout, stored.image, seen[:400]))
    assert not wrong
    assert stores.changes(before[version], hashes(folder / version)) == []
    # A line that no store needs is no longer true.
    assert used == {row for row in rows if row.versions == "all" or version in row.versions.split(", ")}


def test_clients__a_change_of_a_store_is_noticed(tmp_path):
    """The snapshot sees a list of labels that is rewritten, a file that is added, and one that is gone."""
    stored = stores.write_one(tmp_path, "0.5", "datatree", "labelled")
    before = hashes(tmp_path)
    place = Path(stored.place)
    listing = place / "labels" / "zarr.json"
    listing.write_text(listing.read_text().replace('"nuclei"', ""))
    (place / "added").write_text("")
    (place / "scale1" / "zarr.json").unlink()
    inside = place.relative_to(tmp_path).as_posix()
    assert stores.changes(before, hashes(tmp_path)) == sorted(
        f"{inside}/{name}" for name in ("added", "labels/zarr.json", "scale1/zarr.json")
    )


def test_clients__what_is_seen_otherwise_is_told():
    levels = tuple(stores.Level(str(n), ("y", "x"), {"y": n, "x": 1.0}, {"y": 0.0, "x": n}) for n in (1.0, 2.0))
    stored = stores.Stored("", "0.5", "flat", "yx", levels)
    assert stores.outcome(list(levels), stored) == "pixels, axes, spacing, origins"
    assert stores.outcome(list(levels[:1]), stored) == "1 levels"
    swapped = [levels[0], stores.Level("2.0", ("x", "y"), {"y": 2.0, "x": 1.0}, {"y": 0.5, "x": 2.0})]
    assert stores.outcome(swapped, stored) == "pixels, wrong axes, spacing, wrong origins"
    blind = [levels[0], stores.Level("1.0", None)]
    assert stores.outcome(blind, stored) == "wrong pixels, axes of level 0, spacing of level 0, origins of level 0"


def test_clients__the_table_tells_of_all_that_the_matrix_asks():
    assert {row.client for row in table()} == set(CLIENTS)
