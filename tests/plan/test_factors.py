import math
import warnings
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multiscale_sampler import Axis
from multiscale_sampler.plan.factors import as_int, as_positive_int, ladder, per_axis
from tests import oracles


def axes_of(**sizes):
    return [Axis(name, size) for name, size in sizes.items()]


def factors_of(axes, scale_factors, min_size=1, boundary="pad", max_levels=None):
    names = [axis.name for axis in axes]
    sizes = dict.fromkeys(names, min_size) if isinstance(min_size, int) else min_size
    return ladder(axes, scale_factors, dict.fromkeys(names, 64), sizes, boundary, max_levels)


# Steps


@pytest.mark.parametrize("step", [2, np.int64(2), np.uint8(2)])
def test_step__is_repeated_on_spatial_axes_until_they_are_small(step):
    axes = axes_of(t=100, c=3, y=64, x=256)
    assert factors_of(axes, step, 32) == [(1, 1, 2, 2), (1, 1, 2, 4), (1, 1, 2, 8)]


def test_step__of_a_mapping_reduces_the_dims_that_it_names():
    axes = axes_of(t=16, y=64, x=64)
    assert factors_of(axes, {"t": 2, "x": np.int32(4)}, 8) == [(2, 1, 4), (2, 1, 16)]
    assert factors_of(axes, OrderedDict(y=3), 8) == [(1, 3, 1), (1, 9, 1)]


def test_step__of_three_and_more():
    assert factors_of(axes_of(x=100), 3, 10) == [(3,), (9,), (27,)]
    assert factors_of(axes_of(x=1000), 10, 10) == [(10,), (100,)]


def repeated(sizes, step, least, boundary):
    """Yield the factors of a step that is repeated while an axis is larger than the least size and has a window."""
    factors = (1,) * len(sizes)
    while True:
        current = [oracles.level_size(n, f, boundary) for n, f in zip(sizes, factors, strict=True)]
        grows = [n > least and (boundary == "pad" or n >= step) for n in current]
        if not any(grows):
            return
        factors = tuple(f * step if more else f for f, more in zip(factors, grows, strict=True))
        yield factors


@pytest.mark.parametrize("boundary", ["pad", "trim"])
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=4), step=st.integers(2, 6), least=st.integers(1, 300))
@example(sizes=[1, 1], step=2, least=1)
@example(sizes=[5, 4], step=5, least=4)
@example(sizes=[125, 24], step=5, least=1)
def test_step__ends_where_every_axis_is_small_enough(sizes, step, least, boundary):
    axes = [Axis(f"a{i}", size) for i, size in enumerate(sizes)]
    levels = factors_of(axes, step, least, boundary)
    assert levels == list(repeated(sizes, step, least, boundary))
    shapes = [
        tuple(sizes),
        *(tuple(oracles.level_size(n, f, boundary) for n, f in zip(sizes, factors, strict=True)) for factors in levels),
    ]
    assert len(set(shapes)) == len(shapes)
    assert min(map(min, shapes)) >= 1
    if boundary == "pad":
        assert max(shapes[-1]) <= least


def test_step__exact_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match=r"'exact'.*25.*'x'.*2|'exact'.*100.*'x'.*8"):
        factors_of(axes_of(x=100), 2, 8, "exact")
    assert factors_of(axes_of(x=96), 2, 12, "exact") == [(2,), (4,), (8,)]


@pytest.mark.parametrize("step", [1, {"x": 1}, {}])
@pytest.mark.parametrize("size", [1, 10])
def test_step__that_reduces_nothing_is_refused(step, size):
    with pytest.raises(ValueError, match=r"scale_factors=.* reduces no axis"):
        factors_of(axes_of(y=size, x=size), step)


def test_step__keeps_an_image_of_one_voxel():
    """The ladder ends where no axis is reduced; there is nothing wrong with a default step."""
    assert factors_of(axes_of(y=1, x=1), 2) == []


@pytest.mark.parametrize("max_levels", [1, 2, 3, np.int64(3)])
def test_max_levels__counts_the_base(max_levels):
    axes = axes_of(y=1024, x=1024)
    assert len(factors_of(axes, 2, 1, max_levels=max_levels)) == max_levels - 1
    assert factors_of(axes, [2, 4, 8, 16], 1, max_levels=max_levels) == [(2, 2), (4, 4)][: max_levels - 1]


