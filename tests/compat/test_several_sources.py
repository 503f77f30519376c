"""Several sources for one destination: what they share, and what one has given already."""

from __future__ import annotations

import os

import pytest

from tests.compat.arena import Arena
from tests.kit import Dir, Fifo, File, HardLink, Symlink, Tree, make
from tests.kit.programs import run_arsync

LINKED = {
    "p": {"a": {"x": File(b"1"), "f": Fifo(), "z": File(b"z")}},
    "q": {"b": {"x": HardLink("p/a/x"), "y": HardLink("p/a/x"), "f": HardLink("p/a/f")}},
    "r": {"x": HardLink("p/a/x"), "c": {"w": HardLink("p/a/x"), "f": HardLink("p/a/f")}},
}

LINKED_SOURCES = {
    "other parents": ["p/a", "q/b"],
    "three": ["p/a", "q/b", "r/c"],
    "in another order": ["r/c", "p/a", "q/b"],
    "merged": ["p/a/", "q/b/", "r/"],
    "one inside the other": ["p", "p/a"],
    "files": ["p/a/x", "q/b/y"],
    "with nothing linked between": ["p/a/", "p/a/z", "q/b"],
    "relative": ["-R", "p/./a", "q/./b", "r/./c/w"],
}


@pytest.mark.parametrize("sources", LINKED_SOURCES.values(), ids=LINKED_SOURCES)
def test_names_of_one_inode_in_several_sources(sources: list[str], arena: Arena) -> None:
    """With -H they are one file, whichever source they come from; a further run changes nothing."""
    arena.run(Tree({**LINKED, "dst": {}}), "-aH", *sources, "dst")
    again = arena.run_again("-aHi", *sources, "dst")
    assert again.arsync.lines == []


def test_an_equal_file_of_a_later_source_becomes_a_link(arena: Arena) -> None:
    """It is up to date but a file of its own: it is linked to the name of the first source."""
    world = {**LINKED, "dst": {"a": {"x": File(b"1")}, "b": {"x": File(b"1"), "y": File(b"2")}}}
    arena.run(Tree(world), "-aH", "p/a", "q/b", "dst")
    inodes = {os.lstat(arena.place / "arsync" / "dst" / name).st_ino for name in ("a/x", "b/x")}
    assert len(inodes) == 1


def test_a_dry_run_names_the_links_of_a_later_source(arena: Arena) -> None:
    """What -n says of them is what a run does."""
    world = {
        "p": {"a": {"x": File(b"1")}},
        "q": {"b": {"y": HardLink("p/a/x")}},
        "dst": {},
    }
    make(Tree(world), arena.place)
    shown = [
        run_arsync([f"--engine={arena.engine}", *how, "p/a", "q/b", "dst"], cwd=arena.place).lines
        for how in (["-aHin"], ["-aHi"])
    ]
    assert shown[0] == shown[1]
    assert b"hf+++++++++ b/y => a/x" in shown[0]


def test_what_relative_left_alone_is_not_given(arena: Arena) -> None:
    """Of a directory on the way to an earlier source only that source was copied."""
    world = {
        "one": {"d": {"f": File(b"1"), "g": File(b"left alone"), "e": {"h": File(b"too")}}},
        "two": {"d": {"f": File(b"22"), "g": File(b"2"), "e": {"h": File(b"2"), "i": File()}}},
        "dst": {},
    }
    result = arena.run(Tree(world), "-aR", "one/./d/f", "two/./d", "dst")
    assert result["dst/d/f"].content == result["one/d/f"].content
    assert result["dst/d/g"].content == result["two/d/g"].content
    assert result["dst/d/e/h"].content == result["two/d/e/h"].content


SEEN = {
    "one": {
        "real": {"f": File(b"1"), "sub": {"g": File(b"1")}},
        "d": Symlink("real"),
        "file": Symlink("real/f"),
        "nothing": Symlink("nowhere"),
    },
    "two": {
        "d": {"f": File(b"22"), "h": File(b"2"), "sub": {"g": File(b"22"), "i": File(b"2")}},
        "file": File(b"22"),
        "nothing": {"j": File(b"2")},
    },
    "dst": {},
}


