"""--usermap and --groupmap: the compiled ranges, with the installed rsync as the oracle."""

import itertools
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.errors import UsageError
from arsync.owners import LARGEST_ID, IdMap, IdRange, NameTable, groups, parse_map, users
from tests.requirements import need_root, need_rsync

NAMES = NameTable(
    "user",
    {0: "root", 1: "daemon", 5: "amy", 6: "bob"},
    {"root": 0, "daemon": 1, "amy": 5, "bob": 6},
)

ORACLE_MAPS = """
    *:nobody  0:nobody  root:nobody  :nobody  -5:nobody  x:nobody  0:12345  r*:8  [a-z]oot:9
    r?ot:9,0:10  ro*t:nobody,root:5  [^x]oot:11  [!r]oot:3  ROOT:13  **:4  ?*:4  r\\oot:2  54321:7
    54320-54322:8  0-1:5,*:6  daemon:8  d*:9  nosuch:9  0-0:3  007:4  1:root  *:0
""".split()  # noqa: SIM905 (one a line hides the pattern)


@pytest.mark.parametrize("numeric", [False, True], ids=["names", "numeric-ids"])
@pytest.mark.parametrize("text", ORACLE_MAPS)
def test_map_gives_the_owner_that_rsync_gives(text: str, numeric: bool, tmp_path: Path) -> None:
    """Root, a named user and an id without a name become what rsync makes of them."""
    need_root()
    need_rsync()
    src = tmp_path / "src"
    src.mkdir()
    owners = (0, 1, 54321)
    for owner in owners:
        (src / str(owner)).touch()
        os.chown(src / str(owner), owner, 0)
    flags = ["-a", f"--usermap={text}", *(["--numeric-ids"] if numeric else [])]
    subprocess.run(["rsync", *flags, f"{src}/", f"{tmp_path}/dst/"], check=True)
    theirs = [os.stat(tmp_path / "dst" / str(owner)).st_uid for owner in owners]
    ours = parse_map(text, "--usermap", users(), numeric_ids=numeric)
    assert [ours[owner] for owner in owners] == theirs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "'x' has no colon"),
        ("", "'' has no colon"),
        ("0:5,", "'' has no colon"),
        (",0:5", "'' has no colon"),
        ("x:", "names nothing after the colon"),
        ("5-:amy", "'' is not an id or a name"),
        ("0x1:5", "'0x1' is not an id or a name"),
        ("0 :5", "'0 ' is not an id or a name"),
        ("1-2-3:5", "'2-3' is not an id or a name"),
        ("0:4294967295", "out of range"),
        ("0:99999999999", "out of range"),
        ("9-3:amy", "ends before it starts"),
        ("0:nosuch", "there is no user 'nosuch'"),
        ("0:5:6", "there is no user '5:6'"),
        ("0:7-9", "there is no user '7-9'"),
        ("0:-1", "there is no user '-1'"),
        ("[z-a]:5", "cannot read the pattern"),
    ],
)
def test_what_is_no_map_is_refused(text: str, message: str) -> None:
    """A map that rsync refuses, or reports and ignores, is a usage error here."""
    with pytest.raises(UsageError, match="--usermap: ") as caught:
        parse_map(text, "--usermap", NAMES)
    assert message in str(caught.value)


def test_groups_are_looked_up_among_groups() -> None:
    """A group map finds a group's name and says "group" when it does not."""
    number, name = next(iter(groups().names.items()))
    assert parse_map(f"{name}:12345", "--groupmap", groups())[number] == 12345
    with pytest.raises(UsageError, match="there is no group 'no such'"):
        parse_map("0:no such", "--groupmap", groups())


def test_a_star_is_one_range() -> None:
    """A star costs C one comparison, not one for each user of the machine."""
    assert parse_map("*:5", "--chown", NAMES) == IdMap((IdRange(0, LARGEST_ID, 5),))


def test_an_empty_name_is_every_gap_between_names() -> None:
    """Ids without a name are the gaps between those with one."""
    assert parse_map(":9", "--usermap", NAMES).ranges == (
        IdRange(2, 4, 9),
        IdRange(7, LARGEST_ID, 9),
    )


PAIRS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(0, 99)), min_size=1, max_size=6
)


@given(PAIRS, st.integers(0, 70))
def test_the_first_match_wins(pairs: list[tuple[int, int, int]], number: int) -> None:
    """However ranges overlap, an id becomes what the first one that holds it says."""
    text = ",".join(f"{low}-{low + width}:{to}" for low, width, to in pairs)
    compiled = parse_map(text, "--usermap", NAMES)
    expected = next((to for low, width, to in pairs if low <= number <= low + width), number)
    assert compiled[number] == expected


@given(PAIRS)
def test_ranges_are_sorted_and_apart(pairs: list[tuple[int, int, int]]) -> None:
    """The ranges rise and do not overlap, so that C may search either way."""
    text = ",".join(f"{low}-{low + width}:{to}" for low, width, to in pairs)
    ranges = parse_map(text, "--usermap", NAMES).ranges
    assert all(one.high < two.low for one, two in itertools.pairwise(ranges))
