"""The only part that knows zarr and paths.

`nodes` opens places and finds the arrays behind an image, `reading` labels what is stored (`open_image`,
`open_pyramid`), `encoding` says how levels are stored, `targets` makes and publishes pyramids, `journal`
remembers what of one is done, `chunks` moves data.
"""

from .chunks import Access, release_buffers
from .encoding import Encoding, encoding_like, json_attributes
from .journal import Journal, claim
from .nodes import (
    Location,
    dimension_names,
    is_in_memory,
    is_zarr,
    open_node,
    place_of,
    source_array,
    zarr_arrays,
)
from .reading import open_image, open_pyramid
from .targets import (
    LAYOUTS,
    MODES,
    Layout,
    Mode,
    Record,
    Target,
    base_array,
    create_target,
    level_paths,
    open_target,
    rehearse,
    written_paths,
)

__all__ = [
    "LAYOUTS",
    "MODES",
    "Access",
    "Encoding",
    "Journal",
    "Layout",
    "Location",
    "Mode",
    "Record",
    "Target",
    "base_array",
    "claim",
    "create_target",
    "dimension_names",
    "encoding_like",
    "is_in_memory",
    "is_zarr",
    "json_attributes",
    "level_paths",
    "open_image",
    "open_node",
    "open_pyramid",
    "open_target",
    "place_of",
    "rehearse",
    "release_buffers",
    "source_array",
    "written_paths",
    "zarr_arrays",
]
