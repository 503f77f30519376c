"""Gather the outcome of a run and write it: the summary, rsync's --stats, rsync's progress lines.

Owns how many failures are kept, and every text about a run as a whole; the sentence about one file
is wording.py's. It returns strings and prints nothing.
"""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from arsync.errors import escaped
from arsync.figures import counted, grouped, human, rate, seconds, size
from arsync.model import (
    Failure,
    Problem,
    ProblemKind,
    Progress,
    Report,
    RunWarning,
    Side,
    WarningKind,
)
from arsync.wording import failure_text, vanished_text, warning_kind, warning_text

__all__ = [
    "KEPT_FAILURES",
    "FileProgress",
    "ReportBuilder",
    "file_progress_line",
    "run_progress_line",
    "stats_table",
    "summary",
    "totals",
]

KEPT_FAILURES: Final = 1000
"""How many failures, and how many vanished paths, a report holds; the others are counted."""

_LABEL_COLUMNS: Final = 11
_NARROWEST: Final = 30
_NAME_CHARS: Final = 60
_TYPES: Final = ("reg", "dir", "link", "dev", "special")
_GLUE: Final = "\x1f"
"""A blank that no line is broken at; no text holds it, since control characters are escaped."""


class ReportBuilder:
    """Gather problems while a run goes on, and make the report at its end.

    Any thread may add.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: list[Failure] = []
        self._failure_count = 0
        self._vanished: list[bytes] = []
        self._vanished_count = 0
        self._warnings: dict[WarningKind, RunWarning] = {}

    def add_problems(self, problems: Iterable[Problem], src: bytes = b"", dst: bytes = b"") -> None:
        """Add the problems of a batch.

        Args:
            src, dst: the roots as the user wrote them; failures then name the whole path.
        """
        with self._lock:
            for problem in problems:
                if problem.kind == ProblemKind.FAILED:
                    root = dst if problem.side == Side.DST else src
                    path, _, op, side, errno = problem
                    self._add_failure(Failure(path, op, errno, side, root))
                elif problem.kind == ProblemKind.VANISHED:
                    self._add_vanished(problem.path)
                else:
                    self._add_warning(problem)

    def finish(self, end: Report) -> Report:
        """Return the report.

        Args:
            end: what only the end of the run knows: counts, times, engine, what stopped it.
        """
        with self._lock:
            return replace(
                end,
                failures=tuple(self._failures),
                failure_count=self._failure_count,
                vanished=tuple(self._vanished),
                vanished_count=self._vanished_count,
                warnings=tuple(self._warnings.values()),
            )

    def _add_failure(self, failure: Failure) -> None:
        self._failure_count += 1
        if len(self._failures) < KEPT_FAILURES:
            self._failures.append(failure)

    def _add_vanished(self, path: bytes) -> None:
        self._vanished_count += 1
        if len(self._vanished) < KEPT_FAILURES:
            self._vanished.append(path)

    def _add_warning(self, problem: Problem) -> None:
        kind = warning_kind(problem)
        before = self._warnings.get(kind)
        self._warnings[kind] = (
            RunWarning(kind, before.count + 1, before.first, before.errno)
            if before
            else RunWarning(kind, 1, problem.path, problem.errno)
        )


# ------------------------------------------------------------------- the summary


def summary(report: Report, width: int = 80, level: int = 1) -> str:
    """Return what a person reads at the end of a run, in one glance.

    Args:
        width: columns of the terminal; narrower than 30 counts as 30.
        level: of --human-readable.
    Returns: lines that each end in a newline.
    """
    rows = [("", _headline(report, level)), *_details(report, level), *_troubles(report, level)]
    return "".join(_row(label, text, max(width, _NARROWEST)) for label, text in rows if text)


def _headline(report: Report, level: int) -> str:
    files = counted(report.copied_files, "file", level=level)
    done = f"{files}, {size(report.copied_bytes, level)}"
    if report.dry_run:
        return f"would copy {done} (dry run, {seconds(report.elapsed_s)})"
    text = f"copied {done} in {seconds(report.elapsed_s)}"
    if report.copied_bytes:
        text += f", {rate(report.bytes_per_s, level)}"
    if report.interrupted:
        return f"interrupted: {text}"
    return f"stopped: {text}" if report.stopped else text


def _details(report: Report, level: int) -> list[tuple[str, str]]:
    counts = report.counts
    again = [
        f"{counted(number, noun, level=level)} {what} again"
        for number, noun, what in (
            (counts.retries, "operation", "tried"),
            (counts.rereads, "file", "read"),
        )
        if number
    ]
    entries = counted(counts.found, "entry", "entries", level=level)
    found = f"{entries}, {size(counts.found_bytes, level)}"
    return [
        ("also", _others(report, level)),
        ("compared", _compared(report, level)),
        ("deleted", _deletions(report, level)),
        ("found", found),
        ("engine", _engine(report, level)),
        ("again", ", ".join(again)),
    ]


def _others(report: Report, level: int) -> str:
    counts = report.counts
    if report.dry_run:
        specials = counts.new_devices + counts.new_specials
        numbers = [
            counts.new_dirs,
            counts.new_symlinks,
            specials,
            0,
            counts.plan_moves,
            counts.plan_clones,
            counts.plan_metas,
        ]
    else:
        numbers = [
            counts.done_dirs,
            counts.done_symlinks,
            counts.done_specials,
            counts.done_links,
            counts.done_moves,
            counts.done_clones,
            counts.done_metas,
        ]
    nouns = (
        ("directory", "directories"),
        ("symlink", "symlinks"),
        ("special file", "special files"),
        ("hard link", "hard links"),
        ("rename", "renames"),
        ("clone of a renamed file", "clones of renamed files"),
        ("change of attributes", "changes of attributes"),
    )
    parts = [
        counted(number, *noun, level=level)
        for number, noun in zip(numbers, nouns, strict=True)
        if number
    ]
    if counts.hole_bytes:
        parts.append(f"{size(counts.hole_bytes, level)} of holes kept")
    if counts.matched_bytes:
        parts.append(f"{size(counts.matched_bytes, level)} shared with old files")
    return ", ".join(map(_glued, parts))


def _deletions(report: Report, level: int) -> str:
    number = _deleted(report)
    return counted(sum(number), "entry", "entries", level=level) if any(number) else ""


def _deleted(report: Report) -> tuple[int, int, int, int, int]:
    """Return how many files, directories, symlinks, devices and others went, or would go."""
    counts = report.counts
    if report.dry_run:
        return (
            counts.extra_files,
            counts.extra_dirs,
            counts.extra_symlinks,
            counts.extra_devices,
            counts.extra_specials,
        )
    return (
        counts.deleted_files,
        counts.deleted_dirs,
        counts.deleted_symlinks,
        counts.deleted_devices,
        counts.deleted_specials,
    )


def _compared(report: Report, level: int) -> str:
    counts = report.counts
    if not counts.checked_files:
        return ""
    files = counted(counts.checked_files, "file", level=level)
    return f"{files} of equal size, {size(counts.checked_bytes, level)}"


def _engine(report: Report, level: int) -> str:
    parts = [f"{report.engine}, {counted(report.lanes, 'lane')}"]
    parts += [
        f"{use.method.name.lower()} {counted(use.files, 'file', level=level)} "
        f"({size(use.bytes, level)})"
        for use in report.methods
    ]
    parts = [_glued(part) for part in parts]
    if report.engine_note:
        parts.append(escaped(report.engine_note))
    return "; ".join(parts)


def _troubles(report: Report, level: int) -> list[tuple[str, str]]:
    rows = [("warning", warning_text(_with_short_name(one), level)) for one in report.warnings]
    if report.manifest_note:
        rows.append(("manifest", escaped(report.manifest_note)))
    if report.vanished_count:
        rows.append(("vanished", _vanished(report, level)))
    if report.failure_count:
        rows.append(("failed", _failed(report, level)))
    if report.kept_back:
        rows.append(("kept", escaped(report.kept_back)))
    if report.stopped:
        rows.append(("stopped", escaped(report.stopped)))
    return rows


def _vanished(report: Report, level: int) -> str:
    text = counted(report.vanished_count, "entry", "entries", level=level)
    return f"{text}, first {vanished_text(_short(report.vanished[0])).partition(': ')[2]}"


def _failed(report: Report, level: int) -> str:
    first = report.failures[0]
    first = first._replace(path=_short(first.path), root=_short(first.root))
    text = counted(report.failure_count, "entry", "entries", level=level)
    return f"{text}, first: {failure_text(first)}"


def _with_short_name(warning: RunWarning) -> RunWarning:
    return RunWarning(warning.kind, warning.count, _short(warning.first), warning.errno)


def _short(name: bytes) -> bytes:
    """Cut the middle out of a long name; the whole one stands where it is told first."""
    if len(name) <= _NAME_CHARS:
        return name
    half = _NAME_CHARS // 2
    head = name[:half].decode("utf-8", "ignore").encode()
    tail = name[-half:].decode("utf-8", "ignore").encode()
    return head + b"..." + tail


def _row(label: str, text: str, width: int) -> str:
    """Return a labelled line, broken so that it fits, continued below the text."""
    first = f"  {label}".ljust(_LABEL_COLUMNS) if label else ""
    return (
        textwrap.fill(
            text,
            width,
            initial_indent=first,
            subsequent_indent=" " * max(len(first), 2),
            break_on_hyphens=False,
        ).replace(_GLUE, " ")
        + "\n"
    )


def _glued(part: str) -> str:
    return part.replace(" ", _GLUE)


# ----------------------------------------------------------------- as rsync says it


def stats_table(report: Report, level: int = 1) -> str:
    """Return what --stats prints, in rsync's words where arsync has the number.

    There is no file list that is sent.

    Args:
        level: of --human-readable.
    Source: rsync(1), --stats.
    """
    counts = report.counts
    found = (
        counts.found_files,
        counts.found_dirs,
        counts.found_symlinks,
        counts.found_devices,
        counts.found_specials,
    )
    made = (
        counts.new_files,
        counts.new_dirs,
        counts.new_symlinks,
        counts.new_devices,
        counts.new_specials,
    )
    read, shared = _read_and_shared(report)
    literal = 0 if report.dry_run else read
    whole = counts.plan_bytes if report.dry_run else sum(counts.method_bytes)  # with holes
    lines = [
        f"Number of files: {_by_type(found, level)}",
        f"Number of created files: {_by_type(made, level)}",
        f"Number of deleted files: {_by_type(_deleted(report), level)}",
        f"Number of regular files transferred: {grouped(report.copied_files, level)}",
        f"Total file size: {human(counts.found_bytes, level)} bytes",
        f"Total transferred file size: {human(whole, level)} bytes",
        f"Literal data: {human(literal, level)} bytes",
        f"Matched data: {human(shared, level)} bytes",
        *_renamed_lines(report, level),
        *_compared_lines(report, level),
        *(f"Time of {escaped(name)}: {took:.3f} seconds" for name, took in report.phases),
        f"Total bytes sent: {human(read, level)}",
        "Total bytes received: 0",
    ]
    return "".join(f"{line}\n" for line in lines)


def _renamed_lines(report: Report, level: int) -> list[str]:
    numbers = (("renamed", report.renames), ("cloned", report.clones))
    return [f"Number of {how} files: {grouped(count, level)}" for how, count in numbers if count]


def _compared_lines(report: Report, level: int) -> list[str]:
    counts = report.counts
    if not counts.checked_files:
        return []
    return [
        f"Number of regular files compared: {grouped(counts.checked_files, level)}",
        f"Total compared file size: {human(counts.checked_bytes, level)} bytes",
    ]


def totals(report: Report, level: int = 1) -> str:
    """Return the two lines that end rsync's -v.

    Args:
        level: of --human-readable.
    """
    read, _ = _read_and_shared(report)
    found = report.counts.found_bytes
    per_s = read / report.elapsed_s if report.elapsed_s > 0 else 0.0
    speedup = found / read if read else 0.0
    dry = " (DRY RUN)" if report.dry_run else ""
    return (
        f"sent {human(read, level)} bytes  received 0 bytes  {_decimal(per_s, level)} bytes/sec\n"
        f"total size is {human(found, level)}  speedup is {_decimal(speedup, min(level, 1))}{dry}\n"
    )


def _read_and_shared(report: Report) -> tuple[int, int]:
    """Return the bytes that were moved, holes too, and those that are shared or were there."""
    if report.dry_run:
        return report.copied_bytes, 0  # what a run would move
    shared = sum(use.bytes for use in report.methods if use.method.name == "REFLINK")
    shared += report.counts.matched_bytes
    return sum(report.counts.method_bytes) - shared, shared


def _by_type(numbers: Sequence[int], level: int) -> str:
    parts = [
        f"{name}: {grouped(number, level)}"
        for name, number in zip(_TYPES, numbers, strict=True)
        if number
    ]
    whole = grouped(sum(numbers), level)
    return f"{whole} ({', '.join(parts)})" if parts else whole


def _decimal(number: float, level: int) -> str:
    """Write a number with two decimals, as rsync's comma_dnum and human_dnum do."""
    if level > 1 and number >= {2: 1000, 3: 1024}[level]:
        return human(int(number), level)
    return f"{number:.2f}" if level == 0 else f"{number:,.2f}"


