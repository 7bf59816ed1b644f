"""Coordinates beside the axes: means of numbers and dates, the most frequent of classes, however a level is made."""

from collections import Counter
from fractions import Fraction

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:voxels of level 1 are more anisotropic:UserWarning")

SHAPE = (7, 10)
FACTORS = {"y": 2, "x": 3}
RANDOM = np.random.default_rng(3)


def windows(values, dims):
    """Return all samples of each window, by its index, in plain loops."""
    along = [FACTORS[dim] for dim in dims]
    found = {}
    for index in np.ndindex(values.shape):
        found.setdefault(tuple(i // f for i, f in zip(index, along, strict=True)), []).append(values[index])
    return found


def level_of(values, dims, rule):
    reduced = {index: rule(window) for index, window in windows(values, dims).items()}
    made = np.empty(tuple(n + 1 for n in max(reduced)), object)
    for index, value in reduced.items():
        made[index] = value
    return made


def mode(window):
    counts = Counter(window)
    return min(value for value, count in counts.items() if count == max(counts.values()))


def mean_date(window):
    return window[0] + sum((each - window[0] for each in window), window[0] - window[0]) / len(window)


CELLS = ("y", "x")
HOURS = pd.date_range("2000-01-01", periods=70, freq="6h").values.astype("M8[ns]").reshape(SHAPE)
NOLEAP = np.array([cftime.DatetimeNoLeap(2000, 2, 26 + number % 3, 6) for number in range(7)])
CLASSES = {
    "basin": (CELLS, RANDOM.integers(0, 3, SHAPE), {}),
    "bytes": (CELLS, RANDOM.integers(0, 3, SHAPE).astype("u1"), {"long_name": "basin"}),
    "large_ids": (CELLS, RANDOM.integers(2**62, 2**62 + 2, SHAPE), {}),
    "mask": (CELLS, RANDOM.random(SHAPE) < 0.4, {}),
    "line_mask": (("y",), np.array([1, 0, 0, 0, 1, 1, 1], bool), {}),
    "flags": (CELLS, RANDOM.integers(0, 3, SHAPE).astype("i2"), {"flag_values": [0, 1, 2], "units": "1"}),
    "float_flags": (CELLS, RANDOM.integers(0, 3, SHAPE).astype("f4"), {"flag_values": [0.0, 1.0, 2.0]}),
    "bits": (CELLS, RANDOM.integers(0, 4, SHAPE).astype("i2"), {"flag_masks": [1, 2], "units": "1"}),
    "country": (CELLS, np.array(["NO", "SE", "FI"])[RANDOM.integers(0, 3, SHAPE)], {}),
}
NUMBERS = {
    "elevation": (CELLS, RANDOM.integers(0, 9000, SHAPE).astype("i2"), {"units": "m"}),
    "depth": (CELLS, RANDOM.integers(0, 90, SHAPE), {"standard_name": "depth"}),
    "heights": (("x",), RANDOM.random(10), {}),
    "nav_lat": (CELLS, RANDOM.random(SHAPE).astype("f4"), {"units": "degrees_north"}),
}
DATES = {"line_time": (("y",), HOURS[:, 0], {}), "pixel_time": (CELLS, HOURS, {}), "noleap": (("y",), NOLEAP, {})}
DURATIONS = {"exposure": (CELLS, (HOURS - HOURS[0, 0]).astype("m8[ns]"), {})}


def source_of(name, coordinate):
    image = xr.DataArray(RANDOM.random(SHAPE), {"y": np.arange(7.0), "x": np.arange(10.0)}, CELLS, "v")
    return image.assign_coords({name: coordinate})


def by_command_line(source, tmp_path):
    place, out = str(tmp_path / "source.zarr"), str(tmp_path / "out.zarr")
    source.to_dataset().to_zarr(place, consolidated=False)
    assert (
        main(["build", f"{place}/v", out, "--factors", "y=2,x=3", "--max-levels", "2", "--min-size", "1", "--quiet"])
        == 0
    )
    (level,) = ms.open_pyramid(out)["scale1"].data_vars.values()
    return level


def stored(source, tmp_path, read):
    store = {}
    ms.write_pyramid(source, store, **({} if isinstance(source, xr.DataTree) else {"scale_factors": [FACTORS]}))
    return read(store)


def lazily(source):
    return ms.to_multiscale(source, [FACTORS])


MAKERS = {
    "coarsen": lambda source, tmp_path: ms.coarsen(source, FACTORS),
    "to_multiscale": lambda source, tmp_path: lazily(source)["scale1"].v,
    "write_pyramid": lambda source, tmp_path: stored(source, tmp_path, lambda s: ms.open_pyramid(s)["scale1"].v),
    "xarray": lambda source, tmp_path: stored(
        source, tmp_path, lambda s: xr.open_dataset(s, engine="zarr", group="scale1", consolidated=False).v
    ),
    "write_pyramid of a tree": lambda source, tmp_path: stored(
        lazily(source), tmp_path, lambda s: ms.open_pyramid(s)["scale1"].v
    ),
    "build": by_command_line,
}


def some(kinds, first):
    """Each kind by coarsen, and the first ones in every way, others in long runs."""
    return [
        pytest.param(
            maker, name, marks=() if maker == "coarsen" or name in first else pytest.mark.thorough, id=f"{name}-{maker}"
        )
        for name in kinds
        for maker in MAKERS
    ]


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize(("maker", "name"), some(CLASSES, ("basin", "mask", "country")))
def test_classes__are_the_most_frequent(tmp_path, maker, name):
    dims, values, attrs = CLASSES[name]
    reduced = MAKERS[maker](source_of(name, (dims, values, attrs)), tmp_path)[name]
    assert reduced.dtype.kind == values.dtype.kind or name == "country"
    assert reduced.values.tolist() == level_of(values, dims, mode).tolist()
    assert all(np.array_equal(reduced.attrs[key], value) for key, value in attrs.items())


@pytest.mark.parametrize(("maker", "name"), some(NUMBERS, ("elevation",)))
def test_numbers__are_averaged(tmp_path, maker, name):
    dims, values, attrs = NUMBERS[name]
    reduced = MAKERS[maker](source_of(name, (dims, values, attrs)), tmp_path)[name]
    expected = level_of(values.astype("f8"), dims, np.mean).astype("f8")
    np.testing.assert_allclose(reduced.values, expected, rtol=1e-12)


@pytest.mark.parametrize(("maker", "name"), some({**DATES, **DURATIONS}, ("pixel_time", "noleap")))
def test_dates_and_durations__are_averaged_as_such(tmp_path, maker, name):
    dims, values, attrs = {**DATES, **DURATIONS}[name]
    reduced = MAKERS[maker](source_of(name, (dims, values, attrs)), tmp_path)[name]
    assert reduced.dtype.kind == values.dtype.kind
    assert np.array_equal(reduced.values, level_of(values, dims, mean_date).astype(values.dtype))


@pytest.mark.parametrize("boundary", ["pad", "trim"])
@pytest.mark.parametrize("name", ["basin", "country", "pixel_time", "noleap", "elevation"])
def test_boundary_and_the_first_sample(name, boundary):
    dims, values, attrs = {**CLASSES, **DATES, **NUMBERS}[name]
    source = source_of(name, (dims, values, attrs))
    first = ms.coarsen(source, FACTORS, method="nearest", boundary=boundary)[name]
    sizes = [n // FACTORS[dim] * FACTORS[dim] if boundary == "trim" else n for dim, n in source[name].sizes.items()]
    whole = values[tuple(map(slice, sizes))]
    np.testing.assert_array_equal(first.values, whole[tuple(slice(None, None, FACTORS[dim]) for dim in dims)])
    rule = {"basin": mode, "country": mode, "elevation": np.mean}.get(name, mean_date)
    centre = ms.coarsen(source, FACTORS, boundary=boundary)[name]
    assert np.array_equal(centre.values, level_of(whole, dims, rule).astype(centre.dtype))


def test_missing_dates__make_a_missing_mean():
    dates = HOURS.copy()
    dates[0, 0] = "NaT"
    level = ms.coarsen(source_of("t", (CELLS, dates)), FACTORS).t
    assert np.isnat(level.values).sum() == 1
    assert np.isnat(level.values[0, 0])


def test_dates_centuries_apart__have_an_exact_mean():
    dates = np.array(["1700-01-01", "2250-01-01T00:00:00.000000003"] * 5, "M8[ns]")
    level = ms.coarsen(source_of("t", ("x", dates)), {"x": 10}).t
    counts = [int(count) for count in dates.view("i8")]
    assert level.values.view("i8").tolist() == [round(Fraction(sum(counts), 10))]


def test_other_objects__are_refused_by_name():
    source = source_of("who", ("x", np.array([1, "b", None] * 3 + [2.0], object)))
    with pytest.raises(ValueError, match=r"the coordinate 'who'.*image\.drop_vars"):
        ms.coarsen(source, FACTORS)
    assert ms.coarsen(source, FACTORS, method="nearest").who.values.tolist() == [1, 1, 1, 2.0]


def test_verify__of_a_store_whose_classes_were_averaged(tmp_path):
    dims, values, attrs = CLASSES["basin"]
    place = tmp_path / "store"
    ms.write_pyramid(source_of("basin", (dims, values, attrs)), place, scale_factors=[FACTORS])
    group = zarr.open_group(place, mode="r+")
    averaged = level_of(values, dims, np.mean).astype("f8")
    old = group["scale1"].create_array("basin", shape=averaged.shape, dtype="f8", dimension_names=CELLS, overwrite=True)
    old[:] = averaged
    assert [each.location for each in ms.verify_pyramid(place).findings] == ["scale1/basin"]
    ome = dict(group.attrs["ome"])
    ome["multiscales"][0]["metadata"].pop("rules")
    group.attrs["ome"] = ome
    assert ms.verify_pyramid(place).findings == ()
