"""The live view: what it shows when, and that a terminal is left as it was found."""

from __future__ import annotations

import fcntl
import io
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.model import COPY_PHASE, Counts, Progress
from arsync.progress import LiveView, Meter

ROOT = Path(__file__).resolve().parents[2]

HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


class Clock:
    """Be a clock that is set by hand."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def moment(
    elapsed_s: float, *, exact: bool = False, phase: str = COPY_PHASE, **counts: int
) -> Progress:
    """Return a moment of a run."""
    return Progress(counts=Counts(**counts), elapsed_s=elapsed_s, exact=exact, phase=phase)


def shown(meter: Meter, width: int = 200) -> str:
    """Return the lines of a meter as one text."""
    return "\n".join(meter.lines(width))


def test_no_share_before_the_walk_is_complete() -> None:
    """Until then there are counts: no percentage, no bar, no time left."""
    meter = Meter(Clock())
    counts = {"found_files": 9000, "found_bytes": 10**9, "plan_files": 500, "plan_bytes": 10**8}
    meter.update(moment(1.0, done_files=100, moved_bytes=10**7, in_flight=12, **counts))
    text = shown(meter)
    assert "found 9,000, 1.00 GB" in text
    assert "copied 100 files, 10.0 MB" in text
    assert "12 in flight" in text
    assert "%" not in text
    assert "left" not in text
    assert meter.eta_s() is None


def test_exact_totals_bring_share_and_estimate() -> None:
    """Then the totals are those of the plan, and the estimate uses files and bytes."""
    meter = Meter(Clock())
    plan = {"plan_files": 1000, "plan_bytes": 10**9}
    meter.update(moment(10.0, exact=True, done_files=100, moved_bytes=5 * 10**8, **plan))
    text = shown(meter)
    assert "copied 100 of 1,000 files" in text
    assert "500 MB of 1.00 GB" in text
    assert "50.0 MB/s" in text
    assert meter.eta_s() == pytest.approx(11.04, abs=0.01)  # bytes alone say 10, files alone 90
    assert "0:12 left" in text
    assert "47 %" in text


def test_comparing_is_work() -> None:
    """What -c reads counts in rate, share and time left, beside what is copied."""
    meter = Meter(Clock())
    plan = {"plan_checks": 1000, "plan_check_bytes": 9 * 10**8}
    meter.update(moment(5.0, checked_files=50, checked_bytes=10**8, **plan))
    assert "compared 50  " in shown(meter)
    plan |= {"plan_files": 1, "plan_bytes": 10**8}
    done = {"checked_files": 500, "checked_bytes": 4 * 10**8, "done_files": 1}
    meter.update(moment(10.0, exact=True, moved_bytes=10**8, **done, **plan))
    text = shown(meter)
    assert "copied 1 of 1 file" in text
    assert "compared 500 of 1,000" in text
    assert "50 %" in text
    assert meter.eta_s() == pytest.approx(7.24, abs=0.01)


def test_large_files_before_many_small_ones_do_not_spoil_the_estimate() -> None:
    """No file has ended yet, then one did: bytes alone move, and the estimate stays in seconds."""
    meter = Meter(Clock())
    plan = {"plan_files": 20_008, "plan_bytes": 1_600_000_000 + 20_000}
    for second in range(1, 4):
        done = {"done_files": second // 3, "moved_bytes": 366_000_000 * second}
        meter.update(moment(second, exact=True, **plan, **done))
        eta_s = meter.eta_s()
        assert eta_s is not None
        assert 4 < eta_s < 10


def test_estimate_of_nothing_left_is_zero() -> None:
    """At the end nothing is left, and a share is never past 100 %."""
    meter = Meter(Clock())
    done = {"plan_files": 2, "plan_bytes": 10, "done_files": 2, "moved_bytes": 11}
    meter.update(moment(1.0, exact=True, **done))
    assert meter.eta_s() == 0
    assert "100 %" in shown(meter)


def test_no_estimate_without_a_rate() -> None:
    """A run that has moved nothing yet does not say when it ends."""
    meter = Meter(Clock())
    meter.update(moment(1.0, exact=True, plan_files=5, plan_bytes=100))
    assert meter.eta_s() is None
    assert "left" not in shown(meter)


def test_a_plan_of_nothing_has_no_bar() -> None:
    """Where nothing is to be copied there is no share of it."""
    meter = Meter(Clock())
    meter.update(moment(1.0, exact=True, found_files=5))
    assert "%" not in shown(meter)


def test_empty_files_have_a_share_too() -> None:
    """Without bytes the files alone say how far it is."""
    meter = Meter(Clock())
    meter.update(moment(1.0, exact=True, plan_files=4, done_files=1))
    assert "25 %" in shown(meter)


def test_rate_is_smoothed() -> None:
    """A pause of a tenth of a second moves it little, a long one much."""
    meter = Meter(Clock())
    meter.update(moment(1.0, moved_bytes=100_000_000))
    meter.update(moment(1.1, moved_bytes=100_000_000))
    assert "96.7 MB/s" in shown(meter)
    meter.update(moment(11.1, moved_bytes=100_000_000))
    assert "3.45 MB/s" in shown(meter)


def test_a_moment_seen_twice_changes_no_rate() -> None:
    """Two moments without time between them are no division by zero."""
    meter = Meter(Clock())
    meter.update(moment(1.0, moved_bytes=5_000_000))
    meter.update(moment(1.0, moved_bytes=6_000_000))
    assert "6.00 MB, " in shown(meter).replace("  ", ", ")
    assert "5.00 MB/s" in shown(meter)


def test_never_silent_while_nothing_completes() -> None:
    """Clock and spinner move without any news."""
    clock = Clock()
    meter = Meter(clock)
    meter.update(moment(5.0))
    first = meter.lines(80)
    clock.now_s += 0.1
    assert meter.lines(80) != first
    clock.now_s += 61
    assert "1:06" in shown(meter)


def test_failures_and_phase_are_shown() -> None:
    """What needs attention is there while it runs."""
    meter = Meter(Clock())
    meter.update(moment(1.0, failed=3, phase="hard links"))
    assert "3 failed" in shown(meter)
    assert shown(meter).endswith("hard links")
    meter.update(moment(1.0))
    assert "walk and copy" not in shown(meter)


def test_terminals_without_unicode_get_ascii() -> None:
    """Spinner and bar are plain where the encoding has no others."""
    meter = Meter(Clock(), ascii_only=True)
    meter.update(moment(1.0, exact=True, plan_files=4, done_files=1))
    assert shown(meter).isascii()


@given(
    width=st.integers(1, 200),
    numbers=st.lists(st.sampled_from([0, 1, 12345, 10**12, 2**64 - 1]), min_size=23, max_size=23),
    exact=st.booleans(),
)
def test_lines_fit_any_width(width: int, numbers: list[int], exact: bool) -> None:
    """However narrow the terminal and large the numbers."""
    meter = Meter(Clock())
    meter.update(moment(1e6, exact=exact, **dict(zip(vars(Counts()), numbers, strict=False))))
    lines = meter.lines(width)
    assert all(0 < len(line) <= width for line in lines)


# ------------------------------------------------------------------------- a terminal

SCRIPT = """
import signal, sys
from arsync.model import Counts, Progress
from arsync.progress import LiveView

