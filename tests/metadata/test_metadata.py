"""Axes to OME-NGFF metadata and back, as dicts."""

import json

import numpy as np
import pytest

from multiscale_sampler import Axis
from multiscale_sampler.metadata import (
    Dataset,
    check_exportable,
    convention_attributes,
    image_attributes,
    level_axes,
    listed_images,
    ngff_order,
    omero_metadata,
    parse_multiscales,
    paths_written_by_us,
)

SCALE = {"type": "scale", "scale": [2.0, 0.5]}
SHIFT = {"type": "translation", "translation": [1.0, 3.0]}
YX = [{"name": "y", "type": "space", "unit": "micrometer"}, {"name": "x", "type": "space", "unit": "micrometer"}]


def entry(*transforms, path="0", **rest):
    """Return a multiscales entry of one level."""
    return {"axes": YX, "datasets": [{"path": path, "coordinateTransformations": list(transforms)}], **rest}


def written(levels, version="0.5", **options):
    paths = [f"scale{number}/em" for number in range(len(levels))]
    defaults = {
        "name": "em",
        "method": "mean",
        "recipe": {"boundary": "pad"},
        "made_by": "write_pyramid",
        "written": [*paths, "scale0/y"],
    }
    return image_attributes(levels, paths, version=version, **(defaults | options))


# --- parse -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_parse__versions_without_axes(version):
    parsed = parse_multiscales(
        {"multiscales": [{"version": version, "name": "old", "datasets": [{"path": "0"}, {"path": "1"}]}]}
    )
    assert parsed.version == version
    assert parsed.name == "old"
    assert parsed.axes is None
    assert [(d.path, d.scale, d.translation) for d in parsed.datasets] == [("0", None, None), ("1", None, None)]
    levels, assumed = level_axes(parsed, [(1, 2, 3, 10, 9), (1, 2, 3, 5, 5)])
    assert [axis.name for axis in levels[0]] == ["t", "c", "z", "y", "x"]
    assert [(axis.scale, axis.translation) for axis in levels[1]] == [(1, 0), (1, 0), (1, 0), (2, 0.5), (2, 0.5)]
    assert len(assumed) == 2


