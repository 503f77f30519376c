"""What --remove-source-files takes away from SRC, and what it leaves."""

from __future__ import annotations

import pytest

from tests.compat.arena import LONG_AGO_NS, Arena
from tests.kit import Device, Fifo, File, HardLink, Socket, Symlink, Tree

OLD_NS = LONG_AGO_NS - 10**12

WORLD = Tree(
    {
        "outside": File(b"outside"),
        "src": {
            "f": File(b"new"),
            "same": File(b"same"),
            "mode only": File(b"same", mode=0o600),
            "newer in dst": File(b"old", mtime_ns=OLD_NS),
            "new": File(b"new"),
            "link": Symlink("new"),
            "same link": Symlink("new"),
            "leads outside": Symlink("../outside"),
            "fifo": Fifo(),
            "same fifo": Fifo(),
            "socket": Socket(),
            "device": Device("c", 1, 3),
            "first": File(b"linked"),
            "further": HardLink("src/first"),
            "linked there too": File(b"x"),
            "its other name": HardLink("src/linked there too"),
            "d": {"e": {"g": File(b"new"), "h": File(b"same")}, "empty": {}},
            "only in src": {"x": File(b"x")},
        },
        "dst": {
            "f": File(b"older", mtime_ns=OLD_NS),
            "same": File(b"same"),
            "mode only": File(b"same", mode=0o644),
            "newer in dst": File(b"newer"),
            "same link": Symlink("new"),
            "same fifo": Fifo(),
            "linked there too": File(b"x"),
            "its other name": HardLink("dst/linked there too"),
            "d": {"e": {"h": File(b"same")}},
        },
    }
)


@pytest.mark.parametrize(
    "options",
    [
        ("-a",),
        ("-aH",),
        ("-rt",),
        ("-aL",),
        ("-au",),
        ("-a", "--existing"),
        ("-a", "--ignore-existing"),
        ("-a", "--exclude=f", "--exclude=d/"),
        ("-a", "--inplace"),
        ("-d",),
    ],
    ids=" ".join,
)
def test_what_is_removed(options: tuple[str, ...], arena: Arena) -> None:
    """What DST has leaves SRC, copied now or before; directories and what is left out stay."""
    result = arena.run(WORLD, *options, "--info=remove", "--remove-source-files", "src/", "dst")
    ours, theirs = (
        [line for line in outcome.lines if line.startswith(b"sender removed")]
        for outcome in (result.arsync, result.rsync)
    )
    assert ours == theirs
    assert "src" in result
    assert "outside" in result
    if "-d" not in options:
        assert b"sender removed " + (b"new" if "--existing" not in options else b"same") in ours


def test_a_dry_run_removes_nothing(arena: Arena) -> None:
    """-n leaves SRC as it is, and says of nothing that it was removed."""
    result = arena.run(WORLD, "-an", "--info=remove", "--remove-source-files", "src/", "dst")
    assert "src/new" in result
    assert result.arsync.lines == result.rsync.lines == []


def test_what_could_not_be_copied_stays(arena: Arena) -> None:
    """A failure keeps its file, and costs no other: exit 23."""
    world = {"src": {"x": File(b"x"), "y": File(b"y")}, "dst": {"x": {"in the way": File()}}}
    result = arena.run(Tree(world), "-a", "--remove-source-files", "src/", "dst", code=23)
    assert "src/x" in result
    assert "src/y" not in result


def test_of_several_sources_only_what_was_copied_is_removed(arena: Arena) -> None:
    """A file of a name that an earlier SRC gave stays where it is."""
    world = {
        "one": {"f": File(b"one"), "only one": File()},
        "two": {"f": File(b"two"), "only two": File()},
        "dst": {},
    }
    result = arena.run(Tree(world), "-a", "--remove-source-files", "one/", "two/", "dst")
    assert result["dst/f"].content is not None
    assert "two/f" in result
    assert "one/f" not in result
    assert "two/only two" not in result


@pytest.mark.parametrize(
    "args",
    [("src/f", "dst/other"), ("src/f", "src/new", "dst"), ("-R", "src/d/e/g", "dst"), ("src", "d")],
    ids=" ".join,
)
def test_operands(args: tuple[str, ...], arena: Arena) -> None:
    """It goes by SRC's names, whatever DST calls them."""
    arena.run(WORLD, "-a", "--remove-source-files", *args)
