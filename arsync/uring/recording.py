"""Give a scanned batch what the manifest knows, and take from an executed one what it shall know.

Owns the C structs of both; a batch a call. What the bytes are is docs/formats.md's, where they are
kept the manifest's.
"""

from __future__ import annotations

import errno
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from arsync.errors import FileError, InternalError, ManifestCorruptError, OutOfMemoryError
from arsync.uring._native import ffi, lib
from arsync.uring.batch import Batch
from arsync.uring.rules import Rules
from arsync.uring.scanner import Scanner

if TYPE_CHECKING:
    from arsync.uring._native import CData

__all__ = [
    "Chain",
    "Keeping",
    "Kept",
    "Remembered",
    "Replaced",
    "child_keys",
    "give_chunks",
    "make_chains",
    "place",
    "recall",
    "refresh",
    "remembered",
    "settle",
    "wanted_chunks",
]

_KEPT: Final = Struct("<QIIIIIIII")
_CHUNKED: Final = Struct("<II")
_REPLACED: Final = Struct("<III")
_LENGTH: Final = Struct("<I")
_TYPE_AT: Final = int(ffi.offsetof("struct ar_row", "type"))
_STATE_AT: Final = int(ffi.offsetof("struct ar_known", "state"))
_FILE: Final = 8

Chain = Sequence[bytes]
"""The records of one directory on one side, in order."""


class Kept(NamedTuple):
    """Hold a page for the manifest.

    Args:
        directory: id.
        tree: of the source, or of the destination beside it.
        flags: PageFlag: whether it begins and ends its directory; CONVERGED where it is recorded
            like this already.
        key: its first name, b"" where it begins its directory.
        data: the record; b"" where no row is left in it.
        chunks: of each file of it whose chunk hashes are to be recorded its name and them; b""
            where they are what the manifest has.
    """

    directory: int
    tree: int
    flags: int
    key: bytes
    data: bytes
    chunks: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True)
class Keeping:
    """Say how rows are recorded.

    Args:
        tree: of the source.
        dst_tree: of the destination as that source's runs leave it.
        equality: digest of what decides whether two entries are equal.
        granule_ns: of the clock that gives ctimes; 0 where no two changes have the same one.
        rules: by which both sides are compared.
        compares_all: what has converged is compared all the same.
    """

    tree: int
    dst_tree: int
    equality: int
    granule_ns: int
    rules: Rules
    compares_all: bool = False

    @property
    def trees(self) -> tuple[int, int]:
        """Return the trees of both sides."""
        return self.tree, self.dst_tree

    def as_c(self) -> CData:
        """Return the C struct."""
        return ffi.new(
            "struct ar_keeping *",
            {
                "tree": self.tree,
                "dst_tree": self.dst_tree,
                "equality": self.equality,
                "granule_ns": self.granule_ns,
                "rules": self.rules.raw,
                "now": int(time.time()),
            },
        )


def child_keys(parent: Batch, first: int, batch: Batch, first_pair: int) -> list[bytes]:
    """Return the manifest's keys of the source's pairs from one on: the parent's id and the name.

    Args:
        first: the child that became the first of them; what only the destination has is passed
            over.
    """
    room = ffi.new("uint8_t[]", lib.AR_KEY_BYTES * (batch.pair_count - first_pair))
    length = _check(lib.ar_child_keys(parent.raw, first, batch.raw, first_pair, room))
    data = ffi.buffer(room, length)[:]
    keys, at = [], 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        keys.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return keys


def place(batch: Batch, first_pair: int, directories: Sequence[int]) -> None:
    """Say which directories the pairs from one on are, by their ids in the manifest.

    Args:
        directories: one for each that the source has, the last one for all that follow; a pair of
            extras is of the one before it.
    """
    ids = ffi.from_buffer("uint64_t[]", array("Q", directories))
    lib.ar_identify(batch.raw, first_pair, ids, len(directories))


def recall(
    scanner: Scanner, batch: Batch, src: Sequence[Chain], dst: Sequence[Chain], keeping: Keeping
) -> None:
    """Tell a scanned batch, before it is compared, what is recorded of its pairs.

    Args:
        scanner: which has filled the batch.
        src: for each pair the records that its page of the source can be in.
        dst: the same for the destination.
        keeping: of the run; what converged under another equality is compared.
    Raises: ManifestCorruptError for a damaged record; OutOfMemoryError.
    """
    chains, _alive = make_chains(src, dst, keeping.trees)
    equality = 0 if keeping.compares_all else keeping.equality
    _check(lib.ar_recall(scanner.raw, batch.raw, chains, equality))


class Remembered(NamedTuple):
    """Hold what is still known of the rows of a scanned page.

    Args:
        known: `struct ar_known` for each row of its record; zeros where nothing is.
        files: regular files among them.
        hashed: files with a hash.
        racy: files with size and mtime as recorded, but not their ctime or inode.
        chunked: of the hashed ones, those with chunk hashes.
    """

    known: bytes
    files: int
    hashed: int = 0
    racy: int = 0
    chunked: int = 0


