"""Stores held against rules: metadata against the specification, arrays against metadata.

`validate` collects everything that is wrong with an OME-Zarr image, of any writer, each finding with the place,
what was expected and found, and the sentence of the specification that asks for it. The shape of the metadata
is checked by the models of yaozarrs; what models of JSON cannot see (arrays, shapes, positions) is checked here.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import zarr

from . import ngff
from .axes import Axis, position_tolerance
from .store import dimension_names, open_node

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    """An "error" breaks a MUST or makes the store unreadable, a "warning" a SHOULD or a client."""
    location: str
    """Where: a path in the store or in the metadata."""
    message: str
    """What was found, and what was expected."""
    rule: str = ""
    """The sentence that asks for it."""


@dataclass(frozen=True)
class Report:
    """What was found wrong with a store. ``print(report)`` shows a table."""

    store: str
    """The store."""
    findings: tuple[Finding, ...]
    """Everything found, errors and warnings."""

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "store": self.store,
            "ok": self.ok,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        """Return the report as text, a line per finding."""
        if not self.findings:
            return f"{self.store}: valid"
        verdict = "valid, with warnings" if self.ok else "not valid"
        lines = [f"{self.store}: {verdict}"]
        for finding in self.findings:
            lines.append(f"  {finding.severity:7}  {finding.location}: {finding.message}")
            if finding.rule:
                lines.append(f'           "{finding.rule}"')
        return "\n".join(lines)


def validate(store: Any, path: str | None = None, *, storage_options: Mapping[str, Any] | None = None) -> Report:
    """Hold an OME-Zarr image against the specification. No pixel is read.

    Parameters
    ----------
    store, path
        Place of the group with the ``multiscales`` metadata.
    storage_options
        Options of the file system, with a URL.

    Returns
    -------
    Report
        ``.ok`` tells whether there is no error; every finding is in ``.findings``.

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
    node = open_node(store, path, storage_options=storage_options)
    place = str(node.store_path)
    if isinstance(node, zarr.Array):
        return Report(place, (Finding("error", "", "an array, not a group with multiscales metadata"),))
    # Consolidated metadata may promise what is gone.
    group = zarr.open_group(node.store_path.store, path=node.path, mode="r", use_consolidated=False)
    return Report(place, tuple(_findings(group)))


def _findings(group: zarr.Group) -> Iterator[Finding]:
    attributes = group.attrs.asdict()
    try:
        multiscales = ngff.parse(attributes)
    except ValueError as error:
        yield Finding("error", "multiscales", str(error))
        return
    if multiscales is None:
        yield Finding(
            "error",
            "",
            "no multiscales metadata",
            'each image group has a "multiscales" list in its metadata',
        )
        return
    yield from _model_findings(attributes, multiscales.version, group.metadata.zarr_format)
    arrays: list[zarr.Array[Any]] = []
    for dataset in multiscales.datasets:
        node = group.get(dataset.path)
        if isinstance(node, zarr.Array):
            arrays.append(node)
        else:
            yield Finding(
                "error",
                dataset.path,
                "the metadata name this array, but there is none",
                '"path" whose value contains the path to the array for this resolution',
            )
    if len(arrays) == len(multiscales.datasets):
        yield from _array_findings(multiscales, arrays)
        yield from _geometry_findings(group, multiscales, arrays)


def _model_findings(attributes: Mapping[str, Any], version: str, zarr_format: int) -> Iterator[Finding]:
    """Yield what the models of the version find wrong with the metadata themselves."""
    from pydantic import ValidationError
    from yaozarrs import v04, v05

    if version not in ngff.ZARR_FORMATS:
        yield Finding(
            "warning",
            "version",
            f"found {version!r}; the metadata models cover {sorted(ngff.ZARR_FORMATS)!r}",
        )
        return
    if zarr_format != ngff.ZARR_FORMATS[version]:
        yield Finding("error", "", f"OME-NGFF {version} in zarr format {zarr_format}", "0.4 is zarr v2, 0.5 is zarr v3")
    document = attributes.get("ome", attributes)
    model = v05.Image if version == "0.5" else v04.Image
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.model_validate(_with_ascending_scales(document))
        except ValidationError as error:
            for problem in error.errors():
                yield Finding("error", ".".join(map(str, problem["loc"])), problem["msg"])
    for warning in caught:
        yield Finding("warning", "multiscales", str(warning.message))


