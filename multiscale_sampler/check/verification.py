"""`verify_pyramid`: checks that the voxels of each level follow from level 0, at the positions that the metadata state.

For each level it reports the rule that reproduces it, the level it was made from, the positions of its samples as found
and as stated, its brightness, label ids that level 0 lacks, and damaged chunks. `validation` checks metadata alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import zarr

from ..messages import table
from ..metadata import stated_method
from ..metadata.specification import Finding
from ..methods.reducer import Evidence
from ..methods.reducers import ALIASES, REDUCERS
from ..plan.factors import as_positive_int
from ..plan.options import StorageOptions
from ..store import LABELS, Access, StoredPyramid, holds_image, open_node, release_buffers
from ..tasks.progress import ProgressCallback, reporting
from .downsampling_rules import ANY_SAMPLE, VOTES, Rule
from .registration import largest_distance
from .survey import LISTED, Damage, Survey, Tally
from .validation import Report, geometry_findings
from .verdicts import CheckedPyramid, Match, Verdict, agrees, survey_of, verdicts_of

# A difference of brightness counts if it exceeds so many standard errors and this part of a grey value.
DRIFT_ERRORS = 4.0
LEAST_DRIFT = 0.02
# For floats, this part of the level's mean.
RELATIVE_DRIFT = 1e-3
# Part of the labels that do not occur in their window: votes of neighbours give a few, a broken level many.
STRANGE_LABELS, BROKEN_LABELS = 0.01, 0.25
CENTRES = "The translation of a level is the centre of its first voxel, its scale the distance to the next voxel."
ONE_RULE = "Every voxel of a level is the value of the method for its window."
SAME_IDS = "A level of labels has no ids that level 0 lacks."


@dataclass(frozen=True)
class LevelReport:
    """The results for one level."""

    path: str
    """Path of the array, from the store on."""
    shape: tuple[int, ...]
    """Voxels along each axis."""
    factors: tuple[int, ...] | None
    """Voxels of level 0 in a window, along each axis; None if no integers fit the shapes."""
    sizes: str
    """How sizes were rounded: "up", "down", "up and down" (differently along axes) or "whole" (no rounding)."""
    rule: str | None
    """The rule that reproduces the level; None if no known rule does."""
    closest: str | None
    """The known rule that reproduces the most voxels, if none reproduces the level."""
    unknown: str | None
    """The method that the metadata name, if there is no rule to check it by."""
    made_from: tuple[str, ...]
    """The levels from which the rule reproduces this one."""
    differing: int
    """Voxels that differ from the rule, or from the closest one."""
    windows: int
    """Windows that were read."""
    telling: int
    """Windows with more than one value; only these distinguish rules."""
    equals: tuple[str, ...]
    """Other rules that fit equally well."""
    dims: tuple[str, ...]
    """Names of the axes."""
    stated: tuple[tuple[float, float], ...]
    """Stated position of the first and the last sample along each axis, in voxels of level 0."""
    found: tuple[tuple[float, float], ...] | None
    """Their position as found in the data."""
    tolerance: tuple[float, ...]
    """How far stated and found positions may differ."""
    by: str
    """What the positions were found from: "rule", "pixels", or "" if they are not known."""
    mean: float | None
    """Mean of the level."""
    mean_of_windows: float | None
    """Mean of level 0 over the level's windows."""
    strange_ids: int | None
    """For labels, the number of ids that level 0 lacks."""
    stored_chunks: int | None
    """Number of chunks that are stored; the others are fill."""
    chunks: int
    """Number of chunks."""

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        source = f"from {' or '.join(self.made_from)}" if self.made_from else "-"
        unknown = f"no rule for {self.unknown!r}" if self.unknown else "unknown"
        name = self.rule or (f"unknown; closest: {self.closest}" if self.closest else unknown)
        differing = f"{self.differing / self.windows:.3%}" if self.windows else "-"
        ends = "-" if self.found is None else " ".join(f"{first:.4g}..{last:.4g}" for first, last in self.found)
        stated = " ".join(f"{first:.4g}..{last:.4g}" for first, last in self.stated)
        drift = "-" if self.mean is None or self.mean_of_windows is None else f"{self.mean - self.mean_of_windows:+.3g}"
        shape = " x ".join(map(str, self.shape))
        return self.path, shape, self.sizes, name, source, differing, ends, stated, drift


