"""The command line, called as a shell calls it but in this process."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler import cli
from multiscale_sampler.cli import main


@pytest.fixture
def raw(tmp_path):
    """Return the path of a small stored array without any labels."""
    values = np.arange(12 * 20 * 24, dtype="uint16").reshape(12, 20, 24)
    zarr.create_array(tmp_path / "raw.zarr", data=values, chunks=(4, 8, 8))
    return str(tmp_path / "raw.zarr")


LABELS = ["--scale", "z=50,y=40,x=40", "--unit", "micrometer"]


def test_build__writes_a_labelled_pyramid(raw, tmp_path, capsys):
    out = str(tmp_path / "out.ome.zarr")
    assert main(["build", raw, out, *LABELS, "--quiet"]) == 0
    tree = xr.open_datatree(out, engine="zarr")
    base = zarr.open_array(raw)[:].astype(float)
    means = base.reshape(6, 2, 10, 2, 12, 2).mean((1, 3, 5))
    np.testing.assert_array_equal(tree["scale1/image"], np.rint(means))
    assert tree["scale1"].z.values[0] == 25.0
    assert tree["scale1"].z.attrs["units"] == "micrometer"
    assert capsys.readouterr().err == ""


def test_build__prints_plain_lines_where_there_is_no_terminal(raw, tmp_path, capsys):
    assert main(["build", raw, str(tmp_path / "out"), *LABELS]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("building: 100% of ")


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ("--factors 3 --max-levels 2", [[3, 3, 3]]),
        ("--factors 2,3", [[2, 2, 2], [3, 3, 3]]),
        ("--factors 2,", [[2, 2, 2]]),
        ("--factors y=2,x=2 --max-levels 2", [[1, 2, 2]]),
        ("--factors y=2,x=2 --factors z=2,y=4,x=4", [[1, 2, 2], [2, 4, 4]]),
        ("--factors isotropic --scale z=4,y=1,x=1 --min-size 2 --max-levels 3", [[1, 2, 2], [1, 4, 4]]),
    ],
)
def test_plan__takes_every_form_of_factors(raw, capsys, options, factors):
    assert main(["plan", raw, "--json", *options.split()]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [level["factors"] for level in printed["levels"][1:]] == factors


def test_plan__reads_no_chunk(raw, tmp_path, capsys):
    for chunk in (tmp_path / "raw.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    assert main(["plan", raw]) == 0
    assert "peak memory" in capsys.readouterr().out


def test_info__prints_levels_as_table_and_json(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    main(["build", raw, out, *LABELS, "--quiet"])
    assert main(["info", out]) == 0
    assert "12 20 24" in capsys.readouterr().out
    assert main(["info", out, "--json"]) == 0
    levels = json.loads(capsys.readouterr().out)
    assert levels[1]["shape"] == [6, 10, 12]
    assert levels[1]["translation"] == [25.0, 20.0, 20.0]
    assert levels[1]["units"] == ["micrometer"] * 3


def test_add_levels__leaves_the_base(tmp_path):
    group = zarr.open_group(tmp_path / "store", mode="w")
    group.create_array("0", data=np.ones((40, 40), "uint8"), chunks=(16, 16))
    assert main(["add-levels", str(tmp_path / "store"), "--quiet"]) == 0
    assert sorted(zarr.open_group(tmp_path / "store")) == ["0", "1", "2"]


def test_validate__says_by_its_exit_code_whether_all_is_well(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    main(["build", raw, out, *LABELS, "--quiet"])
    assert main(["validate", out]) == 0
    capsys.readouterr()
    assert main(["validate", str(tmp_path / "raw.zarr"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_explain__of_a_store_and_of_a_build(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    main(["build", raw, out, *LABELS, "--quiet", "--max-levels", "2"])
    assert main(["explain", out]) == 0
    assert "z 0 + (2 - 1) / 2 * 50 = 25 micrometer" in capsys.readouterr().out
    for source in (raw, out):
        assert main(["explain", source, *LABELS, "--factors", "3"]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("A plan of ")
        assert "z 0 + (3 - 1) / 2 * 50 = 50 micrometer" in printed
    assert main(["explain", raw]) == 0
    assert capsys.readouterr().out.startswith("A plan of ")


# --- help ------------------------------------------------------------------------------------------------------

# Words of a dialect, which readers of the documentation of xarray or numpy do not know.
DIALECT = re.compile(
    r"\banew\b|\bgo(es)? on with\b|\bis no [a-z]+\b|\bof a tie\b|\bof any writer\b|\baskew\b|\bmakes ids\b"
    r"|\bholds? [^.]{0,40} against\b|\bmade ready\b|\bare no [a-z]+\b|\btells?\b|\bof which\b|\bby which\b"
)


def subcommands():
    """Return the parser of every subcommand, by its name."""
    (commands,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices


def options_of(parser):
    """Yield the options of a parser, each with the title of its group."""
    for group in parser._action_groups:
        for action in group._group_actions:
            if action.option_strings and "--help" not in action.option_strings:
                yield action, group.title


@pytest.mark.parametrize("name", subcommands())
def test_help__ends_with_a_command_that_the_parser_takes(name):
    epilog = subcommands()[name].epilog
    assert epilog.startswith(f"example:\n  multiscale-sampler {name} ")
    cli.parser().parse_args(epilog.splitlines()[1].split()[1:])


@pytest.mark.parametrize("name", subcommands())
def test_help__of_every_option_has_its_default_and_an_example(name):
    for option, group in options_of(subcommands()[name]):
        assert option.help, option.option_strings
        if option.nargs == 0 and not isinstance(option, argparse.BooleanOptionalAction):
            continue
        assert option.required or "default" in option.help + group, option.option_strings
        # A few choices are all listed; for other values an example stands after a colon.
        listed = option.choices is not None or isinstance(option, argparse.BooleanOptionalAction)
        assert listed or re.search(r": \S", option.help), option.option_strings


@pytest.mark.parametrize("name", [None, *subcommands()])
def test_help__is_plain_text_in_plain_words(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*([name] if name else []), "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "example:" in printed
    assert "\x1b" not in printed
    assert DIALECT.search(" ".join(printed.split())) is None


@pytest.mark.parametrize("name", subcommands())
def test_help__what_takes_long_can_be_quiet_and_what_reports_can_be_json(name):
    flags = {flag for option, _ in options_of(subcommands()[name]) for flag in option.option_strings}
    assert "--quiet" in flags or "--json" in flags or name in ("explain", "view")


def test_version__is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"multiscale-sampler {ms.__version__}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["build", "--help"], ["build", "--what"]])
def test_help__loads_neither_dask_nor_zarr(arguments):
    """Nobody is to wait for them: they take as long again as all that xarray loads."""
    code = (
        "import sys; from multiscale_sampler.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: print([name for name in ('dask', 'zarr', 'numba', 'distributed') if name in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(ms.__file__).parents[1])
    assert done.stdout.splitlines()[-1] == "[]"


# --- wrong input and wrong usage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "{missing}", "{out}"],
        ["build", "{raw}", "{raw}"],
        ["build", "{raw}", "{out}", "--factors", "0"],
        ["build", "{raw}", "{out}", "--scale", "q=3"],
        ["build", "{raw}", "{out}", "--min-size", "8", "--factors", "2,4"],
        ["build", "{raw}", "{out}", "--ngff", "0.4", "--shards", "64"],
        ["build", "{raw}", "{out}", "--ngff", "0.4", "--metadata", "geozarr"],
        ["build", "{raw}", "{out}", "--channel-names", "a,b"],
        ["build", "{raw}", "{out}", "--min-valid", "0.5", "--method", "nearest"],
        ["build", "{raw}", "{out}", "--series", "1"],
        ["build", "{raw}", "{out}", "--level", "1"],
        ["build", "{raw}", "{out}", "--path", "0"],
        ["info", "{raw}"],
    ],
)
def test_wrong_input__is_one_line_and_exit_code_1(raw, tmp_path, capsys, arguments):
    places = {"missing": str(tmp_path / "missing"), "out": str(tmp_path / "out"), "raw": raw}
    assert main([argument.format(**places) for argument in arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("multiscale-sampler: error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("nothing", "invalid choice: 'nothing'"),
        ("build", "the following arguments are required: source, target"),
        ("build a b --what", "unrecognized arguments: --what"),
        ("plan x --factors two", "argument --factors: 'two' is not a whole number; write one, as 4"),
        ("plan x --method average", "argument --method: unknown method 'average'; choose one of 'mean', "),
        ("build a b --scheduler host", "argument --scheduler: 'host' is not an address"),
        ("build a b --ngff 1", "argument --ngff: invalid choice: '1'"),
        ("demo x --size big", "argument --size: 'big' is not a whole number"),
        ("convert a b", "the following arguments are required: --ngff"),
        ("append a b", "the following arguments are required: --dim"),
        ("update a", "name it with --region, or find it with --changed auto"),
        ("rebuild a", "name a method, as in --method max"),
        ("rebuild a --remove", "name them, as in --levels 3,4"),
    ],
)
def test_wrong_usage__is_two_lines_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    error, usage = capsys.readouterr().err.splitlines()
    command = arguments.split()[0] if arguments and arguments != "nothing" and "--what" not in arguments else None
    program = f"multiscale-sampler {command}" if command else "multiscale-sampler"
    assert error.startswith(f"{program}: error: ")
    assert message in error
    assert usage == f"usage: see {program} --help"


REMOVING = "with --remove; leave one or the other out"
IN_PLACE = "without a target, as nothing is copied; name one, or leave this out"


@pytest.mark.parametrize(
    ("arguments", "flags", "reason"),
    [
        ("rebuild a --remove --levels 1 --method max", "--method", REMOVING),
        ("rebuild a --remove --levels 1 --memory-limit 1GiB", "--memory-limit", REMOVING),
        ("rebuild a --remove --levels 1 --workers 2", "--workers", REMOVING),
        ("rebuild a --remove --levels 1 --resume", "--resume", REMOVING),
        ("rebuild a --remove --levels 1 --quiet", "--quiet", REMOVING),
        ("rebuild a --quiet --remove --workers 2 --levels 1", "--workers, --quiet", REMOVING),
        ("convert a --ngff 0.5 --chunks 8", "--chunks", IN_PLACE),
        ("convert a --ngff 0.5 --shards none", "--shards", IN_PLACE),
        ("convert a --ngff 0.5 --memory-limit 1GiB", "--memory-limit", IN_PLACE),
        ("convert a --ngff 0.5 --workers 2", "--workers", IN_PLACE),
        ("convert a --ngff 0.5 --resume", "--resume", IN_PLACE),
        ("convert a --ngff 0.5 --quiet", "--quiet", IN_PLACE),
        ("verify a --seed 0", "--seed", "without --sample, which checks random regions; add that, or leave this out"),
        ("update a --changed auto --by index", "--by", "without --region; name the region, or leave this out"),
        ("update a --resume --by coordinate", "--by", "without --region; name the region, or leave this out"),
    ],
)
def test_wrong_usage__is_an_option_that_would_have_no_effect(arguments, flags, reason, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    expected = f"multiscale-sampler {arguments.split()[0]}: error: {flags} would have no effect {reason}"
    assert capsys.readouterr().err.splitlines()[0] == expected


# --- whole runs ------------------------------------------------------------------------------------------------


def interrupt(progress):
    """End a build at its first sign of progress, as a user does."""
    raise KeyboardInterrupt


def image_of(raw):
    return ms.open_image(raw, scale={"z": 50, "y": 40, "x": 40}, units="micrometer")


def test_build__resume_completes_an_interrupted_build(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        ms.write_pyramid(image_of(raw), out, progress=interrupt)
    command = ["build", raw, out, *LABELS, "--quiet"]
    assert main(command) == 1
    message = capsys.readouterr().err
    assert "--resume" in message
    assert "--overwrite" in message
    assert main([*command, "--resume"]) == 0
    expected = ms.to_multiscale(image_of(raw))
    np.testing.assert_array_equal(ms.open_pyramid(out)["scale1/image"], expected["scale1/image"])


def test_build__digests_find_what_was_edited(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    command = ["build", raw, out, "--factors", "2,", "--quiet"]
    assert main(command) == 0
    assert main(["update", out, "--changed", "auto", "--quiet"]) == 1
    assert "--digests" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--digests"]) == 0
    zarr.open_array(f"{out}/scale0/image", mode="r+")[8:, :8, :8] = 1000
    assert main(["update", out, "--changed", "auto", "--quiet"]) == 0
    level = ms.open_pyramid(out)["scale1/image"].values
    np.testing.assert_array_equal(level[4:, :4, :4], 1000)
    assert level[0, 0, 0] == np.rint(zarr.open_array(raw)[:2, :2, :2].mean())


def test_build__path_and_level_choose_what_is_read(tmp_path):
    group = zarr.open_group(tmp_path / "raw.zarr", mode="w")
    group.create_array("a", data=np.full((8, 8), 1, "uint8"))
    group.create_array("b/c", data=np.full((8, 8), 2, "uint8"))
    raw, out, again = (str(tmp_path / name) for name in ("raw.zarr", "out", "again"))
    assert main(["build", raw, out, "--path", "b/c", "--factors", "2,", "--quiet"]) == 0
    np.testing.assert_array_equal(ms.open_pyramid(out)["scale1/c"], np.full((4, 4), 2))
    assert main(["build", out, again, "--level", "1", "--factors", "2,", "--quiet"]) == 0
    assert ms.open_pyramid(again)["scale1/c"].shape == (2, 2)


def test_build__name_layout_and_dtype_are_those_of_the_store(raw, tmp_path):
    out = str(tmp_path / "out")
    options = ["--name", "brain", "--layout", "flat", "--dtype", "float32", "--ngff", "0.4", "--factors", "2,"]
    assert main(["build", raw, out, *options, "--quiet"]) == 0
    group = zarr.open_group(out)
    assert (group.metadata.zarr_format, sorted(group), group["1"].dtype) == (2, ["0", "1"], np.float32)
    assert group.attrs["multiscales"][0]["name"] == "brain"


@pytest.fixture
def nested(tmp_path):
    """Return a store whose image is not at its root."""
    store = str(tmp_path / "nested.zarr")
    zarr.open_group(store)
    ms.write_pyramid(np.zeros((8, 8), "uint8"), f"{store}/images/a", scale_factors=[2, 4])
    return store


def test_append__store_path_is_where_data_are_appended(nested, tmp_path):
    zarr.save_array(tmp_path / "more.zarr", np.full((4, 8), 9, "uint8"))
    command = ["append", str(tmp_path / "more.zarr"), nested, "--dim", "y", "--quiet"]
    assert main(command) == 1
    assert main([*command, "--store-path", "images/a"]) == 0
    expected = np.concatenate([np.zeros((4, 4)), np.full((2, 4), 9)])
    np.testing.assert_array_equal(ms.open_pyramid(nested, "images/a")["scale1/image"], expected)


def test_path__is_where_other_commands_find_the_image(nested, tmp_path, capsys):
    for command in (["info"], ["validate"], ["verify", "--quiet"], ["explain"]):
        assert main([*command, nested]) == 1
        assert main([*command, nested, "--path", "images/a"]) == 0
    assert main(["rebuild", nested, "--path", "images/a", "--levels", "2", "--remove"]) == 0
    assert list(ms.open_pyramid(nested, "images/a").children) == ["scale0", "scale1"]
    copy = str(tmp_path / "copy.zarr")
    assert main(["convert", nested, copy, "--path", "images/a", "--ngff", "0.4", "--quiet"]) == 0
    assert zarr.open_group(copy).metadata.zarr_format == 2


def test_verify__checks_the_levels_and_the_number_of_regions_that_are_named(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["build", raw, out, "--factors", "2,4", "--quiet"]) == 0
    assert main(["verify", out, "--levels", "2", "--sample", "1", "--seed", "3", "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [level["path"] for level in report["levels"]] == ["scale2/image"]


def test_validate__strict_counts_recommendations(tmp_path, capsys):
    group = zarr.open_group(tmp_path / "p", mode="w", zarr_format=2)
    group.create_array("0", data=np.zeros((8, 8), "uint8"), chunk_key_encoding={"name": "v2", "separator": "/"})
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    transformations = [{"type": "scale", "scale": [1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": transformations}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    assert main(["validate", str(tmp_path / "p")]) == 0
    assert main(["validate", str(tmp_path / "p"), "--strict"]) == 1


def test_update__append_and_rebuild_are_the_calls_of_those_names(tmp_path, capsys):
    values = np.random.default_rng(0).integers(0, 99, (20, 24)).astype("uint16")
    place = str(tmp_path / "p.zarr")
    ms.write_pyramid(values, place, scale_factors=[2, 4], chunks=8, digests=True)
    base = zarr.open_array(tmp_path / "p.zarr/scale0/image", mode="r+")
    base[3:5, 7] = values[3:5, 7] = 500
    assert main(["update", place, "--region", "y=3:5,x=7", "--quiet"]) == 0
    base[19] = values[19] = 100
    assert main(["update", place, "--region", "y=18.9:", "--by", "coordinate", "--quiet"]) == 0
    base[0, 0] = values[0, 0] = 1
    assert main(["update", place, "--changed", "auto", "--quiet"]) == 0
    more = np.ones((7, 24), "uint16")
    zarr.save_array(tmp_path / "more.zarr", more)
    assert main(["append", str(tmp_path / "more.zarr"), place, "--dim", "y", "--quiet"]) == 0
    whole = np.concatenate([values, more])
    expected = ms.to_multiscale(whole, [2, 4])
    tree = ms.open_pyramid(place)
    for index in range(3):
        np.testing.assert_array_equal(tree[f"scale{index}/image"], expected[f"scale{index}/image"])
    assert main(["rebuild", place, "--levels", "2", "--method", "max", "--quiet"]) == 0
    assert ms.open_pyramid(place)["scale2/image"].max() == 500
    assert main(["rebuild", place, "--levels", "1", "--remove"]) == 0
    assert list(ms.open_pyramid(place).children) == ["scale0", "scale1"]
    assert main(["update", place, "--region", "z=3"]) == 1
    assert "unknown dims ['z']" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["DASK_IMAGE_NEAREST", "dask-image-nearest", "nearest"])
def test_build__takes_the_names_of_methods_that_others_have(raw, tmp_path, method):
    assert main(["build", raw, str(tmp_path / "out"), "--method", method, "--factors", "2,", "--quiet"]) == 0
    group = zarr.open_group(tmp_path / "out", mode="r")
    assert group.attrs["ome"]["multiscales"][0]["type"] == "nearest"


def test_write_labels__puts_labels_beside_their_image(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["build", raw, out, "--factors", "2,", "--quiet"]) == 0
    labels = np.arange(12 * 20 * 24, dtype="uint16").reshape(12, 20, 24) // 100
    zarr.create_array(tmp_path / "labels.zarr", data=labels, chunks=(4, 8, 8))
    command = ["write-labels", str(tmp_path / "labels.zarr"), out, "cells", "--method", "nearest", "--quiet"]
    assert main(command) == 0
    level = zarr.open_group(out, mode="r")["labels/cells/scale1/cells"]
    np.testing.assert_array_equal(level[...], labels[::2, ::2, ::2])
    assert main(command) == 1
    assert "exists" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
