"""Write what is recorded as JSON lines, as mtree(5), or as a sum file for `xxhsum -c`.

Owns the three forms. Text comes a page at a time, with names as surrogateescape keeps them, so that
written as UTF-8 they are the bytes that they were.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import xxhash

from arsync.errors import describe, quoted
from arsync.events import TYPES, named
from arsync.inventory.rows import DIRECTORY, FILE, Row, Sheet, sheets_of
from arsync.manifest.format import CHUNK_BYTES, RowState
from arsync.manifest.reader import Reader
from arsync.manifest.records import ROOT

__all__ = ["Sums", "json_line", "json_lines", "mtree_lines"]

_SYMLINK: Final = 10
_DEVICES: Final = (2, 6)
_ROW_FLAGS: Final = ("mount", "followed", "bad", "sparse")
_STATES: Final = tuple((int(one), str(one.name).lower()) for one in RowState)
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


# ------------------------------------------------------------------------ JSON lines


def json_lines(reader: Reader, tree: int, start: int = ROOT) -> Iterator[str]:
    """Yield an object a line for each entry, parents first.

    Raises: ManifestCorruptError.
    """
    for sheet in sheets_of(reader, tree, start):
        yield "".join(json_line(reader, tree, sheet, row) for row in sheet.rows)


def json_line(reader: Reader, tree: int, sheet: Sheet, row: Row) -> str:
    """Return one entry as an object with every field that it has, and a newline."""
    found: dict[str, Any] = {
        "tree": tree,
        **named("path", sheet.path_of(row) or b"."),
        "type": TYPES.get(row.type << 12, "unknown"),
        "mode": f"{row.mode & 0o7777:04o}",
        "uid": row.uid,
        "gid": row.gid,
        "nlink": row.nlink,
        "size": row.size,
        "ino": row.ino,
        "mtime_ns": row.mtime_s * 10**9 + row.mtime_n,
        "ctime_ns": row.ctime_s * 10**9 + row.ctime_n,
        "btime_ns": row.btime_s * 10**9 + row.btime_n,
        "atime_ns": row.atime_s * 10**9 + row.atime_n,
    }
    if row.type in _DEVICES:
        found["device"] = [row.rdev_major, row.rdev_minor]
    if row.type == _SYMLINK:
        found.update(named("link", row.target))
    if row.xattr_digest:
        found["xattr_digest"] = f"{row.xattr_digest:016x}"
    if row.acl_digest:
        found["acl_digest"] = f"{row.acl_digest:016x}"
    found["flags"] = [name for bit, name in enumerate(_ROW_FLAGS) if row.flags >> bit & 1]
    found["state"] = [name for bit, name in _STATES if row.state & bit]
    if row.is_hashed:
        found["xxh128"] = row.hash.hex()
        found["verified_s"] = row.verified
    if row.is_chunked:
        (chunks,) = reader.chunks_of([(sheet.directory, row.name)])
        if chunks is not None:
            found["chunks"] = [chunks[at : at + 16].hex() for at in range(0, len(chunks), 16)]
    return _encode(found) + "\n"


# ----------------------------------------------------------------------------- mtree

_MTREE_TYPES: Final = {
    FILE: "file",
    DIRECTORY: "dir",
    _SYMLINK: "link",
    6: "block",
    2: "char",
    1: "fifo",
    12: "socket",
}
# What libarchive and the BSDs escape as vis(3) does with VIS_OCTAL, and the glob's characters.
_UNSAFE: Final = re.compile(rb"[^!-~]|[\\#=*?\[\]]")


def mtree_lines(reader: Reader, tree: int, start: int = ROOT) -> Iterator[str]:
    """Yield a specification of what is recorded; a hash, which mtree does not know, is a comment.

    Raises: ManifestCorruptError.
    Source: mtree(5).
    """
    yield "#mtree\n"
    for sheet in sheets_of(reader, tree, start):
        yield "".join(_mtree(sheet.path_of(row), row) for row in sheet.rows)


def _mtree(path: bytes, row: Row) -> str:
    name = _vis(b"./" + path if path else b".")
    if row.type not in _MTREE_TYPES:
        return f"# {name} could not be read\n"
    words = [name, f"type={_MTREE_TYPES[row.type]}", f"mode={row.mode & 0o7777:04o}"]
    words += [f"uid={row.uid}", f"gid={row.gid}", f"nlink={row.nlink}"]
    if row.type == FILE:
        words.append(f"size={row.size}")
    if row.type in _DEVICES:
        words.append(f"device=linux,{row.rdev_major},{row.rdev_minor}")
    words.append(f"time={row.mtime_s}.{row.mtime_n:09}")
    if row.type == _SYMLINK:
        words.append(f"link={_vis(row.target)}")
    comment = f"# xxh128={row.hash.hex()}\n" if row.has_hash and not row.is_chunked else ""
    return f"{comment}{' '.join(words)}\n"


def _vis(name: bytes) -> str:
    return _UNSAFE.sub(lambda found: b"\\%03o" % found[0][0], name).decode("ascii")


# ------------------------------------------------------------------------------ sums


@dataclass
class Sums:
    """Write a sum file, and count what is not in it.

    Args:
        root: the directory in which the names are, to read files that have no sum of their own
            recorded; None to leave them out.
        complain: is told a sentence for each big file left out and each that failed.
        big: files left out because only a hash of chunk hashes is known of them.
        unhashed: those of which nothing is known.
        failed: those that could not be read, or are not what was recorded.
    """

    complain: Callable[[str], object]
    root: bytes | None = None
    big: int = 0
    unhashed: int = 0
    failed: int = 0

    def lines(self, reader: Reader, tree: int, start: int = ROOT) -> Iterator[str]:
        """Yield lines as `xxhsum -H2` prints them.

        Raises: ManifestCorruptError.
        """
        for sheet in sheets_of(reader, tree, start):
            for row in sheet.rows:
                if row.type == FILE:
                    path = sheet.path_of(row)
                    digest = self._digest(path, row)
                    if digest:
                        yield _sum_line(digest, path)

    def _digest(self, path: bytes, row: Row) -> str:
        if row.has_hash and not row.is_chunked:
            return row.hash.hex()
        if self.root is not None:
            return self._read(path, row, self.root)
        if row.has_hash:
            self.big += 1
            self.complain(
                f"left out {quoted(path)}: of a file above 4 MiB the hash of its chunks' hashes is "
                "recorded (--read reads it again)"
            )
        else:
            self.unhashed += 1
        return ""

    def _read(self, path: bytes, row: Row, root: bytes) -> str:
        try:
            return _read_again(os.path.join(root, path), row)
        except _ChangedError as error:
            self.complain(f"left out {quoted(path)}: {error}")
        except OSError as error:
            self.complain(describe("read", path, error.errno or 0))
        self.failed += 1
        return ""


class _ChangedError(Exception):
    """Say that a file is not what is recorded."""


def _read_again(path: bytes, row: Row) -> str:
    """Return the sum of a file that is still what was recorded.

    Raises: _ChangedError; OSError.
    """
    # What has come in its place since may be a fifo, or lead elsewhere.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    file_fd = os.open(path, flags)
    try:
        _check_same(file_fd, row)
        whole, chunks = xxhash.xxh3_128(), xxhash.xxh3_128()
        block = os.read(file_fd, CHUNK_BYTES)
        while block:
            while len(block) < CHUNK_BYTES and (more := os.read(file_fd, CHUNK_BYTES - len(block))):
                block += more
            whole.update(block)
            chunks.update(xxhash.xxh3_128_digest(block))
            block = os.read(file_fd, CHUNK_BYTES)
        _check_same(file_fd, row)
    finally:
        os.close(file_fd)
    digest = whole if row.size <= CHUNK_BYTES else chunks
    if row.has_hash and digest.digest() != row.hash:
        raise _ChangedError("its content is not what is recorded, though nothing says it changed")
    return whole.hexdigest()


def _check_same(file_fd: int, row: Row) -> None:
    now = os.fstat(file_fd)
    mtime_ns = row.mtime_s * 10**9 + row.mtime_n
    if not stat.S_ISREG(now.st_mode) or (now.st_size, now.st_mtime_ns, now.st_ino) != (
        row.size,
        mtime_ns,
        row.ino,
    ):
        raise _ChangedError("it has changed since it was recorded")


_SUM_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def _sum_line(digest: str, path: bytes) -> str:
    name = path.decode("utf-8", "surrogateescape")
    # A backslash alone needs no escape, and xxhsum before 0.8.2 does not know of any.
    if "\n" in name or "\r" in name:
        return f"\\{digest}  {name.translate(_SUM_ESCAPES)}\n"
    return f"{digest}  {name}\n"
