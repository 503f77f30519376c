"""rsync is the oracle of filter rules: the same names must arrive."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.kit.filesystems import Filesystems
from tests.kit.programs import run_arsync, run_rsync
from tests.requirements import need_rsync

NAMES = st.sampled_from(["a", "b", "ab", "a.o", "b.c", "core", "x[y", "B~", "a\\b", "Z9", "a b"])
WORDS = st.sampled_from(
    (
        *("a", "b", "*", "**", "?", "*.o", "a*", "[ab]", "[!a]", "[[:alpha:]]", "***", "b.c"),
        *("core", "[[:alpha:][:digit:]]*", "\\a*", "a\\b", "x[y", "*b*", "x\\[*", "*.[oc]"),
        *("[^b]*", "Z[0-9]", "*\\b", "a b"),
    )
)
PATTERNS = st.builds(
    lambda start, words, end: start + "/".join(words) + end,
    st.sampled_from(["", "", "/", "**/"]),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/", "/***", "/**"]),
)
PREFIXES = st.sampled_from(
    (
        *("- ", "+ ", "-_", "+_", "-! ", "-,s ", "+r ", "H ", "S ", "hide,! ", "show ", "exclude "),
        *("P ", "include ", "exclude_", "-/ ", "+/ ", "-p ", "risk ", "protect_", "-sr "),
    )
)
RULES = st.builds("{}{}".format, PREFIXES, PATTERNS)
MERGES = st.sampled_from(
    (
        *("dir-merge .rules", ": .rules", ":n .rules", ":e .rules", ":- .rules", ":+ .rules", ":C"),
        *(":sC", ":nw- .rules", ":/ .rules", ":p .rules", ": /.rules", "dir-merge,n- .rules"),
    )
)
LINES = st.one_of(RULES, st.sampled_from(["!", "# note", "; note", "", "clear", ": .more"]))
OPTIONS = st.one_of(
    RULES.map(lambda rule: [f"--filter={rule}"]),
    MERGES.map(lambda rule: [f"--filter={rule}"]),
    PATTERNS.map(lambda pattern: [f"--exclude={pattern}"]),
    PATTERNS.map(lambda pattern: [f"--include={pattern}"]),
    st.sampled_from(
        [["-F"], ["-FF"], ["-C"], ["-m"], ["--filter=!"], ["--filter=-C"], ["--exclude=- a"]]
    ),
)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, str]:
    """Draw files by path: some are merge files with rules in them."""
    files = {}
    for parts in draw(st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=3, max_size=20)):
        files["/".join(parts)] = ""
    folders = sorted({path.rpartition("/")[0] for path in files} | {""})
    for folder in draw(st.lists(st.sampled_from(folders), max_size=4)):
        name = draw(st.sampled_from([".rules", ".rsync-filter", ".cvsignore", ".more"]))
        lines = draw(st.lists(LINES if name != ".cvsignore" else PATTERNS, max_size=3))
        files[f"{folder}/{name}".lstrip("/")] = "\n".join(lines) + "\n"
    return files


def make_world(files: dict[str, str], place: Path) -> None:
    """Make the files; where one is in the way of a directory, the directory wins."""
    for path, content in sorted(files.items(), key=lambda item: -item[0].count("/")):
        target = place / path
        if target.exists() or any(parent.is_file() for parent in target.parents):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


def names_in(place: Path) -> list[str]:
    """Return the paths of everything in a directory."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def assert_both_copy_the_same(place: Path, args: list[str], sources: list[str]) -> list[str]:
    """Run both programs into empty destinations and return what they leave."""
    for program in ("rsync", "arsync"):
        (place / program).mkdir()
    expected = run_rsync([*args, *sources, "rsync/"], cwd=place)
    found = run_arsync([*args, *sources, "arsync/"], cwd=place)
    assert found.code == expected.code, f"rsync says: {expected}\narsync says: {found}"
    if expected.code not in (0, 23):
        return []
    assert names_in(place / "arsync") == names_in(place / "rsync")
    return names_in(place / "rsync")


