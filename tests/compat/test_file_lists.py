"""--files-from beside rsync: what a line means, with and without -r, -R, -d and -0."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat.arena import Arena
from tests.compat.test_filters import assert_both_copy_the_same
from tests.kit import Dir, File, Symlink, Tree, make
from tests.kit.filesystems import Filesystems
from tests.kit.programs import run_arsync, run_rsync
from tests.requirements import need_rsync

SRC = {
    "f": File(b"f"),
    "d": Dir({"a": File(b"a"), "e": Dir({"b": File(b"b"), "g": {"c": File(b"c")}})}, mode=0o750),
    "empty": {},
    "ld": Symlink("d"),
    "lf": Symlink("f"),
    "broken": Symlink("nothing"),
    "d2": {"a": File(b"2")},
    " x": File(b"x"),
}

LISTS = [
    "f",
    "f/",
    "d",
    "d/",
    "d/\nd/e/g/c",
    "/d/e/../a\n#c\n;x\n\n x",
    "ld",
    "ld/",
    "ld/a\nld",
    "lf/",
    "broken\nbroken/",
    ".",
    "./d/a",
    "./f",
    "d/./e/b",
    "d/./",
    "d/./.\nd2/./a",
    "d/a\nd/a\nd\nd/e",
    "../../f",
    "d/e/.",
    "d/e/..",
    "d//e///b",
    "empty/\nd2",
    "d/e/b\nd2/a\nd/a\nd2\nd/e/g/c",
]


@pytest.mark.parametrize("options", ["-a", "-ar", "-rtlk"])
@pytest.mark.parametrize("text", LISTS)
def test_what_a_line_means(text: str, options: str, arena: Arena) -> None:
    """The same entries with the same attributes and the same lines of -i."""
    world = Tree({"src": SRC, "dst": {}, "list": File(text.encode() + b"\n")})
    arena.lines(world, options, "-i", "--files-from=list", "src", "dst")


@pytest.mark.parametrize("text", ["lf", "ld", "ld/", "ld/a\nld/e", "d/"])
def test_links_that_are_followed(text: str, arena: Arena) -> None:
    """With -L a line may name what a symlink leads to."""
    world = Tree({"src": SRC, "dst": {}, "list": File(text.encode())})
    arena.lines(world, "-aLi", "--files-from=list", "src", "dst")


@pytest.mark.parametrize("text", ["f", "d", "d/", "d/a\nd2/a\nf", ".", "ld/", "lf"])
@pytest.mark.parametrize("options", [("-a", "--no-R"), ("-ar", "--no-R")], ids="".join)
def test_without_the_paths(text: str, options: tuple[str, ...], arena: Arena) -> None:
    """With --no-R each line is as an operand."""
    world = Tree({"src": SRC, "dst": {}, "list": File(text.encode())})
    arena.run(world, *options, "--files-from=list", "src", "dst")


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("nope\nf\nd/nope\nnope/x", ["-a"], 23),
        ("f/x\nd", ["-a"], 23),
        ("d\nd/\nf", ["-a", "--no-d"], 0),
        ("d\nf", ["-a", "--no-d", "--no-R"], 0),
        ("f\0d/a\0\0#x\0empty\0", ["-a0"], 0),
        ("d/a\nd/e/b\nf", ["-a", "--exclude=/d"], 0),
        ("d/a\nd/e/b\nf", ["-a", "--exclude=a", "--exclude=/f"], 0),
        ("d/\nd2/", ["-a", "--exclude=a"], 0),
        ("d/e/b\nd", ["-ar", "--exclude=b"], 0),
        ("", ["-a"], 0),
        ("# nothing\n", ["-a"], 0),
    ],
)
def test_codes_and_other_options(text: str, options: list[str], code: int, arena: Arena) -> None:
    """Missing names, -0, --no-d, filter rules, an empty list."""
    world = Tree({"src": SRC, "dst": {}, "list": File(text.encode())})
    arena.run(world, *options, "--files-from=list", "src", "dst", code=code)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--files-from=list", "src/f", "dst"], 3),
        (["--files-from=list", "nope", "dst"], 3),
        (["--files-from=nope", "src", "dst"], 1),
        (["--files-from=list", "src", "src", "dst"], 1),
        (["--files-from=list", "src", "new"], 0),
        (["--files-from=list", "src", "src2/"], 0),
        (["--files-from=long", "src", "new"], 0),
    ],
)
def test_operands_of_a_list(args: list[str], code: int, arena: Arena) -> None:
    """One SRC, a directory; a single file may get another name."""
    files = {"list": File(b"f\n"), "long": File(b"f\nd/a\n")}
    arena.run(Tree({"src": SRC, "dst": {}, **files}), "-a", *args, code=code)


def test_nulls_in_files_of_rules(arena: Arena) -> None:
    """With -0 they separate the patterns of every file of rules."""
    rules = {"x": File(b"a\0b"), ".r": File(b"- c\0- f")}
    world = Tree({"src": {**SRC, ".r": File(b"- c\0- f")}, "dst": {}, **rules})
    arena.run(world, "-a0", "--exclude-from=x", "--filter=: .r", "src/", "dst")


PATHS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "/", "./", "../"]),
    st.sampled_from(
        ["f", "d", "d/a", "d/e", "d/e/b", "d/e/g", "d/e/g/c", "empty", "ld", "ld/a", "lf", "d2/a"]
    ),
    st.sampled_from(["", "", "/", "/.", "/./a"]),
)


@given(
    lines=st.lists(PATHS, max_size=6),
    options=st.sampled_from(
        [["-a"], ["-ar"], ["-a", "--exclude=e"], ["-ar", "--exclude=b"], ["-dl"], ["-a", "--no-R"]]
    ),
)
def test_both_copy_the_same_of_a_list(
    lines: list[str], options: list[str], filesystems: Filesystems
) -> None:
    """Random lists."""
    need_rsync()
    with filesystems.mount("ext4").directory() as place:
        make(Tree({"src": SRC, "list": File("\n".join(lines).encode())}), place)
        assert_both_copy_the_same(place, [*options, "--files-from=list"], ["src"])


def test_a_list_on_standard_input(tmp_path: Path) -> None:
    """`-` reads it there, in whichever process."""
    make(Tree({"src": SRC, "rsync": {}, "arsync": {}, "list": File(b"d/a\nf\n")}), tmp_path)
    saved = os.dup(0)
    try:
        for run, name in ((run_rsync, "rsync"), (run_arsync, "arsync")):
            fd = os.open(tmp_path / "list", os.O_RDONLY)
            os.dup2(fd, 0)
            os.close(fd)
            outcome = run(["-a", "--files-from=-", "src", name], cwd=tmp_path)
            assert outcome.code == 0
            found = sorted(
                str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*")
            )
            assert found == ["d", "d/a", "f"]
    finally:
        os.dup2(saved, 0)
        os.close(saved)
