from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import multiscale_sampler as ms
from multiscale_sampler.check.downsampling_rules import Family
from multiscale_sampler.methods.reducers import REDUCERS, WEIGHTED_MEAN, get_reducer, needs_weights, resampling_name
from tests import oracles, strategies
from tests.oracles import DTYPES, METHODS, STEPWISE


def counts_of(shape, factors):
    return tuple(
        np.array([min(f, n - i * f) for i in range(-(-n // f))], np.int64) for n, f in zip(shape, factors, strict=True)
    )


def test_reducers__of_the_table_are_those_that_the_oracles_know():
    assert set(REDUCERS) == set(oracles.TAKES)
    assert {name for name, row in REDUCERS.items() if row.cascade != "exact"} == set(oracles.STEPS)


@pytest.mark.parametrize("method", METHODS)
def test_reducers__say_what_they_are(method):
    reducer = REDUCERS[method]
    assert reducer.name == method
    assert "window" in reducer.summary
    assert reducer.position == ("first" if method == "nearest" else "center")
    assert isinstance(reducer, ms.Reducer)


def names_by(field):
    """The names of the methods of the table by the value that they have in a field."""
    found = {}
    for name, row in REDUCERS.items():
        found.setdefault(getattr(row, field), set()).add(name)
    return found


def test_reducers__say_which_are_for_labels():
    assert names_by("labels") == {
        "only": {"mode", "mode_nonzero", "label_gaussian"},
        "also": {"nearest", "min", "max"},
        "no": {"mean", "sum", "std", "median", "any", "all", "count", "laplacian", *oracles.FILTERS},
    }


def test_reducers__say_how_packed_values_are_taken():
    assert names_by("packed") == {
        "packed": {"mean", "median", "nearest", "mode", "label_gaussian", *oracles.FILTERS},
        "order": {"min", "max"},
        "decoded": {"sum", "std", "any", "all", "count", "mode_nonzero", "laplacian"},
    }
    assert WEIGHTED_MEAN.packed == "packed"


def test_reducers__say_what_their_levels_are_judged_by():
    by = names_by("evidence")
    assert by["rules"] == set(get_args(Family)) - {"window"}
    assert by["pixels"] == set(oracles.FILTERS)


def test_reducers__say_which_have_other_names():
    assert {name: row.convention_name for name, row in REDUCERS.items() if row.convention_name} == {"mean": "average"}
    assert [resampling_name(name) for name in ("mean", "median", "custom")] == ["average", "median", "custom"]
    assert needs_weights(get_reducer("mean", weighted=True).name)
    assert not any(map(needs_weights, [None, *REDUCERS]))


@pytest.mark.parametrize("reducer", [*REDUCERS.values(), WEIGHTED_MEAN], ids=lambda reducer: reducer.name)
def test_reducers__of_bands_alone_need_the_next_level(reducer):
    reduction = reducer.bind("uint8")
    state = np.ones((max(reduction.components, 1), 4))
    under = reduction.coarser_samples(2, 6, 2, 8)
    assert reduction.makes_base == reducer.bands
    assert (reduction.coarser_neighbours > 0) == (under.stop > under.start) == reducer.bands
    assert (reduction.relative_itemsize > 0) == reducer.bands
    assert reduction.finished_levels(0, (1, 2), 4) == ((0, 1) if reducer.bands else (1, 2))
    assert reduction.finished_levels(2, (3,), 4) == ((2, 3) if reducer.bands else (3,))
    assert reducer.bands or reduction.relative(state, state, (1,), (0,)) is state


def test_get_reducer__takes_names_and_rows():
    assert get_reducer("mean") is REDUCERS["mean"]
    assert get_reducer(REDUCERS["mode"]) is REDUCERS["mode"]
    with pytest.raises(ValueError, match=r"'average'.*'mean', 'sum'"):
        get_reducer("average")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_bind__decides_the_dtype_of_the_levels(method, dtype):
    assert REDUCERS[method].bind(dtype).output_dtype == oracles.level_dtype(dtype, method)


@pytest.mark.parametrize("dtype", [">u2", ">f8", ">i8"])
@pytest.mark.parametrize("method", METHODS)
def test_bind__makes_the_order_of_bytes_native(method, dtype):
    output = REDUCERS[method].bind(dtype).output_dtype
    assert output == oracles.level_dtype(dtype, method)
    assert output.isnative


@pytest.mark.parametrize("dtype", ["S4", "U4", "O", "V8"])
@pytest.mark.parametrize("method", METHODS)
def test_bind__refuses_what_has_no_kernel(method, dtype):
    with pytest.raises(TypeError, match=rf"'{method}' does not accept"):
        REDUCERS[method].bind(dtype)


@pytest.mark.parametrize("method", [name for name, row in REDUCERS.items() if name != "nearest"])
def test_bind__refuses_floats_that_numba_does_not_know(method):
    with pytest.raises(TypeError, match=rf"'{method}'.*astype"):
        REDUCERS[method].bind(np.longdouble)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 256),
        ("uint8", -1),
        ("uint8", 1.5),
        ("uint8", np.nan),
        ("uint64", -1),
        ("int64", 2**64 - 1),
        ("uint64", 2**64),
        ("bool", 2),
        ("float32", 1e300),
        ("uint8", "0"),
        ("uint8", [0]),
    ],
)
def test_bind__refuses_a_nodata_that_no_voxel_can_have(dtype, nodata):
    with pytest.raises(ValueError, match="nodata="):
        REDUCERS["mean"].bind(dtype, nodata=nodata)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 255),
        ("uint8", np.int64(0)),
        ("uint8", 255.0),
        ("uint64", 2**64 - 1),
        ("int64", -(2**63)),
        ("bool", False),
        ("float32", 0.1),
        ("float16", -np.inf),
        ("float32", -9999),
    ],
)
def test_bind__takes_a_nodata_of_any_kind_of_number(dtype, nodata):
    kept = REDUCERS["mean"].bind(dtype, nodata=nodata).binding.nodata
    assert kept == np.array(nodata).astype(dtype)
    assert not isinstance(kept, np.generic)


