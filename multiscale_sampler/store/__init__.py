"""The only part that knows zarr and paths.

`nodes` opens places and finds the arrays behind an image, `reading` labels what is stored (`open_image`,
`open_pyramid`), `encoding` says how levels are stored, `targets` makes and publishes pyramids, `journal`
remembers what of one is done, `chunks` moves data.
"""

from .chunks import Access
from .encoding import Encoding, encoding_like, json_attributes
from .journal import Journal, claim
from .nodes import dimension_names, is_zarr, open_node, place_of, source_array
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
    "Mode",
    "Record",
    "Target",
    "base_array",
    "claim",
    "create_target",
    "dimension_names",
    "encoding_like",
    "is_zarr",
    "json_attributes",
    "level_paths",
    "open_image",
    "open_node",
    "open_pyramid",
    "open_target",
    "place_of",
    "rehearse",
    "source_array",
    "written_paths",
]
