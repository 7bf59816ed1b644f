"""Conversion between versions: the same pixels in the same places, and nothing else lost on the way and back."""

import itertools
import json
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import (
    cli,
    convert,
    open_pyramid,
    remove_levels,
    to_image,
    update_pyramid,
    validate,
    write_labels,
    write_pyramid,
)
from multiscale_sampler.build import copying, engine
from multiscale_sampler.metadata import WRITTEN_VERSIONS
from multiscale_sampler.store import consolidate

from ..data import Killed, Recording, Stopping, hashes, is_chunk, make_array, noise, real

PAIRS = list(itertools.permutations(WRITTEN_VERSIONS, 2))


def image(shape=(2, 12, 10)):
    return to_image(
        noise(shape, seed=5),
        "cyx",
        scale={"y": 0.5},
        translation={"x": 3.0},
        units="micrometer",
        channel_names=["DAPI", "GFP"][: shape[0]],
    )


def assert_equal(place, other, inside=None):
    """Hold two pyramids against each other: values, positions, attributes, level by level."""
    one, two = open_pyramid(place, inside), open_pyramid(other, inside)
    assert list(one.children) == list(two.children)
    for name in one.children:
        xr.testing.assert_identical(one[name].to_dataset(), two[name].to_dataset())


def attributes(place, inside=""):
    return zarr.open_group(place, path=inside, mode="r").attrs.asdict()


def multiscales(place):
    document = attributes(place)
    return document.get("ome", document)["multiscales"][0]


def add_labels(place, version):
    labels = to_image(noise((12, 10), "uint32", seed=6), "yx", scale={"y": 0.5}, translation={"x": 3.0})
    write_pyramid(
        labels, place / "labels" / "nuclei", scale_factors=[2, 4], method="mode", version=version, layout="flat"
    )
    group = zarr.open_group(place / "labels", mode="a", zarr_format=2 if version == "0.4" else 3)
    colors = {"colors": [{"label-value": 1, "rgba": [1, 2, 3, 4]}], "source": {"image": "../../"}}
    nuclei = zarr.open_group(place / "labels" / "nuclei", mode="r+").attrs
    if version == "0.4":
        group.attrs.put({"labels": ["nuclei"]})
        nuclei.put({**nuclei.asdict(), "image-label": {"version": "0.4", **colors}})
    else:
        group.attrs.put({"ome": {"version": version, "labels": ["nuclei"]}})
        nuclei.put({"ome": {**nuclei.asdict()["ome"], "image-label": colors}})


class Publications(Recording):
    """A store that records whether what is written makes its group an image."""

    async def set(self, key, value):
        self.log.setdefault("images", []).append((key, makes_an_image(key, value.to_bytes())))
        await super().set(key, value)

    def order(self):
        """Return the chunks that were written, and the groups that became images, both with their turns."""
        turns = list(enumerate(self.log["images"]))
        chunks = {key: turn for turn, (key, _) in turns if is_chunk(key)}
        return chunks, {key.rpartition("/")[0]: turn for turn, (key, is_image) in turns if is_image}


def makes_an_image(key, value):
    if not key.endswith(("zarr.json", ".zattrs")):
        return False
    document = json.loads(value)
    return "multiscales" in (document if key.endswith(".zattrs") else document["attributes"].get("ome", {}))


# --- copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "other"), PAIRS)
def test_convert__is_as_if_written_in_the_other_version(tmp_path, version, other):
    for each in (version, other):
        write_pyramid(image(), tmp_path / each, scale_factors=[2, 4], version=each)
        add_labels(tmp_path / each, each)
        group = zarr.open_group(tmp_path / each, mode="r+", use_consolidated=False)
        group.attrs["note"] = {"by": "me"}
        group["scale1"].attrs["note"] = 1
        group["scale2/image"].attrs["note"] = 2
        # In zarr v3 they went when the group's own document was written again.
        (tmp_path / each / ".zmetadata").unlink(missing_ok=True)
    convert(tmp_path / version, tmp_path / "copy", version=other)
    for inside in (None, "labels/nuclei"):
        assert_equal(tmp_path / "copy", tmp_path / other, inside)
    assert validate(tmp_path / "copy", strict=True).findings == ()
    assert attributes(tmp_path / "copy")["note"] == {"by": "me"}
    assert attributes(tmp_path / "copy", "scale1")["note"] == 1
    assert open_pyramid(tmp_path / "copy")["scale2/image"].attrs["note"] == 2
    assert attributes(tmp_path / "copy", "labels") == attributes(tmp_path / other, "labels")
    ours, theirs = multiscales(tmp_path / "copy"), multiscales(tmp_path / other)
    # 0.6 says no translation of zero, and none is made up.
    assert {key: ours[key] for key in ours if key != "datasets"} == {k: theirs[k] for k in theirs if k != "datasets"}
    if version != "0.6":
        assert ours == theirs


