"""Labels beside their image: its levels, its positions, one list, and no id that is not there."""

import json
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.build import engine
from multiscale_sampler.cli import main
from tests import oracles
from tests.data import hashes

KINDS = [("0.6", "datatree"), ("0.5", "datatree"), ("0.5", "flat"), ("0.4", "datatree"), ("0.4", "flat")]
SCALE = {"z": 2.0, "y": 0.5, "x": 0.25}


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    return rng.choice(np.array([0, 3, 7, 2**40, 2**64 - 1], np.uint64), (13, 22, 19))


def image_at(place, version="0.5", layout="datatree", **options):
    values = np.random.default_rng(1).integers(0, 999, (2, 13, 22, 19)).astype(np.uint16)
    image = ms.to_image(
        values, "czyx", scale=SCALE, translation={"z": 5.0}, units="micrometer", channel_names=["a", "b"]
    )
    ms.write_pyramid(image, place, scale_factors=[2, 4], version=version, layout=layout, chunks=8, **options)
    return place


def attributes_of(place, path):
    attributes = zarr.open_group(place, path=path, mode="r").attrs.asdict()
    return attributes.get("ome", attributes)


def assert_labels(tree, labels, method="mode"):
    """Hold the labels of an opened image against the oracle, and their positions against the image's."""
    factors = [(1,) * labels.ndim, (2,) * labels.ndim, (4,) * labels.ndim]
    expected = [labels.astype(object), *oracles.pyramid_of(labels, factors, method)]
    node = tree["labels/cells"]
    assert len(node.children) == len(expected)
    for index, values in enumerate(expected):
        level = node[f"scale{index}/cells"]
        assert level.dtype == labels.dtype
        assert (level.values == oracles.as_dtype(values, labels.dtype)).all()
        for dim in level.dims:
            image = tree[f"scale{index}"][dim]
            np.testing.assert_array_equal(level[dim].values, image.values)
            assert level[dim].attrs.get("units") == image.attrs.get("units")


@pytest.mark.parametrize(("version", "layout"), KINDS)
def test_write_labels__has_the_levels_and_the_positions_of_the_image(tmp_path, labels, version, layout):
    place = image_at(tmp_path / "image", version, layout)
    before = hashes(place)
    ms.write_labels(labels, place, "cells", chunks=8)
    after = hashes(place)
    # Nothing of the image is touched but what gathers metadata.
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= ({"zarr.json", ".zmetadata"} if layout == "datatree" else set())
    assert_labels(ms.open_pyramid(place), labels)
    listed = attributes_of(place, "labels")
    assert listed["labels"] == ["cells"]
    assert version == "0.4" or listed["version"] == version
    for path in (place, place / "labels/cells"):
        report = ms.validate(path)
        assert report.ok, report


@pytest.mark.parametrize(("version", "layout"), KINDS)
def test_write_labels__says_whose_they_are_and_gives_ids_colours(tmp_path, labels, version, layout):
    place = image_at(tmp_path / "image", version, layout)
    ms.write_labels(labels, place, "cells")
    said = attributes_of(place, "labels/cells")["image-label"]
    assert said["source"] == {"image": "../../"}
    assert said.get("version") == (None if version == "0.6" else version)
    colors = {color["label-value"]: color["rgba"] for color in said["colors"]}
    # 0 is background, and 2**64 - 1 no number that every reader of JSON can hold.
    assert set(colors) == {3, 7, 2**40}
    assert len({tuple(color) for color in colors.values()}) == 3
    assert all(0 <= part <= 255 for color in colors.values() for part in color)
    ms.write_labels(labels.astype(np.uint64), place, "again")
    assert attributes_of(place, "labels/again")["image-label"]["colors"] == said["colors"]
    assert attributes_of(place, "labels")["labels"] == ["cells", "again"]
    assert "omero" not in attributes_of(place, "labels/cells")


def test_write_labels__of_a_datatree_store_are_seen_by_plain_xarray(tmp_path, labels):
    place = image_at(tmp_path / "image")
    ms.write_labels(labels, place, "cells")
    tree = xr.open_datatree(place, engine="zarr")
    np.testing.assert_array_equal(tree["labels/cells/scale1"].z.values, tree["scale1"].z.values)


