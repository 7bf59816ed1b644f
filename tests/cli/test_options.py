"""Every option of every command sets its keyword argument of a public function, and nothing else.

The table here is written by hand, from what the help says, not from the table of the package.
"""

import argparse
import inspect
import re
from unittest.mock import Mock

import numpy as np
import pytest

import multiscale_sampler as ms
from multiscale_sampler import cli, plots
from multiscale_sampler import store as stores

# The smallest call of every command: positional arguments and required options.
CALLS = {
    "build": ["raw.zarr", "out.zarr"],
    "add-levels": ["store.zarr"],
    "plan": ["raw.zarr"],
    "explain": ["raw.zarr"],
    "write-labels": ["labels.zarr", "store.zarr", "cells"],
    "info": ["store.zarr"],
    "validate": ["store.zarr"],
    "verify": ["store.zarr"],
    "convert": ["store.zarr", "copy.zarr", "--ngff", "0.5"],
    "update": ["store.zarr", "--region", "y=0:8"],
    "append": ["new.zarr", "store.zarr", "--dim", "t"],
    "rebuild": ["store.zarr", "--method", "max"],
    "view": ["store.zarr"],
    "demo": ["{folder}"],
}
RESOURCES = [("--memory-limit 1GiB", "memory_limit", "1GiB"), ("--workers 3", "workers", 3)]
QUIET = ("--quiet", "progress", False)
RESUME = ("--resume", "resume", True)
STORAGE = [
    ("--chunks 8", "chunks", 8),
    ("--chunks 8,16", "chunks", [8, 16]),
    ("--chunks y=8,x=16", "chunks", {"y": 8, "x": 16}),
    ("--shards 32", "shards", 32),
    ("--shards y=32,x=64", "shards", {"y": 32, "x": 64}),
    ("--shards none", "shards", False),
    *RESOURCES,
]
DIMS = [("--dims zyx", "dims", ("z", "y", "x")), ("--dims time,lat", "dims", ("time", "lat"))]
PLACES = [
    *DIMS,
    ("--scale 0.5", "scale", 0.5),
    ("--scale z=50,y=4.5", "scale", {"z": 50.0, "y": 4.5}),
    ("--translation -3,2", "translation", [-3.0, 2.0]),
    ("--unit micrometer", "units", "micrometer"),
    ("--unit t=second,x=micrometer", "units", {"t": "second", "x": "micrometer"}),
]
AXES = [
    *PLACES,
    ("--channel-names DAPI,GFP", "channel_names", ["DAPI", "GFP"]),
    ("--orientation RAS", "orientation", "RAS"),
    ("--orientation z=superior-to-inferior", "orientation", {"z": "superior-to-inferior"}),
]
LEVELS = [
    ("--factors 3", "scale_factors", 3),
    ("--factors 2,4", "scale_factors", [2, 4]),
    ("--factors 2,", "scale_factors", [2]),
    ("--factors y=2,x=2", "scale_factors", {"y": 2, "x": 2}),
    ("--factors y=2 --factors y=4,x=2", "scale_factors", [{"y": 2}, {"y": 4, "x": 2}]),
    ("--factors isotropic", "scale_factors", "isotropic"),
    ("--method max", "method", "max"),
    ("--boundary trim", "boundary", "trim"),
    ("--max-levels 3", "max_levels", 3),
    ("--min-size y=16,x=8", "min_size", {"y": 16, "x": 8}),
    ("--nodata -9999", "nodata", -9999),
    ("--skipna", "skipna", True),
    ("--no-skipna", "skipna", False),
    ("--min-valid 0.5", "min_valid", 0.5),
    *STORAGE,
]
SOURCE = [("--path images/0", "path", "images/0"), ("--series 1", "series", 1), ("--level 2", "level", 2)]
IMAGE_PATH = ("--path images/a", "path", "images/a")
OVERWRITE = ("--overwrite", "mode", "w")
CHANGE = [("--method mode", "method", "mode"), *RESOURCES, RESUME, QUIET]
ROWS = {
    ("build", "open_image"): [*SOURCE, ("--name brain", "name", "brain"), *AXES],
    ("build", "write_pyramid"): [
        ("--ngff 0.4", "version", "0.4"),
        ("--layout flat", "layout", "flat"),
        ("--dtype float32", "dtype", "float32"),
        ("--metadata ome,geozarr", "metadata", ["ome", "geozarr"]),
        OVERWRITE,
        ("--ascending", "ascending", True),
        ("--no-ascending", "ascending", False),
        ("--digests", "digests", True),
        RESUME,
        QUIET,
        *LEVELS,
    ],
    ("add-levels", "add_levels"): [IMAGE_PATH, ("--base s0", "base", "s0"), RESUME, QUIET, *AXES, *LEVELS],
    ("plan", "open_image"): [*SOURCE, *AXES],
    ("plan", "plan_pyramid"): LEVELS,
    ("explain", "explain"): [IMAGE_PATH],
    ("explain", "open_image"): [IMAGE_PATH, *AXES],
    ("explain", "plan_pyramid"): LEVELS,
    ("write-labels", "open_image"): [("--labels-path a/0", "path", "a/0"), *PLACES],
    ("write-labels", "write_labels"): [
        IMAGE_PATH,
        ("--method nearest", "method", "nearest"),
        ("--dtype auto", "dtype", "auto"),
        *STORAGE,
        OVERWRITE,
        RESUME,
        QUIET,
    ],
    ("info", "open_pyramid"): [IMAGE_PATH],
    ("validate", "validate"): [
        IMAGE_PATH,
        ("--strict", "strict", True),
        ("--metadata-only", "metadata_only", True),
    ],
    ("verify", "verify_pyramid"): [
        IMAGE_PATH,
        ("--levels 1", "levels", [1]),
        ("--levels 1,2", "levels", [1, 2]),
        ("--sample 20", "sample", 20),
        ("--sample 20 --seed 7", "seed", 7),
        *RESOURCES,
        QUIET,
    ],
    ("convert", "convert"): [IMAGE_PATH, ("--ngff 0.6", "version", "0.6"), *STORAGE, RESUME, QUIET],
    ("update", "update_pyramid"): [
        IMAGE_PATH,
        ("--region z=0:64,y=10", "region", {"z": slice(0, 64), "y": 10}),
        ("--by coordinate", "by", "coordinate"),
        ("--changed auto", "changed", "auto"),
        *CHANGE,
    ],
    ("append", "open_image"): [*SOURCE, *PLACES],
    ("append", "append_pyramid"): [("--dim z", "dim", "z"), ("--store-path images/a", "path", "images/a"), *CHANGE],
    ("rebuild", "rebuild_levels"): [IMAGE_PATH, ("--levels 1,2", "levels", [1, 2]), *CHANGE],
    ("rebuild", "remove_levels"): [IMAGE_PATH, ("--levels 2", "levels", [2])],
    ("view", "view"): [
        IMAGE_PATH,
        ("--port 8080", "port", 8080),
        ("--host 0.0.0.0", "host", "0.0.0.0"),
        ("--no-browser", "browser", False),
    ],
    ("demo", "create_test_image"): [QUIET],
    ("demo", "write_pyramid"): [QUIET],
}
# Those that are no keyword argument of a public function; each has a test of its own.
OTHERS = {
    "build": {"--scheduler"},
    "add-levels": {"--scheduler"},
    "plan": {"--json"},
    "info": {"--json"},
    "validate": {"--json"},
    "verify": {"--json"},
    "rebuild": {"--remove"},
    "view": {"--verbose"},
    "demo": {"--size"},
}
# What a switch sets without being used.
ABSENT = {"progress": True, "browser": True}
CASES = [pytest.param(*key, *row, id=f"{key[0]} {row[0]} {key[1]}") for key, rows in ROWS.items() for row in rows]