@pytest.mark.parametrize(("version", "other"), [("0.4", "0.5"), ("0.5", "0.6"), ("0.6", "0.4")])
def test_convert__there_and_back_is_where_it_began(tmp_path, version, other):
    """Attributes too, but for the convention's, which 0.4 has no room for, and translations of zero."""
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4], version=version, layout="flat")
    add_labels(tmp_path / "a", version)
    convert(tmp_path / "a", tmp_path / "b", version=other)
    convert(tmp_path / "b", tmp_path / "c", version=version)
    for inside in (None, "labels/nuclei"):
        assert_equal(tmp_path / "a", tmp_path / "c", inside)
        assert attributes(tmp_path / "a", inside or "") == attributes(tmp_path / "c", inside or "")


def test_convert__chunks_and_shards_of_a_copy_are_as_stored_or_as_asked(tmp_path):
    data = noise((16, 16))
    write_pyramid(to_image(data, "yx"), tmp_path / "a", scale_factors=[2], chunks=4, shards=8, layout="flat")
    convert(tmp_path / "a", tmp_path / "same", version="0.6")
    convert(tmp_path / "a", tmp_path / "plain", version="0.4")
    convert(tmp_path / "a", tmp_path / "asked", version="0.4", chunks={"y": 16, "x": 8}, compressors=None)
    convert(tmp_path / "plain", tmp_path / "sharded", version="0.5", chunks=2, shards=8)
    expected = {
        "same": ((4, 4), (8, 8)),
        "plain": ((4, 4), None),
        "asked": ((16, 8), None),
        "sharded": ((2, 2), (8, 8)),
    }
    for name, (chunks, shards) in expected.items():
        array = zarr.open_array(tmp_path / name, path="0", mode="r")
        assert (array.chunks, array.shards) == (chunks, shards)
        np.testing.assert_array_equal(array[...], data)
    assert zarr.open_array(tmp_path / "asked", path="0", mode="r").compressors == ()
    with pytest.raises(ValueError, match="no shards"):
        convert(tmp_path / "a", tmp_path / "b", version="0.4", shards=8)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "float64"])
def test_convert__keeps_every_value(tmp_path, dtype):
    data = noise((9, 7), dtype)
    if dtype.startswith("float"):
        data[0, :4] = np.nan, np.inf, -np.inf, -0.0
    write_pyramid(to_image(data, "yx"), tmp_path / "a", scale_factors=[2], method="nearest", layout="flat")
    convert(tmp_path / "a", tmp_path / "b", version="0.4")
    convert(tmp_path / "b", tmp_path / "c", version="0.5")
    for place in ("b", "c"):
        stored = zarr.open_array(tmp_path / place, path="0", mode="r")[...]
        assert stored.dtype == data.dtype
        assert stored.tobytes() == data.tobytes()


def test_convert__what_is_old_is_said_anew(tmp_path):
    for path, level in (("0", noise((8, 6))), ("1", noise((4, 3)))):
        make_array(tmp_path / "a", level, path=path, zarr_format=2, attributes={"note": path})
    entry = {"version": "0.3", "axes": ["y", "x"], "datasets": [{"path": "0", "kept": 1}, {"path": "1"}]}
    zarr.open_group(tmp_path / "a", mode="a", zarr_format=2).attrs.put({"multiscales": [entry]})
    with pytest.warns(UserWarning, match=r"converted to 0\.5; assumed: scale 1 at level 0") as caught:
        convert(tmp_path / "a", tmp_path / "b", version="0.5")
    assert [warning.filename for warning in caught] == [__file__]
    tree = open_pyramid(tmp_path / "b")
    level = next(iter(tree["scale1"].data_vars.values()))
    np.testing.assert_array_equal(level.y, [0.5, 2.5, 4.5, 6.5])
    assert level.attrs == {"note": "1"}
    assert multiscales(tmp_path / "b")["datasets"][0]["kept"] == 1