def test_parse__version_0_3_names_its_axes():
    parsed = parse_multiscales(
        {"multiscales": [{"version": "0.3", "axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}]}
    )
    assert parsed.axes == (("z", None, None), ("y", None, None), ("x", None, None))
    levels, assumed = level_axes(parsed, [(3, 4, 5)])
    assert [(axis.name, axis.size, axis.type) for axis in levels[0]] == [
        ("z", 3, "space"),
        ("y", 4, "space"),
        ("x", 5, "space"),
    ]
    assert len(assumed) == 1


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_parse__versions_with_transformations(version):
    one = entry(SCALE, SHIFT, path="s0", name="em")
    attributes = {"multiscales": [{"version": "0.4", **one}]}
    if version == "0.5":
        attributes = {"ome": {"version": "0.5", "multiscales": [one]}}
    parsed = parse_multiscales({**attributes, "other": 1})
    assert parsed.version == version
    assert parsed.axes == (("y", "space", "micrometer"), ("x", "space", "micrometer"))
    assert parsed.datasets == (Dataset("s0", (2.0, 0.5), (1.0, 3.0)),)
    levels, assumed = level_axes(parsed, [(4, 6)])
    assert assumed == []
    assert levels == [(Axis("y", 4, 2.0, 1.0, "micrometer"), Axis("x", 6, 0.5, 3.0, "micrometer"))]


@pytest.mark.parametrize("version", ["0.6", "0.6rc0"])
@pytest.mark.parametrize("kind", ["sequence", "scale", "identity"])
def test_parse__version_0_6(version, kind):
    transform = {
        "sequence": {"type": "sequence", "transformations": [SCALE, SHIFT]},
        "scale": SCALE,
        "identity": {"type": "identity"},
    }[kind]
    transform = {**transform, "input": {"path": "0"}, "output": {"name": "physical"}}
    other = [{"name": "v", "type": "space"}, {"name": "u", "type": "space"}]
    document = {
        "version": version,
        "multiscales": [
            {
                "coordinateSystems": [{"name": "other", "axes": other}, {"name": "physical", "axes": YX}],
                "datasets": [{"path": "0", "coordinateTransformations": [transform]}],
            }
        ],
    }
    parsed = parse_multiscales({"ome": document})
    assert parsed.version == version
    assert [name for name, _, _ in parsed.axes] == ["y", "x"]
    levels, _ = level_axes(parsed, [(4, 6)])
    expected = {
        "sequence": ((2.0, 1.0), (0.5, 3.0)),
        "scale": ((2.0, 0.0), (0.5, 0.0)),
        "identity": ((1.0, 0.0), (1.0, 0.0)),
    }[kind]
    assert tuple((axis.scale, axis.translation) for axis in levels[0]) == expected


def test_parse__applies_the_transformations_of_all_levels_after_those_of_one():
    outer = [{"type": "scale", "scale": [10.0, 10.0]}, {"type": "translation", "translation": [0.0, 100.0]}]
    parsed = parse_multiscales({"ome": {"multiscales": [entry(SCALE, SHIFT, coordinateTransformations=outer)]}})
    assert parsed.datasets[0].scale == (20.0, 5.0)
    assert parsed.datasets[0].translation == (10.0, 130.0)


def test_parse__applies_transformations_in_their_order():
    parsed = parse_multiscales({"ome": {"multiscales": [entry(SHIFT, SCALE)]}})
    assert parsed.datasets[0].translation == (2.0, 1.5)


def test_parse__says_where_transformations_of_one_kind_repeat():
    """The specification allows one scale and one translation; all are applied."""
    several = {"axes": YX, "datasets": [{"path": path, "coordinateTransformations": [SCALE]} for path in "ab"]}
    assert parse_multiscales({"multiscales": [several]}).assumed == ()
    several["datasets"][1]["coordinateTransformations"] = [SCALE, SCALE]
    parsed = parse_multiscales({"multiscales": [several]})
    assert [dataset.scale for dataset in parsed.datasets] == [(2.0, 0.5), (4.0, 0.25)]
    assert parsed.assumed == ("that all transformations of one kind apply, in their order, to b",)
    outer = [{"type": "translation", "translation": [1.0, 1.0]}] * 2
    parsed = parse_multiscales({"multiscales": [entry(SCALE, coordinateTransformations=outer)]})
    assert parsed.datasets[0].translation == (2.0, 2.0)
    assert parsed.assumed == ("that all transformations of one kind apply, in their order, to all levels",)


def test_parse__numbered_labels_are_no_names_of_channels():
    omero = omero_metadata(["channel 0", "channel 1"], [np.zeros(1)] * 2)
    assert parse_multiscales({"multiscales": [entry(SCALE)], "omero": omero}).channel_names is None
    omero["channels"][1]["label"] = "channel 2"
    names = parse_multiscales({"multiscales": [entry(SCALE)], "omero": omero}).channel_names
    assert names == ("channel 0", "channel 2")


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({"plate": {"wells": [{"path": "A/1"}, {"path": "A/2"}, {}]}}, ("A/1", "A/2")),
        ({"well": {"images": [{"path": "0"}]}}, ("0",)),
        ({"labels": ["cells", "nuclei"]}, ("cells", "nuclei")),
        ({"bioformats2raw.layout": 3}, ("0",)),
        ({"labels": "cells"}, None),
        ({}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("version", [None, "0.5"])
def test_listed_images__are_those_that_a_group_names(document, paths, version):
    assert listed_images(document if version is None else {"ome": {"version": version, **document}}) == paths


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        ({"type": "scale", "scale": "12"}, "a scale transformation without its numbers: .*'12'}$"),
        ({"type": "translation"}, "a translation transformation without its numbers: {'type': 'translation'}$"),
        (
            {"type": "scale", "path": "numbers"},
            "without its numbers: .*; numbers in an array of their own are not read$",
        ),
        ({"type": "scale", "scale": [1.0, "2"]}, "a scale transformation with something else than numbers"),
        ({"type": "rotation"}, "transformation of type 'rotation' is no scale or translation"),
    ],
)
def test_parse__refuses_transformations_that_make_no_grid(transform, text):
    with pytest.raises(ValueError, match=text):
        parse_multiscales({"multiscales": [entry(transform)]})


def test_parse__knows_channels_by_their_labels():
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    assert parse_multiscales({"multiscales": [entry(SCALE)], "omero": omero}).channel_names == ("DAPI", "GFP")
    assert parse_multiscales({"ome": {"multiscales": [entry(SCALE)], "omero": omero}}).channel_names == ("DAPI", "GFP")
    omero = {"channels": ({"label": 488}, {"label": "channel 1"})}
    assert parse_multiscales({"multiscales": [entry(SCALE)], "omero": omero}).channel_names == ("488", "channel 1")
    for omero in ([], None, "channels"):
        assert parse_multiscales({"multiscales": [entry(SCALE)], "omero": omero}).channel_names is None


@pytest.mark.parametrize(
    "channels",
    [
        [],
        [{"color": "FFFFFF"}],
        [{"label": ""}],
        None,
        {},
        {"label": "a"},
        "ab",
        ["a", "b"],
        7,
        [{"label": "a"}, {}],
        [{"label": "a"}, "b"],
        [{"label": "channel 0"}, {"label": "channel 1"}],
    ],
)
def test_parse__has_no_channel_names_where_a_label_is_missing(channels):
    assert parse_multiscales({"multiscales": [entry(SCALE)], "omero": {"channels": channels}}).channel_names is None


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"ome": {}},
        {"ome": {"version": "0.5"}},
        {"ome": {"plate": {}}},
        {"multiscales": []},
        {"multiscales": {"layout": [{"asset": "scale0"}]}},
        {"plate": {"columns": []}},
        {"multiscales": "text"},
        {"labels": ["cells"]},
    ],
    ids=str,
)
def test_parse__is_none_where_nothing_is_described(attributes):
    assert parse_multiscales(attributes) is None


