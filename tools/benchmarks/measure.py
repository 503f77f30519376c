"""One run: start the command, time it to the end of the sync, keep what it printed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError, ToolFailedError
from .memory import watched

POLL_S = 0.002
# As arsync/sync.py names it in the report.
COPY_PHASE = "walk and copy"


@dataclass(frozen=True)
class Timing:
    """What one run took.

    Attributes:
        seconds: from the start until syncfs of the destination has returned; the figure of record.
        copy_seconds: until the command itself ended.
        rss_bytes: peak of the largest process of the command.
        anonymous_bytes: the same without mapped pages of files, as somebody saw it who looked
            fifty times a second; None when it was over before.
        step_seconds: the copy step as arsync's JSON summary tells it; None without one.
        first_entry_seconds: until the first copied entry was seen; None when nobody looked.
        row_bytes: of the manifest afterwards, its pages divided by its rows; None without one.
        row_file_bytes: the same of the whole file.
    """

    seconds: float
    copy_seconds: float
    user_seconds: float
    system_seconds: float
    rss_bytes: int
    step_seconds: float | None = None
    first_entry_seconds: float | None = None
    anonymous_bytes: int | None = None
    row_bytes: float | None = None
    row_file_bytes: float | None = None


class StopWatch:
    """Run commands under the `timed` program, one at a time.

    Args:
        keeps_state: what arsync remembers stays from run to run, until `forget`. Without, each
            starts without it, so that every copy is a first copy.
    """

    def __init__(self, timed: Path, work: Path, *, keeps_state: bool = False) -> None:
        self._timed = timed
        self._keeps_state = keeps_state
        self.state = work / "state"
        self._result = work / "result.json"
        self._stdout = work / "stdout"
        self._stderr = work / "stderr"

    def run(
        self, command: Sequence[str], dst_root: Path, is_started: Callable[[], bool] | None = None
    ) -> Timing:
        """Run one command and return its timing.

        Args:
            command: the program and its arguments.
            dst_root: a directory on the filesystem to sync at the end.
            is_started: polled from the start on until it is true, for `first_entry_seconds`.

        Raises:
            ToolFailedError: the command failed; the sentence ends with its last words.
            BenchError: it could not be measured at all.
        """
        if not self._keeps_state:
            self.forget()
        started = time.monotonic()
        with _poll(is_started) as seen:
            anonymous = self._execute(
                [str(self._timed), str(self._result), str(dst_root), *command]
            )
        figures = json.loads(self._result.read_text())
        if figures["exit"] != 0:
            words = self._last_words(figures["exit"])
            raise ToolFailedError(f"'{' '.join(command)}' failed: {words}")
        return Timing(
            seconds=figures["seconds"],
            copy_seconds=figures["copy_seconds"],
            user_seconds=figures["user_seconds"],
            system_seconds=figures["system_seconds"],
            rss_bytes=figures["rss_kib"] * 1024,
            step_seconds=copy_step_seconds(self._stdout.read_bytes()),
            first_entry_seconds=seen[0] - started if seen else None,
            anonymous_bytes=anonymous,
        )

    def forget(self) -> None:
        """Drop what arsync remembers."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(mode=0o700)

    def _execute(self, command: Sequence[str]) -> int | None:
        """Run a command to its end; return the peak of its anonymous memory."""
        environment = {**os.environ, "LC_ALL": "C", "ARSYNC_STATE_DIR": str(self.state)}
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
            try:
                with watched(process.pid) as memory:
                    status = process.wait()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        if status != 0:
            raise BenchError(f"'{command[0]}' failed: {self._last_words(status)}")
        return memory.peak_bytes or None

    def _last_words(self, status: int) -> str:
        lines = self._stderr.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {status}"


def copy_step_seconds(stdout: bytes) -> float | None:
    """Find the copy phase in the summary event of `arsync --json`.

    Returns:
        Its seconds, the walk and the start of the lanes included; None without such an event.
    """
    lines = stdout.splitlines()
    if not lines or not lines[-1].startswith(b"{"):
        return None
    summary = json.loads(lines[-1])
    phases = {phase["name"]: phase["seconds"] for phase in summary.get("phases", ())}
    return phases.get(COPY_PHASE)


def file_exists_below(root: Path) -> bool:
    """Tell whether any regular file exists below a root, under whatever name."""
    return _exists_below(root, lambda entry, _: entry.is_file(follow_symlinks=False))


def nested_directory_exists_below(root: Path) -> bool:
    """Tell whether a directory exists inside a directory below a root."""
    return _exists_below(root, lambda entry, depth: depth > 1 and entry.is_dir())


def _exists_below(root: Path, is_wanted: Callable[[os.DirEntry[str], int], bool]) -> bool:
    pending = [(os.fspath(root), 1)]
    while pending:
        path, depth = pending.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name == "lost+found":
                        continue
                    if is_wanted(entry, depth):
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, depth + 1))
        except FileNotFoundError:
            continue  # renamed under the reader: the next poll finds it
    return False


@contextlib.contextmanager
def _poll(condition: Callable[[], bool] | None) -> Iterator[list[float]]:
    """Poll a condition on a thread; the list holds the time when it was first true."""
    seen: list[float] = []
    ended = threading.Event()

    def look(is_true: Callable[[], bool]) -> None:
        while not ended.wait(POLL_S):
            if is_true():
                seen.append(time.monotonic())
                return

    if condition is None:
        yield seen
        return
    thread = threading.Thread(target=look, args=(condition,))
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
