"""Pyramids from one version of OME-NGFF to another: metadata anew, and arrays where the zarr format changes.

Where the format stays, and no other place is named, only documents are written. Otherwise every level is copied as
it is by the passes that build pyramids, into a store whose metadata are published last, its labels before it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import zarr

from .. import store as stores
from ..check.validation import validate
from ..image.boxes import pieces, whole_part
from ..messages import check_choice
from ..metadata import (
    VERSIONS,
    WRITTEN_VERSIONS,
    NgffVersion,
    converted_attributes,
    further_system_names,
    has_ome_metadata,
    namespace_of,
    relocated_attributes,
)
from ..metadata.display import without_display
from ..metadata.specification import document_findings
from ..plan.factors import ChunkSizes
from ..plan.options import StorageOptions
from ..tasks.progress import ProgressCallback
from .build import build_of_tree
from .engine import run_passes

# How much of a level is compared at the end, along each axis at each of its ends and its middle.
SAMPLE = 64


@dataclass(frozen=True)
class _Image:
    """An image to be converted."""

    stored: stores.StoredPyramid
    inside: str
    """Its path below the source: none for the image itself, "labels/..." for its labels."""
    attributes: dict[str, Any]
    """The attributes of its group in the new version."""


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
        _convert_in_place(cast("zarr.Group", node), images, version, of_copy)
        return
    copy = _Copy(version, storage, compressors, resume, progress)
    options = storage_options if isinstance(target, str) else None
    with ExitStack() as claims:
        begun: list[tuple[stores.Target | None, _Image]] = []
        for image in images:
            root = cast("stores.Target", begun[0][0]).group if begun else None
            begun.append((copy.begin(image, root, target, options, claims), image))
        left = copy.copy_rest(stored.group, _rest(stored.group, images), cast("stores.Target", begun[0][0]).group)
        # The image itself last: what it says is what readers see first.
        for new, image in reversed(begun):
            if new is not None:
                new.publish(image.attributes)
    if left:
        warnings.warn(
            f"{', '.join(left)} of {stored.group.store_path} are not copied: they are images of their own, or cannot "
            "be stored in the other zarr format; convert or copy them by themselves",
            UserWarning,
            stacklevel=2,
        )
    _verify_copy(images, stores.open_node(target, storage_options=options))


def _images(stored: stores.StoredPyramid, version: NgffVersion) -> Iterator[_Image]:
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


def _image(stored: stores.StoredPyramid, inside: str, version: NgffVersion) -> _Image:
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
    return _Image(stored, inside, new)


# --- in place --------------------------------------------------------------------------------------------------


def _convert_in_place(group: zarr.Group, images: list[_Image], version: NgffVersion, given: list[str]) -> None:
    if given:
        raise ValueError(f"{', '.join(given)} shape a copy, and there is no target; name one, or leave them out")
    zarr_format = VERSIONS[version].zarr_format
    if group.metadata.zarr_format != zarr_format:
        raise ValueError(
            f"OME-NGFF {version} is zarr v{zarr_format}, and {group.store_path} is v{group.metadata.zarr_format}; name "
            "a target for the copy"
        )
    if images[0].stored.version == version:
        raise ValueError(f"{group.store_path} is OME-NGFF {version} already; there is nothing to convert")
    with stores.claim(stores.place_of(group)):
        was_consolidated = group.metadata.consolidated_metadata is not None
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


# --- copies ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copy:
    """How images are copied."""

    version: NgffVersion
    storage: StorageOptions
    compressors: Any
    resume: bool
    progress: bool | ProgressCallback | None

    def begin(
        self,
        image: _Image,
        root: zarr.Group | None,
        target: Any,
        options: Mapping[str, Any] | None,
        claims: ExitStack,
    ) -> stores.Target | None:
        """Copy the levels of an image below a target, and return what is to be published; None if labels are there.

        `root` is the group of the image that these are labels of, None for that image itself.
        """
        place = target
        if root is not None:
            self._list_labels(image, root)
            place, options = root.store_path / image.inside, None
            if self.resume and stores.is_finished(place):
                return None
        claims.enter_context(stores.claim(stores.place_of(place)))
        zarr_format = VERSIONS[self.version].zarr_format
        build = build_of_tree(image.stored.tree(), stores.place_of(place), self._storage(zarr_format))
        sources = image.stored.arrays
        encodings = [
            replace(stores.encoding_like(source, zarr_format, self.compressors), fill_value=source.fill_value)
            for source in sources
        ]
        paths = image.stored.paths
        beside = all(_coordinate_names(image, path) for path in paths)
        written = stores.written_paths("datatree" if beside else "flat", paths, build.images)
        layout = image.stored.layout
        new = stores.create_target(
            place,
            sources,
            paths,
            written,
            record=build.record(self.version, layout, encodings[0], copy_base=True),
            layout=layout,
            mode="w-",
            resume=self.resume,
            zarr_format=zarr_format,
            storage_options=options,
        )
        arrays = {}
        for level, encoding, source in zip(build.levels, encodings, sources, strict=True):
            arrays[level.index] = new.create_level(level, encoding, _foreign(source), like=source)
            if beside:
                new.write_coordinates(level.index, without_display(build.images[level.index]))
        for parent in sorted({path.rpartition("/")[0] for path in paths} - {""}):
            kept = _foreign(image.stored.group[parent])
            if kept:
                new.group.require_group(parent).attrs.update(kept)
        run_passes(build, arrays, new, self.progress)
        return new

    def copy_rest(self, source: zarr.Group, names: Sequence[str], target: zarr.Group) -> list[str]:
        """Copy arrays and groups that are neither levels nor labels, and return the names of those left behind."""
        left: list[str] = []
        for name in names:
            node = source[name]
            inside_left = any(name.startswith(f"{other}/") for other in left)
            if inside_left or (isinstance(node, zarr.Group) and has_ome_metadata(node.attrs.asdict())):
                left.append(name)
            elif isinstance(node, zarr.Group):
                target.require_group(name).attrs.put(node.attrs.asdict())
            elif not self._copy_array(node, target, name):
                left.append(name)
        return left

    def _copy_array(self, source: zarr.Array[Any], target: zarr.Group, name: str) -> bool:
        """Copy an array, chunk by chunk; return whether the zarr format can hold it."""
        zarr_format = VERSIONS[self.version].zarr_format
        encoding = stores.encoding_like(source, zarr_format, self.compressors)
        names = stores.dimension_names(source)
        dimensions = {stores.V2_DIMENSIONS: list(names)} if names and zarr_format == 2 else {}
        sharded = source.shards is not None and zarr_format == 3
        try:
            new = target.create_array(
                name,
                shape=source.shape,
                dtype=source.dtype,
                chunks=source.chunks,
                shards=source.shards if sharded else None,
                compressors=encoding.compressors,
                filters=encoding.filters,
                serializer=encoding.serializer if zarr_format == 3 else "auto",
                fill_value=source.fill_value,
                attributes={**_foreign(source), **dimensions},
                chunk_key_encoding={"name": "v2" if zarr_format == 2 else "default", "separator": "/"},
                dimension_names=names if zarr_format == 3 else None,
                # An interrupted copy may have left it in part.
                overwrite=self.resume,
            )
        except (ValueError, TypeError):
            return False
        for region in pieces(whole_part(source.shape), new.shards or new.chunks):
            new[region] = source[region]
        return True

    def _storage(self, zarr_format: int) -> StorageOptions:
        if zarr_format != 2:
            return self.storage
        if self.storage.shards:
            raise ValueError(f"zarr v2 has no shards, found shards={self.storage.shards!r}; leave them out")
        return replace(self.storage, shards=False)

    def _list_labels(self, image: _Image, root: zarr.Group) -> None:
        """Make the group of the labels, which lists them, where it is not yet."""
        if stores.LABELS not in root:
            names = image.inside.split("/")[1:]
            above = image.stored.group.store_path
            parent = "/".join(above.path.split("/")[: -len(names)])
            listing = zarr.open_group(above.store, path=parent, mode="r")
            root.create_group(stores.LABELS, attributes=relocated_attributes(listing.attrs.asdict(), self.version))


def _foreign(node: zarr.Array[Any] | zarr.Group) -> dict[str, Any]:
    """Return the attributes of a level, or of the group that it lies in, but for what one zarr format needs."""
    return {key: value for key, value in node.attrs.asdict().items() if key != stores.V2_DIMENSIONS}


def _coordinate_names(image: _Image, path: str) -> list[str]:
    """Return the names of the arrays beside a level, in a group of its own."""
    parent = path.rpartition("/")[0]
    holder = image.stored.group.get(parent) if parent else None
    return [name for name in holder if f"{parent}/{name}" != path] if isinstance(holder, zarr.Group) else []


def _rest(group: zarr.Group, images: list[_Image]) -> list[str]:
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


def _verify_copy(images: list[_Image], copy: zarr.Array[Any] | zarr.Group) -> None:
    """Hold a copy against the specification, and samples of its levels against their sources.

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
            for block in _samples(source.shape):
                there = np.asarray(cast("zarr.Array[Any]", level)[block])
                if there.tobytes() != np.asarray(source[block]).astype(there.dtype, copy=False).tobytes():
                    raise ValueError(
                        f"{level.store_path} differs from {source.store_path} at {block!r}; convert it again"
                    )


def _samples(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Return blocks at the first corner of an array, in its middle and at its last corner."""
    starts = [sorted({0, max((n - SAMPLE) // 2, 0), max(n - SAMPLE, 0)}) for n in shape]
    corners = [[along[min(number, len(along) - 1)] for along in starts] for number in range(3)]
    unique = list(dict.fromkeys(map(tuple, corners)))
    return [tuple(slice(start, start + SAMPLE) for start in corner) for corner in unique]
