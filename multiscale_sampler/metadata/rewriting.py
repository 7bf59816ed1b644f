"""Changes of a group's metadata: a pyramid published, another version, levels removed or recomputed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from .._version import __version__
from ..image.axes import Axis
from .multiscales_convention import shorter_layout
from .parsing import axes_as_written, further_systems, path_of_dataset, systems_of_levels
from .versions import (
    MIXED_METHODS,
    OME_KEYS,
    OWN_METADATA,
    VERSIONS,
    NgffVersion,
    entry_version,
    in_namespace,
    namespace_of,
    with_namespace,
)
from .writing import RULES, axes_keys, axis_entry, dataset_entry


def with_published(existing: Mapping[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's attributes with a pyramid's published in them.

    What the metadata said before and the new ones do not say stays: further entries, further keys of the entry,
    how to display the channels. Transformations of the whole entry go: those of its levels contain them.
    """
    within = "ome" if "ome" in published else None
    old = existing.get("ome", {}) if within else existing
    new = published["ome"] if within else published
    entries = old.get("multiscales") if isinstance(old, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return {**existing, **published}
    first = {key: value for key, value in entries[0].items() if key != "coordinateTransformations"}
    namespace = {
        **old,
        **new,
        "multiscales": [{**first, **new["multiscales"][0]}, *entries[1:]],
        **{key: old[key] for key in ("omero",) if key in old},
    }
    return {**existing, **published, "ome": namespace} if within else {**existing, **published, **namespace}


def are_published(existing: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Whether a group's attributes say already what would be published in them, whichever version of ours wrote it."""
    changed = with_published(existing, json.loads(json.dumps(published)))
    return _without_own_version(changed) == _without_own_version(existing)


def _without_own_version(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    if not (known := _own_metadata(attributes)):
        return attributes
    return _with_entry(attributes, {"metadata": {key: value for key, value in known.items() if key != "version"}})


def relocated_attributes(attributes: Mapping[str, Any], version: NgffVersion) -> dict[str, Any]:
    """Return a group's attributes with OME-NGFF's own where a version wants them; what they say stays as it is.

    Where a version has no namespace, the zarr convention's ``multiscales`` goes: OME-NGFF's own has that name.
    """
    ome = attributes.get("ome")
    if isinstance(ome, Mapping):
        namespace = {key: value for key, value in ome.items() if key != "version"}
        foreign = {key: value for key, value in attributes.items() if key != "ome"}
    else:
        namespace = {key: value for key, value in attributes.items() if key in OME_KEYS}
        foreign = {key: value for key, value in attributes.items() if key not in OME_KEYS}
    if isinstance(label := namespace.get("image-label"), Mapping):
        stated = {"version": version} if VERSIONS[version].label_version == "checked" else {}
        rest = {key: value for key, value in label.items() if key != "version"}
        namespace["image-label"] = {**rest, **stated}
    if VERSIONS[version].namespace is None:
        foreign = {key: value for key, value in foreign.items() if key not in ("zarr_conventions", "multiscales")}
    return {**foreign, **in_namespace(namespace, version)} if namespace else foreign


def converted_attributes(
    attributes: Mapping[str, Any],
    levels: Mapping[str, Sequence[Axis]],
    version: NgffVersion,
    *,
    restated: bool,
) -> dict[str, Any]:
    """Return the attributes of an image's group in another version.

    Parameters
    ----------
    attributes
        The attributes as they are, in any version.
    levels
        The axes of every level by the path of its array, finest first.
    version
        The version to come to.
    restated
        Whether axes and transformations are to be rewritten from `levels`, because some of them were assumed.
    """
    result = relocated_attributes(attributes, version)
    (entry,) = namespace_of(result)["multiscales"]
    placed = ("axes", "coordinateSystems", "coordinateTransformations", "datasets", "version")
    kept = {key: value for key, value in entry.items() if key not in placed}
    if restated or ("coordinateSystems" in entry) != VERSIONS[version].has_systems:
        place = _restated_place(entry, levels, version)
    else:
        place = {key: entry[key] for key in placed if key != "version" and entry.get(key)}
    return with_namespace(result, {"multiscales": [{**entry_version(version), **kept, **place}]})


def _restated_place(
    entry: Mapping[str, Any], levels: Mapping[str, Sequence[Axis]], version: NgffVersion
) -> dict[str, Any]:
    """Return axes and datasets of an entry, in a version, from the axes of its levels."""
    written, _ = axes_as_written(entry)
    axes = next(iter(levels.values()))
    if written is None or any(isinstance(axis, str) for axis in written):
        written = [axis_entry(axis) for axis in axes]
    by_name = {axis["name"]: axis for axis in written}
    written = [by_name[axis.name] for axis in axes]
    system, stated_axes = axes_keys(written, version, further_systems(entry))
    existing = {path_of_dataset(dataset["path"]): dataset for dataset in entry["datasets"]}
    datasets = [{**existing[path], **dataset_entry(path, axes, version, system)} for path, axes in levels.items()]
    for dataset in () if VERSIONS[version].has_systems else datasets:
        scale, translation = dataset["coordinateTransformations"]
        if not any(translation["translation"]):
            # 0.6 says it so, and what came from there goes back the way it came.
            dataset["coordinateTransformations"] = [scale]
    return {**stated_axes, "datasets": datasets}


def further_system_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the coordinate systems of an image other than that of its levels, which only 0.6 can say."""
    entries = namespace_of(attributes).get("multiscales")
    if not isinstance(entries, list) or not entries:
        return ()
    names = [system.get("name") for system in entries[0].get("coordinateSystems", ())]
    outputs = systems_of_levels(entries[0])
    return tuple(str(name) for name in names if name not in outputs)


def paths_written_by_us(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of the arrays that this package wrote into a group, by the group's own metadata."""
    written = _own_metadata(attributes).get("written")
    if not isinstance(written, list | tuple) or not all(isinstance(path, str) for path in written):
        return ()
    return tuple(written)


def stated_recipe(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how this package made the levels of a group, by the group's own metadata; None if it did not."""
    metadata = _own_metadata(attributes)
    ours = str(metadata.get("method")).startswith("multiscale_sampler.")
    recipe = metadata.get("kwargs") if ours else None
    return recipe if isinstance(recipe, Mapping) else None


def stated_rules(attributes: Mapping[str, Any]) -> int:
    """Return the number of the rules by which this package made a pyramid; 0 where it had none yet.

    From 1 on, levels of a packed base are packed alike, and what it states as missing is left out.
    """
    rules = _own_metadata(attributes).get("rules", 0)
    return rules if isinstance(rules, int) else 0


def is_mixed(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe is that of levels that were made by several methods, of which it names none."""
    return recipe.get("method") == MIXED_METHODS


def with_recipe(attributes: Mapping[str, Any], recipe: Mapping[str, Any], *, resampling_method: str) -> dict[str, Any]:
    """Return the attributes of an image after all its levels were recomputed by a recipe.

    `resampling_method` is what the zarr convention calls the method of the recipe. Where levels stay that were made
    before there were rules (`with_mixed_recipe`), the pyramid keeps to that time.
    """
    known = _own_metadata(attributes)
    is_of_before = is_mixed(recipe) and stated_recipe(attributes) is not None and not stated_rules(attributes)
    metadata = {
        **known,
        "method": "multiscale_sampler.rebuild_levels",
        "version": __version__,
        "kwargs": dict(recipe),
        **({} if is_of_before else {"rules": RULES}),
    }
    changed = _with_entry(attributes, {"type": recipe["method"], "metadata": metadata})
    convention = changed.get("multiscales")
    if isinstance(convention, Mapping):
        changed["multiscales"] = {**convention, "resampling_method": resampling_method}
    return changed


def with_mixed_recipe(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an image whose levels were made by several methods, of which the recipe names none."""
    recipe = {**_own_metadata(attributes).get("kwargs", {}), "method": MIXED_METHODS}
    return with_recipe(attributes, recipe, resampling_method="custom")


def attributes_without_levels(
    attributes: Mapping[str, Any], levels: Mapping[str, Sequence[Axis]], removed: Sequence[str]
) -> dict[str, Any]:
    """Return the attributes of an image without some of its levels; `levels` are the axes of all, by path."""
    changed: dict[str, Any] = {}
    if _convention_alone(attributes) is None:
        entry = namespace_of(attributes)["multiscales"][0]
        changed["datasets"] = [
            dataset for dataset in entry["datasets"] if path_of_dataset(dataset["path"]) not in removed
        ]
    metadata = _own_metadata(attributes)
    ladder = metadata.get("kwargs", {}).get("scale_factors")
    if isinstance(ladder, list) and len(ladder) == len(levels) - 1:
        kept = [factors for path, factors in zip(list(levels)[1:], ladder, strict=True) if path not in removed]
        changed["metadata"] = {**metadata, "kwargs": {**metadata["kwargs"], "scale_factors": kept}}
    result = _with_entry(attributes, changed)
    convention = result.get("multiscales")
    if isinstance(convention, Mapping):
        result["multiscales"] = {**convention, "layout": shorter_layout(convention["layout"], levels, removed)}
    return result


def removed_levels(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers that removed levels had when the pyramid was written, by their paths."""
    stated = _own_metadata(attributes).get("removed")
    items = stated.items() if isinstance(stated, Mapping) else ()
    return {path: number for path, number in items if isinstance(number, int)}


def with_removed_levels(attributes: Mapping[str, Any], removed: Mapping[str, int]) -> dict[str, Any]:
    """Return the attributes of an image that states which levels were removed, by their paths and numbers."""
    metadata = {**_own_metadata(attributes), "removed": {**removed_levels(attributes), **removed}}
    return _with_entry(attributes, {"metadata": metadata})


def _with_entry(attributes: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's attributes with keys of the first of its multiscales changed, of the convention alone ours."""
    if (convention := _convention_alone(attributes)) is not None:
        ours = {OWN_METADATA: changed["metadata"]} if "metadata" in changed else {}
        return {**attributes, "multiscales": {**convention, **ours}}
    first, *others = namespace_of(attributes)["multiscales"]
    return with_namespace(attributes, {"multiscales": [{**first, **changed}, *others]})


def _convention_alone(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the zarr convention's ``multiscales`` where there is no metadata of OME-NGFF beside it."""
    convention = attributes.get("multiscales")
    return convention if "ome" not in attributes and isinstance(convention, Mapping) else None


def _own_metadata(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    if (convention := _convention_alone(attributes)) is not None:
        return cast("Mapping[str, Any]", convention.get(OWN_METADATA, {}))
    entries = namespace_of(attributes).get("multiscales")
    entry = entries[0] if isinstance(entries, list) and entries else None
    metadata = entry.get("metadata") if isinstance(entry, Mapping) else None
    return metadata if isinstance(metadata, Mapping) else {}
