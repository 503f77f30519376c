"""Deletion: limits, guards, what stays, and what happens to extras meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from arsync import sync
from arsync.deletion import Found, why_kept
from arsync.errors import UsageError
from arsync.filters import parse_filters
from arsync.model import Kind, Op, ProblemKind, State, WarningKind
from arsync.options import (
    ARCHIVE,
    DeletePolicy,
    LinkPolicy,
    ManifestPolicy,
    SyncOptions,
    WritePolicy,
)
from arsync.uring.faults import FOREVER, fault, paused_at
from tests.kit import Dir, File, Symlink, Tree, make
from tests.kit.filesystems import Filesystems
from tests.kit.programs import run_arsync
from tests.kit.syncing import Ran, run, single
from tests.requirements import need_root, need_unprivileged

EXTRA = {"x": {"a": File(b"1"), "y": {"b": File(b"2")}}, "c": File(b"3")}


def names_in(place: Path) -> Iterable[str]:
    """Return the paths below a directory."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def places(tmp_path: Path, src: dict[str, Any] | None = None) -> tuple[Path, Path]:
    """Make a source of one file, and a destination with five extras."""
    make(Tree({"f": File(b"f")} if src is None else src), tmp_path / "src")
    make(Tree(EXTRA), tmp_path / "dst")
    return tmp_path / "src", tmp_path / "dst"


def delete(src: Path, dst: Path, **policy: Any) -> Any:
    """Run with --delete."""
    return run(src, dst, ARCHIVE, delete=DeletePolicy(**{"when": "after", **policy}))


# ------------------------------------------------------------------------- limits


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("limit", "goes"),
    [
        ({"max_delete": 5}, True),
        ({"max_delete": 4}, False),
        ({"max_delete": 0}, False),
        ({"max_percent": 100}, True),
        ({"max_percent": 99}, False),
    ],
)
def test_above_the_limit_nothing_goes(
    when: str, limit: dict[str, int], goes: bool, tmp_path: Path
) -> None:
    """The limit is judged on all extras, before the first goes; copies go on all the same."""
    src, dst = places(tmp_path)
    ran = delete(src, dst, when=when, **limit)
    assert (dst / "f").read_bytes() == b"f"
    assert ran.code == (0 if goes else 25)
    assert bool(ran.report.kept_back) is not goes
    assert ran.report.counts.deleted == (5 if goes else 0)
    assert names_in(dst) == (["f"] if goes else ["c", "f", "x", "x/a", "x/y", "x/y/b"])


def test_the_limit_holds_for_all_sources_together(tmp_path: Path) -> None:
    """Three extras for each of two sources are six, of which the first three do not go either."""
    for name in ("one", "two"):
        make(Tree({"f": File()}), tmp_path / name)
        make(Tree({"f": File(), "x": {"a": File(), "b": File()}}), tmp_path / "dst" / name)
    sources = [str(tmp_path / "one"), str(tmp_path / "two")]
    options = SyncOptions(delete=DeletePolicy(when="after", max_delete=5))
    assert sync(sources, tmp_path / "dst", options).exit_code == 25
    assert len(names_in(tmp_path / "dst")) == 10
    options = SyncOptions(delete=DeletePolicy(when="after", max_delete=6))
    assert sync(sources, tmp_path / "dst", options).exit_code == 0
    assert len(names_in(tmp_path / "dst")) == 4


def test_nothing_goes_before_the_copies_are_on_the_disk(tmp_path: Path) -> None:
    """Where the disk cannot take what was copied, every extra is still there."""
    src, dst = places(tmp_path)
    with fault(Op.SYNC, value=errno.EIO, count=FOREVER):
        ran = delete(src, dst, when="after")
    assert ran.code == 11
    assert len(names_in(dst)) == 6


def test_a_dry_run_is_judged_as_a_run_is(tmp_path: Path) -> None:
    """With -n the limit is told, no deletion is, and nothing is counted."""
    src, dst = places(tmp_path)
    policy = DeletePolicy(when="after", max_delete=1)
    ran = run(src, dst, ARCHIVE, delete=policy, dry_run=True)
    assert ran.code == 25
    assert not [one for one in ran.changes.values() if one.kind == Kind.DELETE]
    assert ran.report.counts.extra == 0


