"""The scanner where things go wrong: vanished, forbidden, mounted, looping, short of memory."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arsync.uring._native import ffi, lib
from tests.kit.children import become_nobody, in_child
from tests.kit.filesystems import mounted
from tests.kit.scanning import (
    FIRST,
    LAST,
    PARTIAL,
    Batch,
    Problem,
    Scanner,
    paths_of,
    problems_of,
)
from tests.kit.tree import Dir, File, Symlink, Tree, make
from tests.requirements import need_root, need_unprivileged

RECURSE = lib.AR_SCAN_RECURSE
NEW, ROOT, NAMED, SHALLOW = (
    lib.AR_PAIR_NEW,
    lib.AR_PAIR_ROOT,
    lib.AR_PAIR_NAMED,
    lib.AR_PAIR_SHALLOW,
)
FAILED, VANISHED, LOOP = lib.AR_PROBLEM_FAILED, lib.AR_PROBLEM_VANISHED, lib.AR_PROBLEM_LOOP
BAD, MOUNT = lib.AR_ROW_BAD, lib.AR_ROW_MOUNT


@contextmanager
def fault(op: int, error: int, *, skip: int = 0, count: int = 1) -> Iterator[None]:
    """Let some passes of an operation fail."""
    assert lib.ar_fault_set(op, skip, count, lib.AR_FAULT_ERROR, error) == 0
    try:
        yield
    finally:
        lib.ar_fault_clear()


def let_everybody_pass(path: Path) -> None:
    """Make a temporary directory reachable for who is not its owner."""
    for directory in (path, *path.parents[:-2]):
        os.chmod(directory, os.stat(directory).st_mode | 0o011)


def seen(problem: Problem) -> tuple[str, str, int, int, int]:
    """Return a problem as a value that survives JSON."""
    return (
        problem.path.decode(),
        problem.name.decode(),
        problem.kind,
        problem.side,
        problem.err,
    )


# ----------------------------------------------------------------- vanished


def test_an_entry_that_vanishes_is_reported_as_such(tmp_path: Path) -> None:
    """Read as a name, gone when it is stat'ed: a row that says so, and exit code 24's problem."""
    make(Tree({"a": File(), "b": File(), "c": File()}), tmp_path)
    with Scanner(tmp_path) as scanner, fault(lib.AR_OP_STAT, errno.ENOENT, skip=2):
        (batch,) = scanner.root()
    assert [seen(problem) for problem in batch.problems] == [("", "b", VANISHED, 0, errno.ENOENT)]
    row = batch.pair.src.row(b"b")
    assert (row.type, row.flags, row.mode, row.ino) == (0, BAD, 0, 0)
    assert batch.raw.tally.found_files == 2


def test_an_entry_that_cannot_be_looked_at_is_a_failure(tmp_path: Path) -> None:
    """Any other error of stat or readlink is exit code 23's problem."""
    make(Tree({"a": File(), "l": Symlink(target="a")}), tmp_path)
    with Scanner(tmp_path) as scanner:
        with fault(lib.AR_OP_STAT, errno.EIO, skip=1):
            (first,) = scanner.root()
        with fault(lib.AR_OP_READLINK, errno.EIO):
            (second,) = scanner.root()
    assert [seen(problem) for problem in first.problems] == [("", "a", FAILED, 0, errno.EIO)]
    assert [seen(problem) for problem in second.problems] == [("", "l", FAILED, 0, errno.EIO)]
    assert second.pair.src.row(b"l").flags == BAD


def test_a_directory_that_vanishes_leaves_its_name(tmp_path: Path) -> None:
    """The pair is only there to name the problem: nothing is to be done for it."""
    make(Tree({"d": {}, "e": {}}), tmp_path)
    with Scanner(tmp_path) as scanner:
        (root,) = scanner.root()
        os.rmdir(tmp_path / "d")
        (batch,) = scanner.below(root)
    assert [seen(problem) for problem in batch.problems] == [("d", "", VANISHED, 0, errno.ENOENT)]
    gone, other = batch.pairs
    assert (gone.flags, gone.src.rows, gone.src.own.flags) == (NAMED, [], BAD)
    assert gone.src.flags == FIRST | LAST | PARTIAL
    assert other.flags == NEW


