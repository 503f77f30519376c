"""What ends a lane: a disk that takes no more, and memory that is not there."""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.errors import FileError, OutOfMemoryError
from arsync.model import Op, Problem, ProblemKind, Side
from arsync.options import ARCHIVE
from arsync.refusal import refusal_text
from arsync.settings import choose_run_engine, make_settings
from arsync.uring.executor import Executor, Limit
from arsync.uring.faults import FOREVER, Action, fault, passes
from arsync.uring.rules import Identity, Rules
from arsync.uring.scanner import Root
from arsync.wording import VERBS
from tests.kit import File, Pattern, Tree, assert_same, make
from tests.kit.children import NOBODY, become_nobody, in_child
from tests.kit.filesystems import filesystem
from tests.kit.syncing import BIG, open_descriptors, options_of, run, single
from tests.requirements import need_root, need_unprivileged

pytestmark = pytest.mark.usefixtures("no_litter")

GIB = 1 << 30
ADVICE = {
    errno.ENOSPC: "make room and run the same command again",
    errno.EDQUOT: "make room within the quota and run the same command again",
    errno.EROFS: "the destination is mounted read-only",
}


@pytest.mark.parametrize("error", ADVICE)
@pytest.mark.parametrize("op", [Op.CREATE, Op.WRITE, Op.RENAME])
@pytest.mark.parametrize("size", [3, BIG + 1], ids=["small", "big"])
def test_a_destination_that_takes_no_more_ends_the_run(
    tmp_path: Path, engine: str, size: int, op: Op, error: int
) -> None:
    """Exit code 11, with the file, the reason and what to do; the next run finishes it."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(Pattern(size))}), src)
    dst.mkdir()
    with fault(op, Action.ERROR, error, count=FOREVER):
        ran = run(src, dst, copy_method="read_write", **single(engine))
        assert passes(op) > 0
    assert isinstance(ran.error, FileError)
    text = str(ran.error)
    assert (ran.code, text.partition("; ")[2]) == (11, ADVICE[error])
    assert text.startswith(f"cannot {VERBS[op]} '{dst}/f': {os.strerror(error)}")
    assert (f": the filesystem of '{dst}' has no " in text) == (error == errno.ENOSPC)
    assert os.listdir(dst) == []
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)


def test_a_filesystem_without_inodes_is_not_called_full(tmp_path: Path, engine: str) -> None:
    """What ran out is said with its figures: room there is plenty."""
    need_root()
    make(Tree({str(number): File(b"x") for number in range(100)}), tmp_path / "src")
    with filesystem("tmpfs", options="nr_inodes=50") as small:
        ran = run(tmp_path / "src", small.path, engine=engine)
    assert ran.code == 11
    text = str(ran.error)
    assert f"cannot create a temporary file for '{small.path}/" in text
    assert f"the filesystem of '{small.path}' has no inodes left (" in text
    assert " of 50 are free); make room" in text


def test_a_full_temporary_directory_is_not_the_destination(tmp_path: Path, engine: str) -> None:
    """The filesystem that took no more is named, with the option that chose it."""
    need_root()
    src = tmp_path / "src"
    make(Tree({"f": File(Pattern(3 << 20))}), src)
    with filesystem("tmpfs", size_bytes=1 << 20) as small:
        temp = os.fsencode(small.path)
        ran = run(src, tmp_path / "dst", engine=engine, temp_dir=temp, copy_method="read_write")
    assert ran.code == 11
    assert f"'{tmp_path}/dst/f': No space left on device: the filesystem of " in str(ran.error)
    assert f"'{small.path}' (--temp-dir) has no room for it (" in str(ran.error)


def test_a_destination_that_went_away_is_still_named(tmp_path: Path) -> None:
    """Where the filesystem cannot be asked any more the sentence does without its figures."""
    problem = Problem(b"d/f", ProblemKind.FAILED, Op.WRITE, Side.DST, errno.ENOSPC)
    text = refusal_text(problem, os.fsencode(tmp_path), os.fsencode(tmp_path / "gone"))
    assert text == (
        f"cannot write '{tmp_path}/d/f': No space left on device; "
        "make room and run the same command again"
    )


def test_a_lane_without_memory_is_said_as_such(tmp_path: Path) -> None:
    """Where the buffers do not fit into the address space; nothing of the lane is left."""
    options = options_of(engine="sync")
    rules = Rules(options, 1, Identity.current())

    def ask() -> list[object]:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + 8 * GIB  # a sanitizer's shadow is 20 TiB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with Root(os.fsencode(tmp_path)) as root:
            settings = make_settings(options, choose_run_engine(options.engine), root, root, -1)
            before = open_descriptors()
            with pytest.raises(OutOfMemoryError) as raised:
                Executor(replace(settings, memory_bytes=GIB << 6), rules, Limit(0))
            with Executor(settings, rules, Limit(0)):
                pass
            return [str(raised.value), open_descriptors() - before]

    assert in_child(ask) == ["out of memory for the buffers of a lane", 0]


@pytest.mark.parametrize("size", [3, BIG + 1], ids=["small", "big"])
def test_in_place_of_a_file_that_its_owner_may_not_write(
    tmp_path: Path, engine: str, size: int
) -> None:
    """--inplace: the owner's file is written whatever its mode, somebody else's is not."""
    need_root()
    need_unprivileged()
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({name: File(Pattern(size), mode=0o444) for name in ("ours", "theirs")}), src)
    make(Tree({name: File(b"old", mode=0o444, mtime_ns=1) for name in ("ours", "theirs")}), dst)
    for path in (dst, dst / "ours"):
        os.chown(path, NOBODY, NOBODY)
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        os.chmod(directory, os.stat(directory).st_mode | 0o011)
    before = os.lstat(dst / "ours").st_ino

    def copy() -> list[object]:
        become_nobody()
        ran = run(src, dst, ARCHIVE, engine=engine, inplace=True)
        return [ran.code, [(os.fsdecode(path), op, error) for path, op, error in ran.failed]]

    assert in_child(copy) == [23, [["theirs", Op.OPEN_TARGET, errno.EACCES]]]
    assert os.lstat(dst / "ours").st_ino == before
    assert (dst / "ours").read_bytes() == (src / "ours").read_bytes()
    assert os.lstat(dst / "ours").st_mode & 0o7777 == 0o444
    assert (dst / "theirs").read_bytes() == b"old"
