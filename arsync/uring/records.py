"""Pack scanned pages into the bytes that the manifest keeps, compare the two, unpack what it has.

Owns the C structs of that, a batch of directories a call. The bytes are those of docs/formats.md;
`arsync.manifest.format` reads and writes the same ones in plain Python.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from arsync.errors import InternalError, OutOfMemoryError
from arsync.model import PageFlag, Side
from arsync.uring._native import ffi, lib
from arsync.uring.batch import Batch

if TYPE_CHECKING:
    from arsync.uring._native import CData

__all__ = [
    "KNOWN",
    "Slot",
    "Unpacked",
    "Verdict",
    "are_sound",
    "compare",
    "pack",
    "unpack",
]

KNOWN: Final = Struct("<16sqB7x")
"""Hash, time of verification and state of one row, as `struct ar_known` has them."""

_MOST_ROWS: Final = lib.AR_PAGE_ROWS + 1


class Verdict(enum.Enum):
    """Say how a scanned page and a recorded one compare."""

    EQUAL = enum.auto()
    DIFFERENT = enum.auto()
    DAMAGED = enum.auto()


@dataclass(frozen=True)
class Slot:
    """Say which page is recorded where.

    Args:
        pair: index in the batch; when unpacking, the pair whose path the page gets.
        directory: id.
        tree: 0 the destination.
        converged: both sides agreed on the directory; only for pages of sources.
        equality: where they did, the digest of the options, and `partner` the checksum of the
            destination's page.
        known: `KNOWN` for each row of the record, b"" where nothing is known of any.
    """

    pair: int
    directory: int
    tree: int = 0
    converged: bool = False
    equality: int = 0
    partner: int = 0
    known: bytes = b""


@dataclass(frozen=True)
class Unpacked:
    """Hold what a record says beside the page that was made of it.

    Args:
        page: offset of that page in the batch's pages of its side.
    """

    page: int
    rows: int
    flags: PageFlag
    equality: int
    partner: int
    known: bytes


def pack(batch: Batch, side: Side, slots: Sequence[Slot]) -> list[bytes | None]:
    """Pack the pages of some pairs.

    Returns: the bytes of each, None for a page that cannot be recorded: reading it failed.
    Raises: OutOfMemoryError; InternalError where `known` is too short.
    """
    records, _keep = _records(batch, side, slots)
    out = Batch()
    _check(lib.ar_records_pack(batch.raw, side, records, len(slots), out.raw))
    return [
        None if one.result else bytes(ffi.buffer(ffi.cast("char *", one.bytes), one.len))
        for one in records
    ]


def compare(
    batch: Batch, side: Side, slots: Sequence[Slot], recorded: Sequence[bytes]
) -> list[Verdict]:
    """Tell whether the scan of some pairs sees what is recorded; only checksums are checked else.

    Args:
        recorded: the bytes for each slot.
    Raises: OutOfMemoryError.
    """
    records, _keep = _records(batch, side, slots)
    _lend = _lend_bytes(records, recorded)
    _check(lib.ar_records_compare(batch.raw, side, records, len(slots)))
    verdicts = {0: Verdict.DIFFERENT, 1: Verdict.EQUAL}
    return [verdicts.get(one.result, Verdict.DAMAGED) for one in records]


def are_sound(places: Sequence[tuple[int, int]], recorded: Sequence[bytes]) -> list[bool]:
    """Check records by every rule of docs/formats.md but that of the key's first name.

    Args:
        places: tree and directory of each.
    Raises: OutOfMemoryError.
    """
    records = ffi.new("struct ar_recorded[]", len(places))
    for one, (tree, directory) in zip(records, places, strict=True):
        one.tree, one.directory = tree, directory
    _lend = _lend_bytes(records, recorded)
    _check(lib.ar_records_check(records, len(places)))
    return [one.result == 0 for one in records]


def unpack(
    batch: Batch, side: Side, slots: Sequence[Slot], recorded: Sequence[bytes]
) -> list[Unpacked | None]:
    """Append a page for each record to one side of a batch, with the path of the slot's pair.

    Returns: None for a damaged record, of which nothing is appended.
    Raises: OutOfMemoryError.
    """
    records = ffi.new("struct ar_recorded[]", len(slots))
    known = ffi.new("struct ar_known[]", len(slots) * _MOST_ROWS)
    paths = [ffi.from_buffer("char[]", batch.src_path(slot.pair)) for slot in slots]
    for index, (one, slot) in enumerate(zip(records, slots, strict=True)):
        one.tree, one.directory = slot.tree, slot.directory
        one.known = known + index * _MOST_ROWS
        one.path, one.path_len = paths[index], len(paths[index])
    _lend = _lend_bytes(records, recorded)
    _check(lib.ar_records_unpack(records, len(slots), batch.raw, side))
    return [_unpacked(one) for one in records]


def _unpacked(one: CData) -> Unpacked | None:
    if one.result:
        return None
    known = bytes(ffi.buffer(ffi.cast("char *", one.known), one.rows * KNOWN.size))
    flags = PageFlag(one.flags)
    return Unpacked(one.page, one.rows, flags, one.equality, one.partner, known)


def _records(batch: Batch, side: Side, slots: Sequence[Slot]) -> tuple[CData, list[CData]]:
    """Return the C structs for some slots, and what has to live as long as they do."""
    records = ffi.new("struct ar_recorded[]", len(slots))
    keep = []
    for one, slot in zip(records, slots, strict=True):
        pair = batch.raw.pairs[slot.pair]
        one.page = pair.dst_page if side == Side.DST else pair.src_page
        if one.page == lib.AR_NO_PAGE:
            raise InternalError(f"pair {slot.pair} has no page on side {int(side)} to record")
        one.directory, one.tree = slot.directory, slot.tree
        one.flags = lib.AR_RECORD_CONVERGED if slot.converged else 0
        one.equality, one.partner = slot.equality, slot.partner
        if slot.known:
            _check_known(batch, side, one.page, slot)
            keep.append(ffi.from_buffer("char[]", slot.known))
            one.known = ffi.cast("struct ar_known *", keep[-1])
    return records, keep


def _check_known(batch: Batch, side: Side, offset: int, slot: Slot) -> None:
    pages = batch.raw.dst if side == Side.DST else batch.raw.src
    page = ffi.cast("struct ar_page *", pages + offset)
    rows = page.row_count + bool(page.flags & lib.AR_PAGE_FIRST)
    if len(slot.known) != rows * KNOWN.size:
        raise InternalError(f"{len(slot.known)} bytes are known of {rows} rows")


def _lend_bytes(records: CData, recorded: Sequence[bytes]) -> list[CData]:
    lent = [ffi.from_buffer("uint8_t[]", data) for data in recorded]
    for one, data in zip(records, lent, strict=True):
        one.bytes, one.len = data, len(data)
    return lent


def _check(result: int) -> None:
    if result == -errno.ENOMEM:
        raise OutOfMemoryError("out of memory for the records of a batch")
    if result < 0:
        raise InternalError(f"records of a batch: error {-result}")
