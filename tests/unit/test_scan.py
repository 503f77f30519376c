"""The scanner: what its pages hold, on both sides, and how far a call goes."""

from __future__ import annotations

import ast
import errno
import os
import random
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.uring._native import lib
from tests.kit.attributes import acl
from tests.kit.children import become_nobody, forbid_call, in_child
from tests.kit.filesystems import Filesystems
from tests.kit.scanning import (
    FIRST,
    LAST,
    PAGE_ROWS,
    Batch,
    Page,
    Row,
    Scanner,
    open_root,
    paths_of,
    problems_of,
)
from tests.kit.tree import Device, Dir, Fifo, File, HardLink, Socket, Symlink, Tree, make
from tests.requirements import need_root, need_unprivileged, need_xattrs

SYS_OPENAT2 = 437
SYS_LISTXATTRAT = 465
RECURSE = lib.AR_SCAN_RECURSE
NEW, REPLACE = lib.AR_PAIR_NEW, lib.AR_PAIR_REPLACE
ROOT, NAMED, SHALLOW = lib.AR_PAIR_ROOT, lib.AR_PAIR_NAMED, lib.AR_PAIR_SHALLOW

names = st.binary(min_size=1, max_size=20).filter(
    lambda name: not set(name) & {0, ord("/")} and name not in (b".", b"..")
)


