"""The command line ``multiscale-sampler``: each command calls the public function of the same job.

Exit codes: 0 done, 1 the input or the store is wrong (one line says how), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__
from . import building, changing, reading, showing
from .commands import Parser

# 128 + SIGINT, as shells do.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        try:
            return int(arguments.run(arguments))
        except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
            print(" ".join(["multiscale-sampler: error:", str(error), *_notes(error)]), file=sys.stderr)
            return 1
        except KeyboardInterrupt as stop:
            print(" ".join(["multiscale-sampler: interrupted.", *_notes(stop)]), file=sys.stderr)
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
    for module in (building, reading, changing, showing):
        module.add_commands(commands)
    return root


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"multiscale-sampler: warning: {message}", file=sys.stderr)