def test_an_entry_of_the_destination_may_vanish(tmp_path: Path) -> None:
    """It is not there, then."""
    for side in ("src", "dst"):
        make(Tree({"a": File(), "b": File()}), tmp_path / side)
    # self, a and b of the source, then self, a and b of the destination
    with (
        Scanner(tmp_path / "src", tmp_path / "dst") as scanner,
        fault(lib.AR_OP_STAT, errno.ENOENT, skip=4),
    ):
        (batch,) = scanner.root()
    assert not batch.problems
    assert batch.pair.dst
    assert batch.pair.dst.names == [b"b"]
    assert batch.pair.dst.row(b"b").ino == os.stat(tmp_path / "dst/b").st_ino


def test_an_entry_of_the_destination_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """Its row is marked, and the problem names the source's row."""
    for side in ("src", "dst"):
        make(Tree({"a": File(), "b": File()}), tmp_path / side)
    (tmp_path / "src/0").touch()
    with (
        Scanner(tmp_path / "src", tmp_path / "dst") as scanner,
        fault(lib.AR_OP_STAT, errno.EIO, skip=5),
    ):
        (batch,) = scanner.root()
    assert [seen(problem) for problem in batch.problems] == [("", "a", FAILED, 1, errno.EIO)]
    assert batch.pair.dst
    assert [row.flags for row in batch.pair.dst.rows] == [BAD, 0]


def test_a_tree_that_changes_all_the_time_is_walked(tmp_path: Path) -> None:
    """Names come and go while a scan is under way: each page is in order and whole."""
    src, stop = tmp_path / "src", threading.Event()
    for number in range(5):
        make(Tree({f"{entry}": File() for entry in range(300)}), src / f"d{number}")

    def disturb() -> None:
        count = 0
        while not stop.is_set():
            here = src / f"d{count % 5}"
            name = here / str(count % 300)
            other = name.rename(here / f"{'x' * (count % 200 + 1)}{count}")
            name.symlink_to("y" * (count % 4000 + 1))
            name.unlink()
            name.mkdir()
            name.rmdir()
            other.rename(name)
            (src / "d0").rename(src / "moved")
            (src / "moved").rename(src / "d0")
            count += 1

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        until = time.monotonic() + 2
        with Scanner(src, src.parent) as scanner:
            while time.monotonic() < until:
                batches = scanner.walk()
                for batch in batches:
                    for pair in batch.pairs:
                        assert pair.src.names == sorted(set(pair.src.names))
                allowed = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL}
                assert {problem.err for problem in problems_of(batches)} <= allowed
    finally:
        stop.set()
        thread.join()


# ---------------------------------------------------------------- forbidden


def test_a_source_directory_without_permission(tmp_path: Path) -> None:
    """What is in it stays unknown; its own row is there, so that it is made as it is."""
    need_unprivileged()
    tree = {"closed": Dir(mode=0o700, entries={"x": File()}), "open": {"y": File()}}
    make(Tree(tree), tmp_path / "src")
    let_everybody_pass(tmp_path / "src")
    os.chmod(tmp_path / "src", 0o755)
    if os.geteuid() != 0:
        os.chmod(tmp_path / "src/closed", 0)

    def scan() -> list[object]:
        become_nobody()
        with Scanner(tmp_path / "src") as scanner:
            batches = scanner.walk()
        closed, _ = batches[1].pairs
        assert (closed.src.flags, closed.flags) == (FIRST | LAST | PARTIAL, NEW)
        assert closed.src.own.ino == os.stat(tmp_path / "src/closed").st_ino
        return [seen(problem) for problem in problems_of(batches)]

    assert in_child(scan) == [["closed", "", FAILED, 0, errno.EACCES]]


