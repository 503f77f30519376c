"""What waits for the whole tree: who leads, who follows, and in which order it comes back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from arsync.diff import diff
from arsync.errors import FileError, InternalError, OutOfMemoryError
from arsync.model import ChangeFlag, Kind, Op, State, Why
from arsync.options import Preserve, SyncOptions
from arsync.uring import Batch, ExtrasPass, Identity, Later, LaterKind, Rules
from arsync.uring._native import ffi, lib
from tests.pages import (
    CHR,
    DIR,
    FIFO,
    LNK,
    REG,
    WHOLE,
    Page,
    Pair,
    Row,
    batch_of,
    names_of,
    pages_of,
)

Links = list[tuple[bytes, bytes, Why]]

ROOT = Identity(umask=0o022, is_root=True, groups=())
EVERYTHING = Preserve(
    recursive=True,
    links=True,
    perms=True,
    times=True,
    owner=True,
    group=True,
    devices=True,
    specials=True,
    hard_links=True,
)
DIR_ROW = Row(type=DIR, mode=0o755)
WITH_DIR = (Row(b"sub", type=DIR, mode=0o755),)
BTIME = (1_600_000_000, 1)


def name(text: bytes, ino: int = 5, **fields: object) -> Row:
    """Return a name of a file that has another one."""
    return Row(text, ino=ino, nlink=2, btime=BTIME, **fields)  # type: ignore[arg-type]


def compared(*pairs: Pair, preserve: Preserve = EVERYTHING) -> Batch:
    """Return a batch after the comparison."""
    batch = batch_of(*pairs)
    diff(batch, Rules(SyncOptions(preserve=preserve), 1, ROOT))
    return batch


def read_links(later: Later) -> Links:
    """Return (path, first name's path, why) of all that comes back."""
    links: Links = []
    batch = Batch()
    while later.next(batch):
        links += [(one.path, one.link, Why(one.why)) for one in batch.changes()]
        assert all(one.kind == Kind.LINK for one in batch.changes())
    assert batch.pair_count == 0
    return links


def linked(*batches: Batch) -> Links:
    """Return what waits after these batches."""
    with Later(LaterKind.LINKS) as later:
        for batch in batches:
            later.add(batch)
        count = later.count
        links = read_links(later)
        assert len(links) == count
        return links


def test_the_first_name_is_copied_and_the_others_wait() -> None:
    """New names of one inode, in one directory and in another: one change is left to be done."""
    batch = compared(
        Pair(Page((name(b"b"), name(b"a", size=9), Row(b"alone"))), None, lib.AR_PAIR_NEW),
        Pair(Page((name(b"c"),), path=b"sub"), None, lib.AR_PAIR_NEW),
    )
    planned = batch.tally.plan_files
    assert linked(batch) == [(b"b", b"a", Why.NEW), (b"sub/c", b"a", Why.NEW)]
    shown = {one.path: (one.kind, one.flags) for one in batch.changes() if one.kind != Kind.DIR}
    assert shown == {b"a": (Kind.DATA, ChangeFlag.LEADER), b"alone": (Kind.DATA, 0)}
    changes = [(one.kind, one.state) for one in batch.raw.changes[0 : batch.change_count]]
    assert changes.count((Kind.LINK, State.LATER)) == 2
    assert (planned, batch.tally.plan_files, batch.tally.plan_bytes) == (4, 2, 9)
    assert batch.tally.new_files == 4


@pytest.mark.parametrize("kind", [REG, LNK, FIFO, CHR])
def test_every_type_but_a_directory_can_have_names(kind: int) -> None:
    """Links, fifos and devices too; what a link says is carried along."""
    target = b"to" if kind == LNK else b""
    rows = tuple(name(text, type=kind, target=target) for text in (b"a", b"b"))
    with Later(LaterKind.LINKS) as later:
        later.add(compared(Pair(Page(rows), None, lib.AR_PAIR_NEW)))
        batch = Batch()
        assert later.next(batch)
        [(path, [row])] = pages_of(batch, 0)
        assert (path, row) == (b"", rows[1])
        assert batch.raw.pairs[0].flags == lib.AR_PAIR_NAMED
        assert batch.raw.pairs[0].dst_page == lib.AR_NO_PAGE


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("another device", lambda row: (row, 8)),
        ("another inode", lambda row: (name(row.name, ino=6), 7)),
        ("one name only", lambda row: (Row(row.name, ino=5, btime=BTIME), 7)),
        ("another birth", lambda row: (Row(row.name, ino=5, nlink=2, btime=(1, 1)), 7)),
        ("elsewhere", lambda row: (name(row.name, flags=lib.AR_ROW_MOUNT), 7)),
        ("unreadable", lambda row: (name(row.name, flags=lib.AR_ROW_BAD), 7)),
    ],
)
def test_other_files_are_not_linked(why: str, change: Callable[[Row], tuple[Row, int]]) -> None:
    """Only one inode on one device, born once, is one file; where a row cannot say, it is not."""
    row, dev = change(name(b"b"))
    first = Pair(Page((name(b"a"),)), None, lib.AR_PAIR_NEW)
    second = Pair(Page((row,), path=b"d", dev=dev), None, lib.AR_PAIR_NEW)
    assert linked(compared(first, second)) == [], why


