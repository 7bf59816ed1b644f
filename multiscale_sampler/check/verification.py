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
from typing import Any, Literal, TypeAlias

import zarr

from ..files import is_file_of_images
from ..messages import table
from ..metadata.specification import Finding
from ..plan.factors import as_positive_int
from ..plan.options import StorageOptions
from ..store import LABELS, StoredPyramid, holds_image, is_consolidated, local_path, open_node, release_buffers
from ..tasks.progress import ProgressCallback, reporting
from .bands import band_findings
from .checked import CheckedPyramid
from .level_findings import (
    coordinate_findings,
    damage_findings,
    findings_of_level,
    recipe_findings,
    rule_text,
    strict_matches,
)
from .survey import Survey
from .validation import Report, chunk_findings, coverage_findings, geometry_findings, outdated_findings
from .verdicts import Verdict, survey_of, verdicts_of

Judgement: TypeAlias = Literal["agree", "disagree", "undecided"]

# A sample is told to have found a fault if it had at least this chance.
MISSED_RISK = 0.05


@dataclass(frozen=True)
class LevelReport:
    """The results for one level."""

    path: str
    """Path of the array, from the store on."""
    shape: tuple[int, ...]
    """Voxels along each axis."""
    verdict: Judgement
    """Whether data and metadata agree; "undecided" if no rule is known or fits, and nothing contradicts level 0."""
    factors: tuple[int, ...] | None
    """Voxels of level 0 in a window, along each axis; None if no integers fit the shapes."""
    sizes: str
    """How sizes were rounded: "up", "down", "up and down" (differently along axes) or "whole" (no rounding)."""
    rule: str | None
    """The rule that reproduces the level, or the recipe of this package; None if no known rule does."""
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
        return self.path, shape, self.verdict, self.sizes, name, source, differing, ends, stated, drift


COLUMNS = ("level", "shape", "verdict", "sizes", "rule", "source", "differ", "samples at", "stated at", "brighter by")


@dataclass(frozen=True, repr=False)
class Verification(Report):
    """The results of `verify_pyramid`. ``print(report)`` shows a table."""

    levels: tuple[LevelReport, ...] = ()
    """The levels that were checked, those of labels after those of their image."""
    regions: tuple[int, int] = (0, 0)
    """Number of regions that were read, and number of all regions."""
    seed: int | None = None
    """Seed of the choice of regions; None if all were read."""
    missable: float = 0.0
    """With a sample, the part of the regions in which a fault could have been missed, at a risk of 5 %."""

    @property
    def verdict(self) -> Judgement:
        """Whether data and metadata agree; "undecided" if some level could not be judged and there are no errors."""
        if not self.ok:
            return "disagree"
        return "undecided" if any(level.verdict == "undecided" for level in self.levels) else "agree"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        read, total = self.regions
        return {
            **super().to_dict(),
            "verdict": self.verdict,
            "read": {"regions": read, "of": total, "seed": self.seed, "missable": self.missable},
            "levels": [dataclasses.asdict(level) for level in self.levels],
        }

    def __repr__(self) -> str:
        """Return the report as text: a row for each level and a line for each finding."""
        verdict = f"data and metadata {self.verdict}"
        if self.verdict == "undecided":
            open_levels = ", ".join(level.path for level in self.levels if level.verdict == "undecided")
            verdict = f"undecided: no known rule makes {open_levels}"
        read, total = self.regions
        share = "every voxel"
        if self.seed is not None:
            share = f"{read} of {total} regions at random (seed {self.seed})"
            share += f"; a fault confined to less than {self.missable:.2g} of a level could have been missed"
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

    Levels that this package wrote are computed again from level 0 by the recipe in their metadata, and must be equal:
    integers to the bit, floats of sums and filters up to one, two or three units in the last place.

    For levels of other tools, the rule is searched that reproduces them from level 0 or from the level before: mean,
    sum, median, mode, min, max or nearest, with its rounding, its choice among ties, its offset, and its handling of
    partial windows. The rule gives the positions of the samples; if no rule is recognised, these are found from the
    pixels. Integers must be equal, floats equal up to some units in the last place. Whatever the rule, a finer level is
    not fill where a coarser one is not, and the mean is that of level 0 or between those of the windows' extremes.

    A level is undecided if none of this is wrong, but no rule is known or fits: levels by your own function or with
    weights, which the metadata do not contain, or by another tool's filter.

    Parameters
    ----------
    store, path
        The group with the ``multiscales`` metadata, of an image or of labels; a pyramid that is only described by the
        zarr convention ``multiscales``, as in GeoZarr; or a TIFF file with levels, whose positions are not checked.
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
        ``.verdict`` is "agree", "disagree" (there are errors) or "undecided"; ``.ok`` is whether there are no errors;
        ``.levels`` has the results for each level, ``.findings`` what is wrong. A finding is an "error" if a level is
        not at the stated positions or not made by the stated method, if voxels differ from the level's own rule, if
        labels have ids that level 0 lacks, or if chunks are damaged or missing. With a sample, ``.missable`` is the
        part of a level that a fault could cover and still be missed, at a risk of 5 %.

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
    wanted = [levels] if isinstance(levels, int) else levels
    parts: list[Verification] = []
    try:
        for place, pyramid, contradictions in _pyramids(store, path, wanted, storage_options):
            show = partial(reporting, progress, title=f"verifying {place}".rstrip())
            parts.append(_verified(pyramid, wanted, place, show, options, contradictions))
    finally:
        release_buffers()
    read, total = (sum(part.regions[i] for part in parts) for i in (0, 1))
    return Verification(
        parts[0].store,
        tuple(finding for part in parts for finding in part.findings),
        tuple(level for part in parts for level in part.levels),
        (read, total),
        seed if read < total else None,
        max(part.missable for part in parts),
    )


