"""200 faults in pyramids of this package are all errors, and 200 right pyramids have no findings.

Faults are written through zarr as valid chunks and documents, so that only values can tell. Each is made in a copy of a
small store: the stores of `STORES` cover the methods, dtypes, boundaries and rules for missing values; those of
`BEFORE` were made by an earlier commit.
"""

import itertools
import json
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main

from ..fixtures.make_stores import STORES as BEFORE
from ..fixtures.make_stores import unpack
from ..test_stores_before import FOLDER


def values(shape, dtype, seed=0):
    """Return smooth values with ties, and some NaN in floats of 32 bits."""
    rng = np.random.default_rng(seed)
    waves = sum(np.sin(along / (3 + axis)) for axis, along in enumerate(np.indices(shape)))
    found = (waves + 3) * 12 + rng.integers(0, 4, shape)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return found > 36
    if dtype.kind == "c":
        return (found + 1j * found[::-1]).astype(dtype)
    if dtype == np.float32:
        found = np.where(rng.random(shape) < 0.1, np.nan, found / 7)
    return (found + (2**53 if dtype.itemsize == 8 and dtype.kind in "iu" else 0)).astype(dtype)


def cells(shape, dtype="uint32"):
    """Return labels that meet in ties."""
    return sum((axis + 1) * (along // 3) for axis, along in enumerate(np.indices(shape))).astype(dtype) % 11


def written(image, **options):
    def write(place):
        ms.write_pyramid(image, place, **{"scale_factors": [2, 4], "chunks": 16, **options})

    return write


def write_beside_base(place):
    zarr.create_array(place, name="0", data=values((37, 40), "uint16"), chunks=(16, 16), dimension_names=("y", "x"))
    ms.add_levels(place, scale_factors=[2, 4])


def write_from_tree(place):
    ms.write_pyramid(ms.to_multiscale(values((36, 41), "int32"), [2, 4], "median", chunks=16), place)


def write_geozarr(place):
    image = xr.DataArray(
        values((39, 44), "float64"),
        {"y": 900 - 10.0 * np.arange(39), "x": 10.0 * np.arange(44)},
        ("y", "x"),
        "height",
        {"crs": "EPSG:32618"},
    )
    ms.write_pyramid(image, place, scale_factors=[2, 4], chunks=16, metadata=("geozarr",))


FLAT, VOLUME = (37, 45), (9, 34, 37)
STORES = {
    "mean uint8": written(values(FLAT, "uint8")),
    "mean uint16 3-D, sharded": written(values(VOLUME, "uint16"), shards=32),
    "mean float32": written(values(FLAT, "float32")),
    "mean float64, trim": written(values(FLAT, "float64"), boundary="trim"),
    "mean int64": written(values(FLAT, "int64")),
    "mean float16": written(values(FLAT, "float16")),
    "mean complex64": written(values(FLAT, "complex64")),
    "mean, nodata": written(values(FLAT, "uint16"), nodata=30, min_valid=0.5, scale_factors=[3, 6]),
    "median uint32": written(values(FLAT, "uint32"), method="median"),
    "mode uint32": written(cells(VOLUME), method="mode"),
    "mode_nonzero uint8": written(cells(FLAT, "uint8"), method="mode_nonzero", version="0.4"),
    "nearest int16, flat": written(values(FLAT, "int16"), method="nearest", layout="flat"),
    "std float32": written(values(FLAT, "float32"), method="std"),
    "gaussian uint8": written(values(FLAT, "uint8"), method="gaussian"),
    "lanczos float32": written(values(FLAT, "float32"), method="lanczos"),
    "min float32, min_valid": written(values(FLAT, "float32"), method="min", min_valid=0.9),
    "max uint8, factors that do not nest": written(values(FLAT, "uint8"), method="max", scale_factors=[2, 3]),
    "sum uint16, trim": written(values(FLAT, "uint16"), method="sum", boundary="trim"),
    "count float32": written(values(FLAT, "float32"), method="count"),
    "any bool": written(values(FLAT, "bool"), method="any"),
    "label_gaussian uint16": written(cells(FLAT, "uint16"), method="label_gaussian"),
    "laplacian uint8": written(values(FLAT, "uint8"), method="laplacian"),
    "beside a base": write_beside_base,
    "from a tree": write_from_tree,
    "geozarr": write_geozarr,
}


# --- faults ----------------------------------------------------------------------------------------------------


class Levels:
    """The arrays of a pyramid, to be changed through zarr."""

    def __init__(self, place):
        self.place = place
        group = zarr.open_group(place, mode="r+", use_consolidated=False)
        attributes = group.attrs.asdict()
        described = attributes.get("ome", attributes).get("multiscales")
        if isinstance(described, list):
            self.paths = [dataset["path"] for dataset in described[0]["datasets"]]
        else:
            self.paths = [f"{entry['asset']}/height" for entry in described["layout"]]
        self.arrays = [zarr.open_array(place, path=path, mode="r+") for path in self.paths]

    def block(self, level, last=True):
        """Return the box of the last, or the first, chunk of a level."""
        array = self.arrays[level]
        first = [(n - 1) // c * c if last else 0 for n, c in zip(array.shape, array.chunks, strict=True)]
        return tuple(slice(a, min(a + c, n)) for a, c, n in zip(first, array.chunks, array.shape, strict=True))


def nudged(value):
    """Return a value that differs as little as a fault can: by one, or by four units in the last place."""
    if value.dtype.kind == "b":
        return ~value
    if value.dtype.kind in "iu":
        return value + value.dtype.type(1)
    if value.dtype.kind == "c":
        return (nudged(value.real) + 1j * value.imag).astype(value.dtype)
    value = np.where(np.isnan(value), value.dtype.type(1), value)
    for _ in range(4):
        value = np.nextafter(value, value.dtype.type(np.inf))
    return value


def one_voxel(levels):
    array = levels.arrays[1]
    at = tuple(n // 3 for n in array.shape)
    array[at] = nudged(np.asarray(array[at]))[()]


def last_voxel_of_last_level(levels):
    array = levels.arrays[-1]
    array[(-1,) * array.ndim] = nudged(np.asarray(array[(-1,) * array.ndim]))[()]


def shuffled_chunk(levels):
    block = levels.block(1)
    held = levels.arrays[1][block]
    levels.arrays[1][block] = np.random.default_rng(1).permutation(held.ravel()).reshape(held.shape)


def constant_chunk(levels):
    block = levels.block(1, last=False)
    held = levels.arrays[1][block]
    levels.arrays[1][block] = held.ravel()[held.size // 2]


def plane_of_its_neighbour(levels):
    held = levels.arrays[1][...]
    held[3 % len(held)] = held[(3 % len(held)) - 2]
    levels.arrays[1][...] = held


def swapped_chunks(levels):
    a, b = levels.block(1), levels.block(1, last=False)
    size = [min(x.stop - x.start, y.stop - y.start) for x, y in zip(a, b, strict=True)]
    a, b = (tuple(slice(x.start, x.start + n) for x, n in zip(box, size, strict=True)) for box in (a, b))
    held = levels.arrays[1][...]
    held[a], held[b] = held[b].copy(), held[a].copy()
    if a == b:
        held = np.flip(held)
    levels.arrays[1][...] = held


def shifted(levels):
    levels.arrays[1][...] = np.roll(levels.arrays[1][...], 1, -1)


def scaled(levels):
    held = levels.arrays[1][...]
    levels.arrays[1][...] = ~held if held.dtype.kind == "b" else (held * 1.01 + 1).astype(held.dtype)


def stale(levels):
    base = levels.arrays[0]
    box = tuple(slice(n // 4, n // 4 + 5) for n in base.shape)
    held = base[box]
    base[box] = ~held if held.dtype.kind == "b" else np.where(held != held, 1, held + 7).astype(held.dtype)


def noise_in_its_place(levels):
    held = levels.arrays[-1][...]
    levels.arrays[-1][...] = np.random.default_rng(2).permutation(held.ravel()).reshape(held.shape)


def reversed_level(levels):
    levels.arrays[1][...] = np.flip(levels.arrays[1][...])


def level_of_another_method(levels):
    base, level = levels.arrays[0][...], levels.arrays[1]
    factors = [round(n / m) for n, m in zip(base.shape, level.shape, strict=True)]
    last = base[tuple(slice(f - 1, None, f) for f in factors)]
    held = level[...]
    part = tuple(slice(0, min(n, m)) for n, m in zip(last.shape, held.shape, strict=True))
    held[part] = last[part].astype(held.dtype)
    level[...] = held


def lost_chunk(levels):
    """A chunk of level 1 that is not stored any more."""
    array, block = levels.arrays[1], levels.block(1, last=False)
    # Of zarr v2 the fill value may be none.
    array[block] = array.dtype.type(array.fill_value or 0)


def translation(levels):
    change_document(levels, lambda steps, starts: (steps, [starts[0] + steps[0] / 4, *starts[1:]]))


def scale(levels):
    change_document(levels, lambda steps, starts: ([*steps[:-1], steps[-1] * 1.25], starts))


def change_document(levels, change):
    """Change what the metadata state of the position of level 1."""
    group = zarr.open_group(levels.place, mode="r+", use_consolidated=False)
    attributes = json.loads(json.dumps(group.attrs.asdict()))
    described = attributes.get("ome", attributes)["multiscales"]
    if isinstance(described, list):
        transforms = described[0]["datasets"][1]["coordinateTransformations"]
        steps = transforms[0]["scale"]
        starts = transforms[1]["translation"] if len(transforms) > 1 else [0.0] * len(steps)
        steps, starts = change(steps, starts)
        transforms[:] = [{"type": "scale", "scale": steps}, {"type": "translation", "translation": starts}]
        group.attrs.put(attributes)
    else:
        shift_coordinates(levels)


def shift_coordinates(levels):
    """Move the coordinates of level 1 along its last axis, or one of them where only the metadata place it."""
    parent = levels.paths[1].rpartition("/")[0]
    if not parent or "x" not in zarr.open_group(levels.place, path=parent, mode="r", use_consolidated=False):
        translation(levels)
        return
    positions = zarr.open_array(levels.place, path=f"{parent}/x", mode="r+")
    held = positions[...]
    held[2:] += (held[1] - held[0]) / 3
    positions[...] = held


FAULTS = {
    fault.__name__: fault
    for fault in (
        one_voxel,
        last_voxel_of_last_level,
        shuffled_chunk,
        constant_chunk,
        plane_of_its_neighbour,
        swapped_chunks,
        shifted,
        scaled,
        stale,
        noise_in_its_place,
        reversed_level,
        level_of_another_method,
        lost_chunk,
        translation,
        scale,
        shift_coordinates,
    )
}
# Nine faults in each store, in turns, so that each fault is made in half of the stores.
CASES = [
    (store, list(FAULTS)[(7 * number + 3 * turn + turn // 16) % len(FAULTS)])
    for number, store in enumerate(STORES)
    for turn in range(9)
]
# The first voxel of what does not average is that of "nearest", and a reversed mean of a mirrored image itself.
CASES_BEFORE = list(itertools.product(BEFORE, FAULTS))


def part_of(cases, every):
    """Return the cases as parameters, most of them for thorough runs alone."""
    thorough = pytest.mark.thorough
    return [
        pytest.param(*case, marks=() if number % every == 0 else thorough, id=", ".join(case))
        for number, case in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return a function that copies a store, which is made once, to a folder."""
    made = {}

    def copy(name, target):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("original") / "p"
            if name in STORES:
                STORES[name](made[name])
            else:
                unpack(FOLDER / f"{name}.zip", made[name])
        shutil.copytree(made[name], target)

    return copy


def files(place):
    return {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def check_found(place, fault):
    """Make a fault, and check that it is found."""
    before = files(place)
    FAULTS[fault](Levels(place))
    assert files(place) != before, "the fault is none"
    report = ms.verify_pyramid(place)
    assert report.verdict == "disagree", report
    assert main(["verify", str(place), "--quiet"]) == 1


@pytest.mark.filterwarnings("ignore:some clients will not open")
@pytest.mark.parametrize(("store", "fault"), part_of(CASES, 7))
def test_fault__is_an_error(originals, tmp_path, capsys, store, fault):
    originals(store, tmp_path / "p")
    check_found(tmp_path / "p", fault)


@pytest.mark.parametrize(("store", "fault"), part_of(CASES_BEFORE, 9))
def test_fault__in_a_store_of_before_is_an_error(originals, tmp_path, capsys, store, fault):
    originals(store, tmp_path / "p")
    check_found(tmp_path / "p", fault)


# --- right pyramids --------------------------------------------------------------------------------------------


AVERAGES = ("mean", "gaussian", "linear", "cubic", "lanczos", "laplacian", "std", "sum")
SELECTIONS = ("min", "max", "median", "mode", "nearest", "mode_nonzero")
TESTS = ("any", "all", "count")
RULES = (
    {},
    {"boundary": "trim"},
    {"scale_factors": [3, 6]},
    {"scale_factors": [2, 3]},
    {"scale_factors": [{"y": 2}, {"y": 4, "x": 3}]},
    {"nodata": 30},
    {"nodata": 30, "min_valid": 0.5, "boundary": "trim"},
)
OF_FLOATS = ({"min_valid": 0.6}, {"skipna": False})


def right_cases():
    """Yield methods, dtypes and rules, about 200 of them."""
    for number, (method, rule) in enumerate(itertools.product((*AVERAGES, *SELECTIONS, *TESTS), RULES)):
        if method == "nearest" and "nodata" in rule:
            continue
        if method == "laplacian" and rule.get("scale_factors") == [2, 3]:
            # Bands need factors that nest.
            continue
        rule = {key: value for key, value in rule.items() if method not in TESTS or key != "min_valid"}
        for dtype in (("uint8", "int16", "uint32")[number % 3], ("float32", "float64", "float16")[number % 3]):
            if method in ("mode_nonzero",) and dtype == "float16":
                dtype = "uint64"
            yield method, dtype, rule
    for method, rule in itertools.product((*AVERAGES, *SELECTIONS), OF_FLOATS):
        if method not in ("nearest", "laplacian"):
            yield method, "float32", rule
    yield from (("label_gaussian", "uint16", rule) for rule in RULES[:5])
    yield from (("mean", dtype, {}) for dtype in ("bool", "int64", "uint64", "complex64", "complex128", ">u2", ">f4"))


RIGHT = list(right_cases())


@pytest.mark.filterwarnings("ignore:some clients will not open", "ignore:.*no values:RuntimeWarning")
@pytest.mark.parametrize(
    ("method", "dtype", "rule"),
    [
        pytest.param(*case, marks=() if number % 12 == 0 else pytest.mark.thorough, id=" ".join(map(str, case)))
        for number, case in enumerate(RIGHT)
    ],
)
def test_right__has_no_findings(method, dtype, rule):
    store = {}
    ms.write_pyramid(values((29, 38), dtype), store, **{"scale_factors": [2, 4], "chunks": 8, "method": method, **rule})
    report = ms.verify_pyramid(store)
    assert report.findings == ()
    assert report.verdict == "agree", report


def updated(place):
    zarr.open_array(place, path="scale0/image", mode="r+")[5:11, 7:20] = 3
    ms.update_pyramid(place, {"y": slice(5, 11), "x": slice(7, 20)})


def appended(place):
    more = ms.open_pyramid(place)["scale0/image"].load()
    more = more.assign_coords(y=more.y + len(more.y) * (more.y[1] - more.y[0]))
    ms.append_pyramid(more, place, "y")


def rebuilt(place):
    ms.rebuild_levels(place, method="max")


def rebuilt_in_part(place):
    method = zarr.open_group(place).attrs["ome"]["multiscales"][0]["type"]
    ms.rebuild_levels(place, [2], method=method)


def with_fewer_levels(place):
    ms.remove_levels(place, [1])


def converted(place):
    ms.convert(place, version="0.6")


CHANGES = (updated, appended, rebuilt, rebuilt_in_part, with_fewer_levels, converted)


@pytest.mark.filterwarnings("ignore:some clients will not open")
@pytest.mark.parametrize(
    ("change", "method", "dtype"),
    [
        pytest.param(change, method, dtype, marks=() if number % 9 == 0 else pytest.mark.thorough)
        for number, (change, (method, dtype)) in enumerate(
            itertools.product(
                CHANGES,
                [("mean", "uint8"), ("mean", "float32"), ("mean", "float64"), ("std", "uint16"), ("sum", "float64")],
            )
        )
    ],
)
def test_right__has_no_findings_after_a_change(tmp_path, change, method, dtype):
    ms.write_pyramid(
        values((29, 38), dtype) * np.dtype(dtype).type(3),
        tmp_path / "p",
        scale_factors=[2, 4, 8],
        chunks=8,
        method=method,
    )
    if method == "std" and change in (rebuilt, converted):
        pytest.skip("maxima, and OME-NGFF 0.6, need levels of the dtype of level 0")
    change(tmp_path / "p")
    report = ms.verify_pyramid(tmp_path / "p")
    assert report.findings == ()
    assert report.verdict == "agree", report


@pytest.mark.parametrize("options", [{"method": np.ptp}, {"weights": True}], ids=["function", "weights"])
def test_right__is_undecided_where_the_recipe_does_not_suffice(tmp_path, capsys, options):
    image = ms.to_image(values(FLAT, "float64"))
    if "weights" in options:
        options = {"weights": xr.DataArray(np.linspace(1, 2, FLAT[0]), dims="y")}
    ms.write_pyramid(image, tmp_path / "p", scale_factors=[2, 4], chunks=16, **options)
    report = ms.verify_pyramid(tmp_path / "p")
    assert (report.findings, report.verdict) == ((), "undecided")
    assert main(["verify", str(tmp_path / "p"), "--quiet"]) == 3
    assert "undecided: no known rule makes scale1/image, scale2/image" in capsys.readouterr().out
