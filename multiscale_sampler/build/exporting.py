"""`export`: write a planned pyramid, and those of its labels, to a new store.

Everything that the store may refuse is tried before anything is made; metadata are written last, after all chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import zarr

from .. import store as stores
from ..image.dataarray import unread
from ..image.grids import attributes_of_level
from ..image.references import attributes_to_store
from ..messages import warn_at_once
from ..metadata import VERSIONS, NgffVersion, check_exportable
from ..metadata.display import Display, stated_display, warn_of_unstated_rotation, without_display
from ..metadata.json_values import json_attributes
from ..plan.by_level import check_levels
from ..tasks.progress import ProgressCallback
from .build import Arrays, Build
from .engine import check_data, resumable, run_passes, take_digests
from .finished import is_made
from .publishing import crs_to_write, published_attributes, with_geozarr
from .space import refuse_without_space

Metadata: TypeAlias = Literal["ome", "geozarr"]
# Path from labels to the image that they label.
LABELLED_IMAGE = "../../"


@dataclass(frozen=True)
class ExportSettings:
    """How `export` stores a pyramid."""

    version: NgffVersion
    """Version of OME-NGFF."""
    layout: stores.Layout
    """Paths of the levels in the group."""
    mode: stores.Mode
    """Whether an existing pyramid may be replaced."""
    compressors: Any = "auto"
    """Codecs, as ``zarr.create_array`` takes them; "auto": the source's."""
    resume: bool = False
    """Whether to resume an interrupted build."""
    progress: bool | ProgressCallback | None = None
    """How progress is reported."""
    storage_options: Mapping[str, Any] | None = None
    """Options of the file system, for a URL."""
    metadata: tuple[Metadata, ...] = ("ome",)
    """Which metadata are written."""
    digests: bool = False
    """Whether to store digests of the chunks of level 0."""


@dataclass(frozen=True)
class _Export:
    """A pyramid that can be written: everything that its target may refuse has been tried."""

    build: Build
    """Its levels, and how they are computed."""
    settings: ExportSettings
    """How it is stored."""
    labels: Mapping[str, Build]
    """The labels that are written with it, by name."""
    labels_of: str | None
    """Of labels the path of the image that they label, relative to them."""
    encoding: stores.Encoding
    """How the arrays of levels are stored."""
    attrs: Mapping[str, Any]
    """Attributes of these arrays."""
    rehearsed: Sequence[zarr.Array[Any]]
    """The same arrays in memory, empty."""
    paths: tuple[str, ...]
    """Their paths in the group."""
    written: tuple[str, ...]
    """Paths of all arrays."""
    coordinates: tuple[dict[str, Any], ...]
    """The coordinate arrays of every level, as documents and chunks by key; empty in the flat layout."""
    stated: Display
    """How the image states that it is displayed."""
    crs: Mapping[str, Any] | None
    """The coordinate reference system; None where no geospatial metadata are written."""

    @property
    def record(self) -> stores.Record:
        """What identifies the build if it is resumed."""
        return self.build.record(self.settings.version, self.settings.layout, self.encoding, copy_base=True)

    def create_arrays(self, target: stores.Target) -> Arrays:
        """Create the arrays of the levels, with their coordinates beside them."""
        build = self.build
        arrays = {
            level.index: target.create_level(
                level,
                self.encoding,
                attributes_of_level(self.attrs, build.levels[0].axes, level.axes),
                like=build.source,
            )
            for level in build.levels
        }
        for index, coordinates in enumerate(self.coordinates):
            target.write_coordinates(index, coordinates)
        return arrays

    def attributes(self, target: stores.Target, arrays: Arrays) -> Mapping[str, Any]:
        """Return the attributes that publish the pyramid."""
        version, build = self.settings.version, self.build
        attributes = published_attributes(
            build, target, version, arrays, self.stated, made_by="write_pyramid", labels_of=self.labels_of
        )
        if self.crs is None:
            return attributes
        return with_geozarr(attributes, build, target, self.crs, alone="ome" not in self.settings.metadata)

    def is_made(self, stored: zarr.Group) -> bool:
        """Whether a finished pyramid is what this would make."""
        made = stores.target_in_memory(
            self.paths, self.settings.layout, self.encoding.zarr_format, written=self.written
        )
        return is_made(self.build, stored, made, self.record, self.create_arrays, self.attributes)

    def write_labels(self, image: zarr.Group) -> None:
        """Write the labels into the group of the image."""
        for name, label in self.labels.items():
            export_labels(label, image, name, self.settings)


