"""Marks of unfinished builds and changes, checked before anything that they state is believed.

A mark is an attribute of a group, and so is the list of what this package wrote there. A store may come from anybody:
types are checked when a mark is read, and a path is removed only if this package could have written an array there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

import zarr

from ..metadata import paths_written_by_us
from .layout import BUILD_ATTRIBUTE, DIGESTS_PATH
from .names import DOCUMENTS, leads_nowhere
from .zarr_internals import nodes_at, sync

# Arrays of the two layouts, without a name that a file system could take for another place.
OWN_PATH = re.compile(rf"(\d+|scale\d+/[^/\\\0]+|{DIGESTS_PATH})")
# Names right below an array that are not documents: its chunks, and the folder of all chunks in zarr v3.
CHUNK_NAME = re.compile(r"c|\d+(\.\d+)*")

# The format of everything that an unfinished build or change leaves behind: record, journal, stamps and carried states.
# Whoever changes any of them raises the number. The first records had none.
RECORD_FORMAT = 3
LONGEST_MARK = 80


def mark_in(attributes: Mapping[str, Any], place: Any) -> Mapping[str, Any] | None:
    """Return what the attributes of a group state of an unfinished build or change, None if there is none.

    Raises
    ------
    ValueError
        If it is not what this package writes.
    """
    if BUILD_ATTRIBUTE not in attributes:
        return None
    mark: Any = attributes[BUILD_ATTRIBUTE]
    if not isinstance(mark, Mapping):
        _refuse_mark(place, BUILD_ATTRIBUTE, mark)
    odd = [key for key, is_sound in FORMS.items() if key in mark and not is_sound(mark[key])]
    if "format" in mark and "format" not in odd and mark["format"] != RECORD_FORMAT:
        # Another version may record anything; whoever would continue it is told so (`check_format`).
        return {**mark, **{key: {} if key == "fingerprint" else () for key in odd}}
    for key in odd:
        _refuse_mark(place, f"{BUILD_ATTRIBUTE}.{key}", mark[key])
    return cast("Mapping[str, Any]", mark)


def _refuse_mark(place: Any, key: str, found: Any) -> NoReturn:
    shown = repr(found)
    shown = shown if len(shown) <= LONGEST_MARK else f"{shown[:LONGEST_MARK]}..."
    raise ValueError(
        f"the attribute {key} of {place} is {shown}, which is not the record of a build of this package; remove the "
        f"attribute {BUILD_ATTRIBUTE!r} if the store is sound without it, or choose another store"
    )


def _is_natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: Any, is_item: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(map(is_item, value))


def _are_texts(value: Any) -> bool:
    return _is_list(value, lambda item: isinstance(item, str))


def _are_numbers(value: Any) -> bool:
    return _is_list(value, _is_natural)


def _is_box(value: Any) -> bool:
    return _is_list(value, lambda ends: _are_numbers(ends) and len(ends) == 2 and ends[0] <= ends[1])


def _is_fingerprint(value: Any) -> bool:
    if not isinstance(value, Mapping) or not _is_list(value.get("edited", []), _is_box):
        return False
    append, rebuild = value.get("append", ["", 0]), value.get("rebuild", [])
    begins = _is_list(append, lambda item: True) and len(append) == 2
    return begins and isinstance(append[0], str) and _is_natural(append[1]) and _are_numbers(rebuild)


def _are_passes(value: Any) -> bool:
    def is_pass(item: Any) -> bool:
        return _is_list(item, lambda part: True) and len(item) == 2 and _is_natural(item[0]) and _is_pass(item[1])

    return _is_list(value, is_pass)


def _is_pass(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) != {*PASS_NUMBERS, *PASS_LISTS}:
        return False
    numbers = all(_is_natural(value[key]) for key in PASS_NUMBERS)
    return numbers and all(_are_numbers(value[key]) for key in PASS_LISTS) and 0 not in value["region"]


PASS_NUMBERS = ("source", "region_nbytes")
PASS_LISTS = ("levels", "written", "region", "carried")
FORMS: dict[str, Callable[[Any], bool]] = {
    "format": _is_natural,
    "written": _are_texts,
    "replaced": _are_texts,
    "removing": _are_texts,
    "levels": _are_numbers,
    "fingerprint": _is_fingerprint,
    "passes": _are_passes,
    "filled": lambda value: value is None or _are_texts(value),
    "consolidated": lambda value: isinstance(value, bool),
    "unsure": lambda value: isinstance(value, Mapping) and all(map(_are_numbers, value.values())),
}


def replaced_paths(group: zarr.Group, stated: Sequence[str]) -> tuple[str, ...]:
    """Return paths that a mark, or the metadata of a pyramid, state as written by this package, for their removal.

    Raises
    ------
    ValueError
        If this package cannot have written an array at one of them; then none is to be removed.
    """
    foreign = [path for path in stated if OWN_PATH.fullmatch(path) is None or leads_nowhere(path)]
    own = [path for path in stated if path not in foreign]
    foreign += [path for path, node in zip(own, nodes_at(group, own), strict=True) if not _is_array(group, path, node)]
    if foreign:
        _refuse_path(group, foreign[0])
    return tuple(stated)


def removed_paths(group: zarr.Group, stated: Sequence[str], kept: Sequence[zarr.Array[Any]]) -> tuple[str, ...]:
    """Return paths that a mark states as those of levels that are being removed.

    Levels of other writers have other paths than ours, but their arrays are of the kind of those that are `kept`.

    Raises
    ------
    ValueError
        If one is not the path of a level that was removed from the metadata; then none is to be removed.
    """
    base = kept[0]
    listed = {array.path.removeprefix(f"{group.path}/" if group.path else "") for array in kept}
    groups = {path.rpartition("/")[0] for path in listed} - {""}
    inside = [path for path in stated if not leads_nowhere(path)]
    nodes = dict(zip(inside, nodes_at(group, inside), strict=True))
    for path in stated:
        is_kept = path in listed or any(each.startswith(f"{path}/") for each in listed) or path in groups
        beside = path.rpartition("/")[0] in groups and OWN_PATH.fullmatch(path) is not None
        node = nodes.get(path)
        is_level = isinstance(node, zarr.Array) and node.ndim == base.ndim and node.dtype.kind == base.dtype.kind
        is_ours = OWN_PATH.fullmatch(path) is not None or is_level or node is None
        if path not in nodes or is_kept or beside or not is_ours or not _is_array(group, path, node):
            _refuse_path(group, path)
    return tuple(stated)


def _is_array(group: zarr.Group, path: str, node: Any) -> bool:
    """Whether an array is at a path, or what an interrupted removal left of one, or nothing."""
    if node is not None:
        return isinstance(node, zarr.Array)
    names = sync(_names_below(group, path))
    return all(name in DOCUMENTS or CHUNK_NAME.fullmatch(name) for name in names)


async def _names_below(group: zarr.Group, path: str) -> list[str]:
    place = group.store_path / path
    return [name async for name in place.store.list_dir(place.path)]


def _refuse_path(group: zarr.Group, path: str) -> NoReturn:
    raise ValueError(
        f"the metadata of {group.store_path} name {path!r} as an array that this package wrote and may remove, but it "
        f"is not one; nothing was removed. Correct the metadata (the attribute {BUILD_ATTRIBUTE!r}), or choose another "
        "store"
    )


def own_paths(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths at which the metadata of a pyramid state arrays of this package, if it can have written them."""
    stated = paths_written_by_us(attributes)
    return tuple(path for path in stated if OWN_PATH.fullmatch(path) and not leads_nowhere(path))
