"""What -i, -n, -v and --out-format print is what rsync prints, line by line."""

from __future__ import annotations

import pytest

from tests.compat.arena import LONG_AGO_NS, Arena
from tests.kit import (
    Device,
    Dir,
    Fifo,
    File,
    HardLink,
    Node,
    Pattern,
    Socket,
    Symlink,
    Tree,
    acl,
    make,
)
from tests.kit.programs import run_arsync, run_rsync

NEW = Tree(
    {
        "src": {
            "file": File(b"f"),
            "d": {"empty": {}, "sub": {"g": File(b"g")}},
            "link": Symlink("file"),
            "fifo": Fifo(),
            "socket": Socket(),
            "char": Device("c", 1, 3),
            "block": Device("b", 7, 0),
        },
        "dst": {},
    }
)


def test_new_entries(arena: Arena) -> None:
    """Each type has its letter, and everything about a new entry is new."""
    assert arena.lines(NEW, "-ai", "src/", "dst") == [
        ">f+++++++++ d/sub/g",
        ">f+++++++++ file",
        "cD+++++++++ block",
        "cD+++++++++ char",
        "cL+++++++++ link -> file",
        "cS+++++++++ fifo",
        "cS+++++++++ socket",
        "cd+++++++++ d/",
        "cd+++++++++ d/empty/",
        "cd+++++++++ d/sub/",
    ]


MISSING = Tree(
    {
        "src": Dir({"f": File(b"f"), "d": {"g": File()}}, mode=0o750),
        "more": {"h": File(), "d": {"i": File()}},
    }
)


@pytest.mark.parametrize("sources", ["src/", "more/h src/", "src/ more/"])
@pytest.mark.parametrize("options", ["-ai", "-ri", "-rlpgoi", "-aXAi"])
def test_a_missing_destination(arena: Arena, options: str, sources: str) -> None:
    """The destination's own directory has a line when it is made, whatever is kept of it."""
    assert "cd+++++++++ ./" in arena.lines(MISSING, options, *sources.split(), "dst")


def test_a_missing_destination_of_a_big_file(arena: Arena) -> None:
    """What is below the destination is done, and told, before its own big file is."""
    world = Tree({"src": {"d": {"f": File()}, "big": File(Pattern(40 << 20))}})
    assert "cd+++++++++ ./" in arena.lines(world, "-ai", "src/", "dst")


@pytest.mark.parametrize("options", ["-a", "-r", "-an", "-rn"])
@pytest.mark.parametrize("sources", ["src/", "src", "more/h src/", "src/f", "-R src/./f src/d"])
def test_created_files_of_a_missing_destination(arena: Arena, options: str, sources: str) -> None:
    """--stats counts the destination's own directory where SRC gives it its attributes."""
    result = arena.run(MISSING, options, "--stats", *sources.split(), "dst/")
    created = [
        [line for line in one.lines if line.startswith(b"Number of created files:")]
        for one in (result.rsync, result.arsync)
    ]
    assert created[0] == created[1] != []


def pair(src: Node, dst: Node) -> Tree:
    """Return a world with one entry `x` on both sides."""
    return Tree({"src": {"x": src}, "dst": {"x": dst}})


LATER_NS = LONG_AGO_NS + 60 * 10**9
SOME_ACL = acl("u::rw-,u:1:r--,g::-w-,m::r--,o::r--")