@pytest.mark.parametrize("method", ["nearest", "mode_nonzero"])
def test_write_labels__takes_methods_that_make_no_id(tmp_path, labels, method):
    place = image_at(tmp_path / "image")
    ms.write_labels(labels, place, "cells", method=method)
    tree = ms.open_pyramid(place)
    expected = labels
    for level in (1, 2):
        expected = oracles.expected_level(expected, (2, 2, 2), method)
        np.testing.assert_array_equal(tree[f"labels/cells/scale{level}/cells"].values, expected)


def test_write_labels__takes_labelled_images_and_trees_where_they_are(tmp_path, labels):
    place = image_at(tmp_path / "image")
    image = ms.to_image(labels, "zyx", scale=SCALE, translation={"z": 5.0}, units="micrometer", name="cells")
    ms.write_labels(image, place, "cells")
    assert_labels(ms.open_pyramid(place), labels)
    ms.write_labels(ms.to_multiscale(image, [2, 4], "mode"), place, "from_tree")
    tree = ms.open_pyramid(place)
    np.testing.assert_array_equal(tree["labels/from_tree/scale2/from_tree"], tree["labels/cells/scale2/cells"])


def test_write_labels__of_an_image_whose_sizes_were_rounded_down_are_too(tmp_path):
    image = ms.to_image(np.zeros((13, 11), np.uint8))
    ms.write_pyramid(image, tmp_path / "image", scale_factors=[2, 4], boundary="trim")
    ms.write_labels(np.ones((13, 11), np.uint8), tmp_path / "image", "cells")
    tree = ms.open_pyramid(tmp_path / "image")
    for index in range(3):
        assert tree[f"labels/cells/scale{index}"].sizes == tree[f"scale{index}"].sizes


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"labels": np.zeros((13, 22, 19))}, TypeError, r"'float64'.*dtype='uint8'"),
        ({"labels": np.full((13, 22, 19), 0.5)}, TypeError, "0.5 is not a whole number"),
        ({"labels": np.full((13, 22, 19), 300), "dtype": "float32"}, TypeError, "'float32'"),
        ({"labels": np.full((13, 22, 19), np.nan), "dtype": "auto"}, ValueError, "nan is not a whole number"),
        ({"labels": np.full((13, 22, 19), 2.0**65), "dtype": "auto"}, ValueError, "which no integer dtype holds"),
        ({"labels": np.full((13, 22, 19), "a"), "dtype": "auto"}, TypeError, "'<U1'"),
        ({"labels": np.zeros((13, 22, 18), np.uint8)}, ValueError, r"\(13, 22, 18\) do not fit"),
        ({"method": "mean"}, ValueError, r"'mean' would create label ids.*'mode'"),
        ({"method": "linear"}, ValueError, "'linear' would create label ids"),
        ({"name": "a/b"}, ValueError, "'a/b'"),
        ({"name": ""}, ValueError, "''"),
        ({"mode": "a"}, ValueError, "unknown mode 'a'"),
        ({"path": "nowhere"}, FileNotFoundError, "nowhere"),
        ({"path": "scale0/image"}, ValueError, "is an array"),
        ({"path": "scale0"}, ValueError, "no OME-NGFF multiscales"),
    ],
    ids=str,
)
def test_write_labels__refuses_what_does_not_fit_before_it_writes(tmp_path, wrong, error, message):
    place = image_at(tmp_path / "image")
    before = hashes(place)
    arguments = {"labels": np.zeros((13, 22, 19), np.uint8), "store": place, "name": "cells", **wrong}
    with pytest.raises(error, match=message):
        ms.write_labels(**arguments)
    assert hashes(place) == before


def test_write_labels__refuses_trees_of_other_levels(tmp_path, labels):
    place = image_at(tmp_path / "image")
    with pytest.raises(ValueError, match="2 levels, the image 3"):
        ms.write_labels(ms.to_multiscale(ms.to_image(labels), [2], "mode"), place, "cells")