def touch(directory: Path, *entries: bytes | str) -> None:
    """Make empty files."""
    directory.mkdir(exist_ok=True)
    fd = os.open(directory, os.O_RDONLY)
    for entry in entries:
        os.close(os.open(entry, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
    os.close(fd)


def assert_row(row: Row, path: bytes) -> None:
    """Hold a row against what os.lstat says."""
    info = os.lstat(path)
    assert row.type == stat.S_IFMT(info.st_mode) >> 12
    if row.name and stat.S_ISDIR(info.st_mode):
        assert (row.mode, row.ino) == (stat.S_IFDIR, info.st_ino)
        assert not any((row.uid, row.nlink, row.size, row.mtime_s, row.ctime_s))
        return
    assert (row.mode, row.uid, row.gid) == (info.st_mode, info.st_uid, info.st_gid)
    assert (row.nlink, row.size, row.ino) == (info.st_nlink, info.st_size, info.st_ino)
    assert row.mtime_s * 10**9 + row.mtime_n == info.st_mtime_ns
    assert row.ctime_s * 10**9 + row.ctime_n == info.st_ctime_ns
    special = stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)
    device = (os.major(info.st_rdev), os.minor(info.st_rdev)) if special else (0, 0)
    assert (row.rdev_major, row.rdev_minor) == device
    assert row.link == (os.readlink(path) if stat.S_ISLNK(info.st_mode) else b"")


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Lend two empty directories."""
    pair = (tmp_path / "src", tmp_path / "dst")
    for root in pair:
        root.mkdir()
    return pair


# ------------------------------------------------------------------- pages


@pytest.mark.parametrize("count", [0, 1, 2, 25, 1024, 1025, 2048, 5000])
def test_pages_hold_each_name_once_and_in_byte_order(tmp_path: Path, count: int) -> None:
    """A directory is as many pages as it needs, the first and the last of them marked."""
    entries = [b"f%x" % number for number in range(count)]
    random.Random(count).shuffle(entries)
    touch(tmp_path / "src", *entries)
    with Scanner(tmp_path / "src") as scanner:
        pages = [batch.pair.src for batch in scanner.root()]
    assert len(pages) == max(1, -(-count // PAGE_ROWS))
    assert [name for page in pages for name in page.names] == sorted(entries)
    assert [page.flags & FIRST for page in pages] == [FIRST] + [0] * (len(pages) - 1)
    assert [page.flags & LAST for page in pages] == [0] * (len(pages) - 1) + [LAST]
    assert all(len(page.rows) == PAGE_ROWS for page in pages[:-1])


@given(st.lists(names, unique=True, max_size=60), st.binary(max_size=12))
def test_names_of_any_bytes_sort_as_bytes(
    tmp_path_factory: pytest.TempPathFactory, entries: list[bytes], prefix: bytes
) -> None:
    """Whatever a name holds, the order is that of Python's bytes."""
    prefix = bytes(set(prefix) - {0, ord("/")})
    src = tmp_path_factory.mktemp("src")
    entries = [prefix + entry for entry in entries]
    touch(src, *entries)
    with Scanner(src) as scanner:
        (batch,) = scanner.root()
    assert batch.pair.src.names == sorted(entries)


def test_rows_of_all_types_are_what_lstat_says(tmp_path: Path) -> None:
    """Each type of entry has the facts that lstat and readlink report."""
    need_root()
    tree = {
        "file": File(content=b"x" * 5000, mode=0o4751, uid=7, gid=8, mtime_ns=-1),
        "hard": HardLink(target="file"),
        "old": File(mtime_ns=123456789_987654321),
        "dir": Dir(mode=0o1777, entries={"in": File()}),
        "link": Symlink(target="nowhere/at all"),
        "fifo": Fifo(),
        "socket": Socket(),
        "tty": Device(kind="c", major=5, minor=300),
        "disk": Device(kind="b", major=300, minor=70000),
        "n" * 255: File(),
    }
    make(Tree(tree), tmp_path / "src")
    with Scanner(tmp_path / "src") as scanner:
        (batch,) = scanner.root()
    page = batch.pair.src
    assert page.names == sorted(name.encode() for name in tree)
    for row in page.rows:
        assert_row(row, os.fsencode(tmp_path / "src") + b"/" + row.name)
        assert row.btime_s > 0
        assert (row.atime_s, row.atime_n, row.flags) == (0, 0, 0)
    assert_row(page.own, os.fsencode(tmp_path / "src"))
    device = os.stat(tmp_path).st_dev
    assert page.dev == os.major(device) << 32 | os.minor(device)
    tally = batch.raw.tally
    assert (tally.found_files, tally.found_dirs, tally.found_symlinks) == (4, 1, 1)
    assert (tally.found_devices, tally.found_specials, tally.found_bytes) == (2, 2, 10000)


def test_access_times_are_read_when_asked_for(tmp_path: Path) -> None:
    """AR_SCAN_ATIME fills atime, and a scan does not move a directory's own."""
    make(Tree({"file": File(atime_ns=5_000_000_007)}, root=Dir(atime_ns=11)), tmp_path / "src")
    with Scanner(tmp_path / "src", flags=RECURSE | lib.AR_SCAN_ATIME) as scanner:
        (batch,) = scanner.root()
    row = batch.pair.src.row(b"file")
    assert (row.atime_s, row.atime_n) == (5, 7)
    assert (batch.pair.src.own.atime_s, batch.pair.src.own.atime_n) == (0, 11)
    assert os.stat(tmp_path / "src").st_atime_ns == 11


def test_long_link_targets_are_whole(tmp_path: Path) -> None:
    """Targets up to 4095 bytes are read, and so is one whose link says it has none (procfs)."""
    targets = [b"t" * length for length in (1, 255, 1000, 4094, 4095)]
    os.mkdir(tmp_path / "src")
    for target in targets:
        os.symlink(target, os.fsencode(tmp_path / "src") + b"/%04d" % len(target))
    with Scanner(tmp_path / "src") as scanner:
        (batch,) = scanner.root()
    assert [row.link for row in batch.pair.src.rows] == targets
    with Scanner(Path("/proc/self")) as scanner:
        row = scanner.names(b"", [b"exe"]).pair.src.row(b"exe")
    assert (row.size, row.link) == (0, os.fsencode(os.readlink("/proc/self/exe")))


def test_a_page_is_the_same_bytes_whatever_was_in_memory(tmp_path: Path) -> None:
    """Padding is zero: pages are compared as bytes."""
    noise, src = tmp_path / "noise", tmp_path / "src"
    touch(noise, *[b"\xff" * 200 + b"%d" % number for number in range(900)])
    make(Tree({"a": File(), "bcd": Symlink(target="abc"), "d": {"x": File()}}), src)
    fresh, used = Batch(), Batch()
    with Scanner(noise) as scanner:
        assert scanner.try_names(b"", b"\0".join(os.listdir(os.fsencode(noise))), used) == 0
    used.clear()
    with Scanner(src) as scanner:
        assert scanner.try_names(b"", b"a\0bcd\0d", fresh) == 0
        assert scanner.try_names(b"", b"a\0bcd\0d", used) == 0
    assert fresh.pair.src.data == used.pair.src.data


def test_a_tree_deeper_than_path_max_is_walked(tmp_path: Path) -> None:
    """Paths of 30,000 bytes are no obstacle, on both sides."""
    deep = [b"%03d" % depth + b"d" * 200 for depth in range(150)]
    for root in (tmp_path / "src", tmp_path / "dst"):
        make(Tree.flat({b"/".join(deep[: i + 1]): Dir() for i in range(len(deep))}), root)
    with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
        batches = scanner.walk()
    assert not problems_of(batches)
    assert paths_of(batches) == [b"/".join(deep[: i + 1]) for i in range(len(deep))]
    assert all(pair.dst and not pair.flags & NEW for batch in batches for pair in batch.pairs)


# -------------------------------------------------------------- two sides


def test_the_destination_page_has_the_names_that_the_source_has(roots: tuple[Path, Path]) -> None:
    """Names are merged; what only the destination has is left out."""
    src, dst = roots
    touch(src, "a", "b", "bb", "c", "z")
    touch(dst, "0", "b", "bbb", "c", "d", "zz")
    with Scanner(src, dst) as scanner:
        (batch,) = scanner.root()
    assert batch.pair.flags == ROOT
    assert batch.pair.dst
    assert batch.pair.dst.names == [b"b", b"c"]
    for row in batch.pair.dst.rows:
        assert_row(row, os.fsencode(dst) + b"/" + row.name)
    assert_row(batch.pair.dst.own, os.fsencode(dst))


def test_pages_of_both_sides_cover_the_same_names(roots: tuple[Path, Path]) -> None:
    """However unlike two big directories are, no name of one page is in another page's range."""
    src, dst = roots
    here = {b"%05d" % number for number in range(0, 9000, 2)}
    there = {b"%05d" % number for number in range(0, 9000, 3)} | {b"~%d" % n for n in range(2000)}
    touch(src, *here)
    touch(dst, *there)
    with Scanner(src, dst) as scanner:
        pairs = [batch.pair for batch in scanner.root()]
    assert len(pairs) == 5
    for pair in pairs:
        assert pair.dst
        assert pair.dst.names == sorted(there & set(pair.src.names))
        assert pair.dst.flags == pair.src.flags
    assert sorted(here) == [name for pair in pairs for name in pair.src.names]


def test_a_pair_says_what_the_destination_lacks(roots: tuple[Path, Path]) -> None:
    """A missing directory is NEW; where a file has its name, REPLACE is said, too."""
    src, dst = roots
    make(Tree({"both": {"x": File()}, "file": {"x": File()}, "new": {"x": File()}}), src)
    make(Tree({"both": {"x": File()}, "file": File()}), dst)
    with Scanner(src, dst) as scanner:
        (root,) = scanner.root()
        (batch,) = scanner.below(root)
    assert [pair.src.path for pair in batch.pairs] == [b"both", b"file", b"new"]
    assert [pair.flags for pair in batch.pairs] == [0, NEW | REPLACE, NEW]
    assert [pair.dst is not None for pair in batch.pairs] == [True, False, False]


def test_the_destination_may_change_after_its_parent_was_scanned(roots: tuple[Path, Path]) -> None:
    """What a directory has become counts, not what the parent's page said."""
    src, dst = roots
    for root in roots:
        make(Tree({"gone": {}, "file": {}, "link": {}}), root)
    with Scanner(src, dst) as scanner:
        (root_batch,) = scanner.root()
        for name in ("gone", "file", "link"):
            os.rmdir(dst / name)
        (dst / "file").touch()
        (dst / "link").symlink_to(src)
        (batch,) = scanner.below(root_batch)
    assert {pair.src.path: pair.flags for pair in batch.pairs} == {
        b"file": NEW | REPLACE,
        b"gone": NEW,
        b"link": NEW | REPLACE,
    }


def test_without_a_destination_everything_is_new(tmp_path: Path) -> None:
    """The destination may be nothing at all: a dry run to where nothing is."""
    make(Tree({"d": {"x": File()}}), tmp_path / "src")
    with Scanner(tmp_path / "src") as scanner:
        batches = scanner.walk()
    assert [pair.flags for batch in batches for pair in batch.pairs] == [ROOT | NEW, NEW]
    assert all(pair.dst is None for batch in batches for pair in batch.pairs)


# ----------------------------------------------------------- named entries


def test_named_entries_come_in_order_and_once(roots: tuple[Path, Path]) -> None:
    """Operands in any order make a page in byte order, without those named twice."""
    src, dst = roots
    make(Tree({"d": {"x": File(), "y": File(), "z": File()}}), src)
    make(Tree({"d": {"y": File()}}), dst)
    with Scanner(src, dst) as scanner:
        pair = scanner.names(b"d", [b"z", b"y", b"z"]).pair
    assert pair.flags == NAMED | lib.AR_PAIR_SOME
    assert (pair.src.path, pair.src.names) == (b"d", [b"y", b"z"])
    assert pair.dst
    assert (pair.dst.path, pair.dst.names) == (b"d", [b"y"])


def test_more_names_than_a_page_make_more_pairs(tmp_path: Path) -> None:
    """Thousands of operands are pages of one batch."""
    entries = [b"%05d" % number for number in range(2500)]
    touch(tmp_path / "src", *entries)
    with Scanner(tmp_path / "src") as scanner:
        batch = scanner.names(b"", entries)
    assert [len(pair.src.rows) for pair in batch.pairs] == [1024, 1024, 452]
    assert paths_of([batch]) == entries


def test_a_missing_name_is_a_failure(tmp_path: Path) -> None:
    """What the user named and is not there is exit code 23, not a vanished file's 24."""
    touch(tmp_path / "src", "here")
    with Scanner(tmp_path / "src") as scanner:
        batch = scanner.names(b"", [b"here", b"missing"])
        (nowhere,) = scanner.names(b"no/such", [b"x"]).problems
    (problem,) = batch.problems
    assert (problem.name, problem.kind, problem.err, problem.op) == (
        b"missing",
        lib.AR_PROBLEM_FAILED,
        errno.ENOENT,
        lib.AR_OP_STAT,
    )
    assert batch.pair.src.row(b"missing").flags == lib.AR_ROW_BAD
    assert (nowhere.path, nowhere.kind) == (b"no/such", lib.AR_PROBLEM_FAILED)


def test_an_alias_is_the_name_at_the_destination(roots: tuple[Path, Path]) -> None:
    """A single file under another name: the row has the destination's, the page the source's."""
    src, dst = roots
    touch(src, "one")
    touch(dst, "two", "one")
    with Scanner(src, dst) as scanner:
        pair = scanner.names(b"", [b"one"], alias=b"two").pair
    assert (pair.src.names, pair.src.alias) == ([b"two"], b"one")
    assert_row(pair.src.rows[0], os.fsencode(src / "one"))
    assert pair.dst
    assert_row(pair.dst.row(b"two"), os.fsencode(dst / "two"))


def test_a_directory_under_an_alias_is_found_on_both_sides(roots: tuple[Path, Path]) -> None:
    """Below an alias the two sides have paths of their own."""
    src, dst = roots
    make(Tree({"one": {"x": File(), "sub": {"y": File()}}}), src)
    make(Tree({"two": {"x": File()}}), dst)
    with Scanner(src, dst) as scanner:
        top = scanner.names(b"", [b"one"], alias=b"two")
        (batch,) = scanner.below(top)
        (below,) = scanner.below(batch)
    assert batch.pair.dst
    assert (batch.pair.src.path, batch.pair.dst.path) == (b"one", b"two")
    assert batch.pair.dst.names == [b"x"]
    assert below.pair.flags == NEW
    assert below.pair.dst
    assert (below.pair.src.path, below.pair.dst.path) == (b"one/sub", b"two/sub")
    assert below.pair.dst.names == []


@pytest.mark.parametrize("joined", [b"a/b", b"/", b"a\0\0b", b"a\0/x"])
def test_a_name_is_not_a_path(tmp_path: Path, joined: bytes) -> None:
    """Nothing but names gets below a directory by way of its names."""
    batch = Batch()
    with Scanner(tmp_path) as scanner:
        assert scanner.try_names(b"", joined, batch) == -errno.EINVAL
        assert scanner.try_names(b"", b"a", batch, alias=b"b/c") == -errno.EINVAL
        assert scanner.try_names(b"", b"a\0b", batch, alias=b"c") == -errno.EINVAL
    assert not batch.pairs


# ----------------------------------------------------------- how far it goes


def test_a_call_stops_when_its_batch_is_full(tmp_path: Path) -> None:
    """About 2,000 rows, and no directory is split for it."""
    for number in range(30):
        touch(tmp_path / f"{number:02}", *[b"%d" % entry for entry in range(100)])
    with Scanner(tmp_path) as scanner:
        (root,) = scanner.root()
        batches = list(scanner.below(root))
    assert [len(batch.pairs) for batch in batches] == [21, 9]
    assert len(paths_of(batches)) == 3000


def test_a_call_stops_at_a_number_of_directories(tmp_path: Path) -> None:
    """Empty directories fill a batch, too."""
    for number in range(300):
        (tmp_path / f"{number:03}").mkdir()
    with Scanner(tmp_path) as scanner:
        (root,) = scanner.root()
        assert [len(batch.pairs) for batch in scanner.below(root)] == [128, 128, 44]


def test_a_call_stops_after_a_directory_of_many_pages(tmp_path: Path) -> None:
    """Its first page is in the batch, the others come through the handle."""
    touch(tmp_path / "a", "x")
    touch(tmp_path / "b", *[b"%d" % entry for entry in range(1500)])
    touch(tmp_path / "c", "x")
    with Scanner(tmp_path) as scanner:
        (root,) = scanner.root()
        batches = list(scanner.below(root))
    assert [[pair.src.path for pair in batch.pairs] for batch in batches] == [
        [b"a", b"b"],
        [b"b"],
        [b"c"],
    ]


def test_children_out_of_range_are_refused(tmp_path: Path) -> None:
    """A range that the parent does not have is the caller's error."""
    (tmp_path / "d").mkdir()
    with Scanner(tmp_path) as scanner:
        (root,) = scanner.root()
        parent = root.children()
        for first, count in ((0, 2), (2, 0), (1, 1), (2**32 - 1, 2)):
            assert scanner.try_children(parent, first, count, Batch())[0] == -errno.EINVAL
        assert scanner.try_children(parent, 1, 0, Batch())[0] == 0


def test_without_recursion_directories_are_shallow(tmp_path: Path) -> None:
    """-d makes directories and does not enter them."""
    make(Tree({"d": {"x": File()}}), tmp_path / "src")
    with Scanner(tmp_path / "src", flags=0) as scanner:
        batches = scanner.walk()
    assert paths_of(batches) == [b"d"]
    assert batches[1].pair.flags == NEW | SHALLOW
    assert_row(batches[1].pair.src.own, os.fsencode(tmp_path / "src/d"))


def test_one_scan_serves_many_threads(tmp_path: Path) -> None:
    """Calls on several threads share nothing that they write."""
    for number in range(40):
        touch(tmp_path / f"{number:02}", *[b"%x" % entry for entry in range(number * 7)])
    found: list[list[bytes]] = []

    def scan_all(scanner: Scanner) -> None:
        for _ in range(20):
            found.append(paths_of(scanner.walk()))

    with Scanner(tmp_path) as scanner:
        threads = [threading.Thread(target=scan_all, args=(scanner,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 80
    assert all(paths == found[0] for paths in found)


# ------------------------------------------------------------------ digests


def digests(page: Page) -> dict[bytes, tuple[int, int]]:
    """Return the digests of xattrs and ACLs by name, the directory's own as b""."""
    return {row.name: (row.xattr_digest, row.acl_digest) for row in (page.own, *page.rows)}


def scan_digests(root: Path, flags: int) -> dict[bytes, tuple[int, int]]:
    """Scan a root directory and return its digests."""
    with Scanner(root, flags=RECURSE | flags) as scanner:
        (batch,) = scanner.root()
    assert not batch.problems
    return digests(batch.pair.src)


ACL = acl("u::rw-,u:1:r--,g::r--,m::r--,o::---")
CHECKOUT = Path(__file__).parents[2]
OLD_KERNEL = f"""
import sys
from pathlib import Path
from tests.kit.children import forbid_call
forbid_call({SYS_LISTXATTRAT}, {errno.ENOSYS})
from tests.unit.test_scan import ALL_ATTRIBUTES, scan_digests
print(scan_digests(Path(sys.argv[1]), ALL_ATTRIBUTES))
"""
ALL_ATTRIBUTES = lib.AR_SCAN_XATTR | lib.AR_SCAN_ACL | lib.AR_SCAN_ALL_XATTRS


def test_digests_tell_attributes_apart(each_filesystem: Path) -> None:
    """Equal attributes have equal digests whatever their order; a name or value makes others."""
    need_xattrs(each_filesystem)
    tree = {
        "ab": File(xattrs={"user.a": b"1", "user.b": b"2"}),
        "ba": File(xattrs={"user.b": b"2", "user.a": b"1"}),
        "value": File(xattrs={"user.a": b"1", "user.b": b"3"}),
        "name": File(xattrs={"user.a": b"1", "user.c": b"2"}),
        "shift": File(xattrs={"user.a": b"12", "user.b": b""}),
        "long": File(xattrs={"user.a": b"1" * 2000}),
        "many": File(xattrs={f"user.{number:050}": b"" for number in range(30)}),
        "none": File(),
        "acl": File(acl=ACL),
        "both": File(acl=ACL, xattrs={"user.a": b"1"}),
        "trusted": File(xattrs={"trusted.t": b"1"}),
        "link": Symlink(target="ab"),
        "dir": Dir(xattrs={"user.a": b"1"}),
    }
    make(Tree(tree, root=Dir(xattrs={"user.r": b"1"}, default_acl=ACL)), each_filesystem / "t")
    found = scan_digests(each_filesystem / "t", ALL_ATTRIBUTES)
    with_xattrs = [b"ab", b"value", b"name", b"shift", b"long", b"many", b"both", b"trusted", b""]
    assert found[b"ab"] == found[b"ba"]
    assert len({found[name][0] for name in with_xattrs} - {0}) == len(with_xattrs)
    assert found[b"none"][0] == found[b"link"][0] == found[b"acl"][0] == 0
    assert found[b"acl"][1] == found[b"both"][1] != 0
    assert found[b""][1] != 0
    # those of a directory are in its own page, where they are read once
    assert found[b"dir"] == (0, 0)


def test_digests_are_of_what_was_asked_for(tmp_path: Path) -> None:
    """-X without -A leaves ACLs alone, and the reverse; trusted.* only where it can be set."""
    need_root()
    need_xattrs(tmp_path)
    file = File(acl=ACL, xattrs={"user.a": b"1", "trusted.t": b"2"})
    make(Tree({"file": file, "user": File(xattrs={"user.a": b"1"})}), tmp_path / "src")
    every = scan_digests(tmp_path / "src", ALL_ATTRIBUTES)
    assert scan_digests(tmp_path / "src", 0)[b"file"] == (0, 0)
    assert scan_digests(tmp_path / "src", lib.AR_SCAN_ACL)[b"file"] == (0, every[b"file"][1])
    user = scan_digests(tmp_path / "src", lib.AR_SCAN_XATTR)
    assert user[b"file"] == user[b"user"] == every[b"user"]
    assert user[b"file"] != every[b"file"]


def test_digests_are_the_same_without_the_new_calls(tmp_path: Path) -> None:
    """Kernels before 6.13 are asked by way of /proc/self/fd."""
    need_xattrs(tmp_path)
    link = Symlink(target="b")
    make(Tree({"b": File(xattrs={"user.a": b"1"}), "l": link, "d": {}}), tmp_path / "src")
    before = scan_digests(tmp_path / "src", ALL_ATTRIBUTES)
    # a new program: this one knows already that it has the new calls
    command = [sys.executable, "-c", OLD_KERNEL, os.fspath(tmp_path / "src")]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True)
    assert ast.literal_eval(done.stdout.decode()) == before
    assert before[b"b"][0] != 0


def test_attributes_that_cannot_be_read_are_a_problem(tmp_path: Path) -> None:
    """The row stays, without a digest."""
    need_xattrs(tmp_path)
    make(Tree({"a": File(xattrs={"user.a": b"1"}), "b": File()}), tmp_path / "src")
    with Scanner(tmp_path / "src", flags=RECURSE | ALL_ATTRIBUTES) as scanner:
        lib.ar_fault_set(lib.AR_OP_GET_XATTR, 0, 1, lib.AR_FAULT_ERROR, errno.EIO)
        (batch,) = scanner.root()
        lib.ar_fault_clear()
    (problem,) = batch.problems
    assert (problem.name, problem.op, problem.err) == (b"a", lib.AR_OP_GET_XATTR, errno.EIO)
    assert (problem.kind, problem.side) == (lib.AR_PROBLEM_FAILED, 0)
    assert batch.pair.src.names == [b"a", b"b"]
    assert digests(batch.pair.src)[b"a"] == (0, 0)


# -------------------------------------------------------------------- roots


def test_a_root_is_made_when_asked_for(tmp_path: Path) -> None:
    """Its last component, with the mode that mkdir gives; and a symlink to a root is one."""
    old = os.umask(0o027)
    root = open_root(tmp_path / "made", lib.AR_ROOT_CREATE)
    os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "made").st_mode) == 0o750
    assert os.path.samestat(os.fstat(lib.ar_root_fd(root)), os.stat(tmp_path / "made"))
    lib.ar_root_close(root)
    os.symlink("made", tmp_path / "link")
    root = open_root(tmp_path / "link", lib.AR_ROOT_CREATE)
    assert os.path.samestat(os.fstat(lib.ar_root_fd(root)), os.stat(tmp_path / "made"))
    lib.ar_root_close(root)


def test_a_root_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """Missing, missing above, a file, a dangling link: each with its errno."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    create = lib.AR_ROOT_CREATE
    for name, flags, expected in (
        ("missing", 0, errno.ENOENT),
        ("missing/too", create, errno.ENOENT),
        ("file", create, errno.ENOTDIR),
        ("dangling", create, errno.ENOENT),
    ):
        with pytest.raises(OSError, match=re.escape(os.strerror(expected))):
            open_root(tmp_path / name, flags)


def test_a_walk_without_openat2_finds_the_same(tmp_path: Path) -> None:
    """Where a container forbids openat2, components are opened one by one."""
    deep = b"/".join([b"d" * 250] * 20)
    make(Tree.flat({deep[: 251 * i - 1]: Dir() for i in range(1, 21)}), tmp_path / "src")
    make(Tree({"plain": {"a": {"b": File()}}}), tmp_path / "src")
    with Scanner(tmp_path / "src") as scanner:
        before = paths_of(scanner.walk())

    def scan_the_old_way() -> list[str]:
        forbid_call(SYS_OPENAT2, errno.EPERM)
        with Scanner(tmp_path / "src") as scanner:
            batches = scanner.walk()
        assert not problems_of(batches)
        return [path.decode() for path in paths_of(batches)]

    assert [path.encode() for path in in_child(scan_the_old_way)] == before


@pytest.mark.parametrize("openat2", [True, False])
def test_a_directory_that_became_a_link_is_not_entered(tmp_path: Path, openat2: bool) -> None:
    """Somebody swaps a directory for a link out of the tree: nothing behind it is read."""
    make(Tree({"outside": {"secret": File()}, "src": {"a": {"d": {"x": File()}}}}), tmp_path)

    def scan_swapped() -> list[tuple[str, int]]:
        if not openat2:
            forbid_call(SYS_OPENAT2, errno.ENOSYS)
        with Scanner(tmp_path / "src") as scanner:
            (root,) = scanner.root()
            (batch,) = scanner.below(root)
            os.rename(tmp_path / "src/a/d", tmp_path / "src/a/away")
            os.symlink(tmp_path / "outside", tmp_path / "src/a/d")
            (below,) = scanner.below(batch)
            os.rename(tmp_path / "src/a", tmp_path / "src/b")
            os.symlink(tmp_path / "outside", tmp_path / "src/a")
            (above,) = scanner.below(batch)
        (pair,) = below.pairs
        assert (pair.flags, pair.src.rows) == (NAMED, [])
        return [
            (problem.path.decode(), problem.err)
            for problem in (*below.problems, *above.problems)
            if problem.kind == lib.AR_PROBLEM_FAILED
        ]

    refused = in_child(scan_swapped)
    assert [path for path, _ in refused] == ["a/d", "a/d"]
    assert {error for _, error in refused} <= {errno.ELOOP, errno.ENOTDIR}


def test_a_root_need_not_be_readable(tmp_path: Path) -> None:
    """Named entries of a directory that only lets pass can be copied."""
    need_unprivileged()
    make(Tree({"d": Dir(mode=0o711, entries={"x": File(mode=0o644)})}), tmp_path / "src")
    for path in (tmp_path, *tmp_path.parents[:-2]):
        os.chmod(path, os.stat(path).st_mode | 0o011)

    def scan_as_nobody() -> list[str]:
        become_nobody()
        with Scanner(tmp_path / "src/d") as scanner:
            batch = scanner.names(b"", [b"x"])
            assert not batch.problems
            (whole,) = scanner.root()
            (problem,) = whole.problems
            assert (problem.err, problem.op) == (errno.EACCES, lib.AR_OP_OPEN_DIR)
        return [name.decode() for name in batch.pair.src.names]

    assert in_child(scan_as_nobody) == ["x"]


def test_the_program_runs_where_directories_of_an_overlay_look_alike(
    filesystems: Filesystems,
) -> None:
    """On overlayfs no directory passes for a mount point, whatever layer it is of."""
    with filesystems.mount("overlay").directory() as path:
        make(Tree({"d": {"e": {}}, "f": File()}), path / "src")
        with Scanner(path / "src") as scanner:
            batches = scanner.walk()
    flags = [row.flags for batch in batches for pair in batch.pairs for row in pair.src.rows]
    assert flags == [0, 0, 0]
