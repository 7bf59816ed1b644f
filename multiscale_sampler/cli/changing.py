"""Commands that change an existing pyramid."""

from __future__ import annotations

from typing import Any

from .building import SOURCE
from .commands import Arguments, add_command, keywords, refuse
from .options import (
    BY,
    CHANGED,
    CHANGED_LEVELS,
    DIM,
    IMAGE_PATH,
    NEW_METHOD,
    PLACE_OPTIONS,
    QUIET,
    REGION,
    RESOURCE_OPTIONS,
    RESUME_CHANGE,
    SOURCE_OPTIONS,
    STORE_PATH,
    STORED_METHOD,
)

CHANGED_STORE = "the OME-Zarr image: a path or a URL"
RUN_OPTIONS = (*RESOURCE_OPTIONS, RESUME_CHANGE, QUIET)


def add_changing_commands(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_update(commands)
    _add_append(commands)
    _add_rebuild(commands)


def _add_update(commands: Any) -> None:
    command = add_command(
        commands,
        "update",
        _update,
        "Recompute only those parts of the levels that an edit of level 0 affects.",
        "out.ome.zarr --region z=0:64,y=10:20",
        {"update_pyramid": (IMAGE_PATH, REGION, BY, CHANGED, STORED_METHOD, *RUN_OPTIONS)},
    )
    command.add_argument("store", help=CHANGED_STORE)


def _update(arguments: Arguments) -> int:
    from .. import update_pyramid

    if not any(option.name in arguments for option in (REGION, CHANGED, RESUME_CHANGE)):
        arguments.command.error("it is unknown what was edited; name it with --region, or find it with --changed auto")
    if REGION.name not in arguments:
        refuse(arguments, [BY], "without --region; name the region, or leave this out")
    update_pyramid(arguments.store, **keywords(arguments, "update_pyramid"))
    return 0


def _add_append(commands: Any) -> None:
    command = add_command(
        commands,
        "append",
        _append,
        "Append data to a pyramid along one axis, at every level.",
        "new.zarr out.ome.zarr --dim t",
        {
            "open_image": (*SOURCE_OPTIONS, *PLACE_OPTIONS),
            "append_pyramid": (DIM, STORE_PATH, STORED_METHOD, *RUN_OPTIONS),
        },
    )
    command.add_argument("source", help=SOURCE)
    command.add_argument("store", help="the OME-Zarr image that the data extend: a path or a URL")


def _append(arguments: Arguments) -> int:
    from .. import append_pyramid, open_image
    from ..store import names_axes

    image = open_image(arguments.source, **keywords(arguments, "open_image"))
    is_stated = any(option.name in arguments for option in PLACE_OPTIONS)
    if not is_stated and not names_axes(arguments.source, getattr(arguments, "path", None)):
        # Names that are guessed are not those of the store.
        image = image.data
    append_pyramid(image, arguments.store, **keywords(arguments, "append_pyramid"))
    return 0


def _add_rebuild(commands: Any) -> None:
    command = add_command(
        commands,
        "rebuild",
        _rebuild,
        "Recompute levels of a pyramid by another method, or remove them.",
        "out.ome.zarr --levels 1,2 --method max",
        {
            "rebuild_levels": (IMAGE_PATH, CHANGED_LEVELS, NEW_METHOD, *RUN_OPTIONS),
            "remove_levels": (IMAGE_PATH, CHANGED_LEVELS),
        },
    )
    command.add_argument("store", help=CHANGED_STORE)
    command.add_argument("--remove", action="store_true", help="remove the levels of --levels")


def _rebuild(arguments: Arguments) -> int:
    from .. import rebuild_levels, remove_levels

    if arguments.remove:
        refuse(arguments, (NEW_METHOD, *RUN_OPTIONS), "with --remove; leave one or the other out")
        if CHANGED_LEVELS.name not in arguments:
            arguments.command.error("--remove needs the levels to remove; name them, as in --levels 3,4")
        remove_levels(arguments.store, **keywords(arguments, "remove_levels"))
        return 0
    if NEW_METHOD.name not in arguments:
        arguments.command.error("it is unknown how to recompute the levels; name a method, as in --method max")
    rebuild_levels(arguments.store, **keywords(arguments, "rebuild_levels"))
    return 0
