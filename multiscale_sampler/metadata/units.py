"""Units of axes: one table with the spellings that files have for them, what they measure, and how much they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

UnitDimension: TypeAlias = Literal["length", "time", "angle", "pressure"]


@dataclass(frozen=True)
class Unit:
    """A unit of an axis."""

    name: str
    """Its name in the UDUNITS-2 database, which OME-NGFF asks for."""
    dimension: UnitDimension
    """What it measures."""
    factor: float
    """How many meters, seconds, degrees or pascals it is."""


# Prefixes of units that OME-NGFF has, as powers of ten.
SI_PREFIXES = {
    "yocto": -24,
    "zepto": -21,
    "atto": -18,
    "femto": -15,
    "pico": -12,
    "nano": -9,
    "micro": -6,
    "milli": -3,
    "centi": -2,
    "deci": -1,
    "hecto": 2,
    "kilo": 3,
    "mega": 6,
    "giga": 9,
    "tera": 12,
    "peta": 15,
    "exa": 18,
    "zetta": 21,
    "yotta": 24,
}
SPACE_UNITS = frozenset({f"{prefix}meter" for prefix in SI_PREFIXES}) | {
    *("meter", "angstrom", "foot", "inch", "mile", "parsec", "yard")
}
TIME_UNITS = frozenset({f"{prefix}second" for prefix in SI_PREFIXES}) | {"second", "minute", "hour", "day"}

# Symbols of the prefixes; of "micro" also the Greek letter and what is typed for it.
PREFIX_SYMBOLS = {
    "y": "yocto",
    "z": "zepto",
    "a": "atto",
    "f": "femto",
    "p": "pico",
    "n": "nano",
    "m": "milli",
    "c": "centi",
    "d": "deci",
    "da": "deca",
    "h": "hecto",
    "k": "kilo",
    "M": "mega",
    "G": "giga",
    "T": "tera",
    "P": "peta",
    "E": "exa",
    "Z": "zetta",
    "Y": "yotta",
    "u": "micro",
    "µ": "micro",
    "μ": "micro",
}
# Symbol, name, dimension and other names of the units that take prefixes.
PREFIXED: tuple[tuple[str, str, UnitDimension, tuple[str, ...]], ...] = (
    ("m", "meter", "length", ("metre",)),
    ("s", "second", "time", ("sec",)),
    ("Pa", "pascal", "pressure", ()),
    ("bar", "bar", "pressure", ()),
)
# Pascals in a bar.
BAR = 1e5
# Units by their name, and what else they are called; words in any case, and in the plural.
OTHERS: tuple[tuple[Unit, tuple[str, ...]], ...] = (
    (Unit("angstrom", "length", 1e-10), ("Å", "Å", "ångström", "ångstrom", "angstroem")),
    (Unit("inch", "length", 0.0254), ("in", "inches")),
    (Unit("foot", "length", 0.3048), ("ft", "feet")),
    (Unit("US_survey_foot", "length", 1200 / 3937), ("us survey foot", "survey foot", "us_survey_feet")),
    (Unit("yard", "length", 0.9144), ("yd",)),
    (Unit("mile", "length", 1609.344), ("mi",)),
    (Unit("parsec", "length", 3.0856775814913673e16), ("pc",)),
    (Unit("light_year", "length", 9.4607304725808e15), ("ly", "light year", "lightyear")),
    (Unit("astronomical_unit", "length", 1.495978707e11), ("ua", "au", "astronomical unit")),
    (Unit("mil", "length", 0.0254e-3), ("thou", "thousandth inch")),
    (Unit("line", "length", 0.0254 / 12), ("li",)),
    (Unit("printers_point", "length", 0.0254 / 72), ("pt", "point")),
    (Unit("micrometer", "length", 1e-6), ("micron",)),
    (Unit("minute", "time", 60.0), ("min", "mins")),
    (Unit("hour", "time", 3600.0), ("h", "hr", "hrs")),
    (Unit("day", "time", 86400.0), ("d",)),
    (Unit("week", "time", 604800.0), ()),
    (Unit("common_year", "time", 365 * 86400.0), ("year", "yr")),
    (Unit("degree", "angle", 1.0), ("deg", "°", "arc_degree", "angular_degree")),
    (Unit("degrees_north", "angle", 1.0), ("degree_north", "degree_n", "degrees_n", "degreen", "degreesn")),
    (Unit("degrees_east", "angle", 1.0), ("degree_east", "degree_e", "degrees_e", "degreee", "degreese")),
    (Unit("radian", "angle", 57.29577951308232), ("rad",)),
    (Unit("arc_minute", "angle", 1 / 60), ("arcmin", "arcminute")),
    (Unit("arc_second", "angle", 1 / 3600), ("arcsec", "arcsecond")),
    (Unit("millibar", "pressure", 100.0), ("mb",)),
    (Unit("standard_atmosphere", "pressure", 101325.0), ("atm", "atmosphere")),
)
# What files say where positions are counted and not measured.
NO_UNIT = frozenset(
    (
        *("", "1", "none", "no unit", "unit", "units", "unitless", "dimensionless", "unknown", "undefined", "n/a"),
        *("pixel", "px", "pix", "voxel", "vx", "sample", "index", "indices", "frame", "slice", "reference frame"),
        *("arbitrary", "arbitrary unit", "a.u.", "arb. unit"),
    )
)


def _spellings() -> tuple[dict[str, Unit], dict[str, Unit]]:
    """Return units by their symbols, in which case has a meaning, and by words in lower case."""
    symbols: dict[str, Unit] = {}
    words: dict[str, Unit] = {}
    powers = {"": 0, "deca": 1, "deka": 1, **SI_PREFIXES}
    for symbol, name, dimension, others in PREFIXED:
        one = BAR if name == "bar" else 1.0
        units = {p: Unit(f"{p}{name}", dimension, one * float(f"1e{power}")) for p, power in powers.items()}
        symbols |= {symbol: units[""], **{f"{short}{symbol}": units[p] for short, p in PREFIX_SYMBOLS.items()}}
        words |= {f"{p}{word}": unit for p, unit in units.items() for word in (name, *others)}
    for unit, others in OTHERS:
        # Short ones are symbols, which the milli and peta of others must not hide: "min", "pt".
        symbols |= {each: unit for each in others if len(each) <= SYMBOL_LENGTH}
        words |= {each.lower(): unit for each in (unit.name, *others)}
    return symbols, words


# Letters of the longest symbol.
SYMBOL_LENGTH = 3
SYMBOLS, WORDS = _spellings()


def known_unit(unit: str | None) -> Unit | None:
    """Return a unit by any of its spellings, that of the steps of "days since ..." too; None for all others."""
    text = (unit or "").replace("\\u00B5", "µ").partition(" since ")[0].strip()
    if text in SYMBOLS:
        return SYMBOLS[text]
    word = text.lower()
    singular = word.removesuffix("s")
    return next((table[key] for table in (WORDS, SYMBOLS) for key in (word, singular) if key in table), None)


def is_no_unit(unit: str | None) -> bool:
    """Whether a text, or none, says that positions are counted and not measured."""
    word = (unit or "").strip().lower()
    return word in NO_UNIT or word.removesuffix("s") in NO_UNIT


def unit_name(unit: str | None) -> str | None:
    """Return a unit by the name that OME-NGFF asks for; None for no unit, one that is not known as it is."""
    known = known_unit(unit)
    if known is not None:
        return known.name
    return None if is_no_unit(unit) else unit


def ngff_unit(unit: str | None) -> str | None:
    """Return a unit by the name that OME-NGFF asks for; None for no unit and for one that is not known.

    Clients refuse whole images for a unit that they do not know.
    """
    known = known_unit(unit)
    return None if known is None else known.name


def unit_dimension(unit: str | None) -> UnitDimension | None:
    """Return what a unit measures; None for no unit and for one that is not known."""
    known = known_unit(unit)
    return None if known is None else known.dimension


def unit_factor(unit: str | None) -> float:
    """Return how many meters, seconds, degrees or pascals a unit is; 1 for no unit and for one that is not known."""
    known = known_unit(unit)
    return 1.0 if known is None else known.factor


def in_ngff_unit(spacing: float, unit: str | None) -> tuple[float, str | None]:
    """Return a spacing in a unit that OME-NGFF has: lengths and times in other ones are converted to SI units."""
    known = known_unit(unit)
    if known is None or known.name in SPACE_UNITS | TIME_UNITS or known.dimension not in ("length", "time"):
        return spacing, unit_name(unit)
    if known.dimension == "time":
        return spacing * known.factor, "second"
    return (spacing * known.factor * 1e6, "micrometer") if known.factor < 1e-3 else (spacing * known.factor, "meter")
