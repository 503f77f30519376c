"""A new name whose old one stays at the destination shares that file's blocks there."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from arsync.events import EventWriter
from arsync.itemize import LineFormat
from arsync.model import Kind, Method, Op, Why
from arsync.options import ARCHIVE, DeletePolicy, ManifestPolicy
from arsync.report import stats_table
from arsync.uring.faults import fault, paused_at
from tests.kit.compare import assert_same
from tests.kit.filesystems import Filesystems
from tests.kit.manifests import recorded
from tests.kit.meddling import rewrite, touch
from tests.kit.snapshot import read
from tests.kit.syncing import BIG, CHUNK, Ran, single
from tests.kit.trees import Trees

KEEP = DeletePolicy()
SIZES = (100, 3 * CHUNK // 2, BIG + 5)


def lend(kind: str, filesystems: Filesystems, path: Path) -> Iterator[Trees]:
    """Lend a source, and a destination on a filesystem of its own."""
    with filesystems.mount(kind).directory() as place:
        yield Trees(path, place / "dst")


@pytest.fixture(params=["xfs", "btrfs"])
def trees(request: pytest.FixtureRequest, filesystems: Filesystems, tmp_path: Path) -> Any:
    """Lend a source, and a destination that has reflinks."""
    yield from lend(request.param, filesystems, tmp_path)


@pytest.fixture
def on_xfs(filesystems: Filesystems, tmp_path: Path) -> Any:
    """Lend the same where one such filesystem is enough."""
    yield from lend("xfs", filesystems, tmp_path)


@pytest.fixture
def on_ext4(filesystems: Filesystems, tmp_path: Path) -> Any:
    """Lend the same without reflinks."""
    yield from lend("ext4", filesystems, tmp_path)


def content(size: int) -> bytes:
    """Return bytes of which no two blocks are the same."""
    return random.Random(size).randbytes(size)


def cloned(ran: Ran) -> dict[bytes, bytes]:
    """Return the old names by the new ones; see that nothing else was said of them."""
    assert ran.code == 0
    found = {path: one for path, one in ran.changes.items() if one.why & Why.MOVED}
    assert all(one.kind == Kind.DATA and one.method == Method.REFLINK for one in found.values())
    assert ran.report.clones == len(found)
    return {path: one.link for path, one in found.items()}


def assert_copied(trees: Trees, ran: Ran, name: bytes) -> None:
    """See that a file was copied from the source, and is right."""
    assert ran.code == 0
    change = ran.changes[name]
    assert (change.kind, change.link) == (Kind.DATA, b"")
    assert change.method != Method.REFLINK
    assert not change.why & Why.MOVED
    assert (trees.dst / os.fsdecode(name)).read_bytes() == (
        trees.src / os.fsdecode(name)
    ).read_bytes()
    assert ran.report.clones == 0


def same_new(trees: Trees, *names: str) -> None:
    """Hold new names against the source, with all that is kept of them."""
    wanted = {os.fsencode(name) for name in names}
    src, dst = (
        {path: one for path, one in read(root).items() if path in wanted}
        for root in (trees.src, trees.dst)
    )
    assert src.keys() == wanted
    assert_same(src, dst, links=False)


# ------------------------------------------------------------------------------- what is cloned


@pytest.mark.parametrize("engine", ["uring", "sync"])
@pytest.mark.parametrize("size", SIZES)
def test_a_new_name_is_a_clone(trees: Trees, size: int, engine: str) -> None:
    """The old file stays, no byte is written, and the recorded hash goes with the content."""
    trees.write("d/one", content(size))
    trees.sync(delete=KEEP, engine=engine)
    before = recorded(trees.state, trees.dst)[b"d"].rows[b"one"]
    trees.rename("d/one", "e/two")
    ran = trees.sync(delete=KEEP, engine=engine)
    assert cloned(ran) == {b"e/two": b"d/one"}
    assert ran.report.counts.method_bytes[Method.REFLINK] == size
    assert (trees.dst / "d/one").read_bytes() == content(size)
    same_new(trees, "e/two")
    assert (trees.dst / "d/one").stat().st_ino != (trees.dst / "e/two").stat().st_ino
    after = recorded(trees.state, trees.dst)[b"e"].rows[b"two"]
    assert after.hash == before.hash != bytes(16)
    assert after.verified == before.verified
    trees.check_manifest()
    again = trees.sync(delete=KEEP, engine=engine)
    assert again.report.copied_files == again.report.counts.checked_files == 0


def test_what_is_written_to_a_clone_is_its_own(trees: Trees) -> None:
    """The file of the old name keeps its bytes when the new one is edited."""
    trees.write("one", content(CHUNK))
    trees.sync(delete=KEEP)
    trees.rename("one", "two")
    trees.sync(delete=KEEP)
    trees.write("two", b"other")
    trees.sync(delete=KEEP, inplace=True)
    assert (trees.dst / "one").read_bytes() == content(CHUNK)
    assert (trees.dst / "two").read_bytes() == b"other"


def test_a_renamed_directory_costs_no_byte(trees: Trees) -> None:
    """Its files have their old ctime: none is read, each is cloned."""
    names = [f"{number:03}" for number in range(200)]
    for name in names:
        trees.write(f"old/{name[-1]}/{name}", name.encode() * 100)
    trees.write("old/big", content(BIG))
    trees.sync(delete=KEEP)
    trees.rename("old", "new")
    ran = trees.sync(delete=KEEP)
    files = [f"{name[-1]}/{name}" for name in names] + ["big"]
    assert cloned(ran) == {f"new/{one}".encode(): f"old/{one}".encode() for one in files}
    assert ran.report.counts.checked_files == 0
    assert_same(trees.src / "new", trees.dst / "new")
    assert (trees.dst / "old/big").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"delete": KEEP},
        {"delete": KEEP, "backup": True},
        {"delete": KEEP, "inplace": True},
        {"delete": KEEP, "sparse": True},
        {"delete": KEEP, "preserve": replace(ARCHIVE, hard_links=True)},
        {"backup": True},
    ],
    ids=str,
)
def test_options_beside_which_clones_are_made(on_xfs: Trees, settings: dict[str, Any]) -> None:
    """A new name, and one that something else had."""
    trees = on_xfs
    for name in ("one", "two", "three"):
        trees.write(name, content(10_000 + ord(name[0])))
    trees.sync(**settings)
    trees.rename("one", "four")
    trees.rename("two", "three")
    ran = trees.sync(**settings)
    assert cloned(ran) == {b"four": b"one", b"three": b"two"}
    same_new(trees, "three", "four")
    assert (trees.dst / "three~").exists() == settings.get("backup", False)


def test_attributes_are_those_of_the_source(trees: Trees) -> None:
    """Mode and owner may have changed with the name."""
    trees.write("one", content(5000))
    trees.sync(delete=KEEP)
    trees.rename("one", "two")
    (trees.src / "two").chmod(0o4711)
    os.chown(trees.src / "two", 12, 34)
    assert cloned(trees.sync(delete=KEEP)) == {b"two": b"one"}
    same_new(trees, "two")
    assert (trees.dst / "one").stat().st_mode & 0o7777 != 0o4711


def test_several_names_come_from_one_file(on_xfs: Trees) -> None:
    """Hard links of the source that are files of their own at the destination."""
    trees = on_xfs
    one = trees.write("one", content(9000))
    trees.sync(delete=KEEP)
    (trees.src / "two").hardlink_to(one)
    trees.rename("one", "three")
    assert cloned(trees.sync(delete=KEEP)) == {b"two": b"one", b"three": b"one"}
    same_new(trees, "two", "three")


def test_a_rename_is_better_than_a_clone(on_xfs: Trees) -> None:
    """Of two new names of a file one is renamed, where the old name would be deleted."""
    trees = on_xfs
    one = trees.write("one", content(9000))
    trees.sync()
    (trees.src / "two").hardlink_to(one)
    trees.rename("one", "three")
    ran = trees.sync()
    assert ran.report.renames == 1
    assert sorted(one.kind for one in ran.changes.values() if one.path) == [Kind.DATA, Kind.MOVE]
    trees.same(links=False)


# ------------------------------------------------------------------------------- what is said


def test_it_is_said(on_xfs: Trees) -> None:
    """By -i, in JSON, and by --stats."""
    trees = on_xfs
    trees.write("one", content(9000))
    trees.sync(delete=KEEP)
    trees.rename("one", "two")
    ran = trees.sync(delete=KEEP)
    assert LineFormat("%i %n%L", 0).line(ran.changes[b"two"]) == "cf+++++++++ two <- one"
    stream = StringIO()
    EventWriter(stream).entry(ran.changes[b"two"])
    event = json.loads(stream.getvalue())
    assert event["link"] == "one"
    assert event["method"] == "reflink"
    assert "moved" in event["reasons"]
    assert "Number of cloned files: 1\n" in stats_table(ran.report)


def test_a_dry_run_says_what_a_run_does(on_xfs: Trees) -> None:
    """Clones that need a look, and those that need none."""
    trees = on_xfs
    for name in ("one", "d/two", "d/big"):
        trees.write(name, content(BIG if "big" in name else 9000))
    trees.sync(delete=KEEP)
    trees.rename("one", "three")
    trees.rename("d", "e")
    trees.rename("e/big", "e/bigger")
    before = read(trees.dst)
    planned = trees.sync(delete=KEEP, dry_run=True)
    assert_same(before, read(trees.dst))
    ran = trees.sync(delete=KEEP)
    assert {(path, one.kind, one.why, one.link) for path, one in planned.changes.items()} == {
        (path, one.kind, one.why, one.link) for path, one in ran.changes.items()
    }
    assert planned.report.clones == len(cloned(ran)) == 3
    assert planned.report.copied_files == ran.report.copied_files == 3
    assert planned.report.copied_bytes == ran.report.copied_bytes


# ------------------------------------------------------------------------------- what is copied


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", [touch, rewrite, Path.unlink])
def test_another_process_was_at_the_old_file(
    on_xfs: Trees, change: Callable[[Path], object], size: int
) -> None:
    """A file that is not as recorded is no content for a new name."""
    on_xfs.write("d/one", content(size))
    on_xfs.sync(delete=KEEP)
    change(on_xfs.dst / "d/one")
    on_xfs.rename("d/one", "two")
    assert_copied(on_xfs, on_xfs.sync(delete=KEEP), b"two")


@pytest.mark.parametrize("size", SIZES)
def test_a_source_that_was_rewritten_is_copied(on_xfs: Trees, size: int) -> None:
    """Inode, size, mtime and birth time are the same; the bytes are not."""
    rewrite(on_xfs.write("one", content(size)))
    on_xfs.sync(delete=KEEP)
    path = on_xfs.src / "one"
    info = path.stat()
    path.write_bytes(content(size))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    on_xfs.rename("one", "two")
    assert_copied(on_xfs, on_xfs.sync(delete=KEEP), b"two")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("error", [errno.EIO, errno.EOPNOTSUPP, errno.ENOSPC])
@pytest.mark.parametrize("op", [Op.REFLINK, Op.OPEN_TARGET])
def test_what_cannot_be_cloned_is_copied(on_xfs: Trees, op: Op, error: int, size: int) -> None:
    """With its own hash, and nothing is left of the attempt."""
    on_xfs.write("d/one", content(size))
    on_xfs.sync(delete=KEEP)
    before = recorded(on_xfs.state, on_xfs.dst)[b"d"].rows[b"one"]
    on_xfs.rename("d/one", "d/two")
    with fault(op, value=error, count=1):
        assert_copied(on_xfs, on_xfs.sync(delete=KEEP), b"d/two")
    after = recorded(on_xfs.state, on_xfs.dst)[b"d"].rows[b"two"]
    assert after.hash == before.hash != bytes(16)
    assert {one.name for one in (on_xfs.dst / "d").iterdir()} == {"one", "two"}


@pytest.mark.parametrize("engine", ["uring", "sync"])
@pytest.mark.parametrize("side", ["src", "dst"])
@pytest.mark.parametrize("size", SIZES)
def test_somebody_writes_while_it_is_cloned(
    on_xfs: Trees, size: int, side: str, engine: str
) -> None:
    """Neither a source that is another by now nor an old file that is gets into the clone."""
    trees = on_xfs
    trees.write("d/one", content(size))
    trees.sync(delete=KEEP)
    trees.rename("d", "e")
    changed = trees.src / "e/one" if side == "src" else trees.dst / "d/one"
    with paused_at(Op.REFLINK) as pause:

        def write() -> None:
            pause.wait()
            changed.write_bytes(b"other" * 20)
            pause.resume()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            ran = trees.sync(delete=KEEP, **single(engine))
        finally:
            thread.join()
    assert_copied(trees, ran, b"e/one")
    trees.sync(delete=KEEP)
    same_new(trees, "e/one")


@pytest.mark.parametrize(
    "settings",
    [
        {"reflink": "never"},
        {"copy_method": "read_write"},
        {"preallocate": True},
        {"manifest": ManifestPolicy(detect_renames=False)},
        {"checksum": True},
        {"ignore_times": True},
    ],
    ids=str,
)
def test_options_without_clones(on_xfs: Trees, settings: dict[str, Any]) -> None:
    """What says how content comes holds here, too."""
    on_xfs.write("one", content(9000))
    on_xfs.sync(delete=KEEP)
    on_xfs.rename("one", "two")
    assert_copied(on_xfs, on_xfs.sync(delete=KEEP, **settings), b"two")


def test_without_reflinks_it_is_copied_from_the_source(on_ext4: Trees) -> None:
    """A copy of a copy would not be faster, and nobody would see what has decayed."""
    on_ext4.write("one", content(9000))
    on_ext4.sync(delete=KEEP)
    on_ext4.rename("one", "two")
    ran = on_ext4.sync(delete=KEEP)
    assert_copied(on_ext4, ran, b"two")
    assert ran.report.counts.checked_files == 0


def test_a_source_that_shares_blocks_itself_is_cloned(filesystems: Filesystems) -> None:
    """On one filesystem the source's own blocks are as cheap."""
    with filesystems.mount("xfs").directory() as place:
        trees = Trees(place)
        trees.write("one", content(9000))
        trees.sync(delete=KEEP)
        trees.rename("one", "two")
        ran = trees.sync(delete=KEEP)
        assert ran.changes[b"two"].method == Method.REFLINK
        assert not ran.changes[b"two"].why & Why.MOVED


