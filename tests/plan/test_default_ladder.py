"""The levels of forty images by default: a table, and the rule that made it, stated on its own.

Each row has the axes of an image in the order of its dims, as "name size spacing unit", the shape of a chunk, the
number of levels, and the factors of the last one. "!" marks an axis that is kept, "~" one with uneven positions, whose
median spacing is given.
"""

import json
import math

import numpy as np
import pytest

import multiscale_sampler as ms
from multiscale_sampler import Axis
from multiscale_sampler.cli import main
from multiscale_sampler.plan.factors import ladder
from tests.data import make_array

# What each unit measures, how much of it, and a name of it that images have.
UNITS = {
    "nm": ("length", 1e-3, "nanometer"),
    "um": ("length", 1.0, "micrometer"),
    "mm": ("length", 1e3, "millimeter"),
    "m": ("length", 1e6, "m"),
    "degN": ("angle", 1.0, "degrees_north"),
    "degE": ("angle", 1.0, "degrees_east"),
    "deg": ("angle", 1.0, "degree"),
    "hPa": ("pressure", 1.0, "hPa"),
    "s": ("time", 1.0, "second"),
    "-": (None, 1.0, None),
}

SHAPES: dict[str, tuple[str, tuple[int, ...], int, tuple[int, ...]]] = {
    "electron microscopy, fibsem250": (
        "z 250 10 nm, y 250 10 nm, x 250 10 nm",
        (64, 64, 64),
        3,
        (4, 4, 4),
    ),
    "segmentation, pinky mip1": (
        "z 512 40 nm, y 512 16 nm, x 512 16 nm",
        (64, 64, 64),
        5,
        (8, 16, 16),
    ),
    "segmentation, pinky mip2": (
        "z 512 40 nm, y 256 32 nm, x 256 32 nm",
        (64, 64, 64),
        4,
        (8, 8, 8),
    ),
    "labels, fib19": (
        "z 64 8 nm, y 64 8 nm, x 64 8 nm",
        (64, 64, 64),
        1,
        (1, 1, 1),
    ),
    "light microscopy, mouse brain": (
        "z 270 50 um, y 193 40 um, x 271 40 um",
        (64, 64, 64),
        4,
        (8, 8, 8),
    ),
    "NIfTI, template": (
        "x 197 1 mm, y 233 1 mm, z 189 1 mm",
        (64, 64, 64),
        3,
        (4, 4, 4),
    ),
    "NIfTI with time": (
        "x 128 2 mm, y 96 2 mm, z 24 2.2 mm, t! 2 2 s",
        (64, 64, 64, 1),
        2,
        (2, 2, 2, 1),
    ),
    "GeoTIFF, RGB": (
        "band! 3 1 -, y 718 300 m, x 791 300 m",
        (1, 512, 512),
        3,
        (1, 4, 4),
    ),
    "sea temperature": (
        "time! 24 1 -, lat 170 1 degN, lon 180 2 degE",
        (1, 170, 180),
        1,
        (1, 1, 1),
    ),
    "elevation": (
        "y 344 1 -, x 403 1 -",
        (344, 403),
        2,
        (2, 2),
    ),
    "sea ice, one time": (
        "time! 1 1 -, y 961 1 -, x 4320 1 -",
        (1, 961, 4320),
        6,
        (1, 32, 32),
    ),
    "blue marble": (
        "y 2700 1 -, x 5400 1 -, c! 3 1 -",
        (512, 512, 3),
        6,
        (32, 32, 1),
    ),
    "georeferenced picture": (
        "y 2700 -0.0666 degN, x 5400 0.0666 degE",
        (512, 512),
        6,
        (32, 32),
    ),
    "published OME-Zarr 0.5": (
        "c! 2 1 -, z 236 0.5 um, y 275 0.36 um, x 271 0.36 um",
        (1, 1, 275, 271),
        2,
        (1, 2, 2, 2),
    ),
    "published OME-Zarr 0.4": (
        "t! 3 1 -, c! 1 1 -, z 2 1 um, y 512 0.1 um, x 512 0.1 um",
        (1, 1, 1, 512, 512),
        2,
        (1, 1, 1, 2, 2),
    ),
    "BigDataViewer, MRI": (
        "z 27 4 mm, y 226 1 mm, x 186 1 mm",
        (27, 64, 64),
        3,
        (1, 4, 4),
    ),
    "BigDataViewer, slice": (
        "z 1 1 um, y 397 1 um, x 580 1 um",
        (1, 512, 512),
        3,
        (1, 4, 4),
    ),
    "time series": (
        "t! 48 1 -, y 130 1 -, x 130 1 -",
        (1, 130, 130),
        1,
        (1, 1, 1),
    ),
    "three channels": (
        "c! 3 1 -, y 395 1 -, x 695 1 -",
        (1, 395, 695),
        3,
        (1, 4, 4),
    ),
    "picture in small chunks": (
        "y 395 1 -, x 695 1 -",
        (64, 64),
        5,
        (16, 16),
    ),
    "picture in one chunk": (
        "y 4096 1 -, x 4096 1 -",
        (4096, 4096),
        5,
        (16, 16),
    ),
    "small picture": (
        "y 200 1 -, x 256 1 -",
        (200, 256),
        1,
        (1, 1),
    ),
    "stack in chunks of one plane": (
        "z 100 2 um, y 2048 0.3 um, x 2048 0.3 um",
        (1, 2048, 2048),
        4,
        (1, 8, 8),
    ),
    "stack in chunks of a part of a plane": (
        "z 100 2 um, y 2048 0.3 um, x 2048 0.3 um",
        (1, 256, 256),
        4,
        (1, 8, 8),
    ),
    "stack in bricks": (
        "z 100 2 um, y 2048 0.3 um, x 2048 0.3 um",
        (16, 256, 256),
        4,
        (1, 8, 8),
    ),
    "stack in one chunk": (
        "z 100 2 um, y 2048 0.3 um, x 2048 0.3 um",
        (100, 2048, 2048),
        4,
        (1, 8, 8),
    ),
    "isotropic volume, chunks of one plane": (
        "z 1024 1 um, y 1024 1 um, x 1024 1 um",
        (1, 1024, 1024),
        3,
        (4, 4, 4),
    ),
    "volume of large size": (
        "z 1024 1 um, y 2048 1 um, x 4096 1 um",
        (64, 64, 64),
        7,
        (64, 64, 64),
    ),
    "thin stack of like spacing": (
        "z 3 1 um, y 1000 1 um, x 1000 1 um",
        (1, 512, 512),
        3,
        (4, 4, 4),
    ),
    "plate": (
        "z 5 1 um, y 20000 0.65 um, x 30000 0.65 um",
        (1, 1024, 1024),
        8,
        (8, 128, 128),
    ),
    "spacing in um and nm": (
        "z 300 0.5 um, y 1000 100 nm, x 1000 100 nm",
        (64, 64, 64),
        6,
        (8, 32, 32),
    ),
    "strip of one row": (
        "y 1 1 um, x 100000 1 um",
        (1, 4096),
        10,
        (1, 512),
    ),
    "narrow strip": (
        "y 20 1 um, x 100000 1 um",
        (20, 4096),
        10,
        (32, 512),
    ),
    "ERA5, single level": (
        "valid_time! 744 1 -, lat 721 -0.25 degN, lon 1440 0.25 degE",
        (1, 721, 1440),
        4,
        (1, 8, 8),
    ),
    "ERA5, pressure levels": (
        "valid_time! 24 1 -, level! 37 25 hPa, lat 721 -0.25 degN, lon 1440 0.25 degE",
        (1, 1, 721, 1440),
        4,
        (1, 1, 8, 8),
    ),
    "daily field": (
        "time! 3650 1 -, lat 360 0.5 degN, lon 720 0.5 degE",
        (1, 360, 720),
        3,
        (1, 4, 4),
    ),
    "daily field, many times a chunk": (
        "time! 3650 1 -, lat 360 0.5 degN, lon 720 0.5 degE",
        (3650, 30, 30),
        6,
        (1, 32, 32),
    ),
    "ocean, depth in metres": (
        "depth! 50 10 m, lat 1021 0.1666 degN, lon 2160 0.1666 degE",
        (50, 256, 256),
        5,
        (1, 16, 16),
    ),
    "model levels without a unit": (
        "level! 60 1 -, lat 181 1 degN, lon 360 1 degE",
        (60, 181, 360),
        2,
        (1, 2, 2),
    ),
    "uneven latitudes": (
        "lat~ 640 0.281 degN, lon 1280 0.28125 degE",
        (320, 640),
        4,
        (8, 8),
    ),
    "latitudes twice as far": (
        "lat 180 1 degN, lon 720 0.5 degE",
        (64, 64),
        5,
        (8, 16),
    ),
    "depth without a unit beside lengths": (
        "z 64 1 -, y 1024 0.2 um, x 1024 0.2 um",
        (64, 128, 128),
        4,
        (8, 8, 8),
    ),
    "signal": (
        "x 1000000 1 -",
        (262144,),
        13,
        (4096,),
    ),
}