def test_convert__transformations_of_the_entry_are_folded_into_levels_of_0_6(tmp_path):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2], layout="flat")
    group = zarr.open_group(tmp_path / "a", mode="r+")
    document = group.attrs.asdict()["ome"]
    document["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, 10.0, 100.0]}]
    group.attrs.put({"ome": document})
    convert(tmp_path / "a", tmp_path / "b", version="0.6")
    convert(tmp_path / "a", tmp_path / "c", version="0.4")
    for place in ("b", "c"):
        assert_equal(tmp_path / "a", tmp_path / place)
    assert "coordinateTransformations" not in multiscales(tmp_path / "b")


@pytest.mark.parametrize(("version", "other"), [("0.5", "0.4"), ("0.4", "0.5"), ("0.5", "0.6")])
def test_convert__copies_further_arrays_and_groups(tmp_path, version, other):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2], version=version)
    group = zarr.open_group(tmp_path / "a", mode="r+", use_consolidated=False)
    group.create_group("tables").attrs["by"] = "me"
    areas = group["tables"].create_array("areas", data=noise((7, 5), "float32"), chunks=(3, 2), attributes={"of": "x"})
    convert(tmp_path / "a", tmp_path / "b", version=other)
    copied = zarr.open_group(tmp_path / "b", mode="r")["tables"]
    assert copied.attrs.asdict() == {"by": "me"}
    np.testing.assert_array_equal(copied["areas"][...], areas[...])
    assert (copied["areas"].attrs.asdict(), copied["areas"].chunks) == ({"of": "x"}, (3, 2))
    assert copied["areas"].metadata.zarr_format == (2 if other == "0.4" else 3)
    assert_equal(tmp_path / "a", tmp_path / "b")


def test_convert__says_what_stays_behind(tmp_path):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2])
    write_pyramid(image(), tmp_path / "a" / "other", scale_factors=[2])
    with pytest.warns(UserWarning, match=r"other, other/scale0, .* are not copied: they are separate images") as caught:
        convert(tmp_path / "a", tmp_path / "b", version="0.4")
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("stop", ["labels", "levels", "publishing"])
def test_convert__an_interrupted_copy_is_gone_on_with(tmp_path, monkeypatch, stop):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4], version="0.4", layout="flat")
    add_labels(tmp_path / "a", "0.4")
    group = zarr.open_group(tmp_path / "a", mode="r+")
    group.create_array("areas", data=noise((7, 5), "float32"), chunks=(3, 2))
    convert(tmp_path / "a", tmp_path / "whole", version="0.5")

    calls = []

    def break_down(*arguments, **options):
        calls.append(arguments)
        if len(calls) == (1 if stop != "labels" else 2):
            raise KeyboardInterrupt
        return kept(*arguments, **options)

    owner, name = (copying.stores.Target, "publish") if stop == "publishing" else (copying, "run_passes")
    kept = getattr(owner, name)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, break_down)
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "a", tmp_path / "b", version="0.5")
    with pytest.raises(FileExistsError):
        convert(tmp_path / "a", tmp_path / "b", version="0.5")
    convert(tmp_path / "a", tmp_path / "b", version="0.5", resume=True)
    assert hashes(tmp_path / "b") == hashes(tmp_path / "whole")
    # A copy that is complete is done; one of another source is not.
    convert(tmp_path / "a", tmp_path / "b", version="0.5", resume=True)
    zarr.open_array(tmp_path / "a", path="0")[0, 0, 0] += 1
    with pytest.raises(FileExistsError, match="there is nothing to resume; convert to another place"):
        convert(tmp_path / "a", tmp_path / "b", version="0.5", resume=True)
    assert hashes(tmp_path / "b") == hashes(tmp_path / "whole")


def test_convert__a_system_that_only_0_6_knows_stays_behind_and_is_named(tmp_path):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2], version="0.6", layout="flat")
    group = zarr.open_group(tmp_path / "a", mode="r+")
    document = group.attrs.asdict()["ome"]
    (entry,) = document["multiscales"]
    entry["coordinateSystems"].append({"name": "atlas", "axes": entry["coordinateSystems"][0]["axes"]})
    ends = {"input": {"name": "intrinsic"}, "output": {"name": "atlas"}}
    entry["coordinateTransformations"] = [{"type": "scale", "scale": [1, 2, 3], **ends}]
    group.attrs.put({"ome": document})
    convert(tmp_path / "a", tmp_path / "same", version="0.6")
    assert attributes(tmp_path / "same") == attributes(tmp_path / "a")
    with pytest.warns(UserWarning, match="coordinate systems atlas can be dropped"):
        convert(tmp_path / "a", tmp_path / "b", version="0.5")
    for number, node in enumerate(open_pyramid(tmp_path / "a").children.values()):
        level = node["image"].drop_attrs(deep=False)
        assert node["image"].attrs.keys() == {"coordinateSystems"}
        xr.testing.assert_identical(level, open_pyramid(tmp_path / "b")[f"scale{number}/image"])