CHANGES = {
    "content": (">f..t...... x", pair(File(b"y", mtime_ns=LATER_NS), File(b"x")), "-ai"),
    "size and time": (">f.st...... x", pair(File(b"yy", mtime_ns=LATER_NS), File(b"x")), "-ai"),
    "size alone": (">f.s....... x", pair(File(b"yy"), File(b"x")), "-ai"),
    "time left out": (">f..T...... x", pair(File(b"y", mtime_ns=LATER_NS), File(b"x")), "-ri"),
    "mode": (".f...p..... x", pair(File(mode=0o600), File(mode=0o644)), "-ai"),
    "owner": (".f....o.... x", pair(File(uid=5), File(uid=6)), "-ai"),
    "group": (".f.....g... x", pair(File(gid=5), File(gid=6)), "-ai"),
    "everything": (
        ">f.stpog... x",
        pair(File(b"yy", mode=0o600, uid=5, gid=5, mtime_ns=1), File(b"x", mode=0o644)),
        "-ai",
    ),
    "acl": (".f.......a. x", pair(File(mode=0o644, acl=SOME_ACL), File(mode=0o644)), "-aiA"),
    "xattr": (".f........x x", pair(File(xattrs={"user.a": b"1"}), File()), "-aiX"),
    "long xattr": (".f........x x", pair(File(xattrs={"user.a": b"1" * 99}), File()), "-aiX"),
    "xattr gone": (".f........x x", pair(File(), File(xattrs={"user.a": b"1"})), "-aiX"),
    "directory's time": (".d..t...... x/", pair(Dir(mtime_ns=LATER_NS), Dir()), "-ai"),
    "directory's mode": (".d...p..... x/", pair(Dir(mode=0o700), Dir(mode=0o755)), "-ai"),
    "directory's xattr": (".d........x x/", pair(Dir(xattrs={"user.a": b"1"}), Dir()), "-aiX"),
    "directory's acl": (
        ".d.......a. x/",
        pair(Dir(mode=0o755, default_acl=SOME_ACL), Dir(mode=0o755)),
        "-aiA",
    ),
    "link's target": ("cLc........ x -> new", pair(Symlink("new"), Symlink("old")), "-ai"),
    "link's time": (".L..t...... x -> a", pair(Symlink("a", mtime_ns=5), Symlink("a")), "-ai"),
    "link's owner": (".L....o.... x -> a", pair(Symlink("a", uid=5), Symlink("a")), "-ai"),
    "device's number": ("cDc........ x", pair(Device("c", 1, 3), Device("c", 1, 5)), "-ai"),
    "device's mode": (".D...p..... x", pair(Device(mode=0o600), Device(mode=0o644)), "-ai"),
    "fifo's time": (".S..t...... x", pair(Fifo(mtime_ns=LATER_NS), Fifo()), "-ai"),
    "access time": (".f......u.. x", pair(File(atime_ns=10**9), File(atime_ns=10**10)), "-aiU"),
    "file for link": (">f+++++++++ x", pair(File(), Symlink("a")), "-ai"),
    "file for directory": (">f+++++++++ x", pair(File(), Dir()), "-ai"),
    "link for file": ("cL+++++++++ x -> a", pair(Symlink("a"), File()), "-ai"),
    "directory for file": ("cd+++++++++ x/", pair(Dir(), File()), "-ai"),
    "fifo for file": ("cS+++++++++ x", pair(Fifo(), File()), "-ai"),
    "nothing": (None, pair(File(b"x"), File(b"x")), "-ai"),
    "mode left out": (None, pair(File(mode=0o600), File(mode=0o644)), "-rti"),
    "owner left out": (None, pair(File(uid=5), File(uid=6)), "-rtpi"),
    "directory's time left out": (None, pair(Dir(mtime_ns=5), Dir()), "-aiO"),
    "link's time left out": (None, pair(Symlink("a", mtime_ns=5), Symlink("a")), "-aiJ"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_one_change(what: str, arena: Arena) -> None:
    """One difference between two entries is one line with its letters, or none if not asked for."""
    expected, world, options = CHANGES[what]
    assert arena.lines(world, options, "src/", "dst") == ([expected] if expected else [])


def test_hard_links(arena: Arena) -> None:
    """One name of a new group is a file, the others `hf`; which one is not promised."""
    world = {"src": {"a": File(b"x"), "b": HardLink("src/a"), "c": HardLink("src/a")}, "dst": {}}
    result = arena.run(Tree(world), "-aiH", "src/", "dst")
    columns = [line.split()[0] for line in result.arsync.lines]
    assert columns == [line.split()[0] for line in result.rsync.lines]
    assert columns == [b">f+++++++++", b"hf+++++++++", b"hf+++++++++"]


def test_a_file_that_becomes_a_link_of_another(arena: Arena) -> None:
    """An equal file that joins a group is an `hf` line without pluses."""
    world = {
        "src": {"a": File(b"x"), "b": HardLink("src/a")},
        "dst": {"a": File(b"x"), "b": File(b"x")},
    }
    lines = arena.lines(Tree(world), "-aiH", "src/", "dst")
    assert [line[:2] for line in lines] == ["hf"]


def test_twice_itemized_names_what_is_equal(arena: Arena) -> None:
    """With -ii an equal entry has a line too."""
    world = pair(File(b"x"), File(b"x"))
    assert ".f          x" in arena.lines(world, "-aii", "src/", "dst")


def test_odd_names_are_escaped(arena: Arena) -> None:
    """Control characters are printed in octal, and so is a backslash that looks like that."""
    names = [b"new\nline", b"tab\there", b"\x1b[1m", b"back\\#012", b"plain\\"]
    world = {b"src": {name: File() for name in names}, b"dst": {}}
    lines = arena.lines(Tree(world), "-ai", "src/", "dst")
    assert ">f+++++++++ new\\#012line" in lines


def test_verbose_lists_what_it_copies(arena: Arena) -> None:
    """With -v each entry that is copied is named once."""
    result = arena.run(NEW, "-av", "src/", "dst")
    assert names_of(result.arsync.lines) == names_of(result.rsync.lines)
    assert b"d/sub/g" in result.arsync.lines


def names_of(lines: list[bytes]) -> list[bytes]:
    """Return the lines that name an entry of NEW: what else -v says is each program's own."""
    known = {path.removeprefix(b"src/") for path in NEW.nodes}
    return sorted(line for line in lines if line.split(b" -> ")[0].rstrip(b"/") in known)


@pytest.mark.parametrize("template", ["%n", "%i %n%L", "%f", "[%o] %l %n", "%B %U:%G %M %n", "%%"])
def test_an_own_format(template: str, arena: Arena) -> None:
    """What --out-format asks for is filled in as rsync does."""
    world = {
        "src": Dir(
            {"f": File(b"abc", mode=0o640, uid=3, gid=4), "l": Symlink("f"), "d": {"g": File()}}
        ),
        "dst": {},
    }
    arena.lines(Tree(world), "-a", f"--out-format={template}", "src/", "dst")


@pytest.mark.parametrize("template", ["%-20n|", "%20n|%-9f|", "%3n|", "%-20L|%20L|"])
def test_padding_counts_the_bytes_of_a_name(template: str, arena: Arena) -> None:
    """Not the columns that it takes when it is written."""
    names = [b"a b", b"new\nline", b"\xff", "ü".encode()]
    links = {b"to " + name: Symlink(name) for name in names}
    world = {b"src": {**{name: File() for name in names}, **links}, b"dst": {}}
    lines = arena.lines(Tree(world), "-rl", f"--out-format={template}", "src/", "dst")
    assert len(lines) == 8


@pytest.mark.parametrize("template", ["%i %n%L", "%f", "%-30n|"])
@pytest.mark.parametrize("dot", ["", "/."])
def test_names_of_an_absolute_path(template: str, dot: str, arena: Arena) -> None:
    """With -R they begin with a slash, but for a path that has its beginning marked."""
    tree = {"src": {"d": {"f": File(b"f"), "l": Symlink("f")}}, "dst": {}}
    place = arena.place / "world"
    make(Tree(tree).at(LONG_AGO_NS), place)
    options = ["-naR", f"--out-format={template}", f"{place}{dot}/src/d", f"{place}/dst"]
    rsync = run_rsync(options, cwd=place)
    arsync = run_arsync([f"--engine={arena.engine}", *options], cwd=place)
    assert rsync.code == arsync.code == 0
    assert rsync.lines == arsync.lines


def test_further_names_that_need_nothing(arena: Arena) -> None:
    """Of a file whose mode differs the first name has the change; -ii names the others, too."""
    mode = File(b"x", mode=0o600)
    world = {
        "src": {"a": mode, "b": HardLink("src/a"), "c": HardLink("src/a")},
        "dst": {"a": File(b"x", mode=0o644), "b": HardLink("dst/a"), "c": HardLink("dst/a")},
    }
    lines = arena.lines(Tree(world), "-aHii", "src/", "dst")
    assert lines == [".d          ./", ".f...p..... a", "hf          b", "hf          c"]


def test_quiet_says_nothing(arena: Arena) -> None:
    """With -q even -i prints nothing."""
    assert arena.lines(NEW, "-aq", "src/", "dst") == []


def test_a_clean_run_says_nothing(arena: Arena) -> None:
    """Without -v and -i nothing is printed."""
    assert arena.lines(NEW, "-a", "src/", "dst") == []
