"""What a run tells to whom: lines for people, events for programs, a log for later.

Owns the choice of what is said when. How each thing is worded is itemize.py's, report.py's,
events.py's and wording.py's. All tellers have the same four methods; each call comes from one
thread at a time, except `progress`, which has a thread of its own.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from arsync import __version__
from arsync.cli.messages import StandardOutput, say
from arsync.cli.terminal import Terminal, is_dumb, is_watched
from arsync.errors import FileError, describe
from arsync.events import EventWriter
from arsync.itemize import LineFormat, escape_name, is_shown, passed_line
from arsync.model import (
    Change,
    ChangeFlag,
    Failure,
    Keep,
    Kind,
    Problem,
    ProblemKind,
    Progress,
    Report,
    RunWarning,
    Side,
    State,
    WarningKind,
    Why,
)
from arsync.options import OutputOptions, Preserve, SyncOptions
from arsync.report import (
    FileProgress,
    file_progress_line,
    run_progress_line,
    stats_table,
    summary,
    totals,
)
from arsync.wording import problem_text, warning_text

if TYPE_CHECKING:
    from arsync.planfile.lines import PlanWriter

__all__ = ["EventTeller", "LogTeller", "PlanTeller", "Teller", "TextTeller", "keep_bits"]


class Teller(Protocol):
    """Be told of a run."""

    wants_changes: bool
    wants_progress: bool
    wants_progress_of_changes: bool

    def changes(self, changes: Sequence[Change], root: bytes) -> None:
        """Tell changed entries below a source root."""

    def problems(self, problems: Sequence[Problem], src: bytes, dst: bytes) -> None:
        """Tell what went wrong."""

    def progress(self, progress: Progress) -> None:
        """Tell where the run is."""

    def end(self, report: Report) -> None:
        """Tell the result."""


def keep_bits(preserve: Preserve) -> int:
    """Return the Keep bits of what is preserved, which decide how a change is written."""
    named = {name.lower(): bit for name, bit in Keep.__members__.items() if name != "DIRS"}
    bits = sum(bit for name, bit in named.items() if getattr(preserve, name))
    return bits | (Keep.DIRS if preserve.recursive or preserve.dirs else 0)


class TextTeller:
    """Tell people: names, a live view or rsync's progress lines, failures, a summary."""

    def __init__(self, output: OutputOptions, sync_options: SyncOptions, dst: bytes = b"") -> None:
        self._output = output
        self._dst = dst
        self._unchanged = sync_options.report_unchanged
        self._format: LineFormat | None = None
        if output.out_format is not None and not output.quiet:
            self._format = LineFormat(
                output.out_format,
                keep_bits(sync_options.preserve),
                relative=sync_options.relative,
            )
        self._watched = is_watched() and not output.quiet
        wants_view = self._watched and output.live_view
        self._live = wants_view and not is_dumb()
        self._rsync_progress = 0 if self._live or output.quiet else output.progress_level
        if wants_view and not self._live:
            self._rsync_progress = self._rsync_progress or 2  # a line is all it can draw again
        if sync_options.write.dry_run:
            self._rsync_progress = 0
        self._terminal = Terminal(live=self._live, level=output.human_readable)
        self._moment = Progress()
        self._file_count = 0
        self._told_s = time.monotonic()
        self._write = sync_options.write
        self._says_more = not output.quiet and (
            output.skip_level > 0 or output.backups or output.removals
        )
        self.wants_changes = (
            self._format is not None or self._rsync_progress == 1 or self._says_more
        )
        self.wants_progress = self._live or self._rsync_progress > 0
        self.wants_progress_of_changes = self._rsync_progress == 1

    def changes(self, changes: Sequence[Change], root: bytes) -> None:
        """Print a line for each change, and rsync's progress of each file where that is wanted."""
        if self._rsync_progress == 1:
            moment = self._moment
            to_check = moment.counts.found - moment.settled + len(changes)
            for change in changes:
                to_check -= 1
                self._terminal.lines(self._lines([change], root))
                if change.kind == Kind.DATA and is_shown(change, itemized=True):
                    self._terminal.same_line(self._file_line(change, to_check))
        else:
            self._terminal.lines(self._lines(changes, root))

    def problems(self, problems: Sequence[Problem], src: bytes, dst: bytes) -> None:
        """Print what went wrong, at once."""
        for problem in problems:
            text = problem_text(problem, src, dst)
            if text:
                self._terminal.complain(text)

    def progress(self, progress: Progress) -> None:
        """Update the view, or rsync's one line for the whole run."""
        self._moment = progress
        if self._rsync_progress == 2:
            self._terminal.same_line(run_progress_line(progress, self._output.human_readable))
        else:
            self._terminal.update(progress)

    def end(self, report: Report) -> None:
        """Take the view away and print what is wanted at the end."""
        self._terminal.close()
        level = self._output.human_readable
        if self._rsync_progress == 2:
            self._terminal.same_line(run_progress_line(self._moment, level, ended=True))
        stats_level = 0 if self._output.quiet else self._output.stats_level
        wants_summary = stats_level > 0 or (self._watched and self._output.summary)
        if not (self._watched and wants_summary):
            self._warnings(report)
        if stats_level > 0:
            table = f"\n{stats_table(report, level)}" if stats_level > 1 else ""
            self._terminal.lines([f"{table}\n{totals(report, level)}".rstrip("\n")])
        if wants_summary:
            width = shutil.get_terminal_size().columns
            self._terminal.lines([summary(report, width, level).rstrip("\n")])

    def _warnings(self, report: Report) -> None:
        if report.kept_back:
            self._terminal.complain(report.kept_back)
        for warning in report.warnings:
            if _is_told(warning, self._output):
                text = warning_text(warning, self._output.human_readable)
                self._terminal.complain(text)

    def _lines(self, changes: Sequence[Change], root: bytes) -> list[str]:
        more = self._more_lines(changes) if self._says_more else []
        return more + self._change_lines(changes, root)

    def _more_lines(self, changes: Sequence[Change]) -> list[str]:
        """Return what --info=skip, --info=backup and --info=remove say."""
        output = self._output
        lines = []
        for change in changes:
            if change.kind == Kind.NONE and output.skip_level:
                lines.append(passed_line(change, output.skip_level))
            elif change.kind == Kind.REMOVE:
                if output.removals and change.state in (State.DONE, State.PLANNED):
                    lines.append(f"sender removed {escape_name(change.path)}")
            elif change.flags & ChangeFlag.BACKED_UP and output.backups:
                name, kept = change.path, self._write.backup_name(change.path)
                lines.append(f"backed up {escape_name(name)} to {escape_name(kept)}")
        return lines

    def _change_lines(self, changes: Sequence[Change], root: bytes) -> list[str]:
        line_format = self._format
        if line_format is None:
            return []
        itemized, unchanged = line_format.itemized, self._unchanged
        new_root = changes and not changes[0].path and changes[0].why == Why.NEW
        created = [f"created directory {escape_name(self._dst.rstrip(b'/'))}"] if new_root else []
        return created + [
            line_format.line(change, root)
            for change in changes
            if is_shown(change, itemized=itemized, unchanged=unchanged)
        ]

    def _file_line(self, change: Change, to_check: int) -> str:
        now_s = time.monotonic()
        took_s, self._told_s = now_s - self._told_s, now_s
        self._file_count += 1
        progress = FileProgress(
            done_bytes=change.done_bytes,
            size=change.done_bytes,
            elapsed_s=took_s,
            number=self._file_count,
            to_check=to_check,
            total=self._moment.counts.found,
            exact=self._moment.exact,
        )
        return file_progress_line(progress, self._output.human_readable)


