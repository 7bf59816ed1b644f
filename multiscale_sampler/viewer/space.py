"""Axes of images as axes of Neuroglancer, with the names and units it accepts and positive spacings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..image.axes import Axis
from ..image.dates import are_dates
from ..image.kinds import AxisType
from ..metadata.units import in_ngff_unit, is_no_unit, unit_dimension, unit_factor

# Neuroglancer's units of what it measures, beside plain numbers.
UNITS: dict[str | None, str] = {"length": "m", "time": "s"}
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True)
class ViewerAxis:
    """An axis of a level in the viewer."""

    name: str
    """Name in the viewer."""
    kind: AxisType
    """Kind of axis."""
    size: int
    """Number of samples."""
    spacing: float
    """Distance between samples, positive, in the unit."""
    origin: float
    """Position of sample 0 in the unit; negated for a descending axis, so that positions ascend."""
    unit: str | None
    """Name of the unit in OME-NGFF, of lengths and times; None for all other units."""
    descends: bool = False
    """Whether positions in the image are the negatives of these."""
    is_numbered: bool = False
    """Whether positions are sample numbers of level 0."""

    @property
    def step(self) -> tuple[float, str]:
        """The spacing as a number and Neuroglancer's unit: ``(1e-06, "m")`` for a micrometer."""
        return self.spacing * unit_factor(self.unit), UNITS.get(unit_dimension(self.unit), "")

    def position(self, sample: float) -> float:
        """Return the true position of a sample, which may be fractional, in multiples of the spacing."""
        steps = self.origin / self.spacing + sample
        return -steps if self.descends else steps


def viewer_axes(levels: Sequence[Sequence[Axis]]) -> tuple[tuple[tuple[ViewerAxis, ...], ...], list[str]]:
    """Return the viewer's axes of every level, and notes on names and positions that differ from the image's."""
    names = _viewer_names([axis.name for axis in levels[0]])
    notes = [f"axis {old!r} is shown as {new!r}" for old, new in names.items() if new != old]
    by_index = [axis.name for axis in levels[0] if axis.type == "channel"]
    for number, axis in enumerate(levels[0]):
        if axis.name in by_index:
            continue
        if all(axes[number].is_regular for axes in levels):
            notes += _note_on_unit(axis)
            continue
        by_index.append(axis.name)
        if axis.values is not None and are_dates(axis.values):
            notes.append(f"dates along {axis.name!r} are shown as sample numbers")
        else:
            notes.append(f"positions along {axis.name!r} are not evenly spaced; sample numbers are shown instead")
    converted = []
    for axes in levels:
        pairs = zip(levels[0], axes, strict=True)
        level = [_index_axis(base, axis) if base.name in by_index else _spaced_axis(axis) for base, axis in pairs]
        converted.append(tuple(replace(axis, name=names[axis.name]) for axis in level))
    return tuple(converted), notes


def _index_axis(base: Axis, axis: Axis) -> ViewerAxis:
    """Return an axis of a level whose positions are sample numbers of level 0."""
    factor = max(round(base.size / axis.size), 1)
    windows = Axis(axis.name, base.size).coarsen(factor)
    return ViewerAxis(
        axis.name, axis.type or "space", axis.size, windows.scale, windows.translation, None, is_numbered=True
    )


def _note_on_unit(axis: Axis) -> list[str]:
    if is_no_unit(axis.unit) or unit_dimension(axis.unit) in UNITS:
        return []
    return [f"the viewer has no unit {axis.unit!r}; positions along {axis.name!r} are its numbers, without a unit"]


def _spaced_axis(axis: Axis) -> ViewerAxis:
    descends = axis.scale < 0
    spacing, unit = in_ngff_unit(abs(axis.scale), axis.unit)
    origin, _ = in_ngff_unit(-axis.translation if descends else axis.translation, axis.unit)
    known = unit if unit_dimension(unit) in UNITS else None
    return ViewerAxis(axis.name, axis.type or "space", axis.size, spacing, origin, known, descends)


def _viewer_names(names: Sequence[str]) -> dict[str, str]:
    """Return unique names of letters, digits and underscores that begin with a letter, by the names of axes."""
    valid: dict[str, str] = {}
    for name in names:
        plain = NOT_IN_A_NAME.sub("_", name)
        new = plain if plain[:1].isalpha() else f"d{plain}"
        while new in valid.values() or (new != name and new in names):
            new += "_"
        valid[name] = new
    return valid
