"""What is wrong with the levels of a pyramid, as findings: from the verdicts on them and from what a survey counted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

import numpy as np
import xarray as xr

from ..image.axes import position_tolerance
from ..image.boxes import Box
from ..image.dataarray import image_axes
from ..lazy.labelling import label_level
from ..metadata import stated_rules
from ..metadata.specification import Finding, Severity
from ..methods.reducers import REDUCERS
from ..plan.options import StorageOptions
from ..plan.planning import plan_image
from ..store import StoredPyramid
from .checked import CheckedPyramid, evidence_of
from .downsampling_rules import ANY_SAMPLE, Family, Rule
from .registration import largest_distance
from .survey import LISTED, Damage, Misses, Survey, Tally
from .verdicts import Match, Verdict, agrees

# A difference of brightness counts if it exceeds so many standard errors and this part of a grey value.
DRIFT_ERRORS = 4.0
LEAST_DRIFT = 0.02
# For floats, this part of the level's mean.
RELATIVE_DRIFT = 1e-3
# Where no rule is known, this part of the largest values, if this part of the values is not between the samples.
LARGE_DRIFT, STRAY_VALUES = 1e-2, 5e-3
# The mean of fewer windows tells nothing.
LEAST_WINDOWS = 64
# Part of the labels that do not occur in their window: votes of neighbours give a few, a broken level many.
STRANGE_LABELS, BROKEN_LABELS = 0.01, 0.25
CENTRES = "The translation of a level is the centre of its first voxel, its scale the distance to the next voxel."
ONE_RULE = "Every voxel of a level is the value of the method for its window."
SAME_IDS = "A level of labels has no ids that level 0 lacks."
SAME_MEAN = "Averages and choices of samples lie between these, and filters keep the mean."


def damage_findings(pyramid: CheckedPyramid, damage: set[Damage]) -> Iterator[Finding]:
    """Yield a finding for each of the first chunks of a level that are damaged or missing, and one for the others."""
    ordered = sorted(damage, key=lambda each: (each.level, bool(each.reason), each.key))
    for (level, is_broken), found in groupby(ordered, key=lambda each: (each.level, bool(each.reason))):
        chunks = list(found)
        what, expected = "is not stored", "a chunk: other levels have values other than fill there"
        for each in chunks[:LISTED]:
            place = f"{pyramid.paths[level]}/{each.key}"
            if is_broken:
                what, expected = f"cannot be read ({each.reason})", "a chunk that can be decoded"
            yield Finding("error", place, f"the chunk {what}", expected)
        if len(chunks) > LISTED:
            what = "cannot be read" if is_broken else "are not stored"
            yield Finding("error", pyramid.paths[level], f"{len(chunks) - LISTED} more chunks {what}", expected)


def recipe_findings(pyramid: CheckedPyramid) -> Iterator[Finding]:
    """Yield findings on levels whose shape or dtype is not that of the recipe in the metadata."""
    if not pyramid.planned:
        return
    found = [f"{'x'.join(map(str, level.shape))} of {level.dtype}" for level in pyramid.arrays]
    if len(found) != len(pyramid.planned):
        expected = f"{len(pyramid.planned)}, as the recipe in the metadata states"
        yield Finding("error", "datasets", f"{len(found)} levels", expected)
        return
    for path, stored, planned in zip(pyramid.paths[1:], found[1:], pyramid.planned[1:], strict=True):
        if stored != planned:
            yield Finding("error", path, stored, f"{planned}, as the recipe in the metadata gives")


def findings_of_level(pyramid: CheckedPyramid, verdict: Verdict, survey: Survey) -> Iterator[Finding]:
    """Yield findings on the positions and the values of one level."""
    place = pyramid.paths[verdict.index]
    # What follows from chunks that are missing elsewhere, or from another level, is not the fault of this one.
    is_whole = all(each.reason for each in survey.damage)
    others_are_right = not any(misses.count for misses in survey.misses.values())
    if pyramid.described[verdict.index]:
        yield from _position_findings(pyramid, verdict, place)
    if verdict.misses is not None and verdict.misses.count:
        yield _missed_rule(pyramid, verdict, verdict.misses, place)
    elif verdict.misses is None or (is_whole and others_are_right):
        yield from _rule_findings(pyramid, verdict, place)
    if pyramid.labels and is_whole:
        yield from _label_findings(verdict, survey, place, by_window=pyramid.evidence == "rules")
    elif not pyramid.labels and pyramid.evidence != "nothing" and verdict.misses is None:
        yield from _brightness_findings(pyramid, verdict, place, is_whole=is_whole)


def _position_findings(pyramid: CheckedPyramid, verdict: Verdict, place: str) -> Iterator[Finding]:
    """Yield one finding for all axes along which a level is not at its stated positions."""
    stated, shape = pyramid.stated(verdict.index), pyramid.shapes[verdict.index]
    if verdict.lines is None or agrees(verdict.lines, stated, shape, verdict.tolerance):
        return
    claims, facts, remedies = [], [], []
    pairs = zip(pyramid.axes[0], verdict.lines, stated, shape, verdict.tolerance, strict=True)
    for axis, found, claimed, size, most in pairs:
        if largest_distance(found, claimed, size) > most:
            claims.append(f"{axis.name!r} from {_ends_text(claimed, size)}")
            facts.append(f"from {_ends_text(found, size)} (up to {largest_distance(found, claimed, size):.3g} away)")
            origin = axis.translation + axis.scale * found[0]
            remedies.append(f"{axis.name!r}: scale {axis.scale * found[1]:.7g}, translation {origin:.7g}")
    has_translation = any(origin for origin, _ in stated)
    start = "the metadata place samples of" if has_translation else "no translation: the metadata place samples of"
    evidence = _evidence(pyramid, verdict)
    yield Finding(
        "error",
        place,
        f"{start} {', '.join(claims)} in voxels of level 0, by the {evidence} they are {', '.join(facts)}",
        "; ".join(remedies),
        CENTRES,
    )


def _ends_text(line: tuple[float, float], size: int) -> str:
    return f"{line[0]:.4g} to {line[0] + line[1] * (size - 1):.4g}"


def _evidence(pyramid: CheckedPyramid, verdict: Verdict) -> str:
    if verdict.by == "pixels":
        return "pixels"
    return f"rule ({rule_text(pyramid, verdict)})"


def rule_text(pyramid: CheckedPyramid, verdict: Verdict) -> str | None:
    """Return the rule of a level in words: the recipe that it was computed again by, else the one recognized."""
    match = verdict.match
    if pyramid.bands is not None:
        return pyramid.recipe_name
    if pyramid.recomputation is None or verdict.misses is None:
        return None if match is None else str(match.rule)
    if match is not None and not match.rule.is_loose and match.rule.family == pyramid.method:
        return str(match.rule)
    return pyramid.recomputation.title


def _missed_rule(pyramid: CheckedPyramid, verdict: Verdict, misses: Misses, place: str) -> Finding:
    """Return the finding on a level that differs from the recipe in the metadata."""
    match = verdict.match
    if match is not None and not match.rule.is_loose and not match.differing and match.rule.family != pyramid.method:
        expected = f"the method that the metadata name, {pyramid.method!r}"
        return Finding("error", place, f"the level was made by another method: {match.rule}", expected, ONE_RULE)
    names = [axis.name for axis in pyramid.axes[0]]
    count = "1 voxel differs" if misses.count == 1 else f"{misses.count} voxels differ"
    found = f"{count} from the rule ({rule_text(pyramid, verdict)})"
    if misses.box is not None and misses.first is not None:
        position, value, right = misses.first
        at = ", ".join(f"{name} {index}" for name, index in zip(names, position, strict=True))
        found += f", within {_box_text(names, misses.box)}; at {at} is {value!s}, not {right!s}"
    return Finding("error", place, found, "a level that is complete, and updated after level 0 was edited", ONE_RULE)


def _box_text(names: Sequence[str], box: Box) -> str:
    return ", ".join(f"{name} {along.start}:{along.stop}" for name, along in zip(names, box, strict=True))


def _rule_findings(pyramid: CheckedPyramid, verdict: Verdict, place: str) -> Iterator[Finding]:
    """Yield findings for voxels that differ from the level's rule, and for a method other than the stated one."""
    match, stated = verdict.match, pyramid.method
    families = {each.rule.family for each in verdict.equals}
    exact = evidence_of(stated) == "rules"
    if match is None:
        closest = next(iter(strict_matches(verdict)), None)
        if exact and closest is not None and closest.telling:
            found = f"no known rule reproduces the level; the closest, {closest.rule}, differs in {closest.misses:.1%}"
            # By its own recipe, a level of this package follows the rule.
            severity: Severity = "warning" if pyramid.recipe_name is None else "error"
            yield Finding(severity, place, f"{found} of the windows", f"the stated method, {stated!r}")
        return
    if exact and stated not in families:
        expected = f"the method that the metadata name, {stated!r}"
        yield Finding("error", place, f"the level was made by another method: {match.rule}", expected, ONE_RULE)
    if match.rule.is_loose:
        return
    # A writer may round in its own way: what the loose rule of the same family allows is not an error.
    same = [
        m.differing for m in verdict.matches if m.rule.family == match.rule.family and m.comparison == match.comparison
    ]
    left = min(same)
    if left:
        found = f"{left} voxels differ from the rule of the others ({match.rule})"
        yield Finding("error", place, found, "a level that is complete, and updated after level 0 was edited", ONE_RULE)