def row_of(text):
    """Return the axes of a row as plain values: name, size, spacing, unit, whether kept, whether uneven."""
    axes = []
    for part in text.split(", "):
        name, size, spacing, unit = part.split()
        axes.append((name.strip("!~"), int(size), float(spacing), unit, name.endswith("!"), name.endswith("~")))
    return axes


def axes_of_row(text):
    axes = []
    for name, size, spacing, unit, _, uneven in row_of(text):
        # Half of the distances are the median, the others are smaller or larger.
        steps = spacing * np.resize([1, 1, 0.9, 1, 1.1, 1], size - 1)
        values = np.concatenate([[0.0], np.cumsum(steps)]) if uneven else None
        axes.append(Axis(name, size, 1.0 if uneven else spacing, unit=UNITS[unit][2], values=values))
    return axes


def levels_by_the_rule(text, chunks):
    """Return the factors of all levels: like spacings go together, the others wait, until all are small."""
    axes = row_of(text)
    reduced = [i for i, (_, size, _, _, kept, _) in enumerate(axes) if size > 1 and not kept]
    end = min(256, max(min(chunks[i], axes[i][1]) for i in reduced))
    levels = [[1] * len(axes)]
    while any(math.ceil(axes[i][1] / levels[-1][i]) > end for i in reduced):
        spacing = {}
        for i in reduced:
            if math.ceil(axes[i][1] / levels[-1][i]) > 1:
                measured, amount, _ = UNITS[axes[i][3]]
                spacing.setdefault(measured, {})[i] = abs(axes[i][2]) * amount * levels[-1][i]
        halved = {i for group in spacing.values() for i in group if group[i] / min(group.values()) < 2**0.5}
        levels.append([f * 2 if i in halved else f for i, f in enumerate(levels[-1])])
    return [tuple(level) for level in levels]


