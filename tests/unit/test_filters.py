"""Filter rules: how they are parsed, what they match, and that C decides as Python does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.errors import FileError, UsageError
from arsync.filters import (
    Directory,
    Filters,
    Settings,
    absolute_root,
    check,
    check_xattr,
    enter,
    inherit,
    parse_filters,
)
from arsync.patterns import Rule, Side
from arsync.uring.selection import Matcher, read_rules
from tests.requirements import need_rsync

ROOT = b"/srv/tree"

REFUSED = {
    "x foo": "unknown filter rule",
    "excludefoo": "unknown filter rule",
    "-": "unexpected end of filter rule",
    "- ": "unexpected end of filter rule",
    "dir-merge": "unexpected end of filter rule",
    "-q foo": "invalid modifier 'q' at position 1",
    "hide,r x": "invalid modifier 'r' at position 5",
    "S,C x": "invalid modifier 'C' at position 2",
    "-e x": "invalid modifier 'e' at position 1",
    "-n x": "invalid modifier 'n' at position 1",
    "-w x": "invalid modifier 'w' at position 1",
    ":!x y": "invalid modifier '!' at position 1",
    ".-+ w": "invalid modifier '+' at position 2",
    ".C- w": "invalid modifier '-' at position 2",
    "!x": "'!' rule has trailing characters",
    "clear x": "'!' rule has trailing characters",
}


def rules_of(*options: tuple[str, str], files: dict[str, bytes] | None = None) -> Filters:
    """Parse options whose files are given as a dict."""

    def read(path: bytes) -> bytes:
        try:
            return (files or {})[path.decode()]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    return parse_filters([(name, text.encode()) for name, text in options], read)


def verdict(
    filters: Filters, path: str, *, is_dir: bool = False, side: Side = Side.SENDER
) -> object:
    """Ask both matchers, which must agree."""
    entries = filters.entries
    found = check(entries, ROOT, path.encode(), is_dir=is_dir, side=side)
    compiled = Matcher(entries, ROOT)
    assert compiled.check(path.encode(), is_dir=is_dir, side=side) is found
    lasting = check(entries, ROOT, path.encode(), is_dir=is_dir, side=side, perishable=False)
    again = compiled.check(path.encode(), is_dir=is_dir, side=side, perishable=False)
    assert again is lasting
    return found


@pytest.mark.parametrize("rule", REFUSED)
def test_what_rsync_refuses_is_refused(rule: str) -> None:
    """A rule that cannot be parsed is a usage error that quotes it; rsync exits with 1 too."""
    need_rsync()
    theirs = subprocess.run(
        ["rsync", f"--filter={rule}", ".", "."], capture_output=True, check=False
    )
    assert theirs.returncode == UsageError.exit_code
    with pytest.raises(UsageError) as error:
        rules_of(("filter", rule))
    assert str(error.value).startswith(f"--filter: {REFUSED[rule]}")
    assert str(error.value).endswith(f"'{rule}'")


def test_rules_for_xattrs_are_for_nothing_else() -> None:
    """Modifier x: the rule is for names of attributes, on its side; other rules are not."""
    filters = rules_of(
        ("exclude", "user.all"), ("filter", "-xr user.*"), ("filter", "+x user.keep*")
    )
    assert verdict(filters, "user.b") is None
    assert verdict(filters, "user.all") is False
    rules = filters.xattr_rules
    asked = [(b"user.keep1", Side.SENDER), (b"user.all", Side.SENDER), (b"user.b", Side.RECEIVER)]
    assert [check_xattr(rules, name, side) for name, side in asked] == [True, None, False]


def test_rules_for_xattrs_in_a_directory_are_refused() -> None:
    """A directory's own rules for attributes are named as missing; on the command line not."""
    merge = rules_of(("filter", ": .r")).entries
    with pytest.raises(UsageError, match="modifier x is not in arsync yet"):
        enter(merge, Directory(ROOT, ROOT), lambda _path: b"-x user.a")
    with pytest.raises(UsageError, match="invalid modifier 'x'"):
        rules_of(("filter", ".x file"))


def test_files_of_rules_may_be_separated_by_nulls() -> None:
    """With -0 a line end is part of a pattern; words of -C stay words, comments comments."""
    files = {"f": b"a\nb\0# no\0+ c", "/srv/tree/.r": b"- d\0- e", "/srv/tree/.w": b"x\ny\0z"}

    def read(path: bytes) -> bytes:
        return files[path.decode()]

    given = [("exclude-from", b"f"), ("filter", b": .r"), ("filter", b":w- .w")]
    filters = parse_filters(given, read, settings=Settings(null_separated=True))
    inside = enter(filters.entries, Directory(ROOT, ROOT), read)
    hidden = [
        name
        for name in ["a\nb", "a", "b", "c", "d", "e", "x", "y", "z"]
        if verdict(Filters(inside), name) is False
    ]
    assert hidden == ["a\nb", "d", "e", "x", "y", "z"]