def test_names_that_are_linked_already_need_nothing() -> None:
    """Equal files whose destinations share an inode stay as they are."""
    src = Page((name(b"a"), name(b"b"), name(b"c")))
    dst = Page((name(b"a", ino=50), name(b"b", ino=50), name(b"c", ino=51)), dev=9)
    batch = compared(Pair(src, dst))
    assert batch.change_count == 0
    assert linked(batch) == [(b"c", b"a", Why.LINK)]
    assert batch.raw.pairs[0].flags & lib.AR_PAIR_TOUCHED


def test_attributes_of_a_shared_inode_are_set_once() -> None:
    """The first name's change is every name's; the others are neither done nor shown."""
    src = Page((name(b"a", mode=0o600), name(b"b", mode=0o600)))
    dst = Page((name(b"a", ino=50), name(b"b", ino=50)))
    batch = compared(Pair(src, dst))
    assert linked(batch) == []
    assert [(one.path, one.kind) for one in batch.changes()] == [(b"a", Kind.META)]
    assert batch.tally.plan_metas == 1
    assert not batch.raw.pairs[0].flags & lib.AR_PAIR_TOUCHED


def test_attributes_that_only_a_later_name_has_are_still_set() -> None:
    """The first name was read before somebody changed the mode: the change is not lost."""
    src = Page((name(b"a"), name(b"b", mode=0o600)))
    dst = Page((name(b"a", ino=50), name(b"b", ino=50)))
    batch = compared(Pair(src, dst))
    assert linked(batch) == []
    assert [(one.path, one.state) for one in batch.changes()] == [(b"b", State.PLANNED)]
    assert batch.tally.plan_metas == 1


def test_a_first_name_that_is_copied_takes_the_others_along() -> None:
    """New content gets a new inode, so names of the old one are linked again, and say why."""
    src = Page((name(b"a", size=1), name(b"b", size=1), name(b"c", size=1, mode=0o600)))
    dst = Page((name(b"a", ino=50), name(b"b", ino=50), name(b"c", ino=50)))
    content = Why.SIZE | Why.LINK
    assert linked(compared(Pair(src, dst))) == [
        (b"b", b"a", content),
        (b"c", b"a", content | Why.MODE),
    ]


def test_an_equal_file_is_linked_to_a_first_name_that_is_new() -> None:
    """What is equal but not the same file becomes the same; its old row comes along."""
    first = Pair(Page((name(b"a"),), path=b"c"), None, lib.AR_PAIR_NEW)
    src = Page((name(b"b", uid=3),), path=b"d")
    dst = Page((name(b"b", ino=51, size=0, uid=3),), path=b"d", own=Row(type=DIR, mode=0o711))
    with Later(LaterKind.LINKS) as later:
        later.add(compared(first, Pair(src, dst)))
        batch = Batch()
        assert later.next(batch)
        assert pages_of(batch, 0) == [(b"d", [name(b"b", uid=3)])]
        assert pages_of(batch, 1) == [(b"d", [name(b"b", ino=51, uid=3)])]
        assert batch.raw.changes[0].dst_row == 0


