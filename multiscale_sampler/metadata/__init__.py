"""Axes to OME-NGFF ``multiscales`` and back, for the versions of the specification; dicts only, no files.

Writes 0.4, 0.5 and 0.6, reads 0.1 to 0.6. The specification: https://ngff.openmicroscopy.org. Beside it stands the
domain-agnostic ``multiscales`` convention of https://github.com/zarr-conventions/multiscales, which the default
layout carries too.

`vocabulary` has the keys and versions, `describing` says what was written, `displaying` how it is shown, `convention`
the same for readers of the convention; `parsing` reads what others say, and `rewriting` changes what a group says.
"""

from .multiscales_convention import convention_attributes
from .omero import CHANNEL_COLORS, displayed, image_label, numbered_labels, omero, with_channels
from .parsing import Dataset, Multiscales, coarsest_last, images_below, level_axes, listed_labels, parse, stated_method
from .rewriting import (
    converted,
    further_systems,
    merged,
    moved,
    recipe_written,
    with_recipe,
    without_levels,
    written_by_us,
)
from .versions import (
    IMAGE_LABEL,
    MIXED_METHODS,
    OMERO,
    OWN_METADATA,
    SYSTEMS,
    TYPE_ORDER,
    ZARR_FORMATS,
    NgffVersion,
    is_described,
    namespace_of,
)
from .writing import MOST_AXES, UNIT_NAMES, check_exportable, image_attributes, label_list, ngff_order, transformations

__all__ = [
    "CHANNEL_COLORS",
    "IMAGE_LABEL",
    "MIXED_METHODS",
    "MOST_AXES",
    "OMERO",
    "OWN_METADATA",
    "SYSTEMS",
    "TYPE_ORDER",
    "UNIT_NAMES",
    "ZARR_FORMATS",
    "Dataset",
    "Multiscales",
    "NgffVersion",
    "check_exportable",
    "coarsest_last",
    "convention_attributes",
    "converted",
    "displayed",
    "further_systems",
    "image_attributes",
    "image_label",
    "images_below",
    "is_described",
    "label_list",
    "level_axes",
    "listed_labels",
    "merged",
    "moved",
    "namespace_of",
    "ngff_order",
    "numbered_labels",
    "omero",
    "parse",
    "recipe_written",
    "stated_method",
    "transformations",
    "with_channels",
    "with_recipe",
    "without_levels",
    "written_by_us",
]
