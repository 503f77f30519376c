"""Read what an open store holds: directories, pages, chunks, trees, history.

Owns the questions; whoever opens the environment says how a transaction is had: `store.Store`,
which holds the lock and writes, and `reader.Reader`, which may stand beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from arsync.errors import ManifestError
from arsync.manifest.environment import entries_of, starting_with, told, value_of, values_of
from arsync.manifest.format import Page, Place, damage, destination_of, moved, page_facts
from arsync.manifest.merged import merged
from arsync.manifest.records import (
    DIRECTORY_KEY,
    PAGE_KEY,
    check_ends,
    id_of,
    is_chain,
    is_whole,
    unseal,
)

__all__ = ["FORMAT", "Contents", "Key", "Recorded", "Sizes", "check_version", "key_of", "name_key"]

FORMAT: Final = 1

_T = TypeVar("_T")

Key = tuple[int, bytes]
"""A parent's id and a name."""


@dataclass(frozen=True)
class Sizes:
    """Say how much a store holds."""

    file_bytes: int
    page_bytes: int
    rows: int
    directories: int
    pages: int


@dataclass(frozen=True)
class Recorded:
    """Hold one page as it is recorded, unchecked but for its place in its directory.

    Args:
        path: of the directory, where that was asked for.
    """

    place: Place
    path: bytes
    data: bytes


