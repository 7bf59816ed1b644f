"""Axes as Neuroglancer has them: its names, its units, positive distances between samples.

Between an `Axis` of this package and what is served to the viewer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..image.axes import Axis, AxisType
from ..metadata import SI_PREFIXES, unit_name

# By these the viewer knows lengths and times, and places images of different units over each other.
UNITS: dict[str, tuple[float, str]] = {
    f"{prefix}{unit}": (float(f"1e{power}"), unit[0])
    for prefix, power in {"": 0, "deca": 1, **SI_PREFIXES}.items()
    for unit in ("meter", "second")
} | {
    "angstrom": (1e-10, "m"),
    "foot": (0.3048, "m"),
    "inch": (0.0254, "m"),
    "mile": (1609.34, "m"),
    "yard": (0.9144, "m"),
    "minute": (60.0, "s"),
    "hour": (3600.0, "s"),
    "day": (86400.0, "s"),
}
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True)
class ShownAxis:
    """One axis of a level as the viewer takes it."""

    name: str
    """Name in the viewer."""
    kind: AxisType
    """Kind of axis."""
    size: int
    """Number of samples."""
    spacing: float
    """Distance from a sample to the next, positive."""
    origin: float
    """Position of sample 0; of a descending axis its negative, from which the samples ascend."""
    unit: str | None
    """Name of the unit, None where the viewer has no such unit."""
    descends: bool = False
    """Whether true positions are the negatives of those here."""

    @property
    def step(self) -> tuple[float, str]:
        """The spacing in the unit's base: 1e-06 and "m" for a micrometer."""
        factor, base = UNITS[self.unit] if self.unit else (1.0, "")
        return self.spacing * factor, base

    def position(self, sample: float) -> float:
        """Return where a sample is, as a count of spacings from zero."""
        counted = self.origin / self.spacing + sample
        return -counted if self.descends else counted


def shown_axes(levels: Sequence[Sequence[Axis]]) -> tuple[tuple[tuple[ShownAxis, ...], ...], list[str]]:
    """Return the axes of every level for the viewer, and what is shown otherwise than it is."""
    names = _viewer_names([axis.name for axis in levels[0]])
    notes = [f"axis {old!r} is called {new!r}" for old, new in names.items() if new != old]
    counted = [axis.name for axis in levels[0] if axis.type == "channel"]
    for axis in levels[0]:
        if axis.name not in counted and not all(_of(axes, axis.name).is_regular for axes in levels):
            counted.append(axis.name)
            notes.append(f"positions along {axis.name!r} are no even steps; its samples are counted")
    shown = []
    for axes in levels:
        pairs = zip(levels[0], axes, strict=True)
        placed = [_counted(base, axis) if base.name in counted else _placed(axis) for base, axis in pairs]
        shown.append(tuple(replace(axis, name=names[axis.name]) for axis in placed))
    return tuple(shown), notes


def _of(axes: Sequence[Axis], name: str) -> Axis:
    return next(axis for axis in axes if axis.name == name)


def _counted(base: Axis, axis: Axis) -> ShownAxis:
    """Return an axis whose samples are windows of those of the base, which are counted."""
    factor = max(round(base.size / axis.size), 1)
    windows = Axis(axis.name, base.size).coarsen(factor)
    return ShownAxis(axis.name, axis.type or "space", axis.size, windows.scale, windows.translation, None)


def _placed(axis: Axis) -> ShownAxis:
    unit = unit_name(axis.unit)
    descends = axis.scale < 0
    origin = -axis.translation if descends else axis.translation
    known = unit if unit in UNITS else None
    return ShownAxis(axis.name, axis.type or "space", axis.size, abs(axis.scale), origin, known, descends)


def _viewer_names(names: Sequence[str]) -> dict[str, str]:
    """Return the viewer's names of axes: letters, digits and underscores, a letter first."""
    chosen: dict[str, str] = {}
    for name in names:
        plain = NOT_IN_A_NAME.sub("_", name)
        new = plain if plain[:1].isalpha() else f"d{plain}"
        while new in chosen.values() or (new != name and new in names):
            new += "_"
        chosen[name] = new
    return chosen
