"""Find the new names of a batch that are files which the source had under another name.

Owns the C structs, and the index of inodes that an earlier run has recorded, in an unlinked
temporary file. What is recorded is fetched by the caller.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from arsync.errors import InternalError, ManifestCorruptError, OutOfMemoryError
from arsync.uring._native import ffi, lib
from arsync.uring.batch import Batch
from arsync.uring.recording import Chain, make_chains
from arsync.uring.rules import Rules
from arsync.uring.scanner import Scanner

if TYPE_CHECKING:
    from arsync.uring._native import CData

_NAME: Final = Struct("<QI")
_KEY: Final = Struct(">Q")

__all__ = [
    "Moves",
    "Moving",
    "Past",
    "PastRefused",
    "Wanted",
    "may_hold_directories",
    "may_hold_moves",
    "resettle",
]


class PastRefused(Exception):  # noqa: N818 - one can do without
    """Say that there is no room for the index."""


@dataclass(frozen=True)
class Moving:
    """Say when the destination's file of an old name may be renamed.

    Args:
        deletes: what the source does not have is deleted.
        below: the paths below which it is; empty for everything.
        backs_up: what is replaced is kept.
        in_place: what is replaced is written into.
        keeps_times: of directories.
        directories: one that has moved is renamed at once.
        clones: the file of an old name that stays may be cloned.
    """

    deletes: bool = False
    below: Sequence[bytes] = ()
    backs_up: bool = False
    in_place: bool = False
    keeps_times: bool = False
    directories: bool = False
    clones: bool = False

    def as_c(self) -> tuple[CData, CData]:
        """Return the C struct, and what has to live as long as it."""
        starts = ffi.new("char[]", b"".join(path + b"\0" for path in self.below))
        how = ffi.new("struct ar_moving *")
        how.flags = (
            (lib.AR_MOVING_DELETES if self.deletes else 0)
            | (lib.AR_MOVING_BACKS_UP if self.backs_up else 0)
            | (lib.AR_MOVING_IN_PLACE if self.in_place else 0)
            | (lib.AR_MOVING_KEEPS_TIMES if self.keeps_times else 0)
            | (lib.AR_MOVING_CLONES if self.clones else 0)
        )
        how.starts, how.starts_len = starts, len(starts) - 1
        return how, starts


class Resettled(NamedTuple):
    """Hold a directory that was renamed: its old and its new key in the manifest, and its path."""

    old: bytes
    new: bytes
    path: bytes


class Wanted(NamedTuple):
    """Say of which names in a directory the records are wanted: from one to another."""

    directory: int
    first: bytes
    last: bytes


class Past:
    """Hold where each inode of a source was: filled, sealed, then asked by any thread.

    Args:
        directory: where the file is made; None for $TMPDIR or what stands for it.
    Raises: PastRefused where there is no room for it; OutOfMemoryError.
    """

    def __init__(self, directory: str | None = None) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise PastRefused from error
        out = ffi.new("ar_past **")
        try:
            _check(lib.ar_past_open(self._file.fileno(), out))
        except BaseException:
            self._file.close()
            raise
        self.raw: CData = ffi.gc(out[0], lib.ar_past_close)

    def add_pages(self, tree: int, pages: Sequence[tuple[int, bytes]]) -> None:
        """Add what is recorded of directories of the source.

        Args:
            pages: each with its directory's id.
        Raises: ManifestCorruptError, PastRefused, OutOfMemoryError.
        """
        records = ffi.new("struct ar_recorded[]", len(pages))
        alive = ffi.from_buffer("uint8_t[]", b"".join(data for _, data in pages))
        at = 0
        for record, (directory, data) in zip(records, pages, strict=True):
            record.bytes, record.len = alive + at, len(data)
            record.directory, record.tree = directory, tree
            at += len(data)
        _check(lib.ar_past_add_pages(self.raw, records, len(pages)))

    def add_directory(self, directory: int, above: int, name: bytes) -> None:
        """Add a directory by its id.

        Raises: ManifestCorruptError, PastRefused.
        """
        _check(lib.ar_past_add_directory(self.raw, directory, above, name, len(name)))

    def seal(self) -> None:
        """Say that all is added."""
        _check(lib.ar_past_seal(self.raw))

    def relocate(self, directory: int, path: bytes) -> None:
        """Say where a directory, with all that is below it, is now.

        Raises: OutOfMemoryError.
        """
        _check(lib.ar_past_relocate(self.raw, directory, path, len(path)))

    def close(self) -> None:
        """Give back the file and the memory."""
        ffi.release(self.raw)
        self._file.close()


def may_hold_moves(batch: Batch) -> bool:
    """Tell whether a compared batch has anything that may have had another name."""
    return bool(lib.ar_moves_possible(batch.raw))


class Moves:
    """Hold names of a compared batch that may be files of the past; the batch stays as it is.

    Args:
        root: id of the directory that the scanner's roots are.
    Raises: OutOfMemoryError.
    """

    def __init__(self, scanner: Scanner, past: Past, batch: Batch, root: int) -> None:
        out = ffi.new("ar_moves **")
        _check(lib.ar_moves_look(scanner.raw, past.raw, batch.raw, root, out))
        self.raw: CData = ffi.gc(out[0], lib.ar_moves_free)

    def wanted(self) -> list[Wanted]:
        """Return of which directories the records are wanted."""
        out = ffi.new("struct ar_wanted **")
        count = lib.ar_moves_wanted(self.raw, out)
        return [
            Wanted(
                int(one.directory),
                bytes(ffi.buffer(one.first, one.first_len)),
                bytes(ffi.buffer(one.last, one.last_len)),
            )
            for one in out[0][0:count]
        ]

    def mark(
        self,
        src: Sequence[Chain],
        dst: Sequence[Chain],
        trees: tuple[int, int],
        rules: Rules,
        moving: Moving,
    ) -> None:
        """Make moves of the changes that can be.

        Args:
            src, dst: the records that were wanted, of both sides.
        Raises: ManifestCorruptError, OutOfMemoryError.
        """
        chains, _alive = make_chains(src, dst, trees)
        how, _starts = moving.as_c()
        _check(lib.ar_moves_mark(self.raw, chains, rules.raw, how))


def resettle(
    scanner: Scanner, past: Past, batch: Batch, root: int, moving: Moving
) -> list[Resettled]:
    """Rename the directories of a compared batch that the destination has under another name.

    A dry run only says where they are.

    Raises: OutOfMemoryError.
    """
    out = Batch()
    how, _starts = moving.as_c()
    _check(lib.ar_moves_resettle(scanner.raw, past.raw, batch.raw, root, how, out.raw))
    data = out.aux
    parts, at = [], 0
    while at < len(data):
        directory, length = _NAME.unpack_from(data, at)
        at += _NAME.size + length
        parts.append((directory, data[at - length : at]))
    return [
        Resettled(_KEY.pack(old[0]) + old[1], _KEY.pack(new[0]) + new[1], path)
        for old, new, (_, path) in zip(*[iter(parts)] * 3, strict=True)
    ]


def may_hold_directories(scanner: Scanner, batch: Batch) -> bool:
    """Tell whether a compared batch has directories that may have had another name."""
    return bool(lib.ar_resettlings_possible(scanner.raw, batch.raw))


def _check(result: int) -> None:
    if result >= 0:
        return
    if result == -errno.ENOMEM:
        raise OutOfMemoryError("out of memory for what has moved")
    if result == -errno.EBADMSG:
        raise ManifestCorruptError(
            "cannot read the manifest: a page is damaged ('arsync manifest rebuild' makes it anew)"
        )
    if result == -errno.EINVAL:
        raise InternalError("what has moved was asked of a batch that is not compared")
    raise PastRefused(os.strerror(-result))
