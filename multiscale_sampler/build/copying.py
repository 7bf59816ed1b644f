"""Copies of an image, its labels and the rest of its group, in another version of OME-NGFF.

Metadata are written when all chunks are written and checked, those of the image last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import zarr

from .. import store as stores
from ..check.validation import level_findings
from ..image.boxes import Block, Box, box_at, pieces, whole_box
from ..metadata import VERSIONS, Multiscales, NgffVersion, has_ome_metadata, parse_multiscales, relocated_attributes
from ..metadata.display import without_display
from ..plan.by_level import check_levels, is_by_level
from ..plan.options import StorageOptions
from ..tasks.progress import ProgressCallback
from .build import Build, build_of_tree
from .engine import check_data, resumable, run_passes
from .finished import is_made

# Size along each axis of the three boxes of a level that are compared with the source.
SAMPLED_EDGE = 64


@dataclass(frozen=True)
class ConvertedImage:
    """An image or labels of the source, and its attributes in the new version."""

    stored: stores.StoredPyramid
    """The image in the source."""
    inside: str
    """Path of its group in the source: "" for the image itself, "labels/..." for labels."""
    attributes: dict[str, Any]
    """The attributes of its group in the new version."""
    order: tuple[int, ...]
    """The order in which the new version has its axes, by their numbers in the source."""

    def values(self, level: zarr.Array[Any], box: Box) -> Block:
        """Return the values of a box of a level, which is in the new order of axes."""
        inside = tuple(box[self.order.index(axis)] for axis in range(level.ndim))
        return np.asarray(stores.watched(level)[inside]).transpose(self.order)


@dataclass(frozen=True)
class CopySettings:
    """How images are copied."""

    version: NgffVersion
    """Version of OME-NGFF of the copy."""
    storage: StorageOptions
    """Chunks, shards, workers and memory."""
    compressors: Any
    """Codecs, as ``zarr.create_array`` takes them; "auto": the source's."""
    resume: bool
    """Whether to resume an interrupted copy."""
    progress: bool | ProgressCallback | None
    """How progress is reported."""

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """The zarr format of the copy."""
        return VERSIONS[self.version].zarr_format


def copy_group(
    source: zarr.Group,
    images: Sequence[ConvertedImage],
    target: Any,
    settings: CopySettings,
    storage_options: Mapping[str, Any] | None,
) -> list[str]:
    """Copy an image, its labels (`images`, in this order) and the rest of its group to a target.

    Returns
    -------
    list of str
        Names of the arrays and groups that are not copied.
    """
    image, *labels = images
    with ExitStack() as claims:
        root = _copy_levels(image, target, settings, claims, storage_options)
        if root.is_complete:
            return []
        pending = [(root, image)]
        for each in labels:
            _create_labels_group(each, root.group, settings.version)
            place = root.stored_group.store_path / each.inside
            if not (settings.resume and stores.is_finished(place)):
                pending.append((_copy_levels(each, place, settings, claims, None), each))
        not_copied = _copy_others(source, _other_names(source, images), root.group, settings)
        # The image itself last: readers start from its metadata.
        with resumable():
            for new, each in reversed(pending):
                new.publish(each.attributes)
    return not_copied


def _copy_levels(
    image: ConvertedImage,
    place: Any,
    settings: CopySettings,
    claims: ExitStack,
    storage_options: Mapping[str, Any] | None,
) -> stores.Target:
    """Copy the levels of an image with their coordinates, and return the target, still without OME-NGFF metadata."""
    claims.enter_context(stores.claim(stores.place_of(place)))
    check_levels("compressors", settings.compressors, len(image.stored.arrays))
    build = build_of_tree(image.stored.tree(packed=True), stores.place_of(place), settings.storage)
    build.warn_of_order(stacklevel=4)
    encodings = [_encoding_of_copy(source, settings) for source in image.stored.arrays]
    with_coordinates = all(_coordinate_names(image, path) for path in image.stored.paths)
    paths, layout = image.stored.paths, image.stored.layout
    written = stores.written_paths("datatree" if with_coordinates else "flat", paths, build.images)
    record = build.record(settings.version, layout, encodings[0], copy_base=True)

    def create(target: stores.Target) -> dict[int, zarr.Array[Any]]:
        return _create_levels(image, build, encodings, target, with_coordinates=with_coordinates)

    if settings.resume and (finished := stores.finished_group(place, storage_options)) is not None:
        made = stores.target_in_memory(paths, layout, settings.zarr_format, written=written)
        if is_made(build, finished, made, record, create, lambda *_: image.attributes):
            return replace(made, group=finished, is_complete=True)
    new = _create_target(image, place, settings, record, written, storage_options)
    if new.is_complete:
        check_data(build, new.level_arrays(), new)
        return new
    arrays = create(new)
    run_passes(build, arrays, new, settings.progress)
    _verify_levels(image, new, [arrays[level.index] for level in build.levels])
    return new


