"""Make an operation of the C module fail, fall short, pause or kill: what tests force.

Owns the failpoints of the process; there is one set, and one operation is armed at a time. Nothing
but tests uses it. An operation's passes are counted over all threads from the moment one is armed,
so a run of one lane and one scanning thread meets them in the same order each time.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from arsync.errors import InternalError
from arsync.model import Op
from arsync.uring._native import lib

__all__ = ["FOREVER", "Action", "Pause", "counted", "fault", "passes", "paused_at"]

FOREVER: Final = 0xFFFFFFFF
"""A `count` that no run reaches."""


class Action(enum.IntEnum):
    """Say what happens at a failpoint (AR_FAULT_*)."""

    ERROR = 1
    SHORT = 2
    PAUSE = 3
    KILL = 4
    TRACE = 5


def passes(op: Op) -> int:
    """Return how often an operation was passed since a failpoint was armed last."""
    return int(lib.ar_fault_passes(op))


@contextmanager
def fault(
    op: Op, action: Action = Action.ERROR, value: int = 0, *, skip: int = 0, count: int = 1
) -> Iterator[None]:
    """Arm one failpoint for the length of a block; it is cleared whatever happens in it.

    Args:
        op: the operation.
        action: ERROR answers the errno `value` in place of the call; SHORT lets a call that moves
            bytes move at most `value` of them; KILL sends SIGKILL to this process.
        skip: so many passes happen as usual before.
        count: so many passes in a row are hit.
    """
    _arm(op, action, value, skip, count)
    try:
        yield
    finally:
        lib.ar_fault_clear()


@contextmanager
def counted() -> Iterator[None]:
    """Count passes for the length of a block, and change nothing."""
    with fault(Op.SPOOL, Action.TRACE):
        yield


@dataclass(frozen=True)
class Pause:
    """Hold a failpoint at which threads stop."""

    op: Op

    def wait(self, timeout_s: float = 20.0) -> None:
        """Wait until a thread has stopped there.

        Raises: TimeoutError when none came.
        """
        if lib.ar_fault_wait(self.op, int(timeout_s * 1000)):
            raise TimeoutError(f"nothing came to {self.op.name} within {timeout_s} s")

    def resume(self) -> None:
        """Let every thread go on that has stopped there."""
        lib.ar_fault_resume()


@contextmanager
def paused_at(op: Op, *, skip: int = 0, count: int = 1) -> Iterator[Pause]:
    """Stop each thread that comes to an operation, for the length of a block at most.

    The caller must not be the thread that is stopped. The end of the block lets all go on.

    Args:
        skip: so many passes happen as usual before.
        count: so many passes in a row are hit.
    """
    _arm(op, Action.PAUSE, 0, skip, count)
    try:
        yield Pause(op)
    finally:
        lib.ar_fault_clear()


def _arm(op: Op, action: Action, value: int, skip: int, count: int) -> None:
    result = lib.ar_fault_set(op, skip, count, action, value)
    if result:
        raise InternalError(f"no failpoint {op!r} with {action!r}: {result}")
