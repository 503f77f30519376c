"""rsync is the oracle of --delete: the same entries go, the same ones stay, the same is said."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st

from tests.compat.arena import LONG_AGO_NS, Arena
from tests.compat.test_filters import LINES, PATTERNS
from tests.kit import Aspects, Fifo, File, Symlink, Tree, assert_same, differences, make, read
from tests.kit.filesystems import Filesystems
from tests.kit.programs import Outcome, run_arsync, run_rsync
from tests.kit.snapshot import without_now
from tests.kit.strategies import Kinds, edited, plain_names, trees
from tests.requirements import need_rsync

SRC = {"keep": File(b"1"), "d": {"f": File(b"2"), "same": File(b"3")}, "e": {}}
EXTRA = {
    "gone": File(b"x"),
    "link": Symlink("d"),
    "pipe": Fifo(),
    "old": {"a": File(b"4"), "deep": {"er": {"b": File(b"5")}, "empty": {}}},
}
WORLD = {
    "src": SRC,
    "dst": {**SRC, **EXTRA, "d": {"f": File(b"2"), "more": File(b"6"), "sub": {"g": File(b"7")}}},
}

OPTIONS = [
    ["--delete"],
    ["--delete-before"],
    ["--delete-during"],
    ["--del"],
    ["--delete-delay"],
    ["--delete-after"],
    ["--delete-excluded"],
    ["--delete", "--exclude=more", "--exclude=b"],
    ["--delete", "--delete-excluded", "--exclude=same"],
    ["--delete", "--exclude=same"],
    ["--delete-excluded", "--filter=P b", "--exclude=same"],
    ["--delete", "--filter=P /old/deep/er/"],
    ["--delete", "--filter=R b", "--exclude=b", "--exclude=g"],
    ["--delete", "--filter=H same"],
    ["--delete", "--filter=-p b"],
    ["--delete", "--filter=-p more"],
    ["--delete", "-C"],
    ["--delete", "-x"],
    ["--delete", "-O"],
    ["--delete", "--no-times"],
    ["--delete", "--ignore-errors"],
    ["--delete", "--max-delete=100"],
    ["--delete", "-b"],
    ["--delete", "-b", "--suffix=.old"],
    ["--delete", "-b", "--backup-dir=../bak"],
    ["--delete-excluded", "-b", "--backup-dir=../bak", "--suffix=.x"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_what_only_the_destination_has_goes(options: list[str], arena: Arena) -> None:
    """Files, links, fifos and directories with all that is in them; what a rule protects stays."""
    result = arena.run(Tree(WORLD), "-a", *options, "src/", "dst")
    assert "dst/gone" not in result


OPERANDS = [
    ["src", "dst"],
    ["src/d", "src/e", "dst"],
    ["src/keep", "dst"],
    ["-R", "src/d", "dst"],
    ["-R", "src/./d", "dst"],
    ["-R", "src/./", "dst"],
    ["src/", "two/", "dst"],
    ["two/", "src/", "dst"],
    ["src/d", "two/", "dst"],
    ["two/", "src/d", "dst"],
    ["-rd", "src/", "dst"],
]


@pytest.mark.parametrize("operands", OPERANDS, ids=" ".join)
def test_only_whole_directories_lose_entries(operands: list[str], arena: Arena) -> None:
    """What no source has goes, in directories that are transferred whole."""
    world = {
        **WORLD,
        "two": {"link": Symlink("2"), "d": {"more": File(b"two"), "n": File()}, "old": {}},
    }
    world["dst"] = {**world["dst"], "src": {"d": {"x": File()}, "x": File()}, "two": {"y": File()}}
    arena.run(Tree(world), "-a", "--delete", *operands)


def test_without_recursion_one_level_is_looked_at(arena: Arena) -> None:
    """With -d the entries of SRC/ are compared, and what is in its directories is not."""
    result = arena.run(Tree(WORLD), "-lptd", "--delete", "src/", "dst")
    assert "dst/d/more" in result
    assert "dst/old" not in result


def test_a_directory_of_many_pages(tmp_path: Path) -> None:
    """Extras between, before and after the names of a long directory, and long extra ones."""
    need_rsync()
    src = {f"n{number:05}": File() for number in range(0, 5000, 2)}
    dst = {f"n{number:05}": File() for number in range(0, 7000, 3)}
    tree = Tree({"d": src}), Tree({"d": dst, "x": dst, "A": File(), "z": File()})
    make(tree[0].at(LONG_AGO_NS), tmp_path / "src")
    for name in ("rsync", "arsync"):
        make(tree[1].at(LONG_AGO_NS), tmp_path / name)
    outcomes = both(tmp_path, "-a", "--delete", "-i")
    assert outcomes[0].lines == outcomes[1].lines
    assert_same(tmp_path / "rsync", tmp_path / "arsync")


def both(place: Path, *args: str) -> tuple[Outcome, Outcome]:
    """Run both programs, each to a destination of its own."""
    expected = run_rsync([*args, "src/", "rsync/"], cwd=place)
    found = run_arsync([*args, "src/", "arsync/"], cwd=place)
    assert found.code == expected.code, f"rsync says: {expected}\narsync says: {found}"
    return expected, found


FORMATS = ["-i", "--out-format=%o %n", "--out-format=%i %n%L", "--out-format=%n|%f"]


@pytest.mark.parametrize("words", FORMATS)
def test_each_deletion_has_rsyncs_line(words: str, arena: Arena) -> None:
    """The lines are rsync's, and -n prints the same; how is said by -i or a format."""
    world = {"src": SRC, "dst": {**SRC, **EXTRA, "nice\x01": File()}}
    lines = arena.lines(Tree(world), "-a", "--delete", words, "src/", "dst")
    assert any("old/deep/er" in line for line in lines)


