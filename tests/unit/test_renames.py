"""What moved in the source is renamed at the destination, and not copied."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from arsync.filters import Filters, parse_filters
from arsync.itemize import LineFormat
from arsync.model import Kind, Op
from arsync.options import ARCHIVE, DeletePolicy, ManifestPolicy
from arsync.uring.faults import fault
from tests.kit.compare import assert_same
from tests.kit.manifests import recorded
from tests.kit.meddling import rewrite, touch
from tests.kit.snapshot import read
from tests.kit.syncing import BIG, CHUNK, Ran
from tests.kit.trees import Trees


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    """Lend a source and a place for its destination."""
    return Trees(tmp_path)


def assert_moved(ran: Ran, moved: dict[bytes, bytes]) -> None:
    """See that these names, and no others, were renamed, and that no byte was copied."""
    found = {path: one.link for path, one in ran.changes.items() if one.kind == Kind.MOVE}
    assert found == moved
    assert ran.code == 0
    assert ran.report.renames == len(moved)
    counts = ran.report.counts
    assert (counts.done_files, counts.done_bytes, counts.moved_bytes) == (0, 0, 0)


def swap(trees: Trees, *names: str) -> None:
    """Give each file the name of the next one, and the last one that of the first."""
    trees.rename(names[-1], ".spare")
    for old, new in reversed([*pairwise(names)]):
        trees.rename(old, new)
    trees.rename(".spare", names[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("one", "two"),
        ("a/one", "a/two"),
        ("a/one", "b/one"),
        ("one", "new/deep/one"),
        ("a/b/one", "one"),
        ("one", "n\udcff\udc80\n"),
        ("l\udcff", "m"),
        ("one", "x" * 255),
    ],
)
def test_a_file_is_renamed(trees: Trees, old: str, new: str) -> None:
    """Whatever the names and wherever they are: the inode stays, and nothing is deleted."""
    trees.write(old)
    trees.write("stays")
    trees.sync()
    inode = (trees.dst / old).stat().st_ino
    trees.rename(old, new)
    ran = trees.sync()
    assert_moved(ran, {os.fsencode(new): os.fsencode(old)})
    assert ran.report.counts.deleted_files == 0
    assert (trees.dst / new).stat().st_ino == inode
    trees.same()


def test_what_is_recorded_after_a_move_is_right(trees: Trees) -> None:
    """A file moves again and again, each time from where the run before has put it."""
    trees.write("one")
    trees.sync()
    for old, new in (("one", "a/one"), ("a/one", "a/two"), ("a/two", "one")):
        trees.rename(old, new)
        assert_moved(trees.sync(), {os.fsencode(new): os.fsencode(old)})
        trees.same()
    assert trees.sync().changes == {}


def test_attributes_change_with_the_name(trees: Trees) -> None:
    """Mode and owner of a renamed file are set; the line says so."""
    trees.write("one")
    trees.sync()
    trees.rename("one", "two")
    (trees.src / "two").chmod(0o600)
    ran = trees.sync()
    assert_moved(ran, {b"two": b"one"})
    assert LineFormat("%i %n%L", 8).line(ran.changes[b"two"]) == "mf...p..... two <- one"
    trees.same()


def test_extended_attributes_change_with_the_name(trees: Trees) -> None:
    """Those that are gone are taken away."""
    path = trees.write("one")
    os.setxattr(path, "user.old", b"1")
    keep = replace(ARCHIVE, xattrs=True)
    trees.sync(keep)
    trees.rename("one", "two")
    os.removexattr(trees.src / "two", "user.old")
    os.setxattr(trees.src / "two", "user.new", b"2")
    assert_moved(trees.sync(keep), {b"two": b"one"})
    assert os.listxattr(trees.dst / "two") == ["user.new"]


@pytest.mark.parametrize(
    "names", [("a", "b"), ("a", "b", "c"), ("d/a", "e/b"), ("d/a", "e/b", "c")], ids="".join
)
def test_names_change_places(trees: Trees, names: tuple[str, ...]) -> None:
    """An exchange and a circle, in one directory or in several of one batch."""
    for length, name in enumerate(names):
        trees.write(name, bytes([65 + length]) * (1000 + length))
    trees.sync()
    swap(trees, *names)
    ran = trees.sync(scan_threads=1)
    trees.same()
    in_one = len({os.path.dirname(name) for name in names}) == 1
    if in_one or "c" not in names:
        moved = {new: old for old, new in zip(names, (*names[1:], names[0]), strict=True)}
        assert_moved(ran, {os.fsencode(new): os.fsencode(old) for new, old in moved.items()})
    assert not [name for name in os.listdir(trees.dst) if name.startswith(".arsync")]


def test_one_is_renamed_over_another(trees: Trees) -> None:
    """The other one's file is gone then, and a third may have its name."""
    for name in ("a", "b", "c"):
        trees.write(name, name.encode() * (ord(name) * 10))
    trees.sync()
    trees.rename("b", "c")
    trees.rename("a", "b")
    assert_moved(trees.sync(), {b"b": b"a", b"c": b"b"})
    trees.same()


