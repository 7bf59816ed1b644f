"""`convert`: convert a pyramid to another version of OME-NGFF, in place or as a copy.

The new metadata are computed and checked before anything is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import zarr

from .. import store as stores
from ..check.validation import level_findings
from ..messages import check_choice
from ..metadata import (
    OMERO,
    VERSIONS,
    WRITTEN_VERSIONS,
    Multiscales,
    NgffVersion,
    converted_attributes,
    further_system_names,
    namespace_of,
    ngff_order,
    parse_multiscales,
    relocated_attributes,
)
from ..metadata.display import omero_to_publish, stated_display
from ..metadata.omero import with_omero
from ..metadata.specification import DISPLAY, document_findings
from ..plan.factors import ChunkSizesByLevel, ShardSizesByLevel
from ..plan.options import StorageOptions
from ..tasks.progress import ProgressCallback
from .copying import ConvertedImage, CopySettings, copy_group
from .updating import refuse_other_change


def convert(
    source: Any,
    target: Any = None,
    *,
    path: str | None = None,
    version: NgffVersion,
    chunks: ChunkSizesByLevel | None = None,
    shards: ShardSizesByLevel | None = None,
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
    metadata; if it is interrupted, the same call completes it, and an image that has the version already is left as it
    is.

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
        If `target` is not empty, unless `resume` is set and it contains an interrupted copy, which is completed, or the
        complete one.
    ValueError
        If the new version cannot express the metadata, a change of the image was interrupted, or samples of the copy
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
    options_of_source = storage_options if isinstance(source, str) else None
    if target is None:
        by_default = isinstance(compressors, str) and compressors == "auto"
        of_copy = [*storage.specified, *([] if by_default else ["compressors"]), *(["resume"] if resume else [])]
        if of_copy:
            raise ValueError(f"{', '.join(of_copy)} apply to a copy, but there is no target; pass one, or omit them")
        _convert_in_place(source, path, version, options_of_source)
        return
    node = stores.open_node(source, path, storage_options=options_of_source)
    # Consolidated metadata may lack labels that were added later.
    stored = stores.StoredPyramid.by_ngff(stores.open_node(node, use_consolidated=False))
    refuse_other_change(stored, None)
    if isinstance(node, zarr.Group) and (outdated := stores.outdated_documents(node, stored.paths)):
        warnings.warn(
            f"the consolidated metadata of {stored.group.store_path} are outdated, and not used: "
            f"{'; '.join(map(str, outdated))}; renew them with zarr.consolidate_metadata",
            UserWarning,
            stacklevel=2,
        )
    images = _converted_images(_pyramids_inside(stored), version, is_copy=True, stacklevel=2)
    read = [stores.Presence.of(array) for image in images for array in image.stored.arrays]
    stores.check_chunks(read)
    settings = CopySettings(
        version, storage.in_zarr_format(VERSIONS[version].zarr_format), compressors, resume, progress
    )
    options = storage_options if isinstance(target, str) else None
    with stores.naming_place(target):
        not_copied = copy_group(stored.group, images, target, settings, options)
    if not_copied:
        warnings.warn(
            f"{', '.join(not_copied)} of {stored.group.store_path} are not copied: they are separate images, or cannot "
            "be stored in the other zarr format; convert or copy them separately",
            UserWarning,
            stacklevel=2,
        )
    stores.warn_if_empty(read[:1], stacklevel=2)


def _pyramids_inside(stored: stores.StoredPyramid) -> Iterator[tuple[str, stores.StoredPyramid]]:
    """Yield an image, then its labels, with their paths in its group.

    Raises
    ------
    ValueError
        If labels that the image lists do not exist, or an image is being changed.
    """
    yield "", stored
    for name, node in stored.labels.items():
        if not isinstance(node, zarr.Group):
            raise ValueError(
                f"{stored.group.store_path} lists the labels {name!r}, which do not exist; remove them from the list"
            )
        labels = stores.StoredPyramid.by_ngff(node)
        refuse_other_change(labels, None)
        yield f"{stores.LABELS}/{name}", labels


def _converted_images(
    pyramids: Iterable[tuple[str, stores.StoredPyramid]], version: NgffVersion, *, is_copy: bool, stacklevel: int
) -> list[ConvertedImage]:
    """Return images with their attributes in a version; warn, as a call at `stacklevel`, of what is assumed.

    Raises
    ------
    ValueError
        If the version cannot express their metadata.
    """
    converted = []
    for inside, stored in pyramids:
        converted.append(_converted_image(stored, inside, version, is_copy=is_copy, stacklevel=stacklevel + 1))
    return converted


def _converted_image(
    stored: stores.StoredPyramid, inside: str, version: NgffVersion, *, is_copy: bool, stacklevel: int
) -> ConvertedImage:
    """Return an image with its attributes in a version; in a copy, axes have the order that OME-NGFF requires."""
    place, attributes, assumed = stored.group.store_path, stored.attributes, stored.assumed
    entries: Any = namespace_of(attributes)["multiscales"]
    if len(entries) > 1:
        raise ValueError(
            f"{place} describes {len(entries)} images, but a conversion keeps one per group; move each to its own "
            "group, or write the first with write_pyramid instead"
        )
    lost = further_system_names(attributes) if not VERSIONS[version].has_systems else ()
    if lost:
        assumed += (f"that the coordinate systems {', '.join(lost)} can be dropped, because only 0.6 has them",)
    order = _order_of_copy(stored, version) if is_copy else tuple(range(len(stored.levels[0])))
    levels = {path: [axes[i] for i in order] for path, axes in zip(stored.paths, stored.levels, strict=True)}
    restated = bool(assumed) or order != tuple(sorted(order))
    new, completed = _with_whole_display(
        stored, converted_attributes(attributes, levels, version, restated=restated), version
    )
    if assumed := (*assumed, *completed):
        message = f"{place} is converted to {version}; assumed: {'; '.join(assumed)}"
        warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)
    _refuse_invalid(stored, new, version)
    return ConvertedImage(stored, inside, new, order)


def _order_of_copy(stored: stores.StoredPyramid, version: NgffVersion) -> tuple[int, ...]:
    """Return the order of axes in a copy, by their numbers in the source.

    Raises
    ------
    ValueError
        If the metadata depend on the order in a way that is not converted.
    """
    axes = stored.levels[0]
    order = ngff_order(axes)
    further = further_system_names(stored.attributes) if VERSIONS[version].has_systems else ()
    if further and order != tuple(sorted(order)):
        raise ValueError(
            f"{stored.group.store_path} has the axes {tuple(axis.name for axis in axes)!r}, whose order a copy would "
            f"change, and the coordinate systems {', '.join(further)}, which depend on it; remove these systems first"
        )
    return order


def _with_whole_display(
    stored: stores.StoredPyramid, attributes: dict[str, Any], version: NgffVersion
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return attributes with what must not be missing of how channels are displayed, and what was assumed of it."""
    omero = namespace_of(attributes).get(OMERO)
    if omero is None or not any(DISPLAY(OMERO, omero)):
        return attributes, ()
    axes, coarsest = stored.levels[-1], stored.level(len(stored.arrays) - 1)
    stated = stated_display(coarsest.drop_attrs(deep=False).assign_attrs({OMERO: omero}), axes, version)
    whole = omero_to_publish(coarsest, axes, stored.arrays[-1], stated, (stored.recipe or {}).get("nodata"))
    return with_omero(attributes, whole), (f"what {OMERO!r} does not state, from the coarsest level",)


