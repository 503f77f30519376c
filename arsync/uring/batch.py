"""Hold a `struct ar_batch` and read it: what changes, what went wrong.

Owns the layout of rows, pages, pairs, changes and problems as Python reads them. Stages pass a
batch on without looking inside; only who prints names does, one generator a batch, because a
Python object a file costs as much as the whole scan of it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from arsync.errors import OutOfMemoryError
from arsync.model import Change, ChangeFlag, Kind, Problem, ProblemKind, Side, Stat, State, Why
from arsync.uring._native import ffi, lib

if TYPE_CHECKING:
    from arsync.uring._native import CData
    from arsync.uring.rules import Rules

__all__ = ["Batch", "Pruned", "Tally"]

_PAGE: Final = Struct("<8IQ")
"""Flags to dev of `struct ar_page`; its own row follows, then the rows."""

_ROW: Final = Struct("<IHBBIII4xQ8xq24xI20xII16x")
"""Name, type, flags, mode, owner, size, mtime and link target of `struct ar_row`."""

_STAT: Final = Struct("<8x3I4x2Q2q16x2I40x")
"""Mode, owner, size, inode, mtime and ctime of `struct ar_row`."""

_PAIR: Final = Struct("<QQIIII24x3I4BIIQ16s")
"""All of `struct ar_pair`, its own change included."""

_DIRECTORY: Final = ffi.offsetof("struct ar_pair", "directory") // 8
"""Which of a pair's words of 8 bytes is the directory's id."""

_CHANGE: Final = Struct("<3I4BIIQ16s")
_PROBLEM: Final = Struct("<IIHBBi")

_ROWS_OFFSET: Final = _PAGE.size + _ROW.size

_DT_DIR: Final = 4


class _Facts(NamedTuple):
    """Hold what `_CHANGE` unpacks."""

    src_row: int
    dst_row: int
    why: int
    kind: int
    state: int
    method: int
    flags: int
    aux: int
    aux_len: int
    moved: int
    digest: bytes


_UNCHANGED: Final = _Facts(0, lib.AR_NONE, 0, Kind.META, State.DONE, 0, 0, 0, 0, 0, b"")


@dataclass(frozen=True)
class _Page:
    """Hold a page's header beside the bytes of all pages of its side."""

    data: bytes
    offset: int
    flags: int
    row_count: int
    path: bytes
    alias: bytes

    @classmethod
    def at(cls, data: bytes, offset: int) -> _Page:
        """Read the header of the page at an offset."""
        _, flags, row_count, _, path_off, path_len, alias_off, alias_len, _ = _PAGE.unpack_from(
            data, offset
        )
        path_at, alias_at = offset + path_off, offset + alias_off
        # A component that ends in NUL is a link that is followed; people know it without.
        path = data[path_at : path_at + path_len].replace(b"\0", b"")
        return cls(data, offset, flags, row_count, path, data[alias_at : alias_at + alias_len])

    def name(self, row: int) -> bytes:
        """Return the name of a row as the destination has it."""
        name_off, name_len, *_ = _ROW.unpack_from(self.data, self.row_offset(row))
        start = self.offset + int(name_off)
        return self.data[start : start + int(name_len)]

    def row_offset(self, row: int) -> int:
        """Return where a row is in the data."""
        return self.offset + _ROWS_OFFSET + _ROW.size * row

    def row_of(self, name: bytes) -> int:
        """Return the row of a name, which must be there."""
        return [self.name(row) for row in range(self.row_count)].index(name)

    def stat(self, row: int) -> Stat:
        """Return what was seen of a row; -1 stands for the directory itself."""
        at = self.row_offset(row)
        mode, uid, gid, size, ino, mtime_s, ctime_s, mtime_n, ctime_n = _STAT.unpack_from(
            self.data, at
        )
        mtime_ns, ctime_ns = mtime_s * 10**9 + mtime_n, ctime_s * 10**9 + ctime_n
        return Stat(mode, uid, gid, size, ino, mtime_ns, ctime_ns)

    def path_of(self, name: bytes) -> bytes:
        """Return the path of an entry below the root."""
        return self.path + b"/" + name if self.path else name