def test_a_destination_directory_that_cannot_be_read(tmp_path: Path) -> None:
    """Where names may be looked up they are; where not, one problem says so."""
    need_unprivileged()
    need_root()
    make(Tree({name: {"a": File(), "b": File()} for name in ("list", "look")}), tmp_path / "src")
    list_only = Dir(mode=0o744, entries={"a": File(), "b": File()})
    look_only = Dir(mode=0o711, entries={"a": File(), "z": File()})
    make(Tree({"list": list_only, "look": look_only}), tmp_path / "dst")
    for side in ("src", "dst"):
        let_everybody_pass(tmp_path / side)
        os.chmod(tmp_path / side, 0o755)

    def scan() -> list[object]:
        become_nobody()
        with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
            batches = scanner.walk()
        found = {}
        for pair in batches[1].pairs:
            assert pair.dst
            assert not pair.flags
            assert pair.dst.own.ino == os.stat(tmp_path / "dst" / pair.src.path.decode()).st_ino
            found[pair.src.path.decode()] = [name.decode() for name in pair.dst.names]
        return [found, [seen(problem) for problem in problems_of(batches)]]

    assert in_child(scan) == [
        {"list": [], "look": ["a"]},
        [["list", "", FAILED, 1, errno.EACCES]],
    ]


def test_a_directory_that_cannot_be_read_to_its_end(tmp_path: Path) -> None:
    """What was read counts, and the page says that it is not all."""
    make(Tree({f"{number}": File() for number in range(10)}), tmp_path / "src")
    os.mkdir(tmp_path / "dst")
    with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
        with fault(lib.AR_OP_READ_DIR, errno.EIO, skip=1):
            (batch,) = scanner.root()
        with fault(lib.AR_OP_READ_DIR, errno.EIO, skip=2):
            (other,) = scanner.root()
    assert [seen(problem) for problem in batch.problems] == [("", "", FAILED, 0, errno.EIO)]
    assert batch.pair.src.flags == FIRST | LAST | PARTIAL
    assert len(batch.pair.src.rows) == 10
    assert [seen(problem) for problem in other.problems] == [("", "", FAILED, 1, errno.EIO)]
    assert other.pair.dst
    assert other.pair.dst.flags == FIRST | LAST | PARTIAL
    assert other.pair.src.flags == FIRST | LAST


def test_children_are_looked_for_where_the_parent_was_not_read(tmp_path: Path) -> None:
    """An unread destination directory says nothing of what is in it."""
    for side in ("src", "dst"):
        make(Tree({"d": {"x": File()}}), tmp_path / side)
    with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
        with fault(lib.AR_OP_READ_DIR, errno.EIO, skip=2):
            (root,) = scanner.root()
        (batch,) = scanner.below(root)
    assert batch.pair.flags == 0
    assert batch.pair.dst
    assert batch.pair.dst.names == [b"x"]


def test_a_destination_directory_that_cannot_be_opened(tmp_path: Path) -> None:
    """It is not taken for absent: making it anew would hide what is wrong."""
    for side in ("src", "dst"):
        make(Tree({"x": File()}), tmp_path / side)
    with (
        Scanner(tmp_path / "src", tmp_path / "dst") as scanner,
        fault(lib.AR_OP_OPEN_DIR, errno.EIO, skip=1),
    ):
        (batch,) = scanner.root()
    assert [seen(problem) for problem in batch.problems] == [("", "", FAILED, 1, errno.EIO)]
    assert batch.pair.flags == ROOT
    assert batch.pair.dst
    assert (batch.pair.dst.flags, batch.pair.dst.own.flags) == (FIRST | LAST | PARTIAL, BAD)


