"""Medians, ratios and tables of what was measured, in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .cases import Case
from .contenders import Contender, Mode
from .measuring import Measurement

MEGABYTE = 1e6
YARDSTICK = "tensorstore"


@dataclass(frozen=True)
class Comparison:
    """All runs of all contenders on one case in one mode."""

    case: Case
    mode: Mode
    runs: Mapping[Contender, Sequence[Measurement]]
    """One per round, in order; a contender that failed has no others."""

    @property
    def title(self) -> str:
        """The case and the mode in words."""
        what = "levels beside the base" if self.mode == "beside" else "a new store with the base copied"
        return f"{what}: {self.case.title}"

    def rows(self) -> list[dict[str, Any]]:
        """Return what is to be told of each contender."""
        return [self._row(contender) for contender in self.runs]

    def _row(self, contender: Contender) -> dict[str, Any]:
        runs = self.runs[contender]
        row: dict[str, Any] = {"name": contender.name, "title": contender.title_for(self.case)}
        failures = [run.failure for run in runs if run.failure]
        if failures:
            return {**row, "failure": failures[0]}
        return {
            **row,
            "seconds": median(run.seconds for run in runs),
            "least_seconds": min(run.seconds for run in runs),
            "most_seconds": max(run.seconds for run in runs),
            "peak_megabytes": median(run.peak_bytes for run in runs) / MEGABYTE,
            "at_rest_megabytes": median(run.at_rest_bytes for run in runs) / MEGABYTE,
            "to_tensorstore": self._ratio(runs, YARDSTICK),
            "to_ours": self._ratio(runs, "ours"),
            "difference": runs[0].difference,
        }

    def _ratio(self, runs: Sequence[Measurement], name: str) -> float | None:
        """Return the median over the rounds of how long a contender took for each second of another one.

        What disturbs the machine for a while disturbs both.
        """
        others = next((others for contender, others in self.runs.items() if contender.name == name), [])
        if not others or any(other.failure for other in others):
            return None
        return median(run.seconds / other.seconds for run, other in zip(runs, others, strict=True))


def as_markdown(comparisons: Sequence[Comparison], machine: str, rounds: int) -> str:
    """Return a table for each comparison, and what they were measured on."""
    tables = [_table(comparison) for comparison in comparisons]
    closing = (
        f"Medians over all rounds ({rounds}), in which the contenders took turns, each in a process of its own; "
        "ratios are medians over the rounds too. Peak memory is that of the process, of which the interpreter and the "
        "libraries held what is in brackets before the call that was timed. Differences are those of the coarsest "
        f"level from multiscale_sampler's lazy tree. Measured on {machine}."
    )
    return "\n\n".join([*tables, closing])


def _table(comparison: Comparison) -> str:
    title = comparison.title
    header = [
        title[0].upper() + title[1:],
        "seconds (least to most)",
        "to TensorStore",
        "to ours",
        "peak MB",
        "difference",
    ]
    lines = [_line(header), "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *(_line(_cells(row)) for row in comparison.rows())])


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "failure" in row:
        return [row["title"], f"fails: {row['failure']}".replace("|", "\\|"), "", "", "", ""]
    return [
        row["title"],
        f"{row['seconds']:.2f} ({row['least_seconds']:.2f} to {row['most_seconds']:.2f})",
        _times(row["to_tensorstore"]),
        _times(row["to_ours"]),
        f"{row['peak_megabytes']:.0f} ({row['at_rest_megabytes']:.0f})",
        row["difference"],
    ]


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} x"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
