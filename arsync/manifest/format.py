"""Turn the bytes of a recorded page into columns, and columns into bytes; docs/formats.md rules.

Pure: no I/O, no database. What a run compares and records goes through the C twin of this module
(`arsync.uring.records`), a batch at a time; this one is for people's commands (show, export) and
is the other's oracle. A column is a tuple with a value for each row; there is no object for a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import IntFlag
from itertools import chain, pairwise
from struct import Struct
from struct import pack as pack_values
from struct import unpack as unpack_values
from typing import Final

import xxhash

from arsync.errors import ManifestCorruptError
from arsync.model import PageFlag

__all__ = [
    "CHUNK_BYTES",
    "MOST_BYTES",
    "MOST_ROWS",
    "MOST_SOURCES",
    "SEEN",
    "Page",
    "Place",
    "RowState",
    "checksum_of",
    "damage",
    "destination_of",
    "moved",
    "page_facts",
    "page_start",
    "read_columns",
    "without_convergence",
]

VERSION: Final = 1
MOST_ROWS: Final = 1024
"""Entries of a page; the directory's own row comes on top."""

MOST_BYTES: Final = 32 << 20

CHUNK_BYTES: Final = 4 << 20
"""The hash of a file that is longer is the one of its chunks' hashes."""

_HEAD: Final = Struct("<4sHHIIIIQQQ")
_SUMMED: Final = _HEAD.size - 8
_MAGIC: Final = b"ARPG"

# Column of the seen region -> format of a value, in the order of the bytes.
_SEEN_FORMATS: Final = {
    "name_len": "H",
    "type": "B",
    "flags": "B",
    "mode": "I",
    "uid": "I",
    "gid": "I",
    "nlink": "I",
    "size": "Q",
    "ino": "Q",
    "mtime_s": "q",
    "ctime_s": "q",
    "btime_s": "q",
    "atime_s": "q",
    "mtime_n": "I",
    "ctime_n": "I",
    "btime_n": "I",
    "atime_n": "I",
    "rdev_major": "I",
    "rdev_minor": "I",
    "link_len": "I",
    "xattr_digest": "Q",
    "acl_digest": "Q",
}
_LENGTHS: Final = ("name_len", "link_len")
SEEN: Final = tuple(name for name in _SEEN_FORMATS if name not in _LENGTHS)
"""Names of the columns that a page holds, those of the two lengths left out."""

_KNOWN_FORMATS: Final = {"state": "B", "hash": "16s", "verified": "q"}

_DIRECTORY: Final = 4
_SYMLINK: Final = 10
_TYPES: Final = frozenset({0, 1, 2, _DIRECTORY, 6, 8, _SYMLINK, 12})
_MOST_FLAGS: Final = 7
_NO_HASH: Final = bytes(16)

_ZERO, _ONE, _EACH = range(3)

_DESTINATIONS: Final = 1 << 15
MOST_SOURCES: Final = _DESTINATIONS - 1


def destination_of(source: int) -> int:
    """Return the tree that has the destination as the runs of one source have left it.

    Each source has one, so that none of them replaces what another one knows: 0 is the first's.
    """
    return 0 if source < 2 else _DESTINATIONS | source


class RowState(IntFlag):
    """Say what arsync knows of an entry beside what a scan sees."""

    HASHED = 1
    RACY = 2
    DIRTY = 4
    UNSTABLE = 8
    VOLATILE = 16
    CHUNKED = 32


@dataclass(frozen=True)
class Place:
    """Say where a page is kept: its key, of which only `first` is in its bytes as well.

    Args:
        tree: of a source, or what `destination_of` gives; below 2^16.
        directory: id, below 2^48.
        first: b"" for a directory's first page, else the name of its first row.
    """

    tree: int
    directory: int
    first: bytes = b""

    @property
    def is_of_source(self) -> bool:
        """Tell whether it is a source's page, not one of the destination."""
        return 0 < self.tree < _DESTINATIONS

    @property
    def seed(self) -> int:
        """Return what the checksum of a page here begins with."""
        return (self.directory + (self.tree << 48)) & 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True)
