"""Documents of zarr groups: attributes changed in one step, and consolidated metadata."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import zarr
from zarr.abc.buffer import Buffer

from .layout import BUILD_ATTRIBUTE
from .names import DOCUMENTS, ZARR_JSON
from .zarr_internals import (
    buffer_of,
    default_buffer_prototype,
    documents_of,
    is_consolidated,
    nodes_at,
    stated_of_array,
    sync,
    unconsolidated,
)

Attributes: TypeAlias = "Mapping[str, Any]"


Change: TypeAlias = "Callable[[Attributes], Attributes]"


def stored_attributes(group: zarr.Group) -> dict[str, Any]:
    """Return the attributes of a group as they are now."""
    return _stored_group(group).attrs.asdict()


def without_mark(attributes: Attributes) -> dict[str, Any]:
    """Return the attributes of a group that is no longer being built or changed."""
    return {key: value for key, value in attributes.items() if key != BUILD_ATTRIBUTE}


def change_attributes(group: zarr.Group, change: Change, *, without: Collection[str] = ()) -> None:
    """Replace the attributes of a group, as they are now, by what `change` makes of them; all in one step.

    Arrays at the paths `without` leave the consolidated metadata in the same step.
    """
    put_documents(group, changed_documents(group, change, without=without))


def put_documents(group: zarr.Group, documents: Mapping[str, Buffer]) -> None:
    """Replace the metadata documents of a group."""
    # Those of zarr v2 are several: last the one that tells readers what the group is.
    for name in sorted(documents, key=lambda name: name == ".zattrs"):
        sync((group.store_path / name).set(documents[name]))


def changed_documents(group: zarr.Group, change: Change, *, without: Collection[str] = ()) -> dict[str, Buffer]:
    """Return the metadata documents of a group, as they are now, with its attributes changed.

    What is consolidated there stays, but for the arrays at the paths `without`, and groups that hold nothing else.
    """
    if group.metadata.zarr_format == 3:
        stored = cast("Buffer", sync((group.store_path / ZARR_JSON).get(prototype=default_buffer_prototype())))
        text = _with_member(stored.to_bytes().decode(), "attributes", change)
        if without and json.loads(text).get("consolidated_metadata"):
            text = _with_member(text, "consolidated_metadata", lambda found: _without_nodes(found, without))
        return {ZARR_JSON: buffer_of(text.encode())}
    found = _stored_group(group, use_consolidated=None)
    with silenced_string_warnings():
        documents = documents_of(replace(found.metadata, attributes=dict(change(found.attrs.asdict()))))
    if without and ".zmetadata" in documents:
        consolidated = _without_nodes(json.loads(documents[".zmetadata"].to_bytes()), without)
        documents[".zmetadata"] = buffer_of(json.dumps(consolidated, indent=zarr.config.get("json_indent")).encode())
    return documents


def _without_nodes(consolidated: Attributes, paths: Collection[str]) -> Attributes:
    """Return consolidated metadata without some arrays, and without groups that hold nothing else."""
    nodes = _not_below(consolidated["metadata"], paths)
    for parent in {path.rpartition("/")[0] for path in paths} - {""}:
        own = {f"{parent}/{name}" for name in DOCUMENTS}
        if not any(key.startswith(f"{parent}/") and key not in own for key in nodes):
            nodes = _not_below(nodes, [parent])
    return {**consolidated, "metadata": nodes}


def _not_below(nodes: Attributes, paths: Collection[str]) -> Attributes:
    starts = tuple(f"{path}/" for path in paths)
    return {key: node for key, node in nodes.items() if not f"{key}/".startswith(starts)}


def _stored_group(group: zarr.Group, *, use_consolidated: Literal[False] | None = False) -> zarr.Group:
    """Return a group as it is now."""
    return zarr.open_group(
        group.store_path.store,
        path=group.path,
        mode="r",
        zarr_format=group.metadata.zarr_format,
        use_consolidated=use_consolidated,
    )


def _with_member(text: str, name: str, change: Change) -> str:
    """Return a JSON object with one of its members changed, and all else, which may be long, to the letter."""
    indent = zarr.config.get("json_indent")
    decoder, at = json.JSONDecoder(), _next_token(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        start = _next_token(text, at)
        value, at = decoder.raw_decode(text, start)
        if key == name:
            return text[:start] + json.dumps(change(value), indent=indent) + text[at:]
        at = _next_token(text, at)
    return json.dumps({**json.loads(text), name: change({})}, indent=indent)


def _next_token(text: str, at: int) -> int:
    """Return where the next key or value of a JSON object begins, or where the object ends."""
    return cast("re.Match[str]", re.compile(r"[\s:,]*").match(text, at)).end()


@contextmanager
def silenced_string_warnings() -> Iterator[None]:
    """Silence zarr's warnings that strings have no final zarr v3 specification.

    Readers that know coordinate arrays know strings.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        warnings.filterwarnings("ignore", message=".*Zarr format 3.*")
        yield