def test_parse__prefers_ome_to_the_convention_of_the_same_name():
    both = {"ome": {"version": "0.5", "multiscales": [entry(SCALE)]}, "multiscales": {"layout": [{"asset": "0"}]}}
    assert parse_multiscales(both).version == "0.5"


BROKEN = {
    "no-datasets": {"axes": YX},
    "empty-datasets": {"axes": YX, "datasets": []},
    "entry": "text",
    "no-path": {"axes": YX, "datasets": [{"coordinateTransformations": [SCALE]}]},
    "path-is-a-number": {"axes": YX, "datasets": [{"path": 0}]},
    "dataset-is-text": {"axes": YX, "datasets": ["0"]},
    "lengths": entry(SCALE, {"type": "translation", "translation": [1.0]}),
    "no-numbers": entry({"type": "scale"}),
    "scale-is-a-number": entry({"type": "scale", "scale": 2.0}),
    "scale-is-text": entry({"type": "scale", "scale": ["a", "b"]}),
    "scale-is-null": entry({"type": "scale", "scale": [None, 1.0]}),
    "affine": entry({"type": "affine", "affine": [[1, 0], [0, 1]]}),
    "no-type": entry({"scale": [1.0, 1.0]}),
    "transformation-is-text": entry("scale"),
    "transformations-is-a-mapping": {"axes": YX, "datasets": [{"path": "0", "coordinateTransformations": SCALE}]},
    "axis-without-a-name": {**entry(SCALE), "axes": [{"type": "space"}, {"name": "x"}]},
    "axis-is-a-number": {**entry(SCALE), "axes": [1, 2]},
    "axes-is-a-number": {**entry(SCALE), "axes": 2},
    "system-without-axes": {
        "coordinateSystems": [{"name": "physical"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{**SCALE, "output": {"name": "physical"}}]}],
    },
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_parse__names_what_is_broken(broken):
    with pytest.raises(ValueError, match=r".+"):
        parse_multiscales({"ome": {"version": "0.5", "multiscales": [broken]}})


# --- writing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_image_attributes__are_what_parse_reads(version):
    base = (Axis("c", 2), Axis("y", 9, 0.5, 3.0, "micrometer"), Axis("x", 8, 0.25, -1.0, "micrometer"))
    levels = [tuple(axis.coarsen(1 if axis.type == "channel" else factor) for axis in base) for factor in (1, 2, 3)]
    attributes = json.loads(json.dumps(written(levels, version)))
    parsed = parse_multiscales(attributes)
    assert parsed.version == version
    assert parsed.name == "em"
    assert [dataset.path for dataset in parsed.datasets] == ["scale0/em", "scale1/em", "scale2/em"]
    again, assumed = level_axes(parsed, [tuple(axis.size for axis in level) for level in levels])
    assert again == levels
    assert assumed == []


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_written_by_us__is_what_was_written_and_nothing_of_others(version):
    attributes = json.loads(json.dumps(written([(Axis("y", 4), Axis("x", 4))], version)))
    assert paths_written_by_us(attributes) == ("scale0/em", "scale0/y")
    assert paths_written_by_us({"multiscales": [entry(SCALE, metadata={"method": "another"})]}) == ()
    assert paths_written_by_us({"multiscales": [entry(SCALE, metadata="text")]}) == ()
    assert paths_written_by_us({"multiscales": {"layout": []}}) == ()
    assert paths_written_by_us({}) == ()


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_image_attributes__fill_what_the_strict_schema_asks_for(version):
    attributes = written([(Axis("y", 4), Axis("x", 4))], version)
    document = attributes if version == "0.4" else attributes["ome"]
    one = document["multiscales"][0]
    assert one["type"] == "mean"
    assert one["name"] == "em"
    assert one["metadata"]["kwargs"] == {"boundary": "pad"}
    axes = one["coordinateSystems"][0]["axes"] if version == "0.6" else one["axes"]
    assert "unit" not in axes[0]
    assert (one if version == "0.4" else document)["version"] == version


