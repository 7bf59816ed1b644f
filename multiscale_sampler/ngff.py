"""Axes to OME-NGFF ``multiscales`` and back, for the versions of the specification; dicts only, no files.

Writes 0.4, 0.5 and 0.6, reads 0.1 to 0.6. The specification: https://ngff.openmicroscopy.org. Beside it stands the
domain-agnostic ``multiscales`` convention of https://github.com/zarr-conventions/multiscales, which the default
layout carries too.
"""

from __future__ import annotations

import colorsys
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ._version import __version__
from .axes import Axis, AxisType
from .orientation import ORIENTATIONS, check_orientations

NgffVersion: TypeAlias = Literal["0.4", "0.5", "0.6"]
Transforms: TypeAlias = "Sequence[Mapping[str, Any]]"

ZARR_FORMATS: dict[NgffVersion, Literal[2, 3]] = {"0.4": 2, "0.5": 3, "0.6": 3}
TYPE_ORDER: dict[AxisType, int] = {"time": 0, "channel": 1, "space": 2}
# "the length of axes is 2-5"; versions before 0.3 had no axes and were always these five.
MOST_AXES = 5
# What stands under "ome" from 0.5 on, and beside everything else before.
OME_KEYS = (
    *("multiscales", "omero", "image-label", "labels", "plate", "well", "bioformats2raw.layout", "series", "_creator"),
)
# The name that 0.6's text gives the coordinate system of a pyramid's levels.
SYSTEM = "intrinsic"
# Attributes of a coordinate of channels, or of an image, that are metadata of the group in a store.
OMERO, IMAGE_LABEL, SYSTEMS = "omero", "image-label", "coordinateSystems"
# Where a pyramid without OME-NGFF metadata says what this package wrote.
OWN_METADATA = "multiscale_sampler:metadata"
OLD_AXES = ("t", "c", "z", "y", "x")

# The specification asks for names of the UDUNITS-2 database; these are the spellings that files have for them.
UNIT_NAMES = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometre", "micrometers"), "micrometer"),
    **dict.fromkeys(("nm", "nanometre", "nanometers"), "nanometer"),
    **dict.fromkeys(("mm", "millimetre", "millimeters"), "millimeter"),
    **dict.fromkeys(("cm", "centimetre", "centimeters"), "centimeter"),
    **dict.fromkeys(("m", "metre", "meters", "metres"), "meter"),
    **dict.fromkeys(("km", "kilometre", "kilometers"), "kilometer"),
    **dict.fromkeys(("s", "sec", "seconds"), "second"),
    **dict.fromkeys(("ms", "milliseconds"), "millisecond"),
    **dict.fromkeys(("min", "minutes"), "minute"),
    **dict.fromkeys(("h", "hours"), "hour"),
}
NANOSECONDS = 1e-9

MULTISCALES_CONVENTION = {
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "name": "multiscales",
    "description": "Multiscale layout of zarr datasets",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v0.1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v0.1/README.md",
}
# Contrast from here to there of the values, so that single hot voxels do not darken the rest.
WINDOW_QUANTILES = (0.001, 0.999)
CHANNEL_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
# Colours are a help for viewers that have none of their own, not a table of all ids.
MOST_COLORS = 1024
LARGEST_SHOWN_ID = 2**53
GOLDEN_RATIO = 0.618033988749895
# What stands for the method where levels were made by several.
MIXED_METHODS = "mixed"
RESAMPLING_NAMES = {"mean": "average", MIXED_METHODS: "custom"}


@dataclass(frozen=True)
class Dataset:
    """One level as the metadata describe it."""

    path: str
    """Path of the array, relative to the group."""
    scale: tuple[float, ...] | None
    """Spacing along each axis; None where the store says nothing."""
    translation: tuple[float, ...] | None
    """Position of sample 0 along each axis; None where the store gives neither it nor a scale."""


@dataclass(frozen=True)
class Multiscales:
    """One entry of a group's ``multiscales``, in one form for all versions."""

    version: str
    """Version of the specification, as stated."""
    name: str | None
    """Name of the image."""
    axes: tuple[tuple[str, AxisType | None, str | None], ...] | None
    """Name, type and unit of each axis; None where an old store says nothing."""
    datasets: tuple[Dataset, ...]
    """The levels, in the order of the metadata."""
    orientations: Mapping[str, str]
    """The anatomical orientation of axes, by name; those that do not say it left out."""
    channel_names: tuple[str, ...] | None
    """Labels of the channels, from ``omero``."""
    omero: Mapping[str, Any] | None = None
    """How to display the channels, as it is written."""
    systems: Mapping[str, Any] | None = None
    """Coordinate systems beside that of the levels, with the transformations to them; None without any."""
    image_label: Mapping[str, Any] | None = None
    """What makes the image one of labels, as it is written."""
    assumed: tuple[str, ...] = ()
    """What was assumed where the metadata say more or less than the specification lets them."""