def strict_matches(verdict: Verdict) -> list[Match]:
    """Return the rules that only one value satisfies, the one that reproduces the most voxels first."""
    strict = [match for match in verdict.matches if not match.rule.is_loose]
    return sorted(strict, key=lambda match: match.misses)


def _label_findings(verdict: Verdict, survey: Survey, place: str, *, by_window: bool) -> Iterator[Finding]:
    ids = survey.missing_ids.get(verdict.index, np.zeros(0))
    if len(ids):
        listed = ", ".join(map(str, ids[:LISTED].tolist())) + (", ..." if len(ids) > LISTED else "")
        yield Finding("error", place, f"{len(ids)} ids that level 0 lacks: {listed}", "ids of level 0", SAME_IDS)
    strange, windows = _strange_labels(verdict)
    if by_window and windows and strange / windows > STRANGE_LABELS:
        severity: Severity = "error" if strange / windows > BROKEN_LABELS else "warning"
        found = f"{strange} of {windows} voxels have an id that does not occur in their window"
        yield Finding(severity, place, found, "an id of the window")


def _strange_labels(verdict: Verdict) -> tuple[int, int]:
    """Return how many labels do not occur in their window, and the number of all labels."""
    tally = verdict.tally
    if tally is None:
        return 0, 0
    loose = [rule for rule in tally.rules if rule == Rule("window", ANY_SAMPLE, ending=rule.ending)]
    return min((tally.of(rule) for rule in loose), default=0), tally.windows


