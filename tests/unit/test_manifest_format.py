"""The bytes of a recorded page: each rule of docs/formats.md is broken once."""

from __future__ import annotations

from dataclasses import replace
from struct import pack_into

import pytest

from arsync.errors import ManifestCorruptError
from arsync.manifest.format import Page, Place, checksum_of
from arsync.model import PageFlag
from arsync.uring.records import are_sound
from tests.manifest_pages import simple_page, with_checksum

PLACE = Place(1, 7)
PAGE = simple_page()
GOOD = PAGE.encode(PLACE)
SEEN_TABLE = 48
MODE_COLUMN = 3
"""Each of its rows has a value of its own, or the directory another one than the files."""


def is_refused(data: bytes, place: Place = PLACE) -> bool:
    """Tell whether both readers refuse some bytes; that they disagree fails."""
    refused = False
    try:
        Page.decode(data, place)
    except ManifestCorruptError as error:
        refused = str(error).startswith("cannot read the manifest: ") and error.exit_code == 42
    assert are_sound([(place.tree, place.directory)], [data]) == [not refused]
    return refused


def patched(offset: int, form: str, value: int) -> bytes:
    """Return the good page with one value changed and a right checksum."""
    data = bytearray(GOOD)
    pack_into("<" + form, data, offset, value)
    return with_checksum(bytes(data), PLACE)


def replaced(old: bytes, new: bytes) -> bytes:
    """Return the good page with bytes in it changed and a right checksum."""
    assert GOOD.count(old) == 1
    return with_checksum(GOOD.replace(old, new), PLACE)


def test_a_page_comes_back() -> None:
    """What is written is what is read."""
    assert Page.decode(GOOD, PLACE) == PAGE
    assert not is_refused(GOOD)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="1: empty"),
        pytest.param(GOOD[:47], id="1: shorter than a head"),
        pytest.param(patched(0, "B", 0x42), id="1: magic"),
        pytest.param(patched(4, "H", 2), id="1: version"),
        pytest.param(patched(6, "H", 8 | 3), id="1: flags"),
        pytest.param(patched(20, "I", 1), id="1: the zero"),
        pytest.param(with_checksum(GOOD + bytes(8), PLACE), id="2: longer"),
        pytest.param(with_checksum(GOOD[:-8], PLACE), id="2: shorter"),
        pytest.param(GOOD[:-1] + b"\1", id="2: checksum"),
        pytest.param(patched(8, "I", 0), id="3: no row"),
        pytest.param(patched(8, "I", 1026), id="3: too many rows"),
        pytest.param(patched(8, "I", 3), id="4: another number of rows"),
        pytest.param(patched(SEEN_TABLE, "B", 3), id="4: form 3"),
        pytest.param(patched(SEEN_TABLE + MODE_COLUMN, "B", 0), id="4: a column too many"),
        pytest.param(patched(SEEN_TABLE + 4, "B", 1), id="4: a column too few"),
        pytest.param(patched(SEEN_TABLE + 22, "B", 1), id="4: padding of the table"),
        pytest.param(patched(12, "I", 8), id="4: a short region"),
        pytest.param(replaced(b"f0000", b"g0000"), id="5: order"),
        pytest.param(replaced(b"f0001", b"f0000"), id="5: twice"),
        pytest.param(replaced(b"f0001", b"f0/01"), id="5: a slash"),
        pytest.param(replaced(b"f0001", b"f00\x001"), id="5: a NUL"),
        pytest.param(patched(24, "Q", 5), id="7: equality without converged"),
        pytest.param(patched(32, "Q", 5), id="7: partner without converged"),
    ],
)
def test_each_rule_of_bytes_is_checked(data: bytes) -> None:
    """Bytes that break a rule are refused, by the Python and by the C."""
    assert is_refused(data)


