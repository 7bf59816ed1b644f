"""Stores as other writers left them: every version's metadata, complete or not, lead to the same positions."""

import shutil
import warnings
import zipfile

import numpy as np
import pytest
import zarr

from multiscale_sampler import open_image, open_pyramid

from ..data import make_array, noise, real

BASE = noise((6, 8), seed=1)
HALF = BASE[::2, ::2]
YX = [{"name": "y", "type": "space", "unit": "micrometer"}, {"name": "x", "type": "space", "unit": "micrometer"}]


def scale(*values):
    return {"type": "scale", "scale": list(values)}


def shift(*values):
    return {"type": "translation", "translation": list(values)}


def store(place, *transforms, version="0.4", outer=None, levels=(BASE, HALF), axes=YX, paths="01", **options):
    """Write a store of two levels whose metadata have these transformations, a list for each level."""
    zarr_format = 2 if version in ("0.1", "0.2", "0.3", "0.4") else 3
    for path, level in zip(paths, levels, strict=True):
        make_array(place, level, path=path, zarr_format=zarr_format, chunks=(4, 4), **options)
    datasets = [{"path": path} for path in paths]
    for dataset, transform in zip(datasets, transforms, strict=True):
        if transform is not None:
            dataset["coordinateTransformations"] = transform
    entry = {"datasets": datasets, "name": "em"}
    if axes is not None:
        entry["axes"] = axes
    if outer is not None:
        entry["coordinateTransformations"] = outer
    group = zarr.open_group(place, mode="a", zarr_format=zarr_format)
    if zarr_format == 2:
        group.attrs.put({"multiscales": [{"version": version, **entry}]})
    else:
        group.attrs.put({"ome": {"version": version, "multiscales": [entry]}})
    return place


def lines(tree):
    """Return shape, and position of the first sample and spacing along y and x, of every level."""
    levels = [next(iter(node.data_vars.values())) for node in tree.children.values()]
    return [
        (level.shape, *((float(level[dim][0]), float(level[dim][1] - level[dim][0])) for dim in level.dims[-2:]))
        for level in levels
    ]


WINDOWS = [((6, 8), (0.0, 1.0), (0.0, 1.0)), ((3, 4), (0.5, 2.0), (0.5, 2.0))]

# Transformations of level 0 and 1, of the entry, what follows from them, and what the warning says.
COMPLETE = {
    "scale-only": ([[scale(2, 3)], [scale(4, 6)]], None, [((6, 8), (0, 2), (0, 3)), ((3, 4), (0, 4), (0, 6))]),
    "both": (
        [[scale(2, 3), shift(5, 7)], [scale(4, 6), shift(6, 8.5)]],
        None,
        [((6, 8), (5, 2), (7, 3)), ((3, 4), (6, 4), (8.5, 6))],
    ),
    "entry-scale": (
        [[scale(1, 1)], [scale(2, 2), shift(0.5, 0.5)]],
        [scale(10, 20)],
        [((6, 8), (0, 10), (0, 20)), ((3, 4), (5, 20), (10, 40))],
    ),
    "entry-both": (
        [[scale(1, 1)], [scale(2, 2), shift(0.5, 0.5)]],
        [scale(10, 20), shift(100, 200)],
        [((6, 8), (100, 10), (200, 20)), ((3, 4), (105, 20), (210, 40))],
    ),
    "entry-shift": (
        [[scale(1, 1)], [scale(2, 2)]],
        [shift(3, 4)],
        [((6, 8), (3, 1), (4, 1)), ((3, 4), (3, 2), (4, 2))],
    ),
    "entry-empty": ([[scale(1, 1)], [scale(2, 2)]], [], [((6, 8), (0, 1), (0, 1)), ((3, 4), (0, 2), (0, 2))]),
    "awkward-factor": (
        [[scale(1, 1)], [scale(2.1, 1.97)]],
        None,
        [((6, 8), (0, 1), (0, 1)), ((3, 4), (0, 2.1), (0, 1.97))],
    ),
    "descending": ([[scale(-1, 1)], [scale(-2, 2)]], None, [((6, 8), (0, -1), (0, 1)), ((3, 4), (0, -2), (0, 2))]),
}
INCOMPLETE = {
    "none": ([None, None], None, WINDOWS, "scale 1 at level 0, and levels that are windows of it"),
    "empty": ([[], []], None, WINDOWS, "scale 1 at level 0"),
    "shift-only": (
        [[shift(5, 6)], [shift(7, 8)]],
        None,
        [((6, 8), (5, 1), (6, 1)), ((3, 4), (7, 2), (8, 2))],
        "scale 1 at level 0",
    ),
    "missing-at-one-level": (
        [[scale(3, 5)], None],
        None,
        [((6, 8), (0, 3), (0, 5)), ((3, 4), (1.5, 6), (2.5, 10))],
        "that 1 are windows of level 0",
    ),
    "shift-only-at-one-level": (
        [[scale(3, 5)], [shift(1, 2)]],
        None,
        [((6, 8), (0, 3), (0, 5)), ((3, 4), (1, 6), (2, 10))],
        "that 1 are windows of level 0",
    ),
    "two-scales": (
        [[scale(2, 3)], [scale(2, 3), scale(2, 2)]],
        None,
        [((6, 8), (0, 2), (0, 3)), ((3, 4), (0, 4), (0, 6))],
        "that all transformations of one kind apply, in their order, to 1",
    ),
    "two-shifts": (
        [[scale(2, 3), shift(1, 1), shift(1, 2)], [scale(4, 6)]],
        None,
        [((6, 8), (2, 2), (3, 3)), ((3, 4), (0, 4), (0, 6))],
        "in their order, to 0",
    ),
    "two-scales-of-the-entry": (
        [[scale(1, 1)], [scale(2, 2)]],
        [scale(2, 2), scale(5, 5)],
        [((6, 8), (0, 10), (0, 10)), ((3, 4), (0, 20), (0, 20))],
        "to all levels",
    ),
}


