"""Read and write one store: the LMDB environment that holds what is known of a destination.

Owns transactions, the growth of the map and the version of the format. Everything goes by batches:
one read transaction for the pages of many directories, one write transaction for a group. What is
returned is a copy: no pointer into the map outlives a call, and no reader stays open between calls.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from arsync.errors import InternalError, ManifestError
from arsync.manifest import health, lock
from arsync.manifest.contents import FORMAT, Contents, Key, check_version, name_key
from arsync.manifest.environment import (
    DATABASES,
    MAP_BYTES,
    MapFull,
    open_environment,
    reserve,
    starting_with,
    told,
    value_of,
)
from arsync.manifest.format import MOST_SOURCES, Page, RowState, damage
from arsync.manifest.records import (
    DIRECTORY_KEY,
    ID,
    PAGE_KEY,
    ROOT,
    TREE_KEY,
    seal,
)
from arsync.manifest.snapshot import Snapshot
from arsync.manifest.walk import skim, walk

__all__ = ["Group", "Store", "Tree"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Tree:
    """Hold one directory of one tree as it is recorded: the bytes of its pages, in order."""

    tree: int
    directory: int
    path: bytes
    pages: list[bytes]


@dataclass
class Group:
    """Gather what one transaction changes; it is applied in the order of these fields.

    Args:
        moves: directories, from where to where.
        removals: directories that are gone: their pages in every tree and their chunks. What is
            below them is not looked at.
        directories: new ones, by their keys as `name_key` makes them; ids from `next_directory` on.
        pages: for a tree and a directory all its pages, each with the first name of its key.
        beginnings: for a tree and a directory only the page that begins it.
        chunked: for a directory the files whose chunk hashes stay; those of others are forgotten.
        chunks: for a file the hashes of its chunks, b"" to forget them.
        runs: lines of the history.
    """

    moves: list[tuple[Key, Key]] = field(default_factory=list)
    removals: list[Key] = field(default_factory=list)
    directories: list[tuple[bytes, int]] = field(default_factory=list)
    pages: list[tuple[int, int, Sequence[tuple[bytes, bytes]]]] = field(default_factory=list)
    beginnings: dict[tuple[int, int], bytes] = field(default_factory=dict)
    chunked: list[tuple[int, frozenset[bytes]]] = field(default_factory=list)
    chunks: list[tuple[Key, bytes]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)


class Store(Contents):
    """Hold an open store and the lock on it.

    Args:
        directory: of the store; made where it is missing.
        subject: the destination, for messages.
        map_bytes: of the map at first; it grows.
    Raises: LockHeldError; ManifestCorruptError; ManifestError for a newer format; FileError.
    """

    def __init__(
        self,
        directory: Path,
        subject: bytes,
        *,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        super().__init__(directory)
        self._map_bytes = map_bytes
        self._snapshot: Snapshot | None = None
        with told(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd, self.was_clean = lock.hold(directory / "lock", subject)
        try:
            self._open()
        except BaseException:
            # What was in doubt stays so.
            lock.release(self._lock_fd, clean=False)
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.close(clean=kind is None)

    def close(self, *, clean: bool = True) -> None:
        """Close it; a second call does nothing."""
        if self._lock_fd < 0:
            return
        self._end_snapshot()
        self._env.close()
        if clean:
            health.extend(self._path / "data.mdb")
        lock.release(self._lock_fd, clean=clean)
        self._lock_fd = -1

    def snapshot(self) -> Snapshot:
        """Return what is recorded at this moment; it ends when the map has to grow."""
        self._end_snapshot()
        self._snapshot = Snapshot(self._path, self._env, self._databases)
        return self._snapshot

    def _end_snapshot(self) -> None:
        if self._snapshot:
            self._snapshot.close()
            self._snapshot = None

    def _open(self) -> None:
        data = self._path / "data.mdb"
        with told(self._path):
            is_new = not data.exists() or not data.stat().st_size
            if not is_new:
                # Damage of LMDB's own pages would hide entries, or kill this process.
                is_trusted = self.was_clean and health.is_whole(data)
                health.survives(partial(skim if is_trusted else walk, self._path))
                health.extend(data)
            reserve(self._path / "lock.mdb")
            self._env = open_environment(self._path, self._map_bytes)
        try:
            self._databases = self._write(self._open_databases)
            self._write(self._check_format)
        except BaseException:
            self._env.close()
            raise

    def _open_databases(self, txn: lmdb.Transaction) -> dict[str, Any]:
        return {name: self._env.open_db(name.encode(), txn=txn) for name in DATABASES}

    def _check_format(self, txn: lmdb.Transaction) -> None:
        meta = self._databases["meta"]
        stored = value_of(txn, meta, b"format")
        if stored is None:
            if any(txn.stat(database)["entries"] for database in self._databases.values()):
                raise damage("the version of its format is missing")
            txn.put(b"format", seal("meta", b"format", FORMAT.to_bytes(4, "little")), db=meta)
            self._put_next(txn, ROOT + 1)
            return
        check_version(stored)

    # ------------------------------------------------------------------------ trees

    def tree_of(self, identity: dict[str, Any], *, same: Callable[[Any], bool]) -> int:
        """Return the number of a source tree; one that is new gets the next.

        Args:
            identity: as JSON keeps it; it replaces what was recorded.
            same: tells whether a recorded identity is this tree's.
        """

        def write(txn: lmdb.Transaction) -> int:
            known = list(self._json(txn, "trees"))
            new = max((number for number, _ in known), default=0) + 1
            if new > MOST_SOURCES:
                raise ManifestError(f"cannot keep the manifest: {MOST_SOURCES} sources are known")
            number = next((number for number, one in known if same(one)), new)
            key = TREE_KEY.pack(number)
            text = json.dumps(identity).encode()
            txn.put(key, seal("trees", key, text), db=self._databases["trees"])
            return number

        recorded = [number for number, one in self.trees() if one == identity]
        return recorded[0] if recorded else self._write(write)

    # ------------------------------------------------------------------------ pages

    def commit(self, group: Group) -> None:
        """Apply a group in one transaction, which is all there or not at all.

        Durability: on disk when it returns.
        Raises: FileError for a full disk, which leaves the store as it was.
        """
        self._write(lambda txn: self._apply(txn, group))

    def _apply(self, txn: lmdb.Transaction, group: Group) -> None:
        for old, new in group.moves:
            self._move(txn, old, new)
        for key in group.removals:
            self._remove(txn, key)
        for raw, directory in group.directories:
            self._put_directory(txn, raw, directory)
        if group.directories:
            self._put_next(txn, max(self._next(txn), 1 + max(id_ for _, id_ in group.directories)))
        pages = self._databases["pages"]
        cursor = txn.cursor(pages)
        for tree, directory, records in group.pages:
            prefix = PAGE_KEY.pack(tree, directory)
            _delete_all(cursor, prefix)
            for first, data in records:
                txn.put(prefix + first, data, db=pages)
        for (tree, directory), data in group.beginnings.items():
            txn.put(PAGE_KEY.pack(tree, directory), data, db=pages)
        self._forget_chunks(txn, group.chunked)
        for key, hashes in group.chunks:
            if hashes:
                txn.put(name_key(key), hashes, db=self._databases["chunks"])
            else:
                txn.delete(name_key(key), db=self._databases["chunks"])
        for line in group.runs:
            self._add_run(txn, line)

    def _put_directory(self, txn: lmdb.Transaction, raw: bytes, directory: int) -> None:
        txn.put(raw, seal("dirs", raw, ID.pack(directory)), db=self._databases["dirs"])

    def _put_next(self, txn: lmdb.Transaction, directory: int) -> None:
        value = seal("meta", b"next directory", ID.pack(directory))
        txn.put(b"next directory", value, db=self._databases["meta"])

    def _forget_chunks(
        self, txn: lmdb.Transaction, chunked: Sequence[tuple[int, frozenset[bytes]]]
    ) -> None:
        """Forget the lists of files that no tree of the destination has as chunked."""
        chunks = self._databases["chunks"]
        if not txn.stat(chunks)["entries"]:
            return
        cursor = txn.cursor(chunks)
        for directory, names in chunked:
            prefix = DIRECTORY_KEY.pack(directory)
            found = [key[len(prefix) :] for key, _ in starting_with(cursor, prefix)]
            gone = set(found) - names
            if gone and len(self._destinations(txn)) > 1:
                gone -= self._chunked_names(txn, directory)
            for name in gone:
                txn.delete(prefix + name, db=chunks)

    def _chunked_names(self, txn: lmdb.Transaction, directory: int) -> set[bytes]:
        names: set[bytes] = set()
        for one in self._merged(txn, directory, b""):
            page = Page.decode(one.data, one.place)
            rows = zip(page.names, page.states, strict=True)
            names.update(name for name, state in rows if state & RowState.CHUNKED)
        return names

    def _move(self, txn: lmdb.Transaction, old: Key, new: Key) -> None:
        directory = self._directory_id(txn, old)
        if directory is None:
            raise InternalError(f"a directory that is not recorded is moved: {old} to {new}")
        self._remove(txn, new)  # what had the name is not there any more
        txn.delete(name_key(old), db=self._databases["dirs"])
        self._put_directory(txn, name_key(new), directory)

    def _remove(self, txn: lmdb.Transaction, key: Key) -> None:
        directory = self._directory_id(txn, key)
        if directory is None:
            return
        txn.delete(name_key(key), db=self._databases["dirs"])
        _delete_all(txn.cursor(self._databases["chunks"]), DIRECTORY_KEY.pack(directory))
        pages = txn.cursor(self._databases["pages"])
        sources = [number for number, _ in self._json(txn, "trees")]
        for tree in (*sources, *self._destinations(txn)):
            _delete_all(pages, PAGE_KEY.pack(tree, directory))

    def _add_run(self, txn: lmdb.Transaction, line: dict[str, Any]) -> None:
        cursor = txn.cursor(self._databases["runs"])
        number = DIRECTORY_KEY.unpack(cursor.key())[0] + 1 if cursor.last() else 1
        key = DIRECTORY_KEY.pack(number)
        txn.put(key, seal("runs", key, json.dumps(line).encode()), db=self._databases["runs"])

    def directories(self, tree: int) -> Iterator[Tree]:
        """Yield what is recorded of a tree, a directory at a time, parents first, names in order.

        A transaction a directory: the map may grow meanwhile.
        """
        waiting = [(ROOT, b"")]
        while waiting:
            directory, path = waiting.pop()
            (pages,) = self.pages_of(tree, [directory])
            if pages:
                yield Tree(tree, directory, path, pages)
            below = self._read(partial(self._all_children, parent=directory))
            waiting += [(one, os.path.join(path, name)) for name, one in reversed(below)]

    def _all_children(self, txn: lmdb.Transaction, parent: int) -> list[tuple[bytes, int]]:
        return list(self._children(txn, parent))

    # ----------------------------------------------------------------- transactions

    def _write(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        while True:
            try:
                with told(self._path), self._env.begin(write=True) as txn:
                    return work(txn)
            except MapFull:
                self._end_snapshot()  # no transaction may be open while the map moves
                self._map_bytes = 2 * int(self._env.info()["map_size"])
                with told(self._path):
                    self._env.set_mapsize(self._map_bytes)


def _delete_all(cursor: Any, prefix: bytes) -> None:
    while cursor.set_range(prefix) and cursor.key().startswith(prefix):
        cursor.delete()