COLUMNS = ("level", "shape", "sizes", "rule", "source", "differ", "samples at", "stated at", "brighter by")


@dataclass(frozen=True, repr=False)
class Verification(Report):
    """The results of `verify_pyramid`. ``print(report)`` shows a table."""

    levels: tuple[LevelReport, ...] = ()
    """The levels that were checked, those of labels after those of their image."""
    regions: tuple[int, int] = (0, 0)
    """Number of regions that were read, and number of all regions."""
    seed: int | None = None
    """Seed of the choice of regions; None if all were read."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        read, total = self.regions
        return {
            **super().to_dict(),
            "read": {"regions": read, "of": total, "seed": self.seed},
            "levels": [dataclasses.asdict(level) for level in self.levels],
        }

    def __repr__(self) -> str:
        """Return the report as text: a row for each level and a line for each finding."""
        verdict = "data and metadata agree" if self.ok else "data and metadata disagree"
        read, total = self.regions
        share = "every voxel" if self.seed is None else f"{read} of {total} regions at random (seed {self.seed})"
        lines = [f"{self.store}: {verdict}", f"read: {share}; positions in voxels of level 0"]
        lines += table([COLUMNS, *(level.cells() for level in self.levels)])
        return "\n".join([*lines, *self.lines()])


def verify_pyramid(
    store: Any,
    path: str | None = None,
    *,
    levels: int | Sequence[int] | None = None,
    sample: int | None = None,
    seed: int = 0,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Verification:
    """Check that the voxels of an OME-Zarr image, from any tool, and of its labels match its metadata.

    For each level, the rule is searched that reproduces it from level 0 or from the level before it: mean, sum, median,
    mode, min, max or nearest, with its rounding, its choice among ties, its offset, and its handling of partial
    windows. The rule gives the positions of the samples; if no rule is recognised, these are found from the pixels.
    Integers must be equal, floats equal up to some units in the last place. Values are not checked for methods of this
    package without such a rule ("std", "count", "label_gaussian", filters, your own functions), and for levels made
    with `nodata`, `min_valid` or weights.

    Parameters
    ----------
    store, path
        The group with the ``multiscales`` metadata, of an image or of labels; or a pyramid that is only described by
        the zarr convention ``multiscales``, as in GeoZarr.
    levels
        Number or numbers of the levels to check; default: all but level 0.
    sample
        Number of regions to read, chosen at random; default: all.
    seed
        Seed of the random choice of regions, and of the places where positions are found from pixels.
    memory_limit
        Memory to use, as 2**30 or "1GiB"; default: half of the available memory. Chunks and shards are decoded whole,
        whatever their size.
    workers
        Number of regions at a time; default: one per core.
    progress
        A function that is called with `Progress` values, or True for a bar on a terminal or lines in a log.
    storage_options
        Options of the file system, with a URL.

    Returns
    -------
    Report
        ``.ok`` is whether data and metadata agree; ``.levels`` has the results for each level, ``.findings`` what is
        wrong. A finding is an "error" if a level is not at the stated positions or not made by the stated method, if
        voxels differ from the level's own rule, if labels have ids that level 0 lacks, or if chunks are damaged or
        missing.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    ValueError
        If the group is not a pyramid, or an option does not fit it.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store, image = {}, np.random.default_rng(0).integers(0, 255, (64, 64), "uint8")
    >>> ms.write_pyramid(image, store, scale_factors=[2])
    >>> report = ms.verify_pyramid(store)
    >>> report.ok, report.levels[0].rule
    (True, 'mean, rounded half to even')
    """
    resources = StorageOptions(memory_limit=memory_limit, workers=workers)
    options = {
        "sample": as_positive_int("sample", sample),
        "seed": seed,
        "memory": resources.memory,
        "workers": resources.worker_count,
    }
    stored = StoredPyramid.of(open_node(store, path, storage_options=storage_options))
    wanted = [levels] if isinstance(levels, int) else levels
    findings: list[Finding] = []
    found: list[LevelReport] = []
    read = total = 0
    try:
        for place, image in _image_and_labels(stored):
            show = partial(reporting, progress, title=f"verifying {place}".rstrip())
            part = _verified(image, wanted, place, show, options)
            found += part.levels
            findings += part.findings
            read, total = read + part.regions[0], total + part.regions[1]
    finally:
        release_buffers()
    chosen = seed if read < total else None
    return Verification(str(stored.group.store_path), tuple(findings), tuple(found), (read, total), chosen)


def _image_and_labels(stored: StoredPyramid) -> Iterator[tuple[str, StoredPyramid]]:
    """Yield an image and the labels that it lists, each with its path below the image."""
    yield "", stored
    for name, node in stored.labels.items():
        if holds_image(node):
            yield f"{LABELS}/{name}", StoredPyramid.of(node)


def _verified(
    stored: StoredPyramid, wanted: Sequence[int] | None, place: str, show: Any, options: Mapping[str, Any]
) -> Verification:
    """Return the report on one image."""
    method, evidence = _stated_method(stored)
    labels = stored.is_labels or _is_of_labels(method)
    labels = labels and all(array.dtype.kind in "iu" for array in stored.arrays)
    pyramid = CheckedPyramid(stored, tuple(map(Access.of, stored.arrays)), labels, method, evidence)
    levels = _checked_levels(wanted, len(stored.arrays))
    survey, read = survey_of(pyramid, levels, reporting=show, **options)
    verdicts = verdicts_of(pyramid, levels, survey, options["seed"])
    findings = [*_damage_findings(pyramid, survey.damage), *geometry_findings(stored)]
    for verdict in verdicts:
        described = stored.multiscales.datasets[verdict.index].scale is not None
        findings += _level_findings(pyramid, verdict, survey, method, described=described)
    prefix = f"{place}/" if place else ""
    return Verification(
        str(stored.group.store_path),
        tuple(dataclasses.replace(f, location=f"{prefix}{f.location}") for f in findings),
        tuple(_level_report(pyramid, verdict, survey, prefix) for verdict in verdicts),
        (read["regions"], read["of"]),
        read["seed"],
    )


def _is_of_labels(stated: str | None) -> bool:
    """Whether the stated method is one for labels only, so that values are ids without an order."""
    row = REDUCERS.get(stated or "")
    return row is not None and row.labels != "no" and row.packed != "order"


def _checked_levels(wanted: Sequence[int] | None, count: int) -> list[int]:
    if wanted is None:
        return list(range(1, count))
    if wrong := [level for level in wanted if not 1 <= level < count]:
        raise ValueError(f"levels={list(wanted)!r}: level {wrong[0]!r} cannot be checked; choose from 1 to {count - 1}")
    return sorted(set(wanted))


def _stated_method(stored: StoredPyramid) -> tuple[str | None, Evidence]:
    """Return the method that the metadata name, if it is known, and what its levels are checked by.

    For a method of this package without a rule, with missing values or with weights, a rule would fit by chance only.
    """
    recipe = stored.recipe
    name = str(stated_method(stored.attributes) or (recipe or {}).get("method", "")).lower()
    name = ALIASES.get(name, name)
    if recipe is None:
        return (name if name in REDUCERS else None), "rules"
    special = recipe.get("nodata") is not None or recipe.get("min_valid") or recipe.get("weights")
    if recipe.get("skipna") is False and name in VOTES:
        special = True
    return name, _evidence_of(name) if not special else "nothing"


def _evidence_of(stated: str | None) -> Evidence:
    """Return what levels of the stated method are checked by."""
    row = REDUCERS.get(stated or "")
    return "nothing" if row is None else row.evidence


# --- findings --------------------------------------------------------------------------------------------------


def _damage_findings(pyramid: CheckedPyramid, damage: set[Damage]) -> Iterator[Finding]:
    for each in sorted(damage, key=lambda each: (each.level, each.key)):
        place = f"{pyramid.paths[each.level]}/{each.key}"
        if each.reason:
            yield Finding("error", place, f"the chunk cannot be read ({each.reason})", "a chunk that can be decoded")
        else:
            yield Finding(
                "error", place, "the chunk is not stored", "a chunk: the finer level has values other than fill there"
            )


def _level_findings(
    pyramid: CheckedPyramid, verdict: Verdict, survey: Survey, stated: str | None, *, described: bool
) -> Iterator[Finding]:
    place = pyramid.paths[verdict.index]
    if described:
        yield from _position_findings(pyramid, verdict, place)
    yield from _rule_findings(verdict, stated, place)
    if pyramid.labels:
        yield from _label_findings(verdict, survey, place, by_window=pyramid.evidence == "rules")
    elif pyramid.evidence != "nothing":
        yield from _brightness_findings(verdict, place)


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
    yield Finding(
        "error",
        place,
        f"{start} {', '.join(claims)} in voxels of level 0, by the {_evidence(verdict)} they are {', '.join(facts)}",
        "; ".join(remedies),
        CENTRES,
    )


def _ends_text(line: tuple[float, float], size: int) -> str:
    return f"{line[0]:.4g} to {line[0] + line[1] * (size - 1):.4g}"


def _evidence(verdict: Verdict) -> str:
    return "pixels" if verdict.by == "pixels" or verdict.match is None else f"rule ({verdict.match.rule})"


def _rule_findings(verdict: Verdict, stated: str | None, place: str) -> Iterator[Finding]:
    """Yield findings for voxels that differ from the level's rule, and for a method other than the stated one."""
    match = verdict.match
    families = {each.rule.family for each in verdict.equals}
    exact = _evidence_of(stated) == "rules"
    if match is None:
        closest = next(iter(_strict(verdict)), None)
        if exact and closest is not None and closest.telling:
            found = f"no known rule reproduces the level; the closest, {closest.rule}, differs in {closest.misses:.1%}"
            yield Finding("warning", place, f"{found} of the windows", f"the stated method, {stated!r}")
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