def _brightness_findings(pyramid: CheckedPyramid, verdict: Verdict, place: str, *, is_whole: bool) -> Iterator[Finding]:
    """Yield a finding if a level is brighter or darker than level 0 rounded without bias, or than any rule allows."""
    tally, match = verdict.tally, verdict.match
    if tally is None or not tally.windows or (match is not None and not match.rule.keeps_brightness):
        return
    drift = tally.surplus / tally.windows
    spread = math.sqrt(max(tally.surplus_squared / tally.windows - drift**2, 0.0) / tally.windows)
    mean = tally.means / tally.windows
    if match is None and is_whole and pyramid.recipe_name is None and _selects_or_averages(pyramid.method):
        outside = _outside_of_windows(tally, verdict.index, abs(drift) - DRIFT_ERRORS * spread)
        if outside is not None:
            yield Finding("error", place, *outside, SAME_MEAN)
            return
    least = LEAST_DRIFT if _is_of_integers(tally) else RELATIVE_DRIFT * abs(mean)
    if abs(drift) > DRIFT_ERRORS * spread + least:
        found = f"values are on average {abs(drift):.3g} {'above' if drift > 0 else 'below'} the means of their windows"
        means = f"(mean {tally.values / tally.windows:.5g}, of level 0 {mean:.5g})"
        yield Finding("warning", place, f"{found} {means}", "the brightness of level 0, up to rounding")