# ------------------------------------------------------- short of something


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_without_descriptors_the_call_can_be_repeated(tmp_path: Path, error: int) -> None:
    """What was scanned before counts; then the error, and later the rest."""
    for side in ("src", "dst"):
        make(Tree({f"{number}": {"x": File()} for number in range(4)}), tmp_path / side)
    with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
        (root,) = scanner.root()
        parent, batch = root.children(), Batch()
        with fault(lib.AR_OP_OPEN_DIR, error, skip=5, count=2):
            done, more = scanner.try_children(parent, 0, 4, batch)
            assert (done, more[0]) == (2, ffi.NULL)
            assert [pair.src.path for pair in batch.pairs] == [b"0", b"1"]
            again, _ = scanner.try_children(parent, 2, 2, batch)
            assert again == -error
            assert len(batch.pairs) == 2
            assert batch.raw.tally.found_dirs == 2
        rest, _ = scanner.try_children(parent, 2, 2, batch)
    assert rest == 2
    assert [pair.src.path for pair in batch.pairs] == [b"0", b"1", b"2", b"3"]
    assert not batch.problems
    assert all(pair.dst for pair in batch.pairs)


def run_out_of_memory(call: Callable[[Batch], int]) -> int:
    """Fail the Nth allocation for N = 1, 2, ... until the call survives; return N."""
    for skip in range(200):
        batch = Batch()
        with fault(lib.AR_OP_MEMORY, errno.ENOMEM, skip=skip):
            result = call(batch)
        if result >= 0:
            return skip + 1
        assert result == -errno.ENOMEM
        raw = batch.raw
        assert (raw.pair_count, raw.src_bytes, raw.dst_bytes, raw.problem_count) == (0, 0, 0, 0)
        assert raw.tally.found_files == 0
    raise AssertionError("never enough memory")


def test_without_memory_the_batch_is_as_it_was(tmp_path: Path) -> None:
    """Each allocation may fail, and the call can be repeated."""
    tree = {f"{'n' * 200}{number}": Symlink(target="t" * 4000) for number in range(200)}
    for side in ("src", "dst"):
        make(Tree(tree), tmp_path / side)

    def scan_root(batch: Batch) -> int:
        more = ffi.new("ar_dir **")
        return int(lib.ar_scan_root(scanner.raw, batch.raw, more))

    with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
        assert run_out_of_memory(scan_root) > 10


def test_a_page_without_memory_can_be_had_again(tmp_path: Path) -> None:
    """A directory of many pages stands where it stood."""
    for side in ("src", "dst"):
        make(Tree({f"{number:04}": File() for number in range(2500)}), tmp_path / side)
    with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
        more = ffi.new("ar_dir **")
        assert lib.ar_scan_root(scanner.raw, Batch().raw, more) == 0
        tries = run_out_of_memory(lambda batch: lib.ar_scan_more(scanner.raw, more[0], batch.raw))
        assert tries > 1
        last = Batch()
        assert lib.ar_scan_more(scanner.raw, more[0], last.raw) == 0
        lib.ar_dir_close(more[0])
    assert last.pair.dst
    assert last.pair.src.names == last.pair.dst.names
    assert last.pair.src.names == [b"%04d" % number for number in range(2048, 2500)]


def test_passing_errors_are_tried_again_and_counted(tmp_path: Path) -> None:
    """ESTALE and the like pass; one that stays is a failure."""
    make(Tree({"a": File(), "d": {}}), tmp_path)
    with Scanner(tmp_path) as scanner:
        with fault(lib.AR_OP_STAT, errno.ESTALE, skip=1, count=2):
            (batch,) = scanner.root()
        with fault(lib.AR_OP_OPEN_DIR, errno.ETIMEDOUT, count=3):
            (other,) = scanner.root()
        with fault(lib.AR_OP_STAT, errno.ESTALE, skip=1, count=4):
            (third,) = scanner.root()
    assert (batch.raw.tally.retries, batch.problems) == (2, [])
    assert (other.raw.tally.retries, other.problems) == (3, [])
    assert [seen(problem) for problem in third.problems] == [("", "a", FAILED, 0, errno.ESTALE)]


