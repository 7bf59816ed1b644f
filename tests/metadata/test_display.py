"""How channels and labels are shown: read from stores, carried by images, written as it was."""

import copy
import json

import numpy as np
import pytest
import zarr

from multiscale_sampler import (
    convert,
    open_image,
    open_pyramid,
    to_image,
    to_multiscale,
    validate,
    write_labels,
    write_pyramid,
)

from ..data import noise

SHOWN = {
    "channels": [
        {
            "label": label,
            "color": color,
            "active": active,
            "coefficient": 0.75,
            "family": "linear",
            "inverted": not active,
            "window": {"min": 0.0, "max": 900.0, "start": 7.0, "end": 70.0 + len(label)},
        }
        for label, color, active in (("DAPI", "0000FF", True), ("GFP", "00ff00", False), ("RFP", "FF0000", True))
    ],
    "rdefs": {"defaultT": 0, "defaultZ": 3, "model": "greyscale"},
    "of": "somebody",
}
FORMATS = [("0.4", "flat"), ("0.5", "datatree"), ("0.6", "datatree")]


def document(place):
    attributes = zarr.open_group(place, mode="r").attrs.asdict()
    return attributes.get("ome", attributes)


def channels_image(shown=SHOWN):
    image = to_image(noise((3, 20, 16)), "cyx", channel_names=["DAPI", "GFP", "RFP"])
    image.c.attrs["omero"] = copy.deepcopy(shown)
    return image


@pytest.mark.parametrize(("version", "layout"), FORMATS)
def test_omero__comes_back_as_it_was(tmp_path, version, layout):
    write_pyramid(channels_image(), tmp_path / "a", scale_factors=[2], version=version, layout=layout)
    assert document(tmp_path / "a")["omero"] == SHOWN
    tree = open_pyramid(tmp_path / "a")
    assert all(node["image"].c.attrs["omero"] == SHOWN for node in tree.children.values())
    assert open_image(tmp_path / "a").c.attrs["omero"] == SHOWN
    # As a tree, as an image, and built anew from what was read.
    for number, again in enumerate([tree, tree["scale0/image"], to_multiscale(tree["scale0/image"], [2])]):
        options = {} if number != 1 else {"scale_factors": [2]}
        write_pyramid(again, tmp_path / f"b{number}", version="0.5", **options)
        assert document(tmp_path / f"b{number}")["omero"] == SHOWN
    other = "0.5" if version == "0.4" else "0.4"
    convert(tmp_path / "a", tmp_path / "c", version=other)
    assert document(tmp_path / "c")["omero"] == SHOWN


def test_omero__stands_once_in_a_store(tmp_path):
    write_pyramid(channels_image(), tmp_path / "a", scale_factors=[2])
    for _, node in zarr.open_group(tmp_path / "a").members(max_depth=None):
        assert "omero" not in node.attrs


def test_omero__follows_the_channels_that_are_chosen(tmp_path):
    image = channels_image()
    write_pyramid(image.isel(c=[2, 0]), tmp_path / "a", scale_factors=[2])
    assert document(tmp_path / "a")["omero"]["channels"] == [SHOWN["channels"][2], SHOWN["channels"][0]]
    write_pyramid(image.sel(c="GFP"), tmp_path / "b", scale_factors=[2])
    assert document(tmp_path / "b")["omero"]["channels"] == [SHOWN["channels"][1]]
    renamed = to_image(image, channel_names=["a", "b", "c"])
    write_pyramid(renamed, tmp_path / "c", scale_factors=[2])
    assert document(tmp_path / "c")["omero"]["channels"][1] == {**SHOWN["channels"][1], "label": "b"}


def test_omero__of_numbered_channels_follows_their_numbers(tmp_path):
    entries = [{"color": color} for color in ("111111", "222222", "333333")]
    image = to_image(noise((3, 20, 16)), "cyx")
    image.c.attrs["omero"] = {"channels": entries}
    write_pyramid(image.isel(c=[2]), tmp_path / "a", scale_factors=[2])
    assert [channel["color"] for channel in document(tmp_path / "a")["omero"]["channels"]] == ["333333"]


def test_omero__what_is_left_out_is_chosen(tmp_path):
    image = channels_image({"channels": [{}, {"color": "ABCDEF"}, {"window": {"start": 1, "end": np.float32(2)}}]})
    write_pyramid(image, tmp_path / "a", scale_factors=[2])
    write_pyramid(image.drop_vars("c"), tmp_path / "plain", scale_factors=[2])
    chosen = document(tmp_path / "plain")["omero"]["channels"]
    first, second, third = document(tmp_path / "a")["omero"]["channels"]
    assert [channel["label"] for channel in (first, second, third)] == ["DAPI", "GFP", "RFP"]
    assert (first["color"], first["window"]) == (chosen[0]["color"], chosen[0]["window"])
    assert (second["color"], second["window"]) == ("ABCDEF", chosen[1]["window"])
    assert third["window"] == {**chosen[2]["window"], "start": 1, "end": 2.0}


@pytest.mark.parametrize("stated", ["nodata", "_FillValue", "option"])
def test_omero__missing_values_set_no_contrast(stated):
    values = np.arange(100, 200).reshape(1, 10, 10).astype("int16")
    values[0, :5] = -9999
    image = to_image(values, "cyx").assign_attrs({} if stated == "option" else {stated: -9999})
    store = {}
    write_pyramid(image, store, scale_factors=[{"x": 2}], nodata=-9999 if stated == "option" else "stated")
    window = document(store)["omero"]["channels"][0]["window"]
    assert 150 <= window["start"] < window["end"] <= 200