class Page:
    """Hold what is recorded of a directory, or of about 1,000 entries of it.

    Args:
        names: of the rows, rising; with FIRST the directory's own row stands first, b"".
        targets: of symlinks, b"" for others.
        seen: a tuple of values for each name in SEEN.
        states: bits of RowState.
        hashes: 16 bytes each, zeros without HASHED.
        verified: seconds since 1970, 0 for never.
        equality: digest of the options under which it CONVERGED.
        partner: checksum of the destination's page with which it CONVERGED.
    """

    flags: PageFlag
    names: tuple[bytes, ...]
    targets: tuple[bytes, ...]
    seen: dict[str, tuple[int, ...]]
    states: tuple[int, ...]
    hashes: tuple[bytes, ...]
    verified: tuple[int, ...]
    equality: int = 0
    partner: int = 0
    checksum: int = field(default=0, compare=False)

    def encode(self, place: Place) -> bytes:
        """Return the bytes of the page.

        Raises: ValueError for a page that is not valid.
        """
        lengths = {
            "name_len": tuple(map(len, self.names)),
            "link_len": tuple(map(len, self.targets)),
        }
        columns = {**self.seen, **lengths}
        pairs = zip(self.names, self.targets, strict=True)
        arena = b"".join(part for pair in pairs for part in pair)
        seen = _put_region([(form, columns[name]) for name, form in _SEEN_FORMATS.items()])
        seen += _padded(arena)
        values = (self.states, self.hashes, self.verified)
        known = _put_region(list(zip(_KNOWN_FORMATS.values(), values, strict=True)))
        head = (_MAGIC, VERSION, self.flags, len(self.names), len(seen), len(known), 0)
        data = _HEAD.pack(*head, self.equality, self.partner, 0) + seen + known
        data = data[:_SUMMED] + checksum_of(data, place).to_bytes(8, "little") + seen + known
        try:
            Page.decode(data, place)
        except ManifestCorruptError as error:
            raise ValueError(str(error)) from error
        return data

    @classmethod
    def decode(cls, data: bytes, place: Place) -> Page:
        """Read a page that was kept at a place, and check every rule of docs/formats.md.

        Raises: ManifestCorruptError that says which.
        """
        head = _read_head(data, place)
        end = _HEAD.size + head.seen_bytes
        names, targets, seen = _read_seen(data[_HEAD.size : end], head.rows)
        states, hashes, verified = _read_known(data[end:], head.rows)
        page = cls(
            head.flags,
            names,
            targets,
            seen,
            states,
            hashes,
            verified,
            head.equality,
            head.partner,
            head.checksum,
        )
        _check_rows(page, place)
        _check_known(page)
        return page


def read_columns(
    data: bytes, place: Place, wanted: Collection[str]
) -> tuple[PageFlag, dict[str, tuple[int, ...]]]:
    """Read a few columns of a page, many times faster than all of it.

    The checksum and the columns are checked, what they mean together is not.

    Args:
        wanted: names in SEEN, "state", "verified".
    Returns: the page's flags, and a value for each row of each column.
    Raises: ManifestCorruptError.
    """
    head = _read_head(data, place)
    end = _HEAD.size + head.seen_bytes
    seen = _Region(data[_HEAD.size : end], len(_SEEN_FORMATS), head.rows)
    known = _Region(data[end:], len(_KNOWN_FORMATS), head.rows)
    return head.flags, dict(
        chain(seen.some(_SEEN_FORMATS, wanted), known.some(_KNOWN_FORMATS, wanted))
    )


def checksum_of(data: bytes, place: Place) -> int:
    """Return what the checksum of a page at a place must be, whatever it is now."""
    seed = xxhash.xxh3_64_intdigest(data[:_SUMMED], seed=place.seed)
    return int(xxhash.xxh3_64_intdigest(data[_HEAD.size :], seed=seed))


def page_start(flags: int) -> bytes:
    """Return the first 8 bytes of every page that has these flags."""
    return _HEAD.pack(_MAGIC, VERSION, flags, 0, 0, 0, 0, 0, 0, 0)[:8]