@pytest.mark.parametrize(
    ("options", "code"),
    [("-rtL", 23), ("-rtL --exclude=nothing", 0), ("-rtlk --exclude=nothing", 0)],
)
def test_a_link_that_an_earlier_source_was_copied_through(
    options: str, code: int, arena: Arena
) -> None:
    """It is the directory that it leads to: what a later source has in it is merged."""
    result = arena.run(Tree(SEEN), *options.split(), "one/", "two/", "dst", code=code)
    assert "dst/d/sub/i" in result


@pytest.mark.parametrize("options", ["-rt --copy-unsafe-links", "-rtl --copy-unsafe-links"])
def test_an_unsafe_link_of_an_earlier_source(options: str, arena: Arena) -> None:
    """It is what it leads to, in a directory below as well."""
    world = {
        "out": {"f": File(b"out"), "e": {"g": File(b"out")}},
        "one": {"s": {"d": Symlink("../../out"), "f": Symlink("../../out/f")}},
        "two": {"s": {"d": {"f": File(b"2"), "e": {"g": File(b"2"), "h": File()}}, "f": File()}},
        "dst": {},
    }
    arena.run(Tree(world), *options.split(), "one/", "two/", "dst")


def test_a_link_that_was_left_out_is_not_in_the_way(arena: Arena) -> None:
    """--safe-links: the later source's entry of that name is copied."""
    world = {
        "one": {"d": Symlink("/"), "f": Symlink("../f")},
        "two": {"d": {"g": File(b"2")}, "f": File(b"2")},
        "dst": {},
    }
    result = arena.run(Tree(world), "-a", "--safe-links", "one/", "two/", "dst")
    assert "dst/d/g" in result


def test_relative_through_a_link_in_two_sources(arena: Arena) -> None:
    """Both make a directory of it; of a file in both the first one's counts."""
    world = {
        "one": {"real": {"f": File(b"1"), "k": File(b"1")}, "l": Symlink("real")},
        "two": {"other": {"f": File(b"22"), "g": File(b"2")}, "l": Symlink("other")},
        "dst": {},
    }
    arena.run(Tree(world), "-aR", "one/./l/f", "two/./l/f", "two/./l/g", "dst")


@pytest.mark.parametrize(
    "sources", [["one/", "two"], ["one/", "two/s/g"], ["-R", "one/./f", "two/./s/g"]]
)
def test_what_comes_into_a_directory_later_leaves_its_time(
    sources: list[str], arena: Arena
) -> None:
    """A directory keeps the time that the first source gave it."""
    world = {
        "one": Dir({"f": File(b"1"), "s": Dir({}, mtime_ns=5)}, mtime_ns=3),
        "two": Dir({"s": Dir({"g": File(b"2")}, mtime_ns=6)}, mtime_ns=7),
        "dst": {},
    }
    arena.run(Tree(world), "-a", *sources, "dst")
    arena.run_again("-a", *sources, "dst")


def test_a_directory_on_the_way_keeps_its_time(arena: Arena) -> None:
    """-R into equal directories: what is new in them does not move their times."""
    world = {
        "src": {"a": Dir({"b": Dir({"f": File()}, mtime_ns=6)}, mtime_ns=5)},
        "dst": {"a": Dir({"b": Dir({}, mtime_ns=6)}, mtime_ns=5)},
    }
    result = arena.run(Tree(world), "-aR", "src/./a/b/f", "dst")
    assert (result["dst/a"].mtime_ns, result["dst/a/b"].mtime_ns) == (5, 6)


@pytest.mark.parametrize(
    "sources", [["one/", "two/"], ["one/", "two"], ["-R", "one/./", "two/./s"]]
)
def test_a_directory_of_two_sources_has_one_line(sources: list[str], arena: Arena) -> None:
    """Its attributes are the first one's, and with -n they are not told for the second again."""
    world = {
        "one": Dir({"f": File(b"1"), "s": Dir({}, mode=0o700), "new": {}}, mtime_ns=3),
        "two": {"s": {"g": File(b"2")}, "new": {"h": File(b"2")}},
        "dst": {"s": {}},
    }
    arena.lines(Tree(world), "-ai", *sources, "dst")


def test_relative_with_a_leading_dot_gives_the_root_its_xattrs(arena: Arena) -> None:
    """The root is copied as any directory is."""
    world = {"f": File(), "dst": {}}
    arena.run(
        Tree(world), "-aXR", "./f", "dst", prepare=lambda place: os.setxattr(place, "user.a", b"1")
    )
