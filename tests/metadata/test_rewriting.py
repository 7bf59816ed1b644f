"""Attributes of a group that has metadata: what a pyramid, a version or a removal changes of them, and what stays."""

import copy

import pytest

from multiscale_sampler import Axis
from multiscale_sampler.metadata import (
    VERSIONS,
    WRITTEN_VERSIONS,
    attributes_without_levels,
    convention_attributes,
    converted_attributes,
    further_system_names,
    image_attributes,
    label_list_attributes,
    paths_written_by_us,
    relocated_attributes,
    stated_recipe,
    with_mixed_recipe,
    with_published,
    with_recipe,
)

PATHS = ["scale0/em", "scale1/em", "scale2/em", "scale3/em"]
BASE = (Axis("y", 24, 0.5, 3.0, "micrometer"), Axis("x", 24, 0.25, -1.0, "micrometer"))
# By 2, 4 and 6, so that the last level comes from the second.
LEVELS = {path: tuple(axis.coarsen(factor) for axis in BASE) for path, factor in zip(PATHS, (1, 2, 4, 6), strict=True)}
RECIPE = {"method": "mean", "boundary": "pad", "scale_factors": [[2, 2], [4, 4], [6, 6]]}


def published(version="0.5", **options):
    """Return the attributes of a pyramid of this package, with those of the convention where there is room."""
    attributes = image_attributes(
        list(LEVELS.values()),
        PATHS,
        version=version,
        name="em",
        method="mean",
        made_by="write_pyramid",
        recipe=RECIPE,
        written=PATHS,
        **options,
    )
    if VERSIONS[version].namespace is None:
        return attributes
    return attributes | convention()


def convention():
    assets = [path.partition("/")[0] for path in PATHS]
    return convention_attributes(list(LEVELS.values()), [0, 0, 1, 1], assets, resampling_method="average")


def document(attributes):
    return attributes.get("ome", attributes)


def entry(attributes):
    return document(attributes)["multiscales"][0]


# --- published into ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
def test_with_published__keeps_what_the_pyramid_does_not_state(version):
    old = published(version, omero={"channels": [1]})
    entry(old).update(name="old", of="somebody", coordinateTransformations=[{"type": "identity"}])
    document(old)["multiscales"].append({"name": "second"})
    document(old)["series"] = ["0"]
    new = published(version, omero={"channels": [2]})
    result = with_published({**old, "note": 1}, new)
    assert result["note"] == 1
    assert document(result)["series"] == ["0"]
    assert document(result)["omero"] == {"channels": [1]}
    assert document(result)["multiscales"] == [{**entry(new), "of": "somebody"}, {"name": "second"}]
    assert {key: result[key] for key in result if key != "note"}.keys() == old.keys()


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
def test_with_published__into_a_group_without_metadata(version):
    new = published(version)
    assert with_published({"note": 1}, new) == {"note": 1, **new}
    assert with_published({"note": 1, "ome": "text"}, new) == {"note": 1, "ome": "text"} | new


# --- in another version --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
@pytest.mark.parametrize("other", WRITTEN_VERSIONS)
def test_converted_attributes__are_those_of_the_other_version(version, other):
    old = {**published(version, omero={"channels": []}), "note": 1}
    before = copy.deepcopy(old)
    new = converted_attributes(old, LEVELS, other, restated=False)
    assert old == before
    assert new.pop("note") == 1
    expected = published(other, omero={"channels": []})
    # What 0.4 has no room for does not come back.
    convention_keys = () if "0.4" in (version, other) else ("zarr_conventions", "multiscales")
    assert {key: new[key] for key in convention_keys} == {key: expected[key] for key in convention_keys}
    assert document(new).keys() == document(expected).keys()
    assert entry(new) == entry(expected)
    assert ("zarr_conventions" in new) == bool(convention_keys)


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
def test_converted_attributes__are_restated_only_where_that_is_asked(version):
    old = published(version)
    entry(old)["datasets"][0]["of"] = "somebody"
    moved_levels = {
        path: tuple(Axis(axis.name, axis.size, axis.scale, axis.translation + 1, axis.unit) for axis in axes)
        for path, axes in LEVELS.items()
    }
    same = converted_attributes(old, moved_levels, version, restated=False)
    assert entry(same)["datasets"] == entry(old)["datasets"]
    new = converted_attributes(old, moved_levels, version, restated=True)
    assert entry(new)["datasets"] != entry(old)["datasets"]
    assert entry(new)["datasets"][0]["of"] == "somebody"
    assert [dataset["path"] for dataset in entry(new)["datasets"]] == PATHS


