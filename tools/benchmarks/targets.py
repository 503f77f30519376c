"""What arsync has to reach: the one table, and the judgement over measured runs.

The limits are those of the project's wish list. They are never moved to fit a measurement: a figure
that is not reached is reported as missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .runs import Run, spread


@dataclass(frozen=True)
class Target:
    """One figure of one tool, alone or divided by the same figure of another tool.

    Attributes:
        metric: the field of `Timing` that is judged.
        per: the tool it is divided by; None for the figure itself.
        is_least: the limit is the least, not the most.
        statistic: `median` of the counted rounds, or their `min`.
    """

    case: str
    tool: str
    limit: float
    per: str | None = None
    metric: str = "seconds"
    is_least: bool = False
    statistic: str = "median"

    def sentence(self) -> str:
        """Say the target as people read it."""
        what = WORDS[self.metric] if self.per is None else self._quotient()
        relation = ">=" if self.is_least else "<="
        return f"{what} {relation} {self.shown(self.limit)}"

    def _quotient(self) -> str:
        """Name both tools, without the program where it is the same."""
        program = f"{self.tool.partition(',')[0]}, "
        per = str(self.per)
        if per.startswith(program):
            return f"{self.tool.removeprefix(program)} / {per.removeprefix(program)}"
        return f"{self.tool} / {per}"

    def shown(self, value: float) -> str:
        """Write a value in the unit of the metric."""
        if self.per is not None:
            return f"{value:.2f}"
        if self.metric in ("rss_bytes", "anonymous_bytes"):
            return f"{value / 1e6:.0f} MB"
        if self.metric in ("row_bytes", "row_file_bytes"):
            return f"{value:.0f} B"
        return f"{value * 1000:.1f} ms" if self.metric == "step_seconds" else f"{value:.2f} s"


WORDS = {
    "seconds": "time",
    "step_seconds": "copy step",
    "rss_bytes": "peak memory",
    "first_entry_seconds": "first entry",
    "anonymous_bytes": "peak anonymous memory",
    "row_bytes": "manifest a row",
    "row_file_bytes": "its file a row",
}

TARGETS = (
    Target("warm", "arsync", 0.50, per="rsync -a"),
    Target("warm", "arsync", 0.65, per="cp -a"),
    Target("warm", "arsync", 1.15, per="floor"),
    Target("cold", "arsync", 0.38, per="rsync -a"),
    Target("big", "arsync", 0.30, per="rsync -a", statistic="min"),
    Target("big", "arsync", 1.00, per="cp -a", statistic="min"),
    Target("reflink", "arsync --json", 0.010, metric="step_seconds"),
    Target("lanes", "arsync, 1 lane", 1.6, per="arsync, 2 lanes", is_least=True),
    Target("memory-one-dir", "arsync", 150e6, metric="rss_bytes"),
    Target("memory-spread", "arsync", 150e6, metric="rss_bytes"),
    Target("memory-dirs", "arsync", 150e6, metric="rss_bytes"),
    Target("memory-one-dir", "arsync", 1.0, metric="first_entry_seconds"),
    Target("memory-spread", "arsync", 1.0, metric="first_entry_seconds"),
    Target("memory-dirs", "arsync", 1.0, metric="first_entry_seconds"),
    Target("noop-million", "arsync", 0.45, per="rsync -a"),
    Target("noop-million", "arsync --trust-dst", 0.25, per="rsync -a"),
    Target("noop-million", "arsync", 150e6, metric="anonymous_bytes"),
    Target("noop-million", "arsync", 140, metric="row_bytes"),
    Target("noop-million", "arsync", 220, metric="row_file_bytes"),
    Target("noop", "arsync", 140, metric="row_bytes"),
    Target("noop", "arsync", 220, metric="row_file_bytes"),
    Target("changed", "arsync", 0.50, per="rsync -a"),
    Target("renamed", "arsync --delete", 0.05, per="rsync -a --delete"),
    Target("checksum", "arsync -c", 0.20, per="rsync -ac"),
    Target("first", "arsync", 1.05, per="arsync --no-manifest"),
)


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured; `measured` is None where the runs do not have it."""

    target: Target
    measured: float | None

    @property
    def word(self) -> str:
        """Say `reached`, `missed` or `not measured`."""
        if self.measured is None:
            return "not measured"
        limit = self.target.limit
        good = self.measured >= limit if self.target.is_least else self.measured <= limit
        return "reached" if good else "missed"

    @property
    def figure(self) -> str:
        """Write what was measured in the target's unit."""
        return "-" if self.measured is None else self.target.shown(self.measured)


def judge(runs: Sequence[Run]) -> list[Verdict]:
    """Hold the runs against the targets of the cases among them."""
    cases = {run.case for run in runs}
    return [Verdict(target, _measure(target, runs)) for target in TARGETS if target.case in cases]


def _measure(target: Target, runs: Sequence[Run]) -> float | None:
    value = _figure(target, target.tool, runs)
    if target.per is None or value is None:
        return value
    reference = _figure(target, target.per, runs)
    return value / reference if reference else None


def _figure(target: Target, tool: str, runs: Iterable[Run]) -> float | None:
    chosen = (run for run in runs if run.case == target.case and run.tool == tool)
    found = spread(chosen, target.metric)
    return None if found is None else found.of(target.statistic)