def test_convert__a_copy_that_was_interrupted_is_no_image(tmp_path, monkeypatch):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2], layout="flat")
    add_labels(tmp_path / "a", "0.5")
    whole, calls = copying.run_passes, []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(*args)

    monkeypatch.setattr(copying, "run_passes", stopped)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "a", tmp_path / "b", version="0.4")
    for inside in (None, "labels/nuclei"):
        with pytest.raises(ValueError, match="build has not finished"):
            open_pyramid(tmp_path / "b", inside)


@pytest.mark.parametrize("version", ["0.4", "0.6"])
@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_convert__publishes_metadata_when_all_chunks_are_there_and_the_image_last(tmp_path, version, layout):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4], layout=layout)
    add_labels(tmp_path / "a", "0.5")
    group = zarr.open_group(tmp_path / "a", mode="r+", use_consolidated=False)
    group.create_array("areas", data=noise((7, 5), "float32"), chunks=(3, 2))
    copy = Publications(zarr.storage.MemoryStore())
    convert(tmp_path / "a", copy, version=version)
    chunks, images = copy.order()
    assert list(images) == ["labels/nuclei", ""]
    assert max(chunks.values()) < min(images.values())
    # Chunks of all kinds were seen: of levels, of labels, and of further arrays.
    prefixes = ("scale2/" if layout == "datatree" else "2/", "labels/nuclei/2/", "areas/")
    assert all(any(key.startswith(prefix) for key in chunks) for prefix in prefixes)


def test_convert__compares_the_copy_with_its_source_before_it_is_published(tmp_path, monkeypatch):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2], layout="flat")
    whole = copying.run_passes

    def broken(build, arrays, *rest):
        whole(build, arrays, *rest)
        arrays[1][0, 0, 0] += 1

    monkeypatch.setattr(copying, "run_passes", broken)
    with pytest.raises(ValueError, match=r"b/.*/1 differs from .*a/1"):
        convert(tmp_path / "a", tmp_path / "b", version="0.4")
    with pytest.raises((ValueError, FileNotFoundError)):
        open_pyramid(tmp_path / "b")


DAMAGED = {
    "level": ("scale1/image/c/0/0/0", "0.4", {}),
    "compressors": ("scale0/image/c/1/0/0", "0.6", {"compressors": zarr.codecs.BloscCodec()}),
    "chunks": ("scale2/image/c/0/0/0", "0.6", {"chunks": 5}),
    "labels": ("labels/cells/scale1/cells/c/0/0", "0.5", {}),
    "others": ("areas/c/0/0", "0.4", {}),
    "zip": ("scale1/image/c/1/0/0", "0.6", {}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_convert__of_a_damaged_chunk_names_it_and_publishes_nothing(tmp_path, kind, capsys):
    key, version, options = DAMAGED[kind]
    target = tmp_path / ("b.ozx" if kind == "zip" else "b")
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4], chunks={"c": 1})
    write_labels(noise((12, 10), "uint8"), tmp_path / "a", "cells")
    group = zarr.open_group(tmp_path / "a", mode="r+", use_consolidated=False)
    group.create_array("areas", data=noise((7, 5), "float32"))
    convert(tmp_path / "a", tmp_path / f"whole{target.suffix}", version=version, **options)
    sound = (tmp_path / "a" / key).read_bytes()
    (tmp_path / "a" / key).write_bytes(sound[:6] + b"damaged" + sound[13:])
    with pytest.raises(ValueError, match=f"the chunk '.*a/{key}' is damaged"):
        convert(tmp_path / "a", target, version=version, **options)
    assert cli.main(["convert", str(tmp_path / "a"), f"{target}2", "--ngff", version, "--quiet"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"a/{key}' is damaged" in message
    if kind == "level":
        assert "of level 1) while computing levels 1" in message
    for place in (target, f"{target}2"):
        with pytest.raises((ValueError, FileNotFoundError)):
            open_pyramid(place)
    (tmp_path / "a" / key).write_bytes(sound)
    convert(tmp_path / "a", target, version=version, resume=True, **options)
    if kind == "zip":
        assert target.read_bytes() == (tmp_path / "whole.ozx").read_bytes()
    else:
        assert hashes(target) == hashes(tmp_path / "whole")


# --- in place --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_convert__in_place_writes_documents_only(tmp_path, layout):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4], layout=layout)
    add_labels(tmp_path / "a", "0.5")
    shutil.copytree(tmp_path / "a", tmp_path / "before")
    before = hashes(tmp_path / "a")
    convert(tmp_path / "a", version="0.6")
    after = hashes(tmp_path / "a")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"zarr.json", "labels/zarr.json", "labels/nuclei/zarr.json"}
    for inside in (None, "labels/nuclei"):
        assert_equal(tmp_path / "a", tmp_path / "before", inside)
    assert validate(tmp_path / "a", strict=True).findings == ()
    if layout == "datatree":
        assert zarr.open_group(tmp_path / "a").metadata.consolidated_metadata is not None
    convert(tmp_path / "a", version="0.5")
    assert_equal(tmp_path / "a", tmp_path / "before")
    assert attributes(tmp_path / "a", "labels") == attributes(tmp_path / "before", "labels")


def test_convert__in_place_marks_the_image_first_and_rewrites_it_last(tmp_path):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4], layout="flat")
    add_labels(tmp_path / "a", "0.5")
    store = Publications(zarr.storage.LocalStore(tmp_path / "a"))
    convert(store, version="0.6")
    assert store.log["written"] == ["zarr.json", "labels/nuclei/zarr.json", "labels/zarr.json", "zarr.json"]


