"""Runs as pictures (SVG): times of all cases in one, memory and first entry in another."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .copy_cases import Case
from .runs import Run, Spread, spread
from .targets import TARGETS, Target

REFERENCE_WORDS = {
    "rsync -a": "rsync",
    "cp -a": "cp",
    "cp --reflink": "cp",
    "floor, 1 thread": "1 thread",
    "arsync, 1 lane": "1 lane",
    "rsync -ac": "rsync",
    "rsync -a --delete": "rsync",
    "rsync --inplace": "--inplace",
    "arsync --no-manifest": "--no-manifest",
}
COLOURS = {"rsync": "#8c8c8c", "cp": "#b5a642", "floor": "#7fa8c9", "arsync": "#c8502d"}
TARGET_COLOUR = "#222222"
PANEL_WIDTH_IN = 6.4
ROW_HEIGHT_IN = 0.42
FRAME_HEIGHT_IN = 1.2
# How much longer than the longest whisker an axis is, for the text beside the bars.
TEXT_ROOM = 1.75
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "svg.hashsalt": "arsync",
}


def have_matplotlib() -> bool:
    """Tell whether plots can be drawn, after installing matplotlib into a virtual environment.

    Outside a virtual environment nothing is installed.
    """
    if importlib.util.find_spec("matplotlib") is None and sys.prefix != sys.base_prefix:
        command = [sys.executable, "-m", "pip", "install", "--quiet", *_requirements()]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        importlib.invalidate_caches()
    return importlib.util.find_spec("matplotlib") is not None


def _requirements() -> list[str]:
    """Return what the extra `bench` of pyproject.toml names, as the checkout was installed."""
    named = (one.partition(";") for one in importlib.metadata.requires("arsync") or ())
    return [requirement for requirement, _, marker in named if '"bench"' in marker]


def draw_times(cases: Sequence[Case], runs: Sequence[Run], path: Path) -> bool:
    """Draw a panel a case: a bar a tool, whiskers from minimum to maximum, ratios beside.

    Returns:
        Whether there was anything to draw.
    """
    cases = [case for case in cases if case.is_started is None and _runs_of(runs, case)]
    if not cases:
        return False
    figure, panels = _figure([len(_tools(case, _runs_of(runs, case))) for case in cases])
    for case, axes in zip(cases, panels, strict=True):
        _draw_case(axes, case, _runs_of(runs, case))
    _save(figure, path)
    return True


def draw_memory(cases: Sequence[Case], runs: Sequence[Run], path: Path) -> bool:
    """Draw peak memory and the time to the first entry of the memory cases.

    Returns:
        Whether there was anything to draw.
    """
    cases = [case for case in cases if case.is_started is not None and _runs_of(runs, case)]
    if not cases:
        return False
    heights = [len(_tools(case, _runs_of(runs, case))) for case in cases for _ in range(2)]
    figure, panels = _figure(heights)
    for at, case in enumerate(cases):
        chosen = _runs_of(runs, case)
        source = chosen[0].source
        count = int(source["files"]) or int(source["entries"]) - 1
        title = f"{count:,} {case.title}"
        _draw_metric(panels[2 * at], case, chosen, "rss_bytes")
        _entitle(panels[2 * at], title, "peak memory of the largest process")
        _draw_metric(panels[2 * at + 1], case, chosen, "first_entry_seconds")
        _entitle(panels[2 * at + 1], "", "from the start to the first entry at the destination")
    _save(figure, path)
    return True


def _figure(rows: Sequence[int]) -> tuple[Any, list[Any]]:
    """Make a figure of panels in two columns, each row as high as its bars need."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    matplotlib.rcParams.update(STYLE)
    columns = min(2, len(rows))
    lines = [max(rows[at : at + columns]) for at in range(0, len(rows), columns)]
    heights = [FRAME_HEIGHT_IN + ROW_HEIGHT_IN * line for line in lines]
    figure, grid = pyplot.subplots(
        len(lines),
        columns,
        figsize=(PANEL_WIDTH_IN * columns, sum(heights)),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    panels = list(grid.flat)
    for unused in panels[len(rows) :]:
        unused.set_visible(False)
    return figure, panels[: len(rows)]


def _draw_case(axes: Any, case: Case, runs: Sequence[Run]) -> None:
    spreads = _spreads(case, runs, "seconds")
    _draw_bars(axes, spreads, case.statistic)
    _mark_runs(axes, runs, list(spreads))
    steps = _spreads(case, runs, "step_seconds") if case.group == "reflink" else {}
    for at, (tool, values) in enumerate(spreads.items()):
        text = _seconds(values.of(case.statistic)) + _ratios(case, tool, spreads)
        if tool in steps:
            text += f"\ncopy step {steps[tool].median * 1000:.1f} ms"
        _annotate(axes, at, values.high, text)
    _mark_target(axes, case, spreads)
    first = runs[0]
    files, size = int(first.source["files"]), int(first.source["bytes"]) / 1e9
    plural = "" if files == 1 else "s"
    _entitle(axes, case.title, f"{files:,} file{plural}, {size:.2f} GB, {first.filesystem}")
    which = "minimum" if case.statistic == "min" else "median"
    axes.set_xlabel(f"seconds, sync included (bar: {which}, whisker: min to max, dots: runs)")
    axes.set_xlim(0, max(values.high for values in spreads.values()) * TEXT_ROOM)


def _draw_metric(axes: Any, case: Case, runs: Sequence[Run], metric: str) -> None:
    scale, unit = (1e-6, "MB") if metric == "rss_bytes" else (1.0, "s")
    spreads = {
        tool: Spread(values.low * scale, values.median * scale, values.high * scale)
        for tool, values in _spreads(case, runs, metric).items()
    }
    if not spreads:
        axes.set_visible(False)
        return
    _draw_bars(axes, spreads, "median")
    for at, values in enumerate(spreads.values()):
        _annotate(axes, at, values.high, f"{values.median:,.{0 if unit == 'MB' else 2}f} {unit}")
    limits = [target.limit * scale for target in _targets(case, metric)]
    for limit in limits:
        axes.axvline(limit, color=TARGET_COLOUR, linestyle="--", linewidth=1)
        label = f"target {limit:g} {unit}"
        axes.annotate(
            label,
            (limit, 1),
            (3, 1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8,
            va="top",
        )
    axes.set_xlabel("MB (10^6 bytes)" if unit == "MB" else "seconds")
    axes.set_xlim(0, max([values.high for values in spreads.values()] + limits) * 1.3)


def _entitle(axes: Any, title: str, subtitle: str) -> None:
    axes.set_title(title, pad=20)
    axes.annotate(
        subtitle,
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color="#555555",
    )


def _draw_bars(axes: Any, spreads: dict[str, Spread], statistic: str) -> None:
    values = [spread.of(statistic) for spread in spreads.values()]
    below = [max(0.0, value - s.low) for value, s in zip(values, spreads.values(), strict=True)]
    above = [max(0.0, s.high - value) for value, s in zip(values, spreads.values(), strict=True)]
    places = range(len(values))
    colours = [_colour(tool) for tool in spreads]
    axes.barh(places, values, height=0.62, color=colours, zorder=2)
    if any(below) or any(above):
        axes.errorbar(
            values,
            places,
            xerr=[below, above],
            fmt="none",
            ecolor="#333333",
            elinewidth=1,
            capsize=3,
            zorder=3,
        )
    axes.set_yticks(places, list(spreads))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(values) - 0.1, -0.6)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)


