"""Chunks, shards and compressors by level, through every function that takes or keeps them."""

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import GzipCodec, ZstdCodec

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from multiscale_sampler.plan.by_level import is_by_level, of_level

VOXELS = np.random.default_rng(0).integers(0, 255, (16, 64, 64)).astype("uint8")
CHUNKS = {0: 32, 1: {"y": 16, "x": 8}, 3: (2, 4, 4)}
# The z axis of levels 1 and 2 has the default, 64, clamped to the size of the level; 32 at level 0 is clamped too.
EXPECTED_CHUNKS = [(16, 32, 32), (8, 16, 8), (4, 16, 8), (2, 4, 4)]
SHARDS = {1: {"y": 32, "x": 32}, 3: False}
EXPECTED_SHARDS = [None, (8, 32, 32), (4, 16, 16), None]
FACTORS = [2, 4, 8]


def grids(arrays):
    return [array.chunks for array in arrays], [array.shards for array in arrays]


def arrays_of(store, paths):
    group = zarr.open_group(store, mode="r")
    return [group[path] for path in paths]


PATHS = [f"scale{index}/image" for index in range(4)]


@pytest.mark.parametrize(
    ("value", "level", "expected"),
    [
        ({1: "a", 3: "b"}, 0, None),
        ({1: "a", 3: "b"}, 1, "a"),
        ({3: "b", 1: "a"}, 2, "a"),
        ({1: "a", 3: "b"}, 9, "b"),
        ({np.int64(1): "a"}, 1, "a"),
        ({"y": 4}, 2, {"y": 4}),
        ({}, 2, {}),
        ({True: 4}, 2, {True: 4}),
        (7, 2, 7),
    ],
)
def test_of_level__is_that_of_the_next_finer_level_that_is_named(value, level, expected):
    assert of_level(value, level) == expected
    assert is_by_level(value) == (isinstance(value, dict) and type(next(iter(value), None)) in (int, np.int64))


def test_plan_pyramid__has_chunks_and_shards_by_level():
    plan = ms.plan_pyramid(VOXELS, FACTORS, chunks=CHUNKS, shards=SHARDS)
    assert [level.chunks for level in plan.levels] == EXPECTED_CHUNKS
    assert [level.shards for level in plan.levels] == EXPECTED_SHARDS


def test_plan_pyramid__has_the_default_before_the_first_level_that_is_named():
    plan = ms.plan_pyramid(VOXELS, FACTORS, chunks={2: 8})
    assert [level.chunks for level in plan.levels] == [(16, 64, 64), (8, 32, 32), (4, 8, 8), (2, 8, 8)]


def test_to_multiscale__has_dask_chunks_by_level():
    tree = ms.to_multiscale(VOXELS, FACTORS, chunks=CHUNKS)
    found = [tuple(blocks[0] for blocks in tree[path].chunks) for path in PATHS]
    assert found == EXPECTED_CHUNKS
    expected = ms.to_multiscale(VOXELS, FACTORS)
    np.testing.assert_array_equal(tree[PATHS[3]].values, expected[PATHS[3]].values)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("source", ["image", "tree", "edited tree", "opened"])
def test_write_pyramid__has_chunks_shards_and_compressors_by_level(version, source):
    shards = SHARDS if version == "0.5" else {0: False}
    gzip = GzipCodec(level=2) if version == "0.5" else {"id": "gzip", "level": 2}
    compressors = {1: None, 3: gzip}
    options = {} if source != "image" else {"scale_factors": FACTORS}
    image = VOXELS if source == "image" else ms.to_multiscale(VOXELS, FACTORS)
    if source == "edited tree":
        image = image.map_over_datasets(lambda level: level + np.uint8(0))
    elif source == "opened":
        first = {}
        ms.write_pyramid(image, first)
        image = ms.open_pyramid(first)
    store = {}
    ms.write_pyramid(image, store, version=version, chunks=CHUNKS, shards=shards, compressors=compressors, **options)
    arrays = arrays_of(store, PATHS)
    assert grids(arrays) == (EXPECTED_CHUNKS, EXPECTED_SHARDS if version == "0.5" else [None] * 4)
    assert [len(array.compressors) for array in arrays] == [1, 0, 0, 1]
    assert type(arrays[3].compressors[0]).__name__.lower().startswith("gzip")
    for array, level in zip(arrays, ms.to_multiscale(VOXELS, FACTORS).children.values(), strict=True):
        np.testing.assert_array_equal(array[...], level["image"].values)


