"""`Axis`: the positions of an image's samples along one dimension, and how they change from level to level.

The coordinate arrays of levels and the ``scale`` and ``translation`` that OME-NGFF metadata state are both computed
from an `Axis`, so that they agree. A coordinate is the centre of its voxel; sample ``i`` of a regular axis sits at
``translation + scale * i``, computed from the index and never by repeated addition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from .dates import are_dates, mean_dates
from .kinds import AxisType, guess_axis_type

Boundary: TypeAlias = Literal["pad", "trim", "exact"]
SamplePosition: TypeAlias = Literal["center", "first"]

BOUNDARIES: tuple[Boundary, ...] = ("pad", "trim", "exact")

LONGITUDE_NAMES = frozenset({"lon", "longitude", "nav_lon", "xlong"})
# "the recommended unit of longitude is degrees_east. Also acceptable are degree_east, degree_E, ..." (CF 4.2)
EASTERN_UNITS = frozenset({"degreeseast", "degreeeast", "degreese", "degreee"})

# Files round coordinates to a few digits, so positions within a millionth of a voxel of a line count as regular.
REGULARITY_TOLERANCE = 1e-6


def coarsened_size(name: str, size: int, factor: int, boundary: Boundary) -> int:
    """Return the number of windows of `factor` samples on an axis of `size` samples.

    Raises
    ------
    ValueError
        If `boundary` is "exact" and a window would be partial, or if "trim" would leave nothing.
    """
    if boundary == "pad":
        return -(-size // factor)
    if boundary == "exact" and size % factor:
        raise ValueError(
            f"boundary='exact': the size {size!r} of {name!r} is not a multiple of the factor {factor!r}; "
            "use boundary='pad' (reduce the partial window) or 'trim' (drop it)"
        )
    if size < factor:
        raise ValueError(
            f"boundary={boundary!r}: {name!r} has {size!r} samples, fewer than one window of {factor!r}; "
            "use a smaller factor or boundary='pad'"
        )
    return size // factor


@dataclass(frozen=True, eq=False)
class Axis:
    """The sample positions along one axis.

    The positions of a regular axis lie on a line: sample ``i`` sits at ``translation + scale * i``. Other positions
    (uneven coordinates, dates, channel names) are kept in `values`.

    Examples
    --------
    >>> from multiscale_sampler import Axis
    >>> z = Axis("z", 9, scale=50.0, unit="micrometer")
    >>> z.coarsen(2)
    Axis(name='z', size=5, scale=100.0, translation=25.0, unit='micrometer', type='space', values=None, \
orientation=None)
    >>> z.coarsen(2).coordinates()
    array([ 25., 125., 225., 325., 425.])
    """

    name: str
    """Name of the dimension."""
    size: int
    """Number of samples."""
    scale: float = 1.0
    """Distance from a sample to the next, in `unit`; negative on a descending axis."""
    translation: float = 0.0
    """Position of sample 0 (its centre), in `unit`."""
    unit: str | None = None
    """Unit of `scale` and `translation`, as OME-NGFF spells it ("micrometer", "second")."""
    type: AxisType | None = None
    """Kind of axis; None: guessed from the name by `guess_axis_type`."""
    values: npt.NDArray[Any] | None = None
    """Positions or labels, one per sample, if they do not lie on a line; otherwise None."""
    orientation: str | None = None
    """Anatomical direction in which coordinates grow, in the terms of OME-NGFF RFC 4; None if it is not known."""

    def __post_init__(self) -> None:
        """Fill in the kind of axis and check the numbers."""
        if self.type is None:
            object.__setattr__(self, "type", guess_axis_type(self.name))
        if self.size < 1:
            raise ValueError(f"axis {self.name!r} has size {self.size!r}; an axis needs at least one sample")
        if not np.isfinite([self.scale, self.translation]).all() or self.scale == 0:
            raise ValueError(
                f"axis {self.name!r} has scale {self.scale!r} and translation {self.translation!r}; "
                "both must be finite and the scale not zero"
            )
        if self.values is not None and self.values.shape != (self.size,):
            raise ValueError(
                f"axis {self.name!r} of size {self.size!r} has positions of shape {self.values.shape!r}; "
                "give one position per sample"
            )

    def _key(self) -> tuple[Hashable, ...]:
        values = None if self.values is None else (self.values.dtype.str, *self.values.tolist())
        return (self.name, self.size, self.scale, self.translation, self.unit, self.type, values)

    def __eq__(self, other: object) -> bool:
        """Two axes are equal when every sample sits at the same place, in the same unit."""
        return isinstance(other, Axis) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash by the same key that equality compares."""
        return hash(self._key())

    @property
    def is_regular(self) -> bool:
        """Whether the positions lie on a line, which OME-NGFF can state as a ``scale`` and a ``translation``."""
        return self.values is None

    def coordinates(self) -> npt.NDArray[Any]:
        """Return the position of every sample: shape ``(size,)``, float64 unless `values` has another dtype."""
        if self.values is not None:
            return self.values
        return self.translation + self.scale * np.arange(self.size, dtype=np.float64)

    def coarsen(self, factor: int, *, boundary: Boundary = "pad", position: SamplePosition = "center") -> Axis:
        """Return the axis whose samples each stand for a window of `factor` samples of this one.

        Parameters
        ----------
        factor
            Samples per window, at least 1.
        boundary
            How a last, partial window is handled: "pad" keeps it (at the centre that a whole window would
            have, so that the axis stays regular), "trim" drops it, "exact" refuses it.
        position
            Where in its window the new sample sits: "center", ``translation + (factor - 1) / 2 * scale``, or
            "first", at the window's first sample.

        Raises
        ------
        ValueError
            If `boundary` refuses the size, or if labels such as channel names would have to be averaged.
        """
        size = coarsened_size(self.name, self.size, factor, boundary)
        if factor == 1:
            return self
        if self.values is not None:
            return dataclasses.replace(self, size=size, values=self._window_values(factor, size, position))
        offset = (factor - 1) / 2 if position == "center" else 0.0
        return dataclasses.replace(
            self, size=size, scale=self.scale * factor, translation=self.translation + self.scale * offset
        )

    def _window_values(self, factor: int, size: int, position: SamplePosition) -> npt.NDArray[Any]:
        values = cast("npt.NDArray[Any]", self.values)[: size * factor]
        if position == "first":
            return values[::factor]
        if values.dtype.kind in "iuf":
            numbers = values.astype(np.float64)
            if is_longitude(self.name, self.unit):
                return _window_means_on_circle(numbers, factor)
            return _window_means(numbers, factor)
        if are_dates(values):
            return mean_dates(values, (factor,))
        raise ValueError(
            f"the coordinate labels of {self.name!r} ({', '.join(map(repr, values[:3].tolist()))}, ...) cannot be "
            f"averaged over windows of {factor!r}; use method='nearest', which keeps the first, or drop the coordinate"
        )


