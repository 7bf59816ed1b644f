"""What a function does, as a text: another one for other code, the same one in every process."""

import functools

import numba
import numpy as np
import pytest

from multiscale_sampler.methods.identity import identity_of_function


def made(how, times=1, default=None):
    def method(windows, axis=None, given=default):
        return how(windows, axis=axis) * times

    return method


class Callable:
    def __init__(self, times):
        self.times = times

    def __call__(self, windows, axis=None):
        return np.max(windows, axis=axis) * self.times


def compiled(code):
    return numba.njit(eval(f"lambda window: {code}"))


def of_module(factor):
    """Return a function that uses a value of its module."""
    names = {"np": np, "factor": factor, "__name__": "users"}
    exec("def method(windows, axis=None): return helper(windows, axis) * factor", names)
    exec("def helper(windows, axis): return np.max(windows, axis)", names)
    return names["method"]


FUNCTIONS = [
    lambda: made(np.max),
    lambda: made(np.min),
    lambda: made(np.max, times=2),
    lambda: made(np.max, default=3),
    lambda: made(np.max, times=np.arange(3)),
    lambda: made(np.max, times=np.arange(1, 4)),
    lambda: lambda windows, axis=None: np.max(windows, axis=axis),
    lambda: lambda windows, axis=None: np.max(windows, axis=axis) + 1,
    lambda: Callable(1),
    lambda: Callable(2),
    lambda: Callable(1).__call__,
    lambda: functools.partial(np.percentile, q=50),
    lambda: functools.partial(np.percentile, q=60),
    lambda: compiled("window.max()"),
    lambda: compiled("window.min()"),
    lambda: of_module(1),
    lambda: of_module(2),
    lambda: np.max,
    lambda: np.min,
    lambda: np.add.reduce,
    lambda: np.maximum.reduce,
]


def test_identity_of_function__is_one_for_each():
    found = [identity_of_function(make()) for make in FUNCTIONS]
    assert len(set(found)) == len(FUNCTIONS)


@pytest.mark.parametrize("make", FUNCTIONS)
def test_identity_of_function__is_that_of_the_same_function_made_again(make):
    assert identity_of_function(make()) == identity_of_function(make())