# ------------------------------------------------------------------------------- beside rsync

RSYNC: dict[str, dict[str, Any]] = {
    "": {},
    "-b": {"backup": True},
    "-H": {"preserve": replace(ARCHIVE, hard_links=True)},
    "--inplace": {"inplace": True},
    "--delete": {"delete": DeletePolicy(when="after")},
    "--delete-before": {"delete": DeletePolicy(when="before")},
}


def edit(root: Path, chance: random.Random) -> None:
    """Rename, link, write and remove at random."""
    for _ in range(12):
        files = sorted(one for one in root.rglob("*") if one.is_file())
        dirs = [root, *sorted(one for one in root.rglob("*") if one.is_dir())]
        new = chance.choice(dirs) / f"n{chance.randrange(6)}"
        what = chance.randrange(8)
        old = chance.choice(files)
        if what < 4 and not new.is_dir():
            old.rename(new)
        elif what == 4 and not new.exists():
            directory = chance.choice(dirs[1:] or [old])
            if directory not in new.parents:
                directory.rename(new)
        elif what == 5 and not new.exists():
            new.hardlink_to(old)
        elif what == 6 and not new.is_dir():
            new.write_bytes(chance.randbytes(chance.randrange(1, 9000)))
        elif len(files) > 4:
            old.unlink()


