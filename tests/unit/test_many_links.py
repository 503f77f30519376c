"""Files of more names than a filesystem gives to one inode."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.filesystems import Filesystems, filesystem
from tests.kit.syncing import litter, run
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