def test_image_attributes__of_0_6_lead_from_the_path_of_a_level_to_one_system():
    """Level 0 at the origin is a bare scale: some clients read no more."""
    axes = (Axis("y", 9, 0.5), Axis("x", 9, 0.25))
    one = written([axes, tuple(axis.coarsen(3) for axis in axes)], "0.6")["ome"]["multiscales"][0]
    assert "axes" not in one
    (system,) = one["coordinateSystems"]
    assert [axis["name"] for axis in system["axes"]] == ["y", "x"]
    (first,), (second,) = (dataset["coordinateTransformations"] for dataset in one["datasets"])
    ends = {"output": {"name": system["name"]}}
    assert first == {"type": "scale", "scale": [0.5, 0.25], "input": {"path": "scale0/em"}, **ends}
    assert second == {
        "type": "sequence",
        "transformations": [
            {"type": "scale", "scale": [1.5, 0.75]},
            {"type": "translation", "translation": [0.5, 0.25]},
        ],
        "input": {"path": "scale1/em"},
        **ends,
    }


def test_check_exportable__0_6_has_no_descending_axes():
    axes = (Axis("y", 9, -0.5), Axis("x", 9))
    check_exportable(axes, "0.5")
    with pytest.raises(ValueError, match=r"'y' descends.*isel\(y=slice.*version '0.5'"):
        check_exportable(axes, "0.6")


def test_image_attributes__each_level_has_a_scale_and_then_a_translation():
    levels = [(Axis("y", 9, 0.1), Axis("x", 9, 0.3)), (Axis("y", 9, 0.1).coarsen(3), Axis("x", 9, 0.3).coarsen(3))]
    for dataset in written(levels)["ome"]["multiscales"][0]["datasets"]:
        assert [transform["type"] for transform in dataset["coordinateTransformations"]] == ["scale", "translation"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("um", "micrometer"),
        ("µm", "micrometer"),
        ("μm", "micrometer"),
        ("micron", "micrometer"),
        ("nm", "nanometer"),
        ("mm", "millimeter"),
        ("s", "second"),
        ("micrometer", "micrometer"),
        ("degrees_north", "degrees_north"),
    ],
)
def test_image_attributes__spell_units_as_the_specification_does(given, expected):
    axes = written([(Axis("y", 4, unit=given), Axis("x", 4, unit=given))])["ome"]["multiscales"][0]["axes"]
    assert [axis["unit"] for axis in axes] == [expected, expected]