class Contents:
    """Answer what is recorded; a class below opens the environment.

    Args:
        path: of the store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._env: lmdb.Environment
        self._databases: dict[str, Any]

    def _read(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        with told(self._path), self._env.begin() as txn:
            return work(txn)

    def directory_ids(self, keys: Sequence[Key]) -> list[int | None]:
        """Return the ids of directories by their parents' ids and their names, None for unknown."""

        def read(txn: lmdb.Transaction) -> list[int | None]:
            return [self._directory_id(txn, key) for key in keys]

        return self._read(read)

    def ids_by_key(self, keys: Sequence[bytes]) -> list[int | None]:
        """Return the ids of directories by their keys, as `name_key` makes them."""
        database = self._databases["dirs"]

        def read(txn: lmdb.Transaction) -> list[int | None]:
            found = values_of(txn, database, keys)
            return [
                None if stored is None else id_of("dirs", key, stored)
                for key, stored in zip(keys, found, strict=True)
            ]

        return self._read(read)

    def _directory_id(self, txn: lmdb.Transaction, key: Key) -> int | None:
        return self._id_by_key(txn, name_key(key))

    def _id_by_key(self, txn: lmdb.Transaction, key: bytes) -> int | None:
        stored = value_of(txn, self._databases["dirs"], key)
        return None if stored is None else id_of("dirs", key, stored)

    def next_directory(self) -> int:
        """Return the id that the next new directory gets.

        Raises: ManifestCorruptError.
        """
        return self._read(self._next)

    def _next(self, txn: lmdb.Transaction) -> int:
        stored = value_of(txn, self._databases["meta"], b"next directory")
        if stored is None:
            raise damage("the next directory's id is missing")
        return id_of("meta", b"next directory", stored)

    def _children(self, txn: lmdb.Transaction, parent: int) -> Iterator[tuple[bytes, int]]:
        cursor = txn.cursor(self._databases["dirs"])
        for key, stored in starting_with(cursor, DIRECTORY_KEY.pack(parent)):
            yield key[DIRECTORY_KEY.size :], id_of("dirs", key, stored)

    def trees(self) -> list[tuple[int, Any]]:
        """Return the source trees: number and identity."""
        return self._read(lambda txn: list(self._json(txn, "trees")))

    def destinations(self) -> list[int]:
        """Return the trees of the destination: the first, and one for each further source."""
        return self._read(self._destinations)

    def _destinations(self, txn: lmdb.Transaction) -> list[int]:
        sources = (int.from_bytes(key, "big") for key, _ in self._entries(txn, "trees"))
        return sorted({0, *map(destination_of, sources)})

    def _entries(self, txn: lmdb.Transaction, database: str) -> Iterator[tuple[bytes, bytes]]:
        return entries_of(txn, self._databases[database])

    def runs(self) -> list[tuple[int, Any]]:
        """Return the history, oldest first."""
        return self._read(lambda txn: list(self._json(txn, "runs")))

    def _json(self, txn: lmdb.Transaction, database: str) -> Iterator[tuple[int, Any]]:
        for key, stored in self._entries(txn, database):
            yield int.from_bytes(key, "big"), json.loads(unseal(database, key, stored))

    def pages_of(self, tree: int, directories: Sequence[int]) -> list[list[bytes]]:
        """Return the recorded pages of directories, [] for one that nothing is recorded of.

        That they are whole is checked, not what is in them: `arsync.uring.records` does that.

        Raises: ManifestCorruptError.
        """
        database = self._databases["pages"]

        def read(txn: lmdb.Transaction) -> list[list[bytes]]:
            keys = [PAGE_KEY.pack(tree, directory) for directory in directories]
            pages = values_of(txn, database, keys)
            return [
                [page] if page is not None and is_whole(page) else chain_of(txn, directory)
                for directory, page in zip(directories, pages, strict=True)
            ]

        def chain_of(txn: lmdb.Transaction, directory: int) -> list[bytes]:
            return [one.data for one in self._recorded(txn, tree, directory)]

        return self._read(read)

    def pages_between(self, tree: int, directory: int, first: bytes, last: bytes) -> list[bytes]:
        """Return the recorded pages of a directory that may hold names from one to another."""
        prefix = PAGE_KEY.pack(tree, directory)

        def read(txn: lmdb.Transaction) -> list[bytes]:
            cursor: Any = txn.cursor(self._databases["pages"])
            is_there = cursor.set_range(prefix + first)
            if not is_there or cursor.key() != prefix + first:
                is_before = cursor.prev() if is_there else cursor.last()
                if not is_before or not cursor.key().startswith(prefix):
                    is_there = cursor.set_range(prefix)
                else:
                    is_there = True
            found = []
            while is_there and prefix <= cursor.key() <= prefix + last:
                found.append(cursor.value())
                is_there = cursor.next()
            return found

        return self._read(read)

    def pages_moved(
        self, trees: Sequence[int], to: int, directory: int, names: tuple[bytes, bytes]
    ) -> list[bytes]:
        """Return what trees have of a directory's names from one to another.

        Returns: pages as they would be kept in the tree `to`; those of one tree after another.
        """
        place = Place(to, directory)
        return [
            moved(page, replace(place, tree=tree), place)
            for tree in trees
            for page in self.pages_between(tree, directory, *names)
        ]

    def directory_keys(self) -> list[tuple[bytes, int]]:
        """Return the keys and the ids of all directories but the root."""

        def read(txn: lmdb.Transaction) -> list[tuple[bytes, int]]:
            found = entries_of(txn, self._databases["dirs"])
            return [(key, id_of("dirs", key, stored)) for key, stored in found]

        return self._read(read)

    def chains(self) -> list[tuple[int, int, bool]]:
        """Return tree and id of all of which pages are recorded, and whether none is missing."""

        def read(txn: lmdb.Transaction) -> list[tuple[int, int, bool]]:
            found = []
            entries = entries_of(txn, self._databases["pages"])
            for prefix, group in groupby(entries, key=lambda one: one[0][: PAGE_KEY.size]):
                keys, pages = zip(*group, strict=True)
                tree, directory = PAGE_KEY.unpack(prefix)
                found.append(
                    (tree, directory, is_chain([key[len(prefix) :] for key in keys], pages))
                )
            return found

        return self._read(read)

    def records_of(self, tree: int, directory: int) -> list[Recorded]:
        """Return the recorded pages of one directory with their places.

        Raises: ManifestCorruptError.
        """
        return self._read(lambda txn: list(self._recorded(txn, tree, directory)))

    def _recorded(
        self, txn: lmdb.Transaction, tree: int, directory: int, path: bytes = b""
    ) -> Iterator[Recorded]:
        found = starting_with(txn.cursor(self._databases["pages"]), PAGE_KEY.pack(tree, directory))
        is_first = True
        for one, following in pairwise(chain(found, (None,))):
            if one is None:
                return
            first, data = one[0][PAGE_KEY.size :], one[1]
            check_ends(first, data, is_first=is_first, is_last=following is None)
            is_first = False
            yield Recorded(Place(tree, directory, first), path, data)

    def _merged(self, txn: lmdb.Transaction, directory: int, path: bytes) -> Iterator[Recorded]:
        """Yield what all trees of the destination have of a directory, as pages of the first.

        Raises: ManifestCorruptError.
        """
        chains = [list(self._recorded(txn, one, directory)) for one in self._destinations(txn)]
        present = [one for one in chains if one]
        if len(present) < 2:
            for one in chain.from_iterable(present):
                place = replace(one.place, tree=0)
                yield Recorded(place, path, moved(one.data, one.place, place))
            return
        pages = [Page.decode(one.data, one.place) for one in chain.from_iterable(present)]
        for first, data in merged(directory, pages):
            yield Recorded(Place(0, directory, first), path, data)

    def chunks_of(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the chunk hashes of files by their directories' ids and their names."""
        database = self._databases["chunks"]
        return self._read(lambda txn: [value_of(txn, database, name_key(key)) for key in keys])

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


def name_key(key: Key) -> bytes:
    """Return the key of a directory in `dirs`, or of a file in `chunks`."""
    return DIRECTORY_KEY.pack(key[0]) + key[1]


def key_of(raw: bytes) -> Key:
    """Return what `name_key` made a key of."""
    return DIRECTORY_KEY.unpack_from(raw)[0], raw[DIRECTORY_KEY.size :]


def check_version(stored: bytes) -> None:
    """See that this arsync knows a store's format.

    Args:
        stored: what `meta` has under "format".
    Raises: ManifestError for a newer one; ManifestCorruptError.
    """
    version = int.from_bytes(unseal("meta", b"format", stored), "little")
    if version > FORMAT:
        raise ManifestError(
            f"cannot read the manifest: its format is {version}, this arsync knows {FORMAT} "
            "(use a newer arsync)"
        )
    if version < FORMAT:
        raise damage(f"its format is {version}, which never was")
