"""Walk a source root, and the destination beside it, into batches of compared directories.

Owns the frontier of the walk: what is still to be scanned, and how many threads do it. The frontier
holds batches and positions in them, never one entry a directory, so it stays small however wide a
directory is. What happens to a batch is its receiver's business.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Final, Protocol

from arsync.diff import diff
from arsync.errors import FileError, InternalError
from arsync.prune import Held, Pruner
from arsync.uring.batch import Batch
from arsync.uring.rules import Rules
from arsync.uring.scanner import GiantDirectory, OutOfDescriptors, Scanner

__all__ = ["Chain", "Memory", "Named", "Receiver", "Start", "Walk", "Whole"]

# Directories that one call takes at most; fewer while there are few, so that all threads have some.
_TAKE_AT_MOST: Final = 128
_SCARCE_PAUSE_S: Final = 0.01
_SCARCE_S: Final = 10.0


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
        with_own: the directory itself gets its attributes, too.
        follow: the only name stands for its directory where it is a symlink to one.
        implied: no filter rule hides them.
    """

    path: bytes
    names: tuple[bytes, ...]
    alias: bytes | None = None
    with_own: bool = False
    follow: bool = False
    implied: bool = False


@dataclass(frozen=True)
class Chain:
    """Start below directories that are made on the way, as -R has it.

    Args:
        above: names of directories, each in the one before, the first in the root; each is made
            at the destination with its attributes, and nothing else in it is looked at. One that
            is a symlink is made as the directory that it leads to.
        end: what is walked, in the last one.
        with_root: the root gets its attributes, too.
    """

    above: tuple[bytes, ...]
    end: Named
    with_root: bool = False


Start = Whole | Named | Chain


_ROOT: Final = Named(b"", (), with_own=True)


@dataclass(frozen=True)
class _RootFirst:
    """Compare the root itself before an entry of it is made, which would move its mtime."""

    rest: tuple[_Task, ...]


@dataclass(frozen=True)
class _Chains:
    chains: tuple[Chain, ...]


@dataclass(frozen=True)
class _Parent:
    """Hold a scanned batch, and with -m what waits at each of its directories."""

    batch: Batch
    held: Sequence[Held | None]


@dataclass(frozen=True)
class _End:
    parent: _Parent
    start: Named


@dataclass(frozen=True)
class _Children:
    parent: _Parent
    first: int
    count: int

    def after(self, done: int) -> _Children:
        """Return what is left when so many have been scanned."""
        return _Children(self.parent, self.first + done, self.count - done)


@dataclass(frozen=True)
class _Rest:
    parent: _Parent
    pair: int  # in it, the first page
    giant: GiantDirectory


_Task = Whole | Named | _RootFirst | _Chains | _End | _Children | _Rest

Receiver = Callable[[Batch, Sequence[Batch]], None]
"""Take a compared batch, and those whose directories must be there before its own."""


class Memory(Protocol):
    """Say which directories a scanned batch holds, and tell it what is recorded of them."""

    def place_path(self, batch: Batch, first_pair: int, path: bytes) -> None:
        """Say that the pairs from one on are the directory at a path below the roots."""

    def place_children(
        self, batch: Batch, first_pair: int, parent: Batch, first_child: int
    ) -> None:
        """Say that the pairs from one on are child directories of a compared batch."""

    def place_rest(self, batch: Batch, first_pair: int, parent: Batch, pair: int) -> None:
        """Say that a pair is a further page of the directory that another pair begins."""

    def recall(self, batch: Batch) -> None:
        """Tell a scanned batch what is recorded of it, before it is compared."""

    def find_moves(self, batch: Batch, rules: Rules) -> None:
        """Find what a compared batch has that the destination has under another name."""

    def recall_chunks(self, batch: Batch) -> None:
        """Tell a compared batch what is recorded of the chunks of files that it replaces."""


