"""Attributes of groups as dicts: OME-NGFF, the zarr conventions, and how they follow from axes.

OME-NGFF (https://ngff.openmicroscopy.org) is written as 0.4, 0.5 and 0.6, and read from 0.1 on.

- `versions`: what the versions of OME-NGFF differ in, names of keys, and where in a group's attributes they are.
- `parsing`: OME-NGFF metadata of any version, from any tool, to axes.
- `writing`: axes to OME-NGFF metadata.
- `rewriting`: attributes of a group with a pyramid published in them, in another version, or with other levels.
- `omero`: ``omero`` and ``image-label``, which say how channels and labels are displayed.
- `display`: what an image states of its display, completed from the values of its coarsest level.
- `units`: the names that OME-NGFF asks for, and other spellings of them.
- `specification`: the rules of OME-NGFF for metadata, and what in a document breaks them.
- `clients`: axes and dtypes that OME-NGFF allows and some of its readers refuse.
- `multiscales_convention`: the ``multiscales`` convention of zarr, which does not know kinds of images.
- `geozarr`: the conventions ``proj:`` and ``spatial:``, which place an image on the earth.
- `json_values`: attributes as JSON can hold them.
"""

from .multiscales_convention import convention_attributes
from .omero import CHANNEL_COLORS, default_channel_labels, omero_metadata, with_channels
from .parsing import (
    Dataset,
    Multiscales,
    finest_first,
    level_axes,
    listed_images,
    listed_labels,
    parse_multiscales,
    stated_method,
    stated_version,
)
from .rewriting import (
    are_published,
    attributes_without_levels,
    converted_attributes,
    further_system_names,
    is_mixed,
    paths_written_by_us,
    relocated_attributes,
    removed_levels,
    stated_recipe,
    stated_rules,
    with_mixed_recipe,
    with_published,
    with_recipe,
    with_removed_levels,
)
from .units import unit_name
from .versions import (
    DEFAULT_VERSION,
    DEFAULT_VERSIONS,
    IMAGE_LABEL,
    LATEST_VERSION,
    OMERO,
    OWN_METADATA,
    SYSTEMS,
    TYPE_ORDER,
    VERSIONS,
    WRITTEN_VERSIONS,
    NgffVersion,
    Version,
    has_ome_metadata,
    known_version,
    namespace_of,
)
from .writing import (
    axis_entry,
    check_exportable,
    image_attributes,
    label_list_attributes,
    level_transformations,
    ngff_line,
    ngff_order,
)

__all__ = [
    "CHANNEL_COLORS",
    "DEFAULT_VERSION",
    "DEFAULT_VERSIONS",
    "IMAGE_LABEL",
    "LATEST_VERSION",
    "OMERO",
    "OWN_METADATA",
    "SYSTEMS",
    "TYPE_ORDER",
    "VERSIONS",
    "WRITTEN_VERSIONS",
    "Dataset",
    "Multiscales",
    "NgffVersion",
    "Version",
    "are_published",
    "attributes_without_levels",
    "axis_entry",
    "check_exportable",
    "convention_attributes",
    "converted_attributes",
    "default_channel_labels",
    "finest_first",
    "further_system_names",
    "has_ome_metadata",
    "image_attributes",
    "is_mixed",
    "known_version",
    "label_list_attributes",
    "level_axes",
    "level_transformations",
    "listed_images",
    "listed_labels",
    "namespace_of",
    "ngff_line",
    "ngff_order",
    "omero_metadata",
    "parse_multiscales",
    "paths_written_by_us",
    "relocated_attributes",
    "removed_levels",
    "stated_method",
    "stated_recipe",
    "stated_rules",
    "stated_version",
    "unit_name",
    "with_channels",
    "with_mixed_recipe",
    "with_published",
    "with_recipe",
    "with_removed_levels",
]
