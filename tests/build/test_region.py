"""Regions of sparse images: what is not stored is neither computed nor written, and counts all the same."""

import dask
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler import add_levels, open_pyramid, write_pyramid
from multiscale_sampler.build.sources import StoredBase
from multiscale_sampler.methods import SumReduction

from ..oracles import METHODS, STEPWISE, expected_level


def stored(array):
    """Return the number of chunks of an array that are stored."""
    return array.nchunks_initialized


def sparse(place, fill, *, shape=(21, 34), dtype="int16", **options):
    """Return a base of which one corner is stored, and its values."""
    base = zarr.create_array(place, shape=shape, chunks=(4, 4), dtype=dtype, fill_value=fill, **options)
    base[:5, :3] = np.arange(100, 115).reshape(5, 3)
    return base


@given(
    method=st.sampled_from(METHODS),
    fill=st.sampled_from((0, 7, -1)),
    nodata=st.sampled_from((None, 0, 7)),
    boundary=st.sampled_from(("pad", "trim")),
    chunks=st.sampled_from((None, 3, 8)),
    in_place=st.booleans(),
    limit=st.sampled_from(("1GiB", "16KiB")),
)
def test_sparse__levels_are_those_of_the_whole_array(
    tmp_path_factory, method, fill, nodata, boundary, chunks, in_place, limit
):
    if method == "nearest":
        nodata = None
    place = tmp_path_factory.mktemp("sparse")
    base = sparse(place / "0", fill)
    options = {"scale_factors": [2, 4], "method": method, "nodata": nodata, "boundary": boundary, "memory_limit": limit}
    if in_place:
        zarr.open_group(place, mode="a")
        add_levels(place, chunks=chunks, **options)
        levels = [zarr.open_array(place / name)[:] for name in ("0", "1", "2")]
    else:
        write_pyramid(base, place / "p.zarr", chunks=chunks, **options)
        tree = open_pyramid(place / "p.zarr")
        levels = [tree[f"scale{index}/image"].values for index in range(3)]
    np.testing.assert_array_equal(levels[0], base[:])
    expected = base[:]
    for level, factors in zip(levels[1:], ((2, 2), (4, 4)), strict=True):
        if method in STEPWISE:
            # Step by step: each level from the one before.
            expected = expected_level(expected, (2, 2), method, boundary=boundary, nodata=nodata)
        else:
            expected = expected_level(base[:], factors, method, boundary=boundary, nodata=nodata)
        np.testing.assert_array_equal(level, expected)


@pytest.mark.parametrize("fill", [0, 7])
@pytest.mark.parametrize("method", ["mean", "median", "nearest"])
def test_sparse__what_is_not_stored_is_not_written(tmp_path, method, fill):
    write_pyramid(sparse(tmp_path / "b.zarr", fill), tmp_path / "p.zarr", scale_factors=[2, 4], method=method)
    levels = [zarr.open_array(tmp_path / f"p.zarr/scale{index}/image") for index in range(3)]
    assert [stored(level) for level in levels] == [2, 1, 1]


def test_sparse__a_sum_of_fill_is_written_where_it_is_not_the_fill(tmp_path):
    write_pyramid(sparse(tmp_path / "b.zarr", 7), tmp_path / "p.zarr", scale_factors=[2], method="sum", workers=1)
    level = zarr.open_array(tmp_path / "p.zarr/scale1/image")
    assert stored(level) == level.nchunks


def test_sparse__nan_as_fill_stays_missing(tmp_path):
    base = sparse(tmp_path / "b.zarr", np.nan, dtype="float32")
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2])
    level = zarr.open_array(tmp_path / "p.zarr/scale1/image")
    assert stored(level) == 1
    assert np.isnan(level[8:]).all()
    np.testing.assert_array_equal(level[:2, :2], expected_level(base[:4, :4], (2, 2), "mean"))


def test_sparse__zarr_v2_without_a_fill_value_counts_as_zero(tmp_path):
    base = sparse(tmp_path / "b.zarr", None, zarr_format=2)
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2], version="0.4")
    np.testing.assert_array_equal(
        open_pyramid(tmp_path / "p.zarr")["scale1/image"], expected_level(np.asarray(base[:]), (2, 2), "mean")
    )


@pytest.mark.parametrize("shards", [None, (8, 8)])
def test_sparse__only_what_is_stored_is_reduced(tmp_path, monkeypatch, shards):
    seen = []
    first = SumReduction.first

    def counting(self, block, *arguments):
        seen.append(block.size)
        return first(self, block, *arguments)

    base = sparse(tmp_path / "b.zarr", 0, shape=(256, 256), shards=shards)
    monkeypatch.setattr(SumReduction, "first", counting)
    # Regions as small as they may be.
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2])
    # The one region that anything is stored of, and windows of fill to learn what becomes of them.
    assert sum(seen) < 512
    np.testing.assert_array_equal(
        open_pyramid(tmp_path / "p.zarr")["scale1/image"], expected_level(base[:], (2, 2), "mean")
    )


def test_sparse__regions_of_nothing_read_nothing(tmp_path, monkeypatch):
    base = sparse(tmp_path / "b.zarr", 0, shape=(64, 64))
    regions = []
    tiles = StoredBase.tiles

    def counting(base, box, unit):
        regions.append(box)
        return tiles(base, box, unit)

    monkeypatch.setattr(StoredBase, "tiles", counting)
    with dask.config.set({"multiscale_sampler.region_size": 1}):
        write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2])
    assert regions == [(slice(0, 8), slice(0, 8))]
