"""Which symlinks the scanner sees through, and that the destination's lead nowhere else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from arsync.uring._native import lib
from tests.kit.children import forbid_call, in_child
from tests.kit.scanning import Scanner, paths_of, problems_of
from tests.kit.tree import Dir, File, Symlink, Tree, make

SYS_OPENAT2 = 437
RECURSE = lib.AR_SCAN_RECURSE
FOLLOWED, BAD = lib.AR_ROW_FOLLOWED, lib.AR_ROW_BAD
NEW, REPLACE = lib.AR_PAIR_NEW, lib.AR_PAIR_REPLACE
DT_DIR, DT_REG, DT_LNK = 4, 8, 10

# In a directory three levels down; what rsync 3.5.0 --safe-links says of each.
TARGETS = {
    "../..": False,
    "../../..": False,
    "../../../..": False,
    "../../../../x": False,
    "../../../x": True,
    "x/../y": False,
    "x/..": False,
    "../x/../y": False,
    ".": True,
    "./": True,
    "..": True,
    "./..": False,
    "../.": True,
    "/x": False,
    "..//../z": True,
    "../.././y": True,
    "x/./y": True,
    "..//..//x/../q": False,
    "...": True,
    "..x/y": True,
}


def numbered(targets: list[str]) -> dict[str, Symlink]:
    """Return links with these targets, called 00, 01 and so on."""
    return {f"{number:02}": Symlink(target=target) for number, target in enumerate(targets)}


def test_links_out_of_the_tree_are_told_as_rsync_tells_them(tmp_path: Path) -> None:
    """--safe-links drops them with a problem that is none of the exit code's."""
    tree = {"a": {"b": {"c": numbered(list(TARGETS))}}}
    make(Tree(tree), tmp_path / "src")
    with Scanner(tmp_path / "src", flags=RECURSE | lib.AR_SCAN_SAFE) as scanner:
        batches = scanner.walk()
    page = batches[-1].pair.src
    safe = {row.link.decode(): not row.flags & BAD for row in page.rows}
    assert safe == TARGETS
    problems = problems_of(batches)
    assert {problem.kind for problem in problems} == {lib.AR_PROBLEM_UNSAFE}
    assert [problem.name for problem in problems] == [row.name for row in page.rows if row.flags]


def test_unsafe_links_are_copied_when_asked_for(tmp_path: Path) -> None:
    """--copy-unsafe-links sees through those that lead out, and keeps the others."""
    (tmp_path / "outside").write_bytes(b"12345")
    tree = {"in": File(), "safe": Symlink("in"), "unsafe": Symlink(target="../outside")}
    make(
        Tree(tree | {"safe": Symlink(target="in"), "gone": Symlink(target="/no/such")}),
        tmp_path / "src",
    )
    flags = RECURSE | lib.AR_SCAN_COPY_UNSAFE | lib.AR_SCAN_SAFE
    with Scanner(tmp_path / "src", flags=flags) as scanner:
        (batch,) = scanner.root()
    page = batch.pair.src
    unsafe, safe, gone = (page.row(name) for name in (b"unsafe", b"safe", b"gone"))
    assert (unsafe.type, unsafe.size, unsafe.flags, unsafe.link) == (DT_REG, 5, FOLLOWED, b"")
    assert (safe.type, safe.flags, safe.link) == (DT_LNK, 0, b"in")
    assert (gone.type, gone.flags, gone.link) == (DT_LNK, BAD, b"/no/such")
    (problem,) = batch.problems
    assert (problem.name, problem.kind, problem.err) == (
        b"gone",
        lib.AR_PROBLEM_FAILED,
        errno.ENOENT,
    )


def test_all_links_are_seen_through(tmp_path: Path) -> None:
    """-L: files and directories behind links, through a path that marks what is followed."""
    make(
        Tree({"d": {"x": File(), "sub": {"y": File()}}, "f": File(content=b"123")}),
        tmp_path / "out",
    )
    tree = {
        "dir": Symlink(target="../out/d"),
        "file": Symlink(target="../out/f"),
        "chain": Symlink(target="file"),
        "gone": Symlink(target="no/such"),
        "self": Symlink(target="self"),
    }
    make(Tree(tree), tmp_path / "src")
    os.mkdir(tmp_path / "dst")
    flags = RECURSE | lib.AR_SCAN_COPY_LINKS
    with Scanner(tmp_path / "src", tmp_path / "dst", flags) as scanner:
        batches = scanner.walk()
    page = batches[0].pair.src
    assert {row.name: (row.type, row.flags) for row in page.rows} == {
        b"chain": (DT_REG, FOLLOWED),
        b"dir": (DT_DIR, FOLLOWED),
        b"file": (DT_REG, FOLLOWED),
        b"gone": (DT_LNK, BAD),
        b"self": (DT_LNK, BAD),
    }
    assert page.row(b"chain").size == 3
    assert {(problem.name, problem.err) for problem in problems_of(batches)} == {
        (b"gone", errno.ENOENT),
        (b"self", errno.ELOOP),
    }
    below = batches[1].pair
    assert below.src.path == b"dir\0"
    assert below.flags == NEW
    assert below.dst
    assert (below.dst.path, below.dst.rows) == (b"dir", [])
    assert paths_of(batches)[:5] == [b"chain", b"dir", b"dir/sub", b"dir/sub/y", b"dir/x"]