def test_a_new_file_takes_the_old_name(trees: Trees) -> None:
    """The old file is renamed, the new one copied: as log files rotate."""
    trees.write("log", b"old" * 1000)
    trees.sync()
    inode = (trees.dst / "log").stat().st_ino
    trees.rename("log", "log.1")
    trees.write("log", b"new")
    ran = trees.sync()
    assert ran.changes[b"log.1"].kind == Kind.MOVE
    assert (ran.report.copied_files, ran.report.copied_bytes) == (1, 3)
    assert (trees.dst / "log.1").stat().st_ino == inode
    trees.same()


def test_edits_elsewhere_are_copied(trees: Trees) -> None:
    """What is edited beside a rename, and what is edited and renamed, is copied."""
    for name in ("moves", "edited", "both"):
        trees.write(f"d/{name}")
    trees.sync()
    trees.rename("d/moves", "e/moves")
    trees.write("d/edited", b"other")
    trees.rename("d/both", "e/both")
    trees.write("e/both", b"other, too")
    ran = trees.sync()
    kinds = {path: one.kind for path, one in ran.changes.items() if one.kind != Kind.DIR}
    assert kinds == {
        b"e/moves": Kind.MOVE,
        b"d/edited": Kind.DATA,
        b"e/both": Kind.DATA,
        b"d/both": Kind.DELETE,
    }
    trees.same()


@pytest.mark.parametrize("old", ["d", "deep/er/d"])
@pytest.mark.parametrize("new", ["new", "there/new"])
def test_a_directory_is_renamed_once(trees: Trees, old: str, new: str) -> None:
    """All that is in it comes along, and is as if it had always been there."""
    for name in (f"{old}/one", f"{old}/sub/two", f"{old}/sub/sub/three", "there/is"):
        trees.write(name)
    (trees.src / old / "link").symlink_to("one")
    trees.sync()
    inode = (trees.dst / old).stat().st_ino
    trees.rename(old, new)
    ran = trees.sync()
    assert_moved(ran, {os.fsencode(new): os.fsencode(old)})
    assert ran.report.counts.checked_files == 0
    assert ran.report.counts.deleted == 0
    assert (trees.dst / new).stat().st_ino == inode
    trees.same()
    assert trees.sync().changes == {}
    trees.check_manifest()
    trees.rename(new, old)
    assert_moved(trees.sync(), {os.fsencode(old): os.fsencode(new)})
    trees.same()
    trees.check_manifest()


def test_a_line_tells_of_a_renamed_directory(trees: Trees) -> None:
    """It has a slash at its end, as directories have."""
    trees.write("d/one")
    trees.sync()
    trees.rename("d", "new")
    ran = trees.sync()
    assert LineFormat("%i %n%L", 8).line(ran.changes[b"new"]) == "md......... new/ <- d"
    trees.same()


def test_below_a_directory_in_a_new_one_files_are_renamed(trees: Trees) -> None:
    """The directory above is made by a lane: it is not there when the walk comes to it."""
    trees.write("d/one")
    trees.write("d/sub/two")
    trees.sync()
    trees.rename("d", "new/d")
    ran = trees.sync()
    assert_moved(ran, {b"new/d/one": b"d/one", b"new/d/sub/two": b"d/sub/two"})
    trees.same()


