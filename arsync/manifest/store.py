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
from typing import Any, Final, TypeVar

import lmdb

from arsync.errors import InternalError, ManifestError
from arsync.manifest import health, lock
from arsync.manifest.environment import (
    DATABASES,
    MAP_BYTES,
    MapFull,
    entries_of,
    open_environment,
    reserve,
    starting_with,
    told,
    value_of,
)
from arsync.manifest.format import damage, page_facts
from arsync.manifest.records import (
    DIRECTORY_KEY,
    ID,
    PAGE_KEY,
    ROOT,
    TREE_KEY,
    check_chain,
    id_of,
    seal,
    unseal,
)
from arsync.manifest.walk import walk

__all__ = ["FORMAT", "Group", "Sizes", "Store", "Tree"]

FORMAT: Final = 1
_LOCK_BYTES: Final = 8192  # of LMDB's reader table for 126 readers

_T = TypeVar("_T")

Key = tuple[int, bytes]
"""A parent's id and a name."""


@dataclass(frozen=True)
class Tree:
    """Hold one directory of one tree as it is recorded: the bytes of its pages, in order."""

    tree: int
    directory: int
    path: bytes
    pages: list[bytes]


@dataclass(frozen=True)
class Sizes:
    """Say how much a store holds."""

    file_bytes: int
    page_bytes: int
    rows: int
    directories: int
    pages: int


@dataclass
class Group:
    """Gather what one transaction changes; it is applied in the order of these fields.

    Args:
        moves: directories, from where to where.
        removals: directories that are gone: their pages in every tree and their chunks. What is
            below them is not looked at.
        pages: for a tree and a directory all its pages, each with the first name of its key.
        chunks: for a file the hashes of its chunks, b"" to forget them.
        runs: lines of the history.
    """

    moves: list[tuple[Key, Key]] = field(default_factory=list)
    removals: list[Key] = field(default_factory=list)
    pages: list[tuple[int, int, Sequence[tuple[bytes, bytes]]]] = field(default_factory=list)
    chunks: list[tuple[Key, bytes]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)


