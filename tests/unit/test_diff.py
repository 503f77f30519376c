"""What the comparison says of directories themselves, of roots, and how a batch is read."""

from __future__ import annotations

import pytest

from arsync.diff import diff
from arsync.errors import OutOfMemoryError
from arsync.model import Keep, Kind, Op, ProblemKind, Side, State, Why
from arsync.modes import parse_modes
from arsync.options import ARCHIVE, OwnerPolicy, Preserve, SyncOptions
from arsync.owners import IdMap, IdRange
from arsync.uring import Batch, Identity, Rules
from arsync.uring._native import ffi, lib
from tests.pages import BLK, CHR, DIR, FIFO, LNK, WHOLE, Page, Pair, Row, batch_of

ROOT = Identity(umask=0o022, is_root=True, groups=())
NEW = lib.AR_PAIR_NEW


def archive(granule_ns: int = 1) -> Rules:
    """Return the rules of -a for root."""
    return Rules(SyncOptions(), granule_ns, ROOT)


def compared(*pairs: Pair, rules: Rules | None = None) -> Batch:
    """Return a batch of these pairs after the comparison."""
    batch = batch_of(*pairs)
    diff(batch, rules or archive())
    return batch


@pytest.mark.parametrize(
    ("flags", "dst", "kind", "why"),
    [
        (NEW, None, Kind.DIR, Why.NEW),
        (NEW | lib.AR_PAIR_REPLACE, None, Kind.DIR, Why.TYPE),
        (NEW, Page(own=Row(type=DIR)), Kind.DIR, Why.NEW),
        (NEW | lib.AR_PAIR_NAMED, None, 0, Why(0)),
        (0, Page(own=Row(type=DIR, mode=0o700)), Kind.DIR, Why.MODE),
        (lib.AR_PAIR_NAMED, Page(own=Row(type=DIR, mode=0o700)), 0, Why(0)),
        (lib.AR_PAIR_ROOT, Page(own=Row(type=DIR, mtime=(9, 0))), Kind.DIR, Why.MODE | Why.MTIME),
        (lib.AR_PAIR_ROOT, None, 0, Why(0)),
        (NEW | lib.AR_PAIR_ROOT, None, Kind.DIR, Why.NEW),
        (NEW | lib.AR_PAIR_ROOT, Page(own=Row(type=DIR)), Kind.DIR, Why.NEW),
        (0, Page(own=Row(type=DIR, flags=lib.AR_ROW_BAD)), 0, Why(0)),
    ],
)
def test_a_pair_says_what_its_own_directory_needs(
    flags: int, dst: Page | None, kind: int, why: Why
) -> None:
    """New, instead of something else, different, or not ours: by flags and own rows."""
    own = compared(Pair(Page(), dst, flags)).raw.pairs[0].self
    assert (own.kind, Why(own.why)) == (kind, why)


def test_only_the_first_page_speaks_for_its_directory() -> None:
    """A directory of several pages is made once, whatever its later pages hold."""
    pages = [
        Page((Row(b"a"),), flags=lib.AR_PAGE_FIRST),
        Page((Row(b"b"),), flags=0),
        Page((Row(b"c"),), flags=lib.AR_PAGE_LAST),
    ]
    batch = compared(*(Pair(page, None, NEW) for page in pages))
    assert [pair.self.kind for pair in batch.raw.pairs[0:3]] == [Kind.DIR, 0, 0]
    assert batch.tally.new_dirs == 1
    assert batch.tally.new_files == 3
    assert [pair.change_first for pair in batch.raw.pairs[0:3]] == [0, 1, 2]


def test_work_in_a_directory_marks_it_and_attributes_do_not() -> None:
    """Only what makes or renames an entry moves the directory's mtime."""
    meta = compared(Pair(Page((Row(b"a", mode=0o600),)), Page((Row(b"a"),))))
    data = compared(Pair(Page((Row(b"a", size=1),)), Page((Row(b"a"),))))
    child = compared(Pair(Page((Row(b"a", type=DIR),)), Page()))
    touched = [one.raw.pairs[0].flags & lib.AR_PAIR_TOUCHED for one in (meta, data, child)]
    assert touched == [0, lib.AR_PAIR_TOUCHED, lib.AR_PAIR_TOUCHED]


def test_the_tally_counts_what_is_planned() -> None:
    """Content, attributes and new names are counted apart."""
    src = (
        Row(b"data", size=5, mtime=(1, 0)),
        Row(b"disk", type=BLK),
        Row(b"fifo", type=FIFO),
        Row(b"link", type=LNK, target=b"x"),
        Row(b"meta", uid=3),
        Row(b"new", size=7),
        Row(b"tty", type=CHR),
    )
    dst = (Row(b"data", size=5), Row(b"link", type=LNK, target=b"y"), Row(b"meta"))
    tally = compared(Pair(Page(src), Page(dst))).tally
    assert (tally.plan_files, tally.plan_bytes, tally.plan_metas) == (2, 12, 1)
    assert (tally.new_files, tally.new_symlinks) == (1, 0)
    assert (tally.new_devices, tally.new_specials) == (2, 1)


