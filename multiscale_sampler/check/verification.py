"""Data held against metadata and rule: whether every level shows what level 0 shows, and where it says it does.

`verify_pyramid` reads the levels of any writer's pyramid, in bounded memory, and reports of each the rule that made
it, from which level, where its samples sit against where the metadata place them, how bright it is, which ids of
labels are not those of level 0, and which chunks are broken. `validation` judges the metadata by themselves.
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
from ..plan.factors import positive
from ..plan.options import StorageOptions
from ..store import LABELS, Access, StoredPyramid, holds_image, open_node, release_buffers
from ..tasks.progress import ProgressCallback, reporting
from .downsampling_rules import ANY_SAMPLE, VOTES, Rule
from .registration import apart
from .survey import SHOWN, Damage, Survey, Tally
from .validation import Report, geometry_findings
from .verdicts import CheckedPyramid, Match, Verdict, agrees, survey_of, verdicts_of

# Brightness drifts if it does by more than so many standard errors and this part of a grey value.
DRIFT_ERRORS = 4.0
LEAST_DRIFT = 0.02
# For floats, that part of the level's mean.
RELATIVE_DRIFT = 1e-3
# Labels that are in none of their window's voxels: a vote of neighbours makes a few, a broken level many.
STRANGE_LABELS, BROKEN_LABELS = 0.01, 0.25
CENTRES = "The translation of a level is where the centre of its first voxel lies, its scale the distance to the next."
ONE_RULE = "Every voxel of a level is what the level's method makes of its window."
SAME_IDS = "Levels of labels have no id that level 0 does not have."


@dataclass(frozen=True)
class LevelReport:
    """What was found of one level."""

    path: str
    """Path of the array, from the store on."""
    shape: tuple[int, ...]
    """Voxels along each axis."""
    factors: tuple[int, ...] | None
    """Voxels of level 0 in a window, by axis; None where no integers fit the shapes."""
    sizes: str
    """Whether sizes were rounded "up" or "down", "up and down" by axis, or were "whole"."""
    rule: str | None
    """The rule that makes the level, None if none of those known does."""
    closest: str | None
    """Of the known rules the one that makes the most voxels."""
    unknown: str | None
    """The method that the metadata name, if there is no rule here that tells what it makes."""
    made_from: tuple[str, ...]
    """The levels that the rule makes this one from."""
    differing: int
    """Voxels that are not what the rule, or the closest one, makes of their windows."""
    windows: int
    """Windows that were read."""
    telling: int
    """Windows with more than one value, which tell rules from one another."""
    equals: tuple[str, ...]
    """Other rules that fit as well."""
    dims: tuple[str, ...]
    """Names of the axes."""
    stated: tuple[tuple[float, float], ...]
    """Where the metadata place the first and the last sample along each axis, in voxels of level 0."""
    found: tuple[tuple[float, float], ...] | None
    """Where they sit by the data."""
    tolerance: tuple[float, ...]
    """How far these may be apart."""
    by: str
    """What tells where they sit: "rule", "pixels", or nothing."""
    mean: float | None
    """Mean of the level."""
    mean_of_windows: float | None
    """Mean of the windows of level 0."""
    strange_ids: int | None
    """For labels, the ids that level 0 does not have."""
    stored_chunks: int | None
    """Chunks that are stored; the others are all fill."""
    chunks: int
    """Chunks there can be."""

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        made = f"from {' or '.join(self.made_from)}" if self.made_from else "-"
        unknown = f"none known of {self.unknown!r}" if self.unknown else "nothing tells"
        name = self.rule or (f"none known; closest: {self.closest}" if self.closest else unknown)
        differing = f"{self.differing / self.windows:.3%}" if self.windows else "-"
        ends = "-" if self.found is None else " ".join(f"{first:.4g}..{last:.4g}" for first, last in self.found)
        stated = " ".join(f"{first:.4g}..{last:.4g}" for first, last in self.stated)
        drift = "-" if self.mean is None or self.mean_of_windows is None else f"{self.mean - self.mean_of_windows:+.3g}"
        shape = " x ".join(map(str, self.shape))
        return self.path, shape, self.sizes, name, made, differing, ends, stated, drift


COLUMNS = ("level", "shape", "sizes", "rule", "made", "differ", "samples sit at", "stated at", "brighter by")


@dataclass(frozen=True, repr=False)
class Verification(Report):
    """What was found of a store's pixels. ``print(report)`` shows a table."""

    levels: tuple[LevelReport, ...] = ()
    """The levels that were judged, those of labels after those of their image."""
    regions: tuple[int, int] = (0, 0)
    """Regions that were read, and that there are."""
    seed: int | None = None
    """What the choice of regions depended on; None where all were read."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        read, there = self.regions
        return {
            **super().to_dict(),
            "read": {"regions": read, "of": there, "seed": self.seed},
            "levels": [dataclasses.asdict(level) for level in self.levels],
        }

    def __repr__(self) -> str:
        """Return the report as text: a row per level, a line per finding."""
        verdict = "data and metadata agree" if self.ok else "data and metadata disagree"
        read, there = self.regions
        share = "every voxel" if self.seed is None else f"{read} of {there} regions at random (seed {self.seed})"
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
    """Hold the voxels of an OME-Zarr image of any writer, with its labels, against its metadata.

    Of each level it is found which rule makes it of level 0, or of the level before it: mean, sum, median, mode, min,
    max or nearest, with its rounding, its choice among equals, its offset, and what became of partial windows. So it
    is known where samples sit; where no rule is recognised, that is found from the pixels. Integers must be equal,
    floats up to some units in the last place. Of this package's methods that none of these rules stands for ("std",
    "count", "label_gaussian", filters, functions of your own), and with `nodata`, `min_valid` or weights, values are
    not judged.

    Parameters
    ----------
    store, path
        Place of the group with the ``multiscales`` metadata, of an image or of labels; also of a pyramid that only the
        zarr convention ``multiscales`` describes, as GeoZarr has it.
    levels
        Number or numbers of the levels to judge; default: all but level 0.
    sample
        Regions to read, chosen at random; default: all.
    seed
        What their choice, and that of the places where positions are found from pixels, depends on.
    memory_limit
        Memory to use, as 2**30 or "1GiB"; default: half of what there is. Stored chunks and shards are decoded whole,
        whatever their size.
    workers
        Regions at a time; default: the cores there are.
    progress
        A function that is called with a `Progress`, True for a bar on a terminal or lines in a log, None for nothing.
    storage_options
        Options of the file system, with a URL.

    Returns
    -------
    Report
        ``.ok`` tells whether data and metadata agree; ``.levels`` has what was found of each level, ``.findings``
        what is wrong. An "error" is a level that does not sit where the metadata place it, or was not made by the
        method that they name, voxels that the level's own rule does not make, ids that are not in level 0, and
        chunks that are broken or missing.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    ValueError
        If there is no pyramid, or if an option does not fit it.

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
        "sample": positive("sample", sample),
        "seed": seed,
        "memory": resources.memory,
        "workers": resources.worker_count,
    }
    stored = StoredPyramid.of(open_node(store, path, storage_options=storage_options))
    wanted = [levels] if isinstance(levels, int) else levels
    findings: list[Finding] = []
    found: list[LevelReport] = []
    read = there = 0
    try:
        for place, image in _images(stored):
            show = partial(reporting, progress, title=f"verifying {place}".rstrip())
            part = _verified(image, wanted, place, show, options)
            found += part.levels
            findings += part.findings
            read, there = read + part.regions[0], there + part.regions[1]
    finally:
        release_buffers()
    chosen = seed if read < there else None
    return Verification(str(stored.group.store_path), tuple(findings), tuple(found), (read, there), chosen)