@pytest.mark.parametrize("text", ["", "%", "x", "1.5", "5%%", "1_0"])
def test_a_limit_that_is_no_number_is_refused(text: str) -> None:
    """--max-delete takes a number or a share."""
    outcome = run_arsync(["-a", "--delete", f"--max-delete={text}", "a", "b"])
    assert (outcome.code, b"--max-delete" in outcome.stderr) == (1, True)


def test_a_share_is_of_what_was_there() -> None:
    """The number that a share allows is rounded down, and the sentence names it."""
    policy = DeletePolicy(when="after", max_percent=50)
    assert why_kept(policy, Found(src=b"s", extra=2, entries=5)) == ""
    reason = why_kept(policy, Found(src=b"s", extra=3, entries=5))
    assert reason == "3 entries of DST not deleted: the limit is --max-delete=50%, which is 2 of 5"


# ------------------------------------------------------------------------- guards


def test_an_empty_source_empties_nothing(tmp_path: Path) -> None:
    """Where nothing at all is found in SRC, nothing goes unless that is asked for."""
    source, dst = places(tmp_path, {})
    ran = delete(source, dst)
    assert (ran.code, "--allow-empty-source" in ran.report.kept_back) == (25, True)
    assert len(names_in(dst)) == 5
    assert delete(source, dst, allow_empty_source=True).code == 0
    assert names_in(dst) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_read_errors_switch_deletion_off(when: str, tmp_path: Path) -> None:
    """What cannot be looked at in SRC keeps every extra, unless --ignore-errors is given."""
    src, dst = places(tmp_path, {"f": File(), "link": Symlink("nothing")})
    links = LinkPolicy(copy_links=True)
    policy = DeletePolicy(when=when)  # type: ignore[arg-type]
    ran = run(src, dst, ARCHIVE, delete=policy, links=links)
    assert (ran.code, "--ignore-errors" in ran.report.kept_back) == (23, True)
    assert (dst / "c").exists()
    ran = run(src, dst, ARCHIVE, delete=replace(policy, ignore_errors=True), links=links)
    assert (ran.code, ran.report.kept_back) == (23, "")
    assert names_in(dst) == ["f"]


def test_an_unreadable_directory_keeps_what_is_in_it(tmp_path: Path) -> None:
    """Also with --ignore-errors: what is missing in a list that broke off may be there."""
    src, dst = places(tmp_path, {"d": {"f": File()}})
    make(Tree({"old": File()}), dst / "d")
    # two passes for each of the two roots, then the directory
    with fault(Op.READ_DIR, value=errno.EIO, skip=4):
        policy = DeletePolicy(when="after", ignore_errors=True)
        ran = run(src, dst, ARCHIVE, delete=policy, **single("sync"))
    assert ran.code == 23
    assert names_in(dst) == ["d", "d/old"]


def test_a_missing_source_keeps_everything(tmp_path: Path) -> None:
    """One of several SRC that is not there is a read error, too."""
    src, dst = places(tmp_path)
    options = SyncOptions(delete=DeletePolicy(when="after"))
    report = sync([f"{src}/", tmp_path / "not there"], dst, options)
    assert report.exit_code == 23
    assert (dst / "c").exists()


# --------------------------------------------------------------------- what stays


def test_temporary_names_stay(tmp_path: Path) -> None:
    """A name of a run's temporary files is no extra, and keeps the directory that it is in."""
    src, dst = places(tmp_path)
    run_name = "0123456789abcdef01234567"
    for name in (f".arsync.{run_name}.0-1", f"x/y/.arsync.{run_name}.1-f"):
        (dst / name).touch()
    for name in (".arsync.short.0-1", f".arsync.{run_name}", f".arsync.{run_name}x"):
        (dst / name).touch()
    ran = delete(src, dst)
    assert ran.code == 0
    left = ["f", "x", "x/y", f"x/y/.arsync.{run_name}.1-f", f".arsync.{run_name}.0-1"]
    assert names_in(dst) == sorted(left)
    assert [one.kind for one in ran.report.warnings] == [WarningKind.KEPT]


def test_the_temporary_directory_stays(tmp_path: Path) -> None:
    """The --temp-dir inside DST is not deleted."""
    src, dst = places(tmp_path)
    (dst / "tmp").mkdir()
    options = SyncOptions(delete=DeletePolicy(when="after"), write=WritePolicy(temp_dir=b"tmp"))
    assert sync(f"{src}/", dst, options).exit_code == 0
    assert names_in(dst) == ["f", "tmp"]