with LiveView(sys.stdout) as view:
    view.update(Progress(counts=Counts(found_files=7), elapsed_s=1.0))
    view.write("a line [bold]above[/bold] \\udcff it\\nand another")
    print("ready", file=sys.stderr, flush=True)
    {body}
print("after")
"""

WAIT = "sys.stdin.readline()"


class Terminal:
    """Hold a child on a pseudo-terminal of its own, and what it has written."""

    def __init__(self, child: subprocess.Popen[bytes], fd: int) -> None:
        self.child = child
        self.fd = fd
        self.output = b""

    def read_until(self, wanted: bytes, within_s: float = 20.0) -> None:
        """Read until something was written."""
        end_s = time.monotonic() + within_s
        while wanted not in self.output:
            left_s = end_s - time.monotonic()
            assert left_s > 0, f"no {wanted!r} in {self.output!r}"
            if select.select([self.fd], [], [], left_s)[0]:
                self.output += os.read(self.fd, 65536)

    def resize(self, columns: int) -> None:
        """Make the terminal as wide as that, and say so as a terminal does."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.child.send_signal(signal.SIGWINCH)

    def finish(self) -> None:
        """Let the child go on, read the rest and wait for its end."""
        if self.child.poll() is None:
            os.write(self.fd, b"\n")
        try:
            while chunk := os.read(self.fd, 65536):
                self.output += chunk
        except OSError:  # EIO: the other end is closed
            pass
        self.child.wait(timeout=20)


