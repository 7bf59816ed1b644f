"""Axes of images as axes of Neuroglancer, with the names and units it accepts and positive spacings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..image.axes import Axis
from ..image.kinds import AxisType
from ..metadata import SI_PREFIXES, unit_name

# OME-NGFF units as multiples of Neuroglancer's "m" and "s".
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
    """Name of the unit, a key of `UNITS`; None for all other units."""
    descends: bool = False
    """Whether positions in the image are the negatives of these."""

    @property
    def step(self) -> tuple[float, str]:
        """The spacing as a number and Neuroglancer's unit: ``(1e-06, "m")`` for a micrometer."""
        factor, base = UNITS[self.unit] if self.unit else (1.0, "")
        return self.spacing * factor, base

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
        if axis.name not in by_index and not all(axes[number].is_regular for axes in levels):
            by_index.append(axis.name)
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
    return ViewerAxis(axis.name, axis.type or "space", axis.size, windows.scale, windows.translation, None)


def _spaced_axis(axis: Axis) -> ViewerAxis:
    unit = unit_name(axis.unit)
    descends = axis.scale < 0
    origin = -axis.translation if descends else axis.translation
    known = unit if unit in UNITS else None
    return ViewerAxis(axis.name, axis.type or "space", axis.size, abs(axis.scale), origin, known, descends)


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