def _encoding_of_copy(source: zarr.Array[Any], settings: CopySettings) -> stores.Encoding:
    """Return how a copy of an array is stored: with its fill value, unless xarray would take that for missing then."""
    encoding = stores.encoding_like(source, settings.zarr_format, settings.compressors)
    if settings.zarr_format == 2 and source.metadata.zarr_format == 3:
        return encoding
    return replace(encoding, fill_value=source.fill_value)


def _create_levels(
    image: ConvertedImage,
    build: Build,
    encodings: Sequence[stores.Encoding],
    target: stores.Target,
    *,
    with_coordinates: bool,
) -> dict[int, zarr.Array[Any]]:
    """Create the arrays of the levels of a copy, with their coordinates and the attributes of their groups."""
    arrays = {}
    for level, encoding, source in zip(build.levels, encodings, image.stored.arrays, strict=True):
        arrays[level.index] = target.create_level(level, encoding, _attributes_to_copy(source), like=source)
        if with_coordinates:
            image_of_level = without_display(build.images[level.index])
            coordinates = stores.coordinates_in_memory(image_of_level, encoding.zarr_format)
            target.write_coordinates(level.index, coordinates)
    for parent in sorted({path.rpartition("/")[0] for path in image.stored.paths} - {""}):
        if attributes := _attributes_to_copy(image.stored.group[parent]):
            target.group.require_group(parent).attrs.update(attributes)
    return arrays


def _create_target(
    image: ConvertedImage,
    place: Any,
    settings: CopySettings,
    record: stores.Record,
    written: tuple[str, ...],
    storage_options: Mapping[str, Any] | None,
) -> stores.Target:
    try:
        return stores.create_target(
            place,
            image.stored.arrays,
            image.stored.paths,
            written,
            record=record,
            layout=image.stored.layout,
            mode="w-",
            resume=settings.resume,
            zarr_format=settings.zarr_format,
            storage_options=storage_options,
        )
    except FileExistsError as error:
        # What a copy cannot do stands after what is there.
        there = str(error).partition(";")[0]
        raise FileExistsError(
            f"{there}; convert to another place, or continue an interrupted copy with resume=True (--resume)"
        ) from error


def _create_labels_group(image: ConvertedImage, root: zarr.Group, version: NgffVersion) -> None:
    """Create the group ``labels`` with its list of labels, unless it exists.

    In zarr v2, a copy that was stopped may have left it without the list.
    """
    labels = root.require_group(stores.LABELS)
    if not labels.attrs.asdict():
        names = image.inside.split("/")[1:]
        above = image.stored.group.store_path
        parent = "/".join(above.path.split("/")[: -len(names)])
        listing = zarr.open_group(above.store, path=parent, mode="r")
        labels.attrs.put(relocated_attributes(listing.attrs.asdict(), version))


def _copy_others(source: zarr.Group, names: Sequence[str], target: zarr.Group, settings: CopySettings) -> list[str]:
    """Copy the arrays and groups of these names, and return the names of those that cannot be copied."""
    not_copied: list[str] = []
    for name in names:
        node = source[name]
        is_inside = any(name.startswith(f"{other}/") for other in not_copied)
        if is_inside or (isinstance(node, zarr.Group) and has_ome_metadata(node.attrs.asdict())):
            not_copied.append(name)
        elif isinstance(node, zarr.Group):
            target.require_group(name).attrs.put(node.attrs.asdict())
        elif not _copy_array(node, target, name, settings):
            not_copied.append(name)
    return not_copied


