"""Recorded pages for tests: strategies, and bytes whose checksum is made right again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from arsync.manifest.format import SEEN, Page, Place, RowState, checksum_of
from arsync.model import PageFlag

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {0, 47} & set(name) and name not in (b".", b"..")
)
WIDTHS = {"type": 8, "size": 64, "ino": 64, "xattr_digest": 64, "acl_digest": 64}
LIMITS = {"flags": 7, **{f"{one}time_n": 10**9 - 1 for one in "mcba"}}


def column(name: str, rows: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw a column: often all zero or all equal, as they are."""
    if name.endswith("_s"):
        value = st.integers(-(2**63), 2**63 - 1)
    elif name == "type":
        value = st.sampled_from((0, 1, 2, 4, 6, 8, 10, 12))
    else:
        value = st.integers(0, LIMITS.get(name, 2 ** WIDTHS.get(name, 32) - 1))
    each = st.lists(value, min_size=rows, max_size=rows).map(tuple)
    return st.one_of(st.just((0,) * rows), value.map(lambda one: (one,) * rows), each)


@st.composite
def pages(draw: st.DrawFn) -> Page:
    """Draw a valid page of a source."""
    first = draw(st.booleans())
    entries = sorted(draw(st.sets(NAMES, min_size=0 if first else 1, max_size=6)))
    names = ((b"",) if first else ()) + tuple(entries)
    rows = len(names)
    seen = {name: draw(column(name, rows)) for name in SEEN}
    if first:
        seen["type"] = (4, *seen["type"][1:])
    target = st.binary(max_size=9).map(lambda text: text.replace(b"\0", b"/"))
    targets = tuple(draw(target) if kind == 10 else b"" for kind in seen["type"])
    states = draw(st.lists(st.integers(0, 63), min_size=rows, max_size=rows))
    states = [state if state & RowState.HASHED else state & ~RowState.CHUNKED for state in states]
    hashed = [bool(state & RowState.HASHED) for state in states]
    converged = draw(st.booleans())
    return Page(
        PageFlag.FIRST * first
        | PageFlag.LAST * draw(st.booleans())
        | PageFlag.CONVERGED * converged,
        names,
        targets,
        seen,
        tuple(states),
        tuple(draw(st.binary(min_size=16, max_size=16)) if one else bytes(16) for one in hashed),
        tuple(draw(st.integers(-9, 2**40)) if one else 0 for one in hashed),
        draw(st.integers(0, 2**64 - 1)) if converged else 0,
        draw(st.integers(0, 2**64 - 1)) if converged else 0,
    )


def place_of(page: Page, tree: int = 1, directory: int = 7) -> Place:
    """Return where a page belongs."""
    return Place(tree, directory, b"" if page.flags & PageFlag.FIRST else page.names[0])


def simple_page(rows: int = 3, directory: int = 4) -> Page:
    """Return a whole directory of files, unhashed but for the last one."""
    names = (b"", *(b"f%04d" % index for index in range(rows)))
    count = len(names)
    seen = dict.fromkeys(SEEN, (0,) * count)
    seen["type"] = (directory, *(8,) * rows)
    seen["mode"] = (0o40755, *(0o100644,) * rows)
    seen["ino"] = tuple(range(100, 100 + count))
    seen["size"] = (4096, *(range(rows)))
    seen["mtime_n"] = (7,) * count
    page = Page(
        PageFlag.FIRST | PageFlag.LAST,
        names,
        (b"",) * count,
        seen,
        (*(0,) * rows, int(RowState.HASHED)),
        (*(bytes(16),) * rows, bytes(range(16))),
        (*(0,) * rows, 1_700_000_000),
    )
    return page if rows else replace(page, states=(0,), hashes=(bytes(16),), verified=(0,))


def with_checksum(data: bytes, place: Place) -> bytes:
    """Return the bytes of a page with the checksum that they need."""
    if len(data) < 48:
        return data
    return data[:40] + checksum_of(data, place).to_bytes(8, "little") + data[48:]