def ngff_order(axes: Sequence[Axis]) -> tuple[int, ...]:
    """Return the order in which OME-NGFF wants axes: time, channel, space, each kind as it stands.

    "The entries MUST be ordered by "type" where the "time" axis must come first (if present), followed by the
    "channel" or custom axis (if present) and the axes of type "space"."
    """
    return tuple(sorted(range(len(axes)), key=lambda index: TYPE_ORDER[axes[index].type or "space"]))


def check_exportable(axes: Sequence[Axis], version: NgffVersion = "0.5") -> None:
    """Refuse axes that a version of OME-NGFF cannot say, with what to do about it."""
    check_orientations({axis.name: axis.orientation for axis in axes if axis.orientation is not None})
    names = [axis.name for axis in axes]
    counts = {kind: sum(axis.type == kind for axis in axes) for kind in TYPE_ORDER}
    # "The length of "axes" must be between 2 and 5"; "The "axes" MUST contain 2 or 3 entries of "type:space""
    if not 2 <= counts["space"] <= 3:
        raise ValueError(
            f"OME-NGFF wants 2 or 3 spatial axes, the image has {counts['space']!r} among {names!r}; select or stack "
            "along the others, or keep the pyramid in xarray (to_multiscale)"
        )
    if counts["time"] > 1 or counts["channel"] > 1 or len(axes) > MOST_AXES:
        raise ValueError(
            f"OME-NGFF wants at most one time and one channel axis, the image has {names!r}; "
            "select along one of them, or keep the pyramid in xarray (to_multiscale)"
        )
    for axis in axes:
        scale = _line(axis)[0]
        # 0.6: "scale" has an exclusive minimum of 0.
        if version == "0.6" and scale < 0:
            raise ValueError(
                f"OME-NGFF 0.6 wants scales above 0, and {axis.name!r} descends in steps of {scale!r}; reverse it with "
                f"image.isel({axis.name}=slice(None, None, -1)), or write version '0.5'"
            )


def _line(axis: Axis) -> tuple[float, float, str | None]:
    """Return scale, translation and unit of an axis as OME-NGFF says them."""
    if axis.values is None:
        return axis.scale, axis.translation, UNIT_NAMES.get(axis.unit or "", axis.unit)
    if axis.type == "channel":
        # "scale ... defaulting to 1.0"; the labels themselves go to omero and to the coordinate array.
        return 1.0, 0.0, None
    if axis.values.dtype.kind in "mM":
        moments = axis.values.astype(f"{axis.values.dtype.kind}8[ns]").astype(np.int64)
        steps = np.unique(np.diff(moments))
        if len(steps) <= 1 and (len(steps) == 0 or steps[0] != 0):
            step = float(steps[0]) * NANOSECONDS if len(steps) else 1.0
            return step, float(moments[0]) * NANOSECONDS, "second"
    raise ValueError(
        f"the coordinates of {axis.name!r} are not evenly spaced, and OME-NGFF knows only scale and translation; "
        f"resample the image, or number the samples with image.drop_vars({axis.name!r}), or keep the pyramid in "
        "xarray (to_multiscale)"
    )


