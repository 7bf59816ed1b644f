"""Commands that read pyramids of any writer: what they are, whether they are right, and copies of them."""

from __future__ import annotations

import json
from typing import Any

from ..metadata import WRITTEN_VERSIONS
from . import values
from .options import Arguments, add_command, add_quiet, add_resource_options, add_storage_options


def add_commands(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_info(commands)
    _add_validate(commands)
    _add_verify(commands)
    _add_convert(commands)


def _add_info(commands: Any) -> None:
    command = add_command(commands, "info", _info, "Show the levels of a pyramid of any writer.", "out.ome.zarr --json")
    command.add_argument("store", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--path", help="path of the image's group in the store: images/a (default: the root)")
    command.add_argument("--json", action="store_true", help="print JSON")


def _info(arguments: Arguments) -> int:
    from .. import open_pyramid
    from ..image.tree import describe_levels, format_levels

    levels = describe_levels(open_pyramid(arguments.store, arguments.path))
    print(json.dumps(levels, indent=2) if arguments.json else format_levels(levels))
    return 0


def _add_validate(commands: Any) -> None:
    command = add_command(
        commands,
        "validate",
        _validate,
        "Hold a pyramid of any writer against the specification.",
        "out.ome.zarr --strict --json",
    )
    command.add_argument("store", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--path", help="path of the image's group in the store: images/a (default: the root)")
    command.add_argument("--strict", action="store_true", help="count as errors what the specification recommends")
    command.add_argument("--metadata-only", action="store_true", help="leave out arrays and labels, as schemas do")
    command.add_argument("--json", action="store_true", help="print JSON")


def _validate(arguments: Arguments) -> int:
    from .. import validate

    report = validate(arguments.store, arguments.path, strict=arguments.strict, metadata_only=arguments.metadata_only)
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)
    return 0 if report.ok else 1


def _add_verify(commands: Any) -> None:
    command = add_command(
        commands,
        "verify",
        _verify,
        "Hold the voxels of a pyramid of any writer against its metadata.",
        "out.ome.zarr --sample 20",
    )
    command.add_argument("store", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--path", help="path of the image's group in the store: images/a (default: the root)")
    command.add_argument("--levels", type=values.by_dim(int), help="levels to judge: 1, or 1,2 (default: all)")
    command.add_argument("--sample", type=int, metavar="N", help="read N regions at random (default: every voxel)")
    command.add_argument("--seed", type=int, default=0, help="what the choice of regions depends on (default: 0)")
    add_resource_options(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    add_quiet(command)


def _verify(arguments: Arguments) -> int:
    from .. import verify_pyramid

    names = ("levels", "sample", "seed", "memory_limit", "workers")
    report = verify_pyramid(
        arguments.store,
        arguments.path,
        progress=not arguments.quiet,
        **{name: getattr(arguments, name) for name in names},
    )
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)
    return 0 if report.ok else 1


def _add_convert(commands: Any) -> None:
    command = add_command(
        commands,
        "convert",
        _convert,
        "Convert a pyramid of any writer to another version of OME-NGFF.",
        "old.zarr new.ome.zarr --ngff 0.5",
    )
    command.add_argument("source", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument(
        "target", nargs="?", help="where to write a copy (default: convert in place, 0.5 to 0.6 or back)"
    )
    command.add_argument("--path", help="path of the image's group in the source: images/a (default: the root)")
    command.add_argument("--ngff", required=True, choices=[*WRITTEN_VERSIONS], help="version of OME-NGFF to convert to")
    add_storage_options(command)
    command.add_argument("--resume", action="store_true", help="go on with an interrupted copy")
    add_quiet(command)


def _convert(arguments: Arguments) -> int:
    from .. import convert

    convert(
        arguments.source,
        arguments.target,
        path=arguments.path,
        version=arguments.ngff,
        progress=None if arguments.quiet or arguments.target is None else True,
        **{name: getattr(arguments, name) for name in ("chunks", "shards", "memory_limit", "workers", "resume")},
    )
    return 0
