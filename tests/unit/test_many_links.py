"""Files of more names than a filesystem gives to one inode."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from arsync.model import Op
from arsync.uring.faults import FOREVER, Action, fault
from tests.kit import Fifo, File, HardLink, Node, Pattern, Symlink, Tree, assert_same, make
from tests.kit.filesystems import Filesystems, filesystem
from tests.kit.syncing import litter, run, single
from tests.requirements import need_filesystem, need_uring

EXT4_LINKS = 65_000
NAMES = EXT4_LINKS + 1500
MIB = 1 << 20


@pytest.fixture(params=["uring", "sync"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test once on each engine."""
    if request.param == "uring":
        need_uring()
    return str(request.param)


@pytest.fixture(scope="module")
def crowd(filesystems: Filesystems) -> Iterator[Path]:
    """Make a file with more names than ext4 allows, spread over directories."""
    with filesystems.mount("tmpfs").directory() as place:
        (place / "first").write_bytes(b"content")
        for number in range(NAMES - 1):
            directory = place / f"{number % 30:02}"
            if number < 30:
                directory.mkdir()
            os.link(place / "first", directory / f"{number:05}")
        yield place


def inodes(root: Path) -> Counter[int]:
    """Count the names of each inode of what is no directory."""
    return Counter(
        os.lstat(os.path.join(where, name)).st_ino
        for where, _, names in os.walk(root)
        for name in names
    )


def test_all_lanes_go_on_with_one_new_file(crowd: Path, engine: str) -> None:
    """ext4 is full at 65,000 names: all that are left become names of one further file."""
    need_filesystem("ext4")
    with filesystem("ext4") as ext4:
        dst = ext4.path / "dst"
        ran = run(crowd, dst, engine=engine, cpu_count=4)
        assert (ran.code, ran.problems) == (0, [])
        assert sorted(inodes(dst).values()) == [NAMES - EXT4_LINKS, EXT4_LINKS]
        assert ran.report.counts.done_files == 2
        assert ran.report.counts.done_links == NAMES - 2
        assert litter(dst) == []


def test_a_copy_that_fails_has_a_follower(crowd: Path, engine: str) -> None:
    """The lanes that waited for it go on: the next name is copied, and the rest linked to that."""
    need_filesystem("ext4")
    with (
        filesystem("ext4") as ext4,
        fault(Op.WRITE, Action.ERROR, errno.EIO, skip=1),
    ):
        dst = ext4.path / "dst"
        ran = run(crowd, dst, engine=engine, cpu_count=4, copy_method="read_write")
        assert ran.code == 23
        assert [problem[1:] for problem in ran.failed] == [(Op.WRITE, errno.EIO)]
        assert sorted(inodes(dst).values()) == [NAMES - EXT4_LINKS - 1, EXT4_LINKS]
        assert litter(dst) == []


NODES: dict[str, Node] = {
    "small": File(b"content"),
    "empty": File(b""),
    "big": File(Pattern(33 * MIB)),
    "fifo": Fifo(),
    "symlink": Symlink("nowhere"),
}


@pytest.mark.parametrize("what", NODES)
def test_a_link_that_is_refused(tmp_path: Path, engine: str, what: str) -> None:
    """EMLINK: whatever it is, there are two of it then; the next run makes them one again."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    names: dict[str, Node] = {name: HardLink("a") for name in "bcdefg"}
    make(Tree({"a": NODES[what], **names}), src)
    with fault(Op.LINK, Action.ERROR, errno.EMLINK, skip=2):
        ran = run(src, dst, **single(engine))
    assert (ran.code, ran.problems) == (0, [])
    assert sorted(inodes(dst).values()) == [3, 4]
    assert_same(src, dst, links=False)
    assert run(src, dst, **single(engine)).code == 0
    assert_same(src, dst)


def test_names_beyond_a_full_inode_stay(tmp_path: Path, engine: str) -> None:
    """They are names of a second file already: a further run changes nothing."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"a": File(b"content"), **{name: HardLink("a") for name in "bcdefg"}}), src)
    with fault(Op.LINK, Action.ERROR, errno.EMLINK, skip=3):
        run(src, dst, **single(engine))
    before = {name: os.lstat(dst / name) for name in "abcdefg"}
    assert len({one.st_ino for one in before.values()}) == 2
    with fault(Op.LINK, Action.ERROR, errno.EMLINK, count=1):
        ran = run(src, dst, **single(engine))
    assert (ran.code, ran.problems) == (0, [])
    assert ran.changes == {}
    assert (ran.report.counts.done_files, ran.report.counts.done_links) == (0, 0)
    assert {name: os.lstat(dst / name) for name in "abcdefg"} == before


def test_where_no_link_is_possible(tmp_path: Path, engine: str) -> None:
    """EPERM, as filesystems without hard links answer: each name becomes a copy."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    groups = range(100)
    first: dict[str, Node] = {f"a{one:03}": File(b"content") for one in groups}
    names: dict[str, Node] = {
        f"b{one:03}{more}": HardLink(f"a{one:03}") for one in groups for more in "xyz"
    }
    make(Tree({**first, **names}), src)
    with fault(Op.LINK, Action.ERROR, errno.EPERM, count=FOREVER):
        ran = run(src, dst, engine=engine, cpu_count=4)
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst, links=False)
    assert max(inodes(dst).values()) == 1
    assert run(src, dst, engine=engine, cpu_count=4).code == 0
    assert_same(src, dst)
