"""The lines of a plan file: docs/formats.md, "Plan files", has what stands in them.

Owns writing and reading, the checksum at the end and the digest by which two plans are the same,
whatever the order of their lines: threads plan directories in any order.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, Any, Final

import xxhash

from arsync.errors import ArsyncError, FileError, PlanFileError, UsageError, describe, quoted
from arsync.events import TYPES, named
from arsync.model import Change, Kind, Report, Stat, State, Why
from arsync.planfile.header import Header
from arsync.planfile.values import decode, encode

__all__ = ["FORMAT", "Digest", "EntryLines", "PlanFile", "PlanWriter", "read_plan"]

FORMAT: Final = 1

_BEGIN: Final = b'{"arsync_plan":'
_END: Final = re.compile(rb'(\{"end":\{.*\},"xxh128":")([0-9a-f]{32})"\}\n')
_SPACE: Final = 1 << 128

_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
_KINDS: Final = {int(kind): kind.name.lower() for kind in Kind}
_REASONS: Final = tuple((int(why), str(why.name).lower()) for why in Why)


@dataclass
class Digest:
    """Add up lines: equal sums are the same lines, in any order."""

    count: int = 0
    total: int = 0

    def add(self, line: bytes) -> None:
        """Add a line."""
        self.count += 1
        self.total = (self.total + xxhash.xxh3_128_intdigest(line)) % _SPACE


# --------------------------------------------------------------------- writing


class EntryLines:
    """Turn the changes of a dry run into lines.

    Args:
        header: of the plan.
    """

    def __init__(self, header: Header) -> None:
        manifest = header.options.manifest
        self._has_several = len(header.sources) > 1
        self._with_ctime = not manifest.ignore_ctime
        self._with_inode = not manifest.ignore_inode

    def of(self, changes: Iterable[Change], root: bytes) -> Iterator[str]:
        """Yield the line of each change that is planned.

        Args:
            changes: with what was seen of each.
            root: the source root as the user wrote it.
        Returns: about 7 us a line.
        """
        source = f"{_name('source', root)}," if self._has_several else ""
        for change in changes:
            if change.why and change.kind != Kind.NONE and change.state not in _NOT_PLANNED:
                yield self._line(change, source)

    def _line(self, change: Change, source: str) -> str:
        # The path is first: equal paths stand together when lines are sorted. The line is put
        # together by hand because the encoder takes three times as long.
        path = _name("path", change.path or b".")
        action = _action(change.kind, change.why)
        link = f"{_name('link', change.link)}," if change.link else ""
        src, dst = self._stat(change.src), self._stat(change.dst)
        return f'{{{path},{source}{action},{link}"src":{src},"dst":{dst}}}\n'

    def _stat(self, seen: Stat | None) -> str:
        if seen is None:
            return "null"
        mode, uid, gid, size, ino, mtime_ns, ctime_ns = seen
        inode = ino if self._with_inode else "null"
        ctime = ctime_ns if self._with_ctime else "null"
        return (
            f'{{{_mode(mode)},"uid":{uid},"gid":{gid},"size":{size},"ino":{inode},'
            f'"mtime_ns":{mtime_ns},"ctime_ns":{ctime}}}'
        )


def _name(member: str, name: bytes) -> str:
    return _encode(named(member, name))[1:-1]


@lru_cache(maxsize=4096)
def _mode(mode: int) -> str:
    kind = TYPES.get(stat.S_IFMT(mode), "unknown")
    return f'"type":"{kind}","mode":"{mode & 0o7777:04o}"'


@lru_cache(maxsize=4096)
def _action(kind: int, why: int) -> str:
    reasons = [name for bit, name in _REASONS if why & bit]
    return _encode({"kind": _KINDS[kind], "reasons": reasons})[1:-1]


_NOT_PLANNED: Final = (State.FAILED, State.SKIPPED)


class PlanWriter:
    """Write a plan, line by line.

    Args:
        write: takes text.
        header: is written at once.
    """

    def __init__(self, write: Callable[[str], object], header: Header) -> None:
        self._write = write
        self._sum = xxhash.xxh3_128()
        self._entries = 0
        self._deletions = 0
        self._lines = EntryLines(header)
        self._put(_encode({"arsync_plan": FORMAT, **encode(header)}) + "\n")

    def add(self, changes: Iterable[Change], root: bytes) -> None:
        """Write the changes of a batch that are planned."""
        planned = list(changes)
        lines = list(self._lines.of(planned, root))
        self._entries += len(lines)
        self._deletions += sum(bool(one.why & Why.EXTRA) for one in planned)
        self._put("".join(lines))

    def end(self, report: Report) -> None:
        """Write the last line, without which it is no plan."""
        counts = {
            "entries": self._entries,
            "files": report.copied_files,
            "bytes": report.copied_bytes,
            "deletions": self._deletions,
            "failures": report.failure_count,
            "kept_back": report.kept_back,
            "exit_code": report.exit_code,
        }
        self._put(f'{{"end":{_encode(counts)},"xxh128":"')
        self._write(f'{self._sum.hexdigest()}"}}\n')

    def _put(self, text: str) -> None:
        self._sum.update(text.encode())
        self._write(text)


# --------------------------------------------------------------------- reading


@dataclass(frozen=True)
class PlanFile:
    """Hold what was read of a plan, and found to be whole."""

    path: str
    header: Header
    digest: Digest = field(default_factory=Digest)

    def lines(self) -> Iterator[bytes]:
        """Read the entries again.

        Raises: FileError.
        """
        with _opened(self.path) as file:
            file.readline()
            for _, line in zip(range(self.digest.count), file, strict=False):
                yield line


def read_plan(path: str) -> PlanFile:
    """Read a plan to its end.

    Returns: it, when every byte is as it was written; memory does not grow with its length.
    Raises: UsageError for a file that is no plan; PlanFileError for one that is damaged or of a
        later format; FileError.
    """
    with _opened(path) as file:
        if file.read(len(_BEGIN)) != _BEGIN:
            raise UsageError(f"{quoted(path)} is not a plan ('arsync plan -o FILE' writes one)")
        file.seek(0)
        first = file.readline()
        members = _members(path, first)
        digest = _read_entries(path, file, first)
        return PlanFile(path, _header(path, members), digest)


def _members(path: str, first: bytes) -> dict[str, Any]:
    """Read the first line, whose format is looked at before anything else is believed."""
    try:
        members: dict[str, Any] = json.loads(first)
        number = members.pop("arsync_plan")
    except (ValueError, AttributeError, KeyError):
        raise _damage(path) from None
    if type(number) is not int or number < 1:
        raise _damage(path)
    if number > FORMAT:
        raise PlanFileError(
            f"the plan {quoted(path)} has format {number}, this arsync reads up to {FORMAT} "
            "(a later arsync wrote it)"
        )
    return members


def _read_entries(path: str, file: IO[bytes], first: bytes) -> Digest:
    digest = Digest()
    total = xxhash.xxh3_128(first)
    before = b""
    for line in file:
        if before:
            total.update(before)
            digest.add(before)
        before = line
    end = _END.fullmatch(before)
    if end is None:
        raise _damage(path)
    total.update(end[1])
    if total.hexdigest().encode() != end[2]:
        raise _damage(path)
    return digest


def _header(path: str, members: dict[str, Any]) -> Header:
    try:
        header: Header = decode(Header, members)
    except (ValueError, TypeError, ArsyncError) as error:
        raise PlanFileError(
            f"the plan {quoted(path)} says what this arsync does not know: {error} "
            "('arsync plan' makes a new one)"
        ) from None
    return header


def _damage(path: str) -> PlanFileError:
    return PlanFileError(
        f"the plan {quoted(path)} is damaged: it was cut short or edited "
        "('arsync plan' makes a new one)"
    )


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{quoted(path)} is not a plan: it is not a regular file")
            yield file
    except OSError as error:
        raise FileError(describe("read the plan", path, error.errno or 0)) from None
