"""The executor while somebody else works in the source: files that move under its hands."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from arsync.model import ChangeFlag, Op, ProblemKind, WarningKind
from arsync.options import ARCHIVE, SyncOptions
from arsync.uring.faults import counted, passes, paused_at
from arsync.uring.scanner import scan_flags
from tests.kit import Dir, File, HardLink, Pattern, Tree, assert_same, make
from tests.kit.children import NOBODY, become_nobody, in_child
from tests.kit.scanning import Scanner
from tests.kit.syncing import Ran, assert_hashed, run, running, single
from tests.requirements import need_root, need_unprivileged

MIB = 1 << 20
BUFFER = 64 << 10
SMALL = 3 * BUFFER
BIG = 33 * MIB
NS = 1_700_000_000_123_456_789
NO_PERMS = replace(ARCHIVE, perms=False)

SIZES = pytest.mark.parametrize("size", [SMALL, BIG], ids=["small", "big"])
OP_OF = {"read_write": Op.READ, "copy_file_range": Op.COPY_RANGE, "splice": Op.SPLICE}


pytestmark = pytest.mark.usefixtures("no_litter")


def shrink(path: Path) -> None:
    """Leave a third of the file, and another byte."""
    os.truncate(path, path.stat().st_size // 3 + 1)


def empty(path: Path) -> None:
    """Leave nothing of the file."""
    os.truncate(path, 0)


def grow(path: Path) -> None:
    """Append to the file."""
    with path.open("ab") as file:
        file.write(bytes(Pattern(5000, 9)))


def rewrite(path: Path) -> None:
    """Write over the end of the file, with its old size and mtime."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-2000, os.SEEK_END)
        file.write(bytes(Pattern(2000, 7)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_it(path: Path) -> None:
    """Rename another file over it."""
    other = path.with_name("other")
    other.write_bytes(bytes(Pattern(path.stat().st_size, 8)))
    os.replace(other, path)


CHANGES = pytest.mark.parametrize(
    "change", [shrink, empty, grow, rewrite], ids=lambda one: one.__name__
)


def one_file(tmp_path: Path, size: int) -> tuple[Path, Path, Path]:
    """Make a source of one file; return source, destination and the file."""
    src = tmp_path / "src"
    make(Tree({"f": File(Pattern(size, 1), mtime_ns=NS)}), src)
    return src, tmp_path / "dst", src / "f"


@SIZES
@CHANGES
def test_a_file_that_changes_once(
    tmp_path: Path, engine: str, size: int, change: Callable[[Path], None]
) -> None:
    """It is read again, and what lands is its new content with the hash of that."""
    src, dst, file = one_file(tmp_path, size)
    with (
        paused_at(Op.READ, skip=1) as pause,
        running(src, dst, **single(engine), buffer_bytes=BUFFER, copy_method="read_write") as ran,
    ):
        pause.wait()
        change(file)
        pause.resume()
    assert (ran.code, ran.problems) == (0, [])
    assert ran.report.counts.rereads == 1
    assert_same(src, dst)
    assert_hashed(ran.changes[b"f"], file.read_bytes())
    assert run(src, dst, engine=engine).changes == {}


def changed_twice(src: Path, dst: Path, engine: str, change: Callable[[Path], None]) -> Ran:
    """Run while the only file is written anew as it is read, and changed as it is read again."""
    file = src / "f"
    settings = {**single(engine), "buffer_bytes": BUFFER, "copy_method": "read_write"}
    with counted():  # a memory filesystem refuses reads that must not wait, and is asked again
        run(src, dst.with_name("before"), **settings)
        reads = passes(Op.READ)
    second_read = reads - 2 + (1 if file.stat().st_size == SMALL else 8)
    with paused_at(Op.READ, skip=1) as pause, running(src, dst, **settings) as ran:
        pause.wait()
        rewrite(file)
        with paused_at(Op.READ, skip=second_read) as second:
            second.resume()
            second.wait()
            change(file)
            second.resume()
    return ran


@SIZES
@CHANGES
def test_a_file_that_changes_twice(
    tmp_path: Path, engine: str, size: int, change: Callable[[Path], None]
) -> None:
    """What was read last is installed without a hash, with a warning; the next run looks again."""
    src, dst, file = one_file(tmp_path, size)
    ran = changed_twice(src, dst, engine, change)
    assert ran.code == 0
    assert [path for path, _, _ in ran.of(ProblemKind.UNSTABLE)] == [b"f"]
    assert [one.kind for one in ran.report.warnings] == [WarningKind.UNSTABLE]
    flags = ran.changes[b"f"].flags
    assert flags & ChangeFlag.UNSTABLE
    assert not flags & ChangeFlag.HASHED
    os.utime(file)
    assert b"f" in run(src, dst, engine=engine).changes
    assert_same(src, dst)


@SIZES
def test_a_file_that_shrinks_under_its_second_read_has_no_gap(
    tmp_path: Path, engine: str, size: int
) -> None:
    """What is installed is as long as the file now, and holds what it holds up to there."""
    src, dst, file = one_file(tmp_path, size)
    ran = changed_twice(src, dst, engine, shrink)
    assert ran.code == 0
    assert (dst / "f").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("size", "method"), [(SMALL, "copy_file_range"), (SMALL, "splice"), (BIG, "copy_file_range")]
)
@CHANGES
def test_a_file_that_changes_while_the_kernel_copies_it(
    tmp_path: Path, engine: str, size: int, method: str, change: Callable[[Path], None]
) -> None:
    """The stats before and after tell there, too."""
    src, dst, file = one_file(tmp_path, size)
    settings = {**single(engine), "copy_method": method}
    with paused_at(OP_OF[method]) as pause, running(src, dst, **settings) as ran:
        pause.wait()
        change(file)
        pause.resume()
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst)


