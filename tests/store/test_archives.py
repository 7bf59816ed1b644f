"""Pyramids in zip files: read and written as RFC-9 lays them out, replaced only where they are ours."""

import json
import os
import shutil
import struct
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler import (
    add_levels,
    convert,
    open_image,
    open_pyramid,
    to_image,
    validate,
    write_labels,
    write_pyramid,
)
from multiscale_sampler.cli import main
from multiscale_sampler.store import archives
from tests.data import Killed, hashes, make_array, noise
from tests.interruptions import Moment, build_in_child
from tests.oracles import check_levels, expected_level

BASE = noise((40, 50))
IMAGE = to_image(BASE, scale=0.5, units="micrometer", name="em")


def written(place, **options):
    write_pyramid(IMAGE, place, scale_factors=[2, 4], chunks=16, **options)
    return place


def entries(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# --- what is written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize(("name", "version"), [("a.ozx", "0.5"), ("a.OZX", "0.6"), ("a.zip", "0.5"), ("a.zip", "0.4")])
def test_write_pyramid__a_zip_file_holds_what_a_folder_would(tmp_path, name, version, layout):
    file = written(tmp_path / name, version=version, layout=layout)
    folder = written(tmp_path / "a.zarr", version=version, layout=layout)
    assert entries(file) == {path: (folder / path).read_bytes() for path in hashes(folder)}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "a.zarr"])
    check_levels(open_pyramid(file), BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})
    assert validate(file).ok


def test_write_pyramid__the_entries_are_in_the_order_of_rfc_9(tmp_path):
    with zipfile.ZipFile(written(tmp_path / "a.ozx")) as archive:
        infos = archive.infolist()
        comment = json.loads(archive.comment)
    names = [info.filename for info in infos]
    documents = [name for name in names if name.endswith("zarr.json")]
    # "The root-level zarr.json file SHOULD be the first ZIP file entry and the first entry in the central directory
    # header; other zarr.json files SHOULD follow immediately afterwards, in breadth-first order."
    assert names[0] == "zarr.json"
    assert names[: len(documents)] == documents
    assert len(documents) == 13
    depths = [name.count("/") for name in documents]
    assert depths == sorted(depths)
    # In the file they are in the same order as in the directory.
    assert [info.header_offset for info in infos] == sorted(info.header_offset for info in infos)
    # "ZIP-level compression SHOULD be disabled in favor of Zarr-level compression codecs."
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert comment == {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}


def test_write_pyramid__a_zip_file_is_zip64_whatever_its_size(tmp_path):
    """By the records that the specification of zip files (APPNOTE 4.3.14 to 4.3.16) puts at the end of a file."""
    data = written(tmp_path / "a.ozx").read_bytes()
    names = entries(tmp_path / "a.ozx")
    end = data.rindex(b"PK\x05\x06")
    comment_length = struct.unpack_from("<H", data, end + 20)[0]
    assert len(data) == end + 22 + comment_length
    signature, _, position, disks = struct.unpack_from("<4sLQL", data, end - 20)
    assert (signature, disks) == (b"PK\x06\x07", 1)
    record = struct.unpack_from("<4sQ2H2L4Q", data, position)
    assert record[0] == b"PK\x06\x06"
    assert record[1] == 44
    assert record[6:8] == (len(names), len(names))
    directory_size, directory = record[8:]
    assert directory + directory_size == position
    assert data[directory : directory + 4] == b"PK\x01\x02"
    # "version needed to extract": 4.5 is ZIP64.
    assert struct.unpack_from("<H", data, 4) == (45,)


def test_write_pyramid__a_zip_file_of_zarr_v2_is_no_ome_zarr_zip_file(tmp_path):
    # "The ZIP file MUST contain the OME-Zarr's root-level zarr.json."
    with pytest.raises(ValueError, match=r"\.ozx files hold a zarr\.json"):
        written(tmp_path / "a.ozx", version="0.4")
    assert list(tmp_path.iterdir()) == []
    with zipfile.ZipFile(written(tmp_path / "a.zip", version="0.4")) as archive:
        assert archive.comment == b""