# Lists


@pytest.mark.parametrize(
    "entries", [[2, 4], (2, 4), np.array([2, 4]), [np.int64(2), np.uint8(4)], [{"y": 2, "x": 2}, 4]]
)
def test_list__is_cumulative_from_the_base(entries):
    assert factors_of(axes_of(t=5, y=64, x=64), entries) == [(1, 2, 2), (1, 4, 4)]


def test_list__may_be_empty():
    assert factors_of(axes_of(x=10), []) == []


@pytest.mark.parametrize("entries", [[2, 3], [2, 5], [2, 3, 6, 9], [3, 9], [7]])
def test_list__takes_any_ascending_integers(entries):
    assert factors_of(axes_of(x=100), entries) == [(n,) for n in entries]


def test_list__ignores_the_stop_rule_of_steps():
    assert factors_of(axes_of(x=64), [2, 4, 8, 16], 64) == [(2,), (4,), (8,), (16,)]


def test_list__msi_4_a_dim_left_out_has_factor_one():
    """MSI-4: [{"x": 2}, {"x": 2, "y": 2}]."""
    assert factors_of(axes_of(y=64, x=64), [{"x": 2}, {"x": 2, "y": 2}]) == [(1, 2), (2, 2)]


def test_list__nz_13_reduces_time_where_it_is_named():
    """NZ-13: {t: 2, y: 2, x: 2}."""
    assert factors_of(axes_of(t=8, y=64, x=64), [{"t": 2, "y": 2, "x": 2}]) == [(2, 2, 2)]
    assert factors_of(axes_of(t=8, y=64, x=64), [2]) == [(1, 2, 2)]


@pytest.mark.parametrize("entries", [[2, 2, 2], [4, 2], [1], [{"x": 2}, {"y": 2}], [2, {"x": 4}]])
def test_list__msi_5_that_does_not_ascend_is_refused(entries):
    """MSI-5: [2, 2, 2] has three meanings in the field."""
    with pytest.raises(ValueError, match=r"scale_factors=.*ascend.*\[2, 4, 8\]"):
        factors_of(axes_of(y=64, x=64), entries)


def test_list__ends_with_a_warning_where_a_level_would_repeat():
    with pytest.warns(UserWarning, match=r"scale_factors\[2\]=8.*\(1, 1\)"):
        assert factors_of(axes_of(y=3, x=3), [2, 4, 8]) == [(2, 2), (4, 4)]


def test_list__ends_with_a_warning_where_trim_would_leave_nothing():
    with pytest.warns(UserWarning, match=r"scale_factors\[1\]=4.*no voxel"):
        assert factors_of(axes_of(y=3, x=64), [2, 4], boundary="trim") == [(2, 2)]


def test_list__of_an_image_of_one_voxel_ends_with_a_warning():
    with pytest.warns(UserWarning, match=r"scale_factors\[0\]=2"):
        assert factors_of(axes_of(y=1, x=1), [2, 4]) == []


