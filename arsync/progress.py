"""Show a run while it goes on, in a few lines at the foot of a terminal.

Owns what is shown and how it is smoothed. `Meter` computes the lines and knows no terminal;
`LiveView` keeps them on one with rich, which is imported only when a view is made (50 ms).

Until the walk is complete there are counts and no share, bar or time left: a total that still grows
would make each of them a lie. The spinner and the clock move by the view's own thread, ten times a
second, also while nothing completes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TextIO

from arsync.figures import clock, counted, grouped, rate, size
from arsync.model import COPY_PHASE, Counts, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["LiveView", "Meter"]

_REDRAWS_PER_S: Final = 10
_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINNER_ASCII: Final = "|/-\\"
_ECHO_COLUMNS: Final = 2
"""Left free in each line: the terminal's own ^C there must not wrap, or a line is never erased."""

_SMOOTHING_S: Final = 3.0
_FILE_BYTES: Final = 65536
"""What opening and closing a file costs, in bytes that pass in the time: 50 µs at 1.3 GB/s."""
_GAP: Final = "  "
_BAR_MOST: Final = 40
_BAR_LEAST: Final = 10


class Meter:
    """Turn moments of a run into lines, with a smoothed rate and an estimate.

    Args:
        clock_s: a monotonic clock, which moves the time and the spinner between two moments.
        level: of --human-readable.
        ascii_only: the terminal's encoding has no dots and lines.
    """

    def __init__(
        self,
        clock_s: Callable[[], float] = time.monotonic,
        level: int = 1,
        *,
        ascii_only: bool = False,
    ) -> None:
        self._clock_s = clock_s
        self._level = level
        self._spinner = _SPINNER_ASCII if ascii_only else _SPINNER
        self._bar_marks = "#-" if ascii_only else "━╌"
        self._progress = Progress()
        self._seen_s = clock_s()
        self._bytes_per_s = 0.0
        self._work_per_s = 0.0

    def update(self, progress: Progress) -> None:
        """Take a moment of the run; the rates lean towards it the more, the longer it took."""
        span_s = progress.elapsed_s - self._progress.elapsed_s
        old, new = self._progress.counts, progress.counts
        self._progress, self._seen_s = progress, self._clock_s()
        if span_s <= 0:
            return
        weight = 1 - math.exp(-span_s / _SMOOTHING_S)
        if not self._work_per_s:
            weight = 1.0
        passed = _passed_bytes(new) - _passed_bytes(old)
        work = _work(new.done_files + new.checked_files, _passed_bytes(new)) - _work(
            old.done_files + old.checked_files, _passed_bytes(old)
        )
        self._bytes_per_s += weight * (passed / span_s - self._bytes_per_s)
        self._work_per_s += weight * (work / span_s - self._work_per_s)

    def lines(self, width: int) -> list[str]:
        """Return what is to be shown now, in lines of at most `width` columns."""
        rows = _flow(self._cells(), max(width, 1))
        share = self._share()
        if share is not None:
            rows.append(_bar(share, width, self._bar_marks))
        return rows

    def eta_s(self) -> float | None:
        """Return the time left; None while unknown.

        Bytes and files are one sum of work: an estimate from either alone is absurd while large
        files keep every lane busy and no small one ends, or the other way round.
        """
        if not self._progress.exact:
            return None
        counts = self._progress.counts
        left = _work(
            max(counts.plan_files - counts.done_files, 0)
            + max(counts.plan_checks - counts.checked_files, 0),
            max(counts.plan_bytes - counts.moved_bytes, 0)
            + max(counts.plan_check_bytes - counts.checked_bytes, 0),
        )
        if left and self._work_per_s < 1e-3:
            return None
        return left / self._work_per_s if left else 0.0

    def _share(self) -> float | None:
        """Return the part of the work that is done, of bytes and files in one sum."""
        counts = self._progress.counts
        planned = _work(
            counts.plan_files + counts.plan_checks, counts.plan_bytes + counts.plan_check_bytes
        )
        if not self._progress.exact or not planned:
            return None
        done = _work(
            min(counts.done_files, counts.plan_files)
            + min(counts.checked_files, counts.plan_checks),
            min(counts.moved_bytes, counts.plan_bytes)
            + min(counts.checked_bytes, counts.plan_check_bytes),
        )
        return done / planned

    def _cells(self) -> list[str]:
        elapsed_s = self._progress.elapsed_s + self._clock_s() - self._seen_s
        spinner = self._spinner[int(elapsed_s * _REDRAWS_PER_S) % len(self._spinner)]
        counts, level = self._progress.counts, self._level
        cells = [f"{spinner} {clock(math.floor(elapsed_s))}"]
        moved = size(counts.moved_bytes, level)
        if self._progress.exact:
            cells += [
                f"copied {grouped(counts.done_files, level)} "
                f"of {counted(counts.plan_files, 'file', level=level)}",
                f"{moved} of {size(counts.plan_bytes, level)}",
            ]
        else:
            cells += [
                f"found {grouped(counts.found_files, level)}, {size(counts.found_bytes, level)}",
                f"copied {counted(counts.done_files, 'file', level=level)}, {moved}",
            ]
        if counts.plan_checks:
            of_all = f" of {grouped(counts.plan_checks, level)}" if self._progress.exact else ""
            cells.append(f"compared {grouped(counts.checked_files, level)}{of_all}")
        cells.append(rate(self._bytes_per_s, level))
        if counts.in_flight:
            cells.append(f"{grouped(counts.in_flight, level)} in flight")
        if counts.failed:
            cells.append(f"{grouped(counts.failed, level)} failed")
        eta_s = self.eta_s()
        if eta_s is not None:
            cells.append(f"{clock(math.ceil(eta_s))} left")
        if self._progress.phase != COPY_PHASE:
            cells.append(self._progress.phase)
        return cells