def test_omero__of_an_image_without_channels_is_its_own(tmp_path):
    shown = {"channels": [{"color": "FFFFFF", "window": {"min": 0, "max": 9, "start": 1, "end": 2}}]}
    image = to_image(noise((20, 16))).assign_attrs(omero=shown)
    write_pyramid(image, tmp_path / "a", scale_factors=[2])
    assert document(tmp_path / "a")["omero"] == shown
    assert open_pyramid(tmp_path / "a")["scale1/image"].attrs == {"omero": shown}


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ({"channels": [{"color": "red"}, {}, {}]}, "6 hexadecimal digits"),
        ({"channels": [{"window": {"start": "low"}}, {}, {}]}, r"channels\[0\].window.start"),
        ({"channels": {"DAPI": {}}}, "no object as OME-NGFF has it"),
        ("green", "no object as OME-NGFF has it"),
    ],
)
def test_omero__what_is_wrong_is_refused_before_anything_is_written(tmp_path, shown, message):
    with pytest.raises(ValueError, match=message):
        write_pyramid(channels_image(shown), tmp_path / "a", scale_factors=[2])
    assert not (tmp_path / "a").exists()


def test_omero__of_other_channels_is_left_out_with_a_warning(tmp_path):
    image = channels_image({"channels": [{"label": "x", "color": "111111"}]})
    with pytest.warns(UserWarning, match="describes other channels than \\['DAPI', 'GFP', 'RFP'\\]") as caught:
        write_pyramid(image, tmp_path / "a", scale_factors=[2])
    assert caught[0].filename == __file__
    assert len(document(tmp_path / "a")["omero"]["channels"]) == 3


@pytest.mark.parametrize(("version", "layout"), FORMATS)
def test_image_label__keeps_colors_and_properties(tmp_path, version, layout):
    image = to_image(noise((20, 16)))
    write_pyramid(image, tmp_path / "a", scale_factors=[2], version=version, layout=layout)
    labels = to_image(noise((20, 16), "uint8"))
    said = {
        "colors": [{"label-value": 3, "rgba": [1, 2, 3, 4]}],
        "properties": [{"label-value": 3, "class": "nucleus"}],
    }
    write_labels(labels.assign_attrs({"image-label": said}), tmp_path / "a", "cells", method="nearest")
    for place in ("a", "b"):
        found = document(tmp_path / place / "labels" / "cells")["image-label"]
        assert {key: found[key] for key in said} == said
        assert found["source"] == {"image": "../../"}
        if place == "a":
            write_pyramid(open_pyramid(tmp_path / "a"), tmp_path / "b", version=version, layout=layout)


def test_image_label__states_the_image_and_the_version_that_it_is_written_to(tmp_path):
    write_pyramid(to_image(noise((20, 16))), tmp_path / "a", scale_factors=[2], version="0.5")
    elsewhere = {"version": "0.4", "source": {"image": "elsewhere"}}
    labels = to_image(noise((20, 16), "uint8")).assign_attrs({"image-label": elsewhere})
    write_labels(labels, tmp_path / "a", "cells", method="nearest")
    found = document(tmp_path / "a" / "labels" / "cells")["image-label"]
    assert (found["version"], found["source"]) == ("0.5", {"image": "../../"})


# --- further coordinate systems --------------------------------------------------------------------------------


def placed(tmp_path):
    """Write a pyramid of 0.6 with a second coordinate system, its levels in one of another name than ours."""
    write_pyramid(to_image(noise((12, 8)), scale=0.5), tmp_path / "a", scale_factors=[2], version="0.6")
    group = zarr.open_group(tmp_path / "a")
    document = json.loads(json.dumps(group.attrs["ome"]).replace('"intrinsic"', '"stage"'))
    (entry,) = document["multiscales"]
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in ("v", "u")]
    entry["coordinateSystems"].append({"name": "atlas", "axes": axes})
    ends = {"input": {"name": "stage"}, "output": {"name": "atlas"}}
    entry["coordinateTransformations"] = [{"type": "affine", "affine": [[0, 1, 5], [1, 0, 7]], **ends}]
    group.attrs["ome"] = document
    assert validate(tmp_path / "a").findings == ()
    return entry


def entry_of(place):
    return zarr.open_group(place, mode="r").attrs["ome"]["multiscales"][0]


def test_further_systems__are_written_as_they_were_read(tmp_path):
    said = placed(tmp_path)
    keys = ("coordinateSystems", "coordinateTransformations")
    write_pyramid(open_pyramid(tmp_path / "a"), tmp_path / "b", version="0.6")
    write_pyramid(open_image(tmp_path / "a"), tmp_path / "c", scale_factors=[2], version="0.6")
    convert(tmp_path / "a", tmp_path / "d", version="0.6")
    for place in "bcd":
        assert {key: entry_of(tmp_path / place)[key] for key in keys} == {key: said[key] for key in keys}
        assert validate(tmp_path / place).findings == ()
        assert all("coordinateSystems" not in node.attrs for _, node in zarr.open_group(tmp_path / place).members(2))


def test_further_systems__that_cannot_be_written_are_named_in_a_warning(tmp_path):
    placed(tmp_path)
    tree = open_pyramid(tmp_path / "a")
    with pytest.warns(UserWarning, match="further coordinate systems, is not written: OME-NGFF 0.5 has none"):
        write_pyramid(tree, tmp_path / "b", version="0.5")
    turned = tree["scale0"].to_dataset()["image"].transpose("x", "y")
    with pytest.warns(UserWarning, match="not of the axes"):
        write_pyramid(turned, tmp_path / "c", scale_factors=[2], version="0.6")
    assert len(entry_of(tmp_path / "c")["coordinateSystems"]) == 1
