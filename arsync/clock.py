"""Measure how long phases take, and call somebody ten times a second.

Owns the pace of progress. It must not know what is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from arsync.model import PhaseTime

__all__ = ["Ticker", "Timer"]

_PROGRESS_S: Final = 0.1


class Timer:
    """Note how long a phase took."""

    def __init__(self, name: str, phases: list[PhaseTime]) -> None:
        self._name = name
        self._phases = phases

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        self._phases.append(PhaseTime(self._name, time.monotonic() - self._start))


class Ticker:
    """Call something ten times a second, and once more at the end; hand on what it raises."""

    def __init__(self, call: Callable[[], None], fail: Callable[[BaseException], None]) -> None:
        self._call = call
        self._fail = fail
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="arsync-progress")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tick(self) -> None:
        try:
            while not self._ended.wait(_PROGRESS_S):
                self._call()
            self._call()
        except BaseException as error:
            self._fail(error)
