"""What -b, --backup-dir and --suffix keep of what is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compat.arena import LONG_AGO_NS, Arena
from tests.kit import Device, Dir, Fifo, File, HardLink, Pattern, Socket, Symlink, Tree

OLD_NS = LONG_AGO_NS - 10**12


def old(content: bytes = b"old content") -> File:
    """Return a file as a destination has had it for long."""
    return File(content, mode=0o640, uid=7, gid=8, mtime_ns=OLD_NS)


WORLD = Tree(
    {
        "src": {
            "f": File(b"new"),
            "same": File(b"same"),
            "mode only": File(b"same", mode=0o600),
            "new": File(b"new"),
            "link": Symlink("new"),
            "link for file": Symlink("new"),
            "file for link": File(b"new"),
            "file for fifo": File(b"new"),
            "file for empty directory": File(b"new"),
            "directory for file": {"in": File(b"new")},
            "device": Device("c", 1, 3),
            "fifo": Fifo(),
            "socket for file": Socket(),
            "d": {"e": {"g": File(b"new"), "h": File(b"same")}},
            "first": File(b"linked"),
            "further": HardLink("src/first"),
            "n" * 250: File(b"new"),
        },
        "dst": {
            "f": old(),
            "f~": File(b"an older backup", mtime_ns=OLD_NS),
            "same": File(b"same"),
            "mode only": File(b"same", mode=0o644),
            "link": Symlink("old", mtime_ns=OLD_NS),
            "link for file": old(),
            "file for link": Symlink("old"),
            "file for fifo": Fifo(),
            "file for empty directory": Dir(),
            "directory for file": old(),
            "device": Device("c", 1, 5),
            "fifo": Fifo(mode=0o600),
            "socket for file": old(),
            "d": {"e": {"g": old(), "h": File(b"same")}},
            "first": old(),
            "further": old(b"another"),
            "n" * 250: old(),
        },
    }
)
WAYS = [
    ("-b",),
    ("-b", "--suffix=.old"),
    ("-b", "--backup-dir=bak"),
    ("--backup-dir=bak/deeper/", "--suffix=.old"),
    ("-b", "--backup-dir=../elsewhere"),
    ("-b", "--inplace"),
    ("-b", "--inplace", "--backup-dir=bak"),
    ("--suffix=.old",),
]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
@pytest.mark.parametrize("base", ["-a", "-aHX", "-rlogt"])
def test_what_is_kept(base: str, way: tuple[str, ...], arena: Arena) -> None:
    """Each entry that is replaced stays under its other name, with its own attributes."""
    result = arena.run(WORLD, base, *way, "src/", "dst", prepare=same_old_times)
    if "-b" in way and "--suffix=.old" not in way and "--backup-dir=bak" not in way:
        assert result["src/f"].content == result["dst/f"].content


def same_old_times(place: Path) -> None:
    """Leave the directories of dst at one time: making a backup in them moves it."""
    os.utime(place / "dst", ns=(LONG_AGO_NS, LONG_AGO_NS))


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_what_is_said(way: tuple[str, ...], arena: Arena) -> None:
    """-i is as without backups, and --info=backup names what was kept, and where."""
    result = arena.run(WORLD, "-ai", "--info=backup", *way, "src/", "dst")
    ours, theirs = (
        [line for line in outcome.lines if not line.startswith(b"(new) backup_dir")]
        for outcome in (result.arsync, result.rsync)
    )
    assert ours == theirs
    if "-b" in way:
        assert any(line.startswith(b"backed up f to ") for line in ours)


def test_a_second_run_needs_nothing(arena: Arena) -> None:
    """Backups are entries that only DST has; they are not backed up again."""
    arena.run(WORLD, "-a", "-b", "src/", "dst")
    again = arena.run_again("-ai", "-b", "src/", "dst")
    assert again.arsync.lines == again.rsync.lines == []


def test_the_last_backup_wins(arena: Arena) -> None:
    """A second change gives up the backup of the first."""
    arena.run(WORLD, "-a", "-b", "src/", "dst")
    for program in ("rsync", "arsync"):
        (arena.place / program / "src/f").write_bytes(b"the third")
        os.utime(arena.place / program / "src/f", ns=(LONG_AGO_NS, LONG_AGO_NS))
    result = arena.run_again("-a", "-b", "src/", "dst")
    assert result["dst/f~"].content is not None
    assert result["dst/f~"].content[0] == len(b"new")


@pytest.mark.parametrize("way", [("-b",), ("-b", "--inplace")], ids=" ".join)
def test_a_big_file(way: tuple[str, ...], arena: Arena) -> None:
    """A file that all lanes share is kept as any other."""
    size = 33 << 20
    world = {"src": {"f": File(Pattern(size, 1))}, "dst": {"f": File(Pattern(size, 2), mtime_ns=5)}}
    result = arena.run(Tree(world), "-a", *way, "src/", "dst")
    assert result["dst/f~"].content != result["dst/f"].content


def test_nothing_is_kept_by_a_dry_run(arena: Arena) -> None:
    """-n makes no backup directory and names no backup."""
    result = arena.run(WORLD, "-an", "--info=backup", "--backup-dir=bak", "src/", "dst")
    assert "dst/bak" not in result
    assert not any(line.startswith(b"backed up") for line in result.arsync.lines)


@pytest.mark.parametrize(
    "args", [("--suffix=", "-b"), ("--suffix=a/b", "-b")], ids=["empty", "slash"]
)
def test_suffixes_that_are_refused(args: tuple[str, ...], arena: Arena) -> None:
    """A suffix must make a name of its own in the same directory: exit 1."""
    arena.run(WORLD, "-a", *args, "src/", "dst", code=1)
