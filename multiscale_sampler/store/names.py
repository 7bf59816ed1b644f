"""Names that zarr and xarray give to what they store: documents, attributes, and files that are not whole yet."""

import re
from pathlib import PurePath

# The attribute in which xarray names the dimensions of an array of zarr v2.
V2_DIMENSIONS = "_ARRAY_DIMENSIONS"
ZARR_JSON = "zarr.json"
# The last part of keys that hold metadata, not chunks.
DOCUMENTS = (ZARR_JSON, ".zarray", ".zgroup", ".zattrs", ".zmetadata")
# By the zarr format, the document that makes a folder a group, or an array.
GROUP_DOCUMENTS = {2: ".zgroup", 3: ZARR_JSON}
ARRAY_DOCUMENTS = {2: ".zarray", 3: ZARR_JSON}
# Of files that are renamed once they are whole, by zarr as by us.
PARTIAL_ENDING = ".partial"


def leads_nowhere(path: str) -> bool:
    """Whether a path, which others may have written, cannot be that of a node in the group that it begins at."""
    return bool(PurePath(path).anchor) or "\0" in path or not {".", ".."}.isdisjoint(re.split(r"[/\\]", path))
