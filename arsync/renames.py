"""Find what the source has under a new name, so that the destination's file can be renamed.

Owns the snapshot of what was recorded before this run, and the index of it, which is built when the
first new name is met. Which name may be moved is decided in C, by the rules of uring/src/moves.c.
"""

from __future__ import annotations

import threading

from arsync.manifest.snapshot import Snapshot, SnapshotEnded
from arsync.recorder import Known
from arsync.uring import Batch
from arsync.uring.moves import (
    Moves,
    Moving,
    Past,
    PastRefused,
    may_hold_directories,
    may_hold_moves,
    resettle,
)
from arsync.uring.rules import Rules
from arsync.uring.scanner import Scanner

__all__ = ["Renames"]


class Renames:
    """Look for names that have moved, for the threads of one walk.

    Args:
        snapshot: of the store, from before this run's first commit; it is closed with this.
        known: is told of directories that were renamed.
        scanner: of the walk; it has a destination.
        trees: of the source, and of the destination as its runs leave it.
        start: id of the directory that the scanner's roots are.
        moving: when an old name may go.
    """

    def __init__(  # noqa: PLR0913 (one argument a thing that it joins)
        self,
        snapshot: Snapshot,
        known: Known,
        scanner: Scanner,
        trees: tuple[int, int],
        start: int,
        moving: Moving,
    ) -> None:
        self._known = known
        self._snapshot = snapshot
        self._scanner = scanner
        self._trees = trees
        self._start = start
        self._moving = moving
        self._lock = threading.Lock()
        self._past: Past | None = None
        self._ended = False

    def find(self, batch: Batch, rules: Rules) -> None:
        """Make moves of the changes of a compared batch that can be.

        Where there is no room for the index, or the snapshot had to be given up, nothing is found:
        what moved is then copied and deleted.

        Raises: ManifestCorruptError, OutOfMemoryError.
        """
        if self._ended:
            return
        try:
            if self._moving.directories and may_hold_directories(self._scanner, batch):
                self._resettle(batch)
            if may_hold_moves(batch):
                self._find(batch, rules)
        except (SnapshotEnded, PastRefused):
            self._ended = True

    def _resettle(self, batch: Batch) -> None:
        """Rename directories; what is below them is recorded under their ids, which they keep."""
        past = self._index()
        for one in resettle(self._scanner, past, batch, self._start, self._moving):
            (directory,) = self._snapshot.ids_by_key([one.old])
            if directory:
                past.relocate(directory, one.path)
                self._known.move(directory, one.old, one.new)

    def _index(self) -> Past:
        with self._lock:
            return self._past or self._build()

    def _find(self, batch: Batch, rules: Rules) -> None:
        moves = Moves(self._scanner, self._index(), batch, self._start)
        wanted = moves.wanted()
        if not wanted:
            return
        src, dst = (
            [self._snapshot.pages_between(tree, *one) for one in wanted] for tree in self._trees
        )
        moves.mark(src, dst, self._trees, rules, self._moving)

    def _build(self) -> Past:
        past = Past()
        try:
            tree = self._trees[0]
            self._snapshot.each_page(tree, lambda pages: past.add_pages(tree, pages))
            self._snapshot.each_directory(past.add_directory)
            past.seal()
        except BaseException:
            past.close()
            raise
        self._past = past
        return past

    def close(self) -> None:
        """Give everything back; the walk has ended."""
        with self._lock:
            self._ended = True
            self._snapshot.close()
            if self._past:
                self._past.close()
                self._past = None