class _Seen(NamedTuple):
    """Hold the pages of a directory on both sides, None where there is none."""

    src: _Page | None
    dst: _Page | None

    def added_to(self, change: Change, src_row: int, dst_row: int) -> Change:
        """Return a change with what was seen of its rows."""
        return change._replace(
            src=self.src.stat(src_row) if self.src else None,
            dst=self.dst.stat(dst_row) if self.dst and dst_row != lib.AR_NONE else None,
        )


class Pruned(enum.IntEnum):
    """Say what a directory, or a page of one, has in it (AR_PRUNE_*)."""

    FULL = 0
    BARE = 1
    NEITHER = 2


class Batch:
    """Hold one batch of directories, the unit that goes from stage to stage.

    One thread at a time may use it. What C gets is `raw`, a `struct ar_batch *`.

    Raises: OutOfMemoryError.
    """

    __slots__ = ("raw",)

    def __init__(self) -> None:
        raw = lib.ar_batch_new()
        if raw == ffi.NULL:
            raise OutOfMemoryError("out of memory: cannot make another batch")
        self.raw: CData = ffi.gc(raw, lib.ar_batch_free)

    def compare(self, rules: Rules) -> None:
        """Let C fill in the changes and children of a scanned batch.

        Raises: OutOfMemoryError.
        """
        if lib.ar_diff(self.raw, rules.raw):
            raise OutOfMemoryError("out of memory for the changes of a batch")

    def make_children_shallow(self) -> None:
        """Have the directories below made, and nothing in them looked at."""
        for index in range(self.raw.child_count):
            self.raw.children[index].flags |= lib.AR_CHILD_SHALLOW

    def asks_for_filter(self, child: int) -> bool:
        """Tell whether the scan stopped before a child directory for its filter rules."""
        return bool(self.raw.children[child].flags & lib.AR_CHILD_ASK)

    def is_extra(self, child: int) -> bool:
        """Tell whether only the destination has a child directory."""
        return bool(self.raw.children[child].flags & lib.AR_CHILD_EXTRA)

    def blocked(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield what a directory is in the way of: its directory's path in the source, its name.

        In the path a component that ends in NUL is a link of the source that is followed.
        """
        if not self.raw.blocking_count:
            return
        for index in range(self.child_count):
            one = self.raw.children[index]
            if one.flags & lib.AR_CHILD_BLOCKING:
                yield self.src_path(one.pair), self._child_name(index)

    def forget_found(self) -> None:
        """Count nothing as found: another walk has counted it."""
        tally = self.raw.tally
        for name in ("files", "dirs", "symlinks", "devices", "specials", "bytes", "dst"):
            setattr(tally, f"found_{name}", 0)

    def extra_pairs(self, begin: int) -> list[bool]:
        """Tell of each directory from an index on whether it is a page of extras."""
        return [
            bool(self.raw.pairs[pair].flags & lib.AR_PAIR_EXTRA)
            for pair in range(begin, self.pair_count)
        ]

    def child_place(self, child: int) -> tuple[bytes, int]:
        """Return the path of a child directory below the root, and its parent's filter table."""
        one = self.raw.children[child]
        pair = self.raw.pairs[one.pair]
        page = self._src_page(one.pair)
        if self.is_extra(child):
            page = ffi.cast("struct ar_page *", self.raw.dst + pair.dst_page)
        header = _Page.at(bytes(ffi.buffer(page, page.bytes)), 0)
        return header.path_of(header.name(one.row)), int(pair.filter)

    def set_child_filter(self, child: int, table: int) -> None:
        """Say which filter table is in force in a child directory."""
        self.raw.children[child].filter = table
        self.raw.children[child].flags &= ~lib.AR_CHILD_ASK

    def child_pair(self, child: int) -> int:
        """Return which of the directories holds a child directory."""
        return int(self.raw.children[child].pair)

    def look_for_entries(self) -> list[Pruned]:
        """Return of each directory whether anything but directories is in it."""
        found = ffi.new("uint8_t[]", max(1, self.pair_count))
        lib.ar_prune_look(self.raw, found)
        return [Pruned(one) for one in found[0 : self.pair_count]]

    def take_directory(self, pair: int) -> Batch:
        """Move what is to be done for a directory itself into a batch of its own.

        Raises: OutOfMemoryError.
        """
        alone = Batch()
        if lib.ar_prune_hold(self.raw, pair, alone.raw):
            raise OutOfMemoryError("out of memory for a directory that waits for entries")
        return alone

    def path(self, pair: int) -> bytes:
        """Return the path of one of the directories as people know it."""
        return self.src_path(pair).replace(b"\0", b"")

    def has_read_errors(self) -> bool:
        """Tell whether something of the source could not be looked at, what vanished left out."""
        return any(
            kind == ProblemKind.FAILED and side == Side.SRC
            for _, _, _, kind, side, _ in self._problems()
        )

    def src_path(self, pair: int = 0) -> bytes:
        """Return the path of one of the directories, where a link's component ends in NUL."""
        page = self._src_page(pair)
        return bytes(ffi.buffer(ffi.cast("char *", page) + page.path_off, page.path_len))

    def directories(self) -> list[int]:
        """Return the manifest's ids of the directories, one a pair; 0 for one that has none."""
        if not self.raw.pair_count:
            return []
        pairs = ffi.buffer(self.raw.pairs, self.raw.pair_count * _PAIR.size)
        return memoryview(pairs).cast("Q")[_DIRECTORY :: _PAIR.size // 8].tolist()

    def parts(self) -> dict[int, tuple[bytes, bytes]]:
        """Return the pairs that are not all of their directory, with their first and last name."""
        found = {}
        index = lib.ar_next_part(self.raw, 0)
        while index < self.raw.pair_count:
            page = self._src_page(index)
            part = _Page.at(bytes(ffi.buffer(page, page.bytes)), 0)
            last = part.row_count - 1
            found[index] = (part.name(0), part.name(last)) if last >= 0 else (b"", b"")
            index = lib.ar_next_part(self.raw, index + 1)
        return found

    def forget(self, path: bytes) -> None:
        """Forget what was recorded of a source's entry, by its path, if it is in here."""
        directory, _, name = path.rpartition(b"/")
        for index in range(self.raw.pair_count):
            pair = self.raw.pairs[index]
            if pair.flags & lib.AR_PAIR_EXTRA or pair.memory == lib.AR_NO_PAGE:
                continue
            page = self._src_page(index)
            whole = _Page.at(bytes(ffi.buffer(page, page.bytes)), 0)
            for row in range(whole.row_count if whole.path == directory else 0):
                if whole.name(row) == name:
                    self.raw.memory[pair.memory + row].state[0] = 0

    def ends_directory(self, pair: int) -> bool:
        """Tell whether a pair is the last page of its directory."""
        return bool(self._src_page(pair).flags & lib.AR_PAGE_LAST)

    @property
    def pair_count(self) -> int:
        """Count the directories, or pages of them."""
        return int(self.raw.pair_count)

    @property
    def change_count(self) -> int:
        """Count the changed entries, those that wait for a later phase included."""
        return int(self.raw.change_count)

    @property
    def child_count(self) -> int:
        """Count the directories to scan next."""
        return int(self.raw.child_count)

    @property
    def problem_count(self) -> int:
        """Count the problems."""
        return int(self.raw.problem_count)

    @property
    def has_waited(self) -> bool:
        """Tell whether its scan had to wait for what was not in memory."""
        return bool(self.raw.waits)

    @property
    def tally(self) -> CData:
        """Return the `struct ar_tally` of scan and diff.

        Later.add takes followers out of what is planned: read it after that.
        """
        return self.raw.tally

    def changes(
        self, *, unchanged: bool = False, passed: bool = False, stats: bool = False
    ) -> Iterator[Change]:
        """Yield the changes, each directory's own before those of its entries.

        A further name of a hard-linked file is not among them: it comes in a batch of the link
        phase, or needs only what the first name gets. A big file is, with State.LATER until it is
        copied.

        Args:
            unchanged: yield entries that need nothing too, with no `why` and State.DONE.
            passed: yield those of Kind.NONE too, which the update rules leave alone.
            stats: as Listener has it.
        Returns: about 2 us an entry.
        """
        dst = _bytes_of(self.raw.dst, self.raw.dst_bytes) if stats else b""
        src = _bytes_of(self.raw.src, self.raw.src_bytes)
        aux = self.aux
        left_alone = self._left_alone() if unchanged else frozenset()
        for index, (src_page, dst_page, first, count, flags, _, *own) in enumerate(self._pairs()):
            if flags & lib.AR_PAIR_EXTRA:
                yield from self._deletions(dst_page, first, count, stats=stats)
                continue
            page = _Page.at(src, src_page)
            seen = _Seen(
                page, _Page.at(dst, dst_page) if stats and dst_page != lib.AR_NO_PAGE else None
            )
            facts = _Facts._make(own)
            if facts.kind or (unchanged and _shows_itself(page, flags)):
                change = _directory(page, facts)
                yield seen.added_to(change, -1, -1) if stats else change
            changes = self._changes_of(first, count)
            if unchanged:
                changes = _with_unchanged(page, changes, index, left_alone)
            else:  # a further name of a file may have turned out to be as good as it can be
                changes = (change for change in changes if change.why)
            yield from _entries(page, changes, aux, passed=passed, seen=seen if stats else None)
        if stats:
            yield from self._displaced()

    def problems(self) -> Iterator[Problem]:
        """Yield the problems, with paths below the root of their side."""
        src = _bytes_of(self.raw.src, self.raw.src_bytes)
        dst = _bytes_of(self.raw.dst, self.raw.dst_bytes)
        for pair, row, op, kind, side, err in self._problems():
            facts = self.raw.pairs[pair]
            is_extra = facts.flags & lib.AR_PAIR_EXTRA
            page = _Page.at(dst, facts.dst_page) if is_extra else _Page.at(src, facts.src_page)
            name = b"" if row == lib.AR_NONE else page.name(row)
            if side == Side.DST and facts.dst_page != lib.AR_NO_PAGE:
                page = _Page.at(dst, facts.dst_page)
            elif name and side == Side.SRC:
                name = page.alias or name
            yield Problem(page.path_of(name) if name else page.path, kind, op, side, err)

    def _src_page(self, pair: int) -> CData:
        return ffi.cast("struct ar_page *", self.raw.src + self.raw.pairs[pair].src_page)

    def _deletions(self, dst_page: int, first: int, count: int, *, stats: bool) -> Iterator[Change]:
        """Yield what goes of a page of extras."""
        if not count:
            return
        page = _Page.at(_bytes_of(self.raw.dst, self.raw.dst_bytes), dst_page)
        rows = (one._replace(src_row=one.dst_row) for one in self._changes_of(first, count))
        seen = _Seen(None, page) if stats else None
        yield from _entries(page, rows, b"", passed=False, seen=seen)

    def _displaced(self) -> Iterator[Change]:
        """Yield what the destination has under the names of directories, and is none."""
        for index in range(self.child_count):
            one = self.raw.children[index]
            if not one.flags & lib.AR_CHILD_DST_OTHER:
                continue
            src = self._src_page(one.pair)
            name = _Page.at(bytes(ffi.buffer(src, src.bytes)), 0).name(one.row)
            dst = ffi.cast("struct ar_page *", self.raw.dst + self.raw.pairs[one.pair].dst_page)
            page = _Page.at(bytes(ffi.buffer(dst, dst.bytes)), 0)
            stat = page.stat(page.row_of(name))
            yield Change(page.path_of(name), Kind.DELETE, Why.TYPE, mode=stat.mode, dst=stat)

    @property
    def aux(self) -> bytes:
        """Return what C has left beside the pages: what it is, its function says."""
        return _bytes_of(self.raw.aux, self.raw.aux_bytes)

    def _pairs(self) -> Iterator[tuple[int, ...]]:
        return _unpacked(_PAIR, self.raw.pairs, self.raw.pair_count)

    def _problems(self) -> Iterator[tuple[int, ...]]:
        return _unpacked(_PROBLEM, self.raw.problems, self.raw.problem_count)

    def _changes_of(self, first: int, count: int) -> Iterator[_Facts]:
        return map(_Facts._make, _unpacked(_CHANGE, self.raw.changes + first, count))

    def _left_alone(self) -> frozenset[tuple[int, int]]:
        """Return (pair, row) of the source's entries that could not be handled or are left out."""
        alone = {(pair, row) for pair, row, *_ in self._problems()}
        if self.raw.blocking_count:
            for index in range(self.child_count):
                one = self.raw.children[index]
                if one.flags & lib.AR_CHILD_BLOCKING:
                    alone.add((one.pair, self._src_row(one.pair, self._child_name(index))))
        return frozenset(alone)

    def _src_row(self, pair: int, name: bytes) -> int:
        page = self._src_page(pair)
        return _Page.at(bytes(ffi.buffer(page, page.bytes)), 0).row_of(name)

    def _child_name(self, child: int) -> bytes:
        """Return the name of a child directory that only the destination has."""
        one = self.raw.children[child]
        page = ffi.cast("struct ar_page *", self.raw.dst + self.raw.pairs[one.pair].dst_page)
        return _Page.at(bytes(ffi.buffer(page, page.bytes)), 0).name(one.row)


class Tally:
    """Hold a `struct ar_tally` that batches are added to; any thread may add."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw: CData = ffi.new("struct ar_tally *")

    def add(self, tally: CData) -> None:
        """Add the tally of one batch."""
        lib.ar_tally_add(self.raw, ffi.addressof(tally))


def _bytes_of(pointer: CData, count: int) -> bytes:
    return bytes(ffi.buffer(pointer, count)) if count else b""


def _unpacked(layout: Struct, array: CData, count: int) -> Iterator[tuple[int, ...]]:
    if not count:
        return iter(())
    return layout.iter_unpack(ffi.buffer(array, count * layout.size)[:])


def _shows_itself(page: _Page, pair_flags: int) -> bool:
    hidden = pair_flags & (lib.AR_PAIR_NAMED | lib.AR_PAIR_FINISH | lib.AR_PAIR_HELD)
    return bool(page.flags & lib.AR_PAGE_FIRST) and not hidden


def _directory(page: _Page, facts: _Facts) -> Change:
    row = _ROW.unpack_from(page.data, page.offset + _PAGE.size)
    _, _, _, _, mode, uid, gid, size, mtime_s, mtime_n, _, _ = row
    state = facts.state if facts.kind else State.DONE
    return Change(
        page.path,
        Kind.DIR,
        facts.why,
        state,
        0,
        facts.flags,
        mode,
        uid,
        gid,
        size,
        mtime_s,
        mtime_n,
    )


def _entries(
    page: _Page,
    changes: Iterator[_Facts],
    aux: bytes,
    *,
    passed: bool,
    seen: _Seen | None = None,
) -> Iterator[Change]:
    data, offset = page.data, page.offset
    first_row = offset + _ROWS_OFFSET
    prefix = page.path + b"/" if page.path else b""
    for row, dst_row, why, kind, state, method, flags, first, first_len, moved, digest in changes:
        if kind == Kind.LINK and state == State.LATER and why:
            continue
        if kind == Kind.NONE and not passed:
            continue
        (name_off, name_len, _, _, mode, uid, gid, size, mtime_s, mtime_n, link_off, link_len) = (
            _ROW.unpack_from(data, first_row + _ROW.size * row)
        )
        name_at, link_at = offset + name_off, offset + link_off
        link = aux[first : first + first_len] if first_len else data[link_at : link_at + link_len]
        change = Change(
            prefix + (page.alias or data[name_at : name_at + name_len]),
            kind,
            why,
            state,
            method,
            flags,
            mode,
            uid,
            gid,
            size,
            mtime_s,
            mtime_n,
            link.replace(b"\0", b"") if first_len else link,
            moved,
            digest if flags & ChangeFlag.HASHED else b"",
        )
        yield seen.added_to(change, row, dst_row) if seen else change


def _with_unchanged(
    page: _Page, changes: Iterator[_Facts], pair: int, left_alone: frozenset[tuple[int, int]]
) -> Iterator[_Facts]:
    """Put the rows without a change between those that have one."""
    changed = {facts.src_row: facts for facts in changes}
    for row in range(page.row_count):
        if row in changed:
            yield changed[row]
            continue
        _, _, kind, flags, *_ = _ROW.unpack_from(page.data, page.row_offset(row))
        if kind != _DT_DIR and not flags & lib.AR_ROW_BAD and (pair, row) not in left_alone:
            yield _UNCHANGED._replace(src_row=row)


def _check_layouts() -> None:
    for layout, name in (
        (_ROW, "struct ar_row"),
        (_STAT, "struct ar_row"),
        (_PAIR, "struct ar_pair"),
        (_CHANGE, "struct ar_change"),
        (_PROBLEM, "struct ar_problem"),
    ):
        if layout.size != ffi.sizeof(name):
            raise ImportError(f"{name} has {ffi.sizeof(name)} bytes, not {layout.size}")


_check_layouts()