def quietly(place, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_pyramid(place, *args)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("transforms", "outer", "expected"), COMPLETE.values(), ids=COMPLETE)
def test_open_pyramid__places_levels_as_the_metadata_say(tmp_path, version, transforms, outer, expected):
    place = store(tmp_path / "a.zarr", *transforms, version=version, outer=outer)
    tree = quietly(place)
    _close(tree, expected)
    np.testing.assert_array_equal(next(iter(tree["scale1"].data_vars.values())), HALF)


def _close(tree, expected):
    for (shape, *found), (expected_shape, *numbers) in zip(lines(tree), expected, strict=True):
        assert shape == expected_shape
        np.testing.assert_allclose(found, numbers, rtol=1e-12)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("transforms", "outer", "expected", "said"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_open_pyramid__says_once_what_it_assumed(tmp_path, version, transforms, outer, expected, said):
    place = store(tmp_path / "a.zarr", *transforms, version=version, outer=outer)
    with pytest.warns(UserWarning, match="assumed") as caught:
        tree = open_pyramid(place)
    (warning,) = caught
    assert said in str(warning.message)
    assert warning.filename == __file__
    _close(tree, expected)
    with pytest.warns(UserWarning, match="assumed") as caught:
        image = open_image(place / "1")
    (warning,) = caught
    assert said in str(warning.message)
    assert warning.filename == __file__
    np.testing.assert_array_equal(image, HALF)
    np.testing.assert_allclose(image.y, next(iter(tree["scale1"].data_vars.values())).y)


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
@pytest.mark.parametrize("separator", [".", "/"])
def test_open_pyramid__versions_before_transformations(tmp_path, version, separator):
    old = version != "0.3"
    shape = (1, 2, 1, 6, 8) if old else (6, 8)
    levels = (noise(shape), noise((*shape[:-2], 3, 4)))
    keys = {"chunk_key_encoding": {"name": "v2", "separator": separator}}
    if old:
        place = _old(tmp_path / "a.zarr", version, levels, keys)
    else:
        place = store(tmp_path / "a.zarr", None, None, version=version, axes=["y", "x"], levels=levels, **keys)
    with pytest.warns(UserWarning, match="assumed") as caught:
        tree = open_pyramid(place)
    (warning,) = caught
    assert ("axes t, c, z, y, x" in str(warning.message)) == old
    assert [next(iter(node.data_vars.values())).dims for node in tree.children.values()] == [
        ("t", "c", "z", "y", "x") if old else ("y", "x")
    ] * 2
    _close(tree, [((*shape[:-2], *level[0]), *level[1:]) for level in WINDOWS])
    for node, level in zip(tree.children.values(), levels, strict=True):
        np.testing.assert_array_equal(next(iter(node.data_vars.values())), level)


def _old(place, version, levels, keys):
    for path, level in zip("01", levels, strict=True):
        make_array(place, level, path=path, zarr_format=2, chunks=(1, 1, 1, 4, 4), **keys)
    entry = {"version": version, "datasets": [{"path": "0"}, {"path": "1"}]}
    zarr.open_group(place, mode="a", zarr_format=2).attrs.put({"multiscales": [entry]})
    return place


def test_open_pyramid__levels_listed_coarsest_first_come_finest_first(tmp_path):
    place = store(tmp_path / "a.zarr", [scale(4, 6)], [scale(2, 3)], levels=(HALF, BASE))
    with pytest.warns(UserWarning, match="levels in the order of their sizes, 1, 0"):
        tree = open_pyramid(place)
    _close(tree, [((6, 8), (0, 2), (0, 3)), ((3, 4), (0, 4), (0, 6))])
    with pytest.warns(UserWarning, match="order of their sizes"):
        assert open_image(place).shape == (6, 8)


def test_open_pyramid__levels_out_of_order_without_transformations(tmp_path):
    place = store(tmp_path / "a.zarr", None, None, levels=(HALF, BASE))
    with pytest.warns(UserWarning, match=r"scale 1 at level 0.*order of their sizes"):
        tree = open_pyramid(place)
    _close(tree, WINDOWS)


@pytest.mark.parametrize("shards", [None, (4, 4)])
def test_open_pyramid__sharded_or_not_from_a_folder_or_a_zip_file(tmp_path, shards):
    place = tmp_path / "a.zarr"
    for path, level in zip("01", (BASE, HALF), strict=True):
        make_array(place, level, path=path, chunks=(2, 2), shards=shards)
    datasets = [
        {"path": "0", "coordinateTransformations": [scale(2, 3)]},
        {"path": "1", "coordinateTransformations": [scale(4, 6)]},
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": YX, "datasets": datasets}]}
    zarr.open_group(place, mode="a").attrs.put({"ome": ome})
    zipped = shutil.make_archive(str(tmp_path / "a"), "zip", place)
    nested = tmp_path / "nested.zip"
    with zipfile.ZipFile(nested, "w") as archive:
        for file in sorted(place.rglob("*")):
            archive.write(file, f"inner/{file.relative_to(place)}")
    for tree in (quietly(place), quietly(zipped), quietly(nested, "inner")):
        _close(tree, [((6, 8), (0, 2), (0, 3)), ((3, 4), (0, 4), (0, 6))])
        level = next(iter(tree["scale0"].data_vars.values()))
        np.testing.assert_array_equal(level, BASE)
        assert level.encoding.get("shards") == shards


# --- 0.6 -------------------------------------------------------------------------------------------------------


def system(name, *axes):
    return {"name": name, "axes": list(axes or YX)}


def leading(transform, path, to="physical"):
    return {**transform, "input": {"path": path}, "output": {"name": to}}


def store_06(place, *transforms, systems, **entry):
    for path, level in zip("01", (BASE, HALF), strict=True):
        make_array(place, level, path=path, chunks=(4, 4))
    datasets = [
        {"path": path, "coordinateTransformations": [transform]}
        for path, transform in zip("01", transforms, strict=True)
    ]
    one = {"coordinateSystems": systems, "datasets": datasets, **entry}
    zarr.open_group(place, mode="a").attrs.put({"ome": {"version": "0.6", "multiscales": [one]}})
    return place


SEQUENCE = {"type": "sequence", "transformations": [scale(4, 6), shift(1, 1.5)]}
EXPECTED_06 = [((6, 8), (0, 2), (0, 3)), ((3, 4), (1, 4), (1.5, 6))]


@pytest.mark.parametrize(
    "further",
    [
        scale(7, 7),
        {"type": "affine", "affine": [[1, 2, 3], [4, 5, 6]]},
        {"type": "rotation", "rotation": [[0, 1], [-1, 0]]},
        {"type": "displacements", "path": "field"},
        {"type": "byDimension", "transformations": []},
    ],
    ids=lambda further: further["type"],
)
def test_open_pyramid__of_0_6_lies_in_the_system_of_its_levels(tmp_path, further):
    other = system("world", {"name": "v", "type": "space"}, {"name": "u", "type": "space"})
    onward = {**further, "input": {"name": "physical"}, "output": {"name": "world"}}
    place = store_06(
        tmp_path / "a.zarr",
        leading(scale(2, 3), "0"),
        leading(SEQUENCE, "1"),
        systems=[other, system("physical")],
        coordinateTransformations=[onward],
    )
    tree = quietly(place)
    _close(tree, EXPECTED_06)
    assert tree["scale0"]["y"].attrs["units"] == "micrometer"


def test_open_pyramid__of_0_6_takes_identity_at_its_word(tmp_path):
    identity = {"type": "identity"}
    place = store_06(
        tmp_path / "a.zarr", leading(identity, "0"), leading(scale(2, 2), "1"), systems=[system("physical")]
    )
    _close(quietly(place), [((6, 8), (0, 1), (0, 1)), ((3, 4), (0, 2), (0, 2))])


def test_open_pyramid__of_0_6_with_axes_of_the_array(tmp_path):
    axes = ({"name": "dim_0", "type": "array", "discrete": True}, {"name": "dim_1", "type": "array"})
    place = store_06(
        tmp_path / "a.zarr",
        leading({"type": "identity"}, "0", "array"),
        leading(scale(2, 2), "1", "array"),
        systems=[system("array", *axes)],
    )
    assert next(iter(quietly(place)["scale0"].data_vars.values())).dims == ("dim_0", "dim_1")


def test_open_pyramid__of_0_6_says_which_system_it_took(tmp_path):
    systems = [system("physical"), system("world")]
    place = store_06(tmp_path / "a.zarr", leading(scale(2, 3), "0"), leading(SEQUENCE, "1", "world"), systems=systems)
    with pytest.warns(UserWarning, match="assumed: that all levels are placed in the coordinate system 'physical'"):
        tree = open_pyramid(place)
    _close(tree, EXPECTED_06)


@pytest.mark.parametrize(
    "transform", [{"type": "affine", "affine": [[1, 0, 0], [0, 1, 0]]}, {"type": "mapAxis", "mapAxis": [1, 0]}]
)
def test_open_pyramid__of_0_6_refuses_levels_that_are_no_grid(tmp_path, transform):
    place = store_06(
        tmp_path / "a.zarr", leading(scale(2, 3), "0"), leading(transform, "1"), systems=[system("physical")]
    )
    with pytest.raises(ValueError, match=rf"{transform['type']}.*no scale or translation"):
        open_pyramid(place)


def test_open_pyramid__numbers_in_an_array_of_their_own_are_refused(tmp_path):
    place = store(tmp_path / "a.zarr", [{"type": "scale", "path": "numbers"}], [scale(2, 2)])
    with pytest.raises(ValueError, match="numbers in an array of their own"):
        open_pyramid(place)


# --- groups of images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ({"plate": {"wells": [{"path": "A/1"}]}}, "A/1"),
        ({"ome": {"version": "0.5", "well": {"images": [{"path": "0"}]}}}, "0"),
        ({"labels": ["nuclei", "cells"]}, "nuclei"),
        ({"bioformats2raw.layout": 3}, "0"),
    ],
    ids=["plate", "well", "labels", "converted"],
)
def test_open_pyramid__names_an_image_of_a_group_of_images(tmp_path, attributes, path):
    zarr.open_group(tmp_path / "a.zarr", mode="w", attributes=attributes)
    with pytest.raises(ValueError, match=rf"is a group of images, not an image.*path='{path}'"):
        open_pyramid(tmp_path / "a.zarr")