def remembered(batch: Batch, pair: int) -> Remembered:
    """Return what `recall` has found of a pair's source rows, that of inodes that are the same."""
    one = batch.raw.pairs[pair]
    page = ffi.cast("struct ar_page *", batch.raw.src + one.src_page)
    rows = int(page.row_count)
    row_bytes, size = ffi.sizeof("struct ar_row"), ffi.sizeof("struct ar_known")
    types = bytes(ffi.buffer(page + 1, rows * row_bytes))[_TYPE_AT::row_bytes]
    own = bytes(size) * bool(page.flags & lib.AR_PAGE_FIRST)
    files = types.count(_FILE)
    if one.memory == lib.AR_NO_PAGE or not rows:
        return Remembered(own + bytes(rows * size), files)
    width = ffi.sizeof("struct ar_memory")
    memory = bytes(ffi.buffer(batch.raw.memory + one.memory, rows * width))
    parts, racy = [own], 0
    for at, judged in enumerate(memory[2 * size :: width]):
        known = memory[at * width : at * width + size]
        if not judged or judged & lib.AR_MEMORY_INODE:
            known = bytes(size)
        if judged & (lib.AR_MEMORY_CTIME | lib.AR_MEMORY_INODE):
            state = known[_STATE_AT] | lib.AR_KNOWN_RACY
            known = known[:_STATE_AT] + bytes([state]) + known[_STATE_AT + 1 :]
            racy += 1
        parts.append(known)
    states = [known[_STATE_AT] for known in parts[1:]]
    hashed, chunked = (
        sum(bool(state & bit) for state in states)
        for bit in (lib.AR_KNOWN_HASHED, lib.AR_KNOWN_CHUNKED)
    )
    return Remembered(b"".join(parts), files, hashed, racy, chunked)


class Replaced(NamedTuple):
    """Name a file that replaces one whose chunk hashes are recorded, by pair and row."""

    pair: int
    row: int
    name: bytes


def wanted_chunks(batch: Batch) -> list[Replaced]:
    """Return the big files of a compared batch that replace one with recorded chunk hashes.

    Raises: OutOfMemoryError.
    """
    if not (batch.tally.plan_files or batch.tally.plan_checks):
        return []
    out = Batch()
    _check(lib.ar_chunks_wanted(batch.raw, out.raw))
    data = out.aux
    found, at = [], 0
    while at < len(data):
        pair, row, length = _REPLACED.unpack_from(data, at)
        at += _REPLACED.size + length
        found.append(Replaced(pair, row, data[at - length : at]))
    return found


def give_chunks(batch: Batch, file: Replaced, hashes: bytes) -> None:
    """Give a batch the recorded chunk hashes of a file; a list that is not valid is not taken.

    Raises: OutOfMemoryError.
    """
    _check(
        lib.ar_chunks_give(
            batch.raw, file.pair, file.row, ffi.from_buffer("uint8_t[]", hashes), len(hashes)
        )
    )


def settle(scanner: Scanner, batch: Batch, keeping: Keeping) -> list[Kept]:
    """Look at what an executed batch left behind; pages that cannot be recorded are left out.

    Returns: for each recorded directory the destination's page, then the source's.
    Raises: OutOfMemoryError.
    """
    unsettled = lib.ar_unsettled(batch.raw)
    if not unsettled:
        return []
    out = Batch()
    kept = ffi.new("struct ar_kept[]", 2 * unsettled)
    count = _check(lib.ar_settle(scanner.raw, batch.raw, keeping.as_c(), out.raw, kept))
    return _kept(kept, count, out)


def refresh(
    scanner: Scanner, batch: Batch, src: Sequence[Chain], dst: Sequence[Chain], keeping: Keeping
) -> list[Kept]:
    """Look again at directories that are complete, with what was recorded of each.

    Args:
        batch: of the phase in which directories get their times.
    Returns: for each the page that begins it, of both sides.
    Raises: ManifestCorruptError for a damaged record; OutOfMemoryError.
    """
    out = Batch()
    chains, _alive = make_chains(src, dst, keeping.trees)
    kept = ffi.new("struct ar_kept[]", 2 * batch.pair_count)
    count = _check(lib.ar_refresh(scanner.raw, batch.raw, chains, keeping.as_c(), out.raw, kept))
    return _kept(kept, count, out)


def make_chains(
    src: Sequence[Chain], dst: Sequence[Chain], trees: tuple[int, int]
) -> tuple[CData, list[CData]]:
    """Return the C structs of both sides, and what has to live as long as they do.

    Args:
        trees: of both sides.
    """
    chains = ffi.new("struct ar_chains[2]")
    alive = []
    for one, side, number in zip(chains, (src, dst), trees, strict=True):
        records = [record for chain in side for record in chain]
        bytes_ = ffi.from_buffer("uint8_t[]", b"".join(records))
        lens = ffi.from_buffer("uint64_t[]", array("Q", map(len, records)))
        counts = ffi.from_buffer("uint32_t[]", array("I", map(len, side)))
        one.bytes, one.lens, one.counts, one.tree = bytes_, lens, counts, number
        alive += [bytes_, lens, counts]
    return chains, alive


def _kept(kept: CData, count: int, out: Batch) -> list[Kept]:
    data = out.aux
    return [
        Kept(
            directory,
            tree,
            flags,
            data[key : key + key_len],
            data[at : at + length],
            _chunks(data[chunks : chunks + chunks_len]) if chunks_len else (),
        )
        for directory, tree, flags, key, key_len, at, length, chunks, chunks_len in (
            _KEPT.iter_unpack(ffi.buffer(kept, count * _KEPT.size)[:])
        )
    ]


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        name_len, length = _CHUNKED.unpack_from(data, at)
        hashes = at + _CHUNKED.size + name_len
        found.append((data[hashes - name_len : hashes], data[hashes : hashes + length]))
        at = hashes + length
    return found


def _check(result: int) -> int:
    if result >= 0:
        return result
    if result == -errno.ENOMEM:
        raise OutOfMemoryError("out of memory for what is recorded of a batch")
    if result == -errno.EBADMSG:
        raise ManifestCorruptError(
            "cannot read the manifest: a page is damaged ('arsync manifest rebuild' makes it anew)"
        )
    if result in (-errno.EMFILE, -errno.ENFILE):
        raise FileError("cannot look at the destination: too many open files (see ulimit -n)")
    raise InternalError(f"what is recorded of a batch: error {-result}")
