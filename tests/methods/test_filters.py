"""Filters of whole blocks in the dtype of an image: rounding, large integers, windows with too few valid samples."""

import numpy as np
import pytest
from hypothesis import given

from multiscale_sampler.methods import Binding, FilterReduction
from tests import oracles, strategies


def filtered(image, factors, kernel, **rule):
    """An image filtered as one block."""
    reduction = FilterReduction(Binding(image.dtype, **rule), kernel=kernel)
    counts = [np.minimum(f, n - np.arange(0, n, f)) for n, f in zip(image.shape, factors, strict=True)]
    return reduction.at_once(image, factors, ((0, 0),) * image.ndim, tuple(counts))


@pytest.mark.parametrize("kernel", oracles.FILTERS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16"])
@given(seed=strategies.SEEDS)
def test_filters__of_integers_are_those_of_floats_rounded_once(dtype, kernel, seed):
    image = strategies.random_values((7, 10), dtype, seed)
    values = filtered(image.astype(np.float64), (2, 3), kernel)
    limits = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    expected = np.clip(np.rint(values), *limits).astype(dtype)
    assert filtered(image, (2, 3), kernel).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("dtype", "near"), [("uint64", 2**64 - 100), ("int64", -(2**63)), ("int64", -50), ("uint64", 2**32 - 50)]
)
@pytest.mark.parametrize("kernel", oracles.FILTERS)
def test_filters__of_large_integers_keep_small_differences(kernel, dtype, near):
    offsets = np.random.default_rng(7).integers(30, 70, (9, 11))
    image = np.array([near + offset for offset in offsets.ravel().tolist()], dtype).reshape(offsets.shape)
    out = filtered(image, (2, 3), kernel)
    difference = np.array([value - near for value in out.ravel().tolist()]).reshape(out.shape)
    np.testing.assert_allclose(difference, filtered(offsets.astype(np.float64), (2, 3), kernel), atol=0.501)


@pytest.mark.parametrize(("min_valid", "rows"), [(0.0, [100, 100, 100, 9]), (0.5, [100, 100, 9, 9])])
def test_filters__fill_windows_with_too_few_valid_samples_with_nodata(min_valid, rows):
    image = np.full((8, 8), 9, np.int16)
    image[:4] = 100
    out = filtered(image, (2, 2), "linear", nodata=9, min_valid=min_valid)
    assert out.tolist() == [[row] * 4 for row in rows]
