"""The only part that knows zarr and paths.

`nodes` opens places and finds the arrays behind an image, `reading` labels what is stored (`open_image`,
`open_pyramid`), `encoding` says how levels are stored, `targets` makes and publishes pyramids, `journal`
remembers what of one is done, `labels` stands them beside their image, `chunks` moves data.
"""

from .chunks import Access, release_buffers
from .encoding import Encoding, encoding_like, json_attributes
from .journal import Journal, claim
from .labels import (
    DescribedImage,
    described_image,
    is_finished,
    label_place,
    labels_group_above,
    register_label,
)
from .nodes import (
    V2_DIMENSIONS,
    Location,
    dimension_names,
    is_in_memory,
    is_zarr,
    open_node,
    place_of,
    source_array,
    zarr_arrays,
)
from .reading import LABELS, open_image, open_pyramid, pyramid_levels, read_multiscales
from .remote import transaction
from .targets import (
    LAYOUTS,
    MODES,
    Layout,
    Mode,
    Record,
    Target,
    base_array,
    consolidate,
    create_target,
    level_paths,
    open_target,
    rehearse,
    writable_group,
    written_paths,
)

__all__ = [
    "LABELS",
    "LAYOUTS",
    "MODES",
    "V2_DIMENSIONS",
    "Access",
    "DescribedImage",
    "Encoding",
    "Journal",
    "Layout",
    "Location",
    "Mode",
    "Record",
    "Target",
    "base_array",
    "claim",
    "consolidate",
    "create_target",
    "described_image",
    "dimension_names",
    "encoding_like",
    "is_finished",
    "is_in_memory",
    "is_zarr",
    "json_attributes",
    "label_place",
    "labels_group_above",
    "level_paths",
    "open_image",
    "open_node",
    "open_pyramid",
    "open_target",
    "place_of",
    "pyramid_levels",
    "read_multiscales",
    "register_label",
    "rehearse",
    "release_buffers",
    "source_array",
    "transaction",
    "writable_group",
    "written_paths",
    "zarr_arrays",
]
