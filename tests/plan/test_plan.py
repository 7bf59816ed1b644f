import dataclasses
import math
import pickle
import re
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import multiscale_sampler as ms
from multiscale_sampler.methods.reducers import REDUCERS
from multiscale_sampler.plan import pickling
from tests import oracles, strategies


def shapes_of(plan):
    return [level.shape for level in plan.levels]


def plan_of(shape, *args, dtype="uint16", dims=None, **options):
    array = np.broadcast_to(np.zeros((), dtype), shape)
    image = ms.to_image(array, dims or strategies.dims_of(shape))
    return ms.plan_pyramid(image, *args, **options)


# Levels


@pytest.mark.parametrize(
    ("ladder", "parents"),
    [
        ([2, 4, 8], [0, 0, 1, 2]),
        ([2, 3], [0, 0, 0]),
        ([2, 3, 6, 9], [0, 0, 0, 2, 2]),
        ([2, 3, 4, 6, 12], [0, 0, 0, 1, 2, 4]),
    ],
)
def test_plan__levels_come_from_the_coarsest_that_divides(ladder, parents):
    plan = plan_of((360, 720), ladder)
    assert [level.parent for level in plan.levels] == parents
    assert [level.factors for level in plan.levels] == [(1, 1), *[(f, f) for f in ladder]]
    assert [level.index for level in plan.levels] == list(range(len(parents)))


@given(shape=strategies.shapes(), ladder=strategies.ladders(), boundary=st.sampled_from(["pad", "trim"]))
def test_plan__has_the_levels_of_the_list(shape, ladder, boundary):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        plan = plan_of(shape, ladder, boundary=boundary)
    expected = oracles.list_of_levels(shape, ladder, boundary)
    assert [level.factors for level in plan.levels] == expected
    for level in plan.levels[1:]:
        assert level.shape == tuple(
            oracles.level_size(n, f, boundary) for n, f in zip(shape, level.factors, strict=True)
        )
        assert level.parent == oracles.parent_of(expected, level.index)


def test_plan__default_ends_at_the_longest_edge_of_a_chunk_or_at_256():
    plan = plan_of((512, 300, 100), chunks=64)
    assert shapes_of(plan) == [(512, 300, 100), (256, 150, 50), (128, 75, 25), (64, 38, 13)]
    assert shapes_of(plan_of((600, 300), chunks=512)) == [(600, 300), (300, 150), (150, 75)]
    assert shapes_of(plan_of((256, 256), min_size=100, chunks=32)) == [(256, 256), (128, 128), (64, 64)]
    assert shapes_of(plan_of((256, 256), min_size={"a": 256}, chunks=64)) == [(256, 256), (256, 128), (256, 64)]


def test_plan__max_levels_counts_the_base():
    assert len(plan_of((1000, 1000), max_levels=3, chunks=10).levels) == 3
    assert len(plan_of((1000, 1000), [2, 4, 8], max_levels=2).levels) == 2
    assert len(plan_of((1000, 1000), max_levels=1).levels) == 1


def test_plan__reduces_space_only_unless_a_mapping_names_more():
    plan = plan_of((4, 3, 64, 64), 2, dims="tcyx", chunks=16)
    assert shapes_of(plan)[-1] == (4, 3, 16, 16)
    plan = plan_of((4, 3, 64, 64), {"t": 2, "x": 2}, dims="tcyx", chunks={"t": 1, "y": 16, "x": 16})
    assert shapes_of(plan)[-1] == (1, 3, 64, 16)


def test_plan__isotropic_brings_a_stack_of_slices_to_cubes():
    image = ms.to_image(da.zeros((100, 1024, 1024), chunks=64), scale=(2.0, 0.5, 0.5), units="micrometer")
    plan = ms.plan_pyramid(image, "isotropic", chunks=64)
    assert [level.factors for level in plan.levels[:4]] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]


