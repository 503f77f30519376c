"""Recorded pages: round trips, the decoder under fuzz, and the C beside the Python."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from arsync.errors import ManifestCorruptError
from arsync.manifest.format import SEEN, Page, Place, read_columns
from arsync.model import PageFlag, Side
from arsync.uring import Batch
from arsync.uring.records import KNOWN, Slot, Verdict, are_sound, compare, pack, unpack
from tests import pages as scanned
from tests.manifest_pages import pages, place_of, with_checksum


def an_empty_batch() -> Batch:
    """Return a batch with a pair whose path the unpacked pages get."""
    return scanned.batch_of(scanned.Pair(scanned.Page(path=b"a/b"), scanned.Page()))


@given(pages())
def test_a_page_comes_back(page: Page) -> None:
    """Bytes hold all that a page holds, and the same page always makes the same bytes."""
    place = place_of(page)
    data = page.encode(place)
    assert Page.decode(data, place) == page
    assert Page.decode(data, place).encode(place) == data


@given(pages(), st.sets(st.sampled_from((*SEEN, "state", "verified"))))
def test_a_few_columns_are_those_of_the_page(page: Page, wanted: set[str]) -> None:
    """Stepping over the other columns leads to the same values."""
    data = page.encode(place_of(page))
    flags, columns = read_columns(data, place_of(page), wanted)
    every = {**page.seen, "state": page.states, "verified": page.verified}
    assert flags == page.flags
    assert columns == {name: every[name] for name in wanted}


@given(pages(), st.data())
def test_a_few_columns_of_damaged_bytes(page: Page, data: st.DataObject) -> None:
    """Also with a right checksum there is a sentence or some columns, never another exception."""
    place = place_of(page)
    damaged = bytearray(page.encode(place))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    bad = with_checksum(bytes(damaged), place)
    try:
        _, columns = read_columns(bad, place, ("type", "verified"))
    except ManifestCorruptError:
        return
    assert len(columns["type"]) == len(columns["verified"]) > 0


@given(pages())
def test_c_unpacks_and_packs_the_same_bytes(page: Page) -> None:
    """A record through `struct ar_page` and back is the record."""
    place = place_of(page)
    data = page.encode(place)
    batch = an_empty_batch()
    slot = Slot(0, place.directory, place.tree)
    (one,) = unpack(batch, Side.DST, [slot], [data])
    assert one is not None
    assert one.rows == len(page.names)
    batch.raw.pairs[0].dst_page = one.page
    agreed = bool(one.flags & PageFlag.CONVERGED)
    full = replace(
        slot, converged=agreed, equality=one.equality, partner=one.partner, known=one.known
    )
    assert pack(batch, Side.DST, [full]) == [data]
    assert compare(batch, Side.DST, [slot], [data]) == [Verdict.EQUAL]
    rows = zip(page.hashes, page.verified, page.states, strict=True)
    assert one.known == b"".join(KNOWN.pack(*row) for row in rows)


@given(pages(), st.data())
def test_c_sees_any_difference(page: Page, data: st.DataObject) -> None:
    """A scan that sees another value in one row is different from the record."""
    place = place_of(page)
    batch = an_empty_batch()
    slot = Slot(0, place.directory, place.tree)
    (one,) = unpack(batch, Side.DST, [slot], [page.encode(place)])
    assert one is not None
    batch.raw.pairs[0].dst_page = one.page
    names = [name for name in page.seen if name != "type" and not name.endswith("time_n")]
    name = data.draw(st.sampled_from(names))
    row = data.draw(st.integers(0, one.rows - 1))
    values = page.seen[name]
    changed = values[row] ^ 1
    column = (*values[:row], changed, *values[row + 1 :])
    other = replace(page, seen={**page.seen, name: column})
    assert compare(batch, Side.DST, [slot], [other.encode(place)]) == [Verdict.DIFFERENT]


def agree(data: bytes, place: Place) -> None:
    """Check that both decoders say the same, and that what is taken is what would be written.

    The C is not told the first name that the key has, so the Python is asked with each that may be.
    """
    firsts = {b"", place.first, first_name(data, place)}
    taken = [one for first in firsts if (one := decoded(data, replace(place, first=first)))]
    assert are_sound([(place.tree, place.directory)], [data]) == [len(taken) == 1]
    for page in taken:
        assert page.encode(place_of(page, place.tree, place.directory)) == data


def decoded(data: bytes, place: Place) -> Page | None:
    """Return what the Python reads, None for damage."""
    try:
        return Page.decode(data, place)
    except ManifestCorruptError:
        return None


def first_name(data: bytes, place: Place) -> bytes:
    """Return the name of the first row that the C reads."""
    batch = an_empty_batch()
    (one,) = unpack(batch, Side.DST, [Slot(0, place.directory, place.tree)], [data])
    if one is None or one.flags & 1:
        return b""
    batch.raw.pairs[0].dst_page = one.page
    _, rows = scanned.pages_of(batch, 1)[0]
    return rows[0].name


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_cleanly(data: bytes) -> None:
    """Random bytes, also with a right head and checksum, are damage and nothing else."""
    place = Place(1, 7)
    agree(data, place)
    head = b"ARPG" + b"\1\0\3\0" + b"\1\0\0\0"
    rest = data[: len(data) // 8 * 8]
    lengths = len(rest).to_bytes(4, "little") + bytes(4)
    agree(with_checksum(head + lengths + bytes(28) + rest, place), place)


@given(pages(), st.data())
def test_damaged_pages_are_refused_or_valid(page: Page, data: st.DataObject) -> None:
    """Bytes of a valid page changed, cut or doubled, the checksum made right: both decoders agree.

    What they take is exactly what would be written for it, so no two readings exist.
    """
    place = place_of(page)
    raw = bytearray(page.encode(place))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        edit = data.draw(st.sampled_from(("set", "flip", "cut", "insert", "small")))
        if edit == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif edit == "small":
            raw[at] = data.draw(st.integers(0, 3))
        elif edit == "flip":
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif edit == "cut" and len(raw) > 60:
            del raw[at : at + data.draw(st.integers(1, 16))]
        elif edit == "insert":
            raw[at:at] = bytes(8)
    if raw:
        agree(bytes(raw), place)
        agree(with_checksum(bytes(raw), place), place)
