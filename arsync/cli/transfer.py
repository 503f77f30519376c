"""Run a sync for the command line: who is told of it, signals, the exit code.

Owns the wiring of arsync.sync to the tellers. It is imported only when there is something to copy,
since it brings the compiled module with it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from arsync.cli.fold import Folded
from arsync.cli.messages import flush_told, say
from arsync.cli.tellers import EventTeller, LogTeller, Teller, TextTeller
from arsync.errors import ArsyncError, FileError, Interrupted
from arsync.listener import Listener
from arsync.model import Change, Kind, Problem, Progress, Report, Why
from arsync.stop import Stop
from arsync.sync import sync

__all__ = ["transfer"]


def transfer(
    sources: Sequence[str],
    dst: str,
    folded: Folded,
    also: Teller | None = None,
    *,
    removals: bool = False,
) -> int:
    """Make DST equal SRC and tell of it.

    Args:
        also: hears of it too, with what was seen of each entry.
        removals: a dry run tells what would leave the source, too.
    Returns: the exit code of the report.
    Raises: whatever ends the run, after what was done until then has been told.
    """
    named = [os.fsencode(source) for source in sources]
    tellers = _tellers(named, os.fsencode(dst), folded)
    audience = _Audience(tellers, also, removals=removals)
    stop = Stop()
    with _signals(stop):
        try:
            report = sync(named, dst, folded.sync, listener=audience.listener(), stop=stop)
        except (ArsyncError, Interrupted) as error:
            if isinstance(error.report, Report):
                audience.end(error.report)
            raise
        audience.end(report)
    return report.exit_code


def _tellers(sources: Sequence[bytes], dst: bytes, folded: Folded) -> list[Teller]:
    output = folded.output
    tellers: list[Teller] = []
    if output.log_file is not None:
        try:
            tellers.append(LogTeller(output.log_file, output.log_format, folded.sync))
        except FileError as error:
            say(f"{error}; copying goes on without it")
    if output.json:
        tellers.append(EventTeller(output, folded.sync, sources, dst))
    else:
        tellers.append(TextTeller(output, folded.sync, dst))
    return tellers


class _Audience:
    """Pass on to every teller what one listener hears."""

    def __init__(self, tellers: Sequence[Teller], also: Teller | None, *, removals: bool) -> None:
        self._removals = removals
        self._tellers = [*tellers, also] if also else tellers
        self._also = also

    def listener(self) -> Listener:
        """Return a listener that hears no more than somebody wants."""
        return Listener(
            changes=self._changes if any(one.wants_changes for one in self._tellers) else None,
            problems=self._problems,
            progress=self._progress if any(one.wants_progress for one in self._tellers) else None,
            progress_of_changes=any(one.wants_progress_of_changes for one in self._tellers),
            stats=self._also is not None,
            removals=self._removals,
        )

    def end(self, report: Report) -> None:
        """Tell everybody the result."""
        for teller in self._tellers:
            teller.end(report)
        flush_told()

    def _changes(self, changes: Iterator[Change], src: bytes = b"") -> None:
        batch = list(changes)
        told = [one for one in batch if not _is_displaced(one)] if self._also else batch
        for teller in self._tellers:
            if teller.wants_changes:
                teller.changes(batch if teller is self._also else told, src)

    def _problems(self, problems: Sequence[Problem], src: bytes, dst: bytes) -> None:
        for teller in self._tellers:
            teller.problems(problems, src, dst)

    def _progress(self, progress: Progress) -> None:
        for teller in self._tellers:
            if teller.wants_progress:
                teller.progress(progress)


def _is_displaced(change: Change) -> bool:
    """Tell whether a change comes only with what was seen; rsync has no line for it."""
    return change.kind == Kind.DELETE and change.why == Why.TYPE


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end a run; a second one of any kind ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if seen:
            _end_at_once()
        seen.append(number)
        stop.request()

    kinds = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    # nohup and a shell's background jobs have some of them ignored, and mean it.
    taken = [kind for kind in kinds if signal.getsignal(kind) is not signal.SIG_IGN]
    before = {kind: signal.signal(kind, interrupt) for kind in taken}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _end_at_once() -> None:
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # a live view has hidden the cursor
    os._exit(Interrupted.exit_code)
