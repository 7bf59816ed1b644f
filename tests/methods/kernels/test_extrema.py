import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.methods.kernels import extrema
from multiscale_sampler.methods.kernels.windows import Missing
from tests import oracles, strategies

KERNELS = {"min": extrema.minimum, "max": extrema.maximum}
# What numba has types for; the reducers convert the others.
# One of each width and kind: every dtype takes seconds to compile, and all are in tests/test_methods_matrix.py.
DTYPES = ("uint8", "int16", "uint32", "int64", "float32", "float64")


@pytest.mark.parametrize("method", KERNELS)
@given(data=st.data(), block=strategies.arrays(DTYPES))
def test_extrema__are_those_of_every_window(method, data, block):
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(False, None))
    oracles.assert_level(out, oracles.reduced(block, factors, method), block.dtype)


@pytest.mark.parametrize("method", KERNELS)
@given(shape=strategies.shapes(), dtype=strategies.dtypes(DTYPES), seed=strategies.SEEDS, data=st.data())
def test_extrema__ignore_nodata(method, shape, dtype, seed, data):
    block = strategies.with_missing(strategies.random_values(shape, dtype, seed, "few"), seed, value=1)
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(False, 1))
    oracles.assert_level(out, oracles.reduced(block, factors, method, nodata=1), dtype)


@pytest.mark.parametrize("skip_nan", [True, False])
@pytest.mark.parametrize("method", KERNELS)
@given(shape=strategies.shapes(), seed=strategies.SEEDS, data=st.data())
def test_extrema__ignore_nan_or_return_it(method, skip_nan, shape, seed, data):
    block = strategies.with_missing(strategies.random_values(shape, "float32", seed), seed, fraction=0.2)
    factors = data.draw(strategies.factors(block.ndim))
    out = KERNELS[method](block, factors, Missing(skip_nan, None))
    oracles.assert_level(out, oracles.reduced(block, factors, method, skipna=skip_nan), "float32")


@pytest.mark.parametrize("order", [[np.nan, 1, 2], [1, np.nan, 2], [1, 2, np.nan]])
@pytest.mark.parametrize("method", KERNELS)
def test_extrema__nan_wins_at_any_position(method, order):
    assert np.isnan(KERNELS[method](np.array(order), (3,), Missing(False, None))).all()


@pytest.mark.parametrize(("method", "expected"), [("min", -np.inf), ("max", np.inf)])
def test_extrema__infinities_are_values(method, expected):
    block = np.array([np.inf, -np.inf, 0.0])
    assert KERNELS[method](block, (3,), Missing(True, None)).tolist() == [expected]


def test_extrema__the_ends_of_the_range_are_values():
    block = np.array([np.iinfo("int64").min, np.iinfo("int64").max])
    assert extrema.minimum(block, (1,), Missing(False, None)).tolist() == block.tolist()
    assert extrema.maximum(block, (2,), Missing(False, None)).tolist() == [np.iinfo("int64").max]
    assert extrema.maximum(block[:1], (2,), Missing(False, None)).tolist() == [np.iinfo("int64").min]


@pytest.mark.parametrize("missing", [Missing(False, None), Missing(True, None)])
@pytest.mark.parametrize("method", KERNELS)
def test_extrema__of_zeros_are_positive(method, missing):
    zeros = np.random.default_rng(0).choice(np.array([0.0, -0.0], "float32"), (8, 8, 3))
    found = KERNELS[method](zeros, (2, 2, 1), missing)
    assert not np.signbit(found).any()
    for channel in range(3):
        alone = np.ascontiguousarray(zeros[..., channel : channel + 1])
        np.testing.assert_array_equal(found[..., channel : channel + 1], KERNELS[method](alone, (2, 2, 1), missing))