def _selects_or_averages(method: str | None) -> bool:
    """Whether values of a method, or of one that is not known, lie between the samples of their windows."""
    return method is None or (evidence_of(method) != "nothing" and Rule(cast("Family", method)).keeps_constants)


def _outside_of_windows(tally: Tally, index: int, drift: float) -> tuple[str, str] | None:
    """Return what a mean is, and what it should be, if no average or choice of samples gives it; else None.

    An average or choice of the samples of a window is between these; a filter reaches further, but keeps the mean.
    """
    if tally.finite < LEAST_WINDOWS:
        return None
    low, high, value = (total / tally.finite for total in (tally.lows, tally.highs, tally.finite_values))
    # Integers can be rounded down or up at each level.
    rounding = float(index) if _is_of_integers(tally) else 0.0
    size = max(abs(low), abs(high))
    found = f"the mean is {value:.5g}, of level 0 {tally.means / tally.windows:.5g}"
    if not low - rounding - RELATIVE_DRIFT * size <= value <= high + rounding + RELATIVE_DRIFT * size:
        return found, f"a mean between {low:.5g} and {high:.5g}, those of the least and the greatest samples"
    part = tally.outside / tally.finite
    if part > STRAY_VALUES and drift > rounding + LARGE_DRIFT * size:
        return f"{found}, and {part:.1%} of the values are outside of their windows", "the mean of level 0"
    return None


def _is_of_integers(tally: Tally) -> bool:
    return any(rule.how for rule in tally.rules if rule.keeps_brightness)


# --- coordinates -----------------------------------------------------------------------------------------------


def coordinate_findings(stored: StoredPyramid, levels: Sequence[int]) -> Iterator[Finding]:
    """Yield findings on coordinates of a pyramid of this package that do not follow from those of level 0.

    Positions that transformations state are compared with these in `geometry_findings`.
    """
    recipe = stored.recipe or {}
    if recipe.get("method") not in REDUCERS or stored.layout == "flat":
        return
    try:
        image = stored.image
        plan = plan_image(image, image_axes(image), stored.recipe_options(), StorageOptions(workers=1))
        planned = {
            index: label_level(image, np.broadcast_to(np.zeros((), image.dtype), plan.levels[index].shape), plan, index)
            for index in levels
            if index < len(plan.levels)
        }
    except (ValueError, TypeError):
        # Coordinates that cannot be reduced, or a recipe that does not fit.
        return
    # Before there were rules, classes among coordinates were averaged.
    of_before = image.coords.items() if stated_rules(stored.attributes) < 1 else ()
    averaged = {name for name, each in of_before if name not in image.dims and each.dtype.kind in "iu"}
    for index, expected in planned.items():
        found = stored.images[index].drop_vars(averaged, errors="ignore")
        parent = stored.paths[index].rpartition("/")[0]
        for name, coordinate in found.coords.items():
            if name in expected.coords and not _same_positions(coordinate, expected.coords[name]):
                text = "coordinates that do not follow from those of level 0"
                yield Finding("error", f"{parent}/{name}", text, "coordinates of the level's windows", CENTRES)


def _same_positions(found: xr.DataArray, expected: xr.DataArray) -> bool:
    """Whether two coordinates have the same values, up to the precision of either."""
    a, b = found.values, expected.values
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "mM" and b.dtype.kind == a.dtype.kind:
        a, b = (each.astype(f"{each.dtype.kind}8[ns]").astype(np.int64) for each in (a, b))
    if a.dtype.kind not in "iuf" or b.dtype.kind not in "iuf":
        return bool((a == b).all())
    spread = float(np.ptp(b.astype(np.float64))) if b.size else 0.0
    step = spread / max(b.size - 1, 1)
    coarse = max((a, b), key=lambda each: float(np.finfo(each.dtype).eps) if each.dtype.kind == "f" else 0.0)
    distance = np.abs(a.astype(np.float64) - b.astype(np.float64))
    near = distance <= position_tolerance(coarse, step)
    return bool((near | ((a != a) & (b != b))).all())
