"""Backups where links cannot be made, where nothing can be kept, and under failures."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from threading import Event, Thread

import pytest

from arsync.model import ChangeFlag, Op
from arsync.uring.executor import Executor
from arsync.uring.faults import FOREVER, Action, Pause, fault, paused_at
from tests.kit import Dir, File, HardLink, Pattern, Symlink, Tree, make, read
from tests.kit.filesystems import filesystem
from tests.kit.syncing import litter, run, single
from tests.requirements import need_filesystem, need_uring

NEW = Tree({"d": {"f": File(b"new"), "l": Symlink("new")}, "n": File(b"n"), "t": {"x": File()}})
OLD = Tree(
    {
        "d": Dir(
            {"f": File(b"older", mode=0o640, uid=3, mtime_ns=7), "l": Symlink("old")}, mode=0o751
        ),
        "t": File(b"t", mtime_ns=9),
    }
)


@pytest.fixture(params=["uring", "sync"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test once on each engine."""
    if request.param == "uring":
        need_uring()
    return str(request.param)


def trees(place: Path) -> tuple[Path, Path]:
    """Make source and destination."""
    make(NEW, place / "src")
    make(OLD, place / "dst")
    return place / "src", place / "dst"


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
def test_where_no_link_can_be_made(tmp_path: Path, engine: str, error: int) -> None:
    """It is renamed, and copied to another filesystem: the backup is what the file was."""
    src, dst = trees(tmp_path)
    before = read(dst)
    with fault(Op.LINK, Action.ERROR, error, count=FOREVER):
        ran = run(src, dst, engine=engine, backup=True, backup_dir=b"bak")
    assert ran.code == 0
    after = read(dst)
    for name in (b"d/f", b"d/l", b"t"):
        kept, old = after[b"bak/" + name], before[name]
        assert (kept.kind, kept.mode, kept.uid, kept.mtime_ns) == (
            old.kind,
            old.mode,
            old.uid,
            old.mtime_ns,
        )
        assert (kept.content, kept.target) == (old.content, old.target)
    assert after[b"d/f"].content == read(src)[b"d/f"].content
    assert after[b"bak/d"].mode == 0o751
    assert ChangeFlag.BACKED_UP in ChangeFlag(ran.changes[b"d/f"].flags)
    assert ChangeFlag.BACKED_UP not in ChangeFlag(ran.changes[b"n"].flags)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("size", [5, 33 << 20])
def test_what_cannot_be_kept_is_not_replaced(
    tmp_path: Path, engine: str, inplace: bool, size: int
) -> None:
    """The old file stays as it is, under its name, and is a failure of its own."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(Pattern(size, 1)), "g": File(b"g")}), src)
    make(Tree({"f": File(Pattern(size, 2), mtime_ns=5), "f~": {"in the way": File()}}), dst)
    before = read(dst)
    ran = run(src, dst, engine=engine, backup=True, inplace=inplace)
    assert ran.code == 23
    assert ran.failed == [(b"f", Op.BACKUP, errno.ENOTEMPTY)]
    after = read(dst)
    assert after[b"f"].content == before[b"f"].content
    assert b"g" in after
    assert b"f~/in the way" in after
    assert litter(dst) == []


def test_a_second_try_keeps_what_the_first_one_found(tmp_path: Path, engine: str) -> None:
    """Where writing in place fails in the middle and starts anew, the backup stays the old file."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(Pattern(5 << 20, 1))}), src)
    make(Tree({"f": File(Pattern(5 << 20, 2), mtime_ns=5)}), dst)
    before = read(dst)[b"f"].content
    copied = 5 << 20 >> 18  # writes of the backup itself, without a reflink
    with (
        fault(Op.REFLINK, Action.ERROR, errno.EOPNOTSUPP, count=FOREVER),
        fault(Op.WRITE, Action.ERROR, errno.EAGAIN, skip=copied + 1),
    ):
        ran = run(src, dst, **single(engine), backup=True, inplace=True)
    assert ran.code == 0
    assert ran.report.counts.retries == 1
    assert read(dst)[b"f~"].content == before
    assert read(dst)[b"f"].content == read(src)[b"f"].content


def test_a_backup_directory_on_another_filesystem(tmp_path: Path, engine: str) -> None:
    """It is made with all directories on the way, and holds copies."""
    need_filesystem("ext4")
    src, dst = trees(tmp_path)
    before = read(dst)
    with filesystem("ext4") as other:
        target = other.path / "a/b"
        ran = run(src, dst, engine=engine, backup=True, backup_dir=os.fsencode(target))
        assert ran.code == 0
        kept = read(target)
    assert set(kept) == {b"", b"d", b"d/f", b"d/l", b"t"}
    assert kept[b"d/f"].content == before[b"d/f"].content
    assert kept[b"d/f"].mtime_ns == 7


def test_a_directory_that_is_a_link_leads_nowhere(tmp_path: Path, engine: str) -> None:
    """A symlink among the backups is not followed; what would be kept there is not replaced."""
    src, dst = trees(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    make(Tree({"d": Symlink(os.fsencode(outside))}), tmp_path / "bak")
    ran = run(src, dst, engine=engine, backup=True, backup_dir=b"../bak")
    assert ran.code == 23
    assert {(path, op) for path, op, _ in ran.failed} == {(b"d/f", Op.BACKUP), (b"d/l", Op.BACKUP)}
    assert list(outside.iterdir()) == []
    assert (dst / "d/f").read_bytes() == b"older"


def test_ctrl_c_ends_a_copy_that_is_a_backup(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a backup goes away, and the file that it is of has not been touched."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(Pattern(5 << 20, 1))}), src)
    make(Tree({"f": File(Pattern(5 << 20, 2), mtime_ns=5)}), dst)
    before = read(dst)[b"f"].content
    stopped = Event()
    stop = Executor.stop

    def stop_and_tell(executor: Executor) -> None:
        stop(executor)
        stopped.set()

    monkeypatch.setattr(Executor, "stop", stop_and_tell)

    def interrupt(pause: Pause) -> None:
        pause.wait()
        os.kill(os.getpid(), signal.SIGINT)
        stopped.wait()
        pause.resume()

    no_reflink = fault(Op.REFLINK, Action.ERROR, errno.EOPNOTSUPP, count=FOREVER)
    with no_reflink, paused_at(Op.WRITE, skip=2) as pause:
        thread = Thread(target=interrupt, args=(pause,))
        thread.start()
        ran = run(src, dst, **single(engine), backup=True, inplace=True)
        thread.join()
    assert isinstance(ran.error, KeyboardInterrupt)
    assert {path: entry.content for path, entry in read(dst).items() if path} == {b"f": before}


@pytest.mark.parametrize("inplace", [False, True])
def test_a_file_that_is_its_own_backup(tmp_path: Path, engine: str, inplace: bool) -> None:
    """Where both names are one file already, the old content stays under the backup's."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(b"new")}), src)
    make(Tree({"f": File(b"older", mtime_ns=5), "f~": HardLink("f")}), dst)
    assert run(src, dst, engine=engine, backup=True, inplace=inplace).code == 0
    assert (dst / "f").read_bytes() == b"new"
    assert (dst / "f~").read_bytes() == b"older"
