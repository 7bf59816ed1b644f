"""OME-NGFF metadata written from the axes of levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._version import __version__
from ..image.axes import Axis
from ..image.dates import are_dates, date_line
from ..image.orientation import check_orientations
from .units import ngff_unit
from .versions import DEFAULT_VERSION, SYSTEM, TYPE_ORDER, VERSIONS, NgffVersion, entry_version, in_namespace

# The rules by which levels are made, for what changes a pyramid later; see `rewriting.stated_rules`.
RULES = 1
# "the length of axes is 2-5"; versions before 0.3 had no axes and were always these five.
MOST_AXES = 5


def ngff_order(axes: Sequence[Axis]) -> tuple[int, ...]:
    """Return the order in which OME-NGFF wants axes: time, channel, space, each kind as it stands.

    "The entries MUST be ordered by "type" where the "time" axis must come first (if present), followed by the
    "channel" or custom axis (if present) and the axes of type "space"."
    """
    return tuple(sorted(range(len(axes)), key=lambda index: TYPE_ORDER[axes[index].type or "space"]))


def check_exportable(axes: Sequence[Axis], version: NgffVersion = DEFAULT_VERSION) -> None:
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
        scale = ngff_line(axis)[0]
        if VERSIONS[version].positive_scales and scale < 0:
            raise ValueError(
                f"OME-NGFF {version} wants scales above 0, and {axis.name!r} descends in steps of {scale!r}; reverse "
                f"it with image.isel({axis.name}=slice(None, None, -1)) or ascending=True (--ascending), or write "
                f"version {DEFAULT_VERSION!r}"
            )


def ngff_line(axis: Axis) -> tuple[float, float, str | None]:
    """Return scale, translation and unit of an axis as OME-NGFF says them."""
    if axis.values is None:
        return axis.scale, axis.translation, ngff_unit(axis.unit)
    if axis.type == "channel":
        # "scale ... defaulting to 1.0"; the labels themselves go to omero and to the coordinate array.
        return 1.0, 0.0, None
    if are_dates(axis.values) and (line := date_line(axis.values)) is not None:
        return *line, "second"
    if axis.values.dtype.kind not in "iufmM" and not are_dates(axis.values):
        raise ValueError(
            f"the coordinates of {axis.name!r} are neither numbers nor dates, as {axis.values[0]!r}; convert them, as "
            f"in image.assign_coords({axis.name}=...), or number the samples with image.drop_vars({axis.name!r})"
        )
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
        Coordinate systems beside that of the levels, as `parse_multiscales` finds them; for 0.6.
    """
    system, stated_axes = axes_keys([axis_entry(axis) for axis in levels[0]], version, systems)
    multiscales: dict[str, Any] = {
        **entry_version(version),
        "name": name,
        **stated_axes,
        "datasets": [dataset_entry(path, axes, version, system) for path, axes in zip(paths, levels, strict=True)],
        "type": method,
        "metadata": {
            "description": "levels reduced from the base by multiscale_sampler",
            "method": f"multiscale_sampler.{made_by}",
            "version": __version__,
            "kwargs": dict(recipe),
            "rules": RULES,
            "written": list(written),
        },
    }
    display: dict[str, Any] = {} if omero is None else {"omero": dict(omero)}
    if image_label is not None:
        display["image-label"] = dict(image_label)
    return in_namespace({"multiscales": [multiscales], **display}, version)


def axes_keys(
    axes: Sequence[Mapping[str, Any]], version: NgffVersion, systems: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return the name of the coordinate system of the levels, and the keys of an entry that state its axes.

    `systems` are the coordinate systems beside that of the levels, for versions that have them.
    """
    if not VERSIONS[version].has_systems:
        return SYSTEM, {"axes": list(axes)}
    further = systems or {"name": SYSTEM, "coordinateSystems": ()}
    transforms = further.get("coordinateTransformations")
    return further["name"], {
        "coordinateSystems": [{"name": further["name"], "axes": list(axes)}, *further["coordinateSystems"]],
        **({"coordinateTransformations": transforms} if transforms else {}),
    }


def axis_entry(axis: Axis) -> dict[str, Any]:
    """Return what ``axes`` says of an axis."""
    entry: dict[str, Any] = {"name": axis.name, "type": axis.type or "space"}
    unit = ngff_line(axis)[2]
    if unit is not None:
        entry["unit"] = unit
    # "The orientation field MUST only be used on spatial axes" (RFC 4). The schemas of 0.4 to 0.6 let axes have more
    # keys than their own.
    if axis.orientation is not None and axis.type == "space":
        entry["orientation"] = {"type": "anatomical", "value": axis.orientation}
    return entry


def dataset_entry(path: str, axes: Sequence[Axis], version: NgffVersion, system: str = SYSTEM) -> dict[str, Any]:
    """Return what ``datasets`` says of a level."""
    lines = [ngff_line(axis) for axis in axes]
    scales, translations = [scale for scale, _, _ in lines], [translation for _, translation, _ in lines]
    return {
        "path": path,
        "coordinateTransformations": level_transformations(path, scales, translations, version, system),
    }


def level_transformations(
    path: str, scales: Sequence[float], translations: Sequence[float], version: NgffVersion, system: str = SYSTEM
) -> list[dict[str, Any]]:
    """Return the transformations that place a level, as a version says them."""
    scale = {"type": "scale", "scale": list(scales)}
    translation = {"type": "translation", "translation": list(translations)}
    if not VERSIONS[version].has_systems:
        # "They MUST contain exactly one scale transformation"; "If translation is given it MUST be listed after scale"
        return [scale, translation]
    ends = {"input": {"path": path}, "output": {"name": system}}
    if not any(translations):
        # A sequence for level 0 is more than some clients read.
        return [{**scale, **ends}]
    return [{"type": "sequence", **ends, "transformations": [scale, translation]}]


def label_list_attributes(names: Sequence[str], *, version: NgffVersion) -> dict[str, Any]:
    """Return the attributes of the group that lists the labels of an image."""
    return in_namespace({"labels": list(names)}, version)