def test_write_labels__replaces_only_where_it_is_let(tmp_path, labels):
    place = image_at(tmp_path / "image")
    ms.write_labels(labels, place, "cells")
    with pytest.raises(FileExistsError, match="mode='w'"):
        ms.write_labels(labels, place, "cells")
    other = labels[::-1].copy()
    ms.write_labels(other, place, "cells", mode="w")
    assert_labels(ms.open_pyramid(place), other)
    assert attributes_of(place, "labels")["labels"] == ["cells"]


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_write_pyramid__of_an_opened_image_takes_its_labels_along(tmp_path, labels, version):
    place = image_at(tmp_path / "image")
    ms.write_labels(labels, place, "cells")
    ms.write_pyramid(ms.open_pyramid(place), tmp_path / "copy", version=version)
    assert_labels(ms.open_pyramid(tmp_path / "copy"), labels)
    assert ms.validate(tmp_path / "copy/labels/cells").ok


class StopError(Exception):
    """Stands for whatever ends a build."""


@pytest.mark.parametrize("share", [0.0, 0.4, 0.7, 0.95])
def test_write_pyramid__that_was_stopped_goes_on_with_the_labels(tmp_path, labels, monkeypatch, share):
    source = image_at(tmp_path / "image")
    ms.write_labels(labels, source, "cells")
    ms.write_labels(labels, source, "more")
    tree = ms.open_pyramid(source)
    options = {"chunks": 8, "workers": 1, "memory_limit": "100KB"}
    begun, most = [], []
    reduce_region = engine.reduce_region

    def count(*arguments):
        begun.append(arguments)
        if most and len(begun) > most[0]:
            raise StopError
        reduce_region(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "reduce_region", count)
        ms.write_pyramid(tree, tmp_path / "whole", **options)
        most.append(int(share * len(begun)))
        begun.clear()
        with pytest.raises(StopError):
            ms.write_pyramid(tree, tmp_path / "parts", **options)
    with pytest.raises((ValueError, FileNotFoundError)):
        ms.open_pyramid(tmp_path / "parts")
    ms.write_pyramid(tree, tmp_path / "parts", resume=True, **options)
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("inside", [True, False])
def test_add_levels__beside_labels_registers_them(tmp_path, version, inside):
    place = image_at(tmp_path / "image", version, "flat")
    group = zarr.open_group(place)
    base = group.create_array("labels/cells/0", shape=(13, 22, 19), chunks=(8, 8, 8), dtype="uint32")
    base[...] = np.random.default_rng(0).integers(0, 4, base.shape)
    where = (place, "labels/cells") if inside else (place / "labels/cells",)
    with pytest.raises(ValueError, match="'mean' would create label ids"):
        ms.add_levels(*where, dims="zyx", scale_factors=[2, 4])
    ms.add_levels(*where, dims="zyx", scale=SCALE, scale_factors=[2, 4], method="mode")
    assert attributes_of(place, "labels")["labels"] == ["cells"]
    assert attributes_of(place, "labels/cells")["image-label"]["source"] == {"image": "../../"}
    assert ms.open_pyramid(place)["labels/cells/scale2"].sizes == {"z": 4, "y": 6, "x": 5}


def test_add_levels__in_a_folder_that_is_only_named_labels_makes_an_image(tmp_path):
    (tmp_path / "labels").mkdir()
    ms.create_test_image(tmp_path / "labels/raw", shape=(20, 20), chunks=(8, 8))
    ms.add_levels(tmp_path / "labels/raw")
    assert "image-label" not in attributes_of(tmp_path / "labels/raw", "")
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["raw"]


def test_open_pyramid__says_which_labels_are_listed_and_not_there(tmp_path, labels):
    place = image_at(tmp_path / "image", layout="flat")
    ms.write_labels(labels, place, "cells")
    document = json.loads((place / "labels/zarr.json").read_text())
    document["attributes"]["ome"]["labels"] = ["gone", "cells"]
    (place / "labels/zarr.json").write_text(json.dumps(document))
    with pytest.warns(UserWarning, match="'gone'.*left out"):
        tree = ms.open_pyramid(place)
    assert list(tree["labels"].children) == ["cells"]