def _refuse_invalid(stored: stores.StoredPyramid, attributes: Mapping[str, Any], version: NgffVersion) -> None:
    """Raise if new attributes of an image are not valid, or do not fit its arrays.

    Raises
    ------
    ValueError
        With the first finding.
    """
    findings = [*document_findings(attributes)]
    if all(finding.severity != "error" for finding in findings):
        stated = cast("Multiscales", parse_multiscales(attributes))
        of_levels = level_findings(stores.StoredPyramid.as_listed(stored.group, stated, stored.arrays))
        # A copy gets coordinate arrays of its own.
        findings += [finding for finding in of_levels if finding.location in (*stored.paths, "datasets")]
    if wrong := [finding for finding in findings if finding.severity == "error"]:
        raise ValueError(
            f"OME-NGFF {version} cannot express {stored.group.store_path}: {wrong[0].location}: {wrong[0].message}; "
            "correct that first, or write the image with write_pyramid instead"
        )


# --- in place --------------------------------------------------------------------------------------------------


def _convert_in_place(
    source: Any, path: str | None, version: NgffVersion, storage_options: Mapping[str, Any] | None
) -> None:
    """Write the attributes of an image and its labels in another version, unless they have it already."""
    with stores.PyramidChange.claimed(source, path, storage_options=storage_options) as change:
        stored = stores.StoredPyramid.by_ngff(change.pyramid.group)
        refuse_other_change(stored, "convert")
        _check_format_in_place(stored, version)
        pyramids = list(_pyramids_inside(stored))
        if stored.begun is None and all(each.version == version for _, each in pyramids):
            return
        images = _converted_images(pyramids, version, is_copy=False, stacklevel=3)
        documents: dict[str, Mapping[str, Any]] = {image.inside: image.attributes for image in images}
        if isinstance(labels := stored.group.get(stores.LABELS), zarr.Group):
            documents[stores.LABELS] = relocated_attributes(labels.attrs.asdict(), version)
        change.convert(version, documents)


def _check_format_in_place(stored: stores.StoredPyramid, version: NgffVersion) -> None:
    """Raise if a conversion in place needs another zarr format."""
    group, zarr_format = stored.group, VERSIONS[version].zarr_format
    if group.metadata.zarr_format != zarr_format:
        raise ValueError(
            f"OME-NGFF {version} is zarr v{zarr_format}, and {group.store_path} is v{group.metadata.zarr_format}; name "
            "a target for the copy"
        )