def test_list__keeps_axes_of_one_sample():
    assert factors_of(axes_of(z=1, y=64, x=64), [2, 4]) == [(1, 2, 2), (1, 4, 4)]


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3), entries=st.sets(st.integers(2, 50), min_size=1))
@example(sizes=[6, 40], entries={2, 6, 7})
def test_list__never_makes_equal_or_empty_levels(sizes, entries):
    axes = [Axis(f"a{i}", size) for i, size in enumerate(sizes)]
    for boundary in ("pad", "trim"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            levels = factors_of(axes, sorted(entries), boundary=boundary)
        assert [(1,) * len(sizes), *levels] == oracles.list_of_levels(sizes, sorted(entries), boundary)


# Isotropic


def spaced(**axes):
    return [Axis(name, size, scale, unit="micrometer") for name, (size, scale) in axes.items()]


def test_isotropic__halves_the_finest_axes_first_then_all():
    axes = spaced(z=(64, 4.0), y=(1024, 1.0), x=(1024, 1.0))
    assert factors_of(axes, "isotropic", 16) == [
        (1, 2, 2),
        (1, 4, 4),
        (2, 8, 8),
        (4, 16, 16),
        (4, 32, 32),
        (4, 64, 64),
    ]


def test_isotropic__doubles_a_spacing_that_comes_nearer_to_the_coarsest_by_it():
    root = math.sqrt(2)
    assert factors_of(spaced(y=(64, 1.0), x=(64, root)), "isotropic", max_levels=2) == [(2, 1)]
    assert factors_of(spaced(y=(64, 1.0), x=(64, math.nextafter(root, 1))), "isotropic", max_levels=2) == [(2, 2)]


@given(st.lists(st.tuples(st.integers(1, 4000), st.floats(0.1, 10)), min_size=2, max_size=3), st.integers(1, 64))
def test_isotropic__brings_voxels_near_to_cubes(pairs, least):
    axes = [Axis(f"a{i}", size, scale) for i, (size, scale) in enumerate(pairs)]
    previous = (1,) * len(axes)
    for factors in factors_of(axes, "isotropic", least):
        assert {g // f for f, g in zip(previous, factors, strict=True)} <= {1, 2}
        sizes = [oracles.level_size(a.size, f) for a, f in zip(axes, previous, strict=True)]
        spacing = [a.scale * f for a, f in zip(axes, previous, strict=True)]
        halved = [g > f for f, g in zip(previous, factors, strict=True)]
        assert any(halved)
        for index, chosen in enumerate(halved):
            if chosen:
                assert sizes[index] > least
        # An axis that waits is coarser than those that do not, or small already.
        waiting = [s for s, chosen, n in zip(spacing, halved, sizes, strict=True) if not chosen and n > least]
        if waiting:
            assert min(waiting) > max(s for s, chosen in zip(spacing, halved, strict=True) if chosen)
        previous = factors


def test_isotropic__knows_descending_axes_and_leaves_time_alone():
    for step in (0.001, 1000.0):
        axes = [Axis("t", 100, step), Axis("y", 256, -4.0), Axis("x", 256, 2.0)]
        assert factors_of(axes, "isotropic", 64) == [(1, 1, 2), (1, 2, 4), (1, 4, 4)]


UNEVEN = np.concatenate([np.arange(32) * 1.0, 32 + np.arange(32) * 3.0])


@pytest.mark.parametrize(
    ("axes", "first"),
    [
        # um and nm are converted.
        ([Axis("z", 64, 2.0, unit="micrometer"), *(Axis(n, 64, 500.0, unit="nanometer") for n in "yx")], (1, 2, 2)),
        # Degrees of any kind are one unit.
        ([Axis("lat", 64, -0.25, unit="degrees_north"), Axis("lon", 64, 0.5, unit="degrees_east")], (2, 1)),
        # An uneven axis has its median spacing.
        ([Axis("y", 64, values=UNEVEN), Axis("x", 64, 2.0)], (2, 1)),
        ([Axis("y", 64, values=UNEVEN * 10), Axis("x", 64, 2.0)], (1, 2)),
        # No unit beside one is a group of its own.
        ([Axis("y", 64, 4.0, unit="micrometer"), Axis("x", 64)], (2, 2)),
        # Coarser axes wait until the others have caught up, step by step.
        ([Axis("z", 64, 8.0), Axis("y", 64, 2.0), Axis("x", 64, 1.0)], (1, 1, 2)),
        # A vertical axis that measures something else is kept, wherever it stands.
        ([Axis("p", 64, -50.0, unit="hPa"), Axis("lat", 64, unit="degree"), Axis("lon", 64, unit="degree")], (1, 2, 2)),
        ([Axis("lat", 64, unit="degree"), Axis("lon", 64, unit="degree"), Axis("depth", 64, unit="m")], (2, 2, 1)),
        ([Axis("level", 64), Axis("lat", 64, unit="degree"), Axis("lon", 64, unit="degree")], (1, 2, 2)),
        # Nothing was said of its spacing.
        ([Axis("z", 64), Axis("y", 64, unit="micrometer"), Axis("x", 64, unit="micrometer")], (2, 2, 2)),
    ],
)
def test_isotropic__compares_spacings_of_axes_that_measure_the_same(axes, first):
    assert factors_of(axes, "isotropic", 8)[0] == first


@pytest.mark.parametrize(
    "values", [np.full(64, 5.0), np.full(64, np.nan), np.array([np.inf, 0.0] * 32), np.array(["a", "b"] * 32)]
)
def test_isotropic__ends_where_positions_have_no_distance(values):
    axes = [Axis("z", 64, values=values), Axis("y", 64, 1.0)]
    assert factors_of(axes, "isotropic", 16) == [(2, 2), (4, 4)]


@pytest.mark.parametrize("scale", [1e-320, 1e308])
def test_isotropic__ends_where_spacings_are_beyond_floats(scale):
    axes = [Axis(name, 64, scale, unit=unit) for name in "yx" for unit in ["yottameter" if scale > 1 else "yoctometer"]]
    assert factors_of(axes, "isotropic", 16) == [(2, 2), (4, 4)]
    assert factors_of([Axis("x", 64, 1e308)], "isotropic", 8) == [(2,), (4,), (8,)]


@pytest.mark.parametrize("factors", [2, [2]])
def test_ints__keep_a_vertical_axis_that_measures_something_else(factors):
    axes = [Axis("p", 64, unit="hPa"), Axis("lat", 64, unit="degrees_north"), Axis("lon", 64, unit="degrees_east")]
    assert factors_of(axes, factors, 32) == [(1, 2, 2)]
    assert factors_of(axes, {"p": 2}, 32) == [(2, 1, 1)]


def test_ladder__refuses_a_size_as_a_step():
    with pytest.raises(ValueError, match="min_size=128"):
        factors_of(axes_of(x=512), 128)
    assert factors_of(axes_of(x=512), [128]) == [(128,)]
    assert factors_of(axes_of(x=512), {"x": 32}, 16) == [(32,)]


@pytest.mark.parametrize("word", ["isotropy", "2", ""])
def test_ladder__refuses_other_words(word):
    with pytest.raises(ValueError, match=rf"scale_factors='{word}'.*isotropic"):
        factors_of(axes_of(x=64), word)


@pytest.mark.parametrize("wrong", [2.0, 2.5, True, None, [2.0], {"x": 2.0}, ["2"]])
def test_ladder__refuses_factors_that_are_not_integers(wrong):
    with pytest.raises(TypeError, match=r"scale_factors.*integer"):
        factors_of(axes_of(x=64), wrong)


@pytest.mark.parametrize("wrong", [0, -2, [0], [2, -4], {"x": 0}])
def test_ladder__refuses_factors_below_one(wrong):
    with pytest.raises(ValueError, match=r"scale_factors.*at least 1"):
        factors_of(axes_of(x=64), wrong)


def test_ladder__refuses_unknown_dims():
    with pytest.raises(ValueError, match=r"scale_factors.*'q'.*\('y', 'x'\)"):
        factors_of(axes_of(y=64, x=64), {"q": 2})


# Options


def test_per_axis__takes_an_int_a_mapping_or_one_per_axis():
    axes = axes_of(t=5, y=6, x=7)
    assert per_axis("chunks", 4, axes) == {"y": 4, "x": 4}
    assert per_axis("chunks", {"t": np.int64(2)}, axes) == {"t": 2}
    assert per_axis("chunks", [1, 2, 3], axes) == per_axis("chunks", np.array([1, 2, 3]), axes)
    assert per_axis("chunks", (1, 2, 3), axes) == {"t": 1, "y": 2, "x": 3}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ([1, 2], ValueError, "2 entries"),
        ({"q": 1}, ValueError, "'q'"),
        (0, ValueError, "at least 1"),
        ({"y": -1}, ValueError, "'y': -1"),
        (1.5, TypeError, "1.5"),
        ("64", TypeError, "'64'"),
    ],
)
def test_per_axis__refuses_the_rest(value, error, text):
    with pytest.raises(error, match=f"chunks.*{text}"):
        per_axis("chunks", value, axes_of(t=5, y=6, x=7))


def test_as_positive_int__and_as_int_take_integers_of_any_kind():
    assert as_positive_int("workers", None) is None
    assert as_positive_int("workers", np.int16(3)) == 3
    assert type(as_int("workers", np.int16(3))) is int
    with pytest.raises(ValueError, match="workers=0"):
        as_positive_int("workers", 0)
    with pytest.raises(TypeError, match="workers=True"):
        as_int("workers", True)
    with pytest.raises(TypeError, match=r"workers=2\.0"):
        as_int("workers", 2.0)