def test_what_is_in_a_renamed_directory_is_compared(trees: Trees) -> None:
    """Edits, new and deleted files, and what somebody did to the destination's."""
    for name in ("edited", "gone", "stays", "spoilt", "sub/out"):
        trees.write(f"d/{name}")
    trees.sync()
    trees.rename("d", "new")
    trees.write("new/edited", b"other")
    trees.write("new/more")
    (trees.src / "new/gone").unlink()
    trees.rename("new/sub/out", "out")
    rewrite(trees.dst / "d/spoilt")
    (trees.dst / "d/extra").write_bytes(b"")
    ran = trees.sync()
    kinds = {path: one.kind for path, one in ran.changes.items() if one.kind != Kind.DIR}
    wanted = {
        b"new/edited": Kind.DATA,
        b"new/more": Kind.DATA,
        b"new/spoilt": Kind.DATA,
        b"new/gone": Kind.DELETE,
        b"new/extra": Kind.DELETE,
        b"out": Kind.MOVE,
    }
    assert ran.report.renames == 2
    # what is found in a directory after it was renamed may have left it by then
    assert {**kinds, **wanted} == kinds
    assert set(kinds) - set(wanted) <= {b"new/sub/out"}
    trees.same()
    trees.check_manifest()


def test_a_renamed_directory_takes_the_name_of_one_that_was(trees: Trees) -> None:
    """What was recorded under the name goes with it."""
    trees.write("old/one")
    trees.write("new/sub/two")
    trees.sync()
    shutil.rmtree(trees.src / "new")
    trees.sync()
    trees.rename("old", "new")
    assert_moved(trees.sync(), {b"new": b"old"})
    trees.same()
    trees.check_manifest()


def test_a_new_directory_has_the_old_name(trees: Trees) -> None:
    """The old one's files are renamed one by one; both are recorded."""
    trees.write("d/one")
    trees.sync()
    trees.rename("d", "new")
    trees.write("d/two")
    ran = trees.sync()
    assert ran.changes[b"new/one"].kind == Kind.MOVE
    trees.same()
    trees.check_manifest()
    assert trees.sync().changes == {}


def test_a_giant_directory_is_renamed_once(trees: Trees) -> None:
    """One of several pages."""
    for number in range(2100):
        trees.write(f"a/{number:05}", b"%d" % number)
    trees.sync()
    trees.rename("a", "b")
    assert_moved(trees.sync(), {b"b": b"a"})
    trees.same()
    trees.check_manifest()
    assert trees.sync().changes == {}


def test_many_directories_are_renamed(trees: Trees) -> None:
    """By several threads of the walk, with the directories in them."""
    for number in range(200):
        trees.write(f"top{number % 10}/d{number:03}/sub/one", b"%d" % number)
    trees.sync()
    for number in range(0, 200, 2):
        old = f"top{number % 10}/d{number:03}"
        trees.rename(old, f"top{(number + 1) % 10}/new{number:03}")
    ran = trees.sync()
    assert ran.report.renames == 100
    assert ran.report.counts.done_bytes == 0
    trees.same()
    trees.check_manifest()
    assert trees.sync().changes == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"filters": parse_filters([("filter", b"- *.o")], Path.read_bytes)},  # type: ignore[arg-type]
        {"update": True},
        {"size_only": True},
        {"prune_empty_dirs": True},
    ],
    ids=lambda one: next(iter(one)),
)
def test_directories_that_are_not_renamed_at_once(trees: Trees, settings: dict[str, Any]) -> None:
    """Where something in them could be meant to stay, only their files move."""
    trees.write("d/one")
    trees.sync(**settings)
    trees.rename("d", "new")
    assert_moved(trees.sync(**settings), {b"new/one": b"d/one"})
    trees.same()


