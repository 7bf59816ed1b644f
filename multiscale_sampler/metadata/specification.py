"""The rules of OME-NGFF for metadata of images and labels, as checks of documents.

Versions 0.4, 0.5 and 0.6 have their rules here, in the terms of the official JSON schemas and, where those are
silent, of the specification's text (https://ngff.openmicroscopy.org). A check is a function of a value and its place
in the document that yields what is wrong with it; a rule is the sentence that asks for it.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .units import SPACE_UNITS, TIME_UNITS
from .versions import NAMESPACE, TYPE_ORDER, VERSIONS, WRITTEN_VERSIONS, RuleSet, Version, known_version, namespace_of
from .writing import MOST_AXES

Severity: TypeAlias = Literal["error", "warning"]

RULED = [row for row in VERSIONS.values() if row.rules is not None]
# The version that metadata without a namespace are checked by, and those that have one.
(BARE,) = [row for row in RULED if row.namespace is None]
NAMESPACED = [row for row in RULED if row.namespace is not None]
KNOWN = ", ".join(row.name for row in RULED)
LONGEST_SHOWN = 80
MOST = sys.float_info.max


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    """An "error" breaks a MUST or makes the store unreadable, a "warning" a SHOULD or a client."""
    location: str
    """Where: a path in the store or in the metadata."""
    found: str
    """What is there."""
    expected: str = ""
    """What should be."""
    rule: str = ""
    """The sentence that asks for it."""

    @property
    def message(self) -> str:
        """What was found, and what was expected."""
        return f"{self.found}; expected {self.expected}" if self.expected else self.found


Check: TypeAlias = Callable[[str, Any], Iterator[Finding]]


# --- forms of checks -------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _fault(place: str, found: str, expected: str, rule: str = "") -> Finding:
    return Finding("error", place, found, expected, rule)


def _value(expected: str, holds: Callable[[Any], bool]) -> Check:
    """Return the check of a value without parts."""

    def check(place: str, value: Any) -> Iterator[Finding]:
        if not holds(value):
            yield _fault(place, _shown(value), expected)

    return check


def _is_number(value: Any) -> bool:
    # Comparisons, unlike math.isfinite, take integers of any length.
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value == int(value)


TEXT = _value("a text", lambda value: isinstance(value, str))
SOME_TEXT = _value("a text that is not empty", lambda value: isinstance(value, str) and value != "")
NUMBER = _value("a number", _is_number)
INTEGER = _value("an integer", _is_integer)
FLAG = _value("true or false", lambda value: isinstance(value, bool))
ANYTHING = _value("anything", lambda value: True)


def _record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, *, rule: str = "") -> Check:
    """Return the check of an object with keys that it must have and keys that it may have; others are free."""

    def check(place: str, value: Any) -> Iterator[Finding]:
        if not isinstance(value, Mapping):
            yield _fault(place, _shown(value), "an object", rule)
            return
        for key in required:
            if key not in value:
                yield _fault(f"{place}.{key}", "missing", f"the key {key!r}", rule)
        for key, inner in {**required, **(optional or {})}.items():
            if key in value:
                yield from inner(f"{place}.{key}", value[key])

    return check


def _listing(item: Check, *, least: int = 0, most: int | None = None, distinct: bool = False, rule: str = "") -> Check:
    """Return the check of a list."""
    counts = f"{least} to {most}" if most not in (None, least) else f"{least}" if most else f"at least {least}"

    def check(place: str, value: Any) -> Iterator[Finding]:
        if not isinstance(value, list):
            yield _fault(place, _shown(value), "a list", rule)
            return
        if len(value) < least or (most is not None and len(value) > most):
            yield _fault(place, f"{len(value)} entries", f"{counts} entries", rule)
        texts = [json.dumps(entry, sort_keys=True, default=str) for entry in value]
        if distinct and len(set(texts)) < len(texts):
            yield _fault(place, "the same entry twice", "entries that differ", rule)
        for number, entry in enumerate(value):
            yield from item(f"{place}[{number}]", entry)

    return check


def _tagged(kinds: Mapping[str, Check], *, rule: str = "") -> Check:
    """Return the check of an object whose "type" decides which one it obeys."""

    def check(place: str, value: Any) -> Iterator[Finding]:
        kind = value.get("type") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or kind not in kinds:
            wanted = f'an object with a "type" of {", ".join(kinds)}'
            yield _fault(place, _shown(value), wanted, rule)
        else:
            yield from kinds[kind](place, value)

    return check


def _all_of(*checks: Check) -> Check:
    def check(place: str, value: Any) -> Iterator[Finding]:
        for each in checks:
            yield from each(place, value)

    return check


def _one_of_keys(checks: Mapping[str, Check]) -> Check:
    """Return the check of an object with exactly one of some keys."""

    def check(place: str, value: Any) -> Iterator[Finding]:
        present = [key for key in checks if key in value]
        if len(present) != 1:
            yield _fault(place, f"the keys {sorted(map(str, value))!r}", f"exactly one of {', '.join(checks)}")
        for key in present:
            yield from checks[key](f"{place}.{key}", value[key])

    return check


def _if_sound(form: Check, then: Callable[[str, Any], Iterator[Finding]]) -> Check:
    """Return a check that asks more of a value whose form is right."""

    def check(place: str, value: Any) -> Iterator[Finding]:
        wrong = list(form(place, value))
        yield from wrong if wrong else then(place, value)

    return check


# --- axes ------------------------------------------------------------------------------------------------------

AXES_LENGTH = 'The length of "axes" must be between 2 and 5.'
AXES_NAMES = 'Each MUST contain the field "name"; the values MUST be unique across all "name" fields.'
AXES_TYPES = (
    'The "axes" MUST contain 2 or 3 entries of "type:space" and MAY contain one additional entry of "type:time" and '
    'MAY contain one additional entry of "type:channel" or a null / custom type.'
)
AXES_ORDER = (
    'The entries MUST be ordered by "type" where the "time" axis must come first (if present), followed by the '
    '"channel" or custom axis (if present) and the axes of type "space".'
)
AXES_UNITS = '"unit": the value SHOULD be one of the strings which are valid units according to UDUNITS-2.'

AXIS = _record({"name": SOME_TEXT}, {"type": TEXT, "unit": TEXT, "longName": TEXT, "discrete": FLAG}, rule=AXES_NAMES)


def _types_of(axes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the type of each axis, "custom" for all that the specification does not name."""
    return [kind if (kind := axis.get("type")) in (*TYPE_ORDER, "array") else "custom" for axis in axes]


