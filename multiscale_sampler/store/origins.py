"""Where the values of an image come from: the arrays and files that its graph names, and what of it could be anywhere.

`source_array` and `zarr_arrays` look for the zarr arrays behind an image, to read them without detours.
`refuse_source_in_target` and `refuse_unknown_source` see to it that no target destroys its own source.
"""

from __future__ import annotations

import functools
import itertools
import numbers
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr

from ..files.arrays import FileArray
from ..image.xarray_internals import reads_a_file
from ..tasks.dask_internals import contents_of, is_plain_view, values_in_graph
from .nodes import Location, is_known, location, place_of, shown
from .remote import is_remote

# Values that hold no place, or that say nothing without a function that opens it.
PLAIN = (
    numbers.Number,
    str,
    bytes,
    slice,
    type(Ellipsis),
    type(NotImplemented),
    np.generic,
    np.dtype,
    types.ModuleType,
)
# Packages whose functions and objects open nothing but what they are given; by the first part of a module's name.
TRUSTED = frozenset(
    (
        *("builtins", "operator", "_operator", "functools", "_functools", "itertools", "math", "collections", "enum"),
        *("_thread", "threading", "inspect", "datetime", "types", "abc", "weakref", "contextlib", "uuid"),
        *("numpy", "dask", "toolz", "tlz", "cytoolz", "xarray", "pandas", "scipy", "sparse", "multiscale_sampler"),
    )
)
# Beginnings of the names of functions, in these packages as well, that open the path that they are given.
OPENING = ("open", "load", "read", "from", "memmap", "imread", "eval", "exec", "compile", "__import__", "getattr")
# Packages whose arrays are in files of other formats than zarr, which no target removes.
FILE_PACKAGES = frozenset(("h5py", "netCDF4", "h5netcdf"))


def source_array(data: Any) -> zarr.Array[Any] | None:
    """Return the zarr array that a lazy array is a plain view of, or None if it is anything else."""
    if not isinstance(data, da.Array) or not is_plain_view(data):
        return None
    arrays = list(zarr_arrays(data))
    if len(arrays) != 1:
        return None
    array = arrays[0]
    return array if array.shape == data.shape and array.dtype == data.dtype else None


def zarr_arrays(data: Any) -> Iterator[zarr.Array[Any]]:
    """Yield the zarr arrays that an array is computed from, as far as its dask graph tells."""
    return (source for source in stored_sources(data) if isinstance(source, zarr.Array))


def is_on_this_machine(data: Any) -> bool:
    """Whether no array that an array is computed from is reached by requests, as far as its dask graph tells."""
    return not any(is_remote(array.store_path.store) for array in zarr_arrays(data))


def stored_sources(data: Any) -> Iterator[zarr.Array[Any] | FileArray]:
    """Yield the zarr arrays and arrays in files that an array is computed from, as far as its dask graph tells."""
    if not isinstance(data, da.Array):
        yield from _arrays_within(data, set())
        return
    seen: set[int] = set()
    for value in values_in_graph(data):
        yield from _arrays_within(value, seen)


def _arrays_within(value: Any, seen: set[int]) -> Iterator[zarr.Array[Any] | FileArray]:
    if id(value) in seen or isinstance(value, np.ndarray | str | bytes | int | float):
        return
    seen.add(id(value))
    if isinstance(value, zarr.Array | FileArray):
        yield value
        return
    for inner in contents_of(value):
        yield from _arrays_within(inner, seen)


def refuse_source_in_target(sources: Sequence[Any], store: Any) -> None:
    """Refuse a target that holds an array which one of the sources is computed from, or lies in one.

    Raises
    ------
    ValueError
        If writing the target could destroy a source.
    """
    target = place_of(store)
    for array in itertools.chain.from_iterable(map(zarr_arrays, sources)):
        if _overlap(location(array.store_path.store, array.path), target):
            raise ValueError(
                f"the target {shown(store)} holds the source {array.store_path}, or lies in it; writing there could "
                "destroy it: choose another store, or add levels beside the source with add_levels"
            )


