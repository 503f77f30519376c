"""Pages and batches made by hand, as the scan would make them of directories that nobody has.

`batch_of` puts them into the memory of a batch, so that C can compare and spool what no
filesystem would hold: any time, any owner, any device, any inode.
"""

from __future__ import annotations

import ctypes
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from arsync.uring import Batch
from arsync.uring._native import ffi, lib

ROW = Struct("<IHBBIIIIQQqqqqIIIIIIIIQQ")
PAGE = Struct("<8IQ")

REG, DIR, LNK, FIFO, SOCK, CHR, BLK = 8, 4, 10, 1, 12, 2, 6
FORMATS = {
    REG: stat.S_IFREG,
    DIR: stat.S_IFDIR,
    LNK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    SOCK: stat.S_IFSOCK,
    CHR: stat.S_IFCHR,
    BLK: stat.S_IFBLK,
}

WHOLE = lib.AR_PAGE_FIRST | lib.AR_PAGE_LAST

_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]


@dataclass(frozen=True)
class Row:
    """Hold one row; `mode` without the bits of the type."""

    name: bytes = b""
    type: int = REG
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: tuple[int, int] = (0, 0)
    atime: tuple[int, int] = (0, 0)
    btime: tuple[int, int] = (0, 0)
    ino: int = 1
    nlink: int = 1
    rdev: tuple[int, int] = (0, 0)
    target: bytes = b""
    xattrs: int = 0
    acls: int = 0
    flags: int = 0

    def pack(self, name_off: int, link_off: int) -> bytes:
        """Return the bytes of `struct ar_row`."""
        return ROW.pack(
            name_off,
            len(self.name),
            self.type,
            self.flags,
            FORMATS[self.type] | self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.size,
            self.ino,
            self.mtime[0],
            0,
            self.btime[0],
            self.atime[0],
            self.mtime[1],
            0,
            self.btime[1],
            self.atime[1],
            *self.rdev,
            link_off,
            len(self.target),
            self.xattrs,
            self.acls,
        )


@dataclass(frozen=True)
class Page:
    """Hold one page; rows are put in order of their names."""

    rows: tuple[Row, ...] = ()
    path: bytes = b""
    own: Row = field(default_factory=lambda: Row(type=DIR, mode=0o755))
    flags: int = WHOLE
    dev: int = 7
    alias: bytes = b""

    def pack(self) -> bytes:
        """Return the bytes of the page: header, own row, rows, arena, padding."""
        rows = sorted(self.rows, key=lambda row: row.name)
        arena = bytearray()
        start = PAGE.size + ROW.size * (1 + len(rows))

        def put(text: bytes) -> int:
            offset = start + len(arena)
            arena.extend(text + b"\0")
            return offset

        packed = [row.pack(put(row.name), put(row.target) if row.target else 0) for row in rows]
        path_off = put(self.path)
        alias_off = put(self.alias) if self.alias else 0
        arena.extend(b"\0" * (-(start + len(arena)) % 8))
        head = PAGE.pack(
            lib.AR_FORMAT,
            self.flags,
            len(rows),
            start + len(arena),
            path_off,
            len(self.path),
            alias_off,
            len(self.alias),
            self.dev,
        )
        return b"".join((head, self.own.pack(0, 0), *packed, bytes(arena)))


@dataclass(frozen=True)
class Pair:
    """Hold a directory on both sides; without `dst` nothing is known of that side."""

    src: Page
    dst: Page | None = None
    flags: int = 0


def batch_of(*pairs: Pair) -> Batch:
    """Return a batch as the scan leaves it, before it is compared."""
    batch = Batch()
    src, dst = bytearray(), bytearray()
    raw_pairs = ffi.new("struct ar_pair[]", len(pairs))
    for raw, pair in zip(raw_pairs, pairs, strict=True):
        raw.flags = pair.flags
        raw.src_page = len(src)
        src += pair.src.pack()
        raw.dst_page = len(dst) if pair.dst else lib.AR_NO_PAGE
        dst += pair.dst.pack() if pair.dst else b""
    raw = batch.raw
    raw.src, raw.src_bytes, raw.src_room = _owned("uint8_t *", src), len(src), len(src)
    raw.dst, raw.dst_bytes, raw.dst_room = _owned("uint8_t *", dst), len(dst), len(dst)
    raw.pairs = _owned("struct ar_pair *", bytes(ffi.buffer(raw_pairs)))
    raw.pair_count = raw.pair_room = len(pairs)
    return batch


def pages_of(batch: Batch, side: int) -> list[tuple[bytes, list[Row]]]:
    """Return path and rows of each pair's page on one side, [] for no page."""
    pages: list[tuple[bytes, list[Row]]] = []
    for pair in batch.raw.pairs[0 : batch.pair_count]:
        offset = pair.dst_page if side else pair.src_page
        if offset == lib.AR_NO_PAGE:
            pages.append((b"", []))
            continue
        memory = (batch.raw.dst if side else batch.raw.src) + offset
        page = ffi.cast("struct ar_page *", memory)
        rows = ffi.cast("struct ar_row *", memory + ffi.sizeof("struct ar_page"))
        path = _text(memory, page.path_off, page.path_len)
        pages.append((path, [_unpack(memory, rows[i]) for i in range(page.row_count)]))
    return pages


def names_of(rows: Iterable[Row]) -> list[bytes]:
    """Return the rows' names."""
    return [row.name for row in rows]


def _unpack(memory: Any, row: Any) -> Row:
    return Row(
        name=_text(memory, row.name_off, row.name_len),
        type=row.type,
        mode=row.mode & 0o7777,
        uid=row.uid,
        gid=row.gid,
        size=row.size,
        mtime=(row.mtime_s, row.mtime_n),
        atime=(row.atime_s, row.atime_n),
        btime=(row.btime_s, row.btime_n),
        ino=row.ino,
        nlink=row.nlink,
        rdev=(row.rdev_major, row.rdev_minor),
        target=_text(memory, row.link_off, row.link_len),
        xattrs=row.xattr_digest,
        acls=row.acl_digest,
        flags=row.flags,
    )


def _text(memory: Any, offset: int, length: int) -> bytes:
    return bytes(ffi.buffer(memory + offset, length))


def _owned(kind: str, data: bytes | bytearray) -> Any:
    """Copy to memory that the batch will free."""
    if not data:
        return ffi.NULL
    address = _libc.malloc(len(data))
    ctypes.memmove(address, bytes(data), len(data))
    return ffi.cast(kind, address)
