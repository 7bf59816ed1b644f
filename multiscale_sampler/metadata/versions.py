"""What the modules of OME-NGFF metadata share: versions, names of keys, and where in a group's attributes they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from ..image.axes import AxisType

NgffVersion: TypeAlias = Literal["0.4", "0.5", "0.6"]
ZARR_FORMATS: dict[NgffVersion, Literal[2, 3]] = {"0.4": 2, "0.5": 3, "0.6": 3}
TYPE_ORDER: dict[AxisType, int] = {"time": 0, "channel": 1, "space": 2}
# What stands under "ome" from 0.5 on, and beside everything else before.
OME_KEYS = (
    *("multiscales", "omero", "image-label", "labels", "plate", "well", "bioformats2raw.layout", "series", "_creator"),
)
# The name that 0.6's text gives the coordinate system of a pyramid's levels.
SYSTEM = "intrinsic"
# Attributes of a coordinate of channels, or of an image, that are metadata of the group in a store.
OMERO, IMAGE_LABEL, SYSTEMS = "omero", "image-label", "coordinateSystems"
# What stands for the method where levels were made by several.
MIXED_METHODS = "mixed"
# Where a pyramid without OME-NGFF metadata says what this package wrote.
OWN_METADATA = "multiscale_sampler:metadata"


def namespace_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a group's attributes that is OME-NGFF's: under "ome" from 0.5 on."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def with_namespace(attributes: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's attributes with keys of OME-NGFF's own part changed."""
    ome = attributes.get("ome")
    return {**attributes, "ome": {**ome, **changed}} if isinstance(ome, Mapping) else {**attributes, **changed}


def has_ome_metadata(attributes: Mapping[str, Any]) -> bool:
    """Whether a group's attributes are those of anything in OME-NGFF."""
    return "ome" in attributes or any(key in attributes for key in OME_KEYS)