def _pyramids(
    store: Any, path: str | None, wanted: Sequence[int] | None, storage_options: Mapping[str, Any] | None
) -> Iterator[tuple[str, CheckedPyramid, list[Finding]]]:
    """Yield an image and its labels, each with its path below the image, and what contradicts itself without voxels."""
    place = local_path(store)
    if place is not None and is_file_of_images(place):
        if path is not None or storage_options is not None:
            raise ValueError(f"path={path!r} and storage_options go with a zarr store; {str(store)!r} is a file")
        yield "", CheckedPyramid.of_file(place), []
        return
    node = open_node(store, path, storage_options=storage_options)
    outdated = list(outdated_findings(node)) if isinstance(node, zarr.Group) else []
    # What the documents of the arrays state now.
    own = open_node(node, use_consolidated=False) if isinstance(node, zarr.Group) and is_consolidated(node) else node
    image = StoredPyramid.of(own)
    for label, stored in _image_and_labels(image):
        pyramid = CheckedPyramid.of_store(stored)
        found = [] if label else outdated
        found = [*found, *recipe_findings(pyramid), *geometry_findings(stored)]
        known = {finding.location for finding in found}
        levels = _checked_levels(wanted, len(stored.arrays))
        found += [finding for finding in coordinate_findings(stored, levels) if finding.location not in known]
        found += chunk_findings(stored)
        found += coverage_findings(stored, image, "") if label else ()
        yield label, pyramid, found


def _image_and_labels(stored: StoredPyramid) -> Iterator[tuple[str, StoredPyramid]]:
    """Yield an image and the labels that it lists, each with its path below the image."""
    yield "", stored
    for name, node in stored.labels.items():
        if holds_image(node):
            yield f"{LABELS}/{name}", StoredPyramid.of(node)


