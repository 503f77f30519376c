"""Where the lines of a run go: above a live view on a terminal, or straight to standard output.

Owns the moment at which a view appears, and that lines of several threads do not mix with it. What
the view shows is progress.py's.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

from arsync.cli.messages import flush_told, say, tell
from arsync.errors import escaped
from arsync.model import Progress
from arsync.progress import LiveView

__all__ = ["Terminal", "is_dumb", "is_watched"]

VIEW_AFTER_S = 0.3
"""A run that ends sooner needs no view, and need not import rich (50 ms)."""


def is_watched() -> bool:
    """Tell whether somebody sits at standard output."""
    return sys.stdout.isatty()


def is_dumb() -> bool:
    """Tell whether the terminal cannot move its cursor up, as Emacs's shell and some consoles."""
    return os.environ.get("TERM", "").lower() in ("", "dumb", "unknown")


class Terminal:
    """Write lines and messages, above a live view where there is one.

    Args:
        live: show a view on standard output once the run takes that long.
        level: of --human-readable.
    """

    def __init__(self, *, live: bool, level: int) -> None:
        self._live = live
        self._level = level
        self._lock = threading.Lock()
        self._view: LiveView | None = None

    def update(self, progress: Progress) -> None:
        """Show a moment of the run, in a view that appears when the run is long enough."""
        with self._lock:
            if not self._live or progress.elapsed_s < VIEW_AFTER_S:
                return
            if self._view is None:
                self._view = LiveView(sys.stdout, self._level).__enter__()
            self._view.update(progress)

    def lines(self, lines: Sequence[str]) -> None:
        """Print whole lines, given without their newlines, in one go."""
        with self._lock:
            if not lines:
                return
            if self._view:
                self._view.write("\n".join(lines))
            else:
                tell("\n".join(lines) + "\n")

    def same_line(self, text: str) -> None:
        r"""Print text that begins with `\r` and may lack its newline, at once."""
        with self._lock:
            tell(text)
            flush_told()

    def complain(self, text: str) -> None:
        """Print a message, on standard error unless a view shares the terminal with it."""
        with self._lock:
            if self._view and sys.stderr.isatty():
                self._view.write(f"arsync: {escaped(text)}")
            else:
                say(text)

    def close(self) -> None:
        """Take the view away; what comes after it is written straight."""
        with self._lock:
            self._live = False
            if self._view:
                self._view.__exit__(None, None, None)
                self._view = None