class Walk:
    """Scan and compare everything below two roots, several directories at a time.

    A batch is given to the receiver before any directory below it is scanned; the receiver may
    block, which holds the walk back.

    Args:
        scanner: of the two roots.
        rules: what decides equality.
        starts: where to begin, one after the other.
        receive: gets each batch, from any of the walk's threads.
        threads: that will call `run`; each gets a share of what is known.
        pruner: holds directories without entries back.
    """

    def __init__(  # noqa: PLR0913 (one argument a stage that it joins)
        self,
        scanner: Scanner,
        rules: Rules,
        starts: Sequence[Start],
        receive: Receiver,
        threads: int = 1,
        pruner: Pruner | None = None,
    ) -> None:
        self._memory: Memory | None = None
        self._scanner = scanner
        self._rules = rules
        self._receive = receive
        self._pruner = pruner
        self._changed = threading.Condition()
        chains = tuple(start for start in starts if isinstance(start, Chain))
        self._frontier: list[_Task] = [
            replace(start, with_own=False) if isinstance(start, Named) else start
            for start in reversed(starts)
            if not isinstance(start, Chain)
        ]
        if chains:
            self._frontier.append(_Chains(chains))
        if any(map(_wants_root, starts)):
            self._frontier = [_RootFirst(tuple(self._frontier))]
        self._pending = 0
        self._busy = 0
        self._most = threads
        self._least = self._width = min(threads, len(os.sched_getaffinity(0)))
        self._stopped = False

    def remember(self, memory: Memory) -> None:
        """Have each batch told what is recorded of it; to be said before `run`."""
        self._memory = memory

    def run(self) -> None:
        """Work until the frontier is empty; call it on each thread of the walk.

        Raises: OutOfMemoryError, and whatever the receiver raises; the other threads then stop.
        """
        try:
            while (tasks := self._take()) is not None:
                try:
                    self._scan(tasks)
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

    def _take(self) -> list[_Task] | None:
        """Wait for something to scan: one task, or children of one or several batches."""
        with self._changed:
            while not self._frontier or self._busy >= self._width:
                if not self._frontier and (not self._busy or self._stopped):
                    self._changed.notify_all()
                    return None
                self._changed.wait()
            self._busy += 1
            task = self._frontier.pop()
            if not isinstance(task, _Children):
                return [task]
            self._frontier.append(task)
            return self._take_children()

    def _take_children(self) -> list[_Task]:
        """Take a share of the directories that are known, the deepest first."""
        share = max(1, min(_TAKE_AT_MOST, self._pending // self._width))
        self._pending -= share
        taken: list[_Task] = []
        while share and self._frontier:
            task = self._frontier[-1]
            if not isinstance(task, _Children):
                break
            self._frontier.pop()
            count = min(share, task.count)
            taken.append(_Children(task.parent, task.first, count))
            share -= count
            if count < task.count:
                self._frontier.append(task.after(count))
        self._pending += share
        self._call_another()
        return taken

    def _call_another(self) -> None:
        if self._frontier and self._busy < self._width:
            self._changed.notify()

    def _adapt(self, batch: Batch) -> None:
        """Let all threads scan where one had to wait for the disk, else as many as there are cores.

        More would only wait for each other, for Python's lock first of all.
        """
        with self._changed:
            self._width = self._most if batch.has_waited else max(self._least, self._width - 1)
            self._call_another()

    def _end_one(self) -> None:
        with self._changed:
            self._busy -= 1
            if not self._busy:
                self._changed.notify_all()

    def _push(self, tasks: Sequence[_Task]) -> None:
        with self._changed:
            if self._stopped:
                return
            self._frontier.extend(tasks)
            self._pending += sum(task.count for task in tasks if isinstance(task, _Children))
            self._call_another()

    def _scan(self, tasks: list[_Task]) -> None:
        if isinstance(tasks[0], _RootFirst):
            self._scan_one([_ROOT])
            self._push(tasks[0].rest)
            return
        if isinstance(tasks[0], _Chains):
            self._scan_chains(tasks[0])
            return
        scanned, left = self._scan_one(tasks)
        if scanned.batch.child_count:
            left.append(_Children(scanned, 0, scanned.batch.child_count))
        if left:
            self._push(left)

    def _scan_one(self, tasks: Sequence[_Task]) -> tuple[_Parent, list[_Task]]:
        """Scan, compare and hand over one batch; return it and what is left of the tasks."""
        batch = Batch()
        left: list[_Task] = []
        giants: list[tuple[int, GiantDirectory]] = []
        above: list[Held | None] = []
        for task in tasks:
            first_pair = batch.pair_count
            rest, giant = self._patiently(task, batch)
            left += rest
            if giant:
                giants.append((batch.pair_count - 1, giant))
            if self._pruner:
                above += _held_above(task, batch.extra_pairs(first_pair))
            if self._memory:
                self._place(self._memory, task, batch, first_pair)
        self._adapt(batch)
        if self._memory:
            self._memory.recall(batch)
        diff(batch, self._rules)
        if self._memory:
            self._memory.find_moves(batch, self._rules)
            self._memory.recall_chunks(batch)
        parents = [one.parent.batch for one in tasks if isinstance(one, _Children | _Rest | _End)]
        held: list[Held | None] = []
        if self._pruner:
            held, freed = self._pruner.hold(batch, above, parents)
            parents += freed
        scanned = _Parent(batch, held)
        left += [_Rest(scanned, pair, giant) for pair, giant in giants]
        self._receive(batch, parents)
        return scanned, left

    def _place(self, memory: Memory, task: _Task, batch: Batch, first_pair: int) -> None:
        """Say which directories one task has put into a batch."""
        if isinstance(task, _Children):
            memory.place_children(batch, first_pair, task.parent.batch, task.first)
        elif isinstance(task, _Rest):
            memory.place_rest(batch, first_pair, task.parent.batch, task.pair)
        elif isinstance(task, _End):
            memory.place_path(batch, first_pair, task.start.path)
        else:
            memory.place_path(batch, first_pair, task.path if isinstance(task, Named) else b"")

    def _scan_chains(self, chains: _Chains) -> None:
        """Make the directories on the way, each of them once, and go on below them.

        In the order of their names only those on one way are held at a time.
        """
        way: list[tuple[bytes, _Parent | None]] = []
        for chain in sorted(chains.chains, key=lambda chain: chain.above):
            del way[_common(way, chain.above) :]
            for name in chain.above[len(way) :]:
                way.append((name, self._scan_link(way, name)))
            parent = way[-1][1]
            if parent:
                end = replace(chain.end, path=parent.batch.src_path())
                self._push([_End(parent, end)])

    def _scan_link(
        self, way: Sequence[tuple[bytes, _Parent | None]], name: bytes
    ) -> _Parent | None:
        """Make the next directory on the way; None where the source has none there."""
        parent = way[-1][1] if way else None
        if (way and not parent) or self._stopped:
            return None
        path = parent.batch.src_path() if parent else b""
        step = Named(path, (name,), follow=True, implied=True)
        found, _ = self._scan_one([_End(parent, step) if parent else step])
        if not found.batch.child_count:
            return None
        found.batch.make_children_shallow()
        return self._scan_one([_Children(found, 0, 1)])[0]

    def _patiently(self, task: _Task, batch: Batch) -> tuple[list[_Task], GiantDirectory | None]:
        """Fill the batch; where descriptors run out, wait for lanes to give some back.

        Returns: what is left of the task; a directory of which another page comes.
        Raises: FileError where nobody gives any back for some seconds.
        """
        until = time.monotonic() + _SCARCE_S
        while True:
            try:
                return self._fill(task, batch)
            except OutOfDescriptors:
                if self._stopped:
                    return [], None
                if time.monotonic() > until:
                    raise FileError(
                        "cannot walk: too many open files, of this process or of the system "
                        "(ulimit -n says how many it may have)"
                    ) from None
                time.sleep(_SCARCE_PAUSE_S)

    def _fill(self, task: _Task, batch: Batch) -> tuple[list[_Task], GiantDirectory | None]:
        giant: GiantDirectory | None = None
        left: list[_Task] = []
        if isinstance(task, _End):
            task = task.start
        if isinstance(task, Named):
            if task.follow:
                name, implied = task.names[0], task.implied
                self._scanner.scan_through(batch, task.path, name, implied=implied)
            else:
                self._scanner.scan_names(
                    batch,
                    task.path,
                    task.names,
                    task.alias,
                    with_own=task.with_own,
                    implied=task.implied,
                )
        elif isinstance(task, Whole):
            giant = self._scanner.scan_root(batch)
        elif isinstance(task, _Rest):
            if self._scanner.scan_more(batch, task.giant):
                return [task], None
            task.giant.close()
        elif isinstance(task, _Children):
            done, giant = self._scanner.scan_children(
                batch, task.parent.batch, task.first, task.count
            )
            if done < task.count:
                left.append(task.after(done))
        else:
            raise InternalError(f"a {type(task).__name__} is scanned link by link")
        return left, giant


def _held_above(task: _Task, are_extra: Sequence[bool]) -> list[Held | None]:
    """Return what waits above each of the directories that a task has come to.

    Args:
        are_extra: which of them are pages of extras: nothing waits for those.
    """
    above: Iterator[Held | None] = repeat(None)
    if isinstance(task, _Children):
        above = _held_over_children(task)
    elif isinstance(task, _Rest):
        above = repeat(task.parent.held[task.pair])
    elif isinstance(task, _End):
        above = repeat(task.parent.held[0])
    return [None if is_extra else next(above) for is_extra in are_extra]


def _held_over_children(task: _Children) -> Iterator[Held | None]:
    parent = task.parent
    for child in range(task.first, task.first + task.count):
        if not parent.batch.is_extra(child):
            yield parent.held[parent.batch.child_pair(child)]


def _wants_root(start: Start) -> bool:
    return (isinstance(start, Named) and start.with_own) or (
        isinstance(start, Chain) and start.with_root
    )


def _common(way: Sequence[tuple[bytes, object]], above: Sequence[bytes]) -> int:
    """Count the first names that both have."""
    pairs = zip(way, above, strict=False)
    return next(
        (at for at, (one, name) in enumerate(pairs) if one[0] != name), min(len(way), len(above))
    )