def _verified(
    pyramid: CheckedPyramid,
    wanted: Sequence[int] | None,
    place: str,
    show: Any,
    options: Mapping[str, Any],
    contradictions: Sequence[Finding],
) -> Verification:
    """Return the report on one image."""
    levels = _checked_levels(wanted, len(pyramid.arrays))
    survey, read = survey_of(pyramid, levels, reporting=show, **options)
    verdicts = verdicts_of(pyramid, levels, survey, options["seed"])
    of_levels = {verdict.index: list(findings_of_level(pyramid, verdict, survey)) for verdict in verdicts}
    prefix = f"{place}/" if place else ""
    findings = [*damage_findings(pyramid, survey.damage), *contradictions]
    if pyramid.bands is not None and (read["seed"] is not None or survey.damage):
        # They add up to an image only where all are there.
        pyramid = dataclasses.replace(pyramid, bands=None)
    if pyramid.bands is not None:
        findings += band_findings(pyramid.bands, options["workers"])
    findings += [finding for found in of_levels.values() for finding in found]
    return Verification(
        pyramid.place,
        tuple(dataclasses.replace(f, location=f"{prefix}{f.location}".removesuffix("/")) for f in findings),
        tuple(_level_report(pyramid, verdict, survey, findings, prefix) for verdict in verdicts),
        (read["regions"], read["of"]),
        read["seed"],
        missable_part(read["regions"], read["of"]),
    )


def missable_part(read: int, total: int) -> float:
    """Return the largest part of all regions in which a fault escapes a sample of them, at a risk of `MISSED_RISK`."""
    faulty, risk = 0, 1.0
    while faulty < total - read and risk > MISSED_RISK:
        # The chance that none of those read is among one more that is faulty.
        risk *= (total - read - faulty) / (total - faulty)
        faulty += 1
    return faulty / total if total else 0.0


def _checked_levels(wanted: Sequence[int] | None, count: int) -> list[int]:
    if wanted is None:
        return list(range(1, count))
    if wrong := [level for level in wanted if not 1 <= level < count]:
        raise ValueError(f"levels={list(wanted)!r}: level {wrong[0]!r} cannot be checked; choose from 1 to {count - 1}")
    return sorted(set(wanted))


# --- the report on a level -------------------------------------------------------------------------------------


def _level_report(
    pyramid: CheckedPyramid, verdict: Verdict, survey: Survey, findings: Sequence[Finding], prefix: str
) -> LevelReport:
    index, match, tally = verdict.index, verdict.match, verdict.tally
    shape, array = pyramid.shapes[index], pyramid.arrays[index]
    closest = match or next(iter(strict_matches(verdict)), None)
    sources = sorted({each.comparison.source for each in verdict.equals if each.rule == match.rule}) if match else []
    windows = (
        tally.windows if tally is not None else sum(t.windows for c, t in survey.tallies.items() if c.level == index)
    )
    finite = tally is not None and math.isfinite(tally.values) and math.isfinite(tally.means)
    weighed = tally is not None and tally.windows and finite and not pyramid.labels and array.dtype.kind in "biuf"
    ids = survey.missing_ids.get(index)
    is_missed = verdict.misses is not None and verdict.misses.count > 0
    rule = (None if match is None else str(match.rule)) if is_missed else rule_text(pyramid, verdict)
    return LevelReport(
        path=f"{prefix}{pyramid.paths[index]}",
        shape=shape,
        verdict=_judgement(pyramid, verdict, findings),
        factors=verdict.factors,
        sizes=_sizes(pyramid.shapes[0], shape, verdict.factors),
        rule=rule,
        closest=None if rule is not None or closest is None or not closest.telling else str(closest.rule),
        unknown=None if pyramid.evidence == "rules" or rule is not None else pyramid.method,
        made_from=tuple(pyramid.paths[source] for source in sources),
        differing=verdict.misses.count if verdict.misses else 0 if closest is None else closest.differing,
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
        stored_chunks=array.stored_chunk_count,
        chunks=array.chunk_count,
    )


def _judgement(pyramid: CheckedPyramid, verdict: Verdict, findings: Sequence[Finding]) -> Judgement:
    """Return whether a level agrees with its metadata; undecided if no rule is known that it could miss."""
    path = pyramid.paths[verdict.index]
    places = [finding.location for finding in findings if finding.severity == "error"]
    if any(place == path or place.startswith(f"{path}/") for place in places):
        return "disagree"
    # Where all windows have one value, every rule gives that value.
    is_computed = verdict.misses is not None or pyramid.bands is not None
    by_rule = verdict.match is not None or any(not m.telling and not m.differing for m in verdict.matches)
    return "agree" if is_computed or (pyramid.evidence == "rules" and by_rule) else "undecided"


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
