"""Reading of OME-NGFF metadata: what groups from any tool, in any version, state, in one form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np

from ..image.axes import Axis
from ..image.kinds import AxisType
from ..image.orientation import ORIENTATIONS
from .omero import default_channel_labels
from .versions import TYPE_ORDER, namespace_of

Transforms: TypeAlias = "Sequence[Mapping[str, Any]]"
OLD_AXES = ("t", "c", "z", "y", "x")
# Far more levels than halvings of any size; each is a document to read.
MOST_LEVELS = 1000
LONGEST_TEXT = 200


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


def parse_multiscales(attributes: Mapping[str, Any]) -> Multiscales | None:
    """Return the first multiscale image that a group's attributes describe, or None if there is none.

    Raises
    ------
    ValueError
        If there is one and it cannot be made sense of.
    """
    namespace = namespace_of(attributes)
    entries = namespace.get("multiscales")
    # In 0.4 ``multiscales`` is a list; an object of that name is the zarr convention's.
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        return None
    entry = entries[0]
    if not isinstance(entry, Mapping) or not entry.get("datasets"):
        raise ValueError(
            f"multiscales[0] has no datasets, found {_beginning_of(entry)}; the metadata of this group are broken"
        )
    if isinstance(entry["datasets"], Sequence) and len(entry["datasets"]) > MOST_LEVELS:
        raise ValueError(
            f"multiscales[0] lists {len(entry['datasets'])} datasets; no image has so many levels (at most "
            f"{MOST_LEVELS} are read), the metadata of this group are broken"
        )
    try:
        return _parse_entry(namespace, entry)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"multiscales[0] is not as any version has it ({error}): {_beginning_of(entry)}") from error
    except RecursionError as error:
        raise ValueError("multiscales[0] is nested too deeply; the metadata of this group are broken") from error


def _beginning_of(value: Any) -> str:
    """Return a value as far as a message has room for it."""
    text = repr(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def _parse_entry(namespace: Mapping[str, Any], entry: Mapping[str, Any]) -> Multiscales:
    datasets = entry["datasets"]
    system, assumed = axes_as_written(entry)
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
    parsed = {dataset.path: dataset for dataset in (_parse_dataset(each, outer, len(names)) for each in datasets)}
    if [*parsed] != (stated := [dataset["path"] for dataset in datasets]):
        assumed.append(f"the paths {', '.join(parsed)} of levels for {', '.join(map(repr, stated))}")
    return Multiscales(
        version=_version(namespace, entry),
        name=name if isinstance(name := entry.get("name"), str) else None,
        axes=axes,
        datasets=tuple(parsed.values()),
        orientations=_parse_orientations(system or ()),
        channel_names=_parse_channels(namespace),
        omero=_object(namespace.get("omero")),
        systems=further_systems(entry),
        image_label=_object(namespace.get("image-label")),
        assumed=tuple(assumed),
    )


def axes_as_written(entry: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the axes of an entry as they are written, None where it has none, and what was assumed of them."""
    if entry.get("axes") is not None:
        return entry["axes"], []
    systems = entry.get("coordinateSystems")
    if not systems:
        return None, []
    # 0.6: the levels' transformations lead to the system that they all name as output.
    outputs = systems_of_levels(entry)
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


def systems_of_levels(entry: Mapping[str, Any]) -> set[Any]:
    """Return the names of the coordinate systems that the transformations of the levels lead to."""
    return {
        _system_name(transform.get("output"))
        for dataset in entry["datasets"]
        for transform in dataset.get("coordinateTransformations") or ()
    }


def _system_name(reference: Any) -> Any:
    return reference.get("name") if isinstance(reference, Mapping) else reference


