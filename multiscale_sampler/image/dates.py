"""Dates and durations as positions: numpy's, and dates of the calendars of climate models (cftime).

Arithmetic is in integers, since float64 cannot hold all dates.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

# Seconds in the units that numpy has for dates and durations, years and months aside.
SECONDS = {
    "W": Fraction(604800),
    "D": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 10**3),
    "us": Fraction(1, 10**6),
    "ns": Fraction(1, 10**9),
}
MICROSECOND = datetime.timedelta(microseconds=1)


def are_calendar_dates(positions: npt.NDArray[Any]) -> bool:
    """Whether positions are dates of one CF calendar, as cftime has them."""
    if positions.dtype.kind != "O" or not positions.size:
        return False
    # By what they have: cftime need not be installed.
    calendars = {getattr(each, "calendar", None) if hasattr(each, "year") else None for each in positions.flat}
    return len(calendars) == 1 and None not in calendars


def are_dates(positions: npt.NDArray[Any]) -> bool:
    """Whether positions are dates or durations, of any calendar."""
    return positions.dtype.kind in "mM" or are_calendar_dates(positions)


def dates_kind(positions: npt.NDArray[Any]) -> str:
    """Return what positions are, in words: dates of which calendar, durations, or else their dtype."""
    if positions.dtype.kind == "m":
        return "durations"
    if positions.dtype.kind == "M":
        return "dates of the standard calendar (datetime64)"
    return f"dates of the calendar {positions.flat[0].calendar!r}" if are_calendar_dates(positions) else "not dates"


def counts_of(dates: npt.NDArray[Any]) -> list[int]:
    """Return dates since 1970, or durations, as integers: in the unit of their dtype, or in microseconds."""
    if dates.dtype.kind in "mM":
        return [int(count) for count in dates.view(np.int64)]
    epoch = _epoch(dates)
    return [(each - epoch) // MICROSECOND for each in dates]


def _epoch(dates: npt.NDArray[Any]) -> Any:
    return dates.flat[0].replace(year=1970, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)


def _with_counts(counts: Sequence[int], like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the dates with these counts, as `counts_of` returns them."""
    if like.dtype.kind in "mM":
        return np.array(counts, np.int64).view(like.dtype)
    made = np.empty(len(counts), object)
    made[:] = [_epoch(like) + count * MICROSECOND for count in counts]
    return made


def mean_dates(dates: npt.NDArray[Any], factors: Sequence[int]) -> npt.NDArray[Any]:
    """Return the mean date of every window of `factors` samples along each axis, rounded to the unit, ties to even."""
    missing = np.isnat(dates) if dates.dtype.kind in "mM" else np.zeros(dates.shape, np.bool_)
    counts = np.array(counts_of(dates.ravel()), np.int64).reshape(dates.shape)
    counts[missing] = 0
    if (int(counts.max()) - int(counts.min())) * math.prod(factors) > np.iinfo(np.int64).max:
        counts = counts.astype(object)
    firsts = counts[tuple(slice(None, None, factor) for factor in factors)]
    since = counts - spread_over_windows(firsts, factors, counts.shape)
    sums, samples = (_window_sums(each, factors) for each in (since, np.ones(counts.shape, np.int64)))
    means, rest = sums // samples, 2 * (sums % samples)
    means = means + firsts
    means = means + ((rest > samples) | ((rest == samples) & (means % 2 == 1)))
    reduced = _with_counts(means.ravel().tolist(), dates).reshape(means.shape)
    if missing.any():
        reduced[_window_sums(missing.astype(np.int64), factors) > 0] = np.array("NaT", dates.dtype)
    return reduced


def spread_over_windows(values: npt.NDArray[Any], factors: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
    """Return one value for each window as one for each sample, of `shape`."""
    for axis, factor in enumerate(factors):
        values = np.repeat(values, factor, axis)
    return values[tuple(map(slice, shape))]


def _window_sums(values: npt.NDArray[Any], factors: Sequence[int]) -> npt.NDArray[Any]:
    for axis, factor in enumerate(factors):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], factor), axis)
    return values


def _date_step(counts: Sequence[int]) -> int | None:
    """Return the distance from a date to the next; None if it varies, or there is one date."""
    steps = {after - before for before, after in pairwise(counts)}
    return steps.pop() if len(steps) == 1 and 0 not in steps else None


def date_line(dates: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the distance from a date to the next and the first one since 1970, in seconds; None if it varies.

    That of a single date counts as a second.
    """
    if dates.dtype.kind == "M" and np.datetime_data(dates.dtype)[0] in ("Y", "M"):
        dates = dates.astype("datetime64[s]")
    unit, multiple = np.datetime_data(dates.dtype) if dates.dtype.kind in "mM" else ("us", 1)
    counts, seconds = counts_of(dates), SECONDS[unit] * multiple
    step = _date_step(counts)
    if step is None and len(counts) > 1:
        return None
    return 1.0 if step is None else float(step * seconds), float(counts[0] * seconds)


def continued_dates(dates: npt.NDArray[Any], count: int) -> npt.NDArray[Any] | None:
    """Return evenly spaced dates with `count` more of them; None if they are not evenly spaced, or only one."""
    counts = counts_of(dates)
    step = _date_step(counts)
    if step is None:
        return None
    return _with_counts([*counts, *(counts[-1] + step * index for index in range(1, count + 1))], dates)


def position_text(positions: npt.NDArray[Any], index: int) -> str:
    """Return one of some positions as people write it: a number, a quoted label, "2000-01-01", "1 day, 12:00:00"."""
    position = positions[index]
    if positions.dtype.kind == "m":
        return str(position.astype("m8[us]").item())
    if positions.dtype.kind == "M":
        return str(np.datetime_as_string(position, unit="auto"))
    if are_calendar_dates(positions):
        return str(position.isoformat()).removesuffix("T00:00:00")
    return repr(position.item() if isinstance(position, np.generic) else position)


def dates_inside(wanted: Any, dates: npt.NDArray[Any], dim: str) -> npt.NDArray[np.bool_]:
    """Return which dates a date, or a slice of two in either order, selects: those that ``sel`` of xarray does.

    A text selects all of its period, as "2000-01" a month.

    Raises
    ------
    ValueError
        If it cannot select dates of this kind.
    """
    samples = xr.DataArray(np.arange(len(dates)), {dim: dates}, (dim,))
    orders = [wanted, slice(wanted.stop, wanted.start)] if isinstance(wanted, slice) else [wanted]
    inside = np.zeros(dates.shape, np.bool_)
    for each in orders:
        try:
            inside[samples.sel({dim: each}).values] = True
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{dim}={wanted!r} selects none of the {dates_kind(dates)}; choose from {position_text(dates, 0)} to "
                f"{position_text(dates, -1)}"
            ) from error
        if inside.any():
            break
    return inside
