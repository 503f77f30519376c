"""End a run from outside: from another thread, or from the handler of a signal.

Owns the request and the thread that waits for it. A KeyboardInterrupt is raised wherever Python
happens to be: half-way through a lock, or in the callback of a weak reference, where it is lost.
A request is never lost, and the run ends at places of its own choice.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

__all__ = ["Stop", "ctrl_c"]


class Stop:
    """Ask one run to end: give it to `sync`, and call `request` when it is enough."""

    def __init__(self) -> None:
        # Of what Python has to wake a thread with, only this may be used in a signal's handler.
        self._requests: SimpleQueue[bool] = SimpleQueue()

    def request(self) -> None:
        """Have the run end what it has in flight; `sync` then raises Interrupted.

        It may be called at any time, before the run too, and from a signal's handler.
        """
        self._requests.put(True)

    @contextmanager
    def heard_by(self, act: Callable[[], None]) -> Iterator[None]:
        """Call `act` once, from a thread of its own, when somebody has made the request."""

        def listen() -> None:
            if self._requests.get():
                act()

        listener = threading.Thread(target=listen, name="arsync-stop", daemon=True)
        listener.start()
        try:
            yield
        finally:
            self._requests.put(False)
            listener.join()


@contextmanager
def ctrl_c(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C make the request, unless it has been given another meaning than Python's own."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.request()

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