@given(files=worlds(), options=st.lists(OPTIONS, min_size=1, max_size=6), data=st.data())
def test_both_select_the_same(
    files: dict[str, str], options: list[list[str]], data: st.DataObject, filesystems: Filesystems
) -> None:
    """Random trees, rules and merge files; the content of a directory, itself, or -R."""
    need_rsync()
    sources = data.draw(
        st.sampled_from([["src/"], ["src"], ["-R", "src"], ["-R", "src/./a", "src/./b"]])
    )
    with filesystems.mount("ext4").directory() as place:
        make_world(files, place / "src")
        note(f"tree: {names_in(place / 'src')}")
        assert_both_copy_the_same(place, ["-a", *chain(*options)], sources)


EXAMPLES = [
    (["--exclude=b"], ["src/a", "src/b"]),
    (["--exclude=b"], ["src/a/b"]),
    (["--exclude=a/"], ["src/a", "src/b"]),
    (["-R", "--exclude=a"], ["src/a/b"]),
    (["-R", "--exclude=b"], ["src/a/b"]),
    (["-R", "--exclude=/src/a/b"], ["src/a"]),
    (["--exclude=*"], ["src/"]),
    (["--exclude=/src"], ["src"]),
    (["--exclude=x/"], ["one/", "two/"]),
    (["--exclude=x"], ["one/", "two/"]),
    (["-L", "--exclude=link/"], ["src/"]),
    (["-k", "--exclude=link/"], ["src/"]),
    (["-L", "--exclude=broken"], ["src/"]),
    (["-F"], ["src/a"]),
    (["-F"], ["src/a/"]),
    (["-FF"], ["src/"]),
    (["--filter=: /.up"], ["src/a/"]),
    (["--filter=: ../.up"], ["src/a/"]),
    (["--filter=: .up"], ["src/a/"]),
    (["--filter=. rules"], ["src/"]),
    (["--filter=merge,- patterns"], ["src/"]),
    (["--exclude-from=patterns", "--include-from=rules"], ["src/"]),
    (["--exclude-from=missing"], ["src/"]),
    (["--filter=: bad"], ["src/"]),
]


@pytest.mark.parametrize(("options", "sources"), EXAMPLES, ids=lambda words: " ".join(words))
def test_operands_and_files_of_rules(
    options: list[str], sources: list[str], tmp_path: Path
) -> None:
    """Named entries, -R, links, several sources, rules of parents, files of rules."""
    need_rsync()
    files = {
        "src/a/b": "",
        "src/a/c/d.o": "",
        "src/a/c/keep": "",
        "src/b": "",
        "src/deep/bad": "-q foo\n",
        "src/.rsync-filter": "- *.o\n- /a/c/keep\n",
        "src/a/.rsync-filter": "- b\n",
        "src/.up": "- keep\n- /a/b\n",
        "one/x/in": "",
        "two/x": "",
        "one/y": "",
        "two/z": "",
        "rules": "+ /a/\n- /b\n- *.o\n",
        "patterns": "keep\n+ d.o\n",
    }
    make_world(files, tmp_path)
    (tmp_path / "src" / "link").symlink_to("a")
    (tmp_path / "src" / "broken").symlink_to("nothing")
    assert_both_copy_the_same(tmp_path, ["-a", *options], sources)


def test_a_single_file_with_another_name(tmp_path: Path) -> None:
    """The name in the source is the one that rules are for."""
    need_rsync()
    (tmp_path / "file").touch()
    for rule in ("file", "copy"):
        for run, name in ((run_rsync, "rsync"), (run_arsync, "arsync")):
            (tmp_path / name).mkdir(exist_ok=True)
            outcome = run(["-a", f"--exclude={rule}", "file", f"{name}/copy"], cwd=tmp_path)
            assert outcome.code == 0
        assert names_in(tmp_path / "arsync") == names_in(tmp_path / "rsync")


def test_a_directory_of_many_pages(tmp_path: Path) -> None:
    """Each page of a long directory is filtered, with the rules that its merge file adds."""
    need_rsync()
    files = {f"src/d/{number}.{number % 3}": "" for number in range(3000)}
    files["src/d/.rules"] = "- *.1\n- 2*\n"
    make_world(files, tmp_path)
    copied = assert_both_copy_the_same(tmp_path, ["-a", "--filter=: .rules"], ["src/"])
    assert 1000 < len(copied) < 2000