# ------------------------------------------------------- mounts and loops


def test_mount_points_are_marked_and_entered(tmp_path: Path) -> None:
    """Without -x the root of another filesystem is a directory like any other."""
    make(Tree({"m": {}, "n": {"y": File()}}), tmp_path)
    with mounted("-t", "tmpfs", "none", tmp_path / "m"), Scanner(tmp_path) as scanner:
        (tmp_path / "m/x").touch()
        batches = scanner.walk()
    assert paths_of(batches) == [b"m", b"m/x", b"n", b"n/y"]
    assert [row.flags for row in batches[0].pair.src.rows] == [MOUNT, 0]


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_one_file_system_makes_mount_points_and_stays_out(tmp_path: Path, kind: str) -> None:
    """-x makes the directory, -xx does not even that; a bind mount is a boundary, too."""
    make(Tree({"m": {}, "n": {"y": File()}}), tmp_path / "src")
    make(Tree({"x": File()}), tmp_path / "other")
    where = tmp_path / "src/m"
    what = ("-t", "tmpfs", "none") if kind == "tmpfs" else ("--bind", tmp_path / "other")
    with mounted(*what, where):
        (where / "x").touch()
        with Scanner(tmp_path / "src", flags=RECURSE | lib.AR_SCAN_XDEV) as scanner:
            once = scanner.walk()
        flags = RECURSE | lib.AR_SCAN_XDEV | lib.AR_SCAN_SKIP_MOUNTS
        with Scanner(tmp_path / "src", flags=flags) as scanner:
            twice = scanner.walk()
    assert paths_of(once) == [b"m", b"n", b"n/y"]
    assert [pair.flags for pair in once[1].pairs] == [NEW | SHALLOW, NEW]
    assert paths_of(twice) == [b"n", b"n/y"]
    assert twice[0].pair.src.row(b"n").name_len == 1


def test_a_mount_point_that_is_named_is_entered(tmp_path: Path) -> None:
    """`arsync -x /boot ...` means what is mounted on /boot."""
    make(Tree({"m": {}}), tmp_path)
    flags = RECURSE | lib.AR_SCAN_XDEV | lib.AR_SCAN_SKIP_MOUNTS
    with (
        mounted("-t", "tmpfs", "none", tmp_path / "m"),
        Scanner(tmp_path, flags=flags) as scanner,
    ):
        (tmp_path / "m/x").touch()
        named = scanner.names(b"", [b"m"])
        (batch,) = scanner.below(named)
    assert batch.pair.src.names == [b"x"]


def test_a_bind_mount_of_a_directory_above_is_a_loop(tmp_path: Path) -> None:
    """The directory is made and not entered, and a problem says why."""
    make(Tree({"a": {"b": {}, "x": File()}}), tmp_path)
    with mounted("--bind", tmp_path / "a", tmp_path / "a/b"), Scanner(tmp_path) as scanner:
        batches = scanner.walk()
    assert paths_of(batches) == [b"a", b"a/b", b"a/x"]
    assert [seen(problem) for problem in problems_of(batches)] == [
        ("a/b", "", LOOP, 0, errno.ELOOP)
    ]


def test_the_destination_is_never_entered(tmp_path: Path) -> None:
    """A walk of the source that comes to the destination's root stops there."""
    make(Tree({"d": {"dst": {"x": File()}}, "f": File()}), tmp_path / "src")
    with Scanner(tmp_path / "src", tmp_path / "src/d/dst") as scanner:
        batches = scanner.walk()
    assert paths_of(batches) == [b"d", b"d/dst", b"f"]
    assert [seen(problem) for problem in problems_of(batches)] == [
        ("d/dst", "", LOOP, 0, errno.ELOOP)
    ]
