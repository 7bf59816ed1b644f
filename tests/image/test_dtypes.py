"""Values in another dtype: converted where it holds them, and otherwise named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from multiscale_sampler.image.dtypes import cast_block, fit_in, target_dtype, value_in

from ..oracles import DTYPES

INTEGERS = [dtype for dtype in DTYPES if np.dtype(dtype).kind in "biu"]


def fits(value, dtype):
    """Whether a dtype can hold a number: integers as it is, floats unless it would become infinite."""
    if dtype.kind == "b":
        return value in (0, 1)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return bool(np.isfinite(value)) and value == int(value) and info.min <= int(value) <= info.max
    with np.errstate(over="ignore"):
        return not np.isfinite(value) or bool(np.isfinite(np.asarray(value).astype(dtype)))


@given(data=st.data())
def test_cast_block__is_astype_or_names_the_first_value_that_does_not_fit(data):
    source = np.dtype(data.draw(st.sampled_from(DTYPES)))
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    block = data.draw(hnp.arrays(source, (2, 3)))
    wrong = [index for index in np.ndindex(2, 3) if not fits(block[index].item(), dtype)]
    if wrong:
        (y, x), value = wrong[0], block[wrong[0]].item()
        with pytest.raises(ValueError, match=f"y={10 + y}, x={20 + x} ") as caught:
            cast_block(block, dtype, (10, 20), ("y", "x"))
        assert f"the value {value!r} at" in str(caught.value)
    else:
        with np.errstate(all="ignore"):
            expected = block.astype(dtype)
        assert cast_block(block, dtype, (10, 20), ("y", "x")).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("dtype", "source", "error"),
    [
        ("float31", "uint8", TypeError),
        ("U3", "uint8", TypeError),
        ("uint8", "datetime64[s]", TypeError),
        ("float32", "complex64", ValueError),
    ],
)
def test_target_dtype__refuses_what_cannot_be(dtype, source, error):
    with pytest.raises(error, match="dtype="):
        target_dtype(dtype, np.dtype(source))


@given(data=st.data())
def test_fit_in__is_whether_every_value_is_one_of_the_dtype(data):
    block = data.draw(hnp.arrays(np.dtype(data.draw(st.sampled_from(DTYPES))), (2, 3)))
    dtype = np.dtype(data.draw(st.sampled_from(INTEGERS)))
    assert fit_in(block, dtype) == all(fits(value.item(), dtype) for value in block.flat)


def test_fit_in__is_true_of_no_values():
    assert fit_in(np.empty((0, 3)), np.dtype("uint8"))


@pytest.mark.parametrize(
    ("value", "dtype", "held"),
    [
        (255, "uint8", 255),
        (np.float64(7), "uint8", 7),
        (0.1, "float32", float(np.float32(0.1))),
        (-np.inf, "float32", -np.inf),
        (2**63, "uint64", 2**63),
        (True, "bool", True),
        (1 + 2j, "complex64", 1 + 2j),
        (256, "uint8", None),
        (-1, "uint8", None),
        (1.5, "int16", None),
        (np.nan, "int16", None),
        (1e39, "float32", None),
        (2**64, "uint64", None),
        ("sea", "uint8", None),
        ([1, 2], "uint8", None),
    ],
)
def test_value_in__is_the_value_that_the_dtype_holds(value, dtype, held):
    found = value_in(value, np.dtype(dtype))
    assert found == held
    assert type(found) is type(held)