def _images(stored: StoredPyramid) -> Iterator[tuple[str, StoredPyramid]]:
    """Yield an image and the labels that it lists, with their places below it."""
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
    """Whether values are taken for ids by the method of their levels: ids have no order that one could ask for."""
    row = REDUCERS.get(stated or "")
    return row is not None and row.labels != "no" and row.packed != "order"


def _checked_levels(wanted: Sequence[int] | None, count: int) -> list[int]:
    if wanted is None:
        return list(range(1, count))
    if wrong := [level for level in wanted if not 1 <= level < count]:
        raise ValueError(
            f"levels={list(wanted)!r}: there is no level {wrong[0]!r} to judge; give some of 1..{count - 1}"
        )
    return sorted(set(wanted))


def _stated_method(stored: StoredPyramid) -> tuple[str | None, Evidence]:
    """Return the method that the metadata name, if it is known here, and what tells whether a level is made by it.

    Of a method of this package that no rule stands for, or that leaves out a value, or weighs voxels, a rule that fits
    would fit by chance.
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
    """Return what levels of the method that the metadata name are judged by."""
    row = REDUCERS.get(stated or "")
    return "nothing" if row is None else row.evidence


# --- findings --------------------------------------------------------------------------------------------------


def _damage_findings(pyramid: CheckedPyramid, damage: set[Damage]) -> Iterator[Finding]:
    for each in sorted(damage, key=lambda each: (each.level, each.key)):
        place = f"{pyramid.paths[each.level]}/{each.key}"
        if each.reason:
            yield Finding("error", place, f"the chunk cannot be read ({each.reason})", "a chunk that can be decoded")
        else:
            yield Finding("error", place, "the chunk is not stored", "one: the finer level is nowhere fill there")


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
    """Yield where a level does not sit as stated, all axes in one finding."""
    stated, shape = pyramid.stated(verdict.index), pyramid.shapes[verdict.index]
    if verdict.lines is None or agrees(verdict.lines, stated, shape, verdict.tolerance):
        return
    said, sit, should = [], [], []
    pairs = zip(pyramid.axes[0], verdict.lines, stated, shape, verdict.tolerance, strict=True)
    for axis, found, claimed, size, most in pairs:
        if apart(found, claimed, size) > most:
            said.append(f"{axis.name!r} from {_ends(claimed, size)}")
            sit.append(f"from {_ends(found, size)} (up to {apart(found, claimed, size):.3g} away)")
            origin = axis.translation + axis.scale * found[0]
            should.append(f"{axis.name!r}: scale {axis.scale * found[1]:.7g}, translation {origin:.7g}")
    moved = any(origin for origin, _ in stated)
    first = "the metadata place samples of" if moved else "no translation: the metadata place samples of"
    yield Finding(
        "error",
        place,
        f"{first} {', '.join(said)} in voxels of level 0, and by the {_evidence(verdict)} they sit {', '.join(sit)}",
        "; ".join(should),
        CENTRES,
    )


def _ends(line: tuple[float, float], size: int) -> str:
    return f"{line[0]:.4g} to {line[0] + line[1] * (size - 1):.4g}"


def _evidence(verdict: Verdict) -> str:
    return "pixels" if verdict.by == "pixels" or verdict.match is None else f"rule ({verdict.match.rule})"


def _rule_findings(verdict: Verdict, stated: str | None, place: str) -> Iterator[Finding]:
    """Yield voxels that the level's rule does not make, and a method other than the stated one."""
    match = verdict.match
    families = {each.rule.family for each in verdict.equals}
    exact = _evidence_of(stated) == "rules"
    if match is None:
        closest = next(iter(_strict(verdict)), None)
        if exact and closest is not None and closest.telling:
            found = f"none of the known rules makes the level; the closest, {closest.rule}, misses {closest.misses:.1%}"
            yield Finding("warning", place, f"{found} of the windows that tell", f"the stated method, {stated!r}")
        return
    if exact and stated not in families:
        expected = f"the method that the metadata name, {stated!r}"
        yield Finding("error", place, f"the level was made by another method: {match.rule}", expected, ONE_RULE)
    if match.rule.is_loose:
        return
    # A rounding of the writer's own is no damage: what the loose rule of the same family allows is let pass.
    same = [
        m.differing for m in verdict.matches if m.rule.family == match.rule.family and m.comparison == match.comparison
    ]
    left = min(same)
    if left:
        found = f"{left} voxels are not what the rule of the others ({match.rule}) makes of their windows"
        yield Finding(
            "error", place, found, "a level that was made anew after level 0 was edited, or is whole", ONE_RULE
        )