def _strict(verdict: Verdict) -> list[Match]:
    strict = [match for match in verdict.matches if not match.rule.is_loose]
    return sorted(strict, key=lambda match: match.misses)


def _label_findings(verdict: Verdict, survey: Survey, place: str, *, by_window: bool) -> Iterator[Finding]:
    ids = survey.missing_ids.get(verdict.index, np.zeros(0))
    if len(ids):
        listed = ", ".join(map(str, ids[:LISTED].tolist())) + (", ..." if len(ids) > LISTED else "")
        yield Finding("error", place, f"{len(ids)} ids that level 0 lacks: {listed}", "ids of level 0", SAME_IDS)
    strange, windows = _strange_labels(verdict)
    if by_window and windows and strange / windows > STRANGE_LABELS:
        severity = "error" if strange / windows > BROKEN_LABELS else "warning"
        found = f"{strange} of {windows} voxels have an id that does not occur in their window"
        yield Finding("error" if severity == "error" else "warning", place, found, "an id of the window")


def _strange_labels(verdict: Verdict) -> tuple[int, int]:
    """Return how many labels do not occur in their window, and the number of all labels."""
    tally = verdict.tally
    if tally is None:
        return 0, 0
    loose = [rule for rule in tally.rules if rule == Rule("window", ANY_SAMPLE, ending=rule.ending)]
    return min((tally.of(rule) for rule in loose), default=0), tally.windows