def _passed_bytes(counts: Counts) -> int:
    """Return the bytes that were copied or compared."""
    return counts.moved_bytes + counts.checked_bytes


def _work(files: int, byte_count: int) -> int:
    return byte_count + files * _FILE_BYTES


class LiveView:
    """Keep a meter at the foot of a terminal while the `with` block runs.

    `update` and `write` may be called by any thread. Everything is erased on the way out, whatever
    the reason, and the cursor is shown again; the size is asked anew at each redraw.

    Args:
        stream: the terminal.
        level: of --human-readable.
    """

    def __init__(self, stream: TextIO, level: int = 1) -> None:
        from rich.console import Console
        from rich.live import Live

        self._lock = threading.Lock()
        self._console: Console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._meter = Meter(level=level, ascii_only=not self._console.encoding.startswith("utf"))
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=_REDRAWS_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveView:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Take a moment of the run; it is shown at the next redraw."""
        with self._lock:
            self._meter.update(progress)

    def write(self, text: str) -> None:
        """Print lines above the view; many at once cost little more than one.

        Args:
            text: whole lines, without the last newline. Names in it are escaped already.
        """
        from rich.text import Text

        encoding = self._console.encoding
        printable = text.encode(encoding, "replace").decode(encoding)
        self._console.print(Text(printable, end=""), soft_wrap=True)

    def _render(self) -> Text:
        from rich.text import Text

        with self._lock:
            lines = self._meter.lines(max(self._console.width - _ECHO_COLUMNS, 1))
        return Text("\n".join(lines), no_wrap=True, overflow="crop")


def _flow(cells: list[str], width: int) -> list[str]:
    """Fill lines with cells, as many as fit; one that is too long by itself is cut."""
    rows = [cells[0][:width]]
    for cell in cells[1:]:
        if len(rows[-1]) + len(_GAP) + len(cell) <= width:
            rows[-1] += _GAP + cell
        else:
            rows.append(cell[:width])
    return rows


def _bar(share: float, width: int, marks: str) -> str:
    """Return a bar with its share; only the share where there is no room for a bar."""
    text = f"{math.floor(share * 100):3d} %"
    columns = min(width - len(text) - 1, _BAR_MOST)
    if columns < _BAR_LEAST:
        return text.strip()[: max(width, 1)]
    done = math.floor(share * columns)
    return f"{marks[0] * done}{marks[1] * (columns - done)} {text}"