def _is_told(warning: RunWarning, output: OutputOptions) -> bool:
    """Tell whether a warning is printed; what the options leave out is told as rsync tells it."""
    if warning.kind is WarningKind.SKIPPED:
        return output.nonreg and not output.quiet
    if warning.kind is WarningKind.UNSAFE:
        return output.symsafe and not output.quiet
    return True


class EventTeller:
    """Tell programs: JSON events on standard output; people still get failures as messages."""

    wants_changes = True
    wants_progress = True
    wants_progress_of_changes = False

    def __init__(
        self, output: OutputOptions, options: SyncOptions, sources: Sequence[bytes], dst: bytes
    ) -> None:
        self._output = output
        self._terminal = Terminal(live=False, level=output.human_readable)
        self._events = EventWriter(StandardOutput())
        self._events.start(__version__, sources, dst, options)

    def changes(self, changes: Sequence[Change], root: bytes) -> None:  # noqa: ARG002 - a Teller
        """Write an event for each."""
        for change in changes:
            self._events.entry(change)

    def problems(self, problems: Sequence[Problem], src: bytes, dst: bytes) -> None:
        """Write an event for each failure, and the message too."""
        for problem in problems:
            root = dst if problem.side == Side.DST else src
            if problem.kind == ProblemKind.FAILED:
                path, _, op, side, error = problem
                self._events.error(Failure(path, op, error, side, root))
            elif problem.kind == ProblemKind.VANISHED:
                self._events.vanished(problem.path, root)
            text = problem_text(problem, src, dst)
            if text:
                self._terminal.complain(text)

    def progress(self, progress: Progress) -> None:
        """Write an event."""
        self._events.progress(progress)

    def end(self, report: Report) -> None:
        """Write the warnings and the summary."""
        if report.kept_back:
            self._terminal.complain(report.kept_back)
        for warning in report.warnings:
            self._events.warning(warning)
            if _is_told(warning, self._output):
                text = warning_text(warning, self._output.human_readable)
                self._terminal.complain(text)
        self._events.summary(report)


