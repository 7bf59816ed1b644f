"""Why the numbers are what they are: every sum that is printed is right, and every kind of store gets its reason."""

import re

import numpy as np
import pytest
import zarr

import multiscale_sampler as ms

from ..data import make_array, noise

IMAGE = ms.to_image(
    np.zeros((2, 40, 101), "uint16"), "cyx", scale={"y": 0.5, "x": 4}, translation={"x": 10.0}, units="micrometer"
)
NUMBER = r"(-?[\d.]+(?:e[-+]\d+)?)"


def check_sums(text):
    """Hold every sum in a text against Python's arithmetic."""
    sums = re.findall(rf"((?:{NUMBER}|[ +*/()-])+) = {NUMBER}", text)
    for whole, _, result in sums:
        assert eval(whole) == pytest.approx(float(result), rel=1e-3)
    return len(sums)


def test_explain__of_a_plan():
    text = ms.explain(ms.plan_pyramid(IMAGE, [2, 3, 4], method="median", chunks=16))
    assert "by 'median': median of the window" in text
    assert "y 40 / 3 = 13.33, rounded up to 14; x 101 / 3 = 33.67, rounded up to 34" in text
    assert "the last windows are partial, and reduce the voxels that they have (boundary 'pad')" in text
    assert "x 10 + (3 - 1) / 2 * 4 = 14 micrometer: the centre of the first window" in text
    assert "This is not a shift: along y it stands for voxels centred from 0 to 0.5 micrometer" in text
    assert "c: as in level 0, not reduced." in text
    assert "Computed from level 1, 1 x 2 x 2 of its voxels at a time, step by step." in text
    assert "Computed from level 0, as the factors of no level in between divide those of level 2." in text
    assert "The levels end here: no more were requested." in text
    # Three sums along two axes, at three levels.
    assert check_sums(text) == 18


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "nearest"}, "'nearest' takes the first voxel of each window, and this is its position."),
        ({"boundary": "trim"}, "voxels that do not fill a window are dropped (boundary 'trim')."),
        ({"method": "sum"}, "Its dtype is uint64, the dtype of the method's results; level 0 has uint16."),
        ({"chunks": 64}, "Chunks of 1 x 20 x 51 (1.99 kiB), 2 of them, those of level 0 cut to the level's size."),
        ({"chunks": 8, "shards": 16}, "Shards of 1 x 16 x 16: 4 chunks in one file."),
        (
            {"scale_factors": 2, "chunks": 64},
            "The levels end here: the axes that are reduced (y 20, x 51) have",
        ),
        (
            {"scale_factors": 2, "chunks": 128},
            "The levels end here: the axes that are reduced (y 40, x 101)",
        ),
        ({"scale_factors": [2, 4]}, "Computed from level 1, 1 x 2 x 2 of its voxels at a time, to the same values as"),
    ],
    ids=str,
)
def test_explain__says_what_a_choice_does(options, sentence):
    assert sentence in ms.explain(ms.plan_pyramid(IMAGE, **{"scale_factors": [2], **options}))


def test_explain__is_the_same_of_a_plan_a_tree_and_a_store(tmp_path):
    """Case 7: a translation that averaging needs is taken for an error."""
    ms.write_pyramid(IMAGE, tmp_path / "p.zarr", scale_factors=[2, 4], chunks=16)
    texts = [
        ms.explain(ms.plan_pyramid(IMAGE, [2, 4], chunks=16)),
        ms.explain(ms.to_multiscale(IMAGE, [2, 4], chunks=16)),
        ms.explain(tmp_path / "p.zarr"),
    ]
    for text in texts:
        assert "y 0 + (4 - 1) / 2 * 0.5 = 0.75 micrometer" in text
        assert "mean of the window; integers rounded once" in text
        assert check_sums(text) == 12


def foreign(datasets, shapes, **entry):
    """Return a store as another writer makes it: transformations and shapes by level."""
    store = zarr.storage.MemoryStore()
    for number, shape in enumerate(shapes):
        make_array(store, noise(shape), path=str(number), chunks=(8, 8))
    described = [
        {"path": str(number), "coordinateTransformations": transforms} for number, transforms in enumerate(datasets)
    ]
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": described, **entry}]}}
    zarr.open_group(store, mode="a").attrs.put(attributes)
    return store


def scaled(*scale):
    return [{"type": "scale", "scale": list(scale)}]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({}, "where it averages windows, it is drawn 0.5 too near to the origin along y."),
        ({"type": "local_mean"}, "The metadata name the method 'local_mean'."),
        ({"type": "mean"}, "Values of 'mean' belong to the centre of their windows: along y the level is drawn 0.5"),
        ({"type": "nearest"}, "'nearest' takes the first voxel of each window"),
    ],
    ids=str,
)
def test_explain__of_a_store_without_translations(entry, sentence):
    assert sentence in ms.explain(foreign([scaled(1, 1), scaled(2, 2)], [(20, 31), (10, 16)], **entry))


def test_explain__of_numbers_that_do_not_agree():
    wrong = [*scaled(2, 2.0667), {"type": "translation", "translation": [7, 0.5333]}]
    text = ms.explain(foreign([scaled(1, 1), wrong], [(20, 31), (9, 15)]))
    assert "y 20 / 2 = 10, but the size is 9: scale and size do not agree" in text
    assert "x 31 / 2.0667 = 15" in text
    assert "y 7, which is neither the centre of the first window (0.5) nor its first voxel (0)" in text
    assert "x 0 + (2.0667 - 1) / 2 * 1 = 0.5333: the centre" in text


@pytest.mark.filterwarnings("ignore:the metadata of")
def test_explain__says_what_was_assumed():
    text = ms.explain(foreign([[], []], [(20, 31), (10, 16)]))
    assert "The metadata are incomplete; assumed: scale 1 at level 0, and levels that are windows of it." in text


def test_explain__of_what_is_no_pyramid():
    store = zarr.storage.MemoryStore()
    make_array(store, noise((8, 8)))
    with pytest.raises(ValueError, match="is an array, not a pyramid; explain a plan"):
        ms.explain(store, "0")
    with pytest.raises(ValueError, match="no OME-NGFF multiscales"):
        ms.explain(store)


def test_explain__reads_no_chunk(refuse_to_compute):
    ms.explain(ms.to_multiscale(IMAGE, 2, chunks=8))


def test_explain__of_positions_that_follow_no_line():
    image = IMAGE.isel(c=0, drop=True).assign_coords(y=np.arange(40.0) ** 2)
    text = ms.explain(ms.plan_pyramid(image, [2]))
    assert "Positions of y are uneven, and are computed window by window." in text
    assert "y 40 / 2 = 20" in text