def _brightness_findings(verdict: Verdict, place: str) -> Iterator[Finding]:
    """Yield a finding if a level is brighter or darker than level 0 rounded without bias."""
    tally, match = verdict.tally, verdict.match
    if tally is None or not tally.windows or (match is not None and not match.rule.keeps_brightness):
        return
    drift = tally.surplus / tally.windows
    spread = math.sqrt(max(tally.surplus_squared / tally.windows - drift**2, 0.0) / tally.windows)
    mean = tally.means / tally.windows
    least = LEAST_DRIFT if _is_of_integers(tally) else RELATIVE_DRIFT * abs(mean)
    if abs(drift) > DRIFT_ERRORS * spread + least:
        found = f"values are on average {abs(drift):.3g} {'above' if drift > 0 else 'below'} the means of their windows"
        means = f"(mean {tally.values / tally.windows:.5g}, of level 0 {mean:.5g})"
        yield Finding("warning", place, f"{found} {means}", "the brightness of level 0, up to rounding")


def _is_of_integers(tally: Tally) -> bool:
    return any(rule.how for rule in tally.rules if rule.keeps_brightness)


# --- the report on a level -------------------------------------------------------------------------------------


def _level_report(pyramid: CheckedPyramid, verdict: Verdict, survey: Survey, prefix: str) -> LevelReport:
    index, match, tally = verdict.index, verdict.match, verdict.tally
    shape, array = pyramid.shapes[index], pyramid.arrays[index].array
    closest = match or next(iter(_strict(verdict)), None)
    sources = sorted({each.comparison.source for each in verdict.equals if each.rule == match.rule}) if match else []
    windows = (
        tally.windows if tally is not None else sum(t.windows for c, t in survey.tallies.items() if c.level == index)
    )
    finite = tally is not None and math.isfinite(tally.values) and math.isfinite(tally.means)
    weighed = tally is not None and tally.windows and finite and not pyramid.labels and array.dtype.kind in "biuf"
    ids = survey.missing_ids.get(index)
    return LevelReport(
        path=f"{prefix}{pyramid.paths[index]}",
        shape=shape,
        factors=verdict.factors,
        sizes=_sizes(pyramid.shapes[0], shape, verdict.factors),
        rule=None if match is None else str(match.rule),
        closest=None if match is not None or closest is None or not closest.telling else str(closest.rule),
        unknown=None if pyramid.evidence == "rules" else pyramid.method,
        made_from=tuple(pyramid.paths[source] for source in sources),
        differing=0 if closest is None else closest.differing,
        windows=windows,
        telling=0 if closest is None else closest.telling,
        equals=tuple(dict.fromkeys(str(m.rule) for m in verdict.equals if match is None or m.rule != match.rule)),
        dims=tuple(axis.name for axis in pyramid.axes[0]),
        stated=_both_ends(pyramid.stated(index), shape),
        found=None if verdict.lines is None else _both_ends(verdict.lines, shape),
        tolerance=verdict.tolerance,
        by=verdict.by,
        mean=_digits(tally.values / tally.windows) if weighed and tally is not None else None,
        mean_of_windows=_digits(tally.means / tally.windows) if weighed and tally is not None else None,
        strange_ids=(0 if ids is None else len(ids)) if pyramid.labels else None,
        stored_chunks=_stored_chunks(array),
        chunks=int(array.nchunks),
    )


def _sizes(size: Sequence[int], coarse: Sequence[int], factors: Sequence[int] | None) -> str:
    if factors is None:
        return "no integer factor"
    ends = {"up" if n * f > whole else "down" for whole, n, f in zip(size, coarse, factors, strict=True) if whole % f}
    return " and ".join(sorted(ends, reverse=True)) or "whole"


def _both_ends(lines: Sequence[tuple[float, float]], shape: Sequence[int]) -> tuple[tuple[float, float], ...]:
    pairs = zip(lines, shape, strict=True)
    return tuple((_digits(origin), _digits(origin + step * (size - 1))) for (origin, step), size in pairs)


def _digits(value: float) -> float:
    """Return a number without the digits that depend on the order of a sum."""
    return float(f"{value:.9g}")


def _stored_chunks(array: zarr.Array[Any]) -> int | None:
    """Return how many chunks are stored; None if the store cannot list them."""
    try:
        return int(array.nchunks_initialized)
    except NotImplementedError:
        return None
