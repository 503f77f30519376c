"""List what is recorded of a directory as `ls -l` does, or all that is recorded of one entry.

Owns the layout. Columns are as wide as a page of about 1,000 entries needs, which is what is in
memory at a time.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Sequence

from arsync.errors import escaped
from arsync.events import TYPES
from arsync.figures import counted, size
from arsync.inventory.rows import Row, Sheet
from arsync.labelled import Line, group
from arsync.manifest.format import RowState
from arsync.owners import groups, users

__all__ = ["day", "entry_text", "list_rows", "moment"]

_LETTERS = "hrduvc"
"""A letter for each bit of RowState, in their order."""

_DIGITS = 8


def list_rows(rows: Sequence[Row]) -> str:
    """Return a line for each row, with columns of common width."""
    table = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    names = map(_name, rows)
    lines = zip(table, names, strict=True)
    return "".join(f"{_aligned(cells, widths)} {name}\n" for cells, name in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        stat.filemode(row.full_mode),
        str(row.nlink),
        _user(row),
        _group(row),
        f"{row.rdev_major}, {row.rdev_minor}" if row.type in (2, 6) else str(row.size),
        _local(row.mtime_s, "%Y-%m-%d %H:%M"),
        "".join(letter if row.state >> bit & 1 else "-" for bit, letter in enumerate(_LETTERS)),
        day(row.verified) if row.verified else "-",
        row.hash.hex()[:_DIGITS] if row.is_hashed else "-",
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    to_right = (1, 4)
    return " ".join(
        cell.rjust(width) if index in to_right else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _name(row: Row) -> str:
    name = escaped(row.name or b".")
    return f"{name} -> {escaped(row.target)}" if row.target else name


def entry_text(sheet: Sheet, row: Row, chunk_count: int, width: int) -> str:
    """Return all that is recorded of one entry.

    Args:
        chunk_count: how many hashes of chunks are recorded.
        width: columns of the terminal.
    """
    return group(escaped(sheet.path_of(row) or b"."), _lines(row, chunk_count), width)


def _lines(row: Row, chunk_count: int) -> Iterator[Line]:
    kind = TYPES.get(row.type << 12, "could not be read").replace("_", " ")
    yield Line("type", f"{kind}, {counted(row.nlink, 'link')}, inode {row.ino}")
    if row.target:
        yield Line("target", escaped(row.target))
    mode = f"{stat.filemode(row.full_mode)} ({row.mode & 0o7777:04o})"
    yield Line("mode", f"{mode}, owner {_user(row)}, group {_group(row)}")
    if row.type in (2, 6):
        yield Line("device", f"{row.rdev_major}, {row.rdev_minor}")
    else:
        yield Line("size", f"{row.size:,} bytes" + (f", {size(row.size)}" * (row.size >= 1000)))
    names = {"modified": "mtime", "changed": "ctime", "born": "btime", "accessed": "atime"}
    for label, name in names.items():
        seconds, nanoseconds = getattr(row, f"{name}_s"), getattr(row, f"{name}_n")
        if seconds or nanoseconds:
            yield Line(label, f"{moment(seconds)}.{nanoseconds:09}")
    digests = [
        f"{name} {getattr(row, f'{name}_digest'):016x}"
        for name in ("xattr", "acl")
        if getattr(row, f"{name}_digest")
    ]
    if digests:
        yield Line("digests", ", ".join(digests))
    yield Line("state", _state(row))
    if row.is_hashed:
        of = f" of the hashes of {counted(chunk_count, 'chunk')}" if chunk_count else ""
        yield Line("xxh128", row.hash.hex() + of)
        yield Line("verified", moment(row.verified) if row.verified else "never")


def _state(row: Row) -> str:
    names = [str(one.name).lower() for one in RowState if row.state & one]
    return ", ".join(names) or "not hashed"


def _user(row: Row) -> str:
    return users().names.get(row.uid, str(row.uid))


def _group(row: Row) -> str:
    return groups().names.get(row.gid, str(row.gid))


def day(seconds: float) -> str:
    """Write a day of local time: `2026-11-21`."""
    return _local(seconds, "%Y-%m-%d")


def moment(seconds: float) -> str:
    """Write a moment of local time: `2026-11-21 15:04:05`."""
    return _local(seconds, "%Y-%m-%d %H:%M:%S")


def _local(seconds: float, form: str) -> str:
    try:
        return time.strftime(form, time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # filesystems keep years that libc does not know
        return f"@{seconds}"
