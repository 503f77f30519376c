"""Read what is recorded as rows, a page at a time.

Owns the row as people's commands see it: one object an entry, which no hot path can afford. What a
page has of the directories in it are names; the rest stands in their own pages, and is put together
here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from arsync.errors import SelectionError, quoted
from arsync.manifest.contents import Recorded
from arsync.manifest.format import SEEN, Page, Place, RowState, read_columns
from arsync.manifest.reader import Reader
from arsync.manifest.records import ROOT
from arsync.model import PageFlag

__all__ = ["DIRECTORY", "FILE", "HASHED", "WORTH", "Row", "Sheet", "entries_of", "sheets_of"]

FILE: Final = 8
DIRECTORY: Final = 4
"""Types, as DT_*: a mode's bits of the type are these, shifted by 12."""

# Plain numbers: an enumeration takes a microsecond to compare, a million times.
HASHED: Final = int(RowState.HASHED)
WORTH: Final = int(RowState.HASHED | RowState.DIRTY | RowState.UNSTABLE)
"""Bits of which HASHED alone says that the hash is the content's, as far as anybody knows."""

_CHUNKED: Final = int(RowState.CHUNKED)
_BEFORE_SEEN: Final = 2
_AFTER_SEEN: Final = -3


class Row(NamedTuple):
    """Hold everything that is recorded of one entry; docs/formats.md has the columns."""

    name: bytes
    target: bytes
    type: int
    flags: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    ino: int
    mtime_s: int
    ctime_s: int
    btime_s: int
    atime_s: int
    mtime_n: int
    ctime_n: int
    btime_n: int
    atime_n: int
    rdev_major: int
    rdev_minor: int
    xattr_digest: int
    acl_digest: int
    state: int
    hash: bytes
    verified: int

    @property
    def full_mode(self) -> int:
        """Return the mode with the bits of the type."""
        return self.type << 12 | self.mode & 0o7777

    @property
    def has_hash(self) -> bool:
        """Tell whether the hash is the content's, as far as anybody knows."""
        return self.state & WORTH == HASHED

    @property
    def is_hashed(self) -> bool:
        """Tell whether a hash is recorded, of whatever worth."""
        return bool(self.state & HASHED)

    @property
    def is_chunked(self) -> bool:
        """Tell whether the hash is that of the chunks' hashes."""
        return bool(self.state & _CHUNKED)


@dataclass(frozen=True)
class Sheet:
    """Hold the rows of one page.

    Args:
        path: of the directory.
        rows: its entries; before them may stand the directory itself, whose name is empty.
        is_single: no directory was asked for, but one entry.
    """

    directory: int
    path: bytes
    rows: list[Row]
    is_single: bool = False

    def path_of(self, row: Row) -> bytes:
        """Return the path of an entry, b"" for the root."""
        return b"%b/%b" % (self.path, row.name) if row.name and self.path else self.path + row.name


def sheets_of(reader: Reader, tree: int, start: int = ROOT) -> Iterator[Sheet]:
    """Yield a directory and all below it, each entry once: a directory before its entries.

    Raises: ManifestCorruptError.
    """
    for one in reader.tree(tree, start):
        rows = rows_of(one)
        own = _own_rows(reader, tree, one.place.directory, rows)
        rows = [row for row in rows if row.name not in own]
        yield Sheet(one.place.directory, one.path, rows)


def entries_of(reader: Reader, tree: int, path: bytes) -> Iterator[Sheet]:
    """Yield a directory itself and its entries, or the one entry that a path names.

    Of a directory into which only named entries were copied, the directories among these.

    Raises: SelectionError where nothing is recorded of it; ManifestCorruptError.
    """
    directory = reader.find_directory(path)
    if directory is None:
        yield _entry(reader, tree, path)
        return
    pages = reader.directory(tree, directory, path)
    one = next(pages, None)
    if one is None:
        rows = list(_rows_by_id(reader, tree, reader.children(directory)).values())
        yield Sheet(directory, path, rows) if rows else _entry(reader, tree, path)
        return
    for page in chain((one,), pages):
        rows = rows_of(page)
        own = _own_rows(reader, tree, directory, rows)
        yield Sheet(directory, path, [own.get(row.name, row) for row in rows])


def _own_rows(reader: Reader, tree: int, directory: int, rows: list[Row]) -> dict[bytes, Row]:
    """Return those directories among the rows that have a page of their own, as that has them."""
    inodes = {row.name: row.ino for row in rows if row.type == DIRECTORY and row.name}
    ids = reader.directory_ids([(directory, name) for name in inodes])
    known = [(name, one) for name, one in zip(inodes, ids, strict=True) if one is not None]
    found = _rows_by_id(reader, tree, known)
    # another inode is a directory that was there before
    return {name: row for name, row in found.items() if row.ino == inodes[name]}


def _rows_by_id(
    reader: Reader, tree: int, directories: list[tuple[bytes, int]]
) -> dict[bytes, Row]:
    pages = reader.pages_of(tree, [one for _, one in directories])
    found = {}
    for (name, directory), own in zip(directories, pages, strict=True):
        if own:
            flags, seen = read_columns(own[0], Place(tree, directory, b""), SEEN)
            if flags & PageFlag.FIRST:
                values = {column: seen[column][0] for column in SEEN}
                found[name] = Row(name, b"", **values, state=0, hash=bytes(16), verified=0)
    return found


def _entry(reader: Reader, tree: int, path: bytes) -> Sheet:
    parent, name = os.path.split(path)
    directory = reader.find_directory(parent)
    page = None if directory is None or not name else reader.page_with(tree, directory, name)
    rows = [] if page is None else [row for row in rows_of(page) if row.name == name]
    if directory is None or not rows:
        raise SelectionError(f"nothing is recorded of {quoted(path or b'.')}")
    return Sheet(directory, parent, rows, is_single=True)


def rows_of(recorded: Recorded) -> list[Row]:
    """Return the rows of a page, its directory's own among them.

    Raises: ManifestCorruptError.
    """
    page = Page.decode(recorded.data, recorded.place)
    seen = (page.seen[name] for name in Row._fields[_BEFORE_SEEN:_AFTER_SEEN])
    known = (page.states, page.hashes, page.verified)
    return list(map(Row._make, zip(page.names, page.targets, *seen, *known, strict=True)))