def by_level(**options):
    store = {}
    ms.write_pyramid(VOXELS, store, scale_factors=FACTORS, chunks=CHUNKS, shards=SHARDS, **options)
    return store


@pytest.mark.parametrize("change", ["update", "rebuild", "append"])
def test_changes__keep_them(change):
    compressors = {0: ZstdCodec(level=1), 2: None}
    store = by_level(compressors=compressors)
    if change == "update":
        edited = VOXELS.copy()
        edited[:, :8] = 200
        zarr.open_array(store, path=PATHS[0], mode="r+")[...] = edited
        ms.update_pyramid(store, {"y": slice(0, 8)})
    elif change == "rebuild":
        edited = VOXELS
        ms.rebuild_levels(store, method="max")
    else:
        edited = np.concatenate([VOXELS, VOXELS])
        ms.append_pyramid(VOXELS, store, "z")
    arrays = arrays_of(store, PATHS)
    assert grids(arrays) == (EXPECTED_CHUNKS, EXPECTED_SHARDS)
    assert [len(array.compressors) for array in arrays] == [1, 1, 0, 0]
    expected = ms.to_multiscale(edited, FACTORS, method="max" if change == "rebuild" else "mean")
    for array, path in zip(arrays, PATHS, strict=True):
        np.testing.assert_array_equal(array[...], expected[path].values)


def test_resume__is_of_the_same_chunks_and_compressors_of_every_level(tmp_path):
    def stop(progress):
        if progress.done:
            raise KeyboardInterrupt

    options = {"scale_factors": FACTORS, "shards": SHARDS, "workers": 1}
    kept = {"chunks": CHUNKS, "compressors": {2: None}}
    with pytest.raises(KeyboardInterrupt), dask.config.set({"multiscale_sampler.region_size": 1}):
        ms.write_pyramid(VOXELS, tmp_path / "p.zarr", progress=stop, **options, **kept)
    for other in ({**kept, "chunks": {**CHUNKS, 3: 2}}, {**kept, "compressors": {1: None}}):
        with pytest.raises(ValueError, match="different"):
            ms.write_pyramid(VOXELS, tmp_path / "p.zarr", resume=True, **options, **other)
    ms.write_pyramid(VOXELS, tmp_path / "p.zarr", resume=True, **options, **kept)
    assert grids(arrays_of(tmp_path / "p.zarr", PATHS)) == (EXPECTED_CHUNKS, EXPECTED_SHARDS)
    assert ms.verify_pyramid(tmp_path / "p.zarr").ok


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_add_levels__has_them_beside_a_base_that_is_left_as_it_is(zarr_format):
    store = zarr.storage.MemoryStore()
    names = (
        {"dimension_names": ("z", "y", "x")} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": list("zyx")}}
    )
    zarr.create_array(store, name="0", data=VOXELS, chunks=(16, 16, 64), zarr_format=zarr_format, **names)
    shards = {"shards": {2: 32}} if zarr_format == 3 else {}
    ms.add_levels(store, scale_factors=FACTORS, chunks={2: 8}, compressors={1: None, 3: "auto"}, **shards)
    arrays = arrays_of(store, "0123")
    # Before the first level that is named, chunks and shards are those of the base.
    assert [array.chunks for array in arrays] == [(16, 16, 64), (8, 16, 32), (4, 8, 8), (2, 8, 8)]
    # Clamped to the sizes of the levels; a shard of one chunk is none.
    assert [array.shards for array in arrays] == [None, None, (4, 16, 16) if shards else None, None]
    assert [len(array.compressors) for array in arrays] == [1, 0, 0, 1]


