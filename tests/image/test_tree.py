"""The arrangement of levels as a tree, and its description as values and as a table."""

import numpy as np
import pytest
import xarray as xr

from multiscale_sampler.image.axes import Axis
from multiscale_sampler.image.dataarray import coordinate_variable
from multiscale_sampler.image.tree import assemble, describe_levels, format_levels, levels_of_tree


def level(shape, scales, units, *, chunks=None, stored=None, dtype="uint16"):
    names = "tyx"[-len(shape) :]
    axes = [
        Axis(n, size, scale, scale / 2, unit) for n, size, scale, unit in zip(names, shape, scales, units, strict=True)
    ]
    image = xr.DataArray(np.zeros(shape, dtype), {axis.name: coordinate_variable(axis) for axis in axes}, list(names))
    image = image if chunks is None else image.chunk(dict(zip(names, chunks, strict=True)))
    image.encoding = {} if stored is None else {"chunks": stored}
    return image.to_dataset(name="image")


TREE = assemble(
    [
        level((6, 10), (0.5, 0.25), ("micrometer", "micrometer"), chunks=((4, 2), (3, 7))),
        level((3, 5), (1.0, 0.5), ("micrometer", "micrometer"), stored=(2, 5)),
        level((2, 3), (2.0, 1.0), ("micrometer", "micrometer")),
    ],
    {"method": "mean"},
)


def test_assemble__has_a_node_for_each_level_and_the_recipe():
    assert list(TREE.children) == ["scale0", "scale1", "scale2"]
    assert TREE.attrs == {"multiscale": {"method": "mean"}}
    assert assemble([TREE["scale0"].to_dataset()]).attrs == {}


def test_levels_of_tree__are_those_that_are_counted_without_a_gap():
    assert [each.shape for each in levels_of_tree(TREE)] == [(6, 10), (3, 5), (2, 3)]
    assert [each.shape for each in levels_of_tree(TREE.drop_nodes("scale1"))] == [(6, 10)]
    with pytest.raises(ValueError, match=r"has the nodes \['scale1', 'scale2'\], but no 'scale0'"):
        levels_of_tree(TREE.drop_nodes("scale0"))


@pytest.mark.parametrize("count", [0, 2])
def test_levels_of_tree__have_one_variable(count):
    names = ["a", "b"][:count]
    tree = assemble([xr.Dataset({name: ("x", np.zeros(2)) for name in names})])
    with pytest.raises(ValueError, match=rf"'scale0' has {count} variables"):
        levels_of_tree(tree)


def test_describe_levels__has_the_largest_block_the_stored_chunks_or_the_whole():
    described = describe_levels(TREE)
    assert [each["chunks"] for each in described] == [[4, 7], [2, 5], [2, 3]]
    assert described[1] == {
        "level": 1,
        "dims": ["y", "x"],
        "shape": [3, 5],
        "dtype": "uint16",
        "chunks": [2, 5],
        "scale": [1.0, 0.5],
        "translation": [0.5, 0.25],
        "units": ["micrometer", "micrometer"],
        "nbytes": 30,
    }


def test_describe_levels__has_no_spacing_of_uneven_positions():
    uneven = xr.Dataset({"image": (("y", "x"), np.zeros((3, 2)))}, {"y": [0.0, 1.0, 4.0], "x": [0.0, 2.0]})
    (described,) = describe_levels(assemble([uneven]))
    assert described["scale"] == [None, 2.0]
    assert described["translation"] == [None, 0.0]
    lines = format_levels([described]).splitlines()
    assert lines[0] == "dims y x"
    assert lines[2].split() == ["0", "3", "2", "float64", "3", "2", "-", "2", "-", "0", "-", "48", "B"]


@pytest.mark.parametrize(
    ("units", "shown"),
    [
        (("second", "micrometer", "micrometer"), ["second", "micrometer", "micrometer"]),
        (("micrometer", "micrometer", "micrometer"), ["micrometer"]),
        ((None, "micrometer", "micrometer"), ["-", "micrometer", "micrometer"]),
        ((None, None, None), ["-"]),
    ],
)
def test_format_levels__names_a_unit_once_if_all_axes_have_it(units, shown):
    lines = format_levels(describe_levels(assemble([level((2, 3, 4), (1.0, 0.5, 0.125), units)]))).splitlines()
    assert lines[0] == "dims t y x"
    assert lines[1].split() == ["level", "shape", "dtype", "chunks", "scale", "translation", "units", "size"]
    numbers = ["0", "2", "3", "4", "uint16", "2", "3", "4", "1", "0.5", "0.125", "0.5", "0.25", "0.0625"]
    assert lines[2].split() == [*numbers, *shown, "48", "B"]