def test_a_name_that_stays_is_the_first_of_its_directory() -> None:
    """The others are linked to it, and nothing is copied."""
    src = Page((name(b"a"), name(b"b"), name(b"c")))
    dst = Page((name(b"b", ino=51),))
    assert linked(compared(Pair(src, dst))) == [(b"a", b"b", Why.NEW), (b"c", b"b", Why.NEW)]
    dst = Page((name(b"b", ino=51, mode=0o600), name(b"c", ino=52)))
    assert [first for _, first, _ in linked(compared(Pair(src, dst)))] == [b"b", b"b"]


def test_a_type_that_is_left_out_is_not_linked_either() -> None:
    """Without -l no link is touched, though both sides have its names."""
    rows = tuple(name(text, type=LNK, target=b"x") for text in (b"a", b"b"))
    dst = tuple(name(text, ino=ino, type=LNK, target=b"x") for text, ino in ((b"a", 1), (b"b", 2)))
    without = Preserve(recursive=True, hard_links=True)
    assert linked(compared(Pair(Page(rows), Page(dst)), preserve=without)) == []


def test_paths_are_those_of_the_destination() -> None:
    """Where -k makes the paths of both sides differ, the first name is where it is made."""
    src = Page((name(b"a"), name(b"b")), path=b"link\0/d")
    dst = Page((), path=b"link/d")
    with Later(LaterKind.LINKS) as later:
        later.add(compared(Pair(src, dst, lib.AR_PAIR_NEW)))
        batch = Batch()
        assert later.next(batch)
        change = batch.raw.changes[0]
        aux = bytes(batch.raw.aux[change.aux : change.aux + change.aux_len + 1])
        assert aux == b"link/d/a\0"
        assert pages_of(batch, 0)[0][0] == b"link\0/d"
        assert pages_of(batch, 1)[0][0] == b"link/d"


def test_a_single_file_under_another_name_has_no_other_names() -> None:
    """`arsync a b` copies one file, whatever else it is called."""
    page = Page((name(b"b"),), alias=b"a")
    batch = compared(Pair(page, None, lib.AR_PAIR_NAMED), Pair(page, None, lib.AR_PAIR_NAMED))
    assert linked(batch) == []


def test_many_names_come_back_in_order_and_in_bounds() -> None:
    """A spool of many blocks: each name once, directories together, pages and batches bounded."""
    directories, files = 40, 900
    with Later(LaterKind.LINKS) as later:
        for index in range(directories):
            rows = tuple(name(b"n%04d" % i, ino=i + 1) for i in range(files))
            page = Page(rows, path=b"d%02d" % index + b"x" * 200)
            later.add(compared(Pair(page, None, lib.AR_PAIR_NEW)))
        assert later.count == (directories - 1) * files
        batch, seen = Batch(), []
        while later.next(batch):
            assert batch.change_count <= 2048
            assert batch.pair_count <= 128
            for path, rows_back in pages_of(batch, 0):
                assert 0 < len(rows_back) <= lib.AR_PAGE_ROWS
                seen += [path[:3] + b"/" + one for one in names_of(rows_back)]
            for one in batch.changes():
                assert one.link == b"d00" + b"x" * 200 + one.path[-6:]
    assert seen == [b"d%02d/n%04d" % (d, i) for d in range(1, directories) for i in range(files)]


def test_many_directories_with_one_name_each_are_several_batches() -> None:
    """No batch has more directories than a batch may have."""
    pairs = [
        Pair(Page((name(b"n"),), path=b"d%03d" % i), None, lib.AR_PAIR_NEW) for i in range(600)
    ]
    sizes, batch = [], Batch()
    with Later(LaterKind.LINKS) as later:
        later.add(compared(*pairs))
        while later.next(batch):
            sizes.append(batch.pair_count)
    assert sum(sizes) == 599
    assert max(sizes) <= 128


