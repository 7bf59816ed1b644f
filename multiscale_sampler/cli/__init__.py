"""The command line ``multiscale-sampler``: each command calls the public function of the same job.

Exit codes: 0 done, 1 the input or the store is wrong (one line says how), 2 wrong usage, 3 undecided (`verify`),
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from .. import __version__
from . import building, changing, reading, showing
from .commands import Arguments, Parser

# 128 + SIGINT, as shells do.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = partial(_show_warning, arguments)
        try:
            return int(arguments.run(arguments))
        except Exception as error:
            _show_error(arguments, error)
            return 1
        except KeyboardInterrupt as stop:
            _show(arguments, "interrupted", stop)
            return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with all its commands."""
    root = Parser(
        prog="multiscale-sampler",
        description="From one zarr array to an exact, viewer-ready image pyramid (OME-Zarr).",
        epilog="example:\n  multiscale-sampler build raw.zarr out.ome.zarr --scale z=50,y=40,x=40 --unit micrometer",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_commands in (
        building.add_building_commands,
        reading.add_reading_commands,
        changing.add_changing_commands,
        showing.add_showing_commands,
    ):
        add_commands(commands)
    calls = [command.get_default("calls") for command in commands.choices.values()]
    root.set_defaults(known={option.keyword: option for each in calls for row in each.values() for option in row})
    return root


def _show_error(arguments: Arguments, error: Exception) -> None:
    """Print an error: one line, after its traceback where that was asked for or the error is a bug."""
    from .faults import advice, is_expected

    expected = is_expected(error)
    if arguments.traceback or not expected:
        traceback.print_exception(error)
    text = _text_of(error) if expected else f"{type(error).__name__}: {error}"
    _show(arguments, f"error: {text}", error)
    if not expected:
        _print(advice(error))


def _text_of(error: Exception) -> str:
    """Return what an error says, without the number that Python puts before what the system says."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename!r}"
    return str(error)


def _show(arguments: Arguments, text: str, error: BaseException | None = None) -> None:
    """Print a message, with the notes of an error, in the words of the command line."""
    from .words import options_by_keyword, translated

    sentences = [text, *getattr(error, "__notes__", [])]
    options = options_by_keyword(arguments.known, arguments.calls, error)
    _print(translated(". ".join(sentence.removesuffix(".") for sentence in sentences), options))


def _show_warning(arguments: Arguments, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    _show(arguments, f"warning: {message}")


def _print(text: str) -> None:
    print(f"multiscale-sampler: {text}", file=sys.stderr)
