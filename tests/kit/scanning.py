"""Scan trees with the compiled scanner and read its pages, without the rest of the program.

The reader is one of its own, so that the tests do not believe what arsync.uring reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arsync.uring._native import ffi, lib

FIRST, LAST, PARTIAL = lib.AR_PAGE_FIRST, lib.AR_PAGE_LAST, lib.AR_PAGE_PARTIAL
PAGE_ROWS = lib.AR_PAGE_ROWS


@dataclass(frozen=True)
class Row:
    """Hold one row; `facts` is the C struct as a mapping."""

    name: bytes
    link: bytes
    facts: dict[str, int]

    def __getattr__(self, name: str) -> int:
        try:
            return self.facts[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True)
class Page:
    """Hold a page; `data` is all of its bytes."""

    path: bytes
    alias: bytes
    flags: int
    dev: int
    own: Row
    rows: list[Row]
    data: bytes = field(repr=False)

    @property
    def names(self) -> list[bytes]:
        """Return the names of its rows in their order."""
        return [row.name for row in self.rows]

    def row(self, name: bytes) -> Row:
        """Return the only row of this name."""
        (found,) = (row for row in self.rows if row.name == name)
        return found


@dataclass(frozen=True)
class Problem:
    """Hold a problem with the name it is about, b"" for the directory itself."""

    path: bytes
    name: bytes
    kind: int
    side: int
    op: int
    err: int


@dataclass(frozen=True)
class Pair:
    """Hold a pair of pages."""

    src: Page
    dst: Page | None
    flags: int


class Batch:
    """Hold a `struct ar_batch`; what it says is copied when it is asked for."""

    def __init__(self) -> None:
        self.raw = ffi.gc(lib.ar_batch_new(), lib.ar_batch_free)

    def clear(self) -> None:
        """Empty it."""
        lib.ar_batch_clear(self.raw)

    @property
    def pairs(self) -> list[Pair]:
        """Return the pairs of pages."""
        return [self._pair(index) for index in range(self.raw.pair_count)]

    @property
    def pair(self) -> Pair:
        """Return the only pair."""
        (pair,) = self.pairs
        return pair

    @property
    def problems(self) -> list[Problem]:
        """Return the problems."""
        return [self._problem(self.raw.problems[i]) for i in range(self.raw.problem_count)]

    def _pair(self, index: int) -> Pair:
        raw = self.raw.pairs[index]
        dst = None
        if raw.dst_page != lib.AR_NO_PAGE:
            dst = read_page(self.raw.dst + raw.dst_page)
        return Pair(read_page(self.raw.src + raw.src_page), dst, raw.flags)

    def _problem(self, raw: Any) -> Problem:
        page = self._pair(raw.pair).src
        name = b"" if raw.row == lib.AR_NONE else page.rows[raw.row].name
        return Problem(page.path, name, raw.kind, raw.side, raw.op, raw.err)

    def children(self) -> Any:
        """Return a parent batch whose children are all directories of this one, as diff has it."""
        found = [
            {"pair": index, "row": row, "flags": _child_flags(pair.dst, entry)}
            for index, pair in enumerate(self.pairs)
            for row, entry in enumerate(pair.src.rows)
            if entry.type == 4 and not entry.flags & lib.AR_ROW_BAD
        ]
        parent = ffi.new("struct ar_batch *", self.raw[0])
        array = ffi.new("struct ar_child[]", found)
        parent.children = array
        parent.child_count = len(found)
        return _Parent(parent, (self, array))


@dataclass(frozen=True)
class _Parent:
    raw: Any
    keep_alive: tuple[Any, ...]

    @property
    def count(self) -> int:
        return int(self.raw.child_count)


def _child_flags(dst: Page | None, src_row: Row) -> int:
    there = [row for row in dst.rows if row.name == src_row.name] if dst else []
    if not there:
        return 0
    return int(lib.AR_CHILD_DST_DIR if there[0].type == 4 else lib.AR_CHILD_DST_OTHER)


def read_page(start: Any) -> Page:
    """Copy a page out of a batch."""
    head = ffi.cast("struct ar_page *", start)
    data = bytes(ffi.buffer(start, head.bytes))
    assert head.format == lib.AR_FORMAT
    assert head.bytes % 8 == 0
    rows = ffi.cast("struct ar_row *", head + 1)
    return Page(
        _text(data, head.path_off, head.path_len),
        _text(data, head.alias_off, head.alias_len),
        head.flags,
        head.dev,
        _row(data, head.self),
        [_row(data, rows[index]) for index in range(head.row_count)],
        data,
    )


def _row(data: bytes, raw: Any) -> Row:
    facts = {name: int(getattr(raw, name)) for name, _ in ffi.typeof("struct ar_row").fields}
    name = _text(data, raw.name_off, raw.name_len)
    return Row(name, _text(data, raw.link_off, raw.link_len), facts)


def _text(data: bytes, offset: int, length: int) -> bytes:
    if not offset:
        assert not length
        return b""
    assert data[offset + length] == 0
    return data[offset : offset + length]


class Scanner:
    """Hold open roots and a scan of them."""

    def __init__(
        self, src: Path, dst: Path | None = None, flags: int = lib.AR_SCAN_RECURSE
    ) -> None:
        self.roots = [open_root(path) for path in (src, dst) if path is not None]
        out = ffi.new("ar_scan **")
        dst_root = self.roots[1] if dst is not None else ffi.NULL
        assert lib.ar_scan_open(self.roots[0], dst_root, flags, out) == 0
        self.raw = out[0]

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, *exception: object) -> None:
        lib.ar_scan_close(self.raw)
        for root in self.roots:
            lib.ar_root_close(root)

    def root(self) -> list[Batch]:
        """Scan the root directory; a batch a page."""
        batch, more = Batch(), ffi.new("ar_dir **")
        assert lib.ar_scan_root(self.raw, batch.raw, more) == 0
        return [batch, *self.rest(more)]

    def rest(self, more: Any) -> Iterator[Batch]:
        """Scan the further pages of a directory and close it."""
        if more[0] == ffi.NULL:
            return
        follows = 1
        while follows:
            batch = Batch()
            follows = lib.ar_scan_more(self.raw, more[0], batch.raw)
            assert follows in (0, 1)
            yield batch
        lib.ar_dir_close(more[0])

    def names(
        self, path: bytes, names: Sequence[bytes], alias: bytes | None = None, flags: int = 0
    ) -> Batch:
        """Scan some names of a directory."""
        batch = Batch()
        assert self.try_names(path, b"".join(n + b"\0" for n in names), batch, alias, flags) == 0
        return batch

    def try_names(
        self, path: bytes, joined: bytes, batch: Batch, alias: bytes | None = None, flags: int = 0
    ) -> int:
        """Call ar_scan_names and return what it says."""
        other = ffi.NULL if alias is None else ffi.new("char[]", alias)
        return int(
            lib.ar_scan_names(
                self.raw, path, len(path), joined, len(joined), other, flags, batch.raw
            )
        )

    def try_children(
        self, parent: _Parent, first: int, count: int, batch: Batch
    ) -> tuple[int, Any]:
        """Call ar_scan_children and return what it says, and the place of its handle."""
        more = ffi.new("ar_dir **")
        return int(lib.ar_scan_children(self.raw, parent.raw, first, count, batch.raw, more)), more

    def below(self, batch: Batch) -> Iterator[Batch]:
        """Scan the children of a batch, but not theirs."""
        parent = batch.children()
        at = 0
        while at < parent.count:
            child = Batch()
            done, more = self.try_children(parent, at, parent.count - at, child)
            assert done > 0
            at += done
            yield child
            yield from self.rest(more)

    def walk(self) -> list[Batch]:
        """Scan everything."""
        return list(self._descend(self.root()))

    def _descend(self, batches: list[Batch]) -> Iterator[Batch]:
        waiting = batches
        while waiting:
            batch = waiting.pop()
            yield batch
            waiting.extend(self.below(batch))


def open_root(path: Path, flags: int = 0) -> Any:
    """Open a root that the caller closes."""
    out = ffi.new("ar_root **")
    result = lib.ar_root_open(os.fsencode(path), flags, out)
    if result:
        raise OSError(-result, os.strerror(-result))
    return out[0]


def paths_of(batches: Sequence[Batch]) -> list[bytes]:
    """Return the paths of all rows, sorted, without the marks of followed links."""
    return sorted(
        (pair.src.path + b"/" + name if pair.src.path else name).replace(b"\0", b"")
        for batch in batches
        for pair in batch.pairs
        for name in pair.src.names
    )


def problems_of(batches: Sequence[Batch]) -> list[Problem]:
    """Return the problems of all batches."""
    return [problem for batch in batches for problem in batch.problems]
