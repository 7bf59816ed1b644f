"""Consolidated metadata that are older than what they describe are named by everything that reads them."""

import re
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from multiscale_sampler.store import consolidate, outdated_documents

from ..data import Recording

IMAGE = ms.to_image(np.ones((4, 32, 32), "float32"), dims="tyx")
STEPS = [{"y": 2, "x": 2}]
OLD, NEW = "shape (4, 32, 32)", "shape (6, 32, 32)"


def pyramid(place, version="0.5"):
    ms.write_pyramid(IMAGE, place, scale_factors=STEPS, chunks={"t": 1, "y": 16, "x": 16}, version=version)
    return place


def grow(place, paths=("scale0/image", "scale1/image")):
    """Add frames as an acquisition program does with plain zarr."""
    for path in paths:
        array = zarr.open_array(place, path=path, mode="r+")
        array.resize((6, *array.shape[1:]))
        array[4:] = 7


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_outdated__arrays_that_grew_are_named_by_what_reads_and_judges(tmp_path, version):
    place = pyramid(tmp_path / "p", version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ms.validate(place).ok
        ms.open_pyramid(place)
    grow(place)
    difference = f"'scale0/image' has {NEW}, but {OLD}"
    named = f"outdated.*{re.escape(difference)} in the consolidated metadata"
    for opened in (ms.open_pyramid, ms.open_image, lambda p: ms.open_image(p, "scale0/image")):
        with pytest.warns(UserWarning, match=named):
            opened(place)
    assert difference in ms.explain(place)
    for check in (ms.validate, ms.verify_pyramid):
        found = {f.location: f.found for f in check(place).findings if "consolidated" in f.found}
        assert found.keys() == {"scale0/image", "scale1/image"}
        assert found["scale0/image"] == f"the consolidated metadata state {OLD}, its own document {NEW}"


def test_outdated__a_build_from_such_a_source_says_so(tmp_path, capsys):
    grow(pyramid(tmp_path / "p"))
    assert main(["build", str(tmp_path / "p"), str(tmp_path / "out"), "--quiet"]) == 0
    assert f"'scale0/image' has {NEW}" in capsys.readouterr().err


def test_outdated__an_array_of_xarray_too(tmp_path):
    dataset = xr.Dataset({"v": (("time", "y", "x"), np.ones((4, 8, 8), "float32"))})
    dataset.to_zarr(tmp_path / "x", zarr_format=2, consolidated=True)
    grow(tmp_path / "x", ["v"])
    with pytest.warns(UserWarning, match="'v' has shape"):
        ms.open_image(tmp_path / "x", dims="tyx")


def test_outdated__what_did_not_change_is_not_named(tmp_path):
    place = pyramid(tmp_path / "p")
    zarr.open_array(place, path="scale1/image", mode="r+").attrs["note"] = "new"
    zarr.open_array(place, path="scale1/image", mode="r+")[...] = np.nan
    assert outdated_documents(zarr.open_group(place), ["scale0/image", "scale1/image"]) == ()
    grow(place)
    consolidate(zarr.open_group(place, mode="r+"))
    assert outdated_documents(zarr.open_group(place), ["scale0/image", "scale1/image"]) == ()


def test_outdated__an_array_that_is_gone():
    store = zarr.storage.MemoryStore()
    pyramid(store)
    del zarr.open_group(store, mode="r+", use_consolidated=False)["scale1/image"]
    (each,) = outdated_documents(zarr.open_group(store), ["scale0/image", "scale1/image"])
    assert str(each) == "'scale1/image' has no array any more, but shape (4, 16, 16) in the consolidated metadata"


def test_outdated__a_document_that_cannot_be_read(tmp_path):
    place = pyramid(tmp_path / "p")
    (place / "scale1" / "image" / "zarr.json").write_text("{")
    (each,) = outdated_documents(zarr.open_group(place), ["scale0/image", "scale1/image"])
    assert str(each).startswith("'scale1/image' has a document that cannot be read (")
    assert "Expecting property name" in str(each)


def test_outdated__costs_one_request_for_each_array():
    store = Recording(zarr.storage.MemoryStore())
    pyramid(store)
    group = zarr.open_group(store, mode="r")
    store.log["read"].clear()
    outdated_documents(group, ["scale0/image", "scale1/image"])
    assert sorted(store.log["read"]) == ["scale0/image/zarr.json", "scale1/image/zarr.json"]