def _mark_runs(axes: Any, runs: Sequence[Run], tools: list[str]) -> None:
    places = [tools.index(run.tool) for run in runs]
    axes.plot(
        [run.timing.seconds for run in runs],
        places,
        ".",
        color="#333333",
        markersize=3,
        alpha=0.6,
        zorder=4,
    )


def _mark_target(axes: Any, case: Case, spreads: dict[str, Spread]) -> None:
    """Draw a line on each of arsync's bars where the strictest of its targets lies."""
    limits: dict[str, float] = {}
    for target in _targets(case, "seconds"):
        if target.per in spreads and target.tool in spreads and not target.is_least:
            limit = target.limit * spreads[target.per].of(case.statistic)
            limits[target.tool] = min(limit, limits.get(target.tool, limit))
    for tool, limit in limits.items():
        _mark_limit(axes, list(spreads).index(tool), limit)


def _mark_limit(axes: Any, at: int, limit: float) -> None:
    axes.plot([limit] * 2, [at - 0.45, at + 0.45], color=TARGET_COLOUR, linewidth=2, zorder=5)
    axes.annotate(
        "target",
        (limit, at + 0.45),
        (0, -1),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        annotation_clip=False,
    )


def _annotate(axes: Any, at: int, x: float, text: str) -> None:
    axes.annotate(text, (x, at), (6, 0), textcoords="offset points", va="center", fontsize=8.5)


def _ratios(case: Case, tool: str, spreads: dict[str, Spread]) -> str:
    """Say how a tool compares with the references: of lanes, only with its own program."""
    parts = []
    for reference in case.references[:2]:
        is_kin = case.group != "lanes" or _program(reference) == _program(tool)
        if reference in spreads and reference != tool and is_kin:
            ratio = spreads[tool].of(case.statistic) / spreads[reference].of(case.statistic)
            parts.append(f"{ratio:.2f} of {REFERENCE_WORDS[reference]}")
    return f"   {', '.join(parts)}" if parts else ""


def _targets(case: Case, metric: str) -> list[Target]:
    return [target for target in TARGETS if target.case == case.name and target.metric == metric]


def _spreads(case: Case, runs: Sequence[Run], metric: str) -> dict[str, Spread]:
    found = {
        tool: spread((run for run in runs if run.tool == tool), metric)
        for tool in _tools(case, runs)
    }
    return {tool: values for tool, values in found.items() if values is not None}


def _runs_of(runs: Sequence[Run], case: Case) -> list[Run]:
    return [run for run in runs if run.case == case.name and not run.discarded]


def _tools(case: Case, runs: Sequence[Run]) -> list[str]:
    """Name the tools that were measured, in the order of the case."""
    measured = {run.tool for run in runs}
    return [tool.name for tool in case.tools if tool.name in measured]


def _colour(tool: str) -> str:
    return COLOURS[_program(tool)]


def _program(tool: str) -> str:
    return tool.replace(",", " ").split()[0]


def _seconds(value: float) -> str:
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
