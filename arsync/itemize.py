r"""Write a line for each change as rsync does: -v, -i, --out-format, --log-file-format.

Owns the eleven columns of -i, the escapes of a format and how rsync writes odd names. It works on
`model.Change` alone and prints nothing.

Names are written as rsync 3.5.0 writes them in a UTF-8 locale: control characters but the tab, and
bytes that are not UTF-8, as `\#` and three octal digits; a `\#` that three digits follow gets its
backslash escaped. One thing differs: U+0080 to U+009F, which some terminals obey, are escaped too.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from arsync import figures
from arsync.errors import UsageError
from arsync.model import Change, Keep, Kind, State, Why

__all__ = [
    "ITEMIZE_FORMAT",
    "NAME_FORMAT",
    "LineFormat",
    "escape_name",
    "is_shown",
    "itemize",
    "passed_line",
]

NAME_FORMAT: Final = "%n%L"
"""What -v means."""

ITEMIZE_FORMAT: Final = "%i %n%L"
"""What -i means."""

_TYPE_MASK: Final = 0o170000

_TYPE_LETTERS: Final = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "L",
    stat.S_IFBLK: "D",
    stat.S_IFCHR: "D",
    stat.S_IFIFO: "S",
    stat.S_IFSOCK: "S",
}

_UPDATE_LETTERS: Final = {
    Kind.DATA: ">",
    Kind.META: ".",
    Kind.SYMLINK: "c",
    Kind.SPECIAL: "c",
    Kind.LINK: "h",
    Kind.DIR: ".",
    Kind.DELETE: "*",
    Kind.CHECK: ".",
    Kind.MOVE: "m",
}

_COLUMNS: Final = (
    (Why.TARGET | Why.CHECKSUM, "c"),
    (Why.SIZE, "s"),
    (Why.MTIME, "t"),
    (Why.MODE, "p"),
    (Why.UID, "o"),
    (Why.GID, "g"),
    (Why.ATIME, "u"),
    (Why.ACL, "a"),
    (Why.XATTR, "x"),
)
"""The nine columns after the first two, in order; why a content was compared has none."""

_OTHERWISE: Final = (Kind.NONE, Kind.REMOVE)
"""What has lines of its own: --info=skip, --info=remove."""

_ARROWS: Final = {int(Kind.LINK): " => "}
"""What stands between a name and the other one; of a symlink, its target."""

_MADE: Final = (Kind.DATA, Kind.SYMLINK, Kind.SPECIAL, Kind.LINK)

Part = Callable[[Change, bytes], str]


def itemize(change: Change, keep: int) -> str:
    """Return the eleven characters of -i, `>f.st......`.

    Args:
        keep: the run's Keep bits: whether times are kept decides between t and T.
    Source: rsync(1), --itemize-changes.
    """
    if change.kind == Kind.DELETE:
        return "*deleting  "
    return _itemize(change.kind, change.mode & _TYPE_MASK, change.why, keep)


def is_shown(change: Change, *, itemized: bool, unchanged: bool = False) -> bool:
    """Tell whether rsync has a line for a change.

    Args:
        itemized: the format holds %i; without it only what is written, made or linked has a line,
            and each directory that changes.
        unchanged: entries that need nothing have a line too (-ii).
    """
    if change.state in (State.FAILED, State.SKIPPED) or change.kind in _OTHERWISE:
        return False
    if not change.why:
        return unchanged
    return itemized or change.kind != Kind.META


def passed_line(change: Change, level: int = 1) -> str:
    """Return what --info=skip says of an entry that the update rules leave alone.

    Args:
        level: 2 tells how an entry that exists differs.
    Source: rsync 3.5.0, by experiment.
    """
    name = escape_name(change.path)
    if change.why & Why.NEWER:
        return f"{name} is newer"
    if change.why & Why.LARGE:
        return f"{name} is over max-size"
    if change.why & Why.SMALL:
        return f"{name} is under min-size"
    if change.why & Why.EXISTS:
        return f"{name} exists{_difference(change.why) if level > 1 else ''}"
    what = "directory" if change.mode & _TYPE_MASK == stat.S_IFDIR else "file"
    return f'not creating new {what} "{name}"'


def escape_name(name: bytes, *, eight_bit: bool = False) -> str:
    """Write a name as rsync does.

    Args:
        eight_bit: --8-bit-output, bytes from 128 on stay as they are.
    Returns: text that `os.fsencode` turns into the bytes to print.
    """
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\#" not in text:  # nearly all are: half the time of the search
        return text
    odd = _ODD_8BIT if eight_bit else _ODD
    return odd.sub(_octal, text) if odd.search(text) else text


class LineFormat:
    """Turn changes into lines, by a format that is compiled once.

    Args:
        text: a format with rsync's escapes: `%i %n%L`, `%-30n`, `%'l`.
        keep: the run's Keep bits.
        option: the option that set it, for the message.
        eight_bit: names keep their bytes from 128 on.
        relative: the run has -R, and the names of an absolute SRC begin with a slash.
    Raises: UsageError that names an escape which means nothing here.
    Source: rsyncd.conf(5), log format.
    """

    def __init__(
        self,
        text: str,
        keep: int,
        *,
        option: str = "--out-format",
        eight_bit: bool = False,
        relative: bool = False,
    ) -> None:
        self._keep = keep
        self._relative = relative
        self._option = option
        self._eight_bit = eight_bit
        self.itemized = False
        """The format holds %i."""
        self._tells_deletions = False
        self._parts = self._compile(text)

    def line(self, change: Change, root: bytes = b"") -> str:
        """Return the line of a change, without a newline.

        Args:
            root: the source root as the user wrote it, which %f begins with.
        Returns: about 2 us.
        """
        if change.kind == Kind.DELETE and not self._tells_deletions:
            name = escape_name(self._name(change, root), eight_bit=self._eight_bit)
            return f"deleting {name}"
        return "".join([part(change, root) for part in self._parts])

    def _compile(self, text: str) -> tuple[Part, ...]:
        parts: list[Part] = []
        end = 0
        for match in _ESCAPE.finditer(text):
            if match.start() > end:
                parts.append(_literal(text[end : match.start()]))
            parts.append(self._escape(match))
            end = match.end()
        if end < len(text):
            parts.append(_literal(text[end:]))
        return tuple(parts)

    def _escape(self, match: re.Match[str]) -> Part:
        before, width, after, letter = match.groups()
        if letter == "%" and not width:
            return _literal("%")
        level = len(before) + len(after)
        if letter == "L":
            return self._link_part(width)
        if letter in ("n", "f"):
            return self._name_part(self._name if letter == "n" else self._full_name, width)
        part = self._simple_part(letter) or _number_part(letter, level) or self._kept_part(letter)
        if part is None:
            raise UsageError(f"{self._option}: {match[0]!r} is no escape that arsync knows")
        self.itemized = self.itemized or letter == "i"
        self._tells_deletions = self._tells_deletions or letter in "io"
        return _padded(part, width) if width.strip("-") else part

    def _simple_part(self, letter: str) -> Part | None:
        keep = self._keep
        parts: dict[str, Part] = {
            "i": lambda change, _: itemize(change, keep),
            "o": lambda change, _: "del." if change.kind == Kind.DELETE else "send",
            "p": _literal(str(os.getpid())),
            "t": lambda _, __: time.strftime("%Y/%m/%d %H:%M:%S"),
            "M": lambda change, _: _local_time(change.mtime_s),
            "B": lambda change, _: stat.filemode(change.mode)[1:],
            "C": lambda change, _: change.hash.hex() or " " * 32,
        }
        return parts.get(letter)

    def _kept_part(self, letter: str) -> Part | None:
        """Return an owner's number: rsync's sender knows only what is kept."""
        if letter == "U":
            kept = self._keep & Keep.OWNER
            return (lambda change, _: str(change.uid)) if kept else _literal("0")
        if letter == "G":
            kept = self._keep & Keep.GROUP
            return (lambda change, _: str(change.gid)) if kept else _literal("DEFAULT")
        return None

    def _name_part(self, find: Callable[[Change, bytes], bytes], width: str) -> Part:
        pad, eight_bit = _padder(width), self._eight_bit

        def name(change: Change, root: bytes) -> str:
            found = find(change, root)
            return pad(escape_name(found, eight_bit=eight_bit), len(found))

        return name

    def _name(self, change: Change, root: bytes) -> bytes:
        name = change.path or b"."
        if self._relative and root == b"/" and change.kind != Kind.DELETE:
            name = b"/" + name
        return name + b"/" if change.mode & _TYPE_MASK == stat.S_IFDIR else name

    def _full_name(self, change: Change, root: bytes) -> bytes:
        whole = b"/".join([part for part in root.split(b"/") if part not in (b"", b".")])
        path = change.path or b"."
        return whole + b"/" + path if whole else path

    def _link_part(self, width: str) -> Part:
        pad = _padder(width)
        nothing = "    " + pad("", 0) if width.strip("-") else ""

        def link(change: Change, _: bytes) -> str:
            if not change.link or change.kind == Kind.DELETE:
                return nothing
            arrow = " <- " if change.why & Why.MOVED else _ARROWS.get(change.kind, " -> ")
            return arrow + pad(
                escape_name(change.link, eight_bit=self._eight_bit), len(change.link)
            )

        return link


def _difference(why: int) -> str:
    if why & Why.TYPE:
        return " (type change)"
    if why & (Why.CONTENT | Why.TARGET):
        return " (file change)"
    return " (attr change)" if why & ~Why.EXISTS else " (uptodate)"


@lru_cache(maxsize=4096)
def _itemize(kind: int, file_type: int, why: int, keep: int) -> str:
    fresh = why & (Why.NEW | Why.TYPE)
    update = _UPDATE_LETTERS[Kind(kind)]
    if (kind == Kind.DIR and fresh) or (kind == Kind.DATA and why & Why.MOVED):
        update = "c"
    head = update + _TYPE_LETTERS[file_type]
    if fresh:
        return head + "+++++++++"
    if not why:
        return head + "         "
    bits = why | _time_bit(kind, file_type, keep)
    if file_type != stat.S_IFREG:
        bits &= ~Why.SIZE
    columns = "".join(letter if bits & bit else "." for bit, letter in _COLUMNS)
    if not keep & Keep.TIMES:
        columns = columns.replace("t", "T")
    if columns == "." * 9 and update not in ">m":
        columns = " " * 9
    return head + columns


def _time_bit(kind: int, file_type: int, keep: int) -> int:
    """Return Why.MTIME where what is written anew gets the time of writing."""
    omits = keep & Keep.OMIT_LINK_TIMES and file_type == stat.S_IFLNK
    keeps = keep & Keep.TIMES and not omits
    return Why.MTIME if kind in _MADE and not keeps else 0


def _literal(text: str) -> Part:
    return lambda _change, _root: text


def _number_part(letter: str, level: int) -> Part | None:
    if letter == "l":
        return lambda change, _: figures.human(change.size, min(level, 3))
    if letter == "b":
        return lambda change, _: figures.human(change.done_bytes, min(level, 3))
    return None


def _padded(part: Part, width: str) -> Part:
    pad = _padder(width)

    def padded(change: Change, root: bytes) -> str:
        text = part(change, root)
        return pad(text, len(text))

    return padded


def _padder(width: str) -> Callable[[str, int], str]:
    """Return what pads a text of so many columns: rsync counts a name's bytes as they are."""
    columns = int(width.strip("-") or 0)
    if not columns:
        return lambda text, _: text
    if width[:1] == "-":
        return lambda text, size: text + " " * (columns - size)
    return lambda text, size: " " * (columns - size) + text


def _local_time(mtime_s: int) -> str:
    try:
        return time.strftime("%Y/%m/%d-%H:%M:%S", time.localtime(mtime_s))
    except (OverflowError, ValueError, OSError):  # a year that the C library cannot write
        return str(mtime_s)


def _octal(match: re.Match[str]) -> str:
    raw = match[0].encode("utf-8", "surrogateescape")
    return "".join([f"\\#{byte:03o}" for byte in raw])


_ESCAPE: Final = re.compile(r"%('*)(-?\d*)('*)(.|\Z)", re.DOTALL)
_ODD: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x80-\x9f\udc80-\udcff]|\\(?=#[0-9]{3})")
_ODD_8BIT: Final = re.compile(r"[\x00-\x08\x0a-\x1f]|\\(?=#[0-9]{3})")