def test_plan__min_size_and_a_list_contradict_each_other():
    for ladder in ([2, 4], (2, 4), np.array([2, 4])):
        with pytest.raises(ValueError, match=r"min_size=8.*scale_factors="):
            plan_of((64, 64), ladder, min_size=8)


def test_plan__method_decides_dtype_and_position():
    for method in REDUCERS:
        plan = plan_of((64, 64), [2], method=method, dtype="uint8")
        # Of a Laplacian pyramid, level 0 is a band too.
        assert plan.levels[0].dtype == (np.float32 if method == "laplacian" else np.uint8)
        assert plan.levels[1].dtype == oracles.level_dtype("uint8", method)
        assert plan.levels[1].axes[0].translation == (0.0 if method == "nearest" else 0.5)


@given(size=st.integers(2, 100), factor=st.integers(2, 9), data=st.data(), boundary=st.sampled_from(["pad", "trim"]))
def test_counts__are_the_base_samples_of_every_window(size, factor, data, boundary):
    # "trim" has no level where there is no whole window.
    assume(boundary == "pad" or size >= factor)
    plan = plan_of((size, 8), [{"a": factor}], boundary=boundary)
    count = oracles.level_size(size, factor, boundary)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    along, ones = plan.counts(1, (slice(start, stop), slice(0, 3)))
    assert along.tolist() == [min(factor, size - i * factor) for i in range(start, stop)]
    assert ones.tolist() == [1, 1, 1]


def test_plan__relative_factors_are_between_levels():
    plan = plan_of((120, 120), [{"a": 2}, {"a": 4, "b": 3}])
    assert plan.relative_factors(2, 1) == (2, 3)
    assert plan.relative_factors(2, 0) == (4, 3)
    assert plan.relative_factors(1, 1) == (1, 1)


# Chunks and shards


def chunks_of(plan):
    return [level.chunks for level in plan.levels]


def test_chunks__default_to_cubes_in_3d_and_tiles_in_2d():
    """OZ-20: numpy of (64, 512, 512) is not one chunk."""
    assert chunks_of(plan_of((64, 512, 512), dims="zyx"))[0] == (64, 64, 64)
    assert chunks_of(plan_of((2048, 2048), dims="yx"))[0] == (512, 512)
    assert chunks_of(plan_of((3, 5, 2048, 2048), dims="tcyx"))[0] == (1, 1, 512, 512)
    assert chunks_of(plan_of((1, 2048, 2048), dims="zyx"))[0] == (1, 512, 512)
    assert chunks_of(plan_of((100, 64, 512, 512), dims="tzyx"))[0] == (1, 64, 64, 64)
    assert chunks_of(plan_of((5, 7), dims="yx"))[0] == (5, 7)


def test_chunks__are_clamped_where_a_level_is_smaller():
    plan = plan_of((300, 40), [2, 4, 8], chunks=64)
    assert chunks_of(plan) == [(64, 40), (64, 20), (64, 10), (38, 5)]


@pytest.mark.parametrize("chunks", [{"y": 32, "x": 16}, (1, 32, 16), [1, 32, 16], np.array([1, 32, 16])])
def test_chunks__by_dim_or_one_per_axis(chunks):
    assert chunks_of(plan_of((3, 256, 256), dims="cyx", chunks=chunks))[0] == (1, 32, 16)


def test_chunks__an_int_is_for_spatial_axes():
    assert chunks_of(plan_of((3, 256, 256), dims="cyx", chunks=100))[0] == (1, 100, 100)


def test_chunks__come_from_storage_or_from_dask():
    image = xr.DataArray(da.zeros((300, 300), chunks=(100, 50)), dims=("y", "x"))
    assert chunks_of(ms.plan_pyramid(image))[0] == (100, 50)
    image.encoding["chunks"] = (60, 60)
    assert chunks_of(ms.plan_pyramid(image))[0] == (60, 60)
    assert chunks_of(ms.plan_pyramid(image, chunks={"x": 7}))[0] == (60, 7)
    assert ms.plan_pyramid(image).source_chunks == (60, 60)