def test_a_directory_that_cannot_be_renamed(trees: Trees) -> None:
    """Its files are renamed then."""
    trees.write("d/one")
    trees.sync()
    trees.rename("d", "new")
    with fault(Op.RENAME, value=errno.EIO, count=1):
        ran = trees.sync()
    assert_moved(ran, {b"new/one": b"d/one"})
    trees.same()


def test_a_directory_moves_into_itself(trees: Trees) -> None:
    """From a to a/b: no byte is copied."""
    trees.write("a/one")
    trees.write("a/sub/two")
    trees.sync()
    trees.rename("a", "spare")
    trees.rename("spare", "a/b")
    counts = trees.sync().report.counts
    assert (counts.done_files, counts.done_bytes) == (0, 0)
    trees.same()


def test_two_directories_change_places(trees: Trees) -> None:
    """The files of the one go into the other."""
    for name in ("a", "b"):
        trees.write(f"{name}/one", name.encode() * (ord(name)))
        trees.write(f"{name}/only-{name}")
    trees.sync()
    swap(trees, "a", "b")
    counts = trees.sync(scan_threads=1).report.counts
    assert (counts.done_files, counts.done_bytes, counts.deleted_files) == (0, 0, 0)
    trees.same()


def test_a_giant_directory_loses_its_files(trees: Trees) -> None:
    """More names than a page holds, to another directory of many pages and in another order."""
    count = 2500
    for number in range(count):
        trees.write(f"a/{number:05}", b"%d" % number)
    trees.sync()
    for number in range(count):
        trees.rename(f"a/{number:05}", f"b/{count - number:05}")
    ran = trees.sync()
    assert_moved(ran, {b"b/%05d" % (count - one): b"a/%05d" % one for one in range(count)})
    trees.same()
    assert trees.sync().changes == {}


# ------------------------------------------------------------------------ hard links


def test_one_name_of_several_moves(trees: Trees) -> None:
    """Without -H each name has a file of its own, and its own is the one that moves."""
    path = trees.write("one")
    os.link(path, trees.src / "two")
    trees.sync()
    inodes = {name: (trees.dst / name).stat().st_ino for name in ("one", "two")}
    trees.rename("two", "three")
    assert_moved(trees.sync(), {b"three": b"two"})
    assert (trees.dst / "three").stat().st_ino == inodes["two"]
    assert (trees.dst / "one").stat().st_ino == inodes["one"]
    trees.same(links=False)


def test_a_further_name_is_no_move(trees: Trees) -> None:
    """The old name is still there: without -H it is copied."""
    path = trees.write("one")
    trees.sync()
    os.link(path, trees.src / "two")
    ran = trees.sync()
    assert ran.changes[b"two"].kind == Kind.DATA
    trees.same(links=False)


def test_linked_names_move_together(trees: Trees) -> None:
    """With -H they are one file before and after; not a byte is copied."""
    keep = replace(ARCHIVE, hard_links=True)
    path = trees.write("a/one")
    os.link(path, trees.src / "a/two")
    trees.sync(keep)
    trees.rename("a/one", "b/one")
    trees.rename("a/two", "b/two")
    counts = trees.sync(keep).report.counts
    assert (counts.done_files, counts.done_bytes) == (0, 0)
    assert (trees.dst / "b/one").stat().st_ino == (trees.dst / "b/two").stat().st_ino
    assert sorted(os.listdir(trees.dst)) == sorted(os.listdir(trees.src))
    assert os.listdir(trees.dst / "a") == []


# ----------------------------------------------------------------- where nothing may move


def rules(*texts: bytes) -> Filters:
    """Parse filter rules."""
    return parse_filters([("filter", text) for text in texts], Path.read_bytes)  # type: ignore[arg-type]


def copied(trees: Trees, **settings: Any) -> None:
    """Rename one file, and see that it is copied and its old name left to deletion."""
    trees.rename("d/one", "two")
    ran = trees.sync(**settings)
    assert ran.code == 0
    assert ran.changes[b"two"].kind == Kind.DATA
    assert (trees.dst / "two").read_bytes() == (trees.src / "two").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"delete": DeletePolicy()},
        {"filters": rules(b"P one")},
        {"filters": rules(b"P /d/**")},
    ],
    ids=["no deletion", "protected", "all in it protected"],
)
def test_an_old_name_that_stays_is_not_moved(trees: Trees, settings: dict[str, Any]) -> None:
    """Without a deletion in force for it, it keeps its file."""
    trees.write("d/one")
    trees.sync(**settings)
    content = (trees.dst / "d/one").read_bytes()
    copied(trees, **settings)
    assert (trees.dst / "d/one").read_bytes() == content