def _strict(verdict: Verdict) -> list[Match]:
    strict = [match for match in verdict.matches if not match.rule.is_loose]
    return sorted(strict, key=lambda match: match.misses)


def _label_findings(verdict: Verdict, survey: Survey, place: str, *, by_window: bool) -> Iterator[Finding]:
    ids = survey.strangers.get(verdict.index, np.zeros(0))
    if len(ids):
        shown = ", ".join(map(str, ids[:SHOWN].tolist())) + (", ..." if len(ids) > SHOWN else "")
        yield Finding("error", place, f"{len(ids)} ids that level 0 does not have: {shown}", "its ids", SAME_IDS)
    strange, windows = _strange_labels(verdict)
    if by_window and windows and strange / windows > STRANGE_LABELS:
        severity = "error" if strange / windows > BROKEN_LABELS else "warning"
        found = f"{strange} of {windows} voxels have an id that is nowhere in their window"
        yield Finding("error" if severity == "error" else "warning", place, found, "an id of the window")


def _strange_labels(verdict: Verdict) -> tuple[int, int]:
    """Return how many labels are in none of the voxels of their window, and how many labels there are."""
    tally = verdict.tally
    if tally is None:
        return 0, 0
    loose = [rule for rule in tally.rules if rule == Rule("window", ANY_SAMPLE, ending=rule.ending)]
    return min((tally.of(rule) for rule in loose), default=0), tally.windows


