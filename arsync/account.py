"""Count what a run finds and does, and tell whoever listens.

Owns the figures of a run, from its start to its report, and what its listener hears. It must not
know in which order anything is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from arsync.clock import Timer
from arsync.consequences import FailedDirectories
from arsync.errors import ArsyncError, Interrupted
from arsync.execute import Lanes
from arsync.listener import Listener
from arsync.model import (
    Counts,
    PhaseTime,
    Problem,
    ProblemKind,
    Progress,
    Report,
    count_found,
    sum_tallies,
)
from arsync.options import SyncOptions
from arsync.plan import Phase, Unit
from arsync.report import ReportBuilder
from arsync.settings import EngineChoice
from arsync.uring import Batch, Tally

__all__ = ["Account"]


class Account:
    """Hold what a run has found and done so far.

    Args:
        options: of the run.
        listener: hears of changes and problems.
        progress: hears how far the run is.
    """

    def __init__(
        self,
        options: SyncOptions,
        listener: Listener,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._options = options
        self._listener = listener
        self._progress = progress
        self._report = ReportBuilder()
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._found = Tally()
        self._settled = 0
        self._executed = Counts()
        self._lanes: Lanes | None = None
        self._phases: list[PhaseTime] = []
        self._failed_directories = FailedDirectories()
        self._src = b""
        self._dst = b""
        self.exact = False  # nothing more will be found
        self.phase = Phase.COPY
        self.had_read_errors = False  # of a source
        self.kept_back = ""  # why nothing was deleted
        self.manifest_note = ""

    def roots(self, *, src: bytes | None = None, dst: bytes | None = None) -> None:
        """Say which roots the paths are below from now on, as the user wrote them."""
        self._src = self._src if src is None else src
        self._dst = self._dst if dst is None else dst

    def timed(self, name: str) -> Timer:
        """Return what notes how long a phase takes."""
        return Timer(name, self._phases)

    # ------------------------------------------------------------- what is counted

    def count_found(self, batch: Batch) -> None:
        """Count what the walk found in a batch."""
        self._found.add(batch.tally)

    def count_extras(self, extras: Tally) -> None:
        """Count what will be deleted."""
        self._found.add(extras.raw[0])

    def begin_lanes(self, lanes: Lanes) -> None:
        """Count what these lanes do, too, until `end_lanes`."""
        with self._lock:
            self._lanes = lanes

    def end_lanes(self, lanes: Lanes) -> None:
        """Keep the sums of lanes that have finished."""
        with self._lock:
            self._executed = sum_tallies([self._executed, lanes.counts()])
            self._lanes = None

    def counts(self) -> Counts:
        """Return the sums as they are at this moment."""
        with self._lock:
            lanes = [self._lanes.counts()] if self._lanes else []
            return sum_tallies([self._found.raw, self._executed, *lanes])

    # ---------------------------------------------------------------- what is told

    def tell_unit(self, unit: Unit) -> None:
        """Count and tell the outcome of a unit; one thread at a time."""
        batch = unit.batch
        if batch.problem_count:
            problems = self._failed_directories.without_consequences(batch.problems())
            self.tell_problems(problems)
        if unit.phase is Phase.COPY:
            self._settled += count_found(batch.tally)
        if self._listener.changes and unit.phase is not Phase.FINISH:
            if self._listener.progress_of_changes and not self._options.write.dry_run:
                self.tell_progress()
            self._listener.changes(
                batch.changes(
                    unchanged=self._options.report_unchanged,
                    passed=self._options.report_passed,
                    stats=self._listener.stats,
                ),
                self._src,
            )

    def tell_problems(self, problems: Sequence[Problem]) -> None:
        """Report problems of entries below the roots."""
        self._tell(problems, self._src, self._dst)

    def tell_operands(self, problems: Sequence[Problem]) -> None:
        """Report problems of operands; their paths are whole."""
        self._tell(problems, b"", b"")
        self.had_read_errors = any(one.kind == ProblemKind.FAILED for one in problems)

    def _tell(self, problems: Sequence[Problem], src: bytes, dst: bytes) -> None:
        self._report.add_problems(problems, src, dst)
        if self._listener.problems:
            self._listener.problems(problems, src, dst)

    def tell_progress(self) -> None:
        """Say how far the run is, where somebody listens."""
        if self._progress:
            self._progress(
                Progress(
                    counts=self.counts(),
                    settled=self._settled,
                    elapsed_s=time.monotonic() - self._start,
                    exact=self.exact,
                    phase=self.phase.value,
                )
            )

    def report(
        self, engine: EngineChoice, ended_by: ArsyncError | Interrupted | None = None
    ) -> Report:
        """Return the report as it would be if the run ended now.

        Args:
            engine: which the run took.
            ended_by: what ends it early.
        """
        stopped = ended_by if isinstance(ended_by, ArsyncError) else None
        end = Report(
            counts=self.counts(),
            elapsed_s=time.monotonic() - self._start,
            phases=tuple(self._phases),
            engine="uring" if engine.ring else "sync",
            engine_note=engine.note,
            manifest_note=self.manifest_note,
            lanes=engine.lanes,
            kept_back=self.kept_back,
            stopped=str(stopped) if stopped else "",
            stopped_code=stopped.exit_code if stopped else 0,
            interrupted=isinstance(ended_by, Interrupted),
            dry_run=self._options.write.dry_run,
        )
        return self._report.finish(end)