def nested(folder, version):
    """Write an image with labels in a group that has the metadata of all consolidated."""
    zarr.open_group(folder / "many", mode="w")
    write_pyramid(image(), folder / "many" / "a", scale_factors=[2, 4], version=version)
    write_labels(noise((12, 10), "uint8"), folder / "many" / "a", "cells")
    consolidate(zarr.open_group(folder / "many"))
    return folder / "many"


@pytest.mark.parametrize(("version", "other"), [("0.5", "0.6"), ("0.6", "0.5")])
@pytest.mark.parametrize("inside", ["a", "a/labels/cells"])
def test_convert__in_place_stopped_at_any_step_is_completed_by_the_same_call(tmp_path, version, other, inside):
    place = nested(tmp_path, version)
    shutil.copytree(place, tmp_path / "before")
    before = open_pyramid(place, inside).load()
    convert(place, path=inside, version=other)
    after = hashes(place)
    assert zarr.open_group(place)[inside].attrs["ome"]["version"] == other
    for step in itertools.count():
        shutil.rmtree(place)
        shutil.copytree(tmp_path / "before", place)
        try:
            convert(Stopping(zarr.storage.LocalStore(place), step), path=inside, version=other)
        except Killed:
            pass
        else:
            break
        # By its own metadata, and by those that are consolidated above.
        for node in (zarr.open_group(place / inside), zarr.open_group(place)[inside]):
            assert node.attrs["ome"]["version"] in (version, other)
            assert node.metadata.consolidated_metadata is not None
        for found in (open_pyramid(place, inside), open_pyramid(place / inside)):
            xr.testing.assert_identical(found.load(), before)
        convert(place, path=inside, version=other)
        assert hashes(place) == after, step
    assert step >= (5 if inside == "a" else 3)
    convert(place / inside, version=other)
    assert hashes(place) == after


def test_convert__in_place_that_was_stopped_is_completed_before_another_change(tmp_path, capsys):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4])
    with pytest.raises(Killed):
        convert(Stopping(zarr.storage.LocalStore(tmp_path / "a"), 1), version="0.6")
    for other in (
        lambda: update_pyramid(tmp_path / "a", {"y": 0}),
        lambda: remove_levels(tmp_path / "a", [1]),
        lambda: convert(tmp_path / "a", tmp_path / "b", version="0.4"),
    ):
        with pytest.raises(ValueError, match=r"by convert was interrupted; complete it first, by repeating that call$"):
            other()
    assert not (tmp_path / "b").exists()
    # The same call, or the way back.
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    convert(tmp_path / "c", version="0.5")
    assert cli.main(["convert", str(tmp_path / "a"), "--ngff", "0.6"]) == 0
    for place, version in (("a", "0.6"), ("c", "0.5")):
        assert attributes(tmp_path / place).keys() == {"ome", "zarr_conventions", "multiscales"}
        assert attributes(tmp_path / place)["ome"]["version"] == version
        update_pyramid(tmp_path / place, {"y": 0})


@pytest.mark.parametrize("target", [None, "b"])
def test_convert__of_an_image_whose_change_was_interrupted_is_refused(tmp_path, monkeypatch, target):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4])
    write_labels(noise((12, 10), "uint8"), tmp_path / "a", "cells")
    monkeypatch.setattr(engine, "reduce_region", lambda *_: (_ for _ in ()).throw(Killed))
    for inside, path in ((None, ""), ("labels/cells", "labels/cells")):
        with pytest.raises(Killed):
            update_pyramid(tmp_path / "a", {"y": 0}, inside)
        before = hashes(tmp_path)
        with pytest.raises(ValueError, match=rf"a/?{path} by update_pyramid was interrupted; complete it first"):
            convert(tmp_path / "a", None if target is None else tmp_path / target, version="0.6")
        assert hashes(tmp_path) == before
        monkeypatch.undo()
        update_pyramid(tmp_path / "a", path=inside, resume=True)
        monkeypatch.setattr(engine, "reduce_region", lambda *_: (_ for _ in ()).throw(Killed))


