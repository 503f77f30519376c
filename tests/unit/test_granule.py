"""How finely times are kept, on real filesystems."""

from __future__ import annotations

import os
from pathlib import Path

from arsync.uring.granule import measure_granule_ns
from tests.kit.filesystems import mounted


def test_linux_filesystems_keep_nanoseconds(each_filesystem: Path) -> None:
    """What is measured is what a copy will find: the time that was set."""
    fd = os.open(each_filesystem / "file", os.O_CREAT | os.O_WRONLY)
    try:
        assert measure_granule_ns(fd) == 1
        assert os.fstat(fd).st_mtime_ns % 1000 != 0
    finally:
        os.close(fd)


def test_where_no_time_can_be_set_nothing_is_known(tmp_path: Path) -> None:
    """A file of a read-only mount keeps the time that it has."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").touch()
    before = (place / "file").stat().st_mtime_ns
    with mounted("--bind", "-o", "ro", place, place):
        fd = os.open(place / "file", os.O_RDONLY)
        try:
            assert measure_granule_ns(fd) == 0
        finally:
            os.close(fd)
    assert (place / "file").stat().st_mtime_ns == before