def test_delete_excluded_makes_rules_hide_only() -> None:
    """A rule that does not say its side protects nothing then, in a directory's file neither."""
    settings = Settings(delete_excluded=True)
    given = [("exclude", b"a"), ("filter", b"P b"), ("filter", b"-r c"), ("filter", b": .r")]
    filters = parse_filters(given, lambda _path: b"", settings=settings)
    inside = Filters(enter(filters.entries, Directory(ROOT, ROOT), lambda _path: b"- d"))
    protected = [name for name in "abcd" if verdict(inside, name, side=Side.RECEIVER) is False]
    assert protected == ["b", "c"]
    assert [name for name in "abcd" if verdict(inside, name) is False] == ["a", "d"]


def test_a_merged_file_may_not_say_the_side_again() -> None:
    """A merge rule with a side takes none from its rules; the message names the file."""
    with pytest.raises(UsageError, match=r"in 'f': the merge rule"):
        rules_of(("filter", ".s f"), files={"f": b"H x\n"})


@pytest.mark.parametrize("option", [("exclude-from", "none"), ("filter", "merge none")])
def test_a_missing_file_of_rules(option: tuple[str, str]) -> None:
    """A file that cannot be read ends the run with 11, as rsync's does."""
    with pytest.raises(FileError, match="'none': No such file"):
        rules_of(option)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("- *.o", Rule(b"*.o")),
        ("-_*.o", Rule(b"*.o")),
        ("exclude dir/", Rule(b"dir", only_dirs=True)),
        ("include,/p  x", Rule(b" x", include=True, absolute=True, perishable=True)),
        ("+! /a", Rule(b"/a", include=True, negate=True)),
        ("hide x", Rule(b"x", sides=Side.SENDER)),
        ("H,! x", Rule(b"x", sides=Side.SENDER, negate=True)),
        ("show x", Rule(b"x", include=True, sides=Side.SENDER)),
        ("protect x", Rule(b"x", sides=Side.RECEIVER)),
        ("R x", Rule(b"x", include=True, sides=Side.RECEIVER)),
        ("-s x", Rule(b"x", sides=Side.SENDER)),
        ("-sr x", Rule(b"x", sides=Side.BOTH)),
    ],
)
def test_forms_of_a_rule(rule: str, expected: Rule) -> None:
    """Long and short names, both separators, modifiers."""
    assert rules_of(("filter", rule)).entries == (expected,)


def test_old_options_know_two_prefixes_only() -> None:
    """--exclude and --include take patterns, which may begin with '- ' or '+ '; '!' clears."""
    filters = rules_of(
        ("include", "gone"),
        ("exclude", "!"),
        ("exclude", "+ a"),
        ("include", "- b"),
        ("exclude", "P c"),
    )
    assert filters.entries == (Rule(b"a", include=True), Rule(b"b"), Rule(b"P c"))


def test_the_first_rule_decides_across_options() -> None:
    """Options and files of patterns count in the order in which they stand."""
    filters = rules_of(
        ("include", "a.o"),
        ("exclude-from", "f"),
        ("include", "*"),
        files={"f": b"# comment\n; another\n\n*.o\r\n+ kept.c\n*.c\n"},
    )
    shown = [verdict(filters, name) for name in ("a.o", "b.o", "kept.c", "x.c", "z")]
    assert shown == [True, False, True, False, True]


def test_protect_and_risk_are_the_receiver_s() -> None:
    """They hide nothing, and say what a deletion leaves alone; exclude and include do both."""
    filters = rules_of(("filter", "R keep.tmp"), ("filter", "P *.tmp"), ("exclude", "*.o"))
    assert verdict(filters, "a.tmp") is None
    assert verdict(filters, "a.tmp", side=Side.RECEIVER) is False
    assert verdict(filters, "keep.tmp", side=Side.RECEIVER) is True
    assert verdict(filters, "a.o") is verdict(filters, "a.o", side=Side.RECEIVER) is False
    hidden = rules_of(("filter", "H a"))
    assert (verdict(hidden, "a"), verdict(hidden, "a", side=Side.RECEIVER)) == (False, None)


def test_perishable_rules_end_with_their_directory() -> None:
    """In a directory that is being deleted they do not count."""
    (rule,) = rules_of(("filter", "-p core")).entries
    assert check([rule], ROOT, b"core", is_dir=False) is False
    assert check([rule], ROOT, b"core", is_dir=False, perishable=False) is None