def test_convert__in_place_does_what_is_left_of_an_image_with_labels_of_another_version(tmp_path):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2, 4], layout="flat")
    add_labels(tmp_path / "a", "0.5")
    convert(tmp_path / "a", path="labels/nuclei", version="0.6")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for place, version in (("a", "0.5"), ("b", "0.6")):
        convert(tmp_path / place, version=version)
        for inside in ("", "labels", "labels/nuclei"):
            assert attributes(tmp_path / place, inside)["ome"]["version"] == version


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_convert__takes_arrays_that_grew_after_metadata_were_consolidated(tmp_path, version):
    source = to_image(noise((4, 12, 10)), "tyx")
    write_pyramid(source, tmp_path / "a", scale_factors=[{"y": 2, "x": 2}], chunks={"t": 1}, version=version)
    for level in ("scale0/image", "scale1/image"):
        array = zarr.open_array(tmp_path / "a" / level, mode="r+")
        array.resize((6, *array.shape[1:]))
        array[4:] = 7
    with pytest.warns(
        UserWarning, match=r"outdated, and not used: 'scale0/image' has shape \(6, 12, 10\), but"
    ) as caught:
        convert(tmp_path / "a", tmp_path / "b", version="0.6")
    assert [warning.filename for warning in caught] == [__file__]
    copied = open_pyramid(tmp_path / "b")
    assert [copied[f"scale{number}"].sizes["t"] for number in (0, 1)] == [6, 6]
    np.testing.assert_array_equal(copied["scale0/image"][4:], 7)
    assert validate(tmp_path / "b").ok
    if version == "0.5":
        convert(tmp_path / "a", version="0.6")
        for _ in range(2):
            assert open_pyramid(tmp_path / "a")["scale1"].sizes["t"] == 6
            convert(tmp_path / "a", version="0.6")


# --- refusals --------------------------------------------------------------------------------------------------


def test_convert__refuses_before_anything_is_written(tmp_path):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2], layout="flat")
    before = hashes(tmp_path)
    with pytest.raises(ValueError, match=r"0\.4 is zarr v2.*name a target"):
        convert(tmp_path / "a", version="0.4")
    convert(tmp_path / "a", version="0.5")
    with pytest.raises(ValueError, match=r"chunks, compressors apply to a copy"):
        convert(tmp_path / "a", version="0.6", chunks=4, compressors=None)
    with pytest.raises(ValueError, match=r"unknown version '0\.99'"):
        convert(tmp_path / "a", tmp_path / "b", version="0.99")
    with pytest.raises(ValueError, match="an array, not a pyramid"):
        convert(tmp_path / "a" / "0", tmp_path / "b", version="0.4")
    with pytest.raises(FileNotFoundError, match="nothing"):
        convert(tmp_path / "nothing", tmp_path / "b", version="0.4")
    with pytest.raises(ValueError, match="holds the source"):
        convert(tmp_path / "a", tmp_path / "a", version="0.4")
    assert hashes(tmp_path) == before
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        convert(tmp_path / "a", tmp_path / "b", version="0.4")


def test_convert__refuses_what_the_version_cannot_say(tmp_path):
    write_pyramid(to_image(noise((8, 8)), "yx", scale={"y": -1.0}), tmp_path / "a", scale_factors=[2], ascending=False)
    with pytest.raises(ValueError, match=r"0\.6 cannot express.*a number above 0.* write the image with write_pyramid"):
        convert(tmp_path / "a", version="0.6")


def test_convert__names_no_option_that_it_does_not_have_where_something_exists(tmp_path, capsys):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2])
    for name in ("pyramid", "begun", "zip.ozx", "mine"):
        target = tmp_path / name
        if name == "mine":
            target.mkdir()
            (target / "notes.txt").write_text("mine")
        elif name == "begun":
            with pytest.raises(Killed):
                convert(tmp_path / "a", Stopping(zarr.storage.LocalStore(target), 2), version="0.6")
        else:
            convert(tmp_path / "a", target, version="0.6")
        before = hashes(tmp_path)
        assert cli.main(["convert", str(tmp_path / "a"), str(target), "--ngff", "0.6", "--quiet"]) == 1
        message = capsys.readouterr().err
        assert "convert to another place, or continue an interrupted copy with --resume" in message
        assert "overwrite" not in message
        assert hashes(tmp_path) == before


