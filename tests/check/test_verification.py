"""Voxels held against metadata: the rule that made a level is named, and what is wrong with one is found."""

import itertools
import json
import lzma
import math

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler import create_test_image, open_pyramid, validate, verify_pyramid, write_labels, write_pyramid
from multiscale_sampler.check import downsampling_rules, verdicts
from multiscale_sampler.check.recomputation import Recomputation, differing_values
from multiscale_sampler.check.registration import Crop, located
from multiscale_sampler.check.verification import missable_part
from multiscale_sampler.cli import main
from multiscale_sampler.store import Access

from ..data import load, noise, real
from ..oracles import expected_level

SPACING = {"c": 1.0, "t": 1.0, "z": 2.0, "y": 0.5, "x": 0.5}


def client(module):
    return pytest.importorskip(module, reason=f"the extra 'clients' brings {module.split('.')[0].replace('_', '-')}")


def structured(shape, dtype="uint16", seed=0):
    """Return an image with structure of a few voxels' size, no two neighbours alike."""
    image = noise(shape, "float64", seed)
    for axis in range(len(shape)):
        for _ in range(2):
            image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return (20000 + 6000 * (image / image.std())).clip(0, 60000).astype(dtype)


def segments(shape, dtype="uint32", seed=0):
    """Return labels of a few voxels' size."""
    coarse = np.random.default_rng(seed).integers(0, 2**31, [-(-n // 5) for n in shape]).astype(dtype)
    for axis, n in enumerate(shape):
        coarse = coarse.repeat(5, axis).take(range(n), axis)
    return coarse


def store_of(levels, lines=None, *, dims="zyx", labels=False, place=None, chunk=16, kind=None):
    """Store levels as other programs do; `lines` are each level's scale and translation, by default the centres'."""
    place = {} if place is None else place
    dims = dims[-levels[0].ndim :]
    datasets = []
    for index, level in enumerate(levels):
        zarr.create_array(
            place, name=str(index), data=level, chunks=tuple(min(chunk, n) for n in level.shape), dimension_names=dims
        )
        factors = [round(n / m) for n, m in zip(levels[0].shape, level.shape, strict=True)]
        scale, origin = lines[index] if lines else (factors, [(f - 1) / 2 for f in factors])
        steps = [float(s) * SPACING[d] for s, d in zip(scale, dims, strict=True)]
        starts = [float(o) * SPACING[d] for o, d in zip(origin, dims, strict=True)]
        transforms = [{"type": "scale", "scale": steps}, {"type": "translation", "translation": starts}]
        datasets.append({"path": str(index), "coordinateTransformations": transforms[: 1 + any(starts)]})
    kinds = {"t": "time", "c": "channel"}
    axes = [{"name": dim, "type": kinds.get(dim, "space")} for dim in dims]
    entry = {"axes": axes, "datasets": datasets, **({"type": kind} if kind else {})}
    namespace = {"version": "0.5", "multiscales": [entry], **({"image-label": {}} if labels else {})}
    zarr.open_group(place, mode="a").attrs.put({"ome": namespace})
    return place


def errors(report, word=""):
    return [f for f in report.findings if f.severity == "error" and word in f.message]


def windows_mean(base, factors, how):
    """Return means of whole windows in exact arithmetic, rounded by a function of numpy's."""
    shape = [k for n, f in zip(base.shape, factors, strict=True) for k in (n // f, f)]
    cut = base[tuple(slice(0, n // f * f) for n, f in zip(base.shape, factors, strict=True))]
    axes = tuple(range(1, 2 * base.ndim, 2))
    return how(cut.astype(np.float64).reshape(shape).mean(axes)).astype(base.dtype)


# --- the rule that made a level --------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["pad", "trim"])
@pytest.mark.parametrize("method", ["mean", "min", "max", "median", "mode", "nearest"])
def test_verify__names_the_method_of_our_own_pyramids(method, boundary):
    base = segments((33, 47)) if method == "mode" else structured((33, 47))
    store = {}
    write_pyramid(base, store, method=method, scale_factors=[2, 4], boundary=boundary, chunks=8)
    report = verify_pyramid(store)
    assert report.ok
    assert report.findings == ()
    assert [level.rule.split(",")[0] for level in report.levels] == [method] * 2
    assert [level.differing for level in report.levels] == [0, 0]
    assert [level.sizes for level in report.levels] == ["up" if boundary == "pad" else "down"] * 2
    exact = method in ("mean", "min", "max", "nearest")
    # The base is what exact levels follow from; the others follow from the level before them.
    assert ("scale0/image" in report.levels[1].made_from) == exact
    if method in ("mean", "median", "mode"):
        assert len(report.levels[1].made_from) == 1


RULES_OF_OURS = [
    *({"method": method} for method in ("sum", "std", "mode_nonzero", "any", "all", "count", "gaussian", "laplacian")),
    {"method": "mean", "nodata": 1},
    {"method": "mode", "nodata": 0},
    {"method": "median", "scale_factors": [3, 6]},
]
OF_NUMBERS = [{"method": np.ptp}]
OF_FLOATS = [{"method": "min", "min_valid": 0.6}, {"method": "mode_nonzero", "skipna": False}]
CASES_OF_OURS = [
    *itertools.product([*RULES_OF_OURS, *OF_NUMBERS, *OF_FLOATS], ["float32"]),
    *itertools.product([*RULES_OF_OURS, *OF_NUMBERS], ["uint16"]),
    *itertools.product(RULES_OF_OURS, ["bool"]),
]


@pytest.mark.parametrize("method", ["mean", "sum", "min", "std", "median", "mode"])
def test_verify__counts_valid_voxels_as_writing_does(method):
    """Windows of 25 with 3 to 12 valid voxels, of which 28 % are 7, though not in floats."""
    windows = np.full((10, 5, 5), np.nan, "float32")
    for number, window in enumerate(windows, 3):
        window.flat[:number] = np.arange(number) % 4
    store = {}
    write_pyramid(windows.reshape(50, 5), store, method=method, scale_factors=[5], min_valid=0.28)
    assert int(open_pyramid(store)["scale1/image"].notnull().sum()) == 6
    assert verify_pyramid(store).findings == ()


@pytest.mark.parametrize(("rule", "dtype"), CASES_OF_OURS)
def test_verify__finds_nothing_wrong_with_what_we_wrote_by_whatever_rule(rule, dtype):
    base = np.random.default_rng(0).integers(0, 9, (25, 27)).astype(dtype)
    if dtype == "float32":
        base[np.random.default_rng(1).random(base.shape) < 0.2] = np.nan
    store = {}
    write_pyramid(base, store, chunks=8, **{"scale_factors": [2, 4], **rule})
    assert verify_pyramid(store).findings == ()


def test_verify__says_of_which_method_it_knows_no_rule():
    store = {}
    write_pyramid(structured((24, 24)), store, scale_factors=[2], method=np.ptp)
    report = verify_pyramid(store)
    assert report.levels[0].unknown == "ptp"
    assert "no rule for 'ptp'" in str(report)
    assert (report.ok, report.verdict, report.levels[0].verdict) == (True, "undecided", "undecided")


@pytest.mark.parametrize("shape", [(64, 64, 64), (90, 70)])
def test_verify__takes_no_alias_of_stripes_for_a_shift(shape):
    writer, scale = client("ome_zarr.writer"), client("ome_zarr.scale")
    group = zarr.open_group({}, mode="w")
    image = create_test_image({}, shape=shape, chunks=(32,) * len(shape))[...]
    writer.write_image(image, group, axes="zyx"[-len(shape) :], scale_factors=[2, 4], method=scale.Methods.RESIZE)
    report = verify_pyramid(group)
    assert {level.by for level in report.levels} == {"pixels"}
    assert not errors(report)


@pytest.mark.parametrize(
    ("factors", "parents"), [([2, 3], ("scale0/image",)), ([{"x": 2}, {"x": 2, "y": 2}], ("scale1/image",))]
)
def test_verify__follows_levels_that_do_not_nest_and_axes_that_are_reduced_later(factors, parents):
    store = {}
    base = np.random.default_rng(0).integers(0, 4, (36, 48)).astype(np.uint32)
    write_pyramid(base, store, method="mode", scale_factors=factors)
    report = verify_pyramid(store)
    assert report.ok
    assert report.levels[1].made_from == parents
    assert report.levels[1].rule.startswith("mode, ties go to the smallest")


ROUNDED = {
    "half to even": np.rint,
    "half up": lambda mean: np.floor(mean + 0.5),
    "down": np.floor,
    "up": np.ceil,
    "towards zero": np.trunc,
    "half away from zero": lambda mean: np.trunc(mean + np.copysign(0.5, mean)),
}


@pytest.mark.parametrize("how", ROUNDED)
def test_verify__tells_roundings_and_levels_made_step_by_step(how):
    base = (structured((64, 96)).astype(np.int32) - 20000).astype(np.int16)
    first = windows_mean(base, (2, 2), ROUNDED[how])
    levels = [base, first, windows_mean(first, (2, 2), ROUNDED[how])]
    report = verify_pyramid(store_of(levels))
    assert [level.rule for level in report.levels] == [f"mean, rounded {how}"] * 2
    assert report.levels[1].made_from == ("1",)
    exact = verify_pyramid(store_of([base, first, windows_mean(base, (4, 4), ROUNDED[how])]))
    assert exact.levels[1].rule == f"mean, rounded {how}"
    assert exact.levels[1].made_from == ("0",)


@pytest.mark.parametrize("offset", list(np.ndindex(2, 3)))
def test_verify__tells_which_sample_is_taken_and_where_it_sits(offset):
    base = structured((24, 36))
    level = base[offset[0] :: 2, offset[1] :: 3]
    report = verify_pyramid(store_of([base, level], [((1, 1), (0, 0)), ((2, 3), offset)]))
    assert report.ok
    assert report.levels[0].rule == f"nearest, offset {offset[0]}, {offset[1]}"
    assert [start for start, _ in report.levels[0].found] == list(offset)
    centred = verify_pyramid(store_of([base, level]))
    assert errors(centred, "they are")


@pytest.mark.parametrize("ending", ["edge", "constant"])
def test_verify__tells_what_partial_windows_were_filled_with(ending):
    base = structured((20, 32))
    padded = np.pad(base, [(0, 1), (0, 1)], mode=ending)
    report = verify_pyramid(store_of([base, windows_mean(padded, (3, 3), np.floor)]))
    filled = {"edge": "the last samples", "constant": "zeros"}[ending]
    assert report.levels[0].rule == f"mean, rounded down, partial windows filled with {filled}"
    assert report.levels[0].sizes == "up"


def countless(base):
    """Return what the COUNTLESS algorithm takes, by its published formula for 2 x 2."""
    a, b, c, d = (base[i::2, j::2].astype(np.uint64) + 1 for i in (0, 1) for j in (0, 1))
    chosen = (a * (a == b)) | (a * (a == c)) | (b * (b == c))
    return (chosen + (chosen == 0) * d - 1).astype(base.dtype)


def test_verify__tells_how_ties_are_broken():
    base = np.random.default_rng(0).integers(0, 3, (64, 64)).astype(np.uint32)
    ties = {
        "the sample that COUNTLESS chooses": countless(base),
        "the smallest": expected_level(base, (2, 2), "mode"),
        "the largest": 2 - expected_level(2 - base, (2, 2), "mode"),
    }
    for tie, level in ties.items():
        report = verify_pyramid(store_of([base, level], labels=True))
        assert report.levels[0].rule == f"mode, ties go to {tie}"
        assert report.ok


@pytest.mark.parametrize("skips", [True, False])
def test_verify__judges_floats_up_to_their_last_places_and_tells_how_nan_is_taken(skips):
    base = structured((32, 48)).astype(np.float32) / 7
    base[3, 5] = base[10:12, 10:12] = np.nan
    blocks = base.reshape(16, 2, 24, 2)
    level = np.full((16, 24), np.nan, np.float32)
    valid = np.isfinite(blocks).sum((1, 3)) > (0 if skips else 3)
    level[valid] = np.nansum(blocks, (1, 3))[valid] / np.isfinite(blocks).sum((1, 3))[valid]
    report = verify_pyramid(store_of([base, level * np.float32(1 + 1e-7)]))
    assert report.levels[0].rule == ("mean, ignoring NaN" if skips else "mean")
    assert report.ok
    assert verify_pyramid(store_of([base, level * np.float32(1.001)])).levels[0].rule is None


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float64", "complex64"])
def test_verify__takes_every_dtype(dtype):
    base = noise((24, 32), "float64" if dtype == "complex64" else dtype).astype(dtype)
    if base.dtype.kind in "fc":
        base[2, 3], base[8:10, 8:10] = np.inf, np.nan
    report = verify_pyramid(store_of([base, base[1::2, 1::2]], [((1, 1), (0, 0)), ((2, 2), (1, 1))]))
    assert report.ok
    assert report.levels[0].rule == "nearest, offset 1, 1"
    json.dumps(report.to_dict(), allow_nan=False)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8),
    st.sampled_from(["half to even", "half up", "down", "up", "towards zero", "half away from zero"]),
    st.booleans(),
)
def test_rules__means_of_64_bit_integers_are_exact(values, how, unsigned):
    if unsigned:
        values = [value + 2**63 for value in values]
    total, count = sum(values), len(values)
    below, rest = divmod(total, count)
    nearest = {
        "half to even": round_half_even(total, count),
        "half up": below + (2 * rest >= count),
        "down": below,
        "up": below + (rest > 0),
        "towards zero": below + (rest > 0 and below < 0),
        "half away from zero": below + (2 * rest > count or (2 * rest == count and below >= 0)),
    }[how]
    dtype = np.uint64 if unsigned else np.int64
    windows = downsampling_rules.WindowLines(np.array(values, dtype).reshape(8, 1), np.array([nearest], dtype), (2, 4))
    assert not downsampling_rules.differing(downsampling_rules.Rule("mean", how), windows).any()
    assert not downsampling_rules.differing(
        downsampling_rules.Rule("mean", downsampling_rules.ANY_ROUNDING), windows
    ).any()


def round_half_even(total, count):
    below, rest = divmod(total, count)
    return below + (2 * rest > count or (2 * rest == count and below % 2))


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.sampled_from(downsampling_rules.TIES))
def test_rules__modes_are_those_of_counting(values, tie):
    most = max(values.count(value) for value in values)
    best = [value for value in values if values.count(value) == most]
    expected = {"the smallest": min, "the largest": max}.get(tie, lambda found: found[0 if tie == "the first" else -1])
    windows = downsampling_rules.WindowLines(np.array(values)[:, None], np.array([expected(best)]), (2, 3))
    assert not downsampling_rules.differing(downsampling_rules.Rule("mode", tie), windows).any()


# --- positions of samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [False, True])
def test_verify__reports_a_translation_that_is_missing(labels):
    base = segments((20, 24, 28)) if labels else structured((20, 24, 28))
    levels = [base, expected_level(base, (1, 2, 2), "mode" if labels else "mean")]
    unmoved = [((1, 1, 1), (0, 0, 0)), ((1, 2, 2), (0, 0, 0))]
    report = verify_pyramid(store_of(levels, unmoved, labels=labels))
    (finding,) = report.findings
    assert (finding.severity, finding.location) == ("error", "1")
    assert finding.found.startswith("no translation")
    # In the units of the metadata.
    assert finding.expected == "'y': scale 1, translation 0.25; 'x': scale 1, translation 0.25"
    assert verify_pyramid(store_of(levels, labels=labels)).ok


def test_verify__gives_levels_that_rules_do_not_tell_apart_the_benefit_of_the_doubt():
    """The ramp's truncated mean is its minimum and its first voxel."""
    ramp = np.arange(64, dtype=np.uint16)[None].repeat(32, 0)
    first = store_of([ramp, ramp[::2, ::2]], [((1, 1), (0, 0)), ((2, 2), (0, 0))])
    assert verify_pyramid(first).ok
    assert verify_pyramid(store_of([ramp, ramp[::2, ::2]])).ok
    wrong = verify_pyramid(store_of([ramp, ramp[::2, ::2]], [((1, 1), (0, 0)), ((2, 2), (1, 1))]))
    assert errors(wrong, "they are")


def interpolated(base, size, start, step):
    """Return samples at a line of positions along both axes, between voxels by straight lines."""
    for axis in range(2):
        positions = np.clip(start + step * np.arange(size), 0, base.shape[axis] - 1)
        low = np.minimum(positions.astype(int), base.shape[axis] - 2)
        part = (positions - low).reshape([-1 if other == axis else 1 for other in range(2)])
        base = base.take(low, axis) * (1 - part) + base.take(low + 1, axis) * part
    return base


@pytest.mark.parametrize(("start", "step"), [(0.5, 2.0), (0.0, 2.0), (-0.3, 4.0), (0.3, 2.03)])
def test_verify__finds_positions_from_pixels_where_no_rule_is_known(start, step):
    base = structured((128, 128)).astype(np.float64)
    size = int(128 / step)
    # Half of the image next to it: a filter of no rule, which leaves positions where they are.
    blurred = 0.5 * base + 0.25 * (np.roll(base, 1, 0) + np.roll(base, -1, 0))
    level = interpolated(blurred, size, start, step).astype(np.float32)
    line = ((step, step), (start, start))
    true = verify_pyramid(store_of([base.astype(np.float32), level], [((1, 1), (0, 0)), line]))
    assert true.ok
    assert true.levels[0].by == "pixels"
    for first, last in true.levels[0].found:
        assert first == pytest.approx(start, abs=0.06)
        assert last == pytest.approx(start + step * (size - 1), abs=0.06)
    moved = ((step, step), (start + 0.5, start))
    assert errors(verify_pyramid(store_of([base.astype(np.float32), level], [((1, 1), (0, 0)), moved])), "'y'")


def test_placement__knows_when_images_have_nothing_in_common():
    base, other = noise((64, 64), "float64", 1), noise((32, 32), "float64", 2)
    found = located([Crop(other, (0, 0), base, (0, 0))], [(0.5, 2.0)] * 2, (32, 32))
    assert not found.is_certain
    flat = np.full((32, 32), 3.0)
    assert located([Crop(flat, (0, 0), base, (0, 0))], [(0.5, 2.0)] * 2, (32, 32)) is None


# --- what is wrong with voxels ---------------------------------------------------------------------------------


@pytest.fixture
def pyramid(tmp_path):
    """A good pyramid on disk."""
    write_pyramid(structured((64, 80)), tmp_path / "p.zarr", scale_factors=[2, 4], chunks=16)
    return tmp_path / "p.zarr"


def test_verify__finds_levels_that_do_not_follow_an_edit_of_level_0(pyramid):
    zarr.open_array(pyramid / "scale0" / "image", mode="r+")[10:13, 10:13] += 1000
    report = verify_pyramid(pyramid)
    assert validate(pyramid).ok
    assert not report.ok
    assert [finding.location for finding in errors(report)] == ["scale1/image", "scale2/image"]
    assert errors(report)[0].found.startswith("4 voxels differ from the rule")
    assert report.levels[0].rule == "mean, rounded half to even"


def test_verify__finds_chunks_that_are_missing_or_broken(pyramid):
    (pyramid / "scale1" / "image" / "c" / "0" / "1").unlink()
    (pyramid / "scale2" / "image" / "c" / "0" / "0").write_bytes(b"no chunk")
    report = verify_pyramid(pyramid)
    found = {finding.location: finding.found for finding in errors(report)}
    assert found["scale1/image/c/0/1"] == "the chunk is not stored"
    assert found["scale2/image/c/0/0"].startswith("the chunk cannot be read")
    assert (report.levels[0].stored_chunks, report.levels[0].chunks) == (5, 6)


def test_verify__lets_chunks_be_missing_that_are_all_fill():
    base = structured((64, 64))
    base[:32, :32] = 0
    store = {}
    write_pyramid(base, store, scale_factors=[2], chunks=16)
    report = verify_pyramid(store)
    assert report.findings == ()
    assert report.levels[0].stored_chunks < report.levels[0].chunks


def test_verify__finds_another_method_than_the_one_that_is_stated():
    base = structured((32, 32))
    level = expected_level(base, (2, 2), "max")
    assert verify_pyramid(store_of([base, level], kind="max")).ok
    (finding,) = verify_pyramid(store_of([base, level], kind="mean")).findings
    assert finding.message == (
        "the level was made by another method: max; expected the method that the metadata name, 'mean'"
    )


def test_verify__finds_ids_that_are_not_in_level_0_and_ids_that_moved():
    base = segments((40, 40), "uint64") + np.uint64(2**60)
    rounded = expected_level(base, (2, 2), "mode").astype(np.float64).astype(np.uint64)
    report = verify_pyramid(store_of([base, rounded], labels=True))
    assert errors(report, "ids that level 0 lacks")
    assert report.levels[0].strange_ids == len(np.setdiff1d(rounded, base))
    shuffled = np.random.default_rng(0).permutation(expected_level(base, (2, 2), "mode").ravel()).reshape(20, 20)
    report = verify_pyramid(store_of([base, shuffled], labels=True))
    assert not errors(report, "ids that level 0 lacks")
    assert errors(report, "does not occur in their window")


def test_verify__warns_of_levels_that_darken():
    base = np.random.default_rng(0).poisson(5, (128, 128)).astype(np.uint16)
    report = verify_pyramid(store_of([base, windows_mean(base, (2, 2), np.floor)]))
    (finding,) = report.findings
    assert finding.severity == "warning"
    assert "below the means of their windows" in finding.found
    assert report.levels[0].mean == pytest.approx(report.levels[0].mean_of_windows - 0.37, abs=0.02)
    assert verify_pyramid(store_of([base, windows_mean(base, (2, 2), np.rint)])).findings == ()


def test_verify__judges_labels_with_their_image_and_coordinates_against_transformations(pyramid):
    write_labels(segments((64, 80)), pyramid, "cells")
    zarr.open_array(pyramid / "scale1" / "x", mode="r+")[3] += 1.0
    report = verify_pyramid(pyramid)
    assert [level.path for level in report.levels][2:] == ["labels/cells/scale1/cells", "labels/cells/scale2/cells"]
    assert report.levels[2].rule.startswith("mode")
    assert [finding.location for finding in errors(report)] == ["scale1/x"]


# --- stores whose rule is not known ----------------------------------------------------------------------------


def foreign():
    """Return the levels of a pyramid of another tool."""
    base = structured((256, 256))
    return [base, windows_mean(base, (2, 2), np.rint), windows_mean(base, (4, 4), np.rint)]


@pytest.mark.parametrize("count", [1, 32, 48, 64])
def test_foreign__lost_chunks_are_charged_to_the_finer_level(count):
    store = store_of(foreign(), chunk=32)
    keys = sorted(key for key in store if key.startswith("0/c/"))
    for key in keys[:count]:
        del store[key]
    report = verify_pyramid(store)
    assert report.verdict == "disagree"
    assert {finding.location.split("/")[0] for finding in errors(report)} == {"0"}
    assert errors(report)[0].found == "the chunk is not stored"
    if count > 5:
        assert errors(report)[5].found == f"{count - 5} more chunks are not stored"


def test_foreign__sparse_levels_of_a_filter_lost_nothing():
    base = structured((128, 128))
    base[20:110, 20:110] = 0
    blurred = base.astype(np.float64)
    for axis in (0, 1):
        for _ in range(4):
            blurred = (np.roll(blurred, 1, axis) + 2 * blurred + np.roll(blurred, -1, axis)) / 4
    for chunk in (8, 16, 32):
        report = verify_pyramid(
            store_of([base, blurred[::2, ::2].astype(np.uint16)], [((1, 1), (0, 0)), ((2, 2), (0, 0))], chunk=chunk)
        )
        assert (report.verdict, errors(report)) == ("undecided", [])


@pytest.mark.parametrize("spoil", [lambda a: (a * 1.1).astype(a.dtype), lambda a: a + 800, lambda a: a // 2])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_foreign__a_mean_far_from_that_of_level_0_is_an_error(spoil, dtype):
    levels = [level.astype(dtype) for level in foreign()]
    report = verify_pyramid(store_of([levels[0], spoil(levels[1]), levels[2]]))
    (finding,) = errors(report)
    assert finding.location == "1"
    assert finding.found.startswith("the mean is ")


def test_foreign__what_follows_no_rule_and_contradicts_nothing_is_undecided(tmp_path, capsys):
    base, level, coarse = foreign()
    shuffled = np.random.default_rng(0).permutation(level.ravel()).reshape(level.shape)
    report = verify_pyramid(store_of([base, shuffled, coarse], place=tmp_path / "p"))
    assert report.ok
    assert [level.verdict for level in report.levels] == ["undecided", "agree"]
    assert report.to_dict()["verdict"] == "undecided"
    assert main(["verify", str(tmp_path / "p"), "--quiet"]) == 3
    assert "undecided: no known rule makes 1" in capsys.readouterr().out


def test_foreign__floats_that_are_filled_are_missing():
    base = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    base[:5, :9] = np.nan
    blocks = base.reshape(32, 2, 32, 2)
    with np.errstate(all="ignore"):
        level = np.nansum(blocks, (1, 3)) / np.isfinite(blocks).sum((1, 3))
    levels = [np.where(np.isnan(a), np.float32(-9999), a).astype(np.float32) for a in (base, level)]
    store = store_of(levels)
    for path in "01":
        zarr.open_array(store, path=path, mode="r+").attrs["_FillValue"] = -9999.0
    report = verify_pyramid(store)
    assert (report.findings, report.levels[0].rule) == ((), "mean, ignoring NaN")


# --- TIFF files ------------------------------------------------------------------------------------------------


def ome_tiff(path, levels):
    with client("tifffile").TiffWriter(path, ome=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, tile=(64, 64), metadata={"axes": "YX"})
        for level in levels[1:]:
            file.write(level, subfiletype=1, tile=(64, 64))


def pages_of_tiff(path, levels, kind=1):
    with client("tifffile").TiffWriter(path) as file:
        for number, level in enumerate(levels):
            file.write(level, tile=(64, 64), subfiletype=kind if number else 0)


@pytest.mark.parametrize("write", [ome_tiff, pages_of_tiff, lambda path, levels: pages_of_tiff(path, levels, 0)])
def test_tiff__levels_are_verified(tmp_path, write):
    levels = foreign()
    write(tmp_path / "good.ome.tif", levels)
    report = verify_pyramid(tmp_path / "good.ome.tif")
    assert (report.verdict, report.findings) == ("agree", ())
    assert [level.rule for level in report.levels] == ["mean, rounded half to even"] * 2
    write(tmp_path / "dark.ome.tif", [levels[0], levels[1] // 2, levels[2]])
    (finding,) = errors(verify_pyramid(tmp_path / "dark.ome.tif"))
    assert (finding.location, finding.found.startswith("the mean is")) == ("level 1", True)
    noisy = np.random.default_rng(0).permutation(levels[1].ravel()).reshape(levels[1].shape)
    write(tmp_path / "noise.ome.tif", [levels[0], noisy, levels[2]])
    assert verify_pyramid(tmp_path / "noise.ome.tif").verdict == "undecided"
    with pytest.raises(ValueError, match=r"path='0' .* is a file"):
        verify_pyramid(tmp_path / "good.ome.tif", "0")


# --- stores of ours --------------------------------------------------------------------------------------------


def test_ours__a_level_that_does_not_fit_the_recipe_is_an_error():
    store = {}
    write_pyramid(structured((64, 64)), store, scale_factors=[2, 4], chunks=16)
    zarr.create_array(
        store, name="scale2/image", data=np.zeros((15, 16), "uint16"), dimension_names=("y", "x"), overwrite=True
    )
    found = {finding.location: finding.message for finding in errors(verify_pyramid(store))}
    assert found["scale2/image"] == "15x16 of uint16; expected 16x16 of uint16, as the recipe in the metadata gives"


def test_ours__a_lost_chunk_of_level_0_is_charged_to_level_0_unless_a_level_agrees_with_it():
    store = {}
    write_pyramid(structured((64, 64)), store, scale_factors=[2, 4], chunks=16)
    lost = {key: value for key, value in store.items() if key != "scale0/image/c/1/2"}
    assert [(f.location, f.found) for f in errors(verify_pyramid(lost))] == [
        ("scale0/image/c/1/2", "the chunk is not stored")
    ]
    base = structured((64, 64))
    base[16:32, 32:48] = 0
    write_pyramid(base, sparse := {}, scale_factors=[2, 4], chunks=16)
    zarr.open_array(sparse, path="scale1/image", mode="r+")[8:16, 16:24] = 77
    assert [f.location for f in errors(verify_pyramid(sparse))] == ["scale1/image"]


def test_ours__a_filter_that_needs_more_memory_than_allowed_is_undecided(monkeypatch):
    store = {}
    write_pyramid(structured((64, 64)), store, scale_factors=[2, 4], method="lanczos", chunks=16)
    monkeypatch.setattr(Recomputation, "needed_voxels", lambda self, region: 0 if len(self.levels) == 1 else 2**40)
    report = verify_pyramid(store)
    assert [level.verdict for level in report.levels] == ["agree", "undecided"]


def test_ours__floats_are_compared_by_their_last_places():
    values = np.array([1.0, -1.0, 0.0, np.inf, np.nan, 1e-45], np.float32)
    assert not differing_values(values, values, 0).any()
    for steps in (1, 4):
        other = values.copy()
        for _ in range(steps):
            other = np.nextafter(other, np.float32(-np.inf))
        expected = [True, True, True, True, False, True]
        assert differing_values(values, other, steps - 1).tolist() == expected
        assert not differing_values(values, other, steps).any()
    # From the smallest float below zero to the smallest above.
    assert differing_values(np.float64([-5e-324]), np.float64([5e-324]), 1).all()
    assert not differing_values(np.float64([-0.0]), np.float64([0.0]), 0).any()


@pytest.mark.parametrize(
    ("read", "total", "part"), [(12, 480, 0.217), (480, 480, 0.0), (1, 2, 0.5), (479, 480, 1 / 480)]
)
def test_sample__says_how_large_a_fault_it_could_have_missed(read, total, part):
    assert missable_part(read, total) == pytest.approx(part, abs=0.005)


# --- how much is read ------------------------------------------------------------------------------------------


def test_verify__reads_a_stated_sample_in_blocks_of_bounded_size(pyramid, monkeypatch):
    monkeypatch.setattr(verdicts, "REGION_VOXELS", 512)
    read = []
    access_read = Access.read
    monkeypatch.setattr(Access, "read", lambda self, region: read.append((self, region)) or access_read(self, region))
    report = verify_pyramid(pyramid, workers=1)
    assert report.ok
    assert report.seed is None
    voxels = [math.prod(along.stop - along.start for along in region) for _, region in read]
    assert max(voxels) <= 512
    scouts = min(verdicts.MOST_SCOUTS, report.regions[1])
    assert sum(v for v, (a, _) in zip(voxels, read, strict=True) if a.array.shape == (64, 80)) <= 64 * 80 + 512 * scouts
    sampled = verify_pyramid(pyramid, sample=3, seed=5)
    assert (sampled.regions, sampled.seed) == ((3, report.regions[1]), 5)
    assert sampled.levels[0].windows < report.levels[0].windows
    assert sampled.to_dict() == verify_pyramid(pyramid, sample=3, seed=5, workers=2).to_dict()
    assert f"3 of {report.regions[1]} regions at random (seed 5)" in str(sampled)
    assert f"a fault confined to less than {sampled.missable:.2g} of a level could have been missed" in str(sampled)


def test_verify__follows_levels_whose_windows_are_too_large_from_the_level_before(monkeypatch):
    monkeypatch.setattr(verdicts, "REGION_VOXELS", 256)
    base = structured((64, 64))
    store = {}
    write_pyramid(base, store, method="nearest", scale_factors=[2, 4, 8, 32])
    report = verify_pyramid(store)
    assert report.ok
    assert report.levels[3].made_from == ("scale3/image",)
    assert report.levels[3].found == ((0.0, 32.0),) * 2


def test_verify__refuses_what_it_cannot_do():
    store = store_of([structured((16, 16))])
    assert verify_pyramid(store).levels == ()
    with pytest.raises(ValueError, match=r"level 1 cannot be checked"):
        verify_pyramid(store, levels=1)
    with pytest.raises(ValueError, match="too little for one window"):
        verify_pyramid(store, memory_limit="1MiB")
    with pytest.raises(ValueError, match="sample=0 is less than 1"):
        verify_pyramid(store, sample=0)
    with pytest.raises(ValueError, match="is an array, not a pyramid"):
        verify_pyramid(store, "0")


def test_command__prints_the_report_and_tells_by_its_exit_code(pyramid, capsys):
    assert main(["verify", str(pyramid), "--quiet"]) == 0
    assert "data and metadata agree" in capsys.readouterr().out
    zarr.open_array(pyramid / "scale2" / "image", mode="r+")[3, 3] += 1
    assert main(["verify", str(pyramid), "--json", "--levels", "2", "--sample", "100", "--seed", "1", "--quiet"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert not printed["ok"]
    assert [level["path"] for level in printed["levels"]] == ["scale2/image"]
    assert main(["verify", str(pyramid / "nowhere"), "--quiet"]) == 1


# --- stores of other writers -----------------------------------------------------------------------------------


def of_ome_zarr(place, image, method, factors=(2, 4)):
    writer = client("ome_zarr.writer")
    methods = client("ome_zarr.scale").Methods
    group = zarr.open_group(place, mode="w", zarr_format=3)
    writer.write_image(image, group, axes="yx", scale_factors=list(factors), method=methods(method))
    return group


def of_ngff_zarr(place, image, method, factors=(2, 4)):
    ngff_zarr = client("ngff_zarr")
    if "dask_image" in method:
        client("dask_image")
    image = ngff_zarr.to_ngff_image(image, dims=["y", "x"])
    levels = ngff_zarr.to_multiscales(image, list(factors), method=ngff_zarr.Methods(method), chunks=64)
    ngff_zarr.to_ngff_zarr(str(place), levels, version="0.5")
    return place


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "shape", "rule", "away"),
    [
        # OZ-5, OZ-6 and, where no factor is an integer, OZ-7.
        ("local_mean", (255, 255), "mean, rounded down", ["0.996", "2.98"]),
        ("nearest", (128, 128), "nearest", ["0.5", "1.5"]),
        ("zoom", (125, 167), None, ["", ""]),
    ],
)
def test_ome_zarr__places_levels_where_they_do_not_sit(tmp_path, method, shape, rule, away):
    report = verify_pyramid(of_ome_zarr(tmp_path / "p", structured(shape), method))
    found = errors(report, "they are")
    assert [finding.location for finding in found] == ["s1", "s2"]
    for finding, distance in zip(found, away, strict=True):
        assert f"up to {distance}" in finding.found
    assert all(level.rule == rule or (rule and level.rule.startswith(rule)) for level in report.levels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "lost"), [("resize", [0.5, 1.0]), ("local_mean", [0.37, 0.75])])
def test_ome_zarr__truncates(tmp_path, method, lost):
    """OZ-9."""
    image = np.random.default_rng(0).poisson(5, (128, 128)).astype(np.uint16)
    report = verify_pyramid(of_ome_zarr(tmp_path / "p", image, method))
    warned = [f for f in report.findings if f.severity == "warning" and "below the means" in f.found]
    assert [finding.location for finding in warned] == ["s1", "s2"]
    for level, loss in zip(report.levels, lost, strict=True):
        assert level.mean_of_windows - level.mean == pytest.approx(loss, abs=0.05)


def large_ids():
    return (np.random.default_rng(0).integers(0, 1001, (64, 64)) + 2**60).astype(np.uint64)


@pytest.mark.filterwarnings("ignore")
def test_ome_zarr__breaks_large_labels(tmp_path):
    """OZ-10."""
    group = of_ome_zarr(tmp_path / "p", structured((64, 64)), "nearest", [2])
    client("ome_zarr.writer").write_labels(large_ids(), group, name="cells", axes="yx")
    found = errors(verify_pyramid(group), "does not occur in their window")
    assert found[0].location == "labels/cells/s1"
    assert int(found[0].found.split()[0]) > 1000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["dask_image_gaussian", "dask_image_nearest"])
def test_ngff_zarr__places_levels_half_a_voxel_beside(tmp_path, method):
    """NZ-4."""
    report = verify_pyramid(of_ngff_zarr(tmp_path / "p", structured((128, 128)), method))
    found = errors(report, "they are")
    assert [finding.location for finding in found] == ["scale1/image", "scale2/image"]
    for level, stated, tolerance in zip(report.levels, (0.5, 1.5), (0.1, 0.2), strict=True):
        assert all(start == pytest.approx(0.0, abs=tolerance) for start, _ in level.found)
        assert all(start == stated for start, _ in level.stated)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "rule"), [("itkwasm_bin_shrink", "mean, rounded half up"), ("itkwasm_gaussian", None)]
)
def test_ngff_zarr__other_methods_sit_where_they_are_stated(tmp_path, method, rule):
    report = verify_pyramid(of_ngff_zarr(tmp_path / "p", structured((128, 128)), method))
    assert report.ok
    assert [level.rule for level in report.levels] == [rule] * 2


@pytest.mark.filterwarnings("ignore")
def test_ngff_zarr__states_a_scale_that_the_data_do_not_have(tmp_path):
    """NZ-3."""
    report = verify_pyramid(of_ngff_zarr(tmp_path / "p", structured((60, 60)), "dask_bin_shrink", [2, 3]))
    (finding,) = errors(report, "they are")
    assert finding.location == "scale2/image"
    assert "up to 14.5 away" in finding.found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["itkwasm_label_image", "dask_image_nearest", "dask_image_mode"])
def test_ngff_zarr__breaks_large_labels(tmp_path, method):
    """NZ-6; its mode does not."""
    report = verify_pyramid(of_ngff_zarr(tmp_path / "p", large_ids(), method, [2]))
    assert bool(errors(report, "does not occur in their window")) == (method != "dask_image_mode")


@pytest.mark.filterwarnings("ignore")
def test_bioio__leaves_translations_out(tmp_path):
    """X-3."""
    writers = client("bioio_ome_zarr.writers")
    shapes = [(128, 128), (64, 64), (32, 32)]
    writer = writers.OMEZarrWriter(str(tmp_path / "p"), shapes, "uint16", axes_names=["y", "x"], zarr_format=3)
    writer.write_full_volume(structured((128, 128)))
    report = verify_pyramid(tmp_path / "p")
    found = errors(report, "they are")
    assert [finding.location for finding in found] == ["1", "2"]
    assert all(finding.found.startswith("no translation") for finding in found)


# --- published pyramids ----------------------------------------------------------------------------------------


def test_real__bigdataviewer_rounds_means_half_up_level_by_level():
    pyramids, _ = load("bdv_mri_pyramid")
    unmoved = [((2**i,) * 3, (0,) * 3) for i in range(4)]
    report = verify_pyramid(store_of(pyramids["mri-stack-multilevel"], unmoved))
    assert [level.rule for level in report.levels] == ["mean, rounded half up"] * 3
    assert [level.made_from for level in report.levels] == [("0",), ("1",), ("2",)]
    assert [level.sizes for level in report.levels] == ["down"] * 3
    assert [finding.location for finding in errors(report, "no translation")] == ["1", "2", "3"]
    (level,) = verify_pyramid(store_of(pyramids["demoSlice"], [((1,) * 3, (0,) * 3), ((1, 4, 4), (0,) * 3)])).levels
    assert (level.rule, level.sizes) == ("mean, rounded half up", "down")


@pytest.mark.filterwarnings("ignore:the metadata of:UserWarning")
def test_real__tubhiswt_has_means_rounded_half_up_and_every_second_label_and_no_translation():
    report = verify_pyramid(real("tubhiswt5d_v04", "tubhiswt4D_sub.zarr"))
    assert [level.rule for level in report.levels] == [
        "mean, rounded half up",
        "mean, rounded half up",
        "nearest, offset 0, 0, 1, 1",
        "nearest, offset 0, 0, 3, 3",
    ]
    assert report.levels[1].made_from == ("1",)
    assert [f.location for f in errors(report, "no translation")] == ["1", "2", "labels/embryo/1", "labels/embryo/2"]
    assert [f.location for f in report.findings if "above the means" in f.found] == ["1", "2"]


def test_real__idr_takes_every_second_label():
    report = verify_pyramid(real("idr6001240_v05_sharded", "6001240_labels_v0.5.zarr"), sample=1)
    assert [level.rule for level in report.levels] == [f"nearest, offset 0, 0, {n}, {n}" for n in (1, 3, 7)]
    assert [level.sizes for level in report.levels] == ["down"] * 3
    assert len(errors(report, "no translation")) == 3


def first_planes(path, count):
    """Return the first planes of a compressed .npy file, without decompressing the rest."""
    with lzma.open(path) as file:
        np.lib.format.read_magic(file)
        (_, *plane), _, dtype = np.lib.format.read_array_header_1_0(file)
        return np.frombuffer(file.read(count * math.prod(plane) * dtype.itemsize), dtype).reshape(count, *plane)


def test_real__pinky_breaks_ties_as_countless_does():
    levels = [first_planes(real("pinky_seg512", f"pinky_{mip}_zyx_uint32.npy.xz"), 24) for mip in ("mip1", "mip2")]
    unmoved = [((1, 1, 1), (0, 0, 0)), ((1, 2, 2), (0, 0, 0))]
    report = verify_pyramid(store_of(levels, unmoved, labels=True, chunk=128))
    assert report.levels[0].rule == "mode, ties go to the sample that COUNTLESS chooses"
    assert report.levels[0].differing == 0
    assert errors(report, "no translation")
