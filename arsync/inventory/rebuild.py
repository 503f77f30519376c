"""Make the manifest of a destination anew: from what is there, and what can still be read of it.

Owns what is kept of the old one. Rows of the destination are what a walk of it finds now; a hash
stays with a file of the type, size, mtime and inode that it had. One whose ctime or inode has moved
is racy, with a hash or without: the next run reads it. Rows of sources stay as they were recorded:
a run compares them with what it finds. Nothing has converged, so the next run compares everything.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final

import xxhash

from arsync.checkpoint import Checkpoint
from arsync.errors import SelectionError, quoted
from arsync.inventory.rows import HASHED
from arsync.inventory.stores import Located
from arsync.manifest import lock
from arsync.manifest.format import Page, Place, RowState, moved, page_facts, read_columns
from arsync.manifest.places import put_in_place
from arsync.manifest.records import DIRECTORY_KEY, ROOT
from arsync.manifest.salvage import Salvaged, salvage
from arsync.manifest.store import Group, Store
from arsync.model import PageFlag, Side
from arsync.options import SyncOptions
from arsync.recorder import Recorder
from arsync.scan import Walk, Whole
from arsync.uring import Batch, Identity, Rules
from arsync.uring.recording import Keeping, Kept, recall, remembered
from arsync.uring.records import Slot, pack
from arsync.uring.scanner import Root, Scanner, scan_flags

__all__ = ["Rebuilt", "rebuild"]

_ALL_NAMES: Final = (b"", b"\xff" * 255)
_GROUP: Final = 1000


@dataclass
class Rebuilt:
    """Count what came of it.

    Args:
        files: regular files of the destination.
        hashed: of them, those whose recorded hash was kept.
        racy: those with size and mtime as recorded, but not their ctime or inode.
        lost: recorded hashes of files that are gone or not what they were.
        unread: directories of which nothing could be recorded.
        salvaged: what could not be read of the old manifest.
        aside: where that is now; None where it was whole, and is not needed any more.
    """

    salvaged: Salvaged
    files: int = 0
    hashed: int = 0
    racy: int = 0
    lost: int = 0
    unread: int = 0
    aside: Path | None = None


def rebuild(located: Located) -> Rebuilt:
    """Make a manifest anew.

    Durability: the old one has its place until the new one is complete and on disk.
    Raises: SelectionError where the destination is not there; LockHeldError while a run has it;
        ManifestError for a newer format; FileError.
    """
    if located.root is None:
        raise SelectionError(f"{quoted(located.identity.path)} is not there to be read")
    old = located.store
    new = old.with_name(f"{old.name}.new-{secrets.token_hex(4)}")
    lock_fd, was_clean = lock.hold(old / "lock", located.root)
    try:
        new.mkdir(mode=0o700)
        rebuilt = Rebuilt(salvage(old, new))
        with Store(new, located.root) as store:
            _Rebuilding(store, located, rebuilt).run()
        _swap(new, old, rebuilt)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        lock.release(lock_fd, clean=was_clean)
        raise
    lock.release(lock_fd, clean=False)
    return rebuilt


def _swap(new: Path, old: Path, rebuilt: Rebuilt) -> None:
    when = time.strftime("%Y-%m-%dT%H%M%S", time.localtime())
    aside = old.with_name(f"{old.name}.damaged-{when}")
    put_in_place(new, old, aside)
    if rebuilt.salvaged.damage or rebuilt.salvaged.lost:
        rebuilt.aside = aside
    else:
        shutil.rmtree(aside)


class _Rebuilding:
    """Walk a destination and record it, with what was known of it.

    Args:
        store: what was salvaged; what is not there any more goes.
    """

    def __init__(self, store: Store, located: Located, rebuilt: Rebuilt) -> None:
        self._store = store
        self._root = located.root or b""
        self._own = (located.store, located.store.parent)
        self._rebuilt = rebuilt
        self._seen: set[int] = {ROOT}
        self._long: dict[int, list[Kept]] = {}
        self._destinations = store.destinations()
        self._trees: dict[int, list[int]] = {}  # of the destination, in which a directory is
        self._identity = Identity.current()
        self._rules = Rules(SyncOptions(), 1, self._identity)
        self._keeping = Keeping(0, 0, equality=0, granule_ns=0, rules=self._rules)

    def run(self) -> None:
        """Record everything, then forget what is gone."""
        known = self._count_hashes()
        with ExitStack() as stack:
            root = stack.enter_context(Root(self._root))
            self._scanner = Scanner(
                root, None, scan_flags(SyncOptions(), as_root=self._identity.is_root)
            )
            for path in self._own:
                info = path.stat()
                self._scanner.hide(info.st_dev, info.st_ino)
            self._recorder = Recorder(self._store, _nothing_to_wait_for)
            self._places = Checkpoint(self._recorder, self._scanner, self._keeping, SyncOptions())
            try:
                walk = Walk(self._scanner, self._rules, [Whole()], self._receive)
                walk.remember(self)
                walk.run()
            finally:
                self._recorder.close()
        self._rebuilt.lost = known - self._rebuilt.hashed
        self._forget()

    # ----------------------------------------------------------- asked by the walk

    def place_path(self, batch: Batch, first_pair: int, path: bytes) -> None:
        """Say that the pairs from one on are the directory at a path."""
        self._places.place_path(batch, first_pair, path)

    def place_children(
        self, batch: Batch, first_pair: int, parent: Batch, first_child: int
    ) -> None:
        """Say that the pairs from one on are child directories."""
        self._places.place_children(batch, first_pair, parent, first_child)

    def place_rest(self, batch: Batch, first_pair: int, parent: Batch, pair: int) -> None:
        """Say that a pair is a further page of a directory."""
        self._places.place_rest(batch, first_pair, parent, pair)

    def recall(self, batch: Batch) -> None:
        """Take what was known of a batch, and record it as it is now."""
        directories = batch.directories()
        parts = batch.parts()
        chains = [
            self._store.pages_moved(
                self._trees.get(directory, ()), 0, directory, parts.get(pair, _ALL_NAMES)
            )
            for pair, directory in enumerate(directories)
        ]
        recall(self._scanner, batch, chains, [[] for _ in chains], self._keeping)
        found = [remembered(batch, pair) for pair in range(batch.pair_count)]
        slots = [
            Slot(pair, directory, known=one.known)
            for pair, (directory, one) in enumerate(zip(directories, found, strict=True))
        ]
        whole = []
        for pair, data in enumerate(pack(batch, Side.SRC, slots)):
            self._seen.add(directories[pair])
            if data is None:
                self._rebuilt.unread += 1
                continue
            self._rebuilt.files += found[pair].files
            self._rebuilt.hashed += found[pair].hashed
            self._rebuilt.racy += found[pair].racy
            flags = page_facts(data)[0]
            first = b"" if flags & PageFlag.FIRST else parts[pair][0]
            page = Kept(directories[pair], 0, flags, first, data)
            if found[pair].chunked:
                page = self._with_chunks(page)
            if pair in parts:
                self._keep_part(page)
            else:
                whole += self._in_trees(page)
        self._recorder.add(whole)

    def find_moves(self, batch: Batch, rules: Rules) -> None:
        """Look for none: nothing is compared with another side."""

    def recall_chunks(self, batch: Batch) -> None:
        """Recall none: nothing is replaced."""

    def _with_chunks(self, page: Kept) -> Kept:
        """Keep the chunk hashes that could be read; where they are lost the file has none."""
        place = Place(0, page.directory, page.key)
        decoded = Page.decode(page.data, place)
        keys = [(page.directory, name) for name in decoded.names]
        lists = self._store.chunks_of(keys)
        states, kept = list(decoded.states), []
        for row, (name, hashes) in enumerate(zip(decoded.names, lists, strict=True)):
            if states[row] & RowState.CHUNKED:
                if hashes and xxhash.xxh3_128_digest(hashes) == decoded.hashes[row]:
                    kept.append((name, b""))
                else:
                    states[row] &= ~RowState.CHUNKED
        data = replace(decoded, states=tuple(states)).encode(place)
        return page._replace(data=data, chunks=kept)

    def _in_trees(self, page: Kept) -> list[Kept]:
        """Return a page for each tree of the destination that has had its directory."""
        place = Place(0, page.directory)
        return [
            page._replace(tree=tree, data=moved(page.data, place, replace(place, tree=tree)))
            for tree in self._trees.get(page.directory, [0])
        ]

    def _keep_part(self, page: Kept) -> None:
        pages = self._long.setdefault(page.directory, [])
        pages.append(page)
        if page.flags & PageFlag.LAST:
            for some in zip(*map(self._in_trees, pages), strict=True):
                self._recorder.add_long(some)
            del self._long[page.directory]

    def _receive(self, _batch: Batch, _parents: Sequence[Batch]) -> None:
        """Leave a batch: it has been recorded before it was compared with nothing."""

    # ------------------------------------------------------------------ what is gone

    def _count_hashes(self) -> int:
        """Return how many hashes of the destination's files could be read."""
        for tree, directory, _ in self._store.chains():
            if tree in self._destinations:
                self._trees.setdefault(directory, []).append(tree)
        return sum(self._count_in(directory, trees) for directory, trees in self._trees.items())

    def _count_in(self, directory: int, trees: Sequence[int]) -> int:
        place = Place(0, directory)
        pages = self._store.pages_moved(trees, 0, directory, _ALL_NAMES)
        if len(trees) == 1:
            states = (read_columns(page, place, ("state",))[1]["state"] for page in pages)
            return sum(bool(state & HASHED) for some in states for state in some)
        decoded = [Page.decode(page, place) for page in pages]
        rows = chain.from_iterable(zip(one.names, one.states, strict=True) for one in decoded)
        return len({name for name, state in rows if state & HASHED})

    def _forget(self) -> None:
        gone = [(key, one) for key, one in self._store.directory_keys() if one not in self._seen]
        broken: list[tuple[int, int, Sequence[tuple[bytes, bytes]]]] = [
            (tree, directory, [])
            for tree, directory, is_whole in self._store.chains()
            if not is_whole or directory not in self._seen
        ]
        size = DIRECTORY_KEY.size
        removals = [(DIRECTORY_KEY.unpack(key[:size])[0], key[size:]) for key, _ in gone]
        for at in range(0, max(len(removals), len(broken)), _GROUP):
            some = slice(at, at + _GROUP)
            self._store.commit(Group(removals=removals[some], pages=broken[some]))


def _nothing_to_wait_for() -> None:
    """Have no barrier: the destination is only read."""
