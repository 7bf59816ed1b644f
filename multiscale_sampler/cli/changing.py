"""Commands that change a pyramid that is there."""

from __future__ import annotations

import argparse
from typing import Any

from . import values
from .options import Arguments, add_command, add_pyramid, add_quiet, add_resource_options, add_source


def add_commands(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_update(commands)
    _add_append(commands)
    _add_rebuild(commands)


def _add_update(commands: Any) -> None:
    command = add_command(
        commands,
        "update",
        _update,
        "Make the levels of a pyramid anew where its level 0 was edited, and nowhere else.",
        "out.ome.zarr --region z=0:64,y=10:20",
    )
    add_pyramid(command)
    command.add_argument(
        "--region",
        type=values.region,
        help="what was edited: z=0:64,y=10:20, axes left out whole (default: see --changed)",
    )
    command.add_argument(
        "--by",
        default="index",
        choices=["index", "coordinate"],
        help="whether --region counts samples or tells positions in the image's units (default: index)",
    )
    command.add_argument(
        "--changed",
        choices=["auto"],
        help="auto: find what was edited by digests (build --digests) (default: --region)",
    )
    _add_change_options(command)


def _update(arguments: Arguments) -> int:
    from .. import update_pyramid

    options = _change_options(arguments)
    update_pyramid(arguments.store, arguments.region, by=arguments.by, changed=arguments.changed, **options)
    return 0


def _add_append(commands: Any) -> None:
    command = add_command(
        commands,
        "append",
        _append,
        "Let a pyramid go on along an axis, at every level.",
        "new.zarr out.ome.zarr --dim t",
    )
    add_source(command)
    command.add_argument("store", help="the OME-Zarr image that goes on: a path or a URL")
    command.add_argument("--dim", required=True, help="the axis to go on along: t")
    command.add_argument("--store-path", help="path of the image's group in the store: images/a (default: the root)")
    _add_change_options(command)


def _append(arguments: Arguments) -> int:
    from .. import append_pyramid, open_image

    # The values alone: they go on where those of the store end.
    part = {"series": arguments.series, "level": arguments.level}
    image = open_image(arguments.source, arguments.path, **part).data
    options = {**_change_options(arguments), "path": arguments.store_path}
    append_pyramid(image, arguments.store, arguments.dim, **options)
    return 0


def _add_rebuild(commands: Any) -> None:
    command = add_command(
        commands,
        "rebuild",
        _rebuild,
        "Make levels of a pyramid anew by another method, or remove them.",
        "out.ome.zarr --levels 1,2 --method max",
    )
    add_pyramid(command)
    command.add_argument("--levels", type=values.levels, help="which: 1,2 (default: all but 0)")
    command.add_argument("--remove", action="store_true", help="remove the levels that --levels names")
    _add_change_options(command)


def _rebuild(arguments: Arguments) -> int:
    from .. import rebuild_levels, remove_levels

    if arguments.remove:
        if arguments.levels is None:
            raise ValueError("--remove wants --levels, as in --levels 3,4")
        remove_levels(arguments.store, arguments.levels, arguments.path)
        return 0
    if arguments.method is None:
        raise ValueError("name the method, as in --method max")
    rebuild_levels(arguments.store, arguments.levels, **_change_options(arguments))
    return 0


def _add_change_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--method",
        type=values.method,
        metavar="METHOD",
        help="how levels are made, by the names that build takes: mean (default: as the store says)",
    )
    add_resource_options(command)
    command.add_argument("--resume", action="store_true", help="go on with the same change that was interrupted")
    add_quiet(command)


def _change_options(arguments: Arguments) -> dict[str, Any]:
    names = ("path", "method", "memory_limit", "workers", "resume")
    return {**{name: getattr(arguments, name) for name in names}, "progress": not arguments.quiet}
