"""Units of axes: the names that OME-NGFF requires, and other spellings of them."""

from __future__ import annotations

# Prefixes of units, as powers of ten.
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
# The specification asks for names of the UDUNITS-2 database; these are the spellings that files have for them.
UNIT_NAMES = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometre", "micrometers"), "micrometer"),
    **dict.fromkeys(("nm", "nanometre", "nanometers"), "nanometer"),
    **dict.fromkeys(("mm", "millimetre", "millimeters"), "millimeter"),
    **dict.fromkeys(("cm", "centimetre", "centimeters"), "centimeter"),
    **dict.fromkeys(("m", "metre", "meters", "metres"), "meter"),
    **dict.fromkeys(("km", "kilometre", "kilometers"), "kilometer"),
    **dict.fromkeys(("s", "sec", "seconds"), "second"),
    **dict.fromkeys(("ms", "milliseconds"), "millisecond"),
    **dict.fromkeys(("min", "minutes"), "minute"),
    **dict.fromkeys(("h", "hours"), "hour"),
}


def unit_name(unit: str | None) -> str | None:
    """Return a unit by the name that OME-NGFF asks for; a unit that is not known as it is."""
    return UNIT_NAMES.get(unit or "", unit)
