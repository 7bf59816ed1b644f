"""The synthetic test image: its values, dtypes and shapes, which do not depend on chunks."""

import numpy as np
import pytest
import zarr

from multiscale_sampler import create_test_image, open_image

from .data import hashes
from .oracles import FLOATS, INTEGERS


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_create_test_image__does_not_depend_on_chunks(kind):
    one = create_test_image({}, shape=(70, 50, 40), chunks=(70, 50, 40), kind=kind)[...]
    for chunks in [(32, 32, 32), (7, 50, 13), (70, 1, 40)]:
        np.testing.assert_array_equal(create_test_image({}, shape=(70, 50, 40), chunks=chunks, kind=kind)[...], one)
    sharded = create_test_image({}, shape=(70, 50, 40), chunks=(8, 8, 8), shards=(32, 32, 16), kind=kind)
    np.testing.assert_array_equal(sharded[...], one)


def test_create_test_image__of_booleans_has_both_values():
    values = create_test_image({}, shape=(96, 96), chunks=(32, 32), dtype="bool")[...]
    assert values.dtype == bool
    assert 0.05 < values.mean() < 0.95


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_create_test_image__spans_the_range_of_a_dtype(dtype):
    values = create_test_image({}, shape=(96, 96), chunks=(32, 32), dtype=dtype)[...]
    assert values.dtype == dtype
    low, high = (0.0, 1.0) if values.dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    fraction = (values.astype("f8") - float(low)) / (float(high) - float(low))
    assert fraction.min() < 0.25
    assert fraction.max() > 0.9
    assert fraction.min() >= 0
    assert fraction.max() <= 1 + 1e-9
    # Values in between: nothing wrapped around.
    assert 0.2 < fraction.mean() < 0.7


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_create_test_image__any_number_of_axes(ndim):
    array = create_test_image({}, shape=(40,) * ndim, chunks=(16,) * ndim)
    assert array.shape == (40,) * ndim
    assert array[...].std() > 0


@pytest.mark.parametrize("shape", [(64, 96), (70, 50, 40), (200,)], ids=str)
def test_create_test_image__labels_are_one_id_per_object(shape):
    ndimage = pytest.importorskip("scipy.ndimage", reason="the extra 'test' brings scipy")
    labels = create_test_image({}, shape=shape, chunks=(16,) * len(shape), dtype="uint32", kind="labels")[...]
    objects, count = ndimage.label(labels)
    assert count > 2
    assert len(np.unique(labels)) == count + 1
    assert len(np.unique(np.stack([labels.ravel(), objects.ravel()]), axis=1).T) == count + 1


def test_create_test_image__refuses_a_dtype_too_small_for_the_labels():
    with pytest.raises(ValueError, match="too many for dtype 'uint8'"):
        create_test_image({}, shape=(32 * 300, 32), chunks=(512, 32), dtype="uint8", kind="labels")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_create_test_image__passes_options_on(tmp_path, zarr_format):
    array = create_test_image(
        tmp_path / "a.zarr",
        "field/0",
        shape=(16, 16),
        chunks=(8, 8),
        zarr_format=zarr_format,
        compressors=None,
        attributes={"note": "mine"},
    )
    stored = zarr.open_array(tmp_path / "a.zarr", path="field/0")
    assert stored.metadata.zarr_format == zarr_format
    assert not stored.compressors
    assert stored.attrs["note"] == "mine"
    np.testing.assert_array_equal(stored[...], array[...])
    assert open_image(tmp_path / "a.zarr", "field/0").shape == (16, 16)


def test_create_test_image__overwrites_nothing(tmp_path):
    create_test_image(tmp_path / "a.zarr", shape=(16, 16), chunks=(8, 8))
    before = hashes(tmp_path)
    with pytest.raises((FileExistsError, ValueError), match="exists"):
        create_test_image(tmp_path / "a.zarr", shape=(16, 16), chunks=(8, 8), kind="labels")
    assert hashes(tmp_path) == before


def test_create_test_image__refuses_an_unknown_kind():
    with pytest.raises(ValueError, match=r"'picture'.*'image', 'labels'"):
        create_test_image({}, shape=(8, 8), chunks=(8, 8), kind="picture")


def test_create_test_image__refuses_chunks_of_another_length():
    with pytest.raises(ValueError, match=r"\(8, 8\) and chunks \(8,\)"):
        create_test_image({}, shape=(8, 8), chunks=(8,))