class PlanTeller:
    """Write a plan; a run that was stopped leaves one without its last line, which is none."""

    wants_changes = True
    wants_progress = False
    wants_progress_of_changes = False

    def __init__(self, writer: PlanWriter) -> None:
        self._writer = writer

    def changes(self, changes: Sequence[Change], root: bytes) -> None:
        """Write a line for each that is planned."""
        self._writer.add(changes, root)

    def problems(self, problems: Sequence[Problem], src: bytes, dst: bytes) -> None:
        """Write nothing: their number is in the last line."""

    def progress(self, progress: Progress) -> None:
        """Write nothing: a plan has no moments."""

    def end(self, report: Report) -> None:
        """Write the last line."""
        if not (report.interrupted or report.stopped):
            self._writer.end(report)


class LogTeller:
    """Append changes, failures and totals to a file, each line with time and process as rsync's.

    Args:
        path: the file; it is made when it is missing.
        text: the format of a change's line, empty for none.
    Raises: FileError where it cannot be opened. What cannot be written later is said once, and
        the copy goes on: it does not depend on its log.
    """

    wants_progress = False
    wants_progress_of_changes = False

    def __init__(self, path: bytes, text: str, options: SyncOptions) -> None:
        self._path = path
        self._format = LineFormat(
            text,
            keep_bits(options.preserve),
            option="--log-file-format",
            relative=options.relative,
        )
        self._unchanged = options.report_unchanged
        self.wants_changes = text != ""
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise FileError(describe("open the log file", path, error.errno or 0)) from None

    def changes(self, changes: Sequence[Change], root: bytes) -> None:
        """Append a line for each change."""
        itemized = self._format.itemized
        self._append(
            [
                self._format.line(change, root)
                for change in changes
                if is_shown(change, itemized=itemized, unchanged=self._unchanged)
            ]
        )

    def problems(self, problems: Sequence[Problem], src: bytes, dst: bytes) -> None:
        """Append what went wrong."""
        texts = (problem_text(problem, src, dst) for problem in problems)
        self._append([text for text in texts if text])

    def progress(self, progress: Progress) -> None:
        """Append nothing: a log has no moments."""

    def end(self, report: Report) -> None:
        """Append warnings and totals, and close the file."""
        self._append([warning_text(warning, 0) for warning in report.warnings])
        self._append([text for text in (report.kept_back, report.stopped) if text])
        self._append(totals(report, 0).splitlines())
        if self._fd >= 0:
            os.close(self._fd)

    def _append(self, lines: Sequence[str]) -> None:
        if not lines or self._fd < 0:
            return
        stamp = f"{time.strftime('%Y/%m/%d %H:%M:%S')} [{os.getpid()}] "
        text = "".join(f"{stamp}{line}\n" for line in lines)
        try:
            os.write(self._fd, text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            reason = describe("write to the log file", self._path, error.errno or 0)
            say(f"{reason}; copying goes on without it")