class Store:
    """Hold an open store and the lock on it.

    Args:
        directory: of the store; made where it is missing.
        subject: the destination, for messages.
        map_bytes: of the map at first; it grows.
        walk_first: check every entry before any is believed. Without it damage of LMDB's own pages
            may hide entries, or kill the process; the next run then walks by itself.
    Raises: LockHeldError; ManifestCorruptError; ManifestError for a newer format; FileError.
    """

    def __init__(
        self,
        directory: Path,
        subject: bytes,
        *,
        map_bytes: int = MAP_BYTES,
        walk_first: bool = False,
    ) -> None:
        self._path = directory
        self._map_bytes = map_bytes
        with told(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd, was_clean = lock.hold(directory / "lock", subject)
        try:
            self._open(was_clean and not walk_first)
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
        self._env.close()
        if clean:
            health.extend(self._path / "data.mdb")
        lock.release(self._lock_fd, clean=clean)
        self._lock_fd = -1

    def _open(self, is_trusted: bool) -> None:
        data = self._path / "data.mdb"
        with told(self._path):
            is_new = not data.exists() or not data.stat().st_size
            if not is_new and not (is_trusted and health.is_whole(data)):
                health.survives(partial(walk, self._path))
                health.extend(data)
            reserve(self._path / "lock.mdb", _LOCK_BYTES)
            self._env = open_environment(self._path, self._map_bytes)
        try:
            self._databases: dict[str, Any] = self._write(self._open_databases)
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
        version = int.from_bytes(unseal("meta", b"format", stored), "little")
        if version > FORMAT:
            raise ManifestError(
                f"cannot read the manifest: its format is {version}, this arsync knows {FORMAT} "
                "(use a newer arsync)"
            )
        if version < FORMAT:
            raise damage(f"its format is {version}, which never was")

    # ------------------------------------------------------------------ directories

    def directory_ids(self, keys: Sequence[Key]) -> list[int | None]:
        """Return the ids of directories by their parents' ids and their names, None for unknown."""

        def read(txn: lmdb.Transaction) -> list[int | None]:
            return [self._directory_id(txn, key) for key in keys]

        return self._read(read)

    def make_directories(self, keys: Sequence[Key]) -> list[int]:
        """Return the ids of directories and give one to each that has none, in one transaction."""

        def write(txn: lmdb.Transaction) -> list[int]:
            next_id = self._next(txn)
            ids = []
            for key in keys:
                known = self._directory_id(txn, key)
                if known is None:
                    known = next_id
                    next_id += 1
                    self._put_directory(txn, key, known)
                ids.append(known)
            self._put_next(txn, next_id)
            return ids

        found = self.directory_ids(keys)
        known = [one for one in found if one is not None]
        return known if len(known) == len(keys) else self._write(write)

    def _directory_id(self, txn: lmdb.Transaction, key: Key) -> int | None:
        raw = _name_key(key)
        stored = value_of(txn, self._databases["dirs"], raw)
        return None if stored is None else id_of("dirs", raw, stored)

    def _put_directory(self, txn: lmdb.Transaction, key: Key, directory: int) -> None:
        raw = _name_key(key)
        txn.put(raw, seal("dirs", raw, ID.pack(directory)), db=self._databases["dirs"])

    def _next(self, txn: lmdb.Transaction) -> int:
        stored = value_of(txn, self._databases["meta"], b"next directory")
        if stored is None:
            raise damage("the next directory's id is missing")
        return id_of("meta", b"next directory", stored)

    def _put_next(self, txn: lmdb.Transaction, directory: int) -> None:
        value = seal("meta", b"next directory", ID.pack(directory))
        txn.put(b"next directory", value, db=self._databases["meta"])

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
            number = next((number for number, one in known if same(one)), new)
            key = TREE_KEY.pack(number)
            text = json.dumps(identity).encode()
            txn.put(key, seal("trees", key, text), db=self._databases["trees"])
            return number

        return self._write(write)

    def trees(self) -> list[tuple[int, Any]]:
        """Return the source trees: number and identity."""
        return self._read(lambda txn: list(self._json(txn, "trees")))

    def runs(self) -> list[tuple[int, Any]]:
        """Return the history, oldest first."""
        return self._read(lambda txn: list(self._json(txn, "runs")))

    def _json(self, txn: lmdb.Transaction, database: str) -> Iterator[tuple[int, Any]]:
        for key, stored in entries_of(txn, self._databases[database]):
            yield int.from_bytes(key, "big"), json.loads(unseal(database, key, stored))

    # ------------------------------------------------------------------------ pages

    def pages_of(self, tree: int, directories: Sequence[int]) -> list[list[bytes]]:
        """Return the recorded pages of directories, [] for one that nothing is recorded of.

        That they are whole is checked, not what is in them: `arsync.uring.records` does that.

        Raises: ManifestCorruptError.
        """

        def read(txn: lmdb.Transaction) -> list[list[bytes]]:
            cursor = txn.cursor(self._databases["pages"])
            return [_chain(cursor, tree, directory) for directory in directories]

        return self._read(read)

    def chunks_of(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the chunk hashes of files by their directories' ids and their names."""
        database = self._databases["chunks"]
        return self._read(lambda txn: [value_of(txn, database, _name_key(key)) for key in keys])

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
        pages = self._databases["pages"]
        for tree, directory, records in group.pages:
            prefix = PAGE_KEY.pack(tree, directory)
            _delete_all(txn, pages, prefix)
            for first, data in records:
                txn.put(prefix + first, data, db=pages)
        for key, hashes in group.chunks:
            if hashes:
                txn.put(_name_key(key), hashes, db=self._databases["chunks"])
            else:
                txn.delete(_name_key(key), db=self._databases["chunks"])
        for line in group.runs:
            self._add_run(txn, line)

    def _move(self, txn: lmdb.Transaction, old: Key, new: Key) -> None:
        directory = self._directory_id(txn, old)
        if directory is None:
            raise InternalError(f"a directory that is not recorded is moved: {old} to {new}")
        txn.delete(_name_key(old), db=self._databases["dirs"])
        self._put_directory(txn, new, directory)

    def _remove(self, txn: lmdb.Transaction, key: Key) -> None:
        directory = self._directory_id(txn, key)
        if directory is None:
            return
        txn.delete(_name_key(key), db=self._databases["dirs"])
        _delete_all(txn, self._databases["chunks"], DIRECTORY_KEY.pack(directory))
        for tree in (0, *(number for number, _ in self._json(txn, "trees"))):
            _delete_all(txn, self._databases["pages"], PAGE_KEY.pack(tree, directory))

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
            below = self._read(partial(self._children, parent=directory))
            waiting += [(one, os.path.join(path, name)) for name, one in reversed(below)]

    def _children(self, txn: lmdb.Transaction, parent: int) -> list[tuple[bytes, int]]:
        cursor = txn.cursor(self._databases["dirs"])
        prefix = DIRECTORY_KEY.pack(parent)
        return [
            (key[8:], id_of("dirs", key, stored)) for key, stored in starting_with(cursor, prefix)
        ]

    def sizes(self) -> Sizes:
        """Return how much the store holds; reads every page's head."""

        def read(txn: lmdb.Transaction) -> Sizes:
            pages = [
                (len(one), page_facts(one)[1])
                for _, one in entries_of(txn, self._databases["pages"])
            ]
            return Sizes(
                file_bytes=(self._path / "data.mdb").stat().st_size,
                page_bytes=sum(length for length, _ in pages),
                rows=sum(rows for _, rows in pages),
                directories=txn.stat(self._databases["dirs"])["entries"] + 1,
                pages=len(pages),
            )

        return self._read(read)

    # ----------------------------------------------------------------- transactions

    def _read(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        with told(self._path), self._env.begin() as txn:
            return work(txn)

    def _write(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        while True:
            try:
                with told(self._path), self._env.begin(write=True) as txn:
                    return work(txn)
            except MapFull:
                self._map_bytes = 2 * int(self._env.info()["map_size"])
                with told(self._path):
                    self._env.set_mapsize(self._map_bytes)


def _name_key(key: Key) -> bytes:
    return DIRECTORY_KEY.pack(key[0]) + key[1]


def _delete_all(txn: lmdb.Transaction, database: Any, prefix: bytes) -> None:
    for key in [key for key, _ in starting_with(txn.cursor(database), prefix)]:
        txn.delete(key, db=database)


def _chain(cursor: Any, tree: int, directory: int) -> list[bytes]:
    """Return the pages of one directory and see that none is missing at either end."""
    found = list(starting_with(cursor, PAGE_KEY.pack(tree, directory)))
    check_chain([key[PAGE_KEY.size :] for key, _ in found], [page for _, page in found])
    return [page for _, page in found]