def test_bind__nodata_nan_means_skipna():
    reduction = REDUCERS["mean"].bind("float32", skipna=False, nodata=np.nan)
    assert reduction.binding.skip_nan
    assert reduction.binding.nodata is None


def test_bind__skips_nan_of_floats_by_default():
    assert REDUCERS["mean"].bind("float32").binding.skip_nan
    assert not REDUCERS["mean"].bind("float32", skipna=False).binding.skip_nan
    assert not REDUCERS["mean"].bind("uint8", skipna=True).binding.skip_nan
    assert not REDUCERS["nearest"].bind("float32").binding.skip_nan


def test_bind__nearest_refuses_nodata():
    with pytest.raises(ValueError, match=r"'nearest'.*nodata=3"):
        REDUCERS["nearest"].bind("uint8", nodata=3)


@pytest.mark.parametrize(("dtype", "most"), [("uint8", 2**55), ("uint32", 2**31), ("uint64", 2**32), ("int64", 2**32)])
def test_bind__refuses_windows_whose_sum_no_state_could_hold(dtype, most):
    REDUCERS["mean"].bind(dtype, window=most)
    with pytest.raises(ValueError, match=rf"{most + 1}.*{most}.*{dtype}"):
        REDUCERS["mean"].bind(dtype, window=most + 1)
    REDUCERS["sum"].bind(dtype, window=most + 1)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), block=strategies.arrays(ranks=st.integers(1, 3)), chain=st.lists(st.integers(1, 3), max_size=2))
def test_reduction__merges_states_to_the_state_of_the_whole(method, data, block, chain):
    """first, merge, ..., finish: what the tree and the engine do."""
    first = data.draw(strategies.factors(block.ndim, most=3))
    total = tuple(f * int(np.prod(chain)) for f in first)
    reduction = REDUCERS[method].bind(block.dtype, window=int(np.prod(total)))
    state = reduction.first(block, first)
    expected = block
    steps = [first, *[(factor,) * block.ndim for factor in chain]]
    for factors in steps[1:]:
        state = reduction.merge(state, factors)
    assert state.dtype == reduction.state_dtype
    assert state.ndim == block.ndim + (reduction.components > 0)
    out = reduction.finish(state, counts_of(block.shape, total))
    if method in STEPWISE:
        for factors in steps:
            exact = oracles.reduced(expected, factors, method)
            expected = oracles.as_dtype(exact, block.dtype)
        np.testing.assert_allclose(out, expected, rtol=1e-3 if block.dtype == np.float16 else 1e-6)
    else:
        exact = oracles.reduced(block, total, method)
        summed = method in ("mean", "sum")
        # The error of a float64 sum where values span more bits than it has.
        lost = summed and block.dtype.kind == "f"
        slack = oracles.magnitudes(block, total) * Fraction(1, 2**50) if lost else None
        oracles.assert_level(out, exact, oracles.level_dtype(block.dtype, method), ulps=summed, slack=slack)


@pytest.mark.parametrize("window", [1, 2**22, 2**24])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "bool"])
def test_reduction__narrow_states_do_not_overflow(dtype, window):
    """Sums of small integers have 32-bit states where the window is small enough."""
    top = True if dtype == "bool" else np.iinfo(dtype).max
    reduction = REDUCERS["mean"].bind(dtype, window=window)
    state_top = np.iinfo(reduction.state_dtype).max
    assert int(top) * window <= state_top
    block = np.full((4, 4), top, dtype)
    assert (reduction.finish(reduction.first(block, (2, 2)), counts_of((4, 4), (2, 2))) == top).all()


@pytest.mark.parametrize("method", METHODS)
def test_reduction__does_not_change_its_block(method):
    block = strategies.random_values((4, 6), "float32", 7)
    before = block.copy()
    reduction = REDUCERS[method].bind("float32", window=16)
    state = reduction.first(block, (2, 2))
    kept = state.copy()
    reduction.finish(reduction.merge(state, (2, 2)), counts_of((4, 6), (4, 4)))
    np.testing.assert_array_equal(block, before)
    np.testing.assert_array_equal(state, kept)


def test_reduction__of_nearest_keeps_no_view_of_the_base():
    block = np.zeros((4, 4))
    assert not np.shares_memory(REDUCERS["nearest"].bind("float64").first(block, (2, 2)), block)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("<U6", r"'<U6'; number the values and choose method='mode'.*pandas.factorize"),
        ("O", "number the values and choose method='mode'"),
        ("M8[ns]", "dates have no sums; choose 'median', 'nearest'"),
        ("m8[ns]", "durations have no sums; choose 'median', 'nearest'"),
        ([("a", "u1")], "choose one of its fields"),
        ("f16", r"image.astype\('float32'\)"),
    ],
)
def test_bind__says_what_to_do_with_a_dtype_that_a_method_does_not_accept(dtype, message):
    with pytest.raises(TypeError, match=message):
        get_reducer("mean").bind(np.dtype(dtype))


@pytest.mark.parametrize("method", ["median", "nearest", "min", "max", "mode"])
@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[ns]"])
def test_bind__dates_have_the_methods_that_the_text_names(method, dtype):
    get_reducer(method).bind(np.dtype(dtype))
