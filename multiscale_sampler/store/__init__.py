"""Everything that knows zarr: stored images and pyramids opened, written, changed and described, wherever they are.

- `zarr_internals`: what of zarr is used beyond its public interface.
- `names`: names that zarr and xarray give to what they store.
- `layout`: names and places inside the group of a pyramid.
- `remote`: stores that are reached by requests: URLs, retries, transactions.
- `nodes`: places opened, named and compared.
- `origins`: the arrays and files behind an image.
- `codecs`: one compression in zarr v2, zarr v3 and numcodecs.
- `arrays`: one array as a labelled image.
- `presence`: whether an array is still the one that was opened, and has chunks under its keys.
- `convention`: levels that only the zarr convention ``multiscales`` describes.
- `stored_pyramid`: what reading a pyramid returns.
- `reading`: `open_image` and `open_pyramid`.
- `chunks`: values of regions read and written, chunk by chunk where that is faster.
- `raw_chunks`: chunks as they are stored, for readers that decode them.
- `digests`: which chunks of a base were edited.
- `encoding`: how the values of new levels are stored.
- `leftovers`: files that a stopped writer has left half written.
- `documents`: attributes of a group changed in one step.
- `journal`: which regions of an interrupted build are done.
- `limits`: decoders that end where a chunk is full.
- `local_files`: where local files are, and steps on them that other programs may have open.
- `marks`: what a mark of a build or change may state.
- `stamps`: whether stored values have been replaced since.
- `archives`: pyramids in zip files.
- `staging`: where a pyramid is until it is whole.
- `targets`: a pyramid that is being built.
- `creating`: where one may be built.
- `changing`: a pyramid that is being changed.
- `label_groups`: labels beside their image.

What works on chunks alone, as the tasks of a build and the viewer do, imports `chunks`, `raw_chunks` and `nodes`
themselves, and stands on nothing that knows pyramids.
"""

from .arrays import packing_attributes, packing_of
from .changing import PyramidChange, grown_arrays
from .chunks import Access, release_buffers
from .creating import (
    MODES,
    Mode,
    base_array,
    create_target,
    finished_group,
    name_of,
    open_target,
    paths_beside,
)
from .digests import Digests
from .documents import consolidate, members_of, outdated_documents
from .encoding import Encoding, encoding_like, key_encoding
from .journal import Journal, claim
from .label_groups import is_finished, label_place, labels_group_above, placed_labels, placed_levels, register_label
from .layout import DIGESTS_PATH, LABELS, LAYOUTS, Layout, check_node_name, level_paths, written_paths
from .leftovers import remove_leftovers
from .limits import limited_array
from .names import V2_DIMENSIONS
from .nodes import (
    Location,
    check_sizes,
    dimension_names,
    is_in_memory,
    is_zarr,
    local_path,
    open_node,
    opened_group,
    place_of,
    place_to_open,
    storage_unit,
    zip_path,
)
from .origins import refuse_source_in_target, source_array, zarr_arrays
from .presence import Presence, check_chunks, inventories, warn_if_empty, watched
from .raw_chunks import is_stored
from .reading import (
    image_of_array,
    image_to_join,
    is_pyramid,
    missing_values_of,
    names_axes,
    open_image,
    open_labels,
    open_pyramid,
)
from .remote import in_one_commit, naming_place
from .stored_pyramid import StoredPyramid, holds_image
from .targets import (
    Record,
    Target,
    coordinates_in_memory,
    holds_all_of,
    rehearse,
    target_in_memory,
    writable_group,
)
from .zarr_internals import BROKEN, chunk_key, document_fault, is_consolidated, node_at

__all__ = [
    "BROKEN",
    "DIGESTS_PATH",
    "LABELS",
    "LAYOUTS",
    "MODES",
    "V2_DIMENSIONS",
    "Access",
    "Digests",
    "Encoding",
    "Journal",
    "Layout",
    "Location",
    "Mode",
    "Presence",
    "PyramidChange",
    "Record",
    "StoredPyramid",
    "Target",
    "base_array",
    "check_chunks",
    "check_node_name",
    "check_sizes",
    "chunk_key",
    "claim",
    "consolidate",
    "coordinates_in_memory",
    "create_target",
    "dimension_names",
    "document_fault",
    "encoding_like",
    "finished_group",
    "grown_arrays",
    "holds_all_of",
    "holds_image",
    "image_of_array",
    "image_to_join",
    "in_one_commit",
    "inventories",
    "is_consolidated",
    "is_finished",
    "is_in_memory",
    "is_pyramid",
    "is_stored",
    "is_zarr",
    "key_encoding",
    "label_place",
    "labels_group_above",
    "level_paths",
    "limited_array",
    "local_path",
    "members_of",
    "missing_values_of",
    "name_of",
    "names_axes",
    "naming_place",
    "node_at",
    "open_image",
    "open_labels",
    "open_node",
    "open_pyramid",
    "open_target",
    "opened_group",
    "outdated_documents",
    "packing_attributes",
    "packing_of",
    "paths_beside",
    "place_of",
    "place_to_open",
    "placed_labels",
    "placed_levels",
    "refuse_source_in_target",
    "register_label",
    "rehearse",
    "release_buffers",
    "remove_leftovers",
    "source_array",
    "storage_unit",
    "target_in_memory",
    "warn_if_empty",
    "watched",
    "writable_group",
    "written_paths",
    "zarr_arrays",
    "zip_path",
]