def export(
    build: Build,
    store: Any,
    place: stores.Location,
    settings: ExportSettings,
    *,
    labels: Mapping[str, Build] | None = None,
    labels_of: str | None = None,
) -> None:
    """Write a pyramid, and those of its labels, to a store; metadata last.

    `labels_of` is set for labels: the path of the image that they label, relative to them.
    """
    stated = stated_display(build.images[-1], build.levels[-1].axes, settings.version)
    if "geozarr" not in settings.metadata:
        warn_of_unstated_rotation(build.images[0], settings.version)
    new = _rehearsed_export(build, settings, stated, labels or {}, labels_of)
    warn_at_once()
    with stores.claim(place):
        if settings.resume and (stored := stores.finished_group(store, settings.storage_options)) is not None:
            if new.is_made(stored):
                new.write_labels(stored)
                return
        elif not settings.resume:
            refuse_without_space(build, place, new.rehearsed)
        target = _create_export_target(new, store)
        if target.is_complete:
            check_data(build, target.level_arrays(), target)
            return
        with resumable():
            arrays = new.create_arrays(target)
        run_passes(build, arrays, target, settings.progress)
        with resumable():
            if settings.digests:
                take_digests(stores.Digests.create(target.group, arrays[0]), None, build.workers, settings.progress)
            new.write_labels(target.stored_group)
            for name in new.labels:
                stores.register_label(target.labels_group(), name, settings.version)
            target.publish(new.attributes(target, arrays))


def _rehearsed_export(
    build: Build, settings: ExportSettings, stated: Display, labels: Mapping[str, Build], labels_of: str | None
) -> _Export:
    """Return how a pyramid is written, before anything is made of it.

    Raises
    ------
    ValueError, TypeError
        If the metadata or the store cannot hold its axes, attributes, coordinates, names or dtypes.
    """
    version, layout, images = settings.version, settings.layout, build.images
    for level in build.levels:
        check_exportable(level.axes, version)
    for name in labels:
        stores.check_node_name(name, "the labels", "rename them in the tree")
    check_levels("compressors", settings.compressors, len(build.levels))
    encoding = stores.encoding_like(build.source, VERSIONS[version].zarr_format, settings.compressors)
    shown = [without_display(image) for image in images]
    attrs = json_attributes(attributes_to_store(shown[0], with_coordinates=layout == "datatree"), build.name)
    for coordinate in shown[0].coords.values():
        json_attributes(coordinate.attrs, str(coordinate.name))
    paths = stores.level_paths(layout, build.name, len(build.levels), images[0].coords)
    if layout == "datatree" and paths[0].rpartition("/")[2] != build.name:
        # For readers without OME-NGFF, which name the image by its path.
        attrs = {"long_name": build.name, **attrs}
    # Names are checked here, before arrays of these names are rehearsed.
    written = stores.written_paths(layout, paths, images)
    return _Export(
        build,
        settings,
        labels,
        labels_of,
        encoding,
        attrs,
        stores.rehearse(build.levels, encoding, attrs, build.source),
        paths,
        (*written, stores.DIGESTS_PATH) if settings.digests else written,
        tuple(stores.coordinates_in_memory(image, encoding.zarr_format) for image in shown if layout == "datatree"),
        stated,
        crs_to_write(build) if "geozarr" in settings.metadata else None,
    )


def _create_export_target(new: _Export, store: Any) -> stores.Target:
    """Create the group of a pyramid, or reopen that of the build to resume."""
    build, settings = new.build, new.settings
    weights = () if build.weights is None else (build.weights.data,)
    sources = [
        *build.data,
        *weights,
        # Objects are in memory.
        *(unread(each) for image in build.images for each in image.coords.values() if not each.dtype.hasobject),
    ]
    return stores.create_target(
        store,
        sources,
        new.paths,
        new.written,
        record=new.record,
        layout=settings.layout,
        mode=settings.mode,
        resume=settings.resume,
        zarr_format=new.encoding.zarr_format,
        labels=tuple(new.labels),
        storage_options=settings.storage_options,
    )


def export_labels(build: Build, image: zarr.Group, name: str, settings: ExportSettings) -> None:
    """Write labels to the group of their image."""
    target = stores.label_place(image, name)
    of_labels = replace(settings, metadata=("ome",))
    export(build, target, stores.place_of(target), of_labels, labels_of=LABELLED_IMAGE)