def image_attributes(
    levels: Sequence[Sequence[Axis]],
    paths: Sequence[str],
    *,
    version: NgffVersion,
    name: str,
    method: str,
    made_by: str,
    recipe: Mapping[str, Any],
    written: Sequence[str],
    omero: Mapping[str, Any] | None = None,
    image_label: Mapping[str, Any] | None = None,
    systems: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the attributes of a group that make it an OME-NGFF image.

    Parameters
    ----------
    levels
        The axes of every level, finest first.
    paths
        The path of every level's array, relative to the group.
    version
        Version of the specification.
    name
        Name of the image.
    method
        Name of the reduction, for ``type``.
    made_by
        Name of the function that made the levels, for ``metadata``.
    recipe
        How the levels were made, for ``metadata``.
    written
        Paths of all arrays that were written, for ``metadata``: what may be replaced.
    omero
        How to display the channels.
    image_label
        What makes the image one of labels.
    systems
        Coordinate systems beside that of the levels, as `parse` finds them; for 0.6.
    """
    axes_entry = [_axis_entry(axis) for axis in levels[0]]
    system, placed = SYSTEM, {"axes": axes_entry}
    if version == "0.6":
        system, placed = _systems_entry(axes_entry, systems)
    multiscales: dict[str, Any] = {
        "name": name,
        **placed,
        "datasets": [_dataset_entry(path, axes, version, system) for path, axes in zip(paths, levels, strict=True)],
        "type": method,
        "metadata": {
            "description": "levels reduced from the base by multiscale_sampler",
            "method": f"multiscale_sampler.{made_by}",
            "version": __version__,
            "kwargs": dict(recipe),
            "written": list(written),
        },
    }
    display: dict[str, Any] = {} if omero is None else {"omero": dict(omero)}
    if image_label is not None:
        display["image-label"] = dict(image_label)
    if version == "0.4":
        # "version" is only SHOULD in 0.4, yet clients refuse a store without it.
        return {"multiscales": [{"version": version, **multiscales}], **display}
    return {"ome": {"version": version, "multiscales": [multiscales], **display}}


def _systems_entry(axes: Sequence[Mapping[str, Any]], systems: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return the name of the coordinate system of the levels, and what 0.6 says of it and of others."""
    further = systems or {"name": SYSTEM, "coordinateSystems": ()}
    transforms = further.get("coordinateTransformations")
    return further["name"], {
        "coordinateSystems": [{"name": further["name"], "axes": list(axes)}, *further["coordinateSystems"]],
        **({"coordinateTransformations": transforms} if transforms else {}),
    }


def _axis_entry(axis: Axis) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": axis.name, "type": axis.type or "space"}
    unit = _line(axis)[2]
    if unit is not None:
        entry["unit"] = unit
    # "The orientation field MUST only be used on spatial axes" (RFC 4). The schemas of 0.4 to 0.6 let axes have more
    # keys than their own.
    if axis.orientation is not None and axis.type == "space":
        entry["orientation"] = {"type": "anatomical", "value": axis.orientation}
    return entry


def _dataset_entry(path: str, axes: Sequence[Axis], version: NgffVersion, system: str = SYSTEM) -> dict[str, Any]:
    lines = [_line(axis) for axis in axes]
    scales, translations = [scale for scale, _, _ in lines], [translation for _, translation, _ in lines]
    return {"path": path, "coordinateTransformations": transformations(path, scales, translations, version, system)}


def transformations(
    path: str, scales: Sequence[float], translations: Sequence[float], version: NgffVersion, system: str = SYSTEM
) -> list[dict[str, Any]]:
    """Return the transformations that place a level, as a version says them."""
    scale = {"type": "scale", "scale": list(scales)}
    translation = {"type": "translation", "translation": list(translations)}
    if version != "0.6":
        # "They MUST contain exactly one scale transformation"; "If translation is given it MUST be listed after scale"
        return [scale, translation]
    ends = {"input": {"path": path}, "output": {"name": system}}
    if not any(translations):
        # A sequence for level 0 is more than some clients read.
        return [{**scale, **ends}]
    return [{"type": "sequence", **ends, "transformations": [scale, translation]}]


def omero(labels: Sequence[str], samples: Sequence[npt.NDArray[Any]]) -> dict[str, Any]:
    """Return how to display channels: label, colour, contrast from a sample of each channel's values.

    "window": "min" and "max" are the range of the values (of the dtype, for integers), "start" and "end" what
    is shown. Colours are six hexadecimal digits without "#", on which some clients stumble.
    """
    channels = []
    for number, (label, sample) in enumerate(zip(labels, samples, strict=True)):
        color = "FFFFFF" if len(labels) == 1 else CHANNEL_COLORS[number % len(CHANNEL_COLORS)]
        channels.append({"label": label, "color": color, "active": True, "window": _window(sample)})
    return {"channels": channels}


def channels_added(attributes: Mapping[str, Any], display: Mapping[str, Any], start: int) -> dict[str, Any]:
    """Return the attributes that say how to display channels, with those of `display` from `start` on added."""
    within = isinstance(attributes.get("ome"), Mapping)
    namespace: Any = attributes["ome"] if within else attributes
    known = namespace.get("omero")
    if not isinstance(known, Mapping) or not isinstance(known.get("channels"), list):
        return {}
    added = [*known["channels"][:start], *display.get("channels", ())[start:]]
    changed = {"omero": {**known, "channels": added}}
    return {"ome": {**namespace, **changed}} if within else changed


def displayed(stated: Mapping[str, Any], computed: Mapping[str, Any], keys: Sequence[Any]) -> dict[str, Any] | None:
    """Return how to display channels as it is stated, with what must not be missing as it is computed.

    Parameters
    ----------
    stated
        An ``omero`` object; of its channels any part may be missing.
    computed
        What `omero` returns for the channels.
    keys
        What tells each channel: its label, or its number among those that are stated.

    Returns
    -------
    dict or None
        None where the stated channels are others than these.
    """
    entries = stated.get("channels")
    if entries is None:
        return {**stated, **computed}
    labels = [entry.get("label") for entry in entries]
    if len(set(labels)) == len(labels) and all(key in labels for key in keys):
        chosen = [entries[labels.index(key)] for key in keys]
    elif all(isinstance(key, int) and 0 <= key < len(entries) for key in keys):
        chosen = [entries[key] for key in keys]
    elif len(entries) == len(keys):
        chosen = list(entries)
    else:
        return None
    channels = []
    for entry, default, key in zip(chosen, computed["channels"], keys, strict=True):
        named = {"label": key} if isinstance(key, str) else {}
        window = {**default["window"], **entry.get("window", {})}
        channels.append({"color": default["color"], **entry, **named, "window": window})
    return {**stated, "channels": channels}


def _window(sample: npt.NDArray[Any]) -> dict[str, float]:
    values = sample[np.isfinite(sample)].astype(np.float64)
    if not values.size:
        values = np.zeros(1)
    least, greatest = float(values.min()), float(values.max())
    start, end = (float(value) for value in np.quantile(values, WINDOW_QUANTILES))
    if sample.dtype.kind in "iu":
        least, greatest = float(np.iinfo(sample.dtype).min), float(np.iinfo(sample.dtype).max)
    if not end > start:
        # A window must be open, also where the next number is as far away as the spacing of floats is wide.
        end = start + 1.0
        if end == start:
            start = float(np.nextafter(start, -np.inf))
    return {"min": min(least, start), "max": max(greatest, end), "start": start, "end": end}


def image_label(ids: Sequence[int], *, version: NgffVersion, source: str | None) -> dict[str, Any]:
    """Return the ``image-label`` metadata: a colour for each of some ids, always the same for an id, and the image.

    Zero is background; ids that a double cannot hold are left out, as many readers take numbers for doubles.
    """
    shown = [number for number in ids if 0 < number < LARGEST_SHOWN_ID][:MOST_COLORS]
    colors = [{"label-value": number, "rgba": _label_color(number)} for number in shown]
    # From 0.6 on, labels have no version of their own.
    stated = {} if version == "0.6" else {"version": version}
    whose = {} if source is None else {"source": {"image": source}}
    return {**stated, **({"colors": colors} if colors else {}), **whose}


def _label_color(number: int) -> list[int]:
    """Return the colour of an id: hues a golden ratio apart, so that neighbouring ids differ."""
    hue = number * GOLDEN_RATIO % 1.0
    return [*(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 1.0)), 255]


