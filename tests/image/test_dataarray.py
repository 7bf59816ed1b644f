import dask.array as da
import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms


def of_unknown_size():
    """A dask array after a selection by a mask, whose number of rows nobody knows."""
    values = da.ones((8, 8), dtype="uint8", chunks=4)
    return values[values[:, 0] > 0]


def pyramid():
    store = {}
    ms.write_pyramid(np.ones((8, 8), "uint8"), store, scale_factors=[2])
    return store


UNKNOWN = xr.DataArray(of_unknown_size(), dims=("y", "x"))
PLAIN = xr.DataArray(np.ones((8, 8), "uint8"), dims=("y", "x"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: ms.to_image(UNKNOWN.data),
        lambda: ms.coarsen(UNKNOWN, 2),
        lambda: ms.to_multiscale(UNKNOWN, [2]),
        lambda: ms.to_multiscale(UNKNOWN.data, [2]),
        lambda: ms.plan_pyramid(UNKNOWN, [2]),
        lambda: ms.write_pyramid(UNKNOWN, {}, scale_factors=[2]),
        lambda: ms.append_pyramid(UNKNOWN.data, pyramid(), "y"),
        lambda: ms.write_labels(UNKNOWN, pyramid(), "cells"),
        lambda: ms.write_labels(UNKNOWN.data, pyramid(), "cells"),
        lambda: ms.to_multiscale(PLAIN, [2], weights=UNKNOWN),
    ],
)
def test_unknown_sizes__are_refused_with_what_to_do(call):
    with pytest.raises(ValueError, match=r"shape \(nan, 8\).*compute_chunk_sizes\(\)"):
        call()


def test_unknown_sizes__once_computed_are_like_any_other():
    known = of_unknown_size().compute_chunk_sizes()
    assert ms.to_multiscale(known, [2])["scale1/image"].shape == (4, 4)