@pytest.mark.parametrize(("version", "layout"), [kind for kind in KINDS if kind[0] != "0.6"])
def test_clients__see_the_labels(tmp_path, labels, version, layout):
    """ome-zarr-py follows the list, and its models take the image and its labels."""
    io = pytest.importorskip("ome_zarr.io", reason="the extra 'clients' brings ome-zarr")
    reader = pytest.importorskip("ome_zarr.reader", reason="the extra 'clients' brings ome-zarr")
    place = image_at(tmp_path / "image", version, layout)
    ms.write_labels(labels.astype(np.uint32), place, "cells")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = list(reader.Reader(io.parse_url(str(place)))())
        found = [node for node in nodes if "cells" in str(node.zarr)]
        assert found
        assert [level.shape for level in found[0].data] == [(13, 22, 19), (7, 11, 10), (4, 6, 5)]
        np.testing.assert_array_equal(np.asarray(found[0].data[0]), labels.astype(np.uint32))


@pytest.mark.filterwarnings("ignore:voxels of level .* are more anisotropic:UserWarning")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    "options", [(), ("--chunks", "c=1,z=4,y=8,x=8", "--shards", "none"), ("--level", "1")], ids=str
)
def test_build__on_the_command_line_takes_labels_along(tmp_path, version, options):
    rng = np.random.default_rng(0)
    image = ms.to_image(rng.integers(0, 99, (2, 8, 32, 32), "uint8"), "czyx", scale=0.5, units="micrometer")
    ids = rng.integers(0, 5, (8, 32, 32), "uint16")
    ms.write_pyramid(image, tmp_path / "in", scale_factors=[{"y": 2, "x": 2}], version=version, layout="flat")
    ms.write_labels(ids, tmp_path / "in", "cells")
    ms.write_labels(ids > 2, tmp_path / "in", "mask", method="max")
    factors = ["--factors", "y=2,x=2", "--factors", "y=4,x=4"]
    command = ["build", str(tmp_path / "in"), str(tmp_path / "out"), *factors, "--quiet"]
    assert main([*command, "--method", "max", *options]) == 0
    start = ms.open_pyramid(tmp_path / "in")[f"scale{1 if '--level' in options else 0}/image"]
    tree = ms.open_pyramid(tmp_path / "out")
    alone = {}
    shape = {"scale_factors": [{"y": 2, "x": 2}, {"y": 4, "x": 4}]}
    ms.write_pyramid(start, alone, method="max", **shape)
    for index in range(3):
        np.testing.assert_array_equal(tree[f"scale{index}/image"], ms.open_pyramid(alone)[f"scale{index}/image"])
    base = tree["labels/cells/scale0/cells"]
    assert base.shape == start.shape[1:]
    for name, method in (("cells", "mode"), ("mask", "max")):
        expected = ms.to_multiscale(tree[f"labels/{name}/scale0/{name}"], method=method, **shape)
        for index in range(3):
            level = tree[f"labels/{name}/scale{index}/{name}"]
            np.testing.assert_array_equal(level, expected[f"scale{index}/{name}"])
            np.testing.assert_array_equal(level.x, tree[f"scale{index}"].x)
    assert ms.validate(tmp_path / "out").findings == ()
    assert ms.verify_pyramid(tmp_path / "out").verdict == "agree"
    assert main([*command, "--method", "max", *options, "--resume"]) == 0


def test_build__with_other_positions_takes_labels_to_them(tmp_path):
    ids = np.arange(24 * 24, dtype="uint16").reshape(24, 24) % 5
    ms.write_pyramid(ms.to_image(np.zeros((24, 24), "uint8") + 1), tmp_path / "in", scale_factors=[2])
    ms.write_labels(ids, tmp_path / "in", "cells")
    command = [
        "build",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--factors",
        "2,",
        "--scale",
        "0.5",
        "--unit",
        "um",
    ]
    assert main([*command, "--dims", "ab", "--quiet"]) == 0
    tree = ms.open_pyramid(tmp_path / "out")
    level = tree["labels/cells/scale1/cells"]
    assert level.dims == ("a", "b")
    np.testing.assert_array_equal(level.a, tree["scale1"].a)
    np.testing.assert_array_equal(tree["scale1"].a.values[:2], [0.25, 1.25])
