"""Read what is recorded, and commit what a run records, a group of directories a transaction.

Owns the ids of new directories, what is recorded and not committed yet, and the order: first all
that the rows speak of is made durable, then the rows are committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Queue
from typing import Any, Final

from arsync.errors import FileError
from arsync.manifest.contents import Contents, Key, key_of, name_key
from arsync.manifest.format import Place
from arsync.manifest.store import Group, Store
from arsync.uring.recording import Kept

__all__ = ["Known", "Recorder"]

_GROUP_BYTES: Final = 6 << 20
_GROUPS_WAITING: Final = 1
_GROUP_S: Final = 5.0
_PAGE_BYTES: Final = 500
_ID_BYTES: Final = 250
"""What Python takes for a page, and for the id of a directory, beside their own bytes."""
_ALL_NAMES: Final = (b"", b"\xff" * 255)


class Known:
    """Answer what is recorded, to any thread.

    Args:
        contents: an open store, which the caller closes.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._lock = threading.Lock()
        self._moved: dict[bytes, int] = {}
        self._left: set[bytes] = set()
        self._others: list[int] = []

    def share(self, tree: int) -> None:
        """Ask the destination's other trees, too, for what this one does not have."""
        with self._lock:
            self._others = [one for one in self._contents.destinations() if one != tree]

    def directory_ids(self, keys: Sequence[bytes]) -> list[int]:
        """Return the ids of directories by their keys; 0 for one that has none.

        Raises: ManifestCorruptError.
        """
        with self._lock:
            return self._ids(keys)

    def _ids(self, keys: Sequence[bytes]) -> list[int]:
        found = self._contents.ids_by_key(keys)
        if not self._moved:
            return [known or 0 for known in found]
        return [
            self._moved.get(key) or (known if known and key not in self._left else 0)
            for key, known in zip(keys, found, strict=True)
        ]

    def move(self, directory: int, old: bytes, new: bytes) -> None:
        """Give a directory, which keeps its id, another key."""
        with self._lock:
            self._moved[new] = directory
            self._left.add(old)

    def pages_of(self, tree: int, directories: Sequence[int]) -> list[list[bytes]]:
        """Return the pages of directories, [] for one of which nothing is recorded.

        Raises: ManifestCorruptError.
        """
        with self._lock:
            return self._contents.pages_of(tree, directories)

    def pages_between(self, tree: int, directory: int, first: bytes, last: bytes) -> list[bytes]:
        """Return the pages of a directory that may hold names from one to another."""
        with self._lock:
            return self._contents.pages_between(tree, directory, first, last)

    def recalled(self, tree: int, directories: Sequence[int]) -> list[list[bytes]]:
        """Return the pages of destination directories, or what the runs of other sources know.

        Raises: ManifestCorruptError.
        """
        chains = self.pages_of(tree, directories)
        if self._others:
            for chain, directory in zip(chains, directories, strict=True):
                if not chain:
                    chain += self._pages_of_others(tree, directory, _ALL_NAMES)
        return chains

    def recalled_between(self, tree: int, directory: int, first: bytes, last: bytes) -> list[bytes]:
        """Return the same of the names from one to another."""
        found = self.pages_between(tree, directory, first, last)
        return found or self._pages_of_others(tree, directory, (first, last))

    def _pages_of_others(
        self, tree: int, directory: int, names: tuple[bytes, bytes]
    ) -> list[bytes]:
        with self._lock:
            if not self._is_stored(directory):
                return []
            return self._contents.pages_moved(self._others, tree, directory, names)

    def _is_stored(self, directory: int) -> bool:
        return directory > 0

    def chunks_of(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the chunk hashes of files by their directories' ids and their names."""
        with self._lock:
            return self._contents.chunks_of(keys)


@dataclass(eq=False)
class _Gathered:
    """Hold what one transaction will change, and until then what is looked up in it.

    Args:
        ids: of new directories, by their keys.
        firsts: for a tree and a directory the page that begins it.
        bytes: of all pages and hashes.
    """

    group: Group = field(default_factory=Group)
    ids: dict[bytes, int] = field(default_factory=dict)
    firsts: dict[tuple[int, int], bytes] = field(default_factory=dict)
    bytes: int = 0


class Recorder(Known):
    """Gather what is to be recorded and commit it, a group at a time, from a thread of its own.

    Args:
        store: open, and kept open by the caller until `close`.
        barrier: makes everything durable that the run has done; called before each commit.
        may_give_up: where the store cannot be written any more, nothing further is recorded.
    """

    def __init__(
        self, store: Store, barrier: Callable[[], None], *, may_give_up: bool = False
    ) -> None:
        super().__init__(store)
        self._store = store
        self._barrier = barrier
        self._next_id = self._first_unstored = store.next_directory()
        self._now = _Gathered()
        self._uncommitted = [self._now]
        self._since = time.monotonic()
        self._passing = threading.Lock()
        self._groups: Queue[_Gathered | None] = Queue(_GROUPS_WAITING)
        self._error: BaseException | None = None
        self._may_give_up = may_give_up
        self.given_up: FileError | None = None
        self._thread = threading.Thread(target=self._commit_all, name="arsync-recorder")
        self._thread.start()

    def directory_ids(self, keys: Sequence[bytes]) -> list[int]:
        """Return the ids of directories by their keys; one that is new gets the next."""
        with self._lock:
            found = self._ids(keys)
            if self.given_up:
                return found
            return [known or self._new_id(key) for key, known in zip(keys, found, strict=True)]

    def move(self, directory: int, old: bytes, new: bytes) -> None:
        """Give a directory another key, with the next commit."""
        super().move(directory, old, new)
        with self._lock:
            self._now.group.moves.append((key_of(old), key_of(new)))

    def _new_id(self, key: bytes) -> int:
        for one in self._uncommitted:
            if key in one.ids:
                return one.ids[key]
        known = self._now.ids[key] = self._next_id
        self._now.bytes += _ID_BYTES
        self._next_id += 1
        return known

    def pages_of(self, tree: int, directories: Sequence[int]) -> list[list[bytes]]:
        """Return the pages of directories, the one that begins them as this run records it.

        A directory whose id is not in the store yet has no page there either.
        """
        with self._lock:
            chains = self._stored_pages(tree, directories)
            for firsts in [one.firsts for one in self._uncommitted if one.firsts]:
                for chain, directory in zip(chains, directories, strict=True):
                    if (tree, directory) in firsts:
                        chain[:1] = [firsts[tree, directory]]
            return chains

    def forget_chunks(self, keys: Sequence[Key]) -> None:
        """Forget the chunk hashes of files that will be written into.

        Durability: forgotten when it returns.
        """
        self._store.commit(Group(chunks=[(key, b"") for key in keys]))

    def _stored_pages(self, tree: int, directories: Sequence[int]) -> list[list[bytes]]:
        stored = [one for one in directories if self._is_stored(one)]
        found = self._contents.pages_of(tree, stored) if stored else []
        if len(stored) == len(directories):
            return found
        rest = iter(found)
        return [next(rest) if self._is_stored(one) else [] for one in directories]

    def _is_stored(self, directory: int) -> bool:
        return 0 < directory < self._first_unstored

    def add(self, pages: Sequence[Kept], *, only_beginnings: bool = False) -> None:
        """Record pages, each all of its directory, or only what begins it.

        Raises: what ended an earlier commit.
        """
        with self._lock:
            for one in () if self.given_up else pages:
                if only_beginnings:
                    self._now.group.beginnings[one.tree, one.directory] = one.data
                else:
                    self._add_all(one.tree, one.directory, [(one.key, one.data)])
                    self._note_chunks(one.tree, one.directory, one.chunks)
                self._note(one.tree, one.directory, one.data, len(one.data))
        self._pass_on(at_once=False)

    def add_long(self, pages: Sequence[Kept]) -> None:
        """Record all pages of one side of a directory of many."""
        tree, directory = pages[0].tree, pages[0].directory
        with self._lock:
            if self.given_up:
                return
            self._add_all(tree, directory, [(one.key, one.data) for one in pages])
            self._note_chunks(tree, directory, [file for one in pages for file in one.chunks])
            self._note(tree, directory, pages[0].data, sum(len(one.data) for one in pages))
        self._pass_on(at_once=False)

    def _add_all(self, tree: int, directory: int, pages: Sequence[tuple[bytes, bytes]]) -> None:
        """Add all pages of a directory; what an earlier source left at its beginning is past."""
        self._now.group.beginnings.pop((tree, directory), None)
        self._now.group.pages.append((tree, directory, pages))

    def _note_chunks(
        self, tree: int, directory: int, chunks: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Note of a directory of the destination the files that keep chunk hashes, or get some."""
        if Place(tree, directory).is_of_source:
            return
        self._now.group.chunked.append((directory, frozenset(name for name, _ in chunks)))
        for name, hashes in chunks:
            if hashes:
                self._now.group.chunks.append(((directory, name), hashes))
                self._now.bytes += len(hashes)

    def _note(self, tree: int, directory: int, first: bytes, length: int) -> None:
        self._now.firsts[tree, directory] = first
        self._now.bytes += length + _PAGE_BYTES

    def _pass_on(self, *, at_once: bool) -> None:
        with self._passing:  # groups are committed in the order in which they were gathered
            with self._lock:
                if self._error:
                    raise self._error
                if self.given_up:
                    return
                late = time.monotonic() - self._since > _GROUP_S
                if not (at_once or late or self._now.bytes > _GROUP_BYTES):
                    return
                gathered = self._now
                gathered.group.directories = list(gathered.ids.items())
                self._now = _Gathered()
                self._uncommitted.append(self._now)
                self._since = time.monotonic()
            self._groups.put(gathered)

    def close(self, line: dict[str, Any] | None = None) -> None:
        """Commit what is left, with a line of the history, and end the thread.

        `given_up` then says whether it did.

        Raises: what ended a commit: FileError for a full disk, ManifestCorruptError.
        """
        if line and not self.given_up:
            self._now.group.runs.append(line)
        try:
            self._pass_on(at_once=True)
        finally:
            self._groups.put(None)
            self._thread.join()
        if self._error:
            raise self._error

    def _commit_all(self) -> None:
        while (gathered := self._groups.get()) is not None:
            if self._error or self.given_up:
                continue
            try:
                if gathered.group.pages or gathered.group.beginnings or gathered.group.moves:
                    self._barrier()
                self._commit(gathered)
            except BaseException as error:
                self._error = error

    def _commit(self, gathered: _Gathered) -> None:
        try:
            self._store.commit(gathered.group)
        except FileError as error:
            if not self._may_give_up:
                raise
            self.give_up(error)
            return
        with self._lock:
            self._uncommitted.remove(gathered)
            self._first_unstored += len(gathered.ids)
            for old, new in gathered.group.moves:
                self._left.discard(name_key(old))
                self._moved.pop(name_key(new), None)

    def give_up(self, error: FileError) -> None:
        """Record nothing any more: what is recorded is as whole as after the last commit."""
        with self._lock:
            self.given_up = error
            self._now = _Gathered()
            self._uncommitted = [self._now]
