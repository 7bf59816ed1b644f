"""Subcommands: their parsers, and the keyword arguments of the public functions that they call."""

from __future__ import annotations

import re
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeAlias

from .options import Option

Arguments: TypeAlias = Namespace
# The public functions that a command calls, each with the options that set its keyword arguments.
Calls: TypeAlias = Mapping[str, tuple[Option, ...]]


class Parser(ArgumentParser):
    """A parser whose errors are two lines, as the whole usage would hide them, and which takes negative numbers."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # argparse's own pattern takes -3 for a value, but -3,2 and -1e5 and -inf for options.
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf)")

    def error(self, message: str) -> NoReturn:
        """End the program with the exit code of wrong usage."""
        self.exit(2, f"{self.prog}: error: {message}\nusage: see {self.prog} --help\n")


def add_command(
    commands: Any,
    name: str,
    run: Callable[[Arguments], int],
    summary: str,
    example: str,
    calls: Calls,
) -> ArgumentParser:
    """Add a subcommand with the options of its calls; `example` are arguments to show at the end of its help."""
    command: ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  multiscale-sampler {name} {example}",
        # Else the example would be wrapped, and could not be copied.
        formatter_class=RawDescriptionHelpFormatter,
    )
    groups: dict[str | None, Any] = {None: command}
    for option in {option.flag: option for options in calls.values() for option in options}.values():
        if option.group not in groups:
            groups[option.group] = command.add_argument_group(option.group)
        groups[option.group].add_argument(option.flag, **option.settings)
    command.add_argument("--traceback", action="store_true", help="show where in the code an error was raised")
    command.set_defaults(run=run, command=command, calls=calls)
    return command


def keywords(arguments: Arguments, function: str) -> dict[str, Any]:
    """Return the keyword arguments of a public function that the options of a command set."""
    found = {}
    for option in arguments.calls[function]:
        if option.name in arguments:
            found[option.keyword] = option.value(getattr(arguments, option.name))
        elif option.absent is not SUPPRESS:
            found[option.keyword] = option.absent
    return found


def refuse(arguments: Arguments, options: Iterable[Option], reason: str) -> None:
    """End the program if options were used that would have no effect; `reason` says where, and what to do instead."""
    used = [option.flag for option in options if option.name in arguments]
    if used:
        arguments.command.error(f"{', '.join(used)} would have no effect {reason}")