def test_write_pyramid__labels_go_into_the_zip_file(tmp_path):
    labels = noise((40, 50), "uint32") % 9
    written(tmp_path / "a.zarr")
    write_labels(labels, tmp_path / "a.zarr", "cells")
    write_pyramid(open_pyramid(tmp_path / "a.zarr"), tmp_path / "a.ozx", chunks=16)
    again = open_pyramid(tmp_path / "a.ozx")
    np.testing.assert_array_equal(again["labels/cells/scale0/cells"].values, labels)
    with zipfile.ZipFile(tmp_path / "a.ozx") as archive:
        assert archive.namelist()[:2] == ["zarr.json", "labels/zarr.json"]
    write_pyramid(open_pyramid(tmp_path / "a.zarr"), tmp_path / "a.ozx", chunks=16, mode="w")
    assert validate(tmp_path / "a.ozx").ok


@pytest.mark.parametrize(("version", "name"), [("0.4", "b.zip"), ("0.6", "b.ozx")])
def test_convert__from_a_zip_file_to_another(tmp_path, version, name):
    source = written(tmp_path / "a.ozx")
    before = source.read_bytes()
    convert(source, tmp_path / name, version=version)
    check_levels(open_pyramid(tmp_path / name), BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})
    assert source.read_bytes() == before
    if version == "0.6":
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert json.loads(archive.comment)["ome"]["version"] == "0.6"


def test_convert__takes_labels_into_a_zip_file(tmp_path):
    written(tmp_path / "a.zarr")
    write_labels((BASE % 5).astype("uint8"), tmp_path / "a.zarr", "cells")
    convert(tmp_path / "a.zarr", tmp_path / "b.ozx", version="0.6")
    assert validate(tmp_path / "b.ozx").ok
    np.testing.assert_array_equal(open_pyramid(tmp_path / "b.ozx")["labels/cells/scale0/cells"].values, BASE % 5)


def test_main__builds_a_zip_file(tmp_path, capsys):
    make_array(tmp_path / "raw", BASE, dims=("y", "x"), chunks=(16, 16))
    build = ["build", str(tmp_path / "raw"), str(tmp_path / "a.ozx"), "--factors", "2,4", "--name", "em", "--quiet"]
    assert main(build) == 0
    check_levels(open_pyramid(tmp_path / "a.ozx"), BASE, [(2, 2), (4, 4)])
    assert main(build) == 1
    assert "a.ozx' exists" in capsys.readouterr().err
    assert main([*build, "--overwrite"]) == 0


# --- what is read ----------------------------------------------------------------------------------------------


def test_open_pyramid__reads_zip_files_of_any_layout(tmp_path):
    """Compressed, in another order, with folders as entries, without the comment, and below a folder."""
    folder = written(tmp_path / "a.zarr")
    shutil.make_archive(str(tmp_path / "a"), "zip", folder)
    (tmp_path / "a.zip").rename(tmp_path / "a.ozx")
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, "a.zarr")
    for tree in (open_pyramid(tmp_path / "a.ozx"), open_pyramid(tmp_path / "b.zip", "a.zarr")):
        check_levels(tree, BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})
    np.testing.assert_array_equal(open_image(tmp_path / "a.ozx", "scale1/em").values, expected_level(BASE, (2, 2)))


def test_open_pyramid__a_folder_may_have_the_name_of_a_zip_file(tmp_path):
    written(tmp_path / "a.zarr").rename(tmp_path / "a.ozx")
    check_levels(open_pyramid(tmp_path / "a.ozx"), BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})


