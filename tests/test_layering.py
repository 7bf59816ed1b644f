"""The order of the packages: each imports only from those before it."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import multiscale_sampler

PACKAGE = Path(multiscale_sampler.__file__).parent
# Packages and modules of the root, from the ground up; `docs/design.md` says what each owns.
ORDER = (
    "_version",
    "extras",
    "messages",
    "image",
    "tasks",
    "methods",
    "metadata",
    "plan",
    "files",
    "lazy",
    "store",
    "check",
    "build",
    "plots",
    "viewer",
    "sample_data",
    "interop",
    "accessor",
    "backend",
    "cli",
)
# The public names, and the program that they make up.
OUTSIDE = ("__init__", "__main__")
# These stand on the public functions, which they may take from the package itself.
BINDINGS = ("accessor", "backend", "viewer", "cli")
FILES = sorted(PACKAGE.rglob("*.py"))
READERS = ("tifffile", "nibabel", "h5py", "netCDF4", "rasterio", "SimpleITK", "imageio")
HEAVY = ("numba", "distributed", "matplotlib", "rich", "neuroglancer", "PIL", *READERS)


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def import_statements(source, name):
    """Yield what a module imports of the package, anywhere: a dotted name below the package, and the names from it."""
    parents = name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "multiscale_sampler":
                    yield ".".join(alias.name.split(".")[1:]), [""]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = [*parents[: len(parents) - node.level + 1], *(node.module or "").split(".")]
            elif (node.module or "").split(".")[0] == "multiscale_sampler":
                base = node.module.split(".")[1:]
            else:
                continue
            yield ".".join(part for part in base if part), [alias.name for alias in node.names]


def imports_of(source, name):
    """Modules of the package that a module imports anywhere, as dotted names below the package."""
    for base, names in import_statements(source, name):
        yield from (base or imported for imported in names)


def test_layering__knows_every_module():
    assert {name_of(path).split(".")[0] for path in FILES} <= {*ORDER, *OUTSIDE}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem not in OUTSIDE or path.parent != PACKAGE], ids=name_of
)
def test_layering__imports_point_one_way(path):
    layer = name_of(path).split(".")[0]
    for imported in imports_of(path.read_text(encoding="utf-8"), name_of(path)):
        other = imported.split(".")[0]
        if layer in BINDINGS and other in multiscale_sampler.__all__:
            continue
        assert ORDER.index(other) <= ORDER.index(layer), f"{layer} imports {imported}"


# Files that import each other in a row, the longest row of all; an `__init__` is not counted.
LONGEST_PATH = 16
PACKAGES = {name_of(path).removesuffix(".__init__") for path in FILES if path.stem == "__init__"} - {"__init__"}
MODULES = PACKAGES | {name_of(path) for path in FILES if path.stem != "__init__"}


def imported_files(source, name):
    """Return the modules and packages that a module imports anywhere; names of a package stand for the package."""
    statements = import_statements(source, name)
    found = [(base, f"{base}.{imported}".strip(".")) for base, names in statements for imported in names]
    # The public names are left out: bindings take them from the package itself.
    return {inner if inner in MODULES else base for base, inner in found} - {"", name.removesuffix(".__init__")}


def longest_path(graph, packages):
    """Return the longest path through a graph of imports, without the packages on it."""
    paths = {}
    for module in TopologicalSorter(graph).static_order():
        below = max((paths[imported] for imported in graph.get(module, ())), key=len, default=())
        paths[module] = below if module in packages else (module, *below)
    return max(paths.values(), key=len)


def test_layering__paths_of_imports_are_short():
    names = {path: name_of(path) for path in FILES if name_of(path) != "__init__"}
    graph = {
        name.removesuffix(".__init__"): imported_files(path.read_text(encoding="utf-8"), name)
        for path, name in names.items()
    }
    found = longest_path(graph, PACKAGES)
    assert len(found) <= LONGEST_PATH, " -> ".join(found)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ..store import open_image, chunks", {"store", "store.chunks"}),
        ("from .. import store as stores", {"store"}),
        ("from .passes import BoundPass", {"build.passes"}),
        ("if TYPE_CHECKING:\n    from ..image.axes import Axis", {"image.axes"}),
        ("def f():\n    from .. import plots", {"plots"}),
        ("import multiscale_sampler.build.region", {"build.region"}),
        ("from .engine import run_passes\nfrom .. import write_pyramid\nimport multiscale_sampler", set()),
    ],
)
def test_layering__the_guard_of_paths_sees_files_and_packages(source, found):
    assert imported_files(source, "build.engine") == found


def test_layering__the_guard_of_paths_counts_files_and_refuses_circles():
    graph = {"a": {"p", "c"}, "p": {"p.b", "p.c"}, "p.b": {"p.c"}, "p.c": set(), "c": set()}
    assert longest_path(graph, {"p"}) == ("a", "p.b", "p.c")
    with pytest.raises(CycleError):
        longest_path({**graph, "p.c": {"a"}}, {"p"})


# The only modules that use what zarr, xarray and dask do not offer as their public interface.
INTERNALS = ("store.zarr_internals", "image.xarray_internals", "tasks.dask_internals")
NOT_PUBLIC = ("zarr.core", "zarr.storage._", "xarray.core", "xarray.backends.", "dask.blockwise", "dask.local")


def private_names_of(source):
    """Private attributes of other objects than `self` and `cls` that a module uses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            is_own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
            if not is_own and not (isinstance(owner, ast.Call) and ast.unparse(owner) == "super()"):
                yield node.attr


