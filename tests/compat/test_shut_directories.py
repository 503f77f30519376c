"""Directories of DST whose mode keeps their own owner out, for who is not root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compat.arena import Arena
from tests.kit import Dir, File, Tree, make
from tests.kit.programs import run_arsync
from tests.requirements import need_unprivileged

NOBODY = 65534


@pytest.fixture(autouse=True)
def _ways_in(arena: Arena) -> None:
    need_unprivileged()
    os.chmod(arena.place, 0o755)


def give_away(world: Path) -> None:
    """Give a whole world to the user who will copy."""
    for path in [world, *world.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def tree(mode: int, *, new: bool) -> Dir:
    """Return a directory of such a mode, with another of the same in it."""
    entries = {"new": File(b"n"), "sub": Dir({"f": File(b"f")}, mode=0o755)} if new else {}
    below = Dir({"old": File(b"o"), **entries}, mode=mode)
    return Dir({"below": below, "old": File(b"o"), **entries}, mode=mode)


@pytest.mark.parametrize("old", [0o000, 0o300, 0o400, 0o500, 0o600])
@pytest.mark.parametrize("mode", [0o500, 0o755])
@pytest.mark.parametrize("new", [False, True])
def test_a_shut_directory_is_opened_for_its_owner(
    old: int, mode: int, new: bool, arena: Arena
) -> None:
    """What is in it is compared and copied, and it gets the mode of the source's at the end."""
    world = {"src": {"d": tree(mode, new=new)}, "dst": {"d": tree(old, new=False)}}
    arena.run(Tree(world), "-a", "src/", "dst", as_nobody=True, prepare=give_away)
    again = arena.run_again("-ai", "src/", "dst", as_nobody=True)
    assert again.arsync.lines == []


@pytest.mark.parametrize("mode", [0o500, 0o700])
def test_a_file_whose_mode_alone_differs(mode: int, arena: Arena) -> None:
    """The directory around it keeps its mode."""
    world = {
        "src": {"d": Dir({"f": File(mode=0o600)}, mode=mode)},
        "dst": {"d": Dir({"f": File(mode=0o644)}, mode=mode)},
    }
    result = arena.run(Tree(world), "-a", "src/", "dst", as_nobody=True, prepare=give_away)
    assert result["dst/d"].mode == mode


@pytest.mark.parametrize(("options", "code"), [("-an", 0), ("-rt", 23)])
def test_it_stays_shut(options: str, code: int, arena: Arena) -> None:
    """A dry run changes nothing, and without -p nobody says what the mode shall be at the end."""
    world = {"src": {"d": tree(0o755, new=True)}, "dst": {"d": tree(0o300, new=False)}}
    place = arena.place / "world"
    make(Tree(world), place)
    give_away(place)
    args = [f"--engine={arena.engine}", options, "src/", "dst"]
    assert run_arsync(args, cwd=place, as_nobody=True).code == code
    assert (place / "dst/d").stat().st_mode & 0o777 == 0o300


def test_a_shut_destination_of_single_files(arena: Arena) -> None:
    """DST itself gets no attributes then, so its mode is left alone."""
    world = {"src": {"f": File()}, "dst": Dir(mode=0o500)}
    arena.run(Tree(world), "-a", "src/f", "dst", code=23, as_nobody=True, prepare=give_away)


def test_a_shut_directory_on_the_way(arena: Arena) -> None:
    """-R: it gets the mode of the source's at the end, as any other does."""
    shut = Dir({"e": Dir({"f": File()}, mode=0o500)}, mode=0o500)
    world = {"src": {"d": shut}, "dst": {"d": Dir({"e": Dir({}, mode=0o500)}, mode=0o500)}}
    arena.run(Tree(world), "-aR", "src/./d/e/f", "dst", as_nobody=True, prepare=give_away)


@pytest.mark.parametrize("mode", [0o500, 0o555])
@pytest.mark.parametrize("entries", [{}, {"f": File(b"f")}], ids=["empty", "filled"])
@pytest.mark.parametrize(
    "call",
    [["src/", "dst"], ["src/d", "dst"], ["-R", "src/./d/new", "dst"], ["-R", "src/./d", "dst"]],
    ids=" ".join,
)
def test_a_directory_is_all_that_comes_into_one(
    call: list[str], entries: dict[str, File], mode: int, arena: Arena
) -> None:
    """Its owner is let in for a new directory, too, and it gets its mode back."""
    world = {
        "src": {"d": Dir({"new": Dir(entries, mode=0o755)}, mode=mode)},
        "dst": {"d": Dir(mode=mode)},
    }
    result = arena.run(Tree(world), "-a", *call, as_nobody=True, prepare=give_away)
    assert result["dst/d"].mode == mode
    assert "dst/d/new" in result