def test_open_pyramid__refuses_what_is_no_zip_file_in_one_line(tmp_path, capsys):
    (tmp_path / "a.ozx").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"a\.ozx' is no zip file"):
        open_pyramid(tmp_path / "a.ozx")
    assert main(["info", str(tmp_path / "a.ozx")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    cut = written(tmp_path / "b.ozx").read_bytes()[:-200]
    (tmp_path / "b.ozx").write_bytes(cut)
    with pytest.raises(ValueError, match="is no zip file, or not all of one"):
        open_pyramid(tmp_path / "b.ozx")


# --- what is replaced ------------------------------------------------------------------------------------------


def test_write_pyramid__replaces_a_zip_file_of_its_own_only_when_asked(tmp_path):
    file = written(tmp_path / "a.ozx")
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="replace the pyramid in it with mode='w'"):
        written(file)
    # It is what a resumed build would make.
    written(file, resume=True)
    assert file.read_bytes() == before
    write_pyramid(BASE // 2, file, scale_factors=[2], mode="w")
    check_levels(open_pyramid(file), BASE // 2, [(2, 2)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.ozx"]


@pytest.mark.parametrize("foreign", ["array", "file", "attribute", "pyramid", "plain array", "no zarr", "no zip"])
def test_write_pyramid__replaces_no_zip_file_with_anything_of_others(tmp_path, foreign):
    folder = written(tmp_path / "a.zarr")
    match foreign:
        case "array":
            make_array(folder, BASE, path="mine")
        case "file":
            (folder / "notes.txt").write_text("mine")
        case "attribute":
            zarr.open_group(folder).attrs["mine"] = 1
        case "pyramid":
            root = zarr.open_group(folder)
            ome = root.attrs["ome"]
            del ome["multiscales"][0]["metadata"]
            root.attrs["ome"] = ome
        case "plain array":
            shutil.rmtree(folder)
            make_array(folder, BASE, path=None)
        case "no zarr":
            shutil.rmtree(folder)
            folder.mkdir()
            (folder / "notes.txt").write_text("mine")
    shutil.make_archive(str(tmp_path / "a"), "zip", folder)
    if foreign == "no zip":
        (tmp_path / "a.zip").write_text("mine")
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match="which multiscale_sampler did not write"):
        written(tmp_path / "a.zip", mode="w")
    assert hashes(tmp_path) == before


def test_write_pyramid__a_file_that_came_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    file = tmp_path / "a.ozx"

    def arrive(path, length):
        file.write_text("mine")

    with monkeypatch.context() as patched:
        patched.setattr(archives, "_end_as_zip64", arrive)
        with pytest.raises(FileExistsError, match=r"a\.ozx' exists"):
            written(file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("mode", ["w-", "w"])
def test_write_pyramid__a_zip_file_is_not_destroyed_by_its_own_image(tmp_path, mode):
    file = written(tmp_path / "a.ozx")
    before = hashes(tmp_path)
    for image in (open_image(file), open_pyramid(file), open_pyramid(file)["scale1/em"] * 2):
        with pytest.raises(ValueError, match="holds the source"):
            write_pyramid(image, file, mode=mode)
    assert hashes(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda file: write_labels(np.zeros((40, 50), "u1"), file, "cells"),
        lambda file: add_levels(file, "scale0", base="em"),
        lambda file: convert(file, version="0.6"),
    ],
    ids=["write_labels", "add_levels", "convert"],
)
def test_zip_files__nothing_is_added_to_one(tmp_path, change):
    file = written(tmp_path / "a.ozx")
    before = hashes(tmp_path)
    with pytest.raises(ValueError, match="whose entries cannot be replaced"):
        change(file)
    assert hashes(tmp_path) == before


def test_write_pyramid__refuses_a_zip_store_that_is_open(tmp_path):
    store = zarr.storage.ZipStore(tmp_path / "a.zip", mode="w")
    with pytest.raises(ValueError, match="pass its path"):
        write_pyramid(BASE, store)
    with pytest.raises(ValueError, match="storage_options go with a URL"):
        write_pyramid(BASE, tmp_path / "b.zip", storage_options={"anon": True})
    assert not (tmp_path / "b.zip").exists()


# --- builds that were stopped ----------------------------------------------------------------------------------

OPTIONS = {"scale_factors": [2, 4, 8], "chunks": 8, "memory_limit": "10KB", "workers": 2}
MOMENTS = [
    Moment("levels", 12, torn=True),
    Moment("publishing", 0),
    Moment("packing", 0, torn=True),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return the place of a base, and the bits of its undisturbed zip file."""
    folder = tmp_path_factory.mktemp("archives")
    ms.create_test_image(folder / "raw", "0", shape=(61, 83), chunks=(8, 8))
    outcome = build_in_child("write_pyramid", str(folder / "raw"), str(folder / "a.ozx"), OPTIONS, str(folder / "log"))
    assert outcome.operations.keys() >= {moment.phase for moment in MOMENTS}
    return folder / "raw", (folder / "a.ozx").read_bytes()


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_write_pyramid__a_killed_build_of_a_zip_file_goes_on_to_the_same_bits(tmp_path, source, moment):
    raw, whole = source
    file = tmp_path / "a.ozx"
    killed = build_in_child("write_pyramid", str(raw), str(file), OPTIONS, str(tmp_path / "log"), moment)
    assert killed.killed
    # Only what says by its name that it is a build is there, and it is no pyramid.
    (left,) = tmp_path.iterdir()
    assert left.name == "a.ozx.multiscale_sampler_build"
    with pytest.raises((ValueError, FileNotFoundError)):
        open_pyramid(left / "pyramid.zarr")
    # As zarr leaves a file whose writing was killed.
    (left / "pyramid.zarr" / "scale0.1234.partial").write_text("torn")
    image = open_image(raw, "0", scale=2.0, units="micrometer")
    with pytest.raises(FileExistsError, match=r"is an unfinished build of 'a\.ozx'; continue it with resume=True"):
        write_pyramid(image, file, **OPTIONS)
    write_pyramid(image, file, **OPTIONS, resume=True)
    assert file.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["a.ozx"]


def stopped_at(monkeypatch, step):
    """Stop whatever puts zip files in their places right before a step of its work on files, 0 being the first.

    A removal of a folder is stopped in its middle too: that is a step of its own.
    """
    steps = iter(range(100))

    def taking(call):
        def taken(*args):
            if next(steps) == step:
                raise Killed
            call(*args)

        return taken

    def removed(folder):
        if next(steps) == step:
            raise Killed
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files[len(files) // 2 :]:
            path.unlink()
        if next(steps) == step:
            raise Killed
        shutil.rmtree(folder)

    by_hand = {name: getattr(os, name) for name in ("walk", "SEEK_END")}
    monkeypatch.setattr(
        archives, "os", SimpleNamespace(replace=taking(os.replace), rename=taking(os.rename), **by_hand)
    )
    monkeypatch.setattr(archives, "shutil", SimpleNamespace(rmtree=removed, copyfileobj=shutil.copyfileobj))


def write_image(file, **options):
    write_pyramid(IMAGE, file, scale_factors=[2], chunks=16, **options)


def write_image_with_labels(file, **options):
    tree = ms.to_multiscale(IMAGE, [2])
    tree["labels/cells"] = ms.to_multiscale(to_image((BASE % 5).astype("u1"), name="cells"), [2], method="mode")
    write_pyramid(tree, file, chunks=16, **options)


def write_by_command(file, **options):
    raw = file.with_name("raw")
    if not raw.exists():
        make_array(raw, BASE.astype("float32"), dims=("y", "x"), chunks=(16, 16))
    flags = [flag for name, flag in (("mode", "--overwrite"), ("resume", "--resume")) if options.get(name)]
    assert main(["build", str(raw), str(file), "--factors", "2", "--quiet", *flags]) == 0


REPLACEMENTS = {
    "ozx": ("a.ozx", write_image, {}),
    "zip-v3": ("a.zip", write_image, {"version": "0.6", "layout": "flat"}),
    "zip-v2": ("a.zip", write_image, {"version": "0.4"}),
    "labels": ("a.ozx", write_image_with_labels, {}),
    "command": ("a.ozx", write_by_command, {}),
}


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_write_pyramid__a_zip_file_is_replaced_in_one_step_and_its_folder_goes_in_one(tmp_path, monkeypatch, kind):
    name, write, options = REPLACEMENTS[kind]
    file = tmp_path / name
    write(tmp_path / f"other.{file.suffix}", **options)
    new = (tmp_path / f"other.{file.suffix}").read_bytes()
    for step in range(100):
        file.unlink(missing_ok=True)
        write_pyramid(BASE // 2, file, scale_factors=[2], version=options.get("version", "0.5"))
        old = file.read_bytes()
        with monkeypatch.context() as patched:
            stopped_at(patched, step)
            try:
                write(file, mode="w", **options)
            except Killed:
                pass
            else:
                break
        assert file.read_bytes() == (old if step == 0 else new), step
        write(file, mode="w", resume=True, **options)
        assert file.read_bytes() == new, step
        assert not list(tmp_path.glob(f"{name}.*")), step
    assert step == 4


def test_write_pyramid__a_stopped_removal_of_a_build_is_not_gone_on_with(tmp_path, monkeypatch):
    """Of a build that is begun again: what is left of the first one must not count as done."""
    file = tmp_path / "a.ozx"
    for step in range(3):
        with monkeypatch.context() as patched:
            stopped_at(patched, 0)
            with pytest.raises(Killed):
                write_image(file, mode="w")
        with monkeypatch.context() as patched:
            stopped_at(patched, step)
            with pytest.raises(Killed):
                write_image(file, mode="w")
        write_image(file, mode="w", resume=True)
        check_levels(open_pyramid(file), BASE, [(2, 2)], scale={"y": 0.5, "x": 0.5})
        assert [path.name for path in tmp_path.iterdir()] == ["a.ozx"]
        file.unlink()


@pytest.mark.parametrize("resume", [False, True])
def test_write_pyramid__what_is_left_beside_a_newer_file_never_replaces_it(tmp_path, monkeypatch, resume):
    """As versions before left it, which deleted the folder under its own name."""
    file = tmp_path / "a.ozx"
    with monkeypatch.context() as patched:
        stopped_at(patched, 1)
        with pytest.raises(Killed):
            write_image(file)
    folder = tmp_path / "a.ozx.multiscale_sampler_build"
    shutil.rmtree(folder / "pyramid.zarr/scale0/em/c")
    before = file.read_bytes()
    # The file is what a resumed build would make.
    with nullcontext() if resume else pytest.raises(FileExistsError, match="replace the pyramid in it with mode='w'"):
        write_image(file, resume=resume)
    assert (file.read_bytes(), folder.exists()) == (before, False)


def test_write_pyramid__an_unfinished_build_is_kept_beside_a_file_of_others(tmp_path, monkeypatch):
    file = tmp_path / "a.ozx"
    with monkeypatch.context() as patched:
        stopped_at(patched, 0)
        with pytest.raises(Killed):
            write_image(file)
    file.write_text("mine")
    with pytest.raises(FileExistsError):
        write_image(file, mode="w", resume=True)
    file.unlink()
    write_image(file, resume=True)
    check_levels(open_pyramid(file), BASE, [(2, 2)], scale={"y": 0.5, "x": 0.5})


def test_write_pyramid__a_stopped_build_of_a_zip_file_is_begun_again_when_asked(tmp_path, monkeypatch):
    file = tmp_path / "a.zip"
    with monkeypatch.context() as patched:
        patched.setattr(archives, "_end_as_zip64", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            written(file)
    with pytest.raises(ValueError, match="used different values"):
        write_pyramid(BASE // 2, file, scale_factors=[2, 4], chunks=16, resume=True)
    write_pyramid(BASE // 2, file, scale_factors=[2], mode="w", version="0.4")
    check_levels(open_pyramid(file), BASE // 2, [(2, 2)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
