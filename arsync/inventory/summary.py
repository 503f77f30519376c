"""Sum up stores: how much they hold, what is hashed, how the last runs ended.

Owns the sums. Of each page only the columns that are needed are decoded, so a million rows take
0.6 s.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from arsync.errors import ArsyncError, SelectionError
from arsync.inventory.rows import FILE, HASHED, WORTH
from arsync.inventory.stores import Located
from arsync.manifest import lock
from arsync.manifest.contents import Recorded
from arsync.manifest.format import Page, RowState, read_columns
from arsync.manifest.reader import Reader
from arsync.model import PageFlag

__all__ = ["Content", "Stat", "Status", "TreeSize", "Verified", "describe_store", "stat_store"]

DESTINATION: Final = 0
_COLUMNS: Final = ("type", "size", "state", "verified")
_MARKS: Final = (RowState.RACY, RowState.DIRTY, RowState.UNSTABLE, RowState.VOLATILE)


@dataclass(frozen=True)
class Verified:
    """Hold when a file was last verified, in seconds since 1970, and which one."""

    seconds: int
    path: bytes


@dataclass
class Content:
    """Sum up the files of a destination.

    Args:
        marks: files that are racy, dirty, unstable or volatile, by the state's name.
        never: hashed files that have not been verified since they were hashed.
    """

    files: int = 0
    bytes: int = 0
    hashed_files: int = 0
    hashed_bytes: int = 0
    never: int = 0
    marks: Counter[str] = field(default_factory=Counter)
    oldest: Verified | None = None
    newest: Verified | None = None

    @property
    def share(self) -> float:
        """Return which share of the files is hashed."""
        return self.hashed_files / self.files if self.files else 1.0


@dataclass
class TreeSize:
    """Sum up what is recorded of one tree; tree 0 is the destination.

    Args:
        identity: of a source, as recorded.
        converged: directories in which both sides agreed.
    """

    tree: int
    identity: dict[str, Any] | None
    directories: int = 0
    converged: int = 0
    pages: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Stat:
    """Hold how much a store holds."""

    located: Located
    lock: lock.LockState
    file_bytes: int
    trees: list[TreeSize]
    content: Content
    runs: int
    first_run: dict[str, Any] | None
    last_run: dict[str, Any] | None

    @property
    def rows(self) -> int:
        """Return the rows of all trees."""
        return sum(tree.rows for tree in self.trees)

    @property
    def page_bytes(self) -> int:
        """Return the bytes of the pages of all trees."""
        return sum(tree.bytes for tree in self.trees)


@dataclass(frozen=True)
class Status:
    """Hold how a store is.

    Args:
        trouble: why it cannot be read, "" where it can.
        runs: the last ones, newest first; None where nothing could be read.
    """

    located: Located
    lock: lock.LockState
    trouble: str = ""
    exit_code: int = 0
    runs: list[dict[str, Any]] | None = None
    content: Content | None = None


def describe_store(located: Located, run_count: int) -> Status:
    """Look at a store, and say of one that cannot be read why.

    Args:
        run_count: how many runs are wanted.
    """
    state = lock.look(located.store / "lock")
    try:
        with Reader(located.store) as reader:
            runs = [line for _, line in reader.runs()[-run_count:]] if run_count else []
            return Status(located, reader.lock, runs=runs[::-1], content=_content(reader))
    except SelectionError:  # its first run has not come to its first record
        return Status(located, state, runs=[], content=Content())
    except ArsyncError as error:
        return Status(located, state, trouble=str(error), exit_code=error.exit_code)


def stat_store(located: Located) -> Stat:
    """Measure a store.

    Raises: SelectionError where nothing is recorded; ManifestError; FileError.
    """
    with Reader(located.store) as reader:
        runs = [line for _, line in reader.runs()]
        sizes: list[TreeSize] = [TreeSize(DESTINATION, None)]
        sizes += [TreeSize(tree, identity) for tree, identity in reader.trees()]
        for size in sizes:
            for one in reader.tree(size.tree):
                _add_page(size, one)
        return Stat(
            located,
            reader.lock,
            (located.store / "data.mdb").stat().st_size,
            sizes,
            _content(reader),
            len(runs),
            runs[0] if runs else None,
            runs[-1] if runs else None,
        )


def _add_page(size: TreeSize, one: Recorded) -> None:
    flags, columns = read_columns(one.data, one.place, ("type",))
    is_first = not one.place.first
    size.directories += is_first
    size.converged += bool(is_first and flags & PageFlag.CONVERGED)
    size.pages += 1
    size.rows += len(columns["type"])
    size.bytes += len(one.data)


def _content(reader: Reader) -> Content:
    total = Content()
    oldest: tuple[int, Recorded, int] | None = None
    newest: tuple[int, Recorded, int] | None = None
    for page in reader.tree(DESTINATION):
        for index, verified in _add_files(total, page):
            if oldest is None or verified < oldest[0]:
                oldest = verified, page, index
            if newest is None or verified > newest[0]:
                newest = verified, page, index
    total.oldest = oldest and _verified(*oldest)
    total.newest = newest and _verified(*newest)
    return total


def _add_files(total: Content, page: Recorded) -> Iterator[tuple[int, int]]:
    """Add the files of a page; yield the index and time of those that were verified."""
    _, columns = read_columns(page.data, page.place, _COLUMNS)
    rows = zip(*(columns[name] for name in _COLUMNS), strict=True)
    for index, (kind, size, state, verified) in enumerate(rows):
        if kind != FILE:
            continue
        total.files += 1
        total.bytes += size
        if state & WORTH == HASHED:
            total.hashed_files += 1
            total.hashed_bytes += size
            if verified:
                yield index, verified
            else:
                total.never += 1
        if state & ~HASHED:
            total.marks.update(str(mark.name).lower() for mark in _MARKS if state & mark)


def _verified(seconds: int, page: Recorded, index: int) -> Verified:
    name = Page.decode(page.data, page.place).names[index]
    return Verified(seconds, os.path.join(page.path, name))