def label_list(names: Sequence[str], *, version: NgffVersion) -> dict[str, Any]:
    """Return the attributes of the group that lists the labels of an image."""
    return {"labels": list(names)} if version == "0.4" else {"ome": {"version": version, "labels": list(names)}}


def listed_labels(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names that the attributes of a ``labels`` group list."""
    namespace: Any = attributes.get("ome", attributes)
    listed: Any = namespace.get("labels") if isinstance(namespace, Mapping) else None
    return tuple(map(str, listed)) if isinstance(listed, Sequence) and not isinstance(listed, str) else ()


def convention_attributes(
    levels: Sequence[Sequence[Axis]], parents: Sequence[int], assets: Sequence[str], *, method: str
) -> dict[str, Any]:
    """Return the attributes of the zarr-conventions ``multiscales`` object.

    "transform" is relative to the level that an entry is derived from (`parents`), in that level's samples.
    """
    layout: list[dict[str, Any]] = [{"asset": assets[0]}]
    for axes, parent, asset in zip(levels[1:], parents[1:], assets[1:], strict=True):
        steps = [_relative(axis, other) for axis, other in zip(axes, levels[parent], strict=True)]
        transform = {"scale": [scale for scale, _ in steps], "translation": [offset for _, offset in steps]}
        layout.append({"asset": asset, "derived_from": assets[parent], "transform": transform})
    resampling = RESAMPLING_NAMES.get(method, method)
    return {
        "zarr_conventions": [dict(MULTISCALES_CONVENTION)],
        "multiscales": {"resampling_method": resampling, "layout": layout},
    }


def _relative(axis: Axis, finer: Axis) -> tuple[float, float]:
    """Return spacing and position of an axis in samples of a finer one, free of the units' rounding."""
    (scale, translation, _), (finer_scale, finer_translation, _) = _line(axis), _line(finer)
    return round(scale / finer_scale, 9), round((translation - finer_translation) / finer_scale, 9)


def merged(existing: Mapping[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
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


def moved(attributes: Mapping[str, Any], version: NgffVersion) -> dict[str, Any]:
    """Return a group's attributes with OME-NGFF's own where a version wants them; what they say stays as it is.

    From 0.5 on they stand under "ome". The zarr convention's ``multiscales`` goes in 0.4, whose own has that name.
    """
    ome = attributes.get("ome")
    if isinstance(ome, Mapping):
        namespace = {key: value for key, value in ome.items() if key != "version"}
        foreign = {key: value for key, value in attributes.items() if key != "ome"}
    else:
        namespace = {key: value for key, value in attributes.items() if key in OME_KEYS}
        foreign = {key: value for key, value in attributes.items() if key not in OME_KEYS}
    if isinstance(label := namespace.get("image-label"), Mapping):
        stated = {"version": version} if version == "0.4" else {}
        rest = {key: value for key, value in label.items() if key != "version"}
        namespace["image-label"] = {**rest, **stated}
    if version != "0.4":
        return {**foreign, "ome": {"version": version, **namespace}} if namespace else foreign
    foreign = {key: value for key, value in foreign.items() if key not in ("zarr_conventions", "multiscales")}
    return {**foreign, **namespace}


def converted(
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
        Whether axes and transformations are to be said anew from `levels`, because something was assumed of them.
    """
    result = moved(attributes, version)
    namespace = result if version == "0.4" else result["ome"]
    (entry,) = namespace["multiscales"]
    placed = ("axes", "coordinateSystems", "coordinateTransformations", "datasets", "version")
    kept = {key: value for key, value in entry.items() if key not in placed}
    stated = {"version": version} if version == "0.4" else {}
    if restated or ("coordinateSystems" in entry) != (version == "0.6"):
        place = _restated(entry, levels, version)
    else:
        place = {key: entry[key] for key in placed if key != "version" and entry.get(key)}
    namespace["multiscales"] = [{**stated, **kept, **place}]
    return result


def _restated(entry: Mapping[str, Any], levels: Mapping[str, Sequence[Axis]], version: NgffVersion) -> dict[str, Any]:
    """Return axes and datasets of an entry, in a version, from the axes of its levels."""
    written, _ = _parse_system(entry)
    if written is None or any(isinstance(axis, str) for axis in written):
        written = [_axis_entry(axis) for axis in next(iter(levels.values()))]
    system, systems = SYSTEM, {"axes": written}
    if version == "0.6":
        system, systems = _systems_entry(written, _further_systems(entry))
    given = {dataset["path"]: dataset for dataset in entry["datasets"]}
    datasets = [{**given[path], **_dataset_entry(path, axes, version, system)} for path, axes in levels.items()]
    for dataset in datasets if version != "0.6" else ():
        scale, translation = dataset["coordinateTransformations"]
        if not any(translation["translation"]):
            # 0.6 says it so, and what came from there goes back the way it came.
            dataset["coordinateTransformations"] = [scale]
    return {**systems, "datasets": datasets}


def _further_systems(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the coordinate systems of an entry beside that of its levels, as an image carries them."""
    outputs = _outputs(entry)
    systems = entry.get("coordinateSystems") or ()
    inner = [system for system in systems if system.get("name") in outputs]
    if len(inner) != 1 or len(systems) == 1:
        return None
    return {
        "name": inner[0]["name"],
        "axes": [axis["name"] for axis in inner[0]["axes"]],
        "coordinateSystems": [system for system in systems if system is not inner[0]],
        "coordinateTransformations": list(entry.get("coordinateTransformations") or ()),
    }


def _outputs(entry: Mapping[str, Any]) -> set[Any]:
    """Return the names of the coordinate systems that the transformations of the levels lead to."""
    return {
        _system_name(transform.get("output"))
        for dataset in entry["datasets"]
        for transform in dataset.get("coordinateTransformations") or ()
    }


def further_systems(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the coordinate systems of an image other than that of its levels, which only 0.6 can say."""
    ome = attributes.get("ome")
    entries = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if not entries:
        return ()
    names = [system.get("name") for system in entries[0].get("coordinateSystems", ())]
    outputs = _outputs(entries[0])
    return tuple(str(name) for name in names if name not in outputs)


def written_by_us(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of the arrays that this package wrote into a group, by the group's own metadata."""
    return tuple(_own_metadata(attributes).get("written", ()))


def recipe_written(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how this package made the levels of a group, by the group's own metadata; None if it did not."""
    metadata = _own_metadata(attributes)
    ours = str(metadata.get("method")).startswith("multiscale_sampler.")
    return metadata.get("kwargs") if ours else None


def with_recipe(attributes: Mapping[str, Any], recipe: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """Return the attributes of an image whose levels were made anew by a recipe: all of them (`whole`), or some.

    Levels of several methods have none that could be named.
    """
    known = _own_metadata(attributes)
    told = recipe if whole else {**known.get("kwargs", {}), "method": MIXED_METHODS}
    metadata = {**known, "method": "multiscale_sampler.rebuild_levels", "version": __version__, "kwargs": dict(told)}
    changed = _with_entry(attributes, {"type": told["method"], "metadata": metadata})
    convention: Any = changed.get("multiscales")
    if isinstance(convention, Mapping):
        named = RESAMPLING_NAMES.get(told["method"], told["method"])
        changed["multiscales"] = {**convention, "resampling_method": named}
    return changed


def without_levels(
    attributes: Mapping[str, Any], levels: Mapping[str, Sequence[Axis]], removed: Sequence[str]
) -> dict[str, Any]:
    """Return the attributes of an image without some of its levels; `levels` are the axes of all, by path."""
    changed: dict[str, Any] = {}
    if _convention_alone(attributes) is None:
        ome = attributes.get("ome")
        entry = (ome if isinstance(ome, Mapping) else attributes)["multiscales"][0]
        changed["datasets"] = [dataset for dataset in entry["datasets"] if dataset["path"] not in removed]
    metadata = _own_metadata(attributes)
    ladder = metadata.get("kwargs", {}).get("scale_factors")
    if isinstance(ladder, list) and len(ladder) == len(levels) - 1:
        kept = [factors for path, factors in zip(list(levels)[1:], ladder, strict=True) if path not in removed]
        changed["metadata"] = {**metadata, "kwargs": {**metadata["kwargs"], "scale_factors": kept}}
    result = _with_entry(attributes, changed)
    convention: Any = result.get("multiscales")
    if isinstance(convention, Mapping):
        result["multiscales"] = {**convention, "layout": _shorter_layout(convention["layout"], levels, removed)}
    return result


def _shorter_layout(
    layout: Sequence[Mapping[str, Any]], levels: Mapping[str, Sequence[Axis]], removed: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the layout of the zarr convention without some levels; what was derived from these is of the base."""
    axes = {path.rpartition("/")[0] or path: along for path, along in levels.items()}
    gone = {path.rpartition("/")[0] or path for path in removed}
    base = layout[0]["asset"]
    kept = []
    for item in layout:
        if item["asset"] in gone:
            continue
        if item.get("derived_from") in gone:
            steps = [_relative(axis, other) for axis, other in zip(axes[item["asset"]], axes[base], strict=True)]
            transform = {"scale": [scale for scale, _ in steps], "translation": [offset for _, offset in steps]}
            item = {**item, "derived_from": base, "transform": transform}
        kept.append(dict(item))
    return kept


def _with_entry(attributes: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's attributes with keys of the first of its multiscales changed, of the convention alone ours."""
    if (convention := _convention_alone(attributes)) is not None:
        ours = {OWN_METADATA: changed["metadata"]} if "metadata" in changed else {}
        return {**attributes, "multiscales": {**convention, **ours}}
    ome: Any = attributes.get("ome")
    within = isinstance(ome, Mapping)
    first, *others = (ome if within else attributes)["multiscales"]
    entries = {"multiscales": [{**first, **changed}, *others]}
    return {**attributes, "ome": {**ome, **entries}} if within else {**attributes, **entries}


def _convention_alone(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the zarr convention's ``multiscales`` where there is no metadata of OME-NGFF beside it."""
    convention = attributes.get("multiscales")
    return convention if "ome" not in attributes and isinstance(convention, Mapping) else None


def _own_metadata(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    if (convention := _convention_alone(attributes)) is not None:
        return cast("Mapping[str, Any]", convention.get(OWN_METADATA, {}))
    ome = attributes.get("ome")
    entries: Any = (ome if isinstance(ome, Mapping) else attributes).get("multiscales")
    entry = entries[0] if isinstance(entries, list) and entries else None
    metadata = entry.get("metadata") if isinstance(entry, Mapping) else None
    return metadata if isinstance(metadata, Mapping) else {}


def is_described(attributes: Mapping[str, Any]) -> bool:
    """Whether a group's attributes are those of anything in OME-NGFF."""
    return "ome" in attributes or any(key in attributes for key in OME_KEYS)


def images_below(attributes: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the paths of the images that a plate, a well, a list of labels or a converted file names.

    None where a group's attributes are nothing of the kind.
    """
    ome = attributes.get("ome")
    namespace = ome if isinstance(ome, Mapping) else attributes
    if "bioformats2raw.layout" in namespace:
        return ("0",)
    for within, listed in (("plate", "wells"), ("well", "images")):
        collection = namespace.get(within)
        if isinstance(collection, Mapping):
            entries: Any = collection.get(listed) or ()
            return tuple(str(entry["path"]) for entry in entries if isinstance(entry, Mapping) and "path" in entry)
    labels = namespace.get("labels")
    return tuple(map(str, labels)) if isinstance(labels, list) else None


def parse(attributes: Mapping[str, Any]) -> Multiscales | None:
    """Return the first multiscale image that a group's attributes describe, or None if there is none.

    Raises
    ------
    ValueError
        If there is one and it cannot be made sense of.
    """
    ome = attributes.get("ome")
    namespace = ome if isinstance(ome, Mapping) else attributes
    entries = namespace.get("multiscales")
    # In 0.4 ``multiscales`` is a list; an object of that name is the zarr convention's.
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        return None
    entry = entries[0]
    if not isinstance(entry, Mapping) or not entry.get("datasets"):
        raise ValueError(f"multiscales[0] has no datasets, found {entry!r}; the metadata of this group are broken")
    try:
        return _parse_entry(namespace, entry)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"multiscales[0] is not as any version has it ({error}): {dict(entry)!r}") from error


def _parse_entry(namespace: Mapping[str, Any], entry: Mapping[str, Any]) -> Multiscales:
    datasets = entry["datasets"]
    system, assumed = _parse_system(entry)
    axes = None if system is None else _parse_axes(system)
    names = [name for name, _, _ in axes or ()]
    if len(set(names)) < len(names):
        raise ValueError(f"the axes of multiscales[0] have the names {names!r}; they must be unique")
    # From 0.6 on, transformations of the entry lead from the system of its levels to others.
    outer = () if "coordinateSystems" in entry else entry.get("coordinateTransformations") or ()
    repeated = [str(d.get("path")) for d in datasets if _repeats(d.get("coordinateTransformations") or ())]
    if repeated:
        assumed.append(f"that all transformations of one kind apply, in their order, to {', '.join(repeated)}")
    if _repeats(outer):
        assumed.append("that all transformations of one kind apply, in their order, to all levels")
    return Multiscales(
        version=str(namespace.get("version") or entry.get("version") or "unknown"),
        name=entry.get("name"),
        axes=axes,
        datasets=tuple(_parse_dataset(dataset, outer, len(names)) for dataset in datasets),
        orientations=_parse_orientations(system or ()),
        channel_names=_parse_channels(namespace),
        omero=_object(namespace.get("omero")),
        systems=_further_systems(entry),
        image_label=_object(namespace.get("image-label")),
        assumed=tuple(assumed),
    )


def _parse_system(entry: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the axes of an entry as they are written, None where it has none, and what was assumed of them."""
    if entry.get("axes") is not None:
        return entry["axes"], []
    systems = entry.get("coordinateSystems")
    if not systems:
        return None, []
    # 0.6: the levels' transformations lead to the system that they all name as output.
    outputs = _outputs(entry)
    named = [system for system in systems if system.get("name") in outputs]
    if len(named) == len(outputs) == 1:
        return named[0]["axes"], []
    chosen = (named or systems)[0]
    return chosen["axes"], [f"that all levels are placed in the coordinate system {chosen.get('name')!r}"]


def _parse_axes(axes: Any) -> tuple[tuple[str, AxisType | None, str | None], ...]:
    # 0.3 had plain names.
    entries = [{"name": axis} if isinstance(axis, str) else axis for axis in axes]
    return tuple((str(axis["name"]), _known_type(axis.get("type")), axis.get("unit")) for axis in entries)


def _parse_orientations(axes: Any) -> dict[str, str]:
    said = {str(axis["name"]): axis.get("orientation") for axis in axes if isinstance(axis, Mapping)}
    return {
        name: str(orientation["value"])
        for name, orientation in said.items()
        if isinstance(orientation, Mapping) and orientation.get("value") in ORIENTATIONS
    }


def _known_type(kind: Any) -> AxisType | None:
    return cast("AxisType", kind) if kind in TYPE_ORDER else None


def _object(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _system_name(reference: Any) -> Any:
    return reference.get("name") if isinstance(reference, Mapping) else reference


def _repeats(transforms: Transforms) -> bool:
    """Whether there are several transformations of one kind, where one of each is allowed."""
    kinds = [kind for kind, _ in _flattened(transforms)]
    return len(set(kinds)) < len(kinds)


def _parse_dataset(dataset: Mapping[str, Any], outer: Transforms, count: int) -> Dataset:
    path = dataset.get("path")
    if not isinstance(path, str):
        raise ValueError(f"a dataset of multiscales[0] has no path, found {dict(dataset)!r}")
    inner = dataset.get("coordinateTransformations") or ()
    lines = list(_flattened([*inner, *outer]))
    identity = any(transform.get("type") == "identity" for transform in inner)
    if not lines and not (identity and count):
        return Dataset(path, None, None)
    length = len(lines[0][1]) if lines else count
    scale, translation = np.ones(length), np.zeros(length)
    for kind, values in lines:
        if len(values) != length:
            raise ValueError(f"the transformations of dataset {path!r} have different lengths: {lines!r}")
        if kind == "scale":
            scale, translation = scale * values, translation * values
        else:
            translation = translation + values
    stated = identity or any(kind == "scale" for kind, _ in lines)
    return Dataset(path, tuple(map(float, scale)) if stated else None, tuple(map(float, translation)))


def _flattened(transforms: Transforms) -> Iterator[tuple[str, list[float]]]:
    """Yield scales and translations in the order in which they apply."""
    for transform in transforms:
        kind = transform.get("type")
        if kind == "sequence":
            yield from _flattened(transform.get("transformations", ()))
        elif kind in ("scale", "translation"):
            values = transform.get(kind)
            if not isinstance(values, Sequence) or isinstance(values, str):
                beside = "; numbers in an array of their own are not read" if "path" in transform else ""
                raise ValueError(f"a {kind} transformation without its numbers: {dict(transform)!r}{beside}")
            yield kind, [float(value) for value in values]
        elif kind != "identity":
            raise ValueError(f"transformation of type {kind!r} is no scale or translation; only those make a grid")


def _parse_channels(namespace: Mapping[str, Any]) -> tuple[str, ...] | None:
    omero = namespace.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if (
        not isinstance(channels, Sequence)
        or not channels
        or not all(isinstance(channel, Mapping) and channel.get("label") for channel in channels)
    ):
        return None
    labels = tuple(str(channel["label"]) for channel in channels)
    return None if labels == numbered_labels(len(labels)) else labels


def stated_method(attributes: Mapping[str, Any]) -> str | None:
    """Return how the levels were made, the ``type`` of the first multiscale image; None where it is not said."""
    namespace: Any = attributes.get("ome", attributes)
    try:
        method = namespace["multiscales"][0]["type"]
    except (KeyError, IndexError, TypeError):
        return None
    return method if isinstance(method, str) else None


def numbered_labels(count: int) -> tuple[str, ...]:
    """Return what channels without names are called in viewers."""
    return tuple(f"channel {number}" for number in range(count))


def coarsest_last(shapes: Sequence[Sequence[int]]) -> list[int]:
    """Return the order in which levels go from the largest to the smallest, those of one size as they stand."""
    return sorted(range(len(shapes)), key=lambda index: -math.prod(shapes[index]))


def level_axes(multiscales: Multiscales, shapes: Sequence[Sequence[int]]) -> tuple[list[tuple[Axis, ...]], list[str]]:
    """Return the axes of every level from the metadata and the arrays' shapes, and what had to be assumed.

    Stores older than 0.4 may lack axes (then they are the last of t, c, z, y, x) and transformations (then
    levels are taken to cover the field of level 0 in windows). The first level must be the largest.
    """
    assumed = list(multiscales.assumed)
    described = multiscales.axes
    if described is None:
        described = tuple((name, None, None) for name in OLD_AXES[-len(shapes[0]) :])
        assumed.append(f"axes {', '.join(name for name, _, _ in described)}")
    for dataset, shape in zip(multiscales.datasets, shapes, strict=True):
        lengths = {len(numbers) for numbers in (shape, dataset.scale, dataset.translation) if numbers is not None}
        if lengths != {len(described)}:
            names = ", ".join(name for name, _, _ in described)
            raise ValueError(
                f"the metadata describe the axes {names}, but {dataset.path!r} has the shape {tuple(shape)!r}, "
                f"the scale {dataset.scale!r} and the translation {dataset.translation!r}"
            )
    unstated = [dataset.path for dataset in multiscales.datasets if dataset.scale is None]
    if multiscales.datasets[0].path in unstated:
        assumed.append("scale 1 at level 0, and levels that are windows of it")
    elif unstated:
        assumed.append(f"that {', '.join(unstated)} are windows of level 0")
    axes = [
        Axis(name, size, unit=unit, type=kind, orientation=multiscales.orientations.get(name))
        for (name, kind, unit), size in zip(described, shapes[0], strict=True)
    ]
    base = _placed(multiscales.datasets[0], axes)
    levels = [base]
    for dataset, shape in zip(multiscales.datasets[1:], shapes[1:], strict=True):
        levels.append(_placed(dataset, _windows(base, shape)))
    return levels, assumed


def _placed(dataset: Dataset, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Return a level's axes at the positions that its metadata state; what they leave out stays as it is."""
    scales = dataset.scale or [axis.scale for axis in axes]
    translations = dataset.translation or [axis.translation for axis in axes]
    return tuple(
        dataclasses.replace(axis, scale=scale, translation=translation)
        for axis, scale, translation in zip(axes, scales, translations, strict=True)
    )


def _windows(base: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return the axes of a level of a shape whose samples are windows of the base's."""
    factors = [max(round(axis.size / size), 1) for axis, size in zip(base, shape, strict=True)]
    return tuple(
        dataclasses.replace(axis.coarsen(factor), size=size)
        for axis, factor, size in zip(base, factors, shape, strict=True)
    )
