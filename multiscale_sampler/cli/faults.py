"""Whether an error is the user's, who gets one line, or a bug of this package, whose traceback is shown."""

from __future__ import annotations

import linecache
import os
import traceback
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "multiscale-sampler"
PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


def is_expected(error: BaseException) -> bool:
    """Whether an error is one that this package raises on purpose, or one of files, networks or the system.

    The class of an error does not decide: a ValueError of numpy that nobody foresaw is a bug here, and the same class
    raised with a message for the user is not. So the place decides. What is refused on purpose leaves this package at
    a ``raise`` statement that names the class; anything else leaves it in the middle of an expression, or in a call of
    another library. Errors of the operating system are exempt: a full disk, a closed port or a missing file is seen
    first by whoever touches it, mostly a library.
    """
    if isinstance(error, OSError):
        return True
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    inside = [place for place in frames if place[0].startswith(PACKAGE)]
    # An AssertionError says that the impossible happened, with whatever message.
    if not inside or isinstance(error, AssertionError):
        return False
    return linecache.getline(*inside[-1]).strip().startswith(f"raise {type(error).__name__}(")


def advice(error: BaseException) -> str:
    """Return what to do about an error that is not expected."""
    report = f"please report all of the above to {where_to_report()}"
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if frame.f_code.co_filename.startswith(PACKAGE):
        return f"this is a bug; {report}"
    library = frame.f_globals.get("__name__", "a library").partition(".")[0]
    return f"{library} raised this: the input may be damaged; if it is sound, this is a bug, {report}"


def where_to_report() -> str:
    """Return the address of the issue tracker, as the installed package states it."""
    try:
        stated = metadata.metadata(DISTRIBUTION).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        stated = []
    addresses: dict[str, str] = dict(entry.split(", ", 1) for entry in stated)
    return addresses.get("Issues", "the developers")