# --- what other programs write ---------------------------------------------------------------------------------


def written_by_others(place, change, dims="cyx", version="0.4", dtype="uint16"):
    """Write a pyramid in the layout of most programs, and change its metadata."""
    shape = tuple({"t": 2, "c": 2, "z": 3, "y": 12, "x": 10}[dim] for dim in dims)
    order = "tczyx" if len(dims) == 5 else dims
    data = to_image(noise(shape, dtype), order, scale={"y": 0.5})
    write_pyramid(data, place, scale_factors=[{"y": 2, "x": 2}], version=version, layout="flat")
    group = zarr.open_group(place, mode="r+")
    stated = group.attrs.asdict()
    change(stated.get("ome", stated), place)
    group.attrs.put(stated)
    return place


def label_channels_only(stated, place):
    stated["omero"] = {"channels": [{"label": "a"}, {"label": "b"}], "rdefs": {"model": "color"}}


def write_colors_with_hash(stated, place):
    stated["omero"]["channels"][0]["color"] = "#FF0000"


def leave_out_ends_of_window(stated, place):
    stated["omero"]["channels"][1]["window"] = {"min": 0, "max": 255}


def describe_other_channels(stated, place):
    stated["omero"] = {"channels": [{"label": "a"}]}


def put_time_after_channels(stated, place):
    axes = stated["multiscales"][0]["axes"]
    axes[0], axes[1] = axes[1], axes[0]


def end_path_with_slash(stated, place):
    stated["multiscales"][0]["datasets"][0]["path"] = "0/"