@contextmanager
def on_terminal(body: str, **environment: str) -> Iterator[Terminal]:
    """Run the script with a view on a terminal of 80 columns."""
    fd, child_fd = os.openpty()
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    unset = ("COLUMNS", "LINES", "NO_COLOR")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body=body)],
        stdin=child_fd,
        stdout=child_fd,
        stderr=child_fd,
        cwd=ROOT,
        env={**inherited, "TERM": "xterm", "PYTHONUTF8": "1", **environment},
    )
    os.close(child_fd)
    try:
        yield Terminal(child, fd)
    finally:
        child.kill()
        child.wait()
        os.close(fd)


def test_view_is_erased_and_the_cursor_comes_back() -> None:
    """At the end only the lines above remain."""
    with on_terminal(WAIT) as terminal:
        terminal.read_until(b"found 7")
        terminal.finish()
        output = terminal.output
    assert terminal.child.returncode == 0
    assert output.count(HIDE_CURSOR) == output.count(SHOW_CURSOR) == 1
    assert b"a line [bold]above[/bold] ? it\r\nand another" in output
    assert b"found 7" in output
    tail = output[output.rindex(SHOW_CURSOR) :]
    assert b"\x1b[2K" in tail
    assert b"found 7" not in tail
    assert tail.endswith(b"after\r\n")


def test_spinner_moves_while_the_program_is_busy() -> None:
    """The view's own thread redraws at least each half second."""
    with on_terminal("while True: sum(range(1000))") as terminal:
        for frame in "⠋⠙⠹⠸":
            terminal.read_until(frame.encode(), within_s=10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cursor_comes_back_after_a_signal(number: signal.Signals) -> None:
    """Whatever ends the block, the terminal is as it was."""
    body = "signal.signal(15, signal.default_int_handler); print('set', flush=True); " + WAIT
    with on_terminal(body) as terminal:
        terminal.read_until(b"set")
        terminal.child.send_signal(number)
        terminal.finish()
    assert terminal.child.returncode != 0
    assert b"KeyboardInterrupt" in terminal.output
    assert terminal.output.count(SHOW_CURSOR) == 1


def test_view_follows_a_terminal_that_gets_narrow() -> None:
    """After SIGWINCH no line of the view is wider than the terminal."""
    with on_terminal(WAIT) as terminal:
        terminal.read_until(b"ready")
        terminal.read_until(b"found 7")
        terminal.resize(40)
        terminal.output = b""
        terminal.read_until(b"\ncopied 0 files")
    frame = terminal.output.decode(errors="replace").split("\x1b[2K")[-1]
    assert all(len(line.strip("\r")) <= 40 for line in frame.split("\n"))


def test_no_control_sequences_on_a_dumb_terminal() -> None:
    """A terminal that knows none gets the lines alone."""
    with on_terminal(WAIT, TERM="dumb") as terminal:
        terminal.read_until(b"ready")
        terminal.finish()
    assert b"\x1b[2K" not in terminal.output
    assert b"a line [bold]above" in terminal.output


def test_many_lines_at_once_are_written_whole() -> None:
    """A batch of names is one write, in order."""

    class Screen(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    screen = Screen()
    names = [f"name-{number}" for number in range(500)]
    with LiveView(screen) as view:
        view.write("\n".join(names))
    assert "\n".join(names) in screen.getvalue()
