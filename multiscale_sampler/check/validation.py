"""`validate`: checks of metadata against the OME-NGFF specification, and of arrays against metadata.

Each finding states the place, what was found, what was expected, and the sentence of the specification. Rules that
concern only the metadata are in `metadata.specification`; arrays, shapes, positions and labels are checked here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr
from zarr.storage import StorePath

from ..image.axes import Axis, position_tolerance
from ..metadata import Version, known_version, listed_labels, namespace_of, parse_multiscales, stated_version
from ..metadata.positions import unit_ratio
from ..metadata.specification import Finding, Severity, document_findings
from ..store import (
    BROKEN,
    LABELS,
    Presence,
    StoredPyramid,
    check_sizes,
    dimension_names,
    document_fault,
    inventories,
    is_consolidated,
    limited_array,
    node_at,
    open_node,
    opened_group,
    outdated_documents,
    place_to_open,
)

LISTED_PATH = '"path": its value contains the path to the array for this resolution relative to the current zarr group.'
CHUNK_KEYS = "zarr: the key of a chunk follows from its indices by the chunk key encoding of the array's metadata."
SIZES = "The shape and the chunk shape of an array are lists of integers, those of chunks above 0."
JSON_DOCUMENT = "The metadata of zarr are JSON documents."
LABELS_LIST = 'The "labels" group MUST contain "labels", a list of the paths to the labels objects.'
CONSOLIDATED = "Readers that use consolidated metadata see the array as it was when they were consolidated."
# Coordinates of longer axes are not read.
MOST_POSITIONS = 1 << 27
LENGTHS = 'The length of "scale" and "translation" MUST be the same as the length of "axes".'
COVERAGE = "Labels are shown over their image by the positions that the metadata of both state."
INTEGER_LABELS = "The pixels of the label images MUST be integer data types."
LABELS_VERSION = 'The "version" MUST be the same within a hierarchy; clients refuse the image where it is missing.'


@dataclass(frozen=True, repr=False)
class Report:
    """The findings of a check of a store. ``print(report)`` shows a table."""

    store: str
    """The store."""
    findings: tuple[Finding, ...]
    """All errors and warnings."""

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {
            "store": self.store,
            "ok": self.ok,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }

    def __repr__(self) -> str:
        """Return the report as text, with a line for each finding."""
        if not self.findings:
            return f"{self.store}: valid"
        verdict = "valid, with warnings" if self.ok else "not valid"
        return "\n".join([f"{self.store}: {verdict}", *self.lines()])

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        lines = []
        for finding in self.findings:
            lines.append(f"  {finding.severity:7}  {finding.location}: {finding.message}")
            if finding.rule:
                lines.append(f'           "{finding.rule}"')
        return lines


def validate(
    store: Any,
    path: str | None = None,
    *,
    strict: bool = False,
    metadata_only: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Report:
    """Check the metadata of an OME-Zarr image, and of its labels, against the specification. No pixel is read.

    Parameters
    ----------
    store, path
        The group with the ``multiscales`` metadata, of an image or of labels.
    strict
        Count recommendations of the specification, which its strict schemas demand, as errors, and warn of negative
        scales (descending axes), which several clients refuse.
    metadata_only
        Check only the metadata of the group itself, as the official JSON schemas do; not its arrays, coordinates
        and labels.
    storage_options
        Options of the file system, with a URL.

    Returns
    -------
    Report
        ``.ok`` is whether there are no errors; ``.findings`` has all errors and warnings.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store = {}
    >>> ms.write_pyramid(np.ones((64, 64), "uint8"), store, scale_factors=[2])
    >>> ms.validate(store).ok
    True
    """
    # What is wrong with the arguments is not a finding.
    place = place_to_open(store, path, storage_options)
    try:
        node = open_node(store, path, storage_options=storage_options)
        # Consolidated metadata may list arrays that no longer exist.
        group = None if isinstance(node, zarr.Array) else opened_group(place.store, place.path, use_consolidated=False)
    except FileNotFoundError:
        raise
    except ValueError as error:
        return Report(str(place), (_unreadable(place, "", error),))
    if group is None:
        finding = Finding("error", "", "an array", "a group with multiscales metadata", LISTED_PATH)
        return Report(str(place), (finding,))
    attributes = group.attrs.asdict()
    findings = list(_readable("multiscales", document_findings(attributes, strict=strict)))
    findings += _format_findings(group)
    if not metadata_only:
        findings += _readable("multiscales", _content_findings(group, findings))
        findings += _readable("", outdated_findings(cast("zarr.Group", node)))
        findings += _readable(LABELS, _labels_findings(group, strict=strict))
    return Report(str(place), tuple(findings))


def _readable(location: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings, and another one if what is to be checked is so broken that the checks end."""
    try:
        yield from findings
    except BROKEN as error:
        found = f"it cannot be checked ({type(error).__name__}: {error})"
        yield Finding("error", location, found, "metadata that can be read")