@SIZES
def test_a_file_that_is_replaced_by_another(tmp_path: Path, engine: str, size: int) -> None:
    """Opened after that, it is the other one; opened before, the next run brings it."""
    src, dst, file = one_file(tmp_path, size)
    with paused_at(Op.OPEN_FILE) as pause, running(src, dst, **single(engine)) as ran:
        pause.wait()
        replace_it(file)
        pause.resume()
    assert (ran.code, ran.problems) == (0, [])
    assert (dst / "f").read_bytes() == file.read_bytes()
    assert_same(src, dst, root=False)
    with (
        paused_at(Op.READ) as pause,
        running(src, tmp_path / "other", **single(engine), copy_method="read_write") as ran,
    ):
        pause.wait()
        replace_it(file)
        pause.resume()
    assert (ran.code, ran.problems) == (0, [])
    run(src, tmp_path / "other", engine=engine)
    assert_same(src, tmp_path / "other")


@SIZES
def test_a_file_that_vanishes(tmp_path: Path, engine: str, size: int) -> None:
    """Gone before it is opened: exit code 24, and what stood at the destination stays."""
    src, dst, file = one_file(tmp_path, size)
    make(Tree({"f": File(b"old", mtime_ns=1)}), dst)
    with paused_at(Op.OPEN_FILE) as pause, running(src, dst, **single(engine)) as ran:
        pause.wait()
        file.unlink()
        pause.resume()
    assert ran.code == 24
    assert [path for path, _, _ in ran.of(ProblemKind.VANISHED)] == [b"f"]
    assert (dst / "f").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
@SIZES
def test_a_file_that_becomes_something_else(
    tmp_path: Path, engine: str, kind: str, size: int
) -> None:
    """It is not followed, entered or waited for: reported, and nothing lands."""
    src, dst, file = one_file(tmp_path, size)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    with paused_at(Op.OPEN_FILE) as pause, running(src, dst, **single(engine)) as ran:
        pause.wait()
        file.unlink()
        {"link": lambda: file.symlink_to(secret), "directory": file.mkdir}.get(
            kind, lambda: os.mkfifo(file)
        )()
        pause.resume()
    assert ran.code in (23, 24)
    assert [one.path for one in ran.problems] == [b"f"]
    assert os.listdir(dst) == []


