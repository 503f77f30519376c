"""Read a store without holding it, also while a run writes to it.

Owns the opening for people's commands, which see the store as it was at that moment: LMDB's readers
and its writer do not wait for one another. Pages come one at a time, so memory does not grow with
what is recorded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from arsync.errors import SelectionError, quoted
from arsync.manifest import health, lock
from arsync.manifest.contents import Contents, Recorded, check_version
from arsync.manifest.environment import (
    DATABASES,
    MAP_BYTES,
    open_environment,
    present_in,
    reserve,
    told,
    value_of,
)
from arsync.manifest.format import Place, damage
from arsync.manifest.records import PAGE_KEY, ROOT
from arsync.manifest.snapshot import Snapshot
from arsync.manifest.walk import skim_shared, walk_shared

__all__ = ["Reader"]

_T = TypeVar("_T")


class Reader(Contents):
    """Hold a store open for reading.

    Args:
        directory: of the store.
    Raises: SelectionError where nothing has been recorded in it yet; ManifestCorruptError;
        ManifestError for a newer format; FileError.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.lock = lock.look(directory / "lock")
        data = directory / "data.mdb"
        with told(directory):
            if not data.exists() or not data.stat().st_size:
                raise _nothing(directory)
            # A run that holds it has seen to that itself, before it began to write.
            is_doubtful = self.lock.is_left or not health.is_whole(data)
            health.survives(partial(walk_shared if is_doubtful else skim_shared, directory))
            with suppress(OSError):  # on a disk that is mounted read-only no run can write either
                reserve(directory / "lock.mdb")
            self._env = open_environment(directory, MAP_BYTES, readonly=True, shared=True)
        try:
            with told(directory):
                self._begin()
        except BaseException:
            self._env.close()
            raise

    def _begin(self) -> None:
        present = present_in(self._env)
        if not present:
            raise _nothing(self._path)
        if present != set(DATABASES):
            raise damage("a database is missing")
        self._databases = {
            name: self._env.open_db(name.encode(), create=False) for name in DATABASES
        }
        self._txn = self._env.begin()
        self._is_shared = len(self._destinations(self._txn)) > 1
        version = value_of(self._txn, self._databases["meta"], b"format")
        if version is None:
            raise damage("the version of its format is missing")
        check_version(version)

    def snapshot(self) -> Snapshot:
        """Return what is recorded at this moment, for any thread to ask; the caller closes it."""
        return Snapshot(self._path, self._env, self._databases)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._txn.abort()
        self._env.close()

    def _read(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        with told(self._path):
            return work(self._txn)

    def tree(self, tree: int, directory: int = ROOT) -> Iterator[Recorded]:
        """Yield the pages of a directory and of all below it: parents first, names in order.

        Args:
            tree: 0 the destination, as all of its sources' runs have left it.
        Returns: with each page the path of its directory, from the first one, which has b"".
        Raises: ManifestCorruptError.
        """
        with told(self._path):
            yield from self.directory(tree, directory)
            waiting = [self._below(directory, b"")]
            while waiting:
                found = next(waiting[-1], None)
                if found is None:
                    waiting.pop()
                    continue
                path, child = found
                yield from self.directory(tree, child, path)
                waiting.append(self._below(child, path))

    def _below(self, directory: int, path: bytes) -> Iterator[tuple[bytes, int]]:
        for name, child in self._children(self._txn, directory):
            yield os.path.join(path, name), child

    def children(self, directory: int) -> list[tuple[bytes, int]]:
        """Return names and ids of the directories in one that have an id.

        Raises: ManifestCorruptError.
        """
        return self._read(lambda txn: list(self._children(txn, directory)))

    def directory(self, tree: int, directory: int, path: bytes = b"") -> Iterator[Recorded]:
        """Yield the pages of one directory, none where nothing is recorded of it.

        Raises: ManifestCorruptError.
        """
        if tree == 0 and self._is_shared:
            return self._merged(self._txn, directory, path)
        return self._recorded(self._txn, tree, directory, path)

    def pages_of(self, tree: int, directories: Sequence[int]) -> list[list[bytes]]:
        """Return the recorded pages of directories, as `directory` does.

        Raises: ManifestCorruptError.
        """
        if tree == 0 and self._is_shared:
            return [[one.data for one in self.directory(tree, each)] for each in directories]
        return super().pages_of(tree, directories)

    def page_with(self, tree: int, directory: int, name: bytes) -> Recorded | None:
        """Return the page in which an entry stands, if it is recorded at all."""
        if tree == 0 and self._is_shared:
            pages = (one for one in self.directory(tree, directory) if one.place.first <= name)
            return max(pages, key=lambda one: one.place.first, default=None)

        def read(txn: lmdb.Transaction) -> Recorded | None:
            prefix = PAGE_KEY.pack(tree, directory)
            cursor: Any = txn.cursor(self._databases["pages"])
            is_there = cursor.set_range(prefix + name)
            if not is_there or cursor.key() != prefix + name:
                is_there = cursor.prev() if is_there else cursor.last()
            if not is_there or not cursor.key().startswith(prefix):
                return None
            first = cursor.key()[PAGE_KEY.size :]
            return Recorded(Place(tree, directory, first), b"", cursor.value())

        return self._read(read)

    def find_directory(self, path: bytes) -> int | None:
        """Return the id of a directory by its path from the root, None where it has none."""
        directory = ROOT
        for name in filter(None, path.split(b"/")):
            (found,) = self.directory_ids([(directory, name)])
            if found is None:
                return None
            directory = found
        return directory


def _nothing(directory: Path) -> SelectionError:
    return SelectionError(f"nothing is recorded in {quoted(directory)} yet (a run of arsync does)")