def test_a_hundred_thousand_inodes_are_told_apart() -> None:
    """The table grows shard by shard and loses nobody."""
    count, step = 100_000, 1000
    with Later(LaterKind.LINKS) as later:
        for turn in (b"first", b"other"):
            for start in range(0, count, step):
                rows = tuple(
                    name(b"%06d" % ino, ino=ino) for ino in range(start + 1, start + step + 1)
                )
                later.add(compared(Pair(Page(rows, path=turn), None, lib.AR_PAIR_NEW)))
        assert later.count == count
        links = read_links(later)
    assert all(path == b"other/" + first[-6:] for path, first, _ in links)
    assert len({first for _, first, _ in links}) == count


def test_a_long_path_and_a_long_target_fit() -> None:
    """Records larger than a block are read back whole."""
    path = b"/".join([b"p" * 255] * 1200)
    rows = tuple(name(text, type=LNK, target=b"t" * 4095) for text in (b"a", b"b" * 255))
    assert linked(compared(Pair(Page(rows, path=path), None, lib.AR_PAIR_NEW))) == [
        (path + b"/" + b"b" * 255, path + b"/a", Why.NEW)
    ]
    assert finished(compared(Pair(Page(WITH_DIR, path=path), None, lib.AR_PAIR_NEW))) == [path]


def finished(*batches: Batch) -> list[bytes]:
    """Return the directories that come back after these batches."""
    paths = []
    with Later(LaterKind.DIRS) as later:
        for batch in batches:
            later.add(batch)
        count, batch = later.count, Batch()
        while later.next(batch):
            assert batch.pair_count <= 128
            for pair in batch.raw.pairs[0 : batch.pair_count]:
                assert pair.flags & ~lib.AR_PAIR_ROOT == lib.AR_PAIR_FINISH
                assert (pair.change_count, pair.self.kind) == (0, Kind.DIR)
            paths += [path for path, rows in pages_of(batch, 0) if not rows]
    assert len(paths) == count
    return paths


def test_directories_come_back_children_first() -> None:
    """In the reverse of the order in which they came, over many blocks."""
    paths = [b"d%05d" % i + b"y" * 100 for i in range(5000)]
    pairs = [Pair(Page(WITH_DIR, path=path), None, lib.AR_PAIR_NEW) for path in paths]
    batches = [compared(*pairs[i : i + 100]) for i in range(0, len(pairs), 100)]
    assert finished(*batches) == paths[::-1]


@pytest.mark.parametrize(
    ("expected", "pair"),
    [
        (False, Pair(Page(), None, lib.AR_PAIR_NEW)),
        (False, Pair(Page((Row(b"file"), Row(b"link", type=LNK))), None, lib.AR_PAIR_NEW)),
        (False, Pair(Page((Row(b"file"),)), None, lib.AR_PAIR_NEW | lib.AR_PAIR_REPLACE)),
        (True, Pair(Page(WITH_DIR), None, lib.AR_PAIR_NEW)),
        (True, Pair(Page((name(b"another has it"),)), None, lib.AR_PAIR_NEW)),
        (True, Pair(Page((Row(b"big", size=lib.AR_BIG_BYTES),)), None, lib.AR_PAIR_NEW)),
        (True, Pair(Page((Row(b"a"),)), None, lib.AR_PAIR_NEW | lib.AR_PAIR_SHALLOW)),
        (True, Pair(Page(flags=lib.AR_PAGE_FIRST), None, lib.AR_PAIR_NEW)),
        (True, Pair(Page((Row(b"new"),)), Page())),
        (True, Pair(Page(own=DIR_ROW), Page(own=Row(type=DIR, mode=0o700)))),
        (True, Pair(Page(), Page(own=Row(type=DIR, mode=0o755, mtime=(1, 0))), lib.AR_PAIR_ROOT)),
        (False, Pair(Page(), Page())),
        (False, Pair(Page((Row(b"a", mode=0o600),)), Page((Row(b"a"),)))),
        (False, Pair(Page((Row(b"a"),)), None, lib.AR_PAIR_NAMED)),
        (True, Pair(Page(flags=lib.AR_PAGE_FIRST), Page(flags=lib.AR_PAGE_FIRST))),
        (False, Pair(Page((Row(b"a"),), flags=0), Page(flags=0))),
        (False, Pair(Page((Row(b"a"),), flags=lib.AR_PAGE_LAST), Page(flags=WHOLE))),
    ],
)
def test_a_directory_is_finished_when_work_moves_its_times(expected: bool, pair: Pair) -> None:
    """Once, by its first page; a long one always, as its later pages are not known yet.

    A new one whose last entry is made while it is open gets its times then.
    """
    assert bool(finished(compared(pair))) is expected


