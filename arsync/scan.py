"""Walk a source root, and the destination beside it, into batches of compared directories.

Owns the frontier of the walk: what is still to be scanned, and how many threads do it. The frontier
holds batches and positions in them, never one entry a directory, so it stays small however wide a
directory is. What happens to a batch is its receiver's business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from arsync.diff import diff
from arsync.errors import InternalError
from arsync.uring.batch import Batch
from arsync.uring.rules import Rules
from arsync.uring.scanner import GiantDirectory, OutOfDescriptors, Scanner

__all__ = ["Chain", "Named", "Start", "Walk", "Whole"]

# Directories that one call takes at most; fewer while there are few, so that all threads have some.
_TAKE_AT_MOST: Final = 128
_SCARCE_PAUSE_S: Final = 0.01


@dataclass(frozen=True)
class Whole:
    """Start at the root directory itself."""


@dataclass(frozen=True)
class Named:
    """Start at some names of a directory.

    Args:
        path: the directory, below both roots.
        names: in it; one that is missing is a problem of the batch.
        alias: what the only name is called at the destination.
    """

    path: bytes
    names: tuple[bytes, ...]
    alias: bytes | None = None


@dataclass(frozen=True)
class Chain:
    """Start below directories that are made on the way, as -R has it.

    Args:
        above: names of directories, each in the one before, the first in the root; each is made
            at the destination with its attributes, and nothing else in it is looked at.
        end: what is walked, in the last one.
    """

    above: tuple[bytes, ...]
    end: Named


Start = Whole | Named | Chain


@dataclass(frozen=True)
class _End:
    parent: Batch
    start: Named


@dataclass(frozen=True)
class _Children:
    parent: Batch
    first: int
    count: int


@dataclass(frozen=True)
class _Rest:
    parent: Batch
    giant: GiantDirectory


_Task = Whole | Named | Chain | _End | _Children | _Rest

Receiver = Callable[[Batch, Batch | None], None]
"""Take a compared batch, and the batch whose directories must be there before its own."""


class Walk:
    """Scan and compare everything below two roots, several directories at a time.

    A batch is given to the receiver before any directory below it is scanned; the receiver may
    block, which holds the walk back.

    Args:
        scanner: of the two roots.
        rules: what decides equality.
        starts: where to begin, one after the other.
        new_batch: gives an empty batch.
        receive: gets each batch, from any of the walk's threads.
    """

    def __init__(
        self,
        scanner: Scanner,
        rules: Rules,
        starts: Sequence[Start],
        new_batch: Callable[[], Batch],
        receive: Receiver,
    ) -> None:
        self._scanner = scanner
        self._rules = rules
        self._new_batch = new_batch
        self._receive = receive
        self._changed = threading.Condition()
        self._frontier: list[_Task] = list(reversed(starts))
        self._busy = 0
        self._threads = 1
        self._stopped = False

    def run(self) -> None:
        """Work until the frontier is empty; call it on each thread of the walk.

        Raises: OutOfMemoryError, and whatever the receiver raises; the other threads then stop.
        """
        try:
            while (task := self._take()) is not None:
                try:
                    self._scan(task)
                finally:
                    self._end_one()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Make every thread return after the batch that it is at."""
        with self._changed:
            self._stopped = True
            self._frontier.clear()
            self._changed.notify_all()

    def count_thread(self, threads: int) -> None:
        """Say how many threads will call `run`, so that each gets a share."""
        self._threads = threads

    def _take(self) -> _Task | None:
        with self._changed:
            while not self._frontier:
                if not self._busy or self._stopped:
                    self._changed.notify_all()
                    return None
                self._changed.wait()
            self._busy += 1
            task = self._frontier.pop()
            if not isinstance(task, _Children):
                return task
            share = max(1, min(_TAKE_AT_MOST, task.count // (2 * self._threads)))
            if share < task.count:
                rest = _Children(task.parent, task.first + share, task.count - share)
                self._frontier.append(rest)
                self._changed.notify()
            return _Children(task.parent, task.first, share)

    def _end_one(self) -> None:
        with self._changed:
            self._busy -= 1
            if not self._busy:
                self._changed.notify_all()

    def _push(self, *tasks: _Task) -> None:
        with self._changed:
            if not self._stopped:
                self._frontier.extend(tasks)
                self._changed.notify(len(tasks))

    def _scan(self, task: _Task) -> None:
        if isinstance(task, Chain):
            self._scan_chain(task)
            return
        parent = task.parent if isinstance(task, _Children | _Rest | _End) else None
        batch, rest = self._scan_one(task, parent)
        if rest is not None:
            self._push(rest)
        if batch.child_count:
            self._push(_Children(batch, 0, batch.child_count))

    def _scan_one(self, task: _Task, parent: Batch | None) -> tuple[Batch, _Task | None]:
        """Scan, compare and hand over one batch; return it and what is left of the task."""
        batch = self._new_batch()
        rest = self._patiently(task, batch)
        diff(batch, self._rules)
        self._receive(batch, parent)
        return batch, rest

    def _scan_chain(self, chain: Chain) -> None:
        parent: Batch | None = None
        for depth, name in enumerate(chain.above):
            step = Named(b"/".join(chain.above[:depth]), (name,))
            batch, _ = self._scan_one(step, parent)
            if not batch.child_count:
                return
            batch.make_children_shallow()
            parent, _ = self._scan_one(_Children(batch, 0, 1), batch)
        if parent:
            self._push(_End(parent, chain.end))

    def _patiently(self, task: _Task, batch: Batch) -> _Task | None:
        """Fill the batch; where descriptors run out, wait for lanes to give some back."""
        while True:
            try:
                return self._fill(task, batch)
            except OutOfDescriptors:
                if self._stopped:
                    return None
                time.sleep(_SCARCE_PAUSE_S)

    def _fill(self, task: _Task, batch: Batch) -> _Task | None:
        """Fill the batch and return what is left of the task."""
        if isinstance(task, _End):
            task = task.start
        if isinstance(task, Named):
            self._scanner.scan_names(batch, task.path, task.names, task.alias)
            return None
        if isinstance(task, _Rest):
            if self._scanner.scan_more(batch, task.giant):
                return task
            task.giant.close()
            return None
        if isinstance(task, Whole):
            giant = self._scanner.scan_root(batch)
            return _Rest(batch, giant) if giant else None
        if isinstance(task, Chain):
            raise InternalError("a chain is scanned link by link")
        done, giant = self._scanner.scan_children(batch, task.parent, task.first, task.count)
        if giant:
            self._push_left_over(task, done)
            return _Rest(batch, giant)
        return self._left_over(task, done)

    @staticmethod
    def _left_over(task: _Children, done: int) -> _Children | None:
        if done == task.count:
            return None
        return _Children(task.parent, task.first + done, task.count - done)

    def _push_left_over(self, task: _Children, done: int) -> None:
        left = self._left_over(task, done)
        if left:
            self._push(left)
