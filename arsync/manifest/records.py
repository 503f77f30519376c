"""Keys and values of the store's databases, as docs/formats.md has them; pure.

Owns the order of keys and the checksum before each value that is not a page. What is damaged is
ManifestCorruptError, never a value that is merely missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

import xxhash

from arsync.errors import ManifestCorruptError
from arsync.manifest.format import damage, page_facts, page_start
from arsync.model import PageFlag

__all__ = [
    "DIRECTORY_KEY",
    "ID",
    "PAGE_KEY",
    "ROOT",
    "TREE_KEY",
    "check_chain",
    "check_ends",
    "id_of",
    "is_chain",
    "seal",
    "unseal",
]

ROOT: Final = 1
"""Id of every tree's root directory."""

PAGE_KEY: Final = Struct(">IQ")
"""Tree and directory; the first name follows."""

DIRECTORY_KEY: Final = Struct(">Q")
"""The parent's id, a run's number, or the directory of a file with chunks; a name may follow."""

TREE_KEY: Final = Struct(">I")
ID: Final = Struct("<Q")

_WHOLE: Final = frozenset(
    page_start(PageFlag.FIRST | PageFlag.LAST | flag) for flag in (0, PageFlag.CONVERGED)
)


def seal(database: str, key: bytes, value: bytes) -> bytes:
    """Return what is stored: the checksum of the database's name, key and value, then the value."""
    return _sum_of(database, key, value) + value


def unseal(database: str, key: bytes, stored: bytes) -> bytes:
    """Return the value of what is stored.

    Raises: ManifestCorruptError where its checksum is wrong.
    """
    value = stored[8:]
    if stored[:8] != _sum_of(database, key, value):
        raise damage(f"a damaged entry of '{database}'")
    return value


def id_of(database: str, key: bytes, stored: bytes) -> int:
    """Return the id that is stored under a key."""
    value = unseal(database, key, stored)
    if len(value) != ID.size:
        raise damage("an id of the wrong length")
    return int(ID.unpack(value)[0])


def check_chain(firsts: Sequence[bytes], pages: Sequence[bytes]) -> None:
    """See that pages begin and end one directory.

    Raises: ManifestCorruptError.
    """
    last = len(pages) - 1
    for index, (first, page) in enumerate(zip(firsts, pages, strict=True)):
        check_ends(first, page, is_first=index == 0, is_last=index == last)


def is_chain(firsts: Sequence[bytes], pages: Sequence[bytes]) -> bool:
    """Tell whether pages begin and end one directory."""
    try:
        check_chain(firsts, pages)
    except ManifestCorruptError:
        return False
    return True


def is_whole(page: bytes) -> bool:
    """Tell whether one page is all of its directory, in 0.1 us; False for what is no page."""
    return page[:8] in _WHOLE


def check_ends(first: bytes, page: bytes, *, is_first: bool, is_last: bool) -> None:
    """See that a page begins and ends its directory where it should.

    Args:
        first: the first name of its key.
    Raises: ManifestCorruptError.
    """
    flags, _ = page_facts(page)
    if bool(flags & PageFlag.FIRST) != is_first or bool(first) == is_first:
        raise damage("the first page of a directory is missing")
    if bool(flags & PageFlag.LAST) != is_last:
        raise damage("the last page of a directory is missing")


def _sum_of(database: str, key: bytes, value: bytes) -> bytes:
    text = b"%b\0%b%b%b" % (database.encode(), len(key).to_bytes(2, "big"), key, value)
    return xxhash.xxh3_64_intdigest(text).to_bytes(8, "little")