def test_backups_stay(tmp_path: Path) -> None:
    """A --backup-dir inside DST is not deleted, nor is one made meanwhile."""
    src, dst = places(tmp_path)
    for when in ("before", "after", "after"):
        policy = DeletePolicy(when=when)  # type: ignore[arg-type]
        write = WritePolicy(backup=True, backup_dir=b"old/bak")
        assert sync(f"{src}/", dst, SyncOptions(delete=policy, write=write)).exit_code == 0
        old = ["old", "old/bak", "old/bak/c", "old/bak/x", "old/bak/x/a"]
        assert names_in(dst) == ["f", *old, "old/bak/x/y", "old/bak/x/y/b"]


def test_manifests_stay(tmp_path: Path) -> None:
    """The --state-dir inside DST is not deleted, whether this run uses a manifest or not."""
    src, dst = places(tmp_path)
    state = dst / "deep" / "state"
    state.parent.mkdir()
    for use in (True, True, False):
        policy = ManifestPolicy(manifest=use, state_dir=str(state))
        ran = run(src, dst, ARCHIVE, delete=DeletePolicy(when="after"), manifest=policy)
        assert ran.code == 0
        assert sorted(os.listdir(dst)) == ["deep", "f"]
        assert [*state.rglob("data.mdb")] != []