def _window_means(values: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    starts = np.arange(0, len(values), factor)
    counts = np.minimum(factor, len(values) - starts)
    return np.add.reduceat(values, starts) / counts


def _window_means_on_circle(degrees: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    firsts = degrees[::factor]
    turned = (degrees - np.repeat(firsts, factor)[: len(degrees)] + 180.0) % 360.0 - 180.0
    return firsts + _window_means(turned, factor)


def is_longitude(name: str, unit: Any) -> bool:
    """Whether positions are degrees that begin again at 360, by their unit as CF has it, or by their name."""
    degrees = unit is None or str(unit).lower().startswith("degree")
    return (degrees and name.lower() in LONGITUDE_NAMES) or str(unit).lower().replace("_", "") in EASTERN_UNITS


def position_tolerance(positions: npt.NDArray[Any], step: float) -> float:
    """Return the distance from a line with this spacing at which positions still count as on it, given their dtype."""
    precision = float(np.finfo(positions.dtype).eps) if positions.dtype.kind == "f" else 0.0
    return REGULARITY_TOLERANCE * abs(step) + 2 * precision * float(np.abs(positions.astype(np.float64)).max())


def line_through(positions: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return (scale, translation) of the line through `positions`, or None if they do not lie on a line.

    Several spacings are tried: the mean one, the first one, and roundings of the mean one. The one that comes closest
    to all positions is returned: for positions computed as ``origin + i * 0.1`` the scale is exactly 0.1.
    """
    if positions.dtype.kind not in "iuf" or len(positions) < 2 or not np.isfinite(positions).all():
        return None
    points = positions.astype(np.float64)
    mean_step = float((points[-1] - points[0]) / (len(points) - 1))
    steps = [mean_step, float(points[1] - points[0]), *(float(f"{mean_step:.{n}g}") for n in (6, 9, 12, 15))]
    index = np.arange(len(points), dtype=np.float64)
    best, least = mean_step, np.inf
    for step in steps:
        error = float(np.abs(points[0] + step * index - points).max())
        if error < least:
            best, least = step, error
        if least == 0:
            break
    if mean_step == 0 or least > position_tolerance(positions, mean_step):
        return None
    return best, float(points[0])


def are_regular(positions: npt.NDArray[Any]) -> bool:
    """Whether numbers are the positions of a regular axis."""
    return len(positions) == 1 or line_through(positions) is not None