def test_changes_are_read_with_their_directory_first() -> None:
    """Paths, facts of the source's rows and link targets come out as they are."""
    src = Page(
        (Row(b"f", size=3, uid=4, gid=5, mtime=(6, 7)), Row(b"l", type=LNK, target=b"to")),
        path=b"d/e\0",
    )
    top, file, link = compared(Pair(src, None, NEW)).changes()
    assert (top.path, top.kind, top.why, top.mode) == (b"d/e", Kind.DIR, Why.NEW, 0o40755)
    assert (file.path, file.kind, file.why) == (b"d/e/f", Kind.DATA, Why.NEW | Why.CONTENT)
    assert (file.size, file.uid, file.gid, file.mtime_s, file.mtime_n) == (3, 4, 5, 6, 7)
    assert (file.mode, file.state, file.hash) == (0o100644, State.PLANNED, b"")
    assert (link.path, link.kind, link.link) == (b"d/e/l", Kind.SYMLINK, b"to")


def test_a_renamed_single_file_is_called_by_its_name_in_the_source() -> None:
    """`arsync a b` reports a, and makes b."""
    batch = compared(Pair(Page((Row(b"b"),), alias=b"a"), None, lib.AR_PAIR_NAMED))
    assert [change.path for change in batch.changes()] == [b"a"]


def test_unchanged_entries_are_read_on_demand() -> None:
    """Each entry once, changed or equal; not what is bad or left out, nor a child directory."""
    src = (
        Row(b"bad", flags=lib.AR_ROW_BAD),
        Row(b"dir", type=DIR),
        Row(b"equal"),
        Row(b"fifo", type=FIFO),
        Row(b"new"),
    )
    dst = (Row(b"equal"), Row(b"dir", type=DIR), Row(b"fifo", type=FIFO))
    options = SyncOptions(preserve=Preserve(recursive=True))
    batch = compared(Pair(Page(src), Page(dst)), rules=Rules(options, 1, ROOT))
    found = [(one.path, one.kind, one.why, one.state) for one in batch.changes(unchanged=True)]
    assert found == [
        (b"", Kind.DIR, 0, State.DONE),
        (b"equal", Kind.META, 0, State.DONE),
        (b"new", Kind.DATA, Why.NEW | Why.CONTENT, State.PLANNED),
    ]


def test_problems_are_read_with_the_path_of_their_side() -> None:
    """What is left out is a problem of its row in the source."""
    src = Page((Row(b"p", type=FIFO),), path=b"d")
    options = SyncOptions(preserve=Preserve(recursive=True))
    batch = compared(Pair(src, Page(path=b"d")), rules=Rules(options, 1, ROOT))
    assert list(batch.problems()) == [(b"d/p", ProblemKind.SKIPPED, Op.NONE, Side.SRC, 0)]
    raw = batch.raw.problems[0]
    raw.row, raw.side, raw.op, raw.err = lib.AR_NONE, Side.DST, Op.OPEN_DIR, 13
    assert list(batch.problems()) == [(b"d", ProblemKind.SKIPPED, Op.OPEN_DIR, Side.DST, 13)]


@pytest.mark.parametrize(
    ("granule_ns", "first", "second", "same"),
    [
        (1, (5, 1), (5, 2), False),
        (100, (5, 100), (5, 199), True),
        (100, (5, 99), (5, 100), False),
        (10**9, (5, 0), (5, 999_999_999), True),
        (10**9, (-1, 999_999_999), (0, 0), False),
        (10**9, (-1, 0), (-1, 999_999_999), True),
        (10**9, (-2, 999_999_999), (-1, 0), False),
        (2 * 10**9, (-2, 0), (-1, 999_999_999), True),
        (2 * 10**9, (-3, 999_999_999), (-2, 0), False),
        (2 * 10**9, (2, 0), (3, 5), True),
        (100, (-(2**63), 0), (-(2**63), 99), True),
        (100, (2**63 - 1, 0), (2**63 - 1, 100), False),
    ],
)
def test_times_are_equal_within_a_granule(
    granule_ns: int, first: tuple[int, int], second: tuple[int, int], same: bool
) -> None:
    """Both are rounded down, before 1970 too, and no number of seconds is too large."""
    src, dst = Page((Row(b"f", mtime=first),)), Page((Row(b"f", mtime=second),))
    batch = compared(Pair(src, dst), rules=archive(granule_ns))
    why = [one.why for one in batch.changes()]
    assert why == ([] if same else [Why.MTIME | Why.CONTENT])