def broken(**changes: tuple[int, ...]) -> Page:
    """Return the page with columns of the seen region replaced."""
    return replace(PAGE, seen={**PAGE.seen, **changes})


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(broken(type=(8, 8, 8, 8)), id="5: the own row is a file"),
        pytest.param(replace(PAGE, names=(b"", b".", b"f1", b"f2")), id="5: a dot"),
        pytest.param(replace(PAGE, names=(b"", b"..", b"f1", b"f2")), id="5: two dots"),
        pytest.param(replace(PAGE, names=(b"", b"a" * 256, b"b", b"c")), id="5: a long name"),
        pytest.param(replace(PAGE, names=(b"", b"", b"b", b"c")), id="5: an empty name"),
        pytest.param(replace(PAGE, names=(b"x", b"y", b"z", b"zz")), id="5: the own row's name"),
        pytest.param(broken(type=(4, 8, 8, 3)), id="6: a type"),
        pytest.param(replace(PAGE, targets=(b"", b"t", b"", b"")), id="6: a file's target"),
        pytest.param(
            replace(broken(type=(4, 8, 8, 10)), targets=(b"", b"", b"", b"a\0")), id="6: NUL"
        ),
        pytest.param(broken(mtime_n=(0, 0, 10**9, 0)), id="6: mtime"),
        pytest.param(broken(ctime_n=(0, 0, 10**9, 0)), id="6: ctime"),
        pytest.param(broken(btime_n=(0, 0, 10**9, 0)), id="6: birth time"),
        pytest.param(broken(atime_n=(0, 0, 10**9, 0)), id="6: atime"),
        pytest.param(replace(PAGE, states=(0, 0, 64, 1)), id="8: a state"),
        pytest.param(replace(PAGE, states=(0, 0, 32, 1)), id="8: chunks without a hash"),
        pytest.param(replace(PAGE, hashes=(bytes(16), b"x" * 16, *PAGE.hashes[2:])), id="8: hash"),
        pytest.param(replace(PAGE, verified=(0, 1, 0, 2)), id="8: verified"),
    ],
)
def test_each_rule_of_rows_is_checked(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that break a rule are not written, and refused where somebody wrote them."""
    with pytest.raises(ValueError, match="cannot read the manifest"):
        page.encode(PLACE)
    with monkeypatch.context() as patch:
        patch.setattr(Page, "decode", lambda *_: None)
        data = page.encode(PLACE)
    assert is_refused(data)


def test_a_page_of_the_destination_never_converges() -> None:
    """7: the mark belongs to pages of sources."""
    page = replace(PAGE, flags=PAGE.flags | PageFlag.CONVERGED, equality=1, partner=2)
    assert Page.decode(page.encode(PLACE), PLACE) == page
    with pytest.raises(ValueError, match="converged"):
        page.encode(Place(0, 7))


def test_a_page_is_valid_only_where_it_was_put() -> None:
    """2, 5: under the key of another tree, directory or name it is refused."""
    assert is_refused(GOOD, Place(2, 7))
    assert is_refused(GOOD, Place(1, 8))
    with pytest.raises(ManifestCorruptError, match="another"):
        Page.decode(GOOD, Place(1, 7, b"f0000"))


def test_a_page_holds_1024_entries() -> None:
    """3: and its directory's own row; without that no more than 1,024 rows."""
    assert not is_refused(simple_page(1024).encode(PLACE))
    with pytest.raises(ValueError, match="1026 rows"):
        simple_page(1025).encode(PLACE)
    whole = simple_page(1024)
    rest = replace(whole, flags=PageFlag.LAST, names=(b"a", *whole.names[1:]))
    with pytest.raises(ValueError, match="1025 rows"):
        replace(rest, seen={**rest.seen, "type": (8,) * 1025}).encode(Place(1, 7, b"a"))


def test_the_checksum_is_of_all_but_itself() -> None:
    """Any other bit moves it."""
    for offset in (*range(40), *range(48, len(GOOD))):
        data = bytearray(GOOD)
        data[offset] ^= 0x10
        assert checksum_of(bytes(data), PLACE) != checksum_of(GOOD, PLACE)
