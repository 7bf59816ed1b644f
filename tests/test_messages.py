import pytest

from multiscale_sampler.messages import check_choice, shape_text, table


@pytest.mark.parametrize("value", ["wrap", "", None, 3, ["pad"]])
def test_check_choice__refuses_other_values_and_lists_the_choices(value):
    check_choice("boundary", "trim", ("pad", "trim"))
    with pytest.raises(ValueError, match=r"unknown boundary .*; choose one of 'pad', 'trim'$") as refused:
        check_choice("boundary", value, ("pad", "trim"))
    assert repr(value) in str(refused.value)


def test_table__aligns_columns_and_ends_no_line_in_blanks():
    rows = [("level", "shape", ""), ("0", "64x64", "base"), ("10", "1", "")]
    assert list(table(rows)) == ["level  shape", "0      64x64  base", "10     1"]
    with pytest.raises(ValueError, match="zip"):
        list(table([("a", "b"), ("c",)]))


def test_shape_text__joins_sizes():
    assert shape_text((64, 32, 1)) == "64x32x1"
    assert shape_text(()) == ""