def test_names_are_told_with_v(tmp_path: Path) -> None:
    """With -v each deletion is a line, as it is rsync's."""
    need_rsync()
    make(Tree(SRC).at(LONG_AGO_NS), tmp_path / "src")
    for name in ("rsync", "arsync"):
        make(Tree({**SRC, **EXTRA}).at(LONG_AGO_NS), tmp_path / name)
    for args in (["-anv"], ["-av"]):
        outcomes = both(tmp_path, *args, "--delete")
        lines = [[one for one in each.lines if b"deleting" in one] for each in outcomes]
        assert lines[0] == lines[1] != []


@pytest.mark.parametrize("words", ["--force", "--delete", "--delete-before", "--delete-during"])
def test_a_directory_gives_way(words: str, arena: Arena) -> None:
    """What is in a directory goes where SRC has a file, a link or a fifo of its name."""
    src = {"f": File(b"1"), "d": {"l": Symlink("x"), "p": Fifo(), "e": File()}, "g": File(b"1")}
    full = {"a": File(), "b": {"c": File()}}
    dst = {"f": full, "d": {"l": full, "p": full, "e": {}}, "g": File(b"1")}
    lines = arena.lines(Tree({"src": src, "dst": dst}), "-aHii", words, "src/", "dst")
    assert len([line for line in lines if line.startswith("*deleting")]) == 9


def test_a_directory_does_not_give_way(arena: Arena) -> None:
    """What is protected, or not asked to go, keeps its place: exit 23."""
    world = Tree({"src": {"f": File(), "g": File()}, "dst": {"f": {"a": File(), "p": File()}}})
    arena.run(world, "-a", "--force", "--filter=P p", "src/", "dst", code=23)


@pytest.mark.parametrize("when", ["--delete", "--delete-before"])
def test_pruned_directories(when: str, arena: Arena) -> None:
    """With -m extras are found beside directories that wait for entries."""
    src = {"a": {"b": {"c": {"f": File()}}, "e": {}}, "k": {"f": File()}, "z": File()}
    dst = {"a": {"b": {"x": {"y": File()}, "c": {"old": File()}}, "n": {"o": File()}}, "q": {}}
    arena.run(Tree({"src": src, "dst": dst}), "-am", when, "src/", "dst")


