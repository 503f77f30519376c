"""Read a store as it was at one moment, while the run that holds it goes on writing.

Owns a read transaction of its own, under a lock: any thread may ask. While it is open LMDB keeps
the pages that the run replaces, so a store can grow by as much as a run records anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from arsync.manifest.contents import Contents
from arsync.manifest.environment import entries_of, starting_with, told
from arsync.manifest.records import DIRECTORY_KEY, PAGE_KEY, TREE_KEY, id_of

__all__ = ["Snapshot", "SnapshotEnded"]

_T = TypeVar("_T")

_AT_ONCE: Final = 4 << 20


class SnapshotEnded(Exception):  # noqa: N818 - a state, not an error
    """Say that the snapshot had to be given up: the map has grown."""


class Snapshot(Contents):
    """Hold what a store has at this moment.

    Args:
        path: of the store.
        env, databases: of who has it open.
    """

    def __init__(self, path: Path, env: lmdb.Environment, databases: dict[str, Any]) -> None:
        super().__init__(path)
        self._env = env
        self._databases = databases
        self._lock = threading.Lock()
        with told(path):
            self._txn: lmdb.Transaction | None = env.begin()

    def _read(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        with self._lock:
            if self._txn is None:
                raise SnapshotEnded
            with told(self._path):
                return work(self._txn)

    def close(self) -> None:
        """Let LMDB have the pages again; a second call does nothing."""
        with self._lock:
            if self._txn is not None:
                self._txn.abort()
                self._txn = None

    def has_pages(self, tree: int) -> bool:
        """Tell whether anything is recorded of a tree."""

        def read(txn: lmdb.Transaction) -> bool:
            found = starting_with(txn.cursor(self._databases["pages"]), TREE_KEY.pack(tree))
            return next(found, None) is not None

        return self._read(read)

    def each_page(self, tree: int, take: Callable[[list[tuple[int, bytes]]], None]) -> None:
        """Give all pages of a tree, with their directories' ids, some megabytes at a time.

        Raises: SnapshotEnded, and what `take` raises.
        """

        def read(txn: lmdb.Transaction) -> None:
            pages: list[tuple[int, bytes]] = []
            held = 0
            for key, data in starting_with(
                txn.cursor(self._databases["pages"]), TREE_KEY.pack(tree)
            ):
                pages.append((PAGE_KEY.unpack_from(key)[1], data))
                held += len(data)
                if held > _AT_ONCE:
                    take(pages)
                    pages, held = [], 0
            take(pages)

        self._read(read)

    def each_directory(self, take: Callable[[int, int, bytes], None]) -> None:
        """Give each directory: its id, the id of the one above it, its name.

        Raises: SnapshotEnded, ManifestCorruptError, and what `take` raises.
        """

        def read(txn: lmdb.Transaction) -> None:
            for key, stored in entries_of(txn, self._databases["dirs"]):
                (above,) = DIRECTORY_KEY.unpack_from(key)
                take(id_of("dirs", key, stored), above, bytes(key[DIRECTORY_KEY.size :]))

        self._read(read)