def test_a_directory_that_stays_keeps_its_files(trees: Trees) -> None:
    """A rule protects it, the source has it no more: what moved out of it is copied."""
    trees.write("keep/d/one")
    settings = {"filters": rules(b"P /keep/")}
    trees.sync(**settings)
    trees.rename("keep/d/one", "two")
    (trees.src / "keep/d").rmdir()
    (trees.src / "keep").rmdir()
    ran = trees.sync(**settings)
    assert ran.changes[b"two"].kind == Kind.DATA
    assert (trees.dst / "keep/d/one").exists()


def test_merge_files_leave_what_they_might_protect(trees: Trees) -> None:
    """Nobody has read those of the old directory: the old name is deleted, not renamed."""
    trees.write("d/one")
    settings = {"filters": rules(b"dir-merge .rules")}
    trees.sync(**settings)
    copied(trees, **settings)
    trees.same()


@pytest.mark.parametrize(
    "settings",
    [
        {"manifest": ManifestPolicy(detect_renames=False)},
        {"backup": True},
        {"checksum": True},
        {"ignore_times": True},
    ],
    ids=lambda one: next(iter(one)),
)
def test_options_that_copy_what_has_moved(trees: Trees, settings: dict[str, Any]) -> None:
    """--no-detect-renames, and what a rename would not do justice to."""
    trees.write("d/one")
    trees.sync(**settings)
    copied(trees, **settings)


@pytest.mark.parametrize("change", [touch, rewrite, Path.unlink])
def test_another_process_was_at_the_destination(
    trees: Trees, change: Callable[[Path], object]
) -> None:
    """A file that is not as recorded is no content for a new name."""
    trees.write("d/one")
    trees.sync()
    change(trees.dst / "d/one")
    copied(trees)
    trees.same()


def test_an_inode_that_is_used_again_is_another_file(trees: Trees) -> None:
    """Inode, size and mtime are the same, the birth time is not."""
    old = trees.write("d/one", b"x" * 100)
    os.utime(old, ns=(10**18, 10**18))
    trees.sync()
    old.unlink()
    two = trees.write("two", b"y" * 100)
    os.utime(two, ns=(10**18, 10**18))
    ran = trees.sync()
    assert ran.changes[b"two"].kind == Kind.DATA
    trees.same()


@pytest.mark.parametrize("size", [100, CHUNK + 100, BIG + 100])
def test_a_file_that_was_rewritten_is_copied_whatever_its_name(trees: Trees, size: int) -> None:
    """Its ctime has moved, as by a rename: it is read, and what is in it decides."""
    trees.write("d/one", b"x" * size)
    trees.write("d/same", b"y" * size)
    trees.sync()
    rewrite(trees.src / "d/one")
    trees.rename("d/same", "same")
    copied(trees)
    assert (trees.dst / "same").read_bytes() == (trees.src / "same").read_bytes()


def test_a_big_file_is_renamed(trees: Trees) -> None:
    """All lanes look at it, and one renames it."""
    trees.write("one", b"x" * BIG)
    trees.sync()
    trees.rename("one", "two")
    ran = trees.sync()
    assert_moved(ran, {b"two": b"one"})
    assert ran.report.counts.checked_files == 1
    trees.same()


def test_files_of_a_renamed_directory_are_not_read(trees: Trees) -> None:
    """Their own ctimes are as recorded."""
    trees.write("a/one")
    trees.sync()
    trees.rename("a", "b")
    ran = trees.sync()
    assert_moved(ran, {b"b": b"a"})
    assert ran.report.counts.checked_files == 0