def _overlap(one: Location, other: Location) -> bool:
    depth = min(len(one[1]), len(other[1]))
    return one[0] == other[0] and one[1][:depth] == other[1][:depth]


def refuse_unknown_source(sources: Sequence[Any], store: Any) -> None:
    """Refuse to replace what is in a store, unless it is known of all sources that they do not read it.

    Raises
    ------
    ValueError
        If a part of a source could be anywhere, or its place is not known to be another.
    """
    target = place_of(store)
    for part in itertools.chain.from_iterable(map(_origins, sources)):
        if isinstance(part, _Unknown):
            doubt = f"{part.text} may read it"
        elif not is_known(part) or not is_known(target):
            doubt = f"it is not known whether {part[0]} {'/'.join(part[1])!r} is in it"
        elif _overlap(part, target):
            doubt = f"{'/'.join(part[1])!r} is in it"
        else:
            continue
        raise ValueError(
            f"mode='w' has to remove the pyramid in {shown(store)} before the new one is written, because that store "
            f"cannot rename; but {doubt}, so that the source could be lost: write to another place, or load the image "
            "into memory first"
        )


@dataclass(frozen=True)
class _Unknown:
    """A part of a source that could read any place."""

    text: str
    """What messages call it."""


def _origins(data: Any) -> Iterator[Location | _Unknown]:
    """Yield the places that an array is read from, and the parts of its graph of which that is not known."""
    seen: dict[int, Any] = {}
    pending = [data]
    while pending:
        value = pending.pop()
        if value is None or isinstance(value, PLAIN) or id(value) in seen:
            continue
        # Kept, so that no other object gets its number.
        seen[id(value)] = value
        if isinstance(value, zarr.Array):
            yield location(value.store_path.store, value.path)
        elif (file := _file_of(value)) is not None:
            yield "file", Path(os.path.realpath(file)).parts
        elif isinstance(value, da.Array):
            pending.extend(values_in_graph(value))
        elif (inner := _known_contents(value)) is not None:
            pending.extend(inner)
        else:
            yield _Unknown(_name_of_part(value))


def _file_of(value: Any) -> Any:
    """Return the file that an array is read from, None if it is in memory or not an array."""
    if isinstance(value, FileArray):
        return value.path
    while isinstance(value, np.ndarray):
        if isinstance(value, np.memmap) and value.filename is not None:
            return value.filename
        value = value.base
    return None


def _known_contents(value: Any) -> list[Any] | None:
    """Return everything that a value of a graph holds; None if that cannot be known."""
    if isinstance(value, np.ndarray):
        return list(value.flat) if value.dtype.hasobject else []
    if reads_a_file(value) or _package(type(value)) in FILE_PACKAGES:
        return []
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        is_reading = isinstance(value.__self__, zarr.Array) and value.__name__ == "__getitem__"
        return [value.__self__] if is_reading else [value.__self__, value.__func__]
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | np.ufunc):
        return _captured(value) if _is_trusted(value) else None
    return _state(value) if _package(type(value)) in TRUSTED else None


def _is_trusted(function: Any) -> bool:
    return _package(function) in TRUSTED and not str(function.__name__).startswith(OPENING)


def _package(function: Any) -> str:
    module = "numpy" if isinstance(function, np.ufunc) else getattr(function, "__module__", None)
    return str(module or "builtins").partition(".")[0]


def _captured(function: Any) -> list[Any]:
    """Return the values that a function takes along besides its arguments."""
    if not isinstance(function, types.FunctionType):
        return []
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    return [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _state(value: Any) -> list[Any]:
    """Return the values of an object's attributes."""
    names = itertools.chain.from_iterable(
        (slots,) if isinstance(slots := getattr(kind, "__slots__", ()), str) else slots for kind in type(value).__mro__
    )
    in_slots = [getattr(value, name, None) for name in names if not name.startswith("__")]
    return [*getattr(value, "__dict__", {}).values(), *in_slots]


def _name_of_part(value: Any) -> str:
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return f"the function {value.__name__!r}"
    return f"an object of {type(value).__module__}.{type(value).__qualname__}"
