"""Messages of the public functions in the words of the command line.

The functions are written for Python, and so are their messages: ``mode='w'``. The table of options says which option
sets a keyword argument, and with it what to write on the command line instead: ``--overwrite``.
"""

from __future__ import annotations

import ast
import re
import shlex
import traceback
from argparse import BooleanOptionalAction
from collections.abc import Mapping

from . import values
from .commands import Calls
from .options import Option

# Commands for the public functions whose names are not English words.
COMMANDS = {
    "write_pyramid": "build",
    "add_levels": "add-levels",
    "plan_pyramid": "plan",
    "write_labels": "write-labels",
    "open_pyramid": "info",
    "open_image": "plan",
    "verify_pyramid": "verify",
    "update_pyramid": "update",
    "append_pyramid": "append",
    "rebuild_levels": "rebuild",
    "remove_levels": "rebuild --remove",
}
# Python that messages suggest, and what does the same on the command line or before it.
SNIPPETS = (
    (r", or as in image\.rename\(\{.*?\}\)", ""),
    (r"image\.rename\('(.*?)'\)", r"--name \1"),
    (r"as in image\.astype\('(.*?)'\)", r"as with build --dtype \1"),
    (r"image\.astype", "build --dtype"),
    (r"image\.real, or abs\(image\)", "its real part or its magnitude first"),
    (r"leave it out with image\.drop_vars\(.*?\)", "leave it out of the source"),
    (r"image\.drop_vars\('(.*?)'\)", r"--scale \1=1"),
    (r"with image\.isel\(.*?=slice\(None, None, -1\)\)", "in the source"),
    (
        r"as image\.attrs\['crs'\] = ('.*?'), or by image\.rio\.write_crs\('.*?'\)",
        r"as an attribute crs = \1 of the source",
    ),
    (r"write version '(.*?)'", r"write --ngff \1"),
    # Other examples have no counterpart.
    (r",? as in image[.[][^;]*", ""),
)
# Where a word begins that is not part of a path, a URL or quoted text, as "level=0" may be.
NOT_IN_PATH = r"(?<![\w./?&'\"-])"


def translated(text: str, options: Mapping[str, Option]) -> str:
    """Return a message in the words of the command line, by the options for each keyword argument."""
    for pattern, words in SNIPPETS:
        text = re.sub(pattern, words, text)
    text = re.sub(rf"\b({'|'.join(COMMANDS)})\b", lambda match: f"multiscale-sampler {COMMANDS[match[1]]}", text)
    text = _with_options(text, options)
    # Values by axis that stand alone.
    mapping = rf"\b((?:{'|'.join(('as', *options))}) )(\{{'[^{{}}]*\}})"
    text = re.sub(mapping, lambda match: match[1] + (_as_typed(_parsed(match[2])) or match[2]), text)
    for keyword, option in options.items():
        if "_" in keyword:
            text = re.sub(rf"{NOT_IN_PATH}{keyword}\b", option.flag, text)
    # Some messages name the option as well.
    return re.sub(r"(--[\w-]+) \(\1\)", r"\1", text)


def options_by_keyword(
    known: Mapping[str, Option], calls: Calls, error: BaseException | None = None
) -> dict[str, Option]:
    """Return the options for each keyword argument: those of the call that failed, else of the command, else any."""
    frames = traceback.walk_tb(None if error is None else error.__traceback__)
    failed = [frame.f_code.co_name for frame, _ in frames if frame.f_code.co_name in calls][:1]
    found = dict(known)
    for function in (*calls, *failed):
        found |= {option.keyword: option for option in calls[function]}
    return found


def _with_options(text: str, options: Mapping[str, Option]) -> str:
    """Return a message with options in place of keyword=value."""
    done, position = "", 0
    for match in re.finditer(rf"{NOT_IN_PATH}([a-z_]+)(?:\[\d+\])?=", text):
        if match.start() >= position:
            end = _end_of_literal(text, match.end())
            done += text[position : match.start()] + _assignment(match[1], text[match.end() : end], options)
            position = end
    return done + text[position:]


def _end_of_literal(text: str, start: int) -> int:
    """Return where a literal of Python ends, brackets and quotes with what is in them."""
    depth, quote, end = 0, "", start
    for character in text[start:]:
        if not quote and not depth and character in ")]} ,;:":
            break
        end += 1
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
    # The end of a sentence.
    return end - text[start:end].endswith(".")


def _parsed(literal: str) -> ast.expr | None:
    """Return what Python makes of a text, None where it is not Python."""
    try:
        return ast.parse(literal, mode="eval").body
    except (SyntaxError, ValueError):
        return None


def _assignment(keyword: str, literal: str, options: Mapping[str, Option]) -> str:
    """Return ``keyword=literal`` as options; an axis with its range as --region has it; anything else unchanged."""
    value = _parsed(literal)
    option = options.get(keyword)
    if option is None:
        return f"{keyword}={_as_typed(value)}" if isinstance(value, ast.Call) else f"{keyword}={literal}"
    if value is None:
        return f"{option.flag} {literal}".rstrip()
    if option.constant is not None:
        return option.flag if literal == repr(option.constant) else f"no {option.flag}"
    if option.settings.get("action") is BooleanOptionalAction:
        return option.flag.replace("--", "--no-") if literal == "False" else option.flag
    parts = value.elts if isinstance(value, ast.List) and _is_nested(value) else [value]
    # Of the options that take "none", the value None is that of this one.
    is_none = option.settings.get("type") is values.nodata and literal == "None"
    texts = ["none"] if is_none else [_as_typed(part) for part in parts]
    if option.settings.get("type") in (values.levels, values.levels_or_paths, values.names, values.axes):
        # A list all the same; elsewhere the comma tells one of a list from one for all.
        texts = [text.removesuffix(",") for text in texts]
    return " ".join(f"{option.flag} {shlex.quote(text)}" for text in texts)


def _is_nested(value: ast.List) -> bool:
    return any(isinstance(part, ast.List | ast.Tuple | ast.Dict) for part in value.elts)


def _as_typed(value: ast.expr | None) -> str:
    """Return a value as it is written on the command line."""
    match value:
        case None | ast.Constant(value=None):
            return ""
        case ast.Constant(value=False):
            return "none"
        case ast.Constant(value=constant):
            return str(constant)
        case ast.Dict(keys=names, values=parts):
            return ",".join(f"{_as_typed(name)}={_as_typed(part)}" for name, part in zip(names, parts, strict=True))
        case ast.List(elts=[part]) | ast.Tuple(elts=[part]):
            return f"{_as_typed(part)},"
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return ",".join(map(_as_typed, parts))
        case ast.Call(func=ast.Name(id="slice"), args=parts):
            return ":".join(map(_as_typed, parts[:2]))
        case _:
            return ast.unparse(value)