@pytest.mark.parametrize("blocks", [((100, 50, 150), (300,)), ((100, 200), (300,))])
def test_chunks__of_unequal_blocks_are_not_stored(blocks):
    image = xr.DataArray(da.zeros((300, 300), chunks=blocks), dims=("y", "x"))
    assert chunks_of(ms.plan_pyramid(image))[0] == (300, 300)


def test_chunks__of_huge_blocks_are_not_stored():
    image = xr.DataArray(da.zeros((20_000, 20_000), chunks=10_000), dims=("y", "x"))
    assert chunks_of(ms.plan_pyramid(image))[0] == (512, 512)


@pytest.mark.parametrize(
    ("chunks", "error", "text"),
    [(0, ValueError, "1"), ((8,), ValueError, "1 entries"), ({"q": 8}, ValueError, "'q'"), (8.0, TypeError, "8.0")],
)
@pytest.mark.parametrize("option", ["chunks", "shards", "min_size"])
def test_chunks__refuse_the_rest(option, chunks, error, text):
    with pytest.raises(error, match=f"{option}.*{text}"):
        plan_of((64, 64), **{option: chunks})


def test_shards__are_multiples_of_the_chunks_at_every_level():
    plan = plan_of((512, 512, 512), [2, 4, 8, 16], chunks=64, shards=256)
    assert [level.shards for level in plan.levels] == [(256,) * 3, (256,) * 3, (128,) * 3, None, None]
    plan = plan_of((300, 300), [2, 4], chunks=64, shards=128)
    for level in plan.levels:
        for size, chunk, shard in zip(level.shape, level.chunks, level.shards or level.chunks, strict=True):
            assert shard % chunk == 0
            assert shard < size + chunk


def test_shards__by_dim_leave_the_other_axes_at_their_chunk():
    assert plan_of((256, 256), chunks=32, shards={"a": 128}).levels[0].shards == (128, 32)


def test_shards__refuse_what_is_not_a_multiple():
    with pytest.raises(ValueError, match=r"shards.*'a': 100.*64"):
        plan_of((256, 256), chunks=64, shards=100)


def test_shards__come_from_storage_unless_refused():
    image = xr.DataArray(da.zeros((512, 512), chunks=128), dims=("y", "x"))
    image.encoding = {"chunks": (32, 32), "shards": (128, 128)}
    plan = ms.plan_pyramid(image)
    assert plan.levels[0].shards == (128, 128)
    assert plan.source_chunks == (128, 128)
    assert all(level.shards is None for level in ms.plan_pyramid(image, shards=False).levels)
    assert ms.plan_pyramid(image, chunks=48).levels[0].shards is None


def test_shards__none_by_default():
    assert all(level.shards is None for level in plan_of((512, 512), chunks=64).levels)


# Passes and regions