def without_convergence(data: bytes, place: Place) -> bytes:
    """Return a sound page as that of a directory that has not converged."""
    magic, version, flags, *rest = _HEAD.unpack_from(data)
    if not flags & PageFlag.CONVERGED:
        return data
    head = _HEAD.pack(magic, version, flags & ~PageFlag.CONVERGED, *rest[:-3], 0, 0, 0)
    plain = head + data[_HEAD.size :]
    return plain[:_SUMMED] + checksum_of(plain, place).to_bytes(8, "little") + plain[_HEAD.size :]


def moved(data: bytes, old: Place, new: Place) -> bytes:
    """Return the page that was kept at one place as it is kept at another.

    What is damaged stays so.
    """
    is_whole = len(data) >= _HEAD.size and _HEAD.unpack_from(data)[-1] == checksum_of(data, old)
    if not is_whole:
        return data
    return data[:_SUMMED] + checksum_of(data, new).to_bytes(8, "little") + data[_HEAD.size :]


def page_facts(data: bytes) -> tuple[PageFlag, int]:
    """Return flags and number of rows of a page that nobody has checked yet.

    Raises: ManifestCorruptError where it is no page at all.
    """
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise damage("it is no page")
    _, _, flags, rows, *_ = _HEAD.unpack_from(data)
    return PageFlag(flags), rows


def damage(what: str) -> ManifestCorruptError:
    """Return the error for one kind of damage."""
    return ManifestCorruptError(
        f"cannot read the manifest: {what} ('arsync manifest rebuild' makes it anew)"
    )


# --------------------------------------------------------------------- writing


def _put_region(columns: list[tuple[str, tuple[int, ...] | tuple[bytes, ...]]]) -> bytes:
    table = bytearray()
    stored = []
    for form, values in columns:
        zero: int | bytes = _NO_HASH if form == "16s" else 0
        differ = len(set(values)) > 1
        kind = _EACH if differ else _ONE if values[0] != zero else _ZERO
        table.append(kind)
        if kind != _ZERO:
            some = values if differ else values[:1]
            stored.append(_padded(pack_values("<" + form * len(some), *some)))
    return _padded(bytes(table)) + b"".join(stored)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


# --------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Head:
    """Hold the facts of the 48 bytes at the start."""

    flags: PageFlag
    rows: int
    seen_bytes: int
    equality: int
    partner: int
    checksum: int


def _read_head(data: bytes, place: Place) -> _Head:
    page_facts(data)
    head = _HEAD.unpack_from(data)
    _, version, flags, rows, seen_bytes, known_bytes, zero, equality, partner, checksum = head
    if version != VERSION:
        raise damage(f"version {version} of a page is unknown")
    if flags > sum(PageFlag) or zero:
        raise damage("unknown flags of a page")
    if len(data) > MOST_BYTES or len(data) != _HEAD.size + seen_bytes + known_bytes:
        raise damage("a page of the wrong length")
    if checksum != checksum_of(data, place):
        raise damage("a wrong checksum of a page")
    if not 1 <= rows <= MOST_ROWS + (flags & PageFlag.FIRST):
        raise damage(f"{rows} rows in a page")
    if flags & PageFlag.CONVERGED and not place.is_of_source:
        raise damage("a page of the destination that says converged")
    if not flags & PageFlag.CONVERGED and (equality or partner):
        raise damage("a partner of a page that has not converged")
    return _Head(PageFlag(flags), rows, seen_bytes, equality, partner, checksum)


