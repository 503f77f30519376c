"""Which of the entries that differ are brought up to date: -u, -I, --size-only, --existing, -@."""

from __future__ import annotations

import pytest

from tests.compat.arena import LONG_AGO_NS, Arena
from tests.kit import Dir, Fifo, File, HardLink, Node, Symlink, Tree

SECOND = 10**9


def at(offset_s: float, content: bytes = b"x", mode: int = 0o644) -> File:
    """Return a file of a time so many seconds after the one that all worlds have."""
    return File(content, mode=mode, mtime_ns=LONG_AGO_NS + int(offset_s * SECOND))


def world(pairs: dict[str, tuple[Node | None, Node | None]]) -> Tree:
    """Return a world with these entries in src and dst."""
    src = {name: src for name, (src, _) in pairs.items() if src is not None}
    dst = {name: dst for name, (_, dst) in pairs.items() if dst is not None}
    return Tree({"src": Dir(src), "dst": Dir(dst)})


ENTRIES: dict[str, tuple[Node | None, Node | None]] = {
    "newer in dst": (at(5, b"src"), at(9, b"dst")),
    "newer in dst, same size and mode": (at(5, b"s"), at(9, b"d", 0o600)),
    "older in dst": (at(9, b"src"), at(5, b"dst")),
    "same": (at(5), at(5)),
    "same but for the mode": (at(5), at(5, mode=0o600)),
    "same time, other size": (at(5, b"src"), at(5, b"dst!")),
    "other time, same content": (at(5), at(7)),
    "far in time": (at(0), at(4000)),
    "only in src": (at(5), None),
    "only in dst": (None, at(5)),
    "file for link": (at(5), Symlink("a", mtime_ns=LONG_AGO_NS + 99 * SECOND)),
    "file for directory": (at(5), Dir(mtime_ns=LONG_AGO_NS + 99 * SECOND)),
    "file for fifo": (at(5), Fifo(mtime_ns=LONG_AGO_NS + 99 * SECOND)),
    "link for file": (Symlink("a"), at(99)),
    "link": (Symlink("a"), Symlink("b", mtime_ns=LONG_AGO_NS + 99 * SECOND)),
    "link's time": (Symlink("a"), Symlink("a", mtime_ns=LONG_AGO_NS + 1 * SECOND)),
    "new link": (Symlink("a"), None),
    "fifo": (Fifo(), Fifo(mtime_ns=LONG_AGO_NS + 99 * SECOND)),
    "fifo for file": (Fifo(), at(99)),
    "new directory": (Dir({"x": at(5), "y": Dir({"z": at(5)})}), None),
    "directory for file": (Dir({"x": at(5)}), at(99)),
    "both": (
        Dir({"new": at(5), "old": at(5, b"src"), "d": {"x": at(5)}}, mode=0o700),
        Dir({"old": at(9, b"dst"), "d": {"x": at(9)}}, mtime_ns=LONG_AGO_NS + 99 * SECOND),
    ),
}
# With nanoseconds rsync -u takes what is newer by a second or less for older.
NEAR: dict[str, tuple[Node | None, Node | None]] = {
    "one nanosecond newer": (at(5, b"s"), File(b"d", mtime_ns=LONG_AGO_NS + 5 * SECOND + 1)),
    "one second newer": (at(6, b"s"), at(5, b"d")),
    "one second older": (at(5, b"s"), at(6, b"d")),
}
# And it complains of what is in a directory that --ignore-existing has just left alone.
IN_THE_WAY = "directory for file"


def world_of(rules: tuple[str, ...]) -> Tree:
    """Return a world in which the rules mean the same to both programs."""
    whole_seconds = any(rule.startswith(("-@", "--modify")) and "-1" not in rule for rule in rules)
    pairs = ENTRIES | (NEAR if "-u" not in rules or whole_seconds else {})
    if "--ignore-existing" in rules:
        pairs = {name: pair for name, pair in pairs.items() if name != IN_THE_WAY}
    return world(pairs)


