"""Which dtypes and axis names some OME-NGFF clients refuse, so that a writer can warn of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..image.axes import Axis
from ..image.reversal import descending_axes
from .units import is_no_unit, ngff_unit

# Found by asking the clients to open such stores.
WITHOUT_DTYPE: Mapping[str, tuple[str, ...]] = {
    "bool": ("Neuroglancer",),
    "int64": ("Neuroglancer",),
    "float16": ("Neuroglancer", "clients in JavaScript before Float16Array (Node.js 20)"),
    "float64": ("Neuroglancer",),
    "complex64": ("Neuroglancer", "clients in JavaScript"),
    "complex128": ("Neuroglancer", "clients in JavaScript"),
}
# What holds the same values, or nearly, and is read.
INSTEAD = {"bool": "uint8", "int64": "int32", "float16": "float32", "float64": "float32"}
COMMON_NAMES = frozenset("tczyx")
WITHOUT_OTHER_NAMES = ("ngff-zarr", "bioio", "ngio", "ome-zarr.js", "vizarr")
# Of level 0, or of the coarser ones, which they do not take for coarser.
REFUSING_NEGATIVE_SCALES = "ngff-zarr, ome-zarr-models, yaozarrs and other clients"


def unread_by_clients(
    axes: Sequence[Axis], dtypes: Iterable[np.dtype[np.generic]], *, negative_scales: bool = True
) -> tuple[str, ...]:
    """Return what some clients do not read of a pyramid, with their names and what to do about it.

    Of negative scales only if they are not wanted.
    """
    found = []
    if negative_scales and (down := descending_axes(axes)):
        found.append(f"{descending_text(down)}; ascending=True (--ascending) stores the image in the other direction")
    for name in dict.fromkeys(str(dtype.newbyteorder("=")) for dtype in dtypes):
        if clients := WITHOUT_DTYPE.get(name):
            remedy = f"; where values fit, write dtype={INSTEAD[name]!r}" if name in INSTEAD else ""
            found.append(f"{name} is not read by {_joined(clients)}{remedy}")
    if others := [axis.name for axis in axes if axis.name not in COMMON_NAMES]:
        named = ", ".join(map(repr, others))
        found.append(
            f"axes of other names than t, c, z, y, x ({named}) are not read by {_joined(WITHOUT_OTHER_NAMES)}; "
            f"rename them where that matters: {_how_to_rename(axes)}"
        )
    if unknown := {axis.name: axis.unit for axis in axes if ngff_unit(axis.unit) is None and not is_no_unit(axis.unit)}:
        found.append(
            f"the units {unknown!r} are none that OME-NGFF has a name for, and are left out of its metadata; give "
            "others, as in units='micrometer', where that matters"
        )
    return tuple(found)


def descending_text(names: Sequence[str]) -> str:
    """Return that axes descend and that clients refuse them, in words."""
    descend = "descends" if len(names) == 1 else "descend"
    return f"{', '.join(map(repr, names))} {descend}, and {REFUSING_NEGATIVE_SCALES} refuse negative scales"


def _how_to_rename(axes: Sequence[Axis]) -> str:
    """Return how axes get usual names: by what opens a file or an array, or of an image in hand."""
    usual = _common_names(axes)
    names = [usual.get(axis.name, axis.name) for axis in axes]
    return f"open it with dims={tuple(names)!r}, or as in image.rename({usual!r})"


def _common_names(axes: Sequence[Axis]) -> dict[str, str]:
    """Return the usual name of every axis that has another one and whose kind has one left."""
    free = {"time": ["t"], "channel": ["c"], "space": ["x", "y", "z"]}
    usual = {}
    for axis in reversed(axes):
        names = [name for name in free[axis.type or "space"] if all(name != other.name for other in axes)]
        if axis.name not in COMMON_NAMES and names:
            usual[axis.name] = names[0]
            free[axis.type or "space"].remove(names[0])
    return dict(reversed(usual.items()))


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
