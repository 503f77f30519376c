"""Put together what the runs of several sources have recorded of one destination directory; pure.

Owns which row counts where two have a name: the one that was seen last, by the destination's own
ctime. What only one of them has stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from arsync.manifest.format import MOST_ROWS, SEEN, Page, Place
from arsync.model import PageFlag

__all__ = ["merged"]


class _Row(NamedTuple):
    """Hold one row of a page."""

    name: bytes
    target: bytes
    seen: tuple[int, ...]
    state: int
    hash: bytes
    verified: int

    @property
    def age(self) -> tuple[int, int]:
        """Return its ctime; directories that are entries have none."""
        return self.seen[_CTIME], self.seen[_CTIME_NS]


_COLUMNS = tuple(SEEN)
_CTIME, _CTIME_NS = _COLUMNS.index("ctime_s"), _COLUMNS.index("ctime_n")


def merged(directory: int, pages: Sequence[Page]) -> list[tuple[bytes, bytes]]:
    """Return the pages of the destination's first tree that have every row of some pages.

    Args:
        pages: of one directory, from all trees of the destination.
    Returns: the bytes of each after the first name of its key.
    """
    rows: dict[bytes, _Row] = {}
    for page in pages:
        for row in _rows(page):
            known = rows.get(row.name)
            if known is None or row.age > known.age:
                rows[row.name] = row
    ordered = [rows[name] for name in sorted(rows)]
    starts = [0, *range(1 + MOST_ROWS, len(ordered), MOST_ROWS)]
    made = []
    for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True):
        first = ordered[start].name
        flags = PageFlag.FIRST * (start == 0) | PageFlag.LAST * (end == len(ordered))
        made.append((first, _page(PageFlag(flags), ordered[start:end], Place(0, directory, first))))
    return made


def _rows(page: Page) -> Iterator[_Row]:
    seen = zip(*(page.seen[name] for name in _COLUMNS), strict=True)
    own = (page.names, page.targets, seen, page.states, page.hashes, page.verified)
    return map(_Row._make, zip(*own, strict=True))


def _page(flags: PageFlag, rows: Sequence[_Row], place: Place) -> bytes:
    names, targets, seen, states, hashes, verified = zip(*rows, strict=True)
    columns = dict(zip(_COLUMNS, zip(*seen, strict=True), strict=True))
    return Page(flags, names, targets, columns, states, hashes, verified).encode(place)