class _Region:
    """Read the columns of one region from its start."""

    def __init__(self, data: bytes, column_count: int, rows: int) -> None:
        self._data = data
        self._rows = rows
        self._at = 0
        self._table = iter(self.take(column_count))

    def take(self, count: int) -> bytes:
        """Return the next bytes and step over them and the padding behind."""
        end = self._at + count
        padded_end = end + -count % 8
        if padded_end > len(self._data) or any(self._data[end:padded_end]):
            raise damage("a column of the wrong length")
        taken = self._data[self._at : end]
        self._at = padded_end
        return taken

    def column(self, form: str) -> tuple[int, ...] | tuple[bytes, ...]:
        """Return a value for each row of the next column."""
        zero: int | bytes = _NO_HASH if form == "16s" else 0
        kind = next(self._table)
        if kind == _ZERO:
            return (zero,) * self._rows  # type: ignore[return-value]
        if kind > _EACH:
            raise damage(f"column of form {kind}")
        count = self._rows if kind == _EACH else 1
        layout = Struct("<" + form * count)
        values = layout.unpack(self.take(layout.size))
        if (kind == _EACH and len(set(values)) == 1) or (kind == _ONE and values[0] == zero):
            raise damage("a column that is longer than needed")
        return values if kind == _EACH else values * self._rows

    def some(
        self, formats: dict[str, str], wanted: Collection[str]
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the columns wanted by their names, and step over the others."""
        for name, form in formats.items():
            if name in wanted:
                yield name, self.column(form)  # type: ignore[misc]
            else:
                kind = next(self._table)
                count = {_ZERO: 0, _ONE: 1}.get(kind, self._rows)
                self.take(count * Struct("<" + form).size)

    def check_end(self) -> None:
        """See that nothing follows."""
        if self._at != len(self._data):
            raise damage("a region of the wrong length")


def _read_seen(
    data: bytes, rows: int
) -> tuple[tuple[bytes, ...], tuple[bytes, ...], dict[str, tuple[int, ...]]]:
    region = _Region(data, len(_SEEN_FORMATS), rows)
    seen: dict[str, tuple[int, ...]] = {
        name: region.column(form)  # type: ignore[misc]
        for name, form in _SEEN_FORMATS.items()
    }
    name_lens, link_lens = (seen.pop(name) for name in _LENGTHS)
    lengths = [length for pair in zip(name_lens, link_lens, strict=True) for length in pair]
    arena = region.take(sum(lengths))
    region.check_end()
    texts = unpack_values("".join(f"{length}s" for length in lengths), arena)
    return texts[::2], texts[1::2], seen


def _read_known(
    data: bytes, rows: int
) -> tuple[tuple[int, ...], tuple[bytes, ...], tuple[int, ...]]:
    region = _Region(data, len(_KNOWN_FORMATS), rows)
    states, hashes, verified = map(region.column, _KNOWN_FORMATS.values())
    region.check_end()
    return states, hashes, verified  # type: ignore[return-value]


# -------------------------------------------------------------------- checking


def _check_rows(page: Page, place: Place) -> None:
    names, types = page.names, page.seen["type"]
    if page.flags & PageFlag.FIRST:
        if names[0] or page.targets[0] or types[0] != _DIRECTORY:
            raise damage("a directory's own row that is none")
        names = names[1:]
    if not all(map(_is_name, names)):
        raise damage("a name that no entry can have")
    if any(a >= b for a, b in pairwise(names)):
        raise damage("names that are out of order")
    if place.first != (b"" if page.flags & PageFlag.FIRST else names[0]):
        raise damage("a page under the key of another one")
    if not _TYPES.issuperset(types):
        raise damage("an unknown type of entry")
    if max(page.seen["flags"]) > _MOST_FLAGS:
        raise damage("an entry with flags that are none")
    links = zip(page.targets, types, strict=True)
    if any(target and (kind != _SYMLINK or b"\0" in target) for target, kind in links):
        raise damage("a link target that cannot be one")
    if any(max(page.seen[f"{time}time_n"]) >= 10**9 for time in "mcba"):
        raise damage("a time that is none")


def _is_name(name: bytes) -> bool:
    return 0 < len(name) < 256 and name not in (b".", b"..") and not {0, 47} & set(name)


def _check_known(page: Page) -> None:
    if max(page.states) > sum(RowState):
        raise damage("an unknown state of a row")
    bare = RowState.HASHED | RowState.CHUNKED
    for state, digest, verified in zip(page.states, page.hashes, page.verified, strict=True):
        if not state & RowState.HASHED and (state & bare or digest != _NO_HASH or verified):
            raise damage("a hash of a row that has none")
