"""What libraries report while they read a file, as errors and warnings that name the file.

The libraries differ: tifffile logs that planes are missing and returns zeros, GDAL logs what it repairs, others raise
exceptions of their own without the name of the file. Callers get an OSError or a ValueError that names it, or a
UserWarning, whatever the format.
"""

from __future__ import annotations

import logging
import os
import re
import textwrap
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock

from ..messages import warn_caller

# The loggers that emit records about the content of files. A filter of a logger does not see what its children emit.
LOGGERS = ("tifffile", "nibabel.global", "rasterio._env", "rasterio._err", "imageio", "PIL.TiffImagePlugin")
# Words of tifffile, GDAL, libtiff and libjpeg for values that are not there. All other records are about metadata.
LOST_VALUES = re.compile(
    r"missing data are zeroed|missing files|missing data offset|expected \d+ segments|failed to read \d+ bytes"
    # The description of the image (tag 270) lies beyond the end of the file.
    r"|incompletely written|TiffTag 270 .*invalid value offset"
    r"|corrupt jpeg|premature end|read error|not enough data|unexpected end|decod\w+ error|no space for",
    re.IGNORECASE,
)
# Errors of these classes that name the file are complete. Those of other classes come from a library.
COMPLETE_ERRORS = (ValueError, OSError, FileNotFoundError, PermissionError, IsADirectoryError)
# Warnings for developers, which are about code and not about a file.
DEVELOPER_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
# Addresses of ITK's objects, which differ from run to run.
OBJECT_ADDRESS = re.compile(r"\w+\(0x[0-9a-f]+\): ")
LONGEST_REPORT = 400
ADVICE = "replace it by an intact copy"

# The reports of the read that runs in this context. Threads of zarr that read for it have a copy of its context.
_reports: ContextVar[list[str] | None] = ContextVar("_reports", default=None)
_listeners = 0
_listeners_lock = Lock()
# `warnings.catch_warnings` changes the state of the process.
_opening_lock = Lock()


class _ReportFilter(logging.Filter):
    """Takes records of warnings and errors out of the log, for the read whose context they are emitted in."""

    def filter(self, record: logging.LogRecord) -> bool:
        reports = _reports.get()
        if reports is None or record.levelno < logging.WARNING:
            return True
        reports.append(record.getMessage())
        return False


_report_filter = _ReportFilter()


@contextmanager
def opening(path: Path, format_name: str, *, warn: bool = True) -> Iterator[list[str]]:
    """Let a library open a file; yield the list of what it reports. Without `warn`, only errors are passed on.

    Raises
    ------
    OSError
        If the library raises one.
    ValueError
        If the library raises another error, or reports that values are missing.

    Warns
    -----
    UserWarning
        Of everything else that the library reports, in one warning.
    """
    with _opening_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        advice = "check that it is complete and of that format"
        with _complete_errors(path, f"cannot be read as {format_name}", advice), _collected_reports() as reports:
            yield reports
    if not warn:
        return
    for warning in caught:
        if issubclass(warning.category, DEVELOPER_WARNINGS):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        else:
            reports.append(str(warning.message))
    _pass_on(path, "", reports)


@contextmanager
def reading(path: Path, part: str, known: Collection[str] = ()) -> Iterator[None]:
    """Let a library read a part of a file; reports that are `known` from opening it are not repeated.

    Raises
    ------
    OSError
        If the library raises one.
    ValueError
        If the library raises another error, or reports that values are missing.

    Warns
    -----
    UserWarning
        Of everything else that the library reports.
    """
    with _complete_errors(path, f"is damaged or incomplete{part}", ADVICE), _collected_reports() as reports:
        yield
    _pass_on(path, part, [text for text in reports if text not in known])


@contextmanager
def _collected_reports() -> Iterator[list[str]]:
    reports: list[str] = []
    token = _reports.set(reports)
    _count_listeners(1)
    try:
        yield reports
    finally:
        _count_listeners(-1)
        _reports.reset(token)


def _count_listeners(change: int) -> None:
    """Keep the filter in place as long as any thread reads."""
    global _listeners
    with _listeners_lock:
        _listeners += change
        if _listeners == max(change, 0):
            for name in LOGGERS:
                logger = logging.getLogger(name)
                (logger.addFilter if change > 0 else logger.removeFilter)(_report_filter)


@contextmanager
def _complete_errors(path: Path, failure: str, advice: str) -> Iterator[None]:
    """Replace errors of libraries by errors that name the file."""
    try:
        yield
    except (Warning, ImportError):
        raise
    except Exception as error:
        name = repr(os.fspath(path))
        # netCDF raises an OSError whose number is one of its own.
        is_ours = not isinstance(error, OSError) or error.errno is None or error.errno > 0
        if type(error) in COMPLETE_ERRORS and name in str(error) and is_ours:
            raise
        message = f"{name} {failure}: {_text_of_library(error)}; {advice}"
        if isinstance(error, OSError):
            raise OSError(message) from error
        raise ValueError(message) from error


def _text_of_library(error: BaseException) -> str:
    """Return what an error and its causes state, in one line."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        # ITK puts the place in its own source before the text.
        text = OBJECT_ADDRESS.sub("", str(cause).rpartition("ERROR: ")[2]).strip()
        # The text of a KeyError is the key alone.
        texts.append(f"{type(cause).__name__} {text}".strip() if isinstance(cause, LookupError) or not text else text)
        cause = cause.__cause__
    return _one_line(": ".join(dict.fromkeys(texts)))


def _one_line(text: str) -> str:
    return textwrap.shorten(text, LONGEST_REPORT, placeholder=" ...").rstrip(".")


def _pass_on(path: Path, part: str, reports: Collection[str]) -> None:
    """Raise if a report says that values are missing, and warn once of all others.

    Once, because a library may repeat one for every page of a file.
    """
    if not reports:
        return
    lost = [text for text in reports if LOST_VALUES.search(text)]
    if lost:
        raise ValueError(f"{os.fspath(path)!r} is damaged or incomplete{part}: {_one_line(lost[0])}; {ADVICE}")
    first, *others = dict.fromkeys(reports)
    more = f" (and {len(others)} more reports)" if others else ""
    name = repr(os.fspath(path))
    text = first if name in first else f"{name}: {first}"
    warn_caller(f"{_one_line(text)}{more}")