def test_a_finish_carries_both_own_rows_and_the_reason() -> None:
    """What the directory shall be and why it comes; that it was new is in the reason only."""
    own = Row(type=DIR, mode=0o2750, uid=3, mtime=(5, 6))
    with Later(LaterKind.DIRS) as later:
        later.add(compared(Pair(Page(WITH_DIR, own=own, path=b"d"), None, lib.AR_PAIR_NEW)))
        batch = Batch()
        assert later.next(batch)
        page = batch.raw.src
        assert batch.raw.pairs[0].self.why == Why.NEW
        assert batch.raw.pairs[0].dst_page == lib.AR_NO_PAGE
        row = own.pack(0, 0)
        assert bytes(page[40 : 40 + len(row)]) == row


def test_a_linked_name_finishes_its_directory() -> None:
    """A link made late moves the directory's time, although nothing else in it changes."""
    src = Page((name(b"a"), name(b"b")))
    dst = Page((name(b"a", ino=50), name(b"b", ino=51)))
    batch = compared(Pair(src, dst))
    assert finished(batch) == []
    assert len(linked(batch)) == 1
    assert finished(batch) == [b""]


def test_nothing_waits_in_an_empty_spool() -> None:
    """The end comes at once, and again."""
    for kind in LaterKind:
        with Later(kind) as later:
            batch = Batch()
            assert [later.next(batch), later.next(batch), later.count] == [False, False, 0]


def test_a_full_disk_says_where_and_what_to_do() -> None:
    """ENOSPC of the spool ends the run with a sentence that names TMPDIR."""
    with Later(LaterKind.LINKS) as later:
        later.add(compared(Pair(Page((name(b"a"), name(b"b"))), None, lib.AR_PAIR_NEW)))
        lib.ar_fault_set(Op.SPOOL, 0, 1, lib.AR_FAULT_ERROR, errno.ENOSPC)
        try:
            with pytest.raises(FileError, match=r"No space left.*TMPDIR"):
                later.next(Batch())
        finally:
            lib.ar_fault_clear()


def test_short_and_interrupted_writes_and_reads_are_continued() -> None:
    """The spool comes back whole when the kernel passes on seven bytes at a time."""
    batch = compared(Pair(Page((name(b"a"), name(b"b"))), None, lib.AR_PAIR_NEW))
    lib.ar_fault_set(Op.SPOOL, 0, 10**6, lib.AR_FAULT_SHORT, 7)
    try:
        assert linked(batch) == [(b"b", b"a", Why.NEW)]
    finally:
        lib.ar_fault_clear()
    batch = compared(Pair(Page((name(b"a"), name(b"b"))), None, lib.AR_PAIR_NEW))
    lib.ar_fault_set(Op.SPOOL, 0, 2, lib.AR_FAULT_ERROR, errno.EINTR)
    try:
        assert linked(batch) == [(b"b", b"a", Why.NEW)]
    finally:
        lib.ar_fault_clear()