def test_the_destination_of_a_followed_directory_is_found(tmp_path: Path) -> None:
    """-k: links to directories only; the destination's side has no mark in its path."""
    make(Tree({"real": {"x": File()}, "dir": Symlink(target="real")}), tmp_path / "src")
    make(Tree({"file": File(), "link": Symlink(target="file")}), tmp_path / "src")
    make(Tree({"dir": {"x": File(), "z": File()}}), tmp_path / "dst")
    flags = RECURSE | lib.AR_SCAN_COPY_DIRLINKS | lib.AR_SCAN_SAFE
    with Scanner(tmp_path / "src", tmp_path / "dst", flags) as scanner:
        batches = scanner.walk()
    page = batches[0].pair.src
    assert (page.row(b"link").type, page.row(b"dir").type) == (DT_LNK, DT_DIR)
    (pair,) = (pair for pair in batches[1].pairs if pair.src.path == b"dir\0")
    assert pair.dst
    assert (pair.dst.path, pair.dst.names, pair.flags) == (b"dir", [b"x"], 0)
    assert pair.dst.own.ino == os.stat(tmp_path / "dst/dir").st_ino
    assert pair.src.own.ino == os.stat(tmp_path / "src/real").st_ino


def test_a_link_to_a_directory_above_is_a_loop(tmp_path: Path) -> None:
    """-L: a directory that contains itself is made, not entered."""
    tree = {"a": {"up": Symlink(target=".."), "b": {"in": Symlink(target="../../c")}}}
    make(Tree(tree | {"c": {"back": Symlink(target="../a"), "x": File()}}), tmp_path / "src")
    with Scanner(tmp_path / "src", flags=RECURSE | lib.AR_SCAN_COPY_LINKS) as scanner:
        batches = scanner.walk()
    loops = {problem.path.replace(b"\0", b"") for problem in problems_of(batches)}
    assert loops == {b"a/up", b"a/b/in/back", b"c/back/up", b"c/back/b/in"}
    assert {problem.kind for problem in problems_of(batches)} == {lib.AR_PROBLEM_LOOP}
    shallow = [
        pair for batch in batches for pair in batch.pairs if pair.flags & lib.AR_PAIR_SHALLOW
    ]
    assert len(shallow) == 4
    assert not any(pair.src.rows for pair in shallow)
    assert all(pair.src.own.type == DT_DIR for pair in shallow)


def test_attributes_of_followed_entries_are_their_targets(tmp_path: Path) -> None:
    """-L -X: digests are of what is copied."""
    make(Tree({"f": File(xattrs={"user.a": b"1"}), "l": Symlink(target="f")}), tmp_path / "src")
    flags = RECURSE | lib.AR_SCAN_COPY_LINKS | lib.AR_SCAN_XATTR
    with Scanner(tmp_path / "src", flags=flags) as scanner:
        (batch,) = scanner.root()
    file, link = batch.pair.src.rows
    assert file.xattr_digest == link.xattr_digest != 0


# -------------------------------------------------------------- destination


