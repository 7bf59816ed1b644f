"""Commands that read pyramids from any tool: show them, check them, copy them."""

from __future__ import annotations

import json
from typing import Any

from .commands import Arguments, add_command, keywords, refuse
from .options import (
    IMAGE_PATH,
    METADATA_ONLY,
    NGFF_OF_COPY,
    QUIET,
    RESOURCE_OPTIONS,
    RESUME_COPY,
    SAMPLE,
    SEED,
    STORAGE_OPTIONS,
    STRICT,
    VERIFIED_LEVELS,
)

READ_STORE = "the OME-Zarr image: a path, a URL, a .zip or an .ozx file"
# The exit code of `verify` if no rule is known to judge some level by.
UNDECIDED = 3
VERIFY_CODES = f"""exit codes:
  0  data and metadata agree
  1  they disagree: levels miss their rule or positions, chunks or label ids are lost
  {UNDECIDED}  undecided: no error, but no rule is known to judge some level by"""
COPY_OPTIONS = (*STORAGE_OPTIONS, RESUME_COPY, QUIET)


def add_reading_commands(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_info(commands)
    _add_validate(commands)
    _add_verify(commands)
    _add_convert(commands)


def _add_info(commands: Any) -> None:
    command = add_command(
        commands,
        "info",
        _info,
        "Show the levels of a pyramid from any tool.",
        "out.ome.zarr --json",
        {"open_pyramid": (IMAGE_PATH,)},
    )
    command.add_argument("store", help=READ_STORE)
    command.add_argument("--json", action="store_true", help="print JSON")


def _info(arguments: Arguments) -> int:
    from .. import open_pyramid
    from ..image.tree import describe_levels, format_levels

    levels = describe_levels(open_pyramid(arguments.store, **keywords(arguments, "open_pyramid")))
    print(json.dumps(levels, indent=2) if arguments.json else format_levels(levels))
    return 0


def _add_validate(commands: Any) -> None:
    command = add_command(
        commands,
        "validate",
        _validate,
        "Check a pyramid's metadata against the OME-NGFF specification.",
        "out.ome.zarr --strict --json",
        {"validate": (IMAGE_PATH, STRICT, METADATA_ONLY)},
    )
    command.add_argument("store", help=READ_STORE)
    command.add_argument("--json", action="store_true", help="print JSON")


def _validate(arguments: Arguments) -> int:
    from .. import validate

    return _print_report(validate(arguments.store, **keywords(arguments, "validate")), arguments)


def _add_verify(commands: Any) -> None:
    command = add_command(
        commands,
        "verify",
        _verify,
        "Check that a pyramid's voxels match its metadata.",
        "out.ome.zarr --sample 20",
        {"verify_pyramid": (IMAGE_PATH, VERIFIED_LEVELS, SAMPLE, SEED, *RESOURCE_OPTIONS, QUIET)},
    )
    command.epilog = f"{command.epilog}\n\n{VERIFY_CODES}"
    command.add_argument("store", help=f"{READ_STORE}; or a TIFF file with levels")
    command.add_argument("--json", action="store_true", help="print JSON")


def _verify(arguments: Arguments) -> int:
    from .. import verify_pyramid

    if SAMPLE.name not in arguments:
        refuse(arguments, [SEED], "without --sample, which checks random regions; add that, or leave this out")
    report = verify_pyramid(arguments.store, **keywords(arguments, "verify_pyramid"))
    code = _print_report(report, arguments)
    return UNDECIDED if report.verdict == "undecided" else code


def _print_report(report: Any, arguments: Arguments) -> int:
    """Print what a check found; return its exit code."""
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)
    return 0 if report.ok else 1


def _add_convert(commands: Any) -> None:
    command = add_command(
        commands,
        "convert",
        _convert,
        "Convert a pyramid from any tool to another version of OME-NGFF.",
        "old.zarr new.ome.zarr --ngff 0.5",
        {"convert": (IMAGE_PATH, NGFF_OF_COPY, *COPY_OPTIONS)},
    )
    command.add_argument("source", help=READ_STORE)
    command.add_argument(
        "target", nargs="?", help="where to write a copy (default: convert in place, 0.5 to 0.6 or back)"
    )


def _convert(arguments: Arguments) -> int:
    from .. import convert

    if arguments.target is None:
        refuse(arguments, COPY_OPTIONS, "without a target, as nothing is copied; name one, or leave this out")
    convert(arguments.source, arguments.target, **keywords(arguments, "convert"))
    return 0