def test_stats_count_deletions(arena: Arena) -> None:
    """--stats says how many of each type went, with -n how many would."""
    for name in ("rsync", "arsync"):
        make(Tree(WORLD).at(LONG_AGO_NS), arena.place / name)
    dry = run_arsync(["-an", "--delete", "--stats", "src/", "dst"], cwd=arena.place / "arsync")
    result = arena.run_again("-a", "--delete", "--stats", "src/", "dst")
    (line,) = (line for line in result.rsync.lines if b"deleted" in line)
    # rsync counts fifos and devices by a name of their own
    for outcome in (dry, result.arsync):
        assert line.partition(b":")[2] in b"\n".join(outcome.lines)


KINDS = Kinds(names=plain_names, attributes=False, hard_links=False, acls=False, privileges=False)
WHENS = [
    "--force",
    "--delete",
    "--delete-before",
    "--delete-after",
    "--delete-delay",
    "--delete-excluded",
]
RULES = st.one_of(
    LINES.map(lambda rule: f"--filter={rule}"),
    PATTERNS.map(lambda pattern: f"--filter=P {pattern}"),
    PATTERNS.map(lambda pattern: f"--filter=-p {pattern}"),
    PATTERNS.map(lambda pattern: f"--exclude={pattern}"),
)


@given(data=st.data())
def test_both_leave_the_same(data: st.DataObject, filesystems: Filesystems) -> None:
    """Random trees and rules: the same goes, -n says which, and it changes nothing."""
    need_rsync()
    tree = data.draw(trees(KINDS).filter(lambda tree: bool(tree.nodes)), "source")
    older = data.draw(edited(tree, KINDS), "destination")
    rules = data.draw(st.lists(RULES, max_size=4), "rules")
    when = data.draw(st.sampled_from(WHENS), "when")
    args = ["-a", when, "-i", "--allow-empty-source", *rules]
    with filesystems.mount("ext4").directory() as place:
        make(tree, place / "src")
        for program in ("rsync", "arsync"):
            make(older, place / program)
        before = read(place / "arsync")
        theirs = [word for word in args if word != "--allow-empty-source"]
        expected = run_rsync([*theirs, "src/", "rsync/"], cwd=place)
        note(f"rsync: {expected}")
        assume(expected.code == 0)
        dry = run_arsync(["-n", *args, "src/", "arsync/"], cwd=place)
        assert differences(read(place / "arsync"), before, Aspects()) == []
        found = run_arsync([*args, "src/", "arsync/"], cwd=place)
        note(f"arsync: {found}")
        assert found.code == 0
        assert_same(without_now(read(place / "rsync"), 0), without_now(read(place / "arsync"), 0))
        assert deletions(found) == deletions(expected)
        assert dry.lines == found.lines


def deletions(outcome: Outcome) -> list[bytes]:
    """Return the lines of what was deleted."""
    return [line for line in outcome.lines if line.startswith(b"*deleting")]


def names_in(place: Path) -> Iterable[str]:
    """Return the paths below a directory."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def test_merge_files_of_extra_directories_count(tmp_path: Path) -> None:
    """A directory that only DST has is judged by its own merge file, too."""
    need_rsync()
    make(Tree({"f": File()}), tmp_path / "src")
    older = {"x": {".rsync-filter": File(b"P p*\n"), "p1": File(), "q": File()}, "p2": File()}
    for name in ("rsync", "arsync"):
        make(Tree(older), tmp_path / name)
    both(tmp_path, "-aF", "--delete")
    assert names_in(tmp_path / "arsync") == names_in(tmp_path / "rsync") == ["f", "x", "x/p1"]
