"""A DST that cannot be used or made: rsync's exit code, a sentence, nothing written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import File, Tree, make
from tests.kit.filesystems import filesystem
from tests.kit.programs import run_arsync, run_rsync
from tests.requirements import need_root, need_rsync

USE = "cannot use the destination"
MAKE = "cannot make the destination"
LOOP = "Too many levels of symbolic links"
NO_DIR = "Not a directory"
LONG = "n" * 256
TOO_LONG = "File name too long"


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Make a source, and things that are no directories."""
    make(Tree({"src": {"f": File(b"f")}, "file": File(b"old")}), tmp_path)
    os.symlink("loop", tmp_path / "loop")
    return tmp_path


CASES = [
    ("file/x", USE, NO_DIR),
    ("loop/x", USE, LOOP),
    ("loop", USE, LOOP),
    (LONG, USE, TOO_LONG),
    (f"{LONG}/x", USE, TOO_LONG),
    ("missing/x/y", MAKE, "No such file or directory (its parent 'missing/x' is not there"),
    ("--mkpath file/x", MAKE, NO_DIR),
    ("--mkpath file/x/y", MAKE, NO_DIR),
    ("--mkpath loop/x", MAKE, LOOP),
    ("--mkpath loop", USE, LOOP),
    (f"--mkpath {LONG}", MAKE, TOO_LONG),
    (f"--mkpath missing/{LONG}", MAKE, TOO_LONG),
]


@pytest.mark.parametrize(("words", "verb", "reason"), CASES)
def test_a_destination_that_cannot_be(where: Path, words: str, verb: str, reason: str) -> None:
    """Exit code 3 where DST cannot be looked at, 11 where it cannot be made."""
    need_rsync()
    *options, dst = words.split()
    ran = run_arsync(["-a", *options, "src/", dst], cwd=where)
    assert ran.stderr.decode().startswith(f"arsync: {verb} '{dst}': {reason}")
    assert ran.stderr.count(b"\n") == 1
    assert ran.code == run_rsync(["-a", *options, "src/", dst], cwd=where).code
    assert ran.code == {USE: 3, MAKE: 11}[verb]
    assert (where / "file").read_bytes() == b"old"


@pytest.fixture
def read_only() -> Iterator[Path]:
    """Mount an empty filesystem that takes nothing."""
    need_root()
    with filesystem("tmpfs", options="ro") as mount:
        yield mount.path


@pytest.mark.parametrize("words", ["-a new", "-a --mkpath new", "-a --mkpath new/er", "-an new"])
def test_a_destination_on_a_read_only_filesystem(where: Path, read_only: Path, words: str) -> None:
    """It cannot be made: exit code 11; a dry run makes nothing and is fine."""
    need_rsync()
    *options, below = words.split()
    dst = f"{read_only}/{below}"
    ran = run_arsync([*options, "src/", dst], cwd=where)
    assert ran.code == run_rsync([*options, "src/", dst], cwd=where).code
    told = f"arsync: {MAKE} '{dst}': Read-only file system\n"
    expected = (0, "") if options == ["-an"] else (11, told)
    assert (ran.code, ran.stderr.decode()) == expected
