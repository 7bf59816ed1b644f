"""Calls of the package's own functions, counted wherever a module has imported them."""

import functools
import sys


def recorded_calls(monkeypatch, function):
    """Return a list that gets the arguments of every call of a function of the package."""
    calls = []

    @functools.wraps(function)
    def recording(*args, **kwargs):
        calls.append((args, kwargs))
        return function(*args, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "multiscale_sampler":
            for attribute, value in list(vars(module).items()):
                if value is function:
                    monkeypatch.setattr(module, attribute, recording)
    return calls