def _unreadable(place: StorePath, inside: str, error: Exception) -> Finding:
    """Return the finding of a document because of which a node cannot be opened."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    document, fault = document_fault(place, cause)
    found = f"it cannot be opened ({str(place / document)!r}: {fault})"
    return Finding("error", inside, found, "documents that zarr knows", JSON_DOCUMENT)


def _format_findings(group: zarr.Group) -> Iterator[Finding]:
    """Yield a finding if the version of the metadata does not go with the zarr format of the store."""
    version = known_version(stated_version(group.attrs.asdict()))
    zarr_format = group.metadata.zarr_format
    if version is not None and version.rules is not None and zarr_format != version.zarr_format:
        expected = f"zarr format {version.zarr_format}"
        rule = "Up to 0.4 metadata and arrays are zarr v2, from 0.5 on zarr v3."
        yield Finding("error", "", f"OME-NGFF {version.name} in zarr format {zarr_format}", expected, rule)


def _content_findings(group: zarr.Group, known: Sequence[Finding]) -> Iterator[Finding]:
    """Yield findings on the arrays of an image, and on what its metadata state of them."""
    attributes = group.attrs.asdict()
    try:
        multiscales = parse_multiscales(attributes)
    except ValueError as error:
        if all(finding.severity != "error" for finding in known):
            yield Finding("error", "multiscales", str(error), "metadata that can be read")
        return
    if multiscales is None:
        if all(finding.location != "multiscales" for finding in known):
            yield Finding("error", "multiscales", "no multiscales metadata", "those of a labelled image")
        return
    arrays: list[zarr.Array[Any]] = []
    for dataset in multiscales.datasets:
        try:
            node = node_at(group, dataset.path)
        except ValueError as error:
            # Unknown codecs, data types and chunk grids, or damaged documents.
            yield _unreadable(group.store_path / dataset.path, dataset.path, error)
            continue
        if isinstance(node, zarr.Array):
            try:
                check_sizes(node)
            except ValueError as error:
                yield Finding("error", dataset.path, str(error), "sizes that an image can have", SIZES)
                continue
            arrays.append(limited_array(node))
        else:
            yield Finding(
                "error", dataset.path, "the array does not exist", "the array that the metadata name", LISTED_PATH
            )
    if len(arrays) == len(multiscales.datasets):
        yield from level_findings(StoredPyramid.as_listed(group, multiscales, arrays))


def outdated_findings(group: zarr.Group) -> Iterator[Finding]:
    """Yield findings on levels of an image and its labels that were changed after their metadata were consolidated."""
    try:
        outdated = outdated_documents(group, _array_paths(group))
    except (ValueError, TypeError, KeyError):
        # Metadata or documents that cannot be read have findings of their own.
        return
    for each in outdated:
        found = f"the consolidated metadata state {each.consolidated}, its own document {each.stored}"
        yield Finding("error", each.path, found, "the same in both; run zarr.consolidate_metadata", CONSOLIDATED)


def _array_paths(group: zarr.Group) -> list[str]:
    """Return the paths of the levels of an image and of its labels, as consolidated metadata have them."""
    if not is_consolidated(group):
        return []
    found: list[str] = []
    labels = listed_labels(group[LABELS].attrs.asdict()) if LABELS in group else ()
    for prefix in ("", *(f"{LABELS}/{name}/" for name in labels)):
        node = group.get(prefix.rstrip("/")) if prefix else group
        multiscales = parse_multiscales(node.attrs.asdict()) if isinstance(node, zarr.Group) else None
        found += [f"{prefix}{dataset.path}" for dataset in (multiscales.datasets if multiscales else ())]
    return found


def _labels_findings(group: zarr.Group, *, strict: bool) -> Iterator[Finding]:
    """Yield findings on the labels of an image, with their paths below the image."""
    try:
        labels = node_at(group, LABELS)
    except ValueError as error:
        yield _unreadable(group.store_path / LABELS, LABELS, error)
        return
    if not isinstance(labels, zarr.Group):
        return
    attributes = labels.attrs.asdict()
    namespace = namespace_of(attributes)
    paths = namespace.get("labels")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        yield Finding("warning", LABELS, f"labels: {paths!r}", "a list of the paths of labels", LABELS_LIST)
        return
    if paths and "ome" in attributes and "version" not in namespace:
        yield Finding("warning", f"{LABELS}.version", "missing", "the version of the image", LABELS_VERSION)
    count = _level_count(group)
    for path in paths:
        place = f"{LABELS}/{path}"
        try:
            node = node_at(labels, path)
        except ValueError as error:
            yield _unreadable(labels.store_path / path, place, error)
            continue
        if not isinstance(node, zarr.Group):
            yield Finding("error", place, "the labels do not exist", "the labels that the metadata name", LABELS_LIST)
            continue
        report = validate(node, strict=strict)
        for finding in report.findings:
            yield dataclasses.replace(finding, location=f"{place}: {finding.location}".removesuffix(": "))
        if "image-label" not in namespace_of(node.attrs.asdict()):
            sentence = 'Each label image SHOULD contain the "image-label" key.'
            yield Finding("warning", place, "no image-label metadata", "the metadata of labels", sentence)
            yield from _integer_findings(node, place)
        if count is not None and _level_count(node) not in (None, count):
            found, expected = f"{_level_count(node)} levels", f"as many as the image has, {count}"
            sentence = "The labels MUST have the same number of entries (scale levels) as the original image."
            yield Finding("warning", place, found, expected, sentence)
        if report.ok:
            yield from _coverage_of_labels(node, group, place)


def _coverage_of_labels(labels: zarr.Group, image: zarr.Group, place: str) -> Iterator[Finding]:
    try:
        pyramids = [StoredPyramid.by_ngff(group) for group in (labels, image)]
        yield from coverage_findings(pyramids[0], pyramids[1], place)
    except ValueError:
        # An image that cannot be read has findings of its own.
        return


def coverage_findings(labels: StoredPyramid, image: StoredPyramid, place: str) -> Iterator[Finding]:
    """Yield a finding if labels lie elsewhere than their image, or only over a part of it."""
    claims, expected = [], []
    others = {axis.name: axis for axis in image.levels[0]}
    for axis in labels.levels[0]:
        other = others.get(axis.name)
        if other is None or axis.type == "channel" or not (axis.is_regular and other.is_regular):
            continue
        ratio = unit_ratio(axis.unit, other.unit)
        ends, wanted = _edges(axis), _edges(other)
        # Those of the coarser one may lie in other places of its voxels, and end with a part of one.
        within = max(abs(axis.scale) * (ratio or 1.0), abs(other.scale))
        if ratio is None or max(abs(end * ratio - edge) for end, edge in zip(ends, wanted, strict=True)) > within:
            claims.append(_edges_text(axis))
            expected.append(_edges_text(other))
    if claims:
        found = f"the labels lie at {', '.join(claims)}, and do not cover their image"
        yield Finding("warning", place, found, f"the positions of the image, {', '.join(expected)}", COVERAGE)


def _edges(axis: Axis) -> tuple[float, float]:
    """Return where the first and the last voxel of an axis end, in ascending order."""
    ends = sorted((axis.translation, axis.translation + axis.scale * (axis.size - 1)))
    return ends[0] - abs(axis.scale) / 2, ends[1] + abs(axis.scale) / 2


def _edges_text(axis: Axis) -> str:
    first, last = _edges(axis)
    return f"{axis.name} {first:g} to {last:g}{'' if axis.unit is None else f' {axis.unit}'}"


def _level_count(group: zarr.Group) -> int | None:
    try:
        multiscales = parse_multiscales(group.attrs.asdict())
    except ValueError:
        return None
    return None if multiscales is None else len(multiscales.datasets)


def _integer_findings(group: zarr.Group, place: str) -> Iterator[Finding]:
    for name, array in group.arrays():
        if array.dtype.kind not in "iu":
            yield Finding("error", f"{place}/{name}", f"dtype {array.dtype}", "integers", INTEGER_LABELS)


def level_findings(stored: StoredPyramid) -> Iterator[Finding]:
    """Yield findings on the arrays of a pyramid, its positions, and the coordinate arrays beside its levels."""
    yield from _array_findings(stored)
    yield from geometry_findings(stored)


def _array_findings(stored: StoredPyramid) -> Iterator[Finding]:
    """Yield findings on the arrays."""
    names = tuple(name for name, _, _ in stored.multiscales.axes or ())
    version = known_version(stored.version)
    for place, array in zip(stored.paths, stored.arrays, strict=True):
        if names and array.ndim != len(names):
            sentence = 'The length of "axes" MUST be equal to the dimensionality of the zarr arrays.'
            yield Finding("error", place, f"{array.ndim} axes", f"{len(names)}, as the metadata describe", sentence)
        if array.dtype != stored.arrays[0].dtype:
            found = f"dtype {array.dtype}"
            expected = f"{stored.arrays[0].dtype}, as level 0 has; some clients refuse another"
            sentence = "0.6: all arrays MUST have the same data type."
            severity: Severity = "error" if version is not None and version.one_dtype else "warning"
            yield Finding(severity, place, found, expected, sentence)
        if stored.is_labels and array.dtype.kind not in "iu":
            yield Finding("error", place, f"dtype {array.dtype}", "integers", INTEGER_LABELS)
        if version is not None:
            yield from _storage_findings(place, array, names, version)
    yield from chunk_findings(stored)


def chunk_findings(stored: StoredPyramid) -> Iterator[Finding]:
    """Yield findings on levels that store no chunk under their keys but other files, and on a base that stores none."""
    found = inventories(map(Presence.of, stored.arrays))
    for place, array, inventory in zip(stored.paths, stored.arrays, found, strict=True):
        if fault := inventory.fault(array):
            yield Finding("error", place, fault, "chunks under these keys", CHUNK_KEYS)
    if found[0].is_empty:
        value = stored.arrays[0].fill_value
        yield Finding("warning", stored.paths[0], f"no chunk is stored, so that every value is {value!r}", "chunks")


def _storage_findings(
    place: str, array: zarr.Array[Any], names: tuple[str, ...], version: Version
) -> Iterator[Finding]:
    """Yield findings on the dimension names and the chunk keys of an array."""
    if version.dimension_names and dimension_names(array) != names:
        found = f"dimension_names are {dimension_names(array)!r}"
        sentence = 'The "dimension_names" attribute MUST match the names of the axes.'
        yield Finding("warning", place, found, f"the axes, {names!r}", sentence)
    if version.nested_chunks and getattr(array.metadata, "dimension_separator", "/") != "/":
        found, expected = "chunk keys are separated by '.'", "'/'; some clients read only that"
        sentence = 'Chunks SHOULD use the nested layout, "dimension_separator": "/".'
        yield Finding("warning", place, found, expected, sentence)


def geometry_findings(stored: StoredPyramid) -> Iterator[Finding]:
    """Yield findings on shapes and positions that contradict each other."""
    if any(array.ndim != stored.arrays[0].ndim for array in stored.arrays):
        found = "levels differ in the number of their axes"
        yield Finding(
            "error", "datasets", found, "the same number", "All arrays MUST have the same number of dimensions."
        )
        return
    try:
        levels = stored.levels
    except ValueError as error:
        yield Finding("error", "coordinateTransformations", str(error), "positions that fit the arrays", LENGTHS)
        return
    for path, axes, finer in zip(stored.paths[1:], levels[1:], levels, strict=False):
        if any(axis.size > other.size for axis, other in zip(axes, finer, strict=True)):
            found, expected = "larger than the level before", "a smaller one"
            sentence = 'The "path"s MUST be ordered from largest (i.e. highest resolution) to smallest.'
            yield Finding("error", path, found, expected, sentence)
    for path, axes in zip(stored.paths, levels, strict=True):
        yield from _extent_findings(path, axes, levels[0])
        yield from _coordinate_findings(stored.group, path, axes)


def _extent_findings(path: str, axes: Sequence[Axis], base: Sequence[Axis]) -> Iterator[Finding]:
    """Yield findings on axes that do not cover the extent of level 0, up to a partial window at its end."""
    for axis, other in zip(axes, base, strict=True):
        ratio = axis.scale / other.scale
        covered = axis.size * ratio
        if covered > other.size + ratio or covered <= other.size - ratio:
            found = f"{axis.size} samples of scale {axis.scale:g} along {axis.name!r} do not cover level 0"
            expected = f"its {other.size} of scale {other.scale:g}, up to a partial window"
            yield Finding("warning", path, found, expected, '"scale" specifies the pixel size in physical units.')


def _coordinate_findings(group: zarr.Group, path: str, axes: Sequence[Axis]) -> Iterator[Finding]:
    """Yield findings on coordinate arrays that contradict the transformations of a level."""
    parent = path.rpartition("/")[0]
    for axis in axes if parent else ():
        place = f"{parent}/{axis.name}"
        stored = node_at(group, place) if axis.size <= MOST_POSITIONS else None
        # Transformations do not state channel names and dates (numbers "since" a date).
        if not isinstance(stored, zarr.Array) or stored.dtype.kind not in "iuf" or axis.type == "channel":
            continue
        if " since " in str(stored.attrs.get("units", "")):
            continue
        if stored.shape != (axis.size,):
            yield Finding("error", place, f"{stored.shape} coordinates", f"{axis.size}, one per sample of {path!r}")
            continue
        # Durations are stored in a unit of their own.
        ratio = unit_ratio(stored.attrs.get("units"), axis.unit) or 1.0
        positions = np.asarray(limited_array(stored)[...]) * ratio
        distance = float(np.abs(positions - axis.coordinates()).max())
        if not distance <= position_tolerance(positions, axis.scale):
            found = f"coordinates up to {distance:g} away"
            yield Finding("error", place, found, f"those of the transformations of {path!r}")