@pytest.mark.parametrize("op", [Op.RENAME, Op.OPEN_TARGET])
def test_what_cannot_be_moved_is_copied(trees: Trees, op: Op) -> None:
    """A rename or a look at the old file that fails costs a copy, and the old name goes."""
    trees.write("d/one")
    trees.sync()
    trees.rename("d/one", "two")
    with fault(op, value=errno.EIO, count=1):
        ran = trees.sync()
    assert ran.code == 0
    assert ran.changes[b"two"].kind == Kind.DATA
    assert ran.changes[b"d/one"].kind == Kind.DELETE
    trees.same()


def test_an_exchange_that_cannot_be_is_copied(trees: Trees) -> None:
    """Without second names for the old files both are copied, and nothing is left behind."""
    trees.write("a", b"a" * 10)
    trees.write("b", b"b" * 20)
    trees.sync()
    swap(trees, "a", "b")
    with fault(Op.LINK, value=errno.EPERM, count=9):
        ran = trees.sync()
    assert ran.report.copied_files == 2
    trees.same()


# ------------------------------------------------------------------------- beside others


def test_a_dry_run_says_what_a_run_does(trees: Trees) -> None:
    """Moves, and no copy and no deletion of what moves."""
    for name in ("a", "b", "d/one", "d/two"):
        trees.write(name, name.encode() * ord(name[-1]))
    trees.sync()
    swap(trees, "a", "b")
    trees.rename("d/one", "e/one")
    before = read(trees.dst)
    planned = trees.sync(dry_run=True)
    assert_same(before, read(trees.dst))
    ran = trees.sync()
    assert {(path, one.kind, one.why, one.link) for path, one in planned.changes.items()} == {
        (path, one.kind, one.why, one.link) for path, one in ran.changes.items()
    }
    assert planned.report.renames == ran.report.renames == 3
    assert planned.report.copied_files == 0
    trees.same()


def test_a_move_is_no_deletion_for_a_limit(trees: Trees) -> None:
    """--max-delete=0 lets files move; what is really gone stays."""
    for name in ("d/one", "d/two"):
        trees.write(name)
    trees.sync()
    trees.rename("d/one", "e/one")
    limit = DeletePolicy(when="after", max_delete=0)
    assert_moved(trees.sync(delete=limit), {b"e/one": b"d/one"})
    (trees.src / "d/two").unlink()
    trees.rename("e/one", "d/one")
    ran = trees.sync(delete=limit)
    assert ran.code == 25
    assert ran.changes[b"d/one"].kind == Kind.MOVE
    assert (trees.dst / "d/two").exists()


def test_a_recorded_hash_goes_with_the_file(trees: Trees) -> None:
    """The destination's file is the same; the source's is read when somebody asks for it."""
    trees.write("one", b"x" * (CHUNK // 2))
    trees.sync()
    (before,) = (one.rows[b"one"] for one in recorded(trees.state, trees.dst).values())
    trees.rename("one", "two")
    trees.sync()
    (after,) = (one.rows[b"two"] for one in recorded(trees.state, trees.dst).values())
    assert before.hash == after.hash
    assert before.hash.strip(b"\0")


def test_each_batch_has_its_own_moves(trees: Trees) -> None:
    """Many directories, several batches and threads, all at once."""
    for number in range(300):
        trees.write(f"d{number:03}/one", b"%d" % number)
    trees.sync()
    for number in range(0, 300, 2):
        trees.rename(f"d{number:03}/one", f"d{number + 1:03}/two")
    ran = trees.sync()
    assert_moved(ran, {b"d%03d/two" % (one + 1): b"d%03d/one" % one for one in range(0, 300, 2)})
    trees.same()


def test_a_dry_run_reads_a_big_file_that_moves_into_a_new_directory(trees: Trees) -> None:
    """There is no such directory yet, and none is needed to tell."""
    trees.write("one", b"x" * BIG)
    trees.sync()
    trees.rename("one", "new/two")
    ran = trees.sync(dry_run=True)
    assert ran.code == 0
    assert {path: one.kind for path, one in ran.changes.items() if path == b"new/two"} == {
        b"new/two": Kind.MOVE
    }
