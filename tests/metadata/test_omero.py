"""Display of channels and colours of labels, as dicts."""

import numpy as np
import pytest

from multiscale_sampler.metadata import default_channel_labels, omero_metadata, with_channels
from multiscale_sampler.metadata.omero import (
    LARGEST_SHOWN_ID,
    MOST_COLORS,
    complete_omero,
    image_label_metadata,
)

COMPUTED = omero_metadata(["a", "b"], [np.array([0, 9], "uint8"), np.array([3, 5], "uint8")])


def entry(label, **rest):
    return {"label": label, "color": "123456", **rest}


# --- channels --------------------------------------------------------------------------------------------------


def test_complete_omero__what_is_stated_wins():
    window = {"start": 1, "end": 2}
    completed = complete_omero({"channels": [entry("a", window=window), {"label": "b"}], "id": 7}, COMPUTED, ["a", "b"])
    first, second = completed["channels"]
    assert completed["id"] == 7
    assert first == entry("a", window={"min": 0.0, "max": 255.0, "start": 1, "end": 2})
    assert second == {"label": "b", "color": "FF00FF", "window": COMPUTED["channels"][1]["window"]}


def test_complete_omero__without_channels_has_the_computed_ones():
    assert complete_omero({"id": 7}, COMPUTED, ["a", "b"]) == {"id": 7, **COMPUTED}


@pytest.mark.parametrize(
    ("labels", "keys", "chosen"),
    [
        (["a", "b"], ["b", "a"], [1, 0]),
        (["a", "b", "c"], ["c", "a"], [2, 0]),
        # Labels that repeat do not tell channels apart; their number does.
        (["a", "a"], ["a", "a"], [0, 1]),
        ([None, None, None], [2, 0], [2, 0]),
        # Channels that were renamed, each for each.
        (["a", "b"], ["x", "y"], [0, 1]),
        (["a", "b", "c"], [1, 3], None),
        (["a", "b", "c"], [-1, 0], None),
        (["a", "b", "c"], ["x", "y"], None),
    ],
    ids=str,
)
def test_complete_omero__chooses_channels_by_label_else_by_number_else_in_their_order(labels, keys, chosen):
    stated = {"channels": [{"label": label, "id": number} for number, label in enumerate(labels)]}
    completed = complete_omero(stated, COMPUTED, keys)
    assert (None if completed is None else [channel["id"] for channel in completed["channels"]]) == chosen
    if chosen is not None:
        expected = [key if isinstance(key, str) else labels[key] for key in keys]
        assert [channel["label"] for channel in completed["channels"]] == expected


@pytest.mark.parametrize("namespace", [True, False])
def test_with_channels__replaces_those_from_a_number_on(namespace):
    omero = {"channels": [{"label": label} for label in "abc"], "id": 7}
    attributes = {"ome": {"version": "0.5", "omero": omero}} if namespace else {"omero": omero}
    added = {"channels": [{"label": label} for label in "uvwxyz"]}
    result = with_channels(attributes, added, 2)
    changed = result["ome"]["omero"] if namespace else result["omero"]
    assert [channel["label"] for channel in changed["channels"]] == list("abwxyz")
    assert changed["id"] == 7


@pytest.mark.parametrize("attributes", [{}, {"omero": {}}, {"omero": {"channels": {}}}, {"omero": "text"}], ids=str)
def test_with_channels__adds_none_where_none_are_described(attributes):
    assert with_channels(attributes, {"channels": [{"label": "a"}]}, 0) == attributes


def test_default_channel_labels__count_from_0():
    assert default_channel_labels(3) == ("channel 0", "channel 1", "channel 2")


# --- labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "stated"), [("0.4", "0.4"), ("0.5", "0.5"), ("0.6", None)])
def test_image_label_metadata__state_version_and_image(version, stated):
    metadata = image_label_metadata([], version=version, source="../../")
    expected = {"source": {"image": "../../"}}
    assert metadata == expected | ({} if stated is None else {"version": stated})
    assert "source" not in image_label_metadata([], version=version, source=None)


def test_image_label_metadata__color_ids_but_not_the_background_nor_what_doubles_cannot_hold():
    ids = [0, 1, 2, 7, LARGEST_SHOWN_ID - 1, LARGEST_SHOWN_ID, 2**64 - 1]
    colors = image_label_metadata(ids, version="0.5", source=None)["colors"]
    assert [color["label-value"] for color in colors] == [1, 2, 7, LARGEST_SHOWN_ID - 1]
    assert len({tuple(color["rgba"]) for color in colors}) == 4
    assert all(len(color["rgba"]) == 4 and color["rgba"][3] == 255 for color in colors)
    (again,) = image_label_metadata([7], version="0.5", source=None)["colors"]
    assert again == colors[2]


def test_image_label_metadata__color_only_so_many_ids():
    colors = image_label_metadata(range(1, MOST_COLORS + 9), version="0.5", source=None)["colors"]
    assert [colors[0]["label-value"], colors[-1]["label-value"], len(colors)] == [1, MOST_COLORS, MOST_COLORS]