def test_image_attributes__evenly_spaced_dates_are_seconds():
    dates = np.datetime64("1970-01-02", "ns") + np.arange(3) * np.timedelta64(1, "h")
    one = written([(Axis("t", 3, values=dates), Axis("y", 4), Axis("x", 4))])["ome"]["multiscales"][0]
    assert one["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
    scale, translation = one["datasets"][0]["coordinateTransformations"]
    assert scale["scale"][0] == pytest.approx(3600)
    assert translation["translation"][0] == pytest.approx(86400)


def test_image_attributes__channel_names_have_no_position():
    names = Axis("c", 2, values=np.array(["a", "b"]))
    one = written([(names, Axis("y", 4), Axis("x", 4))])["ome"]["multiscales"][0]
    assert one["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 1.0


def test_ngff_order__puts_time_and_channels_before_space():
    axes = [Axis(name, 2) for name in ("y", "x", "c", "z", "t")]
    assert [axes[index].name for index in ngff_order(axes)] == ["t", "c", "y", "x", "z"]
    axes = [Axis(name, 2) for name in ("t", "c", "z", "y", "x")]
    assert ngff_order(axes) == (0, 1, 2, 3, 4)


def test_check_exportable__passes_what_the_specification_allows():
    for names in ("yx", "zyx", "cyx", "tyx", "tczyx", "czyx"):
        check_exportable([Axis(name, 2) for name in names])


@pytest.mark.parametrize("names", ["x", "cx", "wzyx", "tx"])
def test_check_exportable__refuses_the_wrong_number_of_spatial_axes(names):
    with pytest.raises(ValueError, match=r"2 or 3 spatial axes.*to_multiscale"):
        check_exportable([Axis(name, 2) for name in names])


def test_check_exportable__refuses_two_of_a_kind():
    for names in (("t", "time", "y", "x"), ("c", "channel", "y", "x")):
        with pytest.raises(ValueError, match=r"at most one time.*to_multiscale"):
            check_exportable([Axis(name, 2) for name in names])


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.0, 1.0, 4.0]),
        np.array(["a", "b", "c"]),
        np.array(["2001-01-01", "2001-02-01", "2001-03-01"], "M8[ns]"),
        np.array(["2001-01-01", "2001-01-01", "2001-01-01"], "M8[ns]"),
    ],
    ids=["numbers", "text", "months", "same-day"],
)
def test_check_exportable__refuses_positions_without_a_line(values):
    with pytest.raises(ValueError, match=r"'y' are (not evenly spaced|neither numbers nor dates).*drop_vars\('y'\)"):
        check_exportable([Axis("y", 3, values=values), Axis("x", 3)])


# --- omero -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sample",
    [
        np.arange(100, dtype="uint8").reshape(10, 10),
        np.zeros((4, 4), "uint16"),
        np.full((4, 4), np.nan, "float32"),
        np.array([[np.inf, 1.0, -np.inf]]),
        np.ones((3, 3), bool),
        np.full((2, 2), 2**64 - 1, "uint64"),
        np.full((2, 2), np.finfo("float64").max),
    ],
    ids=["uint8", "zeros", "nan", "inf", "bool", "uint64", "huge"],
)
def test_omero__windows_are_finite_and_open(sample):
    channel = omero_metadata(["a"], [sample])["channels"][0]
    json.dumps(channel, allow_nan=False)
    assert set(channel["window"]) == {"min", "max", "start", "end"}
    assert channel["window"]["start"] < channel["window"]["end"]


def test_omero__one_channel_is_white_and_several_differ():
    assert omero_metadata(["a"], [np.zeros(3)])["channels"][0]["color"] == "FFFFFF"
    colors = [c["color"] for c in omero_metadata(list("abcdefgh"), [np.zeros(3)] * 8)["channels"]]
    assert len(set(colors[:6])) == 6
    assert all(len(color) == 6 and int(color, 16) >= 0 for color in colors)


def test_omero__range_is_that_of_integers_and_of_the_values_of_floats():
    window = omero_metadata(["a"], [np.array([3, 9], "uint16")])["channels"][0]["window"]
    assert (window["min"], window["max"]) == (0, 65535)
    window = omero_metadata(["a"], [np.array([3.0, 9.0])])["channels"][0]["window"]
    assert (window["min"], window["max"]) == (3, 9)


# --- the zarr convention ---------------------------------------------------------------------------------------


def test_convention_attributes__are_relative_to_the_level_derived_from():
    base = (Axis("y", 60, 0.1, 7.0), Axis("x", 60, -0.3))
    levels = [tuple(axis.coarsen(factor) for axis in base) for factor in (1, 2, 3, 6)]
    attributes = convention_attributes(levels, [0, 0, 0, 2], ["a", "b", "c", "d"], resampling_method="average")
    layout = attributes["multiscales"]["layout"]
    assert layout[0] == {"asset": "a"}
    assert layout[1] == {
        "asset": "b",
        "derived_from": "a",
        "transform": {"scale": [2.0, 2.0], "translation": [0.5, 0.5]},
    }
    assert layout[2]["transform"] == {"scale": [3.0, 3.0], "translation": [1.0, 1.0]}
    assert layout[3] == {
        "asset": "d",
        "derived_from": "c",
        "transform": {"scale": [2.0, 2.0], "translation": [0.5, 0.5]},
    }
    assert attributes["multiscales"]["resampling_method"] == "average"