def test_a_links_own_atime_is_no_difference() -> None:
    """Whoever reads a link moves its atime; a file's counts, in whole seconds."""
    rules = Rules(SyncOptions(preserve=Preserve(links=True, atimes=True)), 1, ROOT)
    src = (
        Row(b"f", atime=(5, 0)),
        Row(b"g", atime=(5, 0)),
        Row(b"l", type=LNK, target=b"x", atime=(5, 0)),
    )
    dst = (Row(b"f", atime=(5, 9)), Row(b"g"), Row(b"l", type=LNK, target=b"x"))
    batch = compared(Pair(Page(src), Page(dst)), rules=rules)
    assert [(one.path, one.why) for one in batch.changes()] == [(b"g", Why.ATIME)]


def test_owners_are_mapped_before_they_are_compared() -> None:
    """The first range that holds an id says what it becomes; others stay."""
    users = IdMap((IdRange(5, 9, 1000), IdRange(10, 2**32 - 2, 7)))
    options = SyncOptions(owners=OwnerPolicy(users=users, groups=IdMap((IdRange(0, 0, 3),))))
    src = tuple(Row(b"%d" % uid, uid=uid) for uid in (4, 5, 9, 11))
    dst = tuple(Row(b"%d" % uid, uid=to, gid=3) for uid, to in ((4, 4), (5, 1000), (9, 9), (11, 7)))
    pair = Pair(Page(src), Page(dst), lib.AR_PAIR_NAMED)
    batch = compared(pair, rules=Rules(options, 1, ROOT))
    assert [(one.path, one.why) for one in batch.changes()] == [(b"9", Why.UID)]


def test_a_group_that_this_user_may_not_set_is_no_difference() -> None:
    """Without root only the groups one is in are compared, and no owner."""
    rules = Rules(SyncOptions(), 1, Identity(umask=0, is_root=False, groups=(5, 6)))
    src = (Row(b"mine", gid=6), Row(b"other", gid=7, uid=9))
    batch = compared(Pair(Page(src), Page((Row(b"mine"), Row(b"other")))), rules=rules)
    assert [(one.path, one.why) for one in batch.changes()] == [(b"mine", Why.GID)]


def test_modes_are_changed_before_they_are_compared() -> None:
    """--chmod decides what a mode shall be."""
    options = SyncOptions(chmod=parse_modes("Dg+s,F600", 0o022))
    src = Page((Row(b"equal", mode=0o644), Row(b"other", mode=0o600)))
    dst = Page(
        (Row(b"equal", mode=0o600), Row(b"other", mode=0o644)), own=Row(type=DIR, mode=0o2755)
    )
    batch = compared(Pair(src, dst), rules=Rules(options, 1, ROOT))
    assert [(one.path, one.why) for one in batch.changes()] == [(b"other", Why.MODE)]


def test_no_memory_ends_the_run() -> None:
    """A batch whose changes find no memory raises, and can be freed."""
    batch = batch_of(Pair(Page((Row(b"a"),)), None, NEW))
    lib.ar_fault_set(Op.MEMORY, 0, 1, lib.AR_FAULT_ERROR, 12)
    try:
        with pytest.raises(OutOfMemoryError):
            diff(batch, archive())
    finally:
        lib.ar_fault_clear()


def test_rules_say_what_the_options_say() -> None:
    """Each option is its bit."""
    others = ("recursive", "acls", "hard_links")
    names = [name for name in Preserve.__dataclass_fields__ if name not in others]
    for name in names:
        rules = Rules(SyncOptions(preserve=Preserve(**{name: True})), 1, ROOT)
        assert rules.raw.keep == Keep[name.upper()] | lib.AR_AS_ROOT
    assert Rules(SyncOptions(preserve=ARCHIVE), 7, ROOT).raw.granule_ns == 7


def test_this_process_knows_what_it_may_do() -> None:
    """The umask is read without being changed."""
    identity = Identity.current()
    assert 0 <= identity.umask <= 0o777
    assert identity == Identity.current()


def test_a_batch_of_many_pages_gives_each_change_once() -> None:
    """All directories and all that is in them."""
    rows = tuple(Row(b"file-%06d" % i, size=i) for i in range(1000))
    batch = compared(*(Pair(Page(rows, path=b"some/dir-%d" % i), None, NEW) for i in range(100)))
    assert len({change.path for change in batch.changes()}) == 100_100


def test_rows_are_as_wide_as_the_tests_think() -> None:
    """The page builder writes what C reads."""
    page = Page((Row(b"x"),), flags=WHOLE)
    assert len(page.pack()) % 8 == 0
    assert ffi.cast("struct ar_page *", ffi.from_buffer(page.pack())).bytes == len(page.pack())