def shapes_of_row(text, levels):
    return [tuple(math.ceil(axis[1] / f) for axis, f in zip(row_of(text), level, strict=True)) for level in levels]


def ratios(text, levels):
    """Yield the ratio of spacings in each group of reduced axes with more than one sample, by level."""
    axes = row_of(text)
    for level, shape in zip(levels, shapes_of_row(text, levels), strict=True):
        groups = {}
        for (_, _, spacing, unit, kept, _), factor, size in zip(axes, level, shape, strict=True):
            if size > 1 and not kept:
                groups.setdefault(UNITS[unit][0], []).append(abs(spacing) * UNITS[unit][1] * factor)
        yield {group: max(spacings) / min(spacings) for group, spacings in groups.items()}


@pytest.mark.parametrize("name", SHAPES)
def test_default_ladder__is_the_table(name):
    text, chunks, count, last = SHAPES[name]
    axes = axes_of_row(text)
    by_name = dict(zip([axis.name for axis in axes], chunks, strict=True))
    expected = levels_by_the_rule(text, chunks)
    assert (len(expected), expected[-1]) == (count, last)
    assert [(1,) * len(axes), *ladder(axes, "isotropic", by_name, {}, "pad", None)] == expected


@pytest.mark.parametrize("name", SHAPES)
def test_default_ladder__keeps_voxels_in_shape_and_adds_little(name):
    text, chunks, *_ = SHAPES[name]
    axes = axes_of_row(text)
    by_name = dict(zip([axis.name for axis in axes], chunks, strict=True))
    levels = [(1,) * len(axes), *ladder(axes, "isotropic", by_name, {}, "pad", None)]
    first, *coarser = ratios(text, levels)
    for ratio in coarser:
        assert all(value <= first[group] * math.sqrt(2) * (1 + 1e-9) for group, value in ratio.items())
    shapes = shapes_of_row(text, levels)
    assert len(set(shapes)) == len(shapes)
    added = sum(map(math.prod, shapes[1:])) / math.prod(shapes[0])
    reduced = [i for i, axis in enumerate(row_of(text)) if axis[1] > 1 and not axis[4]]
    alike = len(first) == 1 and max(first.values()) < math.sqrt(2)
    flat = any(shapes[-1][i] == 1 for i in reduced)
    if alike and len(reduced) == 2 and not flat:
        assert added <= 0.34
    if alike and len(reduced) == 3 and not flat:
        assert added <= 0.15