@st.composite
def plans(draw):
    rank = draw(st.integers(1, 3))
    longest = {1: 200_000, 2: 20_000, 3: 1500}[rank]
    # Mostly long axes: short ones are a single region, which cannot be out of line.
    sizes = st.sampled_from([longest, longest // 3, longest // 7]) | st.integers(1, longest)
    shape = tuple(draw(sizes) for _ in range(rank))
    chunks = tuple(draw(st.sampled_from([1, 7, 32, 50, 64, 100, 512])) for _ in shape)
    # Few blocks, so that the graph stays small: it is never run.
    blocks = tuple(max(draw(st.sampled_from([1, 13, 37, 64, 256])), -(-n // 20)) for n in shape)
    shards = draw(st.none() | st.just(tuple(c * draw(st.sampled_from([1, 2, 3, 8])) for c in chunks)))
    factors = draw(st.sampled_from([*strategies.LADDERS, 2, 3, 5, {"a": 2}, [{"a": 2}, {"a": 3}, {"a": 6}]]))
    image = ms.to_image(da.zeros(shape, chunks=blocks, dtype=draw(strategies.dtypes())), strategies.dims_of(shape))
    if draw(st.booleans()):
        image.encoding["chunks"] = blocks
    return plan_of_least(
        draw(st.sampled_from(LIMITS)),
        image,
        factors,
        method=draw(st.sampled_from(oracles.METHODS)),
        boundary=draw(st.sampled_from(["pad", "trim"])),
        chunks=chunks,
        shards=shards,
        workers=draw(st.integers(1, 4)),
    )


LIMITS = (4 * 2**20, 64 * 2**20, 4 * 2**30, 64 * 2**30)


def plan_of_least(limit, image, factors, **options):
    """Return a plan within a limit of memory, or within the amount that its refusal asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scale_factors", UserWarning)
        try:
            return ms.plan_pyramid(image, factors, memory_limit=limit, **options)
        except ValueError as error:
            refusal = str(error)
        enough = re.search(r"memory_limit=.* is too little for .*; allow (\S+ \S+), or use fewer workers", refusal)
        assert enough, refusal
        return ms.plan_pyramid(image, factors, memory_limit=enough[1], **options)


@settings(max_examples=150)
@given(plans())
def test_regions__no_chunk_has_two_writers(plan):
    for passes in (plan.passes, plan.export_passes):
        for pass_ in passes:
            source = plan.levels[pass_.source]
            for index in pass_.levels:
                level = plan.levels[index]
                relative = plan.relative_factors(index, pass_.source)
                grid = level.shards or level.chunks
                for axis, (region, size) in enumerate(zip(pass_.region, source.shape, strict=True)):
                    assert 1 <= region <= size
                    # A region that spans the axis is its only writer; others begin where a chunk does.
                    assert region == size or region % (relative[axis] * grid[axis]) == 0


@given(plans())
def test_passes__compute_every_level_once_from_known_ones(plan):
    for passes, first in ((plan.passes, 1), (plan.export_passes, 0)):
        made = [index for pass_ in passes for index in pass_.levels]
        assert sorted(made) == list(range(first, len(plan.levels)))
        carried = {0}
        for number, pass_ in enumerate(passes):
            assert pass_.source in carried
            for position, index in enumerate(pass_.levels):
                assert plan.levels[index].parent in (pass_.source, *pass_.levels[:position])
            # What a later pass reads is kept, and nothing else; the base is there anyway.
            read_later = {later.source for later in passes[number + 1 :]}
            assert set(pass_.carried) == read_later & set(pass_.levels) - {0}
            carried |= set(pass_.carried)


@given(plans())
def test_memory__of_a_plan_is_within_its_limit(plan):
    assert plan.peak_memory == plan.workers * max((pass_.region_nbytes for pass_ in plan.export_passes), default=0)
    for pass_ in (*plan.passes, *plan.export_passes):
        block = math.prod(pass_.region)
        assert pass_.region_nbytes >= block * (plan.dtype.itemsize if pass_.source == 0 else 1)
        assert pass_.region_nbytes * plan.workers <= plan.memory_limit


def region_of(size, **options):
    """Return the region of the first pass over a large image of small chunks."""
    with dask.config.set({"multiscale_sampler.region_size": size}):
        plan = ms.plan_pyramid(np.broadcast_to(np.uint8(0), (2**15, 2**15)), [2], chunks=64, workers=2, **options)
    assert plan.peak_memory <= plan.memory_limit
    return plan.export_passes[0].region, plan.export_passes[0].region_nbytes


def test_region_size__of_the_configuration_makes_regions_as_large():
    assert ms.plan_pyramid(np.zeros((64, 64), "uint8")).region_size == 4 * 2**20
    smallest, _ = region_of(1)
    for size, nbytes in ((2**20, 2**20), ("16MiB", 2**24), ("512MiB", 2**29)):
        region, needed = region_of(size, memory_limit="4GiB")
        assert all(n % least == 0 for n, least in zip(region, smallest, strict=True))
        assert nbytes / 2 < needed <= nbytes
    _, needed = region_of("512MiB", memory_limit="128MiB")
    assert 2**25 < needed <= 2**26


@pytest.mark.parametrize("wrong", [0, -1, "0", "large", None])
def test_region_size__is_refused_where_it_is_not_an_amount(wrong):
    with pytest.raises(ValueError, match=rf"region_size={wrong!r}, which is not a positive amount of memory; set it"):
        region_of(wrong)


@given(plans())
def test_levels__chunks_and_shards_fit_each_other(plan):
    for level in plan.levels:
        assert all(1 <= chunk <= size for chunk, size in zip(level.chunks, level.shape, strict=True))
        if level.shards:
            assert level.shards != level.chunks
            assert all(s % c == 0 for s, c in zip(level.shards, level.chunks, strict=True))
        assert level.nbytes == math.prod(level.shape) * level.dtype.itemsize
        assert level.chunk_count == math.prod(map(oracles.level_size, level.shape, level.chunks))


def test_memory__does_not_grow_with_the_image():
    peaks = [plan_of((n, n, n), chunks=64, workers=2, memory_limit="8GiB").peak_memory for n in (2048, 8192, 65536)]
    assert len(set(peaks)) == 1
    assert plan_of((2048,) * 3, chunks=64, workers=4, memory_limit="8GiB").peak_memory == 2 * peaks[0]


def test_memory__is_refused_before_the_start():
    with pytest.raises(ValueError, match=r"memory_limit=1\.00 MiB.*2 workers.*fewer workers or smaller chunks"):
        plan_of((1024, 1024), chunks=512, workers=2, memory_limit="1MiB")


@pytest.mark.parametrize("limit", ["much", "", -1, 0])
def test_memory__limit_is_an_amount(limit):
    with pytest.raises(ValueError, match=r"memory_limit=.*"):
        plan_of((64, 64), memory_limit=limit)


def test_memory__limit_is_bytes_or_a_text():
    assert plan_of((64, 64), memory_limit=10**9).memory_limit == 10**9
    assert plan_of((64, 64), memory_limit="512MiB").memory_limit == 512 * 2**20


def test_workers__default_to_the_cores_and_are_positive():
    assert plan_of((64, 64)).workers >= 1
    with pytest.raises(ValueError, match="workers=0"):
        plan_of((64, 64), workers=0)
    with pytest.raises(TypeError, match=r"workers=1\.5"):
        plan_of((64, 64), workers=1.5)


# The plan as a value


def test_plan__is_frozen():
    plan = plan_of((64, 64))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.workers = 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.levels[0].index = 7
    assert isinstance(plan, ms.Plan)


def test_plan__equals_one_of_the_same_options():
    assert plan_of((64, 64), [2], workers=1) == plan_of((64, 64), [2], workers=1)
    assert plan_of((64, 64), [2], workers=1) != plan_of((64, 64), [4], workers=1)


def test_plan__prints_as_a_table():
    array = da.zeros((512, 512, 300), chunks=64, dtype="uint16")
    image = ms.to_image(array, scale=(2, 0.5, 0.5), units="micrometer", name="brain")
    plan = ms.plan_pyramid(image, [2, 4, {"z": 4, "y": 8, "x": 8}], chunks=64, shards=128, workers=2, nodata=0)
    text = str(plan)
    lines = text.splitlines()
    assert lines[0].startswith("Pyramid of 'brain': 4 levels, z y x, uint16, method 'mean', boundary 'pad', nodata 0")
    header = next(line for line in lines if line.startswith("level"))
    rows = lines[lines.index(header) + 1 :][:4]
    for column, cells in {
        "factors": ["1x1x1", "2x2x2", "4x4x4", "4x8x8"],
        "shape": ["512x512x300", "256x256x150", "128x128x75", "128x64x38"],
        "spacing": ["2 0.5 0.5", "4 1 1", "8 2 2", "8 4 4"],
        "chunks": ["64x64x64", "64x64x64", "64x64x64", "64x64x38"],
        "shards": ["128x128x128", "128x128x128", "128x128x128", "128x64x38"],
    }.items():
        at = header.index(column)
        for row, cell in zip(rows, cells, strict=True):
            assert row[at:].startswith(f"{cell}  ")
            assert row[at - 2 : at] == "  "
    assert "spacing in micrometer" in text
    assert "peak memory" in lines[-2]
    assert "2 workers" in lines[-2]
    assert text == repr(plan)


def test_plan__prints_irregular_axes_and_no_shards():
    image = xr.DataArray(np.zeros((8, 8)), dims=("y", "x"), coords={"y": np.arange(8) ** 2})
    text = str(ms.plan_pyramid(image, [2]))
    assert "irregular 1" in text
    assert "shards" not in text


@pytest.mark.usefixtures("refuse_to_compute")
@pytest.mark.parametrize("lazy", [True, False])
def test_plan__of_an_image_beyond_any_disk(lazy):
    """Half a petavoxel is planned without reading it."""
    shape, chunks = (100_000, 100_000, 50_000), (1000, 1000, 1000)
    image = da.zeros(shape, chunks=chunks, dtype="uint16") if lazy else strategies.Untouchable(shape, chunks)
    plan = ms.plan_pyramid(image, chunks=64, memory_limit="8GiB", workers=2)
    assert shapes_of(plan)[-1] == (49, 49, 25)
    assert plan.levels[0].nbytes == 10**15
    assert plan.peak_memory <= 8 * 2**30
    assert "909.49 TiB" in str(plan)


# Errors


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_plan__refuses_an_image_without_voxels(shape):
    with pytest.raises(ValueError, match=r"0"):
        ms.plan_pyramid(np.zeros(shape))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"method": "gauss"}, ValueError, "'gauss'.*'mean'"),
        ({"boundary": "reflect"}, ValueError, "'reflect'.*'pad', 'trim', 'exact'"),
        ({"max_levels": 0}, ValueError, "max_levels=0"),
        ({"max_levels": 2.0}, TypeError, r"max_levels=2\.0"),
        ({"scale_factors": "isotropical"}, ValueError, "'isotropical'"),
        ({"scale_factors": [2, 2]}, ValueError, "ascend"),
        ({"scale_factors": 0}, ValueError, "at least 1"),
        ({"nodata": 70000}, ValueError, "nodata=70000.*uint16"),
        ({"scale_factors": [3], "boundary": "exact"}, ValueError, "64.*3.*pad"),
    ],
)
def test_plan__refuses_with_the_value_and_a_remedy(options, error, text):
    with pytest.raises(error, match=text):
        plan_of((64, 64), **options)


def test_plan__refuses_a_dtype_without_kernel_before_anything_is_read():
    with pytest.raises(TypeError, match=r"'mean'.*<U3.*method='mode'"):
        plan_of((64, 64), dtype="U3")


def test_plan__options_are_keyword_only():
    with pytest.raises(TypeError):
        ms.plan_pyramid(np.zeros((4, 4)), 2, "mean")


# Pickles


def test_plan__is_unpickled_as_it_was():
    plan = plan_of((64, 48), [2, 4], boundary="trim", min_valid=0.5)
    found = pickle.loads(pickle.dumps(plan))
    assert type(found) is ms.Plan
    assert found.levels == plan.levels
    assert found.to_dict() == plan.to_dict()
    assert found.export_passes == plan.export_passes


def test_plan__of_another_version_is_refused_before_its_fields_are_unpickled(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(pickling, "__version__", "0.0.9")
        pickled = pickle.dumps(plan_of((64, 48), [2]))
    # As if this version had no class of that name.
    changed = pickled.replace(b"Axis", b"Exis")
    assert changed != pickled
    for each in (pickled, changed):
        with pytest.raises(ValueError, match=r"^this Plan was pickled by version '0\.0\.9' of .* create it again"):
            pickle.loads(each)