def test_open_pyramid__of_an_empty_list_of_labels(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w", attributes={"labels": []})
    with pytest.raises(ValueError, match="names none"):
        open_pyramid(tmp_path / "a.zarr")


# --- real stores -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*contrary to the Zarr V2 specification")
@pytest.mark.filterwarnings("ignore:.*assumed")
@pytest.mark.parametrize("name", ["ome_zarr_small", "tubhiswt5d_v04", "idr6001240_v05_sharded"])
def test_open_pyramid__every_real_image_lies_where_its_own_metadata_say(name):
    """Shapes and positions of all images and labels below a folder, held against the raw JSON."""
    opened = 0
    for place in sorted(real(name).rglob("*")):
        document = _document(place)
        if "invalid" in place.parts or not document.get("multiscales"):
            continue
        tree = open_pyramid(place)
        levels = [node for name, node in tree.children.items() if name != "labels"]
        for node, dataset in zip(levels, document["multiscales"][0]["datasets"], strict=True):
            level = next(iter(node.data_vars.values()))
            stored = zarr.open_array(place / dataset["path"], mode="r")
            assert (level.shape, level.dtype) == (stored.shape, stored.dtype)
            stated = {t["type"]: t[t["type"]] for t in dataset.get("coordinateTransformations", ())}
            steps, starts = stated.get("scale", [1] * level.ndim), stated.get("translation", [0] * level.ndim)
            for dim, size, step, start in zip(level.dims, level.shape, steps, starts, strict=True):
                if level[dim].dtype.kind == "f":
                    np.testing.assert_allclose(level[dim], start + step * np.arange(size), rtol=1e-12)
        opened += 1
    assert opened == {"ome_zarr_small": 14, "tubhiswt5d_v04": 2, "idr6001240_v05_sharded": 2}[name]


def _document(place):
    if not place.is_dir() or not ((place / ".zgroup").exists() or (place / "zarr.json").exists()):
        return {}
    node = zarr.open(place, mode="r")
    attributes = node.attrs.asdict() if isinstance(node, zarr.Group) else {}
    return attributes.get("ome", attributes)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image-01", "no OME-NGFF multiscales metadata"),
        ("image-02", "no OME-NGFF multiscales metadata"),
        ("image-03", "name the array '0', but there is none"),
        ("image-04", r"'1' has the shape \(32, 32\)"),
    ],
)
def test_open_pyramid__invalid_real_stores_say_what_is_wrong(name, said):
    with pytest.raises(ValueError, match=said):
        open_pyramid(real("ome_zarr_small", "fractal-examples", "invalid", f"{name}.zarr"))