RULES = [
    ("-u",),
    ("-I",),
    ("--size-only",),
    ("--existing",),
    ("--ignore-non-existing",),
    ("--ignore-existing",),
    ("--existing", "--ignore-existing"),
    ("-u", "-I"),
    ("-u", "--size-only"),
    ("-I", "--size-only"),
    ("-u", "--existing"),
    ("--modify-window=0",),
    ("--modify-window=-1",),
    ("--modify-window=1",),
    ("-@3",),
    ("-@5000",),
    ("-u", "-@0"),
    ("-u", "-@-1"),
    ("-u", "-@1"),
    ("-u", "-@3"),
    ("-u", "-@5000"),
]


@pytest.mark.parametrize("base", ["-a", "-rlD", "-rltD"])
@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_rules(rules: tuple[str, ...], base: str, arena: Arena) -> None:
    """Each rule leaves and changes what rsync's does, and -i says the same."""
    arena.lines(world_of(rules), base, "-i", *rules, "src/", "dst")


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_what_is_left_alone_is_named(rules: tuple[str, ...], arena: Arena) -> None:
    """With --info=skip each entry that a rule leaves alone has its line, and no other has."""
    lines = arena.lines(world_of(rules), "-a", "--info=skip", *rules, "src/", "dst")
    if "--existing" in rules:
        assert 'not creating new directory "new directory"' in lines


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_rules_with_everything_named(rules: tuple[str, ...], arena: Arena) -> None:
    """With -ii what is equal has a line, and what a rule leaves alone has none."""
    arena.lines(world_of(rules), "-a", "-ii", "--info=skip0", *rules, "src/", "dst")


LINKED = Tree(
    {
        "src": {
            "a": at(5, b"src"),
            "b": HardLink("src/a"),
            "c": HardLink("src/a"),
            "d": {"e": HardLink("src/a")},
        },
        "dst": {"a": at(9, b"dst"), "c": at(1, b"dst, old"), "x": HardLink("dst/c")},
    }
)


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_hard_links(rules: tuple[str, ...], arena: Arena) -> None:
    """Of the names of one file those that are left alone take no part."""
    arena.run(LINKED, "-aH", *rules, "src/", "dst")


@pytest.mark.parametrize("rules", [("--existing",), ("--ignore-existing",), ("-u",)], ids=" ".join)
@pytest.mark.parametrize(
    "args",
    [
        ("src", "dst"),
        ("src/", "new"),
        ("src", "new"),
        ("src/older in dst", "new"),
        ("src/older in dst", "dst/other"),
        ("src/older in dst", "dst/newer in dst"),
        ("-R", "src/both/new", "dst"),
        ("-R", "src/./both/new", "dst"),
    ],
    ids=" ".join,
)
def test_operands(args: tuple[str, ...], rules: tuple[str, ...], arena: Arena) -> None:
    """The rules hold for every way to name SRC and DST, a DST that is missing among them."""
    result = arena.run(world_of(rules), "-ai", *rules, *args)
    ours, theirs = (
        [line for line in outcome.lines if not line.startswith(b"created directory")]
        for outcome in (result.arsync, result.rsync)
    )
    assert ours == theirs


def test_stats_of_what_is_left_alone(arena: Arena) -> None:
    """What a rule leaves alone is counted as found and not as transferred."""
    result = arena.run(
        world_of(("--ignore-existing",)), "-a", "--stats", "--ignore-existing", "src/", "dst"
    )
    counted = (b"Number of files:", b"Number of created", b"Number of regular files transferred")
    ours, theirs = (
        [line for line in outcome.lines if line.startswith(counted)]
        for outcome in (result.arsync, result.rsync)
    )
    assert ours == theirs


@pytest.mark.parametrize("level", ["1", "2"])
def test_how_what_exists_differs(level: str, arena: Arena) -> None:
    """With --info=skip2 each entry that --ignore-existing leaves alone says how it differs."""
    rules = ("--ignore-existing", f"--info=skip{level}")
    lines = arena.lines(world_of(rules), "-a", *rules, "src/", "dst")
    suffix = " (attr change)" if level == "2" else ""
    assert f"same but for the mode exists{suffix}" in lines
