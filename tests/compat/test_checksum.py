"""-c beside rsync's: what is copied, what is told, what is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compat.arena import LONG_AGO_NS, Arena
from tests.kit import Dir, File, HardLink, Node, Pattern, Sparse, Symlink, Tree
from tests.requirements import need_unprivileged

LATER_NS = LONG_AGO_NS + 60 * 10**9
MIB = 1 << 20


def pair(src: Node, dst: Node) -> Tree:
    """Return a world with one entry `x` on both sides."""
    return Tree({"src": {"x": src}, "dst": {"x": dst}})


SAME = pair(File(b"same"), File(b"same"))
OTHER = pair(File(b"some"), File(b"same"))
LATER = pair(File(b"same", mtime_ns=LATER_NS), File(b"same"))
OTHER_LATER = pair(File(b"some", mtime_ns=LATER_NS), File(b"same"))
LONGER = pair(File(b"longer"), File(b"same"))

CASES = {
    "equal": (None, SAME, "-aic"),
    "content alone": (">fc........ x", OTHER, "-aic"),
    "time alone": (".f..t...... x", LATER, "-aic"),
    "content and time": (">fc.t...... x", OTHER_LATER, "-aic"),
    "size": (">fcs....... x", LONGER, "-aic"),
    "size and time": (
        ">fcst...... x",
        pair(File(b"longer", mtime_ns=LATER_NS), File(b"same")),
        "-aic",
    ),
    "mode too": (
        ">fc..p..... x",
        pair(File(b"some", mode=0o600), File(b"same", mode=0o644)),
        "-aic",
    ),
    "mode alone": (
        ".f...p..... x",
        pair(File(b"same", mode=0o600), File(b"same", mode=0o644)),
        "-aic",
    ),
    "times not kept, equal": (None, LATER, "-ric"),
    "times not kept, content": (">fc.T...... x", OTHER_LATER, "-ric"),
    "times not kept, size": (">fcsT...... x", LONGER, "-ric"),
    "new": (">f+++++++++ x", Tree({"src": {"x": File(b"x")}, "dst": {}}), "-aic"),
    "both empty": (None, pair(File(), File()), "-aic"),
    "both empty, other time": (".f..t...... x", pair(File(mtime_ns=LATER_NS), File()), "-aic"),
    "file for link": (">f+++++++++ x", pair(File(b"x"), Symlink("a")), "-aic"),
    "link": (".L..t...... x -> a", pair(Symlink("a", mtime_ns=5), Symlink("a")), "-aic"),
    "directory": (".d..t...... x/", pair(Dir(mtime_ns=LATER_NS), Dir()), "-aic"),
    "holes and zeros": (None, pair(File(Sparse(MIB)), File(bytes(MIB))), "-aic"),
    "followed": (
        ">fc........ x",
        Tree({"f": File(b"some"), "src": {"x": Symlink("../f")}, "dst": {"x": File(b"same")}}),
        "-aicL",
    ),
    "in place": (">fc........ x", OTHER, "-aic --inplace"),
    "-I is weaker": (None, SAME, "-aicI"),
    "--size-only is weaker": (">fc........ x", OTHER, "-aic --size-only"),
    "-u is asked first": (None, pair(File(b"some"), File(b"same", mtime_ns=LATER_NS)), "-aicu"),
    "-u, older": (">fc.t...... x", OTHER_LATER, "-aicu"),
    "--ignore-existing": (None, OTHER, "-aic --ignore-existing"),
    "--existing": (">fc........ x", OTHER, "-aic --existing"),
    "twice": (">fc........ x", OTHER, "-aicc"),
    "taken back": (None, OTHER, "-aic --no-checksum"),
    "taken back, short": (None, OTHER, "-aic --no-c"),
    "long": (">fc........ x", OTHER, "-ai --checksum"),
}


@pytest.mark.parametrize("what", CASES)
def test_one_entry(what: str, arena: Arena) -> None:
    """Each difference is the same line, in a dry run too, and leads to the same."""
    expected, world, options = CASES[what]
    lines = arena.lines(world, *options.split(), "src/", "dst")
    assert lines == ([expected] if expected else [])


@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + 1, 33 * MIB])
def test_long_files(size: int, arena: Arena) -> None:
    """A long file that differs is found, and one that does not is not."""
    world = {
        "src": {"same": File(Pattern(size, 1)), "other": File(Pattern(size, 2))},
        "dst": {"same": File(Pattern(size, 1)), "other": File(Pattern(size, 3))},
    }
    assert arena.lines(Tree(world), "-aic", "src/", "dst") == [">fc........ other"]


def test_hard_links(arena: Arena) -> None:
    """Further names follow their first one, which is compared once."""
    world = {
        "src": {
            "a": File(b"same"),
            "a2": HardLink("src/a"),
            "b": File(b"some"),
            "b2": HardLink("src/b"),
            "c": File(b"join"),
            "c2": HardLink("src/c"),
        },
        "dst": {
            "a": File(b"same", mtime_ns=LATER_NS),
            "a2": HardLink("dst/a"),
            "b": File(b"same"),
            "b2": HardLink("dst/b"),
            "c": File(b"join"),
            "c2": File(b"join"),
        },
    }
    result = arena.run(Tree(world), "-aHic", "src/", "dst")
    assert sorted(result.arsync.lines) == sorted(result.rsync.lines)
    again = arena.run_again("-aHic", "src/", "dst")
    assert (again.arsync.lines, again.rsync.lines) == ([], [])
    assert arena.run_again("-naHic", "src/", "dst").arsync.lines == []


def test_who_may_not_read_the_destination_writes_it(arena: Arena) -> None:
    """A file that nobody can read is taken for another content."""
    need_unprivileged()
    os.chmod(arena.place, 0o755)
    world = Tree(
        {
            "src": {"x": File(b"same", mode=0o644)},
            "dst": {"x": File(b"same", mode=0o200)},
        }
    )
    result = arena.run(world, "-rptic", "src/", "dst", as_nobody=True, prepare=give_to_nobody)
    assert result.arsync.lines == result.rsync.lines == [b">fc..p..... x"]


def give_to_nobody(world: Path) -> None:
    """Give everything to the user who will copy."""
    for path in [world, *world.rglob("*")]:
        os.chown(path, 65534, 65534)
    os.chmod(world, 0o755)


def test_counts(arena: Arena) -> None:
    """Only what differs counts as transferred."""
    result = arena.run(
        Tree(
            {
                "src": {"a": File(b"some"), "b": File(b"same"), "c": File(b"new")},
                "dst": {"a": File(b"same"), "b": File(b"same", mtime_ns=LATER_NS)},
            }
        ),
        *("-ac", "--stats", "src/", "dst"),
    )
    for line in (
        b"Number of created files: 1 (reg: 1)",
        b"Number of regular files transferred: 2",
        b"Total transferred file size: 7 bytes",
        b"Literal data: 7 bytes",
    ):
        assert line in result.rsync.lines
        assert line in result.arsync.lines
