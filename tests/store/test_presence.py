"""Sources that go away while they are read, and chunks that do not lie under their keys: never taken for fill."""

import itertools
import os
import pickle
import shutil
import threading
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

import multiscale_sampler as ms
from multiscale_sampler.check.survey import Survey
from multiscale_sampler.store.presence import Presence, watched

SHAPE, CHUNK = (32, 32, 32), 8
DATA = np.random.default_rng(0).integers(1, 200, SHAPE, "uint8")
NAMES = ("z", "y", "x")
SMALL_REGIONS = {"multiscale_sampler.region_size": 1}
OPTIONS = {"scale_factors": [2], "workers": 1}
numbers = itertools.count()


@pytest.fixture(autouse=True)
def small_regions():
    with dask.config.set(SMALL_REGIONS):
        yield


class After:
    """Calls a function when so many regions are done."""

    def __init__(self, count, function):
        self.count, self.function = count, function

    def __call__(self, progress):
        self.count -= 1
        if not self.count:
            self.function()


def stored(store, data=DATA, *, name="0", zarr_format=3, dtype=None, **options):
    group = zarr.open_group(store, mode="a", zarr_format=zarr_format)
    named = {"dimension_names": NAMES} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": NAMES}}
    options = {"chunks": (CHUNK,) * data.ndim, **named, **options}
    array = group.create_array(name, shape=data.shape, dtype=dtype or data.dtype, **options)
    array[...] = data
    return array


KINDS = {
    "v3": {},
    "v2": {"zarr_format": 2},
    "sharded": {"chunks": (4,) * 3, "shards": (CHUNK,) * 3},
    "float with NaN as fill": {"dtype": "float32", "fill_value": np.nan},
    "big endian": {"zarr_format": 2, "dtype": ">i2"},
}
WAYS = {
    "copied": lambda place: ms.open_image(place, "0", dims=NAMES),
    "in another order": lambda place: ms.open_image(place, "0", dims=("x", "y", "z")).transpose(),
    "computed": lambda place: ms.open_image(place, "0", dims=NAMES, chunks=dict.fromkeys(NAMES, CHUNK)) + 1,
    "opened by dask": lambda place: ms.to_image(dask.array.from_zarr(place, component="0"), NAMES),
    "opened by xarray": lambda place: ms.to_image(xr.open_zarr(place, consolidated=False)["0"].astype("float32")),
}


def values_of(place):
    tree = ms.open_pyramid(place)
    return [next(iter(level.data_vars.values())).values for level in tree.children.values()]


def assert_resumes(build, source, target):
    """Check that a build fails when its source goes away, and is completed to the right values when it is back."""
    away = source.with_name(f"{source.name} away")
    with pytest.raises(OSError, match="resume=True") as caught:
        build(target, progress=After(3, lambda: source.rename(away)))
    assert str(source.parent) in str(caught.value)
    with pytest.raises((ValueError, FileNotFoundError)):
        ms.open_pyramid(target)
    away.rename(source)
    build(target, resume=True)
    expected = target.with_name("expected.zarr")
    build(expected)
    assert all(map(np.array_equal, values_of(target), values_of(expected)))


@pytest.mark.parametrize("kind", KINDS)
def test_write_pyramid__of_a_folder_that_goes_away_is_not_published(tmp_path, kind):
    source = tmp_path / "source.zarr"
    stored(source, **KINDS[kind])
    assert_resumes(
        lambda target, **more: ms.write_pyramid(WAYS["copied"](source), target, **OPTIONS, **more),
        source,
        tmp_path / "target.zarr",
    )


@pytest.mark.parametrize("way", list(WAYS)[1:])
def test_write_pyramid__sees_that_the_source_goes_away_however_it_is_read(tmp_path, way):
    source = tmp_path / "source.zarr"
    stored(source, fill_value=0)
    assert_resumes(
        lambda target, **more: ms.write_pyramid(WAYS[way](source), target, chunks=4, **OPTIONS, **more),
        source,
        tmp_path / "target.zarr",
    )


def replaced(place, **other):
    shutil.rmtree(place / "0")
    stored(place, **{"data": np.zeros(SHAPE, "uint8"), **other})