def test_convert__has_them(tmp_path):
    ms.write_pyramid(VOXELS, tmp_path / "a.zarr", scale_factors=FACTORS, version="0.4")
    ms.convert(
        tmp_path / "a.zarr", tmp_path / "b.zarr", version="0.5", chunks=CHUNKS, shards=SHARDS, compressors={1: None}
    )
    arrays = arrays_of(tmp_path / "b.zarr", PATHS)
    assert grids(arrays) == (EXPECTED_CHUNKS, EXPECTED_SHARDS)
    assert [len(array.compressors) for array in arrays] == [1, 0, 0, 0]


@pytest.mark.parametrize("with_image", [True, False])
def test_labels__have_them_along_the_axes_that_they_have(with_image):
    image = xr.DataArray(np.zeros((2, 64, 64), "uint8"), dims=("c", "y", "x"), name="image")
    store, chunks = {}, {0: {"c": 1, "y": 32, "x": 32}, 1: (1, 16, 8)}
    if with_image:
        tree = ms.to_multiscale(image, [2])
        tree["labels/cells"] = ms.to_multiscale(xr.DataArray(VOXELS[0], dims=("y", "x"), name="cells"), [2], "mode")
        ms.write_pyramid(tree, store, chunks=chunks)
    else:
        ms.write_pyramid(image, store, scale_factors=[2])
        ms.write_labels(VOXELS[0], store, "cells", chunks={0: {"y": 32, "x": 32}, 1: (16, 8)}, compressors={1: None})
    labels = arrays_of(store, [f"labels/cells/scale{index}/cells" for index in range(2)])
    assert [array.chunks for array in labels] == [(32, 32), (16, 8)]
    assert [len(array.compressors) for array in labels] == [1, 1 if with_image else 0]


def test_command_line__has_them(tmp_path, capsys):
    zarr.create_array(tmp_path / "raw.zarr", data=VOXELS, chunks=(16, 64, 64))
    sizes = ["--chunks", "0=32,1=16xx8", "--factors", "2,4,8"]
    with pytest.raises(SystemExit):
        main(["plan", str(tmp_path / "raw.zarr"), *sizes])
    assert "has an empty part" in capsys.readouterr().err
    sizes = ["--chunks", "0=32,1=16x16x8,3=2x4x4", "--shards", "1=32,3=none", "--factors", "2,4,8"]
    assert main(["build", str(tmp_path / "raw.zarr"), str(tmp_path / "p.zarr"), *sizes, "--quiet"]) == 0
    assert grids(arrays_of(tmp_path / "p.zarr", PATHS)) == (EXPECTED_CHUNKS, EXPECTED_SHARDS)
    assert main(["plan", str(tmp_path / "raw.zarr"), "--chunks", "0=32,7=16", "--factors", "2,4,8"]) == 1
    assert "--chunks 0=32,7=16 names level 7, but the levels are 0 to 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"chunks": {4: 8}}, r"chunks=\{4: 8\} names level 4, but the levels are 0 to 3; name only these"),
        ({"shards": {-1: 64}}, r"shards=\{-1: 64\} names level -1"),
        ({"compressors": {0: None, 9: None}}, r"compressors=\{0: None, 9: None\} names level 9"),
        ({"chunks": {0: 8, "y": 8}}, r"chunks names \[0\], but the dims are"),
        ({"chunks": {1: 0}}, r"chunks \{.*: 0.*\} must be at least 1"),
        ({"chunks": {1: {"t": 8}}}, r"chunks names \['t'\], but the dims are"),
        ({"chunks": 16, "shards": {2: 24}}, r"shards \{.*24.*\} are not multiples of the chunks"),
        ({"version": "0.4", "shards": {0: False, 2: 64}}, "zarr v2 has no shards"),
    ],
)
def test_wrong_values__are_refused_before_anything_is_written(options, text):
    store = {}
    with pytest.raises(ValueError, match=text):
        ms.write_pyramid(VOXELS, store, scale_factors=FACTORS, **options)
    assert not store