def list_level_twice(stated, place):
    datasets = stated["multiscales"][0]["datasets"]
    datasets.append(datasets[1])


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
@pytest.mark.parametrize(
    ("change", "dims", "said"),
    [
        (label_channels_only, "cyx", "assumed: what 'omero' does not state"),
        (write_colors_with_hash, "cyx", "assumed: what 'omero' does not state"),
        (leave_out_ends_of_window, "cyx", "assumed: what 'omero' does not state"),
        (describe_other_channels, "cyx", "describes other channels than"),
        (put_time_after_channels, "tczyx", r"the axes \('c', 't', 'z', 'y', 'x'\) are written as \('t', 'c',"),
        (end_path_with_slash, "yx", "the paths 0, 1 of levels for '0/', '1'"),
        (list_level_twice, "yx", "the paths 0, 1 of levels for '0', '1', '1'"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_convert__takes_what_others_write_as_opening_and_writing_does(tmp_path, change, dims, said, version):
    source = written_by_others(tmp_path / "a", change, dims)
    with pytest.warns(UserWarning, match=said):
        convert(source, tmp_path / "b", version=version)
    assert validate(tmp_path / "b").findings == ()
    opened, copied = open_pyramid(source), open_pyramid(tmp_path / "b")
    write_pyramid(opened, tmp_path / "c", version=version, layout="flat")
    assert_equal(tmp_path / "b", tmp_path / "c")
    for name, node in opened.children.items():
        level = next(iter(node.data_vars.values()))
        found = next(iter(copied[name].data_vars.values()))
        np.testing.assert_array_equal(found.transpose(*level.dims), level)
        for dim in level.dims:
            np.testing.assert_array_equal(found[dim], level[dim])
    written, converted = (attributes(tmp_path / place) for place in ("c", "b"))
    ours, theirs = (each.get("ome", each).get("omero") for each in (converted, written))
    assert ours == theirs
    if change is label_channels_only:
        assert ours["rdefs"] == {"model": "color"}


def list_two_images(stated, place):
    stated["multiscales"].append({**stated["multiscales"][0], "name": "second"})


def store_level_as_floats(stated, place):
    array = zarr.open_array(place / "1", mode="r")
    values, options = array[...].astype("float64"), {"zarr_format": 2, "overwrite": True}
    make_array(place, values, path="1", chunk_key_encoding={"name": "v2", "separator": "/"}, **options)


def color_by_number(stated, place):
    stated["omero"]["channels"][0]["color"] = 255


def swap_sizes(stated, place):
    make_array(place, noise((2, 4, 20)), path="1", zarr_format=2, overwrite=True)


@pytest.mark.parametrize(
    ("change", "version", "said"),
    [
        (list_two_images, "0.5", "describes 2 images, but a conversion keeps one per group; move each to its own"),
        (store_level_as_floats, "0.6", "cannot express .*: 1: dtype float64; expected uint16, as level 0 has"),
        (color_by_number, "0.5", "channels.0..color: 255; expected 6 hexadecimal digits.*; correct or remove it"),
        (swap_sizes, "0.5", "1: larger than the level before; expected a smaller one.*; correct that first, or write"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_convert__finds_what_is_in_its_way_before_it_copies(tmp_path, change, version, said, capsys):
    source = written_by_others(tmp_path / "a", change)
    before = hashes(tmp_path)
    with pytest.raises(ValueError, match=said):
        convert(source, tmp_path / "b", version=version)
    assert cli.main(["convert", str(source), str(tmp_path / "b"), "--ngff", version]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("multiscale-sampler: error: ")
    assert hashes(tmp_path) == before
    assert not (tmp_path / "b").exists()


def test_convert__refuses_labels_that_are_not_there(tmp_path):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2])
    attrs = {"ome": {"version": "0.5", "labels": ["gone"]}}
    zarr.open_group(tmp_path / "a" / "labels", mode="w", attributes=attrs)
    with pytest.raises(ValueError, match="lists the labels 'gone'"):
        convert(tmp_path / "a", tmp_path / "b", version="0.4")


# --- the command -----------------------------------------------------------------------------------------------


def test_command__converts_to_a_copy_and_in_place(tmp_path, capsys):
    write_pyramid(image(), tmp_path / "a", scale_factors=[2])
    options = ["--ngff", "0.4", "--chunks", "y=4,x=4", "--quiet"]
    assert cli.main(["convert", str(tmp_path / "a"), str(tmp_path / "b"), *options]) == 0
    assert_equal(tmp_path / "a", tmp_path / "b")
    assert cli.main(["convert", str(tmp_path / "a"), "--ngff", "0.6"]) == 0
    assert attributes(tmp_path / "a")["ome"]["version"] == "0.6"
    capsys.readouterr()
    assert cli.main(["convert", str(tmp_path / "b"), "--ngff", "0.6"]) == 1
    assert "name a target" in capsys.readouterr().err


# --- published pyramids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "version", "other", "labels"),
    [
        (("tubhiswt5d_v04", "tubhiswt4D_sub.zarr"), "0.4", "0.5", "labels/embryo"),
        (("tubhiswt5d_v04", "tubhiswt4D_sub.zarr"), "0.4", "0.6", "labels/embryo"),
        (("idr6001240_v05_sharded", "6001240_labels_v0.5.zarr"), "0.5", "0.4", "labels/0"),
    ],
    ids=["tubhiswt-0.5", "tubhiswt-0.6", "idr6001240-0.4"],
)
def test_convert__published_pyramids_come_back_equal(tmp_path, parts, version, other, labels):
    place = real(*parts)
    convert(place, tmp_path / "a", version=other)
    convert(tmp_path / "a", tmp_path / "b", version=version)
    for inside in (None, labels):
        assert_equal(place, tmp_path / "b", inside)
        assert attributes(tmp_path / "b", inside or "") == attributes(place, inside or "")
    for between in (tmp_path / "a", tmp_path / "b"):
        assert validate(between).ok


def test_convert__a_published_pyramid_comes_back_equal_in_place(tmp_path):
    source = real("idr6001240_v05_sharded", "6001240_labels_v0.5.zarr")
    place = tmp_path / "a"
    shutil.copytree(source, place, copy_function=shutil.copyfile)
    before = hashes(place)
    convert(place, version="0.6")
    assert validate(place).ok
    assert open_pyramid(place, "labels/0")["scale3"].sizes == open_pyramid(source, "labels/0")["scale3"].sizes
    convert(place, version="0.5")
    after = hashes(place)
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} <= {
        *("zarr.json", "labels/zarr.json", "labels/0/zarr.json"),
    }
    for inside in ("", "labels/0"):
        assert attributes(place, inside) == attributes(source, inside)


@pytest.mark.parametrize("window", [{}, {"window": None}, {"window": {}}, {"window": {"min": 0, "max": 99}}])
def test_convert__completes_channels_without_a_whole_window(window):
    store, target = {}, {}
    write_pyramid(to_image(noise((2, 16, 16)), "cyx"), store, scale_factors=[{"x": 2}], version="0.4", layout="flat")
    group = zarr.open_group(store)
    group.attrs["omero"] = {"channels": [{"label": label, "color": "FF0000", **window} for label in "ab"]}
    with pytest.warns(UserWarning, match="what 'omero' does not state, from the coarsest level"):
        convert(store, target, version="0.5")
    found = [channel["window"] for channel in zarr.open_group(target).attrs["ome"]["omero"]["channels"]]
    assert all(set(each) == {"min", "max", "start", "end"} for each in found)
    assert all(each[key] == value for each in found for key, value in (window.get("window") or {}).items())
    assert validate(target).ok