def members_of(group: zarr.Group, max_depth: int | None = None) -> dict[str, zarr.Array[Any] | zarr.Group]:
    """Return the arrays and groups in a group, by path; what is neither, such as half-written files, is left out."""
    with silenced_string_warnings():
        warnings.filterwarnings("ignore", message=".*not recognized as a component of a Zarr hierarchy.*")
        return dict(group.members(max_depth))


def consolidate(group: zarr.Group) -> zarr.Group:
    """Gather the metadata of everything below a group in one document, as xarray looks for it."""
    with silenced_string_warnings():
        return zarr.consolidate_metadata(group.store_path.store, path=group.path)


@dataclass(frozen=True)
class OutdatedDocument:
    """An array of which consolidated metadata state something else than its own document."""

    path: str
    """Path of the array in its group."""
    consolidated: str
    """What the consolidated metadata state."""
    stored: str
    """What the array's own document states."""

    def __str__(self) -> str:
        """Return the difference in words."""
        return f"{self.path!r} has {self.stored}, but {self.consolidated} in the consolidated metadata"


def outdated_documents(group: zarr.Group, paths: Sequence[str]) -> tuple[OutdatedDocument, ...]:
    """Return the arrays of a group that were changed after its metadata were consolidated.

    Costs one request for each array, all at once; none if the group was not opened by consolidated metadata.
    """
    if not is_consolidated(group):
        return ()
    pairs = zip(paths, nodes_at(group, paths), _own_nodes(unconsolidated(group), paths), strict=True)
    return tuple(
        OutdatedDocument(path, *_differences(listed, stored))
        for path, listed, stored in pairs
        if isinstance(listed, zarr.Array) and _storage(listed) != _storage(stored)
    )


def _own_nodes(group: zarr.Group, paths: Sequence[str]) -> list[Any]:
    """Return what is at some paths of a group, the error where a document cannot be read."""
    try:
        return list(nodes_at(group, paths))
    except (ValueError, TypeError, KeyError) as error:
        return [error] if len(paths) == 1 else [node for path in paths for node in _own_nodes(group, [path])]


def _storage(node: Any) -> dict[str, Any] | None:
    """Return all that a document states of an array but its attributes; None if there is no array."""
    if not isinstance(node, zarr.Array):
        return None
    return {key: value for key, value in stated_of_array(node.metadata).items() if key != "attributes"}


def _differences(listed: zarr.Array[Any], stored: Any) -> tuple[str, str]:
    """Return what two documents of an array state differently, in words."""
    if isinstance(stored, Exception):
        return f"shape {listed.shape}", f"a document that cannot be read ({stored})"
    if not isinstance(stored, zarr.Array):
        return f"shape {listed.shape}", "no array any more"
    if listed.shape != stored.shape:
        return f"shape {listed.shape}", f"shape {stored.shape}"
    old, new = _storage(listed) or {}, _storage(stored) or {}
    keys = [key for key in old if old[key] != new.get(key)]
    return ", ".join(f"{key} {old[key]}" for key in keys), ", ".join(f"{key} {new.get(key)}" for key in keys)


def warn_of_outdated(group: zarr.Group, paths: Sequence[str], *, stacklevel: int) -> None:
    """Warn of arrays that were changed after metadata were consolidated; `stacklevel` as `warnings.warn` counts it."""
    outdated = outdated_documents(group, paths)
    # A change of ours consolidates last, so that readers see the old state meanwhile.
    if outdated and BUILD_ATTRIBUTE not in stored_attributes(group):
        warnings.warn(
            f"the consolidated metadata of {group.store_path} are outdated, and what they describe is opened: "
            f"{'; '.join(map(str, outdated))}; renew them with zarr.consolidate_metadata, and open it again",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