def test_default_ladder__does_not_depend_on_the_order_of_axes():
    text, chunks, *_ = SHAPES["stack in bricks"]
    axes = axes_of_row(text)
    by_name = dict(zip([axis.name for axis in axes], chunks, strict=True))
    levels = ladder(axes, "isotropic", by_name, {}, "pad", None)
    turned = ladder(axes[::-1], "isotropic", by_name, {}, "pad", None)
    assert [factors[::-1] for factors in turned] == levels


@pytest.mark.parametrize("step", [2, {"y": 2, "x": 2}])
def test_steps__go_on_together_until_all_axes_are_small(step):
    axes = [Axis("y", 2700), Axis("x", 5400)]
    levels = ladder(axes, step, {"y": 512, "x": 512}, {}, "pad", None)
    assert levels == [(f, f) for f in (2, 4, 8, 16, 32)]


def test_min_size__ends_an_axis_by_itself_where_it_is_named():
    axes = [Axis("z", 64), Axis("y", 512), Axis("x", 512)]
    chunks = {"z": 64, "y": 64, "x": 64}
    assert ladder(axes, 2, chunks, {"z": 32}, "pad", None) == [(2, 2, 2), (2, 4, 4), (2, 8, 8)]
    assert ladder(axes, 2, chunks, {"z": 32, "y": 128, "x": 128}, "pad", None) == [(2, 2, 2), (2, 4, 4)]


def test_trim__ends_where_no_axis_has_a_whole_window():
    axes = [Axis("y", 7), Axis("x", 100)]
    assert ladder(axes, 3, {"y": 1, "x": 1}, {}, "trim", None) == [(3, 3), (3, 9), (3, 27), (3, 81)]


# Images as users hold them: options of `to_image`, chunks as they are stored, and the shapes of all levels.
IMAGES = {
    "a picture in one chunk": ((395, 695), "yx", {}, (395, 695), [(198, 348), (99, 174)]),
    "chunks of one plane": (
        (6, 300, 300),
        "zyx",
        {"scale": {"z": 2.0, "y": 0.3, "x": 0.3}, "units": "micrometer"},
        (1, 100, 100),
        [(6, 150, 150), (6, 75, 75)],
    ),
    "mixed units": (
        (64, 64, 64),
        "zyx",
        {"scale": {"z": 0.2, "y": 100, "x": 100}, "units": {"z": "micrometer", "y": "nanometer", "x": "nanometer"}},
        (16, 16, 16),
        [(64, 32, 32), (32, 16, 16), (16, 8, 8)],
    ),
    "channels of pictures": ((3, 270, 540), "cyx", {"scale": 0.5}, (1, 270, 540), [(3, 135, 270), (3, 68, 135)]),
    "one row": ((1, 1100), "yx", {"units": "millimeter"}, (1, 1100), [(1, 550), (1, 275), (1, 138)]),
}


def levels_of_command(path, options, capsys):
    flags = []
    for flag, keyword in (("--scale", "scale"), ("--unit", "units")):
        if isinstance(value := options.get(keyword), dict):
            value = ",".join(f"{dim}={number}" for dim, number in value.items())
        flags += [] if value is None else [flag, str(value)]
    assert main(["plan", str(path), "--path", "0", "--json", *flags]) == 0
    return [tuple(level["shape"]) for level in json.loads(capsys.readouterr().out)["levels"]]


def shapes_in(tree):
    return [next(iter(node.data_vars.values())).shape for node in tree.children.values()]


@pytest.mark.parametrize("name", IMAGES)
def test_default_ladder__is_that_of_every_function(name, tmp_path, capsys):
    shape, dims, options, chunks, coarser = IMAGES[name]
    levels = [shape, *coarser]
    make_array(tmp_path / "a.zarr", np.ones(shape, "uint8"), chunks=chunks, dims=dims)
    image = ms.open_image(tmp_path / "a.zarr", **options)
    assert [level.shape for level in ms.plan_pyramid(image).levels] == levels
    assert shapes_in(ms.to_multiscale(image)) == levels
    assert levels_of_command(tmp_path / "a.zarr", options, capsys) == levels
    ms.write_pyramid(image, tmp_path / "p.zarr")
    assert shapes_in(ms.open_pyramid(tmp_path / "p.zarr")) == levels
    ms.add_levels(tmp_path / "a.zarr", **options)
    assert shapes_in(ms.open_pyramid(tmp_path / "a.zarr")) == levels
    # What is stored lists its levels: it is updated as it is.
    ms.update_pyramid(tmp_path / "p.zarr", {"x": slice(0, 1)})
    assert shapes_in(ms.open_pyramid(tmp_path / "p.zarr")) == levels
