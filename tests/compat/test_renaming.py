"""What is renamed in SRC is renamed in DST with whatever operands: the result is rsync's."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kit import assert_same
from tests.kit.filesystems import Filesystems
from tests.kit.programs import run_arsync, run_rsync
from tests.requirements import need_rsync

OPERANDS = (
    ("one/",),
    ("one/", "two/"),
    ("two/", "one/"),
    ("one", "two"),
    ("one/a", "one/b", "two/a"),
    ("-R", "one/a", "two"),
    ("-R", "one/./a", "one/./b", "two/./c"),
    ("-R", "./one/a/", "two/b"),
    ("-R", "link/a", "two"),
    ("--max-delete=100", "one/", "two/"),
)
STEP_S = 10


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lend two sources of the same three directories, and manifests of one's own."""
    need_rsync()
    monkeypatch.setenv("ARSYNC_STATE_DIR", str(tmp_path / "state"))
    number = 0
    for source in ("one", "two"):
        for directory in ("a", "b", "c"):
            (tmp_path / source / directory / "d").mkdir(parents=True)
            for name in ("x", "y", "d/z"):
                number += 1
                (tmp_path / source / directory / name).write_bytes(b"%d" % number * 300)
    (tmp_path / "link").symlink_to("one")
    return tmp_path


def edit(root: Path, chance: random.Random) -> None:
    """Rename files and directories, and write and remove a few."""
    for _ in range(6):
        files = sorted(one for one in root.rglob("*") if one.is_file())
        dirs = sorted(one for one in root.rglob("*") if one.is_dir())
        old, new = chance.choice(files), chance.choice(dirs) / f"n{chance.randrange(8)}"
        what = chance.randrange(6)
        if what < 3 and not new.is_dir():
            old.rename(new)
        elif what == 3:  # a file of one source and a directory of the other would be in the way
            moved = chance.choice([one for one in dirs if one.parent != root])
            new = new.with_name(f"m{chance.randrange(8)}")
            if moved not in new.parents and not new.exists():
                moved.rename(new)
        elif what == 4 and not new.is_dir():
            new.write_bytes(chance.randbytes(chance.randrange(1, 9000)))
        elif what == 5 and not new.exists():
            new.hardlink_to(old)


def set_times(root: Path, number: int) -> None:
    """Give each directory a time of its own: rsync leaves one alone that is off by a moment."""
    for one in [root, *root.rglob("*")]:
        if one.is_dir():
            os.utime(one, (10**9 + number * STEP_S, 10**9 + number * STEP_S))


def sync(place: Path, operands: Sequence[str]) -> list[bytes]:
    """Run both, hold their results against each other, and return what arsync said."""
    words = ["-a", "--delete", *operands]
    ours = run_arsync([*words, "-i", "dst/"], cwd=place)
    theirs = run_rsync([*words, "theirs/"], cwd=place)
    assert (ours.code, theirs.code) == (0, 0), (ours, theirs)
    assert_same(place / "theirs", place / "dst", links=False, root=False)
    return ours.lines


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("operands", OPERANDS, ids=" ".join)
def test_the_result_is_rsyncs(place: Path, operands: Sequence[str], seed: int) -> None:
    """After any edits of either source, four times in a row."""
    chance = random.Random(f"{operands}{seed}")
    for number in range(4):
        for source in ("one", "two"):
            set_times(place / source, number)
        sync(place, operands)
        for source in ("one", "two"):
            edit(place / source, chance)


