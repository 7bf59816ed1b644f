"""Pyramids from one version of OME-NGFF to another: new metadata, and arrays where the zarr format changes.

What the new metadata will be is found, and refused, before anything is written. Where the format stays and there is no
target, only documents are then written; otherwise `copying` makes a copy.
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
from .copying import ConvertedImage, CopyOptions, copy_group, verify_copy


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

    Levels are kept as they are, with their paths, attributes, and how to display them; further arrays and groups, as
    tables, come with a copy. Between 0.5 and 0.6 the arrays can stay where they are: without a `target`, only metadata
    are written anew.

    Parameters
    ----------
    source, path
        Place of the image's group, of any version that `open_pyramid` reads.
    target
        Where to write a copy; nothing may be stored there. None: convert in place.
    version
        "0.4" (zarr v2), "0.5" or "0.6" (zarr v3).
    chunks, shards, compressors
        Of a copy, as in `write_pyramid`; as stored by default. Zarr v2 has no shards.
    memory_limit, workers, resume, progress
        As in `write_pyramid`.
    storage_options
        Options of the file system of the places that are URLs.

    Raises
    ------
    FileNotFoundError
        If nothing is stored at `source`.
    FileExistsError
        If something is stored at `target`, but for an interrupted copy that is to be gone on with.
    ValueError
        If there is nothing to convert, the new version cannot say what the metadata do, or a copy turns out to
        differ from its source.

    Warns
    -----
    UserWarning
        If something was assumed, or is left behind: coordinate systems that only 0.6 knows, images in further groups,
        and arrays that the other zarr format cannot hold.

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
    # Labels may have been added since metadata were consolidated.
    stored = stores.StoredPyramid.by_ngff(stores.open_node(node, use_consolidated=False))
    images = list(_images(stored, version))
    if target is None:
        by_default = isinstance(compressors, str) and compressors == "auto"
        of_copy = [*storage.specified, *([] if by_default else ["compressors"]), *(["resume"] if resume else [])]
        _check_in_place(stored, version, of_copy)
        _rewrite_documents(cast("zarr.Group", node), images, version)
        return
    how = CopyOptions(version, storage.in_zarr_format(VERSIONS[version].zarr_format), compressors, resume, progress)
    options = storage_options if isinstance(target, str) else None
    if not_copied := copy_group(stored.group, images, target, how, options):
        warnings.warn(
            f"{', '.join(not_copied)} of {stored.group.store_path} are not copied: they are images of their own, or "
            "cannot be stored in the other zarr format; convert or copy them by themselves",
            UserWarning,
            stacklevel=2,
        )
    verify_copy(images, stores.open_node(target, storage_options=options))


def _images(stored: stores.StoredPyramid, version: NgffVersion) -> Iterator[ConvertedImage]:
    """Yield an image and its labels as they will be.

    Raises
    ------
    ValueError
        If the version cannot say what their metadata do.
    """
    yield _image(stored, "", version)
    for name, node in stored.labels.items():
        if not isinstance(node, zarr.Group):
            raise ValueError(
                f"{stored.group.store_path} lists the labels {name!r}, but there are none; correct the list first"
            )
        yield _image(stores.StoredPyramid.by_ngff(node), f"{stores.LABELS}/{name}", version)


def _image(stored: stores.StoredPyramid, inside: str, version: NgffVersion) -> ConvertedImage:
    place, attributes, assumed = stored.group.store_path, stored.attributes, stored.assumed
    entries: Any = namespace_of(attributes)["multiscales"]
    if len(entries) > 1:
        raise ValueError(f"{place} describes {len(entries)} images, and only one at a time can be converted")
    lost = further_system_names(attributes) if not VERSIONS[version].has_systems else ()
    if lost:
        assumed += (f"that the coordinate systems {', '.join(lost)} may go, which only 0.6 knows",)
    if assumed:
        message = f"{place} is converted to {version}; assumed: {'; '.join(assumed)}"
        warnings.warn(message, UserWarning, stacklevel=4)
    levels = dict(zip(stored.paths, stored.levels, strict=True))
    new = converted_attributes(attributes, levels, version, restated=bool(assumed))
    if wrong := [finding for finding in document_findings(new) if finding.severity == "error"]:
        raise ValueError(
            f"OME-NGFF {version} cannot say what the metadata of {place} do: {wrong[0].location}: {wrong[0].message}"
        )
    return ConvertedImage(stored, inside, new)


# --- in place --------------------------------------------------------------------------------------------------


def _check_in_place(stored: stores.StoredPyramid, version: NgffVersion, of_copy: Sequence[str]) -> None:
    """Refuse a conversion that has nothing to write, more than documents, or options of a copy (`of_copy`)."""
    if of_copy:
        raise ValueError(f"{', '.join(of_copy)} shape a copy, and there is no target; name one, or leave them out")
    group, zarr_format = stored.group, VERSIONS[version].zarr_format
    if group.metadata.zarr_format != zarr_format:
        raise ValueError(
            f"OME-NGFF {version} is zarr v{zarr_format}, and {group.store_path} is v{group.metadata.zarr_format}; name "
            "a target for the copy"
        )
    if stored.version == version:
        raise ValueError(f"{group.store_path} is OME-NGFF {version} already; there is nothing to convert")


def _rewrite_documents(group: zarr.Group, images: Sequence[ConvertedImage], version: NgffVersion) -> None:
    """Write the attributes of an image and its labels in a version, those of the image last."""
    with stores.claim(stores.place_of(group)):
        was_consolidated = stores.is_consolidated(group)
        root = stores.writable_group(group)
        documents = {image.inside: image.attributes for image in images}
        if isinstance(labels := root.get(stores.LABELS), zarr.Group):
            documents[stores.LABELS] = relocated_attributes(labels.attrs.asdict(), version)
        # The image itself last: what it says is what readers see first.
        for inside in sorted(documents, key=len, reverse=True):
            node = root if not inside else root[inside]
            node.attrs.put(documents[inside])
        if was_consolidated:
            stores.consolidate(root)