@pytest.fixture(scope="module")
def own_names():
    """Return the names of functions and methods of the package, and of the attributes that it sets."""
    nodes = [node for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return functions | {
        node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path) not in INTERNALS], ids=name_of)
def test_layering__private_parts_of_other_packages_are_used_in_one_module_each(path, own_names):
    source = path.read_text(encoding="utf-8")
    # "_replace" is that of named tuples, and public in spite of its name.
    assert set(private_names_of(source)) <= {*own_names, "_replace"}
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom | ast.Import)]
    modules = {node.module for node in imported if isinstance(node, ast.ImportFrom) and not node.level}
    modules |= {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in modules if name.startswith(NOT_PUBLIC)]


def test_layering__the_guard_sees_private_attributes():
    source = "array._async_array.getitem()\nself._own\nsuper()._hook()\ntuple._replace()"
    assert sorted(private_names_of(source)) == ["_async_array", "_replace"]


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path).startswith("methods.kernels.")], ids=name_of)
def test_layering__kernels_know_nothing_but_kernels_boxes_numpy_and_numba(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = imports_of(path.read_text(encoding="utf-8"), name_of(path))
    assert all(name.startswith(("methods.kernels", "image.boxes")) for name in imported)
    outside = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    outside |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert {name.split(".")[0] for name in outside} - set(sys.stdlib_module_names) <= {"numpy", "numba"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from .plan import Plan", ["plan"]),
        ("from . import ngff", ["ngff"]),
        ("def f():\n    from .methods import sums", ["methods"]),
        ("import multiscale_sampler.build", ["build"]),
        ("from multiscale_sampler.build import x", ["build"]),
        ("import numpy", []),
    ],
)
def test_layering__the_guard_sees_every_form_of_import(source, found):
    assert list(imports_of(source, "axes")) == found


def test_layering__the_guard_sees_through_packages():
    assert list(imports_of("from ...image.axes import Axis\nfrom .windows import Missing", "methods.kernels.sums")) == [
        "image.axes",
        "methods.kernels.windows",
    ]


def test_layering__no_module_bears_the_name_of_a_public_function():
    modules = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert not modules & set(multiscale_sampler.__all__)


def test_store__says_of_every_module_what_it_is():
    source = (PACKAGE / "store/__init__.py").read_text(encoding="utf-8")
    told = re.findall(r"^- `(\w+)`: ", ast.get_docstring(ast.parse(source)), flags=re.M)
    assert sorted(told) == sorted(path.stem for path in (PACKAGE / "store").glob("*.py") if path.stem != "__init__")


def test_store__exports_what_other_packages_use():
    import multiscale_sampler.store as stores

    texts = [path.read_text(encoding="utf-8") for path in FILES if path.parent != PACKAGE / "store"]
    used = {word for text in texts for word in re.findall(r"\w+", text)}
    assert set(stores.__all__) <= used


# What a process has loaded after each step, the first of which is what xarray does along with all other engines.
STEPS = f"""
import sys
import multiscale_sampler.backend
print([name for name in {HEAVY!r} if name in sys.modules])
import multiscale_sampler.methods.kernels.sums
print("numba" in sys.modules)
import dask.array as da, multiscale_sampler as ms
tree = ms.to_multiscale(da.ones((64, 48), chunks=7, dtype="f4"), 2, chunks=16, max_levels=3)
ms.write_pyramid(tree, {{}})
print("distributed" in sys.modules)
"""