@pytest.mark.parametrize("dry_run", [True, False])
def test_backups_beside_keep_directories(dry_run: bool, tmp_path: Path) -> None:
    """A backup of a deleted file keeps its directory, and -n knows that."""
    src, dst = places(tmp_path)
    policy = DeletePolicy(when="after")
    ran = run(src, dst, ARCHIVE, delete=policy, backup=True, dry_run=dry_run)
    assert ran.code == 0
    gone = {path for path, one in ran.changes.items() if one.kind == Kind.DELETE}
    assert gone == {b"c", b"x/a", b"x/y/b"}
    if not dry_run:
        assert names_in(dst) == ["c~", "f", "x", "x/a~", "x/y", "x/y/b~"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_mount_points_stay(dry_run: bool, tmp_path: Path, filesystems: Filesystems) -> None:
    """What is mounted in an extra directory is neither entered nor removed, and keeps it."""
    src, dst = places(tmp_path)
    with filesystems.mount("ext4").directory() as elsewhere:
        (elsewhere / "precious").touch()
        (dst / "x" / "m").mkdir()
        need_root()
        subprocess.run(["mount", "--bind", elsewhere, dst / "x" / "m"], check=True)
        try:
            policy = DeletePolicy(when="after")
            ran = run(src, dst, ARCHIVE, delete=policy, dry_run=dry_run)
            assert (elsewhere / "precious").exists()
        finally:
            subprocess.run(["umount", dst / "x" / "m"], check=True)
    gone = {path for path, one in ran.changes.items() if one.kind == Kind.DELETE}
    assert (ran.code, gone) == (0, {b"c", b"x/a", b"x/y", b"x/y/b"})
    assert (b"x/m", Op.NONE, errno.EBUSY) in ran.of(ProblemKind.KEPT)
    if not dry_run:
        assert names_in(dst) == ["f", "x", "x/m"]


# -------------------------------------------------------------------- what happens meanwhile


@contextmanager
def at_the_first(op: Op, act: Callable[[], object]) -> Iterator[None]:
    """Do something when the run comes to an operation for the first time, for a block."""
    with paused_at(op) as pause:

        def meanwhile() -> None:
            pause.wait()
            act()
            pause.resume()

        thread = Thread(target=meanwhile)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def states(ran: Ran) -> dict[bytes, State]:
    """Return what became of each deletion."""
    return {path: State(one.state) for path, one in ran.changes.items() if one.kind == Kind.DELETE}


def test_an_extra_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    """Somebody else was quicker: it is neither told nor counted."""
    src, dst = places(tmp_path)
    with at_the_first(Op.UNLINK, lambda: shutil.rmtree(dst / "x")):
        ran = run(src, dst, ARCHIVE, delete=DeletePolicy(when="after"), **single("sync"))
    assert (ran.code, ran.problems) == (0, [])
    assert names_in(dst) == ["f"]


def test_a_directory_that_got_an_entry_stays(tmp_path: Path) -> None:
    """What came into an extra directory after it was looked through keeps it."""
    src, dst = places(tmp_path)
    with at_the_first(Op.UNLINK, (dst / "x" / "y" / "new").touch):
        ran = run(src, dst, ARCHIVE, delete=DeletePolicy(when="after"), **single("sync"))
    assert ran.code == 0
    assert names_in(dst) == ["f", "x", "x/y", "x/y/new"]
    assert states(ran)[b"x/y"] == states(ran)[b"x"] == State.SKIPPED
    assert len(ran.of(ProblemKind.KEPT)) == 2


def test_what_took_the_place_of_an_extra_stays(tmp_path: Path) -> None:
    """Another file, or a link out of the tree, under the name of an extra is not ours."""
    src, dst = places(tmp_path)
    make(Tree({"b": File(b"precious")}), tmp_path / "away")

    def swap() -> None:
        (dst / "x" / "y" / "b").unlink()
        (dst / "x" / "y").rmdir()
        (dst / "x" / "y").symlink_to(tmp_path / "away")
        (dst / "x" / "a").rename(dst / "x" / "moved")
        (dst / "x" / "a").write_text("another")

    with at_the_first(Op.UNLINK, swap):
        ran = run(src, dst, ARCHIVE, delete=DeletePolicy(when="after"), **single("sync"))
    assert (tmp_path / "away" / "b").read_bytes() == b"precious"
    assert (dst / "x" / "a").read_text() == "another"
    assert (b"x/a", Op.NONE, errno.EEXIST) in ran.of(ProblemKind.KEPT)
    assert ran.report.counts.deleted == 1


def test_a_name_that_cannot_be_removed_fails_alone(tmp_path: Path) -> None:
    """It is told, its directories stay, the rest goes: exit 23."""
    src, dst = places(tmp_path)
    with fault(Op.UNLINK, value=errno.EPERM):
        ran = run(src, dst, ARCHIVE, delete=DeletePolicy(when="after"), **single("sync"))
    assert ran.code == 23
    assert [(op, number) for _, op, number in ran.failed] == [(Op.UNLINK, errno.EPERM)]
    assert ran.report.counts.deleted_files == 2


def test_directories_without_write_permission(filesystems: Filesystems) -> None:
    """Who owns a directory may delete in it, and it keeps its mode where it stays."""
    need_unprivileged()
    extra = Dir({"sub": Dir({"y": File()}, mode=0o500)}, mode=0o500)
    dst = {"d": Dir({"x": File()}, mode=0o555), "e": extra}
    with filesystems.mount("ext4").directory() as place:
        make(Tree({"src": {"d": Dir({}, mode=0o555)}, "dst": dst}), place)
        subprocess.run(["chown", "-R", "65534:65534", place], check=True)
        outcome = run_arsync(["-a", "--delete", "src/", "dst"], cwd=place, as_nobody=True)
        assert outcome.code == 0, outcome
        assert names_in(place / "dst") == ["d"]
        assert (place / "dst" / "d").stat().st_mode & 0o777 == 0o555


def test_times_of_directories_stay(tmp_path: Path) -> None:
    """A deletion leaves no trace in the directory's times, whenever it happens."""
    for when in ("before", "after"):
        place = tmp_path / when
        make(Tree({"d": {"f": File()}}), place / "src")
        make(Tree({"d": {"f": File(), "x": File()}}), place / "dst")
        for name in ("src/d/f", "dst/d/f", "src/d", "dst/d", "src", "dst"):
            os.utime(place / name, ns=(5, 5))
        ran = delete(place / "src", place / "dst", when=when)
        assert [*ran.changes] == [b"d/x"]
        assert (place / "dst" / "d").stat().st_mtime_ns == 5


# ------------------------------------------------------------------------- the trash


def bury(src: Path, dst: Path, trash: bytes = b"trash", **settings: Any) -> Ran:
    """Run with --delete --trash-dir."""
    policy = DeletePolicy(when="after", trash_dir=trash, **settings.pop("policy", {}))
    return run(src, dst, ARCHIVE, delete=policy, **settings)


@pytest.mark.parametrize("engine", ["uring", "sync"])
def test_what_is_deleted_goes_to_the_trash(engine: str, tmp_path: Path) -> None:
    """Directories are moved whole, told and counted entry by entry, and the trash stays."""
    src, dst = places(tmp_path)
    inode = (dst / "x").stat().st_ino
    ran = bury(src, dst, engine=engine)
    assert (ran.code, ran.report.counts.deleted) == (0, 5)
    assert set(states(ran).values()) == {State.DONE}
    assert len(states(ran)) == 5
    assert (dst / "trash" / "x").stat().st_ino == inode
    left = ["f", "trash", "trash/c", "trash/x", "trash/x/a", "trash/x/y", "trash/x/y/b"]
    assert names_in(dst) == left
    ran = bury(src, dst, engine=engine)
    assert (ran.code, states(ran)) == (0, {})
    assert names_in(dst) == left


def test_names_in_the_trash_are_numbered(tmp_path: Path) -> None:
    """What has been deleted before under a name stays beside what comes later."""
    src, dst = places(tmp_path)
    long = "n" * 255
    for content in ("1", "2", "3"):
        (dst / "x").mkdir(exist_ok=True)
        (dst / "c").write_text(content)
        (dst / long).write_text(content)
        assert bury(src, dst).code == 0
    trash = dst / "trash"
    assert [(trash / name).read_text() for name in ("c", "c.1", "c.2")] == ["1", "2", "3"]
    assert (trash / f"{long[:253]}.2").read_text() == "3"
    assert (trash / "x.2").is_dir()


def test_only_part_of_a_directory_goes_to_the_trash(tmp_path: Path) -> None:
    """Where something stays, each entry is moved, and the directories above get their modes."""
    src, dst = places(tmp_path)
    (dst / "x" / "z").mkdir(0o750)
    (dst / "x" / "z" / "keep").touch()
    (dst / "x" / "z" / "go").touch()
    (dst / "x" / "z").chmod(0o750)
    rules = parse_filters([("filter", b"P keep")], Path.read_bytes)  # type: ignore[arg-type]
    ran = bury(src, dst, filters=rules)
    assert ran.code == 0
    trash = [name for name in names_in(dst) if name.startswith("trash/")]
    expected = ["c", "x", "x/a", "x/y", "x/y/b", "x/z", "x/z/go"]
    assert trash == [f"trash/{name}" for name in expected]
    assert names_in(dst / "x") == ["z", "z/keep"]
    assert (dst / "trash" / "x" / "z").stat().st_mode & 0o777 == 0o750


def test_what_is_in_the_way_goes_to_the_trash(tmp_path: Path) -> None:
    """The content of a directory that a file replaces is moved, too."""
    src, dst = places(tmp_path, {"x": File(b"new"), "c": File(b"3")})
    ran = bury(src, dst)
    assert ran.code == 0
    assert (dst / "x").read_bytes() == b"new"
    assert names_in(dst / "trash") == ["x", "x/a", "x/y", "x/y/b"]


def test_a_dry_run_makes_no_trash(tmp_path: Path) -> None:
    """With -n the same is told, and nothing moves."""
    src, dst = places(tmp_path)
    ran = bury(src, dst, dry_run=True)
    assert set(states(ran)) == {b"c", b"x", b"x/a", b"x/y", b"x/y/b"}
    assert not (dst / "trash").exists()


def test_a_trash_elsewhere_is_refused(tmp_path: Path, filesystems: Filesystems) -> None:
    """A rename does not leave the filesystem, and nothing is deleted instead."""
    src, dst = places(tmp_path)
    with filesystems.mount("ext4").directory() as elsewhere:
        ran = bury(src, dst, os.fsencode(elsewhere / "trash"))
    assert isinstance(ran.error, UsageError)
    assert "is on another filesystem" in str(ran.error)
    assert (dst / "c").exists()


def test_an_entry_that_cannot_be_moved_fails(tmp_path: Path) -> None:
    """It is told with its errno; what is in it is not said to be gone."""
    src, dst = places(tmp_path)
    with fault(Op.RENAME, value=errno.EXDEV, count=FOREVER):
        ran = bury(src, dst, **single("sync"))
    assert ran.code == 23
    assert {op for _, op, _ in ran.failed} >= {Op.BURY}
    assert ran.report.counts.deleted == 0
    assert states(ran)[b"x/y/b"] == State.SKIPPED


@pytest.mark.parametrize("option", ["--backup-dir=new", "--trash-dir=new", "--backup-dir=new/sub"])
def test_what_is_kept_in_a_directory_that_is_new(option: str, tmp_path: Path) -> None:
    """It gets its time when nothing comes into it any more."""
    src, dst = places(tmp_path)
    make(Tree({"new": Dir({"f": File(b"f")}, mtime_ns=5)}), src)
    done = run_arsync(["-a", "--delete", option, f"{src}/", f"{dst}"])
    assert (done.code, done.stderr) == (0, b"")
    assert list((dst / "new").rglob("c"))
    assert (dst / "new").stat().st_mtime_ns == 5