def further_systems(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the coordinate systems of an entry beside that of its levels, as an image carries them."""
    outputs = systems_of_levels(entry)
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


def _repeats(transforms: Transforms) -> bool:
    """Whether there are several transformations of one kind, where one of each is allowed."""
    kinds = [kind for kind, _ in _flattened(transforms)]
    return len(set(kinds)) < len(kinds)


def _parse_dataset(dataset: Mapping[str, Any], outer: Transforms, count: int) -> Dataset:
    path = dataset.get("path")
    if path is None:
        raise ValueError(f"a dataset of multiscales[0] has no path, found {_beginning_of(dataset)}")
    if not isinstance(path, str):
        raise ValueError(
            f"a dataset of multiscales[0] has the path {path!r}, which is not a text: {_beginning_of(dataset)}"
        )
    path = path_of_dataset(path)
    inner = dataset.get("coordinateTransformations") or ()
    lines = list(_flattened([*inner, *outer]))
    identity = any(transform.get("type") == "identity" for transform in inner)
    if not lines and not (identity and count):
        return Dataset(path, None, None)
    length = len(lines[0][1]) if lines else count
    scale, translation = np.ones(length), np.zeros(length)
    # Axes refuse positions that are not numbers.
    with np.errstate(all="ignore"):
        for kind, values in lines:
            if len(values) != length:
                raise ValueError(f"the transformations of dataset {path!r} have different lengths: {lines!r}")
            if kind == "scale":
                scale, translation = scale * values, translation * values
            else:
                translation = translation + values
    stated = identity or any(kind == "scale" for kind, _ in lines)
    return Dataset(path, tuple(map(float, scale)) if stated else None, tuple(map(float, translation)))


def path_of_dataset(stated: str) -> str:
    """Return the path of a level, which "0/" is as well as "0"."""
    return "/".join(part for part in stated.split("/") if part)


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
                raise ValueError(f"a {kind} transformation without its numbers: {_beginning_of(transform)}{beside}")
            if not all(isinstance(value, int | float) for value in values):
                raise ValueError(
                    f"a {kind} transformation with something else than numbers: {_beginning_of(transform)}"
                )
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
    return None if labels == default_channel_labels(len(labels)) else labels


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
            names = ", ".join(name for name, _, _ in described)[:LONGEST_TEXT]
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
    base = _at_stated_positions(multiscales.datasets[0], axes)
    levels = [base]
    for dataset, shape in zip(multiscales.datasets[1:], shapes[1:], strict=True):
        levels.append(_at_stated_positions(dataset, _coarsened_to(base, shape)))
    return levels, assumed


def _at_stated_positions(dataset: Dataset, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Return a level's axes at the positions that its metadata state; what they leave out stays as it is."""
    scales = dataset.scale or [axis.scale for axis in axes]
    translations = dataset.translation or [axis.translation for axis in axes]
    return tuple(
        dataclasses.replace(axis, scale=scale, translation=translation)
        for axis, scale, translation in zip(axes, scales, translations, strict=True)
    )


def _coarsened_to(base: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return the axes of a level of a shape whose samples are windows of the base's."""
    factors = [max(round(axis.size / size), 1) for axis, size in zip(base, shape, strict=True)]
    return tuple(
        dataclasses.replace(axis.coarsen(factor), size=size)
        for axis, factor, size in zip(base, factors, shape, strict=True)
    )


def finest_first(shapes: Sequence[Sequence[int]]) -> list[int]:
    """Return the order in which levels go from the largest to the smallest, those of one size as they stand."""
    return sorted(range(len(shapes)), key=lambda index: -math.prod(shapes[index]))


def stated_version(attributes: Mapping[str, Any]) -> str:
    """Return the version of OME-NGFF that a group's attributes state, "unknown" where they state none."""
    namespace = namespace_of(attributes)
    entries = namespace.get("multiscales")
    first = entries[0] if isinstance(entries, list) and entries else None
    return _version(namespace, first if isinstance(first, Mapping) else {})


def _version(namespace: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    return str(namespace.get("version") or entry.get("version") or "unknown")


def stated_method(attributes: Mapping[str, Any]) -> str | None:
    """Return how the levels were made, the ``type`` of the first multiscale image; None where it is not said."""
    try:
        method = namespace_of(attributes)["multiscales"][0]["type"]
    except (KeyError, IndexError, TypeError):
        return None
    return method if isinstance(method, str) else None


def listed_labels(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names that the attributes of a ``labels`` group list."""
    listed = namespace_of(attributes).get("labels")
    return tuple(map(str, listed)) if isinstance(listed, Sequence) and not isinstance(listed, str) else ()


def listed_images(attributes: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the paths of the images that a plate, a well, a list of labels or a converted file names.

    None where a group's attributes are nothing of the kind.
    """
    namespace = namespace_of(attributes)
    if "bioformats2raw.layout" in namespace:
        return ("0",)
    for within, listed in (("plate", "wells"), ("well", "images")):
        collection = namespace.get(within)
        if isinstance(collection, Mapping):
            entries: Any = collection.get(listed) or ()
            return tuple(str(entry["path"]) for entry in entries if isinstance(entry, Mapping) and "path" in entry)
    labels = namespace.get("labels")
    return tuple(map(str, labels)) if isinstance(labels, list) else None
