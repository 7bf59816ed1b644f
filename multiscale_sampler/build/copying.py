"""Copies of an image and its labels in another version of OME-NGFF, with everything else that is in its group.

Levels are copied as they are, by the passes that build pyramids. Metadata are published when all chunks are there,
those of the image after those of its labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import zarr

from .. import store as stores
from ..check.validation import validate
from ..image.boxes import Box, box_at, pieces, whole_box
from ..metadata import VERSIONS, NgffVersion, has_ome_metadata, relocated_attributes
from ..metadata.display import without_display
from ..plan.options import StorageOptions
from ..tasks.progress import ProgressCallback
from .build import Build, build_of_tree
from .engine import run_passes

# How much of a level is compared at the end, along each axis at each of its ends and its middle.
SAMPLED_EDGE = 64


@dataclass(frozen=True)
class ConvertedImage:
    """An image of the source, with what its copy will state."""

    stored: stores.StoredPyramid
    inside: str
    """Its path below the source: none for the image itself, "labels/..." for its labels."""
    attributes: dict[str, Any]
    """The attributes of its group in the new version."""


@dataclass(frozen=True)
class CopyOptions:
    """How images are copied."""

    version: NgffVersion
    storage: StorageOptions
    compressors: Any
    resume: bool
    progress: bool | ProgressCallback | None

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """The zarr format of the copy."""
        return VERSIONS[self.version].zarr_format


def copy_group(
    source: zarr.Group,
    images: Sequence[ConvertedImage],
    target: Any,
    how: CopyOptions,
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
        root = _copy_levels(image, target, how, claims, storage_options)
        pending = [(root, image)]
        for each in labels:
            _list_labels(each, root.group, how.version)
            place = root.group.store_path / each.inside
            if not (how.resume and stores.is_finished(place)):
                pending.append((_copy_levels(each, place, how, claims, None), each))
        not_copied = _copy_others(source, _other_names(source, images), root.group, how)
        # The image itself last: what it says is what readers see first.
        for new, each in reversed(pending):
            new.publish(each.attributes)
    return not_copied


def _copy_levels(
    image: ConvertedImage, place: Any, how: CopyOptions, claims: ExitStack, storage_options: Mapping[str, Any] | None
) -> stores.Target:
    """Copy the levels of an image with their coordinates, and return the target, of which nothing is published yet."""
    claims.enter_context(stores.claim(stores.place_of(place)))
    build = build_of_tree(image.stored.tree(), stores.place_of(place), how.storage)
    build.warn_of_order(stacklevel=4)
    encodings = [
        replace(stores.encoding_like(source, how.zarr_format, how.compressors), fill_value=source.fill_value)
        for source in image.stored.arrays
    ]
    with_coordinates = all(_coordinate_names(image, path) for path in image.stored.paths)
    new = _create_target(image, build, place, how, encodings[0], storage_options, with_coordinates=with_coordinates)
    arrays = {}
    for level, encoding, source in zip(build.levels, encodings, image.stored.arrays, strict=True):
        arrays[level.index] = new.create_level(level, encoding, _attributes_to_copy(source), like=source)
        if with_coordinates:
            new.write_coordinates(level.index, without_display(build.images[level.index]))
    for parent in sorted({path.rpartition("/")[0] for path in image.stored.paths} - {""}):
        kept = _attributes_to_copy(image.stored.group[parent])
        if kept:
            new.group.require_group(parent).attrs.update(kept)
    run_passes(build, arrays, new, how.progress)
    return new


def _create_target(
    image: ConvertedImage,
    build: Build,
    place: Any,
    how: CopyOptions,
    encoding: stores.Encoding,
    storage_options: Mapping[str, Any] | None,
    *,
    with_coordinates: bool,
) -> stores.Target:
    paths, layout = image.stored.paths, image.stored.layout
    return stores.create_target(
        place,
        image.stored.arrays,
        paths,
        stores.written_paths("datatree" if with_coordinates else "flat", paths, build.images),
        record=build.record(how.version, layout, encoding, copy_base=True),
        layout=layout,
        mode="w-",
        resume=how.resume,
        zarr_format=how.zarr_format,
        storage_options=storage_options,
    )


def _list_labels(image: ConvertedImage, root: zarr.Group, version: NgffVersion) -> None:
    """Make the group of the labels, which lists them, where it is not yet."""
    if stores.LABELS not in root:
        names = image.inside.split("/")[1:]
        above = image.stored.group.store_path
        parent = "/".join(above.path.split("/")[: -len(names)])
        listing = zarr.open_group(above.store, path=parent, mode="r")
        root.create_group(stores.LABELS, attributes=relocated_attributes(listing.attrs.asdict(), version))


def _copy_others(source: zarr.Group, names: Sequence[str], target: zarr.Group, how: CopyOptions) -> list[str]:
    """Copy arrays and groups that are neither levels nor labels, and return the names of those that are not copied."""
    not_copied: list[str] = []
    for name in names:
        node = source[name]
        is_inside = any(name.startswith(f"{other}/") for other in not_copied)
        if is_inside or (isinstance(node, zarr.Group) and has_ome_metadata(node.attrs.asdict())):
            not_copied.append(name)
        elif isinstance(node, zarr.Group):
            target.require_group(name).attrs.put(node.attrs.asdict())
        elif not _copy_array(node, target, name, how):
            not_copied.append(name)
    return not_copied


def _copy_array(source: zarr.Array[Any], target: zarr.Group, name: str, how: CopyOptions) -> bool:
    """Copy an array, chunk by chunk; return whether the zarr format can hold it."""
    encoding = stores.encoding_like(source, how.zarr_format, how.compressors)
    names = stores.dimension_names(source)
    dimensions = {stores.V2_DIMENSIONS: list(names)} if names and how.zarr_format == 2 else {}
    sharded = source.shards is not None and how.zarr_format == 3
    try:
        new = target.create_array(
            name,
            shape=source.shape,
            dtype=source.dtype,
            chunks=source.chunks,
            shards=source.shards if sharded else None,
            compressors=encoding.compressors,
            filters=encoding.filters,
            serializer=encoding.serializer if how.zarr_format == 3 else "auto",
            fill_value=source.fill_value,
            attributes={**_attributes_to_copy(source), **dimensions},
            chunk_key_encoding=stores.key_encoding(how.zarr_format),
            dimension_names=names if how.zarr_format == 3 else None,
            # An interrupted copy may have left it in part.
            overwrite=how.resume,
        )
    except (ValueError, TypeError):
        return False
    for region in pieces(whole_box(source.shape), stores.storage_unit(new)):
        new[region] = source[region]
    return True


def _attributes_to_copy(node: zarr.Array[Any] | zarr.Group) -> dict[str, Any]:
    """Return the attributes of a level, or of the group that it lies in, but for what one zarr format needs."""
    return {key: value for key, value in node.attrs.asdict().items() if key != stores.V2_DIMENSIONS}


def _coordinate_names(image: ConvertedImage, path: str) -> list[str]:
    """Return the names of the arrays beside a level, in a group of its own."""
    parent = path.rpartition("/")[0]
    holder = image.stored.group.get(parent) if parent else None
    return [name for name in holder if f"{parent}/{name}" != path] if isinstance(holder, zarr.Group) else []


def _other_names(group: zarr.Group, images: Sequence[ConvertedImage]) -> list[str]:
    """Return the names of the arrays and groups that are neither levels nor labels, each after the group it is in."""
    copied = {"/".join(filter(None, (image.inside, path))) for image in images for path in image.stored.paths}
    above = {"/".join(path.split("/")[:depth]) for path in copied for depth in range(1, path.count("/") + 1)}
    inside = {path.rpartition("/")[0] for path in copied if path.rpartition("/")[0] in above - {stores.LABELS}}
    owned = {image.inside for image in images}
    return sorted(
        name
        for name, _ in group.members(max_depth=None)
        if name not in copied | above | owned | {stores.LABELS} and name.rpartition("/")[0] not in inside - owned
    )


def verify_copy(images: Sequence[ConvertedImage], copy: zarr.Array[Any] | zarr.Group) -> None:
    """Validate a copy, and compare samples of its levels with their sources.

    Raises
    ------
    ValueError
        If one of them differs.
    """
    report = validate(copy)
    if not report.ok:
        raise ValueError(f"the copy is not valid, which its source may not be either:\n{report}")
    for image in images:
        for path, source in zip(image.stored.paths, image.stored.arrays, strict=True):
            place = "/".join(filter(None, (image.inside, path)))
            level = cast("zarr.Group", copy)[place]
            for box in _samples(source.shape):
                there = np.asarray(cast("zarr.Array[Any]", level)[box])
                if there.tobytes() != np.asarray(source[box]).astype(there.dtype, copy=False).tobytes():
                    raise ValueError(
                        f"{level.store_path} differs from {source.store_path} at {box!r}; convert it again"
                    )


def _samples(shape: tuple[int, ...]) -> list[Box]:
    """Return boxes at the first corner of an array, in its middle and at its last corner."""
    starts = [sorted({0, max((n - SAMPLED_EDGE) // 2, 0), max(n - SAMPLED_EDGE, 0)}) for n in shape]
    corners = [[along[min(number, len(along) - 1)] for along in starts] for number in range(3)]
    unique = list(dict.fromkeys(map(tuple, corners)))
    return [box_at(corner, (SAMPLED_EDGE,) * len(shape)) for corner in unique]