@pytest.mark.parametrize("openat2", [True, False])
def test_a_link_to_a_directory_stands_for_it_within_the_destination(
    tmp_path: Path, openat2: bool
) -> None:
    """-K: relative or absolute; where it leads to one outside, that is a problem."""
    make(Tree({name: {"x": File(), "new": {"y": File()}} for name in "abcdef"}), tmp_path / "src")
    make(Tree({"d": {"x": File()}}), tmp_path / "outside")
    tree = {
        "a": Symlink(target="real"),
        "b": Symlink(target=os.fspath(tmp_path / "dst/real")),
        "c": Symlink(target="../outside/d"),
        "d": Symlink(target="file"),
        "e": Symlink(target="f/../../outside/d"),
        "f": Dir(entries={"x": File()}),
        "real": Dir(entries={"x": File(content=b"1234567")}),
        "file": File(),
    }
    make(Tree(tree), tmp_path / "dst")

    def scan() -> list[tuple[str, int, str, int]]:
        if not openat2:
            forbid_call(SYS_OPENAT2, errno.ENOSYS)
        flags = RECURSE | lib.AR_SCAN_KEEP_DIRLINKS
        with Scanner(tmp_path / "src", tmp_path / "dst", flags) as scanner:
            batches = scanner.walk()
        problems = problems_of(batches)
        assert [(one.name, one.side, one.err) for one in problems] == [
            (b"c", 1, errno.EXDEV),
            (b"e", 1, errno.EXDEV),
        ]
        page = batches[0].pair.dst
        assert page
        assert {row.name: (row.type, row.flags) for row in page.rows} == {
            b"a": (DT_DIR, FOLLOWED),
            b"b": (DT_DIR, FOLLOWED),
            b"c": (0, BAD),
            b"d": (DT_LNK, 0),
            b"e": (0, BAD),
            b"f": (DT_DIR, 0),
        }
        return [
            (
                pair.src.path.decode(),
                pair.flags,
                pair.dst.path.decode() if pair.dst else "",
                pair.dst.rows[0].size if pair.dst and pair.dst.rows else -1,
            )
            for batch in batches[1:]
            for pair in batch.pairs
        ]

    assert sorted(map(tuple, in_child(scan))) == [
        ("a", 0, "a\0", 7),
        ("a/new", NEW, "a\0/new", -1),
        ("b", 0, "b\0", 7),
        ("b/new", NEW, "b\0/new", -1),
        ("c", NEW | REPLACE, "", -1),
        ("c/new", NEW, "", -1),
        ("d", NEW | REPLACE, "", -1),
        ("d/new", NEW, "", -1),
        ("e", NEW | REPLACE, "", -1),
        ("e/new", NEW, "", -1),
        ("f", 0, "f", 0),
        ("f/new", NEW, "", -1),
    ]


def test_without_keep_dirlinks_a_link_is_a_link(tmp_path: Path) -> None:
    """The directory takes the link's place then."""
    make(Tree({"a": {}}), tmp_path / "src")
    make(Tree({"a": Symlink(target="real"), "real": {}}), tmp_path / "dst")
    with Scanner(tmp_path / "src", tmp_path / "dst") as scanner:
        (root,) = scanner.root()
        (batch,) = scanner.below(root)
    assert root.pair.dst
    assert (root.pair.dst.row(b"a").type, root.pair.dst.row(b"a").link) == (DT_LNK, b"real")
    assert batch.pair.flags == NEW | REPLACE


def test_named_entries_are_found_behind_kept_links(tmp_path: Path) -> None:
    """-K -R: links to directories above the named entries are seen through as well."""
    make(Tree({"a": {"b": {"x": File()}}}), tmp_path / "src")
    tree = {
        "a": Symlink(target="m"),
        "m": {"b": Symlink(target="n"), "n": {"x": File(content=b"1")}},
    }
    make(Tree(tree), tmp_path / "dst")
    flags = RECURSE | lib.AR_SCAN_KEEP_DIRLINKS
    with Scanner(tmp_path / "src", tmp_path / "dst", flags) as scanner:
        pair = scanner.names(b"a/b", [b"x"]).pair
        missing = scanner.names(b"a/b", [b"x"], flags=0).pair
    assert pair.dst
    assert (pair.src.path, pair.dst.path, pair.dst.names) == (b"a/b", b"a\0/b\0", [b"x"])
    assert pair.dst.rows[0].size == 1
    assert missing == pair


def test_a_kept_link_that_turns_away_is_not_followed(tmp_path: Path) -> None:
    """Somebody points a kept link out of the destination in mid-run: it is no directory then."""
    make(Tree({"a": {"x": File()}}), tmp_path / "src")
    make(Tree({"a": Symlink(target="real"), "real": {"x": File()}}), tmp_path / "dst")
    make(Tree({"x": File()}), tmp_path / "outside")
    flags = RECURSE | lib.AR_SCAN_KEEP_DIRLINKS
    with Scanner(tmp_path / "src", tmp_path / "dst", flags) as scanner:
        (root,) = scanner.root()
        os.unlink(tmp_path / "dst/a")
        os.symlink("../outside", tmp_path / "dst/a")
        (batch,) = scanner.below(root)
    (problem,) = batch.problems
    assert (problem.path, problem.side, problem.err) == (b"a", 1, errno.EXDEV)
    assert batch.pair.flags == 0
    assert batch.pair.dst
    assert (batch.pair.dst.flags & lib.AR_PAGE_PARTIAL, batch.pair.dst.rows) == (
        lib.AR_PAGE_PARTIAL,
        [],
    )
    assert batch.pair.dst.own.flags == BAD
