"""Runs as tables: one text, which is Markdown and fits a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .copy_cases import CASES as COPY_CASES
from .copy_cases import COLD, Case
from .machine import Machine
from .resync_cases import CASES as RESYNC_CASES
from .runs import Run, Spread, spread
from .targets import TARGETS, Verdict, judge

WIDTH = 80
# A warm run that reads more than this part of its source from the device was not warm.
COLD_SHARE = 0.01
# From a second and this part of one core on, what others computed meanwhile is worth a remark.
OTHERS_SHARE = 0.05

REFERENCE_WORDS = {
    "rsync -a": "rsync",
    "cp -a": "cp",
    "cp --reflink": "cp",
    "floor": "floor",
    "floor, 1 thread": "floor 1",
    "arsync, 1 lane": "arsync 1",
    "rsync -ac": "rsync",
    "rsync -a --delete": "rsync",
    "rsync --inplace": "inplace",
    "arsync --no-manifest": "without",
}
# Columns that a table has where they are judged: the head, the figure, its unit and digits.
MORE_COLUMNS = (
    ("B/row", "row_bytes", 1, 0),
    ("in file", "row_file_bytes", 1, 0),
)

COPY_METHOD = (
    "Each run copies to a freshly made filesystem on a loop device whose image lies on tmpfs "
    "and was written once before; the source is on another one, mounted read-only. Times run "
    "from the start of the command to the end of a syncfs of the destination. The tools run in "
    "turn, the order turned round each round, the first round not counted. Ratios are ratios of "
    "medians (one big file: of minima). Cold means sync and drop_caches before the run; a loop "
    "device on tmpfs has no seek latency, so cold figures are those of a very fast disk. MB is "
    "the peak memory (10^6 bytes) of a tool's largest process. `floor` is plain C that makes "
    "only the necessary calls, on two threads."
)


RESYNC_METHOD = (
    "Each tool has a destination of its own, made before by the same tool, untimed. The source is "
    "edited before each round, or before each run where the destination is made anew for it; then "
    "the tools run in turn, the order turned round each round, the first round not counted. "
    "Filesystems are on loop devices whose images lie on tmpfs, and so does what arsync remembers. "
    "Caches are warm. Times run from the start of the command to the end of a syncfs of the "
    "destination; ratios are ratios of medians. `own MB` is the peak memory (10^6 bytes) of a "
    "tool's largest process without mapped pages of files, such as arsync's manifest. B/row is "
    "the manifest's pages, `in file` its whole file, divided by its rows: two for a file, one for "
    "each side."
)


@dataclass(frozen=True)
class Subject:
    """Say what a command measures, and how."""

    command: str
    method: str
    cases: Sequence[Case]


COPY = Subject("copy", COPY_METHOD, COPY_CASES)
RESYNC = Subject("resync", RESYNC_METHOD, RESYNC_CASES)


@dataclass(frozen=True)
class Header:
    """What is said above the tables."""

    machine: Machine
    versions: Mapping[str, str]
    date: str
    remarks: Sequence[str]


def write_report(
    subject: Subject, header: Header, runs: Sequence[Run], plots: Sequence[Path] = ()
) -> str:
    """Write the report of a session as Markdown.

    Args:
        plots: the pictures, named relative to where the report will lie.
    """
    parts = [f"# tools/bench {subject.command}", _header_text(subject, header)]
    parts += [f"![{plot.stem}]({plot})" for plot in plots]
    cases = [case for case in subject.cases if _of_case(runs, case)]
    parts += [_case_text(case, _of_case(runs, case)) for case in cases]
    verdicts = judge(runs)
    if verdicts:
        parts.append("## Targets\n\n" + _verdict_table(verdicts))
    return "\n\n".join(parts) + "\n"


def _header_text(subject: Subject, header: Header) -> str:
    versions = (f"{name}: {version}" for name, version in header.versions.items())
    lines = [f"{header.date}. {header.machine.sentence()}. {'; '.join(versions)}."]
    lines.append(subject.method)
    return "\n\n".join(_wrap(line) for line in [*lines, *header.remarks])


def _case_text(case: Case, runs: Sequence[Run]) -> str:
    first = runs[0]
    source = first.source
    size = f"{int(source['bytes']) / 1e9:.2f} GB"
    counted = len({run.round for run in runs})
    facts = (
        f"{source['files']:,} files, {source['entries']:,} entries, {size}; {first.filesystem}; "
        f"rounds counted: {counted}."
    )
    lines = [f"## {case.name}: {case.title}", _wrap(facts), _case_table(case, runs)]
    lines += [_wrap(remark) for remark in _remarks(case, runs)]
    return "\n\n".join(lines)


def _case_table(case: Case, runs: Sequence[Run]) -> str:
    times = {tool: spread(_of_tool(runs, tool), "seconds") for tool in _tools(case, runs)}
    known = {tool: time for tool, time in times.items() if time is not None}
    references = [name for name in case.references if name in known]
    # Tables of the memory cases have two columns more and one round, so no span.
    is_memory = case.is_started is not None
    head = ["tool", f"{'min' if case.statistic == 'min' else 'median'} s"]
    head += [] if is_memory else ["min to max"]
    head += [f"/ {REFERENCE_WORDS[name]}" for name in references]
    is_resync = case in RESYNC_CASES
    head += ["own MB" if is_resync else "MB"] + (["first s"] if is_memory else [])
    head += ["step ms"] if case.group == "reflink" else []
    more = [column for column in MORE_COLUMNS if _is_judged(case, column[1])]
    head += [column[0] for column in more]
    rows = []
    for tool, time in known.items():
        row = [tool, _seconds(time.of(case.statistic))]
        row += [] if is_memory else [f"{_seconds(time.low)} to {_seconds(time.high)}"]
        row += [_ratio(time, known[name], case.statistic) for name in references]
        memory = "anonymous_bytes" if is_resync else "rss_bytes"
        row += [_figure(runs, tool, memory, 1e-6, 0)]
        row += [_figure(runs, tool, "first_entry_seconds", 1, 2)] if is_memory else []
        row += [_figure(runs, tool, "step_seconds", 1e3, 1)] if case.group == "reflink" else []
        row += [_figure(runs, tool, *column[1:]) for column in more]
        rows.append(row)
    return _table(head, rows)


def _remarks(case: Case, runs: Sequence[Run]) -> list[str]:
    remarks = []
    elapsed = sum(run.timing.seconds for run in runs)
    others = sum(run.others_seconds for run in runs)
    if others > max(1.0, OTHERS_SHARE * elapsed):
        remarks.append(
            f"Not alone: other programs computed for {others:.0f} s while these runs took "
            f"{elapsed:.0f} s. Trust the ratios little and the seconds less."
        )
    limit = int(runs[0].source["bytes"]) * COLD_SHARE
    read = max(run.source_read_bytes for run in runs)
    # Without data there is no share to hold against; a million inodes take half a gigabyte.
    if case.state != COLD and 0 < limit < read:
        remarks.append(f"Not warm: one of these runs read {read / 1e6:.0f} MB from the device.")
    return remarks


def _verdict_table(verdicts: Sequence[Verdict]) -> str:
    rows = [
        [verdict.target.case, verdict.target.sentence(), verdict.figure, verdict.word]
        for verdict in verdicts
    ]
    return _table(["case", "target", "measured", "verdict"], rows, left=(0, 1, 3))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rules = (
        "-" * (width + 2) if at in left else "-" * (width + 1) + ":"
        for at, width in enumerate(widths)
    )
    return "\n".join([line(head), f"|{'|'.join(rules)}|", *map(line, rows)])


def _is_judged(case: Case, metric: str) -> bool:
    return any(target.case == case.name and target.metric == metric for target in TARGETS)


def _figure(runs: Sequence[Run], tool: str, metric: str, factor: float, digits: int) -> str:
    found = spread(_of_tool(runs, tool), metric)
    return "-" if found is None else f"{found.median * factor:,.{digits}f}"


def _ratio(time: Spread, reference: Spread, statistic: str) -> str:
    return f"{time.of(statistic) / reference.of(statistic):.2f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _of_case(runs: Sequence[Run], case: Case) -> list[Run]:
    return [run for run in runs if run.case == case.name and not run.discarded]


def _of_tool(runs: Sequence[Run], tool: str) -> list[Run]:
    return [run for run in runs if run.tool == tool]


def _tools(case: Case, runs: Sequence[Run]) -> list[str]:
    """Name the tools that were measured, in the order of the case."""
    measured = {run.tool for run in runs}
    return [tool.name for tool in case.tools if tool.name in measured]


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)