def _copy_array(source: zarr.Array[Any], target: zarr.Group, name: str, settings: CopySettings) -> bool:
    """Copy an array, chunk by chunk; return whether the zarr format can store it."""
    # Other arrays than levels have no number.
    compressors = "auto" if is_by_level(settings.compressors) else settings.compressors
    encoding = stores.encoding_like(source, settings.zarr_format, compressors)
    names = stores.dimension_names(source)
    dimensions = {stores.V2_DIMENSIONS: list(names)} if names and settings.zarr_format == 2 else {}
    sharded = source.shards is not None and settings.zarr_format == 3
    try:
        new = target.create_array(
            name,
            shape=source.shape,
            dtype=source.dtype,
            chunks=source.chunks,
            shards=source.shards if sharded else None,
            compressors=encoding.compressors,
            filters=encoding.filters,
            serializer=encoding.serializer if settings.zarr_format == 3 else "auto",
            fill_value=source.fill_value,
            attributes={**_attributes_to_copy(source), **dimensions},
            chunk_key_encoding=stores.key_encoding(settings.zarr_format),
            dimension_names=names if settings.zarr_format == 3 else None,
            # An interrupted copy may have written a part of it.
            overwrite=settings.resume,
        )
    except (ValueError, TypeError):
        return False
    access = stores.Access.of(source)
    stores.check_chunks([access.presence])
    for region in pieces(whole_box(source.shape), stores.storage_unit(new)):
        new[region] = access.read(region)
    return True


def _attributes_to_copy(node: zarr.Array[Any] | zarr.Group) -> dict[str, Any]:
    """Return the attributes of an array or group, without the one that only zarr v2 needs."""
    return {key: value for key, value in node.attrs.asdict().items() if key != stores.V2_DIMENSIONS}


def _coordinate_names(image: ConvertedImage, path: str) -> list[str]:
    """Return the names of the arrays beside a level, if it has its own group."""
    parent = path.rpartition("/")[0]
    group = image.stored.group.get(parent) if parent else None
    return (
        [name for name in stores.members_of(group, 0) if f"{parent}/{name}" != path]
        if isinstance(group, zarr.Group)
        else []
    )


def _other_names(group: zarr.Group, images: Sequence[ConvertedImage]) -> list[str]:
    """Return the paths of the arrays and groups that are neither levels nor labels, parents first."""
    copied = {"/".join(filter(None, (image.inside, path))) for image in images for path in image.stored.paths}
    above = {"/".join(path.split("/")[:depth]) for path in copied for depth in range(1, path.count("/") + 1)}
    inside = {path.rpartition("/")[0] for path in copied if path.rpartition("/")[0] in above - {stores.LABELS}}
    owned = {image.inside for image in images}
    return sorted(
        name
        for name in stores.members_of(group)
        if name not in copied | above | owned | {stores.LABELS} and name.rpartition("/")[0] not in inside - owned
    )


def _verify_levels(image: ConvertedImage, new: stores.Target, arrays: Sequence[zarr.Array[Any]]) -> None:
    """Check the levels of a copy, and compare three boxes of each with the source, before the copy is published.

    Raises
    ------
    ValueError
        If what the copy is about to state does not fit its arrays, or values differ.
    """
    stated = cast("Multiscales", parse_multiscales(image.attributes))
    findings = [*level_findings(stores.StoredPyramid.as_listed(new.group, stated, arrays))]
    if wrong := [finding for finding in findings if finding.severity == "error"]:
        raise ValueError(
            f"the copy of {image.stored.group.store_path} would not be valid: {wrong[0].location}: "
            f"{wrong[0].message}; check the source with validate, correct it, and convert it to another place"
        )
    for source, copy in zip(image.stored.arrays, arrays, strict=True):
        for box in _compared_boxes(copy.shape):
            copied, expected = np.asarray(copy[box]), image.values(source, box)
            if copied.tobytes() != expected.astype(copied.dtype, copy=False).tobytes():
                raise ValueError(
                    f"{copy.store_path} differs from {source.store_path} at {box!r}; convert it again to another place"
                )


def _compared_boxes(shape: tuple[int, ...]) -> list[Box]:
    """Return the boxes of an array at its first corner, in its middle and at its last corner."""
    starts = [sorted({0, max((n - SAMPLED_EDGE) // 2, 0), max(n - SAMPLED_EDGE, 0)}) for n in shape]
    corners = [[along[min(number, len(along) - 1)] for along in starts] for number in range(3)]
    unique = list(dict.fromkeys(map(tuple, corners)))
    return [box_at(corner, (SAMPLED_EDGE,) * len(shape)) for corner in unique]