@pytest.mark.parametrize("kind", list(LaterKind))
def test_no_memory_is_survived_at_every_step(kind: LaterKind) -> None:
    """Each allocation in turn fails: an exception, no crash, and the next run is whole."""
    failures = 0
    for step in range(200):
        rows = tuple(name(b"%02d" % i, ino=i // 2 + 1) for i in range(40))
        pair = Pair(Page(rows), None, lib.AR_PAIR_NEW)
        if kind is LaterKind.EXTRAS:
            pair = Pair(Page(()), Page(rows), lib.AR_PAIR_EXTRA | lib.AR_PAIR_KEPT)
        if kind is LaterKind.SOURCES:
            pair = Pair(Page(rows), Page(rows))
        batch = compared(pair)
        lib.ar_fault_set(Op.MEMORY, step, 1, lib.AR_FAULT_ERROR, errno.ENOMEM)
        try:
            with Later(kind) as later:
                later.add(batch)
                if kind is LaterKind.LINKS:
                    assert len(read_links(later)) == 20
                elif kind is LaterKind.EXTRAS:
                    assert later.settle().raw.extra_files == 40
                    later.start(ExtrasPass.FILES)
                    assert later.next(Batch())
                else:
                    assert later.next(Batch())
            break
        except OutOfMemoryError:
            failures += 1
        finally:
            lib.ar_fault_clear()
    assert 3 < failures < 200


def test_a_damaged_spool_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """A file that somebody cut or overwrote ends the run."""
    path = os.fsencode(tmp_path / "spool")
    for damage in (b"", b"\xff" * 64, b"\0" * 64):
        spool_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            assert damaged(spool_fd, damage) == -errno.EIO
        finally:
            os.close(spool_fd)


def damaged(spool_fd: int, damage: bytes) -> int:
    """Write a spool longer than a block, damage its end, and return how reading it back ends."""
    out = ffi.new("ar_later **")
    assert lib.ar_later_open(spool_fd, LaterKind.DIRS, out) == 0
    later = ffi.gc(out[0], lib.ar_later_close)
    batch = Batch()
    for _ in range(40):
        pairs = [Pair(Page(WITH_DIR, path=b"p" * 200), None, lib.AR_PAIR_NEW)] * 100
        assert lib.ar_later_add(later, compared(*pairs).raw) == 0
    assert lib.ar_later_next(later, batch.raw) == 1
    size = os.fstat(spool_fd).st_size
    if damage:
        for offset in range(0, size - size % 64, 64):
            os.pwrite(spool_fd, damage, offset)
    else:
        os.ftruncate(spool_fd, 0)
    while (result := int(lib.ar_later_next(later, batch.raw))) > 0:
        assert batch.pair_count
    return result


def test_nothing_is_added_once_reading_began() -> None:
    """The order of phases is a law; who breaks it hears so."""
    with Later(LaterKind.DIRS) as later:
        later.next(Batch())
        with pytest.raises(InternalError):
            later.add(Batch())


def test_names_of_a_further_source_follow_those_before() -> None:
    """A spool that was read to the end knows the first names still, and gives only what is new."""

    def batch(names: bytes, path: bytes) -> Batch:
        rows = tuple(name(bytes([one])) for one in names)
        return compared(Pair(Page(rows, path=path), None, lib.AR_PAIR_NEW))

    with Later(LaterKind.LINKS) as later:
        later.add(batch(b"ab", b"one"))
        assert read_links(later) == [(b"one/b", b"one/a", Why.NEW)]
        assert later.count == 0
        later.add(batch(b"cd", b"two"))
        assert later.count == 2
        assert read_links(later) == [
            (b"two/c", b"one/a", Why.NEW),
            (b"two/d", b"one/a", Why.NEW),
        ]
        assert read_links(later) == []


def test_a_directory_for_the_spool_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The sentence names the directory."""
    with pytest.raises(FileError, match="gone"):
        Later(LaterKind.LINKS, str(tmp_path / "gone"))


def test_closing_twice_is_fine() -> None:
    """The file is given back once."""
    later = Later(LaterKind.LINKS)
    later.close()
    later.close()