def commands():
    """Return the parser of every command, by its name."""
    (found,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    return found.choices


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Return what runs a command and returns the keyword arguments of a public function that it calls."""

    def run(command, function, options):
        recorders = {name: Mock(name=name) for name in {function for _, function in ROWS} | {"open_image"}}
        image = ms.to_image(np.zeros((4, 4), "uint8"))
        recorders["open_image"].return_value = image
        recorders["plan_pyramid"].return_value = ms.plan_pyramid(image, [2])
        recorders["open_pyramid"].return_value = ms.to_multiscale(image, [2])
        for name, recorder in recorders.items():
            monkeypatch.setattr(ms, name, recorder)
        # With any option but its path, `explain` plans what is a pyramid already.
        pyramid = function == "explain" or (options and not options.startswith("--path"))
        monkeypatch.setattr(stores, "is_pyramid", lambda place, path=None: pyramid)
        monkeypatch.setattr(stores, "open_labels", lambda place, path=None, level=0: {})
        monkeypatch.setattr(stores, "names_axes", lambda place, path=None: True)
        monkeypatch.setattr(plots, "require_matplotlib", lambda: None)
        monkeypatch.setattr(plots, "save_levels_figure", lambda tree, picture: None)
        arguments = [argument.format(folder=tmp_path / "demo") for argument in CALLS[command]]
        if function == "remove_levels":
            arguments = ["store.zarr", "--levels", "1", "--remove"]
        assert cli.main([command, *arguments, *options.split()]) == 0
        recorders[function].assert_called_once()
        return recorders[function].call_args.kwargs

    return run


@pytest.mark.parametrize(("command", "function", "options", "keyword", "value"), CASES)
def test_option__sets_its_keyword_argument_and_no_other(called, command, function, options, keyword, value):
    # What a row says twice, the seed of a sample, is used in both calls.
    before, _, last = options.rpartition(" --")
    before = before if before.split(" ")[0] not in (f"--{last}".split(" ")[0], "") else ""
    usual = called(command, function, before)
    assert usual.get(keyword) != value
    assert usual.get(keyword) == ABSENT.get(keyword, usual.get(keyword))
    changed = called(command, function, options)
    assert changed == {**usual, keyword: value}
    assert type(changed[keyword]) is type(value)


@pytest.mark.parametrize("command", CALLS)
def test_option__every_one_of_a_command_is_in_the_table(command):
    flags = {flag for action in commands()[command]._actions for flag in action.option_strings}
    listed = {
        word
        for (name, _), rows in ROWS.items()
        for options, *_ in rows
        for word in options.split()
        if name == command and word.startswith("--")
    }
    assert flags - {"-h", "--help", "--traceback"} == listed | OTHERS.get(command, set())


def test_option__the_table_has_every_command_and_call():
    assert set(CALLS) == set(commands())
    calls = {(name, function) for name, command in commands().items() for function in command.get_default("calls")}
    assert calls == set(ROWS)


@pytest.mark.parametrize(("command", "function"), ROWS)
def test_option__names_a_keyword_argument_of_the_function(command, function):
    parameters = inspect.signature(getattr(ms, function)).parameters
    for option in commands()[command].get_default("calls")[function]:
        assert parameters[option.keyword].kind is not inspect.Parameter.VAR_POSITIONAL


def test_help__states_the_defaults_that_the_functions_have():
    """Where the default is None, the help says in words what is done then."""
    found = {}
    for command, function in ROWS:
        parameters = inspect.signature(getattr(ms, function)).parameters
        for option in commands()[command].get_default("calls")[function]:
            default = parameters[option.keyword].default
            stated = re.search(r"default: ([^,)]+)|(\S+) \(default\)", option.settings["help"])
            if stated is not None and default not in (None, inspect.Parameter.empty):
                expected = default[0] if isinstance(default, tuple) else f"{default:g}" if default == 0.0 else default
                found[command, option.flag] = (stated[1] or stated[2], str(expected))
    # 0 stands for any port that is free.
    del found["view", "--port"]
    # Methods, boundaries and such of build are those of a plan: it has None for them, as a tree has its own.
    assert {flag for command, flag in found if command == "plan"} >= {"--factors", "--method", "--boundary", "--level"}
    assert {flag for command, flag in found if command == "build"} == {
        *("--level", "--ngff", "--layout", "--metadata", "--nodata")
    }
    assert [key for key, (stated, default) in found.items() if stated != default] == []
