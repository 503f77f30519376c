"""Compile filter rules into the flat tables that C applies to whole directories.

Owns the tables of one source root: which rules are in force in which directory, and the reading of
merge files. What a rule means is the business of filters.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from arsync.errors import OutOfMemoryError
from arsync.filters import (
    Directory,
    DirMerge,
    Entry,
    Filters,
    absolute_root,
    enter,
    inherit,
)
from arsync.patterns import Rule, Scope, Side
from arsync.uring._native import ffi, lib

if TYPE_CHECKING:
    from arsync.uring._native import CData

__all__ = ["Matcher", "RuleTable", "Selection", "read_rules"]

_SCOPES: Final = {
    Scope.NAME: lib.AR_FILTER_NAME,
    Scope.PATH: lib.AR_FILTER_PATH,
    Scope.SLASHED: lib.AR_FILTER_SLASHED,
    Scope.FULL: lib.AR_FILTER_FULL,
    Scope.BELOW: lib.AR_FILTER_BELOW,
}
_SPECIAL: Final = b"*?[]\\"
_LONG_PATH_BYTES: Final = 3000


@dataclass(frozen=True)
class RuleTable:
    """Hold the rules of one directory as C reads them: `raw`, a `struct ar_filter_table *`.

    Args:
        entries: those in force.
        root: the absolute path of the root of the transfer.
        heir: the table for directories without a merge file; AR_NONE for this one.
    """

    entries: tuple[Entry, ...]
    root: bytes
    heir: int

    def build(self) -> tuple[CData, list[CData]]:
        """Return the table, and what must live as long as it."""
        root = self.root.rstrip(b"/") + b"/"
        rules = list(_flat(self.entries))
        texts = [_comparison(rule, self.root) for rule in rules]
        text = b"".join(body + b"\0" for _, body in texts)
        merges = b"".join(sorted({name + b"\0" for name in _merge_names(self.entries)}))
        raw = ffi.new("struct ar_filter_table *")
        array = ffi.new("struct ar_filter_rule[]", max(1, len(rules)))
        offset = 0
        for one, rule, (how, body) in zip(array, rules, texts):  # noqa: B905
            _fill(one, rule, how, self.root)
            one.text_off, one.text_len = offset, len(body)
            one.head_len, one.tail_len = _literal_ends(rule, body)
            offset += len(body) + 1
        kept = [array, *(ffi.new("char[]", part) for part in (text, root, merges))]
        raw.rules, raw.text, raw.root, raw.merges = kept
        raw.text_len, raw.root_len, raw.merges_len = len(text), len(root), len(merges)
        raw.count, raw.heir = len(rules), self.heir
        if any(merge.start is not None for merge in _merges(self.entries)):
            raw.flags = lib.AR_FILTER_ASK_ALWAYS
        return raw, kept


def _fill(one: CData, rule: Rule, how: int, root: bytes) -> None:
    flags = {
        lib.AR_FILTER_INCLUDE: rule.include,
        lib.AR_FILTER_NEGATE: rule.negate,
        lib.AR_FILTER_ONLY_DIRS: rule.only_dirs,
        lib.AR_FILTER_CONTENT: rule.takes_content,
        lib.AR_FILTER_PERISHABLE: rule.perishable,
        lib.AR_FILTER_SENDER: Side.SENDER in rule.sides,
        lib.AR_FILTER_RECEIVER: Side.RECEIVER in rule.sides,
    }
    one.flags = sum(bit for bit, is_set in flags.items() if is_set)
    one.how, one.where = how, rule.where
    one.scope = _SCOPES[rule.scope(root)]
    if rule.base is not None:
        one.start = len(rule.base.rstrip(b"/")) + 1


def _comparison(rule: Rule, root: bytes) -> tuple[int, bytes]:
    """Return the cheapest comparison that a pattern allows, and its text."""
    body = rule.body
    if not rule.is_wild:
        return (lib.AR_FILTER_COMPONENTS if rule.where else lib.AR_FILTER_EQUAL), body
    if rule.scope(root) is Scope.NAME:
        if body == b"*":
            return lib.AR_FILTER_ANY, body
        if body.startswith(b"*") and not _is_special(body[1:]):
            return lib.AR_FILTER_SUFFIX, body[1:]
        if body.endswith(b"*") and not _is_special(body[:-1]):
            return lib.AR_FILTER_PREFIX, body[:-1]
    return lib.AR_FILTER_WILD, body


def _literal_ends(rule: Rule, body: bytes) -> tuple[int, int]:
    """Return how many bytes a text must have at its start and end for the pattern to match."""
    specials = [at for at, sign in enumerate(body) if sign in _SPECIAL]
    if not specials:
        return 0, 0
    return specials[0] if rule.where == 0 else 0, len(body) - specials[-1] - 1


def _is_special(text: bytes) -> bool:
    return any(sign in _SPECIAL for sign in text)


def _flat(entries: Iterable[Entry]) -> Iterator[Rule]:
    for entry in entries:
        if isinstance(entry, DirMerge):
            yield from _flat(entry.rules)
        elif not entry.xattr:
            yield entry


def _merges(entries: Iterable[Entry]) -> Iterator[DirMerge]:
    for entry in entries:
        if isinstance(entry, DirMerge):
            yield entry
            yield from _merges(entry.rules)


def _merge_names(entries: Iterable[Entry]) -> Iterator[bytes]:
    return (merge.name for merge in _merges(entries))


class Matcher:
    """Apply the rules of the command line to single paths, about 1 us each.

    Args:
        entries: those in force at the root.
        root: as the user wrote it.
    """

    def __init__(self, entries: tuple[Entry, ...], root: bytes) -> None:
        self._raw, self._kept = RuleTable(entries, absolute_root(root), lib.AR_NONE).build()

    def check(
        self, path: bytes, *, is_dir: bool, side: Side = Side.SENDER, perishable: bool = True
    ) -> bool | None:
        """Return what filters.check returns, as C decides it."""
        asked = lib.AR_FILTER_SENDER if side is Side.SENDER else lib.AR_FILTER_RECEIVER
        if not perishable:
            asked |= lib.AR_FILTER_PERISHABLE
        verdict = lib.ar_filter_check(self._raw, path, len(path), is_dir, asked)
        return {lib.AR_FILTER_SHOWN: True, lib.AR_FILTER_HIDDEN: False}.get(verdict)


class Selection:
    """Give a scan its rules, and each directory with a merge file its own.

    Any thread may ask.

    Args:
        scan: an `ar_scan *`.
        filters: of the run.
        root: the source root as the user wrote it.
        root_fd: its descriptor.
        dst_fd: of the destination's root, or -1.
    Raises: OutOfMemoryError.
    """

    def __init__(
        self, scan: CData, filters: Filters, root: bytes, root_fd: int, dst_fd: int = -1
    ) -> None:
        self._scan = scan
        self._root = absolute_root(root)
        self._root_fd = root_fd
        self._dst_fd = dst_fd
        self._lock = threading.Lock()
        self._entries: dict[int, tuple[Entry, ...]] = {}
        self._base = self._add(filters.entries)

    def enter_root(self) -> None:
        """Read the merge files of the root itself; Raises as answer does."""
        if any(_merges(self._entries[self._base])):
            lib.ar_scan_filter_root(self._scan, self.answer(self._base, b""))

    def answer(self, inherited: int, path: bytes, *, in_dst: bool = False) -> int:
        """Return the table of a directory that has a merge file.

        Args:
            inherited: the table of its parent.
            path: below the root.
            in_dst: only the destination has it, and its merge files count.
        Raises: UsageError for a rule in a merge file that cannot be parsed, FileError for a file
            that one of them merges and that cannot be read; OutOfMemoryError.
        """
        place = Directory(self._root, os.path.join(self._root, path) if path else self._root)
        with self._lock:
            entries = self._entries[inherited]
        root_fd = self._dst_fd if in_dst else self._root_fd
        return self._add(enter(entries, place, partial(self._read, root_fd)))

    def _add(self, entries: tuple[Entry, ...]) -> int:
        passed_on = inherit(entries)
        heir = lib.AR_NONE if passed_on == entries else self._add(passed_on)
        raw, _kept = RuleTable(entries, self._root, heir).build()
        table = int(lib.ar_scan_filter(self._scan, raw))
        if table < 0:
            raise OutOfMemoryError("out of memory for the filter rules of a directory")
        with self._lock:
            self._entries[table] = entries
        return table

    def _read(self, root_fd: int, path: bytes) -> bytes:
        """Read a file, one below the root through a root's descriptor."""
        inside = self._root.rstrip(b"/") + b"/"
        if not path.startswith(inside):
            return read_rules(path)
        return _read_below(root_fd, path[len(inside) :])


def read_rules(path: bytes) -> bytes:
    """Return what is in a file of rules; "-" is standard input.

    Raises: OSError.
    """
    if path == b"-":
        with os.fdopen(os.dup(0), "rb") as stream:
            return stream.read()
    with open(path, "rb") as stream:
        return stream.read()


def _read_below(root_fd: int, path: bytes) -> bytes:
    """Read a file whose path may be longer than the kernel takes at once."""
    opened: list[int] = []
    fd = root_fd
    try:
        while len(path) > _LONG_PATH_BYTES:
            cut = path.rfind(b"/", 0, _LONG_PATH_BYTES)
            fd = os.open(path[:cut], os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
            opened.append(fd)
            path = path[cut + 1 :]
        opened.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd))
        with os.fdopen(os.dup(opened[-1]), "rb") as stream:
            return stream.read()
    finally:
        for one in opened:
            os.close(one)
