"""`convert`: convert a pyramid to another version of OME-NGFF, in place or as a copy.

The new metadata are computed and checked before anything is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import zarr

from .. import store as stores
from ..messages import check_choice
from ..metadata import (
    VERSIONS,
    WRITTEN_VERSIONS,
    NgffVersion,
    converted_attributes,
    further_system_names,
    namespace_of,
    relocated_attributes,
)
from ..metadata.specification import document_findings
from ..plan.factors import ChunkSizes
from ..plan.options import StorageOptions
from ..tasks.progress import ProgressCallback
from .copying import ConvertedImage, CopySettings, copy_group, verify_copy


def convert(
    source: Any,
    target: Any = None,
    *,
    path: str | None = None,
    version: NgffVersion,
    chunks: ChunkSizes | None = None,
    shards: ChunkSizes | Literal[False] | None = None,
    compressors: Any = "auto",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Convert an OME-Zarr image, with its labels, to another version of OME-NGFF.

    Levels keep their values, paths, attributes and display settings. A copy also contains the group's other arrays and
    groups, such as tables. Between 0.5 and 0.6, which are both zarr v3, a conversion without `target` rewrites only the
    metadata.

    Parameters
    ----------
    source, path
        Store, and path in it, of the image's group, in any version that `open_pyramid` reads.
    target
        Where to write a copy; must be empty. None: convert in place.
    version
        "0.4" (zarr v2), "0.5" or "0.6" (zarr v3).
    chunks, shards, compressors
        Storage of a copy, as in `write_pyramid`; by default that of the source. Zarr v2 does not support shards.
    memory_limit, workers, resume, progress
        As in `write_pyramid`.
    storage_options
        Options of the file system, for `source` and `target` if they are URLs.

    Raises
    ------
    FileNotFoundError
        If nothing is stored at `source`.
    FileExistsError
        If `target` is not empty, unless it contains an interrupted copy and `resume` is set.
    ValueError
        If the image has this version already, the new version cannot express the metadata, or samples of the copy
        differ from the source.

    Warns
    -----
    UserWarning
        If something had to be assumed, or is not converted: coordinate systems, which only 0.6 has, images in other
        groups, and arrays that the other zarr format cannot store.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store, copy = {}, {}
    >>> ms.write_pyramid(np.ones((64, 64), "uint8"), store, scale_factors=[2])
    >>> ms.convert(store, copy, version="0.4")
    >>> ms.convert(store, version="0.6")
    >>> ms.validate(copy).ok and ms.validate(store).ok
    True
    """
    check_choice("version", version, WRITTEN_VERSIONS)
    storage = StorageOptions(chunks=chunks, shards=shards, memory_limit=memory_limit, workers=workers)
    node = stores.open_node(source, path, storage_options=storage_options if isinstance(source, str) else None)
    # Consolidated metadata may lack labels that were added later.
    stored = stores.StoredPyramid.by_ngff(stores.open_node(node, use_consolidated=False))
    images = list(_converted_images(stored, version))
    if target is None:
        by_default = isinstance(compressors, str) and compressors == "auto"
        of_copy = [*storage.specified, *([] if by_default else ["compressors"]), *(["resume"] if resume else [])]
        _check_in_place(stored, version, of_copy)
        _rewrite_documents(cast("zarr.Group", node), images, version)
        return
    settings = CopySettings(
        version, storage.in_zarr_format(VERSIONS[version].zarr_format), compressors, resume, progress
    )
    options = storage_options if isinstance(target, str) else None
    if not_copied := copy_group(stored.group, images, target, settings, options):
        warnings.warn(
            f"{', '.join(not_copied)} of {stored.group.store_path} are not copied: they are separate images, or cannot "
            "be stored in the other zarr format; convert or copy them separately",
            UserWarning,
            stacklevel=2,
        )
    verify_copy(images, stores.open_node(target, storage_options=options))


def _converted_images(stored: stores.StoredPyramid, version: NgffVersion) -> Iterator[ConvertedImage]:
    """Yield an image, then its labels, with their attributes in a version.

    Raises
    ------
    ValueError
        If the version cannot express their metadata.
    """
    yield _converted_image(stored, "", version)
    for name, node in stored.labels.items():
        if not isinstance(node, zarr.Group):
            raise ValueError(
                f"{stored.group.store_path} lists the labels {name!r}, which do not exist; remove them from the list"
            )
        yield _converted_image(stores.StoredPyramid.by_ngff(node), f"{stores.LABELS}/{name}", version)


def _converted_image(stored: stores.StoredPyramid, inside: str, version: NgffVersion) -> ConvertedImage:
    place, attributes, assumed = stored.group.store_path, stored.attributes, stored.assumed
    entries: Any = namespace_of(attributes)["multiscales"]
    if len(entries) > 1:
        raise ValueError(
            f"{place} describes {len(entries)} images, but only one per group is supported; move each to its own"
        )
    lost = further_system_names(attributes) if not VERSIONS[version].has_systems else ()
    if lost:
        assumed += (f"that the coordinate systems {', '.join(lost)} can be dropped, because only 0.6 has them",)
    if assumed:
        message = f"{place} is converted to {version}; assumed: {'; '.join(assumed)}"
        warnings.warn(message, UserWarning, stacklevel=4)
    levels = dict(zip(stored.paths, stored.levels, strict=True))
    new = converted_attributes(attributes, levels, version, restated=bool(assumed))
    if wrong := [finding for finding in document_findings(new) if finding.severity == "error"]:
        raise ValueError(
            f"OME-NGFF {version} cannot express the metadata of {place}: {wrong[0].location}: {wrong[0].message}; "
            "correct them first"
        )
    return ConvertedImage(stored, inside, new)


# --- in place --------------------------------------------------------------------------------------------------


def _check_in_place(stored: stores.StoredPyramid, version: NgffVersion, of_copy: Sequence[str]) -> None:
    """Raise if a conversion in place has nothing to do, needs another zarr format, or got options of a copy."""
    if of_copy:
        raise ValueError(f"{', '.join(of_copy)} apply to a copy, but there is no target; pass one, or omit them")
    group, zarr_format = stored.group, VERSIONS[version].zarr_format
    if group.metadata.zarr_format != zarr_format:
        raise ValueError(
            f"OME-NGFF {version} is zarr v{zarr_format}, and {group.store_path} is v{group.metadata.zarr_format}; name "
            "a target for the copy"
        )
    if stored.version == version:
        raise ValueError(f"{group.store_path} is OME-NGFF {version} already; there is nothing to convert")


def _rewrite_documents(group: zarr.Group, images: Sequence[ConvertedImage], version: NgffVersion) -> None:
    """Write the new attributes of an image and its labels."""
    with stores.claim(stores.place_of(group)):
        was_consolidated = stores.is_consolidated(group)
        root = stores.writable_group(group)
        documents = {image.inside: image.attributes for image in images}
        if isinstance(labels := root.get(stores.LABELS), zarr.Group):
            documents[stores.LABELS] = relocated_attributes(labels.attrs.asdict(), version)
        # The image itself last: readers start from its metadata.
        for inside in sorted(documents, key=len, reverse=True):
            node = root if not inside else root[inside]
            node.attrs.put(documents[inside])
        if was_consolidated:
            stores.consolidate(root)