def test_a_directory_that_vanishes(tmp_path: Path, engine: str) -> None:
    """Scanned, then gone when its files are to be read: its files are missing, and it is said."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"d": {"f": File(b"f")}, "e": File(b"e")}), src)
    with paused_at(Op.MKDIR, skip=1) as pause, running(src, dst, **single(engine)) as ran:
        pause.wait()
        os.rename(src / "d", tmp_path / "gone")
        pause.resume()
    assert ran.code in (0, 23, 24)
    assert (dst / "e").read_bytes() == b"e"
    assert (ran.code == 0) == (dst / "d" / "f").exists()


def test_a_destination_directory_that_appears_meanwhile(tmp_path: Path, engine: str) -> None:
    """Somebody makes the very directory that is being filled: what is ours moves into it."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"d": {"f": File(b"f"), "g": File(b"g")}}), src)
    dst.mkdir()
    with paused_at(Op.RENAME) as pause, running(src, dst, **single(engine)) as ran:
        pause.wait()
        make(Tree({"d": {"g": File(b"theirs"), "h": File(b"h")}}), dst)
        pause.resume()
    assert ran.code == 0
    assert {name: (dst / "d" / name).read_bytes() for name in "fgh"} == {
        "f": b"f",
        "g": b"g",
        "h": b"h",
    }


@pytest.mark.parametrize("theirs", [0o755, 0o500])
def test_one_that_appears_where_the_owner_may_not_write(
    tmp_path: Path, engine: str, theirs: int
) -> None:
    """Neither the mode that it shall have, nor the one that it was given, keeps its owner out."""
    need_unprivileged()
    src, dst = tmp_path / "src", tmp_path / "dst"
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        os.chmod(directory, os.stat(directory).st_mode | 0o011)
    make(Tree({"d": Dir({"f": File(b"f"), "g": File(b"g")}, mode=0o500, mtime_ns=NS)}), src)
    for path in (src, src / "d", src / "d/f", src / "d/g"):
        os.chown(path, NOBODY, NOBODY)
    dst.mkdir()
    os.chown(dst, NOBODY, NOBODY)

    def merge() -> list[object]:
        become_nobody()
        with paused_at(Op.RENAME) as pause, running(src, dst, ARCHIVE, **single(engine)) as ran:
            pause.wait()
            make(Tree({"d": {"g": File(b"theirs"), "h": File(b"h")}}), dst)
            (dst / "d").chmod(theirs)
            pause.resume()
        info = (dst / "d").stat()
        contents = [(dst / "d" / name).read_text() for name in "fgh"]
        return [ran.code, contents, info.st_mode & 0o7777, info.st_mtime_ns]

    assert in_child(merge) == [0, ["f", "g", "h"], 0o500, NS]


def test_a_mode_that_chown_has_cut_is_never_seen(tmp_path: Path, engine: str) -> None:
    """Without -p the mode of another name of the inode is the one from before the chown."""
    need_root()
    make(Tree({"a": File(b"x", mtime_ns=NS)}), tmp_path / "src")
    make(Tree({"a": File(b"x", mtime_ns=NS), "b": HardLink("a")}), tmp_path / "dst")
    os.chown(tmp_path / "src/a", 65534, 65534)
    os.chmod(tmp_path / "dst/a", 0o4755)
    modes: list[int] = []

    def look() -> None:
        flags = scan_flags(SyncOptions(preserve=NO_PERMS), as_root=True)
        make(Tree({"b": File(b"x")}), tmp_path / "other")
        with Scanner(tmp_path / "other", tmp_path / "dst", flags) as scanner:
            page = scanner.root()[0].pair.dst
            assert page is not None
            modes.append(page.row(b"b").mode)

    looking = Thread(target=look)
    with (
        paused_at(Op.CHMOD) as pause,
        running(tmp_path / "src", tmp_path / "dst", NO_PERMS, **single(engine)),
    ):
        pause.wait()
        assert (tmp_path / "dst/b").stat().st_mode & 0o7777 == 0o755
        looking.start()
        looking.join(0.3)
        pause.resume()
    looking.join()
    assert [mode & 0o7777 for mode in modes] == [0o4755]
    after = (tmp_path / "dst/b").stat()
    assert (after.st_uid, after.st_mode & 0o7777) == (65534, 0o4755)
