"""The versions of OME-NGFF: one row each, with everything in which versions differ.

To add a version: its row and, if it is to be written, its name in `NgffVersion`; where no row has its structure or its
rules yet, a branch in `writing` and an entry of `specification.IMAGES` too. Reading goes by what a document contains
(`parsing`), not by the version that it states. No other module names a version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from ..image.kinds import AxisType

NgffVersion: TypeAlias = Literal["0.4", "0.5", "0.6"]
Structure: TypeAlias = Literal["names", "axes", "coordinateSystems"]
RuleSet: TypeAlias = Literal["axes", "coordinateSystems"]

# The key under which all of OME-NGFF's metadata are, in versions that have such a key.
NAMESPACE = "ome"
# The keys there; in other versions they are beside all other attributes of a group.
OME_KEYS = (
    *("multiscales", "omero", "image-label", "labels", "plate", "well", "bioformats2raw.layout", "series", "_creator"),
)
TYPE_ORDER: dict[AxisType, int] = {"time": 0, "channel": 1, "space": 2}
# The name that 0.6's text gives the coordinate system of a pyramid's levels.
SYSTEM = "intrinsic"
# Attributes of a coordinate of channels, or of an image, that are metadata of the group in a store.
OMERO, IMAGE_LABEL, SYSTEMS = "omero", "image-label", "coordinateSystems"
# What stands for the method where levels were made by several.
MIXED_METHODS = "mixed"
# Where a pyramid without OME-NGFF metadata says what this package wrote.
OWN_METADATA = "multiscale_sampler:metadata"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of OME-NGFF."""

    name: str
    """The version as metadata state it."""
    zarr_format: Literal[2, 3]
    """The format of its groups and arrays."""
    namespace: str | None = None
    """Key of a group's attributes that holds its metadata and the version; None: they are beside all other attributes,
    and each entry of ``multiscales`` states the version."""
    structure: Structure
    """How an entry of ``multiscales`` states axes: as names or not at all; as ``axes``, with a list of a scale and a
    translation for each level; or in ``coordinateSystems``, to one of which the one transformation of each level
    leads."""
    rules: RuleSet | None = None
    """The rules in `specification` that entries are checked by; None where none are known."""
    label_version: Literal["checked", "written"] | None = None
    """Whether ``image-label`` states the version too: it should, and is checked; or this package writes it."""
    dimension_names: bool = False
    """Whether the arrays' names of dimensions must be those of the axes."""
    nested_chunks: bool = False
    """Whether keys of chunks should be separated by "/", which is not the default of its zarr format."""
    one_dtype: bool = False
    """Whether all levels must have the same dtype."""
    positive_scales: bool = False
    """Whether scales must be above 0, so that no axis can descend."""

    @property
    def has_systems(self) -> bool:
        """Whether axes are in named coordinate systems, of which an image can have further ones."""
        return self.structure == "coordinateSystems"


_V04 = Version(name="0.4", zarr_format=2, structure="axes", rules="axes", label_version="checked", nested_chunks=True)
_V05 = Version(
    name="0.5",
    zarr_format=3,
    namespace=NAMESPACE,
    structure="axes",
    rules="axes",
    label_version="written",
    dimension_names=True,
)
_V06 = Version(
    name="0.6",
    zarr_format=3,
    namespace=NAMESPACE,
    structure="coordinateSystems",
    rules="coordinateSystems",
    one_dtype=True,
    positive_scales=True,
)
VERSIONS: Mapping[str, Version] = {
    row.name: row
    for row in (
        Version(name="0.1", zarr_format=2, structure="names"),
        Version(name="0.2", zarr_format=2, structure="names"),
        Version(name="0.3", zarr_format=2, structure="names"),
        _V04,
        _V05,
        _V06,
        # The release candidate became 0.6 as it was.
        replace(_V06, name="0.6rc0"),
    )
}
WRITTEN_VERSIONS: tuple[NgffVersion, ...] = get_args(NgffVersion)
LATEST_VERSION = WRITTEN_VERSIONS[-1]
# The newest version that all clients read, in each zarr format.
DEFAULT_VERSIONS: Mapping[int, NgffVersion] = {2: "0.4", 3: "0.5"}
DEFAULT_VERSION = DEFAULT_VERSIONS[3]


def known_version(stated: Any) -> Version | None:
    """Return the version that metadata state, None where it is not known."""
    return VERSIONS.get(stated) if isinstance(stated, str) else None


def namespace_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a group's attributes that is OME-NGFF's, in any version."""
    inner = attributes.get(NAMESPACE)
    return inner if isinstance(inner, Mapping) else attributes


def with_namespace(attributes: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's attributes with keys of OME-NGFF's own part changed, where that part is."""
    inner = attributes.get(NAMESPACE)
    return {**attributes, NAMESPACE: {**inner, **changed}} if isinstance(inner, Mapping) else {**attributes, **changed}


def in_namespace(metadata: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return attributes of a group that hold OME-NGFF metadata where a version has them."""
    key = VERSIONS[version].namespace
    return dict(metadata) if key is None else {key: {"version": version, **metadata}}


def entry_version(version: str) -> dict[str, str]:
    """Return the keys by which an entry of ``multiscales`` states its version; none where the namespace does."""
    # 0.4 only recommends it, yet clients refuse a store without it.
    return {"version": version} if VERSIONS[version].namespace is None else {}


def has_ome_metadata(attributes: Mapping[str, Any]) -> bool:
    """Whether a group's attributes are those of anything in OME-NGFF."""
    return NAMESPACE in attributes or any(key in attributes for key in OME_KEYS)
