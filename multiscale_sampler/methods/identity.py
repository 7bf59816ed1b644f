"""What a user's function does, as a text: by its code and what that refers to, not by the name of the function.

Of other modules than the function's own, what is referred to counts by its name and its code alone.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np

CONSTANTS = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), np.generic, np.dtype)


def identity_of_function(function: Any) -> str:
    """Return a text that is another one if a function, or a value or function of its module that it uses, is changed.

    It is the same in every process of one version of Python.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _texts_of(function, _module_of(function), set()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _module_of(function: Any) -> Any:
    inner = function
    for attribute in ("func", "py_func", "__func__"):
        inner = getattr(inner, attribute, inner)
    return getattr(inner, "__module__", None)


def _texts_of(value: Any, module: Any, seen: set[int]) -> Iterator[str]:
    """Yield texts that together say what a value is."""
    yield type(value).__qualname__
    if isinstance(value, CONSTANTS):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {hashlib.blake2b(np.ascontiguousarray(value).tobytes()).hexdigest()}"
        return
    yield f"{getattr(value, '__module__', None)}.{getattr(value, '__name__', None)}"
    for inner in _inner_values(value, module):
        yield from _texts_of(inner, module, seen)


def _inner_values(value: Any, module: Any) -> Iterator[Any]:
    """Yield what a value consists of, or refers to."""
    match value:
        case types.CodeType():
            yield from (value.co_code, value.co_names, value.co_consts)
        case types.FunctionType() if value.__module__ == module:
            yield from (value.__code__, value.__defaults__, value.__kwdefaults__)
            yield from (cell.cell_contents for cell in value.__closure__ or ())
            yield from (value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__)
        case types.FunctionType():
            yield value.__code__
        case types.MethodType():
            yield from (value.__func__, value.__self__)
        case types.BuiltinFunctionType():
            yield value.__self__
        case functools.partial():
            yield from (value.func, value.args, value.keywords)
        case Mapping():
            yield from (part for item in value.items() for part in item)
        case list() | tuple():
            yield from value
        case Set():
            yield sorted(map(repr, value))
        case types.ModuleType():
            yield value.__name__
        case type() if value.__module__ == module:
            yield {name: part for name, part in vars(value).items() if name != "__firstlineno__"}
        case _ if hasattr(value, "py_func"):
            yield value.py_func
        case _ if type(value).__module__ == module and hasattr(value, "__dict__"):
            yield from (type(value), vars(value))
