"""How an image is displayed: as it states itself, completed from its values.

OME-NGFF keeps this in ``omero`` (colours and contrast of channels) and ``image-label`` (colours of labels) beside the
levels; an image in hand keeps it in attributes of those names, ``omero`` with the coordinate of its channels. What is
stated there is written as it is; only what OME-NGFF does not let be missing is computed, from the coarsest level.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr

from ..image.axes import Axis
from ..image.grids import grid_in_space, lies_along_space, spatial_order
from ..image.kinds import CHANNEL_NAMES
from ..image.orientation import DIRECTION, ORIGIN
from ..image.values import missing_values
from ..messages import warn_caller
from .json_values import json_attributes
from .omero import complete_omero, default_channel_labels, image_label_metadata, omero_metadata
from .specification import DISPLAY, LABEL, Check
from .versions import IMAGE_LABEL, LATEST_VERSION, OMERO, SYSTEM, SYSTEMS, VERSIONS, NgffVersion
from .writing import axis_entry

# What is looked at to choose the contrast of a channel, per spatial axis of the coarsest level.
WINDOW_SAMPLE = 512
# The coordinate system of the space that an image lies rotated in.
WORLD = "world"


@dataclass(frozen=True)
class Display:
    """What an image says of how it is to be shown."""

    omero: Mapping[str, Any] | None
    """Of its channels."""
    image_label: Mapping[str, Any] | None
    """Of the labels that it is."""
    systems: Mapping[str, Any] | None = None
    """Of coordinate systems beside its own (OME-NGFF 0.6)."""


def stated_display(image: xr.DataArray, axes: Sequence[Axis], version: NgffVersion) -> Display:
    """Return how an image of these axes says that it is to be shown.

    Raises
    ------
    ValueError
        If that is not as OME-NGFF has it.

    Warns
    -----
    UserWarning
        If it is said of other channels or axes than the image has, or `version` cannot say it, and so is not written.
    """
    omero = _plain_object(OMERO, stated_omero(image))
    label = _plain_object(IMAGE_LABEL, image.attrs.get(IMAGE_LABEL))
    if omero is not None:
        keys = _channel_keys(image, axes)
        blank = omero_metadata(_labels(axes, keys), [np.zeros(1)] * len(keys))
        completed = complete_omero(omero, blank, keys)
        if completed is None:
            warnings.warn(
                f"the attribute {OMERO!r} of {str(image.name)!r} describes other channels than {list(keys)!r}, "
                "and is not written; give it one entry for each",
                UserWarning,
                stacklevel=5,
            )
            omero = None
        else:
            _refuse_findings(DISPLAY, OMERO, completed)
    if label is not None:
        _refuse_findings(LABEL, IMAGE_LABEL, label)
    return Display(omero, label, _stated_systems(image, axes, version))


def _stated_systems(image: xr.DataArray, axes: Sequence[Axis], version: NgffVersion) -> Mapping[str, Any] | None:
    """Return the further coordinate systems of an image, unless they are of other axes or cannot be written."""
    systems = image.attrs.get(SYSTEMS)
    if systems is None:
        return _space_of_rotated_axes(image.attrs, axes) if VERSIONS[version].has_systems else None
    names = [str(dim) for dim in image.dims]
    sound = isinstance(systems, Mapping) and {"name", "axes", "coordinateSystems"} <= systems.keys()
    writable = VERSIONS[version].has_systems
    if sound and writable and list(systems["axes"]) == names:
        return cast("Mapping[str, Any]", json_attributes({SYSTEMS: systems}, "the image")[SYSTEMS])
    why = f"they are not of the axes {names!r}" if writable else f"OME-NGFF {version} has none"
    warnings.warn(
        f"the attribute {SYSTEMS!r} of {str(image.name)!r}, its further coordinate systems, is not written: {why}",
        UserWarning,
        stacklevel=6,
    )
    return None


def _space_of_rotated_axes(attrs: Mapping[Any, Any], axes: Sequence[Axis]) -> dict[str, Any] | None:
    """Return the coordinate system of the space that axes are rotated in, with the transformation to it."""
    if lies_along_space(attrs):
        return None
    spatial = spatial_order(axes)
    # Of axes that ascend from the origin of space, to see where a coordinate leads.
    unit = grid_in_space([replace(axis, scale=1.0, translation=0.0, values=None) for axis in spatial], attrs)
    names = [axis.name for axis in axes]
    rows = np.eye(len(axes), len(axes) + 1)
    places = [names.index(axis.name) for axis in reversed(spatial)]
    rows[np.ix_(places, places)], rows[places, -1] = unit.direction, unit.first
    affine = {"type": "affine", "affine": rows.tolist(), "input": {"name": SYSTEM}, "output": {"name": WORLD}}
    world = [{key: value for key, value in axis_entry(axis).items() if key != "orientation"} for axis in axes]
    return {
        "name": SYSTEM,
        "axes": names,
        "coordinateSystems": [{"name": WORLD, "axes": world}],
        "coordinateTransformations": [affine],
    }


def warn_of_unstated_rotation(image: xr.DataArray, version: NgffVersion) -> None:
    """Warn if an image lies rotated in space and a version of OME-NGFF has only scales and translations."""
    if lies_along_space(image.attrs) or SYSTEMS in image.attrs or VERSIONS[version].has_systems:
        return
    warn_caller(
        f"{str(image.name)!r} lies rotated in space, which OME-NGFF {version} cannot state: its metadata have "
        f"positions along the axes of the image, and only the attributes {DIRECTION!r} and {ORIGIN!r} of the arrays "
        f"state the rotation; write version {LATEST_VERSION!r}, which has affine transformations, or resample the image"
    )


def stated_omero(image: xr.DataArray) -> Any:
    """Return what an image carries of how to display its channels, None without any."""
    carriers = (*(coordinate.attrs for coordinate in image.coords.values()), image.attrs)
    return next((attrs[OMERO] for attrs in carriers if OMERO in attrs), None)


def alpha_channel(image: xr.DataArray) -> dict[str, int] | None:
    """Return the number of the channel called alpha, by its coordinate or in ``omero``, with the name of its axis.

    None without one, or if there are no other channels.
    """
    omero = stated_omero(image)
    entries = omero.get("channels", ()) if isinstance(omero, Mapping) else ()
    labels = [entry.get("label") for entry in entries if isinstance(entry, Mapping)]
    for name in sorted(CHANNEL_NAMES & set(image.dims)):
        if name in image.coords and image.coords[name].dtype.kind in "UT":
            labels = image.coords[name].values.tolist()
        if len(labels) == image.sizes[name] > 1 and "alpha" in labels:
            return {name: labels.index("alpha")}
    return None


def _plain_object(key: str, stated: Any) -> Mapping[str, Any] | None:
    """Return what is stated as plain values, if its parts are objects where they must be."""
    if stated is None:
        return None
    plain = json_attributes({key: stated}, "the image")[key]
    entries = plain.get("channels", []) if isinstance(plain, Mapping) else None
    sound = isinstance(entries, list) and all(
        isinstance(entry, Mapping) and isinstance(entry.get("window") or {}, Mapping) for entry in entries
    )
    if not sound:
        raise ValueError(f"the attribute {key!r} is {stated!r}, and no object as OME-NGFF has it; correct or remove it")
    return plain  # type: ignore[no-any-return]  # an object, by the check above


def _refuse_findings(check: Check, key: str, stated: Mapping[str, Any]) -> None:
    for wrong in check(key, stated):
        raise ValueError(
            f"the attribute {key!r} is not as OME-NGFF has it: {wrong.location}: {wrong.message}; correct or remove it"
        )


def without_display(image: xr.DataArray) -> xr.DataArray:
    """Return an image without what its group says in a store."""
    keys = (OMERO, IMAGE_LABEL, SYSTEMS)
    bare = image.copy(deep=False)
    for carrier in (bare, *bare.coords.values()):
        carrier.attrs = {key: value for key, value in carrier.attrs.items() if key not in keys}
    return bare


def _channel_keys(image: xr.DataArray, axes: Sequence[Axis]) -> tuple[Any, ...]:
    """Return what tells each channel from others: its label, else its number; of an image without, what it was."""
    axis = next((axis for axis in axes if axis.type == "channel"), None)
    if axis is not None:
        return tuple(_channel_key(value) for value in axis.coordinates().tolist())
    picked = [c for c in image.coords.values() if c.ndim == 0 and OMERO in c.attrs]
    return (_channel_key(picked[0].values.tolist()),) if picked else (None,)


def _channel_key(value: Any) -> Any:
    """Return a label as text; a position as the number that it is in a list of channels, None if it is none."""
    if isinstance(value, int | float):
        return int(value) if float(value).is_integer() else None
    return str(value)


def _labels(axes: Sequence[Axis], keys: Sequence[Any]) -> Sequence[str]:
    channel = next((axis for axis in axes if axis.type == "channel"), None)
    if channel is not None and not channel.is_regular:
        return [str(label) for label in channel.coordinates().tolist()]
    return default_channel_labels(len(keys))


def omero_to_publish(
    image: xr.DataArray, axes: Sequence[Axis], coarsest: zarr.Array[Any], stated: Display, nodata: Any = None
) -> dict[str, Any] | None:
    """Return how to display the channels of an image of these axes.

    The contrast is from the middle of the coarsest level where none is stated, without values that stand for missing
    ones: as the image states them, and `nodata`. None for an image without channels that states nothing.
    """
    channel = next((position for position, axis in enumerate(axes) if axis.type == "channel"), None)
    if channel is None and stated.omero is None:
        return None
    keys = _channel_keys(image, axes)
    sample = np.asarray(coarsest[tuple(map(_middle, axes))])
    samples = [sample] if channel is None else [np.take(sample, number, axis=channel) for number in range(len(keys))]
    missing = np.asarray(missing_values(image.attrs, sample.dtype, nodata), sample.dtype)
    computed = omero_metadata(_labels(axes, keys), [each[~np.isin(each, missing)] for each in samples])
    return computed if stated.omero is None else complete_omero(stated.omero, computed, keys)


def image_label_to_publish(
    axes: Sequence[Axis], coarsest: zarr.Array[Any], stated: Display, *, version: NgffVersion, source: str | None
) -> dict[str, Any] | None:
    """Return what tells labels from images: whose they are, and colours of those that the coarsest level shows.

    What is stated of colours and properties is kept. None for an image of which nothing says that it is labels.
    """
    if source is None and stated.image_label is None:
        return None
    ids = () if source is None else np.unique(np.asarray(coarsest[tuple(map(_middle, axes))])).tolist()
    computed = image_label_metadata(ids, version=version, source=source)
    said = {key: value for key, value in (stated.image_label or {}).items() if key not in ("version", "source")}
    return {**computed, **said}


def _middle(axis: Axis) -> slice:
    if axis.type == "channel":
        return slice(None)
    length = WINDOW_SAMPLE if axis.type == "space" else 1
    start = max((axis.size - length) // 2, 0)
    return slice(start, min(start + length, axis.size))
