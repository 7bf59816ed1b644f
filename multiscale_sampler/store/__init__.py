"""The only part that knows zarr and paths.

`nodes` opens places and finds the arrays behind an image, `labelling` tells what is known of an array, `reading` opens
images and pyramids, `encoding` says how levels are stored, `targets` makes and publishes pyramids, `archives` packs
them into zip files, `journal` remembers what of one is done, `changing` opens one to be changed, `labels` stands them
beside their image, `digests` tell which of a base's chunks were edited, `chunks` moves data, `serving` hands stored
chunks to other readers.
"""

from .changing import PyramidChange, grown_arrays
from .chunks import Access, buffer, release_buffers
from .digests import Digests
from .documents import consolidate
from .encoding import Encoding, encoding_like
from .journal import Journal, claim
from .label_groups import is_finished, label_place, labels_group_above, placed_labels, register_label
from .layout import DIGESTS_PATH, LABELS, LAYOUTS, V2_DIMENSIONS, Layout, level_paths, written_paths
from .nodes import (
    Location,
    dimension_names,
    is_in_memory,
    is_zarr,
    local_path,
    open_node,
    place_of,
    refuse_source_in_target,
    source_array,
    zarr_arrays,
)
from .raw_chunks import ByteRange, described_in_v3, is_inside, is_stored, read_box, read_stored, stored_size
from .reading import is_pyramid, open_image, open_pyramid
from .remote import transaction
from .stored_pyramid import StoredPyramid, holds_image
from .targets import MODES, Mode, Record, Target, base_array, create_target, open_target, rehearse, writable_group
from .zarr_internals import chunk_key, is_consolidated

__all__ = [
    "DIGESTS_PATH",
    "LABELS",
    "LAYOUTS",
    "MODES",
    "V2_DIMENSIONS",
    "Access",
    "ByteRange",
    "Digests",
    "Encoding",
    "Journal",
    "Layout",
    "Location",
    "Mode",
    "PyramidChange",
    "Record",
    "StoredPyramid",
    "Target",
    "base_array",
    "buffer",
    "chunk_key",
    "claim",
    "consolidate",
    "create_target",
    "described_in_v3",
    "dimension_names",
    "encoding_like",
    "grown_arrays",
    "holds_image",
    "is_consolidated",
    "is_finished",
    "is_in_memory",
    "is_inside",
    "is_pyramid",
    "is_stored",
    "is_zarr",
    "label_place",
    "labels_group_above",
    "level_paths",
    "local_path",
    "open_image",
    "open_node",
    "open_pyramid",
    "open_target",
    "place_of",
    "placed_labels",
    "read_box",
    "read_stored",
    "refuse_source_in_target",
    "register_label",
    "rehearse",
    "release_buffers",
    "source_array",
    "stored_size",
    "transaction",
    "writable_group",
    "written_paths",
    "zarr_arrays",
]