def _names_and_units(place: str, axes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    names = [axis["name"] for axis in axes]
    if len(set(names)) < len(names):
        yield _fault(place, f"the names {names!r}", "names that differ", AXES_NAMES)
    for number, axis in enumerate(axes):
        known = {"space": SPACE_UNITS, "time": TIME_UNITS}.get(axis.get("type", ""))
        if known and "unit" in axis and axis["unit"] not in known:
            expected = "a unit by its name in UDUNITS-2, as micrometer or second"
            yield Finding("warning", f"{place}[{number}].unit", repr(axis["unit"]), expected, AXES_UNITS)


def _ordered(place: str, axes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    kinds = _types_of(axes)
    ranks = [TYPE_ORDER["channel"] if kind == "custom" else TYPE_ORDER.get(kind, 0) for kind in kinds]  # type: ignore[call-overload]  # texts, by the types above
    if ranks != sorted(ranks):
        yield _fault(place, f"axes of the types {', '.join(kinds)}", "time, channel or custom, space", AXES_ORDER)


def _axes_until_05(place: str, axes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    yield from _names_and_units(place, axes)
    counts = Counter(_types_of(axes))
    extra = counts["channel"] + counts["custom"] + counts["array"]
    if not 2 <= counts["space"] <= 3 or counts["time"] > 1 or extra > 1:
        found = f"axes of the types {', '.join(_types_of(axes))}"
        yield _fault(place, found, "2 or 3 of space, at most one of time, at most one other", AXES_TYPES)
    yield from _ordered(place, axes)


def _axes_of_06(place: str, axes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    yield from _names_and_units(place, axes)
    counts = Counter(_types_of(axes))
    if (2 <= counts["space"] <= 3) == (counts["array"] >= 2):
        found = f"axes of the types {', '.join(_types_of(axes))}"
        yield _fault(place, found, "2 or 3 of space, or else at least 2 of array", AXES_TYPES)


AXES_UNTIL_05 = _if_sound(_listing(AXIS, least=2, most=MOST_AXES, rule=AXES_LENGTH), _axes_until_05)
AXES_OF_06 = _if_sound(_listing(AXIS, least=1, most=MOST_AXES, rule=AXES_LENGTH), _axes_of_06)


# --- transformations -------------------------------------------------------------------------------------------

TRANSFORMS_UNTIL_05 = (
    'The transformations MUST only be of type "translation" or "scale". They MUST contain exactly one "scale" '
    'transformation; if "translation" is given it MUST be listed after "scale".'
)
TRANSFORMS_OF_06 = (
    '"coordinateTransformations" MUST contain exactly one transformation: "identity", "scale", or a "sequence" of '
    'one "scale" followed by one "translation", from the path of the dataset to the coordinate system of all levels.'
)
NEGATIVE_SCALES = (
    "Several clients refuse negative scales (ngff-zarr, ome-zarr-models, yaozarrs), as version 0.6 does: "
    'its schema has "exclusiveMinimum": 0.'
)
POSITIVE = _value("a number above 0", lambda value: _is_number(value) and value > 0)
NOT_ZERO = _value("a number other than 0", lambda value: _is_number(value) and value != 0)


def _scale_first(place: str, transforms: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    kinds = [transform["type"] for transform in transforms]
    if kinds not in (["scale"], ["scale", "translation"]):
        found = f"transformations of the types {', '.join(kinds)}"
        yield _fault(place, found, "one scale, then at most one translation", TRANSFORMS_UNTIL_05)


def _moves(number: Check, least: int, rule: str) -> Check:
    """Return the check of a scale or a translation."""
    return _tagged(
        {
            "scale": _record({"scale": _listing(number, least=least)}, {"name": TEXT}),
            "translation": _record({"translation": _listing(NUMBER, least=least)}, {"name": TEXT}),
        },
        rule=rule,
    )


LEVEL_UNTIL_05 = _if_sound(
    _listing(_moves(NOT_ZERO, 2, TRANSFORMS_UNTIL_05), least=1, rule=TRANSFORMS_UNTIL_05), _scale_first
)

INDICES = _listing(
    _value("an index from 0 to 4", lambda value: _is_integer(value) and 0 <= value <= 4), distinct=True, least=1, most=3
)
ORDER = _listing(
    _value("an index from 0 to 4", lambda value: _is_integer(value) and 0 <= value <= 4), distinct=True, least=2, most=5
)
FIELD = _record(
    {"path": TEXT},
    {"interpolation": _value("nearest, linear or cubic", lambda value: value in ("nearest", "linear", "cubic"))},
)


def _is_square(value: Any) -> bool:
    rows = value if isinstance(value, list) else []
    sound = all(isinstance(row, list) and len(row) == len(rows) and all(map(_is_number, row)) for row in rows)
    return sound and 2 <= len(rows) <= 5


def _projects(place: str, value: Mapping[str, Any]) -> Iterator[Finding]:
    if not {"droppedInputs", "createdOutputs"} & value.keys():
        yield _fault(place, "neither", "droppedInputs or createdOutputs")


def _transform(place: str, value: Any) -> Iterator[Finding]:
    """Yield what is wrong with a transformation of any kind that 0.6 knows."""
    yield from TRANSFORM(place, value)


TRANSFORM = _all_of(
    _record({"type": TEXT}, {"name": TEXT}),
    _tagged(
        {
            "identity": ANYTHING,
            "scale": _record({"scale": _listing(POSITIVE)}),
            "translation": _record({"translation": _listing(NUMBER)}),
            "mapAxis": _record({"mapAxis": ORDER}),
            "projectAxis": _all_of(_record({}, {"droppedInputs": INDICES, "createdOutputs": INDICES}), _projects),
            "affine": _one_of_keys({"path": TEXT, "affine": _listing(_listing(NUMBER))}),
            "rotation": _one_of_keys({"path": TEXT, "rotation": _value("a square of 2 to 5 rows", _is_square)}),
            "bijection": _record({"forward": _transform, "inverse": _transform}),
            "sequence": _record({"transformations": _listing(_transform)}),
            "byDimension": _record(
                {
                    "transformations": _listing(
                        _record(
                            {
                                "transformation": _transform,
                                "inputAxes": _listing(NUMBER),
                                "outputAxes": _listing(NUMBER),
                            }
                        )
                    )
                }
            ),
            "displacements": FIELD,
            "coordinates": FIELD,
        }
    ),
)

ENDS_OF_LEVEL = _record(
    {"input": _record({"path": TEXT}, {"name": TEXT}), "output": _record({"name": TEXT}, {"path": TEXT})},
    {"name": TEXT},
    rule=TRANSFORMS_OF_06,
)
ENDS_OF_SYSTEMS = _record({"input": _record({"name": TEXT}), "output": _record({"name": TEXT})})
LEVEL_OF_06 = _listing(
    _all_of(
        ENDS_OF_LEVEL,
        _tagged(
            {
                "identity": ANYTHING,
                "scale": _record({"scale": _listing(POSITIVE)}),
                "sequence": _record(
                    {
                        "transformations": _if_sound(
                            _listing(_moves(POSITIVE, 0, TRANSFORMS_OF_06), least=2, most=2, rule=TRANSFORMS_OF_06),
                            _scale_first,
                        )
                    }
                ),
            },
            rule=TRANSFORMS_OF_06,
        ),
    ),
    least=1,
    most=1,
    rule=TRANSFORMS_OF_06,
)


# --- images ----------------------------------------------------------------------------------------------------

DATASETS = (
    'It MUST contain the field "datasets"; each MUST contain the field "path", whose value contains the path to the '
    'array for this resolution relative to the current zarr group, and the field "coordinateTransformations".'
)
MULTISCALES = 'Metadata about the image can be found under the "multiscales" key in the group-level metadata.'
SYSTEM_OF_LEVELS = (
    'MUST contain the field "coordinateSystems"; the transformations of all datasets MUST lead to the same one of them.'
)
OMERO_CHANNELS = (
    '"channels": each MUST contain "color", a text of 6 hexadecimal digits, and "window" with the numbers "min", '
    '"max", "start" and "end".'
)


def _is_color(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in value)


CHANNEL = _record(
    {
        "window": _record(dict.fromkeys(("start", "min", "end", "max"), NUMBER), rule=OMERO_CHANNELS),
        "color": _value("6 hexadecimal digits, as FF00FF", _is_color),
    },
    {"label": TEXT, "family": TEXT, "active": FLAG},
    rule=OMERO_CHANNELS,
)
DISPLAY = _record({"channels": _listing(CHANNEL, rule=OMERO_CHANNELS)}, rule=OMERO_CHANNELS)


def _datasets(level: Check) -> Check:
    return _listing(_record({"path": TEXT, "coordinateTransformations": level}, rule=DATASETS), least=1, rule=DATASETS)


def _systems(place: str, entry: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield contradictions between the levels of a sound entry of 0.6 and its coordinate systems."""
    systems = entry["coordinateSystems"]
    names = [system["name"] for system in systems]
    if len(set(names)) < len(names):
        yield _fault(f"{place}.coordinateSystems", f"the names {names!r}", "names that differ", SYSTEM_OF_LEVELS)
    outputs = []
    for number, dataset in enumerate(entry["datasets"]):
        inside = f"{place}.datasets[{number}].coordinateTransformations[0]"
        (transform,) = dataset["coordinateTransformations"]
        outputs.append(transform["output"]["name"])
        if transform["input"]["path"] != dataset["path"]:
            found, expected = repr(transform["input"]["path"]), f"the path of the dataset, {dataset['path']!r}"
            # The official suites let this pass.
            yield Finding("warning", f"{inside}.input.path", found, expected, TRANSFORMS_OF_06)
        if outputs[-1] not in names:
            yield _fault(f"{inside}.output.name", repr(outputs[-1]), f"one of {', '.join(names)}", SYSTEM_OF_LEVELS)
    if len(set(outputs)) > 1:
        yield _fault(f"{place}.datasets", f"outputs {outputs!r}", "the same for all levels", SYSTEM_OF_LEVELS)
    for number, system in enumerate(systems):
        if system["name"] in outputs:
            yield from _ordered(f"{place}.coordinateSystems[{number}].axes", system["axes"])


ENTRY_UNTIL_05 = _record(
    {"datasets": _datasets(LEVEL_UNTIL_05), "axes": AXES_UNTIL_05},
    {"name": TEXT, "coordinateTransformations": LEVEL_UNTIL_05},
    rule=MULTISCALES,
)
ENTRY_OF_06 = _if_sound(
    _record(
        {
            "datasets": _datasets(LEVEL_OF_06),
            "coordinateSystems": _listing(
                _record({"name": SOME_TEXT, "axes": AXES_OF_06}), least=1, rule=SYSTEM_OF_LEVELS
            ),
        },
        {"name": TEXT, "coordinateTransformations": _listing(_all_of(TRANSFORM, ENDS_OF_SYSTEMS), least=1)},
        rule=SYSTEM_OF_LEVELS,
    ),
    _systems,
)


def _multiscales(entry: Check) -> Check:
    return _listing(entry, least=1, distinct=True, rule=MULTISCALES)


IMAGES: dict[RuleSet, Check] = {
    "axes": _multiscales(ENTRY_UNTIL_05),
    "coordinateSystems": _multiscales(ENTRY_OF_06),
}

LABEL_COLORS = (
    '"colors": a list whose objects MUST contain "label-value" and MAY contain "rgba", four integers between 0 and 255.'
)
LABEL = _record(
    {},
    {
        "colors": _listing(
            _record(
                {"label-value": NUMBER},
                {
                    "rgba": _listing(
                        _value("an integer from 0 to 255", lambda value: _is_integer(value) and 0 <= value <= 255),
                        least=4,
                        most=4,
                        rule=LABEL_COLORS,
                    )
                },
                rule=LABEL_COLORS,
            ),
            least=1,
            distinct=True,
            rule=LABEL_COLORS,
        ),
        "properties": _listing(
            _record({"label-value": INTEGER}), least=1, distinct=True, rule='"properties": each with a "label-value".'
        ),
        "source": _record({}, {"image": TEXT}),
    },
)


def _label_version(version: Version) -> Check:
    return _record({}, {"version": _value(version.name, lambda value: value == version.name)})


# --- documents -------------------------------------------------------------------------------------------------

VERSION = 'The OME-Zarr metadata are under the "ome" key, whose "version" MUST be that of the specification.'
VERSION_OF_04 = 'It SHOULD contain the field "version".'
STRICT_IMAGE = 'Each dictionary SHOULD contain the fields "name", "type" and "metadata".'
STRICT_LABEL = 'The "image-label" object SHOULD contain "colors".'


def document_findings(attributes: Mapping[str, Any], *, strict: bool = False) -> Iterator[Finding]:
    """Yield what is wrong with the attributes of a group as the metadata of an image or of labels.

    With `strict`, what the specification only recommends, and its strict schemas demand, counts as an error.
    """
    if NAMESPACE in attributes and not isinstance(attributes[NAMESPACE], Mapping):
        yield _fault(NAMESPACE, _shown(attributes[NAMESPACE]), "an object", VERSION)
        return
    document = namespace_of(attributes)
    if not document.get("multiscales") and "image-label" not in document:
        yield _fault("multiscales", "no multiscales metadata", "the metadata of an image", MULTISCALES)
        return
    stated, wrong = _version_to_check(attributes, document)
    yield from wrong
    if stated is None or stated.rules is None:
        return
    if "multiscales" in document:
        yield from IMAGES[stated.rules]("multiscales", document["multiscales"])
    if "omero" in document:
        yield from DISPLAY("omero", document["omero"])
    if "image-label" in document:
        yield from LABEL("image-label", document["image-label"])
        if stated.label_version == "checked":
            yield from _label_version(stated)("image-label", document["image-label"])
    yield from _recommended(document, stated, "error" if strict else "warning")
    if strict and not stated.positive_scales:
        yield from _negative_scales(document)


def _negative_scales(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the first negative scale of each image: allowed, and refused by several clients."""
    entries = document.get("multiscales")
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        datasets = entry.get("datasets") if isinstance(entry, Mapping) else None
        first = datasets[0] if isinstance(datasets, list) and datasets else None
        transforms = first.get("coordinateTransformations") if isinstance(first, Mapping) else None
        for transform in transforms if isinstance(transforms, list) else ():
            scale = transform.get("scale") if isinstance(transform, Mapping) else None
            if isinstance(scale, list) and any(_is_number(each) and each < 0 for each in scale):
                location = f"multiscales[{number}].datasets[0]"
                yield Finding("warning", location, f"scale {scale}", "scales above 0", NEGATIVE_SCALES)


def _version_to_check(
    attributes: Mapping[str, Any], document: Mapping[str, Any]
) -> tuple[Version | None, list[Finding]]:
    """Return the version whose rules a document is to obey, None where there are none, and what is wrong with it."""
    entries = document.get("multiscales")
    first = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], Mapping) else {}
    if NAMESPACE not in attributes:
        label = document.get("image-label")
        within = label.get("version", BARE.name) if isinstance(label, Mapping) else BARE.name
        return _bare_version(first, first.get("version", within))
    version = document.get("version")
    known = known_version(version)
    if known in NAMESPACED:
        return known, []
    presumed = _presumed(version, first)
    if version is None:
        return presumed, [_fault("version", "missing", f"the version, as {presumed.name}", VERSION)]
    if _minor(version) > max(map(_minor, VERSIONS)):
        return None, [Finding("warning", "version", repr(version), f"one of {KNOWN}, whose rules are known", VERSION)]
    names = " or ".join(row.name for row in NAMESPACED if row.name in WRITTEN_VERSIONS)
    return presumed, [_fault("version", repr(version), f"{names} under 'ome' (known are {KNOWN})", VERSION)]


def _presumed(version: Any, entry: Mapping[str, Any]) -> Version:
    """Return the version by whose rules to check metadata in a namespace that do not state one which has rules."""
    if "coordinateSystems" in entry:
        return next(row for row in NAMESPACED if row.has_systems)
    return next((row for row in NAMESPACED if str(version).startswith(row.name)), NAMESPACED[0])


def _minor(version: Any) -> int:
    """Return the number after "0." of a version, -1 where there is none."""
    found = re.match(r"0\.(\d+)", version) if isinstance(version, str) else None
    return -1 if found is None else int(found[1])


def _bare_version(entry: Mapping[str, Any], version: Any) -> tuple[Version | None, list[Finding]]:
    """Return the same of a document without a namespace, of which `entry` is the first image."""
    known = known_version(version)
    if known is BARE:
        return BARE, []
    if known is None or known.namespace is not None:
        expected = f"{BARE.name}, where the metadata are not under 'ome'"
        return BARE, [_fault("version", repr(version), expected, VERSION)]
    expected = f"one of {KNOWN}, whose rules are known here"
    findings = [Finding("warning", "version", repr(version), expected, VERSION)]
    axes = entry.get("axes")
    if axes is not None and not (isinstance(axes, list) and all(isinstance(axis, str) for axis in axes)):
        sentence = '0.3: "axes" MUST be a list of strings'
        findings.append(_fault("multiscales[0].axes", _shown(axes), f"a list of names, in {version}", sentence))
    return None, findings


def _recommended(document: Mapping[str, Any], version: Version, severity: Severity) -> Iterator[Finding]:
    """Yield the keys that a sound document should have and has not."""
    entries = document.get("multiscales")
    wanted = [*(["version"] if version.namespace is None else []), "name", "type", "metadata"]
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        missing = [key for key in wanted if isinstance(entry, Mapping) and key not in entry]
        if missing:
            sentence = f"{STRICT_IMAGE} {VERSION_OF_04}" if "version" in missing else STRICT_IMAGE
            found = f"nothing under {', '.join(map(repr, missing))}"
            yield Finding(severity, f"multiscales[{number}]", found, "these keys too", sentence)
    label = document.get("image-label")
    if isinstance(label, Mapping):
        keys = [*(["version"] if version.label_version == "checked" else []), "colors"]
        missing = [key for key in keys if key not in label]
        if missing:
            found = f"nothing under {', '.join(map(repr, missing))}"
            yield Finding(severity, "image-label", found, "these keys too", STRICT_LABEL)
