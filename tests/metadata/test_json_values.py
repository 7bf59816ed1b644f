"""Attributes as JSON can hold them."""

import numpy as np
import pytest

from multiscale_sampler.metadata.json_values import json_attributes


def test_json_attributes__converts_what_numpy_made():
    converted = json_attributes({"a": np.float32(0.5), "b": np.arange(3), "c": np.bool_(True), "d": [1, "x"]}, "image")
    assert converted == {"a": 0.5, "b": [0, 1, 2], "c": True, "d": [1, "x"]}
    assert type(converted["a"]) is float


@pytest.mark.parametrize(
    "value", [{1, 2}, 1j, b"bytes", np.datetime64("2001-01-01"), object()], ids=lambda v: type(v).__name__
)
def test_json_attributes__refuses_what_json_cannot_hold(value):
    with pytest.raises(ValueError, match=r"'bad' of 'em'.*remove or convert it"):
        json_attributes({"good": 1, "bad": value}, "em")


def test_json_attributes__writes_as_text_the_numbers_that_json_does_not_have():
    given = {"a": float("nan"), "b": [1.0, np.float32("-inf")], "c": {"d": float("inf")}}
    assert json_attributes(given, "em") == {"a": "NaN", "b": [1.0, "-Infinity"], "c": {"d": "Infinity"}}