def _brightness_findings(verdict: Verdict, place: str) -> Iterator[Finding]:
    """Yield levels that are brighter, or darker, than rounding without bias makes them."""
    tally, match = verdict.tally, verdict.match
    if tally is None or not tally.windows or (match is not None and not match.rule.keeps_brightness):
        return
    drift = tally.surplus / tally.windows
    spread = math.sqrt(max(tally.surplus_squared / tally.windows - drift**2, 0.0) / tally.windows)
    mean = tally.means / tally.windows
    least = LEAST_DRIFT if _is_whole(tally) else RELATIVE_DRIFT * abs(mean)
    if abs(drift) > DRIFT_ERRORS * spread + least:
        found = f"values are {abs(drift):.3g} {'above' if drift > 0 else 'below'} the means of their windows on average"
        seen = f"(mean {tally.values / tally.windows:.5g}, of level 0 {mean:.5g})"
        yield Finding("warning", place, f"{found} {seen}", "the brightness of level 0, but for rounding")


def _is_whole(tally: Tally) -> bool:
    return any(rule.how for rule in tally.rules if rule.keeps_brightness)


# --- the report on a level -------------------------------------------------------------------------------------


def _level_report(pyramid: CheckedPyramid, verdict: Verdict, survey: Survey, prefix: str) -> LevelReport:
    index, match, tally = verdict.index, verdict.match, verdict.tally
    shape, array = pyramid.shapes[index], pyramid.arrays[index].array
    shown = match or next(iter(_strict(verdict)), None)
    sources = sorted({each.comparison.source for each in verdict.equals if each.rule == match.rule}) if match else []
    windows = (
        tally.windows if tally is not None else sum(t.windows for c, t in survey.tallies.items() if c.level == index)
    )
    finite = tally is not None and math.isfinite(tally.values) and math.isfinite(tally.means)
    weighed = tally is not None and tally.windows and finite and not pyramid.labels and array.dtype.kind in "biuf"
    ids = survey.strangers.get(index)
    return LevelReport(
        path=f"{prefix}{pyramid.paths[index]}",
        shape=shape,
        factors=verdict.factors,
        sizes=_sizes(pyramid.shapes[0], shape, verdict.factors),
        rule=None if match is None else str(match.rule),
        closest=None if match is not None or shown is None or not shown.telling else str(shown.rule),
        unknown=None if pyramid.evidence == "rules" else pyramid.method,
        made_from=tuple(pyramid.paths[source] for source in sources),
        differing=0 if shown is None else shown.differing,
        windows=windows,
        telling=0 if shown is None else shown.telling,
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
    """Return how many chunks are stored, None where the store cannot list them."""
    try:
        return int(array.nchunks_initialized)
    except NotImplementedError:
        return None
