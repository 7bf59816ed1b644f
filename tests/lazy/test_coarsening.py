import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import multiscale_sampler as ms
from multiscale_sampler.lazy import coarsening
from tests import oracles, strategies
from tests.oracles import METHODS, assert_level


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), array=strategies.arrays(ranks=st.integers(1, 4)))
def test_coarsen__takes_a_factor_per_axis(method, lazy, data, array):
    factors = data.draw(strategies.factors_that_reduce(array.shape))
    dims = strategies.dims_of(array.shape)
    source = da.from_array(array, chunks=data.draw(strategies.chunks(array.shape))) if lazy else array
    level = ms.coarsen(ms.to_image(source, dims), dict(zip(dims, factors, strict=True)), method=method)
    exact = oracles.reduced(array, factors, method)
    ulps = int(method in ("mean", "sum", "median"))
    assert_level(level, exact, oracles.level_dtype(array.dtype, method), ulps=ulps)


@pytest.mark.parametrize("boundary", ["pad", "trim"])
@pytest.mark.parametrize("method", oracles.FILTERS)
@given(data=st.data(), seed=strategies.SEEDS)
def test_coarsen__of_filters_looks_beyond_windows_and_blocks(method, boundary, data, seed):
    factors = data.draw(st.sampled_from([(2,), (3,), (5,), (2, 3), (1, 4), (4, 1)]))
    shape = tuple(data.draw(st.integers(f, 60 // len(factors))) for f in factors)
    array, dims = strategies.random_values(shape, "float64", seed), strategies.dims_of(shape)
    options = {"factors": dict(zip(dims, factors, strict=True)), "method": method, "boundary": boundary}
    eager = ms.coarsen(ms.to_image(array, dims), **options)
    (expected,) = oracles.filter_pyramid(array, [(1,) * len(shape), factors], method, boundary=boundary)
    oracles.assert_filtered(eager.values, expected, "float64")
    cut = da.from_array(array, chunks=data.draw(strategies.chunks(shape)))
    with pytest.MonkeyPatch.context() as patch:
        # Small blocks are joined; images of this size would be one block.
        patch.setattr(coarsening, "SMALLEST_BLOCK", data.draw(st.sampled_from([0, 128])))
        lazy = ms.coarsen(ms.to_image(cut, dims), **options)
    assert lazy.values.tobytes() == eager.values.tobytes()
    xr.testing.assert_identical(lazy.compute(), eager)


def test_coarsen__an_int_is_for_spatial_axes():
    image = ms.to_image(np.zeros((2, 3, 8, 8)), "tcyx")
    assert ms.coarsen(image, 2).shape == (2, 3, 4, 4)
    assert ms.coarsen(image, {"t": 2}).shape == (1, 3, 8, 8)
    assert ms.coarsen(image, np.int64(4)).shape == (2, 3, 2, 2)


def test_coarsen__keeps_name_attrs_units_and_scalar_coordinates():
    image = ms.to_image(np.zeros((4, 6), "uint8"), scale=0.5, units="micrometer", name="nuc")
    image.attrs["instrument"] = "scope"
    image = image.assign_coords(exposure=3)
    image.x.attrs["long_name"] = "width"
    level = ms.coarsen(image, 2)
    assert level.name == "nuc"
    assert level.attrs == {"instrument": "scope"}
    assert level.exposure.item() == 3
    assert level.x.attrs["units"] == "micrometer"
    assert level.x.attrs["long_name"] == "width"
    assert level.x.values.tolist() == [0.25, 1.25, 2.25]


@pytest.mark.parametrize(("boundary", "rows"), [("pad", "ace"), ("trim", "ac")])
def test_coarsen__keeps_the_first_label_of_every_window_of_nearest(boundary, rows):
    image = ms.to_image(np.arange(5), "y").assign_coords(row=("y", list("abcde")))
    level = ms.coarsen(image, 2, method="nearest", boundary=boundary)
    assert level.row.values.tolist() == list(rows)


@pytest.mark.parametrize("lazy", [False, True])
def test_coarsen__takes_weights_with_dims_in_any_order_or_missing(lazy):
    array, weights = np.arange(24.0).reshape(4, 6), np.random.default_rng(0).random((4, 6))
    image = ms.to_image(da.from_array(array, chunks=3) if lazy else array, "yx")
    along_x = np.broadcast_to(weights[0], (4, 6))
    for passed, full in [
        (xr.DataArray(weights, dims=("y", "x")), weights),
        (xr.DataArray(weights.T, dims=("x", "y")), weights),
        (xr.DataArray(weights[0], dims="x"), along_x),
    ]:
        expected = [
            np.average(values, weights=shares)
            for (_, values), (_, shares) in zip(
                oracles.windows(array, (2, 3)), oracles.windows(full, (2, 3)), strict=True
            )
        ]
        level = ms.coarsen(image, {"y": 2, "x": 3}, weights=passed)
        np.testing.assert_allclose(level.values.ravel(), expected, rtol=1e-12)


def test_coarsen__changes_no_argument():
    image = ms.to_image(np.arange(12, dtype="uint8").reshape(3, 4), scale=0.5)
    before = image.copy(deep=True)
    ms.coarsen(image, 2, method="median")
    assert image.identical(before)


def test_coarsen__takes_plain_arrays():
    level = ms.coarsen(np.arange(6, dtype="uint8").reshape(2, 3), 2)
    assert level.values.tolist() == [[2, 4]]
    assert level.dims == ("y", "x")


def test_coarsen__follows_the_kind_of_the_array():
    array = np.ones((6, 6))
    assert isinstance(ms.coarsen(array, 2).data, np.ndarray)
    assert isinstance(ms.coarsen(da.from_array(array, chunks=4), 2).data, da.Array)


def test_coarsen__twice_by_the_mean_of_whole_windows_is_once_by_the_product():
    array = strategies.random_values((12, 24), "float64", 3)
    twice = ms.coarsen(ms.coarsen(array, 2), 3)
    once = ms.coarsen(array, 6)
    np.testing.assert_allclose(twice.values, once.values, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(twice.x.values, once.x.values, rtol=1e-15)


def test_coarsen__a_window_may_exceed_the_image():
    level = ms.coarsen(np.full((3, 5), 7, "uint8"), 8)
    assert level.values.tolist() == [[7]]
    assert level.x.values.tolist() == [3.5]


@pytest.mark.parametrize("factors", [{"q": 2}, 0, -1, {"x": 0}])
def test_coarsen__refuses_impossible_factors(factors):
    with pytest.raises(ValueError, match=r"factors"):
        ms.coarsen(np.zeros((4, 4)), factors)


@pytest.mark.parametrize("factors", [2.0, None, True, {"x": 1.5}])
def test_coarsen__refuses_factors_that_are_not_integers(factors):
    with pytest.raises(TypeError, match=r"factors"):
        ms.coarsen(np.zeros((4, 4)), factors)


@pytest.mark.parametrize(
    ("shape", "chunks", "factor", "expected"),
    [
        # Blocks are joined by the factor, so that those of the level are as large.
        ((4096, 4096), (512, 512), 2, ((512,) * 4, (512,) * 4)),
        ((4096, 4096), (500, 333), 3, ((500, 500, 366), (*(333,) * 4, 34))),
        # As long as they stay below 16 MiB: along one axis, or none.
        ((8192, 8192), (2048, 2048), 2, ((2048, 2048), (1024,) * 4)),
        ((8192, 8192), (4096, 4096), 2, ((2048, 2048), (2048, 2048))),
        # Blocks that end within a window are cut elsewhere.
        ((9000, 6000), ((4096, 4097, 807), (3000, 3000)), 2, ((2048, 2048, 404), (1500, 1500))),
    ],
)
def test_coarsen__of_a_lazy_image_stays_in_blocks(shape, chunks, factor, expected):
    level = ms.coarsen(da.zeros(shape, chunks=chunks, dtype="uint16"), factor)
    assert level.data.chunks == expected


def test_coarsen__ps_5_rounds():
    """PS-5: a block whose mean is 1.875 becomes 2."""
    block = np.array([2, 2, 2, 2, 2, 2, 2, 1], "uint8").reshape(2, 2, 2)
    assert ms.coarsen(block, 2).item() == 2


@pytest.mark.parametrize(
    ("dtype", "values", "mean"),
    [
        ("uint8", [2, 2, 2, 1], 2),
        ("int16", [-2, -2, -2, -1], -2),
        ("uint8", [0, 1], 0),
        ("uint8", [1, 2], 2),
        ("int8", [-1, -2], -2),
        ("int8", [0, -1], 0),
    ],
)
def test_coarsen__oz_9_rounds_half_to_even(dtype, values, mean):
    """OZ-9: 1.75 is 2, -1.75 is -2."""
    image = ms.to_image(np.array(values, dtype), "x")
    assert ms.coarsen(image, len(values)).item() == mean


@pytest.mark.parametrize("method", [m for m in METHODS if m != "sum"])
@pytest.mark.parametrize("shape", [(9, 8), (8, 9), (9, 9, 8)])
def test_coarsen__x_5_partial_windows_of_a_constant(shape, method):
    """X-5: constant 8, the last row and column included."""
    level = ms.coarsen(np.full(shape, 8, "uint8"), 2, method=method)
    assert level.shape == tuple(oracles.level_size(n, 2) for n in shape)
    assert (level.values == 8).all()


def test_coarsen__x_7_the_grid_stays_regular():
    """X-7: nine samples by two; the last coordinate has the same spacing, the dtype stays."""
    level = ms.coarsen(ms.to_image(np.arange(9, dtype="uint8"), "x"), 2)
    assert level.x.values.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert level.dtype == np.uint8
    assert level.values.tolist() == [0, 2, 4, 6, 8]


def test_coarsen__x_2_the_mode_of_the_greatest_value():
    """X-2: [[255, 255], [255, 7]] is 255."""
    assert ms.coarsen(np.array([[255, 255], [255, 7]], "uint8"), 2, method="mode").item() == 255
    pair = np.array([[0, 0], [2**64 - 1, 2**64 - 1]], "uint64")
    assert ms.coarsen(pair, 2, method="mode").item() == 0


def test_coarsen__ps_10_oz_18_one_nan_voxel():
    """PS-10, OZ-18: one NaN among ones is skipped, or spreads to its window and no further."""
    array = np.ones((8, 8), "float32")
    array[3, 3] = np.nan
    assert (ms.coarsen(array, 2).values == 1).all()
    assert np.isnan(ms.coarsen(array, 2, skipna=False).values).sum() == 1
    tree = ms.to_multiscale(array, [2, 4, 8], skipna=False)
    assert [int(np.isnan(level.values).sum()) for level in oracles.images_of(tree)] == [1, 1, 1, 1]


def test_coarsen__nz_12_true_stays_true():
    """NZ-12: bool."""
    for method in METHODS:
        level = ms.coarsen(np.full((4, 4), True), 2, method=method)
        assert level.dtype == (np.int64 if method == "sum" else np.bool_)
        assert level.values.all()


def test_coarsen__msi_12_irregular_coordinates_are_not_replaced():
    """MSI-12: y = i**2."""
    image = xr.DataArray(np.zeros((4, 4)), dims=("y", "x"), coords={"y": np.arange(4) ** 2})
    assert ms.coarsen(image, 2).y.values.tolist() == [0.5, 6.5]


@pytest.mark.parametrize("method", METHODS)
def test_coarsen__of_all_dtypes_lazily_declares_what_it_computes(method):
    for dtype in oracles.DTYPES:
        level = ms.coarsen(da.ones((5, 5), chunks=3, dtype=dtype), 2, method=method)
        computed = level.compute()
        assert (level.dtype, level.shape) == (computed.dtype, computed.shape)