@pytest.mark.parametrize(
    ("rule", "hidden", "shown"),
    [
        ("- foo", ["foo", "a/foo"], ["food", "a/xfoo"]),
        ("- /foo", ["foo"], ["a/foo"]),
        ("- a/b", ["a/b", "x/a/b"], ["xa/b", "a/b/c"]),
        ("- a/*/b", ["a/x/b", "y/a/x/b"], ["a/b", "a/x/y/b"]),
        ("- /a/**/b", ["a/x/b", "a/x/y/b"], ["a/b", "b"]),
        ("- a/**", ["a/x", "q/a/x/y"], ["a", "ba/x"]),
        ("- d/***", ["d", "d/x", "q/d/x"], ["dd"]),
        ("- **/z", ["z", "a/z"], ["az"]),
        ("- a\\b", ["a\\b"], ["ab"]),
        ("- a\\b*", ["ab", "abc"], ["a\\b"]),
        ("- [!a-c]x", ["dx"], ["ax", "bx"]),
        ("- [[:digit:]]*", ["1", "1a"], ["a1"]),
        ("- [a", [], ["[a", "a"]),
        ("-/ srv/tree/x", ["x"], ["a/x"]),
        ("-! *", [], ["a"]),
        ("-! */", [], ["d"]),
    ],
)
def test_what_a_pattern_matches(rule: str, hidden: list[str], shown: list[str]) -> None:
    """Examples of rsync(1), and the rules of backslashes and classes; all are directories."""
    filters = rules_of(("filter", rule))
    assert [name for name in hidden if verdict(filters, name, is_dir=True) is not False] == []
    assert [name for name in shown if verdict(filters, name, is_dir=True) is False] == []


def test_cvs_rules_and_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults, ~/.cvsignore, CVSIGNORE; all perishable but the user's."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("CVSIGNORE", "one two")
    filters = rules_of(("filter", "-C"), files={"/home/me/.cvsignore": b"three\nfour"})
    for name in ("a.o", "core", "one", "two", "three", "four", "x~"):
        assert verdict(filters, name) is False
    assert verdict(filters, ".git", is_dir=True) is False
    assert verdict(filters, ".git") is None
    assert Rule(b"*.o", perishable=True) in filters.entries
    assert Rule(b"one") in filters.entries


def test_rules_of_directories() -> None:
    """Children inherit, their own come first; n keeps rules in one directory, ! clears."""
    files = {
        "/srv/tree/.r": b"- x\n- /y\n",
        "/srv/tree/a/.r": b"+ x\n",
        "/srv/tree/b/.r": b"!\n- z\n",
        "/srv/tree/.n": b"- once\n",
    }
    filters = rules_of(("filter", ": .r"), ("filter", ":n .n"))

    def read(path: bytes) -> bytes:
        if path.decode() not in files:
            raise FileNotFoundError
        return files[path.decode()]

    top = enter(filters.entries, Directory(ROOT, ROOT), read)
    a = enter(top, Directory(ROOT, ROOT + b"/a"), read)
    b = enter(top, Directory(ROOT, ROOT + b"/b"), read)
    plain = inherit(top)
    ask = [(top, "x"), (top, "y"), (a, "a/x"), (a, "a/y"), (b, "b/x"), (b, "b/z")]
    ask += [(top, "once"), (plain, "c/once"), (plain, "c/x")]
    found = [verdict(Filters(entries), path) for entries, path in ask]
    assert found == [False, False, True, None, None, False, False, None, False]


def test_names_of_roots_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root is taken as the user wrote it, made absolute; a file of rules is read as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").write_bytes(b"- \xff\n")
    assert absolute_root(b"x/../y/") == bytes(tmp_path) + b"/y"
    assert absolute_root(b"//") == b"/"
    assert read_rules(b"rules") == b"- \xff\n"


SIGNS = st.sampled_from(["a", "b", "c", "/", "*", "**", "?", "[ab]", "[!a]", "[[:alpha:]]", "\\"])
CLASSES = st.sampled_from(
    ["[", "]", "[a-", "[\\", "[]a]", "[^-a]", "[[:", "[[::]]", "[[:no:]]", "-"]
)
PATTERNS = st.lists(
    SIGNS | CLASSES | st.sampled_from(["/***", "é", "a-c", "/"]), min_size=1, max_size=7
)
PATHS = st.lists(st.text("abc[]-\\é", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join)
PREFIXES = st.sampled_from(["- ", "+ ", "-! ", "-/ ", "H ", "S ", "P ", "R,/! ", "+!/r "])


@given(
    rules=st.lists(st.tuples(PREFIXES, PATTERNS.map("".join)), min_size=1, max_size=4),
    paths=st.lists(PATHS, min_size=1, max_size=5),
    is_dir=st.booleans(),
    base=st.sampled_from([None, ROOT, ROOT + b"/a", b"/srv"]),
)
def test_c_decides_as_python(
    rules: list[tuple[str, str]], paths: list[str], is_dir: bool, base: bytes | None
) -> None:
    """Random rules and paths; rules of merge files too, on either side."""
    files = {"f": "\n".join(prefix + pattern for prefix, pattern in rules).encode()}
    filters = rules_of(("filter", ". f"), files=files)
    if base is not None:
        merged = {f"{base.decode()}/.r": files["f"]}
        where = Directory(ROOT, base)
        filters = Filters(
            enter(rules_of(("filter", ": .r")).entries, where, lambda path: merged[path.decode()])
        )
    for path in paths:
        inside = f"a/{path}" if base == ROOT + b"/a" else path
        for side in (Side.SENDER, Side.RECEIVER):
            verdict(filters, inside, is_dir=is_dir, side=side)