def links_of(src: Path, root: Path) -> set[tuple[bytes, ...]]:
    """Return which names of a source are one file in another tree."""
    names = read(src).keys()
    return {tuple(sorted(set(one.links) & names)) for one in read(root).values()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("option", RSYNC)
def test_the_result_is_rsyncs(on_xfs: Trees, option: str, seed: int) -> None:
    """Whatever is renamed, linked and written in four rounds, with the same options."""
    trees, theirs = on_xfs, on_xfs.dst.parent / "theirs"
    chance = random.Random(f"{option}{seed}")
    settings = {"delete": KEEP, **RSYNC[option]}
    for number in range(9):
        trees.write(f"{'abc'[number % 3]}/{number}", chance.randbytes(2000 + number))
    for _ in range(4):
        ran = trees.sync(**settings)
        words = ["rsync", "-a", *([option] if option else []), f"{trees.src}/", f"{theirs}/"]
        assert ran.code == subprocess.run(words, check=False).returncode
        # rsync leaves a directory's time where it is off by less than a second; and which of two
        # files has the further links of names that the source has no more is anybody's choice
        assert_same(theirs, trees.dst, dir_times=False, links=False)
        if "-H" in option:
            assert links_of(trees.src, trees.dst) == links_of(trees.src, theirs)
        edit(trees.src, chance)
    shutil.rmtree(theirs)
