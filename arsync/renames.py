"""Find what the source has under a new name, so that the destination's file can be renamed.

Owns the snapshot of what was recorded before this run, and the index of it, which is built when the
first new name is met. Which name may be moved is decided in C, by the rules of uring/src/moves.c.
"""

from __future__ import annotations

import threading

from arsync.manifest.snapshot import Snapshot, SnapshotEnded
from arsync.uring import Batch
from arsync.uring.moves import Moves, Moving, Past, PastRefused, may_hold_moves
from arsync.uring.rules import Rules
from arsync.uring.scanner import Scanner

__all__ = ["Renames"]


class Renames:
    """Look for names that have moved, for the threads of one walk.

    Args:
        snapshot: of the store, from before this run's first commit; it is closed with this.
        scanner: of the walk; it has a destination.
        tree: of the source.
        start: id of the directory that the scanner's roots are.
        moving: when an old name may go.
    """

    def __init__(
        self, snapshot: Snapshot, scanner: Scanner, tree: int, start: int, moving: Moving
    ) -> None:
        self._snapshot = snapshot
        self._scanner = scanner
        self._tree = tree
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
        if self._ended or not may_hold_moves(batch):
            return
        try:
            self._find(batch, rules)
        except (SnapshotEnded, PastRefused):
            self._ended = True

    def _find(self, batch: Batch, rules: Rules) -> None:
        with self._lock:
            past = self._past or self._build()
        moves = Moves(self._scanner, past, batch, self._start)
        wanted = moves.wanted()
        if not wanted:
            return
        src, dst = (
            [self._snapshot.pages_between(tree, *one) for one in wanted] for tree in (self._tree, 0)
        )
        moves.mark(src, dst, self._tree, rules, self._moving)

    def _build(self) -> Past:
        past = Past()
        try:
            self._snapshot.each_page(self._tree, lambda pages: past.add_pages(self._tree, pages))
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