@pytest.mark.parametrize(
    ("operands", "old", "new", "said"),
    [
        (("one/", "two/"), "one/own/x", "one/own/n", b"own/n <- own/x"),
        (("one/", "two/"), "one/own/d", "one/own/n", b"own/n/ <- own/d"),
        (("one", "two"), "two/a/x", "two/n", b"two/n <- two/a/x"),
        (("one", "two"), "two/a/d", "two/b/n", b"two/b/n/ <- two/a/d"),
        (("one/a", "two/b"), "two/b/x", "two/b/d/n", b"b/d/n <- b/x"),
        (("-R", "one/a", "two"), "one/a/x", "one/a/n", b"one/a/n <- one/a/x"),
        (("-R", "one/a", "two"), "one/a/d", "one/a/n", b"one/a/n/ <- one/a/d"),
        (("-R", "one/./a", "one/./b"), "one/a/x", "one/b/n", b"b/n <- a/x"),
    ],
)
def test_it_is_renamed(
    place: Path, operands: Sequence[str], old: str, new: str, said: bytes
) -> None:
    """With several SRC and with -R, where the old name is deleted and no other SRC has it."""
    (place / "one/own/d").mkdir(parents=True)
    (place / "one/own/x").write_bytes(b"own" * 100)
    sync(place, operands)
    (place / old).rename(place / new)
    assert [line for line in sync(place, operands) if line.endswith(said)]


@pytest.mark.parametrize(
    ("operands", "old", "new"),
    [
        (("one/", "two/"), "one/a/x", "one/b/n"),
        (("two/", "one/"), "one/a/x", "one/b/n"),
        (("-R", "one/a", "one/b/x"), "one/b/x", "one/a/n"),
    ],
    ids=["the next SRC has it", "the one before has it", "not deleted there"],
)
def test_it_is_copied(place: Path, operands: Sequence[str], old: str, new: str) -> None:
    """The old name stays."""
    sync(place, operands)
    (place / old).rename(place / new)
    operands = [one for one in operands if (place / one).exists() or one == "-R"]
    lines = sync(place, operands)
    assert not [line for line in lines if b" <- " in line]


@pytest.mark.parametrize("order", [("one/", "two/"), ("two/", "one/")], ids=" ".join)
def test_another_source_gives_the_old_name_by_now(place: Path, order: tuple[str, str]) -> None:
    """Its file is compared with what stands there, which therefore stays."""
    (place / "one/own").mkdir()
    (place / "one/own/x").write_bytes(b"own" * 100)
    sync(place, order)
    (place / "one/own/x").rename(place / "one/own/n")
    (place / "two/own").mkdir()
    (place / "two/own/x").write_bytes(b"other")
    lines = sync(place, order)
    assert not [line for line in lines if b" <- " in line]
    assert [line for line in lines if line.startswith(b">f.") and line.endswith(b" own/x")]


@pytest.mark.parametrize("deleting", ["--delete", "--delete-before", "--no-delete", "-b"])
@pytest.mark.parametrize(
    "operands", [("two/",), ("one/", "two/"), ("two/", "one/"), ("one", "two")], ids=" ".join
)
@pytest.mark.parametrize(
    ("old", "new"),
    [("a/own", "a/n"), ("a/own", "n"), ("own/x", "own/n"), ("own/d", "own/e")],
    ids=" ".join,
)
def test_a_dry_run_says_what_a_run_does(
    place: Path,
    operands: Sequence[str],
    deleting: str,
    old: str,
    new: str,
    filesystems: Filesystems,
) -> None:
    """What is renamed, what is cloned, and what is deleted before either could be."""
    (place / "two/own/d").mkdir(parents=True)
    for name in ("a/own", "own/x", "own/d/q"):
        (place / "two" / name).write_bytes(name.encode() * 999)
    with filesystems.mount("xfs").directory() as dst:
        words = ["-a", "-i", deleting, *operands, f"{dst}/"]
        run_arsync(words, cwd=place)
        (place / "two" / old).rename(place / "two" / new)
        planned = run_arsync(["-n", *words], cwd=place)
        ran = run_arsync(words, cwd=place)
        assert (planned.code, ran.code) == (0, 0)
        assert planned.lines == ran.lines


def test_a_link_on_the_way_hides_nothing(place: Path) -> None:
    """-R follows it: an old name that is there all the same is not gone."""
    sync(place, ("-R", "link/a"))
    (place / "one/a/n").hardlink_to(place / "one/a/x")
    assert not [line for line in sync(place, ("-R", "link/a")) if b" <- " in line]
    assert (place / "dst/link/a/x").exists()