def _with_ascending_scales(document: Mapping[str, Any]) -> Any:
    """Return metadata with positive scales: the models order levels by scale and stumble over descending axes."""

    def rebuilt(value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {name: rebuilt(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [abs(n) if key == "scale" and isinstance(n, int | float) else rebuilt(n) for n in value]
        return value

    return rebuilt(document)


def _array_findings(multiscales: ngff.Multiscales, arrays: Sequence[zarr.Array[Any]]) -> Iterator[Finding]:
    """Yield what is wrong with the arrays as such."""
    names = tuple(name for name, _, _ in multiscales.axes or ())
    for dataset, array in zip(multiscales.datasets, arrays, strict=True):
        if names and array.ndim != len(names):
            yield Finding(
                "error",
                dataset.path,
                f"{array.ndim} axes, the metadata describe {len(names)}",
                'the length of "axes" must be equal to the dimensionality of the zarr arrays',
            )
        if array.dtype != arrays[0].dtype:
            yield Finding(
                "warning",
                dataset.path,
                f"dtype {array.dtype}, level 0 has {arrays[0].dtype}; some clients refuse that",
                "0.6: all arrays MUST have the same data type",
            )
        if multiscales.version == "0.5" and dimension_names(array) != names:
            yield Finding(
                "warning",
                dataset.path,
                f"dimension_names are {dimension_names(array)!r}, the axes are {names!r}",
                'the "dimension_names" attribute MUST match the names of the axes',
            )
        if multiscales.version == "0.4" and getattr(array.metadata, "dimension_separator", "/") != "/":
            yield Finding(
                "warning",
                dataset.path,
                "chunk keys are separated by '.'; some clients read only '/'",
                'chunks SHOULD use the nested layout, "dimension_separator": "/"',
            )


def _geometry_findings(
    group: zarr.Group, multiscales: ngff.Multiscales, arrays: Sequence[zarr.Array[Any]]
) -> Iterator[Finding]:
    """Yield where shapes and positions contradict each other."""
    if any(array.ndim != arrays[0].ndim for array in arrays):
        yield Finding("error", "datasets", "levels differ in the number of their axes", "all MUST have the same number")
        return
    try:
        levels, _ = ngff.level_axes(multiscales, [array.shape for array in arrays])
    except ValueError as error:
        yield Finding("error", "coordinateTransformations", str(error))
        return
    for dataset, axes, finer in zip(multiscales.datasets[1:], levels[1:], levels, strict=False):
        if any(axis.size > other.size for axis, other in zip(axes, finer, strict=True)):
            yield Finding("error", dataset.path, "larger than the level before", "ordered from largest to smallest")
    for dataset, axes in zip(multiscales.datasets, levels, strict=True):
        yield from _extent_findings(dataset.path, axes, levels[0])
        yield from _coordinate_findings(group, dataset.path, axes)


def _extent_findings(path: str, axes: Sequence[Axis], base: Sequence[Axis]) -> Iterator[Finding]:
    """Yield axes whose samples do not fit into the field of level 0, up to a partial window at its end."""
    for axis, other in zip(axes, base, strict=True):
        ratio = axis.scale / other.scale
        covered = axis.size * ratio
        if covered > other.size + ratio or covered <= other.size - ratio:
            yield Finding(
                "warning",
                path,
                f"{axis.size} samples of scale {axis.scale:g} along {axis.name!r} do not cover the {other.size} of "
                f"scale {other.scale:g} at level 0",
                "scale: the pixel size in physical units",
            )


def _coordinate_findings(group: zarr.Group, path: str, axes: Sequence[Axis]) -> Iterator[Finding]:
    """Yield coordinate arrays beside a level that contradict its transformations."""
    parent = path.rpartition("/")[0]
    for axis in axes if parent else ():
        place = f"{parent}/{axis.name}"
        stored = group.get(place)
        # Labels of channels and dates (numbers "since" one) are not what transformations say.
        if not isinstance(stored, zarr.Array) or stored.dtype.kind not in "iuf" or axis.type == "channel":
            continue
        if " since " in str(stored.attrs.get("units", "")):
            continue
        if stored.shape != (axis.size,):
            yield Finding("error", place, f"{stored.shape} coordinates for {axis.size} samples of {path!r}")
            continue
        positions = np.asarray(stored[...])
        distance = float(np.abs(positions - axis.coordinates()).max())
        if not distance <= position_tolerance(positions, axis.scale):
            message = f"the coordinates are up to {distance:g} away from the transformations of {path!r}"
            yield Finding("error", place, message)