LOSSES = {
    "deleted": lambda place: shutil.rmtree(place / "0"),
    "its chunks alone": lambda place: shutil.rmtree(place / "0/c"),
    "another shape": partial(replaced, data=np.zeros((16, 32, 16), "uint8")),
    "another dtype": partial(replaced, dtype="int8"),
    "another fill value": partial(replaced, fill_value=7),
    "other chunks": partial(replaced, chunks=(16, 8, 8)),
    "a document that is cut short": lambda place: (
        shutil.rmtree(place / "0/c"),
        (place / "0/zarr.json").write_text("{"),
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_add_levels__of_a_base_that_is_lost_is_not_published(tmp_path, loss):
    place, kept = tmp_path / "image.zarr", tmp_path / "kept.zarr"
    stored(place)
    shutil.copytree(place, kept)
    with pytest.raises(OSError, match="resume=True") as caught:
        ms.add_levels(place, **OPTIONS, progress=After(3, lambda: LOSSES[loss](place)))
    assert "image.zarr/0" in str(caught.value)
    shutil.rmtree(place / "0", ignore_errors=True)
    shutil.copytree(kept / "0", place / "0")
    ms.add_levels(place, **OPTIONS, resume=True)
    ms.add_levels(kept, **OPTIONS)
    assert all(map(np.array_equal, values_of(place), values_of(kept)))


def test_write_pyramid__builds_again_what_it_read_while_the_source_was_deleted_bit_by_bit(tmp_path):
    source, target = tmp_path / "source.zarr", tmp_path / "target.zarr"
    stored(source, fill_value=0)
    kept = tmp_path / "kept.zarr"
    shutil.copytree(source, kept)

    def removed(progress):
        # Chunks first, their document last: until then, what is missing could be fill.
        chunks = sorted(path for path in (source / "0/c").rglob("*") if path.is_file())[1:]
        if len(chunks) > 40:
            for path in chunks[-8:]:
                path.unlink()
        else:
            shutil.rmtree(source, ignore_errors=True)

    image = ms.open_image(source, "0")
    with pytest.raises(OSError, match="resume=True"):
        ms.write_pyramid(image, target, **OPTIONS, progress=removed)
    kept.rename(source)
    ms.write_pyramid(image, target, **OPTIONS, resume=True)
    np.testing.assert_array_equal(values_of(target)[0], DATA)
    np.testing.assert_array_equal(values_of(target)[1], ms.coarsen(ms.to_image(DATA), 2))


def test_write_pyramid__of_a_store_in_memory_that_is_cleared_is_not_published():
    held, target = {}, {}
    stored(MemoryStore(held))
    kept = dict(held)
    image = ms.open_image(MemoryStore(held), "0")
    with pytest.raises(OSError, match="has gone since it was opened"):
        ms.write_pyramid(image, target, **OPTIONS, progress=After(3, held.clear))
    held.update(kept)
    ms.write_pyramid(image, target, **OPTIONS, resume=True)
    np.testing.assert_array_equal(values_of(target)[0], DATA)


def sparse():
    data = np.zeros(SHAPE, "uint8")
    data[:8, :8, :8] = 5
    data[24:, 24:, 24:] = 6
    return data


@pytest.mark.parametrize("data", [DATA, sparse()], ids=["dense", "sparse"])
def test_write_pyramid__of_a_bucket_that_is_emptied_is_not_published(object_server, data):
    url, target = object_server.url(f"gone{next(numbers)}"), object_server.url(f"gone{next(numbers)}")
    options = {"storage_options": object_server.options}
    array = stored(zarr.open_group(url, mode="w", **options).store_path, data)
    image = ms.open_image(url, "0", **options)
    delete = lambda: zarr.core.sync.sync(array.store_path.delete_dir())  # noqa: E731
    with pytest.raises(OSError, match="has gone since it was opened"):
        ms.write_pyramid(image, target, **OPTIONS, **options, progress=After(3, delete))
    stored(zarr.open_group(url, **options).store_path, data)
    ms.write_pyramid(image, target, **OPTIONS, **options, resume=True)
    np.testing.assert_array_equal(ms.open_pyramid(target, **options)["scale0/image"], data)


def test_write_pyramid__of_a_sparse_image_in_an_object_store_looks_at_its_document_once_or_twice(object_server):
    url = object_server.url(f"sparse{next(numbers)}")
    options = {"storage_options": object_server.options}
    stored(zarr.open_group(url, mode="w", **options).store_path, sparse())
    image = ms.open_image(url, "0", **options)
    object_server.requests()
    ms.write_pyramid(image, f"{url}-out", **OPTIONS, **options)
    asked, name = object_server.requests(), url.rpartition("/")[2]
    assert sum(request.key == f"{name}/0/zarr.json" for request in asked) <= 3
    # For stamps of its chunks, whether it has any, and whether one is still there.
    assert sum(request.is_list and f"prefix={name}%2F0" in request.query for request in asked) <= 3


def test_to_multiscale__of_an_array_that_goes_away_does_not_compute_fill(tmp_path):
    place = tmp_path / "image.zarr"
    stored(place)
    tree = ms.to_multiscale(ms.open_image(place, "0"), [2])
    shutil.rmtree(place)
    with pytest.raises(FileNotFoundError, match="has gone since it was opened"):
        tree["scale1/image"].load()
    with pytest.raises(FileNotFoundError, match="has gone since it was opened"):
        pickle.loads(pickle.dumps(tree["scale0/image"][:8, :8, :8].data)).compute()


def test_open_image__is_read_where_chunks_are_missing_after_data_were_appended(tmp_path):
    place = tmp_path / "image.zarr"
    ms.write_pyramid(ms.to_image(sparse()), place, scale_factors=[2], chunks=8)
    before = ms.open_pyramid(place)["scale0/image"]
    ms.append_pyramid(np.ones((4, 32, 32), "uint8"), place, "z")
    np.testing.assert_array_equal(before, sparse())
    ms.append_pyramid(np.ones((36, 32, 4), "uint8"), place, "x")
    with pytest.raises(OSError, match="is not the array that was opened"):
        before.load()


def test_open_image__of_arrays_at_one_place_has_one_name_in_dask(tmp_path):
    stored(tmp_path)
    assert ms.open_image(tmp_path, "0").data.name == ms.open_image(tmp_path, "0").data.name


# --- changes ---------------------------------------------------------------------------------------------------


def pyramid_at(place, data=None, **options):
    ms.write_pyramid(
        ms.to_image(DATA if data is None else data), place, scale_factors=[2], chunks=8, layout="flat", **options
    )
    return place


# Small regions, also of changes.
SMALL = {"workers": 1, "memory_limit": "60 KiB"}
CHANGES = {
    "update": lambda place, **more: ms.update_pyramid(place, {"z": slice(0, 32)}, **SMALL, **more),
    "rebuild": lambda place, **more: ms.rebuild_levels(place, method="max", **SMALL, **more),
    "digests": lambda place, **more: ms.update_pyramid(place, changed="auto", **SMALL, **more),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes__of_a_pyramid_whose_base_goes_away_fail(tmp_path, change):
    place, away = pyramid_at(tmp_path / "image.zarr", digests=True), tmp_path / "away"
    zarr.open_array(place, path="0")[:, :16] = 3
    with pytest.raises(OSError, match=r"ha(s|ve) gone"):
        CHANGES[change](place, progress=After(2, lambda: (place / "0").rename(away)))
    away.rename(place / "0")
    CHANGES[change](place, resume=True)
    expected = ms.coarsen(ms.open_image(place, "0"), 2, method="max" if change == "rebuild" else "mean")
    np.testing.assert_array_equal(values_of(place)[1], expected)


def test_update_pyramid__of_a_base_that_has_gone_before_its_chunks_are_compared_fails(tmp_path, monkeypatch):
    place = pyramid_at(tmp_path / "image.zarr", digests=True)
    compared = ms.store.Digests.edited

    def gone_before(digests, block):
        shutil.rmtree(place / "0", ignore_errors=True)
        return compared(digests, block)

    monkeypatch.setattr(ms.store.Digests, "edited", gone_before)
    with pytest.raises(FileNotFoundError, match="has gone"):
        ms.update_pyramid(place, changed="auto")
    np.testing.assert_array_equal(zarr.open_array(place, path="1"), ms.coarsen(ms.to_image(DATA), 2))


def test_append_pyramid__of_an_image_that_goes_away_fails_and_is_resumed(tmp_path):
    place, source, away = pyramid_at(tmp_path / "image.zarr"), tmp_path / "more.zarr", tmp_path / "away"
    stored(source)
    append = partial(ms.append_pyramid, ms.open_image(source, "0", dims=NAMES).data, place, "z", **SMALL)
    with pytest.raises(OSError, match="has gone"):
        append(progress=After(2, lambda: source.rename(away)))
    away.rename(source)
    append(resume=True)
    np.testing.assert_array_equal(values_of(place)[0], np.concatenate([DATA, DATA]))


def test_append_pyramid__of_a_sparse_base_reads_its_missing_chunks_as_fill(tmp_path):
    place = pyramid_at(tmp_path / "image.zarr", sparse()[:31])
    ms.append_pyramid(np.full((3, 32, 32), 9, "uint8"), place, "z", workers=1)
    whole = np.concatenate([sparse()[:31], np.full((3, 32, 32), 9, "uint8")])
    expected = ms.to_multiscale(ms.to_image(whole), [2])
    for level, values in enumerate(values_of(place)):
        np.testing.assert_array_equal(values, expected[f"scale{level}/image"])


def test_write_labels__of_labels_that_go_away_are_not_listed(tmp_path):
    place, labels = pyramid_at(tmp_path / "image.zarr"), tmp_path / "labels.zarr"
    stored(labels)
    image = ms.open_image(labels, "0", dims=NAMES, chunks=dict.fromkeys(NAMES, CHUNK))
    write = partial(ms.write_labels, image.data, place, "cells", chunks=8, workers=1)
    with pytest.raises(OSError, match="has gone"):
        write(progress=After(2, lambda: labels.rename(tmp_path / "away")))
    assert "labels" not in ms.open_pyramid(place).children
    (tmp_path / "away").rename(labels)
    write(resume=True)
    np.testing.assert_array_equal(ms.open_pyramid(place)["labels/cells/scale0/cells"], DATA)


def test_convert__of_levels_that_go_away_leaves_no_copy(tmp_path):
    place, copy, away = pyramid_at(tmp_path / "image.zarr"), tmp_path / "copy.zarr", tmp_path / "away"
    convert = partial(ms.convert, place, copy, version="0.4", workers=1)
    with pytest.raises(OSError, match=r"ha(s|ve) gone"):
        convert(progress=After(3, lambda: (place / "0").rename(away)))
    with pytest.raises(ValueError, match="has not finished"):
        ms.open_pyramid(copy)
    away.rename(place / "0")
    convert(resume=True)
    np.testing.assert_array_equal(values_of(copy)[0], DATA)


def test_write_pyramid__of_scratch_that_goes_away_is_not_published(tmp_path):
    target = tmp_path / "target.zarr"
    options = {"scale_factors": [2, 4, 8, 16], "workers": 1, "memory_limit": "40 KiB", "chunks": 4}
    image = ms.to_image(DATA)
    assert len(ms.plan_pyramid(image, **options).export_passes) > 1
    whole = DATA.nbytes

    def drop(progress):
        if progress.done >= whole:
            for carried in list(tmp_path.rglob("carry*")):
                shutil.rmtree(carried)

    with pytest.raises(OSError, match="has gone"):
        ms.write_pyramid(image, target, **options, progress=drop)
    ms.write_pyramid(image, target, **options, resume=True)
    expected = ms.to_multiscale(image, options["scale_factors"])
    for level, values in enumerate(values_of(target)):
        np.testing.assert_array_equal(values, expected[f"scale{level}/image"])


def test_verify_pyramid__of_a_store_that_goes_away_fails(tmp_path, monkeypatch):
    place = pyramid_at(tmp_path / "image.zarr")
    visit = Survey.visit

    def gone_before(survey, *arguments):
        shutil.rmtree(place, ignore_errors=True)
        visit(survey, *arguments)

    monkeypatch.setattr(Survey, "visit", gone_before)
    with pytest.raises(OSError, match="has gone"):
        ms.verify_pyramid(place)


# --- keys ------------------------------------------------------------------------------------------------------


def renamed(place, change):
    """Rename the chunks of an array: what is changed is the key from the array's own on."""
    files = [path for path in Path(place).rglob("*") if path.is_file() and not path.name.startswith((".z", "zarr"))]
    for path in files:
        new = Path(place, change(path.relative_to(place).as_posix()))
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    for folder in sorted((path for path in Path(place).rglob("*") if path.is_dir()), reverse=True):
        if not os.listdir(folder):
            folder.rmdir()


MISPLACED = {
    "dots for slashes": (3, lambda key: key.replace("/", ".")),
    "keys of v2": (3, lambda key: key.removeprefix("c/")),
    "temporary names": (3, lambda key: f"{key}.part"),
    "another folder": (3, lambda key: f"chunks/{key}"),
    "slashes for dots": (2, lambda key: key.replace(".", "/")),
    "keys of v3": (2, lambda key: f"c/{key.replace('.', '/')}"),
    "names of rsync": (2, lambda key: f".{key}.Xa3fQ1"),
}


@pytest.mark.parametrize("kind", MISPLACED)
def test_write_pyramid__refuses_an_array_whose_chunks_are_not_under_its_keys(tmp_path, kind):
    zarr_format, change = MISPLACED[kind]
    source, target = tmp_path / "source.zarr", tmp_path / "target.zarr"
    stored(source, zarr_format=zarr_format)
    renamed(source / "0", change)
    first = "c/0/0/0" if zarr_format == 3 else "0.0.0"
    with pytest.raises(ValueError, match="no chunk under the keys that its metadata state") as caught:
        ms.write_pyramid(ms.open_image(source, "0", dims=NAMES), target, scale_factors=[2])
    assert repr(first) in str(caught.value)
    assert "other files" in str(caught.value)
    assert not target.exists()
    with pytest.raises(ValueError, match="no chunk under the keys"):
        ms.open_image(source, "0").load()
    with pytest.raises(ValueError, match="no chunk under the keys"):
        ms.add_levels(source, dims=NAMES)


def misplaced_pyramid(place):
    pyramid_at(place)
    renamed(place / "0", lambda key: key.replace("/", "."))
    return place


ASKING = {
    "convert": lambda place, _: ms.convert(place, place.with_name("copy"), version="0.4"),
    "update": lambda place, _: ms.update_pyramid(place, {"z": 0}),
    "rebuild": lambda place, _: ms.rebuild_levels(place, method="max"),
    "append": lambda place, _: ms.append_pyramid(DATA, place, "z"),
    "append of it": lambda place, whole: ms.append_pyramid(ms.open_image(place).data, whole, "z"),
    "labels": lambda place, whole: ms.write_labels(ms.open_image(place).data, whole, "cells"),
    "tree": lambda place, _: ms.write_pyramid(ms.open_pyramid(place), place.with_name("copy")),
}


@pytest.mark.parametrize("function", ASKING)
def test_chunks_under_other_keys__are_refused_before_anything_is_written(tmp_path, function):
    place, whole = misplaced_pyramid(tmp_path / "image.zarr"), pyramid_at(tmp_path / "whole.zarr")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"no chunk under the keys .*'c/0/0/0', but other files: 'c\."):
        ASKING[function](place, whole)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_chunks_under_other_keys__are_errors_of_reports(tmp_path):
    place = misplaced_pyramid(tmp_path / "image.zarr")
    for report in (ms.validate(place), ms.verify_pyramid(place)):
        assert not report.ok
        (finding,) = [finding for finding in report.findings if "no chunk under the keys" in finding.found]
        assert (finding.location, finding.severity) == ("0", "error")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_empty_arrays__are_built_with_a_warning(tmp_path, zarr_format):
    stored(tmp_path / "a", np.zeros(SHAPE, "uint8"), zarr_format=zarr_format)
    (tmp_path / "a/0/.DS_Store").touch()
    with pytest.warns(UserWarning, match=r"a/0 stores no chunk, so that every value is the fill value .*0") as caught:
        ms.write_pyramid(ms.open_image(tmp_path / "a", "0", dims=NAMES), tmp_path / "b", scale_factors=[2])
    assert [warning.filename for warning in caught] == [__file__]
    assert not any(values.any() for values in values_of(tmp_path / "b"))
    with pytest.warns(UserWarning, match="stores no chunk") as caught:
        ms.add_levels(tmp_path / "a", dims=NAMES)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="stores no chunk") as caught:
        ms.convert(tmp_path / "a", tmp_path / "c", version="0.6" if zarr_format == 3 else "0.5")
    assert [warning.filename for warning in caught] == [__file__]
    report = ms.validate(tmp_path / "c")
    assert report.ok
    assert [finding.severity for finding in report.findings if "no chunk is stored" in finding.found] == ["warning"]


def test_empty_arrays__without_samples_are_nothing_to_warn_of(tmp_path):
    array = zarr.create_array(tmp_path, shape=(0, 4), dtype="uint8", chunks=(1, 4))
    presence = Presence(array)
    ms.store.check_chunks([presence])
    ms.store.warn_if_empty([presence], stacklevel=1)


def test_sparse_arrays__are_found_to_store_chunks_wherever_these_are(object_server, tmp_path):
    data = np.zeros(SHAPE, "uint8")
    data[8:16, 24:, :8] = 1
    options = {"storage_options": object_server.options}
    url = object_server.url(f"sparse{next(numbers)}")
    arrays = [
        stored(tmp_path / "v3", data),
        stored(tmp_path / "v2", data, zarr_format=2),
        stored(MemoryStore(), data),
        stored(zarr.open_group(url, mode="w", **options).store_path, data),
        stored(f"memory://sparse{next(numbers)}", data),
    ]
    found = ms.store.inventories(map(Presence, arrays))
    assert [inventory.sample for inventory in found] == ["c/1/3/0", "1.3.0", *["c/1/3/0"] * 3]


def test_misplaced_chunks__are_found_in_object_stores(object_server):
    url = object_server.url(f"misplaced{next(numbers)}")
    options = {"storage_options": object_server.options}
    array = stored(zarr.open_group(url, mode="w", **options).store_path, zarr_format=3)
    document = zarr.core.sync.sync((array.store_path / "zarr.json").get())
    separated = document.to_bytes().replace(b'"separator": "/"', b'"separator": "."')
    assert separated != document.to_bytes()
    zarr.core.sync.sync((array.store_path / "zarr.json").set(document.from_bytes(separated)))
    object_server.requests()
    with pytest.raises(ValueError, match=r"as 'c\.0\.0\.0', but other files: 'c/0/0/0', "):
        ms.write_pyramid(ms.open_image(url, "0", **options), {}, scale_factors=[2])
    asked = [r for r in object_server.requests() if r.is_list and f"prefix={url.rpartition('/')[2]}%2F0%2F" in r.query]
    assert len(asked) == 1


# --- looks -----------------------------------------------------------------------------------------------------


def test_presence__threads_share_a_look(tmp_path, monkeypatch):
    presence = Presence(stored(tmp_path))
    presence.take_sample()
    looks, begun, free = [], threading.Event(), threading.Event()

    def look():
        looks.append(None)
        begun.set()
        free.wait()

    monkeypatch.setattr(presence, "_look", look)
    first = threading.Thread(target=presence.confirm)
    first.start()
    begun.wait()
    others = [threading.Thread(target=presence.confirm) for _ in range(4)]
    for thread in others:
        thread.start()
    while sum(thread.is_alive() for thread in others) < 4:
        pass
    free.set()
    for thread in (first, *others):
        thread.join()
    # The look that had begun before they asked does not answer them.
    assert len(looks) == 2


def test_watched__reads_what_the_array_holds(tmp_path):
    array = watched(stored(tmp_path, sparse()))
    np.testing.assert_array_equal(array[...], sparse())
    np.testing.assert_array_equal(array[3, ::2, 5:20], sparse()[3, ::2, 5:20])
    assert watched(array) is array