@dataclass(frozen=True, kw_only=True)
class FileProgress:
    """Hold what rsync's --progress says of one file.

    Args:
        done_bytes, size: of the file.
        elapsed_s: it took so far.
        number: how many files are transferred, this one included.
        to_check, total: entries not looked at yet, and all that are known.
        exact: the walk is complete.
        ended: the file is complete.
    """

    done_bytes: int
    size: int
    elapsed_s: float
    number: int
    to_check: int
    total: int
    exact: bool = True
    ended: bool = True


def file_progress_line(progress: FileProgress, level: int = 1) -> str:
    r"""Return the line of --progress for one file, from its `\r` to its newline when it ended."""
    percent = 100
    if progress.done_bytes != progress.size:
        percent = int(100 * progress.done_bytes / progress.size) if progress.size else 0
    per_s = progress.done_bytes / progress.elapsed_s if progress.elapsed_s > 0 else 0.0
    left_s = (progress.size - progress.done_bytes) / per_s if per_s else 0.0
    shown_s = progress.elapsed_s if progress.ended else left_s
    text = (
        f"\r{human(progress.done_bytes, level):>15} {percent:3d}% {_rsync_rate(per_s)} "
        f"{_rsync_clock(shown_s)}"
    )
    if not progress.ended:
        return text + "  "
    check = "to" if progress.exact else "ir"
    return f"{text} (xfr#{progress.number}, {check}-chk={progress.to_check}/{progress.total})\n"


def run_progress_line(progress: Progress, level: int = 1, *, ended: bool = False) -> str:
    r"""Return the line of --info=progress2, from its `\r` on; with a newline at the end of the run.

    Until the walk is complete the share is of what was found so far, and says ir-chk, as rsync's.
    """
    counts = progress.counts
    total = counts.found
    line = file_progress_line(
        FileProgress(
            done_bytes=counts.moved_bytes,
            size=max(counts.plan_bytes, counts.moved_bytes),
            elapsed_s=progress.elapsed_s,
            number=counts.done_files,
            to_check=0 if ended else total - progress.settled,
            total=total,
            exact=progress.exact,
        ),
        level,
    )
    return line if ended else line.rstrip("\n")


def _rsync_rate(per_s: float) -> str:
    value, unit = per_s / 1024, "kB/s"
    for larger in ("MB/s", "GB/s"):
        if value <= 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:7.2f}{unit}"


def _rsync_clock(shown_s: float) -> str:
    if shown_s < 0 or shown_s > 9999 * 3600:
        return "  ??:??:??"
    minutes, second = divmod(int(shown_s), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:4d}:{minute:02d}:{second:02d}"
