import warnings

import numpy as np
import pytest
import zarr

import multiscale_sampler as ms
from multiscale_sampler.metadata.units import (
    SPACE_UNITS,
    TIME_UNITS,
    in_ngff_unit,
    is_no_unit,
    ngff_unit,
    unit_dimension,
    unit_factor,
    unit_name,
)

# The units of the schema of OME-XML 2016-06, and how many micrometers or seconds they are.
OME_LENGTHS = {
    "Ym": 1e30,
    "Zm": 1e27,
    "Em": 1e24,
    "Pm": 1e21,
    "Tm": 1e18,
    "Gm": 1e15,
    "Mm": 1e12,
    "km": 1e9,
    "hm": 1e8,
    "dam": 1e7,
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "fm": 1e-9,
    "am": 1e-12,
    "zm": 1e-15,
    "ym": 1e-18,
    "Å": 1e-4,
    "thou": 25.4,
    "li": 25400 / 12,
    "in": 25400.0,
    "ft": 304800.0,
    "yd": 914400.0,
    "mi": 1609344000.0,
    "ua": 1.495978707e17,
    "ly": 9.4607304725808e21,
    "pc": 3.0856775814913673e22,
    "pt": 25400 / 72,
}
OME_TIMES = {
    "Ys": 1e24,
    "Es": 1e18,
    "ks": 1e3,
    "das": 10,
    "s": 1,
    "ds": 0.1,
    "cs": 0.01,
    "ms": 1e-3,
    "µs": 1e-6,
    "ns": 1e-9,
    "min": 60,
    "h": 3600,
    "d": 86400,
}


@pytest.mark.parametrize("unit", OME_LENGTHS)
def test_lengths_of_ome_xml__become_units_of_ngff(unit):
    spacing, name = in_ngff_unit(0.5, unit)
    assert name in SPACE_UNITS
    assert spacing * unit_factor(name) * 1e6 == pytest.approx(0.5 * OME_LENGTHS[unit], rel=1e-12)


@pytest.mark.parametrize("unit", OME_TIMES)
def test_times_of_ome_xml__become_units_of_ngff(unit):
    spacing, name = in_ngff_unit(0.5, unit)
    assert name in TIME_UNITS
    assert spacing * unit_factor(name) == pytest.approx(0.5 * OME_TIMES[unit], rel=1e-12)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *(("Micron", "micrometer"), ("micrometres", "micrometer"), ("\\u00B5m", "micrometer"), ("UM", "micrometer")),
        *(("μm", "micrometer"), ("MICRONS", "micrometer"), ("Mm", "megameter"), ("mm", "millimeter")),
        *(("inches", "inch"), ("Feet", "foot"), ("Å", "angstrom"), ("seconds", "second"), ("Metre", "meter")),
        *(("hours since 1900-01-01", "hour"), ("degrees_N", "degrees_north"), ("degree_east", "degrees_east")),
        *(("hPa", "hectopascal"), ("mbar", "millibar"), ("min", "minute"), ("pt", "printers_point"), ("deg", "degree")),
    ],
)
def test_unit_name__knows_a_unit_in_any_spelling(spelling, name):
    assert unit_name(spelling) == ngff_unit(spelling) == name


@pytest.mark.parametrize("said", ["pixel", "Pixels", "px", "", None, "voxel", "1", "a.u.", "reference frame"])
def test_unit_name__of_what_is_no_unit_is_none(said):
    assert is_no_unit(said)
    assert unit_name(said) is None


def test_unit_dimension__is_what_is_measured():
    units = ("um", "h", "degrees_east", "hPa", "lightyears", "parrots", "px")
    assert [unit_dimension(unit) for unit in units] == ["length", "time", "angle", "pressure", "length", None, None]


def test_a_unit_that_nobody_knows__is_left_out_with_a_warning_and_stays_with_the_coordinate():
    store = {}
    image = ms.to_image(np.zeros((64, 64), "u1"), units={"y": "parrots", "x": "px"})
    with pytest.warns(UserWarning, match=r"\{'y': 'parrots'\}"):
        ms.write_pyramid(image, store, scale_factors=[2])
    axes = zarr.open_group(store, mode="r").attrs["ome"]["multiscales"][0]["axes"]
    assert axes == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert zarr.open_group(store, mode="r")["scale0/y"].attrs["units"] == "parrots"


def test_known_units__warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ms.write_pyramid(ms.to_image(np.zeros((64, 64), "u1"), units="Microns"), {}, scale_factors=[2])