def test_relocated_attributes__of_labels_state_their_version_in_0_4_alone():
    label = {"version": "0.5", "colors": []}
    attributes = {"ome": {"version": "0.5", "image-label": label}, "note": 1}
    assert relocated_attributes(attributes, "0.4") == {"image-label": {"version": "0.4", "colors": []}, "note": 1}
    for version in ("0.5", "0.6"):
        expected = {"ome": {"version": version, "image-label": {"colors": []}}, "note": 1}
        assert relocated_attributes(attributes, version) == expected


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
@pytest.mark.parametrize("other", WRITTEN_VERSIONS)
def test_relocated_attributes__of_a_list_of_labels(version, other):
    names = ["cells", "nuclei"]
    assert relocated_attributes(label_list_attributes(names, version=version), other) == label_list_attributes(
        names, version=other
    )


def test_relocated_attributes__without_metadata_get_none():
    assert relocated_attributes({"note": 1}, "0.5") == {"note": 1}
    assert relocated_attributes({"note": 1}, "0.4") == {"note": 1}


def test_further_system_names__are_those_to_which_no_level_leads():
    attributes = published("0.6", systems={"name": "stage", "axes": ["y", "x"], "coordinateSystems": [{"name": "a"}]})
    assert further_system_names(attributes) == ("a",)
    assert further_system_names(published("0.6")) == further_system_names(published("0.5")) == ()
    assert further_system_names({}) == ()


# --- with other levels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
def test_with_recipe__of_all_levels_names_the_method_of_all(version):
    result = with_recipe(published(version), {"method": "median", "boundary": "trim"}, resampling_method="middle")
    assert entry(result)["type"] == "median"
    assert stated_recipe(result) == {"method": "median", "boundary": "trim"}
    assert entry(result)["metadata"]["method"] == "multiscale_sampler.rebuild_levels"
    assert paths_written_by_us(result) == tuple(PATHS)
    if version != "0.4":
        assert result["multiscales"]["resampling_method"] == "middle"


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
def test_with_mixed_recipe__names_no_method(version):
    result = with_mixed_recipe(published(version))
    assert entry(result)["type"] == "mixed"
    assert stated_recipe(result) == {**RECIPE, "method": "mixed"}
    if version != "0.4":
        assert result["multiscales"]["resampling_method"] == "custom"


@pytest.mark.parametrize("version", WRITTEN_VERSIONS)
def test_attributes_without_levels__lists_what_is_there(version):
    result = attributes_without_levels(published(version), LEVELS, ["scale2/em"])
    assert [dataset["path"] for dataset in entry(result)["datasets"]] == ["scale0/em", "scale1/em", "scale3/em"]
    assert stated_recipe(result) == {**RECIPE, "scale_factors": [[2, 2], [6, 6]]}
    assert entry(result)["metadata"]["written"] == PATHS


@pytest.mark.parametrize("with_ome", [True, False])
def test_attributes_without_levels__what_was_derived_from_a_removed_level_is_derived_from_the_base(with_ome):
    result = attributes_without_levels(published() if with_ome else convention(), LEVELS, ["scale1/em"])
    base, second, third = result["multiscales"]["layout"]
    assert base == {"asset": "scale0"}
    assert (second["asset"], second["derived_from"]) == ("scale2", "scale0")
    assert second["transform"] == {"scale": [4.0, 4.0], "translation": [1.5, 1.5]}
    assert (third["asset"], third["derived_from"]) == ("scale3", "scale0")
    assert third["transform"] == {"scale": [6.0, 6.0], "translation": [2.5, 2.5]}


def test_stated_recipe__is_that_of_this_package_alone():
    assert stated_recipe(published()) == RECIPE
    other = published()
    entry(other)["metadata"]["method"] = "another.package"
    assert stated_recipe(other) is None
    assert stated_recipe({}) is None
