"""Watch how much anonymous memory a process and those below it hold, pages of files left out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

INTERVAL_S = 0.02


class Memory:
    """Hold the highest figure seen so far.

    Args:
        pid: of the process whose children are looked at.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak_bytes = 0

    def look(self) -> None:
        """Look at each process below once; the largest counts."""
        found = (anonymous_bytes(child) for child in _below(self._pid))
        self.peak_bytes = max(self.peak_bytes, *found, 0)


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Memory]:
    """Look at the processes below one from a thread, fifty times a second."""
    memory = Memory(pid)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL_S):
            memory.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def anonymous_bytes(pid: int) -> int:
    """Return a process's anonymous memory; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def _below(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        children = [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return children + [deeper for child in children for deeper in _below(child)]