@pytest.fixture(scope="module")
def loaded():
    """Return what the steps tell, in a process that begins with nothing."""
    command = [sys.executable, "-W", "error", "-c", STEPS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return done.stdout.splitlines()


def test_import__is_light(loaded):
    assert loaded[0] == "[]"


def test_import__the_guard_would_see_numba(loaded):
    assert loaded[1] == "True"


def test_layering__building_loads_nothing_of_a_cluster(loaded):
    """Which dask does by itself, where it is left to choose how blocks are joined."""
    assert loaded[2] == "False"


# Modules whose tests are not in the file of their name, by the file that tests them.
TESTED_IN = {
    "build/test_joins.py": ["metadata.positions"],
    "build/test_converting.py": ("build.copying", "build.publishing"),
    "build/test_region.py": ("build.blanks", "build.passes", "build.sources"),
    "build/test_resuming.py": ("build.engine",),
    "build/test_updating.py": ("build.appending", "build.indexing", "plan.changes", "store.changing", "store.digests"),
    "build/test_writing.py": ("build.build", "build.exporting", "store.layout", "store.names"),
    "check/test_faults_found.py": ("check.bands", "check.checked", "check.level_findings", "check.recomputation"),
    "check/test_verification.py": ("check.registration", "check.survey", "check.verdicts"),
    "cli/test_cli.py": ("cli.building", "cli.changing", "cli.commands", "cli.reading"),
    "files/test_files.py": (
        *("files.arrays", "files.contents", "files.itk", "files.nifti"),
        *("files.raster_images", "files.tiff"),
    ),
    "store/test_targets.py": ("store.creating",),
    "lazy/test_pyramid.py": ("plan.parts",),
    "metadata/test_metadata.py": ("metadata.parsing", "metadata.writing"),
    "methods/test_laplacian.py": ("methods.kernels.bands",),
    "plan/test_stated_nodata.py": ("methods.masked",),
    "methods/test_methods_matrix.py": ("methods.picks", "methods.sums", "methods.views"),
    "methods/test_reducers.py": ("methods.reducer",),
    "plan/test_plan.py": ("plan.chunks", "plan.passes", "plan.pickling", "plan.planning"),
    "plots/test_figures.py": ("plots.colors", "plots.layers", "plots.planes"),
    "store/test_encoding.py": ("store.arrays", "store.raw_chunks"),
    "store/test_reading.py": ("store.convention", "store.zarr_internals"),
    "tasks/test_threads.py": ("tasks.cluster", "tasks.crew", "tasks.dask_internals", "tasks.machine"),
    "test_client_matrix.py": ("metadata.clients",),
    "test_clients.py": ("metadata.multiscales_convention",),
    "test_exports.py": ("_version",),
    "test_once.py": ("image.xarray_internals", "store.chunks"),
    "viewer/test_in_browser.py": ("__main__",),
    "viewer/test_viewer.py": ("viewer.images", "viewer.layers", "viewer.levels", "viewer.server", "viewer.space"),
}
TESTS = Path(__file__).parent


def has_test_file(module):
    """Whether the tests of a module are in the file of its name."""
    *packages, name = module.split(".")
    return TESTS.joinpath(*packages, f"test_{name}.py").exists()


def test_layering__every_module_has_its_tests():
    modules = {name_of(path) for path in FILES if path.stem != "__init__"}
    assert {name for names in TESTED_IN.values() for name in names} == {m for m in modules if not has_test_file(m)}
    assert [file for file in TESTED_IN if not (TESTS / file).exists()] == []


def module_level_names():
    """Yield each name that a module defines at its top, with the module; imported names are not defined there."""
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            names += [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            yield from ((name, name_of(path)) for name in names if not name.startswith("__"))


def test_layering__one_name_has_one_meaning():
    defined = {}
    for name, module in module_level_names():
        defined.setdefault(name, set()).add(module)
    assert {name: sorted(found) for name, found in defined.items() if len(found) > 1} == {}


def test_layering__no_folder_of_tests_is_left_out(pytestconfig):
    skipped = pytestconfig.getini("norecursedirs")
    folders = {path.parent.name for path in Path(__file__).parent.rglob("test_*.py")}
    assert [name for name in folders if any(fnmatch(name, pattern) for pattern in skipped)] == []
